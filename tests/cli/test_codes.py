"""`isthmus encode`, `decode`, `reconstruct` and `sample`: order, units and formats of the rows."""

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from PIL import Image

import isthmus

from .commands import SMALL

READERS = {"npy": np.load, "csv": pd.read_csv, "parquet": pd.read_parquet}


@pytest.mark.parametrize("suffix", READERS)
def test_codes_keep_the_row_order_and_name_the_units(suffix, inputs, tmp_path, succeed, table):
    model = isthmus.load(inputs / "table.isthmus")
    succeed("encode", inputs / "table.isthmus", inputs / "table.csv", "-o", tmp_path / f"codes.{suffix}")
    written = READERS[suffix](tmp_path / f"codes.{suffix}")
    expected = model.transform(table.drop(columns="species"))
    if suffix != "npy":
        assert list(written.columns) == ["row", *model.get_feature_names_out()]
        assert written.pop("row").tolist() == list(range(len(expected)))
    np.testing.assert_allclose(np.asarray(written), expected, rtol=1e-6)


@pytest.mark.parametrize("suffix", READERS)
def test_decoding_the_codes_gives_the_reconstruction(suffix, inputs, tmp_path, succeed):
    codes, model = tmp_path / f"codes.{suffix}", inputs / "table.isthmus"
    succeed("encode", model, inputs / "table.csv", "-o", codes)
    succeed("decode", model, codes, "-o", tmp_path / "decoded.csv")
    succeed("reconstruct", model, inputs / "table.csv", "-o", tmp_path / "reconstructed.csv")
    decoded, reconstructed = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("decoded", "reconstructed"))
    if suffix != "npy":
        assert decoded.pop("row").tolist() == list(range(len(reconstructed)))
    assert list(decoded.columns) == ["length", "width", "height", "city"]
    assert set(decoded["city"]) <= {"Berlin", "Lima", "Oslo"}
    assert_frame_equal(decoded, reconstructed, rtol=1e-4)


