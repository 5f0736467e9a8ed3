"""Write images as one picture: a grid of lines and columns with a thin margin."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from isthmus.data.images import as_bytes
from isthmus.data.messages import one_line
from isthmus.errors import InputError
from isthmus.files import atomic_write

SMALLEST_SIDE = 48
"""Pixels: smaller images are enlarged by a whole factor until their longer side has at least this size."""

MARGIN_RATIO = 24
"""Longer side of an image over the margin around it."""

MARGIN_GREY = 208
"""Grey value of the margin."""

MAX_PIXELS = 2**26
"""Largest number of pixels of a picture."""


def write_grid(
    path: str | os.PathLike[str],
    images: np.ndarray,
    n_columns: int,
    *,
    value_range: tuple[float, float] = (0, 255),
    force: bool = False,
) -> Path:
    """Write images as one PNG picture, line by line. Writing is atomic.

    Small images are enlarged by a whole factor, so that their pixels stay sharp.

    Args:
        path: file to write.
        images: (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w).
        n_columns: number of images in a line.
        value_range: values of black and white; pixels outside are clipped.
        force: overwrite an existing file.

    Returns:
        The path.

    Raises:
        InputError: if the file exists (without `force`) or cannot be written; if the array is not images, or the
            picture is too large.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = write_grid(Path(tempfile.mkdtemp()) / "grid.png", np.zeros((6, 24, 48), np.uint8), n_columns=3)
        >>> with Image.open(path) as picture:
        ...     picture.size
        (152, 54)
    """
    from PIL import Image

    path = Path(path)
    if path.exists() and not force:
        raise InputError(f"{path}: the file exists; choose another name, or overwrite it with force=True (--force)")
    pixels = as_bytes(np.asarray(images), value_range)
    height, width = pixels.shape[1:3]
    check_grid_size(path, len(pixels), n_columns, (height, width))
    picture = Image.fromarray(grid(pixels, n_columns))
    with atomic_write(path) as temporary:
        try:
            picture.save(temporary, format="PNG")
        except OSError as error:
            raise InputError(
                f"{path}: could not be written ({error.strerror or one_line(error)}); no file was left; free disk "
                "space, or choose another path"
            ) from None
    return path


def grid(pixels: UInt8[np.ndarray, "n height width *channels"], n_columns: int) -> UInt8[np.ndarray, ...]:
    """Return one picture of images, line by line, with a grey margin around each; empty cells are grey.

    Example:
        >>> grid(np.zeros((2, 24, 48), np.uint8), 2).shape
        (28, 102)
    """
    height, width = pixels.shape[1:3]
    factor, margin = _sizes(height, width)
    large = pixels.repeat(factor, 1).repeat(factor, 2)
    shape = grid_size(len(pixels), n_columns, (height, width))
    picture = np.full((*shape, *pixels.shape[3:]), MARGIN_GREY, np.uint8)
    for number, image in enumerate(large):
        line, column = divmod(number, n_columns)
        top, left = (margin + at * (side + margin) for at, side in zip((line, column), image.shape[:2], strict=True))
        picture[top : top + image.shape[0], left : left + image.shape[1]] = image
    return picture


def grid_size(n: int, n_columns: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the picture of n images in pixels.

    Example:
        >>> grid_size(6, 3, (24, 48))
        (54, 152)
    """
    factor, margin = _sizes(*size)
    height, width = (
        count * (side * factor + margin) + margin
        for count, side in zip((math.ceil(n / n_columns), n_columns), size, strict=True)
    )
    return height, width


def check_grid_size(path: str | os.PathLike[str], n: int, n_columns: int, size: tuple[int, int]) -> None:
    """Refuse a picture of more than `MAX_PIXELS`.

    Raises:
        InputError: with the size of the picture.
    """
    height, width = grid_size(n, n_columns, size)
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{path}: a picture of {n:,} images would have {height:,} x {width:,} pixels; take fewer rows or steps, or "
            "write single images to a folder"
        )


def _sizes(height: int, width: int) -> tuple[int, int]:
    """Return the factor by which images are enlarged, and the margin in pixels."""
    factor = math.ceil(SMALLEST_SIDE / max(height, width))
    return factor, max(1, round(factor * max(height, width) / MARGIN_RATIO))
