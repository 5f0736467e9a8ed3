"""Arrays in files: .npy, .npz and IDX, the format of MNIST. Nothing in them is unpickled."""

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
"""A larger .npy is mapped into memory rather than read: batches are cut from the disk."""

_BROKEN = (ValueError, EOFError, OSError, KeyError, struct.error, zipfile.BadZipFile, zlib.error)
"""What numpy, zipfile and gzip raise for a file that is cut short or is something else."""

_NAMES = (("X", "y"), ("x", "y"), ("images", "labels"))
_IDX = re.compile(r"[.-]idx\d?(-ubyte)?(\.gz)?$", re.IGNORECASE)
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def check_rows(X: Any, where: str) -> Any:
    """`X` itself, where it is numbers in rows.

    Raises:
        InputError: no rows, no columns, fewer than two or more than four dimensions, or not numbers.
    """
    if X.dtype.kind not in "biuf":
        what = {"O": "Python objects", "U": "text", "S": "bytes", "c": "complex numbers", "M": "dates",
                "V": "records"}.get(X.dtype.kind, "no numbers")  # fmt: skip
        raise InputError(f"{where}: the array holds {what} ({X.dtype}); save numbers, or a table as .csv or .parquet")
    shape = tuple(int(size) for size in X.shape)
    if len(shape) < 2:
        raise InputError(
            f"{where}: the array has shape {shape}; rows are needed: (n, columns) or images (n, h, w[, c])"
        )
    if len(shape) > 4:
        raise InputError(f"{where}: the array has shape {shape}; rows are vectors or images, at most (n, h, w, c)")
    if 0 in shape:
        raise InputError(f"{where}: the array has shape {shape} and so no {'columns' if shape[0] else 'rows'}")
    return X


def is_idx(path: Path) -> bool:
    """Whether the name is one that IDX files have: images-idx3-ubyte, labels.idx1-ubyte.gz, rows.idx."""
    return _IDX.search(path.name) is not None


