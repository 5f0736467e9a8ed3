"""Constraints on the parameters, enforced by projection after each step.

Tied weights are shared tensors and need no projection.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.filter_maps import FilterDecoder
from isthmus.parts.networks import MLP


class Constraint(ABC):
    """Base class of constraints: `project_gradient` runs after backward, `project` after each optimiser step.

    Both are idempotent.
    """

    @abstractmethod
    def check(self, coder: Coder) -> None:
        """Check that the model has the parameters that the constraint needs.

        Raises:
            InputError: the constraint does not apply to the model.
        """

    @abstractmethod
    def project_gradient(self, coder: Coder) -> None:
        """Remove the part of the gradient that `project` would undo."""

    @abstractmethod
    def project(self, coder: Coder) -> None:
        """Project the parameters onto the constraint set."""


class UnitColumns(Constraint):
    r"""Constraint ||d_j|| = 1 on every column d_j, or every filter, of a linear decoder r = D h + c.

        project:           d_j <- d_j / ||d_j||
        project_gradient:  g_j <- g_j - (g_j . d_j) d_j / ||d_j||^2

    Without it, small codes and large columns avoid a penalty on the code. The projection would undo the gradient along
    the column, but that gradient would still enter the optimiser's moments; so it is removed first. A column of zeros
    has no direction and is left unchanged.

    Raises:
        InputError: (from `check`, when the model is built) the decoder is neither one affine map nor one transposed
            convolution.

    Source: Olshausen & Field (1997); Bricken et al. (2023), Towards monosemanticity, "Advice for training sparse
    autoencoders"; Gao et al. (2024), appendix A.

    Example:
        >>> decoder = MLP((2, 3), generator=torch.Generator().manual_seed(0))
        >>> normalise(dictionary_weight(decoder))
        >>> dictionary_weight(decoder).detach().norm(dim=0).round(decimals=3)
        tensor([1., 1.])
    """

    def check(self, coder: Coder) -> None:
        """Check that the decoder is linear, with atoms as its weights."""
        if atom_parameter(coder.decoder) is None:
            raise InputError(
                f"unit columns need a linear decoder; found: {describe(coder.decoder)}; take "
                "one layer with weights of its own, network=MLP((), tied=False), or leave unit_columns out"
            )

    def project_gradient(self, coder: Coder) -> None:
        """Remove the component of each column's gradient along the column."""
        weight = atom_parameter(coder.decoder)
        if weight is not None and weight.grad is not None:
            gradient, columns = as_columns(weight.grad), as_columns(weight.detach())
            along = (gradient * columns).sum(0) / columns.square().sum(0).clamp_min(torch.finfo(weight.dtype).tiny)
            gradient.addcmul_(columns, along, value=-1.0)

    def project(self, coder: Coder) -> None:
        """Divide each column by its norm."""
        weight = atom_parameter(coder.decoder)
        if weight is not None:
            normalise(as_columns(weight.detach()))


def dictionary_weight(decoder: object) -> Tensor | None:
    """Return D, (columns, code_size), of a decoder r = D h + c; None where the decoder is not one affine map."""
    if isinstance(decoder, MLP) and len(decoder.affine_maps) == 1:
        return decoder.affine_maps[0].weight
    return None


def atom_parameter(decoder: object) -> Tensor | None:
    """Return the weights of a linear decoder: D, or the filters of a convolution; None of another decoder."""
    return decoder.weight if isinstance(decoder, FilterDecoder) else dictionary_weight(decoder)


def as_columns(weight: Tensor) -> Float[Tensor, "weights atoms"]:
    """Return a view of weights or of their gradient in which each atom, or each filter, is a column.

    Example:
        >>> as_columns(torch.zeros(4, 1, 5, 5)).shape, as_columns(torch.zeros(784, 16)).shape
        (torch.Size([25, 4]), torch.Size([784, 16]))
    """
    return weight if weight.ndim == 2 else weight.view(len(weight), -1).T


@torch.no_grad()
def normalise(columns: Tensor) -> None:
    """Divide each column of a matrix by its norm, in place; columns of zeros are left unchanged."""
    norms = columns.norm(dim=0)
    columns.div_(torch.where(norms > 0.0, norms, 1.0))


def describe(decoder: object) -> str:
    """Return a short description of a decoder for error messages."""
    if isinstance(decoder, MLP):
        return f"network of {len(decoder.affine_maps)} affine maps"
    return type(decoder).__name__ if isinstance(decoder, nn.Module) else repr(decoder)
