"""The stacked autoencoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from numpy.typing import ArrayLike
from torch import nn

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.labels import ClassLabels
from isthmus.estimators.rbm_layers import RBMLayers
from isthmus.estimators.records import Recipe, Shape
from isthmus.estimators.regularized import Regularization
from isthmus.estimators.value_arguments import SUCCESSORS
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
from isthmus.values.layers import Layer, RBMLayer
from isthmus.values.networks import perceptrons
from isthmus.values.stages import FineTuning, Pretraining


@dataclass(kw_only=True, eq=False, repr=False)
class StackedAutoencoder(BaseAutoencoder):
    r"""Stacked autoencoder: layers trained one after the other, each on the codes of the layer below.

        layer k:      J_k = E[ -log p_k(h_(k-1) | h_k) ] + Omega_k,   h_k = s(W_k h~_(k-1) + b_k),   h_0 = x
        fine-tuning:  J = E[ -log p_1(x | g_1(... g_L(h_L))) ]

    Each layer is a shallow problem, whose gradient does not pass through other layers. The trained layers are then
    unrolled (the encoders upwards, the decoders downwards) and fine-tuned together. A layer is any autoencoder of one
    layer: ordinary, denoising, sparse, contractive, or several of these at once. Alternatives to this greedy training:
    all layers at once, as one network with the regularisation of each layer (`pretraining="joint"`); each layer as the
    hidden layer of a classifier, whose output layer is then discarded (`pretraining="supervised"`, which needs the
    labels `y` in `fit`); all layers at the same time, each by its own criterion on the current codes of the layer below
    (`pretraining="together"`).

    A layer may also be a restricted Boltzmann machine (`layers="rbm"`), trained by contrastive divergence on the
    activation probabilities of the layer below, as in 2006. The RBMs are unrolled into an encoder and a decoder, which
    are initialised to the same weights and fine-tuned separately. `code_activation="linear"` gives the top RBM a linear
    code, as in the paper.

    Sigmoid codes are reconstructed under the cross-entropy, others under the squared error, by output units of their
    range. The codes of a layer are computed once: up to 256 MiB in memory, more in a temporary file. At most those of
    two layers are stored at a time.

    Args:
        layers: "ordinary", "denoising" (masking), "sparse" (L1), "contractive", "rbm"; or a value: `Layer`, whose
            regularisation applies to every layer and can be combined, as in
            `Layer(corruption=Masking(rate=0.5), sparsity="l1")`, or `RBMLayer`. RBMs use no regularisation, and
            `likelihood` chooses the visible units of the lowest one.
        pretraining: "greedy", "together", "joint" or "supervised"; or a value such as
            `Pretraining("greedy", epochs=20, learning_rate=1e-3)`. For RBMs one of the first two. None skips it.
        fine_tuning: training of the unrolled network, without regularisation: "auto" fine-tunes after "greedy" and
            "together" alone; or a value such as `FineTuning(epochs=50, learning_rate=1e-4)`. None skips it.
        hidden_sizes: units of each layer but the last, lowest first (`code_size` is the last); None takes two layers
            by the width of the data.
        code_activation: activation of the last layer; None takes the one of the sparsity, "sigmoid" without one. For
            RBMs "sigmoid", "linear" or "softplus".

    The other arguments are those of `BaseAutoencoder`. Time limit and patience are those of each phase, and
    `history_["pretraining"]` has the records of the phases before the last. RBMs are trained for all epochs, in fp32,
    by SGD with momentum .5 and a weight decay of 2e-4; `optimizer` is that of fine-tuning, and its clipping and
    averaging apply to RBMs too.

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
    """Methods of pretraining after which `fine_tuning="auto"` fine-tunes."""

    layers: Any = "ordinary"
    pretraining: Any = "greedy"
    fine_tuning: Any = "auto"
    hidden_sizes: Sequence[int] | None = None
    code_activation: str | None = None

    kind: ClassVar[str] = "stacked"
    successors: ClassVar[Mapping[str, str]] = {
        **{
            name: f"layers=Layer({successor})"
            for name, successor in SUCCESSORS.items()
            if successor.partition("=")[0] in Layer.nested
        },
        **{name: f"layers=Layer({name}=...)" for name in (*Layer.nested, "activation", "tied")},
        **dict.fromkeys(("method", "n_steps", "n_chains"), "layers=RBMLayer(method=CD(n_steps=...))"),
    }

    # -- construction -------------------------------------------------------------------------------

    @property
    def _layer_recipe(self) -> RBMLayers | ReconstructingLayers:
        """The part of the recipe that the kind of layer decides."""
        layer = self.value_of("layers")
        return RBMLayers(self, layer) if isinstance(layer, RBMLayer) else ReconstructingLayers(self, layer)

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        given = shape.resolved("hidden_sizes", self.hidden_sizes)
        hidden_sizes = tuple(default_hidden_sizes(shape.n_columns, shape.code_size) if given is None else given)
        return self._layer_recipe.build(shape, hidden_sizes, generator)

    def _stack(self, layers: list[Reconstruction]) -> Stack:
        """Build the criterion of the whole of layers that reconstruct."""
        return Stack(layers)

    @property
    def _pretraining(self) -> Pretraining | None:
        """The stage of the layers; None without it."""
        return cast("Pretraining | None", self.value_of("pretraining"))

    @property
    def _method(self) -> str:
        """The method of pretraining; "greedy" without it."""
        return "greedy" if self._pretraining is None else self._pretraining.method

    @property
    def _fine_tuning(self) -> FineTuning | None:
        """The stage of the whole; None without it."""
        is_left_out = self.fine_tuning == "auto" and self._method not in self._fine_tuned_after
        return None if is_left_out else self.value_of("fine_tuning")

    def _check(self) -> None:
        """Refuse arguments that a stack does not use."""
        if self.code_activation is not None:
            check_choice("code_activation", self.code_activation, tuple(ACTIVATIONS))
        self._layer_recipe.check()
        if self._pretraining is None and self._fine_tuning is None:
            raise InputError("pretraining=None without fine-tuning trains nothing; give one of the two")

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
            y: the class of each row, only for `pretraining="supervised"`.
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
    def _labels_setting(self) -> str:
        return "pretraining='supervised'" if self._method == "supervised" else ""

    def _encoded_labels(self, y: Any, n_rows: int) -> ClassLabels | None:
        encoded = super()._encoded_labels(y, n_rows)
        if encoded is not None:
            self._n_classes = len(encoded.classes)
        return encoded

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        view = LayerInputs([layer.coder for layer in recipe.layers], resolve_device(self.device)).view
        stage, fine_tuning = self._pretraining, self._fine_tuning
        phases: list[Phase] = []
        if stage is not None:
            phases = self._layer_phases(recipe, stage.configured(training_config), view, generator)
            phases[-1] = replace(phases[-1], on_end=self._layer_recipe.after_pretraining)
        if fine_tuning is not None:
            last = fine_tuning.configured(training_config)
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
        if self._method == "together":
            return [self._layer_recipe.together(layers, training_config)]
        if self._method == "joint":
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
        if self._fine_tuning is not None:
            return super()._further_phases(recipe, training_config, generator)
        return self._layer_recipe.further(recipe, self._phases(recipe, training_config, generator))

    def _whole_phase(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> Phase:
        stage = self.value_of("fine_tuning")
        return Phase("whole", recipe.objective, training_config if stage is None else stage.configured(training_config))

    @property
    def _no_partial_fit(self) -> str:
        if self.uses_labels:
            return (
                "pretraining='supervised' has no partial_fit: each layer learns from the labels, one after the other; "
                "use fit with warm_start=True, or pretraining='greedy'"
            )
        return self._layer_recipe.no_partial_fit

    @property
    def _epochs_argument(self) -> str:
        name = "pretraining" if self._fine_tuning is None else "fine_tuning"
        stage = self.value_of(name)
        return "max_epochs" if stage.epochs is None else f"{name}__epochs"

    def _layer_objective(self, layer: Reconstruction, n_units: int, generator: torch.Generator) -> Objective:
        """Return the objective of a layer."""
        if self._pretraining is None or self._method == "greedy":
            return layer
        head, loss = MLP((n_units, self._n_classes), generator=generator), cast(Loss, CrossEntropy())
        return SupervisedLayer(layer, head, loss, reconstruction_weight=self._pretraining.reconstruction_weight)

    @property
    def _fractions(self) -> str:
        """RBMs take values in [0, 1] for probabilities."""
        is_binary = self.likelihood == "auto" and isinstance(self._layer_recipe, RBMLayers)
        return "keep" if is_binary else super()._fractions

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        """Return the likelihood, as the layers can model it."""
        return self._layer_recipe.likelihood(super()._choose_likelihood(rows, validation_rows))

    def _notes(self, recipe: Recipe) -> list[str]:
        stage = self._pretraining
        decoder_untrained = (
            stage is not None
            and stage.method == "supervised"
            and stage.reconstruction_weight == 0
            and self._fine_tuning is None
        )
        note = "the decoder was not trained: the layers were trained on the labels alone (reconstruction_weight=0)"
        return [*super()._notes(recipe), *([note] if decoder_untrained else [])]


class ReconstructingLayers:
    """The recipe of a stack of layers that reconstruct their input.

    Args:
        model: the stacked autoencoder whose arguments apply.
        layer: the value of each layer.
    """

    no_partial_fit: ClassVar[str] = ""
    """The reason why there is no `partial_fit`."""

    def __init__(self, model: StackedAutoencoder, layer: Layer) -> None:
        self.model, self.layer, self.regularization = model, layer, Regularization.of(layer)

    def check(self) -> None:
        """Accept all arguments."""

    def likelihood(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration of p_dec unchanged."""
        return config

    def build(self, shape: Shape, hidden_sizes: tuple[int, ...], generator: torch.Generator) -> Recipe:
        """Build the layers, lowest first, and the whole of them."""
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        layers: list[Reconstruction] = []
        for n_inputs, n_units in pairwise((shape.n_columns, *hidden_sizes, shape.code_size)):
            top = len(layers) == len(hidden_sizes)
            activation = self.model.code_activation if top else self.layer.activation
            layers.append(self._build_layer(n_inputs, n_units, likelihood, activation, generator))
            if not top:
                likelihood = code_likelihood(layers[-1].coder.code_activation, n_units)
        stack = self.model._stack(layers)
        return Recipe(stack.coder, stack, tuple(layers), hidden_sizes=hidden_sizes)

    def _build_layer(
        self, n_inputs: int, n_units: int, likelihood: Likelihood, activation: str | None, generator: torch.Generator
    ) -> Reconstruction:
        """Build an autoencoder of one layer, initialised for its activation, with the regularisation of its code."""
        tied = likelihood.n_parameters == n_inputs if self.layer.tied is None else self.layer.tied
        pair = perceptrons(
            n_inputs, (), n_units, likelihood, tied=tied,
            code_activation=self.regularization.init_activation(activation),
            single_layer=self.model._pretraining is not None, generator=generator,
        )  # fmt: skip
        shape = Shape(n_inputs, n_units, None, likelihood.config())
        return self.regularization.objective(pair, likelihood, shape, activation)

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
