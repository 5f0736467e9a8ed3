"""Semantic hashing: bits, their packing, texts, and what the bits and the neighbours are for."""

import numpy as np
import pytest
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
    return SemanticHashing(code_size=20, max_epochs=25, random_state=0).fit(X[:1000])


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


def test_noise_makes_rounding_harmless():
    fits = [
        SemanticHashing(code_size=16, binarisation=isthmus.GrowingNoise(scale), penalties=(), max_epochs=20,
                        random_state=0).fit(X[:1000])
        for scale in (4.0, 0.01)
    ]  # fmt: skip
    noisy, plain = (model.reconstruction_error(X[1000:]).mean() for model in fits)
    assert noisy < plain


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


def test_wrong_fields_of_values_are_refused():
    for make in (lambda: Neighbours(k=0), lambda: BitBalance(-1.0), lambda: isthmus.GrowingNoise(scale=-1.0),
                 lambda: isthmus.StraightThrough(stochastic=1), lambda: isthmus.RelaxedBernoulli(temperature=0)):  # fmt: skip
        with pytest.raises(InputError):
            make()
