"""Every experiment in its quick form, on data that the package and scikit-learn ship."""

import ast
import io
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import experiments
import isthmus
from experiments import depth, learning, linear_is_pca, storage

PAGES = Path(__file__).parents[2] / "docs" / "experiments"


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_the_quick_form_passes_and_stores_its_cells(name, tmp_path, monkeypatch):
    monkeypatch.delenv("ISTHMUS_DATA_HOME", raising=False)
    out, experiment = Console(file=io.StringIO(), width=150), experiments.EXPERIMENTS[name]
    assert experiments.run(name, quick=True, folder=tmp_path, out=out), out.file.getvalue()
    folder = tmp_path / name / "quick"
    result = json.loads((folder / "result.json").read_text())
    assert any(row["verdict"] == "pass" for row in result["rows"])
    assert all(np.isfinite(row["ours"]) for row in result["rows"])
    for kind, bounds in (("published", experiment.quick.published), ("target", experiment.quick.targets)):
        judged = [row[kind] for row in result["rows"] if row[kind]]
        assert all(asdict(bound) in judged for bound in bounds.values())
    assert result["pictures"]
    for picture in result["pictures"]:
        assert (folder / picture).stat().st_size > 1000
    assert "quick: figures are not comparable" in out.file.getvalue()
    assert [path for path in folder.rglob("*") if path.suffix in (".checkpoint", ".part")] == []
    for cell in experiment.cells(experiment.quick):
        assert storage.read_stored(folder, cell, isthmus.__version__) is not None


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_full_and_quick_forms_have_cells_of_distinct_names_and_plain_settings(name):
    experiment = experiments.EXPERIMENTS[name]
    for setup in (experiment.full, experiment.quick):
        cells = experiment.cells(setup)
        assert len({cell.name for cell in cells}) == len(cells)
        for cell in cells:
            assert json.loads(json.dumps(cell.settings)) == cell.settings
            assert cell.settings["seed"] == experiment.seed


def test_only_the_framework_depends_on_quick():
    dependent = set()
    for path in Path(experiments.__file__).parent.glob("*.py"):
        conditions = [
            node.test for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.IfExp | ast.If)
        ]
        names = {part.id for one in conditions for part in ast.walk(one) if isinstance(part, ast.Name)}
        dependent |= {path.stem} if "quick" in names else set()
    assert dependent == {"__main__", "experiment", "running", "tables"}


def test_every_experiment_has_a_page_and_a_line_in_the_summary():
    summary = (PAGES / "README.md").read_text()
    for name in experiments.EXPERIMENTS:
        assert re.search(
            r"^<!-- result -->$(.|\n)*^<!-- end result -->$", (PAGES / f"{name}.md").read_text(), re.MULTILINE
        )
        assert f"| [{name}]({name}.md)" in summary


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_the_summary_counts_the_verdicts_of_the_page(name):
    text = (PAGES / f"{name}.md").read_text()
    rows = [re.split(r" (?<!\\)\| ?", line)[-6:] for line in text.splitlines() if line.startswith("| ")]
    verdicts = [row[4] for row in rows[2:]]
    line = next(line for line in (PAGES / "README.md").read_text().splitlines() if line.startswith(f"| [{name}]("))
    assert ("MISS" in line) == any("MISS" in verdict for verdict in verdicts)
    assert ("n/c" in line) == any("n/c" in verdict for verdict in verdicts)
    assert "run at commit" in text or "commit not recorded" in text


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_links_and_pictures_of_a_page_exist(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).is_file(), target


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


def test_stored_pictures_are_exact_within_half_a_grey_level():
    x = np.random.default_rng(0).uniform(size=(3, 5))
    np.testing.assert_allclose(learning.from_bytes(learning.to_bytes(x)), x, atol=0.5 / 255)


def test_an_interrupted_fit_raises(monkeypatch):
    settings = {"kind": "linear", "train": "digits", "seed": 0, "parameters": {"code_size": 2, "max_epochs": 1}}

    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.learning.trainer.Trainer._epoch", pressed)
    with pytest.raises(KeyboardInterrupt):
        learning.fit_model(settings)


def test_the_training_curve_is_in_squared_errors():
    settings = {
        "kind": "deep", "train": "digits", "seed": 0,
        "parameters": {"code_size": 2, "max_epochs": 1, "hidden_sizes": [8], "likelihood": "gaussian-unit"},
    }  # fmt: skip
    X = learning.load_rows("digits")[:200]
    model = learning.fit_model(settings, rows=X)
    ((epoch, error),) = depth.training_curve(model)
    assert epoch == 1
    assert error == pytest.approx(learning.squared_errors(model, X)["error"], rel=1e-5)
