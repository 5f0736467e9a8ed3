"""Importance sampling and the evidence lower bound, against a linear model with a closed form and against scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch.utils._python_dispatch import TorchDispatchMode

from isthmus import InputError
from isthmus.evaluation import likelihood
from isthmus.evaluation.likelihood import (
    DRAWS_PER_CALL,
    LogWeights,
    bits_per_dim,
    elbo,
    has_densities,
    importance_log_prob,
)
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, EncoderMap
from isthmus.parts.likelihoods import Bernoulli, Gaussian
from isthmus.parts.networks import MLP
from isthmus.parts.sampling import RowGenerators, rand_like, randn_like
from isthmus.parts.stochastic_inference import DiagonalGaussian, GrowingNoise
from tests.parts.test_stochastic_inference import WORSE, linear_model, log_p, model_weight, posterior, rows, seeded


def small_coder(dropout=0.0, code_size=3):
    encoder = MLP((6, 8, 2 * code_size), dropout=dropout, generator=seeded())
    return Coder(DiagonalGaussian(encoder), MLP((code_size, 6), generator=seeded(1)), Bernoulli(6))


def binary_rows(n):
    return (torch.rand(n, 6, generator=seeded(3)) < 0.4).float()


# -- the linear model -----------------------------------------------------------------------------------


def test_with_the_exact_posterior_the_estimate_is_log_p_without_error():
    x = rows(20)
    estimate = importance_log_prob(linear_model(1), Batch(x), 7)
    torch.testing.assert_close(estimate.log_prob, log_p(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(estimate.effective_sample_size, torch.full((20,), 7.0, dtype=torch.float64))
    assert estimate.standard_error.max() < 1e-6
    torch.testing.assert_close(elbo(linear_model(1), Batch(x), 7).log_prob, log_p(x), rtol=0, atol=1e-10)


def test_many_samples_are_within_their_errors_of_the_exact_log_density():
    x = rows(60)
    estimate = importance_log_prob(linear_model(1, **WORSE), Batch(x), 10_000)
    distance = (estimate.log_prob - log_p(x)).abs()
    assert (distance <= 3 * estimate.standard_error + estimate.bias.abs()).float().mean() > 0.98
    assert distance.max() < 0.1
    assert abs(estimate.mean - float(log_p(x).mean())) <= 3 * estimate.mean_draw_error + abs(estimate.mean_bias)


def test_the_evidence_lower_bound_is_below_the_importance_bound_which_rises_to_log_p():
    x = rows(2000)
    exact, coder = float(log_p(x).mean()), linear_model(1, **WORSE)
    bounds = [elbo(coder, Batch(x), 50)] + [importance_log_prob(coder, Batch(x), n) for n in (2, 10, 50, 1000)]
    errors = [exact - bound.mean for bound in bounds]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.5
    assert abs(errors[-1]) < 3 * bounds[-1].mean_draw_error + abs(bounds[-1].mean_bias) < 0.02


def test_the_evidence_lower_bound_is_log_p_minus_the_divergence_from_the_posterior():
    x = rows(40)
    estimate = elbo(linear_model(1, **WORSE), Batch(x), 4000)
    gap = torch.distributions.kl_divergence(posterior(x, **WORSE), posterior(x))
    distance = (estimate.log_prob - (log_p(x) - gap)).abs()
    assert (distance / estimate.standard_error).max() < 4.5
    assert 0.5 < distance.square().mean().sqrt() / estimate.standard_error.square().mean().sqrt() < 1.5


def test_missing_entries_take_no_part():
    x = rows(30)
    mask = (torch.rand(x.shape, generator=seeded(5)) < 0.6).double()
    weight = model_weight()
    covariance = weight @ weight.T + torch.eye(len(weight), dtype=torch.float64)
    exact = torch.stack([
        torch.distributions.MultivariateNormal(
            torch.zeros(len(seen), dtype=torch.float64), covariance[seen][:, seen]
        ).log_prob(row[seen])
        for row, seen in ((row, torch.nonzero(m).flatten()) for row, m in zip(x, mask, strict=True))
    ])  # fmt: skip
    estimate = importance_log_prob(linear_model(1, log_variance_shift=1.5), Batch(x * mask, mask=mask), 20_000)
    distance = (estimate.log_prob - exact).abs()
    assert (distance <= 4 * estimate.standard_error + estimate.bias.abs()).all()
    assert distance.mean() < 0.05


# -- errors, bias and effective sample size -------------------------------------------------------------


def test_the_sums_over_blocks_are_those_of_all_weights():
    log_w = 30 * torch.randn(200, 5, generator=seeded(), dtype=torch.float64) - 1000
    sums = LogWeights(5)
    for block in log_w.split((1, 19, 80, 100)):
        sums.add(block)
    w = np.exp(log_w.numpy() - log_w.numpy().max(0))
    found = sums.importance()
    np.testing.assert_allclose(found.log_prob, logsumexp(log_w.numpy(), 0) - math.log(200), rtol=1e-12)
    np.testing.assert_allclose(found.effective_sample_size, w.sum(0) ** 2 / (w**2).sum(0), rtol=1e-10)
    error = w.std(0, ddof=1) / (w.mean(0) * math.sqrt(200))
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-8)
    np.testing.assert_allclose(found.bias, -w.var(0, ddof=1) / (2 * 200 * w.mean(0) ** 2), rtol=1e-8)
    lower = sums.elbo()
    np.testing.assert_allclose(lower.log_prob, log_w.mean(0), rtol=1e-12)
    np.testing.assert_allclose(lower.standard_error, log_w.std(0) / math.sqrt(200), rtol=1e-8)


def test_standard_error_and_bias_are_those_of_repeated_estimates():
    x, coder = rows(6), linear_model(1, mean_shift=0.15)
    exact = log_p(x)
    runs = [importance_log_prob(coder, Batch(x), 100, seed=seed) for seed in range(600)]
    values = torch.stack([run.log_prob for run in runs])
    scatter, error = values.std(0), torch.stack([run.standard_error for run in runs]).square().mean(0).sqrt()
    torch.testing.assert_close(error, scatter, rtol=0.25, atol=0)
    bias = torch.stack([run.bias for run in runs]).mean()
    assert float((values - exact).mean()) == pytest.approx(float(bias), abs=4 * float(scatter.mean()) / 60)
    assert bias < 0


def test_one_sample_has_an_unknown_error_and_a_row_without_a_possible_code_has_no_probability():
    estimate = importance_log_prob(small_coder(), Batch(binary_rows(2)), 1)
    assert estimate.standard_error.isinf().all()
    assert elbo(small_coder(), Batch(binary_rows(2)), 1).standard_error.isinf().all()
    assert importance_log_prob(small_coder(), Batch(binary_rows(1)), 10).mean_error == math.inf
    sums = LogWeights(1)
    sums.add(torch.full((4, 1), -torch.inf))
    assert sums.importance().log_prob.item() == -math.inf
    assert sums.importance().effective_sample_size.item() == 0


def test_the_interval_over_rows_contains_the_mean_of_the_population():
    population = log_p(rows(4000)).mean()
    estimate = importance_log_prob(linear_model(1), Batch(rows(4000)[:200]), 2)
    assert estimate.mean_error == pytest.approx(float(log_p(rows(4000)[:200]).std()) / math.sqrt(200))
    assert estimate.interval[0] < population < estimate.interval[1]


# -- random numbers and memory --------------------------------------------------------------------------


@pytest.mark.parametrize("function", [importance_log_prob, elbo])
def test_estimates_depend_neither_on_batches_nor_on_blocks(function, monkeypatch):
    coder, x = small_coder(), binary_rows(23)
    expected = function(coder, Batch(x), 120, seed=4).log_prob
    for size in (1, 7):
        parts = [
            function(coder, Batch(part), 120, seed=4, rows=numbers).log_prob
            for part, numbers in zip(x.split(size), torch.arange(23).split(size), strict=True)
        ]
        torch.testing.assert_close(torch.cat(parts), expected, rtol=0, atol=1e-5)
    for size in (1, 10, 1000):
        found = function(coder, Batch(x), 120, seed=4, draws_at_once=size).log_prob
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    monkeypatch.setattr(likelihood, "MAX_ENTRIES", 700)
    torch.testing.assert_close(function(coder, Batch(x), 120, seed=4).log_prob, expected, rtol=0, atol=1e-5)


def test_samples_depend_on_the_seed_and_the_row_number_and_more_samples_contain_fewer():
    coder, x = small_coder(), binary_rows(1).expand(3, 6)
    first = importance_log_prob(coder, Batch(x), 5).log_prob
    assert len(first.unique()) == 3
    assert not torch.isclose(first, importance_log_prob(coder, Batch(x), 5, seed=1).log_prob).any()
    torch.testing.assert_close(importance_log_prob(coder, Batch(x, rows=torch.tensor([2, 0, 1])), 5).log_prob,
                               first[[2, 0, 1]])  # fmt: skip
    one = elbo(coder, Batch(x), 60).log_prob * 60 - elbo(coder, Batch(x), 59).log_prob * 59
    block = elbo(coder, Batch(x), 60, draws_at_once=7).log_prob * 60
    torch.testing.assert_close(one + elbo(coder, Batch(x), 59).log_prob * 59, block)


class LargestTensor(TorchDispatchMode):
    """Record the number of entries of the largest tensor that any operation returns."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, torch.Tensor):
                self.entries = max(self.entries, tensor.untyped_storage().nbytes() // tensor.element_size())
        return found


def test_memory_does_not_grow_with_the_samples(monkeypatch):
    monkeypatch.setattr(likelihood, "MAX_ENTRIES", 3000)
    coder, batch = small_coder(), Batch(binary_rows(40))
    sizes = []
    for n_draws in (DRAWS_PER_CALL, 20 * DRAWS_PER_CALL):
        with LargestTensor() as largest:
            importance_log_prob(coder, batch, n_draws)
        sizes.append(largest.entries)
    assert sizes[0] == sizes[1] <= 3000
    with LargestTensor() as largest:
        importance_log_prob(coder, batch, 1000, draws_at_once=700)
    assert largest.entries <= 750 * 6


def test_the_modules_are_in_evaluation_mode_and_keep_their_modes():
    coder = small_coder(dropout=0.5).train()
    coder.decoder.eval()
    modes = [module.training for module in coder.modules()]
    found = importance_log_prob(coder, Batch(binary_rows(3)), 50).log_prob
    assert [module.training for module in coder.modules()] == modes
    assert torch.equal(importance_log_prob(coder.eval(), Batch(binary_rows(3)), 50).log_prob, found)
    assert coder.inference.n_draws == 1


def test_generators_of_rows_sample_each_row_by_its_own():
    def both():
        return RowGenerators([seeded(1), seeded(2)])

    for function, torchs in ((randn_like, torch.randn), (rand_like, torch.rand)):
        found = function(torch.zeros(4, 2, 3), both())
        assert torch.equal(found[:, 1], torchs(4, 3, generator=seeded(2)))
        assert torch.equal(function(torch.zeros(2, 3), both())[0], torchs(3, generator=seeded(1)))
    for shape in ((4, 3, 3), (2,)):
        with pytest.raises(InputError, match="2 generators of rows cannot sample numbers of shape"):
            randn_like(torch.zeros(shape), both())


# -- refusals -------------------------------------------------------------------------------------------


class TorchGaussian(DiagonalGaussian):
    """An inference with torch's own random numbers."""

    def forward(self, batch, decoder, generator=None, progress=1.0):
        code = torch.randn(self.n_draws, len(batch.x), 3, generator=generator)
        return Code(code, code, code.sum(-1), code.sum(-1))


def test_only_an_inference_with_densities_is_accepted():
    encoder, decoder = MLP((6, 3), generator=seeded()), MLP((3, 6), generator=seeded())
    for inference in (EncoderMap(encoder), GrowingNoise(encoder)):
        coder = Coder(inference, decoder, Gaussian(6))
        assert not has_densities(coder)
        with pytest.raises(InputError, match="is not a distribution with a prior: importance sampling needs log q"):
            importance_log_prob(coder, Batch(binary_rows(2)), 10)
    assert has_densities(small_coder())
    assert not has_densities(None)
    odd = Coder(TorchGaussian(MLP((6, 6), generator=seeded())), decoder, Gaussian(6))
    with pytest.raises(InputError, match="TorchGaussian samples by functions of torch; use randn_like"):
        importance_log_prob(odd, Batch(binary_rows(2)), 10)


@pytest.mark.parametrize(
    ("n", "arguments", "text"),
    [
        (0, {}, "n_draws=0: it must be a whole number of at least 1"),
        (2.5, {}, "n_draws=2.5"),
        (2, {"seed": -1}, "seed=-1: it must be a whole number of at least 0"),
        (2, {"draws_at_once": 0}, "draws_at_once=0"),
        (2, {"rows": torch.arange(3)}, "rows: 3 numbers for 2 rows"),
    ],
)
@pytest.mark.parametrize("function", [importance_log_prob, elbo])
def test_invalid_numbers_are_refused(function, n, arguments, text):
    with pytest.raises(InputError, match=text):
        function(small_coder(), Batch(binary_rows(2)), n, **arguments)


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="there are no rows to compute a likelihood of"):
        importance_log_prob(small_coder(), Batch(binary_rows(0)), 2)


def test_bits_of_a_density_of_levels_are_those_of_their_probability():
    levels = np.array([3, 17, 200])
    probability = np.full(256, 1 / 256)
    density = np.log(probability[levels] * 256).sum()
    assert bits_per_dim(density, 3, n_levels=256) == pytest.approx(-np.log2(probability[levels]).mean())
    with pytest.raises(InputError, match="n_columns=0"):
        bits_per_dim(-1.0, 0)
    with pytest.raises(InputError, match="n_levels=0"):
        bits_per_dim(-1.0, 2, n_levels=0)
