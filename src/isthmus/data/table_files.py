"""Read tables from .csv and .parquet files, with the names and types of their columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from isthmus.data.dataset import Dataset, index_columns, is_row_numbers
from isthmus.data.messages import exclude_advice, hint, one_line
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_BLOCK_BYTES = 16 * 2**20
"""Block size of pyarrow. A row must fit into one block."""


def read_csv(path: Path) -> Dataset:
    """Read a .csv file as a DataFrame with pyarrow.

    The delimiter is a comma or, if the first line has no comma, a semicolon or tab. If the first line contains
    only numbers, it is a row, and the columns are named x0, x1, ... A first column without a name, such as an
    index written by pandas, contains the row names. Empty fields and NA, NaN, null are missing values.

    Raises:
        InputError: if rows differ in length (with line number), column names are missing or duplicate, there
            are no rows, or the file is not UTF-8.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    first, delimiter = _first_line(path)
    header = not _all_numbers(first)
    names = _column_names(path, first) if header else [f"x{i}" for i in range(len(first))]
    quotes = _count_quotes(
        path
    )  # without quotes no field contains a line break, and pyarrow may read blocks in parallel
    try:
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(block_size=_BLOCK_BYTES, autogenerate_column_names=not header),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=quotes > 0),
            arrow_csv.ConvertOptions(strings_can_be_null=True),
        )
    except pa.ArrowException as error:
        _refuse_ragged(path, delimiter)
        raise InputError(f"{path}: not a readable CSV file ({one_line(error)})") from None
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        _refuse_encoding(path)
    if quotes % 2:
        _refuse_open_quote(path, delimiter)
    frame = cast("pd.DataFrame", _plain_numbers(table.rename_columns(names)).to_pandas(date_as_object=False))
    return finish_table(path, frame, _csv_notes(path, first, header, delimiter))


def _first_line(path: Path) -> tuple[list[str], str]:
    """Return the fields of the first line that is not blank, and the delimiter."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = next((line for line in file if line.strip()), "")
            delimiter = "," if "," in line else ";" if ";" in line else "\t" if "\t" in line else ","
            file.seek(0)
            fields = next((fields for fields in csv.reader(file, delimiter=delimiter) if fields), [])
    except UnicodeDecodeError:
        _refuse_encoding(path)
        raise
    except csv.Error as error:
        raise InputError(f"{path}: not a readable CSV file ({error})") from None
    if not any(field.strip() for field in fields):
        raise InputError(f"{path}: line 1 is blank in every column; a CSV file must start with column names or a row")
    return [field.strip() for field in fields], delimiter


def _all_numbers(fields: Sequence[str]) -> bool:
    """Return whether all fields are numbers or empty, so that the line is a row and not a header.

    ",0,1,2" counts as a header: pandas writes it for an index and unnamed columns.
    """
    if not fields[0] and list(fields[1:]) == [str(i) for i in range(len(fields) - 1)]:
        return False
    return all(_is_number(field) for field in fields if field)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return field in ("NA", "N/A", "null", "NULL")
    return "_" not in field


def _column_names(path: Path, fields: Sequence[str]) -> list[str]:
    """Return the names in the first line. Only the first name may be empty: its column contains row names."""
    for i, name in enumerate(fields):
        if not name and i:
            raise InputError(
                f"{path}: column {i + 1} of {len(fields)} has no name in line 1; name it, or remove the extra delimiter"
            )
    _refuse_twice(path, fields)
    return list(fields)


def _refuse_twice(where: Path | str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    duplicates = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if duplicates:
        raise InputError(f"{where}: two columns have the name {duplicates[0]!r}; give each column a unique name")


def _csv_notes(path: Path, first: list[str], header: bool, delimiter: str) -> tuple[str, ...]:
    notes = []
    if not header:
        notes.append(
            f"{path.name}: line 1 contains only numbers and was read as a row; the columns are named x0, x1, ..."
        )
        if len(first) > 2 and first == [str(i) for i in range(len(first))]:
            notes.append(f"{path.name}: if line 1 contains column names 0, 1, 2, ..., change them to words")
    if delimiter != ",":
        notes.append(f"{path.name}: columns are separated by {'tabs' if delimiter == chr(9) else 'semicolons'}")
    return tuple(notes)


def _refuse_ragged(path: Path, delimiter: str) -> None:
    """Raise for the first row that has another number of fields than the first line, if there is one."""
    offenders: list[tuple[int, int]] = []
    expected, line = 0, 1
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        try:
            for fields in rows:
                expected = expected or len(fields)
                if fields and len(fields) != expected:
                    offenders.append((line, len(fields)))
                line = rows.line_num + 1
        except csv.Error:
            return  # the caller raises with the message of pyarrow
    if offenders:
        line, found = offenders[0]
        more = f" ({len(offenders) - 1} more lines differ)" if len(offenders) > 1 else ""
        raise InputError(
            f"{path}: line {line} has {pluralize(found, 'field')} and line 1 has {expected}{more}; "
            "give every line the same number of fields, and quote text that contains a delimiter"
        )


def _count_quotes(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b'"') for block in iter(lambda: file.read(2**20), b""))


def _refuse_open_quote(path: Path, delimiter: str) -> None:
    """Raise for a quote without a closing quote: the rows after it would become part of the field."""
    with path.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        line = 1
        try:
            for _ in rows:
                line = rows.line_num + 1
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(f"{path}: line {line} has an opening quote without a closing quote; add it") from None


def _refuse_encoding(path: Path) -> None:
    """Raise an `InputError` with the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}: line {number} is not UTF-8 text (byte 0x{line[error.start]:02x}); save the file as UTF-8"
                ) from None


