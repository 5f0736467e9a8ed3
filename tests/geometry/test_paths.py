"""Paths through the code against closed forms, and continuity and completeness of decoders that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isthmus import InputError, LinearAutoencoder
from isthmus.estimators.records import ModelOutput
from isthmus.geometry.paths import (
    completeness,
    continuity,
    linear_path,
    mean_difference,
    path_between,
    shifted,
    spherical_path,
    unit_path,
    unit_range,
)
from isthmus.parts.likelihoods import Gaussian

RNG = np.random.default_rng(0)
START, END = RNG.normal(size=(2, 5, 3)).astype(np.float32)


@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_a_path_has_the_codes_themselves_as_ends(method):
    path = path_between(START, END, 7, method)
    assert (path.shape, path.dtype) == ((5, 7, 3), np.float32)
    np.testing.assert_array_equal(path[:, 0], START)
    np.testing.assert_array_equal(path[:, -1], END)


def test_a_linear_path_has_equal_steps():
    steps = np.diff(linear_path(START, END, 6), axis=1)
    np.testing.assert_allclose(steps, np.repeat(((END - START) / 5)[:, None], 5, 1), atol=1e-6)


def test_lengths_and_angles_of_a_spherical_path_change_in_equal_steps():
    path = spherical_path(START, END, 6).astype(float)
    lengths = np.linalg.norm(path, axis=-1)
    np.testing.assert_allclose(np.diff(lengths, axis=1), np.repeat(np.diff(lengths[:, [0, -1]]) / 5, 5, 1), atol=1e-6)
    u = path / lengths[..., None]
    angles = np.arccos(np.clip((u[:, 1:] * u[:, :-1]).sum(-1), -1, 1))
    whole = np.arccos((u[:, 0] * u[:, -1]).sum(-1))
    np.testing.assert_allclose(angles, np.repeat(whole[:, None] / 5, 5, 1), atol=1e-4)


def test_a_spherical_path_of_unit_codes_is_scipys():
    spatial = pytest.importorskip("scipy.spatial")
    unit = [codes / np.linalg.norm(codes, axis=-1, keepdims=True) for codes in RNG.normal(size=(2, 4, 3))]
    expected = spatial.geometric_slerp(unit[0][0], unit[1][0], np.linspace(0, 1, 9))
    np.testing.assert_allclose(spherical_path(*unit, 9)[0], expected, atol=1e-12)


def test_parallel_and_zero_codes_are_interpolated_linearly():
    start = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    end = np.array([[3.0, 6.0], [2.0, -1.0], [1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(spherical_path(start, end, 5), linear_path(start, end, 5), atol=1e-12)


def test_codes_of_opposite_directions_have_no_spherical_path():
    with pytest.raises(InputError, match=r"codes of pair 1 have opposite directions, .*; use method='linear'"):
        spherical_path(START[:2], np.stack([END[0], -2 * START[1]]), 4)
    with pytest.raises(InputError, match="opposite directions"):
        spherical_path(np.array([[1.0]]), np.array([[-3.0]]), 4)


@pytest.mark.parametrize("n", [1, 0, -3, 2.0, True, "5", None])
def test_a_path_needs_two_steps(n):
    with pytest.raises(InputError, match=r"n=.*must be a whole number, 2 or more"):
        linear_path(START, END, n)


def test_unknown_methods_and_other_numbers_of_ends_are_refused():
    with pytest.raises(InputError, match="method='cubic' is not one of linear, spherical"):
        path_between(START, END, 4, "cubic")
    with pytest.raises(InputError, match="5 rows to start from and 1 row to end at; give one each, or equally many"):
        path_between(START, END[:1], 4)


def test_a_unit_moves_between_its_quantiles_or_where_they_are_equal_between_its_ends():
    values = RNG.normal(size=1000)
    assert unit_range(values, 0) == pytest.approx(tuple(np.quantile(values, [0.01, 0.99])))
    rare = np.zeros(1000)
    rare[3] = 2.0
    assert unit_range(rare, 0) == (0, 2)
    assert unit_range(values[:1], 0, -1, 2) == (-1, 2)
    assert unit_range(np.zeros(9), 0, high=2) == (0, 2)


@pytest.mark.parametrize(
    ("values", "ends", "text"),
    [
        (np.zeros(1), {}, "1 row gives no range of unit 4; give low and high"),
        (np.zeros(1), {"low": 0}, "1 row gives no range of unit 4; give low and high"),
        (np.full(9, 0.5), {}, "unit 4 is 0.5 in every row, so the rows give no range; give low and high, or choose"),
        (np.arange(9.0), {"low": 2, "high": 1}, "unit 4: low=2 is not below high=1; give low < high"),
        (np.arange(9.0), {"low": 99}, "unit 4: low=99 is not below high=7.92; give low < high"),
        (np.arange(9.0), {"low": np.nan}, "low=nan: it must be a finite number"),
        (np.arange(9.0), {"high": "top"}, "high='top': it must be a finite number"),
    ],
)
def test_a_range_that_is_not_there_is_refused(values, ends, text):
    with pytest.raises(InputError) as error:
        unit_range(values, 4, **ends)
    assert str(error.value).startswith(text)


def test_a_path_of_one_unit_changes_no_other():
    path = unit_path(START, 1, np.array([-1.0, 0.0, 4.0]))
    np.testing.assert_array_equal(path[:, :, 1], [[-1, 0, 4]] * 5)
    np.testing.assert_array_equal(path[:, :, [0, 2]], np.repeat(START[:, None, [0, 2]], 3, 1))


def test_shifts_and_differences_of_means_are_those_of_numpy():
    is_true = np.array([True, False, True, False, False])
    expected = START[is_true].mean(0) - START[~is_true].mean(0)
    np.testing.assert_allclose(mean_difference(START, is_true), expected, rtol=1e-5)
    moved = shifted(START, expected, np.array([0.0, -2.0]))
    np.testing.assert_array_equal(moved[:, 0], START)
    np.testing.assert_allclose(moved[:, 1], START - 2 * expected, rtol=1e-5)


def test_probabilities_of_words_are_not_compared_with_counts():
    counts = np.random.default_rng(0).poisson(3, size=(60, 5)).astype(float)
    model = LinearAutoencoder(code_size=2, likelihood="multinomial", max_epochs=1, random_state=0).fit(counts)
    with pytest.raises(InputError, match="codes of word counts decode to probabilities, .*; give rows, of='rows'"):
        completeness(model, model.transform(counts), counts)
    assert completeness(model, counts[:9], counts, of="rows") == 1


class Known:
    """A model whose encoder is the identity and whose decoder is given."""

    class Decoder(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function, self.weight = function, nn.Parameter(torch.zeros(1))

        def decode(self, code):
            return self.function(code)

    def __init__(self, function, code_size):
        self.code_size_ = code_size
        self.coder_ = self.Decoder(function)
        self.coder_.likelihood = Gaussian(code_size)

    def read(self, X):
        x = torch.as_tensor(X, dtype=torch.float32)
        for part in x.split(50):
            yield ModelOutput(part, part, part, part, self.coder_.decode(part), part.sum(1))


CLUSTERS = np.concatenate([RNG.normal(-3, 0.2, (80, 2)), RNG.normal(3, 0.2, (80, 2))])


def test_continuity_of_an_isotropic_linear_decoder_is_one():
    assert continuity(Known(lambda h: 7 * h, 2), CLUSTERS) == pytest.approx(1, rel=1e-4)


def test_continuity_of_a_decoder_that_jumps_between_the_rows_is_large_and_of_a_flat_one_small():
    jump = continuity(Known(lambda h: 0.1 * h + 50 * torch.tanh(20 * h), 2), CLUSTERS, n_pairs=300)
    flat = continuity(Known(lambda h: torch.where(h.abs() > 2, h - 2 * h.sign(), 0 * h), 2), CLUSTERS, n_pairs=300)
    assert jump > 20
    assert flat < 0.8


def test_continuity_depends_on_the_seed_alone_and_little_on_it():
    model = Known(torch.sin, 2)
    rows = RNG.normal(size=(300, 2))
    values = [continuity(model, rows, n_pairs=500, random_state=seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert values[0] == pytest.approx(values[2], rel=0.1)


def test_completeness_counts_samples_within_the_distances_of_the_rows():
    model = Known(lambda h: h, 2)
    rows = np.stack([np.arange(100.0), np.zeros(100)], 1)  # each row has a neighbour at distance 1
    samples = np.array([[3.5, 0.0], [10.0, 0.99], [10.0, 1.01], [200.0, 0.0]])
    assert completeness(model, samples, rows) == 0.5
    assert completeness(model, samples[:2], rows, of="rows") == 1
    assert completeness(model, rows[:1].repeat(9, 0), rows) == 1  # copies of one row


def test_missing_entries_count_by_their_reconstructions():
    rows = np.random.default_rng(0).normal(size=(150, 2)) @ np.random.default_rng(1).normal(size=(2, 5))
    with_missing = rows.copy()
    with_missing[::3, 1] = np.nan
    model = LinearAutoencoder(code_size=2, missing="mask", max_epochs=200, random_state=0).fit(with_missing)
    assert completeness(model, rows, with_missing, of="rows") > 0.9
    assert np.isfinite(continuity(model, with_missing))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m, x: continuity(m, x[:2]), "2 rows: nearest and random pairs differ only with three rows or more"),
        (lambda m, x: continuity(m, x, n_pairs=0), "n_pairs=0: it must be a whole number of at least 1"),
        (lambda m, x: continuity(m, x, n_steps=1.5), "n_steps=1.5: it must be a whole number of at least 1"),
        (lambda m, x: continuity(m, x[[0] * 5]), "the decodings of neighbouring rows are all equal"),
        (lambda m, x: completeness(m, x[:0], x), "there are no samples; give at least one"),
        (lambda m, x: completeness(m, x, x[:1]), "1 row: distances between rows need at least two"),
        (lambda m, x: completeness(m, x[:, :1], x), "samples of shape (160, 1); codes have shape (n, 2)"),
        (lambda m, x: completeness(m, x * np.nan, x), "sample 0 is not finite; codes must be finite"),
        (lambda m, x: completeness(m, [["a", "b"]], x), "the samples are not all numbers"),
        (lambda m, x: completeness(m, x, x, of="images"), "of='images' is not one of codes, rows"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, text):
    with pytest.raises(InputError) as error:
        call(Known(lambda h: h, 2), CLUSTERS)
    assert str(error.value).startswith(text)
