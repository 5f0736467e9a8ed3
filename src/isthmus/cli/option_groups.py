"""Groups of options that several commands share, and that a command gets as one value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

Command = Callable[..., None]
"""A function that typer turns into a command."""


def with_group(options: Mapping[str, Any], parameter: str, build: Callable[..., Any]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command options, and passes what they say to one of its parameters.

    Args:
        options: annotations of typer by the names of the options, which have no default.
        parameter: keyword of the command that gets the value.
        build: returns the value from the options by name.
    """

    def decorate(command: Command) -> Command:
        """Return the command with the options in its signature, and without the parameter."""
        signature = inspect.signature(command, eval_str=True)
        own = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in options.items()
        ]
        others = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, each in signature.parameters.items()
            if name != parameter
        ]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            value = build(**{name: given.pop(name) for name in options})
            command(**given, **{parameter: value})

        del run.__dict__["__wrapped__"]
        run.__signature__ = signature.replace(parameters=[*others, *own])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*others, *own)}
        return run

    return decorate
