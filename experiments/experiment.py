"""The parts of an experiment: cells of work, and rows that compare the results with published figures and targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Comparison = Literal["at most", "at least", "within"]

Settings = Mapping[str, Any]
"""Everything that the result of a cell depends on, as plain data. A stored result is recognised by it."""

Result = Mapping[str, Any]
"""The result of a cell, as plain data."""

Results = Mapping[str, Result]
"""The results of all cells, by the name of the cell."""


@dataclass(frozen=True)
class Bound:
    """A figure, and the rule that compares ours with it.

        at most     ours <= value + tolerance
        at least    ours >= value - tolerance
        within      |ours - value| <= tolerance

    Attributes:
        value: the figure.
        comparison: "at most", "at least" or "within".
        source: the paper, book or theorem of a published figure; the reason of a target.
        tolerance: in the unit of the figure.

    Example:
        >>> Published(3.0, "at most", "a paper").allows(2.9), Published(0.0, "within", "a theorem", 0.1).allows(-0.2)
        (True, False)
    """

    value: float
    comparison: Comparison
    source: str
    tolerance: float = 0.0

    def allows(self, ours: float) -> bool:
        """Return whether our figure satisfies the comparison; NaN and infinities never do."""
        if not math.isfinite(ours):
            return False
        if self.comparison == "at most":
            return ours <= self.value + self.tolerance
        if self.comparison == "at least":
            return ours >= self.value - self.tolerance
        return abs(ours - self.value) <= self.tolerance


@dataclass(frozen=True)
class Published(Bound):
    """A figure that a paper or book states, or a theorem or claim of it ("A errs no more than B": at most 1)."""


@dataclass(frozen=True)
class Target(Bound):
    """A figure that we set ourselves: no source states it."""


@dataclass(frozen=True)
class Row:
    """A row of the result table.

    Attributes:
        measured: the measured quantity, with its unit.
        ours: our figure.
        published: the published figure of the same quantity, if a source states one.
        target: the figure that we aim at, if we set one.
        form: format specification of the figures.
        comparable: whether ours is measured under the conditions of the published figure. If not, the published
            figure is shown and not judged; a remark of the experiment gives the reason.

    Example:
        >>> Row("error", 3.2, Published(3.0, "at most", "a paper")).verdict, Row("minutes", 4.0).verdict
        ('MISS', '')
        >>> Row("error", 3.2, Published(3.0, "at most", "a paper"), Target(3.5, "at most", "an aim")).verdict
        'published MISS, target pass'
    """

    measured: str
    ours: float
    published: Published | None = None
    target: Target | None = None
    form: str = ".2f"
    comparable: bool = True

    @property
    def published_verdict(self) -> str:
        """ "pass", "MISS", "n/c" (not comparable), or "" without a published figure."""
        if self.published is not None and not self.comparable:
            return "n/c"
        return _verdict(self.published, self.ours)

    @property
    def target_verdict(self) -> str:
        """ "pass", "MISS", or "" without a target."""
        return _verdict(self.target, self.ours)

    @property
    def verdict(self) -> str:
        """The one verdict where both agree or only one is given, else both."""
        published, target = self.published_verdict, self.target_verdict
        if published and target and published != target:
            return f"published {published}, target {target}"
        return published or target

    @property
    def missed(self) -> bool:
        """Whether the published figure or the target was missed."""
        return "MISS" in self.verdict


def _verdict(bound: Bound | None, ours: float) -> str:
    if bound is None:
        return ""
    return "pass" if bound.allows(ours) else "MISS"


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One form of an experiment, full or quick. Each experiment adds its own settings.

    Attributes:
        published: published figures by key. They are compared with the results and used for nothing else.
        targets: targets by key.
    """

    published: Mapping[str, Published] = field(default_factory=dict)
    targets: Mapping[str, Target] = field(default_factory=dict)

    def row(self, measured: str, ours: float, key: str = "", form: str = ".2f") -> Row:
        """Return a row of the table, with the published figure and the target of the key where this form has them.

        Example:
            >>> Setup(targets={"time": Target(5.0, "at most", "an aim")}).row("minutes", 6.0, "time").verdict
            'MISS'
        """
        return Row(measured, ours, self.published.get(key), self.targets.get(key), form)


S = TypeVar("S", bound=Setup)


@dataclass(frozen=True)
class Cell:
    """A unit of work. Its result is stored as soon as it is complete.

    Attributes:
        name: a file name, unique in the experiment.
        settings: everything that the result depends on.
        work: (settings, state) -> result. Settings and result are plain data; `state` is a path for the checkpoint
            of a long run.
    """

    name: str
    settings: Settings
    work: Callable[[Settings, Path], Result]


@dataclass(frozen=True)
class Experiment(Generic[S]):
    """A published claim, and the work that tests it.

    `cells`, `rows`, `remarks` and `pictures` take the setup last: `full`, or `quick`, which takes seconds on data
    that the package ships and judges only what holds at that scale.

    Attributes:
        name: the argument of `python -m experiments`.
        claim: in one line.
        source: of the claim.
        protocol: of the full form, in words.
        minutes: approximate duration on two cores.
        seed: of all random numbers.
        full: the settings of the full form.
        quick: the settings of the quick form.
        cells: setup -> the cells, in the order in which they run.
        rows: results, setup -> the rows of the table.
        remarks: results, setup -> further findings, a sentence each.
        pictures: results, setup -> figures by file name without suffix.
    """

    name: str
    claim: str
    source: str
    protocol: str
    minutes: float
    seed: int
    full: S
    quick: S
    cells: Callable[[S], Sequence[Cell]]
    rows: Callable[[Results, S], Sequence[Row]]
    remarks: Callable[[Results, S], Sequence[str]]
    pictures: Callable[[Results, S], Mapping[str, Figure]]

    def setup(self, *, quick: bool) -> S:
        """Return the settings of one form."""
        return self.quick if quick else self.full
