from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet
from scipy import sparse

import isthmus.data as data


@pytest.mark.parametrize("suffix", ["npy", "csv", "parquet", "CSV"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_written_rows_are_read_back_exactly(tmp_path, rng, suffix, dtype):
    X = (rng.normal(size=(50, 3)) * 1000).astype(dtype)
    path = data.write_array(tmp_path / f"codes.{suffix}", X, ["h0", "h1", "h2"])
    read = data.open(path).X
    np.testing.assert_array_equal(np.asarray(read).astype(dtype), X)
    if suffix != "npy":
        assert list(read.columns) == ["h0", "h1", "h2"]
    assert [file.name for file in tmp_path.iterdir()] == [f"codes.{suffix}"]


def test_images_are_written_to_npy_in_their_shape(tmp_path, rng):
    X = rng.integers(0, 256, (2, 3, 4), dtype=np.uint8)
    np.testing.assert_array_equal(data.open(data.write_array(tmp_path / "x.npy", X)).X, X)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_keeps_its_names_its_text_and_its_missing_values(tmp_path, suffix):
    frame = pd.DataFrame({"a,b": [1.5, np.nan], "city": ['Ulm "an der Donau"', None], "n": [1, 2]}, index=[7, 9])
    X = data.open(data.write_array(tmp_path / f"rows.{suffix}", frame)).X
    pd.testing.assert_frame_equal(X, frame.reset_index(drop=True))


def test_columns_without_names_are_named_x0_x1(tmp_path):
    path = data.write_array(tmp_path / "rows.parquet", np.zeros((2, 2)))
    assert parquet.read_schema(path).names == ["x0", "x1"]


def test_a_table_of_numbers_may_be_written_to_npy(tmp_path, refused):
    frame = pd.DataFrame({"a": [1.0, 2.0], "n": [1, 2]})
    np.testing.assert_array_equal(np.load(data.write_array(tmp_path / "rows.npy", frame)), [[1, 1], [2, 2]])
    with refused("column 'city' is not numeric", "write .csv or .parquet"):
        data.write_array(tmp_path / "more.npy", frame.assign(city="Ulm"))


def test_an_existing_file_is_overwritten_only_by_force(tmp_path, refused):
    path = data.write_array(tmp_path / "x.npy", np.zeros((2, 2)))
    with refused(f"{path}: the file exists; choose another name, or overwrite it with force=True (--force)"):
        data.write_array(path, np.ones((2, 2)))
    assert np.load(path).sum() == 0
    data.write_array(path, np.ones((2, 2)), force=True)
    assert np.load(path).sum() == 4


@pytest.mark.parametrize(
    ("name", "array", "names", "words"),
    [
        (
            "codes.txt",
            np.zeros((2, 2)),
            None,
            "unknown suffix .txt; rows are written as .npy, .csv, .parquet; images also to a folder",
        ),
        ("codes", np.zeros((2, 2)), None, "no suffix; rows are written as"),
        ("no/codes.npy", np.zeros((2, 2)), None, "does not exist; create it"),
        ("codes.csv", np.zeros((2, 2)), ["a"], "1 name for 2 columns"),
        ("codes.csv", pd.DataFrame({"a": [1]}), ["a", "b"], "2 names for 1 column"),
        ("codes.csv", np.zeros((2, 2, 2)), None, "an array of shape (2, 2, 2) is not a matrix; write .npy"),
        ("codes.npy", np.array([[{}]], object), None, "this array contains Python objects"),
        ("codes.csv", sparse.eye(3, format="csr"), None, "sparse rows cannot be written"),
        ("folder.npy", np.zeros((2, 2)), None, "is a folder; name a file in it"),
    ],
)
def test_invalid_output_is_refused_and_nothing_is_written(tmp_path, refused, name, array, names, words):
    (tmp_path / "folder.npy").mkdir()
    with refused(f"{tmp_path / name}: ", words):
        data.write_array(tmp_path / name, array, names)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.npy"]


@pytest.mark.parametrize("suffix", ["npy", "csv", "parquet"])
def test_a_full_disk_leaves_no_file(tmp_path, refused, monkeypatch, suffix):
    def full(file, ready):
        file.write(b"partial")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(data.writers._WRITERS, f".{suffix}", full)
    with refused(f"x.{suffix}: could not be written (No space left on device); no file was left"):
        data.write_array(tmp_path / f"x.{suffix}", np.zeros((2, 2)))
    assert list(tmp_path.iterdir()) == []
