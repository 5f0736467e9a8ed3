"""The expected average precision of a ranking with ties: enumeration of the orders, and scikit-learn without ties."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from experiments.image_hashing import expected_average_precision


def average_precision(relevant):
    hits = np.flatnonzero(relevant)
    return np.mean([(np.arange(len(hits)) + 1) / (hits + 1)]) if len(hits) else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_the_expectation_is_the_mean_over_all_orders_within_ties(seed):
    generator = np.random.default_rng(seed)
    distances, relevant = generator.integers(0, 3, 6), generator.random(6) < 0.5
    orders = [
        np.array(order)
        for order in itertools.permutations(range(6))
        if (np.diff(distances[list(order)]) >= 0).all()
    ]  # fmt: skip
    expected = np.mean([average_precision(relevant[order]) for order in orders])
    assert expected_average_precision(distances, relevant) == pytest.approx(expected)


def test_without_ties_it_is_the_average_precision_of_scikit_learn():
    generator = np.random.default_rng(0)
    distances, relevant = generator.permutation(50), generator.random(50) < 0.3
    expected = average_precision_score(relevant, -distances)
    assert expected_average_precision(distances, relevant) == pytest.approx(expected)
