"""Rows in another unit or form than those of the fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV, train_test_split

from isthmus import Autoencoder, InputError
from isthmus.data import Documents, tables
from isthmus.data import open as open_data

SMALL = {"code_size": 2, "max_epochs": 2, "random_state": 0}
RNG = np.random.default_rng(0)
TEXTS = [f"the {colour} {thing}" for colour in ("red", "blue", "green") for thing in ("sky", "rose", "sea", "cat")] * 3


@pytest.mark.parametrize("change", [lambda x: x / 255, lambda x: (x / 255).astype(np.float32)], ids=["64", "32"])
def test_fractions_are_refused_by_a_model_of_bytes(change):
    images = RNG.integers(0, 256, (40, 6, 6), dtype=np.uint8)
    model = Autoencoder(**SMALL).fit(images)
    with pytest.raises(InputError, match="fitted on bytes, 0 to 255"):
        model.reconstruction_error(change(images))
    model.transform(images.astype(np.float64))
    model.transform(np.zeros((3, 6, 6)))


@pytest.mark.parametrize(
    "values",
    [
        pd.date_range("2020-01-01", periods=3),
        pd.date_range("2020-01-01", periods=3, tz="UTC"),
        pd.to_timedelta([1, 2, 3], unit="D"),
        pd.period_range("2020-01", periods=3, freq="M"),
        np.array([1j, 2, 3]),
    ],
    ids=["dates", "zones", "durations", "periods", "complex"],
)
def test_a_column_of_numbers_refuses_other_types_by_name(values):
    table = pd.DataFrame({"a": RNG.normal(size=30), "b": RNG.normal(size=30)})
    model = Autoencoder(**SMALL).fit(table)
    with pytest.raises(InputError, match="column 'a' was numeric when the model was fitted"):
        model.transform(pd.DataFrame({"a": values, "b": [1.0, 2.0, 3.0]}))


@pytest.mark.parametrize("form", [list, tuple, Documents, pd.Series, np.array, lambda x: np.array(x, object)])
def test_sequences_of_strings_are_texts(form):
    model = Autoencoder(**SMALL).fit(form(TEXTS))
    np.testing.assert_array_equal(model.transform(form(TEXTS[:5])), model.transform(Documents(TEXTS[:5])))


def test_texts_are_split_and_searched():
    train, test = train_test_split(Documents(TEXTS), random_state=0)
    assert Autoencoder(**SMALL).fit(train).transform(test).shape == (len(test), 2)
    search = GridSearchCV(Autoencoder(**SMALL), {"code_size": [1, 2]}, cv=2).fit(TEXTS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_declared_counts_are_counts_in_python(tmp_path):
    (tmp_path / "rows.csv").write_text("c,x\n" + "".join(f"{i % 9 + 1},{i / 3:.2f}\n" for i in range(40)))
    read = open_data(tmp_path / "rows.csv", dtypes={"c": "real"})
    assert [column.unit for column in tables.learn_columns(read.X)] == ["real", "real"]
    zero = pd.DataFrame({"c": [0, 5, None, 7] * 10})
    assert open_data(zero, dtypes={"c": "count"}).X["c"].dtype == "Int64"
