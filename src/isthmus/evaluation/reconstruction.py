"""How much of the rows survives the code, beside what principal components of the same size keep."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.baseline import PrincipalComponents
from isthmus.evaluation.codes import Labels, knn_accuracy, label_array, linear_probe_accuracy, probe_rows, rare_classes
from isthmus.evaluation.residuals import count_observed, is_zero_error, squared_residuals


class ModelOutput(Protocol):
    """A block of rows as a model sees them, in model space."""

    @property
    def x(self) -> Float[Tensor, "block columns"]:
        """The rows."""

    @property
    def code(self) -> Float[Tensor, "block code_size"]:
        """Their codes."""

    @property
    def reconstruction(self) -> Float[Tensor, "block columns"]:
        """The mean of p_dec(x | h)."""

    @property
    def nll(self) -> Float[Tensor, " block"]:
        """-log p_dec(x | h), nats."""

    @property
    def mask(self) -> Float[Tensor, "block columns"] | None:
        """1 where an entry was observed; None where all were."""


class Model(Protocol):
    """What is asked of a fitted estimator."""

    @property
    def kind(self) -> str:
        """Which kind of autoencoder it is."""

    code_size_: int
    baseline_: PrincipalComponents
    objective_: Any

    def read(self, X: Any) -> Iterable[ModelOutput]:
        """The rows of `X`, block by block."""


@runtime_checkable
class Density(Protocol):
    """What is asked of an estimator that is a density."""

    score_kind_: str

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """log p(x) by row, in the sense of `score_kind_`."""


def _nothing() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


@dataclass
class _RunningSums:
    """What one pass over the rows adds up, in float64; and what the probes need of the rows that they look at.

    Sums over rows are of observed entries alone, and each column's mean is over the rows in which it was observed.
    """

    n_rows: int = 0
    pca_squared_error: float = 0.0
    nll: float = 0.0
    by_column: Tensor = field(default_factory=_nothing)
    observed: Tensor = field(default_factory=_nothing)
    shift: Tensor = field(default_factory=_nothing)
    about_shift: Tensor = field(default_factory=_nothing)
    squares_about_shift: Tensor = field(default_factory=_nothing)
    active: Tensor = field(default_factory=_nothing)
    codes: list[Tensor] = field(default_factory=list)
    raw: list[Tensor] = field(default_factory=list)

    def add(self, output: ModelOutput, baseline: PrincipalComponents) -> None:
        """Add a block."""
        x, mask = output.x.double(), output.mask
        if self.n_rows == 0:
            # Squares about a row near the mean, not about zero: the difference of two large sums would cancel.
            self.shift = x.mean(0)
        shifted = x - self.shift if mask is None else (x - self.shift).masked_fill(mask == 0, 0.0)
        self.n_rows += len(x)
        self.by_column = self.by_column + squared_residuals(x, output.reconstruction.double(), mask).sum(0)
        self.observed = self.observed + count_observed(x, mask)
        self.pca_squared_error += float(baseline.squared_error(output.x, mask).sum(dtype=torch.float64))
        self.nll += float(output.nll.sum(dtype=torch.float64))
        self.active = self.active + (output.code != 0).double().sum(0)
        self.about_shift = self.about_shift + shifted.sum(0)
        self.squares_about_shift = self.squares_about_shift + shifted.square().sum(0)

    @property
    def squared_error(self) -> float:
        """sum over rows of ||x - r||^2."""
        return float(self.by_column.sum())

    @property
    def squares_about_mean(self) -> float:
        """sum over rows of ||x - mean of these rows||^2."""
        about = self.squares_about_shift - self.about_shift.square() / self.observed.clamp(min=1)
        return float(about.clamp(min=0).sum())

    @property
    def squares(self) -> float:
        """sum over rows of ||x||^2."""
        offset = self.shift * (2 * self.about_shift + self.observed * self.shift)
        return float((self.squares_about_shift + offset).sum())

    @property
    def r2(self) -> float:
        """1 - squared error / squares about the mean; 1 or 0 where rows do not vary, as scikit-learn has it."""
        if self.squares_about_mean == 0:
            return 1.0 if self.squared_error == 0 else 0.0
        return 1 - self.squared_error / self.squares_about_mean


def evaluate(model: Model, X: Any, labels: Labels | None = None, random_state: int = 0) -> dict[str, Any]:
    r"""Judge a fitted model on rows, in one pass over them.

        squared_error_per_row = 1/n sum ||x - r||^2        r2 = 1 - sum ||x - r||^2 / sum ||x - m||^2

    Everything is in model space: errors are in model units squared, summed over columns. m is the column means
    of *these* rows, so that an r2 of 0 is what answering their mean gives, and a bad reconstruction is negative.
    An entry that was missing (`missing="mask"`) is in none of these sums, nor in the PCA's, nor in m.

    Args:
        model: a fitted estimator: `read`, `baseline_`, `code_size_`, `objective_`, `kind`.
        X: rows as the model reads them.
        labels: the class of each row; with them the codes are judged by simple classifiers, beside the same
            classifiers on the columns of model space ("raw"). See `linear_probe_accuracy` for which rows.
        random_state: seed of the folds, and of the rows drawn where there are more than the probes look at.

    Returns:
        JSON-able: rows, columns, kind, likelihood, code_size, squared_error_per_row, r2, nll_per_row (nats),
        pca_squared_error_per_row (principal components of the training rows, as many as the code has units),
        below_pca (see `compare_with_pca`),
        zero_share (of the numbers of all codes, those that are exactly zero), dead_units (that were zero in every
        row), seconds, notes (a list of sentences); of a density log_p_per_row (nats) and score_kind, its sense:
        "exact", "estimate", "bound" or "unnormalised"; and with labels classes, probe_rows, linear_probe_accuracy,
        linear_probe_accuracy_raw, knn_accuracy and knn_accuracy_raw.

    Raises:
        InputError: no rows; labels of another length, missing ones, or none that can be cross-validated.

    Source: Deep Learning, section 14.4 (the nll) and 14.1 (principal components as the linear case).
    """
    began = time.perf_counter()
    sums, probed = _read(model, X, labels, random_state)
    results = _errors(model, sums) | {
        "columns": len(sums.by_column),
        "kind": model.kind,
        "likelihood": str(model.objective_.likelihood.name),
        "r2": sums.r2,
        "nll_per_row": sums.nll / sums.n_rows,
        "zero_share": 1 - float(sums.active.mean()) / sums.n_rows,
        "dead_units": int((sums.active == 0).sum()),
        "notes": [],
    }
    if isinstance(model, Density):
        results |= {"log_p_per_row": float(model.score_samples(X).mean()), "score_kind": model.score_kind_}
    if labels is not None:
        results |= _probes(torch.cat(sums.codes), torch.cat(sums.raw), label_array(labels)[probed], random_state)
    return results | {"seconds": time.perf_counter() - began}


def compare_with_pca(model: Model, X: Any) -> dict[str, Any]:
    """The model's squared error beside that of principal components of the same size, learned on the same rows.

    Args:
        model: a fitted estimator, see `evaluate`.
        X: rows as the model reads them.

    Returns:
        JSON-able: rows, code_size, squared_error_per_row, pca_squared_error_per_row (model units squared), and
        below_pca: the share of the PCA's error that the model saves, 1 - model / PCA: negative where it is worse,
        None where the PCA's is zero up to rounding, as there are as many components as directions.

    Raises:
        InputError: no rows.
    """
    return _errors(model, _read(model, X, None, 0)[0])


def squared_error_by_column(model: Model, X: Any) -> Float[np.ndarray, " columns"]:
    """(x - r)^2 of each column of model space, averaged over the rows of `X` in which it was observed.

    Args:
        model: a fitted estimator, see `evaluate`.
        X: rows as the model reads them.

    Returns:
        (columns,), float64, in model units squared; 0 for a column that was never observed. Where nothing is
        missing it sums to `squared_error_per_row`.

    Raises:
        InputError: no rows.
    """
    sums, _ = _read(model, X, None, 0)
    return (sums.by_column / sums.observed.clamp(min=1)).numpy()


def _errors(model: Model, sums: _RunningSums) -> dict[str, Any]:
    own, linear = sums.squared_error / sums.n_rows, sums.pca_squared_error / sums.n_rows
    pca_is_exact = is_zero_error(sums.pca_squared_error, sums.squares)
    return {
        "rows": sums.n_rows,
        "code_size": int(model.code_size_),
        "squared_error_per_row": own,
        "pca_squared_error_per_row": linear,
        "below_pca": None if pca_is_exact else 1 - own / linear,
    }


def _read(
    model: Model, X: Any, labels: Labels | None, random_state: int
) -> tuple[_RunningSums, Int[np.ndarray, " probed"]]:
    """One pass over the rows; with labels the rows that the probes look at are kept."""
    sums, probed = _RunningSums(), np.arange(0)
    for output in (block for block in model.read(X) if len(block.x)):
        if labels is not None and sums.n_rows == 0:
            probed = probe_rows(len(labels), output.x.shape[1], random_state)
        first, last = np.searchsorted(probed, [sums.n_rows, sums.n_rows + len(output.x)])
        kept = torch.from_numpy(probed[first:last] - sums.n_rows)
        sums.codes.append(output.code[kept])
        sums.raw.append(output.x[kept])
        sums.add(output, model.baseline_)
    if sums.n_rows == 0:
        raise InputError("there are no rows to evaluate on; give at least one")
    if labels is not None and len(labels) != sums.n_rows:
        raise InputError(
            f"labels: {len(labels)} labels for {sums.n_rows} rows; give one label a row, in the same order"
        )
    return sums, probed


def _probes(
    codes: Float[Tensor, "probed code_size"], raw: Float[Tensor, "probed columns"], labels: np.ndarray, seed: int
) -> dict[str, Any]:
    """Accuracies from the codes and, in the same folds, from the columns themselves."""
    rare = rare_classes(labels)
    notes = [f"left out of the probes, with too few rows for 5 folds: {', '.join(rare)}"] if rare else []
    return {
        "classes": len(set(labels.tolist())),
        "probe_rows": len(labels),
        "linear_probe_accuracy": linear_probe_accuracy(codes, labels, random_state=seed),
        "linear_probe_accuracy_raw": linear_probe_accuracy(raw, labels, random_state=seed),
        "knn_accuracy": knn_accuracy(codes, labels, random_state=seed),
        "knn_accuracy_raw": knn_accuracy(raw, labels, random_state=seed),
        "notes": notes,
    }
