"""Measurements of the experiments on sparse codes, compared with known values."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode

from experiments import dictionary_recovery, natural_patches, sparsity_limits
from isthmus.parts.networks import MLP

DATA = {"n_features": 30, "n_columns": 12, "n_active": 2.5}


def linear(code_size: int, n_columns: int) -> SimpleNamespace:
    """Return a model of which only the decoder is used."""
    decoder = MLP((code_size, n_columns), generator=torch.Generator().manual_seed(0))
    decoder.start_at(torch.linspace(-1, 1, n_columns))
    return SimpleNamespace(decoder=decoder)


@pytest.mark.parametrize("weight", [0.05, 0.4])
def test_the_optimal_code_is_the_lasso(weight):
    coder = linear(20, 8)
    layer = coder.decoder.affine_maps[0]
    x = torch.randn(15, 8, generator=torch.Generator().manual_seed(1))
    ours = sparsity_limits.optimal_code(coder, x, weight)
    dictionary, centred = layer.weight.detach().double().numpy(), (x - layer.bias).detach().double().numpy()
    theirs = sparse_encode(centred, dictionary.T, algorithm="lasso_cd", alpha=weight, positive=True, max_iter=50_000)

    def criterion(code: np.ndarray) -> np.ndarray:
        return np.square(centred - code @ dictionary.T).sum(1) / 2 + weight * code.sum(1)

    np.testing.assert_allclose(criterion(ours.double().numpy()), criterion(theirs), rtol=1e-4)


def test_noise_has_the_mean_and_covariance_and_photographs_the_variance_of_the_rows():
    rows = np.random.default_rng(0).normal(size=(400, 16)).cumsum(1).astype(np.float32)
    noise = sparsity_limits.gaussian_noise(rows, 40_000, 0)
    np.testing.assert_allclose(noise.mean(0), rows.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(noise.T), np.cov(rows.T), atol=0.5)
    photographs = sparsity_limits.photograph_patches(rows, 5000, 0)
    np.testing.assert_allclose(photographs.var(0).sum(), rows.var(0).sum(), rtol=0.05)


def test_a_second_layer_starts_at_the_first():
    first = MLP((8, 20), generator=torch.Generator().manual_seed(0))
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    second = sparsity_limits.SecondLayer(first, 20)
    torch.testing.assert_close(second(x), first(x))
    second(x).sum().backward()
    assert second.between.grad.abs().sum() > 0


def test_rows_are_sums_of_the_specified_number_of_atoms():
    p = dictionary_recovery.frequencies(512, 5.0)
    assert p.sum() == pytest.approx(5.0)
    assert p[0] / p[99] == pytest.approx(100.0)
    rows = dictionary_recovery.sums(DATA, 20_000, 0)
    atoms = dictionary_recovery.atoms(DATA, 0)
    p = dictionary_recovery.frequencies(30, 2.5)
    np.testing.assert_allclose(rows.mean(0), p @ atoms, atol=0.03)
    second = np.cov(rows.T)
    expected = atoms.T @ np.diag(p * 13 / 12 - p**2) @ atoms  # E[h^2] = 1 + 1/12 where an atom is on
    np.testing.assert_allclose(second, expected, atol=0.05)


def test_another_number_of_rows_gives_other_rows():
    few, many = (dictionary_recovery.sums(DATA, n, 0) for n in (50, 60))
    assert not np.allclose(few, many[:50])


def test_the_ratio_to_l1_is_the_largest_at_equal_active_units():
    def cell(active: float, error: float) -> dict[str, float]:
        return {"active": active, "error": error}

    results = {
        "l1-1": cell(1.0, 0.8), "l1-2": cell(4.0, 0.2), "topk-1": cell(2.0, 0.2), "topk-2": cell(9.0, 9.0),
        "batch-topk-1": cell(2.0, 0.6),
    }  # fmt: skip
    assert dictionary_recovery.error_ratio(results, "topk") == pytest.approx(0.5)
    assert dictionary_recovery.error_ratio(results, "batch-topk") == pytest.approx(1.5)
    assert dictionary_recovery.at_the_truth(results, "topk", 3.0) == cell(2.0, 0.2)


def test_angles_between_neighbours_on_a_torus_agree_with_a_pinwheel():
    n, rows = 6, 5
    angles = np.tile(np.arange(n) * np.pi / n, (rows, 1)).ravel()
    near, any_two = natural_patches.neighbour_turns({"angles": angles, "r2": np.ones(n * rows)}, [rows, n])
    assert near == pytest.approx(np.pi / n / 2)  # half of the pairs lie in a column, with equal angles
    assert any_two > near


def test_angles_between_atoms_that_are_no_gabor_functions_do_not_count():
    found = {"angles": [0.0, 0.3, 1.2, 0.0], "r2": [0.9, 0.9, 0.1, 0.0]}
    assert natural_patches.neighbour_turns(found, [1, 4])[1] == pytest.approx(0.3)
