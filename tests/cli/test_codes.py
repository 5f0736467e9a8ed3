"""`isthmus encode`, `decode` and `reconstruct`: rows in, rows out, in their order and their units."""

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image

import isthmus

from .commands import SMALL

READERS = {"npy": np.load, "csv": pd.read_csv, "parquet": pd.read_parquet}


@pytest.mark.parametrize("suffix", READERS)
def test_codes_are_written_in_the_order_of_the_rows_with_the_names_of_the_units(suffix, shop, tmp_path, fine, table):
    model = isthmus.load(shop / "table.isthmus")
    fine("encode", shop / "table.isthmus", shop / "table.csv", "-o", tmp_path / f"codes.{suffix}")
    written = READERS[suffix](tmp_path / f"codes.{suffix}")
    expected = model.transform(table.drop(columns="species"))
    np.testing.assert_allclose(np.asarray(written), expected, rtol=1e-6)
    if suffix != "npy":
        assert list(written.columns) == list(model.get_feature_names_out())


@pytest.mark.parametrize("suffix", READERS)
def test_decoding_the_codes_gives_the_reconstruction(suffix, shop, tmp_path, fine):
    codes, model = tmp_path / f"codes.{suffix}", shop / "table.isthmus"
    fine("encode", model, shop / "table.csv", "-o", codes)
    fine("decode", model, codes, "-o", tmp_path / "decoded.csv")
    fine("reconstruct", model, shop / "table.csv", "-o", tmp_path / "reconstructed.csv")
    decoded, reconstructed = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("decoded", "reconstructed"))
    assert list(decoded.columns) == ["length", "width", "height", "city"]
    assert set(decoded["city"]) <= {"Berlin", "Lima", "Oslo"}
    assert_frame_equal(decoded, reconstructed, rtol=1e-4)


