"""Likelihoods for the layers of a stack, which reconstruct the codes of the layer below."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.likelihood_base import MEAN_MARGIN, Likelihood
from isthmus.parts.likelihoods import Bernoulli, Gaussian
from isthmus.parts.sparse_activations import SparseActivation

SQUASHING_FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda mean: torch.atanh(mean.clamp(MEAN_MARGIN - 1, 1 - MEAN_MARGIN))),
    "softplus": (F.softplus, lambda mean: _inverse_softplus(mean.clamp(min=MEAN_MARGIN).double()).to(mean)),
}
"""s and its inverse, with the mean clamped to a distance of `MEAN_MARGIN` from the ends of the range."""


def _inverse_softplus(mean: Tensor) -> Tensor:
    """Return log(exp(m) - 1), without an overflow for large m."""
    return mean + torch.log(-torch.expm1(-mean))


class SquashedGaussian(Gaussian):
    """Gaussian distribution of unit variance with the mean s(a), which has the range of the codes.

        -log p(h | a) = 1/2 ||h - s(a)||^2 + d/2 log(2 pi)

    Without s, the decoders of a stack would together be a linear map.

    Shapes:
        parameters a (*draws, batch, n_columns); h and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: d, the width of the codes.
        squashing: s, a name in `SQUASHING_FUNCTIONS`: "tanh", or "softplus" for codes of at least 0. (A ReLU has no
            gradient below zero, so a unit that starts there would not train.)

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

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return s(a)."""
        return SQUASHING_FUNCTIONS[self.squashing][0](parameters)

    def link(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Return s^-1(mean)."""
        return SQUASHING_FUNCTIONS[self.squashing][1](mean)


def code_likelihood(activation: nn.Module, n_units: int) -> Likelihood:
    """Return the likelihood for codes with a given activation.

        sigmoid                              Bernoulli (the cross-entropy of values in [0, 1])
        tanh                                 Gaussian with the mean tanh(a)
        ReLU, softplus, sparse activations   Gaussian with the mean softplus(a)
        linear                               Gaussian

    Args:
        activation: the activation of the codes.
        n_units: the width of the codes.

    Raises:
        InputError: no likelihood has the range of the activation.

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
        f"the codes of {type(activation).__name__} units cannot be reconstructed by a layer above: no likelihood has "
        "their range; use activation='sigmoid', 'tanh', 'relu', 'softplus' or 'linear'"
    )
