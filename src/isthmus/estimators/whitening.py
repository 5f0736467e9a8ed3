"""Whitening of rows: a transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor

from isthmus.errors import InputError
from isthmus.estimators import inputs, model_files
from isthmus.estimators.model_files import Packed, SavedEstimator
from isthmus.estimators.value_arguments import ValueArguments

_FITTED = ("n_features_in_", "row_shape_", "history_")
"""Fitted attributes that are plain data."""


@dataclass(eq=False, repr=False)
class Whitening(OneToOneFeatureMixin, TransformerMixin, SavedEstimator, ValueArguments):
    r"""ZCA whitening: columns without correlations, each as close as possible to the original one.

        y = (x - m) Z,   Z = U diag((l + regularization * mean of l)^(-1/2)) U'

    m is the mean of the rows; U and l are the eigenvectors and eigenvalues of their covariance. Neighbouring pixels of
    natural images are so similar that models of patches learn little else; whitened patches show edges. A
    `FilterBank` takes a pipeline of a `Whitening` and a model, and applies both to images.
    `sklearn.decomposition.PCA(whiten=True)` returns coordinates y U, which are not images.

    Args:
        regularization: part of the mean eigenvalue that is added to each; it limits the factor by which directions of
            little variance, mostly noise, are amplified.

    Attributes:
        mean_: m, (columns,).
        matrix_: Z, (columns, columns), symmetric.

    Raises:
        InputError: at `fit`, a regularization that is not above 0; constant rows.

    Source: Bell & Sejnowski, The "independent components" of natural scenes are edge filters (1997).

    Example:
        >>> import numpy as np
        >>> from isthmus import Whitening
        >>> X = np.random.default_rng(0).normal(size=(500, 2)) @ [[2.0, 1.0], [0.0, 0.5]]
        >>> whitening = Whitening(regularization=1e-6).fit(X)
        >>> y = whitening.transform(X)
        >>> np.cov(y.T, bias=True).round(3).tolist(), bool(np.allclose(whitening.inverse_transform(y), X))
        ([[1.0, 0.0], [0.0, 1.0]], True)
    """

    regularization: float = 0.01

    kind: ClassVar[str] = "whitening"

    @inputs.unchanged_on_failure
    def fit(self, X: Any, y: Any = None) -> Whitening:
        """Learn mean and matrix of rows (n, d), or of images of any shape (n, ...).

        Args:
            X: rows.
            y: ignored; present for scikit-learn's pipelines.

        Raises:
            InputError: see the class.
        """
        if not isinstance(self.regularization, int | float) or not 0 < self.regularization < np.inf:
            raise InputError(f"regularization={self.regularization!r}: it must be a number above 0")
        rows, shape = self._rows(X, reset=True)
        inputs.check_enough_rows(len(rows))
        self.row_shape_, self.mean_ = shape, rows.mean(0)
        centred = torch.from_numpy(rows - self.mean_)
        variances, basis = torch.linalg.eigh(centred.T @ centred / len(rows))
        level = float(variances.mean())
        if not level > 0:
            raise InputError("all rows are equal: they have no variance to whiten; give rows that differ")
        scale = (variances.clamp(min=0) + self.regularization * level).sqrt()
        self.matrix_, self.inverse_ = ((basis * of_each @ basis.T).numpy() for of_each in (1 / scale, scale))
        self.history_ = {"stopped": "completed", "notes": []}
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "n ..."]:
        """Return whitened rows in the shape of X; float32 for float32, else float64."""
        check_is_fitted(self)
        rows, _ = self._rows(X, reset=False)
        return self._shaped((rows - self.mean_) @ self.matrix_, X)

    def inverse_transform(self, Y: Any) -> Float[np.ndarray, "n ..."]:
        """Return the rows of whitened ones, up to rounding."""
        check_is_fitted(self)
        array = check_array(Y, allow_nd=True, ensure_min_samples=0)
        if array[:1].size != self.n_features_in_ and len(array):
            raise InputError(f"whitened rows have {self.n_features_in_} columns; found the shape {array.shape}")
        return self._shaped(array.reshape(len(array), -1) @ self.inverse_ + self.mean_, Y)

    def _rows(self, X: Any, *, reset: bool) -> tuple[Float[np.ndarray, "n columns"], tuple[int, ...]]:
        """Return rows as a matrix in float64, and the shape of a row.

        Raises:
            InputError, ValueError: values that are missing or infinite; other rows than at fit.
        """
        found = check_array(inputs.validate_input(self, X, reset=reset), allow_nd=True, dtype="numeric", estimator=self)
        if not reset and found.shape[1:] != self.row_shape_:
            raise InputError(f"X has rows of shape {found.shape[1:]}; the whitening was fitted to {self.row_shape_}")
        return found.reshape(len(found), -1).astype(np.float64), found.shape[1:]

    def _shaped(self, rows: Float[np.ndarray, "n columns"], X: Any) -> Float[np.ndarray, "n ..."]:
        dtype = np.float32 if getattr(X, "dtype", None) == np.float32 else np.float64
        return rows.reshape(len(rows), *self.row_shape_).astype(dtype, copy=False)

    # -- files --------------------------------------------------------------------------------------

    def _pack(self) -> Packed:
        names = ("mean_", "matrix_", "inverse_")
        return {name: torch.from_numpy(getattr(self, name)) for name in names}, model_files.header_of(self, _FITTED)

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        model = model_files.constructed(cls, header)
        model_files.set_fitted(model, header)
        for name, tensor in tensors.items():
            setattr(model, name, tensor.numpy())
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
