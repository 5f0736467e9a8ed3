"""Gabor functions fitted to atoms and filters of image patches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from isthmus.errors import InputError

SMALLEST_SIDE = 4
"""Shortest side of an atom: below it the eight parameters fit almost anything."""

PADDING = 4
"""Number of times that the spectrum has more frequencies than an atom has pixels."""

SMALLEST_DEVIATION = 0.4
"""Least standard deviation of an envelope, in pixels: that of a single pixel is about .4."""

ENVELOPES = ((0.1, 0.1), (0.1, 0.2), (0.2, 0.1), (0.2, 0.2))
"""Starts of the deviations of the envelope across and along the bars, in sides of the atom."""

N_PEAKS, N_STARTS = 3, 4
"""Number of peaks of the spectrum whose starts are compared, and of starts that are optimised."""


@dataclass(frozen=True)
class GaborFit:
    r"""A Gabor function fitted to an atom, in pixels.

        g(x, y) = amplitude exp(-u^2 / (2 across^2) - v^2 / (2 along^2)) cos(2 pi frequency u + phase)
        u = (x - column) cos(angle) + (y - row) sin(angle),   v = -(x - column) sin(angle) + (y - row) cos(angle)

    Attributes:
        amplitude: of the envelope, not negative.
        row, column: centre of the envelope; 0 is the middle of the first pixel.
        angle: direction in which the wave runs, in [0, pi) from the axis of columns towards that of rows, radians.
        across, along: standard deviations of the envelope in this direction and at right angles to it.
        frequency: of the wave, cycles a pixel.
        phase: of the wave at the centre, in [-pi, pi), radians.
        r2: 1 - sum of (atom - g)^2 / sum of (atom - mean of the atom)^2; 0 for an atom of one value.
        image: g, (h, w).
    """

    amplitude: float
    row: float
    column: float
    angle: float
    across: float
    along: float
    frequency: float
    phase: float
    r2: float
    image: Float[np.ndarray, "h w"]


class _Start(NamedTuple):
    """Parameters of a start, and the squared error of its best wave."""

    error: float
    parameters: Float[np.ndarray, " 8"]


def fit_gabor(atom: ArrayLike) -> GaborFit:
    r"""Fit a Gabor function to an atom by least squares.

    The search starts at the highest peaks of the Fourier spectrum, with the envelope at the largest local energy. The
    best of several starts is returned. Phase and amplitude of a start have a closed form. Frequencies reach half a
    cycle a pixel; the centre is inside the atom; deviations are at least .4 pixels, so that a single pixel is fitted
    well: its `across` and `along` are below 1.

    Args:
        atom: (h, w), of at least 4 x 4 pixels.

    Raises:
        InputError: not such an image of finite numbers.

    Source: Daugman, Uncertainty relation for resolution in space, spatial frequency, and orientation optimized by
    two-dimensional visual cortical filters (1985), for the function; Ringach, Spatial structure and symmetry of
    simple-cell receptive fields in macaque primary visual cortex (2002), for the fits.

    Example:
        >>> import numpy as np
        >>> y, x = np.mgrid[:12, :12] - 5.5
        >>> found = fit_gabor(np.exp(-(x**2 + y**2) / 8) * np.cos(2 * np.pi * 0.2 * x))
        >>> round(found.frequency, 3), round(found.across, 3), round(found.r2, 3)
        (0.2, 2.0, 1.0)
    """
    image = _checked(np.asarray(atom, np.float64)[None])[0]
    total = float(np.square(image - image.mean()).sum())
    size = float(np.abs(image).max())
    if not total > 0 or total <= 1e-24 * image.size * size**2:
        row, column = (image.shape[0] - 1) / 2, (image.shape[1] - 1) / 2
        return GaborFit(0.0, row, column, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, np.zeros_like(image))
    scaled = image / size
    starts = sorted(_starts(scaled), key=lambda start: start.error)[:N_STARTS]
    low, high = _bounds(image.shape)

    def residuals(parameters: np.ndarray) -> np.ndarray:
        return (_gabor(parameters, image.shape) - scaled).ravel()

    def jacobian(parameters: np.ndarray) -> np.ndarray:
        return _gabor_gradient(parameters, image.shape).reshape(len(parameters), -1).T

    found = [
        least_squares(
            residuals, np.clip(start.parameters, low + 1e-9, high - 1e-9), jac=jacobian, bounds=(low, high),
            x_scale="jac", max_nfev=60, ftol=1e-6, xtol=1e-6,
        )
        for start in starts
    ]  # fmt: skip
    best = min(found, key=lambda result: float(result.cost))
    return _as_fit(best.x, size, image, total)


def gabor_fits(atoms: ArrayLike) -> list[GaborFit]:
    """Return the fit of each atom, of 12 x 12 pixels in about 50 milliseconds each.

    Args:
        atoms: (atoms, h, w); or (atoms, columns) of square patches, as `dictionary()` returns them.

    Raises:
        InputError: other atoms, such as those of several channels; atoms that are not finite.
    """
    return [fit_gabor(atom) for atom in _checked(np.asarray(atoms, np.float64))]


def share_of_gabors(atoms: ArrayLike, least: float = 0.8) -> float:
    """Return the fraction of the atoms that a Gabor function fits with an R^2 above `least`.

    Args:
        atoms: (atoms, h, w); or (atoms, columns) of square patches, as `dictionary()` returns them.
        least: the bound of R^2.

    Raises:
        InputError: see `gabor_fits`; a bound that is not below 1.

    Example:
        >>> import numpy as np
        >>> y, x = np.mgrid[:10, :10] - 4.5
        >>> bar = np.exp(-(x**2 + y**2) / 8) * np.cos(x + y)
        >>> noise = np.random.default_rng(0).normal(size=(10, 10))
        >>> share_of_gabors([bar, noise])
        0.5
    """
    if not isinstance(least, int | float) or not least < 1:
        raise InputError(f"least={least!r}: the bound of R^2 must be a number below 1")
    return float(np.mean([fit.r2 > least for fit in gabor_fits(atoms)]))


def _checked(atoms: np.ndarray) -> Float[np.ndarray, "atoms h w"]:
    """Return atoms as images.

    Raises:
        InputError: see `gabor_fits`.
    """
    if atoms.ndim == 2 and math.isqrt(atoms.shape[1]) ** 2 == atoms.shape[1]:
        side = math.isqrt(atoms.shape[1])
        atoms = atoms.reshape(len(atoms), side, side)
    if atoms.ndim != 3 or len(atoms) == 0 or min(atoms.shape[1:]) < SMALLEST_SIDE:
        raise InputError(
            f"Gabor functions are fitted to atoms (atoms, h, w) of one channel, of at least {SMALLEST_SIDE} x "
            f"{SMALLEST_SIDE} pixels; found the shape {atoms.shape}"
        )
    if not np.isfinite(atoms).all():
        raise InputError("an atom holds values that are not finite; remove it")
    return atoms


def _gabor(parameters: Float[np.ndarray, " 8"], shape: tuple[int, ...]) -> Float[np.ndarray, "h w"]:
    """Return the function of parameters: cosine, sine, row, column, angle, log across, log along, frequency."""
    basis = _waves(parameters[2:], shape)
    return parameters[0] * basis[0] + parameters[1] * basis[1]


def _gabor_gradient(parameters: Float[np.ndarray, " 8"], shape: tuple[int, ...]) -> Float[np.ndarray, "8 h w"]:
    """Return the derivatives of `_gabor` by its parameters."""
    cosine, sine, _, _, angle, log_across, log_along, frequency = parameters
    even, odd = _waves(parameters[2:], shape)
    g, turned = cosine * even + sine * odd, 2 * np.pi * (sine * even - cosine * odd)  # a quarter of a cycle further
    u, v = _turned(parameters[2:5], shape)
    over_across, over_along = u * np.exp(-2 * log_across), v * np.exp(-2 * log_along)
    by_u, by_v = frequency * turned - over_across * g, -over_along * g
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([
        even, odd, -sin * by_u - cos * by_v, sin * by_v - cos * by_u, v * by_u - u * by_v,
        u * over_across * g, v * over_along * g, u * turned,
    ])  # fmt: skip


def _waves(parameters: Float[np.ndarray, " 6"], shape: tuple[int, ...]) -> Float[np.ndarray, "2 h w"]:
    """Return cosine and sine in the envelope."""
    u, v = _turned(parameters[:3], shape)
    log_across, log_along, frequency = parameters[3:]
    envelope = np.exp(-0.5 * (np.square(u * np.exp(-log_across)) + np.square(v * np.exp(-log_along))))
    wave = 2 * np.pi * frequency * u
    return np.stack([envelope * np.cos(wave), envelope * np.sin(wave)])


def _turned(
    parameters: Float[np.ndarray, " 3"], shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Return the coordinates in the direction of the wave and at right angles to it, from row, column and angle."""
    row, column, angle = parameters
    y, x = np.arange(shape[0])[:, None] - row, np.arange(shape[1])[None, :] - column
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def _bounds(shape: tuple[int, ...]) -> tuple[Float[np.ndarray, " 8"], Float[np.ndarray, " 8"]]:
    """Return the least and the largest parameters; the angle is free."""
    smallest, largest = math.log(SMALLEST_DEVIATION), math.log(2 * max(shape))
    low = [-np.inf, -np.inf, -0.5, -0.5, -np.inf, smallest, smallest, 0.0]
    high = [np.inf, np.inf, shape[0] - 0.5, shape[1] - 0.5, np.inf, largest, largest, 0.5]
    return np.array(low), np.array(high)


