"""`partial_fit`: one pass over the rows of each call, by the same optimiser."""

import copy

import numpy as np
import pytest
import torch
from sklearn import clone

import isthmus
from isthmus import Autoencoder, InputError, LinearAutoencoder, StackedAutoencoder

from .fitted import X, equal, fitted, kept_state
from .kinds import KINDS

FEW = X[:128]
SLOW = {"recirculation": {"learning_rate": 0.1}}
WITH = [name for name in KINDS if hasattr(KINDS[name], "partial_fit")]


def passes(name, n):
    """A kind that was trained in some passes over the same rows."""
    model = clone(KINDS[name]).set_params(**SLOW.get(name, {}))
    for _ in range(n):
        model = model.partial_fit(FEW)
    return model


@pytest.mark.parametrize("name", WITH)
def test_each_pass_improves_the_model_and_the_same_seed_repeats_it(name):
    one, two = passes(name, 1), passes(name, 2)
    assert two.score(FEW) > 1.001 * one.score(FEW), "a score is negative"
    assert (one.n_steps_, two.n_steps_, two.planned_steps_) == ((8,), (16,), (16,))
    assert (two.n_rows_, len(two.history_["epochs"]), two.history_["stopped"]) == (2 * len(FEW), 1, "max_epochs")
    assert equal(kept_state(one.partial_fit(FEW)), kept_state(two))


@pytest.mark.parametrize("name", ["deep", "stacked", "rbm", "dbm"])
def test_a_fitted_model_goes_on_and_keeps_its_preprocessing(name):
    model = copy.deepcopy(fitted(name)).partial_fit(2 * X[:64])
    np.testing.assert_array_equal(model.preprocessing_.scale, fitted(name).preprocessing_.scale)
    *before, last = fitted(name).n_steps_
    assert model.n_steps_ == (*before, last + 4)
    assert np.isfinite(model.transform(X)).all()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (KINDS["dbn"], "a deep belief network has no partial_fit: .*; use fit with warm_start=True"),
        (StackedAutoencoder(layers="rbm"), "layers='rbm' has no partial_fit: .*; use fit with warm_start=True"),
        (StackedAutoencoder(pretraining="supervised"), "pretraining='supervised' has no partial_fit: .*; use fit with"),
    ],
)
def test_a_kind_that_cannot_do_it_lacks_the_method_and_says_what_to_use(model, text):
    assert not hasattr(model, "partial_fit")
    with pytest.raises(InputError, match=text):
        model.partial_fit(X)


def test_the_rate_is_constant_and_every_row_is_used_once():
    model = Autoencoder(code_size=2, learning_rate=3e-4, batch_size=50, patience=1, time_limit=1e-9, random_state=0)
    for _ in range(2):
        model.partial_fit(X)
        (epoch,) = model.history_["epochs"]
        assert (epoch["learning_rate"], epoch["steps"], epoch["held_out"]) == (3e-4, 6, None)


def test_the_moments_of_the_optimiser_go_on_in_memory_but_not_in_files(tmp_path):
    model = passes("deep", 2)
    model.save(tmp_path / "m")
    loaded, forgetful = isthmus.load(tmp_path / "m"), copy.deepcopy(model)
    forgetful._forget_optimizer()
    assert equal(kept_state(loaded.partial_fit(X)), kept_state(forgetful.partial_fit(X)))
    assert not equal(kept_state(model.partial_fit(X)), kept_state(forgetful))


def test_moments_survive_a_call_that_fails():
    model, other = passes("deep", 1), passes("deep", 1)
    with pytest.raises(InputError, match="NaN"):
        model.partial_fit(np.where(X > 8, np.nan, X))
    with pytest.raises(ValueError, match="X has 20 features"):
        model.partial_fit(X[:, :20])
    assert equal(kept_state(model.partial_fit(X)), kept_state(other.partial_fit(X)))


def test_running_statistics_of_the_criterion_go_on():
    model = passes("sparse, k of a row, gathered", 2)
    batches = [value for key, value in model._optimizer_memory.statistics.items() if key.endswith("n_batches")]
    assert batches == [torch.tensor(model.n_steps_[0])]


def test_fit_starts_anew_after_partial_fit():
    assert equal(kept_state(passes("deep", 1).fit(X)), kept_state(fitted("deep")))


def test_a_row_of_weight_0_is_left_out_and_the_first_call_weights_the_scaling():
    weights = np.where(np.arange(300) < 200, 1.0, 0.0)
    model = LinearAutoencoder(code_size=2, random_state=0).partial_fit(X, sample_weight=weights)
    np.testing.assert_allclose(model.preprocessing_.offset, X[:200].mean(0), atol=1e-12)
    assert model.n_rows_ == 200
    alone = LinearAutoencoder(code_size=2, random_state=0).partial_fit(X[:200])
    np.testing.assert_allclose(model.transform(X), alone.transform(X), atol=1e-5)