def test_columns_may_come_in_another_order(inputs, tmp_path, succeed, table):
    table[["city", "height", "species", "width", "length"]].to_csv(tmp_path / "turned.csv", index=False)
    for name, data in (("a", inputs / "table.csv"), ("b", tmp_path / "turned.csv")):
        succeed("encode", inputs / "table.isthmus", data, "-o", tmp_path / f"{name}.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_excluded_columns_are_optional_in_later_commands(inputs, tmp_path, succeed, table):
    table.drop(columns="species").to_csv(tmp_path / "bare.csv", index=False)
    for name, data in (("a", inputs / "table.csv"), ("b", tmp_path / "bare.csv")):
        succeed("encode", inputs / "table.isthmus", data, "-o", tmp_path / f"{name}.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_named_code_columns_may_come_in_another_order(inputs, tmp_path, succeed):
    model = inputs / "array.isthmus"
    succeed("encode", model, inputs / "array.npy", "-o", tmp_path / "codes.csv")
    codes = pd.read_csv(tmp_path / "codes.csv")
    codes[codes.columns[::-1]].to_csv(tmp_path / "turned.csv", index=False)
    for name in ("codes", "turned"):
        succeed("decode", model, tmp_path / f"{name}.csv", "-o", tmp_path / f"{name}.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), np.load(tmp_path / "turned.npy"))


def test_one_row_can_be_encoded(inputs, tmp_path, succeed):
    np.save(tmp_path / "one.npy", np.load(inputs / "array.npy")[7:8])
    for name, data in (("all", inputs / "array.npy"), ("one", tmp_path / "one.npy")):
        succeed("encode", inputs / "array.isthmus", data, "-o", tmp_path / f"{name}-codes.npy")
    alone, among = np.load(tmp_path / "one-codes.npy"), np.load(tmp_path / "all-codes.npy")[7:8]
    np.testing.assert_allclose(alone, among, rtol=1e-6)


def test_a_model_of_an_array_accepts_a_numeric_table(inputs, tmp_path, succeed):
    pd.DataFrame(np.load(inputs / "array.npy"), columns=list("abcde")).to_csv(tmp_path / "array.csv", index=False)
    for name, data in (("a", inputs / "array.npy"), ("b", tmp_path / "array.csv")):
        succeed("encode", inputs / "array.isthmus", data, "-o", tmp_path / f"{name}.npy")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"), rtol=1e-5)


def test_reconstructed_images_keep_their_file_names(inputs, tmp_path, succeed):
    for output in ("faces", "slashed/"):
        succeed("reconstruct", inputs / "images.isthmus", inputs / "images", "-o", f"{tmp_path}/{output}")
        files = sorted(path.name for path in (tmp_path / output).iterdir())
        assert files == [f"{i:02d}.png" for i in range(12)]
    model = isthmus.load(inputs / "images.isthmus")
    pixels = np.stack([np.asarray(Image.open(inputs / "images" / f"{i:02d}.png")) for i in range(12)])
    written = np.stack([np.asarray(Image.open(tmp_path / "faces" / f"{i:02d}.png")) for i in range(12)])
    np.testing.assert_array_equal(written, model.reconstruct(pixels))


def test_decoded_images_go_to_a_folder_or_to_one_array(inputs, tmp_path, succeed):
    model = inputs / "images.isthmus"
    succeed("encode", model, inputs / "images", "-o", tmp_path / "codes.npy")
    succeed("decode", model, tmp_path / "codes.npy", "-o", tmp_path / "faces")
    succeed("decode", model, tmp_path / "codes.npy", "-o", tmp_path / "faces.npy")
    array = np.load(tmp_path / "faces.npy")
    assert (array.shape, array.dtype) == ((12, 6, 5), np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "faces" / "03.png")), array[3])


def test_images_within_0_and_1_are_written_in_the_full_range(inputs, tmp_path, succeed):
    pixels = np.random.default_rng(0).uniform(size=(20, 4, 4))
    pixels[0, 0], pixels[0, 1] = 0, 1
    np.save(tmp_path / "pixels.npy", pixels)
    succeed("fit", tmp_path / "pixels.npy", "-o", tmp_path / "m.isthmus", *SMALL)
    succeed("reconstruct", tmp_path / "m.isthmus", tmp_path / "pixels.npy", "-o", tmp_path / "pictures")
    made = isthmus.load(tmp_path / "m.isthmus").reconstruct(pixels)
    written = np.asarray(Image.open(tmp_path / "pictures" / "00.png"))
    np.testing.assert_allclose(written / 255, np.clip(made[0], 0, 1), atol=0.5 / 255 + 1e-6)


def test_texts_are_encoded(tmp_path, succeed):
    texts = ["tin fell on monday", "wheat held on monday", "tin and wheat fell", "cocoa rose on monday"] * 5
    (tmp_path / "news.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    succeed("fit", tmp_path / "news.jsonl", "-o", tmp_path / "m.isthmus", *SMALL)
    succeed("encode", tmp_path / "m.isthmus", tmp_path / "news.jsonl", "-o", tmp_path / "codes.npy")
    assert np.load(tmp_path / "codes.npy").shape == (20, 2)
    succeed("reconstruct", tmp_path / "m.isthmus", tmp_path / "news.jsonl", "-o", tmp_path / "words.csv")
    assert {"tin", "wheat", "cocoa"} <= set(pd.read_csv(tmp_path / "words.csv").columns)


@pytest.mark.parametrize(
    ("command", "model", "data", "output"),
    [
        ("encode", "array.isthmus", "array.npy", "codes.npy"),
        ("decode", "array.isthmus", "codes.npy", "rows.csv"),
        ("reconstruct", "images.isthmus", "images", "pictures"),
    ],
)
def test_existing_output_is_overwritten_only_with_force(
    command, model, data, output, inputs, tmp_path, succeed, refused
):
    np.save(tmp_path / "codes.npy", np.zeros((3, 2)))
    folder = inputs if (inputs / data).exists() else tmp_path
    target = tmp_path / output
    if output == "pictures":
        target.mkdir()
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(target / "old.png")
    else:
        target.write_bytes(b"precious")
        np.save(tmp_path / "codes.npy", np.zeros((3, 2))) if data == "codes.npy" else None
    arguments = (command, inputs / model, folder / data, "-o", target)
    refused(arguments, "exists", "--force")
    succeed(*arguments, "--force")
    assert (target / "old.png").exists() is False
    assert target.is_dir() or target.read_bytes() != b"precious"


@pytest.mark.parametrize(
    ("model", "data", "output", "message"),
    [
        ("array", "array.npy", "rows", "only images are written as pictures"),
        (
            "array",
            "array.npy",
            "rows.xlsx",
            "unknown suffix .xlsx; rows are written as .npy, .csv, .parquet; images also to a folder",
        ),
        ("images", "images", "rows.csv", "images cannot be written to this file; name a folder"),
        ("array", "array.npy", "no/such/rows.csv", "no such folder; create it"),
    ],
)
def test_an_output_of_the_wrong_type_is_refused(model, data, output, message, inputs, tmp_path, refused):
    refused(("reconstruct", inputs / f"{model}.isthmus", inputs / data, "-o", tmp_path / output), message)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((3, 4)), "rows of 4 columns; the codes of this model have 2 columns"),
        (np.full((3, 2), np.nan), "finite"),
        (np.zeros((3, 2, 2)), "images of 2x2; the codes of this model have 2 columns"),
    ],
)
def test_invalid_codes_are_refused(codes, message, inputs, tmp_path, refused):
    np.save(tmp_path / "codes.npy", codes)
    refused(("decode", inputs / "array.isthmus", tmp_path / "codes.npy", "-o", tmp_path / "rows.npy"), message)


