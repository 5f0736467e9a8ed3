"""Statistics of unscaled columns, computed in chunks, and checks for missing values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from isthmus.errors import InputError, pluralize

_CHUNK_BYTES = 32 * 2**20


def flat_chunks(array: np.ndarray, channels_last: bool) -> Callable[[], Iterator[np.ndarray]]:
    """Return a function that yields the rows in chunks of a few megabytes.

    A chunk is a float64 matrix (rows, columns) in model-space order.
    """
    step = max(1, _CHUNK_BYTES // (8 * max(1, int(np.prod(array.shape[1:])))))

    def read() -> Iterator[np.ndarray]:
        for start in range(0, len(array), step):
            part = np.asarray(array[start : start + step])
            part = np.moveaxis(part, -1, 1) if channels_last else part
            yield part.reshape(len(part), -1).astype(np.float64)

    return read


def moments(
    read: Callable[[], Iterator[np.ndarray]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Compute minimum, maximum, mean and standard deviation of the finite values of each column, in two passes.

    The fifth value is whether all values are finite.
    """
    low = high = total = count = None
    for part in read():
        finite = np.isfinite(part)
        complete = finite.all()
        lows = part.min(0) if complete else np.where(finite, part, np.inf).min(0)
        highs = part.max(0) if complete else np.where(finite, part, -np.inf).max(0)
        sums = part.sum(0) if complete else np.where(finite, part, 0).sum(0)
        low = lows if low is None else np.minimum(low, lows)
        high = highs if high is None else np.maximum(high, highs)
        total = sums if total is None else total + sums
        count = finite.sum(0) if count is None else count + finite.sum(0)
    assert low is not None, "no rows"
    assert high is not None
    assert total is not None
    assert count is not None
    mean = total / np.maximum(count, 1)
    square = np.zeros_like(mean)
    all_finite = True
    for part in read():
        finite = np.isfinite(part)
        all_finite &= bool(finite.all())
        square += (np.where(finite, part - mean, 0) ** 2).sum(0)
    empty = count == 0
    low, high = np.where(empty, 0, low), np.where(empty, 0, high)
    return low, high, mean, np.sqrt(square / np.maximum(count, 1)), all_finite


def medians(array: np.ndarray, channels_last: bool) -> np.ndarray:
    """Compute the median of the finite values of each column, in model-space order."""
    flat = np.moveaxis(array, -1, 1) if channels_last else array
    flat = flat.reshape(len(flat), -1)
    columns = (flat[:, i] for i in range(flat.shape[1]))
    return np.array([np.median(c[np.isfinite(c)]) if np.isfinite(c).any() else 0.0 for c in columns])


def refuse_missing(array: np.ndarray, names: Sequence[str] | None) -> None:
    """Raise an `InputError` with row and column of the first NaN or infinite value."""
    if array.dtype.kind in "iub":
        return
    step = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        part = np.asarray(array[start : start + step]).reshape(len(array[start : start + step]), -1)
        refuse_missing_values(part, names, start)


def refuse_missing_values(part: np.ndarray, names: Sequence[str] | None, first: int = 0) -> None:
    """Check a part of the rows; `first` is the number of its first row."""
    finite = np.isfinite(part)
    if finite.all():
        return
    index = np.argwhere(~finite)[0]
    name = "NaN (a missing value)" if np.isnan(part[tuple(index)]) else "infinity"
    position = ""
    if len(index) == 2:
        column = repr(names[index[1]]) if names else str(index[1])
        position = f" at row {first + index[0]}, column {column}"
    raise InputError(
        f"the input contains {name}{position}, {pluralize(int((~finite).sum()), 'such value')} in all; "
        "impute them with missing='mean' or 'median' (--missing mean), exclude them from the loss with "
        "missing='mask' (--missing mask), or remove the rows"
    )
