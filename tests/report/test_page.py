import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import sparse

import isthmus.report.page
from isthmus import Autoencoder, InputError, LinearAutoencoder, RestrictedBoltzmannMachine, StackedAutoencoder
from isthmus.data.dataset import Dataset
from isthmus.evaluation.fidelity import fidelity_of
from isthmus.report import write

from .cases import CASES, NASTY, QUOTED, narrow_model
from .pages import CHROMIUM, Page, run_in_browser

SECTIONS = [
    "findings", "training", "reconstructions", "map", "code", "units", "first-layer", "error", "pca", "configuration",
]  # fmt: skip
WRITTEN: dict = {}


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """name -> (case, page), each written once."""

    def find(name):
        if name not in WRITTEN:
            case = CASES[name]()
            path = tmp_path_factory.mktemp("page") / "report.html"
            assert write(case.model, case.X, path, labels=case.labels, **case.options) == path
            WRITTEN[name] = case, Page(path)
        return WRITTEN[name]

    return find


@pytest.fixture(params=list(CASES))
def written(request, page_of):
    return page_of(request.param)


@pytest.fixture(scope="module")
def small():
    X = np.random.default_rng(0).normal(size=(30, 4))
    return LinearAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X), X


def strings(data):
    """Every text in a JSON value."""
    if isinstance(data, str):
        yield data
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from strings(item)


def test_no_request_leaves_the_page(written):
    _, page = written
    assert page.addresses
    for address in page.addresses:
        assert address.startswith(("data:image/", "#")), address
    for address in re.findall(r"url\(([^)]*)\)|@import", page.styles):
        assert address.strip("\"'").startswith("data:")
    loading = {"link", "iframe", "object", "embed", "base", "form", "audio", "video"}
    assert not {tag for tag, _ in page.elements} & loading


