"""Exact neighbours by Hamming distance in memory, with ties in the order of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from isthmus.errors import InputError, pluralize
from isthmus.retrieval import extras

NONE = -1
"""Row and distance of a neighbour that there is not."""

Found = tuple[Int[np.ndarray, "queries k"], Int[np.ndarray, "queries k"]]
"""Distances and rows of the neighbours of each query, the nearest first; `NONE` where there are fewer than k."""


class HammingIndex:
    """Exact search by a scan of all codes (`IndexBinaryFlat` of faiss).

    Args:
        codes: packed bits, (n, bytes), uint8.

    Example:
        >>> codes = np.array([[0], [3], [1], [255]], np.uint8)
        >>> distances, rows = HammingIndex(codes).search(np.array([[2]], np.uint8), 3)
        >>> distances.tolist(), rows.tolist()
        ([[1, 1, 2]], [[0, 1, 2]])
    """

    def __init__(self, codes: UInt8[np.ndarray, "n bytes"]) -> None:
        codes = checked_codes(codes)
        self.n_bytes = codes.shape[1]
        self._index = extras.faiss().IndexBinaryFlat(8 * self.n_bytes)
        self._index.add(codes)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, codes: UInt8[np.ndarray, "n bytes"]) -> None:
        """Append codes, after those that there are.

        Raises:
            InputError: codes of another width.
        """
        if len(codes):
            self._index.add(checked_queries(codes, self.n_bytes))

    @property
    def codes(self) -> UInt8[np.ndarray, "n bytes"]:
        """The packed bits, without a copy."""
        if not len(self):
            return np.empty((0, self.n_bytes), np.uint8)
        flat = extras.faiss().rev_swig_ptr(self._index.xb.data(), len(self) * self.n_bytes)
        return flat.reshape(len(self), self.n_bytes)

    def search(
        self, queries: UInt8[np.ndarray, "queries bytes"], k: int, among: Int[np.ndarray, " rows"] | None = None
    ) -> Found:
        """Return distances and rows of the k nearest codes, by distance and then by row.

        Args:
            queries: packed bits.
            k: number of neighbours.
            among: the rows that may be found, in ascending order; None is all.

        Raises:
            InputError: queries of another width; k below 1, or larger than the number of codes.
        """
        queries = checked_queries(queries, self.n_bytes)
        check_k(k, len(self))
        if among is not None and len(among) < len(self):
            return self.subset(among).search(queries, k)
        found: Found = self._index.search(queries, k)  # faiss returns ties in the order of the rows
        return found

    def subset(self, among: Int[np.ndarray, " rows"]) -> Subset:
        """Return some of the codes, by rows in ascending order."""
        return Subset(self, among)


class Subset:
    """Some codes of an index, which are copied: a scan of them is faster than one that tests each row.

    Args:
        index: all codes.
        among: the rows of the codes, in ascending order.
    """

    def __init__(self, index: HammingIndex, among: Int[np.ndarray, " rows"]) -> None:
        self.among, self.n_bytes, self.n_rows = among, index.n_bytes, len(index)
        self._index = index if len(among) == len(index) else HammingIndex(index.codes[among])

    def search(self, queries: UInt8[np.ndarray, "queries bytes"], k: int) -> Found:
        """Return distances and rows of the k nearest of the codes, by distance and then by row.

        Raises:
            InputError: queries of another width; k below 1, or larger than the number of all codes.
        """
        queries = checked_queries(queries, self.n_bytes)
        check_k(k, self.n_rows)
        distances, rows = (np.full((len(queries), k), NONE, dtype) for dtype in (np.int32, np.int64))
        n_found = min(k, len(self.among))
        if n_found:
            found = self._index.search(queries, n_found)
            distances[:, :n_found], rows[:, :n_found] = found[0], self.among[found[1]]
        return distances, rows


def checked_codes(codes: Any) -> UInt8[np.ndarray, "n bytes"]:
    """Return packed bits, contiguous.

    Raises:
        InputError: another type or shape than (n, bytes), uint8.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.dtype != np.uint8 or not codes.shape[1]:
        raise InputError(
            f"packed bits of shape {codes.shape} and type {codes.dtype}; give (n, bytes) of uint8, as packed() returns"
        )
    return np.ascontiguousarray(codes)


def checked_queries(queries: Any, n_bytes: int) -> UInt8[np.ndarray, "queries bytes"]:
    """Return packed bits of queries.

    Raises:
        InputError: another type or width than those of the codes.
    """
    queries = checked_codes(queries)
    if queries.shape[1] != n_bytes:
        raise InputError(f"queries of {8 * queries.shape[1]} bits, and the codes have {8 * n_bytes}; give as many")
    return queries


def check_k(k: int, n_rows: int) -> None:
    """Refuse a number of neighbours that is below 1 or larger than the number of rows.

    Raises:
        InputError: the message has the number of rows.
    """
    if not n_rows:
        raise InputError("the index is empty: it has no rows to find; add rows first")
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise InputError(f"k={k!r}: the number of neighbours must be a whole number of at least 1")
    if k > n_rows:
        raise InputError(f"k={k}: the index has {pluralize(n_rows, 'row')}; give at most {n_rows}")


def checked_numbers(rows: Any) -> Int[np.ndarray, " n"]:
    """Return row numbers as an array.

    Raises:
        InputError: values that are not whole numbers.

    Example:
        >>> checked_numbers([3, 1]), checked_numbers([])
        (array([3, 1]), array([], dtype=int64))
    """
    found = np.atleast_1d(np.asarray(rows))
    if found.size and found.dtype.kind not in "iu":
        raise InputError(f"row number {found.flat[0].item()!r}: row numbers are whole numbers")
    return found.astype(np.int64)
