"""Distributions of the code of a variational autoencoder: exact densities by enumeration, files, samples, errors."""

from __future__ import annotations

import functools
import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone

import isthmus
from isthmus import (
    KL,
    BernoulliPosterior,
    CategoricalPosterior,
    DiagonalPosterior,
    FullPosterior,
    InputError,
    MixturePrior,
    VampPrior,
    VariationalAutoencoder,
)
from isthmus.evaluation.facts import VariationalFacts
from isthmus.evaluation.likelihood_reports import likelihood_of
from isthmus.evaluation.variational import variational_facts
from isthmus.learning.trainer import Trainer

SMALL = {"hidden_sizes": (16,), "max_epochs": 2, "random_state": 0}
N_COLUMNS, CODE_SIZE, N_LEVELS = 12, 6, 3
INFERENCES = {
    "diagonal": DiagonalPosterior(),
    "full": FullPosterior(),
    "bernoulli": BernoulliPosterior(),
    "bernoulli, straight-through": BernoulliPosterior(straight_through=True),
    "categorical": CategoricalPosterior(n_levels=N_LEVELS),
    "categorical, straight-through": CategoricalPosterior(n_levels=N_LEVELS, straight_through=True),
}
every_inference = pytest.mark.parametrize("name", INFERENCES)
every_discrete = pytest.mark.parametrize("name", list(INFERENCES)[2:])


