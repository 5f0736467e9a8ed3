"""Times of the rows of a series: numbers, dates, and texts that are dates, as numbers that can be ordered."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from isthmus.data.text_numbers import is_text
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd

GAP = 1.5
"""A step of time above this multiple of the median step of its series is a gap."""


def time_numbers(values: pd.Series, name: str) -> tuple[Shaped[np.ndarray, " rows"], tuple[str, ...]]:
    """Return times as numbers in their order, and notes.

    Numbers are kept. Dates become whole numbers in the resolution of their type, microseconds for most.

    Args:
        values: the column.
        name: its name, for messages.

    Raises:
        InputError: see `parsed_times`.

    Example:
        >>> import pandas as pd
        >>> numbers, notes = time_numbers(pd.Series(["2024-01-31 10:00", "2024-01-31 10:30"]), "when")
        >>> (numbers[1] - numbers[0]) / 60e6, notes
        (np.float64(30.0), ())
    """
    times, notes = parsed_times(values, name)
    kind = getattr(times.dtype, "kind", "M")
    return times.to_numpy(np.float64) if kind in "fu" else times.astype("int64").to_numpy(), notes


def parsed_times(values: pd.Series, name: str) -> tuple[pd.Series, tuple[str, ...]]:
    """Return times as dates or finite numbers, and notes.

    Texts are read as ISO 8601 dates, else in the form of the first text. If both day-first and month-first are possible
    for all of them, a note says which one was taken: day-first for dates with dots, month-first for others.

    Args:
        values: the column.
        name: its name, for messages.

    Raises:
        InputError: a missing or infinite time; text that is not a date in the form of the others.

    Example:
        >>> import pandas as pd
        >>> times, notes = parsed_times(pd.Series(["01.02.2024", "02.02.2024"]), "when")
        >>> times.dt.month.tolist(), notes[0]
        ([2, 2], 'times such as 01.02.2024 were read with the day before month; give dates such as 2024-01-31 if not')
    """
    import pandas as pd

    missing = np.flatnonzero(values.isna().to_numpy())
    if len(missing):
        more = f", {pluralize(len(missing), 'such row')} in all" if len(missing) > 1 else ""
        raise InputError(
            f"time column {name!r} is missing in row {missing[0]:,}{more}; remove such rows, or fill in their times"
        )
    if is_text(values) or values.dtype == object:
        return _parsed(values, name)
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        return values, ()
    kind = getattr(values.dtype, "kind", "O")
    if kind not in "iuf":
        raise InputError(f"time column {name!r} holds {values.dtype} values; it must hold dates or numbers")
    infinite = np.flatnonzero(~np.isfinite(values.to_numpy(np.float64)))
    if len(infinite):
        raise InputError(f"time column {name!r} is infinite in row {infinite[0]:,}; remove such rows")
    return values, ()


def _parsed(values: pd.Series, name: str) -> tuple[pd.Series, tuple[str, ...]]:
    """Return texts as dates."""
    texts = values.astype(str)
    found = _dates(texts, format="ISO8601")
    if found is not None:
        return found, ()
    month_first, day_first = _dates(texts, dayfirst=False), _dates(texts, dayfirst=True)
    if month_first is None and day_first is None:
        raise InputError(
            f"time column {name!r}: {_unreadable(texts)}; give dates such as 2024-01-31 10:30:00, or numbers"
        )
    if month_first is None or day_first is None:
        read = day_first if month_first is None else month_first
        assert read is not None
        return read, ()
    if month_first.equals(day_first):
        return month_first, ()
    is_dotted = "." in texts.iloc[0].split()[0]
    order = "day before month" if is_dotted else "month before day"
    note = f"times such as {texts.iloc[0]} were read with the {order}; give dates such as 2024-01-31 if not"
    return day_first if is_dotted else month_first, (note,)


def _dates(texts: pd.Series, **options: str | bool) -> pd.Series | None:
    """Return texts as dates in one form; None if one of them is not of this form."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the order of day and month, and of texts without a common form
        try:
            return pd.to_datetime(texts, **options)  # type: ignore[call-overload]
        except (ValueError, TypeError, OverflowError):
            pass
        try:
            return pd.to_datetime(texts, utc=True, **options)  # type: ignore[call-overload]
        except (ValueError, TypeError, OverflowError):
            return None


def _unreadable(texts: pd.Series) -> str:
    """Return the first text that is not a date, or the statement that their forms differ."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row, text in enumerate(texts.iloc[:1000]):
            if pd.isna(pd.to_datetime(text, errors="coerce")):
                return f"{text!r} in row {row:,} is not a date"
    return f"its dates, such as {texts.iloc[0]!r}, do not all have one form"


def is_gap(times: Shaped[np.ndarray, " rows"]) -> Shaped[np.ndarray, " steps"]:
    """Return for each step between ordered times whether it is a gap: longer than `GAP` times the median step.

    Example:
        >>> is_gap(np.array([0, 10, 20, 40, 50])).tolist()
        [False, False, True, False]
    """
    steps = np.diff(times)
    return steps > GAP * np.median(steps) if len(steps) else np.zeros(0, bool)
