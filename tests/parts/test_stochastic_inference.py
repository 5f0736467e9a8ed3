"""Growing noise against its schedule, and the diagonal Gaussian against a linear model with a known log p(x)."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from isthmus.errors import InputError
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihood_gaussians import LOG_VARIANCE_BOUND
from isthmus.parts.likelihoods import Gaussian
from isthmus.parts.networks import MLP
from isthmus.parts.stochastic_inference import DiagonalGaussian, GrowingNoise

N_COLUMNS, CODE_SIZE = 5, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- growing noise ------------------------------------------------------------------------------------


def test_at_progress_0_growing_noise_is_the_map():
    encoder, batch = MLP((4, 3), generator=seeded()), Batch(torch.randn(20, 4, generator=seeded(1)))
    code = GrowingNoise(encoder, "sigmoid", scale=4.0)(batch, None, seeded(2), 0.0).code
    assert torch.equal(code, EncoderMap(encoder, "sigmoid")(batch, None).code)


@pytest.mark.parametrize("progress", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_the_noise_before_the_activation_is_standard_normal_times_scale_times_progress(scale, progress):
    encoder, batch = MLP((4, 3), generator=seeded()), Batch(torch.randn(4000, 4, generator=seeded(1)))
    inferred = GrowingNoise(encoder, "linear", scale=scale)(batch, None, seeded(2), progress)
    noise = (inferred.code - inferred.preactivation) / (scale * progress)
    assert torch.equal(inferred.preactivation, encoder(batch.x))
    n = noise.numel()
    assert abs(noise.mean()) < 5 / math.sqrt(n)
    assert abs(noise.square().mean() - 1) < 5 * math.sqrt(2 / n)
    assert abs(noise.pow(4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert (noise.T.cov() - torch.eye(3)).abs().max() < 5 * math.sqrt(2 / len(noise))


def test_the_noise_enters_before_the_activation():
    encoder, batch = MLP((4, 3), generator=seeded()), Batch(torch.randn(20, 4, generator=seeded(1)))
    before, code = (GrowingNoise(encoder, s)(batch, None, seeded(2), 0.5).code for s in ("linear", "sigmoid"))
    torch.testing.assert_close(code, torch.sigmoid(before))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, True])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(InputError, match="GrowingNoise: scale=.*must be a finite number above 0"):
        GrowingNoise(MLP((4, 3), generator=seeded()), scale=scale)


@pytest.mark.parametrize("inference", [GrowingNoise, DiagonalGaussian])
def test_the_encoder_gets_the_generator_for_its_dropout(inference):
    encoder, batch = MLP((4, 32, 6), dropout=0.5, generator=seeded()), Batch(torch.ones(20, 4))
    model = inference(encoder)
    first, second = (model(batch, None, seeded(seed)).preactivation for seed in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(model(batch, None).preactivation, model(batch, None).preactivation)


# -- the diagonal Gaussian on a linear model with a diagonal posterior ----------------------------------


def model_weight() -> torch.Tensor:
    """W with orthogonal columns of the norms 0.5, 1 and 2."""
    q, _ = torch.linalg.qr(torch.randn(N_COLUMNS, CODE_SIZE, generator=seeded(7), dtype=torch.float64))
    return q * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def rows(n: int) -> torch.Tensor:
    """Sample x = W h + e."""
    h, e = (torch.randn(n, m, generator=seeded(m), dtype=torch.float64) for m in (CODE_SIZE, N_COLUMNS))
    return h @ model_weight().T + e


def log_p(x: torch.Tensor) -> torch.Tensor:
    """log N(x; 0, W W' + I)."""
    weight = model_weight()
    covariance = weight @ weight.T + torch.eye(N_COLUMNS, dtype=torch.float64)
    return MultivariateNormal(x.new_zeros(N_COLUMNS), covariance).log_prob(x)


def posterior(x: torch.Tensor, mean_shift: float = 0.0, log_variance_shift: float = 0.0) -> Independent:
    """p(h | x) = N(S W' x, S), S = (I + W' W)^-1, which is diagonal; with shifts, a worse q."""
    weight = model_weight()
    variance = 1 / (1 + weight.square().sum(0))
    mean = x @ weight * variance + mean_shift
    scale = variance.sqrt() * math.exp(log_variance_shift / 2)
    return Independent(Normal(mean, scale.expand_as(mean)), 1)


def linear_model(n_draws: int, mean_shift: float = 0.0, log_variance_shift: float = 0.0) -> Coder:
    """Return the linear model with the posterior, or with a worse q, as inference."""
    weight = model_weight()
    encoder = MLP((N_COLUMNS, 2 * CODE_SIZE), generator=seeded()).double()
    decoder = MLP((CODE_SIZE, N_COLUMNS), generator=seeded()).double()
    variance = 1 / (1 + weight.square().sum(0))
    log_variance = variance.log() + log_variance_shift
    with torch.no_grad():
        encoder.affine_maps[0].weight.copy_(torch.cat([(weight * variance).T, torch.zeros(CODE_SIZE, N_COLUMNS)]))
        free = LOG_VARIANCE_BOUND * torch.atanh(log_variance / LOG_VARIANCE_BOUND)
        encoder.affine_maps[0].bias.copy_(torch.cat([torch.full_like(free, mean_shift), free]))
        decoder.affine_maps[0].weight.copy_(weight)
        decoder.affine_maps[0].bias.zero_()
    return Coder(DiagonalGaussian(encoder, n_draws=n_draws), decoder, Gaussian(N_COLUMNS))


def bound(coder: Coder, x: torch.Tensor, reduction: str, seed: int = 0) -> torch.Tensor:
    """Return the lower bound on log p(x) of each row."""
    terms, _ = Reconstruction(coder, reduction=reduction).terms(Batch(x), 1.0, seeded(seed))
    return -torch.stack(list(terms.values())).sum(0).detach()


@pytest.mark.parametrize("reduction", ["mean", "logmeanexp"])
@pytest.mark.parametrize("n_draws", [1, 3, 20])
def test_with_the_exact_posterior_each_bound_is_the_log_density(n_draws, reduction):
    x = rows(50)
    torch.testing.assert_close(bound(linear_model(n_draws), x, reduction), log_p(x), rtol=0, atol=1e-10)


WORSE = {"mean_shift": 0.4, "log_variance_shift": 0.7}


def test_the_gap_of_the_evidence_lower_bound_is_the_divergence_from_the_posterior():
    x = rows(4000)
    gaps = log_p(x) - bound(linear_model(10, **WORSE), x, "mean")
    expected = kl_divergence(posterior(x, **WORSE), posterior(x)).mean()
    assert abs(gaps.mean() - expected) < 5 * gaps.std() / math.sqrt(len(x))
    assert expected > 0.5


def test_the_importance_weighted_bound_rises_with_the_number_of_draws_to_the_log_density():
    x = rows(1000)
    values = [bound(linear_model(10, **WORSE), x, "mean").mean()]
    values += [bound(linear_model(k, **WORSE), x, "logmeanexp").mean() for k in (2, 10, 100, 2000)]
    gaps = [float(log_p(x).mean() - value) for value in values]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 2 * gaps[2]
    assert abs(gaps[-1]) < 0.005


def test_the_log_densities_of_draws_are_those_of_the_distributions():
    x = rows(4)
    inferred = linear_model(6, **WORSE).inference(Batch(x), None, seeded(1))
    torch.testing.assert_close(inferred.log_q, posterior(x, **WORSE).log_prob(inferred.code))
    prior = Independent(Normal(x.new_zeros(CODE_SIZE), x.new_ones(CODE_SIZE)), 1)
    torch.testing.assert_close(inferred.log_prior, prior.log_prob(inferred.code))


def test_the_mean_of_log_q_minus_log_prior_is_the_divergence_from_the_prior():
    x, n_draws = rows(4), 20_000
    inferred = linear_model(n_draws, **WORSE).inference(Batch(x), None, seeded(1))
    estimates = inferred.log_q - inferred.log_prior
    q = posterior(x, **WORSE)
    prior = Independent(Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean)), 1)
    assert ((estimates.mean(0) - kl_divergence(q, prior)).abs() < 5 * estimates.std(0) / math.sqrt(n_draws)).all()


