"""Training in phases, one after the other: layers greedily, then all of them together.

Each phase has its own objective, view of the rows and configuration. The objectives share modules with one whole
model, so that each phase starts from the weights of the phases before it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.learning.objectives import Objective
from isthmus.learning.rows import Rows
from isthmus.learning.time_plans import MEASURED_FRACTION, Cost, SampledRows, Speeds, continued, limited
from isthmus.learning.trainer import Progress, Trainer, TrainerState, strip_prefix
from isthmus.learning.training_config import TrainingConfig, steps_of

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
        initialize: True to initialize the objective from the rows; False where an earlier phase or an earlier fit
            trained its weights: then only what is not a part of the model is estimated from the rows.
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
    save_end: SaveState | None = None,
    resumed: tuple[dict[str, Tensor], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Train phase by phase and return a record of each phase.

    Training ends after a phase that was interrupted or whose loss became NaN. If a phase is interrupted before its
    first step, training ends with the phase before it. Weights trained so far are kept. The phases that were not
    reached start and end without a step, so that the model is complete: their `on_start` and `on_end` are called, and
    an objective of the rows themselves is initialized.

    The time limit of the configuration is for all phases together. The speed of each phase is measured before the first
    one, on a copy of the model. When a phase starts, its part of the time that is left is in proportion to its cost:

        part of phase k = (limit - time so far) * cost of k / sum of the costs of k and the later phases

    Its steps are planned for this part (`isthmus.learning.time_plans`), and it ends when the part is over. A resumed
    run keeps the measured speeds and the planned steps of the phase it is in.

    If the time limit ended a phase, `save_end` gets the state at the end of the first such phase, when all phases are
    done. A run that continues from it plans the rest of the phase anew, as many steps as the configuration and the new
    time limit allow, and trains the later phases again. The time limit counts the time of the earlier run up to that
    state.

    Args:
        whole: the model that the phases are parts of; its state is part of the checkpoint, so that a resumed run has
            the weights of earlier phases.
        phases: the phases in order.
        rows, validation, generator, on_progress, save_state: as for `Trainer`.
        save_end: as `save_state`; called once after a run that the time limit ended. None keeps no such state.
        resumed: the arguments of an earlier call of `save_state` or `save_end`, to continue that run.

    Raises:
        InputError: the earlier run took the whole time limit.

    Returns:
        For each phase that was trained: name, epochs, stopped, best_epoch, nan_epoch, seconds, precision,
        planned_steps, n_steps.
    """
    records: list[dict[str, Any]] = []
    speeds: Speeds | None = None
    end: tuple[dict[str, Tensor], dict[str, Any]] | None = None
    if resumed is not None:
        records = list(resumed[1]["records"])
        speeds = Speeds(**resumed[1]["speeds"]) if resumed[1]["speeds"] else None
        whole.load_state_dict({**whole.state_dict(), **strip_prefix(_WHOLE_PREFIX, resumed[0])})
    if speeds is None and any(phase.training_config.time_limit is not None for phase in phases):
        speeds = measured_speeds(whole, phases, rows)
    n_rows, n_validation = len(rows), 0 if validation is None else len(validation)
    for number, phase in enumerate(phases):
        if number < len(records):
            continue
        resumed_here = resumed if resumed is not None and resumed[1]["phase"] == number else None
        named = _with_phase_name(on_progress, phase.name) if on_progress and len(phases) > 1 else on_progress
        try:
            train_view, validation_view = _view(phase, rows), None if validation is None else _view(phase, validation)
            if resumed_here is None:
                _start(phase, whole, train_view)
            earlier = resumed_here[1]["learning"] if resumed_here and resumed_here[1].get("is_end") else None
            trainer = Trainer(
                phase.objective, train_view, validation_view,
                _planned(phases[number:], records, speeds, n_rows, n_validation, earlier), generator,
                on_progress=named,
                save_state=None if save_state is None else _with_run_state(save_state, whole, phase, records, speeds),
                keeps_end=save_end is not None and end is None,
            )  # fmt: skip
            if resumed_here is not None:
                planned = None if earlier is None else trainer.state.planned_steps
                trainer.restore(resumed_here[0], resumed_here[1]["learning"], planned_steps=planned)
        except KeyboardInterrupt:
            if not records:
                raise
            records[-1]["stopped"] = "interrupted"
            phase.objective.to("cpu")
            break
        state = trainer.run()
        if state.stopped == "max_steps" and state.planned_steps < steps_of(phase.training_config, n_rows):
            state.stopped = "time_limit"
        if state.stopped == "time_limit" and trainer.ended is not None:
            end = _run_state(*trainer.ended, whole, phase, records, speeds)
        _end(phase, whole)
        records.append(record_of(phase, state, trainer.precision))
        if state.stopped in ("interrupted", "nan"):
            break
    if save_end is not None and end is not None and records[-1]["stopped"] not in ("interrupted", "nan"):
        save_end(end[0], {**end[1], "is_end": True})
    for phase in phases[len(records) :]:
        _start(phase, whole, rows if phase.view is None else None)
        _end(phase, whole)
    return records


