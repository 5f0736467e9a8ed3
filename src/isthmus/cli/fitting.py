"""`isthmus fit`: from data to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import arguments, destinations, options, sources
from isthmus.cli.terminal import JobFailed, Log, print_json
from isthmus.errors import InputError

if TYPE_CHECKING:
    from isthmus.data import Dataset
    from isthmus.estimators.base import BaseAutoencoder

NAN = "nan"
"""The doctor's name for a loss that stopped being a number."""

_DATA, _LEARNING, _RUN = "Data", "Learning", "The run"


def fit(
    data: options.Data,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="MODEL", show_default=False, help="The model file to write.")
    ],
    kind: Annotated[str, typer.Option(metavar="KIND", help="See `isthmus kinds`.")] = "deep",
    code_size: Annotated[
        int | None, typer.Option(metavar="N", help="Units of the code; without it a size is chosen and said.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any argument of the kind, such as hidden_sizes=512,256."),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION|DATA", rich_help_panel=_LEARNING, help="Rows that are only looked at: a share, or data."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=_LEARNING, help="Passes over the rows, at most.")
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(metavar="TIME", rich_help_panel=_LEARNING, help="Such as 90s, 5m or 1h.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=_LEARNING, help="Same seed, same weights.")
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(metavar="auto|none|standard|minmax", rich_help_panel=_DATA, help="How columns are scaled."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", rich_help_panel=_DATA, help="Leave a column out.")
    ] = None,
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="mean|median|mask",
            rich_help_panel=_DATA,
            help="Fill missing values in, or mask them; else refused.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|FILE.npy",
            rich_help_panel=_DATA,
            help="The class of each row: a column that is no part of it; learned from by training=supervised alone.",
        ),
    ] = None,
    resize: Annotated[
        str | None, typer.Option(metavar="HxW", rich_help_panel=_DATA, help="Bring images to one size.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="auto|cpu|cuda", rich_help_panel=_RUN, help="Where.")] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="auto|fp32|bf16", rich_help_panel=_RUN, help="In which arithmetic.")
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", rich_help_panel=_RUN, help="Keep the state in MODEL.checkpoint, such as every 1m."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", rich_help_panel=_RUN, help="Go on from MODEL.checkpoint if it is there.")
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Learn the code of DATA and write the model to one file."""
    log = Log(quiet)
    destination = destinations.check_model_output(output, force=force, resume=resume)
    given = {
        "code_size": code_size, "max_epochs": epochs, "random_state": seed, "scaling": scaling, "missing": missing,
        "time_limit": arguments.seconds(time_limit) if time_limit is not None else None,
        "validation_fraction": arguments.fraction(validation) if validation is not None else None,
        "device": device, "precision": precision,
    }  # fmt: skip
    every = arguments.seconds(checkpoint_every) if checkpoint_every is not None else 60.0
    shape = arguments.size(resize) if resize is not None else None
    model = _estimator(kind, set_ or [], given, quiet)
    rows, held_out = _open(data, validation, log, labels=labels, exclude=exclude or [], resize=shape)
    if _learns_labels(model):
        sources.require_labels(rows)
    checkpoint_options: dict[str, Any] = {}
    if resume or checkpoint_every is not None:
        checkpoint_options = {"checkpoint": destination, "checkpoint_every": every, "resume": resume}
        _log_resume(destination, resume, log)
    model.fit(rows.X, rows.labels, validation=_validation_data(model, held_out), **checkpoint_options)
    column = [] if labels is None or sources.is_file(labels) else [labels]
    sources.record_read_options(model, [*(exclude or []), *column], shape)
    model.save(destination)
    summary = _summary(model, held_out or rows, destination)
    _log_summary(model, summary, log)
    if as_json:
        print_json(summary)
    if summary["stopped"] == "nan":
        raise JobFailed(_nan_message(model, destination))


def _estimator(kind: str, assignments: list[str], given: dict[str, Any], quiet: bool) -> BaseAutoencoder:
    """An estimator of a kind with what was given on the command line.

    Raises:
        InputError: an unknown kind or setting, a value of another type, or the same thing said twice.
    """
    from isthmus.estimators.registry import kind_named

    constructor = kind_named(kind)
    settings = arguments.settings(assignments, kind, constructor)
    chosen = {name: value for name, value in given.items() if value is not None}
    twice = [name for name in settings if name in chosen]
    if twice:
        raise InputError(f"{twice[0]} is given by an option and by --set {twice[0]}=...; give it once")
    return constructor(**{"verbose": 0 if quiet else 1, **chosen, **settings})


def _open(
    data: str, validation: str | None, log: Log, *, labels: str | None, **read_options: Any
) -> tuple[Dataset, Dataset | None]:
    """The rows, and the held-out ones where data were named for them; labels of a file are those of the rows alone."""
    rows = sources.open_labelled(data, labels, **read_options)
    held_out = None
    if validation is not None and arguments.fraction(validation) is None:
        held_out = sources.open_labelled(validation, None if sources.is_file(labels) else labels, **read_options)
        sources.check_same_columns(rows, held_out)
    for part, name in ((rows, "data"), (held_out, "validation")):
        if part is not None:
            log.info(f"{name}: {sources.describe(part)}")
            for note in part.notes:
                log.note(note)
    return rows, held_out


def _validation_data(model: BaseAutoencoder, held_out: Dataset | None) -> Any:
    """The held-out rows as `fit` takes them: with their labels where layers learn from labels."""
    if held_out is None:
        return None
    return (held_out.X, sources.require_labels(held_out).labels) if _learns_labels(model) else held_out.X


def _learns_labels(model: BaseAutoencoder) -> bool:
    return getattr(model, "training", None) == "supervised"


def _log_resume(destination: Path, resume: bool, log: Log) -> None:
    state = Path(f"{destination}.checkpoint")
    if resume and state.exists():
        log.info(f"going on from {state}")
    elif resume:
        log.note(f"there is no {state} to go on from; starting afresh")


def _summary(model: BaseAutoencoder, judged: Dataset, destination: Path) -> dict[str, Any]:
    """What is worth knowing of a fit, as plain data."""
    from isthmus.evaluation.reconstruction import compare_with_pca

    history: dict[str, Any] = model.history_
    errors = compare_with_pca(model, _subsample(judged.X))
    return {
        "model": str(destination), "kind": model.kind, "rows": model.n_rows_, "columns": model.preprocessing_.n_columns,
        "code_size": model.code_size_, "hidden_sizes": list(getattr(model, "hidden_sizes_", ())),
        "likelihood": model.likelihood_["name"], "seed": model.seed_, "epochs": len(history["epochs"]),
        "seconds": history["epochs"][-1]["seconds"] if history["epochs"] else 0.0, "stopped": history["stopped"],
        "best_epoch": history["best_epoch"], "rows_judged": errors["rows"],
        "squared_error_per_row": errors["squared_error_per_row"],
        "pca_squared_error_per_row": errors["pca_squared_error_per_row"], "findings": history["findings"],
        "notes": history["notes"],
        "pretraining": [
            {"name": phase["name"], "epochs": len(phase["epochs"]), "seconds": phase["seconds"],
             "stopped": phase["stopped"]}
            for phase in history["pretraining"]
        ],
    }  # fmt: skip


def _subsample(X: Any, most: int = 5000) -> Any:
    """At most so many rows, evenly spread: enough for a line on how well it went."""
    from isthmus.data.preprocessing import n_rows_of

    n = n_rows_of(X)
    if n <= most:
        return X
    index = [i * n // most for i in range(most)]
    return X.iloc[index] if hasattr(X, "iloc") else X[index]


def _log_summary(model: BaseAutoencoder, summary: dict[str, Any], log: Log) -> None:
    """What was chosen, what came of it, what the doctor says, and where the model is."""
    sizes = [summary["columns"], *summary["hidden_sizes"], summary["code_size"]]
    log.info(
        f"model: {model.kind}, {'-'.join(map(str, sizes))}, likelihood {summary['likelihood']}, seed {summary['seed']}"
    )
    for note in [*summary["notes"], *_constant_column_notes(model)]:
        log.note(note)
    for phase in summary["pretraining"]:
        log.info(
            f"{phase['name']}: {phase['epochs']} epochs in {phase['seconds']:.1f} s, {STOP_REASONS[phase['stopped']]}"
        )
    log.info(
        f"{model.history_['name']}: {summary['epochs']} epochs in {summary['seconds']:.1f} s, "
        f"{STOP_REASONS[summary['stopped']]}"
    )
    pca_is_exact = summary["code_size"] >= summary["columns"]
    linear = (
        "as many principal components as columns leave none"
        if pca_is_exact
        else (f"principal components of the same size: {summary['pca_squared_error_per_row']:.4g}")
    )
    log.info(
        f"squared error a row: {summary['squared_error_per_row']:.4g}; {linear} "
        f"(on {summary['rows_judged']:,} rows, in model units)"
    )
    for finding in summary["findings"]:
        if finding["name"] not in (NAN, "constant-columns"):  # the failure itself is told last, the columns above
            (log.warn if finding["severity"] == "warning" else log.note)(f"{finding['message']}; {finding['advice']}")
    log.info(f"model written to {summary['model']}")


STOP_REASONS = {
    "max_epochs": "all that were planned",
    "patience": "stopped since held-out rows got no better",
    "time_limit": "stopped by the time limit",
    "interrupted": "interrupted: the model as it stood then is kept",
    "nan": "stopped by a loss that is no number",
}


def _constant_column_notes(model: BaseAutoencoder) -> list[str]:
    """A sentence on columns that never vary, which are kept."""
    names, constant = model.preprocessing_.columns, model.preprocessing_.constant
    if not constant:
        return []
    if model.preprocessing_.image_shape is not None:
        return [f"{len(constant)} of {len(names)} pixels never vary; they are kept"]
    more = f" and {len(constant) - 5} more" if len(constant) > 5 else ""
    listed = ", ".join(repr(names[i]) for i in constant[:5]) + more
    return [
        f"{'columns' if len(constant) > 1 else 'column'} {listed} never varied; kept, but nothing is learned from it"
    ]


def _nan_message(model: BaseAutoencoder, destination: Path) -> str:
    """At which epoch the loss stopped being a number, and the likely cause after the doctor."""
    history: dict[str, Any] = model.history_
    messages = [f"{found['message']}; {found['advice']}" for found in history["findings"] if found["name"] == NAN]
    found = messages[0] if messages else f"the loss was no finite number in epoch {history['nan_epoch'] + 1}"
    return f"{found}; the model with the last good weights was written to {destination}"
