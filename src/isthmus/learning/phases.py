"""Training in phases, one after the other: layers greedily, then all of them together.

Each phase has its own objective, view of the rows and configuration. The objectives share modules with one whole
model, so that each phase starts from the weights of the phases before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.learning.objectives import Objective
from isthmus.learning.rows import Rows
from isthmus.learning.trainer import Progress, Trainer, TrainerState, TrainingConfig, strip_prefix

SaveState = Callable[[dict[str, Tensor], dict[str, Any]], None]

_WHOLE_PREFIX = "whole."
"""Prefix of the names of the whole model's tensors in a checkpoint."""


Hook = Callable[[nn.Module], None]
"""Function of the whole model that hands weights from one phase to another; a second call changes nothing."""


@dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        name: the name in progress bar and history.
        objective: the objective to minimise; it trains the whole model, or a module that shares parameters with it.
        training_config: the configuration of the trainer.
        view: function from the rows to the rows of this phase, such as the codes of the layers below; None means the
            rows themselves. It is called when the phase starts.
        initialize: True to initialize the objective from the rows; False where an earlier phase trained its weights.
        on_start: function of the whole model, called before the objective is initialized; None does nothing.
        on_end: function of the whole model, called after the phase; None does nothing.
    """

    name: str
    objective: Objective
    training_config: TrainingConfig
    view: Callable[[Rows], Rows] | None = None
    initialize: bool = True
    on_start: Hook | None = None
    on_end: Hook | None = None


def run_phases(
    whole: nn.Module,
    phases: Sequence[Phase],
    rows: Rows,
    validation: Rows | None,
    generator: torch.Generator,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    save_state: SaveState | None = None,
    resumed: tuple[dict[str, Tensor], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Train phase by phase and return a record of each phase.

    Training ends after a phase that was interrupted or whose loss became NaN. If a phase is interrupted before its
    first step, training ends with the phase before it. Weights trained so far are kept. The phases that were not
    reached start and end without a step, so that the model is complete: their `on_start` and `on_end` are called, and
    an objective of the rows themselves is initialized. The time limit of the configuration is for all phases together.

    Args:
        whole: the model that the phases are parts of; its state is part of the checkpoint, so that a resumed run has
            the weights of earlier phases.
        phases: the phases in order.
        rows, validation, generator, on_progress, save_state: as for `Trainer`.
        resumed: the arguments of an earlier call of `save_state`, to continue that run.

    Returns:
        For each phase that was trained: name, epochs, stopped, best_epoch, nan_epoch, seconds, precision.
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
            if resumed_here is None:
                _start(phase, whole, train_view)
            trainer = Trainer(
                phase.objective, train_view, validation_view, _with_remaining_time(phase.training_config, records),
                generator,
                on_progress=named,
                save_state=None if save_state is None else _with_whole_state(save_state, whole, phase, number, records),
            )  # fmt: skip
            if resumed_here is not None:
                trainer.restore(resumed_here[0], resumed_here[1]["learning"])
        except KeyboardInterrupt:
            if not records:
                raise
            records[-1]["stopped"] = "interrupted"
            phase.objective.to("cpu")
            break
        state = trainer.run()
        _end(phase, whole)
        records.append(_record(phase, state, trainer.precision))
        if state.stopped in ("interrupted", "nan"):
            break
    for phase in phases[len(records) :]:
        _start(phase, whole, rows if phase.view is None else None)
        _end(phase, whole)
    return records


def _start(phase: Phase, whole: nn.Module, rows: Rows | None) -> None:
    """Call `on_start`, then initialize the objective from the rows of the phase, if there are any."""
    if phase.on_start is not None:
        phase.on_start(whole)
    if phase.initialize and rows is not None:
        phase.objective.prepare(rows)


def _end(phase: Phase, whole: nn.Module) -> None:
    """Call `on_end`."""
    if phase.on_end is not None:
        phase.on_end(whole)


def _record(phase: Phase, state: TrainerState, precision: str) -> dict[str, Any]:
    """Return the history entry of a phase."""
    return {
        "name": phase.name, "epochs": state.epochs, "stopped": state.stopped, "best_epoch": state.best_epoch,
        "nan_epoch": state.epoch if state.stopped == "nan" else None,
        "seconds": state.epochs[-1]["seconds"] if state.epochs else 0.0, "precision": precision,
    }  # fmt: skip


def _view(phase: Phase, rows: Rows) -> Rows:
    return rows if phase.view is None else phase.view(rows)


def _with_remaining_time(training_config: TrainingConfig, records: Sequence[dict[str, Any]]) -> TrainingConfig:
    """Return the configuration with the part of the time limit that earlier phases left."""
    if training_config.time_limit is None:
        return training_config
    spent = sum(record["seconds"] for record in records)
    return replace(training_config, time_limit=max(training_config.time_limit - spent, 0.0))


def _with_phase_name(on_progress: Callable[[Progress], None], name: str) -> Callable[[Progress], None]:
    """Return a progress callback that adds the name of the phase."""
    return lambda progress: on_progress(replace(progress, phase=name))


def _with_whole_state(
    save_state: SaveState, whole: nn.Module, phase: Phase, number: int, records: list[dict[str, Any]]
) -> SaveState:
    """Return a `save_state` callback that adds the records so far and the state of the rest of the model."""

    def save(tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        stored, tensors = {id(tensor) for tensor in phase.objective.state_dict(keep_vars=True).values()}, dict(tensors)
        for name, value in whole.state_dict(keep_vars=True).items():
            if id(value) not in stored:  # a tensor may have several names
                stored.add(id(value))
                tensors[f"{_WHOLE_PREFIX}{name}"] = value.detach().clone()
        save_state(tensors, {"phase": number, "records": records, "learning": data})

    return save
