"""The framework of the experiments, tested with an experiment that takes no time."""

import ast
import io
import json
import math
import re
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from rich.console import Console

import experiments
import isthmus
from experiments import Cell, Experiment, Published, Row, Setup, Target, page, running, storage
from isthmus.errors import InputError

SOURCE = Path(experiments.__file__).parent


FULL = Setup(
    published={"value": Published(3.0, "at most", "a paper")}, targets={"aim": Target(2.5, "at most", "chosen here")}
)


class Bench:
    """A small experiment that counts the runs of its cells."""

    def __init__(self, ours=2.0, interrupt_at=None):
        self.ours, self.interrupt_at = ours, interrupt_at
        self.runs, self.states = [], []
        self.settings = {"first": {"epochs": 1}, "second": {"epochs": 1}}

    def work(self, name):
        def run(settings, state):
            if name == self.interrupt_at:
                raise KeyboardInterrupt
            self.runs.append(name)
            self.states.append(state)
            return {"value": self.ours}

        return run

    @property
    def experiment(self):
        return Experiment(
            name="trial", claim="Two is at most three.", source="a paper", protocol="It is compared.", minutes=0.1,
            seed=0, full=FULL, quick=Setup(targets=FULL.targets),
            cells=lambda setup: [Cell(name, settings, self.work(name)) for name, settings in self.settings.items()],
            rows=lambda results, setup: [
                setup.row("value", results["first"]["value"], "value"),
                setup.row("aimed at", results["first"]["value"], "aim"),
                Row("not judged", results["second"]["value"]),
            ],
            remarks=lambda results, setup: ["It is so."],
            pictures=lambda results, setup: {"a-picture": Figure(figsize=(1, 1))},
        )  # fmt: skip

    def run(self, folder, **options):
        out = Console(file=io.StringIO(), width=120)
        passed = running.run_experiment(self.experiment, **{"quick": False, "folder": folder, "out": out, **options})
        return passed, out.file.getvalue()


