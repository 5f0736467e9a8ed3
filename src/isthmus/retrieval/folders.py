"""New folders of indexes, which appear when all is written."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from isthmus.errors import InputError


@contextmanager
def new_folder(path: str, force: bool) -> Iterator[str]:
    """Yield a folder that becomes `path` when all is written, and that is removed on failure; addresses as they are.

    Raises:
        InputError: the path exists and is not an index that `force` replaces; a folder that is not writable.
    """
    if "://" in path:
        yield path
        return
    target = Path(path).expanduser()
    check_new_folder(target, force=force)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield str(temporary)
        if target.exists():
            old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old")
            os.replace(target, old)
            os.replace(temporary, target)
            shutil.rmtree(old)
        else:
            os.replace(temporary, target)
    except BaseException as error:
        with suppress(FileNotFoundError):
            shutil.rmtree(temporary)
        if isinstance(error, InputError):  # messages name the path that was given
            raise InputError(str(error).replace(str(temporary), path)) from None
        raise


def check_new_folder(target: Path, *, force: bool = False) -> None:
    """Refuse a path for a new index that exists, or whose folder is missing or not writable.

    Raises:
        InputError: `force` replaces an index, but nothing else.
    """
    if target.exists() or target.is_symlink():
        is_index = (target / "rows.lance").is_dir()
        if not force or not is_index:
            advice = "or replace it with --force (force=True)" if is_index else "or remove it"
            raise InputError(f"{target}: exists already; choose another name, {advice}")
    parent = target.absolute().parent
    if not parent.is_dir():
        raise InputError(f"{target}: the folder {parent} does not exist; create it, or choose another path")
    if not os.access(parent, os.W_OK):
        raise InputError(f"{target}: cannot write to {parent}; choose another folder")
