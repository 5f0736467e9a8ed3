"""`isthmus traverse` and `interpolate`: pictures, folders and tables of decoded paths."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import isthmus
from isthmus.data.image_grids import grid_size

from .commands import SMALL

READERS = {"csv": pd.read_csv, "parquet": pd.read_parquet}


@pytest.fixture(scope="module")
def pixels(inputs):
    return np.stack([picture(inputs / "images" / f"{i:02d}.png") for i in range(12)])


def picture(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


def cell(image, line, column):
    """One 6x5 image of a picture, which is enlarged 8 times and has a margin of 2 pixels."""
    top, left = 2 + line * 50, 2 + column * 42
    return image[top : top + 48 : 8, left : left + 40 : 8]


def test_a_traversal_is_one_picture_with_a_line_per_unit(inputs, pixels, tmp_path, succeed):
    model = isthmus.load(inputs / "images.isthmus")
    result = succeed("traverse", inputs / "images.isthmus", inputs / "images", "-o", tmp_path / "t.png", "--steps", "5")
    order = model.transform(pixels).var(0).argsort()[::-1]
    assert f"2 units: {order[0]}, {order[1]}" in result.stderr
    assert "2 paths of 5 images written to" in result.stderr
    written = picture(tmp_path / "t.png")
    assert written.shape == grid_size(10, 5, (6, 5))
    for line, unit in enumerate(order):
        expected = model.traverse(pixels, int(unit), 5)[:5]  # the first row, over the range of all rows
        for step in range(5):
            np.testing.assert_allclose(cell(written, line, step), expected[step], atol=1)


def test_units_and_rows_are_named_together_or_one_by_one(inputs, tmp_path, succeed):
    model, images = inputs / "images.isthmus", inputs / "images"
    succeed("traverse", model, images, "-o", tmp_path / "a", "--unit", "1,0", "--rows", "3,0", "--steps", "2")
    succeed("traverse", model, images, "-o", tmp_path / "b", *("--unit", 1, "--unit", 0, "--rows", "3,0", "--steps", 2))
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    lines = ["0-row-3-unit-1", "1-row-3-unit-0", "2-row-0-unit-1", "3-row-0-unit-0"]
    assert names == [f"{line}-step-{step}.png" for line in lines for step in range(2)]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_interpolation_starts_and_ends_at_the_reconstructions(inputs, pixels, tmp_path, succeed):
    reconstructed = isthmus.load(inputs / "images.isthmus").reconstruct(pixels)
    arguments = ("interpolate", inputs / "images.isthmus", inputs / "images", "--from", "2,5", "--to", "7,1")
    for output in ("i.png", "i", "i.npy"):
        succeed(*arguments, "-o", tmp_path / output, "--steps", "4")
    array = np.load(tmp_path / "i.npy")
    assert (array.shape, array.dtype) == ((2, 4, 6, 5), np.uint8)
    for (line, step), row in {(0, 0): 2, (0, 3): 7, (1, 0): 5, (1, 3): 1}.items():
        np.testing.assert_allclose(array[line, step].astype(int), reconstructed[row], atol=1)
        np.testing.assert_array_equal(cell(picture(tmp_path / "i.png"), line, step), array[line, step])
    names = [f"0-from-2-to-7-step-{step}.png" for step in range(4)]
    names += [f"1-from-5-to-1-step-{step}.png" for step in range(4)]
    assert sorted(path.name for path in (tmp_path / "i").iterdir()) == names
    np.testing.assert_array_equal(np.stack([picture(tmp_path / "i" / name) for name in names[:4]]), array[0])


@pytest.mark.parametrize("suffix", READERS)
def test_a_path_of_a_mixed_table_is_a_table_in_its_units(suffix, inputs, tmp_path, succeed, table):
    model = isthmus.load(inputs / "table.isthmus")
    rows = table.drop(columns="species")
    arguments = (inputs / "table.isthmus", inputs / "table.csv", "-o")
    succeed("interpolate", *arguments, tmp_path / f"i.{suffix}", "--from", "3", "--to", "8", "--steps", "6")
    written = READERS[suffix](tmp_path / f"i.{suffix}")
    assert list(written.columns) == ["from", "to", "step", "length", "width", "height", "city"]
    assert written["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert (set(written["from"]), set(written["to"])) == ({3}, {8})
    expected = model.interpolate(rows[3:4], rows[8:9], 6)
    pd.testing.assert_frame_equal(written[expected.columns], expected, check_dtype=False, rtol=1e-4)
    succeed("traverse", *arguments, tmp_path / f"t.{suffix}", "--rows", "4,9", "--unit", "1", "--steps", "3")
    written = READERS[suffix](tmp_path / f"t.{suffix}")
    assert list(written.columns) == ["row", "unit", "step", "value", "length", "width", "height", "city"]
    assert written["row"].tolist() == [4, 4, 4, 9, 9, 9]
    codes = model.transform(rows)
    codes = codes[[4, 4, 4, 9, 9, 9]]
    codes[:, 1] = written["value"]
    decoded = model.inverse_transform(codes)
    pd.testing.assert_frame_equal(written[decoded.columns], decoded, check_dtype=False, rtol=1e-4)


def test_the_range_can_be_given_and_is_then_that_of_one_row_too(inputs, tmp_path, succeed, refused):
    np.save(tmp_path / "one.npy", np.load(inputs / "array.npy")[:1])
    arguments = ("traverse", inputs / "array.isthmus", tmp_path / "one.npy", "-o", tmp_path / "t.npy")
    refused(arguments, "no unit of the code varies over 1 row; give more rows, or --unit, --low and --high")
    refused((*arguments, "--unit", "0"), "1 row gives no range of unit 0; give low and high")
    succeed(*arguments, "--unit", "0", "--low", "-2", "--high", "2", "--steps", "5")
    written = np.load(tmp_path / "t.npy")
    assert written.shape == (5, 4 + 5)
    np.testing.assert_array_equal(written[:, :4], [[0, 0, step, step - 2] for step in range(5)])


def test_spherical_interpolation_is_that_of_python(inputs, tmp_path, succeed):
    rows, model = np.load(inputs / "array.npy"), isthmus.load(inputs / "array.isthmus")
    arguments = ("interpolate", inputs / "array.isthmus", inputs / "array.npy", "--from", "0", "--to", "5", "-o")
    succeed(*arguments, tmp_path / "s.npy", "--spherical")
    succeed(*arguments, tmp_path / "l.npy")
    spherical, linear = (np.load(tmp_path / f"{name}.npy")[:, 3:] for name in "sl")
    np.testing.assert_allclose(spherical, model.interpolate(rows[:1], rows[5:6], method="spherical"), rtol=1e-4)
    assert np.abs(spherical - linear).max() > 1e-3


def test_columns_that_the_data_has_keep_their_names(tmp_path, succeed):
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.normal(size=(40, 3)), columns=["step", "to", "a"]).to_csv(tmp_path / "rows.csv", index=False)
    succeed("fit", tmp_path / "rows.csv", "-o", tmp_path / "m.isthmus", *SMALL)
    succeed("interpolate", tmp_path / "m.isthmus", tmp_path / "rows.csv", "-o", tmp_path / "i.csv")
    assert list(pd.read_csv(tmp_path / "i.csv").columns) == ["from", "to_", "step_", "step", "to", "a"]


def test_quiet_prints_nothing_and_force_overwrites(inputs, tmp_path, succeed, refused):
    target = tmp_path / "t.png"
    target.write_bytes(b"precious")
    arguments = ("traverse", inputs / "images.isthmus", inputs / "images", "-o", target)
    refused(arguments, "exists", "--force")
    result = succeed(*arguments, "--force", "--quiet")
    assert (result.stdout, result.stderr) == ("", "")
    assert target.read_bytes()[1:4] == b"PNG"


REFUSED = {
    "unit": (("traverse", "images", "t.png", "--unit", "0,2"), "--unit 0,2: 2 is not one of the 2 units of the code"),
    "units": (("traverse", "images", "t.png", "--unit", "all"), "--unit all: write numbers from 0"),
    "row": (
        ("traverse", "images", "t.png", "--rows", "12"),
        "--rows 12: 12 is not one of the 12 rows of images; give numbers from 0 to 11",
    ),
    "from": (("interpolate", "table", "t.csv", "--from", "60"), "--from 60: 60 is not one of the 60 rows of table"),
    "to": (("interpolate", "images", "t.png", "--to", "-1"), "--to -1: write numbers from 0, separated by commas"),
    "pairs": (
        ("interpolate", "images", "t.png", "--from", "0,1", "--to", "2"),
        "--from 0,1 names 2 rows, and --to 2 1; name one each, or equally many",
    ),
    "steps": (("interpolate", "images", "t.png", "--steps", "1"), "--steps"),
    "many steps": (("interpolate", "images", "t.png", "--steps", "9999"), "--steps"),
    "range": (("traverse", "images", "t.png", "--low", "2", "--high", "1"), "low=2 is not below high=1"),
    "ending": (
        ("traverse", "images", "t.gif"),
        "unknown suffix .gif; rows are written as .npy, .csv, .parquet",
    ),
    "images in a table": (("traverse", "images", "t.csv"), "images cannot be written to this file; name a .png file"),
    "a table in a picture": (("traverse", "table", "t.png"), "only images are written as pictures"),
    "an array in a folder": (("interpolate", "array", "t"), "only images are written as pictures"),
    "text in an array": (("interpolate", "table", "t.npy"), "column 'city' is not numeric"),
    "too large": (
        ("traverse", "images", "t.png", "--steps", "1000", "--rows", ",".join(["0"] * 100)),
        "a picture of 200,000 images would have 10,002 x 42,002 pixels; take fewer rows or steps, or write single",
    ),
}
DATA = {"images": "images", "table": "table.csv", "array": "array.npy"}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_commands_are_refused_in_one_line(arguments, message, inputs, tmp_path, refused):
    command, name, output, *more = arguments
    refused((command, inputs / f"{name}.isthmus", inputs / DATA[name], "-o", tmp_path / output, *more), message)
