"""The autoencoder trained by recirculation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.phases import Phase
from isthmus.learning.recirculation import Recirculation
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.coder import Coder
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import ACTIVATIONS, check_choice
from isthmus.parts.likelihoods import likelihood_from
from isthmus.values.networks import perceptrons

LARGEST_STEP = 0.3
"""Largest step of SGD along the gradient that the rule approximates."""


@dataclass(kw_only=True, eq=False, repr=False)
class RecirculationAutoencoder(BaseAutoencoder):
    r"""Autoencoder trained by recirculation, a local rule without back-propagation.

        first pass:    h_1 = s(W x + b),             r   = mean of p_dec(. | V h_1 + c)
        second pass:   x_2 = l x + (1 - l) r,        h_3 = s(W x_2 + b)
        update:        dV ~ (x - x_2) h_1',   dW ~ (h_1 - h_3) x_2'

    Each weight changes by the activity at its input and the change of the activity at its output between the two
    passes. No error is propagated back through weights, which made the rule a candidate model of learning in the brain
    and a predecessor of contrastive Hebbian learning and contrastive divergence. It follows the gradient of the
    reconstruction error if the two passes are close (l near 1) and W = V'. On small problems training leads to W = V'
    and the error of back-propagation; on digits it does not, and the error stays well above (`python -m experiments
    recirculation`). `tied=True` shares the weights from the start.

    There is one layer of hidden units. The default optimiser is SGD with momentum, as in the paper.

    Args:
        regression: l, the weight of the row in the second pass. Near 1 the update is near the gradient and small; the
            default learning rate compensates for that.
        code_activation: s, "sigmoid", "tanh", "relu", "softplus" or "linear".
        tied: V = W', one set of weights with the updates of both.
        optimizer: "sgd", "adamw", or a value such as `SGD(momentum=0.9)`. The weight decay of SGD is the weight of
            1/2 ||theta||^2; it also removes the initial values of W and V'.
        learning_rate: peak of the schedule; None takes min(.3, 4 / code_size) / (1 - l) for "sgd", and .002 for
            "adamw".
        precision: "fp32" by default, since the rule is made of small differences.

    The other arguments are those of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

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
    optimizer: Any = "sgd"
    learning_rate: float | None = None  # type: ignore[assignment]
    precision: str = "fp32"

    kind: ClassVar[str] = "recirculation"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("code_activation", self.code_activation, tuple(ACTIVATIONS))

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        pair = perceptrons(
            shape.n_columns, (), shape.code_size, likelihood,
            tied=self.tied, code_activation=self.code_activation, generator=generator,
        )  # fmt: skip
        coder = Coder(EncoderMap(pair.encoder, self.code_activation), pair.decoder, likelihood)
        return Recipe(coder, Recirculation(coder, regression=self.regression))

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        default = 2e-3
        if training_config.optimizer == "sgd":
            default = min(LARGEST_STEP, 4.0 / self.code_size_) / (1.0 - self.regression)
        changed = replace(training_config, learning_rate=self.learning_rate or default)
        return [Phase("learning", recipe.objective, changed)]
