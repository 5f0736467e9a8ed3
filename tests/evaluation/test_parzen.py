"""Parzen windows against scikit-learn, and the table that shows why they rank nothing."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KernelDensity

from isthmus import InputError
from isthmus.evaluation import parzen
from isthmus.evaluation.parzen import GRID, parzen_log_prob, parzen_table

RNG = np.random.default_rng(0)
SAMPLES, ROWS, HELD_OUT = (RNG.random((n, 5)) for n in (80, 33, 40))


def exact(samples, rows, bandwidth):
    return KernelDensity(bandwidth=bandwidth, rtol=1e-12, atol=1e-12).fit(samples).score_samples(rows)


def test_the_density_is_that_of_scikit_learn_in_any_blocks(monkeypatch):
    expected = exact(SAMPLES, ROWS, 0.3)
    np.testing.assert_allclose(parzen_log_prob(SAMPLES, ROWS, bandwidth=0.3).log_prob, expected, rtol=1e-8)
    monkeypatch.setattr(parzen, "MAX_ENTRIES", 170)
    found = parzen_log_prob(torch.from_numpy(SAMPLES), ROWS, bandwidth=0.3)
    np.testing.assert_allclose(found.log_prob, expected, rtol=1e-8)
    assert found.mean_error == pytest.approx(expected.std(ddof=1) / np.sqrt(33))


def test_the_bandwidth_has_the_largest_mean_on_the_validation_rows():
    means = [exact(SAMPLES, HELD_OUT, width).mean() for width in GRID]
    found = parzen_log_prob(SAMPLES, ROWS, validation=HELD_OUT)
    assert found.bandwidth == GRID[int(np.argmax(means))]
    assert not found.at_the_edge
    assert parzen_log_prob(SAMPLES, ROWS, validation=HELD_OUT, grid=(0.5, 0.4)).at_the_edge
    np.testing.assert_allclose(found.log_prob, exact(SAMPLES, ROWS, found.bandwidth), rtol=1e-8)


def test_far_from_zero_distances_keep_their_precision():
    np.testing.assert_allclose(
        parzen_log_prob(SAMPLES + 1000, ROWS + 1000, bandwidth=0.3).log_prob, exact(SAMPLES, ROWS, 0.3), rtol=1e-6
    )


def test_centres_of_k_means_are_above_real_rows_which_shows_that_the_measure_can_be_gamed():
    pixels = load_digits().data[RNG.permutation(1797)] / 16
    train, held_out, test = pixels[:1200], pixels[1200:1500], pixels[1500:]
    model = np.clip(RNG.multivariate_normal(train.mean(0), np.cov(train.T), 100), 0, 1)
    table = {row.name: row for row in parzen_table(model, train, held_out, test)}
    assert {row.n_points for row in table.values()} == {100}
    values = {name: row.estimate.mean for name, row in table.items()}
    error = table["training rows"].estimate.mean_error
    assert values["k-means centres"] > values["training rows"] + 5 * error
    assert values["training rows"] > values["model samples"]
    assert [row.n_points for row in parzen_table(model, train[:60], held_out, test, n_centres=20)] == [100, 20, 60]


@pytest.mark.parametrize(
    ("samples", "rows", "arguments", "text"),
    [
        (np.zeros((0, 5)), ROWS, {"bandwidth": 1.0}, "samples have the shape .0, 5.; pass a matrix"),
        (SAMPLES, np.zeros(5), {"bandwidth": 1.0}, "rows have the shape"),
        (SAMPLES, ROWS[:, :4], {"bandwidth": 1.0}, "rows have 4 columns, and the samples 5"),
        (SAMPLES, ROWS, {"validation": ROWS[:, :4]}, "validation have 4 columns"),
        (SAMPLES * np.nan, ROWS, {"bandwidth": 1.0}, "samples have missing or infinite values"),
        (SAMPLES, ROWS, {}, "the bandwidth is unknown: give bandwidth=, or validation="),
        (SAMPLES, ROWS, {"bandwidth": 0.0}, "bandwidth=0.0: it must be a finite number above 0"),
        (SAMPLES, ROWS, {"validation": HELD_OUT, "grid": ()}, "grid is empty"),
    ],
)
def test_invalid_arguments_are_refused(samples, rows, arguments, text):
    with pytest.raises(InputError, match=text):
        parzen_log_prob(samples, rows, **arguments)


def test_more_centres_than_rows_are_refused():
    with pytest.raises(InputError, match="n_centres=50: there are 40 training rows"):
        parzen_table(SAMPLES, HELD_OUT, ROWS, ROWS, n_centres=50)
