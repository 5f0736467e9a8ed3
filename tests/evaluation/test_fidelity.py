"""Samples of tables compared with rows: another draw, copies, independent columns, missing entries, invalid input."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from scipy.stats import f_oneway, ks_2samp, rankdata, spearmanr
from scipy.stats.contingency import association, crosstab
from sklearn.metrics import roc_auc_score

from isthmus import Autoencoder, InputError, LinearAutoencoder, VariationalAutoencoder
from isthmus.data.tables import learn_columns
from isthmus.evaluation.associations import associations
from isthmus.evaluation.detection import auc_with_error
from isthmus.evaluation.encoded_tables import MAX_LEVELS, TableEncoder
from isthmus.evaluation.fidelity import MAX_ROWS, fidelity, fidelity_of, no_fidelity


def table(n, seed):
    """Rows of one distribution: real, count, binary and categorical columns that depend on each other."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    grade = np.array(["low", "middle", "high"])[np.digitize(size + 0.5 * rng.normal(size=n), (-0.5, 0.5))]
    return pd.DataFrame({
        "size": size, "weight": 2 * size + 0.5 * rng.normal(size=n), "parts": rng.poisson(np.exp(0.5 * size)),
        "old": rng.random(n) < 0.3, "grade": grade,
    })  # fmt: skip


ROWS = table(800, 0)


@pytest.fixture(scope="module")
def perfect():
    return fidelity(ROWS, table(800, 1))


@pytest.fixture(scope="module")
def independent():
    shuffled = {name: ROWS[name].sample(frac=1, random_state=i).to_numpy() for i, name in enumerate(ROWS)}
    return fidelity(ROWS, pd.DataFrame(shuffled))


def test_another_draw_of_the_distribution_cannot_be_separated(perfect):
    low, high = perfect.auc_interval
    assert low < 0.5 < high
    assert high - low < 0.12
    assert perfect.marginal_distance < 1.6 * perfect.expected_marginal_distance < 0.08
    assert perfect.association_difference < 2 * perfect.expected_association_difference < 0.15
    assert 0.02 < perfect.close_rate < 0.09
    assert perfect.n_copies == 0


@pytest.mark.parametrize("holdout", [None, table(400, 2)], ids=["other rows", "held-out rows"])
def test_rows_drawn_with_replacement_are_copies(holdout):
    found = fidelity(ROWS, ROWS.sample(500, replace=True, random_state=0), holdout=holdout)
    assert found.close_rate == 1
    assert found.n_copies == found.n_compared == 500
    assert found.expected_copies == 0
    assert found.has_holdout == (holdout is not None)
    assert found.auc < 0.5


def test_copies_with_small_noise_are_close_but_not_equal():
    copies = ROWS.assign(size=ROWS["size"] + 0.001)
    found = fidelity(ROWS, copies)
    assert found.close_rate > 0.95
    assert found.n_copies == 0


def test_independent_columns_are_found_by_the_pair_and_by_the_classifier(independent):
    assert independent.marginal_distance == 0
    assert independent.auc_interval[0] > 0.8
    pair = independent.pairs[0]
    assert pair.columns == ("size", "weight")
    assert pair.in_rows == pytest.approx(spearmanr(ROWS["size"], ROWS["weight"]).statistic)
    assert abs(pair.in_samples) < 0.1
    assert independent.association_difference > 4 * independent.expected_association_difference
    differences = [pair.difference for pair in independent.pairs]
    assert differences == sorted(differences, reverse=True)
    assert len(differences) == 10


def test_marginals_are_the_distances_of_scipy_and_of_the_frequencies():
    samples = table(600, 3).assign(grade="low")
    samples["size"] += 1
    found = {column.name: column for column in fidelity(ROWS.iloc[:600], samples).columns}
    for name in ("size", "weight", "parts"):
        assert found[name].distance == pytest.approx(ks_2samp(ROWS[name][:600], samples[name]).statistic)
    frequencies = ROWS["grade"][:600].value_counts(normalize=True)
    assert found["grade"].distance == pytest.approx(1 - frequencies["low"])
    assert [one.unit for one in found.values()] == ["real", "real", "count", "binary", "categorical"]


