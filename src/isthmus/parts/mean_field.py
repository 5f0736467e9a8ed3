"""A deep Boltzmann machine as encoder and decoder: mean field and an upward pass, and a downward pass."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.parts.coder import Coder
from isthmus.parts.deep_energies import DBMEnergy
from isthmus.parts.inference import ImputingMap


class MeanField(nn.Module):
    """Encoder x -> a_L of a deep Boltzmann machine: the input of the top units at the mean-field solution.

        mu by n rounds, constant;   h_k = sigma(b_k + W_k h_(k-1) + W_(k+1)' mu_(k+1)),   a_L = b_L + W_L h_(L-1)

    Gradients flow through the final upward pass only. It is a feed-forward network whose hidden layers also receive
    the means of the layer above as inputs; at the mean-field solution it reproduces the means. Its weights are those of
    the Boltzmann machine until `separate_weights` copies them: from then on b_k and W_k are the encoder's own, while
    the Boltzmann machine, which computes the means and the input from above, stays unchanged. (In the paper the
    weights from above are trained too; here they are constant.)

    Shapes: (*draws, batch, columns) -> (*draws, batch, n_L).

    Args:
        energy: the energy of the deep Boltzmann machine.
        n_iterations: number of mean-field rounds.

    Source: Salakhutdinov & Hinton, Deep Boltzmann machines (2009), section 3.3 (discriminative fine-tuning).
    """

    def __init__(self, energy: DBMEnergy, n_iterations: int) -> None:
        super().__init__()
        self.energy, self.n_iterations = energy, n_iterations
        self.activations = nn.ModuleList([nn.Sigmoid() for _ in range(energy.n_layers - 1)])
        self.own: nn.ModuleList | None = None
        self.register_load_state_dict_pre_hook(_leave_as_saved)

    @torch.no_grad()
    def separate_weights(self) -> None:
        """Copy the upward weights, unless already done; the first layer then takes v itself in place of s(v)."""
        if self.own is not None:
            return
        dbm = self.energy
        self.own = nn.ModuleList(skip_init(nn.Linear, n, m) for n, m in pairwise(dbm.sizes))
        self.own.to(dbm.biases[0])
        for k, (layer, weight) in enumerate(zip(self.own, dbm.weights, strict=True), 1):
            scale = dbm.visible.sufficient_statistic(torch.ones_like(weight[:1])) if k == 1 else 1.0
            cast(nn.Linear, layer).weight.copy_(weight * scale)
            cast(nn.Linear, layer).bias.copy_(dbm.biases[k])

    def impute(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None
    ) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed by the Boltzmann machine."""
        return self.energy.impute(x, mask, self.n_iterations)

    def forward(self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None) -> Tensor:
        """Return the input of the top units."""
        dbm = self.energy
        with torch.no_grad():
            mu = dbm.mean_field(x, self.n_iterations)
        below = dbm.visible.sufficient_statistic(x) if self.own is None else x
        for k, activation in enumerate(self.activations, 1):
            below = activation(self._inputs(k, below, mu[k]))
        return self._inputs(dbm.n_layers, below, None)

    def _inputs(self, k: int, below: Tensor, above: Tensor | None) -> Tensor:
        """Return b_k + W_k u_(k-1) + W_(k+1)' u_(k+1), without the last term where `above` is None."""
        if self.own is None:
            return self.energy.inputs(k, below, above)
        total = cast(Tensor, self.own[k - 1](below))
        return total if above is None else F.linear(above, self.energy.weights[k].detach().t()) + total


def _leave_as_saved(module: MeanField, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Before loading a state_dict that has weights of the encoder's own, create them."""
    if any(name.startswith(f"{prefix}own.") for name in state):
        module.separate_weights()


class DBMDecoder(nn.Module):
    """Decoder h_L -> parameters of p(x | h_1): a downward pass of means, with doubled inputs from above.

    Shapes: (*draws, batch, n_L) -> (*draws, batch, columns).

    Args:
        energy: the deep Boltzmann machine whose weights are used; it is not registered here.
    """

    def __init__(self, energy: DBMEnergy) -> None:
        super().__init__()
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._dbm = (energy,)

    def forward(self, code: Float[Tensor, "*draws batch units"], generator: Generator | None = None) -> Tensor:
        """Return the parameters of p(x | h_1)."""
        dbm, units = self._dbm[0], code
        for k in reversed(range(1, dbm.n_layers)):
            units = torch.sigmoid(dbm.inputs(k, None, 2 * units))
        return dbm.inputs(0, None, units)

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " columns"]) -> None:
        """Set the visible biases to `output`."""
        self._dbm[0].biases[0].copy_(output)


def mean_field_coder(energy: DBMEnergy, n_iterations: int) -> Coder:
    """Return the coder of a deep Boltzmann machine: mean field upwards, means downwards.

    Missing entries are imputed by mean field. The code is the means of the top layer.

    Args:
        energy: the deep Boltzmann machine.
        n_iterations: number of mean-field rounds.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> energy = DBMEnergy(Bernoulli(4), (3, 2), generator=torch.Generator().manual_seed(0))
        >>> mean_field_coder(energy, 10).encode(Batch(torch.ones(5, 4))).code.shape
        torch.Size([5, 2])
    """
    encoder = MeanField(energy, n_iterations)
    return Coder(ImputingMap(encoder, "sigmoid", encoder), DBMDecoder(energy), energy.likelihood)
