"""Contrastive divergence: likelihood gradients of an energy, with Markov chains for the model's expectation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.errors import InputError
from isthmus.learning.chains import BlockGibbs, ChainState, check_chains, run_chain, start_in_block
from isthmus.learning.energy_objective import EnergyObjective
from isthmus.learning.rows import MAX_SAMPLED_ROWS, Rows, sampled_batches
from isthmus.parts.energies import RBMDecoder, RBMEnergy
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.layers import check_choice
from isthmus.parts.likelihoods import GaussianLearned, Likelihood
from isthmus.parts.penalties import Penalty
from isthmus.parts.sampling import bernoulli

METHODS = ("pcd", "cd")

OFFSET_RATE = 0.01
"""Update rate of the running means (offsets)."""


class ContrastiveDivergence(EnergyObjective):
    r"""Objective whose gradient approximates the likelihood gradient of an RBM by Gibbs chains.

        d/dtheta E[ -log p(v) ] = E_data[ dF(v)/dtheta ] - E_model[ dF(v)/dtheta ]
        term = F(v) - mean over chains of F(v'),   v' constant

    "pcd" (persistent contrastive divergence, stochastic maximum likelihood) continues the chains from one training
    step to the next, so that they stay near the model's distribution. "cd" (contrastive divergence) starts a chain at
    each row; its k steps are too few to reach the model's distribution, so training is fast and biased.

    With `centred` the gradient is that of the energy in v - mu and h - lambda, where mu and lambda are running means
    over the data. It is invariant to flipping the values of a binary unit (the enhanced gradient):

        dW_c = dW - dc mu' - lambda db',   db_c = db - dW_c' lambda,   dc_c = dc - dW_c mu

    In `DBMLayerRBM`, mu has the factor m and lambda the factor n.

    As an encoder and decoder it is the tied autoencoder of the same weights: h = E[h | v] = s(c + W v), reconstruction
    p(v | h). A missing entry is imputed by a mean-field reconstruction from the observed entries.

    Shapes: x (batch, columns); h (batch, n_hidden); particles (n_chains, n_hidden).

    Args:
        rbm: the energy, trained in place.
        method: "pcd" or "cd".
        n_steps: k, Gibbs steps per training step; a pair (first, last) interpolates over training.
        n_chains: number of persistent chains, whose state is a buffer.
        centred: use the centred gradient.
        weight_decay: w of the term w/2 ||W||^2; biases have none.
        sampled: True if the rows are probabilities of binary units that are sampled at every step. The model is then
            trained on the samples, as the bound of a deep belief network requires, and not on the probabilities.
        penalties: penalties on the code by name, as in `Reconstruction`.

    Raises:
        InputError: an unknown method, fewer than one chain or step, or a negative weight.

    Source: Hinton (2002) for "cd"; Tieleman, Training restricted Boltzmann machines using approximations to the
    likelihood gradient (2008) for "pcd"; Cho, Raiko & Ilin (2011) and Melchior, Fischer & Wiskott (2016) for the
    centred step; Hinton, A practical guide to training RBMs (2010); DL book, sections 18.2 and 20.2.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> objective = ContrastiveDivergence(RBMEnergy(Bernoulli(4), 3, generator=generator), n_chains=5)
        >>> terms, _ = objective.terms(Batch(torch.ones(2, 4)), 0.0, generator)
        >>> {name: tuple(term.shape) for name, term in terms.items()}
        {'contrast': (2,)}
    """

    particles: Tensor
    totals: Tensor | None
    visible_offset: Tensor
    hidden_offset: Tensor

    def __init__(
        self,
        rbm: RBMEnergy,
        *,
        method: str = "pcd",
        n_steps: int | Sequence[int] = 1,
        n_chains: int = 100,
        centred: bool = True,
        weight_decay: float = 0.0,
        sampled: bool = False,
        penalties: Mapping[str, Penalty] | None = None,
    ) -> None:
        check_choice("method", method, METHODS)
        super().__init__(
            rbm, RBMDecoder(rbm), rbm.code_activation(), rbm.likelihood, n_steps=n_steps,
            centred=centred, weight_decay=weight_decay, penalties=penalties,
        )  # fmt: skip
        self.method, self.sampled = method, sampled
        self.gibbs = BlockGibbs(rbm)
        n_chains = check_chains(n_chains)
        self.register_buffer("particles", torch.zeros(n_chains if method == "pcd" else 0, rbm.n_hidden))
        self.register_buffer("totals", torch.ones(n_chains) if rbm.models_word_counts else None)
        self.register_buffer("visible_offset", torch.zeros(rbm.n_visible))
        self.register_buffer("hidden_offset", torch.zeros(rbm.n_hidden))

    @property
    def rbm(self) -> RBMEnergy:
        """The energy."""
        return cast(RBMEnergy, self.encoder)

    @property
    def likelihood(self) -> Likelihood:  # type: ignore[override]
        """The likelihood p(v | h)."""
        return self.rbm.likelihood

    @property
    def weights(self) -> list[Tensor]:
        """The weights W."""
        return [self.rbm.weight]

    @property
    def monitor_name(self) -> str:
        """Name of the monitor; with lateral weights, "reconstruction": no conditional has a closed form."""
        return super().monitor_name if self.rbm.factorial else "reconstruction"

    # -- before and after training --------------------------------------------------------------------

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Initialize the visible biases from the column means, and the chains from some rows."""
        super().prepare(rows)
        self.initialize_chains(rows)

    @torch.no_grad()
    def initialize_chains(self, rows: Rows) -> None:
        """Set the chains to the hidden means of some rows, and the offsets to the means over these rows.

        At most `MAX_SAMPLED_ROWS` rows are read, of which one block of `ROWS_AT_ONCE` is dense at a time.
        """
        n_rows, n_read = min(len(rows), MAX_SAMPLED_ROWS), 0
        for batch in sampled_batches(rows):
            v = self.impute(batch)
            h = self.rbm.hidden_mean(v)
            for buffer, values in ((self.particles, h), (self.totals, self.rbm.visible.total(v))):
                if buffer is not None and values is not None:
                    start_in_block(buffer, values, n_read, n_rows)
            n_read += len(v)
            self.update_offsets(v, rate=len(v) / n_read)

    # -- the criterion --------------------------------------------------------------------------------

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the contrast, (batch,), nats up to log Z, the term of weight decay, and the weighted penalties."""
        v = self.impute(batch)
        if self.sampled and generator is not None:
            v = bernoulli(v, generator)
        contrast, a, _ = self.contrast(v, progress, generator)
        terms = {"contrast": contrast, **self.weight_decay_term()}
        if self.training:
            self.update_offsets(v, a.detach())
        if self.penalties:
            code = self.code_activation(a)
            output = ForwardPass(batch, Batch(v), a, code, self.decoder(code), progress=progress)
            for name, penalty in self.penalties.items():
                terms[name] = penalty.weight * penalty(output, self, generator)
        return terms

    def contrast(
        self, v: Float[Tensor, "batch columns"], progress: float, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch hidden"], Float[Tensor, "chains columns"]]:
        """Return F(v) minus F of the chains after k more steps, per row; the hidden units' input a; and the chains' v.

        Persistent chains contribute their mean; other chains are compared with their own row.
        """
        rbm, gibbs, k, n = self.rbm, self.gibbs, self.steps_at(progress), len(v)
        if self.method == "cd":
            a = rbm(v).to(v.dtype)
            state = self._run_gibbs(gibbs.start_chains(v, generator, a.detach()), k, generator)
            chain_inputs = rbm(state.visible).to(v.dtype)
            if not rbm.factorial:  # chain_energy needs sampled hidden units here
                state = gibbs.up(state, generator, chain_inputs.detach())
            model = rbm.chain_energy(state.visible, chain_inputs, state.h)
            return rbm.free_energy_given(v, a) - model, a, state.visible
        state = self._run_gibbs(ChainState(self.particles, total=self.totals), k, generator)
        # One matrix product for rows and chains together is faster than two products of half the size.
        inputs = rbm(torch.cat([v, state.visible])).to(v.dtype)
        state = gibbs.up(state, generator, inputs[n:].detach())
        model = rbm.chain_energy(state.visible, inputs[n:], state.h).mean()
        if self.training:
            self.particles.copy_(state.h)
        return rbm.free_energy_given(v, inputs[:n]) - model, inputs[:n], state.visible

    def _run_gibbs(self, state: ChainState, k: int, generator: torch.Generator | None) -> ChainState:
        """Return the chains after k steps: new visible units, and the hidden units that they were sampled from."""
        with torch.no_grad():
            return self.gibbs.down(run_chain(self.gibbs, state, k - 1, generator), generator)

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: torch.Generator, *, mean: bool = False) -> Tensor:
        """Sample n rows, (n, columns), by Gibbs steps from the persistent chains, or else from independent columns.

        Args:
            n: number of samples; persistent chains are reused if there are fewer.
            n_steps: number of Gibbs steps.
            generator: the source of the random numbers.
            mean: return E[v | h] of the last step in place of a sample.
        """
        number = torch.arange(n)
        total = None if self.totals is None else self.totals[number % len(self.totals)]
        if len(self.particles):
            start = ChainState(self.particles[number % len(self.particles)], total=total)
        else:
            v = self.rbm.visible.sample(self.rbm.visible_bias.expand(n, -1), generator, total)
            start = self.gibbs.start_chains(v, generator)
        state = run_chain(self.gibbs, start, max(n_steps - 1, 0), generator)
        return self.gibbs.down(state, None if mean else generator).visible

    # -- the centred gradient -------------------------------------------------------------------------

    @torch.no_grad()
    def update_offsets(self, v: Tensor, a: Tensor | None = None, rate: float = OFFSET_RATE) -> None:
        """Update mu and lambda with a batch; for word counts mu is the mean of one word.

        `a` is the hidden units' input, if it is already computed.
        """
        rbm = self.rbm
        statistic, total = rbm.visible.sufficient_statistic(v), rbm.visible.total(v)
        mu = statistic.mean(0) if total is None else statistic.sum(0) / total.sum().clamp(min=1)
        hidden = rbm.mean_given(rbm(v) if a is None else a).mean(0)
        self.visible_offset.lerp_(mu.to(self.visible_offset.dtype), rate)
        self.hidden_offset.lerp_(hidden.to(self.hidden_offset.dtype), rate)

    @property
    def independent_columns(self) -> Float[Tensor, " columns"]:
        """Parameters of independent columns with the means of the rows, where annealing starts."""
        mean = self.visible_offset
        if isinstance(self.likelihood, GaussianLearned):
            mean = mean * self.likelihood.variance.detach()
        return self.likelihood.parameters_for(mean)

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Apply the constraints, then replace the gradient by the centred one."""
        super().project_gradient()
        rbm = self.rbm
        weight, visible, hidden = rbm.weight.grad, rbm.visible_bias.grad, rbm.hidden_bias.grad
        if not self.centred or weight is None or visible is None or hidden is None:
            return
        m, n = rbm.below, rbm.above
        weight.addr_(hidden, self.visible_offset, alpha=-m).addr_(self.hidden_offset, visible, alpha=-n)
        visible.addmv_(weight.t(), self.hidden_offset, alpha=-n)
        hidden.addmv_(weight, self.visible_offset, alpha=-m)

    # -- inference ------------------------------------------------------------------------------------

    def impute(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries replaced by their mean-field reconstruction."""
        if batch.mask is None:
            return batch.x
        with torch.no_grad():
            start = self.likelihood.mean_given(self.rbm.visible_bias.expand_as(batch.x), batch.x * batch.mask)
            expected = self.rbm.mean_field(torch.where(batch.mask != 0, batch.x, start))
        return torch.where(batch.mask != 0, batch.x, expected)

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, "n batch"]
    ) -> Float[Tensor, "n batch"]:
        """Return the conditional log-odds of n columns of each row, in closed form."""
        return torch.stack([self.rbm.conditional_logits(v, column) for column in columns])

    def log_prob(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return log p(v) = -F(v) - log Z per row, nats; minus the free energy where log Z is not known.

        For a row with missing entries it is log p of the observed entries, exact where `RBMEnergy.can_sum_missing` is
        True. Elsewhere it is a lower bound, by the tangent of the convex A at the imputed row v:

            log p(v_o) + log Z >= -F(v) - log p(v_missing | E[h | v])
        """
        rbm, v, mask = self.rbm, self.impute(batch), batch.mask
        log_p = -rbm.free_energy(v)
        if mask is None:
            return self.subtract_log_partition(log_p)
        partial = (mask == 0).any(1)
        if not rbm.can_sum_missing:
            log_p = log_p + self.likelihood.nll(rbm.down(rbm.hidden_mean(v)), v, 1 - mask)
        elif bool(partial.any()):
            log_p[partial] = rbm.log_marginal(v[partial], mask[partial])
        return self.subtract_log_partition(log_p)


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
