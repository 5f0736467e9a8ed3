"""Times of the rows of a series: numbers, dates, and texts that are dates, as numbers that can be ordered."""

from __future__ import annotations

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

    Texts are read as ISO 8601 dates, else in the given form, else in the first form of `dates.text_formats`. If both
    day-first and month-first are possible for all of them, a note says which one was taken.

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
    from isthmus.data.dates import ISO, parsed_texts, text_formats

    known = [] if form is None else [form]
    formats = text_formats(texts)
    read = {each: times for each in [ISO, *known, *formats] if (times := parsed_texts(texts, each)).notna().all()}
    if not read:
        raise InputError(
            f"time column {name!r}: {_unreadable(texts)}; give dates such as 2024-01-31 10:30:00, or numbers"
        )
    chosen, times = next(iter(read.items()))
    others = [each for each in formats if each in read and not read[each].equals(times)] if chosen != ISO else []
    if chosen == form or not others:
        return Times(times, form if chosen == ISO else chosen)
    order = "day before the month" if chosen.index("%d") < chosen.index("%m") else "month before the day"
    note = f"times such as {texts.iloc[0]} were read with the {order}; give dates such as 2024-01-31 if not"
    return Times(times, chosen, (note,))


def _unreadable(texts: pd.Series) -> str:
    """Return the first text that is not a date, or the statement that their forms differ."""
    from isthmus.data.dates import parsed_texts, text_formats

    for row, text in enumerate(texts.iloc[:1000]):
        if parsed_texts(texts.iloc[row : row + 1], text_formats(texts.iloc[row : row + 1])[0]).isna().all():
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
