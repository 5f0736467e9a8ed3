"""Gaps and measures of the experiment on missing cells."""

import numpy as np
import pandas as pd
import pytest

from experiments.completion import METHODS, _accuracy, _error, _filled, gaps
from isthmus.data.tables import learn_columns


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2000, 4))
    return pd.DataFrame(values, columns=list("abcd")).assign(level=np.where(values[:, 1] > 0, "x", "y"))


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("form", ["random", "blocks", "depending"])
def test_about_the_stated_fraction_of_cells_is_hidden(table, form, rate):
    hidden = gaps(table, form, rate, 0)
    assert hidden.shape == table.shape
    assert hidden[:, 1:].mean() == pytest.approx(rate * (3 / 2.5 if form == "blocks" else 1), abs=0.08)


def test_blocks_are_neighbouring_columns(table):
    hidden = gaps(table, "blocks", 0.3, 0)
    assert set(hidden.sum(1)) == {0, 3}
    assert (np.abs(np.diff(np.hstack([hidden, hidden[:, :1]]).astype(int), axis=1)).sum(1) <= 2).all()


def test_depending_gaps_follow_the_first_column(table):
    hidden = gaps(table, "depending", 0.3, 0)
    assert not hidden[:, 0].any()
    high = table["a"] > table["a"].median()
    assert hidden[high, 1:].mean() > 2 * hidden[~high, 1:].mean()


def test_the_error_of_the_mean_is_about_one_and_that_of_the_truth_zero(table):
    hidden = gaps(table, "random", 0.3, 0)
    mean = pd.Series(table["a"].mean(), index=table.index)
    assert _error(table["a"], mean, hidden[:, 0]) == pytest.approx(1, abs=0.1)
    assert _error(table["a"], table["a"], hidden[:, 0]) == 0
    assert _accuracy(table["level"], table["level"], hidden[:, 4]) == 1


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("imputer", "trees")])
def test_other_imputers_fill_all_cells_in_units_of_the_table(table, method):
    given = table.iloc[:200].mask(gaps(table.iloc[:200], "random", 0.2, 0))
    filled = _filled(method, given, learn_columns(table), 0)
    assert set(filled["level"]) == {"x", "y"}
    observed = given["a"].notna()
    np.testing.assert_allclose(filled["a"][observed], given["a"][observed], atol=1e-9)
