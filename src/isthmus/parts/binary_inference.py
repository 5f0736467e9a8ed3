"""Inference of codes of bits: maps whose units are 0 or 1, and how a gradient passes through them in training."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.code_distributions import BernoulliUnits
from isthmus.parts.discrete_inference import Annealing
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import check_positive
from isthmus.parts.penalties import at_least_fp32
from isthmus.parts.sampling import rand_like, randn_like


class BinaryMap(EncoderMap):
    r"""Base class of maps whose codes are bits: h_j = 1[a_j > 0],   a = encoder(x).

    The derivative of a bit is 0, so that training needs other values, which a subclass states: `trained`. They stand in
    for the bits in training mode alone. In evaluation mode, and so in `monitor` and every score, codes are bits.

    Shapes: x (batch, columns) -> a and h (batch, code_size); there are no draws.

    Args:
        encoder: x -> a.
        sees_mask: as for `EncoderMap`.
    """

    def __init__(self, encoder: nn.Module, *, sees_mask: bool = False) -> None:
        super().__init__(encoder, "sigmoid", sees_mask=sees_mask)
        self.at_end = False

    @abstractmethod
    def trained(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return the codes that the decoder gets in training, in [0, 1]."""

    def activate(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator | None, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return the bits; in training mode, with a generator, what stands in for them."""
        if generator is None or not self.training:
            return (preactivation > 0).to(preactivation.dtype)
        return self.trained(preactivation, generator, 1.0 if self.at_end else progress)

    def without_annealing(self) -> None:
        """Train as at the end of training from now on, whatever the progress."""
        self.at_end = True


class NoisyBits(BinaryMap):
    r"""Bits by noise before the sigmoid, which grows linearly during training.

        h = sigmoid(a + sigma e),   e ~ N(0, I),   sigma = scale * progress   in training

    The decoder receives a through the noise. If the encoder makes |a| much larger than sigma, the sigmoid is saturated
    and the noise has little effect: as it grows, codes become nearly binary, and little is lost when they are rounded.

    Shapes, encoder and sees_mask are those of `BinaryMap`.

    Args:
        encoder: x -> a.
        scale: standard deviation of the noise at the end of training, in units of a.
        sees_mask: as for `EncoderMap`.

    Raises:
        InputError: the scale is not a finite number above 0.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.9; Salakhutdinov & Hinton, Semantic hashing
    (2007). The linear schedule is ours.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> inference = NoisyBits(nn.Identity(), scale=2.0)
        >>> batch = Batch(torch.tensor([[-3.0, 0.1, 4.0]]))
        >>> inference.eval()(batch, None).code
        tensor([[0., 1., 1.]])
    """

    def __init__(self, encoder: nn.Module, *, scale: float = 4.0, sees_mask: bool = False) -> None:
        super().__init__(encoder, sees_mask=sees_mask)
        self.scale = check_positive("NoisyBits: scale", scale)

    def trained(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return sigmoid(a + sigma e)."""
        return torch.sigmoid(preactivation + self.scale * progress * randn_like(preactivation, generator))


class StraightThroughBits(BinaryMap):
    r"""Bits in training too, with the gradient of the sigmoid in place of theirs, which is 0.

        h_j = 1[a_j > 0],  or with `stochastic`  h_j = 1[u_j < sigmoid(a_j)], u_j uniform;   dh_j / da_j := s'(a_j)

    Shapes and sees_mask are those of `BinaryMap`.

    Args:
        encoder: x -> a.
        stochastic: sample the bits in training.
        sees_mask: as for `EncoderMap`.

    Source: Bengio, Leonard & Courville, Estimating or propagating gradients through stochastic neurons (2013); Shen et
    al., NASH (2018), for both modes.

    Example:
        >>> a = torch.tensor([[-1.0, 0.5]], requires_grad=True)
        >>> h = StraightThroughBits(nn.Identity()).trained(a, torch.Generator(), 0.0)
        >>> h.sum().backward()
        >>> h.detach(), a.grad
        (tensor([[0., 1.]]), tensor([[0.1966, 0.2350]]))
    """

    def __init__(self, encoder: nn.Module, *, stochastic: bool = False, sees_mask: bool = False) -> None:
        super().__init__(encoder, sees_mask=sees_mask)
        self.stochastic = stochastic

    def trained(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return bits with the gradient of the sigmoid."""
        rate = torch.sigmoid(preactivation)
        threshold = rand_like(rate, generator) if self.stochastic else 0.5
        bits = (rate > threshold).to(rate.dtype)
        return bits + (rate - rate.detach())


class RelaxedBits(BinaryMap):
    r"""Bernoulli bits, relaxed in training at a temperature that decreases.

        h_j = sigmoid( (a_j + logit(u_j)) / temperature ),   u_j uniform;   temperature of `Annealing`

    As the temperature approaches 0 they are samples of bits that are 1 with probability sigmoid(a_j). Unlike
    `BernoulliInference` of a variational autoencoder there is no prior, and in evaluation mode the code is the most
    probable one.

    Shapes and sees_mask are those of `BinaryMap`.

    Args:
        encoder: x -> a.
        annealing: the temperatures; None is that of `Annealing()`. With `straight_through` the decoder gets samples of
            bits, with the gradient of the relaxed ones.
        sees_mask: as for `EncoderMap`.

    Source: Maddison, Mnih & Teh, The concrete distribution (2017), appendix B; Jang, Gu & Poole (2017).

    Example:
        >>> inference, a = RelaxedBits(nn.Identity()), torch.zeros(1000, 1)
        >>> h = inference.trained(a, torch.Generator().manual_seed(0), 1.0)
        >>> round(((h > 0.01) & (h < 0.99)).float().mean().item(), 1), round(h.mean().item(), 1)
        (0.8, 0.5)
    """

    def __init__(self, encoder: nn.Module, *, annealing: Annealing | None = None, sees_mask: bool = False) -> None:
        super().__init__(encoder, sees_mask=sees_mask)
        self.annealing = Annealing() if annealing is None else annealing

    def trained(
        self, preactivation: Float[Tensor, "batch code_size"], generator: Generator, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return relaxed samples of the bits."""
        logits = at_least_fp32(preactivation)
        units = BernoulliUnits(logits, self.annealing.at(progress))
        return units.draw(rand_like(logits, generator)).to(preactivation.dtype)
