"""Search by scan, by buckets and by multi-index hashing against a sort of all distances."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import InputError
from isthmus.retrieval.bits import hamming, packed
from isthmus.retrieval.buckets import Buckets, flip_patterns
from isthmus.retrieval.duplicates import near_duplicates
from isthmus.retrieval.hamming import HammingIndex
from isthmus.retrieval.multi_index import MultiIndex

CASES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**20),
        "n": st.integers(1, 300),
        "n_bytes": st.sampled_from([1, 2, 3, 8, 9, 16]),
        "n_different": st.integers(1, 300),
    }
)


def case(seed, n, n_bytes, n_different):
    """Return codes of which many are equal or near, and queries."""
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (n_different, n_bytes)).astype(np.uint8)
    flips = np.packbits(rng.random((n, 8 * n_bytes)) < 0.02, axis=1)
    codes = centres[rng.integers(0, n_different, n)] ^ flips
    return codes, np.concatenate([codes[:3], rng.integers(0, 256, (3, n_bytes)).astype(np.uint8)])


def sorted_neighbours(queries, codes, k):
    """Return distances and rows by a stable sort of all distances."""
    distances = hamming(queries[:, None], codes[None])
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), order


def assert_equal(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@settings(max_examples=40, deadline=None)
@given(case_=CASES, share=st.floats(0, 1))
def test_a_scan_gives_the_sorted_distances_with_ties_by_row(case_, share):
    codes, queries = case(**case_)
    k = min(len(codes), 1 + int(share * len(codes)))
    index = HammingIndex(codes)
    assert_equal(index.search(queries, k), sorted_neighbours(queries, codes, k))
    np.testing.assert_array_equal(index.codes, codes)


@settings(max_examples=40, deadline=None)
@given(case_=CASES, rate=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
def test_a_scan_among_some_rows_gives_their_sorted_distances(case_, rate):
    codes, queries = case(**case_)
    among = np.flatnonzero(np.random.default_rng(case_["seed"]).random(len(codes)) <= rate)
    k = min(7, len(codes))
    distances, rows = HammingIndex(codes).search(queries, k, among)
    n = min(k, len(among))
    expected = sorted_neighbours(queries, codes[among], n)
    np.testing.assert_array_equal(distances[:, :n], expected[0])
    np.testing.assert_array_equal(rows[:, :n], among[expected[1]])
    assert (distances[:, n:] == -1).all()
    assert (rows[:, n:] == -1).all()


@settings(max_examples=40, deadline=None)
@given(case_=CASES, tables=st.sampled_from([None, 2, 5]), k=st.integers(1, 20))
def test_multi_index_hashing_gives_what_a_scan_gives(case_, tables, k):
    codes, queries = case(**case_)
    k = min(k, len(codes))
    assert_equal(MultiIndex(codes, tables).search(queries, k), HammingIndex(codes).search(queries, k))


@settings(max_examples=30, deadline=None)
@given(case_=CASES, flips=st.integers(0, 2), k=st.integers(1, 20))
def test_buckets_give_the_sorted_distances_within_their_flips(case_, flips, k):
    codes, queries = case(**case_)
    k = min(k, len(codes))
    distances, rows = sorted_neighbours(queries, codes, k)
    is_within = distances <= flips
    found = Buckets(codes).search(queries, k, max_flips=flips)
    assert_equal(found, (np.where(is_within, distances, -1), np.where(is_within, rows, -1)))


def test_the_bits_that_fill_the_last_byte_are_not_flipped():
    bits = np.random.default_rng(0).integers(0, 2, (50, 5)).astype(np.uint8)
    found = Buckets(packed(bits), 5).search(packed(bits[:4]), 50, max_flips=9)
    assert_equal(found, sorted_neighbours(packed(bits[:4]), packed(bits), 50))


@pytest.mark.parametrize(("n_bits", "flips", "n"), [(8, 0, 1), (8, 3, 56), (20, 2, 190), (3, 4, 0)])
def test_flip_patterns_are_all_different_and_have_as_many_ones(n_bits, flips, n):
    found = list(flip_patterns(n_bits, flips, 3))
    patterns = np.concatenate(found) if found else np.empty((0, 3), np.uint8)
    assert len(np.unique(patterns, axis=0)) == len(patterns) == n
    assert (hamming(patterns, np.zeros_like(patterns)) == flips).all()


def components_by_hand(codes, distance):
    """Return the groups by a search from row to row."""
    near, left, groups = hamming(codes[:, None], codes[None]) <= distance, set(range(len(codes))), []
    while left:
        group, pending = set(), [min(left)]
        while pending:
            row = pending.pop()
            if row not in group:
                group.add(row)
                pending += np.flatnonzero(near[row]).tolist()
        left -= group
        groups += [sorted(group)] if len(group) > 1 else []
    return groups


@settings(max_examples=40, deadline=None)
@given(case_=CASES, distance=st.integers(0, 7))
def test_near_duplicates_are_the_components_of_the_pairs_within_the_distance(case_, distance):
    codes, _ = case(**case_)
    assert [group.tolist() for group in near_duplicates(codes, distance)] == components_by_hand(codes, distance)


def test_runs_of_many_equal_substrings_are_compared_too(monkeypatch):
    monkeypatch.setattr("isthmus.retrieval.duplicates._LONG_RUN", 3)
    monkeypatch.setattr("isthmus.retrieval.duplicates._MAX_PAIRS", 10)
    codes = np.random.default_rng(0).integers(0, 256, (300, 2)).astype(np.uint8)
    for distance in (1, 2):
        assert [group.tolist() for group in near_duplicates(codes, distance)] == components_by_hand(codes, distance)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (lambda: HammingIndex(np.zeros((3, 2))), "type float64; give .n, bytes. of uint8"),
        (lambda: HammingIndex(np.zeros((3, 2), np.uint8)).search(np.zeros((1, 3), np.uint8), 1), "24 bits.* have 16"),
        (lambda: HammingIndex(np.zeros((3, 2), np.uint8)).search(np.zeros((1, 2), np.uint8), 4), "k=4.* has 3 rows"),
        (lambda: HammingIndex(np.zeros((3, 2), np.uint8)).search(np.zeros((1, 2), np.uint8), 0), "at least 1"),
        (lambda: HammingIndex(np.zeros((0, 2), np.uint8)).search(np.zeros((1, 2), np.uint8), 1), "index is empty"),
        (lambda: Buckets(np.zeros((3, 2), np.uint8)).search(np.zeros((1, 2), np.uint8), 4), "k=4"),
        (lambda: MultiIndex(np.zeros((3, 2), np.uint8), 17), "n_tables=17"),
        (lambda: near_duplicates(np.zeros((3, 2), np.uint8), 16), "below the number of bits, 16"),
        (lambda: near_duplicates(np.zeros((3, 2), np.uint8), -1), "at least 0"),
    ],
)
def test_invalid_searches_are_refused(search, message):
    with pytest.raises(InputError, match=message):
        search()


@pytest.mark.parametrize("package", ["faiss", "lancedb"])
def test_a_missing_package_is_named_with_the_extra_that_installs_it(package, monkeypatch):
    from isthmus.retrieval import extras

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"needs the package {package}; install it with pip install 'isthmus.search.'"):
        getattr(extras, package)()
