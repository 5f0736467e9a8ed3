"""The convolutional encoder and decoder: flat rows in and out, images of any size in between.

Between maps and code stand dense hidden layers. They are most of what a narrow code gains by: at eight units on
MNIST and in equal time, convolutions straight to the code leave half as much again of the squared error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError
from isthmus.parts.layers import (
    INIT_SCHEMES,
    Normalization,
    affine,
    apply_layers,
    check_options,
    check_sizes,
    hidden_layers,
    initialise,
    post_affine_modules,
)

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d)

STRIDE = 2
LONGEST_SIDE = 8


def check_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """The shape as (channels, height, width).

    Raises:
        InputError: it is not three whole numbers of at least 1.
    """
    if len(image_shape) != 3:
        raise InputError(f"image_shape {tuple(image_shape)} is not (channels, height, width); give these three")
    check_sizes("image_shape", image_shape)
    channels, height, width = (int(size) for size in image_shape)
    return channels, height, width


def check_kernel_size(kernel_size: int) -> None:
    """Refuse a kernel that has no middle pixel, since only an odd one keeps the sizes of every image.

    Raises:
        InputError: the size is even or below 1.
    """
    check_sizes("kernel_size", (kernel_size,))
    if kernel_size % 2 == 0:
        raise InputError(f"kernel_size {kernel_size} is even; give an odd size such as {kernel_size + 1}")


def map_sizes(height: int, width: int, n_layers: int) -> list[tuple[int, int]]:
    """Sizes of the maps from the image to the innermost layer: every layer halves, rounding up.

    Example:
        >>> map_sizes(28, 5, 3)
        [(28, 5), (14, 3), (7, 2), (4, 1)]
    """
    sizes = [(height, width)]
    for _ in range(n_layers):
        height, width = -(-height // STRIDE), -(-width // STRIDE)
        sizes.append((height, width))
    return sizes


def default_channels(image_shape: Sequence[int]) -> tuple[int, ...]:
    """16, 32, 64, 128, 128, ... maps: as many layers as bring the longer side to 8 pixels or fewer, at least one.

    Example:
        >>> default_channels((1, 28, 28)), default_channels((3, 100, 224)), default_channels((1, 1, 1))
        ((16, 32), (16, 32, 64, 128, 128), (16,))
    """
    _, height, width = check_image_shape(image_shape)
    n_layers = 1
    while max(map_sizes(height, width, n_layers)[-1]) > LONGEST_SIDE:
        n_layers += 1
    return tuple(min(16 << depth, 128) for depth in range(n_layers))


def default_dense_sizes(code_size: int) -> tuple[int, int]:
    """512 and 128 units between maps and code, or the code's own size where that is larger.

    Example:
        >>> default_dense_sizes(16), default_dense_sizes(200)
        ((512, 128), (512, 200))
    """
    check_sizes("code_size", (code_size,))
    return max(512, code_size), max(128, code_size)


def channels_last(layer: Layer) -> Layer:
    """The layer with its kernels in the memory layout that takes a quarter off the time on a CPU."""
    layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return layer


def convolution(
    n_in: int,
    n_out: int,
    kernel_size: int,
    activation: str,
    *,
    input_activation: str,
    bias: bool,
    generator: Generator,
) -> nn.Conv2d:
    """A convolution of stride two that halves both sides, rounding up, drawn for the activation after it."""
    layer = skip_init(nn.Conv2d, n_in, n_out, kernel_size, stride=STRIDE, padding=kernel_size // 2, bias=bias)
    taps = kernel_size**2
    # Each input reaches one output in every stride^2 taps.
    initialise(layer.weight, n_in * taps, n_out * taps / STRIDE**2, activation, generator)
    if bias:
        with torch.no_grad():
            layer.bias.copy_(-INIT_SCHEMES[input_activation].mean * layer.weight.sum((1, 2, 3)))
    return channels_last(layer)


def transposed_convolution(
    n_in: int,
    n_out: int,
    kernel_size: int,
    activation: str,
    *,
    size: tuple[int, int],
    input_activation: str,
    bias: bool,
    generator: Generator,
) -> nn.ConvTranspose2d:
    """The transpose of a convolution of stride two: maps of half the `size`, rounded up, take that size."""
    layer = skip_init(
        nn.ConvTranspose2d,
        n_in,
        n_out,
        kernel_size,
        stride=STRIDE,
        padding=kernel_size // 2,
        # Halving rounds up, so an even side and the odd one before it have the same half: this tells which.
        output_padding=(1 - size[0] % 2, 1 - size[1] % 2),
        bias=bias,
    )
    taps = kernel_size**2
    initialise(layer.weight, n_in * taps / STRIDE**2, n_out * taps, activation, generator)
    if bias:
        with torch.no_grad():
            layer.bias.copy_(-INIT_SCHEMES[input_activation].mean * layer.weight.sum((0, 2, 3)) / STRIDE**2)
    return channels_last(layer)


def resolve_sizes(
    image_shape: Sequence[int], code_size: int, channels: Sequence[int] | None, dense_sizes: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and dense sizes, the defaults in the place of None.

    Raises:
        InputError: a size is below 1.
    """
    check_sizes("code_size", (code_size,))
    channels = default_channels(image_shape) if channels is None else tuple(channels)
    dense_sizes = default_dense_sizes(code_size) if dense_sizes is None else tuple(dense_sizes)
    check_sizes("channels", channels)
    check_sizes("dense_sizes", dense_sizes)
    return channels, dense_sizes


