"""Columns of tables, and for each unit their encoding to model space and decoding back.

The unit of a column determines its columns of model space and their output units: ``real``; ``binary`` (two values);
``categorical`` (one column per level); ``count`` (small integers); ``date`` (a real column of days, and levels of
month, weekday and hour).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.data.dates import DateFormat, checked_times, is_date_type
from isthmus.data.levels import UnseenLevels, plain
from isthmus.errors import InputError

MAX_DECIMALS = 6
"""Largest number of decimals that samples of a real column are rounded to."""

EXACT_INTEGERS = 2**53
"""Whole numbers above this are not all numbers of 64-bit floating point."""


@dataclass(frozen=True)
class TableColumn:
    """Column of a table: name, unit and, for binary and categorical columns, levels.

    Attributes:
        name: its name.
        unit: one of `UNITS`.
        levels: the values of a binary or categorical column.
        dtype: the type of the user's column.
        decimals: number of decimals of all values of a real column; None if one has more than `MAX_DECIMALS`.
        low, high: the smallest and the largest value of a real column, or days of dates; None without values.
        frequent: the number of the most frequent level in training; None without levels, or if it is not known.
        ordered: True if the levels of a categorical type have an order.
        dates: how the dates of a column of dates are read.
    """

    name: str
    unit: str
    levels: list[Any] = field(default_factory=list)
    dtype: str = "float64"
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    frequent: int | None = None
    ordered: bool = False
    dates: DateFormat | None = None

    @property
    def parts(self) -> list[tuple[str, int]]:
        """The output unit and the width of each group of its model-space columns."""
        return UNITS[self.unit].parts(self)

    @property
    def width(self) -> int:
        """The number of its model-space columns."""
        return sum(width for _, width in self.parts)

    @property
    def output_units(self) -> list[str]:
        """The output unit of each of its model-space columns."""
        return [unit for unit, width in self.parts for _ in range(width)]

    @property
    def model_names(self) -> list[str]:
        """The names of its model-space columns."""
        return UNITS[self.unit].model_names(self)

    @property
    def has_large_integers(self) -> bool:
        """True if whole numbers of the column lose digits in 64-bit floating point."""
        is_whole = self.dtype.lower().startswith(("int", "uint")) and self.unit == "real"
        return is_whole and max(-(self.low or 0.0), self.high or 0.0) > EXACT_INTEGERS

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TableColumn:
        """Build the column from its fields as JSON types."""
        dates = config.get("dates")
        return cls(**{**config, "dates": None if dates is None else DateFormat(**dates)})

    def encode(self, values: pd.Series, unseen: UnseenLevels | None = None) -> Float[np.ndarray, "rows width"]:
        """Encode values as numbers, float64. Missing values become NaN.

        Args:
            values: of the column.
            unseen: the treatment of values that are no level; they count as missing by default.

        Raises:
            InputError: a value that the unit does not have.
        """
        return UNITS[self.unit].encode(self, values, UnseenLevels() if unseen is None else unseen)

    def decode(self, numbers: Float[np.ndarray, "rows width"]) -> Any:
        """Decode numbers to values in the user's unit."""
        return UNITS[self.unit].decode(self, numbers)

    def with_statistics(self, numbers: Float[np.ndarray, "rows width"]) -> TableColumn:
        """Return the column with what its unit takes from the encoded training values: range, most frequent level."""
        return UNITS[self.unit].with_statistics(self, numbers)

    def rounded(self, values: pd.Series) -> pd.Series:
        """Return decoded values rounded as those of training: to their decimals, or to whole numbers."""
        return UNITS[self.unit].rounded(self, values)

    def clipped(self, values: pd.Series) -> pd.Series:
        """Return decoded values clipped to the range of training."""
        return UNITS[self.unit].clipped(self, values)


