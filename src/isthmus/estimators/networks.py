"""The maps of a recipe: encoder and decoder as the user asked for them, for every kind that composes its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from isthmus.errors import InputError
from isthmus.learning.objectives import Decoder
from isthmus.parts.convolutions import resolve_sizes
from isthmus.parts.layers import INIT_SCHEMES
from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.networks import MLP, ConvolutionalDecoder, ConvolutionalEncoder, TiedMLP

SINGLE_LAYER_INIT_SCALE = {"sigmoid": 0.5}
"""Of the spread that carries signals through many layers of an activation, what a layer that learns alone begins with.

With all of it sigmoid units are settled before they have learned: with half, the contractive code of MNIST
reconstructs better, and its features tell digits apart better (`python -m experiments contraction` and `few-labels`).
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
    """An MLP and its mirror, or the MLP's own weights transposed.

    The weights of a single layer are initialised for its own activation, for sigmoids scaled by
    `SINGLE_LAYER_INIT_SCALE`: with the weights of linear units all sigmoids start near a half, and the first epochs
    are spent on separating them.

    Args:
        n_inputs: what the encoder is given; twice the columns where it is told which entries it may look at.
        hidden_sizes: of the encoder, outermost first.
        code_size: units of the code.
        likelihood: whose parameters the decoder gives.
        tied: whether the decoder shares the encoder's weights.
        code_activation: what follows the last map; a name that has no scheme of its own is as "linear".
        single_layer: whether a single layer learns by itself, and not as one of many at once.
        options: activation, normalization, dropout and generator, as `MLP` takes them.

    Raises:
        InputError: tied weights under a likelihood that wants more than one number a column, or where the mask is an
            input too.
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
    """A convolutional encoder and its mirror.

    Args:
        image_shape: (channels, height, width).
        code_size: units of the code.
        likelihood: whose parameters the decoder gives.
        hidden_sizes: maps of each convolution, None chooses.
        dense_sizes: units of the dense layers after them, None chooses.
        options: activation, kernel_size, normalization, dropout and generator.

    Raises:
        InputError: a likelihood with parameters of the whole row.
    """
    channels, dense = resolve_sizes(image_shape, code_size, hidden_sizes, dense_sizes)
    per_pixel, rest = divmod(likelihood.n_parameters, likelihood.n_columns)
    if rest:
        raise InputError(
            f"likelihood={likelihood.name!r} has parameters of the whole row, which convolutions do not make; "
            "use perceptrons (kind 'deep', or network='mlp') with it, or likelihood='gaussian' here"
        )
    options |= {"channels": channels, "dense_sizes": dense}
    encoder = ConvolutionalEncoder(image_shape, code_size, **options)
    decoder = ConvolutionalDecoder(image_shape, code_size, per_pixel, **options)
    return EncoderDecoder(encoder, decoder, channels, dense)


def check_tied_output(likelihood: Likelihood, n_inputs: int) -> None:
    """A transposed encoder gives one parameter for each input, no more and no less."""
    if n_inputs != likelihood.n_columns:
        raise InputError(
            f"tied=True gives an output for each of the encoder's {n_inputs} inputs, which are the "
            f"{likelihood.n_columns} columns and the mask that it is told beside them (corruption='missing'); give "
            "tied=False"
        )
    if likelihood.n_parameters != n_inputs:
        raise InputError(
            f"tied=True gives {n_inputs} outputs, one for each input of the encoder, and likelihood "
            f"{likelihood.name!r} wants {likelihood.n_parameters} for {likelihood.n_columns} columns; "
            "use tied=False, or likelihood='gaussian'"
        )
