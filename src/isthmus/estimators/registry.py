"""The kinds of autoencoder, and the other estimators of files, by name. Nothing below imports this module."""

from __future__ import annotations

from typing import Any

from isthmus.errors import ChoiceError, InputError
from isthmus.estimators.anomalies import AnomalyDetector
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.classifier import CodeClassifier
from isthmus.estimators.contractive import ContractiveAutoencoder
from isthmus.estimators.convolutional import ConvolutionalAutoencoder
from isthmus.estimators.dbm import DeepBoltzmannMachine
from isthmus.estimators.dbn import DeepBeliefNetwork
from isthmus.estimators.deep import Autoencoder
from isthmus.estimators.denoising import DenoisingAutoencoder
from isthmus.estimators.filter_bank import FilterBank
from isthmus.estimators.hashing import SemanticHashing
from isthmus.estimators.imputer import Imputer
from isthmus.estimators.linear import LinearAutoencoder
from isthmus.estimators.model_files import load, named, register
from isthmus.estimators.predictive import PredictiveSparseDecomposition
from isthmus.estimators.rbm import RestrictedBoltzmannMachine
from isthmus.estimators.recirculation import RecirculationAutoencoder
from isthmus.estimators.recurrent import DeepRecurrentAutoencoder
from isthmus.estimators.regressor import CodeRegressor
from isthmus.estimators.sparse import SparseAutoencoder
from isthmus.estimators.sparse_coding import SparseCoding
from isthmus.estimators.stacked import StackedAutoencoder
from isthmus.estimators.supervised import CodePredictor
from isthmus.estimators.variational import VariationalAutoencoder
from isthmus.estimators.whitening import Whitening

__all__ = ["DETECTORS", "IMPUTERS", "KINDS", "PREDICTORS", "TRANSFORMERS", "choices_of", "kind_named", "load"]

KINDS: dict[str, type[BaseAutoencoder]] = {
    estimator.kind: register(estimator)
    for estimator in (
        LinearAutoencoder,
        Autoencoder,
        ConvolutionalAutoencoder,
        SparseAutoencoder,
        SparseCoding,
        PredictiveSparseDecomposition,
        DenoisingAutoencoder,
        ContractiveAutoencoder,
        VariationalAutoencoder,
        StackedAutoencoder,
        DeepRecurrentAutoencoder,
        RecirculationAutoencoder,
        RestrictedBoltzmannMachine,
        DeepBeliefNetwork,
        DeepBoltzmannMachine,
        SemanticHashing,
    )
}
"""Every kind of autoencoder by its name on the command line."""

PREDICTORS: dict[str, type[CodePredictor]] = {
    estimator.kind: register(estimator) for estimator in (CodeClassifier, CodeRegressor)
}
"""Estimators that start from an autoencoder and predict labels; they learn no code and are not kinds."""

DETECTORS: dict[str, type[AnomalyDetector]] = {estimator.kind: register(estimator) for estimator in (AnomalyDetector,)}
"""Estimators that find odd rows."""

IMPUTERS: dict[str, type[Imputer]] = {estimator.kind: register(estimator) for estimator in (Imputer,)}
"""Estimators that fill missing cells."""

TRANSFORMERS: dict[str, type[FilterBank] | type[Whitening]] = {
    FilterBank.kind: register(FilterBank), Whitening.kind: register(Whitening)
}  # fmt: skip
"""Transformers of images and rows that learn no code."""


def kind_named(name: str) -> type[BaseAutoencoder]:
    """Return the class of a kind.

    Raises:
        InputError: an unknown name, with the nearest one.

    Example:
        >>> kind_named("deep").__name__
        'Autoencoder'
    """
    return named(KINDS, name)


def choices_of(estimator: type[BaseAutoencoder], argument: str) -> tuple[str, ...]:
    """Return the strings that an argument takes: those that its check names where it refuses another string.

    Args:
        estimator: class of a kind.
        argument: an argument that takes plain strings.

    Returns:
        The strings; none where the check does not choose among strings.

    Example:
        >>> choices_of(KINDS["sparse-coding"], "update"), choices_of(KINDS["deep"], "missing")
        (('online', 'gradient'), ('refuse', 'mean', 'median', 'mask'))
    """
    no_choice: dict[str, Any] = {argument: ""}
    try:
        estimator(**no_choice)._check_parameters()
    except ChoiceError as error:
        return error.choices
    except InputError:
        return ()
    return ()
