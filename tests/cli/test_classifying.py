"""`isthmus classify fit` and `predict`: classes from the code of a model."""

import json

import numpy as np
import pandas as pd
import pytest

import isthmus

from .commands import run

QUICK = ("--epochs", "15", "--seed", "0", "--set", "learning_rate=1e-2")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, table):
    """A model of digits and a classifier of them; a model of a table without its labels. Nothing is written here."""
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


def test_a_classifier_of_digits_reads_most_test_digits(workshop, tmp_path, fine):
    result = fine("classify", "predict", workshop / "clf", "digits:test", "-o", tmp_path / "p.csv", "--json")
    told = json.loads(result.stdout)
    assert told["accuracy"] > 0.85
    assert f"accuracy: {told['accuracy']:.4f} (539 rows)" in result.stderr
    assert (told["rows"], told["classes"]) == (539, list(range(10)))
    written = pd.read_csv(tmp_path / "p.csv")
    assert list(written.columns) == ["label", *(f"p({digit})" for digit in range(10))]
    np.testing.assert_allclose(written.iloc[:, 1:].sum(axis=1), 1)
    digits = isthmus.data.open("digits:test")
    model = isthmus.load(workshop / "clf")
    assert written["label"].tolist() == model.predict(digits.X).tolist()
    assert told["accuracy"] == model.score(digits.X, digits.labels)


def test_a_fit_says_what_it_learned(workshop, tmp_path, fine):
    asked = ("classify", "fit", "digits", "--encoder", workshop / "digits.isthmus", "-o", tmp_path / "clf", *QUICK)
    result = fine(*asked, "--json")
    for told in (
        "data: digits:train: 1,258 rows, images of 8x8 float32",
        "classifier: 10 classes from a code of 16 (deep, fine-tuned), 1,132 rows a pass, seed 0",
        "learning: 15 epochs",
        "error of the rows held out, and a tenth of their cross-entropy: 0.",
        f"classifier written to {tmp_path / 'clf'}",
    ):
        assert told in result.stderr
    told = json.loads(result.stdout)
    assert (told["kind"], told["encoder"], told["rows"], told["frozen"]) == ("classifier", "deep", 1132, False)
    X = isthmus.data.open("digits:test").X
    ours, theirs = (isthmus.load(folder / "clf").predict_proba(X) for folder in (tmp_path, workshop))
    np.testing.assert_array_equal(ours, theirs)
    quiet = fine(*asked, "--force", "--quiet")
    assert quiet.stdout == quiet.stderr == ""


def test_the_options_reach_the_classifier(workshop, tmp_path, fine):
    np.save(tmp_path / "labels.npy", np.array(["a", "b", "?"] * 20))
    fine(
        "classify", "fit", workshop / "table.csv", "--labels", tmp_path / "labels.npy", "--unlabeled", "?",
        "--encoder", workshop / "table.isthmus", "-o", tmp_path / "clf", "--frozen", "--epochs", 2, "--seed", 4,
        "--time-limit", "5m", "--validation", "0.5", "--precision", "fp32", "--device", "cpu",
        "--set", "hidden_noise=0.1", "--set", "hidden_sizes=8,6",
    )  # fmt: skip
    model = isthmus.load(tmp_path / "clf")
    chosen = {
        "unlabeled": "?", "frozen": True, "max_epochs": 2, "random_state": 4, "time_limit": 300.0,
        "validation_fraction": 0.5, "precision": "fp32", "device": "cpu", "hidden_noise": 0.1, "hidden_sizes": (8, 6),
    }  # fmt: skip
    assert {name: value for name, value in model.get_params().items() if name in chosen} == chosen
    assert (model.classes_.tolist(), model.n_rows_) == (["a", "b"], 20)


@pytest.mark.parametrize("typed", ["NaN", "nan", ""])
@pytest.mark.parametrize("classes", [("a", "b"), (3, 4)])
def test_empty_cells_can_be_named_as_no_label(typed, classes, table, workshop, tmp_path, fine):
    labels = [classes[0], classes[1], None] * 20
    table.drop(columns="species").assign(species=labels).to_csv(tmp_path / "gaps.csv", index=False)
    fine(
        "classify", "fit", tmp_path / "gaps.csv", "--labels", "species", "--unlabeled", typed, "--encoder",
        workshop / "table.isthmus", "-o", tmp_path / "clf", "--validation", "0", *QUICK,
    )  # fmt: skip
    model = isthmus.load(tmp_path / "clf")
    assert (model.classes_.tolist(), model.n_rows_) == (list(classes), 40)
    asked = ("classify", "predict", tmp_path / "clf", tmp_path / "gaps.csv", "--labels", "species")
    assert "(40 rows)" in fine(*asked, "-o", tmp_path / "p.csv").stderr


