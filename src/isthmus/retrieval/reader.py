"""Reading of an index: its contents, the neighbours of queries and of rows, and near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from isthmus.errors import InputError, pluralize
from isthmus.estimators import inputs
from isthmus.estimators.base import BaseAutoencoder
from isthmus.retrieval.bits import CodeBits, hamming
from isthmus.retrieval.duplicates import check_distance, groups_of, near_duplicates
from isthmus.retrieval.hamming import NONE, HammingIndex, Subset, check_k, checked_numbers
from isthmus.retrieval.kept_rows import BITS, CODE, ROW, KeptRows, plain_rows
from isthmus.retrieval.ranking import RERANKINGS, Distances, check_reranking, distances_to, n_candidates
from isthmus.retrieval.store import Store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The rows that were found for each query, the nearest first.

    Attributes:
        rows: (queries, k), numbers of rows; -1 where fewer than k rows were found.
        distances: (queries, k), in `measure`; -1 where there is no row.
        measure: "bits" (Hamming distance), or the distance of the re-ranking: "codes", "cosine" or "rows".
    """

    rows: Int[np.ndarray, "queries k"]
    distances: Float[np.ndarray, "queries k"]
    measure: str


MAX_CONDITIONS = 4
"""Conditions whose rows are kept in memory."""

QUERIES_PER_CALL = 256
"""Queries of an index with partitions that LanceDB answers together."""


class Contents(NamedTuple):
    """The size of one version, and whether its bits have partitions."""

    version: int
    n_rows: int
    has_partitions: bool


class Loaded(NamedTuple):
    """The bits of one version in memory, and those of the rows for which the latest conditions hold."""

    version: int
    n_removals: int
    rows: Int[np.ndarray, " n"]
    bits: HammingIndex
    conditions: dict[str, Subset]


