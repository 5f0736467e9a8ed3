"""Conformal p-values of scores, and decisions from them whose rates of error hold for finite numbers of rows.

Higher scores are odder here. Calibration rows take no part in the fit of the score.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import norm

from isthmus.errors import InputError, InputWarning

TAIL_START = 0.95
"""The quantile of the reference scores above which the tail is an exponential distribution."""

MAX_KNOTS = 2000
"""Largest number of quantiles of a reference that are kept."""

NULL_QUANTILES = np.linspace(0.05, 0.7, 14)
"""Quantiles of the scores that the null distribution is fitted to: few odd rows lie there."""

NULL_TAIL = 0.99
"""The quantile of the null distribution above which rows count as odd."""

MAX_RATE = 0.3
"""Largest rate of odd rows that is estimated: with more of them, the quantiles of the others are not known."""

RESAMPLES = 100
"""Number of bootstrap samples of the interval of a rate of odd rows."""


def p_values(calibration: Float[np.ndarray, " m"], scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return (1 + #{calibration scores at least as high}) / (m + 1) of each score.

    If a row is exchangeable with the m calibration rows, P(p <= a) <= a for every a, whatever the score is.

    Args:
        calibration: the scores of rows that took no part in the fit.
        scores: the scores of other rows.

    Source: Vovk, Gammerman & Shafer, Algorithmic learning in a random world (2005), section 2.2; Bates, Candes, Lei,
    Romano & Sesia, Testing for outliers with conformal p-values (2023), equation 1.

    Example:
        >>> p_values(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.5, 4.0, 9.0])).tolist()
        [0.6, 0.4, 0.2]
    """
    ordered = np.sort(calibration)
    n_higher = len(ordered) - np.searchsorted(ordered, scores, side="left")
    return np.asarray((1 + n_higher) / (len(ordered) + 1))


