"""Parse command-line text: times, image sizes, fractions, row numbers and settings of a kind."""

from __future__ import annotations

import ast
import inspect
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
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


def numbers(option: str, text: str, n: int, counted: str) -> list[int]:
    """Parse numbers of rows or units, separated by commas and counted from 0.

    Args:
        option: name of the option, for errors.
        text: such as 0,1,2.
        n: how many there are.
        counted: their description after n, for errors, such as "rows in DATA".

    Raises:
        InputError: if `text` has another form, or a number is not below n.

    Example:
        >>> numbers("--rows", "0,7", 10, "rows in DATA")
        [0, 7]
    """
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise InputError(f"{option} {text}: write numbers from 0, separated by commas, such as 0,1,2")
    found = [int(part) for part in text.split(",")]
    beyond = [number for number in found if number >= n]
    if beyond:
        raise InputError(
            f"{option} {text}: {beyond[0]} is not one of the {n:,} {counted}; give numbers from 0 to {n - 1}"
        )
    return found


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

    NAME.FIELD=VALUE sets a field of the value of an argument, such as sparsity.k=16, after all NAME=VALUE.

    Args:
        assignments: the texts NAME=VALUE.
        kind: name of the kind, for error messages.
        constructor: class of the kind; its annotated fields are the arguments.

    Returns:
        The arguments by name, and the fields of values as NAME__FIELD, as `set_params` takes them.

    Raises:
        InputError: if '=' is missing, a name is unknown or repeated, or a value has the wrong type.

    Example:
        >>> from isthmus import SparseAutoencoder
        >>> settings(["sparsity.k=16", "sparsity=topk", "hidden_sizes=512,256"], "sparse", SparseAutoencoder)
        {'sparsity': TopK(), 'hidden_sizes': (512, 256), 'sparsity__k': 16}
    """
    from isthmus.values.value import ARGUMENTS

    types = get_type_hints(constructor)  # includes the fitted attributes
    parameters = inspect.signature(constructor).parameters
    hints = {name: types[name] for name in parameters if name in types}
    split = [_split_assignment(assignment) for assignment in assignments]
    found: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for assignment, path, text in sorted(split, key=lambda each: len(each[1])):
        name = path[0]
        if name not in hints:
            advice = _advice(constructor, name, hints)
            raise InputError(f"--set {assignment}: kind {kind!r} has no setting {name!r}; {advice}")
        if sum(path == other for _, other, _ in split) > 1:
            raise InputError(f"--set {assignment}: {'.'.join(path)} is set twice; set it once")
        try:
            if len(path) == 1 and name not in ARGUMENTS:
                found[name] = _parse_value(name, text, hints[name])
                continue
            accepted = getattr(constructor, "accepted_strings", {}).get(name)
            values[name], set_to = _changed(path, 0, values.get(name, parameters[name].default), text, accepted)
            found["__".join(path)] = set_to
        except InputError as error:
            raise InputError(f"--set {assignment}: {error}") from None
    return found


def takes_text(constructor: type, name: str) -> bool:
    """Return whether an argument of a kind takes plain strings.

    Example:
        >>> from isthmus import Autoencoder
        >>> takes_text(Autoencoder, "code_activation"), takes_text(Autoencoder, "code_size")
        (True, False)
    """
    return str in _members(get_type_hints(constructor)[name])


def _split_assignment(assignment: str) -> tuple[str, list[str], str]:
    """Return the assignment, the names before '=', which dots separate, and the text after it."""
    name, equals, text = (part.strip() for part in assignment.partition("="))
    if not equals or not name:
        raise InputError(f"--set {assignment}: write NAME=VALUE, such as --set hidden_sizes=512,256")
    return assignment, name.replace("-", "_").split("."), text


def _advice(constructor: Any, name: str, hints: Mapping[str, Any]) -> str:
    """Return the successor of an argument that was removed, else the nearest name."""
    from isthmus.data.messages import hint

    successor = constructor.successor_of(name) if hasattr(constructor, "successor_of") else None
    if successor is None:
        return hint(name, list(hints))
    dotted = ".".join(dict.fromkeys(re.findall(r"(\w+)=", successor)))
    return f"it is {successor} in Python, here --set {dotted}=..."


def _changed(
    path: Sequence[str], depth: int, given: Any, text: str, accepted: Collection[str] | None = None
) -> tuple[Any, Any]:
    """Return the value of an argument with one field set, and what the field is set to.

    Without a field both are the value that the text stands for.

    Args:
        path: names that lead to what is set, such as ["layers", "corruption", "rate"].
        depth: index of the argument in the path.
        given: the value of the argument so far.
        text: the text after '='.
        accepted: strings that the kind takes; None is all.

    Raises:
        InputError: the argument takes no values, its value has no such field, or the text has the wrong type.
    """
    from isthmus.values.value import Value, argument_named

    name, argument = path[depth], argument_named(path[depth])
    if depth == len(path) - 1:
        found = None if text.lower() == "none" else argument.expanded(value(text))
        return found, found
    current, field = argument.expanded(given), path[depth + 1]
    if not isinstance(current, Value) or field not in current.get_params(deep=False):
        strings = [each for each in argument.names_with(field) if accepted is None or each in accepted]
        names = [f"{'.'.join(path[: depth + 1])}={each}" for each in strings]
        if names:
            raise InputError(f"{name} is {given!r}, which has no {field}; add --set {', or '.join(names)}")
        argument.changed(given, {field: None})
    if field in current.nested:
        new, set_to = _changed(path, depth + 1, getattr(current, field), text)
    else:
        new = set_to = _parse_value(field, text, get_type_hints(type(current))[field])
    return argument.changed(current, {field: new}), set_to


def _parse_value(name: str, text: str, annotation: Any) -> Any:
    """Convert the value to the first annotated type that accepts it."""
    typed = value(text)
    origins = [get_origin(member) or member for member in _members(annotation)]
    if text.lower() in ("", "none") and type(None) not in origins and Sequence in origins:
        return ()
    for member in _members(annotation):
        fits, converted = _convert(member, typed, text)
        if fits:
            return converted
    expected = " or ".join(dict.fromkeys(_type_name(member) for member in _members(annotation)))
    raise InputError(f"{name} must be {expected}")


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