def test_columns_may_come_in_another_order(shop, tmp_path, fine, table):
    table[["city", "height", "species", "width", "length"]].to_csv(tmp_path / "turned.csv", index=False)
    for name, data in (("a", shop / "table.csv"), ("b", tmp_path / "turned.csv")):
        fine("encode", shop / "table.isthmus", data, "-o", tmp_path / f"{name}.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_excluded_columns_need_not_be_there_and_are_left_out_again(shop, tmp_path, fine, table):
    table.drop(columns="species").to_csv(tmp_path / "bare.csv", index=False)
    for name, data in (("a", shop / "table.csv"), ("b", tmp_path / "bare.csv")):
        fine("encode", shop / "table.isthmus", data, "-o", tmp_path / f"{name}.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_units_of_a_code_may_come_in_another_order_where_they_are_named(shop, tmp_path, fine):
    model = shop / "array.isthmus"
    fine("encode", model, shop / "array.npy", "-o", tmp_path / "codes.csv")
    codes = pd.read_csv(tmp_path / "codes.csv")
    codes[codes.columns[::-1]].to_csv(tmp_path / "turned.csv", index=False)
    for name in ("codes", "turned"):
        fine("decode", model, tmp_path / f"{name}.csv", "-o", tmp_path / f"{name}.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), np.load(tmp_path / "turned.npy"))


def test_one_row_can_be_encoded(shop, tmp_path, fine):
    np.save(tmp_path / "one.npy", np.load(shop / "array.npy")[7:8])
    for name, data in (("all", shop / "array.npy"), ("one", tmp_path / "one.npy")):
        fine("encode", shop / "array.isthmus", data, "-o", tmp_path / f"{name}-codes.npy")
    alone, among = np.load(tmp_path / "one-codes.npy"), np.load(tmp_path / "all-codes.npy")[7:8]
    np.testing.assert_allclose(alone, among, rtol=1e-6)


def test_a_table_of_numbers_serves_a_model_of_an_array(shop, tmp_path, fine):
    pd.DataFrame(np.load(shop / "array.npy"), columns=list("abcde")).to_csv(tmp_path / "array.csv", index=False)
    for name, data in (("a", shop / "array.npy"), ("b", tmp_path / "array.csv")):
        fine("encode", shop / "array.isthmus", data, "-o", tmp_path / f"{name}.npy")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"), rtol=1e-5)


def test_images_go_back_to_a_folder_under_their_own_names(shop, tmp_path, fine):
    for output in ("faces", "slashed/"):
        fine("reconstruct", shop / "images.isthmus", shop / "images", "-o", f"{tmp_path}/{output}")
        files = sorted(path.name for path in (tmp_path / output).iterdir())
        assert files == [f"{i:02d}.png" for i in range(12)]
    model = isthmus.load(shop / "images.isthmus")
    pixels = np.stack([np.asarray(Image.open(shop / "images" / f"{i:02d}.png")) for i in range(12)])
    written = np.stack([np.asarray(Image.open(tmp_path / "faces" / f"{i:02d}.png")) for i in range(12)])
    np.testing.assert_array_equal(written, model.reconstruct(pixels))


def test_decoded_images_go_to_a_folder_or_to_one_array(shop, tmp_path, fine):
    model = shop / "images.isthmus"
    fine("encode", model, shop / "images", "-o", tmp_path / "codes.npy")
    fine("decode", model, tmp_path / "codes.npy", "-o", tmp_path / "faces")
    fine("decode", model, tmp_path / "codes.npy", "-o", tmp_path / "faces.npy")
    array = np.load(tmp_path / "faces.npy")
    assert (array.shape, array.dtype) == ((12, 6, 5), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "faces" / "03.png")), array[3])


def test_pictures_of_numbers_between_0_and_1_are_written_in_full_range(shop, tmp_path, fine):
    pixels = np.random.default_rng(0).uniform(size=(20, 4, 4))
    pixels[0, 0], pixels[0, 1] = 0, 1
    np.save(tmp_path / "pixels.npy", pixels)
    fine("fit", tmp_path / "pixels.npy", "-o", tmp_path / "m.isthmus", *SMALL)
    fine("reconstruct", tmp_path / "m.isthmus", tmp_path / "pixels.npy", "-o", tmp_path / "pictures")
    made = isthmus.load(tmp_path / "m.isthmus").reconstruct(pixels)
    written = np.asarray(Image.open(tmp_path / "pictures" / "00.png"))
    np.testing.assert_allclose(written / 255, np.clip(made[0], 0, 1), atol=0.5 / 255 + 1e-6)


def test_texts_are_encoded(tmp_path, fine):
    texts = ["tin fell on monday", "wheat held on monday", "tin and wheat fell", "cocoa rose on monday"] * 5
    (tmp_path / "news.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    fine("fit", tmp_path / "news.jsonl", "-o", tmp_path / "m.isthmus", *SMALL)
    fine("encode", tmp_path / "m.isthmus", tmp_path / "news.jsonl", "-o", tmp_path / "codes.npy")
    assert np.load(tmp_path / "codes.npy").shape == (20, 2)
    fine("reconstruct", tmp_path / "m.isthmus", tmp_path / "news.jsonl", "-o", tmp_path / "words.csv")
    assert {"tin", "wheat", "cocoa"} <= set(pd.read_csv(tmp_path / "words.csv").columns)


@pytest.mark.parametrize(
    ("command", "model", "data", "output"),
    [
        ("encode", "array.isthmus", "array.npy", "codes.npy"),
        ("decode", "array.isthmus", "codes.npy", "rows.csv"),
        ("reconstruct", "images.isthmus", "images", "pictures"),
    ],
)
def test_what_exists_is_replaced_only_with_force(command, model, data, output, shop, tmp_path, fine, refused):
    np.save(tmp_path / "codes.npy", np.zeros((3, 2)))
    folder = shop if (shop / data).exists() else tmp_path
    target = tmp_path / output
    if output == "pictures":
        target.mkdir()
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(target / "old.png")
    else:
        target.write_bytes(b"precious")
        np.save(tmp_path / "codes.npy", np.zeros((3, 2))) if data == "codes.npy" else None
    arguments = (command, shop / model, folder / data, "-o", target)
    refused(arguments, "exists", "--force")
    fine(*arguments, "--force")
    assert (target / "old.png").exists() is False
    assert target.is_dir() or target.read_bytes() != b"precious"


@pytest.mark.parametrize(
    ("model", "data", "output", "told"),
    [
        ("array", "array.npy", "rows", "a folder is for images, and this model's rows are none"),
        ("array", "array.npy", "rows.xlsx", "the suffix .xlsx is no format of rows; use .npy, .csv, .parquet"),
        ("images", "images", "rows.csv", "images are no table; name a folder, for PNG files, or a .npy file"),
        ("array", "array.npy", "no/such/rows.csv", "no such folder; make it first"),
    ],
)
def test_an_output_that_cannot_hold_the_rows_is_refused(model, data, output, told, shop, tmp_path, refused):
    refused(("reconstruct", shop / f"{model}.isthmus", shop / data, "-o", tmp_path / output), told)


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (np.zeros((3, 4)), "rows of 4 columns; this model's codes have 2 columns"),
        (np.full((3, 2), np.nan), "codes must be finite"),
        (np.zeros((3, 2, 2)), "images of 2x2; this model's codes have 2 columns"),
    ],
)
def test_codes_that_are_none_are_refused(codes, told, shop, tmp_path, refused):
    np.save(tmp_path / "codes.npy", codes)
    refused(("decode", shop / "array.isthmus", tmp_path / "codes.npy", "-o", tmp_path / "rows.npy"), told)


