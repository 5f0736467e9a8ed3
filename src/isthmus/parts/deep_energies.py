"""Deep energies: the deep Boltzmann machine, and the two-layer RBMs that pretrain it.

The training objective is in `isthmus.learning.dbm_objective`. A layer interacts with its neighbours only, so the even
layers are independent given the odd ones and the reverse. The two halves form one `RBMEnergy` (`as_bipartite_rbm`),
from which log Z is computed, exactly or by annealing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.layers import check_sizes
from isthmus.parts.likelihood_base import Likelihood
from isthmus.parts.likelihood_binary import Bernoulli
from isthmus.parts.sampling import bernoulli, mixed_radix
from isthmus.parts.visible_units import VisibleUnits, visible_units

LayerStates = list[Tensor]
"""Hidden units of each layer, lowest first: each (*draws, batch, n_k)."""


class DBMEnergy(nn.Module):
    r"""Energy of a deep Boltzmann machine: visible units and layers of binary hidden units, each coupled to the next.

        E(v, h_1 .. h_L) = V(v; b_0) - s(v)' W_1' h_1 - sum_k h_k' W_(k+1)' h_(k+1) - sum_k b_k' h_k
        mean field:  mu_k = sigma(b_k + W_k mu_(k-1) + W_(k+1)' mu_(k+1)),   mu_0 = s(v)
        F(v) <= F_mu(v) = E(v, mu) - sum_k H(mu_k),   log p(v) >= -F_mu(v) - log Z

    V and s belong to the visible units; H is the entropy of independent units with means mu. The posterior of a layer
    depends on the layers above it too, which resolves ambiguous input from the top down.

    Shapes: v (*draws, batch, columns); h_k (*draws, batch, n_k); W_k (n_k, n_(k-1)); energies (*draws, batch), nats.

    Args:
        likelihood: p(v | h_1): "bernoulli", a Gaussian one, "categorical" or "mixed".
        hidden_sizes: n_1 .. n_L, lowest first; two or more.
        weight_scale: the standard deviation of the initial weights; None means .3 / sqrt(n_0 + n_1) for the first
            layer and 1.2 / sqrt(n_(k-1) + n_k) for the others, whose input is close to random bits at first: training
            would drive smaller weights to zero.
        generator: the generator that initializes the weights.

    Raises:
        InputError: fewer than two hidden layers, word counts, or a likelihood without visible units.

    Source: Salakhutdinov & Hinton, Deep Boltzmann machines (2009), section 2; DL book, section 20.4.

    Example:
        >>> dbm = DBMEnergy(Bernoulli(4), (3, 2), generator=torch.Generator().manual_seed(0))
        >>> v = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
        >>> [tuple(mu.shape) for mu in dbm.mean_field(v, 10)]
        [(1, 3), (1, 2)]
        >>> bool(-dbm.free_energy(v, 10) - dbm.log_partition() < 0)
        True
    """

    def __init__(
        self,
        likelihood: Likelihood,
        hidden_sizes: Sequence[int],
        *,
        weight_scale: float | None = None,
        generator: Generator,
    ) -> None:
        super().__init__()
        check_sizes("DBMEnergy", tuple(hidden_sizes))
        if len(hidden_sizes) < 2:
            raise InputError(
                f"a deep Boltzmann machine has two hidden layers or more; found {len(hidden_sizes)}; give hidden_sizes"
            )
        self.likelihood, self.visible = likelihood, visible_units(likelihood)
        if self.visible.total(torch.zeros(1, likelihood.n_columns)) is not None:
            raise InputError(
                "a deep Boltzmann machine has no units for word counts; use a restricted one (kind 'rbm'), or "
                "likelihood='bernoulli' on the presence of each word"
            )
        self.sizes = (likelihood.n_columns, *map(int, hidden_sizes))
        scales = [
            (1.2 if k else 0.3) / math.sqrt(n + m) if weight_scale is None else weight_scale
            for k, (n, m) in enumerate(pairwise(self.sizes))
        ]
        self.weights = nn.ParameterList(
            scale * torch.randn(m, n, generator=generator)
            for scale, (n, m) in zip(scales, pairwise(self.sizes), strict=True)
        )
        self.biases = nn.ParameterList(torch.zeros(n) for n in self.sizes)

    @property
    def n_layers(self) -> int:
        """L, the number of hidden layers."""
        return len(self.sizes) - 1

    def inputs(self, k: int, below: Tensor | None, above: Tensor | None) -> Tensor:
        """Return b_k + W_k u_(k-1) + W_(k+1)' u_(k+1), without the term of a neighbour that is None; u_0 is s(v)."""
        total = self.biases[k]
        if below is not None:
            total = F.linear(below, self.weights[k - 1], total)
        return total if above is None else F.linear(above, self.weights[k].t()) + total

    # -- energies -------------------------------------------------------------------------------------

    def energy(self, v: Float[Tensor, "*draws batch columns"], units: LayerStates) -> Float[Tensor, "*draws batch"]:
        """Return E(v, h_1 .. h_L); for means in place of states, its expectation over independent units."""
        total, below = self.visible.energy(v, self.biases[0]), self.visible.sufficient_statistic(v)
        for k, h in enumerate(units, 1):
            total = total - (h * self.inputs(k, below, None)).sum(-1)
            below = h
        return total

    def free_energy(self, v: Float[Tensor, "*draws batch columns"], n_iterations: int) -> Float[Tensor, "*draws batch"]:
        """Return F_mu(v) with mu held constant: its gradient is that of F_mu where mu is stationary."""
        with torch.no_grad():
            mu = self.mean_field(v, n_iterations)
        return self.bound_given(v, mu)

    def bound_given(self, v: Float[Tensor, "*draws batch columns"], mu: LayerStates) -> Float[Tensor, "*draws batch"]:
        """Return F_mu(v) for any means mu."""
        entropies = [(torch.special.entr(rates) + torch.special.entr(1 - rates)).sum(-1) for rates in mu]
        return self.energy(v, mu) - torch.stack(entropies).sum(0)

    def odd_free_energy(self, odd: LayerStates) -> Float[Tensor, "*draws batch"]:
        """Return -log of the sum of exp(-E) over v and the even layers, given h_1, h_3, ..."""
        own = torch.stack([(h * self.biases[k]).sum(-1) for k, h in zip(self._odd, odd, strict=True)]).sum(0)
        r, *others = self._even_inputs(odd)
        outer = [F.softplus(a).sum(-1) for a in others]
        return -own - self.visible.log_normalizer(r, self.biases[0]) - (torch.stack(outer).sum(0) if outer else 0.0)

    # -- inference ------------------------------------------------------------------------------------

    def mean_field(self, v: Float[Tensor, "*draws batch columns"], n_iterations: int) -> LayerStates:
        """Return mu_1 .. mu_L after `n_iterations` rounds; each updates the odd layers, then the even layers.

        Layers of the same parity do not interact, so each half round minimises F_mu exactly and F_mu never rises: no
        damping is needed. The initial means come from an upward pass in which every layer but the last doubles its
        input from below, in place of the missing input from above.

        Source: Salakhutdinov & Hinton (2009), section 2.2; Salakhutdinov & Larochelle (2010) for the upward pass.
        """
        first, mu = self._initial_rates(v)
        for _ in range(n_iterations):
            for k in (*self._odd, *self._even):
                above = mu[k] if k < self.n_layers else None
                if k == 1:
                    mu[0] = torch.sigmoid(F.linear(mu[1], self.weights[1].t()) + first)
                else:
                    mu[k - 1] = torch.sigmoid(self.inputs(k, mu[k - 2], above))
        return mu

    def impute(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None, n_iterations: int
    ) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries (mask 0) replaced by their mean-field reconstruction."""
        if mask is None:
            return x
        with torch.no_grad():
            start = self.likelihood.mean_given(self.biases[0].expand_as(x), x * mask)
            guess = torch.where(mask != 0, x, start)
            expected = self.visible_mean(self.mean_field(guess, n_iterations)[0])
        return torch.where(mask != 0, x, expected)

    def _initial_rates(self, v: Float[Tensor, "*draws batch columns"]) -> tuple[Tensor, LayerStates]:
        """Return b_1 + W_1 s(v), which all rounds share, and the means of an upward pass."""
        first = self.inputs(1, self.visible.sufficient_statistic(v), None)
        mu = [torch.sigmoid(2 * first - self.biases[1])]
        for k in range(2, self.n_layers + 1):
            share = 1 if k == self.n_layers else 2
            mu.append(torch.sigmoid(self.inputs(k, share * mu[-1], None)))
        return first, mu

    @torch.no_grad()
    def sample_hidden_layers(
        self, v: Float[Tensor, "batch columns"], n_steps: int, generator: Generator
    ) -> LayerStates:
        """Sample h_1 .. h_L from p(h | v) by Gibbs steps that start at the upward pass.

        The even layers are returned as means given the odd layers. In expectation the samples give the gradient of
        -log p(v), while mean field gives the gradient of its bound: mean field uses means of the lower layers and
        ignores the effect of their variance on the upper layers.
        """
        first, h = self._initial_rates(v)
        for _ in range(n_steps):
            hidden_samples = [bernoulli(rates, generator) for rates in h[1::2]]
            h[0::2] = self._sample_odd(first, hidden_samples, generator)
            h[1::2] = [torch.sigmoid(a) for a in self._upper_even_inputs(h[0::2])]
        return h

    def visible_mean(self, first: Float[Tensor, "*draws batch units"]) -> Float[Tensor, "*draws batch columns"]:
        """Return E[v | h_1]."""
        return self.visible.mean(self.inputs(0, None, first))

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, " batch"], above: Float[Tensor, "batch units"]
    ) -> Float[Tensor, " batch"]:
        """Return log p(v_j = 1 | the others, h_2) - log p(v_j = 0 | the others, h_2) for one column j of each row.

        The visible units are binary, and h_1 is summed out. Means may take the place of the states h_2.
        """
        weight = self.weights[0][:, columns].t()
        without = self.inputs(1, v, above) - v.gather(-1, columns[:, None]) * weight
        return self.biases[0][columns] + (F.softplus(without + weight) - F.softplus(without)).sum(-1)

    # -- chains ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_even(
        self, odd: LayerStates, generator: Generator
    ) -> tuple[Float[Tensor, "chains columns"], LayerStates]:
        """Sample v and h_2, h_4, ... given the odd layers."""
        r, *others = self._even_inputs(odd)
        return self.visible.sample(r, generator), [bernoulli(torch.sigmoid(a), generator) for a in others]

    @torch.no_grad()
    def sample_odd(self, v: Float[Tensor, "chains columns"], even: LayerStates, generator: Generator) -> LayerStates:
        """Sample h_1, h_3, ... given v and the even hidden layers."""
        return self._sample_odd(self.inputs(1, self.visible.sufficient_statistic(v), None), even, generator)

    def _sample_odd(self, first: Tensor, even: LayerStates, generator: Generator) -> LayerStates:
        """Sample h_1, h_3, ... given b_1 + W_1 s(v) and the even hidden layers."""
        above = [*even[1:], None]
        inputs = [F.linear(even[0], self.weights[1].t()) + first]
        inputs += [self.inputs(k, even[i], above[i]) for i, k in enumerate(self._odd[1:])]
        return [bernoulli(torch.sigmoid(a), generator) for a in inputs]

    def _even_inputs(self, odd: LayerStates) -> LayerStates:
        """Return the parameters r of the visible units and the inputs of h_2, h_4, ..., given the odd layers."""
        return [self.inputs(0, None, odd[0]), *self._upper_even_inputs(odd)]

    def _upper_even_inputs(self, odd: LayerStates) -> LayerStates:
        """Return the inputs of h_2, h_4, ..., given the odd layers."""
        above = [*odd[1:], None]
        return [self.inputs(k, odd[i], above[i]) for i, k in enumerate(self._even)]

    @property
    def _odd(self) -> range:
        return range(1, self.n_layers + 1, 2)

    @property
    def _even(self) -> range:
        """Numbers of the even hidden layers."""
        return range(2, self.n_layers + 1, 2)

    @property
    def odd_sizes(self) -> tuple[int, ...]:
        """Sizes n_1, n_3, ... of the odd layers."""
        return tuple(self.sizes[k] for k in self._odd)

    # -- log Z ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def as_bipartite_rbm(self) -> RBMEnergy:
        """Return an equivalent RBM: the even layers, v first, are its visible units, the odd layers its hidden units.

        The weights are copies.
        """
        even = (0, *self._even)
        n_even = sum(self.sizes[k] for k in even)
        rbm = RBMEnergy(Bernoulli(n_even), sum(self.odd_sizes), generator=torch.Generator())
        rbm.to(self.biases[0])
        if not isinstance(self.likelihood, Bernoulli):
            rbm.visible = EvenLayerUnits(self.visible, n_even)
        rbm.weight.zero_()
        rows = dict(zip(self._odd, _starts(self.odd_sizes), strict=True))
        columns = dict(zip(even, _starts([self.sizes[k] for k in even]), strict=True))
        for k, weight in enumerate(self.weights, 1):  # W_k connects the layers k - 1 and k
            odd, at, block = (k, k - 1, weight) if k % 2 else (k - 1, k, weight.t())
            rbm.weight[rows[odd] : rows[odd] + len(block), columns[at] : columns[at] + block.shape[1]] = block
        rbm.hidden_bias.copy_(torch.cat([self.biases[k] for k in self._odd]))
        rbm.visible_bias.copy_(torch.cat([self.biases[k] for k in even]))
        return rbm

    @torch.no_grad()
    def log_partition(self) -> Float[Tensor, ""]:
        """Compute log Z by summing over all states of the even or of the odd layers.

        Raises:
            InputError: both have more than 2^20 states.
        """
        return self.as_bipartite_rbm().log_partition()


class EvenLayerUnits(VisibleUnits):
    """Visible units v concatenated with binary units: v and the even hidden layers as one layer.

    Args:
        visible: the units of the first columns.
        n_columns: total number of columns.
    """

    def __init__(self, visible: VisibleUnits, n_columns: int) -> None:
        super().__init__(visible.likelihood)
        self.first, self.n = visible, visible.likelihood.n_columns
        self.n_binary = n_columns - self.n
        if visible.sizes is not None:
            self.sizes = [*visible.sizes, *[2] * self.n_binary]

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """Return V of the first units minus b' h of the others."""
        return self.first.energy(v[..., : self.n], bias[: self.n]) - v[..., self.n :] @ bias[self.n :]

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the log-normalizer of the first units plus softplus of the others."""
        first = self.first.log_normalizer(parameters[..., : self.n], bias[: self.n])
        return first + F.softplus(parameters[..., self.n :]).sum(-1)

    @torch.no_grad()
    def sample(self, parameters: Tensor, generator: Generator, total: Tensor | None = None) -> Tensor:
        """Sample both kinds of units."""
        first = self.first.sample(parameters[..., : self.n], generator)
        return torch.cat([first, bernoulli(torch.sigmoid(parameters[..., self.n :]), generator)], -1)

    def sufficient_statistic(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return s(v) of the first units, and the others unchanged."""
        return torch.cat([self.first.sufficient_statistic(v[..., : self.n]), v[..., self.n :]], -1)

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """Return the joint states of the given numbers, the state of the first units changing slowest."""
        its, other = mixed_radix([math.prod(self.first.sizes or ()), 2**self.n_binary], number).T
        first = self.first.states_at(its)
        bits = other[:, None] >> torch.arange(self.n_binary - 1, -1, -1) & 1
        return torch.cat([first, bits.to(first.dtype)], -1)


class DBMLayerRBM(RBMEnergy):
    r"""RBM that pretrains two neighbouring layers of a deep Boltzmann machine; copies stand in for the other layers.

        p(h = 1 | v) = sigma(c + m W s(v)),   p(v | h): parameters b + n W' h,   m, n in {1, 2}

    A layer with a layer above doubles its input from below (m = 2), a layer with a layer below doubles its input from
    above (n = 2). The inputs in the deep Boltzmann machine, which come from both sides, are then as large as during
    pretraining. The gradient is that of `free_energy_given`; there is no joint energy, since all copies share one
    sample. W and c are parameters of `deep` itself, and so is b for k = 1.

    Args:
        deep: the deep Boltzmann machine.
        k: number of the upper one of the two layers, from 1.

    Source: Salakhutdinov & Hinton (2009), section 3.1, eq. 15 to 20.
    """

    factorial: ClassVar[bool] = False

    def __init__(self, deep: DBMEnergy, k: int) -> None:
        likelihood = deep.likelihood if k == 1 else Bernoulli(deep.sizes[k - 1])
        super().__init__(likelihood, deep.sizes[k], generator=torch.Generator())
        self.to(deep.biases[0])
        self.up.weight, self.up.bias = deep.weights[k - 1], deep.biases[k]
        if k == 1:
            self.visible_bias = deep.biases[0]
        self.below, self.above = 1 if k == deep.n_layers else 2, 1 if k == 1 else 2

    def forward(
        self, v: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch hidden"]:
        """Return c + m W s(v), the input of the hidden units."""
        return self.up(self.below * self.visible.sufficient_statistic(v))

    def down(self, h: Float[Tensor, "*draws batch hidden"]) -> Float[Tensor, "*draws batch columns"]:
        """Return b + n W' h, the parameters of p(v | h)."""
        return super().down(self.above * h)

    def free_energy_given(
        self, v: Float[Tensor, "*draws batch columns"], a: Float[Tensor, "*draws batch hidden"]
    ) -> Float[Tensor, "*draws batch"]:
        """Return (m V(v) - n sum_j A(a_j)) / (m n), the free energy of all copies divided by their number."""
        own = self.visible.energy(v, self.visible_bias) / self.above
        return own - self.hidden.log_normalizer(a).sum(-1) / self.below


def _starts(sizes: Sequence[int]) -> list[int]:
    """Return the offset of each of several consecutive blocks."""
    return [sum(sizes[:i]) for i in range(len(sizes))]
