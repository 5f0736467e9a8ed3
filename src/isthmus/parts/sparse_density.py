"""The directed model of sparse coding: Laplace codes, and Gaussian noise around their reconstruction."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from isthmus.parts.priors import CodePrior
from isthmus.parts.sampling import rand_like

SMALLEST = 1e-6
"""Smallest scale, for units that are never active."""


class SparseDensity(CodePrior):
    r"""Prior of sparse codes and the noise of rows, fitted to the codes of some rows.

        p(h) = prod_j exp(-|h_j| / b_j) / (2 b_j),   with h >= 0 exp(-h_j / b_j) / b_j
        p(x | h) = N(x; D h + c, s^2 I)

    The estimates are those of maximum likelihood given the codes: b_j is the mean of |h_j|, and s^2 the mean squared
    residual of an entry.

    Args:
        code_size: units of the code.
        non_negative: True for codes h >= 0.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 13.4.

    Example:
        >>> density = SparseDensity(1)
        >>> density.fit(torch.tensor([1.0]), torch.tensor(0.25))
        >>> density.log_prob(torch.zeros(1, 1)), density.noise
        (tensor([-0.6931]), tensor(0.5000))
    """

    scales: Tensor
    noise: Tensor

    def __init__(self, code_size: int, *, non_negative: bool = False) -> None:
        super().__init__(code_size)
        self.non_negative = non_negative
        self.register_buffer("scales", torch.ones(code_size))
        self.register_buffer("noise", torch.ones(()))

    @torch.no_grad()
    def fit(self, mean_size: Float[Tensor, " code_size"], squared_residual: Float[Tensor, ""]) -> None:
        """Take the scales b from the means of |h|, and the noise s from the mean squared residual."""
        self.scales.copy_(mean_size.clamp_min(SMALLEST))
        self.noise.copy_(squared_residual.sqrt().clamp_min(SMALLEST))

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return log p(h)."""
        sides = 1.0 if self.non_negative else 2.0
        outside = self.non_negative & (code < 0.0).any(-1)
        log_p = -(code.abs() / self.scales + (sides * self.scales).log()).sum(-1)
        return torch.where(outside, -torch.inf, log_p)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code_size"]:
        """Return codes of the prior, by the inverse of the distribution function."""
        u = rand_like(torch.empty(n, self.code_size), generator)
        if self.non_negative:
            return -self.scales * torch.log1p(-u)
        centred = u - 0.5
        return -self.scales * centred.sign() * torch.log1p(-2.0 * centred.abs()).clamp_min(-100.0)

    def log_prob_of_residual(
        self, squared_residual: Float[Tensor, " batch"], n_entries: Float[Tensor, " batch"] | float
    ) -> Float[Tensor, " batch"]:
        """Return log p(x | h) of rows, given ||x - r||^2 and the number of their observed entries."""
        return -0.5 * (squared_residual / self.noise.square() + n_entries * (2 * math.pi * self.noise.square()).log())
