"""Squared errors of the reconstruction by row, by column of the user, and by cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted

from isthmus.data.preprocessing import n_rows_of
from isthmus.errors import InputError
from isthmus.estimators.identity import as_polars, by_user_column, given_rows, is_polars, user_columns, with_index
from isthmus.estimators.inputs import check_dense_size
from isthmus.estimators.records import ModelOutput

BY = ("row", "column", "cell")


def reconstruction_error(model: Any, X: Any, by: str) -> Any:
    """Return the squared errors of `BaseAutoencoder.reconstruction_error`.

    Args:
        model: an autoencoder.
        X: rows.
        by: one of `BY`.

    Raises:
        InputError: an unknown `by`; cells of sparse rows above `inputs.DENSE_LIMIT`.
    """
    if by not in BY:
        raise InputError(f"by={by!r} is not one of {', '.join(BY)}")
    check_is_fitted(model)
    if by == "row":
        return _by_row(model, X)
    return _by_column(model, X) if by == "column" else _by_cell(model, X)


def _by_row(model: Any, X: Any) -> Any:
    errors = np.concatenate([output.squared_residuals.sum(1).numpy() for output in model.read(X)])
    is_table = hasattr(given_rows(X), "columns")
    return with_index(pd.Series(errors, name="error"), X) if is_table else errors


def _by_column(model: Any, X: Any) -> Any:
    """Return the mean of each column over the rows in which it was observed; NaN where it never was."""
    total, observed = np.zeros(()), np.zeros(())
    for output in model.read(X):
        cells = by_user_column(model.preprocessing_, _cells(output)).astype(np.float64)
        total = total + np.nansum(cells, axis=0)
        observed = observed + (~np.isnan(cells)).sum(0)
    means = np.divide(total, observed, out=np.full(np.shape(total), np.nan), where=observed > 0)
    columns = user_columns(model.preprocessing_, X)
    if columns is None:
        return means
    series = pd.Series(means, index=columns, name="error")
    return as_polars(series.to_frame().T) if is_polars(given_rows(X)) else series


def _by_cell(model: Any, X: Any) -> Any:
    advice = "give fewer rows at a time, or by='column' or by='row'"
    check_dense_size(model.preprocessing_, n_rows_of(given_rows(X)), advice)
    cells = np.concatenate([by_user_column(model.preprocessing_, _cells(output)) for output in model.read(X)])
    columns = user_columns(model.preprocessing_, X)
    return cells if columns is None else with_index(pd.DataFrame(cells, columns=columns), X)


def _cells(output: ModelOutput) -> Float[np.ndarray, "block columns"]:
    """Return (x - r)^2 of each entry, NaN of a missing one."""
    cells = output.squared_residuals
    return (cells if output.mask is None else cells.masked_fill(output.mask == 0, float("nan"))).numpy()
