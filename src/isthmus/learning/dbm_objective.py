"""Objectives that train a deep Boltzmann machine by mean field and persistent chains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from isthmus.learning.chains import check_chains, run_chain, start_in_block
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.densities import OFFSET_RATE
from isthmus.learning.legacy import LegacyEnergyObjective
from isthmus.learning.rows import MAX_SAMPLED_ROWS, Rows, sampled_batches
from isthmus.parts.deep_energies import DBMEnergy, DBMLayerRBM, LayerStates
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.layers import check_count
from isthmus.parts.likelihoods import GaussianLearned, Likelihood
from isthmus.parts.mean_field import DBMDecoder, MeanField
from isthmus.parts.sampling import bernoulli

FULL_STEP_WIDTH = 100
"""Width of a hidden layer above which the steps of the weights above it are reduced; see `DBMObjective`."""

SAMPLING_PHASE = 0.5
"""Fraction of training without pretraining after which mean field replaces samples of p(h | v)."""

BOUND_ITERATIONS = 50
"""Mean-field rounds for the bound of a row, more than during training."""


class DBMObjective(LegacyEnergyObjective):
    r"""Objective with the gradient of the variational bound of a deep Boltzmann machine.

        term = F_mu(v) - mean over chains of F(h'_odd),   mu and h' constant,   F_mu >= F

    Mean field minimises the first term over mu; in the second term v and the even layers are summed out. Without
    layerwise pretraining, samples of p(h | v) replace mu in the first half of training: for a layer whose units are
    near 1/2 the bound is best with zero weights above it, and mean field would shrink them to zero. With `centred` the
    gradient is that of the energy in units minus their running means over the rows, so that all layers are trained
    from the start:

        dW_k,c = dW_k - db_k beta_(k-1)' - beta_k db_(k-1)'
        db_k,c = db_k - dW_k,c beta_(k-1) - dW_(k+1),c' beta_(k+1)

    A correlation that all units of two layers share changes their weights in proportion to the width, in wide layers
    faster than the chains mix, and the units then saturate for good. The step of W_k, k > 1, is therefore multiplied
    by min(1, 100 / n_(k-1)), in the steps of the biases too. This has no effect with AdamW, which normalises steps.

    As an encoder it is mean field, with the means of the top layer as the code; as a decoder, a downward pass of means.

    Shapes: x (batch, columns); code (batch, n_L); particles (n_chains, n_1 + n_3 + ...).

    Args:
        machine: the energy, trained in place.
        n_steps: Gibbs steps per training step; a pair (first, last) interpolates over training.
        n_chains: number of persistent chains.
        centred: use the centred gradient.
        weight_decay: w of the term w/2 sum_k ||W_k||^2.
        n_iterations: mean-field rounds, and Gibbs steps of the samples of p(h | v).

    Raises:
        InputError: fewer than one chain, step or round, or a negative weight.

    Source: Salakhutdinov & Hinton, Deep Boltzmann machines (2009), section 2; Montavon & Mueller, Deep Boltzmann
    machines and the centering trick (2012); DL book, sections 20.4.2 to 20.4.4.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> objective = DBMObjective(DBMEnergy(Bernoulli(4), (3, 2), generator=generator), n_chains=5)
        >>> terms, _ = objective.terms(Batch(torch.ones(2, 4)), 0.0, generator)
        >>> {name: tuple(term.shape) for name, term in terms.items()}
        {'contrast': (2,)}
    """

    particles: Tensor

    is_begun: Tensor
    """True if the layers were pretrained one by one; `prepare` then keeps their weights."""

    is_joined: Tensor
    """True if joint training of the layers has started."""

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
        """The likelihood p(v | h_1)."""
        return self.machine.likelihood

    @property
    def weights(self) -> list[Tensor]:
        """The weights W_1 .. W_L."""
        return list(self.machine.weights)

    @property
    def offsets(self) -> list[Tensor]:
        """The running means beta_0 .. beta_L of the layers over the rows."""
        return [self.get_buffer(f"offset_{k}") for k in range(len(self.machine.sizes))]

    # -- before and after training --------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Initialize the visible biases, unless the layers are pretrained, and set the chains to some rows.

        At most `MAX_SAMPLED_ROWS` rows are read, of which one block of `ROWS_AT_ONCE` is dense at a time.
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
        """Set the bias of each inner layer to the mean of the biases that the RBMs above and below have for it.

        Both biases become the mean, so that a second call changes nothing.
        """
        for k in range(1, self.machine.n_layers):
            bias, from_above = self.machine.biases[k], self.get_buffer(f"from_above_{k}")
            from_above.copy_(bias.lerp(from_above, 0.5))
            bias.copy_(from_above)

    def separate_weights(self) -> None:
        """Give the encoder weights of its own, so that the energy and its samples stay unchanged."""
        cast(MeanField, self.encoder).separate_weights()

    # -- the criterion --------------------------------------------------------------------------------

    def criterion(self, batch: Batch, progress: float, generator: Generator | None) -> dict[str, Tensor]:
        """Return the contrast, (batch,), nats up to log Z, and the term of weight decay."""
        dbm, v = self.machine, self.impute(batch)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        mu = self._positive_phase(v, progress, generator)
        odd = run_chain(self._step, self._split_layers(self.particles), self.steps_at(progress), generator)
        contrast = dbm.bound_given(v, mu) - dbm.odd_free_energy(odd).mean()
        if self.training:
            self.particles.copy_(torch.cat(odd, -1))
            self.update_offsets(v, mu)
        return {"contrast": contrast, **self.weight_decay_term()}

    @torch.no_grad()
    def _positive_phase(self, v: Tensor, progress: float, generator: Generator) -> LayerStates:
        """Return mean-field means of the hidden layers, or samples early in training without pretraining."""
        if progress >= SAMPLING_PHASE or self.is_begun:
            return self.machine.mean_field(v, self.n_iterations)
        return self.machine.sample_hidden_layers(v, self.n_iterations, generator)

    def _step(self, odd: LayerStates, generator: Generator | None) -> LayerStates:
        """Make one Gibbs step: sample the even layers given the odd ones, then the odd layers."""
        assert generator is not None
        return self.machine.sample_odd(*self.machine.sample_even(odd, generator), generator)

    def _split_layers(self, particles: Tensor) -> LayerStates:
        return list(particles.split(self.machine.odd_sizes, -1))

    @torch.no_grad()
    def update_offsets(self, v: Tensor, mu: LayerStates, rate: float = OFFSET_RATE) -> None:
        """Update the running means beta with a batch."""
        for offset, values in zip(self.offsets, [self.machine.visible.sufficient_statistic(v), *mu], strict=True):
            offset.lerp_(values.mean(0).to(offset.dtype), rate)

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Replace the gradient by the centred one, and reduce the steps above wide hidden layers."""
        dbm, beta = self.machine, self.offsets
        gradients = [bias.grad for bias in dbm.biases], [weight.grad for weight in dbm.weights]
        if any(gradient is None for part in gradients for gradient in part):
            return
        biases, weights = cast("tuple[list[Tensor], list[Tensor]]", gradients)
        if self.centred:
            for k, weight in enumerate(weights):
                weight.addr_(biases[k + 1], beta[k], alpha=-1).addr_(beta[k + 1], biases[k], alpha=-1)
        for weight, width in zip(weights[1:], dbm.sizes[1:], strict=False):
            weight.mul_(min(1.0, FULL_STEP_WIDTH / width))
        if self.centred:  # biases compensate the reduced steps of the weights
            for k, weight in enumerate(weights):
                biases[k].addmv_(weight.t(), beta[k + 1], alpha=-1)
                biases[k + 1].addmv_(weight, beta[k], alpha=-1)

    # -- inference ------------------------------------------------------------------------------------

    def impute(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries replaced by their mean-field reconstruction."""
        if batch.mask is None:
            return batch.x
        with torch.no_grad():
            dbm = self.machine
            start = self.likelihood.mean_given(dbm.biases[0].expand_as(batch.x), batch.x * batch.mask)
            guess = torch.where(batch.mask != 0, batch.x, start)
            expected = dbm.visible_mean(dbm.mean_field(guess, self.n_iterations)[0])
        return torch.where(batch.mask != 0, batch.x, expected)

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, "n batch"]
    ) -> Float[Tensor, "n batch"]:
        """Return the conditional log-odds of n columns of each row: h_1 is summed out, h_2 is at its means given v."""
        above = self.machine.mean_field(v, self.n_iterations)[1]
        return torch.stack([self.machine.conditional_logits(v, column, above) for column in columns])

    @torch.no_grad()
    def marginals(self, batch: Batch) -> LayerStates:
        """Return the mean-field means mu_1 .. mu_L."""
        return self.machine.mean_field(self.impute(batch), BOUND_ITERATIONS)

    @torch.no_grad()
    def log_bound(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return -F_mu(v) - log Z per row, a lower bound of log p(v), nats; without log Z where it is not known.

        For a row with missing entries it is a lower bound of log p of the observed entries: with v the imputed row,

            log p(v_o) + log Z >= -F_mu(v) - log p(v_missing | mu_1)

        since the missing entries given h_1 are summed out, and their log-normalizer is convex in h_1.
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
        """An equivalent RBM with copied weights, for the estimate of log Z."""
        return self.machine.as_bipartite_rbm()

    @property
    def independent_columns(self) -> Float[Tensor, " units"]:
        """Biases of independent even units with the means of the rows, where annealing starts."""
        first, *others = self.offsets[::2]
        if isinstance(self.likelihood, GaussianLearned):
            first = first * self.likelihood.variance.detach()
        return torch.cat([self.likelihood.parameters_for(first), *(torch.logit(beta, 1e-4) for beta in others)])

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: Generator, *, mean: bool = False) -> Float[Tensor, "n columns"]:
        """Sample n rows by Gibbs steps from the persistent chains; `mean` returns E[v | h_1] in place of samples."""
        start = self._split_layers(self.particles[torch.arange(n) % len(self.particles)])
        odd = run_chain(self._step, start, max(n_steps - 1, 0), generator)
        return self.machine.visible_mean(odd[0]) if mean else self.machine.sample_even(odd, generator)[0]


class DBMLayerObjective(ContrastiveDivergence):
    """Objective that pretrains two neighbouring layers of a deep Boltzmann machine by contrastive divergence.

    The bias of the lower layer exists twice, since the RBM below has one too. After training it is copied to the whole
    objective, which starts from the mean of the two.

    Args:
        whole: the objective that trains all layers afterwards.
        k: number of the upper one of the two layers, from 1.
        options: arguments of `ContrastiveDivergence`.

    Source: Salakhutdinov & Hinton (2009), section 3.1.
    """

    def __init__(self, whole: DBMObjective, k: int, **options: float) -> None:
        super().__init__(DBMLayerRBM(whole.machine, k), method="cd", **options)  # type: ignore[arg-type]
        # nn.Module does not register a module inside a tuple: `whole` contains this layer, not the reverse.
        self._whole, self._below = (whole,), k - 1

    def prepare(self, rows: Rows) -> None:
        """Prepare the RBM, and mark the whole objective as pretrained."""
        super().prepare(rows)
        self._whole[0].is_begun.fill_(True)

    @torch.no_grad()
    def finish(self, rows: Rows) -> None:
        """Copy the lower layer's bias to the whole; this layer keeps its bias, with which the next layer is trained.

        The bias of the upper layer is copied too, until the RBM above replaces it by its own.
        """
        whole, above = self._whole[0], self._below + 1
        if self._below:
            whole.get_buffer(f"from_above_{self._below}").copy_(self.rbm.visible_bias)
        if above < whole.machine.n_layers:
            whole.get_buffer(f"from_above_{above}").copy_(self.rbm.hidden_bias)


def layer_objectives(whole: DBMObjective, **options: float) -> list[DBMLayerObjective]:
    """Return the objectives that pretrain the layers of a deep Boltzmann machine one by one, lowest first.

    Each is trained on the codes of the layer below.
    """
    return [DBMLayerObjective(whole, k, **options) for k, _ in enumerate(whole.machine.weights, 1)]
