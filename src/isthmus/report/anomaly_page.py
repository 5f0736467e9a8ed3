"""The HTML report of a detector: the odd rows, their cells, and the scores of all rows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isthmus.data.dataset import as_pandas, index_columns, is_row_numbers
from isthmus.errors import pluralize
from isthmus.estimators.anomalies import AnomalyDetector
from isthmus.estimators.odd_rows import cell_names, cells_in_words, odd_cells, scored_rows
from isthmus.report import charts
from isthmus.report.page import _environment, _file, _plotly, json_for_script
from isthmus.report.saving import check_overwrite, save_atomically

SHOWN_ROWS, SHOWN_CELLS = 30, 3
"""Largest number of odd rows, and of cells that are named for each."""

HEAT_COLUMNS = 40
"""Largest number of columns of the heat map: the oddest ones."""

MAX_BANDS, MAX_CHANNELS = 3, 4
"""Largest number of series with bands, and of channels of each."""


@dataclass(frozen=True)
class OddRow:
    """A row of the table: identifiers, score, p-value, flag and cells, as texts."""

    identity: list[str]
    score: str
    p_value: str
    flag: bool
    cells: list[dict[str, str]]


def write_anomalies(
    model: AnomalyDetector,
    X: Any,
    path: str | os.PathLike[str],
    *,
    identifiers: pd.DataFrame | None = None,
    title: str | None = None,
    force: bool = False,
) -> Path:
    """Write a report on the odd rows of `X` to one self-contained HTML file, which needs no network.

    Sections: a table of the oddest rows with their cells, a heat map of the oddness of columns, the oddest series with
    the interval of each step, and a histogram of the scores.

    Args:
        model: a fitted detector.
        X: rows as the detector takes them.
        path: the file.
        identifiers: columns that say which row is which; the default is the index of a data frame, or row numbers.
        title: the title of the report.
        force: replace an existing file.

    Returns:
        The path.

    Raises:
        InputError: the file exists and `force` is False; its folder does not exist or cannot be written to; invalid
            rows.
    """
    path = Path(path)
    check_overwrite(path, force)
    X = as_pandas(X.X if hasattr(X, "row_names") else X)
    page = _rendered(model, X, _identity(X, identifiers), title or "odd rows")
    save_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path


def _identity(X: Any, given: pd.DataFrame | None) -> pd.DataFrame:
    if given is not None:
        return given.reset_index(drop=True)
    index = getattr(X, "index", None)
    if isinstance(index, pd.Index) and not is_row_numbers(index):
        return index_columns(index)
    return pd.DataFrame({"row": range(len(X) if not hasattr(X, "shape") else X.shape[0])})


def _rendered(model: AnomalyDetector, X: Any, identity: pd.DataFrame, title: str) -> str:
    scored = scored_rows(model, X)
    oddest = scored.oddest[:SHOWN_ROWS]
    explanation = model.explain(X.iloc[oddest] if hasattr(X, "iloc") else X[oddest])
    cells = odd_cells(model, X, oddest, SHOWN_CELLS, explanation)
    scores, p_values, flags = (scored.table[name].to_numpy() for name in ("score", "p_value", "flag"))
    n_flagged, n_rows = int(flags.sum()), len(scores)
    names = [" ".join(map(str, values)) for values in identity.iloc[oddest].itertuples(index=False)]
    drawn = {"scores": score_chart(-scores, -model.offset_)}
    bands = _bands(model, X, oddest[:MAX_BANDS], explanation, names)
    if bands:
        drawn |= {name: chart for name, _, chart in bands}
    elif len(model.preprocessing_.row_shape) == 1:
        drawn["heat"] = heat_chart(model, explanation.frames()["share"], names)
    note = ["these are the rows that the detector was fitted on; their p-values are those of cross-fitting"]
    return _environment().get_template("anomalies.html").render(
        title=title,
        headline=f"{n_flagged:,} of {pluralize(n_rows, 'row')} flagged at a rate of false alarms of "
        f"{model.false_alarm_rate:g}; about {model.false_alarm_rate * n_rows:,.0f} would be without any odd row.",
        cards=[
            {"title": "rows", "value": f"{n_rows:,}", "remark": "scored"},
            {"title": "flagged", "value": f"{n_flagged:,}", "remark": f"{n_flagged / n_rows:.1%} of the rows"},
            {"title": "calibration rows", "value": f"{len(model.calibration_scores_):,}",
             "remark": f"smallest p-value {1 / (1 + len(model.calibration_scores_)):.2g}"},
        ],
        notes=note if scored.of_fit else [],
        identity=[str(name) or "name" for name in identity.columns],
        rows=[
            OddRow([str(value) for value in identity.iloc[row]], f"{float(scores[row]):.3g}",
                   f"{float(p_values[row]):.2g}", bool(flags[row]), cells_in_words(cells.loc[row]))
            for row in oddest
        ],
        bands=[(name, heading) for name, heading, _ in bands],
        n_rows=n_rows,
        rate=f"{model.false_alarm_rate:g}",
        drawn=set(drawn),
        charts=json_for_script(drawn),
        style=_file("report.css"),
        script=_file("report.js"),
        plotly=_plotly(),
    )  # fmt: skip


def score_chart(odd: np.ndarray, threshold: float) -> charts.Chart:
    """Plot a histogram of the oddness of rows, on a logarithmic scale of counts, and the threshold of a flag."""
    edges = np.linspace(0, max(float(odd.max()), threshold) * 1.02 + 1e-9, 61)
    counts, _ = np.histogram(odd, edges)
    data = [{
        "type": "bar", "x": charts.numbers((edges[:-1] + edges[1:]) / 2), "y": counts.tolist(),
        "marker": {"color": charts.OURS}, "hovertemplate": "oddness about %{x:.3g}<br>%{y} rows<extra></extra>",
    }]  # fmt: skip
    line = {"type": "line", "xref": "x", "yref": "paper", "x0": threshold, "x1": threshold, "y0": 0, "y1": 1,
            "line": {"color": "var(--muted)", "width": 1.5, "dash": "dash"}}  # fmt: skip
    return charts.chart(
        data, 320, shapes=[line], bargap=0.05, showlegend=False, xaxis=charts.axis("oddness, nats"),
        yaxis=charts.axis("number of rows", type="log"),
    )  # fmt: skip


def heat_chart(model: AnomalyDetector, share: pd.DataFrame, names: list[str]) -> charts.Chart:
    """Plot how odd the columns of rows are, a line for each row; the oddest columns."""
    values = share.fillna(0.0).to_numpy(np.float64)
    columns = np.sort(np.argsort(-values.max(0), kind="stable")[:HEAT_COLUMNS])
    labels = [charts.plain(name, 32) for name in cell_names(model, list(share.columns))]
    high = max(float(values.max()), 1.0)
    data: dict[str, Any] = {
        "type": "heatmap", "z": [charts.numbers(line) for line in np.maximum(values[:, columns], 0)], "zmin": 0,
        "zmax": high, "x": list(range(len(columns))), "y": list(range(len(names))), "xgap": 1, "ygap": 1,
        "colorscale": charts.SEQUENTIAL, "colorbar": {"thickness": 12, "outlinewidth": 0, "title": {"text": "nats"}},
        "customdata": [[f"{charts.plain(name, 32)}, {labels[column]}" for column in columns] for name in names],
        "hovertemplate": "%{customdata}<br>%{z:.3g} nats<extra></extra>",
    }  # fmt: skip
    shown = [labels[column] for column in columns]
    return charts.chart(
        [data], 130 + 20 * len(names),
        xaxis=charts.axis(tickmode="array", tickvals=data["x"], ticktext=shown, showgrid=False),
        yaxis=charts.axis(tickmode="array", tickvals=data["y"], ticktext=[charts.plain(name, 24) for name in names],
                          autorange="reversed", showgrid=False),
    )  # fmt: skip


def _bands(
    model: AnomalyDetector, X: Any, oddest: np.ndarray, explanation: Any, names: list[str]
) -> list[tuple[str, str, charts.Chart]]:
    """Return the name, the heading and the chart of each series with its band; none if the rows are no series."""
    shape = model.preprocessing_.row_shape
    if len(shape) != 2 or model.preprocessing_.image_shape is not None:
        return []
    array, found = np.asarray(X), []
    for i, row in enumerate(oddest):
        for channel in range(min(shape[1], MAX_CHANNELS)):
            parts = (array[row], explanation.low[i], explanation.high[i], explanation.expected[i])
            lines = [part[:, channel] for part in parts]
            found.append(
                (f"band-{i}-{channel}", f"{names[i]}, {model.preprocessing_.channels[channel]}", band_chart(*lines))
            )
    return found


def band_chart(values: np.ndarray, low: np.ndarray, high: np.ndarray, expected: np.ndarray) -> charts.Chart:
    """Plot the values of a series by step, with what was expected and its interval."""
    steps = list(range(len(values)))
    base: dict[str, Any] = {"type": "scatter", "x": steps, "mode": "lines"}
    data = [
        {**base, "y": charts.numbers(low), "line": {"width": 0}, "showlegend": False, "hoverinfo": "skip"},
        {**base, "y": charts.numbers(high), "line": {"width": 0}, "fill": "tonexty", "name": "interval of 90%",
         "fillcolor": "var(--pca-soft)", "hoverinfo": "skip"},
        {**base, "y": charts.numbers(expected), "line": {"width": 1.5, "dash": "dot", "color": charts.PCA},
         "name": "expected"},
        {**base, "y": charts.numbers(values), "line": {"width": 2, "color": charts.OURS}, "name": "series"},
    ]  # fmt: skip
    return charts.chart(data, 240, xaxis=charts.axis("step"), yaxis=charts.axis())
