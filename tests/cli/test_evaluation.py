"""`isthmus evaluate`, `report`, `info`, `kinds`: what is told of a model."""

import json

import numpy as np
import pytest

import isthmus

PROMISED = {"rows", "code_size", "squared_error_per_row", "r2", "pca_squared_error_per_row", "nll_per_row"}
WITH_LABELS = {"linear_probe_accuracy", "knn_accuracy"}


def test_evaluate_prints_one_json_object_with_what_it_promises(shop, fine):
    result = fine("evaluate", shop / "array.isthmus", shop / "array.npy", "--json")
    told = json.loads(result.stdout)
    assert set(told) >= PROMISED
    assert not WITH_LABELS & set(told)
    model, X = isthmus.load(shop / "array.isthmus"), np.load(shop / "array.npy")
    assert told["rows"] == 60
    assert told["squared_error_per_row"] == pytest.approx(model.reconstruction_error(X).mean(), rel=1e-5)
    assert told["nll_per_row"] == pytest.approx(-model.score(X), rel=1e-5)


@pytest.mark.parametrize("source", ["column", "file"])
def test_labels_come_from_a_column_or_from_a_file(source, shop, tmp_path, fine, table):
    labels = "species"
    if source == "file":
        labels = tmp_path / "labels.npy"
        np.save(labels, (table["species"] == "long").to_numpy())
    told = json.loads(fine("evaluate", shop / "table.isthmus", shop / "table.csv", "--labels", labels, "--json").stdout)
    assert set(told) >= PROMISED | WITH_LABELS
    assert told["classes"] == 2


def test_labels_that_the_model_has_seen_are_noted(shop, fine):
    result = fine("evaluate", shop / "table.isthmus", shop / "table.csv", "--labels", "city", "--json")
    assert "fitted on the column of labels 'city' too" in result.stderr
    assert json.loads(result.stdout)["classes"] == 3


def test_the_datas_own_labels_are_used_when_none_are_named(tmp_path, fine):
    fine("fit", "digits", "-o", tmp_path / "m.isthmus", "--kind", "linear", "--code-size", 4, "--epochs", 2)
    told = json.loads(fine("evaluate", tmp_path / "m.isthmus", "digits:test", "--json").stdout)
    assert told["classes"] == 10
    assert 0.2 < told["linear_probe_accuracy"] <= 1


def test_own_labels_that_are_no_classes_are_left_out_with_a_note(shop, tmp_path, fine):
    X = np.load(shop / "array.npy")
    np.savez(tmp_path / "rows.npz", X=X, y=np.arange(len(X)) / 7)
    result = fine("evaluate", shop / "array.isthmus", tmp_path / "rows.npz", "--json")
    assert "judged without labels" in result.stderr
    assert not WITH_LABELS & set(json.loads(result.stdout))


def test_lists_of_topics_are_no_classes(tmp_path, fine, refused):
    texts = ["tin fell on monday", "wheat held on monday", "tin and wheat fell", "cocoa rose on monday"] * 5
    lines = [f'{{"text": "{text}", "topics": ["tin", "news"]}}\n' for text in texts]
    (tmp_path / "news.jsonl").write_text("".join(lines))
    fine("fit", tmp_path / "news.jsonl", "-o", tmp_path / "m.isthmus", "--kind", "linear", "--epochs", 1)
    asked = ("evaluate", tmp_path / "m.isthmus", tmp_path / "news.jsonl", "--labels", "topics")
    refused(asked, "its labels are lists of classes, and the probes take one class a row")


def test_evaluate_prints_a_table_with_what_each_number_stands_beside(shop, fine):
    result = fine("evaluate", shop / "table.isthmus", shop / "table.csv", "--labels", "species")
    for told in ("squared error", "principal components, same size", "linear probe", "nearest neighbours", "60 rows"):
        assert told in result.stdout
    assert result.stderr == ""


def test_rows_in_another_unit_than_those_learned_from_are_read_with_a_warning(tmp_path, fine):
    grey = np.random.default_rng(0).random((40, 4))
    np.save(tmp_path / "grey.npy", grey)
    np.save(tmp_path / "bytes.npy", np.round(255 * grey))
    fine("fit", tmp_path / "grey.npy", "-o", tmp_path / "m", "--set", "likelihood=bernoulli", "--epochs", 1, "--quiet")
    assert fine("encode", tmp_path / "m", tmp_path / "grey.npy", "-o", tmp_path / "a.npy").stderr.count("warning") == 0
    told = fine("encode", tmp_path / "m", tmp_path / "bytes.npy", "-o", tmp_path / "b.npy").stderr
    assert told.count("warning") == 1
    assert (
        "warning: row 0, column 'x0' is 162 in model space, far outside the domain of its likelihood (values in [0,"
        in told
    )
    assert ".py" not in told
    assert fine("encode", tmp_path / "m", tmp_path / "bytes.npy", "-o", tmp_path / "c.npy", "--quiet").stderr == ""
    report = fine("report", tmp_path / "m", tmp_path / "bytes.npy", "-o", tmp_path / "r.html").stderr
    assert report.count("far outside") == 1


