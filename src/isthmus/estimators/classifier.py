"""The classifier on the code of an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.data.preprocessing import n_rows_of
from isthmus.estimators import labels
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.identity import predicted
from isthmus.estimators.labels import ClassLabels
from isthmus.estimators.supervised import CodePredictor
from isthmus.learning.supervision import CrossEntropy, Loss
from isthmus.parts.forward import UNLABELLED


@dataclass(kw_only=True, eq=False, repr=False)
class CodeClassifier(ClassifierMixin, CodePredictor):
    r"""Classifier on the code of an autoencoder that was trained without labels.

        p(y | x) = softmax(V h + c)_y,   h = f(x),   J = E_labelled [ -log p(y | x) ] + w J_autoencoder

    An encoder that was trained on many rows without labels needs few with them: it represents the variation of the rows
    already, and fine-tuning only adapts it to the classes. With w > 0 the autoencoder's criterion is added to that of
    the labels, so that rows without label train the code too (semi-supervised learning, `unlabeled`). Early stopping
    monitors the validation error plus a tenth of the validation cross-entropy.

    The arguments are those of `CodePredictor`: encoder, start, frozen, hidden_sizes, activation, hidden_noise, dropout,
    input_dropout, reconstruction_weight, unlabeled, and those of training.

    Attributes:
        classes_: the classes, sorted, without the label `unlabeled`.

    Raises:
        InputError: at `fit`, labels of another length, of one class, missing or continuous; at `score`, also a class
            that was not in the training labels.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 15.1; Inayoshi & Kurita (2005) for the noise and
    the reconstruction term; Rifai et al., Contractive auto-encoders (2011), for the fine-tuning.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from isthmus import Autoencoder, CodeClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> coder = Autoencoder(code_size=16, hidden_sizes=(64,), max_epochs=3, random_state=0).fit(X)
        >>> classifier = CodeClassifier(encoder=coder, max_epochs=10, random_state=0).fit(X[:500], y[:500])
        >>> classifier.predict_proba(X[500:]).shape, classifier.score(X[500:], y[500:]) > 0.7
        ((1297, 10), True)
    """

    kind: ClassVar[str] = "classifier"
    loss: ClassVar[Loss] = CrossEntropy()

    def _fit_labels(self, y: np.ndarray) -> Tensor:
        encoded = ClassLabels.from_values(y, unlabeled=self.unlabeled)
        self.classes_ = encoded.classes
        return encoded.numbers

    def _labels(self, y: np.ndarray) -> Tensor:
        return ClassLabels.from_values(y, self.classes_, self.unlabeled).numbers

    def _encoder_labels(self, numbers: Tensor, encoder: BaseAutoencoder) -> ClassLabels:
        return ClassLabels(numbers, self.classes_)

    def _initial_output(self, numbers: Tensor) -> Float[Tensor, " classes"]:
        """Return the logarithm of the class frequencies: the untrained head predicts these for every row."""
        return torch.bincount(numbers[numbers != UNLABELLED], minlength=self._n_outputs).float().log()

    @property
    def _n_outputs(self) -> int:
        return len(self.classes_)

    def decision_function(self, X: Any) -> Float[np.ndarray, "n classes"] | Float[np.ndarray, " n"]:
        """Return the logits, (n, classes); for two classes the difference of the second and the first, (n,)."""
        outputs = self._outputs(X)
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n classes"]:
        """Return p(y | x), (n, classes), in the order of `classes_`."""
        return softmax(self._outputs(X), axis=1)

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each row, (n,); for a data frame a series with its index."""
        outputs = self._outputs(X)
        return predicted(self.classes_[outputs.argmax(1)], X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy of the predicted classes.

        Raises:
            InputError: labels of another length, or a class that was not in the training labels.
        """
        check_is_fitted(self)
        found = labels.validate_labels(self, y, n_rows_of(X))
        labels.check_known_classes(np.ravel(found), self.classes_)
        return float(super().score(X, found, sample_weight))

    def _fitted_labels(self) -> dict[str, Any]:
        return {"classes_": self.classes_}
