"""Columns of tables: their units, and their encoding to model space and decoding back.

The unit of a column determines its output unit: ``real``, ``binary`` (two values), ``categorical`` (one
model-space column per level) or ``count`` (small integers). Columns of dates and of free text are refused.
"""

from __future__ import annotations

import difflib
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from isthmus.data.messages import exclude_advice
from isthmus.errors import InputError

UNITS = ("real", "binary", "categorical", "count")
MAX_LEVELS = 64
"""Maximum number of distinct strings in a categorical column. A column with more is free text or an identifier."""
MAX_COUNT = 100
"""Maximum of a count column. A column of larger integers is real."""
MAX_DECIMALS = 6
"""Largest number of decimals that samples of a real column are rounded to."""


@dataclass(frozen=True)
class TableColumn:
    """Column of a table: name, unit and, for binary and categorical columns, levels.

    Attributes:
        name: its name.
        unit: one of `UNITS`.
        levels: the values of a binary or categorical column.
        dtype: the type of the user's column.
        decimals: number of decimals of all values of a real column; None if one has more than `MAX_DECIMALS`.
        low, high: the smallest and the largest value of a real column; None without values.
    """

    name: str
    unit: str
    levels: list[Any] = field(default_factory=list)
    dtype: str = "float64"
    decimals: int | None = None
    low: float | None = None
    high: float | None = None

    @property
    def width(self) -> int:
        """The number of its model-space columns."""
        return len(self.levels) if self.unit == "categorical" else 1

    @property
    def model_names(self) -> list[str]:
        """The names of its model-space columns."""
        return [f"{self.name}={level}" for level in self.levels] if self.unit == "categorical" else [self.name]


def learn_columns(
    table: pd.DataFrame, categories: str | Sequence[str] | None, units: Mapping[str, str] | None
) -> list[TableColumn]:
    """Determine the unit of each column from its values, unless `categories` or `units` set it.

    Raises:
        InputError: if columns contain dates, free text or too many levels (the message names them all), or if a
            column or unit is unknown.
    """
    requested = {str(name): unit for name, unit in (units or {}).items()}
    named = (categories,) if isinstance(categories, str) else categories or ()
    requested |= {str(name): "categorical" for name in named}
    for name, unit in requested.items():
        _known(name, [str(column) for column in table.columns])
        if unit not in UNITS:
            raise InputError(f"column {name!r}: unit {unit!r} is not one of {', '.join(UNITS)}")
    columns, refused = [], []
    for name in table.columns:
        try:
            columns.append(_learn(str(name), table[name], requested.get(str(name))))
        except InputError as error:
            refused.append(str(error))
    if refused:
        raise InputError("; ".join(refused))
    return columns


