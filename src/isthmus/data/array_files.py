"""Read array files: .npy, .npz and IDX, the format of MNIST. Pickled objects are never loaded."""

from __future__ import annotations

import gzip
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from isthmus.data.dataset import Dataset
from isthmus.data.messages import one_line
from isthmus.errors import InputError

MAP_ABOVE = 256 * 2**20
"""Size in bytes above which a .npy file is memory-mapped instead of read."""

_BROKEN = (ValueError, EOFError, OSError, KeyError, struct.error, zipfile.BadZipFile, zlib.error)
"""Exceptions of numpy, zipfile and gzip for a truncated file or another format."""

_NAMES = (("X", "y"), ("x", "y"), ("images", "labels"))
_IDX = re.compile(r"[.-]idx\d?(-ubyte)?(\.gz)?$", re.IGNORECASE)
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def check_rows(X: Any, where: str) -> Any:
    """Return `X` after checking that it is a numeric array of rows.

    Raises:
        InputError: if `X` has no rows or columns, has not 2 to 4 dimensions, or is not numeric.
    """
    if X.dtype.kind not in "biuf":
        what = {"O": "Python objects", "U": "text", "S": "bytes", "c": "complex numbers", "M": "dates",
                "V": "records"}.get(X.dtype.kind, "non-numeric values")  # fmt: skip
        raise InputError(
            f"{where}: the array contains {what} ({X.dtype}); save numbers, or a table as .csv or .parquet"
        )
    shape = tuple(int(size) for size in X.shape)
    if len(shape) < 2:
        raise InputError(f"{where}: the array has shape {shape}; it must be rows (n, columns) or images (n, h, w[, c])")
    if len(shape) > 4:
        raise InputError(f"{where}: the array has shape {shape}; images have at most the four dimensions (n, h, w, c)")
    if 0 in shape:
        raise InputError(f"{where}: the array has no {'columns' if shape[0] else 'rows'}: its shape is {shape}")
    return X


def is_idx(path: Path) -> bool:
    """Return whether the name is that of an IDX file: images-idx3-ubyte, labels.idx1-ubyte.gz, rows.idx."""
    return _IDX.search(path.name) is not None


