"""Maps of codes to two dimensions: the code itself, PCA, or t-SNE."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

MAX_MAP_ROWS = 2000
"""Largest number of rows on the map; t-SNE of 2,000 rows takes about ten seconds on one core."""

MIN_TSNE_ROWS = 60
"""Smallest number of rows for t-SNE; neighbourhoods of fewer rows mean little, and PCA is used."""

ITERATIONS = 750
"""Number of iterations of t-SNE, a third of them with early exaggeration; a map of this size has then converged."""


@dataclass(frozen=True)
class Plane:
    """The code of each point of a linear map, and the point of each code.

        h = origin + directions' p,   p = projection (h - origin)

    Attributes:
        origin: (code_size,).
        directions: (2, code_size).
        projection: (2, code_size).
    """

    origin: Float[np.ndarray, " code_size"]
    directions: Float[np.ndarray, "2 code_size"]
    projection: Float[np.ndarray, "2 code_size"]


@dataclass(frozen=True)
class CodeMap:
    """Points in two dimensions and the method that computed them.

    Attributes:
        points: (rows, 2).
        method: "codes", "unit", "PCA", "t-SNE", or "none" if all codes are equal.
        axes: the names of the two axes; empty if the axes have no meaning.
        explanation: a sentence for the report.
        plane: the inverse of a linear map; None for t-SNE and for equal codes.
    """

    points: Float[np.ndarray, "rows 2"]
    method: str
    axes: tuple[str, str]
    explanation: str
    plane: Plane | None = None


def map_codes(
    codes: Float[np.ndarray, "rows code_size"],
    error: Float[np.ndarray, " rows"],
    *,
    random_state: int = 0,
) -> CodeMap:
    """Compute two coordinates for each code.

    A code of two units is used unchanged; a code of one unit is combined with the error of the row. Wider codes are
    standardised by unit and mapped by t-SNE, initialised with PCA; if there are few rows, by PCA.

    Args:
        codes: (rows, code_size).
        error: squared error of each row, (rows,); the second axis if the code has one unit.
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
        return CodeMap(points, "unit", ("unit 0", "squared error"), "The code has one unit; it is "
                       "plotted against the squared error of each row.", axis_plane(1))  # fmt: skip
    if code_size == 2:
        return CodeMap(codes.astype(np.float64), "codes", ("unit 0", "unit 1"), "The code has two units, "
                       "which are the axes.", axis_plane(2))  # fmt: skip
    standard = standardised(codes)
    if not standard.shape[1]:
        return CodeMap(np.zeros((n_rows, 2)), "none", ("", ""), "Every row has the same code.")
    if n_rows < MIN_TSNE_ROWS or standard.shape[1] < 2:
        points, components, share = principal_plane(standard)
        return CodeMap(points, "PCA", ("component 1", "component 2"), "The first two principal components of "
                       f"the standardised codes, which explain {share:.0%} of their variance.",
                       unstandardised_plane(codes, components))  # fmt: skip
    points = t_sne(standard, random_state)
    return CodeMap(points, "t-SNE", ("", ""), "t-SNE of the standardised codes. Rows with similar codes are "
                   "close together; distances between groups and sizes of groups mean little.")  # fmt: skip


def standardised(codes: Float[np.ndarray, "rows code_size"]) -> Float[np.ndarray, "rows units"]:
    """Standardise each unit to mean 0 and variance 1; remove constant units."""
    mean, spread, varies = _moments(codes)
    return (codes.astype(np.float64)[:, varies] - mean[varies]) / spread[varies]


def _moments(codes: Float[np.ndarray, "rows code_size"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute mean and standard deviation of each unit, and which units vary."""
    codes = codes.astype(np.float64)
    spread = codes.std(0)
    return codes.mean(0), spread, spread > 1e-7 * max(1.0, float(np.abs(codes).max(initial=0)))


def axis_plane(code_size: int) -> Plane:
    """Return the plane whose axes are the first units of the code; an axis without a unit has no effect."""
    axes = np.eye(2, code_size)
    return Plane(np.zeros(code_size), axes, axes)


def unstandardised_plane(codes: Float[np.ndarray, "rows code_size"], components: Float[np.ndarray, "2 units"]) -> Plane:
    """Return the plane of the components of standardised codes; constant units keep their value.

    Example:
        >>> codes = np.random.default_rng(0).normal(size=(20, 2))
        >>> points, components, _ = principal_plane(standardised(codes))
        >>> plane = unstandardised_plane(codes, components)
        >>> bool(np.allclose(plane.origin + points @ plane.directions, codes))
        True
    """
    mean, spread, varies = _moments(codes)
    directions, projection = np.zeros((2, 2, len(mean)))
    directions[:, varies] = components * spread[varies]
    projection[:, varies] = components / spread[varies]
    return Plane(mean, directions, projection)


def principal_plane(
    standard: Float[np.ndarray, "rows units"],
) -> tuple[Float[np.ndarray, "rows 2"], Float[np.ndarray, "2 units"], float]:
    """Compute the first two principal components of centred rows.

    Returns:
        The coordinates of the rows, the components, and the fraction of variance that they explain. With one row or
        one unit, the second component is zero.
    """
    left, values, right = np.linalg.svd(standard, full_matrices=False)
    points, components = np.zeros((len(standard), 2)), np.zeros((2, standard.shape[1]))
    k = min(2, len(values))
    points[:, :k] = left[:, :k] * values[:k]
    components[:k] = right[:k]
    return points, components, float((values[:2] ** 2).sum() / (values**2).sum())


def t_sne(standard: Float[np.ndarray, "rows units"], random_state: int) -> Float[np.ndarray, "rows 2"]:
    """Compute t-SNE, initialised with the first two principal components."""
    from sklearn.manifold import TSNE

    start, _, _ = principal_plane(standard)
    perplexity = min(30.0, (len(standard) - 1) / 3)
    found = TSNE(
        2, init=start / start[:, 0].std() * 1e-4, perplexity=perplexity, max_iter=ITERATIONS, random_state=random_state
    )  # fmt: skip
    # One thread: there are few rows, and on a busy machine several threads take many times as long.
    with threadpool_limits(1):
        return np.asarray(found.fit_transform(standard), np.float64)
