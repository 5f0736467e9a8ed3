"""Passes over the rows before and after training, blocks of rows, and the check of their ranges."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.data.streams import BLOCK_SIZE, blocks
from isthmus.errors import InputWarning
from isthmus.evaluation.baseline import Blocks, PrincipalComponents, principal_components
from isthmus.learning.rows import Rows
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Likelihood, likelihood_from


def x_blocks(rows: Rows) -> Iterator[Float[Tensor, "block columns"]]:
    """Yield the rows in model space, block by block."""
    return (batch.x for batch in blocks(rows, 1024))


def block_for_likelihood(rows: Rows) -> Float[Tensor, "block columns"]:
    """Return a block from which "auto" infers the likelihood of all rows.

    It is the first block with a value outside [0, 1], else the first with one inside (0, 1), else the first.
    """
    grey = None
    for x in x_blocks(rows):
        if bool(((x < 0) | (x > 1)).any()):
            return x
        if grey is None and not bool(((x == 0) | (x == 1)).all()):
            grey = x
    return next(x_blocks(rows)) if grey is None else grey


def fit_baseline(rows: Rows, code_size: int) -> PrincipalComponents:
    """Fit the baseline of the model: principal components of the same rows and code size."""
    return principal_components(imputed_blocks(rows), rows.n_columns, code_size)


def imputed_blocks(rows: Rows) -> Blocks:
    """Return a function that yields the rows in model space, with the mean of the column at missing entries.

    Principal components, the baseline, reconstruct best from the means. The placeholder that the encoder gets may lie
    far from the data.
    """
    if rows.batch(torch.arange(1)).mask is None:
        return lambda: x_blocks(rows)
    total, observed = torch.zeros(rows.n_columns).double(), torch.zeros(rows.n_columns).double()
    for x, mask in _masked_blocks(rows):
        total += (x * mask).sum(0, dtype=torch.float64)
        observed += mask.sum(0, dtype=torch.float64)
    mean = (total / observed.clamp(min=1)).float()
    return lambda: (torch.where(mask != 0, x, mean) for x, mask in _masked_blocks(rows))


def _masked_blocks(rows: Rows) -> Iterator[tuple[Tensor, Tensor]]:
    return ((batch.x, batch.mask) for batch in blocks(rows, 1024) if batch.mask is not None)


def padded(batch: Batch) -> Batch:
    """Return the batch, padded with rows of zeros to `BLOCK_SIZE` rows."""
    missing = BLOCK_SIZE - len(batch.x)
    if not missing:
        return batch

    def fill(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.nn.functional.pad(tensor, (0, 0, 0, missing))

    x = fill(batch.x)
    assert x is not None
    return Batch(x, mask=fill(batch.mask))


class RangeCheckedRows:
    """Rows that warn once if values of a row are far outside the range of the likelihood, as in another unit.

    Rows are on the CPU, whatever the device of the model: they are checked with a likelihood of their own there.

    Args:
        rows: in model space.
        likelihood: the likelihood of the model, on any device.
        names: of the columns.
    """

    def __init__(self, rows: Rows, likelihood: Likelihood, names: Sequence[str]) -> None:
        self.rows, self.names = rows, names
        self.likelihood = likelihood_from(likelihood.config(), likelihood.n_columns)
        self.n_columns, self.has_warned = rows.n_columns, False

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The rows `index`."""
        batch = self.rows.batch(index)
        if not self.has_warned and bool((far := self.likelihood.far_outside(batch.x)).any()):
            self.has_warned = True
            row, column = torch.nonzero(far)[0].tolist()
            text = (
                f"row {int(index[row])}, column {self.names[column]!r} is {float(batch.x[row, column]):.6g} in model "
                f"space, far outside the domain of its likelihood ({self.likelihood.domain}); "
                "give rows in the units of the training data"
            )
            warnings.warn(text, InputWarning, stacklevel=2)
        return batch
