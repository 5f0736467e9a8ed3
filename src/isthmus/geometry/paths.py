"""Paths through the code, and measures of the decodings along them.

path          codes in n steps: between two codes, or along one unit
direction     a difference of mean codes
continuity    how much faster decodings change between codes than at the rows
completeness  the fraction of samples that are as close to the rows as the rows are to each other

The functions of paths map codes to codes; `isthmus.estimators.paths` decodes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isthmus.errors import InputError, pluralize
from isthmus.parts.likelihood_base import Likelihood

MOVED_RANGE = (0.01, 0.99)
"""Quantiles of a unit over the rows between which it moves by default."""

NEAREST_QUANTILE = 0.95
"""Quantile of the distances to the nearest other row, within which a sample counts as close to the rows."""

ANGLE_TOLERANCE = 1e-4
"""Angle in radians below which float32 codes count as parallel, and the distance from pi of antipodal ones."""

ROWS_AT_ONCE = 1024
"""Number of rows in one batch of distances and of the decoder."""

Codes = Float[np.ndarray, "rows units"]
Paths = Float[np.ndarray, "pairs steps units"]


def check_steps(n: Any) -> int:
    """Return the number of steps of a path.

    Raises:
        InputError: n is not a whole number of at least 2.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__") or n < 2:
        raise InputError(f"n={n!r}: a path has its two ends, so the number of steps must be a whole number, 2 or more")
    return int(n)


def linear_path(start: Codes, end: Codes, n: int) -> Paths:
    r"""Return n codes on the straight line from each start to its end.

        h_t = (1 - t) a + t b,   t = 0, 1/(n-1), ..., 1

    Shapes: (pairs, units), (pairs, units) -> (pairs, n, units), in the dtype of the starts.

    Raises:
        InputError: n is below 2.

    Example:
        >>> linear_path(np.zeros((1, 2)), np.array([[2.0, 4.0]]), 3)[0].tolist()
        [[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]]
    """
    t = np.linspace(0, 1, check_steps(n))[:, None]
    a, b = (codes.astype(np.float64)[:, None] for codes in (start, end))
    return _with_ends((1 - t) * a + t * b, start, end)


def spherical_path(start: Codes, end: Codes, n: int) -> Paths:
    r"""Return n codes from each start to its end: directions on the great circle, lengths on the line.

        h_t = ((1 - t) |a| + t |b|) (sin((1 - t) w) a/|a| + sin(t w) b/|b|) / sin w,   cos w = <a, b> / (|a| |b|)

    Codes that are parallel, and zero codes, which have no direction, are interpolated linearly.

    Shapes: (pairs, units), (pairs, units) -> (pairs, n, units), in the dtype of the starts.

    Raises:
        InputError: n is below 2; two codes have opposite directions, so that every great circle connects them. With one
            unit these are the codes of different signs.

    Source: Shoemake, Animating rotation with quaternion curves (1985); White, Sampling generative networks (2016).

    Example:
        >>> spherical_path(np.array([[1.0, 0.0]]), np.array([[0.0, 3.0]]), 3)[0, 1].round(4).tolist()
        [1.4142, 1.4142]
    """
    t = np.linspace(0, 1, check_steps(n))[:, None]
    a, b = (codes.astype(np.float64)[:, None] for codes in (start, end))
    lengths = [np.linalg.norm(codes, axis=-1, keepdims=True) for codes in (a, b)]
    u, v = (codes / np.where(length > 0, length, 1) for codes, length in zip((a, b), lengths, strict=True))
    angle = 2 * np.arctan2(np.linalg.norm(u - v, axis=-1), np.linalg.norm(u + v, axis=-1))[..., None]
    is_zero = (lengths[0] == 0) | (lengths[1] == 0)
    opposite = np.flatnonzero(~is_zero & (angle > math.pi - ANGLE_TOLERANCE))
    if len(opposite):
        raise InputError(
            f"the codes of pair {opposite[0]} have opposite directions, between which the great circle is not "
            "determined; use method='linear'"
        )
    is_linear = is_zero | (angle < ANGLE_TOLERANCE)
    w = np.where(is_linear, 1.0, angle)
    direction = (np.sin((1 - t) * w) * u + np.sin(t * w) * v) / np.sin(w)
    spherical = ((1 - t) * lengths[0] + t * lengths[1]) * direction
    return _with_ends(np.where(is_linear, (1 - t) * a + t * b, spherical), start, end)


