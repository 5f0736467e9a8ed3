"""Checkpoints: the state of a run, next to the model that it will save; written atomically, removed on success.

The state at the end of a run that its time limit ended is kept, so that a later run can continue it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt64
from torch import Tensor

from isthmus.data.streams import BLOCK_SIZE
from isthmus.errors import InputError
from isthmus.files import read_tensors, remove_partial_files, write_tensors
from isthmus.learning.phases import SaveState
from isthmus.learning.precision import resolve_device, resolve_precision
from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.learning.trainer import strip_prefix
from isthmus.parts.forward import Batch
from isthmus.parts.own_networks import Network, network_entry
from isthmus.values.value import Value

_RESUMABLE_ARGUMENTS = ("verbose", "time_limit", "device", "warm_start")
"""Arguments that may differ when a run is resumed: they change how long and where it runs, not its result; the weights
that a warm start goes on from are an entry of their own."""

_KINDS = ("kind", "encoder")
"""Entries of an identity that are reported alone if they differ: other kinds have other arguments."""

MAX_DIGEST_BYTES = 2**30
"""Bytes of rows in model space up to which a digest covers every row."""

SAMPLED_DIGEST_NOTE = (
    "the rows take more than 1 GiB, so the checkpoint identifies them by their number, 256 of them and the time of "
    "change of a mapped file; an edit of other rows goes unnoticed when the run is resumed"
)


class DigestedRows:
    """Rows that are hashed when they are first read, so that passes over the rows also give their digest.

    The digest covers the entries in model space, the mask, conditions, targets and labels, and depends on the order of
    the rows, not on the order in which they are read. Above `MAX_DIGEST_BYTES` it covers 256 evenly spaced rows, and
    the size and time of change of the file that the rows are mapped from. In memory are 9 bytes for each row.

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
    """Return a hash of the entries, the mask, the condition, the label and the target of each row.

        h = sum_j w_j u_j mod 2^64,   u_j the words of 32 bits of a row,   w_j fixed odd random numbers

    Rows that differ in one word have different hashes, other different rows have equal ones with a probability near
    2^-64.

    Source: Lemire & Kaser, Strongly universal string hashing is fast (2014), on multilinear hashing.
    """
    found = (batch.x, batch.mask, batch.condition, batch.label, batch.target, batch.target_mask)
    parts = [part.numpy() for part in found if part is not None]
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
            InputError: the run was started with other arguments or data, by name; of other kinds, the kinds alone.
        """
        differing = {name: (self.identity.get(name), now[name]) for name in now if self.identity.get(name) != now[name]}
        if differing:
            reported = [name for name in _KINDS if name in differing][:1] or list(differing)
            details = ", ".join("{} ({} then, {} now)".format(name, *differing[name]) for name in reported)
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
    estimator: Any,
    rows: DigestedRows,
    validation_rows: DigestedRows | None,
    labels: Tensor | None,
    weights: np.ndarray | None,
) -> dict[str, str]:
    """Return what a run depends on: kind, arguments, and digests of rows, validation rows, labels and weights."""
    labelled = {} if labels is None else {"labels": labels_digest(labels)}
    return {
        "kind": estimator.kind, **argument_entries(estimator), **row_entries(rows, validation_rows), **labelled,
        **weight_entry(weights),
    }  # fmt: skip


def argument_entries(estimator: Any, *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the constructor arguments that the result depends on, as text by name; those in `without` are left out."""
    left_out = (*_RESUMABLE_ARGUMENTS, *without)
    texts = {k: argument_text(v) for k, v in estimator.get_params(deep=False).items() if k not in left_out}
    return texts | {"precision": resolve_precision(estimator.precision, resolve_device(estimator.device))}


def row_entries(rows: DigestedRows, validation_rows: DigestedRows | None) -> dict[str, str]:
    """Return numbers and digests of rows and validation rows."""
    validation = "none" if validation_rows is None else f"{len(validation_rows)} rows {validation_rows.digest}"
    return {"rows": str(len(rows)), "data": rows.digest, "validation": validation}


def weight_entry(weights: np.ndarray | None) -> dict[str, str]:
    """Return the digest of the weights of rows, or that there are none."""
    return {"sample_weight": "none" if weights is None else labels_digest(torch.from_numpy(weights))}


