"""`Whitening`: covariance, inverse, files."""

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import InputError, Whitening


@parametrize_with_checks([Whitening()])
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(400, 6)) @ rng.normal(size=(6, 6)) + 3


def test_whitened_columns_have_the_covariance_of_the_regularization(rows):
    r = 0.05
    whitening = Whitening(regularization=r).fit(rows)
    level, basis = np.linalg.eigh(np.cov(rows.T, bias=True))
    expected = basis @ np.diag(level / (level + r * level.mean())) @ basis.T
    y = whitening.transform(rows)
    np.testing.assert_allclose(np.cov(y.T, bias=True), expected, atol=1e-10)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-10)


def test_the_matrix_is_symmetric_and_rotates_the_whitening_of_pca(rows):
    whitening = Whitening(regularization=1e-12).fit(rows)
    np.testing.assert_allclose(whitening.matrix_, whitening.matrix_.T, atol=1e-10)
    scores = PCA(whiten=True).fit(rows)
    scale = np.sqrt(len(rows) / (len(rows) - 1))
    np.testing.assert_allclose(
        whitening.transform(rows), scale * scores.transform(rows) @ scores.components_, atol=1e-8
    )


def test_the_inverse_gives_the_rows_back(rows):
    images = rows.reshape(-1, 2, 3)
    whitening = Whitening().fit(images)
    assert whitening.transform(images).shape == images.shape
    np.testing.assert_allclose(whitening.inverse_transform(whitening.transform(images)), images)


def test_fewer_rows_than_columns_are_enough():
    X = np.random.default_rng(0).normal(size=(5, 20))
    whitening = Whitening().fit(X)
    np.testing.assert_allclose(whitening.inverse_transform(whitening.transform(X)), X, atol=1e-8)


def test_a_file_gives_equal_rows(rows, tmp_path):
    whitening = Whitening(regularization=0.1).fit(rows.reshape(-1, 2, 3))
    whitening.save(tmp_path / "w.isthmus")
    loaded = isthmus.load(tmp_path / "w.isthmus")
    assert loaded.get_params() == whitening.get_params()
    np.testing.assert_array_equal(loaded.transform(rows.reshape(-1, 2, 3)), whitening.transform(rows.reshape(-1, 2, 3)))


def test_data_frames_keep_their_names(rows):
    frame = pd.DataFrame(rows, columns=list("abcdef"))
    assert list(Whitening().set_output(transform="pandas").fit_transform(frame)) == list("abcdef")


@pytest.mark.parametrize(
    ("options", "X", "text"),
    [
        ({"regularization": 0}, np.eye(3), "regularization=0: it must be a number above 0"),
        ({}, np.ones((4, 3)), "all rows are equal"),
        ({}, np.ones((1, 3)), "n_samples=1: training needs at least two rows"),
    ],
)
def test_bad_input(options, X, text):
    with pytest.raises(InputError, match=text):
        Whitening(**options).fit(X)


def test_rows_of_another_shape_are_refused(rows):
    whitening = Whitening().fit(rows.reshape(-1, 2, 3))
    with pytest.raises(InputError, match=r"rows of shape \(3, 2\); the whitening was fitted to \(2, 3\)"):
        whitening.transform(rows.reshape(-1, 3, 2))
    with pytest.raises(InputError, match=r"whitened rows have 6 columns; found the shape \(400, 5\)"):
        whitening.inverse_transform(rows[:, :5])
