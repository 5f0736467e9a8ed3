"""Read tables from .csv, .tsv, .parquet and Arrow files, with the names and types of their columns."""

from __future__ import annotations

import codecs
import csv
import io
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from isthmus.data.dataset import Dataset, index_columns, is_row_numbers
from isthmus.data.headers import SAMPLE_LINES, is_header, is_number
from isthmus.data.messages import exclude_advice, hint, one_line, refusing
from isthmus.data.packed import (
    BLOCK_BYTES,
    check_content,
    is_packed,
    lines,
    open_packed,
    pattern,
    refuse_bomb,
    stem,
)
from isthmus.data.read_options import ReadOptions
from isthmus.data.text_numbers import NumberFormat, is_text, number_format, suspected_thousands, with_numbers
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CSV, TSV = pattern("csv", "tsv"), pattern("tsv")
"""Names of delimited files, and of those whose delimiter is a tab."""

MAX_COLUMNS = 250_000
"""Maximum number of fields in a row of a delimited file."""

MAX_ROW = 4 * 2**20
"""Maximum size of a row of a delimited file in bytes, and the block size of pyarrow: a row fits into one block."""

AS_TEXT = ("category", "text")
"""Declared types of columns whose text is not read as numbers."""

_WIDE, _SMALL_FILE = 5000, 64 * 2**20
"""Number of columns, and size in bytes, of a file whose rows are counted before pyarrow allocates its columns."""


def read_csv(path: Path, options: ReadOptions | None = None) -> Dataset:
    """Read a .csv or .tsv file, compressed or not, as a DataFrame with pyarrow.

    Options that are not given are guessed from the first lines. The delimiter of .tsv is a tab. That of .csv is a comma
    or, if the first line has no comma, a semicolon or tab. `isthmus.data.headers` decides whether the first line is a
    header; without one the columns are named x0, x1, ... A first column without a name, such as an index written by
    pandas, contains the row names. Empty fields and NA, NaN, null are missing values. Text that is a number in every
    row, with a decimal comma, a separator of thousands or a percent sign, becomes numbers, and a note says so. Whole
    numbers with leading zeros stay text. In a file of one column a blank line is a missing value.

    Raises:
        InputError: if rows differ in length (with line number), column names are missing or duplicate, there
            are no rows, the file is not in its encoding, damaged, or holds far more than its compressed size, or a
            column of a declared type holds something else.
    """
    refuse_bomb(path)
    with refusing(path, "not a readable CSV file", "save it again"):
        return _read_csv(path, options or ReadOptions())


def _read_csv(path: Path, options: ReadOptions, thousands: Collection[str] = ()) -> Dataset:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    first, body, delimiter = _first_lines(path, options)
    raw, first = first, [field.strip() for field in first]
    header = is_header(first, body) if options.header is None else options.header
    names = column_names(path, first) if header else [f"x{i}" for i in range(len(first))]
    if len(names) > _WIDE and path.stat().st_size < _SMALL_FILE and _refuse_ragged(path, delimiter, options) <= header:
        raise _no_rows(path)
    quotes = _count_quotes(
        path
    )  # without quotes no field contains a line break, and pyarrow may read blocks in parallel
    codes = [name for j, name in enumerate(names) if _has_leading_zeros(j, [first, *body], header=header)]
    try:
        with open_packed(path) as file:
            table = arrow_csv.read_csv(
                path if not is_packed(path) else file,
                arrow_csv.ReadOptions(
                    block_size=MAX_ROW, autogenerate_column_names=not header, encoding=options.encoding or "utf8",
                    skip_rows=_blank_lines(path, options),
                ),
                arrow_csv.ParseOptions(
                    delimiter=delimiter, newlines_in_values=quotes > 0, ignore_empty_lines=len(names) > 1
                ),
                arrow_csv.ConvertOptions(
                    strings_can_be_null=True, decimal_point=options.decimal or ".",
                    null_values=[*arrow_csv.ConvertOptions().null_values, *options.na],
                    column_types={
                        raw[j] if header else f"f{j}": pa.string()
                        for j, name in enumerate(names)
                        if name in codes or name in thousands or options.dtypes.get(name) in AS_TEXT
                    },
                ),
            )  # fmt: skip
    except pa.ArrowException as error:
        _refuse_ragged(path, delimiter, options)
        if "straddl" in str(error):
            raise _long_row(path) from None
        raise InputError(f"{path}: not a readable CSV file ({one_line(error)}); save it again") from None
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        _refuse_encoding(path, options)
    if quotes % 2:
        _refuse_open_quote(path, delimiter, options)
    frame = cast("pd.DataFrame", _plain_numbers(table.rename_columns(names)).to_pandas(date_as_object=False))
    frame, notes, forms = with_numbers(frame, options, delimiter, codes, thousands)
    shown = [line for line in ([] if header else [first]) + body if len(line) == len(names)]
    if options.decimal is None and options.thousands is None and not thousands:
        shown = [line for line in ([] if header else [first]) + body if len(line) == len(names)]
        fields = {name: [line[j] for line in shown] for j, name in enumerate(names)}
        suspected, more = suspected_thousands(frame, fields, forms, delimiter)
        if suspected:
            return _read_csv(path, options, suspected)
        notes += more
    guessed = _csv_notes(path, first, header, delimiter, options)
    read = finish_table(path, frame, (*guessed, *(f"{path.name}: {note}" for note in notes)))
    return replace(read, reading=_resolved(replace(options, header=header), frame, forms, codes))


