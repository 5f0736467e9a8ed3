"""`isthmus evaluate`, `report`, `info` and `kinds`."""

import json

import numpy as np
import pytest

import isthmus

PROMISED = {"rows", "code_size", "squared_error_per_row", "r2", "pca_squared_error_per_row", "nll_per_row"}
WITH_LABELS = {"linear_probe_accuracy", "knn_accuracy"}


def test_evaluate_prints_one_json_object_with_the_documented_keys(inputs, succeed):
    result = succeed("evaluate", inputs / "array.isthmus", inputs / "array.npy", "--json")
    facts = json.loads(result.stdout)
    assert set(facts) >= PROMISED
    assert not WITH_LABELS & set(facts)
    model, X = isthmus.load(inputs / "array.isthmus"), np.load(inputs / "array.npy")
    assert facts["rows"] == 60
    assert facts["squared_error_per_row"] == pytest.approx(model.reconstruction_error(X).mean(), rel=1e-5)
    assert facts["nll_per_row"] == pytest.approx(-model.score(X), rel=1e-5)


@pytest.mark.parametrize("source", ["column", "file"])
def test_labels_come_from_a_column_or_from_a_file(source, inputs, tmp_path, succeed, table):
    labels = "species"
    if source == "file":
        labels = tmp_path / "labels.npy"
        np.save(labels, (table["species"] == "long").to_numpy())
    facts = json.loads(
        succeed("evaluate", inputs / "table.isthmus", inputs / "table.csv", "--labels", labels, "--json").stdout
    )
    assert set(facts) >= PROMISED | WITH_LABELS
    assert facts["classes"] == 2


def test_labels_used_in_training_are_noted(inputs, succeed):
    result = succeed("evaluate", inputs / "table.isthmus", inputs / "table.csv", "--labels", "city", "--json")
    assert "fitted on the label column 'city'" in result.stderr
    assert json.loads(result.stdout)["classes"] == 3


def test_labels_in_the_data_are_used_by_default(tmp_path, succeed):
    succeed("fit", "digits", "-o", tmp_path / "m.isthmus", "--kind", "linear", "--code-size", 4, "--epochs", 2)
    facts = json.loads(succeed("evaluate", tmp_path / "m.isthmus", "digits:test", "--json").stdout)
    assert facts["classes"] == 10
    assert 0.2 < facts["linear_probe_accuracy"] <= 1


def test_labels_in_the_data_that_are_not_classes_are_ignored_with_a_note(inputs, tmp_path, succeed):
    X = np.load(inputs / "array.npy")
    np.savez(tmp_path / "rows.npz", X=X, y=np.arange(len(X)) / 7)
    result = succeed("evaluate", inputs / "array.isthmus", tmp_path / "rows.npz", "--json")
    assert "the labels in the data are ignored" in result.stderr
    assert not WITH_LABELS & set(json.loads(result.stdout))


def test_lists_of_topics_are_refused_as_labels(tmp_path, succeed, refused):
    texts = ["tin fell on monday", "wheat held on monday", "tin and wheat fell", "cocoa rose on monday"] * 5
    lines = [f'{{"text": "{text}", "topics": ["tin", "news"]}}\n' for text in texts]
    (tmp_path / "news.jsonl").write_text("".join(lines))
    succeed("fit", tmp_path / "news.jsonl", "-o", tmp_path / "m.isthmus", "--kind", "linear", "--epochs", 1)
    command = ("evaluate", tmp_path / "m.isthmus", tmp_path / "news.jsonl", "--labels", "topics")
    refused(command, "each label is a list of classes")


def test_evaluate_prints_a_table_with_baselines(inputs, succeed):
    result = succeed("evaluate", inputs / "table.isthmus", inputs / "table.csv", "--labels", "species")
    for message in (
        "squared error per row",
        "baseline: PCA, same code size",
        "linear probe",
        "nearest neighbours",
        "60 rows",
    ):
        assert message in result.stdout
    assert result.stderr == ""


def test_rows_outside_the_range_of_the_training_data_give_one_warning(tmp_path, succeed):
    grey = np.random.default_rng(0).random((40, 4))
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "bytes.npy", np.round(255 * grey))
    succeed(
        "fit", tmp_path / "grey.npy", "-o", tmp_path / "m", "--set", "likelihood=bernoulli", "--epochs", 1, "--quiet"
    )
    assert (
        succeed("encode", tmp_path / "m", tmp_path / "grey.npy", "-o", tmp_path / "a.npy").stderr.count("warning") == 0
    )
    message = succeed("encode", tmp_path / "m", tmp_path / "bytes.npy", "-o", tmp_path / "b.npy").stderr
    assert message.count("warning") == 1
    assert "warning: row 0, column 'x0' is 162" in message
    assert ".py" not in message
    assert succeed("encode", tmp_path / "m", tmp_path / "bytes.npy", "-o", tmp_path / "c.npy", "--quiet").stderr == ""
    report = succeed("report", tmp_path / "m", tmp_path / "bytes.npy", "-o", tmp_path / "r.html").stderr
    assert report.count("far outside") == 1