def test_text_columns_and_missing_files_of_codes_are_refused(inputs, tmp_path, refused):
    (tmp_path / "codes.csv").write_text("a,b\n1,x\n")
    arguments = ("decode", inputs / "array.isthmus")
    refused((*arguments, tmp_path / "codes.csv", "-o", tmp_path / "r.npy"), "column 'b' is not numeric")
    refused((*arguments, tmp_path / "none.csv", "-o", tmp_path / "r.npy"), "none.csv: no such file")


@pytest.fixture
def densities(inputs, tmp_path, succeed):
    """Folder with a Boltzmann machine of images and a linear density of an array."""
    succeed("fit", inputs / "images", "--kind", "rbm", "-o", tmp_path / "rbm.isthmus", *SMALL[:4], "--code-size", "2")
    succeed("fit", inputs / "array.npy", "--kind", "linear", "-o", tmp_path / "linear.isthmus", "--code-size", "2")
    return tmp_path


def test_samples_have_the_units_of_the_data_and_depend_on_the_seed(densities, succeed):
    for name, seed in (("a", 0), ("again", 0), ("b", 1)):
        succeed("sample", densities / "rbm.isthmus", "-o", f"{densities}/{name}", "-n", "3", "--seed", seed, "--mean")
    drawn = {name: [np.asarray(Image.open(path)) for path in sorted((densities / name).iterdir())]
             for name in ("a", "again", "b")}  # fmt: skip
    assert [image.shape for image in drawn["a"]] == [(6, 5)] * 3
    np.testing.assert_array_equal(drawn["a"], drawn["again"])
    assert np.any(np.asarray(drawn["a"]) != drawn["b"])
    succeed("sample", densities / "linear.isthmus", "-o", densities / "rows.csv", "-n", "200", "--seed", "0")
    rows = pd.read_csv(densities / "rows.csv").to_numpy()
    assert rows.shape == (200, 5)
    expected = isthmus.load(densities / "linear.isthmus").sample(200, random_state=0)
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_the_number_of_steps_changes_the_samples(densities, succeed):
    for steps in (1, 50):
        succeed("sample", densities / "rbm.isthmus", "-o", densities / f"{steps}.npy", "--steps", steps, "--seed", "0")
    short, long = (np.load(densities / f"{steps}.npy") for steps in (1, 50))
    assert short.shape == long.shape == (16, 6, 5)
    assert np.any(short != long)


def test_invalid_sample_commands_are_refused(inputs, densities, refused):
    refused(
        ("sample", inputs / "array.isthmus", "-o", densities / "x.npy"), "kind deep", "vae, rbm, dbn, dbm, and linear"
    )
    refused(("sample", densities / "linear.isthmus", "-o", densities / "x.npy", "--steps", "3"), "--steps", "linear")
    refused(("sample", densities / "rbm.isthmus", "-o", densities / "x.csv"), "images cannot be written to this file")
    refused(("sample", densities / "rbm.isthmus", "-o", densities / "rbm.isthmus"), "is the input")


def test_texts_as_codes_are_refused(inputs, tmp_path, refused):
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "red wine"}\n{"text": "apple pie"}\n')
    refused(("decode", inputs / "array.isthmus", texts, "-o", tmp_path / "rows.npy"), "contains texts; name a .npy")


