"""Headline and cards at the top of the report, table of errors, and histograms."""

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
from isthmus.report.report_data import ReportData, count_columns

HISTOGRAMS = 16
"""Largest number of histograms; units with the largest variance come first."""

BINS = 24

Bar = tuple[str, str, float, str]


@dataclass(frozen=True)
class Card:
    """A value with a title and a remark; `bars` are (name, value, fraction of the full length, CSS class)."""

    title: str
    value: str
    remark: str = ""
    bars: tuple[Bar, ...] = ()


def headline(model: BaseAutoencoder, scores: Mapping[str, Any]) -> str:
    """Summarise the squared error and its ratio to that of PCA in one sentence."""
    ours, pca = scores["squared_error_per_row"], scores["pca_squared_error_per_row"]
    size, columns = pluralize(model.code_size_, "unit"), count_columns(model.preprocessing_)
    start = f"A code of {size} represents {columns} with a squared error of {number(ours)} per row"
    below = scores["below_pca"]
    if below is None:
        return f"{start}. A PCA of the same size copies the rows, so there is no comparison with it."
    baseline = f"that of a PCA of the same size ({number(pca)})"
    if abs(below) < 0.005:
        return f"{start}, equal to {baseline} within 0.5%."
    if below < -4:
        return f"{start}, {1 - below:.0f} times {baseline}."
    return f"{start}, {percent(abs(below))} {'below' if below > 0 else 'above'} {baseline}."


def summary_cards(model: BaseAutoencoder, scores: Mapping[str, Any]) -> list[Card]:
    """Return the cards: kind, rows, code size, R², error and PCA error, and the accuracy of classifiers."""
    ours = scores["squared_error_per_row"]
    bars = () if scores["below_pca"] is None else _errors(ours, scores["pca_squared_error_per_row"])
    cards = [
        Card("Kind", model.kind, f"{scores['likelihood']} likelihood"),
        Card("Rows", f"{scores['rows']:,}", f"{model.n_rows_:,} training rows"),
        Card("Code size", f"{model.code_size_:,}", f"for {count_columns(model.preprocessing_)}"),
        Card("R²", f"{scores['r2']:.3f}", f"NLL {number(scores['nll_per_row'])} nats per row"),
        Card("Squared error per row", number(ours), "in model units", bars),
    ]
    if "linear_probe_accuracy" in scores:
        probe, raw = scores["linear_probe_accuracy"], scores["linear_probe_accuracy_raw"]
        cards.append(Card("Linear probe", f"{probe:.1%}", "accuracy on the labels", _accuracies(probe, raw)))
        knn, raw = scores["knn_accuracy"], scores["knn_accuracy_raw"]
        cards.append(Card("Nearest neighbours", f"{knn:.1%}", "accuracy on the labels", _accuracies(knn, raw)))
    return cards


def _errors(ours: float, pca: float) -> tuple[Bar, ...]:
    """Return bars of two errors; the larger one has the full length."""
    largest = max(ours, pca) or 1.0
    return ("autoencoder", number(ours), ours / largest, "ours"), ("PCA", number(pca), pca / largest, "pca")


def _accuracies(code: float, raw: float) -> tuple[Bar, ...]:
    """Return bars of two accuracies on a scale from 0 to 1."""
    return ("code", f"{code:.1%}", code, "ours"), ("input", f"{raw:.1%}", raw, "raw")


def comparison_rows(report_data: ReportData, pca_is_exact: bool) -> list[tuple[str, str, str, str]]:
    """Return mean, median, 95th percentile and maximum of the squared error: model, PCA and relative difference.

    Args:
        report_data: errors by row.
        pca_is_exact: True if the PCA error is zero up to rounding; then there is no relative difference.
    """
    ours, pca = report_data.squared_error, report_data.pca_squared_error
    measures: dict[str, Callable[[np.ndarray], Any]] = {
        "mean": np.mean, "median": np.median, "95th percentile": lambda e: np.percentile(e, 95), "maximum": np.max,
    }  # fmt: skip
    rows = []
    for name, measure in measures.items():
        a, b = float(measure(ours)), float(measure(pca))
        rows.append((name, number(a), *(("0", "–") if pca_is_exact or b == 0 else (number(b), f"{a / b - 1:+.0%}"))))
    return rows


@dataclass(frozen=True)
class Histogram:
    """A histogram of one unit: bars (x, height, tooltip) in percent of the picture."""

    name: str
    bars: list[tuple[float, float, str]]
    width: float
    low: str
    high: str
    remark: str


def histograms(codes: Float[np.ndarray, "rows code_size"], statistics: UnitStatistics) -> list[Histogram]:
    """Return histograms of the units with the largest variances."""
    widest = np.argsort(-statistics.std, kind="stable")[:HISTOGRAMS]
    return [_histogram(int(unit), codes[:, unit], statistics) for unit in widest]


def _histogram(unit: int, values: np.ndarray, statistics: UnitStatistics) -> Histogram:
    low, high = float(values.min()), float(values.max())
    remark = f"mean {number(float(statistics.mean[unit]))}, std {number(float(statistics.std[unit]))}"
    if statistics.dead[unit]:
        remark = "dead (always zero)"
    elif statistics.collapsed[unit]:
        remark = "collapsed (constant)"
    spread = high - low
    # Values that differ only by rounding need an artificial range.
    edges = (low, high) if spread > 1e-6 * max(1e-30, abs(low), abs(high)) else (low - 0.5, high + 0.5)
    counts, borders = np.histogram(values.astype(np.float64), BINS, edges)
    tallest = counts.max()
    bars = []
    for i, count in enumerate(counts):
        if count:
            tooltip = f"{number(float(borders[i]))} to {number(float(borders[i + 1]))}: {pluralize(int(count), 'row')}"
            bars.append((100 * i / BINS, 100 * float(count / tallest), tooltip))
    return Histogram(f"unit {unit}", bars, 100 / BINS, number(edges[0]), number(edges[1]), remark)