def test_of_a_density_what_it_gives_the_rows_is_told_and_in_which_sense(tmp_path, fine):
    rows = (np.random.default_rng(0).random((40, 6)) < 0.3).astype(float)
    np.save(tmp_path / "x.npy", rows)
    for kind, size, sense, words in (("rbm", 3, "exact", "log p(x) a row"), ("dbm", 3, "bound", "at least")):
        fine("fit", tmp_path / "x.npy", "-o", tmp_path / kind, "--kind", kind, "--code-size", size, "--epochs", 1)
        told = json.loads(fine("evaluate", tmp_path / kind, tmp_path / "x.npy", "--json").stdout)
        expected = isthmus.load(tmp_path / kind).score_samples(rows).mean()
        assert (told["score_kind"], told["log_p_per_row"]) == (sense, pytest.approx(expected))
        assert words in fine("evaluate", tmp_path / kind, tmp_path / "x.npy").stdout


def test_exact_zeros_and_dead_units_are_told_where_there_are_any(shop, tmp_path, fine):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 4)))
    fine(
        "fit", tmp_path / "x.npy", "-o", tmp_path / "m", "--kind", "sparse", "--code-size", 50, "--epochs", 1,
        "--set", "sparsity=topk", "--set", "k=1", "--set", "random_state=0",
    )  # fmt: skip
    asked = ("evaluate", tmp_path / "m", tmp_path / "x.npy")
    told = json.loads(fine(*asked, "--json").stdout)
    assert told["dead_units"] > 0
    words = " ".join(fine(*asked).stdout.split())
    assert f"exact zeros in the codes │ {told['zero_share']:.1%}" in words
    assert f"dead units, zero in every row │ {told['dead_units']} │ 50 │ units" in words
    plain = fine("evaluate", shop / "array.isthmus", shop / "array.npy").stdout
    assert "zero" not in plain


def test_no_relative_error_is_given_where_pca_is_exact(tmp_path, fine):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 4)))
    fine("fit", tmp_path / "x.npy", "-o", tmp_path / "m", "--kind", "sparse", "--code-size", 6, "--epochs", 1)
    told = json.loads(fine("evaluate", tmp_path / "m", tmp_path / "x.npy", "--json").stdout)
    assert told["below_pca"] is None
    words = fine("evaluate", tmp_path / "m", tmp_path / "x.npy").stdout
    assert "as many principal components" in words
    assert "none" in words
    assert "same size" not in words


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("speceis", "has no column 'speceis'; did you mean 'species'?"),
        ("length", "60 different values in 60 rows"),
        ("none.npy", "none.npy: no such file"),
        ("short.npy", "shape (3,) for 60 rows"),
        ("objects.npy", "cannot be read as a .npy array"),
    ],
)
def test_labels_that_are_none_are_refused(labels, told, shop, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    np.save("short.npy", np.zeros(3))
    np.save("objects.npy", np.array([{}, None], object), allow_pickle=True)
    refused(("evaluate", shop / "table.isthmus", shop / "table.csv", "--labels", labels, "--json"), told)


def test_the_report_is_one_file_and_is_replaced_only_with_force(shop, tmp_path, fine, refused):
    arguments = ("report", shop / "table.isthmus", shop / "table.csv", "-o", tmp_path / "r.html", "--labels", "species")
    fine(*arguments)
    assert "</html>" in (tmp_path / "r.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    refused(arguments, "the file exists; choose a new name, or replace it with --force")
    fine(*arguments, "--force")


def test_info_tells_what_a_model_file_holds(shop, fine):
    told = json.loads(fine("info", shop / "table.isthmus", "--json").stdout)
    assert (told["kind"], told["code_size"], told["hidden_sizes"], told["columns"]) == ("deep", 2, [8], 6)
    assert told["preprocessing"]["exclude"] == ["species"]
    assert told["history"]["stopped"] == "max_epochs"
    assert told["recipe"]["hidden_sizes"] == [8]
    assert told["versions"]["isthmus"] == isthmus.__version__
    assert {"findings", "notes"} <= set(told)
    words = fine("info", shop / "table.isthmus").stdout
    for word in ("deep", "hidden sizes", "exclude", "species", "max_epochs", "isthmus " + isthmus.__version__):
        assert word in words


def test_kinds_lists_every_kind_with_what_it_is_and_its_source(fine):
    from isthmus.estimators.registry import KINDS

    told = json.loads(fine("kinds", "--json").stdout)["kinds"]
    assert [row["kind"] for row in told] == list(KINDS)
    assert all(row["summary"].endswith(".") and row["source"] for row in told)
    words = fine("kinds").stdout
    assert all(kind in words for kind in KINDS)


def test_the_version_is_told(fine):
    assert fine("--version").stdout == f"isthmus {isthmus.__version__}\n"
