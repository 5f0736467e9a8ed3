"""Deep autoencoder unrolled from a stack of restricted Boltzmann machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.learning.stacking import StackedDecoder, StackedEncoder
from isthmus.parts.coder import Coder
from isthmus.parts.energies import RBMDecoder, RBMEnergy, check_chain
from isthmus.parts.inference import ImputingMap


class UntiedRBMDecoder(RBMDecoder):
    """Decoder h -> r = b + U h of an RBM with weights of its own, initialized to U = W'.

    The biases b are shared with the RBM, whose encoder does not use them.

    Shapes: (*draws, batch, n_hidden) -> (*draws, batch, columns).

    Args:
        rbm: the RBM with the initial weights.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks (2006): after unrolling,
    encoder and decoder are fine-tuned with separate weights.
    """

    def __init__(self, rbm: RBMEnergy) -> None:
        super().__init__(rbm)
        self.weight = nn.Parameter(rbm.weight.detach().t().contiguous())

    @torch.no_grad()
    def unroll(self) -> None:
        """Copy the current weights of the RBM."""
        self.weight.copy_(self.rbm.weight.t())

    def forward(
        self, code: Float[Tensor, "*draws batch hidden"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return the parameters of p(v | h)."""
        return F.linear(code, self.weight, self.rbm.visible_bias)


class UnrolledDecoder(StackedDecoder):
    """Decoder of a stack of RBMs with weights of its own, initialized to the transposed weights of the RBMs.

    Args:
        layers: the RBMs, lowest first.
    """

    def __init__(self, layers: Sequence[Coder]) -> None:
        super().__init__(layers)
        self.decoders = nn.ModuleList([UntiedRBMDecoder(cast(RBMEnergy, layer.encoder)) for layer in reversed(layers)])

    def unroll(self) -> None:
        """Copy the current weights of the RBMs."""
        for directed in self.decoders:
            cast(UntiedRBMDecoder, directed).unroll()


def unrolled_coder(layers: Sequence[Coder]) -> Coder:
    r"""Return the deep autoencoder of a stack of RBMs: encoder and decoder propagate means through the layers.

        h_k = E[h | h_(k-1)] by W_k, c_k,   h_0 = x;     r_(k-1) = E[v | r_k] by U_k, b_k,   r_L = h_L
        U_k = W_k' at the start of fine-tuning, and independent afterwards

    The lowest RBM, which was trained on rows with missing entries, imputes these.

    Args:
        layers: the RBMs, lowest first; each has as many visible units as the one below has hidden units.

    Raises:
        InputError: the sizes do not match.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313 (2006).

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> first, second = (RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3)))
        >>> v = torch.ones(1, 6)
        >>> means = first.visible_mean(second.mean_field(first.hidden_mean(v)))
        >>> coder = unrolled_coder([first.coder(), second.coder()])
        >>> bool(torch.allclose(coder(Batch(v)).parameters.sigmoid(), means))
        True
    """
    rbms = [cast(RBMEnergy, layer.encoder) for layer in layers]
    check_chain(rbms)
    inference = ImputingMap(StackedEncoder(layers), layers[-1].code_activation, rbms[0])
    return Coder(inference, UnrolledDecoder(layers), layers[0].likelihood)


def unroll(whole: nn.Module) -> None:
    """Copy the weights of the RBMs to the decoder of `unrolled_coder`, which is the part "coder" of `whole`."""
    cast(UnrolledDecoder, whole.get_submodule("coder.decoder")).unroll()
