"""Section of the report on similar rows: neighbours of some rows by their codes, and distances of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

from isthmus.data.dataset import Conditioned, Paired
from isthmus.estimators.base import BaseAutoencoder
from isthmus.report import charts
from isthmus.report.code_maps import standardised
from isthmus.report.examples import SHOWN_COLUMNS, RowInfo, matrix
from isthmus.report.formatting import number, value_text
from isthmus.report.pictures import MAX_IMAGE_SIDE, BrightnessScale, downsample, png_uri
from isthmus.report.report_data import read_rows, take, user_columns

QUERIES, NEIGHBOURS = 4, 7
"""Rows that are shown, and the neighbours of each."""

MIN_ROWS = 20
"""Smallest number of rows for the section."""

BINS = 40
"""Bins of the chart of distances."""


@dataclass(frozen=True)
class SimilarRow:
    """A row: its name and label, its distance from the first row of the line, and a picture or its values."""

    name: str
    label: str
    distance: str
    picture: str
    values: list[str]


@dataclass(frozen=True)
class SimilarRows:
    """The section: an explanation, lines of rows with their neighbours, names of columns, and the chart of distances.

    Attributes:
        lines: rows, each followed by its neighbours, the nearest first.
        columns: names of the values that are shown; empty for pictures.
    """

    explanation: str
    lines: list[list[SimilarRow]]
    columns: list[str]
    chart: charts.Chart


def similar_rows(
    model: BaseAutoencoder,
    X: Any,
    codes: Float[np.ndarray, "rows code_size"],
    picked: Int[np.ndarray, " picked"],
    names: RowInfo,
) -> SimilarRows | None:
    """Return the section; None for few rows, series, texts, sparse rows, and rows with targets or conditions.

    Args:
        model: the model.
        X: all rows.
        codes: of all rows.
        picked: rows of the sample, at least one; neighbours are found among these.
        names: of all rows.
    """
    known = model.preprocessing_
    if (
        len(picked) < MIN_ROWS
        or known.is_series
        or known.source in ("sparse", "text")
        or isinstance(X, Conditioned | Paired)
    ):
        return None
    of_bits = bool(np.isin(codes[picked], (0, 1)).all())
    distances = code_distances(codes[picked], of_bits=of_bits)
    queries = np.linspace(0, len(picked) - 1, QUERIES).astype(int)
    order = [np.argsort(distances[query], kind="stable") for query in queries]
    shown = np.array([[q, *found[found != q][:NEIGHBOURS]] for q, found in zip(queries, order, strict=True)])
    rows = picked[shown]
    pictures, values, columns = _contents(model, X, rows.ravel())
    texts = [
        SimilarRow(*names.of(int(row))[:2], _distance(distance, of_bits), picture, value)
        for row, distance, picture, value in zip(
            rows.ravel(), distances[shown[:, :1], shown].ravel(), pictures, values, strict=True
        )
    ]
    lines = [texts[start : start + rows.shape[1]] for start in range(0, len(texts), rows.shape[1])]
    measure = "bits that differ" if of_bits else "distance of standardised codes"
    explanation = (
        f"Each line is a row, followed by the {NEIGHBOURS} rows of this sample with the nearest codes; the numbers are "
        f"{'bits that differ' if of_bits else 'distances of standardised codes'}. The chart compares the nearest "
        "neighbour of each row with all pairs."
    )
    return SimilarRows(explanation, lines, columns, distance_chart(distances, measure, of_bits=of_bits))


def code_distances(codes: Float[np.ndarray, "rows code_size"], *, of_bits: bool) -> Float[np.ndarray, "rows rows"]:
    """Return the distances of all pairs: bits that differ, or Euclidean distances of standardised codes.

    Example:
        >>> code_distances(np.array([[0.0, 1.0], [1.0, 1.0]]), of_bits=True)
        array([[0., 1.],
               [1., 0.]])
    """
    if of_bits:
        return cdist(codes, codes, "cityblock")
    return cdist(standardised(codes), standardised(codes))


def distance_chart(distances: Float[np.ndarray, "rows rows"], measure: str, *, of_bits: bool = False) -> charts.Chart:
    """Plot the distributions of the distances of nearest neighbours and of all pairs."""
    pairs = distances[np.triu_indices(len(distances), 1)]
    others = distances + np.diag(np.full(len(distances), np.inf))
    nearest = others.min(1)
    largest = float(pairs.max())
    edges = np.arange(-0.5, largest + 1.0) if of_bits else np.linspace(0.0, largest or 1.0, BINS + 1)
    middles = (edges[1:] + edges[:-1]) / 2
    data = []
    for name, values, colour in (("nearest neighbour", nearest, charts.OURS), ("all pairs", pairs, charts.SERIES)):
        share = np.histogram(values, edges)[0] / len(values)
        bars = {
            "type": "bar", "name": name, "x": charts.numbers(middles), "y": charts.numbers(share),
            "marker": {"color": colour}, "opacity": 0.75,
            "hovertemplate": "%{x:.4g}<br>%{y:.1%}<extra>%{fullData.name}</extra>",
        }  # fmt: skip
        data.append(bars)
    return charts.chart(
        data, 280, barmode="overlay", bargap=0.05, xaxis=charts.axis(measure),
        yaxis=charts.axis("fraction of the rows or pairs", tickformat=".0%"),
    )  # fmt: skip


def _distance(distance: float, of_bits: bool) -> str:
    return str(int(distance)) if of_bits else number(float(distance))


def _contents(
    model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " shown"]
) -> tuple[list[str], list[list[str]], list[str]]:
    """Return pictures, or values and the names of their columns."""
    if model.preprocessing_.image_shape is None:
        names = [column.name for column in user_columns(model.preprocessing_)][:SHOWN_COLUMNS]
        values = [[value_text(value) for value in row[: len(names)]] for row in matrix(take(X, rows))]
        return [""] * len(rows), values, names
    pixels = np.concatenate([output.x.numpy() for _, output in read_rows(model, X, rows)])
    shown = downsample(BrightnessScale.of(model.preprocessing_, pixels).show(pixels), MAX_IMAGE_SIDE)
    return [png_uri(picture) for picture in shown], [[]] * len(rows), []
