"""Times of the rows of a series: numbers, dates, and texts that are dates, as numbers that can be ordered."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from isthmus.data.text_numbers import is_text
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd

GAP = 1.5
"""A step of time above this multiple of the median step of its series is a gap."""


def time_numbers(times: pd.Series) -> Shaped[np.ndarray, " rows"]:
    """Return dates or numbers, as `parsed_times` returns them, as numbers in their order.

    Numbers are kept. Dates become whole numbers in the resolution of their type, microseconds for most.

    Example:
        >>> import pandas as pd
        >>> np.diff(time_numbers(pd.Series(pd.to_datetime(["2024-01-31 10:00", "2024-01-31 10:30"])))) / 60e6
        array([30.])
    """
    kind = getattr(times.dtype, "kind", "M")
    return times.to_numpy(np.float64) if kind in "fu" else times.astype("int64").to_numpy()


@dataclass(frozen=True)
class Times:
    """Times of the rows of a table.

    Attributes:
        values: dates, or finite numbers.
        form: of texts that are dates in another form than ISO 8601, this form, such as "%d.%m.%Y"; else None.
        notes: sentences for the user.
    """

    values: pd.Series
    form: str | None = None
    notes: tuple[str, ...] = ()


def parsed_times(values: pd.Series, name: str, form: str | None = None) -> Times:
    """Return the times in a column.

    Texts are read as ISO 8601 dates, else in the given form, else in the form of the first text. If both day-first and
    month-first are possible for all of them, a note says which one was taken: day-first for dates with dots,
    month-first for others.

    Args:
        values: the column.
        name: its name, for messages.
        form: the form of texts in an earlier table, which is tried first.

    Raises:
        InputError: a missing or infinite time; text that is not a date in the form of the others.

    Example:
        >>> import pandas as pd
        >>> times = parsed_times(pd.Series(["01.02.2024", "02.02.2024"]), "when")
        >>> times.values.dt.month.tolist(), times.form
        ([2, 2], '%d.%m.%Y')
        >>> print(times.notes[0])
        times such as 01.02.2024 were read with the day before the month; give dates such as 2024-01-31 if not
    """
    import pandas as pd

    missing = np.flatnonzero(values.isna().to_numpy())
    if len(missing):
        more = f", {pluralize(len(missing), 'such row')} in all" if len(missing) > 1 else ""
        raise InputError(
            f"time column {name!r} is missing in row {missing[0]:,}{more}; remove such rows, or fill in their times"
        )
    if is_text(values) or values.dtype == object:
        return _parsed(values.astype(str), name, form)
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        return Times(values)
    kind = getattr(values.dtype, "kind", "O")
    if kind not in "iuf":
        raise InputError(f"time column {name!r} holds {values.dtype} values; it must hold dates or numbers")
    infinite = np.flatnonzero(~np.isfinite(values.to_numpy(np.float64)))
    if len(infinite):
        raise InputError(f"time column {name!r} is infinite in row {infinite[0]:,}; remove such rows")
    return Times(values)


def _parsed(texts: pd.Series, name: str, form: str | None) -> Times:
    """Return texts as dates."""
    found = _dates(texts, "ISO8601")
    if found is not None:
        return Times(found, form)
    if form is not None and (found := _dates(texts, form)) is not None:
        return Times(found, form)
    read = [(each, dates) for each in _forms(texts.iloc[0]) if (dates := _dates(texts, each)) is not None]
    if not read:
        raise InputError(
            f"time column {name!r}: {_unreadable(texts)}; give dates such as 2024-01-31 10:30:00, or numbers"
        )
    if len(read) == 1 or read[0][1].equals(read[1][1]):
        return Times(read[0][1], read[0][0])
    is_dotted = "." in texts.iloc[0].split()[0]
    order = "day before the month" if is_dotted else "month before the day"
    note = f"times such as {texts.iloc[0]} were read with the {order}; give dates such as 2024-01-31 if not"
    chosen, dates = read[1 if is_dotted else 0]
    return Times(dates, chosen, (note,))


def _forms(text: str) -> list[str]:
    """Return the forms that a date can have: with the month first, and with the day first.

    Example:
        >>> _forms("01/02/2024 10:30"), _forms("13/02/2024"), _forms("soon")
        (['%m/%d/%Y %H:%M', '%d/%m/%Y %H:%M'], ['%d/%m/%Y'], [])
    """
    from pandas.tseries.api import guess_datetime_format

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the order of day and month
        found = [guess_datetime_format(text, dayfirst=is_day_first) for is_day_first in (False, True)]
    return list(dict.fromkeys(form for form in found if form is not None))


def _dates(texts: pd.Series, form: str) -> pd.Series | None:
    """Return texts as dates of one form; None if one of them is not of this form. Mixed offsets are turned into UTC."""
    import pandas as pd

    for utc in (False, True):
        try:
            return pd.to_datetime(texts, format=form, utc=utc)
        except (ValueError, TypeError, OverflowError):
            continue
    return None


def _unreadable(texts: pd.Series) -> str:
    """Return the first text that is not a date, or the statement that their forms differ."""
    for row, text in enumerate(texts.iloc[:1000]):
        if not _forms(text):
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
