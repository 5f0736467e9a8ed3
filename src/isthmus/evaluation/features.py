"""Interpretation of the units of a code: filters, atoms, effects and activity.

filter       the weights of one unit of the encoder's first layer
atom         the contribution of one unit to the output of a decoder that is linear in the code
effect       the change of the mean code's reconstruction when one unit goes from its smallest to its largest value
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.filter_maps import FilterEncoder
from isthmus.parts.mean_field import MeanField

CODES_AT_ONCE = 256
"""Number of codes in one batch of the decoder."""

LINEARITY_TOLERANCE = 1e-4
"""Largest relative deviation from additivity of a linear decoder; float32 gives about 1e-6."""

Decode = Callable[[Float[Tensor, "batch code_size"]], Float[Tensor, "batch outputs"]]


@dataclass(frozen=True)
class Activity:
    """Activity of the units of a code over some rows; a unit is active in a row if it is not exactly zero.

    Attributes:
        n_rows: the number of rows; a unit that is active less often than once in n_rows may appear dead.
        rates: the fraction of rows in which each unit is active, (units,).
        mean: of each unit, (units,).
        mean_square: of each unit, (units,).
        smallest, largest: of each unit, (units,).
    """

    n_rows: int
    rates: Float[np.ndarray, " units"]
    mean: Float[np.ndarray, " units"]
    mean_square: Float[np.ndarray, " units"]
    smallest: Float[np.ndarray, " units"]
    largest: Float[np.ndarray, " units"]

    @property
    def dead(self) -> Bool[np.ndarray, " units"]:
        """True for each unit that is active in no row, (units,)."""
        return self.rates == 0

    @property
    def active_per_row(self) -> float:
        """The mean number of active units per row: the L0 norm of the code."""
        return float(self.rates.sum())

    @property
    def zero_share(self) -> float:
        """The fraction of the entries of all codes that are exactly zero."""
        return float(1 - self.rates.mean())

    @property
    def most_used(self) -> Int[np.ndarray, " units"]:
        """Indices of the units that are not dead, by decreasing rate, then by decreasing variance."""
        spread = self.mean_square - np.square(self.mean)
        order = np.lexsort((-spread, -self.rates))
        return order[~self.dead[order]]


def activity(codes: Iterable[Float[Tensor, "block units"]]) -> Activity:
    """Compute rates, means and ranges of the units of a code in one pass over blocks of rows.

    Raises:
        InputError: there are no rows.

    Example:
        >>> found = activity([torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[0.0, 4.0, 1.0]])])
        >>> found.rates.tolist(), found.dead.tolist(), found.active_per_row, found.zero_share
        ([0.0, 1.0, 0.5], [True, False, False], 1.5, 0.5)
    """
    n_rows, sums = 0, torch.zeros(())
    low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    for block in codes:
        h = block.detach().cpu().double()
        if len(h):
            n_rows += len(h)
            sums = sums + torch.stack([(h != 0).double().sum(0), h.sum(0), h.square().sum(0)])
            low, high = torch.minimum(low, h.amin(0)), torch.maximum(high, h.amax(0))
    if n_rows == 0:
        raise InputError("there are no rows to measure the activity of units on; pass at least one")
    rates, mean, mean_square = (sums / n_rows).numpy()
    return Activity(n_rows, rates, mean, mean_square, low.numpy(), high.numpy())


def top_activating_rows(activations: Float[np.ndarray, " rows"], n: int) -> Int[np.ndarray, " strongest"]:
    """Return the indices of the n rows with the largest activations, the largest first; ties keep the row order.

    Raises:
        InputError: n is below 1.

    Example:
        >>> top_activating_rows(np.array([0.0, 3.0, -5.0, 3.0]), 2).tolist()
        [1, 3]
    """
    if n < 1:
        raise InputError(f"n={n}: n must be at least 1")
    return np.argsort(-activations, kind="stable")[:n]


def first_layer_weights(encoder: nn.Module) -> tuple[np.ndarray, bool] | None:
    """Return the weights of the encoder's first layer, float64, (units, ...), and True if they are convolution kernels.

    The result is None if the encoder has neither an affine layer nor a convolution.
    """
    for weight, is_kernel in _layer_weights(encoder):
        return weight.detach().cpu().double().numpy(), is_kernel
    return None


def n_weight_layers(encoder: nn.Module) -> int:
    """Count the affine layers and convolutions of an encoder; with one, its filters belong to the units of the code."""
    return len(list(_layer_weights(encoder)))


def _layer_weights(encoder: nn.Module) -> Iterator[tuple[Tensor, bool]]:
    """Yield the weights of each layer in order, and True if they are convolution kernels."""
    for layer in encoder.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | FilterEncoder):
            yield layer.weight, not isinstance(layer, nn.Linear)
        elif isinstance(layer, MeanField) and layer.own is None:
            yield from ((weight, False) for weight in layer.energy.weights)


def as_images(
    weights: Float[np.ndarray, "units columns"], image_shape: tuple[int, int, int] | None
) -> Float[np.ndarray, "units ..."]:
    """Reshape rows to images (units, h, w), or (units, h, w, c) for several channels; without a shape return them.

    Example:
        >>> as_images(np.zeros((5, 12)), (1, 3, 4)).shape, as_images(np.zeros((5, 12)), (2, 2, 3)).shape
        ((5, 3, 4), (5, 2, 3, 2))
    """
    if image_shape is None:
        return weights
    images = weights.reshape(len(weights), *image_shape)
    return images[:, 0] if image_shape[0] == 1 else np.moveaxis(images, 1, -1)


def as_kernels(weights: Float[np.ndarray, "maps channels *kernel"]) -> Float[np.ndarray, "maps ..."]:
    """Return kernels with the channels last: (maps, h, w, c), of one channel (maps, h, w), of series without height.

    Example:
        >>> as_kernels(np.zeros((5, 1, 7, 7))).shape, as_kernels(np.zeros((5, 3, 7, 7))).shape
        ((5, 7, 7), (5, 7, 7, 3))
        >>> as_kernels(np.zeros((5, 3, 1, 9))).shape
        (5, 9, 3)
    """
    weights = weights[:, :, 0] if weights.ndim == 4 and weights.shape[2] == 1 else weights
    return weights[:, 0] if weights.shape[1] == 1 else np.moveaxis(weights, 1, -1)


@torch.no_grad()
def is_linear(decode: Decode, code_size: int, like: Tensor | None = None) -> bool:
    """Return True if g(u + v) - g(u) - g(v) + g(0) = 0 for random codes near zero and far from zero.

    The test uses only the outputs of the decoder, so it holds for any architecture. The seed is fixed.

    Args:
        decode: g, from codes to outputs.
        code_size: the number of units of the code.
        like: a tensor with the device and dtype of the decoder; None means float32 on the CPU.
    """
    generator = torch.Generator().manual_seed(0)
    like = torch.empty(0) if like is None else like
    for scale in (1.0, 30.0):
        u, v = (scale * torch.randn(8, code_size, generator=generator).to(like) for _ in range(2))
        origin = decode(torch.zeros_like(u))
        both, one, other = (decode(codes) - origin for codes in (u + v, u, v))
        varies = float(torch.stack([both, one, other]).abs().max())
        rounding = 1e-6 * float(origin.abs().max())
        if not float((both - one - other).abs().max()) <= LINEARITY_TOLERANCE * varies + rounding:
            return False
    return True


@torch.no_grad()
def atoms(decode: Decode, code_size: int, like: Tensor | None = None) -> Float[np.ndarray, "code_size outputs"]:
    """Compute g(e_j) - g(0) for each unit j in float32: the dictionary of a decoder that is linear in the code.

    The arguments are those of `is_linear`, which tests if the decoder is linear.
    """
    like = torch.empty(0) if like is None else like
    origin = decode(torch.zeros(1, code_size).to(like))
    parts = []
    for units in torch.arange(code_size).split(CODES_AT_ONCE):
        codes = torch.nn.functional.one_hot(units, code_size).to(like)
        parts.append((decode(codes) - origin).cpu().numpy())
    return np.concatenate(parts).astype(np.float32, copy=False)


def effects(
    decode_mean: Callable[[Float[np.ndarray, "batch code_size"]], Float[np.ndarray, "batch columns"]],
    seen: Activity,
    units: Int[np.ndarray, " units"],
) -> Float[np.ndarray, "units columns"]:
    r"""Compute the change of the mean code's reconstruction when one unit goes from its smallest to its largest value.

        d_j = E[x | h = m + (max_j - m_j) e_j] - E[x | h = m + (min_j - m_j) e_j],   m = the mean code

    If the mean of p_dec is linear in the code, d_j is the atom of the unit times its range. Otherwise d_j describes the
    effect on an average row, and the effect on other rows may differ.

    Args:
        decode_mean: E[x | h] in model space.
        seen: the activity of the code over some rows.
        units: the indices of the units.

    Returns:
        (units, columns), in model space.
    """
    parts = []
    for some in np.array_split(units, max(1, -(-len(units) // CODES_AT_ONCE))):
        codes = np.tile(seen.mean.astype(np.float32), (2, len(some), 1))
        codes[0, np.arange(len(some)), some] = seen.largest[some]
        codes[1, np.arange(len(some)), some] = seen.smallest[some]
        parts.append(decode_mean(codes[0]) - decode_mean(codes[1]))
    return np.concatenate(parts)