def binary_rows(n: int, seed: int) -> np.ndarray:
    """Rows of three bits in four columns each, with a twentieth of the entries changed."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.integers(0, 2, (n, 3)), 4, axis=1)
    return np.where(rng.random(rows.shape) < 0.05, 1 - rows, rows).astype(np.float32)


X, OTHERS = binary_rows(500, 0), binary_rows(100, 1)


@functools.cache
def fitted(name: str, max_epochs: int = 30) -> VariationalAutoencoder:
    arguments = SMALL | {"max_epochs": max_epochs, "learning_rate": 1e-2}
    return VariationalAutoencoder(code_size=CODE_SIZE, inference=INFERENCES[name], **arguments).fit(X)


def codes_of(model: VariationalAutoencoder) -> np.ndarray:
    """Every discrete code of the model."""
    if isinstance(model.inference, BernoulliPosterior):
        return np.array(list(itertools.product([0, 1], repeat=CODE_SIZE)), np.float32)
    levels = itertools.product(np.eye(N_LEVELS, dtype=np.float32), repeat=CODE_SIZE // N_LEVELS)
    return np.array([np.concatenate(code) for code in levels])


def exact_log_prob(model: VariationalAutoencoder, rows: np.ndarray) -> np.ndarray:
    """The sum over all codes of p(h) p(x | h)."""
    codes = codes_of(model)
    of_codes = np.repeat(codes[:, None], len(rows), 1)
    return logsumexp(model.p_dec(of_codes).log_prob(rows), 0) - math.log(len(codes))


# -- scores -----------------------------------------------------------------------------------------------


@every_discrete
def test_scores_rise_to_the_exact_log_probability(name):
    model = fitted(name)
    exact = exact_log_prob(model, OTHERS)
    means = [
        np.mean([model.score_samples(OTHERS, n_draws=n, random_state=seed).mean() for seed in range(n_seeds)])
        for n, n_seeds in ((1, 40), (5, 40), (1000, 3))
    ]
    assert means == sorted(means)
    assert means[0] < exact.mean() - 0.02
    assert abs(means[-1] - exact.mean()) < 0.04  # all rows share the random numbers
    np.testing.assert_allclose(model.score_samples(OTHERS, n_draws=1000), exact, atol=0.3)


@every_discrete
def test_the_report_is_a_bound_below_the_exact_log_probability(name):
    model = fitted(name)
    report, exact = likelihood_of(model, OTHERS, 1000), exact_log_prob(model, OTHERS).mean()
    assert report.kind == "bound"
    assert abs(report.mean - exact) < 5 * report.draw_error + 1e-3
    assert report.elbo < exact


@every_discrete
def test_a_discrete_code_learns_the_rows(name):
    """Columns alone have log 2 nats each, 8.3; the rows have 3 bits and the entropy of the noise, 4.5."""
    assert exact_log_prob(fitted(name), OTHERS).mean() > -6.3


@every_inference
def test_the_score_of_a_row_does_not_depend_on_other_rows(name):
    model = fitted(name)
    whole = model.score_samples(OTHERS)
    assert np.array_equal(model.score_samples(OTHERS[::-1])[::-1], whole)
    assert np.array_equal(model.score_samples(OTHERS[7:8]), whole[7:8])


# -- a model of codes and rows ------------------------------------------------------------------------------


def linear_rows(n: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.normal(size=(n, 2)) @ np.random.default_rng(3).normal(size=(2, 5)) + 0.7 * rng.normal(size=(n, 5))


@functools.cache
def linear_model(inference: str) -> VariationalAutoencoder:
    return VariationalAutoencoder(
        code_size=2, inference=inference, hidden_sizes=(), max_epochs=15, learning_rate=0.02, random_state=0,
        likelihood="gaussian-per-column", scaling="none",
    ).fit(linear_rows(800))  # fmt: skip


def exact_linear(model: VariationalAutoencoder, rows: np.ndarray) -> np.ndarray:
    """log N(x; b, W W' + diag(v)) of a linear decoder."""
    layer = model.coder_.decoder.affine_maps[0]
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    variance = model.coder_.likelihood.variance.detach().double().numpy()
    return multivariate_normal(bias, weight @ weight.T + np.diag(variance)).logpdf(rows)


@pytest.mark.parametrize("inference", ["diagonal", "full"])
def test_bounds_from_the_distributions_rise_to_the_exact_density_of_a_linear_model(inference):
    model, rows = linear_model(inference), linear_rows(900)[800:]
    exact, q = exact_linear(model, rows), model.p_enc(rows)
    H = q.sample(2000, random_state=0)
    log_w = model.p_dec(H).log_prob(rows) + model.p_code().log_prob(H) - q.log_prob(H)
    assert log_w.shape == (2000, 100)
    weighted = [np.mean(logsumexp(log_w.reshape(-1, k, 100), 1) - math.log(k)) for k in (1, 5, 50, 2000)]
    assert weighted == sorted(weighted)
    np.testing.assert_allclose(weighted[0], log_w.mean(), rtol=1e-5)  # k = 1 is the evidence lower bound
    assert exact.mean() - weighted[0] > 0.003
    assert abs(exact.mean() - weighted[-1]) < 0.002
    np.testing.assert_allclose(model.score_samples(rows, n_draws=2000), exact, atol=0.15)


def test_a_full_covariance_is_that_of_the_exact_posterior_of_a_linear_model():
    model, rows = linear_model("full"), linear_rows(900)[800:]
    layer = model.coder_.decoder.affine_maps[0]
    weight, variance = layer.weight.detach(), model.coder_.likelihood.variance.detach()
    expected = torch.linalg.inv(torch.eye(2) + weight.T @ (weight / variance[:, None]))
    samples = model.p_enc(rows[:1]).sample(20_000, random_state=0)[:, 0]
    np.testing.assert_allclose(np.cov(samples.T), expected, atol=0.3 * float(expected.diagonal().max()))
    np.testing.assert_allclose(np.corrcoef(samples.T)[0, 1], correlation(expected), atol=0.3)


def correlation(covariance: torch.Tensor) -> float:
    return float(covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt())


@every_inference
def test_the_distribution_of_codes_has_the_mean_that_transform_returns(name):
    model = fitted(name)
    q = model.p_enc(OTHERS)
    np.testing.assert_allclose(q.mean, model.transform(OTHERS), atol=1e-6)
    samples = q.sample(3000, random_state=0)
    assert samples.shape == (3000, len(OTHERS), CODE_SIZE)
    np.testing.assert_allclose(samples.mean(0), q.mean, atol=6 * samples.std(0).max() / math.sqrt(3000))
    assert np.array_equal(q.sample(2, random_state=1), model.p_enc(OTHERS).sample(2, random_state=1))
    assert q.log_prob(samples[0]).shape == (len(OTHERS),)
    np.testing.assert_allclose(q.log_prob(samples[:2])[1], q.log_prob(samples[1]), rtol=1e-5)


@every_inference
def test_the_distribution_of_rows_is_that_of_the_decoder(name):
    model = fitted(name)
    H = model.p_enc(OTHERS).sample(1, random_state=0)[0]
    p = model.p_dec(H)
    np.testing.assert_allclose(p.mean, model.inverse_transform(H), atol=1e-6)
    expected = (OTHERS * np.log(p.mean) + (1 - OTHERS) * np.log1p(-p.mean)).sum(1)
    np.testing.assert_allclose(p.log_prob(OTHERS), expected, rtol=1e-3, atol=1e-3)
    rates = np.mean([p.sample(random_state=seed) for seed in range(300)], 0)
    np.testing.assert_allclose(rates, p.mean, atol=0.15)


@every_discrete
def test_the_prior_of_discrete_codes_is_uniform(name):
    model = fitted(name)
    codes = codes_of(model)
    np.testing.assert_allclose(model.p_code().log_prob(codes), -math.log(len(codes)), rtol=1e-6)
    samples = model.p_code().sample(200, random_state=0)
    assert set(map(tuple, samples)) <= set(map(tuple, codes))
    assert np.array_equal(samples, model.p_code().sample(200, random_state=0))


def test_codes_that_a_discrete_distribution_does_not_have_have_no_probability():
    q = fitted("bernoulli").p_enc(OTHERS)
    assert (q.log_prob(np.full((100, CODE_SIZE), 0.5)) == -np.inf).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.p_enc(OTHERS).log_prob(np.zeros((3, CODE_SIZE))), r"codes of shape \(3, 6\); give \(100, 6\)"),
        (lambda m: m.p_enc(OTHERS).log_prob(np.zeros((100, 2))), r"codes of shape \(100, 2\); give \(100, 6\)"),
        (lambda m: m.p_enc(OTHERS).log_prob([["a"] * CODE_SIZE] * 100), "not all numbers"),
        (lambda m: m.p_enc(OTHERS).sample(0), "n_draws=0"),
        (lambda m: m.p_dec(np.zeros((3, 2))), r"codes of shape \(3, 2\); give \(n, 6\)"),
        (lambda m: m.p_dec(np.full((3, CODE_SIZE), np.nan)), r"the code at \(0, 0\) is not finite"),
        (lambda m: m.p_dec(np.zeros((3, CODE_SIZE))).log_prob(OTHERS), "100 rows for 3 codes"),
        (lambda m: m.p_code().sample(0), "n=0"),
    ],
)
def test_codes_and_rows_that_do_not_fit_are_refused(call, message):
    with pytest.raises(InputError, match=message) as caught:
        call(fitted("diagonal"))
    assert "\n" not in str(caught.value)