def test_the_content_security_policy_blocks_all_requests(written):
    _, page = written
    metas = [known for tag, known in page.elements if tag == "meta"]
    [policy] = [known["content"] for known in metas if known.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "connect-src" not in policy


def test_every_section_and_every_chart_has_its_element(written):
    _, page = written
    assert [name for name in SECTIONS if page.ids.get(name) != "section"] == []
    drawn = set(page.data["charts"])
    assert drawn >= {"loss", "map", "spectrum", "comparison", "error"}
    assert {f"chart-{name}" for name in drawn} <= set(page.ids)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_user_text_is_escaped(written):
    _, page = written
    assert page.handlers == []
    assert [tag for tag, _ in page.elements].count("script") == (6 if "decoder" in page.ids else 4)
    assert not any(known.get("src") == "x" for _, known in page.elements)
    # Plotly interprets some HTML in texts.
    for text in strings(page.data["charts"]):
        assert not re.search(r"<(?!/?b>|br>|extra>|/extra>)", text), text


def test_user_text_of_a_table_is_shown_unchanged(page_of):
    case, page = page_of("table")
    assert f"Wines {NASTY}" in page.text
    assert page.text.count(NASTY) > 5
    assert "b<b>&" in page.text
    assert page.data["points"]["name"][0] == f"{NASTY} 0"
    assert page.data["points"]["label"] == list(case.labels)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_user_text_unchanged_and_does_not_execute_it(page_of, tmp_path):
    case, _ = page_of("table")
    path = write(case.model, case.X, tmp_path / "report.html", labels=case.labels, **case.options)
    page = run_in_browser(path, tmp_path)
    [body] = [known for tag, known in page.elements if tag == "body"]
    assert "id" not in body, "the page executed text of the user"
    legend = [known["data-unformatted"] for tag, known in page.elements if known.get("class") == "legendtext"]
    ticks = [known["data-unformatted"] for tag, known in page.elements if tag == "text" and "data-unformatted" in known]
    assert f"{QUOTED[:23]}…" in legend
    assert {"var(--plus)", QUOTED} <= set(ticks)
    assert f"{NASTY[:31]}…" in page.text
    charts = page.text.partition("Units of the code")[2]
    assert charts.count(QUOTED) > 2
    assert "&quot;" not in charts


def test_images_are_shown_with_their_reconstructions_by_the_model_and_by_pca(page_of):
    case, page = page_of("images")
    best = int(case.model.reconstruction_error(case.X).argmin())
    alts = [known["alt"] for tag, known in page.elements if tag == "img"]
    assert alts[:3] == [f"{what} of row {best}" for what in ("original", "reconstruction", "PCA")]
    assert sum(alt.startswith("original of") for alt in alts) == 30
    sheet = page.data["points"]["pictures"]
    assert (sheet["width"], sheet["height"]) == (8, 8)
    assert sheet["across"] * sheet["down"] >= len(case.X)


def rbm_page(X, tmp_path, **options):
    """An RBM trained for a few epochs, and its page."""
    model = RestrictedBoltzmannMachine(code_size=3, max_epochs=2, random_state=0, **options).fit(X)
    return model, Page(write(model, X, tmp_path / "report.html"))


def test_samples_of_images_are_shown_below_rows(tmp_path, page_of):
    model, page = rbm_page(CASES["images"]().X, tmp_path)
    alts = [known["alt"] for tag, known in page.elements if tag == "img"]
    assert alts.count("a row of the data") == alts.count("a sample") == 12
    uris = [known["src"] for tag, known in page.elements if known.get("alt") == "a sample"]
    assert len(set(uris)) > 1
    mean = model.sample(12, random_state=0, mean=True)[0].astype(float)
    encoded = uris[0].partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        np.testing.assert_allclose(np.asarray(picture, float), mean, atol=1)
    assert "samples" not in page_of("images")[1].ids, "a deep autoencoder has no samples"


def test_samples_of_a_table_are_shown_in_its_units(tmp_path):
    table = CASES["table"]().X.dropna()
    model, page = rbm_page(table, tmp_path)
    section = page.text.partition("Random rows of the data and samples")[2]
    assert section.count(" sample ") >= 4
    for value in model.sample(4, random_state=0)["ash"]:
        assert f"{value:.5g}" in section


def test_samples_of_a_table_are_compared_with_its_rows(tmp_path):
    table = CASES["table"]().X.dropna()
    model, page = rbm_page(table, tmp_path)
    found = fidelity_of(model, table)
    for sentence in found.sentences.values():
        assert sentence in page.text
    section = page.text.partition("Marginals the largest distance first")[2]
    order = [section.index(f"{column.name} distance {column.distance:.3f}") for column in found.worst_columns]
    assert order == sorted(order)
    pair = found.pairs[0]
    shown = f"{' and '.join(pair.columns)} {pair.measure} {pair.in_rows:.2f} {pair.in_samples:.2f}"
    assert shown in section
    (tmp_path / "few").mkdir()
    few = rbm_page(table.iloc[:19], tmp_path / "few")[1]
    assert "Random rows of the data and samples" in few.text
    assert "Samples compared with rows" not in few.text


def test_samples_of_counts_are_shown_as_terms(tmp_path):
    X = sparse.csr_matrix(np.random.default_rng(0).integers(0, 3, (40, 8)).astype(float))
    model, page = rbm_page(X, tmp_path, likelihood="multinomial")
    first = np.asarray(model.sample(4, random_state=0))[0]
    most = int(np.argmax(first))
    assert f"x{most} {first[most]:g}" in page.text.partition("Random rows of the data and samples")[2]


def test_rows_of_a_table_show_the_values_of_the_user_and_missing_ones(page_of, tmp_path):
    case, _ = page_of("table")
    page = Page(write(case.model, case.X.iloc[[3]], tmp_path / "report.html"))
    shown = {column: (original, model) for column, original, model in page.data["points"]["values"][0]}
    assert set(shown) <= set(case.X.columns)
    made = case.model.reconstruct(case.X.iloc[[3]]).iloc[0]
    for column, (original, model) in shown.items():
        if original == "missing":
            assert column == "ash"
        elif column != "region":
            assert float(original) == pytest.approx(case.X[column].iloc[3], rel=1e-4)
            assert float(model) == pytest.approx(made[column], rel=1e-4)
    assert re.search(r"ash missing [\d.]+", page.text)
    assert "NaN" not in page.text


def test_texts_are_shown_with_their_largest_terms_and_their_beginning(page_of):
    case, page = page_of("text")
    assert page.data["points"]["text"][0] == case.X[0]
    [column, original, _] = page.data["points"]["values"][0][0]
    assert column in case.X[0]
    assert float(original) > 0
    assert page.data["points"]["label"][:3] == ["oil, gold", "tin", "none"]


def test_the_headline_compares_the_error_with_that_of_pca(page_of):
    case, page = page_of("images")
    error = float(case.model.reconstruction_error(case.X).mean())
    assert f"A code of 3 units represents 64 pixels with a squared error of {error:.4g} per row" in page.text
    assert "that of a PCA of the same size" in page.text


def test_columns_of_a_table_are_counted_as_the_users_columns(page_of):
    case, page = page_of("table")
    columns = "7 columns (9 model inputs)"
    assert (case.X.shape[1], case.model.preprocessing_.n_columns) == (7, 9)
    assert f"A code of 3 units represents {columns}" in page.text
    assert f"for {columns}" in page.text
    assert "9 columns" not in page.text
    assert "represents 30 pixels (90 model inputs)" in page_of("colours")[1].text
    assert "represents 10 terms with" in page_of("text")[1].text
    assert "represents 90 columns with" in page_of("sparse")[1].text


def test_no_ratio_to_a_pca_error_of_zero_is_shown(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 4))
    model = Autoencoder(code_size=4, hidden_sizes=(8,), max_epochs=1, random_state=0).fit(X)
    page = Page(write(model, X, tmp_path / "report.html"))
    assert "A PCA of the same size copies the rows" in page.text
    assert "e-1" not in page.text
    assert "times" not in page.text.split("Findings")[0]


