"""Tables: what each column is, and its way into model space and back.

A column is one of four units, after the output unit that fits it: ``real``, ``binary`` (two
values), ``categorical`` (one column of model space a level) or ``count`` (small whole numbers).
Dates and free text are no numbers and no categories: they are refused by name.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from isthmus.errors import InputError

UNITS = ("real", "binary", "categorical", "count")
MAX_LEVELS = 64
"""More distinct strings than this in a column is free text or an identifier, not a category."""
MAX_COUNT = 100
"""Whole numbers from zero up to this are taken for counts; larger ones are better served as real numbers."""


@dataclass(frozen=True)
class TableColumn:
    """One column of the user's table: its name, its unit and, for binary and categorical ones, its levels."""

    name: str
    unit: str
    levels: list[Any] = field(default_factory=list)
    dtype: str = "float64"

    @property
    def width(self) -> int:
        """How many columns of model space it takes."""
        return len(self.levels) if self.unit == "categorical" else 1

    @property
    def model_names(self) -> list[str]:
        """The names of its columns in model space."""
        return [f"{self.name}={level}" for level in self.levels] if self.unit == "categorical" else [self.name]


def learn_columns(
    table: pd.DataFrame, categories: str | Sequence[str] | None, units: Mapping[str, str] | None
) -> list[TableColumn]:
    """Say of each column which unit it is, by looking at it; `categories` and `units` overrule.

    Raises:
        InputError: dates, free text, too many levels, an unknown column or unit: all offenders by name.
    """
    wanted = {str(name): unit for name, unit in (units or {}).items()}
    named = (categories,) if isinstance(categories, str) else categories or ()
    wanted |= {str(name): "categorical" for name in named}
    for name, unit in wanted.items():
        _known(name, [str(column) for column in table.columns])
        if unit not in UNITS:
            raise InputError(f"column {name!r}: unit {unit!r} is not one of {', '.join(UNITS)}")
    columns, refused = [], []
    for name in table.columns:
        try:
            columns.append(_learn(str(name), table[name], wanted.get(str(name))))
        except InputError as error:
            refused.append(str(error))
    if refused:
        raise InputError("; ".join(refused))
    return columns


