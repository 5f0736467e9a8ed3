"""Default epochs and batch sizes of an estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from isthmus.errors import InputError
from isthmus.learning.phases import Phase
from isthmus.learning.training_config import TrainingConfig

MOMENTUM = 0.9
"""Default momentum of SGD."""


@dataclass(frozen=True)
class TrainingDefaults:
    """Default batches and epochs of a kind.

    Attributes:
        n_batches: batches of an epoch, before the size is rounded to a power of two.
        batch_sizes: smallest and largest batch.
        n_steps: steps of a fit, on small data; large data get the smallest number of epochs.
        epochs: smallest and largest number of epochs.
    """

    n_batches: int = 40
    batch_sizes: tuple[int, int] = (16, 256)
    n_steps: int = 4000
    epochs: tuple[int, int] = (20, 250)

    def batch_size(self, n_rows: int) -> int:
        """Return the rows of a batch: a power of two.

        Example:
            >>> TrainingDefaults().batch_size(5000)
            128
        """
        return int(np.clip(2 ** round(math.log2(max(1, n_rows / self.n_batches))), *self.batch_sizes))

    def n_epochs(self, n_rows: int, batch_size: int) -> int:
        """Return the number of epochs that make about `n_steps` steps.

        Example:
            >>> TrainingDefaults().n_epochs(5000, 128)
            100
        """
        return int(np.clip(round(self.n_steps / math.ceil(n_rows / batch_size)), *self.epochs))


def training_config_for(estimator: Any, n_rows: int, checkpoint_every: float = 60.0) -> TrainingConfig:
    """Return the training configuration of an estimator's arguments.

    `TrainingDefaults` of the kind have batches and epochs that are not given: by default about a fortieth of the rows,
    between 16 and 256, and as many epochs as make about 4,000 steps, between 20 and 250.

    Args:
        estimator: with the training arguments of `BaseAutoencoder`.
        n_rows: number of training rows.
        checkpoint_every: seconds between checkpoints.

    Example:
        >>> from isthmus import Autoencoder
        >>> settings = training_config_for(Autoencoder(), 5000)
        >>> settings.batch_size, settings.max_epochs
        (128, 100)
    """
    defaults: TrainingDefaults = getattr(estimator, "training_defaults", TrainingDefaults())
    batch_size = estimator.batch_size or defaults.batch_size(n_rows)
    config = TrainingConfig(
        max_epochs=estimator.max_epochs or defaults.n_epochs(n_rows, batch_size), batch_size=batch_size,
        learning_rate=estimator.learning_rate, patience=estimator.patience, time_limit=estimator.time_limit,
        precision=estimator.precision, device=estimator.device, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    optimizer = estimator.value_of("optimizer")
    return config if optimizer is None else optimizer.configured(config, momentum=MOMENTUM, weight_decay=0.0)


def with_max_steps(phases: Sequence[Phase], max_steps: int | Sequence[int] | None) -> list[Phase]:
    """Return the phases with their largest numbers of steps.

    Args:
        phases: the phases of a fit.
        max_steps: one number for every phase, or a sequence with one of each; None sets no limit.

    Raises:
        InputError: the sequence has another length.
    """
    if max_steps is None:
        return list(phases)
    numbers = list(max_steps) if isinstance(max_steps, Sequence | np.ndarray) else [max_steps] * len(phases)
    if len(numbers) != len(phases):
        names = ", ".join(repr(phase.name) for phase in phases)
        raise InputError(
            f"max_steps={max_steps!r}: {len(numbers)} numbers for {len(phases)} training phases ({names}); give one "
            "for each, or a single number"
        )
    return [
        replace(phase, training_config=replace(phase.training_config, max_steps=int(n)))
        for phase, n in zip(phases, numbers, strict=True)
    ]


def step_counts(records: Sequence[dict[str, Any]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the planned steps and the steps of each training phase, from the records of `run_phases`."""
    return tuple(record["planned_steps"] for record in records), tuple(record["n_steps"] for record in records)
