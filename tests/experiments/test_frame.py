"""The frame of the experiments, tried with one that takes no time."""

import ast
import io
import json
import math
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

import experiments
import isthmus
from experiments import Cell, Experiment, Published, Row, keeping, page, running
from isthmus.errors import InputError

SOURCE = Path(experiments.__file__).parent


class Bench:
    """A small experiment that counts how often its cells are run."""

    def __init__(self, obtained=2.0, interrupt_at=None):
        self.obtained, self.interrupt_at = obtained, interrupt_at
        self.runs, self.states = [], []
        self.settings = {"first": {"epochs": 1}, "second": {"epochs": 1}}

    def work(self, name):
        def run(settings, state):
            if name == self.interrupt_at:
                raise KeyboardInterrupt
            self.runs.append(name)
            self.states.append(state)
            return {"value": self.obtained}

        return run

    @property
    def experiment(self):
        return Experiment(
            name="trial", claim="Two is at most three.", source="a paper", protocol="It is looked at.", minutes=0.1,
            seed=0,
            cells=lambda quick: [Cell(name, settings, self.work(name)) for name, settings in self.settings.items()],
            rows=lambda results, quick: [
                Row("value", results["first"]["value"], Published(3.0, "at most", "a paper")),
                Row("told", results["second"]["value"]),
            ],
            remarks=lambda results, quick: ["It is so."],
            pictures=lambda results, quick: {"a-picture": Figure(figsize=(1, 1))},
        )  # fmt: skip

    def run(self, folder, **options):
        out = Console(file=io.StringIO(), width=120)
        passed = running.run_experiment(self.experiment, **{"quick": False, "folder": folder, "out": out, **options})
        return passed, out.file.getvalue()


@pytest.mark.parametrize(
    ("comparison", "tolerance", "obtained", "allowed"),
    [
        ("at most", 0.0, 3.0, True),
        ("at most", 0.0, 3.001, False),
        ("at most", 0.1, 3.05, True),
        ("at least", 0.0, 3.0, True),
        ("at least", 0.0, 2.999, False),
        ("at least", 0.1, 2.95, True),
        ("within", 0.1, 2.95, True),
        ("within", 0.1, 3.05, True),
        ("within", 0.1, 3.2, False),
        ("at most", 0.0, -math.inf, False),
        ("at most", 0.0, math.nan, False),
        ("at least", 0.0, math.nan, False),
    ],
)
def test_a_figure_agrees_only_on_its_side_and_within_its_tolerance(comparison, tolerance, obtained, allowed):
    assert Published(3.0, comparison, "a paper", tolerance).allows(obtained) is allowed


def test_a_run_writes_table_result_and_pictures_and_agrees(tmp_path):
    passed, printed = Bench().run(tmp_path)
    assert passed
    assert "Two is at most three." in printed
    assert "pass" in printed
    assert "MISS" not in printed
    place = tmp_path / "trial"
    result = json.loads((place / "result.json").read_text())
    assert result["passed"] is True
    assert result["version"] == isthmus.__version__
    assert [row["verdict"] for row in result["rows"]] == ["pass", ""]
    assert result["rows"][0]["published"] == 3.0
    table = (place / "table.md").read_text()
    assert "| value | at most 3.00 |  | 2.00 | pass |" in table
    assert "![a picture](a-picture.png)" in table
    assert (place / "a-picture.png").read_bytes()[1:4] == b"PNG"


def test_a_missed_figure_is_printed_as_a_miss(tmp_path, capsys):
    passed, printed = Bench(obtained=4.0).run(tmp_path)
    assert not passed
    assert "MISS" in printed
    assert "| MISS |" in (tmp_path / "trial" / "table.md").read_text()
    assert "1 of 2 figures missed" in capsys.readouterr().err


def test_what_is_no_number_is_a_miss_and_is_null_in_the_result(tmp_path):
    passed, _ = Bench(obtained=math.nan).run(tmp_path)
    assert not passed
    assert json.loads((tmp_path / "trial" / "result.json").read_text())["rows"][0]["obtained"] is None


