"""The tables and baselines of the experiment on synthetic tables."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, spearmanr
from sklearn.datasets import load_breast_cancer

from experiments.synthetic_sources import TARGET, GaussianCopula, NormalScores, load_table, noisy_copies
from experiments.synthetic_tables import prediction_auc, split
from isthmus.data.tables import learn_columns


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    a, n = rng.normal(size=(2000, 2)) @ [[1.0, 0.8], [0.0, 0.6]], 2000
    return pd.DataFrame({
        "x": np.exp(a[:, 0]), "y": a[:, 1].round(1), "grade": np.array(list("abc"))[np.digitize(a[:, 0], (0.0, 1.0))],
        TARGET: np.where(a[:, 1] + rng.normal(size=n) > 0, "yes", "no"),
    })  # fmt: skip


@pytest.mark.parametrize("source", ["diabetes", "breast-cancer"])
def test_the_bundled_tables_are_mixed_and_have_a_target_of_two_levels(source):
    table = load_table(source)
    units = {column.name: column.unit for column in learn_columns(table)}
    assert units[TARGET] == "binary"
    assert {"real", "binary", "categorical"} <= set(units.values())
    if source == "breast-cancer":
        assert (table[TARGET] == "malignant").sum() == (load_breast_cancer().target == 0).sum()


def test_a_copula_keeps_marginals_and_rank_correlations(rows):
    samples = GaussianCopula(rows, 0).sample(4000, 1)
    for name in ("x", "y"):
        assert ks_2samp(rows[name], samples[name]).statistic < 0.04
        assert set(samples[name]) <= set(rows[name])
    frequencies = (one["grade"].value_counts(normalize=True).sort_index() for one in (rows, samples))
    np.testing.assert_allclose(*frequencies, atol=0.03)
    found, expected = (spearmanr(one["x"], one["y"]).statistic for one in (samples, rows))
    assert found == pytest.approx(expected, abs=0.03)


def test_normal_scores_are_normal_and_their_inverse_returns_the_rows(rows):
    scores = NormalScores(rows)
    transformed = scores.transform(rows)
    assert transformed["x"].mean() == pytest.approx(0, abs=0.01)
    assert transformed["x"].std() == pytest.approx(1, abs=0.02)
    pd.testing.assert_frame_equal(scores.inverse_transform(transformed), rows)
    outside = scores.transform(rows.assign(x=1e9))
    assert np.isfinite(outside["x"]).all()


def test_noisy_copies_are_near_rows(rows):
    copies = noisy_copies(rows, 500, 0.0, 0)
    assert set(copies["x"]) <= set(rows["x"])
    noisy = noisy_copies(rows, 500, 0.1, 0)
    assert (noisy["x"] - copies["x"]).std() == pytest.approx(0.1 * rows["x"].std(), rel=0.2)
    assert 0 < (noisy["grade"] != copies["grade"]).mean() < 0.1


def test_the_parts_of_a_table_are_disjoint(rows):
    parts = split(rows.assign(number=range(2000)), 0)
    assert [len(part) for part in parts] == [1000, 300, 700]
    assert len(set(pd.concat(parts)["number"])) == 2000


def test_a_prediction_needs_two_classes(rows):
    assert 0.7 < prediction_auc(rows[:1000], rows[1000:]) < 1
    assert prediction_auc(rows[:1000].assign(**{TARGET: "yes"}), rows[1000:]) == 0.5
