"""The convolutional autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.regularized import MapArguments


@dataclass(kw_only=True, eq=False, repr=False)
class ConvolutionalAutoencoder(MapArguments, BaseAutoencoder):
    r"""Convolutional autoencoder, for images of any size and any number of channels.

        h = W m(s(K_L * ... s(K_1 * x))) + b,   x (channels, height, width),   J = E_x [ -log p_dec(x | g(h)) ]

    m denotes the dense layers between convolutions and code. Each convolution has stride two and halves height and
    width; the decoder mirrors it with transposed convolutions. The kernels are shared over the image: a feature that is
    useful in one place is useful everywhere, which takes far fewer parameters than `Autoencoder`. Rows that are not
    images are read as series of one channel, so that neighbouring columns share kernels: suitable for signals, not for
    tables.

    Args:
        network: "conv", or a value such as `Convolutional((8, 16), kernel_size=5)` or `Convolutional1d()`.
        code_activation: activation of the code; "linear" leaves it unbounded.
        fit_prior: None, "gaussian", or a value such as `MixturePrior(k=10)`: the distribution of codes that is fitted
            after training, so that `sample` draws rows.
        penalties: further terms of the criterion, in a list; see `Autoencoder`.

    The other arguments are those of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, chapters 9 and 14; Masci et al., Stacked convolutional
    auto-encoders for hierarchical feature extraction (2011).

    Example:
        >>> import numpy as np
        >>> from isthmus import Convolutional, ConvolutionalAutoencoder
        >>> X = np.random.default_rng(0).integers(0, 256, (40, 9, 7), dtype=np.uint8)
        >>> model = ConvolutionalAutoencoder(
        ...     code_size=2, network=Convolutional((4, 8)), max_epochs=2, random_state=0).fit(X)
        >>> model.transform(X).shape, model.reconstruct(X).shape, model.reconstruct(X).dtype
        ((40, 2), (40, 9, 7), dtype('uint8'))
    """

    network: Any = "conv"
    code_activation: str | None = "linear"

    kind: ClassVar[str] = "conv"
    successors: ClassVar[Mapping[str, str]] = {
        "hidden_sizes": "network=Convolutional(channels=...)",
        **{name: f"network=Convolutional({name}=...)" for name in ("activation", "normalization", "dropout")},
    }
