"""Read JSON Lines files, compressed or not: one object per line."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.data.array_files import refuse_split
from isthmus.data.dataset import Dataset, Documents
from isthmus.data.messages import one_line, refusing
from isthmus.data.packed import lines, open_packed, refuse_bomb, refuse_empty_cells, stem
from isthmus.data.table_files import as_labels, finish_table, refuse_unknown
from isthmus.errors import InputError

MAX_VALUES = 500_000
"""Maximum number of commas in a line."""


def read_json_lines(path: Path, split: str | None, label_column: str | None) -> Dataset:
    """Read JSON objects, one per line.

    Records with a field "text", or "title" and "body", become `Documents`; other records become a DataFrame.
    `split` selects the records with that value in the field "split"; "all" and None select all.

    Raises:
        InputError: if a line is not a JSON object, a text is missing, a field is nested, or there are no records.
    """
    records, numbers = [], []
    for line, record in _records(path):
        if split in (None, "all") or record.get("split") == split:
            records.append(record)
            numbers.append(line)
        elif "split" not in record:
            refuse_split(path, split)
    if not records:
        which = f" of split {split!r}" if split else ""
        raise InputError(f"{path}: contains no records{which}; write one JSON object per line")
    name = f"{stem(path)}:{split}" if split else stem(path)
    text_fields = _text_fields(records[0])
    if text_fields:
        return _read_documents(path, name, records, numbers, text_fields, label_column)
    return _read_records(path, name, records, numbers)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the object of each line that is not blank."""
    refuse_bomb(path)
    number = 0
    try:
        with io.TextIOWrapper(open_packed(path), encoding="utf-8-sig") as file:
            for number, line in enumerate(lines(path, file), 1):
                if line.strip():
                    yield number, _record(path, number, line)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text after line {number}; save the file as UTF-8") from None
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path}: truncated or damaged after line {number} ({one_line(error)}); copy it again"
        ) from None


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    if line.count(",") > MAX_VALUES:
        raise InputError(f"{path}: line {number} has more than {MAX_VALUES:,} values; break it into several rows")
    try:
        record = json.loads(line)
        if "\\u" in line:
            json.dumps(record, ensure_ascii=False).encode()  # half of a surrogate pair is not text
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: line {number} is not valid JSON ({error.msg} at column {error.colno}); "
            "write one JSON object per line"
        ) from None
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}: line {number} contains the incomplete character {error.object[error.start]!a}; write it again"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise InputError(f"{path}: line {number} cannot be read ({one_line(error)}); write plain values") from None
    if not isinstance(record, dict):
        raise InputError(f"{path}: line {number} is a JSON {type(record).__name__}; it must be an object {{...}}")
    if not record and number == 1:
        raise InputError(f"{path}: line 1 is an object without fields; write one object with fields per line")
    return record


def _text_fields(record: dict[str, Any]) -> tuple[str, ...]:
    if isinstance(record.get("text"), str):
        return ("text",)
    return ("title", "body") if {"title", "body"} <= set(record) else ()


def _read_documents(
    path: Path, name: str, records: list[dict[str, Any]], numbers: list[int],
    text_fields: tuple[str, ...], label_column: str | None,
) -> Dataset:  # fmt: skip
    texts = []
    for line, record in zip(numbers, records, strict=True):
        parts = [record.get(field) for field in text_fields]
        if not all(isinstance(part, str) for part in parts):
            missing = text_fields[[isinstance(part, str) for part in parts].index(False)]
            raise InputError(f"{path}: line {line} has no text in the field {missing!r}; every record needs one")
        texts.append("\n".join(part for part in parts if part))
    labels = None
    if label_column is not None:
        refuse_unknown(label_column, list(records[0]), str(path))
        labels = as_labels([record.get(label_column) for record in records])
    ignored = ", ".join(field for field in records[0] if field not in (*text_fields, "split", label_column))
    notes = (f"{path.name}: the text is {' and '.join(text_fields)}; fields ignored: {ignored}",) if ignored else ()
    return Dataset(Documents(texts), labels, name, notes=notes)


def _read_records(path: Path, name: str, records: list[dict[str, Any]], numbers: list[int]) -> Dataset:
    import pandas as pd

    for line, record in zip(numbers, records, strict=True):
        for field, value in record.items():
            if isinstance(value, list | dict):
                raise InputError(
                    f"{path}: line {line}: field {field!r} contains a {type(value).__name__}; a table needs one value "
                    "per field, and texts need a field 'text', or 'title' and 'body'"
                )
    fields = {field for record in records for field in record}
    n_values = sum(map(len, records))
    refuse_empty_cells(path, len(records), len(fields), n_values, "records with different fields")
    with refusing(path, "no readable table", "write numbers or texts of a usual size"):
        frame = pd.DataFrame.from_records(records)
    return replace(finish_table(path, frame, ()), name=name)
