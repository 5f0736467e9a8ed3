"""The deep autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.regularized import MapArguments


@dataclass(kw_only=True, eq=False, repr=False)
class Autoencoder(MapArguments, BaseAutoencoder):
    r"""Deep autoencoder: an encoder and a mirrored decoder with hidden layers around a narrow code.

        h = f(x) = s(W_L ... s(W_1 x + b_1) ... + b_L),   J = E_x [ -log p_dec(x | g(h)) ]

    Depth lets the code follow a curved manifold where principal components fit a plane, with exponentially fewer units
    than one wide layer. A powerful decoder can memorise rows even with a narrow code (section 14.1): the doctor
    compares training and validation error.

    Args:
        network: "mlp"; a value such as `MLP((500, 250), activation="tanh", tied=True)`, or "conv" and "conv1d"; or a
            network of your own: an object with the method `build` of `isthmus.parts.own_networks.Network`, or its name
            in `isthmus.register_network`.
        hidden_sizes: shorthand of `MLP(hidden_sizes=...)`: units of the encoder's hidden layers, outermost first; the
            decoder mirrors them. None takes two layers by the width of the data.
        code_activation: activation of the code; "linear" leaves it unbounded.
        fit_prior: None, "gaussian", or a value such as `MixturePrior(k=10)`: the distribution of codes that is fitted
            after training, so that `sample` draws rows.
        penalties: further terms of the criterion, in a list: values such as `Contraction()` or `L1(weight=0.1)`,
            functions (output, coder) -> (batch,) in nats, or their names in `isthmus.register_penalty`.

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

    code_activation: str | None = "linear"
    hidden_sizes: Sequence[int] | None = None

    kind: ClassVar[str] = "deep"
