"""Maps of real columns to normal scores by their empirical distribution, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtri
from torch import Tensor

MAX_KNOTS = 1000
"""Largest number of values of a column whose scores are stored."""

_MARGIN = 1e-12
"""Least distance of a level from 0 and 1, whose scores are infinite."""


@dataclass(frozen=True)
class QuantileMap:
    r"""Monotone map of the values of one column to normal scores, with its inverse, which is piecewise linear.

        z(v) = Phi^-1(level of v),   level of the i-th of n sorted values = (i - 1/2) / n

    Equal values cover an interval of levels, from that of the first to that of the last one. The middle of the interval
    is their score, and the inverse returns their value for each score in the interval, so a value that is frequent
    in the rows is as frequent in samples. Between two knots, map and inverse are linear. Beyond the first and the last
    value they go on with the slope over the outer part, of one unit of the score at least.

    Attributes:
        values: (k,), distinct values of the rows in ascending order, in raw units, k >= 2.
        low, middle, high: (k,), scores of the first copy of each value, of the middle, and of the last copy.

    Source: Conover, Practical nonparametric statistics (1999), section 5.10; levels by Hazen (1914).

    Example:
        >>> column = QuantileMap.learned(np.array([0.0, 0.0, 0.0, 1.0, 7.0]))
        >>> column.scores(np.array([0.0, 1.0, 4.0, 7.0])).round(2).tolist()
        [-0.52, 0.52, 0.9, 1.28]
        >>> column.raw(np.array([-1.0, -0.2, 0.9])).round(2).tolist()
        [0.0, 0.0, 3.98]
    """

    values: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    middle: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]

    @classmethod
    def learned(cls, column: Float[np.ndarray, " n"], weights: np.ndarray | None = None) -> QuantileMap | None:
        """Learn the map from the finite values of a column; None if fewer than two of them differ.

        A value of weight 2 counts as two values, and one of weight 0 is left out. Of more than `MAX_KNOTS` distinct
        values those at as many evenly spaced levels are knots. They include each value that fills a larger interval.
        """
        used = np.isfinite(column) if weights is None else np.isfinite(column) & (weights > 0)
        values, place = np.unique(column[used], return_inverse=True)
        if len(values) < 2:
            return None
        copies = np.ones(len(place)) if weights is None else weights[used].astype(np.float64)
        last = np.cumsum(np.bincount(place, copies))
        first = np.concatenate([[0.0], last[:-1]])
        one = min(1.0, float(copies.min()))
        levels = np.stack([first + one / 2, (first + last) / 2, last - one / 2]) / last[-1]
        kept = _evenly_spaced(last / last[-1])
        scores = ndtri(np.clip(np.sort(levels, axis=0)[:, kept], _MARGIN, 1 - _MARGIN))
        apart = np.concatenate([[True], scores[0, 1:] > np.maximum.accumulate(scores[2])[:-1]])
        return cls(values[kept][apart], *scores[:, apart]) if apart.sum() > 1 else None

    @property
    def slopes(self) -> tuple[float, float]:
        """The slopes of the inverse below the first value and above the last one."""
        inner = int(np.searchsorted(self.middle, self.low[0] + 1))
        below = min(max(inner, 1), len(self.values) - 1)
        inner = int(np.searchsorted(self.middle, self.high[-1] - 1, "right")) - 1
        above = min(max(inner, 0), len(self.values) - 2)
        return (
            float((self.values[below] - self.values[0]) / (self.middle[below] - self.low[0])),
            float((self.values[-1] - self.values[above]) / (self.high[-1] - self.middle[above])),
        )

    def scores(self, raw: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the score of each value; that of NaN is NaN."""
        below, above = self.slopes
        right = np.clip(np.searchsorted(self.values, raw), 1, len(self.values) - 1)
        left = right - 1
        start, end = self.high[left], self.low[right]
        share = (raw - self.values[left]) / (self.values[right] - self.values[left])
        between = np.clip(start + share * (end - start), start, end)
        found = np.where(raw < self.values[0], self.low[0] + (raw - self.values[0]) / below, between)
        found = np.where(raw > self.values[-1], self.high[-1] + (raw - self.values[-1]) / above, found)
        for knot in (left, right):
            found = np.where(raw == self.values[knot], self.middle[knot], found)
        return np.where(np.isnan(raw), np.nan, found)

    def raw(self, scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return the value of each score."""
        return interpolated(scores, *self.points, self.slopes)

    @property
    def points(self) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
        """Scores and values of the points that the inverse connects by lines, in ascending order of the scores."""
        scores, values = np.stack([self.low, self.high], 1).ravel(), np.repeat(self.values, 2)
        new = np.concatenate([[True], np.diff(scores) > 0])
        return scores[new], values[new]

    def few_points(self, n: int) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
        """Return at most n of the points: each next one is that which the lines between the others miss most."""
        scores, values = self.points
        kept = np.array([0, len(scores) - 1])
        while len(kept) < min(n, len(scores)):
            error = np.abs(np.interp(scores, scores[kept], values[kept]) - values)
            error[kept] = -1.0
            kept = np.sort(np.append(kept, error.argmax()))
        return scores[kept], values[kept]


def interpolated(
    scores: Float[np.ndarray, " n"],
    at: Float[np.ndarray, " points"],
    values: Float[np.ndarray, " points"],
    slopes: tuple[float, float],
) -> Float[np.ndarray, " n"]:
    """Return the values of lines between points, with the given slopes below and above them.

    Example:
        >>> interpolated(np.array([-1.0, 0.5, 3.0]), np.array([0.0, 1.0]), np.array([0.0, 10.0]), (1.0, 2.0)).tolist()
        [-1.0, 5.0, 14.0]
    """
    inside = np.interp(scores, at, values)
    return inside + slopes[0] * np.minimum(scores - at[0], 0.0) + slopes[1] * np.maximum(scores - at[-1], 0.0)


def _evenly_spaced(levels: Float[np.ndarray, " values"]) -> np.ndarray:
    """Return the numbers of the values at evenly spaced levels; all of them if they are few."""
    if len(levels) <= MAX_KNOTS:
        return np.arange(len(levels))
    found = np.searchsorted(levels, np.linspace(0, 1, MAX_KNOTS))
    return np.unique(np.minimum(found, len(levels) - 1))


def to_file(maps: Mapping[int, QuantileMap]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the maps of columns as a tensor (4, knots) and JSON-serialisable data; nothing without maps."""
    if not maps:
        return {}, {}
    knots = [np.stack([m.values, m.low, m.middle, m.high]) for m in maps.values()]
    sizes = [int(each.shape[1]) for each in knots]
    return {"knots": torch.from_numpy(np.concatenate(knots, 1))}, {"knots": {"columns": [*maps], "sizes": sizes}}


def from_file(knots: Tensor, config: Mapping[str, Any]) -> dict[int, QuantileMap]:
    """Return the maps of columns from the result of `to_file`."""
    parts = np.split(knots.numpy(), np.cumsum(config["sizes"])[:-1], axis=1)
    return {int(column): QuantileMap(*part) for column, part in zip(config["columns"], parts, strict=True)}
