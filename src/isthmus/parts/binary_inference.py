"""Inference of codes of bits: maps whose units are 0 or 1, and how a gradient passes through them in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.code_distributions import BernoulliUnits
from isthmus.parts.discrete_inference import Annealing
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import check_positive
from isthmus.parts.penalties import at_least_fp32
from isthmus.parts.sampling import rand_like, randn_like


class StandIn(ABC):
    """Base class of what stands in for bits in training, since the derivative of a bit is 0."""

    @abstractmethod
    def of(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return the codes that the decoder gets in training, in [0, 1]."""


@dataclass(frozen=True)
class NoisyBits(StandIn):
    r"""Noise before the sigmoid, which grows linearly during training.

        h = sigmoid(a + sigma e),   e ~ N(0, I),   sigma = scale * progress

    The decoder receives a through the noise. If the encoder makes |a| much larger than sigma, the sigmoid is saturated
    and the noise has little effect: as it grows, codes become nearly binary, and little is lost when they are rounded.

    Args:
        scale: standard deviation of the noise at the end of training, in units of a.

    Raises:
        InputError: the scale is not a finite number above 0.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.9; Salakhutdinov & Hinton, Semantic hashing
    (2007). The linear schedule is ours.

    Example:
        >>> h = NoisyBits(scale=2.0).of(torch.tensor([[-3.0, 0.0]]), torch.Generator(), 0.0)
        >>> h
        tensor([[0.0474, 0.5000]])
    """

    scale: float = 4.0

    def __post_init__(self) -> None:
        check_positive("NoisyBits: scale", self.scale)

    def of(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return sigmoid(a + sigma e)."""
        return torch.sigmoid(preactivation + self.scale * progress * randn_like(preactivation, generator))


@dataclass(frozen=True)
class StraightThroughBits(StandIn):
    r"""Bits, with the gradient of the sigmoid in place of theirs.

        h_j = 1[a_j > 0],  or with `stochastic`  h_j = 1[u_j < sigmoid(a_j)], u_j uniform;   dh_j / da_j := s'(a_j)

    Args:
        stochastic: sample the bits.

    Source: Bengio, Leonard & Courville, Estimating or propagating gradients through stochastic neurons (2013); Shen et
    al., NASH (2018), for both modes.

    Example:
        >>> a = torch.tensor([[-1.0, 0.5]], requires_grad=True)
        >>> h = StraightThroughBits().of(a, torch.Generator(), 0.0)
        >>> h.sum().backward()
        >>> h.detach(), a.grad
        (tensor([[0., 1.]]), tensor([[0.1966, 0.2350]]))
    """

    stochastic: bool = False

    def of(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return bits with the gradient of the sigmoid."""
        rate = torch.sigmoid(preactivation)
        threshold = rand_like(rate, generator) if self.stochastic else 0.5
        bits = (rate > threshold).to(rate.dtype)
        return bits + (rate - rate.detach())


@dataclass(frozen=True)
class RelaxedBits(StandIn):
    r"""Bernoulli bits, relaxed at a temperature that decreases.

        h_j = sigmoid( (a_j + logit(u_j)) / temperature ),   u_j uniform;   temperature of `Annealing`

    As the temperature approaches 0 they are samples of bits that are 1 with probability sigmoid(a_j). Unlike
    `BernoulliInference` of a variational autoencoder there is no prior.

    Args:
        annealing: the temperatures. With `straight_through` the decoder gets samples of bits, with the gradient of the
            relaxed ones.

    Source: Maddison, Mnih & Teh, The concrete distribution (2017), appendix B; Jang, Gu & Poole (2017).

    Example:
        >>> h = RelaxedBits().of(torch.zeros(1000, 1), torch.Generator().manual_seed(0), 1.0)
        >>> round(((h > 0.01) & (h < 0.99)).float().mean().item(), 1), round(h.mean().item(), 1)
        (0.8, 0.5)
    """

    annealing: Annealing = field(default_factory=Annealing)

    def of(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return relaxed samples of the bits."""
        logits = at_least_fp32(preactivation)
        units = BernoulliUnits(logits, self.annealing.at(progress))
        return units.draw(rand_like(logits, generator)).to(preactivation.dtype)


class BinaryMap(EncoderMap):
    r"""Map whose codes are bits: h_j = 1[a_j > 0],   a = encoder(x).

    In training mode, with a generator, other values stand in for the bits. In evaluation mode, and so in `monitor` and
    every score, codes are bits.

    Shapes: x (batch, columns) -> a and h (batch, code_size); there are no draws.

    Args:
        encoder: x -> a.
        stand_in: of the bits in training.
        sees_mask: as for `EncoderMap`.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> inference = BinaryMap(nn.Identity(), NoisyBits())
        >>> inference(Batch(torch.tensor([[-3.0, 0.1, 4.0]])), None).code
        tensor([[0., 1., 1.]])
    """

    def __init__(self, encoder: nn.Module, stand_in: StandIn, *, sees_mask: bool = False) -> None:
        super().__init__(encoder, "sigmoid", sees_mask=sees_mask)
        self.stand_in, self.at_end = stand_in, False

    def activate(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator | None, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return the bits; in training mode, with a generator, what stands in for them."""
        if generator is None or not self.training:
            return (preactivation > 0).to(preactivation.dtype)
        return self.stand_in.of(preactivation, generator, 1.0 if self.at_end else progress)

    def without_annealing(self) -> None:
        """Train as at the end of training from now on, whatever the progress."""
        self.at_end = True
