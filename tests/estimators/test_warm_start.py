"""`fit` with `warm_start=True`: it goes on from the fitted weights, with the preprocessing of the first fit."""

import copy

import numpy as np
import pytest
import torch
from sklearn import clone

import isthmus
from isthmus import (
    Autoencoder,
    DeepBeliefNetwork,
    InputError,
    InputWarning,
    Layer,
    RestrictedBoltzmannMachine,
    StackedAutoencoder,
)
from isthmus.estimators.base import GOES_ON_NOTE
from isthmus.learning.deep_densities import DBMDensity
from isthmus.learning.densities import RBMDensity
from isthmus.learning.trainer import Trainer

from .fitted import X, equal, fitted, kept_state
from .interruptions import kill
from .kinds import IMPLIED_SIZE, KINDS, WITHOUT_RATE

every_kind = pytest.mark.parametrize("name", KINDS)
ONE_OF_EACH = list({model.kind: name for name, model in reversed(KINDS.items())}.values())
RATES = ("learning_rate", "pretraining__learning_rate", "fine_tuning__learning_rate")
SETTINGS = {"recirculation": {"learning_rate": 0.1}}
"""A local rule at its full rate is too noisy to improve in three more epochs."""


def warm(name, **arguments):
    """A copy of a fitted kind that goes on from its weights."""
    return copy.deepcopy(fitted(name)).set_params(warm_start=True, **SETTINGS.get(name, {}), **arguments)


def with_rate(model, rate):
    """The model with one learning rate for every phase."""
    return model.set_params(**{argument: rate for argument in RATES if argument in model.get_params()})


@pytest.mark.parametrize("name", [name for name in KINDS if name not in (*WITHOUT_RATE, "predictive")])
def test_at_a_tiny_rate_the_weights_stay_and_rows_of_another_scale_are_read_as_before(name):
    model, before = with_rate(warm(name, max_epochs=1), 1e-9), fitted(name)
    model.fit(1.5 * X[:100])
    assert GOES_ON_NOTE in model.history_["notes"]
    assert model.n_rows_ == 90
    np.testing.assert_array_equal(model.preprocessing_.scale, before.preprocessing_.scale)
    np.testing.assert_array_equal(model.preprocessing_.offset, before.preprocessing_.offset)
    assert (model.likelihood_, model.code_size_) == (before.likelihood_, before.code_size_)
    weights = dict(before.coder_.named_parameters())
    for key, weight in model.coder_.named_parameters():
        torch.testing.assert_close(weight, weights[key], rtol=0, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_second_fit_ends_with_a_lower_loss_than_the_first(name):
    first = fitted(name).history_["epochs"][-1]["held_out"]
    model = warm(name).fit(X)
    assert model.history_["epochs"][-1]["held_out"] <= first + 1e-3 * abs(first)
    assert equal(kept_state(fitted(name)), kept_state(copy.deepcopy(fitted(name)))), "the copy was trained"


@pytest.mark.parametrize("name", [name for name in KINDS if name not in IMPLIED_SIZE])
def test_an_argument_of_the_model_that_was_changed_is_refused_by_name(name):
    model = warm(name, code_size=9 if fitted(name).code_size != 9 else 3)
    with pytest.raises(
        InputError, match=r"code_size=\d: the weights to go on from were trained with code_size=\d+; set"
    ):
        model.fit(X)
    if hasattr(model, "partial_fit"):
        with pytest.raises(InputError, match="code_size="):
            model.partial_fit(X)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("deep", {"hidden_sizes": (4,)}),
        ("deep", {"likelihood": "gaussian"}),
        ("deep", {"scaling": "none"}),
        ("sparse", {"sparsity": "topk"}),
        ("rbm", {"method__n_chains": 7}),
    ],
)
def test_other_arguments_of_the_model_are_refused_too(name, changes):
    with pytest.raises(InputError, match=f"{next(iter(changes)).partition('__')[0]}="):
        warm(name, **changes).fit(X)


@every_kind
def test_a_warm_fit_that_fails_changes_nothing(name):
    model = warm(name)
    before, attributes = kept_state(model), dict(vars(model))
    with pytest.raises(InputError, match="NaN"):
        model.fit(np.where(X > 8, np.nan, X))
    with pytest.raises(ValueError, match="X has 20 features, but .* is expecting 64"):
        model.fit(X[:, :20])
    assert vars(model) == attributes
    assert equal(kept_state(model), before)