def read_npy(path: Path) -> Dataset:
    """The array of a .npy file; a map of it above `MAP_ABOVE` bytes.

    Raises:
        InputError: not a .npy file, cut short, or Python objects in it.
    """
    try:
        with path.open("rb") as file:
            shape, dtype = _npy_header(file)
            start = file.tell()
    except _BROKEN as error:
        raise InputError(f"{path}: not a whole .npy file ({one_line(error)}); save it again") from None
    if dtype.hasobject:
        raise InputError(f"{path}: holds pickled Python objects, which are never loaded; save an array of numbers")
    wanted, found = int(np.prod(shape, dtype=object)) * dtype.itemsize, path.stat().st_size - start
    if found < wanted:
        raise InputError(
            f"{path}: cut short: an array {shape} of {dtype} takes {wanted:,} bytes and {found:,} are there; "
            "copy or save it again"
        )
    mapped = wanted > MAP_ABOVE
    array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    notes = (f"{wanted / 2**20:,.0f} MiB are read from the disk batch by batch",) if mapped else ()
    return Dataset(check_rows(array, str(path)), name=path.stem, notes=notes)


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def read_npz(path: Path, split: str | None) -> Dataset:
    """Rows and labels of a .npz file.

    Taken are its only array; X and y; images and labels; x_train, y_train, x_test, ... through `split`
    (default "train", "all" joins them); or a CSR matrix that scipy wrote.

    Raises:
        InputError: not a whole .npz file, or arrays of other names, which are then listed.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a whole .npz file (no zip directory at its end); copy or save it again")
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
                f"{path}: holds pickled Python objects, which are never loaded; save arrays of numbers"
            ) from None
        raise InputError(f"{path}: not a whole .npz file ({one_line(error)}); copy or save it again") from None


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
            f"{path}: has the arrays {', '.join(names) or '(none)'}; name the rows X (and labels y), "
            "images (and labels), or x_train, y_train, x_test, y_test"
        )
    X = check_rows(stored[pair[0]], f"{path}, array {pair[0]}")
    labels = check_labels(stored[pair[1]], len(X), f"{path}, array {pair[1]}") if pair[1] in names else None
    left = [name for name in names if name not in pair]
    notes = (f"{path.name}: not read: {', '.join(left)}",) if left else ()
    return Dataset(X, labels, path.stem, notes=notes)


def _pick_split(path: Path, stored: Any, splits: list[str], split: str | None) -> Dataset:
    split = split or ("train" if "train" in splits else splits[0])
    chosen = splits if split == "all" else [split]
    if split not in (*splits, "all"):
        raise InputError(f"{path}: has no split {split!r}; it has {', '.join(splits)} and all")
    parts = [_split(path, stored, name) for name in chosen]
    rows = [part[0] for part in parts]
    labels = [part[1] for part in parts if part[1] is not None]
    try:
        X = rows[0] if len(rows) == 1 else np.concatenate(rows)
    except ValueError:
        shapes = ", ".join(f"x_{name} {x.shape}" for name, x in zip(chosen, rows, strict=True))
        raise InputError(f"{path}: rows of different shapes cannot be joined: {shapes}; choose one split") from None
    y = np.concatenate(labels) if len(labels) == len(rows) else None
    return Dataset(X, y, f"{path.stem}:{split}")


def _split(path: Path, stored: Any, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    name = f"x_{split}" if f"x_{split}" in stored.files else f"X_{split}"
    X = check_rows(stored[name], f"{path}, array {name}")
    y = f"y_{split}"
    return X, check_labels(stored[y], len(X), f"{path}, array {y}") if y in stored.files else None


def check_labels(labels: np.ndarray, n_rows: int, where: str) -> np.ndarray:
    """Labels (n,), widened to int64 where they are whole numbers.

    Raises:
        InputError: not one label a row.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n_rows,):
        raise InputError(f"{where}: labels of shape {labels.shape} for {n_rows} rows; one label a row is needed")
    return labels.astype(np.int64) if labels.dtype.kind in "iu" else labels


def read_idx(path: Path) -> Dataset:
    """Rows of an IDX file (gzipped or not), and the labels of X-labels-idx1-ubyte beside X-images-idx3-ubyte.

    Raises:
        InputError: another format, cut short, or labels alone.

    References:
        Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, "The IDX file format".
    """
    X = read_idx_array(path)
    if X.ndim == 1:
        raise InputError(
            f"{path}: holds one number a row (labels?), not rows; name the file of the images, "
            "whose labels are found beside it"
        )
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = None
    if beside != path and beside.is_file():
        labels = check_labels(read_idx_array(beside), len(X), str(beside))
    return Dataset(check_rows(X, str(path)), labels, _IDX.sub("", path.name))


def read_idx_array(path: Path) -> np.ndarray:
    """The array of an IDX file: two zero bytes, type, number of dimensions, sizes, then the numbers (big-endian)."""
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            content = file.read()
    except _BROKEN as error:
        raise InputError(f"{path}: cut short or damaged ({one_line(error)}); copy or fetch it again") from None
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise InputError(
            f"{path}: not an IDX file: it begins with the bytes {content[:4].hex(' ')} where 00 00, a type and "
            "the number of dimensions must stand"
        )
    dtype, n_dimensions = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * n_dimensions
    shape = struct.unpack(f">{n_dimensions}I", content[4:start]) if len(content) >= start else None
    if shape is None:
        raise InputError(f"{path}: cut short inside the IDX header; copy or fetch it again")
    wanted = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if len(content) - start != wanted:
        raise InputError(
            f"{path}: an IDX array {shape} takes {wanted:,} bytes and {len(content) - start:,} are there; "
            "copy or fetch it again"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def refuse_split(path: Path | str, split: str | None) -> None:
    """Raise where a split is asked for and the source has none."""
    if split not in (None, "all"):
        raise InputError(f"{path}: has no splits, so none is called {split!r}; leave the split out")
