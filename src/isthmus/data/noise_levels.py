"""The standard deviation of the noise of images and series, estimated from neighbouring values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from isthmus.data import layouts
from isthmus.errors import InputError

MEDIAN_OF_NORMAL = 0.6744897501960817
"""The median of |e| for a standard normal e."""

MAX_VALUES = 2**22
"""Values that the estimate reads, of evenly spaced rows."""


def noise_level(X: Any, layout: str = "auto") -> Float[np.ndarray, " channels"]:
    """Return the standard deviation of Gaussian noise in images or series, by channel, in the units of X.

        s = median |D x| / (0.6745 ||D||)

    D has the weights (1, -2, 1) along the steps of a series; of an image along height and width, one after the other.
    It removes all that is linear in a neighbourhood, and the median is that of all rows together: edges and lines are
    in the minority. Where they are not, as in small drawings with little noise, the estimate is too large. Values that
    were clipped to a range make it too small. Missing values are left out.

    Args:
        X: images (n, h, w), (n, h, w, c), (n, c, h, w), or series (n, t, c).
        layout: as in the estimators.

    Raises:
        InputError: rows that are neither images nor series; sides or series of fewer than three positions.

    Source: Donoho & Johnstone, Ideal spatial adaptation by wavelet shrinkage, Biometrika 81 (1994), section 4.2, for
    the median of fine differences; Immerkaer, Fast noise variance estimation, Computer Vision and Image Understanding
    64 (1996), for the weights.

    Example:
        >>> import numpy as np
        >>> t = np.linspace(0, 6, 200)
        >>> X = np.sin(t + np.arange(20)[:, None])[..., None] + np.random.default_rng(0).normal(0, 0.2, (20, 200, 1))
        >>> noise_level(X).round(2).tolist()
        [0.2]
    """
    array = X if hasattr(X, "shape") else np.asarray(X)
    layout = layouts.resolved(array, layout)
    every = max(1, math.ceil(math.prod(array.shape) / MAX_VALUES))
    rows = np.asarray(array[::every], np.float64)
    if layouts.map_shape(layout, rows.shape[1:]) is None:
        raise InputError(
            f"a noise level is estimated from neighbouring pixels or steps, and the rows are "
            f"{layouts.described(layout, rows.shape[1:])}; give the level"
        )
    maps = rows if layout == "nchw" else rows[:, None] if layout == "nhw" else np.moveaxis(rows, -1, 1)
    return level_of_maps(maps)


def level_of_maps(maps: Float[np.ndarray, "n channels *positions"]) -> Float[np.ndarray, " channels"]:
    """Return the noise level of each channel of images (n, c, h, w) or series (n, c, t).

    Raises:
        InputError: fewer than three positions along an axis; a channel without any observed value and its neighbours.
    """
    axes = range(2, maps.ndim)
    if min(maps.shape[2:]) < 3:
        raise InputError(
            f"a noise level is estimated from three neighbours along each axis, and the rows have "
            f"{' x '.join(map(str, maps.shape[2:]))} positions; give the level"
        )
    differences = maps
    for axis in axes:
        differences = np.diff(differences, 2, axis=axis) / math.sqrt(6)
    sizes = np.abs(np.moveaxis(differences, 1, 0).reshape(maps.shape[1], -1))
    present = [each[~np.isnan(each)] for each in sizes]
    if not all(map(len, present)):
        raise InputError("no value has all its neighbours observed, and the noise level cannot be estimated; give it")
    return np.array([np.median(each) for each in present]) / MEDIAN_OF_NORMAL
