"""Vector fields in the plane: their agreement and their pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from isthmus.report.figures import GREY, OURS

Points = Float[np.ndarray, "points columns"]


def lattice(low: Any, high: Any, n: int) -> Float[np.ndarray, "points 2"]:
    """Return n x n points of the rectangle between two corners, row by row.

    Example:
        >>> lattice([0, 0], [1, 2], 2).tolist()
        [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 2.0]]
    """
    across, up = (np.linspace(a, b, n) for a, b in zip(low, high, strict=True))
    return np.stack(np.meshgrid(across, up), -1).reshape(-1, 2)


def cosines(a: Points, b: Points) -> Float[np.ndarray, " points"]:
    """Return the cosine between each row of a and that of b; 0 where one of them has length 0.

    Example:
        >>> cosines(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[2.0, 2.0], [1.0, 0.0]])).round(3).tolist()
        [0.707, 0.0]
    """
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(1), lengths, out=np.zeros(len(a)), where=lengths > 0)


def draw_field(ax: Axes, at: Points, arrows: Points, *, rows: Points, title: str, share: float = 1.0) -> None:
    """Draw arrows, each a share of its displacement, and the training rows.

    Args:
        ax: the axes to draw into.
        at, arrows: start and displacement of each arrow.
        rows: the training rows.
        title: of the axes.
        share: of the displacement that each arrow shows, so that long arrows do not hide others.
    """
    ax.scatter(rows[:, 0], rows[:, 1], s=7, color=OURS, lw=0, alpha=0.8, zorder=2)
    ax.quiver(
        *at.T, *(share * arrows).T, angles="xy", scale_units="xy", scale=1, color=GREY, width=0.0024, headwidth=4,
        headlength=4.6, headaxislength=4.2, zorder=1,
    )  # fmt: skip
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize=10, loc="left")
