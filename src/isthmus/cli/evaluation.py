"""`isthmus evaluate` and `report`: quality of a model as a table and as an HTML report."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import destinations, options, outputs, sources, windowing
from isthmus.cli.reading import with_reading
from isthmus.cli.terminal import Log, print_json, print_table
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    from pathlib import Path

    from isthmus.data import Dataset
    from isthmus.estimators.anomalies import AnomalyDetector
    from isthmus.estimators.base import BaseAutoencoder


@with_reading()
def evaluate(
    model: options.Model,
    data: options.Data,
    labels: options.Labels = None,
    target: options.Target = None,
    draws: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Samples of the code per row for the log-likelihood of a model whose inference is a distribution; "
            "0 computes none. Default: 100.",
        ),
    ] = None,
    with_fidelity: Annotated[
        bool,
        typer.Option(
            "--fidelity",
            help="Compare samples of the model with the rows of a table: marginals, associations, copies, and the AUC "
            "of a classifier that separates them. Takes seconds.",
        ),
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="ERRORS",
            show_default=False,
            help="File for the squared error of each row and the part of each column in it: .csv, .parquet, .npy.",
        ),
    ] = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate MODEL on DATA: errors compared with PCA; with labels, the accuracy of classifiers on the codes."""
    destination = None
    if output is not None:
        read = (model, data, target, sources.file_of(labels))
        destination = destinations.check_errors_output(output, force=force, inputs=read)
    elif reading.keep:
        raise InputError(f"--keep {reading.keep[0]}: without -o no file is written; name one, such as -o errors.csv")
    import isthmus.evaluation.reconstruction
    from isthmus.evaluation.fidelity import fidelity_of, no_fidelity
    from isthmus.evaluation.likelihood import has_densities
    from isthmus.evaluation.likelihood_reports import DEFAULT_DRAWS

    log = Log(quiet)
    fitted = sources.load_autoencoder(model, device)
    if with_fidelity and (reason := no_fidelity(fitted)):
        raise InputError(f"--fidelity: {reason}")
    rows = sources.open_for_model(fitted, data, log, labels=labels, reading=reading)
    rows = sources.with_target(rows, target, log)
    if destination is not None:
        outputs.check_errors_fit(fitted, rows)
    if draws and not has_densities(fitted.coder_):
        log.note(f"--draws has no effect on kind {fitted.kind}, whose inference is not a distribution")
    if rows.labels is not None and rows.windows is not None and rows.windows.overlap:
        log.note("the accuracies are too high: classifiers are tested on windows that overlap with those of their fit")
    n_draws = DEFAULT_DRAWS if draws is None else draws
    compute = functools.partial(isthmus.evaluation.reconstruction.evaluate, n_draws=n_draws)
    try:
        _refuse_lists(rows)
        results = compute(fitted, rows.X, rows.labels)
    except InputError as error:
        # labels not requested by --labels may be unusable: measurements, lists of topics, a single class
        if labels is not None or rows.labels is None:
            raise
        log.note(f"the labels in the data are ignored: {error}")
        results = compute(fitted, rows.X, None)
    for note in results["notes"]:
        log.note(note)
    if with_fidelity:
        results["fidelity"] = fidelity_of(fitted, rows.X).to_dict()
    results = {"model": model, "data": rows.name, **results}
    if destination is not None:
        outputs.note_left_out(str(output), reading.keep, log)
        log.info(_write_errors(destination, fitted, rows, str(output), force))
    if as_json:
        print_json(results)
    elif not quiet:
        _print_results(results)


def _write_errors(destination: Path, model: BaseAutoencoder, rows: Dataset, output: str, force: bool) -> str:
    """Write the errors of rows, or of the steps of windows, and return a sentence on it."""
    if rows.windows is not None:
        counts = windowing.write_errors(destination, model, rows, force=force)
        return windowing.written(counts, output, "errors of ")
    outputs.write_errors(destination, model, rows, force=force)
    return f"errors of {pluralize(rows.n_rows, 'row')} written to {output}"


