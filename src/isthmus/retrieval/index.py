"""`Index`: rows by the bits of their codes, with the model, in memory, in a folder or in an object store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from isthmus.errors import InputError, pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.retrieval.bits import CodeBits, are_bits
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
)  # fmt: skip
from isthmus.retrieval.folders import new_folder
from isthmus.retrieval.hamming import checked_numbers
from isthmus.retrieval.kept_rows import ROW, KeptRows, plain_rows, taken
from isthmus.retrieval.reader import IndexReader
from isthmus.retrieval.store import MEMORY, Store

if TYPE_CHECKING:
    import pandas as pd

SAMPLE_ROWS = 20_000
"""Rows, evenly spaced, whose codes determine the bits."""

ROWS_PER_PARTITION, MIN_PARTITIONED = 4096, 256


class Index(IndexReader):
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
                Store.create(address, schema, batches, settings, model_bytes, tensors, force=force)
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
                numbers = np.unique(checked_numbers(rows))
                self._fetch(numbers, [ROW])  # raises for a number that no row has
                where = f"{ROW} IN ({', '.join(map(str, numbers))})"
            else:
                numbers = self._store.matching(where)
            if len(numbers):
                self._store.delete(where)
        return len(numbers)

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

        `search`, `search_row`, `table`, `rows`, `add` and `remove` then read from disk the rows that they need. All
        bits are read into memory by `search_bits`, `exact=True`, `duplicates` and `row_numbers`. Rows that are added
        later are found by a scan of theirs until `compact`.

        Args:
            n_partitions: number of clusters of the bits; None is one for each 4,096 rows.

        Raises:
            InputError: fewer than 256 rows.
        """
        check_partitioned(self.address, len(self))
        with self._store.changing():
            self._store.partition(n_partitions or max(len(self) // ROWS_PER_PARTITION, 1))


def check_partitioned(address: str, n_rows: int) -> None:
    """Refuse partitions of few rows.

    Raises:
        InputError: fewer than 256 rows.
    """
    if n_rows < MIN_PARTITIONED:
        raise InputError(f"{address}: {pluralize(n_rows, 'row')}; partitions need at least {MIN_PARTITIONED}")
