"""Layouts of arrays: what the axes of an array stand for, by their names and in words.

    name    an array of shape    a row is
    table   (n, ...)             its values, each a column of its own scale
    nhw     (n, h, w)            an image of one channel
    nhwc    (n, h, w, c)         an image, channels last
    nchw    (n, c, h, w)         an image, channels first
    ntc     (n, t, c)            a series of t steps of c channels

`resolved` states the rule of "auto". An array (n, d) of flattened images has the layout "flat", which "auto" alone
takes.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from isthmus.errors import InputError, pluralize

LAYOUTS = ("auto", "table", "nhw", "nhwc", "nchw", "ntc")

_AXES = {
    "nhw": "(n, height, width)",
    "nhwc": "(n, height, width, channels)",
    "nchw": "(n, channels, height, width)",
    "ntc": "(n, steps, channels)",
}

MOST_CHANNELS = 4
"""Channels of grey and colour images, with or without opacity; images of more are measurements in several bands."""

SMALLEST_SIDE = 8
"""Shortest side of images that are found by their values: of flattened ones, and in arrays (n, a, b) of any values."""

MAX_ROWS = 256
"""Largest number of rows whose values decide between layouts, evenly spaced."""

MOST_VALUES, LEAST_ROWS = 2**22, 16
"""Wide rows are fewer: as many as have that many values, but not below the second number."""

ALIKE, ALIKE_BY_WIDTH = 0.05, 1.4
"""Neighbouring pixels of flattened images exceed pixels half a side apart in their mean correlation by more than
.05 + 1.4 / sqrt(d), for d columns: .23 for 64, .1 for 784. The difference is .44 for digits of 8 x 8 pixels, .64
for those of MNIST, .12 for these on a background of noise, and 0 for columns in no order. Its spread among orders of
correlated columns is about .5 / sqrt(d)."""

ANISOTROPY = 0.3
"""Largest difference of the correlations of neighbours along height and width of an image: .18 for digits, 0 for
faces. Neighbouring steps of a series are alike, and neighbouring channels need not be."""

LARGEST_LEVEL, LARGEST_SPREAD = 3.0, 10.0
"""Bounds of one scale: the spread of the means of positions, in their standard deviations (1 for digits), and the ratio
of the largest standard deviation to the lower quartile (6 for digits with constant borders)."""


def resolved(array: np.ndarray, layout: str = "auto") -> str:
    """Return the layout of an array: the given one, if the shape has its axes, or the one that "auto" finds.

    - (n, d): "table"; "flat" if all values are in [0, 1], d is s * s or 3 * s * s for a side s of at least 8, and
      neighbouring pixels are more alike than distant ones.
    - (n, a, b): "nhw" if the values are bytes. Else "ntc" if b is below 8 and at most half of a. Else "nhw" if
      neighbours along both axes are about equally alike, and all values are in [0, 1], or are whole numbers from 0 to
      255, or the last axis has one scale and both sides have at least 8 positions. Else "ntc".
    - (n, a, b, c): the channels are the axis next to two equal sides; else the one of the first and the last axis that
      has at most 4 positions; else the shorter of them; else the last.

    At most 256 rows are read.

    Args:
        array: (n, ...), of numbers.
        layout: one of `LAYOUTS`.

    Raises:
        InputError: an unknown name; axes that the shape does not have.

    Example:
        >>> r = np.random.default_rng(0)
        >>> resolved(r.random((60, 13, 32, 32))), resolved(r.normal([20, 1e5, 0.5], [2, 300, 0.1], (60, 20, 3)))
        ('nchw', 'ntc')
        >>> resolved(np.zeros((60, 20, 3)), "nchw")
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: layout='nchw' is for arrays (n, channels, height, width); X has the shape (60, 20, 3)
    """
    if layout not in LAYOUTS:
        raise InputError(f"layout={layout!r} is not one of {', '.join(LAYOUTS)}")
    shape = tuple(array.shape)
    if layout != "auto":
        if layout != "table" and len(shape) != len(layout):
            raise InputError(f"layout={layout!r} is for arrays {_AXES[layout]}; X has the shape {shape}")
        return layout
    if len(shape) == 2:
        return "flat" if _are_flattened_images(array) else "table"
    if len(shape) == 3:
        return "nhw" if _are_images(array) else "ntc"
    if len(shape) == 4:
        return _place_of_channels(*shape[1:])
    raise InputError(
        f"rows must be vectors (n, d), images (n, h, w), (n, h, w, c) or (n, c, h, w), or series (n, t, c); found an "
        f"array of shape {shape}; layout='table' takes each value of a row for a column"
    )


def described(layout: str, row_shape: tuple[int, ...], n_rows: int | None = None) -> str:
    """Return what an array was taken for, with the number of rows if it is given.

    Example:
        >>> described("ntc", (20, 3), 600), described("nchw", (3, 32, 24)), described("table", (784,), 50)
        ('600 series of 20 steps and 3 channels', 'images 32 x 24 of 3 channels', '50 rows of 784 columns')
    """
    counted = "" if n_rows is None else f"{n_rows:,} "
    shape = map_shape(layout, row_shape)
    if shape is None:
        axes = f" ({_times(row_shape)})" if len(row_shape) > 1 else ""
        flat = " (flattened images)" if layout == "flat" else ""
        return f"{counted}rows of {pluralize(math.prod(row_shape), 'column')}{axes}{flat}"
    channels, height, width = shape
    if layout == "ntc":
        return f"{counted}series of {pluralize(width, 'step')} and {pluralize(channels, 'channel')}"
    return f"{counted}images {height} x {width} of {pluralize(channels, 'channel')}"


def note(layout: str, row_shape: tuple[int, ...], dtype: str) -> str | None:
    """Return a note on an array that "auto" could have taken for something else, with the argument that says so.

    None if shape or data type decide alone.

    Args:
        layout: the resolved layout.
        row_shape: shape of a row.
        dtype: data type of the array.

    Example:
        >>> note("ntc", (20, 3), "float64").partition("; ")[2]
        "layout='nhw' (--layout nhw) takes it for images 20 x 3 of 1 channel"
    """
    others = {"nhw": "ntc", "ntc": "nhw", "nhwc": "nchw", "nchw": "nhwc"}
    if layout == "flat":
        return (
            f"X was taken for {described(layout, row_shape)}, which are not scaled, since its values are in [0, 1]; "
            "layout='table' (--layout table) scales it by column"
        )
    is_certain = dtype == "uint8" if len(row_shape) == 2 else len(row_shape) == 3 and _is_certain(*row_shape)
    if layout not in others or is_certain:
        return None
    other = others[layout]
    return (
        f"X was taken for {described(layout, row_shape)}; layout={other!r} (--layout {other}) takes it for "
        f"{described(other, row_shape)}"
    )


def map_shape(layout: str, row_shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return (channels, height, width) of images, (channels, 1, steps) of series, and None of other rows.

    Example:
        >>> map_shape("nhwc", (28, 24, 3)), map_shape("ntc", (20, 5)), map_shape("table", (20, 5))
        ((3, 28, 24), (5, 1, 20), None)
    """
    if layout in ("table", "flat"):
        return None
    if layout == "nhw":
        return 1, row_shape[0], row_shape[1]
    if layout == "ntc":
        return row_shape[1], 1, row_shape[0]
    first, second, third = row_shape
    return (third, first, second) if layout == "nhwc" else (first, second, third)


