"""`isthmus fit`: train an autoencoder on data and write a model file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import arguments, destinations, options, sources, windowing
from isthmus.cli.describing import log_columns
from isthmus.cli.reading import with_read_options
from isthmus.cli.terminal import JobFailed, Log, print_json
from isthmus.errors import InputError, InputWarning, pluralize

if TYPE_CHECKING:
    from isthmus.data import Dataset
    from isthmus.data.read_options import ReadOptions
    from isthmus.estimators.base import BaseAutoencoder

NAN = "nan"
"""Stop reason, and name of the finding, for a loss that became NaN or infinite."""

_DATA = "Data"
"""Panel of the options on data in the help of `isthmus fit`."""


@windowing.with_window_options
@with_read_options
def fit(
    data: options.Data,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="MODEL", show_default=False, help="Model file to write.")
    ],
    kind: Annotated[str, typer.Option(metavar="KIND", help="Kind of autoencoder, see `isthmus kinds`.")] = "deep",
    code_size: Annotated[
        int | None, typer.Option(metavar="N", help="Number of units in the code. Default: chosen from the data.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Argument of the kind, such as hidden_sizes=512,256 or sparsity=topk, or of its value, such as "
            "sparsity.k=16. Repeatable.",
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION|DATA",
            rich_help_panel=options.TRAINING,
            help="Validation set: a fraction of the rows, or a data source. Default: 0.1.",
        ),
    ] = None,
    epochs: options.Epochs = None,
    time_limit: options.TimeLimit = None,
    seed: options.Seed = None,
    scaling: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|standard|minmax|quantile",
            rich_help_panel=_DATA,
            help="Scaling of the columns. Default: auto.",
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="auto|table|nhw|nhwc|nchw|ntc",
            rich_help_panel=_DATA,
            help="Axes of an array: table of values, images, or series (ntc). Default: auto, by shape and values.",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", rich_help_panel=_DATA, help="Column to leave out. Repeatable.")
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="refuse|mean|median|mask",
            rich_help_panel=_DATA,
            help="Missing values: refuse raises an error, mean and median impute those of the column, mask leaves the "
            "entries out of the loss. Default: refuse.",
        ),
    ] = None,
    unknown: options.Unknown = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            rich_help_panel=_DATA,
            help="Column that conditions the model (kind vae): it is an input of encoder and decoder and is not "
            "reconstructed. Of rows that are not a table, a name for their labels. Repeatable.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE.npy",
            rich_help_panel=_DATA,
            help="Class of each row: a column, which is removed from the rows, or a .npy file. Only --kind hash and "
            "--kind stacked --set pretraining=supervised train on the classes.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            rich_help_panel=_DATA,
            help="Weight of each row in training: a column, which is removed from the rows. Default: equal weights.",
        ),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(metavar="HxW", rich_help_panel=_DATA, help="Image height and width in pixels, such as 28x28."),
    ] = None,
    target: options.Target = None,
    device: options.Device = None,
    precision: options.Precision = None,
    checkpoint_every: options.CheckpointEvery = None,
    resume: options.Resume = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    *,
    text: Any = None,
    windows: Any = None,
) -> None:
    """Train an autoencoder on DATA and write it to one model file."""
    log = Log(quiet)
    held_out_source = None if validation is None or arguments.fraction(validation) is not None else validation
    read = (data, held_out_source, sources.file_of(labels), target)
    destination = destinations.check_model_output(output, force=force, resume=resume, inputs=read)
    given = {
        "code_size": code_size, "max_epochs": epochs, "random_state": seed, "scaling": scaling, "missing": missing,
        "time_limit": arguments.seconds(time_limit) if time_limit is not None else None,
        "validation_fraction": arguments.fraction(validation) if validation is not None else None,
        "device": device, "precision": precision, "condition": condition or None, "unknown": unknown,
    }  # fmt: skip
    checkpoint = checkpoint_arguments(destination, checkpoint_every, resume)
    alone = {"--resize": resize, "--target": target, "--weights": weights, "--condition": condition}
    windowing.check_options(windows, alone, text, labels)
    given["layout"] = windowing.layout_for(windows, layout)
    shape = arguments.size(resize) if resize is not None else None
    model = _estimator(kind, set_ or [], given, quiet, has_labels=labels is not None)
    if windows is None:
        _declare(model, text)
    else:
        exclude, text = windowing.columns_out(exclude, text)
    if labels in model._condition_names:
        labels = None  # the column stays among the rows, as a condition
    rows, held_out = _open(data, validation, log, text, labels=labels, exclude=exclude or [], resize=shape)
    log_columns(windowing.without_identifiers(rows, windows), text.dtypes, log)
    if windows is not None:
        rows, held_out = windowing.training_and_validation(model, rows, held_out, windows, log)
    if model.uses_labels:
        sources.require_labels(rows)
    rows = sources.with_target(sources.with_conditions(rows, model._condition_names), target, log)
    if target is not None and held_out is not None:
        raise InputError("--validation DATA has no targets; give a fraction of the rows with --target")
    held_out = None if held_out is None else sources.with_conditions(held_out, model._condition_names)
    sample_weight = None
    if weights is not None:
        rows, sample_weight = sources.take_weights(rows, weights)
        held_out = None if held_out is None else sources.take_weights(held_out, weights)[0]
    log_resume(destination, resume, log)
    held_out_data = _validation_data(model, held_out)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the loss became NaN", InputWarning)  # it is an error of this command
        warnings.filterwarnings("ignore", ".* above 2.53, which lose digits", InputWarning)  # `log_columns` warns
        model.fit(
            rows.windows or rows.X, rows.labels, sample_weight=sample_weight, validation=held_out_data, **checkpoint
        )
    columns = [None if sources.is_file(labels) else labels, weights]
    removed = [*(exclude or []), *(name for name in columns if name is not None)]
    sources.record_read_options(model, removed, shape, rows.reading or text)
    windowing.record(model, rows, sources.READ_OPTIONS)
    model.save(destination)
    summary = _summary(model, destination)
    _log_summary(model, summary, log)
    log_kept_checkpoint(checkpoint, model.history_, log)
    if as_json:
        print_json(summary)
    if summary["stopped"] == NAN:
        raise JobFailed(_nan_message(model, destination))


def _estimator(
    kind: str, assignments: list[str], given: dict[str, Any], quiet: bool, *, has_labels: bool
) -> BaseAutoencoder:
    """Build an estimator from the options and settings of the command line.

    With `has_labels` a kind with the argument `labels` learns from the classes, unless a setting says otherwise.

    Raises:
        InputError: if the kind or a setting is unknown, has the wrong type, or repeats an option.
    """
    from isthmus.estimators.registry import kind_named

    constructor = kind_named(kind)
    settings = arguments.settings(assignments, kind, constructor)
    chosen = {name: value for name, value in given.items() if value is not None}
    if "condition" in chosen and "condition" not in constructor().get_params():
        raise InputError(f"--condition {chosen['condition'][0]}: kind {kind} takes no condition; use --kind vae")
    twice = [name for name in settings if name in chosen]
    if twice:
        raise InputError(f"{twice[0]} is set by an option and by --set {twice[0]}=...; set it once")
    learns = {"labels": "minimal-loss"} if has_labels and hasattr(constructor, "labels") else {}
    return constructor(verbose=0 if quiet else 1).set_params(**learns | chosen | settings)


def _declare(model: BaseAutoencoder, reading: ReadOptions) -> None:
    """Give the estimator the declared types of columns.

    Raises:
        InputError: they are set too.
    """
    if not reading.dtypes:
        return
    if model.dtypes is not None:
        raise InputError("--dtype and --set dtypes=... both declare columns; give one of them")
    model.set_params(dtypes=dict(reading.dtypes))


def _open(
    data: str, validation: str | None, log: Log, text: ReadOptions, *, labels: str | None, **read_options: Any
) -> tuple[Dataset, Dataset | None]:
    """Read the training rows and, if `validation` names a data source, the validation rows.

    Labels in a .npy file belong to the training rows only.
    """
    from isthmus.data.declared_rows import without_split

    rows = without_split(sources.open_labelled(data, labels, text, **read_options), text.dtypes)
    held_out = None
    if validation is not None and arguments.fraction(validation) is None:
        held_out = sources.open_labelled(validation, None if sources.is_file(labels) else labels, text, **read_options)
        held_out = without_split(held_out, text.dtypes)
        sources.check_same_columns(rows, held_out)
    for part, name in ((rows, "data"), (held_out, "validation")):
        if part is not None:
            log.info(f"{name}: {sources.describe(part)}")
            for note in part.notes:
                log.note(note)
    return rows, held_out


def _validation_data(model: BaseAutoencoder, held_out: Dataset | None) -> Any:
    """Return the validation rows as `fit` expects them: with labels if training is supervised."""
    if held_out is None:
        return None
    return (held_out.X, sources.require_labels(held_out).labels) if model.uses_labels else held_out.X


def checkpoint_arguments(destination: Path, checkpoint_every: str | None, resume: bool) -> dict[str, Any]:
    """Return the arguments of `fit` for the options --checkpoint-every and --resume; none without these options.

    Raises:
        InputError: if the interval is not a time.
    """
    if checkpoint_every is None and not resume:
        return {}
    every = arguments.seconds(checkpoint_every) if checkpoint_every is not None else 60.0
    return {"checkpoint": destination, "checkpoint_every": every, "resume": resume}


def log_resume(destination: Path, resume: bool, log: Log) -> None:
    """Log the checkpoint that --resume continues from, or that there is none."""
    checkpoint = destinations.checkpoint_of(destination)
    if resume and checkpoint.exists():
        log.info(f"resuming from {checkpoint}")
    elif resume:
        log.note(f"no checkpoint {checkpoint}; training starts from the beginning")


def log_kept_checkpoint(checkpoint: dict[str, Any], history: dict[str, Any], log: Log) -> None:
    """Log how to continue a run that Ctrl-C or its time limit ended, if `checkpoint_arguments` made it write its state.

    Args:
        checkpoint: the arguments of `fit`.
        history: of the model.
        log: where to log it.
    """
    is_limited = history.get("resumable", False)
    if not checkpoint or (history["stopped"] != "interrupted" and not is_limited):
        return
    path = destinations.checkpoint_of(checkpoint["checkpoint"])
    if not path.exists():
        return
    if is_limited:
        log.note(
            f"to continue the run from {path}, repeat the command with --resume and a longer --time-limit, or with none"
        )
    else:
        log.note(f"to continue the interrupted run from {path}, repeat the command with --resume")


def _summary(model: BaseAutoencoder, destination: Path) -> dict[str, Any]:
    """Return the results of a fit as plain data, with the errors on validation rows, else on training rows."""
    history: dict[str, Any] = model.history_
    errors = history["squared_error"]
    return {
        "model": str(destination), "kind": model.kind, "rows": model.n_rows_, "columns": model.preprocessing_.n_columns,
        "code_size": model.code_size_, "hidden_sizes": list(getattr(model, "hidden_sizes_", ())),
        "likelihood": model.likelihood_["name"], "seed": model.seed_, "epochs": len(history["epochs"]),
        "seconds": history["epochs"][-1]["seconds"] if history["epochs"] else 0.0, "stopped": history["stopped"],
        "best_epoch": history["best_epoch"], "evaluated_on": errors["rows"], "rows_evaluated": errors["n_rows"],
        "squared_error_per_row": errors["model"], "pca_squared_error_per_row": errors["pca"],
        "training_squared_error_per_row": errors["training"], "precision": history["precision"],
        "findings": history["findings"], "notes": history["notes"],
        "pretraining": [
            {"name": phase["name"], "epochs": len(phase["epochs"]), "seconds": phase["seconds"],
             "stopped": phase["stopped"]}
            for phase in history["pretraining"]
        ],
    }  # fmt: skip


def _log_summary(model: BaseAutoencoder, summary: dict[str, Any], log: Log) -> None:
    """Log the model, its training, its error, the findings of the doctor and the model file."""
    sizes = [summary["columns"], *summary["hidden_sizes"], summary["code_size"]]
    log.info(
        f"model: {model.kind}, {'-'.join(map(str, sizes))}, likelihood {summary['likelihood']}, "
        f"precision {summary['precision']}, seed {summary['seed']}"
    )
    known = model.preprocessing_.inputs
    if known.source == "array":
        log.info(f"the data were taken for {known.description}")
    for note in [*summary["notes"], *_constant_column_notes(model)]:
        log.note(note)
    for phase in summary["pretraining"]:
        log.info(phase_line(phase["name"], phase["epochs"], phase["seconds"], phase["stopped"]))
    log.info(phase_line(model.history_["name"], summary["epochs"], summary["seconds"], summary["stopped"]))
    pca_is_exact = summary["code_size"] >= summary["columns"]
    pca = "no comparison with PCA, since the code has no fewer units than the data has columns"
    if not pca_is_exact:
        pca = f"PCA with the same code size: {summary['pca_squared_error_per_row']:.4g}"
    rows = summary["evaluated_on"]
    training = f" (training rows: {summary['training_squared_error_per_row']:.4g})" if rows == "validation" else ""
    log.info(
        f"squared error per {rows} row ({pluralize(summary['rows_evaluated'], 'row')}, scaled units): "
        f"{summary['squared_error_per_row']:.4g}{training}; {pca}"
    )
    for finding in summary["findings"]:
        if finding["name"] not in (NAN, "constant-columns"):  # NaN is reported last, constant columns above
            (log.warn if finding["severity"] == "warning" else log.note)(f"{finding['message']}; {finding['advice']}")
    log.info(f"model written to {summary['model']}")


STOP_REASONS = {
    "max_epochs": "all planned epochs",
    "max_steps": "stopped: maximum number of steps reached",
    "patience": "stopped: the validation loss no longer improved",
    "time_limit": "stopped: time limit reached",
    "interrupted": "stopped: interrupted; the model trained so far is kept",
    NAN: "stopped: the loss became NaN",
}


def phase_line(name: str, n_epochs: int, seconds: float, stopped: str) -> str:
    """Describe a phase of training in one line.

    Example:
        >>> phase_line("fine-tuning", 20, 3.21, "max_epochs")
        'fine-tuning: 20 epochs in 3.2 s, all planned epochs'
    """
    name = "training" if name == "learning" else name  # the name of the only phase in model files
    return f"{name}: {pluralize(n_epochs, 'epoch')} in {seconds:.1f} s, {STOP_REASONS[stopped]}"


def _constant_column_notes(model: BaseAutoencoder) -> list[str]:
    """Return a note on the constant columns, if there are any."""
    names, constant = model.preprocessing_.columns, model.preprocessing_.constant
    if not constant:
        return []
    if model.preprocessing_.image_shape is not None:
        return [f"{len(constant)} of {len(names)} pixels are constant; they are kept"]
    more = f" and {len(constant) - 5} more" if len(constant) > 5 else ""
    listed = ", ".join(repr(names[i]) for i in constant[:5]) + more
    one = len(constant) == 1
    return [f"{f'column {listed} is' if one else f'columns {listed} are'} constant (no information) and kept"]


def _nan_message(model: BaseAutoencoder, destination: Path) -> str:
    """Describe the epoch in which the loss became NaN, the likely cause and the saved model."""
    history: dict[str, Any] = model.history_
    messages = [f"{found['message']}; {found['advice']}" for found in history["findings"] if found["name"] == NAN]
    message = messages[0] if messages else f"the loss became NaN in epoch {history['nan_epoch'] + 1}"
    return f"{message}; the model with the best weights before it was written to {destination}"
