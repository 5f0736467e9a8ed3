"""The options of commands that read data files: how a text table is read, and the types of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli.option_groups import Command, with_group
from isthmus.errors import InputError

if TYPE_CHECKING:
    from isthmus.data.read_options import ReadOptions

PANEL = "Reading of .csv files"
"""Panel of the options in the help of a command."""


def _text(option: str, metavar: str, text: str) -> Any:
    return Annotated[str | None, typer.Option(option, metavar=metavar, rich_help_panel=PANEL, help=text)]


def _texts(option: str, metavar: str, text: str) -> Any:
    return Annotated[list[str] | None, typer.Option(option, metavar=metavar, rich_help_panel=PANEL, help=text)]


OPTIONS = {
    "sep": _text("--sep", "CHARACTER", "Separator of columns, or tab. Default: guessed."),
    "decimal": _text("--decimal", ".|,", "Decimal sign. Default: guessed."),
    "thousands": _text("--thousands", "CHARACTER", "Separator of thousands. Default: guessed."),
    "encoding": _text("--encoding", "NAME", "Encoding of the text, such as latin-1. Default: utf-8."),
    "header": Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header", rich_help_panel=PANEL, help="Whether line 1 holds column names. Default: guessed."
        ),
    ],
    "na": _texts("--na", "VALUE", "Further missing value, such as -9999. Repeatable."),
    "dtype": _texts(
        "--dtype", "COLUMN=TYPE",
        "Type of a column: real, count, binary, category, date, text, id (left out, repeated by outputs) or ignore. "
        "Repeatable. Any table.",
    ),
}  # fmt: skip
"""The options by the names of their parameters."""


def with_read_options(command: Command) -> Command:
    """Give a command the options of `OPTIONS`, and pass them to its parameter `text` as one `ReadOptions`."""
    return with_group(OPTIONS, "text", read_options)(command)


def read_options(*, na: list[str] | None, dtype: list[str] | None, **given: Any) -> ReadOptions:
    """Return the options of a command line.

    Raises:
        InputError: --dtype without =, a column twice, or an invalid option.
    """
    from isthmus.data.read_options import ReadOptions

    dtypes: dict[str, str] = {}
    for text in dtype or ():
        column, sign, name = text.rpartition("=")
        if not sign or column in dtypes:
            raise InputError(f"--dtype {text}: give COLUMN=TYPE, each column once")
        dtypes[column] = name
    return ReadOptions(**given, na=tuple(na or ()), dtypes=dtypes)
