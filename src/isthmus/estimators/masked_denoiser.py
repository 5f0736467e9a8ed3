"""A small denoising autoencoder that predicts hidden cells from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isthmus.estimators.denoising import DenoisingAutoencoder
from isthmus.values.corruptions import MissingMask
from isthmus.values.networks import MLP

Rows = Float[Tensor, "rows columns"]
Mask = Bool[Tensor, "rows columns"]
Groups = Sequence[Sequence[int]]
"""Lists of columns that are hidden together. Together they contain every column once."""


def masked_denoiser(
    groups: Groups,
    *,
    seed: int,
    hidden_rate: float = 0.3,
    size: int = 64,
    max_steps: int = 500,
    batch_size: int = 256,
    device: str = "auto",
) -> DenoisingAutoencoder:
    """Return an unfitted autoencoder that is trained on hidden cells alone.

    It is fitted to standardized rows, an array with NaN for missing cells, and learns E[x_j | the visible cells]: the
    encoder gets the mask of the visible cells, and the criterion counts the hidden ones.

    Args:
        groups: columns that are hidden together.
        seed: of all random numbers.
        hidden_rate: fraction of the groups that is hidden in training.
        size: units of the code and of the hidden layers.
        max_steps, batch_size: of the training.
        device: as in `BaseAutoencoder`.
    """
    return DenoisingAutoencoder(
        corruption=MissingMask(
            rate=hidden_rate, groups=[list(group) for group in groups], corrupted_weight=1.0, clean_weight=0.0
        ),
        network=MLP((size,), activation="silu"), code_activation="silu", code_size=size, likelihood="gaussian",
        max_epochs=max_steps, max_steps=max_steps, batch_size=batch_size, learning_rate=3e-3, validation_fraction=0.0,
        scaling="none", missing="mask", random_state=seed, device=device,
    )  # fmt: skip


def with_nan(z: Rows, mask: Mask | None) -> np.ndarray:
    """Return rows as an array of float64, with NaN where the mask is False."""
    array = z.double().numpy()
    return array.copy() if mask is None else np.where(mask.numpy(), array, np.nan)


def hidden_predictions(denoiser: Any, z: Rows, mask: Mask | None, groups: Groups) -> Rows:
    """Return the prediction of each cell with its group hidden, float64.

    Args:
        denoiser: a fitted `masked_denoiser`.
        z, mask: rows as in its fit.
        groups: columns that are hidden together: one pass over the rows for each.
    """
    rows = with_nan(z, mask)
    found = torch.empty(z.shape, dtype=torch.float64)
    for group in groups:
        columns = list(group)
        hidden = rows.copy()
        hidden[:, columns] = np.nan
        found[:, columns] = torch.from_numpy(denoiser.reconstruct(hidden)[:, columns]).double()
    return found


def merged(groups: Groups, n: int) -> list[list[int]]:
    """Return groups merged to at most n, in turn, so that neighbouring groups are hidden in different passes.

    Example:
        >>> merged([[0], [1], [2, 3]], 2)
        [[0, 2, 3], [1]]
    """
    n = min(n, len(groups))
    return [[column for group in groups[start::n] for column in group] for start in range(n)]
