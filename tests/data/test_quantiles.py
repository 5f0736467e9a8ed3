"""Maps of real columns to normal scores: properties of the map, and its use in the preprocessing of tables."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from scipy.stats import norm, rankdata

from isthmus.data import Documents
from isthmus.data.preprocessing import Preprocessor
from isthmus.data.quantiles import MAX_KNOTS, QuantileMap
from isthmus.errors import InputError

RNG = np.random.default_rng(0)


def random_column(seed):
    """A column with ties, gaps, large steps and any range, of 2 to 60 values."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 61))
    wide = 1e6 * rng.standard_cauchy(n)
    values = [rng.normal(size=n), rng.lognormal(sigma=3, size=n), rng.integers(0, 4, n) - 1.5, wide]
    column = np.choose(rng.integers(0, 4, n), values) if seed % 3 else values[seed % 4]
    return np.where(rng.random(n) < rng.choice([0, 0.3, 0.9]), column[0], column)


ENDS = ([0, 1e-3], [-5, -5, 3], [0] * 50 + [1], [0] + [1] * 50)
COLUMNS = [column for column in map(random_column, range(60)) if len(np.unique(column)) > 1]
COLUMNS += [np.array(column, float) for column in ENDS]
every_column = pytest.mark.parametrize("column", COLUMNS, ids=range(len(COLUMNS)))


def around(column):
    """Values of any place in the range of a column and beyond it, sorted."""
    low, high = column.min(), column.max()
    others = np.random.default_rng(1).uniform(low - 2 * (high - low), high + 2 * (high - low), 200)
    return np.sort(np.concatenate([column, others, np.nextafter(column, np.inf), np.nextafter(column, -np.inf)]))


@every_column
def test_scores_are_those_of_the_ranks(column):
    expected = norm.ppf((rankdata(column) - 0.5) / len(column))
    np.testing.assert_allclose(QuantileMap.learned(column).scores(column), expected, atol=1e-9)


@every_column
def test_any_value_returns_from_its_score(column):
    found, values = QuantileMap.learned(column), around(column)
    np.testing.assert_allclose(found.raw(found.scores(values)), values, atol=1e-9 * np.abs(values).max())


@every_column
def test_map_and_inverse_are_monotone(column):
    found, values = QuantileMap.learned(column), around(column)
    assert (np.diff(found.scores(values)) >= -1e-12).all()
    assert (np.diff(found.raw(np.linspace(-8, 8, 300))) >= -1e-12 * np.abs(values).max()).all()
    assert min(found.slopes) > 0


@every_column
def test_a_weight_counts_as_so_many_copies(column):
    weights = np.random.default_rng(2).integers(0, 4, len(column)).astype(float)
    weights[column.argmin()] = weights[column.argmax()] = 1
    found = QuantileMap.learned(column, weights)
    repeated = QuantileMap.learned(np.repeat(column, weights.astype(int)))
    grid = np.linspace(-4, 4, 50)
    np.testing.assert_allclose(found.raw(grid), repeated.raw(grid), atol=1e-9 * np.abs(column).max())


@every_column
def test_equal_weights_count_as_none(column):
    tenth = QuantileMap.learned(column, np.full(len(column), 0.1))
    np.testing.assert_allclose(tenth.middle, QuantileMap.learned(column).middle, atol=1e-9)


@every_column
def test_few_points_are_points_of_the_inverse(column):
    found = QuantileMap.learned(column)
    scores, values = found.few_points(7)
    assert len(scores) <= 7
    np.testing.assert_allclose(found.raw(scores), values, rtol=1e-12)
    assert (values[0], values[-1]) == (found.values[0], found.values[-1])


def test_a_frequent_value_has_an_interval_of_scores():
    column = np.concatenate([np.zeros(600), RNG.exponential(size=400)])
    found = QuantileMap.learned(column)
    z = RNG.standard_normal(20_000)
    assert np.mean(found.raw(z) == 0) == pytest.approx(0.6, abs=0.015)
    assert found.scores(np.zeros(1)) == pytest.approx(norm.ppf(0.3))


def test_normal_scores_return_the_distribution_of_a_skewed_column():
    column = RNG.lognormal(sigma=2, size=5000)
    found = QuantileMap.learned(column)
    assert len(found.values) <= MAX_KNOTS
    levels = np.linspace(0.01, 0.99, 25)
    np.testing.assert_allclose(found.raw(norm.ppf(levels)), np.quantile(column, levels), rtol=0.02)
    scores = found.scores(column)
    assert (scores.mean(), scores.std()) == pytest.approx((0, 1), abs=0.01)
    assert found.scores(np.array([column.max()])) == pytest.approx(norm.ppf(1 - 0.5 / 5000))


def test_beyond_the_range_the_map_goes_on_with_the_slope_of_the_outer_part():
    column = norm.ppf((np.arange(500) + 0.5) / 500) * 3 + 10
    found = QuantileMap.learned(column)
    assert found.slopes == pytest.approx((3, 3), rel=1e-6)
    np.testing.assert_allclose(found.scores(np.array([-20.0, 40.0])), [-10, 10], rtol=1e-6)


