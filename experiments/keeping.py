"""Results on disk: each cell's as soon as it is there, whole, known again by all that it depends on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.experiment import Cell
from isthmus.errors import InputError, pluralize
from isthmus.files import atomic_write


@dataclass(frozen=True)
class Kept:
    """A finished cell.

    Attributes:
        result: what came out.
        seconds: how long it took.
        machine: what it ran on, in words.
    """

    result: dict[str, Any]
    seconds: float
    machine: str


def digest(cell: Cell, version: str) -> str:
    """What a kept result is recognised by: SHA-256 of the cell's settings and the library's version.

    Example:
        >>> cell = Cell("fit", {"epochs": 3}, lambda settings, state: {})
        >>> digest(cell, "1.0") == digest(cell, "1.1")
        False
    """
    text = json.dumps([cell.name, cell.settings, version], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_kept(folder: Path, cell: Cell, version: str) -> Kept | None:
    """The kept result of a cell; None where there is none, or one of other settings or another version."""
    path = _path(folder, cell)
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["digest"] != digest(cell, version):
            return None
        return Kept(stored["result"], float(stored["seconds"]), str(stored["machine"]))
    except (ValueError, KeyError, TypeError):
        # Edited by hand, or of another program: the cell is run anew and the file replaced.
        return None


def work_off(folder: Path, cell: Cell, version: str) -> Kept:
    """Run a cell and keep its result."""
    began = time.perf_counter()
    # Named by the digest: the state of other settings is never gone on with.
    state = made(folder / "cells" / f"{cell.name}-{digest(cell, version)[:12]}")
    result = dict(cell.work(cell.settings, state))
    kept = Kept(result, round(time.perf_counter() - began, 2), machine())
    stored = {
        "cell": cell.name, "digest": digest(cell, version), "version": version, "settings": dict(cell.settings),
        **asdict(kept),
    }  # fmt: skip
    write_json(_path(folder, cell), stored)
    # What the next run reads is what this run uses: keys that are no strings, say, differ at once or never.
    return Kept(json.loads(json.dumps(result)), kept.seconds, kept.machine)


def forget(folder: Path, cell: Cell) -> None:
    """Remove the kept result of a cell, if there is one."""
    _path(folder, cell).unlink(missing_ok=True)


def _path(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.name}.json"


def write_json(path: Path, value: Any) -> None:
    """Write plain data, whole or not at all."""
    with atomic_write(made(path)) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with atomic_write(made(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def made(path: Path) -> Path:
    """The same path, its folder made where it was not there.

    Raises:
        InputError: a folder cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {path.parent}: {error.strerror or error}; name another folder for the results"
        ) from None
    return path


def machine() -> str:
    """What this process runs on: cores, threads where fewer, processor and torch; no name of any host."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    used = f", {pluralize(threads, 'thread')}" if threads != cores else ""
    return f"{pluralize(cores, 'core')} of {_processor()}{used}, torch {torch.__version__}"


def _processor() -> str:
    """The model of the processor where the system tells it, else its family."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else ():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def finite(value: Any) -> Any:
    """Plain data whose numbers are finite; NaN and infinities, which JSON has no words for, become None.

    Example:
        >>> finite({"a": [1.0, float("nan")]})
        {'a': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list | tuple) else value
