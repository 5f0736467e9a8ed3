"""`isthmus classify fit` and `predict`."""

import json

import numpy as np
import pandas as pd
import pytest

import isthmus

from ..estimators.interruptions import press_ctrl_c
from .commands import run

QUICK = ("--epochs", "15", "--seed", "0", "--set", "learning_rate=1e-2")


@pytest.fixture(scope="module")
def models(tmp_path_factory, table):
    """Folder with a model and a classifier of digits, and a model of a table. Tests do not write to it."""
    folder = tmp_path_factory.mktemp("classes")
    table.to_csv(folder / "table.csv", index=False)
    small = ("--epochs", "3", "--seed", "0", "--set", "hidden_sizes=32")
    made = [
        run("fit", "digits", "-o", folder / "digits.isthmus", "--code-size", "16", *small),
        run("fit", folder / "table.csv", "-o", folder / "table.isthmus", "--exclude", "species", *small),
        run("classify", "fit", "digits", "--encoder", folder / "digits.isthmus", "-o", folder / "clf", *QUICK),
    ]
    assert [result.exit_code for result in made] == [0, 0, 0], made[-1].stderr
    return folder


def test_a_classifier_of_digits_predicts_most_test_labels(models, tmp_path, succeed):
    result = succeed("classify", "predict", models / "clf", "digits:test", "-o", tmp_path / "p.csv", "--json")
    facts = json.loads(result.stdout)
    assert facts["accuracy"] > 0.85
    assert f"accuracy: {facts['accuracy']:.4f} (539 rows)" in result.stderr
    assert (facts["rows"], facts["classes"]) == (539, list(range(10)))
    written = pd.read_csv(tmp_path / "p.csv")
    assert list(written.columns) == ["row", "label", *(f"p({digit})" for digit in range(10))]
    np.testing.assert_allclose(written.iloc[:, 2:].sum(axis=1), 1)
    digits = isthmus.data.open("digits:test")
    model = isthmus.load(models / "clf")
    assert written["label"].tolist() == model.predict(digits.X).tolist()
    assert facts["accuracy"] == model.score(digits.X, digits.labels)


def test_fit_logs_data_classes_and_training(models, tmp_path, succeed):
    command = ("classify", "fit", "digits", "--encoder", models / "digits.isthmus", "-o", tmp_path / "clf", *QUICK)
    result = succeed(*command, "--json")
    for message in (
        "data: digits:train: 1,258 rows, images of 8x8 float32",
        "classifier: 10 classes, fine-tuned deep encoder with code size 16, 1,132 training rows, seed 0",
        "training: 15 epochs",
        "validation error rate plus 0.1 cross-entropy: 0.",
        f"classifier written to {tmp_path / 'clf'}",
    ):
        assert message in result.stderr
    facts = json.loads(result.stdout)
    assert (facts["kind"], facts["encoder"], facts["rows"], facts["frozen"]) == ("classifier", "deep", 1132, False)
    X = isthmus.data.open("digits:test").X
    ours, theirs = (isthmus.load(folder / "clf").predict_proba(X) for folder in (tmp_path, models))
    np.testing.assert_array_equal(ours, theirs)
    quiet = succeed(*command, "--force", "--quiet")
    assert quiet.stdout == quiet.stderr == ""


def test_the_options_reach_the_classifier(models, tmp_path, succeed):
    np.save(tmp_path / "labels.npy", np.array(["a", "b", "?"] * 20))
    succeed(
        "classify", "fit", models / "table.csv", "--labels", tmp_path / "labels.npy", "--unlabeled", "?",
        "--encoder", models / "table.isthmus", "-o", tmp_path / "clf", "--frozen", "--epochs", 2, "--seed", 4,
        "--time-limit", "5m", "--validation", "0.5", "--precision", "fp32", "--device", "cpu",
        "--set", "hidden_noise=0.1", "--set", "hidden_sizes=8,6",
    )  # fmt: skip
    model = isthmus.load(tmp_path / "clf")
    chosen = {
        "unlabeled": "?", "frozen": True, "max_epochs": 2, "random_state": 4, "time_limit": 300.0,
        "validation_fraction": 0.5, "precision": "fp32", "hidden_noise": 0.1, "hidden_sizes": (8, 6),
    }  # fmt: skip
    assert {name: value for name, value in model.get_params().items() if name in chosen} == chosen
    assert (model.classes_.tolist(), model.n_rows_) == (["a", "b"], 20)


@pytest.mark.parametrize("typed", ["NaN", "nan", ""])
@pytest.mark.parametrize("classes", [("a", "b"), (3, 4)])
def test_empty_cells_can_be_marked_as_unlabelled(typed, classes, table, models, tmp_path, succeed):
    labels = [classes[0], classes[1], None] * 20
    table.drop(columns="species").assign(species=labels).to_csv(tmp_path / "gaps.csv", index=False)
    succeed(
        "classify", "fit", tmp_path / "gaps.csv", "--labels", "species", "--unlabeled", typed, "--encoder",
        models / "table.isthmus", "-o", tmp_path / "clf", "--validation", "0", *QUICK,
    )  # fmt: skip
    model = isthmus.load(tmp_path / "clf")
    assert (model.classes_.tolist(), model.n_rows_) == (list(classes), 40)
    command = ("classify", "predict", tmp_path / "clf", tmp_path / "gaps.csv", "--labels", "species")
    assert "(40 rows)" in succeed(*command, "-o", tmp_path / "p.csv").stderr


def test_a_text_label_is_refused_if_the_labels_are_numbers(models, tmp_path, refused):
    command = ("classify", "fit", "digits", "--encoder", models / "digits.isthmus", "-o", tmp_path / "clf", *QUICK)
    refused((*command, "--unlabeled", "foo"), "--unlabeled foo: the labels are numbers")