def with_written_numbers(data: Dataset, options: ReadOptions) -> Dataset:
    """Return a table of another file than .csv with numbers in place of texts that are numbers, and missing values.

    Args:
        data: the table as its file holds it.
        options: the forms of the numbers, and the values that are missing.
    """
    frame, notes, forms = with_numbers(cast("pd.DataFrame", data.X), options, "", ())
    data = replace(data, X=frame, reading=_resolved(options, frame, forms, ()))
    return data.with_notes(*(f"{data.name}: {note}" for note in notes))


def _open_text(path: Path, options: ReadOptions, errors: str = "strict") -> io.TextIOWrapper:
    return io.TextIOWrapper(open_packed(path), encoding=_encoding(options), errors=errors, newline="")


def _rows(path: Path, file: IO[str], delimiter: str, strict: bool = False) -> Iterator[tuple[int, list[str], int]]:
    """Yield the line number and the fields of each row, and the line number of the next.

    Raises:
        InputError: if a row is longer than `MAX_ROW` or has more than `MAX_COLUMNS` fields.
        csv.Error: if a row is not CSV.
    """
    length = n_fields = 0

    def checked() -> Iterator[str]:
        """Yield the lines, and refuse a row that is too long before the csv module holds it."""
        nonlocal length, n_fields
        for line in lines(path, file, MAX_ROW):
            length, n_fields = length + len(line), n_fields + line.count(delimiter)
            if length > MAX_ROW or n_fields > MAX_COLUMNS:
                raise InputError(
                    f"{path}: line {number} starts a row of more than {MAX_ROW // 2**20} MiB or {MAX_COLUMNS:,} "
                    "fields; check its quotes, and save fewer columns"
                )
            yield line

    rows, number = csv.reader(checked(), delimiter=delimiter, strict=strict), 1
    for fields in rows:
        yield number, fields, rows.line_num + 1
        number = rows.line_num + 1
        length = n_fields = 0


def _first_lines(path: Path, options: ReadOptions) -> tuple[list[str], list[list[str]], str]:
    """Return the fields of the first line that is not blank, those of some lines below, and the delimiter."""
    delimiter = options.sep or ("\t" if TSV.search(path.name) else None)
    try:
        if delimiter is None:
            with _open_text(path, options) as file:
                shown = [line.strip() for line in islice(lines(path, file, MAX_ROW), SAMPLE_LINES) if line.strip()]
            delimiter = _guessed_delimiter(shown)
        with _open_text(path, options) as file:
            found = _sampled(fields for _, fields, _ in _rows(path, file, delimiter) if fields)
    except UnicodeDecodeError:
        _refuse_encoding(path, options)
        raise
    except (csv.Error, UnicodeError) as error:
        raise InputError(f"{path}: not a readable CSV file ({one_line(error)}); save it again") from None
    if not found or not any(field.strip() for field in found[0]):
        raise InputError(f"{path}: line 1 is blank in every column; a CSV file must start with column names or a row")
    return found[0], found[1:], delimiter


