"""Units of columns of tables, as their values or the types that a user declares determine them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from isthmus.data.dates import are_dates, is_date_type, learn_format
from isthmus.data.levels import plain
from isthmus.data.messages import exclude_advice
from isthmus.data.table_columns import TableColumn, as_numbers
from isthmus.errors import InputError

MAX_LEVELS = 64
"""Maximum number of distinct strings in a categorical column. A column with more is free text or an identifier."""
MAX_COUNT = 100
"""Maximum of a count column. A column of larger integers is real."""


def learn_column(name: str, values: pd.Series, declared: str | None = None) -> TableColumn:
    """Determine the unit of a column, with its levels or the format of its dates.

    Args:
        name: of the column.
        values: of the column.
        declared: its type, in `isthmus.data.dtypes.DTYPES`; None decides by the values.

    Raises:
        InputError: values that are not of the declared type; dates, free text, or values that no unit has.

    Example:
        >>> learn_column("n", pd.Series([0, 3, 1])).unit, learn_column("n", pd.Series(["0", "3"]), "real").unit
        ('count', 'real')
    """
    if pd.api.types.is_complex_dtype(values):
        raise InputError(f"column {name!r}: Complex data not supported; split it into two real columns")
    return _inferred(name, values) if declared is None else _DECLARED[declared](name, values)


def declare(name: str, dtype: str) -> str:
    """Return the option that declares a column.

    Example:
        >>> declare("zip code", "category")
        "--dtype 'zip code=category'"
    """
    return f"--dtype {shlex.quote(f'{name}={dtype}')}"


def _inferred(name: str, values: pd.Series) -> TableColumn:
    dtype, present = str(values.dtype), values.dropna()
    if pd.api.types.is_timedelta64_dtype(values):
        raise InputError(f"column {name!r} contains durations; {exclude_advice(name)}, or convert it to numbers")
    if is_date_type(values):
        raise InputError(f"column {name!r} contains dates; {_date_advice(name)}")
    if pd.api.types.is_bool_dtype(values) and dtype != "category":
        return TableColumn(name, "binary", [False, True], dtype)
    if pd.api.types.is_numeric_dtype(values):
        return TableColumn(name, _numeric_unit(present, has_missing=len(present) < len(values)), [], dtype)
    if dtype == "object" and len(present) and present.map(_is_number).all():
        return _inferred(name, pd.to_numeric(values))
    if dtype != "category":
        _refuse_unsupported(name, present)
        _refuse_text(name, present)
    return _with_levels(name, values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _numeric_unit(values: pd.Series, *, has_missing: bool) -> str:
    """Return "binary" for {0, 1}, "count" for small integers of integer type, else "real".

    A column of integers with missing entries has a floating-point type in pandas; its whole numbers count as integers.
    """
    if not len(values):
        return "real"
    low, high = values.min(), values.max()
    if low >= 0 and high == 1 and values.isin((0, 1)).all() and low == 0:
        return "binary"
    is_integer = pd.api.types.is_integer_dtype(values) or (has_missing and bool((values == values.round()).all()))
    return "count" if is_integer and low == 0 and 1 < high <= MAX_COUNT else "real"


def _declared_real(name: str, values: pd.Series) -> TableColumn:
    _checked_numbers(name, values, "real")
    return TableColumn(name, "real", [], str(values.dtype))


def _declared_count(name: str, values: pd.Series) -> TableColumn:
    numbers = _checked_numbers(name, values, "count")
    wrong = np.flatnonzero((numbers < 0) | (np.isfinite(numbers) & (numbers != np.rint(numbers))))
    if len(wrong):
        raise InputError(
            f"column {name!r} contains {plain(values.iloc[wrong[0]])!r} at row {wrong[0]}, which is not a whole number "
            f"of 0 or more, as dtype 'count' says; declare it as real ({declare(name, 'real')})"
        )
    return TableColumn(name, "count", [], str(values.dtype))


def _checked_numbers(name: str, values: pd.Series, declared: str) -> np.ndarray:
    """Return the values as numbers.

    Raises:
        InputError: a value that is not a number.
    """
    numbers, row = as_numbers(values)
    if row is not None:
        advice = declare(name, "date") if is_date_type(values) else declare(name, "category")
        raise InputError(
            f"column {name!r} contains {_shown(values.iloc[row])!r} at row {row}, which is not a number as dtype "
            f"{declared!r} says; correct it, or declare another type ({advice})"
        )
    return numbers


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, pd.Timestamp) else plain(value)


def _declared_binary(name: str, values: pd.Series) -> TableColumn:
    n_values = values.nunique()
    if n_values > 2:
        raise InputError(
            f"column {name!r} has {n_values} values and cannot be binary; declare it as a category "
            f"({declare(name, 'category')})"
        )
    if pd.api.types.is_numeric_dtype(values) and values.dropna().isin((0, 1)).all():
        levels = [False, True] if pd.api.types.is_bool_dtype(values) else []
        return TableColumn(name, "binary", levels, str(values.dtype))
    return _with_levels(name, values)


def _declared_category(name: str, values: pd.Series) -> TableColumn:
    return replace(_with_levels(name, values), unit="categorical")


def _declared_date(name: str, values: pd.Series) -> TableColumn:
    return TableColumn(name, "date", [], str(values.dtype), dates=learn_format(name, values))


def _not_a_column(name: str, values: pd.Series) -> TableColumn:
    raise InputError(f"column {name!r}: a column of texts, identifiers or ignored values is not part of these rows")


_DECLARED: dict[str, Callable[[str, pd.Series], TableColumn]] = {
    "real": _declared_real, "count": _declared_count, "binary": _declared_binary, "category": _declared_category,
    "date": _declared_date, "text": _not_a_column, "id": _not_a_column, "ignore": _not_a_column,
}  # fmt: skip
"""The functions that learn a column of each declared type."""


def _with_levels(name: str, values: pd.Series) -> TableColumn:
    """Return a column with levels: those that a categorical type declares, in its order, else its values, sorted."""
    dtype, present = str(values.dtype), values.dropna()
    _refuse_unsupported(name, present)
    if not len(present):
        raise InputError(f"column {name!r} contains no values; {exclude_advice(name)}")
    is_categorical = isinstance(values.dtype, pd.CategoricalDtype)
    if isinstance(values.dtype, pd.CategoricalDtype):
        levels = values.dtype.categories.tolist()
    else:
        levels = sorted(present.unique().tolist(), key=str)
    unit = "binary" if len(levels) == 2 else "categorical"
    ordered = is_categorical and bool(values.cat.ordered)
    return TableColumn(name, unit, [plain(level) for level in levels], dtype, ordered=ordered)


def _refuse_unsupported(name: str, present: pd.Series) -> None:
    """Refuse values that are no levels, such as lists."""
    if is_date_type(present):
        raise InputError(f"column {name!r} contains dates; {_date_advice(name)}")
    distinct = present.cat.categories if isinstance(present.dtype, pd.CategoricalDtype) else present
    wrong = next((value for value in distinct if not isinstance(value, str | bool | int | float | np.generic)), None)
    if wrong is not None:
        advice = f"{exclude_advice(name)}, or convert it to numbers"
        if hasattr(wrong, "isoformat"):
            advice = _date_advice(name)
        raise InputError(f"column {name!r} contains {type(wrong).__name__} values; {advice}")


def _refuse_text(name: str, present: pd.Series) -> None:
    """Raise if the strings of a column are dates or too many to be categories."""
    levels = sorted(present.unique().tolist(), key=str)
    if are_dates([level for level in levels[:50] if isinstance(level, str)]):
        raise InputError(f"column {name!r} contains dates (such as {levels[0]!r}); {_date_advice(name)}")
    if len(levels) > MAX_LEVELS or (len(levels) > 10 and 2 * len(levels) > len(present)):
        raise InputError(
            f"column {name!r} contains free text ({len(levels)} different values in {len(present)} rows, such as "
            f"{str(levels[0])[:30]!r}); {exclude_advice(name)}, or declare it: {declare(name, 'id')} for identifiers, "
            f"{declare(name, 'category')} for categories, {declare(name, 'text')} for texts that are the only column"
        )


def _date_advice(name: str) -> str:
    return f"declare it as dates ({declare(name, 'date')}), or {exclude_advice(name)}"