def test_every_phase_of_a_stack_is_listed_with_its_epochs(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 6))
    model = StackedAutoencoder(hidden_sizes=(5,), code_size=2, max_epochs=2, random_state=0).fit(X)
    page = Page(write(model, X, tmp_path / "report.html"))
    names = [record["name"] for record in (*model.history_["pretraining"], model.history_)]
    assert len(names) == 3
    for name in names:
        assert re.search(rf"{name} 2 [\d.]+ s all epochs were completed", page.text)


def test_measurements_colour_the_map_and_no_classifiers_are_fitted(page_of):
    _, page = page_of("colours")
    traces = [trace["meta"] for trace in page.data["charts"]["map"]["data"]]
    assert traces == ["label", "error"]
    assert "the labels are measurements, so no classifiers were fitted" in page.text
    assert "Linear probe" not in page.text


def test_findings_are_shown_with_their_advice(small, tmp_path):
    model, X = small
    texts = {"message": "2 units <i>never</i> vary", "advice": "lower the rate"}
    finding = {"name": "dead-units", "severity": "note", **texts}
    before = model.history_
    model.history_ = {**before, "findings": [finding], "notes": ["a note & more"]}
    page = Page(write(model, X, tmp_path / "a.html"))
    model.history_ = {**before, "findings": []}
    without = Page(write(model, X, tmp_path / "b.html"))
    model.history_ = before
    for text in ("dead units", "2 units <i>never</i> vary", "lower the rate", "a note & more"):
        assert text in page.text
    assert "The doctor found no problems" in without.text