# -- codes and samples ----------------------------------------------------------------------------------------


@every_discrete
def test_the_code_of_a_row_is_the_probabilities_of_its_states(name):
    codes = fitted(name).transform(OTHERS)
    assert ((codes > 0) & (codes < 1)).all()
    if name.startswith("categorical"):
        np.testing.assert_allclose(codes.reshape(len(codes), -1, N_LEVELS).sum(-1), 1, rtol=1e-5)


@every_discrete
def test_samples_are_decoded_from_states(name, monkeypatch):
    model, decoded = fitted(name), []
    decode = type(model.coder_).decode

    def watched(coder, code, generator=None, condition=None):
        decoded.append(code)
        return decode(coder, code, generator, condition)

    monkeypatch.setattr(type(model.coder_), "decode", watched)
    samples = model.sample(300, random_state=0)
    assert set(np.unique(samples)) == {0.0, 1.0}
    assert set(map(tuple, torch.cat(decoded).tolist())) <= set(map(tuple, codes_of(model)))
    assert np.array_equal(model.sample(300, random_state=0), samples)


@every_discrete
def test_columns_of_one_bit_agree_in_samples(name):
    """In nine of ten rows; independent columns would agree in every second one."""
    samples = fitted(name).sample(2000, random_state=0)
    assert (samples[:, ::2] == samples[:, 1::2]).mean() > 0.7
    assert (samples.mean(0) > 0.2).all()
    assert (samples.mean(0) < 0.8).all()


# -- files, going on ------------------------------------------------------------------------------------------


@every_inference
def test_a_file_holds_the_inference(name, tmp_path):
    model = fitted(name)
    model.save(tmp_path / "model.safetensors")
    loaded = isthmus.load(tmp_path / "model.safetensors")
    assert loaded.inference == INFERENCES[name]
    assert np.array_equal(loaded.score_samples(X[:9]), model.score_samples(X[:9]))
    assert np.array_equal(loaded.transform(X[:9]), model.transform(X[:9]))
    assert np.array_equal(loaded.sample(9, random_state=0), model.sample(9, random_state=0))


@every_inference
def test_the_same_seed_gives_the_same_model_and_partial_fit_trains(name):
    model = VariationalAutoencoder(code_size=CODE_SIZE, inference=INFERENCES[name], **SMALL)
    first, second = (clone(model).fit(X[:100]) for _ in range(2))
    assert np.array_equal(first.score_samples(X[:9]), second.score_samples(X[:9]))
    before = first.score_samples(X).mean()
    for _ in range(5):
        first.partial_fit(X)
    assert first.score_samples(X).mean() > before


def test_training_that_goes_on_keeps_the_last_temperature(monkeypatch):
    temperatures, descend = [], Trainer._descend

    def watched(trainer, batch):
        temperatures.append(trainer.objective.coder.inference.annealing.at(trainer._progress).temperature)
        descend(trainer, batch)

    monkeypatch.setattr(Trainer, "_descend", watched)
    inference = BernoulliPosterior(temperature=1.0, final_temperature=0.5)
    model = VariationalAutoencoder(code_size=4, inference=inference, warm_start=True, **SMALL).fit(X[:200])
    assert temperatures[0] == 1.0
    assert temperatures == sorted(temperatures, reverse=True)
    assert 0.5 < temperatures[-1] < 0.6
    temperatures.clear()
    model.fit(X[:200])
    model.partial_fit(X[:200])
    assert set(temperatures) == {0.5}


