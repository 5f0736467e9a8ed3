"""The input and the output of the doctor: `FitFacts` and `Finding`, and the measurements that they contain."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.codes import UnitStatistics, unit_statistics

Severity = Literal["note", "warning"]


@dataclass(frozen=True)
class Finding:
    """A finding of the doctor: its name, what was found, what to do, and its severity ("note" or "warning")."""

    name: str
    message: str
    advice: str
    severity: Severity = "warning"

    def to_dict(self) -> dict[str, str]:
        """Return the fields as a dictionary of strings."""
        return asdict(self)


@dataclass(frozen=True)
class ColumnStatistics:
    """Mean, std (divisor n), minimum and maximum of each column of model space over the training rows, (columns,)."""

    mean: Float[np.ndarray, " columns"]
    std: Float[np.ndarray, " columns"]
    minimum: Float[np.ndarray, " columns"]
    maximum: Float[np.ndarray, " columns"]

    @property
    def variance(self) -> float:
        """The variance summed over columns: the squared error per row of the column means as the reconstruction."""
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
class VariationalFacts:
    """Properties of a variational autoencoder on some rows.

    Attributes:
        kl: KL(q(h | x) || p(h)) of each part of the code, nats, averaged over rows, for the standard prior of the
            inference; None for another prior. A unit of a full covariance counts given the units before it.
        gain: nats a row by which the row's own code explains it better than the code of another row.
        at_floor: columns whose learned variance is at its lower bound.
        uncovered: fraction of the samples of the prior that lie in no posterior's 99% region; None for codes of more
            than three units, and for discrete codes.
        part: name of the parts of the code, "unit" or "variable".
    """

    kl: Float[np.ndarray, " parts"] | None
    gain: float
    at_floor: Int[np.ndarray, " columns"]
    uncovered: float | None
    part: str = "unit"


@dataclass(frozen=True)
class FitFacts:
    """The properties of a fitted model that the rules of the doctor use.

    Errors are squared errors per row, summed over columns, in model space. The record is flat, since each rule reads a
    few of the facts, and `diagnose_fit` alone constructs it.

    Attributes:
        epochs: the epochs of the history, each with "train", "held_out" (or None), "terms", "learning_rate".
        stopped: why training ended: "max_epochs", "max_steps", "patience", "time_limit", "interrupted" or "nan".
        columns: statistics of the columns over all training rows.
        n_rows, n_columns, code_size, n_parameters: sizes; rows are training rows, columns are those of model space.
        scaling: the argument `scaling` of the estimator.
        likelihood: the name of p_dec.
        rectified: True if units of the code can be exactly zero and then have no gradient.
        penalised: True if the objective contains a corruption or a penalty on the code.
        best_epoch: index of the epoch whose weights were kept.
        nan_epoch: index of the epoch in which the loss became NaN or infinite, if it did.
        codes: codes of some training rows, (rows, code_size).
        train_error: the error of some training rows.
        validation_error: the error of validation rows, if there are any.
        pca_error: the error of a PCA of the same size on validation rows, or on training rows if there are none.
        shuffled_error: the error of training rows with shuffled columns (`shuffled_columns`).
        column_names: names of the columns of model space; without them messages show indices.
        user_columns: the columns of the user's table by name, each with its columns of model space; None if they are
            the same.
        column_r2: R^2 by name of the user's columns, or of the channels of series, on validation rows if there are
            enough, else on training rows; empty for images, sparse rows and texts.
        r2_rows: the rows of `column_r2`, "validation" or "training".
        kind: the kind of autoencoder.
        arguments: the names of the arguments of the estimator; only these are advised.
        images: True if rows are images.
        epochs_argument: the argument that sets the number of epochs of the last phase.
        unreached: names of the phases that training ended before.
        cut: True if the time limit ended the last phase before its last planned step.
        variational: facts of a variational autoencoder; None for other kinds.
        has_bits: True if codes are bits.
        n_maps: number of feature maps whose positions are the units of the code; None for other codes.
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
    user_columns: Mapping[str, Sequence[int]] | None = None
    column_r2: Mapping[str, float] = field(default_factory=dict)
    r2_rows: str = "training"
    kind: str = "deep"
    arguments: Collection[str] = frozenset()
    images: bool = False
    epochs_argument: str = "max_epochs"
    unreached: Sequence[str] = ()
    cut: bool = False
    variational: VariationalFacts | None = None
    has_bits: bool = False
    n_maps: int | None = None

    @property
    def monitored_loss(self) -> list[float]:
        """The loss of the validation rows after each epoch, or of the training rows if there are none."""
        return [float(e["train"] if e["held_out"] is None else e["held_out"]) for e in self.epochs]

    @property
    def monitored_rows(self) -> str:
        """The rows of `monitored_loss`: "validation" or "training"."""
        return "validation" if self.epochs and self.epochs[-1]["held_out"] is not None else "training"

    @property
    def n_varying(self) -> int:
        """The number of columns of model space that vary: a linear code with as many units can copy the rows."""
        return int(np.sum(self.columns.minimum < self.columns.maximum))

    @property
    def column_noun(self) -> str:
        """The word for a column of model space: "model input" if the columns of the user's table are others."""
        expanded = self.user_columns is not None and len(self.user_columns) != self.n_columns
        return "model input" if expanded else "column"

    @property
    def units(self) -> UnitStatistics | None:
        """Statistics of the units of the code; None if there are no codes or they are not finite."""
        if self.codes is None or not self.codes.numel() or not bool(self.codes.isfinite().all()):
            return None
        return unit_statistics(self.codes)


