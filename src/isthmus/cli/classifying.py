"""`isthmus classify fit` and `predict`: train a classifier from the encoder of a model, and classify new rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import arguments, destinations, fitting, options, outputs, sources, windowing
from isthmus.cli.reading import with_reading
from isthmus.cli.terminal import JobFailed, Log, print_json
from isthmus.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from isthmus.data import Dataset
    from isthmus.estimators.classifier import CodeClassifier

SUFFIXES = (".csv", ".parquet", ".npz")
"""File formats of predictions."""

app = typer.Typer(
    help="Train a classifier that starts from the encoder of a model; few labels suffice.", add_completion=False,
    no_args_is_help=True,
)  # fmt: skip


@app.command()
@with_reading(without=["keep"])
def fit(
    data: options.Data,
    encoder: Annotated[
        str,
        typer.Option(metavar="MODEL", show_default=False, help="Model file whose encoder initialises the classifier."),
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="CLF", show_default=False, help="Classifier file to write.")
    ],
    labels: options.Labels = None,
    unlabeled: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="Label of unlabelled rows, NaN for empty cells. Training uses them only with --set "
            "reconstruction_weight=W, W above 0.",
        ),
    ] = None,
    frozen: Annotated[bool, typer.Option("--frozen", help="Keep the encoder fixed. Default: fine-tune it.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Argument of CodeClassifier, such as hidden_noise=0.1. Repeatable."
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="FRACTION|DATA",
            rich_help_panel=options.TRAINING,
            help="Validation set: a fraction of the labelled rows, or a data source. Default: 0.1.",
        ),
    ] = None,
    reading: sources.Reading = sources.AS_TRAINED,
    epochs: options.Epochs = None,
    time_limit: options.TimeLimit = None,
    seed: options.Seed = None,
    device: options.Device = None,
    precision: options.Precision = None,
    checkpoint_every: options.CheckpointEvery = None,
    resume: options.Resume = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Train a classifier on the labels of DATA, starting from the encoder of a model, and write it to one file."""
    log = Log(quiet)
    held_out_source = None if validation is None or arguments.fraction(validation) is not None else validation
    read = (encoder, data, held_out_source, sources.file_of(labels))
    destination = destinations.check_model_output(output, force=force, resume=resume, inputs=read)
    checkpoint = fitting.checkpoint_arguments(destination, checkpoint_every, resume)
    coder = sources.load_autoencoder(encoder)
    rows = sources.require_labels(sources.open_for_model(coder, data, log, labels=labels, reading=reading))
    log.info(f"data: {sources.describe(rows)}")
    given = {
        "frozen": frozen or None, "max_epochs": epochs, "random_state": seed, "device": device, "precision": precision,
        "time_limit": arguments.seconds(time_limit) if time_limit is not None else None,
        "validation_fraction": arguments.fraction(validation) if validation is not None else None,
        "unlabeled": _as_label(unlabeled, rows.labels) if unlabeled is not None else None,
    }  # fmt: skip
    model = _classifier(coder, set_ or [], given, quiet)
    held_out = None
    if held_out_source is None:
        windowing.without_random_validation(model, rows, validation, log)
    if held_out_source is not None:
        validation_dataset = sources.open_for_model(coder, held_out_source, log, labels=labels, reading=reading)
        sources.require_labels(validation_dataset)
        log.info(f"validation: {sources.describe(validation_dataset)}")
        held_out = (validation_dataset.X, validation_dataset.labels)
    fitting.log_resume(destination, resume, log)
    model.fit(rows.X, rows.labels, validation=held_out, **checkpoint)
    sources.exclude_later(model.encoder_, reading.exclude or [])
    model.save(destination)
    summary = _summary(model, destination)
    _log_summary(model, summary, log)
    fitting.log_kept_checkpoint(checkpoint, model.history_, log)
    if as_json:
        print_json(summary)
    if summary["stopped"] == fitting.NAN:
        raise JobFailed(
            f"the loss became NaN in epoch {model.history_['nan_epoch'] + 1}; the best weights before it were written "
            f"to {destination}; try a smaller learning_rate"
        )


def _as_label(text: str, labels: np.ndarray | None) -> Any:
    """Convert `text` to the type of the labels. NaN, nan and '' mean empty cells, unless they are class names.

    Raises:
        InputError: if the labels are numbers and `text` is not.
    """
    numbers = labels is not None and labels.dtype.kind in "biuf"
    if text.strip().lower() in ("nan", "") and (numbers or labels is None or text not in labels.tolist()):
        return float("nan")
    if not numbers:
        return text
    label = arguments.value(text)
    if not isinstance(label, int | float):
        raise InputError(f"--unlabeled {text}: the labels are numbers; give a number, or NaN for empty cells")
    return label


def _classifier(coder: Any, assignments: list[str], given: dict[str, Any], quiet: bool) -> CodeClassifier:
    """Build a classifier from the options and settings of the command line.

    Raises:
        InputError: if a setting is unknown, has the wrong type, or repeats an option.
    """
    from isthmus.estimators.classifier import CodeClassifier

    settings = arguments.settings(assignments, "classifier", CodeClassifier)
    chosen = {"encoder": coder} | {name: value for name, value in given.items() if value is not None}
    twice = [name for name in settings if name in chosen]
    if twice:
        raise InputError(f"{twice[0]} is set by an option and by --set {twice[0]}=...; set it once")
    return CodeClassifier(verbose=0 if quiet else 1).set_params(**chosen, **settings)


