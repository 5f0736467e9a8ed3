"""`isthmus impute fit` and `apply`: train an imputer on rows with missing entries, and fill missing entries of rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import arguments, destinations, options, outputs, sources
from isthmus.cli.inspection import error_text
from isthmus.cli.reading import with_read_options, with_reading
from isthmus.cli.terminal import Log, print_json
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd

    from isthmus.data import Dataset
    from isthmus.data.read_options import ReadOptions
    from isthmus.estimators.imputer import Imputer

SHOWN = 30
"""Largest number of columns that are logged in lines of their own."""

app = typer.Typer(
    help="Fill missing values of rows from the others, with intervals or as several samples.", add_completion=False,
    no_args_is_help=True,
)  # fmt: skip


@app.command()
@with_read_options
def fit(
    data: options.Data,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="IMPUTER", show_default=False, help="Imputer file to write.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Argument of Imputer, such as n_folds=8. Repeatable."),
    ] = None,
    exclude: options.Exclude = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=options.TRAINING, help="Passes over the rows.")
    ] = None,
    seed: options.Seed = None,
    device: options.Device = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    *,
    text: Any = None,
) -> None:
    """Train an imputer on DATA and write it to one file; print the error of each column on cells that were hidden."""
    log = Log(quiet)
    destination = destinations.check_output_file(output, force=force, inputs=(data,))
    model = _imputer(set_ or [], {"max_epochs": epochs, "random_state": seed, "device": device}, text, quiet)
    rows = sources.open_labelled(data, None, text, exclude=exclude or [])
    log.info(f"data: {sources.describe(rows)}")
    for note in rows.notes:
        log.note(note)
    model.fit(rows.X)
    sources.record_read_options(model, exclude or [], None, rows.reading or text)
    model.save(destination)
    log.info(f"imputer: {pluralize(model.n_rows_, 'training row')}, seed {model.seed_}")
    for note in model.history_["notes"]:
        log.note(note)
    _log_errors(model, log)
    log.info(f"imputer written to {output}")
    if as_json:
        print_json(
            {"model": str(destination), "kind": model.kind, "rows": model.n_rows_, "seed": model.seed_,
             "notes": model.history_["notes"], "columns": model.errors_}
        )  # fmt: skip


def _imputer(assignments: list[str], given: dict[str, Any], reading: ReadOptions, quiet: bool) -> Imputer:
    """Build an imputer from the options and settings of the command line.

    Raises:
        InputError: a setting is unknown, has the wrong type, or repeats an option.
    """
    from isthmus.estimators.imputer import Imputer

    settings = arguments.settings(assignments, "imputer", Imputer)
    chosen = {name: value for name, value in given.items() if value is not None}
    chosen |= {"dtypes": dict(reading.dtypes)} if reading.dtypes else {}
    twice = [name for name in settings if name in chosen]
    if twice:
        raise InputError(f"{twice[0]} is set by an option and by --set {twice[0]}=...; set it once")
    return Imputer(verbose=0 if quiet else 1).set_params(**chosen, **settings)


def _log_errors(model: Imputer, log: Log) -> None:
    """Log the error of each column on hidden cells, and that of its mean or most frequent level."""
    known = [entry for entry in model.errors_ if entry["error"] is not None]
    for entry in known[:SHOWN]:
        log.info(f"{entry['column']}: {error_text(entry)}, {pluralize(entry['cells'], 'hidden cell')}")
    if len(known) > SHOWN:
        log.info(f"and {pluralize(len(known) - SHOWN, 'further column')}; --json lists all")
    worse = [entry["column"] for entry in known if entry["error"] > entry["baseline"]]
    if worse:
        log.warn(
            f"filled values of {', '.join(map(repr, worse))} have a larger error than the mean or the most frequent "
            "level; columns with a few very large values are filled better as logarithms, or exclude them (--exclude)"
        )


@app.command()
@with_reading()
def apply(
    imputer: Annotated[
        str,
        typer.Argument(metavar="IMPUTER", show_default=False, help="Imputer file written by `isthmus impute fit`."),
    ],
    data: options.Data,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", show_default=False, help="Output file: .csv, .parquet or .npy."),
    ],
    draws: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Write N copies of the rows, one after the other, whose missing values are drawn (multiple "
            "imputation); a column 'draw' numbers them.",
        ),
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            metavar="COVERAGE",
            help="Add columns NAME.low and NAME.high, which contain the value with this probability, such as 0.9.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Random seed of --draws. Default: random.")] = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write the rows of DATA with missing values filled; other values are written as they are."""
    from isthmus.data.writers import ARRAY_SUFFIXES

    advice = f"rows are written as {', '.join(ARRAY_SUFFIXES)}"
    destination = destinations.check_format(output, ARRAY_SUFFIXES, advice, force=force, inputs=(imputer, data))
    _check_options(output, draws, interval)
    log = Log(quiet)
    model = load_imputer(imputer, device)
    rows = sources.open_for_model(model, data, log, reading=reading)
    log.info(f"data: {sources.describe(rows)}")
    if getattr(rows.X, "ndim", 2) > 2 and destination.suffix.lower() != ".npy":
        raise InputError(f"{output}: the rows have the shape {tuple(rows.X.shape[1:])}; write a .npy file")
    outputs.note_left_out(output, reading.keep, log)
    filled = _log_gaps(rows, log)
    tables = [model.transform(rows.X)] if draws is None else model.sample(rows.X, draws, seed)
    bounds = None if interval is None else model.interval(rows.X, interval)
    _write(destination, model, tables, bounds, rows, draws is not None, force)
    log.info(f"{pluralize(rows.n_rows, 'row')} written to {output}")
    if as_json:
        print_json({"model": imputer, "data": rows.name, "rows": rows.n_rows, "filled": filled,
                    "draws": draws, "interval": interval, "written_to": str(destination)})  # fmt: skip