def test_a_conditional_model_samples_and_decodes_given_conditions(inputs, tmp_path, succeed, refused):
    model, data = tmp_path / "model.isthmus", inputs / "table.csv"
    succeed("fit", data, "--kind", "vae", "--condition", "city", *SMALL, "-o", model)
    succeed("sample", model, "-n", 3, "--condition", "city=Lima", "--seed", 0, "-o", tmp_path / "samples.csv")
    assert pd.read_csv(tmp_path / "samples.csv")["city"].tolist() == ["Lima"] * 3
    succeed("encode", model, data, "-o", tmp_path / "codes.csv")
    succeed("decode", model, tmp_path / "codes.csv", "--condition", "city=Oslo", "-o", tmp_path / "decoded.csv")
    assert set(pd.read_csv(tmp_path / "decoded.csv")["city"]) == {"Oslo"}
    succeed("traverse", model, data, "--rows", "0,1", "--steps", 3, "--unit", 0, "-o", tmp_path / "path.csv")
    path, rows = pd.read_csv(tmp_path / "path.csv"), pd.read_csv(data)
    assert path["city"].tolist() == np.repeat(rows["city"][:2], 3).tolist()
    succeed("interpolate", model, data, "--from", 0, "--to", 1, "--steps", 2, "-o", tmp_path / "between.csv")
    assert pd.read_csv(tmp_path / "between.csv")["city"].tolist() == rows["city"][:2].tolist()
    succeed("evaluate", model, data)
    succeed("report", model, data, "-o", tmp_path / "report.html")
    for arguments, message in (
        (("decode", model, tmp_path / "codes.csv"), "--condition city=..."),
        (("sample", model, "--condition", "city=Rome"), "city=Rome: it was one of Berlin, Lima, Oslo"),
        (("sample", model, "--condition", "town=Lima"), "'town' is not a condition"),
        (("sample", model, "--condition", "Lima"), "give NAME=VALUE"),
        (
            ("decode", inputs / "table.isthmus", data, "--condition", "city=Lima"),
            "the model takes none",
        ),
        (("fit", data, "--kind", "deep", "--condition", "city"), "kind deep takes no condition"),
        (("fit", data, "--kind", "vae", "--condition", "town"), "'town': the table has no such column"),
    ):
        refused((*arguments, "-o", tmp_path / "refused.csv"), message)


def test_the_labels_of_images_are_their_condition(tmp_path, succeed, refused):
    model = tmp_path / "model.isthmus"
    succeed("fit", "digits", "--kind", "vae", "--condition", "digit", *SMALL, "-o", model)
    succeed("sample", model, "-n", 6, "--condition", "digit=3", "--mean", "-o", tmp_path / "samples.png")
    with Image.open(tmp_path / "samples.png") as picture:
        assert picture.size[0] > picture.size[1]  # two lines of three images
    succeed("traverse", model, "digits:test", "--unit", 1, "-o", tmp_path / "path.png")
    np.save(tmp_path / "rows.npy", np.zeros((3, 8, 8), np.float32))
    encoding = ("encode", model, tmp_path / "rows.npy", "-o", tmp_path / "codes.npy")
    refused(encoding, "has no labels to take as the condition 'digit'")
    two = ("--condition", "a", "--condition", "b")
    refused(("fit", "digits", "--kind", "vae", *two, "-o", tmp_path / "two.isthmus"), "the model takes 2 (a, b)")


def test_a_target_is_decoded_in_place_of_the_rows(tmp_path, succeed, refused):
    rows = np.random.default_rng(0).normal(size=(60, 4))
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "target.npy", rows[:, :2] @ np.ones((2, 3)))
    np.save(tmp_path / "few.npy", rows[:3])
    data, target, model = tmp_path / "rows.npy", tmp_path / "target.npy", tmp_path / "model.isthmus"
    succeed("fit", data, "--target", target, *SMALL, "-o", model)
    succeed("reconstruct", model, data, "-o", tmp_path / "decoded.npy")
    assert np.load(tmp_path / "decoded.npy").shape == (60, 3)
    succeed("evaluate", model, data, "--target", target)
    succeed("report", model, data, "--target", target, "-o", tmp_path / "report.html")
    refused(("evaluate", model, data), "--target DATA")
    output = ("-o", tmp_path / "other.isthmus")
    refused(("fit", data, "--target", tmp_path / "few.npy", *output), "3 rows, and rows has 60")
    refused(("fit", data, "--target", target, "--kind", "linear", *output), "kind linear decodes its inputs alone")
    refused(("fit", data, "--target", target, "--validation", data, *output), "--validation DATA has no targets")


