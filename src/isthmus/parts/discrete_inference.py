"""Inference of discrete codes: Bernoulli units and categorical variables, relaxed in training, and uniform priors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.code_distributions import BernoulliUnits, CategoricalVariables, Relaxation
from isthmus.parts.layers import check_positive, is_count
from isthmus.parts.penalties import at_least_fp32
from isthmus.parts.priors import CodePrior
from isthmus.parts.sampling import bernoulli, rand_like
from isthmus.parts.stochastic_inference import DistributionInference


@dataclass(frozen=True)
class Annealing:
    r"""Relaxation of a discrete code in training, at a temperature that decreases geometrically.

        temperature = first (last / first)^progress

    In training mode samples are continuous, so that the reconstruction has a gradient with respect to the encoder; the
    divergence is that of the discrete distribution, in closed form. The criterion of continuous samples is not a bound
    on -log p(x). In evaluation mode samples are states, log q and log p are log-probabilities, and the bound is one.
    With `straight_through` samples are states in training too, the criterion is the bound, and its gradient is biased:
    that of the continuous samples at the states.

    Args:
        temperature: the first temperature, at progress 0.
        final_temperature: the last one, at progress 1.
        straight_through: sample states in training.

    Raises:
        InputError: a temperature is not a finite number above 0.

    Source: Maddison, Mnih & Teh, The concrete distribution (2017); Jang, Gu & Poole, Categorical reparameterization
    with Gumbel-softmax (2017); Bengio, Leonard & Courville, Estimating or propagating gradients through stochastic
    neurons (2013), for straight-through gradients.

    Example:
        >>> annealing = Annealing(temperature=1.0, final_temperature=0.25)
        >>> [annealing.at(progress).temperature for progress in (0.0, 0.5, 1.0)]
        [1.0, 0.5, 0.25]
    """

    temperature: float = 1.0
    final_temperature: float = 0.5
    straight_through: bool = False

    def __post_init__(self) -> None:
        check_positive("temperature", self.temperature)
        check_positive("final_temperature", self.final_temperature)

    def at(self, progress: float) -> Relaxation:
        """Return the relaxation of samples."""
        temperature = self.temperature * (self.final_temperature / self.temperature) ** progress
        return Relaxation(temperature, self.straight_through)

    def ended(self) -> Annealing:
        """Return the relaxation at the last temperature."""
        return replace(self, temperature=self.final_temperature)


class BernoulliInference(DistributionInference):
    r"""Bernoulli q(h | x) of each unit, with the prior of probability 1/2.

        a = encoder(x),   q(h_j = 1 | x) = sigmoid(a_j),   KL_j = log 2 + p_j log p_j + (1 - p_j) log(1 - p_j)

    Shapes: encoder output (batch, code_size); the others are those of `DistributionInference`. Without a generator h
    holds the probabilities p. Errors and sources are those of `Annealing`.

    Args:
        encoder: x -> a.
        annealing: the relaxation of samples in training mode.
        options: n_draws and sees_mask of `DistributionInference`.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> from isthmus.parts.networks import MLP
        >>> generator, batch = torch.Generator().manual_seed(0), Batch(torch.zeros(2, 4))
        >>> inference = BernoulliInference(MLP((4, 3), generator=generator), n_draws=5).eval()
        >>> code = inference(batch, None, generator)
        >>> code.code.unique(), code.log_q.shape, code.log_prior[0, 0], code.kl.shape
        (tensor([0., 1.]), torch.Size([5, 2]), tensor(-2.0794), torch.Size([2, 3]))
    """

    def __init__(self, encoder: nn.Module, *, annealing: Annealing | None = None, **options: Any) -> None:
        super().__init__(encoder, **options)
        self.annealing = Annealing() if annealing is None else annealing

    def distribution(self, preactivation: Float[Tensor, "batch code_size"], progress: float = 1.0) -> BernoulliUnits:
        """Return the distribution with the logits a, relaxed in training mode."""
        return BernoulliUnits(at_least_fp32(preactivation), self.annealing.at(progress) if self.training else None)

    def standard_prior(self, code_size: int) -> CodePrior:
        """Return the prior of probability 1/2."""
        return FairBernoulli(code_size)

    def without_annealing(self) -> None:
        """Relax samples at the last temperature from now on."""
        self.annealing = self.annealing.ended()


class CategoricalInference(DistributionInference):
    r"""Categorical q(h | x) of each variable, a block of units of which one is 1, with the uniform prior.

        a = encoder(x),   q(level l | x) = softmax(a)_l,   KL = log L + sum_l p_l log p_l   of each variable

    Shapes: encoder output and code (batch, variables * L), block by block; the others are those of
    `DistributionInference`. Without a generator h holds the probabilities p. Sources are those of `Annealing`.

    Args:
        encoder: x -> a.
        n_levels: L, the levels of each variable.
        annealing: the relaxation of samples in training mode.
        options: n_draws and sees_mask of `DistributionInference`.

    Raises:
        InputError: n_levels is not a whole number of at least 2.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> from isthmus.parts.networks import MLP
        >>> generator, batch = torch.Generator().manual_seed(0), Batch(torch.zeros(2, 4))
        >>> inference = CategoricalInference(MLP((4, 6), generator=generator), n_levels=3).eval()
        >>> code = inference(batch, None, generator)
        >>> code.code[0].sum(-1), code.log_prior[0, 0], code.kl.shape
        (tensor([2., 2.]), tensor(-2.1972), torch.Size([2, 2]))
    """

    parts_name: ClassVar[str] = "variable"

    def __init__(
        self, encoder: nn.Module, *, n_levels: int, annealing: Annealing | None = None, **options: Any
    ) -> None:
        super().__init__(encoder, **options)
        if not is_count(n_levels, 2):
            raise InputError(f"n_levels={n_levels!r}: it must be a whole number of at least 2")
        self.n_levels, self.annealing = int(n_levels), Annealing() if annealing is None else annealing

    def distribution(
        self, preactivation: Float[Tensor, "batch code_size"], progress: float = 1.0
    ) -> CategoricalVariables:
        """Return the distribution with the logits a, relaxed in training mode."""
        logits = at_least_fp32(preactivation).unflatten(-1, (-1, self.n_levels))
        return CategoricalVariables(logits, self.annealing.at(progress) if self.training else None)

    def standard_prior(self, code_size: int) -> CodePrior:
        """Return the uniform prior."""
        return UniformCategorical(code_size, self.n_levels)

    def without_annealing(self) -> None:
        """Relax samples at the last temperature from now on."""
        self.annealing = self.annealing.ended()


class FairBernoulli(CodePrior):
    """Uniform prior of Bernoulli units: each is 1 with probability 1/2.

    Example:
        >>> FairBernoulli(2).log_prob(torch.ones(1, 2))
        tensor([-1.3863])
    """

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return -code_size log 2."""
        return code.new_full(code.shape[:-1], -self.code_size * math.log(2))

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code_size"]:
        """Return codes of 0 and 1."""
        return bernoulli(torch.full((n, self.code_size), 0.5), generator)


class UniformCategorical(CodePrior):
    """Uniform prior of categorical variables, each a block of units of which one is 1.

    Args:
        code_size: units of the code, variables * levels.
        n_levels: levels of each variable.

    Example:
        >>> prior = UniformCategorical(6, 3)
        >>> prior.sample(2, torch.Generator().manual_seed(0)).unflatten(-1, (-1, 3)).sum(-1)
        tensor([[1., 1.],
                [1., 1.]])
    """

    def __init__(self, code_size: int, n_levels: int) -> None:
        super().__init__(code_size)
        self.n_levels = n_levels

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return -variables log(levels)."""
        return code.new_full(code.shape[:-1], -(self.code_size // self.n_levels) * math.log(self.n_levels))

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code_size"]:
        """Return codes with one unit of each block equal to 1."""
        u = rand_like(torch.empty(n, self.code_size // self.n_levels), generator)
        level = (u * self.n_levels).long().clamp(max=self.n_levels - 1)
        return nn.functional.one_hot(level, self.n_levels).flatten(-2).to(u.dtype)
