"""Decoder section of the report: the decoder of the model, codes to start from, and how to show what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from isthmus.data import tables
from isthmus.data.conditions import ConditionalPreprocessor
from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError, pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.conditions import Conditions
from isthmus.report.charts import numbers
from isthmus.report.code_maps import CodeMap
from isthmus.report.decoder import MAX_POINTS, decoder_record, dequantised, encode, quantise
from isthmus.report.examples import RowInfo, example_rows
from isthmus.report.formatting import value_text
from isthmus.report.pictures import BrightnessScale
from isthmus.report.report_data import ReportData, read_rows, take, user_columns

MAX_SLIDERS = 32
"""Largest number of sliders; of wider codes, the units in which the code differs most from the median."""

MAX_TABLE_COLUMNS = 40
"""Largest number of columns of an array that are shown as a table; more are shown as a line."""

NEIGHBOURS = 5
"""Number of rows whose codes are averaged at a point of a map that has no inverse."""

MAX_CODE_VALUES = 1_000_000
"""Largest number of entries of the codes in the page, one byte each; fewer rows of wide codes are taken."""

MAX_CONDITIONS = 50
"""Largest number of conditions in the list of the page, unless the rows in its list have more."""

_MAP_EXPLANATIONS = {
    "codes": "The axes of the map are the two units, so each point of the map is a code.",
    "unit": "The horizontal axis of the map is the unit; the vertical position changes nothing.",
    "PCA": "The map is linear: the code of a point is the mean code plus the sum of the components times the "
    "coordinates. When a slider moves, the point moves to the projection of the code.",
    "t-SNE": f"The map is a t-SNE, which has no inverse: the code of a point is the mean of the codes of the "
    f"{NEIGHBOURS} nearest rows on the map, weighted by 1 / distance². After a slider has moved, the code has no point "
    "on the map.",
}


@dataclass(frozen=True)
class DecoderSection:
    """The decoder section.

    Attributes:
        data: what the script of the page needs, with JSON types.
        explanations: sentences on the map, the sliders and the precision.
        groups: the names of the rows in the list by group: their position in the list, and their text.
        axes: the names of the axes of the map; empty if they have no meaning.
        pictured: whether the rows are images.
        conditions: the names of the conditions to choose from, of a conditional model.
    """

    data: dict[str, Any]
    explanations: list[str]
    groups: dict[str, list[tuple[int, str]]]
    axes: tuple[str, str]
    pictured: bool
    conditions: list[str] = field(default_factory=list)


def decoder_section(
    model: BaseAutoencoder,
    X: Any,
    report_data: ReportData,
    names: RowInfo,
    code_map: CodeMap,
    map_rows: Int[np.ndarray, " picked"],
) -> DecoderSection | str:
    """Return the decoder section, or the reason why the page has none.

    Args:
        model: a fitted estimator.
        X: the rows of the user.
        report_data: their codes.
        names: names, labels and errors of the rows.
        code_map: the map of the codes.
        map_rows: the rows on the map.

    Returns:
        The section; or a clause such as "its decoder is convolutional".
    """
    if code_map.method == "none":
        return "every row has the same code"
    try:
        record = decoder_record(model)
    except InputError as error:
        return str(error)
    groups = example_rows(model, names.error)
    rows = np.concatenate(list(groups.values()))
    codes = report_data.codes[rows]
    view = _view(model, X, report_data, rows, record)
    conditions = model._conditions(take(X, rows))
    listed = None if conditions is None else _conditions(model.preprocessing_, conditions.numpy())
    data = {
        "record": record,
        "conditions": listed,
        "view": view,
        "units": {"most": MAX_SLIDERS, **unit_ranges(report_data.codes)},
        "examples": _examples(codes, rows, names, map_rows),
        "map": _map_record(code_map, report_data.codes, map_rows),
    }
    explanations = [
        _MAP_EXPLANATIONS[code_map.method], _slider_explanation(report_data.codes.shape[1]),
        _view_explanation(view), _precision(model, record, codes, conditions),
    ]  # fmt: skip
    return DecoderSection(
        data, [text for text in explanations if text], _listed(groups, names), code_map.axes, view["kind"] == "image",
        list(listed["names"]) if listed else [],
    )  # fmt: skip


def unit_ranges(codes: Float[np.ndarray, "rows code_size"]) -> dict[str, list[float | None]]:
    """Return the ends of the slider of each unit and its median.

    The ends are the 1% and the 99% quantile. Where these are equal, as those of a unit that is rarely active, they are
    the smallest and the largest value.

    Args:
        codes: (rows, code_size).

    Example:
        >>> unit_ranges(np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]]))
        {'low': [0.02, 5.0], 'high': [1.98, 5.0], 'median': [1.0, 5.0]}
    """
    low, median, high = np.quantile(codes.astype(np.float64), (0.01, 0.5, 0.99), axis=0)
    rare = low == high
    low, high = np.where(rare, codes.min(0), low), np.where(rare, codes.max(0), high)
    return {"low": numbers(low), "high": numbers(high), "median": numbers(median)}


def _examples(
    codes: Float[np.ndarray, "picked code_size"],
    rows: Int[np.ndarray, " picked"],
    names: RowInfo,
    map_rows: Int[np.ndarray, " mapped"],
) -> dict[str, Any]:
    """Return name, code and, where the row is on the map, position of its point among the points."""
    positions = {int(row): i for i, row in enumerate(map_rows)}
    return {
        "names": [names.rows[row] for row in rows],
        "codes": encode(codes, "<f4"),
        "points": [positions.get(int(row)) for row in rows],
    }


def _listed(groups: dict[str, np.ndarray], names: RowInfo) -> dict[str, list[tuple[int, str]]]:
    """Return the entries of the list of rows by group."""
    listed, start = {}, 0
    for group, rows in groups.items():
        found = [names.of(int(row)) for row in rows]
        texts = [f"{name} ({label})" if label else name for name, label, _ in found]
        listed[group] = list(enumerate(texts, start))
        start += len(rows)
    return listed


def _map_record(
    code_map: CodeMap, codes: Float[np.ndarray, "rows code_size"], map_rows: Int[np.ndarray, " mapped"]
) -> dict[str, Any]:
    """Return the plane of a linear map, or the codes of the rows between which the page interpolates."""
    if code_map.plane is not None:
        plane = code_map.plane
        arrays = {"origin": plane.origin, "directions": plane.directions, "projection": plane.projection}
        return {"method": code_map.method, **{name: encode(array, "<f8") for name, array in arrays.items()}}
    n_rows = max(NEIGHBOURS, min(len(map_rows), MAX_CODE_VALUES // codes.shape[1]))
    taken = np.unique(np.linspace(0, len(map_rows) - 1, n_rows).round().astype(int))
    quantised, scales = quantise(codes[map_rows[taken]].T)
    return {
        "method": code_map.method, "neighbours": NEIGHBOURS, "rows": taken.tolist(),
        "codes": encode(quantised, "i1"), "scales": encode(scales, "<f4"),
    }  # fmt: skip


def _view(
    model: BaseAutoencoder,
    X: Any,
    report_data: ReportData,
    rows: Int[np.ndarray, " picked"],
    record: dict[str, Any],
) -> dict[str, Any]:
    """Describe how a decoded row is shown: as an image, a table, a line, or its largest terms."""
    preprocessing = model.preprocessing_
    shape = preprocessing.image_shape
    if shape is not None and min(shape[1:]) > 1:
        x = np.concatenate([output.x.numpy() for _, output in read_rows(model, X, rows)])
        brightness = BrightnessScale.of(preprocessing, x)
        return {"kind": "image", "shape": list(shape), "low": brightness.low, "high": brightness.high}
    if preprocessing.source in ("sparse", "text"):
        return {"kind": "terms", "names": preprocessing.columns}
    if preprocessing.is_series:
        return {"kind": "line", "channels": len(preprocessing.channels), "names": preprocessing.channels}
    if not preprocessing.table and preprocessing.n_columns > MAX_TABLE_COLUMNS:
        return {"kind": "line", "channels": shape[0] if shape else 1}
    return {"kind": "table", "columns": _columns(preprocessing, report_data, _probability_columns(record))}


def _probability_columns(record: dict[str, Any]) -> set[int]:
    """Return the columns of model space whose mean is the probability of a binary value or of a level."""
    found: set[int] = set()
    for part in record["mean"]:
        if part["function"] in ("sigmoid", "softmax"):
            found |= set(range(record["n_columns"]) if part["columns"] is None else part["columns"])
    return found


def _columns(preprocessing: Preprocessor, report_data: ReportData, probabilities: set[int]) -> list[dict[str, Any]]:
    """Describe each column of the user: name, unit, position in model space, levels, and mean and spread of numbers."""
    centre, deviation = report_data.column_mean, np.sqrt(report_data.column_variance)
    mean, above, below = preprocessing.raw_numbers(np.stack([centre, centre + deviation, centre - deviation]))
    spread = (above - below) / 2
    table = preprocessing.table or [tables.TableColumn(name, "real") for name in preprocessing.columns]
    described = []
    for column, place in zip(table, user_columns(preprocessing), strict=True):
        first = place.members[0]
        name, unit = column.name, column.unit
        if column.dates is not None:
            name, unit = f"{name} (days since {column.dates.first[:10]})", "real"
        entry: dict[str, Any] = {"name": name, "unit": unit, "first": first}
        if column.unit in ("binary", "categorical"):
            entry |= {"levels": _levels(column), "probable": set(place.members) <= probabilities}
        else:
            entry |= {"mean": float(mean[first]), "spread": float(spread[first])}
        described.append(entry)
    return described


def _levels(column: tables.TableColumn) -> list[str]:
    """Return the two values of a binary column, or the levels of a categorical one, as text."""
    hot = np.eye(column.width) if column.unit == "categorical" else np.array([[0.0], [1.0]])
    return [value_text(value) for value in tables.decode_table([column], hot)[column.name]]


def _slider_explanation(code_size: int) -> str:
    ends = "A slider goes from the 1% to the 99% quantile of its unit in the rows of this report."
    if code_size <= MAX_SLIDERS:
        return ends
    return (
        f"{ends} The page shows {MAX_SLIDERS} of {code_size:,} units: those in which the code of the row or of the "
        "point differs most from the median, relative to the range, the largest difference first."
    )


def _view_explanation(view: dict[str, Any]) -> str:
    if view["kind"] == "table":
        return (
            "A bar shows a probability, or the distance of a number from the mean of its column, up to 3 standard "
            "deviations."
        )
    return "The largest values are shown." if view["kind"] == "terms" else ""


def _conditions(preprocessing: Preprocessor, rows: Float[np.ndarray, "picked n_conditions"]) -> dict[str, Any]:
    """Return the conditions to choose from, with their names, and the position of that of each row in the list.

    These are the conditions of the rows, and some of those of training rows.
    """
    assert isinstance(preprocessing, ConditionalPreprocessor)
    own, of_rows = np.unique(rows, axis=0, return_inverse=True)
    others = np.unique(preprocessing.examples, axis=0)
    known = {each.tobytes() for each in own}
    others = others[[each.tobytes() not in known for each in others]][: max(0, MAX_CONDITIONS - len(own))]
    values = np.concatenate([own, others])
    raw = preprocessing.condition.inverse_transform(values)
    names = [", ".join(f"{name} {value_text(value)}" for name, value in row.items()) for _, row in raw.iterrows()]
    order = np.argsort(names)
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    return {
        "names": [names[i] for i in order], "values": encode(values[order], "<f4"), "rows": place[of_rows].tolist(),
        "size": values.shape[1],
    }  # fmt: skip


def _precision(
    model: BaseAutoencoder,
    record: dict[str, Any],
    codes: Float[np.ndarray, "picked code_size"],
    conditions: Conditions,
) -> str:
    """State how far the rounding of the weights changes what is decoded from the codes."""
    inputs = codes if conditions is None else np.concatenate([codes, conditions.numpy()], 1)
    change = np.abs(dequantised(record, inputs) - model._decode(np.asarray(codes, np.float32), conditions))
    n_maps = len(record["quantiles"])
    points = f" At most {MAX_POINTS} points of the distribution restore the values of {pluralize(n_maps, 'column')}."
    return (
        "The weights in this page are rounded to 8-bit integers, with one scale for each unit. For the rows in the "
        f"list, this changes the result by {change.mean():.2g} on average and by at most "
        f"{change.max():.2g}, in model units.{points if n_maps else ''}"
    )
