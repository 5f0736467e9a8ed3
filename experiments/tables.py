"""The result of an experiment as a table: on the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.experiment import Experiment, Published, Row

if TYPE_CHECKING:
    from rich.table import Table

QUICK = "quick: figures are not comparable"
"""What the quick form of an experiment says of itself."""

HEADS = ("what", "published", "tolerance", "obtained", "verdict")


def published_text(published: Published | None, form: str) -> str:
    """A published figure as the table has it.

    Example:
        >>> published_text(Published(3.0, "at most", "a paper"), ".2f"), published_text(None, ".2f")
        ('at most 3.00', '–')
    """
    if published is None:
        return "–"
    figure = format(published.value, form)
    return figure if published.comparison == "within" else f"{published.comparison} {figure}"


def tolerance_text(published: Published | None) -> str:
    """The tolerance as the table has it, in the unit of the figure.

    Example:
        >>> tolerance_text(Published(1.0, "within", "a theorem", 0.001)), tolerance_text(None)
        ('± 0.001', '')
    """
    if published is None or not published.tolerance:
        return ""
    return f"± {published.tolerance:g}"


def cells_of(row: Row) -> tuple[str, ...]:
    """The entries of a row, in the order of `HEADS`."""
    published, form = row.published, row.form
    figures = published_text(published, form), tolerance_text(published), format(row.obtained, form)
    return (row.what, *figures, row.verdict)


def terminal_table(experiment: Experiment, rows: Sequence[Row], *, quick: bool) -> Table:
    """A rich table of the rows."""
    from rich.table import Table
    from rich.text import Text

    title = f"{experiment.name} ({QUICK})" if quick else experiment.name
    table = Table(title=f"{title}\n{experiment.claim}", title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="left" if head in ("what", "verdict") else "right", overflow="fold")
    styles = {"pass": "green", "MISS": "bold red", "": ""}
    for row in rows:
        *entries, verdict = cells_of(row)
        table.add_row(*map(Text, entries), Text(verdict, styles[verdict]))
    return table


def markdown(rows: Sequence[Row], facts: Sequence[str], remarks: Sequence[str], pictures: Mapping[str, Path]) -> str:
    """The table with what belongs under it: facts of the run, remarks, pictures by their captions.

    Example:
        >>> print(markdown([Row("error", 3.2, Published(3.0, "at most", "a paper"))], ["seed 0"], [], {}))
        | what | published | tolerance | obtained | verdict |
        | --- | ---: | ---: | ---: | --- |
        | error | at most 3.00 |  | 3.20 | MISS |
        <BLANKLINE>
        seed 0
        <BLANKLINE>
    """
    lines = [_line(HEADS), "| --- | ---: | ---: | ---: | --- |", *(_line(cells_of(row)) for row in rows), ""]
    lines += [f"{'; '.join(facts)}", ""]
    lines += [f"- {remark}" for remark in remarks] + [""] * bool(remarks)
    for caption, path in pictures.items():
        lines += [f"![{caption}]({path.as_posix()})", ""]
    return "\n".join(lines)


def _line(entries: Sequence[str]) -> str:
    return f"| {' | '.join(entry.replace('|', chr(92) + '|') for entry in entries)} |"
