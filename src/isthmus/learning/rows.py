"""Interface of a data set for training, and statistics of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.parts.forward import Batch

MAX_SAMPLED_ROWS = 4096
"""Largest number of rows from which initial statistics are estimated."""

ROWS_AT_ONCE = 1024
"""Number of rows that are dense at a time while initial statistics are estimated."""


class Rows(Protocol):
    """A data set: has a length, and returns the rows of an index as a `Batch` in model space."""

    n_columns: int

    def __len__(self) -> int: ...

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index`, (batch, n_columns), float32."""
        ...


def evenly_spaced(n_rows: int, max_rows: int = MAX_SAMPLED_ROWS) -> Int[Tensor, " rows"]:
    """Return at most `max_rows` row numbers, evenly spaced.

    Example:
        >>> evenly_spaced(10, 4).tolist()
        [0, 2, 5, 7]
    """
    n = min(n_rows, max_rows)
    return torch.arange(n) * n_rows // max(n, 1)


def sampled_batches(rows: Rows, max_rows: int = MAX_SAMPLED_ROWS) -> Iterator[Batch]:
    """Yield at most `max_rows` evenly spaced rows, in blocks of `ROWS_AT_ONCE`."""
    return (rows.batch(part) for part in evenly_spaced(len(rows), max_rows).split(ROWS_AT_ONCE))


def mean_row(rows: Rows) -> Float[Tensor, " columns"]:
    """Return the mean of each column over its observed entries, 0 without any, from at most `MAX_SAMPLED_ROWS` rows.

    Rows count by their weights.
    """
    return _mean_of(sampled_batches(rows))


def mean_target(rows: Rows) -> Float[Tensor, " targets"] | None:
    """Return the mean of each column of the targets, as `mean_row`; None for rows without targets."""
    if rows.batch(torch.arange(1)).target is None:
        return None
    return _mean_of(replace(b, x=b.desired_output, mask=b.target_mask) for b in sampled_batches(rows))


def _mean_of(batches: Iterable[Batch]) -> Float[Tensor, " columns"]:
    """Return the mean of each column over the observed entries of some batches."""
    sums = [observed_sums(batch) for batch in batches]
    total, n_observed = (torch.stack(part).sum(0) for part in zip(*sums, strict=True))
    return mean_of_sums(total, n_observed)


def weighted_size(rows: Rows) -> float:
    """Return the number of rows by their weights: the number times the mean weight of `MAX_SAMPLED_ROWS` of them."""
    weights = [batch.weight for batch in sampled_batches(rows) if batch.weight is not None]
    return len(rows) * (float(torch.cat(weights).mean()) if weights else 1.0)


def observed_sums(batch: Batch, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Return, for each column, the sum and the number of the observed entries; rows count by their weights.

    Args:
        batch: the rows.
        dtype: of the sums; None is that of the rows.
    """
    if batch.mask is None and batch.weight is None:
        return batch.x.sum(0, dtype=dtype), torch.full_like(batch.x[0], len(batch.x), dtype=dtype)
    factor = torch.ones_like(batch.x) if batch.mask is None else batch.mask
    factor = factor if batch.weight is None else factor * batch.weight[:, None]
    return (batch.x * factor).sum(0, dtype=dtype), factor.sum(0, dtype=dtype)


def mean_of_sums(total: Float[Tensor, " columns"], n_observed: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
    """Return the mean of each column given its `observed_sums`; 0 for a column without observed entries."""
    return total / torch.where(n_observed > 0, n_observed, 1.0)
