"""Tables as numbers for the comparison of rows and samples: values, numbers of levels, and indicators of levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from isthmus.data.dataset import as_pandas
from isthmus.data.levels import MISSING_CODE, UNSEEN_CODE, level_codes
from isthmus.data.table_columns import TableColumn
from isthmus.data.tables import learn_columns, name_problems
from isthmus.errors import InputError

LEVEL_UNITS = ("binary", "categorical")
"""Units of columns whose values are compared as levels, and not by their order."""

MAX_LEVELS = 254
"""Levels of a column that are distinguished, the most frequent ones; the others count as one."""


@dataclass(frozen=True)
class TableEncoder:
    """The columns of a comparison.

    Values of a binary or categorical column that are not among its levels count as one further level.

    Attributes:
        columns: the columns, with the levels of binary and categorical ones.
    """

    columns: tuple[TableColumn, ...]

    @classmethod
    def of(cls, rows: pd.DataFrame, columns: Sequence[TableColumn] | None = None) -> TableEncoder:
        """Return the encoder of the columns of `rows`.

        Args:
            rows: the reference rows.
            columns: the columns, if a model knows them; None infers them from the values.

        Raises:
            InputError: a column contains dates or free text, or two columns have the same name.
        """
        rows = _named(rows)
        repeated = rows.columns[rows.columns.duplicated()]
        if len(repeated):
            raise InputError(f"two columns of the rows are named {repeated[0]!r}; rename one")
        learned = learn_columns(rows) if columns is None else columns
        encoder = cls(tuple(learned))
        encoder.check("the rows", rows)
        return cls(tuple(_with_levels(column, rows[column.name]) for column in learned))

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @property
    def has_levels(self) -> Bool[np.ndarray, " columns"]:
        """True for columns whose values are compared as levels."""
        return np.array([column.unit in LEVEL_UNITS for column in self.columns], bool)

    def check(self, name: str, table: pd.DataFrame) -> None:
        """Raise if the table has other columns.

        Raises:
            InputError: columns are missing, unknown or repeated.
        """
        parts, n_found = name_problems(self.columns, table), len(table.columns)
        parts += ["one of them occurs twice"] * (not parts and n_found > len(self.names))
        if parts:
            raise InputError(
                f"the columns of {name} are not those of the comparison: {'; '.join(parts)} "
                f"({len(self.names)} columns expected, {n_found} found); use the same columns"
            )

    def values(self, name: str, table: pd.DataFrame) -> Float[np.ndarray, "rows columns"]:
        """Return the value of each numeric column and the number of the level of each other one; NaN is missing.

        Args:
            name: the name of the table in messages.
            table: a table with the same columns, in any order.

        Raises:
            InputError: the columns differ; a numeric column contains text or infinity.
        """
        self.check(name, table)
        table = _named(table)
        values = np.empty((len(table), len(self.columns)))
        for j, column in enumerate(self.columns):
            encode = _level_numbers if column.unit in LEVEL_UNITS else _numbers
            values[:, j] = encode(column, name, table[column.name])
        return values

    def indicators(self, values: Float[np.ndarray, "rows columns"]) -> list[Float[np.ndarray, "rows levels"]]:
        """Return the indicators of the levels of each column that has some; missing entries have zeros only."""
        sizes = [(j, len(column.levels) + 1) for j, column in enumerate(self.columns) if column.unit in LEVEL_UNITS]
        return [(values[:, j, None] == np.arange(n)).astype(np.float64) for j, n in sizes]


def as_frame(name: str, table: Any) -> pd.DataFrame:
    """Return a table or an array of columns as a data frame; columns of an array are named x0, x1, ...

    Raises:
        InputError: the rows are images, sparse or texts.
    """
    table = as_pandas(table)
    if isinstance(table, pd.DataFrame):
        return table
    if hasattr(table, "tocsr") or hasattr(table, "texts"):
        raise InputError(f"{name} are sparse or texts; compare tables or arrays (n, columns)")
    array = np.asarray(table)
    if array.ndim != 2:
        raise InputError(f"{name} have the shape {array.shape}; compare tables or arrays (n, columns)")
    return pd.DataFrame(array, columns=[f"x{j}" for j in range(array.shape[1])])


def standardised(
    values: Float[np.ndarray, "rows columns"],
    reference: Float[np.ndarray, "reference columns"],
    encoder: TableEncoder,
) -> Float[np.ndarray, "rows features"]:
    """Return numeric columns in deviations of the reference, and an indicator of each level; missing entries are 0.

    Rows with different levels have a squared distance of 2 in such a column, the mean squared difference of two values
    of a standardised numeric column.
    """
    numeric = np.flatnonzero(~encoder.has_levels)
    scaled = np.zeros((len(values), len(numeric)))
    for at, j in enumerate(numeric):
        present = reference[~np.isnan(reference[:, j]), j]
        if len(present):
            scaled[:, at] = np.nan_to_num((values[:, j] - present.mean()) / (present.std() or 1.0), nan=0.0)
    return np.concatenate([scaled, *encoder.indicators(values)], axis=1)


def row_keys(values: Float[np.ndarray, "rows columns"]) -> list[bytes]:
    """Return a key of each row; rows have the same key if all their values are equal in single precision.

    Example:
        >>> first, second, third = row_keys(np.array([[0.1, np.nan], [np.float32(0.1), np.nan], [0.2, np.nan]]))
        >>> first == second, first == third
        (True, False)
    """
    rounded = np.ascontiguousarray(np.where(np.isnan(values), np.nan, values + 0.0), dtype=np.float32)
    return [row.tobytes() for row in rounded]


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_axis([str(column) for column in table.columns], axis=1)


def _with_levels(column: TableColumn, values: pd.Series) -> TableColumn:
    """Return the column with its levels, at most `MAX_LEVELS`; a numeric column has none."""
    if column.unit not in LEVEL_UNITS:
        return replace(column, levels=[])
    levels = column.levels or [0, 1]
    if len(levels) > MAX_LEVELS:
        levels = [level for level in values.value_counts().index[:MAX_LEVELS].tolist() if level in set(levels)]
    return replace(column, levels=levels)


def _numbers(column: TableColumn, name: str, values: pd.Series) -> Float[np.ndarray, " rows"]:
    if column.unit == "date":
        return column.encode(values)[:, 0]
    found = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    bad = np.flatnonzero((np.isnan(found) & values.notna().to_numpy()) | np.isinf(found))
    if len(bad):
        [value] = values.iloc[bad[:1]].tolist()
        raise InputError(
            f"the column {column.name!r} is numeric, and {name} have {value!r} at row {values.index[bad[0]]}; "
            "use finite numbers"
        )
    return np.asarray(found)


def _level_numbers(column: TableColumn, name: str, values: pd.Series) -> Float[np.ndarray, " rows"]:
    codes = level_codes(column.levels, values).astype(np.float64)
    codes[codes == MISSING_CODE] = np.nan
    return np.where(codes == UNSEEN_CODE, len(column.levels), codes)
