"""Windows of series in tables: the options of `isthmus fit`, windows as rows, and values back at their times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import outputs
from isthmus.cli.option_groups import Command, with_group
from isthmus.cli.terminal import Log
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from isthmus.data import Dataset
    from isthmus.data.read_options import ReadOptions
    from isthmus.data.series import WindowedSeries, Windows
    from isthmus.estimators.base import BaseAutoencoder

_PANEL = "Windows of series"

LAYOUT = "ntc"
"""Layout of windows: series of steps and channels."""


def _option(kind: Any, option: str, metavar: str, text: str) -> Any:
    return Annotated[kind, typer.Option(option, metavar=metavar, rich_help_panel=_PANEL, help=text)]


OPTIONS = {
    "window": _option(
        int | None,
        "--window",
        "STEPS",
        "Cut the table into windows of so many successive rows; a row of the model is then a window of its numeric "
        "columns. The model holds these options, and later commands cut their tables by them.",
    ),
    "stride": _option(
        int | None, "--stride", "STEPS", "Steps between the starts of two windows. Default: a quarter of the window."
    ),
    "time": _option(
        str | None,
        "--time",
        "COLUMN",
        "Column of times, dates or numbers, by which rows are sorted. A step longer than 1.5 times the median step is "
        "a gap, which no window spans. Default: the order of the rows, without gaps.",
    ),
    "group": _option(str | None, "--group", "COLUMN", "Column that separates series, such as machines."),
}
"""The options by the names of their parameters."""


def with_window_options(command: Command) -> Command:
    """Give a command the options of `OPTIONS`, and pass them to its parameter `windows`: `Windows`, or None."""
    return with_group(OPTIONS, "windows", _windows)(command)


def _windows(*, window: int | None, stride: int | None, time: str | None, group: str | None) -> Windows | None:
    """Return the windows of a command line; None without --window.

    Raises:
        InputError: another option without --window, or invalid windows.
    """
    from isthmus.data.series import Windows

    if window is not None:
        return Windows.of(window, stride, time, group)
    for name, value in (("stride", stride), ("time", time), ("group", group)):
        if value is not None:
            raise InputError(f"--{name} {value}: it belongs to windows; give their size too, such as --window 64")
    return None


def check_options(windows: Windows | None, given: Mapping[str, Any], reading: Any, labels: str | None) -> None:
    """Refuse options that do not apply to windows.

    Args:
        windows: the windows; None is not checked.
        given: values of other options by name; None where an option is not given.
        reading: the read options, whose declared types can only leave columns out.
        labels: the option --labels.
    """
    if windows is None:
        return
    for option, value in given.items():
        if value is not None and value != []:
            raise InputError(f"--window: {option} does not apply to windows of a table; omit one of them")
    from isthmus.data.dtypes import LEFT_OUT

    declared = [column for column, dtype in reading.dtypes.items() if dtype not in LEFT_OUT]
    if declared:
        column = declared[0]
        raise InputError(
            f"--dtype {column}={reading.dtypes[column]}: the columns of windows are numbers; omit it, or leave the "
            f"column out (--dtype {column}=ignore)"
        )
    if labels in windows.identifiers:
        raise InputError(f"--labels {labels}: it is the column of time or group; name another column")


def columns_out(exclude: Sequence[str] | None, reading: ReadOptions) -> tuple[list[str], ReadOptions]:
    """Return the columns to leave out of windows, those that are declared so included, and options without types."""
    return [*(exclude or []), *reading.dtypes], replace(reading, dtypes={})


def layout_for(windows: Windows | None, layout: str | None) -> str | None:
    """Return the layout of the rows: windows are series of steps and channels.

    Raises:
        InputError: another layout of windows is given.
    """
    if windows is None:
        return layout
    if layout not in (None, LAYOUT):
        raise InputError(f"--layout {layout}: windows are series of steps and channels ({LAYOUT}); omit it")
    return LAYOUT


def without_identifiers(rows: Dataset, windows: Windows | None) -> Dataset:
    """Return a table without the columns of time and group; other rows as they are."""
    if windows is None or not hasattr(rows.X, "columns"):
        return rows
    return replace(rows, X=rows.X.drop(columns=[name for name in rows.X if str(name) in windows.identifiers]))


def windowed(rows: Dataset, windows: Windows, log: Log, keep: Sequence[str] = ()) -> Dataset:
    """Return the windows of a table as rows. Their labels and kept columns are those of their last steps.

    Args:
        rows: a table; the columns to keep are among its carried columns.
        windows: how it is cut.
        log: log for notes.
        keep: names of columns to keep.

    Raises:
        InputError: rows that are not a table, or a table that cannot be cut.
    """
    import numpy as np

    from isthmus.data.window_cuts import cut

    if not hasattr(rows.X, "columns"):
        raise InputError(
            f"{rows.name}: --window cuts a table, and the rows have no named columns; give .csv or .parquet"
        )
    try:
        series = cut(rows.X, windows)
    except InputError as error:
        raise InputError(f"{rows.name}: {error}") from None
    for note in series.notes:
        log.note(f"{rows.name}: {note}")
    series = replace(series, steps=_names_of_steps(rows, series, keep))
    names, last = series.names, series.last
    kept = [name for name in dict.fromkeys(keep) if name not in names]
    carried = outputs.after(names, series.steps[kept].iloc[last].reset_index(drop=True))
    return replace(
        rows,
        X=series.X,
        labels=None if rows.labels is None else np.asarray(rows.labels)[last],
        row_names=series.row_names,
        carried=carried,
        windows=series,
    )


def _names_of_steps(rows: Dataset, series: WindowedSeries, keep: Sequence[str]) -> pd.DataFrame:
    """Return the columns that say which step is which: identifiers, group, time, kept columns; at least row numbers."""
    import numpy as np
    import pandas as pd

    carried = pd.DataFrame(index=range(series.n_rows)) if rows.carried is None else rows.carried.reset_index(drop=True)
    kept = [name for name in carried if name in keep]
    own = carried.drop(columns=kept)
    if series.options.time is None and not len(own.columns):
        own = pd.DataFrame({"row": np.arange(series.n_rows)})
    names = pd.concat([own, series.steps, carried[kept]], axis=1)
    return names.loc[:, ~names.columns.duplicated()]


def training_and_validation(
    model: BaseAutoencoder, rows: Dataset, held_out: Dataset | None, windows: Windows, log: Log
) -> tuple[Dataset, Dataset | None]:
    """Return windows for training and for validation, which are those at the ends of the groups where none are given.

    Raises:
        InputError: tables that cannot be cut, or too few windows.
    """
    rows = windowed(rows, windows, log)
    if held_out is not None:
        held_out = windowed(held_out, windows, log)
        log.info(f"windows: {len(rows.X):,} for training, {len(held_out.X):,} for validation")
        return rows, held_out
    kept, held = _series(rows).split_masks(model.validation_fraction)
    n_dropped = int((~kept & ~held).sum())
    if n_dropped:
        log.note(f"{pluralize(n_dropped, 'window')} left out of training: they share rows with validation windows")
    where = f", the last ones of each {windows.group}" if windows.group else ", the last ones"
    log.info(f"windows: {kept.sum():,} for training, {held.sum():,} for validation{where}")
    if not held.any():
        model.set_params(validation_fraction=0.0)
        return _some(rows, kept), None
    return _some(rows, kept), _some(rows, held)


def _some(rows: Dataset, chosen: np.ndarray) -> Dataset:
    """Return some of the windows."""
    series = _series(rows).take(chosen)
    return replace(
        rows,
        X=series.X,
        labels=None if rows.labels is None else rows.labels[chosen],
        row_names=series.row_names,
        carried=None if rows.carried is None else rows.carried[chosen].reset_index(drop=True),
        windows=series,
    )


def without_random_validation(model: Any, rows: Dataset, validation: str | None, log: Log) -> None:
    """Let an estimator that samples its validation rows hold out none of overlapping windows.

    Args:
        model: an estimator with `validation_fraction`, before its fit.
        rows: the rows.
        validation: the option --validation.
        log: log for notes.

    Raises:
        InputError: a fraction above 0 is given.
    """
    if rows.windows is None or not rows.windows.overlap:
        return
    if validation is not None and model.validation_fraction:
        raise InputError(
            f"--validation {validation}: windows overlap, so that random validation windows share rows with "
            "others; name a data source"
        )
    model.set_params(validation_fraction=0.0)
    log.note("no validation set, since windows overlap; name a data source with --validation")


def record(model: BaseAutoencoder, rows: Dataset, entry: str) -> None:
    """Store how the windows of the training rows were cut in an entry of the history, and the names of the channels."""
    if rows.windows is None:
        return
    history: dict[str, Any] = model.history_
    config = {**rows.windows.options.to_dict(), "channels": rows.windows.channels}
    model.history_ = {**history, entry: {**history[entry], "windows": config}}


def write_channels(
    destination: Path, values_of: Callable[[Any], Any], rows: Dataset, *, force: bool = False
) -> tuple[int, int]:
    """Write a line for each step that a window covers: its names, and the mean of its values in each channel.

    Args:
        destination: the output.
        values_of: returns the values of windows, such as `model.reconstruct`.
        rows: the windows.
        force: overwrite existing output.

    Returns:
        The numbers of written steps and of those in no window.
    """
    import pandas as pd

    series = _series(rows)
    values = series.by_time_of(values_of)
    table = pd.DataFrame(values[series.covered], columns=series.channels)
    return _write(destination, series, table, force)


def write_errors(destination: Path, model: BaseAutoencoder, rows: Dataset, *, force: bool = False) -> tuple[int, int]:
    """Write a line for each step that a window covers: its names, its squared error, the part of each channel in it.

    Errors are means over the windows that cover a step, in model space. The parts add up to the error.

    Returns:
        The numbers of written steps and of those in no window.
    """
    import numpy as np
    import pandas as pd

    series = _series(rows)
    cells = series.by_time_of(lambda X: model.reconstruction_error(X, by="cell"))[series.covered]
    errors = pd.DataFrame({"error": np.where(np.isnan(cells).all(1), np.nan, np.nansum(cells, axis=1))})
    return _write(destination, series, outputs.after(errors, pd.DataFrame(cells, columns=series.channels)), force)


def _series(rows: Dataset) -> WindowedSeries:
    assert rows.windows is not None
    return rows.windows


def _write(destination: Path, series: WindowedSeries, table: pd.DataFrame, force: bool) -> tuple[int, int]:
    names = series.steps[series.covered].reset_index(drop=True)
    if destination.suffix.lower() == ".npy":
        outputs.write_rows(destination, table.to_numpy(), force=force)
    else:
        outputs.write_rows(destination, table, names, force=force)
    return len(table), series.n_rows - len(table)


def written(counts: tuple[int, int], output: str, what: str = "") -> str:
    """Return the sentence on what was written.

    Example:
        >>> written((90, 10), "back.csv")
        '90 steps written to back.csv; 10 steps in no window are left out'
    """
    n, n_left = counts
    left = f"; {pluralize(n_left, 'step')} in no window {'is' if n_left == 1 else 'are'} left out" if n_left else ""
    return f"{what}{pluralize(n, 'step')} written to {output}{left}"
