"""Checks of the size that the header of an image promises, before its pixels are decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from isthmus.data.packed import BLOCK_BYTES
from isthmus.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 128_000_000
"""Maximum number of pixels of an image: more than the 108 megapixels of a large photograph."""

_MAX_PIXELS_GIF = 48_000_000

_LARGE = 12_000_000
"""Number of pixels above which PNG, TIFF and JPEG files are read twice: first to check them in little memory."""

_MAX_RATIO = 1000
"""Maximum number of pixels per byte of a file of more than `_LARGE` pixels; photographs have 1 to 10."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of the colour types of PNG."""

_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Start and step, in columns and rows, of the passes of an interlaced PNG file."""


def too_large(limit: int = MAX_PIXELS) -> str:
    """Return a limit in pixels with advice, for messages."""
    return f"{limit // 10**6} megapixels, the most that is read; resize it, or remove it from the folder"


def check_pixels(path: Path, image: Image.Image) -> None:
    """Raise if the header of an opened image promises too many pixels, or more than its file holds.

    Raises:
        InputError: if the image is larger than `MAX_PIXELS`, or larger than its file can be.
    """
    width, height = image.size
    limit = _MAX_PIXELS_GIF if image.format == "GIF" else MAX_PIXELS
    if width * height > limit:
        raise InputError(f"{path}: an image of {height} x {width} pixels; more than {too_large(limit)}")
    size = path.stat().st_size
    if width * height <= _LARGE:
        return
    if width * height > _MAX_RATIO * size:
        raise InputError(
            f"{path}: {size:,} bytes hold an image of {height} x {width} pixels, over {_MAX_RATIO:,} per byte; "
            "resize it, or remove it from the folder"
        )
    if (image.format == "PNG" and _short_png(path)) or (image.format == "TIFF" and _short_tiff(path, image)):
        raise InputError(
            f"{path}: the header promises {height} x {width} pixels, more than its {size:,} bytes hold; "
            "replace it, or remove it from the folder"
        )
    if image.format == "JPEG":
        _decode_small(path)


def _decode_small(path: Path) -> None:
    """Decode a JPEG file at an eighth of its size, which fails as the whole image does if the file is truncated."""
    from PIL import Image

    with Image.open(path, formats=("JPEG",)) as image:
        image.draft("RGB", (1, 1))
        image.load()


def _short_png(path: Path) -> bool:
    """Return whether the compressed rows of a PNG file are damaged or fewer than its header promises.

    References:
        Portable Network Graphics (PNG) Specification, third edition, sections 5 and 7 to 10.
    """
    with path.open("rb") as file:
        file.seek(16)
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", file.read(13))
        bits = depth * _CHANNELS.get(colour, 4)
        passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
        expected = 0
        for left, top, step_x, step_y in passes:
            columns, rows = -(-(width - left) // step_x), -(-(height - top) // step_y)
            expected += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
        try:
            return _inflated(_pixel_data(file), expected) < expected
        except zlib.error:
            return True


def _short_tiff(path: Path, image: Any) -> bool:
    """Return whether the strips or tiles of a TIFF file lie outside it or, if deflated, hold too few bytes.

    References:
        TIFF revision 6.0, sections 7 (strips) and 15 (tiles); Adobe Photoshop TIFF technical notes (deflate).
    """
    tags = image.tag_v2
    starts, sizes = _numbers(tags.get(273, tags.get(324))), _numbers(tags.get(279, tags.get(325)))
    end = path.stat().st_size
    if len(starts) != len(sizes) or any(start + size > end for start, size in zip(starts, sizes, strict=True)):
        return True
    if tags.get(259) not in (8, 32946):
        return False
    expected = image.width * image.height * sum(_numbers(tags.get(258, 1))) // 8
    total = 0
    with path.open("rb") as file:
        for start, size in zip(starts, sizes, strict=True):
            file.seek(start)
            try:
                total += _inflated(_blocks(file, size), expected - total)
            except zlib.error:
                return True
            if total >= expected:
                return False
    return True


def _numbers(values: Any) -> tuple[int, ...]:
    return () if values is None else tuple(values) if isinstance(values, tuple) else (values,)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the next `size` bytes of a file, in blocks."""
    while size and (block := file.read(min(size, BLOCK_BYTES))):
        size -= len(block)
        yield block


def _pixel_data(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of the IDAT chunks of a PNG file, in blocks."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind != b"IDAT":
            file.seek(length + 4, 1)
            continue
        yield from _blocks(file, length)
        file.seek(4, 1)


def _inflated(blocks: Iterator[bytes], limit: int) -> int:
    """Return the number of decompressed bytes, counted up to a limit."""
    total, stream = 0, zlib.decompressobj()
    for block in blocks:
        while block and total < limit:
            total += len(stream.decompress(block, BLOCK_BYTES))
            block = stream.unconsumed_tail
        if total >= limit or stream.eof:
            break
    return total
