"""Contrastive divergence: likelihood gradients of an energy, with Markov chains for the model's expectation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.learning.chains import ChainState, check_chains, check_gibbs_steps, run_chain, steps_at
from isthmus.learning.densities import RBMDensity
from isthmus.learning.energy_objective import EnergyObjective, RBMObjective, negative_pseudo_likelihood
from isthmus.learning.rows import Rows
from isthmus.parts.carried import carry
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.layers import check_choice
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.penalties import Penalty
from isthmus.parts.sampling import bernoulli

METHODS = ("pcd", "cd")


class ContrastiveDivergence(RBMObjective, EnergyObjective):
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

    A missing entry is imputed by a mean-field reconstruction from the observed entries. The monitor is the negative log
    pseudo-likelihood of binary units, and of others the nll of the reconstruction.

    Shapes: v (batch, columns); the contrast (batch,).

    Args:
        rbm: the energy, trained in place.
        method: "pcd" or "cd".
        n_steps: k, Gibbs steps per training step; a pair (first, last) interpolates over training.
        n_chains: number of persistent chains, which are kept in the density.
        centred: use the centred gradient.
        weight_decay: w of the term w/2 ||W||^2; biases have none.
        sampled: True if the rows are probabilities of binary units that are sampled at every step. The model is then
            trained on the samples, as the bound of a deep belief network requires, and not on the probabilities.
        starts_biases: False if the visible biases are initialized elsewhere, not from the column means.
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

    density: RBMDensity

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
        starts_biases: bool = True,
        penalties: Mapping[str, Penalty] | None = None,
    ) -> None:
        check_choice("method", method, METHODS)
        density = RBMDensity(rbm, check_chains(n_chains), persistent=method == "pcd")
        super().__init__(rbm.coder(), density, weight_decay=weight_decay)
        self.penalties = nn.ModuleDict(penalties or {})
        self.method, self.sampled, self.centred = method, sampled, centred
        self.starts_biases = starts_biases
        self.n_steps = check_gibbs_steps(n_steps)

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Initialize the visible biases from the column means, and the chains from some rows."""
        if self.starts_biases:
            super().prepare(rows)
        self.density.initialize_chains(rows)

    def prepare_statistics(self, rows: Rows) -> None:
        """Set the largest number of words of a chain, which may start at any of the rows."""
        self.density.limit_words(rows)

    # -- the criterion --------------------------------------------------------------------------------

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the contrast, (batch,), nats up to log Z, the term of weight decay, and the weighted penalties."""
        v = self.impute(batch)
        if self.sampled and generator is not None:
            v = bernoulli(v, generator)
        contrast, a, _ = self.contrast(v, progress, generator, batch.weight)
        rows = Batch(v, weight=batch.weight)
        return {"contrast": contrast, **self.weight_decay_term(), **self.penalty_terms(rows, a, progress, generator)}

    def contrast(
        self,
        v: Float[Tensor, "batch columns"],
        progress: float,
        generator: torch.Generator | None,
        weight: Float[Tensor, " batch"] | None = None,
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch hidden"], Float[Tensor, "chains columns"]]:
        """Return F(v) minus F of the chains after k more steps, per row; the hidden units' input a; and the chains' v.

        Persistent chains contribute their mean; other chains are compared with their own row. The chains and the
        offsets, in which rows count by their weights, are carried to the next step.
        """
        k = steps_at(self.n_steps, progress)
        compare = self._from_rows if self.method == "cd" else self._from_persistent_chains
        contrast, a, visible = compare(v, k, generator)
        self.density.carry_offsets(v, a, weight=weight)
        return contrast, a, visible

    def _from_rows(
        self, v: Float[Tensor, "batch columns"], k: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the contrast with chains that start at the rows."""
        rbm, gibbs = self.rbm, self.density.gibbs
        a = rbm(v).to(v.dtype)
        state = self._run_gibbs(gibbs.start_chains(v, generator, a.detach()), k, generator)
        chain_inputs = rbm(state.visible).to(v.dtype)
        if not rbm.factorial:  # chain_energy needs sampled hidden units here
            state = gibbs.up(state, generator, chain_inputs.detach())
        model = rbm.chain_energy(state.visible, chain_inputs, state.h)
        return rbm.free_energy_given(v, a) - model, a, state.visible

    def _from_persistent_chains(
        self, v: Float[Tensor, "batch columns"], k: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the contrast with the persistent chains."""
        rbm, gibbs, density, n = self.rbm, self.density.gibbs, self.density, len(v)
        state = self._run_gibbs(ChainState(density.particles, total=density.totals), k, generator)
        # One matrix product for rows and chains together is faster than two products of half the size.
        inputs = rbm(torch.cat([v, state.visible])).to(v.dtype)
        state = gibbs.up(state, generator, inputs[n:].detach())
        model = rbm.chain_energy(state.visible, inputs[n:], state.h).mean()
        carry(density.particles, state.h)
        return rbm.free_energy_given(v, inputs[:n]) - model, inputs[:n], state.visible

    def _run_gibbs(self, state: ChainState, k: int, generator: torch.Generator | None) -> ChainState:
        """Return the chains after k steps: new visible units, and the hidden units that they were sampled from."""
        gibbs = self.density.gibbs
        with torch.no_grad(), self.density.sampling_without_waiting():
            return gibbs.down(run_chain(gibbs, state, k - 1, generator), generator)

    def penalty_terms(
        self, batch: Batch, a: Tensor, progress: float, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Return the weighted penalties of the code with the input a."""
        if not self.penalties:
            return {}
        code = self.coder.code_activation(a)
        output = ForwardPass(batch, batch, a, code, self.coder.decode(code), progress=progress)
        return {
            name: cast(Penalty, penalty).weight * penalty(output, self.coder, generator)
            for name, penalty in self.penalties.items()
        }

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Replace the gradient by the centred one."""
        rbm, density = self.rbm, self.density
        weight, visible, hidden = rbm.weight.grad, rbm.visible_bias.grad, rbm.hidden_bias.grad
        if not self.centred or weight is None or visible is None or hidden is None:
            return
        m, n = rbm.below, rbm.above
        weight.addr_(hidden, density.visible_offset, alpha=-m).addr_(density.hidden_offset, visible, alpha=-n)
        visible.addmv_(weight.t(), density.hidden_offset, alpha=-n)
        hidden.addmv_(weight, density.visible_offset, alpha=-m)

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, "n batch"]
    ) -> Float[Tensor, "n batch"]:
        """Return the conditional log-odds of n columns of each row, in closed form."""
        return torch.stack([self.rbm.conditional_logits(v, column) for column in columns])

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the negative log pseudo-likelihood, or where it has no closed form the nll of the reconstruction."""
        if isinstance(self.rbm.likelihood, Bernoulli) and self.rbm.factorial:
            return negative_pseudo_likelihood(self.impute(batch), self.conditional_logits)
        return super().monitor(batch)


def layer_rbm(whole: nn.Module, k: int) -> RBMEnergy:
    """Return the RBM of layer k, from 1, of a model whose part "layers" has the objectives of RBMs."""
    return cast(ContrastiveDivergence, whole.get_submodule(f"layers.{k - 1}")).rbm
