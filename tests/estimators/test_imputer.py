"""`Imputer`: filled cells, intervals, draws, files."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import Imputer, InputError, InputWarning
from isthmus.estimators.cell_models import StandardGaussian, nearest_gaps

SMALL = {"hidden_sizes": (16,), "code_size": 16, "max_epochs": 20, "n_folds": 2, "random_state": 0}


@parametrize_with_checks([Imputer(**SMALL)])
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_the_imputer(estimator, check):
    check(estimator)


def complete_table(n=240, seed=0):
    rng = np.random.default_rng(seed)
    t = rng.normal(size=n)
    return pd.DataFrame(
        {
            "size": t + rng.normal(0, 0.2, n),
            "weight": (2 * t + rng.normal(0, 0.2, n)).round(1),
            "small": np.float32(1) * t.astype(np.float32),
            "visits": pd.array(rng.poisson(np.exp(t / 2)), dtype="Int64"),
            "year": pd.array((2000 + 5 * t).astype(int), dtype="Int64"),
            "grade": np.where(t > 0.7, "high", np.where(t < -0.7, "low", "middle")),
            "side": pd.Categorical(np.where(t + rng.normal(0, 0.3, n) > 0, "left", "right")),
            "known": pd.array(t > 0.3, dtype="boolean"),
            "unit": 7.3,
        },
        index=[f"r{i}" for i in range(n)],
    )


@pytest.fixture(scope="module")
def truth():
    return complete_table()


@pytest.fixture(scope="module")
def table(truth):
    """The rows with a fifth of the cells missing."""
    hidden = np.random.default_rng(1).random(truth.shape) < 0.2
    hidden[:, 0] &= ~hidden[:, 1:].all(1)
    return truth.mask(hidden)


@pytest.fixture(scope="module")
def imputer(table):
    return Imputer(**SMALL).fit(table)


@pytest.fixture(scope="module")
def filled(imputer, table):
    return imputer.transform(table)


def test_observed_cells_index_order_and_types_stay(table, filled):
    assert not filled.isna().any().any()
    assert filled.index.equals(table.index)
    pd.testing.assert_series_equal(filled.dtypes, table.dtypes)
    for name in table:
        observed = table[name].notna()
        assert filled.loc[observed, name].tolist() == table.loc[observed, name].tolist()


def test_levels_are_filled_with_levels_and_whole_numbers_with_whole_numbers(table, filled):
    assert set(filled["grade"]) == {"high", "low", "middle"}
    assert set(filled["side"]) == {"left", "right"}
    assert (filled["weight"] == filled["weight"].round(1)).all()
    assert (filled["visits"] >= 0).all()
    for name in ("size", "weight", "visits", "year"):
        assert filled[name].between(table[name].min(), table[name].max()).all()


def test_filled_cells_are_near_the_truth(truth, table, filled):
    for name in ("size", "weight", "year"):
        hidden = table[name].isna()
        missed = (filled[name].astype(float) - truth[name].astype(float))[hidden]
        assert np.sqrt((missed**2).mean()) < 0.6 * truth[name].astype(float).std()
    for name in ("grade", "side", "known"):
        hidden = table[name].isna()
        assert (filled[name] == truth[name])[hidden].mean() > truth[name].value_counts(normalize=True).max() + 0.1


def test_a_constant_column_is_filled_with_its_value(imputer, filled):
    assert (filled["unit"] == 7.3).all()
    assert "column 'unit' has one value, which fills the gaps" in imputer.history_["notes"]


def test_new_rows_with_other_gaps_are_filled(imputer, truth):
    rows = truth.iloc[:3].copy()
    rows.loc["r1", "unit"] = None
    rows.loc["r2", "size"] = None
    filled = imputer.transform(rows)
    assert filled.loc["r1", "unit"] == 7.3
    assert filled.loc["r2", "size"] == pytest.approx(truth.loc["r2", "size"], abs=1.5)


def test_rows_without_gaps_come_back_as_they_are(imputer, truth):
    pd.testing.assert_frame_equal(imputer.transform(truth), truth)


def test_a_row_does_not_depend_on_other_rows(imputer, table, filled):
    pd.testing.assert_frame_equal(imputer.transform(table.iloc[7:12]), filled.iloc[7:12])


def test_a_row_without_any_observed_cell_gets_means_and_most_frequent_levels(imputer, table):
    empty = table.iloc[:1].copy()
    empty.iloc[0] = None
    with pytest.warns(InputWarning, match="1 row without any observed cell: filled with means"):
        filled = imputer.transform(empty)
    assert filled["size"].item() == pytest.approx(table["size"].mean(), abs=1e-5)
    assert filled["grade"].item() == table["grade"].mode()[0]


def test_rows_without_any_observed_cell_take_no_part_in_the_fit(table):
    rows = pd.concat([table[["size", "weight"]].iloc[:50], pd.DataFrame({"size": [np.nan], "weight": [np.nan]})])
    known = rows.notna().any(axis=1)
    with_empty = Imputer(random_state=0).fit(rows)
    assert with_empty.n_rows_ == int(known.sum())
    assert any("without any observed cell took no part in the fit" in note for note in with_empty.history_["notes"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pd.DataFrame({"a": [1.0, 2.0], "b": [np.nan, np.nan]}), "column 'b' has no value in the training rows"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [None, None]}, dtype=object), "column 'b' contains no values"),
        (np.array([[1.0, np.nan], [2.0, np.nan]]), "column 1 has no value in the training rows; leave it out"),
        (np.array([[1.0, np.inf], [2.0, 1.0]]), "infinity at row 0, column 1; replace it"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, -np.inf]}), "infinity at row 1, column 'b'; replace it"),
        (["one text", "another"], "the imputer takes arrays and tables; found text rows"),
    ],
)
def test_rows_that_cannot_be_filled_are_refused(rows, message):
    with pytest.raises(InputError, match=message):
        Imputer().fit(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_rate": 1.0}, "hidden_rate=1.0: it must be a number between 0 and 1"),
        ({"n_folds": 1}, "n_folds=1: it must be a whole number of at least 2"),
        ({"max_epochs": 0}, "max_epochs=0"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Imputer(**arguments).fit(np.eye(3))


def test_invalid_calls_are_refused(imputer, table):
    with pytest.raises(InputError, match="coverage=1: it must be a number between 0 and 1"):
        imputer.interval(table, 1)
    with pytest.raises(InputError, match="n=0: the number of samples"):
        imputer.sample(table, 0)
    with pytest.raises(ValueError, match="unit"):
        imputer.transform(table.drop(columns="unit"))


def test_unseen_levels_stay_as_they_are_with_a_warning(imputer, table):
    with pytest.warns(InputWarning, match="such as 'extreme' at row 0"):
        filled = imputer.transform(table.assign(grade="extreme"))
    assert (filled["grade"] == "extreme").all()
    strict = clone(imputer).set_params(unknown="refuse", max_epochs=1).fit(table)
    with pytest.raises(InputError, match="column 'grade' contains 'extreme' at row 0"):
        strict.transform(table.assign(grade="extreme"))


def test_dates_are_refused_with_the_type_that_leaves_them_out(table):
    dated = table.assign(day="2024-01-31")
    with pytest.raises(InputError, match="column 'day' has dates, which are not filled; leave it out"):
        Imputer(dtypes={"day": "date"}).fit(dated)
    left = Imputer(dtypes={"day": "ignore"}, max_epochs=1, random_state=0).fit(dated)
    assert list(left.transform(dated)) == list(table)


def test_draws_vary_in_missing_cells_alone_and_repeat_with_their_seed(imputer, table):
    first, second = imputer.sample(table, 2, random_state=0)
    pd.testing.assert_frame_equal(first, imputer.sample(table, 1, random_state=0)[0])
    for name in table:
        observed = table[name].notna()
        assert (first[name] == second[name])[observed].all()
    hidden = table["size"].isna()
    assert (first["size"] != second["size"])[hidden].mean() > 0.9
    assert set(first["grade"]) <= {"high", "low", "middle"}
    assert (first["visits"] >= 0).all()


def test_draws_have_the_spread_of_the_truth(imputer, table, truth, filled):
    hidden = table["visits"].isna()
    draws = imputer.sample(table, 20, random_state=0)
    drawn = np.mean([np.var(draw["visits"][hidden].astype(float)) for draw in draws])
    of_means = np.var(filled["visits"][hidden].astype(float))
    assert of_means < 0.8 * drawn
    assert drawn == pytest.approx(np.var(truth["visits"].astype(float)), rel=0.5)


def test_intervals_contain_the_stated_fraction_of_new_cells(imputer):
    rows = complete_table(600, seed=5)
    hidden = np.random.default_rng(6).random(rows.shape) < 0.2
    bounds = imputer.interval(rows.mask(hidden), 0.8)
    inside = [
        ((rows[name] >= bounds.low[name]) & (rows[name] <= bounds.high[name]))[hidden[:, j]].mean()
        for j, name in enumerate(rows)
        if name in ("size", "weight", "small", "year")
    ]
    assert 0.72 < np.mean(inside) < 0.92
    assert bounds.low[["grade", "side", "known"]].isna().all().all()
    assert (bounds.low["size"] == rows["size"])[~hidden[:, 0]].all()


def test_wider_coverage_gives_wider_intervals(imputer, table):
    narrow, wide = imputer.interval(table, 0.5), imputer.interval(table, 0.9)
    hidden = table["size"].isna()
    assert (wide.low["size"] <= narrow.low["size"]).all()
    assert (wide.high["size"] > narrow.high["size"])[hidden].mean() > 0.9


def test_probabilities_sum_to_one_and_their_largest_is_the_filled_level(imputer, table, filled):
    found = imputer.probabilities(table)
    assert list(found) == ["grade", "side", "known"]
    for name, p in found.items():
        np.testing.assert_allclose(p.sum(axis=1), 1)
        assert (p.columns[p.to_numpy().argmax(1)] == filled[name]).all()
        assert (p.max(axis=1) == 1)[table[name].notna()].all()


def test_errors_are_those_of_hidden_cells(imputer, table):
    found = {entry["column"]: entry for entry in imputer.errors_}
    assert list(found) == list(table.columns)
    assert found["size"]["measure"] == "RMSE"
    assert found["size"]["error"] < 0.6 * found["size"]["baseline"]
    assert found["size"]["baseline"] == pytest.approx(table["size"].std(), rel=0.3)
    assert found["grade"]["measure"] == "wrong"
    assert found["grade"]["error"] < found["grade"]["baseline"] <= 1
    assert found["unit"]["error"] == 0


def test_a_file_gives_the_same_cells(imputer, table, filled, tmp_path):
    imputer.save(tmp_path / "imputer")
    loaded = isthmus.load(tmp_path / "imputer")
    pd.testing.assert_frame_equal(loaded.transform(table), filled)
    pd.testing.assert_frame_equal(loaded.interval(table).low, imputer.interval(table).low)
    pd.testing.assert_frame_equal(loaded.sample(table, 1, 3)[0], imputer.sample(table, 1, 3)[0])
    assert loaded.errors_ == imputer.errors_
    assert loaded.get_params() == imputer.get_params()


def test_the_same_seed_gives_the_same_cells(table, filled):
    pd.testing.assert_frame_equal(Imputer(**SMALL).fit(table).transform(table), filled)


def test_few_rows_are_filled_by_a_gaussian():
    rng = np.random.default_rng(0)
    t = rng.normal(size=40)
    X = np.column_stack([t, -t, t]) + rng.normal(0, 0.01, (40, 3))
    given = X.copy()
    given[:5, 1] = np.nan
    imputer = Imputer(random_state=0).fit(given)
    assert imputer.model_.denoisers == ()
    np.testing.assert_allclose(imputer.transform(given)[:5, 1], X[:5, 1], atol=0.3)


def test_the_gaussian_gives_the_closed_form_expectation():
    rng = np.random.default_rng(0)
    covariance = np.array([[1.0, 0.8, 0.2], [0.8, 1.0, 0.1], [0.2, 0.1, 1.0]])
    X = rng.multivariate_normal([5.0, -1.0, 0.0], covariance, 20_000)
    z, mask = torch.from_numpy(X), torch.ones(X.shape, dtype=torch.bool)
    found = StandardGaussian.fitted(z, mask)
    seen = mask[:1].clone()
    seen[0, 0] = False
    mean, spread = found.expected(torch.tensor([[0.0, 0.5, 1.0]]).double(), seen)
    gain = covariance[0, 1:] @ np.linalg.inv(covariance[1:, 1:])
    assert mean[0, 0].item() == pytest.approx(5 + gain @ [1.5, 1.0], abs=0.05)
    assert spread[0, 0].item() ** 2 == pytest.approx(1 - gain @ covariance[1:, 0], abs=0.02)


def test_a_row_gets_the_gaps_that_contain_most_of_its_own():
    gaps = torch.tensor([[True, True, False, False], [False, False, True, True]])
    mask = torch.tensor([[False, True, True, True], [True, True, True, False]])
    found = nearest_gaps(mask, gaps, torch.Generator().manual_seed(0))
    assert found.tolist() == gaps.tolist()


def test_columns_that_are_missing_together_are_hidden_together():
    """One of two equal columns is not predicted from the other, which is never visible then."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=(200, 1))
    X = np.hstack([t, t, rng.normal(size=(200, 1))])
    X[rng.random(200) < 0.4, :2] = np.nan
    first = Imputer(**SMALL).fit(X).errors_[0]
    assert first["error"] == pytest.approx(first["baseline"], rel=0.1)


def test_arrays_keep_their_type_and_integers_may_get_gaps_later():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 50, (60, 3))
    imputer = Imputer(random_state=0).fit(X)
    assert imputer.transform(X).dtype == X.dtype
    assert "no cell is missing in the training rows; random cells were hidden in training" in imputer.history_["notes"]
    later = X[:2].astype(np.float32)
    later[0, 1] = np.nan
    filled = imputer.transform(later)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()


def test_images_and_windows_keep_their_shape():
    rng = np.random.default_rng(0)
    images = rng.random((30, 4, 5, 3)).cumsum(1) / 4
    given = np.where(rng.random(images.shape) < 0.1, np.nan, images)
    filled = Imputer(random_state=0).fit(given).transform(given)
    assert filled.shape == images.shape
    np.testing.assert_array_equal(filled[np.isfinite(given)], given[np.isfinite(given)])
    assert np.sqrt(np.nanmean((filled - images)[np.isnan(given)] ** 2)) < 0.8 * images.std()


def test_output_is_a_data_frame_on_request():
    X = np.random.default_rng(0).normal(size=(20, 2))
    X[0, 0] = np.nan
    imputer = Imputer(random_state=0).set_output(transform="pandas").fit(X)
    assert list(imputer.transform(X).columns) == list(imputer.get_feature_names_out()) == ["x0", "x1"]


def test_declared_units_hold():
    rows = pd.DataFrame({"a": [1.0, 2.0, 3.0, 1.0, None] * 8, "b": np.arange(40.0)})
    filled = Imputer(dtypes={"a": "category"}, random_state=0).fit(rows).transform(rows)
    assert set(filled["a"]) == {1.0, 2.0, 3.0}


def test_a_frame_of_polars_stays_one(table):
    polars = pytest.importorskip("polars")
    given = polars.from_pandas(table[["size", "weight", "grade"]].iloc[:60].reset_index(drop=True))
    filled = Imputer(random_state=0).fit(given).transform(given)
    assert isinstance(filled, sys.modules["polars"].DataFrame)
    assert filled.null_count().row(0) == (0, 0, 0)


def test_a_fit_that_fails_changes_nothing(table):
    imputer = Imputer(random_state=0).fit(table.iloc[:40])
    before = imputer.transform(table.iloc[:5])
    with pytest.raises(InputError):
        imputer.fit(np.array([[np.nan], [np.nan]]))
    pd.testing.assert_frame_equal(imputer.transform(table.iloc[:5]), before)
