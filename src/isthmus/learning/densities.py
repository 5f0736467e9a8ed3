"""Densities of energies, as they are read after training: log Z, and the chains that samples start from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.learning.chains import BlockGibbs, ChainState, run_chain, start_in_block
from isthmus.learning.rows import MAX_SAMPLED_ROWS, Rows, sampled_batches
from isthmus.parts.carried import carry, latest
from isthmus.parts.deep_energies import DBMEnergy, LayerStates
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import GaussianLearned, Likelihood
from isthmus.parts.sampling import bernoulli
from isthmus.parts.visible_units import ReplicatedSoftmaxUnits

OFFSET_RATE = 0.01
"""Update rate of the running means (offsets)."""

BOUND_ITERATIONS = 50
"""Mean-field rounds for the bound of a row, more than during training."""


class EnergyDensity(nn.Module, ABC):
    """Base class of the density of an energy p(x) = exp(-F(x)) / Z; a named part of an estimator.

    The energy itself belongs to the coder and is not registered here.
    """

    log_partition: Tensor
    """log Z where it is known, else infinity."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_partition", torch.full((), torch.inf, dtype=torch.float64))

    @property
    @abstractmethod
    def rbm(self) -> RBMEnergy:
        """The energy as two layers, whose log Z is computed."""

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
        rbm_energy = self.rbm
        if rbm_energy.is_enumerable:
            self.log_partition.copy_(rbm_energy.log_partition())

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
        rbm: the energy.
        n_chains: number of persistent chains; 0 for training without them.

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
    """Number of words of each chain, where the visible units are word counts."""

    visible_offset: Tensor
    """mu, the running mean of s(v) over the rows; for word counts that of one word."""

    hidden_offset: Tensor
    """lambda, the running mean of E[h | v] over the rows."""

    most_words: Tensor | None
    """Largest number of words of a chain, where the visible units are word counts."""

    def __init__(self, rbm: RBMEnergy, n_chains: int = 0) -> None:
        super().__init__()
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._rbm, self.gibbs = (rbm,), BlockGibbs(rbm)
        self.register_buffer("particles", torch.zeros(n_chains, rbm.n_hidden))
        self.register_buffer("totals", torch.ones(n_chains) if rbm.models_word_counts else None)
        self.register_buffer("visible_offset", torch.zeros(rbm.n_visible))
        self.register_buffer("hidden_offset", torch.zeros(rbm.n_hidden))
        self.register_buffer("most_words", torch.zeros((), dtype=torch.long) if rbm.models_word_counts else None)
        self._word_limit = 0

    @property
    def rbm(self) -> RBMEnergy:
        """The energy."""
        return self._rbm[0]

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
        if self.most_words is not None:
            self.most_words.fill_(self._count_most_words(rows))
            self._word_limit = int(self.most_words)

    def _count_most_words(self, rows: Rows) -> int:
        """Return the largest number of words of a persistent chain, or else of a row, where chains then start."""
        if self.totals is not None and len(self.totals):
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
        for offset, mean in ((self.visible_offset, mu), (self.hidden_offset, hidden)):
            carry(offset, torch.lerp(latest(offset), mean.to(offset.dtype), rate))

    @property
    def independent_columns(self) -> Float[Tensor, " columns"]:
        """Parameters of independent columns with the means of the rows, where annealing starts."""
        mean = self.visible_offset
        if isinstance(self.likelihood, GaussianLearned):
            mean = mean * self.likelihood.variance.detach()
        return self.likelihood.parameters_for(mean)

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


