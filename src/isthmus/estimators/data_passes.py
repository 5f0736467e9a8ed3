"""Passes over the rows before training, blocks of rows, and the check of their ranges."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.data.streams import BLOCK_SIZE, blocks
from isthmus.errors import InputWarning
from isthmus.evaluation.baseline import (
    MAX_SUGGESTED_SIZE,
    SUGGESTED_SHARE,
    ComponentSums,
    PrincipalComponents,
    component_sums,
    needs_sketch,
    suggested_code_size,
)
from isthmus.evaluation.facts import ColumnStatistics, ColumnSums
from isthmus.learning.rows import Rows, mean_of_sums, observed_sums
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Likelihood, likelihood_from

BLOCK_ROWS = 1024
"""Number of rows that are in memory at a time in a pass over all rows."""


class SurveyedRows:
    """Training rows, with the statistics that the choices before training need from all of them.

    The first pass checks the domain of the likelihood, and accumulates the statistics of the columns and the sums of
    the principal components. A second pass follows only if the principal components need one: if entries are missing,
    for the column means of the first pass replace them, or for a sketch of wide data (`SketchSums`). In memory are
    these sums and one block of `BLOCK_ROWS` rows. In means and principal components rows count by their weights.

    `suggested_code_size` and `baseline` make the passes, `check` the first one alone; the other statistics are known
    afterwards.

    Args:
        rows: in model space.
        likelihood: the likelihood whose domain every row is checked for.
        names: of the columns.
        decoded: view of the rows with what is decoded as x, which the statistics are those of; None is the rows.

    Attributes:
        warns_far_outside: True to warn, in the first pass, of a value far outside the range of the likelihood.
        deciding_row: a row that determines which likelihood "auto" chooses for all rows, (1, columns): the first with a
            value outside [0, 1], else the first with a value inside (0, 1), else the first row.
    """

    deciding_row: Float[Tensor, "1 columns"]

    def __init__(self, rows: Rows, likelihood: Likelihood, names: Sequence[str], decoded: Rows | None = None) -> None:
        self.rows, self.decoded = rows, rows if decoded is None else decoded
        self.n_columns = self.decoded.n_columns
        self.likelihood, self._names, self.warns_far_outside = likelihood, names, False
        self._components: ComponentSums | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index`."""
        return self.rows.batch(index)

    def suggested_code_size(self) -> int:
        """Return the number of principal components that explain 90% of the variance, at most 32.

        If the data needs a sketch, whose size depends on that number, only the first rows are used, at most 2,000.

        Raises:
            InputError: a value outside the domain of the likelihood.
        """
        if needs_sketch(len(self), self.n_columns):
            return suggested_code_size(lambda: map(imputed, blocks(self.decoded, BLOCK_ROWS)), self.n_columns)
        return self._read(MAX_SUGGESTED_SIZE).components(MAX_SUGGESTED_SIZE).size_for(SUGGESTED_SHARE)

    def baseline(self, code_size: int) -> PrincipalComponents:
        """Compute the principal components of the rows, and free the memory of their sums.

        Missing entries are replaced by the mean of the column, from which principal components reconstruct best; the
        placeholder that the encoder gets may lie far from the data.

        Raises:
            InputError: a value outside the domain of the likelihood.
        """
        components = self._read(code_size).components(code_size)
        self._components = None
        return components

    def check(self) -> None:
        """Check every row and accumulate the statistics of the columns, without those of the principal components.

        Raises:
            InputError: a value outside the domain of the likelihood.
        """
        for _ in self._first_pass():
            pass

    @property
    def statistics(self) -> ColumnStatistics:
        """Mean, standard deviation, minimum and maximum of the observed entries of each column."""
        return self._columns.statistics()

    @property
    def mean(self) -> Float[Tensor, " columns"]:
        """The mean of the observed entries of each column by the weights of the rows, in float64; 0 without any."""
        return mean_of_sums(self._total, self._n_observed)

    @property
    def has_missing_entries(self) -> bool:
        """True if an entry of any row is missing."""
        return self._has_missing_entries

    def _read(self, code_size: int) -> ComponentSums:
        """Make the passes, if they were not made yet; return the sums of the principal components."""
        if self._components is not None:
            return self._components
        sums = self._components = component_sums(len(self), self.n_columns, code_size)
        is_masked = self.decoded.batch(torch.arange(1)).mask is not None
        for batch in self._first_pass():
            if sums.n_passes == 2 or not is_masked:
                sums.add(imputed(batch), batch.weight)
        if sums.n_passes == 2:
            sums.start_second_pass()
        if sums.n_passes == 2 or is_masked:
            mean = self.mean.float()
            for batch in blocks(self.decoded, BLOCK_ROWS):
                sums.add(imputed(batch, mean), batch.weight)
        return sums

    def _first_pass(self) -> Iterator[Batch]:
        """Yield all rows in blocks that are checked and in the statistics of the columns."""
        self._columns, self._n_decided, self._n_observed = ColumnSums(), 0, torch.zeros(self.n_columns).double()
        self._total, self._has_missing_entries = torch.zeros(self.n_columns).double(), False
        for batch in blocks(self.decoded, BLOCK_ROWS):
            self.likelihood.check(batch.x, self._names, batch.rows)
            if self.warns_far_outside and warn_far_outside(batch, self.likelihood, self._names):
                self.warns_far_outside = False
            self._accumulate(batch)
            yield batch

    def _accumulate(self, batch: Batch) -> None:
        """Add a block to the statistics of the columns, and keep one of its rows if it decides on the likelihood."""
        total, n_observed = observed_sums(batch, torch.float64)
        self._total += total
        self._n_observed += n_observed
        self._has_missing_entries |= batch.mask is not None and bool((batch.mask == 0).any())
        self._columns.add(batch.x if batch.mask is None else batch.x.masked_fill(batch.mask == 0, torch.nan))
        if not hasattr(self, "deciding_row"):
            self.deciding_row = batch.x[:1].clone()
        while self._n_decided < len(_DECISIONS) and bool((found := _DECISIONS[self._n_decided](batch.x)).any()):
            self.deciding_row = batch.x[found.any(1)][:1].clone()
            self._n_decided += 1


