"""Movement through the code of every kind: interpolation, traversal, directions and shifts."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn import clone
from sklearn.datasets import load_digits

import isthmus
from isthmus import Autoencoder, InputError, LinearAutoencoder
from isthmus.data import Documents
from isthmus.geometry.paths import completeness, continuity

from .fitted import X, fitted
from .kinds import KINDS

every_kind = pytest.mark.parametrize("name", KINDS)
IMAGES = (load_digits().images[:60] * 15).astype(np.uint8)


@every_kind
@pytest.mark.parametrize("method", ["linear", "spherical"])
def test_the_ends_of_an_interpolation_are_the_reconstructions(name, method):
    model = fitted(name)
    ends = X[:4], X[10:14]
    codes = model.transform(X)
    if method == "spherical" and (np.sum(codes[:4] * codes[10:14], 1) < 0).any():
        ends = X[:4], X[:4] * 0.9  # codes of one unit may have opposite directions
    decoded, path = model.interpolate(*ends, 5, method=method, return_codes=True)
    assert decoded.shape == (20, X.shape[1])
    assert (path.shape, path.dtype) == ((20, model.code_size_), np.float32)
    for rows, at in zip(ends, (0, 4), strict=True):
        np.testing.assert_allclose(decoded[at::5], model.reconstruct(rows), rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(path[at::5], model.transform(rows))
    np.testing.assert_array_equal(decoded, model.inverse_transform(path))


@every_kind
def test_a_traversal_changes_the_code_of_one_unit(name):
    model = fitted(name)
    codes = model.transform(X).astype(np.float32)
    unit = int(codes.var(0).argmax())
    moved = model.traverse(X[:3], unit, 4, low=-1, high=2)
    expected = codes[:3].repeat(4, 0)
    expected[:, unit] = np.tile([-1, 0, 1, 2], 3)
    np.testing.assert_array_equal(moved, model.inverse_transform(expected))
    by_rows = model.traverse(X, unit, 3).reshape(len(X), 3, -1)
    low, high = np.quantile(codes[:, unit].astype(float), [0.01, 0.99])
    if low < high:
        expected = codes[7:8].repeat(3, 0)
        expected[:, unit] = np.linspace(low, high, 3)
        np.testing.assert_allclose(by_rows[7], model.inverse_transform(expected), rtol=1e-6, atol=1e-6)


@every_kind
def test_a_shift_by_nothing_is_the_reconstruction_and_several_amounts_are_several_shifts(name):
    model = fitted(name)
    direction = model.attribute_direction(X, X[:, 10] > X[:, 10].mean())
    assert (direction.shape, direction.dtype) == ((model.code_size_,), np.float32)
    np.testing.assert_allclose(model.shift(X[:9], direction, 0), model.reconstruct(X[:9]), rtol=1e-6, atol=1e-6)
    several = model.shift(X[:9], direction, [-1, 0, 0.5]).reshape(9, 3, -1)
    for i, amount in enumerate((-1, 0, 0.5)):
        np.testing.assert_allclose(several[:, i], model.shift(X[:9], direction, amount), rtol=1e-4, atol=1e-4)
    moved = model.inverse_transform(model.transform(X[:9]) + direction / 2)
    np.testing.assert_allclose(several[:, 2], moved, rtol=1e-4, atol=1e-4)


@every_kind
def test_continuity_and_completeness_are_those_of_every_kind(name):
    model = fitted(name)
    assert 0 < continuity(model, X, n_pairs=40, n_steps=4) < np.inf
    assert 0 <= completeness(model, model.transform(X), X) <= 1
    assert completeness(model, X[::2], X, of="rows") == 1


@pytest.mark.parametrize("name", ["linear", "sparse", "recirculation"])
def test_a_step_of_a_unit_changes_a_linear_decoding_by_its_atom(name):
    model = clone(KINDS[name]).set_params(scaling="none", likelihood="gaussian").fit(X)
    moved = model.traverse(X[:5], 2, 3, low=-1, high=3).reshape(5, 3, -1)
    np.testing.assert_allclose(moved[:, 1] - moved[:, 0], np.tile(2 * model.dictionary()[2], (5, 1)), atol=1e-3)
    np.testing.assert_allclose(moved[:, 2] - moved[:, 0], np.tile(4 * model.dictionary()[2], (5, 1)), atol=1e-3)


def test_a_direction_separates_the_classes_of_a_planted_attribute_and_a_shift_adds_it():
    rng = np.random.default_rng(0)
    has = rng.random(400) < 0.5
    rows = np.concatenate([rng.normal(size=(400, 3)) @ rng.normal(size=(3, 6)), np.zeros((400, 2))], 1)
    rows[:, 7] += 15 * has
    model = LinearAutoencoder(code_size=4, scaling="none", max_epochs=150, random_state=0).fit(rows)
    direction = model.attribute_direction(rows, has)
    along = model.transform(rows) @ direction
    middle = (along[has].mean() + along[~has].mean()) / 2
    assert ((along > middle) == has).mean() > 0.95
    added = model.shift(rows[~has], direction) - model.reconstruct(rows[~has])
    np.testing.assert_allclose(added.mean(0), rows[has].mean(0) - rows[~has].mean(0), atol=0.2)


def test_of_two_classes_the_larger_is_the_one_that_the_direction_leads_to():
    model = fitted("linear")
    is_true = X[:, 20] > 8
    expected = model.attribute_direction(X, is_true)
    for y in (is_true.tolist(), is_true.astype(int), np.where(is_true, 7, 3), np.where(is_true, "yes", "no")):
        np.testing.assert_array_equal(model.attribute_direction(X, y), expected)
    np.testing.assert_array_equal(model.attribute_direction(X, pd.Series(is_true, dtype="boolean")), expected)
    np.testing.assert_allclose(model.attribute_direction(X, ~is_true), -expected, atol=1e-6)


def test_images_tables_texts_and_sparse_rows_come_back_in_their_own_form():
    images = fitted_on(IMAGES)
    assert images.interpolate(IMAGES[:2], IMAGES[2:4], 3).shape == (6, 8, 8)
    assert images.traverse(IMAGES, 0, 3).dtype == np.uint8
    colour = np.stack([IMAGES] * 3, 1)
    assert fitted_on(colour).shift(colour[:2], np.ones(2), [0, 1]).shape == (4, 3, 8, 8)
    frame = pd.DataFrame({"a": np.arange(40.0), "b": ["x", "y"] * 20})
    table = fitted_on(frame).set_output(transform="pandas")
    path = table.interpolate(frame[:1], frame[1:2], 4)
    assert list(path.columns) == ["a", "b"]
    assert len(path) == 4
    assert set(path["b"]) <= {"x", "y"}
    assert table.attribute_direction(frame, frame["b"]).shape == (2,)
    with pytest.raises(InputError, match="there are no rows; give at least one"):
        table.traverse(frame[:0], 0)
    sparse = scipy.sparse.csr_matrix(X[:60])
    assert fitted_on(sparse).traverse(sparse, 1, 2).shape == (120, 64)
    texts = Documents(["tin fell", "wheat held", "tin held", "wheat fell"] * 5)
    assert len(fitted_on(texts).traverse(texts, 0, 2)) == 40
    digits = isthmus.data.open("mnist-sample:test")
    assert fitted_on(digits).traverse(digits, 0, 2).shape == (2000, 28, 28)


def fitted_on(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Autoencoder(code_size=2, max_epochs=1, hidden_sizes=(8,), random_state=0).fit(rows)


def test_decodings_of_sparse_rows_that_are_too_large_are_refused():
    sparse = scipy.sparse.csr_matrix(X[:60])
    model = fitted_on(sparse)
    codes = model.preprocessing_
    with pytest.raises(InputError, match=r"would take .* GiB dense; take fewer rows or steps at a time"):
        model.traverse(sparse, 0, 10**5)
    assert model.preprocessing_ is codes


REFUSED = {
    "other sizes": (lambda m: m.interpolate(X[:2], X[:3]), "2 rows to start from and 3 rows to end at; give one each"),
    "one step": (lambda m: m.interpolate(X[:2], X[:2], 1), "n=1: a path has its two ends"),
    "method": (lambda m: m.interpolate(X[:2], X[:2], method="curved"), "method='curved' is not one of linear, spheri"),
    "another width": (lambda m: m.interpolate(X[:2], X[:2, :9]), "X has 9 features"),
    "one row flat": (lambda m: m.interpolate(X[0], X[1]), "Expected 2D array, got 1D array instead"),
    "unit": (lambda m: m.traverse(X, 3), "unit=3: the code has 3 units; give a whole number from 0 to 2"),
    "steps": (lambda m: m.traverse(X, 0, 2.5), "n=2.5: a path has its two ends"),
    "one row": (lambda m: m.traverse(X[:1], 0), "1 row gives no range of unit 0; give low and high"),
    "range": (lambda m: m.traverse(X, 0, low=2, high=2), "unit 0: low=2 is not below high=2"),
    "one class": (lambda m: m.attribute_direction(X, X[:, 0] < 99), "y holds one class only (True); a direction needs"),
    "classes": (lambda m: m.attribute_direction(X, np.arange(300) % 3), "y holds 3 classes; a direction needs two;"),
    "no labels": (lambda m: m.attribute_direction(X, None), "LinearAutoencoder requires y to be passed"),
    "length": (lambda m: m.attribute_direction(X, [True, False]), "X has 300 rows and y has 2 labels"),
    "missing": (lambda m: m.attribute_direction(X, [None, *[True, False] * 149, True]), "y holds None at row 0"),
    "NaN": (lambda m: m.attribute_direction(X, np.array([0, np.nan, *[1.0] * 298])), "y holds nan at row 1"),
    "columns": (lambda m: m.attribute_direction(X, np.zeros((300, 2))), "y: y should be a 1d array"),
    "mixed": (lambda m: m.attribute_direction(X, np.array([1, "a"] * 150, object)), "y: '<' not supported"),
    "direction": (lambda m: m.shift(X, [1, 2]), "direction has 2 entries; the code has 3 units; give one for each"),
    "direction of text": (lambda m: m.shift(X, ["a"]), "direction holds values that are not numbers"),
    "matrix": (lambda m: m.shift(X, np.eye(3)), "direction has the shape (3, 3); give a list of numbers"),
    "infinite": (lambda m: m.shift(X, [1, np.inf, 0]), "direction is inf at entry 1; it must be finite"),
    "amount": (lambda m: m.shift(X, [1, 0, 0], [0, np.nan]), "amount is nan at entry 1; it must be finite"),
    "amounts": (lambda m: m.shift(X, [1, 0, 0], []), "amount has the shape (0,); give a list of numbers"),
}


@pytest.mark.parametrize(("call", "text"), REFUSED.values(), ids=REFUSED)
def test_invalid_moves_are_refused_in_one_line(call, text):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (scikit-learn refuses another width)
        call(fitted("linear"))
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_fitted_moves_nothing():
    for call in (
        lambda m: m.interpolate(X[:1], X[:1]),
        lambda m: m.traverse(X, 0),
        lambda m: m.attribute_direction(X, X[:, 0] > 0),
        lambda m: m.shift(X, [1, 0, 0]),
    ):
        with pytest.raises(ValueError, match="not fitted"):
            call(LinearAutoencoder())
