"""The methods that noise removal is compared with, and the signals and measures of the comparison."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import noise_removal
from experiments.noise_baselines import FILTERS, METHODS, by_wavelets


@pytest.mark.parametrize("wavelet", FILTERS)
@pytest.mark.parametrize("shape", [(40,), (16, 16), (13, 20)])
def test_a_wavelet_transform_without_noise_returns_the_signal(wavelet, shape):
    x = np.random.default_rng(0).normal(size=shape)
    np.testing.assert_allclose(by_wavelets(x, 1e-9, wavelet=wavelet), x, atol=1e-6)


@pytest.mark.parametrize("wavelet", FILTERS)
def test_filters_of_wavelets_are_orthonormal_with_vanishing_moments(wavelet):
    low = np.array(FILTERS[wavelet])
    for shift in range(0, len(low), 2):
        assert float(low[shift:] @ low[: len(low) - shift]) == pytest.approx(float(shift == 0), abs=1e-8)
    high = low[::-1] * (-1) ** np.arange(len(low))
    for moment in range(len(low) // 2):
        assert float(high @ np.arange(len(low)) ** moment) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", [(128,), (32, 32)])
def test_every_method_removes_noise_of_a_smooth_signal(name, shape):
    clean = np.sin(np.indices(shape).sum(0) / 6.0)
    noisy = clean + 0.3 * np.random.default_rng(0).normal(size=shape)
    method, options = METHODS[name]
    for given in options:
        assert np.square(method(noisy, 0.3, **given) - clean).mean() < 0.6 * np.square(noisy - clean).mean()


def test_windows_and_patches_are_parts_of_the_signals():
    images = np.arange(2 * 10 * 12.0).reshape(2, 10, 12)
    for part in noise_removal.parts_of(images, 4, 20, 0):
        image, row, column = np.unravel_index(int(part[0, 0]), images.shape)
        np.testing.assert_array_equal(part, images[image, row : row + 4, column : column + 4])
    series = np.arange(60.0).reshape(2, 30)
    for part in noise_removal.parts_of(series, 8, 20, 0):
        np.testing.assert_array_equal(part[:, 0], part[0, 0] + np.arange(8))


def test_the_ratio_of_noise_of_a_tenth_is_twenty_decibels():
    clean = np.random.default_rng(0).random((4, 30, 30))
    noisy = noise_removal.with_noise(clean, 0.1, 1)
    assert noise_removal.measures(noisy, clean, 1.0)["psnr"] == pytest.approx(20, abs=0.2)
