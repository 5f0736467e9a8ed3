"""`python -m experiments [NAME] [--quick]`: run an experiment and compare its figures with the published ones."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import experiments
from isthmus.cli.terminal import JobFailed, print_table, run_command

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Experiment to run. Without a name: list all, or run all with --quick."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run a reduced form of a few seconds on the data that the package ships.")
    ] = False,
    folder: Annotated[str, typer.Option(metavar="FOLDER", help="Output folder.")] = "reproductions",
    force: Annotated[bool, typer.Option("--force", help="Discard the stored results of an earlier run.")] = False,
) -> None:
    """Run an experiment and print the published figure, the target, our figure and the verdict of each row."""
    if name is None and not quick:
        print_table(experiments.listing(folder))
        return
    names = [name] if name is not None else list(experiments.EXPERIMENTS)
    verdicts = {one: experiments.run(one, quick=quick, folder=folder, force=force) for one in names}
    missed = [one for one, passed in verdicts.items() if not passed]
    if missed:
        raise JobFailed(f"figures were missed in {', '.join(missed)}")


if __name__ == "__main__":
    sys.exit(run_command(lambda: app(standalone_mode=False)))
