"""Objectives that train a deep Boltzmann machine by mean field and persistent chains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from isthmus.learning.chains import check_chains, check_gibbs_steps, steps_at
from isthmus.learning.contrastive_divergence import ContrastiveDivergence, layer_rbm
from isthmus.learning.deep_densities import DBMDensity
from isthmus.learning.energy_objective import EnergyObjective, negative_pseudo_likelihood
from isthmus.learning.rows import Rows
from isthmus.parts.carried import carry
from isthmus.parts.deep_energies import DBMEnergy, DBMLayerRBM, LayerStates
from isthmus.parts.forward import Batch
from isthmus.parts.layers import check_count
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.mean_field import mean_field_coder

FULL_STEP_WIDTH = 100
"""Width of a hidden layer above which the steps of the weights above it are reduced; see `DBMObjective`."""

SAMPLING_PHASE = 0.5
"""Fraction of training without pretraining after which mean field replaces samples of p(h | v)."""


class DBMObjective(EnergyObjective):
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

    Shapes: v (batch, columns); the contrast (batch,).

    Args:
        energy: the deep Boltzmann machine, trained in place.
        n_steps: Gibbs steps per training step; a pair (first, last) interpolates over training.
        n_chains: number of persistent chains.
        centred: use the centred gradient.
        weight_decay: w of the term w/2 sum_k ||W_k||^2.
        pretrained: True if the layers are pretrained one by one; `prepare` then keeps their biases.
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

    density: DBMDensity

    def __init__(
        self,
        energy: DBMEnergy,
        *,
        n_steps: int | Sequence[int] = 1,
        n_chains: int = 100,
        centred: bool = True,
        weight_decay: float = 0.0,
        pretrained: bool = False,
        n_iterations: int = 10,
    ) -> None:
        check_count("n_iterations", n_iterations)
        n_chains = check_chains(n_chains)
        density = DBMDensity(energy, n_chains, n_iterations)
        super().__init__(mean_field_coder(energy, n_iterations), density, weight_decay=weight_decay)
        self.n_steps, self.centred = check_gibbs_steps(n_steps), centred
        self.pretrained, self.n_iterations = pretrained, n_iterations

    @property
    def energy(self) -> DBMEnergy:
        """The energy."""
        return self.density.energy

    @property
    def weights(self) -> list[Tensor]:
        """The weights W_1 .. W_L."""
        return list(self.energy.weights)

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Initialize the visible biases, unless the layers are pretrained, and set the chains to some rows."""
        if not self.pretrained:
            super().prepare(rows)
        self.density.initialize_chains(rows)

    # -- the criterion --------------------------------------------------------------------------------

    def criterion(self, batch: Batch, progress: float, generator: Generator | None) -> dict[str, Tensor]:
        """Return the contrast, (batch,), nats up to log Z, and the term of weight decay."""
        dbm, density, v = self.energy, self.density, self.impute(batch)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        mu = self._positive_phase(v, progress, generator)
        odd = density.run_chains(density.particles, steps_at(self.n_steps, progress), generator)
        contrast = dbm.bound_given(v, mu) - dbm.odd_free_energy(odd).mean()
        carry(density.particles, torch.cat(odd, -1))
        density.carry_offsets(v, mu, weight=batch.weight)
        return {"contrast": contrast, **self.weight_decay_term()}

    @torch.no_grad()
    def _positive_phase(self, v: Tensor, progress: float, generator: Generator) -> LayerStates:
        """Return mean-field means of the hidden layers, or samples early in training without pretraining."""
        if progress >= SAMPLING_PHASE or self.pretrained:
            return self.energy.mean_field(v, self.n_iterations)
        return self.energy.sample_hidden_layers(v, self.n_iterations, generator)

    @torch.no_grad()
    def project_gradient(self) -> None:
        """Replace the gradient by the centred one, and reduce the steps above wide hidden layers."""
        dbm, beta = self.energy, self.density.offsets
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

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, "n batch"]
    ) -> Float[Tensor, "n batch"]:
        """Return the conditional log-odds of n columns of each row: h_1 is summed out, h_2 is at its means given v."""
        above = self.energy.mean_field(v, self.n_iterations)[1]
        return torch.stack([self.energy.conditional_logits(v, column, above) for column in columns])

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the negative log pseudo-likelihood of binary units, of others the nll of the reconstruction."""
        if isinstance(self.energy.likelihood, Bernoulli):
            return negative_pseudo_likelihood(self.impute(batch), self.conditional_logits)
        return super().monitor(batch)


def layer_objectives(energy: DBMEnergy, **options: float) -> list[ContrastiveDivergence]:
    """Return the objectives that pretrain the layers of a deep Boltzmann machine one by one, lowest first.

    Each is trained on the codes of the layer below. The bias of an inner layer exists twice, since the RBM above has a
    visible bias of its own. `take_bias` and `join_layers` are the hooks of the phases.

    Args:
        energy: the deep Boltzmann machine.
        options: arguments of `ContrastiveDivergence`.

    Source: Salakhutdinov & Hinton (2009), section 3.1.
    """
    return [
        ContrastiveDivergence(DBMLayerRBM(energy, k), method="cd", **options)  # type: ignore[arg-type]
        for k, _ in enumerate(energy.weights, 1)
    ]


@torch.no_grad()
def take_bias(whole: nn.Module, k: int) -> None:
    """Set the visible bias of the RBM of layer k > 1 to the hidden bias of the RBM below.

    Training starts it anew. If the layer is not trained, both biases stay equal.
    """
    below, above = layer_rbm(whole, k - 1), layer_rbm(whole, k)
    above.visible_bias.copy_(below.hidden_bias)


@torch.no_grad()
def join_layers(whole: nn.Module) -> None:
    """Set the bias of each inner layer to the mean of the biases that the RBMs above and below have for it.

    Both biases become the mean, so that a second call changes nothing.
    """
    n_layers = len(cast(nn.ModuleList, whole.get_submodule("layers")))
    for below, above in pairwise(layer_rbm(whole, k) for k in range(1, n_layers + 1)):
        above.visible_bias.copy_(below.hidden_bias.lerp(above.visible_bias, 0.5))
        below.hidden_bias.copy_(above.visible_bias)
