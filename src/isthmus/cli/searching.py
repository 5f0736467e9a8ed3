"""`isthmus search` and `isthmus duplicates`: similar rows of an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import destinations, options, outputs, sources
from isthmus.cli.indexing import IndexPath, ModelCheck, indexed, open_index
from isthmus.cli.reading import with_reading
from isthmus.cli.terminal import Log, one_line, print_json, print_table
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from isthmus.retrieval.index import Index
    from isthmus.retrieval.reader import Neighbours

SUFFIXES = (".csv", ".parquet")
SHOWN_COLUMNS, SHOWN_CHARACTERS, SHOWN_QUERIES, SHOWN_GROUPS, SHOWN_MEMBERS = 8, 60, 20, 50, 10

Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        show_default=False,
        help=f"Write all results with the columns of their rows to a file: {', '.join(SUFFIXES)}.",
    ),
]


@with_reading(without=["keep", "extra_columns"], extra_columns="ignore")
def search(
    index: IndexPath,
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="[QUERY]",
            show_default=False,
            help="Rows to find neighbours of: words, if the model reads texts; an image file; or data as for `encode`.",
        ),
    ] = None,
    row: Annotated[
        int | None,
        typer.Option(metavar="N", show_default=False, help="Find neighbours of row N of INDEX in place of QUERY."),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="K", min=1, help="Neighbours of each query.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="CONDITION",
            show_default=False,
            help="Condition in SQL on the rows that are found, such as \"price < 10 and city = 'Oslo'\".",
        ),
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(
            metavar="codes|cosine|rows",
            show_default=False,
            help="Order the nearest candidates by the distance of codes, by their angle, or by the distance of rows. "
            "Default: by the number of bits that differ.",
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare all bits, also of an index that was built with --approximate.")
    ] = False,
    output: Output = None,
    model: ModelCheck = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Find the rows of INDEX that are most similar to QUERY, or to one of its own rows.

    Rows are ordered by the number of bits of their codes that differ, and then by number. Columns of QUERY that the
    model does not read are left out.
    """
    if (query is None) == (row is None):
        raise InputError("give QUERY, or a row of the index with --row N")
    destination = None if output is None else _checked(output, force, (index, query, model))
    log, found = Log(quiet), open_index(index, model, device)
    if row is not None:
        near, names = found.search_row(row, k, where=where, rerank=rerank, exact=exact), [f"row {row}"]
    else:
        X, names = queries(found, str(query), log, reading)
        near = found.search(X, k, where=where, rerank=rerank, exact=exact)
    if where is not None and (near.rows < 0).any():
        log.note(f"fewer than {pluralize(k, 'row')} found for a query: those for which {where} holds")
    table = neighbour_table(found, near)
    if destination is not None:
        outputs.write_rows(destination, table.reset_index(drop=True), force=force)
        log.info(f"{pluralize(len(table), 'neighbour')} of {_n_queries(len(names))} written to {output}")
    if as_json:
        print_json({"index": index, "measure": near.measure, "queries": _as_json(found, near, names)})
    elif destination is None and not quiet:
        _print_neighbours(table, near, names, log)


def queries(index: Index, query: str, log: Log, reading: sources.Reading) -> tuple[Any, list[str]]:
    """Return the rows of a query and their names: words, one image, or data.

    Raises:
        InputError: data that cannot be read, or that do not fit the model.
    """
    from isthmus.data.dataset import Documents
    from isthmus.data.images import IMAGE_SUFFIXES
    from isthmus.data.named import is_named
    from isthmus.data.readers import KNOWN_SUFFIXES

    if not query.strip():
        raise InputError("the query is empty; give words, a file, or a row of the index with --row N")
    path = Path(query).expanduser()
    is_text = index.model.preprocessing_.inputs.source == "text"
    is_source = is_named(query) or _exists(path) or (query.lower().endswith(KNOWN_SUFFIXES) and " " not in query)
    if is_text and not is_source:
        _note_unknown_words(index, query, log)
        return Documents([query]), [query]
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        return _image(index, path, log), [path.name]
    rows = sources.open_for_model(index.model, query, log, reading=reading)
    names = [f"query {i}" for i in range(rows.n_rows)] if rows.row_names is None else list(rows.row_names)
    return indexed(rows), names


def _note_unknown_words(index: Index, query: str, log: Log) -> None:
    """Note that a model of texts reads no word of a query, whose neighbours are then arbitrary."""
    vocabulary = index.model.preprocessing_.inputs.vocabulary
    if vocabulary is not None and not vocabulary.rows([query]).nnz:
        log.note(f"the model knows no word of {shortened(query)!r}: the rows found are those nearest to an empty text")


def _exists(path: Path) -> bool:
    """Return whether a text is the path of a file or folder; long texts are not."""
    try:
        return path.exists()
    except OSError:
        return False


def _image(index: Index, path: Path, log: Log) -> np.ndarray:
    """Return one image in the size and the colours of those of the model.

    Raises:
        InputError: a model of other rows than images of bytes.
    """
    from isthmus.data.images import read_image

    known = index.model.preprocessing_.inputs
    if known.layout not in ("nhw", "nhwc", "nchw") or known.dtype != "uint8":
        fitted = "texts" if known.source == "text" else f"{known.description or known.source} ({known.dtype})"
        raise InputError(f"{path}: an image, and the model was fitted on {fitted}; give rows of that form")
    shape = known.row_shape[-2:] if known.layout == "nchw" else known.row_shape[:2]
    pixels = read_image(path, (shape[0], shape[1]), colour=known.layout != "nhw")
    log.note(f"{path.name}: read as an image of {shape[0]}x{shape[1]}")
    return (pixels.transpose(2, 0, 1) if known.layout == "nchw" else pixels)[None]


