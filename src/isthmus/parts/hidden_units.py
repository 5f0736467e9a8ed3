"""Hidden units of an energy: their mean, their samples and their log-normalizer."""

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
    """Base class of hidden units: one layer of independent units with input a.

        E = ... - a' h + B(h),   A(a) = log sum over h of exp(a h - B(h)),   E[h | a] = A'(a)

    Shapes: all of the shape of a.
    """

    name: ClassVar[str]
    activation: ClassVar[type[nn.Module]]
    """The activation h = s(a) = E[h | a], as a module."""
    n_states: ClassVar[int | None] = None
    """Number of states 0 to n - 1 of one unit; None where they are not finitely many."""
    exact_sampling: ClassVar[bool] = True
    """True if `sample` is exact for exp(a h - B(h) - A(a)), so that Gibbs chains leave the model invariant."""

    @abstractmethod
    def mean(self, a: Tensor) -> Tensor:
        """Return E[h | a]."""

    @abstractmethod
    def sample(self, a: Tensor, generator: Generator) -> Tensor:
        """Sample h given a."""

    @abstractmethod
    def log_normalizer(self, a: Tensor) -> Tensor:
        """Return A(a), the log-normalizer of each unit."""

    @abstractmethod
    def variance(self, a: Tensor) -> Tensor:
        """Return A''(a), the derivative of the mean."""

    def energy(self, h: Tensor) -> Tensor:
        """Return B(h) of each unit."""
        return torch.zeros_like(h)


class BinaryHidden(HiddenUnits):
    """Binary units, h in {0, 1}: A = softplus(a), E[h | a] = sigma(a), B = 0."""

    name = "bernoulli"
    activation = nn.Sigmoid
    n_states = 2

    def mean(self, a: Tensor) -> Tensor:
        """Return sigma(a)."""
        return torch.sigmoid(a)

    @torch.no_grad()
    def sample(self, a: Tensor, generator: Generator) -> Tensor:
        """Sample 1 with probability sigma(a), else 0."""
        return bernoulli(torch.sigmoid(a), generator)

    def log_normalizer(self, a: Tensor) -> Tensor:
        """Return softplus(a)."""
        return F.softplus(a)

    def variance(self, a: Tensor) -> Tensor:
        """Return sigma(a) (1 - sigma(a))."""
        return torch.sigmoid(a) * torch.sigmoid(-a)


class GaussianHidden(HiddenUnits):
    """Gaussian units h ~ N(a, 1), an unbounded code: A = a^2 / 2, E[h | a] = a, B = h^2 / 2 + log(2 pi) / 2.

    With Gaussian visible units the energy is bounded below only while every singular value of W is below 1.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks (2006): the code layer.
    """

    name = "gaussian"
    activation = nn.Identity

    def mean(self, a: Tensor) -> Tensor:
        """Return a."""
        return a

    @torch.no_grad()
    def sample(self, a: Tensor, generator: Generator) -> Tensor:
        """Return a plus standard normal noise."""
        return a + randn_like(a, generator)

    def log_normalizer(self, a: Tensor) -> Tensor:
        """Return a^2 / 2."""
        return 0.5 * a.square()

    def variance(self, a: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(a)

    def energy(self, h: Tensor) -> Tensor:
        """Return h^2 / 2 + log(2 pi) / 2."""
        return 0.5 * (h.square() + math.log(2 * math.pi))


class RectifiedHidden(HiddenUnits):
    """Noisy rectified units: sums of binary units with the same weights and with biases shifted by -i + 1/2.

        sum_i sigma(a - i + 1/2) approx. softplus(a),   h = max(0, a + e),  e ~ N(0, sigma(a)),   B(h) = h^2 / 2

    If the first n copies are on, their energy is sum_i (i - 1/2) - n a = n^2 / 2 - n a, hence B. A is the integral of
    the softplus, so that the gradient of the free energy contains the mean exactly; `sample` is the paper's
    approximation.

    Source: Nair & Hinton, Rectified linear units improve restricted Boltzmann machines (2010), section 2.
    """

    name = "rectified"
    activation = nn.Softplus
    exact_sampling = False

    def mean(self, a: Tensor) -> Tensor:
        """Return softplus(a)."""
        return F.softplus(a)

    @torch.no_grad()
    def sample(self, a: Tensor, generator: Generator) -> Tensor:
        """Return max(0, a + e)."""
        return (a + torch.sigmoid(a).sqrt() * randn_like(a, generator)).clamp(min=0.0)

    def log_normalizer(self, a: Tensor) -> Tensor:
        """Return the integral of softplus from minus infinity to a."""
        return integrated_softplus(a)

    def variance(self, a: Tensor) -> Tensor:
        """Return sigma(a)."""
        return torch.sigmoid(a)

    def energy(self, h: Tensor) -> Tensor:
        """Return h^2 / 2."""
        return 0.5 * h.square()


def integrated_softplus(a: Tensor) -> Tensor:
    """Return the integral of log(1 + e^t) up to a, -Li_2(-e^a), within 1e-10.

    For a > 0 it equals pi^2 / 6 + a^2 / 2 minus the integral up to -a; for a <= 0 it is the series of Li_2 in
    u = log(1 + e^a) with Bernoulli numbers, where |u| <= log 2.

    Example:
        >>> round(float(integrated_softplus(torch.tensor(0.0))), 5), round(math.pi**2 / 12, 5)
        (0.82247, 0.82247)
    """
    u = F.softplus(torch.where(a > 0, -a, a))  # not -|a|, which has no derivative at 0
    square = u.square()
    series = u * (1 + u / 4 + square / 36 * (1 - square / 100 * (1 - square / 58.8 * (1 - square / 51.428571428571))))
    return torch.where(a > 0, math.pi**2 / 6 + 0.5 * a.square() - series, series)


HIDDEN_UNITS: dict[str, type[HiddenUnits]] = {
    unit.name: unit for unit in (BinaryHidden, GaussianHidden, RectifiedHidden)
}
"""Classes of hidden units by name."""


def hidden_units(name: str) -> HiddenUnits:
    """Return the hidden units of a name.

    Raises:
        InputError: the name is unknown.
    """
    check_choice("hidden_units", name, tuple(HIDDEN_UNITS))
    return HIDDEN_UNITS[name]()