class IndexReader:
    """The methods of `Index` that change nothing.

    Args:
        store: the tables.
        model: the model whose codes they hold.
        bits: the map from codes to bits.
        kept: the columns that are kept of the rows.
        settings: the settings of the index.
    """

    def __init__(self, store: Store, model: BaseAutoencoder, bits: CodeBits, kept: KeptRows, settings: Any) -> None:
        self._store, self.model, self.bits, self._kept, self._settings = store, model, bits, kept, settings
        self._cached: Loaded | None = None
        self._noted: Contents | None = None

    # -- contents -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._contents.n_rows

    @property
    def address(self) -> str:
        """The folder or address, or memory://."""
        return self._store.address

    @property
    def version(self) -> int:
        """The version that is read. Each change makes a new one."""
        return self._store.version

    @property
    def versions(self) -> list[dict[str, Any]]:
        """Number, time and number of rows of each version that is kept, the oldest first."""
        return self._store.versions()

    @property
    def columns(self) -> list[str]:
        """The names that conditions can use, further columns first; `_row` is the number of a row."""
        return [*self._kept.names, ROW]

    @property
    def further_columns(self) -> dict[str, str]:
        """The columns that are kept and that the model does not read: names of the user by names in conditions."""
        return self._kept.further

    @property
    def identifiers(self) -> list[str]:
        """The names in conditions of the columns that say which row is which."""
        return list(self._kept.identifiers)

    @property
    def row_numbers(self) -> Int[np.ndarray, " n"]:
        """The numbers of all rows, ascending."""
        return np.sort(self._loaded.rows)

    @property
    def info(self) -> dict[str, Any]:
        """The contents as plain data."""
        return {
            "index": self.address, "rows": len(self), "kind": self.model.kind, "code_size": self.model.code_size_,
            "bits": self.bits.n_bits, "bytes_of_bits": len(self) * -(-self.bits.n_bits // 8),
            "codes": "bits" if self._has_bits_alone else "real numbers and bits",
            "columns": self.columns, "identifiers": self.identifiers, "rows_kept": self._kept.is_kept,
            "partitions": self._contents.has_partitions, "fingerprint": self._settings["fingerprint"],
            "version": self.version, "versions": self.versions,
        }  # fmt: skip

    @property
    def _has_bits_alone(self) -> bool:
        return CODE not in self._store.schema.names

    @property
    def _loaded(self) -> Loaded:
        """The row numbers and the bits in memory, which are read once; of later versions the rows that were added."""
        version, known = self._store.version, self._cached
        if known is None or known.version != version:
            added = None if known is None else self._store.read_added(known.rows, known.n_removals)
            self._cached = self._read() if known is None or added is None else _extended(known, version, *added)
        assert self._cached is not None
        return self._cached

    def _read(self) -> Loaded:
        """Return the row numbers and the bits of all rows."""
        n_removals = self._store.n_removals
        rows, codes = self._store.read_bits()
        return Loaded(self._store.version, n_removals, rows, HammingIndex(codes), {})

    @property
    def _contents(self) -> Contents:
        """The size of the version that is read, which is asked for once."""
        version = self._store.version
        if self._noted is None or self._noted.version != version:
            self._noted = Contents(version, self._store.n_rows, self._store.has_partitions)
        return self._noted

    @property
    def _is_on_disk(self) -> bool:
        """True if the bits have partitions and are not in memory, where only a scan of all bits brings them."""
        has_bits = self._cached is not None and self._cached.version == self._store.version
        return self._contents.has_partitions and not has_bits

    def _fetch(self, rows: Sequence[int] | Int[np.ndarray, " n"], columns: Sequence[str]) -> pa.Table:
        """Return some columns of rows by number, in this order.

        Raises:
            InputError: a number that no row has.
        """
        rows = checked_numbers(rows)
        if self._is_on_disk:
            return self._store.fetch_rows(rows, columns)
        return self._store.fetch(self._places(rows), columns)

    def _places(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Return the places in the table of row numbers.

        Raises:
            InputError: a number that no row has.
        """
        rows, known = np.asarray(rows, np.int64), self._loaded.rows
        places = np.searchsorted(known, rows)
        unknown = (places == len(known)) | (known[np.minimum(places, len(known) - 1)] != rows if len(known) else True)
        if unknown.any():
            raise InputError(f"{self.address}: no row {rows[unknown][0]}; {self._range_of_rows()}")
        return places

    def _range_of_rows(self) -> str:
        known = self._loaded.rows
        if not len(known):
            return "the index is empty"
        return f"it has {pluralize(len(known), 'row')} between {known[0]} and {known[-1]}"

    def table(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> pd.DataFrame:
        """Return the named columns of rows by number, in this order, with the numbers as index.

        Raises:
            InputError: a number that no row has.
        """
        rows = checked_numbers(rows)
        names = {**self._kept.further, **self._kept.columns}
        found = self._fetch(rows, list(names)).to_pandas()
        labels = [each if list(names.values()).count(names[each]) > 1 else names[each] for each in names]
        return found[list(names)].set_axis(labels, axis=1).set_index(np.array(rows))

    def rows(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> Any:
        """Return rows by number in the form that the model reads: a data frame, an array, images or texts.

        Raises:
            InputError: a number that no row has; rows that are not kept, as sparse ones.
        """
        if not self._kept.is_kept:
            raise InputError(f"{self.address}: sparse rows and rows with conditions are not kept, only their codes")
        return self._kept.rows(self._fetch(rows, self._kept.own_fields))

    def numbers_of(self, identifiers: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Return the row numbers of identifiers as text: values of the first identifying column, or row numbers.

        Raises:
            InputError: an identifier that no row has.
        """
        import pandas as pd

        rows = self._loaded.rows
        known: Any = rows
        if self.identifiers:
            known = self._store.fetch(np.arange(len(rows)), self.identifiers[:1])[self.identifiers[0]].to_pandas()
        names = pd.Series(known).astype(str)
        missing = sorted(set(identifiers) - set(names))
        if missing:
            named = f"column {self.identifiers[0]!r}" if self.identifiers else "row number"
            raise InputError(
                f"{self.address}: no row has the identifier {missing[0]!r} ({named}); {self._range_of_rows()}"
            )
        return rows[names.isin(list(identifiers)).to_numpy()]

    # -- search -------------------------------------------------------------------------------------------

    def search(
        self, X: Any, k: int = 10, *, where: str | None = None, rerank: str | None = None, exact: bool = False
    ) -> Neighbours:
        """Return the k nearest rows of each query.

        Args:
            X: queries, in any form that the model takes; one text is one query.
            k: number of neighbours.
            where: condition on the columns of the rows that may be found, in SQL, such as "price < 10".
            rerank: None orders by the Hamming distance of bits; "codes", "cosine" and "rows" reorder the nearest
                candidates by the Euclidean or cosine distance of codes, or the Euclidean distance of rows in model
                space. There are 10 candidates for each neighbour, and at least 100.
            exact: True scans all bits; of use where `partition` was called. Without partitions answers are exact.

        Raises:
            InputError: queries that the model refuses; `k` larger than the number of rows; an empty index; a condition
                with an unknown column, or one that is not SQL; another `rerank`, or one that the index has no data for.
        """
        check_k(k, len(self))
        self._check_reranking(rerank)
        X = plain_rows(X)
        codes = np.asarray(self.model.transform(X))
        query_rows = self._model_rows(X) if rerank == "rows" else None
        return self._ranked(self.bits.packed(codes), codes, query_rows, k, where, rerank, exact)

    def search_row(
        self, row: int, k: int = 10, *, where: str | None = None, rerank: str | None = None, exact: bool = False
    ) -> Neighbours:
        """Return the k rows of the index that are nearest to one of its rows, without that row, as `search` does.

        Raises:
            InputError: also a number that no row has.
        """
        check_k(k, len(self))
        packed = self._packed_of(checked_numbers([row]))
        check_k(k, len(self) - 1)
        self._check_reranking(rerank)
        codes = self._codes_of(np.array([row]))
        query_rows = self._model_rows(self.rows([row])) if rerank == "rows" else None
        found = self._ranked(packed, codes, query_rows, k + 1, where, rerank, exact)
        is_other = found.rows[0] != row
        rows, distances = (each[:, is_other][:, :k] for each in (found.rows, found.distances))
        return Neighbours(rows, distances, found.measure)

    def search_bits(
        self, bits: UInt8[np.ndarray, "queries bytes"], k: int = 10, *, where: str | None = None
    ) -> Neighbours:
        """Return the k nearest rows of packed bits, by a scan, as `search` does.

        Raises:
            InputError: bits of another width; what `search` refuses of `k` and `where`.
        """
        rows = self._loaded.rows
        distances, places = (self._loaded.bits if where is None else self._matching(where)).search(bits, k)
        if len(rows) and rows[-1] == len(rows) - 1:  # rows are numbered by their places, as NONE is
            return Neighbours(places, distances, "bits")
        return Neighbours(np.where(places == NONE, NONE, rows[places]), distances, "bits")

    def _matching(self, where: str) -> Subset:
        """Return the bits of the rows for which a condition holds; those of the latest conditions are kept."""
        known = self._loaded.conditions
        if where not in known:
            check_k(1, len(self))
            found = self._loaded.bits.subset(np.searchsorted(self._loaded.rows, self._store.matching(where)))
            if len(known) >= MAX_CONDITIONS:
                del known[next(iter(known))]
            known[where] = found
        return known[where]

    def _check_reranking(self, rerank: str | None) -> None:
        check_reranking(rerank, has_codes=not self._has_bits_alone, has_rows=self._kept.is_kept)

    def _ranked(
        self, packed: np.ndarray, codes: np.ndarray, query_rows: np.ndarray | None, k: int, where: str | None,
        rerank: str | None, exact: bool,
    ) -> Neighbours:  # fmt: skip
        """Return the neighbours by bits, reordered by another distance if one is named."""
        size = k if rerank is None else n_candidates(k, len(self))
        if self._contents.has_partitions and not exact:
            found = self._nearest(packed, size, where)
        else:
            found = self.search_bits(packed, min(size, len(self)), where=where)
        if rerank is None:
            return Neighbours(found.rows[:, :k], found.distances[:, :k], "bits")
        queries = codes if query_rows is None else query_rows
        rows, distances = self._reordered(found.rows, queries, rerank)
        return Neighbours(rows[:, :k], distances[:, :k], rerank)

    def _nearest(self, packed: np.ndarray, k: int, where: str | None) -> Neighbours:
        """Return about the nearest rows, by the partitions of the table."""
        rows, distances = (np.full((len(packed), k), NONE, np.int64) for _ in range(2))
        for start in range(0, len(packed), QUERIES_PER_CALL):
            query, near, members = self._store.nearest(packed[start : start + QUERIES_PER_CALL], k, where)
            order = np.lexsort((members, near, query))
            query = query[order]
            place = np.arange(len(query)) - np.searchsorted(query, query)
            rows[start + query, place], distances[start + query, place] = members[order], near[order]
        return Neighbours(rows, distances, "bits")

    def _reordered(self, candidates: np.ndarray, queries: np.ndarray, rerank: str) -> tuple[np.ndarray, np.ndarray]:
        """Return candidates in the order of their distance to the queries, and of their numbers; with distances."""
        members = np.unique(candidates[candidates != NONE])
        known = self._model_rows(self.rows(members)) if rerank == "rows" and len(members) else self._codes_of(members)
        measure: Distances = RERANKINGS[rerank]
        rows, distances = np.full(candidates.shape, NONE), np.full(candidates.shape, float(NONE))
        for i, query in enumerate(queries):
            own = np.sort(candidates[i][candidates[i] != NONE])
            found = distances_to(measure, query, known[np.searchsorted(members, own)])
            order = np.argsort(found, kind="stable")
            rows[i, : len(own)], distances[i, : len(own)] = own[order], found[order]
        return rows, distances

    def _packed_of(self, rows: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, "n bytes"]:
        """Return the packed bits of rows by number."""
        if self._is_on_disk:
            return _matrix(self._fetch(rows, [BITS])[BITS])
        return self._loaded.bits.codes[self._places(rows)]

    def _codes_of(self, rows: Int[np.ndarray, " n"]) -> np.ndarray:
        """Return the codes of rows by number."""
        return self._packed_of(rows) if self._has_bits_alone else _matrix(self._fetch(rows, [CODE])[CODE])

    def _model_rows(self, X: Any) -> Float[np.ndarray, "n columns"]:
        """Return rows in model space."""
        rows = inputs.model_rows(self.model, X)
        return rows.batch(torch.arange(len(rows))).x.numpy()

    # -- near-duplicates ----------------------------------------------------------------------------------

    def duplicates(self, distance: int = 2, *, row_distance: float | None = None) -> list[Int[np.ndarray, " group"]]:
        """Return groups of near-equal rows: those that pairs within a Hamming distance connect.

        Args:
            distance: largest Hamming distance of a pair.
            row_distance: largest Euclidean distance of the two rows of a pair in model space, which verifies pairs;
                None does not verify them.

        Returns:
            The row numbers of each group of at least two, ascending; groups by their first row.

        Raises:
            InputError: a distance below 0, or of at least the number of bits; rows that are not kept, to verify them.
        """
        check_distance(distance, self.bits.n_bits)
        if row_distance is not None and not row_distance >= 0:
            raise InputError(f"row_distance={row_distance}: it must be at least 0")
        if row_distance is not None and not self._kept.is_kept:
            raise InputError(f"{self.address}: the rows are not kept; omit row_distance, which compares them")
        rows, index = self._loaded.rows, self._loaded.bits
        if not len(rows):
            return []
        groups = [rows[group] for group in near_duplicates(index.codes, distance, self.bits.n_bits)]
        if row_distance is None:
            return groups
        verified = [part for group in groups for part in self._verified(group, distance, row_distance)]
        return sorted(verified, key=lambda group: int(group[0]))

    def _verified(self, group: np.ndarray, distance: int, row_distance: float) -> list[np.ndarray]:
        """Return the groups within a group that pairs connect whose rows are near, too."""
        from scipy.sparse.csgraph import connected_components
        from sklearn.neighbors import radius_neighbors_graph

        near = radius_neighbors_graph(self._model_rows(self.rows(group)), row_distance, include_self=False).tocoo()
        codes = self._loaded.bits.codes[self._places(group)]
        near.data = (hamming(codes[near.row], codes[near.col]) <= distance).astype(float)
        near.eliminate_zeros()
        return [group[members] for members in groups_of(connected_components(near, directed=False)[1])]


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of lists of one size as a matrix."""
    flat, size = column.combine_chunks().flatten().to_numpy(), column.type.list_size
    found: np.ndarray = flat.reshape(-1, size)
    return found


def _extended(known: Loaded, version: int, rows: np.ndarray, codes: np.ndarray) -> Loaded:
    """Return the contents of a later version, whose bits are added to those in memory."""
    known.bits.add(codes)
    return Loaded(version, known.n_removals, np.concatenate([known.rows, rows]), known.bits, {})
