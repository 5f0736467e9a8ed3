"""Default epochs and batch sizes of an estimator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from isthmus.learning.trainer import TrainingConfig

DEFAULT_STEPS = 4000
"""Default optimiser steps on small data; large data get twenty epochs."""


def training_config_for(estimator: Any, n_rows: int, checkpoint_every: float = 60.0) -> TrainingConfig:
    """Return the training configuration of an estimator's arguments.

    By default batches have about a fortieth of the rows, between 16 and 256, and as many epochs are run as make about
    `DEFAULT_STEPS` steps, between 20 and 250.

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
    batch_size = estimator.batch_size or 2 ** int(np.clip(round(np.log2(max(1, n_rows / 40))), 4, 8))
    enough = int(np.clip(round(DEFAULT_STEPS / math.ceil(n_rows / batch_size)), 20, 250))
    return TrainingConfig(
        max_epochs=estimator.max_epochs or enough, batch_size=batch_size, learning_rate=estimator.learning_rate,
        weight_decay=estimator.weight_decay, clip_norm=estimator.clip_norm, patience=estimator.patience,
        time_limit=estimator.time_limit, averaging=estimator.averaging, precision=estimator.precision,
        device=estimator.device, checkpoint_every=checkpoint_every,
    )  # fmt: skip
