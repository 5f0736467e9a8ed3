"""Run an experiment: complete its cells, then write the table, the pictures and the verdict."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import storage, tables
from experiments.experiment import Bound, Experiment, Row
from isthmus.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

FOLDER = "reproductions"


def run_experiment(
    experiment: Experiment[Any],
    *,
    quick: bool,
    folder: str | os.PathLike[str] = FOLDER,
    force: bool = False,
    out: Console | None = None,
) -> bool:
    """Run the cells that are not stored yet, write the result and print its table.

    Returns:
        Whether no published figure and no target was missed.
    """
    from isthmus import __version__

    path, setup = result_folder(experiment.name, quick=quick, folder=folder), experiment.setup(quick=quick)
    cells = _complete(experiment, path, quick=quick, force=force, version=__version__)
    results = {name: cell.result for name, cell in cells.items()}
    rows, remarks = list(experiment.rows(results, setup)), list(experiment.remarks(results, setup))
    minutes = sum(cell.seconds for cell in cells.values()) / 60
    machines = list(dict.fromkeys(cell.machine for cell in cells.values()))
    commits = list(dict.fromkeys(cell.commit for cell in cells.values()))
    command = _command(experiment, quick=quick)
    facts = [
        f"`{command}`", *([tables.QUICK_NOTE] if quick else []), f"seed {experiment.seed}", f"{minutes:.1f} minutes",
        *machines, f"isthmus {__version__}", f"run at commit {', '.join(commits)}",
    ]  # fmt: skip
    pictures = _draw(experiment, results, path, quick=quick)
    storage.write_text(path / "table.md", tables.markdown(rows, facts, remarks, pictures))
    missed = sum(row.missed for row in rows)
    summary: dict[str, Any] = {
        "name": experiment.name, "claim": experiment.claim, "source": experiment.source, "quick": quick,
        "command": command, "version": __version__, "commits": commits, "seed": experiment.seed,
        "minutes": round(minutes, 2), "machine": machines, "passed": not missed,
        "rows": [_plain(row) for row in rows], "remarks": remarks,
        "cells": {name: {"seconds": cell.seconds, "commit": cell.commit} for name, cell in cells.items()},
        "pictures": [picture.name for picture in pictures.values()],
    }  # fmt: skip
    storage.write_json(path / "result.json", storage.finite(summary))
    _print(experiment, rows, facts, remarks, quick=quick, out=out)
    judged = sum(bool(row.verdict) for row in rows)
    verdict = f"{missed} of {judged} judged rows missed" if missed else "no figure missed"
    say(f"{experiment.name}: {verdict}; the table and the pictures are in {path}")
    return not missed


def result_folder(name: str, *, quick: bool = False, folder: str | os.PathLike[str] = FOLDER) -> Path:
    """Return the folder of an experiment's result."""
    path = Path(folder).expanduser() / name
    return path / "quick" if quick else path


def _command(experiment: Experiment[Any], *, quick: bool) -> str:
    return f"python -m experiments {experiment.name}" + " --quick" * quick


def _complete(
    experiment: Experiment[Any], path: Path, *, quick: bool, force: bool, version: str
) -> dict[str, storage.StoredCell]:
    """Return every cell, read from its file or run now. An interruption keeps the cells that are complete."""
    cells = experiment.cells(experiment.setup(quick=quick))
    if force:
        for cell in cells:
            storage.remove(path, cell)
    done: dict[str, storage.StoredCell] = {}
    try:
        for number, cell in enumerate(cells, 1):
            head = f"{experiment.name}: cell {number} of {len(cells)}, {cell.name}"
            found = storage.read_stored(path, cell, version)
            if found is None:
                say(f"{head} ...")
                found = storage.run_cell(path, cell, version)
                say(f"{head}: {found.seconds:.0f} s")
            else:
                say(f"{head}: stored by an earlier run")
            done[cell.name] = found
    except KeyboardInterrupt:
        again = _command(experiment, quick=quick)
        say(f"interrupted: {len(done)} of {len(cells)} cells are stored in {path / 'cells'}; resume with: {again}")
        raise
    return done


def _draw(
    experiment: Experiment[Any], results: dict[str, dict[str, Any]], folder: Path, *, quick: bool
) -> dict[str, Path]:
    """Save the pictures; return their paths relative to the table, by caption."""
    from isthmus.report import figures

    saved: dict[str, Path] = {}
    for name, figure in experiment.pictures(results, experiment.setup(quick=quick)).items():
        path = storage.with_parent(folder / f"{name}.png")
        figures.save(figure, path, force=True, dpi=100)
        saved[name.replace("-", " ")] = Path(path.name)
    return saved


def _plain(row: Row) -> dict[str, Any]:
    """Return a row as plain data."""

    def plain(bound: Bound | None) -> dict[str, Any] | None:
        return None if bound is None else asdict(bound)

    return {
        "measured": row.measured, "published": plain(row.published), "target": plain(row.target),
        "ours": float(row.ours), "verdict": row.verdict, "published_verdict": row.published_verdict,
        "target_verdict": row.target_verdict,
    }  # fmt: skip


def _print(
    experiment: Experiment[Any],
    rows: Sequence[Row],
    facts: Sequence[str],
    remarks: Sequence[str],
    *,
    quick: bool,
    out: Console | None,
) -> None:
    """Print the table, the facts of the run and the remarks."""
    out = out or _stdout()
    out.print(tables.terminal_table(experiment, rows, quick=quick))
    for line in ("; ".join(facts).replace("`", ""), *remarks):
        out.print(line, markup=False, highlight=False)


def _stdout() -> Console:
    """Return a console on stdout, 200 columns wide if stdout is not a terminal, so that no entry is cut."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False)
    return console if console.is_terminal else Console(highlight=False, emoji=False, width=200)


def say(text: str) -> None:
    """Print a line of progress on stderr."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False).print(text)


def named(experiments: dict[str, Experiment[Any]], name: str) -> Experiment[Any]:
    """Return the experiment of a name.

    Raises:
        InputError: there is none; the message suggests the nearest name.
    """
    import difflib

    if name in experiments:
        return experiments[name]
    near = difflib.get_close_matches(name, experiments, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"there is no experiment {name!r}; {hint}there are: {', '.join(experiments)}")
