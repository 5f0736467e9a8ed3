"""Run a command in this process, and list the files it wrote."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from isthmus.cli import app

SMALL = ("--epochs", "2", "--seed", "0", "--set", "hidden_sizes=8", "--code-size", "2")


def run(*args: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


def listing(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
