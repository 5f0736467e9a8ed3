"""The prose of the project: first words of docstrings, and words that pages, help, docstrings and comments avoid."""

import ast
import io
import re
import tokenize
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from isthmus.cli import app

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "isthmus"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = ["isthmus", *sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists())]

FIRST_WORDS = ("What", "Where", "Whether", "How", "That", "Of")
"""First words of docstrings that do not say what the thing is or does."""

AVOIDED = {
    # metaphors
    "houses?|rooms?|walls": "package, layer, rule",
    "dream(s|t|ed|ing)?": "sample of the model",
    "settl(e|es|ed|ing)": "mean field; converge",
    "harmoniums?": "RBM",
    "(?!round)\\w+ trips?": "forward pass",
    "riddles?": "question",
    "yardsticks?": "baseline",
    "manners?": "convention",
    "holes?|(with|have|has|fills?) gaps": "missing entries",
    "stand-ins?": "placeholder",
    "hits?": "corrupted entry; corruption mask",
    # acts of people that code, models and data do not do
    "machines? (that|which|who)": "RBM; Boltzmann machine",
    "told|tells?": "gets; reports; distinguishes",
    "speaks?": "connected to",
    "look(s|ed|ing)? at": "validation rows; check; compute from",
    "wants": "expects; needs",
    "admits?": "accepts",
    "somebody|nobody": "the user; a passive",
    "likes? to": "often",
    "lets? expect": "expectation given",
    "heed(s|ed|ing)?": "check",
    # private phrases
    "(?!there)\\w+ is no(?! (longer|better|more|less|larger|smaller))": "is not a",
    "no number(?! of)": "NaN; not a number",
    "cannot be meant": "invalid",
    "what (it|is) (draws|drawn)": "samples",
    "row a row": "output row i encodes input row i",
    "in which arithmetic": "floating-point precision",
    "input.s fault": "internal error",
    "beside": "next to; compared with; in addition to",
    "drawn anew": "sampled again",
    "begun|began|begins? at": "started; initialised to",
    "learned from": "training rows",
    "nothing (is|was) said|was said|is said|left at nothing": "by default; None",
    "asks for nothing|nothing is asked": "off",
    "(a|its|the|whose|same) shares?|shares? of": "fraction of",
    "(n|the|of|more|these|which|own|its|from) draws": "samples",
    "fewest": "minimum",
    "thrown away|goes by itself": "discarded; removed",
}
"""Words and phrases, as regular expressions, and the terms to use instead."""

TITLES = ("Exponential family harmoniums",)
"""Titles of sources, in which any word may occur."""

_AVOIDED = [
    (re.compile(rf"\b({pattern})\b".replace(" ", r"\s+"), re.IGNORECASE), terms) for pattern, terms in AVOIDED.items()
]


def documentation(path):
    """Return line and text of the docstrings of a file and of the strings below its constants."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        opens = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        for before, statement in pairwise([node if opens else None, *body]):
            string = statement.value if isinstance(statement, ast.Expr) else None
            documented = before is node or isinstance(before, ast.Assign | ast.AnnAssign)
            if documented and isinstance(string, ast.Constant) and isinstance(string.value, str):
                found.append((statement.lineno, string.value))
    return found


def prose(path):
    """Return the text of a page, or of a module with all but comments and strings as blanks, in the same lines."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    lines = text.splitlines()
    kept = [[" "] * len(line) for line in lines]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if tokenize.tok_name[token.type] in ("COMMENT", "STRING", "FSTRING_MIDDLE"):
            (first, start), (last, end) = token.start, token.end
            for number in range(first - 1, last):
                part = slice(start if number == first - 1 else 0, end if number == last - 1 else None)
                kept[number][part] = re.sub(r"['\"#]", " ", lines[number][part])
    return "\n".join("".join(line) for line in kept)


def occurrences(text, name):
    """Return one line for each avoided word of a text: name and line, the word, and the terms to use instead."""
    for title in TITLES:
        text = re.sub(title.replace(" ", r"\s+"), lambda found: re.sub(r"\S", "-", found[0]), text)
    found = [(match, terms) for pattern, terms in _AVOIDED for match in pattern.finditer(text)]
    return [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {' '.join(match[0].split())!r}; use: {terms}"
        for match, terms in sorted(found, key=lambda pair: pair[0].start())
    ]


def commands(command=None, names=()):
    """Yield the words of every command and group of the command line."""
    command = command or typer.main.get_command(app)
    yield names
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*names, name))


def modules(folder):
    """Return the modules of a folder of the package; "isthmus" stands for those at its top."""
    return sorted(SOURCE.glob("*.py") if folder == "isthmus" else (SOURCE / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_docstring_starts_with_what_the_thing_is_or_does(folder):
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.split()[0]}"
        for path in modules(folder)
        for line, text in documentation(path)
        if re.split(r"\W", text.strip(), maxsplit=1)[0] in FIRST_WORDS
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_strings_and_comments_of_a_module_use_standard_terms(folder):
    found = [line for path in modules(folder) for line in occurrences(prose(path), path.relative_to(ROOT))]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_uses_standard_terms(page):
    found = occurrences(prose(page), page.relative_to(ROOT))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("names", list(commands()), ids=lambda names: " ".join(("isthmus", *names)))
def test_the_help_of_a_command_uses_standard_terms(names, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    result = CliRunner().invoke(app, [*names, "--help"])
    assert result.exit_code == 0
    found = occurrences(result.stdout, " ".join(("isthmus", *names, "--help")))
    assert not found, "\n" + "\n".join(found)


def test_an_occurrence_is_found_across_lines_and_in_every_kind_of_prose(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        '"""Rows that are looked\n    at."""\n\nrooms = f"the yardstick {1}"  # settled\nSIZE = 1\n"""How many."""\n'
    )
    found = [line.split("; use")[0] for line in occurrences(prose(module), "module.py")]
    assert found == ["module.py:1: 'looked at'", "module.py:4: 'yardstick'", "module.py:4: 'settled'"]
    assert documentation(module) == [(1, "Rows that are looked\n    at."), (6, "How many.")]