def test_associations_are_those_of_scipy():
    rows = table(300, 4)
    rows.loc[::7, "weight"] = np.nan
    encoder = TableEncoder.of(rows)
    found = pd.DataFrame(associations(encoder.values("the rows", rows), encoder), encoder.names, encoder.names)
    np.testing.assert_allclose(found, found.T)
    assert found.loc["size", "parts"] == pytest.approx(spearmanr(rows["size"], rows["parts"]).statistic)
    counts = crosstab(rows["old"], rows["grade"]).count
    assert found.loc["old", "grade"] == pytest.approx(association(counts, method="cramer"))
    for name in ("parts", "weight"):
        complete = rows.dropna(subset=[name])
        ranks = rankdata(complete[name])
        f = f_oneway(*(ranks[complete["grade"] == grade] for grade in rows["grade"].unique())).statistic
        between, within = 2 * f, len(ranks) - 3
        assert found.loc[name, "grade"] == pytest.approx(np.sqrt(between / (between + within)))


def test_a_constant_column_has_no_association():
    rows = ROWS.assign(size=1.0, grade="low", old=ROWS["old"])
    encoder = TableEncoder.of(rows)
    found = pd.DataFrame(associations(encoder.values("the rows", rows), encoder), encoder.names, encoder.names)
    assert (found.drop(index=["size"])["size"] == 0).all()
    assert (found.drop(index=["grade"])["grade"] == 0).all()


def test_the_auc_and_its_error_are_those_of_enumeration():
    rng = np.random.default_rng(0)
    repeated = [auc_with_error(rng.normal(size=40).round(1), rng.normal(1, 1, size=60).round(1)) for _ in range(400)]
    assert np.std([auc for auc, _ in repeated]) == pytest.approx(np.mean([error for _, error in repeated]), rel=0.1)
    low, high = rng.normal(size=40).round(1), rng.normal(1, 1, size=60).round(1)
    expected = roc_auc_score(np.repeat([0, 1], [40, 60]), np.concatenate([low, high]))
    assert auc_with_error(low, high)[0] == pytest.approx(expected)


def test_samples_of_a_model_that_imputes_get_the_missing_entries_of_rows():
    rows, rng = table(800, 5), np.random.default_rng(0)
    for name in ("weight", "grade"):
        rows.loc[rng.random(800) < 0.3, name] = None
    found = fidelity(rows, table(800, 6))
    assert found.masked
    assert found.auc_interval[0] < 0.5 < found.auc_interval[1]
    columns = {column.name: column for column in found.columns}
    assert columns["grade"].missing_in_rows == pytest.approx(0.3, abs=0.05)
    assert columns["grade"].missing_in_samples == 0
    own = fidelity(rows, rows.sample(frac=1, random_state=0))
    assert not own.masked
    assert own.n_copies == 800


def test_a_column_without_values_is_as_far_as_possible_from_one_with_values():
    found = fidelity(ROWS.assign(extra=np.nan), ROWS.assign(extra=1.0))
    assert found.columns[-1].distance == 1
    assert np.isfinite(found.auc)
    never = pd.DataFrame({"x": np.full(40, np.nan), "y": np.arange(40.0)})
    assert fidelity(never, never).columns[0].distance == 0


def test_values_that_are_no_level_of_the_rows_count_as_one_level():
    found = fidelity(ROWS, ROWS.assign(grade=np.where(np.arange(800) % 2, "new", "other")))
    assert found.columns[-1].distance == pytest.approx(1)
    numbered = ROWS.assign(old=ROWS["old"].astype(int))
    between = numbered.assign(old=numbered["old"] + np.linspace(0.1, 0.2, 800))
    assert fidelity(numbered, between).columns[3].distance == pytest.approx(1)


def test_a_column_of_many_levels_is_compared():
    rows = pd.DataFrame({"town": [f"t{i % 400}" for i in range(800)], "x": np.arange(800.0)})
    columns = learn_columns(rows, {"town": "category"})
    found = fidelity(rows, rows.sample(frac=1, random_state=0), columns=columns)
    assert len(TableEncoder.of(rows, columns).columns[0].levels) == MAX_LEVELS
    assert found.columns[0].distance == 0


def test_the_columns_of_a_model_decide_about_the_units():
    rows = pd.DataFrame({"code": np.arange(400) % 4, "x": np.random.default_rng(0).normal(size=400)})
    columns = learn_columns(rows, {"code": "category"})
    assert [one.unit for one in fidelity(rows, rows, columns=columns).columns] == ["categorical", "real"]
    assert [one.unit for one in fidelity(rows, rows).columns] == ["count", "real"]


