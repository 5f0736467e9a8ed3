"""The doctor's findings on variational autoencoders: each on a model with the fault, none on a healthy one."""

from __future__ import annotations

import copy
import functools
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus import KL, Autoencoder, MixturePrior, VampPrior, VariationalAutoencoder
from isthmus.evaluation.doctor import ColumnStatistics, FitFacts, diagnose
from isthmus.evaluation.facts import VariationalFacts
from isthmus.evaluation.variational import (
    COLLAPSED_NATS,
    IGNORED_NATS,
    REGION_99,
    RULES,
    UNCOVERED_FRACTION,
    variational_facts,
)
from isthmus.parts.forward import Batch
from isthmus.parts.likelihood_gaussians import LOG_VARIANCE_BOUND

# -- the rules on facts ---------------------------------------------------------------------------------

HEALTHY = VariationalFacts(kl=np.array([2.0, 1.5]), gain=12.0, at_floor=np.empty(0, int), uncovered=0.02)
COLUMNS = ColumnStatistics(*(np.array(v) for v in ([0.0] * 4, [1.0] * 4, [-2.0] * 4, [2.0] * 4)))
FACTS = FitFacts([], "max_epochs", COLUMNS, 500, 4, 2, 99, kind="vae", variational=HEALTHY)


def finding(name: str, **changes):
    return RULES[name](replace(FACTS, variational=replace(HEALTHY, **changes)))


def test_healthy_facts_have_no_findings():
    assert all(rule(FACTS) is None for rule in RULES.values())
    assert all(rule(replace(FACTS, variational=None)) is None for rule in RULES.values())
    assert diagnose(FACTS) == []


def test_units_at_the_prior_are_found():
    some = finding("posterior-collapse", kl=np.array([0.001, 2.0, 0.0]))
    assert some.message.startswith("2 of 3 units of the code hold nothing of the rows")
    assert some.severity == "note"
    assert "1 unit is enough" in some.advice
    whole = finding("posterior-collapse", kl=np.array([0.001, 0.0]))
    assert whole.severity == "warning"
    assert "free_bits" in whole.advice
    assert finding("posterior-collapse", kl=np.full(2, COLLAPSED_NATS)) is None
    assert finding("posterior-collapse", kl=None) is None


def test_an_ignored_code_is_found_except_where_it_collapsed():
    assert "ignores the code" in finding("ignored-code", gain=0.01).message
    assert finding("ignored-code", gain=-3.0) is not None
    assert finding("ignored-code", gain=IGNORED_NATS) is None
    assert finding("ignored-code", gain=0.01, kl=np.zeros(2)) is None
    assert finding("ignored-code", gain=0.01, kl=np.array([0.0, 1.0])) is not None
    assert finding("ignored-code", gain=0.01, kl=None) is not None


def test_variances_at_their_bound_are_counted():
    assert "1 real column is" in finding("variance-floor", at_floor=np.array([3])).message
    assert "of 2 real columns" in finding("variance-floor", at_floor=np.array([0, 3])).message


def test_samples_of_the_prior_outside_the_regions_are_found():
    assert finding("uncovered-prior", uncovered=0.4).message.startswith("40% of the samples")
    assert finding("uncovered-prior", uncovered=UNCOVERED_FRACTION - 1e-6) is None
    assert finding("uncovered-prior", uncovered=None) is None


def test_a_collapsed_posterior_explains_constant_codes():
    facts = replace(FACTS, codes=torch.zeros(50, 2), variational=replace(HEALTHY, kl=np.zeros(2)))
    assert [found.name for found in diagnose(facts)] == ["posterior-collapse"]


def test_the_regions_hold_99_percent_of_a_gaussian():
    squares = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(0)).square().cumsum(1)
    inside = (squares <= torch.tensor(REGION_99)).float().mean(0)
    torch.testing.assert_close(inside, torch.full((3,), 0.99), rtol=0, atol=0.002)


# -- fitted models --------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = RNG.normal(size=(600, 2)) @ RNG.normal(size=(2, 6)) + 0.4 * RNG.normal(size=(600, 6))
FIT = {
    "code_size": 2, "hidden_sizes": (16,), "max_epochs": 25, "batch_size": 32, "learning_rate": 1e-2, "random_state": 0,
}  # fmt: skip


def names(model) -> set[str]:
    return {found["name"] for found in model.history_["findings"]} & set(RULES)


@functools.cache
def healthy() -> VariationalAutoencoder:
    return VariationalAutoencoder(**FIT).fit(X)


def facts_of(model, n: int = 300, rows: np.ndarray = X) -> VariationalFacts:
    return variational_facts(model.coder_, model._rows(rows).batch(torch.arange(n)))


def test_a_good_fit_has_no_findings():
    assert names(healthy()) == set()
    assert names(VariationalAutoencoder(prior=MixturePrior(k=3), **FIT).fit(X)) == set()


def test_a_large_weight_collapses_the_posterior():
    model = VariationalAutoencoder(kl=KL(beta=1000.0), **FIT).fit(X)
    assert names(model) == {"posterior-collapse"}
    (found,) = [found for found in model.history_["findings"] if found["name"] == "posterior-collapse"]
    assert found["severity"] == "warning"
    assert "collapsed-code" not in {found["name"] for found in model.history_["findings"]}


def test_more_units_than_factors_are_a_note():
    arguments = FIT | {"code_size": 4, "hidden_sizes": (), "learning_rate": 0.03, "max_epochs": 50, "patience": None}
    found = {found["name"]: found for found in VariationalAutoencoder(**arguments).fit(X).history_["findings"]}
    assert found["posterior-collapse"]["severity"] == "note"
    assert "ignored-code" not in found


