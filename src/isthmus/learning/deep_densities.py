"""Densities of deep energies: the deep Boltzmann machine and the deep belief network, whose scores are bounds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from isthmus.learning.chains import run_chain, start_in_block
from isthmus.learning.densities import (
    OFFSET_RATE,
    EnergyDensity,
    RBMDensity,
    carry_running_means,
    parameters_with_statistic,
    weight_of,
    weighted_mean,
)
from isthmus.learning.rows import MAX_SAMPLED_ROWS, Rows, sampled_batches
from isthmus.parts.belief_networks import GenerativeNetwork, RecognitionNetwork
from isthmus.parts.coder import Coder
from isthmus.parts.deep_energies import DBMEnergy, LayerStates
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.sampling import bernoulli, rand_like

BOUND_ITERATIONS = 50
"""Mean-field rounds for the bound of a row, more than during training."""

BOUND_SEED = 0
"""Seed of the random numbers that the bounds of all rows share."""


class DBMDensity(EnergyDensity):
    """Density of a deep Boltzmann machine: log Z, persistent chains, and running means of all layers.

    Args:
        energy: the deep Boltzmann machine; it is not registered here.
        n_chains: number of persistent chains.
        n_iterations: mean-field rounds with which missing entries are imputed and chains are started.

    Source: Salakhutdinov & Hinton, Deep Boltzmann machines (2009), section 2; DL book, section 20.4.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> energy = DBMEnergy(Bernoulli(4), (3, 2), generator=torch.Generator().manual_seed(0))
        >>> density = DBMDensity(energy, n_chains=5, n_iterations=10)
        >>> density.compute_log_partition()
        >>> rows = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
        >>> 0.9 < density.log_bound(Batch(rows)).exp().sum().item() < 1.0
        True
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
        """Set the chains to samples of the mean field of some rows, and the running means to those over these rows.

        At most `MAX_SAMPLED_ROWS` rows are read, of which one block of `ROWS_AT_ONCE` is dense at a time.
        """
        n_rows, n_read, n_weight = min(len(rows), MAX_SAMPLED_ROWS), 0, 0.0
        for batch in sampled_batches(rows):
            v = self.impute(batch)
            mu = self.energy.mean_field(v, self.n_iterations)
            start_in_block(self.particles, torch.cat(mu[::2], -1), n_read, n_rows)
            n_read += len(v)
            n_weight += weight_of(batch)
            self.carry_offsets(v, mu, rate=weight_of(batch) / n_weight, weight=batch.weight)
        self.particles.copy_(bernoulli(self.particles, torch.Generator().manual_seed(0)))

    @torch.no_grad()
    def carry_offsets(
        self, v: Tensor, mu: LayerStates, rate: float = OFFSET_RATE, weight: Tensor | None = None
    ) -> None:
        """Update the running means beta with a batch, whose rows have these weights."""
        units = [self.energy.visible.sufficient_statistic(v), *mu]
        carry_running_means(self.offsets, [weighted_mean(values, weight) for values in units], rate)

    def run_chains(self, particles: Float[Tensor, "chains units"], n_steps: int, generator: Generator) -> LayerStates:
        """Return the odd layers of chains after some Gibbs steps: the even layers given the odd ones, then these."""

        def step(odd: LayerStates, _: Generator | None) -> LayerStates:
            return self.energy.sample_odd(*self.energy.sample_even(odd, generator), generator)

        return run_chain(step, list(particles.split(self.energy.odd_sizes, -1)), n_steps, generator)

    def impute(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed by mean field."""
        return self.energy.impute(batch.x, batch.mask, self.n_iterations)

    @torch.no_grad()
    def marginals(self, batch: Batch) -> LayerStates:
        """Return the mean-field means mu_1 .. mu_L."""
        return self.energy.mean_field(self.impute(batch), BOUND_ITERATIONS)

    @torch.no_grad()
    def log_bound(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return -F_mu(v) - log Z per row, a lower bound of log p(v), nats; without log Z where it is not known.

        For a row with missing entries it is a lower bound of log p of the observed entries: with v the imputed row,

            log p(v_o) + log Z >= -F_mu(v) - log p(v_missing | mu_1)

        since the missing entries given h_1 are summed out, and their log-normalizer is convex in h_1.
        """
        v = self.impute(batch)
        mu = self.energy.mean_field(v, BOUND_ITERATIONS)
        bound = -self.energy.bound_given(v, mu)
        if batch.mask is not None:
            bound = bound + self.energy.likelihood.nll(self.energy.inputs(0, None, mu[0]), v, 1 - batch.mask)
        return self.subtract_log_partition(bound)

    def bipartite_rbm(self) -> RBMEnergy:
        """Return an equivalent RBM with copied weights: the even layers are its visible units."""
        return self.energy.as_bipartite_rbm()

    @property
    def independent_columns(self) -> Float[Tensor, " units"]:
        """Biases of independent even units with the means of the rows, where annealing starts."""
        first, *others = self.offsets[::2]
        visible = parameters_with_statistic(self.energy.likelihood, first)
        return torch.cat([visible, *(torch.logit(beta, 1e-4) for beta in others)])

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: Generator, *, mean: bool = False) -> Float[Tensor, "n columns"]:
        """Sample n rows by Gibbs steps from the persistent chains."""
        odd = self.run_chains(self.particles[torch.arange(n) % len(self.particles)], max(n_steps - 1, 0), generator)
        return self.energy.visible_mean(odd[0]) if mean else self.energy.sample_even(odd, generator)[0]


