"""Words that the errors of the readers share."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def one_line(error: BaseException) -> str:
    """What an exception of another library says, without line breaks; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def hint(name: str, known: Sequence[str]) -> str:
    """The nearest of the known names as a question, or else the first ten of them.

    Example:
        >>> hint("ages", ["age", "city"]), hint("zip", ["age", "city"])
        ("did you mean 'age'?", "it has 'age', 'city'")
    """
    by_case = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(by_case), 1)
    if near:
        return f"did you mean {by_case[near[0]]!r}?"
    return "it has " + ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
