"""The state of a run beside the model it will become: written whole while learning, removed on success."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isthmus.errors import InputError
from isthmus.files import read_tensors, write_tensors
from isthmus.learning.rows import Rows

_FREE = ("verbose", "time_limit", "device")
"""Arguments that may differ when a run is resumed: they do not change what is learned, only how long and where."""


@dataclass(frozen=True)
class Checkpoint:
    """A state that was read back: the seed of the run and what `Learning.restore` takes."""

    seed: int
    tensors: dict[str, Tensor]
    data: dict[str, Any]


def path_of(model: str | os.PathLike[str]) -> Path:
    """MODEL.checkpoint beside MODEL.

    Example:
        >>> path_of("digits.isthmus").name
        'digits.isthmus.checkpoint'
    """
    return Path(f"{os.fspath(model)}.checkpoint")


def writer(
    model: str | os.PathLike[str], estimator: Any, rows: Rows
) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    """What the loop calls to have its state written."""
    identity = _identity(estimator, rows)
    seed = estimator.seed_

    def save_state(tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        write_tensors(path_of(model), tensors, {"checkpoint": identity, "seed": seed, "state": data})

    return save_state


def read(model: str | os.PathLike[str], estimator: Any, rows: Rows) -> Checkpoint | None:
    """The state of an earlier run of the same arguments on the same data; None where there is none.

    Raises:
        InputError: the run was started with other arguments or other data, named.
    """
    path = path_of(model)
    if not path.exists():
        return None
    tensors, header = read_tensors(path)
    then, now = header.get("checkpoint"), _identity(estimator, rows)
    if then is None:
        raise InputError(f"{path} is no checkpoint of a run; remove it to start afresh")
    differing = [name for name in now if then.get(name) != now[name]]
    if differing:
        told = ", ".join(f"{name} ({then.get(name)} then, {now[name]} now)" for name in differing)
        raise InputError(f"{path} is of a run with other arguments: {told}; repeat them, or remove it to start afresh")
    return Checkpoint(int(header["seed"]), tensors, header["state"])


def remove(model: str | os.PathLike[str]) -> None:
    """Take the state away, if there is one."""
    path_of(model).unlink(missing_ok=True)


def _identity(estimator: Any, rows: Rows) -> dict[str, str]:
    """What a run depends on: the kind, its arguments, a digest of rows spread over the data and one of all labels."""
    sample = rows.batch(torch.arange(min(len(rows), 256)) * len(rows) // min(len(rows), 256)).x
    digest = hashlib.sha256(sample.numpy().tobytes()).hexdigest()[:16]
    arguments = {k: repr(v) for k, v in estimator.get_params(deep=False).items() if k not in _FREE}
    labels = getattr(estimator, "_y", None)  # of a fit that looks at them
    told = {} if labels is None else {"labels": hashlib.sha256("\n".join(map(str, labels)).encode()).hexdigest()[:16]}
    return {"kind": estimator.kind, **arguments, "rows": str(len(rows)), "data": digest, **told}