def test_a_decoder_without_weights_ignores_the_code():
    model = copy.deepcopy(healthy())
    with torch.no_grad():
        model.coder_.decoder.affine_maps[-1].weight.zero_()
    found = facts_of(model)
    assert found.gain == pytest.approx(0, abs=1e-4)
    assert RULES["ignored-code"](replace(FACTS, variational=found)).name == "ignored-code"
    assert facts_of(healthy()).gain > 1


def test_a_decoder_that_ignores_the_code_is_found_for_a_learned_prior():
    model = VariationalAutoencoder(prior=VampPrior(k=3), kl=KL(beta=1000.0, warmup=0), **FIT).fit(X)
    assert "ignored-code" in names(model)


def test_a_constant_column_has_its_variance_at_the_bound():
    model = VariationalAutoencoder(**FIT | {"max_epochs": 5}).fit(np.hstack([X, np.ones((600, 1))]))
    likelihood = model.coder_.likelihood
    with torch.no_grad():
        likelihood.free_log_variance[6] = -40.0
    found = facts_of(model, rows=np.hstack([X, np.ones((600, 1))]))
    assert found.at_floor.tolist() == [6]
    assert float(likelihood.variance[6].detach()) == pytest.approx(np.exp(-LOG_VARIANCE_BOUND), rel=0.01)


def test_a_constant_column_is_found_after_a_fit_at_a_large_rate():
    """Its learned variance falls by the learning rate at each step, and starts at 1."""
    rows = np.hstack([X[:200], np.ones((200, 1))])
    arguments = {"code_size": 2, "hidden_sizes": (), "learning_rate": 0.03, "patience": None, "random_state": 0}
    assert "variance-floor" in names(VariationalAutoencoder(**arguments).fit(rows))


def test_variances_of_tables_are_those_of_their_real_columns():
    table = pd.DataFrame(X[:100], columns=list("abcdef")).assign(level=np.repeat(["x", "y"], 50))
    model = VariationalAutoencoder(**FIT | {"max_epochs": 2}).fit(table)
    assert facts_of(model, 50, table).at_floor.size == 0
    with torch.no_grad():
        for part in model.coder_.likelihood.modules():
            if hasattr(part, "free_log_variance"):
                part.free_log_variance[2] = -40.0
    assert facts_of(model, 50, table).at_floor.tolist() == [2]


def test_posteriors_that_are_points_leave_the_prior_uncovered():
    model = copy.deepcopy(healthy())
    with torch.no_grad():
        model.coder_.encoder.affine_maps[-1].bias[2:] -= 20
    found = facts_of(model)
    assert found.uncovered > 0.9
    assert RULES["uncovered-prior"](replace(FACTS, variational=found)).severity == "note"
    assert facts_of(healthy()).uncovered < 0.05


def test_a_prior_far_from_the_codes_is_uncovered():
    model = VariationalAutoencoder(prior=MixturePrior(k=2), **FIT | {"max_epochs": 5}).fit(X)
    with torch.no_grad():
        model.coder_.inference.prior.means += 100
    assert facts_of(model).uncovered == 1


def test_codes_of_more_than_three_units_have_no_fraction():
    model = VariationalAutoencoder(**FIT | {"code_size": 4, "max_epochs": 1}).fit(X)
    assert facts_of(model).uncovered is None


def test_the_divergence_of_each_unit_is_its_mean_over_rows():
    model = healthy()
    batch = model._rows(X).batch(torch.arange(300))
    with torch.no_grad():
        mean, log_variance = model.coder_.inference.posterior(batch.x)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(facts_of(model).kl, expected, rtol=1e-4)


def test_there_are_no_facts_of_other_kinds_and_of_a_single_row():
    assert variational_facts(Autoencoder(code_size=2, max_epochs=1, random_state=0).fit(X).coder_, Batch(
        torch.zeros(5, 6))) is None  # fmt: skip
    assert facts_of(healthy(), 1) is None


@pytest.mark.parametrize("prior", ["normal", "mixture", "vamp", "flow"])
def test_facts_are_repeatable_and_leave_the_global_generator(prior):
    model = VariationalAutoencoder(prior=prior, **FIT | {"max_epochs": 1}).fit(X[:200])
    before = torch.random.get_rng_state()
    first, again = (facts_of(model, 100) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (first.gain, first.uncovered) == (again.gain, again.uncovered)
    assert (first.kl is None) == (prior != "normal")


def test_rows_in_order_do_not_hide_that_the_code_is_used():
    """The code of the next row is nearly the row's own in ordered rows, such as a series."""
    t = np.linspace(0, 1, 1000)[:, None]
    rows = np.hstack([t, t**2, np.sin(3 * t)]) + 0.01 * np.random.default_rng(0).normal(size=(1000, 3))
    model = VariationalAutoencoder(**FIT | {"code_size": 1, "max_epochs": 10}).fit(rows)
    assert "ignored-code" not in names(model)
    batch = model._rows(rows).batch(torch.arange(1000))
    shuffled = Batch(batch.x[torch.randperm(1000, generator=torch.Generator().manual_seed(0))])
    ordered, mixed = (variational_facts(model.coder_, part).gain for part in (batch, shuffled))
    assert mixed > 1
    assert ordered > 0.5 * mixed


def test_gaps_are_left_out_of_the_facts():
    gaps = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = VariationalAutoencoder(missing="mask", **FIT).fit(gaps)
    found = facts_of(model, rows=gaps)
    assert np.isfinite(found.gain)
    assert found.gain > 1
    assert names(model) == set()
