"""The top of the page: what was found, in one sentence and a few numbers; and the tables beside the charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from isthmus.errors import pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.evaluation.codes import UnitStatistics
from isthmus.report.formatting import number, percent
from isthmus.report.report_data import ReportData

HISTOGRAMS = 16
"""Units whose histogram is drawn, the widest first."""

BINS = 24

Bar = tuple[str, str, float, str]


@dataclass(frozen=True)
class Card:
    """A number, what it is, and a word on it; `bars` are (name, value, share of the full length, what it is)."""

    title: str
    value: str
    remark: str = ""
    bars: tuple[Bar, ...] = ()


def headline(model: BaseAutoencoder, scores: Mapping[str, Any]) -> str:
    """What the code keeps, beside principal components of the same size, in one sentence."""
    ours, pca = scores["squared_error_per_row"], scores["pca_squared_error_per_row"]
    size = pluralize(model.code_size_, "unit")
    start = (
        f"A code of {size} stands for {pluralize(scores['columns'], 'column')} and leaves a squared error of "
        f"{number(ours)} a row"
    )
    below = scores["below_pca"]
    if below is None:
        return f"{start}; as many principal components leave none."
    if abs(below) < 0.005:
        return f"{start}, as much as principal components of the same size ({number(pca)})."
    side = "below" if below > 0 else "above"
    if below < -4:
        return f"{start}, {1 - below:.0f} times the {number(pca)} that principal components of the same size leave."
    return f"{start}, {percent(abs(below))} {side} the {number(pca)} that principal components of the same size leave."


def summary_cards(model: BaseAutoencoder, scores: Mapping[str, Any]) -> list[Card]:
    """Kind, rows, code size, error beside that of principal components, and what the labels add."""
    ours = scores["squared_error_per_row"]
    pca = 0.0 if scores["below_pca"] is None else scores["pca_squared_error_per_row"]
    ratio = scores["columns"] / model.code_size_
    fewer = f"{number(round(ratio, 1))} times fewer than columns" if ratio > 1 else "no fewer than columns"
    cards = [
        Card("Kind", model.kind, f"{scores['likelihood']} likelihood"),
        Card("Rows", f"{scores['rows']:,}", f"learned from {model.n_rows_:,}"),
        Card("Code size", f"{model.code_size_:,}", fewer),
        Card("R²", f"{scores['r2']:.3f}", f"{number(scores['nll_per_row'])} nats a row"),
        Card("Squared error a row", number(ours), "in model units", _errors(ours, pca)),
    ]
    if "linear_probe_accuracy" in scores:
        probe, raw = scores["linear_probe_accuracy"], scores["linear_probe_accuracy_raw"]
        cards.append(Card("Linear probe", f"{probe:.1%}", "labels found from the code", _shares(probe, raw)))
        knn, raw = scores["knn_accuracy"], scores["knn_accuracy_raw"]
        cards.append(
            Card("Nearest neighbours", f"{knn:.1%}", "labels found from the 5 nearest codes", _shares(knn, raw))
        )
    return cards


def _errors(ours: float, pca: float) -> tuple[Bar, ...]:
    """Bars of two errors, the larger one of full length."""
    largest = max(ours, pca) or 1.0
    return ("autoencoder", number(ours), ours / largest, "ours"), ("PCA", number(pca), pca / largest, "pca")


def _shares(code: float, raw: float) -> tuple[Bar, ...]:
    """Bars of two accuracies, from 0 to 1."""
    return ("from the code", f"{code:.1%}", code, "ours"), ("from the columns", f"{raw:.1%}", raw, "raw")


def comparison_rows(report_data: ReportData, pca_is_exact: bool) -> list[tuple[str, str, str, str]]:
    """Mean, median, 95th percentile and largest squared error: ours, principal components', and the difference.

    Args:
        report_data: errors by row.
        pca_is_exact: principal components leave none but for rounding, beside which no difference is told.
    """
    ours, pca = report_data.squared_error, report_data.pca_squared_error
    measures: dict[str, Callable[[np.ndarray], Any]] = {
        "mean": np.mean, "median": np.median, "95th percentile": lambda e: np.percentile(e, 95), "largest": np.max,
    }  # fmt: skip
    rows = []
    for name, measure in measures.items():
        a, b = float(measure(ours)), float(measure(pca))
        rows.append((name, number(a), *(("0", "–") if pca_is_exact or b == 0 else (number(b), f"{a / b - 1:+.0%}"))))
    return rows


@dataclass(frozen=True)
class Histogram:
    """The values of one unit: bars as (x, height) in hundredths of the picture."""

    name: str
    bars: list[tuple[float, float, str]]
    width: float
    low: str
    high: str
    remark: str


def histograms(codes: Float[np.ndarray, "rows code_size"], statistics: UnitStatistics) -> list[Histogram]:
    """Histograms of the units that vary most."""
    widest = np.argsort(-statistics.std, kind="stable")[:HISTOGRAMS]
    return [_histogram(int(unit), codes[:, unit], statistics) for unit in widest]


def _histogram(unit: int, values: np.ndarray, statistics: UnitStatistics) -> Histogram:
    low, high = float(values.min()), float(values.max())
    remark = f"mean {number(float(statistics.mean[unit]))}, sd {number(float(statistics.std[unit]))}"
    if statistics.dead[unit]:
        remark = "dead: always zero"
    elif statistics.collapsed[unit]:
        remark = "collapsed: it hardly varies"
    spread = high - low
    # A unit whose values differ by rounding alone has no bins of its own.
    edges = (low, high) if spread > 1e-6 * max(1e-30, abs(low), abs(high)) else (low - 0.5, high + 0.5)
    counts, borders = np.histogram(values.astype(np.float64), BINS, edges)
    tallest = counts.max()
    bars = []
    for i, count in enumerate(counts):
        if count:
            tooltip = f"{number(float(borders[i]))} to {number(float(borders[i + 1]))}: {pluralize(int(count), 'row')}"
            bars.append((100 * i / BINS, 100 * float(count / tallest), tooltip))
    return Histogram(f"unit {unit}", bars, 100 / BINS, number(edges[0]), number(edges[1]), remark)
