"""Values of `inference`: the distribution q(h | x) of the code of a variational autoencoder."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from isthmus.errors import InputError
from isthmus.parts.discrete_inference import Annealing, BernoulliInference, CategoricalInference
from isthmus.parts.layers import check_positive, is_count
from isthmus.parts.stochastic_inference import DiagonalGaussian, DistributionInference, FullGaussian
from isthmus.values.sparse_inferences import FISTA, ISTA, CoordinateDescent, MatchingPursuit, Recurrent
from isthmus.values.value import Value, value_argument

MAX_FULL_SIZE = 64
"""Largest code of a full covariance, in units: the encoder has about half the square of it as outputs."""


class PosteriorValue(Value):
    """Base class of the values of `inference`."""

    is_discrete: ClassVar[bool] = False
    """True if codes are discrete."""

    @abstractmethod
    def n_outputs(self, code_size: int) -> int:
        """Return the number of outputs of the encoder for a code of this size."""

    @abstractmethod
    def build(self, encoder: nn.Module, **options: Any) -> DistributionInference:
        """Return the inference; `options` are arguments of `DistributionInference`."""

    def check_code_size(self, code_size: int) -> None:
        """Refuse a size that a code cannot have; accepts all by default."""

    def suggested_code_size(self, n_components: int) -> int:
        """Return the default size of a code of data with this number of principal components."""
        return n_components


@dataclass(frozen=True, repr=False)
class DiagonalPosterior(PosteriorValue):
    """Gaussian with a diagonal covariance: q(h | x) = N(mu(x), diag(s(x)^2)).

    Source: Kingma & Welling, Auto-encoding variational Bayes (2014).

    Example:
        >>> from isthmus import DiagonalPosterior
        >>> DiagonalPosterior()
        DiagonalPosterior()
    """

    def n_outputs(self, code_size: int) -> int:
        """Return the number of means and log-variances."""
        return 2 * code_size

    def build(self, encoder: nn.Module, **options: Any) -> DistributionInference:
        """Return the inference."""
        return DiagonalGaussian(encoder, **options)


@dataclass(frozen=True, repr=False)
class FullPosterior(PosteriorValue):
    """Gaussian with a full covariance, for codes of at most 64 units: q(h | x) = N(mu(x), L(x) L(x)').

    Raises:
        InputError: at `fit`, a code of more than 64 units.

    Source: Kingma & Welling, An introduction to variational autoencoders (2019), section 2.5.1.

    Example:
        >>> from isthmus import FullPosterior
        >>> FullPosterior()
        FullPosterior()
    """

    def n_outputs(self, code_size: int) -> int:
        """Return the number of means and of entries of L."""
        return FullGaussian.n_outputs(code_size)

    def build(self, encoder: nn.Module, **options: Any) -> DistributionInference:
        """Return the inference."""
        return FullGaussian(encoder, **options)

    def check_code_size(self, code_size: int) -> None:
        """Refuse more than 64 units."""
        if code_size > MAX_FULL_SIZE:
            raise InputError(
                f"code_size={code_size}: a full covariance is for at most {MAX_FULL_SIZE} units, since its size grows "
                "with their square; give a smaller code, or inference='diagonal'"
            )


@dataclass(frozen=True, repr=False)
class DiscretePosterior(PosteriorValue):
    """Base class of discrete codes."""

    temperature: float = 1.0
    final_temperature: float = 0.5
    straight_through: bool = False

    is_discrete: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse temperatures that are not above 0."""
        name = type(self).__name__
        check_positive(f"{name}: temperature", self.temperature)
        check_positive(f"{name}: final_temperature", self.final_temperature)
        if not isinstance(self.straight_through, bool):
            raise InputError(f"{name}: straight_through={self.straight_through!r}: it must be True or False")

    def n_outputs(self, code_size: int) -> int:
        """Return the number of logits."""
        return code_size

    @property
    def _annealing(self) -> Annealing:
        return Annealing(self.temperature, self.final_temperature, self.straight_through)


@dataclass(frozen=True, repr=False)
class BernoulliPosterior(DiscretePosterior):
    """Binary code: q(h_j = 1 | x) = p_j(x), with the prior of probability 1/2 for each unit.

    In training units are relaxed to values between 0 and 1. `transform` returns the probabilities p(x), and samples and
    scores use codes of 0 and 1.

    Args:
        temperature: of the relaxed units at the beginning of training. Below about 0.5 they are nearly 0 or 1, and the
            gradient varies more.
        final_temperature: at the end of training.
        straight_through: give the decoder codes of 0 and 1 in training, with the gradient of relaxed units.

    Raises:
        InputError: a temperature that is not a finite number above 0.

    Source: Maddison, Mnih & Teh, The concrete distribution (2017); Bengio, Leonard & Courville, Estimating or
    propagating gradients through stochastic neurons (2013), for straight-through gradients.

    Example:
        >>> from isthmus import BernoulliPosterior
        >>> BernoulliPosterior(straight_through=True)
        BernoulliPosterior(straight_through=True)
    """

    def build(self, encoder: nn.Module, **options: Any) -> DistributionInference:
        """Return the inference."""
        return BernoulliInference(encoder, annealing=self._annealing, **options)


@dataclass(frozen=True, repr=False)
class CategoricalPosterior(DiscretePosterior):
    """Code of categorical variables, each a block of units of which one is 1, with the uniform prior.

    The size of the code is variables * levels. In training blocks are relaxed to values between 0 and 1 that sum to 1.
    `transform` returns the probabilities of the levels, block by block, and samples and scores use codes of 0 and 1.

    Args:
        temperature: of the relaxed blocks at the beginning of training.
        final_temperature: at the end of training.
        straight_through: give the decoder codes of 0 and 1 in training, with the gradient of relaxed blocks.
        n_levels: levels of each variable.

    Raises:
        InputError: a temperature that is not a finite number above 0, fewer than two levels; at `fit`, a code size
            that is not a multiple of the levels.

    Source: Jang, Gu & Poole, Categorical reparameterization with Gumbel-softmax (2017); Maddison, Mnih & Teh, The
    concrete distribution (2017).

    Example:
        >>> from isthmus import CategoricalPosterior
        >>> CategoricalPosterior(n_levels=10)
        CategoricalPosterior(n_levels=10)
    """

    n_levels: int = 8

    def check(self) -> None:
        """Refuse fewer than two levels."""
        super().check()
        if not is_count(self.n_levels, 2):
            raise InputError(f"CategoricalPosterior: n_levels={self.n_levels!r}: it must be a whole number, 2 or more")

    def build(self, encoder: nn.Module, **options: Any) -> DistributionInference:
        """Return the inference."""
        return CategoricalInference(encoder, n_levels=self.n_levels, annealing=self._annealing, **options)

    def check_code_size(self, code_size: int) -> None:
        """Refuse a size that is not a multiple of the levels."""
        if code_size % self.n_levels:
            variables = max(1, round(code_size / self.n_levels))
            raise InputError(
                f"code_size={code_size}: a code of variables with {self.n_levels} levels has a multiple of "
                f"{self.n_levels} units; give code_size={variables * self.n_levels} for {variables} of them"
            )

    def suggested_code_size(self, n_components: int) -> int:
        """Return the size of a code with one variable for each component."""
        return n_components * self.n_levels


INFERENCE = value_argument(
    "inference",
    {
        "diagonal": DiagonalPosterior(), "full": FullPosterior(), "bernoulli": BernoulliPosterior(),
        "categorical": CategoricalPosterior(), "fista": FISTA(), "ista": ISTA(),
        "coordinate-descent": CoordinateDescent(), "matching-pursuit": MatchingPursuit(),
        "recurrent": Recurrent(),
    },
    required=True,
)  # fmt: skip
"""The argument `inference`."""
