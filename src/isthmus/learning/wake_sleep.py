"""Deep belief network and the up-down algorithm that fine-tunes it: wake-sleep with Gibbs chains in the top layer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError
from isthmus.learning.contrastive_divergence import ContrastiveDivergence, check_chain
from isthmus.learning.energy_objective import MIN_VALIDATION_ROWS, weight_decay_term
from isthmus.learning.legacy import LegacyReconstruction
from isthmus.learning.rows import Rows
from isthmus.parts.corruptions import Corrupted
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.hidden_units import BinaryHidden
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.networks import MLP
from isthmus.parts.sampling import bernoulli, rand_like

BOUND_SEED = 0
"""Seed of the random numbers that the bounds of all rows share."""


class UpperRBMObjective(ContrastiveDivergence):
    r"""Contrastive divergence for an RBM on the sampled hidden units of the RBM below.

    If the rows below are binary and it has at least one hidden unit for each of their columns, it is initialized as
    the transposed RBM below. Additional units have small weights w_j, whose first-order effect b cancels:

        W = W_below',   b = c_below - sum_j w_j / 2,   c = b_below,   so that   p(h) = p_below(h)

    Before training, the variational bound of both then equals the likelihood of the RBM below, for each row.

    Args:
        below: the objective of the RBM below.
        n_hidden: number of hidden units.
        generator: the generator that initializes the weights.
        options: arguments of `ContrastiveDivergence`.

    Source: Hinton, Osindero & Teh (2006), section 3 and appendix A.
    """

    def __init__(self, below: ContrastiveDivergence, n_hidden: int, *, generator: Generator, **options: Any) -> None:
        rbm = RBMEnergy(Bernoulli(below.rbm.n_hidden), n_hidden, generator=generator)
        super().__init__(rbm, sampled=True, **options)
        # nn.Module does not register a module inside a tuple: the RBM below is a layer of its own.
        self._below = (below.rbm,)

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Initialize the RBM as the transposed RBM below where that is possible, else as any RBM."""
        super().prepare(rows)
        rbm, (below,) = self.rbm, self._below
        n = below.n_visible
        if isinstance(below.likelihood, Bernoulli) and rbm.n_hidden >= n:
            rbm.weight[:n] = below.weight.t()
            rbm.hidden_bias[:n] = below.visible_bias
            rbm.visible_bias.copy_(below.hidden_bias - 0.5 * rbm.weight[n:].sum(0))
            self.density.initialize_chains(rows)


