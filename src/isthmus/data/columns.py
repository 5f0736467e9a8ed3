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
            yield part.reshape(len(part), -1).astype(np.float64, order="C")  # sums depend on the order in memory

    return read


def moments(
    read: Callable[[], Iterator[np.ndarray]], weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]:
    """Compute minimum, maximum, mean and standard deviation of the finite values of each column, in two passes.

    The fifth value is whether all values are finite. Rows count by their weights, if there are any, and those of weight
    0 are left out.
    """
    low = high = total = count = None
    for part, factor in _with_weights(read(), weights):
        finite = np.isfinite(part)
        complete = finite.all()
        lows = part.min(0) if complete else np.where(finite, part, np.inf).min(0)
        highs = part.max(0) if complete else np.where(finite, part, -np.inf).max(0)
        sums = _sum(part if complete else np.where(finite, part, 0), factor)
        low = lows if low is None else np.minimum(low, lows)
        high = highs if high is None else np.maximum(high, highs)
        total = sums if total is None else total + sums
        count = _sum(finite, factor) if count is None else count + _sum(finite, factor)
    assert low is not None, "no rows"
    assert high is not None
    assert total is not None
    assert count is not None
    empty = count == 0
    divisor = np.where(empty, 1, count)
    mean = total / divisor
    square = np.zeros_like(mean)
    all_finite = True
    for part, factor in _with_weights(read(), weights):
        finite = np.isfinite(part)
        all_finite &= bool(finite.all())
        square += _sum(np.where(finite, part - mean, 0) ** 2, factor)
    low, high = np.where(empty, 0, low), np.where(empty, 0, high)
    return low, high, mean, np.sqrt(square / divisor), all_finite


def are_binary(read: Callable[[], Iterator[np.ndarray]], weights: np.ndarray | None = None) -> bool:
    """Return whether all finite values are 0 or 1, in rows of a weight above 0."""
    return all(
        bool(((part == 0) | (part == 1) | ~np.isfinite(part)).all()) for part, _ in _with_weights(read(), weights)
    )


def _with_weights(
    parts: Iterator[np.ndarray], weights: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield the rows of each chunk that have a weight above 0, with their weights; all rows without weights."""
    first = 0
    for part in parts:
        if weights is None:
            yield part, None
            continue
        its = weights[first : first + len(part)]
        first += len(part)
        if (its > 0).any():
            yield part[its > 0], its[its > 0]


def _sum(values: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return the sum over the rows by their weights, (columns,)."""
    return np.asarray(values.sum(0) if weights is None else weights @ values)


def medians(array: np.ndarray, channels_last: bool, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute the median by weight of the finite values of each column, in model-space order."""
    flat = np.moveaxis(array, -1, 1) if channels_last else array
    flat = flat.reshape(len(flat), -1)
    return np.array([_median(flat[:, i], weights) for i in range(flat.shape[1])])


def _median(values: np.ndarray, weights: np.ndarray | None) -> float:
    """Return the value below and above which half of the weight is, the mean of two such values; 0 without values."""
    finite = np.isfinite(values) if weights is None else np.isfinite(values) & (weights > 0)
    if not finite.any():
        return 0.0
    if weights is None:
        return float(np.median(values[finite]))
    order = np.argsort(values[finite])
    ordered, below = values[finite][order], np.cumsum(weights[finite][order])
    last = len(ordered) - 1
    at = [min(int(np.searchsorted(below, below[-1] / 2, side)), last) for side in ("left", "right")]
    return float(ordered[at].mean())


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