def _starts(image: Float[np.ndarray, "h w"]) -> Iterator[_Start]:
    """Yield starts of several envelopes at the peaks of the spectrum, with the cosine and sine of least error."""
    side = max(image.shape)
    energy = gaussian_filter(np.square(image), side / 12)
    row, column = np.unravel_index(int(energy.argmax()), image.shape)
    for angle, frequency in _peaks(image):
        for across, along in ENVELOPES:
            logs = np.log(np.maximum([across * side, along * side], 1.1 * SMALLEST_DEVIATION))
            inner = np.array([row, column, angle, *logs, frequency], np.float64)
            basis = _waves(inner, image.shape).reshape(2, -1).T
            weights = np.linalg.lstsq(basis, image.ravel(), rcond=None)[0]
            error = float(np.square(image.ravel() - basis @ weights).sum())
            yield _Start(error, np.concatenate([weights, inner]))


def _peaks(image: Float[np.ndarray, "h w"]) -> Iterator[tuple[float, float]]:
    """Yield angle and frequency of the highest peaks of the spectrum, and those of no wave."""
    n = PADDING * max(image.shape)
    power = np.abs(np.fft.fft2(image, (n, n)))
    down, across = np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n), indexing="ij")
    power[(down < 0) | ((down == 0) & (across < 0)) | (np.hypot(down, across) > 0.5)] = 0  # a half has all
    for _ in range(N_PEAKS):
        at = np.unravel_index(int(power.argmax()), power.shape)
        yield float(np.arctan2(down[at], across[at])), float(np.hypot(down[at], across[at]))
        power[np.hypot(down - down[at], across - across[at]) < 1 / max(image.shape)] = 0


def _as_fit(
    parameters: Float[np.ndarray, " 8"], size: float, image: Float[np.ndarray, "h w"], total: float
) -> GaborFit:
    """Return the fit of optimised parameters, with the angle in [0, pi) and the phase of the cosine."""
    cosine, sine, row, column, angle, log_across, log_along, frequency = map(float, parameters)
    turns = math.floor(angle / math.pi)
    sine = -sine if turns % 2 else sine  # u changes its sign with each half turn
    fitted = size * _gabor(parameters, image.shape)
    return GaborFit(
        amplitude=size * math.hypot(cosine, sine), row=row, column=column, angle=angle - turns * math.pi,
        across=math.exp(log_across), along=math.exp(log_along), frequency=frequency,
        phase=math.atan2(-sine, cosine), r2=1 - float(np.square(image - fitted).sum()) / total, image=fitted,
    )  # fmt: skip
