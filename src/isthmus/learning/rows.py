"""Rows that are read by number, as learning asks for them, and what is learned of them before learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.parts.passes import Batch

SURVEYED = 4096
"""Rows that a survey looks at, evenly spread."""


class Rows(Protocol):
    """Anything with a length that gives the rows of an index as a `Batch` in model space."""

    n_columns: int

    def __len__(self) -> int: ...

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The rows `index`, (batch, n_columns), float32."""
        ...


def spread(n_rows: int, most: int = SURVEYED) -> Int[Tensor, " rows"]:
    """At most `most` row numbers, evenly spread.

    Example:
        >>> spread(10, 4).tolist()
        [0, 2, 5, 7]
    """
    n = min(n_rows, most)
    return torch.arange(n) * n_rows // max(n, 1)


def surveyed(rows: Rows) -> Iterator[Batch]:
    """At most `SURVEYED` rows, a block at a time."""
    return (rows.batch(part) for part in spread(len(rows)).split(1024))


def mean_row(rows: Rows) -> Float[Tensor, " columns"]:
    """The mean of at most `SURVEYED` rows, of each column over the entries that were observed; 0 where none was."""
    sums = [_observed(batch) for batch in surveyed(rows)]
    total, n_observed = (torch.stack(part).sum(0) for part in zip(*sums, strict=True))
    return total / n_observed.clamp(min=1)


def _observed(batch: Batch) -> tuple[Tensor, Tensor]:
    """By column, the sum of the observed entries and how many there are."""
    if batch.mask is None:
        return batch.x.sum(0), torch.full_like(batch.x[0], len(batch.x))
    return (batch.x * batch.mask).sum(0), batch.mask.sum(0)
