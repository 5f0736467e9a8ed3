"""One run of an experiment: its cells, kept one by one, then the table, the pictures and the verdict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import keeping, tables
from experiments.experiment import Experiment, Row
from isthmus.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

FOLDER = "reproductions"


def run_experiment(
    experiment: Experiment,
    *,
    quick: bool,
    folder: str | os.PathLike[str] = FOLDER,
    force: bool = False,
    out: Console | None = None,
) -> bool:
    """Run the cells that are not kept yet, write the result, print its table; whether every figure agrees."""
    from isthmus import __version__

    place = result_folder(experiment.name, quick=quick, folder=folder)
    kept = _work_off(experiment, place, quick=quick, force=force, version=__version__)
    results = {name: cell.result for name, cell in kept.items()}
    rows = list(experiment.rows(results, quick))
    remarks = list(experiment.remarks(results, quick))
    passed = all(row.verdict != "MISS" for row in rows)
    minutes = sum(cell.seconds for cell in kept.values()) / 60
    machines = list(dict.fromkeys(cell.machine for cell in kept.values()))
    command = f"python -m experiments {experiment.name}" + " --quick" * quick
    facts = [
        f"`{command}`", *([tables.QUICK] if quick else []), f"seed {experiment.seed}", f"{minutes:.1f} minutes",
        *machines, f"isthmus {__version__}",
    ]  # fmt: skip
    pictures = _draw(experiment, results, place, quick=quick)
    keeping.write_text(place / "table.md", tables.markdown(rows, facts, remarks, pictures))
    told: dict[str, Any] = {
        "name": experiment.name, "claim": experiment.claim, "source": experiment.source, "quick": quick,
        "command": command, "version": __version__, "seed": experiment.seed, "minutes": round(minutes, 2),
        "machine": machines, "passed": passed, "rows": [_plain(row) for row in rows], "remarks": remarks,
        "seconds": {name: cell.seconds for name, cell in kept.items()},
        "pictures": [path.name for path in pictures.values()],
    }  # fmt: skip
    keeping.write_json(place / "result.json", keeping.finite(told))
    _print(experiment, rows, facts, remarks, quick=quick, out=out)
    missed = sum(row.verdict == "MISS" for row in rows)
    verdict = "every figure agrees" if passed else f"{missed} of {len(rows)} figures missed"
    say(f"{experiment.name}: {verdict}; table, figures and pictures are in {place}")
    return passed


def result_folder(name: str, *, quick: bool = False, folder: str | os.PathLike[str] = FOLDER) -> Path:
    """Where the result of an experiment is, or will be."""
    place = Path(folder).expanduser() / name
    return place / "quick" if quick else place


def _work_off(
    experiment: Experiment, place: Path, *, quick: bool, force: bool, version: str
) -> dict[str, keeping.Kept]:
    """Every cell's result: the kept ones, and those that are run now; a stop keeps what is finished."""
    cells = experiment.cells(quick)
    if force:
        for cell in cells:
            keeping.forget(place, cell)
    kept: dict[str, keeping.Kept] = {}
    try:
        for number, cell in enumerate(cells, 1):
            head = f"{experiment.name}: cell {number} of {len(cells)}, {cell.name}"
            found = keeping.read_kept(place, cell, version)
            if found is None:
                say(f"{head} ...")
                found = keeping.work_off(place, cell, version)
                say(f"{head}: {found.seconds:.0f} s")
            else:
                say(f"{head}: kept from an earlier run")
            kept[cell.name] = found
    except KeyboardInterrupt:
        again = f"python -m experiments {experiment.name}" + " --quick" * quick
        say(f"stopped: {len(kept)} of {len(cells)} cells are kept in {place / 'cells'}; go on with: {again}")
        raise
    return kept


def _draw(experiment: Experiment, results: dict[str, dict[str, Any]], place: Path, *, quick: bool) -> dict[str, Path]:
    """The pictures as files; their paths beside the table, by caption."""
    from isthmus.report import figures

    drawn: dict[str, Path] = {}
    for name, figure in experiment.pictures(results, quick).items():
        path = keeping.made(place / f"{name}.png")
        figures.save(figure, path, force=True, dpi=100)
        drawn[name.replace("-", " ")] = Path(path.name)
    return drawn


def _plain(row: Row) -> dict[str, Any]:
    published = row.published
    return {
        "what": row.what, "obtained": float(row.obtained), "verdict": row.verdict,
        "published": None if published is None else published.value,
        "comparison": None if published is None else published.comparison,
        "tolerance": None if published is None else published.tolerance,
        "source": None if published is None else published.source,
    }  # fmt: skip


def _print(
    experiment: Experiment,
    rows: Sequence[Row],
    facts: Sequence[str],
    remarks: Sequence[str],
    *,
    quick: bool,
    out: Console | None,
) -> None:
    """The table and what belongs under it."""
    out = out or _stdout()
    out.print(tables.terminal_table(experiment, rows, quick=quick))
    for line in ("; ".join(facts).replace("`", ""), *remarks):
        out.print(line, markup=False, highlight=False)


def _stdout() -> Console:
    """A console on stdout; a wide one where no terminal bounds it, so that nothing is cut off in a file."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=200)


def say(text: str) -> None:
    """A line of progress, on stderr."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False).print(text)


def named(experiments: dict[str, Experiment], name: str) -> Experiment:
    """The experiment of a name.

    Raises:
        InputError: there is none, with the nearest name.
    """
    import difflib

    if name in experiments:
        return experiments[name]
    near = difflib.get_close_matches(name, experiments, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"there is no experiment {name!r}; {hint}there are: {', '.join(experiments)}")
