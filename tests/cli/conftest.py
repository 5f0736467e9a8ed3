"""Data files and models for the commands, and fixtures that run a command and check its result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import Result

from .commands import SMALL, listing, run


@pytest.fixture
def succeed() -> Callable[..., Result]:
    """Run a command and check that it succeeds."""

    def check(*args: object) -> Result:
        result = run(*args)
        assert result.exit_code == 0, result.stderr
        assert "isthmus: error" not in result.stderr
        return result

    return check


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., None]:
    """Run a command; check exit code 2, one error line with every fragment, and an unchanged `tmp_path`."""

    def check(args: tuple[object, ...], *fragments: str, code: int = 2) -> None:
        before = listing(tmp_path)
        result = run(*args)
        lines = result.stderr.splitlines()
        assert result.exit_code == code, result.stderr
        assert result.stdout == ""
        assert [line for line in lines if line.startswith("isthmus: error: ")] == lines[-1:]
        assert "Traceback" not in result.stderr
        for fragment in fragments:
            assert fragment in lines[-1]
        assert listing(tmp_path) == before

    return check


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 3)) + 5
    frame = pd.DataFrame(wide, columns=["length", "width", "height"])
    frame["city"] = rng.choice(["Berlin", "Lima", "Oslo"], 60)
    frame["species"] = np.where(frame["length"] > 5, "long", "short")
    return frame


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame) -> Path:
    """Folder with data files and models of a table, an array and images. Tests do not write to it."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(1)
    table.to_csv(folder / "table.csv", index=False)
    np.save(folder / "array.npy", rng.normal(size=(60, 4)) @ rng.normal(size=(4, 5)))
    (folder / "images").mkdir()
    for i in range(12):
        pixels = np.add.outer(np.arange(6), np.arange(5)) * 20 + rng.integers(0, 40, (6, 5))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / f"{i:02d}.png")
    fits = {"table": ("table.csv", "--exclude", "species"), "array": ("array.npy",), "images": ("images",)}
    for name, (data, *more) in fits.items():
        result = run("fit", folder / data, "-o", folder / f"{name}.isthmus", *SMALL, *more)
        assert result.exit_code == 0, result.stderr
    return folder
