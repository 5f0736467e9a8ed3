"""The result of an experiment as a table: on the terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.experiment import Bound, Experiment, Row

if TYPE_CHECKING:
    from rich.table import Table

QUICK_NOTE = "quick: figures are not comparable"
"""The note on every table of a quick form."""

HEADS = ("measured", "published", "target", "ours", "verdict")


def bound_text(bound: Bound | None, form: str) -> str:
    """Return the text of a published figure or a target.

    Example:
        >>> from experiments import Published
        >>> bound_text(Published(3.0, "at most", "a paper", 0.5), ".2f"), bound_text(None, ".2f")
        ('at most 3.00 + 0.5', '')
        >>> bound_text(Published(1.0, "within", "a theorem", 0.001), ".1f")
        '1.0 ± 0.001'
    """
    if bound is None:
        return ""
    sign = {"at most": "+", "at least": "-", "within": "±"}[bound.comparison]
    tolerance = f" {sign} {bound.tolerance:g}" if bound.tolerance else ""
    side = "" if bound.comparison == "within" else f"{bound.comparison} "
    return f"{side}{format(bound.value, form)}{tolerance}"


def entries(row: Row) -> tuple[str, ...]:
    """Return the entries of a row, in the order of `HEADS`."""
    bounds = (bound_text(bound, row.form) for bound in (row.published, row.target))
    return (row.measured, *bounds, format(row.ours, row.form), row.verdict)


def terminal_table(experiment: Experiment[Any], rows: Sequence[Row], *, quick: bool) -> Table:
    """Return the rows as a rich table."""
    from rich.table import Table
    from rich.text import Text

    title = f"{experiment.name} ({QUICK_NOTE})" if quick else experiment.name
    table = Table(title=f"{title}\n{experiment.claim}", title_justify="left")
    for head in HEADS:
        table.add_column(head, justify="left" if head in ("measured", "verdict") else "right", overflow="fold")
    for row in rows:
        *texts, verdict = entries(row)
        style = "bold red" if row.missed else "green" if verdict == "pass" else ""
        table.add_row(*map(Text, texts), Text(verdict, style))
    return table


def markdown(rows: Sequence[Row], facts: Sequence[str], remarks: Sequence[str], pictures: Mapping[str, Path]) -> str:
    """Return the table in Markdown, followed by the facts of the run, the remarks and the pictures with captions.

    Example:
        >>> from experiments import Published
        >>> print(markdown([Row("error", 3.2, Published(3.0, "at most", "a paper"))], ["seed 0"], [], {}))
        | measured | published | target | ours | verdict |
        | --- | ---: | ---: | ---: | --- |
        | error | at most 3.00 |  | 3.20 | MISS |
        <BLANKLINE>
        seed 0
        <BLANKLINE>
    """
    lines = [_line(HEADS), "| --- | ---: | ---: | ---: | --- |", *(_line(entries(row)) for row in rows), ""]
    lines += [f"{'; '.join(facts)}", ""]
    lines += [f"- {remark}" for remark in remarks] + [""] * bool(remarks)
    for caption, path in pictures.items():
        lines += [f"![{caption}]({path.as_posix()})", ""]
    return "\n".join(lines)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"
