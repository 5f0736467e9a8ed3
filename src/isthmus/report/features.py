"""What the units of the code stand for, as the page shows it: filters, what each unit adds, the rows that drive it.

The section stays small whatever the code and the images are: `MOST_UNITS` units of `STRONGEST` rows each, pictures of
at most `FILTER_SIDE` and `THUMBNAIL_SIDE` pixels a side. It takes 0.3 MB for digits, 0.6 for small photographs in
colour, and never more than about 1 MB.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from isthmus.errors import counted
from isthmus.estimators.base import BaseAutoencoder
from isthmus.evaluation.features import Activity, activity, effects, first_weights, n_maps, strongest
from isthmus.report.examples import Names, hover_values
from isthmus.report.gathering import Gathered, read_rows, take
from isthmus.report.pictures import THUMBNAIL_SIDE, Screen, filter_pictures, png_uri, sheet_uri, shrunk
from isthmus.report.words import number, percent

MOST_UNITS = 32
"""Units that are shown, the most used first."""

STRONGEST, STRONGEST_TOLD = 8, 3
"""Rows that are shown of a unit: as pictures, and as text, which takes more room."""

FILTER_SIDE = 48
"""Pixels of the longer side of a filter: noise, which weights often look like, packs badly."""

LISTED_COLUMNS = 6
"""Columns of what a unit adds that are named, where rows are no images."""

TOLD_VALUES, EXCERPT = 3, 110
"""Values of a row, and characters of a text, that stand for it."""


@dataclass(frozen=True)
class Driver:
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
    highest: list[Driver] = field(default_factory=list)
    lowest: list[Driver] = field(default_factory=list)


@dataclass(frozen=True)
class FeatureReport:
    """What the page says of the units: sentences, and some of the units."""

    explanation: str
    use: str
    units: list[Unit]


def feature_report(
    model: BaseAutoencoder,
    X: Any,
    gathered: Gathered,
    names: Names,
    spread: Float[np.ndarray, " columns"] | None = None,
) -> FeatureReport:
    """For each of the most used units its filter, its rate, and the rows that drive it.

    Args:
        model: a fitted estimator.
        X: rows as the user has them.
        gathered: their codes.
        names: what to call the rows.
        spread: the standard deviation of each column, which its weight in a filter is multiplied by; None does not.
    """
    seen = activity(torch.from_numpy(gathered.codes).split(4096))
    shown = seen.most_used[:MOST_UNITS]
    pictured = model.preprocessing_.image_shape is not None
    drivers = _drivers(gathered.codes, seen, shown, STRONGEST if pictured else STRONGEST_TOLD)
    told = _told(model, X, gathered, drivers)
    added = effects(model._decode, seen, shown) if len(shown) else np.empty((0, model.preprocessing_.n_columns))
    pictures = _pictures(model, shown, added, spread) if pictured else [[] for _ in shown]
    listed = [[] if pictured else _listed(change, model.preprocessing_.columns) for change in added]
    units = []
    for i, unit in enumerate(shown):
        rows = [[_driver(row, gathered.codes[row, unit], names, told, pictured) for row in end] for end in drivers[i]]
        reach = f"{number(float(seen.smallest[unit]))} to {number(float(seen.largest[unit]))}"
        units.append(
            Unit(f"unit {unit}", int(unit), _rate(seen, int(unit)), reach, pictures[i], listed[i], rows[0], rows[1])
        )
    return FeatureReport(_explanation(model, shown, pictured), _use(seen, len(shown)), units)


def _drivers(
    codes: Float[np.ndarray, "rows units"], seen: Activity, shown: Int[np.ndarray, " shown"], n: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the largest values of each unit, and where it takes both signs half of them of the smallest."""
    found = []
    for unit in shown:
        values = codes[:, unit]
        both = seen.smallest[unit] < 0 < seen.largest[unit]
        falling = seen.largest[unit] <= 0
        highest = strongest(-values if falling else values, -(-n // 2) if both else n)
        lowest = strongest(-values, n // 2) if both and n > 1 else np.arange(0)
        found.append((highest[values[highest] != 0], lowest[values[lowest] < 0]))
    return found


def _told(
    model: BaseAutoencoder, X: Any, gathered: Gathered, drivers: list[tuple[np.ndarray, np.ndarray]]
) -> dict[int, str]:
    """Each row that drives some unit, once: as a picture, or in words."""
    ends = [end for pair in drivers for end in pair]
    rows = np.unique(np.concatenate(ends)) if ends else np.arange(0)
    if model.preprocessing_.image_shape is not None:
        told = _thumbnails(model, X, rows)
    elif model.preprocessing_.source == "text":
        told = [_excerpt(text) for text in take(X, rows)]  # type: ignore[attr-defined]
    else:
        values = hover_values(model, X, rows, gathered.column_mean, gathered.column_variance)
        told = [" · ".join(f"{column} {value}" for column, value, _ in of[:TOLD_VALUES]) for of in values]
    return dict(zip(rows.tolist(), told, strict=True))


def _thumbnails(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"]) -> list[str]:
    """Rows as small pictures, on one scale."""
    told: list[str] = []
    screen = None
    for _, reading in read_rows(model, X, rows):
        screen = screen or Screen.of(model.preprocessing_, reading.x.numpy())
        told += [sheet_uri(pixels) for pixels in shrunk(screen.show(reading.x.numpy()), THUMBNAIL_SIDE)]
    return told


def _excerpt(text: str) -> str:
    """The beginning of a text."""
    words = " ".join(text.split()) or "(empty)"
    return words if len(words) <= EXCERPT else f"{words[: EXCERPT - 1]}…"


def _driver(row: int, value: float, names: Names, told: dict[int, str], pictured: bool) -> Driver:
    name, label, _ = names.of(int(row))
    what = told[int(row)]
    return Driver(name, label, number(float(value)), *((what, "") if pictured else ("", what)))


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
        for pictures, pixels in zip(found, shrunk(images, FILTER_SIDE), strict=True):
            pictures.append((what, sheet_uri(pixels) if _coloured(model) else png_uri(pixels)))
    return found


def code_filters(model: BaseAutoencoder) -> Float[np.ndarray, "code_size columns"] | None:
    """The filters of the code's own units, where one affine map makes them; None for deep and convolutional ones."""
    found = first_weights(model.objective_.encoder)
    if found is None or found[1] or n_maps(model.objective_.encoder) > 1 or len(found[0]) != model.code_size_:
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
    return f"active in {percent(rate)} of the rows" if rate >= 0.001 else f"active in {counted(n_active, 'row')}"


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
        said.append(f"{counted(n_dead, 'unit')} {are} dead: zero in every row.")
    if seen.zero_share > 0:
        said.append(
            f"{percent(seen.zero_share)} of the code is exactly zero: of {n_units:,} units "
            f"{number(round(seen.active_per_row, 1))} are active in a row, on average."
        )
    else:
        said.append("No number of the code is exactly zero: every unit takes part in every row.")
    return " ".join(said)
