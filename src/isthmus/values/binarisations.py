"""Values of `binarisation`: how the code of a semantic hashing becomes bits, although bits have no gradient."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from isthmus.errors import InputError
from isthmus.parts.binary_inference import NoisyBits, RelaxedBits, StandIn, StraightThroughBits
from isthmus.parts.discrete_inference import Annealing
from isthmus.parts.layers import check_positive
from isthmus.values.value import Value, value_argument


class Binarisation(Value):
    """Base class of the values of `binarisation`."""

    @abstractmethod
    def build(self) -> StandIn:
        """Return what stands in for the bits."""


@dataclass(frozen=True, repr=False)
class GrowingNoise(Binarisation):
    """Gaussian noise before the sigmoid of the code, which grows linearly from 0 in training.

    Args:
        scale: standard deviation of the noise at the end of training, in units of the encoder's output.

    Raises:
        InputError: the scale is not a finite number above 0.

    Source: Salakhutdinov & Hinton, Semantic hashing (2007); Goodfellow, Bengio & Courville, Deep Learning, section
    14.9.

    Example:
        >>> from isthmus import GrowingNoise
        >>> GrowingNoise(scale=2.0)
        GrowingNoise(scale=2.0)
    """

    scale: float = 4.0

    def check(self) -> None:
        """Refuse a scale that is not above 0."""
        check_positive("GrowingNoise: scale", self.scale)

    def build(self) -> StandIn:
        """Return what stands in for the bits."""
        return NoisyBits(self.scale)


@dataclass(frozen=True, repr=False)
class StraightThrough(Binarisation):
    """Bits in training too, with the gradient of the sigmoid in place of theirs.

    Args:
        stochastic: sample the bits in training, 1 with the probability that the sigmoid is; else round them.

    Raises:
        InputError: stochastic is neither True nor False.

    Source: Bengio, Leonard & Courville, Estimating or propagating gradients through stochastic neurons (2013).

    Example:
        >>> from isthmus import StraightThrough
        >>> StraightThrough(stochastic=False)
        StraightThrough(stochastic=False)
    """

    stochastic: bool = True

    def check(self) -> None:
        """Refuse another object than True and False."""
        if not isinstance(self.stochastic, bool):
            raise InputError(f"StraightThrough: stochastic={self.stochastic!r}: it must be True or False")

    def build(self) -> StandIn:
        """Return what stands in for the bits."""
        return StraightThroughBits(self.stochastic)


@dataclass(frozen=True, repr=False)
class RelaxedBernoulli(Binarisation):
    """Bernoulli bits, relaxed in training to values between 0 and 1.

    Args:
        temperature: at the beginning of training. Below about 0.5 values are nearly 0 or 1, and the gradient varies
            more.
        final_temperature: at the end of training.

    Raises:
        InputError: a temperature that is not a finite number above 0.

    Source: Maddison, Mnih & Teh, The concrete distribution (2017).

    Example:
        >>> from isthmus import RelaxedBernoulli
        >>> RelaxedBernoulli(final_temperature=0.2)
        RelaxedBernoulli(final_temperature=0.2)
    """

    temperature: float = 1.0
    final_temperature: float = 0.3

    def check(self) -> None:
        """Refuse temperatures that are not above 0."""
        check_positive("RelaxedBernoulli: temperature", self.temperature)
        check_positive("RelaxedBernoulli: final_temperature", self.final_temperature)

    def build(self) -> StandIn:
        """Return what stands in for the bits."""
        return RelaxedBits(Annealing(self.temperature, self.final_temperature))


BINARISATION = value_argument(
    "binarisation",
    {"noise": GrowingNoise(), "straight-through": StraightThrough(), "bernoulli": RelaxedBernoulli()},
    required=True,
)
"""The argument `binarisation`."""