def _blank_lines(path: Path, options: ReadOptions) -> int:
    """Return the number of blank lines at the start of a file."""
    with _open_text(path, options) as file:
        return sum(1 for _ in takewhile(lambda line: not line.strip("\r\n"), lines(path, file, MAX_ROW)))


def _guessed_delimiter(shown: Sequence[str]) -> str:
    """Return the delimiter: a comma or, if the first line has none, a semicolon or a tab.

    Lines of one column of numbers with decimal commas have another one than the comma, which does not occur.

    Example:
        >>> _guessed_delimiter(["a;b", "1,5;2"]), _guessed_delimiter(["a", "1,5", "2"])
        (';', ';')
    """
    first = shown[0] if shown else ""
    found = next((sign for sign in (",", ";", "\t") if sign in first), "")
    decimals = NumberFormat(",").pattern
    is_one_column = any("," in line for line in shown[1:]) and all(decimals.fullmatch(line) for line in shown[1:])
    return found or (";" if is_one_column else ",")


def _sampled(rows: Iterator[list[str]]) -> list[list[str]]:
    """Return the first rows; those before a row that the csv module does not read, such as one with a long text.

    Raises:
        csv.Error: it is the first row.
    """
    found: list[list[str]] = []
    try:
        found.extend(islice(rows, 1))
        for row in islice(rows, SAMPLE_LINES):
            found.append(row)
    except csv.Error:
        if not found:
            raise
    return found


def _encoding(options: ReadOptions) -> str:
    """Return the encoding for `open`; of UTF-8 without its mark at the start."""
    name = codecs.lookup(options.encoding or "utf-8").name
    return "utf-8-sig" if name == "utf-8" else name


def _has_leading_zeros(j: int, lines: Sequence[Sequence[str]], *, header: bool) -> bool:
    """Return whether a column holds digits with leading zeros, such as postal codes, which are not numbers."""
    fields = [line[j] for line in lines[int(header) :] if len(line) > j]
    return any(len(field) > 1 and field[0] == "0" and field.isdigit() for field in fields)


def with_notes_on_numbers(data: Dataset) -> Dataset:
    """Return a table with a note on each column of texts that are numbers."""
    frame = cast("pd.DataFrame", data.X)
    notes = []
    for j, name in enumerate(map(str, frame.columns)):
        form, share = number_format(frame.iloc[:, j]) if is_text(frame.iloc[:, j]) else (NumberFormat(), 0.0)
        if share == 1.0:
            notes.append(
                f"{data.name}: column {name!r} is text, and its values are {form}; to read it as numbers, give "
                f"dtypes={{{name!r}: 'real'}} (--dtype {shlex.quote(f'{name}=real')})"
            )
    return data.with_notes(*notes)


def _resolved(
    options: ReadOptions, frame: pd.DataFrame, forms: Mapping[str, NumberFormat], codes: Sequence[str]
) -> ReadOptions:
    """Return the options with what was guessed, by which a later file is read.

    Columns may differ in their signs: the decimal sign is guessed again in a later file, if some numbers of this one
    have a comma and others have a point.

    The separator is guessed for each file: its first line shows it.
    """
    found: dict[str, Any] = {}
    if options.decimal is None and options.thousands is None:
        signs = {(form.decimal, form.thousands) for form in forms.values()} - {(".", "")}
        if {decimal for decimal, _ in signs} == {","}:
            found |= {} if _has_points(frame, forms) else {"decimal": ","}
        elif len(signs) == 1:
            decimal, thousands = signs.pop()
            found |= {"decimal": decimal, "thousands": thousands or None}
    text = {name: "category" for name in codes if name not in options.dtypes}
    affixes = {name: form.affix for name, form in forms.items() if form.affix}
    return replace(options, **found, dtypes={**options.dtypes, **text}, affixes={**options.affixes, **affixes})


def _has_points(frame: pd.DataFrame, forms: Mapping[str, NumberFormat]) -> bool:
    """Return whether a column has fractions that were written with a decimal point."""
    points = [name for name in frame if str(name) not in forms or forms[str(name)].decimal == "."]
    return any(frame[name].dtype.kind == "f" and bool((frame[name].dropna() % 1 != 0).any()) for name in points)


