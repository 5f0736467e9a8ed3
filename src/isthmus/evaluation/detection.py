"""Detection of samples: the AUC of a classifier that separates samples from rows."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold

from isthmus.evaluation.encoded_tables import TableEncoder

FOLDS = 5


def detection_auc(
    real: Float[np.ndarray, "rows columns"],
    drawn: Float[np.ndarray, "samples columns"],
    encoder: TableEncoder,
    random_state: int,
) -> tuple[float, float]:
    """Return the mean AUC of a gradient-boosted classifier over five test parts, and its standard error.

    The classifier gets missing entries as missing and levels as categories. The standard error is that of the test
    parts; it does not contain the variance of training.
    """
    x = np.concatenate([real, drawn])
    is_sample = np.repeat([0, 1], [len(real), len(drawn)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=random_state)
    found = []
    for train, test in folds.split(x, is_sample):
        used = ~np.isnan(x[train]).all(0)  # the classifier refuses columns without values
        classifier = HistGradientBoostingClassifier(
            categorical_features=encoder.has_levels[used], early_stopping=False, random_state=random_state
        )
        score = classifier.fit(x[train][:, used], is_sample[train]).decision_function(x[test][:, used])
        found.append(auc_with_error(score[is_sample[test] == 0], score[is_sample[test] == 1]))
    aucs, errors = np.array(found).T
    return float(aucs.mean()), math.sqrt(float((errors**2).sum())) / FOLDS


def auc_with_error(low: Float[np.ndarray, " low"], high: Float[np.ndarray, " high"]) -> tuple[float, float]:
    """Return P(score of `high` > score of `low`), ties counted by half, and its standard error.

    Source: DeLong, DeLong & Clarke-Pearson, Comparing the areas under two or more correlated receiver operating
    characteristic curves (1988).

    Example:
        >>> auc_with_error(np.array([0.0, 1.0, 2.0]), np.array([3.0, 4.0]))
        (1.0, 0.0)
    """
    ranks = rankdata(np.concatenate([low, high]))
    # of each score of one side, the fraction of the other side that is in the right order
    of_low = 1 - (ranks[: len(low)] - rankdata(low)) / len(high)
    of_high = (ranks[len(low) :] - rankdata(high)) / len(low)
    variance = sum(float(one.var(ddof=1)) / len(one) for one in (of_low, of_high))
    return float(of_high.mean()), math.sqrt(variance)
