"""Dates of tables: how a column of them is read, and their features."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from pandas.tseries.api import guess_datetime_format

from isthmus.errors import InputError

ISO = "ISO8601"
"""Format of ISO 8601 dates, as pandas names it."""

MAX_SAMPLE = 100
"""Different texts of a column whose formats are tried on all of them."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

SECONDS = 86400
"""Seconds of a day."""

_ZONED = re.compile(r".*\d:\d\d.*(?:Z|[+-]\d\d:?\d\d)\s*")
_DOTTED = re.compile(r"\s*\d{1,2}\.\d{1,2}\.\d")
_EARLIEST, _LATEST = pd.Timestamp("1678-01-01"), pd.Timestamp("2262-01-01")


@dataclass(frozen=True)
class DateFormat:
    """The format of the dates of a column, and what their features refer to.

    Attributes:
        text: format of dates that are text, as `pandas.to_datetime` takes it.
        first: the first date of training, ISO 8601, from which days count.
        has_times: True if a date of training is not midnight.
        zone: time zone in which the dates are, or None.
    """

    text: str = ISO
    first: str = "1970-01-01T00:00:00"
    has_times: bool = False
    zone: str | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of levels of month, weekday and, with times, hour."""
        return (12, 7, 24) if self.has_times else (12, 7)

    @property
    def names(self) -> list[str]:
        """The names of the features."""
        hours = [f"hour={hour}" for hour in range(24)] if self.has_times else []
        return ["days", *(f"month={month}" for month in range(1, 13)), *(f"weekday={day}" for day in WEEKDAYS), *hours]

    def features(self, times: pd.Series) -> Float[np.ndarray, "rows features"]:
        """Return days since the first date, and indicators of month, weekday and hour; NaN for a missing date.

        Example:
            >>> DateFormat(first="2024-01-31T00:00:00").features(pd.Series(pd.to_datetime(["2024-02-02"])))[0].argmax()
            np.int64(0)
        """
        days = (times - pd.Timestamp(self.first)).dt.total_seconds().to_numpy(np.float64, na_value=np.nan) / SECONDS
        codes = [times.dt.month - 1, times.dt.day_of_week, times.dt.hour]
        hot = [np.eye(size)[code.fillna(0).to_numpy(np.int64)] for size, code in zip(self.sizes, codes, strict=False)]
        features = np.concatenate([days[:, None], *hot], axis=1)
        features[np.isnan(days)] = np.nan
        return features

    def times(self, days: Float[np.ndarray, " rows"]) -> pd.Series:
        """Return the dates of days since the first one: whole days, or whole seconds if training had times.

        Example:
            >>> DateFormat(first="2024-01-31T00:00:00").times(np.array([1.2])).tolist()
            [Timestamp('2024-02-01 00:00:00')]
        """
        step = 1 if self.has_times else SECONDS
        first = pd.Timestamp(self.first)
        low, high = ((limit - first).total_seconds() for limit in (_EARLIEST, _LATEST))
        seconds = np.clip(np.rint(days.astype(np.float64) * SECONDS / step) * step, low, high)
        found = pd.Series(first.as_unit("us") + pd.to_timedelta(seconds, unit="s").as_unit("us"))
        return found if self.zone is None else _localized(found, self.zone)


def is_date_type(values: pd.Series) -> bool:
    """Return whether the type of a column is one of dates."""
    return bool(pd.api.types.is_datetime64_any_dtype(values) or isinstance(values.dtype, pd.PeriodDtype))


def _localized(times: pd.Series, zone: str) -> pd.Series:
    return times.dt.tz_localize(zone, ambiguous=np.zeros(len(times), bool), nonexistent="shift_forward")


def read_times(values: pd.Series, text: str, zone: str | None) -> pd.Series:
    """Return dates without a zone, in local time of `zone`; NaT for a value that is not a date of this format.

    Whole numbers are years (2024) or days (20240131).
    """
    if isinstance(values.dtype, pd.PeriodDtype):
        times = values.dt.to_timestamp()
    elif pd.api.types.is_datetime64_any_dtype(values):
        times = values
    else:
        times = parsed_texts(_as_texts(values), text)
    if getattr(times.dtype, "tz", None) is None:
        return times
    return times.dt.tz_convert(zone or "UTC").dt.tz_localize(None)


def _as_texts(values: pd.Series) -> pd.Series:
    """Return values as text; numbers that are neither a year nor YYYYMMDD are not dates."""
    return pd.Series([_as_text(value) for value in values.astype(object)], dtype=object, index=values.index)


def _as_text(value: Any) -> str | None:
    if pd.isna(value):
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return "not a date" if text.isdigit() and len(text) not in (4, 8) else text


def parsed_texts(texts: pd.Series, text: str) -> pd.Series:
    """Return texts as dates of a format; NaT for other texts. Dates with offsets from UTC are in UTC.

    Example:
        >>> parsed_texts(pd.Series(["31.01.2024", "soon"]), "%d.%m.%Y").isna().tolist()
        [False, True]
    """
    zoned = bool(texts.map(lambda value: _ZONED.fullmatch(value) is not None, na_action="ignore").eq(True).any())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pd.to_datetime(texts, format=text, errors="coerce", utc=zoned)
        except ValueError:  # a time zone that pandas does not know
            return pd.Series(pd.NaT, index=texts.index, dtype="datetime64[us]")


def text_formats(texts: pd.Series) -> list[str]:
    """Return the formats that all texts have; if there is none, the format that most of them have.

    ISO 8601 comes first. Of dates with dots the day comes before the month, of others after it, as in pandas.

    Example:
        >>> text_formats(pd.Series(["03/04/2024", "13/04/2024"])), text_formats(pd.Series(["2024-01-31"]))
        (['%d/%m/%Y'], ['ISO8601'])
        >>> text_formats(pd.Series(["03/04/2024"]))
        ['%m/%d/%Y', '%d/%m/%Y']
        >>> text_formats(pd.Series(["03.04.2024"]))
        ['%d.%m.%Y', '%m.%d.%Y']
    """
    distinct = pd.Series(texts.dropna().unique())
    if parsed_texts(distinct, ISO).notna().all():
        return [ISO]
    orders = (True, False) if len(distinct) and _DOTTED.match(distinct[0]) else (False, True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas says that the day comes first
        guesses = dict.fromkeys(
            guess for day_first in orders for text in distinct[:MAX_SAMPLE]
            if (guess := guess_datetime_format(text, dayfirst=day_first)) is not None
        )  # fmt: skip
    counts = {guess: int(parsed_texts(distinct, guess).notna().sum()) for guess in [ISO, *guesses]}
    complete = [guess for guess, count in counts.items() if count == len(distinct)]
    return complete or [max(counts, key=lambda guess: counts[guess])]


def learn_format(name: str, values: pd.Series) -> DateFormat:
    """Learn how the dates of a column are read.

    Raises:
        InputError: a value that is not a date in the format of the others; no value.

    Example:
        >>> learn_format("day", pd.Series(["31.01.2024", "03.02.2024"]))
        DateFormat(text='%d.%m.%Y', first='2024-01-31T00:00:00', has_times=False, zone=None)
    """
    if pd.api.types.is_timedelta64_dtype(values):
        raise InputError(f"column {name!r} contains durations, not dates; convert it to numbers")
    zone = getattr(values.dtype, "tz", None)
    text = ISO if is_date_type(values) else text_formats(_as_texts(values))[0]
    found = DateFormat(text, zone=None if zone is None else str(zone))
    times = checked_times(name, values, found, "column {name!r} is declared as dates; found {value!r} at row {row}")
    if times.notna().sum() == 0:
        raise InputError(f"column {name!r} contains no values; exclude it")
    present = times.dropna()
    has_times = bool((present != present.dt.normalize()).any())
    return DateFormat(text, present.min().isoformat(), has_times, found.zone)


def checked_times(name: str, values: pd.Series, dates: DateFormat, message: str) -> pd.Series:
    """Return the dates of a column.

    Args:
        name: of the column.
        values: of the column.
        dates: how they are read.
        message: for the first value that is not a date, with {name}, {value} and {row}.

    Raises:
        InputError: a value that is not a date of the format.
    """
    times = read_times(values, dates.text, dates.zone)
    wrong = np.flatnonzero((times.isna() & values.notna()).to_numpy())
    if len(wrong):
        found = message.format(name=name, value=_shown(values.iloc[wrong[0]]), row=wrong[0])
        form = "an ISO 8601 date such as 2024-01-31" if dates.text == ISO else f"a date of the form {dates.text}"
        raise InputError(f"{found}, which is not {form}")
    return times


def _shown(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def are_dates(texts: Sequence[str]) -> bool:
    """Return whether every text has a digit and a separator and can be parsed as a date."""
    has_signs = [any(c in t for c in "-/:") or _DOTTED.match(t) is not None for t in texts]
    if not texts or not all(has_signs) or not all(any(c.isdigit() for c in t) for t in texts):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas warns when it infers the format, which is intended here
        inferred = pd.to_datetime(pd.Series(texts), errors="coerce", utc=True).notna().all()
    return bool(inferred or parsed_texts(pd.Series(texts), text_formats(pd.Series(texts))[0]).notna().all())
