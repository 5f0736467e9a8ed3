"""`Index`: rows by the bits of their codes, with the model, in memory, in a folder or in an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from isthmus.errors import InputError, pluralize
from isthmus.estimators import inputs
from isthmus.estimators.base import BaseAutoencoder
from isthmus.retrieval.bits import CodeBits, are_bits, hamming
from isthmus.retrieval.duplicates import check_distance, groups_of, near_duplicates
from isthmus.retrieval.encoding import (
    bits_from_bytes,
    checked_rows,
    file_of,
    fingerprint,
    further_columns,
    index_schema,
    model_in,
    record_batches,
    tensors_to_bytes,
)
from isthmus.retrieval.folders import new_folder
from isthmus.retrieval.hamming import NONE, HammingIndex, check_k
from isthmus.retrieval.kept_rows import CODE, ROW, KeptRows, plain_rows, taken
from isthmus.retrieval.ranking import RERANKINGS, Distances, check_reranking, distances_to, n_candidates
from isthmus.retrieval.store import MEMORY, Store

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 20_000
"""Rows, evenly spaced, whose codes determine the bits."""

ROWS_PER_PARTITION = 4096


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


class Index:
    """Rows that are found by the similarity of their codes.

    An index holds, for each row, its number, the bits of its code, the code itself if it is of real numbers, and the
    columns of the row. It holds a copy of the model, too. The bits of codes that are real numbers are those of
    `isthmus.retrieval.bits.CodeBits`. Row numbers count up from 0 in the order in which rows were added, and are not
    used again.

    Neighbours are ordered by the Hamming distance of their bits and then by row number. The answers are exact, by a
    scan of all bits, which are read once for each version of the index. Conditions on columns are SQL.

    Every change is one commit and makes a new version: it is made as a whole or not at all, also when the process is
    killed.

    Source: DL book, section 14.9; Salakhutdinov & Hinton, Semantic hashing (2007).

    Example:
        >>> import pandas as pd
        >>> from isthmus import Index, LinearAutoencoder
        >>> table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=["price", "size", "age"])
        >>> model = LinearAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(table)
        >>> index = Index.build(model, table)
        >>> index.search(table[:2], k=1).rows.tolist()
        [[0], [1]]
        >>> bool((index.table(index.search(table[:1], k=3, where="price < 0").rows[0])["price"] < 0).all())
        True
    """

    def __init__(self, store: Store, model: BaseAutoencoder, bits: CodeBits, kept: KeptRows, settings: Any) -> None:
        self._store, self.model, self.bits, self._kept, self._settings = store, model, bits, kept, settings
        self._cached: tuple[int, Int[np.ndarray, " n"], HammingIndex] | None = None

    # -- construction -------------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        model: BaseAutoencoder,
        X: Any,
        path: str | os.PathLike[str] | None = None,
        *,
        n_bits: int | None = None,
        columns: pd.DataFrame | Mapping[str, Any] | None = None,
        identifiers: Sequence[str] = (),
        random_state: int = 0,
        force: bool = False,
    ) -> Index:
        """Encode rows and write their index.

        Args:
            model: a fitted autoencoder.
            X: rows in any form that the model takes. Columns of tables and matrices, texts and images are kept; sparse
                rows, and rows with conditions that are not a table, are not.
            path: a new folder, or an address of an object store such as s3://bucket/name; None is in memory.
            n_bits: number of bits; None is 64, or the number of units of codes that are bits.
            columns: further columns to keep, with as many rows, which conditions and outputs can use. An index of a
                data frame that is not the row numbers, and the carried columns of a data set, are kept without this.
            identifiers: names of further columns that say which row is which.
            random_state: seed of the bits.
            force: replace an index at `path`.

        Raises:
            InputError: rows that the model refuses, a path that exists, invalid `n_bits`, or a full disk.
        """
        model_bytes = file_of(model)  # raises for a model that is not fitted
        further, identifiers = further_columns(X, columns, identifiers)
        X = plain_rows(X)
        n = checked_rows(model, X, further)
        sample = np.unique(np.linspace(0, n - 1, min(n, SAMPLE_ROWS)).astype(np.int64))
        codes = np.asarray(model.transform(taken(X, sample)))
        bits = CodeBits.learn(codes, n_bits, random_state=random_state)
        kept = KeptRows.of(X, further, identifiers)
        settings = {
            "schema": 1, "n_bits": bits.n_bits, "kept": kept.to_dict(), "fingerprint": fingerprint(model),
            "kind": model.kind, "code_size": model.code_size_,
        }  # fmt: skip
        schema = index_schema(kept.fields(X, further), bits, None if are_bits(codes) else model.code_size_)
        batches = record_batches(model, bits, kept, schema, X, further, 0)
        tensors = tensors_to_bytes(bits)
        if path is None:
            store = Store.create(MEMORY, schema, batches, settings, model_bytes, tensors)
        else:
            with new_folder(os.fspath(path), force) as address:
                Store.create(address, schema, batches, settings, model_bytes, tensors)
            store = Store.open(os.fspath(path))
        return cls(store, model, bits, kept, settings)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        model: BaseAutoencoder | None = None,
        version: int | None = None,
        device: str = "auto",
    ) -> Index:
        """Open an index that `build` wrote.

        Args:
            path: the folder or the address.
            model: the model, if it is loaded already; None loads the copy in the index.
            version: a version to read; None is the latest one.
            device: where the copy of the model runs.

        Raises:
            InputError: no index at `path`, a damaged one, one of another model, or an unknown version.
        """
        address = os.fspath(path)
        store = Store.open(address, version)
        settings, model_bytes, tensors = store.settings()
        if settings["schema"] > 1:
            raise InputError(f"{address}: written by a newer isthmus; upgrade with pip install --upgrade isthmus")
        if model is None:
            model = model_in(model_bytes, device)
        if fingerprint(model) != settings["fingerprint"]:
            raise InputError(
                f"{address}: the index of another model (kind {settings['kind']}, code size {settings['code_size']}); "
                "give the model that it was built with, or build an index of this model"
            )
        bits = bits_from_bytes(settings["n_bits"], tensors)
        return cls(store, model, bits, KeptRows.from_dict(settings["kept"]), settings)

    # -- contents -----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._loaded[1])

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
        return np.sort(self._loaded[1])

    @property
    def info(self) -> dict[str, Any]:
        """The contents as plain data."""
        return {
            "index": self.address, "rows": len(self), "kind": self.model.kind, "code_size": self.model.code_size_,
            "bits": self.bits.n_bits, "bytes_of_bits": len(self) * -(-self.bits.n_bits // 8),
            "codes": "bits" if self._has_bits_alone else "real numbers and bits",
            "columns": self.columns, "identifiers": self.identifiers, "rows_kept": self._kept.is_kept,
            "partitions": self._store.has_partitions, "fingerprint": self._settings["fingerprint"],
            "version": self.version, "versions": self.versions,
        }  # fmt: skip

    @property
    def _has_bits_alone(self) -> bool:
        return CODE not in self._store.schema.names

    @property
    def _loaded(self) -> tuple[int, Int[np.ndarray, " n"], HammingIndex]:
        """The version, the row numbers and the bits in memory, which are read once for each version."""
        version = self._store.version
        if self._cached is None or self._cached[0] != version:
            rows, codes = self._store.read_bits()
            self._cached = (version, rows, HammingIndex(codes))
        return self._cached

    def _places(self, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Return the places in the table of row numbers.

        Raises:
            InputError: a number that no row has.
        """
        rows, known = np.asarray(rows, np.int64), self._loaded[1]
        places = np.searchsorted(known, rows)
        unknown = (places == len(known)) | (known[np.minimum(places, len(known) - 1)] != rows if len(known) else True)
        if unknown.any():
            raise InputError(f"{self.address}: no row {rows[unknown][0]}; {self._range_of_rows()}")
        return places

    def _range_of_rows(self) -> str:
        known = self._loaded[1]
        if not len(known):
            return "the index is empty"
        return f"it has {pluralize(len(known), 'row')} between {known[0]} and {known[-1]}"

    def table(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> pd.DataFrame:
        """Return the named columns of rows by number, in this order, with the numbers as index.

        Raises:
            InputError: a number that no row has.
        """
        rows = np.asarray(rows, np.int64)
        names = {**self._kept.further, **self._kept.columns}
        found = self._store.fetch(self._places(rows), list(names)).to_pandas()
        labels = [each if list(names.values()).count(names[each]) > 1 else names[each] for each in names]
        return found[list(names)].set_axis(labels, axis=1).set_index(np.array(rows))

    def rows(self, rows: Sequence[int] | Int[np.ndarray, " n"]) -> Any:
        """Return rows by number in the form that the model reads: a data frame, an array, images or texts.

        Raises:
            InputError: a number that no row has; rows that are not kept, as sparse ones.
        """
        if not self._kept.is_kept:
            raise InputError(f"{self.address}: sparse rows and rows with conditions are not kept, only their codes")
        return self._kept.rows(self._store.fetch(self._places(np.asarray(rows)), self._kept.own_fields))

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
        place = self._places(np.array([row]))
        check_k(k, len(self) - 1)
        self._check_reranking(rerank)
        codes, packed = self._codes_at(place), self._loaded[2].codes[place]
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
        _, rows, index = self._loaded
        distances, places = index.search(bits, k, None if where is None else self._matching(where))
        if len(rows) and rows[-1] == len(rows) - 1:  # rows are numbered by their places, as NONE is
            return Neighbours(places, distances, "bits")
        return Neighbours(np.where(places == NONE, NONE, rows[places]), distances, "bits")

    def _matching(self, where: str) -> Int[np.ndarray, " places"]:
        """Return the places of the rows for which a condition holds."""
        return np.searchsorted(self._loaded[1], self._store.matching(where))

    def _check_reranking(self, rerank: str | None) -> None:
        check_reranking(rerank, has_codes=not self._has_bits_alone, has_rows=self._kept.is_kept)

    def _ranked(
        self, packed: np.ndarray, codes: np.ndarray, query_rows: np.ndarray | None, k: int, where: str | None,
        rerank: str | None, exact: bool,
    ) -> Neighbours:  # fmt: skip
        """Return the neighbours by bits, reordered by another distance if one is named."""
        size = k if rerank is None else n_candidates(k, len(self))
        if self._store.has_partitions and not exact:
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
        for i, query in enumerate(packed):
            near, members = self._store.nearest(query, k, where)
            order = np.lexsort((members, near))
            rows[i, : len(order)], distances[i, : len(order)] = members[order], near[order]
        return Neighbours(rows, distances, "bits")

    def _reordered(self, candidates: np.ndarray, queries: np.ndarray, rerank: str) -> tuple[np.ndarray, np.ndarray]:
        """Return candidates in the order of their distance to the queries, and of their numbers; with distances."""
        members = np.unique(candidates[candidates != NONE])
        places = self._places(members)
        known = self._model_rows(self.rows(members)) if rerank == "rows" and len(members) else self._codes_at(places)
        measure: Distances = RERANKINGS[rerank]
        rows, distances = np.full(candidates.shape, NONE), np.full(candidates.shape, float(NONE))
        for i, query in enumerate(queries):
            own = np.sort(candidates[i][candidates[i] != NONE])
            found = distances_to(measure, query, known[np.searchsorted(members, own)])
            order = np.argsort(found, kind="stable")
            rows[i, : len(own)], distances[i, : len(own)] = own[order], found[order]
        return rows, distances

    def _codes_at(self, places: Int[np.ndarray, " n"]) -> np.ndarray:
        """Return the codes of rows by place."""
        if self._has_bits_alone:
            return self._loaded[2].codes[places]
        column = self._store.fetch(places, [CODE])[CODE].combine_chunks()
        return column.flatten().to_numpy().reshape(len(places), -1)

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
        if row_distance is not None and not self._kept.is_kept:
            raise InputError(f"{self.address}: the rows are not kept; omit row_distance, which compares them")
        _, rows, index = self._loaded
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
        codes = self._loaded[2].codes[self._places(group)]
        near.data = (hamming(codes[near.row], codes[near.col]) <= distance).astype(float)
        near.eliminate_zeros()
        return [group[members] for members in groups_of(connected_components(near, directed=False)[1])]

    # -- changes ------------------------------------------------------------------------------------------

    def add(
        self, X: Any, *, columns: pd.DataFrame | Mapping[str, Any] | None = None, identifiers: Sequence[str] = ()
    ) -> Int[np.ndarray, " n"]:
        """Encode rows and append them: all of them, or none.

        Args:
            X: rows in the form of those of `build`.
            columns: the further columns that the index keeps.
            identifiers: as in `build`.

        Returns:
            The numbers of the new rows.

        Raises:
            InputError: rows that the model refuses; a further column that is missing, or values of another type; a
                full disk; an index that is open at an older version.
        """
        further, _ = further_columns(X, columns, identifiers)
        X = plain_rows(X)
        n = checked_rows(self.model, X, further)
        with self._store.changing():
            first, schema = self._store.next_row(), self._store.schema
            self._store.add(record_batches(self.model, self.bits, self._kept, schema, X, further, first))
        return np.arange(first, first + n)

    def remove(self, rows: Sequence[int] | Int[np.ndarray, " n"] | None = None, *, where: str | None = None) -> int:
        """Remove rows by number or by a condition, and return how many.

        Older versions keep them until `compact`.

        Raises:
            InputError: both or neither of `rows` and `where`; a number that no row has; an invalid condition.
        """
        if (rows is None) == (where is None):
            raise InputError("remove takes row numbers or a condition: give one of rows and where")
        with self._store.changing():
            if where is None:
                numbers = np.unique(np.asarray(rows, np.int64))
                self._places(numbers)
                where = f"{ROW} IN ({', '.join(map(str, numbers))})"
            else:
                numbers = self._store.matching(where)
            if len(numbers):
                self._store.delete(where)
        return len(numbers)

    def numbers_of(self, identifiers: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Return the row numbers of identifiers as text: values of the first identifying column, or row numbers.

        Raises:
            InputError: an identifier that no row has.
        """
        import pandas as pd

        _, rows, _ = self._loaded
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

    def refresh(self) -> None:
        """Read the latest version, with the changes of other processes."""
        self._store.refresh()

    def restore(self, version: int) -> None:
        """Make the rows of an older version the latest one.

        Raises:
            InputError: an unknown version, or one that `compact` removed.
        """
        with self._store.changing():
            self._store.restore(version)

    def compact(self) -> None:
        """Write the rows to fewer files and remove older versions, with the rows that only they have.

        Other processes that read an older version fail; no other process should use the index meanwhile.
        """
        with self._store.changing():
            self._store.compact()

    def partition(self, n_partitions: int | None = None) -> None:
        """Add an IVF index of the bits, for an index that is larger than memory: `search` is then approximate.

        Args:
            n_partitions: number of clusters of the bits; None is one for each 4,096 rows.

        Raises:
            InputError: fewer than 256 rows.
        """
        if len(self) < 256:
            raise InputError(f"{self.address}: {pluralize(len(self), 'row')}; partitions need at least 256")
        with self._store.changing():
            self._store.partition(n_partitions or max(len(self) // ROWS_PER_PARTITION, 1))
