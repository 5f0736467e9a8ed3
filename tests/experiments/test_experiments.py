"""Every experiment in its quick form, on data that the package and scikit-learn ship."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import experiments
from experiments import depth, learning, linear_is_pca

PAGE = Path(__file__).parents[2] / "docs" / "reproductions.md"


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_the_quick_form_finds_what_has_to_hold_at_its_scale(name, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("ISTHMUS_DATA_HOME", raising=False)
    out = Console(file=io.StringIO(), width=150)
    assert experiments.run(name, quick=True, folder=tmp_path, out=out), out.file.getvalue()
    place = tmp_path / name / "quick"
    told = json.loads((place / "result.json").read_text())
    assert any(row["verdict"] == "pass" for row in told["rows"])
    assert all(np.isfinite(row["obtained"]) for row in told["rows"])
    assert told["pictures"]
    for picture in told["pictures"]:
        assert (place / picture).stat().st_size > 1000
    assert "quick: figures are not comparable" in out.file.getvalue()
    assert [path for path in place.rglob("*") if path.suffix in (".checkpoint", ".part")] == []
    capsys.readouterr()
    assert experiments.run(name, quick=True, folder=tmp_path, out=out)
    assert " ..." not in capsys.readouterr().err


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_full_and_quick_forms_have_cells_of_distinct_names_and_plain_settings(name):
    for quick in (False, True):
        cells = experiments.EXPERIMENTS[name].cells(quick)
        assert len({cell.name for cell in cells}) == len(cells)
        for cell in cells:
            assert json.loads(json.dumps(cell.settings)) == cell.settings
            assert cell.settings["seed"] == experiments.EXPERIMENTS[name].seed


def test_the_page_has_a_place_for_every_experiment():
    text = PAGE.read_text()
    for name in experiments.EXPERIMENTS:
        assert re.search(rf"^<!-- {name} -->$(.|\n)*^<!-- end {name} -->$", text, re.MULTILINE)
        assert f"| [{name}](#{name})" in text


def test_the_page_tells_every_miss_that_its_tables_hold():
    text = PAGE.read_text()
    for name in experiments.EXPERIMENTS:
        part = text.partition(f"<!-- {name} -->")[2].partition(f"<!-- end {name} -->")[0]
        summary = next(line for line in text.splitlines() if line.startswith(f"| [{name}](#{name})"))
        assert ("MISS" in summary) == ("| MISS |" in part)


@pytest.mark.parametrize("hidden", [[400, 200, 100], [100, 60, 40]])
def test_depths_are_compared_at_equal_numbers_of_parameters(hidden):
    sizes = [784, *hidden, 30]
    wide = depth.equal_width(sizes)
    assert abs(depth.n_parameters([784, wide, 30]) / depth.n_parameters(sizes) - 1) < 0.01


def test_pairwise_angles_agree_with_the_arc_cosine():
    rows = np.random.default_rng(0).normal(size=(4, 6))
    expected = [
        np.degrees(np.arccos(abs(a @ b) / np.sqrt((a @ a) * (b @ b))))
        for i, a in enumerate(rows)
        for b in rows[i + 1 :]
    ]
    np.testing.assert_allclose(linear_is_pca.pairwise_angles(rows), expected, atol=1e-6)


def test_kept_pictures_come_back_within_half_a_grey_level():
    x = np.random.default_rng(0).uniform(size=(3, 5))
    np.testing.assert_allclose(learning.as_units(learning.as_bytes(x)), x, atol=0.5 / 255)


def test_an_interrupted_fit_is_no_result(monkeypatch):
    settings = {"kind": "linear", "train": "digits", "seed": 0, "parameters": {"code_size": 2, "max_epochs": 1}}

    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.learning.trainer.Trainer._epoch", pressed)
    with pytest.raises(KeyboardInterrupt):
        learning.fitted(settings)


def test_the_training_curve_is_in_squared_errors():
    settings = {
        "kind": "deep", "train": "digits", "seed": 0,
        "parameters": {"code_size": 2, "max_epochs": 1, "hidden_sizes": [8], "likelihood": "gaussian-unit"},
    }  # fmt: skip
    X = learning.rows_of("digits")[:200]
    model = learning.fitted(settings, rows=X)
    ((epoch, error),) = depth.training_curve(model)
    assert epoch == 1
    assert error == pytest.approx(learning.squared_errors(model, X)["error"], rel=1e-5)
