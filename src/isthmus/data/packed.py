"""Compressed files and long lines, read with limits: a promised size is compared with the content before allocation."""

from __future__ import annotations

import gzip
import os
import re
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from isthmus.data.messages import one_line, printable
from isthmus.errors import InputError

BLOCK_BYTES = 2**18
"""Size of the blocks in which the content of a compressed file is counted."""

CHECK_ABOVE = 16 * 2**20
"""Size in bytes above which the content of a compressed array is counted before the array is allocated."""

MAX_RATIO, FREE_BYTES = 500, 64 * 2**20
"""Compressed content above `FREE_BYTES` may be at most `MAX_RATIO` times as large as the file.

Tables and arrays shrink 2 to 50 times, constant ones more than 1,000 times.
"""

_FREE_STREAM = 32 * 2**20
"""Like `FREE_BYTES`, for streams: a decompressor keeps as many bytes as its window, up to 128 MiB."""

MAX_LINE = 8 * 2**20
"""Maximum length of a line of text, in bytes or characters."""

_MAX_DIRECTORY = 2**20
"""Maximum size in bytes of the directory of a zip file: 10,000 to 20,000 members."""

_MIXED_ENDS = r"\.({})(\.(gz|zst))?$"
_PACKED_TABLES = re.compile(r"\.(csv|tsv|jsonl|ndjson)\.(gz|zst)$", re.IGNORECASE)


def stem(path: Path) -> str:
    """Return the name of a table without its suffixes.

    Example:
        >>> stem(Path("sales.csv.gz")), stem(Path("v1.2.csv"))
        ('sales', 'v1.2')
    """
    return _PACKED_TABLES.sub("", path.name) if _PACKED_TABLES.search(path.name) else path.stem


def pattern(*suffixes: str) -> re.Pattern[str]:
    """Return a pattern for names that end in one of the suffixes, compressed or not.

    Example:
        >>> ends = pattern("csv", "tsv")
        >>> [bool(ends.search(name)) for name in ("a.csv", "a.TSV.gz", "a.csv.zst", "a.csv.zip")]
        [True, True, True, False]
    """
    return re.compile(_MIXED_ENDS.format("|".join(suffixes)), re.IGNORECASE)


def is_packed(path: Path) -> bool:
    """Return whether the suffix is that of gzip or Zstandard."""
    return path.suffix.lower() in (".gz", ".zst")


def open_packed(path: Path) -> BinaryIO:
    """Open a file as a stream of its bytes, decompressed if it ends in .gz or .zst."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if suffix == ".zst":
        import pyarrow as pa

        return cast(BinaryIO, pa.input_stream(str(path), compression="zstd"))
    return path.open("rb")


def refuse_bomb(path: Path) -> None:
    """Decompress a .gz or .zst file once, in blocks, and raise if it is damaged or holds far more than its size.

    Raises:
        InputError: if the file is truncated or damaged, or exceeds `MAX_RATIO`.
    """
    if not is_packed(path):
        return
    total, limit = 0, max(_FREE_STREAM, MAX_RATIO * path.stat().st_size)
    try:
        with open_packed(path) as stream:
            while block := stream.read(BLOCK_BYTES):
                total += len(block)
                if total > limit:
                    raise InputError(f"{path}: {_bomb(path.stat().st_size, 'more than ', limit)}")
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: truncated or damaged after {total:,} decompressed bytes ({one_line(error)}); copy it again"
        ) from None


def _bomb(packed: int, more: str, content: int) -> str:
    return (
        f"{packed:,} compressed bytes hold {more}{content:,} bytes, over {MAX_RATIO} times their size; "
        "if the file is right, decompress it and name the decompressed file"
    )


def check_content(where: Path | str, promised: int, packed: int) -> None:
    """Raise if a header promises a size that the compressed bytes cannot hold, or that exceeds the memory.

    Args:
        where: file and member, for the message.
        promised: bytes that the header promises.
        packed: compressed bytes.
    """
    if promised > max(FREE_BYTES, MAX_RATIO * packed):
        raise InputError(f"{where}: {_promise(promised, packed)}")
    refuse_above_memory(where, promised, "save an array as .npy, which is read in batches, or save fewer rows")


def refuse_above_memory(where: Path | str, n_bytes: int, advice: str) -> None:
    """Raise if a result is larger than the memory of the computer."""
    memory = _memory()
    if memory is not None and n_bytes > memory:
        raise InputError(
            f"{where}: needs {n_bytes / 2**30:,.1f} GiB, and this computer has {memory / 2**30:,.1f} GiB of memory; "
            f"{advice}"
        )


def _promise(promised: int, packed: int) -> str:
    return (
        f"promises {promised:,} bytes in {packed:,} compressed ones, over {MAX_RATIO} times their size; "
        "if the file is right, save it without compression"
    )


def _memory() -> int | None:
    """Return the size of the memory in bytes, None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def count_bytes(stream: IO[bytes], limit: int) -> int:
    """Return the number of bytes in the rest of a stream, at most `limit` + 1, without keeping them."""
    total = 0
    while total <= limit and (block := stream.read(min(BLOCK_BYTES, limit + 1 - total))):
        total += len(block)
    return total


