"""`isthmus demo`: fit, evaluate and report on digits that the package ships."""

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
    "weight_decay": 1.0,
    "random_state": 0,
}
"""Half a minute on two cores; of a few that take no longer, one with a small error."""


def demo(
    folder: Annotated[str, typer.Option(metavar="FOLDER", help="Where the model and the report go.")] = "demo",
    epochs: Annotated[int, typer.Option(metavar="N", help="Passes over the digits.")] = EPOCHS,
    quiet: options.Quiet = False,
) -> None:
    """Fit, judge and report on 6,000 real digits that the package ships; takes about a minute."""
    place = Path(folder).expanduser()
    model_file, report_file = _check_demo_output(place)
    began = time.perf_counter()
    import isthmus
    import isthmus.data
    import isthmus.report

    log = Log(quiet)
    train, test = (isthmus.data.open(f"mnist-sample:{split}") for split in ("train", "test"))
    log.info(f"fitting a deep autoencoder with a code of {CODE_SIZE} numbers on {train.n_rows:,} digits ...")
    model = isthmus.Autoencoder(**DEMO_CONFIGURATION, max_epochs=epochs, verbose=0 if quiet else 1)
    model.fit(train.X)
    if model.history_["stopped"] == "interrupted":
        raise KeyboardInterrupt
    log.info(f"judging it on {test.n_rows:,} digits that it has not seen ...")
    found = _score(model, train, test)
    model.save(model_file)
    log.info("drawing the report ...")
    isthmus.report.write(
        model, test.X, report_file, labels=test.labels, row_names=test.row_names, title="isthmus demo", force=True
    )
    _print_scores(found, time.perf_counter() - began)
    log.info(f"model: {model_file}   report: {report_file}")
    log.info(f"next: open {report_file} in a browser; isthmus info {model_file}; isthmus fit YOUR.csv -o my.isthmus")


def _check_demo_output(place: Path) -> tuple[Path, Path]:
    """The two files of the demo, in a folder that is made if it is not there; its own output is replaced."""
    if not place.is_dir():
        destinations.check_output_file(str(place))
        place.mkdir()
    files = place / "digits.isthmus", place / "report.html"
    for file in files:
        destinations.check_output_file(str(file), force=True)
    return files


@dataclass(frozen=True)
class _DemoScores:
    """What the demo measures on rows that the model has not seen."""

    error: float
    pca_error: float
    accuracy: float
    raw_accuracy: float
    learning_seconds: float


def _score(model: BaseAutoencoder, train: Dataset, test: Dataset) -> _DemoScores:
    """Test error beside PCA's; and a linear probe, fitted on training codes, beside one on training pixels."""
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


def _print_scores(found: _DemoScores, seconds: float) -> None:
    from rich.table import Table

    table = Table(title=f"1,000 digits that were not learned from, {CODE_SIZE} numbers each instead of 784 pixels")
    table.add_column("")
    table.add_column("deep autoencoder", justify="right", style="bold")
    table.add_column("beside", justify="right")
    table.add_column("which is")
    table.add_row(
        "squared error a digit", f"{found.error:.2f}", f"{found.pca_error:.2f}", "principal components, same size"
    )
    table.add_row("10-class linear probe", f"{found.accuracy:.1%}", f"{found.raw_accuracy:.1%}", "the 784 pixels")
    table.add_row("seconds", f"{found.learning_seconds:.1f}", f"{seconds:.1f}", "learning; with judging and the report")
    print_table(table)