def column_statistics(blocks: Iterable[Float[Tensor, "block columns"]]) -> ColumnStatistics:
    """Compute mean, standard deviation, minimum and maximum of each column in one pass over blocks of rows.

    Missing entries are NaN and are excluded; a column that was never observed counts as constant 0.

    Raises:
        InputError: there are no rows.

    Example:
        >>> scales = column_statistics([torch.tensor([[1.0, 4.0]]), torch.tensor([[3.0, float("nan")]])])
        >>> scales.mean.tolist(), scales.std.tolist()
        ([2.0, 4.0], [1.0, 0.0])
    """
    sums = ColumnSums()
    for block in blocks:
        sums.add(block)
    return sums.statistics()


class ColumnSums:
    """Sums over blocks of rows from which `column_statistics` are computed."""

    def __init__(self) -> None:
        self._n: Any = 0.0
        self._low: Any = math.inf
        self._high: Any = -math.inf
        self._total: Any = 0.0
        self._squares: Any = 0.0
        self._shift: np.ndarray | None = None

    def add(self, block: Float[Tensor, "block columns"]) -> None:
        """Add the rows of a block; missing entries are NaN."""
        if not len(block):
            return
        x = block.detach().cpu().numpy().astype(np.float64)
        self._low = np.fmin(self._low, np.fmin.reduce(x, 0))
        self._high = np.fmax(self._high, np.fmax.reduce(x, 0))
        if self._shift is None:
            self._shift = np.where(np.isnan(x[0]), 0.0, x[0])
        x -= self._shift  # subtract a row first: far from zero the sums of squares would lose the variance
        missing = np.isnan(x)
        x[missing] = 0.0
        self._n = self._n + len(x) - missing.sum(0)
        self._total, self._squares = self._total + x.sum(0), self._squares + np.einsum("ij,ij->j", x, x)

    def statistics(self) -> ColumnStatistics:
        """Return the statistics of all rows that were added.

        Raises:
            InputError: there are no rows.
        """
        if self._shift is None:
            raise InputError("there are no rows to compute column statistics from; pass at least one")
        n, seen = self._n, np.maximum(self._n, 1)
        variance = np.maximum(self._squares / seen - np.square(self._total / seen), 0.0)
        smallest, largest = np.where(n > 0, self._low, 0.0), np.where(n > 0, self._high, 0.0)
        std = np.where(smallest == largest, 0.0, np.sqrt(variance))
        return ColumnStatistics(self._shift + self._total / seen, std, smallest, largest)


def shuffled_columns(x: Float[Tensor, "batch columns"], generator: torch.Generator) -> Float[Tensor, "batch columns"]:
    """Shuffle each column independently: the values stay, the dependence between columns is destroyed."""
    order = torch.rand(x.shape, generator=generator).argsort(0).to(x.device)
    return x.gather(0, order)
