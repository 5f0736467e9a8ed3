"""The kinds by name, and the way of a model into a file and back."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from sklearn import clone

from isthmus import __version__
from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.classifier import CodeClassifier
from isthmus.estimators.contractive import ContractiveAutoencoder
from isthmus.estimators.convolutional import ConvolutionalAutoencoder
from isthmus.estimators.dbm import DeepBoltzmannMachine
from isthmus.estimators.dbn import DeepBeliefNetwork
from isthmus.estimators.deep import Autoencoder
from isthmus.estimators.denoising import DenoisingAutoencoder
from isthmus.estimators.linear import LinearAutoencoder
from isthmus.estimators.rbm import RestrictedBoltzmannMachine
from isthmus.estimators.recirculation import RecirculationAutoencoder
from isthmus.estimators.recurrent import DeepRecurrentAutoencoder
from isthmus.estimators.regressor import CodeRegressor
from isthmus.estimators.sparse import SparseAutoencoder
from isthmus.estimators.stacked import StackedAutoencoder
from isthmus.estimators.supervised import CodePredictor
from isthmus.evaluation.baseline import PrincipalComponents
from isthmus.files import read_tensors, write_tensors
from isthmus.learning.trainer import strip_prefix
from isthmus.parts.likelihoods import nearest

KINDS: dict[str, type[BaseAutoencoder]] = {
    estimator.kind: estimator
    for estimator in (
        LinearAutoencoder,
        Autoencoder,
        ConvolutionalAutoencoder,
        SparseAutoencoder,
        DenoisingAutoencoder,
        ContractiveAutoencoder,
        StackedAutoencoder,
        DeepRecurrentAutoencoder,
        RecirculationAutoencoder,
        RestrictedBoltzmannMachine,
        DeepBeliefNetwork,
        DeepBoltzmannMachine,
    )
}
"""Every kind of autoencoder by the name that the command line knows it by."""

PREDICTORS: dict[str, type[CodePredictor]] = {
    estimator.kind: estimator for estimator in (CodeClassifier, CodeRegressor)
}
"""What starts from an autoencoder and predicts labels; it has no code of its own to learn, so it is no kind."""

_FITTED = (
    "code_size_", "hidden_sizes_", "dense_sizes_", "seed_", "n_features_in_", "n_rows_", "likelihood_", "history_",
    "score_kind_",
)  # fmt: skip


def kind_named(name: str) -> type[BaseAutoencoder]:
    """The class of a kind.

    Raises:
        InputError: an unknown name, with the nearest one.

    Example:
        >>> kind_named("deep").__name__
        'Autoencoder'
    """
    if name not in KINDS:
        raise InputError(f"unknown kind {name!r}; {nearest(name, KINDS)}")
    return KINDS[name]


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted model; see `BaseAutoencoder.save`."""
    write_tensors(path, *(_predictor_packed(model) if isinstance(model, CodePredictor) else _packed(model)))


def _packed(model: BaseAutoencoder) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a fitted autoencoder, and all else as plain data."""
    preprocessing, preprocessing_config = model.preprocessing_.to_file()
    baseline, baseline_config = model.baseline_.to_file()
    tensors = {f"objective.{k}": v for k, v in model.objective_.state_dict().items()}
    tensors |= {f"preprocessing.{k}": v for k, v in preprocessing.items()}
    tensors |= {f"baseline.{k}": v for k, v in baseline.items()}
    header = {
        "kind": model.kind,
        "version": __version__,
        "parameters": {k: _plain(k, v) for k, v in model.get_params(deep=False).items()},
        "fitted": {name: _plain(name, getattr(model, name)) for name in _FITTED if hasattr(model, name)},
        "columns": list(map(str, model.feature_names_in_)) if hasattr(model, "feature_names_in_") else None,
        "preprocessing": preprocessing_config,
        "baseline": baseline_config,
    }
    return tensors, header


def _predictor_packed(model: CodePredictor) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The same of a classifier or a regressor: its head, and in it the autoencoder as it stands after learning."""
    nested, encoder = _packed(model.encoder_)
    tensors = {f"encoder.{k}": v for k, v in nested.items()}
    tensors |= {f"head.{k}": v for k, v in model.objective_.head.state_dict().items()}
    parameters = {k: _plain(k, v) for k, v in model.get_params(deep=False).items() if k != "encoder"}
    labels = {k: np.asarray(v) for k, v in model._fitted_labels().items()}
    header = {
        "kind": model.kind,
        "version": __version__,
        "parameters": parameters,
        "fitted": {k: _plain(k, getattr(model, k)) for k in ("seed_", "n_features_in_", "n_rows_", "history_")},
        "columns": list(map(str, model.feature_names_in_)) if hasattr(model, "feature_names_in_") else None,
        "labels": {k: {"dtype": v.dtype.str, "values": _plain(k, v.tolist())} for k, v in labels.items()},
        "encoder": encoder,
    }
    return tensors, header


