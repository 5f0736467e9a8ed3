"""The first layer's weights, and the network in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import nn

from isthmus.estimators.base import BaseAutoencoder
from isthmus.report.charts import Chart, weight_chart
from isthmus.report.pictures import LARGEST_SIDE, filter_pictures, png_uri, shrunk

MOST_FILTERS = 64
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


def first_layer(model: BaseAutoencoder, spread: Float[np.ndarray, " columns"]) -> Filters | None:
    """What the encoder's first map looks for; None where it is neither affine nor a convolution.

    A weight counts as much as its column varies: that of a pixel which is always black is what it was drawn as.

    Args:
        model: a fitted estimator.
        spread: the standard deviation of each column of model space.
    """
    found = first_weights(model)
    if found is None:
        return None
    weight, is_kernel = found
    weight = weight if is_kernel else weight * spread
    strongest = np.argsort(-np.linalg.norm(weight.reshape(len(weight), -1), axis=1), kind="stable")
    image_shape = model.preprocessing_.image_shape
    if is_kernel or image_shape is not None:
        shape = weight.shape[1:] if is_kernel else image_shape
        return _pictured(weight.reshape(len(weight), *shape), strongest[:MOST_FILTERS], is_kernel)  # type: ignore[misc]
    return _by_column(weight, strongest, model.preprocessing_.columns)


def first_weights(model: BaseAutoencoder) -> tuple[np.ndarray, bool] | None:
    """The weights of the encoder's first map, (units, ...), and whether they are kernels of a convolution."""
    for layer in model.objective_.encoder.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            return layer.weight.detach().cpu().double().numpy(), isinstance(layer, nn.Conv2d)
    return None


def _pictured(
    weight: Float[np.ndarray, "units channels height width"], strongest: np.ndarray, is_kernel: bool
) -> Filters:
    pictures = shrunk(filter_pictures(weight[strongest]), LARGEST_SIDE)
    what = "kernels" if is_kernel else "units"
    count = (
        f"all {len(weight)}" if len(strongest) == len(weight) else f"the {len(strongest)} strongest of {len(weight)}"
    )
    colours = (
        "In colour, where grey is zero"
        if weight.shape[1] == 3
        else "Blue is negative, white zero, red positive" + (", averaged over channels" if weight.shape[1] > 1 else "")
    )
    return Filters(
        f"{'Weights' if is_kernel else 'Weight times standard deviation of each pixel'}, for {count} {what} of the "
        f"first layer, the strongest first. {colours}; each by its own largest.",
        pictures=[(f"unit {unit + 1}", png_uri(p)) for unit, p in zip(strongest, pictures, strict=True)],
    )


def _by_column(weight: Float[np.ndarray, "units columns"], strongest: np.ndarray, names: list[str]) -> Filters:
    """A heat map where it can be read, else the strongest columns of the strongest units."""
    if len(names) <= HEAT_MAP_COLUMNS:
        units = strongest[:HEAT_MAP_UNITS]
        chart = weight_chart(weight[units], units.tolist(), names)
        count = "Each unit" if len(units) == len(weight) else f"The {len(units)} strongest of {len(weight)} units"
        said = f"{count} of the first layer: its weight times standard deviation of each column of model space."
        return Filters(said, chart=chart)
    listed = []
    for unit in strongest[:LISTED_UNITS]:
        order = np.argsort(-np.abs(weight[unit]), kind="stable")[:LISTED_COLUMNS]
        largest = float(np.abs(weight[unit]).max()) or 1.0
        listed.append((f"unit {unit + 1}", [(names[j], float(weight[unit, j]) / largest) for j in order]))
    return Filters(
        f"The columns to which the {len(listed)} strongest of {len(weight)} units of the first layer react the most "
        "(weight times standard deviation): red positive, blue negative.",
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
