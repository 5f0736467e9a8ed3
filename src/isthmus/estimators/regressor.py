"""The regressor on the code of an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import RegressorMixin
from torch import Tensor

from isthmus.errors import InputError
from isthmus.estimators import labels
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.identity import predicted
from isthmus.estimators.supervised import CodePredictor
from isthmus.learning.supervision import Loss, SquaredError


@dataclass(kw_only=True, eq=False, repr=False)
class CodeRegressor(RegressorMixin, CodePredictor):
    r"""Regressor on the code of an autoencoder that was trained without labels.

        E[y | x] = V h + c,   h = f(x),   J = E_labelled [ 1/2 ||y' - V h - c||^2 ] + w J_autoencoder

    y' is y standardised by column, so that w does not depend on the unit of y. Early stopping monitors the validation
    squared error. See `CodeClassifier` for the use of rows without labels.

    The arguments are those of `CodePredictor`: encoder, start, frozen, hidden_sizes, activation, hidden_noise, dropout,
    input_dropout, reconstruction_weight, unlabeled (such as NaN), and those of training.

    Raises:
        InputError: at `fit`, labels of another length, missing, or not numeric.

    Source: as for `CodeClassifier`.

    Example:
        >>> from isthmus import CodeRegressor, LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(300, 2)) @ [[1.0, 0, 2, 1], [0, 1, 1, -1]]
        >>> regressor = CodeRegressor(encoder=LinearAutoencoder(code_size=2), learning_rate=1e-2, random_state=0)
        >>> regressor.fit(X, X[:, 0] - X[:, 1]).score(X, X[:, 0] - X[:, 1]) > 0.99
        True
    """

    kind: ClassVar[str] = "regressor"
    loss: ClassVar[Loss] = SquaredError()

    def _fit_labels(self, y: np.ndarray) -> Tensor:
        y, rows = _numbers(y), labels.labelled_mask(y, self.unlabeled)
        self.mean_, self.scale_ = y[rows].mean(0), y[rows].std(0)
        self.scale_ = np.where(self.scale_ > 0, self.scale_, 1.0)
        return self._labels(y)

    def _labels(self, y: np.ndarray) -> Tensor:
        y, rows = _numbers(y), labels.labelled_mask(y, self.unlabeled)
        if y.shape[1:] != self.mean_.shape:
            raise InputError(f"y has the shape {y.shape}; it was fitted with labels of the shape {self.mean_.shape}")
        scaled = ((y - self.mean_) / self.scale_).reshape(len(y), -1)
        scaled[~rows] = np.nan
        return torch.from_numpy(scaled).float()

    def _encoder_labels(self, numbers: Tensor, encoder: BaseAutoencoder) -> None:
        if encoder.uses_labels:
            raise InputError(
                f"encoder={type(encoder).__name__} learns classes, and CodeRegressor has numbers as labels; give it "
                "another training than 'supervised'"
            )

    def _initial_output(self, scaled: Tensor) -> Float[Tensor, " outputs"]:
        """Return the mean of the standardised labels, 0."""
        return torch.zeros(self._n_outputs)

    @property
    def _n_outputs(self) -> int:
        return int(np.size(self.mean_))

    def predict(self, X: Any) -> Any:
        """Return E[y | x] in the unit of y, in the shape of the training labels; for a data frame with its index."""
        outputs = self._outputs(X)
        return predicted(outputs.reshape(len(outputs), *self.mean_.shape) * self.scale_ + self.mean_, X)

    def _fitted_labels(self) -> dict[str, Any]:
        return {"mean_": self.mean_, "scale_": self.scale_}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags


def _numbers(y: np.ndarray) -> np.ndarray:
    """Return the labels as float64, (n,) or (n, outputs).

    Raises:
        InputError: a label that is not a number.
    """
    if y.ndim > 2:
        raise InputError(f"y has the shape {y.shape}; give one number per row, (n,), or several, (n, outputs)")
    try:
        return y.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"y holds labels that are not numbers ({error}); use CodeClassifier for classes") from None
