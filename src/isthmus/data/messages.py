"""Parts of error messages shared by the readers."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence


def one_line(error: BaseException) -> str:
    """Return the message of an exception without line breaks, or its type if the message is empty."""
    return " ".join(str(error).split()) or type(error).__name__


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
