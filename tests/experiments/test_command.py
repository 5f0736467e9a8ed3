"""`python -m experiments`."""

import pytest
from typer.testing import CliRunner

import experiments
from experiments.__main__ import app
from isthmus import InputError
from isthmus.cli.terminal import JobFailed


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def asked(monkeypatch):
    """Two experiments, of which the second misses a figure; the list of requested runs."""
    requests = []

    def run_one(name, *, quick, folder, force):
        requests.append((name, quick, folder, force))
        return name == "first"

    monkeypatch.setattr(experiments, "EXPERIMENTS", {"first": None, "second": None})
    monkeypatch.setattr(experiments, "run", run_one)
    return requests


def test_the_named_experiment_runs(asked, tmp_path):
    run("first", "--quick", "--folder", tmp_path, "--force")
    assert asked == [("first", True, str(tmp_path), True)]


def test_without_a_name_the_experiments_are_listed(tmp_path):
    printed = run("--folder", tmp_path).stdout
    assert "linear-is-pca" in printed
    assert printed.count("not run yet") > 3


def test_the_quick_forms_run_together_and_a_missed_figure_is_a_failure(asked):
    with pytest.raises(JobFailed, match="figures were missed in second"):
        run("--quick")
    assert asked == [("first", True, "reproductions", False), ("second", True, "reproductions", False)]


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="did you mean 'linear-is-pca'"):
        run("linear-is-pac")
