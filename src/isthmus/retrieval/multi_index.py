"""Multi-index hashing: exact Hamming neighbours from tables of substrings, without a scan of all codes."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import UInt8

from isthmus.errors import InputError
from isthmus.retrieval import extras
from isthmus.retrieval.hamming import NONE, Found, HammingIndex, check_k, checked_codes, checked_queries

_MAX_FLIPS = 2
"""Flips of a substring after which a scan of all codes is faster."""


class MultiIndex:
    """Exact search in tables of substrings of the bits (`IndexBinaryMultiHash` of faiss).

    The bits are cut into m substrings, each with a table from its values to rows. Two codes within r bits agree within
    floor(r / m) bits in at least one substring, so that the addresses within f flips of each substring of a query hold
    every row within m (f + 1) - 1 bits. f is raised until the k-th neighbour lies within that radius; queries that need
    more than 2 flips are answered by a scan.

    Args:
        codes: packed bits, (n, bytes), uint8.
        n_tables: number of substrings m; None is about bits / log2(n), as in the source.

    Raises:
        InputError: fewer than one table, or more than bits.

    Source: Norouzi, Punjani & Fleet, Fast exact search in Hamming space with multi-index hashing (2014), section 3.

    Example:
        >>> codes = np.random.default_rng(0).integers(0, 256, (500, 8)).astype(np.uint8)
        >>> found, scanned = (index(codes).search(codes[:5], 3) for index in (MultiIndex, HammingIndex))
        >>> all((a == b).all() for a, b in zip(found, scanned))
        True
    """

    def __init__(self, codes: UInt8[np.ndarray, "n bytes"], n_tables: int | None = None) -> None:
        codes = checked_codes(codes)
        n_bits = 8 * codes.shape[1]
        if n_tables is None:
            n_tables = max(2, round(n_bits / math.log2(max(len(codes), 4))))
        if not 1 <= n_tables <= n_bits:
            raise InputError(f"n_tables={n_tables}: {n_bits} bits are cut into 1 to {n_bits} substrings")
        self.n_tables = max(n_tables, -(-n_bits // 32))  # faiss has tables of at most 32 bits
        self._flat = HammingIndex(codes)
        self._tables = extras.faiss().IndexBinaryMultiHash(n_bits, self.n_tables, n_bits // self.n_tables)
        self._tables.add(codes)

    def __len__(self) -> int:
        return len(self._flat)

    def search(self, queries: UInt8[np.ndarray, "queries bytes"], k: int) -> Found:
        """Return distances and rows of the k nearest codes, by distance and then by row, as `HammingIndex` does.

        Raises:
            InputError: queries of another width; k below 1, or larger than the number of codes.
        """
        queries = checked_queries(queries, self._flat.n_bytes)
        check_k(k, len(self))
        distances, rows = (np.full((len(queries), k), NONE, dtype) for dtype in (np.int32, np.int64))
        pending = np.arange(len(queries))
        for flips in range(_MAX_FLIPS + 1):
            radius = self.n_tables * (flips + 1) - 1
            self._tables.nflip = flips
            # faiss returns the rows whose distance is below the radius that it gets
            limits, within, members = self._tables.range_search(queries[pending], radius + 1)
            limits = limits.astype(np.int64)
            is_answered = np.diff(limits) >= k
            for place in np.flatnonzero(is_answered):
                part = slice(limits[place], limits[place + 1])
                order = np.lexsort((members[part], within[part]))[:k]
                distances[pending[place]], rows[pending[place]] = within[part][order], members[part][order]
            pending = pending[~is_answered]
            if not len(pending):
                return distances, rows
        distances[pending], rows[pending] = self._flat.search(queries[pending], k)
        return distances, rows
