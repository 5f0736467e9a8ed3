"""Read folders of images as one array of bytes, and write images as PNG files."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.data.dataset import Dataset
from isthmus.data.image_limits import check_pixels, too_large
from isthmus.data.messages import one_line
from isthmus.data.packed import refuse_above_memory
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp")

logging.getLogger("PIL").addHandler(logging.NullHandler())  # Pillow reports some damage to its logger too

_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
"""Formats of `IMAGE_SUFFIXES`. Pillow finds the format in the content; other formats are not tried."""

_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
_WIDE_MODES = ("I", "F")
_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
_QUARTER_TURNS = (5, 6, 7, 8)
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class _Header:
    """Properties of an image file, read before its pixels."""

    path: Path
    name: str
    mode: str
    size: tuple[int, int]
    frames: int
    transparent: bool


def read_image_folder(folder: Path, resize: tuple[int, int] | None = None) -> Dataset:
    """Read all images below `folder`, sorted by path, as one array of bytes.

    The array is (n, h, w) if all images are greyscale, else (n, h, w, 3). Transparent images are drawn on
    white, 16-bit pixels are reduced to 8 bits, the EXIF orientation is applied, and of an animation the first
    frame is read. If the images lie in several folders, the folder of an image is its label.

    Args:
        folder: folder with the images; files and folders whose names start with a dot are skipped.
        resize: height and width of the returned images (bilinear, with averaging when shrinking).

    Raises:
        InputError: if there are no images, an image cannot be read, or sizes differ and `resize` is None.
    """
    import pandas as pd

    paths, others = _find(folder)
    if not paths:
        found = f", only {pluralize(len(others), 'other file')} such as {others[0]}" if others else ""
        raise InputError(f"{folder}: no images in this folder{found}; images end in {', '.join(IMAGE_SUFFIXES)}")
    headers = [_read_header(path, path.relative_to(folder).as_posix()) for path in paths]
    _refuse_wide(folder, headers)
    if resize is None:
        _refuse_sizes(folder, headers)
    colour = any(header.mode not in _GREY_MODES for header in headers)
    width, height = headers[0].size
    height, width = resize or (height, width)
    shape = (len(headers), height, width, 3) if colour else (len(headers), height, width)
    refuse_above_memory(folder, math.prod(shape), "resize the images (--resize HEIGHTxWIDTH), or read fewer")
    X = np.empty(shape, np.uint8)
    for row, header in enumerate(headers):
        X[row] = _read_pixels(header, "RGB" if colour else "L", (width, height))
    names = tuple(header.name for header in headers)
    notes, paths_of_rows = _notes(folder, headers, others, colour), pd.DataFrame({"path": list(names)})
    return Dataset(X, _labels(names), folder.resolve().name, names, notes, carried=paths_of_rows)


def read_image(path: Path, size: tuple[int, int], *, colour: bool) -> np.ndarray:
    """Read one image in a height and width, as bytes (height, width), or (height, width, 3) with `colour`.

    Raises:
        InputError: if the image cannot be read.
    """
    header = _read_header(path, path.name)
    _refuse_wide(path.parent, [header])
    return _read_pixels(header, "RGB" if colour else "L", (size[1], size[0]))


def _find(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the sorted paths of the images below `folder`, and the names of the other files."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: this folder cannot be read ({error.strerror}); change its permissions, or copy it"
        )

    images, others = [], []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        for name in files:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                images.append(Path(parent, name))
            elif not name.startswith("."):
                others.append(name)
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix()), sorted(others)


def _damaged(name: str, path: Path, error: BaseException) -> InputError:
    if isinstance(error, PermissionError):
        return InputError(
            f"{path}: cannot be read ({error.strerror}); change its permissions, or remove it from the folder"
        )
    cause = "an empty file" if path.stat().st_size == 0 else one_line(error).replace(str(path), name)
    return InputError(f"{path}: not a readable image ({cause}); replace it, or remove it from the folder")


@contextmanager
def _opened(path: Path, name: str, *, check: bool) -> Iterator[Image.Image]:
    """Open an image. Exceptions of the decoders become an `InputError`.

    Args:
        path: the file.
        name: its path within the folder, for messages.
        check: compare the size in its header with its content.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about unused metadata, and about sizes that are checked here
            if not path.is_file():
                raise InputError(f"{path}: not a regular file; remove it from the folder")
            with Image.open(path, formats=_FORMATS) as image:
                if check:
                    check_pixels(path, image)
                yield image
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{path}: an image of more than {too_large()}") from None
    except Exception as error:  # decoders raise exceptions of many types for damaged files
        raise _damaged(name, path, error) from None


