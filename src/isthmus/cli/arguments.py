"""What is typed on the command line, made into values: times, sizes, settings of a kind."""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from isthmus.errors import InputError

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}


def seconds(text: str) -> float:
    """A time such as 90s, 5m, 1h or 1h30m, in seconds; a bare number is seconds.

    Raises:
        InputError: anything else, or no time at all.

    Example:
        >>> seconds("90s"), seconds("5m"), seconds("1h30m"), seconds("0.5")
        (90.0, 300.0, 5400.0, 0.5)
    """
    whole = re.fullmatch(r"\s*(\d+(?:\.\d+)?[hms]?)+\s*", text.lower())
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text.lower()) if whole else []
    bare = sum(not unit for _, unit in parts)
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not parts or total <= 0 or (bare and len(parts) > 1):
        raise InputError(f"{text!r} is no time; write one such as 90s, 5m, 1h or 1h30m")
    return total


def size(text: str) -> tuple[int, int]:
    """A size HEIGHTxWIDTH in pixels.

    Raises:
        InputError: anything else.

    Example:
        >>> size("32x48")
        (32, 48)
    """
    found = re.fullmatch(r"\s*(\d+)\s*[x×]\s*(\d+)\s*", text.lower())
    if not found or not int(found[1]) or not int(found[2]):
        raise InputError(f"--resize {text}: write height and width in pixels, such as 28x28")
    return int(found[1]), int(found[2])


def fraction(text: str) -> float | None:
    """A number as a share of the rows, None for anything else (then it names data).

    Raises:
        InputError: a number that is no share.

    Example:
        >>> fraction("0.2"), fraction("held-out.csv")
        (0.2, None)
    """
    try:
        share = float(text)
    except ValueError:
        return None
    if not (math.isfinite(share) and 0 <= share < 1):
        raise InputError(f"--validation {text}: a share is at least 0 and below 1, such as 0.1; or name held-out data")
    return share


def value(text: str) -> Any:
    """What was typed after NAME=: JSON, a Python literal, or else the text itself.

    Example:
        >>> value("512,256"), value("true"), value("None"), value("relu"), value('{"a": "count"}')
        ((512, 256), True, None, 'relu', {'a': 'count'})
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def settings(assignments: Sequence[str], kind: str, constructor: type) -> dict[str, Any]:
    """NAME=VALUE of `--set`, checked against the names and types of a kind's constructor.

    Args:
        assignments: as they were typed.
        kind: the name of the kind, for the errors.
        constructor: its class, whose annotated fields are the arguments.

    Raises:
        InputError: no '=', a name twice, an unknown one (the nearest is suggested), a value of another type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Kind:
        ...     hidden_sizes: Sequence[int] | None = None
        >>> settings(["hidden_sizes=512,256"], "a-kind", Kind)
        {'hidden_sizes': (512, 256)}
    """
    from isthmus.data.messages import hint

    types = get_type_hints(constructor)  # of what `fit` learns too
    hints = {name: types[name] for name in inspect.signature(constructor).parameters if name in types}
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not name:
            raise InputError(f"--set {assignment}: write NAME=VALUE, such as --set hidden_sizes=512,256")
        name = name.replace("-", "_")
        if name not in hints:
            raise InputError(
                f"--set {assignment}: the kind {kind!r} has no setting {name!r}; {hint(name, list(hints))}"
            )
        if name in found:
            raise InputError(f"--set {assignment}: {name} is set twice; set it once")
        found[name] = _parse_value(name, text, hints[name])
    return found


def _parse_value(name: str, text: str, annotation: Any) -> Any:
    """The value in the first of the annotated types that admits it."""
    typed = value(text)
    for member in _members(annotation):
        fits, converted = _convert(member, typed, text)
        if fits:
            return converted
    wanted = " or ".join(dict.fromkeys(_words(member) for member in _members(annotation)))
    raise InputError(f"--set {name}={text}: {name} takes {wanted}")


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _convert(member: Any, typed: Any, text: str) -> tuple[bool, Any]:
    """Whether the value is one of this type, and the value as that type."""
    origin = get_origin(member) or member
    if origin is Any:
        return True, typed
    if origin is type(None):
        return typed is None or text.lower() == "none", None
    if origin is Literal:
        return typed in get_args(member), typed
    if origin is float:
        number = isinstance(typed, int | float) and not isinstance(typed, bool)
        return number, float(typed) if number else None
    if origin is int:
        return isinstance(typed, int) and not isinstance(typed, bool), typed
    if origin is str:
        return isinstance(typed, str), typed
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(typed, Mapping), typed
    if isinstance(origin, type) and issubclass(origin, Sequence):
        entries = tuple(typed) if isinstance(typed, list | tuple) else (typed,)
        if isinstance(typed, str) and "," in text:
            entries = tuple(entry.strip() for entry in text.split(","))
        inner = get_args(member)[0] if get_args(member) else Any
        parts = [_convert(inner, entry, str(entry)) for entry in entries]
        return all(fits for fits, _ in parts), tuple(part for _, part in parts)
    return isinstance(typed, origin), typed


_NAMES = {int: "a whole number", float: "a number", str: "a name", bool: "true or false", type(None): "none"}


def _words(member: Any) -> str:
    """A type in words."""
    origin = get_origin(member) or member
    if origin is Literal:
        return " or ".join(map(str, get_args(member)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return 'a JSON object such as {"column": "count"}'
    if origin in _NAMES:
        return _NAMES[origin]
    inner = get_args(member)[0] if get_args(member) else Any
    return "whole numbers such as 512,256" if inner is int else "names such as a,b"
