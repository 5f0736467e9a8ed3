"""What begins at machines: which layers do, which are held, and how denoising is set beside them."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from experiments import variations
from experiments.deep_ae_rbm import fine_tune
from experiments.learning import drawn_rows
from experiments.pretraining_gain import LAYERS, Held, begun, hold
from isthmus import CodeClassifier, StackedAutoencoder

DIGITS = load_digits()
X, Y = DIGITS.data[:200] / 16, DIGITS.target[:200]


@pytest.fixture(scope="module")
def machines():
    return StackedAutoencoder(
        layers="rbm", hidden_sizes=(12, 10), code_size=8, pretraining_epochs=2, fine_tuning_epochs=0, random_state=0
    ).fit(X)


def encoder_weights(model):
    return [
        next(p for p in encoder.parameters() if p.ndim == 2).detach() for encoder in model.objective_.encoder.encoders
    ]


@pytest.mark.parametrize("kept", [(), (1,), (2, 3), LAYERS])
def test_the_layers_that_are_kept_begin_at_their_machines_and_no_other(machines, kept):
    model = begun(machines, kept, X, 0)
    pairs = zip(LAYERS, encoder_weights(model), encoder_weights(machines), strict=True)
    assert [number for number, ours, theirs in pairs if torch.equal(ours, theirs)] == list(kept)
    if set(kept) == set(LAYERS):
        np.testing.assert_allclose(model.transform(X), machines.transform(X), atol=1e-6)


def test_a_layer_that_is_held_stays_while_the_others_learn(machines):
    coder = begun(machines, LAYERS, X, 0)
    before = coder.transform(X)
    hold(coder, [2])
    np.testing.assert_array_equal(coder.transform(X), before)
    classifier = CodeClassifier(encoder=coder, max_epochs=1, random_state=0).fit(X, Y)
    first, second, third = classifier.encoder_.objective_.encoder.encoders
    assert isinstance(second, Held)
    theirs = encoder_weights(machines)
    assert torch.equal(second.weight, theirs[1])
    assert not torch.equal(first.affine_maps[0].weight, theirs[0])
    assert not torch.equal(third.affine_maps[0].weight, theirs[2])


def test_labels_are_drawn_evenly_and_otherwise_each_time():
    rows = [drawn_rows(Y, 40, seed=seed) for seed in (0, 0, 1)]
    assert np.array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    assert (np.bincount(Y[rows[0]]) == 4).all()
    assert np.array_equal(drawn_rows(Y, 200, seed=0), np.arange(200))


def test_fine_tuning_goes_on_from_what_was_fitted(machines):
    model = StackedAutoencoder(
        layers="rbm", hidden_sizes=(12,), code_size=8, pretraining_epochs=2, fine_tuning_epochs=0, random_state=0
    ).fit(X)
    before = model.reconstruction_error(X).mean()
    fine_tune(model, X, epochs=5, learning_rate=1e-2)
    assert model.reconstruction_error(X).mean() < before
    assert not model.objective_.training


def test_denoising_is_set_beside_the_better_of_the_machines():
    errors = {"svm": 3.0, "sae-3": 3.4, "dae-3": 2.8, "rbm-3": 3.2, "dbn-3": 2.9}
    results = {f"basic-{method}": {"error": error} for method, error in errors.items()}
    (row,) = variations._against_machines(results)
    assert row.obtained == pytest.approx(-0.1)
    assert row.verdict == "pass"
    assert row.published.tolerance == pytest.approx(2 * np.sqrt((2.8 * 97.2 + 2.9 * 97.1) / 50_000), abs=0.01)
    del results["basic-dbn-3"]
    assert variations._against_machines(results) == []
