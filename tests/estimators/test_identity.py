"""The index and the labels of rows come back, whatever they are; errors by row, column and cell."""

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus import Autoencoder, CodeClassifier, DenoisingAutoencoder, InputError, VariationalAutoencoder
from isthmus.data import Conditioned, Dataset, Paired

N = 40
RNG = np.random.default_rng(0)
TABLE = pd.DataFrame({
    "size": RNG.normal(size=N), "city": RNG.choice(["Bern", "Oslo", "Rome"], N), "n": RNG.poisson(2, N),
    "member": RNG.random(N) > 0.5,
})  # fmt: skip
SETTINGS = {"code_size": 2, "max_epochs": 2, "random_state": 0}


def any_index(seed):
    """An index of N labels drawn at random: of any type, in any order, with names or without, unique or not."""
    rng = np.random.default_rng(seed)
    kinds = {
        "shuffled": lambda: pd.Index(rng.permutation(N), name="id"),
        "text": lambda: pd.Index([f"{rng.integers(10**6):x}" for _ in range(N)]),
        "twice": lambda: pd.Index(rng.integers(0, N // 2, N)),
        "dates": lambda: pd.date_range("2024-01-01", periods=N, tz="UTC")[rng.permutation(N)],
        "real": lambda: pd.Index(rng.normal(size=N)),
        "range": lambda: pd.RangeIndex(rng.integers(-9, 9), 10**6, 7)[:N],
        "mixed": lambda: pd.Index([i if i % 2 else f"row {i}" for i in rng.permutation(N)], dtype=object),
        "levels": lambda: pd.MultiIndex.from_arrays([rng.integers(0, 3, N), rng.permutation(N)], names=["a", None]),
        "categories": lambda: pd.CategoricalIndex(rng.choice(list("abc"), N)),
        "intervals": lambda: pd.interval_range(0, N)[rng.permutation(N)],
    }
    return list(kinds.values())[seed % len(kinds)]()


every_index = pytest.mark.parametrize("seed", range(30))


@pytest.fixture(scope="module")
def masked():
    """A model of a mixed table with gaps."""
    frame = TABLE.copy()
    frame.iloc[::5, 0], frame.iloc[::7, 1] = np.nan, None
    return Autoencoder(missing="mask", **SETTINGS).fit(frame), frame


@every_index
def test_residuals_and_filled_gaps_are_right_for_any_index(seed, masked):
    model, frame = masked
    expected = model.reconstruct(frame)
    named = frame.set_axis(any_index(seed), axis=0)
    back = model.reconstruct(named)
    assert back.index.equals(named.index)
    assert back.index.names == named.index.names
    residuals = named[["size", "n"]] - back[["size", "n"]]
    np.testing.assert_allclose(residuals, frame[["size", "n"]] - expected[["size", "n"]], equal_nan=True)
    filled = named.fillna(back)
    assert len(filled) == N
    np.testing.assert_array_equal(filled["size"], frame["size"].where(frame["size"].notna(), expected["size"]))
    np.testing.assert_array_equal(filled["city"], frame["city"].where(frame["city"].notna(), expected["city"]))


@every_index
def test_codes_errors_and_decoded_codes_have_the_index(seed, masked):
    model, frame = masked
    named = frame.set_axis(any_index(seed), axis=0)
    codes = pd.DataFrame(model.transform(named), index=named.index)
    for made in (model.inverse_transform(codes), *(model.reconstruction_error(named, by=by) for by in ("row", "cell"))):
        assert made.index.equals(named.index)
    pd.testing.assert_frame_equal(
        model.inverse_transform(codes).reset_index(drop=True), model.inverse_transform(codes.to_numpy())
    )


def test_labels_of_columns_that_are_no_text_come_back():
    frame = pd.DataFrame(RNG.normal(size=(N, 3)), columns=pd.MultiIndex.from_tuples([("a", 0), ("a", 1), ("b", 0)]))
    for each in (frame, frame.set_axis([0, 1, 2], axis=1), frame.set_axis([2024, 2025, 2026.5], axis=1)):
        model = Autoencoder(**SETTINGS).fit(each)
        assert model.reconstruct(each).columns.equals(each.columns)
        assert (each - model.reconstruct(each)).shape == (N, 3)
        assert model.reconstruction_error(each, by="column").index.equals(each.columns)


def test_conditional_models_and_targets_return_the_index_of_the_inputs():
    frame = TABLE.set_axis(any_index(1), axis=0)
    given = VariationalAutoencoder(condition="city", **SETTINGS).fit(frame)
    back = given.reconstruct(frame)
    assert back.index.equals(frame.index)
    assert (back["city"] == frame["city"]).all()
    assert list(given.reconstruction_error(frame, by="cell")) == ["size", "n", "member"]
    target = pd.DataFrame({"sum": frame["size"] + frame["n"]}).set_axis(any_index(2), axis=0)
    decoded = Autoencoder(**SETTINGS).fit(frame, target=target)
    assert decoded.reconstruct(frame).index.equals(frame.index)
    cells = decoded.reconstruction_error(Paired(frame, target), by="cell")
    assert list(cells) == ["sum"]
    assert cells.index.equals(frame.index)
    of_array = Autoencoder(**SETTINGS).fit(frame, target=frame[["size", "n"]].to_numpy())
    pair = Paired(frame, frame[["size", "n"]].to_numpy())
    assert of_array.reconstruct(frame).shape == of_array.reconstruction_error(pair, by="cell").shape == (N, 2)
    assert of_array.reconstruction_error(pair).index.equals(frame.index)


def test_data_sets_and_other_rows_keep_their_form():
    frame = TABLE.set_axis(any_index(0), axis=0)
    model = Autoencoder(**SETTINGS).fit(Dataset(frame))
    assert model.reconstruct(Dataset(frame)).index.equals(frame.index)
    array = frame[["size", "n"]].to_numpy()
    assert isinstance(Autoencoder(**SETTINGS).fit(array).reconstruct(array), np.ndarray)
    rows = Conditioned(array, {"city": frame["city"]})
    assert isinstance(VariationalAutoencoder(condition="city", **SETTINGS).fit(rows).reconstruct(rows), np.ndarray)


def test_predictions_of_a_frame_have_its_index_and_those_of_an_array_are_an_array():
    frame = TABLE.set_axis(any_index(0), axis=0)
    model = CodeClassifier(encoder=Autoencoder(**SETTINGS), max_epochs=1, random_state=0)
    model.fit(frame[["size", "n"]], frame["city"])
    found = model.predict(frame[["size", "n"]])
    pd.testing.assert_index_equal(found.index, frame.index)
    numbers = CodeClassifier(encoder=Autoencoder(**SETTINGS), max_epochs=1, random_state=0)
    array = frame[["size", "n"]].to_numpy()
    assert type(numbers.fit(array, frame["city"]).predict(array)) is np.ndarray


def test_frames_of_polars_come_back_as_such():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": RNG.normal(size=N), "b": RNG.normal(size=N)})
    model = Autoencoder(**SETTINGS).fit(frame)
    assert isinstance(model.reconstruct(frame), polars.DataFrame)
    assert model.reconstruction_error(frame, by="cell").columns == ["a", "b"]


def test_a_categorical_column_has_one_error_and_missing_cells_none(masked):
    model, frame = masked
    cells = model.reconstruction_error(frame, by="cell")
    assert list(cells) == list(TABLE)
    assert (cells.isna() == frame.isna()).all(axis=None)
    x = model.preprocessing_.rows(frame).batch(torch.arange(N)).x.numpy()
    r = np.concatenate([output.reconstruction.numpy() for output in model.read(frame)])
    by_level = np.square(x - r)[:, 1:4].sum(1)
    np.testing.assert_allclose(cells["city"].dropna(), by_level[frame["city"].notna()], rtol=1e-5)
    np.testing.assert_allclose(cells.sum(axis=1), model.reconstruction_error(frame), rtol=1e-5)
    np.testing.assert_allclose(cells.mean(), model.reconstruction_error(frame, by="column"), rtol=1e-5)


def test_a_column_that_was_never_observed_has_no_mean(masked):
    model, frame = masked
    means = model.reconstruction_error(frame.assign(size=np.nan), by="column")
    assert means.isna().tolist() == [True, False, False, False]


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (3, 8, 8)], ids=["grey", "channels last", "channels first"])
def test_cells_of_images_have_their_shape(shape):
    images = RNG.integers(0, 255, (20, *shape)).astype(np.uint8)
    model = Autoencoder(**SETTINGS).fit(images)
    cells = model.reconstruction_error(images, by="cell")
    decoded = np.concatenate([output.reconstruction.numpy() for output in model.read(images)])
    if shape == (5, 4, 3):
        decoded = np.moveaxis(decoded.reshape(-1, 3, 5, 4), 1, -1)
    np.testing.assert_allclose(cells, np.square(images / 255 - decoded.reshape(-1, *shape)), atol=1e-5)
    np.testing.assert_allclose(model.reconstruction_error(images, by="column"), cells.mean(0), rtol=1e-5)


