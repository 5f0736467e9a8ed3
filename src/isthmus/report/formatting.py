"""Formatting of numbers, durations, values and labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from isthmus.errors import InputError

MAX_GROUPS = 12
"""Number of group colours that are easy to distinguish; less frequent labels are grouped and shown in grey."""

OTHER_LABELS = "other labels"
"""The name of the group of less frequent labels."""


def number(value: Any) -> str:
    """Format a number with four significant digits; None, NaN and infinity become a dash.

    Example:
        >>> [number(v) for v in (3.14159, 12345.6, 1000000, 0.000012345, float("nan"), None)]
        ['3.142', '12,346', '1,000,000', '1.234e-05', '–', '–']
    """
    if not isinstance(value, Real) or not math.isfinite(value):
        return "–"
    size = abs(float(value))
    if isinstance(value, Integral) or size >= 1000:
        return f"{round(float(value)):,}" if size < 1e12 else f"{float(value):.3e}"
    return f"{float(value):.4g}"


def percent(share: float) -> str:
    """Format a fraction as a percentage, with one decimal near 0 and 1.

    Example:
        >>> percent(0.634), percent(0.0042), percent(0.9987), percent(2.31)
        ('63%', '0.4%', '99.9%', '231%')
    """
    if not math.isfinite(share):
        return "–"
    near = 0 < abs(share) < 0.01 or 0.99 < abs(share) < 1
    return f"{share:.1%}" if near else f"{share:.0%}"


def duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours.

    Example:
        >>> duration(0.25), duration(75), duration(7260)
        ('0.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def value_text(value: Any) -> str:
    """Format one entry of the user's rows: short numbers, truncated texts, "missing" for a missing value.

    Example:
        >>> value_text(2.0), value_text("red"), value_text(float("nan")), value_text(True)
        ('2', 'red', 'missing', 'True')
    """
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "missing"
    if isinstance(value, np.generic):
        return value_text(value.item())
    # No thousands separators, because the number may be a year.
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


@dataclass(frozen=True)
class Labels:
    """Labels of the rows and their groups, which determine colours.

    Attributes:
        text: the label of each row as text.
        keys: the class of each row: its label, or the first of several labels.
        group: the index of each row's group, (rows,).
        names: the names of the groups; the last is `OTHER_LABELS` if there are too many.
        values: the labels as numbers if they are measurements and not groups, (rows,).
    """

    text: list[str]
    keys: list[str]
    group: np.ndarray
    names: list[str]
    values: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Labels:
        """Return the labels of some rows; the groups stay the same."""
        values = None if self.values is None else self.values[rows]
        text, keys = ([each[i] for i in rows] for each in (self.text, self.keys))
        return Labels(text, keys, self.group[rows], self.names, values)


def read_labels(labels: Any, n_rows: int) -> Labels | None:
    """Convert labels to text and groups; a list of labels is grouped by its first element.

    Raises:
        InputError: the number of labels differs from the number of rows.

    Example:
        >>> read_labels(["b", "a", "b"], 3).names, read_labels([["tin", "gold"], []], 2).text
        (['a', 'b'], ['tin, gold', 'none'])
    """
    if labels is None:
        return None
    if isinstance(labels, str) or not hasattr(labels, "__len__"):
        raise InputError(f"labels={labels!r} is not a sequence; pass one label per row")
    if len(labels) != n_rows:
        raise InputError(f"{len(labels)} labels for {n_rows} rows; pass one label per row")
    each = list(labels)
    values = _measurements(each)
    text = [_label_text(label) for label in each]
    if values is not None:
        return Labels(text, text, np.zeros(n_rows, np.int64), ["value"], values)
    keys = [_first(label) for label in each]
    names, group = _groups(keys)
    return Labels(text, keys, group, names)


def _label_text(label: Any) -> str:
    if isinstance(label, list | tuple | set | frozenset | np.ndarray):
        return ", ".join(map(str, label)) or "none"
    text = value_text(label)
    return "none" if text == "missing" else text


def _first(label: Any) -> str:
    if isinstance(label, list | tuple | np.ndarray):
        return str(label[0]) if len(label) else "none"
    return _label_text(label)


def _measurements(each: list[Any]) -> np.ndarray | None:
    """Return the labels as numbers if all are numeric with many distinct values, else None."""
    numeric = (isinstance(v, Real) and not isinstance(v, bool | np.bool_) for v in each)
    if not all(numeric):
        return None
    values = np.asarray(each, np.float64)
    several = len(np.unique(values[np.isfinite(values)])) > 2 * MAX_GROUPS
    return values if several else None


def _groups(keys: list[str]) -> tuple[list[str], np.ndarray]:
    """Return the names of at most `MAX_GROUPS` groups, sorted as numbers or words, and the group of each row."""
    found, counts = np.unique(np.asarray(keys, dtype=object).astype(str), return_counts=True)
    n_named = len(found) if len(found) <= MAX_GROUPS else MAX_GROUPS - 1
    common = found[np.argsort(-counts, kind="stable")][:n_named]
    names = sorted(map(str, common), key=_natural) + [OTHER_LABELS] * (n_named < len(found))
    places = {name: i for i, name in enumerate(names)}
    return names, np.asarray([places.get(key, len(names) - 1) for key in keys], np.int64)


def _natural(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)


def read_row_names(row_names: Iterable[Any] | None, X: Any, n_rows: int) -> list[str]:
    """Return the name of each row: from `row_names`, from the index of a table, or its number.

    Raises:
        InputError: the number of names differs from the number of rows.
    """
    if row_names is None and hasattr(X, "iloc") and not isinstance(X.index, pd.RangeIndex):
        row_names = X.index
    if row_names is None:
        return [f"row {i}" for i in range(n_rows)]
    names = [str(name) for name in row_names]
    if len(names) != n_rows:
        raise InputError(f"{len(names)} row names for {n_rows} rows; pass one name per row")
    return names
