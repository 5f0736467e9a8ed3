"""What was missing counts in no error, asked of every kind; the oracle is NumPy's masked arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy import ma
from sklearn import clone
from sklearn.datasets import load_digits

from isthmus.evaluation.reconstruction import compare_with_pca, evaluate, squared_error_by_column

from .kinds import COMPLETE_ROWS, KINDS

X = load_digits().data[:200]
SEEN = np.random.default_rng(0).random(X.shape) > 0.3
SEEN[:, 20] = False  # a column that nobody ever observed
HOLES = np.where(SEEN, X, np.nan)

every_kind = pytest.mark.parametrize("name", [name for name in KINDS if name not in COMPLETE_ROWS])
FITTED: dict = {}


def fitted(name):
    if name not in FITTED:
        FITTED[name] = clone(KINDS[name]).set_params(missing="mask", max_epochs=1).fit(HOLES)
    return FITTED[name]


def in_model_space(model, rows):
    preprocessing = model.preprocessing_
    return (rows - preprocessing.offset) / preprocessing.scale


def residuals(model):
    """(x - r) where x was observed, from what the user handed in and got back."""
    r = in_model_space(model, model.reconstruct(HOLES).astype(np.float64))
    return ma.masked_array(in_model_space(model, X) - r, ~SEEN)


@every_kind
def test_the_error_of_a_row_is_that_of_its_observed_entries(name):
    expected = (residuals(fitted(name)) ** 2).sum(1)
    np.testing.assert_allclose(fitted(name).reconstruction_error(HOLES), expected, rtol=1e-4)


@every_kind
def test_r2_and_the_errors_by_column_are_those_of_the_observed_entries(name):
    model = fitted(name)
    squares = residuals(model) ** 2
    found = evaluate(model, HOLES)
    assert found["squared_error_per_row"] == pytest.approx(squares.sum(1).mean(), rel=1e-4)
    x = ma.masked_array(in_model_space(model, X), ~SEEN)
    about_mean = ((x - x.mean(0)) ** 2).sum()
    assert found["r2"] == pytest.approx(1 - squares.sum() / about_mean, rel=1e-4, abs=1e-4)
    by_column = squared_error_by_column(model, HOLES)
    np.testing.assert_allclose(by_column, squares.mean(0).filled(0), rtol=1e-4, atol=1e-9)
    assert by_column[20] == 0


@every_kind
def test_what_stands_at_a_missing_entry_when_it_is_read_changes_no_error(name):
    model = fitted(name)
    reading = next(iter(model.read(HOLES)))
    elsewhere = reading.x + 1000 * (1 - reading.mask)
    expected = (reading.x - reading.reconstruction).square() * reading.mask
    again = type(reading)(**{**vars(reading), "x": elsewhere})
    torch.testing.assert_close(again.squared_residuals, expected)
    torch.testing.assert_close(
        model.baseline_.squared_error(elsewhere, reading.mask), model.baseline_.squared_error(reading.x, reading.mask)
    )


def test_the_pca_baseline_imputes_missing_entries_by_column_means():
    model = fitted("deep")
    x = ma.masked_array(in_model_space(model, X), ~SEEN)
    complete = x.filled(np.nan)
    means = x.mean(0).filled(0)
    complete = np.where(SEEN, complete, means)
    _, _, directions = np.linalg.svd(complete - complete.mean(0), full_matrices=False)
    projector = directions[:3].T @ directions[:3]
    r = means + (complete - means) @ projector
    expected = (ma.masked_array(complete - r, ~SEEN) ** 2).sum(1).mean()
    trained = clone(model).set_params(validation_fraction=0).fit(HOLES)
    assert compare_with_pca(trained, HOLES)["pca_squared_error_per_row"] == pytest.approx(expected, rel=1e-4)


def test_the_doctor_looks_at_what_was_observed_alone():
    far = np.where(SEEN, X / 16, np.nan)
    model = clone(KINDS["linear"]).set_params(missing="mask", max_epochs=40, validation_fraction=0).fit(far)
    said = {finding["name"]: finding["message"] for finding in model.history_["findings"]}
    assert "'x20'" in said["constant-columns"]
    assert "'x21'" not in said["constant-columns"]


def test_where_nothing_may_be_missing_there_is_no_mask_and_the_errors_are_as_ever():
    model = clone(KINDS["linear"]).fit(X)
    reading = next(iter(model.read(X)))
    assert reading.mask is None
    torch.testing.assert_close(reading.squared_residuals, (reading.x - reading.reconstruction).square())
    masked = clone(KINDS["linear"]).set_params(missing="mask").fit(X)
    np.testing.assert_allclose(masked.reconstruction_error(X), model.reconstruction_error(X), rtol=1e-6)
