"""Deep belief network and the up-down algorithm that fine-tunes it: wake-sleep with Gibbs chains in the top layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError
from isthmus.learning.contrastive_divergence import ContrastiveDivergence, check_chain
from isthmus.learning.densities import EnergyDensity, RBMDensity
from isthmus.learning.energy_objective import MIN_VALIDATION_ROWS, weight_decay_term
from isthmus.learning.objectives import Objective
from isthmus.parts.coder import Coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.hidden_units import BinaryHidden
from isthmus.parts.inference import EncoderMap, ImputingMap
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.networks import MLP
from isthmus.parts.sampling import bernoulli, rand_like

BOUND_SEED = 0
"""Seed of the random numbers that the bounds of all rows share."""


@torch.no_grad()
def start_transposed(whole: nn.Module, k: int) -> None:
    r"""Initialize the RBM of layer k as the transposed RBM below, whose units it then models as that RBM does.

    Additional units have small weights w_j, whose first-order effect b cancels:

        W = W_below',   b = c_below - sum_j w_j / 2,   c = b_below,   so that   p(h) = p_below(h)

    Before training, the variational bound of both then equals the likelihood of the RBM below, for each row.

    Args:
        whole: the model, whose "layers" are the objectives of the RBMs.
        k: number of the layer, from 2; see `can_be_transposed`.

    Source: Hinton, Osindero & Teh (2006), section 3 and appendix A.
    """
    below, above = (cast(ContrastiveDivergence, whole.get_submodule(f"layers.{n}")).rbm for n in (k - 2, k - 1))
    n = below.n_visible
    above.weight[:n] = below.weight.t()
    above.hidden_bias[:n] = below.visible_bias
    above.visible_bias.copy_(below.hidden_bias - 0.5 * above.weight[n:].sum(0))


def can_be_transposed(below: RBMEnergy, n_hidden: int) -> bool:
    """Return whether an RBM of `n_hidden` units on the units of `below` can start as its transpose.

    The rows of `below` must be binary, and each of its columns needs a unit.
    """
    return isinstance(below.likelihood, Bernoulli) and n_hidden >= below.n_visible


class RecognitionNetwork(nn.Module):
    """Encoder x -> a_L of a deep belief network: h_k = sigma(c_k + W_k h_(k-1)), a_L = c_L + W_L h_(L-1).

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size). The last map is that of the top RBM.

    Args:
        rbms: the RBMs, lowest first; their upward maps are shared.
    """

    def __init__(self, rbms: Sequence[RBMEnergy]) -> None:
        super().__init__()
        self.maps = nn.ModuleList([rbm.up for rbm in rbms[:-1]])
        self.activations = nn.ModuleList([nn.Sigmoid() for _ in rbms[:-1]])
        self.top = rbms[-1]
        # nn.Module does not register modules inside a tuple: the lower RBMs are not parts of the network.
        self._rbms = tuple(rbms)

    @property
    def rbms(self) -> tuple[RBMEnergy, ...]:
        """The RBMs, lowest first."""
        return self._rbms

    def inputs(self, k: int, below: Tensor) -> Tensor:
        """Return a_(k+1), the input of layer k + 1, from the units of layer k."""
        return cast(Tensor, self._rbms[k](below))

    def forward(self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None) -> Tensor:
        """Return a_L, with means in place of samples."""
        units = x
        for k, activation in enumerate(self.activations):
            units = activation(self.inputs(k, units))
        return self.inputs(len(self.maps), units)


class GenerativeNetwork(nn.Module):
    """Decoder h_L -> parameters of p(x | h_1) of a deep belief network: means through the top RBM and directed layers.

    Shapes: (*draws, batch, code_size) -> (*draws, batch, n_parameters).

    Args:
        rbms: the RBMs, lowest first; each directed layer starts from the transposed weights of its RBM and shares
            its biases.
    """

    def __init__(self, rbms: Sequence[RBMEnergy]) -> None:
        super().__init__()
        self.maps = nn.ModuleList()
        for rbm in rbms[:-1]:
            directed = skip_init(nn.Linear, rbm.n_hidden, rbm.n_visible)
            directed.bias = rbm.visible_bias
            self.maps.append(directed)
        self._rbms = tuple(rbms)
        self.copy_rbm_weights()

    @torch.no_grad()
    def copy_rbm_weights(self) -> None:
        """Copy the transposed weights of the RBMs to the directed layers."""
        for directed, rbm in zip(self.maps, self._rbms, strict=False):
            cast(nn.Linear, directed).weight.copy_(rbm.weight.t())

    def parameters_below(self, k: int, units: Tensor) -> Tensor:
        """Return the parameters of layer k given the units of layer k + 1; layer 0 is the rows."""
        return cast(Tensor, self.maps[k](units))

    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the visible biases to `output`."""
        with torch.no_grad():
            self._rbms[0].visible_bias.copy_(output)

    def forward(self, code: Float[Tensor, "*draws batch code_size"], generator: Generator | None = None) -> Tensor:
        """Return the parameters of p(x | h_1), with means in place of samples."""
        return self.decode_from_top_visible(self._rbms[-1].visible_mean(code))

    def decode_from_top_visible(self, units: Float[Tensor, "*draws batch units"]) -> Tensor:
        """Return the parameters of p(x | h_1) from the visible units of the top RBM, with means in place of samples."""
        for k in reversed(range(1, len(self.maps))):
            units = torch.sigmoid(self.parameters_below(k, units))
        return self.parameters_below(0, units)


