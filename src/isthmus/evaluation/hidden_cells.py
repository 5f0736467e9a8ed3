"""Predictions of hidden cells that are known: their combination by column, and the distribution of what they miss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

MIN_CELLS = 10
"""Number of known cells as which the equal weights of predictions count."""

MAX_KEPT = 1000
"""Largest number of residuals of a column that are kept, evenly spaced in their order."""


def weights_of_parts(
    truth: Float[np.ndarray, "cells columns"],
    parts: Float[np.ndarray, "parts cells columns"],
    centre: Float[np.ndarray, " columns"],
    noise: Float[np.ndarray, " parts"] | None = None,
) -> Float[np.ndarray, " parts"]:
    r"""Return the weights w >= 0 of predictions, of sum at most 1, with the least squared error; the rest is the mean.

        min_w  sum (t - m - sum_k w_k (p_k - m))^2,   w >= 0,   sum_k w_k <= 1

    Few cells shrink the weights to equal ones, which count as `MIN_CELLS` cells. A prediction whose random errors will
    be averaged out later is weighted as without them: their variance is left out of the sum.

    Args:
        truth: the values t of known cells; several columns if they are the levels of one category.
        parts: the predictions p_k.
        centre: m, the mean of each column.
        noise: the variance of random errors of each part that will be averaged out; None for 0.

    Source: Breiman, Stacked regressions (1996), section 3; Fuller, Measurement error models (1987), section 1.2, for
    the variance.

    Example:
        >>> truth = np.arange(1000.0)[:, None] - 499.5
        >>> weights_of_parts(truth, np.stack([truth, -truth]), np.zeros(1)).round(2).tolist()
        [1.0, 0.0]
    """
    equal = np.full(len(parts), 1 / len(parts))
    if not truth.size:
        return equal
    design = (parts - centre).reshape(len(parts), -1)
    gram, moment = design @ design.T / truth.size, design @ (truth - centre).ravel() / truth.size
    gram = gram - np.diag(np.minimum(np.zeros(len(parts)) if noise is None else noise, 0.9 * gram.diagonal()))
    prior = MIN_CELLS / len(truth) * float(gram.diagonal().mean())
    return _bounded_minimum(gram + prior * np.eye(len(parts)), moment + prior * equal)


def _bounded_minimum(gram: Float[np.ndarray, "n n"], moment: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return argmin w'Aw - 2 b'w for w >= 0, sum w <= 1, by the minima of all faces: there are few parts."""
    n = len(moment)
    best, least = np.zeros(n), 0.0
    for chosen in range(1, 2**n):
        inside = [k for k in range(n) if chosen >> k & 1]
        face = gram[np.ix_(inside, inside)]
        free = np.linalg.lstsq(face, moment[inside], rcond=None)[0]
        ones = np.linalg.lstsq(face, np.ones(len(inside)), rcond=None)[0]
        on_border = free + (1 - free.sum()) / max(float(ones.sum()), 1e-12) * ones
        for found in (free, on_border):
            w = np.zeros(n)
            w[inside] = found
            value = float(w @ gram @ w - 2 * moment @ w)
            if (w >= 0).all() and w.sum() <= 1 + 1e-9 and value < least:
                best, least = w, value
    return best


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