def test_fields_of_the_inference_are_set_by_their_names():
    model = VariationalAutoencoder(inference="categorical").set_params(inference__n_levels=4)
    assert model.inference == CategoricalPosterior(n_levels=4)


@every_inference
def test_free_bits_and_missing_entries_are_accepted(name):
    rows = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)[:150]
    model = VariationalAutoencoder(
        code_size=CODE_SIZE, inference=INFERENCES[name], kl=KL(free_bits=0.2), missing="mask", **SMALL
    ).fit(rows)
    assert np.isfinite(model.score_samples(rows)).all()
    assert np.isfinite(model.p_dec(model.p_enc(rows).mean).log_prob(rows)).all()


@pytest.mark.parametrize(("prior", "k"), [("normal", 3), ("mixture", 1), ("mixture", 3)])
def test_a_full_covariance_has_importance_samples_and_a_mixture_as_prior(prior, k):
    prior = MixturePrior(k=3) if prior == "mixture" else prior
    model = VariationalAutoencoder(code_size=3, inference="full", prior=prior, importance_samples=k, **SMALL)
    assert np.isfinite(model.fit(X[:200]).score_samples(X[:20])).all()


def test_a_categorical_code_has_by_default_one_variable_for_each_component():
    plain = VariationalAutoencoder(**SMALL).fit(X[:100])
    model = VariationalAutoencoder(inference=CategoricalPosterior(n_levels=5), **SMALL).fit(X[:100])
    assert model.code_size_ == 5 * plain.code_size_


# -- findings -------------------------------------------------------------------------------------------------


def facts_of(model: VariationalAutoencoder) -> VariationalFacts:
    return variational_facts(model.coder_, model._rows(X[:200]).batch(torch.arange(200)))


@every_inference
def test_the_facts_have_the_divergence_of_each_part(name):
    model = fitted(name)
    facts = facts_of(model)
    n_parts = CODE_SIZE // N_LEVELS if name.startswith("categorical") else CODE_SIZE
    assert facts.kl.shape == (n_parts,)
    assert facts.part == ("variable" if name.startswith("categorical") else "unit")
    H = model.p_enc(X[:200]).sample(3000, random_state=0)
    estimate = (model.p_enc(X[:200]).log_prob(H) - model.p_code().log_prob(H)).mean()
    assert abs(facts.kl.sum() - estimate) < 0.02


@every_discrete
def test_discrete_codes_have_no_regions(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = VariationalAutoencoder(code_size=3, inference=INFERENCES[name], **SMALL).fit(X[:100])
    assert facts_of(model).uncovered is None


def test_variables_of_a_heavy_divergence_collapse():
    model = VariationalAutoencoder(
        code_size=CODE_SIZE, inference=INFERENCES["categorical"], kl=KL(beta=1000.0), **SMALL | {"max_epochs": 20}
    ).fit(X)
    found = {finding["name"]: finding for finding in model.history_["findings"]}
    assert "2 of 2 variables of the code" in found["posterior-collapse"]["message"]


# -- errors ---------------------------------------------------------------------------------------------------

WRONG = {
    "unknown": ({"inference": "bernouli"}, "inference='bernouli' is unknown; did you mean 'bernoulli'"),
    "none": ({"inference": None}, "inference=None: give"),
    "the class": ({"inference": FullPosterior}, "inference=FullPosterior is a class"),
    "a large code": ({"inference": "full", "code_size": 65}, "code_size=65: a full covariance is for at most 64"),
    "no whole variables": ({"inference": "categorical", "code_size": 12}, "give code_size=16 for 2 of them"),
    "less than a variable": ({"inference": "categorical", "code_size": 3}, "give code_size=8 for 1 of them"),
    "binary, mixture": ({"inference": "bernoulli", "prior": "mixture"}, "the prior of a discrete code is uniform"),
    "categorical, flow": ({"inference": "categorical", "code_size": 8, "prior": "flow"}, "discrete code is uniform"),
    "binary, samples": ({"inference": "bernoulli", "importance_samples": 2}, "importance_samples=2: relaxed samples"),
    "full, vamp": ({"inference": "full", "prior": VampPrior(k=3)}, "prior=VampPrior.*give inference='diagonal'"),
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        VariationalAutoencoder(**SMALL | {"code_size": 2} | arguments).fit(X[:50])
    assert "\n" not in str(caught.value)
