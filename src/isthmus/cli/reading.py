"""The options of commands that read data: how a text table is read, the types of its columns, and which are read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import options
from isthmus.cli.option_groups import Command, with_group
from isthmus.cli.sources import AS_TRAINED, Reading
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
"""The options of text tables by the names of their parameters."""

COLUMN_OPTIONS = {
    "keep": options.Keep,
    "exclude": options.Exclude,
    "extra_columns": options.ExtraColumns,
    "unknown": options.Unknown,
}
"""The options on the columns of data for a fitted model, by the attributes of `Reading`, which has their defaults."""


def with_reading(*, without: Collection[str] = (), **decided: Any) -> Callable[[Command], Command]:
    """Return a decorator that passes one `Reading` to the parameter `reading` of a command.

    The command gets the options of `COLUMN_OPTIONS` in the place of the parameter, and those of `OPTIONS`.

    Args:
        without: names of the options of `COLUMN_OPTIONS` that the command does not have.
        decided: attributes of `Reading` that the command decides.
    """
    columns = {name: option for name, option in COLUMN_OPTIONS.items() if name not in without}

    def build(**given: Any) -> Reading:
        of_columns = {name: given.pop(name) for name in columns}
        return Reading(**of_columns, **decided, text=read_options(**given))

    defaults = {name: getattr(AS_TRAINED, name) for name in columns}
    return with_group({**columns, **OPTIONS}, "reading", build, defaults=defaults, in_place=columns)


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
