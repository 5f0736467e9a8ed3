"""`isthmus anomalies fit` and `score`: train a detector of odd rows, and list the odd rows of data with their cells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import arguments, destinations, options, outputs, sources, windowing
from isthmus.cli.describing import log_columns
from isthmus.cli.reading import with_read_options, with_reading
from isthmus.cli.terminal import Log, print_json, print_table
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd

    from isthmus.data import Dataset
    from isthmus.estimators.anomalies import AnomalyDetector

SUFFIXES = (".csv", ".parquet")
"""File formats of scores."""

SHOWN_ROWS = 10
"""Largest number of rows that are printed."""

app = typer.Typer(
    help="Find odd rows, with a stated rate of false alarms, and the cells that make them odd.", add_completion=False,
    no_args_is_help=True,
)  # fmt: skip

LITTLE_ABOVE_CHANCE = 1.5
"""Ratio of planted anomalies that are found to false alarms up to which a warning is given."""


@app.command()
@windowing.with_window_options
@with_read_options
def fit(
    data: options.Data,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="DETECTOR", show_default=False, help="Detector file to write.")
    ],
    false_alarms: Annotated[
        float, typer.Option(metavar="RATE", help="Fraction of ordinary rows that are flagged.")
    ] = 0.05,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Score rows by an autoencoder of this kind (isthmus kinds). Default: the built-in score.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Argument of the kind, such as code_size=4. Repeatable."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column to leave out that says which rows are odd; only the ranking is compared with it.",
        ),
    ] = None,
    exclude: options.Exclude = None,
    seed: options.Seed = None,
    device: options.Device = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    *,
    text: Any = None,
    windows: Any = None,
) -> None:
    """Train a detector of odd rows on DATA, which may contain some, and write it to one file.

    With --window the rows are windows of the series in a table.
    """
    log = Log(quiet)
    destination = destinations.check_model_output(output, force=force, resume=False, inputs=(data,))
    model = _detector(kind, set_ or [], false_alarms, seed, device)
    windowing.check_options(windows, {}, text, labels)
    if windows is not None:
        exclude, text = windowing.columns_out(exclude, text)
    elif text.dtypes:
        model.set_params(dtypes=dict(text.dtypes))
    rows = sources.open_labelled(data, labels, text, exclude=exclude or [])
    log.info(f"data: {sources.describe(rows)}")
    for note in rows.notes:
        log.note(note)
    log_columns(windowing.without_identifiers(rows, windows), text.dtypes, log)
    if windows is not None:
        rows = windowing.windowed(rows, windows, log)
    model.fit(rows.windows or rows.X)
    removed = [*(exclude or []), *([labels] if labels is not None else [])]
    sources.record_read_options(model, removed, None, rows.reading or text)
    windowing.record(model, rows, sources.READ_OPTIONS)
    model.save(destination)
    summary = _fit_summary(model, rows, destination)
    for note in summary["notes"]:
        log.note(note)
    _log_plant_test(summary, log)
    rate = summary["false_alarm_rate"]
    log.info(
        f"{summary['flagged']:,} of {rows.n_rows:,} training rows have a p-value of at most {rate:g}; about "
        f"{rate * rows.n_rows:,.0f} would without any odd row"
    )
    summary |= _comparison(model.row_scores_, rows, labels, log)
    log.info(f"detector written to {destination}")
    if as_json:
        print_json(summary)


def _detector(
    kind: str | None, assignments: list[str], rate: float, seed: int | None, device: str | None
) -> AnomalyDetector:
    """Build a detector from the options of the command line.

    Raises:
        InputError: settings without a kind, or invalid ones.
    """
    from isthmus.estimators.anomalies import AnomalyDetector
    from isthmus.estimators.registry import kind_named

    given = {"false_alarm_rate": rate, "random_state": seed, "device": device}
    chosen = {name: value for name, value in given.items() if value is not None}
    if kind is None:
        if assignments:
            raise InputError(f"--set {assignments[0]}: the argument of a kind; name it, such as --kind deep")
        return AnomalyDetector().set_params(**chosen)
    constructor = kind_named(kind)
    autoencoder = constructor().set_params(**arguments.settings(assignments, kind, constructor))
    return AnomalyDetector(autoencoder=autoencoder).set_params(**chosen)


def _fit_summary(model: AnomalyDetector, rows: Dataset, destination: Path) -> dict[str, Any]:
    """Return the results of a fit as plain data."""
    summary: dict[str, Any] = {
        "model": str(destination), "kind": model.kind, "rows": model.n_rows_, "seed": model.seed_,
        "calibration_rows": len(model.calibration_scores_), "false_alarm_rate": model.false_alarm_rate,
        "flagged": int((model.p_values_ <= model.false_alarm_rate).sum()), "notes": model.history_["notes"],
        "planted": _planted(model, rows),
    }  # fmt: skip
    return summary


def _planted(model: AnomalyDetector, rows: Dataset) -> list[dict[str, Any]]:
    """Return the fractions of planted anomalies that are found, by sort and rate; none for texts."""
    from isthmus.evaluation.planted import plant_test

    if model.preprocessing_.source == "text":
        return []
    found = plant_test(model, rows.X)
    return [
        {"anomaly": sort, "false_alarms": rate} | {str(name): value for name, value in line.items()}
        for (sort, rate), line in zip(found.index, found.to_dict("records"), strict=True)
    ]


def _log_plant_test(summary: dict[str, Any], log: Log) -> None:
    """Log the fraction of planted anomalies that the score and its parts find at the highest rate of false alarms."""
    rate = max((line["false_alarms"] for line in summary["planted"]), default=0.0)
    for line in summary["planted"]:
        if line["false_alarms"] == rate and not math.isnan(line["score"]):
            parts = [(name, value) for name, value in line.items() if name not in ("anomaly", "false_alarms", "score")]
            of_parts = ", ".join(f"{name} {value:.0%}" for name, value in parts)
            log.info(f"planted {line['anomaly']}: {line['score']:.0%} found at {rate:.0%} false alarms ({of_parts})")
    found = [line["score"] for line in summary["planted"] if line["false_alarms"] == rate]
    if found and max(found, default=0.0) <= LITTLE_ABOVE_CHANCE * rate:
        log.warn(
            "hardly more planted anomalies than false alarms are found; columns with a few very large values hide "
            "others: give their logarithms, or exclude them (--exclude)"
        )
    if summary["planted"]:
        log.note("planted anomalies favour the parts of the score that are made for their sort")


@app.command()
@with_reading()
def score(
    detector: Annotated[
        str,
        typer.Argument(metavar="DETECTOR", show_default=False, help="File written by `isthmus anomalies fit`."),
    ],
    data: options.Data,
    output: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", show_default=False, help=f"Output file: {', '.join(SUFFIXES)}."),
    ],
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Write the N oddest rows, the oddest first. Default: all, in their order."
        ),
    ] = None,
    explain: Annotated[
        int, typer.Option(metavar="N", min=0, help="Cells that are named for each row that is flagged or in --top.")
    ] = 3,
    fdr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="Flag rows so that at most this fraction of them is ordinary (Benjamini-Hochberg). Default: flag by "
            "the rate of false alarms.",
        ),
    ] = None,
    labels: options.Labels = None,
    reading: sources.Reading = sources.AS_TRAINED,
    device: options.ReadingDevice = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> None:
    """Write the score, the p-value and the flag of each row of DATA, and the oddest cells of flagged rows.

    The file has identifiers or row numbers, the columns to keep, `score` (the lower, the odder), `p_value`, `flag`,
    and for each cell its column, its value, the value that was expected and a 90% interval. Rows of the training file
    get the p-values that the fit gave them.
    """
    import numpy as np
    import pandas as pd

    log = Log(quiet)
    advice, read = f"scores are written as {', '.join(SUFFIXES)}", (detector, data, sources.file_of(labels))
    destination = destinations.check_format(output, SUFFIXES, advice, force=force, inputs=read)
    model = load_detector(detector, device)
    from isthmus.estimators.odd_rows import odd_cells, scored_rows

    rows = sources.open_for_model(model, data, log, labels=labels, reading=reading)
    found = scored_rows(model, rows.X, fdr)
    scored, oddest = found.table, found.oddest
    if found.of_fit:
        log.note(f"{rows.name}: the rows that the detector was fitted on; their p-values are those of cross-fitting")
    areas = _comparison(scored["score"], rows, labels, log)
    chosen = scored.index.to_numpy() if top is None else oddest[:top]
    written = np.flatnonzero(scored["flag"]) if top is None else chosen
    table = pd.concat([scored.loc[chosen], odd_cells(model, rows.X, written, explain)], axis=1).loc[chosen]
    carried = outputs.with_row_numbers(rows, len(scored))
    outputs.write_rows(destination, table, carried.loc[chosen], force=force)
    n_flagged = int(scored["flag"].sum())
    summary = {
        "detector": detector, "data": rows.name, "rows": rows.n_rows, "flagged": n_flagged,
        "written_to": str(destination),
    } | areas  # fmt: skip
    log.info(f"{n_flagged:,} of {rows.n_rows:,} rows flagged; {pluralize(len(table), 'row')} written to {output}")
    if as_json:
        print_json(summary)
    if as_json or quiet:
        return
    shown = oddest[: SHOWN_ROWS if top is None else min(top, SHOWN_ROWS)]
    _print(carried.loc[shown], scored.loc[shown], odd_cells(model, rows.X, shown, explain))


def load_detector(path: str, device: str = "auto") -> AnomalyDetector:
    """Load a detector.

    Raises:
        InputError: the file holds another model; the message has the command that makes a detector.
    """
    import isthmus
    from isthmus.estimators.anomalies import AnomalyDetector

    model = isthmus.load(path, device=device)
    if not isinstance(model, AnomalyDetector):
        raise InputError(
            f"{path}: contains a model of kind {model.kind!r}, not a detector; make one from the training data with "
            "isthmus anomalies fit DATA -o DETECTOR"
        )
    return model


def _comparison(scores: Any, rows: Dataset, labels: str | None, log: Log) -> dict[str, Any]:
    """Return the areas under the ROC and the precision-recall curve of labels; nothing without labels of two values."""
    import numpy as np
    from sklearn.metrics import average_precision_score, roc_auc_score

    if rows.labels is None:
        return {}
    classes = np.unique(rows.labels)
    if len(classes) != 2:
        if labels is not None:
            raise InputError(
                f"--labels {labels}: {pluralize(len(classes), 'value')}; give 1 for odd rows and 0 for others"
            )
        return {}
    is_odd, odd = rows.labels == classes[1], -scores
    areas = {
        "auroc": float(roc_auc_score(is_odd, odd)),
        "average_precision": float(average_precision_score(is_odd, odd)),
    }
    log.info(
        f"labels ({classes[1]} as odd): AUROC {areas['auroc']:.3f}, average precision {areas['average_precision']:.3f}"
    )
    return areas


def _print(carried: pd.DataFrame, scored: pd.DataFrame, cells: pd.DataFrame) -> None:
    """Print rows with their scores and their oddest cells."""
    from rich.table import Table

    from isthmus.estimators.odd_rows import cells_in_words

    table = Table(title="the oddest rows", title_justify="left")
    for name in (*map(str, carried.columns), "score", "p-value", "flag", "cells"):
        table.add_column(name, overflow="fold")
    for row in scored.index:
        values, words = scored.loc[row], []
        for cell in cells_in_words(cells.loc[row]):
            bounds = f", {cell['interval']}" if cell["interval"] else ""
            words.append(f"{cell['column']} = {cell['value']} (expected {cell['expected']}{bounds})")
        identity = [str(value) for value in carried.loc[row]]
        flag = "odd" if values["flag"] else ""
        table.add_row(*identity, f"{values['score']:.3g}", f"{values['p_value']:.2g}", flag, "; ".join(words))
    print_table(table)