def test_one_unit_three_rows_and_no_validation_rows_work(tmp_path):
    X = pd.DataFrame(np.random.default_rng(1).normal(size=(3, 4)), columns=list("abcd"))
    page = Page(write(narrow_model(), X, tmp_path / "report.html"))
    assert "The code has one unit" in page.text
    assert "There were no validation rows" in page.text
    assert [name for name in SECTIONS if page.ids.get(name) != "section"] == []
    assert page.data["points"]["row"] == [0, 1, 2]
    assert page.data["points"]["label"] is None


@pytest.mark.parametrize("n", [1, 2])
def test_one_row_and_two_rows_work(small, tmp_path, n):
    model, X = small
    page = Page(write(model, X[:n], tmp_path / "report.html"))
    assert len(page.data["points"]["name"]) == n


def test_equal_codes_and_an_incomplete_first_epoch_are_reported(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 4))
    model = Autoencoder(code_size=3, hidden_sizes=(4,), max_epochs=1, random_state=0).fit(X)
    for parameter in model.coder_.encoder.parameters():
        parameter.data.zero_()
    model.history_ = {**model.history_, "epochs": [], "stopped": "interrupted"}
    page = Page(write(model, X, tmp_path / "report.html"))
    assert "Every row has the same code" in page.text
    assert "No epoch was completed: it was interrupted" in page.text
    assert "loss" not in page.data["charts"]


def test_a_data_set_provides_labels_names_and_title(small, tmp_path):
    model, X = small
    rows = Dataset(X, np.arange(30) % 2, "my rows", tuple(f"r{i}.png" for i in range(30)))
    page = Page(write(model, rows, tmp_path / "report.html"))
    assert "my rows" in page.text
    assert page.data["points"]["name"][4] == "r4.png"
    assert page.data["points"]["label"][:2] == ["0", "1"]
    assert "Linear probe" in page.text


def test_an_existing_file_is_replaced_only_with_force(small, tmp_path):
    model, X = small
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(InputError, match="report.html exists; pass force=True to replace it"):
        write(model, X, path)
    assert path.read_text() == "mine"
    write(model, X, str(path), force=True)
    assert path.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("fails", ["drawing", "writing"])
def test_after_a_failure_the_old_file_is_unchanged(small, tmp_path, monkeypatch, fails):
    model, X = small
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self, text, **options):
        with self.open("w") as opened:
            opened.write(text[:1000])
        raise OSError(28, "No space left on device")

    def broken():
        raise RuntimeError("broken")

    if fails == "writing":
        monkeypatch.setattr("pathlib.Path.write_text", full)
        failure = pytest.raises(InputError, match="No space left on device; nothing was written")
    else:
        monkeypatch.setattr(isthmus.report.page, "_plotly", broken)
        failure = pytest.raises(RuntimeError, match="broken")
    with failure:
        write(model, X, path, force=True)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_invalid_arguments_are_refused_in_one_line(small, tmp_path):
    model, X = small
    refusals = {
        "there are no rows to report on": {"X": X[:0]},
        "3 labels for 30 rows": {"labels": [1, 2, 3]},
        "2 row names for 30 rows": {"row_names": ["a", "b"]},
        "does not exist; create it or choose another": {"path": tmp_path / "no" / "report.html"},
        "is a folder; pass the name of a file": {"path": tmp_path},
    }
    for text, options in refusals.items():
        with pytest.raises(InputError) as caught:
            write(model, **{"X": X, "path": tmp_path / "report.html", **options})
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_selects_the_same_rows(small, tmp_path, monkeypatch):
    model, X = small
    monkeypatch.setattr(isthmus.report.page, "MAX_MAP_ROWS", 10)
    rows = [
        Page(write(model, X, tmp_path / f"{i}.html", random_state=seed)).data["points"]["row"]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert len(rows[0]) == 10
    assert rows[0] == rows[1] != rows[2]


def test_json_inside_a_script_cannot_end_it():
    text = isthmus.report.page.json_for_script({"a": "</script><!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!-- & \u2028"}
