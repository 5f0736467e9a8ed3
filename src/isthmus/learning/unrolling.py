"""Deep autoencoder unrolled from a stack of restricted Boltzmann machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.learning.contrastive_divergence import ContrastiveDivergence, check_chain
from isthmus.learning.rows import Rows
from isthmus.learning.stacking import Stack, StackedDecoder
from isthmus.parts.corruptions import Corrupted
from isthmus.parts.energies import RBMDecoder, RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Likelihood


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


class UnrolledAutoencoder(Stack):
    r"""Deep autoencoder from a stack of RBMs: encoder and decoder propagate means through the layers.

        h_k = E[h | h_(k-1)] by W_k, c_k,   h_0 = x;     r_(k-1) = E[v | r_k] by U_k, b_k,   r_L = h_L
        J = E_x[ -log p_1(x | r_1) ],   U_k = W_k' at the start of fine-tuning, and independent afterwards

    Shapes: as for `Stack`.

    Args:
        layers: the RBMs, lowest first; each has as many visible units as the one below has hidden units.

    Raises:
        InputError: the sizes do not match.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313 (2006).

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> from isthmus.parts.forward import Batch
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbms = [RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3))]
        >>> layers = [ContrastiveDivergence(rbm) for rbm in rbms]
        >>> v, (first, second) = torch.ones(1, 6), [layer.rbm for layer in layers]
        >>> means = first.visible_mean(second.mean_field(first.hidden_mean(v)))
        >>> output = UnrolledAutoencoder(layers)(Batch(v))
        >>> bool(torch.allclose(output.parameters.sigmoid(), means))
        True
    """

    is_unrolled: Tensor
    """True if the decoder was initialized from the trained RBMs."""

    def __init__(self, layers: Sequence[ContrastiveDivergence]) -> None:
        check_chain(layers)
        super().__init__(layers)
        del self.likelihood  # the lowest RBM registers it
        self._stacked_decoder.decoders = nn.ModuleList([UntiedRBMDecoder(layer.rbm) for layer in reversed(layers)])
        self.register_buffer("is_unrolled", torch.zeros((), dtype=torch.bool))

    @property
    def likelihood(self) -> Likelihood:  # type: ignore[override]
        """The likelihood p(x | h_1)."""
        return self.layers[0].likelihood

    @property
    def _stacked_decoder(self) -> StackedDecoder:
        return cast(StackedDecoder, self.decoder)

    def unroll(self) -> None:
        """Copy the current weights of the RBMs to the decoder."""
        for directed in self._stacked_decoder.decoders:
            cast(UntiedRBMDecoder, directed).unroll()
        self.is_unrolled.fill_(True)

    def prepare(self, rows: Rows) -> None:
        """Initialize the decoder from the trained RBMs."""
        self.unroll()

    def _encoder_input(self, corrupted: Corrupted, observed: Tensor | None) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed by the lowest RBM, which was trained on such rows."""
        return cast(ContrastiveDivergence, self.layers[0]).impute(Batch(corrupted.x, mask=observed))

    def project_gradient(self) -> None:
        """Do nothing: the centred gradient applies to the contrast of a single RBM, not to this criterion."""

    def project(self) -> None:
        """Do nothing: the RBMs have no constraints."""