def load_imputer(path: str, device: str = "auto") -> Imputer:
    """Load the imputer in a model file.

    Raises:
        InputError: the file cannot be loaded, or contains another model.
    """
    import isthmus

    model = isthmus.load(path, device=device)
    if model.kind != "imputer":
        raise InputError(
            f"{path}: contains a model of kind {model.kind!r}, not an imputer; make one with isthmus impute fit DATA "
            "-o IMPUTER"
        )
    for denoiser in model.model_.denoisers:
        denoiser.set_params(device=device)
    found: Imputer = model.set_params(device=device)
    return found


def _check_options(output: str, draws: int | None, interval: float | None) -> None:
    """Refuse options that do not fit together.

    Raises:
        InputError: draws below 1; a coverage outside (0, 1); draws or an interval in a .npy file; both.
    """
    if draws is not None and draws < 1:
        raise InputError(f"--draws {draws}: it must be a whole number of at least 1")
    if interval is not None and not 0 < interval < 1:
        raise InputError(f"--interval {interval:g}: it must be a number between 0 and 1, such as 0.9")
    if draws is not None and interval is not None:
        raise InputError("--draws and --interval exclude each other: draws have no interval; give one of them")
    name = "--draws" if draws is not None else "--interval"
    if (draws is not None or interval is not None) and output.lower().endswith(".npy"):
        raise InputError(f"{name}: {output} holds the rows alone; write a .csv or .parquet file")


def _log_gaps(rows: Dataset, log: Log) -> dict[str, int]:
    """Log the number of missing cells of each column, and return it."""
    import numpy as np

    if hasattr(rows.X, "columns"):
        missing = {str(name): int(n) for name, n in rows.X.isna().sum().items() if n}
    else:
        gaps = np.isnan(np.asarray(rows.X, np.float64)).reshape(len(rows.X), -1).sum(0)
        missing = {f"x{j}": int(n) for j, n in enumerate(gaps) if n}
    if not missing:
        log.info("no cell is missing: the rows are written as they are")
        return missing
    listed = ", ".join(f"{name} {n:,}" for name, n in list(missing.items())[:SHOWN])
    more = f" and {len(missing) - SHOWN} more columns" if len(missing) > SHOWN else ""
    log.info(f"{pluralize(sum(missing.values()), 'cell')} filled: {listed}{more}")
    return missing


def _write(
    destination: Path, model: Imputer, tables: list[Any], bounds: Any, rows: Dataset, numbered: bool, force: bool
) -> None:
    """Write filled rows after their identifiers; with draws one copy after the other, with the number of the draw."""
    import pandas as pd

    if destination.suffix.lower() == ".npy":
        outputs.write_rows(destination, tables[0], force=force)
        return
    names = [str(name) for name in model.get_feature_names_out()]
    parts = []
    for number, table in enumerate(tables, 1):
        frame = table if hasattr(table, "columns") else pd.DataFrame(table, columns=names)
        if bounds is not None:
            frame = pd.concat([frame, _bounds(bounds, frame)], axis=1)
        if numbered:
            frame = outputs.after(pd.DataFrame({"draw": [number] * len(frame)}), frame)
        parts.append(frame.reset_index(drop=True))
    carried = None if rows.carried is None else pd.concat([rows.carried] * len(tables), ignore_index=True)
    outputs.write_rows(destination, pd.concat(parts, ignore_index=True), carried, force=force)


def _bounds(bounds: Any, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns NAME.low and NAME.high of columns that are not levels."""
    import pandas as pd

    low, high = (pd.DataFrame(part).set_axis(frame.columns, axis=1).set_axis(frame.index, axis=0) for part in bounds)
    found: dict[str, Any] = {}
    for name in frame.columns:
        if not low[name].isna().any():
            found |= {f"{name}.low": low[name], f"{name}.high": high[name]}
    return pd.DataFrame(found, index=frame.index)