def test_the_number_of_compared_rows_has_a_limit(monkeypatch):
    monkeypatch.setattr("isthmus.evaluation.fidelity.MAX_ROWS", 100)
    monkeypatch.setattr("isthmus.evaluation.fidelity.KEYS_AT_ONCE", 64)
    found = fidelity(ROWS, ROWS.iloc[::-1])
    assert (found.n_rows, found.n_samples, found.n_compared, found.n_reference) == (800, 800, 100, 100)
    assert found.n_copies == 100, "exact copies are searched in all rows"
    assert MAX_ROWS == 5000


def test_the_record_is_plain_data_and_has_a_sentence_for_each_part(independent):
    plain = json.loads(json.dumps(independent.to_dict()))
    assert plain["columns"][0]["name"] == "size"
    assert plain["auc_interval"] == list(independent.auc_interval)
    assert set(independent.sentences) == {"marginals", "associations", "copying", "detection"}
    assert "size and weight differs the most" in independent.sentences["associations"]
    assert f"AUC {independent.auc:.3f}" in repr(independent)


def test_the_same_seed_gives_the_same_comparison(perfect):
    assert fidelity(ROWS, table(800, 1)) == perfect
    assert fidelity(ROWS, table(800, 1), random_state=1).auc != perfect.auc


def test_one_column_has_no_pairs():
    found = fidelity(np.arange(50.0)[:, None], np.arange(50.0)[:, None])
    assert found.pairs == ()
    assert found.association_difference == 0
    assert "differs" not in found.sentences["associations"]


@pytest.mark.parametrize(
    ("rows", "samples", "message"),
    [
        (ROWS, ROWS.drop(columns="grade"), "the columns of the samples are not those .* missing 'grade'"),
        (ROWS, ROWS.rename(columns={"size": "length"}), "missing 'size'; unknown 'length'"),
        (ROWS, ROWS.assign(size="big"), "'size' is numeric, and the samples have 'big' at row"),
        (ROWS, ROWS.replace({"size": {ROWS["size"][5]: np.inf}}), "the samples have inf at row 5"),
        (ROWS.iloc[:19], ROWS, "the rows are 19; a comparison needs at least 20"),
        (ROWS, ROWS.iloc[:5], "the samples are 5"),
        (pd.concat([ROWS, ROWS[["old"]]], axis=1), ROWS, "two columns of the rows are named 'old'"),
        (ROWS, pd.concat([ROWS, ROWS[["old"]]], axis=1), "of the samples .* one of them occurs twice"),
        (np.zeros((30, 4, 4)), np.zeros((30, 4, 4)), r"the rows have the shape \(30, 4, 4\)"),
        (scipy.sparse.eye(30, format="csr"), np.eye(30), "the rows are sparse or texts"),
    ],
)
def test_invalid_tables_are_refused_in_one_line(rows, samples, message):
    with pytest.raises(InputError, match=message) as error:
        fidelity(rows, samples)
    assert "\n" not in str(error.value)


def test_samples_of_a_model_are_compared_in_its_units():
    rows = table(300, 7)
    rows["parts"] = rows["parts"].clip(upper=3)
    model = VariationalAutoencoder(code_size=2, max_epochs=3, random_state=0, dtypes={"parts": "category"}).fit(rows)
    found = fidelity_of(model, rows)
    assert found.columns[2].unit == "categorical"
    assert found == fidelity(rows, model.sample(300, random_state=0), columns=model.preprocessing_.table)
    array = rows[["size", "weight"]].to_numpy()
    linear = LinearAutoencoder(code_size=1, max_epochs=2, random_state=0).fit(array)
    assert fidelity_of(linear, pd.DataFrame(array, columns=["a", "b"])).columns[0].name == "x0"


def test_models_without_samples_of_tables_are_refused():
    rows = table(60, 8)[["size", "weight"]].to_numpy()
    with pytest.raises(InputError, match="Autoencoder has no samples"):
        fidelity_of(Autoencoder(code_size=1, max_epochs=1, random_state=0).fit(rows), rows)
    wide = np.random.default_rng(0).normal(size=(40, 101))
    assert "101 columns" in no_fidelity(LinearAutoencoder(code_size=1, max_epochs=1, random_state=0).fit(wide))
    images = np.random.default_rng(0).normal(size=(40, 3, 3))
    assert "images" in no_fidelity(LinearAutoencoder(code_size=1, max_epochs=1, random_state=0).fit(images))
