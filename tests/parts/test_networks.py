"""Networks: shapes, initialisation, tied weights, dropout, normalisation and invalid arguments."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.convolutions import ConvolutionalDecoder, ConvolutionalEncoder
from isthmus.parts.layers import ACTIVATIONS, BatchNormalization, Dropout, affine
from isthmus.parts.networks import MLP, TiedMLP, default_hidden_sizes

IMAGE_SHAPES = [(1, 28, 28), (3, 32, 32), (1, 1, 1), (2, 1, 9), (1, 7, 5), (3, 13, 31), (1, 2, 3), (5, 6, 17)]
NORMALIZATIONS = [None, "batch", "layer"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def convolutional_pair(image_shape=(1, 7, 5), code_size=4, channels=(6, 8), **options) -> nn.ModuleList:
    generator = seeded()
    options = {"dense_sizes": (10, 7), **options}
    return nn.ModuleList(
        [
            ConvolutionalEncoder(image_shape, code_size, channels, generator=generator, **options),
            ConvolutionalDecoder(image_shape, code_size, channels=channels, generator=generator, **options),
        ]
    )


def mlp_pair(**options) -> nn.ModuleList:
    generator = seeded()
    return nn.ModuleList(
        [MLP((35, 16, 8, 4), generator=generator, **options), MLP((4, 8, 16, 35), generator=generator, **options)]
    )


def tied_pair(**options) -> nn.ModuleList:
    encoder = MLP((35, 16, 8, 4), generator=seeded(), **options)
    return nn.ModuleList([encoder, TiedMLP(encoder)])


PAIRS = {"mlp": mlp_pair, "tied": tied_pair, "convolutional": convolutional_pair}
by_pair = pytest.mark.parametrize("build", PAIRS.values(), ids=PAIRS.keys())


def reconstruct(pair: nn.ModuleList, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    encoder, decoder = pair
    return decoder(encoder(x, generator), generator)


# Shapes


@pytest.mark.parametrize("image_shape", IMAGE_SHAPES)
@pytest.mark.parametrize("channels", [(), (4,), (4, 6, 8), None])
@pytest.mark.parametrize("dense_sizes", [(), (9, 5)])
def test_convolutional_pair_fits_every_image_size(image_shape, channels, dense_sizes):
    pair = convolutional_pair(image_shape, 3, channels, dense_sizes=dense_sizes)
    x = torch.rand(2, math.prod(image_shape), generator=seeded())
    assert pair[0](x).shape == (2, 3)
    assert reconstruct(pair, x).shape == x.shape


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_convolutional_pair_fits_every_odd_kernel(kernel_size):
    pair = convolutional_pair((2, 9, 6), kernel_size=kernel_size)
    x = torch.rand(2, 108, generator=seeded())
    assert reconstruct(pair, x).shape == x.shape


@by_pair
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_leading_axes_are_kept(build, normalization):
    pair = build(normalization=normalization).eval()
    x = torch.rand(3, 2, 6, 35, generator=seeded())
    once = reconstruct(pair, x)
    assert once.shape == x.shape
    torch.testing.assert_close(once[1, 1], reconstruct(pair, x[1, 1]))


def test_linear_output_has_nothing_after_the_last_affine_map():
    network = MLP((5, 4, 3), "relu", normalization="batch", dropout=0.5, generator=seeded())
    assert [type(layer) for layer in network.layers] == [nn.Linear, BatchNormalization, nn.ReLU, Dropout, nn.Linear]


def test_linear_activation_adds_no_layer():
    assert [type(layer) for layer in MLP((5, 4, 3), "linear", generator=seeded()).layers] == [nn.Linear, nn.Linear]


@by_pair
def test_start_at_sets_the_initial_output_of_the_decoder(build):
    decoder = build()[1]
    output = torch.full((35,), 0.25)
    decoder.start_at(output)
    torch.testing.assert_close(decoder(torch.zeros(1, 4))[0], output)


@pytest.mark.parametrize(
    ("n_columns", "code_size", "sizes"),
    [
        (784, 32, (512, 256)),
        (100_000, 32, (512, 256)),
        (300, 8, (256, 128)),
        (128, 8, (128, 64)),
        (1, 1, (64, 32)),
        (100, 50, (64, 50)),
        (100, 200, (200, 200)),
    ],
)
def test_default_hidden_sizes_are_powers_of_two_and_never_narrower_than_the_code(n_columns, code_size, sizes):
    assert default_hidden_sizes(n_columns, code_size) == sizes


# Gradients


@by_pair
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradient_reaches_every_parameter(build, activation, normalization):
    pair = build(activation=activation, normalization=normalization, dropout=0.1)
    x = torch.randn(16, 35, generator=seeded())
    (reconstruct(pair, x, seeded()) - x).pow(2).sum().backward()
    for name, parameter in pair.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # Batch normalisation subtracts what a bias before it adds, so that the exact gradient of such a bias is zero.
        cancelled = normalization == "batch" and name.endswith("bias")
        assert cancelled or parameter.grad.abs().max() > 1e-6, name


# Initialisation and randomness


@by_pair
def test_same_generator_seed_gives_the_same_weights_and_another_seed_others(build):
    first, second = build().state_dict(), build().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    one, other = MLP((5, 4), generator=seeded(1)), MLP((5, 4), generator=seeded(2))
    assert not torch.equal(one.layers[0].weight, other.layers[0].weight)


@by_pair
def test_torch_global_generator_is_not_used_by_building_copying_and_training(build):
    before = torch.random.get_rng_state()
    pair = copy.deepcopy(build(normalization="batch", dropout=0.5))
    reconstruct(pair, torch.rand(4, 35, generator=seeded()), seeded()).sum().backward()
    assert torch.equal(torch.random.get_rng_state(), before)


# Input scale at which each scheme is derived: near zero for Glorot's, unit variance of pre-activations for He's.
SCALES = {"sigmoid": 0.05, "tanh": 0.1, "relu": 1.0, "gelu": 0.65, "silu": 0.6, "softplus": 0.52, "linear": 1.0}


def variance_over_rows(a: Tensor) -> float:
    return a.var(0).mean().item()


def second_moment(a: Tensor) -> float:
    return a.pow(2).mean().item()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_five_layers_preserve_the_scale_of_activations_and_gradients(activation):
    generator = seeded()
    x = SCALES[activation] * torch.randn(512, 400, generator=generator)
    network = MLP((*[400] * 6, 400), activation, generator=generator)
    preactivations: list[Tensor] = []
    for layer in network.affine_maps:
        layer.register_forward_hook(lambda _layer, _inputs, a: preactivations.append(a))
    with torch.no_grad():
        network(x)
    # He's scheme preserves the second moment, which is the variance where the mean is zero or subtracted.
    measure = second_moment if activation in ("relu", "gelu", "silu") else variance_over_rows
    first, *_, fifth, _ = (measure(a) for a in preactivations)
    assert 0.5 < fifth / first < 2.0


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "softplus"])
def test_gains_of_the_rectifiers_are_the_gaussian_integrals(activation):
    generator = seeded()
    weight = affine(500, 600, activation, generator=generator).weight.double()
    z = torch.linspace(-12, 12, 100_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    f = ACTIVATIONS[activation]()(z)
    moment = torch.trapezoid(f**2 * density, z)
    if activation == "softplus":
        moment = moment - torch.trapezoid(f * density, z) ** 2
    assert weight.var().item() == pytest.approx(1 / (500 * moment.item()), rel=0.02)


@pytest.mark.parametrize(("activation", "gain"), [("sigmoid", 4.0), ("tanh", 1.0), ("linear", 1.0)])
def test_glorot_uses_both_sides_of_a_layer_and_four_for_the_sigmoid(activation, gain):
    weight = affine(300, 700, activation, generator=seeded()).weight
    assert weight.std().item() == pytest.approx(gain * math.sqrt(2 / 1000), rel=0.02)


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_convolutional_layers_preserve_the_scale_in_both_directions(activation):
    generator = seeded()
    options = {"channels": (48, 48, 48), "dense_sizes": (256,), "generator": generator, "activation": activation}
    encoder = ConvolutionalEncoder((48, 32, 32), 256, **options)
    decoder = ConvolutionalDecoder((48, 32, 32), 256, **options)
    measure = second_moment if activation == "relu" else variance_over_rows
    with torch.no_grad():
        code = encoder(SCALES[activation] * torch.randn(16, 48 * 32 * 32, generator=generator))
        output = decoder(SCALES[activation] * torch.randn(16, 256, generator=generator))
    for result in (code, output):
        assert 0.25 < measure(result) / SCALES[activation] ** 2 < 4.0


# Tied weights


def test_tied_decoder_is_the_transposed_encoder_with_biases_of_its_own():
    encoder, decoder = tied_pair(activation="tanh").double()
    code = torch.randn(6, 4, generator=seeded(), dtype=torch.float64)
    first, second, third = (layer.weight for layer in encoder.affine_maps)
    c = [bias.detach().normal_(generator=seeded(depth)) for depth, bias in enumerate(decoder.biases)]
    expected = torch.tanh(torch.tanh(code @ third + c[0]) @ second + c[1]) @ first + c[2]
    torch.testing.assert_close(decoder(code), expected)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_tied_weights_occur_once_in_state_dict_and_parameters(normalization):
    pair = tied_pair(normalization=normalization)
    weights = [parameter for parameter in pair.parameters() if parameter.ndim == 2]
    assert len(weights) == 3
    assert [name for name in pair.state_dict() if name.startswith("1.") and pair.state_dict()[name].ndim == 2] == []


def test_gradient_of_a_tied_weight_is_the_sum_of_both_uses():
    encoder, decoder = tied_pair(activation="tanh").double()
    x = torch.randn(6, 35, generator=seeded(), dtype=torch.float64)
    decoder(encoder(x)).pow(2).sum().backward()
    # The same numbers with the tie cut: an encoder of its own and a decoder whose weights are separate leaves.
    apart = copy.deepcopy(encoder)
    apart.zero_grad()
    transposed = [layer.weight.detach().t().clone().requires_grad_() for layer in reversed(encoder.affine_maps)]
    h = apart(x)
    for depth, (weight, bias) in enumerate(zip(transposed, decoder.biases, strict=True)):
        h = F.linear(h, weight, bias.detach())
        h = torch.tanh(h) if depth < 2 else h
    h.pow(2).sum().backward()
    for tied, alone, other in zip(encoder.affine_maps, apart.affine_maps, reversed(transposed), strict=True):
        torch.testing.assert_close(tied.weight.grad, alone.weight.grad + other.grad.t())


def test_deep_copy_keeps_weights_tied_within_the_copy():
    pair = tied_pair()
    code = torch.rand(2, 4, generator=seeded())
    before = pair[1](code)
    twin = copy.deepcopy(pair)
    with torch.no_grad():
        for parameter in twin[0].parameters():
            parameter.zero_()
    assert twin[1](code).abs().max() == 0
    torch.testing.assert_close(pair[1](code), before, rtol=0, atol=0)


def test_weights_stay_tied_after_loading_a_state_and_changing_the_precision():
    pair, other = tied_pair(), tied_pair(activation="tanh")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5).add_(0.1)
    pair.load_state_dict(other.state_dict(), assign=True)
    pair.double()
    code = torch.rand(2, 4, generator=seeded(), dtype=torch.float64)
    weights = [layer.weight for layer in pair[0].affine_maps]
    expected = F.relu(F.relu(code @ weights[2] + 0.1) @ weights[1] + 0.1) @ weights[0] + 0.1
    torch.testing.assert_close(pair[1](code), expected, rtol=1e-6, atol=1e-6)


# Dropout


def test_dropout_keeps_the_mean_and_drops_at_its_rate():
    dropped = Dropout(0.3)(torch.ones(400, 500), seeded())
    assert (dropped == 0).double().mean().item() == pytest.approx(0.3, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)


def test_dropout_of_maps_drops_whole_maps():
    dropped = Dropout(0.5, whole_maps=True)(torch.ones(8, 16, 5, 5), seeded())
    assert set(dropped.mean((2, 3)).unique().tolist()) == {0.0, 2.0}


@by_pair
def test_dropout_uses_the_generator_and_is_off_without_one_and_in_eval_mode(build):
    pair = build(dropout=0.5)
    x = torch.rand(4, 35, generator=seeded())
    first, again, another = (reconstruct(pair, x, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, another)
    plain = reconstruct(pair, x)
    assert not torch.equal(first, plain)
    pair.eval()
    generator = seeded()
    state = generator.get_state()
    assert torch.equal(reconstruct(pair, x, generator), plain)
    assert torch.equal(generator.get_state(), state)


# Normalisation


def test_batch_normalisation_agrees_with_torch():
    ours, theirs = BatchNormalization(3).double(), nn.BatchNorm1d(3).double()
    x = torch.randn(50, 3, generator=seeded(), dtype=torch.float64) * 3 + 1
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_batch_normalisation_counts_leading_axes_as_rows():
    x = torch.randn(4, 5, 3, generator=seeded())
    y = BatchNormalization(3)(x)
    torch.testing.assert_close(y.reshape(20, 3), BatchNormalization(3)(x.reshape(20, 3)))
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(3), atol=1e-6, rtol=0)


@by_pair
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_training_accepts_a_batch_of_one_row(build, normalization):
    pair = build(normalization=normalization)
    output = reconstruct(pair, torch.rand(1, 35, generator=seeded()))
    output.sum().backward()
    assert output.isfinite().all()


@pytest.mark.parametrize("maps", [False, True], ids=["units", "maps"])
def test_a_single_row_is_normalised_by_the_running_moments_without_update(maps):
    layer = BatchNormalization(3, maps=maps)
    layer.running_mean.fill_(1.0)
    layer.running_variance.fill_(4.0)
    x = torch.full((1, 3, 1, 1) if maps else (1, 3), 5.0)
    torch.testing.assert_close(layer(x), torch.full_like(x, 2.0))
    assert layer.running_mean.tolist() == [1.0, 1.0, 1.0]


@by_pair
def test_layer_normalisation_makes_hidden_layers_invariant_to_scale(build):
    pair = build(normalization="layer")
    x = torch.randn(4, 35, generator=seeded())
    torch.testing.assert_close(reconstruct(pair, 10 * x), reconstruct(pair, x), rtol=1e-3, atol=1e-3)


# Invalid arguments


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLP((3, 2), "rleu", generator=seeded()), r"activation 'rleu' is unknown; did you mean 'relu'\?"),
        (lambda: MLP((3, 2), "Sigmoid", generator=seeded()), "did you mean 'sigmoid'"),
        (lambda: MLP((3, 2), "zzz", generator=seeded()), "activation 'zzz' is unknown; choose one of: sigmoid, tanh"),
        (lambda: MLP((3, 2), normalization="bach", generator=seeded()), "normalization 'bach' .* did you mean 'batch'"),
        (lambda: MLP((3, 2), dropout=1.0, generator=seeded()), r"dropout 1.0 is outside \[0, 1\)"),
        (lambda: MLP((3, 0, 2), generator=seeded()), r"MLP: size 0 at position 1 of \(3, 0, 2\) is not a whole number"),
        (lambda: MLP((3, 2.5), generator=seeded()), "size 2.5 at position 1"),
        (lambda: MLP((3,), generator=seeded()), r"MLP: sizes \(3,\) are too few"),
        (lambda: convolutional_pair(channels=(4, -1)), "channels: size -1 at position 1"),
        (lambda: convolutional_pair(code_size=0), "code_size: size 0"),
        (lambda: convolutional_pair(dense_sizes=(5, 0)), "dense_sizes: size 0 at position 1"),
        (
            lambda: convolutional_pair(image_shape=(28, 28)),
            r"image_shape \(28, 28\) is not \(channels, height, width\)",
        ),
        (lambda: convolutional_pair(kernel_size=4), "kernel_size 4 is even; give an odd size such as 5"),
        (lambda: convolutional_pair(activation="tahn"), "did you mean 'tanh'"),
        (lambda: default_hidden_sizes(0, 3), "size 0 at position 0"),
    ],
)
def test_bad_options_raise_with_the_name(build, message):
    with pytest.raises(InputError, match=message):
        build()
