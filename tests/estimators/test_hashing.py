"""Semantic hashing: bits, their packing, texts, and what the bits and the neighbours are for."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import isthmus
from isthmus import BitBalance, InputError, Neighbours, SemanticHashing
from isthmus.data import Documents
from isthmus.parts.count_encoder import CountEncoder

SMALL = {"max_epochs": 3, "random_state": 0}
X, Y = load_digits(return_X_y=True)
X = X / 16
TEXTS = [
    f"the {a} {b} {a}" for a, b in zip(("fox", "owl", "bear") * 20, ("red", "grey", "old", "big") * 15, strict=True)
]


@pytest.fixture(scope="module")
def hashing():
    return SemanticHashing(code_size=20, max_epochs=50, random_state=0).fit(X[:1000])


@pytest.mark.parametrize("binarisation", ["noise", "straight-through", "bernoulli"])
def test_codes_are_bits_and_reconstructions_are_those_of_the_bits(binarisation):
    model = SemanticHashing(code_size=11, binarisation=binarisation, **SMALL).fit(X[:200])
    bits = model.transform(X[:50])
    assert bits.dtype == np.uint8
    assert set(np.unique(bits)) == {0, 1}
    assert np.allclose(model.inverse_transform(bits), model.reconstruct(X[:50]), atol=1e-6)


def test_packed_codes_are_those_of_numpy_and_of_the_file(hashing, tmp_path):
    packed = hashing.packed(X[:30])
    assert packed.shape == (30, 3)
    assert np.array_equal(np.unpackbits(packed, axis=1, count=20), hashing.transform(X[:30]))
    assert not (packed[:, 2] & 0b1111).any()
    hashing.save(tmp_path / "m.isthmus")
    assert np.array_equal(isthmus.load(tmp_path / "m.isthmus").packed(X[:30]), packed)


def test_near_codes_are_of_the_same_class(hashing):
    distances = (hashing.transform(X[1000:])[:, None] != hashing.transform(X[:1000])).sum(2)
    assert (Y[:1000][distances.argmin(1)] == Y[1000:]).mean() > 0.75


def test_noise_moves_units_away_from_their_thresholds():
    def undecided(scale):
        model = SemanticHashing(
            code_size=16, binarisation=isthmus.GrowingNoise(scale), penalties=(), max_epochs=20, learning_rate=1e-2,
            validation_fraction=0.0, random_state=0,
        ).fit(X[:1000])  # fmt: skip
        rate = np.concatenate([torch.sigmoid(output.preactivation).numpy() for output in model.read(X[1000:])])
        return ((rate > 0.1) & (rate < 0.9)).mean()

    assert undecided(4.0) < 0.7 * undecided(0.01)


def test_neighbours_bring_the_codes_of_near_rows_together():
    def distance(penalties):
        model = SemanticHashing(code_size=24, penalties=penalties, max_epochs=15, random_state=0).fit(X[:1000])
        bits, same = model.transform(X[:1000]), Y[:1000, None] == Y[:1000]
        flips = (bits[:, None] != bits).sum(2)
        return flips[same].mean() / flips[~same].mean()

    assert distance([BitBalance(), Neighbours(k=20)]) < distance([BitBalance()])


def test_texts_are_counts_with_a_multinomial_likelihood_and_weighted_terms():
    model = SemanticHashing(code_size=6, **SMALL).fit(Documents(TEXTS))
    assert model.likelihood_ == {"name": "multinomial"}
    assert isinstance(model.coder_.inference.encoder, CountEncoder)
    assert model.transform(Documents(TEXTS[:2])).shape == (2, 6)
    other = SemanticHashing(code_size=6, likelihood="gaussian", **SMALL).fit(Documents(TEXTS))
    assert other.likelihood_["name"] == "gaussian"


def test_the_default_is_32_bits_and_wider_than_the_data_without_a_note():
    model = SemanticHashing(max_epochs=1, random_state=0).fit(X[:100, :5])
    assert model.transform(X[:2, :5]).shape == (2, 32)
    assert not any("more units" in note for note in model.history_["notes"])


def test_training_goes_on_with_the_noise_of_the_end():
    model = SemanticHashing(code_size=8, **SMALL).fit(X[:200])
    model.partial_fit(X[:200])
    assert model.coder_.inference.at_end


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"binarisation": "nois"}, "binarisation='nois' is unknown"),
        ({"binarisation": None}, "binarisation=None: give one of"),
        ({"penalties": ["mmd"]}, "needs codes of any sign and size"),
        ({"code_size": 0}, "code_size"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        SemanticHashing(**arguments).fit(X[:50])


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        (Neighbours, {"k": 0}),
        (Neighbours, {"weight": -1.0}),
        (BitBalance, {"weight": -1.0}),
        (isthmus.Decorrelation, {"weight": float("inf")}),
        (isthmus.GrowingNoise, {"scale": 0.0}),
        (isthmus.StraightThrough, {"stochastic": 1}),
        (isthmus.RelaxedBernoulli, {"temperature": 0}),
    ],
)
def test_wrong_fields_of_values_are_refused(value, fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        value(**fields)
