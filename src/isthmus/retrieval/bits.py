"""Bits: packed eight to a byte, counted, and computed from the codes of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.retrieval.itq import ITQ, finite_codes

DEFAULT_BITS = 64
"""Bits of the codes of a model whose codes are real numbers."""

_ONES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)
"""The number of bits of each byte that are 1."""


def packed(bits: UInt8[np.ndarray, "n bits"]) -> UInt8[np.ndarray, "n bytes"]:
    """Return bits eight to a byte, the first one highest; the last byte is filled with zeros.

    Example:
        >>> packed(np.array([[1, 0, 0, 0, 0, 0, 0, 1, 1]], np.uint8)).tolist()
        [[129, 128]]
    """
    return np.packbits(np.asarray(bits, np.uint8), axis=1)


def unpacked(codes: UInt8[np.ndarray, "n bytes"], n_bits: int) -> UInt8[np.ndarray, "n bits"]:
    """Return the bits of packed codes.

    Example:
        >>> unpacked(np.array([[129, 128]], np.uint8), 9).tolist()
        [[1, 0, 0, 0, 0, 0, 0, 1, 1]]
    """
    return np.unpackbits(codes, axis=1, count=n_bits)


def hamming(a: UInt8[np.ndarray, "*n bytes"], b: UInt8[np.ndarray, "*n bytes"]) -> Int[np.ndarray, "*n"]:
    """Return the numbers of bits in which packed codes differ.

    Example:
        >>> hamming(np.array([3], np.uint8), np.array([6], np.uint8))
        np.int64(2)
    """
    return _ONES[a ^ b].sum(-1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class CodeBits:
    """The bits of the codes of a model: the codes themselves if they are bits, else signs of linear maps of them.

        bit j = 1  where  (h - mean) w_j > t_j

    The first bits are those of `ITQ`, one for each unit of the code. Further bits are random hyperplanes: w_j is a
    random direction, and the thresholds t_j are quantiles of the projections of the codes, evenly spaced from bit to
    bit, so that the distance of codes of few units is counted in many bits.

    Attributes:
        n_bits: number of bits.
        mean, weights, thresholds: (units,), (units, n_bits), (n_bits,); None of codes that are bits.

    Source: Gong et al., Iterative quantization (2013); Charikar, Similarity estimation techniques (2002), section 3,
        for random hyperplanes.

    Example:
        >>> codes = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
        >>> learned = CodeBits.learn(codes, 16)
        >>> learned.packed(codes).shape, bool((learned.bits(codes)[:, :2] == ITQ(2).fit(codes).transform(codes)).all())
        ((100, 2), True)
    """

    n_bits: int
    mean: Float[np.ndarray, " units"] | None = None
    weights: Float[np.ndarray, "units bits"] | None = None
    thresholds: Float[np.ndarray, " bits"] | None = None

    @classmethod
    def learn(cls, codes: np.ndarray, n_bits: int | None = None, *, random_state: int = 0) -> CodeBits:
        """Return the map from codes to bits.

        Args:
            codes: codes of a model, (n, units); bits are of type uint8.
            n_bits: number of bits; None is 64, or the number of units of codes that are bits.
            random_state: seed of the first rotation of ITQ and of the hyperplanes.

        Raises:
            InputError: fewer than one bit; another number of bits than that of codes that are bits; what `ITQ` refuses.
        """
        if n_bits is not None and (not isinstance(n_bits, int | np.integer) or n_bits < 1):
            raise InputError(f"n_bits={n_bits!r}: it must be a whole number of at least 1")
        if are_bits(codes):
            if n_bits not in (None, codes.shape[1]):
                raise InputError(f"n_bits={n_bits}: the codes of this model are {codes.shape[1]} bits; omit n_bits")
            return cls(codes.shape[1])
        n_bits, codes = DEFAULT_BITS if n_bits is None else n_bits, finite_codes(codes)
        rotated = ITQ(min(n_bits, codes.shape[1]), random_state=random_state).fit(codes)
        weights, thresholds = rotated.weights_, np.zeros(rotated.n_bits)
        if n_bits > rotated.n_bits:
            planes = _hyperplanes(codes - rotated.mean_, n_bits - rotated.n_bits, random_state)
            weights, thresholds = np.hstack([weights, planes[0]]), np.hstack([thresholds, planes[1]])
        return cls(n_bits, rotated.mean_, weights, thresholds)

    def bits(self, codes: np.ndarray) -> UInt8[np.ndarray, "n bits"]:
        """Return the bits of codes, 0 or 1."""
        if self.mean is None or self.weights is None or self.thresholds is None:
            return np.asarray(codes, np.uint8)
        # float64, so that the bits of a code do not depend on the other codes of a product of matrices
        return ((np.asarray(codes, np.float64) - self.mean) @ self.weights > self.thresholds).astype(np.uint8)

    def packed(self, codes: np.ndarray) -> UInt8[np.ndarray, "n bytes"]:
        """Return the bits of codes, eight to a byte."""
        return packed(self.bits(codes))

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """The arrays by name; none of codes that are bits."""
        found = {"mean": self.mean, "weights": self.weights, "thresholds": self.thresholds}
        return {name: array for name, array in found.items() if array is not None}


def are_bits(codes: np.ndarray) -> bool:
    """Return whether the codes of a model are bits: zeros and ones of type uint8."""
    return codes.dtype == np.uint8


def _hyperplanes(
    centred: Float[np.ndarray, "n units"], size: int, random_state: int
) -> tuple[Float[np.ndarray, "units size"], Float[np.ndarray, " size"]]:
    """Return random directions, and thresholds at evenly spaced quantiles of the projections in random order."""
    generator = torch.Generator().manual_seed(random_state + 1)
    weights = torch.randn(centred.shape[1], size, generator=generator, dtype=torch.float64).numpy()
    weights /= np.linalg.norm(weights, axis=0)
    levels = (torch.randperm(size, generator=generator).numpy() + 0.5) / size
    projected = centred @ weights
    return weights, np.array([np.quantile(projected[:, j], level) for j, level in enumerate(levels)])


def hash_codes(model: BaseAutoencoder, X: Any, bits: int | None = None, *, training: Any = None) -> np.ndarray:
    """Return the bits of the codes of rows, (n, bits), uint8: 0 or 1.

    Codes that are bits are returned as they are. Others get the signs of an ITQ rotation, and bits beyond the number
    of units those of random hyperplanes (see `isthmus.retrieval.bits.CodeBits`).

    Args:
        model: a fitted autoencoder of any kind.
        X: rows.
        bits: number of bits; None is 64, or the number of units of codes that are bits.
        training: rows whose codes determine the rotation; None is `X`. Bits are compared among rows of one rotation.

    Raises:
        InputError: another number of bits than that of codes that are bits; rows that the model refuses.

    Source: Gong, Lazebnik, Gordo & Perronnin, Iterative quantization (2013).

    Example:
        >>> from isthmus import LinearAutoencoder, hash_codes
        >>> X = np.random.default_rng(0).normal(size=(50, 8))
        >>> model = LinearAutoencoder(code_size=4, max_epochs=1, random_state=0).fit(X)
        >>> hash_codes(model, X[:3], 4, training=X).shape
        (3, 4)
    """
    codes = np.asarray(model.transform(X))
    learned = CodeBits.learn(codes if training is None else np.asarray(model.transform(training)), bits)
    return learned.bits(codes)