def column_names(path: Path, fields: Sequence[str], width: int = 0) -> list[str]:
    """Return the names in the first line. Only the first name may be empty: its column contains row names.

    Args:
        path: file, for the message.
        fields: the first line.
        width: the number of columns, if it may be larger.
    """
    fields = [*fields, *[""] * (width - len(fields))]
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


def _csv_notes(path: Path, first: list[str], header: bool, delimiter: str, options: ReadOptions) -> tuple[str, ...]:
    notes = []
    if options.header is None and not header:
        notes.append(
            f"{path.name}: line 1 was read as a row; the columns are named x0, x1, ... (--header if it holds names)"
        )
    elif options.header is None and first[0] and any(map(is_number, first)):
        notes.append(f"{path.name}: line 1 was read as column names (--no-header if it is a row)")
    if options.sep is None and len(first) == 1 and "|" in first[0]:
        notes.append(f"{path.name}: was read as one column; if | separates columns, give --sep '|'")
    if options.sep is None and delimiter != "," and not TSV.search(path.name):
        notes.append(f"{path.name}: columns are separated by {'tabs' if delimiter == chr(9) else 'semicolons'}")
    return tuple(notes)


def _refuse_ragged(path: Path, delimiter: str, options: ReadOptions) -> int:
    """Raise for the first row that has another number of fields than the first line; else return the number of rows."""
    offenders: list[tuple[int, int]] = []
    expected = n_rows = 0
    with _open_text(path, options, errors="replace") as file:
        try:
            for line, fields, _ in _rows(path, file, delimiter):
                expected = expected or len(fields)
                n_rows += bool(fields)
                if fields and len(fields) != expected:
                    offenders.append((line, len(fields)))
        except csv.Error:
            return n_rows  # pyarrow refuses the file, or reads it
    if offenders:
        line, found = offenders[0]
        more = f" ({len(offenders) - 1} more lines differ)" if len(offenders) > 1 else ""
        raise InputError(
            f"{path}: line {line} has {pluralize(found, 'field')} and line 1 has {expected}{more}; "
            "give every line the same number of fields, and quote text that contains a delimiter"
        )
    return n_rows


def _count_quotes(path: Path) -> int:
    """Return the number of quotes.

    Raises:
        InputError: if a line is longer than `MAX_ROW`.
    """
    quotes = length = 0
    with open_packed(path) as file:
        while block := file.read(BLOCK_BYTES):
            quotes += block.count(b'"')
            end = max(block.rfind(b"\n"), block.rfind(b"\r"))
            length = length + len(block) if end < 0 else len(block) - end
            if length > MAX_ROW:
                raise _long_row(path)
    return quotes


def _long_row(path: Path) -> InputError:
    return InputError(
        f"{path}: contains a row longer than {MAX_ROW // 2**20} MiB; close an open quote, or break the text into rows"
    )


def _refuse_open_quote(path: Path, delimiter: str, options: ReadOptions) -> None:
    """Raise for a quote without a closing quote: the rows after it would become part of the field."""
    line = 1
    with _open_text(path, options) as file:
        try:
            for _, _, following in _rows(path, file, delimiter, strict=True):
                line = following
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(f"{path}: line {line} has an opening quote without a closing quote; add it") from None


def _refuse_encoding(path: Path, options: ReadOptions) -> None:
    """Raise an `InputError` with the first line that is not in the encoding, which is UTF-8 if none is given."""
    if options.encoding is not None:
        raise InputError(f"{path}: the text is not in {options.encoding}; give its encoding (--encoding)")
    with open_packed(path) as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise InputError(f"{path}: the text is UTF-16; give encoding='utf-16' (--encoding utf-16)")
    with open_packed(path) as file:
        for number, line in enumerate(lines(path, file, MAX_ROW), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}: line {number} is not UTF-8 text (byte 0x{line[error.start]:02x}); give its encoding, "
                    "such as encoding='latin-1' (--encoding latin-1), or save the file as UTF-8"
                ) from None


