"""Rows of known features have the stated properties; scores of their codes are those of small cases by hand."""

import numpy as np
import pytest

from experiments import sparse_bench
from experiments.feature_scores import feature_scores, with_active_child
from experiments.synthetic_features import Features
from isthmus.errors import InputError

SIZES = {"n_features": 256, "n_columns": 16, "n_active": 4.0, "n_roots": 16, "correlation": 0.3}


@pytest.fixture(scope="module")
def features():
    return Features.drawn(**SIZES, seed=0)


@pytest.fixture(scope="module")
def active(features):
    return features.active(200_000, np.random.default_rng(1))


def test_a_child_is_active_only_with_its_parent(features, active):
    children = np.flatnonzero(features.parents >= 0)
    assert len(children) == SIZES["n_features"] - SIZES["n_roots"]
    assert not (active[:, children] & ~active[:, features.parents[children]]).any()
    assert len(features.levels) >= 3
    assert sorted(np.concatenate(features.levels)) == list(range(SIZES["n_features"]))


def test_frequencies_follow_zipf_with_exponent_one(features, active):
    found = active.mean(0)
    assert found.sum() == pytest.approx(SIZES["n_active"], rel=0.01)
    np.testing.assert_allclose(found[:32], features.rates[:32], rtol=0.05)
    slope = np.polyfit(np.log(np.arange(1, 257)), np.log(found), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.03)


def test_pairs_have_the_stated_correlation_and_a_common_parent(features, active):
    np.testing.assert_array_equal(features.parents[::2], features.parents[1::2])
    found = [np.corrcoef(active[:, i], active[:, i + 1])[0, 1] for i in range(0, 128, 2)]
    np.testing.assert_allclose(found, SIZES["correlation"], atol=0.06)
    assert np.mean(found) == pytest.approx(SIZES["correlation"], abs=0.01)


def test_rows_are_sums_of_directions_of_norm_one(features):
    np.testing.assert_allclose(np.linalg.norm(features.directions, axis=1), 1.0)
    x, h = features.rows(500, 3)
    np.testing.assert_allclose(x, h @ features.directions, atol=1e-5)
    assert h[h > 0].min() >= 0.5
    assert h.max() <= 1.5
    assert x.shape == features.many_rows(500, 3).shape
    assert not np.allclose(x[:100], features.many_rows(100, 4))


@pytest.mark.parametrize("wrong", [{"n_features": 9}, {"n_roots": 2}, {"n_active": 60.0}])
def test_impossible_distributions_are_refused(wrong):
    with pytest.raises(InputError, match="give even numbers"):
        Features.drawn(**SIZES | wrong, seed=0)


@pytest.fixture
def family():
    """Return two roots and two children of the first, in five columns, and six rows."""
    parents = np.array([-1, -1, 0, 0])
    known = Features(np.eye(4, 5), np.array([0.5, 0.4, 0.2, 0.2]), parents, np.array([0.2, 0.1]))
    active = np.array([[1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)
    return known, active


def test_the_true_code_has_perfect_scores(family):
    features, active = family
    found = feature_scores(features, active, features.directions, active, 4)
    assert found.to_dict() == {
        "mcc": 1.0, "f1": 1.0, "f1_all": 1.0, "recovered": 1.0, "dead": 0.0, "recall": 1.0, "recall_with_child": 1.0,
        "parent_share": 0.0,
    }  # fmt: skip


def test_units_in_another_order_and_of_another_norm_are_matched(family):
    features, active = family
    order = np.array([2, 0, 3, 1])
    found = feature_scores(features, active, 3.0 * features.directions[order], active[:, order], 4)
    assert (found.mcc, found.f1_all) == pytest.approx((1.0, 1.0))


def test_a_parent_absorbed_by_its_child_is_seen(family):
    features, active = family
    dictionary, on = features.directions.copy(), active.copy()
    dictionary[2] += 0.75 * dictionary[0]  # the unit of the child stands for both
    on[active[:, 2], 0] = False
    found = feature_scores(features, active, dictionary, on, 4)
    assert found.parent_share == pytest.approx((0.6 + 0.0) / 2)
    assert (found.recall, found.recall_with_child) == (1.0, 0.5)
    assert found.mcc == pytest.approx((3 + 0.8) / 4)
    assert found.f1 == pytest.approx((2 * 3 / 7 + 3) / 4)


def test_f1_counts_features_without_a_unit_and_units_that_are_active_alone(family):
    features, active = family
    dictionary, on = features.directions[:2], active[:, :2].copy()
    on[4, 1] = True
    found = feature_scores(features, active, dictionary, on, 4)
    assert found.f1_all == pytest.approx(2 * 6 / (8 + 7))
    assert found.f1 == pytest.approx((1.0 + 2 * 2 / 5 + 0 + 0) / 4)
    assert found.recovered == 0.5
    assert feature_scores(features, active, dictionary, on, 2).f1 == pytest.approx((1.0 + 0.8) / 2)


def test_active_children_are_those_of_each_feature(family):
    features, active = family
    np.testing.assert_array_equal(np.argwhere(with_active_child(features, active)), [[1, 0], [2, 0]])


def test_pursuit_over_the_true_atoms_finds_the_features_of_separate_directions():
    features = Features.drawn(n_features=12, n_columns=200, n_active=2.0, n_roots=4, correlation=0.3, seed=0)
    rows, h = features.rows(300, 1)
    found = sparse_bench.pursuit_scores(
        features, rows, h, sparse_bench.Decoder(features.directions, np.zeros(200)), 12, 12
    )
    assert found["error"] < 1e-8
    assert found["f1_all"] > 0.99
    assert found["active"] == pytest.approx((h != 0).sum(1).mean(), rel=0.02)


def test_the_judged_setting_is_chosen_by_validation_rows():
    def cell(active, validation, f1):
        return {"active": active, "validation_active": validation, "f1_all": f1, "pursuit": {"f1_all": -f1}}

    results = {"topk-3": cell(5.0, 3.0, 0.1), "topk-5": cell(3.0, 5.0, 0.2), "batch-topk-5": cell(5.0, 5.0, 0.3)}
    assert sparse_bench.chosen(results, "topk", 5.0)["f1_all"] == 0.2
    assert sparse_bench.chosen(results, "pursuit-learned", 5.0)["f1_all"] == -0.2
