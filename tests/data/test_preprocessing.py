"""Preprocessing: model space and back, and refusal of invalid rows."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from isthmus import Words
from isthmus.data import Documents
from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError

RNG = np.random.default_rng(0)


def model_space(preprocessor: Preprocessor, X) -> np.ndarray:
    rows = preprocessor.rows(X)
    return rows.batch(torch.arange(len(rows))).x.numpy()


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [31.5, 40.25, 22.0, 65.0],
            "city": ["Bern", "Oslo", "Bern", "Rome"],
            "smokes": ["yes", "no", "no", "no"],
            "member": [True, False, True, True],
            "children": [0, 2, 1, 3],
            "year": [1990, 2001, 2010, 1987],
        }
    )


ROUND_TRIPS = {
    "vectors": RNG.normal(3, 5, (40, 6)),
    "float32 vectors in [0, 1]": RNG.random((40, 6), dtype=np.float32),
    "grey bytes": RNG.integers(0, 256, (12, 5, 7), dtype=np.uint8),
    "colour bytes, channels last": RNG.integers(0, 256, (12, 5, 7, 3), dtype=np.uint8),
    "colour floats, channels first": RNG.normal(0, 3, (12, 3, 8, 5)).astype(np.float32),
    "a small spread on a large offset": 1.7e9 + RNG.normal(0, 1, (40, 2)),
    "whole numbers": RNG.integers(-50, 50, (40, 3)),
}


@pytest.mark.parametrize("scaling", ["auto", "standard", "minmax"])
@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_inverse_transform_restores_the_rows(name, scaling):
    X = ROUND_TRIPS[name]
    preprocessor = Preprocessor.from_data(X, scaling=scaling)
    back = preprocessor.inverse_transform(model_space(preprocessor, X))
    assert back.shape == X.shape
    spread = float(X.astype(float).std())
    np.testing.assert_allclose(back.astype(float), X.astype(float), atol=2e-6 * max(spread, 1))


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_a_preprocessor_survives_a_round_trip_through_its_file(name):
    X = ROUND_TRIPS[name]
    preprocessor = Preprocessor.from_data(X)
    tensors, config = preprocessor.to_file()
    again = Preprocessor.from_file(tensors, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(model_space(again, X), model_space(preprocessor, X))


def test_bytes_are_scaled_to_the_unit_interval_and_images_flattened_channels_first():
    X = np.zeros((2, 4, 4, 3), np.uint8)
    X[0, :, :, 2] = 255
    X[1, 0, 0, 0] = 51
    preprocessor = Preprocessor.from_data(X)
    x = model_space(preprocessor, X)
    assert preprocessor.image_shape == (3, 4, 4)
    np.testing.assert_array_equal(x[0], np.repeat([0, 0, 1], 16))
    assert x[1, 0] == pytest.approx(0.2, rel=1e-6)


def test_automatic_scaling_standardises_columns_outside_the_unit_interval():
    X = RNG.normal([5, -3], [2, 0.1], (500, 2))
    x = model_space(Preprocessor.from_data(X), X)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.std(0), 1, atol=1e-6)
    x = model_space(Preprocessor.from_data(X / 100 + 0.5), X / 100 + 0.5)  # values in [0, 1] are no exception
    np.testing.assert_allclose(x.std(0), 1, atol=1e-5)


def test_a_constant_column_is_kept_and_recorded():
    X = np.column_stack([RNG.normal(size=20), np.full(20, 7.0)])
    preprocessor = Preprocessor.from_data(X)
    assert preprocessor.constant == [1]
    assert (model_space(preprocessor, X)[:, 1] == 0).all()


def test_units_of_a_table_are_inferred_and_its_values_restored():
    X = table()
    preprocessor = Preprocessor.from_data(X)
    units = [column.unit for column in preprocessor.table]
    assert units == ["real", "categorical", "binary", "binary", "count", "real"]
    assert preprocessor.columns[1:4] == ["city=Bern", "city=Oslo", "city=Rome"]
    assert [len(group["columns"]) for group in preprocessor.groups] == [1, 3, 1, 1, 1, 1]
    back = preprocessor.inverse_transform(model_space(preprocessor, X))
    assert list(back.columns) == list(X.columns)
    for name in ("city", "smokes", "member"):
        assert back[name].tolist() == X[name].tolist()
    np.testing.assert_allclose(back[["age", "children", "year"]].to_numpy(float),
                               X[["age", "children", "year"]].to_numpy(float), rtol=1e-6)  # fmt: skip
    tensors, config = preprocessor.to_file()
    again = Preprocessor.from_file(tensors, json.loads(json.dumps(config)))
    pd.testing.assert_frame_equal(again.inverse_transform(model_space(again, X)), back)


def test_columns_are_matched_by_name():
    X = table()
    preprocessor = Preprocessor.from_data(X)
    np.testing.assert_array_equal(model_space(preprocessor, X[X.columns[::-1]]), model_space(preprocessor, X))


def test_declared_types_override_the_inferred_units():
    learned = Preprocessor.from_data(table(), dtypes={"year": "category", "children": "real"})
    assert {c.name: c.unit for c in learned.table}["year"] == "categorical"
    assert {c.name: c.unit for c in learned.table}["children"] == "real"


def test_names_of_declared_columns_may_be_numbers():
    numbered = pd.DataFrame({0: [1.5, 2.5, 2.5, 1.5], 1: [7, 0, 8, 7]})
    assert [c.unit for c in Preprocessor.from_data(numbered, dtypes={0: "category", 1: "real"}).table] == [
        "categorical",
        "real",
    ]
    with pytest.raises(InputError, match="no column '2'"):
        Preprocessor.from_data(numbered, dtypes={2: "category"})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"when": pd.to_datetime(["2020-01-01"] * 4)}, "column 'when' contains dates; declare it as dates (--dtype"),
        ({"when": ["2020-01-01", "2021-03-01", "2020-02-02", "2020-05-05"]}, "column 'when' contains dates"),
        ({"age": [1.0, np.nan, 3.0, 4.0]}, "NaN (a missing value) at row 1, column 'age'"),
        ({"age": [1.0, 2.0, np.inf, 4.0]}, "infinity at row 2, column 'age'"),
        ({"odd": [[1], [2], [3], [4]]}, "column 'odd' contains list values"),
        ({"z": [1 + 2j] * 4}, "Complex data not supported"),
    ],
)
def test_invalid_columns_are_refused_by_name(change, text):
    with pytest.raises(InputError) as refused:
        Preprocessor.from_data(table().assign(**change))
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_free_text_is_refused_by_name_with_an_example():
    X = pd.DataFrame({"a": range(100), "note": [f"remark number {i}" for i in range(100)]})
    with pytest.raises(InputError, match="column 'note' contains free text .100 different values in 100 rows"):
        Preprocessor.from_data(X)


def test_other_columns_other_levels_and_other_widths_are_refused():
    preprocessor = Preprocessor.from_data(table())
    with pytest.raises(InputError, match="missing 'age'; unknown 'ages'"):
        preprocessor.rows(table().rename(columns={"age": "ages"}))
    with pytest.raises(InputError, match="column 'city' contains 'Paris' at row 2, which is not one of the 3 values"):
        preprocessor.rows(table().assign(city=["Bern", "Oslo", "Paris", "Rome"]), unknown="refuse")
    with pytest.raises(InputError, match="column 'age' was numeric .* found 'old' at row 0"):
        preprocessor.rows(table().assign(age=["old", 1, 2, 3]))
    arrays = Preprocessor.from_data(ROUND_TRIPS["vectors"])
    with pytest.raises(
        InputError, match=r"each row has shape \(5,\), but the model was fitted on rows of shape \(6,\)"
    ):
        arrays.rows(np.zeros((3, 5)))
    with pytest.raises(InputError, match="the model was fitted on a table; found an array"):
        preprocessor.rows(np.zeros((3, 6)))


@pytest.mark.parametrize(("missing", "value"), [("mean", 5.0), ("median", 3.0)])
def test_missing_and_infinite_values_are_filled_on_request(missing, value):
    X = np.array([[1.0, 0], [3, 1], [11, 0], [np.nan, 1], [np.inf, 1]])
    preprocessor = Preprocessor.from_data(X, missing=missing, scaling="none")
    x = model_space(preprocessor, X)
    np.testing.assert_allclose(x[3:, 0], value)
    np.testing.assert_allclose(model_space(preprocessor, np.array([[np.nan, np.nan]]))[0, 0], value)


def test_missing_values_are_masked_in_the_batch():
    X = np.array([[1.0, 0], [3, np.nan], [11, 0]])
    batch = Preprocessor.from_data(X, missing="mask").rows(X).batch(torch.arange(3))
    assert batch.mask.tolist() == [[1, 1], [1, 0], [1, 1]]
    assert batch.x[1, 1] == 0


def test_a_missing_category_counts_as_one_missing_value():
    frame = pd.DataFrame({"x": np.arange(9.0), "city": list("abcabcabc")})
    frame.loc[5, "city"] = None
    with pytest.raises(InputError, match=r"at row 5, column 'city', 1 such value in all"):
        Preprocessor.from_data(frame)


def test_a_missing_category_is_filled_by_the_most_frequent_level():
    X = table().assign(city=["Bern", None, "Bern", "Rome"])
    preprocessor = Preprocessor.from_data(X, missing="mean")
    assert preprocessor.inverse_transform(model_space(preprocessor, X))["city"].tolist() == [
        "Bern",
        "Bern",
        "Bern",
        "Rome",
    ]


def test_sparse_rows_are_scaled_by_their_maximum_and_keep_their_zeros():
    dense = RNG.poisson(0.3, (60, 30)).astype(float) * 4
    X = scipy.sparse.csr_matrix(dense)
    preprocessor = Preprocessor.from_data(X)
    x = model_space(preprocessor, X)
    assert ((x == 0) == (dense == 0)).all()
    assert x.max() == 1
    np.testing.assert_allclose(preprocessor.inverse_transform(x), dense, rtol=1e-6)
    with pytest.raises(InputError, match="would make sparse rows dense"):
        Preprocessor.from_data(X, scaling="standard")


def test_sparse_rows_stay_sparse_for_a_model_of_an_array():
    dense = RNG.normal(size=(3, 200_000))
    parts = [scipy.sparse.csr_matrix(dense), scipy.sparse.csr_matrix((1_000_000, 200_000))]
    many = scipy.sparse.vstack(parts, format="csr")  # 1.5 TiB, if it were dense
    preprocessor = Preprocessor.from_data(dense)
    expected = preprocessor.rows(dense).batch(torch.arange(3)).x
    torch.testing.assert_close(preprocessor.rows(many).batch(torch.arange(3)).x, expected)


def test_texts_are_converted_to_the_tf_idf_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["red apple pie", "green apple", "apple pie recipe", "red wine", "wine recipe"] * 3
    preprocessor = Preprocessor.from_data(Documents(texts))
    reference = TfidfVectorizer(stop_words="english", min_df=2).fit_transform(texts).toarray()
    np.testing.assert_allclose(model_space(preprocessor, Documents(texts)), reference, atol=1e-6)
    counts = Preprocessor.from_data(Documents(texts), scaling="none")
    assert set(np.unique(model_space(counts, Documents(texts)))) == {0.0, 1.0}
    tensors, config = preprocessor.to_file()
    again = Preprocessor.from_file(tensors, json.loads(json.dumps(config)))
    np.testing.assert_array_equal(model_space(again, Documents(texts)), model_space(preprocessor, Documents(texts)))


def test_a_memory_map_is_read_in_batches(tmp_path):
    np.save(tmp_path / "x.npy", ROUND_TRIPS["vectors"])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    preprocessor = Preprocessor.from_data(mapped)
    np.testing.assert_array_equal(model_space(preprocessor, mapped), model_space(preprocessor, ROUND_TRIPS["vectors"]))
    assert preprocessor.rows(mapped).array is mapped


@pytest.mark.parametrize(("option", "text"), [
    ({"scaling": "standart"}, "scaling='standart' is not one of auto, none, standard, minmax"),
    ({"missing": "zero"}, "missing='zero' is not one of refuse, mean, median, mask"),
])  # fmt: skip
def test_unknown_options_are_refused_with_a_list_of_the_known_ones(option, text):
    with pytest.raises(InputError, match=text):
        Preprocessor.from_data(np.zeros((3, 2)), **option)


@pytest.mark.parametrize("missing", ["mean", "median"])
def test_a_column_without_a_value_of_a_weight_above_zero_is_filled_with_zeros(missing):
    X = np.array([[5.0, 1.0], [np.nan, 2.0], [np.nan, 4.0]])
    preprocessor = Preprocessor.from_data(X, missing=missing, weights=np.array([0.0, 3.0, 1.0]))
    np.testing.assert_allclose(preprocessor.fill, [0.0, 2.5 if missing == "mean" else 2.0])


def test_terms_of_texts_follow_the_options_of_the_vocabulary():
    texts = ["der rote Fuchs", "der rote Fuchs", "ein grauer Hase", "ein grauer Hase"]
    options = {"stop_words": ("der", "ein"), "n_grams": 2, "max_terms": 4}
    learned = Preprocessor.from_data(Documents(texts), scaling="none", vocabulary_options=options)
    assert len(learned.names) == 4
    wide = Preprocessor.from_data(Documents(texts), scaling="none", vocabulary_options=options | {"max_terms": 9})
    assert wide.names == ["fuchs", "grauer", "grauer hase", "hase", "rote", "rote fuchs"]
    tensors, config = wide.to_file()
    again = Preprocessor.from_file(tensors, config)
    new = Documents(["der rote der Fuchs"])
    counts = [learned.rows(new).batch(torch.tensor([0])).x.tolist() for learned in (wide, again)]
    assert counts[0] == counts[1] == [[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]]


@pytest.mark.parametrize("options", [{"max_terms": 0}, {"n_grams": 1.5}, {"stop_words": "german"}, {"min_texts": True}])
def test_invalid_options_of_a_vocabulary_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        Words(**options)
