"""Patches of images, and local contrast normalisation of images."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from isthmus.errors import InputError

MAX_ENTRIES = 2**22
"""Entries of the images that are normalised at once."""


def patches(
    images: Any, size: int | tuple[int, int], n: int = 10_000, random_state: Any = None
) -> Shaped[np.ndarray, "n height width *channels"]:
    """Return n patches at random places of random images; an image may give several, and a place may repeat.

    They are the rows on which the filters of a `FilterBank` are learned. Of one image or of all places,
    `sklearn.feature_extraction.image.extract_patches_2d` takes patches.

    Args:
        images: (n, h, w) or (n, h, w, c), of any type; memory-mapped arrays are read where the patches are.
        size: side of the patches, or height and width, in pixels.
        n: number of patches.
        random_state: seed of the places, or a generator of numpy; None draws one.

    Returns:
        (n, height, width) or (n, height, width, c), of the type of the images.

    Raises:
        InputError: rows that are not images; patches larger than an image; no image; n below 1.

    Example:
        >>> import numpy as np
        >>> import isthmus
        >>> images = np.arange(2 * 6 * 5).reshape(2, 6, 5)
        >>> found = isthmus.data.patches(images, 3, n=4, random_state=0)
        >>> found.shape, bool((found[:, 1:, 1:] - found[:, :-1, :-1] == 6).all())
        ((4, 3, 3), True)
    """
    array = checked_images(images)
    height, width = _sides(size)
    if height > array.shape[1] or width > array.shape[2]:
        raise InputError(
            f"patches of {height} x {width} pixels do not fit into images of {array.shape[1]} x {array.shape[2]}; "
            "give a smaller size"
        )
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n={n!r}: the number of patches must be a whole number of at least 1")
    generator = np.random.default_rng(random_state)
    rows = np.sort(generator.integers(len(array), size=n))
    down = generator.integers(array.shape[1] - height + 1, size=n)
    across = generator.integers(array.shape[2] - width + 1, size=n)
    views = np.lib.stride_tricks.sliding_window_view(array, (height, width), axis=(1, 2))
    found = views[rows, down, across]
    found = np.moveaxis(found, 1, -1) if array.ndim == 4 else found
    check_finite(found, "the patches")
    return np.ascontiguousarray(found[generator.permutation(n)])


def local_contrast(images: Any, size: int = 9) -> Float[np.ndarray, "n height width *channels"]:
    r"""Subtract the local mean of images, and divide by the local deviation, both over all channels.

        v_i = x_i - mean_w(x),   s = sqrt(mean_w(v^2)),   y_i = v_i / max(s, mean of s over the image)

    mean_w is the mean over the channels and over a Gaussian window around the pixel. The result does not change if an
    image becomes brighter or its contrast higher. In pipelines it stands before a `FilterBank` as
    `sklearn.preprocessing.FunctionTransformer(local_contrast)`.

    Args:
        images: (n, h, w) or (n, h, w, c).
        size: side of the window in pixels, odd; half of it is two standard deviations.

    Returns:
        float32, in the shape of the images.

    Raises:
        InputError: rows that are not images; an even size.

    Source: Jarrett, Kavukcuoglu, Ranzato & LeCun, What is the best multi-stage architecture for object recognition?
    (2009), section 2.1, layer N.

    Example:
        >>> import numpy as np
        >>> import isthmus
        >>> images = np.random.default_rng(0).random((3, 12, 12))
        >>> darker = isthmus.data.local_contrast(0.2 * images + 0.1)
        >>> bool(np.allclose(darker, isthmus.data.local_contrast(images), atol=1e-4))
        True
    """
    import torch  # here, since the package of data is imported without torch

    from isthmus.parts.filter_stages import local_contrast_normalized

    array = checked_images(images)
    check_window(size, "size")
    found = np.empty(array.shape, np.float32)
    at_once = max(1, MAX_ENTRIES // max(1, array[:1].size))
    for start in range(0, len(array), at_once):
        pixels = np.asarray(array[start : start + at_once], np.float32)
        check_finite(pixels, "the images")
        block = torch.from_numpy(pixels)
        maps = block[:, None] if block.ndim == 3 else block.movedim(-1, 1)
        y = local_contrast_normalized(maps, size)
        found[start : start + at_once] = (y[:, 0] if block.ndim == 3 else y.movedim(1, -1)).numpy()
    return found


def check_finite(pixels: np.ndarray, what: str) -> None:
    """Refuse pixels that are not finite.

    Raises:
        InputError: a pixel is NaN or infinite.
    """
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{what} hold NaN or infinite pixels; fill them first, or leave these images out")


def checked_images(images: Any) -> np.ndarray:
    """Return images as an array (n, h, w) or (n, h, w, c) of numbers.

    Raises:
        InputError: another shape, no images, or no numbers.
    """
    array = images.X if hasattr(images, "X") and hasattr(images, "row_names") else images
    array = array if isinstance(array, np.ndarray) else np.asarray(array)
    if array.ndim not in (3, 4) or array.dtype.kind not in "fiub" or 0 in array.shape:
        raise InputError(
            f"images must be arrays of numbers (n, height, width) or (n, height, width, channels); found shape "
            f"{array.shape} of {array.dtype}"
        )
    return array


def check_window(size: Any, name: str) -> None:
    """Refuse a window without a middle pixel.

    Raises:
        InputError: the size is not an odd number of at least 3.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 3 or size % 2 == 0:
        raise InputError(f"{name}={size!r}: the window needs an odd number of pixels, at least 3")


def _sides(size: Any) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int | np.integer) else tuple(size) if hasattr(size, "__len__") else ()
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in sides):
        raise InputError(f"size={size!r}: give the side of the patches in pixels, or their height and width")
    return int(sides[0]), int(sides[1])
