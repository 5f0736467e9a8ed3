"""Series section of the report: a series, its reconstruction, the error below it, and the error of all series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from isthmus.data.series import WindowedSeries
from isthmus.data.times import parsed_times
from isthmus.errors import pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.report import charts

MAX_STEPS = 1500
"""Largest number of steps of the series that is shown; of a longer one, those around the largest error."""

MAX_CHANNELS = 6
"""Largest number of channels that are shown, those with the largest errors."""

MAX_LINES, MAX_PARTS, MAX_BREAKS = 8, 400, 20
"""Largest numbers in the overview of errors: of series, of the parts of time of each, of interruptions of a line."""


@dataclass(frozen=True)
class SeriesSection:
    """The texts and charts of the section.

    Attributes:
        explanation: which series and steps are shown.
        overview: the text above the chart of all errors; empty without it.
        charts: "series", and "series-error" where not every step is shown.
    """

    explanation: str
    overview: str
    charts: Mapping[str, charts.Chart]


@dataclass(frozen=True)
class _Steps:
    """Values at the positions of a series: the windows' own order, by group and time."""

    actual: Float[np.ndarray, "n_rows channels"]
    reconstruction: Float[np.ndarray, "n_rows channels"]
    error: Float[np.ndarray, "n_rows channels"]
    runs: Int[np.ndarray, " n_rows"]
    times: list[Any]

    @property
    def total(self) -> Float[np.ndarray, " n_rows"]:
        """The error over channels, 0 in no window."""
        return np.nansum(self.error, axis=1)

    def broken(self, values: Float[np.ndarray, " n_rows"], part: slice) -> Float[np.ndarray, " points"]:
        """Return the values of a part, with NaN where two steps are in no common window."""
        return np.insert(values[part], self._breaks(part), np.nan)

    def broken_times(self, part: slice) -> list[Any]:
        """Return the times of `broken`; those of a break are the times of the step after it."""
        rows = np.arange(part.start, part.stop)
        return [self.times[row] for row in np.insert(rows, self._breaks(part), rows[self._breaks(part)])]

    def _breaks(self, part: slice) -> Int[np.ndarray, " breaks"]:
        return np.flatnonzero(np.diff(self.runs[part])) + 1


def series_section(model: BaseAutoencoder, series: WindowedSeries) -> SeriesSection:
    """Return the section on the windows of a table.

    The series with the largest mean error is shown, with the channels and steps of the largest errors if it has many.
    """
    steps = _steps(model, series)
    groups = _groups(series)
    total = steps.total
    worst = max(groups, key=lambda name: float(total[groups[name]].mean()))
    part = _stretch(total, groups[worst], series.options.size)
    mean_error = np.nansum(steps.error[part], axis=0)
    shown = np.sort(np.argsort(-mean_error, kind="stable")[:MAX_CHANNELS])
    lines = {
        series.channels[j]: (steps.broken(steps.actual[:, j], part), steps.broken(steps.reconstruction[:, j], part))
        for j in shown
    }
    no_window = steps.runs < 0
    error = np.where(no_window, np.nan, total)
    drawn = {"series": charts.series_chart(steps.broken_times(part), lines, steps.broken(error, part))}
    is_whole = len(groups) == 1 and part == groups[worst]
    if not is_whole:
        drawn["series-error"] = charts.error_overview(_overview(steps, error, groups))
    return SeriesSection(
        _explanation(series, worst, groups, part, shown, int(no_window.sum())),
        "" if is_whole else _overview_text(groups),
        drawn,
    )


def _steps(model: BaseAutoencoder, series: WindowedSeries) -> _Steps:
    order = series.order
    return _Steps(
        actual=series.by_time_of(np.asarray)[order],
        reconstruction=series.by_time_of(model.reconstruct)[order],
        error=series.by_time_of(lambda X: model.reconstruction_error(X, by="cell"))[order],
        runs=series.runs,
        times=_times(series),
    )


