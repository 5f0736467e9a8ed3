"""Distributions of codes q(h | x) of the rows of a batch: samples, log q, means, and the divergence from the prior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from isthmus.parts.priors import gaussian_log_prob
from isthmus.parts.sampling import rand_like, randn_like

SMALLEST_UNIFORM = 2.0**-25
"""The number in place of a uniform one that is 0, half the smallest one above 0, so that its logarithm is finite."""


class CodeDistribution(ABC):
    """Base class of distributions q(h | x) of the codes of the rows of a batch, each with its parameters.

    A sample is a function of random numbers whose distribution does not depend on the parameters: `draw`. The standard
    prior of a distribution is the one from which its divergence has a closed form: N(0, I), or the uniform one.
    """

    @property
    @abstractmethod
    def mean(self) -> Float[Tensor, "batch code_size"]:
        """The mean of the code of each row; of a discrete code, the probabilities of its states."""

    @staticmethod
    @abstractmethod
    def noise(like: Float[Tensor, "*draws batch code_size"], generator: Generator) -> Tensor:
        """Return the random numbers of which samples are functions, in the shape and on the device of `like`."""

    @abstractmethod
    def draw(self, noise: Float[Tensor, "*draws _ code_size"]) -> Float[Tensor, "*draws batch code_size"]:
        """Return the codes of given random numbers; one number for all rows is broadcast."""

    @abstractmethod
    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return log q(h | x) of a code of each row, nats."""

    @abstractmethod
    def divergence(self) -> Float[Tensor, "batch parts"]:
        """Return KL(q(h | x) || p(h)) from the standard prior in closed form, nats, as parts whose sum it is."""

    @abstractmethod
    def constant(self) -> Self:
        """Return the distribution with parameters that have no gradient."""

    @property
    def is_relaxed(self) -> bool:
        """True if samples are not codes of the distribution, so that they have no log q."""
        return False

    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n batch code_size"]:
        """Return n samples of the code of each row."""
        mean = self.mean
        return self.draw(self.noise(mean.expand(n, *mean.shape), generator))

    def squared_distance(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"] | None:
        """Return (h - mu)' S^-1 (h - mu) for a Gaussian with mean mu and covariance S; None for another one."""
        return None


@dataclass(frozen=True, eq=False)
class DiagonalNormal(CodeDistribution):
    """Gaussian with a diagonal covariance: h_j = mu_j + exp(v_j / 2) e_j.

        KL_j = 1/2 ( mu_j^2 + exp v_j - v_j - 1 )

    Attributes:
        location: mu, (batch, code_size).
        log_variance: v, (batch, code_size).

    Example:
        >>> DiagonalNormal(torch.ones(1, 2), torch.zeros(1, 2)).divergence()
        tensor([[0.5000, 0.5000]])
    """

    location: Float[Tensor, "batch code_size"]
    log_variance: Float[Tensor, "batch code_size"]

    noise = staticmethod(randn_like)

    @property
    def mean(self) -> Float[Tensor, "batch code_size"]:
        """The mean mu."""
        return self.location

    def draw(self, noise: Float[Tensor, "*draws _ code_size"]) -> Float[Tensor, "*draws batch code_size"]:
        """Return mu + exp(v / 2) e of standard normal numbers e."""
        return self.location + torch.exp(0.5 * self.log_variance) * noise

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return log N(h; mu, diag(exp v))."""
        return gaussian_log_prob(code, self.location, self.log_variance)

    def divergence(self) -> Float[Tensor, "batch code_size"]:
        """Return the divergence of each unit from N(0, 1)."""
        return standard_normal_kl(self.location, self.log_variance)

    def constant(self) -> DiagonalNormal:
        """Return the distribution with parameters that have no gradient."""
        return DiagonalNormal(self.location.detach(), self.log_variance.detach())

    def squared_distance(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return sum_j (h_j - mu_j)^2 exp(-v_j)."""
        return ((code - self.location).square() * torch.exp(-self.log_variance)).sum(-1)


def standard_normal_kl(
    mean: Float[Tensor, "batch code_size"], log_variance: Float[Tensor, "batch code_size"]
) -> Float[Tensor, "batch code_size"]:
    """Return KL(N(m, exp v) || N(0, 1)) = 1/2 ( m^2 + exp v - v - 1 ) of each unit, nats.

    Example:
        >>> standard_normal_kl(torch.tensor([[1.0]]), torch.zeros(1, 1))
        tensor([[0.5000]])
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0)


@dataclass(frozen=True, eq=False)
class FullNormal(CodeDistribution):
    r"""Gaussian with a full covariance: h = mu + L e, L lower triangular with the diagonal exp(v / 2).

        KL = sum_j KL_j,   KL_j = 1/2 ( mu_j^2 + sum_{k <= j} L_jk^2 - v_j - 1 )

    KL_j is the divergence of unit j given the units before it, E[ KL(q(h_j | h_1 .. h_(j-1), x) || N(0, 1)) ]: the
    chain rule of the divergence. It is not below 0, and 0 if the unit adds nothing to what the units before it hold.

    Attributes:
        location: mu, (batch, code_size).
        log_variance: v, (batch, code_size).
        below: L below the diagonal, and 0 elsewhere, (batch, code_size, code_size).

    Example:
        >>> below = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])
        >>> FullNormal(torch.zeros(1, 2), torch.zeros(1, 2), below).divergence()
        tensor([[0., 2.]])
    """

    location: Float[Tensor, "batch code_size"]
    log_variance: Float[Tensor, "batch code_size"]
    below: Float[Tensor, "batch code_size code_size"]

    noise = staticmethod(randn_like)

    @property
    def mean(self) -> Float[Tensor, "batch code_size"]:
        """The mean mu."""
        return self.location

    @property
    def scale_tril(self) -> Float[Tensor, "batch code_size code_size"]:
        """The factor L of the covariance L L'."""
        return self.below + torch.diag_embed(torch.exp(0.5 * self.log_variance))

    def draw(self, noise: Float[Tensor, "*draws _ code_size"]) -> Float[Tensor, "*draws batch code_size"]:
        """Return mu + L e of standard normal numbers e."""
        with torch.autocast(noise.device.type, enabled=False):
            return self.location + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return log N(h; mu, L L')."""
        return gaussian_log_prob(self._standardised(code)) - 0.5 * self.log_variance.sum(-1)

    def divergence(self) -> Float[Tensor, "batch code_size"]:
        """Return the divergence of each unit given the units before it; the sum is that of the code."""
        return standard_normal_kl(self.location, self.log_variance) + 0.5 * self.below.square().sum(-1)

    def constant(self) -> FullNormal:
        """Return the distribution with parameters that have no gradient."""
        return FullNormal(self.location.detach(), self.log_variance.detach(), self.below.detach())

    def squared_distance(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return ||L^-1 (h - mu)||^2."""
        return self._standardised(code).square().sum(-1)

    def _standardised(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch code_size"]:
        """Return L^-1 (h - mu)."""
        with torch.autocast(code.device.type, enabled=False):
            solved: Tensor = torch.linalg.solve_triangular(
                self.scale_tril, (code - self.location).unsqueeze(-1), upper=False
            )
        return solved.squeeze(-1)


@dataclass(frozen=True)
class Relaxation:
    """Samples in training of a discrete code: continuous ones, or states whose gradient is that of continuous ones.

    Attributes:
        temperature: of the continuous samples; near 0 they are nearly states, and their gradient varies more.
        straight_through: give the states, with the gradient of the continuous samples.
    """

    temperature: float
    straight_through: bool = False

    def of(self, states: Tensor, continuous: Tensor) -> Tensor:
        """Return the samples, from states and continuous samples of the same random numbers."""
        return states + (continuous - continuous.detach()) if self.straight_through else continuous


@dataclass(frozen=True, eq=False)
class DiscreteDistribution(CodeDistribution):
    """Base class of distributions of discrete codes, whose samples are states, or relaxed in training.

    Attributes:
        relaxation: of samples in training; None samples states.
    """

    logits: Tensor
    relaxation: Relaxation | None = None

    noise = staticmethod(rand_like)

    @property
    def is_relaxed(self) -> bool:
        """True if samples are continuous."""
        return self.relaxation is not None and not self.relaxation.straight_through

    def constant(self) -> Self:
        """Return the distribution with parameters that have no gradient."""
        return replace(self, logits=self.logits.detach())


@dataclass(frozen=True, eq=False)
class BernoulliUnits(DiscreteDistribution):
    r"""Independent Bernoulli units: q(h_j = 1 | x) = sigmoid(a_j).

        h_j = 1[ a_j + logit(u_j) > 0 ],   relaxed: h_j = sigmoid( (a_j + logit(u_j)) / temperature ),   u_j uniform
        KL_j = log 2 + p_j log p_j + (1 - p_j) log(1 - p_j)   from the prior of probability 1/2

    Attributes:
        logits: a, (batch, code_size).
        relaxation: of samples in training; None samples states.

    Source: Maddison, Mnih & Teh, The concrete distribution (2017), appendix B, for the relaxation (binary concrete).

    Example:
        >>> q = BernoulliUnits(torch.zeros(1, 2))
        >>> q.mean, q.log_prob(torch.ones(1, 2)), q.draw(torch.tensor([[[0.4, 0.6]]]))
        (tensor([[0.5000, 0.5000]]), tensor([-1.3863]), tensor([[[0., 1.]]]))
    """

    @property
    def mean(self) -> Float[Tensor, "batch code_size"]:
        """The probability that each unit is 1."""
        return torch.sigmoid(self.logits)

    def draw(self, noise: Float[Tensor, "*draws _ code_size"]) -> Float[Tensor, "*draws batch code_size"]:
        """Return the codes of uniform numbers."""
        u = noise.clamp_min(SMALLEST_UNIFORM)
        a = self.logits + torch.log(u) - torch.log1p(-u)
        states = (a > 0).to(a.dtype)
        if self.relaxation is None:
            return states
        return self.relaxation.of(states, torch.sigmoid(a / self.relaxation.temperature))

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return sum_j log q(h_j | x); minus infinity for a code with another value than 0 and 1."""
        found = torch.nn.functional.logsigmoid((2 * code - 1) * self.logits).sum(-1)
        return found.masked_fill(((code != 0) & (code != 1)).any(-1), -torch.inf)

    def divergence(self) -> Float[Tensor, "batch code_size"]:
        """Return the divergence of each unit from the uniform prior."""
        softplus = torch.nn.functional.softplus
        a = self.logits
        return math.log(2) - torch.sigmoid(a) * softplus(-a) - torch.sigmoid(-a) * softplus(a)


@dataclass(frozen=True, eq=False)
class CategoricalVariables(DiscreteDistribution):
    r"""Independent categorical variables, each a block of units of which one is 1: q(level l | x) = softmax(a)_l.

        g_l = -log(-log u_l),   the level is argmax_l (a_l + g_l),   relaxed: softmax( (a + g) / temperature )
        KL = log L + sum_l p_l log p_l   of each variable, from the prior of probability 1/L

    Attributes:
        logits: a, (batch, variables, levels). Codes are (batch, variables * levels).
        relaxation: of samples in training; None samples states.

    Source: Jang, Gu & Poole, Categorical reparameterization with Gumbel-softmax (2017), section 2; Maddison, Mnih &
    Teh, The concrete distribution (2017), section 3.

    Example:
        >>> q = CategoricalVariables(torch.zeros(1, 2, 2))
        >>> q.mean, q.log_prob(torch.tensor([[1.0, 0.0, 0.0, 1.0]])), q.divergence().shape
        (tensor([[0.5000, 0.5000, 0.5000, 0.5000]]), tensor([-1.3863]), torch.Size([1, 2]))
    """

    @property
    def mean(self) -> Float[Tensor, "batch code_size"]:
        """The probability of each level."""
        return self.logits.softmax(-1).flatten(-2)

    def draw(self, noise: Float[Tensor, "*draws _ code_size"]) -> Float[Tensor, "*draws batch code_size"]:
        """Return the codes of uniform numbers."""
        u = self._blocks(noise.clamp_min(SMALLEST_UNIFORM))
        a = self.logits - torch.log(-torch.log(u))
        states = torch.zeros_like(a).scatter_(-1, a.argmax(-1, keepdim=True), 1.0)
        if self.relaxation is None:
            return states.flatten(-2)
        return self.relaxation.of(states, (a / self.relaxation.temperature).softmax(-1)).flatten(-2)

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return the sum over variables of log q(level | x); minus infinity for blocks without exactly one 1."""
        blocks = self._blocks(code)
        found = (blocks * self.logits.log_softmax(-1)).sum((-2, -1))
        is_state = ((blocks == 0) | (blocks == 1)).all(-1) & (blocks.sum(-1) == 1)
        return found.masked_fill(~is_state.all(-1), -torch.inf)

    def divergence(self) -> Float[Tensor, "batch variables"]:
        """Return the divergence of each variable from the uniform prior."""
        log_p = self.logits.log_softmax(-1)
        return math.log(self.logits.shape[-1]) + (log_p.exp() * log_p).sum(-1)

    def _blocks(self, code: Float[Tensor, "*draws _ code_size"]) -> Float[Tensor, "*draws _ variables levels"]:
        return code.unflatten(-1, self.logits.shape[-2:])
