"""Measures of codes whose true features are known: matched atoms, F1 of their activations, parents in atoms."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from experiments.synthetic_features import Features
from isthmus.evaluation.dictionaries import match

KNOWN_COSINE = 0.7
"""Smallest cosine with its feature at which an atom takes part in `FeatureScores.parent_share`."""


@dataclass(frozen=True)
class FeatureScores:
    r"""Agreement of a code with the features that are active.

    Atoms and features are matched one to one by their cosines (Hungarian algorithm). For feature i and its unit j

        F1_i = 2 TP / (2 TP + FP + FN),   TP rows in which both are active, FP j alone, FN i alone

    Attributes:
        mcc: mean cosine of the matched pairs.
        f1: mean of F1_i over the most frequent features, as many as units are judged, of those that occur; 0 for a
            feature without a unit.
        f1_all: 2 TP / (active features + active units), with sums over all features and units.
        recovered: share of these most frequent features whose matched atom has a cosine above .9.
        dead: share of the units that are active in no row.
        recall: share of the activations of features with a unit in which the unit is active, where no child is active.
        recall_with_child: the same, where a child is active.
        parent_share: mean of <f_j, d_parent(i)> over matched pairs of a cosine above .7, f_j the unit's atom of norm 1.
            It is near 0 for the true atoms; it is positive if a unit stands for its feature and the parent together.
    """

    mcc: float
    f1: float
    f1_all: float
    recovered: float
    dead: float
    recall: float
    recall_with_child: float
    parent_share: float

    def to_dict(self) -> dict[str, float]:
        """Return the fields."""
        return asdict(self)


def feature_scores(
    features: Features,
    active: Bool[np.ndarray, "rows features"],
    dictionary: Float[np.ndarray, "units columns"],
    on: Bool[np.ndarray, "rows units"],
    n_judged: int,
) -> FeatureScores:
    """Return the measures.

    Args:
        features: the true features, the most frequent first.
        active: which features are active in each row.
        dictionary: the learned atoms.
        on: which units are active in each row.
        n_judged: number of the most frequent features in the mean of F1.
    """
    pairs, cosines = match(features.directions, dictionary)
    feature, unit = pairs.T
    matched, theirs = on[:, unit], active[:, feature]
    both = np.count_nonzero(matched & theirs, axis=0)
    f1, cosine = np.zeros(len(features.rates)), np.zeros(len(features.rates))
    f1[feature] = f_measure(both, np.count_nonzero(theirs, axis=0), np.count_nonzero(matched, axis=0))
    cosine[feature] = cosines
    judged = np.flatnonzero(active[:, :n_judged].any(0))
    alone, with_child = _recalls(features, active, pairs, matched)
    return FeatureScores(
        mcc=float(cosines.mean()),
        f1=float(f1[judged].mean()),
        f1_all=float(f_measure(both.sum(), np.count_nonzero(active), np.count_nonzero(on))),
        recovered=float((cosine[:n_judged] > 0.9).mean()),
        dead=float(1 - on.any(0).mean()),
        recall=alone,
        recall_with_child=with_child,
        parent_share=_parent_share(features, dictionary, pairs[cosines > KNOWN_COSINE]),
    )


def f_measure(both: ArrayLike, first: ArrayLike, second: ArrayLike) -> Float[np.ndarray, ...]:
    """Return F1 by counts of rows: those with both, with the first, and with the second; 0 if there are none.

    Example:
        >>> f_measure(np.array([1, 0]), np.array([2, 0]), np.array([1, 0])).round(2).tolist()
        [0.67, 0.0]
    """
    return 2.0 * np.asarray(both) / np.maximum(np.asarray(first) + np.asarray(second), 1)


def with_active_child(
    features: Features, active: Bool[np.ndarray, "rows features"]
) -> Bool[np.ndarray, "rows features"]:
    """Return in which rows a child of each feature is active."""
    found = np.zeros_like(active)
    for child in np.flatnonzero(features.parents >= 0):
        found[:, features.parents[child]] |= active[:, child]
    return found


def _recalls(
    features: Features,
    active: Bool[np.ndarray, "rows features"],
    pairs: Int[np.ndarray, "matched 2"],
    matched: Bool[np.ndarray, "rows matched"],
) -> tuple[float, float]:
    """Return the recall of features with a unit, in rows without and with an active child."""
    feature = pairs[:, 0]
    below, there = with_active_child(features, active)[:, feature], active[:, feature]

    def recall(where: Bool[np.ndarray, "rows matched"]) -> float:
        return float(np.count_nonzero(matched & where)) / max(int(np.count_nonzero(where)), 1)

    return recall(there & ~below), recall(there & below)


def _parent_share(
    features: Features, dictionary: Float[np.ndarray, "units columns"], pairs: Int[np.ndarray, "matched 2"]
) -> float:
    """Return the mean cosine of a unit's atom with the parent of its feature; 0 without such pairs."""
    child, unit = pairs[features.parents[pairs[:, 0]] >= 0].T
    if not len(child):
        return 0.0
    atoms = dictionary[unit] / np.linalg.norm(dictionary[unit], axis=1, keepdims=True)
    return float((atoms * features.directions[features.parents[child]]).sum(1).mean())