def p_values_among(scores: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the p-value of each score, given the others as calibration scores: #{scores at least as high} / n.

    Example:
        >>> p_values_among(np.array([1.0, 5.0, 2.0, 2.0])).tolist()
        [1.0, 0.25, 0.75, 0.75]
    """
    return (len(scores) - np.searchsorted(np.sort(scores), scores, side="left")) / len(scores)


def threshold(calibration: Float[np.ndarray, " m"], rate: float) -> float:
    """Return the score above which the p-value is at most `rate`: the k-th highest, k the whole part of rate (m + 1).

    Raises:
        InputError: fewer than 1 / rate - 1 calibration scores, so that no p-value is at most `rate`.

    Example:
        >>> scores = np.arange(19.0)
        >>> threshold(scores, 0.1), p_values(scores, np.array([17.0, 17.5])).tolist()
        (17.0, [0.15, 0.1])
    """
    k = _n_exceeding(rate, len(calibration))
    if k < 1:
        raise InputError(
            f"false_alarm_rate={rate:g} needs {n_needed(rate)} calibration rows, and there are {len(calibration)}; "
            f"give more rows, or a rate of at least {1 / (len(calibration) + 1):.2g}"
        )
    return float(np.sort(calibration)[len(calibration) - k])


def n_needed(rate: float) -> int:
    """Return the least number m of calibration rows with which a p-value can be `rate`: 1 / (m + 1) <= rate.

    Example:
        >>> n_needed(0.05), n_needed(0.01)
        (19, 99)
    """
    return math.ceil(1 / rate - 1 - 1e-9)


def _n_exceeding(rate: float, m: int) -> int:
    return math.floor(rate * (m + 1) + 1e-9)


def benjamini_hochberg(
    p: Float[np.ndarray, " n"], rate: float, n_calibration: int | None = None
) -> Bool[np.ndarray, " n"]:
    """Return which hypotheses are rejected: those of the k smallest p, k the last number with p_(k) <= rate k / n.

    Of the rows that are rejected, the expected fraction of ordinary ones is at most `rate`. It holds for conformal
    p-values of one calibration set, which are positively dependent.

    Args:
        p: p-values, (n,).
        rate: the false discovery rate, above 0 and below 1.
        n_calibration: the number m of calibration rows. If it is given, a warning says when too few rows are at the
            smallest possible p-value, 1/(m + 1), for any rejection.

    Raises:
        InputError: a rate outside (0, 1).

    Source: Benjamini & Hochberg, Controlling the false discovery rate (1995); Bates et al. (2023), theorem 2, for
    conformal p-values.

    Example:
        >>> benjamini_hochberg(np.array([0.01, 0.6, 0.02, 0.04]), 0.05).tolist()
        [True, False, True, False]
    """
    check_rate("rate", rate)
    n, order = len(p), np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= rate * np.arange(1, n + 1) / n)
    rejected = np.zeros(n, bool)
    if len(passed):
        rejected[order[: passed[-1] + 1]] = True
    elif n_calibration is not None:
        _warn_if_impossible(n, rate, n_calibration)
    return rejected


def _warn_if_impossible(n: int, rate: float, n_calibration: int) -> None:
    """Warn if a single row at the smallest possible p-value cannot be a discovery among n rows."""
    smallest = 1 / (n_calibration + 1)
    n_rows = math.ceil(smallest * n / rate - 1e-9)
    if n_rows > 1:
        text = (
            f"no row is a discovery: with {n_calibration} calibration rows the smallest p-value is {smallest:.2g}, at "
            f"which a false discovery rate of {rate:g} among {n} rows needs {n_rows} rows or more; fit on more rows, "
            "test fewer, or take a higher rate"
        )
        warnings.warn(text, InputWarning, stacklevel=3)


def check_rate(name: str, value: object) -> None:
    """Refuse a rate that is not a number above 0 and below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0 < value < 1:
        raise InputError(f"{name}={value!r}: it must be a number above 0 and below 1, such as 0.05")


@dataclass(frozen=True)
class TailScores:
    r"""Scores on a common scale: minus the logarithm of the fraction of reference scores that are at least as high.

        t(s) = -log P(S >= s),   above the start a of the tail   t(s) = t(a) + (s - a) / b

    Between two reference scores t is linear, and above a, the 95% quantile, the tail is exponential with the mean
    excess b, so that scores higher than all reference scores still differ. For a row of the reference's distribution t
    is about exponential with mean 1, and sums of t combine scores of different units (Fisher's method).

    Attributes:
        knots: reference scores, in increasing order.
        values: t at the knots.
        scale: b, above 0.

    Source: Fisher, Statistical methods for research workers (1925), section 21.1; Coles, An introduction to
    statistical modeling of extreme values (2001), section 4.3, for the tail.

    Example:
        >>> scores = TailScores.of(np.arange(99.0))
        >>> scores(np.array([-5.0, 49.5, 1000.0])).round(1).tolist()
        [0.0, 0.7, 315.6]
    """

    knots: Float[np.ndarray, " knots"]
    values: Float[np.ndarray, " knots"]
    scale: float

    @classmethod
    def of(cls, reference: Float[np.ndarray, " n"]) -> TailScores:
        """Return the scale that reference scores define; at least one must be given."""
        ordered = np.sort(reference)
        start = float(np.quantile(ordered, TAIL_START))
        excess = ordered[ordered > start] - start
        spread = float(excess.mean()) if len(excess) else float(ordered[-1] - ordered[0])
        knots, first = np.unique(ordered, return_index=True)
        values = -np.log((len(ordered) - first) / (len(ordered) + 1))
        below = knots <= start
        knots, values = np.append(knots[below], start), np.append(values[below], np.interp(start, knots, values))
        if len(knots) > MAX_KNOTS:
            chosen = np.rint(np.linspace(0, len(knots) - 1, MAX_KNOTS)).astype(int)
            knots, values = knots[chosen], values[chosen]
        return cls(knots, values, max(spread, 1e-9 * (1 + abs(start))))

    def __call__(self, scores: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Return t of each score, 0 or more; NaN of NaN."""
        excess = np.maximum(scores - self.knots[-1], 0) / self.scale
        return np.asarray(np.interp(scores, self.knots, self.values) + excess)


@dataclass(frozen=True)
class OddRate:
    """The estimated fraction of odd rows, with a 90% interval of the bootstrap.

    Attributes:
        rate: the estimate.
        low, high: its interval.
    """

    rate: float
    low: float
    high: float


def odd_rate(scores: Float[np.ndarray, " n"], random_state: int) -> OddRate:
    r"""Estimate the fraction e of rows whose score lies above the distribution of the others.

        e = (fraction of scores above t - 0.01) / 0.99,   t the 99% quantile of the null distribution N(m, s^2)

    m and s are the line through the quantiles of the scores from 5% to 70% against those of a standard normal variable
    at p / (1 - e), and the two steps are repeated. High scores count in neither. If the scores of ordinary rows have a
    longer tail than the normal distribution, e is too high; odd rows below t are not counted.

    Args:
        scores: scores that are about normal for ordinary rows, such as `ConditionalGaussian.normal_score`.
        random_state: seed of the bootstrap.

    Source: Efron, Large-scale simultaneous hypothesis testing: the choice of a null hypothesis (2004), section 4.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> found = odd_rate(np.append(generator.normal(size=1900), generator.normal(8, 1, 100)), 0)
        >>> found.low < 0.05 < found.high
        True
    """
    generator = np.random.default_rng(random_state)
    found = _odd_rate(scores)
    again = [_odd_rate(generator.choice(scores, len(scores))) for _ in range(RESAMPLES)]
    low, high = np.quantile(again, [0.05, 0.95])
    return OddRate(found, float(min(low, found)), float(max(high, found)))


def _odd_rate(scores: Float[np.ndarray, " n"]) -> float:
    quantiles, rate = np.quantile(scores, NULL_QUANTILES), 0.0
    for _ in range(10):
        normal = norm.ppf(np.minimum(NULL_QUANTILES / (1 - rate), NULL_TAIL))
        centred = normal - normal.mean()
        deviation = float(centred @ quantiles / (centred @ centred))
        start = quantiles.mean() + deviation * (norm.ppf(NULL_TAIL) - normal.mean())
        above = float((scores > start + 1e-12 * abs(start)).mean())
        rate = float(np.clip((above - (1 - NULL_TAIL)) / NULL_TAIL, 0, MAX_RATE))
    return rate
