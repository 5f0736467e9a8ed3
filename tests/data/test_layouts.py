"""Layouts of arrays: the rule of "auto", the scales that follow from it, and independence of the memory layout."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from isthmus.data import Documents
from isthmus.data.layouts import LAYOUTS, described, map_shape, note, resolved
from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError

RNG = np.random.default_rng(0)
DIGITS = load_digits()
IMAGES = DIGITS.images / 16


def model_space(learned: Preprocessor, X) -> np.ndarray:
    rows = learned.rows(X)
    return rows.batch(torch.arange(len(rows))).x.numpy()


def sensors(n=300, steps=20):
    """Three sensors of very different scale."""
    t, phase, speed = np.arange(steps), RNG.random((n, 1)) * 6, RNG.uniform(0.2, 0.6, (n, 1))
    waves = [np.sin(speed * t + phase), np.cos(speed * t + phase), np.sin(speed * t + phase + 1)]
    return np.stack([20 + 2 * waves[0], 101325 + 300 * waves[1], 0.5 + 0.2 * waves[2]], 2)


def waves(n=200, steps=64, channels=9):
    """Standardised windows of as many channels as an image has columns."""
    speed, phase = RNG.uniform(0.1, 0.5, (n, 1, channels)), 6 * RNG.random((n, 1, channels))
    return np.sin(speed * np.arange(steps)[None, :, None] + phase)


def small_columns(n=600, width=6):
    """Columns in [0, 1], of which all but the first have a small spread."""
    z = RNG.normal(size=n)
    return np.column_stack([RNG.random(n)] + [5e-4 * (1 + np.sin(3 * z)) * (1 + i / width) for i in range(width - 1)])


def correlated_columns(n=300, width=64):
    """Columns in [0, 1] that four factors determine, in no order."""
    x = RNG.normal(size=(n, 4)) @ RNG.normal(size=(4, width))
    return (x - x.min(0)) / np.ptp(x, 0)


FOUND = {
    "sensors of different scale": (sensors(), "ntc"),
    "sensors in [0, 1]": ((sensors() - sensors().min((0, 1))) / np.ptp(sensors(), (0, 1)) / 2, "ntc"),
    "a single channel": (RNG.normal(size=(40, 50, 1)), "ntc"),
    "whole numbers of three counters": (RNG.integers(0, 50, (40, 24, 3)).astype(float), "ntc"),
    "standardised windows of nine channels": (waves(), "ntc"),
    "windows of nine channels in [0, 1]": ((waves() + 1) / 2, "ntc"),
    "digits in [0, 1]": (IMAGES, "nhw"),
    "digits in whole numbers": (DIGITS.images, "nhw"),
    "digits, standardised as a whole": ((IMAGES - IMAGES.mean()) / IMAGES.std(), "nhw"),
    "digits, standardised by pixel": ((IMAGES - IMAGES.mean(0)) / (IMAGES.std(0) + 0.01), "nhw"),
    "digits, float32": (IMAGES.astype(np.float32), "nhw"),
    "bytes of any shape": (RNG.integers(0, 256, (9, 40, 3), dtype=np.uint8), "nhw"),
    "noise of one scale": (RNG.normal(size=(40, 12, 12)), "nhw"),
    "tiny images in [0, 1]": (RNG.random((60, 3, 4)), "nhw"),
    "digits with missing pixels": (np.where(RNG.random(IMAGES.shape) < 0.1, np.nan, IMAGES), "nhw"),
    "flattened digits": (DIGITS.data / 16, "flat"),
    "flattened digits, outside of [0, 1]": (DIGITS.data, "table"),
    "flattened colour digits": (np.stack([IMAGES] * 3, -1).reshape(-1, 192), "flat"),
    "flattened colour digits, channels first": (np.stack([IMAGES] * 3, 1).reshape(-1, 192), "flat"),
    "flattened digits on noise": (
        np.maximum(np.kron(IMAGES, np.ones((1, 3, 3))), RNG.random((1797, 24, 24))).reshape(-1, 576),
        "flat",
    ),
    "correlated columns in [0, 1]": (correlated_columns(), "table"),
    "columns in [0, 1]": (small_columns(), "table"),
    "64 columns in [0, 1]": (small_columns(width=64), "table"),
    "100 columns of noise in [0, 1]": (RNG.random((200, 100)), "table"),
}


@pytest.mark.parametrize("name", FOUND)
def test_an_array_is_taken_for(name):
    X, layout = FOUND[name]
    assert resolved(X) == layout


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((60, 13, 32, 32), "nchw"), ((60, 32, 32, 13), "nhwc"), ((9, 3, 4, 4), "nchw"), ((9, 4, 4, 3), "nhwc"),
        ((9, 5, 4, 4), "nchw"), ((9, 4, 4, 5), "nhwc"), ((9, 1, 3, 3), "nchw"), ((9, 2, 2, 1), "nhwc"),
        ((9, 3, 32, 24), "nchw"), ((9, 32, 24, 3), "nhwc"), ((9, 13, 32, 24), "nchw"), ((9, 32, 24, 13), "nhwc"),
        ((9, 4, 4, 4), "nhwc"), ((9, 64, 8, 8), "nchw"),
    ],
)  # fmt: skip
def test_channels_are_found_by_the_shape(shape, layout):
    assert resolved(np.zeros(shape)) == resolved(np.zeros(shape, np.uint8)) == layout


@pytest.mark.parametrize("shape", [(60, 13, 32, 32), (9, 3, 4, 4), (9, 4, 4, 4)])
def test_a_note_names_the_other_reading_of_an_ambiguous_shape(shape):
    layout = resolved(np.zeros(shape))
    other = {"nchw": "nhwc", "nhwc": "nchw"}[layout]
    assert f"layout={other!r} (--layout {other})" in note(layout, shape[1:], "float64")


@pytest.mark.parametrize("shape", [(9, 3, 32, 32), (9, 28, 28, 1), (9, 32, 24, 3)])
def test_a_shape_that_decides_has_no_note(shape):
    assert note(resolved(np.zeros(shape)), shape[1:], "float64") is None
    assert note("nhw", (28, 28), "uint8") is None
    assert note("table", (7,), "float64") is None


def test_a_layout_is_described_in_words():
    assert described("ntc", (20, 3), 600) == "600 series of 20 steps and 3 channels"
    assert described("nhw", (28, 28)) == "images 28 x 28 of 1 channel"
    assert described("nchw", (13, 32, 32)) == "images 32 x 32 of 13 channels"
    assert described("table", (784,), 2000) == "2,000 rows of 784 columns"
    assert described("table", (20, 3)) == "rows of 60 columns (20 x 3)"


REFUSED = {
    "another name": (np.zeros((5, 3)), "chw", "'chw' is not one of auto, table, nhw, nhwc, nchw, ntc"),
    "series of a matrix": (np.zeros((5, 3)), "ntc", r"arrays \(n, steps, channels\); X has the shape \(5, 3\)"),
    "images of four axes": (np.zeros((5, 3, 4, 4)), "nhw", r"\(n, height, width\); X has the shape \(5, 3, 4, 4\)"),
    "five axes": (np.zeros((5, 2, 2, 2, 2)), "auto", "layout='table' takes each value"),
    "texts": (Documents(["a b", "c"]), "ntc", "is for arrays; found texts"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_contradicts_the_rows_is_refused(name):
    X, layout, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        Preprocessor.from_data(X, layout=layout)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_rows_of_every_layout_come_back_and_survive_a_file(layout):
    X = RNG.normal(3, 5, (12, 5, 7, 3) if len(layout) == 4 else (12, 5, 7))
    learned = Preprocessor.from_data(X, layout=layout)
    x = model_space(learned, X)
    np.testing.assert_allclose(learned.inverse_transform(x), X, atol=1e-5)
    np.testing.assert_array_equal(learned.as_rows(learned.as_columns(X)), X)
    tensors, config = learned.to_file()
    again = Preprocessor.from_file(tensors, json.loads(json.dumps(config)))
    assert (again.layout, again.map_shape, again.image_shape) == (layout, learned.map_shape, learned.image_shape)
    np.testing.assert_array_equal(model_space(again, X), x)


def test_series_are_ordered_by_channel_and_scaled_by_channel():
    X = sensors()
    learned = Preprocessor.from_data(X)
    x = model_space(learned, X).reshape(len(X), 3, 20)
    np.testing.assert_allclose(x, ((X - X.mean((0, 1))) / X.std((0, 1))).swapaxes(1, 2), atol=1e-5)
    assert learned.columns[20] == "channel 1, step 0"
    minmax = model_space(Preprocessor.from_data(X, scaling="minmax"), X).reshape(len(X), 3, 20)
    np.testing.assert_allclose(minmax.min((0, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(minmax.max((0, 2)), 1, atol=1e-6)


def test_images_of_many_channels_are_scaled_by_channel_and_others_as_a_whole():
    X = RNG.normal(np.arange(13)[:, None, None] * 100, 1 + np.arange(13)[:, None, None], (60, 13, 9, 9))
    x = model_space(Preprocessor.from_data(X), X).reshape(X.shape)
    np.testing.assert_allclose(x.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(x.std((0, 2, 3)), 1, atol=1e-4)
    few = X[:, :3]
    x = model_space(Preprocessor.from_data(few), few).reshape(few.shape)
    np.testing.assert_allclose(x, (few - few.mean()) / few.std(), atol=1e-4)


@pytest.mark.parametrize("width", [6, 64, 100])
def test_columns_in_the_unit_interval_are_standardised(width):
    X = small_columns(width=width)
    x = model_space(Preprocessor.from_data(X), X)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(0), 1, atol=1e-5)


UNCHANGED = {
    "images": (IMAGES, {}),
    "flattened images": (DIGITS.data / 16, {}),
    "zeros and ones": ((DIGITS.data[:, :13] > 7).astype(float), {}),
    "zeros and ones with missing entries": (np.array([[0, 1], [np.nan, 0], [1, 1]]), {"missing": "mask"}),
    "fractions, by the likelihood": (small_columns(), {"fractions": "keep"}),
    "fractions, by the argument": (small_columns(), {"scaling": "none"}),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_values_in_the_unit_interval_are_unchanged(name):
    X, options = UNCHANGED[name]
    learned = Preprocessor.from_data(X, **options)
    assert (learned.scale == 1).all()
    assert (learned.offset == 0).all()


@pytest.mark.parametrize("X", [DIGITS.data / 16, np.asarray(IMAGES)])
def test_a_table_by_argument_is_scaled_by_column(X):
    learned = Preprocessor.from_data(X, layout="table")
    assert (learned.layout, learned.image_shape, learned.row_shape) == ("table", None, X.shape[1:])
    varying = X.reshape(len(X), -1).std(0) > 0
    np.testing.assert_allclose(model_space(learned, X).std(0)[varying], 1, atol=1e-4)


def reversed_in_memory(X):
    return np.ascontiguousarray(X[::-1, ..., ::-1])[::-1, ..., ::-1]


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


FORMS = {
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "little-endian": lambda X: X.astype(X.dtype.newbyteorder("<")),
    "Fortran order": np.asfortranarray,
    "negative strides": reversed_in_memory,
    "read-only": read_only,
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
}
ROWS = {
    "table": RNG.normal([5, -3, 1e6], [2, 0.1, 1], (90, 3)),
    "table, float32": RNG.normal([5, -3], [2, 0.1], (90, 2)).astype(np.float32),
    "series": sensors(60),
    "images": IMAGES[:60],
    "colour images": RNG.normal(2, 3, (20, 9, 9, 3)),
    "whole numbers": RNG.integers(-50, 900, (70, 4), dtype=np.int32),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("missing", ["refuse", "median"])
def test_byte_order_and_memory_layout_change_nothing(rows, form, missing):
    X = ROWS[rows]
    same = FORMS[form](X)
    np.testing.assert_array_equal(same, X)
    plain, other = (Preprocessor.from_data(each, missing=missing) for each in (X, same))
    assert (other.layout, other.dtype) == (plain.layout, plain.dtype)
    np.testing.assert_array_equal(model_space(other, same), model_space(plain, X))
    back = other.inverse_transform(model_space(other, same))
    np.testing.assert_array_equal(back, plain.inverse_transform(model_space(plain, X)))
    assert back.dtype.isnative


def test_the_shape_that_networks_read_has_the_channels_first():
    assert map_shape("nhwc", (28, 24, 3)) == map_shape("nchw", (3, 28, 24)) == (3, 28, 24)
    assert map_shape("ntc", (20, 5)) == (5, 1, 20)
    assert map_shape("flat", (64,)) is map_shape("table", (4, 4)) is None
