"""Tables: the columns that a model learns of them, and their encoding to model space and decoding back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.data.column_units import learn_column
from isthmus.data.dtypes import checked_dtypes, refuse_unknown_columns
from isthmus.data.levels import UnseenLevels
from isthmus.data.table_columns import TableColumn
from isthmus.errors import InputError

LISTED = 5
"""Largest number of columns, and of contradictions, that an error names."""


def learn_columns(table: pd.DataFrame, dtypes: Mapping[str, str] | None = None) -> list[TableColumn]:
    """Determine the unit of each column from its values, unless `dtypes` declares its type.

    Raises:
        InputError: if columns contain dates, free text or too many levels, or not what they are declared as (the
            message names them all), or if a column or type is unknown.
    """
    declared = checked_dtypes(dtypes)
    refuse_unknown_columns(declared, [str(name) for name in table.columns])
    columns, refused = [], []
    for j, name in enumerate(map(str, table.columns)):
        try:
            columns.append(learn_column(name, table.iloc[:, j], declared.get(name)))
        except InputError as error:
            refused.append(str(error))
    if refused:
        raise InputError("; ".join(refused))
    return columns


def name_problems(columns: Sequence[TableColumn], table: pd.DataFrame) -> list[str]:
    """Return the columns that a table lacks, and those that are unknown, in two texts at most."""
    expected, found = [column.name for column in columns], [str(name) for name in table.columns]
    known, present = set(expected), set(found)
    problems = []
    for what, names in (
        ("missing", [name for name in expected if name not in present]),
        ("unknown", [name for name in found if name not in known]),
    ):
        if names:
            problems.append(f"{what} {', '.join(map(repr, names[:LISTED]))}")
    return problems


def _encoded(
    columns: Sequence[TableColumn], table: pd.DataFrame, unseen: UnseenLevels
) -> tuple[list[np.ndarray], list[str]]:
    """Return the encoded columns that a table has, and for each that contradicts its unit what is wrong."""
    place = {str(name): j for j, name in enumerate(table.columns)}
    parts, problems = [], []
    for column in columns:
        if column.name not in place:
            continue
        try:
            parts.append(column.encode(table.iloc[:, place[column.name]], unseen))
        except InputError as error:
            problems.append(str(error))
    return parts, problems


def contradictions(columns: Sequence[TableColumn], table: pd.DataFrame) -> list[str]:
    """Return in which columns, of those that it has, a table contradicts what they were in training.

    Example:
        >>> contradictions([TableColumn("a", "real"), TableColumn("b", "real")], pd.DataFrame({"a": ["x"], "c": [1]}))
        ["column 'a' was numeric when the model was fitted; found 'x' at row 0"]
    """
    return _encoded(columns, table, UnseenLevels())[1]


def joined(problems: Sequence[str]) -> str:
    """Return problems in one line; of more than `LISTED` the first ones.

    Example:
        >>> joined(["missing 'a'", "column 'b' contains 'x'"])
        "missing 'a'; column 'b' contains 'x'"
    """
    more = f"; and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return "; ".join(problems[:LISTED]) + more


def encode_table(
    columns: Sequence[TableColumn], table: pd.DataFrame, unseen: UnseenLevels | None = None
) -> Float[np.ndarray, "rows columns"]:
    """Encode the table as numbers, (n, sum of widths), float64. Missing values become NaN.

    Args:
        columns: the columns.
        table: a table with these columns in any order.
        unseen: the treatment of values that are no level; they count as missing by default, with a warning.

    Raises:
        InputError: missing or unknown columns, and columns with other values than in training, in one message.
    """
    unseen = UnseenLevels() if unseen is None else unseen
    names = name_problems(columns, table)
    parts, problems = _encoded(columns, table, unseen)
    if names:
        raise InputError(
            f"the columns differ from those the model was fitted on: {joined([*names, *problems])} "
            f"({len(columns)} columns expected, {len(table.columns)} found)"
        )
    if problems:
        raise InputError(joined(problems))
    unseen.warn()
    return np.concatenate(parts, axis=1) if parts else np.empty((len(table), 0))


def column_slices(columns: Sequence[TableColumn]) -> Iterator[tuple[TableColumn, slice]]:
    """Yield each column with the place of its model-space columns."""
    start = 0
    for column in columns:
        width = column.width
        yield column, slice(start, start + width)
        start += width


def part_slices(columns: Sequence[TableColumn]) -> Iterator[tuple[str, slice]]:
    """Yield the output unit of each group of model-space columns, with its place."""
    start = 0
    for column in columns:
        for unit, width in column.parts:
            yield unit, slice(start, start + width)
            start += width


def decode_table(columns: Sequence[TableColumn], numbers: Float[np.ndarray, "rows columns"]) -> pd.DataFrame:
    """Decode numbers to a table in the user's units. A categorical value is the level with the largest number."""
    return pd.DataFrame({column.name: column.decode(numbers[:, place]) for column, place in column_slices(columns)})


