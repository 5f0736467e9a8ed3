"""Training of a deep belief network: greedy starts of its RBMs, and the up-down algorithm, which is wake-sleep with
Gibbs chains in the top layer."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.learning.contrastive_divergence import ContrastiveDivergence, layer_rbm
from isthmus.learning.deep_densities import DBNDensity
from isthmus.learning.energy_objective import EnergyObjective
from isthmus.learning.rows import Rows
from isthmus.parts.belief_networks import GenerativeNetwork, RecognitionNetwork
from isthmus.parts.coder import Coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.sampling import bernoulli

NO_GENERATOR_SEED = 0
"""Seed of the samples of the criterion where no generator is given."""


class DBNObjective(EnergyObjective):
    r"""Objective of a deep belief network: directed layers below an RBM, trained by the up-down algorithm.

        p(x, h_1 .. h_L) = p(x | h_1) ... p(h_(L-2) | h_(L-1)) p(h_(L-1), h_L),   q(h_k | h_(k-1)) = sigma(a_k)

        wake:   h_k ~ q(. | h_(k-1)) from rows      directed layers minimise -log p(h_(k-1) | h_k)
        top:    h_(L-1) of the wake phase           the RBM minimises its contrast
        sleep:  h_(L-1) from the chain of the RBM,  the recognition network minimises -log q(h_k | h_(k-1))
                h_(k-1) ~ p(. | h_k) downwards

    Samples are constants, so that each layer has a local learning rule. The monitor is the nll of the reconstruction,
    with means in place of samples. Weight decay is that of the top RBM and applies to the weights of both directions.

    Args:
        coder: `belief_network_coder` of the RBMs, whose directed layers are unfolded.
        top: the objective of the top RBM.

    Source: Hinton, Osindero & Teh, A fast learning algorithm for deep belief nets (2006), section 5 and appendix B;
    DL book, section 20.3.

    Example:
        >>> from isthmus.parts.belief_networks import belief_network_coder
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbms = [RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3))]
        >>> network = DBNObjective(belief_network_coder(rbms), ContrastiveDivergence(rbms[-1]))
        >>> terms, _ = network.terms(Batch(torch.ones(2, 6)), 0.0, generator)
        >>> {name: tuple(term.shape) for name, term in terms.items()}
        {'generation': (2,), 'contrast': (2,), 'recognition': ()}
    """

    density: DBNDensity

    def __init__(self, coder: Coder, top: ContrastiveDivergence) -> None:
        super().__init__(coder, DBNDensity(coder, top.density), weight_decay=top.weight_decay)
        self.top = top

    @property
    def recognition(self) -> RecognitionNetwork:
        """The recognition network q."""
        return self.density.recognition

    @property
    def weights(self) -> list[Tensor]:
        """The weights of the recognition network and of the directed layers."""
        directed_layers = self.density.generation.directed_layers
        return [*(rbm.weight for rbm in self.recognition.rbms), *(layer.weight for layer in directed_layers)]

    def prepare(self, rows: Rows) -> None:
        """Do nothing: the RBMs are trained before, and `unfold` initializes the directed layers."""

    def project_gradient(self) -> None:
        """Replace the gradient of the top RBM by the centred one."""
        self.top.project_gradient()

    # -- the criterion --------------------------------------------------------------------------------

    def criterion(self, batch: Batch, progress: float, generator: Generator | None) -> dict[str, Tensor]:
        """Return the terms of the three phases, nats, (batch,), (batch,) and (), and the term of weight decay."""
        generator = torch.Generator().manual_seed(NO_GENERATOR_SEED) if generator is None else generator
        units = self.wake(self.impute(batch), generator)
        contrast, _, fantasy = self.top.contrast(units[-1], progress, generator, batch.weight)
        generation = self.density.generation_nll(batch, units)
        terms = {"generation": generation, "contrast": contrast, "recognition": self.sleep(fantasy, generator)}
        return {**terms, **self.weight_decay_term()}

    @torch.no_grad()
    def wake(self, x: Float[Tensor, "batch columns"], generator: Generator) -> list[Tensor]:
        """Sample h_1 .. h_(L-1) from the rows upwards."""
        units, sampled = x, []
        for k in range(self.density.n_directed):
            units = bernoulli(torch.sigmoid(self.recognition.inputs(k, units)), generator)
            sampled.append(units)
        return sampled

    def sleep(self, fantasy: Float[Tensor, "chains units"], generator: Generator) -> Float[Tensor, ""]:
        """Return -sum_k log q(h_k | h_(k-1)) of model samples that are generated downwards, averaged over them."""
        total, above = torch.zeros((), device=fantasy.device), fantasy
        for k in reversed(range(self.density.n_directed)):
            with torch.no_grad():
                below = self.density.sample_below(k, above, generator)
            total = total + self.density.recognition_nll(k, below, above).mean()
            above = below
        return total


# -- hooks of the phases ----------------------------------------------------------------------------------


@torch.no_grad()
def start_transposed(whole: nn.Module, k: int) -> None:
    r"""Initialize the RBM of layer k as the transposed RBM below, whose units it then models as that RBM does.

    Additional units have small weights w_j, whose first-order effect b cancels:

        W = W_below',   b = c_below - sum_j w_j / 2,   c = b_below,   so that   p(h) = p_below(h)

    Before training, the variational bound of both then equals the likelihood of the RBM below, for each row.

    Args:
        whole: the model, whose part "layers" has the objectives of the RBMs.
        k: number of the layer, from 2; see `can_be_transposed`.

    Source: Hinton, Osindero & Teh (2006), section 3 and appendix A.
    """
    below, above = layer_rbm(whole, k - 1), layer_rbm(whole, k)
    n = below.n_visible
    above.weight[:n] = below.weight.t()
    above.hidden_bias[:n] = below.visible_bias
    above.visible_bias.copy_(below.hidden_bias - 0.5 * above.weight[n:].sum(0))


def can_be_transposed(below: RBMEnergy, n_hidden: int) -> bool:
    """Return whether an RBM of `n_hidden` units on the units of `below` can start as its transpose.

    The rows of `below` must be binary, and each of its columns needs a unit.
    """
    return isinstance(below.likelihood, Bernoulli) and n_hidden >= below.n_visible


def unfold(whole: nn.Module) -> None:
    """Initialize the directed layers of a deep belief network from its RBMs.

    Args:
        whole: the model, whose part "coder" is `belief_network_coder` of RBMs.
    """
    cast(GenerativeNetwork, whole.get_submodule("coder.decoder")).copy_rbm_weights()
