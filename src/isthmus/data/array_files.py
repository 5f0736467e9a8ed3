"""Read array files: .npy, .npz and IDX, the format of MNIST. Pickled objects are never loaded."""

from __future__ import annotations

import gzip
import io
import math
import re
import struct
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import numpy as np

from isthmus.data.dataset import Dataset
from isthmus.data.messages import printable, refusing
from isthmus.data.packed import BLOCK_BYTES, CHECK_ABOVE, check_content, check_member, count_bytes, open_zip
from isthmus.errors import InputError

MAP_ABOVE = 256 * 2**20
"""Size in bytes above which a .npy file is memory-mapped instead of read."""

_MAX_NPY_HEADER = 10_000
"""Maximum size in bytes of the header of a .npy file; numpy has the same limit."""

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


@dataclass(frozen=True)
class _Header:
    """Header of an array in .npy format, read and checked before the array is allocated."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int

    @property
    def n_bytes(self) -> int:
        """The size of the array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def _npy_header(where: str, file: IO[bytes]) -> _Header:
    """Read the header of an array.

    Raises:
        InputError: if it is not one, or if the array contains Python objects.
    """
    with refusing(where, "not a complete .npy file", "save it again"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"unknown version {version[0]}.{version[1]} of the format")
        width = 2 if version == (1, 0) else 4
        size = file.read(width)
        length = int.from_bytes(size, "little")
        if length > _MAX_NPY_HEADER:
            raise ValueError(f"a header of {length:,} bytes")
        read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(io.BytesIO(size + file.read(length)))
        if any(size < 0 for size in shape):
            raise ValueError(f"negative size in the shape {shape}")
        header = _Header(tuple(map(int, shape)), fortran, dtype, np.lib.format.MAGIC_LEN + width + length)
    if dtype.hasobject:
        raise InputError(f"{where}: contains pickled Python objects, which are never loaded; save an array of numbers")
    return header


def read_npy(path: Path) -> Dataset:
    """Read the array of a .npy file, or memory-map it above `MAP_ABOVE` bytes.

    Raises:
        InputError: if the file is not a .npy file, is truncated, or contains Python objects.
    """
    with path.open("rb") as file:
        header = _npy_header(str(path), file)
        check_rows(header, str(path))
        expected, found = header.n_bytes, path.stat().st_size - header.start
        if found < expected:
            raise InputError(
                f"{path}: truncated: an array {header.shape} of {header.dtype} has {expected:,} bytes, and the file "
                f"contains {found:,}; copy or save it again"
            )
        mapped = expected > MAP_ABOVE
        if mapped:
            order: Literal["F", "C"] = "F" if header.fortran else "C"
            array: np.ndarray = np.memmap(path, header.dtype, "r", header.start, header.shape, order)
        else:
            array = _read_array(file, header)
    notes = (f"{expected / 2**20:,.0f} MiB are read from disk in batches",) if mapped else ()
    return Dataset(array, name=path.stem, notes=notes)


def _read_array(file: IO[bytes], header: _Header) -> np.ndarray:
    """Read the array after its header, in the byte order of the computer.

    Raises:
        EOFError: if the file ends within the array.
    """
    flat = np.empty(math.prod(header.shape), header.dtype)
    if header.n_bytes:
        _fill(file, flat)
    array = flat.reshape(header.shape[::-1]).T if header.fortran else flat.reshape(header.shape)
    return native(array)


def _fill(file: IO[bytes], flat: np.ndarray) -> None:
    """Fill a flat array with the bytes of a file."""
    view, at = memoryview(cast(Any, flat.view(np.uint8))), 0
    while at < len(view):
        block = file.read(min(BLOCK_BYTES, len(view) - at))
        if not block:
            raise EOFError(f"{len(view):,} bytes are promised, and {at:,} are there")
        view[at : at + len(block)] = block
        at += len(block)


def native(array: np.ndarray) -> np.ndarray:
    """Return an array in the byte order of the computer; a memory map is not read.

    Example:
        >>> native(np.array([1.5], ">f4")).dtype.isnative
        True
    """
    if array.dtype.isnative or isinstance(array, np.memmap):
        return array
    return array.astype(array.dtype.newbyteorder("="))


