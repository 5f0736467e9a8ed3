"""Predictions of hidden cells that are known: their combination by column, and the distribution of what they miss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls

MIN_CELLS = 10
"""Least number of known cells of a column by which its predictions are weighted."""

MAX_KEPT = 1000
"""Largest number of residuals of a column that are kept, evenly spaced in their order."""


def weights_of_parts(
    truth: Float[np.ndarray, "cells columns"],
    parts: Float[np.ndarray, "parts cells columns"],
    centre: Float[np.ndarray, " columns"],
) -> Float[np.ndarray, " parts"]:
    r"""Return the weights w >= 0 of predictions, of sum at most 1, with the least squared error; the rest is the mean.

        min_w  sum (t - m - sum_k w_k (p_k - m))^2,   w >= 0,   sum_k w_k <= 1

    Few cells shrink the weights to equal ones: `MIN_CELLS` cells count as much as the equal weights.

    Args:
        truth: the values t of known cells; several columns if they are the levels of one category.
        parts: the predictions p_k.
        centre: m, the mean of each column.

    Source: Breiman, Stacked regressions (1996), section 3.

    Example:
        >>> truth = np.arange(100.0)[:, None] - 49.5
        >>> weights_of_parts(truth, np.stack([truth, -truth]), np.zeros(1)).round(2).tolist()
        [1.0, 0.0]
    """
    equal = np.full(len(parts), 1 / len(parts))
    if len(truth) < MIN_CELLS:
        return equal
    design = (parts - centre).reshape(len(parts), -1).T
    wanted = (truth - centre).ravel()
    power = float(np.sqrt((design**2).mean() * MIN_CELLS))
    design = np.vstack([design, power * np.eye(len(parts))])
    wanted = np.concatenate([wanted, power * equal])
    found = nnls(design, wanted)[0]
    if found.sum() <= 1:
        return np.asarray(found)
    # On the border the weights sum to 1: a heavy further row holds the sum.
    heavy = 1e3 * float(np.abs(design).max() * math.sqrt(len(design))) or 1.0
    found = nnls(np.vstack([design, np.full(len(parts), heavy)]), np.append(wanted, heavy))[0]
    return np.asarray(found / found.sum())


@dataclass(frozen=True)
class Residuals:
    """The distribution of (truth - prediction) / scale of known cells of a column.

    Attributes:
        values: some of them, in increasing order.
        n: their number before the selection.

    Source: Vovk, Gammerman & Shafer, Algorithmic learning in a random world (2005), section 2.3.

    Example:
        >>> residuals = Residuals.of(np.arange(-49.0, 50.0))
        >>> residuals.interval(0.9)
        (-45.0, 45.0)
        >>> residuals.interval(0.99)
        (-inf, inf)
    """

    values: Float[np.ndarray, " kept"]
    n: int

    @classmethod
    def of(cls, residuals: Float[np.ndarray, " cells"]) -> Residuals:
        """Return the distribution of these residuals."""
        ordered = np.sort(residuals)
        kept = ordered
        if len(ordered) > MAX_KEPT:
            kept = ordered[np.linspace(0, len(ordered) - 1, MAX_KEPT).round().astype(int)]
        return cls(kept, len(ordered))

    def interval(self, coverage: float) -> tuple[float, float]:
        """Return the interval that contains the residual of an exchangeable cell with at least this probability.

        It leaves out the same number of residuals on both sides; it is infinite where there are too few of them.
        """
        out = math.floor((self.n + 1) * (1 - coverage) / 2 + 1e-9)
        if out < 1:
            return -math.inf, math.inf
        at = out - 1 if len(self.values) == self.n else math.floor((out - 1) * (MAX_KEPT - 1) / (self.n - 1))
        return float(self.values[at]), float(self.values[len(self.values) - 1 - at])

    def quantile(self, probability: Float[np.ndarray, " cells"]) -> Float[np.ndarray, " cells"]:
        """Return the residuals at these probabilities, interpolated; zeros without residuals."""
        if not self.n:
            return np.zeros(len(probability))
        at = (np.arange(len(self.values)) + 0.5) / len(self.values)
        return np.interp(probability, at, self.values)