@pytest.mark.parametrize(
    ("comparison", "tolerance", "ours", "allowed"),
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
def test_a_bound_allows_one_side_and_its_tolerance(comparison, tolerance, ours, allowed):
    assert Published(3.0, comparison, "a paper", tolerance).allows(ours) is allowed


def test_a_run_writes_table_result_and_pictures(tmp_path):
    passed, printed = Bench().run(tmp_path)
    assert passed
    assert "Two is at most three." in printed
    assert "pass" in printed
    assert "MISS" not in printed
    place = tmp_path / "trial"
    result = json.loads((place / "result.json").read_text())
    assert result["passed"] is True
    assert result["version"] == isthmus.__version__
    assert [row["verdict"] for row in result["rows"]] == ["pass", "pass", ""]
    assert result["rows"][0]["published"] == {
        "value": 3.0, "comparison": "at most", "source": "a paper", "tolerance": 0.0
    }  # fmt: skip
    assert result["rows"][0]["target"] is None
    assert result["rows"][1]["target"]["value"] == 2.5
    assert result["rows"][1]["published"] is None
    table = (place / "table.md").read_text()
    assert "| measured | published | target | ours | verdict |" in table
    assert "| value | at most 3.00 |  | 2.00 | pass |" in table
    assert "| aimed at |  | at most 2.50 | 2.00 | pass |" in table
    assert "![a picture](a-picture.png)" in table
    assert (place / "a-picture.png").read_bytes()[1:4] == b"PNG"


def test_a_missed_figure_is_printed_as_a_miss(tmp_path, capsys):
    passed, printed = Bench(ours=4.0).run(tmp_path)
    assert not passed
    assert "MISS" in printed
    assert "| MISS |" in (tmp_path / "trial" / "table.md").read_text()
    assert "2 of 2 judged rows missed" in capsys.readouterr().err


def test_nan_is_a_miss_and_null_in_the_result(tmp_path):
    passed, _ = Bench(ours=math.nan).run(tmp_path)
    assert not passed
    assert json.loads((tmp_path / "trial" / "result.json").read_text())["rows"][0]["ours"] is None


def test_finished_cells_are_not_run_again(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    bench.run(tmp_path)
    assert bench.runs == ["first", "second"]


def test_a_changed_cell_is_run_again_and_the_others_are_not(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    bench.settings["second"] = {"epochs": 2}
    bench.run(tmp_path)
    assert bench.runs == ["first", "second", "second"]
    assert bench.states[1] != bench.states[2]


def test_another_version_runs_every_cell_again(tmp_path, monkeypatch):
    bench = Bench()
    bench.run(tmp_path)
    monkeypatch.setattr(isthmus, "__version__", "99.0")
    bench.run(tmp_path)
    assert bench.runs == ["first", "second"] * 2


def test_force_runs_every_cell_again(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    bench.run(tmp_path, force=True)
    assert bench.runs == ["first", "second"] * 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 3}'])
def test_a_damaged_cell_is_run_again(tmp_path, text):
    bench = Bench()
    bench.run(tmp_path)
    (tmp_path / "trial" / "cells" / "first.json").write_text(text)
    bench.run(tmp_path)
    assert bench.runs == ["first", "second", "first"]


def test_ctrl_c_keeps_completed_cells_and_says_how_to_resume(tmp_path, capsys):
    bench = Bench(interrupt_at="second")
    with pytest.raises(KeyboardInterrupt):
        bench.run(tmp_path)
    assert "1 of 2 cells are stored" in (said := capsys.readouterr().err)
    assert "resume with: python -m experiments trial" in said
    assert not (tmp_path / "trial" / "result.json").exists()
    bench.interrupt_at = None
    passed, _ = bench.run(tmp_path)
    assert passed
    assert bench.runs == ["first", "second"]


def test_the_quick_form_has_its_own_folder_and_is_labelled(tmp_path):
    _, printed = Bench().run(tmp_path, quick=True)
    assert "quick: figures are not comparable" in printed
    assert (tmp_path / "trial" / "quick" / "result.json").is_file()
    assert "quick: figures are not comparable" in (tmp_path / "trial" / "quick" / "table.md").read_text()
    assert not (tmp_path / "trial" / "result.json").exists()


def test_a_folder_that_is_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="cannot create the folder .*; name another folder for the results"):
        Bench().run(tmp_path / "taken")


def test_no_partial_file_is_left(tmp_path):
    Bench().run(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.part")] == []


def test_the_hardware_is_described_without_the_name_of_the_host():
    described = storage.hardware()
    assert "core" in described
    assert "torch" in described
    assert socket.gethostname() not in described


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="there is no experiment 'linear-pca'; did you mean 'linear-is-pca'"):
        experiments.run("linear-pca")


def test_the_listing_shows_the_results(tmp_path):
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


def test_a_row_is_judged_by_the_published_figure_and_the_target():
    published, target = Published(1.0, "at most", "a paper"), Target(2.0, "at most", "chosen here")
    assert Row("both met", 0.5, published, target).verdict == "pass"
    row = Row("target met", 1.5, published, target)
    assert (row.verdict, row.missed) == ("published MISS, target pass", True)
    assert (row.published_verdict, row.target_verdict) == ("MISS", "pass")
    assert Row("neither met", 3.0, published, target).verdict == "MISS"


def test_a_row_that_is_not_comparable_is_neither_a_pass_nor_a_miss():
    row = Row("other data", 3.0, Published(1.0, "at most", "a paper"), comparable=False)
    assert (row.verdict, row.missed) == ("n/c", False)
    assert page.counted([row.published_verdict, "pass"]) == "1 of 1, 1 n/c"


def test_the_table_names_the_commits_at_which_the_cells_ran(tmp_path, monkeypatch):
    bench = Bench()
    monkeypatch.setattr(storage, "commit", lambda: "abc123")
    bench.run(tmp_path)
    monkeypatch.setattr(storage, "commit", lambda: "def456-dirty")
    bench.settings["second"] = {"epochs": 2}
    _, printed = bench.run(tmp_path)
    assert "run at commit abc123, def456-dirty" in " ".join(printed.split())
    assert "run at commit abc123, def456-dirty" in (tmp_path / "trial" / "table.md").read_text()
    result = json.loads((tmp_path / "trial" / "result.json").read_text())
    assert result["commits"] == ["abc123", "def456-dirty"]
    assert {name: cell["commit"] for name, cell in result["cells"].items()} == {
        "first": "abc123", "second": "def456-dirty"
    }  # fmt: skip


def test_a_cell_of_an_earlier_format_has_no_recorded_commit(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    path = tmp_path / "trial" / "cells" / "first.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "commit"}))
    _, printed = bench.run(tmp_path)
    assert bench.runs == ["first", "second"]
    assert "run at commit not recorded, " in " ".join(printed.split())


def test_the_commit_is_that_of_the_checkout_or_else_the_version(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-C", tmp_path, "-c", "user.name=n", "-c", "user.email=e@e", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    monkeypatch.setattr(storage, "__file__", str(tmp_path / "experiments" / "storage.py"))
    find = storage.commit.__wrapped__
    assert find() == f"isthmus {isthmus.__version__}"
    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    head = git("rev-parse", "HEAD")
    assert head.startswith(find())
    assert len(find()) == 10
    (tmp_path / "file").write_text("2")
    assert find() == f"{head[:10]}-dirty"


MODULES = [path for path in SOURCE.glob("*.py") if "EXPERIMENT = " in path.read_text()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_published_figures_and_targets_are_compared_with_and_used_for_nothing_else(path):
    functions = [part for part in ast.parse(path.read_text()).body if isinstance(part, ast.FunctionDef)]
    nodes = [(function.name, node) for function in functions for node in ast.walk(function)]
    tables = ("PUBLISHED", "TARGETS", "TABLE", "Published", "Target")
    assert [name for name, node in nodes if isinstance(node, ast.Name) and node.id in tables] == []
    read = {name for name, node in nodes if isinstance(node, ast.Attribute) and node.attr in ("published", "targets")}
    # The anchor of the variation sets decides whether a set is comparable; the others draw or describe the comparison.
    comparing = {"anchor_ratio", "_rows", "_error_row", "_remarks", "_comparability", "_pictures"}
    assert read <= (comparing if path.stem == "variations" else set())


@pytest.mark.parametrize("experiment", experiments.EXPERIMENTS.values(), ids=experiments.EXPERIMENTS)
def test_published_figures_have_a_source_and_targets_have_a_reason(experiment):
    for setup in (experiment.full, experiment.quick):
        assert all(type(bound) is Published and bound.source for bound in setup.published.values())
        assert all(type(bound) is Target and bound.source for bound in setup.targets.values())
        own = re.compile(r"aim|chosen here|chance|of our own", re.IGNORECASE)
        assert not [bound for bound in setup.published.values() if own.search(bound.source)]
    assert experiment.full.published or experiment.full.targets


def test_the_pages_are_written_from_results_and_keep_the_rest(tmp_path):
    bench = Bench()
    bench.run(tmp_path)
    pages = tmp_path / "docs"
    pages.mkdir()
    (pages / "README.md").write_text("# Title\n<!-- summary -->\n<!-- end summary -->\nby hand\n")
    (pages / "trial.md").write_text("# trial\n<!-- result -->\nwas here\n<!-- end result -->\nby hand\n")
    both = {"trial": bench.experiment, "other": replace(bench.experiment, name="other")}
    page.update(pages, tmp_path, both)
    written, summary = (pages / "trial.md").read_text(), (pages / "README.md").read_text()
    assert "by hand" in written
    assert "by hand" in summary
    assert "was here" not in written
    assert "| [trial](trial.md) | Two is at most three. | 1 of 1 | 1 of 1 |" in summary
    assert "| [other](other.md) | Two is at most three. | not run yet |" in summary
    assert "![a picture](images/trial-a-picture.png)" in written
    assert (pages / "images" / "trial-a-picture.png").is_file()
    assert not (pages / "other.md").exists()
    page.update(pages, tmp_path / "empty", both)
    assert (pages / "README.md").read_text() == summary
    assert (pages / "trial.md").read_text() == written


def test_a_page_that_does_not_exist_is_created(tmp_path):
    bench = Bench(ours=4.0)
    bench.run(tmp_path)
    (tmp_path / "README.md").write_text("<!-- summary -->\n<!-- end summary -->\n")
    page.update(tmp_path, tmp_path, {"trial": bench.experiment})
    assert (tmp_path / "trial.md").read_text().startswith("# trial\n")
    assert "| 0 of 1 **MISS** | 0 of 1 **MISS** |" in (tmp_path / "README.md").read_text()


def test_a_page_without_marks_is_refused():
    with pytest.raises(InputError, match="the page has no lines <!-- result -->"):
        page.put("# Title", "result", "text")


def test_a_folder_without_a_summary_page_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"there is no page .*README.md; name the folder of the pages"):
        page.update(tmp_path, tmp_path, {})
