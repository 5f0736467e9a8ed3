"""isthmus: every autoencoder of the textbook, on your arrays, tables, images and text.

Names are imported when they are first used, so that `isthmus --help` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.errors import InputError, InputWarning
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
    from isthmus.estimators.registry import load
    from isthmus.estimators.regressor import CodeRegressor
    from isthmus.estimators.sparse import SparseAutoencoder
    from isthmus.estimators.stacked import StackedAutoencoder
    from isthmus.parts.own_networks import register_network

__version__: str  # read from the installed package on first use, because the import of importlib.metadata is slow

__all__ = [
    "Autoencoder",
    "CodeClassifier",
    "CodeRegressor",
    "ContractiveAutoencoder",
    "ConvolutionalAutoencoder",
    "DeepBeliefNetwork",
    "DeepBoltzmannMachine",
    "DeepRecurrentAutoencoder",
    "DenoisingAutoencoder",
    "InputError",
    "InputWarning",
    "LinearAutoencoder",
    "RecirculationAutoencoder",
    "RestrictedBoltzmannMachine",
    "SparseAutoencoder",
    "StackedAutoencoder",
    "__version__",
    "load",
    "register_network",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("isthmus")
    if name == "register_network":
        return import_module("isthmus.parts.own_networks").register_network
    if name in __all__:
        module = "isthmus.errors" if name.startswith("Input") else "isthmus.estimators.registry"
        return getattr(import_module(module), name)
    if name in ("data", "report"):
        return import_module(f"isthmus.{name}")
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
