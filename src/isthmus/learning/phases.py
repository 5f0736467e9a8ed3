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
from isthmus.learning.trainer import Progress, Trainer, TrainerState, TrainingConfig, strip_prefix

SaveState = Callable[[dict[str, Tensor], dict[str, Any]], None]

_WHOLE_PREFIX = "whole."
"""Begins the names of the tensors that are kept of the whole."""


@dataclass(frozen=True)
class Phase:
    """A part of a recipe.

    Attributes:
        name: what the progress bar and the history call it.
        objective: what is minimised; a module of the whole, or one that shares modules with it.
        training_config: how.
        view: the rows as this phase sees them, such as the codes of the layers below; None sees them as they are.
            Called when the phase begins.
        initialize: whether the objective begins anew here; False where an earlier phase has learned its weights.
    """

    name: str
    objective: Objective
    training_config: TrainingConfig
    view: Callable[[Rows], Rows] | None = None
    initialize: bool = True


def run_phases(
    whole: Objective,
    phases: Sequence[Phase],
    rows: Rows,
    validation: Rows | None,
    generator: torch.Generator,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    save_state: SaveState | None = None,
    resumed: tuple[dict[str, Tensor], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Learn phase by phase; the record of each: name, epochs, stopped, best_epoch, nan_epoch, seconds, precision.

    A phase that was interrupted or turned NaN is the last, and so is the one before a phase that was interrupted
    before its first step: what is learned is kept. The time limit of the settings is for all of them together.

    Args:
        whole: what the phases are parts of; its state is kept in the checkpoint, so that a resumed run has
            what earlier phases learned.
        phases: in order.
        rows, held_out, generator, emit, save_state: as `Trainer` takes them.
        resumed: what `save_state` was given in an earlier run; that run goes on where it was.
    """
    records: list[dict[str, Any]] = []
    if resumed is not None:
        records = list(resumed[1]["records"])
        whole.load_state_dict({**whole.state_dict(), **strip_prefix(_WHOLE_PREFIX, resumed[0])})
    for number, phase in enumerate(phases):
        if number < len(records):
            continue
        resumed_here = resumed if resumed is not None and resumed[1]["phase"] == number else None
        named = _with_phase_name(on_progress, phase.name) if on_progress and len(phases) > 1 else on_progress
        try:
            train_view, validation_view = _view(phase, rows), None if validation is None else _view(phase, validation)
            if phase.initialize and resumed_here is None:
                phase.objective.prepare(train_view)
            learning = Trainer(
                phase.objective, train_view, validation_view, _with_remaining_time(phase.training_config, records),
                generator,
                on_progress=named,
                save_state=None if save_state is None else _with_whole_state(save_state, whole, phase, number, records),
            )  # fmt: skip
            if resumed_here is not None:
                learning.restore(resumed_here[0], resumed_here[1]["learning"])
        except KeyboardInterrupt:
            if not records:
                raise
            records[-1]["stopped"] = "interrupted"
            phase.objective.to("cpu")
            break
        state = learning.run()
        phase.objective.finish(train_view)
        records.append(_record(phase, state, learning.precision))
        if state.stopped in ("interrupted", "nan"):
            break
    return records


def _record(phase: Phase, state: TrainerState, precision: str) -> dict[str, Any]:
    """What the history keeps of a phase."""
    return {
        "name": phase.name, "epochs": state.epochs, "stopped": state.stopped, "best_epoch": state.best_epoch,
        "nan_epoch": state.epoch if state.stopped == "nan" else None,
        "seconds": state.epochs[-1]["seconds"] if state.epochs else 0.0, "precision": precision,
    }  # fmt: skip


def _view(phase: Phase, rows: Rows) -> Rows:
    return rows if phase.view is None else phase.view(rows)


def _with_remaining_time(training_config: TrainingConfig, records: Sequence[dict[str, Any]]) -> TrainingConfig:
    """The settings with what earlier phases left of the time limit."""
    if training_config.time_limit is None:
        return training_config
    spent = sum(record["seconds"] for record in records)
    return replace(training_config, time_limit=max(training_config.time_limit - spent, 0.0))


def _with_phase_name(on_progress: Callable[[Progress], None], name: str) -> Callable[[Progress], None]:
    """Progress with the name of its phase."""
    return lambda progress: on_progress(replace(progress, phase=name))


def _with_whole_state(
    save_state: SaveState, whole: Objective, phase: Phase, number: int, records: list[dict[str, Any]]
) -> SaveState:
    """What a phase calls to have its state written: with it go what is done, and the whole where it is a part."""

    def save(tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        if phase.objective is not whole:
            tensors = tensors | {f"{_WHOLE_PREFIX}{name}": value.clone() for name, value in whole.state_dict().items()}
        save_state(tensors, {"phase": number, "records": records, "learning": data})

    return save
