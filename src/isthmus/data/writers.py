"""Write codes, reconstructions and tables to a file. Writing is atomic."""

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
    """Check that `write_array` can write to this path.

    Raises:
        InputError: if the suffix is unknown, the folder is missing, or the file exists (without `force`).
    """
    path = Path(path)
    if path.suffix.lower() not in ARRAY_SUFFIXES:
        raise InputError(
            f"{path}: {f'unknown suffix {path.suffix}' if path.suffix else 'no suffix'}; "
            f"rows are written as {', '.join(ARRAY_SUFFIXES)}; images also to a folder, by write_images"
        )
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    if path.exists() and not force:
        raise InputError(f"{path}: the file exists; choose another name, or overwrite it with force=True (--force)")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it, or choose another path")
    return path


def write_array(
    path: str | os.PathLike[str], array: Any, names: Sequence[str] | None = None, *, force: bool = False
) -> Path:
    """Write rows in order to a .npy, .csv or .parquet file. The suffix of `path` selects the format.

    Args:
        path: file to write.
        array: (n, columns), or any shape for .npy; or a DataFrame.
        names: column names for .csv and .parquet. Default: those of the DataFrame, or x0, x1, ...
        force: overwrite an existing file.

    Returns:
        The path.

    Raises:
        InputError: if the file exists (without `force`), the suffix is unknown, the number of names is wrong,
            a .npy file is requested for text columns, or the path is not writable. No partial file remains.

    Example:
        >>> import tempfile
        >>> path = write_array(Path(tempfile.mkdtemp()) / "codes.csv", np.eye(2), ["h0", "h1"])
        >>> print(path.read_text().splitlines()[1])
        1,0
    """
    from isthmus.files import atomic_write

    path = check_destination(path, force=force)
    if hasattr(array, "tocsr"):
        raise InputError(f"{path}: sparse rows cannot be written; pass .toarray() if the dense array fits into memory")
    suffix = path.suffix.lower()
    ready = _as_array(path, array) if suffix == ".npy" else _as_table(path, array, names)
    with atomic_write(path) as temporary:
        try:
            with temporary.open("wb") as file:
                _WRITERS[suffix](file, ready)
        except OSError as error:
            reason = error.strerror or f"{one_line(error)}: is the disk full?"
            raise InputError(
                f"{path}: could not be written ({reason}); no file was left; free disk space, or choose another path"
            ) from None
    return path


def _is_table(array: Any) -> bool:
    return hasattr(array, "columns") and hasattr(array, "dtypes")


def _as_array(path: Path, array: Any) -> np.ndarray:
    """Convert to a numeric array for .npy."""
    if not _is_table(array):
        values = np.asarray(array)
        if values.dtype.hasobject:
            raise InputError(f"{path}: a .npy file stores only numbers, and this array contains Python objects")
        return values
    for name, dtype in zip(array.columns, array.dtypes, strict=True):
        if getattr(dtype, "kind", "O") not in "biuf":
            raise InputError(f"{path}: column {str(name)!r} is not numeric ({dtype}); write .csv or .parquet")
    return cast(np.ndarray, array.to_numpy())


def _as_table(path: Path, array: Any, names: Sequence[str] | None) -> pyarrow.Table:
    """Convert an array or DataFrame to an Arrow table."""
    import pyarrow as pa

    values: Any = array if _is_table(array) else np.asarray(array)
    if values.ndim != 2:
        raise InputError(
            f"{path}: an array of shape {values.shape} is not a matrix; write .npy, or write images to a folder"
        )
    default = values.columns if _is_table(values) else [f"x{i}" for i in range(values.shape[1])]
    names = [str(name) for name in (default if names is None else names)]
    if len(names) != values.shape[1]:
        raise InputError(
            f"{path}: {pluralize(len(names), 'name')} for {pluralize(values.shape[1], 'column')}; give one per column"
        )
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