@pytest.mark.parametrize("name", ["deep", "stacked", "rbm", "dbm", "dbn"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_failure_after_training_leaves_the_weights_too(name, method, monkeypatch):
    model = warm(name)
    if not hasattr(model, method):
        pytest.skip("the kind has no such method")
    before, run = kept_state(model), Trainer.run

    def run_and_fail(trainer):
        run(trainer)
        raise RuntimeError("afterwards")

    monkeypatch.setattr(Trainer, "run", run_and_fail)
    with pytest.raises(RuntimeError, match="afterwards"):
        getattr(model, method)(X)
    assert equal(kept_state(model), before)
    assert vars(model).keys() == vars(warm(name)).keys()


@pytest.mark.parametrize("name", ["deep", "stacked", "rbm"])
def test_a_loaded_model_goes_on_as_the_one_that_was_saved(name, tmp_path):
    fitted(name).save(tmp_path / "m")
    loaded = isthmus.load(tmp_path / "m").set_params(warm_start=True)
    assert equal(kept_state(loaded.fit(X)), kept_state(warm(name).fit(X)))


@pytest.mark.parametrize("name", ["deep", "stacked", "rbm"])
def test_the_first_fit_is_an_ordinary_one(name):
    assert equal(kept_state(clone(KINDS[name]).set_params(warm_start=True).fit(X)), kept_state(fitted(name)))


@pytest.mark.parametrize("name", ["rbm", "rbm, semi-restricted", "dbm", "dbn"])
def test_chains_continue_and_log_z_is_that_of_the_new_weights(name, monkeypatch):
    for density in (RBMDensity, DBMDensity):
        monkeypatch.setattr(density, "initialize_chains", lambda *_: pytest.fail("the chains started anew"))
    model = warm(name).fit(X)
    assert model.score_kind_ == fitted(name).score_kind_
    expected = float(model.density_.bipartite_rbm().log_partition())
    assert float(model.density_.log_partition) == pytest.approx(expected, rel=1e-9)
    assert expected != float(fitted(name).density_.log_partition)


def test_an_estimate_of_log_z_is_discarded():
    model = RestrictedBoltzmannMachine(code_size=30, max_epochs=1, likelihood="gaussian", random_state=0).fit(X)
    model.estimate_log_partition(n_chains=2, n_temperatures=3)
    assert model.score_kind_ == "estimate"
    model.set_params(warm_start=True).fit(X)
    assert model.score_kind_ == "unnormalised"
    assert not hasattr(model, "log_partition_")


LAYERED = {
    "stacked": StackedAutoencoder(
        code_size=3, hidden_sizes=(8,), fine_tuning=None, layers=Layer(corruption="salt-and-pepper")
    ),
    "machines": StackedAutoencoder(code_size=3, hidden_sizes=(8,), fine_tuning=None, layers="rbm"),
    "joint": StackedAutoencoder(
        code_size=3,
        hidden_sizes=(8,),
        pretraining="joint",
        fine_tuning=None,
        layers=Layer(corruption="salt-and-pepper"),
    ),
    "dbn": DeepBeliefNetwork(code_size=8, hidden_sizes=(8,)),
    "dbn, transposed": DeepBeliefNetwork(code_size=64, hidden_sizes=(8,)),
}


@pytest.mark.parametrize("name", LAYERED)
def test_without_fine_tuning_the_layers_are_trained_again_from_their_weights(name):
    first = clone(LAYERED[name]).set_params(max_epochs=3, random_state=0).fit((X > 8).astype(float))
    model = with_rate(copy.deepcopy(first).set_params(warm_start=True), 1e-9).fit((X > 8).astype(float))
    phases = [[record["name"] for record in [*m.history_["pretraining"], m.history_]] for m in (first, model)]
    assert phases[0] == phases[1]
    weights = dict(first.coder_.named_parameters())
    for key, weight in model.coder_.named_parameters():
        torch.testing.assert_close(weight, weights[key], rtol=0, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def test_a_killed_warm_fit_resumes_from_the_same_weights_alone(tmp_path, monkeypatch):
    kill(lambda **options: warm("deep").fit(X, checkpoint=tmp_path / "m", **options), monkeypatch, after=2)
    resumed = warm("deep").fit(X, checkpoint=tmp_path / "m", resume=True)
    assert equal(kept_state(resumed), kept_state(warm("deep").fit(X)))
    for other in (clone(KINDS["deep"]), copy.deepcopy(resumed)):
        with pytest.raises(InputError, match=r"initial weights \(\w+ then, \w+ now\)"):
            other.fit(X, checkpoint=tmp_path / "m", resume=True)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_rows_in_another_unit_are_noticed_as_in_transform(method):
    options = {"code_size": 2, "max_epochs": 1, "warm_start": True, "random_state": 0}
    with pytest.warns(InputWarning, match="far outside the domain of its likelihood"):
        getattr(Autoencoder(**options).fit(X / 16), method)(X)
    with pytest.raises(InputError, match=r"requires values in .0, 1.; found 5"):
        getattr(Autoencoder(likelihood="bernoulli", **options).fit(X / 16), method)(X)
