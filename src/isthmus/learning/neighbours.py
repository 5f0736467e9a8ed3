"""Rows with their nearest rows: found once before training, by blocks, and read along with each batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.parts.count_encoder import inverse_frequencies, weighted_terms
from isthmus.parts.forward import Batch

MAX_CANDIDATES, MAX_CANDIDATE_ENTRIES = 20_000, 2**26
"""Largest number of rows among which neighbours are searched, and of their entries: 256 MiB in float32."""

MIN_CANDIDATES_PER_NEIGHBOUR = 50
"""Rows for each neighbour: of few rows, many neighbours would be no neighbourhood."""

_ROWS_AT_ONCE = 1024
"""Number of rows whose similarities to all candidates are in memory at a time."""


class NeighbourRows:
    """Rows, each with one of its k nearest rows (`Batch.neighbour`), without a copy of either.

    Row i at position p of a batch gets its neighbour number (i + p) mod k. The order of the rows is random in training,
    and so is the neighbour; the same order gives the same neighbours.

    Args:
        rows: the rows.
        others: the rows among which the neighbours are.
        neighbours: (n, k), the numbers of the neighbours of each row among the others.

    Example:
        >>> from isthmus.learning.rows import Rows
        >>> class Numbers:
        ...     n_columns = 1
        ...     def __len__(self):
        ...         return 3
        ...     def batch(self, index):
        ...         return Batch(index[:, None].float(), rows=index)
        >>> rows = NeighbourRows(Numbers(), Numbers(), torch.tensor([[1, 2], [0, 2], [1, 0]]))
        >>> rows.batch(torch.tensor([2, 0])).neighbour.x
        tensor([[1.],
                [2.]])
    """

    def __init__(self, rows: Rows, others: Rows, neighbours: Int[Tensor, "n k"]) -> None:
        self.rows, self.others, self.neighbours = rows, others, neighbours
        self.n_columns = rows.n_columns

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index`, each with one of its neighbours."""
        if not self.neighbours.shape[1]:
            return self.rows.batch(index)
        place = (index + torch.arange(len(index))) % self.neighbours.shape[1]
        return replace(self.rows.batch(index), neighbour=self.others.batch(self.neighbours[index, place]))


class NearestRows:
    """Search for the nearest rows by cosine in model space; of counts, by cosine of their term weights.

    The candidates are at most `MAX_CANDIDATES` evenly spaced rows, and fewer if they are wide. In memory are their
    directions and those of one block of rows. Missing entries count as 0.

    Args:
        rows: the rows among which neighbours are searched.
        are_counts: True if entries are counts of terms, whose weights `isthmus.parts.count_encoder` states.
    """

    def __init__(self, rows: Rows, *, are_counts: bool) -> None:
        n = min(MAX_CANDIDATES, max(MAX_CANDIDATE_ENTRIES // rows.n_columns, _ROWS_AT_ONCE))
        self.rows, self.candidates = rows, evenly_spaced(len(rows), n)
        sampled = (batch.x for _, batch in _blocks(rows, self.candidates))
        self.weights = inverse_frequencies(sampled) if are_counts else None
        self.directions = torch.cat([self._directions(batch) for _, batch in _blocks(rows, self.candidates)])

    def of(self, rows: Rows, k: int) -> Int[Tensor, "n k"]:
        """Return the numbers of the k nearest of the other rows for each row, (n, k).

        k is reduced to a fiftieth of the candidates, at least 1. A row is never its own neighbour.
        """
        own = rows is self.rows
        k = min(k, max(len(self.candidates) // MIN_CANDIDATES_PER_NEIGHBOUR, 1), len(self.candidates) - own)
        found = [self._nearest(index, batch, k, own=own) for index, batch in _blocks(rows, torch.arange(len(rows)))]
        return torch.cat(found)

    def _nearest(self, index: Int[Tensor, " block"], batch: Batch, k: int, *, own: bool) -> Int[Tensor, "block k"]:
        """Return the nearest candidates of a block of rows."""
        similarity = self._directions(batch) @ self.directions.T
        if own:
            similarity[self.candidates == index[:, None]] = -torch.inf
        return self.candidates[similarity.topk(k, dim=1).indices]

    def _directions(self, batch: Batch) -> Float[Tensor, "block columns"]:
        """Return the rows of a block with norm 1."""
        x = batch.x if batch.mask is None else batch.x * batch.mask
        return F.normalize(x if self.weights is None else weighted_terms(x, self.weights), dim=1)


def _blocks(rows: Rows, index: Int[Tensor, " n"]) -> Iterator[tuple[Int[Tensor, " block"], Batch]]:
    """Yield the numbers of some rows and the rows, by blocks."""
    return ((part, rows.batch(part)) for part in index.split(_ROWS_AT_ONCE))


def with_neighbours(
    objective: nn.Module, rows: Rows, validation: Rows | None, *, are_counts: bool
) -> tuple[Rows, Rows | None]:
    """Return the rows with the neighbours that the penalties of an objective need, all of them among training rows.

    Args:
        objective: the criterion; its modules have `n_neighbours` if they need any.
        rows, validation: training rows and validation rows.
        are_counts: True if entries are counts.
    """
    k = max((int(getattr(module, "n_neighbours", 0)) for module in objective.modules()), default=0)
    if not k:
        return rows, validation
    nearest = NearestRows(rows, are_counts=are_counts)
    found = NeighbourRows(rows, rows, nearest.of(rows, k))
    return found, None if validation is None else NeighbourRows(validation, rows, nearest.of(validation, k))