def test_the_gradient_of_the_bound_is_that_of_its_closed_form():
    x, weight = rows(5), model_weight()
    coder = linear_model(40_000, **WORSE)
    bias = coder.encoder.affine_maps[0].bias
    terms, _ = Reconstruction(coder).terms(Batch(x), 1.0, seeded(1))
    (estimate,) = torch.autograd.grad(torch.stack([term.mean() for term in terms.values()]).sum(), bias)
    mean, free = coder.encoder(x).chunk(2, -1)
    variance = (LOG_VARIANCE_BOUND * torch.tanh(free / LOG_VARIANCE_BOUND)).exp()
    error = 0.5 * (x - mean @ weight.T).square().sum(1) + 0.5 * (variance * weight.square().sum(0)).sum(1)
    divergence = 0.5 * (mean.square() + variance - 1 - variance.log()).sum(1)
    (expected,) = torch.autograd.grad((error + divergence).mean(), bias)
    torch.testing.assert_close(estimate, expected, rtol=0.02, atol=0.01)
    assert expected.abs().min() > 0.05


def test_draws_are_the_mean_plus_the_standard_deviation_times_numbers_of_the_generator():
    x = rows(4)
    coder, q = linear_model(6, **WORSE), posterior(x, **WORSE)
    e = torch.randn(6, 4, CODE_SIZE, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(coder.inference(Batch(x), None, seeded(1)).code, q.mean + q.stddev * e)
    torch.testing.assert_close(coder.encode(Batch(x)).code, q.mean)


@pytest.mark.parametrize("size", [-1e6, -50.0, 50.0, 1e6])
def test_log_variances_of_any_size_give_finite_terms_and_gradients(size):
    encoder = MLP((2, 2), generator=seeded())
    with torch.no_grad():
        encoder.affine_maps[0].bias.copy_(torch.tensor([0.0, size]))
    coder = Coder(DiagonalGaussian(encoder, n_draws=3), MLP((1, 2), generator=seeded()), Gaussian(2))
    terms, _ = Reconstruction(coder).terms(Batch(torch.ones(4, 2)), 1.0, seeded(1))
    total = torch.stack([term.mean() for term in terms.values()]).sum()
    total.backward()
    assert total.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in coder.parameters())


def test_log_densities_under_autocast_are_in_single_precision():
    inference = DiagonalGaussian(MLP((5, 6), generator=seeded()), n_draws=2)
    with torch.autocast("cpu", torch.bfloat16):
        inferred = inference(Batch(torch.ones(4, 5)), None, seeded(1))
    assert inferred.preactivation.dtype == torch.bfloat16
    assert inferred.log_q.dtype == inferred.log_prior.dtype == torch.float32


@pytest.mark.parametrize("n_draws", [0, -1, 1.5, True])
def test_a_number_of_draws_that_is_not_a_count_is_refused(n_draws):
    with pytest.raises(InputError, match="n_draws=.*must be a whole number of at least 1"):
        DiagonalGaussian(MLP((4, 6), generator=seeded()), n_draws=n_draws)
