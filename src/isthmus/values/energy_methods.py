"""Values of `method`: how an energy is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.errors import InputError
from isthmus.learning.chains import check_chains, check_gibbs_steps
from isthmus.parts.layers import check_positive
from isthmus.values.value import Value, value_argument


class EnergyMethod(Value):
    """Base class of the values of `method`."""


class ChainMethod(EnergyMethod):
    """Base class of methods that estimate the model's expectation by Gibbs chains.

    Attributes:
        n_steps: Gibbs steps per training step; a pair such as (1, 25) increases during training.
        centred: use the centred gradient, which does not depend on which of two states is coded as 1.
    """

    n_steps: int | Sequence[int]
    centred: bool

    def check(self) -> None:
        """Refuse fewer than one step."""
        check_gibbs_steps(self.n_steps)
        if not isinstance(self.centred, bool):
            raise InputError(f"centred={self.centred!r}: it must be True or False")

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `isthmus.learning.contrastive_divergence.ContrastiveDivergence`."""
        raise NotImplementedError


@dataclass(frozen=True, repr=False)
class PCD(ChainMethod):
    """Persistent contrastive divergence (stochastic maximum likelihood): chains that continue from step to step.

    They follow the model's distribution and lead to the better density.

    Args:
        n_steps: Gibbs steps per training step; a pair such as (1, 25) increases during training.
        n_chains: number of chains.
        centred: use the centred gradient, which does not depend on which of two states is coded as 1.

    Raises:
        InputError: fewer than one step or chain.

    Source: Tieleman, Training restricted Boltzmann machines using approximations to the likelihood gradient (2008);
    Melchior, Fischer & Wiskott, How to center deep Boltzmann machines (2016).

    Example:
        >>> from isthmus import PCD
        >>> PCD(n_steps=5)
        PCD(n_steps=5)
    """

    n_steps: int | Sequence[int] = 1
    n_chains: int = 100
    centred: bool = True

    def check(self) -> None:
        """Refuse fewer than one step or chain."""
        super().check()
        check_chains(self.n_chains)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the objective."""
        return {"method": "pcd", "n_steps": self.n_steps, "n_chains": self.n_chains, "centred": self.centred}


@dataclass(frozen=True, repr=False)
class CD(ChainMethod):
    """Contrastive divergence: chains that start at the rows and make a few steps.

    It trains features fast, and leaves probability far from the rows.

    Args:
        n_steps: Gibbs steps per training step; a pair such as (1, 25) increases during training.
        centred: use the centred gradient, which does not depend on which of two states is coded as 1.

    Raises:
        InputError: fewer than one step.

    Source: Hinton, Training products of experts by minimizing contrastive divergence (2002).

    Example:
        >>> from isthmus import CD
        >>> CD(n_steps=(1, 25))
        CD(n_steps=(1, 25))
    """

    n_steps: int | Sequence[int] = 1
    centred: bool = True

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the objective."""
        return {"method": "cd", "n_steps": self.n_steps, "centred": self.centred}


@dataclass(frozen=True, repr=False)
class ScoreMatching(EnergyMethod):
    """Score matching, for Gaussian visible units: the gradient of log p(x) is fitted, and no chain is needed.

    Source: Hyvarinen, Estimation of non-normalized statistical models by score matching (2005).

    Example:
        >>> from isthmus import ScoreMatching
        >>> ScoreMatching()
        ScoreMatching()
    """

    noise_scale: ClassVar[float | None] = None


@dataclass(frozen=True, repr=False)
class DenoisingScoreMatching(EnergyMethod):
    """Denoising score matching, for Gaussian visible units: the score of noisy rows points back to the rows.

    Args:
        noise_scale: standard deviation of the noise, in model space.

    Raises:
        InputError: the scale is not above 0.

    Source: Vincent, A connection between score matching and denoising autoencoders (2011).

    Example:
        >>> from isthmus import DenoisingScoreMatching
        >>> DenoisingScoreMatching(noise_scale=0.1)
        DenoisingScoreMatching(noise_scale=0.1)
    """

    noise_scale: float = 0.3

    def check(self) -> None:
        """Refuse a scale that is not above 0."""
        check_positive("noise_scale", self.noise_scale)


METHOD = value_argument(
    "method",
    {"pcd": PCD(), "cd": CD(), "score": ScoreMatching(), "denoising-score": DenoisingScoreMatching()},
    required=True,
)
"""The argument `method`."""
