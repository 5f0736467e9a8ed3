"""Noise removed at its level: Stein's estimate against the true error, estimated levels, patches, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from isthmus import Autoencoder, DenoisingAutoencoder, GaussianNoise, InputError, load
from isthmus.data import Documents, noise_level
from isthmus.estimators.noise_removal import denoised
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import Gaussian
from isthmus.parts.networks import MLP

X = load_digits().images / 16
TRAIN, TEST = X[:1400], X[1400:]


def noisy(rows, level, seed=0):
    return rows + level * np.random.default_rng(seed).normal(size=rows.shape)


def error(rows, truth):
    return float(np.square(np.asarray(rows, np.float64) - np.asarray(truth)).mean())


def smooth(shape, seed=0):
    """Return sums of slow waves along every axis but the first and the last."""
    generator = np.random.default_rng(seed)
    total = np.zeros(shape)
    for axis in range(1, len(shape) - 1):
        line = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        for _ in range(3):
            period, phase = generator.uniform(20, 60), generator.uniform(0, 6, (shape[0], *(1,) * (len(shape) - 1)))
            total = total + np.sin(2 * np.pi * line / period + phase)
    return total


@pytest.fixture(scope="module")
def cleaner():
    return DenoisingAutoencoder(
        corruption=GaussianNoise(scale=(0, 0.6)), hidden_sizes=(128,), code_size=128, max_epochs=20,
        code_activation="silu", precision="fp32", random_state=0,
    ).fit(TRAIN)  # fmt: skip


# The level of the noise


@pytest.mark.parametrize("level", [0.1, 0.5])
@pytest.mark.parametrize(
    ("shape", "layout"), [((20, 40, 50, 1), "nhwc"), ((10, 40, 50, 3), "nhwc"), ((30, 200, 2), "ntc")]
)
def test_the_level_of_noise_on_smooth_rows_is_found(shape, layout, level):
    for seed in range(3):
        found = noise_level(noisy(smooth(shape, seed), level, seed), layout)
        assert found.shape == (shape[-1],)
        np.testing.assert_allclose(found, level, rtol=0.1)


def test_channels_have_levels_of_their_own_wherever_their_axis_is():
    last = noisy(smooth((30, 40, 50, 3)), 1.0) * np.array([0.2, 1.0, 5.0])
    first = np.moveaxis(last, -1, 1)
    np.testing.assert_allclose(noise_level(first, "nchw"), noise_level(last, "nhwc"))
    ratios = noise_level(last - 0, "nhwc") / noise_level(last / [0.2, 1.0, 5.0], "nhwc")
    np.testing.assert_allclose(ratios, [0.2, 1.0, 5.0])


def test_missing_values_are_left_out_of_the_level():
    rows = noisy(smooth((30, 200, 1)), 0.3)
    rows[np.random.default_rng(1).random(rows.shape) < 0.1] = np.nan
    np.testing.assert_allclose(noise_level(rows, "ntc"), 0.3, rtol=0.1)


def test_a_model_estimates_the_level_in_the_units_of_the_rows(cleaner):
    np.testing.assert_allclose(cleaner.noise_level(noisy(TEST, 0.5)), 0.5, rtol=0.1)
    bytes_model = DenoisingAutoencoder(max_epochs=1, random_state=0).fit((TRAIN * 255).astype(np.uint8))
    np.testing.assert_allclose(bytes_model.noise_level(255 * noisy(TEST, 0.5)), 127, rtol=0.1)


# Stein's estimate


def linear_coder(matrix):
    """Return a coder with r(x) = A x."""
    n = len(matrix)
    encoder, decoder = (MLP((n, n), generator=torch.Generator().manual_seed(0)) for _ in range(2))
    encoder.requires_grad_(False).affine_maps[0].weight.copy_(torch.as_tensor(matrix, dtype=torch.float32))
    decoder.requires_grad_(False).affine_maps[0].weight.copy_(torch.eye(n))
    return Coder(EncoderMap(encoder), decoder, Gaussian(n))


def signs(n, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).choice([-1.0, 1.0], n).astype(np.float32))


def test_the_weight_of_a_linear_map_is_steins_in_closed_form():
    # r = A x with A diagonal: the divergence is exact, sum_j s_j^2 (1 - a_j), for any probe.
    generator = np.random.default_rng(0)
    diagonal, x = generator.uniform(0, 1, 40), generator.normal(size=(20, 40))
    levels = generator.uniform(0.1, 0.6, 40)
    made = denoised(
        linear_coder(np.diag(diagonal)), Batch(torch.from_numpy(x).float()), torch.from_numpy(levels).float(), signs(40)
    ).numpy()
    r = diagonal * x
    needed = (levels**2 * (1 - diagonal)).sum() + np.sqrt(2 * (levels**4).sum())
    weight = np.clip(needed / np.square(r - x).sum(1), 0, 1)[:, None]
    np.testing.assert_allclose(made, x + weight * (r - x), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("level", [0.2, 1.0])
def test_the_true_error_is_near_that_of_the_best_weight(level):
    # Shrinkage r = x / 2 of rows of variance 1: the best weight minimises E ||x + w (r - x) - mu||^2 in closed form,
    # w = 2 s^2 / (1 + s^2), at most 1.
    n, generator = 4000, np.random.default_rng(1)
    truth = generator.normal(size=(50, n))
    x = truth + level * generator.normal(size=truth.shape)
    made = denoised(
        linear_coder(np.eye(n) / 2), Batch(torch.from_numpy(x).float()), torch.full((n,), level), signs(n)
    ).numpy()
    best = min(2 * level**2 / (1 + level**2), 1.0)
    lowest = level**2 * (1 - best / 2) ** 2 + (best / 2) ** 2
    assert error(made, truth) == pytest.approx(lowest, rel=0.02)


def test_rows_without_noise_come_back_as_they_are(cleaner):
    np.testing.assert_allclose(cleaner.denoise(TEST, 0.0), TEST, atol=1e-6)


# Rows of users


@pytest.mark.parametrize("level", [0.1, 0.3, 0.6])
def test_the_error_of_held_out_digits_falls_at_every_level(cleaner, level):
    rows = noisy(TEST, level)
    assert error(cleaner.denoise(rows, level), TEST) < 0.75 * error(rows, TEST)
    if level > 0.1:  # strokes fill small digits, and the estimate of small noise is too large
        assert error(cleaner.denoise(rows), TEST) < 0.5 * error(rows, TEST)


def test_a_row_does_not_depend_on_the_others(cleaner):
    rows = noisy(TEST, 0.3)
    np.testing.assert_allclose(cleaner.denoise(rows[7:8], 0.3), cleaner.denoise(rows, 0.3)[7:8], atol=1e-6)


def test_a_file_denoises_as_its_model(cleaner, tmp_path):
    cleaner.save(tmp_path / "m.isthmus")
    rows = noisy(TEST[:20], 0.3)
    np.testing.assert_array_equal(load(tmp_path / "m.isthmus").denoise(rows, 0.3), cleaner.denoise(rows, 0.3))


def test_series_have_a_level_for_each_channel():
    truth = smooth((300, 40, 2)) * [1.0, 10.0]
    model = DenoisingAutoencoder(
        corruption=GaussianNoise(scale=(0, 1)), hidden_sizes=(64,), code_size=64, max_epochs=40, layout="ntc",
        code_activation="silu", random_state=0,
    ).fit(truth[:250])  # fmt: skip
    rows = truth[250:] + np.random.default_rng(0).normal(size=truth[250:].shape) * [0.3, 3.0]
    made = model.denoise(rows)
    assert made.shape == rows.shape
    for channel in range(2):
        assert error(made[..., channel], truth[250:, :, channel]) < 0.5 * error(
            rows[..., channel], truth[250:, :, channel]
        )
    np.testing.assert_allclose(model.denoise(rows, model.noise_level(rows)), made)


def test_a_table_keeps_index_and_columns_and_takes_the_level_of_training():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(500, 2)) @ generator.normal(size=(2, 8)) * np.repeat([1, 10], 4)
    truth = pd.DataFrame(truth, columns=list("abcdefgh"), index=range(500, 1000))
    model = DenoisingAutoencoder(corruption=GaussianNoise(scale=0.3), max_epochs=60, random_state=0).fit(truth)
    rows = truth + 0.3 * truth.std().to_numpy() * generator.normal(size=truth.shape)
    made = model.denoise(rows)
    assert made.index.equals(rows.index)
    assert list(made.columns) == list(rows.columns)
    scale = truth.std()
    assert error(made / scale, truth / scale) < 0.6 * error(rows / scale, truth / scale)
    pd.testing.assert_frame_equal(made, model.denoise(rows, 0.3 * model.preprocessing_.scale))


def test_missing_entries_are_filled_with_the_reconstruction():
    generator = np.random.default_rng(0)
    truth = generator.normal(size=(300, 2)) @ generator.normal(size=(2, 6))
    truth[generator.random(truth.shape) < 0.1] = np.nan
    model = DenoisingAutoencoder(corruption="missing", missing="mask", max_epochs=20, random_state=0).fit(truth)
    made = model.denoise(truth, 0.0)
    seen = ~np.isnan(truth)
    np.testing.assert_allclose(made[seen], truth[seen], atol=1e-5)
    np.testing.assert_allclose(made[~seen], model.reconstruct(truth)[~seen], atol=1e-5)


# Larger images


@pytest.mark.parametrize("layout", ["nhw", "nhwc", "nchw"])
def test_a_model_of_patches_denoises_larger_images(layout):
    whole = smooth((40, 24, 20, 1)) + 0.1
    axis = {"nhwc": -1, "nchw": 1}.get(layout)
    shaped = whole[..., 0] if axis is None else np.moveaxis(np.repeat(whole, 2, axis=-1), -1, axis)
    height = 2 if layout == "nchw" else 1
    patches = np.concatenate([
        np.take(np.take(shaped, range(i, i + 8), height), range(j, j + 8), height + 1)
        for i in (0, 5, 16) for j in (0, 7, 12)
    ])  # fmt: skip
    model = DenoisingAutoencoder(
        corruption=GaussianNoise(scale=(0, 0.6)), hidden_sizes=(64,), code_size=64, max_epochs=10,
        code_activation="silu", layout=layout, random_state=0,
    ).fit(patches)  # fmt: skip
    rows = noisy(shaped, 0.5)
    made = model.denoise(rows, 0.5)
    assert made.shape == shaped.shape
    assert error(made, shaped) < 0.4 * error(rows, shaped)


# Refusals


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (-0.1, "noise_level=-0.1: a standard deviation is a finite number, 0 or more"),
        (float("nan"), "noise_level=nan: a standard deviation"),
        ("much", "noise_level='much' is not a number"),
        ([0.1, 0.2], r"noise_level has the shape \(2,\); give one number, or one for each of the 1 channels"),
    ],
)
def test_an_invalid_level_is_refused(cleaner, level, said):
    with pytest.raises(InputError, match=said):
        cleaner.denoise(TEST, level)


def test_rows_whose_level_is_unknown_are_refused():
    rows = np.random.default_rng(0).normal(size=(60, 5))
    model = DenoisingAutoencoder(max_epochs=1, random_state=0).fit(rows)
    with pytest.raises(InputError, match="cannot be estimated, .* not trained with one level .*; give noise_level"):
        model.denoise(rows)
    assert model.denoise(rows, 0.1).shape == rows.shape
    with pytest.raises(InputError, match="estimated from neighbouring pixels or steps, and the rows are .*5 columns"):
        noise_level(rows)
    with pytest.raises(InputError, match="three neighbours along each axis, and the rows have 2 positions"):
        noise_level(np.zeros((5, 2, 1)), "ntc")
    with pytest.raises(InputError, match="no value has all its neighbours observed"):
        noise_level(np.full((5, 9, 1), np.nan), "ntc")


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        (
            Documents(["red sky", "blue sky", "red sea"] * 20),
            {},
            "fitted on texts; denoise is for images, series and columns",
        ),
        (pd.DataFrame({"x": np.arange(60.0) / 7, "c": ["a", "b", "c"] * 20}), {}, "column 'c' has no real numbers"),
        (pd.DataFrame({"x": np.arange(60.0) / 7, "y": np.arange(60.0) / 3}), {"scaling": "quantile"}, "quantile"),
    ],
)
def test_rows_without_gaussian_noise_are_refused(rows, options, said):
    model = DenoisingAutoencoder(max_epochs=1, random_state=0, **options).fit(rows)
    with pytest.raises(InputError, match=said):
        model.denoise(rows, 0.1)


def test_a_model_of_pairs_names_reconstruct():
    model = DenoisingAutoencoder(max_epochs=1, random_state=0).fit(noisy(TRAIN, 0.3), TRAIN)
    with pytest.raises(InputError, match=r"decodes a target.*reconstruct\(X\)"):
        model.denoise(TEST)


def test_smaller_images_are_refused(cleaner):
    with pytest.raises(InputError, match=r"shape \(7, 8\), but the model was fitted on rows of shape \(8, 8\)"):
        cleaner.denoise(np.zeros((3, 7, 8)), 0.1)


def test_other_kinds_have_no_denoise():
    assert not hasattr(Autoencoder(), "denoise")
