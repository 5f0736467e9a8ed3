"""Likelihoods for categorical columns and counts: categorical, multinomial and Poisson."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from isthmus.errors import InputError
from isthmus.parts.likelihood_base import (
    MEAN_MARGIN,
    ColumnBlocks,
    Likelihood,
    observed,
    register,
    soft_clip,
)
from isthmus.parts.sampling import rand_like

LARGEST_MEAN = 2.0
"""Bound of the mean of counts, relative to the largest value in training."""

LOG_RATE_BOUND = 20.0


@register
class Categorical(Likelihood):
    """Categorical distribution over each group of one-hot columns, with the logits l from the decoder.

        -log p(x | l) = -sum_g sum_{j in g} x_j log( exp(l_j) / sum_{i in g} exp(l_i) )

    Probabilities that sum to 1 in each group are admitted too; the nll is then the cross-entropy. A missing value has
    weight 0 in all columns of its group.

    Shapes:
        parameters l (*draws, batch, n_columns), one logit per column; x and weight (batch, n_columns);
        nll (*draws, batch).

    Args:
        n_columns: the width of x and of the decoder's output.
        groups: the columns of each group; by default, all columns are one group.

    Raises:
        InputError: a group has no columns; a column is in no group, is in two groups, or does not exist.

    Source:
        Goodfellow, Bengio & Courville, Deep Learning, section 6.2.2.3.

    Example:
        >>> likelihood = Categorical(n_columns=5, groups=[[0, 1, 2], [3, 4]])
        >>> likelihood.mean(torch.zeros(5)).tolist()
        [0.333..., 0.333..., 0.333..., 0.5, 0.5]
    """

    name = "categorical"
    title = "Categorical"
    domain = "probabilities in [0, 1] that sum to 1 in each group of one-hot columns"
    advice = "encode the column as one-hot, or use likelihood='bernoulli' or 'gaussian'"
    has_log_probability = True

    def __init__(self, n_columns: int, groups: Sequence[Sequence[int]] | None = None) -> None:
        super().__init__(n_columns, n_columns)
        self.groups = [list(map(int, group)) for group in ([range(n_columns)] if groups is None else groups)]
        if not all(self.groups):
            raise InputError("a categorical likelihood has a group without columns; remove the group")
        # Groups of equal size form one block, (..., groups, size), so that one softmax computes them all.
        self.group_sizes = sorted({len(group) for group in self.groups})
        blocks = [
            [column for group in self.groups if len(group) == size for column in group] for size in self.group_sizes
        ]
        self.blocks = ColumnBlocks(blocks, n_columns)

    def config(self) -> dict[str, Any]:
        """Return the name and the groups."""
        return {"name": self.name, "groups": self.groups}

    def grouped(self, values: Float[Tensor, "*rows columns"]) -> list[Tensor]:
        """Return a tensor (*rows, groups, size) for each size of group."""
        blocks = zip(self.blocks.split(values), self.group_sizes, strict=True)
        return [block.unflatten(-1, (-1, size)) for block, size in blocks]

    def _ungrouped(self, blocks: Sequence[Tensor]) -> Float[Tensor, "*rows columns"]:
        return self.blocks.join([block.flatten(-2) for block in blocks])

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return -x_j log softmax(l)_j, the softmax over the group of column j."""
        log_rates = [F.log_softmax(block, dim=-1) for block in self.grouped(parameters.to(x.dtype))]
        return -x * self._ungrouped(log_rates)

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return softmax(l), group by group."""
        return self._ungrouped([torch.softmax(block, dim=-1) for block in self.grouped(parameters)])

    def link(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Return log m."""
        return mean.clamp(min=MEAN_MARGIN).log()

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample one-hot groups: the column with the largest sum of l and Gumbel noise is 1."""
        noise = -torch.log(-torch.log(rand_like(parameters, generator)))
        blocks = []
        for block in self.grouped(parameters + noise):
            one_hot = torch.zeros_like(block)
            blocks.append(one_hot.scatter_(-1, block.argmax(-1, keepdim=True), 1.0))
        return self._ungrouped(blocks)

    def in_support(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries are in [0, 1] and in a group that sums to 1 within 1e-4."""
        blocks = []
        for block in self.grouped(x):
            total = block.sum(-1, keepdim=True)
            # A NaN in one column does not mark the other columns of its group.
            broken = total.isfinite() & ((total - 1).abs() > 1e-4)
            blocks.append((block >= 0) & (block <= 1) & ~broken)
        return self._ungrouped(blocks)

    def _describe_value(self, values: Float[Tensor, " columns"], column: int) -> str:
        total = float(next(values[group].sum() for group in self.groups if column in group))
        return f"{float(values[column]):.6g} in a group that sums to {total:.6g}"


