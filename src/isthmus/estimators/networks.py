"""Construction of encoders and decoders from the arguments of an estimator."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, nn

from isthmus.errors import InputError
from isthmus.estimators.records import Shape
from isthmus.parts.convolutions import resolve_sizes
from isthmus.parts.inference import Decoder
from isthmus.parts.layers import INIT_SCHEMES
from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.networks import MLP, ConvolutionalDecoder, ConvolutionalEncoder, TiedMLP
from isthmus.parts.own_networks import Network, build_pair, network_named

SINGLE_LAYER_INIT_SCALE = {"sigmoid": 0.5}
"""Scale of the initial weights of a layer that is trained alone, relative to those of a layer among many.

At full scale sigmoid units saturate before training. At half, the contractive code of MNIST reconstructs better, and
its features separate digits better (`python -m experiments contraction` and `few-labels`).
"""


@dataclass(frozen=True)
class EncoderDecoder:
    """An encoder, its decoder, and the sizes of their hidden layers."""

    encoder: nn.Module
    decoder: Decoder
    hidden_sizes: tuple[int, ...]
    dense_sizes: tuple[int, ...] = ()


def perceptrons(
    n_inputs: int,
    hidden_sizes: tuple[int, ...],
    code_size: int,
    likelihood: Likelihood,
    *,
    tied: bool = False,
    code_activation: str = "linear",
    single_layer: bool = True,
    **options: Any,
) -> EncoderDecoder:
    """Return an MLP and its mirror, or with `tied` an MLP and its transpose.

    The weights of a single layer are initialised for its own activation, for sigmoids scaled by
    `SINGLE_LAYER_INIT_SCALE`: with the weights of linear units all sigmoids start near a half, and the first epochs
    are spent on separating them.

    Args:
        n_inputs: inputs of the encoder; twice the columns if the mask of observed entries is an input, too.
        hidden_sizes: units of the encoder's hidden layers, outermost first.
        code_size: units of the code.
        likelihood: the likelihood whose parameters the decoder returns.
        tied: the decoder uses the encoder's transposed weights.
        code_activation: activation of the code; one without its own initialisation scheme is initialised as "linear".
        single_layer: a single layer is trained alone, not together with others.
        options: activation, normalization, dropout and generator of `MLP`.

    Raises:
        InputError: tied weights with a likelihood that has more than one parameter per column, or with the mask as an
            input.
    """
    scheme = code_activation if not hidden_sizes and code_activation in INIT_SCHEMES else "linear"
    encoder = MLP((n_inputs, *hidden_sizes, code_size), output_activation=scheme, **options)
    if single_layer and not hidden_sizes:
        encoder.affine_maps[0].weight.data.mul_(SINGLE_LAYER_INIT_SCALE.get(scheme, 1.0))
    if tied:
        check_tied_output(likelihood, n_inputs)
        return EncoderDecoder(encoder, TiedMLP(encoder), hidden_sizes)
    sizes = (code_size, *reversed(hidden_sizes), likelihood.n_parameters)
    return EncoderDecoder(encoder, MLP(sizes, **options), hidden_sizes)


def convolutions(
    image_shape: tuple[int, int, int],
    code_size: int,
    likelihood: Likelihood,
    *,
    hidden_sizes: Any,
    dense_sizes: Any,
    **options: Any,
) -> EncoderDecoder:
    """Return a convolutional encoder and its mirror.

    Args:
        image_shape: (channels, height, width).
        code_size: units of the code.
        likelihood: the likelihood whose parameters the decoder returns.
        hidden_sizes: channels of each convolution; None chooses.
        dense_sizes: units of the dense layers after the convolutions; None chooses.
        options: activation, kernel_size, normalization, dropout and generator.

    Raises:
        InputError: a likelihood that has parameters of the whole row.
    """
    channels, dense = resolve_sizes(image_shape, code_size, hidden_sizes, dense_sizes)
    per_pixel, rest = divmod(likelihood.n_parameters, likelihood.n_columns)
    if rest:
        raise InputError(
            f"likelihood={likelihood.name!r} has parameters of the whole row, which convolutions do not return; "
            "use perceptrons (kind 'deep', or network='mlp') with it, or likelihood='gaussian' here"
        )
    options |= {"channels": channels, "dense_sizes": dense}
    encoder = ConvolutionalEncoder(image_shape, code_size, **options)
    decoder = ConvolutionalDecoder(image_shape, code_size, per_pixel, **options)
    return EncoderDecoder(encoder, decoder, channels, dense)


def non_default(estimator: Any, names: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Return the value and the default of each of some arguments of an estimator."""
    defaults = inspect.signature(type(estimator)).parameters
    return {name: (getattr(estimator, name), defaults[name].default) for name in names}


def own_network(
    network: Any, n_inputs: int, shape: Shape, likelihood: Likelihood, generator: Generator, arguments: dict[str, Any]
) -> EncoderDecoder:
    """Return the encoder and the decoder of a user's network.

    Args:
        network: an object with the method `build`, see `isthmus.parts.own_networks.Network`, or a registered name.
        n_inputs: inputs of the encoder.
        shape: of the data and the code.
        likelihood: the likelihood whose parameters the decoder returns.
        generator: of the weights.
        arguments: arguments of the built-in networks by name, each with its value and default; they have no effect.

    Raises:
        InputError: an object without `build`; an argument of built-in networks; modules of other sizes.
    """
    network = network_named(network) if isinstance(network, str) else network
    if not isinstance(network, Network) or isinstance(network, type):
        raise InputError(
            f"network={network!r}: give 'mlp', 'conv', or an object with a method build(n_inputs, code_size, "
            "n_outputs, image_shape, generator) that returns an encoder and a decoder"
        )
    for name, (value, default) in arguments.items():
        if value != default:
            raise InputError(f"{name}={value!r} is for the built-in networks; leave it out with network={network!r}")
    encoder, decoder = build_pair(
        network, n_inputs, shape.code_size, likelihood.n_parameters, shape.image_shape, generator
    )
    return EncoderDecoder(encoder, decoder, ())


def check_tied_output(likelihood: Likelihood, n_inputs: int) -> None:
    """Refuse a likelihood that has not exactly one parameter for each input of the encoder."""
    if n_inputs != likelihood.n_columns:
        raise InputError(
            f"tied=True gives an output for each of the encoder's {n_inputs} inputs, which are the "
            f"{likelihood.n_columns} columns and their mask (corruption='missing'); give tied=False"
        )
    if likelihood.n_parameters != n_inputs:
        raise InputError(
            f"tied=True gives {n_inputs} outputs, one for each input of the encoder, but likelihood "
            f"{likelihood.name!r} needs {likelihood.n_parameters} for {likelihood.n_columns} columns; "
            "use tied=False, or likelihood='gaussian'"
        )
