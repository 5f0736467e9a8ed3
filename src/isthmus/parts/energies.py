"""Energies: the restricted Boltzmann machine in all its units, exactly where it is small enough to be summed.

Units are in `isthmus.parts.visible_units` and `isthmus.parts.hidden_units`. How such a machine learns is in
`isthmus.learning.contrastive_divergence`, how its chains run in `isthmus.learning.chains`, how log Z is estimated where
it cannot be summed in `isthmus.evaluation.partition`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError
from isthmus.parts.hidden_units import hidden_units
from isthmus.parts.layers import check_sizes
from isthmus.parts.likelihood_base import Likelihood
from isthmus.parts.sampling import enumerate_states
from isthmus.parts.visible_units import BinaryUnits, visible_units

MAX_STATES = 2**20
"""States of the smaller layer that are summed over: some seconds for a machine of ordinary size."""

STATES_AT_ONCE = 2**13


class RBMEnergy(nn.Module):
    r"""The restricted Boltzmann machine: two layers of units, each independent given the other.

        E(v, h) = V(v; b) - s(v)' W' h - n c' h + B(h),   p(v, h) = exp(-E(v, h)) / Z
        F(v) = -log sum_h exp(-E(v, h)) = V(v; b) - sum_j A(a_j),   a = n c + W s(v)
        p(h | v): hidden units under the input a;   p(v | h): the likelihood with the parameters r = b + W' h

    V, s, A and B are those of the units: for binary ones V = -b' v, s(v) = v, A = softplus, B = 0. n = 1, but for word
    counts the number of words. As a map, `forward(v)` is a: the machine is the encoder of a tied autoencoder, whose
    decoder is `RBMDecoder`.

    Shapes: v (*draws, batch, columns); h and a (*draws, batch, n_hidden); energies (*draws, batch), in nats; W
    (n_hidden, columns).

    Args:
        likelihood: p(v | h): "bernoulli", "gaussian", "gaussian-learned", "gaussian-per-column", "categorical",
            "multinomial" (the replicated softmax) or "mixed" of real, binary and categorical columns.
        n_hidden: how many hidden units.
        hidden: "bernoulli", "gaussian" (of unit variance), or "rectified" (noisy rectified).
        weight_scale: the standard deviation of the first weights; None takes .3 / sqrt(columns + n_hidden), which is
            Hinton's .01 for his machines and lets small ones begin too.
        generator: what they are drawn from.

    Raises:
        InputError: a likelihood or a name without units, or fewer than one hidden unit.

    Source: Smolensky (1986); Hinton, Training products of experts by minimizing contrastive divergence (2002);
    Welling, Rosen-Zvi & Hinton, Exponential family harmoniums (2005); DL book, section 20.2.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> machine = RBMEnergy(Bernoulli(4), 3, generator=torch.Generator().manual_seed(0))
        >>> v = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
        >>> h = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # every state, to sum over
        >>> bool(torch.isclose(-torch.logsumexp(-machine.energy(v, h), 0), machine.free_energy(v)))
        True
    """

    factorial: ClassVar[bool] = True
    """Whether hidden units are independent given the visible ones, so that they are summed out in closed form."""

    below, above = 1, 1
    """How often the hidden units count the visible ones, and the visible units the hidden ones: more than once where
    the machine stands for layers of a deep one (`DBMLayerRBM`)."""

    def __init__(
        self,
        likelihood: Likelihood,
        n_hidden: int,
        *,
        hidden: str = "bernoulli",
        weight_scale: float | None = None,
        generator: Generator,
    ) -> None:
        super().__init__()
        check_sizes("RBMEnergy", (n_hidden,))
        self.likelihood = likelihood
        self.visible, self.hidden = visible_units(likelihood), hidden_units(hidden)
        self.n_visible, self.n_hidden = likelihood.n_columns, int(n_hidden)
        self.up = skip_init(nn.Linear, self.n_visible, self.n_hidden)
        scale = 0.3 / math.sqrt(self.n_visible + self.n_hidden) if weight_scale is None else weight_scale
        nn.init.normal_(self.up.weight, 0.0, scale, generator=generator)
        nn.init.zeros_(self.up.bias)
        self.visible_bias = nn.Parameter(torch.zeros(self.n_visible))

    @property
    def weight(self) -> Float[Tensor, "hidden columns"]:
        """W."""
        return self.up.weight

    @property
    def hidden_bias(self) -> Float[Tensor, " hidden"]:
        """c."""
        return self.up.bias

    def forward(
        self, v: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch hidden"]:
        """a = n c + W s(v), the input of the hidden units; nothing is drawn."""
        total = self.visible.total(v)
        if total is None:
            return self.up(self.visible.sufficient_statistic(v))
        return F.linear(self.visible.sufficient_statistic(v), self.weight) + total.unsqueeze(-1) * self.hidden_bias

    def down(self, h: Float[Tensor, "*draws batch hidden"]) -> Float[Tensor, "*draws batch columns"]:
        """r = b + W' h, the parameters of p(v | h)."""
        return F.linear(h, self.weight.t(), self.visible_bias)

    def energy(
        self, v: Float[Tensor, "*draws batch columns"], h: Float[Tensor, "*draws batch hidden"]
    ) -> Float[Tensor, "*draws batch"]:
        """E(v, h)."""
        return self.visible.energy(v, self.visible_bias) - (h * self(v)).sum(-1) + self.hidden.energy(h).sum(-1)

    def free_energy(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch"]:
        """F(v) = -log p(v) - log Z."""
        return self.free_energy_given(v, self(v))

    def free_energy_given(
        self, v: Float[Tensor, "*draws batch columns"], a: Float[Tensor, "*draws batch hidden"]
    ) -> Float[Tensor, "*draws batch"]:
        """F(v) where the hidden units' input a is there already: it costs the product with W."""
        return self.visible.energy(v, self.visible_bias) - self.hidden.log_normalizer(a).sum(-1)

    def hidden_free_energy(
        self, h: Float[Tensor, "*draws batch hidden"], total: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "*draws batch"]:
        """-log of the sum over v of exp(-E(v, h)); `total` words a row where the units are word counts."""
        bias = self.hidden_bias if total is None else total.unsqueeze(-1) * self.hidden_bias
        own = self.hidden.energy(h).sum(-1) - (h * bias).sum(-1)
        return own - self.visible.log_normalizer(self.down(h), self.visible_bias, total)

    def chain_energy(self, v: Tensor, a: Tensor, h: Tensor) -> Float[Tensor, "*draws batch"]:
        """What has the gradient of E(v, h) in expectation over h | v, with the least variance there is."""
        return self.free_energy_given(v, a)

    def code_activation(self) -> nn.Module:
        """a -> E[h | v]."""
        return self.hidden.activation()

    def mean_given(self, a: Float[Tensor, "*draws batch hidden"]) -> Float[Tensor, "*draws batch hidden"]:
        """E[h | v] where the input a is there already."""
        return self.hidden.mean(a)

    def sample_given(
        self, a: Float[Tensor, "*draws batch hidden"], generator: Generator, h: Tensor | None = None
    ) -> Float[Tensor, "*draws batch hidden"]:
        """A draw of h | v where the input a is there already; h is where units stand that are drawn in turn."""
        return self.hidden.sample(a, generator)

    def hidden_mean(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch hidden"]:
        """E[h | v]."""
        return self.mean_given(self(v))

    @torch.no_grad()
    def sample_hidden(self, v: Float[Tensor, "*draws batch columns"], generator: Generator) -> Tensor:
        """One draw of h | v a row."""
        return self.sample_given(self(v), generator)

    def visible_mean(
        self, h: Float[Tensor, "*draws batch hidden"], total: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """E[v | h]."""
        return self.visible.mean(self.down(h), total)

    @torch.no_grad()
    def sample_visible(
        self, h: Float[Tensor, "*draws batch hidden"], generator: Generator, total: Tensor | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """One draw of v | h a row."""
        return self.visible.sample(self.down(h), generator, total)

    def mean_field(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """E[v | E[h | v]]: one trip up and down with means in place of draws, the reconstruction."""
        return self.visible_mean(self.hidden_mean(v), self.visible.total(v))

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """log p(v_j = 1 | the others) - log p(v_j = 0 | the others), for one column j of each row of binary units."""
        weight = self.weight[:, columns].t()
        without = self(v) - v.gather(-1, columns[:, None]) * weight
        rise = self.hidden.log_normalizer(without + weight) - self.hidden.log_normalizer(without)
        return self.visible_bias[columns] + rise.sum(-1)

    # -- exactly ------------------------------------------------------------------------------------

    @property
    def models_word_counts(self) -> bool:
        """Whether each row has a number of words that is given, not modelled, and with it a Z of its own."""
        return self.visible.total(self.visible_bias) is not None

    @property
    def is_enumerable(self) -> bool:
        """Whether log Z is one number, and within reach."""
        return not self.models_word_counts and min(self._n_states()) <= MAX_STATES

    @torch.no_grad()
    def log_partition(self, total: float | None = None) -> Float[Tensor, ""]:
        """log Z, by summing over every state of the layer that has fewer of them.

        Args:
            total: how many words a row has, for word counts: each number has a Z of its own.

        Raises:
            InputError: more than `MAX_STATES` states on either side, or units that cannot be counted on both.
        """
        hidden, visible = self._n_states()
        if min(hidden, visible) > MAX_STATES:
            other = "; estimate it by annealed importance sampling: isthmus.evaluation.partition.annealed"
            if not (self.factorial and self.hidden.exact_sampling):
                other = ", and annealing needs binary hidden units that are independent given the rows; make it smaller"
            raise InputError(
                f"log Z of {self.n_visible} visible and {self.n_hidden} hidden units would be a sum over "
                f"{_power(min(hidden, visible))}, more than 2^20 states{other}"
            )
        words = None if total is None else self.visible_bias.new_tensor([float(total)])
        if hidden <= visible:
            parts = [-self.hidden_free_energy(h, words) for h in self._hidden_states()]
        else:
            parts = [-self.free_energy(v) for v in self._visible_states()]
        return torch.stack([part.logsumexp(0) for part in parts]).logsumexp(0)

    @property
    def can_sum_missing(self) -> bool:
        """Whether `log_marginal` is within reach: the states of the hidden units, or of binary visible ones, are."""
        hidden, visible = self._n_states()
        return not self.models_word_counts and (
            hidden <= MAX_STATES or (visible <= MAX_STATES and isinstance(self.visible, BinaryUnits))
        )

    @torch.no_grad()
    def log_marginal(
        self, v: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, " batch"]:
        """log of the sum over h, and over the entries of v where the mask is 0, of exp(-E(v, h)).

            log p(v_o) + log Z = log sum_h exp(-F(h)) p(v_o | h),   F(h) = `hidden_free_energy`

        Where hidden states are too many, the sum is over the states of the missing binary units. It is for energies
        with `can_sum_missing`.
        """
        observed = (mask != 0).any(1)
        found = v.new_empty(len(v))
        if not bool(observed.all()):
            found[~observed] = self.log_partition().to(v.dtype)
        sum_out = self._sum_over_hidden if self._n_states()[0] <= MAX_STATES else self._sum_over_missing
        if bool(observed.any()):
            found[observed] = sum_out(v[observed], (mask[observed] != 0).to(v.dtype))
        return found

    def _sum_over_hidden(self, v: Tensor, mask: Tensor) -> Float[Tensor, " batch"]:
        total = v.new_full((len(v),), -math.inf)
        for h in self._hidden_states():
            nll = nll_by_state(self.likelihood, self.down(h), v, mask)
            total = torch.logaddexp(total, (-self.hidden_free_energy(h).unsqueeze(1) - nll).logsumexp(0))
        return total

    def _sum_over_missing(self, v: Tensor, mask: Tensor) -> Float[Tensor, " batch"]:
        found, n_missing = torch.empty_like(v[:, 0]), (mask == 0).sum(1)
        for n in n_missing.unique().tolist():
            rows = (n_missing == n).nonzero()[:, 0]
            columns = (mask[rows] == 0).nonzero()[:, 1].view(1, len(rows), n)
            total = v.new_full((len(rows),), -math.inf)
            for bounds in _chunks(2**n, max(1, STATES_AT_ONCE // len(rows))):
                states = enumerate_states([1] + [2] * n, *bounds)[:, 1:].to(v).unsqueeze(1)
                shape = len(states), len(rows), -1
                filled = v[rows].expand(shape).scatter(-1, columns.expand(shape), states.expand(shape))
                total = torch.logaddexp(total, (-self.free_energy(filled)).logsumexp(0))
            found[rows] = total
        return found

    def _n_states(self) -> tuple[float, float]:
        """States of the hidden and of the visible layer; infinite where they cannot be counted."""
        each, sizes = self.hidden.n_states, self.visible.sizes
        return math.inf if each is None else each**self.n_hidden, math.inf if sizes is None else math.prod(sizes)

    def _hidden_states(self) -> Iterator[Float[Tensor, "states hidden"]]:
        sizes = [self.hidden.n_states or 0] * self.n_hidden
        return (enumerate_states(sizes, *bounds).to(self.visible_bias) for bounds in _chunks(math.prod(sizes)))

    def _visible_states(self) -> Iterator[Float[Tensor, "states columns"]]:
        n = math.prod(self.visible.sizes or ())
        return (self.visible.states(*bounds).to(self.visible_bias) for bounds in _chunks(n))


class RBMDecoder(nn.Module):
    """h -> r = b + W' h: a harmonium as the decoder of its own codes, tied to it.

    The weights are the harmonium's own and not registered here, so that `parameters()` and `state_dict()` of an
    objective that holds both name each once.

    Shapes: (*draws, batch, n_hidden) -> (*draws, batch, columns).

    Args:
        rbm: whose weights it uses.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> machine = RBMEnergy(Bernoulli(4), 3, generator=torch.Generator().manual_seed(0))
        >>> RBMDecoder(machine)(torch.zeros(5, 3)).shape
        torch.Size([5, 4])
    """

    def __init__(self, rbm: RBMEnergy) -> None:
        super().__init__()
        # In a tuple, nn.Module does not register it; deepcopy still follows it with the copies already made.
        self._rbm = (rbm,)

    @property
    def rbm(self) -> RBMEnergy:
        """Whose weights these are."""
        return self._rbm[0]

    def forward(
        self, code: Float[Tensor, "*draws batch hidden"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """The parameters of p(v | h); nothing is drawn."""
        return self.rbm.down(code)

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " columns"]) -> None:
        """Give about `output`, whatever the code, before learning: the visible biases."""
        self.rbm.visible_bias.copy_(output)


def nll_by_state(
    likelihood: Likelihood,
    parameters: Float[Tensor, "states parameters"],
    x: Float[Tensor, "batch columns"],
    mask: Float[Tensor, "batch columns"],
) -> Float[Tensor, "states batch"]:
    """-log p(x_o | r) of the observed entries of every row x under every row of parameters r, by two products.

    It serves the likelihoods of visible units, exponential families in which x is its own statistic up to a factor:

        nll_j(r, x) = nll_j(r, 0) + x (nll_j(r, 1) - nll_j(r, 0)) + base_j(x)

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> x, mask = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
        >>> nll_by_state(Bernoulli(2), torch.zeros(1, 2), x, mask)  # 2 log 2 and log 2
        tensor([[1.3863, 0.6931]])
    """

    nll_by_column = cast(Any, likelihood).nll_by_column

    def affine_in_x(r: Tensor) -> Tensor:
        at_0, at_1 = (nll_by_column(r, x.new_full((len(r), x.shape[1]), value)) for value in (0.0, 1.0))
        return at_0 @ mask.t() + (at_1 - at_0) @ (x * mask).t()

    base = likelihood.nll(parameters[:1].expand(len(x), -1), x, mask) - affine_in_x(parameters[:1])[0]
    return affine_in_x(parameters) + base


def _chunks(n: int, size: int = STATES_AT_ONCE) -> Iterator[tuple[int, int]]:
    """The numbers below n, some at a time."""
    return ((start, min(start + size, n)) for start in range(0, n, size))


def _power(n: float) -> str:
    """A number of states in words."""
    return "infinitely many" if n == math.inf else f"2^{math.log2(n):.0f}"
