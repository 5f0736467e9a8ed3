"""Encoder of counts of terms, which sees their weights: rare terms count more than frequent ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.networks import MLP


def inverse_frequencies(blocks: Iterable[Float[Tensor, "block columns"]]) -> Float[Tensor, " columns"]:
    """Return w_j = ln((1 + n) / (1 + n_j)) + 1 of n rows, n_j of which have term j.

    Example:
        >>> inverse_frequencies([torch.tensor([[1.0, 0.0], [2.0, 0.0], [1.0, 3.0]])])
        tensor([1.0000, 1.6931])
    """
    n, n_with = 0, torch.zeros(())
    for x in blocks:
        n, n_with = n + len(x), n_with + (x > 0).sum(0)
    return torch.log((1 + n) / (1 + n_with)) + 1


def weighted_terms(
    counts: Float[Tensor, "*draws batch columns"], weights: Float[Tensor, " columns"]
) -> Float[Tensor, "*draws batch columns"]:
    """Return w_j log(1 + x_j), with norm 1 in each row.

    Example:
        >>> weighted_terms(torch.tensor([[0.0, 5.0]]), torch.tensor([1.0, 2.0]))
        tensor([[0., 1.]])
    """
    return F.normalize(weights * torch.log1p(counts), dim=-1)


class CountEncoder(MLP):
    r"""Encoder of the direction of the weighted counts of a row.

        a = encoder(sqrt(columns) y / ||y||),   y_j = w_j log(1 + x_j),   w_j = ln((1 + n) / (1 + n_j)) + 1

    n_j of the n training rows have term j (`learn`). Lengths of documents and frequent terms have less influence than
    in the counts, and the entries have a mean square of 1, for which weights are initialised.

    Shapes: counts (*draws, batch, columns) -> (*draws, batch, units).

    Args:
        encoder: the network whose layers are used; it has one input for each column.

    Source: Salton & Buckley, Term-weighting approaches in automatic text retrieval (1988).

    Example:
        >>> encoder = CountEncoder(MLP((3, 2), generator=torch.Generator().manual_seed(0)))
        >>> counts = torch.tensor([[1.0, 0.0, 1.0]])
        >>> encoder.learn(lambda: [counts])
        >>> bool(torch.equal(encoder(counts), encoder(counts.log1p().exp() - 1)))
        True
    """

    weights: Tensor
    mean: Tensor

    def __init__(self, encoder: MLP) -> None:
        nn.Module.__init__(self)
        self.sizes, self.activation = encoder.sizes, encoder.activation
        self.normalization, self.dropout = encoder.normalization, encoder.dropout
        self.layers = encoder.layers
        self.register_buffer("weights", torch.ones(encoder.sizes[0]))
        self.register_buffer("mean", torch.zeros(encoder.sizes[0]), persistent=False)

    def learn(self, blocks: Callable[[], Iterable[Float[Tensor, "block columns"]]]) -> None:
        """Take the weights of the terms, and the mean of what the network sees, from rows of counts in two passes."""
        self.weights.copy_(inverse_frequencies(blocks()))
        n, total = 0, torch.zeros_like(self.mean)
        for x in blocks():
            n, total = n + len(x), total + self.terms(x).sum(0)
        self.mean.copy_(total / n)

    def terms(self, counts: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return what the network sees."""
        return weighted_terms(counts, self.weights) * self.sizes[0] ** 0.5

    def centre(self, mean: Float[Tensor, " inputs"]) -> None:
        """Centre the first layer at the mean of what it sees, which is not what it sees of the mean counts."""
        super().centre(self.mean)

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """Encode counts."""
        return super().forward(self.terms(x), generator)
