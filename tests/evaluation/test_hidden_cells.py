"""Weights of predictions, and the distribution of residuals."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from isthmus.evaluation.hidden_cells import MAX_KEPT, Residuals, weights_of_parts


@pytest.mark.parametrize("seed", range(5))
def test_weights_minimise_the_squared_error_under_their_bounds(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(5000, 1))
    parts = np.stack([a * truth + rng.normal(0, 0.5, truth.shape) for a in rng.uniform(-0.3, 1.6, 3)])
    found = weights_of_parts(truth, parts, np.zeros(1))
    best = minimize(
        lambda w: ((truth - np.tensordot(w, parts, 1)) ** 2).mean(), np.full(3, 0.2), bounds=[(0, 1)] * 3,
        constraints={"type": "ineq", "fun": lambda w: 1 - w.sum()}, method="SLSQP", options={"ftol": 1e-12},
    )  # fmt: skip
    np.testing.assert_allclose(found, best.x, atol=0.01)


def test_predictions_that_will_be_averaged_are_weighted_as_their_mean():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(20_000, 1))
    other, clean = (truth + rng.normal(0, 0.6, truth.shape) for _ in range(2))
    single = clean + rng.normal(0, 0.5, truth.shape)
    wanted = weights_of_parts(truth, np.stack([other, clean]), np.zeros(1))
    found = weights_of_parts(truth, np.stack([other, single]), np.zeros(1), np.array([0.0, 0.25]))
    np.testing.assert_allclose(found, wanted, atol=0.03)
    assert weights_of_parts(truth, np.stack([other, single]), np.zeros(1))[1] < found[1] - 0.05


def test_without_cells_the_weights_are_equal():
    assert weights_of_parts(np.empty((0, 1)), np.empty((2, 0, 1)), np.zeros(1)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("n", [19, 40, 500, 5 * MAX_KEPT])
def test_an_interval_contains_an_exchangeable_residual_with_its_probability(n):
    rng = np.random.default_rng(n)
    inside = []
    for _ in range(300):
        low, high = Residuals.of(rng.normal(size=n)).interval(0.9)
        new = rng.normal(size=200)
        inside.append(((new >= low) & (new <= high)).mean())
    assert 0.89 < np.mean(inside) < 0.92


def test_too_few_residuals_give_an_infinite_interval():
    assert Residuals.of(np.zeros(18)).interval(0.9) == (-math.inf, math.inf)
    assert Residuals.of(np.arange(19.0)).interval(0.9) == (0.0, 18.0)


def test_quantiles_are_those_of_the_residuals():
    values = np.random.default_rng(0).normal(size=800)
    at = np.linspace(0.05, 0.95, 7)
    np.testing.assert_allclose(Residuals.of(values).quantile(at), np.quantile(values, at), atol=0.02)
    assert Residuals.of(np.empty(0)).quantile(at).tolist() == [0.0] * 7
