"""Results on disk. Each cell is stored as soon as it is complete, and is recognised by all that it depends on."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from experiments.experiment import Cell
from isthmus.errors import InputError, pluralize
from isthmus.files import atomic_write


@dataclass(frozen=True)
class StoredCell:
    """A completed cell.

    Attributes:
        result: its result.
        seconds: its duration.
        machine: the hardware it ran on, in words.
        commit: the commit at which it ran, or the version of isthmus outside a checkout.
    """

    result: dict[str, Any]
    seconds: float
    machine: str
    commit: str


def digest(cell: Cell, version: str) -> str:
    """Return the SHA-256 of the cell's name and settings and of the library's version: the key of a stored result.

    Example:
        >>> cell = Cell("fit", {"epochs": 3}, lambda settings, state: {})
        >>> digest(cell, "1.0") == digest(cell, "1.1")
        False
    """
    text = json.dumps([cell.name, cell.settings, version], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_stored(folder: Path, cell: Cell, version: str) -> StoredCell | None:
    """Return the stored result of a cell; None if there is none, or one of other settings or another version."""
    path = _path(folder, cell)
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["digest"] != digest(cell, version):
            return None
        commit = str(stored.get("commit", "not recorded"))
        return StoredCell(stored["result"], float(stored["seconds"]), str(stored["machine"]), commit)
    except (ValueError, KeyError, TypeError):
        # The file was edited by hand or written by another program: run the cell again and replace the file.
        return None


def run_cell(folder: Path, cell: Cell, version: str) -> StoredCell:
    """Run a cell and store its result."""
    began, at = time.perf_counter(), commit()
    # The digest in the name keeps a run from resuming the state of other settings.
    state = with_parent(folder / "cells" / f"{cell.name}-{digest(cell, version)[:12]}")
    result = dict(cell.work(cell.settings, state))
    done = StoredCell(result, round(time.perf_counter() - began, 2), hardware(), at)
    stored = {
        "cell": cell.name, "digest": digest(cell, version), "version": version, "settings": dict(cell.settings),
        **asdict(done),
    }  # fmt: skip
    write_json(_path(folder, cell), stored)
    # This run uses the result as the next run reads it, so that keys that are not strings fail at once or never.
    return replace(done, result=json.loads(json.dumps(result)))


def remove(folder: Path, cell: Cell) -> None:
    """Remove the stored result of a cell, if there is one."""
    _path(folder, cell).unlink(missing_ok=True)


def _path(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.name}.json"


@functools.lru_cache(maxsize=1)
def commit() -> str:
    """Return the commit of the checkout, with "-dirty" if files differ from it; else the version of isthmus."""
    from isthmus import __version__

    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return f"isthmus {__version__}"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        described = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return f"isthmus {__version__}"
    return described.stdout.strip()


def write_json(path: Path, value: Any) -> None:
    """Write plain data atomically."""
    with atomic_write(with_parent(path)) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a text atomically."""
    with atomic_write(with_parent(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def with_parent(path: Path) -> Path:
    """Return the path after creating its folder.

    Raises:
        InputError: the folder cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create the folder {path.parent}: {error.strerror or error}; name another folder for the results"
        ) from None
    return path


def hardware() -> str:
    """Return cores, threads if fewer, processor and torch version, without the name of the host."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    used = f", {pluralize(threads, 'thread')}" if threads != cores else ""
    return f"{pluralize(cores, 'core')} of {_processor()}{used}, torch {torch.__version__}"


def _processor() -> str:
    """Return the model of the processor if the system reports it, else its family."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else ():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None.

    Example:
        >>> finite({"a": [1.0, float("nan")]})
        {'a': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list | tuple) else value