def read_parquet(path: Path) -> Dataset:
    """Read a .parquet file as a DataFrame. Decimal numbers become float64.

    Raises:
        InputError: if the file is not a complete Parquet file or has no rows.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a complete Parquet file ({one_line(error)}); copy or save it again") from None
    return finish_table(path, _plain_numbers(table).to_pandas(date_as_object=False), ())


def _plain_numbers(table: pa.Table) -> pa.Table:
    """Convert decimal columns and columns without values to float64."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) or pa.types.is_null(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.float64()))
    return table


def finish_table(path: Path, frame: pd.DataFrame, notes: tuple[str, ...]) -> Dataset:
    """Return the table with row names from its unnamed first column or from the pandas index in the file."""
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    _refuse_twice(path, list(frame.columns))
    row_names = carried = None
    if len(frame.columns) and frame.columns[0] == "":
        row_names, carried = tuple(map(str, frame.iloc[:, 0])), frame.iloc[:, :1].copy()
        frame = frame.iloc[:, 1:].copy()
        notes = (*notes, f"{path.name}: the first column has no name and was read as row names")
    elif not is_row_numbers(frame.index):
        row_names, carried = tuple(map(str, frame.index)), index_columns(frame.index)
        frame = frame.reset_index(drop=True)
    if not len(frame):
        raise InputError(f"{path}: contains column names but no rows; add rows")
    return Dataset(frame, name=path.stem, row_names=row_names, notes=notes, carried=carried)


def as_labels(values: Sequence[Any]) -> np.ndarray:
    """Return labels (n,): numbers as a numeric array, other values, such as lists of topics, as objects."""
    if not any(isinstance(value, list) for value in values):
        labels = np.asarray(values)
        if labels.dtype.kind in "biuf":
            return labels
    return np.fromiter(values, object, len(values))


def select_columns(dataset: Dataset, exclude: Sequence[str], label_column: str | None) -> Dataset:
    """Move the label column to `labels` and drop the excluded columns.

    Raises:
        InputError: if a column is unknown, contains lists or bytes, or if no columns remain.
    """
    frame, labels = cast("pd.DataFrame", dataset.X), dataset.labels
    names = [str(name) for name in frame.columns]
    for name in (*exclude, *([label_column] if label_column is not None else [])):
        refuse_unknown(name, names, dataset.name)
    if label_column is not None:
        labels = as_labels(frame.iloc[:, names.index(label_column)].tolist())
    remaining = [i for i, name in enumerate(names) if name not in exclude and name != label_column]
    if not remaining:
        raise InputError(f"{dataset.name}: no columns remain; exclude fewer")
    frame = frame if len(remaining) == len(names) else frame.iloc[:, remaining]
    for i, dtype in enumerate(frame.dtypes):
        if str(dtype) == "object":
            _refuse_nested(dataset.name, str(frame.columns[i]), frame.iloc[:, i])
    return replace(dataset, X=frame, labels=labels)


def _refuse_nested(name: str, column: str, values: pd.Series) -> None:
    present = values.dropna()
    first = present.iloc[0] if len(present) else None
    if isinstance(first, list | dict | tuple | bytes | np.ndarray):
        kind = "list" if isinstance(first, np.ndarray) else type(first).__name__
        raise InputError(
            f"{name}: column {column!r} contains a {kind} per row; a cell must be a single value; "
            f"split the column into several columns, or {exclude_advice(column)}"
        )


def refuse_unknown(name: str, names: Sequence[str], where: str) -> None:
    """Raise if no column has this name."""
    if name not in names:
        raise InputError(f"{where}: no column {name!r}; {hint(name, names)}")
