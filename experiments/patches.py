"""Patches of images: cutting, contrast normalisation and whitening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

CONTRAST_OFFSET = 10 / 255**2
"""Variance that is added to that of a patch of pixels in [0, 1], so that flat patches stay small."""

WHITENING_OFFSET = 0.1
"""Variance that is added to each principal component of patches of contrast 1."""

Patches = Float[np.ndarray, "*patches columns"]


def random_patches(
    images: Float[np.ndarray, "images height width *channels"], side: int, n: int, seed: int
) -> Float[np.ndarray, "n columns"]:
    """Return square patches at random places, as rows.

    Example:
        >>> random_patches(np.zeros((3, 32, 32, 3)), 6, 10, 0).shape, random_patches(np.zeros((3, 8, 8)), 4, 5, 0).shape
        ((10, 108), (5, 16))
    """
    generator = np.random.default_rng(seed)
    every = _windows(images, side)
    places = tuple(generator.integers(0, length, n) for length in every.shape[:3])
    return every[places].reshape(n, -1).astype(np.float32)


def every_patch(
    images: Float[np.ndarray, "images height width *channels"], side: int, stride: int
) -> Float[np.ndarray, "images down across columns"]:
    """Return the square patches at all places of a grid, as rows in the order of `random_patches`.

    Example:
        >>> every_patch(np.zeros((2, 32, 32, 3)), 6, 2).shape
        (2, 14, 14, 108)
    """
    every = _windows(images, side)[:, ::stride, ::stride]
    return every.reshape(*every.shape[:3], -1).astype(np.float32)


def _windows(images: np.ndarray, side: int) -> np.ndarray:
    """Return a view (images, down, across, ...) of all patches; colours come before rows and columns."""
    return np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))


def contrast_normalised(patches: Patches) -> Patches:
    """Return patches of mean 0 and about variance 1 each: (x - mean) / sqrt(variance + offset).

    Source: Coates & Ng (2011), section 3.1; the offset is 10 for pixels up to 255.

    Example:
        >>> contrast_normalised(np.array([[0.0, 1.0]])).round(3)
        array([[-1.,  1.]])
    """
    centred = patches - patches.mean(-1, keepdims=True)
    return centred / np.sqrt(patches.var(-1, keepdims=True) + CONTRAST_OFFSET)


@dataclass(frozen=True)
class Whitening:
    """ZCA whitening: x -> (x - m) (C + offset I)^(-1/2). Rows stay patches in pixel space.

    Attributes:
        mean: m.
        matrix: the inverse square root.
    """

    mean: Float[np.ndarray, " columns"]
    matrix: Float[np.ndarray, "columns columns"]

    @classmethod
    def of(cls, rows: Float[np.ndarray, "rows columns"], offset: float = WHITENING_OFFSET) -> Self:
        """Return the whitening of rows.

        Example:
            >>> rows = np.random.default_rng(0).normal(size=(5000, 3)) @ np.array([[2, 1, 0], [0, 1, 0], [0, 0, 3]])
            >>> np.cov(Whitening.of(rows, 0.0)(rows).T).round(2) + 0.0
            array([[1., 0., 0.],
                   [0., 1., 0.],
                   [0., 0., 1.]])
        """
        values, vectors = np.linalg.eigh(np.cov(rows.T).astype(np.float64))
        matrix = (vectors / np.sqrt(values + offset)) @ vectors.T
        return cls(rows.mean(0).astype(np.float32), matrix.astype(np.float32))

    def __call__(self, rows: Patches) -> Patches:
        """Return whitened rows."""
        return (rows - self.mean) @ self.matrix
