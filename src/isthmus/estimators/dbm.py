"""The deep Boltzmann machine."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.classifier import CodeClassifier
from isthmus.estimators.contrastive import Contrastive, default_learning_rate
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.dbm_objective import DBMObjective, join_layers, layer_objectives, take_bias
from isthmus.learning.deep_densities import DBMDensity
from isthmus.learning.phases import Phase
from isthmus.learning.precision import resolve_device
from isthmus.learning.stacking import LayerInputs
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.deep_energies import DBMEnergy
from isthmus.parts.likelihoods import likelihood_from
from isthmus.values.energy_methods import PCD
from isthmus.values.stages import Pretraining


@dataclass(kw_only=True, eq=False, repr=False)
class DeepBoltzmannMachine(Contrastive, BaseAutoencoder):
    r"""Deep Boltzmann machine: layers of units with one energy and undirected connections between neighbours.

        E(v, h_1 .. h_L) = -b_0' v - v' W_1' h_1 - sum_k h_k' W_(k+1)' h_(k+1) - sum_k b_k' h_k
        mu_k = sigma(b_k + W_k mu_(k-1) + W_(k+1)' mu_(k+1)),   code = mu_L

    The posterior of a layer depends on the layer above as well: the code is found by mean-field iterations up and down
    until convergence, so that the upper layers disambiguate the lower ones. The gradient is the difference of
    expectations under the mean-field posterior of the rows and under the model, which persistent chains sample. The
    initialisation decides whether the upper layers learn: by default each pair of neighbouring layers is first
    trained as an RBM, with the input of the missing neighbour counted twice; with `pretraining=None` all layers are
    trained together from the start, with centred gradients and, for the first half of the steps, samples of the hidden
    units in place of mean field.

    Args:
        hidden_sizes: units of each layer but the last, lowest first (`code_size` is the last); None takes one
            layer as wide as the code.
        pretraining: "greedy", or a value such as `Pretraining(epochs=20, learning_rate=0.05)`, whose default learning
            rate is that of an RBM of these units; None skips it.
        n_iterations: mean-field iterations, and Gibbs steps where the layers are trained together from the start.
        learning_rate: of the whole model; None takes the default of an RBM. With "sgd", the steps of weights above a
            hidden layer of more than 100 units are scaled by 100 / units.

    The other arguments are those of `Contrastive` (optimizer, and method, which is "pcd" or a value of `PCD`) and of
    `BaseAutoencoder`.

    Attributes:
        score_kind_: "bound" if log Z is known (enumerated, or after `estimate_log_partition`): `score_samples` is then
            a lower bound on log p(x); else "unnormalised", the same without log Z.
        log_partition_: log Z, if it is known.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 20.4; Salakhutdinov & Hinton, Deep Boltzmann
    machines (2009); Montavon & Mueller, Deep Boltzmann machines and the centering trick (2012).

    Example:
        >>> import numpy as np
        >>> from isthmus import DeepBoltzmannMachine
        >>> X = np.repeat(np.random.default_rng(0).random((100, 2)) < 0.5, 3, axis=1).astype(float)
        >>> model = DeepBoltzmannMachine(hidden_sizes=(5,), code_size=4, max_epochs=3, random_state=0).fit(X)
        >>> model.score_kind_, model.transform(X).shape, model.sample(5, random_state=0).shape
        ('bound', (100, 4), (5, 6))
        >>> [rates.shape for rates in model.marginals(X)]
        [(100, 5), (100, 4)]
    """

    hidden_sizes: Sequence[int] | None = None
    pretraining: Any = "greedy"
    n_iterations: int = 10

    kind: ClassVar[str] = "dbm"
    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "method": ("pcd",),
        "pretraining": ("greedy",),
    }
    overcomplete: ClassVar[bool] = True

    # -- construction -------------------------------------------------------------------------------

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        method, pretrained = self.value_of("method"), self._pretraining is not None
        if not isinstance(method, PCD):
            raise InputError(
                f"method={self.method!r}: a deep Boltzmann machine is trained with persistent chains, method='pcd'; "
                "contrastive divergence trains its layers one by one (pretraining='greedy')"
            )
        hidden_sizes = tuple(map(int, shape.resolved("hidden_sizes", self.hidden_sizes, (shape.code_size,))))
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        energy = DBMEnergy(likelihood, (*hidden_sizes, shape.code_size), generator=generator)
        options = self._contrast_options()
        del options["method"]
        objective = DBMObjective(energy, n_iterations=self.n_iterations, pretrained=pretrained, **options)
        layers: list[ContrastiveDivergence] = []
        if pretrained:
            layers = layer_objectives(energy, centred=method.centred, weight_decay=self._weight_decay)
        return Recipe(objective.coder, objective, tuple(layers), density=objective.density, hidden_sizes=hidden_sizes)

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        name, layers = self.likelihood_["name"], cast("tuple[ContrastiveDivergence, ...]", recipe.layers)
        whole = self._optimizer_config(training_config, name)
        below = LayerInputs([layer.coder for layer in layers], resolve_device(self.device))
        phases, stage = list[Phase](), cast(Pretraining, self._pretraining)
        for k, layer in enumerate(layers, 1):
            rate = default_learning_rate("bernoulli" if k > 1 else name)
            config = stage.configured(replace(whole, optimizer="sgd", learning_rate=rate))
            on_start = partial(take_bias, k=k) if k > 1 else None
            phases.append(Phase(f"layer {k} of {len(layers)}", layer, config, below.view(k - 1), on_start=on_start))
        return [*phases, Phase("all layers", recipe.objective, whole, on_start=join_layers if layers else None)]

    def _further_phases(
        self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator
    ) -> list[Phase]:
        cast(DBMObjective, recipe.objective).pretrained = True  # mean field from the first step
        return super()._further_phases(recipe, training_config, generator)

    def _with_new_weights(self, generator: torch.Generator) -> Recipe:
        together = copy.copy(self)
        together.pretraining = None
        return together._rebuilt(generator)

    @property
    def _pretraining(self) -> Pretraining | None:
        """The stage of the layers; None without it.

        Raises:
            InputError: another method than "greedy".
        """
        stage: Pretraining | None = self.value_of("pretraining")
        if stage is not None and stage.method != "greedy":
            raise InputError(
                f"pretraining={self.pretraining!r}: the layers of a deep Boltzmann machine are trained one by one; "
                "take 'greedy', or None"
            )
        return stage

    @property
    def _density(self) -> DBMDensity:
        return cast(DBMDensity, self.density_)

    # -- density, codes of every layer, classifier ---------------------------------------------------

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return a lower bound on log p(x) of each row, nats, in model space; without log Z if that is not known.

        Of a row with missing entries it bounds the log density of the observed entries.
        """
        return self._by_row(X, self._density.log_bound)

    def marginals(self, X: Any) -> list[Float[np.ndarray, "n units"]]:
        """Return the mean-field activation probabilities of every hidden layer, lowest first, (n, units) each.

        The last are the codes, except for the `encoder_` of a classifier, whose encoder was fine-tuned separately.
        """
        rows, density = self._rows(X), self._density
        blocks = [[mu[:n].cpu().numpy() for mu in density.marginals(batch)] for batch, n in self._padded(rows)]
        return [np.concatenate(layer) for layer in zip(*blocks, strict=True)]

    def to_classifier(self, **arguments: Any) -> CodeClassifier:
        """Return an unfitted classifier that starts from this model's codes and fine-tunes them.

        The upward pass is fine-tuned layer by layer, with the mean-field marginals of the layers above as additional
        inputs (Salakhutdinov & Hinton 2009, section 3.3). It has its own weights, initialised to the model's; the
        Boltzmann machine and its marginals stay as they are. Only with `reconstruction_weight` the model itself is
        trained on; the marginals follow it, without a gradient through the mean-field iterations.

        Args:
            arguments: of `CodeClassifier`, except `encoder`.
        """
        return CodeClassifier(encoder=self, **arguments)
