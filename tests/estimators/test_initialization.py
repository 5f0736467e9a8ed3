"""Initial weights: independent draws, unless one tensor is a declared copy of another."""

import itertools
import math

import pytest
import torch
from sklearn import clone

from isthmus import Autoencoder, CodeClassifier, DeepRecurrentAutoencoder, Layer, Pretraining, StackedAutoencoder
from isthmus.estimators import base, supervised
from isthmus.parts.layers import initialise
from isthmus.parts.likelihoods import likelihood_from
from isthmus.values.networks import perceptrons

from .fitted import X
from .kinds import KINDS
from .test_stacked import Y

MIN_ENTRIES = 30
"""Fewer entries say nothing about a correlation."""

SUPERVISED = {"pretraining": "supervised", "hidden_sizes": (16, 12), "code_size": 8, "random_state": 0}
UNTRAINED = Autoencoder(hidden_sizes=(16,), code_size=8, max_epochs=1, learning_rate=1e-20, random_state=0)
"""An encoder whose weights stay where they start."""

ESTIMATORS = KINDS | {
    "stacked, supervised": StackedAutoencoder(**SUPERVISED),
    "stacked, supervised, as many columns as classes": StackedAutoencoder(validation_fraction=0.0, **SUPERVISED),
    "stacked, supervised, with reconstruction, untied": StackedAutoencoder(
        layers=Layer(corruption="masking", tied=False),
        **SUPERVISED | {"pretraining": Pretraining("supervised", reconstruction_weight=0.5)},
    ),
    "recurrent, supervised": DeepRecurrentAutoencoder(**SUPERVISED),
    "classifier": CodeClassifier(encoder=UNTRAINED, random_state=0),
    "classifier, deep": CodeClassifier(encoder=UNTRAINED, hidden_sizes=(20,), random_state=0),
    "classifier, fitted encoder": CodeClassifier(encoder=clone(UNTRAINED).fit(X), hidden_sizes=(20,), random_state=0),
    "classifier, random start": CodeClassifier(
        encoder=clone(UNTRAINED).fit(X), start="random", hidden_sizes=(20,), random_state=0
    ),
    "classifier, encoder without a seed": CodeClassifier(
        encoder=clone(UNTRAINED).set_params(random_state=None), hidden_sizes=(20,), random_state=0
    ),
    "classifier, stack": CodeClassifier(encoder=StackedAutoencoder(max_epochs=1, **SUPERVISED), random_state=0),
}

NARROW = ("stacked, supervised, as many columns as classes",)
"""Rows of the table that are fitted on as many columns as there are classes."""


def copies(*pairs):
    """Pairs of names of weights of the encoder and of the decoder, by their names in the coder."""
    return {(f"coder.inference.encoder.{encoder}", f"coder.decoder.{decoder}") for encoder, decoder in pairs}


DICTIONARY = copies(("layers.0.weight", "layers.0.weight"))
SPARSE = (
    "sparse",
    "sparse, k of a row, gathered",
    "sparse, k on average",
    "sparse, thresholds",
    "sparse, gated",
    "sparse, lateral competition",
)
COPIES = dict.fromkeys(SPARSE, DICTIONARY) | {
    "sparse, unrolled steps": copies(("affine.weight", "layers.0.weight")),
    "stacked, jointly sparse and contractive": copies(
        ("encoders.0.layers.0.weight", "decoders.1.layers.0.weight"),
        ("encoders.1.layers.0.weight", "decoders.0.layers.0.weight"),
    ),
    "stacked, machines at the same time, a linear code": copies(
        ("encoders.0.up.weight", "decoders.1.weight"), ("encoders.1.up.weight", "decoders.0.weight")
    ),
    "predictive, filters": copies(("weight", "weight")),
    "dbn": copies(("maps.0.weight", "maps.0.weight"), ("maps.1.weight", "maps.1.weight")),
}
"""Pairs of weights of which one starts as the other or its transpose, by row."""


class Started(Exception):
    """Raised in place of the first step, with all objectives."""


def weights_before_training(estimator, rows, monkeypatch):
    """Every weight of the whole and of the objectives of its phases, by name."""

    def stop(whole, phases, *_, **__):
        raise Started([whole, *(phase.objective for phase in phases)])

    module = supervised if isinstance(estimator, CodeClassifier) else base
    monkeypatch.setattr(module, "run_phases", stop)
    with pytest.raises(Started) as started:
        clone(estimator).fit(rows, Y)
    weights = {}
    for number, objective in enumerate(started.value.args[0]):
        for name, parameter in objective.named_parameters():
            if parameter.ndim >= 2 and parameter.numel() > MIN_ENTRIES and parameter.std() > 0:
                weights.setdefault(parameter.data_ptr(), (f"{number}.{name}" if number else name, parameter.detach()))
    return dict(weights.values())


def largest_correlation(a, b):
    """The largest correlation of the entries of one tensor with those of another, in order, or of its transpose.

    It is in units of what independent entries have by chance, 1 / sqrt(n).
    """
    values = []
    for other in (b, b.transpose(0, 1)):
        n = min(a.numel(), other.numel())
        pair = torch.stack([a.reshape(-1)[:n], other.reshape(-1)[:n]]).double()
        values.append(math.sqrt(n) * abs(float(torch.corrcoef(pair)[0, 1])))
    return max(values)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_initial_weights_are_independent_unless_they_are_declared_copies(name, monkeypatch):
    rows = X[:, 20:30] if name in NARROW else X
    weights = weights_before_training(ESTIMATORS[name], rows, monkeypatch)
    assert weights
    correlated = {
        pair for pair in itertools.combinations(weights, 2) if largest_correlation(*map(weights.get, pair)) > 5
    }
    assert correlated == COPIES.get(name, set())


@pytest.mark.parametrize(("activation", "scale"), [("sigmoid", 0.5), ("relu", 1.0), ("linear", 1.0)])
def test_a_single_layer_is_drawn_once_in_the_scheme_of_its_activation(activation, scale):
    pair = perceptrons(
        8, (), 5, likelihood_from({"name": "gaussian"}, 8), code_activation=activation,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    expected, generator = torch.empty(5, 8), torch.Generator().manual_seed(0)
    initialise(expected, 8, 5, activation, generator)
    assert torch.equal(pair.encoder.affine_maps[0].weight, scale * expected)
    initialise(expected := torch.empty(8, 5), 5, 8, "linear", generator)
    assert torch.equal(pair.decoder.affine_maps[0].weight, expected)
