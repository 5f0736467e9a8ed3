"""Windows of a table as rows, without memory of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int


class WindowRows(np.lib.mixins.NDArrayOperatorsMixin):
    """Windows as rows, which are read from the table they overlap in, so that they take no memory of their own.

    They have the interface of a read-only array (n, size, channels): `shape`, `dtype`, an index of rows, arithmetic
    and functions of numpy. Numbers of rows give a copy of them, of 8 x size x channels bytes each. A slice, and
    `np.asarray` for all rows, give a view of the table if the windows start at equal distances, else a copy.

    Args:
        values: the table in the order of its series.
        starts: the position of the first step of each window.
        size: the number of steps of a window.

    Example:
        >>> X = WindowRows(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 2]), 2)
        >>> X.shape, X[[0, 2], :, 0].tolist(), float((X - 1).sum())
        ((3, 2, 1), [[0.0, 1.0], [2.0, 3.0]], 3.0)
    """

    def __init__(self, values: Float[np.ndarray, "n_rows channels"], starts: Int[np.ndarray, " n"], size: int) -> None:
        self.values, self.starts = values, starts
        self._every = np.lib.stride_tricks.sliding_window_view(values, size, axis=0).swapaxes(1, 2)
        self.shape = (len(starts), size, values.shape[1])
        self.dtype, self.ndim = values.dtype, 3

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        n, size, n_channels = self.shape
        return f"WindowRows({n} windows of {size} steps and {n_channels} channels)"

    def __getitem__(self, key: Any) -> np.ndarray:
        if key is Ellipsis or (isinstance(key, tuple) and key and key[0] is Ellipsis):
            return np.asarray(self)[key]
        rows, others = (key[0], key[1:]) if isinstance(key, tuple) and key else (key, ())
        starts = self.starts[rows]
        if starts.ndim == 0:
            return self._every[starts][others]
        found = self._of(starts) if isinstance(rows, slice) else self._every[starts]
        return found[(slice(None), *others)]

    def _of(self, starts: Int[np.ndarray, " some"]) -> Float[np.ndarray, "some size channels"]:
        steps = np.diff(starts)
        if len(starts) and (not len(steps) or (steps[0] > 0 and bool((steps == steps[0]).all()))):
            return self._every[starts[0] : starts[-1] + 1 : steps[0] if len(steps) else 1]
        found = self._every[starts]
        found.flags.writeable = False
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._of(self.starts), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(each) if isinstance(each, WindowRows) else each for each in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def take(self, rows: slice | np.ndarray) -> WindowRows:
        """Return some of the windows."""
        return WindowRows(self.values, self.starts[rows], self.shape[1])
