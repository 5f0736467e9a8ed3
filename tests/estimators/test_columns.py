"""Declared types of columns, identifiers, dates and unseen levels, as users of the estimators see them."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import isthmus
from isthmus import (
    Autoencoder,
    CodeClassifier,
    DenoisingAutoencoder,
    InputError,
    InputWarning,
    SparseAutoencoder,
    VariationalAutoencoder,
)
from isthmus.data import Documents, Paired
from isthmus.estimators import model_files

N = 60
RNG = np.random.default_rng(0)
SETTINGS = {"code_size": 2, "max_epochs": 2, "random_state": 0}
X = RNG.normal(size=N)
TABLE = pd.DataFrame({
    "key": [f"C{i:03d}" for i in range(N)], "x": X, "y": X + RNG.normal(size=N) / 9, "zip": RNG.integers(1, 4, N),
    "day": pd.date_range("2024-01-05", periods=N), "note": [f"remark number {i}" for i in range(N)],
})  # fmt: skip
DTYPES = {"key": "id", "zip": "category", "day": "date", "note": "ignore"}


@pytest.fixture(scope="module")
def model():
    return Autoencoder(dtypes=DTYPES, **SETTINGS).fit(TABLE)


def test_columns_are_read_as_declared_and_left_out_in_later_rows(model, tmp_path):
    assert model.feature_names_in_.tolist() == ["x", "y", "zip", "day"]
    assert [column.unit for column in model.preprocessing_.table] == ["real", "real", "categorical", "date"]
    back = model.reconstruct(TABLE)
    assert list(back) == ["x", "y", "zip", "day"]
    assert back["day"].dtype == TABLE["day"].dtype
    assert (back["day"] == back["day"].dt.normalize()).all()
    assert model.reconstruction_error(TABLE, by="column").index.tolist() == ["x", "y", "zip", "day"]
    codes = model.transform(TABLE)
    for rows in (
        TABLE.drop(columns="key"),
        TABLE.drop(columns=["key", "note"]),
        TABLE[["x", "y", "zip", "day", "key"]],
    ):
        np.testing.assert_array_equal(model.transform(rows), codes)
    as_text = TABLE.assign(day=TABLE["day"].dt.strftime("%Y-%m-%d"), zip=TABLE["zip"].astype(str))
    np.testing.assert_array_equal(model.transform(as_text), codes)
    model.save(tmp_path / "model.isthmus")
    again = isthmus.load(tmp_path / "model.isthmus")
    assert again.dtypes == DTYPES
    np.testing.assert_array_equal(again.transform(TABLE), codes)
    pd.testing.assert_frame_equal(again.reconstruct(TABLE), back)
    assert clone(again).get_params() == again.get_params()


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        ({"zipp": "category"}, "no column 'zipp'; did you mean 'zip'?"),
        ({"zip": "categorical"}, "column 'zip': dtype 'categorical' is not one of real, count, binary, category, date"),
        (["zip"], "dtypes=['zip']: give {column: type}"),
        ({**DTYPES, "note": "text"}, "column 'note' is declared as text, and the table has 4 other columns"),
        ({**DTYPES, "key": "date"}, "column 'key' is declared as dates; found 'C000' at row 0"),
        ({**DTYPES, "day": "real"}, "not a number as dtype 'real' says; correct it, or declare another type (--dtype"),
        (dict.fromkeys(TABLE, "ignore"), "no columns remain"),
        ({"note": "ignore", "day": "date"}, "--dtype key=id for identifiers"),
        ({"note": "ignore", "key": "id"}, "column 'day' contains dates; declare it as dates (--dtype day=date)"),
    ],
)  # fmt: skip
def test_wrong_declarations_are_refused_by_name(dtypes, message):
    with pytest.raises(InputError) as refused:
        Autoencoder(dtypes=dtypes, **SETTINGS).fit(TABLE)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rows_without_columns_have_no_declared_types():
    with pytest.raises(InputError, match="the rows are not a table"):
        Autoencoder(dtypes={"x": "real"}, **SETTINGS).fit(np.eye(5))
    with pytest.raises(InputError, match="unknown='skip'"):
        Autoencoder(unknown="skip", **SETTINGS).fit(TABLE)


def test_arguments_of_earlier_versions_name_their_successor():
    with pytest.raises(InputError, match=r"has no argument 'categories'; give dtypes=\{COLUMN: 'category'\}"):
        Autoencoder(categories=["zip"])
    with pytest.raises(InputError, match="is not the name of a likelihood; declare types of columns by dtypes"):
        Autoencoder(likelihood={"zip": "categorical"}, **SETTINGS).fit(TABLE[["x", "zip"]])


@pytest.mark.parametrize(
    ("old", "likelihood", "dtypes"),
    [
        ({"categories": None, "likelihood": "gaussian"}, "gaussian", None),
        ({"categories": "zip", "likelihood": "auto"}, "auto", {"zip": "category"}),
        ({"categories": ["zip"], "likelihood": {"x": "real", "name": "count"}}, "auto",
         {"x": "real", "name": "count", "zip": "category"}),
        ({"categories": [], "likelihood": {"name": "mixture-density", "n_components": 3}},
         {"name": "mixture-density", "n_components": 3}, None),
    ],
)  # fmt: skip
def test_files_of_earlier_versions_have_the_types_that_they_declared(old, likelihood, dtypes):
    _, header = copy.deepcopy(Autoencoder(**SETTINGS).fit(TABLE[["x", "y"]])._pack())
    header["parameters"] = {
        name: value for name, value in header["parameters"].items() if name not in ("dtypes", "unknown")
    }
    header["parameters"] |= old
    model = model_files.constructed(Autoencoder, header)
    assert (model.likelihood, model.dtypes, model.unknown) == (likelihood, dtypes, "missing")


def test_columns_of_any_name_may_be_declared(tmp_path):
    for names in (["penalty"], ["value", "arguments"], ["registered", "arguments"]):
        rows = pd.DataFrame({name: RNG.normal(size=20) for name in [*names, "x"]})
        Autoencoder(dtypes=dict.fromkeys(names, "real"), **SETTINGS).fit(rows).save(tmp_path / "model.isthmus")
        assert isthmus.load(tmp_path / "model.isthmus").dtypes == dict.fromkeys(names, "real")


def test_a_column_of_texts_alone_is_read_as_texts(tmp_path):
    texts = ["red apple pie", "green apple", "apple pie recipe", "red wine", "wine recipe"] * 6
    table = pd.DataFrame({"key": range(30), "text": texts})
    model = Autoencoder(dtypes={"key": "id", "text": "text"}, **SETTINGS).fit(table)
    plain = Autoencoder(**SETTINGS).fit(Documents(texts))
    for rows in (table, table[["text"]], Documents(texts)):
        np.testing.assert_array_equal(model.transform(rows), plain.transform(Documents(texts)))
    with pytest.raises(InputError, match="column 'text' has no text at row 1"):
        model.transform(table.replace({"text": "green apple"}, None))


RARE = pd.DataFrame({"x": X, "city": ["Bern", "Oslo"] * (N // 2 - 1) + ["Bern", "Rome"]})


@pytest.mark.parametrize("kind", [Autoencoder, DenoisingAutoencoder, VariationalAutoencoder])
@pytest.mark.parametrize("missing", ["refuse", "mask"])
def test_a_rare_level_leaves_scores_of_a_search_finite(kind, missing):
    search = GridSearchCV(kind(missing=missing, **SETTINGS), {"code_size": [1, 2]}, cv=3)
    with pytest.warns(InputWarning, match="column 'city' has 1 value that it did not have in training, such as 'Rome'"):
        search.fit(RARE)
    scores = [search.cv_results_[f"split{i}_test_score"] for i in range(3)]
    assert np.isfinite(scores).all()


def test_unseen_levels_are_treated_as_the_argument_says():
    model = Autoencoder(**SETTINGS).fit(RARE[:-1])
    with pytest.warns(InputWarning, match="read as 'Bern', the most frequent one"):
        codes = model.transform(RARE)
    np.testing.assert_array_equal(codes[-1], model.transform(RARE.assign(city="Bern"))[-1])
    with pytest.raises(InputError, match="column 'city' contains 'Rome' at row 59"):
        model.set_params(unknown="refuse").transform(RARE)


def test_declared_levels_need_no_rows():
    cities = RARE["city"].astype("category")
    model = Autoencoder(unknown="refuse", **SETTINGS).fit(RARE.assign(city=cities)[:-1])
    assert np.isfinite(model.transform(RARE)).all()


def test_a_target_and_its_inputs_are_declared_together():
    target = TABLE[["key", "day", "zip"]]
    dtypes = {"key": "id", "day": "date", "zip": "category", "g": "category"}
    inputs = pd.DataFrame({"g": TABLE["zip"], "x": X})
    model = Autoencoder(dtypes=dtypes, **SETTINGS).fit(inputs, target=target)
    assert list(model.reconstruct(inputs)) == ["day", "zip"]
    assert np.isfinite(model.reconstruction_error(Paired(inputs, target))).all()


def test_a_condition_may_be_declared():
    rows = TABLE[["x", "y", "zip"]]
    model = VariationalAutoencoder(condition=["zip"], dtypes={"zip": "real"}, **SETTINGS).fit(rows)
    assert model.preprocessing_.n_conditions == 1
    with pytest.raises(InputError, match="condition 'zip': dtype 'date' is not one of a condition; choose real, count"):
        VariationalAutoencoder(condition=["zip"], dtypes={"zip": "date"}, **SETTINGS).fit(rows)


def test_a_classifier_reads_columns_as_its_encoder_does(model):
    y = TABLE["x"].to_numpy() > 0
    for encoder in (model, Autoencoder(dtypes=DTYPES, **SETTINGS)):
        fitted = CodeClassifier(encoder=encoder, max_epochs=2, random_state=0).fit(TABLE, y)
        assert fitted.predict(TABLE).shape == (N,)


def test_samples_have_dates_within_those_of_training():
    model = VariationalAutoencoder(dtypes=DTYPES, **SETTINGS).fit(TABLE)
    samples = model.sample(50, random_state=0)
    assert samples["day"].between(TABLE["day"].min(), TABLE["day"].max()).all()


def test_names_and_values_that_do_not_fit_are_in_one_message(model):
    rows = TABLE.drop(columns="zip").assign(x="a", y=TABLE["day"], w=1)
    with pytest.raises(InputError) as refused:
        model.transform(rows)
    for part in ("missing 'zip'", "unknown 'w'", "column 'x' was numeric", "column 'y' was numeric"):
        assert part in str(refused.value)


def test_the_columns_of_a_date_are_hidden_together():
    model = DenoisingAutoencoder(corruption="groups", dtypes=DTYPES, **SETTINGS).fit(TABLE)
    sizes = [len(members) for members in model.preprocessing_.members]
    assert sizes == [1, 1, 3, 20]
    assert [len(group) for group in model._shape().groups] == sizes


@pytest.mark.parametrize("arguments", [{}, {"condition": ["zip"]}])
def test_rows_are_compared_without_the_columns_that_are_left_out(arguments):
    model = VariationalAutoencoder(dtypes=DTYPES, **arguments, **SETTINGS).fit(TABLE)
    names = ["x", "y", "zip", "day"]
    assert list(model.preprocessing_.compared_columns(TABLE)) == names
    assert list(model.preprocessing_.compared(TABLE)) == [name for name in names if not arguments or name != "zip"]
    assert list(model.sample(2, random_state=0)) == names


def test_numbers_in_an_object_column_are_numbers():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=40), "n": rng.integers(0, 9, 40)}).astype(object)
    frame.loc[3, "a"] = None
    model = Autoencoder(missing="mean", max_epochs=1, code_size=1, random_state=0).fit(frame)
    assert [column.unit for column in model.preprocessing_.table] == ["real", "count"]
    assert model.reconstruct(frame)["a"].dtype == np.float64


def test_dates_with_dots_are_named_as_dates():
    frame = pd.DataFrame({"day": [f"{d}.01.2024" for d in range(10, 31)], "x": np.arange(21.0)})
    with pytest.raises(InputError, match=r"column 'day' contains dates.*--dtype day=date"):
        Autoencoder(max_epochs=1).fit(frame)


def test_a_seed_of_too_many_bits_or_below_0_is_refused():
    with pytest.raises(InputError, match="a seed is a whole number of at most 63 bits"):
        Autoencoder(random_state=10**20, max_epochs=1).fit(np.eye(8))
    with pytest.raises(InputError, match="random_state=-1: a seed is a whole number of at most 63 bits, 0 or more"):
        Autoencoder(random_state=-1, max_epochs=1).fit(np.eye(8))


def counted(n=400, factor=1):
    random = np.random.default_rng(0)
    z = random.normal(size=n)
    return pd.DataFrame(
        {
            "age": z + 0.3 * random.normal(size=n),
            "visits": factor * random.poisson(np.exp(1 + 0.4 * z)),
            "city": np.where(z > -0.5, "Oslo", "Rome"),
        }
    )


@pytest.mark.parametrize("kind", [Autoencoder, SparseAutoencoder])
def test_masked_counts_and_levels_are_encoded_as_usual_ones_and_not_as_zeros(kind):
    table = counted()
    table["visits"] = table["visits"].astype("Int64")
    table.loc[::5, "visits"], table.loc[2::7, "city"] = pd.NA, None
    model = kind(missing="mask", max_epochs=30, random_state=0).fit(table)
    found, hidden = model.reconstruct(table), table["visits"].isna()
    assert abs(found["visits"][hidden].mean() - table["visits"].mean()) < 1
    assert (found["city"][table["city"].isna()] == "Oslo").mean() > 0.3


def test_counts_that_are_larger_than_those_of_the_first_call_raise_their_bound():
    model = Autoencoder(code_size=2, max_epochs=5, random_state=0).fit(counted())
    before = model.likelihood_["groups"][1]["largest"][0]
    for _ in range(40):
        model.partial_fit(counted(factor=10))
    assert model.likelihood_["groups"][1]["largest"][0] == pytest.approx(10 * before)
    larger = counted(factor=10)["visits"].max()
    assert model.reconstruct(counted(factor=10))["visits"].max() > 0.4 * larger
    again = Autoencoder(code_size=2, max_epochs=5, random_state=0, warm_start=True).fit(counted())
    again.fit(counted(factor=10))
    assert again.likelihood_["groups"][1]["largest"][0] == pytest.approx(10 * before)


def test_means_of_counts_in_arrays_are_bounded_too():
    X = np.random.default_rng(0).poisson(3.0, size=(200, 5)).astype(float)
    model = Autoencoder(likelihood="poisson", code_size=2, max_epochs=3, random_state=0).fit(X)
    codes = 1000.0 * np.random.default_rng(1).normal(size=(50, 2))
    assert (model.inverse_transform(codes) <= 2 * X.max(0) * (1 + 1e-5)).all()