def layout_of_file(config: dict[str, object]) -> str:
    """Return the layout of a model file that was written before files held it.

    Example:
        >>> layout_of_file({"image_shape": [3, 8, 8], "row_shape": [8, 8, 3], "channels_last": True})
        'nhwc'
    """
    if not config["image_shape"]:
        return "table"
    if len(config["row_shape"]) == 2:  # type: ignore[arg-type]
        return "nhw"
    return "nhwc" if config["channels_last"] else "nchw"


def _place_of_channels(a: int, b: int, c: int) -> str:
    """Return "nhwc" or "nchw" for an array (n, a, b, c)."""
    if (a == b) != (b == c):
        return "nhwc" if a == b else "nchw"
    if (a <= MOST_CHANNELS) != (c <= MOST_CHANNELS):
        return "nhwc" if c <= MOST_CHANNELS else "nchw"
    return "nchw" if a < c else "nhwc"


def _is_certain(a: int, b: int, c: int) -> bool:
    """Return True if one of the first and the last axis has at most 4 positions, and no equal sides contradict."""
    few = (a <= MOST_CHANNELS, c <= MOST_CHANNELS)
    if few[0] == few[1]:
        return False
    return _place_of_channels(a, b, c) == ("nhwc" if few[1] else "nchw")


def _some_rows(array: np.ndarray) -> np.ndarray:
    """Return at most `MAX_ROWS` rows, evenly spaced, float64; other values than finite ones become NaN."""
    most = min(len(array), MAX_ROWS, max(LEAST_ROWS, MOST_VALUES // max(1, math.prod(array.shape[1:]))))
    index = np.unique(np.linspace(0, len(array) - 1, most).astype(np.int64))
    some = np.ascontiguousarray(array[index], np.float64)
    return np.where(np.isfinite(some), some, np.nan)


def _are_images(array: np.ndarray) -> bool:
    """Return whether an array (n, a, b) holds images."""
    a, b = array.shape[1:]
    if array.dtype == np.uint8:
        return True
    if b < SMALLEST_SIDE and 2 * b <= a:
        return False
    some = _some_rows(array)
    values = _standardised(some, (0, 1))
    if _mean(values[:, 1:] * values[:, :-1]) - _mean(values[..., 1:] * values[..., :-1]) > ANISOTROPY:
        return False
    seen = some[np.isfinite(some)]
    low, high = seen.min(initial=np.inf), seen.max(initial=-np.inf)
    if low >= 0 and (high <= 1 or (high <= 255 and bool((seen == np.rint(seen)).all()))):
        return True
    return min(a, b) >= SMALLEST_SIDE and _has_one_scale(some)


def _are_flattened_images(array: np.ndarray) -> bool:
    """Return whether a matrix holds flattened images with values in [0, 1]: grey ones, or of three channels."""
    shapes = _shapes_of_flattened(int(array.shape[1]))
    if not shapes or len(array) == 0:
        return False
    some = _some_rows(array)
    if not (np.nanmin(some, initial=np.inf) >= 0 and np.nanmax(some, initial=-np.inf) <= 1):
        return False
    return any(_has_neighbours(_standardised(some, (0,)).reshape(len(some), *shape)) for shape in shapes)


def _shapes_of_flattened(width: int) -> list[tuple[int, int, int]]:
    """Return the shapes (height, width, channels) and (channels * height, width, 1) of square images of that size.

    Example:
        >>> _shapes_of_flattened(64), _shapes_of_flattened(192), _shapes_of_flattened(100), _shapes_of_flattened(63)
        ([(8, 8, 1)], [(8, 8, 3), (24, 8, 1)], [(10, 10, 1)], [])
    """
    shapes = []
    for channels in (1, 3):
        side = math.isqrt(width // channels)
        if channels * side * side == width and side >= SMALLEST_SIDE:
            shapes += [(side, side, channels)] + ([(channels * side, side, 1)] if channels > 1 else [])
    return shapes


def _has_neighbours(pixels: Float[np.ndarray, "rows height width channels"]) -> bool:
    """Return whether neighbours along height and width are more alike than pixels half a side apart along both."""
    half = pixels.shape[2] // 2
    below = _mean(pixels[:, 1:] * pixels[:, :-1])
    beside = _mean(pixels[:, :, 1:] * pixels[:, :, :-1])
    apart = _mean(pixels[:, half:, half:] * pixels[:, :-half, :-half])
    return min(below, beside) - apart > ALIKE + ALIKE_BY_WIDTH / math.sqrt(pixels[0].size)


def _has_one_scale(some: Float[np.ndarray, "rows a b"]) -> bool:
    """Return whether means and standard deviations of the positions of the last axis are of one size."""
    mean, std = np.nanmean(some, axis=(0, 1)), np.nanstd(some, axis=(0, 1))
    level, within = float(mean.std()), float(np.sqrt((std**2).mean()))
    return level <= LARGEST_LEVEL * within and float(std.max()) <= LARGEST_SPREAD * float(np.quantile(std, 0.25))


def _standardised(values: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return values with the mean 0 and the standard deviation 1 over the axes; NaN where they are constant."""
    counted = np.maximum(np.isfinite(values).sum(axes, keepdims=True), 1)
    centred = values - np.nansum(values, axes, keepdims=True) / counted
    std = np.sqrt(np.nansum(centred**2, axes, keepdims=True) / counted)
    return np.divide(centred, std, out=np.full_like(centred, np.nan), where=std > 0)


def _mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not NaN, 0 without any."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else 0.0


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
