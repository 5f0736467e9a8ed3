"""Values: frozen records of a part's arguments, and the arguments of estimators that take them.

A value such as `TopK(k=32)` can be compared, printed, stored in a file and searched over, as the kernels of
scikit-learn's Gaussian processes. It builds the part when a model is fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np

from isthmus.errors import InputError
from isthmus.parts.likelihood_tables import nearest


class Value:
    """Base class of values: frozen dataclasses that check their fields, with scikit-learn's `get_params`.

    Lists become tuples, so that values are hashable and compare equal after a file was read.

    Attributes:
        nested: names of fields that are arguments which take values themselves.

    Raises:
        InputError: a field is invalid, in one line.
    """

    nested: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, _as_tuples(getattr(self, field.name)))
        self.check()

    def check(self) -> None:
        """Refuse invalid fields; accepts all by default."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the fields by name; with `deep` also those of values among them, as NAME__FIELD."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return found | (nested_params(found, self.nested) if deep else {})

    def changed(self, **changes: Any) -> Self:
        """Return a copy with other fields; NAME__FIELD changes a field of a value in the field NAME.

        Raises:
            InputError: an unknown or invalid field.
        """
        plain, nested = split_nested(changes)
        known = [field.name for field in fields(self)]  # type: ignore[arg-type]
        for name in (*plain, *nested):
            if name not in known:
                raise InputError(f"{self!r} has no argument {name!r}; it has {', '.join(known) or 'none'}")
        for name, inner in nested.items():
            given = plain.get(name, getattr(self, name))
            plain[name] = argument_named(name, self.nested).changed(given, inner)
        return replace(self, **plain)  # type: ignore[type-var]

    def expanded(self) -> Self:
        """Return a copy in which the strings of nested arguments are replaced by the values that they stand for."""
        inner = {name: fully_expanded(name, getattr(self, name)) for name in self.nested}
        return replace(self, **inner) if inner else self  # type: ignore[type-var]

    def __sklearn_clone__(self) -> Self:
        return self

    def __repr__(self) -> str:
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)  # type: ignore[arg-type]
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _CLASSES[cls.__name__] = cls


_CLASSES: dict[str, type[Value]] = {}
"""Every class of values by name, as files hold it."""


def value_class(name: str) -> type[Value]:
    """Return a class of values by its name.

    Raises:
        InputError: an unknown name, as in a file of a newer isthmus.
    """
    if name not in _CLASSES:
        raise InputError(f"unknown value {name!r}; the file was written by another version of isthmus")
    return _CLASSES[name]


@dataclass(frozen=True)
class ValueArgument:
    """An argument that takes values, and the strings that stand for values.

    Attributes:
        name: of the argument.
        values: the value that each string stands for.
        accepts: predicate of other objects that the argument takes, such as callables; None takes no others.
        others: these objects in words, for messages.
        required: True if None is refused, except for kinds where it is the default.
    """

    name: str
    values: Mapping[str, Value]
    accepts: Callable[[Any], bool] | None = None
    others: str = ""
    required: bool = False

    def expanded(self, given: Any) -> Any:
        """Return the value that a string stands for; values, None and other accepted objects as they are.

        Raises:
            InputError: a string that stands for no value, with the nearest one; another object.
        """
        if isinstance(given, str) and given in self.values:
            return self.values[given]
        kinds = tuple({type(value) for value in self.values.values()})
        if given is None or isinstance(given, kinds):
            return given
        if self.accepts is not None and not isinstance(given, Value) and self.accepts(given):
            return given
        if isinstance(given, str):
            raise InputError(f"{self.name}={given!r} is unknown; {nearest(given.lower(), self.values)}")
        if isinstance(given, type) and issubclass(given, Value):
            raise InputError(f"{self.name}={given.__name__} is a class; give {self.name}={given.__name__}(...)")
        raise self.refusal(given)

    def refusal(self, given: Any) -> InputError:
        """Return the error of an object that the argument does not take."""
        names = ", ".join(map(repr, self.values))
        example = repr(next(iter(self.values.values())))
        others = f", or {self.others}" if self.others else ""
        return InputError(f"{self.name}={given!r}: give one of {names}, a value such as {example}{others}")

    def names_with(self, field: str) -> list[str]:
        """Return the strings whose values have a field."""
        return [name for name, value in self.values.items() if field in value.get_params(deep=False)]

    def changed(self, given: Any, changes: Mapping[str, Any], accepted: Collection[str] | None = None) -> Any:
        """Return the value of an argument with other fields; a string is expanded first.

        Args:
            given: the value, its string, or None.
            changes: fields by name.
            accepted: strings that a kind takes; None is all.

        Raises:
            InputError: there is no value, or it has no such field; the message names the strings that have it.
        """
        value = self.expanded(given)
        known = value.get_params(deep=False) if isinstance(value, Value) else {}
        for change in changes:
            field = change.partition("__")[0]
            if field not in known:
                strings = [name for name in self.names_with(field) if accepted is None or name in accepted]
                having = [f"{self.name}={name!r}" for name in strings]
                found = f"{self.name}={given!r}" + (f", that is {value!r}," if isinstance(given, str) else "")
                advice = f"set {' or '.join(having)} with it" if having else f"it has {', '.join(known) or 'none'}"
                raise InputError(f"{found} has no argument {field!r}; {advice}")
        return value.changed(**changes) if changes else value