class RecognitionNetwork(nn.Module):
    """Encoder x -> a_L of a deep belief network: h_k = sigma(c_k + W_k h_(k-1)), a_L = c_L + W_L h_(L-1).

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size). The last map belongs to the top RBM and is not
    registered here.

    Args:
        layers: the layers, lowest first; their upward maps are shared.
    """

    def __init__(self, layers: Sequence[ContrastiveDivergence]) -> None:
        super().__init__()
        self.maps = nn.ModuleList([layer.rbm.up for layer in layers[:-1]])
        self.activations = nn.ModuleList([nn.Sigmoid() for _ in layers[:-1]])
        self._rbms = tuple(layer.rbm for layer in layers)

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
        layers: the layers, lowest first; each directed layer starts from the transposed weights of its RBM and shares
            its biases.
    """

    def __init__(self, layers: Sequence[ContrastiveDivergence]) -> None:
        super().__init__()
        self.maps = nn.ModuleList()
        for layer in layers[:-1]:
            directed = skip_init(nn.Linear, layer.rbm.n_hidden, layer.rbm.n_visible)
            directed.bias = layer.rbm.visible_bias
            self.maps.append(directed)
        self._rbms = tuple(layer.rbm for layer in layers)
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


class DBNObjective(LegacyReconstruction):
    r"""Objective of a deep belief network: directed layers below an RBM, trained by the up-down algorithm.

        p(x, h_1 .. h_L) = p(x | h_1) ... p(h_(L-2) | h_(L-1)) p(h_(L-1), h_L),   q(h_k | h_(k-1)) = sigma(a_k)

        wake:   h_k ~ q(. | h_(k-1)) from rows      directed layers minimise -log p(h_(k-1) | h_k)
        top:    h_(L-1) of the wake phase           the RBM minimises its contrast
        sleep:  h_(L-1) from the chain of the RBM,  the recognition network minimises -log q(h_k | h_(k-1))
                h_(k-1) ~ p(. | h_k) downwards

    Samples are constants, so that each layer has a local learning rule. Encoder and decoder use means in place of
    samples.

    Args:
        layers: RBMs with binary hidden units, lowest first; each has as many visible units as the one below has hidden
            units.

    Raises:
        InputError: fewer than two layers, hidden units that are not binary, or sizes that do not match.

    Source: Hinton, Osindero & Teh, A fast learning algorithm for deep belief nets (2006), section 5 and appendix B;
    DL book, section 20.3.

    Example:
        >>> from isthmus.parts.energies import RBMEnergy
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbms = [RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3))]
        >>> layers = [ContrastiveDivergence(rbm) for rbm in rbms]
        >>> network = DBNObjective(layers)
        >>> terms, _ = network.terms(Batch(torch.ones(2, 6)), 0.0, generator)
        >>> {name: tuple(term.shape) for name, term in terms.items()}
        {'generation': (2,), 'contrast': (2,), 'recognition': ()}
    """

    min_validation_rows: ClassVar[int] = MIN_VALIDATION_ROWS

    is_unfolded: Tensor
    """True if the directed layers were initialized from the trained RBMs."""

    def __init__(self, layers: Sequence[ContrastiveDivergence]) -> None:
        _check(layers)
        super().__init__(
            RecognitionNetwork(layers), GenerativeNetwork(layers), layers[0].coder.likelihood, nn.Sigmoid()
        )
        self.top = layers[-1]
        # nn.Module does not register modules inside a tuple: the networks above register the trained parameters.
        self._layers = tuple(layers)
        self.register_buffer("is_unfolded", torch.zeros((), dtype=torch.bool))

    @property
    def layers(self) -> tuple[ContrastiveDivergence, ...]:
        """The RBMs of the stack, lowest first."""
        return self._layers

    @property
    def recognition(self) -> RecognitionNetwork:
        """The recognition network q."""
        return cast(RecognitionNetwork, self.encoder)

    @property
    def generation(self) -> GenerativeNetwork:
        """The directed layers."""
        return cast(GenerativeNetwork, self.decoder)

    def copy_rbm_weights(self) -> None:
        """Initialize the directed layers from the current weights of the RBMs."""
        self.generation.copy_rbm_weights()
        self.is_unfolded.fill_(True)

    def prepare(self, rows: Rows) -> None:
        """Initialize the directed layers from the trained RBMs."""
        self.copy_rbm_weights()

    def _encoder_input(self, corrupted: Corrupted, observed: Tensor | None) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed by the lowest RBM, which was trained on such rows."""
        return self.layers[0].impute(Batch(corrupted.x, mask=observed))

    def finish(self, rows: Rows) -> None:
        """Compute log Z of the top RBM where it is enumerable."""
        self.top.finish(rows)

    def project_gradient(self) -> None:
        """Replace the gradient of the top RBM by the centred one."""
        self.top.project_gradient()

    # -- the criterion --------------------------------------------------------------------------------

    def criterion(self, batch: Batch, progress: float, generator: Generator | None) -> dict[str, Tensor]:
        """Return the terms of the three phases, nats, (batch,), (batch,) and (), and the term of weight decay."""
        generator = torch.Generator().manual_seed(BOUND_SEED) if generator is None else generator
        units = self.wake(self.layers[0].impute(batch), generator)
        above = units[-1]
        contrast, _, fantasy = self.top.contrast(above, progress, generator)
        generation = self.generation_nll(batch, units)
        terms = {"generation": generation, "contrast": contrast, "recognition": self.sleep(fantasy, generator)}
        return {**terms, **self.weight_decay_term()}

    def weight_decay_term(self) -> dict[str, Tensor]:
        """Return the term of weight decay on the weights of both directions; empty where the weight is 0."""
        upward = [layer.rbm.weight for layer in self.layers]
        return weight_decay_term(
            self.top.weight_decay, [*upward, *(cast(nn.Linear, m).weight for m in self.generation.maps)]
        )

    @torch.no_grad()
    def wake(self, x: Float[Tensor, "batch columns"], generator: Generator) -> list[Tensor]:
        """Sample h_1 .. h_(L-1) from the rows upwards."""
        units, sampled = x, []
        for k in range(len(self.layers) - 1):
            units = bernoulli(torch.sigmoid(self.recognition.inputs(k, units)), generator)
            sampled.append(units)
        return sampled

    def generation_nll(self, batch: Batch, units: Sequence[Tensor]) -> Float[Tensor, "*draws batch"]:
        """Return -log p(x | h_1) - sum_k log p(h_(k-1) | h_k) over the directed layers."""
        total = self.likelihood.nll(self.generation.parameters_below(0, units[0]), batch.desired_output, batch.mask)
        for k, (below, above) in enumerate(pairwise(units), 1):
            total = total + _nll(self.generation.parameters_below(k, above), below)
        return total

    def sleep(self, fantasy: Float[Tensor, "chains units"], generator: Generator) -> Float[Tensor, ""]:
        """Return -sum_k log q(h_k | h_(k-1)) of model samples that are generated downwards, averaged over them."""
        total, above = torch.zeros((), device=fantasy.device), fantasy
        for k in reversed(range(len(self.layers) - 1)):
            with torch.no_grad():
                below = self._sample_below(k, above, generator)
            total = total + _nll(self.recognition.inputs(k, below), above).mean()
            above = below
        return total

    def _sample_below(self, k: int, above: Tensor, generator: Generator) -> Tensor:
        """Sample h_k ~ p(. | h_(k+1)); for k = 0, the rows."""
        parameters = self.generation.parameters_below(k, above)
        if k == 0:
            return self.layers[0].rbm.visible.sample(parameters, generator)
        return bernoulli(torch.sigmoid(parameters), generator)

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the nll of the reconstruction, with means in place of samples."""
        return self.nll(self(batch))

    # -- the density ----------------------------------------------------------------------------------

    @property
    def is_normalised(self) -> bool:
        """True if log Z of the top RBM is known."""
        return self.top.density.is_normalised

    @torch.no_grad()
    def log_bound(self, batch: Batch, n_draws: int = 20) -> Float[Tensor, " batch"]:
        """Return the bound E_q[ log p(x, h_1 .. h_(L-1)) - log q(h_1 .. h_(L-1) | x) ] <= log p(x) per row, nats.

        It is up to log Z of the top RBM where that is not known. All rows use the same uniform random numbers, so that
        the bound of a row is deterministic and does not depend on other rows. For a row with missing entries it bounds
        log p of the observed entries x_o: p(x_o | h_1) replaces p(x | h_1), and q is that of the imputed row.
        """
        generator, total = torch.Generator().manual_seed(BOUND_SEED), batch.x.new_zeros(len(batch.x)).double()
        v = self.layers[0].impute(batch)
        for _ in range(n_draws):
            below, log_q, units = v, batch.x.new_zeros(len(batch.x)), []
            for k in range(len(self.layers) - 1):
                a = self.recognition.inputs(k, below)
                below = (rand_like(a[:1], generator) < torch.sigmoid(a)).to(a.dtype)
                units.append(below)
                log_q = log_q - _nll(a, below)
            log_p = -self.generation_nll(batch, units) - self.top.rbm.free_energy(below)
            total += (log_p - log_q).double()
        bound = total / n_draws
        return bound - self.top.density.log_partition if self.is_normalised else bound

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: Generator, *, mean: bool = False) -> Float[Tensor, "n columns"]:
        """Sample n rows: Gibbs steps of the top RBM's chains, then one downward pass."""
        units = self.top.density.sample(n, n_steps, generator)
        for k in reversed(range(1, len(self.layers) - 1)):
            units = self._sample_below(k, units, generator)
        parameters = self.generation.parameters_below(0, units)
        visible = self.layers[0].rbm.visible
        return visible.mean(parameters) if mean else visible.sample(parameters, generator)

    @torch.no_grad()
    def copy_into(self, coder: LegacyReconstruction) -> None:
        """Copy the weights and the likelihood to a deep autoencoder of the same sizes.

        Args:
            coder: an autoencoder whose encoder and decoder are an `MLP` of sigmoid units each.
        """
        upward, downward = (cast(MLP, part).affine_maps for part in (coder.encoder, coder.decoder))
        for k, (to, layer) in enumerate(zip(upward, self.layers, strict=True)):
            # The first layer's input may be s(v) = v / sigma^2.
            scale = layer.rbm.visible.sufficient_statistic(torch.ones_like(to.weight[:1])) if k == 0 else 1.0
            to.weight.copy_(layer.rbm.weight * scale)
            to.bias.copy_(layer.rbm.hidden_bias)
        downward[0].weight.copy_(self.top.rbm.weight.t())
        downward[0].bias.copy_(self.top.rbm.visible_bias)
        for to, directed in zip(downward[1:], reversed(list(self.generation.maps)), strict=True):
            to.load_state_dict(directed.state_dict())
        coder.likelihood.load_state_dict(self.likelihood.state_dict())


def _nll(logits: Tensor, units: Tensor) -> Tensor:
    """Return -log p of binary units, summed over units."""
    return F.binary_cross_entropy_with_logits(logits, units, reduction="none").sum(-1)


def _check(layers: Sequence[ContrastiveDivergence]) -> None:
    """Check that the layers form a deep belief network.

    Raises:
        InputError: fewer than two layers, sizes that do not match, or units that are not binary.
    """
    if len(layers) < 2:
        raise InputError(f"a deep belief network has two layers or more; found {len(layers)}; give hidden_sizes")
    check_chain([layer.rbm for layer in layers])
    for k, layer in enumerate(layers, 1):
        if not isinstance(layer.rbm.hidden, BinaryHidden) or layer.rbm.models_word_counts:
            raise InputError(
                f"layer {k} of a deep belief network needs binary hidden units and no word counts; found "
                f"{layer.rbm.hidden.name!r} hidden units and likelihood {layer.coder.likelihood.name!r}"
            )