def test_resume_needs_the_same_arguments_and_an_existing_checkpoint(models, tmp_path, succeed, refused, monkeypatch):
    command = ("classify", "fit", "digits", "--encoder", models / "digits.isthmus", "-o", tmp_path / "clf", *QUICK)
    with monkeypatch.context() as patched:
        press_ctrl_c(patched, at=50)
        result = succeed(*command, "--checkpoint-every", "0.001s")
    checkpoint = f"{tmp_path / 'clf'}.checkpoint"
    assert f"to continue the interrupted run from {checkpoint}, repeat the command with --resume" in result.stderr
    refused((*command, "--resume", "--set", "dropout=0.1"), "run with other arguments: dropout (0.0 then, 0.1 now)")
    refused(("fit", "digits", "-o", tmp_path / "clf", "--resume"), "kind (classifier then, deep now)")
    assert f"resuming from {checkpoint}" in succeed(*command, "--resume").stderr
    X = isthmus.data.open("digits:test").X
    ours, theirs = (isthmus.load(folder / "clf").predict_proba(X) for folder in (tmp_path, models))
    np.testing.assert_array_equal(ours, theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["clf"]
    refused((*command, "--resume"), "clf: the file exists and there is no checkpoint")
    assert "no checkpoint" in succeed(*command[:-2], "--resume", "-o", tmp_path / "new").stderr


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.npz"])
def test_classes_of_a_table_are_written_in_each_format(name, models, tmp_path, succeed, table):
    command = ("--labels", "species", "--encoder", models / "table.isthmus")
    succeed("classify", "fit", models / "table.csv", *command, "-o", tmp_path / "clf", *QUICK)
    succeed("classify", "predict", tmp_path / "clf", models / "table.csv", "-o", tmp_path / name)
    model = isthmus.load(tmp_path / "clf")
    rows = table.drop(columns="species")
    if name.endswith(".npz"):
        with np.load(tmp_path / name, allow_pickle=False) as stored:
            assert stored["classes"].tolist() == ["long", "short"]
            assert stored["label"].tolist() == model.predict(rows).tolist()
            np.testing.assert_array_equal(stored["probability"], model.predict_proba(rows))
        return
    written = pd.read_csv(tmp_path / name) if name.endswith(".csv") else pd.read_parquet(tmp_path / name)
    assert list(written.columns)[-3:] == ["label", "p(long)", "p(short)"]
    assert written["label"].tolist() == model.predict(rows).tolist()


def test_labels_with_unknown_classes_are_refused_only_if_requested(models, tmp_path, succeed, refused):
    digits = isthmus.data.open("digits:test")
    np.savez(tmp_path / "rows.npz", X=digits.X, y=digits.labels + 5)
    command = ("classify", "predict", models / "clf", tmp_path / "rows.npz", "-o", tmp_path / "p.csv")
    result = succeed(*command, "--json")
    assert "note: no accuracy computed from the labels in the data: y holds the class 10" in result.stderr
    assert "accuracy" not in json.loads(result.stdout)
    np.save(tmp_path / "labels.npy", digits.labels + 5)
    refused((*command, "--force", "--labels", tmp_path / "labels.npy"), "y holds the class 10")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("fit", "digits", "--encoder", "digits.isthmus", "-o", "clf"), "clf: the file exists"),
        (("fit", "digits", "--encoder", "no.isthmus", "-o", "new"), "no.isthmus: no such file"),
        (("fit", "digits", "--encoder", "clf", "-o", "new"), "clf: contains a classifier, not an autoencoder"),
        (
            ("fit", "table.csv", "--encoder", "table.isthmus", "-o", "new"),
            "has no labels; name a column or a .npy file with --labels",
        ),
        (
            ("fit", "table.csv", "--encoder", "table.isthmus", "-o", "new", "--labels", "speceis"),
            "no column 'speceis'; did you mean 'species'?",
        ),
        (
            ("fit", "digits", "--encoder", "digits.isthmus", "-o", "new", "--set", "hidden_nois=1"),
            "kind 'classifier' has no setting 'hidden_nois'; did you mean 'hidden_noise'",
        ),
        (
            ("fit", "digits", "--encoder", "digits.isthmus", "-o", "new", "--epochs", "2", "--set", "max_epochs=3"),
            "max_epochs is set by an option and by --set max_epochs=...",
        ),
        (("predict", "digits.isthmus", "digits:test", "-o", "new.csv"), "kind 'deep', not a classifier"),
        (("predict", "clf", "table.csv", "-o", "new.csv"), "column 'city' is not numeric"),
        (("predict", "clf", "digits:test", "-o", "new.txt"), "unknown suffix .txt; predictions are written as .csv"),
    ],
)
def test_invalid_classify_commands_are_refused(args, message, models, monkeypatch, refused):
    monkeypatch.chdir(models)
    refused(("classify", *args), message)


def test_a_classifier_is_refused_by_encode_and_described_by_info(models, tmp_path, refused, succeed):
    for command in (
        ("encode", models / "clf", "digits", "-o", tmp_path / "h.npy"),
        ("evaluate", models / "clf", "digits"),
    ):
        refused(command, "contains a classifier, not an autoencoder; use it with isthmus classify predict")
    facts = json.loads(succeed("info", models / "clf", "--json").stdout)
    assert (facts["kind"], facts["code_size"], facts["configuration"]["encoder"]) == ("classifier", 16, "deep")


def test_help_lists_the_commands_of_classify(succeed):
    words = succeed("classify", "--help").stdout
    assert "fit" in words
    assert "predict" in words
