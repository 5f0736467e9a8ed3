"""Errors and warnings about invalid input. Each message is one line: what was found, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """Invalid input. The message is one line: what was found, where, and what to do.

    The command line turns it into exit code 2; in Python it is an ordinary `ValueError`.

    Example:
        >>> raise InputError("rows.csv: line 3 has 4 fields and the header has 5; add the missing field")
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: rows.csv: line 3 has 4 fields and the header has 5; add the missing field
    """


class ChoiceError(InputError):
    """A text that is none of the choices of an argument.

    Args:
        message: the line for the user.
        choices: the valid texts.

    Example:
        >>> ChoiceError("update='fast' is not one of online, gradient", ("online", "gradient")).choices
        ('online', 'gradient')
    """

    def __init__(self, message: str, choices: Iterable[str] = ()):
        super().__init__(message)
        self.choices = tuple(choices)


class InputWarning(UserWarning):
    """Suspicious input that is accepted. The message is one line, as in `InputError`."""


def pluralize(n: int, noun: str) -> str:
    """Format a count and a noun, in the plural unless the count is 1.

    Example:
        >>> pluralize(1, "row"), pluralize(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
