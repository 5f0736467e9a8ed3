"""Checks of output paths. They run before the work, so that no training is lost to an unwritable path."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from isthmus.errors import InputError

Inputs = Sequence[str | None]
"""The inputs of a command, as typed: paths, sources of `isthmus.data.open`, and None for an option without a value."""


def refuse_overlap(path: str, inputs: Inputs) -> None:
    """Refuse an output that is, contains or lies in an input, by any name: also with --force, nothing read is replaced.

    Raises:
        InputError: the output is an input, a link to one, a folder around one, or in the folder of one.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = Path(folder, "rows.csv").write_text("a")
        >>> refuse_overlap(f"{folder}/codes.csv", [f"{folder}/rows.csv", "digits", None])
    """
    output = Path(path).expanduser()
    for given in inputs:
        source = _existing(given)
        if source is None:
            continue
        where = output.resolve()
        if source.is_dir() and where != source.resolve() and where.is_relative_to(source.resolve()):
            relation = "lies in"
        elif output.is_dir() and where != source.resolve() and source.resolve().is_relative_to(where):
            relation = "contains"
        elif where == source.resolve() or _files(output) & _files(source):
            relation = "is"
        else:
            continue
        raise InputError(f"{path}: {relation} the input {given}, which --force does not replace; choose another output")


def _existing(given: str | None) -> Path | None:
    """Return the path of an input, FILE:SPLIT without its split; None for named data sets.

    None also for files that are missing or not accessible, which cannot be read and are refused for that.
    """
    from isthmus.data.named import is_named

    if given is None:
        return None
    paths = (Path(name).expanduser() for name in (given, given.rpartition(":")[0]) if name)
    found = next((path for path in paths if os.path.exists(path)), None)
    return None if found is None or (is_named(given) and not given.startswith("adbench/")) else found


def _files(path: Path) -> set[tuple[int, int]]:
    """Return the device and number of a file, or of every file below a folder; links have those of their files."""
    files = [path] if os.path.isfile(path) else [file for file in path.rglob("*") if os.path.isfile(file)]
    return {(file.stat().st_dev, file.stat().st_ino) for file in files}


def check_output_file(path: str, *, force: bool = False, inputs: Inputs = ()) -> Path:
    """Return the output path of a file after checking that it can be written.

    Raises:
        InputError: if the file exists (without `force`), the path is a folder, its folder is missing or read-only, or
            it is or lies in one of the inputs.

    Example:
        >>> import tempfile
        >>> check_output_file(f"{tempfile.mkdtemp()}/model.isthmus").name
        'model.isthmus'
    """
    target = Path(path).expanduser()
    try:
        refuse_overlap(path, inputs)
        if target.is_dir() or path.endswith("/"):
            raise InputError(f"{path}: is a folder; name a file in it")
        if target.exists() and not force:
            raise InputError(f"{path}: the file exists; choose another name, or overwrite it with --force")
        _refuse_unwritable(target.parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another path") from None
    return target


def checkpoint_of(model: Path) -> Path:
    """Return the path of the checkpoint of a model.

    Example:
        >>> checkpoint_of(Path("digits.isthmus")).name
        'digits.isthmus.checkpoint'
    """
    return Path(f"{model}.checkpoint")


def check_model_output(path: str, *, force: bool, resume: bool, inputs: Inputs = ()) -> Path:
    """Check the output path of a model as `check_output_file` does, and refuse to discard a checkpoint.

    With `resume` and a checkpoint, the model file that the unfinished run wrote may be overwritten.

    Raises:
        InputError: also if MODEL.checkpoint exists and neither `resume` nor `force` is set.
    """
    checkpoint = checkpoint_of(Path(path).expanduser())
    for written in (path, str(checkpoint)):
        refuse_overlap(written, inputs)
    if resume and not force and not checkpoint.exists() and Path(path).expanduser().is_file():
        raise InputError(
            f"{path}: the file exists and there is no checkpoint {checkpoint} to resume from; choose another name, or "
            "overwrite it with --force, which starts from the beginning"
        )
    if checkpoint.exists() and not (force or resume):
        raise InputError(
            f"{checkpoint}: checkpoint of an unfinished run; continue it with --resume, or discard it with --force"
        )
    return check_output_file(path, force=force or (resume and checkpoint.exists()))


def check_format(path: str, suffixes: Sequence[str], advice: str, *, force: bool = False, inputs: Inputs = ()) -> Path:
    """Check the output path as `check_output_file` does, and that its suffix is one of `suffixes`.

    Raises:
        InputError: also if the suffix is another one; the message ends with `advice`.
    """
    target = check_output_file(path, force=force, inputs=inputs)
    if target.suffix.lower() not in suffixes:
        found = f"unknown suffix {target.suffix}" if target.suffix else "no suffix"
        raise InputError(f"{path}: {found}; {advice}")
    return target


def check_codes_output(path: str, *, force: bool = False, inputs: Inputs = ()) -> Path:
    """Check the output path of codes, a file."""
    from isthmus.data.writers import ARRAY_SUFFIXES

    advice = f"codes are written as {', '.join(ARRAY_SUFFIXES)}"
    return check_format(path, ARRAY_SUFFIXES, advice, force=force, inputs=inputs)


def check_errors_output(path: str, *, force: bool = False, inputs: Inputs = ()) -> Path:
    """Check the output path of the errors of rows, a file."""
    from isthmus.data.writers import ARRAY_SUFFIXES

    advice = f"errors are written as {', '.join(ARRAY_SUFFIXES)}"
    return check_format(path, ARRAY_SUFFIXES, advice, force=force, inputs=inputs)


def check_rows_output(path: str, *, force: bool = False, inputs: Inputs = ()) -> Path:
    """Check the output path of rows: a file, or a folder for images."""
    from isthmus.data.writers import ARRAY_SUFFIXES

    if is_folder_name(path):
        return check_folder_output(path, force=force, inputs=inputs)
    advice = f"rows are written as {', '.join(ARRAY_SUFFIXES)}; images also to a folder, such as images/"
    return check_format(path, ARRAY_SUFFIXES, advice, force=force, inputs=inputs)


def check_path_output(path: str, *, force: bool = False, inputs: Inputs = ()) -> Path:
    """Check the output path of rows on a path through the code: a file, one picture, or a folder of images."""
    from isthmus.data.writers import ARRAY_SUFFIXES

    if is_folder_name(path):
        return check_folder_output(path, force=force, inputs=inputs)
    advice = f"rows are written as {', '.join(ARRAY_SUFFIXES)}; images as one .png, to a folder or as .npy"
    return check_format(path, (*ARRAY_SUFFIXES, ".png"), advice, force=force, inputs=inputs)


def refuse_wrong_form(images: bool, path: str, *, pictures: bool) -> None:
    """Raise if an output cannot hold the rows: images need a folder, .npy or a picture, other rows a file.

    Args:
        images: True if the rows are images.
        path: the output.
        pictures: True if several images can be one .png file.

    Raises:
        InputError: the output cannot hold the rows.
    """
    pictured = is_folder_name(path) or (pictures and path.lower().endswith(".png"))
    if pictured and not images:
        raise InputError(
            f"{path}: only images are written as pictures, and the rows of this model are not images; name a .csv, "
            ".parquet or .npy file"
        )
    if images and not pictured and not path.lower().endswith(".npy"):
        one = "a .png file, " if pictures else ""
        raise InputError(
            f"{path}: images cannot be written to this file; name {one}a folder for PNG files, or a .npy file"
        )


def is_folder_name(path: str) -> bool:
    """Return whether a path names a folder: it ends in a slash, is an existing folder, or has no suffix.

    Example:
        >>> is_folder_name("faces/"), is_folder_name("faces"), is_folder_name("faces.npy")
        (True, True, False)
    """
    return path.endswith("/") or Path(path).expanduser().is_dir() or not Path(path).suffix


def check_folder_output(path: str, *, force: bool = False, inputs: Inputs = ()) -> Path:
    """Return the output path of a folder of PNG files after checking that it can be created."""
    from isthmus.data.images import check_overwrite_folder

    target = Path(path).expanduser()
    try:
        refuse_overlap(path, inputs)
        check_overwrite_folder(target, force)
        _refuse_unwritable(target.resolve().parent)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another path") from None
    return target


def check_index_output(path: str, *, force: bool = False, inputs: Inputs = ()) -> str:
    """Return the folder of a new index after checking that it can be created; addresses of object stores as they are.

    Raises:
        InputError: the path exists and is not an index that `force` replaces; its folder is missing or read-only; it is
            or lies in one of the inputs.
    """
    from isthmus.retrieval.folders import check_new_folder

    if "://" in path:
        return path
    target = Path(path).expanduser()
    refuse_overlap(path, inputs)
    check_new_folder(target, force=force)
    _refuse_unwritable(target.absolute().parent)
    return str(target)


def _refuse_unwritable(folder: Path) -> None:
    """Raise unless a temporary file can be created in the folder."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; create it, or choose another path")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: cannot write to this folder ({error.strerror}); choose another folder") from None