def load(path: str | os.PathLike[str]) -> Any:
    """The fitted model in a file that `save` wrote. Nothing in the file is executed.

    Args:
        path: the file.

    Returns:
        An estimator that gives the same codes, or predictions, as the one that was saved.

    Raises:
        InputError: no such file; a truncated, edited or foreign file; one of a newer isthmus.

    Example:
        >>> import isthmus, numpy, pathlib, tempfile
        >>> X = numpy.random.default_rng(0).normal(size=(50, 4))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.isthmus"
        >>> model = isthmus.LinearAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X)
        >>> model.save(path)
        >>> bool((isthmus.load(path).transform(X) == model.transform(X)).all())
        True
    """
    tensors, header = read_tensors(path)
    if "kind" not in header:
        raise InputError(f"{path} holds no model: it is the state of an unfinished run; go on with --resume")
    return (_predictor_unpacked if header["kind"] in PREDICTORS else _unpacked)(tensors, header)


def _unpacked(tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> BaseAutoencoder:
    """The autoencoder that `_packed` took apart."""
    model = kind_named(header["kind"])(**_parameters(header))
    _set_fitted(model, header)
    model.preprocessing_ = Preprocessor.from_file(strip_prefix("preprocessing.", tensors), header["preprocessing"])
    model.baseline_ = PrincipalComponents.from_file(strip_prefix("baseline.", tensors), header["baseline"])
    model._n_features_out = model.code_size_
    model.objective_ = model._build_objective(model._shape(), torch.Generator().manual_seed(0))
    model.objective_.load_state_dict(strip_prefix("objective.", tensors))
    model.objective_.eval()
    return model


def _predictor_unpacked(tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> CodePredictor:
    """What `_predictor_packed` took apart; its argument `encoder` is an unfitted one of the same settings."""
    encoder = _unpacked(strip_prefix("encoder.", tensors), header["encoder"])
    model = PREDICTORS[header["kind"]](encoder=clone(encoder), **_parameters(header))
    _set_fitted(model, header)
    for name, array in header["labels"].items():
        setattr(model, name, np.asarray(array["values"], dtype=array["dtype"]))
    model.encoder_ = encoder
    model.objective_ = model._build(encoder.objective_, torch.Generator().manual_seed(0))
    model.objective_.head.load_state_dict(strip_prefix("head.", tensors))
    model.objective_.eval()
    return model


def _parameters(header: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the constructor; JSON has lists where they have tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in header["parameters"].items()}


def _set_fitted(model: Any, header: dict[str, Any]) -> None:
    """The fitted attributes that are plain data, and the names of the columns."""
    for name, value in header["fitted"].items():
        setattr(model, name, tuple(value) if name.endswith("_sizes_") else value)
    if header["columns"] is not None:
        model.feature_names_in_ = np.asarray(header["columns"], dtype=object)


def _plain(name: str, value: Any) -> Any:
    """A value as JSON has it; what is no plain data is refused by name."""
    if name == "random_state" and not isinstance(value, int | type(None)):
        return int(value) if isinstance(value, np.integer) else None  # the drawn seed is kept as `seed_`
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(k): _plain(name, v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(name, v) for v in value]
    raise InputError(f"{name}={value!r} cannot be kept in a file; give plain data, or a name that isthmus knows")
