"""The configuration of training: epochs, batches, optimiser and the schedule of the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from isthmus.learning.objectives import Objective
from isthmus.parts.layers import check_choice

OPTIMIZERS = ("adamw", "sgd")

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True)
class TrainingConfig:
    """Configuration of the trainer.

    Attributes:
        max_epochs: number of passes over the rows. Progress and the learning rate schedule span the planned steps:
            those of these passes, or `max_steps` if that is smaller.
        max_steps: largest number of steps; the last pass is cut there. None sets no limit.
        batch_size: largest number of rows per step; the rows are split into nearly equal batches.
        optimizer: "adamw", or "sgd", the plain gradient step of local rules and contrastive divergence.
        momentum: momentum of "sgd".
        schedule: of the learning rate: "cosine", a linear warm-up and then cosine decay to zero; or "constant", for
            training without a planned end, whose progress stays 0.
        learning_rate: the largest learning rate of the schedule.
        warmup: fraction of the steps over which the learning rate rises linearly to its largest value.
        weight_decay: decoupled weight decay of AdamW; for "sgd" the weight of 1/2 ||theta||^2.
        clip_norm: largest norm of the gradient; None does not clip.
        patience: number of epochs without a better validation loss after which training stops; None never stops.
        time_limit: seconds after which training stops; `run_phases` plans `max_steps` such that it is not reached.
        averaging: decay of an exponential moving average of the weights that replaces the last weights; buffers such as
            chains and counters are not averaged. None disables averaging.
        precision, device: see `isthmus.learning.precision`.
        checkpoint_every: seconds between two calls of `save_state`.
    """

    max_epochs: int
    batch_size: int
    max_steps: int | None = None
    optimizer: str = "adamw"
    momentum: float = 0.0
    schedule: str = "cosine"
    learning_rate: float = 1e-3
    warmup: float = 0.05
    weight_decay: float = 0.0
    clip_norm: float | None = None
    patience: int | None = None
    time_limit: float | None = None
    averaging: float | None = None
    precision: str = "auto"
    device: str = "auto"
    checkpoint_every: float = 60.0


def learning_rate_at(step: int, total_steps: int, training_config: TrainingConfig) -> float:
    """Return the learning rate of a step by the schedule: a linear warm-up, then cosine decay to zero; or constant.

    Example:
        >>> training_config = TrainingConfig(max_epochs=1, batch_size=1, learning_rate=2.0, warmup=0.1)
        >>> [round(learning_rate_at(step, 100, training_config), 3) for step in (0, 9, 55, 99)]
        [0.2, 2.0, 1.0, 0.001]
        >>> constant = TrainingConfig(max_epochs=1, batch_size=1, learning_rate=2.0, schedule="constant")
        >>> learning_rate_at(99, 100, constant)
        2.0
    """
    if training_config.schedule == "constant":
        return training_config.learning_rate
    warmup_steps = max(1, round(training_config.warmup * total_steps))
    if step < warmup_steps:
        return training_config.learning_rate * (step + 1) / warmup_steps
    return (
        training_config.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total_steps - warmup_steps)))
    )


def batch_bounds(n_rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Return start and stop of nearly equal batches of at most `batch_size` rows; no rows are dropped.

    Example:
        >>> batch_bounds(10, 4)
        [(0, 3), (3, 6), (6, 10)]
    """
    n = math.ceil(n_rows / batch_size)
    return [(i * n_rows // n, (i + 1) * n_rows // n) for i in range(n)]


def steps_of(training_config: TrainingConfig, n_rows: int) -> int:
    """Return the number of steps of a configuration: those of its epochs, at most `max_steps`.

    Example:
        >>> steps_of(TrainingConfig(max_epochs=5, batch_size=4), 10)
        15
        >>> steps_of(TrainingConfig(max_epochs=5, batch_size=4, max_steps=7), 10)
        7
    """
    n_steps = max(1, math.ceil(n_rows / training_config.batch_size) * training_config.max_epochs)
    return n_steps if training_config.max_steps is None else min(n_steps, training_config.max_steps)


def build_optimizer(
    objective: Objective, training_config: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Return the optimiser of a configuration for the trainable parameters of an objective.

    Raises:
        InputError: the name of the optimiser or of the schedule is unknown.
    """
    check_choice("schedule", training_config.schedule, SCHEDULES)
    check_choice("optimizer", training_config.optimizer, OPTIMIZERS)
    # A group, which may be empty: an objective may update all of its weights in closed form.
    parameters = [{"params": [parameter for parameter in objective.parameters() if parameter.requires_grad]}]
    shared: dict[str, Any] = {
        "lr": training_config.learning_rate, "weight_decay": training_config.weight_decay,
        "fused": device.type in ("cpu", "cuda"),
    }  # fmt: skip
    if training_config.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=training_config.momentum, **shared)
    return torch.optim.AdamW(parameters, **shared)
