"""What you handed in cannot be used, or hardly: one line that says what was found, where, and what to do."""


class InputError(ValueError):
    """Input that cannot be used: one line that says what was found, where, and what to do instead.

    The command line turns it into exit code 2; in Python it is an ordinary `ValueError`.

    Example:
        >>> raise InputError("rows.csv: line 3 has 4 fields and the header has 5; add the missing field")
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: rows.csv: line 3 has 4 fields and the header has 5; add the missing field
    """


class InputWarning(UserWarning):
    """Input that is taken, though what is made of it can mean little: one line, as of an `InputError`."""


def pluralize(n: int, noun: str) -> str:
    """A number of things, in words.

    Example:
        >>> pluralize(1, "row"), pluralize(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
