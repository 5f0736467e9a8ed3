"""The stacked kind, which trains in phases, on the command line."""

import json

import numpy as np

import isthmus

SMALL = ("--kind", "stacked", "--set", "hidden_sizes=12,8", "--code-size", "4", "--epochs", "2", "--seed", "0")


def test_the_command_line_fits_and_describes_a_stack(inputs, tmp_path, succeed):
    model, X = tmp_path / "m.isthmus", inputs / "array.npy"
    message = succeed("fit", X, "-o", model, *SMALL, "--set", "layers=denoising", "--set", "layers.corruption.rate=0.4")
    assert "model: stacked, 5-12-8-4" in message.stderr
    facts = json.loads(succeed("info", model, "--json").stdout)
    assert facts["kind"] == "stacked"
    assert facts["hidden_sizes"] == [12, 8]
    succeed("report", model, X, "-o", tmp_path / "m.html")
    page = (tmp_path / "m.html").read_text()
    assert "5 → 12 → 8 → 4 → 8 → 12 → 5" in page
    succeed("encode", model, X, "-o", tmp_path / "codes.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), isthmus.load(model).transform(np.load(X)))


def test_layers_of_an_unknown_kind_are_refused(inputs, tmp_path, refused):
    refused(
        ("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--set", "layers=noisy"),
        "'noisy'",
        "denoising",
    )


def test_fit_logs_every_phase_and_uses_the_labels_in_the_data(tmp_path, succeed):
    model = tmp_path / "m.isthmus"
    message = succeed(
        "fit", "digits", "-o", model, *SMALL, "--set", "pretraining=supervised", "--set", "fine_tuning.epochs=1"
    )
    for line in ("layer 1 of 3: 2 epochs", "layer 3 of 3: 2 epochs", "fine-tuning: 1 epoch "):
        assert line in message.stderr
    history = json.loads(succeed("info", model, "--json").stdout)["history"]
    assert [line.split(":")[0] for line in history["pretraining"]] == ["layer 1 of 3", "layer 2 of 3", "layer 3 of 3"]


def test_a_label_column_is_removed_from_the_rows(inputs, tmp_path, succeed, refused):
    model, rows = tmp_path / "m.isthmus", inputs / "table.csv"
    refused(
        ("fit", rows, "-o", model, *SMALL, "--set", "pretraining=supervised"),
        "has no labels; name a column or a .npy file with --labels",
    )
    command = ("-o", model, *SMALL, "--set", "pretraining=supervised", "--labels", "species", "--validation", rows)
    assert "layer 3 of 3: 2 epochs" in succeed("fit", rows, *command).stderr
    assert "species" not in isthmus.load(model).feature_names_in_
    assert (
        json.loads(succeed("evaluate", model, rows, "--json").stdout)["rows"] == 60
    )  # `evaluate` drops the column, too
    succeed("classify", "fit", rows, "--labels", "species", "--encoder", model, "-o", tmp_path / "clf", "--epochs", "2")


def test_labels_are_read_from_a_file(inputs, tmp_path, succeed, refused):
    np.save(tmp_path / "labels.npy", np.arange(60) % 2)
    command = (*SMALL, "--set", "pretraining=supervised", "--labels")
    succeed("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *command, tmp_path / "labels.npy")
    np.save(tmp_path / "few.npy", np.arange(6))
    refused(
        ("fit", inputs / "array.npy", "-o", tmp_path / "n.isthmus", *command, tmp_path / "few.npy"),
        "shape (6,) for 60 rows; one label per row is needed",
    )
