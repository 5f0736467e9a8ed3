"""Groups of options that several commands share, and that a command gets as one value."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

Command = Callable[..., None]
"""A function that typer turns into a command."""


def with_group(
    options: Mapping[str, Any],
    parameter: str,
    build: Callable[..., Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    in_place: Collection[str] = (),
) -> Callable[[Command], Command]:
    """Return a decorator that gives a command options, and passes what they say to one of its parameters.

    Args:
        options: annotations of typer by the names of the options.
        parameter: keyword of the command that gets the value.
        build: returns the value from the options by name.
        defaults: defaults by the names of the options; None of others.
        in_place: names of the options that take the place of the parameter in the help. Others come last.
    """
    default_of = {} if defaults is None else defaults

    def decorate(command: Command) -> Command:
        """Return the command with the options in its signature, and without the parameter."""
        signature = inspect.signature(command, eval_str=True)
        own = {
            name: inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default_of.get(name), annotation=annotation
            )
            for name, annotation in options.items()
        }
        parameters: list[inspect.Parameter] = []
        for name, each in signature.parameters.items():
            if name == parameter:
                parameters += [own[option] for option in own if option in in_place]
            else:
                parameters.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        parameters += [own[option] for option in own if option not in in_place]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            value = build(**{name: given.pop(name) for name in options})
            command(**given, **{parameter: value})

        del run.__dict__["__wrapped__"]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate
