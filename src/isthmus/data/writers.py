"""Rows written to a file: codes, reconstructions, tables; whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from isthmus.data.messages import one_line
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

ARRAY_SUFFIXES = (".npy", ".csv", ".parquet")


def check_destination(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Whether `write_array` would take this path: to be asked before the work, not after it.

    Raises:
        InputError: another suffix, a folder that does not exist, or a file that does (without `force`).
    """
    path = Path(path)
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        raise InputError(
            f"{path}: {path.suffix or 'a name without suffix'} is not a format that rows are written in; "
            f"use {', '.join(ARRAY_SUFFIXES)}"
        )
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    if path.exists() and not force:
        raise InputError(f"{path}: the file exists; choose a new name, or replace it with force=True (--force)")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; make it first")
    return path


def write_array(
    path: str | os.PathLike[str], array: Any, names: Sequence[str] | None = None, *, force: bool = False
) -> Path:
    """Write rows to .npy, .csv or .parquet, by the suffix of `path`; the order of the rows is kept.

    Args:
        path: the file to make.
        array: (n, columns), or any shape for .npy; or a DataFrame.
        names: of the columns, in .csv and .parquet; default x0, x1, ..., or those of the DataFrame.
        force: replace the file where it exists.

    Returns:
        The path.

    Raises:
        InputError: the file exists (without `force`), another suffix, names that are too few, text
            columns for .npy, or a place that cannot be written: nothing is left behind.

    Example:
        >>> import tempfile
        >>> path = write_array(Path(tempfile.mkdtemp()) / "codes.csv", np.eye(2), ["h0", "h1"])
        >>> print(path.read_text().splitlines()[1])
        1,0
    """
    from isthmus.files import atomic_write

    path = check_destination(path, force=force)
    if hasattr(array, "tocsr"):
        raise InputError(f"{path}: sparse rows are not made dense unasked; hand in .toarray() if that fits in memory")
    suffix = path.suffix.lower()
    ready = _as_array(path, array) if suffix == ".npy" else _as_table(path, array, names)
    with atomic_write(path) as temporary:
        try:
            with temporary.open("wb") as file:
                _WRITERS[suffix](file, ready)
        except OSError as error:
            reason = error.strerror or f"{one_line(error)}: is the disk full?"
            raise InputError(f"{path}: could not be written ({reason}); nothing was left there") from None
    return path


def _is_table(array: Any) -> bool:
    return hasattr(array, "columns") and hasattr(array, "dtypes")


def _as_array(path: Path, array: Any) -> np.ndarray:
    """Numbers only, as .npy holds them."""
    if not _is_table(array):
        values = np.asarray(array)
        if values.dtype.hasobject:
            raise InputError(f"{path}: .npy holds numbers, and this array holds Python objects")
        return values
    for name, dtype in zip(array.columns, array.dtypes, strict=True):
        if getattr(dtype, "kind", "O") not in "biuf":
            raise InputError(f"{path}: column {str(name)!r} holds no numbers ({dtype}); write .csv or .parquet")
    return cast(np.ndarray, array.to_numpy())


def _as_table(path: Path, array: Any, names: Sequence[str] | None) -> pyarrow.Table:
    """An Arrow table with one column a column of the array or DataFrame."""
    import pyarrow as pa

    values: Any = array if _is_table(array) else np.asarray(array)
    if values.ndim != 2:
        raise InputError(
            f"{path}: an array of shape {values.shape} is not rows of columns; write .npy, or images to a folder"
        )
    default = values.columns if _is_table(values) else [f"x{i}" for i in range(values.shape[1])]
    names = [str(name) for name in (default if names is None else names)]
    if len(names) != values.shape[1]:
        raise InputError(f"{path}: {pluralize(len(names), 'name')} for {pluralize(values.shape[1], 'column')}")
    if _is_table(values):
        return pa.Table.from_pandas(cast("pd.DataFrame", values).set_axis(names, axis=1), preserve_index=False)
    return pa.table({name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)})


def _write_npy(file: BinaryIO, array: np.ndarray) -> None:
    np.save(file, array, allow_pickle=False)


def _write_csv(file: BinaryIO, table: pyarrow.Table) -> None:
    from pyarrow import csv

    csv.write_csv(table, file)


def _write_parquet(file: BinaryIO, table: pyarrow.Table) -> None:
    from pyarrow import parquet

    parquet.write_table(table, file)


_WRITERS = {".npy": _write_npy, ".csv": _write_csv, ".parquet": _write_parquet}