@register
class Multinomial(Likelihood):
    """Multinomial distribution of the word counts x of a row, given its number of words n.

        -log p(x | l, n) = -log n! + sum_j log x_j! - sum_j x_j log softmax(l)_j,   n = sum_j x_j

    The number of words is not modelled. `mean` and `sample` refer to a row of `total` words, by default one word, for
    which the mean is the probabilities; `mean_given(parameters, x)` takes the total from x. A column of weight 0 is
    ignored: given their total, the other counts are multinomial with renormalised probabilities. The nll is not a sum
    over columns.

    Shapes:
        parameters l (*draws, batch, n_columns); x and weight (batch, n_columns); total (batch,) or a number;
        nll (*draws, batch).

    Args:
        n_columns: the number of words in the vocabulary.

    Source:
        Hinton & Salakhutdinov 2009, Replicated softmax, section 2; Miao, Yu & Blunsom 2016, Neural variational
        inference for text processing, section 3.

    Example:
        >>> likelihood = Multinomial(n_columns=4)
        >>> likelihood.mean(torch.zeros(1, 4)).tolist()
        [[0.25, 0.25, 0.25, 0.25]]
        >>> likelihood.mean(torch.zeros(1, 4), total=8).tolist()
        [[2.0, 2.0, 2.0, 2.0]]
    """

    name = "multinomial"
    title = "Multinomial"
    domain = "counts, whole numbers from 0"
    advice = "use scaling='none' on counts, or likelihood='gaussian'"
    is_count = True
    has_log_probability = True

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, n_columns)

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """Return -log n! + sum_j log x_j! - sum_j x_j log softmax(l)_j; with weights, of w_j x_j in place of x_j."""
        logits = parameters.to(x.dtype)
        if weight is not None:
            x = observed(x, weight) * weight
            # Not -inf: -inf times a count of 0 is NaN.
            logits = logits.masked_fill(weight == 0, torch.finfo(logits.dtype).min)
        log_orderings = torch.lgamma(x.sum(-1) + 1) - torch.lgamma(x + 1).sum(-1)
        return -(x * F.log_softmax(logits, dim=-1)).sum(-1) - log_orderings

    def mean(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        total: Float[Tensor, " batch"] | float = 1.0,
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return total * softmax(l)."""
        return torch.softmax(parameters, dim=-1) * (total.unsqueeze(-1) if isinstance(total, Tensor) else total)

    def mean_given(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return n * softmax(l), where n is the number of words of the row."""
        return self.mean(parameters, total=x.sum(-1))

    def link(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Return log m, for mean counts or probabilities m; a probability is at least 1e-6."""
        least = MEAN_MARGIN * mean.sum()
        return mean.clamp(min=least.clamp(min=torch.finfo(mean.dtype).tiny)).log()

    @torch.no_grad()
    def sample(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        generator: torch.Generator,
        total: Float[Tensor, " batch"] | float = 1.0,
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample the counts of `total` words per row from softmax(l)."""
        rates = torch.softmax(parameters, dim=-1).flatten(end_dim=-2)
        n_words = torch.as_tensor(total, device=rates.device).expand(parameters.shape[:-1]).flatten()
        longest = int(n_words.max()) if len(n_words) else 0
        counts = torch.zeros_like(rates)
        if longest > 0:
            words = torch.multinomial(rates, longest, replacement=True, generator=generator)
            word_mask = torch.arange(longest, device=rates.device) < n_words.unsqueeze(-1)
            counts.scatter_add_(-1, words, word_mask.to(rates.dtype))
        return counts.view_as(parameters)

    def in_support(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries are whole numbers from 0."""
        return (x >= 0) & (x == x.round()) & x.isfinite()

    def far_outside(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries are not counts."""
        return ~self.in_support(x)


@register
class Poisson(Likelihood):
    """Poisson distribution of counts k; model space holds x = k / scale, with one scale per column.

        -log p(k | a) = sum_j [ lambda_j - k_j log lambda_j + log k_j! ],
        k = scale * x,   lambda = scale * exp(b),   b = 20 tanh(a / 20)

    The soft bound on b, the logarithm of the mean in model units, prevents an overflow. With the largest value m of a
    column, means are below 2 m: an exponential of a network far from its training rows would be arbitrarily large.

        b = u - softplus(u - 20 tanh(a / 20)),   u = log(2 m)

    Shapes:
        parameters a (*draws, batch, n_columns); x and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: the width of x and of the decoder's output.
        scale: the number of counts in one model unit, for each column; by default, 1.
        log_view: encoders that are centred see log(1 + k) in place of x.
        largest: m, the largest value of each column, in model units; None has no such bound.

    Units:
        x, mean and samples are in model units (counts / scale). The nll is that of the counts, a probability, so it
        has no Jacobian of the scale.

    Raises:
        InputError: the number of scales or of largest values is not the number of columns, or a scale is not positive.

    Source:
        Nelder & Wedderburn 1972, Generalized linear models (the log link).

    Example:
        >>> likelihood = Poisson(n_columns=1, scale=[10.0])
        >>> likelihood.nll(torch.zeros(1, 1), torch.tensor([[0.0]])).item()  # 0 counts, where the mean is 10
        10.0
    """

    name = "poisson"
    title = "Poisson"
    domain = "counts, whole numbers from 0"
    advice = "use likelihood='gaussian'"
    scale: Tensor
    is_count = True

    log_largest_mean: Tensor | None

    def __init__(
        self,
        n_columns: int,
        scale: Sequence[float] | None = None,
        log_view: bool = False,
        largest: Sequence[float] | None = None,
    ) -> None:
        super().__init__(n_columns, n_columns)
        self.log_view = bool(log_view)
        scale = [1.0] * n_columns if scale is None else [float(value) for value in scale]
        if len(scale) != n_columns:
            raise InputError(
                f"a Poisson likelihood of {n_columns} columns has {len(scale)} scales; give one per column"
            )
        if not all(0 < value < float("inf") for value in scale):
            raise InputError(f"the scales of a Poisson likelihood must be positive numbers; found {min(scale)}")
        self._scale = scale
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        if largest is not None and len(largest) != n_columns:
            raise InputError(
                f"a Poisson likelihood of {n_columns} columns has {len(largest)} largest values; give one per column"
            )
        self._largest = None if largest is None else [float(value) for value in largest]
        self.register_buffer("log_largest_mean", self._bound(), persistent=False)

    def _bound(self) -> Float[Tensor, " columns"] | None:
        """Return log(2 m), or None without bound; a column of zeros is bounded as one of at most one count."""
        if self._largest is None:
            return None
        return (LARGEST_MEAN * torch.maximum(torch.tensor(self._largest).to(self.scale), 1.0 / self.scale)).log()

    def allow(self, largest: Float[Tensor, " columns"]) -> None:
        """Raise the bounds to those of these largest values, where they are larger."""
        if self._largest is not None:
            self._largest = [max(known, float(new)) for known, new in zip(self._largest, largest, strict=True)]
            self.log_largest_mean = self._bound()

    def config(self) -> dict[str, Any]:
        """Return the name and the scales, and the other options that are given."""
        options = {"log_view": True} if self.log_view else {}
        bounds = {} if self._largest is None else {"largest": self._largest}
        return {"name": self.name, "scale": self._scale, **options, **bounds}

    def log_mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return b, the logarithm of the mean in model units."""
        bounded = soft_clip(parameters, LOG_RATE_BOUND)
        bound = self.log_largest_mean
        return bounded if bound is None else bound - F.softplus(bound - bounded)

    def encoder_view(self, x: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return x, or log(1 + k) if encoders see logarithms."""
        return (self.scale * x).clamp_min(0.0).log1p() if self.log_view else x

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return lambda_j - k_j log lambda_j + log k_j!."""
        count = x * self.scale
        log_rate = self.scale.log() + self.log_mean(parameters.to(x.dtype))
        return torch.exp(log_rate) - count * log_rate + torch.lgamma(count + 1)

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return exp(b), in model units."""
        return torch.exp(self.log_mean(parameters))

    def link(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Return the inverse of `mean`, for means of at least 1e-6 counts, in [exp(-19.9), exp(19.9)] and below 2 m."""
        log_mean = torch.maximum(mean, MEAN_MARGIN / self.scale).log()
        if self.log_largest_mean is not None:
            below = (self.log_largest_mean - log_mean).clamp_min(MEAN_MARGIN)
            log_mean = self.log_largest_mean - (below + torch.log(-torch.expm1(-below)))
        bound = 0.995 * LOG_RATE_BOUND
        return LOG_RATE_BOUND * torch.atanh(log_mean.clamp(-bound, bound) / LOG_RATE_BOUND)

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample counts from the Poisson distribution of mean lambda, and divide them by the scale."""
        return torch.poisson(self.scale * self.mean(parameters), generator=generator) / self.scale

    def in_support(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries are whole numbers from 0 times 1 / scale, within the precision of float32."""
        count = x * self.scale
        slack = (1e-6 * count).clamp(min=1e-3)
        return (x >= 0) & ((count - count.round()).abs() <= slack) & x.isfinite()

    def far_outside(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries are not counts."""
        return ~self.in_support(x)

    def _describe_value(self, values: Float[Tensor, " columns"], column: int) -> str:
        return f"{float(values[column] * self.scale[column]):.6g}"
