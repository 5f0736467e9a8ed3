"""Which likelihood a model supports, and with what it may be compared."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import isthmus
from isthmus import InputError
from isthmus.evaluation.likelihood import elbo, has_densities, importance_log_prob
from isthmus.evaluation.likelihood_reports import (
    ANNEALING,
    IMPORTANCE,
    RECONSTRUCTION,
    SCORES,
    LikelihoodReport,
    likelihood_of,
    supports_likelihood,
)
from isthmus.evaluation.reconstruction import evaluate
from isthmus.parts.forward import Batch
from tests.estimators.fitted import equal, fitted, kept_state
from tests.estimators.kinds import KINDS
from tests.estimators.test_inferences import GaussianAutoencoder

GREY = load_digits().data[:150] / 16
BINARY = (GREY > 0.4).astype(float)
SMALL = {"max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def variational():
    return GaussianAutoencoder(code_size=3, likelihood="bernoulli", **SMALL).fit(BINARY)


@pytest.fixture
def machine():
    return isthmus.RestrictedBoltzmannMachine(code_size=24, **SMALL).fit(BINARY)


def test_a_distribution_is_scored_by_importance_sampling(variational):
    report = likelihood_of(variational, BINARY, 60, seed=2)
    batch = Batch(torch.from_numpy(BINARY).float())
    estimate = importance_log_prob(variational.coder_, batch, 60, seed=2)
    assert (report.kind, report.method, report.n_draws) == ("bound", IMPORTANCE, 60)
    assert report.mean == pytest.approx(estimate.mean, rel=1e-6)
    assert report.interval == pytest.approx(estimate.interval, rel=1e-6)
    assert report.bias == pytest.approx(estimate.mean_bias, rel=1e-4)
    assert report.draw_error == pytest.approx(estimate.mean_draw_error, rel=1e-4)
    assert report.mean_effective_sample_size == pytest.approx(estimate.mean_effective_sample_size, rel=1e-4)
    assert report.smallest_effective_sample_size == pytest.approx(estimate.smallest_effective_sample_size, rel=1e-4)
    assert report.elbo == pytest.approx(elbo(variational.coder_, batch, 60, seed=2).mean, rel=1e-6)
    assert report.elbo < report.mean
    assert report.bits_per_dim == pytest.approx(-report.mean / 64 / np.log(2))


def test_the_report_does_not_depend_on_the_blocks_of_rows(variational, monkeypatch):
    expected = likelihood_of(variational, BINARY, 20)
    monkeypatch.setattr("isthmus.evaluation.likelihood_reports.ROWS_AT_ONCE", 40)
    assert likelihood_of(variational, BINARY, 20).mean == pytest.approx(expected.mean, rel=1e-6)


def test_missing_entries_are_not_columns(variational):
    holed = np.where(np.random.default_rng(0).random(BINARY.shape) < 0.3, np.nan, BINARY)
    model = GaussianAutoencoder(code_size=3, likelihood="bernoulli", missing="mask", **SMALL).fit(holed)
    report = likelihood_of(model, holed, 10)
    assert report.n_columns == pytest.approx(np.isfinite(holed).sum() / len(holed))
    assert report.rows_are_binary
    assert np.isfinite(report.mean)


def test_a_density_is_scored_by_its_scores():
    model = isthmus.RestrictedBoltzmannMachine(code_size=4, **SMALL).fit(BINARY)
    scores, report = model.score_samples(BINARY).astype(np.float64), likelihood_of(model, BINARY)
    assert (report.kind, report.method, report.n_draws, report.bias) == ("exact", SCORES, None, None)
    assert report.mean == pytest.approx(scores.mean())
    assert report.standard_error == pytest.approx(scores.std(ddof=1) / np.sqrt(150))
    assert report.comparable == "Compare it with log p(x) of other models for the same rows, binarised in the same way."


def test_an_unknown_log_z_is_estimated_when_asked(machine):
    before = likelihood_of(machine, BINARY)
    assert (before.kind, before.bits_per_dim) == ("unnormalised", None)
    assert before.comparable == "log Z is unknown: compare rows under this model, and not models."
    report = likelihood_of(machine, BINARY, seed=1, ais=True)
    assert (report.kind, report.method, report.n_draws) == ("estimate", ANNEALING, 100)
    assert report.mean == pytest.approx(before.mean - machine.log_partition_, rel=1e-6)
    assert report.standard_error == pytest.approx(np.hypot(before.standard_error, report.draw_error))
    assert 1 <= report.mean_effective_sample_size <= 100
    assert "log Z is an estimate, which tends to be too low" in report.comparable
    assert likelihood_of(machine, BINARY, ais=True).method == SCORES


def test_log_z_of_a_model_that_cannot_estimate_it_is_refused(variational):
    class Unnormalised:
        coder_, score_kind_, _rows = None, "unnormalised", variational._rows

        def score_samples(self, X):
            return np.zeros(len(X))

    with pytest.raises(InputError, match="Unnormalised cannot estimate log Z; use ais=False"):
        likelihood_of(Unnormalised(), BINARY, ais=True)


def test_other_models_have_a_reconstruction_and_no_likelihood_of_x():
    model = isthmus.Autoencoder(code_size=3, **SMALL).fit(GREY)
    report = likelihood_of(model, GREY)
    assert (report.kind, report.method, report.bits_per_dim) == ("reconstruction", RECONSTRUCTION, None)
    assert report.mean == pytest.approx(model.score(GREY), rel=1e-6)
    assert "not a likelihood of x" in report.comparable
    assert not supports_likelihood(model)


@pytest.mark.parametrize("name", KINDS)
def test_the_test_for_densities_changes_nothing(name):
    model = fitted(name)
    before = kept_state(model)
    assert has_densities(model.coder_) == (model.kind == "vae")
    assert equal(before, kept_state(model))


EXACT = LikelihoodReport("exact", SCORES, -80.0, 0.5, 1000, 784.0, "bernoulli", True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rows_are_binary": False}, "values between 0 and 1, of which a Bernoulli distribution gives no log-prob"),
        ({"likelihood": "gaussian", "rows_are_binary": False}, "for the same rows, scaled in the same way."),
        ({"kind": "bound"}, "it is a lower bound, up to the error of log Z where this is an estimate"),
        (
            {"kind": "bound", "method": IMPORTANCE},
            "so compare it with bounds by the same number of samples, or with exact values",
        ),
    ],
)
def test_the_comparison_follows_from_the_kind_and_the_data(changes, text):
    assert text in replace(EXACT, **changes).comparable


def test_grey_values_of_a_bernoulli_likelihood_are_noticed():
    model = GaussianAutoencoder(code_size=2, likelihood="bernoulli", **SMALL).fit(GREY)
    assert not likelihood_of(model, GREY, 5).rows_are_binary


def test_evaluate_reports_the_likelihood_of_models_that_have_one(variational, machine):
    found = evaluate(variational, BINARY, n_draws=20)
    report = likelihood_of(variational, BINARY, 20)
    assert (found["log_p_per_row"], found["score_kind"]) == (report.mean, "bound")
    assert json.loads(json.dumps(found["log_likelihood"])) == report.as_dict()
    assert "log_likelihood" not in evaluate(variational, BINARY, n_draws=0)
    assert evaluate(machine, BINARY, n_draws=0)["log_likelihood"]["kind"] == "unnormalised"
    with pytest.raises(InputError, match="n_draws=-1: it must be a whole number of at least 0"):
        evaluate(variational, BINARY, n_draws=-1)


def test_invalid_numbers_of_samples_are_refused(variational):
    with pytest.raises(InputError, match="n_draws=0: it must be a whole number of at least 1"):
        likelihood_of(variational, BINARY, 0)
