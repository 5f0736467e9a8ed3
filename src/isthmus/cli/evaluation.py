"""`isthmus evaluate` and `report`: how good a model is, in numbers and in pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import destinations, options, sources
from isthmus.cli.terminal import Log, print_json, print_table
from isthmus.errors import InputError

if TYPE_CHECKING:
    from isthmus.data import Dataset


def evaluate(
    model: options.Model,
    data: options.Data,
    labels: options.Labels = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Judge a model on DATA: errors beside principal components; with labels, classifiers on the codes."""
    import isthmus.evaluation.reconstruction

    log = Log(quiet)
    fitted = sources.load_autoencoder(model)
    rows = sources.open_for_model(fitted, data, log, labels=labels)
    judge = isthmus.evaluation.reconstruction.evaluate
    try:
        _refuse_lists(rows)
        results = judge(fitted, rows.X, rows.labels)
    except InputError as error:
        # labels that nobody asked for may be of any kind: measurements, lists of topics, one class
        if labels is not None or rows.labels is None:
            raise
        log.note(f"judged without labels: {error}")
        results = judge(fitted, rows.X, None)
    for note in results["notes"]:
        log.note(note)
    results = {"model": model, "data": rows.name, **results}
    if as_json:
        print_json(results)
    else:
        _print_results(results)


def _refuse_lists(rows: Dataset) -> None:
    """Raise for labels of several classes a row, such as topics: a probe tells one from the others."""
    if rows.labels is not None and any(isinstance(label, list) for label in rows.labels):
        raise InputError(f"{rows.name}: its labels are lists of classes, and the probes take one class a row")


_QUANTITIES = (
    ("squared error a row (model units)", "squared_error_per_row", "pca_squared_error_per_row"),
    ("linear probe accuracy", "linear_probe_accuracy", "linear_probe_accuracy_raw"),
    ("nearest neighbours accuracy", "knn_accuracy", "knn_accuracy_raw"),
    ("r2", "r2", None),
    ("nll a row (nats)", "nll_per_row", None),
)


_DENSITIES = {
    "exact": ("log p(x) a row (nats)", ""),
    "estimate": ("log p(x) a row (nats)", "with an estimate of log Z"),
    "bound": ("log p(x) a row (nats), at least", "a lower bound"),
    "unnormalised": ("log p(x) + log Z a row (nats)", "tells rows apart, not models: log Z is unknown"),
}
"""What is told of a density, by its `score_kind_`."""


def _print_results(results: dict[str, Any]) -> None:
    """Each quantity beside what it is measured against."""
    from rich.table import Table

    table = Table(title=f"{results['model']} on {results['data']}, {results['rows']:,} rows", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column(f"{results['kind']}, {results['code_size']} units", justify="right", style="bold")
    table.add_column("beside", justify="right")
    table.add_column("which is")
    for words, own, other in _QUANTITIES:
        if own not in results:
            continue
        baseline = f"{results[other]:.4g}" if other else ""
        what = "principal components, same size" if "pca" in str(other) else "the columns themselves" if other else ""
        if "pca" in str(other) and results["below_pca"] is None:
            baseline, what = "none", "as many principal components"
        table.add_row(words, f"{results[own]:.4g}", baseline, what)
    if "score_kind" in results:
        what, more = _DENSITIES[results["score_kind"]]
        table.add_row(what, f"{results['log_p_per_row']:.4g}", "", more)
    if results["zero_share"] > 0:
        table.add_row("exact zeros in the codes", f"{results['zero_share']:.1%}", "", "")
    if results["dead_units"]:
        table.add_row(
            "dead units, zero in every row", f"{results['dead_units']:,}", f"{results['code_size']:,}", "units"
        )
    print_table(table)


def report(
    model: options.Model,
    data: options.Data,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE.html", show_default=False, help="Where to, such as report.html."),
    ],
    labels: options.Labels = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write one self-contained HTML file about a model and DATA: opens offline, fit for a colleague."""
    destination = destinations.check_output_file(output, force=force)
    import isthmus.report

    log = Log(quiet)
    fitted = sources.load_autoencoder(model)
    rows = sources.open_for_model(fitted, data, log, labels=labels)
    isthmus.report.write(
        fitted, rows.X, destination, labels=rows.labels, row_names=rows.row_names, title=_title(rows), force=force
    )
    log.info(f"report on {rows.n_rows:,} rows written to {output}")


def _title(rows: Dataset) -> str:
    return f"isthmus: {rows.name}"
