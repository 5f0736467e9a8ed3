"""The recipe of stacks of restricted Boltzmann machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.estimators.contrastive import default_learning_rate, default_optimizer, nearest_visible_units
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.phases import Phase
from isthmus.learning.stacking import SimultaneousLayers
from isthmus.learning.training_config import TrainingConfig
from isthmus.learning.unrolling import unroll, unrolled_coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.layers import check_choice
from isthmus.parts.likelihoods import Bernoulli, likelihood_from

HIDDEN_UNITS = {"sigmoid": "bernoulli", "linear": "gaussian", "softplus": "rectified"}
"""Hidden units of the top RBM by the activation of the code."""

LEARNING_RATE = 0.1
"""Default of SGD for an RBM with binary units on both sides."""

MOMENTUM = 0.5

WEIGHT_DECAY = 2e-4
"""w of w/2 ||W||^2, as in Hinton, A practical guide to training RBMs (2010), section 10."""


class StackArguments(Protocol):
    """The arguments of a stack that its RBMs use or restrict."""

    likelihood: str | dict[str, str]
    training: str
    corruption: Any
    sparsity: str | None
    contraction_weight: float
    tied: bool | None
    activation: str | None
    code_activation: str | None
    pretraining_epochs: int | None
    pretraining_learning_rate: float | None
    method: str
    n_steps: int | Sequence[int]
    n_chains: int


class RBMLayers:
    """The recipe of a stack of RBMs: trained by contrastive divergence, unrolled, and fine-tuned.

    Args:
        model: the stacked autoencoder whose arguments apply.
    """

    unused_arguments: ClassVar[dict[str, str]] = {}
    """Arguments that these layers do not use, and what they apply to."""

    no_partial_fit: ClassVar[str] = (
        "layers='rbm' has no partial_fit: RBMs are trained one after the other, before they are unrolled; use fit with "
        "warm_start=True, or layers='ordinary'"
    )
    """The reason why there is no `partial_fit`."""

    def __init__(self, model: StackArguments) -> None:
        self.model = model

    def check(self) -> None:
        """Refuse arguments that RBM layers do not use.

        Raises:
            InputError: another training, a regularisation, another activation, shared weights, no epochs.
        """
        model = self.model
        if model.training not in ("greedy", "together"):
            raise InputError(
                f"training={model.training!r} is for layers that reconstruct, and layers='rbm' are not trained so; "
                "take 'greedy' or 'together'"
            )
        for name in ("corruption", "sparsity", "contraction_weight"):
            value = getattr(model, name)
            if value:
                raise InputError(
                    f"{name}={value!r} is for layers that reconstruct, and layers='rbm' are not trained so; leave it "
                    "out, or take layers='ordinary' with it"
                )
        if model.tied:
            raise InputError(
                "tied=True: RBMs are unrolled into an encoder and a decoder with separate weights; leave it out"
            )
        if model.activation not in (None, "sigmoid"):
            raise InputError(
                f"activation={model.activation!r}: the hidden units of RBM layers are binary; leave it out, or "
                "take 'sigmoid'"
            )
        if model.code_activation is not None:
            check_choice("code_activation", model.code_activation, tuple(HIDDEN_UNITS))
        if model.pretraining_epochs == 0:
            raise InputError(
                "pretraining_epochs=0 leaves RBMs at their small initial weights, from which a deep network does not "
                "train; give a number of epochs, or take layers='ordinary'"
            )

    def likelihood(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration of p_dec; that of "auto" is replaced by the nearest visible units."""
        return nearest_visible_units(config) if self.model.likelihood == "auto" else config

    def build(self, shape: Shape, hidden_sizes: tuple[int, ...], generator: torch.Generator) -> Recipe:
        """Build the RBMs and the autoencoder that they are unrolled into.

        Args:
            shape: of the data and the code.
            hidden_sizes: units of each RBM but the top one, lowest first.
            generator: of the weights.
        """
        model, likelihood = self.model, likelihood_from(shape.likelihood, shape.n_columns)
        layers: list[ContrastiveDivergence] = []
        for n_inputs, n_units in pairwise((shape.n_columns, *hidden_sizes, shape.code_size)):
            top = len(layers) == len(hidden_sizes)
            rbm = RBMEnergy(
                Bernoulli(n_inputs) if layers else likelihood, n_units,
                hidden=HIDDEN_UNITS[model.code_activation or "sigmoid"] if top else "bernoulli", generator=generator,
            )  # fmt: skip
            layer = ContrastiveDivergence(
                rbm, weight_decay=WEIGHT_DECAY, method=model.method, n_steps=model.n_steps, n_chains=model.n_chains
            )
            layers.append(layer)
        coder = unrolled_coder([layer.coder for layer in layers])
        return Recipe(coder, Reconstruction(coder), tuple(layers), hidden_sizes=hidden_sizes)

    def training_config(self, layer: ContrastiveDivergence, training_config: TrainingConfig) -> TrainingConfig:
        """Return the configuration of an RBM that is trained alone."""
        optimizer = default_optimizer(layer.rbm.likelihood.name)
        return self._rbm_config(training_config, learning_rate_factor(layer), optimizer)

    def together(self, layers: Sequence[ContrastiveDivergence], training_config: TrainingConfig) -> Phase:
        """Return the phase in which every RBM is trained on the current codes of the one below."""
        objective = SimultaneousLayers(layers, [learning_rate_factor(layer) for layer in layers])
        return Phase("together", objective, self._rbm_config(training_config))

    def further(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Phase]:
        """Return the phases of RBMs that are trained already."""
        return further_layers(phases, recipe.layers)

    def after_pretraining(self, whole: nn.Module) -> None:
        """Copy the weights of the trained RBMs to the decoder."""
        unroll(whole)

    def _rbm_config(
        self, training_config: TrainingConfig, factor: float = 1.0, optimizer: str = "sgd"
    ) -> TrainingConfig:
        """Return the configuration of RBMs: SGD in fp32, since the gradient is a small difference of two large sums,
        and without early stopping, since the monitored quantity is not the likelihood."""
        return replace(
            training_config, optimizer=optimizer, momentum=MOMENTUM, weight_decay=0.0, precision="fp32", patience=None,
            learning_rate=factor * (self.model.pretraining_learning_rate or LEARNING_RATE),
        )  # fmt: skip


def further_layers(phases: Sequence[Phase], layers: Sequence[ContrastiveDivergence], *, kept: int = 0) -> list[Phase]:
    """Return the phases of RBMs that are trained already: biases stay, and new chains start at the rows.

    Args:
        phases: the phases of the layers.
        layers: the RBMs, lowest first.
        kept: the number of top layers whose chains are a part of the fitted model; they go on.
    """
    for layer in layers:
        layer.starts_biases = False
    first_kept = len(phases) - kept
    return [replace(phase, on_start=None, initialize=k < first_kept) for k, phase in enumerate(phases)]


def learning_rate_factor(layer: ContrastiveDivergence) -> float:
    """Return the learning rate of an RBM relative to one with binary units; real units need smaller steps.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbm = RBMEnergy(Bernoulli(4), 2, hidden="gaussian", generator=generator)
        >>> round(learning_rate_factor(ContrastiveDivergence(rbm)), 3)
        0.05
    """
    return default_learning_rate(layer.rbm.likelihood.name, layer.rbm.hidden) / LEARNING_RATE