_DECISIONS: tuple[Callable[[Tensor], Tensor], ...] = (lambda x: (x != 0) & (x != 1), lambda x: (x < 0) | (x > 1))
"""Which entries exclude a Bernoulli likelihood; which of them exclude a mean in [0, 1]."""


def imputed(batch: Batch, mean: Float[Tensor, " columns"] | None = None) -> Float[Tensor, "batch columns"]:
    """Return the rows of a batch with `mean` at missing entries; by default the mean of the column in the batch."""
    if batch.mask is None:
        return batch.x
    if mean is None:
        mean = mean_of_sums(*observed_sums(batch, torch.float64)).float()
    return torch.where(batch.mask != 0, batch.x, mean)


def padded(batch: Batch) -> Batch:
    """Return the batch, padded with rows of zeros to `BLOCK_SIZE` rows."""
    missing = BLOCK_SIZE - len(batch.x)
    if not missing:
        return batch

    def fill(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.nn.functional.pad(tensor, (0, 0, 0, missing))

    x = fill(batch.x)
    assert x is not None
    return Batch(
        x, mask=fill(batch.mask), condition=fill(batch.condition), target=fill(batch.target),
        target_mask=fill(batch.target_mask),
    )  # fmt: skip


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
        if not self.has_warned:
            self.has_warned = warn_far_outside(replace(batch, rows=index), self.likelihood, self.names)
        return batch


def warn_far_outside(batch: Batch, likelihood: Likelihood, names: Sequence[str]) -> bool:
    """Warn of the first value far outside the range of the likelihood; return whether there is one.

    Args:
        batch: the rows, in model space, with their numbers.
        likelihood: the likelihood of the model, on the CPU.
        names: of the columns.
    """
    far = likelihood.far_outside(batch.x)
    if not bool(far.any()):
        return False
    row, column = torch.nonzero(far)[0].tolist()
    number = row if batch.rows is None else int(batch.rows[row])
    text = (
        f"row {number}, column {names[column]!r} is {float(batch.x[row, column]):.6g} in model space, far outside the "
        f"domain of its likelihood ({likelihood.domain}); give rows in the units of the training data"
    )
    warnings.warn(text, InputWarning, stacklevel=3)
    return True
