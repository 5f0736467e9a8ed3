"""A deep belief network, and the up-down algorithm that fine-tunes it: wake-sleep with chains on top."""

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
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.rows import Rows
from isthmus.parts.corruptions import Corrupted
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.hidden_units import BinaryHidden
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.networks import MLP
from isthmus.parts.sampling import bernoulli, rand_like

BOUND_SEED = 0
"""Of the one set of draws under which every row's bound is taken."""


class UpperRBMObjective(ContrastiveDivergence):
    r"""The contrast of a machine over what the hidden units of another one draw.

    Where the rows below are binary and it has a unit for each of their columns, it begins as the machine below upside
    down; units that are left over have small weights w_j, whose first order b takes back:

        W = W_below',   b = c_below - sum_j w_j / 2,   c = b_below,   so that   p(h) = p_below(h)

    The bound of both is then the likelihood that the machine below gives, row by row, before it learns a step.

    Args:
        below: the machine whose hidden units this one sees.
        n_hidden: its own.
        generator: what its weights are drawn from, where they are drawn.
        options: of `ContrastiveDivergence`.

    Source: Hinton, Osindero & Teh (2006), section 3 and appendix A.
    """

    def __init__(self, below: ContrastiveDivergence, n_hidden: int, *, generator: Generator, **options: Any) -> None:
        rbm = RBMEnergy(Bernoulli(below.rbm.n_hidden), n_hidden, generator=generator)
        super().__init__(rbm, sampled=True, **options)
        # In a tuple, nn.Module does not register it: it is a layer of its own.
        self._below = (below.rbm,)

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Begin upside down where that can be, else as any machine does."""
        super().prepare(rows)
        rbm, (below,) = self.rbm, self._below
        n = below.n_visible
        if isinstance(below.likelihood, Bernoulli) and rbm.n_hidden >= n:
            rbm.weight[:n] = below.weight.t()
            rbm.hidden_bias[:n] = below.visible_bias
            rbm.visible_bias.copy_(below.hidden_bias - 0.5 * rbm.weight[n:].sum(0))
            self.initialize_chains(rows)


class RecognitionNetwork(nn.Module):
    """x -> a_L: each layer's rates are the next one's input, h_k = sigma(c_k + W_k h_(k-1)), the last not yet squashed.

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size). The last map is the top machine's and not
    registered here.

    Args:
        layers: lowest first; their upward maps are shared.
    """

    def __init__(self, layers: Sequence[ContrastiveDivergence]) -> None:
        super().__init__()
        self.maps = nn.ModuleList([layer.rbm.up for layer in layers[:-1]])
        self.activations = nn.ModuleList([nn.Sigmoid() for _ in layers[:-1]])
        self._rbms = tuple(layer.rbm for layer in layers)

    def inputs(self, k: int, below: Tensor) -> Tensor:
        """a_k, the input of layer k + 1 from the units below."""
        return cast(Tensor, self._rbms[k](below))

    def forward(self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None) -> Tensor:
        """Map rows up by rates; nothing is drawn."""
        units = x
        for k, activation in enumerate(self.activations):
            units = activation(self.inputs(k, units))
        return self.inputs(len(self.maps), units)


class GenerativeNetwork(nn.Module):
    """h_L -> the parameters of p(x | h_1): down by rates, from the top machine through directed layers of their own.

    Shapes: (*draws, batch, code_size) -> (*draws, batch, n_parameters).

    Args:
        layers: lowest first; each directed layer begins as its machine's weights transposed, and shares its biases.
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
        """Begin the directed layers as their machines' weights."""
        for directed, rbm in zip(self.maps, self._rbms, strict=False):
            cast(nn.Linear, directed).weight.copy_(rbm.weight.t())

    def parameters_below(self, k: int, units: Tensor) -> Tensor:
        """Of the units of layer k given those of layer k + 1; layer 0 is the rows."""
        return cast(Tensor, self.maps[k](units))

    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the biases of the rows."""
        with torch.no_grad():
            self._rbms[0].visible_bias.copy_(output)

    def forward(self, code: Float[Tensor, "*draws batch code_size"], generator: Generator | None = None) -> Tensor:
        """Map codes down by rates; nothing is drawn."""
        return self.decode_from_top_visible(self._rbms[-1].visible_mean(code))

    def decode_from_top_visible(self, units: Float[Tensor, "*draws batch units"]) -> Tensor:
        """The parameters of p(x | h_1) from units of the lower layer of the top machine, by rates."""
        for k in reversed(range(1, len(self.maps))):
            units = torch.sigmoid(self.parameters_below(k, units))
        return self.parameters_below(0, units)


class DBNObjective(Reconstruction):
    r"""Directed layers under a restricted Boltzmann machine, learned as a whole by the up-down algorithm.

        p(x, h_1 .. h_L) = p(x | h_1) ... p(h_(L-2) | h_(L-1)) p(h_(L-1), h_L),   q(h_k | h_(k-1)) = sigma(a_k)

        wake:   h_k ~ q(. | h_(k-1)) from rows     the directed layers learn -log p(h_(k-1) | h_k)
        top:    h_(L-1) of the wake phase          the machine learns its contrast
        sleep:  h_(L-1) from the machine's chain,  the recognition learns -log q(h_k | h_(k-1))
                h_(k-1) ~ p(. | h_k) down

    What is drawn is held, so that each layer learns by a local rule. As a coder it is the network of rates: up for
    the code, down for the reconstruction.

    Args:
        layers: machines, lowest first, of binary hidden units; each sees as many units as the one below has.

    Raises:
        InputError: fewer than two layers, hidden units that are not binary, sizes that do not match.

    Source: Hinton, Osindero & Teh, A fast learning algorithm for deep belief nets (2006), section 5 and appendix B;
    DL book, section 20.3.

    Example:
        >>> from isthmus.parts.energies import RBMEnergy
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbms = [RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3))]
        >>> layers = [ContrastiveDivergence(rbm) for rbm in rbms]
        >>> network = DBNObjective(layers)
        >>> {k: tuple(v.shape) for k, v in network.terms(Batch(torch.ones(2, 6)), 0.0, generator).items()}
        {'generation': (2,), 'contrast': (2,), 'recognition': ()}
    """

    min_validation_rows: ClassVar[int] = MIN_VALIDATION_ROWS

    is_unfolded: Tensor
    """Whether the directed layers have begun at the machines' weights."""

    def __init__(self, layers: Sequence[ContrastiveDivergence]) -> None:
        _check(layers)
        super().__init__(RecognitionNetwork(layers), GenerativeNetwork(layers), layers[0].likelihood, nn.Sigmoid())
        self.top = layers[-1]
        # In a tuple, nn.Module does not register them: what of them is learned has its name in the parts above.
        self._layers = tuple(layers)
        self.register_buffer("is_unfolded", torch.zeros((), dtype=torch.bool))

    @property
    def layers(self) -> tuple[ContrastiveDivergence, ...]:
        """The machines that were stacked, lowest first."""
        return self._layers

    @property
    def recognition(self) -> RecognitionNetwork:
        """q."""
        return cast(RecognitionNetwork, self.encoder)

    @property
    def generation(self) -> GenerativeNetwork:
        """The directed layers."""
        return cast(GenerativeNetwork, self.decoder)

    def copy_rbm_weights(self) -> None:
        """Part the directed layers from the machines that the layers were, as these are now."""
        self.generation.copy_rbm_weights()
        self.is_unfolded.fill_(True)

    def prepare(self, rows: Rows) -> None:
        """Unfold: what the machines have learned is where the whole begins."""
        self.copy_rbm_weights()

    def _encoder_input(self, corrupted: Corrupted, observed: Tensor | None) -> Float[Tensor, "batch columns"]:
        """The rows as the lowest machine completes them where entries are missing: it has learned on such rows."""
        return self.layers[0].impute(Batch(corrupted.x, mask=observed))

    def finish(self, rows: Rows) -> None:
        """Sum the top machine's Z where that is within reach."""
        self.top.finish(rows)

    def project_gradient(self) -> None:
        """The centred step of the top machine."""
        self.top.project_gradient()

    # -- the criterion --------------------------------------------------------------------------------

    def terms(self, batch: Batch, progress: float, generator: Generator | None) -> dict[str, Tensor]:
        """What the three phases minimise, nats: (batch,), (batch,) and (), and what weights cost."""
        generator = torch.Generator().manual_seed(BOUND_SEED) if generator is None else generator
        units = self.wake(self.layers[0].impute(batch), generator)
        above = units[-1]
        contrast, a, fantasy = self.top.contrast(above, progress, generator)
        if self.training:
            self.top.update_offsets(above, a.detach())
        generation = self.generation_nll(batch, units)
        terms = {"generation": generation, "contrast": contrast, "recognition": self.sleep(fantasy, generator)}
        return {**terms, **self.weight_decay_term()}

    def weight_decay_term(self) -> dict[str, Tensor]:
        """The machines' term of weight decay, of the weights of both ways, where it is asked for."""
        upward = [layer.rbm.weight for layer in self.layers]
        return weight_decay_term(
            self.top.weight_decay, [*upward, *(cast(nn.Linear, m).weight for m in self.generation.maps)]
        )

    @torch.no_grad()
    def wake(self, x: Float[Tensor, "batch columns"], generator: Generator) -> list[Tensor]:
        """Draws of h_1 .. h_(L-1) from the rows up."""
        units, sampled = x, []
        for k in range(len(self.layers) - 1):
            units = bernoulli(torch.sigmoid(self.recognition.inputs(k, units)), generator)
            sampled.append(units)
        return sampled

    def generation_nll(self, batch: Batch, units: Sequence[Tensor]) -> Float[Tensor, "*draws batch"]:
        """-log p(x | h_1) - sum_k log p(h_(k-1) | h_k), over the directed layers."""
        total = self.likelihood.nll(self.generation.parameters_below(0, units[0]), batch.desired_output, batch.mask)
        for k, (below, above) in enumerate(pairwise(units), 1):
            total = total + _nll(self.generation.parameters_below(k, above), below)
        return total

    def sleep(self, fantasy: Float[Tensor, "chains units"], generator: Generator) -> Float[Tensor, ""]:
        """-sum_k log q(h_k | h_(k-1)) of a dream that is drawn down from h_(L-1), the mean over dreams."""
        total, above = torch.zeros((), device=fantasy.device), fantasy
        for k in reversed(range(len(self.layers) - 1)):
            with torch.no_grad():
                below = self._sample_below(k, above, generator)
            total = total + _nll(self.recognition.inputs(k, below), above).mean()
            above = below
        return total

    def _sample_below(self, k: int, above: Tensor, generator: Generator) -> Tensor:
        """h_k ~ p(. | h_(k+1)); the rows for k = 0."""
        parameters = self.generation.parameters_below(k, above)
        if k == 0:
            return self.layers[0].rbm.visible.sample(parameters, generator)
        return bernoulli(torch.sigmoid(parameters), generator)

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """The nll of the reconstruction, up and down by rates."""
        return self.nll(self(batch))

    # -- the density ----------------------------------------------------------------------------------

    @property
    def is_normalised(self) -> bool:
        """Whether log Z of the top machine is known."""
        return self.top.is_normalised

    @torch.no_grad()
    def log_bound(self, batch: Batch, n_draws: int = 20) -> Float[Tensor, " batch"]:
        """E_q[ log p(x, h_1 .. h_(L-1)) - log q(h_1 .. h_(L-1) | x) ] by row, at most log p(x); nats.

        Without the top machine's log Z where that is not known. Every row is given the same uniform numbers, so that
        its bound is its own, and the same every time. Of a row with missing entries it is at most log p of the observed
        entries x_o: p(x_o | h_1) takes the place of p(x | h_1), and q is that of the imputed row.
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
        return bound - self.top.log_partition if self.is_normalised else bound

    @torch.no_grad()
    def sample(self, n: int, n_steps: int, generator: Generator, *, mean: bool = False) -> Float[Tensor, "n columns"]:
        """n rows: the top machine's chains go on for so many Gibbs steps, and one pass goes down from their ends."""
        units = self.top.sample(n, n_steps, generator)
        for k in reversed(range(1, len(self.layers) - 1)):
            units = self._sample_below(k, units, generator)
        parameters = self.generation.parameters_below(0, units)
        visible = self.layers[0].rbm.visible
        return visible.mean(parameters) if mean else visible.sample(parameters, generator)

    @torch.no_grad()
    def copy_into(self, coder: Reconstruction) -> None:
        """Give the network of rates to the maps of a deep autoencoder of the same sizes, and its likelihood.

        Args:
            coder: with an `MLP` for each way, of sigmoid units.
        """
        upward, downward = (cast(MLP, part).affine_maps for part in (coder.encoder, coder.decoder))
        for k, (to, layer) in enumerate(zip(upward, self.layers, strict=True)):
            # The first units may see the rows in units of their variance: s(v) = v / sigma^2.
            unit = layer.rbm.visible.sufficient_statistic(torch.ones_like(to.weight[:1])) if k == 0 else 1.0
            to.weight.copy_(layer.rbm.weight * unit)
            to.bias.copy_(layer.rbm.hidden_bias)
        downward[0].weight.copy_(self.top.rbm.weight.t())
        downward[0].bias.copy_(self.top.rbm.visible_bias)
        for to, directed in zip(downward[1:], reversed(list(self.generation.maps)), strict=True):
            to.load_state_dict(directed.state_dict())
        coder.likelihood.load_state_dict(self.likelihood.state_dict())


def _nll(logits: Tensor, units: Tensor) -> Tensor:
    """-log of binary units, summed."""
    return F.binary_cross_entropy_with_logits(logits, units, reduction="none").sum(-1)


def _check(layers: Sequence[ContrastiveDivergence]) -> None:
    """Refuse machines that make no network."""
    if len(layers) < 2:
        raise InputError(f"a deep belief network has two layers or more; found {len(layers)}; give hidden_sizes")
    check_chain(layers)
    for k, layer in enumerate(layers, 1):
        if not isinstance(layer.rbm.hidden, BinaryHidden) or layer.rbm.models_word_counts:
            raise InputError(f"layer {k} of a deep belief network needs binary hidden units, and no word counts")
