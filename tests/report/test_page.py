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
from isthmus.report import write

from .cases import CASES, NASTY, narrow_model
from .pages import Page

SECTIONS = ["doctor", "learning", "rows", "map", "code", "features", "filters", "error", "pca", "recipe"]
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


def test_the_browser_is_told_to_load_nothing(written):
    _, page = written
    metas = [known for tag, known in page.elements if tag == "meta"]
    [policy] = [known["content"] for known in metas if known.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "connect-src" not in policy


def test_every_section_is_there_and_every_chart_has_its_place(written):
    _, page = written
    assert [name for name in SECTIONS if page.ids.get(name) != "section"] == []
    drawn = set(page.data["charts"])
    assert drawn >= {"loss", "map", "spectrum", "comparison", "error"}
    assert {f"chart-{name}" for name in drawn} <= set(page.ids)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_user_text_is_escaped(written):
    _, page = written
    assert page.handlers == []
    assert [tag for tag, _ in page.elements].count("script") == 4
    assert not any(known.get("src") == "x" for _, known in page.elements)
    # Plotly reads a little HTML of its own: only what is ours may be markup there.
    for text in strings(page.data["charts"]):
        assert not re.search(r"<(?!/?b>|br>|extra>|/extra>)", text), text


def test_user_text_of_a_table_is_shown_as_it_is(page_of):
    case, page = page_of("table")
    assert f"Wines {NASTY}" in page.text
    assert page.text.count(NASTY) > 5
    assert "b<b>&" in page.text
    assert page.data["points"]["name"][0] == f"{NASTY} 0"
    assert page.data["points"]["label"] == list(case.labels)


def test_images_stand_over_their_reconstructions_and_over_those_of_pca(page_of):
    case, page = page_of("images")
    best = int(case.model.reconstruction_error(case.X).argmin())
    alts = [known["alt"] for tag, known in page.elements if tag == "img"]
    assert alts[:3] == [f"{what} of row {best}" for what in ("original", "reconstruction", "PCA")]
    assert sum(alt.startswith("original of") for alt in alts) == 30
    sheet = page.data["points"]["pictures"]
    assert (sheet["width"], sheet["height"]) == (8, 8)
    assert sheet["across"] * sheet["down"] >= len(case.X)


def drawn(X, tmp_path, **options):
    """The machine, and the page, of a few epochs on the rows."""
    model = RestrictedBoltzmannMachine(code_size=3, max_epochs=2, random_state=0, **options).fit(X)
    return model, Page(write(model, X, tmp_path / "report.html"))


def test_a_density_of_images_shows_rows_over_draws(tmp_path, page_of):
    model, page = drawn(CASES["images"]().X, tmp_path)
    alts = [known["alt"] for tag, known in page.elements if tag == "img"]
    assert alts.count("a row") == alts.count("a draw") == 12
    uris = [known["src"] for tag, known in page.elements if known.get("alt") == "a draw"]
    assert len(set(uris)) > 1
    mean = model.sample(12, random_state=0, mean=True)[0].astype(float)
    encoded = uris[0].partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        np.testing.assert_allclose(np.asarray(picture, float), mean, atol=1)
    assert "draws" not in page_of("images")[1].ids, "a deep autoencoder draws nothing"


def test_a_density_of_a_table_shows_draws_in_its_units(tmp_path):
    table = CASES["table"]().X.dropna()
    model, page = drawn(table, tmp_path)
    told = page.text.partition("What it draws")[2]
    assert told.count(" drawn ") >= 4
    for value in model.sample(4, random_state=0)["ash"]:
        assert f"{value:.5g}" in told


def test_a_density_of_words_shows_the_terms_of_its_draws(tmp_path):
    X = sparse.csr_matrix(np.random.default_rng(0).integers(0, 3, (40, 8)).astype(float))
    model, page = drawn(X, tmp_path, likelihood="multinomial")
    first = np.asarray(model.sample(4, random_state=0))[0]
    most = int(np.argmax(first))
    assert f"x{most} {first[most]:g}" in page.text.partition("What it draws")[2]


def test_rows_of_a_table_show_the_users_values_and_a_missing_one_is_told(page_of, tmp_path):
    case, _ = page_of("table")
    page = Page(write(case.model, case.X.iloc[[3]], tmp_path / "report.html"))
    told = {column: (original, model) for column, original, model in page.data["points"]["values"][0]}
    assert set(told) <= set(case.X.columns)
    made = case.model.reconstruct(case.X.iloc[[3]]).iloc[0]
    for column, (original, model) in told.items():
        if original == "missing":
            assert column == "ash"
        elif column != "region":
            assert float(original) == pytest.approx(case.X[column].iloc[3], rel=1e-4)
            assert float(model) == pytest.approx(made[column], rel=1e-4)
    assert re.search(r"ash missing [\d.]+", page.text)
    assert "NaN" not in page.text


def test_texts_show_their_top_terms_and_their_beginning(page_of):
    case, page = page_of("text")
    assert page.data["points"]["text"][0] == case.X[0]
    [column, original, _] = page.data["points"]["values"][0][0]
    assert column in case.X[0]
    assert float(original) > 0
    assert page.data["points"]["label"][:3] == ["oil, gold", "tin", "none"]


def test_the_summary_says_kind_rows_code_size_and_the_error_beside_that_of_pca(page_of):
    case, page = page_of("images")
    error = float(case.model.reconstruction_error(case.X).mean())
    assert f"A code of 3 units stands for 64 columns and leaves a squared error of {error:.4g} a row" in page.text
    assert "that principal components of the same size leave" in page.text
    assert "deep" in page.text


def test_no_multiple_is_told_of_what_as_many_components_as_columns_leave(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 4))
    model = Autoencoder(code_size=4, hidden_sizes=(8,), max_epochs=1, random_state=0).fit(X)
    page = Page(write(model, X, tmp_path / "report.html"))
    assert "; as many principal components leave none." in page.text
    assert "e-1" not in page.text
    assert "times" not in page.text.split("The doctor")[0]


