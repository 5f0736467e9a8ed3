"""The first layer's weights, and the network in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from isthmus.estimators.base import BaseAutoencoder
from isthmus.evaluation.features import first_layer_weights
from isthmus.report.charts import Chart, weight_chart
from isthmus.report.pictures import MAX_IMAGE_SIDE, downsample, filter_pictures, png_uri

MAX_FILTERS = 64
HEAT_MAP_COLUMNS, HEAT_MAP_UNITS = 40, 32
LISTED_UNITS, LISTED_COLUMNS = 12, 8


@dataclass(frozen=True)
class Filters:
    """What the units of the first layer look for: pictures, a heat map, or the strongest columns of some units.

    Attributes:
        explanation: a sentence for the reader.
        pictures: a name and a picture a unit.
        chart: a heat map of units by columns.
        listed: a unit's name and its columns, each with its weight as a share of the unit's largest.
    """

    explanation: str
    pictures: list[tuple[str, str]] = field(default_factory=list)
    chart: Chart | None = None
    listed: list[tuple[str, list[tuple[str, float]]]] = field(default_factory=list)


def first_layer(model: BaseAutoencoder, spread: Float[np.ndarray, " columns"] | None) -> Filters | None:
    """What the encoder's first map looks for; None where it is neither affine nor a convolution.

    A weight counts as much as its column varies: that of a pixel which is always black is what it was drawn as. An
    encoder that is told which entries are missing has weights on that too, which are left out.

    Args:
        model: a fitted estimator.
        spread: the standard deviation of each column of model space; None where it is not known.
    """
    found = first_layer_weights(model.objective_.encoder)
    if found is None:
        return None
    weight, is_kernel = found
    weight = weight if is_kernel else weight[:, : model.preprocessing_.n_columns]
    what = "weights"
    if spread is not None and not is_kernel:
        weight, what = weight * spread, "weights times standard deviations of the columns"
    strongest = np.argsort(-np.linalg.norm(weight.reshape(len(weight), -1), axis=1), kind="stable")
    image_shape = weight.shape[1:] if is_kernel else model.preprocessing_.image_shape
    if image_shape is not None:
        seen = "kernels" if is_kernel else "units"
        return _pictured(weight.reshape(len(weight), *image_shape), strongest[:MAX_FILTERS], f"{what} of", seen)
    return _by_column(weight, strongest, what, model.preprocessing_.columns)


def _pictured(
    weight: Float[np.ndarray, "units channels height width"], strongest: np.ndarray, what: str, units: str
) -> Filters:
    pictures = downsample(filter_pictures(weight[strongest]), MAX_IMAGE_SIDE)
    colours = "Blue is negative, white zero, red positive"
    if weight.shape[1] == 3:
        colours = "In colour, where grey is zero"
    elif weight.shape[1] > 1:
        colours += ", averaged over channels"
    return Filters(
        f"The {what} {_count(strongest, weight)} {units} of the first layer, the strongest first. {colours}; each by "
        "its own largest.",
        pictures=[(f"unit {unit}", png_uri(p)) for unit, p in zip(strongest, pictures, strict=True)],
    )


def _count(shown: np.ndarray, weight: np.ndarray) -> str:
    return f"all {len(weight)}" if len(shown) == len(weight) else f"the {len(shown)} strongest of {len(weight)}"


def _by_column(
    weight: Float[np.ndarray, "units columns"], strongest: np.ndarray, what: str, names: list[str]
) -> Filters:
    """A heat map where it can be read, else the strongest columns of the strongest units."""
    if len(names) <= HEAT_MAP_COLUMNS:
        units = strongest[:HEAT_MAP_UNITS]
        chart = weight_chart(weight[units], units.tolist(), names)
        return Filters(f"The {what}, for {_count(units, weight)} units of the first layer.", chart=chart)
    units = strongest[:LISTED_UNITS]
    listed = []
    for unit in units:
        order = np.argsort(-np.abs(weight[unit]), kind="stable")[:LISTED_COLUMNS]
        largest = float(np.abs(weight[unit]).max()) or 1.0
        listed.append((f"unit {unit}", [(names[j], float(weight[unit, j]) / largest) for j in order]))
    return Filters(
        f"The columns that move {_count(units, weight)} units of the first layer the most, by their {what}: red "
        "positive, blue negative.",
        listed=listed,
    )


def network_in_words(model: BaseAutoencoder) -> str:
    """Columns, hidden layers and code, with arrows between them.

    Example:
        >>> from types import SimpleNamespace
        >>> model = SimpleNamespace(preprocessing_=SimpleNamespace(n_columns=784), hidden_sizes_=(64, 32), code_size_=2)
        >>> network_in_words(model)
        '784 → 64 → 32 → 2 → 32 → 64 → 784'
    """
    hidden: Any = getattr(model, "hidden_sizes_", None) or ()
    columns, code = model.preprocessing_.n_columns, model.code_size_
    return " → ".join(map(str, (columns, *hidden, code, *reversed(hidden), columns)))