def _start(phase: Phase, whole: nn.Module, rows: Rows | None) -> None:
    """Call `on_start`, then prepare the objective with the rows of the phase, if there are any."""
    if phase.on_start is not None:
        phase.on_start(whole)
    if rows is not None:
        prepare = phase.objective.prepare if phase.initialize else phase.objective.prepare_statistics
        prepare(rows)


def _end(phase: Phase, whole: nn.Module) -> None:
    """Call `on_end`."""
    if phase.on_end is not None:
        phase.on_end(whole)


def record_of(phase: Phase, state: TrainerState, precision: str) -> dict[str, Any]:
    """Return the history entry of a phase."""
    return {
        "name": phase.name, "epochs": state.epochs, "stopped": state.stopped, "best_epoch": state.best_epoch,
        "nan_epoch": state.epoch if state.stopped == "nan" else None,
        "seconds": state.epochs[-1]["seconds"] if state.epochs else 0.0, "precision": precision,
        "planned_steps": state.planned_steps, "n_steps": state.step,
    }  # fmt: skip


def _view(phase: Phase, rows: Rows) -> Rows:
    return rows if phase.view is None else phase.view(rows)


def measured_speeds(whole: nn.Module, phases: Sequence[Phase], rows: Rows) -> Speeds:
    """Measure the speed of each phase on sampled rows; model, generators and views stay as they are.

    The phases run on a copy of the model, one after the other, a few steps each.
    """
    began, speeds = time.perf_counter(), []
    whole, copies = copy.deepcopy((whole, list(phases)))
    sample = SampledRows(rows, max(phase.training_config.batch_size for phase in phases))
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        for phase in copies:
            view = _view(phase, sample)
            _start(phase, whole, view)
            config = replace(phase.training_config, max_epochs=1, batch_size=sample.batch_size, max_steps=None)
            trainer = Trainer(phase.objective, view, None, config, torch.Generator().manual_seed(0))
            speeds.append(trainer.measure(MEASURED_FRACTION * (config.time_limit or 0.0) / len(phases)))
            phase.objective.to("cpu")
            _end(phase, whole)
    return Speeds(time.perf_counter() - began, speeds)


def _planned(
    phases: Sequence[Phase],
    records: Sequence[dict[str, Any]],
    speeds: Speeds | None,
    n_rows: int,
    n_validation: int,
    earlier: dict[str, Any] | None = None,
) -> TrainingConfig:
    """Return the configuration of the first of the phases that are left, with its part of the time limit.

    Args:
        phases: the phases that are left.
        records: of the phases before.
        speeds: of all phases; None without a time limit.
        n_rows, n_validation: numbers of rows.
        earlier: the state of the trainer at the end of an earlier run, if the first phase continues it.
    """
    training_config = phases[0].training_config
    if training_config.time_limit is None or speeds is None:
        return training_config
    costs = [
        Cost.of(phase.training_config, n_rows, n_validation, speed)
        for phase, speed in zip(phases, speeds.of_phases[len(records) :], strict=True)
    ]
    spent = speeds.seconds + sum(record["seconds"] for record in records)
    if earlier is None:
        return limited(training_config, costs, max(training_config.time_limit - spent, 0.0))
    return continued(training_config, costs, spent, n_steps=earlier["step"], phase_seconds=earlier["seconds"])


def _with_phase_name(on_progress: Callable[[Progress], None], name: str) -> Callable[[Progress], None]:
    """Return a progress callback that adds the name of the phase."""
    return lambda progress: on_progress(replace(progress, phase=name))


def _with_run_state(
    save_state: SaveState, whole: nn.Module, phase: Phase, records: list[dict[str, Any]], speeds: Speeds | None
) -> SaveState:
    """Return a `save_state` callback that adds the records, the speeds and the state of the rest of the model."""
    return lambda tensors, data: save_state(*_run_state(tensors, data, whole, phase, records, speeds))


def _run_state(
    tensors: dict[str, Tensor],
    data: dict[str, Any],
    whole: nn.Module,
    phase: Phase,
    records: list[dict[str, Any]],
    speeds: Speeds | None,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the state of a trainer with the records, the speeds and the state of the rest of the model."""
    tensors = dict(tensors)
    for name, value in tensors_outside(phase.objective, whole).items():
        tensors[f"{_WHOLE_PREFIX}{name}"] = value.detach().clone()
    run = {"phase": len(records), "records": list(records), "speeds": None if speeds is None else asdict(speeds)}
    return tensors, run | {"learning": data}


def tensors_outside(inner: nn.Module, whole: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the state of a module that are not in that of another one, each under one name.

    Example:
        >>> whole = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> sorted(tensors_outside(whole[0], whole))
        ['1.bias', '1.weight']
    """
    seen, outside = {id(tensor) for tensor in inner.state_dict(keep_vars=True).values()}, {}
    for name, value in whole.state_dict(keep_vars=True).items():
        if id(value) not in seen:  # a tensor may have several names
            seen.add(id(value))
            outside[name] = value
    return outside
