"""What a decoder's output units mean where codes are what is reconstructed: units of the kind that gave the codes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.likelihood_base import MEAN_MARGIN, Likelihood
from isthmus.parts.likelihoods import Bernoulli, Gaussian
from isthmus.parts.sampling import randn_like
from isthmus.parts.sparse_activations import SparseActivation

SQUASHING_FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda mean: torch.atanh(mean.clamp(MEAN_MARGIN - 1, 1 - MEAN_MARGIN))),
    "softplus": (F.softplus, lambda mean: _inverse_softplus(mean.clamp(min=MEAN_MARGIN).double()).to(mean)),
}
"""s, and its inverse away from the edges of its range."""


def _inverse_softplus(mean: Tensor) -> Tensor:
    """log(exp(m) - 1), without the exponential of a large m."""
    return mean + torch.log(-torch.expm1(-mean))


class SquashedGaussian(Gaussian):
    """Gaussian of unit variance around s(a), units with the range of the codes that they reconstruct.

        -log p(h | a) = 1/2 ||h - s(a)||^2 + d/2 log(2 pi)

    Without s the decoders of a stack of such layers would be one linear map.

    Shapes:
        parameters a (*draws, batch, n_columns); h and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: d, the width of the codes.
        squashing: s, a name of `SQUASHING_FUNCTIONS`: "tanh", or "softplus" for codes that are never negative (a ReLU
            here would be dead wherever it starts below zero).

    Source: Glorot, Bordes & Bengio, Domain adaptation for large-scale sentiment classification (2011), section 3.2
    (softplus units reconstruct rectified codes).

    Example:
        >>> units = SquashedGaussian(1, "softplus")
        >>> units.mean(units.parameters_for(torch.tensor([2.0])))
        tensor([2.])
    """

    name = "gaussian-units"
    title = "Gaussian (units)"

    def __init__(self, n_columns: int, squashing: str) -> None:
        super().__init__(n_columns)
        self.squashing = squashing

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """1/2 ||h - s(a)||^2 + d/2 log(2 pi)."""
        return super().nll(self.mean(parameters.to(x.dtype)), x, weight)

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """1/2 (h_j - s(a_j))^2 + 1/2 log(2 pi)."""
        return super().nll_by_column(self.mean(parameters.to(x.dtype)), x)

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """s(a)."""
        return SQUASHING_FUNCTIONS[self.squashing][0](parameters)

    def parameters_for(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " parameters"]:
        """s^-1(mean)."""
        return SQUASHING_FUNCTIONS[self.squashing][1](mean)

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """s(a) plus standard normal noise."""
        mean = self.mean(parameters)
        return mean + randn_like(mean, generator)


def code_likelihood(activation: nn.Module, n_units: int) -> Likelihood:
    """The likelihood of codes that an activation gives.

        sigmoid                              Bernoulli, the cross-entropy of numbers in [0, 1]
        tanh                                 Gaussian around a tanh
        ReLU, softplus, sparse activations   Gaussian around a softplus
        linear                               Gaussian

    Args:
        activation: of the codes.
        n_units: their width.

    Raises:
        InputError: an activation that has no such units.

    Example:
        >>> code_likelihood(nn.Sigmoid(), 4).name
        'bernoulli'
    """
    if isinstance(activation, nn.Sigmoid):
        return Bernoulli(n_units)
    if isinstance(activation, nn.Identity):
        return Gaussian(n_units)
    if isinstance(activation, nn.Tanh):
        return SquashedGaussian(n_units, "tanh")
    if isinstance(activation, nn.ReLU | nn.Softplus | SparseActivation):
        return SquashedGaussian(n_units, "softplus")
    raise InputError(
        f"the codes of {type(activation).__name__} units cannot be reconstructed by a layer above: no output unit has "
        "their range; use activation='sigmoid', 'tanh', 'relu', 'softplus' or 'linear'"
    )
