"""Properties of the convolutional networks alone; test_networks.py tests those that all networks share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from isthmus.parts.convolutions import ConvolutionalDecoder, ConvolutionalEncoder, map_sizes


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