@pytest.mark.parametrize("suffix", READERS)
def test_rows_without_noise_keep_their_identity(suffix, tmp_path, succeed):
    generator = np.random.default_rng(0)
    rows = pd.DataFrame(generator.normal(size=(60, 2)) @ generator.normal(size=(2, 4)), columns=list("abcd"))
    rows.assign(who=generator.permutation(60)).to_csv(tmp_path / "rows.csv", index=False)
    fit = ("fit", tmp_path / "rows.csv", "--kind", "denoising", "--set", "corruption=gaussian", "--dtype", "who=id")
    succeed(*fit, *SMALL, "-o", tmp_path / "m.isthmus")
    output = tmp_path / f"clean.{suffix}"
    made = succeed("denoise", tmp_path / "m.isthmus", tmp_path / "rows.csv", "-o", output)
    assert "noise level: " in made.stderr
    written, expected = READERS[suffix](output), isthmus.load(tmp_path / "m.isthmus").denoise(rows)
    if suffix != "npy":
        assert written.pop("who").tolist() == pd.read_csv(tmp_path / "rows.csv")["who"].tolist()
    np.testing.assert_allclose(np.asarray(written), expected, rtol=1e-5)


def test_images_larger_than_those_of_the_model_are_denoised_in_patches(tmp_path, succeed):
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    pixels = generator.integers(0, 256, (3, 20, 18)).astype(np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "photos" / f"{number}.png")
    np.save(tmp_path / "patches.npy", generator.integers(0, 256, (60, 8, 8)).astype(np.uint8))
    succeed("fit", tmp_path / "patches.npy", "--kind", "denoising", *SMALL, "-o", tmp_path / "m.isthmus")
    made = ("denoise", tmp_path / "m.isthmus", tmp_path / "photos", "--noise-level", 20)
    succeed(*made, "-o", tmp_path / "clean")
    read = np.stack([np.asarray(Image.open(tmp_path / "clean" / f"{number}.png")) for number in range(3)])
    np.testing.assert_array_equal(read, isthmus.load(tmp_path / "m.isthmus").denoise(pixels, 20))


def test_windows_without_noise_come_back_at_their_times(tmp_path, succeed):
    times = np.arange(60)
    table = pd.DataFrame({"when": times, "x": np.sin(times / 4), "y": np.cos(times / 3)})
    table.to_csv(tmp_path / "series.csv", index=False)
    fit = ("fit", tmp_path / "series.csv", "--kind", "denoising", "--window", 8, "--stride", 2, "--time", "when")
    succeed(*fit, *SMALL, "-o", tmp_path / "m.isthmus")
    succeed("denoise", tmp_path / "m.isthmus", tmp_path / "series.csv", "-o", tmp_path / "clean.csv")
    found = isthmus.data.windows(table, 8, 2, time="when")
    expected = found.by_time(isthmus.load(tmp_path / "m.isthmus").denoise(found))
    np.testing.assert_allclose(pd.read_csv(tmp_path / "clean.csv")[["x", "y"]], expected, rtol=1e-5)


def test_denoise_refuses_other_kinds_levels_and_rows(inputs, tmp_path, succeed, refused):
    arguments = ("denoise", inputs / "array.isthmus", inputs / "array.npy", "-o", tmp_path / "clean.npy")
    refused(arguments, "kind deep does not remove noise; fit a model with --kind denoising")
    model, data = tmp_path / "m.isthmus", inputs / "array.npy"
    succeed("fit", data, "--kind", "denoising", *SMALL, "-o", model)
    output = ("-o", tmp_path / "clean.npy")
    refused(("denoise", model, data, *output, "--noise-level", "-1"), "noise_level=-1.0: a standard deviation")
    refused(("denoise", model, data, *output), "cannot be estimated", "give noise_level (--noise-level)")
    (tmp_path / "news.jsonl").write_text("\n".join('{"text": "red sky and blue sea"}' for _ in range(20)))
    succeed("fit", tmp_path / "news.jsonl", "--kind", "denoising", *SMALL, "-o", tmp_path / "texts.isthmus")
    texts = ("denoise", tmp_path / "texts.isthmus", tmp_path / "news.jsonl", "-o", tmp_path / "clean.csv")
    refused((*texts, "--noise-level", 0.1), "fitted on texts")
