"""The base class of likelihoods, and the functions that they share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from isthmus.errors import InputError

ROWS_CHECKED_AT_ONCE = 8192
UNIT_INTERVAL = "values in [0, 1]"
UNIT_INTERVAL_ADVICE = "use scaling='minmax' or likelihood='gaussian'"
MEAN_MARGIN = 1e-6
"""The distance that `parameters_for` keeps between a mean and the end of its range, where the parameter is infinite."""


class Likelihood(nn.Module, ABC):
    """The distribution p_dec(x | h) of a row x, given the decoder's output.

    The decoder returns `n_parameters` unconstrained real numbers per row. A likelihood defines the distribution over
    rows of `n_columns` that has these parameters. Values of x are in model space, and the nll is in nats. x has the two
    axes (batch, columns); parameters may have further leading axes, one entry for each draw of the code.

    A likelihood whose nll is a sum over columns also has the method
    `nll_by_column(parameters, x) -> (*draws, batch, n_columns)`; the others do not.

    Args:
        n_columns: the width of x.
        n_parameters: the width of the decoder's output.

    Attributes:
        name: the value of the argument `likelihood`.
        title: the name in error messages.
        domain: the admitted values, for error messages.
        advice: the remedy for other values, for error messages.
        bounds: the range of the mean; a value far outside is in another unit of measurement.
        is_count: whether the columns are counts, which must not be scaled.
        has_least_squares: whether the parameters of least nll are those of least squared error, as in PCA.
        has_log_probability: whether the nll is minus the logarithm of a probability, or of a density on [0, 1].
    """

    name: ClassVar[str]
    title: ClassVar[str]
    domain: ClassVar[str] = "finite numbers"
    advice: str = "correct it"
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    is_count: ClassVar[bool] = False
    has_least_squares: ClassVar[bool] = False
    has_log_probability: ClassVar[bool] = False

    def __init__(self, n_columns: int, n_parameters: int) -> None:
        super().__init__()
        self.n_columns = n_columns
        self.n_parameters = n_parameters

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch parameters"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """Return -log p(x | parameters), summed over columns, in the precision of x.

        The default is the sum of `nll_by_column`. A subclass overrides it if its nll is not a sum over columns, or if
        there is a faster formula.

        Args:
            parameters: the decoder's output, (*draws, batch, n_parameters).
            x: rows in model space; an entry of weight 0 may have any value, NaN included.
            weight: the factor of each column's term: 1 for an observed entry, 0 for a missing one.
        """
        return weighted_sum(cast(Any, self).nll_by_column(parameters, observed(x, weight)), weight)

    @abstractmethod
    def mean(self, parameters: Float[Tensor, "*draws batch parameters"]) -> Float[Tensor, "*draws batch columns"]:
        """Return E[x | parameters], the reconstruction."""

    @abstractmethod
    def sample(
        self, parameters: Float[Tensor, "*draws batch parameters"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample x from p(x | parameters), without gradients; random numbers come from the generator's device."""

    def in_support(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries are in the support of the distribution; by default, every finite number."""
        return x.isfinite()

    def far_outside(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries lie outside `bounds` by more than their width: too far for noise."""
        low, high = self.bounds
        return (x < low - (high - low)) | (x > high + (high - low))

    def allow(self, largest: Float[Tensor, " columns"]) -> None:
        """Raise bounds that depend on the largest value of each column in training; by default there are none."""

    def encoder_view(self, x: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return the values that an encoder sees which is centred at E[x | h = 0]; by default the rows themselves."""
        return x

    def parameters_for(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " parameters"]:
        """Return the decoder's output for a given mean: the inverse of `mean`.

        `mean(parameters_for(m))` is m within 1e-4 relative, in float32 too: for any finite m of real columns, for m
        in [1e-6, 1 - 1e-6] of columns with a mean in [0, 1], for probabilities of at least 1e-6 of levels and words,
        and for mean counts in [1e-3, 1e5]. At the end of its range, a mean has no finite parameter: a mean nearer than
        `MEAN_MARGIN` to the end is moved to that distance.
        """
        return torch.cat([self.link(mean), mean.new_zeros(self.n_parameters - self.n_columns)])

    def starting_parameters(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " parameters"]:
        """Return the decoder's output at which training starts, given the mean of the training rows.

        The default is `parameters_for`. A subclass overrides it if a start at an extreme mean generalises badly.
        """
        return self.parameters_for(mean)

    def link(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Return each column's parameter for its mean; by default, the mean itself."""
        return mean

    def mean_given(
        self, parameters: Float[Tensor, "*draws batch parameters"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return the mean, given those quantities of x that are not modelled (multinomial: the number of words)."""
        return self.mean(parameters)

    def config(self) -> dict[str, Any]:
        """Return the configuration for `likelihood_from`, of JSON types; learned parameters are in the state_dict."""
        return {"name": self.name}

    def check(
        self,
        x: Float[Tensor, "batch columns"],
        names: Sequence[str | int] | None = None,
        numbers: Int[Tensor, " batch"] | None = None,
    ) -> None:
        """Raise an error if x is outside the support of the distribution.

        Args:
            x: rows in model space.
            names: the names of the columns, for the message; by default, their numbers.
            numbers: the numbers of the rows, for the message; by default, their positions in x.

        Raises:
            InputError: x has another width; or a value is not admitted. The message has the first such value, its row,
                its column, and a remedy.
        """
        if x.shape[-1] != self.n_columns:
            raise InputError(
                f"{self.title} likelihood was built for {self.n_columns} columns; found {x.shape[-1]}; "
                "give rows with the columns it was fitted on"
            )
        for start in range(0, len(x), ROWS_CHECKED_AT_ONCE):
            rows = x[start : start + ROWS_CHECKED_AT_ONCE]
            admitted = self.in_support(rows)
            if not bool(admitted.all()):
                first = int((~admitted).flatten().to(torch.uint8).argmax())
                row, column = divmod(first, self.n_columns)
                number = start + row if numbers is None else int(numbers[start + row])
                self._refuse(rows[row], number, column, range(self.n_columns) if names is None else names)

    def _refuse(self, values: Float[Tensor, " columns"], row: int, column: int, names: Sequence[str | int]) -> None:
        missing = not bool(values[column].isfinite())
        advice = "fill or drop missing and infinite values first, e.g. missing='mean'" if missing else self.advice
        found = f"{float(values[column])}" if missing else self._describe_value(values, column)
        # The repr of a NumPy string contains its type.
        name = repr(str(names[column]) if isinstance(names[column], str) else names[column])
        raise InputError(
            f"{self.title} likelihood requires {self.domain}; found {found} at row {row}, column {name}; {advice}"
        )

    def _describe_value(self, values: Float[Tensor, " columns"], column: int) -> str:
        return f"{float(values[column]):.6g}"


L = TypeVar("L", bound=type[Likelihood])

LIKELIHOODS: dict[str, type[Likelihood]] = {}
"""The registered likelihoods by name; complete after the import of `isthmus.parts.likelihoods`."""


def register(likelihood: L) -> L:
    """Add a likelihood to `LIKELIHOODS` under its `name`; a class decorator."""
    LIKELIHOODS[likelihood.name] = likelihood
    return likelihood


class ColumnBlocks(nn.Module):
    """A permutation of columns that makes each block of columns contiguous, and its inverse.

    A permutation adds no two gradients in the backward pass, so the gradient is the same in every run.

    Args:
        blocks: the columns of each block; each column is in exactly one block.
        n_columns: the number of columns.

    Raises:
        InputError: a column is in no block, is in two blocks, or does not exist.

    Example:
        >>> blocks = ColumnBlocks([[0, 2], [1]], n_columns=3)
        >>> x = torch.tensor([[10.0, 20.0, 30.0]])
        >>> [block.tolist() for block in blocks.split(x)]
        [[[10.0, 30.0]], [[20.0]]]
        >>> torch.equal(blocks.join(blocks.split(x)), x)
        True
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, blocks: Sequence[Sequence[int]], n_columns: int) -> None:
        super().__init__()
        order = [column for block in blocks for column in block]
        for column in order:
            if not 0 <= column < n_columns:
                raise InputError(f"a group names column {column} of {n_columns}; columns count from 0")
        times = Counter(order)
        for column in range(n_columns):
            if times[column] != 1:
                raise InputError(f"column {column} is in {times[column]} groups; put every column into exactly one")
        self.sizes = [len(block) for block in blocks]
        self.in_order = order == sorted(order)
        # Not persistent: the configuration determines the order, and the state_dict holds learned values only.
        self.register_buffer("order", torch.tensor(order, dtype=torch.long), persistent=False)
        self.register_buffer("inverse", torch.argsort(self.order), persistent=False)

    def split(self, values: Float[Tensor, "*rows columns"]) -> tuple[Tensor, ...]:
        """Return the columns of each block."""
        if not self.in_order:
            values = values.index_select(-1, self.order)
        return values.split(self.sizes, dim=-1)

    def join(self, blocks: Sequence[Tensor]) -> Float[Tensor, "*rows columns"]:
        """Return the blocks as one tensor, with the columns in their original order."""
        values = torch.cat(list(blocks), dim=-1)
        return values if self.in_order else values.index_select(-1, self.inverse)


def weighted_sum(
    terms: Float[Tensor, "*draws batch columns"], weight: Float[Tensor, "batch columns"] | None
) -> Float[Tensor, "*draws batch"]:
    """Return sum_j w_j t_j over columns; without weights, the sum."""
    return terms.sum(-1) if weight is None else (terms * weight).sum(-1)


def observed(
    x: Float[Tensor, "batch columns"], weight: Float[Tensor, "batch columns"] | None
) -> Float[Tensor, "batch columns"]:
    """Return x with 0 for the entries of weight 0: 0 times NaN is NaN, and every likelihood accepts 0."""
    return x if weight is None else x.masked_fill(weight == 0, 0.0)


def logit(mean: Tensor) -> Tensor:
    """Return log(m / (1 - m)), the inverse of the sigmoid, for m clamped to [1e-6, 1 - 1e-6]."""
    return torch.logit(mean.clamp(MEAN_MARGIN, 1 - MEAN_MARGIN))


def soft_clip(value: Tensor, bound: float) -> Tensor:
    """Return bound * tanh(value / bound): close to the value near zero, and always in (-bound, bound)."""
    return bound * torch.tanh(value / bound)
