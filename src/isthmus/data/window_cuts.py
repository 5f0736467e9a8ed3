"""Cut the series in a table into windows: order by time, gaps, borders of groups."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, Shaped

from isthmus.data.messages import hint
from isthmus.data.series import WindowedSeries, Windows
from isthmus.data.times import GAP, is_gap, parsed_times, time_numbers
from isthmus.data.window_rows import WindowRows
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd


def windows(
    table: pd.DataFrame, size: int, stride: int | None = None, *, time: str | None = None, group: str | None = None
) -> WindowedSeries:
    """Cut the series in a table into windows.

    Rows are ordered by time within their group. A step of time that is longer than 1.5 times the median step of its
    group is a gap; without `time` there are none. A window covers `size` successive rows, and no gap and no border of
    groups is in it. Rows at the end of a series that do not fill a window are in none. Missing cells of channels stay
    NaN.

    Args:
        table: a data frame with a row for each step; the columns that are not time or group are the channels.
        size: number of steps of a window, at least 2.
        stride: steps between the starts of two windows; None is a quarter of `size`.
        time: column of times: dates, texts that are dates, or numbers; each once within a group.
        group: column whose values separate series.

    Raises:
        InputError: an unknown column; a channel that is not numeric; no channel; times that are missing, repeated or
            not readable; no series of `size` steps without a gap.

    Example:
        >>> import pandas as pd
        >>> from isthmus import Autoencoder
        >>> table = pd.DataFrame({"machine": ["a"] * 6 + ["b"] * 5, "load": np.arange(11.0)})
        >>> found = windows(table, size=4, stride=2, group="machine")
        >>> found.X.shape, found.index.tolist()
        ((3, 4, 1), [[0, 1, 2, 3], [2, 3, 4, 5], [6, 7, 8, 9]])
        >>> model = Autoencoder(code_size=1, max_epochs=1, validation_fraction=0, random_state=0).fit(found)
        >>> found.by_time(model.reconstruct(found)).shape
        (11, 1)
    """
    return cut(table, Windows.of(size, stride, time, group))


def cut(table: pd.DataFrame, options: Windows) -> WindowedSeries:
    """Cut the series in a table into windows, as `windows` does."""
    names = [str(name) for name in table.columns]
    for option, name in (("time", options.time), ("group", options.group)):
        if name is not None and name not in names:
            raise InputError(f"{option} column {name!r}: no such column; {hint(name, names)} (--{option})")
    table = table.set_axis(names, axis=1).reset_index(drop=True)
    steps = table[options.identifiers]
    channels = table.drop(columns=options.identifiers)
    _refuse_text(channels, options)
    groups, labels = _groups_of(table, options.group)
    times: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    if options.time is not None:
        parsed = parsed_times(table[options.time], options.time, options.time_form)
        times, notes = time_numbers(parsed.values), parsed.notes
        kind = "numbers" if getattr(parsed.values.dtype, "kind", "M") in "iuf" else "dates"
        if options.time_kind not in (None, kind):
            raise InputError(
                f"time column {options.time!r} had {options.time_kind} when the model was fitted; found {kind}, "
                f"such as {table[options.time].iloc[0]}"
            )
        options = replace(options, time_form=parsed.form, time_kind=kind)
    order = np.argsort(groups, kind="stable") if times is None else np.lexsort((times, groups))
    if times is not None:
        _refuse_repeated(times[order], groups[order], steps.iloc[order], options)
        notes += _order_note(order, groups, options)
    lengths, n_gaps = _run_lengths(groups[order], None if times is None else times[order])
    starts = _starts(lengths, options)
    if not len(starts):
        raise InputError(
            f"no window of {options.size} steps: the longest series without a gap has "
            f"{pluralize(int(lengths.max(initial=0)), 'step')}; give a smaller window (--window)"
        )
    values = channels.to_numpy(np.float64, na_value=np.nan)[order]
    series = WindowedSeries(
        WindowRows(values, starts, options.size), list(map(str, channels)), options, order, starts, steps
    )
    return replace(series, notes=(*notes, *_cut_notes(series, groups, labels, n_gaps)))


def _refuse_text(channels: pd.DataFrame, options: Windows) -> None:
    """Raise for columns that are not numbers, with all their names; raise if there is no column."""
    if not len(channels.columns):
        raise InputError("a table of windows needs a column of numbers in addition to those of time and group")
    if not len(channels):
        raise InputError("the data contain no rows; at least 1 is required")
    kinds = {str(name): getattr(dtype, "kind", "O") for name, dtype in channels.dtypes.items()}
    text = [name for name, kind in kinds.items() if kind not in "biuf"]
    if text:
        one = len(text) == 1
        more = f" and {len(text) - 5} more" if len(text) > 5 else ""
        excluded = " ".join(f"--exclude {shlex.quote(name)}" for name in text[:5])
        roles = " or ".join(f"--{role}" for role in ("group", "time") if getattr(options, role) is None)
        named = f", or name {'it' if one else 'one'} as {roles}" if roles else ""
        raise InputError(
            f"column{'' if one else 's'} {', '.join(map(repr, text[:5]))}{more} {'is' if one else 'are'} not numeric, "
            f"and windows are of numbers; exclude {'it' if one else 'them'} ({excluded}){named}"
        )


def _groups_of(table: pd.DataFrame, name: str | None) -> tuple[Int[np.ndarray, " n_rows"], Sequence[Any]]:
    """Return the number of the group of each row, in the order of their first rows, and the groups.

    Raises:
        InputError: a row without a group.
    """
    import pandas as pd

    if name is None:
        return np.zeros(len(table), np.int64), [None]
    numbers, labels = pd.factorize(table[name])
    missing = np.flatnonzero(numbers < 0)
    if len(missing):
        raise InputError(
            f"group column {name!r} is missing in row {missing[0]:,}, {pluralize(len(missing), 'such row')} in all; "
            "remove such rows, or fill in their groups"
        )
    return numbers, list(labels)


def _refuse_repeated(
    times: Shaped[np.ndarray, " n_rows"], groups: Int[np.ndarray, " n_rows"], steps: pd.DataFrame, options: Windows
) -> None:
    """Raise if a time occurs twice within a group; the rows are in order."""
    assert options.time is not None
    repeated = (np.diff(times) == 0) & (np.diff(groups) == 0)
    if not repeated.any():
        return
    row = steps.iloc[int(np.flatnonzero(repeated)[0])]
    where = "" if options.group is None else f" of {options.group} {row[options.group]}"
    advice = "keep one row for each time"
    if options.group is None:
        advice += ", or name the column that separates the series (--group)"
    raise InputError(
        f"time column {options.time!r}: {row[options.time]}{where} occurs more than once, and so do "
        f"{pluralize(int(repeated.sum()), 'time')} in all; {advice}"
    )


def _order_note(
    order: Int[np.ndarray, " n_rows"], groups: Int[np.ndarray, " n_rows"], options: Windows
) -> tuple[str, ...]:
    """Return a note if the rows of a group were not in the order of their times."""
    backwards = (np.diff(order) < 0) & (np.diff(groups[order]) == 0)
    return (f"the rows were not in the order of {options.time!r}; they were sorted",) if backwards.any() else ()


def _run_lengths(
    groups: Int[np.ndarray, " n_rows"], times: Shaped[np.ndarray, " n_rows"] | None
) -> tuple[Int[np.ndarray, " runs"], int]:
    """Return the lengths of the runs of rows without a gap and within a group, and the number of gaps."""
    borders = np.flatnonzero(np.diff(groups)) + 1
    gaps = np.zeros(0, np.int64)
    if times is not None:
        ends = [0, *borders.tolist(), len(groups)]
        found = [np.flatnonzero(is_gap(times[a:b])) + a + 1 for a, b in pairwise(ends)]
        gaps = np.concatenate([gaps, *found])
    cuts = np.sort(np.concatenate([[0], borders, gaps, [len(groups)]]))
    return np.diff(cuts), len(gaps)


def _starts(lengths: Int[np.ndarray, " runs"], options: Windows) -> Int[np.ndarray, " n"]:
    """Return the positions of the first steps of the windows in runs of these lengths."""
    first = np.cumsum(lengths) - lengths
    found = [
        np.arange(start, start + length - options.size + 1, options.stride)
        for start, length in zip(first.tolist(), lengths.tolist(), strict=True)
        if length >= options.size
    ]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _cut_notes(
    series: WindowedSeries, groups: Int[np.ndarray, " n_rows"], labels: Sequence[Any], n_gaps: int
) -> tuple[str, ...]:
    """Return notes on gaps, groups without a window, and rows that are in no window."""
    options, notes = series.options, []
    if n_gaps:
        rule = f"{pluralize(n_gaps, 'gap')} in {options.time!r}: steps longer than {GAP} times the median step"
        notes.append(f"{rule}; no window spans one")
    without = sorted(set(range(len(labels))) - set(groups[series.first].tolist()))
    if without:
        shown = ", ".join(str(labels[i]) for i in without[:3]) + (", ..." if len(without) > 3 else "")
        notes.append(f"{pluralize(len(without), 'group')} of {options.group!r} without a window ({shown}): too short")
    n_left = series.n_rows - int(series.covered.sum())
    if n_left:
        why = (
            ""
            if options.stride <= options.size
            else f"; the stride {options.stride} is above the window {options.size}"
        )
        notes.append(f"{pluralize(n_left, 'step')} of {series.n_rows:,} in no window{why}")
    return tuple(notes)
