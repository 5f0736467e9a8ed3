"""Associations of pairs of columns of mixed tables: rank correlation, correlation ratio and Cramer's V."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.evaluation.encoded_tables import TableEncoder

MEASURES = ("rank correlation", "correlation ratio", "Cramer's V")
"""The measure of a pair of which none, one or both columns have levels."""


def associations(
    values: Float[np.ndarray, "rows columns"], encoder: TableEncoder
) -> Float[np.ndarray, "columns columns"]:
    r"""Return the association of each pair of columns, over the rows in which both are observed.

        two numeric columns     Spearman's rank correlation, in [-1, 1]
        numeric and levels      correlation ratio of ranks: sqrt(sum_l n_l (m_l - m)^2 / sum_i (r_i - m)^2), in [0, 1]
        two columns of levels   Cramer's V: sqrt(chi^2 / n / (min(levels) - 1)), in [0, 1]

    r_i is the rank of a value in its column, m_l the mean rank of level l, and m that of all. Ranks make the measures
    independent of outliers and of monotone transformations. A constant column has the association 0 with others.

    Args:
        values: from `TableEncoder.values`.
        encoder: the columns.

    Source: Cramer, Mathematical Methods of Statistics (1946), section 21.9; Fisher, Statistical Methods for Research
    Workers (1925), section 45, for the correlation ratio.

    Example:
        >>> table = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [1.0, 3.0, 2.0, 9.0], "c": list("xxyy")})
        >>> encoder = TableEncoder.of(table)
        >>> associations(encoder.values("the rows", table), encoder).round(2).tolist()
        [[1.0, 0.8, 0.89], [0.8, 1.0, 0.45], [0.89, 0.45, 1.0]]
    """
    with_levels = encoder.has_levels
    found = np.eye(len(with_levels))
    numeric, levels = np.flatnonzero(~with_levels), np.flatnonzero(with_levels)
    ranks = pd.DataFrame(values[:, numeric]).rank()
    correlations = np.nan_to_num(ranks.corr().to_numpy(), nan=0.0)
    found[np.ix_(numeric, numeric)] = np.where(np.eye(len(numeric)) > 0, 1.0, correlations)
    indicators = encoder.indicators(values)
    for i, hot in zip(levels, indicators, strict=True):
        ratios = _correlation_ratios(ranks.to_numpy(), hot)
        found[i, numeric] = found[numeric, i] = ratios
    for a, i in enumerate(levels):
        for b, j in enumerate(levels[:a]):
            found[i, j] = found[j, i] = _cramers_v(indicators[a].T @ indicators[b])
    return found


def _correlation_ratios(
    ranks: Float[np.ndarray, "rows numeric"], hot: Float[np.ndarray, "rows levels"]
) -> Float[np.ndarray, " numeric"]:
    """Return the correlation ratio of each numeric column and one column with levels."""
    observed = ~np.isnan(ranks)
    centred = np.where(observed, ranks - len(ranks) / 2, 0.0)
    counts, sums, squares = hot.T @ observed, hot.T @ centred, (hot.T @ centred**2).sum(0)
    n = np.maximum(counts.sum(0), 1)
    of_mean = sums.sum(0) ** 2 / n
    between = (sums**2 / np.maximum(counts, 1)).sum(0) - of_mean
    total = squares - of_mean
    ratio = np.divide(between, total, out=np.zeros_like(total), where=total > 1e-9 * np.maximum(squares, 1))
    return np.asarray(np.sqrt(np.clip(ratio, 0.0, 1.0)))


def _cramers_v(counts: Float[np.ndarray, "levels others"]) -> float:
    """Return Cramer's V of a contingency table; levels that do not occur are left out."""
    counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    smaller = min(counts.shape) - 1
    if smaller < 1:
        return 0.0
    n = counts.sum()
    expected = np.outer(counts.sum(1), counts.sum(0)) / n
    return min(1.0, math.sqrt(float(((counts - expected) ** 2 / expected).sum()) / n / smaller))
