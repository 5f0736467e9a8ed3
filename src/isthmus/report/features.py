"""Units section of the report: filter, effect, activity and top-activating rows of the units of the code.

The size of the section is limited to `MAX_UNITS` units with `TOP_ROWS_AS_PICTURES` rows each and to pictures of
`FILTER_SIDE` and `THUMBNAIL_SIDE` pixels: 0.3 MB for digits, 0.6 MB for small colour photographs, at most about 1 MB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from isthmus.errors import pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.evaluation.features import (
    Activity,
    activity,
    effects,
    first_layer_weights,
    n_weight_layers,
    top_activating_rows,
)
from isthmus.report.examples import RowInfo, hover_values
from isthmus.report.formatting import number, percent
from isthmus.report.pictures import THUMBNAIL_SIDE, BrightnessScale, downsample, filter_pictures, png_uri, sheet_uri
from isthmus.report.report_data import ReportData, read_rows, take

MAX_UNITS = 32
"""Largest number of units, the most used first."""

TOP_ROWS_AS_PICTURES, TOP_ROWS_AS_TEXT = 8, 3
"""Rows per unit as pictures, and as text, which needs more space."""

FILTER_SIDE = 48
"""Pixels of the longer side of a filter; weights often look like noise, which compresses badly."""

LISTED_COLUMNS = 6
"""Columns of a unit's effect that are listed if rows are not images."""

VALUES_PER_ROW, EXCERPT = 3, 110
"""Number of values that describe a row, and of characters that describe a text."""


@dataclass(frozen=True)
class TopRow:
    """A top-activating row: its name, its label, the value of the unit, and the row as a picture or as text."""

    name: str
    label: str
    value: str
    picture: str = ""
    text: str = ""


@dataclass(frozen=True)
class Unit:
    """One unit of the code.

    Attributes:
        name: such as "unit 0".
        column: its column in the codes.
        rate: its activation rate as text.
        value_range: its smallest and largest value as text.
        pictures: its filter and its effect as pictures.
        listed: the columns with the largest effects, each relative to the largest.
        highest: the rows with its largest values.
        lowest: the rows with its smallest values, if it takes both signs.
    """

    name: str
    column: int
    rate: str
    value_range: str
    pictures: list[tuple[str, str]] = field(default_factory=list)
    listed: list[tuple[str, float]] = field(default_factory=list)
    highest: list[TopRow] = field(default_factory=list)
    lowest: list[TopRow] = field(default_factory=list)


@dataclass(frozen=True)
class FeatureReport:
    """The units section: two texts and the selected units."""

    explanation: str
    usage: str
    units: list[Unit]


def feature_report(
    model: BaseAutoencoder,
    X: Any,
    report_data: ReportData,
    names: RowInfo,
    spread: Float[np.ndarray, " columns"] | None = None,
) -> FeatureReport:
    """Describe the most used units of the code.

    Args:
        model: a fitted estimator.
        X: the rows of the user.
        report_data: their codes.
        names: names, labels and errors of the rows.
        spread: the standard deviation of each column, by which the weights of filters are multiplied; None: by 1.
    """
    seen = activity(torch.from_numpy(report_data.codes).split(4096))
    shown = seen.most_used[:MAX_UNITS]
    pictured = model.preprocessing_.image_shape is not None
    top_rows = _top_rows(report_data.codes, seen, shown, TOP_ROWS_AS_PICTURES if pictured else TOP_ROWS_AS_TEXT)
    descriptions = _row_descriptions(model, X, report_data, top_rows)
    added = effects(model._decode, seen, shown) if len(shown) else np.empty((0, model.preprocessing_.n_columns))
    pictures = _pictures(model, shown, added, spread) if pictured else [[] for _ in shown]
    listed = [[] if pictured else _listed(change, model.preprocessing_.columns) for change in added]
    units = []
    for i, unit in enumerate(shown):
        rows = [
            [_top_row(row, report_data.codes[row, unit], names, descriptions, pictured) for row in end]
            for end in top_rows[i]
        ]
        value_range = f"{number(float(seen.smallest[unit]))} to {number(float(seen.largest[unit]))}"
        rate = _rate(seen, int(unit))
        units.append(Unit(f"unit {unit}", int(unit), rate, value_range, pictures[i], listed[i], rows[0], rows[1]))
    return FeatureReport(_explanation(model, shown, pictured), _usage(seen, len(shown)), units)


