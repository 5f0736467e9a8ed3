"""The convolutional autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.networks import convolutions
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import Normalization


@dataclass(kw_only=True, eq=False, repr=False)
class ConvolutionalAutoencoder(BaseAutoencoder):
    r"""Convolutional autoencoder, for images of any size and any number of channels.

        h = W m(s(K_L * ... s(K_1 * x))) + b,   x (channels, height, width),   J = E_x [ -log p_dec(x | g(h)) ]

    m denotes the dense layers between convolutions and code. Each convolution has stride two and halves height and
    width; the decoder mirrors it with transposed convolutions. The kernels are shared over the image: a feature that is
    useful in one place is useful everywhere, which takes far fewer parameters than `Autoencoder`. Rows that are not
    images are read as strips of one channel and height one, so that neighbouring columns share kernels: suitable for
    signals, not for tables.

    Args:
        hidden_sizes: channels of each convolution, outermost first; the decoder mirrors them. None takes 16, 32, 64,
            ... channels, with as many layers as bring the longer side of the image to 8 pixels.
        dense_sizes: units of the dense hidden layers between convolutions and code; None is (512, 128), () is none.
            A narrow code needs them.
        activation: activation of the hidden layers: "relu", "gelu", "silu", "tanh", "sigmoid", "softplus" or "linear".
        code_activation: activation of the code; "linear" leaves it unbounded.
        kernel_size: height and width of the kernels, odd.
        normalization: "batch" or "layer" in the hidden layers, or None.
        dropout: dropout rate of whole channels in training.

    The other arguments are those of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, chapters 9 and 14; Masci et al., Stacked convolutional
    auto-encoders for hierarchical feature extraction (2011).

    Example:
        >>> import numpy as np
        >>> from isthmus import ConvolutionalAutoencoder
        >>> X = np.random.default_rng(0).integers(0, 256, (40, 9, 7), dtype=np.uint8)
        >>> model = ConvolutionalAutoencoder(code_size=2, hidden_sizes=(4, 8), max_epochs=2, random_state=0).fit(X)
        >>> model.transform(X).shape, model.reconstruct(X).shape, model.reconstruct(X).dtype
        ((40, 2), (40, 9, 7), dtype('uint8'))
    """

    hidden_sizes: Sequence[int] | None = None
    dense_sizes: Sequence[int] | None = None
    activation: str = "relu"
    code_activation: str = "linear"
    kernel_size: int = 3
    normalization: Normalization | None = None
    dropout: float = 0.0

    kind: ClassVar[str] = "conv"

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        pair = convolutions(
            shape.image_shape or (1, 1, shape.n_columns), shape.code_size, likelihood,
            hidden_sizes=shape.resolved("hidden_sizes", self.hidden_sizes),
            dense_sizes=shape.resolved("dense_sizes", self.dense_sizes), activation=self.activation,
            kernel_size=self.kernel_size, normalization=self.normalization, dropout=self.dropout, generator=generator,
        )  # fmt: skip
        coder = Coder(EncoderMap(pair.encoder, self.code_activation), pair.decoder, likelihood)
        return Recipe(coder, Reconstruction(coder), hidden_sizes=pair.hidden_sizes, dense_sizes=pair.dense_sizes)