def read_parquet(path: Path) -> Dataset:
    """Read a .parquet file as a DataFrame. Decimal numbers become float64.

    Raises:
        InputError: if the file is not a complete Parquet file, has no rows, or promises far more than its size.
    """
    from pyarrow import parquet

    with refusing(path, "not a complete Parquet file", "copy or save it again"):
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            _check_promise(path, file.metadata.num_rows, file.metadata.num_columns)
            if path.stat().st_size < _SMALL_FILE:
                _check_repeated_texts(path, file.schema_arrow)
            table = file.read()
        table.validate(full=True)
        return _from_arrow(path, table)


def _check_repeated_texts(path: Path, schema: pa.Schema) -> None:
    """Raise if the texts of a Parquet file, stored once and repeated by reference, are far larger than the file."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    kinds = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
    names = [field.name for field in schema if field.type in kinds]
    if not names:
        return
    n_bytes = 0
    with parquet.ParquetFile(path, read_dictionary=names) as file:
        for column in file.read(columns=names).columns:
            for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
                chunk.validate(full=True)
                lengths = compute.binary_length(chunk.dictionary).cast(pa.int64())
                n_bytes += compute.sum(lengths.take(chunk.indices)).as_py() or 0
    check_content(path, n_bytes, path.stat().st_size)


def read_arrow(path: Path) -> Dataset:
    """Read an Arrow IPC file, such as .feather or .arrow, as a DataFrame. Decimal numbers become float64.

    Raises:
        InputError: if the file is not a complete Arrow file, has no rows, or promises far more than its size.
    """
    import pyarrow as pa

    with refusing(path, "not a complete Arrow file", "copy or save it again"):
        with path.open("rb") as head:
            is_file = head.read(6) == b"ARROW1"
        with pa.OSFile(str(path)) as file, (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file) as reader:
            table = reader.read_all()
        _check_promise(path, table.num_rows, table.num_columns)
        table.validate(full=True)
        return _from_arrow(path, table)


def _check_promise(path: Path, n_rows: int, n_columns: int) -> None:
    """Raise if a columnar file promises more values, of 8 bytes, than its compressed bytes can hold."""
    check_content(path, 8 * n_rows * n_columns, path.stat().st_size)


def _from_arrow(path: Path, table: pa.Table) -> Dataset:
    """Return an Arrow table as a data set. Damaged metadata of pandas are ignored."""
    table = _plain_numbers(table)
    try:
        return finish_table(path, table.to_pandas(date_as_object=False), ())
    except InputError:
        raise
    except Exception as error:
        if b"pandas" not in (table.schema.metadata or {}):
            raise
        frame = table.replace_schema_metadata().to_pandas(date_as_object=False)
        return finish_table(path, frame, (f"{path.name}: damaged metadata of pandas were ignored ({one_line(error)})",))


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
        raise _no_rows(path)
    return Dataset(frame, name=stem(path), row_names=row_names, notes=notes, carried=carried)


def _no_rows(path: Path) -> InputError:
    return InputError(f"{path}: contains column names but no rows; add rows")


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
    for name in exclude:
        refuse_unknown(name, names, dataset.name)
    if label_column is not None and label_column not in _identifiers(dataset):
        refuse_unknown(label_column, names, dataset.name)
    if label_column is not None:
        labels = as_labels(_column(dataset, label_column).tolist())
    remaining = [i for i, name in enumerate(names) if name not in exclude and name != label_column]
    if not remaining:
        raise InputError(f"{dataset.name}: no columns remain; exclude fewer")
    frame = frame if len(remaining) == len(names) else frame.iloc[:, remaining]
    for i, dtype in enumerate(frame.dtypes):
        if str(dtype) == "object":
            _refuse_nested(dataset.name, str(frame.columns[i]), frame.iloc[:, i])
    return replace(dataset, X=frame, labels=labels)


def _identifiers(dataset: Dataset) -> list[str]:
    """Return the names of the carried columns, such as a named index of a Parquet file."""
    return [] if dataset.carried is None else [str(name) for name in dataset.carried.columns if name]


def _column(dataset: Dataset, name: str) -> pd.Series:
    """Return a column of the rows, or one that is carried."""
    frame = cast("pd.DataFrame", dataset.X)
    names = [str(column) for column in frame.columns]
    return frame.iloc[:, names.index(name)] if name in names else cast("pd.DataFrame", dataset.carried)[name]


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
