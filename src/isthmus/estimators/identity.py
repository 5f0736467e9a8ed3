"""The identity of rows: data frames that a method returns carry the index and the labels of those it was given."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from isthmus.data.dataset import Conditioned, Paired
from isthmus.data.preprocessing import Preprocessor


def given_rows(X: Any) -> Any:
    """Return the rows that a user gave: those of a data set, and the inputs of conditioned or paired rows.

    Example:
        >>> given_rows(Paired(np.zeros((2, 3)), np.ones((2, 1)))).shape
        (2, 3)
    """
    X = X.X if hasattr(X, "X") and hasattr(X, "row_names") else X
    return given_rows(X.rows) if isinstance(X, Conditioned | Paired) else X


def with_index(values: Any, X: Any) -> Any:
    """Return a data frame or series with the index of the rows `X`; of polars frames as polars; arrays as they are.

    Args:
        values: one row for each row of `X`.
        X: rows, or codes.

    Example:
        >>> codes = pd.DataFrame({"h0": [0.5, 1.5]}, index=["b", "a"])
        >>> with_index(pd.DataFrame({"size": [3, 4]}), codes).index.tolist()
        ['b', 'a']
    """
    rows = given_rows(X)
    if not isinstance(values, pd.DataFrame | pd.Series):
        return values
    if is_polars(rows):
        return as_polars(values)
    index = getattr(rows, "index", None)
    return values.set_axis(index, axis=0) if isinstance(index, pd.Index) else values


def predicted(values: np.ndarray, X: Any) -> Any:
    """Return one prediction for each row: a series with the index of a data frame, of polars for polars, or an array.

    Predictions of several numbers for each row are columns of a data frame.

    Example:
        >>> predicted(np.array(["x", "y"]), pd.DataFrame({"a": [1, 2]}, index=[7, 3])).to_dict()
        {7: 'x', 3: 'y'}
    """
    rows = given_rows(X)
    if not (is_polars(rows) or isinstance(getattr(rows, "index", None), pd.Index)):
        return values
    return with_index(pd.Series(values) if values.ndim == 1 else pd.DataFrame(values), X)


def with_identity(values: Any, X: Any) -> Any:
    """Return decoded rows as `with_index` does; a data frame with the labels of the columns of `X` too.

    A model has the names of columns as text, and a data frame may have other labels, such as numbers.

    Example:
        >>> X = pd.DataFrame([[3, 4]], index=["b"])
        >>> (X - with_identity(pd.DataFrame({"0": [2], "1": [4]}), X)).to_numpy().tolist()
        [[1, 0]]
    """
    if isinstance(values, pd.DataFrame):
        values = values.set_axis(labels_of([str(name) for name in values.columns], X), axis=1)
    return with_index(values, X)


def labels_of(names: list[str], X: Any) -> pd.Index:
    """Return the labels of the columns of `X` that have these names as text; a name itself where there is none."""
    labels = {str(label): label for label in getattr(given_rows(X), "columns", ())}
    return pd.Index([labels.get(name, name) for name in names])


def user_columns(preprocessing: Preprocessor, X: Any) -> pd.Index | None:
    """Return the columns of the user's rows that are compared with a reconstruction; None for an array of its own."""
    if preprocessing.table:
        return labels_of([column.name for column in preprocessing.table], X)
    columns = getattr(given_rows(X), "columns", None)
    is_matrix = preprocessing.inputs is preprocessing and len(preprocessing.row_shape) == 1
    return None if columns is None or not is_matrix else pd.Index(columns)


def by_user_column(
    preprocessing: Preprocessor, cells: Float[np.ndarray, "rows columns"]
) -> Float[np.ndarray, "rows ..."]:
    """Return values of model space by column of the user: those of a categorical column are summed.

    Images and series get their own shape.

    Example:
        >>> from isthmus.data.preprocessing import Preprocessor
        >>> learned = Preprocessor.from_data(pd.DataFrame({"size": [1.5, 2.5, 4], "city": ["Bern", "Rome", "Oslo"]}))
        >>> by_user_column(learned, np.array([[5.0, 1.0, 0.0, 2.0]])).tolist()
        [[5.0, 3.0]]
    """
    if preprocessing.table:
        starts = [members[0] for members in preprocessing.members or ()]
        return np.add.reduceat(cells, starts, axis=1)
    return preprocessing.as_rows(cells)


def is_polars(X: Any) -> bool:
    """Return whether `X` is a frame or a series of polars."""
    return type(X).__module__.partition(".")[0] == "polars"


def as_polars(values: pd.DataFrame | pd.Series) -> Any:
    """Return a data frame or series of polars, which must be imported."""
    return sys.modules["polars"].from_pandas(values)
