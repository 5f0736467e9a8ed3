"""A stack of restricted Boltzmann machines, unrolled into one deep autoencoder."""

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
    """h -> r = b + U h: the way down of a harmonium with weights of its own, U = W' where it begins.

    The biases b are the harmonium's, since its energy has no other use for them on the way up.

    Shapes: (*draws, batch, n_hidden) -> (*draws, batch, columns).

    Args:
        rbm: where it begins.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks (2006): after unrolling
    the two directions are fine-tuned apart.
    """

    def __init__(self, rbm: RBMEnergy) -> None:
        super().__init__(rbm)
        self.weight = nn.Parameter(rbm.weight.detach().t().contiguous())

    @torch.no_grad()
    def unroll(self) -> None:
        """Begin at the harmonium's weights as they are now."""
        self.weight.copy_(self.rbm.weight.t())

    def forward(
        self, code: Float[Tensor, "*draws batch hidden"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """The parameters of p(v | h); nothing is drawn."""
        return F.linear(code, self.weight, self.rbm.visible_bias)


class UnrolledAutoencoder(Stack):
    r"""Machines that were learned one on the other, as one deep autoencoder: up by rates, and down again by rates.

        h_k = E[h | h_(k-1)] by W_k, c_k,   h_0 = x;     r_(k-1) = E[v | r_k] by U_k, b_k,   r_L = h_L
        J = E_x[ -log p_1(x | r_1) ],   U_k = W_k' where fine-tuning begins, and free from there

    Shapes: those of a `Stack`.

    Args:
        layers: machines, lowest first; each sees as many units as the one below has.

    Raises:
        InputError: sizes that do not match.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313 (2006).

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> from isthmus.parts.forward import Batch
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbms = [RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3))]
        >>> layers = [ContrastiveDivergence(rbm) for rbm in rbms]
        >>> v, (first, second) = torch.ones(1, 6), [layer.rbm for layer in layers]
        >>> rates = first.visible_mean(second.mean_field(first.hidden_mean(v)))
        >>> trip = UnrolledAutoencoder(layers)(Batch(v))
        >>> bool(torch.allclose(trip.parameters.sigmoid(), rates))
        True
    """

    is_unrolled: Tensor
    """Whether the way down has begun at the machines' weights."""

    def __init__(self, layers: Sequence[ContrastiveDivergence]) -> None:
        check_chain(layers)
        super().__init__(layers)
        del self.likelihood  # it is the lowest harmonium's, and named once
        self._way_down.decoders = nn.ModuleList([UntiedRBMDecoder(layer.rbm) for layer in reversed(layers)])
        self.register_buffer("is_unrolled", torch.zeros((), dtype=torch.bool))

    @property
    def likelihood(self) -> Likelihood:  # type: ignore[override]
        """p(x | h_1)."""
        return self.layers[0].likelihood

    @property
    def _way_down(self) -> StackedDecoder:
        return cast(StackedDecoder, self.decoder)

    def unroll(self) -> None:
        """Begin the way down at the machines' weights as they are now."""
        for directed in self._way_down.decoders:
            cast(UntiedRBMDecoder, directed).unroll()
        self.is_unrolled.fill_(True)

    def prepare(self, rows: Rows) -> None:
        """Unroll: what the machines have learned is where the whole begins."""
        self.unroll()

    def _encoder_input(self, corrupted: Corrupted, observed: Tensor | None) -> Float[Tensor, "batch columns"]:
        """The rows as the lowest machine completes them where entries are missing: it has learned on such rows."""
        return cast(ContrastiveDivergence, self.layers[0]).impute(Batch(corrupted.x, mask=observed))

    def project_gradient(self) -> None:
        """Nothing: the centred step is of a machine's contrast, and what is followed here is the whole's gradient."""

    def project(self) -> None:
        """Nothing, likewise."""