def _with_ends(path: Paths, start: Codes, end: Codes) -> Paths:
    """Return the path in the dtype of the codes, with the codes themselves as ends."""
    path = path.astype(start.dtype)
    path[:, 0], path[:, -1] = start, end
    return path


METHODS: dict[str, Callable[[Codes, Codes, int], Paths]] = {"linear": linear_path, "spherical": spherical_path}
"""Interpolations by name."""


def path_between(start: Codes, end: Codes, n: int, method: str = "linear") -> Paths:
    """Return n codes from each start to its end; `METHODS` has the interpolations.

    Shapes: (pairs, units), (pairs, units) -> (pairs, n, units).

    Raises:
        InputError: an unknown method, different numbers of starts and ends, or codes that the method refuses.
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is not one of {', '.join(METHODS)}")
    if len(start) != len(end):
        raise InputError(
            f"{pluralize(len(start), 'row')} to start from and {pluralize(len(end), 'row')} to end at; give one each, "
            "or equally many"
        )
    return METHODS[method](start, end, n)


def unit_range(
    values: Float[np.ndarray, " rows"], unit: int, low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Return the range over which a unit moves: its 1% and 99% quantiles over the rows, or the given ends.

    A unit whose two quantiles are equal, such as one that is rarely active, has its smallest and largest value.

    Args:
        values: the unit in each row, (rows,).
        unit: its number, for the error.
        low, high: ends of the range; None takes that of the rows.

    Raises:
        InputError: an end is missing and there is only one row, or the unit has one value in all rows; an end is not
            finite; low is not below high.

    Example:
        >>> unit_range(np.arange(101.0), unit=0), unit_range(np.arange(101.0), unit=0, high=200)
        ((1.0, 99.0), (1.0, 200.0))
    """
    given = {name: _finite(name, end) for name, end in (("low", low), ("high", high)) if end is not None}
    if len(given) < 2:
        if len(values) < 2:
            raise InputError(f"{pluralize(len(values), 'row')} gives no range of unit {unit}; give low and high")
        smallest, largest = (float(end) for end in np.quantile(values.astype(np.float64), MOVED_RANGE))
        if smallest >= largest:
            smallest, largest = float(values.min()), float(values.max())
        if not given and smallest >= largest:
            raise InputError(
                f"unit {unit} is {smallest:g} in every row, so the rows give no range; give low and high, or choose "
                "another unit"
            )
        given = {"low": smallest, "high": largest} | given
    if not given["low"] < given["high"]:
        raise InputError(f"unit {unit}: low={given['low']:g} is not below high={given['high']:g}; give low < high")
    return given["low"], given["high"]


