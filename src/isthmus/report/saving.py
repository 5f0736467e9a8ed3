"""Atomic writing of files, which replaces existing files only with `force`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isthmus.errors import InputError
from isthmus.files import atomic_write


def check_overwrite(path: Path, force: bool) -> None:
    """Check that the file can be written and does not exist, unless `force` is set.

    Raises:
        InputError: the file exists and `force` is False; the path is a folder; its parent folder does not exist.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; pass the name of a file")
    if path.exists() and not force:
        raise InputError(f"{path} exists; pass force=True to replace it, or choose another name")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; create it or choose another")


def save_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary file and rename the file to `path` when it is complete.

    Raises:
        InputError: the folder cannot be written to, or the disk is full; the temporary file is removed.
    """
    with atomic_write(path) as temporary:
        try:
            write(temporary)
        except OSError as error:
            raise InputError(
                f"could not write {path}: {error.strerror or error}; nothing was written; "
                "check the disk space and the permissions, or choose another folder"
            ) from error