def belief_network_coder(rbms: Sequence[RBMEnergy]) -> Coder:
    """Return the coder of a deep belief network: the recognition network and the directed layers, with means.

    The lowest RBM, which was trained on such rows, imputes missing entries.

    Args:
        rbms: the RBMs, lowest first.

    Raises:
        InputError: fewer than two layers, hidden units that are not binary, or sizes that do not match.
    """
    _check(rbms)
    inference = ImputingMap(RecognitionNetwork(rbms), nn.Sigmoid(), rbms[0])
    return Coder(inference, GenerativeNetwork(rbms), rbms[0].likelihood)


class DBNDensity(EnergyDensity):
    """Density of a deep belief network: log Z and the chains of its top RBM, and the directed layers below.

    Args:
        coder: `belief_network_coder` of the RBMs; it is not registered here.
        top: the density of the top RBM.

    Source: Salakhutdinov & Murray, On the quantitative analysis of deep belief networks (2008), section 4.
    """

    def __init__(self, coder: Coder, top: RBMDensity) -> None:
        super().__init__()
        self.top = top
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._coder = (coder,)

    @property
    def rbm(self) -> RBMEnergy:
        """The top RBM."""
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
    def n_directed(self) -> int:
        """Number of directed layers."""
        return len(self.generation.maps)

    def generation_nll(self, batch: Batch, units: Sequence[Tensor]) -> Float[Tensor, "*draws batch"]:
        """Return -log p(x | h_1) - sum_k log p(h_(k-1) | h_k) over the directed layers."""
        total = self._coder[0].likelihood.nll(
            self.generation.parameters_below(0, units[0]), batch.desired_output, batch.mask
        )
        for k, (below, above) in enumerate(pairwise(units), 1):
            total = total + _nll(self.generation.parameters_below(k, above), below)
        return total

    def sample_below(self, k: int, above: Tensor, generator: Generator) -> Tensor:
        """Sample h_k ~ p(. | h_(k+1)); for k = 0, the rows."""
        parameters = self.generation.parameters_below(k, above)
        if k == 0:
            return self.recognition.rbms[0].visible.sample(parameters, generator)
        return bernoulli(torch.sigmoid(parameters), generator)

    @torch.no_grad()
    def log_bound(self, batch: Batch, n_draws: int = 20) -> Float[Tensor, " batch"]:
        """Return the bound E_q[ log p(x, h_1 .. h_(L-1)) - log q(h_1 .. h_(L-1) | x) ] <= log p(x) per row, nats.

        It is up to log Z of the top RBM where that is not known. All rows use the same uniform random numbers, so that
        the bound of a row is deterministic and does not depend on other rows. For a row with missing entries it bounds
        log p of the observed entries x_o: p(x_o | h_1) replaces p(x | h_1), and q is that of the imputed row.
        """
        generator, total = torch.Generator().manual_seed(BOUND_SEED), batch.x.new_zeros(len(batch.x)).double()
        v = self.recognition.rbms[0].impute(batch.x, batch.mask)
        for _ in range(n_draws):
            below, log_q, units = v, batch.x.new_zeros(len(batch.x)), []
            for k in range(self.n_directed):
                a = self.recognition.inputs(k, below)
                below = (rand_like(a[:1], generator) < torch.sigmoid(a)).to(a.dtype)
                units.append(below)
                log_q = log_q - _nll(a, below)
            log_p = -self.generation_nll(batch, units) - self.top.rbm.free_energy(below)
            total += (log_p - log_q).double()
        return self.subtract_log_partition(total / n_draws)

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: Generator, *, mean: bool = False) -> Float[Tensor, "n columns"]:
        """Sample n rows: Gibbs steps of the top RBM's chains, then one downward pass."""
        units = self.top.sample(n, n_steps, generator)
        for k in reversed(range(1, self.n_directed)):
            units = self.sample_below(k, units, generator)
        parameters = self.generation.parameters_below(0, units)
        visible = self.recognition.rbms[0].visible
        return visible.mean(parameters) if mean else visible.sample(parameters, generator)