class DBNDensity(EnergyDensity):
    """Density of a deep belief network: log Z and the chains of its top RBM, and the directed layers below.

    Args:
        coder: `belief_network_coder` of the RBMs; it is not registered here.
        top: the density of the top RBM.

    Source: Salakhutdinov & Murray, On the quantitative analysis of deep belief networks (2008), section 4.

    Example:
        >>> from isthmus.parts.belief_networks import belief_network_coder
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbms = [RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((4, 3), (3, 2))]
        >>> density = DBNDensity(belief_network_coder(rbms), RBMDensity(rbms[-1]))
        >>> density.compute_log_partition()
        >>> rows = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
        >>> 0.9 < density.log_bound(Batch(rows)).exp().sum().item() < 1.0
        True
    """

    def __init__(self, coder: Coder, top: RBMDensity) -> None:
        super().__init__()
        self.top = top
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._coder = (coder,)

    def bipartite_rbm(self) -> RBMEnergy:
        """Return the top RBM."""
        return self.top.rbm

    @property
    def independent_columns(self) -> Float[Tensor, " columns"]:
        """Parameters of independent units of the layer below the top, where annealing starts."""
        return self.top.independent_columns

    @property
    def recognition(self) -> RecognitionNetwork:
        """The recognition network q."""
        return cast(RecognitionNetwork, self._coder[0].encoder)

    @property
    def generation(self) -> GenerativeNetwork:
        """The directed layers."""
        return cast(GenerativeNetwork, self._coder[0].decoder)

    @property
    def lowest(self) -> RBMEnergy:
        """The RBM of the rows."""
        return self.recognition.rbms[0]

    @property
    def n_directed(self) -> int:
        """Number of directed layers."""
        return len(self.generation.maps)

    def generation_nll(self, batch: Batch, units: Sequence[Tensor]) -> Float[Tensor, "*draws batch"]:
        """Return -log p(x | h_1) - sum_k log p(h_(k-1) | h_k) over the directed layers."""
        total = self._unit_nll(0, self.generation.parameters_below(0, units[0]), batch.desired_output, batch.mask)
        for k, (below, above) in enumerate(pairwise(units), 1):
            total = total + self._unit_nll(k, self.generation.parameters_below(k, above), below)
        return total

    def recognition_nll(self, k: int, below: Tensor, above: Tensor) -> Float[Tensor, "*draws batch"]:
        """Return -log q(h_(k+1) | h_k) of the units of layer k + 1 given those of layer k."""
        return self._unit_nll(k + 1, self.recognition.inputs(k, below), above)

    def _unit_nll(self, k: int, parameters: Tensor, units: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return -log p of the units of layer k, under the likelihood of the visible units of the RBM above."""
        return self.recognition.rbms[k].likelihood.nll(parameters, units, mask)

    def sample_below(self, k: int, above: Tensor, generator: Generator) -> Tensor:
        """Sample h_k ~ p(. | h_(k+1)); for k = 0, the rows."""
        return self.recognition.rbms[k].visible.sample(self.generation.parameters_below(k, above), generator)

    @torch.no_grad()
    def log_bound(self, batch: Batch, n_draws: int = 20) -> Float[Tensor, " batch"]:
        """Return the bound E_q[ log p(x, h_1 .. h_(L-1)) - log q(h_1 .. h_(L-1) | x) ] <= log p(x) per row, nats.

        It is up to log Z of the top RBM where that is not known. All rows use the same uniform random numbers, so that
        the bound of a row is deterministic and does not depend on other rows. For a row with missing entries it bounds
        log p of the observed entries x_o: p(x_o | h_1) replaces p(x | h_1), and q is that of the imputed row.

        Args:
            batch: the rows.
            n_draws: samples of q per row.
        """
        generator, total = torch.Generator().manual_seed(BOUND_SEED), batch.x.new_zeros(len(batch.x)).double()
        v = self.lowest.impute(batch.x, batch.mask)
        for _ in range(n_draws):
            below, log_q, units = v, batch.x.new_zeros(len(batch.x)), []
            for k in range(self.n_directed):
                a = self.recognition.inputs(k, below)
                below = (rand_like(a[:1], generator) < torch.sigmoid(a)).to(a.dtype)
                units.append(below)
                log_q = log_q - self._unit_nll(k + 1, a, below)
            log_p = -self.generation_nll(batch, units) - self.top.rbm.free_energy(below)
            total += (log_p - log_q).double()
        return self.subtract_log_partition(total / n_draws)

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: Generator, *, mean: bool = False) -> Float[Tensor, "n columns"]:
        """Sample n rows: Gibbs steps of the top RBM's chains, then one downward pass."""
        units = self.top.sample(n, n_steps, generator)
        for k in reversed(range(1, self.n_directed)):
            units = self.sample_below(k, units, generator)
        if mean:
            return self.lowest.visible.mean(self.generation.parameters_below(0, units))
        return self.sample_below(0, units, generator)
