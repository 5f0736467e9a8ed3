"""Round trips: rows that are written, read, transformed to model space and back are the rows of before."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isthmus import data
from isthmus.data.preprocessing import Preprocessor

LETTERS = st.text(st.characters(categories=("L",), exclude_characters=""), min_size=1, max_size=6)
NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8).filter(
    lambda name: any(c.isalpha() for c in name) and name not in ("NA", "NaN", "nan", "null", "NULL")
)
LEVELS = st.lists(
    LETTERS.map(lambda text: f'level {text}, "{text}"'), min_size=2, max_size=5, unique=True
)  # text that reads as a number, a date or a missing marker has its own rules
FLOATS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3))


@st.composite
def columns(draw, n):
    """A column of n values: real, whole numbers, two numbers, levels, with and without missing values."""
    kind = draw(st.sampled_from(["real", "whole", "binary", "bool", "levels", "two levels"]))
    if kind == "bool":
        values = draw(st.lists(st.booleans(), min_size=n, max_size=n))
        return pd.Series([True, False, *values][:n])
    if kind == "binary":
        return pd.Series([0, 1, *draw(st.lists(st.sampled_from([0, 1]), min_size=n, max_size=n))][:n])
    if kind == "whole":
        return pd.Series([-1, *draw(st.lists(st.integers(-(2**40), 2**40), min_size=n, max_size=n))][:n], dtype="int64")
    gaps = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    gaps[0] = gaps[1] = False
    if kind == "real":
        values = pd.Series([0.5, *draw(st.lists(FLOATS, min_size=n, max_size=n))][:n])
        return values.mask(pd.Series(gaps))
    levels = draw(LEVELS)[: 2 if kind == "two levels" else None]
    values = [*levels[:2], *draw(st.lists(st.sampled_from(levels), min_size=n, max_size=n))][:n]
    return pd.Series(values, dtype="str").mask(pd.Series(gaps))


@st.composite
def frames(draw):
    n = draw(st.integers(3, 12))
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=lambda name: name.strip()))
    names = [name.strip() for name in names]
    return pd.DataFrame({name: draw(columns(n)) for name in names})


def write_csv(frame, path):
    data.write_array(path, frame)


def write_parquet(frame, path):
    frame.to_parquet(path)


def write_json_lines(frame, path):
    frame.to_json(path, orient="records", lines=True, force_ascii=False, double_precision=15)


WRITERS = {"csv": write_csv, "parquet": write_parquet, "jsonl": write_json_lines}


@pytest.mark.parametrize("suffix", WRITERS)
@given(frame=frames())
@settings(max_examples=60, deadline=None)
def test_a_table_comes_back_from_its_file_and_from_model_space(tmp_path_factory, suffix, frame):
    path = tmp_path_factory.mktemp("tables") / f"rows.{suffix}"
    WRITERS[suffix](frame, path)
    read = data.open(path, header=True) if suffix == "csv" else data.open(path)
    pd.testing.assert_frame_equal(read.X, frame, check_dtype=suffix != "jsonl")

    learned = Preprocessor.from_data(read.X, missing="mask")
    assert learned.names == list(frame.columns)
    x = learned.rows(read.X).batch(torch.arange(len(frame))).x.numpy()
    back = learned.inverse_transform(x)
    assert list(back.columns) == list(frame.columns)
    for column in learned.table:
        present = read.X[column.name].notna()
        if column.levels or column.unit == "binary":
            assert back[column.name][present].tolist() == read.X[column.name][present].tolist()
            assert set(back[column.name]) <= set(read.X[column.name][present])
        else:
            spread = np.ptp(read.X[column.name][present].to_numpy(np.float64)) + 1
            np.testing.assert_allclose(back[column.name][present], read.X[column.name][present], atol=1e-5 * spread)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "i4", "<f4", ">f4", ">i8", "f8"]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
    ),
    fortran=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_an_array_comes_back_from_its_file(tmp_path_factory, suffix, array, fortran):
    path = tmp_path_factory.mktemp("arrays") / f"rows.{suffix}"
    array = np.asfortranarray(array) if fortran else array
    np.save(path, array) if suffix == "npy" else np.savez_compressed(path, X=array)
    read = data.open(path).X
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype.newbyteorder("=")


@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "i1", ">i2", ">i4", ">f4", ">f8"]), hnp.array_shapes(min_dims=2, max_dims=4)
    ),
    zipped=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_an_array_comes_back_from_an_idx_file(tmp_path_factory, array, zipped):
    codes = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}
    code = next(code for name, code in codes.items() if np.dtype(name) == array.dtype)
    content = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path = tmp_path_factory.mktemp("idx") / f"rows.idx{'.gz' if zipped else ''}"
    path.write_bytes(gzip.compress(content) if zipped else content)
    np.testing.assert_array_equal(data.open(path).X, array)
