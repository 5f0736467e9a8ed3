"""Read the first sheet of an Excel workbook (.xlsx) with openpyxl, which the extra `excel` installs."""

from __future__ import annotations

import datetime
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isthmus.data.dataset import Dataset
from isthmus.data.messages import printable, refusing
from isthmus.data.packed import BLOCK_BYTES, check_member, open_zip, refuse_empty_cells
from isthmus.data.table_files import column_names, finish_table
from isthmus.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 2**20
"""The number of rows of a sheet in Excel."""

_FREE_TAGS, _TAGS_PER_BYTE = 500_000, 20
"""A part of more tags than `_FREE_TAGS` has at most `_TAGS_PER_BYTE` per compressed byte; a table has 2 to 4."""

_MAX_PART = 4 * 2**20
"""Maximum size in bytes of a part that openpyxl holds as a tree: styles, relations, the list of sheets."""


def read_excel(path: Path) -> Dataset:
    """Read the first sheet of a .xlsx file as a DataFrame. Formulas have the values that Excel stored.

    The first row that is not blank contains the names of the columns; if it contains only numbers, it is a row, and
    the columns are named x0, x1, ... Errors such as #N/A are missing values. Excel does not distinguish 1 and 1.0:
    a column of whole numbers is read as integers.

    Raises:
        InputError: if openpyxl is missing, the file is damaged, a column has no name or the name of another one, or
            there are no rows.
    """
    try:
        import openpyxl
    except ImportError:
        raise InputError(
            f'{path}: .xlsx files need the package openpyxl; install it by pip install "isthmus[excel]", '
            "or save the sheet as .csv"
        ) from None
    with refusing(path, "not a complete .xlsx file", "save it again, or as .csv"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # parts of a workbook that are not read, such as styles
        _check_parts(path)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            if not book.worksheets:
                raise InputError(f"{path}: contains no sheet with cells; save the rows in a sheet")
            rows = _rows(path, book.worksheets[0])
            names = [printable(sheet.title) for sheet in book.worksheets]
        finally:
            book.close()
        return _table(path, rows, names)


def _check_parts(path: Path) -> None:
    """Raise if a part of the workbook promises more than it holds, or if a part that is read as a tree is large."""
    with open_zip(path) as archive:
        for info in archive.infolist():
            check_member(path, info)
            streamed = "worksheets/" in info.filename or "sharedStrings" in info.filename or "media/" in info.filename
            if not streamed and info.filename.endswith((".xml", ".rels")) and info.file_size > _MAX_PART:
                raise InputError(
                    f"{path}: its part {printable(info.filename)} has {info.file_size:,} bytes, more than "
                    f"{_MAX_PART // 2**20} MiB; save the sheet as .csv"
                )
            _check_tags(path, archive, info)


def _check_tags(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Raise if a part has so many tags for its size that its tree would exhaust the memory."""
    limit, n_tags = max(_FREE_TAGS, _TAGS_PER_BYTE * info.compress_size), 0
    with archive.open(info) as part:
        while block := part.read(BLOCK_BYTES):
            n_tags += block.count(b"<")
            if n_tags > limit:
                raise InputError(
                    f"{path}: its part {printable(info.filename)} has more than {limit:,} tags in "
                    f"{info.compress_size:,} compressed bytes; save the sheet as .csv"
                )


def _rows(path: Path, sheet: Any) -> list[list[Any]]:
    """Return the values of the rows that are not blank, without missing cells at their ends."""
    rows: list[list[Any]] = []
    n_cells = n_values = 0
    for number, cells in enumerate(sheet.iter_rows(), 1):
        if number > MAX_ROWS:
            raise InputError(f"{path}: the sheet has more than {MAX_ROWS:,} rows; save it as .csv")
        values = list(_trimmed([None if cell.data_type == "e" else _plain(cell.value) for cell in cells]))
        if values:
            n_cells, n_values = n_cells + len(values), n_values + sum(value is not None for value in values)
            refuse_empty_cells(path, 1, n_cells, n_values, "a sheet of nearly empty rows")
            rows.append(values)
    return rows


def _trimmed(values: list[Any]) -> Iterator[Any]:
    length = max((i for i, value in enumerate(values, 1) if value is not None), default=0)
    yield from values[:length]


def _plain(value: Any) -> Any:
    """Return a cell as number, boolean, text or date; durations are days."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, datetime.timedelta):
        return value / datetime.timedelta(days=1)
    return str(value) if isinstance(value, datetime.time) else value


def _table(path: Path, rows: list[list[Any]], names: list[str]) -> Dataset:
    import pandas as pd

    if not rows:
        raise InputError(f"{path}: the sheet {names[0]!r} is blank; save the rows in the first sheet")
    notes = []
    if len(names) > 1:
        notes.append(f"{path.name}: the sheet {names[0]!r} is read; sheets ignored: {', '.join(names[1:])}")
    width = max(map(len, rows))
    refuse_empty_cells(path, len(rows), width, sum(map(len, rows)), "rows of different lengths")
    if all(isinstance(value, int | float) for value in rows[0]):
        columns = [f"x{i}" for i in range(width)]
        notes.append(f"{path.name}: row 1 contains only numbers and was read as a row; columns are named x0, x1, ...")
    else:
        first = rows.pop(0)
        columns = column_names(path, ["" if name is None else str(name).strip() for name in first], width)
    values = {i: [row[i] if i < len(row) else None for row in rows] for i in range(width)}
    return finish_table(path, pd.DataFrame({i: _column(values[i]) for i in values}).set_axis(columns, axis=1),
                        tuple(notes))  # fmt: skip


def _column(values: list[Any]) -> pd.Series:
    """Return a column as numbers, booleans or dates if all its values are, else as texts."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    mixed = len(kinds) > 1 and not kinds <= {int, float}
    if mixed or kinds == {str}:
        return pd.Series([None if value is None else str(value) for value in values], dtype="str")
    if kinds <= {int, float}:
        return pd.Series(values, dtype="int64" if kinds == {int} and None not in values else "float64")
    return pd.Series(values)
