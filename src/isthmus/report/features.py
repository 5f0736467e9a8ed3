"""What the units of the code stand for, as the page shows it: filters, what each unit adds, the rows that drive it.

The section stays small whatever the code and the images are: `MAX_UNITS` units of `TOP_ROWS_AS_PICTURES` rows each,
pictures of at most `FILTER_SIDE` and `THUMBNAIL_SIDE` pixels a side. It takes 0.3 MB for digits, 0.6 for small
photographs in colour, and never more than about 1 MB.
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
"""Units that are shown, the most used first."""

TOP_ROWS_AS_PICTURES, TOP_ROWS_AS_TEXT = 8, 3
"""Rows that are shown of a unit: as pictures, and as text, which takes more room."""

FILTER_SIDE = 48
"""Pixels of the longer side of a filter: noise, which weights often look like, packs badly."""

LISTED_COLUMNS = 6
"""Columns of what a unit adds that are named, where rows are no images."""

VALUES_PER_ROW, EXCERPT = 3, 110
"""Values of a row, and characters of a text, that stand for it."""


@dataclass(frozen=True)
class TopRow:
    """A row that drives a unit: its name, its label, the unit's value, and the row as a picture or as words."""

    name: str
    label: str
    value: str
    picture: str = ""
    words: str = ""


@dataclass(frozen=True)
class Unit:
    """One unit of the code.

    Attributes:
        name: as the page has it, such as "unit 0".
        column: of the codes, counted from 0 as everywhere.
        rate: in how many rows it is active, in words.
        reach: its smallest and largest value, in words.
        pictures: what it looks for and what it adds, each as a picture.
        listed: the columns that it changes most, each with its share of the largest change.
        highest: the rows of its largest values.
        lowest: those of its smallest, where it takes both signs.
    """

    name: str
    column: int
    rate: str
    reach: str
    pictures: list[tuple[str, str]] = field(default_factory=list)
    listed: list[tuple[str, float]] = field(default_factory=list)
    highest: list[TopRow] = field(default_factory=list)
    lowest: list[TopRow] = field(default_factory=list)


@dataclass(frozen=True)
class FeatureReport:
    """What the page says of the units: sentences, and some of the units."""

    explanation: str
    use: str
    units: list[Unit]


