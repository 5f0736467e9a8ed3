"""The command lines of the benchmarks."""

import importlib
import sys

import pytest

import isthmus.data


@pytest.mark.parametrize("module", ["__main__", "kinds", "quality"])
def test_help_prints_the_usage_and_measures_nothing(module, monkeypatch, capsys):
    def read(*arguments):
        raise AssertionError("the benchmark started")

    command = importlib.import_module(f"benchmarks.{module}")
    monkeypatch.setattr(isthmus.data, "open", read)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m benchmarks")