def with_statistics(columns: Sequence[TableColumn], numbers: Float[np.ndarray, "rows columns"]) -> list[TableColumn]:
    """Return the columns with the decimals and ranges of numbers, and the most frequent levels.

    Args:
        columns: the columns of a table.
        numbers: rows of it, encoded by `encode_table`.

    Example:
        >>> with_statistics([TableColumn("age", "real")], np.array([[31.5], [40.25], [np.nan]]))[0].decimals
        2
    """
    return [column.with_statistics(numbers[:, place]) for column, place in column_slices(columns)]


def in_units_of_columns(samples: Any, columns: Sequence[TableColumn]) -> Any:
    """Return samples of a table in the units of its columns; samples of other data as they are.

    Real columns are rounded to the decimals of the training values and clipped to their range, as dates are. Counts,
    which scaling made inexact, are rounded to whole numbers.

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
    known = {column.name: column for column in columns}
    return _changed(rounded(samples, columns), {name: column.clipped for name, column in known.items()})


def in_nullable_types(values: Any, columns: Sequence[TableColumn]) -> Any:
    """Return a decoded table with whole numbers in columns of nullable integers, which hold no others.

    So `X.fillna(model.reconstruct(X))` is possible. Other rows are returned as they are.

    Example:
        >>> found = in_nullable_types(pd.DataFrame({"n": [2.4]}), [TableColumn("n", "count", dtype="Int64")])
        >>> found["n"].tolist(), found["n"].dtype
        ([2], Int64Dtype())
    """
    if not isinstance(values, pd.DataFrame):
        return values
    changed = {}
    for column in columns:
        dtype = pd.api.types.pandas_dtype(column.dtype)
        numbers = values[column.name]
        if _is_nullable_integer(dtype) and pd.api.types.is_float_dtype(numbers.dtype):
            limits = np.iinfo(getattr(dtype, "numpy_dtype", np.int64))
            changed[column.name] = numbers.round().clip(limits.min, np.nextafter(float(limits.max), 0)).astype(dtype)
    return values.assign(**changed) if changed else values


def _is_nullable_integer(dtype: Any) -> bool:
    return pd.api.types.is_extension_array_dtype(dtype) and pd.api.types.is_integer_dtype(dtype)


def rounded(table: pd.DataFrame, columns: Sequence[TableColumn]) -> pd.DataFrame:
    """Return a table with real columns rounded to the decimals of the training values, and counts to whole numbers.

    Example:
        >>> rounded(pd.DataFrame({"age": [31.5700001]}), [TableColumn("age", "real", decimals=2)])["age"].tolist()
        [31.57]
    """
    return _changed(table, {column.name: column.rounded for column in columns})


def _changed(table: pd.DataFrame, changes: Mapping[str, Callable[[pd.Series], pd.Series]]) -> pd.DataFrame:
    """Return a table with columns changed by functions."""
    changed = {name: change(table[name]) for name, change in changes.items()}
    return pd.DataFrame({name: changed.get(name, table[name]) for name in table.columns}, index=table.index)


def to_config(columns: Sequence[TableColumn]) -> list[dict[str, Any]]:
    """Convert the columns to JSON-serialisable dictionaries."""
    return [asdict(column) for column in columns]


def from_config(config: Sequence[Mapping[str, Any]]) -> list[TableColumn]:
    """Build the columns from the result of `to_config`."""
    return [TableColumn.from_config(item) for item in config]