ARGUMENTS: dict[str, ValueArgument] = {}
"""Every argument that takes values, by name. An argument has the same values in every kind."""


def value_argument(
    name: str,
    values: Mapping[str, Value],
    *,
    accepts: Callable[[Any], bool] | None = None,
    others: str = "",
    required: bool = False,
) -> ValueArgument:
    """Define an argument that takes values; its attributes are those of `ValueArgument`."""
    ARGUMENTS[name] = ValueArgument(name, values, accepts, others, required)
    return ARGUMENTS[name]


def argument_named(name: str, among: Collection[str] = ARGUMENTS) -> ValueArgument:
    """Return the argument with this name.

    Args:
        name: of the argument.
        among: names of the arguments that take values, such as `Value.nested`.

    Raises:
        InputError: the argument takes no values.
    """
    if name not in among:
        raise InputError(f"{name} takes no values, so it has no arguments of its own; set {name} itself")
    return ARGUMENTS[name]


def fully_expanded(name: str, given: Any) -> Any:
    """Return the value of an argument without any shorthand, at every depth; other objects as they are."""
    value = ARGUMENTS[name].expanded(given)
    return value.expanded() if isinstance(value, Value) else value


def nested_params(params: Mapping[str, Any], among: Collection[str] = ARGUMENTS) -> dict[str, Any]:
    """Return the fields of the values among some arguments, as NAME__FIELD; strings are expanded where they can be."""
    found: dict[str, Any] = {}
    for name, given in params.items():
        if name not in among:
            continue
        value = ARGUMENTS[name].values.get(given, given) if isinstance(given, str) else given
        if isinstance(value, Value):
            found |= {f"{name}__{key}": field for key, field in value.get_params(deep=True).items()}
    return found


def split_nested(params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the arguments without `__` in their names, and for each NAME the changes {FIELD: ...} of NAME__FIELD.

    Example:
        >>> split_nested({"patience": 3, "sparsity__k": 16})
        ({'patience': 3}, {'sparsity': {'k': 16}})
    """
    plain: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in params.items():
        name, delimiter, field = key.partition("__")
        if delimiter:
            nested.setdefault(name, {})[field] = value
        else:
            plain[key] = value
    return plain, nested


def check_flag(name: str, value: Any) -> None:
    """Check that a value is True, False or None.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, bool | None):
        raise InputError(f"{name}={value!r}: it must be True, False or None")


def _as_tuples(value: Any) -> Any:
    """Return lists, sets and arrays as tuples, at every depth, and numpy's numbers as Python's."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    if isinstance(value, set | frozenset | range):
        value = sorted(value)
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple | np.ndarray) else value
