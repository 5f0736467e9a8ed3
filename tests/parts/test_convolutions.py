"""Properties of the convolutional networks alone; test_networks.py tests those that all networks share."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.evaluation.features import first_layer_weights
from isthmus.parts.convolutions import (
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    convolution,
    kernel_shape,
    map_sizes,
    strides,
    transposed_convolution,
)
from isthmus.parts.jacobians import code_jacobian
from isthmus.report.figures import filters
from isthmus.report.pictures import filter_pictures


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_decoder_orders_several_parameters_per_pixel_in_blocks():
    decoder = ConvolutionalDecoder((3, 5, 4), 2, 2, channels=(4,), dense_sizes=(), generator=seeded())
    code = torch.rand(7, 2, generator=seeded())
    with torch.no_grad():
        decoder.convolutions[-1].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 100.0, 100.0, 100.0]))
        parameters = decoder(code)
    assert parameters.shape == (7, 2 * 60)
    assert parameters[:, :60].max() < 50 < parameters[:, 60:].min()


def test_convolutional_encoder_reads_images_in_channel_height_width_order():
    encoder = ConvolutionalEncoder((2, 4, 3), 5, (4,), dense_sizes=(), generator=seeded())
    images = torch.rand(6, 2, 4, 3, generator=seeded())
    maps = F.relu(F.conv2d(images, encoder.convolutions[0].weight, stride=2, padding=1))
    torch.testing.assert_close(encoder(images.flatten(1)), F.linear(maps.flatten(1), encoder.output.weight))


def test_map_sizes_of_the_decoder_are_those_of_the_encoder_reversed():
    options = {"channels": (4, 4, 4), "generator": seeded()}
    pair = nn.Sequential(
        ConvolutionalEncoder((1, 13, 30), 3, **options), ConvolutionalDecoder((1, 13, 30), 3, **options)
    )
    sizes: list[tuple[int, int]] = []
    for network in pair:
        for layer in network.convolutions:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(lambda _layer, _inputs, y: sizes.append(tuple(y.shape[2:])))
    pair(torch.zeros(1, 390))
    assert sizes == [(7, 15), (4, 8), (2, 4), (4, 8), (7, 15), (13, 30)]
    assert map_sizes(13, 30, 3)[1:] == sizes[:3]


def test_default_sizes_of_the_convolutional_pair_grow_with_image_and_code():
    encoder = ConvolutionalEncoder((1, 33, 3), 150, generator=seeded())
    decoder = ConvolutionalDecoder((1, 33, 3), 150, generator=seeded())
    assert [tuple(p.shape) for p in encoder.parameters() if p.ndim == 4] == [
        (16, 1, 3, 3),
        (32, 16, 3, 3),
        (64, 32, 3, 3),
    ]
    assert [tuple(p.shape) for p in encoder.parameters() if p.ndim == 2] == [(512, 64 * 5), (150, 512), (150, 150)]
    assert [tuple(p.shape) for p in decoder.parameters() if p.ndim == 2] == [(150, 150), (512, 150), (64 * 5, 512)]


def test_kernels_are_channels_last_also_after_loading_a_state():
    encoder, other = (ConvolutionalEncoder((3, 9, 9), 2, (4, 6), generator=seeded(seed)) for seed in (0, 1))
    encoder.load_state_dict({name: tensor.contiguous() for name, tensor in other.state_dict().items()})
    weight = encoder.convolutions[2].weight
    assert torch.equal(weight, other.convolutions[2].weight)
    assert weight.is_contiguous(memory_format=torch.channels_last)


# Series: images of height 1


SERIES = (3, 1, 21)


def series_pair(kernel_size: int = 5, **options) -> tuple[ConvolutionalEncoder, ConvolutionalDecoder]:
    options = {"channels": (4, 6), "dense_sizes": (), "kernel_size": kernel_size, "generator": seeded(), **options}
    return ConvolutionalEncoder(SERIES, 5, **options), ConvolutionalDecoder(SERIES, 5, **options)


def layers_of(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [layer for layer in network.convolutions if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]


def fill_biases(network: nn.Module) -> None:
    """Give every layer other biases than zero, so that a test sees them."""
    with torch.no_grad():
        for i, parameter in enumerate(p for p in network.parameters() if p.ndim == 1):
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(i)))


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
def test_the_encoder_of_a_series_is_a_chain_of_one_dimensional_convolutions(kernel_size):
    encoder, _ = series_pair(kernel_size)
    fill_biases(encoder)
    rows = torch.randn(7, 63, generator=seeded())
    h = rows.unflatten(1, (3, 21))
    for layer in layers_of(encoder):
        assert layer.weight.shape[2:] == (1, kernel_size)
        h = F.relu(F.conv1d(h, layer.weight[:, :, 0], layer.bias, stride=2, padding=kernel_size // 2))
    torch.testing.assert_close(encoder(rows), encoder.output(h.flatten(1)))


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 9])
def test_the_decoder_of_a_series_is_a_chain_of_transposed_one_dimensional_convolutions(kernel_size):
    _, decoder = series_pair(kernel_size)
    fill_biases(decoder)
    code = torch.randn(7, 5, generator=seeded())
    h = decoder.input(code).unflatten(1, (6, 6))
    for layer, n_steps in zip(layers_of(decoder), (11, 21), strict=True):
        assert layer.weight.shape[2:] == (1, kernel_size)
        h = F.conv_transpose1d(
            F.relu(h), layer.weight[:, :, 0], layer.bias, stride=2, padding=kernel_size // 2,
            output_padding=1 - n_steps % 2,
        )  # fmt: skip
        assert h.shape[-1] == n_steps
    torch.testing.assert_close(decoder(code), h.flatten(1))


@pytest.mark.parametrize("size", [(1, 20), (1, 21), (1, 1), (6, 9)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_the_transposed_convolution_is_the_adjoint_of_the_convolution(size, kernel_size):
    shape = (3, *size)
    options = {"stride": strides(shape), "input_activation": "linear", "bias": False, "generator": seeded()}
    kernel = kernel_shape(shape, kernel_size)
    down = convolution(3, 4, kernel, "linear", **options).double()
    up = transposed_convolution(4, 3, kernel, "linear", size=size, **options).double()
    with torch.no_grad():
        up.weight.copy_(down.weight)
    x = torch.randn(2, *shape, generator=seeded(), dtype=torch.float64)
    y = torch.randn(2, 4, *map_sizes(*size, 1)[1], generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum())


def test_a_series_computes_what_the_middle_rows_of_square_kernels_compute():
    encoder, _ = series_pair(3)
    h = torch.randn(7, 3, 1, 21, generator=seeded())
    for layer in layers_of(encoder):
        square = torch.randn(*layer.weight.shape[:2], 3, 3, generator=seeded())
        with torch.no_grad():
            layer.weight.copy_(square[:, :, 1:2])
        expected = F.conv2d(h, square, layer.bias, stride=2, padding=1)
        torch.testing.assert_close(layer(h), expected)
        h = expected


def test_images_of_more_than_one_row_keep_square_kernels_and_strides():
    for height in (2, 28):
        assert kernel_shape((1, height, 1), 5) == (5, 5)
        assert strides((1, height, 1)) == (2, 2)
    assert kernel_shape(SERIES, 5) == (1, 5)
    assert strides(SERIES) == (1, 2)
    encoder = ConvolutionalEncoder((1, 9, 1), 5, (4, 6), dense_sizes=(), generator=seeded())
    first, second = layers_of(encoder)
    assert [layer.weight.shape[2:] for layer in (first, second)] == [(3, 3)] * 2
    expected = torch.randn(first.weight.shape, generator=seeded()) * math.sqrt(2 / 9)
    torch.testing.assert_close(first.weight.detach().contiguous(), expected)
    image = torch.randn(2, 1, 9, 1, generator=seeded())
    torch.testing.assert_close(first(image), F.conv2d(image, first.weight, first.bias, stride=2, padding=1))


@pytest.mark.parametrize(("kernel_size", "text"), [(4, "kernel_size 4 is even"), (0, "kernel_size: size 0")])
def test_an_even_kernel_of_a_series_raises(kernel_size, text):
    with pytest.raises(InputError, match=text):
        kernel_shape(SERIES, kernel_size)


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_the_layers_of_a_series_preserve_the_scale_in_both_directions(activation):
    options = {"channels": (48, 48, 48), "dense_sizes": (256,), "generator": seeded(), "activation": activation}
    encoder, decoder = (
        network((48, 1, 1024), 256, **options) for network in (ConvolutionalEncoder, ConvolutionalDecoder)
    )

    def measure(a: Tensor) -> float:
        return (a.square().mean() if activation == "relu" else a.var(0).mean()).item()

    with torch.no_grad():
        code = encoder(torch.randn(16, 48 * 1024, generator=seeded(1)))
        output = decoder(torch.randn(16, 256, generator=seeded(2)))
    assert all(0.25 < measure(result) < 4.0 for result in (code, output))


def test_kernels_of_a_series_are_read_by_filters_figures_and_jacobian():
    encoder, _ = series_pair(5)
    weight, is_kernel = first_layer_weights(encoder)
    assert (weight.shape, is_kernel) == ((4, 3, 1, 5), True)
    assert filter_pictures(weight).shape == (4, 1, 5, 3)
    assert len(filters(weight.reshape(4, -1), weight.shape[1:]).axes) == 4
    x = torch.randn(2, 63, generator=seeded())
    expected = torch.autograd.functional.jacobian(lambda row: encoder(row[None])[0], x[1])
    torch.testing.assert_close(code_jacobian(encoder, nn.Identity(), x)[1], expected)