def _known(name: str, names: Sequence[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        raise InputError(f"no column {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _learn(name: str, values: pd.Series, requested: str | None) -> TableColumn:
    dtype = str(values.dtype)
    present = values.dropna()
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        raise InputError(f"column {name!r} contains dates; {exclude_advice(name)}, or convert it to numbers")
    if pd.api.types.is_complex_dtype(values):
        raise InputError(f"column {name!r}: Complex data not supported; split it into two real columns")
    if pd.api.types.is_bool_dtype(values) and requested is None:
        return TableColumn(name, "binary", [False, True], dtype)
    if pd.api.types.is_numeric_dtype(values) and requested in (None, "real", "count"):
        has_missing = len(present) < len(values)
        return TableColumn(name, requested or _numeric_unit(present, has_missing=has_missing), [], dtype)
    return _learn_levels(name, present, requested, dtype)


def _numeric_unit(values: pd.Series, *, has_missing: bool) -> str:
    """Return "binary" for {0, 1}, "count" for small integers of integer type, else "real".

    A column of integers with missing entries has a floating-point type in pandas; its whole numbers count as integers.
    """
    if not len(values):
        return "real"
    low, high = values.min(), values.max()
    if low >= 0 and high == 1 and values.isin((0, 1)).all() and low == 0:
        return "binary"
    is_integer = pd.api.types.is_integer_dtype(values) or (has_missing and bool((values == values.round()).all()))
    return "count" if is_integer and low == 0 and 1 < high <= MAX_COUNT else "real"


def _learn_levels(name: str, present: pd.Series, requested: str | None, dtype: str) -> TableColumn:
    unsupported = next(
        (value for value in present if not isinstance(value, str | bool | int | float | np.generic)), None
    )
    if unsupported is not None:
        raise InputError(
            f"column {name!r} contains {type(unsupported).__name__} values; {exclude_advice(name)}, or convert it to "
            "numbers"
        )
    levels = sorted(present.unique().tolist(), key=str)
    if requested != "categorical" and dtype != "category":
        _refuse_text(name, present, levels)
    if requested == "binary" and len(levels) > 2:
        raise InputError(
            f"column {name!r} has {len(levels)} values and cannot be binary; set its unit to 'categorical'"
        )
    if not levels:
        raise InputError(f"column {name!r} contains no values; {exclude_advice(name)}")
    unit = "binary" if len(levels) == 2 and requested != "categorical" else "categorical"
    return TableColumn(name, unit, [_plain(level) for level in levels], dtype)


def _plain(level: Any) -> Any:
    return level.item() if isinstance(level, np.generic) else level


def _refuse_text(name: str, present: pd.Series, levels: list[Any]) -> None:
    """Raise if the strings of a column are dates or too many to be categories."""
    if _are_dates([level for level in levels[:50] if isinstance(level, str)]):
        raise InputError(
            f"column {name!r} contains dates (such as {levels[0]!r}); {exclude_advice(name)}, or convert it to numbers"
        )
    if len(levels) > MAX_LEVELS or (len(levels) > 10 and 2 * len(levels) > len(present)):
        raise InputError(
            f"column {name!r} contains free text ({len(levels)} different values in {len(present)} rows, such as "
            f"{str(levels[0])[:30]!r}); {exclude_advice(name)}; if each value is a category, name it in categories "
            f"(--set categories={shlex.quote(name)}); to train on texts, write JSON lines with a field 'text'"
        )


def _are_dates(texts: list[str]) -> bool:
    """Return whether every text has a digit and a separator and can be parsed as a date."""
    if not texts or not all(any(c in t for c in "-/:") and any(c.isdigit() for c in t) for t in texts):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns when it infers the format, which is intended here
        return bool(pd.to_datetime(pd.Series(texts), errors="coerce", utc=True).notna().all())


def check_names(columns: Sequence[TableColumn], table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with its columns in training order. Raise if columns are missing or unknown."""
    expected, found = [c.name for c in columns], [str(name) for name in table.columns]
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if missing or extra:
        parts = [f"missing {', '.join(map(repr, missing[:5]))}"] if missing else []
        parts += [f"unknown {', '.join(map(repr, extra[:5]))}"] if extra else []
        raise InputError(
            f"the columns differ from those the model was fitted on: {'; '.join(parts)} "
            f"({len(expected)} columns expected, {len(found)} found)"
        )
    return table.set_axis(found, axis=1)[expected]


def encode_table(columns: Sequence[TableColumn], table: pd.DataFrame) -> np.ndarray:
    """Encode the table as numbers, (n, sum of widths), float64. Missing values become NaN.

    Raises:
        InputError: if a level is new, or a numeric column contains text.
    """
    table = check_names(columns, table)
    parts = [_encode(column, table[column.name]) for column in columns]
    return np.concatenate(parts, axis=1) if parts else np.empty((len(table), 0))


def _encode(column: TableColumn, values: pd.Series) -> np.ndarray:
    if not column.levels:
        if values.dtype.kind in "mMc" or isinstance(values.dtype, pd.DatetimeTZDtype | pd.PeriodDtype):
            raise InputError(
                f"column {column.name!r} was numeric when the model was fitted; found {values.dtype}, such as "
                f"{values.iloc[0]!s}"
            )
        try:
            return pd.to_numeric(values).to_numpy(np.float64, na_value=np.nan)[:, None]
        except (ValueError, TypeError):
            numeric = pd.to_numeric(values, errors="coerce")
            row = int(np.flatnonzero((numeric.isna() & values.notna()).to_numpy())[0])
            raise InputError(
                f"column {column.name!r} was numeric when the model was fitted; found {values.iloc[row]!r} at row {row}"
            ) from None
    if all(isinstance(level, str) for level in column.levels):
        values = _as_text(values)
    codes = pd.Index(column.levels, dtype=object).get_indexer_for(values.astype(object))
    unknown = (codes < 0) & values.notna().to_numpy()
    if unknown.any():
        row = int(np.flatnonzero(unknown)[0])
        raise InputError(
            f"column {column.name!r} contains {_plain(values.iloc[row])!r} at row {row}, which is not one of the "
            f"{len(column.levels)} values that it had when the model was fitted"
        )
    if column.unit == "binary":
        return np.where(codes < 0, np.nan, codes.astype(np.float64))[:, None]
    hot = np.zeros((len(values), len(column.levels)))
    hot[np.arange(len(values)), np.maximum(codes, 0)] = 1.0
    hot[codes < 0] = np.nan
    return hot


def _as_text(values: pd.Series) -> pd.Series:
    """Return numbers as the text that a file has for them, to compare them with levels that are text.

    Example:
        >>> _as_text(pd.Series([1.0, 2.5, None])).tolist()
        ['1', '2.5', nan]
    """
    if values.dtype.kind not in "iuf":
        return values
    texts = values.map(lambda value: str(int(value)) if float(value).is_integer() else str(value), na_action="ignore")
    return texts.astype(object)


def decode_table(columns: Sequence[TableColumn], numbers: np.ndarray) -> pd.DataFrame:
    """Decode numbers to a table in the user's units. A categorical value is the level with the largest number."""
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
    if column.dtype == "category":
        return values.astype(pd.CategoricalDtype(levels))
    has_dtype = column.dtype == "bool" or not column.levels
    return values.astype(pd.api.types.pandas_dtype(column.dtype)) if has_dtype else values


def with_ranges(columns: Sequence[TableColumn], numbers: np.ndarray) -> list[TableColumn]:
    """Return the columns; real ones with the decimals and the range of their finite values.

    Args:
        columns: the columns of a table.
        numbers: rows of it, encoded by `encode_table`.

    Example:
        >>> with_ranges([TableColumn("age", "real")], np.array([[31.5], [40.25], [np.nan]]))[0].decimals
        2
    """
    found, start = [], 0
    for column in columns:
        values, start = numbers[:, start], start + column.width
        values = values[np.isfinite(values)]
        if column.unit == "real" and len(values):
            exact = np.float32 if column.dtype.lower() in ("float32", "float16") else np.float64
            column = replace(
                column, decimals=_decimals(values, exact), low=float(values.min()), high=float(values.max())
            )
        found.append(column)
    return found


def _decimals(values: np.ndarray, exact: type[np.floating[Any]]) -> int | None:
    """Return the least number of decimals to which rounding keeps all values; None above `MAX_DECIMALS`."""
    kept = values.astype(exact)
    return next((n for n in range(MAX_DECIMALS + 1) if (values.round(n).astype(exact) == kept).all()), None)


def in_units_of_columns(samples: Any, columns: Sequence[TableColumn]) -> Any:
    """Return samples of a table in the units of its columns; samples of other data as they are.

    Real columns are rounded to the decimals of the training values and clipped to their range. Counts, which scaling
    made inexact, are rounded to whole numbers.

    Args:
        samples: a data frame that `decode_table` returned, or other rows.
        columns: its columns.

    Example:
        >>> age = TableColumn("age", "real", decimals=1, low=20.0, high=65.0)
        >>> in_units_of_columns(pd.DataFrame({"age": [31.57, 70.2]}), [age])["age"].tolist()
        [31.6, 65.0]
    """
    if not isinstance(samples, pd.DataFrame):
        return samples
    samples = rounded(samples, columns)
    clipped = [column for column in columns if column.unit == "real" and column.low is not None]
    return samples.assign(**{column.name: samples[column.name].clip(column.low, column.high) for column in clipped})


def rounded(table: pd.DataFrame, columns: Sequence[TableColumn]) -> pd.DataFrame:
    """Return a table with real columns rounded to the decimals of the training values, and counts to whole numbers.

    Example:
        >>> rounded(pd.DataFrame({"age": [31.5700001]}), [TableColumn("age", "real", decimals=2)])["age"].tolist()
        [31.57]
    """
    changed = {}
    for column in columns:
        values = table[column.name]
        if column.unit == "count":
            changed[column.name] = values.round().astype("int64")
        elif column.unit == "real" and column.decimals is not None:
            changed[column.name] = values.round(column.decimals)
    return table.assign(**changed) if changed else table


def to_config(columns: Sequence[TableColumn]) -> list[dict[str, Any]]:
    """Convert the columns to JSON-serialisable dictionaries."""
    return [asdict(column) for column in columns]


def from_config(config: Sequence[Mapping[str, Any]]) -> list[TableColumn]:
    """Build the columns from the result of `to_config`."""
    return [TableColumn(**item) for item in config]
