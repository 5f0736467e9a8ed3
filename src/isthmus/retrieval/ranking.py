"""Distances by which candidates are ranked again: of real-valued codes, or of rows in model space."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from isthmus.errors import InputError

Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Function of a query (units,) and of candidates (n, units) to distances (n,)."""

CANDIDATES_PER_NEIGHBOUR, MIN_CANDIDATES = 10, 100


def euclidean(query: Float[np.ndarray, " units"], rows: Float[np.ndarray, "n units"]) -> Float[np.ndarray, " n"]:
    """Return ||q - x|| of each row.

    Example:
        >>> euclidean(np.array([0.0, 0.0]), np.array([[3.0, 4.0]])).tolist()
        [5.0]
    """
    return np.linalg.norm(rows - query, axis=1)


def cosine(query: Float[np.ndarray, " units"], rows: Float[np.ndarray, "n units"]) -> Float[np.ndarray, " n"]:
    """Return 1 - q'x / (||q|| ||x||) of each row; 1 where one of them is zero.

    Example:
        >>> cosine(np.array([0.0, 2.0]), np.array([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]])).tolist()
        [1.0, 0.0, 1.0]
    """
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return np.maximum(1 - (rows @ query) / np.where(norms > 0, norms, 1), 0.0)


RERANKINGS: dict[str, Distances] = {"codes": euclidean, "cosine": cosine, "rows": euclidean}
"""Distances by the argument `rerank`: of codes (Euclidean or cosine), or of rows in model space."""


def distances_to(measure: Distances, query: np.ndarray, rows: np.ndarray) -> Float[np.ndarray, " n"]:
    """Return the distances of rows to a query, in float64."""
    return measure(np.asarray(query, np.float64), np.asarray(rows, np.float64))


def check_reranking(rerank: str | None, *, has_codes: bool, has_rows: bool) -> None:
    """Refuse an unknown re-ranking, and one that an index has no data for.

    Raises:
        InputError: the message has those that there are.
    """
    if rerank is None:
        return
    if rerank not in RERANKINGS:
        raise InputError(f"rerank={rerank!r}: it must be one of {', '.join(RERANKINGS)}")
    if rerank == "rows" and not has_rows:
        raise InputError("rerank='rows': the index does not keep sparse rows or rows with conditions; omit it")
    if rerank != "rows" and not has_codes:
        raise InputError(f"rerank={rerank!r}: the codes of this index are the bits themselves; omit it")


def n_candidates(k: int, n_rows: int) -> int:
    """Return the number of rows that are ranked again to find k of them.

    Example:
        >>> n_candidates(20, 1000), n_candidates(3, 1000), n_candidates(3, 50)
        (200, 100, 50)
    """
    return min(max(CANDIDATES_PER_NEIGHBOUR * k, MIN_CANDIDATES), n_rows)
