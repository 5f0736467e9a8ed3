"""Codes and errors of the rows, by row and by column, computed in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from isthmus.data.preprocessing import Preprocessor, n_rows_of
from isthmus.errors import InputError, pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.records import ModelOutput
from isthmus.evaluation.residuals import count_observed, squared_residuals

ROWS_PER_GROUP = 10
"""Number of rows in each of the groups best, typical and worst."""

ROWS_AT_ONCE = 1024
"""Number of rows that are read in one block."""


@dataclass(frozen=True)
class ReportData:
    """Codes and errors of the rows in model space; missing entries are excluded.

    Attributes:
        codes: h, (rows, code_size).
        squared_error: ||x - r||^2, (rows,).
        pca_squared_error: the squared error of a PCA of the same size, (rows,).
        nll: -log p_dec(x | h), (rows,), nats.
        column_error: the mean of (x - r)^2 by column over the rows in which it was observed, (columns,).
        pca_column_error: the mean squared error by column of that PCA, (columns,).
        column_mean, column_variance: of x, (columns,).
    """

    codes: Float[np.ndarray, "rows code_size"]
    squared_error: Float[np.ndarray, " rows"]
    pca_squared_error: Float[np.ndarray, " rows"]
    nll: Float[np.ndarray, " rows"]
    column_error: Float[np.ndarray, " columns"]
    pca_column_error: Float[np.ndarray, " columns"]
    column_mean: Float[np.ndarray, " columns"]
    column_variance: Float[np.ndarray, " columns"]

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.codes)


def collect_report_data(model: BaseAutoencoder, X: object) -> ReportData:
    """Read all rows in one pass.

    Raises:
        InputError: there are no rows, or the model cannot read them.
    """
    if n_rows_of(X) == 0:
        raise InputError("there are no rows to report on; pass at least one")
    pca = model.baseline_
    by_row: list[list[np.ndarray]] = [[], [], [], []]
    by_column, observed = np.zeros((4, model.preprocessing_.n_columns)), np.zeros(())
    for output in model.read(X):
        x, mask = output.x, output.mask
        residual = output.squared_residuals.double()
        pca_residual = squared_residuals(x, pca.decode(pca.encode(x, mask)), mask).double()
        rows = output.code, residual.sum(1), pca_residual.sum(1), output.nll
        for parts, values in zip(by_row, rows, strict=True):
            parts.append(values.numpy())
        centred = (x - pca.mean).double()
        centred = centred if mask is None else centred.masked_fill(mask == 0, 0.0)
        sums = residual.sum(0), pca_residual.sum(0), centred.sum(0), centred.square().sum(0)
        by_column += torch.stack(sums).numpy()
        observed = observed + np.asarray(count_observed(x, mask))
    codes, error, pca_error, nll = (np.concatenate(parts) for parts in by_row)
    column_error, pca_column_error, offset, square = by_column / np.maximum(observed, 1)
    return ReportData(
        codes, error, pca_error, nll, column_error, pca_column_error,
        column_mean=pca.mean.double().numpy() + offset,
        column_variance=np.maximum(square - offset**2, 0),
    )  # fmt: skip


def best_typical_worst(
    error: Float[np.ndarray, " rows"], n: int = ROWS_PER_GROUP
) -> dict[str, Int[np.ndarray, " picked"]]:
    """Return the indices of the rows with the smallest errors, with errors around the median, and with the largest.

    No row is in two groups, and empty groups are omitted.

    Example:
        >>> picked = best_typical_worst(np.array([4.0, 1.0, 3.0, 2.0, 5.0]), n=1)
        >>> {name: rows.tolist() for name, rows in picked.items()}
        {'best': [1], 'typical': [2], 'worst': [4]}
    """
    order = np.argsort(error, kind="stable")
    n = min(n, -(-len(order) // 3))
    best, rest = order[:n], order[n:]
    worst, middle = rest[len(rest) - n :][::-1], rest[: max(0, len(rest) - n)]
    start = (len(middle) - min(n, len(middle))) // 2
    groups = {"best": best, "typical": middle[start : start + n], "worst": worst}
    return {name: rows for name, rows in groups.items() if len(rows)}


def sample(n_rows: int, most: int, random_state: int) -> Int[np.ndarray, " picked"]:
    """Return the indices of all rows, or of a random sample of `most` rows, in increasing order."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(random_state).choice(n_rows, most, replace=False))


def take(X: object, rows: Int[np.ndarray, " picked"]) -> object:
    """Select rows of a table, an array, a sparse matrix or texts."""
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]  # type: ignore[index]


def read_rows(
    model: BaseAutoencoder, X: object, rows: Int[np.ndarray, " picked"]
) -> Iterator[tuple[object, ModelOutput]]:
    """Yield blocks of the picked rows, or of their targets, together with the outputs of the model."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        raw = take(X, rows[start : start + ROWS_AT_ONCE])
        done = 0
        for output in model.read(raw):
            n = len(output.x)
            yield model.preprocessing_.compared(take(raw, np.arange(done, done + n))), output
            done += n


@dataclass(frozen=True)
class Column:
    """A column of the user, and its columns in model space."""

    name: str
    members: list[int]


def user_columns(preprocessing: Preprocessor) -> list[Column]:
    """Return the columns of the user; a category is one column, although it has several in model space.

    The columns of series are their channels.
    """
    if preprocessing.is_series:
        steps = preprocessing.row_shape[0]
        return [Column(name, list(range(c * steps, (c + 1) * steps))) for c, name in enumerate(preprocessing.channels)]
    if not preprocessing.table:
        return [Column(str(name), [i]) for i, name in enumerate(preprocessing.columns)]
    columns, start = [], 0
    for column in preprocessing.table:
        columns.append(Column(column.name, list(range(start, start + column.width))))
        start += column.width
    return columns


def count_columns(preprocessing: Preprocessor) -> str:
    """Describe the number of the user's columns, pixels or terms, and of model inputs if it differs.

    The result is, for example, "6 columns (12 model inputs)".
    """
    if preprocessing.image_shape is not None:
        counted = pluralize(preprocessing.image_shape[1] * preprocessing.image_shape[2], "pixel")
    elif preprocessing.is_series:
        steps, channels = preprocessing.row_shape
        counted = f"{pluralize(steps, 'step')} of {pluralize(channels, 'channel')}"
    else:
        noun = "term" if preprocessing.source == "text" else "column"
        counted = pluralize(len(user_columns(preprocessing)), noun)
    inputs = pluralize(preprocessing.n_columns, "model input")
    return counted if counted.split()[0] == inputs.split()[0] else f"{counted} ({inputs})"