def test_evaluate_prints_the_log_density_and_its_kind(tmp_path, succeed):
    rows = (np.random.default_rng(0).random((40, 6)) < 0.3).astype(float)
    np.save(tmp_path / "x.npy", rows)
    for kind, size, score_kind, words in (("rbm", 3, "exact", "exact"), ("dbm", 3, "bound", "lower bound")):
        succeed("fit", tmp_path / "x.npy", "-o", tmp_path / kind, "--kind", kind, "--code-size", size, "--epochs", 1)
        facts = json.loads(succeed("evaluate", tmp_path / kind, tmp_path / "x.npy", "--json").stdout)
        expected = isthmus.load(tmp_path / kind).score_samples(rows).mean()
        assert (facts["score_kind"], facts["log_p_per_row"]) == (score_kind, pytest.approx(expected))
        assert words in succeed("evaluate", tmp_path / kind, tmp_path / "x.npy").stdout


def test_exact_zeros_and_dead_units_are_printed_if_there_are_any(inputs, tmp_path, succeed):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 4)))
    succeed(
        "fit", tmp_path / "x.npy", "-o", tmp_path / "m", "--kind", "sparse", "--code-size", 50, "--epochs", 1,
        "--set", "sparsity=topk", "--set", "sparsity.k=1", "--set", "random_state=0",
    )  # fmt: skip
    command = ("evaluate", tmp_path / "m", tmp_path / "x.npy")
    facts = json.loads(succeed(*command, "--json").stdout)
    assert facts["dead_units"] > 0
    words = " ".join(succeed(*command).stdout.split())
    assert f"exact zeros in the codes │ {facts['zero_share']:.1%}" in words
    assert f"dead units (zero in every row) │ {facts['dead_units']} of 50" in words
    plain = succeed("evaluate", inputs / "array.isthmus", inputs / "array.npy").stdout
    assert "zero" not in plain


def test_no_relative_error_is_printed_if_pca_is_exact(tmp_path, succeed):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 4)))
    succeed("fit", tmp_path / "x.npy", "-o", tmp_path / "m", "--kind", "sparse", "--code-size", 6, "--epochs", 1)
    facts = json.loads(succeed("evaluate", tmp_path / "m", tmp_path / "x.npy", "--json").stdout)
    assert facts["below_pca"] is None
    words = succeed("evaluate", tmp_path / "m", tmp_path / "x.npy").stdout
    assert "PCA of this code size is exact" in words
    assert "none" in words
    assert "same code size" not in words


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("speceis", "no column 'speceis'; did you mean 'species'?"),
        ("length", "60 different values"),
        ("none.npy", "none.npy: no such file"),
        ("short.npy", "shape (3,) for 60 rows"),
        ("objects.npy", "cannot be read as a .npy array"),
    ],
)
def test_invalid_labels_are_refused(labels, message, inputs, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    np.save("short.npy", np.zeros(3))
    np.save("objects.npy", np.array([{}, None], object), allow_pickle=True)
    refused(("evaluate", inputs / "table.isthmus", inputs / "table.csv", "--labels", labels, "--json"), message)


def test_the_report_is_one_file_and_is_overwritten_only_with_force(inputs, tmp_path, succeed, refused):
    arguments = (
        "report",
        inputs / "table.isthmus",
        inputs / "table.csv",
        "-o",
        tmp_path / "r.html",
        "--labels",
        "species",
    )
    succeed(*arguments)
    assert "</html>" in (tmp_path / "r.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    refused(arguments, "the file exists", "--force")
    succeed(*arguments, "--force")


def test_info_prints_the_contents_of_a_model_file(inputs, succeed):
    facts = json.loads(succeed("info", inputs / "table.isthmus", "--json").stdout)
    assert (facts["kind"], facts["code_size"], facts["hidden_sizes"], facts["columns"]) == ("deep", 2, [8], 6)
    assert facts["preprocessing"]["exclude"] == ["species"]
    assert facts["history"]["stopped"] == "max_epochs"
    assert facts["configuration"]["hidden_sizes"] == [8]
    assert facts["versions"]["isthmus"] == isthmus.__version__
    assert {"findings", "notes"} <= set(facts)
    words = succeed("info", inputs / "table.isthmus").stdout
    for word in ("deep", "hidden sizes", "exclude", "species", "max_epochs", "isthmus " + isthmus.__version__):
        assert word in words


@pytest.mark.parametrize("name", ["r.pdf", "r"])
def test_a_report_of_another_format_is_refused_before_the_model_is_read(name, tmp_path, refused):
    found = "unknown suffix .pdf" if name == "r.pdf" else "no suffix"
    arguments = ("report", tmp_path / "no.isthmus", tmp_path / "no.npy", "-o", tmp_path / name)
    refused(arguments, f"{name}: {found}; the report is HTML; write it to a .html file")


def test_kinds_lists_every_kind_with_its_summary_and_in_json_its_source(succeed):
    from isthmus.estimators.registry import KINDS

    rows = json.loads(succeed("kinds", "--json").stdout)["kinds"]
    assert [row["kind"] for row in rows] == list(KINDS)
    assert all(row["summary"].endswith(".") and row["source"] for row in rows)
    words = succeed("kinds").stdout
    assert all(kind in words for kind in KINDS)
    assert "source" not in words


def test_the_version_is_printed(succeed):
    assert succeed("--version").stdout == f"isthmus {isthmus.__version__}\n"
