"""What is left of rows beside their reconstruction, where there is something to compare with."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

ROUNDING = 1e-12
"""Share of the squares of the rows that float32 may leave over where nothing is left over: (8 eps)^2, where 784 columns
left 3e-14."""


def squared_residuals(
    x: Float[Tensor, "*batch columns"],
    r: Float[Tensor, "*batch columns"],
    mask: Float[Tensor, "*batch columns"] | None = None,
) -> Float[Tensor, "*batch columns"]:
    """(x - r)^2 of each entry that was observed (mask 1), and 0 of one that was missing, whatever stands there.

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
    """How many entries of each column were observed: all of them where there is no mask."""
    return len(x) if mask is None else mask.double().sum(0)


def is_zero_error(error: float, squares: float) -> bool:
    """Whether a squared error is zero up to rounding, beside the squares of the rows themselves about zero.

    Principal components leave none where they are as many as the directions in which rows vary: nothing can then be
    told as a multiple of what they leave.

    Example:
        >>> is_zero_error(2.5e-13, 15.0), is_zero_error(2.5e-3, 15.0), is_zero_error(0.0, 0.0)
        (True, False, True)
    """
    return error <= ROUNDING * squares
