"""The tables of an index in LanceDB: rows, the model, and the next number of a row. Every change is one commit."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int, UInt8

from isthmus.data.messages import hint, one_line
from isthmus.errors import InputError, pluralize
from isthmus.retrieval import extras
from isthmus.retrieval.kept_rows import BITS, CODE, ROW

if TYPE_CHECKING:
    import pyarrow as pa

ROWS, MODEL, COUNTER = "rows", "model", "counter"
"""Tables: the rows; the settings with the model, which is written last; the number of the next row."""

LOCK = ".lock"
"""File of a local index that a process holds while it makes a change."""

MEMORY = "memory://"

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`")


class Store:
    """The tables of one index, in a folder, in an object store, or in memory.

    Args:
        database: a connection of LanceDB.
        address: folder or address, for messages.
        version: version of the rows to read; None is the latest one.

    Attributes:
        version: the number of the version that is read; each change adds one.
        schema: the Arrow schema of the rows.
    """

    def __init__(self, database: Any, address: str, version: int | None = None) -> None:
        self.database, self.address, self.version_of_reader = database, address, version
        self.table = database.open_table(ROWS)
        self._offsets: Int[np.ndarray, " n"] | None = None
        if version is not None:
            with _reading(address):
                self._check_out(version)
        self.schema: pa.Schema = self.table.schema
        self._note_version()

    def _note_version(self) -> None:
        """Keep the number of the version that is read, which takes LanceDB longer than a search."""
        self.version = int(self.table.version)

    @classmethod
    def create(
        cls, address: str, schema: pa.Schema, batches: Iterator[pa.RecordBatch], settings: dict[str, Any],
        model: bytes, tensors: bytes, *, force: bool = False,
    ) -> Store:  # fmt: skip
        """Write a new index; the table of the model is the last one, so that an unfinished index has none.

        Raises:
            InputError: an index at an address, unless `force` replaces it; an address that is not valid; a full disk.
        """
        import pyarrow as pa

        database = _emptied(address, force)
        with _writing(address, "no index was written"):
            _stream(lambda reader: database.create_table(ROWS, reader), schema, batches)
            database.create_table(COUNTER, pa.table({"next": [0]}))
            blobs = [pa.array([blob], pa.large_binary()) for blob in (model, tensors)]
            texts = pa.array([json.dumps(settings)], pa.large_string())
            database.create_table(MODEL, pa.table([texts, *blobs], ["settings", "model", "tensors"]))
            if "://" not in address:
                (Path(address) / LOCK).touch()
        return cls(database, address)

    @classmethod
    def open(cls, address: str, version: int | None = None) -> Store:
        """Open an index.

        Raises:
            InputError: no such folder, a folder that is not an index, an unfinished or a damaged index, an unknown
                version.
        """
        is_local = "://" not in address
        if is_local and not Path(address).is_dir():
            found = "is a file, not an index" if Path(address).exists() else "no such index"
            raise InputError(f"{address}: {found}; name a folder written by isthmus index build")
        with _reading(address):
            names = _table_names(address) if is_local else None
            if names is None or ROWS in names:
                database = extras.lancedb().connect(address)
                names = list(database.list_tables().tables)
        if ROWS not in names:
            raise InputError(f"{address}: this folder is not an index; name one written by isthmus index build")
        if MODEL not in names or COUNTER not in names:
            raise InputError(f"{address}: the build of this index did not finish; remove the folder and build it again")
        with _reading(address):
            return cls(database, address, version)

    def settings(self) -> tuple[dict[str, Any], bytes, bytes]:
        """Return the settings, the model file and the tensors of the bits."""
        with _reading(self.address):
            row = self.database.open_table(MODEL).search().to_arrow().to_pylist()[0]
        return json.loads(row["settings"]), row["model"], row["tensors"]

    def versions(self) -> list[dict[str, Any]]:
        """Return number, time and number of rows of each version, the oldest first."""
        with _reading(self.address):
            found = self.table.list_versions()
        return [
            {
                "version": int(each["version"]),
                "time": each["timestamp"].isoformat(timespec="seconds"),
                "rows": int(each["metadata"].get("total_rows", 0)),
            }
            for each in found
        ]

    def refresh(self) -> None:
        """Read the latest version."""
        if self.version_of_reader is None:
            with _reading(self.address):
                self.table.checkout_latest()
                self._note_version()

    def _check_out(self, version: int) -> None:
        self._check_known(version)
        self.table.checkout(version)

    def _check_known(self, version: int) -> None:
        known = [each["version"] for each in self.versions()]
        if version not in known:
            raise InputError(f"{self.address}: no version {version}; it has {known[0]} to {known[-1]}")

    # -- reading ----------------------------------------------------------------------------------------

    def read_bits(self) -> tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, "n bytes"]]:
        """Return the numbers and the packed bits of all rows, by number."""
        n_bytes = self.schema.field(BITS).type.list_size
        with _reading(self.address):
            n, at = self.table.count_rows(), 0
            rows, bits = np.empty(n, np.int64), np.empty((n, n_bytes), np.uint8)
            for batch in self.table.search().select([ROW, BITS]).to_batches(2**16):
                end = at + len(batch)
                rows[at:end] = batch[ROW].to_numpy()
                bits[at:end] = batch[BITS].flatten().to_numpy().reshape(-1, n_bytes)
                at = end
        self._offsets = None if (np.diff(rows) > 0).all() else np.argsort(rows)
        return (rows, bits) if self._offsets is None else (rows[self._offsets], bits[self._offsets])

    def read_added(
        self, rows: Int[np.ndarray, " known"], n_removals: int
    ) -> tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, "n bytes"]] | None:
        """Return the numbers and the packed bits of the rows after some known ones, if nothing else was changed.

        None where rows were removed or restored, or are not in the order of their numbers; then `read_bits` reads all.

        Args:
            rows: numbers of the known rows, ascending.
            n_removals: `n_removals` when they were read.
        """
        with _reading(self.address):
            n_known, n = len(rows), self.table.count_rows()
            n_added = n - n_known
            if self._offsets is not None or not n_known or n_added < 0 or self.n_removals != n_removals:
                return None
            found = self.table.search().select([ROW, BITS]).offset(n_known - 1).limit(n_added + 1).to_arrow()
        numbers = found[ROW].to_numpy()
        if numbers[0] != rows[-1] or (np.diff(numbers) <= 0).any():
            return None
        bits = found[BITS].combine_chunks().flatten().to_numpy().reshape(len(numbers), -1)
        return numbers[1:], bits[1:]

    @property
    def n_removals(self) -> int:
        """A number that changes when rows are removed, restored or written anew."""
        with _reading(self.address):
            return int(self.database.open_table(COUNTER).version)

    def matching(self, where: str) -> Int[np.ndarray, " matching"]:
        """Return the numbers of the rows for which a condition holds, ascending.

        Raises:
            InputError: an unknown column, or text that is not a condition.
        """
        with self._condition(where):
            found = self.table.search().where(where).select([ROW]).to_arrow()
        return np.sort(found[ROW].to_numpy())

    def fetch(self, places: Int[np.ndarray, " n"], columns: Sequence[str]) -> pa.Table:
        """Return some columns of the rows at some places in the order of `read_bits`, in the order of the places."""
        unique, order = np.unique(places if self._offsets is None else self._offsets[places], return_inverse=True)
        with _reading(self.address):
            found = self.table.take_offsets(unique.tolist()).select(list(dict.fromkeys([*columns, ROW]))).to_arrow()
        return found.take(order) if len(unique) else found

    def fetch_rows(self, rows: Int[np.ndarray, " n"], columns: Sequence[str]) -> pa.Table:
        """Return some columns of rows by number, in this order, without the numbers of all rows in memory.

        Raises:
            InputError: a number that no row has.
        """
        unique, order = np.unique(rows, return_inverse=True)
        chosen = f"{ROW} IN ({', '.join(map(str, unique))})" if len(unique) else "false"
        with _reading(self.address):
            search = self.table.search().where(chosen)
            found = search.select(list(dict.fromkeys([*columns, ROW]))).to_arrow().sort_by(ROW)
        unknown = np.setdiff1d(unique, found[ROW].to_numpy())
        if len(unknown):
            raise InputError(f"{self.address}: no row {unknown[0]}; it has {pluralize(self.n_rows, 'row')}")
        return found.take(order)

    def nearest(
        self, queries: UInt8[np.ndarray, "queries bytes"], k: int, where: str | None
    ) -> tuple[Int[np.ndarray, " found"], Int[np.ndarray, " found"], Int[np.ndarray, " found"]]:
        """Return about the k nearest rows of queries, by the IVF index of the bits: queries, distances, numbers."""
        search = self.table.search(list(queries), vector_column_name=BITS).distance_type("hamming").limit(k)
        with self._condition(where or ""):
            search = search if where is None else search.where(where)
            found = search.select([ROW, "_distance"]).to_arrow()
        several = "query_index" in found.column_names  # one query has no such column
        query = found["query_index"].to_numpy() if several else np.zeros(len(found))
        return query.astype(np.int64), found["_distance"].to_numpy().astype(np.int64), found[ROW].to_numpy()

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        with _reading(self.address):
            return int(self.table.count_rows())

    @property
    def has_partitions(self) -> bool:
        """True if the bits have an IVF index."""
        return any(BITS in each.columns for each in self.table.list_indices())

    @contextmanager
    def _condition(self, where: str) -> Iterator[None]:
        """Convert the exceptions for a condition to an `InputError` with the columns that there are."""
        if not isinstance(where, str):
            raise InputError(f"where={where!r}: a condition is a text in SQL, such as 'price < 10'")
        if ";" in _QUOTED.sub("", where):
            raise InputError(f"where={where!r}: holds ';'; give one condition, such as price < 10")
        try:
            yield
        except InputError:
            raise
        except (ValueError, RuntimeError, OSError) as error:
            names = [name for name in self.schema.names if name not in (BITS, CODE)]
            missing = re.search(r"No field named [\"`]?(.+?)[\"`]?\. Valid|Column (.+?) does not exist", str(error))
            if missing:
                raise _unknown_column(where, missing[1] or missing[2], names) from None
            if isinstance(error, OSError) or "LanceError(IO)" in str(error):
                raise _damaged(self.address, error) from None
            reason = one_line(error).partition(", /")[0]
            is_date = re.search(r"convert to literal of type '(Timestamp|Date)", str(error))
            example = "day < date '2024-01-31'" if is_date else "price < 10 and city = 'Oslo'"
            raise InputError(
                f"where={where!r}: not a condition ({reason}); give one in SQL, such as {example}"
            ) from None

    # -- changes ----------------------------------------------------------------------------------------

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock of a local index, and read its latest version.

        Raises:
            InputError: the index is open at an older version.
        """
        if self.version_of_reader is not None:
            raise InputError(
                f"{self.address}: open at version {self.version_of_reader}, which does not change; open the latest one"
            )
        with _lock(self.address):
            self.refresh()
            try:
                yield
            finally:
                self._note_version()

    def next_row(self) -> int:
        """Return the number of the next row, which no row had before."""
        with _reading(self.address):
            counted = self.database.open_table(COUNTER).search().to_arrow()["next"][0].as_py()
            return max(counted, self._last_row() + 1)

    def _last_row(self) -> int:
        if not self.table.count_rows():
            return -1
        last = self.table.take_offsets([self.table.count_rows() - 1]).select([ROW]).to_arrow()
        return int(last[ROW][0].as_py())

    def add(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Append rows as one version: all of them, or none if a batch fails."""
        with _writing(self.address, "no row was added"):
            _stream(self.table.add, self.schema, batches)

    def delete(self, where: str) -> None:
        """Delete the rows for which a condition holds; their numbers are not used again."""
        with self._condition(where), _writing(self.address, "no row was removed"):
            self._keep_next_row()
            self.table.delete(where)

    def _keep_next_row(self) -> None:
        """Write the number of the next row, before a change that removes the last one."""
        import pyarrow as pa

        self.database.create_table(COUNTER, pa.table({"next": [self.next_row()]}), mode="overwrite")

    def partition(self, n_partitions: int) -> None:
        """Add an IVF index of the bits, and a sorted one of the numbers of rows."""
        from importlib import import_module

        kinds = import_module("lancedb.index")
        with _writing(self.address, "the index has no partitions"):
            self.table.create_index(ROW, config=kinds.BTree())
            self.table.create_index(BITS, config=kinds.IvfFlat(distance_type="hamming", num_partitions=n_partitions))

    def compact(self) -> None:
        """Write the rows to fewer files, and remove older versions with the rows that only they have."""
        from datetime import timedelta

        with _writing(self.address, "older versions are kept"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # readers of older versions fail, as the docstring of `Index.compact` says
            self._keep_next_row()
            self.table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)

    def restore(self, version: int) -> None:
        """Make the rows of an older version the latest one."""
        self._check_known(version)
        with _writing(self.address, "the latest version is kept"):
            self._keep_next_row()
            self._check_out(version)
            self.table.restore()
            self.table.checkout_latest()


def _unknown_column(where: str, column: str, names: Sequence[str]) -> InputError:
    """Return the error of a condition with a name that no column has, or with a part of a name without backquotes."""
    longer = [name for name in names if re.search(rf"\b{re.escape(column)}\b", name) and not name.isidentifier()]
    meant = next((name for name in longer if name in where), None)
    if meant is not None:
        return InputError(f"where={where!r}: no column {column!r}; write {meant!r} in backquotes: `{meant}`")
    return InputError(
        f"where={where!r}: no column {column!r}; {hint(column, names)}; a text stands in quotes: '{column}'"
    )


def _emptied(address: str, force: bool) -> Any:
    """Return a connection to a place without an index; with `force` the tables of one are removed.

    Raises:
        InputError: an index that is not replaced; an address that is not valid.
    """
    with _reading(address):
        database = extras.lancedb().connect(address)
        known = [name for name in database.list_tables().tables if name in (MODEL, ROWS, COUNTER)]
        if known and not force:
            raise InputError(
                f"{address}: exists already; choose another address, or replace it with --force (force=True)"
            )
        for name in known:
            database.drop_table(name)
    return database


def _table_names(address: str) -> list[str]:
    """Return the names of the tables in a folder, without writing to it."""
    return [path.stem for path in Path(address).glob("*.lance") if path.is_dir()]


def _stream(write: Callable[[Any], Any], schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
    """Write batches as they are made; an exception of theirs is raised as it is, and not as one of Arrow."""
    import pyarrow as pa

    raised: list[BaseException] = []

    def guarded() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except BaseException as error:
            raised.append(error)
            raise

    try:
        write(pa.RecordBatchReader.from_batches(schema, guarded()))
    except Exception:
        if raised:
            raise raised[0] from None
        raise


@contextmanager
def _reading(address: str) -> Iterator[None]:
    """Convert exceptions of LanceDB for tables that cannot be read to an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, RuntimeError, OSError) as error:
        raise _damaged(address, error) from None


def _damaged(address: str, error: Exception) -> InputError:
    reason = one_line(error).partition(", /")[0]
    return InputError(f"{address}: the index cannot be read ({reason}); check the address, or restore a copy")


@contextmanager
def _writing(address: str, result: str) -> Iterator[None]:
    """Convert exceptions of LanceDB for tables that cannot be written to an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) and not re.search(r"IO|[Oo]s error|[Oo]bject ?[Ss]tore|Wrapped", str(error)):
            raise
        reason = re.search(r"([A-Z][\w ]+ \(os error \d+\))", str(error))
        raise InputError(
            f"{address}: could not be written ({reason[1] if reason else one_line(error)}); {result}; free disk space, "
            "or choose another place"
        ) from None


@contextmanager
def _lock(address: str) -> Iterator[None]:
    """Hold the lock of a local index, so that two processes do not give two rows one number."""
    if "://" in address:
        yield
        return
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        file = (Path(address) / LOCK).open("a")
    except OSError as error:
        raise InputError(f"{address}: cannot be changed ({error.strerror}); check its permissions") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
