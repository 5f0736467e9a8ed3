"""Files of the report: an existing one is replaced only when asked for, and none is ever half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isthmus.errors import InputError
from isthmus.files import atomic_write


def check_overwrite(path: Path, force: bool) -> None:
    """An existing file is replaced only when asked for, and a folder is needed to write in.

    Raises:
        InputError: the file exists and `force` is not set; it is a folder; its own folder does not exist.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if path.exists() and not force:
        raise InputError(f"{path} exists; pass force=True to replace it, or choose another name")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it first or write elsewhere")


def save_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file, which takes the name `path` when it is whole.

    Raises:
        InputError: the folder cannot be written to, or the disk is full; nothing is left behind.
    """
    with atomic_write(path) as temporary:
        try:
            write(temporary)
        except OSError as error:
            raise InputError(
                f"could not write {path}: {error.strerror or error}; nothing was written, "
                "free some space or write elsewhere"
            ) from error
