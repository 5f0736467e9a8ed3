"""Checkpoints: the state of a run, next to the model that it will save; written atomically, removed on success."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt64
from torch import Tensor

from isthmus.data.streams import BLOCK_SIZE
from isthmus.errors import InputError
from isthmus.files import read_tensors, write_tensors
from isthmus.learning.precision import resolve_device, resolve_precision
from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.parts.forward import Batch

_RESUMABLE_ARGUMENTS = ("verbose", "time_limit", "device")
"""Arguments that may differ when a run is resumed: they change how long and where it runs, not its result."""

MAX_DIGEST_BYTES = 2**30
"""Bytes of rows in model space up to which a digest covers every row."""

SAMPLED_DIGEST_NOTE = (
    "the rows take more than 1 GiB, so the checkpoint identifies them by their number, 256 of them and the time of "
    "change of a mapped file; an edit of other rows goes unnoticed when the run is resumed"
)


class DigestedRows:
    """Rows that are hashed when they are first read, so that passes over the rows also give their digest.

    The digest covers the entries in model space, the mask and the labels, and depends on the order of the rows, not on
    the order in which they are read. Above `MAX_DIGEST_BYTES` it covers 256 evenly spaced rows, and the size and time
    of change of the file that the rows are mapped from. In memory are 9 bytes for each row.

    Args:
        rows: in model space.

    Example:
        >>> from isthmus.data.streams import Affine, DenseRows
        >>> same = [DigestedRows(DenseRows(np.eye(3), Affine(np.zeros(3), np.ones(3)))) for _ in range(2)]
        >>> _ = same[0].batch(torch.tensor([2, 0]))
        >>> same[0].digest == same[1].digest
        True
    """

    def __init__(self, rows: Rows) -> None:
        self.rows, self.n_columns = rows, rows.n_columns
        self.is_sampled = 4 * len(rows) * rows.n_columns > MAX_DIGEST_BYTES
        n_hashes = 0 if self.is_sampled else len(rows)
        self._hashes, self._is_hashed = np.zeros(n_hashes, np.uint64), np.zeros(n_hashes, bool)
        self._digest: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index`; hash them unless the digest is known."""
        batch = self.rows.batch(index)
        if self._digest is None and not self.is_sampled and not self._is_hashed[index.numpy()].all():
            self._hashes[index.numpy()] = row_hashes(batch)
            self._is_hashed[index.numpy()] = True
        return batch

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of a SHA-256; rows that no pass has read yet are read now."""
        if self._digest is None:
            if self.is_sampled:
                self._hashes = row_hashes(self.rows.batch(evenly_spaced(len(self.rows), 256)))
            left = torch.from_numpy(np.flatnonzero(~self._is_hashed))
            for start in range(0, len(left), BLOCK_SIZE):
                self.batch(left[start : start + BLOCK_SIZE])
            state = _file_state(self.rows) if self.is_sampled else ""
            self._digest = hashlib.sha256(state.encode() + self._hashes.tobytes()).hexdigest()[:16]
        return self._digest


def row_hashes(batch: Batch) -> UInt64[np.ndarray, " batch"]:
    """Return a hash of the entries, the mask and the label of each row.

        h = sum_j w_j u_j mod 2^64,   u_j the words of 32 bits of a row,   w_j fixed odd random numbers

    Rows that differ in one word have different hashes, other different rows have equal ones with a probability near
    2^-64.

    Source: Lemire & Kaser, Strongly universal string hashing is fast (2014), on multilinear hashing.
    """
    parts = [part.numpy() for part in (batch.x, batch.mask, batch.label) if part is not None]
    words = np.hstack([np.ascontiguousarray(part).reshape(len(part), -1).view(np.uint32) for part in parts])
    weights = np.random.PCG64(0).random_raw(words.shape[1]) | np.uint64(1)
    hashes: np.ndarray = words.astype(np.uint64) @ weights
    return hashes


def _file_state(rows: Any) -> str:
    """Size and time of change of the file that rows are mapped from; nothing for rows in memory."""
    while hasattr(rows, "rows"):
        rows = rows.rows
    name = getattr(getattr(rows, "array", None), "filename", None)
    return "" if name is None else f"{os.stat(name).st_size} {os.stat(name).st_mtime_ns}"


@dataclass(frozen=True)
class Checkpoint:
    """A state that was read back.

    Attributes:
        path: of the checkpoint.
        seed: of the run.
        identity: kind, arguments and digests of the data, by name.
        tensors, data: the arguments of `Trainer.restore`.
    """

    path: Path
    seed: int
    identity: dict[str, str]
    tensors: dict[str, Tensor]
    data: dict[str, Any]

    def check(self, now: dict[str, str]) -> None:
        """Refuse to resume another run.

        Raises:
            InputError: the run was started with other arguments or data, by name.
        """
        differing = [(name, self.identity.get(name), now[name]) for name in now if self.identity.get(name) != now[name]]
        if differing:
            details = ", ".join(f"{name} ({then} then, {new} now)" for name, then, new in differing)
            raise InputError(
                f"{self.path} is of a run with other arguments: {details}; repeat them, or remove it to start afresh"
            )


def path_of(model: str | os.PathLike[str]) -> Path:
    """Return MODEL.checkpoint next to MODEL.

    Example:
        >>> path_of("digits.isthmus").name
        'digits.isthmus.checkpoint'
    """
    return Path(f"{os.fspath(model)}.checkpoint")


def identity(
    estimator: Any, rows: DigestedRows, validation_rows: DigestedRows | None, labels: Tensor | None
) -> dict[str, str]:
    """Return what a run depends on: the kind, its arguments, and digests of rows, labels and validation rows."""
    arguments = {k: _argument(v) for k, v in estimator.get_params(deep=False).items() if k not in _RESUMABLE_ARGUMENTS}
    arguments["precision"] = resolve_precision(estimator.precision, resolve_device(estimator.device))
    validation = "none" if validation_rows is None else f"{len(validation_rows)} rows {validation_rows.digest}"
    data = {"rows": str(len(rows)), "data": rows.digest, "validation": validation}
    if labels is not None:
        data["labels"] = hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:16]
    return {"kind": estimator.kind, **arguments, **data}


def _argument(value: Any) -> str:
    """Return a constructor argument as text that is the same in another process.

    Example:
        >>> _argument([4, 2]) == _argument((4, 2)), _argument(np.random.RandomState(0)), _argument(len)
        (True, 'RandomState', 'len')
    """
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__name__))
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return type(value).__name__  # the seed that it gave is in the checkpoint
    return repr(tuple(value) if isinstance(value, list) else value)


def writer(
    model: str | os.PathLike[str], run: dict[str, str], seed: int
) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    """Return a function that writes the state of the trainer next to the model.

    Args:
        model: path of the model that will be saved.
        run: the identity of the run.
        seed: of the run.
    """

    def save_state(tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        write_tensors(path_of(model), tensors, {"checkpoint": run, "seed": seed, "state": data})

    return save_state


def read(model: str | os.PathLike[str]) -> Checkpoint | None:
    """Return the state of an earlier run, None where there is none; `Checkpoint.check` compares the runs.

    Raises:
        InputError: the file is not a checkpoint.
    """
    path = path_of(model)
    if not path.exists():
        return None
    tensors, header = read_tensors(path)
    if header.get("checkpoint") is None:
        raise InputError(f"{path} is not a checkpoint of a run; remove it to start afresh")
    return Checkpoint(path, int(header["seed"]), header["checkpoint"], tensors, header["state"])


def remove(model: str | os.PathLike[str]) -> None:
    """Remove the checkpoint of a model, if there is one."""
    path_of(model).unlink(missing_ok=True)
