"""The hidden units of an energy: their mean, their draws, and what summing them out leaves."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from isthmus.parts.layers import check_choice
from isthmus.parts.sampling import bernoulli, randn_like


class HiddenUnits(ABC):
    """One layer of hidden units under the input a: -log of their base measure, their mean and their draws.

        E = ... - a' h + B(h),   A(a) = log sum over h of exp(a h - B(h)),   E[h | a] = A'(a)

    Shapes: all of the shape of a.
    """

    name: ClassVar[str]
    activation: ClassVar[type[nn.Module]]
    """The mean as a module, h = s(a)."""
    n_states: ClassVar[int | None] = None
    """States of one unit, where they can be counted: 0 to n - 1."""
    exact_sampling: ClassVar[bool] = True
    """Whether draws are from exp(a h - B(h) - A(a)) itself, so that chains keep the model's distribution."""

    @abstractmethod
    def mean(self, a: Tensor) -> Tensor:
        """E[h | a]."""

    @abstractmethod
    def sample(self, a: Tensor, generator: Generator) -> Tensor:
        """One draw of h."""

    @abstractmethod
    def log_normalizer(self, a: Tensor) -> Tensor:
        """A(a), what summing h out leaves, unit by unit."""

    @abstractmethod
    def variance(self, a: Tensor) -> Tensor:
        """A''(a), how fast the mean rises."""

    def energy(self, h: Tensor) -> Tensor:
        """B(h), unit by unit."""
        return torch.zeros_like(h)


class BinaryHidden(HiddenUnits):
    """h in {0, 1}: A = softplus(a), E[h | a] = sigma(a), B = 0."""

    name = "bernoulli"
    activation = nn.Sigmoid
    n_states = 2

    def mean(self, a: Tensor) -> Tensor:
        """sigma(a)."""
        return torch.sigmoid(a)

    @torch.no_grad()
    def sample(self, a: Tensor, generator: Generator) -> Tensor:
        """1 with the rate sigma(a)."""
        return bernoulli(torch.sigmoid(a), generator)

    def log_normalizer(self, a: Tensor) -> Tensor:
        """softplus(a)."""
        return F.softplus(a)

    def variance(self, a: Tensor) -> Tensor:
        """sigma(a) (1 - sigma(a))."""
        return torch.sigmoid(a) * torch.sigmoid(-a)


class GaussianHidden(HiddenUnits):
    """h ~ N(a, 1), an unbounded code: A = a^2 / 2, E[h | a] = a, B = h^2 / 2 + log(2 pi) / 2.

    Beside Gaussian visible units the energy has a lowest value only while every singular value of W is below 1.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks (2006): the code layer.
    """

    name = "gaussian"
    activation = nn.Identity

    def mean(self, a: Tensor) -> Tensor:
        """a."""
        return a

    @torch.no_grad()
    def sample(self, a: Tensor, generator: Generator) -> Tensor:
        """a plus standard normal noise."""
        return a + randn_like(a, generator)

    def log_normalizer(self, a: Tensor) -> Tensor:
        """a^2 / 2."""
        return 0.5 * a.square()

    def variance(self, a: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(a)

    def energy(self, h: Tensor) -> Tensor:
        """h^2 / 2 + log(2 pi) / 2."""
        return 0.5 * (h.square() + math.log(2 * math.pi))


class RectifiedHidden(HiddenUnits):
    """Noisy rectified units: each stands for binary copies of the same weights whose biases fall by one a copy.

        sum_i sigma(a - i + 1/2) = about softplus(a),   h = max(0, a + e),  e ~ N(0, sigma(a)),   B(h) = h^2 / 2

    The first n copies on cost sum_i (i - 1/2) - n a = n^2 / 2 - n a, hence B. A is the integral of the softplus, so
    that the gradient of the free energy has the mean in it exactly; the draws are the paper's approximation.

    Source: Nair & Hinton, Rectified linear units improve restricted Boltzmann machines (2010), section 2.
    """

    name = "rectified"
    activation = nn.Softplus
    exact_sampling = False

    def mean(self, a: Tensor) -> Tensor:
        """softplus(a)."""
        return F.softplus(a)

    @torch.no_grad()
    def sample(self, a: Tensor, generator: Generator) -> Tensor:
        """max(0, a + e)."""
        return (a + torch.sigmoid(a).sqrt() * randn_like(a, generator)).clamp(min=0.0)

    def log_normalizer(self, a: Tensor) -> Tensor:
        """The integral of softplus from minus infinity to a."""
        return integrated_softplus(a)

    def variance(self, a: Tensor) -> Tensor:
        """sigma(a)."""
        return torch.sigmoid(a)

    def energy(self, h: Tensor) -> Tensor:
        """h^2 / 2."""
        return 0.5 * h.square()


def integrated_softplus(a: Tensor) -> Tensor:
    """The integral of log(1 + e^t) up to a, -Li_2(-e^a), within 1e-10.

    For a > 0 it is pi^2 / 6 + a^2 / 2 minus the integral up to -a; for a <= 0 the series of Li_2 in u = log(1 + e^a)
    with Bernoulli's numbers, where |u| <= log 2.

    Example:
        >>> round(float(integrated_softplus(torch.tensor(0.0))), 5), round(math.pi**2 / 12, 5)
        (0.82247, 0.82247)
    """
    u = F.softplus(torch.where(a > 0, -a, a))  # not -|a|, which has no slope at 0
    square = u.square()
    series = u * (1 + u / 4 + square / 36 * (1 - square / 100 * (1 - square / 58.8 * (1 - square / 51.428571428571))))
    return torch.where(a > 0, math.pi**2 / 6 + 0.5 * a.square() - series, series)


HIDDEN_UNITS: dict[str, type[HiddenUnits]] = {
    unit.name: unit for unit in (BinaryHidden, GaussianHidden, RectifiedHidden)
}
"""Hidden units by name."""


def hidden_units(name: str) -> HiddenUnits:
    """The hidden units of a name.

    Raises:
        InputError: an unknown name, with the nearest one.
    """
    check_choice("hidden_units", name, tuple(HIDDEN_UNITS))
    return HIDDEN_UNITS[name]()