def test_codes_of_text_and_codes_that_are_not_there_are_refused(shop, tmp_path, refused):
    (tmp_path / "codes.csv").write_text("a,b\n1,x\n")
    arguments = ("decode", shop / "array.isthmus")
    refused((*arguments, tmp_path / "codes.csv", "-o", tmp_path / "r.npy"), "column 'b' holds no numbers")
    refused((*arguments, tmp_path / "none.csv", "-o", tmp_path / "r.npy"), "none.csv: no such file; codes are in")


@pytest.fixture
def densities(shop, tmp_path, fine):
    """A machine of images and a linear density of an array."""
    fine("fit", shop / "images", "--kind", "rbm", "-o", tmp_path / "rbm.isthmus", *SMALL[:4], "--code-size", "2")
    fine("fit", shop / "array.npy", "--kind", "linear", "-o", tmp_path / "linear.isthmus", "--code-size", "2")
    return tmp_path


def test_rows_are_drawn_in_the_units_of_the_data_and_the_seed_tells_which(densities, fine):
    for name, seed in (("a", 0), ("again", 0), ("b", 1)):
        fine("sample", densities / "rbm.isthmus", "-o", f"{densities}/{name}", "-n", "3", "--seed", seed, "--mean")
    drawn = {name: [np.asarray(Image.open(path)) for path in sorted((densities / name).iterdir())]
             for name in ("a", "again", "b")}  # fmt: skip
    assert [image.shape for image in drawn["a"]] == [(6, 5)] * 3
    np.testing.assert_array_equal(drawn["a"], drawn["again"])
    assert np.any(np.asarray(drawn["a"]) != drawn["b"])
    fine("sample", densities / "linear.isthmus", "-o", densities / "rows.csv", "-n", "200", "--seed", "0")
    rows = pd.read_csv(densities / "rows.csv").to_numpy()
    assert rows.shape == (200, 5)
    expected = isthmus.load(densities / "linear.isthmus").sample(200, random_state=0)
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_longer_chains_give_other_rows(densities, fine):
    for steps in (1, 50):
        fine("sample", densities / "rbm.isthmus", "-o", densities / f"{steps}.npy", "--steps", steps, "--seed", "0")
    short, long = (np.load(densities / f"{steps}.npy") for steps in (1, 50))
    assert short.shape == long.shape == (16, 6, 5)
    assert np.any(short != long)


def test_what_cannot_be_drawn_is_refused(shop, densities, refused):
    refused(("sample", shop / "array.isthmus", "-o", densities / "x.npy"), "kind deep", "--kind rbm")
    refused(("sample", densities / "linear.isthmus", "-o", densities / "x.npy", "--steps", "3"), "--steps", "linear")
    refused(("sample", densities / "rbm.isthmus", "-o", densities / "x.csv"), "images are no table")
    refused(("sample", densities / "rbm.isthmus", "-o", densities / "rbm.isthmus"), "the file exists")


def test_texts_in_place_of_codes_are_refused(shop, tmp_path, refused):
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "red wine"}\n{"text": "apple pie"}\n')
    refused(("decode", shop / "array.isthmus", texts, "-o", tmp_path / "rows.npy"), "holds texts; codes are in a .npy")
