"""`isthmus describe`: the columns of a table as a model would read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from isthmus.cli import options, sources
from isthmus.cli.reading import with_read_options
from isthmus.cli.terminal import Log, print_json, print_table

if TYPE_CHECKING:
    from isthmus.data import Dataset
    from isthmus.data.description import ColumnDescription

MAX_LINES = 30
"""Largest number of columns that `isthmus fit` lists."""


@with_read_options
def describe(
    data: options.Data, as_json: options.Json = False, quiet: options.Quiet = False, *, text: Any = None
) -> None:
    """Print what each column of DATA is taken for, and what looks wrong, with the option that changes it.

    Nothing is fitted. Rows that are not a table are described in one line.
    """
    from isthmus.data.declared_rows import without_split
    from isthmus.data.description import describe_table

    log = Log(quiet)
    rows = without_split(sources.open_labelled(data, None, text), text.dtypes)
    for note in rows.notes:
        log.note(note)
    columns = describe_table(rows.X, text.dtypes) if hasattr(rows.X, "columns") else []
    if as_json:
        print_json({
            "data": rows.name, "rows": rows.n_rows, "description": sources.describe(rows), "notes": list(rows.notes),
            "columns": [column.to_dict() for column in columns],
        })  # fmt: skip
        return
    if quiet:
        return
    if not columns:
        print(sources.describe(rows))
        return
    _print(rows, columns)
    for column in columns:
        for warning in column.warnings:
            log.warn(warning if column.unit == "refused" else f"column {column.name!r}: {warning}")


def _print(rows: Dataset, columns: list[ColumnDescription]) -> None:
    """Print the columns as a table."""
    from rich.table import Table

    table = Table(title=sources.describe(rows), title_justify="left")
    table.add_column("column", style="bold", overflow="fold")
    for name in ("unit", "values", "missing", "example"):
        table.add_column(name, overflow="fold")
    for column in columns:
        missing = f"{column.missing:.1%}" if column.missing else ""
        table.add_row(column.name, column.unit, column.values, missing, column.example)
    print_table(table)


def log_columns(rows: Dataset, dtypes: Mapping[str, str], log: Log) -> None:
    """Log the columns of a table with their units, and a warning for each that looks wrong.

    Columns that no model reads are left to the error of the fit.
    """
    from isthmus.data.description import describe_table

    if log.quiet or not hasattr(rows.X, "columns"):
        return
    columns = describe_table(rows.X, dtypes)
    for column in columns[:MAX_LINES]:
        missing = f", {column.missing:.1%} missing" if column.missing else ""
        log.info(f"column {column.name}: {column.unit}, {column.values}{missing}; such as {column.example}")
    if len(columns) > MAX_LINES:
        log.info(f"and {len(columns) - MAX_LINES} more columns; isthmus describe lists all")
    for column in columns:
        for text in column.warnings if column.unit != "refused" else ():
            log.warn(f"column {column.name!r}: {text}")