def _top_rows(
    codes: Float[np.ndarray, "rows units"], seen: Activity, shown: Int[np.ndarray, " shown"], n: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the rows with the largest values of each unit; if it takes both signs, half of them have the smallest."""
    found = []
    for unit in shown:
        values = codes[:, unit]
        both = seen.smallest[unit] < 0 < seen.largest[unit]
        negative = seen.largest[unit] <= 0
        highest = top_activating_rows(-values if negative else values, -(-n // 2) if both else n)
        lowest = top_activating_rows(-values, n // 2) if both and n > 1 else np.arange(0)
        found.append((highest[values[highest] != 0], lowest[values[lowest] < 0]))
    return found


def _row_descriptions(
    model: BaseAutoencoder, X: Any, report_data: ReportData, top_rows: list[tuple[np.ndarray, np.ndarray]]
) -> dict[int, str]:
    """Describe each top-activating row once, as a picture or as text."""
    ends = [end for pair in top_rows for end in pair]
    rows = np.unique(np.concatenate(ends)) if ends else np.arange(0)
    if model.preprocessing_.image_shape is not None:
        descriptions = _thumbnails(model, X, rows)
    elif model.preprocessing_.source == "text":
        descriptions = [_excerpt(text) for text in model.preprocessing_.compared(take(X, rows))]
    else:
        values = hover_values(model, X, rows, report_data.column_mean, report_data.column_variance)
        descriptions = [" · ".join(f"{column} {value}" for column, value, _ in row[:VALUES_PER_ROW]) for row in values]
    return dict(zip(rows.tolist(), descriptions, strict=True))


def _thumbnails(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"]) -> list[str]:
    """Return rows as thumbnails on one brightness scale."""
    descriptions: list[str] = []
    brightness = None
    for _, output in read_rows(model, X, rows):
        brightness = brightness or BrightnessScale.of(model.preprocessing_, output.x.numpy())
        descriptions += [sheet_uri(pixels) for pixels in downsample(brightness.show(output.x.numpy()), THUMBNAIL_SIDE)]
    return descriptions


def _excerpt(text: str) -> str:
    """Return the beginning of a text."""
    text = " ".join(text.split()) or "(empty)"
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 1]}…"


def _top_row(row: int, value: float, names: RowInfo, descriptions: dict[int, str], pictured: bool) -> TopRow:
    name, label, _ = names.of(int(row))
    what = descriptions[int(row)]
    return TopRow(name, label, number(float(value)), *((what, "") if pictured else ("", what)))


def _pictures(
    model: BaseAutoencoder,
    shown: Int[np.ndarray, " shown"],
    added: Float[np.ndarray, "shown columns"],
    spread: Float[np.ndarray, " columns"] | None,
) -> list[list[tuple[str, str]]]:
    """Return the effect of each unit, after its filter if the encoder has one layer, as pictures."""
    lines = {"effect": added}
    filters = code_filters(model)
    if filters is not None:
        lines = {"filter": filters[shown] * (1 if spread is None else spread), **lines}
    found: list[list[tuple[str, str]]] = [[] for _ in shown]
    for what, weight in lines.items():
        images = filter_pictures(weight.reshape(len(weight), *model.preprocessing_.image_shape))
        for pictures, pixels in zip(found, downsample(images, FILTER_SIDE), strict=True):
            pictures.append((what, sheet_uri(pixels) if _coloured(model) else png_uri(pixels)))
    return found


def code_filters(model: BaseAutoencoder) -> Float[np.ndarray, "code_size columns"] | None:
    """Return the filters of the units of the code if the encoder is one affine layer; else None."""
    found = first_layer_weights(model.coder_.encoder)
    if found is None or found[1] or n_weight_layers(model.coder_.encoder) > 1 or len(found[0]) != model.code_size_:
        return None
    return found[0][:, : model.preprocessing_.n_columns]


def _listed(change: Float[np.ndarray, " columns"], names: list[str]) -> list[tuple[str, float]]:
    """Return the columns with the largest changes, each relative to the largest."""
    largest = float(np.abs(change).max(initial=0)) or 1.0
    order = np.argsort(-np.abs(change), kind="stable")[:LISTED_COLUMNS]
    return [(names[j], float(change[j]) / largest) for j in order if change[j] != 0]


def _rate(seen: Activity, unit: int) -> str:
    """Describe the activation rate of a unit."""
    rate = float(seen.rates[unit])
    n_active = round(rate * seen.n_rows)
    if n_active == seen.n_rows:
        return "active in every row"
    return f"active in {percent(rate)} of the rows" if rate >= 0.001 else f"active in {pluralize(n_active, 'row')}"


def _explanation(model: BaseAutoencoder, shown: Int[np.ndarray, " shown"], pictured: bool) -> str:
    """Explain what is shown of each unit."""
    if not len(shown):
        return "No unit of the code is active in any row."
    filters = "its filter (the weights of the encoder), " if pictured and code_filters(model) is not None else ""
    scale = "Grey is zero" if _coloured(model) else "Blue is negative, red is positive"
    return (
        f"For each unit: {filters}its effect (the change of the mean code’s reconstruction when the unit goes from its "
        "smallest to its largest value), and the rows with its largest values, as well as its smallest values if it "
        f"takes both signs. {scale}."
    )


def _coloured(model: BaseAutoencoder) -> bool:
    shape = model.preprocessing_.image_shape
    return shape is not None and shape[0] == 3


def _usage(seen: Activity, n_shown: int) -> str:
    """Describe how many units are shown, how many are dead, and how many entries of the codes are zero."""
    n_units, n_dead = len(seen.rates), int(seen.dead.sum())
    sentences = []
    if n_shown < n_units - n_dead:
        which = "are active most often" if seen.zero_share > 0 else "vary most"
        sentences.append(f"The {n_shown} of {n_units:,} units that {which} are shown.")
    if n_dead:
        are = "is" if n_dead == 1 else "are"
        sentences.append(f"{pluralize(n_dead, 'unit')} {are} dead (zero in every row).")
    if seen.zero_share > 0:
        sentences.append(
            f"{percent(seen.zero_share)} of the entries of the codes are exactly zero; on average, "
            f"{number(round(seen.active_per_row, 1))} of {n_units:,} units are active per row."
        )
    else:
        sentences.append("Every unit is active in every row.")
    return " ".join(sentences)