def _read_header(path: Path, name: str) -> _Header:
    with _opened(path, name, check=True) as image:
        mode = _palette_mode(image) if image.mode in ("P", "PA") else image.mode
        turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
        size = (image.height, image.width) if turned else (image.width, image.height)
        frames = int(getattr(image, "n_frames", 1))
        transparent = image.mode in _ALPHA_MODES or "transparency" in image.info
        return _Header(path, name, mode, size, frames, transparent)


def _palette_mode(image: Image.Image) -> str:
    """Return "L" if the palette image contains only greys, else "RGB"."""
    used = np.flatnonzero(image.histogram()[:256])
    colours = np.zeros((256, 3), int)
    palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))[:256]
    colours[: len(palette)] = palette
    return "L" if (colours[used] == colours[used, :1]).all() else "RGB"


def _refuse_wide(folder: Path, headers: list[_Header]) -> None:
    wide = [header for header in headers if header.mode in _WIDE_MODES]
    if wide:
        raise InputError(
            f"{folder}: {wide[0].name} has 32-bit pixels ({pluralize(len(wide), 'such image')}); "
            "save them with 8 bits, or save all images as one .npy array (n, h, w)"
        )


def _refuse_sizes(folder: Path, headers: list[_Header]) -> None:
    """Raise if the image sizes differ; name the first five images that differ from the most common size."""
    sizes = Counter(header.size for header in headers)
    (width, height), most = sizes.most_common(1)[0]
    odd = [header for header in headers if header.size != (width, height)]
    if odd:
        named = ", ".join(f"{header.name} {header.size[1]}x{header.size[0]}" for header in odd[:5])
        more = f" and {len(odd) - 5:,} more" if len(odd) > 5 else ""
        raise InputError(
            f"{folder}: {len(odd):,} of {pluralize(len(headers), 'image')} are not {height}x{width} (height x width) "
            f"like the other {most:,}: {named}{more}; resize all with resize=({height}, {width}) "
            f"(--resize {height}x{width}), or remove them"
        )


def _read_pixels(header: _Header, mode: str, size: tuple[int, int]) -> np.ndarray:
    """Read the pixels as bytes: (h, w) for mode "L", (h, w, 3) for "RGB"."""
    from PIL import Image, ImageOps

    with _opened(header.path, header.name, check=False) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        if header.transparent:
            cover = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", cover.size, "white"), cover)
        if header.mode in _GREY_MODES and upright.mode != "L":
            upright = upright.convert("RGB").getchannel(0)  # luma weights would change greys by rounding
        flat = upright if upright.mode == mode else upright.convert(mode)
        resized = flat if flat.size == size else flat.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(resized)


def _labels(names: Sequence[str]) -> np.ndarray | None:
    """Return the folder of each image, "." for the top one; None if all images lie in one folder."""
    folders = [str(PurePosixPath(name).parent) for name in names]
    return np.array(folders, dtype=object) if len(set(folders)) > 1 else None


def _notes(folder: Path, headers: list[_Header], others: list[str], colour: bool) -> tuple[str, ...]:
    n = len(headers)
    grey = sum(header.mode in _GREY_MODES for header in headers) if colour else 0
    deep = sum(header.mode.startswith("I;16") for header in headers)
    transparent = sum(header.transparent for header in headers)
    animated = sum(header.frames > 1 for header in headers)
    notes = (
        (len(others), f"{pluralize(len(others), 'file')} skipped, such as {others[0] if others else ''}"),
        (grey, f"{grey:,} of {pluralize(n, 'image')} converted from greyscale to RGB"),
        (deep, f"{pluralize(deep, 'image')} reduced from 16 to 8 bits"),
        (transparent, f"{pluralize(transparent, 'image')} with transparency drawn on white"),
        (animated, f"{pluralize(animated, 'file')} with several frames; only the first was read"),
    )
    return tuple(f"{folder.name}: {note}" for count, note in notes if count)


def resize_images(X: np.ndarray, resize: tuple[int, int], where: str) -> np.ndarray:
    """Resize images of bytes (n, h, w) or (n, h, w, c).

    Raises:
        InputError: if `X` is not images of bytes.
    """
    from PIL import Image

    if getattr(X, "ndim", 2) < 3 or X.dtype != np.uint8 or (X.ndim == 4 and X.shape[3] not in (1, 3, 4)):
        found = f"an array {X.shape} of {X.dtype}" if isinstance(X, np.ndarray) else f"a {type(X).__name__}"
        raise InputError(f"{where}: only images of bytes (n, h, w) or (n, h, w, c) can be resized; found {found}")
    height, width = resize
    flat = X[..., 0] if X.ndim == 4 and X.shape[3] == 1 else X
    rows = [np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.BILINEAR)) for x in flat]
    return np.stack(rows).reshape(len(X), height, width, *X.shape[3:])