class _Members:
    """The arrays of an .npz file. A header is checked against the zip directory before its array is read."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        self._infos = {printable(info.filename.removesuffix(".npy")): info for info in archive.infolist()}

    @property
    def names(self) -> list[str]:
        """The names of the arrays."""
        return list(self._infos)

    def where(self, name: str) -> str:
        """Return file and array, for messages."""
        return f"{self.path}, array {name}"

    def header(self, name: str) -> _Header:
        """Return the header of an array.

        Raises:
            InputError: if the array has another size than the zip directory promises for its member.
        """
        info = self._infos[name]
        check_member(self.path, info)
        with self._archive.open(info) as member:
            header = _npy_header(self.where(name), member)
        if header.n_bytes != info.file_size - header.start:
            raise InputError(
                f"{self.where(name)}: damaged: an array {header.shape} of {header.dtype} has {header.n_bytes:,} bytes, "
                f"and the file promises {info.file_size - header.start:,}; copy or save it again"
            )
        return header

    def rows(self, name: str) -> np.ndarray:
        """Return an array of rows.

        Raises:
            InputError: as `check_rows`.
        """
        check_rows(self.header(name), self.where(name))
        return self.read(name)

    def labels(self, name: str, n_rows: int) -> np.ndarray:
        """Return an array of labels.

        Raises:
            InputError: as `check_labels`.
        """
        header = self.header(name)
        if header.shape not in ((n_rows,), (n_rows, 1)):
            raise _wrong_labels(self.where(name), header.shape, n_rows)
        return check_labels(self.read(name), n_rows, self.where(name))

    def read(self, name: str) -> np.ndarray:
        """Return an array. A large one is decompressed twice: the first time to count and check its bytes."""
        info, header = self._infos[name], self.header(name)
        if header.n_bytes > CHECK_ABOVE:
            with self._archive.open(info) as member:
                found = count_bytes(member, info.file_size)
            if found != info.file_size:
                raise InputError(
                    f"{self.where(name)}: truncated: {info.file_size:,} bytes are promised, and {found:,} are there; "
                    "copy or save it again"
                )
        with self._archive.open(info) as member:
            member.read(header.start)
            array = _read_array(member, header)
            member.read(1)  # at the end zipfile compares the checksum
        return array


def read_npz(path: Path, split: str | None) -> Dataset:
    """Read rows and labels from a .npz file.

    The file contains a single array; X and y; images and labels; x_train, y_train, x_test, ... selected by
    `split` (default "train"; "all" joins them); or a sparse matrix saved by scipy.

    Raises:
        InputError: if the file is not a complete .npz file, or its arrays have other names.
    """
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a complete .npz file (no zip directory at its end); copy or save it again")
    with refusing(path, "not a complete .npz file", "copy or save it again"), open_zip(path) as archive:
        stored = _Members(path, archive)
        if {"format", "data", "shape"} <= set(stored.names):
            return _read_sparse(path, stored, split)
        return _pick(path, stored, split)


def read_arrays(path: Path, *names: str) -> list[np.ndarray]:
    """Read arrays of a .npz file by their names.

    Raises:
        InputError: if the file is not a complete .npz file, or an array is missing.
    """
    with refusing(path, "not a complete .npz file", "copy or save it again"), open_zip(path) as archive:
        stored = _Members(path, archive)
        for name in names:
            if name not in stored.names:
                raise InputError(f"{path}: contains no array {name}; copy or save it again")
        return [stored.read(name) for name in names]


_SPARSE_PARTS = {
    "csr": ("indices", "indptr"),
    "csc": ("indices", "indptr"),
    "bsr": ("indices", "indptr"),
    "coo": ("row", "col"),
    "dia": ("offsets",),
}
"""Arrays of a sparse matrix in a file of `scipy.sparse.save_npz`, besides format, shape and data."""


def _read_sparse(path: Path, stored: _Members, split: str | None) -> Dataset:
    """Read a sparse matrix of scipy. scipy uses stored indices without a check, so that they are checked here."""
    from scipy import sparse

    refuse_split(path, split)
    kind, shape = _sparse_format(stored), _sparse_shape(stored)
    values = stored.header("data")
    check_rows(_Header(shape, False, values.dtype, 0), str(path))
    if len(values.shape) != {"bsr": 3, "dia": 2}.get(kind, 1):
        raise InputError(f"{path}: a sparse matrix of format {kind} with data of shape {values.shape}; save it again")
    missing = [name for name in _SPARSE_PARTS[kind] if name not in stored.names]
    if missing:
        raise InputError(f"{path}: a sparse matrix of format {kind} without the array {missing[0]}; save it again")
    parts = [_integers(stored, name) for name in _SPARSE_PARTS[kind]]
    _check_sparse(path, kind, shape, values.shape, parts)
    data = stored.read("data")
    data = data.astype(np.float32 if data.dtype.itemsize == 2 else np.float64) if _unusual(data) else data
    if kind == "coo":
        matrix = sparse.coo_matrix((data, (parts[0], parts[1])), shape)
    elif kind == "dia":
        matrix = sparse.dia_matrix((data, parts[0]), shape)
    else:
        build = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "bsr": sparse.bsr_matrix}[kind]
        matrix = build((data, parts[0], parts[1]), shape)
    return Dataset(matrix.tocsr(), name=path.stem)


def _unusual(data: np.ndarray) -> bool:
    """Return whether scipy cannot compute with the floats: half and extended precision."""
    return data.dtype.kind == "f" and data.dtype.itemsize not in (4, 8)


def _sparse_format(stored: _Members) -> str:
    header = stored.header("format")
    kind = str(stored.read("format").astype(str)) if header.n_bytes <= 64 and header.dtype.kind in "SU" else ""
    if header.shape or kind not in _SPARSE_PARTS:
        raise InputError(
            f"{stored.path}: a sparse matrix of unknown format; known are {', '.join(_SPARSE_PARTS)}; "
            "save it with scipy.sparse.save_npz"
        )
    return kind


def _sparse_shape(stored: _Members) -> tuple[int, int]:
    header = stored.header("shape")
    shape = stored.read("shape").tolist() if header.shape == (2,) and header.dtype.kind in "iu" else []
    if len(shape) != 2 or not all(0 <= size < 2**63 for size in shape):
        raise InputError(
            f"{stored.path}: a sparse matrix of shape {shape or header.shape}; it must be two numbers; save it again"
        )
    return shape[0], shape[1]


def _integers(stored: _Members, name: str) -> np.ndarray:
    """Return a flat array of integers."""
    header = stored.header(name)
    if header.dtype.kind not in "iu" or len(header.shape) != 1:
        raise InputError(
            f"{stored.where(name)}: {header.dtype} of shape {header.shape}; the indices of a sparse matrix are "
            "integers in one dimension; save it again"
        )
    return stored.read(name)


def _check_sparse(
    path: Path, kind: str, shape: tuple[int, int], stored: tuple[int, ...], parts: list[np.ndarray]
) -> None:
    """Raise unless the indices of a sparse matrix lie within its shape.

    Args:
        path: file, for the message.
        kind: format of scipy.
        shape: rows and columns.
        stored: shape of the stored values.
        parts: the arrays of `_SPARSE_PARTS`.
    """
    n, d = shape
    n_values = math.prod(stored)
    if n > max(2_000_000, 100 * n_values) or d > max(2**26, 100 * n_values):
        raise InputError(
            f"{path}: a sparse matrix of {n:,} rows and {d:,} columns with {n_values:,} values; "
            "save it again, without its empty rows and columns"
        )
    if kind == "dia":
        offsets = {int(offset) for offset in parts[0]} & set(range(-n, d + 1))
        problem = "" if len(offsets) == len(parts[0]) == stored[0] else "one offset per diagonal, within the matrix"
    elif kind == "coo":
        problem = next(filter(None, (_outside(parts[0], n, stored[0]), _outside(parts[1], d, stored[0]))), "")
    else:
        size = stored[1:] if kind == "bsr" else (1, 1)
        if 0 in size or n % size[0] or d % size[1]:
            raise InputError(f"{path}: blocks of shape {size} in a sparse matrix of shape {shape}; save it again")
        blocks = (n // size[0], d // size[1])
        major, minor = blocks[::-1] if kind == "csc" else blocks
        problem = _outside(parts[0], minor, stored[0]) or _not_pointers(parts[1], major, stored[0])
    if problem:
        raise InputError(f"{path}: damaged: a sparse matrix of shape {shape} needs {problem}; save it again")


def _outside(indices: np.ndarray, size: int, n_values: int) -> str:
    """Return the condition that indices violate, or an empty string."""
    if len(indices) != n_values:
        return f"one index per value, and the file has {len(indices):,} indices for {n_values:,} values"
    if n_values and not 0 <= int(indices.min()) <= int(indices.max()) < size:
        wrong = int(indices.min()) if int(indices.min()) < 0 else int(indices.max())
        return f"indices from 0 to {size - 1:,}, and the file has {wrong:,}"
    return ""


def _not_pointers(pointers: np.ndarray, size: int, n_values: int) -> str:
    """Return the condition that index pointers violate, or an empty string."""
    if len(pointers) != size + 1:
        return f"{size + 1:,} index pointers, and the file has {len(pointers):,}"
    if pointers[0] != 0 or int(pointers[-1]) != n_values or (pointers[1:] < pointers[:-1]).any():
        return f"index pointers that rise from 0 to {n_values:,}"
    return ""


def _pick(path: Path, stored: _Members, split: str | None) -> Dataset:
    names = stored.names
    is_whole = any(rows in names for rows, _ in _NAMES)
    splits = [] if is_whole else _splits(stored)
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
    X = stored.rows(pair[0])
    labels = stored.labels(pair[1], len(X)) if pair[1] in names else None
    ignored = [name for name in names if name not in pair]
    notes = (f"{path.name}: arrays ignored: {', '.join(ignored)}",) if ignored else ()
    return Dataset(X, labels, path.stem, notes=notes)


def _splits(stored: _Members) -> list[str]:
    """Return the names S of the arrays x_S that are rows; x_mean of one dimension is none."""
    named = [name for name in stored.names if name[:2] in ("x_", "X_")]
    return [name[2:] for name in named if len(stored.header(name).shape) > 1] or [name[2:] for name in named]


def _pick_split(path: Path, stored: _Members, splits: list[str], split: str | None) -> Dataset:
    split = split or ("train" if "train" in splits else splits[0])
    chosen = splits if split == "all" else [split]
    if split not in (*splits, "all"):
        raise InputError(f"{path}: no split {split!r}; choose one of {', '.join(splits)}, all")
    parts = [_split(stored, name) for name in chosen]
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
    unlabelled = [f"y_{name}" for name, part in zip(chosen, parts, strict=True) if part[1] is None]
    notes = (f"{path.name}: labels ignored: there is no array {', '.join(unlabelled)}",) if labels and y is None else ()
    return Dataset(X, y, f"{path.stem}:{split}", notes=notes)


def _split(stored: _Members, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    X = stored.rows(f"x_{split}" if f"x_{split}" in stored.names else f"X_{split}")
    y = f"y_{split}"
    return X, stored.labels(y, len(X)) if y in stored.names else None


def check_labels(labels: np.ndarray, n_rows: int, where: str) -> np.ndarray:
    """Return labels (n,), converted to int64 if they are integers.

    Raises:
        InputError: if there is not one label per row.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (n_rows,):
        raise _wrong_labels(where, labels.shape, n_rows)
    return labels.astype(np.int64) if labels.dtype.kind in "iu" else native(labels)


