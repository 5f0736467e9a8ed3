"""Densities of energies: log Z, the chains that samples start from, and the means of the rows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.learning.chains import BlockGibbs, ChainState, run_chain, start_in_block
from isthmus.learning.rows import MAX_SAMPLED_ROWS, Rows, sampled_batches
from isthmus.parts.carried import carry, latest
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import GaussianLearned, Likelihood
from isthmus.parts.visible_units import ReplicatedSoftmaxUnits

OFFSET_RATE = 0.01
"""Update rate of the running means (offsets)."""


class EnergyDensity(nn.Module, ABC):
    """Base class of the density of an energy p(x) = exp(-F(x)) / Z; a named part of an estimator.

    The energy itself belongs to the coder and is not registered here.
    """

    log_partition: Tensor
    """log Z where it is known, else infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_partition", torch.full((), torch.inf, dtype=torch.float64))

    @abstractmethod
    def bipartite_rbm(self) -> RBMEnergy:
        """Return the energy as two layers: the RBM whose log Z is that of the density."""

    @property
    @abstractmethod
    def independent_columns(self) -> Float[Tensor, " columns"]:
        """Parameters of independent columns with the means of the rows, where annealing starts."""

    @abstractmethod
    def sample(
        self, n: int, n_steps: int, generator: torch.Generator, *, mean: bool = False
    ) -> Float[Tensor, "n columns"]:
        """Sample n rows, (n, columns), by Gibbs steps.

        Args:
            n: number of samples; persistent chains are reused if there are fewer.
            n_steps: number of Gibbs steps.
            generator: the source of the random numbers.
            mean: return E[v | h] of the last step in place of a sample.
        """

    def compute_log_partition(self) -> None:
        """Compute log Z where it is enumerable."""
        rbm = self.bipartite_rbm()
        if rbm.is_enumerable:
            self.log_partition.copy_(rbm.log_partition())

    @property
    def is_normalised(self) -> bool:
        """True if log Z is known."""
        return math.isfinite(float(self.log_partition))

    def subtract_log_partition(self, log_p: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Subtract log Z from unnormalised log probabilities where it is known, in float64."""
        return log_p.double() - self.log_partition if self.is_normalised else log_p.double()


class RBMDensity(EnergyDensity):
    """Density of a restricted Boltzmann machine: log Z, persistent chains, and running means of both layers.

    The chains are those of training, if it has any; samples continue them.

    Args:
        rbm: the energy; it is not registered here.
        n_chains: number of persistent chains; for word counts, also the number of row totals that samples take.
        persistent: False for training without persistent chains.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> density = RBMDensity(RBMEnergy(Bernoulli(4), 3, generator=torch.Generator().manual_seed(0)))
        >>> density.compute_log_partition()
        >>> rows = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
        >>> round(density.log_prob(Batch(rows)).exp().sum().item(), 4)
        1.0
    """

    particles: Tensor
    """Hidden units of each chain, (chains, n_hidden)."""

    totals: Tensor | None
    """Number of words of each chain, where the visible units are word counts; kept without persistent chains too."""

    visible_offset: Tensor
    """mu, the running mean of s(v) over the rows; for word counts that of one word."""

    hidden_offset: Tensor
    """lambda, the running mean of E[h | v] over the rows."""

    most_words: Tensor | None
    """Largest number of words of a chain, where the visible units are word counts."""

    def __init__(self, rbm: RBMEnergy, n_chains: int = 0, *, persistent: bool = True) -> None:
        super().__init__()
        self.gibbs = BlockGibbs(rbm)
        self.register_buffer("particles", torch.zeros(n_chains if persistent else 0, rbm.n_hidden))
        self.register_buffer("totals", torch.ones(n_chains) if rbm.models_word_counts else None)
        self.register_buffer("visible_offset", torch.zeros(rbm.n_visible))
        self.register_buffer("hidden_offset", torch.zeros(rbm.n_hidden))
        self.register_buffer("most_words", torch.zeros((), dtype=torch.long) if rbm.models_word_counts else None)
        self._word_limit = 0

    @property
    def rbm(self) -> RBMEnergy:
        """The energy."""
        return self.gibbs.rbm

    def bipartite_rbm(self) -> RBMEnergy:
        """Return the energy."""
        return self.rbm

    @property
    def likelihood(self) -> Likelihood:
        """The likelihood p(v | h)."""
        return self.rbm.likelihood

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._word_limit = 0 if self.most_words is None else int(self.most_words)

    @contextmanager
    def sampling_without_waiting(self) -> Iterator[None]:
        """Context manager in which word counts are sampled without reading the number of words from the device."""
        units = self.rbm.visible
        if not isinstance(units, ReplicatedSoftmaxUnits) or not self._word_limit:
            yield
            return
        units.most_words = self._word_limit
        try:
            yield
        finally:
            units.most_words = None

    @torch.no_grad()
    def initialize_chains(self, rows: Rows) -> None:
        """Set the chains to the hidden means of some rows, and the offsets to the means over these rows.

        At most `MAX_SAMPLED_ROWS` rows are read, of which one block of `ROWS_AT_ONCE` is dense at a time.
        """
        n_rows, n_read = min(len(rows), MAX_SAMPLED_ROWS), 0
        for batch in sampled_batches(rows):
            v = self.rbm.impute(batch.x, batch.mask)
            h = self.rbm.hidden_mean(v)
            for buffer, values in ((self.particles, h), (self.totals, self.rbm.visible.total(v))):
                if buffer is not None and values is not None:
                    start_in_block(buffer, values, n_read, n_rows)
            n_read += len(v)
            self.carry_offsets(v, rate=len(v) / n_read)
        self.limit_words(rows)

    def limit_words(self, rows: Rows) -> None:
        """Set the largest number of words of a chain from the rows, where the visible units are word counts."""
        if self.most_words is not None:
            self.most_words.fill_(self._count_most_words(rows))
            self._word_limit = int(self.most_words)

    @torch.no_grad()
    def _count_most_words(self, rows: Rows) -> int:
        """Return the largest number of words of a persistent chain, or else of a row, where chains then start."""
        if self.totals is not None and len(self.particles):
            return math.ceil(float(self.totals.max()))
        sums = (self.rbm.impute(batch.x, batch.mask).sum(1).max() for batch in sampled_batches(rows, len(rows)))
        return math.ceil(max(float(most) for most in sums))

    @torch.no_grad()
    def carry_offsets(self, v: Tensor, a: Tensor | None = None, rate: float = OFFSET_RATE) -> None:
        """Update mu and lambda with a batch; for word counts mu is the mean of one word.

        `a` is the hidden units' input, if it is already computed.
        """
        rbm = self.rbm
        statistic, total = rbm.visible.sufficient_statistic(v), rbm.visible.total(v)
        mu = statistic.mean(0) if total is None else statistic.sum(0) / total.sum().clamp(min=1)
        hidden = rbm.mean_given(rbm(v) if a is None else a.detach()).mean(0)
        carry_running_means((self.visible_offset, self.hidden_offset), (mu, hidden), rate)

    @property
    def independent_columns(self) -> Float[Tensor, " columns"]:
        """Parameters of independent columns with the means of the rows, where annealing starts."""
        return parameters_with_statistic(self.likelihood, self.visible_offset)

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: torch.Generator, *, mean: bool = False) -> Tensor:
        """Sample n rows by Gibbs steps from the persistent chains, or else from independent columns."""
        number = torch.arange(n)
        total = None if self.totals is None else self.totals[number % len(self.totals)]
        if len(self.particles):
            start = ChainState(self.particles[number % len(self.particles)], total=total)
        else:
            v = self.rbm.visible.sample(self.rbm.visible_bias.expand(n, -1), generator, total)
            start = self.gibbs.start_chains(v, generator)
        state = run_chain(self.gibbs, start, max(n_steps - 1, 0), generator)
        return self.gibbs.down(state, None if mean else generator).visible

    def log_prob(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return log p(v) = -F(v) - log Z per row, nats; minus the free energy where log Z is not known.

        For a row with missing entries it is log p of the observed entries, exact where `RBMEnergy.can_sum_missing` is
        True. Elsewhere it is a lower bound, by the tangent of the convex A at the imputed row v:

            log p(v_o) + log Z >= -F(v) - log p(v_missing | E[h | v])
        """
        rbm, v, mask = self.rbm, self.rbm.impute(batch.x, batch.mask), batch.mask
        log_p = -rbm.free_energy(v)
        if mask is None:
            return self.subtract_log_partition(log_p)
        partial = (mask == 0).any(1)
        if not rbm.can_sum_missing:
            log_p = log_p + self.likelihood.nll(rbm.down(rbm.hidden_mean(v)), v, 1 - mask)
        elif bool(partial.any()):
            log_p[partial] = rbm.log_marginal(v[partial], mask[partial])
        return self.subtract_log_partition(log_p)


def carry_running_means(offsets: Iterable[Tensor], means: Iterable[Tensor], rate: float) -> None:
    """Carry the running means `offset + rate (mean - offset)` to the next step."""
    for offset, mean in zip(offsets, means, strict=True):
        carry(offset, torch.lerp(latest(offset), mean.to(offset.dtype), rate))


def parameters_with_statistic(
    likelihood: Likelihood, statistic: Float[Tensor, " columns"]
) -> Float[Tensor, " columns"]:
    """Return the parameters of independent columns whose sufficient statistic s(v) has this mean."""
    if isinstance(likelihood, GaussianLearned):  # s(v) = v / sigma^2
        statistic = statistic * likelihood.variance.detach()
    return likelihood.parameters_for(statistic)
