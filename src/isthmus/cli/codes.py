"""`isthmus encode`, `decode`, `reconstruct` and `sample`: apply a model to rows."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import destinations, options, sources
from isthmus.cli.reading import with_read_options
from isthmus.cli.terminal import Log
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    from isthmus.estimators.base import BaseAutoencoder


@with_read_options
def encode(
    model: options.Model,
    data: options.Data,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="CODES", show_default=False, help="Output file: .npy, .csv, .parquet."),
    ],
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    *,
    reading: Any = None,
) -> None:
    """Write the codes of DATA: output row i encodes input row i."""
    destination = destinations.check_codes_output(output, force=force)
    from isthmus.data import write_array

    log = Log(quiet)
    fitted = sources.load_autoencoder(model, device)
    rows = sources.open_for_model(fitted, data, log, reading=reading)
    codes = fitted.transform(rows.X)
    write_array(destination, codes, list(fitted.get_feature_names_out()), force=force)
    log.info(f"{len(codes):,} codes of size {codes.shape[1]} written to {output}")


def decode(
    model: options.Model,
    codes: Annotated[
        str, typer.Argument(metavar="CODES", show_default=False, help="File of codes: .npy, .csv, .parquet.")
    ],
    output: options.Rows,
    condition: options.Condition = None,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Decode CODES to rows in the units of the training data."""
    destination, log, fitted = _opened(model, output, device, force, quiet)
    given = sources.given_conditions(fitted, condition)
    rows = fitted.inverse_transform(sources.open_codes(fitted, codes, log), given)
    _write(fitted, rows, output, destination, force, log, None, black_and_white(rows))


@with_read_options
def reconstruct(
    model: options.Model,
    data: options.Data,
    output: options.Rows,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    *,
    reading: Any = None,
) -> None:
    """Encode and decode DATA, and write the reconstructions in the units of DATA.

    Every cell is reconstructed, observed ones too. Output row i reconstructs input row i.
    """
    destination, log, fitted = _opened(model, output, device, force, quiet)
    rows = sources.open_for_model(fitted, data, log, reading=reading)
    reconstructions = fitted.reconstruct(rows.X)
    _write(fitted, reconstructions, output, destination, force, log, rows.row_names, black_and_white(rows.X))


def sample(
    model: options.Model,
    output: options.Samples,
    n: Annotated[int, typer.Option("-n", "--number", metavar="N", min=1, help="Number of samples.")] = 16,
    steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Gibbs steps (Boltzmann machines only). Default: 200.")
    ] = None,
    mean: Annotated[
        bool,
        typer.Option(
            "--mean", help="Write means of the rows given their code instead of samples (vae and Boltzmann machines)."
        ),
    ] = False,
    condition: options.Condition = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Random seed.")] = None,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw samples from MODEL (vae, rbm, dbn, dbm, linear, or fitted with fit_prior) in the units of the data."""
    destination, log = destinations.check_path_output(output, force=force), Log(quiet)
    fitted = sources.load_autoencoder(model, device)
    destinations.refuse_wrong_form(fitted.preprocessing_.image_shape is not None, output, pictures=True)
    draw = getattr(fitted, "sample", None)
    if draw is None:
        raise InputError(
            f"{model}: this model (kind {fitted.kind}, likelihood {fitted.likelihood_['name']}) defines no density to "
            "sample from; vae, rbm, dbn, dbm, and linear with likelihood=gaussian do, and models fitted with --set "
            "fit_prior=gaussian"
        )
    given: dict[str, Any] = {**({} if steps is None else {"n_steps": steps}), **({"mean": True} if mean else {})}
    conditions = sources.given_conditions(fitted, condition)
    unused = [name for name in given if name not in inspect.signature(draw).parameters]
    if unused:
        option = {"n_steps": "--steps", "mean": "--mean"}[unused[0]]
        raise InputError(f"{model}: kind {fitted.kind} is sampled without {option}; omit it")
    rows = draw(n, random_state=seed, **given, **({} if conditions is None else {"condition": conditions}))
    if output.lower().endswith(".png"):
        _write_picture(fitted, rows, output, destination, force, log)
    else:
        _write(fitted, rows, output, destination, force, log, None, black_and_white(rows))


def _write_picture(model: BaseAutoencoder, rows: Any, output: str, destination: Path, force: bool, log: Log) -> None:
    """Write images to one picture, in about as many lines as columns."""
    from isthmus.data.image_grids import check_grid_size, write_grid

    columns = math.isqrt(len(rows) - 1) + 1
    _, height, width = model.preprocessing_.image_shape or (1, 1, 1)
    check_grid_size(output, len(rows), columns, (height, width))
    write_grid(destination, rows, columns, value_range=black_and_white(rows), force=force)
    log.info(f"{pluralize(len(rows), 'image')} written to {output}")


def _opened(model: str, output: str, device: str, force: bool, quiet: bool) -> tuple[Path, Log, BaseAutoencoder]:
    """Check the output path, open the log and load the model."""
    destination, log = destinations.check_rows_output(output, force=force), Log(quiet)
    fitted = sources.load_autoencoder(model, device)
    destinations.refuse_wrong_form(fitted.preprocessing_.image_shape is not None, output, pictures=False)
    return destination, log, fitted


def black_and_white(rows: Any) -> tuple[float, float]:
    """Return the values of black and white: 0 and 255 for bytes, 0 and 1 within [0, 1], else minimum and maximum."""
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
    """Write rows to a folder of PNG files or to one file, depending on the name of the output."""
    from isthmus.data import write_array, write_images

    if destinations.is_folder_name(output):
        write_images(destination, rows, row_names, value_range=value_range, force=force)
        log.info(f"{len(rows):,} images written to the folder {output}")
        return
    names = None if hasattr(rows, "columns") else model.preprocessing_.columns
    write_array(destination, rows, names if not output.lower().endswith(".npy") else None, force=force)
    log.info(f"{len(rows):,} rows written to {output}")