def test_a_label_that_is_no_number_is_refused_where_labels_are_numbers(workshop, tmp_path, refused):
    asked = ("classify", "fit", "digits", "--encoder", workshop / "digits.isthmus", "-o", tmp_path / "clf", *QUICK)
    refused((*asked, "--unlabeled", "foo"), "--unlabeled foo: the labels are numbers; give a number, or NaN for empty")


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.npz"])
def test_classes_of_a_table_are_written_in_each_format(name, workshop, tmp_path, fine, table):
    asked = ("--labels", "species", "--encoder", workshop / "table.isthmus")
    fine("classify", "fit", workshop / "table.csv", *asked, "-o", tmp_path / "clf", *QUICK)
    fine("classify", "predict", tmp_path / "clf", workshop / "table.csv", "-o", tmp_path / name)
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


def test_labels_of_other_classes_are_only_refused_when_they_were_asked_for(workshop, tmp_path, fine, refused):
    digits = isthmus.data.open("digits:test")
    np.savez(tmp_path / "rows.npz", X=digits.X, y=digits.labels + 5)
    asked = ("classify", "predict", workshop / "clf", tmp_path / "rows.npz", "-o", tmp_path / "p.csv")
    result = fine(*asked, "--json")
    assert "note: not compared with the data's own labels: y holds the class 10" in result.stderr
    assert "accuracy" not in json.loads(result.stdout)
    np.save(tmp_path / "labels.npy", digits.labels + 5)
    refused(
        (*asked, "--force", "--labels", tmp_path / "labels.npy"),
        "y holds the class 10, which is not one of the training classes",
    )


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("fit", "digits", "--encoder", "digits.isthmus", "-o", "clf"), "clf: the file exists; choose a new name"),
        (("fit", "digits", "--encoder", "no.isthmus", "-o", "new"), "no such file: no.isthmus"),
        (("fit", "digits", "--encoder", "clf", "-o", "new"), "clf: holds a classifier, not an autoencoder"),
        (("fit", "table.csv", "--encoder", "table.isthmus", "-o", "new"), "has no labels; name them by --labels"),
        (
            ("fit", "table.csv", "--encoder", "table.isthmus", "-o", "new", "--labels", "speceis"),
            "has no column 'speceis'; did you mean 'species'?",
        ),
        (
            ("fit", "digits", "--encoder", "digits.isthmus", "-o", "new", "--set", "hidden_nois=1"),
            "the kind 'classifier' has no setting 'hidden_nois'; did you mean 'hidden_noise'",
        ),
        (
            ("fit", "digits", "--encoder", "digits.isthmus", "-o", "new", "--epochs", "2", "--set", "max_epochs=3"),
            "max_epochs is given by an option and by --set max_epochs=...; give it once",
        ),
        (("predict", "digits.isthmus", "digits:test", "-o", "new.csv"), "holds no classifier but a 'deep'; make one"),
        (
            ("predict", "clf", "table.csv", "-o", "new.csv"),
            "column 'city' holds no numbers, and numbers are wanted here",
        ),
        (("predict", "clf", "digits:test", "-o", "new.txt"), "the suffix .txt is no format of predictions; use .csv"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(args, told, workshop, monkeypatch, refused):
    monkeypatch.chdir(workshop)
    refused(("classify", *args), told)


def test_commands_for_autoencoders_refuse_a_classifier_and_info_tells_of_it(workshop, tmp_path, refused, fine):
    for command in (
        ("encode", workshop / "clf", "digits", "-o", tmp_path / "h.npy"),
        ("evaluate", workshop / "clf", "digits"),
    ):
        refused(command, "holds a classifier, not an autoencoder; put it to use by isthmus classify predict")
    told = json.loads(fine("info", workshop / "clf", "--json").stdout)
    assert (told["kind"], told["code_size"], told["recipe"]["encoder"]) == ("classifier", 16, "deep")


def test_help_lists_the_commands_of_classify(fine):
    words = fine("classify", "--help").stdout
    assert "fit" in words
    assert "predict" in words
