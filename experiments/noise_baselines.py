"""Methods that remove Gaussian noise of a known level without training: median, non-local means, wavelets."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Signal = Float[np.ndarray, "*positions"]
"""An image (height, width) or a series (steps,)."""

LEVELS = 3
"""Levels of the wavelet transform, if the sides are even so often."""

SPINS = 4
"""Shifts of each axis that the wavelet estimate is averaged over."""

FILTERS: dict[str, tuple[float, ...]] = {
    "haar": (0.7071067811865476, 0.7071067811865476),
    "db2": (0.48296291314453416, 0.8365163037378079, 0.2241438680420134, -0.12940952255126037),
    "db4": (
        0.2303778133088964, 0.7148465705529154, 0.6308807679298587, -0.027983769416859854, -0.18703481171909309,
        0.030841381835560764, 0.0328830116668852, -0.010597401785069032,
    ),
}  # fmt: skip
"""Low-pass filters of orthogonal wavelets: Haar, and Daubechies with two and four vanishing moments."""


def by_median(x: Signal, level: float, *, size: int) -> Signal:
    """Return the median of the neighbourhood of each position."""
    from scipy.ndimage import median_filter

    return median_filter(x, size=size, mode="nearest")


def by_non_local_means(x: Signal, level: float, *, cutoff: float, fast: bool) -> Signal:
    """Return non-local means by scikit-image, with patches of 5 and a distance of 6; a series is a line of pixels.

    Args:
        x: the signal.
        level: standard deviation of the noise.
        cutoff: `h` of scikit-image in units of the level.
        fast: `fast_mode` of scikit-image: patches without Gaussian weights.
    """
    from skimage.restoration import denoise_nl_means

    if x.ndim == 1:
        return series_by_non_local_means(x, level, cutoff=cutoff)
    return denoise_nl_means(
        x, patch_size=5, patch_distance=6, h=cutoff * level, sigma=level, fast_mode=fast
    )  # fmt: skip


def series_by_non_local_means(x: Signal, level: float, *, cutoff: float, size: int = 7, distance: int = 60) -> Signal:
    """Return non-local means of a series, which scikit-image does not have.

        w_ij = exp(-max(||p_i - p_j||^2 / size - 2 level^2, 0) / (cutoff level)^2),   |i - j| <= distance

    Source: Buades, Coll & Morel, A non-local algorithm for image denoising (2005).
    """
    patches = np.lib.stride_tricks.sliding_window_view(np.pad(x, size // 2, mode="reflect"), size)
    distances = np.square(patches[:, None] - patches[None]).mean(-1)
    weights = np.exp(-np.maximum(distances - 2 * level**2, 0) / (cutoff * level) ** 2)
    steps = np.arange(len(x))
    weights[np.abs(steps[:, None] - steps) > distance] = 0
    return weights @ x / weights.sum(1)


def by_wavelets(x: Signal, level: float, *, wavelet: str) -> Signal:
    """Return the mean over shifts of the wavelet estimate with thresholds by BayesShrink.

    The rule of `skimage.restoration.denoise_wavelet`: soft thresholds level^2 / sd of each band without its noise. The
    mean over shifts (cycle spinning) has a smaller error than one transform.

    Source: Chang, Yu & Vetterli, Adaptive wavelet thresholding, IEEE TIP 9 (2000); Coifman & Donoho,
    Translation-invariant de-noising (1995).
    """
    margin = 16
    padded = np.pad(x, [(margin, margin + size % 2) for size in x.shape], mode="reflect")
    axes = tuple(range(x.ndim))
    made = np.zeros_like(padded, np.float64)
    shifts = list(itertools.product(range(SPINS), repeat=x.ndim))
    for shift in shifts:
        moved = np.roll(padded, shift, axes)
        back = _shrunk(moved, level, FILTERS[wavelet], LEVELS)
        made += np.roll(back, [-step for step in shift], axes)
    return (made / len(shifts))[tuple(slice(margin, margin + size) for size in x.shape)]


def _shrunk(x: Signal, level: float, low: Sequence[float], levels: int) -> Signal:
    """Return a signal whose wavelet coefficients were thresholded."""
    if levels == 0 or any(size % 2 for size in x.shape):
        return x
    high = [(-1) ** k * each for k, each in enumerate(reversed(low))]
    bands: dict[tuple[int, ...], Signal] = {(): x}
    for axis in range(x.ndim):
        bands = {(*name, n): _down(band, axis, f) for name, band in bands.items() for n, f in enumerate((low, high))}
    coarse = (0,) * x.ndim
    bands = {
        name: _shrunk(band, level, low, levels - 1) if name == coarse else _thresholded(band, level)
        for name, band in bands.items()
    }
    for axis in reversed(range(x.ndim)):
        bands = {
            name: _up(bands[(*name, 0)], axis, low) + _up(bands[(*name, 1)], axis, high)
            for name in dict.fromkeys(name[:-1] for name in bands)
        }
    return bands[()]


def _down(x: Signal, axis: int, filter_: Sequence[float]) -> Signal:
    every = range(0, x.shape[axis], 2)
    return np.sum([c * np.take(np.roll(x, -k, axis), every, axis) for k, c in enumerate(filter_)], axis=0)


def _up(x: Signal, axis: int, filter_: Sequence[float]) -> Signal:
    spread = np.zeros([2 * n if i == axis else n for i, n in enumerate(x.shape)])
    spread[tuple(slice(None, None, 2) if i == axis else slice(None) for i in range(x.ndim))] = x
    return np.sum([c * np.roll(spread, k, axis) for k, c in enumerate(filter_)], axis=0)


def _thresholded(band: Signal, level: float) -> Signal:
    signal = np.sqrt(max(float(np.square(band).mean()) - level**2, 1e-12))
    return np.sign(band) * np.maximum(np.abs(band) - level**2 / signal, 0)


METHODS: dict[str, tuple[Callable[..., Signal], tuple[Mapping[str, Any], ...]]] = {
    "median": (by_median, ({"size": 3}, {"size": 5}, {"size": 7})),
    "non-local means": (
        by_non_local_means,
        tuple({"cutoff": cutoff, "fast": fast} for cutoff in (0.6, 0.8, 1.0) for fast in (False, True)),
    ),
    "wavelets": (by_wavelets, tuple({"wavelet": name} for name in FILTERS)),
}
"""Methods by name, with the settings from which validation signals choose for each level."""
