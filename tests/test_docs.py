"""Every example of the guide and of the README runs, and the page of values describes the values that there are."""

import ast
import doctest
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

import isthmus
from isthmus.cli import app
from isthmus.estimators.registry import KINDS, PREDICTORS
from isthmus.values.value import ARGUMENTS, Value

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))

VALUES = {
    name: value
    for name, value in ((name, getattr(isthmus, name)) for name in isthmus.__all__)
    if isinstance(value, type) and issubclass(value, Value)
}
ESTIMATORS = {**KINDS, **{estimator.__name__: estimator for estimator in PREDICTORS.values()}}
SECTIONS = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "values.md").read_text(), re.M | re.S))
"""Sections of the page of values by argument: an introduction, and an entry for each value."""
ENTRIES = {
    argument: dict(re.findall(r"^### (\w+)\n(.*?)(?=^### |\Z)", section, re.M | re.S))
    for argument, section in SECTIONS.items()
}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.S))
    code = "".join(line for line in examples.splitlines(keepends=True))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=flags)
    report = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda p: p.name)
def test_a_tutorial_runs_as_it_is_written(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, parser = {}, doctest.DocTestParser()
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", page.read_text(), re.S):
        if language == "python":
            runner, report = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE), []
            runner.run(parser.get_doctest(block, names, page.name, str(page), 0), out=report.append, clear_globs=False)
            assert not runner.failures, "".join(report)
            names.update(runner.test.globs)
            continue
        for line in block.splitlines():
            result = CliRunner().invoke(app, shlex.split(line)[1:])
            assert result.exit_code == 0, f"{line}: {result.stderr}"


@pytest.mark.parametrize("page", [*PAGES, *TUTORIALS], ids=lambda p: p.name)
def test_the_links_and_pictures_of_a_page_are_there(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def kinds_of(text):
    """Return the names in the sentence "Kinds: ..." of a text, with the defaults in parentheses."""
    sentence = re.search(r"Kinds: (.*?)\.(?:\s|$)", text, re.S)[1]
    return dict(re.findall(r"`([\w-]+)`(?: \(`([^`]*)`\))?", sentence))


def test_every_value_has_one_entry_and_every_argument_a_section():
    assert sorted(name for entries in ENTRIES.values() for name in entries) == sorted(VALUES)
    assert SECTIONS.keys() == {*ARGUMENTS, "penalties"}


@pytest.mark.parametrize("name", VALUES)
def test_an_entry_has_the_fields_and_defaults_of_its_value(name):
    entry = next(entries[name] for entries in ENTRIES.values() if name in entries)
    written = {field: ast.literal_eval(text) for field, text in re.findall(r"^- `(\w+) = (.+?)`:", entry, re.M)}
    assert list(map(repr, written.items())) == [repr((field.name, field.default)) for field in fields(VALUES[name])]


@pytest.mark.parametrize("argument", SECTIONS)
def test_a_section_has_the_strings_of_its_argument_and_the_kinds_with_their_defaults(argument):
    entries = {name: text for section in ENTRIES.values() for name, text in section.items()}
    for string, value in (ARGUMENTS[argument].values if argument in ARGUMENTS else {}).items():
        assert f'`{argument}="{string}"`' in entries[type(value).__name__]
    kinds = {name: estimator for name, estimator in ESTIMATORS.items() if argument in estimator._get_param_names()}
    defaults = {name: getattr(estimator(), argument) for name, estimator in kinds.items()}
    assert {name: ast.literal_eval(text) for name, text in kinds_of(SECTIONS[argument]).items()} == defaults
    for name, entry in ENTRIES[argument].items():
        assert kinds_of(entry).keys() <= {*kinds, "Layer", "RBMLayer", "penalties"}, name
