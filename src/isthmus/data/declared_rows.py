"""Rows of a table by the declared types of its columns: what is left out, carried, converted, or read as texts."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from isthmus.data.dataset import Dataset, Documents
from isthmus.data.dtypes import LEFT_OUT, refuse_unknown_columns
from isthmus.data.text_numbers import NumberFormat, is_text, refuse_text
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd


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


def with_dtypes(data: Dataset, dtypes: Mapping[str, str]) -> Dataset:
    """Return a table with the declared types of its columns.

    Identifiers become carried columns, and those that are to be ignored are left out.

    Raises:
        InputError: rows that are not a table, an unknown column, or a column that does not have its declared type.
    """
    if not hasattr(data.X, "columns"):
        raise InputError(f"{data.name}: dtypes are those of columns of a table, and the rows are not a table")
    frame = cast("pd.DataFrame", data.X)
    names = [str(name) for name in frame.columns]
    try:
        refuse_unknown_columns(dtypes, names)
        changed = {
            name: _in_declared_type(name, frame.iloc[:, names.index(name)], dtype)
            for name, dtype in dtypes.items() if dtype not in (*LEFT_OUT, "text")
        }  # fmt: skip
        frame = frame.set_axis(names, axis=1).assign(**changed) if changed else frame
        data = with_identifiers(replace(data, X=frame), [name for name, dtype in dtypes.items() if dtype == "id"])
        return replace(data, X=as_declared(data.X, dtypes))
    except InputError as error:
        raise InputError(f"{data.name}: {error}") from None


def _in_declared_type(name: str, values: pd.Series, dtype: str) -> pd.Series:
    """Return the values of a column in the type of pandas of its declared type."""
    from isthmus.data.dates import learn_format, read_times

    if dtype == "date":
        dates = learn_format(name, values)
        return read_times(values, dates.text, dates.zone)
    if dtype == "binary" and values.nunique() > 2:
        raise InputError(f"column {name!r} has {values.nunique()} values, and its dtype is binary")
    if dtype in ("category", "binary"):
        texts = values.astype("string") if values.dtype.kind == "f" else values
        return texts.astype("category")
    if is_text(values):
        numbers = NumberFormat().parsed(values)
        refuse_text(name, values, numbers, dtype)
        return numbers
    if values.dtype.kind not in "iuf":
        return values
    whole = dtype == "count" and bool((values.dropna() == values.dropna().round()).all())
    return values.astype("Int64" if whole else "float64")


SPLITS = frozenset({"train", "training", "test", "testing", "validation", "valid", "val", "dev", "unused"})
"""Values of a column `split` that names the part of the data to which a row belongs."""


def without_split(data: Dataset, known: Collection[str] = ()) -> Dataset:
    """Return a table without a column `split` that says to which part of the data a row belongs, with a note.

    Args:
        data: rows.
        known: names of columns that are kept, such as those of a declared type.

    Example:
        >>> import pandas as pd
        >>> list(without_split(Dataset(pd.DataFrame({"x": [1, 2], "split": ["train", "test"]}))).X)
        ['x']
    """
    names = [str(name) for name in getattr(data.X, "columns", ())]
    if "split" not in names or "split" in known or len(names) == 1:
        return data
    values = {str(value).strip().lower() for value in data.X.iloc[:, names.index("split")].dropna().unique()}
    if not values or not values <= SPLITS:
        return data
    note = (
        f"{data.name}: column 'split' ({', '.join(sorted(values))}) names the part of the data and is left out; to "
        "read it, give dtypes={'split': 'category'} (--dtype split=category)"
    )
    return replace(data, X=without(data.X, {"split"})).with_notes(note)


def with_identifiers(data: Dataset, names: Sequence[str]) -> Dataset:
    """Return a table whose columns of these names are carried columns; names that it does not have are left out.

    Example:
        >>> import pandas as pd
        >>> found = with_identifiers(Dataset(pd.DataFrame({"key": ["a", "b"], "x": [1, 2]})), ["key"])
        >>> list(found.X), found.row_names, found.carried["key"].tolist()
        (['x'], ('a', 'b'), ['a', 'b'])
    """
    import pandas as pd

    frame = cast("pd.DataFrame", data.X)
    places = {str(name): j for j, name in enumerate(frame.columns)}
    found = {name: frame.iloc[:, places[name]].reset_index(drop=True) for name in names if name in places}
    if not found:
        return data
    before = {} if data.carried is None else {str(name): data.carried[name] for name in data.carried.columns}
    row_names = data.row_names or tuple(map(str, next(iter(found.values()))))
    carried = pd.DataFrame(before | found)
    return replace(data, X=without(frame, set(found)), row_names=row_names, carried=carried)
