"""The stacked autoencoder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from isthmus.data.streams import LabelledRows
from isthmus.errors import InputError
from isthmus.estimators import inputs
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.labels import ClassLabels, refuse_missing, validate_labels
from isthmus.estimators.networks import perceptrons
from isthmus.estimators.rbm_layers import RBMLayers
from isthmus.estimators.records import Recipe, Shape
from isthmus.estimators.regularized import Regularization
from isthmus.learning.contrastive_divergence import METHODS
from isthmus.learning.objectives import Objective, Reconstruction
from isthmus.learning.phases import Phase
from isthmus.learning.precision import resolve_device
from isthmus.learning.rows import Rows
from isthmus.learning.stacking import JointStack, LayerInputs, SimultaneousLayers, Stack, SupervisedLayer
from isthmus.learning.supervision import CrossEntropy, Loss
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.code_likelihoods import code_likelihood
from isthmus.parts.layers import ACTIVATIONS, check_choice
from isthmus.parts.likelihoods import Likelihood, likelihood_from
from isthmus.parts.networks import MLP, default_hidden_sizes

LAYERS: dict[str, dict[str, Any]] = {
    "ordinary": {},
    "denoising": {"corruption": "masking"},
    "sparse": {"sparsity": "l1"},
    "contractive": {"contraction_weight": 0.1},
    "rbm": {},
}
"""The kinds of layer, each with its default of an argument that is None or 0."""

TRAININGS = ("greedy", "together", "joint", "supervised")


@dataclass(kw_only=True, eq=False, repr=False)
class StackedAutoencoder(Regularization, BaseAutoencoder):
    r"""Stacked autoencoder: layers trained one after the other, each on the codes of the layer below.

        layer k:      J_k = E[ -log p_k(h_(k-1) | h_k) ] + Omega_k,   h_k = s(W_k h~_(k-1) + b_k),   h_0 = x
        fine-tuning:  J = E[ -log p_1(x | g_1(... g_L(h_L))) ]

    Each layer is a shallow problem, whose gradient does not pass through other layers. The trained layers are then
    unrolled (the encoders upwards, the decoders downwards) and fine-tuned together. A layer is any autoencoder of one
    layer: ordinary, denoising, sparse, contractive, or several of these at once. Alternatives to this greedy training:
    all layers at once, as one network with the regularisation of each layer (`training="joint"`); each layer as the
    hidden layer of a classifier, whose output layer is then discarded (`training="supervised"`, which needs the labels
    `y` in `fit`); all layers at the same time, each by its own criterion on the current codes of the layer below
    (`training="together"`).

    A layer may also be a restricted Boltzmann machine (`layers="rbm"`), trained by contrastive divergence on the
    activation probabilities of the layer below, as in 2006. The RBMs are unrolled into an encoder and a decoder, which
    are initialised to the same weights and fine-tuned separately. `code_activation="linear"` gives the top RBM a linear
    code, as in the paper.

    Sigmoid codes are reconstructed under the cross-entropy, others under the squared error, by output units of their
    range. The codes of a layer are computed once: up to 256 MiB in memory, more in a temporary file. At most those of
    two layers are stored at a time.

    Args:
        layers: "ordinary", "denoising" (masking), "sparse" (L1) or "contractive" (weight 0.1) set the defaults of the
            arguments of `Regularization`, which apply to every layer and can be combined. "rbm" uses none of them; its
            `likelihood` chooses the visible units of the lowest RBM.
        training: "greedy", "together", "joint" or "supervised"; for RBMs one of the first two.
        hidden_sizes: units of each layer but the last, lowest first (`code_size` is the last); None takes two layers
            by the width of the data.
        activation: activation of each layer but the last: "sigmoid", "tanh", "relu", "softplus" or "linear"; None
            takes the one of the sparsity, "sigmoid" without one.
        code_activation: activation of the last layer; None as for `activation`. For RBMs "sigmoid", "linear" or
            "softplus".
        tied: each layer's decoder uses its encoder's transposed weights; None does so if the likelihood has one
            parameter per column.
        pretraining_epochs: epochs of each layer (in joint training of all layers); None is `max_epochs`, 0 skips the
            first stage.
        pretraining_learning_rate: None is `learning_rate`. For RBMs it is the rate of SGD with binary units, None is
            .1; RBMs with real units take a twentieth of it.
        fine_tuning_epochs: epochs of the unrolled network, without regularisation; 0 skips them. None is `max_epochs`
            after "greedy" and "together", 0 after the others.
        fine_tuning_learning_rate: None is `learning_rate`.
        reconstruction_weight: weight of a layer's reconstruction in supervised training, added to the loss of the
            labels. The regularisation of the layer applies for any weight.
        method, n_steps, n_chains: for RBMs: "cd" (contrastive divergence) or "pcd" (persistent chains), Gibbs steps per
            training step, and number of persistent chains.

    The other arguments are those of `Regularization` and `BaseAutoencoder`. Time limit and patience are those of each
    phase, and `history_["pretraining"]` has the records of the phases before the last. RBMs are trained for all epochs,
    in fp32, with momentum and a weight decay of 2e-4.

    Raises:
        InputError: at `fit`, for invalid arguments, rows or labels.

    Source: Bengio, Lamblin, Popovici & Larochelle, Greedy layer-wise training of deep networks (2007); Vincent et al.,
    Stacked denoising autoencoders (2010); Hinton & Salakhutdinov, Reducing the dimensionality of data with neural
    networks (2006); Zhou et al., Is joint training better for deep auto-encoders? (2014); DL
    book, sections 14.3 and 15.1.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from isthmus import StackedAutoencoder
        >>> X = load_digits().data[:200]
        >>> model = StackedAutoencoder(
        ...     layers="denoising", hidden_sizes=(32,), code_size=8, max_epochs=3, random_state=0).fit(X)
        >>> [record["name"] for record in model.history_["pretraining"]], model.history_["name"]
        (['layer 1 of 2', 'layer 2 of 2'], 'fine-tuning')
    """

    _fine_tuned_after: ClassVar[tuple[str, ...]] = ("greedy", "together")
    """Values of `training` after which the network is fine-tuned by default."""

    layers: str = "ordinary"
    training: str = "greedy"
    hidden_sizes: Sequence[int] | None = None
    activation: str | None = None
    code_activation: str | None = None
    tied: bool | None = None
    pretraining_epochs: int | None = None
    pretraining_learning_rate: float | None = None
    fine_tuning_epochs: int | None = None
    fine_tuning_learning_rate: float | None = None
    reconstruction_weight: float = 0.0
    method: str = "cd"
    n_steps: int | Sequence[int] = 1
    n_chains: int = 100

    kind: ClassVar[str] = "stacked"

    # -- construction -------------------------------------------------------------------------------

    @property
    def _layer_recipe(self) -> RBMLayers | ReconstructingLayers:
        """The part of the recipe that the kind of layer decides."""
        return RBMLayers(self) if self.layers == "rbm" else ReconstructingLayers(self)

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        given = shape.resolved("hidden_sizes", self.hidden_sizes)
        hidden_sizes = tuple(default_hidden_sizes(shape.n_columns, shape.code_size) if given is None else given)
        return self._layer_recipe.build(shape, hidden_sizes, generator)

    def _build_layers(
        self, shape: Shape, hidden_sizes: tuple[int, ...], generator: torch.Generator
    ) -> list[Reconstruction]:
        """Build the criteria of layers that reconstruct, lowest first."""
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        layers: list[Reconstruction] = []
        for n_inputs, n_units in pairwise((shape.n_columns, *hidden_sizes, shape.code_size)):
            top = len(layers) == len(hidden_sizes)
            activation = self.code_activation if top else self.activation
            layers.append(self._build_layer(n_inputs, n_units, likelihood, activation, generator))
            if not top:
                likelihood = code_likelihood(layers[-1].coder.code_activation, n_units)
        return layers

    def _stack(self, layers: list[Reconstruction]) -> Stack:
        """Build the criterion of the whole of layers that reconstruct."""
        return Stack(layers)

    def _with_layer_defaults(self) -> StackedAutoencoder:
        """Return a copy with the defaults of the kind of layer."""
        self._check()
        filled = copy.copy(self)
        for name, value in LAYERS[self.layers].items():
            setattr(filled, name, getattr(self, name) or value)
        return filled

    def _build_layer(
        self, n_inputs: int, n_units: int, likelihood: Likelihood, activation: str | None, generator: torch.Generator
    ) -> Reconstruction:
        """Build an autoencoder of one layer, initialised for its activation, with the regularisation of its code."""
        tied = likelihood.n_parameters == n_inputs if self.tied is None else self.tied
        pair = perceptrons(
            n_inputs, (), n_units, likelihood, tied=tied, code_activation=self._init_activation(activation),
            single_layer=self.pretraining_epochs != 0, generator=generator,
        )  # fmt: skip
        shape = Shape(n_inputs, n_units, None, likelihood.config())
        return self._build_reconstruction(pair, likelihood, shape, self._corruption(shape), activation)

    def _check(self) -> None:
        """Refuse arguments that a stack does not use."""
        check_choice("layers", self.layers, tuple(LAYERS))
        check_choice("training", self.training, TRAININGS)
        check_choice("method", self.method, METHODS)
        for name in ("activation", "code_activation"):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name), tuple(ACTIVATIONS))
        self._layer_recipe.check()
        self._check_unused_arguments()
        if self.corruption in ("groups", "missing"):
            raise InputError(
                f"corruption={self.corruption!r} has no meaning for codes, the input of the upper layers; take "
                "'masking', 'salt-and-pepper' or 'gaussian' in a stack"
            )
        if self.corruption_groups is not None:
            raise InputError("corruption_groups name columns, which the codes of upper layers are not; leave them out")
        if self.pretraining_epochs == 0 and self._fine_tuning_epochs(1) == 0:
            raise InputError("pretraining_epochs=0 without fine-tuning trains nothing; give epochs to one of the two")

    def _check_unused_arguments(self) -> None:
        """Refuse arguments that the layers do not use, and `reconstruction_weight` without supervised training."""
        unused = dict(self._layer_recipe.unused_arguments)
        if self.training != "supervised":
            unused["reconstruction_weight"] = "supervised training (training='supervised')"
        for name, of in unused.items():
            value = getattr(self, name)
            if value != getattr(type(self), name):
                raise InputError(f"{name}={value!r} applies only to {of}; leave it out")

    # -- training -----------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        validation: Any = None,
        **checkpoint_options: Any,
    ) -> StackedAutoencoder:
        """Train the layers on `X`, then the whole network.

        Args:
            X: rows, as in `BaseAutoencoder.fit`.
            y: the class of each row, only for `training="supervised"`.
            sample_weight: weight of each row, (n,), in every layer; see `BaseAutoencoder.fit`.
            validation: validation rows in place of a fraction of `X`; (rows, classes) in supervised training.
            checkpoint_options: checkpoint, checkpoint_every and resume: see `BaseAutoencoder.fit`.

        Returns:
            The estimator itself.

        Raises:
            InputError: invalid rows, labels or arguments, in one line.
        """
        super().fit(X, y, sample_weight=sample_weight, validation=validation, **checkpoint_options)
        return self

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._check()

    @property
    def uses_labels(self) -> bool:
        """True if `fit` uses `y`, that is, in supervised training."""
        return self.training == "supervised"

    def _encoded_labels(self, y: Any, n_rows: int) -> ClassLabels | None:
        if not self.uses_labels:
            return None
        encoded = y if isinstance(y, ClassLabels) else self._class_labels(y, n_rows)
        self._n_classes = len(encoded.classes)
        return encoded

    def _class_labels(self, y: Any, n_rows: int, classes: np.ndarray | None = None) -> ClassLabels:
        """Encode the labels of a user; every row must have one."""
        y = validate_labels(self, y, n_rows)
        refuse_missing(y)
        return ClassLabels.from_values(y, classes)

    def _split_validation(
        self, rows: Rows, labels: ClassLabels | None, validation: Any, generator: torch.Generator
    ) -> tuple[Rows, Rows | None]:
        if labels is None:
            return super()._split_validation(rows, None, validation, generator)
        labelled = LabelledRows(rows, labels.numbers)
        if validation is None:
            return super()._split_validation(labelled, labels, None, generator)
        if not (isinstance(validation, tuple) and len(validation) == 2):
            raise InputError("training='supervised' validates on labels too; give validation=(rows, classes)")
        X, y = validation
        validation_rows = self.preprocessing_.rows(inputs.validate_input(self, X, reset=False))
        encoded = self._class_labels(y, len(validation_rows), labels.classes)
        return labelled, LabelledRows(validation_rows, encoded.numbers)

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        view = LayerInputs([layer.coder for layer in recipe.layers], resolve_device(self.device)).view
        first = _stage_config(training_config, self.pretraining_epochs, self.pretraining_learning_rate)
        phases = self._layer_phases(recipe, first, view, generator) if first.max_epochs else []
        if phases:
            phases[-1] = replace(phases[-1], on_end=self._layer_recipe.after_pretraining)
        last = _stage_config(
            training_config, self._fine_tuning_epochs(training_config.max_epochs), self.fine_tuning_learning_rate
        )
        if last.max_epochs:
            phases.append(Phase("fine-tuning", recipe.objective, last, view(0), initialize=not phases))
        return phases

    def _layer_phases(
        self,
        recipe: Recipe,
        training_config: TrainingConfig,
        view: Callable[[int], Callable[[Rows], Rows]],
        generator: torch.Generator,
    ) -> list[Phase]:
        """Return the phases before fine-tuning, in which the layers are trained."""
        layers = recipe.layers
        if self.training == "together":
            return [self._layer_recipe.together(layers, training_config)]
        if self.training == "joint":
            return [Phase("joint", JointStack(layers, recipe.coder), training_config)]
        sizes = (*self.hidden_sizes_, self.code_size_)
        return [
            Phase(
                f"layer {k} of {len(layers)}", self._layer_objective(layer, size, generator),
                self._layer_recipe.training_config(layer, training_config), view(k - 1),
            )
            for k, (layer, size) in enumerate(zip(layers, sizes, strict=True), 1)
        ]  # fmt: skip

    def _further_phases(
        self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator
    ) -> list[Phase]:
        """Return fine-tuning, or without it the phases of the layers again, from their weights."""
        if self._fine_tuning_epochs(1):
            return super()._further_phases(recipe, training_config, generator)
        return self._layer_recipe.further(recipe, self._phases(recipe, training_config, generator))

    def _whole_phase(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> Phase:
        config = _stage_config(training_config, None, self.fine_tuning_learning_rate)
        return Phase("whole", recipe.objective, config)

    @property
    def _no_partial_fit(self) -> str:
        if self.uses_labels:
            return (
                "training='supervised' has no partial_fit: each layer learns from the labels, one after the other; use "
                "fit with warm_start=True, or training='greedy'"
            )
        return self._layer_recipe.no_partial_fit

    def _fine_tuning_epochs(self, default_epochs: int) -> int:
        """Return the number of fine-tuning epochs; `default_epochs` if it is not given and training fine-tunes."""
        if self.fine_tuning_epochs is None:
            return default_epochs if self.training in self._fine_tuned_after else 0
        return self.fine_tuning_epochs

    @property
    def _epochs_argument(self) -> str:
        name = "fine_tuning_epochs" if self._fine_tuning_epochs(1) else "pretraining_epochs"
        return name if getattr(self, name) is not None else "max_epochs"

    def _layer_objective(self, layer: Reconstruction, n_units: int, generator: torch.Generator) -> Objective:
        """Return the objective of a layer."""
        if self.training == "greedy":
            return layer
        head, loss = MLP((n_units, self._n_classes), generator=generator), cast(Loss, CrossEntropy())
        return SupervisedLayer(layer, head, loss, reconstruction_weight=self.reconstruction_weight)

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        """Return the likelihood, as the layers can model it."""
        return self._layer_recipe.likelihood(super()._choose_likelihood(rows, validation_rows))

    def _notes(self, recipe: Recipe) -> list[str]:
        decoder_untrained = (
            self.training == "supervised" and self.reconstruction_weight == 0 and self._fine_tuning_epochs(1) == 0
        )
        note = "the decoder was not trained: the layers were trained on the labels alone (reconstruction_weight=0)"
        return [*super()._notes(recipe), *([note] if decoder_untrained else [])]


def _stage_config(
    training_config: TrainingConfig, max_epochs: int | None, learning_rate: float | None
) -> TrainingConfig:
    """Return the training configuration with the epochs and the learning rate of a stage."""
    return replace(
        training_config,
        max_epochs=training_config.max_epochs if max_epochs is None else max_epochs,
        learning_rate=learning_rate or training_config.learning_rate,
    )


class ReconstructingLayers:
    """The recipe of a stack of layers that reconstruct their input.

    Args:
        model: the stacked autoencoder whose arguments apply.
    """

    unused_arguments: ClassVar[dict[str, str]] = dict.fromkeys(("method", "n_steps", "n_chains"), "RBMs (layers='rbm')")
    """Arguments that these layers do not use, and what they apply to."""

    no_partial_fit: ClassVar[str] = ""
    """The reason why there is no `partial_fit`."""

    def __init__(self, model: StackedAutoencoder) -> None:
        self.model = model

    def check(self) -> None:
        """Accept all arguments."""

    def likelihood(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration of p_dec unchanged."""
        return config

    def build(self, shape: Shape, hidden_sizes: tuple[int, ...], generator: torch.Generator) -> Recipe:
        """Build the layers, with the defaults of their kind, and the whole of them."""
        layers = self.model._with_layer_defaults()._build_layers(shape, hidden_sizes, generator)
        stack = self.model._stack(layers)
        return Recipe(stack.coder, stack, tuple(layers), hidden_sizes=hidden_sizes)

    def training_config(self, layer: Reconstruction, training_config: TrainingConfig) -> TrainingConfig:
        """Return the configuration of a layer that is trained alone."""
        return training_config

    def together(self, layers: Sequence[Reconstruction], training_config: TrainingConfig) -> Phase:
        """Return the phase in which every layer is trained on the current codes of the layer below."""
        return Phase("together", SimultaneousLayers(layers), training_config)

    def further(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Phase]:
        """Return the phases of layers that are trained already."""
        return [replace(phase, initialize=False) for phase in phases]

    def after_pretraining(self, whole: nn.Module) -> None:
        """Do nothing: the whole shares the weights of its layers."""
