"""A dictionary that is given to sparse coding: an array, or the atoms of a fitted model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.model_files import load
from isthmus.evaluation.features import n_weight_layers


@dataclass(frozen=True)
class GivenAtoms:
    """Atoms of norm 1 in model space, and the preprocessing that leads to it.

    Attributes:
        atoms: the atoms as rows, (atoms, columns), float32.
        preprocessing: of the model that the atoms are from; None for an array.
    """

    atoms: Float[Tensor, "atoms columns"]
    preprocessing: Preprocessor | None = None

    @classmethod
    def of(cls, given: Any) -> Self:
        """Return the atoms of an array, of a fitted model, or of a model file.

        Of a model they are the rows of `dictionary()`, else the filters of an encoder of one layer.

        Raises:
            InputError: no matrix of finite numbers; an atom of zeros; a model without atoms.
        """
        if isinstance(given, str | os.PathLike):
            given = load(given)
            if not isinstance(given, BaseAutoencoder):
                raise InputError(f"atoms: the file holds a {type(given).__name__}, which has no atoms")
        if isinstance(given, BaseAutoencoder):
            check_is_fitted(given)
            return cls(_normalised(_atoms_of(given), f"the atoms of {type(given).__name__}"), given.preprocessing_)
        return cls(_normalised(given, "atoms"))

    def check_width(self, n_columns: int) -> None:
        """Refuse rows of another width."""
        if self.atoms.shape[1] != n_columns:
            raise InputError(
                f"atoms have {self.atoms.shape[1]} columns and the rows have {n_columns} in model space; give atoms of "
                "this width"
            )


def _atoms_of(model: BaseAutoencoder) -> Float[np.ndarray, "atoms columns"]:
    """Return the atoms of a model, in model space."""
    if hasattr(model, "dictionary"):
        return model.dictionary()
    if hasattr(model, "filters") and n_weight_layers(model.coder_.encoder) == 1:
        filters = model.filters()
        if filters[0].size == model.preprocessing_.n_columns:
            return filters.reshape(len(filters), -1)
    raise InputError(
        f"atoms={type(model).__name__}(...): this model has neither a linear decoder nor an encoder of one layer, so "
        "it has no atoms; give a sparse, denoising or linear autoencoder, an RBM, or an array"
    )


def _normalised(given: Any, name: str) -> Float[Tensor, "atoms columns"]:
    """Return a matrix with rows of norm 1, float32."""
    try:
        matrix = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}={type(given).__name__}: give a fitted model, its file, or an array (atoms, columns) in model space"
        ) from None
    if matrix.ndim != 2 or matrix.size == 0:
        raise InputError(f"{name} of shape {matrix.shape}: give an array (atoms, columns), with atoms as rows")
    if not np.isfinite(matrix).all():
        raise InputError(f"{name}: atom {int(np.argmin(np.isfinite(matrix).all(1)))} is not finite")
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not norms.all():
        raise InputError(f"{name}: atom {int(np.argmin(norms))} is 0 in every column; leave it out")
    return torch.from_numpy((matrix / norms).astype(np.float32))
