"""Recurrent inference in a stack of layers: hidden layers combine input from below and from above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, Decoder, EncoderMap


class RecurrentEncoder(nn.Module):
    r"""Encoder that iterates a mean-field recurrence over a stack with fixed input x.

        start:     h_k = s_k(up_k(h_(k-1))),   k = 1..L,   h_0 = x
        a sweep:   h_k <- s_k( 1/2 up_k(h_(k-1)) + 1/2 down_(k+1)(h_(k+1)) )    for k = L-1..1, then for k = 2..L-1,
                   h_L <- s_L(up_L(h_(L-1)))

    The output is the pre-activation of the top layer. Each map was trained to determine a layer alone, from below or
    from above; a layer with input from both sides takes half of each, as if weights and biases of the stack were
    halved. The top layer has input from below only, and so have all layers at the start. Without sweeps this is the
    feed-forward encoder, with the same parameters.

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size); `all_sweeps` adds a leading axis of sweeps.

    Args:
        ups: up_k, lowest first.
        downs: down_2 .. down_L, h_k -> parameters of the units of layer k - 1; the decoder registers them.
        activations: s_1 .. s_L; the inference registers the last one.
        n_sweeps: number of sweeps, 0 or more.

    Source: Savard, Reseaux de neurones a relaxation entraines par critere d'autoencodeur debruitant (2011);
    Salakhutdinov & Hinton, Deep Boltzmann machines (2009), equations 13 and 14, for the halves.

    Example:
        >>> from isthmus.parts.networks import MLP
        >>> generator = torch.Generator().manual_seed(0)
        >>> up, upper, down = (MLP(sizes, generator=generator) for sizes in ((6, 4), (4, 2), (2, 4)))
        >>> encoder = RecurrentEncoder([up, upper], [down], [nn.Sigmoid(), nn.Sigmoid()], n_sweeps=3)
        >>> encoder(torch.zeros(5, 6)).shape, encoder.all_sweeps(torch.zeros(5, 6)).shape
        (torch.Size([5, 2]), torch.Size([4, 5, 2]))
    """

    def __init__(
        self,
        ups: Sequence[nn.Module],
        downs: Sequence[nn.Module],
        activations: Sequence[nn.Module],
        *,
        n_sweeps: int,
    ) -> None:
        super().__init__()
        self.ups = nn.ModuleList(ups)
        self.activations = nn.ModuleList(activations[:-1])
        # nn.Module does not register modules inside tuples, so that each parameter has one name; deepcopy copies them.
        self._downs, self._top_activation = tuple(downs), (activations[-1],)
        self.n_sweeps = n_sweeps

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """Return the top layer's pre-activation after the last sweep."""
        *_, last = self._sweeps(x, generator)
        return last

    def all_sweeps(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "sweeps *draws batch units"]:
        """Return the top layer's pre-activation at the start and after each sweep, n_sweeps + 1 in all."""
        return torch.stack(list(self._sweeps(x, generator)))

    def _sweeps(self, x: Tensor, generator: Generator | None) -> Iterator[Tensor]:
        """Yield the top layer's pre-activation at the start and after each sweep."""
        from_below = self.ups[0](x, generator)  # x is fixed
        h = [self.activations[0](from_below)]
        for activation, up in zip(self.activations[1:], self.ups[1:-1], strict=True):
            h.append(activation(up(h[-1], generator)))
        top = self.ups[-1](h[-1], generator)
        yield top
        inner = range(len(h))
        for _ in range(self.n_sweeps):
            h.append(self._top_activation[0](top))
            for k in [*reversed(inner), *inner[1:]]:
                below = from_below if k == 0 else self.ups[k](h[k - 1], generator)
                h[k] = self.activations[k](0.5 * (below + self._downs[k](h[k + 1], generator)))
            h.pop()
            top = self.ups[-1](h[-1], generator)
            yield top


class Recurrence(EncoderMap):
    r"""Inference by mean-field recurrence: h_L(t) = s_L(a_L(t)) after t = 1..T sweeps, the last of which is the code.

    In training the codes of all sweeps are draws, so that the criterion is the mean over the sweeps; without sweeps
    there is one, that of the feed-forward stack.

    Shapes: x (batch, columns) -> h (batch, code_size), in training (sweeps, batch, code_size).

    Args:
        layers: the layers, lowest first; their encoders, decoders and activations are shared.
        n_sweeps: T.

    Source: Savard (2011); Seung, Learning continuous attractors in recurrent networks (1998), for the criterion.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> from isthmus.parts.networks import MLP
        >>> generator, sizes = torch.Generator().manual_seed(0), ((6, 4), (4, 2))
        >>> up, down = ([MLP(part, generator=generator) for part in parts] for parts in (sizes, ((4, 6), (2, 4))))
        >>> layers = [Coder(EncoderMap(f, "sigmoid"), g, Bernoulli(n)) for f, g, (n, _) in zip(up, down, sizes)]
        >>> inference, batch = Recurrence(layers, n_sweeps=3), Batch(torch.ones(5, 6))
        >>> inference(batch, down[0]).code.shape, inference(batch, down[0], generator).code.shape
        (torch.Size([5, 2]), torch.Size([3, 5, 2]))
    """

    encoder: RecurrentEncoder

    def __init__(self, layers: Sequence[Coder], *, n_sweeps: int) -> None:
        activations = [layer.code_activation for layer in layers]
        encoder = RecurrentEncoder(
            [layer.encoder for layer in layers],
            [cast(nn.Module, layer.decoder) for layer in layers[1:]],
            activations,
            n_sweeps=n_sweeps,
        )
        super().__init__(encoder, activations[-1])

    def codes_by_sweep(
        self, x: Float[Tensor, "batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "sweeps batch code_size"]:
        """Return the codes at the start and after each sweep, n_sweeps + 1 in all."""
        return cast(Tensor, self.code_activation(self.encoder.all_sweeps(x, generator)))

    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return the codes after each sweep; without a generator, after the last."""
        if generator is None:
            return super().forward(batch, decoder)
        preactivations = self.encoder.all_sweeps(batch.x, generator)[min(1, self.encoder.n_sweeps) :]
        return Code(self.activate(preactivations, generator, progress), preactivations)