class ConvolutionalEncoder(nn.Module):
    """h_l = dropout(f(norm(W_l * h_(l-1) + b_l))) at stride two, h_0 = the image; a = MLP(vec(h_n)).

    Shapes: (*draws, batch, channels * height * width), each row flattened in that order
    -> (*draws, batch, code_size), the pre-activation of the code. Every layer halves height and width,
    rounding up, so any image fits, from 1 x 1 on.

    Args:
        image_shape: (channels, height, width) of an image.
        code_size: units of the code; the output is their pre-activation.
        channels: maps of each convolutional layer, first to last; None is `default_channels`.
        activation: a name in `ACTIVATIONS`, for all hidden layers.
        dense_sizes: units of the hidden layers between maps and code; None is `default_dense_sizes`, () is none.
        kernel_size: height and width of the kernels, odd.
        normalization: None, "batch" (by map or unit) or "layer" (over all maps or units of an image).
        dropout: the rate at which whole maps, and units, are dropped while training.
        generator: what the weights are drawn from.

    Raises:
        InputError: a size below 1, an even kernel, an unknown name, a rate outside [0, 1).

    Source: DL book, chapter 9; Masci et al. (2011).

    Example:
        >>> encoder = ConvolutionalEncoder((1, 28, 28), 16, generator=torch.Generator().manual_seed(0))
        >>> encoder(torch.zeros(5, 784)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        code_size: int,
        channels: Sequence[int] | None = None,
        activation: str = "relu",
        *,
        dense_sizes: Sequence[int] | None = None,
        kernel_size: int = 3,
        normalization: Normalization | None = None,
        dropout: float = 0.0,
        generator: Generator,
    ) -> None:
        super().__init__()
        check_options(activation, normalization, dropout)
        self.image_shape = check_image_shape(image_shape)
        channels, dense_sizes = resolve_sizes(self.image_shape, code_size, channels, dense_sizes)
        check_kernel_size(kernel_size)
        n_in, height, width = self.image_shape
        layers: list[nn.Module] = []
        input_activation = "linear"
        for n_maps in channels:
            bias = normalization != "batch"
            layers.append(
                convolution(
                    n_in,
                    n_maps,
                    kernel_size,
                    activation,
                    input_activation=input_activation,
                    bias=bias,
                    generator=generator,
                )
            )
            layers.extend(post_affine_modules(n_maps, activation, normalization, dropout, maps=True))
            n_in, input_activation = n_maps, activation
        self.convolutions = nn.Sequential(*layers)
        last_height, last_width = map_sizes(height, width, len(channels))[-1]
        sizes = (n_in * last_height * last_width, *dense_sizes)
        self.dense = nn.Sequential(
            *hidden_layers(
                sizes, activation, normalization, dropout, input_activation=input_activation, generator=generator
            )
        )
        input_activation = activation if dense_sizes else input_activation
        self.output = affine(sizes[-1], code_size, "linear", input_activation=input_activation, generator=generator)

    def forward(
        self, x: Float[Tensor, "*draws batch pixels"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch code_size"]:
        """Map flat images; dropout applies while training and when a generator is given."""
        maps = apply_layers(self.convolutions, x.reshape(-1, *self.image_shape), generator)
        return self.output(apply_layers(self.dense, maps.flatten(1), generator)).unflatten(0, x.shape[:-1])


class ConvolutionalDecoder(nn.Module):
    """MLP(h) as maps, f(norm(.)) of it, then transposed convolutions at stride two to the image, the last linear.

    Shapes: (*draws, batch, code_size) -> (*draws, batch, n_parameters_per_pixel * channels * height * width).
    With several parameters a pixel they come in blocks: all pixels' first parameter, then all their second.

    Args:
        image_shape: (channels, height, width) of an image.
        code_size: units of the code.
        n_parameters_per_pixel: parameters that the likelihood wants for each column.
        channels: maps of each layer in the encoder's order, gone through backwards; None is `default_channels`.
        activation: a name in `ACTIVATIONS`, for all layers but the last.
        dense_sizes: units of the hidden layers between maps and code, in the encoder's order, gone through
            backwards; None is `default_dense_sizes`, () is none.
        kernel_size: height and width of the kernels, odd.
        normalization: None, "batch" (by map or unit) or "layer" (over all maps or units of an image).
        dropout: the rate at which whole maps, and units, are dropped while training.
        generator: what the weights are drawn from.

    Raises:
        InputError: a size below 1, an even kernel, an unknown name, a rate outside [0, 1).

    Source: Dumoulin & Visin (2016), chapter 4, for the transposed convolution.

    Example:
        >>> decoder = ConvolutionalDecoder((1, 28, 28), 16, generator=torch.Generator().manual_seed(0))
        >>> decoder(torch.zeros(5, 16)).shape
        torch.Size([5, 784])
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        code_size: int,
        n_parameters_per_pixel: int = 1,
        channels: Sequence[int] | None = None,
        activation: str = "relu",
        *,
        dense_sizes: Sequence[int] | None = None,
        kernel_size: int = 3,
        normalization: Normalization | None = None,
        dropout: float = 0.0,
        generator: Generator,
    ) -> None:
        super().__init__()
        check_options(activation, normalization, dropout)
        self.image_shape = check_image_shape(image_shape)
        channels, dense_sizes = resolve_sizes(self.image_shape, code_size, channels, dense_sizes)
        check_sizes("n_parameters_per_pixel", (n_parameters_per_pixel,))
        check_kernel_size(kernel_size)
        n_channels, height, width = self.image_shape
        *outer, innermost = map_sizes(height, width, len(channels))
        n_outputs = n_channels * n_parameters_per_pixel
        # channels[i] is what the encoder's layer i gives, so it is what the decoder's layer i takes.
        n_maps = [n_outputs, *channels]
        self.maps_shape = (n_maps[-1], *innermost)
        sizes = (code_size, *reversed(dense_sizes))
        self.dense = nn.Sequential(*hidden_layers(sizes, activation, normalization, dropout, generator=generator))
        self.input = affine(
            sizes[-1],
            n_maps[-1] * innermost[0] * innermost[1],
            activation if channels else "linear",
            input_activation=activation if dense_sizes else "linear",
            generator=generator,
        )
        layers: list[nn.Module] = []
        for depth in reversed(range(len(channels))):
            layers.extend(post_affine_modules(n_maps[depth + 1], activation, normalization, dropout, maps=True))
            layers.append(
                transposed_convolution(
                    n_maps[depth + 1],
                    n_maps[depth],
                    kernel_size,
                    activation if depth else "linear",
                    size=outer[depth],
                    input_activation=activation,
                    bias=normalization != "batch" or depth == 0,
                    generator=generator,
                )
            )
        self.convolutions = nn.Sequential(*layers)

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the last bias, one a map, to the mean of `output` over the pixels of the map."""
        last: Any = self.convolutions[-1] if len(self.convolutions) else self.input
        last.bias.copy_(output.reshape(len(last.bias), -1).mean(1))

    def forward(
        self, code: Float[Tensor, "*draws batch code_size"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch parameters"]:
        """Map codes to flat images; dropout applies while training and when a generator is given."""
        h = apply_layers(self.dense, code.reshape(-1, code.shape[-1]), generator)
        maps = self.input(h).unflatten(1, self.maps_shape)
        return apply_layers(self.convolutions, maps, generator).flatten(1).unflatten(0, code.shape[:-1])