def _known(name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        raise InputError(f"no column {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _learn(name: str, values: pd.Series, wanted: str | None) -> TableColumn:
    dtype = str(values.dtype)
    present = values.dropna()
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        raise InputError(f"column {name!r} holds dates; exclude it, or turn it into numbers first")
    if pd.api.types.is_complex_dtype(values):
        raise InputError(f"column {name!r}: Complex data not supported; split it into two real columns")
    if pd.api.types.is_bool_dtype(values) and wanted is None:
        return TableColumn(name, "binary", [False, True], dtype)
    if pd.api.types.is_numeric_dtype(values) and wanted in (None, "real", "count"):
        return TableColumn(name, wanted or _numeric_unit(present), [], dtype)
    return _learn_levels(name, present, wanted, dtype)


def _numeric_unit(values: pd.Series) -> str:
    """Binary for {0, 1}, count for small whole numbers stored as such, else real."""
    if not len(values):
        return "real"
    low, high = values.min(), values.max()
    if low >= 0 and high == 1 and values.isin((0, 1)).all() and low == 0:
        return "binary"
    whole = pd.api.types.is_integer_dtype(values)
    return "count" if whole and low == 0 and 1 < high <= MAX_COUNT else "real"


def _learn_levels(name: str, present: pd.Series, wanted: str | None, dtype: str) -> TableColumn:
    odd = next((value for value in present if not isinstance(value, str | bool | int | float | np.generic)), None)
    if odd is not None:
        raise InputError(f"column {name!r} holds {type(odd).__name__} values; exclude it or turn it into numbers")
    levels = sorted(present.unique().tolist(), key=str)
    if wanted != "categorical" and dtype != "category":
        _refuse_text(name, present, levels)
    if wanted == "binary" and len(levels) > 2:
        raise InputError(f"column {name!r} has {len(levels)} values and cannot be binary; say 'categorical'")
    if not levels:
        raise InputError(f"column {name!r} holds no value at all; exclude it")
    unit = "binary" if len(levels) == 2 and wanted != "categorical" else "categorical"
    return TableColumn(name, unit, [_plain(level) for level in levels], dtype)


def _plain(level: Any) -> Any:
    return level.item() if isinstance(level, np.generic) else level


def _refuse_text(name: str, present: pd.Series, levels: list[Any]) -> None:
    """Raise for a column whose strings are dates, or too many to be categories."""
    if _are_dates([level for level in levels[:50] if isinstance(level, str)]):
        raise InputError(f"column {name!r} holds dates (such as {levels[0]!r}); exclude it, or turn it into numbers")
    if len(levels) > MAX_LEVELS or (len(levels) > 10 and 2 * len(levels) > len(present)):
        raise InputError(
            f"column {name!r} holds free text ({len(levels)} different values in {len(present)} rows, such as "
            f"{str(levels[0])[:30]!r}); exclude it (--exclude), or name it in categories= if each value is a category"
        )


def _are_dates(texts: list[str]) -> bool:
    """Whether every text reads as a date and looks like one (has a separator and starts or ends in a digit)."""
    if not texts or not all(any(c in t for c in "-/:") and any(c.isdigit() for c in t) for t in texts):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns when it guesses a format: guessing is what is asked here
        return bool(pd.to_datetime(pd.Series(texts), errors="coerce", utc=True).notna().all())


def check_names(columns: Sequence[TableColumn], table: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns of the fit in their order; anything missing or left over is refused."""
    wanted, found = [c.name for c in columns], [str(name) for name in table.columns]
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if missing or extra:
        parts = [f"missing {', '.join(map(repr, missing[:5]))}"] if missing else []
        parts += [f"unknown {', '.join(map(repr, extra[:5]))}"] if extra else []
        raise InputError(
            f"the table has other columns than the one the model was fitted on: {'; '.join(parts)} "
            f"(it was fitted on {len(wanted)} columns, this one has {len(found)})"
        )
    return table.set_axis(found, axis=1)[wanted]


def encode_table(columns: Sequence[TableColumn], table: pd.DataFrame) -> np.ndarray:
    """The table in numbers, (n, sum of widths), float64; NaN where a value is missing.

    Raises:
        InputError: a level that was not there when the model was fitted, or text in a column of numbers.
    """
    table = check_names(columns, table)
    parts = [_encode(column, table[column.name]) for column in columns]
    return np.concatenate(parts, axis=1) if parts else np.empty((len(table), 0))


def _encode(column: TableColumn, values: pd.Series) -> np.ndarray:
    if not column.levels:
        try:
            return pd.to_numeric(values).to_numpy(np.float64, na_value=np.nan)[:, None]
        except (ValueError, TypeError):
            numeric = pd.to_numeric(values, errors="coerce")
            row = int(np.flatnonzero((numeric.isna() & values.notna()).to_numpy())[0])
            raise InputError(
                f"column {column.name!r} held numbers when the model was fitted; "
                f"found {values.iloc[row]!r} at row {row}"
            ) from None
    codes = pd.Index(column.levels, dtype=object).get_indexer_for(values.astype(object))
    strange = (codes < 0) & values.notna().to_numpy()
    if strange.any():
        row = int(np.flatnonzero(strange)[0])
        raise InputError(
            f"column {column.name!r} holds {values.iloc[row]!r} at row {row}, which is none of the "
            f"{len(column.levels)} values seen when the model was fitted"
        )
    if column.unit == "binary":
        return np.where(codes < 0, np.nan, codes.astype(np.float64))[:, None]
    hot = np.zeros((len(values), len(column.levels)))
    hot[np.arange(len(values)), np.maximum(codes, 0)] = 1.0
    hot[codes < 0] = np.nan
    return hot


def decode_table(columns: Sequence[TableColumn], numbers: np.ndarray) -> pd.DataFrame:
    """Numbers back to a table in the user's units: the likeliest level of each category, reals as they are."""
    out, start = {}, 0
    for column in columns:
        part = numbers[:, start : start + column.width]
        start += column.width
        out[column.name] = _decode(column, part)
    return pd.DataFrame(out)


def _decode(column: TableColumn, part: np.ndarray) -> Any:
    if column.unit == "categorical":
        chosen = part.argmax(axis=1)
    elif column.unit == "binary":
        chosen = (part[:, 0] > 0.5).astype(np.int64)
    else:
        return part[:, 0]
    levels: list[Any] = column.levels or [0, 1]
    values = pd.Series([levels[i] for i in chosen])
    kept = column.dtype in ("bool", "category") or not column.levels
    return values.astype(pd.api.types.pandas_dtype(column.dtype)) if kept else values


def to_config(columns: Sequence[TableColumn]) -> list[dict[str, Any]]:
    """The columns as JSON-able dictionaries."""
    return [asdict(column) for column in columns]


def from_config(config: Sequence[Mapping[str, Any]]) -> list[TableColumn]:
    """The columns that `to_config` described."""
    return [TableColumn(**item) for item in config]
