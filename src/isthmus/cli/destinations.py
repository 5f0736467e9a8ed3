"""Where results go, looked at before the work begins: nothing is trained for a file that cannot be written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from isthmus.errors import InputError


def check_output_file(path: str, *, force: bool = False) -> Path:
    """The path of a file that may and can be written.

    Raises:
        InputError: a file that exists (without `force`), a folder, a folder that is not there or takes no files.

    Example:
        >>> import tempfile
        >>> check_output_file(f"{tempfile.mkdtemp()}/model.isthmus").name
        'model.isthmus'
    """
    target = Path(path).expanduser()
    try:
        if target.is_dir() or path.endswith("/"):
            raise InputError(f"{path}: is a folder; name a file in it")
        if target.exists() and not force:
            raise InputError(f"{path}: the file exists; choose a new name, or replace it with --force")
        _refuse_unwritable(target.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    return target


def check_model_output(path: str, *, force: bool, resume: bool) -> Path:
    """As `check_output_file`; and the state of an unfinished run is only given up where that was said.

    A run that goes on replaces what it left: the model that Ctrl-C ended with.

    Raises:
        InputError: also for MODEL.checkpoint, with neither `resume` nor `force`.
    """
    state = Path(f"{Path(path).expanduser()}.checkpoint")
    target = check_output_file(path, force=force or (resume and state.exists()))
    if state.exists() and not (force or resume):
        raise InputError(
            f"{state}: the state of an unfinished run is kept there; go on with it by --resume, "
            "or start afresh by --force"
        )
    return target


def check_rows_output(path: str, *, force: bool = False) -> Path:
    """As `check_output_file`, for a file of rows, whose suffix says its format."""
    from isthmus.data.writers import ARRAY_SUFFIXES

    target = check_output_file(path, force=force)
    if target.suffix.lower() not in ARRAY_SUFFIXES:
        found = f"the suffix {target.suffix}" if target.suffix else "a name without suffix"
        raise InputError(f"{path}: {found} is no format of rows; use {', '.join(ARRAY_SUFFIXES)}")
    return target


def is_folder_name(path: str) -> bool:
    """Whether a folder is meant: it ends in a slash, is one already, or has no suffix.

    Example:
        >>> is_folder_name("faces/"), is_folder_name("faces"), is_folder_name("faces.npy")
        (True, True, False)
    """
    return path.endswith("/") or Path(path).expanduser().is_dir() or not Path(path).suffix


def check_folder_output(path: str, *, force: bool = False) -> Path:
    """The path of a folder of PNG files that may and can be made; see `check_output_file`."""
    from isthmus.data.images import check_overwrite_folder

    target = Path(path).expanduser()
    try:
        check_overwrite_folder(target, force)
        _refuse_unwritable(target.resolve().parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
    return target


def _refuse_unwritable(folder: Path) -> None:
    """Raise unless a file can be made in the folder, by making one that has gone again at once."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it first, or write elsewhere")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: no file can be written there ({error.strerror}); choose another folder") from None
