"""Tables of a detector's results: scores, p-values and flags of rows, and the oddest cells of some of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from isthmus.estimators.anomalies import AnomalyDetector, Explanation
from isthmus.evaluation.conformal import benjamini_hochberg, p_values

MIN_SHARE = 1.0
"""Least oddness of a cell that is named, in nats: about one in seven cells of ordinary rows has as much."""


@dataclass(frozen=True)
class ScoredRows:
    """Rows with their scores.

    Attributes:
        table: the score, the p-value and the flag of each row, numbered from 0.
        of_fit: True if they are the rows of the fit, whose p-values are those of cross-fitting.
    """

    table: pd.DataFrame
    of_fit: bool

    @property
    def oddest(self) -> Int[np.ndarray, " rows"]:
        """The numbers of the rows, the oddest first."""
        return self.table["score"].sort_values(kind="stable").index.to_numpy()


def scored_rows(model: AnomalyDetector, X: Any, fdr: float | None = None) -> ScoredRows:
    """Return the scores, p-values and flags of rows, which are read and scored once.

    Args:
        model: a fitted detector.
        X: rows.
        fdr: the false discovery rate of the flags; None flags by the rate of false alarms of the detector.

    Raises:
        InputError: invalid rows, or a rate outside (0, 1).
    """
    rows = model.model_rows(X)
    scores, of_fit = model.scores_of(rows), model.is_of_fit(rows)
    p = model.p_values_ if of_fit else p_values(-model.calibration_scores_, -scores)
    if fdr is not None:
        flags = benjamini_hochberg(p, fdr, len(model.calibration_scores_))
    else:
        flags = p <= model.false_alarm_rate if of_fit else scores < model.offset_
    return ScoredRows(pd.DataFrame({"score": scores, "p_value": p, "flag": flags}), of_fit)


def odd_cells(
    model: AnomalyDetector,
    X: Any,
    chosen: Int[np.ndarray, " chosen"],
    n: int,
    explanation: Explanation | None = None,
) -> pd.DataFrame:
    """Return the oddest cells of chosen rows, at most n: for each its column, value, expected value and interval.

    The columns of the k-th cell are cell_k, value_k, expected_k, low_k and high_k. They are empty for a row with fewer
    cells as odd as `MIN_SHARE`. A level that was expected is not an odd cell, however rare it is.

    Args:
        model: a fitted detector.
        X: rows.
        chosen: the numbers of rows, which are the index of the result.
        n: the largest number of cells of a row.
        explanation: of the chosen rows; None computes it.
    """
    if not n or not len(chosen):
        return pd.DataFrame(index=chosen)
    part = X.iloc[chosen] if hasattr(X, "iloc") else X[chosen]
    found_cells = model.explain(part) if explanation is None else explanation
    frames = {name: frame.reset_index(drop=True) for name, frame in found_cells.frames().items()}
    share = frames.pop("share")
    frames = {"value": _values(part, share), **frames}
    odd = share.fillna(-np.inf).to_numpy(np.float64, copy=True)
    odd[(frames["value"].astype(object) == frames["expected"].astype(object)).to_numpy()] = -np.inf
    order, names = np.argsort(-odd, axis=1, kind="stable")[:, :n], cell_names(model, list(share.columns))
    found: dict[str, list[Any]] = {}
    for k in range(order.shape[1]):
        cells = [(row, int(column), bool(odd[row, column] >= MIN_SHARE)) for row, column in enumerate(order[:, k])]
        found[f"cell_{k + 1}"] = [names[column] if is_odd else None for _, column, is_odd in cells]
        for name, frame in frames.items():
            found[f"{name}_{k + 1}"] = [frame.iat[row, column] if is_odd else None for row, column, is_odd in cells]
    return pd.DataFrame({name: _column(values) for name, values in found.items()}).set_axis(chosen, axis=0)


def cells_in_words(cells: pd.Series) -> list[dict[str, str]]:
    """Return the cells of a row of `odd_cells` as texts: column, value, expected value and interval.

    Example:
        >>> row = pd.Series({"cell_1": "age", "value_1": 21.0, "expected_1": 72.85, "low_1": 64.6, "high_1": 81.1})
        >>> cells_in_words(row)
        [{'column': 'age', 'value': '21', 'expected': '72.85', 'interval': '64.6 to 81.1'}]
    """
    found = []
    for k in range(1, 1 + len(cells) // 5):
        if not pd.isna(cells[f"cell_{k}"]):
            value, expected, low, high = (cells[f"{name}_{k}"] for name in ("value", "expected", "low", "high"))
            found.append({
                "column": str(cells[f"cell_{k}"]), "value": _short(value), "expected": _short(expected),
                "interval": "" if pd.isna(low) else f"{_short(low)} to {_short(high)}",
            })  # fmt: skip
    return found


def cell_names(model: AnomalyDetector, columns: list[Any]) -> list[str]:
    """Return the names of cells: columns, channel and step of series, or the position of a pixel, such as "12,3"."""
    known, shape = model.preprocessing_, model.preprocessing_.row_shape
    if known.is_series:
        return [f"{channel}, step {step}" for step in range(shape[0]) for channel in known.channels]
    if len(shape) == 1 or len(columns) != math.prod(shape):
        is_numbered = columns == list(range(len(known.columns)))  # an array, without names
        return known.columns if is_numbered else list(map(str, columns))
    return [",".join(map(str, np.unravel_index(i, shape))) for i in range(len(columns))]


def _values(part: Any, share: pd.DataFrame) -> pd.DataFrame:
    """Return the values of rows by the columns of their shares; NaN for texts, which have none."""
    if isinstance(part, pd.DataFrame):
        return part[list(share.columns)].reset_index(drop=True)
    if not hasattr(part, "shape"):
        return pd.DataFrame(np.nan, index=share.index, columns=share.columns)
    array = part.toarray() if hasattr(part, "tocsr") else np.asarray(part)
    return pd.DataFrame(array.reshape(len(array), -1), columns=share.columns)


def _column(values: list[Any]) -> pd.Series:
    """Return a column: of numbers as numbers; else as text, so that a file has one type for it."""
    present = [value for value in values if not pd.isna(value)]
    if all(pd.api.types.is_number(value) and not isinstance(value, bool) for value in present):
        return pd.Series([math.nan if pd.isna(value) else float(value) for value in values])
    return pd.Series([None if pd.isna(value) else _written(value) for value in values], dtype="str")


def _written(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(value: Any) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return str(value)
