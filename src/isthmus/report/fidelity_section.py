"""Comparison of samples with rows in the samples section of the report, for tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from isthmus.data.tables import TableColumn
from isthmus.errors import pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.evaluation.encoded_tables import LEVEL_UNITS, TableEncoder, as_frame
from isthmus.evaluation.fidelity import MAX_ROWS, MIN_ROWS, Fidelity, fidelity, no_fidelity, rows_and_samples
from isthmus.report.formatting import number, percent, value_text
from isthmus.report.report_data import sample

MARGINALS = 12
"""Largest number of marginals; columns with the largest distance come first."""

BINS = 20

SHOWN_LEVELS = 10
"""Levels of a column that have a bar of their own, the most frequent ones."""

NAMED_LEVELS = 4
"""Largest number of bars that are all named below the picture."""

OUTSIDE = 0.005
"""Fraction of the values beyond each end of a histogram; they are counted in its outer bars."""


@dataclass(frozen=True)
class Bars:
    """One bar of rows and one of samples, in percent of the picture, with a tooltip."""

    x: float
    width: float
    rows: float
    samples: float
    text: str


@dataclass(frozen=True)
class Marginal:
    """The picture of one column: its bars and the texts below them."""

    name: str
    remark: str
    bars: list[Bars]
    ends: list[str]


@dataclass(frozen=True)
class FidelitySection:
    """The texts, pictures and pairs of the comparison.

    Attributes:
        compared: the numbers of rows and samples.
        readings: (name, value, sentence) of marginals, associations, copying and detection.
        shown: the columns that have a picture.
        marginals: their pictures.
        pairs: (columns, measure, in rows, in samples, difference) of the pairs that differ the most.
    """

    compared: str
    readings: list[tuple[str, str, str]]
    shown: str
    marginals: list[Marginal]
    pairs: list[tuple[str, str, str, str, str]]


def fidelity_section(model: BaseAutoencoder, X: Any, n_rows: int, random_state: int) -> FidelitySection | None:
    """Compare samples of the model with the rows `X`; None if they cannot be compared or there are too few rows."""
    if no_fidelity(model) or n_rows < MIN_ROWS:
        return None
    rows, samples, columns = rows_and_samples(model, X, random_state=random_state)
    found = fidelity(rows, samples, columns=columns, random_state=random_state)
    frames = {"the rows": as_frame("the rows", rows), "the samples": as_frame("the samples", samples)}
    encoder = TableEncoder.of(frames["the rows"], columns)
    in_rows, in_samples = (
        encoder.values(name, frame.iloc[sample(len(frame), MAX_ROWS, random_state)]) for name, frame in frames.items()
    )
    places = {name: j for j, name in enumerate(encoder.names)}
    worst = found.worst_columns[:MARGINALS]
    return FidelitySection(
        compared=f"{pluralize(found.n_compared, 'sample')} and as many rows of this report; write it on the training "
        "rows to find copies of those",
        readings=_readings(found),
        shown=_shown(len(worst), len(found.columns)),
        marginals=[
            _marginal(encoder.columns[j], one.distance, in_rows[:, j], in_samples[:, j])
            for one, j in ((one, places[one.name]) for one in worst)
        ],
        pairs=[
            (" and ".join(pair.columns), pair.measure, f"{pair.in_rows:.2f}", f"{pair.in_samples:.2f}",
             f"{pair.difference:.2f}")
            for pair in found.pairs
        ],
    )  # fmt: skip


def _readings(found: Fidelity) -> list[tuple[str, str, str]]:
    sentences = found.sentences
    return [
        ("Distance of marginals", f"{found.marginal_distance:.3f}", sentences["marginals"]),
        ("Difference of associations", f"{found.association_difference:.3f}", sentences["associations"]),
        ("Close to a row", f"{found.close_rate:.1%}", sentences["copying"]),
        ("AUC of a classifier", f"{found.auc:.3f}", sentences["detection"]),
    ]


def _shown(n: int, n_columns: int) -> str:
    order = "the largest distance first"
    return order if n == n_columns else f"the {n} of {n_columns} columns with the largest distance"


def _marginal(
    column: TableColumn, distance: float, rows: Float[np.ndarray, " rows"], samples: Float[np.ndarray, " samples"]
) -> Marginal:
    """Return the picture of a column; missing entries are left out, and counted in the remark."""
    missing = [float(np.isnan(side).mean()) for side in (rows, samples)]
    remark = f"distance {distance:.3f}"
    if any(missing):
        remark += f"; missing {percent(missing[0])} and {percent(missing[1])}"
    rows, samples = rows[~np.isnan(rows)], samples[~np.isnan(samples)]
    has_levels = column.unit in LEVEL_UNITS
    names, sides, ends = (_by_level if has_levels else _by_bin)(column, rows, samples)
    shares = [side / max(1, side.sum()) for side in sides]
    tallest = max(1e-12, *(float(share.max(initial=0)) for share in shares))
    width = 100 / max(1, len(names))
    bars = [
        Bars(i * width + 0.05 * width, 0.9 * width, 100 * float(a) / tallest, 100 * float(b) / tallest,
             f"{name}: {percent(float(a))} of rows, {percent(float(b))} of samples")
        for i, (name, a, b) in enumerate(zip(names, *shares, strict=True))
    ]  # fmt: skip
    return Marginal(column.name, remark, bars, ends)


def _by_level(
    column: TableColumn, rows: Float[np.ndarray, " rows"], samples: Float[np.ndarray, " samples"]
) -> tuple[list[str], list[np.ndarray], list[str]]:
    """Return the names of the bars, their counts in rows and samples, and the texts below; rare levels share a bar."""
    n = len(column.levels) + 1
    counts = np.stack([np.bincount(side.astype(int), minlength=n) for side in (rows, samples)])
    order = np.arange(n - 1)
    if n - 1 > SHOWN_LEVELS:
        order = np.argsort(-counts[0, : n - 1], kind="stable")[: SHOWN_LEVELS - 1]
    names = [value_text(column.levels[level]) for level in order]
    shown, rest = counts[:, order], counts.sum(1) - counts[:, order].sum(1)
    if rest.any():
        names, shown = [*names, "others"], np.column_stack([shown, rest])
    ends = names if len(names) <= NAMED_LEVELS else [names[0], names[-1]]
    return names, [shown[0], shown[1]], ends


def _by_bin(
    _: TableColumn, rows: Float[np.ndarray, " rows"], samples: Float[np.ndarray, " samples"]
) -> tuple[list[str], list[np.ndarray], list[str]]:
    """Return the names of the bins, their counts in rows and samples, and the ends of the axis."""
    sides = [side for side in (rows, samples) if len(side)]
    if not sides:
        return [], [np.zeros(0), np.zeros(0)], []
    low = float(min(np.quantile(side, OUTSIDE) for side in sides))
    high = float(max(np.quantile(side, 1 - OUTSIDE) for side in sides))
    if high - low < BINS and all((side == np.rint(side)).all() for side in sides):
        edges = np.arange(np.floor(low), np.ceil(high) + 2) - 0.5
        names = [number(float(edge) + 0.5) for edge in edges[:-1]]
        ends = [names[0], names[-1]]
    else:
        # values that differ only by rounding need an artificial range
        low, high = (low, high) if high - low > 1e-9 * max(1e-30, abs(low), abs(high)) else (low - 0.5, high + 0.5)
        edges = np.linspace(low, high, BINS + 1)
        texts = [number(float(edge)) for edge in edges]
        names, ends = [f"{texts[i]} to {texts[i + 1]}" for i in range(BINS)], [texts[0], texts[-1]]
    counts = [np.histogram(np.clip(side, edges[0], edges[-1]), edges)[0] for side in (rows, samples)]
    return names, counts, list(dict.fromkeys(ends))
