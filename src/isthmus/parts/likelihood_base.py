"""What every likelihood promises, and the arithmetic that they share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from isthmus.errors import InputError

ROWS_CHECKED_AT_ONCE = 8192
UNIT_INTERVAL = "values in [0, 1]"
UNIT_INTERVAL_ADVICE = "use scaling='minmax' or likelihood='gaussian'"
MEAN_MARGIN = 1e-6
"""How far from the end of its range `parameters_for` keeps a mean: at the end itself the parameter is infinite."""


class Likelihood(nn.Module, ABC):
    """-log p_dec(x | h): what the decoder's output units mean.

    A decoder ends in `n_parameters` plain numbers a row; a likelihood says which distribution over rows of
    `n_columns` they stand for. Everything is in model space and in nats, and draws are leading axes: only x has
    exactly two. Where the nll is a sum over columns, a likelihood also has
    `nll_by_column(parameters, x) -> (*draws, batch, n_columns)`; elsewhere that method is absent.

    Args:
        n_columns: the width of x.
        n_parameters: the width of the decoder's output.

    Attributes:
        name: what users type.
        title: what errors call it.
        domain: the values it admits, in words.
        advice: what to do about a value that it does not admit.
        bounds: where its mean lies; values far outside are of another unit.
        is_count: the columns are counts, which scaling would make fractions of.
        has_least_squares: the nll is smallest where the squared error is, as that of PCA is.
        has_log_probability: the nll is the logarithm of a probability, or of a density on [0, 1].
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
        """-log p(x | parameters), summed over columns and computed in the precision of x.

        This is the sum of `nll_by_column`; a likelihood that does not separate, or that has a faster way, has its own.

        Args:
            parameters: the decoder's output, (*draws, batch, n_parameters).
            x: rows in model space; where weight is 0 they may hold anything, NaN too.
            weight: multiplies each column's term; 1 for an observed entry and 0 for a missing one.
        """
        return weighted_sum(cast(Any, self).nll_by_column(parameters, observed(x, weight)), weight)

    @abstractmethod
    def mean(self, parameters: Float[Tensor, "*draws batch parameters"]) -> Float[Tensor, "*draws batch columns"]:
        """E[x | parameters]: the reconstruction."""

    @abstractmethod
    def sample(
        self, parameters: Float[Tensor, "*draws batch parameters"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """One draw of x a row; no gradient flows through it. The generator lives on the parameters' device."""

    def in_support(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Which entries this likelihood has a density for: every finite number, unless a likelihood wants less."""
        return x.isfinite()

    def far_outside(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Which entries lie outside the bounds by more than these are apart: in another unit, not just noisy."""
        low, high = self.bounds
        return (x < low - (high - low)) | (x > high + (high - low))

    def parameters_for(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " parameters"]:
        """Return the decoder's output for a given mean: the inverse of `mean`.

        `mean(parameters_for(m))` is m within 1e-4 relative, in float32 too: for any finite m of real columns, for m
        in [1e-6, 1 - 1e-6] of columns with a mean in [0, 1], for shares of at least 1e-6 of categorical columns and
        words, and for mean counts in [1e-3, 1e5]. A mean nearer to the end of its range, where the parameter is
        infinite, counts as `MEAN_MARGIN` away from it.
        """
        return torch.cat([self.link(mean), mean.new_zeros(self.n_parameters - self.n_columns)])

    def starting_parameters(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " parameters"]:
        """Return the decoder's output at which training starts, given the mean of the training rows.

        This is `parameters_for`, unless a mean near the end of its range makes a start that generalises badly.
        """
        return self.parameters_for(mean)

    def link(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Return the parameter of each column that gives it its mean; the mean itself unless a subclass says more."""
        return mean

    def mean_given(
        self, parameters: Float[Tensor, "*draws batch parameters"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """The mean, given what the likelihood takes from x itself (the multinomial: the number of words)."""
        return self.mean(parameters)

    def config(self) -> dict[str, Any]:
        """What `likelihood_from` rebuilds it from, as JSON has it; learned parameters are in the state_dict."""
        return {"name": self.name}

    def check(self, x: Float[Tensor, "batch columns"], names: Sequence[str | int] | None = None) -> None:
        """Refuse rows that this likelihood has no density for.

        Args:
            x: rows in model space.
            names: the names of the columns; without them a column is told by its number.

        Raises:
            InputError: a wrong width; or the first value that is not admitted, its row, its column, and what to do.
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
                self._refuse(rows[row], start + row, column, range(self.n_columns) if names is None else names)

    def _refuse(self, values: Float[Tensor, " columns"], row: int, column: int, names: Sequence[str | int]) -> None:
        missing = not bool(values[column].isfinite())
        advice = "fill or drop missing and infinite values first, e.g. missing='mean'" if missing else self.advice
        found = f"{float(values[column])}" if missing else self._describe_value(values, column)
        # A name may be NumPy's string, whose repr says so.
        name = repr(str(names[column]) if isinstance(names[column], str) else names[column])
        raise InputError(
            f"{self.title} likelihood wants {self.domain}; found {found} at row {row}, column {name}; {advice}"
        )

    def _describe_value(self, values: Float[Tensor, " columns"], column: int) -> str:
        return f"{float(values[column]):.6g}"


L = TypeVar("L", bound=type[Likelihood])

LIKELIHOODS: dict[str, type[Likelihood]] = {}
"""The likelihoods by name; complete once `isthmus.parts.likelihoods` is imported."""


def register(likelihood: L) -> L:
    """Class decorator: make a likelihood known by its `name`."""
    LIKELIHOODS[likelihood.name] = likelihood
    return likelihood


class ColumnBlocks(nn.Module):
    """Columns that belong together put side by side, and back where they were.

    A permutation, so that no two columns meet in a backward pass: the gradient is the same in every run.

    Args:
        blocks: the columns of each block; together they are every column once.
        n_columns: how many columns there are.

    Raises:
        InputError: a column that is in no block, in two, or does not exist.

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
        # Rebuilt from the configuration: the state_dict is for what was learned.
        self.register_buffer("order", torch.tensor(order, dtype=torch.long), persistent=False)
        self.register_buffer("inverse", torch.argsort(self.order), persistent=False)

    def split(self, values: Float[Tensor, "*rows columns"]) -> tuple[Tensor, ...]:
        """The columns of each block."""
        if not self.in_order:
            values = values.index_select(-1, self.order)
        return values.split(self.sizes, dim=-1)

    def join(self, blocks: Sequence[Tensor]) -> Float[Tensor, "*rows columns"]:
        """The blocks as one tensor, each column in its own place."""
        values = torch.cat(list(blocks), dim=-1)
        return values if self.in_order else values.index_select(-1, self.inverse)


def weighted_sum(
    terms: Float[Tensor, "*draws batch columns"], weight: Float[Tensor, "batch columns"] | None
) -> Float[Tensor, "*draws batch"]:
    """sum_j w_j t_j over columns; without weights the plain sum."""
    return terms.sum(-1) if weight is None else (terms * weight).sum(-1)


def observed(
    x: Float[Tensor, "batch columns"], weight: Float[Tensor, "batch columns"] | None
) -> Float[Tensor, "batch columns"]:
    """x with 0, which every likelihood admits, where nothing was observed: 0 times NaN would be NaN."""
    return x if weight is None else x.masked_fill(weight == 0, 0.0)


def logit(mean: Tensor) -> Tensor:
    """log(m / (1 - m)), the inverse of the sigmoid, with m in [1e-6, 1 - 1e-6]."""
    return torch.logit(mean.clamp(MEAN_MARGIN, 1 - MEAN_MARGIN))


def soft_clip(value: Tensor, bound: float) -> Tensor:
    """bound * tanh(value / bound): the value itself near zero, never outside (-bound, bound)."""
    return bound * torch.tanh(value / bound)
