"""Registries of what users add under a name: networks and penalties."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from isthmus.errors import InputError

T = TypeVar("T", bound=Callable[..., Any])


class Registry:
    """Objects of users by name: classes or functions of a module that the user imports.

    A name belongs to one object. The object of the same module and qualified name may register again, as after a
    reload of the module; of lambdas, which share their name, only the same one.

    Args:
        what: what is registered, such as "network", for errors.
        decorator: the full name of the decorator that registers, for errors.
        built_in: names of the package, which cannot be registered.

    Example:
        >>> shapes = Registry("shape", "example.register_shape", built_in=("circle",))
        >>> @shapes.register("square")
        ... def square():
        ...     return 4
        >>> shapes.named("square") is square, shapes.name_of(square), shapes.name_of(print)
        (True, 'square', None)
        >>> shapes.named("star")
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: shape 'star' is not registered (known: circle, square); import the module that ...
    """

    def __init__(self, what: str, decorator: str, *, built_in: Sequence[str] = ()) -> None:
        self.what, self.decorator, self.built_in = what, decorator, tuple(built_in)
        self._registered: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        """Iterate over the registered names, without those of the package."""
        return iter(self._registered)

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers an object under a name.

        Raises:
            InputError: the name is not a text; (of the decorator) it belongs to the package or to another object, or
                what is decorated cannot be called.
        """
        if not isinstance(name, str) or not name:
            raise InputError(
                f"{self.what} name {name!r} is not a name; decorate with {self.decorator}(NAME), NAME a text"
            )

        def registered(value: T) -> T:
            if not callable(value):
                raise InputError(f"{self.what} {name!r} is {value!r}, which is neither a class nor a function")
            if name in self.built_in or not _is_same(self._registered.get(name, value), value):
                raise InputError(f"{self.what} name {name!r} is taken; register the {self.what} under another name")
            self._registered[name] = value
            return value

        return registered

    def named(self, name: str) -> Any:
        """Return the object that is registered under a name.

        Raises:
            InputError: the name is not registered.
        """
        if name not in self._registered:
            known = ", ".join((*self.built_in, *self._registered)) or "none"
            raise InputError(
                f"{self.what} {name!r} is not registered (known: {known}); import the module that registers it by "
                f"{self.decorator} first, on the command line with isthmus --import MODULE"
            )
        return self._registered[name]

    def name_of(self, value: Any) -> str | None:
        """Return the first name under which an object is registered; None for any other object."""
        return next((name for name, known in self._registered.items() if known is value), None)


def _is_same(a: Any, b: Any) -> bool:
    """Return whether two objects are one, or have one module and qualified name."""
    names = [(getattr(x, "__module__", None), getattr(x, "__qualname__", None)) for x in (a, b)]
    qualified = names[0][1]
    return a is b or (qualified is not None and "<lambda>" not in qualified and names[0] == names[1])
