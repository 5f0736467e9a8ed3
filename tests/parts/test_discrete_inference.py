"""Inference of discrete codes: temperatures, samples in training and in evaluation, log q, and errors."""

from __future__ import annotations

import math

import pytest
import torch

from isthmus.errors import InputError
from isthmus.evaluation.likelihood import elbo, importance_log_prob
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.variational import VariationalBound
from isthmus.parts.coder import Coder
from isthmus.parts.discrete_inference import Annealing, BernoulliInference, CategoricalInference
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.networks import MLP
from isthmus.parts.sampling import enumerate_states
from isthmus.parts.stochastic_inference import DistributionInference

N_COLUMNS, CODE_SIZE = 5, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder() -> MLP:
    return MLP((N_COLUMNS, 8, CODE_SIZE), generator=seeded())


BUILD = {
    "units": lambda **options: BernoulliInference(encoder(), **options),
    "variables": lambda **options: CategoricalInference(encoder(), n_levels=2, **options),
}
every_inference = pytest.mark.parametrize("build", BUILD.values(), ids=BUILD.keys())
BATCH = Batch(torch.rand(7, N_COLUMNS, generator=seeded(1)).round())


def coder(build, **options) -> Coder:
    return Coder(build(**options), MLP((CODE_SIZE, 8, N_COLUMNS), generator=seeded(2)), Bernoulli(N_COLUMNS))


def states(inference: DistributionInference) -> torch.Tensor:
    """Every code that the prior has."""
    codes = enumerate_states([2] * CODE_SIZE, 0, 2**CODE_SIZE).float()
    if isinstance(inference, CategoricalInference):
        codes = codes[(codes.unflatten(-1, (-1, 2)).sum(-1) == 1).all(-1)]
    return codes


def log_joint(model: Coder, x: torch.Tensor) -> torch.Tensor:
    """log p(x, h) of every code, (codes, rows)."""
    codes = states(model.inference)[:, None].expand(-1, len(x), -1)
    return model.inference.code_prior(CODE_SIZE).log_prob(codes) - model.likelihood.nll(model.decode(codes), x, None)


@every_inference
def test_the_standard_prior_is_uniform_over_the_codes(build):
    inference = build()
    prior, codes = inference.code_prior(CODE_SIZE), states(inference)
    torch.testing.assert_close(prior.log_prob(codes), torch.full((len(codes),), -math.log(len(codes))))
    samples = prior.sample(20_000, seeded())
    rates = (samples[:, None] == codes).all(-1).float().mean(0)
    torch.testing.assert_close(rates.sum(), torch.tensor(1.0))
    assert ((rates - 1 / len(codes)).abs() < 5 / math.sqrt(20_000 * len(codes))).all()


@every_inference
def test_samples_are_relaxed_in_training_and_states_in_evaluation(build):
    inference = build(n_draws=3)
    relaxed = inference(BATCH, None, seeded(1), 0.5)
    hard = inference.eval()(BATCH, None, seeded(1), 0.5)
    assert relaxed.log_q is None
    assert ((relaxed.code > 0) & (relaxed.code < 1)).all()
    assert hard.code.unique().tolist() == [0.0, 1.0]
    assert hard.log_q.shape == hard.log_prior.shape == (3, 7)
    assert torch.equal(hard.kl, relaxed.kl)


@every_inference
def test_the_temperature_follows_progress_and_stays_the_last_one_without_annealing(build):
    inference = build(annealing=Annealing(temperature=2.0, final_temperature=0.5))
    assert [inference.annealing.at(p).temperature for p in (0.0, 0.5, 1.0)] == [2.0, 1.0, 0.5]
    inference.without_annealing()
    assert inference.annealing.at(0.0).temperature == 0.5
    codes = [inference(BATCH, None, seeded(1), progress).code for progress in (0.0, 1.0)]
    assert torch.equal(*codes)


@every_inference
def test_importance_sampling_rises_from_the_evidence_lower_bound_to_the_sum_over_all_codes(build):
    model = coder(build).eval()
    with torch.no_grad():
        exact = log_joint(model, BATCH.x).logsumexp(0).double()
        lower = elbo(model, BATCH, 20_000)
        values = [importance_log_prob(model, BATCH, n).log_prob.mean() for n in (1, 20, 20_000)]
    assert lower.mean < values[-1]
    assert abs(values[-1] - exact.mean()) < 0.01
    with torch.no_grad():
        log_q = model.inference.p_enc(BATCH).log_prob(states(model.inference)[:, None])
        expected = (log_q.exp() * (log_joint(model, BATCH.x) - log_q)).sum(0)
    assert ((lower.log_prob - expected).abs() < 5 * lower.standard_error + 1e-6).all()
    assert (expected < exact).all()


@every_inference
@pytest.mark.parametrize("criterion", [VariationalBound, Reconstruction])
def test_the_criterion_of_straight_through_samples_is_the_bound_in_expectation(build, criterion):
    model = coder(build, n_draws=20_000, annealing=Annealing(straight_through=True))
    terms, _ = criterion(model).terms(BATCH, 1.0, seeded(1))
    found = -torch.stack(list(terms.values())).sum(0).detach()
    expected = elbo(model, BATCH, 20_000)
    torch.testing.assert_close(found.double(), expected.log_prob, atol=0.1, rtol=0)


@every_inference
def test_the_divergence_of_relaxed_samples_is_in_the_criterion(build):
    model = coder(build)
    for criterion in (VariationalBound, Reconstruction):
        terms, _ = criterion(model).terms(BATCH, 1.0, seeded(1))
        torch.testing.assert_close(terms["divergence"], model.inference.p_enc(BATCH).divergence().sum(-1))


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"final_temperature": -1.0}, {"temperature": math.inf}])
def test_temperatures_that_are_not_positive_are_refused(options):
    with pytest.raises(InputError, match="temperature=.*must be a finite number above 0"):
        Annealing(**options)


@pytest.mark.parametrize("n_levels", [1, 0, 2.5, True])
def test_fewer_than_two_levels_are_refused(n_levels):
    with pytest.raises(InputError, match="n_levels=.*whole number of at least 2"):
        CategoricalInference(encoder(), n_levels=n_levels)
