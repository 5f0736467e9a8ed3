"""Energy of the restricted Boltzmann machine, with an exact log Z where it is small enough to enumerate.

The units are in `isthmus.parts.visible_units` and `isthmus.parts.hidden_units`, the training objective in
`isthmus.learning.contrastive_divergence`, the Gibbs chains in `isthmus.learning.chains`, and the estimate of log Z by
annealed importance sampling in `isthmus.evaluation.partition`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.hidden_units import hidden_units
from isthmus.parts.inference import ImputingMap
from isthmus.parts.layers import check_sizes
from isthmus.parts.likelihood_base import Likelihood
from isthmus.parts.sampling import enumerate_states
from isthmus.parts.visible_units import BinaryUnits, visible_units

MAX_STATES = 2**20
"""Largest number of states that log Z is summed over: some seconds for an RBM of ordinary size."""

STATES_AT_ONCE = 2**13
"""Number of states that are evaluated together."""


class RBMEnergy(nn.Module):
    r"""Energy of a restricted Boltzmann machine: two layers, the units of each independent given the other layer.

        E(v, h) = V(v; b) - s(v)' W' h - n c' h + B(h),   p(v, h) = exp(-E(v, h)) / Z
        F(v) = -log sum_h exp(-E(v, h)) = V(v; b) - sum_j A(a_j),   a = n c + W s(v)
        p(h | v): hidden units under the input a;   p(v | h): the likelihood with the parameters r = b + W' h

    V, s, A and B belong to the units: for binary ones V = -b' v, s(v) = v, A = softplus, B = 0. n is the number of
    words for word counts, else 1. `forward(v)` returns a: the module is the encoder of a tied autoencoder, whose
    decoder is `RBMDecoder`.

    Shapes: v (*draws, batch, columns); h and a (*draws, batch, n_hidden); energies (*draws, batch), in nats; W
    (n_hidden, columns).

    Args:
        likelihood: p(v | h): "bernoulli", "gaussian", "gaussian-learned", "gaussian-per-column", "categorical",
            "multinomial" (the replicated softmax) or "mixed" of real, binary and categorical columns.
        n_hidden: number of hidden units.
        hidden: "bernoulli", "gaussian" (of unit variance), or "rectified" (noisy rectified).
        weight_scale: the standard deviation of the initial weights; None means .3 / sqrt(columns + n_hidden), which
            is Hinton's .01 for his sizes and larger for small ones.
        generator: the generator that initializes the weights.

    Raises:
        InputError: a likelihood without visible units, an unknown name, or fewer than one hidden unit.

    Source: Smolensky (1986); Hinton, Training products of experts by minimizing contrastive divergence (2002);
    Welling, Rosen-Zvi & Hinton, Exponential family harmoniums (2005); DL book, section 20.2.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> rbm = RBMEnergy(Bernoulli(4), 3, generator=torch.Generator().manual_seed(0))
        >>> v = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
        >>> h = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # all hidden states
        >>> bool(torch.isclose(-torch.logsumexp(-rbm.energy(v, h), 0), rbm.free_energy(v)))
        True
    """

    factorial: ClassVar[bool] = True
    """True if the hidden units are independent given the visible units, and so are summed out in closed form."""

    below, above = 1, 1
    """Factors of the hidden units' input from below and of the visible units' input from above; 2 in `DBMLayerRBM`."""

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
        """The weights W."""
        return self.up.weight

    @property
    def hidden_bias(self) -> Float[Tensor, " hidden"]:
        """The hidden biases c."""
        return self.up.bias

    def forward(
        self, v: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch hidden"]:
        """Return a = n c + W s(v), the input of the hidden units."""
        total = self.visible.total(v)
        if total is None:
            return self.up(self.visible.sufficient_statistic(v))
        return F.linear(self.visible.sufficient_statistic(v), self.weight) + total.unsqueeze(-1) * self.hidden_bias

    def down(self, h: Float[Tensor, "*draws batch hidden"]) -> Float[Tensor, "*draws batch columns"]:
        """Return r = b + W' h, the parameters of p(v | h)."""
        return F.linear(h, self.weight.t(), self.visible_bias)

    def energy(
        self, v: Float[Tensor, "*draws batch columns"], h: Float[Tensor, "*draws batch hidden"]
    ) -> Float[Tensor, "*draws batch"]:
        """Return E(v, h)."""
        return self.visible.energy(v, self.visible_bias) - (h * self(v)).sum(-1) + self.hidden.energy(h).sum(-1)

    def free_energy(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch"]:
        """Return F(v) = -log p(v) - log Z."""
        return self.free_energy_given(v, self(v))

    def free_energy_given(
        self, v: Float[Tensor, "*draws batch columns"], a: Float[Tensor, "*draws batch hidden"]
    ) -> Float[Tensor, "*draws batch"]:
        """Return F(v) from an input a of the hidden units that is already computed, which saves the product with W."""
        return self.visible.energy(v, self.visible_bias) - self.hidden.log_normalizer(a).sum(-1)

    def hidden_free_energy(
        self, h: Float[Tensor, "*draws batch hidden"], total: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "*draws batch"]:
        """Return -log of the sum over v of exp(-E(v, h)); `total` is the number of words per row for word counts."""
        bias = self.hidden_bias if total is None else total.unsqueeze(-1) * self.hidden_bias
        own = self.hidden.energy(h).sum(-1) - (h * bias).sum(-1)
        return own - self.visible.log_normalizer(self.down(h), self.visible_bias, total)

    def chain_energy(self, v: Tensor, a: Tensor, h: Tensor) -> Float[Tensor, "*draws batch"]:
        """Return a term with the expected gradient of E(v, h) over h | v, with the least variance."""
        return self.free_energy_given(v, a)

    def code_activation(self) -> nn.Module:
        """Return the module a -> E[h | v]."""
        return self.hidden.activation()

    def mean_given(self, a: Float[Tensor, "*draws batch hidden"]) -> Float[Tensor, "*draws batch hidden"]:
        """Return E[h | v] from the input a."""
        return self.hidden.mean(a)

    def sample_given(
        self, a: Float[Tensor, "*draws batch hidden"], generator: Generator, h: Tensor | None = None
    ) -> Float[Tensor, "*draws batch hidden"]:
        """Sample h | v from the input a; h is the current state, for units that are sampled in turn."""
        return self.hidden.sample(a, generator)

    def hidden_mean(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch hidden"]:
        """Return E[h | v]."""
        return self.mean_given(self(v))

    @torch.no_grad()
    def sample_hidden(self, v: Float[Tensor, "*draws batch columns"], generator: Generator) -> Tensor:
        """Sample h | v, once per row."""
        return self.sample_given(self(v), generator)

    def visible_mean(
        self, h: Float[Tensor, "*draws batch hidden"], total: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return E[v | h]."""
        return self.visible.mean(self.down(h), total)

    @torch.no_grad()
    def sample_visible(
        self, h: Float[Tensor, "*draws batch hidden"], generator: Generator, total: Tensor | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample v | h, once per row."""
        return self.visible.sample(self.down(h), generator, total)

    def mean_field(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return the reconstruction E[v | E[h | v]], with means in place of samples."""
        return self.visible_mean(self.hidden_mean(v), self.visible.total(v))

    def impute(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None
    ) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries (mask 0) replaced by their mean-field reconstruction."""
        if mask is None:
            return x
        with torch.no_grad():
            start = self.likelihood.mean_given(self.visible_bias.expand_as(x), x * mask)
            expected = self.mean_field(torch.where(mask != 0, x, start))
        return torch.where(mask != 0, x, expected)

    def coder(self) -> Coder:
        """Return the tied autoencoder of the same weights: h = E[h | v], reconstruction p(v | h)."""
        return Coder(ImputingMap(self, self.code_activation(), self), RBMDecoder(self), self.likelihood)

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return log p(v_j = 1 | the others) - log p(v_j = 0 | the others) for one binary column j of each row."""
        weight = self.weight[:, columns].t()
        without = self(v) - v.gather(-1, columns[:, None]) * weight
        rise = self.hidden.log_normalizer(without + weight) - self.hidden.log_normalizer(without)
        return self.visible_bias[columns] + rise.sum(-1)

    # -- exact log Z --------------------------------------------------------------------------------

    @property
    def models_word_counts(self) -> bool:
        """True if the rows are word counts: the number of words of a row is given, and each number has its own Z."""
        return self.visible.total(self.visible_bias) is not None

    @property
    def is_enumerable(self) -> bool:
        """True if log Z is one number and a layer has at most `MAX_STATES` states."""
        return not self.models_word_counts and min(self._n_states()) <= MAX_STATES

    @torch.no_grad()
    def log_partition(self, total: float | None = None) -> Float[Tensor, ""]:
        """Compute log Z by summing over all states of the layer with fewer states.

        Args:
            total: the number of words per row, for word counts: each number has its own Z.

        Raises:
            InputError: both layers have more than `MAX_STATES` states, or infinitely many.
        """
        hidden, visible = self._n_states()
        if min(hidden, visible) > MAX_STATES:
            advice = (
                "estimate it by annealed importance sampling "
                "(isthmus.evaluation.partition.annealed_importance_sampling)"
            )
            if not (self.factorial and self.hidden.exact_sampling):
                advice = "use fewer units (annealing needs hidden units that are sampled exactly and independently)"
            raise InputError(
                f"log Z of {self.n_visible} visible and {self.n_hidden} hidden units is a sum over "
                f"{_power(min(hidden, visible))} states, more than 2^20; {advice}"
            )
        words = None if total is None else self.visible_bias.new_tensor([float(total)])
        if hidden <= visible:
            parts = [-self.hidden_free_energy(h, words) for h in self._hidden_states()]
        else:
            parts = [-self.free_energy(v) for v in self._visible_states()]
        return torch.stack([part.logsumexp(0) for part in parts]).logsumexp(0)

    @property
    def can_sum_missing(self) -> bool:
        """True if `log_marginal` is computable: hidden or binary visible units have at most `MAX_STATES` states."""
        hidden, visible = self._n_states()
        return not self.models_word_counts and (
            hidden <= MAX_STATES or (visible <= MAX_STATES and isinstance(self.visible, BinaryUnits))
        )

    @torch.no_grad()
    def log_marginal(
        self, v: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, " batch"]:
        """Return the log of the sum of exp(-E(v, h)) over h and over the entries of v where the mask is 0.

            log p(v_o) + log Z = log sum_h exp(-F(h)) p(v_o | h),   F(h) = `hidden_free_energy`

        If there are too many hidden states, the sum is over the states of the missing binary units. `can_sum_missing`
        must be True.
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
        """Return the number of states of the hidden and of the visible layer, which may be infinite."""
        each, sizes = self.hidden.n_states, self.visible.sizes
        return math.inf if each is None else each**self.n_hidden, math.inf if sizes is None else math.prod(sizes)

    def _hidden_states(self) -> Iterator[Float[Tensor, "states hidden"]]:
        sizes = [self.hidden.n_states or 0] * self.n_hidden
        return (enumerate_states(sizes, *bounds).to(self.visible_bias) for bounds in _chunks(math.prod(sizes)))

    def _visible_states(self) -> Iterator[Float[Tensor, "states columns"]]:
        n = math.prod(self.visible.sizes or ())
        return (self.visible.states(*bounds).to(self.visible_bias) for bounds in _chunks(n))


class RBMDecoder(nn.Module):
    """Decoder h -> r = b + W' h with the weights of an RBM, tied to the encoder.

    The weights belong to the RBM and are not registered here, so that `parameters()` and `state_dict()` of a coder that
    has both contain each once.

    Shapes: (*draws, batch, n_hidden) -> (*draws, batch, columns).

    Args:
        rbm: the RBM whose weights are used.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> rbm = RBMEnergy(Bernoulli(4), 3, generator=torch.Generator().manual_seed(0))
        >>> RBMDecoder(rbm)(torch.zeros(5, 3)).shape
        torch.Size([5, 4])
    """

    def __init__(self, rbm: RBMEnergy) -> None:
        super().__init__()
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._rbm = (rbm,)

    @property
    def rbm(self) -> RBMEnergy:
        """The RBM whose weights are used."""
        return self._rbm[0]

    def forward(
        self, code: Float[Tensor, "*draws batch hidden"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return the parameters of p(v | h)."""
        return self.rbm.down(code)

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " columns"]) -> None:
        """Set the visible biases to `output`, the decoder's initial output up to its small weights."""
        self.rbm.visible_bias.copy_(output)


def check_chain(rbms: Sequence[RBMEnergy]) -> None:
    """Check that each RBM of a stack has as many visible units as the one below has hidden units.

    Raises:
        InputError: the sizes of two neighbours do not match.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> check_chain([RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3))])
    """
    for k, (below, above) in enumerate(pairwise(rbms), 1):
        if below.n_hidden != above.n_visible:
            raise InputError(
                f"layer {k} has {below.n_hidden} units but layer {k + 1} has {above.n_visible} inputs; give each layer "
                "as many inputs as the layer below has units"
            )


def nll_by_state(
    likelihood: Likelihood,
    parameters: Float[Tensor, "states parameters"],
    x: Float[Tensor, "batch columns"],
    mask: Float[Tensor, "batch columns"],
) -> Float[Tensor, "states batch"]:
    """Return -log p(x_o | r) of the observed entries of every row x for every row of parameters r, by two products.

    It applies to the likelihoods of visible units, exponential families whose sufficient statistic is x up to a factor:

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
    """Yield start and stop of chunks of at most `size` of the numbers below n."""
    return ((start, min(start + size, n)) for start in range(0, n, size))


def _power(n: float) -> str:
    """Format a number of states as a power of two."""
    return "infinitely many" if n == math.inf else f"2^{math.log2(n):.0f}"
