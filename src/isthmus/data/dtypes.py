"""Types of columns that a user declares, in Python and on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.data.messages import hint
from isthmus.errors import InputError

DTYPES = {
    "real": "a number",
    "count": "a whole number, 0 or more",
    "binary": "one of two values",
    "category": "one of several values, its levels",
    "date": "a date, read as days since the first one, month, weekday and hour",
    "text": "a text, the only column that a model reads",
    "id": "an identifier: left out of the code, and repeated by outputs",
    "ignore": "left out",
}
"""The types of a column, and their meaning."""

LEFT_OUT = ("id", "ignore")
"""Types of columns that are not part of a model."""


def checked_dtypes(dtypes: Any) -> dict[str, str]:
    """Return the declared types by the names of columns as text; of None none.

    Raises:
        InputError: no mapping, or an unknown type.

    Example:
        >>> checked_dtypes({"zip": "category", 7: "real"})
        {'zip': 'category', '7': 'real'}
    """
    if dtypes is None:
        return {}
    if not isinstance(dtypes, Mapping):
        raise InputError(f"dtypes={dtypes!r}: give {{column: type}}; the types are {', '.join(DTYPES)}")
    for column, dtype in dtypes.items():
        if dtype not in DTYPES:
            raise InputError(f"column {column!r}: dtype {dtype!r} is not one of {', '.join(DTYPES)} (--dtype)")
    return {str(column): str(dtype) for column, dtype in dtypes.items()}


def of_model_columns(dtypes: Mapping[str, str]) -> dict[str, str]:
    """Return the declared types of the columns that a model reads as columns: not left out, and no texts.

    Example:
        >>> of_model_columns({"zip": "category", "key": "id", "note": "text"})
        {'zip': 'category'}
    """
    return {name: dtype for name, dtype in dtypes.items() if dtype not in (*LEFT_OUT, "text")}


def refuse_unknown_columns(dtypes: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuse declared columns that a table does not have.

    Example:
        >>> refuse_unknown_columns({"zipp": "category"}, ["zip", "age"])
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: no column 'zipp'; did you mean 'zip'?
    """
    known = set(names)
    for name in dtypes:
        if name not in known:
            raise InputError(f"no column {name!r}; {hint(name, names)}")
