"""The training loop: minimises the terms of an objective over batches of rows, for every kind of model.

    theta <- optimiser(theta, grad of  sum over terms of  mean over the batch),   learning rate by `learning_rate_at`

Training can be interrupted and resumed. The state passed to `save_state` contains everything that the rest of the
run depends on, so a run that was killed and resumed ends with bit-identical weights.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.learning.objectives import Objective
from isthmus.learning.precision import FABRIC, fast_products, resolve_device, resolve_precision
from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.learning.threads import suitable_threads
from isthmus.learning.training_config import (
    TrainingConfig,
    batch_bounds,
    build_optimizer,
    learning_rate_at,
    steps_of,
)
from isthmus.parts.forward import Batch
from isthmus.parts.layers import BatchNormalization
from isthmus.parts.sampling import derived_generator

MONITOR_ROWS = 1024
"""Number of training rows that are monitored after each epoch, and the batch size of monitoring."""

WARM_UP_STEPS, MIN_MEASURED_STEPS = 2, 2
"""Number of steps before the speed of steps is measured, and the smallest number of measured steps."""

REFRESH_STEPS = 16
"""Number of steps between two calls of the `refresh` of modules that have one; each waits for the device."""


@dataclass(frozen=True)
class Progress:
    """Training progress, as shown by a progress bar; `phase` is the name of the phase, if there are several."""

    epoch: int
    step: int
    total_steps: int
    loss: float
    rows_per_second: float
    seconds_left: float
    phase: str = ""


@dataclass
class TrainerState:
    """State that the rest of a run depends on, apart from weights, optimiser and generator.

    `planned_steps` is the number of steps that progress and the learning rate schedule span.
    """

    planned_steps: int
    epoch: int = 0
    position: int = 0
    step: int = 0
    epochs_without_improvement: int = 0
    best: float = math.inf
    best_epoch: int = -1
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    weight: float = 0.0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""


@contextmanager
def _without_notices() -> Iterator[None]:
    """Suppress the notices of lightning-fabric on precision and matrix products, which users did not ask for."""
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


_IN_FILES = {"epochs_without_improvement": "stale"}
"""Fields of `TrainerState` whose name in a checkpoint differs."""


class Trainer:
    """Training loop for one objective; `Trainer(...).run()` trains it.

    Args:
        objective: the objective to minimise; trained in place.
        rows: the training rows.
        validation: the validation rows, or None.
        training_config: the configuration.
        generator: the source of randomness, for the order of the rows and for the objective.
        on_progress: callback that receives the `Progress` a few times per second.
        save_state: callback that receives (tensors, plain data) every `checkpoint_every` seconds.
        keeps_end: True to keep in `ended` the state after the last step, if the time or the planned steps end training.
    """

    def __init__(
        self,
        objective: Objective,
        rows: Rows,
        validation: Rows | None,
        training_config: TrainingConfig,
        generator: torch.Generator,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        save_state: Callable[[dict[str, Tensor], dict[str, Any]], None] | None = None,
        keeps_end: bool = False,
    ) -> None:
        from lightning_fabric import Fabric

        self.objective, self.rows, self.validation = objective, rows, validation
        self.training_config, self.generator = training_config, generator
        self.on_progress, self.save_state, self.keeps_end = on_progress, save_state, keeps_end
        self.device = resolve_device(training_config.device)
        self.precision = resolve_precision(training_config.precision, self.device)
        accelerator = {"cuda": "gpu"}.get(self.device.type, self.device.type)
        device_ids = [self.device.index or 0] if self.device.type == "cuda" else 1
        objective.to(self.device)
        with _without_notices():
            self.fabric = Fabric(accelerator=accelerator, devices=device_ids, precision=FABRIC[self.precision])
            optimizer = build_optimizer(objective, training_config, self.device)
            self.module, self.optimizer = self.fabric.setup(objective, optimizer)
        self.module.mark_forward_method("terms")
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.bounds = batch_bounds(len(rows), training_config.batch_size)
        self.state = TrainerState(steps_of(training_config, len(rows)))
        self.order = torch.empty(0, dtype=torch.long)
        self.draws = generator if self.device.type == "cpu" else derived_generator(generator, self.device)
        self.failed, self.one = torch.zeros((), device=self.device), torch.ones((), device=self.device)
        self.sums = torch.zeros(0, device=self.device, dtype=torch.float64)
        self.weight = torch.zeros((), device=self.device, dtype=torch.float64)
        self.loss = torch.zeros((), device=self.device)
        self.refreshed = [module for module in objective.modules() if hasattr(module, "refresh")]
        self.optimizer.optimizer.found_inf = self.failed  # a fused optimiser skips the step where it is 1
        self.averaged_weights: dict[str, Tensor] = {}
        self.averaged_names = _averaged_names(objective)
        self.best_weights: dict[str, Tensor] = {}
        self.ended: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._started = self._emitted = self._saved = time.perf_counter()

    def run(self) -> TrainerState:
        """Train until the planned steps, the patience or the time are used up, or until Ctrl-C.

        Afterwards the objective has the weights of the best epoch on the validation rows, or without validation rows
        the last (averaged) weights; after a NaN, those before it.
        """
        self._started = self._emitted = self._saved = time.perf_counter() - self.state.seconds
        if not self.best_weights:
            self.averaged_weights = _copy_state(self.objective) if self.training_config.averaging is not None else {}
            self.best_weights = _copy_state(self.objective)
        try:
            with fast_products(self.precision, self.device), suitable_threads(self.objective, self.bounds):
                self.objective.train()
                while not self.state.stopped:
                    if self.state.step >= self.state.planned_steps and self.state.position == 0:
                        self.state.stopped = "max_epochs" if self._plan_has_all_epochs else "max_steps"
                        break
                    self._epoch()
        except KeyboardInterrupt:
            self.state.stopped = "interrupted"
            self._has_failed()
        if self.keeps_end and self.state.stopped in ("time_limit", "max_steps"):
            self.state.seconds = self._seconds()
            self.ended = self._copied_snapshot()
        self._load_best_weights()
        return self.state

    def _copied_snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return a `snapshot` that later changes of the model leave as it is, on the CPU."""
        tensors, data = self.snapshot()
        copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
        return copies, {**data, "sums": dict(data["sums"]), "epochs": list(data["epochs"])}

    @property
    def _plan_has_all_epochs(self) -> bool:
        """True if the planned steps are those of all epochs."""
        return self.state.planned_steps >= steps_of(replace(self.training_config, max_steps=None), len(self.rows))

    @property
    def _progress(self) -> float:
        """The finished fraction of the planned steps; 0 for a constant schedule, which has no planned end."""
        if self.training_config.schedule == "constant":
            return 0.0
        return self.state.step / self.state.planned_steps

    def measure(self, seconds: float) -> tuple[float, float]:
        """Return the seconds of a step and those of the evaluation of a row, each a mean.

        The steps are those of an epoch, of every progress, until `seconds` have passed; at least `MIN_MEASURED_STEPS`
        are measured, after `WARM_UP_STEPS` others. They change objective and generator: measure a copy.
        """
        if self.training_config.averaging is not None:
            self.averaged_weights = _copy_state(self.objective)
        with fast_products(self.precision, self.device), suitable_threads(self.objective, self.bounds):
            self.objective.train()
            self.order, n_measured = torch.arange(len(self.rows)), -WARM_UP_STEPS
            for step in torch.randperm(len(self.bounds), generator=self.generator).tolist():
                if n_measured == 0:
                    began = self._time_after_steps()
                if n_measured >= MIN_MEASURED_STEPS and time.perf_counter() - began > seconds:
                    break
                self.state.step = step
                self._step(*self.bounds[step])
                n_measured += 1
            step_seconds = (self._time_after_steps() - began) / n_measured
            self.objective.eval()
            index = self._monitored_rows()
            self._evaluate(self.rows, index)
            began = time.perf_counter()
            self._evaluate(self.rows, index)
            return step_seconds, (time.perf_counter() - began) / len(index)

    def _time_after_steps(self) -> float:
        """Wait for the device and return the time."""
        bool(self.failed)
        return time.perf_counter()

    def _epoch(self) -> None:
        state = self.state
        if state.position == 0:
            self.order = torch.randperm(len(self.rows), generator=self.generator)
            state.sums, state.weight = {}, 0.0
        first, began = state.position, time.perf_counter()
        while state.position < len(self.bounds) and state.step < state.planned_steps and not state.stopped:
            self._step(*self.bounds[state.position])
            state.position += 1
            state.step += 1
            self._report(began, first)
            if self.training_config.time_limit is not None and self._seconds() > self.training_config.time_limit:
                state.stopped = state.stopped or "time_limit"
        if not self._has_failed():
            self._end_epoch(time.perf_counter() - began, self._rows_at(state.position) - self._rows_at(first))

    def _has_failed(self) -> bool:
        """Read from the device whether a loss was not finite; training then stops. All steps since are skipped."""
        if bool(self.failed):
            self.state.stopped = "nan"
        return self.state.stopped == "nan"

    def _rows_at(self, position: int) -> int:
        """Return the number of rows of the epoch that are done at a position."""
        return self.bounds[position - 1][1] if position else 0

    def _step(self, start: int, stop: int) -> None:
        """Make one optimiser step on the rows order[start:stop]."""
        batch = self.rows.batch(self.order[start:stop]).to(self.device)
        if self.state.step % REFRESH_STEPS == 0:
            for module in self.refreshed:
                cast(Any, module).refresh()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.state.step, self.state.planned_steps, self.training_config)
        self._descend(batch)

    def _descend(self, batch: Batch) -> None:
        """Make one optimiser step on a batch, without waiting for the device.

        A loss that is not finite sets `failed`; that step and all later ones change nothing.
        """
        state, max_norm = self.state, self.training_config.clip_norm
        with self.fabric.autocast():
            terms, carried = self.module.terms(batch, self._progress, self.draws)
        weights = self.objective.row_weights(batch)
        means = [mean_over_rows(term, weights) for term in terms.values()]
        stacked = torch.stack(means) if len(means) > 1 else means[0]
        loss = stacked.sum() if len(means) > 1 else stacked
        for parameter in self.parameters:  # faster than the optimizer's own loop, which also records a profile
            parameter.grad = None
        if loss.requires_grad:  # else all weights are updated in closed form
            self.fabric.backward(loss)
        self.loss = loss.detach()
        torch.where(self.loss.abs() < torch.inf, self.failed, self.one, out=self.failed)
        self.objective.project_gradient()
        if max_norm is not None:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=max_norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.objective.project()
        self.objective.update(carried, self.failed)
        self._average()
        if not state.sums:
            state.sums = dict.fromkeys(terms, 0.0)
            self.sums = torch.zeros(len(terms), device=self.device, dtype=torch.float64)
        if weights is None:
            self.sums.add_(stacked.detach(), alpha=len(batch.x))
            state.weight += len(batch.x)
        else:
            weight = weights.sum()
            self.weight = self.weight + weight
            self.sums.add_(stacked.detach() * weight)

    @torch.no_grad()
    def _average(self) -> None:
        """Update the average: average <- d average + (1 - d) theta.

        The decay d is smaller at first, so that the initial weights fade. Chains, counters and an unknown log Z have no
        average: their current values are copied.
        """
        if self.training_config.averaging is None:
            return
        decay = min(self.training_config.averaging, (1 + self.state.step) / (10 + self.state.step))
        for name, value in self.objective.state_dict().items():
            if name in self.averaged_names:
                self.averaged_weights[name].lerp_(value, 1 - decay)
            else:
                self.averaged_weights[name].copy_(value)

    def _end_epoch(self, seconds: float, n_rows: int) -> None:
        """Evaluate validation and training rows, record the epoch, and keep the weights if they are the best."""
        state = self.state
        self._read_sums()
        with _eval_with_weights(self.objective, self.averaged_weights):
            training = self._evaluate(self.rows, self._monitored_rows())
            validation = (
                None if self.validation is None else self._evaluate(self.validation, torch.arange(len(self.validation)))
            )
        monitored = training if validation is None else validation
        state.epochs.append(
            {
                "epoch": state.epoch,
                "steps": state.step,
                "seconds": round(self._seconds(), 3),
                "rows_per_second": round(n_rows / max(seconds, 1e-9), 1),
                "learning_rate": learning_rate_at(state.step - 1, state.planned_steps, self.training_config),
                "terms": {name: total / state.weight for name, total in state.sums.items()},
                "train": training,
                "held_out": validation,
            }
        )
        if not math.isfinite(monitored):
            state.stopped = "nan"
            return
        is_better = monitored < state.best
        selects_by_validation = (
            self.validation is not None and len(self.validation) >= self.objective.min_validation_rows
        )
        if is_better or not selects_by_validation:
            self.best_weights = {
                k: v.clone() for k, v in (self.averaged_weights or self.objective.state_dict()).items()
            }
            state.best, state.best_epoch = min(monitored, state.best), state.epoch
        state.epochs_without_improvement = 0 if is_better else state.epochs_without_improvement + 1
        state.epoch, state.position = state.epoch + 1, 0
        patience = self.training_config.patience
        if (
            validation is not None
            and patience is not None
            and state.epochs_without_improvement >= patience
            and not state.stopped
        ):
            state.stopped = "patience"

    @torch.no_grad()
    def _evaluate(self, rows: Rows, index: Int[Tensor, " rows"]) -> float:
        """Return the mean of the monitor over some rows, in fp32; rows count by their weights."""
        total, total_weight = 0.0, 0.0
        for part in index.split(MONITOR_ROWS):
            batch = rows.batch(part).to(self.device)
            values, weights = self.objective.monitor(batch).double(), self.objective.row_weights(batch)
            total += float((values if weights is None else values * weights).sum())
            total_weight += len(part) if weights is None else float(weights.sum())
        return total / total_weight

    def _monitored_rows(self) -> Int[Tensor, " rows"]:
        """Return the numbers of the monitored training rows: evenly spaced, the same after every epoch."""
        return evenly_spaced(len(self.rows), MONITOR_ROWS)

    def _load_best_weights(self) -> None:
        """Load the best weights into the objective, in evaluation mode on the CPU."""
        interrupted_early = self.state.stopped == "interrupted" and not self.state.epochs
        if not interrupted_early:
            self.objective.load_state_dict(self.best_weights)
            self.objective.project()  # an average of projected weights may violate the constraint
        self.objective.eval()
        self.objective.to("cpu")

    def _seconds(self) -> float:
        return time.perf_counter() - self._started

    def _report(self, began: float, first: int) -> None:
        """Call `on_progress` and `save_state` when they are due; a failed step stops training."""
        now, state = time.perf_counter(), self.state
        reports = self.on_progress is not None and (now - self._emitted > 0.2 or state.step == state.planned_steps)
        saves = self.save_state is not None and now - self._saved >= self.training_config.checkpoint_every
        if not (reports or saves) or self._has_failed():
            return
        if self.on_progress is not None and reports:
            self._emitted = now
            done = self._rows_at(state.position) - self._rows_at(first)
            left = self._seconds() / state.step * (state.planned_steps - state.step)
            if self.training_config.time_limit is not None:
                left = min(left, self.training_config.time_limit - self._seconds())
            speed = done / max(now - began, 1e-9)
            loss = float(self.loss)
            self.on_progress(Progress(state.epoch, state.step, state.planned_steps, loss, speed, max(left, 0.0)))
        if self.save_state is not None and saves:
            self._saved = now
            state.seconds = self._seconds()
            self.save_state(*self.snapshot())

    def _read_sums(self) -> None:
        """Read the sums of the terms and of the rows' weights over the epoch from the device."""
        self.state.sums = dict(zip(self.state.sums, self.sums.tolist(), strict=True))
        self.state.weight += float(self.weight)
        self.weight = torch.zeros_like(self.weight)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the complete state: tensors by name, and plain data."""
        tensors = {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        tensors |= {f"kept.{name}": value for name, value in self.best_weights.items()}
        tensors |= {f"average.{name}": value for name, value in self.averaged_weights.items()}
        tensors |= {f"optimizer.{name}": value for name, value in self.moments().items()}
        tensors |= {"generator": self.generator.get_state(), "order": self.order}
        if self.draws is not self.generator:
            tensors["draws"] = self.draws.get_state()
        self._read_sums()
        fields = TrainerState.__dataclass_fields__
        return tensors, {_IN_FILES.get(name, name): getattr(self.state, name) for name in fields}

    def moments(self) -> dict[str, Tensor]:
        """Return the state of the optimiser: each tensor under the number of its parameter and its name."""
        by_parameter = self.optimizer.state_dict()["state"].items()
        return {f"{i}.{slot}": torch.as_tensor(value) for i, slots in by_parameter for slot, value in slots.items()}

    def restore_moments(self, moments: dict[str, Tensor]) -> None:
        """Restore copies of the tensors that `moments` returned."""
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in moments.items():
            number, slot = name.split(".", 1)
            parameter = self.parameters[int(number)]
            # Files are contiguous; a fused step needs the strides of the parameter.
            copy = torch.empty_like(parameter if value.shape == parameter.shape else value)
            slots.setdefault(int(number), {})[slot] = copy.copy_(value)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": slots})

    def restore(self, tensors: dict[str, Tensor], data: dict[str, Any], *, planned_steps: int | None = None) -> None:
        """Restore the state of a `snapshot`; `planned_steps`, if given, replaces its plan."""
        self.objective.load_state_dict(strip_prefix("objective.", tensors))
        self.best_weights = strip_prefix("kept.", tensors)
        # Each step updates the average from weights on the device.
        self.averaged_weights = {
            name: value.to(self.device) for name, value in strip_prefix("average.", tensors).items()
        }
        self.restore_moments(strip_prefix("optimizer.", tensors))
        self.generator.set_state(tensors["generator"])
        if self.draws is not self.generator and "draws" in tensors:
            self.draws.set_state(tensors["draws"])
        self.order = tensors["order"]
        names = {in_file: name for name, in_file in _IN_FILES.items()}
        state = {names.get(name, name): value for name, value in data.items()}
        restored = TrainerState(**state)
        self.state = replace(restored, stopped="", planned_steps=planned_steps or restored.planned_steps)
        self.sums = torch.tensor(list(self.state.sums.values()), device=self.device, dtype=torch.float64)


def mean_over_rows(term: Tensor, weights: Float[Tensor, " batch"] | None) -> Float[Tensor, ""]:
    """Return the mean of a term over the rows, by their weights; a term of the batch is returned as it is.

    Example:
        >>> float(mean_over_rows(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])))
        2.0
    """
    return term.mean() if weights is None or term.ndim == 0 else (term * weights).sum() / weights.sum()


def strip_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with the prefix, under names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _copy_state(objective: Objective) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in objective.state_dict().items()}


def _averaged_names(objective: Objective) -> frozenset[str]:
    """Return the names of the averaged tensors: the parameters, and the running moments of batch normalisation."""
    names = [name for name, _ in objective.named_parameters(remove_duplicate=False)]
    for path, module in objective.named_modules(remove_duplicate=False):
        if isinstance(module, BatchNormalization):
            names += [f"{path}.{name}" for name, _ in module.named_buffers()]
    return frozenset(names)


@contextmanager
def _eval_with_weights(objective: Objective, weights: dict[str, Tensor]) -> Iterator[None]:
    """Context manager for evaluation mode, with other weights if any are given."""
    original = _copy_state(objective) if weights else {}
    if weights:
        objective.load_state_dict(weights)
    objective.eval()
    yield
    objective.train()
    if original:
        objective.load_state_dict(original)
