"""The deep autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.networks import non_default, own_network, perceptrons
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import Likelihood, likelihood_from
from isthmus.parts.networks import Normalization, default_hidden_sizes


@dataclass(kw_only=True, eq=False, repr=False)
class Autoencoder(BaseAutoencoder):
    r"""Deep autoencoder: an encoder and a mirrored decoder with hidden layers around a narrow code.

        h = f(x) = s(W_L ... s(W_1 x + b_1) ... + b_L),   J = E_x [ -log p_dec(x | g(h)) ]

    Depth lets the code follow a curved manifold where principal components fit a plane, with exponentially fewer units
    than one wide layer. A powerful decoder can memorise rows even with a narrow code (section 14.1): the doctor
    compares training and validation error.

    Args:
        network: "mlp", or a network of your own: an object with the method `build` of
            `isthmus.parts.own_networks.Network`, or its name in `isthmus.register_network`.
        hidden_sizes: units of the encoder's hidden layers, outermost first; the decoder mirrors them.
            None takes two layers by the width of the data.
        activation: activation of the hidden layers: "relu", "gelu", "silu", "tanh", "sigmoid", "softplus" or "linear".
        code_activation: activation of the code; "linear" leaves it unbounded.
        tied: the decoder uses the encoder's transposed weights.
        normalization: "batch" or "layer" in the hidden layers, or None.
        dropout: dropout rate of hidden units in training.

    The other arguments are those of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, sections 14.1 and 14.3; Hinton & Salakhutdinov,
    Reducing the dimensionality of data with neural networks, Science 313 (2006).

    Example:
        >>> import numpy as np
        >>> from isthmus import Autoencoder
        >>> t = np.random.default_rng(0).uniform(0, 6, (200, 1))
        >>> X = np.hstack([np.sin(t), np.cos(t), t / 6])
        >>> model = Autoencoder(code_size=1, random_state=0).fit(X)
        >>> model.transform(X).shape, model.reconstruct(X).shape
        ((200, 1), (200, 3))
    """

    network: Any = "mlp"
    hidden_sizes: Sequence[int] | None = None
    activation: str = "silu"
    code_activation: str = "linear"
    tied: bool = False
    normalization: Normalization | None = None
    dropout: float = 0.0

    kind: ClassVar[str] = "deep"

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        if self.network != "mlp":
            return self._own_recipe(shape, likelihood, generator)
        given = shape.resolved("hidden_sizes", self.hidden_sizes)
        hidden_sizes = tuple(default_hidden_sizes(shape.n_columns, shape.code_size) if given is None else given)
        pair = perceptrons(
            shape.n_columns, hidden_sizes, shape.code_size, likelihood,
            tied=self.tied, code_activation=self.code_activation, activation=self.activation,
            normalization=self.normalization, dropout=self.dropout, generator=generator,
        )  # fmt: skip
        coder = Coder(EncoderMap(pair.encoder, self.code_activation), pair.decoder, likelihood)
        return Recipe(coder, Reconstruction(coder), hidden_sizes=hidden_sizes)

    def _own_recipe(self, shape: Shape, likelihood: Likelihood, generator: torch.Generator) -> Recipe:
        """Build the parts around a network of the user."""
        unused = non_default(self, ("hidden_sizes", "activation", "tied", "normalization", "dropout"))
        pair = own_network(self.network, shape.n_columns, shape, likelihood, generator, unused)
        coder = Coder(EncoderMap(pair.encoder, self.code_activation), pair.decoder, likelihood)
        return Recipe(coder, Reconstruction(coder))
