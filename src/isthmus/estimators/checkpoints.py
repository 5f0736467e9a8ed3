"""The state of a run beside the model it will become: written whole while learning, removed on success."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from isthmus.errors import InputError
from isthmus.files import read_tensors, write_tensors
from isthmus.learning.rows import Rows, evenly_spaced

_RESUMABLE_ARGUMENTS = ("verbose", "time_limit", "device")
"""Arguments that may differ when a run is resumed: they do not change what is learned, only how long and where."""


@dataclass(frozen=True)
class Checkpoint:
    """A state that was read back: the seed of the run, what it looked at, and what `Learning.restore` takes."""

    path: Path
    seed: int
    validation: str
    tensors: dict[str, Tensor]
    data: dict[str, Any]

    def check_validation(self, validation_rows: Rows | None) -> None:
        """Refuse to go on while looking at other rows: when to stop and what to keep would be judged by two measures.

        They are known only once the rows are split, which the seed of the run does.

        Raises:
            InputError: the run was started with other ones.
        """
        now = _validation_digest(validation_rows)
        if self.validation not in (now, ""):  # a state that was written before they were noted has none
            raise _mismatch_error(self.path, [("validation", self.validation, now)])


def path_of(model: str | os.PathLike[str]) -> Path:
    """MODEL.checkpoint beside MODEL.

    Example:
        >>> path_of("digits.isthmus").name
        'digits.isthmus.checkpoint'
    """
    return Path(f"{os.fspath(model)}.checkpoint")


def writer(
    model: str | os.PathLike[str], estimator: Any, rows: Rows, validation_rows: Rows | None
) -> Callable[[dict[str, Tensor], dict[str, Any]], None]:
    """What the loop calls to have its state written; of the rows, some may be held out."""
    identity = {**_identity(estimator, rows), "validation": _validation_digest(validation_rows)}
    seed = estimator.seed_

    def save_state(tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
        write_tensors(path_of(model), tensors, {"checkpoint": identity, "seed": seed, "state": data})

    return save_state


def read(model: str | os.PathLike[str], estimator: Any, rows: Rows) -> Checkpoint | None:
    """The state of an earlier run of the same arguments on the same data; None where there is none.

    Whether it looked at the same rows, `Checkpoint.check_validation` tells.

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
    differing = [(name, then.get(name), now[name]) for name in now if then.get(name) != now[name]]
    if differing:
        raise _mismatch_error(path, differing)
    return Checkpoint(path, int(header["seed"]), then.get("validation", ""), tensors, header["state"])


def remove(model: str | os.PathLike[str]) -> None:
    """Take the state away, if there is one."""
    path_of(model).unlink(missing_ok=True)


def _mismatch_error(path: Path, differing: list[tuple[str, str | None, str]]) -> InputError:
    """What is said of the state of another run, by name what was then and what is now."""
    details = ", ".join(f"{name} ({then} then, {now} now)" for name, then, now in differing)
    return InputError(f"{path} is of a run with other arguments: {details}; repeat them, or remove it to start afresh")


def _identity(estimator: Any, rows: Rows) -> dict[str, str]:
    """What a run depends on: the kind, its arguments, a digest of rows spread over the data and one of all labels."""
    arguments = {k: repr(v) for k, v in estimator.get_params(deep=False).items() if k not in _RESUMABLE_ARGUMENTS}
    labels = getattr(estimator, "_y", None)  # of a fit that looks at them
    details = (
        {} if labels is None else {"labels": hashlib.sha256("\n".join(map(str, labels)).encode()).hexdigest()[:16]}
    )
    return {"kind": estimator.kind, **arguments, "rows": str(len(rows)), "data": _digest(rows), **details}


def _validation_digest(validation_rows: Rows | None) -> str:
    """What tells rows that are held out from others."""
    return "none" if validation_rows is None else f"{len(validation_rows)} rows {_digest(validation_rows)}"


def _digest(rows: Rows) -> str:
    """Of rows spread over all of them, and of their labels where they have some."""
    sample = rows.batch(evenly_spaced(len(rows), 256))
    parts = [part for part in (sample.x, sample.label) if part is not None]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]
