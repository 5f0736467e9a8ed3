"""Stacks of restricted Boltzmann machines: construction, training configuration, checks of arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Protocol

import torch

from isthmus.errors import InputError
from isthmus.estimators.contrastive import default_learning_rate, default_optimizer
from isthmus.estimators.records import Shape
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.trainer import TrainingConfig
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.layers import check_choice
from isthmus.parts.likelihoods import Bernoulli, likelihood_from

HIDDEN_UNITS = {"sigmoid": "bernoulli", "linear": "gaussian", "softplus": "rectified"}
"""Hidden units of the top RBM by the activation of the code."""

RBM_ARGUMENTS = ("method", "n_steps", "n_chains")
"""Arguments of a stack that only RBMs use."""

LEARNING_RATE = 0.1
"""Default of SGD for an RBM with binary units on both sides."""

MOMENTUM = 0.5

WEIGHT_DECAY = 2e-4
"""w of w/2 ||W||^2, as in Hinton, A practical guide to training RBMs (2010), section 10."""


def build_rbm_stack(
    shape: Shape, hidden_sizes: Sequence[int], code_activation: str, generator: torch.Generator, **options: Any
) -> list[ContrastiveDivergence]:
    """Initialise the RBMs of a stack, lowest first.

    Args:
        shape: of the data and the code.
        hidden_sizes: units of each RBM but the top one, lowest first.
        code_activation: a key of `HIDDEN_UNITS`; it names the top RBM's hidden units.
        generator: of the weights.
        options: method, n_steps and n_chains of `ContrastiveDivergence`.
    """
    likelihood, layers = likelihood_from(shape.likelihood, shape.n_columns), list[ContrastiveDivergence]()
    for n_inputs, n_units in pairwise((shape.n_columns, *hidden_sizes, shape.code_size)):
        top = len(layers) == len(hidden_sizes)
        rbm = RBMEnergy(
            Bernoulli(n_inputs) if layers else likelihood, n_units,
            hidden=HIDDEN_UNITS[code_activation] if top else "bernoulli", generator=generator,
        )  # fmt: skip
        layers.append(ContrastiveDivergence(rbm, weight_decay=WEIGHT_DECAY, **options))
    return layers


def learning_rate_factor(layer: ContrastiveDivergence) -> float:
    """Return the learning rate of an RBM relative to one with binary units; real units need smaller steps.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbm = RBMEnergy(Bernoulli(4), 2, hidden="gaussian", generator=generator)
        >>> round(learning_rate_factor(ContrastiveDivergence(rbm)), 3)
        0.05
    """
    return default_learning_rate(layer.rbm.likelihood.name, layer.rbm.hidden) / LEARNING_RATE


def rbm_training_config(
    training_config: TrainingConfig, learning_rate: float | None, share: float = 1.0, optimizer: str = "sgd"
) -> TrainingConfig:
    """Return the configuration of an RBM: SGD in fp32, since the gradient is a small difference of two large sums,
    and without early stopping, since the monitored quantity is not the likelihood."""
    return replace(
        training_config, optimizer=optimizer, momentum=MOMENTUM, weight_decay=0.0, precision="fp32", patience=None,
        learning_rate=share * (learning_rate or LEARNING_RATE),
    )  # fmt: skip


def layer_training_config(
    layer: ContrastiveDivergence, training_config: TrainingConfig, learning_rate: float | None
) -> TrainingConfig:
    """Return the configuration of an RBM that is trained alone."""
    return rbm_training_config(
        training_config, learning_rate, learning_rate_factor(layer), default_optimizer(layer.rbm.likelihood.name)
    )


class StackArguments(Protocol):
    """The arguments of a stack that its RBMs restrict."""

    training: str
    corruption: Any
    sparsity: str | None
    contraction_weight: float
    tied: bool | None
    activation: str | None
    code_activation: str | None
    pretraining_epochs: int | None


def check_rbm_arguments(model: StackArguments) -> None:
    """Refuse arguments that RBM layers do not use.

    Raises:
        InputError: another training, a regularisation, another activation, shared weights, no epochs.
    """
    if model.training not in ("greedy", "together"):
        raise InputError(
            f"training={model.training!r} is for layers that reconstruct, and layers='rbm' are not trained so; take "
            "'greedy' or 'together'"
        )
    asked = {"corruption": model.corruption, "sparsity": model.sparsity, "contraction_weight": model.contraction_weight}
    for name, value in asked.items():
        if value:
            raise InputError(
                f"{name}={value!r} is for layers that reconstruct, and layers='rbm' are not trained so; leave it out, "
                "or take layers='ordinary' with it"
            )
    if model.tied:
        raise InputError(
            "tied=True: RBMs are unrolled into an encoder and a decoder with separate weights; leave it out"
        )
    if model.activation not in (None, "sigmoid"):
        raise InputError(
            f"activation={model.activation!r}: the hidden units of RBM layers are binary; leave it out, or take "
            "'sigmoid'"
        )
    if model.code_activation is not None:
        check_choice("code_activation", model.code_activation, tuple(HIDDEN_UNITS))
    if model.pretraining_epochs == 0:
        raise InputError(
            "pretraining_epochs=0 leaves RBMs at their small initial weights, from which a deep network does not "
            "train; give a number of epochs, or take layers='ordinary'"
        )
