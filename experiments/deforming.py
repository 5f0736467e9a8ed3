"""An unlimited stream of digits: each read applies a new random rotation, shear, scaling, shift and bending."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from isthmus.parts.forward import Batch


def deformed(images: Float[Tensor, "n height width"], generator: Generator) -> Float[Tensor, "n height width"]:
    """Return x(A u + t + w(u)): each image under a random map of its own, zero outside.

    A rotates by up to 12 degrees, scales by up to 12% in each direction and shears by up to 0.12; t shifts by up to a
    twentieth of the side; w bends: it interpolates 5 x 5 normal samples with a standard deviation of a fiftieth of the
    side. All others are uniform.

    Args:
        images: in [0, 1].
        generator: of the random maps.

    Source: Loosli, Canu & Bottou, Training invariant support vector machines using selective sampling (2007), whose
    digits were generated in the same way.

    Example:
        >>> images = torch.zeros(2, 8, 8)
        >>> bool((deformed(images, Generator().manual_seed(0)) == images).all())
        True
    """
    n, height, width = images.shape
    rotation, wide, high, shear, across, down = (2 * torch.rand(6, n, generator=generator) - 1).unbind()
    angle = rotation * math.radians(12)
    wide, high, shear = 1 + 0.12 * wide, 1 + 0.12 * high, 0.12 * shear
    cos, sin = angle.cos(), angle.sin()
    # The coordinates of `grid_sample` run from -1 to 1.
    rows = [
        torch.stack([wide * cos, shear - sin, across / 10], 1),
        torch.stack([sin + shear, high * cos, down / 10], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [n, 1, height, width], align_corners=False)
    bend = 0.04 * torch.randn(n, 2, 5, 5, generator=generator)
    bend = F.interpolate(bend, size=(height, width), mode="bicubic", align_corners=True)
    return F.grid_sample(images[:, None], grid + bend.permute(0, 2, 3, 1), align_corners=False)[:, 0]


class Stream:
    """Rows that are deformed again at every read.

    Args:
        images: (n, height, width), in [0, 1] or bytes.
        labels: the class of each image.
        n_rows: the length of the stream; row i is a deformation of image i mod n.
        generator: of the deformations, in the order of the reads.

    Example:
        >>> stream = Stream(np.ones((3, 4, 4)), np.array([0, 1, 2]), 1000, Generator().manual_seed(0))
        >>> len(stream), stream.batch(torch.tensor([0, 4])).label.tolist()
        (1000, [0, 1])
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, n_rows: int, generator: Generator) -> None:
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels).long()
        self.n_rows, self.generator = n_rows, generator
        self.n_columns = math.prod(images.shape[1:])

    def __len__(self) -> int:
        return self.n_rows

    def originals(self, index: Int[Tensor, " batch"]) -> Float[Tensor, "batch height width"]:
        """Return the undeformed images of the rows `index`, in [0, 1]."""
        images = self.images[index % len(self.images)]
        return images.float() if images.is_floating_point() else images.float() / 255

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return new deformations of the rows `index`, flat, with their classes."""
        images = deformed(self.originals(index), self.generator)
        return Batch(images.flatten(1), label=self.labels[index % len(self.labels)])
