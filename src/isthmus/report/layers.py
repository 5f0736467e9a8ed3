"""Weights of the first layer, and the layer sizes of the network."""

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
    """Weights of the units of the first layer: as pictures, as a heat map, or as a list of the largest weights.

    Attributes:
        explanation: a sentence for the report.
        pictures: the name and the picture of each unit.
        chart: a heat map of units by columns.
        listed: the name of each unit and its columns, each with its weight relative to the largest weight of the unit.
    """

    explanation: str
    pictures: list[tuple[str, str]] = field(default_factory=list)
    chart: Chart | None = None
    listed: list[tuple[str, list[tuple[str, float]]]] = field(default_factory=list)


def first_layer(model: BaseAutoencoder, spread: Float[np.ndarray, " columns"] | None) -> Filters | None:
    """Return the weights of the encoder's first layer; None if it is neither affine nor a convolution.

    Weights are multiplied by the standard deviation of their column, because a weight of a constant column keeps its
    random initial value. The weights on the mask of a mask-aware encoder are excluded.

    Args:
        model: a fitted estimator.
        spread: the standard deviation of each column of model space; None if it is not known.
    """
    found = first_layer_weights(model.coder_.encoder)
    if found is None:
        return None
    weight, is_kernel = found
    inputs = model.preprocessing_.inputs
    weight = as_planes(weight) if is_kernel else weight[:, : inputs.n_columns]
    what = "middle slices of the weights" if is_kernel and found[0].ndim == 5 else "weights"
    if spread is not None and not is_kernel and inputs is model.preprocessing_:  # not of a model that decodes a target
        weight, what = weight * spread, "weights (times the standard deviation of each column)"
    strongest = np.argsort(-np.linalg.norm(weight.reshape(len(weight), -1), axis=1), kind="stable")
    image_shape = weight.shape[1:] if is_kernel else inputs.image_shape
    if image_shape is not None:
        seen = "kernels" if is_kernel else "units"
        return _pictured(weight.reshape(len(weight), *image_shape), strongest[:MAX_FILTERS], f"{what} of", seen)
    return _by_column(weight, strongest, what, inputs.columns)


def as_planes(kernels: Float[np.ndarray, "maps channels *kernel"]) -> Float[np.ndarray, "maps channels height width"]:
    """Return kernels as pictures: those along one axis with the height 1, and the middle slices of those of volumes.

    Example:
        >>> as_planes(np.zeros((4, 1, 7))).shape, as_planes(np.zeros((4, 1, 3, 5, 7))).shape
        ((4, 1, 1, 7), (4, 1, 5, 7))
    """
    if kernels.ndim == 3:
        return kernels[:, :, None]
    return kernels[:, :, kernels.shape[2] // 2] if kernels.ndim == 5 else kernels


def _pictured(
    weight: Float[np.ndarray, "units channels height width"], strongest: np.ndarray, what: str, units: str
) -> Filters:
    pictures = downsample(filter_pictures(weight[strongest]), MAX_IMAGE_SIDE)
    colours = "Blue is negative, white is zero, red is positive"
    if weight.shape[1] == 3:
        colours = "The three channels are shown as colours, and grey is zero"
    elif weight.shape[1] > 1:
        colours += "; channels are averaged"
    return Filters(
        f"The {what} {_count(strongest, weight)} {units} of the first layer, the largest norm first. {colours}. Each "
        "picture has its own scale.",
        pictures=[(f"unit {unit}", png_uri(p)) for unit, p in zip(strongest, pictures, strict=True)],
    )


def _count(shown: np.ndarray, weight: np.ndarray) -> str:
    return f"all {len(weight)}" if len(shown) == len(weight) else f"{len(shown)} of the {len(weight)}"


def _by_column(
    weight: Float[np.ndarray, "units columns"], strongest: np.ndarray, what: str, names: list[str]
) -> Filters:
    """Return a heat map if there are few columns, else the largest weights of the units with the largest norms."""
    if len(names) <= HEAT_MAP_COLUMNS:
        units = strongest[:HEAT_MAP_UNITS]
        chart = weight_chart(weight[units], units.tolist(), names)
        return Filters(f"The {what} for {_count(units, weight)} units of the first layer.", chart=chart)
    units = strongest[:LISTED_UNITS]
    listed = []
    for unit in units:
        order = np.argsort(-np.abs(weight[unit]), kind="stable")[:LISTED_COLUMNS]
        largest = float(np.abs(weight[unit]).max()) or 1.0
        listed.append((f"unit {unit}", [(names[j], float(weight[unit, j]) / largest) for j in order]))
    return Filters(
        f"The largest {what} for {_count(units, weight)} units of the first layer. Red is positive, blue is negative.",
        listed=listed,
    )


def layer_sizes(model: BaseAutoencoder) -> str:
    """Format the sizes of inputs, hidden layers and code.

    Example:
        >>> from types import SimpleNamespace
        >>> preprocessing = SimpleNamespace(n_columns=3, inputs=SimpleNamespace(n_columns=784))
        >>> model = SimpleNamespace(preprocessing_=preprocessing, hidden_sizes_=(64, 32), code_size_=2)
        >>> layer_sizes(model)
        '784 → 64 → 32 → 2 → 32 → 64 → 3'
    """
    hidden: Any = getattr(model, "hidden_sizes_", None) or ()
    preprocessing, code = model.preprocessing_, model.code_size_
    sizes = (preprocessing.inputs.n_columns, *hidden, code, *reversed(hidden), preprocessing.n_columns)
    return " → ".join(map(str, sizes))
