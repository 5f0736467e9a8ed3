"""`isthmus index build`, `add`, `remove`, `info`, `restore` and `compact`: indexes of similar rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import destinations, options, sources
from isthmus.cli.reading import with_reading
from isthmus.cli.terminal import Log, print_json, print_table
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd

    from isthmus.data import Dataset
    from isthmus.retrieval.index import Index

app = typer.Typer(
    help="Build and change indexes, in which similar rows are found.",
    add_completion=False,
    no_args_is_help=True,
)  # fmt: skip

LABEL = "label"
"""Further column with the labels that data include."""

IndexPath = Annotated[
    str,
    typer.Argument(
        metavar="INDEX", show_default=False, help="Index written by `isthmus index build`: a folder or an address."
    ),
]
ModelCheck = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        show_default=False,
        help="Model file to use in place of the copy in INDEX; another model than that of INDEX is refused.",
    ),
]


@app.command()
@with_reading()
def build(
    model: options.Model,
    data: options.Data,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            metavar="INDEX",
            show_default=False,
            help="New folder, or an address of an object store such as s3://bucket/name.",
        ),
    ],
    bits: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Bits of the code of a row. Default: 64, or those of codes that are bits."
        ),
    ] = None,
    approximate: Annotated[
        bool,
        typer.Option(
            "--approximate",
            help="Add partitions of the bits for an index that is larger than memory; answers are then approximate.",
        ),
    ] = False,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Encode the rows of DATA and write an index of them, in which `isthmus search` finds similar rows.

    The index holds the bits of the codes, the codes, identifiers, the columns to keep, the labels that DATA include,
    the rows, and a copy of MODEL. Conditions of a search can name all of its columns.
    """
    from isthmus.retrieval.index import Index, check_partitioned

    destination, log = destinations.check_index_output(output, force=force, inputs=(model, data)), Log(quiet)
    fitted = sources.load_autoencoder(model, device)
    rows = with_label_column(sources.open_for_model(fitted, data, log, reading=reading))
    if approximate:
        check_partitioned(output, rows.n_rows)
    index = Index.build(
        fitted, indexed(rows), destination, n_bits=bits, columns=rows.carried, force=force,
        identifiers=identifiers_of(rows, reading.keep or []),
    )  # fmt: skip
    if approximate:
        index.partition()
    log.info(f"index of {pluralize(len(index), 'row')}, {index.bits.n_bits} bits each, written to {output}")
    if as_json:
        print_json(index.info)


@app.command()
@with_reading(without=["keep"])
def add(
    index: IndexPath,
    data: options.Data,
    model: ModelCheck = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Add the rows of DATA to INDEX: all of them, or none if the command fails or is killed.

    DATA has the columns that the index keeps. New rows are numbered from the last number on.
    """
    log, found = Log(quiet), open_index(index, model, device)
    kept = [name for stored, name in found.further_columns.items() if stored not in found.identifiers]
    reading = replace(reading, keep=[name for name in kept if name != LABEL])
    rows = sources.open_for_model(found.model, data, log, reading=reading)
    if LABEL in kept:
        rows = with_label_column(rows)
    added = found.add(indexed(rows), columns=rows.carried)
    log.info(f"{pluralize(len(added), 'row')} added to {index}, numbers {added[0]} to {added[-1]}")
    if as_json:
        print_json({"index": index, "added": len(added), "first": added[0], "rows": len(found)})


@app.command()
def remove(
    index: IndexPath,
    where: Annotated[
        str | None,
        typer.Option(metavar="CONDITION", show_default=False, help="Condition in SQL, such as 'price < 10'."),
    ] = None,
    identifier: Annotated[
        list[str] | None,
        typer.Option(
            "--id",
            metavar="ID",
            show_default=False,
            help="Identifier of a row, or its number if the index has no identifiers. Repeatable.",
        ),
    ] = None,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Remove rows from INDEX, by a condition or by identifiers. `isthmus index compact` frees their space."""
    if (where is None) == (not identifier):
        raise InputError("give one of --where and --id, which name the rows to remove")
    log, found = Log(quiet), open_index(index, None, "cpu")
    n = found.remove(where=where) if not identifier else found.remove(found.numbers_of(identifier))
    log.info(f"{pluralize(n, 'row')} removed from {index}; {len(found):,} left")
    if as_json:
        print_json({"index": index, "removed": n, "rows": len(found)})


@app.command()
def info(index: IndexPath, as_json: options.Json = False) -> None:
    """Print the contents of INDEX: its model, bits, rows, columns and versions."""
    contents = open_index(index, None, "cpu").info
    if as_json:
        print_json(contents)
        return
    from rich.table import Table

    table = Table(title=index, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in contents.items():
        if name not in ("index", "versions"):
            table.add_row(name.replace("_", " "), _shown(value))
    table.add_section()
    for each in contents["versions"][-10:]:
        table.add_row(f"version {each['version']}", f"{pluralize(each['rows'], 'row')}, {each['time']}")
    print_table(table)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


@app.command()
def restore(
    index: IndexPath,
    version: Annotated[int, typer.Argument(metavar="VERSION", show_default=False, help="Number of a version.")],
    quiet: options.Quiet = False,
) -> None:
    """Make the rows of an older version of INDEX, as `isthmus index info` lists them, the latest version."""
    found = open_index(index, None, "cpu")
    found.restore(version)
    Log(quiet).info(f"{index} has the {pluralize(len(found), 'row')} of version {version} again")


@app.command()
def compact(index: IndexPath, quiet: options.Quiet = False) -> None:
    """Write INDEX to fewer files and delete its older versions, with the rows that were removed since."""
    found = open_index(index, None, "cpu")
    found.compact()
    Log(quiet).info(f"{index} has one version, of {pluralize(len(found), 'row')}")


def open_index(path: str, model: str | None, device: str) -> Index:
    """Open an index with the model in a file, or with its own copy.

    Raises:
        InputError: no index, or an index of another model.
    """
    from isthmus.retrieval.index import Index

    given = None if model is None else sources.load_autoencoder(model, device)
    return Index.open(path, model=given, device=device)


def indexed(rows: Dataset) -> Any:
    """Return the rows that are encoded; of a table without its index, whose columns are the carried ones."""
    return rows.X.reset_index(drop=True) if hasattr(rows.X, "reset_index") else rows.X


def identifiers_of(rows: Dataset, keep: Sequence[str]) -> list[str]:
    """Return the carried columns that say which row is which: those that are not columns to keep or labels."""
    carried = [] if rows.carried is None else [str(name) for name in rows.carried.columns]
    return [name for name in carried if name not in (*keep, LABEL)]


def with_label_column(rows: Dataset) -> Dataset:
    """Return rows with their labels, if each has one, as the last carried column."""
    from dataclasses import replace

    import pandas as pd

    if rows.labels is None or any(isinstance(label, list | tuple) for label in rows.labels):
        return rows
    labels = pd.DataFrame({LABEL: pd.Series(rows.labels)})
    carried: pd.DataFrame = labels if rows.carried is None else rows.carried.assign(**{LABEL: labels[LABEL]})
    return replace(rows, carried=carried)
