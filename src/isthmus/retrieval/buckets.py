"""Search by buckets: codes are addresses, and the neighbours of a query lie at its address or at few flips of bits."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np
from jaxtyping import Int, UInt8

from isthmus.retrieval.hamming import NONE, Found, check_k, checked_codes, checked_queries

_BLOCK = 2**16
"""Number of addresses that are looked up at a time."""


class Buckets:
    """Rows by the address that their bits are.

    A query is looked up at its own address, then at all addresses that differ in 1, 2, ... bits, until k rows are
    found. The time depends on the number of addresses, binom(bits, flips), and hardly on the number of rows. The
    answer is exact as far as it goes: rows at more than `max_flips` bits are not found.

    Args:
        codes: packed bits, (n, bytes), uint8.
        n_bits: number of bits; None is 8 for each byte. The bits that fill the last byte are not flipped.

    Source: DL book, section 14.9; Salakhutdinov & Hinton, Semantic hashing (2007).

    Example:
        >>> buckets = Buckets(np.array([[0], [3], [1], [255]], np.uint8))
        >>> distances, rows = buckets.search(np.array([[2]], np.uint8), 3, max_flips=1)
        >>> distances.tolist(), rows.tolist()
        ([[1, 1, -1]], [[0, 1, -1]])
    """

    def __init__(self, codes: UInt8[np.ndarray, "n bytes"], n_bits: int | None = None) -> None:
        codes = checked_codes(codes)
        self.n_bytes, self.n_bits = codes.shape[1], 8 * codes.shape[1] if n_bits is None else n_bits
        keys = as_keys(codes)
        self._rows = np.argsort(keys, kind="stable")
        self._keys, self._starts = np.unique(keys[self._rows], return_index=True)
        self._ends = np.append(self._starts[1:], len(codes))

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, queries: UInt8[np.ndarray, "queries bytes"], k: int, *, max_flips: int = 2) -> Found:
        """Return distances and rows of the k nearest codes within `max_flips` bits, by distance and then by row.

        Raises:
            InputError: queries of another width; k below 1, or larger than the number of codes.
        """
        queries = checked_queries(queries, self.n_bytes)
        check_k(k, len(self))
        distances, rows = (np.full((len(queries), k), NONE, dtype) for dtype in (np.int32, np.int64))
        for i, query in enumerate(queries):
            n_found = 0
            for flips in range(min(max_flips, self.n_bits) + 1):
                found = self.within(query, flips)[: k - n_found]
                end = n_found + len(found)
                distances[i, n_found:end], rows[i, n_found:end] = flips, found
                n_found = end
                if n_found == k:
                    break
        return distances, rows

    def within(self, query: UInt8[np.ndarray, " bytes"], flips: int) -> Int[np.ndarray, " found"]:
        """Return the rows at exactly this number of flips from the query, in ascending order."""
        found = [self._at(query ^ pattern) for pattern in flip_patterns(self.n_bits, flips, self.n_bytes)]
        return np.sort(np.concatenate(found))

    def _at(self, addresses: UInt8[np.ndarray, "addresses bytes"]) -> Int[np.ndarray, " found"]:
        """Return the rows at some addresses."""
        keys = as_keys(addresses)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        places = places[self._keys[places] == keys]
        parts = [self._rows[self._starts[place] : self._ends[place]] for place in places]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


def as_keys(codes: UInt8[np.ndarray, "n bytes"]) -> np.ndarray:
    """Return codes as values that are sorted and compared: whole numbers up to 64 bits, else strings of bytes."""
    n_bytes = codes.shape[1]
    if n_bytes > 8:
        return np.ascontiguousarray(codes).view(f"V{n_bytes}")[:, 0]
    wide = np.zeros((len(codes), 8), np.uint8)
    wide[:, :n_bytes] = codes
    return wide.view(np.uint64)[:, 0]


def flip_patterns(n_bits: int, flips: int, n_bytes: int) -> Iterator[UInt8[np.ndarray, "patterns bytes"]]:
    """Yield all patterns of `n_bits` bits with this number of ones, packed, in blocks.

    Example:
        >>> [pattern.ravel().tolist() for pattern in flip_patterns(3, 2, 1)]
        [[192, 160, 96]]
    """
    chosen = combinations(range(n_bits), flips)
    while block := list(islice(chosen, _BLOCK)):
        positions = np.array(block, np.int64).reshape(len(block), flips)
        bits = np.zeros((len(block), 8 * n_bytes), np.uint8)
        np.put_along_axis(bits, positions, 1, axis=1)
        yield np.packbits(bits, axis=1)
