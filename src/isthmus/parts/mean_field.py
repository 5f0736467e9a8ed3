"""What a deep Boltzmann machine makes of rows as a coder: its settled marginals and a pass up, and a pass down."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.parts.deep_energies import DBMEnergy


class MeanField(nn.Module):
    """x -> a_L, the input of the top units where the mean field has settled; nothing is drawn.

        mu by n rounds, held;   h_k = sigma(b_k + W_k h_(k-1) + W_(k+1)' mu_(k+1)),   a_L = b_L + W_L h_(L-1)

    The last pass up is what gradients go through: it is the network of one hidden layer after the other to which the
    marginals of the layer above are given as inputs besides, and where these have settled it gives them back. Its
    weights are the machine's, until it leaves the machine: from then on b_k and W_k are its own, begun there, and the
    machine that settles the marginals, and speaks down from them, stays as it was. (In the paper the weights down
    learn too; here they are held.)

    Shapes: (*draws, batch, columns) -> (*draws, batch, n_L).

    Args:
        machine: the energy.
        n_iterations: rounds.

    Source: Salakhutdinov & Hinton, Deep Boltzmann machines (2009), section 3.3 (discriminative fine-tuning).
    """

    def __init__(self, machine: DBMEnergy, n_iterations: int) -> None:
        super().__init__()
        self.machine, self.n_iterations = machine, n_iterations
        self.activations = nn.ModuleList([nn.Sigmoid() for _ in range(machine.n_layers - 1)])
        self.own: nn.ModuleList | None = None
        self.register_load_state_dict_pre_hook(_leave_as_saved)

    @torch.no_grad()
    def separate_weights(self) -> None:
        """Go on with weights of its own, where it has none yet; the first see v itself in place of s(v)."""
        if self.own is not None:
            return
        machine = self.machine
        self.own = nn.ModuleList(skip_init(nn.Linear, n, m) for n, m in pairwise(machine.sizes))
        self.own.to(machine.biases[0])
        for k, (layer, weight) in enumerate(zip(self.own, machine.weights, strict=True), 1):
            unit = machine.visible.sufficient_statistic(torch.ones_like(weight[:1])) if k == 1 else 1.0
            cast(nn.Linear, layer).weight.copy_(weight * unit)
            cast(nn.Linear, layer).bias.copy_(machine.biases[k])

    def forward(self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None) -> Tensor:
        """The input of the top units."""
        machine = self.machine
        with torch.no_grad():
            mu = machine.mean_field(x, self.n_iterations)
        below = machine.visible.sufficient_statistic(x) if self.own is None else x
        for k, activation in enumerate(self.activations, 1):
            below = activation(self._inputs(k, below, mu[k]))
        return self._inputs(machine.n_layers, below, None)

    def _inputs(self, k: int, below: Tensor, above: Tensor | None) -> Tensor:
        """b_k + W_k u_(k-1) + W_(k+1)' u_(k+1), without what is above where that is None."""
        if self.own is None:
            return self.machine.inputs(k, below, above)
        total = cast(Tensor, self.own[k - 1](below))
        return total if above is None else F.linear(above, self.machine.weights[k].detach().t()) + total


def _leave_as_saved(module: MeanField, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Before weights are loaded: leave the machine where the pass up that was saved had."""
    if any(name.startswith(f"{prefix}own.") for name in state):
        module.separate_weights()


class DBMDecoder(nn.Module):
    """h_L -> the parameters of p(x | h_1): down by rates, each layer counting what is above twice.

    Shapes: (*draws, batch, n_L) -> (*draws, batch, columns).

    Args:
        machine: whose weights these are; not registered here.
    """

    def __init__(self, machine: DBMEnergy) -> None:
        super().__init__()
        # In a tuple, nn.Module does not register it; deepcopy still follows it with the copies already made.
        self._dbm = (machine,)

    def forward(self, code: Float[Tensor, "*draws batch units"], generator: Generator | None = None) -> Tensor:
        """The parameters; nothing is drawn."""
        machine, units = self._dbm[0], code
        for k in reversed(range(1, machine.n_layers)):
            units = torch.sigmoid(machine.inputs(k, None, 2 * units))
        return machine.inputs(0, None, units)

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " columns"]) -> None:
        """Set the biases of the rows."""
        self._dbm[0].biases[0].copy_(output)
