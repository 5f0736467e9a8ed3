"""The command line `isthmus COMMAND`. Each command is one short function.

Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failed job, 2 wrong usage or invalid input,
130 interrupted. torch, scikit-learn and pandas are imported inside the commands that need them: `--help` stays fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from isthmus.cli import (
    anomalies,
    classifying,
    codes,
    demo,
    describing,
    evaluation,
    fitting,
    imputing,
    indexing,
    inspection,
    paths,
    searching,
)
from isthmus.cli.terminal import run_command
from isthmus.errors import InputError


class _Commands(TyperGroup):
    """Command group that turns every failure into one line on stderr and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        typed = list(sys.argv[1:] if args is None else args) or ["--help"]
        run = super().main
        code = run_command(lambda: run(typed, "isthmus", complete_var, standalone_mode=False, **extra))
        if standalone_mode:
            sys.exit(code)
        return code


app = typer.Typer(
    cls=_Commands,
    help="Train autoencoders on arrays, tables, images and text, and use their codes.",
    epilog="Start with: isthmus demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(requested: bool) -> None:
    if requested:
        from isthmus import __version__

        print(f"isthmus {__version__}")
        raise typer.Exit


def _import_modules(names: list[str] | None) -> None:
    """Import modules of the user, which may register networks; the current folder is searched first."""
    sys.path.insert(0, "")
    for name in names or ():
        if "/" in name or name.endswith(".py"):
            stem = name.rpartition("/")[2].removesuffix(".py")
            raise InputError(f"--import {name}: this is a path; name the module, --import {stem}, in its folder")
        try:
            import_module(name)
        except ImportError as error:
            raise InputError(f"--import {name}: {error}; name a module in this folder or an installed one") from error


@app.callback()
def _every_command(
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import", metavar="MODULE", help="Import a Python module first, such as one that registers a network."
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Handle the options that precede the command."""
    if imports:
        _import_modules(imports)


for _command in (
    fitting.fit,
    codes.encode,
    codes.decode,
    codes.reconstruct,
    codes.denoise,
    codes.sample,
    paths.traverse,
    paths.interpolate,
    evaluation.evaluate,
    evaluation.report,
    searching.search,
    searching.duplicates,
    describing.describe,
    inspection.info,
    inspection.kinds,
    demo.demo,
):
    app.command()(_command)
app.add_typer(classifying.app, name="classify")
app.add_typer(anomalies.app, name="anomalies")
app.add_typer(imputing.app, name="impute")
app.add_typer(indexing.app, name="index")


def main() -> None:
    """Run the program `isthmus`."""
    app()
