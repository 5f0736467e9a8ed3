"""Rows of the user whose missing cells are filled: in the types of their columns, with observed cells as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from isthmus.data.columns import flat_chunks
from isthmus.data.dataset import as_pandas
from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError
from isthmus.estimators.identity import given_rows, with_index


def refuse_infinite(X: Any) -> None:
    """Refuse infinite values, which are neither missing nor values."""
    if hasattr(X, "columns"):
        numeric = X.select_dtypes("number")
        for name in numeric.columns:
            found = np.flatnonzero(np.isinf(numeric[name].to_numpy(np.float64, na_value=np.nan)))
            if len(found):
                raise InputError(
                    f"the input contains infinity at row {found[0]}, column {str(name)!r}; replace it by a number, or "
                    "by NaN if it is missing"
                )
        return
    first = 0
    for part in flat_chunks(X, channels_last=False)():
        places = np.argwhere(np.isinf(part))
        if len(places):
            row, column = places[0]
            raise InputError(
                f"the input contains infinity at row {first + row}, column {column}; replace it by a number, or by NaN "
                "if it is missing"
            )
        first += len(part)


def with_cells(rows: pd.DataFrame, values: pd.DataFrame, gaps: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return a copy of a table with the cells in gaps taken from `values`, in the types of the columns."""
    columns = []
    for at, name in enumerate(map(str, rows.columns)):
        column, gap = rows.iloc[:, at], gaps[name]
        if gap.any():
            column = column.copy()
            found = values[name].to_numpy()[gap]
            if pd.api.types.is_integer_dtype(column.dtype):
                found = np.rint(found.astype(np.float64)).astype(np.int64)
            elif isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
                found = found.astype(column.dtype)
            column.iloc[np.flatnonzero(gap)] = found.tolist() if column.dtype == object else found
        columns.append(column)
    return pd.concat(columns, axis=1).set_axis(rows.columns, axis=1) if columns else rows.copy()


def as_given(frame: pd.DataFrame, X: Any) -> Any:
    """Return a frame of the type of the rows that were given: of polars for polars."""
    return with_index(frame, X) if as_pandas(given_rows(X)) is not given_rows(X) else frame


def in_shape(known: Preprocessor, flat: np.ndarray) -> np.ndarray:
    """Return values by model-space column of an array in the shape of the user's rows.

    Example:
        >>> known = Preprocessor.from_data(np.zeros((5, 4, 4, 3)))
        >>> in_shape(known, np.zeros((2, 48))).shape
        (2, 4, 4, 3)
    """
    if known.image_shape is not None:
        flat = flat.reshape(-1, *known.image_shape)
        flat = np.moveaxis(flat, 1, -1) if known.channels_last else flat
    return flat.reshape(-1, *known.row_shape)