def check_size(resize: Any) -> tuple[int, int]:
    """Return height and width as positive integers.

    Raises:
        InputError: if `resize` is not two positive integers.
    """
    try:
        height, width = (int(side) for side in resize)
        whole = (height, width) == tuple(resize)
    except (TypeError, ValueError):
        height = width = 0
        whole = False
    if not whole or height < 1 or width < 1:
        raise InputError(f"resize={resize!r} must be a height and a width in pixels, such as (28, 28)")
    return height, width


def write_images(
    folder: str | os.PathLike[str],
    images: np.ndarray,
    names: Sequence[str] | None = None,
    *,
    value_range: tuple[float, float] = (0, 255),
    force: bool = False,
) -> Path:
    """Write images as PNG files to a new folder. Either all files are written or none.

    Pixel p becomes the byte round(255 (p - low) / (high - low)), clipped to 0..255.

    Args:
        folder: folder to create; its parent must exist.
        images: (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w).
        names: path of each image within the folder; the suffix becomes .png. Default: the row numbers.
        value_range: values of black and white. By default bytes are written unchanged.
        force: replace the folder if it exists and contains only PNG files.

    Returns:
        The folder.

    Raises:
        InputError: if the folder exists (without `force`), contains other files or cannot be written; if the
            array is not images; if names are missing or lie outside the folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "faces"
        >>> folder = write_images(folder, np.zeros((2, 8, 8), np.uint8), ["anne.jpg", "bob.jpg"])
        >>> sorted(file.name for file in folder.iterdir())
        ['anne.png', 'bob.png']
    """
    from PIL import Image

    folder = Path(folder).resolve()
    pixels = as_bytes(np.asarray(images), value_range)
    files = _file_names(names, len(pixels))
    check_overwrite_folder(folder, force)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.mkdir()
        for file, image in zip(files, pixels, strict=True):
            target = temporary / file
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(target)
        _move_into_place(temporary, folder)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise InputError(
            f"{folder}: could not be written ({reason}); no files were left; choose another path"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def check_overwrite_folder(folder: Path, force: bool) -> None:
    """Raise if `folder` exists, unless `force` is set and it contains only PNG files."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: a file with this name exists; choose another name for the folder")
    foreign = next((p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() != ".png"), None)
    if foreign is not None:
        raise InputError(
            f"{folder}: the folder contains files that are not PNG, such as {foreign.name}, and is never replaced; "
            "choose another name"
        )
    if not force:
        raise InputError(f"{folder}: the folder exists; choose another name, or replace it with force=True (--force)")


def _move_into_place(temporary: Path, folder: Path) -> None:
    """Rename the finished folder. An existing folder is renamed first and restored if that fails."""
    if not folder.exists():
        temporary.rename(folder)
        return
    backup = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
    folder.rename(backup)
    try:
        temporary.rename(folder)
    except OSError:
        with suppress(OSError):
            backup.rename(folder)
        raise
    shutil.rmtree(backup, ignore_errors=True)


def as_bytes(images: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Convert images to bytes, (n, h, w) or (n, h, w, 3).

    Args:
        images: (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w).
        value_range: values of black and white.

    Raises:
        InputError: the array is not images, the range is empty, or a pixel is not finite.
    """
    shape = images.shape
    if images.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)) or 0 in shape:
        raise InputError(
            f"an array of shape {shape} cannot be written as images; they are (n, h, w), (n, h, w, 1 or 3) or "
            "(n, 1 or 3, h, w); write the array as .npy, .csv or .parquet"
        )
    images = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
    low, high = value_range
    if images.dtype != np.uint8 or (low, high) != (0, 255):
        if not high > low:
            raise InputError(f"value_range=({low}, {high}): the second value must be greater than the first")
        scaled = (images.astype(np.float64) - low) * (255 / (high - low))
        if not np.isfinite(scaled).all():
            row = int(np.argwhere(~np.isfinite(scaled))[0][0])
            raise InputError(f"image {row} contains NaN or infinite pixels; a PNG file cannot store them")
        images = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(images)


def _file_names(names: Sequence[str] | None, n: int) -> list[str]:
    """Return distinct relative paths that end in .png."""
    if names is None:
        return [f"{row:0{len(str(max(n - 1, 1)))}d}.png" for row in range(n)]
    if len(names) != n:
        raise InputError(f"{pluralize(len(names), 'name')} for {pluralize(n, 'image')}; one name per image is needed")
    paths = [PurePosixPath(name) for name in names]
    for path in paths:
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise InputError(f"the name {str(path)!r} lies outside the folder; use relative paths without ..")
    stems = Counter(str(path.with_suffix("")).lower() for path in paths)
    files = [
        str(path.with_suffix(".png")) if stems[str(path.with_suffix("")).lower()] == 1 else f"{path}.png"
        for path in paths
    ]
    if len(set(files)) < n:
        duplicate = Counter(files).most_common(1)[0][0]
        raise InputError(f"two images have the name {duplicate!r}; give each a unique name")
    return files
