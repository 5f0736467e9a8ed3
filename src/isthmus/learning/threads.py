"""The number of threads of a training run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from isthmus.parts.convolutions import has_convolutions

SMALL_STEP = 4_000_000
"""Weights times rows of a step below which a second thread gains nothing on an idle machine of two cores."""


@contextmanager
def suitable_threads(objective: nn.Module, bounds: Sequence[tuple[int, int]]) -> Iterator[None]:
    """Context manager that trains a small model on one thread and restores the number of threads afterwards.

    The products of a small model are too short to share, and on a machine with other load their threads wait for each
    other. Convolutions, which use a weight many times per row, keep all threads.

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
    before = torch.get_num_threads()
    if n_weights * n_rows < SMALL_STEP and not has_convolutions(objective):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
