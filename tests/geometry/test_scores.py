"""Scores against autograd, quadrature and the normal equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from isthmus import LinearAutoencoder
from isthmus.errors import InputError
from isthmus.geometry.scores import GaussianMixture, denoising_score, optimal_linear_denoiser, reconstruction_map


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def covariances(n: int, d: int) -> torch.Tensor:
    root = normal(n, d, d, seed=1)
    return root @ root.mT + 0.2 * torch.eye(d, dtype=torch.float64)


def mixture() -> GaussianMixture:
    return GaussianMixture(torch.tensor([1.0, 2.0, 0.5]).double(), 2 * normal(3, 4), covariances(3, 4))


def gradient(log_density, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_density(x).sum(), x)[0]


def test_log_density_of_a_mixture_is_scipys():
    p, x = mixture(), 3 * normal(20, 4, seed=2)
    weights = (p.weights / p.weights.sum()).tolist()
    components = [
        scipy.stats.multivariate_normal(*pair) for pair in zip(p.means.numpy(), p.covariances.numpy(), strict=True)
    ]
    expected = sum(w * component.pdf(x.numpy()) for w, component in zip(weights, components, strict=True))
    np.testing.assert_allclose(p.log_prob(x).exp(), expected, rtol=1e-10)


@pytest.mark.parametrize("scale", [None, 0.1, 2.0])
def test_score_of_a_mixture_is_the_gradient_of_its_log_density(scale):
    p = mixture() if scale is None else mixture().with_noise(scale)
    x = 3 * normal(20, 4, seed=2)

    def log_density(x: torch.Tensor) -> torch.Tensor:
        parts = torch.distributions.MultivariateNormal(p.means, p.covariances).log_prob(x[:, None])
        return (parts + (p.weights / p.weights.sum()).log()).logsumexp(-1)

    torch.testing.assert_close(p.score(x), gradient(log_density, x))


def test_smoothing_is_the_convolution_with_the_noise():
    p = GaussianMixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [2.0]]), torch.tensor([[[0.1]], [[0.4]]]))
    p = GaussianMixture(p.weights.double(), p.means.double(), p.covariances.double())
    for at in (-1.5, 0.3, 2.0):
        kernel = scipy.stats.norm(at, 0.5)
        clean = lambda y: float(p.log_prob(torch.tensor([[y]], dtype=torch.float64)).exp())
        expected = scipy.integrate.quad(lambda y: clean(y) * kernel.pdf(y), -10, 10, points=[at])[0]  # noqa: B023
        got = p.with_noise(0.5).log_prob(torch.tensor([[at]], dtype=torch.float64)).exp()
        assert float(got) == pytest.approx(expected, rel=1e-8)


def test_the_optimal_map_is_the_mean_of_the_clean_row_given_the_noisy_one():
    p = GaussianMixture(
        torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0], [2.0]]).double(),
        torch.tensor([[[0.1]], [[0.4]]]).double(),
    )  # fmt: skip
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    prior = p.log_prob(grid).exp()
    for at in (-2.0, 0.5, 1.0, 3.0):
        posterior = prior * torch.exp(-0.5 * ((at - grid[:, 0]) / 0.6) ** 2)
        expected = (posterior * grid[:, 0]).sum() / posterior.sum()
        got = p.optimal_denoiser(0.6)(torch.tensor([[at]], dtype=torch.float64))
        assert float(got) == pytest.approx(float(expected), rel=1e-9)


def test_the_optimal_map_has_the_exact_smoothed_score():
    p, x = mixture(), 3 * normal(20, 4, seed=2)
    torch.testing.assert_close(denoising_score(p.optimal_denoiser(0.7), x, 0.7), p.with_noise(0.7).score(x))


def test_the_optimal_linear_map_equals_least_squares():
    S, mean, scale = covariances(1, 4)[0], normal(4), 0.8
    weight = optimal_linear_denoiser(mean, S, scale)
    # The expected loss of x -> A x + b in closed form, and its minimum by solving for A and b.
    d = len(mean)
    second = torch.zeros(d + 1, d + 1, dtype=torch.float64)
    second[:d, :d] = S + torch.outer(mean, mean) + scale**2 * torch.eye(d)
    second[:d, d] = second[d, :d] = mean
    second[d, d] = 1.0
    cross = torch.cat([S + torch.outer(mean, mean), mean[None]])
    solution = torch.linalg.solve(second, cross)
    x = normal(10, 4, seed=3)
    torch.testing.assert_close(weight(x), x @ solution[:d] + solution[d])


def test_for_one_gaussian_the_linear_map_is_the_optimal_one():
    S, mean = covariances(1, 4), normal(1, 4)
    x = normal(10, 4, seed=3)
    p = GaussianMixture(torch.ones(1).double(), mean, S)
    torch.testing.assert_close(optimal_linear_denoiser(mean[0], S[0], 0.8)(x), p.optimal_denoiser(0.8)(x))


def test_samples_of_a_mixture_have_its_mean_and_covariance():
    p, n = mixture(), 200_000
    x = p.sample(n, seeded())
    w = p.weights / p.weights.sum()
    mean = w @ p.means
    spread = torch.einsum("k,ki,kj->ij", w, p.means - mean, p.means - mean)
    covariance = torch.einsum("k,kij->ij", w, p.covariances) + spread
    assert (x.mean(0) - mean).abs().max() < 5 * math.sqrt(float(covariance.max()) / n)
    torch.testing.assert_close(torch.cov(x.T), covariance, atol=0.02 * float(covariance.max()), rtol=0.0)
    assert torch.equal(x, p.sample(n, seeded()))


def test_the_map_of_a_fitted_model_is_its_reconstruction():
    X = normal(60, 3).float().numpy()
    model = LinearAutoencoder(code_size=2, max_epochs=3, scaling="none", random_state=0).fit(X)
    with torch.no_grad():
        r = reconstruction_map(model.coder_)(torch.from_numpy(X))
    np.testing.assert_allclose(r, model.reconstruct(X), atol=1e-6)


def test_the_map_of_a_fitted_model_has_a_jacobian():
    X = normal(60, 3).float()
    model = LinearAutoencoder(code_size=2, max_epochs=3, scaling="none", random_state=0).fit(X.numpy())
    jacobian = torch.autograd.functional.jacobian(reconstruction_map(model.coder_), X[:1]).squeeze()
    encoder, decoder = (part.affine_maps[0].weight for part in (model.coder_.encoder, model.coder_.decoder))
    torch.testing.assert_close(jacobian, (decoder @ encoder).detach())


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_invalid_noise_scales_raise(scale):
    message = "is not a positive number; give a standard deviation above 0"
    for call in (
        lambda: denoising_score(lambda x: x, torch.zeros(1, 1), scale),
        lambda: optimal_linear_denoiser(torch.zeros(1), torch.eye(1), scale),
        lambda: mixture().with_noise(scale),
    ):
        with pytest.raises(InputError, match=message):
            call()


def test_a_mixture_of_mismatched_shapes_raises():
    with pytest.raises(InputError, match=r"give \(k,\), \(k, d\) and \(k, d, d\)"):
        GaussianMixture(torch.ones(2), torch.zeros(3, 2), torch.eye(2).expand(3, 2, 2))
    with pytest.raises(InputError, match="weight 0.0 is not positive; remove that component"):
        GaussianMixture(torch.tensor([1.0, 0.0]), torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2))
