"""Rows of a table without the columns that declared types leave out, and columns of texts as texts."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from typing import Any

from isthmus.data.dataset import Documents
from isthmus.data.dtypes import LEFT_OUT
from isthmus.errors import InputError, pluralize


def without(frame: Any, names: Collection[str]) -> Any:
    """Return a data frame without the columns of these names, as text; the frame itself if it has none of them.

    Raises:
        InputError: no column remains.
    """
    kept = [j for j, name in enumerate(frame.columns) if str(name) not in names]
    if not kept:
        raise InputError("no columns remain; leave out fewer")
    return frame if len(kept) == len(frame.columns) else frame.iloc[:, kept]


def as_declared(frame: Any, dtypes: Mapping[str, str]) -> Any:
    """Return a data frame without the columns that are left out; of a column of texts alone, its texts.

    Raises:
        InputError: no column remains; a column of texts next to others, or with a missing value.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"key": ["a7", "b9"], "note": ["cocoa rose", "tin fell"]})
        >>> as_declared(frame, {"key": "id", "note": "text"})
        Documents(2 texts)
    """
    frame = without(frame, {name for name, dtype in dtypes.items() if dtype in LEFT_OUT})
    names = [str(name) for name in frame.columns]
    text = next((name for name in names if dtypes.get(name) == "text"), None)
    if text is None:
        return frame
    if len(names) > 1:
        others = [name for name in names if name != text]
        raise InputError(
            f"column {text!r} is declared as text, and the table has {pluralize(len(others), 'other column')} (such as "
            f"{others[0]!r}); a model reads texts alone: declare it as ignore (--dtype {shlex.quote(text)}=ignore), or "
            "the others as id or ignore"
        )
    return _texts(text, frame.iloc[:, 0])


def _texts(name: str, values: Any) -> Documents:
    missing = values.isna().to_numpy()
    if missing.any():
        raise InputError(f"column {name!r} has no text at row {int(missing.argmax())}; give one, or remove the row")
    return Documents([str(value) for value in values])
