"""The number of threads of a training run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

SMALL_STEP = 4_000_000
"""Weights times rows of a step, below which a second thread gains nothing, measured on two cores with no other load."""


@contextmanager
def suitable_threads(objective: nn.Module, bounds: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Context manager that trains a small model on one thread and restores the number of threads afterwards.

    The products of a small model are too short to share. On a machine with other load their threads wait for each
    other: a table of 300 rows took 140 s on two threads and 10 s on one. Convolutions, which use a weight many times a
    row, keep all threads.

    Args:
        objective: the model that is trained.
        bounds: first row and end of each batch of an epoch.

    Example:
        >>> before = torch.get_num_threads()
        >>> with suitable_threads(nn.Linear(8, 4), [(0, 16)]):
        ...     torch.get_num_threads()
        1
        >>> torch.get_num_threads() == before
        True
    """
    n_rows = max((stop - start for start, stop in bounds), default=0)
    n_weights = sum(parameter.numel() for parameter in objective.parameters())
    has_convolutions = any(isinstance(part, nn.Conv2d | nn.ConvTranspose2d) for part in objective.modules())
    before = torch.get_num_threads()
    if n_weights * n_rows < SMALL_STEP and not has_convolutions:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
