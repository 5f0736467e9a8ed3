"""The rooms of the design: who may import whom, how long a file may be, and that names are lazy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "isthmus"
ROOMS = [
    "errors", "parts", "learning", "geometry", "evaluation", "files", "data",
    "estimators", "report", "cli",
]  # fmt: skip
"""From the ground up: a room may import those before it and itself."""

MODULES = sorted(path for path in SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "isthmus"
            names += [f"isthmus.{alias.name}" if whole else node.module for alias in node.names]
    found = {name.split(".")[1] for name in names if name.startswith("isthmus.")}
    return found & set(ROOMS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_layer_imports_only_lower_layers(path):
    room = room_of(path)
    if room == "__init__":
        return
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    assert imported_rooms(path) <= allowed


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_no_file_grows_past_four_hundred_lines(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_is_unpickled_or_executed(path):
    text = path.read_text()
    for word in ("import pickle", "joblib", "torch.load", "eval(", "exec(", "allow_pickle=True"):
        assert word not in text.replace(".eval()", "").replace("literal_eval(", "")


def test_only_estimators_import_scikit_learns_base_classes():
    users = {room_of(path) for path in MODULES if "sklearn.base" in path.read_text()}
    assert users <= {"estimators"}


def test_importing_isthmus_and_asking_for_help_waits_for_nothing_heavy():
    heavy = ("torch", "sklearn", "pandas", "numpy", "matplotlib", "plotly", "lightning_fabric")
    script = f"import isthmus, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import isthmus

    assert [name for name in isthmus.__all__ if not hasattr(isthmus, name)] == []
    assert set(isthmus.__all__) <= set(dir(isthmus))
    with pytest.raises(AttributeError, match="has no attribute 'Autoencoderr'"):
        isthmus.Autoencoderr  # noqa: B018
