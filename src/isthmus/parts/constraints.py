"""What is projected back after each step. (Tied weights are shared, not projected.)"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Coder


class Constraint(ABC):
    """A set that the parameters are kept in: `project_gradient` after backward, `project` after each step.

    Both change nothing when repeated.
    """

    @abstractmethod
    def check(self, coder: Coder) -> None:
        """Refuse a model that has nothing to constrain.

        Raises:
            InputError: with what was found.
        """

    @abstractmethod
    def project_gradient(self, coder: Coder) -> None:
        """Take away the part of the gradient that `project` would undo."""

    @abstractmethod
    def project(self, coder: Coder) -> None:
        """Put the parameters back into the set."""


class UnitColumns(Constraint):
    r"""||d_j|| = 1 for every column d_j of a linear decoder r = D h + c.

        project:           d_j <- d_j / ||d_j||
        project_gradient:  g_j <- g_j - (g_j . d_j) d_j / ||d_j||^2

    Without it a penalty on the code is avoided by small codes and large columns. The gradient along the column would
    only be undone by the projection, and would enter the optimiser's moments; so it is taken away first. A column
    of zeros has no direction and is left as it is.

    Raises:
        InputError: (`check`, when the model is made) the decoder is not one affine map.

    Source: Olshausen & Field (1997); Bricken et al. (2023), Towards monosemanticity, "Advice for training sparse
    autoencoders"; Gao et al. (2024), appendix A.

    Example:
        >>> decoder = MLP((2, 3), generator=torch.Generator().manual_seed(0))
        >>> normalise(dictionary_weight(decoder))
        >>> dictionary_weight(decoder).detach().norm(dim=0).round(decimals=3)
        tensor([1., 1.])
    """

    def check(self, coder: Coder) -> None:
        """Refuse a decoder whose atoms are not the columns of one matrix."""
        if dictionary_weight(coder.decoder) is None:
            raise InputError(
                "unit columns need a linear decoder, whose one weight is the dictionary; this one is a "
                f"{describe(coder.decoder)}: leave hidden_sizes empty and tied=False, or unit_columns=False"
            )

    def project_gradient(self, coder: Coder) -> None:
        """Leave of each column's gradient what turns the column."""
        weight = dictionary_weight(coder.decoder)
        if weight is not None and weight.grad is not None:
            gradient, columns = weight.grad, weight.detach()
            along = (gradient * columns).sum(0) / columns.square().sum(0).clamp_min(torch.finfo(weight.dtype).tiny)
            gradient.addcmul_(columns, along, value=-1.0)

    def project(self, coder: Coder) -> None:
        """Divide each column by its norm."""
        weight = dictionary_weight(coder.decoder)
        if weight is not None:
            normalise(weight)


def dictionary_weight(decoder: object) -> Tensor | None:
    """D, (columns, code_size), of a decoder r = D h + c; None where the decoder is not one affine map."""
    if isinstance(decoder, MLP) and len(decoder.affine_maps) == 1:
        return decoder.affine_maps[0].weight
    return None


@torch.no_grad()
def normalise(columns: Tensor) -> None:
    """Divide the columns of a matrix by their norms, in place; columns of zeros stay."""
    norms = columns.norm(dim=0)
    columns.div_(torch.where(norms > 0.0, norms, 1.0))


def describe(decoder: object) -> str:
    """What a decoder is, in words."""
    if isinstance(decoder, MLP):
        return f"network of {len(decoder.affine_maps)} affine maps"
    return type(decoder).__name__ if isinstance(decoder, nn.Module) else repr(decoder)
