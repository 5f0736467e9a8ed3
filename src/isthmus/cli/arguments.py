"""Parse command-line text: times, image sizes, fractions and settings of a kind."""

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
    """Convert a time such as 90s, 5m, 1h or 1h30m to seconds. A number without a unit is in seconds.

    Raises:
        InputError: if `text` is not a time or is not positive.

    Example:
        >>> seconds("90s"), seconds("5m"), seconds("1h30m"), seconds("0.5")
        (90.0, 300.0, 5400.0, 0.5)
    """
    whole = re.fullmatch(r"\s*(\d+(?:\.\d+)?[hms]?)+\s*", text.lower())
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text.lower()) if whole else []
    bare = sum(not unit for _, unit in parts)
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not parts or total <= 0 or (bare and len(parts) > 1):
        raise InputError(f"{text!r} is not a time; write for example 90s, 5m, 1h or 1h30m")
    return total


def size(text: str) -> tuple[int, int]:
    """Parse an image size HEIGHTxWIDTH in pixels.

    Raises:
        InputError: if `text` has another form or a side is 0.

    Example:
        >>> size("32x48")
        (32, 48)
    """
    found = re.fullmatch(r"\s*(\d+)\s*[x×]\s*(\d+)\s*", text.lower())
    if not found or not int(found[1]) or not int(found[2]):
        raise InputError(f"--resize {text}: write height and width in pixels, such as 28x28")
    return int(found[1]), int(found[2])


def fraction(text: str) -> float | None:
    """Parse a fraction of the rows. Return None if `text` is not a number: it then names a data source.

    Raises:
        InputError: if the number is outside [0, 1).

    Example:
        >>> fraction("0.2"), fraction("held-out.csv")
        (0.2, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    if not (math.isfinite(number) and 0 <= number < 1):
        raise InputError(
            f"--validation {text}: the fraction must be at least 0 and less than 1, such as 0.1; or name a data source"
        )
    return number


def value(text: str) -> Any:
    """Parse the text after NAME=: as JSON, else as a Python literal, else as a string.

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
    """Parse NAME=VALUE of `--set` and check names and types against the constructor of a kind.

    Args:
        assignments: the texts NAME=VALUE.
        kind: name of the kind, for error messages.
        constructor: class of the kind; its annotated fields are the arguments.

    Raises:
        InputError: if '=' is missing, a name is unknown or repeated, or a value has the wrong type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Kind:
        ...     hidden_sizes: Sequence[int] | None = None
        >>> settings(["hidden_sizes=512,256"], "a-kind", Kind)
        {'hidden_sizes': (512, 256)}
    """
    from isthmus.data.messages import hint

    types = get_type_hints(constructor)  # includes the fitted attributes
    hints = {name: types[name] for name in inspect.signature(constructor).parameters if name in types}
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not name:
            raise InputError(f"--set {assignment}: write NAME=VALUE, such as --set hidden_sizes=512,256")
        name = name.replace("-", "_")
        if name not in hints:
            raise InputError(f"--set {assignment}: kind {kind!r} has no setting {name!r}; {hint(name, list(hints))}")
        if name in found:
            raise InputError(f"--set {assignment}: {name} is set twice; set it once")
        found[name] = _parse_value(name, text, hints[name])
    return found


def _parse_value(name: str, text: str, annotation: Any) -> Any:
    """Convert the value to the first annotated type that accepts it."""
    typed = value(text)
    for member in _members(annotation):
        fits, converted = _convert(member, typed, text)
        if fits:
            return converted
    expected = " or ".join(dict.fromkeys(_type_name(member) for member in _members(annotation)))
    raise InputError(f"--set {name}={text}: {name} must be {expected}")


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _convert(member: Any, typed: Any, text: str) -> tuple[bool, Any]:
    """Return whether the value fits the type, and the converted value."""
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


_TYPE_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "none"}


def _type_name(member: Any) -> str:
    """Describe a type for an error message."""
    origin = get_origin(member) or member
    if origin is Literal:
        return " or ".join(map(str, get_args(member)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return 'a JSON object such as {"column": "count"}'
    if origin in _TYPE_NAMES:
        return _TYPE_NAMES[origin]
    inner = get_args(member)[0] if get_args(member) else Any
    return "integers such as 512,256" if inner is int else "names such as a,b"
