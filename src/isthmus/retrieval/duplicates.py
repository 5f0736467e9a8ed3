"""Groups of near-equal codes: connected components of the pairs within a Hamming distance."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Int, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from isthmus.errors import InputError
from isthmus.retrieval import extras
from isthmus.retrieval.bits import hamming, packed, unpacked
from isthmus.retrieval.buckets import as_keys
from isthmus.retrieval.hamming import checked_codes

Pairs = tuple[Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]

_LONG_RUN = 64
"""Codes with an equal substring that are compared by faiss rather than step by step."""

_MAX_PAIRS = 4_000_000
"""Pairs that are held before they are reduced to components."""

_UNPACKED_BYTES = 2**26


def near_duplicates(codes: UInt8[np.ndarray, "n bytes"], distance: int, n_bits: int | None = None) -> list[np.ndarray]:
    """Return groups of rows whose codes are connected by pairs within a Hamming distance.

    Two codes within d bits are equal in at least one of d + 1 substrings, so that only codes with an equal substring
    are compared. The rows of a group that are no such pair are connected by others between them.

    Args:
        codes: packed bits, (n, bytes), uint8.
        distance: largest Hamming distance d of a pair, 0 or more.
        n_bits: number of bits; None is 8 for each byte.

    Returns:
        The row numbers of each group of at least two, ascending; groups by their first row.

    Raises:
        InputError: a distance below 0, or of at least the number of bits, for which every two rows are a pair.

    Source: Norouzi, Punjani & Fleet, Fast exact search in Hamming space with multi-index hashing (2014), section 3.1.

    Example:
        >>> [group.tolist() for group in near_duplicates(np.array([[0], [240], [1], [255], [241]], np.uint8), 1)]
        [[0, 2], [1, 4]]
    """
    codes = checked_codes(codes)
    n_bits = 8 * codes.shape[1] if n_bits is None else n_bits
    check_distance(distance, n_bits)
    keys = as_keys(codes)
    _, first, member = np.unique(keys, return_index=True, return_inverse=True)
    labels = components(len(first), close_pairs(codes[first], distance, n_bits))[member]
    return groups_of(labels)


def check_distance(distance: int, n_bits: int) -> None:
    """Refuse a distance for which no two rows, or every two rows, are a pair.

    Raises:
        InputError: a distance below 0, or of at least the number of bits; one that is not a whole number.
    """
    if not isinstance(distance, int | np.integer):
        raise InputError(f"distance={distance!r}: it must be a whole number of bits")
    if not 0 <= distance < n_bits:
        raise InputError(f"distance={distance}: it must be at least 0 and below the number of bits, {n_bits}")


def close_pairs(codes: UInt8[np.ndarray, "n bytes"], distance: int, n_bits: int) -> Iterator[Pairs]:
    """Yield all pairs of different codes within a distance, in blocks; a pair may come more than once."""
    bounds = np.linspace(0, n_bits, distance + 2).round().astype(int)
    if distance == 0:
        return
    for start, stop in pairwise(bounds):
        order, starts, lengths = _runs(_substrings(codes, start, stop))
        yield from _step_by_step(codes, order, starts, lengths, distance)
        for run in np.flatnonzero(lengths > _LONG_RUN):
            yield from _all_against_all(codes, order[starts[run] : starts[run] + lengths[run]], distance)


def _substrings(codes: UInt8[np.ndarray, "n bytes"], start: int, stop: int) -> np.ndarray:
    """Return the bits from `start` to `stop` of each code as values that are compared."""
    block = max(_UNPACKED_BYTES // (8 * codes.shape[1]), 1)
    parts = [codes[at : at + block] for at in range(0, len(codes), block)]
    return as_keys(np.concatenate([packed(unpacked(part, stop)[:, start:]) for part in parts]))


def _runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order of the keys, and the start and the length of each run of equal ones in that order."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return order, starts, np.diff(np.append(starts, len(keys)))


def _step_by_step(
    codes: np.ndarray, order: np.ndarray, starts: np.ndarray, lengths: np.ndarray, distance: int
) -> Iterator[Pairs]:
    """Yield the pairs in the short runs: each code with the next one of its run, the next but one, and so on."""
    short = (lengths > 1) & (lengths <= _LONG_RUN)
    starts, lengths = starts[short], lengths[short]
    last = np.repeat(starts + lengths - 1, lengths)
    places = np.repeat(starts - np.append(0, np.cumsum(lengths)[:-1]), lengths) + np.arange(lengths.sum())
    for step in range(1, int(lengths.max(initial=1))):
        inside = places + step <= last
        places, last = places[inside], last[inside]
        a, b = order[places], order[places + step]
        near = hamming(codes[a], codes[b]) <= distance
        yield a[near], b[near]


def _all_against_all(codes: np.ndarray, rows: np.ndarray, distance: int) -> Iterator[Pairs]:
    """Yield the pairs among some rows, by scans of faiss."""
    index = extras.faiss().IndexBinaryFlat(8 * codes.shape[1])
    index.add(codes[rows])
    for at in range(0, len(rows), 1024):
        limits, _, found = index.range_search(codes[rows[at : at + 1024]], distance + 1)
        counts = np.diff(limits.astype(np.int64))
        yield np.repeat(rows[at : at + 1024], counts), rows[found]


def components(n: int, pairs: Iterator[Pairs]) -> Int[np.ndarray, " n"]:
    """Return the number of the connected component of each of n nodes.

    Example:
        >>> components(4, iter([(np.array([0]), np.array([3])), (np.array([3]), np.array([1]))])).tolist()
        [0, 0, 1, 0]
    """
    labels, held, n_held = np.arange(n), [], 0
    for a, b in pairs:
        held.append((a, b))
        n_held += len(a)
        if n_held > _MAX_PAIRS:
            labels, held, n_held = _joined(labels, held), [], 0
    return _joined(labels, held)


def _joined(labels: np.ndarray, pairs: list[Pairs]) -> np.ndarray:
    """Return the labels after the components of these pairs are joined."""
    if not pairs:
        return labels
    a, b = (labels[np.concatenate(part)] for part in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(labels), len(labels)))
    found: np.ndarray = connected_components(graph, directed=False)[1]
    return found[labels]


def groups_of(labels: Int[np.ndarray, " n"]) -> list[np.ndarray]:
    """Return the members of each label that has at least two, ascending; groups by their first member.

    Example:
        >>> [group.tolist() for group in groups_of(np.array([4, 0, 4, 7, 0]))]
        [[0, 2], [1, 4]]
    """
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return sorted((group for group in np.split(order, cuts) if len(group) > 1), key=lambda group: int(group[0]))
