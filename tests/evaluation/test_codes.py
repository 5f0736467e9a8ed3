"""Probes of codes, and statistics of units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from isthmus.errors import InputError
from isthmus.evaluation import codes as codes_module
from isthmus.evaluation.codes import (
    covariance_eigenvalues,
    knn_accuracy,
    linear_probe_accuracy,
    probe_rows,
    rare_classes,
    unit_statistics,
)

PROBES = [linear_probe_accuracy, knn_accuracy]


def digits(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    return pixels[:n], labels[:n]


def clouds(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return rng.normal(size=(n, 4)) + 1.5 * np.eye(4)[labels], labels


def test_the_cross_validated_probe_agrees_with_a_converged_regression() -> None:
    pixels, labels = digits()
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    exact = make_pipeline(StandardScaler(), LogisticRegression(C=32 / 64, tol=1e-8, max_iter=10_000))
    expected = cross_val_score(exact, pixels, labels, cv=folds).mean()
    assert linear_probe_accuracy(pixels, labels, random_state=3) == pytest.approx(expected, abs=0.0051)


def test_the_cross_validated_knn_accuracy_agrees_with_scikit_learn() -> None:
    pixels, labels = digits()
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    expected = cross_val_score(KNeighborsClassifier(5), pixels, labels, cv=folds).mean()
    assert knn_accuracy(pixels, labels, random_state=3) == pytest.approx(expected, abs=1e-12)


def test_a_test_set_is_scored_by_the_classifier_of_the_training_rows() -> None:
    pixels, labels = digits()
    votes = KNeighborsClassifier(5).fit(pixels[:300], labels[:300])
    found = knn_accuracy(pixels[:300], labels[:300], pixels[300:], labels[300:])
    assert found == pytest.approx(votes.score(pixels[300:], labels[300:]))
    assert linear_probe_accuracy(pixels[:300], labels[:300], pixels[300:], labels[300:]) > 0.85


@pytest.mark.parametrize("probe", PROBES)
def test_labels_without_relation_to_the_codes_score_at_chance(probe) -> None:
    rng = np.random.default_rng(0)
    assert abs(probe(rng.normal(size=(600, 3)), rng.integers(0, 2, 600)) - 0.5) < 0.08


@pytest.mark.parametrize("probe", PROBES)
def test_the_same_seed_gives_the_same_accuracy_and_the_global_generator_stays_untouched(probe) -> None:
    x, labels = clouds()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert probe(x, labels, random_state=1) == probe(x, labels, random_state=1)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("probe", PROBES)
def test_tensors_series_and_strings_give_the_accuracy_of_arrays(probe) -> None:
    x, labels = clouds()
    expected = probe(x, labels)
    names = np.array(["a", "b", "c"])[labels]
    assert probe(torch.from_numpy(x), torch.from_numpy(labels)) == expected
    assert probe(x, pd.Series(names, index=range(100, 160))) == expected
    assert probe(x, list(names)) == expected


@pytest.mark.parametrize("probe", PROBES)
def test_classes_too_small_for_the_folds_are_excluded(probe) -> None:
    x, labels = clouds()
    rare = np.concatenate([labels, [7, 7, 8]])
    assert probe(np.concatenate([x, x[:3]]), rare) == probe(x, labels)
    assert rare_classes(rare) == ["7 (2 rows)", "8 (1 row)"]


@pytest.mark.parametrize("probe", PROBES)
def test_too_few_rows_of_a_class_are_refused_with_their_number(probe) -> None:
    message = r"needs two classes with at least 5 rows each; found 'a' \(6 rows\), 'b' \(4 rows\)"
    with pytest.raises(InputError, match=message):
        probe(np.eye(10), ["a"] * 6 + ["b"] * 4)


@pytest.mark.parametrize("probe", PROBES)
def test_a_class_that_occurs_only_in_the_test_rows_counts_as_an_error(probe) -> None:
    x = np.array([[0.0], [0.1], [0.0], [9.0], [9.1], [9.0]])
    assert probe(x, [0, 0, 0, 1, 1, 1], np.array([[0.0], [9.0], [9.0], [9.0]]), [0, 1, 5, 5]) == 0.5


@pytest.mark.parametrize("probe", PROBES)
def test_constant_units_do_no_harm(probe) -> None:
    x, labels = clouds()
    assert probe(np.hstack([x, np.full((60, 2), 3.0)]), labels) == pytest.approx(probe(x, labels), abs=0.05)


@pytest.mark.parametrize(
    ("codes", "labels", "message"),
    [
        (np.eye(6), [0, 1, 0, 1], "labels: 4 labels for 6 rows; pass one label per row"),
        (np.eye(4), np.eye(4), r"labels: labels of shape \(4, 4\) for 4 rows"),
        (np.eye(4), ["a", "b", None, "a"], "labels: row 2 has no label; remove unlabelled rows"),
        (np.eye(4), ["a", "b", float("nan"), "a"], "labels: row 2 has no label"),
        (np.eye(4), [0.0, float("nan"), 1.0, 1.0], "labels: row 1 has no label"),
        (np.eye(9), np.linspace(0, 1, 9), "9 different values in 9 rows look like names or measurements"),
        (np.zeros(5), [0, 0, 1, 1, 1], r"codes must have shape \(rows, units\), both at least 1; found \(5,\)"),
        (np.zeros((0, 3)), [], r"found \(0, 3\)"),
        (np.full((4, 2), np.inf), [0, 0, 1, 1], "codes: row 0, unit 0 is inf"),
    ],
)
def test_invalid_codes_and_labels_are_refused(codes, labels, message) -> None:
    for probe in PROBES:
        with pytest.raises(InputError, match=message):
            probe(codes, labels)


def test_a_test_set_that_does_not_fit_is_refused() -> None:
    x, labels = clouds()
    with pytest.raises(InputError, match="test_codes and test_labels must be given together"):
        knn_accuracy(x, labels, x)
    with pytest.raises(InputError, match="codes have 4 columns and test_codes 2"):
        knn_accuracy(x, labels, x[:, :2], labels)
    with pytest.raises(InputError, match="test_labels: 3 labels for 60 rows"):
        knn_accuracy(x, labels, x, labels[:3])
    with pytest.raises(InputError, match="all labels are 1; a probe needs at least two classes"):
        knn_accuracy(x, np.ones(60, int), x, labels)


def test_more_rows_than_the_limit_are_sampled_in_order_without_repeats() -> None:
    assert len(probe_rows(5000, 784, 0)) == 5000
    drawn = probe_rows(60_000, 784, 0)
    assert len(drawn) == 10_000
    assert (np.diff(drawn) > 0).all()
    assert (drawn != probe_rows(60_000, 784, 1)).any()
    assert len(probe_rows(60_000, 12_288, 0)) == 2**23 // 12_288


def test_the_sample_is_what_the_probe_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = clouds(300)
    monkeypatch.setattr(codes_module, "MAX_PROBE_ROWS", 100)
    sampled = probe_rows(300, 4, 0)
    assert knn_accuracy(x, labels) == knn_accuracy(x[sampled], labels[sampled])


def test_unit_statistics_are_those_of_numpy() -> None:
    h = np.maximum(np.random.default_rng(0).normal(size=(500, 4)), 0)
    found = unit_statistics(torch.from_numpy(h))
    np.testing.assert_allclose(found.mean, h.mean(0))
    np.testing.assert_allclose(found.std, h.std(0))
    np.testing.assert_allclose(found.activation_rate, (h > 0).mean(0))
    assert not found.dead.any()
    assert not found.collapsed.any()
    assert found.n_rows == 500


def test_a_unit_is_collapsed_if_it_varies_much_less_than_the_others() -> None:
    h = np.random.default_rng(0).normal(size=(200, 3)) * [1.0, 2e-3, 5e-4] + 4.0
    assert unit_statistics(h).collapsed.tolist() == [False, False, True]


def test_all_units_of_a_code_that_varies_only_by_rounding_are_collapsed() -> None:
    h = np.full((100, 2), 3.0, np.float32)
    h[::2] = np.nextafter(h[::2], np.float32(4))
    assert unit_statistics(h).collapsed.all()


def test_a_unit_is_dead_if_it_is_zero_in_every_row() -> None:
    h = np.zeros((100, 3))
    h[:, 0], h[7, 1] = np.arange(100), 5.0
    found = unit_statistics(h)
    assert found.dead.tolist() == [False, False, True]
    assert found.activation_rate.tolist() == [0.99, 0.01, 0.0]


def test_one_row_shows_no_collapse() -> None:
    assert not unit_statistics(np.ones((1, 3))).collapsed.any()


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (1, 4), (7, 7)])
def test_eigenvalues_are_those_of_the_covariance_for_few_and_for_many_rows(shape: tuple[int, int]) -> None:
    codes = np.random.default_rng(0).normal(size=shape)
    expected = np.linalg.eigvalsh(np.cov(codes, rowvar=False) if shape[0] > 1 else np.zeros((4, 4)))[::-1]
    np.testing.assert_allclose(covariance_eigenvalues(codes), expected, atol=1e-12)
