"""Backgrounds of the variation sets: windows of the photographs that scikit-image and scikit-learn ship.

Training and test windows come from different regions of each photograph and share no pixel.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

SIDE = 28
"""Pixels of a window, and of every image of the sets."""

SKIMAGE = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "rocket")
SKLEARN = ("china", "flower")
PHOTOGRAPHS = (*SKIMAGE, "motorcycle_left", *SKLEARN)
"""Files of the scikit-image package and, the last two, of scikit-learn; nothing is downloaded."""

TRAIN_SHARE = 0.6
"""Share of the columns of each photograph, from the left, for training and validation; the rest is for the test."""

LEAST_DEVIATION = 15.0
"""In grey levels: windows with a smaller standard deviation are not used."""

REGIONS = ("train", "test")


@functools.lru_cache(maxsize=1)
def photographs() -> dict[str, UInt8[np.ndarray, "height width"]]:
    """Return the photographs by name, in grey levels (luma of ITU-R 601), 0 to 255.

    Example:
        >>> {name: picture.shape for name, picture in photographs().items()}["camera"]
        (512, 512)
    """
    from skimage import data
    from sklearn.datasets import load_sample_image

    coloured = {name: getattr(data, name)() for name in SKIMAGE}
    coloured["motorcycle_left"] = data.stereo_motorcycle()[0]
    coloured |= {name: load_sample_image(f"{name}.jpg") for name in SKLEARN}
    return {name: np.asarray(Image.fromarray(coloured[name]).convert("L")) for name in PHOTOGRAPHS}


def region(picture: UInt8[np.ndarray, "height width"], part: str) -> UInt8[np.ndarray, "height columns"]:
    """Return the columns of a photograph for one part.

    Args:
        picture: a photograph.
        part: "train" for the first `TRAIN_SHARE` of the columns, "test" for the others.

    Example:
        >>> picture = np.zeros((40, 100), np.uint8)
        >>> region(picture, "train").shape, region(picture, "test").shape
        ((40, 60), (40, 40))
    """
    cut = round(TRAIN_SHARE * picture.shape[1])
    return {"train": picture[:, :cut], "test": picture[:, cut:]}[part]


def deviations(picture: UInt8[np.ndarray, "height width"], side: int = SIDE) -> Float[np.ndarray, "rows columns"]:
    """Return the standard deviation of every window of side x side, by its upper left corner.

    Sums over windows are differences of cumulative sums.

    Example:
        >>> deviations(np.eye(3, dtype=np.uint8), 2).round(3).tolist()
        [[0.5, 0.433], [0.433, 0.5]]
    """

    def sums(values: np.ndarray) -> np.ndarray:
        above = np.pad(values.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        return above[side:, side:] - above[:-side, side:] - above[side:, :-side] + above[:-side, :-side]

    values = picture.astype(np.int64)
    # Integer sums are exact, so that a constant window has a variance of exactly zero.
    return np.sqrt(side**2 * sums(values**2) - sums(values) ** 2) / side**2


@dataclass(frozen=True)
class Windows:
    """The windows of a part, from which backgrounds are sampled.

    Attributes:
        pictures: the region of each photograph.
        corners: the upper left corners, (n, 2) as row and column, of its windows of sufficient deviation.
    """

    pictures: tuple[UInt8[np.ndarray, "_ _"], ...]
    corners: tuple[Int64[np.ndarray, "_ 2"], ...]

    def __len__(self) -> int:
        """Return the number of different windows."""
        return sum(map(len, self.corners))

    def draw(self, n: int, generator: np.random.Generator) -> UInt8[np.ndarray, "n 28 28"]:
        """Sample windows with replacement: a uniform photograph, then a uniform corner of it."""
        sampled = np.empty((n, SIDE, SIDE), np.uint8)
        chosen = generator.integers(len(self.pictures), size=n)
        for number, (picture, corners) in enumerate(zip(self.pictures, self.corners, strict=True)):
            chosen_at = np.flatnonzero(chosen == number)
            row, column = corners[generator.integers(len(corners), size=len(chosen_at))].T
            sampled[chosen_at] = sliding_window_view(picture, (SIDE, SIDE))[row, column]
        return sampled


@functools.lru_cache(maxsize=2)
def windows(part: str) -> Windows:
    """Return the windows of the "train" or the "test" region of every photograph.

    Example:
        >>> windows("test").draw(3, np.random.default_rng(0)).shape
        (3, 28, 28)
    """
    pictures = tuple(region(picture, part) for picture in photographs().values())
    corners = tuple(np.argwhere(deviations(picture) >= LEAST_DEVIATION) for picture in pictures)
    return Windows(pictures, corners)
