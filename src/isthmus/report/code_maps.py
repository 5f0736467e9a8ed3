"""Codes on a plane: as they are, by principal components, or by t-SNE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

MAX_MAP_ROWS = 2000
"""Rows on the map; t-SNE of this many takes about ten seconds on one core."""

MIN_TSNE_ROWS = 60
"""With fewer rows neighbourhoods mean little, and principal components say as much."""

ITERATIONS = 750
"""Of t-SNE, a third of them with exaggeration; after that a map of this size hardly moves."""


@dataclass(frozen=True)
class CodeMap:
    """Points on a plane, and how they came there.

    Attributes:
        points: (rows, 2).
        method: "codes", "unit", "PCA", "t-SNE" or "none" where all codes are equal.
        axes: the names of the two axes; empty where an axis has no meaning of its own.
        explanation: a sentence for the reader.
    """

    points: Float[np.ndarray, "rows 2"]
    method: str
    axes: tuple[str, str]
    explanation: str


def map_codes(
    codes: Float[np.ndarray, "rows code_size"],
    error: Float[np.ndarray, " rows"],
    *,
    random_state: int = 0,
) -> CodeMap:
    """Two coordinates for each code.

    Two units are shown as they are and one unit beside the row's error. Wider codes are standardised, unit
    by unit, and taken to the plane by t-SNE, started from the principal components; few rows by principal
    components alone.

    Args:
        codes: (rows, code_size).
        error: squared error of each row, (rows,); the second axis where the code has one unit.
        random_state: seed of t-SNE.

    Source: van der Maaten & Hinton, Visualizing data using t-SNE (2008); Kobak & Berens, The art of using
        t-SNE for single-cell transcriptomics (2019), for the start from principal components.

    Example:
        >>> codes = np.random.default_rng(0).normal(size=(20, 5))
        >>> found = map_codes(codes, np.ones(20))
        >>> found.points.shape, found.method
        ((20, 2), 'PCA')
    """
    n_rows, code_size = codes.shape
    if code_size == 1:
        points = np.column_stack([codes[:, 0], error])
        return CodeMap(points, "unit", ("unit 0", "squared error"), "The code has one unit: it is drawn "
                       "against the squared error of each row.")  # fmt: skip
    if code_size == 2:
        return CodeMap(codes.astype(np.float64), "codes", ("unit 0", "unit 1"), "The code has two units: "
                       "this is the code itself.")  # fmt: skip
    standard = standardised(codes)
    if not standard.shape[1]:
        return CodeMap(np.zeros((n_rows, 2)), "none", ("", ""), "Every row has the same code.")
    if n_rows < MIN_TSNE_ROWS or standard.shape[1] < 2:
        points, share = principal_plane(standard)
        return CodeMap(points, "PCA", ("component 1", "component 2"), "The first two principal components of "
                       f"the standardised codes, which carry {share:.0%} of their variance.")  # fmt: skip
    points = t_sne(standard, random_state)
    return CodeMap(points, "t-SNE", ("", ""), "t-SNE of the standardised codes: rows with similar codes lie "
                   "close together; distances between far groups and the size of a group mean little.")  # fmt: skip


def standardised(codes: Float[np.ndarray, "rows code_size"]) -> Float[np.ndarray, "rows units"]:
    """Each unit with mean 0 and variance 1; units that never vary are left out."""
    codes = codes.astype(np.float64)
    spread = codes.std(0)
    varies = spread > 1e-7 * max(1.0, float(np.abs(codes).max(initial=0)))
    return (codes[:, varies] - codes[:, varies].mean(0)) / spread[varies]


def principal_plane(standard: Float[np.ndarray, "rows units"]) -> tuple[Float[np.ndarray, "rows 2"], float]:
    """The first two principal components of centred rows and the share of variance in them."""
    left, values, _ = np.linalg.svd(standard, full_matrices=False)
    points = np.zeros((len(standard), 2))
    k = min(2, len(values))
    points[:, :k] = left[:, :k] * values[:k]
    return points, float((values[:2] ** 2).sum() / (values**2).sum())


def t_sne(standard: Float[np.ndarray, "rows units"], random_state: int) -> Float[np.ndarray, "rows 2"]:
    """t-SNE, started from the principal plane."""
    from sklearn.manifold import TSNE

    start, _ = principal_plane(standard)
    perplexity = min(30.0, (len(standard) - 1) / 3)
    found = TSNE(
        2, init=start / start[:, 0].std() * 1e-4, perplexity=perplexity, max_iter=ITERATIONS, random_state=random_state
    )  # fmt: skip
    # One thread: so few rows leave little to share, and threads that wait for a busy core take many times as long.
    with threadpool_limits(1):
        return np.asarray(found.fit_transform(standard), np.float64)
