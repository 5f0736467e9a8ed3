"""Read and write tensors with a JSON header in one safetensors file. Writing is atomic.

A file is a safetensors file with one metadata key, ``isthmus``, whose value is a JSON string with
``schema: 2``. It contains only numbers and plain data; reading it executes nothing. This module does
not depend on the kinds of autoencoder: `isthmus.load` selects the class from the kind in the header.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import Tensor, uint8

from isthmus.errors import InputError

SCHEMA = 2
_KEY = "isthmus"


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to `path`; rename it to `path` on success, remove it on failure.

    A reader sees the old file or the new one, never a part of it: the data are synced to disk before the rename.

    Raises:
        InputError: if `path` is a folder, or its folder does not exist or is not writable.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with atomic_write(folder / "a.txt") as temporary:
        ...     _ = temporary.write_text("text")
        >>> [p.name for p in folder.iterdir()]
        ['a.txt']
    """
    path = Path(path)
    temporary = _create_temporary(path)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, _permissions())
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _create_temporary(path: Path) -> Path:
    """Create an empty file with a unique name in the folder of `path`."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except FileNotFoundError:
        raise InputError(f"the folder {path.parent} does not exist; create it, or choose another path") from None
    except (PermissionError, NotADirectoryError, OSError) as error:
        raise InputError(f"cannot write to {path.parent}: {error.strerror or error}; choose another folder") from None
    os.close(handle)
    return Path(name)


def remove_partial_files(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files that processes left which were killed while they wrote `path`."""
    path = Path(path)
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        temporary.unlink(missing_ok=True)


def _permissions() -> int:
    """Return the default permissions of a new file, from the umask."""
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def write_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON-serialisable `header` to `path` atomically.

    Raises:
        InputError: if the folder is not writable or the disk is full. No partial file remains.
    """
    from safetensors.torch import save_file

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"schema": SCHEMA, **header}
    text = json.dumps({**header, "digest": content_digest(stored, header)})
    with atomic_write(path) as temporary:
        try:
            save_file(stored, temporary, {_KEY: text})
        except Exception as error:
            raise _write_failure(Path(path), error) from error


def content_digest(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of the header and of the names and bytes of the tensors, on any device.

    It detects edited files.
    """
    digest = hashlib.sha256(json.dumps(header).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().flatten().view(uint8).numpy().data)
    return digest.hexdigest()


def _write_failure(path: Path, error: Exception) -> Exception:
    """Convert an I/O error to an `InputError`. Return any other error, which is a bug, unchanged."""
    if isinstance(error, OSError) or "os error" in str(error).lower() or "I/O error" in str(error):
        return InputError(
            f"could not write {path}: {error}; no file was written; free disk space, or choose another path"
        )
    return error


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the header of a file written by `write_tensors`.

    Raises:
        InputError: if the file is missing, truncated or edited, or was written by another program or a newer isthmus.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise InputError(f"{path} is a folder, not a model file")
    try:
        with safe_open(path, framework="pt") as stored:
            header = _header(path, stored.metadata())
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        if isinstance(error, SafetensorError) and _is_of_another_format(path):
            raise InputError(
                f"{path} is not an isthmus model file; name a file that `save` or `isthmus fit` wrote "
                "(commands expect MODEL before DATA)"
            ) from None
        raise InputError(
            f"{path} is not a complete isthmus model file ({error}); restore a copy, or fit the model again"
        ) from None
    if header.pop("digest", None) != content_digest(tensors, header):
        raise InputError(
            f"{path} was changed after it was written (its digest differs); restore a copy, or fit the model again"
        )
    return tensors, header


def _is_of_another_format(path: Path) -> bool:
    """Return whether a file that is not empty lacks the start of a safetensors file: 8 bytes of length, then "{"."""
    with path.open("rb") as file:
        start = file.read(9)
    return start != b"" and start[8:] != b"{"


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Parse and check the JSON header."""
    if not metadata or _KEY not in metadata:
        raise InputError(
            f"{path} is a safetensors file of another program: it has no 'isthmus' header; name a model file of isthmus"
        )
    try:
        header = json.loads(metadata[_KEY])
        schema = header["schema"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: the 'isthmus' header is damaged; restore a copy, or fit the model again") from None
    if not isinstance(schema, int) or schema > SCHEMA:
        raise InputError(
            f"{path} was written by a newer isthmus (schema {schema}, this version reads up to {SCHEMA}); "
            "upgrade with: pip install --upgrade isthmus"
        )
    if schema < SCHEMA:
        advice = "remove it to start afresh" if "checkpoint" in header else "fit the model again"
        raise InputError(f"{path} was written by an earlier isthmus (schema {schema}); {advice}")
    return header
