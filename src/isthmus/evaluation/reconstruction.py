"""Reconstruction error of fitted models, compared with PCA of the same size."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.baseline import PrincipalComponents
from isthmus.evaluation.codes import Labels, knn_accuracy, label_array, linear_probe_accuracy, probe_rows, rare_classes
from isthmus.evaluation.likelihood import has_densities
from isthmus.evaluation.likelihood_reports import DEFAULT_DRAWS, Density, likelihood_of
from isthmus.evaluation.residuals import count_observed, is_zero_error, squared_residuals
from isthmus.parts.layers import is_count


class ModelOutput(Protocol):
    """The output of a model for a block of rows, in model space."""

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
        """1 for an observed entry, 0 for a missing one; None if all were observed."""


class Model(Protocol):
    """The interface of a fitted estimator that `evaluate` needs."""

    @property
    def kind(self) -> str:
        """The kind of autoencoder."""

    code_size_: int
    baseline_: PrincipalComponents
    coder_: Any

    def read(self, X: Any) -> Iterable[ModelOutput]:
        """Yield the outputs for the rows of `X`, block by block."""


def _zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


@dataclass
class _RunningSums:
    """Sums over the rows in float64, and the codes and columns of the rows that the probes use.

    The sums contain observed entries only. The mean of a column is over the rows in which it was observed.
    """

    n_rows: int = 0
    pca_squared_error: float = 0.0
    nll: float = 0.0
    by_column: Tensor = field(default_factory=_zero)
    observed: Tensor = field(default_factory=_zero)
    shift: Tensor = field(default_factory=_zero)
    about_shift: Tensor = field(default_factory=_zero)
    squares_about_shift: Tensor = field(default_factory=_zero)
    active: Tensor = field(default_factory=_zero)
    codes: list[Tensor] = field(default_factory=list)
    raw: list[Tensor] = field(default_factory=list)

    def add(self, output: ModelOutput, baseline: PrincipalComponents) -> None:
        """Add a block."""
        x, mask = output.x.double(), output.mask
        if self.n_rows == 0:
            # Subtract a row near the mean first: the difference of two large sums of squares would lose precision.
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
        """The sum over rows of ||x - r||^2."""
        return float(self.by_column.sum())

    @property
    def squares_about_mean(self) -> float:
        """The sum over rows of ||x - mean of these rows||^2."""
        about = self.squares_about_shift - self.about_shift.square() / self.observed.clamp(min=1)
        return float(about.clamp(min=0).sum())

    @property
    def squares(self) -> float:
        """The sum over rows of ||x||^2."""
        offset = self.shift * (2 * self.about_shift + self.observed * self.shift)
        return float((self.squares_about_shift + offset).sum())

    @property
    def r2(self) -> float:
        """1 - squared error / squares about the mean; 1 or 0 if the rows do not vary, as in scikit-learn."""
        if self.squares_about_mean == 0:
            return 1.0 if self.squared_error == 0 else 0.0
        return 1 - self.squared_error / self.squares_about_mean


def evaluate(
    model: Model, X: Any, labels: Labels | None = None, random_state: int = 0, n_draws: int = DEFAULT_DRAWS
) -> dict[str, Any]:
    r"""Evaluate a fitted model on the rows `X`, in one pass, and its density in further ones.

        squared_error_per_row = 1/n sum ||x - r||^2        r2 = 1 - sum ||x - r||^2 / sum ||x - m||^2

    All values are in model space: errors are in squared model units, summed over columns. m is the vector of column
    means of the rows `X`: r2 is 0 if the reconstruction is this mean, and negative if it is worse. Missing entries
    (`missing="mask"`) are excluded from all sums, from the PCA error and from m.

    Args:
        model: a fitted estimator: `read`, `baseline_`, `code_size_`, `coder_`, `kind`.
        X: rows in any form that the model accepts.
        labels: the class of each row. With labels, simple classifiers are fitted to the codes and, for comparison, to
            the columns of model space ("raw"); see `linear_probe_accuracy`.
        random_state: seed of the folds and of the sample of rows for the classifiers.
        n_draws: number of samples of the code per row for the log-likelihood of a model whose inference is a
            distribution; 0 computes none. Other densities do not need it.

    Returns:
        A JSON-serialisable dictionary: rows, columns (of model space), kind, likelihood, code_size,
        squared_error_per_row, r2, nll_per_row (nats), pca_squared_error_per_row (of a PCA of the training rows with
        code_size components), below_pca (see `compare_with_pca`), zero_share (the fraction of the entries of all codes
        that are exactly zero), dead_units (the number of units that are zero in every row), seconds, notes (a list of
        sentences). A density adds log_p_per_row (nats), score_kind ("exact", "estimate", "bound" or "unnormalised") and
        log_likelihood, the values of its `LikelihoodReport`. A code with prefixes adds prefixes, the values of the
        `PrefixQuality` of each prefix and of the whole code.
        Labels add classes, probe_rows, linear_probe_accuracy, linear_probe_accuracy_raw, knn_accuracy and
        knn_accuracy_raw.

    Raises:
        InputError: there are no rows; labels have another length, are missing or cannot be cross-validated; n_draws is
            not a whole number of at least 0.

    Source: Deep Learning, section 14.4 (the nll) and 14.1 (principal components as the linear case).
    """
    began = time.perf_counter()
    if not is_count(n_draws, 0):
        raise InputError(f"n_draws={n_draws!r}: it must be a whole number of at least 0; 0 computes no log-likelihood")
    sums, probed = _read(model, X, labels, random_state)
    results = _errors(model, sums) | {
        "columns": len(sums.by_column),
        "kind": model.kind,
        "likelihood": str(model.coder_.likelihood.name),
        "r2": sums.r2,
        "nll_per_row": sums.nll / sums.n_rows,
        "zero_share": 1 - float(sums.active.mean()) / sums.n_rows,
        "dead_units": int((sums.active == 0).sum()),
        "notes": [],
    }
    if n_draws > 0 if has_densities(model.coder_) else isinstance(model, Density):
        report = likelihood_of(model, X, max(n_draws, 1))
        results |= {"log_p_per_row": report.mean, "score_kind": report.kind, "log_likelihood": report.as_dict()}
    if (prefix_quality := getattr(model, "prefix_quality", None)) is not None:
        results["prefixes"] = [part.to_dict() for part in prefix_quality(X)]
    if labels is not None:
        results |= _probes(torch.cat(sums.codes), torch.cat(sums.raw), label_array(labels)[probed], random_state)
    return results | {"seconds": time.perf_counter() - began}


def compare_with_pca(model: Model, X: Any) -> dict[str, Any]:
    """Compare the squared error of a model with that of a PCA of the same size and the same training rows.

    Args:
        model: a fitted estimator, see `evaluate`.
        X: rows in any form that the model accepts.

    Returns:
        A JSON-serialisable dictionary: rows, code_size, squared_error_per_row, pca_squared_error_per_row (squared model
        units), and below_pca = 1 - model error / PCA error. below_pca is negative if the model is worse than PCA, and
        None if a PCA copies the rows: its error is zero up to rounding, or the code has as many units as the rows have
        columns.

    Raises:
        InputError: there are no rows.
    """
    return _errors(model, _read(model, X, None, 0)[0])


def squared_error_by_column(model: Model, X: Any) -> Float[np.ndarray, " columns"]:
    """Compute the mean of (x - r)^2 of each column of model space over the rows of `X` in which it was observed.

    Args:
        model: a fitted estimator, see `evaluate`.
        X: rows in any form that the model accepts.

    Returns:
        (columns,), float64, in squared model units; 0 for a column that was never observed. If no entry is missing, the
        sum is `squared_error_per_row`.

    Raises:
        InputError: there are no rows.
    """
    sums, _ = _read(model, X, None, 0)
    return (sums.by_column / sums.observed.clamp(min=1)).numpy()


def _errors(model: Model, sums: _RunningSums) -> dict[str, Any]:
    own, linear = sums.squared_error / sums.n_rows, sums.pca_squared_error / sums.n_rows
    copies = model.code_size_ >= len(sums.by_column) or is_zero_error(sums.pca_squared_error, sums.squares)
    return {
        "rows": sums.n_rows,
        "code_size": int(model.code_size_),
        "squared_error_per_row": own,
        "pca_squared_error_per_row": linear,
        "below_pca": None if copies else 1 - own / linear,
    }


def _read(
    model: Model, X: Any, labels: Labels | None, random_state: int
) -> tuple[_RunningSums, Int[np.ndarray, " probed"]]:
    """Read the rows in one pass; with labels, keep the codes and columns of the rows that the probes use."""
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
        raise InputError("there are no rows to evaluate on; pass at least one")
    if labels is not None and len(labels) != sums.n_rows:
        raise InputError(
            f"labels: {len(labels)} labels for {sums.n_rows} rows; pass one label per row, in the same order"
        )
    return sums, probed


def _probes(
    codes: Float[Tensor, "probed code_size"], raw: Float[Tensor, "probed columns"], labels: np.ndarray, seed: int
) -> dict[str, Any]:
    """Compute the accuracies of the classifiers on the codes and, in the same folds, on the columns."""
    rare = rare_classes(labels)
    notes = [f"excluded from the probes, which need 5 rows per class: {', '.join(rare)}"] if rare else []
    return {
        "classes": len(set(labels.tolist())),
        "probe_rows": len(labels),
        "linear_probe_accuracy": linear_probe_accuracy(codes, labels, random_state=seed),
        "linear_probe_accuracy_raw": linear_probe_accuracy(raw, labels, random_state=seed),
        "knn_accuracy": knn_accuracy(codes, labels, random_state=seed),
        "knn_accuracy_raw": knn_accuracy(raw, labels, random_state=seed),
        "notes": notes,
    }
