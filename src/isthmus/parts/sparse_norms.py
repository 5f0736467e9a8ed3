"""Norms of sparse codes: L1, groups, and topographic neighbourhoods, with their proximal steps and dual problems.

    min_h  1/2 ||x - D'h||^2 + alpha Omega(h)

A norm is a value, which a `SparseProblem` holds. The solvers in `isthmus.parts.sparse_inference` use three methods of
it: `value`, `shrink` for a step, and `feasible` for the duality gap.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from isthmus.errors import InputError
from isthmus.parts.layers import check_count, check_positive, check_sizes


class SparseNorm(ABC):
    """Base class of norms Omega(h) of a code.

    All methods take tensors h (*draws, units); those of the solvers take (batch, units).
    """

    non_negative: bool = False
    """True if codes have the constraint h >= 0."""

    @abstractmethod
    def check(self, code_size: int) -> None:
        """Check that the norm applies to a code.

        Raises:
            InputError: the code has a size that the norm does not fit.
        """

    @abstractmethod
    def value(self, h: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws"]:
        """Return Omega(h); it can be differentiated."""

    @abstractmethod
    def shrink(
        self, v: Float[Tensor, "batch units"], by: Tensor, near: Float[Tensor, "batch units"]
    ) -> Float[Tensor, "batch units"]:
        """Return a code at which 1/2 ||h - v||^2 + by Omega(h) is at most its value at `near`.

        Where the minimum has a closed form, it is the minimum and does not depend on `near`.
        """

    @abstractmethod
    def feasible(
        self, h: Float[Tensor, "batch units"], g: Float[Tensor, "batch units"], alpha: float, largest: Tensor
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        r"""Return a point s g of the dual problem, and the part of the duality gap that is due to the norm.

            part = alpha Omega(h) + (alpha Omega)*(s g) - s h'g >= 0

        (alpha Omega)* is the convex conjugate, or an upper bound of it that is exact at the minimum.

        Args:
            h: code.
            g: correlations of the residual with the atoms.
            alpha: weight of the norm.
            largest: the s that would be best without the norm; the result is at most this.

        Returns:
            s, which is 0 or more, and the part.
        """


class ProximalNorm(SparseNorm):
    """Base class of norms whose proximal operator and dual norm have a closed form."""

    @abstractmethod
    def prox(self, h: Float[Tensor, "*draws units"], by: Tensor | float) -> Float[Tensor, "*draws units"]:
        """Return the proximal operator argmin_z 1/2 ||z - h||^2 + by Omega(z)."""

    @abstractmethod
    def dual(self, g: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws"]:
        """Return the dual norm max { g'h : Omega(h) <= 1 }."""

    @abstractmethod
    def excess(
        self,
        h: Float[Tensor, "batch units"],
        g: Float[Tensor, "batch units"],
        alpha: float,
        s: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """Return alpha Omega(h) - s h'g, as a sum of terms that are not negative where s dual(g) <= alpha."""

    def shrink(
        self, v: Float[Tensor, "batch units"], by: Tensor, near: Float[Tensor, "batch units"]
    ) -> Float[Tensor, "batch units"]:
        """Return the proximal operator of by Omega."""
        return self.prox(v, by)

    def feasible(
        self, h: Float[Tensor, "batch units"], g: Float[Tensor, "batch units"], alpha: float, largest: Tensor
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Return s = min(largest, alpha / dual(g)), and alpha Omega(h) - s h'g; the conjugate at s g is 0."""
        bound = alpha / self.dual(g).clamp_min(torch.finfo(g.dtype).tiny)
        s = torch.minimum(largest, bound).clamp_min(0.0)
        return s, self.excess(h, g, alpha, s)


@dataclass(frozen=True)
class L1Norm(ProximalNorm):
    r"""L1 norm Omega(h) = sum_j |h_j|, optionally with the constraint h >= 0.

        prox:  sign(h_j) max(|h_j| - by, 0);  with h >= 0 max(h_j - by, 0)
        dual:  max_j |g_j|;  with h >= 0 max_j g_j

    Attributes:
        non_negative: True for the constraint h >= 0.

    Source: Tibshirani, Regression shrinkage and selection via the lasso (1996).

    Example:
        >>> L1Norm().prox(torch.tensor([[3.0, -0.5]]), 1.0), L1Norm().dual(torch.tensor([[3.0, -4.0]]))
        (tensor([[2., 0.]]), tensor([4.]))
    """

    non_negative: bool = False

    def check(self, code_size: int) -> None:
        """Check nothing: the norm applies to codes of any size."""

    def value(self, h: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws"]:
        """Return the sum of absolute values."""
        return h.abs().sum(-1)

    def prox(self, h: Float[Tensor, "*draws units"], by: Tensor | float) -> Float[Tensor, "*draws units"]:
        """Return h after soft thresholding."""
        if self.non_negative:
            return (h - by).clamp_min(0.0)
        limit: Any = by  # a number or a tensor; torch has one signature for each
        return h - h.clamp(-limit, limit)

    def dual(self, g: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws"]:
        """Return the largest absolute value; with h >= 0 the largest value, which may be negative."""
        return (g if self.non_negative else g.abs()).amax(-1)

    def excess(
        self,
        h: Float[Tensor, "batch units"],
        g: Float[Tensor, "batch units"],
        alpha: float,
        s: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """Return the sum of alpha |h_j| - s h_j g_j."""
        return torch.addcmul(alpha * h.abs(), s[:, None] * h, g, value=-1.0).sum(1)


@dataclass(frozen=True)
class GroupNorm(ProximalNorm):
    r"""Norm Omega(h) = sum_k ||h_k||_2 over groups of neighbouring units: a group is active or zero as a whole.

        h_k = (h_(k size), ..., h_(k size + size - 1))
        prox:  h_k max(1 - by / ||h_k||, 0)
        dual:  max_k ||g_k||

    Attributes:
        size: units of a group.

    Raises:
        InputError: the size is not a whole number of at least 1, or does not divide the code (from `check`).

    Source: Yuan & Lin, Model selection and estimation in regression with grouped variables (2006).

    Example:
        >>> norm, h = GroupNorm(2), torch.tensor([[3.0, 4.0, 0.1, 0.1]])
        >>> norm.prox(h, 1.0), norm.dual(h)
        (tensor([[2.4000, 3.2000, 0.0000, 0.0000]]), tensor([5.]))
    """

    size: int

    def __post_init__(self) -> None:
        check_count("size", self.size)

    def check(self, code_size: int) -> None:
        """Check that the groups divide the code."""
        if code_size % self.size:
            raise InputError(
                f"groups of {self.size} units do not divide a code of {code_size} units; give a size that divides "
                f"{code_size}"
            )

    def value(self, h: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws"]:
        """Return the sum of the norms of the groups."""
        return self._grouped(h).norm(dim=-1).sum(-1)

    def prox(self, h: Float[Tensor, "*draws units"], by: Tensor | float) -> Float[Tensor, "*draws units"]:
        """Return h after block soft thresholding."""
        groups = self._grouped(h)
        norms = groups.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(h.dtype).tiny)
        by = by[..., None] if isinstance(by, Tensor) and by.ndim else by  # one for each row
        return (groups * (1.0 - by / norms).clamp_min(0.0)).flatten(-2)

    def dual(self, g: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws"]:
        """Return the largest norm of a group."""
        return self._grouped(g).norm(dim=-1).amax(-1)

    def excess(
        self,
        h: Float[Tensor, "batch units"],
        g: Float[Tensor, "batch units"],
        alpha: float,
        s: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """Return the sum of alpha ||h_k|| - s h_k'g_k."""
        return (alpha * self._grouped(h).norm(dim=-1) - s[:, None] * self._grouped(h * g).sum(-1)).sum(-1)

    def _grouped(self, h: Tensor) -> Float[Tensor, "*draws groups size"]:
        return h.unflatten(-1, (-1, self.size))


@dataclass(frozen=True)
class TopographicNorm(SparseNorm):
    r"""Smooth norm over overlapping neighbourhoods on a ring or a torus: neighbouring units are active together.

        Omega(h) = sum_i e_i(h),   e_i(h) = sqrt(epsilon^2 + sum_j w_ij h_j^2)

    The weights w_ij are a Gaussian window around unit i, with sum 1; its standard deviation is (radius + 1) / 2 units
    and it ends `radius` units away in each direction. Codes have small values in place of zeros: the gradient of Omega
    is q_j(h) h_j, with q_j = sum_i w_ij / e_i.

    The norm has no proximal operator in closed form. `shrink` majorises it at a code z, where the square root is below
    its tangent, and minimises the majorant:

        Omega(h) <= Omega(z) + 1/2 sum_j q_j(z) (h_j^2 - z_j^2),   h_j = v_j / (1 + by q_j(z))

    The dual problem has a feasible point for each h. With v_ij = sqrt(w_ij) g_j / (alpha q_j e_i), the sum over i of
    sqrt(w_ij) v_ij is g_j / alpha, and hence

        (alpha Omega)*(s g) <= -alpha epsilon sum_i sqrt(1 - s^2 ||v_i||^2),   s <= 1 / max_i ||v_i||

    At the minimum g_j = alpha q_j h_j and s = 1, and the bound is exact: the duality gap goes to 0.

    Attributes:
        shape: units of the ring, (n,), or rows and columns of the torus; units are in row-major order.
        radius: distance in units at which the window ends.
        epsilon: smoothing, in units of the code; above 0.

    Raises:
        InputError: the shape is not one or two counts, the window is larger than the map, epsilon is not above 0; the
            map has not as many units as the code (from `check`).

    Source: Kavukcuoglu, Ranzato, Fergus & LeCun, Learning invariant features through topographic filter maps (2009),
    equation 3; Hunter & Lange, A tutorial on MM algorithms (2004), section 3; the dual point is that of Rockafellar,
    Convex analysis (1970), theorem 16.3, for a sum of functions of linear maps.

    Example:
        >>> norm = TopographicNorm((4, 4), radius=1, epsilon=0.1)
        >>> together, apart = torch.zeros(16), torch.zeros(16)
        >>> together[[5, 6]], apart[[5, 15]] = 1.0, 1.0
        >>> bool(norm.value(together) < norm.value(apart))
        True
    """

    shape: tuple[int, ...]
    radius: int = 1
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        check_sizes("shape", self.shape)
        if len(self.shape) not in (1, 2):
            raise InputError(f"shape={self.shape!r}: give the units of a ring, (n,), or of a torus, (rows, columns)")
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        check_count("radius", self.radius)
        if 2 * self.radius + 1 > min(self.shape):
            raise InputError(
                f"radius={self.radius}: its window of {2 * self.radius + 1} units is larger than the map "
                f"{self.shape}; give a smaller radius or a larger map"
            )
        check_positive("epsilon", self.epsilon)

    def check(self, code_size: int) -> None:
        """Check that the map has as many units as the code."""
        if math.prod(self.shape) != code_size:
            raise InputError(
                f"a map of shape {self.shape} has {math.prod(self.shape)} units, and the code has {code_size}; give a "
                f"shape of {code_size} units"
            )

    def value(self, h: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws"]:
        """Return the sum of the smoothed norms of the neighbourhoods."""
        return self.energies(h).sum(-1)

    def gradient(self, h: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws units"]:
        """Return the derivative of the value by h."""
        return h * self._smoothed(self.energies(h).reciprocal())

    def energies(self, h: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws units"]:
        """Return e_i(h): the activity of the neighbourhood of each unit, an invariant feature."""
        return (self.epsilon**2 + self._smoothed(h.square())).sqrt()

    def shrink(
        self, v: Float[Tensor, "batch units"], by: Tensor, near: Float[Tensor, "batch units"]
    ) -> Float[Tensor, "batch units"]:
        """Return the minimum of the majorant at `near`."""
        return v / (1.0 + by * self._smoothed(self.energies(near).reciprocal()))

    def feasible(
        self, h: Float[Tensor, "batch units"], g: Float[Tensor, "batch units"], alpha: float, largest: Tensor
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """Return s = min(largest, 1, 1 / max_i ||v_i||), and the bound of the part of the gap."""
        energies = self.energies(h)
        decomposed = g / (alpha * self._smoothed(energies.reciprocal()))
        squares = self._smoothed(decomposed.square()) / energies.square()
        s = squares.amax(1).clamp_min(1.0).rsqrt().minimum(largest).clamp_min(0.0)
        conjugate = self.epsilon * (1.0 - s.square()[:, None] * squares).clamp_min(0.0).sqrt()
        inner = s[:, None] * self._smoothed(decomposed * h) / energies
        return s, alpha * (energies - conjugate - inner).clamp_min(0.0).sum(1)

    def _smoothed(self, values: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws units"]:
        """Return the weighted sums over the neighbourhoods: circular convolutions with the window, axis by axis."""
        field = values.unflatten(-1, self.shape)
        for axis in range(-len(self.shape), 0):
            field = _weighted_sum((weight, field.roll(offset, axis)) for offset, weight in self._window())
        return field.flatten(-len(self.shape))

    def _window(self) -> list[tuple[int, float]]:
        """Return the offsets of the window along an axis, and their weights."""
        offsets = range(-self.radius, self.radius + 1)
        weights = [math.exp(-2.0 * (offset / (self.radius + 1.0)) ** 2) for offset in offsets]
        return [(offset, weight / sum(weights)) for offset, weight in zip(offsets, weights, strict=True)]


def _weighted_sum(terms: Iterable[tuple[float, Tensor]]) -> Tensor:
    """Return the sum of tensors times weights."""
    weights, tensors = zip(*terms, strict=True)
    total = weights[0] * tensors[0]
    for weight, tensor in zip(weights[1:], tensors[1:], strict=True):
        total = torch.add(total, tensor, alpha=weight)
    return total
