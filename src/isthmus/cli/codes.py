"""`isthmus encode`, `decode`, `reconstruct`, `denoise` and `sample`: apply a model to rows."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import destinations, options, outputs, sources, windowing
from isthmus.cli.reading import with_reading
from isthmus.cli.terminal import Log
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd

    from isthmus.estimators.base import BaseAutoencoder


MAX_SHOWN = 8
"""Noise levels of channels or columns that a message shows."""


@with_reading()
def encode(
    model: options.Model,
    data: options.Data,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="CODES", show_default=False, help="Output file: .npy, .csv, .parquet."),
    ],
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the codes of DATA: output row i encodes input row i.

    A .csv or .parquet file starts with the identifiers of the rows, if DATA has them, and the columns to keep. A model
    of windows gives one row for each window, with its group, its first and its last time; columns to keep have the
    values of the last step.
    """
    destination, log = destinations.check_codes_output(output, force=force, inputs=(model, data)), Log(quiet)
    fitted = sources.load_autoencoder(model, device)
    rows = sources.open_for_model(fitted, data, log, reading=reading)
    outputs.note_left_out(output, reading.keep, log)
    codes = fitted.transform(rows.X)
    names, identity = list(fitted.get_feature_names_out()), outputs.with_row_numbers(rows, len(codes))
    outputs.write_rows(destination, codes, identity, names=names, force=force)
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
    """Decode CODES to rows in the units of the training data.

    Other columns of CODES, such as identifiers, are written first.
    """
    destination, log, fitted = _opened(model, output, (model, codes), device, force, quiet)
    given = sources.given_conditions(fitted, condition)
    read, carried = sources.open_codes(fitted, codes, log)
    rows = fitted.inverse_transform(read, given)
    names = None if carried is None or "path" not in carried else tuple(map(str, carried["path"]))
    _write(fitted, rows, output, destination, force, log, names, carried, black_and_white(rows))


@with_reading()
def reconstruct(
    model: options.Model,
    data: options.Data,
    output: options.Rows,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Encode and decode DATA, and write the reconstructions in the units of DATA.

    Every cell is reconstructed, observed ones too. Output row i reconstructs input row i. A .csv or .parquet file
    starts with the identifiers of the rows, if DATA has them, and the columns to keep. A model of windows gives each
    step of DATA that is in a window, by the mean of the reconstructions of its windows.
    """
    destination, log, fitted = _opened(model, output, (model, data), device, force, quiet)
    rows = sources.open_for_model(fitted, data, log, reading=reading)
    outputs.note_left_out(output, reading.keep, log)
    if rows.windows is not None:
        counts = windowing.write_channels(destination, fitted.reconstruct, rows, force=force)
        log.info(windowing.written(counts, output))
        return
    made = fitted.reconstruct(rows.X)
    _write(fitted, made, output, destination, force, log, rows.row_names, rows.carried, black_and_white(rows.X))


@with_reading(larger=True)
def denoise(
    model: options.Model,
    data: options.Data,
    output: options.Rows,
    noise_level: Annotated[
        float | None,
        typer.Option(
            metavar="S",
            show_default=False,
            help="Standard deviation of the noise, in the units of DATA. Default: it is estimated from neighbouring "
            "pixels or steps; of a table it is the noise of training.",
        ),
    ] = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the rows of DATA without their noise, in the units of DATA. MODEL is of kind denoising.

    Output row i is input row i. A .csv or .parquet file starts with the identifiers of the rows, if DATA has them, and
    the columns to keep. A model of windows gives each step of DATA that is in a window, by the mean of its windows.
    Images may be larger than those of training: they are denoised in overlapping patches.
    """
    destination, log, fitted = _opened(model, output, (model, data), device, force, quiet)
    from isthmus.estimators.noise_removal import NoiseRemovalMixin

    if not isinstance(fitted, NoiseRemovalMixin):
        raise InputError(f"{model}: kind {fitted.kind} does not remove noise; fit a model with --kind denoising")
    rows = sources.open_for_model(fitted, data, log, reading=reading)
    outputs.note_left_out(output, reading.keep, log)
    level: Any = fitted.noise_level(rows.X) if noise_level is None else noise_level
    if noise_level is None:
        shown = ", ".join(f"{each:.4g}" for each in level[:MAX_SHOWN]) + ", ..." * (len(level) > MAX_SHOWN)
        log.info(f"noise level: {shown}")
    if rows.windows is not None:
        counts = windowing.write_channels(destination, lambda X: fitted.denoise(X, level), rows, force=force)
        log.info(windowing.written(counts, output))
        return
    made = fitted.denoise(rows.X, level)
    _write(fitted, made, output, destination, force, log, rows.row_names, rows.carried, black_and_white(rows.X))


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
    destination, log = destinations.check_path_output(output, force=force, inputs=(model,)), Log(quiet)
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
    if "mean" in inspect.signature(draw).parameters and not mean and fitted.preprocessing_.image_shape is not None:
        log.note("the images have the noise of each pixel; --mean writes their means")
    rows = draw(n, random_state=seed, **given, **({} if conditions is None else {"condition": conditions}))
    if output.lower().endswith(".png"):
        _write_picture(fitted, rows, output, destination, force, log)
    else:
        _write(fitted, rows, output, destination, force, log, None, None, black_and_white(rows))


def _write_picture(model: BaseAutoencoder, rows: Any, output: str, destination: Path, force: bool, log: Log) -> None:
    """Write images to one picture, in about as many lines as columns."""
    from isthmus.data.image_grids import check_grid_size, write_grid

    columns = math.isqrt(len(rows) - 1) + 1
    shape = model.preprocessing_.image_shape
    assert shape is not None  # `refuse_wrong_form` accepts pictures of images alone
    _, height, width = shape
    check_grid_size(output, len(rows), columns, (height, width))
    write_grid(destination, rows, columns, value_range=black_and_white(rows), force=force)
    log.info(f"{pluralize(len(rows), 'image')} written to {output}")


def _opened(
    model: str, output: str, inputs: destinations.Inputs, device: str, force: bool, quiet: bool
) -> tuple[Path, Log, BaseAutoencoder]:
    """Check the output path, open the log and load the model."""
    destination, log = destinations.check_rows_output(output, force=force, inputs=inputs), Log(quiet)
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
    carried: pd.DataFrame | None,
    value_range: tuple[float, float],
) -> None:
    """Write rows to a folder of PNG files or to one file, depending on the name of the output."""
    from isthmus.data import write_images

    if destinations.is_folder_name(output):
        write_images(destination, rows, row_names, value_range=value_range, force=force)
        log.info(f"{len(rows):,} images written to the folder {output}")
        return
    known = model.preprocessing_
    rows = outputs.in_columns(model, rows) if destination.suffix.lower() != ".npy" else rows
    outputs.write_rows(destination, rows, carried, names=known.columns, columns=known.user_table, force=force)
    log.info(f"{len(rows):,} rows written to {output}")