class Unit:
    """Base class of units: one model-space column of numbers, whose output unit has the name of the unit."""

    def parts(self, column: TableColumn) -> list[tuple[str, int]]:
        """Return the output unit and the width of each group of model-space columns."""
        return [(column.unit, 1)]

    def model_names(self, column: TableColumn) -> list[str]:
        """Return the names of the model-space columns."""
        return [column.name]

    def encode(self, column: TableColumn, values: pd.Series, unseen: UnseenLevels) -> Float[np.ndarray, "rows width"]:
        """Return the numbers of values, of numbers as text too."""
        numbers, row = as_numbers(values)
        if row is None:
            return numbers[:, None]
        value = values.iloc[row]
        found = f"{values.dtype}, such as {value!s}" if _has_no_amounts(values) else repr(plain(value))
        raise InputError(f"column {column.name!r} was numeric when the model was fitted; found {found} at row {row}")

    def decode(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> Any:
        """Return the values of numbers."""
        return numbers[:, 0]

    def with_statistics(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> TableColumn:
        """Return the column with statistics of its encoded training values."""
        return column

    def rounded(self, column: TableColumn, values: pd.Series) -> pd.Series:
        """Return decoded values rounded as those of training."""
        return values

    def clipped(self, column: TableColumn, values: pd.Series) -> pd.Series:
        """Return decoded values clipped to the range of training."""
        return values


class Real(Unit):
    """Unit of amounts."""

    def with_statistics(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> TableColumn:
        """Return the column with the decimals and the range of its finite values."""
        values = numbers[np.isfinite(numbers[:, 0]), 0]
        exact = np.float32 if column.dtype.lower() in ("float32", "float16") else np.float64
        found = _with_range(column, values)
        return replace(found, decimals=_decimals(values, exact)) if len(values) else column

    def rounded(self, column: TableColumn, values: pd.Series) -> pd.Series:
        """Return values rounded to the decimals of training."""
        if column.decimals is None:
            return values
        return pd.Series(np.round(values.to_numpy(), column.decimals), index=values.index)

    def clipped(self, column: TableColumn, values: pd.Series) -> pd.Series:
        """Return values clipped to the range of training."""
        if column.low is None:
            return values
        return pd.Series(np.clip(values.to_numpy(), column.low, column.high), index=values.index)


class Count(Unit):
    """Unit of whole numbers, 0 or more."""

    def rounded(self, column: TableColumn, values: pd.Series) -> pd.Series:
        """Return values, which scaling made inexact, as whole numbers."""
        return values.round().astype("int64")

    def clipped(self, column: TableColumn, values: pd.Series) -> pd.Series:
        """Return values of at least 0."""
        return values.clip(lower=0)


class Categorical(Unit):
    """Unit of levels: one column for each of them, 1 for the level of a row and 0 for the others."""

    def parts(self, column: TableColumn) -> list[tuple[str, int]]:
        """Return one group of the columns of all levels."""
        return [(column.unit, len(column.levels))]

    def model_names(self, column: TableColumn) -> list[str]:
        """Return the name of the column with each level."""
        return [f"{column.name}={level}" for level in column.levels]

    def encode(self, column: TableColumn, values: pd.Series, unseen: UnseenLevels) -> Float[np.ndarray, "rows width"]:
        """Return the indicators of the levels."""
        codes = unseen.treated(column.name, column.levels, column.frequent, values)
        hot = np.zeros((len(values), len(column.levels)))
        hot[np.arange(len(values)), np.maximum(codes, 0)] = 1.0
        hot[codes < 0] = np.nan
        return hot

    def decode(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> Any:
        """Return the levels with the largest numbers."""
        return _levels(column, numbers.argmax(axis=1))

    def with_statistics(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> TableColumn:
        """Return the column with its most frequent level."""
        return replace(column, frequent=int(np.nansum(numbers, axis=0).argmax()))


class Binary(Unit):
    """Unit of two values: one column of 0 and 1, the number of the level; without levels of the values 0 and 1."""

    def encode(self, column: TableColumn, values: pd.Series, unseen: UnseenLevels) -> Float[np.ndarray, "rows width"]:
        """Return the number of the level."""
        if not column.levels:
            return super().encode(column, values, unseen)
        codes = unseen.treated(column.name, column.levels, column.frequent, values)
        return np.where(codes < 0, np.nan, codes.astype(np.float64))[:, None]

    def decode(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> Any:
        """Return the second level for numbers above 1/2, else the first."""
        return _levels(column, (numbers[:, 0] > 0.5).astype(np.int64))

    def with_statistics(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> TableColumn:
        """Return the column with its more frequent level."""
        values = numbers[~np.isnan(numbers[:, 0]), 0]
        return replace(column, frequent=int(values.mean() > 0.5)) if column.levels and len(values) else column


class Date(Unit):
    """Unit of dates: days since the first one, and levels of month, weekday and, with times, hour.

    Decoding takes the days alone.
    """

    def parts(self, column: TableColumn) -> list[tuple[str, int]]:
        """Return a real column and the groups of levels."""
        return [("real", 1), *(("categorical", size) for size in _dates(column).sizes)]

    def model_names(self, column: TableColumn) -> list[str]:
        """Return the name of the column with each feature."""
        return [f"{column.name}.{name}" for name in _dates(column).names]

    def encode(self, column: TableColumn, values: pd.Series, unseen: UnseenLevels) -> Float[np.ndarray, "rows width"]:
        """Return the features of the dates."""
        message = "column {name!r} held dates when the model was fitted; found {value!r} at row {row}"
        return _dates(column).features(checked_times(column.name, values, _dates(column), message))

    def decode(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> Any:
        """Return the dates of the days."""
        times = _dates(column).times(numbers[:, 0])
        resolution = re.match(r"datetime64\[(s|ms|us|ns)\b", column.dtype)
        return times if resolution is None else times.dt.as_unit(resolution[1])

    def with_statistics(self, column: TableColumn, numbers: Float[np.ndarray, "rows width"]) -> TableColumn:
        """Return the column with the range of its days."""
        return _with_range(column, numbers[np.isfinite(numbers[:, 0]), 0])

    def clipped(self, column: TableColumn, values: pd.Series) -> pd.Series:
        """Return dates clipped to those of training."""
        if column.low is None or column.high is None:
            return values
        low, high = _dates(column).times(np.array([column.low, column.high]))
        return values.clip(low, high)


UNITS: dict[str, Unit] = {
    "real": Real(), "binary": Binary(), "categorical": Categorical(), "count": Count(), "date": Date(),
}  # fmt: skip
"""The units of columns."""


def _dates(column: TableColumn) -> DateFormat:
    assert column.dates is not None
    return column.dates


def _levels(column: TableColumn, codes: np.ndarray) -> pd.Series:
    """Return the levels of these numbers in the type of the user's column."""
    levels: list[Any] = column.levels or [0, 1]
    if column.dtype == "category":
        dtype = pd.CategoricalDtype(levels, ordered=column.ordered)
        return pd.Series(pd.Categorical.from_codes(codes.astype(np.int64), dtype=dtype))
    values = pd.Series([levels[i] for i in codes])
    has_dtype = column.dtype in ("bool", "boolean") or not column.levels
    return values.astype(pd.api.types.pandas_dtype(column.dtype)) if has_dtype else values


def _with_range(column: TableColumn, values: Float[np.ndarray, " values"]) -> TableColumn:
    return replace(column, low=float(values.min()), high=float(values.max())) if len(values) else column


def as_numbers(values: pd.Series) -> tuple[Float[np.ndarray, " rows"], int | None]:
    """Return values as float64, missing ones as NaN, and the row of the first that is not a number, or None.

    Example:
        >>> as_numbers(pd.Series(["1.5", None, "7"]))[0].tolist(), as_numbers(pd.Series(["1.5", "x"]))[1]
        ([1.5, nan, 7.0], 1)
    """
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biuf":
        return values.to_numpy(np.float64), None
    present = values.notna().to_numpy()
    if _has_no_amounts(values):
        return np.full(len(values), np.nan), int(present.argmax()) if present.any() else None
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    try:
        return pd.to_numeric(values).to_numpy(np.float64, na_value=np.nan), None
    except (ValueError, TypeError):
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        return numbers, int(np.flatnonzero(np.isnan(numbers) & present)[0])


def _has_no_amounts(values: pd.Series) -> bool:
    """Return whether the type of a column is that of dates, durations or complex numbers, which are no amounts."""
    return is_date_type(values) or values.dtype.kind in "mMc"


def _decimals(values: Float[np.ndarray, " values"], exact: type[np.floating[Any]]) -> int | None:
    """Return the least number of decimals to which rounding keeps all values; None above `MAX_DECIMALS`."""
    kept = values.astype(exact)
    return next((n for n in range(MAX_DECIMALS + 1) if (values.round(n).astype(exact) == kept).all()), None)
