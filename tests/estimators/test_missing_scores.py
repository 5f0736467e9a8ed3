"""Scores of energies for rows with missing entries: log densities of the observed entries, or bounds on them."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from isthmus import DeepBeliefNetwork, DeepBoltzmannMachine, RestrictedBoltzmannMachine

BITS = np.array(list(np.ndindex(*[2] * 6)), float)


def machine(rows, **changes):
    options = {
        "code_size": 4, "missing": "mask", "likelihood": "bernoulli", "max_epochs": 20, "learning_rate": 0.3,
        "random_state": 0,
    }  # fmt: skip
    return RestrictedBoltzmannMachine(**options | changes).fit(rows)


def bits_with_holes():
    rows = np.repeat(np.random.default_rng(0).random((200, 2)) < 0.5, 3, axis=1).astype(float)
    return np.where(np.random.default_rng(1).random(rows.shape) < 0.4, np.nan, rows)


@pytest.mark.parametrize("options", [{}, {"code_size": 24}, {"hidden_units": "gaussian"}])
def test_the_score_of_an_enumerable_machine_is_the_enumerated_marginal(options):
    rows = bits_with_holes()
    model = machine(rows, **options)
    assert model.score_kind_ == "exact"
    log_p = model.score_samples(BITS)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-4)
    agrees = (np.isnan(rows)[:, None] | (rows[:, None] == BITS)).all(2)
    expected = np.log((agrees * np.exp(log_p)).sum(1))
    np.testing.assert_allclose(model.score_samples(rows), expected, atol=1e-4)
    assert model.score_samples(np.full((1, 6), np.nan)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["gaussian", "gaussian-per-column"])
def test_missing_real_columns_are_integrated_out(name):
    rows = np.random.default_rng(0).normal(size=(200, 3)) @ np.array([[1, 1, 0], [0, 1, 1], [0, 0, 1.0]])
    holes = np.where(np.random.default_rng(1).random(rows.shape) < 0.2, np.nan, rows)
    model = machine(holes, likelihood=name, learning_rate=0.01, scaling="none")
    assert model.score_kind_ == "exact"
    grid = np.linspace(-12, 12, 2001)
    along = np.repeat(rows[:1], len(grid), 0)
    along[:, 1] = grid
    expected = np.log(np.trapezoid(np.exp(model.score_samples(along)), grid))
    row = np.array([[rows[0, 0], np.nan, rows[0, 2]]])
    assert model.score_samples(row) == pytest.approx(expected, abs=1e-4)


def test_a_large_machine_scores_rows_with_missing_entries_by_a_bound():
    x = (load_digits().data[:200] > 7).astype(float)
    holes = np.where(np.random.default_rng(0).random(x.shape) < 0.3, np.nan, x)
    model = machine(holes, code_size=24, max_epochs=2)
    assert model.score_kind_ == "unnormalised"
    before, estimate = model.score_samples(holes), model.estimate_log_partition(n_chains=20, n_temperatures=50)
    assert model.score_kind_ == "bound"
    np.testing.assert_allclose(model.score_samples(holes), before - estimate.log_partition)
    complete = machine(x, code_size=24, max_epochs=2, missing="refuse")
    complete.estimate_log_partition(n_chains=20, n_temperatures=50)
    assert complete.score_kind_ == "estimate"


@pytest.mark.parametrize("kind", [DeepBoltzmannMachine, DeepBeliefNetwork])
def test_the_bounds_of_deep_machines_hold_for_the_observed_entries(kind):
    holes = bits_with_holes()
    model = kind(hidden_sizes=(5,), code_size=4, missing="mask", max_epochs=10, random_state=0).fit(holes)
    assert model.score_kind_ == "bound"
    pattern = np.array([True, False, True, True, False, True])
    rows = np.where(pattern, np.unique(np.where(pattern, BITS, 0), axis=0), np.nan)
    assert np.exp(model.score_samples(rows)).sum() < 1.02  # the bound of a belief network is an estimate
