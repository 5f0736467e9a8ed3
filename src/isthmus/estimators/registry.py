"""The kinds by name, and the way of a model into a file and back."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from isthmus import __version__
from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.contractive import ContractiveAutoencoder
from isthmus.estimators.convolutional import ConvolutionalAutoencoder
from isthmus.estimators.deep import Autoencoder
from isthmus.estimators.denoising import DenoisingAutoencoder
from isthmus.estimators.linear import LinearAutoencoder
from isthmus.estimators.rbm import RestrictedBoltzmannMachine
from isthmus.estimators.sparse import SparseAutoencoder
from isthmus.estimators.stacked import StackedAutoencoder
from isthmus.evaluation.baseline import PrincipalComponents
from isthmus.files import read_tensors, write_tensors
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
        RestrictedBoltzmannMachine,
    )
}
"""Every kind of autoencoder by the name that the command line knows it by."""

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


def save(model: BaseAutoencoder, path: str | os.PathLike[str]) -> None:
    """Write a fitted model; see `BaseAutoencoder.save`."""
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
    write_tensors(path, tensors, header)


def load(path: str | os.PathLike[str]) -> BaseAutoencoder:
    """The fitted model in a file that `save` wrote. Nothing in the file is executed.

    Args:
        path: the file.

    Returns:
        An estimator that gives the same codes as the one that was saved.

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
    parameters: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["parameters"].items()}
    model = kind_named(header["kind"])(**parameters)
    for name, value in header["fitted"].items():
        setattr(model, name, tuple(value) if name.endswith("_sizes_") else value)
    if header["columns"] is not None:
        model.feature_names_in_ = np.asarray(header["columns"], dtype=object)
    parts: dict[str, dict[str, torch.Tensor]] = {"objective": {}, "preprocessing": {}, "baseline": {}}
    for name, tensor in tensors.items():
        room, rest = name.split(".", 1)
        parts[room][rest] = tensor
    model.preprocessing_ = Preprocessor.from_file(parts["preprocessing"], header["preprocessing"])
    model.baseline_ = PrincipalComponents.from_file(parts["baseline"], header["baseline"])
    model._n_features_out = model.code_size_
    model.objective_ = model._recipe(model._shape(), torch.Generator().manual_seed(0))
    model.objective_.load_state_dict(parts["objective"])
    model.objective_.eval()
    return model


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
