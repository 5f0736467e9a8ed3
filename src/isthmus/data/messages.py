"""Parts of error messages shared by the readers."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from isthmus.errors import InputError

_LONGEST = 200
"""Length in characters to which the message of a library is cut."""


def one_line(error: BaseException) -> str:
    """Return the message of an exception as one short line, or its type if the message is empty.

    Example:
        >>> one_line(ValueError("two\\nlines\\x1b[31m")), one_line(MemoryError())
        ('two lines\\\\x1b[31m', 'MemoryError')
    """
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def printable(text: str) -> str:
    """Return a name found in a file, with line breaks, control characters and lone surrogates escaped.

    Example:
        >>> printable("naïve"), printable("a\\nb")
        ('naïve', 'a\\\\nb')
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def refusing(where: Path | str, what: str, advice: str) -> Iterator[None]:
    """Convert every exception of a library that parses a damaged file to an `InputError`.

    Parsers raise exceptions of many types for damaged files, `MemoryError` and `RecursionError` among them.

    Args:
        where: file or option, for the message.
        what: the failed expectation, such as "not a complete Parquet file".
        advice: advice to the user.

    Raises:
        InputError: if the body raises an exception; an `InputError` of the body is raised as it is.

    Example:
        >>> with refusing("rows.npy", "not a complete .npy file", "save it again"):
        ...     raise EOFError("no data")
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: rows.npy: not a complete .npy file (no data); save it again
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where}: {what} ({one_line(error)}); {advice}") from None


def exclude_advice(column: str) -> str:
    """Advise to leave out a column, with the option of the command line.

    Example:
        >>> exclude_advice("day"), exclude_advice("zip code")
        ('exclude it (--exclude day)', "exclude it (--exclude 'zip code')")
    """
    return f"exclude it (--exclude {shlex.quote(column)})"


def hint(name: str, known: Sequence[str]) -> str:
    """Suggest the most similar known name, or else list the first ten.

    Example:
        >>> hint("ages", ["age", "city"]), hint("zip", ["age", "city"])
        ("did you mean 'age'?", "it has 'age', 'city'")
    """
    by_case = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(by_case), 1)
    if near:
        return f"did you mean {by_case[near[0]]!r}?"
    return "it has " + ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
