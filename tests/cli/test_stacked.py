"""A kind that learns in phases, on the command line: fitted, told of, read."""

import json

import numpy as np

import isthmus

SMALL = ("--kind", "stacked", "--set", "hidden_sizes=12,8", "--code-size", "4", "--epochs", "2", "--seed", "0")


def test_the_command_line_fits_and_describes_a_stack(shop, tmp_path, fine):
    model, X = tmp_path / "m.isthmus", shop / "array.npy"
    told = fine("fit", X, "-o", model, *SMALL, "--set", "layers=denoising", "--set", "corruption_rate=0.4")
    assert "model: stacked, 5-12-8-4" in told.stderr
    facts = json.loads(fine("info", model, "--json").stdout)
    assert facts["kind"] == "stacked"
    assert facts["hidden_sizes"] == [12, 8]
    fine("report", model, X, "-o", tmp_path / "m.html")
    page = (tmp_path / "m.html").read_text()
    assert "5 → 12 → 8 → 4 → 8 → 12 → 5" in page
    fine("encode", model, X, "-o", tmp_path / "codes.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), isthmus.load(model).transform(np.load(X)))


def test_layers_of_an_unknown_kind_are_refused(shop, tmp_path, refused):
    refused(
        ("fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--set", "layers=noisy"),
        "layers 'noisy' is unknown; did you mean 'denoising'",
    )


def test_every_phase_is_told_and_layers_learn_from_the_labels_that_the_data_bring(tmp_path, fine):
    model = tmp_path / "m.isthmus"
    told = fine("fit", "digits", "-o", model, *SMALL, "--set", "training=supervised", "--set", "fine_tuning_epochs=1")
    for line in ("layer 1 of 3: 2 epochs", "layer 3 of 3: 2 epochs", "fine-tuning: 1 epochs"):
        assert line in told.stderr
    history = json.loads(fine("info", model, "--json").stdout)["history"]
    assert [line.split(":")[0] for line in history["pretraining"]] == ["layer 1 of 3", "layer 2 of 3", "layer 3 of 3"]


def test_labels_of_a_table_are_a_column_that_is_named_and_no_part_of_the_rows(shop, tmp_path, fine, refused):
    model, rows = tmp_path / "m.isthmus", shop / "table.csv"
    refused(
        ("fit", rows, "-o", model, *SMALL, "--set", "training=supervised"),
        "has no labels; name them by --labels, a column or a .npy file",
    )
    asked = ("-o", model, *SMALL, "--set", "training=supervised", "--labels", "species", "--validation", rows)
    assert "layer 3 of 3: 2 epochs" in fine("fit", rows, *asked).stderr
    assert "species" not in isthmus.load(model).feature_names_in_
    assert json.loads(fine("evaluate", model, rows, "--json").stdout)["rows"] == 60  # the column is left out again
    fine("classify", "fit", rows, "--labels", "species", "--encoder", model, "-o", tmp_path / "clf", "--epochs", "2")


def test_layers_learn_from_the_labels_of_a_file(shop, tmp_path, fine, refused):
    np.save(tmp_path / "labels.npy", np.arange(60) % 2)
    asked = (*SMALL, "--set", "training=supervised", "--labels")
    fine("fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *asked, tmp_path / "labels.npy")
    np.save(tmp_path / "few.npy", np.arange(6))
    refused(
        ("fit", shop / "array.npy", "-o", tmp_path / "n.isthmus", *asked, tmp_path / "few.npy"),
        "shape (6,) for 60 rows; one label a row is needed",
    )