def _finite(name: str, value: Any) -> float:
    """Return a finite number as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{name}={value!r}: it must be a finite number")
    return number


def unit_path(codes: Codes, unit: int, values: Float[np.ndarray, " steps"]) -> Float[np.ndarray, "rows steps units"]:
    """Return each code with one unit replaced by each value.

    Shapes: (rows, units), (steps,) -> (rows, steps, units).

    Example:
        >>> unit_path(np.array([[5.0, 6.0]]), 1, np.array([0.0, 1.0]))[0].tolist()
        [[5.0, 0.0], [5.0, 1.0]]
    """
    path = np.repeat(codes[:, None], len(values), axis=1)
    path[:, :, unit] = values
    return path


def mean_difference(codes: Codes, is_true: Bool[np.ndarray, " rows"]) -> Float[np.ndarray, " units"]:
    """Return the mean code of the rows where `is_true` minus the mean code of the others, float64.

    Example:
        >>> mean_difference(np.array([[0.0, 1.0], [2.0, 1.0], [6.0, 1.0]]), np.array([False, False, True])).tolist()
        [5.0, 0.0]
    """
    difference = codes[is_true].mean(0, dtype=np.float64) - codes[~is_true].mean(0, dtype=np.float64)
    return np.asarray(difference)


def shifted(
    codes: Codes, direction: Float[np.ndarray, " units"], amounts: Float[np.ndarray, " amounts"]
) -> Float[np.ndarray, "rows amounts units"]:
    """Return h + amount * direction for each code and each amount.

    Shapes: (rows, units), (units,), (amounts,) -> (rows, amounts, units), in the dtype of the codes.

    Example:
        >>> shifted(np.zeros((1, 2)), np.array([1.0, -1.0]), np.array([0.0, 0.5]))[0, 1].tolist()
        [0.5, -0.5]
    """
    return (codes[:, None].astype(np.float64) + amounts[:, None] * direction).astype(codes.dtype)


def continuity(model: Any, X: Any, n_pairs: int = 100, n_steps: int = 10, random_state: int | None = 0) -> float:
    r"""Measure how fast decodings change on straight lines between codes, relative to lines between neighbours.

        v(pairs) = sum_pairs sum_t |g(h_t) - g(h_(t-1))| / sum_pairs sum_t |h_t - h_(t-1)|,   h_t = a + t/T (b - a)
        continuity = v(random pairs) / v(nearest pairs)

    g decodes to model space. a is the code of a random row; b is the code of another random row, or of the nearest
    other row in model space. v is the mean distance between decodings per distance between codes. Near 1 or below, the
    decoder changes as slowly between the codes as at the rows. A value much above 1 means that it changes quickly
    somewhere between them, as between clusters with a jump.

    The definition is ours, of the continuity of a code as lectures describe it: nearby codes decode to similar rows.
    It does not show where the decoder changes, nor if the decodings between the rows are like rows; `completeness`
    measures that. A decoder that ignores the code between the rows also has a small value. The units of the code
    cancel, but not their proportions: a unit of large variance decides.

    Args:
        model: a fitted autoencoder.
        X: rows, all held in memory as float32; give a sample of large data.
        n_pairs: number of random pairs, and of nearest pairs.
        n_steps: T, the number of steps of each line.
        random_state: seed of the pairs.

    Raises:
        InputError: fewer than three rows; n_pairs or n_steps below 1; the codes or the decodings of all neighbours are
            equal.

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(200, 5))
        >>> model = LinearAutoencoder(code_size=3, max_epochs=5, random_state=0).fit(X)
        >>> 0.8 < continuity(model, X) < 1.2
        True
    """
    for name, number in (("n_pairs", n_pairs), ("n_steps", n_steps)):
        if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
            raise InputError(f"{name}={number!r}: it must be a whole number of at least 1")
    x, codes = _rows_and_codes(model, X)
    if len(x) < 3:
        raise InputError(f"{pluralize(len(x), 'row')}: nearest and random pairs differ only with three rows or more")
    random = np.random.default_rng(random_state)
    start = random.integers(len(x), size=n_pairs)
    other = (start + random.integers(1, len(x), size=n_pairs)) % len(x)
    nearest = _nearest(x[start], x, own=start)[1]
    between, along = (_speed(model, codes[start], codes[end], n_steps) for end in (other, nearest))
    if not along > 0:
        raise InputError("the decodings of neighbouring rows are all equal, so there is no speed to compare with")
    return between / along


def _speed(model: Any, start: Codes, end: Codes, n_steps: int) -> float:
    """Return the length of the decoded lines over the length of the lines; NaN if all lines are points."""
    path = linear_path(start, end, n_steps + 1)
    decoded = _decoded(model, path.reshape(-1, path.shape[-1])).reshape(*path.shape[:2], -1)
    lengths = [float(np.linalg.norm(np.diff(line, axis=1), axis=-1).sum()) for line in (decoded, path.astype(float))]
    return lengths[0] / lengths[1] if lengths[1] > 0 else math.nan


def completeness(model: Any, samples: Any, X: Any, *, of: str = "codes") -> float:
    r"""Compute the fraction of samples that are as close to the rows as the rows are to each other.

        d_i = min_(j != i) |x_i - x_j|,   q = the 95% quantile of d_i
        completeness = fraction of samples s with min_i |s - x_i| <= q

    Distances are Euclidean, in model space. The definition is ours, of the completeness of a code as lectures describe
    it: a code that is sampled decodes to something like a row. It does not show if the samples cover the rows: copies
    of one row have the completeness 1. Decodings are means, and so smoother than rows and often nearer to them than
    new rows of the same source, which `of="rows"` measures for comparison. With few rows and many columns nearest
    distances are nearly equal, and the fraction depends on small differences.

    Args:
        model: a fitted autoencoder.
        samples: codes (n, code_size), which are decoded; or rows like X, see `of`.
        X: rows, all held in memory as float32; the time grows with the square of their number.
        of: "codes" or "rows": the type of the samples.

    Raises:
        InputError: samples of another width, that are not finite, or none; fewer than two rows; an unknown type;
            codes of a multinomial likelihood, which decode to probabilities of words.

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(200, 5))
        >>> model = LinearAutoencoder(code_size=3, max_epochs=5, random_state=0).fit(X)
        >>> codes = model.transform(X)
        >>> completeness(model, codes, X) > 0.9, completeness(model, 100 * codes, X) < 0.1
        (True, True)
    """
    if of not in ("codes", "rows"):
        raise InputError(f"of={of!r} is not one of codes, rows")
    if of == "codes" and type(model.coder_.likelihood).mean_given is not Likelihood.mean_given:
        raise InputError(
            "codes of word counts decode to probabilities, which cannot be compared with counts; give rows, of='rows'"
        )
    x, _ = _rows_and_codes(model, X)
    if len(x) < 2:
        raise InputError(f"{pluralize(len(x), 'row')}: distances between rows need at least two")
    s = _rows_and_codes(model, samples)[0] if of == "rows" else _decoded(model, _checked_codes(model, samples))
    if not len(s):
        raise InputError("there are no samples; give at least one")
    limit = np.quantile(_nearest(x, x, own=np.arange(len(x)))[0], NEAREST_QUANTILE)
    return float((_nearest(s, x)[0] <= limit).mean())


def _checked_codes(model: Any, samples: Any) -> Codes:
    """Return samples of the code as float32 after checking their width and values."""
    try:
        codes = np.asarray(samples).astype(np.float32)
    except (TypeError, ValueError):
        raise InputError("the samples are not all numbers; give codes, or rows with of='rows'") from None
    if codes.ndim != 2 or codes.shape[1] != model.code_size_:
        raise InputError(
            f"samples of shape {codes.shape}; codes have shape (n, {model.code_size_}); give rows with of='rows'"
        )
    if not np.isfinite(codes).all():
        raise InputError(f"sample {np.argwhere(~np.isfinite(codes))[0][0]} is not finite; codes must be finite")
    return codes


def _rows_and_codes(model: Any, X: Any) -> tuple[Float[np.ndarray, "rows columns"], Codes]:
    """Return rows in model space, missing entries replaced by their reconstructions, and codes."""
    outputs = list(model.read(X))
    if not outputs:
        raise InputError("there are no rows; give at least one")
    rows = [out.x if out.mask is None else torch.where(out.mask > 0, out.x, out.reconstruction) for out in outputs]
    return torch.cat(rows).numpy(), torch.cat([out.code for out in outputs]).numpy()


@torch.no_grad()
def _decoded(model: Any, codes: Codes) -> Float[np.ndarray, "rows columns"]:
    """Return the means of p_dec(x | h) in model space, float64."""
    coder = model.coder_.eval()
    device = next(coder.parameters()).device
    parts = [
        coder.likelihood.mean(coder.decode(part.to(device))).cpu().double().numpy()
        for part in torch.from_numpy(codes).split(ROWS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.empty((0, 0))


def _nearest(
    queries: Float[np.ndarray, "queries columns"],
    rows: Float[np.ndarray, "rows columns"],
    own: Int[np.ndarray, " queries"] | None = None,
) -> tuple[Float[np.ndarray, " queries"], Int[np.ndarray, " queries"]]:
    """Return the distance of each query to its nearest row, and the number of that row.

    Args:
        queries: (queries, columns).
        rows: (rows, columns).
        own: the row that each query is, which does not count; None if the queries are not rows.
    """
    at = torch.from_numpy(rows).double()
    distances, numbers = [], []
    for first in range(0, len(queries), ROWS_AT_ONCE):
        some = torch.from_numpy(queries[first : first + ROWS_AT_ONCE]).double()
        found: Tensor = torch.cdist(some, at)
        if own is not None:
            found[torch.arange(len(some)), torch.from_numpy(own[first : first + ROWS_AT_ONCE])] = math.inf
        nearest = found.min(1)
        distances.append(nearest.values.numpy())
        numbers.append(nearest.indices.numpy())
    return np.concatenate(distances), np.concatenate(numbers)
