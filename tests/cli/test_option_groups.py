"""Groups of options: their place in the signature of a command, their defaults, and the value that they make."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import typer

from isthmus.cli import app
from isthmus.cli.option_groups import with_group
from isthmus.cli.reading import COLUMN_OPTIONS, OPTIONS, with_reading
from isthmus.cli.sources import AS_TRAINED, Reading
from isthmus.errors import InputError


def test_a_group_stands_in_the_place_of_its_parameter_or_last():
    def command(first: int, value: Any = None, last: int = 2) -> None:
        assert (first, value, last) == (1, {"a": 5, "b": "b"}, 2)

    grouped = with_group({"a": int, "b": str}, "value", dict, defaults={"b": "b"}, in_place=["b"])(command)
    assert list(inspect.signature(grouped).parameters) == ["first", "b", "last", "a"]
    assert inspect.signature(grouped).parameters["a"].default is None
    assert inspect.signature(grouped).parameters["b"].default == "b"
    grouped(first=1, b="b", last=2, a=5)


def test_a_command_gets_one_reading_of_its_options():
    given = dict.fromkeys(OPTIONS) | {"keep": ["k"], "unknown": "refuse", "dtype": ["x=real"]}
    found = []

    def command(reading: Any = AS_TRAINED) -> None:
        found.append(reading)

    with_reading(without=["exclude", "extra_columns"], extra_columns="ignore", larger=True)(command)(**given)
    (reading,) = found
    assert isinstance(reading, Reading)
    assert (reading.keep, reading.unknown, reading.extra_columns) == (["k"], "refuse", "ignore")
    assert reading.exclude is None
    assert reading.larger
    assert reading.text.dtypes == {"x": "real"}
    with pytest.raises(InputError, match="--unknown many: it must be missing or refuse"):
        with_reading()(command)(**dict.fromkeys([*OPTIONS, *COLUMN_OPTIONS]) | {"unknown": "many"})


def _commands(group: Any) -> list[Any]:
    """Return the commands of a group and of its groups."""
    found = []
    for each in group.commands.values():
        found += _commands(each) if hasattr(each, "commands") else [each]
    return found


def test_an_option_that_commands_share_is_the_same_in_all_of_them():
    options: dict[str, set[tuple[Any, ...]]] = {}
    for command in _commands(typer.main.get_command(app)):
        if command.name != "fit":  # `fit` has a panel of its own
            for each in command.params:
                if each.name in {*COLUMN_OPTIONS, *OPTIONS}:
                    options.setdefault(each.name, set()).add((*each.opts, each.help, each.default))
    assert set(options) == {*COLUMN_OPTIONS, *OPTIONS}
    assert {name: len(variants) for name, variants in options.items() if len(variants) > 1} == {}
