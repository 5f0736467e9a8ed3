"""The recipe of stacks of restricted Boltzmann machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Protocol, cast

import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.estimators.contrastive import (
    MOMENTUM,
    WEIGHT_DECAY,
    default_learning_rate,
    default_optimizer,
    nearest_visible_units,
)
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
from isthmus.values.energy_methods import METHOD
from isthmus.values.layers import RBMLayer
from isthmus.values.stages import Pretraining

HIDDEN_UNITS = {"sigmoid": "bernoulli", "linear": "gaussian", "softplus": "rectified"}
"""Hidden units of the top RBM by the activation of the code."""

LEARNING_RATE = 0.1
"""Default of SGD for an RBM with binary units on both sides."""


class StackArguments(Protocol):
    """The arguments of a stack that its RBMs use."""

    likelihood: str | dict[str, str]
    code_activation: str | None

    @property
    def _pretraining(self) -> Pretraining | None: ...


class RBMLayers:
    """The recipe of a stack of RBMs: trained by contrastive divergence, unrolled, and fine-tuned.

    Args:
        model: the stacked autoencoder whose arguments apply.
        layer: the value of each layer.
    """

    no_partial_fit: ClassVar[str] = (
        "layers='rbm' has no partial_fit: RBMs are trained one after the other, before they are unrolled; use fit with "
        "warm_start=True, or layers='ordinary'"
    )
    """The reason why there is no `partial_fit`."""

    def __init__(self, model: StackArguments, layer: RBMLayer) -> None:
        self.model, self.method = model, METHOD.expanded(layer.method)

    def check(self) -> None:
        """Refuse arguments that RBM layers do not use.

        Raises:
            InputError: no pretraining, or another one than greedy and together; another activation.
        """
        stage = self.model._pretraining
        if stage is None:
            raise InputError(
                "pretraining=None leaves RBMs at their small initial weights, from which a deep network does not "
                "train; give 'greedy', or take layers='ordinary'"
            )
        if stage.method not in ("greedy", "together"):
            raise InputError(
                f"pretraining={stage.method!r} is for layers that reconstruct, and RBMs are not trained so; take "
                "'greedy' or 'together'"
            )
        if self.model.code_activation is not None:
            check_choice("code_activation", self.model.code_activation, tuple(HIDDEN_UNITS))

    @property
    def _stage(self) -> Pretraining:
        """The stage of the layers, which `check` requires."""
        return cast(Pretraining, self.model._pretraining)

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
            layer = ContrastiveDivergence(rbm, weight_decay=WEIGHT_DECAY, **self.method.options)
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
            learning_rate=factor * (self._stage.learning_rate or LEARNING_RATE),
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