def _wrong_labels(where: str, shape: tuple[int, ...], n_rows: int) -> InputError:
    return InputError(f"{where}: labels of shape {shape} for {n_rows} rows; one label per row is needed")


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
    """Read an IDX file: two zero bytes, type, number of dimensions, sizes, then the numbers (big-endian).

    Raises:
        InputError: if the file has another format, or does not hold exactly the numbers that its header promises.
    """
    with refusing(path, "truncated or damaged", "copy or download it again"):
        with _open_idx(path) as file:
            header = _idx_header(path, file)
            _check_idx(path, file, header)
        with _open_idx(path) as file:
            file.read(header.start)
            array = _read_array(file, header)
            file.read(1)  # at the end gzip compares the checksum
    return array


def _open_idx(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast("IO[bytes]", gzip.open(path)) if zipped else path.open("rb")


def _idx_header(path: Path, file: IO[bytes]) -> _Header:
    content = file.read(4)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise InputError(
            f"{path}: not an IDX file: it starts with the bytes {content.hex(' ')} instead of 00 00, a type and "
            "the number of dimensions; copy or download it again"
        )
    n_dimensions = content[3]
    sizes = file.read(4 * n_dimensions)
    if len(sizes) < 4 * n_dimensions:
        raise InputError(f"{path}: truncated within the IDX header; copy or download it again")
    if n_dimensions > 32:
        raise InputError(f"{path}: an IDX header with {n_dimensions} dimensions; copy or download it again")
    dtype = np.dtype(_IDX_TYPES[content[2]])
    return _Header(struct.unpack(f">{n_dimensions}I", sizes), False, dtype, 4 + 4 * n_dimensions)


def _check_idx(path: Path, file: IO[bytes], header: _Header) -> None:
    """Raise unless the rest of the file has the size that its header promises."""
    expected = header.n_bytes
    if isinstance(file, gzip.GzipFile):
        check_content(path, expected, path.stat().st_size)
        found = count_bytes(file, expected)
        more = "more" if found > expected else f"{found:,}"
    else:
        found = path.stat().st_size - header.start
        more = f"{found:,}"
    if found != expected:
        raise InputError(
            f"{path}: an IDX array {header.shape} has {expected:,} bytes, and the file contains {more}; "
            "copy or download it again"
        )


def refuse_split(path: Path | str, split: str | None) -> None:
    """Raise if a split is requested from a source without splits."""
    if split not in (None, "all"):
        raise InputError(f"{path}: the source has no splits; omit the split {split!r}")
