"""What an experiment is: cells of work, and rows that set what came out of them beside what was published."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Comparison = Literal["at most", "at least", "within"]

Settings = Mapping[str, Any]
"""All that a cell's result depends on, as plain data: a kept result is recognised by it."""

Result = Mapping[str, Any]
"""What came out of a cell, as plain data."""

Results = Mapping[str, Result]
"""What came out of every cell, by the name of the cell."""


@dataclass(frozen=True)
class Published:
    """A published figure, or a bound that a theorem or the claim sets, and how ours is compared with it.

        at most     obtained <= value + tolerance
        at least    obtained >= value - tolerance
        within      |obtained - value| <= tolerance

    Attributes:
        value: the figure.
        comparison: "at most", "at least" or "within".
        source: where it stands.
        tolerance: in the unit of the figure.

    Example:
        >>> Published(3.0, "at most", "a paper").allows(2.9), Published(0.0, "within", "a theorem", 0.1).allows(-0.2)
        (True, False)
    """

    value: float
    comparison: Comparison
    source: str
    tolerance: float = 0.0

    def allows(self, obtained: float) -> bool:
        """Whether what was obtained agrees; what is no number never does."""
        if not math.isfinite(obtained):
            return False
        if self.comparison == "at most":
            return obtained <= self.value + self.tolerance
        if self.comparison == "at least":
            return obtained >= self.value - self.tolerance
        return abs(obtained - self.value) <= self.tolerance


@dataclass(frozen=True)
class Row:
    """A line of the result's table.

    Attributes:
        what: what was measured, with its unit.
        obtained: our figure.
        published: what it is compared with; None where it is told and not judged.
        form: how figures are written, as `format` takes it.

    Example:
        >>> Row("error", 3.2, Published(3.0, "at most", "a paper")).verdict, Row("minutes", 4.0).verdict
        ('MISS', '')
    """

    what: str
    obtained: float
    published: Published | None = None
    form: str = ".2f"

    @property
    def verdict(self) -> str:
        """ "pass", "MISS", or nothing where there is nothing to compare with."""
        if self.published is None:
            return ""
        return "pass" if self.published.allows(self.obtained) else "MISS"


@dataclass(frozen=True)
class Cell:
    """A unit of work whose result is kept as soon as it is there.

    Attributes:
        name: a file name, unique in the experiment.
        settings: all that the result depends on.
        work: (settings, state) -> result; settings and result are plain data, `state` is a path beside which a
            long run may keep its state.
    """

    name: str
    settings: Settings
    work: Callable[[Settings, Path], Result]


@dataclass(frozen=True)
class Experiment:
    """A published claim and the way to see whether it holds here.

    `cells`, `rows`, `remarks` and `pictures` take `quick` last: the quick form has the same cells at a scale that
    takes seconds, and compares only with what is true at that scale.

    Attributes:
        name: what `python -m experiments NAME` takes.
        claim: in one line.
        source: where it is claimed.
        protocol: how it is tried here, in words.
        minutes: about how long it takes on two cores.
        seed: of all that is drawn.
        cells: quick -> the cells, in the order in which they run.
        rows: results, quick -> the lines of the table.
        remarks: results, quick -> what else is to be said, a sentence each.
        pictures: results, quick -> figures by the name of their file, without suffix.
    """

    name: str
    claim: str
    source: str
    protocol: str
    minutes: float
    seed: int
    cells: Callable[[bool], Sequence[Cell]]
    rows: Callable[[Results, bool], Sequence[Row]]
    remarks: Callable[[Results, bool], Sequence[str]]
    pictures: Callable[[Results, bool], Mapping[str, Figure]]
