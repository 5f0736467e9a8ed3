"""Quality of prefixes of a code, on codes whose splits are known."""

import json

import numpy as np
import pytest
import torch

from isthmus import L1, Autoencoder, SparseAutoencoder, TopK
from isthmus.errors import InputError
from isthmus.evaluation.prefixes import LEAST_ROWS, CodedRows, prefix_quality
from isthmus.evaluation.reconstruction import evaluate
from isthmus.parts.prefixes import prefix


def coded(code, atoms, sizes, mask=None):
    """Return rows that the whole code reconstructs."""
    return CodedRows(code @ atoms, code, [prefix(code, size) @ atoms for size in (*sizes, code.shape[1])], mask)


def atoms_at(*degrees):
    """Return atoms in the plane."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], 1)


@pytest.mark.parametrize(
    ("angle", "shared", "rows", "splits", "absorbers"),
    [
        (30.0, 1.0, 40, 1.0, 0.0),  # one direction, active only together
        (30.0, 0.0, 40, 0.0, 1.0),  # one direction, never together
        (30.0, 0.5, 40, 0.0, 0.0),
        (60.0, 1.0, 40, 0.0, 0.0),  # another direction
        (150.0, 1.0, 40, 0.0, 0.0),
        (30.0, 0.975, 40, 1.0, 0.0),
        (30.0, 0.025, 40, 0.0, 1.0),
        (30.0, 1.0, LEAST_ROWS - 1, 0.0, 0.0),
        (30.0, 1.0, LEAST_ROWS, 1.0, 0.0),
    ],
)
def test_a_later_unit_counts_by_direction_and_common_rows(angle, shared, rows, splits, absorbers):
    code = torch.zeros(200, 2)
    code[:rows, 1] = 1.0
    code[: round(shared * rows), 0] = 1.0
    code[rows:, 0] = 1.0
    first, whole = prefix_quality([coded(code, atoms_at(0.0, angle), [1])], [1], atoms_at(0.0, angle))
    assert (first.splits, first.absorbers) == (splits, absorbers)
    assert whole.splits is whole.absorbers is None


def test_dead_units_do_not_enter_the_mean_of_splits():
    code = torch.zeros(40, 3)
    code[:, [0, 2]] = 1.0
    first, _ = prefix_quality([coded(code, atoms_at(0.0, 90.0, 10.0), [2])], [2], atoms_at(0.0, 90.0, 10.0))
    assert (first.splits, first.dead_units, first.dead_rate, first.active_per_row) == (1.0, 1, 0.5, 1.0)


def test_units_of_the_longer_prefix_are_not_later_units_of_themselves():
    code, atoms = torch.ones(40, 3), atoms_at(0.0, 5.0, 10.0)
    found = prefix_quality([coded(code, atoms, [1, 2])], [1, 2], atoms)
    assert [part.splits for part in found] == [2.0, 1.0, None]


def test_blocks_and_their_sum_agree_and_missing_entries_take_no_part():
    generator = torch.Generator().manual_seed(0)
    code, atoms = torch.rand(50, 6, generator=generator).round(), torch.randn(6, 4, generator=generator)
    mask = torch.rand(50, 4, generator=generator).round()
    together = prefix_quality([coded(code, atoms, [2, 4], mask)], [2, 4], atoms)
    parts = [coded(code[rows], atoms, [2, 4], mask[rows]) for rows in (slice(0, 20), slice(20, 20), slice(20, 50))]
    for one, other in zip(together, prefix_quality(parts, [2, 4], atoms), strict=True):
        assert one.to_dict() == pytest.approx(other.to_dict())
    expected = [(mask * (code[:, size:] @ atoms[size:]).square()).sum(1).mean() for size in (2, 4, 6)]
    assert [part.squared_error_per_row for part in together] == pytest.approx(
        [float(one) for one in expected], rel=1e-5
    )


def test_no_rows_and_wrong_prefixes_are_refused():
    with pytest.raises(InputError, match="there are no rows"):
        prefix_quality([], [1])
    with pytest.raises(InputError, match="6 is not a whole number from 1 to 5"):
        prefix_quality([coded(torch.ones(3, 6), torch.ones(6, 2), [6])], [6])


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(300, 5))


def test_evaluate_has_the_prefixes_of_a_model_that_has_them(X):
    sparsity = TopK(k=3, prefixes=(4, 8))
    model = SparseAutoencoder(code_size=16, sparsity=sparsity, max_epochs=3, random_state=0).fit(X)
    results = json.loads(json.dumps(evaluate(model, X)))
    assert [part["n_units"] for part in results["prefixes"]] == [4, 8, 16]
    whole = results["prefixes"][-1]
    assert whole["squared_error_per_row"] == pytest.approx(results["squared_error_per_row"], rel=1e-6)
    assert whole["dead_units"] == results["dead_units"]
    codes, first = model.transform(X), results["prefixes"][0]
    codes[:, 4:] = 0
    residual = (X - model.inverse_transform(codes)) / X.std(0)
    assert first["squared_error_per_row"] == pytest.approx(np.square(residual).sum(1).mean(), rel=1e-4)


def test_models_without_prefixes_lack_the_method(X):
    for model in (SparseAutoencoder(code_size=8, sparsity=L1()), SparseAutoencoder(code_size=8, sparsity="topk")):
        fitted = model.set_params(max_epochs=1, random_state=0).fit(X)
        assert not hasattr(fitted, "prefix_quality")
        assert "prefixes" not in evaluate(fitted, X)
    assert not hasattr(Autoencoder(code_size=2, max_epochs=1, random_state=0).fit(X), "prefix_quality")


def test_a_decoder_that_is_not_linear_counts_no_splits(X):
    sparsity = TopK(k=3, prefixes=(4,))
    model = SparseAutoencoder(code_size=8, hidden_sizes=(6,), sparsity=sparsity, max_epochs=1, random_state=0).fit(X)
    first, _ = model.prefix_quality(X)
    assert first.splits is None
    assert first.squared_error_per_row > 0
