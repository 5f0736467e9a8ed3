"""`isthmus encode`, `decode`, `reconstruct` and `sample`: a model put to use on rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import destinations, options, sources
from isthmus.cli.terminal import Log
from isthmus.errors import InputError

if TYPE_CHECKING:
    from isthmus.estimators.base import BaseAutoencoder


def encode(
    model: options.Model,
    data: options.Data,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="CODES", show_default=False, help="Where to: .npy, .csv, .parquet.")
    ],
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the codes of DATA, one row a row, in their order."""
    destination = destinations.check_rows_output(output, force=force)
    from isthmus.data import write_array

    log = Log(quiet)
    fitted = sources.load_autoencoder(model)
    rows = sources.open_for_model(fitted, data, log)
    codes = fitted.transform(rows.X)
    write_array(destination, codes, list(fitted.get_feature_names_out()), force=force)
    log.info(f"{len(codes):,} codes of {codes.shape[1]} units written to {output}")


def decode(
    model: options.Model,
    codes: Annotated[
        str, typer.Argument(metavar="CODES", show_default=False, help="Codes: a .npy, .csv or .parquet file.")
    ],
    output: options.Rows,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the rows that CODES stand for, in the units of the data that the model was fitted on."""
    destination, log, fitted = _opened(model, output, force, quiet)
    rows = fitted.inverse_transform(sources.open_codes(fitted, codes, log))
    _write(fitted, rows, output, destination, force, log, None, _whole_range(rows))


def reconstruct(
    model: options.Model,
    data: options.Data,
    output: options.Rows,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write what the model makes of DATA, in its own units: a table for a table, images for images."""
    destination, log, fitted = _opened(model, output, force, quiet)
    rows = sources.open_for_model(fitted, data, log)
    made = fitted.reconstruct(rows.X)
    _write(fitted, made, output, destination, force, log, rows.row_names, _whole_range(rows.X))


def sample(
    model: options.Model,
    output: options.Rows,
    n: Annotated[int, typer.Option("-n", "--number", metavar="N", min=1, help="How many rows are drawn.")] = 16,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Gibbs steps of the chains (machines).", show_default="200")
    ] = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="Means given the last codes: grey in place of black and white (machines).")
    ] = False,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Same seed, same rows.")] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write rows that MODEL draws, in the units of the data that it was fitted on: it must be a density of them."""
    destination, log, fitted = _opened(model, output, force, quiet)
    draw = getattr(fitted, "sample", None)
    if draw is None:
        raise InputError(
            f"{model}: kind {fitted.kind} with this likelihood has nothing to draw rows from; {_DENSITIES}"
        )
    chain = {**({} if steps is None else {"n_steps": steps}), **({"mean": True} if mean else {})}
    if chain and not fitted.samples_by_chain:
        raise InputError(f"{model}: kind {fitted.kind} draws rows without a chain; leave --steps and --mean out")
    rows = draw(n, random_state=seed, **chain)
    _write(fitted, rows, output, destination, force, log, None, _whole_range(rows))


_DENSITIES = "fit --kind rbm, dbn or dbm, or linear with likelihood=gaussian"


def _opened(model: str, output: str, force: bool, quiet: bool) -> tuple[Path, Log, BaseAutoencoder]:
    """Where rows go, what is told of it, and the model that makes them, whose rows have that form."""
    destination, log = _check_rows_or_folder_output(output, force), Log(quiet)
    fitted = sources.load_autoencoder(model)
    _refuse_wrong_form(fitted, output)
    return destination, log, fitted


def _check_rows_or_folder_output(output: str, force: bool) -> Path:
    check_output_file = (
        destinations.check_folder_output if destinations.is_folder_name(output) else destinations.check_rows_output
    )
    return check_output_file(output, force=force)


def _refuse_wrong_form(model: BaseAutoencoder, output: str) -> None:
    """Images go to a folder or into an array, other rows into a file of rows: asked before the work."""
    images = model.preprocessing_.image_shape is not None
    if destinations.is_folder_name(output):
        if not images:
            raise InputError(
                f"{output}: a folder is for images, and this model's rows are none; name a .csv, .parquet or .npy"
            )
    elif images and not output.lower().endswith(".npy"):
        raise InputError(f"{output}: images are no table; name a folder, for PNG files, or a .npy file")


def _whole_range(rows: Any) -> tuple[float, float]:
    """The values of black and white: of bytes, of numbers within 0 and 1, or else the least and the largest."""
    if getattr(rows, "dtype", None) is None or rows.dtype == "uint8":
        return 0.0, 255.0
    low, high = float(rows.min()), float(rows.max())
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-6))


def _write(
    model: BaseAutoencoder,
    rows: Any,
    output: str,
    destination: Path,
    force: bool,
    log: Log,
    row_names: tuple[str, ...] | None,
    value_range: tuple[float, float],
) -> None:
    """Rows into a folder of PNG files or into one file, by the name of the output."""
    from isthmus.data import write_array, write_images

    if destinations.is_folder_name(output):
        write_images(destination, rows, row_names, value_range=value_range, force=force)
        log.info(f"{len(rows):,} images written to the folder {output}")
        return
    names = None if hasattr(rows, "columns") else model.preprocessing_.columns
    write_array(destination, rows, names if not output.lower().endswith(".npy") else None, force=force)
    log.info(f"{len(rows):,} rows written to {output}")
