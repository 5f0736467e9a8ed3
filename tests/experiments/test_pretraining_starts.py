"""Starts from RBMs: pretrained and frozen layers, fine-tuning, and the comparison with denoising."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from experiments import variations
from experiments.deep_ae_rbm import fine_tune
from experiments.learning import balanced_rows
from experiments.pretraining_gain import LAYERS, FrozenAffine, partly_pretrained
from isthmus import CodeClassifier, Pretraining, StackedAutoencoder

DIGITS = load_digits()
X, Y = DIGITS.data[:200] / 16, DIGITS.target[:200]


@pytest.fixture(scope="module")
def rbms():
    return StackedAutoencoder(
        layers="rbm",
        hidden_sizes=(12, 10),
        code_size=8,
        pretraining=Pretraining(epochs=2),
        fine_tuning=None,
        random_state=0,
    ).fit(X)


def encoder_weights(model):
    return [next(p for p in encoder.parameters() if p.ndim == 2).detach() for encoder in model.coder_.encoder.encoders]


@pytest.mark.parametrize("kept", [(), (1,), (2, 3), LAYERS])
def test_only_the_pretrained_layers_start_at_their_rbms(rbms, kept):
    model = partly_pretrained(rbms, kept, (), X, 0)
    pairs = zip(LAYERS, encoder_weights(model), encoder_weights(rbms), strict=True)
    assert [number for number, ours, theirs in pairs if torch.equal(ours, theirs)] == list(kept)
    if set(kept) == set(LAYERS):
        np.testing.assert_allclose(model.transform(X), rbms.transform(X), atol=1e-6)


def test_a_frozen_layer_is_not_trained_with_the_others(rbms):
    coder = partly_pretrained(rbms, LAYERS, [2], X, 0)
    np.testing.assert_array_equal(coder.transform(X), partly_pretrained(rbms, LAYERS, (), X, 0).transform(X))
    classifier = CodeClassifier(encoder=coder, max_epochs=1, random_state=0).fit(X, Y)
    first, second, third = classifier.encoder_.coder_.encoder.encoders
    assert isinstance(second, FrozenAffine)
    theirs = encoder_weights(rbms)
    assert torch.equal(second.weight, theirs[1])
    assert not torch.equal(first.affine_maps[0].weight, theirs[0])
    assert not torch.equal(third.affine_maps[0].weight, theirs[2])


def test_balanced_rows_have_equal_classes_and_depend_on_the_seed():
    rows = [balanced_rows(Y, 40, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    assert (np.bincount(Y[rows[0]]) == 4).all()
    assert np.array_equal(balanced_rows(Y, 200, seed=0), np.arange(200))


def test_fine_tuning_starts_from_the_fitted_weights(rbms):
    model = StackedAutoencoder(
        layers="rbm",
        hidden_sizes=(12,),
        code_size=8,
        pretraining=Pretraining(epochs=2),
        fine_tuning=None,
        random_state=0,
    ).fit(X)
    before = model.reconstruction_error(X).mean()
    fine_tune(model, X, epochs=5, learning_rate=1e-2)
    assert model.reconstruction_error(X).mean() < before
    assert not model.coder_.training


def test_denoising_is_compared_with_the_better_of_the_rbms():
    errors = {"svm": 3.0, "sae-3": 3.4, "dae-3": 2.8, "rbm-3": 3.2, "dbn-3": 2.9}
    results = {f"basic-{method}": {"error": error} for method, error in errors.items()}
    (row,) = variations._against_rbms(results, variations.FULL)
    assert row.ours == pytest.approx(-0.1)
    assert row.verdict == "pass"
    assert row.target.tolerance == pytest.approx(2 * np.sqrt((2.8 * 97.2 + 2.9 * 97.1) / 50_000), abs=0.01)
    del results["basic-dbn-3"]
    assert variations._against_rbms(results, variations.FULL) == []


@pytest.mark.parametrize(
    ("anchor", "verdicts"),
    [
        (3.03, ["pass", "MISS"]),
        (2.80, ["pass", "MISS"]),
        (3.30, ["pass", "pass"]),
        (2.60, ["n/c", "n/c"]),
        (3.40, ["n/c", "n/c"]),
    ],
)
def test_the_anchor_scales_the_allowed_error_in_both_directions_and_decides_what_is_comparable(anchor, verdicts):
    results = {"basic-svm": {"error": anchor}, "basic-sae-3": {"error": 4.1}}
    rows = variations._rows(results, variations.FULL)
    assert [row.verdict for row in rows] == verdicts
    assert [row.published.value for row in rows] == [3.03, 3.46]
    remarks = variations._comparability({"basic": {"svm": anchor}}, variations.FULL)
    assert any(remark.startswith("Not comparable: basic (our SVM errs") for remark in remarks) == ("n/c" in verdicts)
