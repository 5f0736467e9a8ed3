"""Rows that are read by number: what is in memory, or mapped from disk, becomes model space one batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.learning.rows import Rows
from isthmus.parts.forward import Batch

BLOCK_SIZE = 256
"""Rows read at once outside training: one fixed size, so that a row's code never depends on its neighbours."""


class Affine:
    """x = (raw - offset) / scale by column, skipped where it would change nothing.

    The arithmetic is done in float64 for float64 data, so that a small spread on a large offset
    (a year, a time stamp) survives the way to float32.
    """

    def __init__(self, offset: np.ndarray, scale: np.ndarray) -> None:
        self.offset, self.scale = offset.astype(np.float64), scale.astype(np.float64)
        self._offset = self.offset if self.offset.any() else None
        factor = 1.0 / self.scale
        self._factor = None if (factor == 1).all() else factor[:1] if (factor == factor[0]).all() else factor

    def __call__(self, raw: np.ndarray) -> Float[Tensor, "batch columns"]:
        """Raw rows (batch, columns), which may be overwritten, to float32 model space."""
        wide = raw.dtype == np.float64 or self._offset is not None
        values: Any = raw.astype(np.float64 if wide else np.float32, copy=False)
        if self._offset is not None:
            values -= self._offset
        if self._factor is not None:
            values *= self._factor.astype(values.dtype)
        return torch.from_numpy(values.astype(np.float32, copy=False))

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Model space back to raw units, in float64."""
        return x.astype(np.float64) * self.scale + self.offset


class DenseRows:
    """Rows of an array (or memory map), kept in its own type and converted batch by batch.

    Args:
        array: (n, ...) of any real type; it is not copied.
        affine: the scaling by model-space column.
        channels_last: whether a row is (h, w, c) and must become (c, h, w).
        fill: what stands in for a missing value by column, in raw units; None where none may be missing.
        masked: whether batches carry a mask of observed entries.
    """

    def __init__(
        self,
        array: np.ndarray,
        affine: Affine,
        *,
        channels_last: bool = False,
        fill: np.ndarray | None = None,
        masked: bool = False,
    ) -> None:
        self.array, self.affine = array, affine
        self.channels_last, self.fill, self.masked = channels_last, fill, masked
        self.n_columns = int(np.prod(array.shape[1:]))

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The rows `index` in model space."""
        raw = self.array[index.numpy()]
        if self.channels_last:
            raw = np.moveaxis(raw, -1, 1)
        raw = np.ascontiguousarray(raw).reshape(len(index), -1)
        if self.fill is None:
            return Batch(self.affine(raw), rows=index)
        observed = np.isfinite(raw)
        x = self.affine(np.where(observed, raw, self.fill))
        return Batch(x, rows=index, mask=torch.from_numpy(observed).float() if self.masked else None)


class SparseRows:
    """Rows of a scipy CSR matrix; only one batch is ever dense."""

    def __init__(self, matrix: Any, affine: Affine) -> None:
        self.matrix, self.affine = matrix, affine
        self.n_columns = int(matrix.shape[1])

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The rows `index`, made dense, in model space."""
        return Batch(self.affine(self.matrix[index.numpy()].toarray()), rows=index)


class Subset:
    """Some of the rows of another: the training or the held-out part, without a copy."""

    def __init__(self, rows: Rows, index: Int[Tensor, " subset"]) -> None:
        self.rows, self.index = rows, index
        self.n_columns = rows.n_columns

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The rows `index` of the subset."""
        return self.rows.batch(self.index[index])


class LabelledRows:
    """Rows with the label of each, and how much each weighs where they do not weigh the same.

    Args:
        rows: as they are read.
        labels: (n, ...): the number of a class, or what is to be predicted.
        weights: (n,); None leaves them out.

    Example:
        >>> rows = LabelledRows(DenseRows(np.zeros((3, 2)), Affine(np.zeros(2), np.ones(2))), torch.tensor([1, 0, 2]))
        >>> rows.batch(torch.tensor([2, 1])).label
        tensor([2, 0])
    """

    def __init__(self, rows: Rows, labels: Tensor, weights: Float[Tensor, " n"] | None = None) -> None:
        self.rows, self.labels, self.weights = rows, labels, weights
        self.n_columns = rows.n_columns

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The rows `index` with their labels."""
        weight = None if self.weights is None else self.weights[index]
        return replace(self.rows.batch(index), label=self.labels[index], weight=weight)


def blocks(rows: Rows, size: int = BLOCK_SIZE) -> Iterator[Batch]:
    """All rows in order, `size` at a time; the last block may be shorter."""
    for start in range(0, len(rows), size):
        yield rows.batch(torch.arange(start, min(start + size, len(rows))))