def test_an_unknown_way_of_summing_is_refused():
    model = Autoencoder(**SETTINGS).fit(TABLE)
    with pytest.raises(InputError, match="by='rows' is not one of row, column, cell"):
        model.reconstruction_error(TABLE, by="rows")


def test_clean_rows_as_y_are_the_target_in_every_method():
    clean = RNG.normal(size=(60, 1)) * [1.0, 2.0, 3.0]
    noisy = clean + RNG.normal(size=(60, 3)) / 3
    model = DenoisingAutoencoder(**SETTINGS).fit(noisy, clean)
    np.testing.assert_allclose(model.score(noisy, clean), -model.nll(Paired(noisy, clean)).mean(), rtol=1e-6)
    assert model.fit(pd.DataFrame(noisy), pd.DataFrame(clean)).reconstruct(pd.DataFrame(noisy)).shape == (60, 3)
    part = DenoisingAutoencoder(**SETTINGS).partial_fit(noisy, clean).partial_fit(noisy, clean)
    np.testing.assert_allclose(part.reconstruct(noisy).mean(0), clean.mean(0), atol=2)
    assert np.isfinite(part.score(noisy, clean))
    with pytest.raises(InputError, match="there is a target too; give target= alone"):
        model.fit(noisy, clean, target=clean)
    with pytest.raises(InputError, match="there is a target too"):
        model.fit(Paired(noisy, clean), clean)


@pytest.mark.parametrize("y", [np.arange(N), np.arange(N)[:, None], list(range(N)), pd.Series(range(N)), None])
def test_labels_are_ignored(y):
    rows = TABLE[["size", "n"]]
    plain, given = (DenoisingAutoencoder(**SETTINGS).fit(rows, each) for each in (None, y))
    np.testing.assert_array_equal(plain.transform(rows), given.transform(rows))


def test_gaps_of_nullable_columns_are_filled_by_the_reconstruction():
    n = pd.array([1, None, 250, -4] * 10, dtype="Int64")
    frame = pd.DataFrame({"n": n, "x": pd.array([1.5, 2.5, None, 3.0] * 10, dtype="Float64"), "y": RNG.normal(size=40)})
    model = Autoencoder(**{**SETTINGS, "missing": "mean"}).fit(frame)
    back = model.reconstruct(frame)
    assert back["n"].dtype == "Int64"
    filled = frame.fillna(back)
    assert not filled.isna().any(axis=None)
    pd.testing.assert_series_equal(filled["n"][frame["n"].notna()], frame["n"].dropna())
