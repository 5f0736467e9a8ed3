"""isthmus: every autoencoder of the textbook, on your arrays, tables, images and text.

Names are imported when they are first used, so that `isthmus --help` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isthmus.errors import InputError, InputWarning
    from isthmus.estimators.anomalies import AnomalyDetector
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
    from isthmus.estimators.predictive import PredictiveSparseDecomposition
    from isthmus.estimators.rbm import RestrictedBoltzmannMachine
    from isthmus.estimators.recirculation import RecirculationAutoencoder
    from isthmus.estimators.recurrent import DeepRecurrentAutoencoder
    from isthmus.estimators.registry import load
    from isthmus.estimators.regressor import CodeRegressor
    from isthmus.estimators.sparse import SparseAutoencoder
    from isthmus.estimators.sparse_coding import SparseCoding
    from isthmus.estimators.stacked import StackedAutoencoder
    from isthmus.estimators.variational import VariationalAutoencoder
    from isthmus.estimators.whitening import Whitening
    from isthmus.parts.own_networks import register_network
    from isthmus.parts.own_penalties import register_penalty
    from isthmus.retrieval.bits import hash_codes
    from isthmus.retrieval.index import Index
    from isthmus.values.binarisations import GrowingNoise, RelaxedBernoulli, StraightThrough
    from isthmus.values.code_penalties import MMD, BitBalance, Decorrelation, Neighbours, TotalCorrelation
    from isthmus.values.contractions import Contraction
    from isthmus.values.corruptions import GaussianNoise, GroupMasking, Masking, MissingMask, SaltAndPepper
    from isthmus.values.energy_methods import CD, PCD, DenoisingScoreMatching, ScoreMatching
    from isthmus.values.inferences import BernoulliPosterior, CategoricalPosterior, DiagonalPosterior, FullPosterior
    from isthmus.values.label_losses import MinimalLoss
    from isthmus.values.layers import Layer, RBMLayer
    from isthmus.values.networks import LISTA, MLP, Convolutional, Convolutional1d, FeatureMaps
    from isthmus.values.optimizers import SGD, AdamW
    from isthmus.values.priors import KL, FlowPrior, GaussianPrior, MixturePrior, NormalPrior, VampPrior
    from isthmus.values.sparse_inferences import FISTA, ISTA, CoordinateDescent, MatchingPursuit, Recurrent
    from isthmus.values.sparsities import (
        L1,
        BatchTopK,
        ElasticNet,
        Gated,
        GroupL2,
        JumpReLU,
        KLRate,
        LogPenalty,
        StudentT,
        TopK,
        Topographic,
    )
    from isthmus.values.stages import FineTuning, Pretraining
    from isthmus.values.vocabularies import Words

__version__: str  # read from the installed package on first use, because the import of importlib.metadata is slow

_MODULES = {
    "errors": ("InputError", "InputWarning"),
    "estimators.registry": (
        "AnomalyDetector", "Autoencoder", "CodeClassifier", "CodeRegressor", "ContractiveAutoencoder",
        "ConvolutionalAutoencoder", "DeepBeliefNetwork", "DeepBoltzmannMachine", "DeepRecurrentAutoencoder",
        "DenoisingAutoencoder", "FilterBank", "Imputer", "LinearAutoencoder", "PredictiveSparseDecomposition",
        "RecirculationAutoencoder", "RestrictedBoltzmannMachine", "SemanticHashing", "SparseAutoencoder",
        "SparseCoding", "StackedAutoencoder", "VariationalAutoencoder", "Whitening", "load",
    ),
    "parts.own_networks": ("register_network",),
    "parts.own_penalties": ("register_penalty",),
    "retrieval.bits": ("hash_codes",),
    "retrieval.index": ("Index",),
    "values.binarisations": ("GrowingNoise", "RelaxedBernoulli", "StraightThrough"),
    "values.code_penalties": ("BitBalance", "Decorrelation", "MMD", "Neighbours", "TotalCorrelation"),
    "values.contractions": ("Contraction",),
    "values.corruptions": ("GaussianNoise", "GroupMasking", "Masking", "MissingMask", "SaltAndPepper"),
    "values.energy_methods": ("CD", "DenoisingScoreMatching", "PCD", "ScoreMatching"),
    "values.inferences": ("BernoulliPosterior", "CategoricalPosterior", "DiagonalPosterior", "FullPosterior"),
    "values.label_losses": ("MinimalLoss",),
    "values.layers": ("Layer", "RBMLayer"),
    "values.networks": ("Convolutional", "Convolutional1d", "FeatureMaps", "LISTA", "MLP"),
    "values.optimizers": ("AdamW", "SGD"),
    "values.priors": ("FlowPrior", "GaussianPrior", "KL", "MixturePrior", "NormalPrior", "VampPrior"),
    "values.sparse_inferences": ("CoordinateDescent", "FISTA", "ISTA", "MatchingPursuit", "Recurrent"),
    "values.sparsities": (
        "BatchTopK", "ElasticNet", "Gated", "GroupL2", "JumpReLU", "KLRate", "L1", "LogPenalty", "StudentT", "TopK",
        "Topographic",
    ),
    "values.stages": ("FineTuning", "Pretraining"),
    "values.vocabularies": ("Words",),
}  # fmt: skip
"""Public names by the module that they are imported from."""

_PLACES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "CD",
    "FISTA",
    "ISTA",
    "KL",
    "L1",
    "LISTA",
    "MLP",
    "MMD",
    "PCD",
    "SGD",
    "AdamW",
    "AnomalyDetector",
    "Autoencoder",
    "BatchTopK",
    "BernoulliPosterior",
    "BitBalance",
    "CategoricalPosterior",
    "CodeClassifier",
    "CodeRegressor",
    "Contraction",
    "ContractiveAutoencoder",
    "Convolutional",
    "Convolutional1d",
    "ConvolutionalAutoencoder",
    "CoordinateDescent",
    "Decorrelation",
    "DeepBeliefNetwork",
    "DeepBoltzmannMachine",
    "DeepRecurrentAutoencoder",
    "DenoisingAutoencoder",
    "DenoisingScoreMatching",
    "DiagonalPosterior",
    "ElasticNet",
    "FeatureMaps",
    "FilterBank",
    "FineTuning",
    "FlowPrior",
    "FullPosterior",
    "Gated",
    "GaussianNoise",
    "GaussianPrior",
    "GroupL2",
    "GroupMasking",
    "GrowingNoise",
    "Imputer",
    "Index",
    "InputError",
    "InputWarning",
    "JumpReLU",
    "KLRate",
    "Layer",
    "LinearAutoencoder",
    "LogPenalty",
    "Masking",
    "MatchingPursuit",
    "MinimalLoss",
    "MissingMask",
    "MixturePrior",
    "Neighbours",
    "NormalPrior",
    "PredictiveSparseDecomposition",
    "Pretraining",
    "RBMLayer",
    "RecirculationAutoencoder",
    "Recurrent",
    "RelaxedBernoulli",
    "RestrictedBoltzmannMachine",
    "SaltAndPepper",
    "ScoreMatching",
    "SemanticHashing",
    "SparseAutoencoder",
    "SparseCoding",
    "StackedAutoencoder",
    "StraightThrough",
    "StudentT",
    "TopK",
    "Topographic",
    "TotalCorrelation",
    "VampPrior",
    "VariationalAutoencoder",
    "Whitening",
    "Words",
    "__version__",
    "hash_codes",
    "load",
    "register_network",
    "register_penalty",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("isthmus")
    if name in _PLACES:
        return getattr(import_module(f"isthmus.{_PLACES[name]}"), name)
    if name in ("data", "report"):
        return import_module(f"isthmus.{name}")
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
