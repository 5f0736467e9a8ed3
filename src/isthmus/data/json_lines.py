"""Read JSON Lines files, gzipped or not: one object per line."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from isthmus.data.array_files import refuse_split
from isthmus.data.dataset import Dataset, Documents
from isthmus.data.messages import one_line
from isthmus.data.table_files import as_labels, finish_table, refuse_unknown
from isthmus.errors import InputError


def read_json_lines(path: Path, split: str | None, label_column: str | None) -> Dataset:
    """Read JSON objects, one per line.

    Records with a field "text", or "title" and "body", become `Documents`; other records become a DataFrame.
    `split` selects the records with that value in the field "split"; "all" and None select all.

    Raises:
        InputError: if a line is not a JSON object, a text is missing, a field is nested, or there are no records.
    """
    records, lines = [], []
    for line, record in _records(path):
        if split in (None, "all") or record.get("split") == split:
            records.append(record)
            lines.append(line)
        elif "split" not in record:
            refuse_split(path, split)
    if not records:
        which = f" of split {split!r}" if split else ""
        raise InputError(f"{path}: contains no records{which}; write one JSON object per line")
    name = re.sub(r"\.(jsonl|ndjson)(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    name = f"{name}:{split}" if split else name
    text_fields = _text_fields(records[0])
    if text_fields:
        return _read_documents(path, name, records, lines, text_fields, label_column)
    return _read_records(path, name, records, lines)


def _open_text(path: Path) -> TextIO:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the object of each line that is not blank."""
    number = 0
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise InputError(
                            f"{path}: line {number} is a JSON {type(record).__name__}; it must be an object {{...}}"
                        )
                    yield number, record
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: line {number} is not valid JSON ({error.msg} at column {error.colno}); "
            "write one JSON object per line"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text after line {number}; save the file as UTF-8") from None
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{path}: truncated or damaged after line {number} ({one_line(error)}); copy it again"
        ) from None


def _text_fields(record: dict[str, Any]) -> tuple[str, ...]:
    if isinstance(record.get("text"), str):
        return ("text",)
    return ("title", "body") if {"title", "body"} <= set(record) else ()


def _read_documents(
    path: Path, name: str, records: list[dict[str, Any]], lines: list[int],
    text_fields: tuple[str, ...], label_column: str | None,
) -> Dataset:  # fmt: skip
    texts = []
    for line, record in zip(lines, records, strict=True):
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


def _read_records(path: Path, name: str, records: list[dict[str, Any]], lines: list[int]) -> Dataset:
    import pandas as pd

    for line, record in zip(lines, records, strict=True):
        for field, value in record.items():
            if isinstance(value, list | dict):
                raise InputError(
                    f"{path}: line {line}: field {field!r} contains a {type(value).__name__}; a table needs one value "
                    "per field, and texts need a field 'text', or 'title' and 'body'"
                )
    return replace(finish_table(path, pd.DataFrame.from_records(records), ()), name=name)
