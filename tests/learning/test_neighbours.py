"""Nearest rows against scikit-learn's, and the rows that carry them."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from isthmus.data.streams import Affine, DenseRows, Subset
from isthmus.learning import neighbours
from isthmus.learning.neighbours import NearestRows, NeighbourRows, with_neighbours
from isthmus.parts.code_penalties import NeighbourReconstruction

X = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)


def rows(x=X):
    return DenseRows(x, Affine(np.zeros(x.shape[1]), np.ones(x.shape[1])))


def of_sklearn(queries, others, k):
    return NearestNeighbors(n_neighbors=k, metric="cosine").fit(others).kneighbors(queries, return_distance=False)


@pytest.mark.parametrize("at_once", [7, 1024])
def test_the_nearest_rows_are_those_of_scikit_learn_without_the_row_itself(monkeypatch, at_once):
    monkeypatch.setattr(neighbours, "_ROWS_AT_ONCE", at_once)
    train = rows()
    found = NearestRows(train, are_counts=False).of(train, 6)
    assert np.array_equal(np.sort(found), np.sort(of_sklearn(X, X, 7)[:, 1:]))


def test_validation_rows_have_neighbours_among_the_training_rows():
    train, other = Subset(rows(), torch.arange(200)), Subset(rows(), torch.arange(200, 300))
    found = NearestRows(train, are_counts=False).of(other, 9)
    assert np.array_equal(np.sort(found), np.sort(of_sklearn(X[200:], X[:200], 4)))


def test_counts_are_compared_by_their_rare_terms():
    # Term 0 is in every row; rows 0 and 1 share the rare term 1, rows 0 and 2 have the same count of term 0.
    counts = np.zeros((40, 4), np.float32)
    counts[:, 0], counts[3:, 2] = 1, 5
    counts[0], counts[1], counts[2] = [9, 1, 0, 0], [1, 2, 0, 0], [9, 0, 0, 1]
    train = rows(counts)
    assert NearestRows(train, are_counts=True).of(train, 1)[0].tolist() == [1]
    assert NearestRows(train, are_counts=False).of(train, 1)[0].tolist() != [1]


def test_candidates_are_limited_and_their_number_bounds_k(monkeypatch):
    monkeypatch.setattr(neighbours, "MAX_CANDIDATES", 30)
    monkeypatch.setattr(neighbours, "MIN_CANDIDATES_PER_NEIGHBOUR", 10)
    train = rows()
    found = NearestRows(train, are_counts=False).of(train, 50)
    assert found.shape == (300, 3)
    assert set(found.unique().tolist()) <= set(range(0, 300, 10))


def test_two_rows_are_neighbours_of_each_other_and_one_row_has_none():
    pair = rows(X[:2])
    assert NearestRows(pair, are_counts=False).of(pair, 5).tolist() == [[1], [0]]
    alone = rows(X[:1])
    found = NeighbourRows(alone, alone, NearestRows(alone, are_counts=False).of(alone, 5))
    assert found.batch(torch.arange(1)).neighbour is None


def test_each_batch_has_one_neighbour_of_each_row_and_the_same_for_the_same_order():
    train = rows()
    numbers = NearestRows(train, are_counts=False).of(train, 5)
    read, order = NeighbourRows(train, train, numbers), torch.randperm(300, generator=torch.Generator().manual_seed(1))
    first, again = (read.batch(order[:100]) for _ in range(2))
    assert torch.equal(first.neighbour.x, again.neighbour.x)
    for row, neighbour in zip(order[:100], first.neighbour.rows, strict=True):
        assert neighbour in numbers[row]
    drawn = torch.cat([read.batch(torch.full((50,), 7)).neighbour.rows for _ in range(1)])
    assert set(drawn.tolist()) == set(numbers[7].tolist())


def test_rows_are_as_they_were_where_no_penalty_needs_neighbours():
    train = rows()
    assert with_neighbours(torch.nn.Identity(), train, None, are_counts=False) == (train, None)
    found, other = with_neighbours(NeighbourReconstruction(n_neighbours=2), train, train, are_counts=False)
    assert isinstance(found, NeighbourRows)
    assert isinstance(other, NeighbourRows)
