"""Identifiers, kept and excluded columns, errors by row, and outputs that are inputs, in runs on small files."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import isthmus
from isthmus.cli.destinations import refuse_overlap
from isthmus.errors import InputError

from .commands import SMALL, listing, run

READERS = {"csv": pd.read_csv, "parquet": pd.read_parquet}
CUSTOMERS = np.random.default_rng(3).permutation(60) + 1000


@pytest.fixture(scope="module")
def customers(inputs, table, tmp_path_factory):
    """Folder with tables of customers, with identifiers in several forms, and a model of them."""
    folder = tmp_path_factory.mktemp("customers")
    frame = table.assign(
        age=np.arange(60) % 50, vip=table["length"] > 5, city=table["city"].astype("category"),
        note=[f"n {i}" for i in range(60)], width=table["width"].astype("float32"),
    )  # fmt: skip
    frame.set_axis(pd.Index(CUSTOMERS, name="customer"), axis=0).to_parquet(folder / "named.parquet")
    frame.set_axis([f"C{i}" for i in CUSTOMERS], axis=0).to_csv(folder / "unnamed.csv")
    frame.assign(customer=CUSTOMERS).to_csv(folder / "column.csv", index=False)
    excluded = ("--exclude", "species", "--exclude", "note")
    result = run("fit", folder / "named.parquet", "-o", folder / "m.isthmus", *SMALL, *excluded)
    assert result.exit_code == 0, result.stderr
    return folder


COLUMNS = ["length", "width", "height", "city", "age", "vip"]
FILES = {"named.parquet": "customer", "unnamed.csv": ""}


@pytest.mark.parametrize("suffix", READERS)
@pytest.mark.parametrize("file", FILES)
def test_identifiers_and_kept_columns_come_first_through_every_command(file, suffix, customers, tmp_path, succeed):
    model, data, name = customers / "m.isthmus", customers / file, FILES[file]
    identifiers = CUSTOMERS.tolist() if name else [f"C{i}" for i in CUSTOMERS]
    codes = tmp_path / f"codes.{suffix}"
    succeed("encode", model, data, "-o", codes, "--keep", "species")
    succeed("decode", model, codes, "-o", tmp_path / f"decoded.{suffix}")
    succeed("reconstruct", model, data, "-o", tmp_path / f"reconstructed.{suffix}", "--keep", "species")
    succeed("evaluate", model, data, "-o", tmp_path / f"errors.{suffix}", "--keep", "species")
    units = list(isthmus.load(model).get_feature_names_out())
    expected = {"codes": units, "decoded": COLUMNS, "reconstructed": COLUMNS, "errors": ["error", *COLUMNS]}
    written = {each: READERS[suffix](tmp_path / f"{each}.{suffix}") for each in expected}
    first = "Unnamed: 0" if suffix == "csv" and not name else name
    for each, columns in expected.items():
        assert list(written[each]) == [first, "species", *columns]
        assert written[each][first].tolist() == identifiers
        assert written[each]["species"].tolist() == pd.read_csv(customers / "unnamed.csv")["species"].tolist()
    pd.testing.assert_frame_equal(written["decoded"], written["reconstructed"], rtol=1e-4)


def test_types_come_back(customers, tmp_path, succeed):
    model, data = customers / "m.isthmus", customers / "named.parquet"
    succeed("reconstruct", model, data, "-o", tmp_path / "r.parquet", "--keep", "age")
    read, made = pd.read_parquet(data), pd.read_parquet(tmp_path / "r.parquet")
    assert made["age_"].tolist() == read["age"].tolist()  # the kept column, beside its reconstruction
    for name in ("length", "width", "city", "vip"):
        assert made[name].dtype == read[name].dtype, name
    assert made["customer"].dtype == read.index.dtype
    succeed("fit", data, "--kind", "vae", "-o", tmp_path / "v.isthmus", *SMALL, "--exclude", "species",
            "--exclude", "note")  # fmt: skip
    succeed("sample", tmp_path / "v.isthmus", "-n", 5, "-o", tmp_path / "s.parquet")
    assert pd.read_parquet(tmp_path / "s.parquet")[COLUMNS].dtypes.equals(read[COLUMNS].dtypes)


def test_kept_columns_come_back_as_they_were(table, inputs, tmp_path, succeed):
    kept = pd.DataFrame({
        "day": pd.date_range("2024-02-27", periods=60), "at": pd.date_range("2024-02-27 10:30", periods=60, freq="7h"),
        "big": 2**60 + np.arange(60), "vip": np.arange(60) % 3 > 0, "quoted": ['a "b", c', "ü", "x\ny"] * 20,
        "gaps": np.where(np.arange(60) % 4 > 0, np.arange(60.0), np.nan),
    })  # fmt: skip
    pd.concat([table, kept], axis=1).to_csv(tmp_path / "t.csv", index=False)
    options = [text for name in kept for text in ("--keep", name)]
    for suffix in READERS:
        output = tmp_path / f"codes.{suffix}"
        succeed("encode", inputs / "table.isthmus", tmp_path / "t.csv", "-o", output, *options)
        read, written = (isthmus.data.open(each).X[list(kept)] for each in (tmp_path / "t.csv", output))
        for name in kept:
            assert written[name].tolist() == read[name].tolist() or name == "gaps"
            assert written[name].dtype.kind == read[name].dtype.kind
        np.testing.assert_array_equal(written["gaps"], read["gaps"])
    assert output.with_suffix(".csv").read_text().splitlines()[1].startswith("0,2024-02-27,")


def test_a_table_of_one_column_and_one_row_is_written(inputs, table, tmp_path, succeed):
    table.iloc[:1].set_axis(["only"]).to_csv(tmp_path / "one.csv")
    succeed(
        "reconstruct", inputs / "table.isthmus", tmp_path / "one.csv", "-o", tmp_path / "r.csv", "--keep", "species"
    )
    assert pd.read_csv(tmp_path / "r.csv", index_col=0).index.tolist() == ["only"]


def test_paths_of_images_are_carried_through_codes(inputs, tmp_path, succeed):
    model, folder = inputs / "images.isthmus", inputs / "images"
    names = sorted(path.name for path in folder.iterdir())
    succeed("encode", model, folder, "-o", tmp_path / "codes.csv")
    codes = pd.read_csv(tmp_path / "codes.csv")
    assert codes["path"].tolist() == names
    codes.iloc[::-1].iloc[:4].to_csv(tmp_path / "few.csv", index=False)
    succeed("decode", model, tmp_path / "few.csv", "-o", tmp_path / "few")
    succeed("reconstruct", model, folder, "-o", tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "few").iterdir()) == names[-4:]
    for name in names[-4:]:
        made, expected = (np.asarray(Image.open(tmp_path / each / name)).astype(int) for each in ("few", "all"))
        np.testing.assert_allclose(made, expected, atol=1)
    succeed("evaluate", model, folder, "-o", tmp_path / "errors.parquet")
    assert list(pd.read_parquet(tmp_path / "errors.parquet")) == ["path", "error"]


def test_paths_through_the_code_start_with_identifiers(customers, tmp_path, succeed):
    model, data = customers / "m.isthmus", customers / "named.parquet"
    succeed("traverse", model, data, "--rows", "3,1", "--unit", 0, "--steps", 2, "-o", tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv")["customer"].tolist() == np.repeat(CUSTOMERS[[3, 1]], 2).tolist()
    succeed("interpolate", model, data, "--from", 3, "--to", 1, "--steps", 2, "-o", tmp_path / "i.csv")
    between = pd.read_csv(tmp_path / "i.csv")
    assert list(between)[:5] == ["from customer", "to customer", "from", "to", "step"]
    assert between["to customer"].tolist() == [CUSTOMERS[1]] * 2
    succeed("traverse", model, data, "--exclude", "note", "--unit", 0, "--steps", 2, "-o", tmp_path / "t.parquet")


def test_predictions_start_with_identifiers_and_kept_columns(customers, tmp_path, succeed):
    data, classifier = customers / "unnamed.csv", tmp_path / "c.isthmus"
    succeed("classify", "fit", data, "--labels", "species", "--encoder", customers / "m.isthmus", "-o", classifier,
            "--epochs", 1, "--exclude", "note")  # fmt: skip
    succeed("classify", "predict", classifier, data, "--labels", "species", "--keep", "species", "--keep", "note",
            "-o", tmp_path / "p.csv")  # fmt: skip
    succeed(
        "classify", "predict", classifier, customers / "unnamed.csv", "--labels", "species", "-o", tmp_path / "q.npz"
    )
    made = pd.read_csv(tmp_path / "p.csv", index_col=0)
    assert list(made) == ["species", "note", "label", "p(long)", "p(short)"]
    assert made.index.tolist() == [f"C{i}" for i in CUSTOMERS]
    assert made["species"].tolist() == pd.read_csv(data)["species"].tolist()


def test_columns_excluded_in_the_fit_of_a_classifier_stay_excluded(customers, tmp_path, succeed):
    data, classifier = customers / "column.csv", tmp_path / "c.isthmus"
    succeed("classify", "fit", data, "--labels", "species", "--encoder", customers / "m.isthmus", "-o", classifier,
            "--epochs", 1, "--exclude", "customer")  # fmt: skip
    succeed("classify", "predict", classifier, data, "-o", tmp_path / "p.csv")
    assert list(pd.read_csv(tmp_path / "p.csv")) == ["row", "label", "p(long)", "p(short)"]


def test_errors_have_row_numbers_without_identifiers_and_their_parts_add_up(inputs, table, tmp_path, succeed):
    model, data = inputs / "table.isthmus", inputs / "table.csv"
    printed = succeed("evaluate", model, data).stdout
    assert succeed("evaluate", model, data, "-o", tmp_path / "e.csv").stdout == printed
    errors = pd.read_csv(tmp_path / "e.csv")
    assert list(errors) == ["row", "error", "length", "width", "height", "city"]
    assert errors["row"].tolist() == list(range(60))
    np.testing.assert_allclose(errors["error"], isthmus.load(model).reconstruction_error(table.drop(columns="species")),
                               rtol=1e-5)  # fmt: skip
    np.testing.assert_allclose(errors.iloc[:, 2:].sum(axis=1), errors["error"], rtol=1e-4)
    succeed("evaluate", model, data, "-o", tmp_path / "e.npy")
    np.testing.assert_allclose(np.load(tmp_path / "e.npy"), errors.iloc[:, 1:], rtol=1e-4)
    succeed("evaluate", inputs / "array.isthmus", inputs / "array.npy", "-o", tmp_path / "a.csv")
    assert list(pd.read_csv(tmp_path / "a.csv")) == ["row", "error", "x0", "x1", "x2", "x3", "x4"]


def test_missing_cells_have_no_part_in_the_errors(table, tmp_path, succeed):
    table.assign(width=table["width"].where(table.index % 3 > 0)).to_csv(tmp_path / "gaps.csv", index=False)
    succeed("fit", tmp_path / "gaps.csv", "--missing", "mask", "-o", tmp_path / "m.isthmus", *SMALL)
    succeed("evaluate", tmp_path / "m.isthmus", tmp_path / "gaps.csv", "-o", tmp_path / "e.csv")
    errors = pd.read_csv(tmp_path / "e.csv")
    assert errors["width"].isna().tolist() == (table.index % 3 == 0).tolist()
    np.testing.assert_allclose(errors.iloc[:, 2:].sum(axis=1), errors["error"], rtol=1e-4)


def test_columns_that_the_model_does_not_know_are_refused_ignored_excluded_or_kept(
    customers, tmp_path, succeed, refused
):
    model, data = customers / "m.isthmus", customers / "column.csv"
    output = ("-o", tmp_path / "codes.csv", "--force")
    refused(("encode", model, data, *output), "unknown column 'customer'", "--extra-columns ignore")
    noted = succeed("encode", model, data, *output, "--extra-columns", "ignore").stderr
    assert "the model does not know column 'customer'; left out" in noted
    expected = (tmp_path / "codes.csv").read_bytes()
    succeed("encode", model, data, *output, "--exclude", "customer")
    assert (tmp_path / "codes.csv").read_bytes() == expected
    succeed("encode", model, data, *output, "--keep", "customer")
    codes = pd.read_csv(tmp_path / "codes.csv")
    assert codes.merge(pd.read_csv(data), on="customer")["note"].tolist() == [f"n {i}" for i in range(60)]
    refused(
        ("encode", model, data, *output, "--extra-columns", "keep"), "--extra-columns keep: it must be ignore or refuse"
    )
    for option in ("--keep", "--exclude"):
        refused(
            ("encode", model, data, *output, option, "costumer"), f"{option} costumer: no such column", "'customer'?"
        )
    refused(("encode", model, data, *output, "--exclude", "length"), "missing column 'length'")
    refused(("evaluate", model, data, "--keep", "customer"), "--keep customer: without -o no file is written")
    for command in ("evaluate", "report", "traverse", "interpolate"):
        more = (
            () if command == "evaluate" else ("-o", tmp_path / ("r.html" if command == "report" else f"{command}.csv"))
        )
        refused((command, model, data, *more), "unknown column 'customer'")
        succeed(command, model, data, *more, "--exclude", "customer")


def test_columns_cannot_be_named_in_an_array_and_a_file_of_numbers_holds_no_further_ones(
    inputs, customers, tmp_path, succeed, refused
):
    encode = ("encode", inputs / "array.isthmus", inputs / "array.npy", "-o", tmp_path / "c.csv")
    for option in ("--keep", "--exclude"):
        refused((*encode, option, "a"), f"array: {option} a: no such column; the rows have no named columns")
    noted = succeed(
        "encode", customers / "m.isthmus", customers / "unnamed.csv", "-o", tmp_path / "c.npy", "--keep", "note"
    )
    assert "holds no further columns" in noted.stderr
    assert np.load(tmp_path / "c.npy").shape == (60, 2)


@pytest.fixture
def own(inputs, tmp_path):
    """A folder with copies of inputs, which a command could destroy."""
    for name in ("table.csv", "array.npy", "table.isthmus", "array.isthmus", "images.isthmus"):
        shutil.copy(inputs / name, tmp_path / name)
    shutil.copytree(inputs / "images", tmp_path / "photos")
    (tmp_path / "around").mkdir()
    shutil.copytree(inputs / "images", tmp_path / "around" / "photos")
    os.link(tmp_path / "array.npy", tmp_path / "hard.npy")
    os.symlink("array.npy", tmp_path / "soft.npy")
    os.symlink("photos", tmp_path / "linked")
    (tmp_path / "links").mkdir()
    os.symlink(tmp_path / "photos" / "00.png", tmp_path / "links" / "00.png")
    np.save(tmp_path / "codes.npy", np.zeros((3, 2)))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "output", "relation"),
    [
        (("encode", "array.isthmus", "array.npy"), "array.npy", "is"),
        (("encode", "array.isthmus", "array.npy"), "hard.npy", "is"),
        (("encode", "array.isthmus", "array.npy"), "soft.npy", "is"),
        (("encode", "array.isthmus", "soft.npy"), "array.npy", "is"),
        (("decode", "array.isthmus", "codes.npy"), "codes.npy", "is"),
        (("reconstruct", "array.isthmus", "array.npy"), "./photos/../array.npy", "is"),
        (("reconstruct", "images.isthmus", "photos"), "photos", "is"),
        (("reconstruct", "images.isthmus", "photos/"), "linked/", "is"),
        (("reconstruct", "images.isthmus", "linked"), "photos", "is"),
        (("reconstruct", "images.isthmus", "links"), "photos", "is"),
        (("reconstruct", "images.isthmus", "around/photos"), "around", "contains"),
        (("reconstruct", "images.isthmus", "photos"), "photos/made", "lies in"),
        (("encode", "images.isthmus", "photos"), "photos/codes.csv", "lies in"),
        (("encode", "images.isthmus", "photos"), "linked/codes.csv", "lies in"),
        (("traverse", "images.isthmus", "photos"), "photos/path.png", "lies in"),
        (("interpolate", "images.isthmus", "photos"), "photos/00.png", "lies in"),
        (("evaluate", "table.isthmus", "table.csv"), "table.csv", "is"),
        (("fit", "table.csv"), "table.csv", "is"),
        (("fit", "array.npy", "--validation", "table.csv"), "table.csv", "is"),
        (("fit", "photos"), "photos/m.isthmus", "lies in"),
        (("fit", "array.npy", "--target", "hard.npy"), "soft.npy", "is"),
        (("classify", "fit", "table.csv", "--encoder", "table.isthmus"), "table.isthmus", "is"),
    ],
)
def test_an_output_over_an_input_is_refused_with_force_too(arguments, output, relation, own, monkeypatch, refused):
    monkeypatch.chdir(own)
    refused((*arguments, "-o", output, "--force"), f"{output}: {relation} the input", "which --force does not replace")


def test_the_report_and_predictions_do_not_replace_what_they_read(own, monkeypatch, succeed, refused):
    monkeypatch.chdir(own)
    shutil.copy("table.isthmus", "table.html")
    refused(("report", "table.html", "table.csv", "-o", "table.html", "--force"), "table.html: is the input")
    succeed("classify", "fit", "table.csv", "--labels", "species", "--encoder", "table.isthmus", "-o", "c.isthmus",
            "--epochs", 1)  # fmt: skip
    refused(("classify", "predict", "c.isthmus", "table.csv", "-o", "table.csv", "--force"), "table.csv: is the input")


def test_an_output_beside_the_inputs_is_written(own, monkeypatch, succeed):
    monkeypatch.chdir(own)
    before = listing(own / "photos")
    succeed("reconstruct", "images.isthmus", "photos", "-o", "photos-made")
    succeed("encode", "images.isthmus", "photos", "-o", "photos.csv")
    assert listing(own / "photos") == before
    with pytest.raises(InputError, match="lies in the input photos:train"):
        (own / "photos" / "train").mkdir()
        refuse_overlap("photos/train/x.npy", ["photos:train"])
