"""Read tables from .csv and .parquet files, with the names and types of their columns."""

from __future__ import annotations

import codecs
import csv
import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from isthmus.data.dataset import Dataset
from isthmus.data.headers import SAMPLE_LINES, is_header, is_number
from isthmus.data.messages import exclude_advice, hint, one_line
from isthmus.data.read_options import ReadOptions
from isthmus.data.text_numbers import FORMATS, MOSTLY, NumberFormat, exceptions, number_format
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_BLOCK_BYTES = 16 * 2**20
"""Block size of pyarrow. A row must fit into one block."""


def read_csv(path: Path, options: ReadOptions | None = None) -> Dataset:
    """Read a .csv file as a DataFrame with pyarrow.

    Options that are not given are guessed from the first lines. The delimiter is a comma or, if the first line has no
    comma, a semicolon or tab. `isthmus.data.headers` decides whether the first line is a header; without one the
    columns are named x0, x1, ... A first column without a name, such as an index written by pandas, contains the row
    names. Empty fields and NA, NaN, null are missing values. Text that is a number in every row, with a decimal comma,
    a separator of thousands or a percent sign, becomes numbers, and a note says so. Whole numbers with leading zeros
    stay text.

    Raises:
        InputError: if rows differ in length (with line number), column names are missing or duplicate, there
            are no rows, the file is not in its encoding, or a column of a declared type holds something else.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    options = options or ReadOptions()
    lines, delimiter = _first_lines(path, options)
    first, body = lines[0], lines[1:]
    header = is_header(first, body) if options.header is None else options.header
    names = _column_names(path, first) if header else [f"x{i}" for i in range(len(first))]
    quotes = _count_quotes(
        path
    )  # without quotes no field contains a line break, and pyarrow may read blocks in parallel
    codes = [name for j, name in enumerate(names) if _has_leading_zeros(j, lines, header=header)]
    categories = [name for name in names if options.dtypes.get(name) == "category"]
    try:
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(
                block_size=_BLOCK_BYTES, column_names=names, skip_rows=_blank_lines(path, options) + int(header),
                encoding=options.encoding or "utf8",
            ),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=quotes > 0),
            arrow_csv.ConvertOptions(
                strings_can_be_null=True, decimal_point=options.decimal or ".",
                null_values=[*arrow_csv.ConvertOptions().null_values, *options.na],
                column_types=dict.fromkeys([*codes, *categories], pa.string()),
            ),
        )  # fmt: skip
    except pa.ArrowException as error:
        _refuse_ragged(path, delimiter, options)
        raise InputError(f"{path}: not a readable CSV file ({one_line(error)})") from None
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        _refuse_encoding(path, options)
    if quotes % 2:
        _refuse_open_quote(path, delimiter, options)
    frame = cast("pd.DataFrame", _plain_numbers(table).to_pandas(date_as_object=False))
    frame, notes, forms = with_numbers(frame, options, delimiter, codes)
    guessed = _csv_notes(path, first, header, delimiter, options)
    read = finish_table(path, frame, (*guessed, *(f"{path.name}: {note}" for note in notes)))
    return replace(read, reading=_resolved(options, delimiter, header, forms, codes))


def _first_lines(path: Path, options: ReadOptions) -> tuple[list[list[str]], str]:
    """Return the fields of the first lines that are not blank, and the delimiter."""
    try:
        with path.open(encoding=_encoding(options), newline="") as file:
            line = next((line for line in file if line.strip()), "")
            guess = "," if "," in line else ";" if ";" in line else "\t" if "\t" in line else ","
            delimiter = options.sep or guess
            file.seek(0)
            rows = (fields for fields in csv.reader(file, delimiter=delimiter) if fields)
            lines = [[field.strip() for field in fields] for fields in islice(rows, SAMPLE_LINES + 1)]
    except UnicodeDecodeError:
        _refuse_encoding(path, options)
        raise
    except (csv.Error, UnicodeError) as error:
        raise InputError(f"{path}: not a readable CSV file ({one_line(error)})") from None
    if not lines or not any(lines[0]):
        raise InputError(f"{path}: line 1 is blank in every column; a CSV file must start with column names or a row")
    return lines, delimiter


def _encoding(options: ReadOptions) -> str:
    """Return the encoding for `open`; of UTF-8 without its mark at the start."""
    name = codecs.lookup(options.encoding or "utf-8").name
    return "utf-8-sig" if name == "utf-8" else name


def _blank_lines(path: Path, options: ReadOptions) -> int:
    """Return the number of blank lines at the start."""
    with path.open(encoding=_encoding(options), newline="") as file:
        return sum(1 for _ in takewhile(lambda line: not line.strip(), file))


def _has_leading_zeros(j: int, lines: Sequence[Sequence[str]], *, header: bool) -> bool:
    """Return whether a column holds digits with leading zeros, such as postal codes, which are not numbers."""
    fields = [line[j] for line in lines[int(header) :] if len(line) > j]
    return any(len(field) > 1 and field[0] == "0" and field.isdigit() for field in fields)


def with_numbers(
    frame: pd.DataFrame, options: ReadOptions, delimiter: str, codes: Sequence[str]
) -> tuple[pd.DataFrame, list[str], set[NumberFormat]]:
    """Return a table whose text columns of numbers are numbers, without further missing markers, notes, and the forms.

    Args:
        frame: as the file was read.
        options: how to read it.
        delimiter: of the file, which decides what a comma before three digits is.
        codes: columns of digits that stay text.

    Raises:
        InputError: a column that is declared as a number holds something else.

    Example:
        >>> import pandas as pd
        >>> found, notes, _ = with_numbers(pd.DataFrame({"a": ["1,5", "20,25"]}), ReadOptions(), ";", ())
        >>> found["a"].tolist(), notes
        ([1.5, 20.25], ["column 'a' was read as numbers with ',' as decimal sign"])
    """
    notes, changed, forms = [], {}, set()
    markers = [float(text) for text in options.na if is_number(text)]
    formats = _formats(options)
    for name in frame.columns:
        values, declared = frame[name], options.dtypes.get(str(name))
        if values.dtype.kind in "iuf" and markers:
            changed[name] = values.mask(values.isin(markers))
        if not _is_text(values) or (name in codes and declared not in NUMBERS) or declared == "category":
            continue
        form, share = number_format(values, formats)
        if share == 1.0 or declared in NUMBERS:
            form = _unambiguous(values, form, delimiter, options)
            changed[name] = form.parsed(values)
            _refuse_text(str(name), values, changed[name], declared)
            forms.add(form)
            if str(form) != "numbers" and not (options.decimal or options.thousands):
                notes.append(f"column {name!r} was read as {form}")
        elif share >= MOSTLY:
            odd = exceptions(values, form)
            notes.append(
                f"column {name!r}: {share:.0%} of its values are {form}, and {', '.join(map(repr, odd[:3]))} "
                f"{'is' if len(odd) == 1 else 'are'} not, so it is text; if that stands for missing values, give "
                f"na={odd[0]!r} (--na {shlex.quote(odd[0])})"
            )
    notes += [
        f"column {name!r} has leading zeros and stays text; to read it as numbers, give dtypes={{{name!r}: 'real'}} "
        f"(--dtype {shlex.quote(f'{name}=real')})"
        for name in codes
        if options.dtypes.get(name) is None
    ]
    return (frame.assign(**changed) if changed else frame), notes, forms


def _resolved(
    options: ReadOptions, delimiter: str, header: bool, forms: Collection[NumberFormat], codes: Sequence[str]
) -> ReadOptions:
    """Return the options with what was guessed, by which a later file is read; columns may differ in their signs."""
    found: dict[str, Any] = {"sep": delimiter, "header": header}
    if options.decimal is None and options.thousands is None:
        signs = {(form.decimal, form.thousands) for form in forms} - {(".", "")}
        if len(signs) == 1:
            decimal, thousands = signs.pop()
            found |= {"decimal": decimal, "thousands": thousands or None}
    text = {name: "category" for name in codes if name not in options.dtypes}
    return replace(options, **found, dtypes={**options.dtypes, **text})


NUMBERS = ("real", "count")
"""Declared types of columns that hold numbers."""


def _formats(options: ReadOptions) -> tuple[NumberFormat, ...]:
    """Return the forms of numbers that are tried: those of the options, if some are given."""
    if options.decimal is None and options.thousands is None:
        return FORMATS
    form = NumberFormat(options.decimal or ".", options.thousands or "")
    return form, replace(form, percent=True)


def _unambiguous(values: pd.Series, form: NumberFormat, delimiter: str, options: ReadOptions) -> NumberFormat:
    """Return the form of the numbers; of "1,234" alone, thousands in a file with commas, a decimal comma in others."""
    thousands = NumberFormat(".", ",")
    if options.decimal or form != NumberFormat(",") or delimiter != ",":
        return form
    return thousands if number_format(values, (thousands,))[1] == 1.0 else form


def _is_text(values: pd.Series) -> bool:
    """Return whether a column holds texts."""
    import pandas as pd

    return pd.api.types.is_string_dtype(values) and not isinstance(values.dtype, pd.CategoricalDtype)


def _refuse_text(name: str, values: pd.Series, numbers: pd.Series, declared: str | None) -> None:
    """Raise for the first text that is not a number."""
    wrong = np.flatnonzero((numbers.isna() & values.notna()).to_numpy())
    if len(wrong):
        text = str(values.iloc[wrong[0]])
        raise InputError(
            f"column {name!r} holds {text!r} at row {wrong[0]}, which is not a number as dtype {declared!r} says; if "
            f"it stands for a missing value, give na={text!r} (--na {shlex.quote(text)})"
        )


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


def _csv_notes(path: Path, first: list[str], header: bool, delimiter: str, options: ReadOptions) -> tuple[str, ...]:
    notes = []
    if options.header is None and not header:
        notes.append(
            f"{path.name}: line 1 was read as a row; the columns are named x0, x1, ... (--header if it holds names)"
        )
    elif options.header is None and first[0] and any(map(is_number, first)):
        notes.append(f"{path.name}: line 1 was read as column names (--no-header if it is a row)")
    if options.sep is None and delimiter != ",":
        notes.append(f"{path.name}: columns are separated by {'tabs' if delimiter == chr(9) else 'semicolons'}")
    return tuple(notes)


def _refuse_ragged(path: Path, delimiter: str, options: ReadOptions) -> None:
    """Raise for the first row that has another number of fields than the first line, if there is one."""
    offenders: list[tuple[int, int]] = []
    expected, line = 0, 1
    with path.open(encoding=_encoding(options), errors="replace", newline="") as file:
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


def _refuse_open_quote(path: Path, delimiter: str, options: ReadOptions) -> None:
    """Raise for a quote without a closing quote: the rows after it would become part of the field."""
    with path.open(encoding=_encoding(options), newline="") as text:
        rows = csv.reader(text, delimiter=delimiter, strict=True)
        line = 1
        try:
            for _ in rows:
                line = rows.line_num + 1
        except csv.Error as error:
            if "end of data" in str(error):
                raise InputError(f"{path}: line {line} has an opening quote without a closing quote; add it") from None


def _refuse_encoding(path: Path, options: ReadOptions) -> None:
    """Raise an `InputError` with the first line that is not in the encoding, which is UTF-8 if none is given."""
    if options.encoding is not None:
        raise InputError(f"{path}: the text is not in {options.encoding}; give its encoding (--encoding)")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
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
    import pandas as pd

    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    _refuse_twice(path, list(frame.columns))
    row_names = None
    if len(frame.columns) and frame.columns[0] == "":
        row_names = tuple(map(str, frame.iloc[:, 0]))
        frame = frame.iloc[:, 1:].copy()
        notes = (*notes, f"{path.name}: the first column has no name and was read as row names")
    elif not isinstance(frame.index, pd.RangeIndex):
        row_names = tuple(map(str, frame.index))
        frame = frame.reset_index(drop=True)
    if not len(frame):
        raise InputError(f"{path}: contains column names but no rows; add rows")
    return Dataset(frame, name=path.stem, row_names=row_names, notes=notes)


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


def with_dtypes(frame: pd.DataFrame, options: ReadOptions, where: str) -> pd.DataFrame:
    """Return a table with the declared types of its columns; those that are to be ignored are left out.

    Raises:
        InputError: an unknown column, or a column that does not have its declared type.
    """
    names = [str(name) for name in frame.columns]
    changed: dict[Any, Any] = {}
    for name, dtype in options.dtypes.items():
        refuse_unknown(name, names, where)
        values = frame.iloc[:, names.index(name)]
        if dtype == "category":
            changed[name] = (
                values.astype("string").astype("category") if values.dtype.kind == "f" else values.astype("category")
            )
        elif dtype in NUMBERS and _is_text(values):
            changed[name] = NumberFormat().parsed(values)
            _refuse_text(name, values, changed[name], dtype)
    frame = frame.set_axis(names, axis=1).assign(**changed) if changed else frame
    if len(options.ignored) == len(names):
        raise InputError(f"{where}: no columns remain; ignore fewer")
    return frame.drop(columns=options.ignored) if options.ignored else frame


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
