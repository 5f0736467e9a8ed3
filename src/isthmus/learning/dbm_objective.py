"""Learning a deep Boltzmann machine: mean field for what rows ask, persistent chains for what the machine believes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from isthmus.learning.chains import check_chains, run_chain, start_in_block
from isthmus.learning.contrastive_divergence import OFFSET_RATE, ContrastiveDivergence
from isthmus.learning.energy_objective import EnergyObjective
from isthmus.learning.rows import MAX_SAMPLED_ROWS, Rows, sampled_batches
from isthmus.parts.deep_energies import DBMEnergy, DBMLayerRBM, LayerStates
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.layers import check_count
from isthmus.parts.likelihoods import GaussianLearned, Likelihood
from isthmus.parts.mean_field import DBMDecoder, MeanField
from isthmus.parts.sampling import bernoulli

FULL_STEP_WIDTH = 100
"""Units of a hidden layer from which on what is above it learns more slowly, in proportion: see `DBMObjective`."""

SAMPLING_PHASE = 0.5
"""Share of learning after which layers that begin together are settled by mean field, as the others are."""

BOUND_ITERATIONS = 50
"""Rounds of mean field where a row's bound is asked for: more than learning takes."""


class DBMObjective(EnergyObjective):
    r"""The gradient of the bound on a deep machine's likelihood, its model's side taken from persistent chains.

        term = F_mu(v) - mean over chains of F(h'_odd),   mu and h' held,   F_mu >= F

    The first side is made least by the mean field, the second has the even layers, v among them, summed out. Where
    layers did not begin one by one, draws of p(h | v) take the place of mu in the first half of learning: the bound
    of a layer that is still undecided is best with no weights above it, and mean field would take them to zero. With
    `centred` the step is taken for the energy in units less their running means over the rows, which lets all layers
    learn from the start:

        dW_k,c = dW_k - db_k beta_(k-1)' - beta_k db_(k-1)'
        db_k,c = db_k - dW_k,c beta_(k-1) - dW_(k+1),c' beta_(k+1)

    What units of two layers have in common pulls their weights along in proportion to how many they are, faster than
    chains can follow where there are many, and then all of them stand still for good. dW_k or dW_k,c, k > 1, is
    therefore min(1, 100 / n_(k-1)) times as long, in the steps of the biases too. AdamW, which scales steps itself,
    takes no notice.

    As a coder it is the mean field up, whose top rates are the code, and a pass of rates down.

    Shapes: x (batch, columns); code (batch, n_L); particles (n_chains, n_1 + n_3 + ...).

    Args:
        machine: the energy, trained in place.
        n_steps: Gibbs steps between two steps of learning; a pair grows from the first to the second.
        n_chains: persistent chains.
        centred: take the centred step.
        weight_decay: w of the term w/2 sum_k ||W_k||^2.
        n_iterations: rounds of mean field, and of draws.

    Raises:
        InputError: fewer than one chain, step or round, a negative weight.

    Source: Salakhutdinov & Hinton, Deep Boltzmann machines (2009), section 2; Montavon & Mueller, Deep Boltzmann
    machines and the centering trick (2012); DL book, sections 20.4.2 to 20.4.4.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> objective = DBMObjective(DBMEnergy(Bernoulli(4), (3, 2), generator=generator), n_chains=5)
        >>> {name: tuple(term.shape) for name, term in objective.terms(Batch(torch.ones(2, 4)), 0.0, generator).items()}
        {'contrast': (2,)}
    """

    particles: Tensor

    is_begun: Tensor
    """Whether its layers have begun one by one, so that they are joined where they stand."""

    is_joined: Tensor
    """Whether its layers have begun to learn together."""

    def __init__(
        self,
        machine: DBMEnergy,
        *,
        n_steps: int | Sequence[int] = 1,
        n_chains: int = 100,
        centred: bool = True,
        weight_decay: float = 0.0,
        n_iterations: int = 10,
    ) -> None:
        check_count("n_iterations", n_iterations)
        super().__init__(
            MeanField(machine, n_iterations), DBMDecoder(machine), "sigmoid", machine.likelihood, n_steps=n_steps,
            centred=centred, weight_decay=weight_decay,
        )  # fmt: skip
        self.n_iterations = n_iterations
        self.register_buffer("is_begun", torch.zeros((), dtype=torch.bool))
        self.register_buffer("is_joined", torch.zeros((), dtype=torch.bool))
        self.register_buffer("particles", torch.zeros(check_chains(n_chains), sum(machine.odd_sizes)))
        for k, size in enumerate(machine.sizes):
            self.register_buffer(f"offset_{k}", torch.zeros(size))
            if 0 < k < machine.n_layers:
                self.register_buffer(f"from_above_{k}", torch.zeros(size))

    @property
    def machine(self) -> DBMEnergy:
        """The energy."""
        return cast(MeanField, self.encoder).machine

    @property
    def likelihood(self) -> Likelihood:  # type: ignore[override]
        """p(v | h_1)."""
        return self.machine.likelihood

    @property
    def weights(self) -> list[Tensor]:
        """W_1 .. W_L."""
        return list(self.machine.weights)

    @property
    def offsets(self) -> list[Tensor]:
        """beta_0 .. beta_L, the running mean of each layer over the rows."""
        return [self.get_buffer(f"offset_{k}") for k in range(len(self.machine.sizes))]

    # -- before and after learning --------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Begin at the rate of each column, unless the layers stand already; the chains begin where some rows are.

        It reads at most `MAX_SAMPLED_ROWS` rows, of which one block of `ROWS_AT_ONCE` is dense at a time.
        """
        if self.is_begun:
            self._average_biases()
        else:
            super().prepare(rows)
        n_rows, n_read = min(len(rows), MAX_SAMPLED_ROWS), 0
        for batch in sampled_batches(rows):
            v = self.impute(batch)
            mu = self.machine.mean_field(v, self.n_iterations)
            start_in_block(self.particles, torch.cat(mu[::2], -1), n_read, n_rows)
            n_read += len(v)
            self.update_offsets(v, mu, rate=len(v) / n_read)
        self.particles.copy_(bernoulli(self.particles, torch.Generator().manual_seed(0)))
        self.is_joined.fill_(True)

    @torch.no_grad()
    def _average_biases(self) -> None:
        """Set the biases of each layer between two machines to the mean of the biases that both have for it.

        Each machine stands for a half. Afterwards both have the mean, so that a second call changes nothing.
        """
        for k in range(1, self.machine.n_layers):
            bias, from_above = self.machine.biases[k], self.get_buffer(f"from_above_{k}")
            from_above.copy_(bias.lerp(from_above, 0.5))
            bias.copy_(from_above)

    def separate_encoder(self) -> None:
        """Give the pass up weights of its own: the machine, and so what it makes of rows, stays as it is."""
        cast(MeanField, self.encoder).separate_weights()

    # -- the criterion --------------------------------------------------------------------------------

    def terms(self, batch: Batch, progress: float, generator: Generator | None) -> dict[str, Tensor]:
        """The contrast, (batch,), nats up to log Z, and what weights cost."""
        machine, v = self.machine, self.impute(batch)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        mu = self._positive_phase(v, progress, generator)
        odd = run_chain(self._step, self._split_layers(self.particles), self.steps_at(progress), generator)
        contrast = machine.bound_given(v, mu) - machine.odd_free_energy(odd).mean()
        if self.training:
            self.particles.copy_(torch.cat(odd, -1))
            self.update_offsets(v, mu)
        return {"contrast": contrast, **self.weight_decay_term()}

    @torch.no_grad()
    def _positive_phase(self, v: Tensor, progress: float, generator: Generator) -> LayerStates:
        """What the hidden units make of rows: their rates, or draws of them while layers that begin together begin."""
        if progress >= SAMPLING_PHASE or self.is_begun:
            return self.machine.mean_field(v, self.n_iterations)
        return self.machine.sample_hidden_layers(v, self.n_iterations, generator)

    def _step(self, odd: LayerStates, generator: Generator | None) -> LayerStates:
        """A Gibbs step of the chains, which stand at the odd layers: the even ones, then the odd ones."""
        assert generator is not None
        return self.machine.sample_odd(*self.machine.sample_even(odd, generator), generator)

    def _split_layers(self, particles: Tensor) -> LayerStates:
        return list(particles.split(self.machine.odd_sizes, -1))

    @torch.no_grad()
    def update_offsets(self, v: Tensor, mu: LayerStates, rate: float = OFFSET_RATE) -> None:
        """beta follows the batch."""
        for offset, values in zip(self.offsets, [self.machine.visible.sufficient_statistic(v), *mu], strict=True):
            offset.lerp_(values.mean(0).to(offset.dtype), rate)

    @torch.no_grad()
    def project_gradient(self) -> None:
        """The centred step in place of the plain one, and shorter ones between wide hidden layers."""
        machine, beta = self.machine, self.offsets
        steps = [bias.grad for bias in machine.biases], [weight.grad for weight in machine.weights]
        if any(step is None for part in steps for step in part):
            return
        biases, weights = cast("tuple[list[Tensor], list[Tensor]]", steps)
        if self.centred:
            for k, weight in enumerate(weights):
                weight.addr_(biases[k + 1], beta[k], alpha=-1).addr_(beta[k + 1], biases[k], alpha=-1)
        for weight, width in zip(weights[1:], machine.sizes[1:], strict=False):
            weight.mul_(min(1.0, FULL_STEP_WIDTH / width))
        if self.centred:  # biases make up for what the weights do, as far as they go
            for k, weight in enumerate(weights):
                biases[k].addmv_(weight.t(), beta[k + 1], alpha=-1)
                biases[k + 1].addmv_(weight, beta[k], alpha=-1)

    # -- reading --------------------------------------------------------------------------------------

    def impute(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """The rows; where an entry is missing, what the others let expect of it."""
        if batch.mask is None:
            return batch.x
        with torch.no_grad():
            machine = self.machine
            start = self.likelihood.mean_given(machine.biases[0].expand_as(batch.x), batch.x * batch.mask)
            guess = torch.where(batch.mask != 0, batch.x, start)
            expected = machine.visible_mean(machine.mean_field(guess, self.n_iterations)[0])
        return torch.where(batch.mask != 0, batch.x, expected)

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, "looked batch"]
    ) -> Float[Tensor, "looked batch"]:
        """With h_1 summed out and the layers above it held where they settled on the row."""
        above = self.machine.mean_field(v, self.n_iterations)[1]
        return torch.stack([self.machine.conditional_logits(v, some, above) for some in columns])

    @torch.no_grad()
    def marginals(self, batch: Batch) -> LayerStates:
        """mu_1 .. mu_L, settled."""
        return self.machine.mean_field(self.impute(batch), BOUND_ITERATIONS)

    @torch.no_grad()
    def log_bound(self, batch: Batch) -> Float[Tensor, " batch"]:
        """-F_mu(v) - log Z by row, at most log p(v), nats; without log Z where that is not known.

        Of a row with missing entries it is at most log p of the observed entries: with v the imputed row,

            log p(v_o) + log Z >= -F_mu(v) - log p(v_missing | mu_1)

        since the missing entries given h_1 are summed out, and their log normaliser is convex in h_1.
        """
        v = self.impute(batch)
        mu = self.machine.mean_field(v, BOUND_ITERATIONS)
        bound = -self.machine.bound_given(v, mu)
        if batch.mask is not None:
            bound = bound + self.likelihood.nll(self.machine.inputs(0, None, mu[0]), v, 1 - batch.mask)
        return self.subtract_log_partition(bound)

    # -- the density ----------------------------------------------------------------------------------

    @property
    def rbm(self) -> RBMEnergy:
        """The machine as two layers, with weights of its own: what log Z is estimated of."""
        return self.machine.as_bipartite_rbm()

    @property
    def independent_columns(self) -> Float[Tensor, " units"]:
        """Biases under which every even unit, on its own, has its mean over the rows: where annealing starts."""
        first, *others = self.offsets[::2]
        if isinstance(self.likelihood, GaussianLearned):
            first = first * self.likelihood.variance.detach()
        return torch.cat([self.likelihood.parameters_for(first), *(torch.logit(beta, 1e-4) for beta in others)])

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: Generator, *, mean: bool = False) -> Float[Tensor, "n columns"]:
        """n rows after so many Gibbs steps from the persistent chains; `mean` gives E[v | h_1] in place of draws."""
        start = self._split_layers(self.particles[torch.arange(n) % len(self.particles)])
        odd = run_chain(self._step, start, max(n_steps - 1, 0), generator)
        return self.machine.visible_mean(odd[0]) if mean else self.machine.sample_even(odd, generator)[0]


class DBMLayerObjective(ContrastiveDivergence):
    """Two neighbouring layers of a deep machine, learned by contrastive divergence before all are learned together.

    Its bias of the lower layer, which the machine below has one for too, is handed over when it has learned: the whole
    begins at the mean of the two.

    Args:
        whole: what learns all layers after.
        k: the upper one of the two layers, from 1.
        options: of `ContrastiveDivergence`.

    Source: Salakhutdinov & Hinton (2009), section 3.1.
    """

    def __init__(self, whole: DBMObjective, k: int, **options: float) -> None:
        super().__init__(DBMLayerRBM(whole.machine, k), method="cd", **options)  # type: ignore[arg-type]
        # In a tuple, nn.Module does not register it; the layer is a part of it.
        self._whole, self._below = (whole,), k - 1

    def prepare(self, rows: Rows) -> None:
        """As of every machine; from here on the whole begins where its layers stand."""
        super().prepare(rows)
        self._whole[0].is_begun.fill_(True)

    @torch.no_grad()
    def finish(self, rows: Rows) -> None:
        """Hand over the bias of the lower layer; the layer itself stays as it is, for what it gives is learned from.

        Until the machine above hands over its own, the bias of the upper layer stands in for it.
        """
        whole, above = self._whole[0], self._below + 1
        if self._below:
            whole.get_buffer(f"from_above_{self._below}").copy_(self.rbm.visible_bias)
        if above < whole.machine.n_layers:
            whole.get_buffer(f"from_above_{above}").copy_(self.rbm.hidden_bias)


def layer_objectives(whole: DBMObjective, **options: float) -> list[DBMLayerObjective]:
    """What learns the layers of a deep machine one by one, lowest first, each on the codes of the one below."""
    return [DBMLayerObjective(whole, k, **options) for k, _ in enumerate(whole.machine.weights, 1)]
