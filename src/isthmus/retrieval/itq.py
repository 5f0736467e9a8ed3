"""Iterative quantisation: a rotation of the principal components of codes, whose signs are bits."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from jaxtyping import Float, UInt8

from isthmus.errors import InputError, pluralize


class ITQ:
    """Bits of real-valued codes by iterative quantisation.

    With V = (h - mean) W, the projections of centred codes on their first `n_bits` principal components, ITQ
    minimises over rotations R the squared error of quantisation per row,

        J(R) = 1/n ||B - V R||^2,    B = sign(V R),

    by alternate steps: B for fixed R, and R for fixed B, an orthogonal Procrustes problem: with the singular value
    decomposition V' B = S D T', R = S T'. No step increases J. A bit is 1 where (h - mean) W R > 0.

    Args:
        n_bits: number of bits, at most the number of units of the code.
        n_iterations: number of alternate steps.
        random_state: seed of the first rotation.

    Attributes:
        mean_: mean of the codes, (units,).
        components_: principal components W, (units, n_bits).
        rotation_: R, (n_bits, n_bits).
        objective_: J before the first step and after each one.

    Raises:
        InputError: fewer than one bit; at `fit`, more bits than units, fewer than two codes, codes that are not finite.

    Source: Gong, Lazebnik, Gordo & Perronnin, Iterative quantization (2013), sections 2.1 and 2.2.

    Example:
        >>> codes = np.random.default_rng(0).normal(size=(100, 6))
        >>> ITQ(4).fit(codes).transform(codes[:2]).shape
        (2, 4)
    """

    mean_: Float[np.ndarray, " units"]
    components_: Float[np.ndarray, "units bits"]
    rotation_: Float[np.ndarray, "bits bits"]
    objective_: list[float]

    def __init__(self, n_bits: int, *, n_iterations: int = 50, random_state: int = 0) -> None:
        if n_bits < 1:
            raise InputError(f"n_bits={n_bits}: it must be at least 1")
        self.n_bits, self.n_iterations, self.random_state = n_bits, n_iterations, random_state

    def fit(self, codes: Float[np.ndarray, "n units"]) -> Self:
        """Learn the principal components and the rotation of codes."""
        codes = finite_codes(codes)
        if self.n_bits > codes.shape[1]:
            units = pluralize(codes.shape[1], "unit")
            raise InputError(f"n_bits={self.n_bits}: the codes have {units}; ITQ gives at most one bit for each unit")
        self.mean_ = codes.mean(0)
        self.components_ = _principal_components(codes - self.mean_, self.n_bits)
        projected = (codes - self.mean_) @ self.components_
        rotation = random_rotation(self.n_bits, torch.Generator().manual_seed(self.random_state))
        turned = projected @ rotation
        self.objective_ = [_error(turned)]
        for _ in range(self.n_iterations):
            left, _, right = np.linalg.svd(projected.T @ _signs(turned))
            rotation = left @ right
            turned = projected @ rotation
            self.objective_.append(_error(turned))
        self.rotation_ = rotation
        return self

    @property
    def weights_(self) -> Float[np.ndarray, "units bits"]:
        """The map W R from centred codes to the numbers whose signs are the bits."""
        return self.components_ @ self.rotation_

    def transform(self, codes: Float[np.ndarray, "n units"]) -> UInt8[np.ndarray, "n bits"]:
        """Return the bits of codes, 0 or 1."""
        return ((np.asarray(codes, np.float64) - self.mean_) @ self.weights_ > 0).astype(np.uint8)


def finite_codes(codes: Float[np.ndarray, "n units"]) -> Float[np.ndarray, "n units"]:
    """Return codes in float64.

    Raises:
        InputError: fewer than two codes, or one that is not finite.
    """
    codes = np.asarray(codes, np.float64)
    if len(codes) < 2:
        raise InputError(f"{pluralize(len(codes), 'code')}: give at least two, which determine the bits")
    if not np.isfinite(codes).all():
        row, unit = np.argwhere(~np.isfinite(codes))[0]
        raise InputError(f"the codes hold {codes[row, unit]} at row {row}, unit {unit}; codes must be finite")
    return codes


def random_rotation(size: int, generator: torch.Generator) -> Float[np.ndarray, "size size"]:
    """Return an orthogonal matrix, uniformly distributed.

    Example:
        >>> rotation = random_rotation(3, torch.Generator().manual_seed(0))
        >>> np.allclose(rotation @ rotation.T, np.eye(3))
        True
    """
    q, r = np.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64).numpy())
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def _principal_components(centred: Float[np.ndarray, "n units"], size: int) -> Float[np.ndarray, "units size"]:
    """Return the first principal components; of each, the entry of the largest magnitude is positive."""
    components = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :size]
    largest = components[np.abs(components).argmax(0), np.arange(size)]
    return components * np.where(largest < 0, -1.0, 1.0)


def _signs(values: Float[np.ndarray, "n bits"]) -> Float[np.ndarray, "n bits"]:
    return np.where(values > 0, 1.0, -1.0)


def _error(turned: Float[np.ndarray, "n bits"]) -> float:
    """Return J of the projections after the rotation."""
    return float(((np.abs(turned) - 1) ** 2).sum() / len(turned))
