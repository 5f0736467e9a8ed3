"""The autoencoder that learns by recirculation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.networks import perceptrons
from isthmus.estimators.records import Shape
from isthmus.learning.phases import Phase
from isthmus.learning.recirculation import Recirculation
from isthmus.learning.trainer import OPTIMIZERS, TrainingConfig
from isthmus.parts.layers import check_choice
from isthmus.parts.likelihoods import likelihood_from

LARGEST_STEP = 0.3
"""Of plain steps, by the gradient that the rule stands for."""


@dataclass(kw_only=True, eq=False, repr=False)
class RecirculationAutoencoder(BaseAutoencoder):
    r"""The autoencoder that learns without back-propagation: a row goes around the loop twice, and units note changes.

        first pass:    h_1 = s(W x + b),             r   = mean of p_dec(. | V h_1 + c)
        second pass:   x_2 = l x + (1 - l) r,        h_3 = s(W x_2 + b)
        learning:      dV ~ (x - x_2) h_1',   dW ~ (h_1 - h_3) x_2'

    Each weight changes by what its two ends do: the activity before it, and by how much the activity after it differs
    between the passes. No error is carried back through weights, which made the rule a candidate for what brains could
    do, and the ancestor of contrastive Hebbian learning and of contrastive divergence. It follows the gradient of the
    reconstruction error where the two passes are near each other (l near 1) and W and V' alike: on small problems
    learning brings that about and the error is back-propagation's; on digits it does not, and the error stays well
    above (`python -m experiments recirculation`). `tied=True` makes them alike from the start.

    There is one layer of hidden units. Plain steps with momentum are how the rule is stated.

    Args:
        regression: l, how much of the row stays in the second pass; nearer 1 is nearer the gradient, and takes
            smaller steps (the default learning rate makes up for that).
        code_activation: s, "sigmoid", "tanh", "relu", "softplus" or "linear".
        tied: V = W', one set of weights that both rules change.
        optimizer: "sgd" (plain steps, as the rule is stated) or "adamw".
        momentum: of "sgd".
        learning_rate: the largest of the schedule; None takes min(.3, 4 / code_size) / (1 - l) for "sgd", and .002 for
            "adamw".
        weight_decay: of "sgd" the weight of 1/2 ||theta||^2; what W and V' began with fades by it.
        precision: "fp32" by default: the rule is made of small differences.

    The other arguments are those of every kind: see `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for arguments or rows that cannot be used, in one line.

    Source: Hinton & McClelland, Learning representations by recirculation (1988).

    Example:
        >>> import numpy as np
        >>> from isthmus import RecirculationAutoencoder
        >>> X = np.repeat(np.eye(4), 50, axis=0)
        >>> model = RecirculationAutoencoder(code_size=2, max_epochs=100, random_state=0).fit(X)
        >>> np.rint(model.reconstruct(np.eye(4))).astype(int).tolist()
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    """

    regression: float = 0.75
    code_activation: str = "sigmoid"
    tied: bool = False
    optimizer: str = "sgd"
    momentum: float = 0.9
    learning_rate: float | None = None  # type: ignore[assignment]
    precision: str = "fp32"

    kind: ClassVar[str] = "recirculation"

    def _build_objective(self, shape: Shape, generator: torch.Generator) -> Recirculation:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        pair = perceptrons(
            shape.n_columns, (), shape.code_size, likelihood,
            tied=self.tied, code_activation=self.code_activation, generator=generator,
        )  # fmt: skip
        return Recirculation(pair.encoder, pair.decoder, likelihood, self.code_activation, regression=self.regression)

    def _phases(self, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        default = 2e-3
        if self.optimizer == "sgd":
            default = min(LARGEST_STEP, 4.0 / self.code_size_) / (1.0 - self.regression)
        changed = replace(
            training_config,
            optimizer=self.optimizer,
            momentum=self.momentum,
            learning_rate=self.learning_rate or default,
        )
        return [Phase("learning", self.objective_, changed)]