class DBMDensity(EnergyDensity):
    """Density of a deep Boltzmann machine: log Z, persistent chains, and running means of all layers.

    Args:
        energy: the deep Boltzmann machine.
        n_chains: number of persistent chains.
        n_iterations: mean-field rounds with which missing entries are imputed.

    Source: Salakhutdinov & Hinton, Deep Boltzmann machines (2009), section 2; DL book, section 20.4.
    """

    particles: Tensor
    """The odd layers of each chain, (chains, n_1 + n_3 + ...)."""

    def __init__(self, energy: DBMEnergy, n_chains: int, n_iterations: int) -> None:
        super().__init__()
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._energy, self.n_iterations = (energy,), n_iterations
        self.register_buffer("particles", torch.zeros(n_chains, sum(energy.odd_sizes)))
        for k, size in enumerate(energy.sizes):
            self.register_buffer(f"offset_{k}", torch.zeros(size))

    @property
    def energy(self) -> DBMEnergy:
        """The energy."""
        return self._energy[0]

    @property
    def offsets(self) -> list[Tensor]:
        """The running means beta_0 .. beta_L of the layers over the rows."""
        return [self.get_buffer(f"offset_{k}") for k in range(len(self.energy.sizes))]

    @torch.no_grad()
    def initialize_chains(self, rows: Rows) -> None:
        """Set the chains and the running means to some rows.

        At most `MAX_SAMPLED_ROWS` rows are read, of which one block of `ROWS_AT_ONCE` is dense at a time.
        """
        n_rows, n_read = min(len(rows), MAX_SAMPLED_ROWS), 0
        for batch in sampled_batches(rows):
            v = self.energy.impute(batch.x, batch.mask, self.n_iterations)
            mu = self.energy.mean_field(v, self.n_iterations)
            start_in_block(self.particles, torch.cat(mu[::2], -1), n_read, n_rows)
            n_read += len(v)
            self.carry_offsets(v, mu, rate=len(v) / n_read)
        self.particles.copy_(bernoulli(self.particles, torch.Generator().manual_seed(0)))

    @torch.no_grad()
    def carry_offsets(self, v: Tensor, mu: LayerStates, rate: float = OFFSET_RATE) -> None:
        """Update the running means beta with a batch."""
        for offset, values in zip(self.offsets, [self.energy.visible.sufficient_statistic(v), *mu], strict=True):
            carry(offset, torch.lerp(latest(offset), values.mean(0).to(offset.dtype), rate))

    def run_chains(
        self, particles: Float[Tensor, "chains units"], n_steps: int, generator: torch.Generator
    ) -> LayerStates:
        """Return the odd layers of chains after some Gibbs steps: the even layers given the odd ones, then these."""

        def step(odd: LayerStates, generator: torch.Generator | None) -> LayerStates:
            assert generator is not None
            return self.energy.sample_odd(*self.energy.sample_even(odd, generator), generator)

        return run_chain(step, list(particles.split(self.energy.odd_sizes, -1)), n_steps, generator)

    @torch.no_grad()
    def marginals(self, batch: Batch) -> LayerStates:
        """Return the mean-field means mu_1 .. mu_L."""
        return self.energy.mean_field(self.energy.impute(batch.x, batch.mask, self.n_iterations), BOUND_ITERATIONS)

    @torch.no_grad()
    def log_bound(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return -F_mu(v) - log Z per row, a lower bound of log p(v), nats; without log Z where it is not known.

        For a row with missing entries it is a lower bound of log p of the observed entries: with v the imputed row,

            log p(v_o) + log Z >= -F_mu(v) - log p(v_missing | mu_1)

        since the missing entries given h_1 are summed out, and their log-normalizer is convex in h_1.
        """
        v = self.energy.impute(batch.x, batch.mask, self.n_iterations)
        mu = self.energy.mean_field(v, BOUND_ITERATIONS)
        bound = -self.energy.bound_given(v, mu)
        if batch.mask is not None:
            bound = bound + self.energy.likelihood.nll(self.energy.inputs(0, None, mu[0]), v, 1 - batch.mask)
        return self.subtract_log_partition(bound)

    @property
    def rbm(self) -> RBMEnergy:
        """An equivalent RBM with copied weights, for the estimate of log Z."""
        return self.energy.as_bipartite_rbm()

    @property
    def independent_columns(self) -> Float[Tensor, " units"]:
        """Biases of independent even units with the means of the rows, where annealing starts."""
        first, *others = self.offsets[::2]
        if isinstance(self.energy.likelihood, GaussianLearned):
            first = first * self.energy.likelihood.variance.detach()
        return torch.cat([self.energy.likelihood.parameters_for(first), *(torch.logit(beta, 1e-4) for beta in others)])

    @torch.no_grad()
    def sample(
        self, n: int, n_steps: int, generator: torch.Generator, *, mean: bool = False
    ) -> Float[Tensor, "n columns"]:
        """Sample n rows by Gibbs steps from the persistent chains."""
        odd = self.run_chains(self.particles[torch.arange(n) % len(self.particles)], max(n_steps - 1, 0), generator)
        return self.energy.visible_mean(odd[0]) if mean else self.energy.sample_even(odd, generator)[0]
