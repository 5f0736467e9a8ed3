"""The plan of a time limit: the cost of each phase of training, and the steps that a time is enough for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from isthmus.errors import InputError
from isthmus.learning.rows import Rows
from isthmus.learning.trainer import MONITOR_ROWS
from isthmus.learning.training_config import TrainingConfig, batch_bounds, steps_of
from isthmus.parts.forward import Batch

PLANNED_FRACTION = 0.95
"""Fraction of the time that is planned; the rest is for steps and evaluations that are slower than measured."""

MEASURED_FRACTION = 0.02
"""Fraction of the time limit in which speeds are measured."""

MAX_SAMPLED_BATCHES, SAMPLED_ROWS = 256, 2**17
"""Largest number of batches, and about the number of rows, with which speeds are measured."""

MIN_SECONDS = 1e-9
"""Smallest time of a step: a coarse clock can measure 0."""


@dataclass(frozen=True)
class Speeds:
    """The measured speeds of the phases.

    Attributes:
        seconds: the time that measuring took.
        of_phases: for each phase the seconds of a step, and those of the evaluation of a row.
    """

    seconds: float
    of_phases: list[tuple[float, float]]


@dataclass(frozen=True)
class Cost:
    """The cost of a phase without a time limit.

    Attributes:
        steps: number of steps.
        steps_per_epoch: steps between two evaluations.
        step_seconds, evaluation_seconds: time of a step and of an evaluation.

    Example:
        >>> cost = Cost(steps=10, steps_per_epoch=4, step_seconds=1.0, evaluation_seconds=2.0)
        >>> cost.seconds, cost.steps_within(16.0), cost.steps_within(9.5), cost.steps_within(100.0)
        (16.0, 10, 5, 10)
    """

    steps: int
    steps_per_epoch: int
    step_seconds: float
    evaluation_seconds: float

    @classmethod
    def of(cls, training_config: TrainingConfig, n_rows: int, n_validation: int, speed: tuple[float, float]) -> Cost:
        """Return the cost of a phase on some rows; `speed` is its entry of `Speeds.of_phases`."""
        step_seconds, row_seconds = speed
        return cls(
            steps_of(training_config, n_rows), len(batch_bounds(n_rows, training_config.batch_size)),
            max(step_seconds, MIN_SECONDS), row_seconds * (min(n_rows, MONITOR_ROWS) + n_validation),
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        """The time of all steps and of the evaluations after each epoch."""
        n_evaluations = math.ceil(self.steps / self.steps_per_epoch)
        return self.steps * self.step_seconds + n_evaluations * self.evaluation_seconds

    def steps_within(self, seconds: float) -> int:
        """Return the largest number of steps, at least 1, for which the time is enough.

        There is an evaluation after each epoch and one after the last step.
        """
        n_epochs, left = divmod(seconds, self.steps_per_epoch * self.step_seconds + self.evaluation_seconds)
        last = max(0, math.floor((left - self.evaluation_seconds) / self.step_seconds))
        return min(self.steps, max(1, int(n_epochs) * self.steps_per_epoch + last))


class SampledRows:
    """Rows of a random sample with replacement, in batches of the size of a phase.

    Args:
        rows: the rows.
        batch_size: largest number of rows per step.
    """

    def __init__(self, rows: Rows, batch_size: int) -> None:
        self.rows, self.n_columns = rows, rows.n_columns
        self.batch_size = max(stop - start for start, stop in batch_bounds(len(rows), batch_size))
        n_batches = min(max(SAMPLED_ROWS // self.batch_size, 8), MAX_SAMPLED_BATCHES)
        generator = torch.Generator().manual_seed(0)
        self.index = torch.randint(len(rows), (n_batches * self.batch_size,), generator=generator)

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index` of the sample."""
        return self.rows.batch(self.index[index])


def limited(training_config: TrainingConfig, costs: Sequence[Cost], seconds: float) -> TrainingConfig:
    """Return the configuration of the first of some phases, whose time is its part of the time that is left.

    The part is in proportion to the costs. `max_steps` becomes the number of steps for which the planned fraction of
    the part is enough.

    Args:
        training_config: of the first phase.
        costs: of the first phase and of those after it.
        seconds: that are left for all of them.

    Example:
        >>> costs = [Cost(100, 10, 0.1, 0.0), Cost(100, 10, 0.3, 0.0)]
        >>> config = limited(TrainingConfig(max_epochs=10, batch_size=8), costs, 20.0)
        >>> config.time_limit, config.max_steps
        (5.0, 47)
    """
    part = seconds * costs[0].seconds / sum(cost.seconds for cost in costs)
    return replace(training_config, time_limit=part, max_steps=costs[0].steps_within(PLANNED_FRACTION * part))


def continued(
    training_config: TrainingConfig, costs: Sequence[Cost], spent: float, *, n_steps: int, phase_seconds: float
) -> TrainingConfig:
    """Return the configuration of the first of some phases that continues from the state at the end of an earlier run.

    The time that is left is divided in proportion to the costs, of which the first is that of the steps that are left.
    `max_steps` becomes the number of all steps of the phase, those of the earlier run included.

    Args:
        training_config: of the first phase; its time limit is for both runs together.
        costs: of the first phase, from its first step, and of those after it.
        spent: seconds before the first phase.
        n_steps, phase_seconds: steps and seconds of the first phase in the earlier run.

    Raises:
        InputError: no time is left.

    Example:
        >>> costs, config = [Cost(100, 10, 0.1, 0.0)], TrainingConfig(max_epochs=10, batch_size=8, time_limit=7.0)
        >>> longer = continued(config, costs, 1.0, n_steps=40, phase_seconds=4.0)
        >>> longer.time_limit, longer.max_steps
        (6.0, 58)
    """
    first, limit = replace(costs[0], steps=costs[0].steps - n_steps), training_config.time_limit or math.inf
    if first.steps <= 0:
        return replace(training_config, time_limit=None)
    left = limit - spent - phase_seconds
    if left <= 0:
        raise InputError(
            f"time_limit={limit:g}: the earlier run took {spent + phase_seconds:.3g} s of it; give a longer limit, or "
            "none"
        )
    part = left * first.seconds / (first.seconds + sum(cost.seconds for cost in costs[1:]))
    n_more = first.steps_within(PLANNED_FRACTION * part)
    return replace(training_config, time_limit=phase_seconds + part, max_steps=n_steps + n_more)