def labels_digest(labels: Tensor, encoding: str = "") -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of encoded labels, and of the text of their encoding."""
    return hashlib.sha256(labels.numpy().tobytes() + encoding.encode()).hexdigest()[:16]


def argument_text(value: Any) -> str:
    """Return a constructor argument as text that is the same in another process.

    Example:
        >>> argument_text([4, 2]) == argument_text((4, 2)), argument_text(np.random.RandomState(0)), argument_text(len)
        (True, 'RandomState', 'len')
    """
    entry = network_entry(value)
    if entry is not None:
        return repr(entry)
    if isinstance(value, list | tuple):
        return f"({', '.join(map(argument_text, value))})"
    if isinstance(value, Value):
        fields = value.get_params(deep=False)
        return f"{type(value).__name__}({', '.join(f'{k}={argument_text(v)}' for k, v in fields.items())})"
    if callable(value) or isinstance(value, Network):
        return str(getattr(value, "__qualname__", type(value).__name__))
    if isinstance(value, np.random.RandomState | np.random.Generator):
        return type(value).__name__  # the seed that it gave is in the checkpoint
    return repr(value)


def writer(model: str | os.PathLike[str], run: dict[str, str], seed: int) -> SaveState:
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
    """Remove the checkpoint of a model, if there is one, and what a killed run left of it."""
    path_of(model).unlink(missing_ok=True)
    remove_partial_files(path_of(model))


@dataclass
class Run:
    """A call of `fit`, and its state in a file, from which a later call continues.

    Attributes:
        every: seconds between two writes of the state.
        earlier: the state that an earlier call wrote, if this call continues it.
        write: function of the identity and the seed that returns the function that writes the state; None writes none.
        seed: the seed of the random numbers.
        identity: what the result depends on, by name.
        kept: tensors and plain data that are a part of every state.
        is_part: True for a fit within another one.
        has_end: True if the file holds the state at the end of this run, which the time limit ended.

    Example:
        >>> import tempfile
        >>> model = Path(tempfile.mkdtemp()) / "model"
        >>> first = Run.of(model)
        >>> seed = first.start(3)
        >>> first.identify({"kind": "deep"})
        >>> first.save_state({"weight": torch.ones(1)}, {"step": 7})
        >>> second = Run.of(model, resume=True)
        >>> second.start(4), second.resumed
        (3, ({'weight': tensor([1.])}, {'step': 7}))
    """

    every: float = 60.0
    earlier: Checkpoint | None = None
    write: Callable[[dict[str, str], int], SaveState] | None = None
    seed: int = 0
    identity: dict[str, str] = field(default_factory=dict)
    kept: tuple[dict[str, Tensor], dict[str, Any]] = field(default_factory=lambda: ({}, {}))
    is_part: bool = False
    has_end: bool = False

    @classmethod
    def of(cls, model: str | os.PathLike[str] | None, every: float = 60.0, *, resume: bool = False) -> Run:
        """Return the run of the arguments of `fit`: `checkpoint`, `checkpoint_every` and `resume`.

        Raises:
            InputError: the file is not a checkpoint; `resume` without `checkpoint`.
        """
        if not model and resume:
            raise InputError("resume=True needs checkpoint=PATH, the path of the model whose run continues")
        if not model:
            return cls(every)
        return cls(every, read(model) if resume else None, partial(writer, model))

    @property
    def is_written(self) -> bool:
        """True if the state is written to a file."""
        return self.write is not None

    def start(self, seed: int) -> int:
        """Set the seed of the run, and return it: the one of the earlier call, if there is one, else `seed`."""
        self.seed = seed if self.earlier is None else self.earlier.seed
        return self.seed

    def identify(self, entries: dict[str, str]) -> None:
        """Add entries to the identity of the run.

        Raises:
            InputError: the earlier call had other values.
        """
        self.identity |= entries
        if self.earlier is not None:
            self.earlier.check(entries)

    @property
    def save_state(self) -> SaveState | None:
        """The function that writes a state, of tensors and plain data."""
        if self.write is None:
            return None
        save, (kept_tensors, kept_data) = self.write(self.identity, self.seed), self.kept
        return lambda tensors, data: save(kept_tensors | tensors, kept_data | data)

    @property
    def save_end(self) -> SaveState | None:
        """The function that writes the state at the end of a run that the time limit ended; None for a part."""
        save = None if self.is_part else self.save_state
        if save is None:
            return None

        def save_end(tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
            save(tensors, data)
            self.has_end = True

        return save_end

    @property
    def resumed(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and plain data of the earlier state, or None."""
        return None if self.earlier is None else (self.earlier.tensors, self.earlier.data)

    # -- a fit within the fit, such as that of a classifier's encoder -------------------------------

    def part(self, name: str) -> Run:
        """Return the run of a fit within this one, whose state is written to the same file.

        It continues the earlier state, which is that of the part alone; what follows the part starts anew.
        """
        part, earlier, self.earlier = Run(self.every, is_part=True), self.earlier, None
        if earlier is not None:
            found, tensors = earlier.data[name], strip_prefix(f"{name}.", earlier.tensors)
            part.earlier = Checkpoint(earlier.path, int(found["seed"]), found["checkpoint"], tensors, found["state"])
        save_state = self.save_state
        if save_state is not None:

            def write(identity: dict[str, str], seed: int) -> SaveState:
                return lambda tensors, data: save_state(
                    with_prefix(name, tensors), {name: {"checkpoint": identity, "seed": seed, "state": data}}
                )

            part.write = write
        return part

    def keep_part(self, name: str, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        """Make the fitted estimator of a part, packed as in a model file, a part of every state from now on."""
        if self.is_written:
            copies = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
            self.kept = with_prefix(name, copies), {name: header}

    def kept_part(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return what `keep_part` made a part of the earlier state; None before the part was fitted."""
        header = {} if self.earlier is None else self.earlier.data.get(name, {})
        if self.earlier is None or "checkpoint" in header:
            return None
        return strip_prefix(f"{name}.", self.earlier.tensors), header


def with_prefix(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names NAME.KEY."""
    return {f"{name}.{key}": value for key, value in tensors.items()}