def lines(path: Path, file: IO[Any], limit: int = MAX_LINE) -> Iterator[Any]:
    """Yield the lines of a file, which is text or bytes.

    Raises:
        InputError: if a line is longer than `limit`.
    """
    number = 0
    while line := file.readline(limit + 1):
        number += 1
        if len(line) > limit:
            raise InputError(
                f"{path}: line {number} is longer than {limit // 2**20} MiB; break the text into rows, one per line"
            )
        yield line


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip file after checking the size of its directory."""
    with path.open("rb") as file:
        size = _directory_size(file)
        if size > _MAX_DIRECTORY:
            raise InputError(f"{path}: the zip directory has {size:,} bytes, thousands of members; save fewer arrays")
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            yield archive


def _directory_size(file: BinaryIO) -> int:
    """Return the largest size that the end of a zip file states for its directory; 0 if there is no directory."""
    length = file.seek(0, os.SEEK_END)
    start = max(0, length - 2**16 - 22)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return 0
    sizes = [struct.unpack_from("<I", tail, at + 12)[0]]
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":  # zip64: the size is in another record
        record = tail.rfind(b"PK\x06\x06", 0, at)
        if record >= 0 and len(tail) >= record + 48:
            sizes = [struct.unpack_from("<Q", tail, record + 40)[0]]
    return int(max(sizes))


def check_member(path: Path, info: zipfile.ZipInfo) -> None:
    """Raise if a member of a zip file is encrypted, has an unusual compression, or promises more than it can hold."""
    where = f"{path}, {printable(info.filename)}"
    if info.flag_bits & 1:
        raise InputError(f"{where}: encrypted; save the file without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(f"{where}: compressed by method {info.compress_type}; only stored and deflated are read")
    size = path.stat().st_size
    if info.compress_size > size:
        raise InputError(
            f"{where}: truncated: {info.compress_size:,} bytes are promised, and the file has {size:,}; copy it again"
        )
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise InputError(f"{where}: damaged: two different sizes in the zip directory; copy or save it again")
    if info.compress_type == zipfile.ZIP_DEFLATED:
        check_content(where, info.file_size, info.compress_size)


def refuse_empty_cells(path: Path | str, n_rows: int, n_columns: int, n_values: int, what: str) -> None:
    """Raise if a table that lists only its values would be large and nearly empty.

    Args:
        path: file, for the message.
        n_rows, n_columns: size of the table.
        n_values: number of values in it.
        what: the reason, such as "records with different fields".
    """
    if n_rows * n_columns > max(2_000_000, 100 * n_values):
        raise InputError(
            f"{path}: {what}: {n_values:,} values in {n_rows:,} rows and {n_columns:,} columns, "
            "less than one cell of a hundred; write a table whose rows have the same columns"
        )
