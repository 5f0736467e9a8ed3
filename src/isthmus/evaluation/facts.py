"""What the doctor looks at, and what he finds: plain records, and the two measurements that they need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.codes import UnitStatistics, unit_statistics

Severity = Literal["note", "warning"]

_ONE_LAYER = frozenset({"linear", "recirculation", "rbm"})

UNSUPPORTED_ARGUMENTS: Mapping[str, frozenset[str]] = {
    "hidden_sizes": _ONE_LAYER,
    "dropout": _ONE_LAYER | {"stacked", "recurrent", "dbn", "dbm"},
}
"""Arguments that are advised, and the kinds that do not take them."""


@dataclass(frozen=True)
class Finding:
    """What the doctor found: its name, what is so, what to do, and whether it is a "note" or a "warning"."""

    name: str
    message: str
    advice: str
    severity: Severity = "warning"

    def to_dict(self) -> dict[str, str]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class ColumnStatistics:
    """Of each column of model space over the training rows, (columns,): mean, std (divisor n), smallest, largest."""

    mean: Float[np.ndarray, " columns"]
    std: Float[np.ndarray, " columns"]
    minimum: Float[np.ndarray, " columns"]
    maximum: Float[np.ndarray, " columns"]

    @property
    def variance(self) -> float:
        """The variance summed over columns: the squared error per row of answering the column means."""
        return float(np.square(self.std).sum())

    @property
    def squares(self) -> float:
        """The mean of ||x||^2."""
        return self.variance + float(np.square(self.mean).sum())

    @property
    def largest(self) -> Float[np.ndarray, " columns"]:
        """The largest magnitude of each column."""
        return np.maximum(np.abs(self.minimum), np.abs(self.maximum))


@dataclass(frozen=True)
class FitFacts:
    """What the doctor looks at. Errors are squared, per row, summed over columns, in model space.

    Attributes:
        epochs: of the history: each with "train", "held_out" (or None), "terms", "learning_rate".
        stopped: why learning ended: "max_epochs", "patience", "time_limit", "interrupted" or "nan".
        columns: the scales of the columns over all training rows.
        n_rows, n_columns, code_size, n_parameters: sizes; rows are training rows.
        scaling: as the user chose it.
        likelihood: the name of p_dec.
        rectified: whether units of the code can be exactly zero, and then have no gradient.
        penalised: whether more than the reconstruction was asked for: a corruption, or a penalty on the code.
        best_epoch: number from 0 of the epoch whose weights were kept.
        nan_epoch: number from 0 of the epoch in which the loss was lost, if it was.
        codes: codes of some training rows, (rows, code_size).
        train_error: over some training rows.
        validation_error: over held-out rows, if there are any.
        pca_error: that of principal components of the same number, over held-out rows if any, else training rows.
        shuffled_error: over training rows whose columns were shuffled apart (`shuffled_columns`).
        column_names: for the messages; columns are told by number without.
        kind: of autoencoder.
        images: whether rows are images.
        epochs_argument: what plans the epochs of the phase that ended last.
        n_phases: of learning, one after the other.
    """

    epochs: Sequence[Mapping[str, Any]]
    stopped: str
    columns: ColumnStatistics
    n_rows: int
    n_columns: int
    code_size: int
    n_parameters: int
    scaling: str = "auto"
    likelihood: str = "gaussian"
    rectified: bool = False
    penalised: bool = False
    best_epoch: int | None = None
    nan_epoch: int | None = None
    codes: Float[Tensor, "rows code_size"] | None = None
    train_error: float | None = None
    validation_error: float | None = None
    pca_error: float | None = None
    shuffled_error: float | None = None
    column_names: Sequence[str] | None = None
    kind: str = "deep"
    images: bool = False
    epochs_argument: str = "max_epochs"
    n_phases: int = 1

    @property
    def monitored_loss(self) -> list[float]:
        """The loss that was watched after each epoch: of held-out rows if any, else of training rows."""
        return [float(e["train"] if e["held_out"] is None else e["held_out"]) for e in self.epochs]

    @property
    def monitored_rows(self) -> str:
        """Whose loss was watched."""
        return "held-out" if self.epochs and self.epochs[-1]["held_out"] is not None else "training"

    def has_argument(self, argument: str) -> bool:
        """Whether this kind has an argument that is advised."""
        return self.kind not in UNSUPPORTED_ARGUMENTS[argument]

    @property
    def n_varying(self) -> int:
        """Columns that vary: a linear code of as many units can copy the rows."""
        return int(np.sum(self.columns.minimum < self.columns.maximum))

    @property
    def units(self) -> UnitStatistics | None:
        """How the units of the code behave; None where no finite codes were looked at."""
        seen = self.codes is not None and self.codes.numel() and bool(self.codes.isfinite().all())
        return unit_statistics(self.codes) if seen and self.codes is not None else None


def column_statistics(blocks: Iterable[Float[Tensor, "block columns"]]) -> ColumnStatistics:
    """Mean, standard deviation, smallest and largest of each column, in one pass over blocks of rows.

    An entry that is missing is NaN, and left out; a column that was never observed is told as constant at 0.

    Raises:
        InputError: no rows.

    Example:
        >>> scales = column_statistics([torch.tensor([[1.0, 4.0]]), torch.tensor([[3.0, float("nan")]])])
        >>> scales.mean.tolist(), scales.std.tolist()
        ([2.0, 4.0], [1.0, 0.0])
    """
    n, shift, total, squares, low, high = 0.0, None, 0.0, 0.0, math.inf, -math.inf
    for block in blocks:
        if not len(block):
            continue
        x = block.detach().cpu().numpy().astype(np.float64)
        low, high = np.fmin(low, np.fmin.reduce(x, 0)), np.fmax(high, np.fmax.reduce(x, 0))
        shift = np.where(np.isnan(x[0]), 0.0, x[0]) if shift is None else shift
        x -= shift  # around a row, not around zero: far from zero the squares would lose the spread
        missing = np.isnan(x)
        x[missing] = 0.0
        n, total, squares = n + len(x) - missing.sum(0), total + x.sum(0), squares + np.square(x).sum(0)
    if shift is None:
        raise InputError("there are no rows to take the scales of columns from; give at least one")
    seen = np.maximum(n, 1)
    variance = np.maximum(squares / seen - np.square(total / seen), 0.0)
    smallest, largest = np.where(n > 0, low, 0.0), np.where(n > 0, high, 0.0)
    std = np.where(smallest == largest, 0.0, np.sqrt(variance))
    return ColumnStatistics(shift + total / seen, std, smallest, largest)


def shuffled_columns(x: Float[Tensor, "batch columns"], generator: torch.Generator) -> Float[Tensor, "batch columns"]:
    """Each column in an order of its own: rows with the data's values and none of what goes together in them."""
    order = torch.rand(x.shape, generator=generator).argsort(0).to(x.device)
    return x.gather(0, order)
