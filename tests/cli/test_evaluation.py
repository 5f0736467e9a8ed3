"""`isthmus evaluate`, `report`, `info` and `kinds`."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import isthmus
from isthmus.cli import evaluation
from isthmus.estimators import model_files
from isthmus.evaluation.fidelity import fidelity_of
from isthmus.evaluation.likelihood_reports import ANNEALING, LikelihoodReport, likelihood_of
from tests.estimators.test_inferences import GaussianAutoencoder

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


def test_fidelity_compares_samples_with_the_rows(inputs, tmp_path, succeed, refused):
    model = tmp_path / "vae.isthmus"
    succeed("fit", inputs / "table.csv", "-o", model, "--kind", "vae", "--epochs", 2, "--seed", 0, "--quiet")
    command = ("evaluate", model, inputs / "table.csv")
    assert "samples:" not in succeed(*command).stdout
    result = succeed(*command, "--fidelity")
    for message in ("distance of marginals", "difference of associations", "close to a row", "AUC of a classifier"):
        assert f"samples: {message}" in re.sub(r"mean (d)", r"\1", result.stdout)
    facts = json.loads(succeed(*command, "--fidelity", "--json").stdout)["fidelity"]
    found = fidelity_of(isthmus.load(model), pd.read_csv(inputs / "table.csv")).to_dict()
    assert facts == json.loads(json.dumps(found))
    refused(("evaluate", inputs / "table.isthmus", inputs / "table.csv", "--fidelity"), "--fidelity: ", "no samples")


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


def test_evaluate_prints_the_precision_of_the_log_density_and_its_comparison(tmp_path, succeed):
    rows = (np.random.default_rng(0).random((40, 6)) < 0.3).astype(float)
    np.save(tmp_path / "x.npy", rows)
    succeed("fit", tmp_path / "x.npy", "-o", tmp_path / "m", "--kind", "rbm", "--code-size", 3, "--epochs", 1)
    command = ("evaluate", tmp_path / "m", tmp_path / "x.npy")
    found = json.loads(succeed(*command, "--json").stdout)["log_likelihood"]
    assert (found["kind"], found["n_draws"], found["n_rows"]) == ("exact", None, 40)
    result = succeed(*command, "--draws", 7)
    low, high = found["interval"]
    assert f"its 95% interval, over rows │ {low:.4g} to {high:.4g}" in " ".join(result.stdout.split())
    assert f"log p(x): {found['comparable']}" in result.stdout
    assert "effective sample size" not in result.stdout
    assert "note: --draws has no effect on kind rbm, whose inference is not a distribution" in result.stderr


def test_evaluate_prints_the_samples_of_a_distribution(monkeypatch, tmp_path, succeed, refused):
    monkeypatch.setitem(model_files._REGISTERED, GaussianAutoencoder.kind, GaussianAutoencoder)
    rows = (np.random.default_rng(0).random((40, 6)) < 0.3).astype(float)
    np.save(tmp_path / "x.npy", rows)
    model = GaussianAutoencoder(code_size=2, likelihood="bernoulli", max_epochs=1, random_state=0).fit(rows)
    model.save(tmp_path / "m")
    command = ("evaluate", tmp_path / "m", tmp_path / "x.npy")
    for draws in (100, 30):
        option = ("--draws", draws) if draws != 100 else ()
        facts = json.loads(succeed(*command, *option, "--json").stdout)
        found = facts["log_likelihood"]
        expected = likelihood_of(model, rows, draws)
        assert (found["n_draws"], facts["score_kind"]) == (draws, "bound")
        assert facts["log_p_per_row"] == pytest.approx(expected.mean, rel=1e-6)
        words = " ".join(succeed(*command, *option).stdout.split())
        assert f"log p(x) per row (nats), lower bound │ {expected.mean:.4g}" in words
        assert f"importance sampling, {draws} samples per row" in words
        assert f"its effective sample size │ {expected.mean_effective_sample_size:.4g} of {draws}" in words
        assert f"smallest of a row: {expected.smallest_effective_sample_size:.3g}" in words
        assert "its bias, estimated (nats)" in words
        few = expected.smallest_effective_sample_size < evaluation.FEW_SAMPLES
        assert ("the bias of such rows is underestimated" in words) == few
        assert "it is a lower bound, so compare it with bounds by the same number of samples" in words
    one = succeed(*command, "--draws", 1).stdout
    assert "1 sample per row" in one
    assert "its bias" not in one
    nothing = succeed(*command, "--draws", 0)
    assert "log p(x)" not in nothing.stdout
    assert nothing.stderr == ""
    refused((*command, "--draws", -1), "--draws")


def test_evaluate_prints_chains_for_log_z(capsys):
    report = LikelihoodReport(
        "estimate", ANNEALING, -80.0, 0.5, 1000, 784.0, "bernoulli", True, 100, 0.1, 92.5, 92.5
    )  # fmt: skip
    facts = {
        "model": "m", "data": "x", "rows": 1000, "kind": "rbm", "code_size": 5, "zero_share": 0.0, "dead_units": 0,
        "log_p_per_row": -80.0, "score_kind": "estimate", "log_likelihood": report.as_dict(),
    }  # fmt: skip
    evaluation._print_results(facts)
    words = " ".join(capsys.readouterr().out.split())
    assert "annealed importance sampling, 100 chains" in words
    assert "its effective sample size │ 92.5 of 100 │ │ │" in words
    assert "log p(x): Compare it with log p(x) of other models for the same rows, binarised in the same way" in words


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


def test_prefixes_of_a_code_are_printed_and_are_in_json(inputs, tmp_path, succeed):
    X, path = np.load(inputs / "array.npy"), tmp_path / "nested.isthmus"
    sparsity = isthmus.TopK(k=2, prefixes=(4, 8))
    isthmus.SparseAutoencoder(code_size=16, sparsity=sparsity, max_epochs=2, random_state=0).fit(X).save(path)
    table = succeed("evaluate", path, inputs / "array.npy").stdout
    assert re.search(r"squared error of the first 4 units +│ +[\d.]+ │", table)
    assert "squared error of the first 8 units" in table
    assert "squared error of the first 16" not in table
    found = json.loads(succeed("evaluate", path, inputs / "array.npy", "--json").stdout)["prefixes"]
    assert [part["n_units"] for part in found] == [4, 8, 16]
    assert found[0]["dead_rate"] == found[0]["dead_units"] / 4
    assert found[0]["splits"] >= 0


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
    assert (facts["kind"], facts["code_size"], facts["hidden_sizes"], facts["columns"]) == ("deep", 2, [8], 4)
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


def test_kinds_prints_the_choices_of_arguments_that_are_plain_strings(succeed):
    from isthmus.estimators.registry import KINDS, choices_of

    for kind, estimator in KINDS.items():
        found = json.loads(succeed("kinds", kind, "--json").stdout)["arguments"]
        assert found["missing"]["choices"] == ["refuse", "mean", "median", "mask"]
        for name, entry in found.items():
            assert tuple(entry["choices"]) in ((), choices_of(estimator, name))
            assert not entry["choices"] or entry["default"] is None or entry["default"] in entry["choices"]
            for choice in entry["choices"]:
                estimator(**{name: choice})._check_parameters()
    found = json.loads(succeed("kinds", "psd", "--json").stdout)["arguments"]
    assert found["transform_inference"]["choices"] == ["encoder", "optimal"]
    assert found["code_activation"]["choices"][:3] == ["shrinkage", "gain-tanh", "sigmoid"]
    assert found["code_size"]["choices"] == []
    assert "online, gradient" in succeed("kinds", "sparse-coding").stdout


def test_quiet_commands_print_the_json_that_is_asked_for_and_nothing_else(inputs, tmp_path, succeed):
    model, data = inputs / "table.isthmus", inputs / "table.csv"
    for command in (("evaluate", model, data), ("describe", data)):
        result = succeed(*command, "--quiet")
        assert (result.stdout, result.stderr) == ("", "")
        printed = succeed(*command, "--quiet", "--json")
        assert json.loads(printed.stdout).keys() == json.loads(succeed(*command, "--json").stdout).keys()
        assert printed.stderr == ""
    result = succeed("evaluate", model, data, "--quiet", "-o", tmp_path / "e.csv")
    assert (result.stdout, result.stderr) == ("", "")


def test_the_version_is_printed(succeed):
    assert succeed("--version").stdout == f"isthmus {isthmus.__version__}\n"
