"""Semantic hashing: bits, their packing, texts, and what the bits and the neighbours are for."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.datasets import load_digits

import isthmus
from isthmus import BitBalance, CodeClassifier, InputError, MinimalLoss, Neighbours, SemanticHashing
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


# -- classes -----------------------------------------------------------------------------------------


def labelled(labels="minimal-loss", **arguments):
    return SemanticHashing(code_size=16, labels=labels, **{**SMALL, **arguments})


def same(a, b, rows=X):
    return np.array_equal(a.transform(rows), b.transform(rows))


def share_of_equal_classes(model, n=5):
    distances = (model.transform(X[1000:])[:, None] != model.transform(X[:1000])).sum(2)
    return (Y[:1000][np.argsort(distances, axis=1, kind="stable")[:, :n]] == Y[1000:, None]).mean()


def test_classes_bring_the_codes_of_their_rows_together():
    def fitted(labels):
        return labelled(labels, max_epochs=30, learning_rate=1e-2, batch_size=64).fit(X[:1000], Y[:1000])

    blind, taught = fitted(None), fitted("minimal-loss")
    assert share_of_equal_classes(taught, n=50) > share_of_equal_classes(blind, n=50) + 0.1
    assert list(taught.history_["epochs"][0]["terms"])[-1] == "labels"
    assert "labels" not in blind.history_["epochs"][0]["terms"]


def test_classes_without_the_argument_change_nothing():
    assert same(labelled(None).fit(X[:200]), labelled(None).fit(X[:200], Y[:200]))


def test_a_weight_of_zero_changes_nothing_but_the_history():
    assert same(labelled(MinimalLoss(weight=0.0)).fit(X[:200], Y[:200]), labelled(None).fit(X[:200]))


def test_the_names_of_the_classes_do_not_matter():
    names = np.array([f"class {y}" for y in Y[:200]])
    assert same(labelled().fit(X[:200], Y[:200]), labelled().fit(X[:200], names.tolist()))


def test_rows_without_a_class_are_in_no_pair():
    some = np.where(np.arange(200) % 3 > 0, Y[:200], np.nan)
    missing = [None if np.isnan(y) else str(int(y)) for y in some]
    model = labelled().fit(X[:200], some)
    assert same(model, labelled().fit(X[:200], missing))
    assert not same(model, labelled().fit(X[:200], Y[:200]))
    few = np.full(200, np.nan)
    few[:2] = 0, 1
    assert np.isfinite(labelled().fit(X[:200], few).history_["epochs"][-1]["terms"]["labels"])


def test_classes_of_one_row_are_learned():
    model = labelled(validation_fraction=0.0).fit(X[:60], np.append(np.arange(10, 20), Y[10:60]))
    assert np.isfinite(model.history_["epochs"][-1]["terms"]["labels"])


def test_validation_rows_have_classes():
    model = labelled().fit(X[:200], Y[:200], validation=(X[200:300], Y[200:300]))
    assert model.history_["epochs"][-1]["held_out"] is not None
    with pytest.raises(InputError, match=r"labels='minimal-loss' validates on labels too; give validation=\(rows, cl"):
        labelled().fit(X[:200], Y[:200], validation=X[200:300])
    with pytest.raises(InputError, match="y holds the class 'odd', which is not one of the training classes"):
        labelled().fit(X[:200], list("ab" * 100), validation=(X[200:202], ["a", "odd"]))


def test_rows_of_no_weight_are_left_out_with_their_classes():
    w = (np.arange(200) % 4 > 0).astype(float)
    some = w > 0
    weighted = labelled(validation_fraction=0.0, batch_size=30, scaling="none").fit(X[:200], Y[:200], sample_weight=w)
    alone = labelled(validation_fraction=0.0, batch_size=30, scaling="none").fit(X[:200][some], Y[:200][some])
    assert same(weighted, alone)


def test_parts_and_further_fits_use_the_classes_of_each_call():
    model = labelled().fit(X[:200], Y[:200])
    model.partial_fit(X[200:300], Y[200:300])
    assert "labels" in model.history_["epochs"][-1]["terms"]
    with pytest.raises(InputError, match="SemanticHashing requires y to be passed"):
        model.partial_fit(X[:100])
    model.set_params(warm_start=True).fit(X[:200], Y[:200] > 4)
    assert "labels" in model.history_["epochs"][-1]["terms"]


def test_sparse_rows_and_texts_have_classes():
    for rows in (csr_array(X[:60]), Documents(TEXTS)):
        model = labelled().fit(rows, np.arange(60) % 3)
        assert model.history_["epochs"][-1]["terms"]["labels"] > 0


def test_the_default_distance_is_a_quarter_of_the_bits_and_the_file_keeps_the_value(tmp_path):
    assert MinimalLoss().penalty(32).rho == 8
    model = labelled(MinimalLoss(rho=3, repair=0.0)).fit(X[:100], Y[:100])
    model.save(tmp_path / "m.isthmus")
    assert isthmus.load(tmp_path / "m.isthmus").labels == MinimalLoss(rho=3, repair=0.0)


def test_a_classifier_gives_its_classes_to_an_encoder_that_learns_from_them():
    encoder = labelled()
    classifier = CodeClassifier(encoder=encoder, max_epochs=2, frozen=True, random_state=0).fit(X[:200], Y[:200])
    assert "labels" in classifier.encoder_.history_["epochs"][-1]["terms"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "SemanticHashing requires y to be passed, but the target y is None; give one label per row"),
        (Y[:49], "X has 50 rows and y has 49 labels; give one label per row"),
        (np.zeros(50), "y holds one class only .0.0.; learning from classes needs at least two"),
        (np.full(50, np.nan), "every label is unlabeled=nan; give some rows a label"),
        (np.append(np.inf, Y[:49]), "y holds inf at row 0; a label must not be"),
        (np.linspace(0, 1, 50), "Unknown label type: continuous"),
    ],
)
def test_labels_that_are_no_classes_are_refused(y, message):
    with pytest.raises(InputError, match=message):
        labelled().fit(X[:50], y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"binarisation": "nois"}, "binarisation='nois' is unknown"),
        ({"binarisation": None}, "binarisation=None: give one of"),
        ({"penalties": ["mmd"]}, "needs codes of any sign and size"),
        ({"code_size": 0}, "code_size"),
        ({"labels": "hinge"}, "labels='hinge' is unknown"),
        ({"labels": ["a"] * 50}, "labels=.*: give one of 'minimal-loss', a value such as MinimalLoss"),
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
        (MinimalLoss, {"rho": 0}),
        (MinimalLoss, {"lam": -1.0}),
        (MinimalLoss, {"margin": 0}),
        (MinimalLoss, {"repair": "1"}),
        (isthmus.GrowingNoise, {"scale": 0.0}),
        (isthmus.StraightThrough, {"stochastic": 1}),
        (isthmus.RelaxedBernoulli, {"temperature": 0}),
    ],
)
def test_wrong_fields_of_values_are_refused(value, fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        value(**fields)
