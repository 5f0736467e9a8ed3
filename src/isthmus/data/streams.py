"""Rows in memory or in memory-mapped files, converted to model space batch by batch."""

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
"""Rows per batch outside training. The size is fixed so that the code of a row does not depend on other rows."""


class Affine:
    """Scaling x = (raw - offset) / scale by column. Identity operations are skipped.

    float64 data, and data with an offset, are scaled in float64 before the conversion to float32, so that a
    small spread around a large offset (a year, a time stamp) is preserved.
    """

    def __init__(self, offset: np.ndarray, scale: np.ndarray) -> None:
        self.offset, self.scale = offset.astype(np.float64), scale.astype(np.float64)
        self._offset = self.offset if self.offset.any() else None
        factor = 1.0 / self.scale
        self._factor = None if (factor == 1).all() else factor[:1] if (factor == factor[0]).all() else factor

    def __call__(self, raw: np.ndarray) -> Float[Tensor, "batch columns"]:
        """Transform raw rows (batch, columns) to float32 model space. `raw` may be overwritten."""
        wide = raw.dtype.newbyteorder("=") == np.float64 or self._offset is not None
        values: Any = raw.astype(np.float64 if wide else np.float32, copy=False)
        if self._offset is not None:
            values -= self._offset
        if self._factor is not None:
            values *= self._factor.astype(values.dtype)
        return torch.from_numpy(values.astype(np.float32, copy=False))

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Transform model space to raw units, in float64."""
        return x.astype(np.float64) * self.scale + self.offset


class DenseRows:
    """Rows of an array or memory map, converted batch by batch.

    Args:
        array: (n, ...) of any real type; not copied.
        affine: scaling by model-space column.
        channels_last: whether the last axis of rows has the channels, which are the first axis in model space.
        fill: (columns,), replacement of missing values in raw units; None if there are no missing values.
        masked: whether batches have a mask of the observed entries.
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
        """Return the rows `index` in model space."""
        raw = self.array[index.numpy()]
        if self.channels_last:
            raw = np.moveaxis(raw, -1, 1)
        raw = np.ascontiguousarray(raw, raw.dtype.newbyteorder("=")).reshape(len(index), -1)
        if self.fill is None:
            return Batch(self.affine(raw), rows=index)
        observed = np.isfinite(raw)
        x = self.affine(np.where(observed, raw, self.fill))
        return Batch(x, rows=index, mask=torch.from_numpy(observed).float() if self.masked else None)


class SparseRows:
    """Rows of a scipy CSR matrix. Only the current batch is dense."""

    def __init__(self, matrix: Any, affine: Affine) -> None:
        self.matrix, self.affine = matrix, affine
        self.n_columns = int(matrix.shape[1])

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index` as a dense batch in model space."""
        return Batch(self.affine(self.matrix[index.numpy()].toarray()), rows=index)


class Subset:
    """Subset of other rows, such as the training or the validation rows, without a copy."""

    def __init__(self, rows: Rows, index: Int[Tensor, " subset"]) -> None:
        self.rows, self.index = rows, index
        self.n_columns = rows.n_columns

    def __len__(self) -> int:
        return len(self.index)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index` of the subset."""
        return self.rows.batch(self.index[index])


class WeightedRows:
    """Rows with weights in the criterion, without a copy of the rows.

    Args:
        rows: the rows.
        weights: (n,), the weight of each row, which multiplies the weight that it has already.

    Example:
        >>> rows = WeightedRows(DenseRows(np.zeros((3, 2)), Affine(np.zeros(2), np.ones(2))), torch.tensor([1.0, 0, 2]))
        >>> rows.batch(torch.tensor([2, 0])).weight
        tensor([2., 1.])
    """

    def __init__(self, rows: Rows, weights: Float[Tensor, " n"]) -> None:
        self.rows, self.weights = rows, weights
        self.n_columns = rows.n_columns

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index` with their weights."""
        batch, weight = self.rows.batch(index), self.weights[index]
        return replace(batch, weight=weight if batch.weight is None else batch.weight * weight)


class LabelledRows:
    """Rows with labels.

    Args:
        rows: the rows.
        labels: (n, ...), class numbers or regression targets.

    Example:
        >>> rows = LabelledRows(DenseRows(np.zeros((3, 2)), Affine(np.zeros(2), np.ones(2))), torch.tensor([1, 0, 2]))
        >>> rows.batch(torch.tensor([2, 1])).label
        tensor([2, 0])
    """

    def __init__(self, rows: Rows, labels: Tensor) -> None:
        self.rows, self.labels = rows, labels
        self.n_columns = rows.n_columns

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index` with their labels."""
        return replace(self.rows.batch(index), label=self.labels[index])


def blocks(rows: Rows, size: int = BLOCK_SIZE) -> Iterator[Batch]:
    """Yield all rows in order, in blocks of `size` rows; the last block may be smaller."""
    for start in range(0, len(rows), size):
        yield rows.batch(torch.arange(start, min(start + size, len(rows))))