def feature_report(
    model: BaseAutoencoder,
    X: Any,
    report_data: ReportData,
    names: RowInfo,
    spread: Float[np.ndarray, " columns"] | None = None,
) -> FeatureReport:
    """For each of the most used units its filter, its rate, and the rows that drive it.

    Args:
        model: a fitted estimator.
        X: rows as the user has them.
        report_data: their codes.
        names: what to call the rows.
        spread: the standard deviation of each column, which its weight in a filter is multiplied by; None does not.
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
        reach = f"{number(float(seen.smallest[unit]))} to {number(float(seen.largest[unit]))}"
        units.append(
            Unit(f"unit {unit}", int(unit), _rate(seen, int(unit)), reach, pictures[i], listed[i], rows[0], rows[1])
        )
    return FeatureReport(_explanation(model, shown, pictured), _use(seen, len(shown)), units)


def _top_rows(
    codes: Float[np.ndarray, "rows units"], seen: Activity, shown: Int[np.ndarray, " shown"], n: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the largest values of each unit, and where it takes both signs half of them of the smallest."""
    found = []
    for unit in shown:
        values = codes[:, unit]
        both = seen.smallest[unit] < 0 < seen.largest[unit]
        falling = seen.largest[unit] <= 0
        highest = top_activating_rows(-values if falling else values, -(-n // 2) if both else n)
        lowest = top_activating_rows(-values, n // 2) if both and n > 1 else np.arange(0)
        found.append((highest[values[highest] != 0], lowest[values[lowest] < 0]))
    return found


def _row_descriptions(
    model: BaseAutoencoder, X: Any, report_data: ReportData, top_rows: list[tuple[np.ndarray, np.ndarray]]
) -> dict[int, str]:
    """Each row that drives some unit, once: as a picture, or in words."""
    ends = [end for pair in top_rows for end in pair]
    rows = np.unique(np.concatenate(ends)) if ends else np.arange(0)
    if model.preprocessing_.image_shape is not None:
        descriptions = _thumbnails(model, X, rows)
    elif model.preprocessing_.source == "text":
        descriptions = [_excerpt(text) for text in take(X, rows)]  # type: ignore[attr-defined]
    else:
        values = hover_values(model, X, rows, report_data.column_mean, report_data.column_variance)
        descriptions = [" · ".join(f"{column} {value}" for column, value, _ in of[:VALUES_PER_ROW]) for of in values]
    return dict(zip(rows.tolist(), descriptions, strict=True))


def _thumbnails(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"]) -> list[str]:
    """Rows as small pictures, on one scale."""
    descriptions: list[str] = []
    brightness = None
    for _, output in read_rows(model, X, rows):
        brightness = brightness or BrightnessScale.of(model.preprocessing_, output.x.numpy())
        descriptions += [sheet_uri(pixels) for pixels in downsample(brightness.show(output.x.numpy()), THUMBNAIL_SIDE)]
    return descriptions


def _excerpt(text: str) -> str:
    """The beginning of a text."""
    words = " ".join(text.split()) or "(empty)"
    return words if len(words) <= EXCERPT else f"{words[: EXCERPT - 1]}…"


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
    """What each unit adds, and before it what it looks for where the encoder is one layer."""
    lines = {"adds": added}
    filters = code_filters(model)
    if filters is not None:
        lines = {"looks for": filters[shown] * (1 if spread is None else spread), **lines}
    found: list[list[tuple[str, str]]] = [[] for _ in shown]
    for what, weight in lines.items():
        images = filter_pictures(weight.reshape(len(weight), *model.preprocessing_.image_shape))
        for pictures, pixels in zip(found, downsample(images, FILTER_SIDE), strict=True):
            pictures.append((what, sheet_uri(pixels) if _coloured(model) else png_uri(pixels)))
    return found


def code_filters(model: BaseAutoencoder) -> Float[np.ndarray, "code_size columns"] | None:
    """The filters of the code's own units, where one affine map makes them; None for deep and convolutional ones."""
    found = first_layer_weights(model.objective_.encoder)
    if found is None or found[1] or n_weight_layers(model.objective_.encoder) > 1 or len(found[0]) != model.code_size_:
        return None
    return found[0][:, : model.preprocessing_.n_columns]


def _listed(change: Float[np.ndarray, " columns"], names: list[str]) -> list[tuple[str, float]]:
    """The columns that change most, each with its share of the largest change."""
    largest = float(np.abs(change).max(initial=0)) or 1.0
    order = np.argsort(-np.abs(change), kind="stable")[:LISTED_COLUMNS]
    return [(names[j], float(change[j]) / largest) for j in order if change[j] != 0]


def _rate(seen: Activity, unit: int) -> str:
    """In how many rows a unit is active."""
    rate = float(seen.rates[unit])
    n_active = round(rate * seen.n_rows)
    if n_active == seen.n_rows:
        return "active in every row"
    return f"active in {percent(rate)} of the rows" if rate >= 0.001 else f"active in {pluralize(n_active, 'row')}"


def _explanation(model: BaseAutoencoder, shown: Int[np.ndarray, " shown"], pictured: bool) -> str:
    """How the units are to be read."""
    if not len(shown):
        return "No unit of the code is ever active: there is nothing to show."
    looks = "what it looks for (its weights), " if pictured and code_filters(model) is not None else ""
    scale = "In colour, where grey is no change" if _coloured(model) else "Blue is negative, red positive"
    return (
        f"Each unit of the code: {looks}what it adds (how the reconstruction of the average code changes from the "
        f"unit’s smallest value to its largest), and the rows that drive it furthest. {scale}."
    )


def _coloured(model: BaseAutoencoder) -> bool:
    shape = model.preprocessing_.image_shape
    return shape is not None and shape[0] == 3


def _use(seen: Activity, n_shown: int) -> str:
    """How many units are shown, how many are dead, and how much of the code is zero."""
    n_units, n_dead = len(seen.rates), int(seen.dead.sum())
    said = []
    if n_shown < n_units - n_dead:
        which = "are active most often" if seen.zero_share > 0 else "vary most"
        said.append(f"Here are the {n_shown} of {n_units:,} units that {which}.")
    if n_dead:
        are = "is" if n_dead == 1 else "are"
        said.append(f"{pluralize(n_dead, 'unit')} {are} dead: zero in every row.")
    if seen.zero_share > 0:
        said.append(
            f"{percent(seen.zero_share)} of the code is exactly zero: of {n_units:,} units "
            f"{number(round(seen.active_per_row, 1))} are active in a row, on average."
        )
    else:
        said.append("No number of the code is exactly zero: every unit takes part in every row.")
    return " ".join(said)
