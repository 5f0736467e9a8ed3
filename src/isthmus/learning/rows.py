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
    """The mean of at most `SURVEYED` rows."""
    return torch.stack([batch.x.sum(0) for batch in surveyed(rows)]).sum(0) / min(len(rows), SURVEYED)