def _times(series: WindowedSeries) -> list[Any]:
    """Return the times at the positions as plotly takes them: numbers, or dates as text; row numbers without times."""
    name = series.options.time
    if name is None:
        return [int(row) for row in series.order]
    times = parsed_times(series.steps[name].iloc[series.order], name, series.options.time_form).values
    if pd.api.types.is_timedelta64_dtype(times):
        return [float(seconds) for seconds in times.dt.total_seconds()]
    if pd.api.types.is_datetime64_any_dtype(times):
        dates = (times.dt.tz_localize(None) if getattr(times.dtype, "tz", None) is not None else times).to_numpy()
        units = [unit for unit in ("m", "s") if (dates == dates.astype(f"datetime64[{unit}]")).all()]
        return np.datetime_as_string(dates, unit=units[0] if units else "ms").tolist()  # type: ignore[call-overload]
    return times.to_numpy().tolist()


def _groups(series: WindowedSeries) -> dict[str, slice]:
    """Return the positions of each group by its name; "" of a table without groups."""
    name = series.options.group
    if name is None:
        return {"": slice(0, series.n_rows)}
    values = series.steps[name].iloc[series.order]
    numbers = pd.factorize(values)[0]
    borders = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return {str(values.iloc[a]): slice(a, b) for a, b in pairwise(borders)}


def _stretch(total: Float[np.ndarray, " n_rows"], part: slice, size: int) -> slice:
    """Return at most `MAX_STEPS` positions around the `size` steps with the largest error."""
    if part.stop - part.start <= MAX_STEPS:
        return part
    sums = np.convolve(total[part], np.ones(size), "valid")
    middle = part.start + int(sums.argmax()) + size // 2
    start = min(max(part.start, middle - MAX_STEPS // 2), part.stop - MAX_STEPS)
    return slice(start, start + MAX_STEPS)


def _overview(
    steps: _Steps, error: Float[np.ndarray, " n_rows"], groups: Mapping[str, slice]
) -> dict[str, tuple[Sequence[Any], np.ndarray]]:
    """Return the times and the largest error of parts of each series, of those with the largest mean errors."""
    names = sorted(groups, key=lambda name: -float(steps.total[groups[name]].mean()))[:MAX_LINES]
    found: dict[str, tuple[Sequence[Any], np.ndarray]] = {}
    for name in sorted(names, key=list(groups).index):
        part = groups[name]
        edges = np.unique(np.linspace(part.start, part.stop, min(MAX_PARTS, part.stop - part.start) + 1).astype(int))
        starts = edges[:-1]
        highest = np.fmax.reduceat(error[: part.stop], starts)
        breaks = np.flatnonzero(np.diff(steps.runs[starts])) + 1
        if len(breaks) > MAX_BREAKS:
            breaks = breaks[:0]
        times = [steps.times[start] for start in np.insert(starts, breaks, starts[breaks])]
        found[name or "series"] = (times, np.insert(highest, breaks, np.nan))
    return found


def _explanation(
    series: WindowedSeries, name: str, groups: Mapping[str, slice], part: slice, shown: np.ndarray, n_left: int
) -> str:
    whole = groups[name]
    texts = []
    if name:
        chosen = f", which has the largest mean error of {len(groups):,} series" if len(groups) > 1 else ""
        texts.append(f"The series of {series.options.group} {name}{chosen}.")
    if part != whole:
        texts.append(f"{MAX_STEPS:,} of {whole.stop - whole.start:,} steps, around the largest error.")
    if len(shown) < len(series.channels):
        texts.append(f"The {len(shown)} of {len(series.channels)} channels with the largest errors.")
    texts.append(
        f"Each step of the reconstruction is the mean of the windows of {series.options.size} steps that cover it. The "
        "error below is the squared error in model units, over all channels."
    )
    if n_left:
        texts.append(f"{pluralize(n_left, 'step')} of {series.n_rows:,} {'is' if n_left == 1 else 'are'} in no window.")
    return " ".join(texts)


def _overview_text(groups: Mapping[str, slice]) -> str:
    many = f"the {MAX_LINES} of {len(groups):,} series with the largest mean errors"
    of = many if len(groups) > MAX_LINES else "all steps"
    return f"The error of {of}: the largest one in each part of time."
