"""`isthmus traverse` and `interpolate`: decode codes on a path, from the codes of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import arguments, destinations, options, outputs, sources
from isthmus.cli.codes import black_and_white
from isthmus.cli.reading import with_reading
from isthmus.cli.terminal import Log
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from isthmus.data import Dataset
    from isthmus.estimators.base import BaseAutoencoder
    from isthmus.estimators.conditions import Conditions

DEFAULT_UNITS = 8
"""Largest number of units that `traverse` chooses."""

MAX_STEPS = 1000
"""Largest number of steps of a path."""

Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="OUTPUT",
        show_default=False,
        help="Output. For images: a .png file (one picture: a line for each path, a column for each step), a folder "
        "(single images) or a .npy file (paths, steps, ...). For other rows: a .csv, .parquet or .npy file.",
    ),
]
Steps = Annotated[
    int, typer.Option("--steps", metavar="N", min=2, max=MAX_STEPS, help="Number of steps, the two ends included.")
]


@dataclass(frozen=True)
class _Opened:
    """A model, the rows of DATA and their codes, and the checked output.

    Attributes:
        model: the fitted autoencoder.
        data: the rows.
        codes: (rows, code_size).
        conditions: those of the rows of a conditional model, in model space.
        output, destination: the output as typed, and its path.
        force: overwrite existing output.
        log: log of the command.
    """

    model: BaseAutoencoder
    data: Dataset
    codes: np.ndarray
    conditions: Conditions
    output: str
    destination: Path
    force: bool
    log: Log

    @classmethod
    def of(
        cls, model: str, data: str, output: str, reading: sources.Reading, device: str, force: bool, quiet: bool
    ) -> _Opened:
        """Check the output path, load the model, and encode DATA."""
        import numpy as np

        destination, log = destinations.check_path_output(output, force=force, inputs=(model, data)), Log(quiet)
        fitted = sources.load_autoencoder(model, device)
        destinations.refuse_wrong_form(fitted.preprocessing_.image_shape is not None, output, pictures=True)
        rows = sources.open_for_model(fitted, data, log, reading=reading)
        codes = np.asarray(fitted.transform(rows.X))
        return cls(fitted, rows, codes, fitted._conditions(rows.X), output, destination, force, log)

    def row_numbers(self, option: str, text: str) -> list[int]:
        """Return the rows that an option names."""
        return arguments.numbers(option, text, len(self.codes), f"rows of {self.data.name}")


@with_reading(without=["keep"])
def traverse(
    model: options.Model,
    data: options.Data,
    output: Output,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N",
            show_default=False,
            help="Unit of the code, from 0; several as 0,5,7 or by repeating the option. Default: the units with the "
            f"largest variance over DATA, at most {DEFAULT_UNITS}.",
        ),
    ] = None,
    rows: Annotated[
        str, typer.Option(metavar="N,N,...", help="Rows of DATA whose codes are changed, from 0, such as 0,1,2.")
    ] = "0",
    steps: Steps = 10,
    low: Annotated[
        float | None, typer.Option(metavar="VALUE", help="First value. Default: the 1% quantile of the unit over DATA.")
    ] = None,
    high: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Last value. Default: the 99% quantile of the unit over DATA.")
    ] = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Change one unit of the code at a time, and write the decoded rows.

    Each unit takes equally spaced values; the other units keep their values of the row.

    Tables have the identifiers of the rows, if DATA has them, the columns row, unit, step and value (of the unit), then
    the decoded columns in their units.
    """
    opened = _Opened.of(model, data, output, reading, device, force, quiet)
    import numpy as np

    from isthmus.estimators.conditions import conditions_between
    from isthmus.geometry.paths import unit_path, unit_range

    numbers, units = opened.row_numbers("--rows", rows), _units(opened, unit)
    codes = opened.codes
    values = {each: np.linspace(*unit_range(codes[:, each], each, low, high), steps) for each in units}
    lines = [(row, each) for row in numbers for each in units]
    _check_size(opened, len(lines), steps)
    paths = np.concatenate([unit_path(codes[[row]], each, values[each]) for row, each in lines])
    opened.log.info(f"{pluralize(len(units), 'unit')}: {', '.join(map(str, units))}")
    of_lines = np.repeat([row for row, _ in lines], steps)
    columns = {
        "row": of_lines,
        "unit": np.repeat([each for _, each in lines], steps),
        "step": np.tile(np.arange(steps), len(lines)),
        "value": np.concatenate([values[each] for _, each in lines]),
    }
    conditions = None if opened.conditions is None else opened.conditions[[row for row, _ in lines]]
    names = [f"row-{row}-unit-{each}" for row, each in lines]
    identifiers = _identifiers(opened, {"": of_lines})
    _write(opened, paths, conditions_between(conditions, conditions, steps), columns, identifiers, names)