def neighbour_table(index: Index, near: Neighbours) -> pd.DataFrame:
    """Return a line for each neighbour: the number of its query, its row, its distance, and the columns of the row."""
    import numpy as np
    import pandas as pd

    query, place = np.nonzero(near.rows >= 0)
    rows = near.rows[query, place]
    found = pd.DataFrame({"query": query, "row": rows, "distance": near.distances[query, place]})
    return outputs.after(found, index.table(rows))


def _checked(output: str, force: bool, inputs: destinations.Inputs) -> Path:
    """Check the path of a file of results."""
    advice = f"results are written as {', '.join(SUFFIXES)}"
    return destinations.check_format(output, SUFFIXES, advice, force=force, inputs=inputs)


def _n_queries(n: int) -> str:
    return "1 query" if n == 1 else f"{n:,} queries"


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the lines of a table as plain data; times are text, and missing values are None.

    Example:
        >>> import pandas as pd
        >>> records(pd.DataFrame({"day": pd.to_datetime(["2024-01-31", None]), "n": [1, 2]}))
        [{'day': '2024-01-31T00:00:00.000', 'n': 1}, {'day': None, 'n': 2}]
    """
    text = table.reset_index(drop=True).to_json(orient="records", date_format="iso", double_precision=15)
    found: list[dict[str, Any]] = json.loads(text)
    return found


def _as_json(index: Index, near: Neighbours, names: list[str]) -> list[dict[str, Any]]:
    """Return the neighbours of each query as plain data."""
    found = []
    for name, rows, distances in zip(names, near.rows, near.distances, strict=True):
        rows, distances = rows[rows >= 0], distances[rows >= 0]
        columns = records(index.table(rows)) if len(index.columns) > 1 else [{} for _ in rows]
        lines = zip(rows.tolist(), distances.tolist(), columns, strict=True)
        found.append({"query": name, "neighbours": [{"row": r, "distance": d, "columns": c} for r, d, c in lines]})
    return found


def _print_neighbours(table: pd.DataFrame, near: Neighbours, names: list[str], log: Log) -> None:
    """Print the neighbours of the first queries."""
    title = "bits that differ" if near.measure == "bits" else f"distance ({near.measure})"
    for number, name in list(enumerate(names))[:SHOWN_QUERIES]:
        own = table[table.iloc[:, 0] == number].iloc[:, 1:]
        _print(own, f"neighbours of {shortened(name)}", ["row", title])
    if len(names) > SHOWN_QUERIES:
        log.note(f"{_n_queries(len(names) - SHOWN_QUERIES)} more; -o FILE or --json gives all")


def _print(lines: pd.DataFrame, title: str, first: list[str]) -> None:
    """Print lines of a table, whose first columns get other names, with the columns that there is space for."""
    from rich.table import Table

    shown = Table(title=title, title_justify="left")
    for name in (*first, *map(str, lines.columns[len(first) :][:SHOWN_COLUMNS])):
        shown.add_column(name, overflow="fold")
    for values in lines.iloc[:, : len(first) + SHOWN_COLUMNS].itertuples(index=False):
        shown.add_row(*map(shortened, values))
    print_table(shown)


def shortened(value: Any) -> str:
    """Return a value as one short line of text.

    Example:
        >>> shortened("a\\nb"), shortened(0.123456789), len(shortened("a" * 100))
        ('a b', '0.123457', 60)
    """
    text = f"{value:.6g}" if isinstance(value, float) else one_line(str(value))
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def duplicates(
    index: IndexPath,
    distance: Annotated[
        int, typer.Option(metavar="N", min=0, help="Bits in which the codes of a pair differ at most.")
    ] = 2,
    row_distance: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            min=0,
            show_default=False,
            help="Verify pairs: their rows are at most this far apart, in scaled units. Default: not verified.",
        ),
    ] = None,
    output: Output = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """List groups of near-equal rows of INDEX: rows that pairs within --distance connect."""
    import pandas as pd

    destination = None if output is None else _checked(output, force, (index,))
    log, found = Log(quiet), open_index(index, None, "cpu")
    groups = found.duplicates(distance, row_distance=row_distance)
    n_rows = sum(map(len, groups))
    log.info(f"{pluralize(len(groups), 'group')} of {n_rows:,} near-equal rows, of {pluralize(len(found), 'row')}")
    if as_json:
        print_json({"index": index, "distance": distance, "groups": [group.tolist() for group in groups]})
    members = groups if destination is not None else [group[:SHOWN_MEMBERS] for group in groups[:SHOWN_GROUPS]]
    lines = [(number, row) for number, group in enumerate(members) for row in group.tolist()]
    named = pd.DataFrame(lines, columns=["group", "row"])
    table = outputs.after(named, found.table(named["row"].to_numpy(int)))
    if destination is not None:
        outputs.write_rows(destination, table.reset_index(drop=True), force=force)
        log.info(f"{pluralize(len(table), 'row')} written to {output}")
    elif groups and not (as_json or quiet):
        _print(table, "near-equal rows", ["group", "row"])
        if len(table) < n_rows:
            log.note(f"{pluralize(n_rows - len(table), 'row')} more; -o FILE or --json gives all")
