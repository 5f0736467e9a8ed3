"""The stage of convolutional features, compared with loops over pixels and with scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from isthmus.parts.filter_stages import (
    FilterStage,
    convolved,
    gaussian_window,
    local_contrast_normalized,
    local_mean,
    squared_responses,
)


def maps(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_convolution_is_the_correlation_of_scipy_summed_over_channels():
    x, filters = maps(2, 3, 9, 7), maps(4, 3, 3, 2, seed=1)
    found = convolved(x, filters)
    for n in range(2):
        for m in range(4):
            expected = sum(signal.correlate2d(x[n, c], filters[m, c], "valid") for c in range(3))
            np.testing.assert_allclose(found[n, m], expected, atol=1e-12)


@pytest.mark.parametrize("n_tiles", [2, 3])
def test_tiles_use_the_filter_of_the_position_modulo_their_number(n_tiles):
    x, filters = maps(2, 3, 8, 7), maps(n_tiles**2 * 5, 3, 2, 3, seed=1)
    found = convolved(x, filters, n_tiles)
    assert found.shape == (2, 5, 7, 5)
    for i in range(7):
        for j in range(5):
            own = filters[5 * ((i % n_tiles) * n_tiles + j % n_tiles) :][:5]
            patch = x[:, :, i : i + 2, j : j + 3]
            torch.testing.assert_close(found[:, :, i, j], torch.einsum("nchw,mchw->nm", patch, own))


def test_equal_tiles_are_a_convolution():
    x, filters = maps(2, 2, 8, 8), maps(3, 2, 3, 3, seed=1)
    torch.testing.assert_close(convolved(x, filters.repeat(4, 1, 1, 1), 2), convolved(x, filters))


def test_more_tiles_than_positions_leave_some_unused():
    x, filters = maps(1, 1, 3, 3), maps(9, 1, 2, 2, seed=1)
    assert torch.isfinite(convolved(x, filters, 3)).all()
    assert squared_responses(x, filters, 3)[1].tolist() == [1, 1, 0, 1, 1, 0, 0, 0, 0]


def test_a_local_mean_is_a_gaussian_correlation_divided_by_that_of_ones():
    x = maps(1, 1, 11, 8)
    window = np.outer(gaussian_window(5), gaussian_window(5)).astype(np.float64)
    blurred, inside = (
        ndimage.correlate(image, window, mode="constant") for image in (x[0, 0].numpy(), np.ones((11, 8)))
    )
    np.testing.assert_allclose(local_mean(x, 5)[0, 0], blurred / inside, atol=1e-7)


def test_the_gaussian_window_has_two_deviations_in_half_its_width():
    weights = gaussian_window(9)
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-6)
    np.testing.assert_allclose(weights[4] / weights[8], np.exp(0.5 * (4 / 2.25) ** 2), rtol=1e-5)


def test_local_contrast_is_that_of_a_loop_over_pixels():
    x, size, half = maps(1, 2, 7, 6).numpy(), 3, 1
    w = np.outer(gaussian_window(size), gaussian_window(size)).astype(np.float64)

    def mean(values):
        found = np.empty((7, 6))
        for i in range(7):
            for j in range(6):
                near = [(a, b) for a in range(-half, half + 1) for b in range(-half, half + 1)
                        if 0 <= i + a < 7 and 0 <= j + b < 6]  # fmt: skip
                total = sum(w[a + half, b + half] for a, b in near)
                found[i, j] = sum(w[a + half, b + half] * values[i + a, j + b] for a, b in near) / total
        return found

    v = x[0] - mean(x[0].mean(0))
    s = np.sqrt(mean((v**2).mean(0)))
    expected = v / np.maximum(s, s.mean())
    np.testing.assert_allclose(local_contrast_normalized(torch.from_numpy(x), size)[0], expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, 1e6])
def test_images_of_one_value_become_zero_up_to_rounding(value):
    y = local_contrast_normalized(torch.full((2, 3, 12, 12), value), 5)
    assert float(y.abs().max()) <= 0.1


def test_local_contrast_does_not_depend_on_the_unit_of_an_image():
    x = maps(3, 2, 12, 12)
    torch.testing.assert_close(local_contrast_normalized(1e3 * x + 7, 5), local_contrast_normalized(x, 5))


def test_a_stage_is_its_steps_one_after_the_other():
    x, filters = maps(2, 3, 12, 12).float(), maps(4, 3, 3, 3, seed=1).float()
    scale, gain = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, -2.0, 0.5, 1.0])
    stage = FilterStage(
        filters, scale, gain, n_tiles=1, activation="tanh", rectification="abs", normalization_size=5,
        pooling="mean", pool_size=4, pool_stride=3,
    )  # fmt: skip
    responses = convolved(x, filters) / scale[:, None, None]
    expected = local_contrast_normalized((gain[:, None, None] * responses.tanh()).abs(), 5)
    pooled = torch.stack(
        [torch.stack([expected[:, :, i : i + 4, j : j + 4].mean((2, 3)) for j in (0, 3, 6)], -1) for i in (0, 3, 6)], -2
    )
    torch.testing.assert_close(stage(x), pooled, atol=1e-5, rtol=1e-5)


def test_largest_values_are_pooled():
    stage = FilterStage(
        torch.ones(1, 1, 1, 1), torch.ones(1), torch.ones(1), n_tiles=1, activation="linear", rectification=None,
        normalization_size=None, pooling="max", pool_size=2, pool_stride=2,
    )  # fmt: skip
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert stage(x).flatten().tolist() == [5, 7, 13, 15]
