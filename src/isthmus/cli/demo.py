"""`isthmus demo`: train, evaluate and report on the digits included in the package."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import destinations, options
from isthmus.cli.terminal import Log, print_table

if TYPE_CHECKING:
    from isthmus.data import Dataset
    from isthmus.estimators.base import BaseAutoencoder

CODE_SIZE, EPOCHS = 32, 25
DEMO_CONFIGURATION: dict[str, Any] = {
    "code_size": CODE_SIZE,
    "hidden_sizes": (500,),
    "batch_size": 64,
    "random_state": 0,
}
"""Configuration with the smallest error among those tried that train in half a minute on two cores."""


def demo(
    folder: Annotated[str, typer.Option(metavar="FOLDER", help="Output folder for the model and the report.")] = "demo",
    epochs: Annotated[int, typer.Option(metavar="N", help="Number of epochs.")] = EPOCHS,
    quiet: options.Quiet = False,
) -> None:
    """Train, evaluate and report on 6,000 handwritten digits included in the package; takes about a minute."""
    model_file, report_file = _check_demo_output(Path(folder).expanduser())
    began = time.perf_counter()
    import isthmus
    import isthmus.data
    import isthmus.report

    log = Log(quiet)
    train, test = (isthmus.data.open(f"mnist-sample:{split}") for split in ("train", "test"))
    log.info(f"training a deep autoencoder with code size {CODE_SIZE} on {train.n_rows:,} digits ...")
    model = isthmus.Autoencoder(
        **DEMO_CONFIGURATION, optimizer=isthmus.AdamW(weight_decay=1.0), max_epochs=epochs, verbose=0 if quiet else 1
    )
    model.fit(train.X)
    if model.history_["stopped"] == "interrupted":
        raise KeyboardInterrupt
    log.info(f"evaluating it on {test.n_rows:,} test digits ...")
    scores = _score(model, train, test)
    model.save(model_file)
    log.info("writing the report ...")
    isthmus.report.write(
        model, test.X, report_file, labels=test.labels, row_names=test.row_names, title="isthmus demo", force=True
    )
    if not quiet:
        _print_scores(scores, time.perf_counter() - began)
    log.info(f"model: {model_file}   report: {report_file}")
    log.info(f"next: open {report_file} in a browser; isthmus info {model_file}; isthmus fit YOUR.csv -o my.isthmus")


def _check_demo_output(folder: Path) -> tuple[Path, Path]:
    """Create the folder if needed and return the two output files of the demo, which may be overwritten."""
    if not folder.is_dir():
        destinations.check_output_file(str(folder))
        folder.mkdir()
    files = folder / "digits.isthmus", folder / "report.html"
    for file in files:
        destinations.check_output_file(str(file), force=True)
    return files


@dataclass(frozen=True)
class _DemoScores:
    """Scores of the demo on the test rows."""

    error: float
    pca_error: float
    accuracy: float
    raw_accuracy: float
    training_seconds: float


def _score(model: BaseAutoencoder, train: Dataset, test: Dataset) -> _DemoScores:
    """Compute the test errors of the model and of PCA, and the accuracy of linear probes on codes and on pixels."""
    from isthmus.evaluation.codes import linear_probe_accuracy
    from isthmus.evaluation.reconstruction import compare_with_pca

    errors = compare_with_pca(model, test.X)
    pixels = [rows.X.reshape(rows.n_rows, -1) / 255 for rows in (train, test)]
    codes = [model.transform(rows.X) for rows in (train, test)]
    assert train.labels is not None
    assert test.labels is not None
    accuracy, raw = (linear_probe_accuracy(a, train.labels, b, test.labels) for a, b in (codes, pixels))
    history: dict[str, Any] = model.history_
    own, pca = errors["squared_error_per_row"], errors["pca_squared_error_per_row"]
    return _DemoScores(own, pca, accuracy, raw, history["epochs"][-1]["seconds"])


def _print_scores(scores: _DemoScores, seconds: float) -> None:
    from rich.table import Table

    table = Table(title=f"Results on 1,000 test digits, {CODE_SIZE} numbers per digit instead of 784 pixels")
    table.add_column("")
    table.add_column("deep autoencoder", justify="right", style="bold")
    table.add_column("baseline", justify="right")
    table.add_column("remark")
    table.add_row(
        "squared error per digit", f"{scores.error:.2f}", f"{scores.pca_error:.2f}", "baseline: PCA, same code size"
    )
    table.add_row(
        "accuracy of a linear probe", f"{scores.accuracy:.1%}", f"{scores.raw_accuracy:.1%}", "baseline: 784 pixels"
    )
    table.add_row("training time (s)", f"{scores.training_seconds:.1f}", "", f"total with report: {seconds:.1f} s")
    print_table(table)
