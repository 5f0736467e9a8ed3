"""A recurrence up and down a stack of layers: each settles between what comes from below and from above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn


class RecurrentEncoder(nn.Module):
    r"""The mean-field recurrence of a stack whose input stays where it is; gives the top layer's pre-activation.

        begin:     h_k = s_k(up_k(h_(k-1))),   k = 1..L,   h_0 = x
        a sweep:   h_k <- s_k( 1/2 up_k(h_(k-1)) + 1/2 down_(k+1)(h_(k+1)) )    for k = L-1..1, then for k = 2..L-1,
                   h_L <- s_L(up_L(h_(L-1)))

    Each map was learned to say all of a layer by itself, from below or from above; a layer that hears both takes half
    of each, which is to halve the weights and biases of a stack. The top layer hears one, and the layers have none
    from above when they begin. Without sweeps this is the feed-forward encoder, with the same parameters.

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size); `all_sweeps` puts the sweeps before.

    Args:
        ups: up_k, lowest first.
        downs: down_2 .. down_L, the parameters of the units of the layer below; they belong to the decoder, which
            registers them.
        activations: s_1 .. s_L; the last belongs to the objective, which registers it.
        n_sweeps: how many, 0 or more.

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
        # In tuples, nn.Module does not register them, so that each parameter has one name; deepcopy follows them.
        self._downs, self._top_activation = tuple(downs), (activations[-1],)
        self.n_sweeps = n_sweeps

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """The top layer's pre-activation after the last sweep."""
        *_, last = self._sweeps(x, generator)
        return last

    def all_sweeps(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "sweeps *draws batch units"]:
        """The top layer's pre-activation at the beginning and after each sweep, n_sweeps + 1 in all."""
        return torch.stack(list(self._sweeps(x, generator)))

    def _sweeps(self, x: Tensor, generator: Generator | None) -> Iterator[Tensor]:
        """The top layer's pre-activation at the beginning, and after each sweep."""
        from_below = self.ups[0](x, generator)  # what x says does not change
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
