"""Filters, atoms, effects and activity of units, for networks with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.evaluation import features
from isthmus.evaluation.codes import unit_statistics
from isthmus.evaluation.features import Activity, activity, as_images, atoms, effects, is_linear, top_activating_rows
from isthmus.parts.layers import ACTIVATIONS
from isthmus.parts.networks import MLP, ConvolutionalDecoder, ConvolutionalEncoder, TiedMLP


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes(n: int = 50, units: int = 7) -> torch.Tensor:
    h = torch.randn(n, units, generator=generator(3)).relu()
    h[:, 4] = 0
    return h


def test_activity_over_blocks_is_that_of_the_whole() -> None:
    h = codes()
    found, whole = activity(h.split(8)), unit_statistics(h)
    np.testing.assert_allclose(found.rates, whole.activation_rate)
    np.testing.assert_allclose(found.mean, whole.mean)
    np.testing.assert_allclose(np.sqrt(found.mean_square - found.mean**2), whole.std, atol=1e-12)
    np.testing.assert_array_equal(found.dead, whole.dead)
    np.testing.assert_array_equal(found.largest, h.amax(0))
    np.testing.assert_array_equal(found.smallest, h.amin(0))
    assert found.zero_share == pytest.approx(float((h == 0).double().mean()))
    assert found.active_per_row == pytest.approx(float((h != 0).sum(1).double().mean()))
    assert found.n_rows == 50


def test_the_most_used_units_are_ordered_by_rate_then_by_variance_without_dead_units() -> None:
    h = np.zeros((10, 5), np.float32)
    h[:3, 0], h[:, 1], h[:, 2], h[:9, 4] = 1.0, np.linspace(1, 2, 10), np.linspace(1, 5, 10), 7.0
    assert activity([torch.from_numpy(h)]).most_used.tolist() == [2, 1, 4, 0]


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="there are no rows to measure the activity of units on"):
        activity([torch.empty(0, 3)])


def test_top_activating_rows_are_the_largest_and_ties_keep_their_order() -> None:
    h = np.random.default_rng(0).integers(0, 5, 40).astype(np.float32)
    rows = top_activating_rows(h, 9)
    assert sorted(h, reverse=True)[:9] == h[rows].tolist()
    assert rows.tolist() == sorted(range(40), key=lambda i: (-h[i], i))[:9]
    assert len(top_activating_rows(h, 99)) == 40
    with pytest.raises(InputError, match="n=0: n must be at least 1"):
        top_activating_rows(h, 0)


LINEAR = {
    "affine": lambda dtype: MLP((6, 9), generator=generator()),
    "deep and linear": lambda dtype: MLP((6, 4, 9), "linear", generator=generator()),
    "tied": lambda dtype: TiedMLP(MLP((9, 6), generator=generator()).to(dtype)),
    "batch normalised": lambda dtype: MLP((6, 5, 9), "linear", normalization="batch", generator=generator()),
    "convolutional": lambda dtype: ConvolutionalDecoder(
        (1, 3, 3), 6, channels=(2,), activation="linear", dense_sizes=(), generator=generator()
    ),
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_decoder_is_the_sum_of_its_atoms_and_its_output_at_zero(name: str) -> None:
    decoder = LINEAR[name](torch.float64).double().eval()
    decoder.start_at(torch.linspace(-50, 50, 9, dtype=torch.float64))
    like = torch.empty(0, dtype=torch.float64)
    assert is_linear(decoder, 6, like)
    h = torch.randn(20, 6, generator=generator(1), dtype=torch.float64)
    expected = decoder(h).detach() - decoder(torch.zeros(1, 6, dtype=torch.float64)).detach()
    np.testing.assert_allclose(h.numpy() @ atoms(decoder, 6, like), expected, atol=1e-4)
    assert is_linear(LINEAR[name](torch.float32).eval(), 6)


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "linear"])
def test_a_decoder_with_a_nonlinear_layer_is_not_linear(activation: str) -> None:
    decoder = MLP((6, 30, 9), activation, generator=generator()).eval()
    assert not is_linear(decoder, 6)
    decoder.start_at(torch.full((9,), 100.0))
    assert not is_linear(decoder, 6)


def test_atoms_of_an_affine_decoder_are_its_weights_for_every_batch_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = MLP((6, 9), generator=generator())
    expected = decoder.affine_maps[0].weight.detach().T
    np.testing.assert_allclose(atoms(decoder, 6), expected, atol=1e-6)
    monkeypatch.setattr(features, "CODES_AT_ONCE", 4)
    np.testing.assert_allclose(atoms(decoder, 6), expected, atol=1e-6)


def test_the_effect_of_a_unit_in_a_linear_decoder_is_its_atom_times_its_range() -> None:
    dictionary = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    seen = activity([codes()])
    units = np.array([3, 0, 4])
    found = effects(lambda h: h @ dictionary + 2, seen, units)
    expected = dictionary[units] * (seen.largest - seen.smallest)[units, None]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not found[2].any()


def test_the_effect_of_a_unit_in_a_nonlinear_decoder_is_taken_at_the_mean_code() -> None:
    seen = Activity(2, *(np.array(v) for v in ([1.0, 1.0], [1.0, 2.0], [2.0, 5.0], [0.0, 1.0], [3.0, 3.0])))
    found = effects(lambda h: h.prod(1, keepdims=True) ** 2, seen, np.array([0, 1]))
    # Unit 0 runs from 0 to 3 while unit 1 stays at 2; unit 1 runs from 1 to 3 while unit 0 stays at 1.
    np.testing.assert_allclose(found, [[36.0], [8.0]])


def test_first_layer_weights_distinguish_affine_weights_and_kernels() -> None:
    mlp = MLP((5, 4, 3), generator=generator())
    found = features.first_layer_weights(mlp)
    assert found is not None
    np.testing.assert_array_equal(found[0], mlp.affine_maps[0].weight.detach().double())
    assert (found[1], features.n_weight_layers(mlp)) == (False, 2)
    found = features.first_layer_weights(ConvolutionalEncoder((3, 8, 8), 2, channels=(4,), generator=generator()))
    assert found is not None
    assert (found[0].shape, found[1]) == ((4, 3, 3, 3), True)
    assert features.first_layer_weights(nn.Identity()) is None


def test_weights_are_reshaped_to_images_with_channels_last() -> None:
    flat = np.arange(24.0).reshape(2, 12)
    assert as_images(flat, None) is flat
    np.testing.assert_array_equal(as_images(flat, (1, 3, 4))[1], flat[1].reshape(3, 4))
    np.testing.assert_array_equal(as_images(flat, (3, 2, 2))[1, ..., 2], flat[1, 8:].reshape(2, 2))
