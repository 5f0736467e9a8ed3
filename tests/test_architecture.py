"""The structure of the package: layers, no import circles, nothing unpickled or executed, lazy public names."""

import ast
import importlib
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from torch import nn

SOURCE = Path(__file__).parent.parent / "src" / "isthmus"
LAYERS = [
    "errors",
    "parts",
    "learning",
    "geometry",
    "files",
    "data",
    "evaluation",
    "values",
    "estimators",
    "retrieval",
    "report",
    "pyod",
    "cli",
    "__main__",
]
"""From the bottom: a module imports from the layers before its own and from its own."""

MODULES = {
    ".".join(["isthmus", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


def imports(module):
    """The modules of the package that a module names in an import anywhere: functions and type checking included."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= submodules or {node.module}
    return (found & MODULES.keys()) - {module}


GRAPH = {module: imports(module) for module in MODULES if module != "isthmus"}


def layer(module):
    return LAYERS.index(module.split(".")[1])


def test_a_module_imports_from_lower_layers_and_its_own():
    upward = [(a, b) for a, found in GRAPH.items() for b in found - {"isthmus"} if layer(b) > layer(a)]
    assert upward == []


def test_there_is_no_import_circle():
    # The package itself names every public class lazily: a module that imports it closes a circle to itself.
    lazy = {module: found - ({"isthmus"} if layer(module) > LAYERS.index("estimators") else set())
            for module, found in GRAPH.items()}  # fmt: skip
    estimators = {module for module in GRAPH if layer(module) == LAYERS.index("estimators")}
    try:
        TopologicalSorter({**lazy, "isthmus": estimators}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_is_unpickled_or_executed():
    unsafe = {"pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
    found = []
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                pickled = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
                names = ["pickle"] if called in ("eval", "exec", "torch.load") or pickled else []
            found += [(module, node.lineno) for name in names if name.split(".")[0] in unsafe]
    assert found == []


def test_no_module_imports_that_of_pyod():
    assert [module for module, found in GRAPH.items() if "isthmus.pyod" in found] == []


def test_only_estimators_import_scikit_learns_base_classes():
    users = {module.split(".")[1] for module, path in MODULES.items() if "sklearn.base" in path.read_text()}
    assert users <= {"estimators"}


def test_inheritance_below_modules_of_torch_is_at_most_three_levels_deep():
    for module in MODULES:
        importlib.import_module(module)
    levels, pending = {nn.Module: 0}, [nn.Module]
    while pending:
        parent = pending.pop()
        for child in parent.__subclasses__():
            levels[child] = max(levels.get(child, 0), levels[parent] + 1)
            pending.append(child)
    of_the_package = {cls.__qualname__: n for cls, n in levels.items() if cls.__module__.startswith("isthmus.")}
    assert len(of_the_package) > 50
    assert {name: n for name, n in of_the_package.items() if n > 3} == {}


def test_importing_isthmus_waits_for_nothing_heavy():
    heavy = ("torch", "sklearn", "pandas", "numpy", "matplotlib", "plotly", "lightning_fabric")
    script = f"import isthmus, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import isthmus

    assert [name for name in isthmus.__all__ if not hasattr(isthmus, name)] == []
    assert set(isthmus.__all__) <= set(dir(isthmus))
    assert callable(isthmus.data.open)
    assert callable(isthmus.report.write)
    with pytest.raises(AttributeError, match="has no attribute 'Autoencoderr'"):
        isthmus.Autoencoderr  # noqa: B018