def read_npy(path: Path) -> Dataset:
    """Read the array of a .npy file, or memory-map it above `MAP_ABOVE` bytes.

    Raises:
        InputError: if the file is not a .npy file, is truncated, or contains Python objects.
    """
    try:
        with path.open("rb") as file:
            shape, dtype = _npy_header(file)
            start = file.tell()
    except _BROKEN as error:
        raise InputError(f"{path}: not a complete .npy file ({one_line(error)}); save it again") from None
    if dtype.hasobject:
        raise InputError(f"{path}: contains pickled Python objects, which are never loaded; save an array of numbers")
    expected, found = int(np.prod(shape, dtype=object)) * dtype.itemsize, path.stat().st_size - start
    if found < expected:
        raise InputError(
            f"{path}: truncated: an array {shape} of {dtype} has {expected:,} bytes, and the file contains {found:,}; "
            "copy or save it again"
        )
    mapped = expected > MAP_ABOVE
    array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    notes = (f"{expected / 2**20:,.0f} MiB are read from disk in batches",) if mapped else ()
    return Dataset(check_rows(array, str(path)), name=path.stem, notes=notes)


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def read_npz(path: Path, split: str | None) -> Dataset:
    """Read rows and labels from a .npz file.

    The file contains a single array; X and y; images and labels; x_train, y_train, x_test, ... selected by
    `split` (default "train"; "all" joins them); or a sparse matrix saved by scipy.

    Raises:
        InputError: if the file is not a complete .npz file, or its arrays have other names.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a complete .npz file (no zip directory at its end); copy or save it again")
    try:
        with np.load(path, allow_pickle=False) as stored:
            if {"format", "indptr", "indices", "data", "shape"} <= set(stored.files):
                return _read_sparse(path, split)
            return _pick(path, cast("np.lib.npyio.NpzFile[Any]", stored), split)
    except InputError:
        raise
    except _BROKEN as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{path}: contains pickled Python objects, which are never loaded; save arrays of numbers"
            ) from None
        raise InputError(f"{path}: not a complete .npz file ({one_line(error)}); copy or save it again") from None


def _read_sparse(path: Path, split: str | None) -> Dataset:
    from scipy import sparse

    refuse_split(path, split)
    return Dataset(check_rows(sparse.load_npz(path).tocsr(), str(path)), name=path.stem)


def _pick(path: Path, stored: Any, split: str | None) -> Dataset:
    names = list(stored.files)
    splits = [name[2:] for name in names if name[:2] in ("x_", "X_")]
    if splits:
        return _pick_split(path, stored, splits, split)
    refuse_split(path, split)
    pair = next((pair for pair in _NAMES if pair[0] in names), None)
    if pair is None and len(names) == 1:
        pair = (names[0], "")
    if pair is None:
        raise InputError(
            f"{path}: contains the arrays {', '.join(names) or '(none)'}; name the rows X and the labels y, "
            "or images and labels, or x_train, y_train, x_test and y_test"
        )
    X = check_rows(stored[pair[0]], f"{path}, array {pair[0]}")
    labels = check_labels(stored[pair[1]], len(X), f"{path}, array {pair[1]}") if pair[1] in names else None
    ignored = [name for name in names if name not in pair]
    notes = (f"{path.name}: arrays ignored: {', '.join(ignored)}",) if ignored else ()
    return Dataset(X, labels, path.stem, notes=notes)


def _pick_split(path: Path, stored: Any, splits: list[str], split: str | None) -> Dataset:
    split = split or ("train" if "train" in splits else splits[0])
    chosen = splits if split == "all" else [split]
    if split not in (*splits, "all"):
        raise InputError(f"{path}: no split {split!r}; choose one of {', '.join(splits)}, all")
    parts = [_split(path, stored, name) for name in chosen]
    rows = [part[0] for part in parts]
    labels = [part[1] for part in parts if part[1] is not None]
    try:
        X = rows[0] if len(rows) == 1 else np.concatenate(rows)
    except ValueError:
        shapes = ", ".join(f"x_{name} {x.shape}" for name, x in zip(chosen, rows, strict=True))
        raise InputError(
            f"{path}: splits with different row shapes cannot be joined: {shapes}; choose one split"
        ) from None
    y = np.concatenate(labels) if len(labels) == len(rows) else None
    return Dataset(X, y, f"{path.stem}:{split}")


def _split(path: Path, stored: Any, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    name = f"x_{split}" if f"x_{split}" in stored.files else f"X_{split}"
    X = check_rows(stored[name], f"{path}, array {name}")
    y = f"y_{split}"
    return X, check_labels(stored[y], len(X), f"{path}, array {y}") if y in stored.files else None


def check_labels(labels: np.ndarray, n_rows: int, where: str) -> np.ndarray:
    """Return labels (n,), converted to int64 if they are integers.

    Raises:
        InputError: if there is not one label per row.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n_rows,):
        raise InputError(f"{where}: labels of shape {labels.shape} for {n_rows} rows; one label per row is needed")
    return labels.astype(np.int64) if labels.dtype.kind in "iu" else labels


def read_idx(path: Path) -> Dataset:
    """Read an IDX file, gzipped or not, and the labels in the same folder.

    The labels of X-images-idx3-ubyte are in X-labels-idx1-ubyte.

    Raises:
        InputError: if the file has another format, is truncated, or contains only labels.

    References:
        Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, "The IDX file format".
    """
    X = read_idx_array(path)
    if X.ndim == 1:
        raise InputError(
            f"{path}: contains one number per row, probably labels; name the file with the images; "
            "its labels are found automatically"
        )
    label_file = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = None
    if label_file != path and label_file.is_file():
        labels = check_labels(read_idx_array(label_file), len(X), str(label_file))
    return Dataset(check_rows(X, str(path)), labels, _IDX.sub("", path.name))


def read_idx_array(path: Path) -> np.ndarray:
    """Read an IDX file: two zero bytes, type, number of dimensions, sizes, then the numbers (big-endian)."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            content = file.read()
    except _BROKEN as error:
        raise InputError(f"{path}: truncated or damaged ({one_line(error)}); copy or download it again") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise InputError(
            f"{path}: not an IDX file: it starts with the bytes {content[:4].hex(' ')} instead of 00 00, a type and "
            "the number of dimensions; copy or download it again"
        )
    dtype, n_dimensions = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * n_dimensions
    shape = struct.unpack(f">{n_dimensions}I", content[4:start]) if len(content) >= start else None
    if shape is None:
        raise InputError(f"{path}: truncated within the IDX header; copy or download it again")
    expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(content) - start != expected:
        raise InputError(
            f"{path}: an IDX array {shape} has {expected:,} bytes, and the file contains {len(content) - start:,}; "
            "copy or download it again"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def refuse_split(path: Path | str, split: str | None) -> None:
    """Raise if a split is requested from a source without splits."""
    if split not in (None, "all"):
        raise InputError(f"{path}: the source has no splits; omit the split {split!r}")
