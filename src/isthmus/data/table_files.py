"""Tables in files: .csv and .parquet. Names and types of columns are kept."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from isthmus.data.dataset import Dataset
from isthmus.data.messages import hint, one_line
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_BLOCK_BYTES = 16 * 2**20
"""pyarrow wants a row to fit into a block; one of 16 MiB is wider than any table we know."""


def read_csv(path: Path) -> Dataset:
    """A .csv file as a DataFrame, read by pyarrow.

    Columns are separated by commas, or by semicolons or tabs where the first line has no comma. A first
    line of numbers only is a row, and the columns are called x0, x1, ...; a first column without a name
    (as pandas writes its index) names the rows. Empty fields and NA, NaN, null are missing values.

    Raises:
        InputError: ragged rows (their line numbers), names missing or twice, no rows, or not UTF-8.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    first, delimiter = _first_line(path)
    header = not _all_numbers(first)
    names = _column_names(path, first) if header else [f"x{i}" for i in range(len(first))]
    quotes = _count_quotes(path)  # without any, no field can hold a line break, and threads may cut the file
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
    """The fields of the first line that is not blank, and what separates them."""
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
        raise InputError(f"{path}: line 1 is blank in every column; a CSV file begins with the names or a row")
    return [field.strip() for field in fields], delimiter


def _all_numbers(fields: Sequence[str]) -> bool:
    """Whether these fields are a row rather than names: numbers, but for missing ones.

    ",0,1,2" is a header none the less: it is what pandas writes above its index and unnamed columns.
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
    """The names in the first line; "" stands only for a first column that names the rows."""
    for i, name in enumerate(fields):
        if not name and i:
            raise InputError(
                f"{path}: column {i + 1} of {len(fields)} has no name in line 1; name it, or take away "
                "a delimiter too many"
            )
    _refuse_twice(path, fields)
    return list(fields)


def _refuse_twice(where: Path | str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise InputError(f"{where}: two columns are called {twice[0]!r}; give each column a name of its own")


def _csv_notes(path: Path, first: list[str], header: bool, delimiter: str) -> tuple[str, ...]:
    notes = []
    if not header:
        notes.append(f"{path.name}: line 1 is all numbers and was read as a row; the columns are x0, x1, ...")
        if len(first) > 2 and first == [str(i) for i in range(len(first))]:
            notes.append(f"{path.name}: if 0, 1, 2, ... in line 1 are names of columns, give them letters")
    if delimiter != ",":
        notes.append(f"{path.name}: columns are separated by {'tabs' if delimiter == chr(9) else 'semicolons'}")
    return tuple(notes)


def _refuse_ragged(path: Path, delimiter: str) -> None:
    """Raise for the first row with another number of fields than the first line, if there is one."""
    offenders: list[tuple[int, int]] = []
    wanted, line = 0, 1
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        try:
            for fields in rows:
                wanted = wanted or len(fields)
                if fields and len(fields) != wanted:
                    offenders.append((line, len(fields)))
                line = rows.line_num + 1
        except csv.Error:
            return  # pyarrow's own words will have to do
    if offenders:
        line, found = offenders[0]
        more = f" ({len(offenders) - 1} more lines are ragged)" if len(offenders) > 1 else ""
        raise InputError(
            f"{path}: line {line} has {pluralize(found, 'field')} and line 1 has {wanted}{more}; "
            "give every line the same number of fields, with quotes around text that holds a delimiter"
        )


def _count_quotes(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b'"') for block in iter(lambda: file.read(2**20), b""))


def _refuse_open_quote(path: Path, delimiter: str) -> None:
    """Raise for a quote that is never closed: it would swallow the rows after it, unnoticed."""
    with path.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        line = 1
        try:
            for _ in rows:
                line = rows.line_num + 1
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(f"{path}: line {line} opens a quote that is never closed; close it") from None


def _refuse_encoding(path: Path) -> None:
    """Raise for the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}: line {number} is not UTF-8 text (byte 0x{line[error.start]:02x}); save the file as UTF-8"
                ) from None


def read_parquet(path: Path) -> Dataset:
    """A .parquet file as a DataFrame; decimal numbers become float64.

    Raises:
        InputError: not a whole Parquet file, or no rows.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a whole Parquet file ({one_line(error)}); copy or save it again") from None
    return finish_table(path, _plain_numbers(table).to_pandas(date_as_object=False), ())


def _plain_numbers(table: pa.Table) -> pa.Table:
    """Decimal numbers, and columns without any value, as float64."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) or pa.types.is_null(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.float64()))
    return table


def finish_table(path: Path, frame: pd.DataFrame, notes: tuple[str, ...]) -> Dataset:
    """A table with its row names: its unnamed first column, or the index that pandas kept in the file."""
    import pandas as pd

    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    _refuse_twice(path, list(frame.columns))
    row_names = None
    if len(frame.columns) and frame.columns[0] == "":
        row_names = tuple(map(str, frame.iloc[:, 0]))
        frame = frame.iloc[:, 1:].copy()
        notes = (*notes, f"{path.name}: the first column has no name and was read as the names of the rows")
    elif not isinstance(frame.index, pd.RangeIndex):
        row_names = tuple(map(str, frame.index))
        frame = frame.reset_index(drop=True)
    if not len(frame):
        raise InputError(f"{path}: has names of columns but no rows")
    return Dataset(frame, name=path.stem, row_names=row_names, notes=notes)


def as_labels(values: Sequence[Any]) -> np.ndarray:
    """Labels (n,): numbers as they are, anything else (lists of topics too) as objects."""
    if not any(isinstance(value, list) for value in values):
        labels = np.asarray(values)
        if labels.dtype.kind in "biuf":
            return labels
    return np.fromiter(values, object, len(values))


def select_columns(dataset: Dataset, exclude: Sequence[str], label_column: str | None) -> Dataset:
    """Set the column of labels aside and drop the excluded ones.

    Raises:
        InputError: an unknown column (the nearest is suggested), columns of lists or bytes, none left.
    """
    frame, labels = cast("pd.DataFrame", dataset.X), dataset.labels
    names = [str(name) for name in frame.columns]
    for name in (*exclude, *([label_column] if label_column is not None else [])):
        refuse_unknown(name, names, dataset.name)
    if label_column is not None:
        labels = as_labels(frame.iloc[:, names.index(label_column)].tolist())
    kept = [i for i, name in enumerate(names) if name not in exclude and name != label_column]
    if not kept:
        raise InputError(f"{dataset.name}: no columns are left to learn from; exclude fewer")
    frame = frame if len(kept) == len(names) else frame.iloc[:, kept]
    for i, dtype in enumerate(frame.dtypes):
        if str(dtype) == "object":
            _refuse_nested(dataset.name, str(frame.columns[i]), frame.iloc[:, i])
    return Dataset(frame, labels, dataset.name, dataset.row_names, dataset.notes)


def _refuse_nested(name: str, column: str, values: pd.Series) -> None:
    present = values.dropna()
    first = present.iloc[0] if len(present) else None
    if isinstance(first, list | dict | tuple | bytes | np.ndarray):
        kind = "list" if isinstance(first, np.ndarray) else type(first).__name__
        raise InputError(
            f"{name}: column {column!r} holds a {kind} a row; a table takes one value a cell: "
            "spread it over columns, or exclude it"
        )


def refuse_unknown(name: str, names: Sequence[str], where: str) -> None:
    """Raise for a name that is no column's."""
    if name not in names:
        raise InputError(f"{where}: has no column {name!r}; {hint(name, names)}")