class DBNObjective(Objective):
    r"""Objective of a deep belief network: directed layers below an RBM, trained by the up-down algorithm.

        p(x, h_1 .. h_L) = p(x | h_1) ... p(h_(L-2) | h_(L-1)) p(h_(L-1), h_L),   q(h_k | h_(k-1)) = sigma(a_k)

        wake:   h_k ~ q(. | h_(k-1)) from rows      directed layers minimise -log p(h_(k-1) | h_k)
        top:    h_(L-1) of the wake phase           the RBM minimises its contrast
        sleep:  h_(L-1) from the chain of the RBM,  the recognition network minimises -log q(h_k | h_(k-1))
                h_(k-1) ~ p(. | h_k) downwards

    Samples are constants, so that each layer has a local learning rule. The monitor is the nll of the reconstruction,
    with means in place of samples.

    Args:
        coder: `belief_network_coder` of the RBMs, whose directed layers are unfolded.
        top: the objective of the top RBM.

    Source: Hinton, Osindero & Teh, A fast learning algorithm for deep belief nets (2006), section 5 and appendix B;
    DL book, section 20.3.

    Example:
        >>> from isthmus.parts.energies import RBMEnergy
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbms = [RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3))]
        >>> network = DBNObjective(belief_network_coder(rbms), ContrastiveDivergence(rbms[-1]))
        >>> terms, _ = network.terms(Batch(torch.ones(2, 6)), 0.0, generator)
        >>> {name: tuple(term.shape) for name, term in terms.items()}
        {'generation': (2,), 'contrast': (2,), 'recognition': ()}
    """

    min_validation_rows: ClassVar[int] = MIN_VALIDATION_ROWS

    def __init__(self, coder: Coder, top: ContrastiveDivergence) -> None:
        super().__init__()
        self.coder, self.top = coder, top
        self.density = DBNDensity(coder, top.density)

    @property
    def recognition(self) -> RecognitionNetwork:
        """The recognition network q."""
        return self.density.recognition

    def project_gradient(self) -> None:
        """Replace the gradient of the top RBM by the centred one."""
        self.top.project_gradient()

    # -- the criterion --------------------------------------------------------------------------------

    def criterion(self, batch: Batch, progress: float, generator: Generator | None) -> dict[str, Tensor]:
        """Return the terms of the three phases, nats, (batch,), (batch,) and (), and the term of weight decay."""
        generator = torch.Generator().manual_seed(BOUND_SEED) if generator is None else generator
        units = self.wake(cast(EncoderMap, self.coder.inference).visible(batch), generator)
        above = units[-1]
        contrast, _, fantasy = self.top.contrast(above, progress, generator)
        generation = self.density.generation_nll(batch, units)
        terms = {"generation": generation, "contrast": contrast, "recognition": self.sleep(fantasy, generator)}
        return {**terms, **self.weight_decay_term()}

    def weight_decay_term(self) -> dict[str, Tensor]:
        """Return the term of weight decay on the weights of both directions; empty where the weight is 0."""
        upward = [rbm.weight for rbm in self.recognition.rbms]
        directed = [cast(nn.Linear, layer).weight for layer in self.density.generation.maps]
        return weight_decay_term(self.top.weight_decay, [*upward, *directed])

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
            total = total + _nll(self.recognition.inputs(k, below), above).mean()
            above = below
        return total

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the nll of the reconstruction, with means in place of samples."""
        return self.coder.nll(self.coder(batch))


@torch.no_grad()
def copy_network(network: Coder, coder: Coder) -> None:
    """Copy the weights and the likelihood of a deep belief network to a deep autoencoder of the same sizes.

    Args:
        network: `belief_network_coder` of RBMs.
        coder: an autoencoder whose encoder and decoder are an `MLP` of sigmoid units each.
    """
    recognition, generation = cast(RecognitionNetwork, network.encoder), cast(GenerativeNetwork, network.decoder)
    upward, downward = (cast(MLP, part).affine_maps for part in (coder.encoder, coder.decoder))
    for k, (to, rbm) in enumerate(zip(upward, recognition.rbms, strict=True)):
        # The first layer's input may be s(v) = v / sigma^2.
        scale = rbm.visible.sufficient_statistic(torch.ones_like(to.weight[:1])) if k == 0 else 1.0
        to.weight.copy_(rbm.weight * scale)
        to.bias.copy_(rbm.hidden_bias)
    downward[0].weight.copy_(recognition.top.weight.t())
    downward[0].bias.copy_(recognition.top.visible_bias)
    for to, directed in zip(downward[1:], reversed(list(generation.maps)), strict=True):
        to.load_state_dict(directed.state_dict())
    coder.likelihood.load_state_dict(network.likelihood.state_dict())


def unfold(whole: nn.Module) -> None:
    """Initialize the directed layers of a deep belief network, the part "coder" of `whole`, from its RBMs."""
    coder = cast(Coder, whole.get_submodule("coder"))
    cast(GenerativeNetwork, coder.decoder).copy_rbm_weights()


def _nll(logits: Tensor, units: Tensor) -> Tensor:
    """Return -log p of binary units, summed over units."""
    return F.binary_cross_entropy_with_logits(logits, units, reduction="none").sum(-1)


def _check(rbms: Sequence[RBMEnergy]) -> None:
    """Check that the layers form a deep belief network.

    Raises:
        InputError: fewer than two layers, sizes that do not match, or units that are not binary.
    """
    if len(rbms) < 2:
        raise InputError(f"a deep belief network has two layers or more; found {len(rbms)}; give hidden_sizes")
    check_chain(rbms)
    for k, rbm in enumerate(rbms, 1):
        if not isinstance(rbm.hidden, BinaryHidden) or rbm.models_word_counts:
            raise InputError(
                f"layer {k} of a deep belief network needs binary hidden units and no word counts; found "
                f"{rbm.hidden.name!r} hidden units and likelihood {rbm.likelihood.name!r}"
            )
