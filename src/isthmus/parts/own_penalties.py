"""Penalties of users by name: the registry of functions for `isthmus.parts.penalties.CustomPenalty`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from isthmus.parts.penalties import PenaltyFunction
from isthmus.parts.registered import Registry

_PENALTIES = Registry("penalty", "isthmus.register_penalty", built_in=("l1", "student-t", "log", "kl", "contraction"))

Function = TypeVar("Function", bound=PenaltyFunction)


def register_penalty(name: str) -> Callable[[Function], Function]:
    """Register a penalty function under a name, with which it is stored in model files; a decorator.

    Args:
        name: the name.

    Raises:
        InputError: the name is not a text; it belongs to another function.

    Example:
        >>> @register_penalty("example-energy")
        ... def energy(output, coder):
        ...     return output.code.square().sum(-1)
        >>> penalty_named("example-energy") is energy, penalty_name(energy)
        (True, 'example-energy')
    """
    return _PENALTIES.register(name)


def penalty_named(name: str) -> PenaltyFunction:
    """Return the penalty function that is registered under a name.

    Raises:
        InputError: the name is not registered.
    """
    return cast(PenaltyFunction, _PENALTIES.named(name))


def penalty_name(function: Any) -> str | None:
    """Return the name under which a penalty function is registered; None for any other object."""
    return _PENALTIES.name_of(function)