def test_missing_values_and_columns_without_two_values_have_no_score():
    assert QuantileMap.learned(np.array([2.0, np.nan, 2.0])) is None
    assert QuantileMap.learned(np.full(3, np.nan)) is None
    found = QuantileMap.learned(np.array([1.0, np.nan, 2.0, 4.0]))
    assert found.values.tolist() == [1, 2, 4]
    assert np.isnan(found.scores(np.array([np.nan, 1.0]))).tolist() == [True, False]


# -- in the preprocessing of tables ------------------------------------------------------------------


def table(n=300):
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "income": rng.lognormal(10, 1, n).round(2),
            "hours": np.where(rng.random(n) < 0.6, 0, rng.gamma(2, 5, n)),
            "children": rng.integers(0, 4, n),
            "city": rng.choice(["Bern", "Oslo", "Rome"], n),
            "member": rng.random(n) < 0.3,
            "constant": 2.5,
        }
    )


def model_space(preprocessor, X):
    rows = preprocessor.rows(X)
    return rows.batch(torch.arange(len(rows))).x.numpy()


def test_real_columns_of_a_table_are_mapped_and_others_are_as_with_standard():
    X = table()
    learned, standard = (Preprocessor.from_data(X, scaling=name) for name in ("quantile", "standard"))
    x, usual = model_space(learned, X), model_space(standard, X)
    assert [learned.columns[i] for i in learned.quantiles] == ["income", "hours"]
    assert learned.constant == standard.constant
    np.testing.assert_array_equal(x[:, 2:], usual[:, 2:])
    np.testing.assert_allclose(x[:, :2].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x[:, :2].std(0), 1, atol=1e-6)
    back = learned.inverse_transform(x)
    pd.testing.assert_frame_equal(back, X, check_dtype=False, rtol=1e-5)
    assert (back["hours"][X["hours"] == 0] == 0).all(), "a frequent value returns exactly"
    assert list(X.columns) == list(table().columns)
    pd.testing.assert_frame_equal(X, table())


def test_the_map_survives_a_round_trip_through_the_file():
    X = table()
    learned = Preprocessor.from_data(X, scaling="quantile")
    tensors, config = learned.to_file()
    again = Preprocessor.from_file(tensors, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(model_space(again, X), model_space(learned, X))
    pd.testing.assert_frame_equal(
        again.inverse_transform(model_space(again, X)), learned.inverse_transform(model_space(learned, X))
    )
    assert again.table == learned.table
    assert "knots" not in {**Preprocessor.from_data(X).to_file()[0], **Preprocessor.from_data(X).to_file()[1]}


@pytest.mark.parametrize("missing", ["mean", "median", "mask"])
def test_missing_entries_are_filled_in_raw_units_or_masked(missing):
    X = table()
    X.loc[:9, "income"] = np.nan
    learned = Preprocessor.from_data(X, scaling="quantile", missing=missing)
    rows = learned.rows(X)
    batch = rows.batch(torch.arange(len(X)))
    raw = learned.raw_numbers(batch.x.numpy())[:10, 0]
    if missing == "mask":
        np.testing.assert_array_equal(batch.mask[:, 0].numpy(), X["income"].notna())
        np.testing.assert_allclose(batch.x[:10, 0], 0, atol=0.02)
    else:
        np.testing.assert_allclose(raw, getattr(X["income"], missing)(), rtol=1e-5)
    assert torch.isfinite(batch.x).all()


REFUSED = {
    "an array": RNG.normal(size=(9, 3)),
    "a sparse matrix": scipy.sparse.random(9, 3, 0.5, format="csr"),
    "texts": Documents(["red house", "red tree", "old house"]),
}


@pytest.mark.parametrize("found", REFUSED)
def test_other_rows_than_tables_are_refused(found):
    with pytest.raises(
        InputError, match=f"real columns of a table to normal scores; found {found}; use scaling='auto'"
    ):
        Preprocessor.from_data(REFUSED[found], scaling="quantile")
    assert not Preprocessor.from_data(REFUSED[found], scaling_of_tables="quantile").quantiles


def test_rows_of_weight_0_do_not_count():
    X = table()
    weights = np.ones(len(X))
    weights[X["income"] > X["income"].median()] = 0
    learned = Preprocessor.from_data(X, scaling="quantile", weights=weights)
    alone = Preprocessor.from_data(X[weights > 0].reset_index(drop=True), scaling="quantile")
    assert learned.table[0].high == X["income"][weights > 0].max() == learned.quantiles[0].values[-1]
    np.testing.assert_allclose(model_space(learned, X)[:, :2], model_space(alone, X)[:, :2], atol=1e-5)


@pytest.mark.parametrize(
    ("values", "decimals"),
    [
        ([1.0, 200.0], 0), ([0.1, 0.25, 3.0], 2), ([0.285, 1e6], 3), ([1 / 3, 1.0], None), ([1e-7], None),
        ([1e-6, 123456.000001], 6), ([150, 301], 0), (np.array([0.1, 2.7], np.float32), 1), ([np.nan, np.nan], None),
    ],
)  # fmt: skip
def test_the_decimals_of_a_real_column_are_those_of_its_values(values, decimals):
    column = Preprocessor.from_data(pd.DataFrame({"x": values, "y": 0.5}), missing="mean").table[0]
    assert column.decimals == decimals
    present = np.asarray(values, float)[np.isfinite(values)]
    assert (column.low, column.high) == ((present.min(), present.max()) if len(present) else (None, None))