def _summary(model: CodeClassifier, destination: Path) -> dict[str, Any]:
    """Return the results of a fit as plain data."""
    epochs, best = model.history_["epochs"], model.history_["best_epoch"]
    best_scores = epochs[best] if 0 <= best < len(epochs) else {}
    return {
        "model": str(destination), "kind": model.kind, "encoder": model.encoder_.kind, "rows": model.n_rows_,
        "classes": model.classes_.tolist(), "code_size": model.encoder_.code_size_, "frozen": model.frozen,
        "seed": model.seed_, "epochs": len(epochs), "seconds": model.history_["seconds"], "best_epoch": best,
        "stopped": model.history_["stopped"], "train": best_scores.get("train"),
        "held_out": best_scores.get("held_out"),
        "notes": model.history_["notes"],
    }  # fmt: skip


def _log_summary(model: CodeClassifier, summary: dict[str, Any], log: Log) -> None:
    """Log the classifier, its training, its validation error and its file."""
    encoder_state = "frozen" if model.frozen else "fine-tuned"
    log.info(
        f"classifier: {len(summary['classes'])} classes, {encoder_state} {summary['encoder']} encoder with code size "
        f"{summary['code_size']}, {summary['rows']:,} training rows, seed {summary['seed']}"
    )
    for note in summary["notes"]:
        log.note(note)
    log.info(fitting.phase_line("training", summary["epochs"], summary["seconds"], summary["stopped"]))
    if summary["held_out"] is not None:
        log.info(f"validation error rate plus 0.1 cross-entropy: {summary['held_out']:.3f}")
    log.info(f"classifier written to {summary['model']}")


@app.command()
@with_reading()
def predict(
    classifier: Annotated[
        str,
        typer.Argument(metavar="CLF", show_default=False, help="Classifier file written by `isthmus classify fit`."),
    ],
    data: options.Data,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", show_default=False, help=f"Output file: {', '.join(SUFFIXES)}."),
    ],
    labels: options.Labels = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write the predicted class and the class probabilities of each row of DATA; with labels, print the accuracy.

    A .csv or .parquet file starts with the identifiers of the rows, if DATA has them, and the columns to keep.
    """
    advice, read = f"predictions are written as {', '.join(SUFFIXES)}", (classifier, data, sources.file_of(labels))
    destination = destinations.check_format(output, SUFFIXES, advice, force=force, inputs=read)
    import isthmus

    log = Log(quiet)
    model = isthmus.load(classifier, device=device)
    if not hasattr(model, "predict_proba"):
        raise InputError(
            f"{classifier}: contains a model of kind {model.kind!r}, not a classifier; "
            "train one with isthmus classify fit"
        )
    rows = sources.open_for_model(model.encoder_, data, log, labels=labels, reading=reading)
    outputs.note_left_out(output, reading.keep, log)
    probabilities = model.predict_proba(rows.X)
    classes = model.classes_[probabilities.argmax(1)]
    summary: dict[str, Any] = {
        "model": classifier, "data": rows.name, "rows": rows.n_rows, "classes": model.classes_.tolist(),
        "written_to": str(destination),
    }  # fmt: skip
    correct = _correct(model, rows, classes, labels, log)
    if correct is not None:
        summary["accuracy"] = float(correct.mean())
        log.info(f"accuracy: {correct.mean():.4f} ({len(correct):,} rows)")
    identity = outputs.with_row_numbers(rows, rows.n_rows)
    _write(destination, model.classes_, classes, probabilities, identity, force)
    log.info(f"{rows.n_rows:,} predictions written to {output}")
    if as_json:
        print_json(summary)


def _correct(
    model: CodeClassifier, rows: Dataset, classes: np.ndarray, labels: str | None, log: Log
) -> np.ndarray | None:
    """Return whether each labelled row is predicted correctly.

    Return None if the data have no labels, or if their own labels, not requested by `--labels`, have other classes.

    Raises:
        InputError: if requested labels contain a class that the classifier does not know.
    """
    import numpy as np

    from isthmus.estimators.labels import check_known_classes, labelled_mask

    if rows.labels is None:
        return None
    try:
        true_labels = np.asarray(sources.require_labels(rows).labels)
        has_label = labelled_mask(true_labels, model.unlabeled)
        check_known_classes(true_labels[has_label], model.classes_)
    except InputError as error:
        if labels is not None:
            raise
        log.note(f"no accuracy computed from the labels in the data: {error}")
        return None
    correct: np.ndarray = classes[has_label] == true_labels[has_label]
    return correct


def _write(
    destination: Path,
    names: np.ndarray,
    classes: np.ndarray,
    probabilities: np.ndarray,
    carried: pd.DataFrame | None,
    force: bool,
) -> None:
    """Write a table with one line per row, carried columns first, or the .npz arrays label, probability and classes."""
    import numpy as np
    import pandas as pd

    from isthmus.files import atomic_write

    if destination.suffix.lower() == ".npz":
        if names.dtype.hasobject:  # an .npz file stores fixed-width strings, not objects
            names, classes = names.astype(str), classes.astype(str)
        with atomic_write(destination) as temporary, temporary.open("wb") as file:
            np.savez(file, label=classes, probability=probabilities, classes=names)
        return
    shares = {f"p({name})": probabilities[:, number] for number, name in enumerate(names.tolist())}
    outputs.write_rows(destination, pd.DataFrame({"label": classes, **shares}), carried, force=force)
