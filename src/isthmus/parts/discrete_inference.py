"""Inference of discrete codes: Bernoulli units and categorical variables, whose samples are relaxed in training."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.code_distributions import BernoulliUnits, CategoricalVariables, DiscreteDistribution, Relaxation
from isthmus.parts.layers import check_positive, is_count
from isthmus.parts.penalties import at_least_fp32
from isthmus.parts.priors import CodePrior, FairBernoulli, UniformCategorical
from isthmus.parts.stochastic_inference import DistributionInference


class DiscreteInference(DistributionInference):
    r"""Base class of inference of discrete codes, with the uniform prior.

    In training mode samples are continuous, so that the reconstruction has a gradient with respect to the encoder; the
    divergence is that of the discrete distribution, in closed form. The temperature decreases geometrically:

        temperature = first (last / first)^progress

    The criterion of continuous samples is not a bound on -log p(x). In evaluation mode samples are states, log q and
    log p are log-probabilities, and the bound is one. With `straight_through` samples are states in training too, the
    criterion is the bound, and its gradient is biased: that of the continuous samples at the states.

    Shapes: as for `DistributionInference`. Without a generator h holds the probabilities of the states.

    Args:
        encoder: x -> logits of q.
        temperature: the first temperature, at progress 0.
        final_temperature: the last one, at progress 1.
        straight_through: sample states in training.
        options: n_draws and sees_mask of `DistributionInference`.

    Raises:
        InputError: a temperature is not a finite number above 0.

    Source: Maddison, Mnih & Teh, The concrete distribution (2017); Jang, Gu & Poole, Categorical reparameterization
    with Gumbel-softmax (2017); Bengio, Leonard & Courville, Estimating or propagating gradients through stochastic
    neurons (2013), for straight-through gradients.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        temperature: float = 1.0,
        final_temperature: float = 0.5,
        straight_through: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(encoder, **options)
        self.temperature = check_positive("temperature", temperature)
        self.final_temperature = check_positive("final_temperature", final_temperature)
        self.straight_through = straight_through

    @abstractmethod
    def distribution(
        self, preactivation: Float[Tensor, "batch parameters"], progress: float = 1.0
    ) -> DiscreteDistribution:
        """Return q(h | x) of the encoder's output, relaxed in training mode."""

    def relaxation(self, progress: float) -> Relaxation | None:
        """Return the relaxation of samples; None in evaluation mode.

        Example:
            >>> inference = BernoulliInference(nn.Identity(), temperature=1.0, final_temperature=0.25)
            >>> [inference.relaxation(progress).temperature for progress in (0.0, 0.5, 1.0)]
            [1.0, 0.5, 0.25]
            >>> inference.eval().relaxation(1.0) is None
            True
        """
        if not self.training:
            return None
        temperature = self.temperature * (self.final_temperature / self.temperature) ** progress
        return Relaxation(temperature, self.straight_through)

    def without_annealing(self) -> None:
        """Relax samples at the last temperature from now on."""
        self.temperature = self.final_temperature


class BernoulliInference(DiscreteInference):
    r"""Bernoulli q(h | x) of each unit, with the prior of probability 1/2.

        a = encoder(x),   q(h_j = 1 | x) = sigmoid(a_j),   KL_j = log 2 + p_j log p_j + (1 - p_j) log(1 - p_j)

    Shapes: encoder output (batch, code_size); the others, arguments, errors and sources are those of
    `DiscreteInference`.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> from isthmus.parts.networks import MLP
        >>> generator, batch = torch.Generator().manual_seed(0), Batch(torch.zeros(2, 4))
        >>> inference = BernoulliInference(MLP((4, 3), generator=generator), n_draws=5).eval()
        >>> code = inference(batch, None, generator)
        >>> code.code.unique(), code.log_q.shape, code.log_prior[0, 0], code.kl.shape
        (tensor([0., 1.]), torch.Size([5, 2]), tensor(-2.0794), torch.Size([2, 3]))
    """

    def distribution(self, preactivation: Float[Tensor, "batch code_size"], progress: float = 1.0) -> BernoulliUnits:
        """Return the distribution with the logits a."""
        return BernoulliUnits(at_least_fp32(preactivation), self.relaxation(progress))

    def standard_prior(self, code_size: int) -> CodePrior:
        """Return the prior of probability 1/2."""
        return FairBernoulli(code_size)


class CategoricalInference(DiscreteInference):
    r"""Categorical q(h | x) of each variable, a block of units of which one is 1, with the uniform prior.

        a = encoder(x),   q(level l | x) = softmax(a)_l,   KL = log L + sum_l p_l log p_l   of each variable

    Shapes: encoder output and code (batch, variables * L), block by block; the others, errors and sources are those of
    `DiscreteInference`.

    Args:
        encoder: x -> a.
        n_levels: L, the levels of each variable.
        options: other arguments of `DiscreteInference`.

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

    def __init__(self, encoder: nn.Module, *, n_levels: int, **options: Any) -> None:
        super().__init__(encoder, **options)
        if not is_count(n_levels, 2):
            raise InputError(f"n_levels={n_levels!r}: it must be a whole number of at least 2")
        self.n_levels = int(n_levels)

    def distribution(
        self, preactivation: Float[Tensor, "batch code_size"], progress: float = 1.0
    ) -> CategoricalVariables:
        """Return the distribution with the logits a."""
        logits = at_least_fp32(preactivation).unflatten(-1, (-1, self.n_levels))
        return CategoricalVariables(logits, self.relaxation(progress))

    def standard_prior(self, code_size: int) -> CodePrior:
        """Return the uniform prior."""
        return UniformCategorical(code_size, self.n_levels)
