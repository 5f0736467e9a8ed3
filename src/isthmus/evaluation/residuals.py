"""Squared residuals of reconstructions over the observed entries."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

ROUNDING = 1e-12
"""Largest squared error, relative to the squared norm of the rows, that is attributed to rounding in float32: (8
eps)^2. An exact reconstruction of 784 columns had 3e-14."""


def squared_residuals(
    x: Float[Tensor, "*batch columns"],
    r: Float[Tensor, "*batch columns"],
    mask: Float[Tensor, "*batch columns"] | None = None,
) -> Float[Tensor, "*batch columns"]:
    """Compute (x - r)^2 of each observed entry (mask 1); the result is 0 for each missing entry, whatever its value.

    Example:
        >>> import torch
        >>> x, r = torch.tensor([[1.0, float("nan")]]), torch.tensor([[3.0, 5.0]])
        >>> squared_residuals(x, r, torch.tensor([[1.0, 0.0]])).tolist()
        [[4.0, 0.0]]
    """
    squares = (x - r).square()
    return squares if mask is None else squares.masked_fill(mask == 0, 0.0)


def count_observed(
    x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None
) -> Float[Tensor, " columns"] | int:
    """Count the observed entries of each column: all entries if there is no mask."""
    return len(x) if mask is None else mask.double().sum(0)


def is_zero_error(error: float, squares: float) -> bool:
    """Return True if a squared error is zero up to rounding, relative to the squared norm `squares` of the rows.

    The error of a PCA with as many components as the data has dimensions is zero. A ratio to that error means nothing.

    Example:
        >>> is_zero_error(2.5e-13, 15.0), is_zero_error(2.5e-3, 15.0), is_zero_error(0.0, 0.0)
        (True, False, True)
    """
    return error <= ROUNDING * squares