def test_every_phase_of_a_stack_is_told_with_its_epochs(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 6))
    model = StackedAutoencoder(hidden_sizes=(5,), code_size=2, max_epochs=2, random_state=0).fit(X)
    page = Page(write(model, X, tmp_path / "report.html"))
    names = [record["name"] for record in (*model.history_["pretraining"], model.history_)]
    assert len(names) == 3
    for name in names:
        assert re.search(rf"{name} 2 [\d.]+ s all epochs were done", page.text)


def test_measurements_colour_the_map_and_say_that_no_classifier_was_fitted(page_of):
    _, page = page_of("colours")
    traces = [trace["meta"] for trace in page.data["charts"]["map"]["data"]]
    assert traces == ["label", "error"]
    assert "the labels are measurements, so no classifier was fitted to them" in page.text
    assert "Linear probe" not in page.text


def test_findings_of_the_doctor_come_with_their_advice(small, tmp_path):
    model, X = small
    said = {"message": "2 units <i>never</i> vary", "advice": "lower the rate"}
    finding = {"name": "dead-units", "severity": "note", **said}
    before = model.history_
    model.history_ = {**before, "findings": [finding], "notes": ["a note & more"]}
    page = Page(write(model, X, tmp_path / "a.html"))
    model.history_ = {**before, "findings": []}
    fine = Page(write(model, X, tmp_path / "b.html"))
    model.history_ = before
    for text in ("dead units", "2 units <i>never</i> vary", "lower the rate", "a note & more"):
        assert text in page.text
    assert "Nothing stood out in this fit" in fine.text


def test_one_unit_three_rows_and_no_held_out_rows_work(tmp_path):
    X = pd.DataFrame(np.random.default_rng(1).normal(size=(3, 4)), columns=list("abcd"))
    page = Page(write(narrow_model(), X, tmp_path / "report.html"))
    assert "The code has one unit" in page.text
    assert "No rows were held out" in page.text
    assert [name for name in SECTIONS if page.ids.get(name) != "section"] == []
    assert page.data["points"]["row"] == [0, 1, 2]
    assert page.data["points"]["label"] is None


@pytest.mark.parametrize("n", [1, 2])
def test_one_row_and_two_rows_work(small, tmp_path, n):
    model, X = small
    page = Page(write(model, X[:n], tmp_path / "report.html"))
    assert len(page.data["points"]["name"]) == n


def test_equal_codes_and_an_unfinished_first_epoch_are_said(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 4))
    model = Autoencoder(code_size=3, hidden_sizes=(4,), max_epochs=1, random_state=0).fit(X)
    for parameter in model.objective_.encoder.parameters():
        parameter.data.zero_()
    model.history_ = {**model.history_, "epochs": [], "stopped": "interrupted"}
    page = Page(write(model, X, tmp_path / "report.html"))
    assert "Every row has the same code" in page.text
    assert "No epoch was finished: it was interrupted" in page.text
    assert "loss" not in page.data["charts"]


def test_a_data_set_brings_its_labels_names_and_title(small, tmp_path):
    model, X = small
    rows = Dataset(X, np.arange(30) % 2, "my rows", tuple(f"r{i}.png" for i in range(30)))
    page = Page(write(model, rows, tmp_path / "report.html"))
    assert "my rows" in page.text
    assert page.data["points"]["name"][4] == "r4.png"
    assert page.data["points"]["label"][:2] == ["0", "1"]
    assert "Linear probe" in page.text


def test_an_existing_file_is_replaced_only_by_force(small, tmp_path):
    model, X = small
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(InputError, match="report.html exists; pass force=True to replace it, or choose another name"):
        write(model, X, path)
    assert path.read_text() == "mine"
    write(model, X, str(path), force=True)
    assert path.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("fails", ["drawing", "writing"])
def test_nothing_is_left_when_it_fails_and_the_old_file_stays(small, tmp_path, monkeypatch, fails):
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
        failure = pytest.raises(InputError, match="No space left on device; nothing was written, free some space")
    else:
        monkeypatch.setattr(isthmus.report.page, "_plotly", broken)
        failure = pytest.raises(RuntimeError, match="broken")
    with failure:
        write(model, X, path, force=True)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_what_cannot_be_reported_on_is_refused_in_one_line(small, tmp_path):
    model, X = small
    refusals = {
        "there are no rows to report on": {"X": X[:0]},
        "3 labels for 30 rows; give one label a row": {"labels": [1, 2, 3]},
        "2 row names for 30 rows; give one name a row": {"row_names": ["a", "b"]},
        "does not exist; make it first or write elsewhere": {"path": tmp_path / "no" / "report.html"},
        "is a folder; name a file in it": {"path": tmp_path},
    }
    for text, options in refusals.items():
        with pytest.raises(InputError) as caught:
            write(model, **{"X": X, "path": tmp_path / "report.html", **options})
        assert text in str(caught.value)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_draws_the_same_rows(small, tmp_path, monkeypatch):
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
