"""A recipe is a list of phases, run one after the other: greedy layers, then all of them together.

Each phase has its own objective, view of the rows and settings; what is learned in one is there in the next, because
their objectives share modules, all of them parts of one whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from isthmus.learning.objectives import Objective
from isthmus.learning.rows import Rows
from isthmus.learning.training import Learning, Progress, Settings, State, under

SaveState = Callable[[dict[str, Tensor], dict[str, Any]], None]

_WHOLE = "whole."
"""Begins the names of the tensors that are kept of the whole."""


@dataclass(frozen=True)
class Phase:
    """A part of a recipe.

    Attributes:
        name: what the progress bar and the history call it.
        objective: what is minimised; a module of the whole, or one that shares modules with it.
        settings: how.
        view: the rows as this phase sees them, such as the codes of the layers below; None sees them as they are.
            Called when the phase begins.
        fresh: whether the objective begins anew here; False where an earlier phase has learned its weights.
    """

    name: str
    objective: Objective
    settings: Settings
    view: Callable[[Rows], Rows] | None = None
    fresh: bool = True


def run_phases(
    whole: Objective,
    phases: Sequence[Phase],
    rows: Rows,
    held_out: Rows | None,
    generator: torch.Generator,
    *,
    emit: Callable[[Progress], None] | None = None,
    save_state: SaveState | None = None,
    resumed: tuple[dict[str, Tensor], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Learn phase by phase; the record of each: name, epochs, stopped, best_epoch, nan_epoch, seconds, precision.

    A phase that was interrupted or turned NaN is the last, and so is the one before a phase that was interrupted while
    it looked at its rows: what is learned is kept. The time limit of the settings is for all of them together.

    Args:
        whole: what the phases are parts of; its state is kept in the checkpoint, so that a resumed run has
            what earlier phases learned.
        phases: in order.
        rows, held_out, generator, emit, save_state: as `Learning` takes them.
        resumed: what `save_state` was given in an earlier run; that run goes on where it was.
    """
    records: list[dict[str, Any]] = []
    if resumed is not None:
        records = list(resumed[1]["records"])
        whole.load_state_dict({**whole.state_dict(), **under(_WHOLE, resumed[0])})
    for number, phase in enumerate(phases):
        if number < len(records):
            continue
        here = resumed if resumed is not None and resumed[1]["phase"] == number else None
        try:
            seen, looked_at = _seen(phase, rows), None if held_out is None else _seen(phase, held_out)
            if phase.fresh and here is None:
                phase.objective.prepare(seen)
        except KeyboardInterrupt:
            if not records:
                raise
            records[-1]["stopped"] = "interrupted"
            break
        learning = Learning(
            phase.objective, seen, looked_at, _in_the_time_left(phase.settings, records), generator,
            emit=emit if emit is None or len(phases) == 1 else _named(emit, phase.name),
            save_state=None if save_state is None else _with_whole(save_state, whole, phase, number, records),
        )  # fmt: skip
        if here is not None:
            learning.restore(here[0], here[1]["learning"])
        state = learning.run()
        phase.objective.finish(seen)
        records.append(_record(phase, state, learning.precision))
        if state.stopped in ("interrupted", "nan"):
            break
    return records


def _record(phase: Phase, state: State, precision: str) -> dict[str, Any]:
    """What the history keeps of a phase."""
    return {
        "name": phase.name, "epochs": state.epochs, "stopped": state.stopped, "best_epoch": state.best_epoch,
        "nan_epoch": state.epoch if state.stopped == "nan" else None,
        "seconds": state.epochs[-1]["seconds"] if state.epochs else 0.0, "precision": precision,
    }  # fmt: skip


def _seen(phase: Phase, rows: Rows) -> Rows:
    return rows if phase.view is None else phase.view(rows)


def _in_the_time_left(settings: Settings, records: Sequence[dict[str, Any]]) -> Settings:
    """The settings with what earlier phases left of the time limit."""
    if settings.time_limit is None:
        return settings
    spent = sum(record["seconds"] for record in records)
    return replace(settings, time_limit=max(settings.time_limit - spent, 0.0))


def _named(emit: Callable[[Progress], None], name: str) -> Callable[[Progress], None]:
    """Progress with the name of its phase."""
    return lambda progress: emit(replace(progress, phase=name))


def _with_whole(
    save_state: SaveState, whole: Objective, phase: Phase, number: int, records: list[dict[str, Any]]
) -> SaveState:
    """What a phase calls to have its state written: with it go what is done, and the whole where it is a part."""

    def save(tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        if phase.objective is not whole:
            tensors = tensors | {f"{_WHOLE}{name}": value.clone() for name, value in whole.state_dict().items()}
        save_state(tensors, {"phase": number, "records": records, "learning": data})

    return save