@with_reading(without=["keep"])
def interpolate(
    model: options.Model,
    data: options.Data,
    output: Output,
    start: Annotated[
        str,
        typer.Option("--from", metavar="ROW", help="Row of DATA at the start, from 0; several as 0,5,7: one per path."),
    ] = "0",
    end: Annotated[
        str, typer.Option("--to", metavar="ROW", help="Row of DATA at the end; as many as for --from.")
    ] = "1",
    steps: Steps = 10,
    spherical: Annotated[
        bool,
        typer.Option("--spherical", help="Move directions on a great circle and lengths linearly. Default: lines."),
    ] = False,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Go from the code of one row of DATA to that of another in equal steps, and write the decoded rows.

    Tables have the identifiers of the two rows, if DATA has them, the columns from, to (row numbers) and step, then the
    decoded columns in their units.
    """
    opened = _Opened.of(model, data, output, reading, device, force, quiet)
    import numpy as np

    from isthmus.estimators.conditions import conditions_between
    from isthmus.geometry.paths import path_between

    starts, ends = opened.row_numbers("--from", start), opened.row_numbers("--to", end)
    if len(starts) != len(ends):
        found = f"{pluralize(len(starts), 'row')}, and --to {end} {len(ends)}"
        raise InputError(f"--from {start} names {found}; name one each, or equally many")
    _check_size(opened, len(starts), steps)
    paths = path_between(opened.codes[starts], opened.codes[ends], steps, "spherical" if spherical else "linear")
    first_rows, last_rows = np.repeat(starts, steps), np.repeat(ends, steps)
    columns = {
        "from": first_rows,
        "to": last_rows,
        "step": np.tile(np.arange(steps), len(starts)),
    }
    first, last = (None if opened.conditions is None else opened.conditions[rows] for rows in (starts, ends))
    names = [f"from-{a}-to-{b}" for a, b in zip(starts, ends, strict=True)]
    identifiers = _identifiers(opened, {"from ": first_rows, "to ": last_rows})
    _write(opened, paths, conditions_between(first, last, steps), columns, identifiers, names)


def _identifiers(opened: _Opened, rows: Mapping[str, np.ndarray]) -> pd.DataFrame | None:
    """Return the identifiers of rows by prefix of their names; None without any."""
    import pandas as pd

    carried = opened.data.carried
    if carried is None:
        return None
    return pd.concat([outputs.carried_rows(carried, each.tolist(), prefix) for prefix, each in rows.items()], axis=1)


def _units(opened: _Opened, typed: Sequence[str] | None) -> list[int]:
    """Return the units that are named, or those of the largest variance, the largest first.

    Raises:
        InputError: a unit that the code does not have, or no unit varies.
    """
    if typed:
        size = opened.codes.shape[1]
        return [each for text in typed for each in arguments.numbers("--unit", text, size, "units of the code")]
    variance = opened.codes.var(0, dtype=float)
    largest = (-variance).argsort(kind="stable")[:DEFAULT_UNITS]
    units = [int(each) for each in largest if variance[each] > 0]
    if not units:
        found = pluralize(len(opened.codes), "row")
        raise InputError(
            f"{opened.data.name}: no unit of the code varies over {found}; give more rows, or --unit, --low and --high"
        )
    return units


def _check_size(opened: _Opened, n_lines: int, steps: int) -> None:
    """Raise if the decoded rows, or the picture of them, would be too large."""
    from isthmus.data.image_grids import check_grid_size
    from isthmus.estimators.inputs import check_dense_size
    from isthmus.estimators.paths import FEWER_ROWS

    preprocessing = opened.model.preprocessing_
    check_dense_size(preprocessing, n_lines * steps, FEWER_ROWS)
    if preprocessing.image_shape is not None and opened.output.lower().endswith(".png"):
        _, height, width = preprocessing.image_shape
        check_grid_size(opened.output, n_lines * steps, steps, (height, width))


def _write(
    opened: _Opened,
    paths: np.ndarray,
    conditions: Conditions,
    columns: Mapping[str, Any],
    identifiers: pd.DataFrame | None,
    lines: Sequence[str],
) -> None:
    """Decode the paths, (paths, steps, code_size), and write them in the form that the output names."""
    import numpy as np

    from isthmus.data import write_array, write_images
    from isthmus.data.image_grids import write_grid

    n_lines, steps, code_size = paths.shape
    decoded = opened.model._decoded(np.asarray(paths.reshape(-1, code_size), np.float32), conditions)
    destination, force = opened.destination, opened.force
    known = opened.model.preprocessing_
    has_axes = len(known.row_shape) > 1 and destination.suffix.lower() == ".npy"
    if known.image_shape is None and not has_axes:
        outputs.write_rows(destination, _table(opened.model, decoded, columns), identifiers, force=force)
    elif destinations.is_folder_name(opened.output):
        names = [f"{line:0{len(str(n_lines - 1))}d}-{name}-step-{step:0{len(str(steps - 1))}d}"
                 for line, name in enumerate(lines) for step in range(steps)]  # fmt: skip
        write_images(destination, decoded, names, value_range=black_and_white(opened.data.X), force=force)
    elif opened.output.lower().endswith(".png"):
        write_grid(destination, decoded, steps, value_range=black_and_white(opened.data.X), force=force)
    else:
        write_array(destination, decoded.reshape(n_lines, steps, *decoded.shape[1:]), force=force)
    form = "rows" if known.image_shape is None else "images"
    opened.log.info(f"{pluralize(n_lines, 'path')} of {steps} {form} written to {opened.output}")


def _table(model: BaseAutoencoder, decoded: Any, columns: Mapping[str, Any]) -> Any:
    """Return the decoded rows as a data frame, after columns that say where each of them is.

    A column whose name the data has gets an underscore.
    """
    import pandas as pd

    known = model.preprocessing_
    is_table = hasattr(decoded, "columns")
    table = decoded if is_table else pd.DataFrame(outputs.in_columns(model, decoded), columns=known.columns)
    return outputs.after(pd.DataFrame(columns), outputs.in_types_of(known.user_table, table))