def _refuse_lists(rows: Dataset) -> None:
    """Raise if a row has several labels, such as topics: the classifiers need one class per row."""
    if rows.labels is not None and any(isinstance(label, list) for label in rows.labels):
        raise InputError(f"{rows.name}: each label is a list of classes; the classifiers need one class per row")


_QUANTITIES = (
    ("squared error per row (scaled units)", "squared_error_per_row", "pca_squared_error_per_row"),
    ("accuracy of a linear probe", "linear_probe_accuracy", "linear_probe_accuracy_raw"),
    ("accuracy of nearest neighbours", "knn_accuracy", "knn_accuracy_raw"),
    ("R2", "r2", None),
    ("-log p(x | code) per row (nats)", "nll_per_row", None),
)


_DENSITIES = {
    "exact": ("log p(x) per row (nats)", "exact"),
    "estimate": ("log p(x) per row (nats)", "log Z is an estimate"),
    "bound": ("log p(x) per row (nats), lower bound", ""),
    "unnormalised": ("log p(x) + log Z per row (nats)", "log Z is unknown: compare rows, not models"),
}
"""Name and remark of the log density for each `score_kind_`."""

FEW_SAMPLES = 5
"""Effective sample size of a row below which the estimate of its bias may be far too small."""


def _print_results(results: dict[str, Any]) -> None:
    """Print each quantity next to its baseline."""
    from rich.table import Table

    table = Table(title=f"{results['model']} on {results['data']}, {results['rows']:,} rows", title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column(f"{results['kind']}, code size {results['code_size']}", justify="right", style="bold")
    table.add_column("baseline", justify="right")
    table.add_column("remark")
    for name, own, other in _QUANTITIES:
        if own not in results:
            continue
        baseline = f"{results[other]:.4g}" if other else ""
        remark = "baseline: PCA, same code size" if "pca" in str(other) else "baseline: on the columns" if other else ""
        if "pca" in str(other) and results["below_pca"] is None:
            baseline, remark = "none", "PCA of this code size is exact"
        table.add_row(name, f"{results[own]:.4g}", baseline, remark)
    if "score_kind" in results:
        name, remark = _DENSITIES[results["score_kind"]]
        found = results["log_likelihood"]
        table.add_row(name, f"{results['log_p_per_row']:.4g}", "", _method(found) or remark)
        for row in _precision(found):
            table.add_row(*row)
    if results["zero_share"] > 0:
        table.add_row("exact zeros in the codes", f"{results['zero_share']:.1%}", "", "")
    if results["dead_units"]:
        table.add_row(
            "dead units (zero in every row)", f"{results['dead_units']:,} of {results['code_size']:,}", "", ""
        )
    for row in _prefixes(results.get("prefixes", [])):
        table.add_row(*row)
    for row in _fidelity(results.get("fidelity")):
        table.add_row(*row)
    print_table(table)
    if "log_likelihood" in results:
        print(f"log p(x): {results['log_likelihood']['comparable']}")


def _prefixes(found: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the table about the prefixes of a code; the whole code comes last and has its own rows."""
    for part in found[:-1]:
        remark = f"{part['dead_rate']:.1%} of these units dead"
        if part["splits"] is not None:
            remark += f"; a unit splits into {part['splits']:.2g} later ones, {part['absorbers']:.2g} absorb it"
        yield (
            f"squared error of the first {part['n_units']:,} units",
            f"{part['squared_error_per_row']:.4g}",
            "",
            remark,
        )


def _method(found: Mapping[str, Any]) -> str:
    """Return how a log-likelihood was estimated; empty if it was not sampled."""
    return "" if found["n_draws"] is None else f"{found['method']}, {_samples(found)}"


def _samples(found: Mapping[str, Any]) -> str:
    n = found["n_draws"]
    return pluralize(n, "chain") if found["bias"] is None else f"{pluralize(n, 'sample')} per row"


def _precision(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the table about the precision of a log-likelihood: interval, sample sizes, bias."""
    low, high = found["interval"]
    if math.isfinite(low):
        yield "its 95% interval, over rows", f"{low:.4g} to {high:.4g}", "", ""
    few = found["bias"] is not None and (found["mean_effective_sample_size"] or FEW_SAMPLES) < FEW_SAMPLES
    if found["mean_effective_sample_size"] is not None:
        least = found["smallest_effective_sample_size"]
        smallest = "" if found["bias"] is None else f"smallest of a row: {least:.3g}"
        if found["bias"] and least < FEW_SAMPLES:
            smallest += "; the bias of such rows is underestimated"
        size = f"{found['mean_effective_sample_size']:.4g} of {found['n_draws']:,}"
        yield "its effective sample size", size, "", smallest
    if found["bias"] is not None and math.isfinite(found["bias"]):
        remark = "too few effective samples for an estimate: raise --draws" if few else "more samples raise the bound"
        yield "its bias, estimated (nats)", "unknown" if few else f"{found['bias']:.2g}", "", remark


def _fidelity(found: Mapping[str, Any] | None) -> Iterator[tuple[str, str, str, str]]:
    """Yield the rows of the table about samples: marginals, associations, copies, and the classifier."""
    if found is None:
        return
    worst = max(found["columns"], key=lambda column: column["distance"])
    expected = f"{found['expected_marginal_distance']:.3f}"
    largest = f"largest: {worst['name']}, {worst['distance']:.3f}"
    yield "samples: mean distance of marginals", f"{found['marginal_distance']:.3f}", expected, largest
    if found["pairs"]:
        pair = found["pairs"][0]
        remark = f"largest: {pair['measure']} of {' and '.join(pair['columns'])}, "
        remark += f"{pair['in_rows']:.2f} in rows, {pair['in_samples']:.2f} in samples"
        expected = f"{found['expected_association_difference']:.3f}"
        yield "samples: mean difference of associations", f"{found['association_difference']:.3f}", expected, remark
    remark = "of these rows: pass the training rows to find copies of those"
    yield "samples: close to a row", f"{found['close_rate']:.1%}", "5.0%", remark
    compared = f"{found['n_copies']:,} of {found['n_compared']:,}"
    yield "samples: equal to a row", compared, f"{found['expected_copies']:,.0f}", ""
    low, high = found["auc_interval"]
    remark = f"{low:.3f} to {high:.3f}; 0.5: cannot be separated from rows, 1: always"
    yield "samples: AUC of a classifier", f"{found['auc']:.3f}", "0.500", remark


@with_reading(without=["keep"])
def report(
    model: options.Model,
    data: options.Data,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE.html", show_default=False, help="HTML file to write."),
    ],
    labels: options.Labels = None,
    target: options.Target = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a report on MODEL and DATA as one HTML file, which opens without an internet connection."""
    advice = "the report is HTML; write it to a .html file"
    read = (model, data, target, sources.file_of(labels))
    destination = destinations.check_format(output, (".html", ".htm"), advice, force=force, inputs=read)
    import isthmus.report
    from isthmus.estimators.anomalies import AnomalyDetector

    log = Log(quiet)
    detector = isthmus.load(model, device=device)
    if isinstance(detector, AnomalyDetector):
        rows = sources.open_for_model(detector, data, log, labels=labels, reading=reading)
        _report_anomalies(detector, rows, destination, force, log)
        return
    fitted = sources.load_autoencoder(model, device)
    rows = sources.open_for_model(fitted, data, log, labels=labels, reading=reading)
    rows = sources.with_target(rows, target, log)
    isthmus.report.write(
        fitted, rows, destination, labels=rows.labels, row_names=rows.row_names, title=_title(rows), force=force
    )
    log.info(f"report on {pluralize(rows.n_rows, 'row')} written to {output}")


def _report_anomalies(model: AnomalyDetector, rows: Dataset, destination: Path, force: bool, log: Log) -> None:
    """Write the report of a detector."""
    from isthmus.report.anomaly_page import write_anomalies

    identifiers = outputs.with_row_numbers(rows, rows.n_rows)
    title = f"{rows.name}: odd rows"
    write_anomalies(model, rows.X, destination, identifiers=identifiers, title=title, force=force)
    log.info(f"report on {pluralize(rows.n_rows, 'row')} written to {destination}")


def _title(rows: Dataset) -> str:
    return f"isthmus: {rows.name}"
