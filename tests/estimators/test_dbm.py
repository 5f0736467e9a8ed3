"""The deep Boltzmann machine as an estimator: its bound, its marginals, its labels, and what it refuses."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import isthmus
from isthmus import PCD, DeepBoltzmannMachine, InputError, Pretraining
from isthmus.learning.deep_densities import DBMDensity
from isthmus.learning.trainer import Trainer
from isthmus.parts.mean_field import MeanField

from .interruptions import kill, press_ctrl_c

DIGITS = load_digits()
X, Y = DIGITS.data[:400] / 16, DIGITS.target[:400]
EVERY = np.array(list(itertools.product([0.0, 1.0], repeat=6)))


def halves():
    """Rows of two equal halves, each three times the same bit."""
    return np.repeat(np.random.default_rng(0).random((300, 2)) < 0.5, 3, axis=1).astype(float)


def machine(**changes):
    options = {
        "hidden_sizes": (6,), "code_size": 4, "max_epochs": 20, "pretraining": Pretraining(epochs=5),
        "learning_rate": 0.1, "batch_size": 30, "random_state": 0,
    }  # fmt: skip
    return DeepBoltzmannMachine(**options | changes)


@pytest.mark.parametrize("pretraining", [Pretraining(epochs=5), None])
def test_the_bound_is_of_a_density_and_nearly_all_of_it(pretraining):
    how = {"learning_rate": 0.4, "max_epochs": 40, "validation_fraction": 0.0}
    model = machine(pretraining=pretraining, **how).fit(halves())
    assert model.score_kind_ == "bound"
    total = np.exp(model.score_samples(EVERY)).sum()
    assert 0.85 < total <= 1.0 + 1e-4  # fp32
    four = np.unique(halves(), axis=0)
    assert np.exp(model.score_samples(four)).sum() > 0.8  # 4 of 64 states


def test_log_z_is_estimated_where_it_is_not_summed_and_kept():
    model = machine(max_epochs=2, hidden_sizes=(30,), code_size=25, method=PCD(n_chains=20)).fit(X)
    assert model.score_kind_ == "unnormalised"
    assert not hasattr(model, "log_partition_")
    before = model.score_samples(X[:5])
    estimate = model.estimate_log_partition(n_chains=20, n_temperatures=100)
    assert model.score_kind_ == "bound"
    np.testing.assert_allclose(before - estimate.log_partition, model.score_samples(X[:5]))


def test_codes_are_the_mean_field_rates_of_the_top_layer():
    model = machine(hidden_sizes=(12, 8), max_epochs=2, n_iterations=50).fit(X)
    marginals = model.marginals(X)
    assert [rates.shape for rates in marginals] == [(400, 12), (400, 8), (400, 4)]
    np.testing.assert_allclose(model.transform(X), marginals[-1], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "spread"),
    [
        ({"hidden_sizes": (40,), "code_size": 40, "pretraining": None, "max_epochs": 30}, 0.05),
        ({"hidden_sizes": (300,), "code_size": 300, "max_epochs": 5}, 0.015),
    ],
    ids=["all at once", "wide layers"],
)
def test_the_top_layer_tells_rows_apart(options, spread):
    model = machine(**options, batch_size=20, n_iterations=5).fit(X)
    assert model.transform(X).std(0).mean() > spread


def test_learning_names_the_layers_and_then_the_whole():
    history = machine(hidden_sizes=(8, 6), max_epochs=1, pretraining=Pretraining(epochs=2)).fit(X).history_
    assert [phase["name"] for phase in history["pretraining"]] == ["layer 1 of 3", "layer 2 of 3", "layer 3 of 3"]
    assert [len(phase["epochs"]) for phase in history["pretraining"]] == [2, 2, 2]
    assert (history["name"], len(history["epochs"])) == ("all layers", 1)
    assert machine(max_epochs=1, pretraining=None).fit(X).history_["pretraining"] == []


@pytest.mark.parametrize("step", [35, 50])
def test_a_run_cut_in_its_last_layer_or_after_ends_as_an_uncut_one(step, tmp_path, monkeypatch):
    options = {
        "hidden_sizes": (8, 6),
        "max_epochs": 1,
        "pretraining": Pretraining(epochs=1),
        "validation_fraction": 0.0,
    }
    uncut = machine(**options).fit(X)
    kill(partial(machine(**options).fit, X, checkpoint=tmp_path / "m"), monkeypatch, after=step)
    again = machine(**options).fit(X, checkpoint=tmp_path / "m", resume=True)
    state = uncut._parts.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again._parts.state_dict().items())


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian-learned"])
def test_labels_reach_every_weight_of_the_pass_up_and_none_of_the_machine(likelihood, tmp_path):
    options = {"hidden_sizes": (40,), "code_size": 30, "learning_rate": None, "pretraining": Pretraining(epochs=10)}
    model = machine(likelihood=likelihood, **options)
    model.fit(X).estimate_log_partition(n_chains=20, n_temperatures=100)
    classifier = model.to_classifier(max_epochs=20, learning_rate=1e-2, random_state=0).fit(X[:300], Y[:300])
    assert classifier.score(X[300:], Y[300:]) > 0.75
    tuned = classifier.encoder_
    pretrained = MeanField(model.density_.energy, 1)
    pretrained.separate_weights()
    own = dict(tuned.coder_.encoder.own.named_parameters())
    assert all(not torch.equal(value, own[name]) for name, value in pretrained.own.named_parameters())
    before = model.density_.energy.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in tuned.density_.energy.state_dict().items())
    np.testing.assert_array_equal(tuned.filters(), own["0.weight"].detach().numpy().astype(float))
    for name, kept in {"classifier": classifier, "encoder": tuned}.items():
        kept.save(tmp_path / name)
    np.testing.assert_array_equal(isthmus.load(tmp_path / "classifier").predict(X), classifier.predict(X))
    np.testing.assert_array_equal(isthmus.load(tmp_path / "encoder").transform(X), tuned.transform(X))


def test_beside_labels_the_machine_learns_on_where_its_own_criterion_is_asked_for():
    model = machine(hidden_sizes=(12,), max_epochs=2).fit(X)
    both = model.to_classifier(max_epochs=2, reconstruction_weight=0.1, random_state=0).fit(X[:300], Y[:300])
    assert both.encoder_.coder_.encoder.own is None
    moved = zip(both.encoder_.density_.energy.weights, model.density_.energy.weights, strict=True)
    assert all(not torch.equal(after, before) for after, before in moved)


def test_a_reinitialised_rbm_starts_with_column_rates_as_biases():
    how = {"max_epochs": 1, "learning_rate": 1e-9, "validation_fraction": 0.0, "reconstruction_weight": 0.1}
    model = machine(max_epochs=2).fit(X)
    classifier = isthmus.CodeClassifier(encoder=model, start="random", random_state=0, **how).fit(X, Y)
    rates = torch.sigmoid(classifier.encoder_.density_.energy.biases[0].detach()).numpy()
    np.testing.assert_allclose(rates, X.mean(0), atol=0.02)
    assert model._with_criterion().objective.pretrained
    assert not model._with_new_weights(torch.Generator()).objective.pretrained


def test_log_z_is_forgotten_by_whatever_labels_have_begun_from():
    model = machine(max_epochs=2).fit(X)
    assert model.score_kind_ == "bound"
    how = {"max_epochs": 1, "random_state": 0}
    tuned = model.to_classifier(**how).fit(X, Y).encoder_
    for arguments in ({"start": "random"}, {"encoder": tuned, "reconstruction_weight": 0.1}):
        encoder = isthmus.CodeClassifier(**{"encoder": model} | how | arguments).fit(X, Y).encoder_
        assert encoder.score_kind_ == "unnormalised"
        assert not hasattr(encoder, "log_partition_")


def test_ctrl_c_while_layers_learn_one_by_one_leaves_a_whole_machine(monkeypatch):
    press_ctrl_c(monkeypatch, at=20)
    model = machine(max_epochs=2, validation_fraction=0.0).fit(X)
    assert (model.history_["stopped"], model.history_["name"]) == ("interrupted", "layer 1 of 2")
    assert model.score_kind_ == "bound"
    density, v = model.density_, torch.from_numpy(X.astype(np.float32))
    assert density.particles.any()
    for offset, rates in zip(density.offsets[1:], density.energy.mean_field(v, 10), strict=True):
        torch.testing.assert_close(offset, rates.mean(0), atol=1e-3, rtol=0)


def test_ctrl_c_in_the_first_layer_keeps_its_biases_and_leaves_a_density(monkeypatch):
    run, trained = Trainer.run, []

    def record(learning):
        state = run(learning)
        trained.extend(
            bias.clone() for bias in (learning.objective.rbm.visible_bias, learning.objective.rbm.hidden_bias)
        )
        return state

    monkeypatch.setattr(Trainer, "run", record)
    press_ctrl_c(monkeypatch, at=20)
    model = machine(hidden_sizes=(8, 6), validation_fraction=0.0).fit(X)
    assert (model.history_["stopped"], model.history_["name"]) == ("interrupted", "layer 1 of 3")
    first, second, *others = model.density_.energy.biases
    assert torch.equal(first, trained[0])
    assert torch.equal(second, trained[1])  # the layer above takes this bias, so their mean is the same
    assert second.any()
    assert not any(bias.any() for bias in others)  # as initialized
    assert np.isfinite(model.score_samples(X)).all()
    assert model.score_kind_ == "bound"
    assert set(np.unique(model.sample(20, random_state=0, n_steps=5).round(6))) == {0.0, 1.0}


def test_ctrl_c_while_layers_are_joined_averages_the_biases_once(monkeypatch):
    options = {
        "hidden_sizes": (6, 5),
        "max_epochs": 1,
        "pretraining": Pretraining(epochs=1),
        "validation_fraction": 0.0,
    }
    initialize, joined, pressed = DBMDensity.initialize_chains, {}, []

    def record(density, rows):
        joined.update({name: value.clone() for name, value in density.energy.named_parameters()})
        initialize(density, rows)

    def press(density, rows):
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt
        initialize(density, rows)

    with monkeypatch.context() as patched:
        patched.setattr(DBMDensity, "initialize_chains", record)
        machine(**options).fit(X)
    monkeypatch.setattr(DBMDensity, "initialize_chains", press)
    model = machine(**options).fit(X)
    assert (model.history_["stopped"], model.history_["name"]) == ("interrupted", "layer 3 of 3")
    for name, value in model.density_.energy.named_parameters():
        assert torch.equal(value, joined[name]), name
    assert model.score_kind_ == "bound"


def test_real_columns_are_drawn_in_their_own_units():
    rows = 100 + 20 * np.random.default_rng(0).normal(size=(200, 3))
    stage = Pretraining(epochs=5, learning_rate=0.01)
    model = machine(likelihood="gaussian", learning_rate=0.01, pretraining=stage, max_epochs=5).fit(rows)
    drawn = model.sample(300, random_state=0)
    assert drawn.shape == (300, 3)
    np.testing.assert_allclose(drawn.mean(), 100, atol=8)
    np.testing.assert_allclose(drawn.std(), 20, atol=8)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"method": "cd"}, "method='cd': a deep Boltzmann machine is trained with persistent chains, method='pcd'"),
        ({"n_chains": 10}, r"has no argument 'n_chains'; give method=PCD\(n_chains=...\)"),
        ({"hidden_sizes": ()}, "a deep Boltzmann machine has two hidden layers or more; found 1; give hidden_sizes"),
        ({"hidden_sizes": (0,)}, "0"),
        ({"n_iterations": 0}, "n_iterations=0: it must be a whole number of at least 1"),
        (
            {"pretraining": "joint"},
            "pretraining='joint': the layers of a deep Boltzmann machine are trained one by one",
        ),
        ({"likelihood": "multinomial", "scaling": "none"}, "a deep Boltzmann machine has no units for word counts"),
        ({"likelihood": "gaussian-unit"}, "likelihood='gaussian-unit' has no visible unit of an energy"),
    ],
)
def test_invalid_arguments_are_refused(changes, text):
    with pytest.raises(InputError, match=text):
        machine(**changes).fit(halves())


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: PCD(n_chains=0), "n_chains=0: sampling needs at least one chain; give 1 or more"),
        (lambda: Pretraining(epochs=-1), "Pretraining: epochs=-1: it must be a whole number of at least 1"),
        (lambda: Pretraining(learning_rate=0), "Pretraining: learning_rate=0: it must be a finite number above 0"),
    ],
)
def test_values_refuse_invalid_fields(build, text):
    with pytest.raises(InputError, match=text):
        build()


def test_an_exact_log_z_of_a_large_machine_is_refused_with_what_to_do():
    model = machine(hidden_sizes=(30,), code_size=25, max_epochs=1, pretraining=None).fit(X)
    with pytest.raises(InputError, match=r"2\^30 states, more than 2\^20; estimate it by annealed importance sampling"):
        model.density_.energy.log_partition()
