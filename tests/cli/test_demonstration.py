"""`isthmus demo` and `reproduce`."""

import pytest

import isthmus

from .commands import run


@pytest.fixture
def few_digits(monkeypatch):
    """A few of the digits: the command's way is tested here, its figures are looked at by hand."""
    import isthmus.data

    whole = isthmus.data.open

    def few(source, **options):
        data = whole(source, **options)
        return isthmus.data.Dataset(data.X[:150], data.labels[:150], data.name)

    monkeypatch.setattr("isthmus.data.open", few)


def test_the_demo_prints_a_table_and_leaves_a_model_and_a_report(few_digits, tmp_path, monkeypatch, fine):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # a second run replaces what the first one left
        result = fine("demo", "--epochs", 1)
        for told in ("squared error a digit", "principal components", "10-class linear probe", "784 pixels", "seconds"):
            assert told in result.stdout
        assert "next: open demo/report.html" in result.stderr
        assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["digits.isthmus", "report.html"]
    model = isthmus.load("demo/digits.isthmus")
    assert (model.code_size_, model.preprocessing_.row_shape) == (32, (28, 28))


def test_ctrl_c_in_the_demo_ends_with_130(few_digits, tmp_path, monkeypatch):
    def interrupted(self, X):
        self.history_ = {"stopped": "interrupted"}

    monkeypatch.setattr("isthmus.Autoencoder.fit", interrupted)
    result = run("demo", "--folder", tmp_path / "demo", "--quiet")
    assert (result.exit_code, result.stderr) == (130, "isthmus: error: interrupted\n")
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.fixture
def experiments(monkeypatch):
    """Two experiments, of which the second misses a figure; what was asked of them."""
    import isthmus.reproduce

    asked = []

    def run_one(name, *, quick, folder, force):
        asked.append((name, quick, folder, force))
        return name == "first"

    monkeypatch.setattr(isthmus.reproduce, "EXPERIMENTS", {"first": None, "second": None})
    monkeypatch.setattr(isthmus.reproduce, "run", run_one)
    return asked


def test_reproduce_runs_the_named_experiment(experiments, tmp_path, fine):
    fine("reproduce", "first", "--quick", "--folder", tmp_path, "--force")
    assert experiments == [("first", True, str(tmp_path), True)]


def test_reproduce_without_a_name_lists_the_experiments(tmp_path, fine):
    printed = fine("reproduce", "--folder", tmp_path).stdout
    assert "linear-is-pca" in printed
    assert printed.count("not run yet") > 3


def test_the_quick_forms_run_together_and_a_missed_figure_is_a_failure(experiments):
    result = run("reproduce", "--quick")
    assert result.exit_code == 1
    assert result.stderr == "isthmus: error: figures were missed in second\n"
    assert experiments == [("first", True, "reproductions", False), ("second", True, "reproductions", False)]
