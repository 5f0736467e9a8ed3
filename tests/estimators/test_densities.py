"""The kinds that are densities: what they score, what they draw, what they become."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import clone
from sklearn.datasets import load_digits

import isthmus
from isthmus import (
    PCD,
    SGD,
    Autoencoder,
    CodeClassifier,
    DeepBeliefNetwork,
    DeepBoltzmannMachine,
    DenoisingScoreMatching,
    FineTuning,
    InputError,
    KLRate,
    RestrictedBoltzmannMachine,
    StackedAutoencoder,
)
from isthmus.parts.forward import Batch

from .interruptions import press_ctrl_c

X = (load_digits().data[:300] > 7).astype(float)
SMALL = {"max_epochs": 3, "random_state": 0}


def large(**changes):
    return RestrictedBoltzmannMachine(**{"code_size": 24, **SMALL, **changes}).fit(X)


def test_a_small_machine_is_summed_and_its_probabilities_are_probabilities():
    pairs = np.array([[a, a, b, b, 1 - a] for a in (0, 1) for b in (0, 1)] * 10, float)
    model = RestrictedBoltzmannMachine(code_size=3, **SMALL).fit(pairs)
    every = np.array(list(np.ndindex(*[2] * 5)), float)
    assert model.score_kind_ == "exact"
    assert np.exp(model.score_samples(every)).sum() == pytest.approx(1.0, abs=1e-5)
    estimate = model.estimate_log_partition(n_temperatures=50)
    assert estimate.log_partition == pytest.approx(model.log_partition_, abs=0.1)
    assert model.score_kind_ == "exact"


def test_a_large_machine_scores_by_its_free_energy_until_log_z_is_estimated(tmp_path):
    model = large()
    assert model.score_kind_ == "unnormalised"
    assert not hasattr(model, "log_partition_")
    before = model.score_samples(X)
    x = torch.from_numpy(X).float()
    np.testing.assert_allclose(before, -model.density_.rbm.free_energy(x).detach().numpy(), rtol=1e-5)
    estimate = model.estimate_log_partition(n_chains=20, n_temperatures=50)
    assert model.score_kind_ == "estimate"
    assert model.log_partition_ == estimate.log_partition
    np.testing.assert_allclose(model.score_samples(X), before - estimate.log_partition)
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    assert again.score_kind_ == "estimate"
    np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(again.sample(3, 0, n_steps=5), model.sample(3, 0, n_steps=5))


def test_draws_come_in_the_users_units_and_repeat_with_their_seed():
    images = (load_digits().images[:100] * 15).astype(np.uint8)
    model = RestrictedBoltzmannMachine(code_size=5, **SMALL).fit(images)
    drawn = model.sample(4, random_state=1, n_steps=3)
    assert drawn.shape == (4, 8, 8)
    assert drawn.dtype == np.uint8
    assert set(np.unique(drawn)) <= {0, 255}
    np.testing.assert_array_equal(model.sample(4, random_state=1, n_steps=3), drawn)
    grey = model.sample(150, random_state=1, n_steps=3, mean=True)
    assert grey.shape == (150, 8, 8)
    assert ((grey > 0) & (grey < 255)).any()


@pytest.mark.parametrize("method", ["cd", "pcd"])
def test_word_count_samples_keep_the_row_totals(method):
    words = np.random.default_rng(0).poisson(2.0, (60, 10)).astype(float)
    model = RestrictedBoltzmannMachine(
        code_size=4, likelihood="multinomial", scaling="none", method=method, **SMALL
    ).fit(words)
    drawn = model.sample(20, 0, n_steps=3)
    assert set(drawn.sum(1)) <= set(words.sum(1))
    assert (drawn == drawn.round()).all()
    np.testing.assert_allclose(model.reconstruct(words).sum(1), words.sum(1), rtol=1e-5)
    with pytest.raises(InputError, match=r"by isthmus.evaluation.partition.annealed_importance_sampling\("):
        model.estimate_log_partition()


def test_tables_take_a_unit_for_each_column_and_counts_as_real():
    import pandas as pd

    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "real": generator.normal(size=80),
            "flag": generator.integers(0, 2, 80).astype(bool),
            "kind": pd.Categorical(generator.choice(list("abc"), 80)),
            "visits": generator.poisson(3.0, 80),
        }
    )
    model = RestrictedBoltzmannMachine(code_size=4, **SMALL).fit(frame)
    assert {group["unit"] for group in model.likelihood_["groups"]} == {"real", "binary", "categorical"}
    drawn = model.sample(6, 0, n_steps=3)
    assert list(drawn.columns) == list(frame.columns)
    assert set(drawn["kind"]) <= set("abc")
    assert model.score_kind_ == "exact"


@pytest.mark.parametrize(
    ("changes", "rows", "text"),
    [
        (
            {"likelihood": "bernoulli", "scaling": "none"},
            X - 0.5,
            "Bernoulli likelihood requires values in .0, 1.; found",
        ),
        (
            {"likelihood": "multinomial"},
            X + 0.5,
            "Multinomial likelihood requires counts, whole numbers from 0; found",
        ),
        (
            {"likelihood": "poisson"},
            X,
            "likelihood='poisson' has no visible unit of an energy; choose one of: bernoulli",
        ),
        ({"hidden_units": "relu"}, X, "hidden_units 'relu' is unknown"),
        ({"optimizer": "adam"}, X, "optimizer='adam' is unknown; did you mean 'adamw'"),
        ({"momentum": 0.9}, X, r"has no argument 'momentum'; give optimizer=SGD\(momentum=...\)"),
        ({"method__n_chains": 0}, X, "n_chains=0: sampling needs at least one chain; give 1 or more"),
        ({"method__n_steps": 0}, X, "n_steps=0: it must be a whole number of at least 1"),
        ({"sparsity": "l1"}, X, "sparsity='l1': the hidden units of an RBM are sparse by a target rate; take 'kl'"),
    ],
)
def test_what_a_machine_cannot_learn_from_is_refused(changes, rows, text):
    with pytest.raises(InputError, match=text):
        RestrictedBoltzmannMachine(code_size=3, **SMALL).set_params(**changes).fit(rows)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: PCD(n_chains=0), "n_chains=0: sampling needs at least one chain; give 1 or more"),
        (lambda: SGD(momentum=1.5), "momentum=1.5: it must be a fraction, at least 0 and below 1"),
        (lambda: SGD(momentum=-1), "momentum=-1: it must be a fraction, at least 0 and below 1"),
        (lambda: DenoisingScoreMatching(noise_scale=None), "noise_scale=None: it must be a finite number above 0"),
        (lambda: KLRate(rate=2.0), "KLRate: rate 2.0 is not a rate between 0 and 1"),
    ],
)
def test_values_of_a_machine_refuse_invalid_fields(build, text):
    with pytest.raises(InputError, match=text):
        build()


def test_draws_that_cannot_be_meant_are_refused():
    model = large(max_epochs=1)
    with pytest.raises(InputError, match="n=0: it must be a whole number of at least 1"):
        model.sample(0)
    with pytest.raises(InputError, match="n_steps=-1: it must be a whole number of at least 1"):
        model.sample(2, n_steps=-1)


def network(**changes):
    return DeepBeliefNetwork(**{"hidden_sizes": (7,), "code_size": 5, **SMALL, **changes}).fit(X)


def test_a_network_of_small_machines_has_a_bound_and_draws(tmp_path):
    model = network(fine_tuning=FineTuning(epochs=2))
    assert [record["name"] for record in model.history_["pretraining"]] == ["layer 1 of 2", "layer 2 of 2"]
    assert model.history_["name"] == "up-down"
    assert model.score_kind_ == "bound"
    assert (model.score_samples(X) < 0).all()
    assert model.sample(3, 0, n_steps=4).shape == (3, 64)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(isthmus.load(tmp_path / "m").score_samples(X), model.score_samples(X))


WORDS = np.random.default_rng(0).poisson(2.0, (60, 10)).astype(float)
SAVED = {
    "rbm": (RestrictedBoltzmannMachine(code_size=6, **SMALL), X),
    "rbm, lateral": (RestrictedBoltzmannMachine(code_size=6, lateral=True, **SMALL), X),
    "rbm, word counts": (
        RestrictedBoltzmannMachine(code_size=6, method="cd", likelihood="multinomial", scaling="none", **SMALL),
        WORDS,
    ),
    "rbm, score": (
        RestrictedBoltzmannMachine(code_size=6, method="score", likelihood="gaussian-learned", **SMALL),
        WORDS,
    ),
    "dbm": (DeepBoltzmannMachine(hidden_sizes=(7, 6), code_size=5, **SMALL), X),
    "dbm, all layers together": (
        DeepBoltzmannMachine(hidden_sizes=(7,), code_size=5, pretraining=None, likelihood="gaussian", **SMALL),
        WORDS,
    ),
    "dbn": (DeepBeliefNetwork(hidden_sizes=(7, 6), code_size=5, fine_tuning=FineTuning(epochs=1), **SMALL), X),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_density_is_bit_equal(name, tmp_path):
    estimator, rows = SAVED[name]
    model = clone(estimator).fit(rows)
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    kept, loaded = model._parts.state_dict(), again._parts.state_dict()
    assert kept.keys() == loaded.keys()
    assert any(key.startswith("density.") for key in kept)
    assert all(torch.equal(loaded[key], value) for key, value in kept.items())
    assert again.score_kind_ == model.score_kind_
    np.testing.assert_array_equal(again.score_samples(rows), model.score_samples(rows))
    np.testing.assert_array_equal(again.sample(5, 0, n_steps=3), model.sample(5, 0, n_steps=3))


def test_without_fine_tuning_generative_and_recognition_weights_are_equal():
    model = network()
    directed, upward = model.coder_.decoder.maps[0], model.coder_.encoder.maps[0]
    torch.testing.assert_close(directed.weight, upward.weight.t())
    large_top = network(hidden_sizes=(30,), code_size=24, max_epochs=1)
    assert large_top.score_kind_ == "unnormalised"
    before, estimate = large_top.score_samples(X), large_top.estimate_log_partition(20, 50)
    np.testing.assert_allclose(large_top.score_samples(X), before - estimate.log_partition)
    assert large_top.score_kind_ == "bound"


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian-per-column"])
def test_a_network_becomes_an_autoencoder_that_codes_and_decodes_as_it_does(likelihood, tmp_path):
    model = network(likelihood=likelihood, hidden_sizes=(7, 6), fine_tuning=FineTuning(epochs=1))
    unrolled = model.to_autoencoder()
    np.testing.assert_allclose(unrolled.transform(X), model.transform(X), atol=1e-5)
    np.testing.assert_allclose(unrolled.reconstruct(X), model.reconstruct(X), atol=1e-5)
    np.testing.assert_allclose(unrolled.nll(X), model.nll(X), rtol=1e-4)
    unrolled.save(tmp_path / "m")
    np.testing.assert_array_equal(isthmus.load(tmp_path / "m").transform(X), unrolled.transform(X))


def test_a_network_becomes_a_classifier():
    y = load_digits().target[:300]
    classifier = network().to_classifier(max_epochs=2, random_state=0).fit(X, y)
    assert classifier.predict(X).shape == (300,)


def test_a_network_that_imputes_rows_becomes_a_classifier_as_it_is():
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    model = DeepBeliefNetwork(hidden_sizes=(12,), code_size=6, missing="mask", **SMALL).fit(holes)
    with pytest.raises(InputError, match="missing='mask': the lowest RBM imputes missing entries"):
        model.to_autoencoder()
    frozen = model.to_classifier(max_epochs=1, frozen=True, random_state=0).fit(holes, load_digits().target[:300])
    np.testing.assert_array_equal(frozen.encoder_.transform(holes), model.transform(holes))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hidden_sizes": ()}, "a deep belief network has two layers or more; found 1; give hidden_sizes"),
        ({"fine_tuning": 2}, "fine_tuning=2: give one of 'auto', a value such as FineTuning"),
        ({"fine_tuning_epochs": 2}, r"has no argument 'fine_tuning_epochs'; give fine_tuning=FineTuning\(epochs=...\)"),
        (
            {"likelihood": "multinomial"},
            "a deep belief network has no units for word counts; take an RBM",
        ),
        ({"n_draws": 0}, "n_draws=0: it must be a whole number of at least 1"),
    ],
)
def test_networks_that_cannot_be_meant_are_refused(changes, text):
    with pytest.raises(InputError, match=text):
        network(**changes)


def test_ctrl_c_before_up_down_keeps_the_rbm_weights_as_generative_weights(monkeypatch):
    options = {"hidden_sizes": (12,), "code_size": 6, "fine_tuning": FineTuning(epochs=5), "batch_size": 30, **SMALL}
    press_ctrl_c(monkeypatch, at=28)
    model = DeepBeliefNetwork(**options).fit(X)
    assert (model.history_["stopped"], model.history_["name"]) == ("interrupted", "layer 2 of 2")
    directed, upward = model.coder_.decoder.maps[0], model.coder_.encoder.maps[0]
    assert torch.equal(directed.weight, upward.weight.t())


def test_ctrl_c_in_the_first_layer_leaves_a_network_with_the_density_of_its_rbm(monkeypatch):
    """The top RBM starts as the transposed first RBM and the directed weights are copies: the bound is then exact."""
    press_ctrl_c(monkeypatch, at=5)
    model = DeepBeliefNetwork(hidden_sizes=(12,), code_size=64, batch_size=30, **SMALL).fit(X)
    assert (model.history_["stopped"], model.history_["name"]) == ("interrupted", "layer 1 of 2")
    first, top = model.coder_.encoder.rbms
    (directed,) = model.coder_.decoder.maps
    assert torch.equal(directed.weight, first.weight.t())
    assert torch.equal(top.weight, first.weight.t())
    log_p = -first.free_energy(torch.from_numpy(X).float()) - first.log_partition()
    np.testing.assert_allclose(model.score_samples(X), log_p.detach().numpy(), rtol=1e-4)
    assert set(np.unique(model.sample(20, random_state=0, n_steps=5))) == {0.0, 1.0}


def test_an_interrupted_network_sums_the_z_that_is_within_reach(monkeypatch):
    press_ctrl_c(monkeypatch, at=5)
    model = DeepBeliefNetwork(hidden_sizes=(12,), code_size=6, batch_size=30, **SMALL).fit(X)
    assert (model.history_["name"], model.score_kind_) == ("layer 1 of 2", "bound")


@pytest.mark.parametrize(("n_held_out", "chosen"), [(10, False), (40, True)])
def test_best_weights_need_enough_validation_rows(n_held_out, chosen, monkeypatch):
    risen = itertools.count()
    monkeypatch.setattr(
        "isthmus.learning.contrastive_divergence.ContrastiveDivergence.monitor",
        lambda self, batch: torch.full((len(batch.x),), 1.0 + next(risen)),
    )
    model = RestrictedBoltzmannMachine(code_size=4, **SMALL | {"max_epochs": 3}).fit(X, validation=X[:n_held_out])
    assert (model.history_["best_epoch"] == 0) == chosen
    alone = RestrictedBoltzmannMachine(code_size=4, **SMALL | {"max_epochs": 3, "validation_fraction": 0.0}).fit(X)
    same = torch.equal(alone.density_.rbm.weight, model.density_.rbm.weight)
    assert same != chosen


def test_columns_without_matching_visible_units_are_noted():
    frame = pd.DataFrame({"kids": np.arange(60) % 5, "size": np.linspace(0.0, 1.7, 60)})
    assert any("kids" in note for note in RestrictedBoltzmannMachine(**SMALL).fit(frame).history_["notes"])
    texts = isthmus.data.Documents(["a word", "another word", "no word at all"] * 10)
    assert any("multinomial" in note for note in RestrictedBoltzmannMachine(**SMALL).fit(texts).history_["notes"])


@pytest.mark.parametrize("hidden_units", ["gaussian", "rectified"])
def test_real_hidden_units_learn_at_the_default_rate(hidden_units):
    model = RestrictedBoltzmannMachine(code_size=30, hidden_units=hidden_units, max_epochs=5, random_state=0).fit(X)
    assert model.history_["stopped"] == "max_epochs"
    assert model.history_["epochs"][-1]["train"] < model.history_["epochs"][0]["train"]


def test_log_z_is_forgotten_where_labels_have_moved_the_weights():
    model = RestrictedBoltzmannMachine(code_size=4, **SMALL).fit(X)
    y = load_digits().target[:300]
    classifier = CodeClassifier(encoder=model, max_epochs=2, random_state=0).fit(X, y)
    assert classifier.encoder_.score_kind_ == "unnormalised"
    assert model.score_kind_ == "exact"
    frozen = CodeClassifier(encoder=model, frozen=True, max_epochs=2, random_state=0).fit(X, y)
    assert frozen.encoder_.score_kind_ == "exact"


def test_sparsity_is_refused_where_no_term_would_ask_for_it():
    with pytest.raises(InputError, match=r"sparsity=KLRate\(weight=1.0\): method='score' has no term for it"):
        RestrictedBoltzmannMachine(method="score", likelihood="gaussian", sparsity=KLRate(weight=1.0)).fit(X)


@pytest.mark.parametrize("kind", [DeepBeliefNetwork, StackedAutoencoder])
def test_an_rbm_stack_imputes_missing_entries_with_its_first_layer(kind):
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.3, np.nan, X)
    more = {"layers": "rbm"} if kind is StackedAutoencoder else {}
    model = kind(hidden_sizes=(12,), code_size=6, missing="mask", likelihood="bernoulli", **more, **SMALL).fit(holes)
    encoder = model.coder_.encoder
    lowest = encoder.rbms[0] if kind is DeepBeliefNetwork else encoder.encoders[0]
    (batch,) = (Batch(reading.x, mask=reading.mask) for reading in model.read(holes[:20]))
    completed = lowest.impute(batch.x, batch.mask)
    assert not torch.equal(completed, batch.x)
    np.testing.assert_allclose(
        model.transform(holes[:20]), model.coder_.encode(Batch(completed)).code.detach().numpy(), rtol=1e-4
    )


@pytest.mark.parametrize("likelihood", ["poisson", "multinomial"])
def test_counts_are_learned_as_they_are_where_the_likelihood_is_of_counts(likelihood):
    counts = np.random.default_rng(0).poisson(3.0, (100, 6))
    model = Autoencoder(likelihood=likelihood, code_size=2, max_epochs=2, random_state=0).fit(counts)
    (reading,) = model.read(counts)
    np.testing.assert_array_equal(reading.x, counts)