def test_finished_cells_are_not_run_again(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    bench.run(tmp_path)
    assert bench.runs == ["first", "second"]


def test_a_changed_cell_is_run_anew_and_the_others_are_kept(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    bench.settings["second"] = {"epochs": 2}
    bench.run(tmp_path)
    assert bench.runs == ["first", "second", "second"]
    assert bench.states[1] != bench.states[2]


def test_another_version_runs_every_cell_anew(tmp_path, monkeypatch):
    bench = Bench()
    bench.run(tmp_path)
    monkeypatch.setattr(isthmus, "__version__", "99.0")
    bench.run(tmp_path)
    assert bench.runs == ["first", "second"] * 2


def test_force_runs_every_cell_anew(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    bench.run(tmp_path, force=True)
    assert bench.runs == ["first", "second"] * 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 3}'])
def test_a_damaged_cell_is_run_anew(tmp_path, text):
    bench = Bench()
    bench.run(tmp_path)
    (tmp_path / "trial" / "cells" / "first.json").write_text(text)
    bench.run(tmp_path)
    assert bench.runs == ["first", "second", "first"]


def test_ctrl_c_keeps_finished_cells_and_says_how_to_go_on(tmp_path, capsys):
    bench = Bench(interrupt_at="second")
    with pytest.raises(KeyboardInterrupt):
        bench.run(tmp_path)
    assert "1 of 2 cells are kept" in (said := capsys.readouterr().err)
    assert "go on with: python -m experiments trial" in said
    assert not (tmp_path / "trial" / "result.json").exists()
    bench.interrupt_at = None
    passed, _ = bench.run(tmp_path)
    assert passed
    assert bench.runs == ["first", "second"]


def test_the_quick_form_has_a_folder_of_its_own_and_says_what_it_is(tmp_path):
    _, printed = Bench().run(tmp_path, quick=True)
    assert "quick: figures are not comparable" in printed
    assert (tmp_path / "trial" / "quick" / "result.json").is_file()
    assert "quick: figures are not comparable" in (tmp_path / "trial" / "quick" / "table.md").read_text()
    assert not (tmp_path / "trial" / "result.json").exists()


def test_a_folder_that_is_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot make the folder .*; name another folder for the results"):
        Bench().run(tmp_path / "taken")


def test_nothing_half_written_is_left(tmp_path):
    Bench().run(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.part")] == []


def test_the_machine_is_told_without_the_name_of_a_host():
    told = keeping.machine()
    assert "core" in told
    assert "torch" in told
    assert socket.gethostname() not in told


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="there is no experiment 'linear-pca'; did you mean 'linear-is-pca'"):
        experiments.run("linear-pca")


def test_the_listing_says_what_was_run(tmp_path):
    assert not experiments.has_result("capacity", tmp_path)
    (tmp_path / "capacity").mkdir()
    (tmp_path / "capacity" / "result.json").write_text(json.dumps({"passed": False}))
    assert experiments.has_result("capacity", tmp_path)
    out = Console(file=io.StringIO(), width=200)
    out.print(experiments.listing(tmp_path))
    printed = out.file.getvalue()
    assert all(name in printed for name in experiments.EXPERIMENTS)
    assert "MISS" in printed
    assert printed.count("not run yet") == len(experiments.EXPERIMENTS) - 1


@pytest.mark.parametrize("path", [path for path in SOURCE.glob("*.py") if "EXPERIMENT = " in path.read_text()])
def test_published_figures_are_compared_with_and_used_for_nothing_else(path):
    tree = ast.parse(path.read_text())
    users = {
        function.name
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id in ("PUBLISHED", "QUICK")
    }
    assert users == {"_rows"}
    elsewhere = [
        node
        for function in tree.body
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Published"
    ]
    assert elsewhere == []


def test_the_page_is_written_from_results_and_leaves_the_rest(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    text = (
        "# Title\n<!-- summary -->\n<!-- end summary -->\nby hand\n<!-- trial -->\nwas here\n<!-- end trial -->\nend\n"
    )
    there = tmp_path / "docs" / "page.md"
    there.parent.mkdir()
    there.write_text(text)
    other = replace(bench.experiment, name="other")
    page.update(there, tmp_path, {"trial": bench.experiment, "other": other})
    written = there.read_text()
    assert "by hand" in written
    assert "was here" not in written
    assert "| [trial](#trial) | Two is at most three. | 1 of 1 |" in written
    assert "| [other](#other) | Two is at most three. | not run yet |" in written
    assert "![a picture](images/reproductions/trial-a-picture.png)" in written
    assert (there.parent / "images" / "reproductions" / "trial-a-picture.png").is_file()
    page.update(there, tmp_path / "empty", {"trial": bench.experiment, "other": other})
    assert there.read_text() == written


def test_a_page_without_marks_is_refused():
    with pytest.raises(InputError, match="the page has no lines <!-- trial -->"):
        page.put("# Title", "trial", "text")
