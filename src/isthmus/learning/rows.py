"""Rows that are read by number, as learning asks for them, and what is learned of them before learning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.parts.forward import Batch

MAX_SAMPLED_ROWS = 4096
"""Rows that a survey looks at, evenly spread."""

ROWS_AT_ONCE = 1024
"""Rows of a survey that are dense at a time."""


class Rows(Protocol):
    """Anything with a length that gives the rows of an index as a `Batch` in model space."""

    n_columns: int

    def __len__(self) -> int: ...

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The rows `index`, (batch, n_columns), float32."""
        ...


def evenly_spaced(n_rows: int, max_rows: int = MAX_SAMPLED_ROWS) -> Int[Tensor, " rows"]:
    """At most `max_rows` row numbers, evenly spread.

    Example:
        >>> evenly_spaced(10, 4).tolist()
        [0, 2, 5, 7]
    """
    n = min(n_rows, max_rows)
    return torch.arange(n) * n_rows // max(n, 1)


def sampled_batches(rows: Rows, max_rows: int = MAX_SAMPLED_ROWS) -> Iterator[Batch]:
    """At most `max_rows` evenly spaced rows, in blocks of `ROWS_AT_ONCE`."""
    return (rows.batch(part) for part in evenly_spaced(len(rows), max_rows).split(ROWS_AT_ONCE))


def mean_row(rows: Rows) -> Float[Tensor, " columns"]:
    """The mean of each column over its observed entries, 0 without any, of at most `MAX_SAMPLED_ROWS` rows."""
    sums = [_observed(batch) for batch in sampled_batches(rows)]
    total, n_observed = (torch.stack(part).sum(0) for part in zip(*sums, strict=True))
    return total / n_observed.clamp(min=1)


def _observed(batch: Batch) -> tuple[Tensor, Tensor]:
    """By column, the sum of the observed entries and how many there are."""
    if batch.mask is None:
        return batch.x.sum(0), torch.full_like(batch.x[0], len(batch.x))
    return (batch.x * batch.mask).sum(0), batch.mask.sum(0)
