"""Dictionary comparison, checked with known permutations, signs and noise, and by enumeration."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from isthmus.errors import InputError
from isthmus.evaluation import dictionaries
from isthmus.evaluation.dictionaries import (
    compare_dictionaries,
    match,
    mean_max_cosine,
    sorted_atoms,
    used_atoms,
)


def atoms(n: int = 12, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def cosine_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.array([[x @ y / np.sqrt((x @ x) * (y @ y)) for y in b] for x in a])


def test_a_permuted_and_rescaled_dictionary_is_the_same_and_its_permutation_is_found() -> None:
    true = atoms()
    order = np.random.default_rng(1).permutation(len(true))
    learned = true[order] * np.random.default_rng(2).uniform(0.1, 9, (len(true), 1))
    pairs, cosines = match(true, learned)
    np.testing.assert_array_equal(pairs[:, 0], np.arange(len(true)))
    np.testing.assert_array_equal(order[pairs[:, 1]], pairs[:, 0])
    np.testing.assert_allclose(cosines, 1, rtol=1e-14)
    assert mean_max_cosine(true, learned) == pytest.approx(1, rel=1e-14)


def test_the_sign_of_an_atom_counts_only_if_signed() -> None:
    true = atoms()
    flipped = true * np.where(np.arange(len(true)) % 2, -1, 1)[:, None]
    assert mean_max_cosine(true, flipped, signed=False) == pytest.approx(1, rel=1e-14)
    assert compare_dictionaries(true, flipped, signed=False).mean_matched_cosine == pytest.approx(1, rel=1e-14)
    assert mean_max_cosine(true, flipped) < 0.95
    assert mean_max_cosine(np.eye(1, 3), -np.eye(1, 3)) == -1.0


@pytest.mark.parametrize("signed", [True, False])
def test_the_mean_cosine_equals_that_of_a_loop_over_atoms(signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    true, learned = atoms(11), atoms(17, seed=3)
    cosines = cosine_matrix(true, learned)
    nearest = (cosines if signed else np.abs(cosines)).max(1)
    assert mean_max_cosine(true, learned, signed=signed) == pytest.approx(nearest.mean(), rel=1e-12)
    monkeypatch.setattr(dictionaries, "ATOMS_AT_ONCE", 4)
    assert mean_max_cosine(true, learned, signed=signed) == pytest.approx(nearest.mean(), rel=1e-12)


@pytest.mark.parametrize(("n_true", "n_learned"), [(5, 5), (4, 6), (6, 4)])
def test_no_matching_has_a_larger_sum_of_cosines(n_true: int, n_learned: int) -> None:
    true, learned = atoms(n_true, 3), atoms(n_learned, 3, seed=5)
    cosines = cosine_matrix(true, learned)
    wide = cosines if n_true <= n_learned else cosines.T
    best = max(sum(wide[i, j] for i, j in enumerate(p)) for p in permutations(range(wide.shape[1]), len(wide)))
    pairs, found = match(true, learned)
    assert pairs.shape == (min(n_true, n_learned), 2)
    assert found.sum() == pytest.approx(best, rel=1e-12)
    np.testing.assert_allclose(found, cosines[pairs[:, 0], pairs[:, 1]], rtol=1e-12)


def test_noise_lowers_the_cosine_by_the_expected_amount() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(40, 2000))
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    noise = rng.normal(size=true.shape) / np.sqrt(2000)
    # Unit atom plus noise of length s at a right angle to it: the cosine is 1 / sqrt(1 + s^2).
    found = compare_dictionaries(true, true + 0.5 * noise)
    assert found.mean_max_cosine == pytest.approx(1 / np.sqrt(1.25), abs=0.01)
    assert found.mean_matched_cosine == pytest.approx(found.mean_max_cosine, rel=1e-12)
    assert found.recovered == pytest.approx(np.mean(found.cosines > dictionaries.RECOVERY_COSINE))


def test_two_true_atoms_share_a_learned_atom_in_the_mean_of_the_largest_cosines_only() -> None:
    true, learned = [[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]
    found = compare_dictionaries(true, learned)
    assert (found.mean_max_cosine, found.mean_matched_cosine, found.recovered) == (1.0, 0.5, 1.0)


def test_zero_atoms_and_atoms_of_any_norm_are_compared_without_a_warning() -> None:
    true = np.array([[0.0, 0.0], [1e-200, 0.0], [0.0, 1e200]])
    assert match(true, true)[1].tolist() == [0.0, 1.0, 1.0]


def test_tensors_with_gradients_are_dictionaries_too() -> None:
    weight = torch.from_numpy(atoms()).float().requires_grad_()
    assert mean_max_cosine(weight, weight.T.contiguous().T) == pytest.approx(1, rel=1e-6)


def test_pruning_removes_dead_and_zero_atoms_and_changes_no_reconstruction() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(30, 12)) * (np.arange(12) != 3)
    dictionary = atoms() * (np.arange(12) != 7)[:, None]
    kept = used_atoms(dictionary, (codes != 0).mean(0))
    assert np.flatnonzero(~kept).tolist() == [3, 7]
    np.testing.assert_allclose(codes[:, kept] @ dictionary[kept], codes @ dictionary, rtol=1e-12)
    assert used_atoms(dictionary, np.linspace(0, 1, 12), least=0.5).sum() == 5


def test_atoms_are_sorted_by_their_contribution_to_the_reconstruction() -> None:
    codes, dictionary = np.random.default_rng(0).normal(size=(50, 12)), atoms()
    added = [np.square(np.outer(codes[:, j], dictionary[j])).sum() for j in range(12)]
    order = sorted_atoms(dictionary, np.square(codes).mean(0))
    np.testing.assert_array_equal(order, np.argsort(added)[::-1])


@pytest.mark.parametrize(
    ("true", "learned", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "the true dictionary has 3 columns and the learned one 4"),
        (np.ones(3), np.ones((2, 3)), r"the true dictionary has shape \(3,\); pass a matrix \(n_atoms, n_columns\)"),
        (np.ones((2, 3)), np.ones((0, 3)), r"the learned dictionary has shape \(0, 3\)"),
        (np.ones((2, 3)), [[1, 1, 1], [1, np.nan, 1]], "the learned dictionary: atom 1 holds values"),
    ],
)  # fmt: skip
def test_invalid_dictionaries_are_refused(true: object, learned: object, message: str) -> None:
    for compare in (mean_max_cosine, match, compare_dictionaries):
        with pytest.raises(InputError, match=message):
            compare(true, learned)


def test_another_number_of_rates_than_of_atoms_is_refused() -> None:
    for ask in (sorted_atoms, used_atoms):
        with pytest.raises(InputError, match=r"one number per atom is needed, shape \(12,\); found shape \(3,\)"):
            ask(atoms(), [1.0, 2.0, 3.0])
