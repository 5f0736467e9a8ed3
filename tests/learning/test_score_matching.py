"""Score matching against autograd and closed forms."""

import math

import pytest
import torch

from isthmus import DenoisingScoreMatching, InputError, RestrictedBoltzmannMachine
from isthmus.learning.score_matching import ScoreMatching
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.semi_restricted import SemiRestrictedRBMEnergy

every_variance = pytest.mark.parametrize("name", ["gaussian", "gaussian-learned", "gaussian-per-column"])


def make_rbm(name="gaussian", hidden="bernoulli", n_columns=4, n_hidden=3):
    generator = torch.Generator().manual_seed(0)
    likelihood = likelihood_from({"name": name}, n_columns)
    made = RBMEnergy(likelihood, n_hidden, hidden=hidden, weight_scale=0.8, generator=generator).double()
    with torch.no_grad():
        for bias in (made.visible_bias, made.hidden_bias, *made.likelihood.parameters()):
            bias.copy_(0.5 * torch.randn(bias.shape, generator=generator))
    return made


def rows(n=5, seed=1):
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score(made, v):
    v = v.clone().requires_grad_()
    return -torch.autograd.grad(made.free_energy(v).sum(), v, create_graph=True)[0]


@every_variance
@pytest.mark.parametrize("hidden", ["bernoulli", "rectified"])
def test_the_exact_criterion_equals_the_score_and_its_divergence_by_autograd(name, hidden):
    made, v = make_rbm(name, hidden), rows()
    objective = ScoreMatching(made).double()
    torch.testing.assert_close(objective.score(v)[0], score(made, v), atol=1e-8, rtol=1e-6)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda x: score(made, x[None])[0], row) for row in v])
    divergence = jacobians.diagonal(dim1=1, dim2=2).sum(1)
    expected = 0.5 * score(made, v).square().sum(1) + divergence
    torch.testing.assert_close(objective.terms(Batch(v), 0.0, None)[0]["score"], expected, atol=1e-6, rtol=1e-6)


def test_with_unit_variances_it_is_reconstruction_and_a_contractive_like_term():
    made, v = make_rbm(), rows()
    h = made.hidden_mean(v)
    contraction = (h * (1 - h) * made.weight.square().sum(1)).sum(1)
    expected = 0.5 * (made.mean_field(v) - v).square().sum(1) + contraction - 4
    torch.testing.assert_close(ScoreMatching(made).exact(v), expected)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_with_variance_s_squared_it_is_the_denoising_error_over_2_s_to_the_4(scale):
    made, v = make_rbm("gaussian-learned"), rows()
    with torch.no_grad():  # the likelihood's parametrisation: log s^2 = 10 tanh(free / 10)
        made.likelihood.free_log_variance.fill_(10 * math.atanh(2 * math.log(scale) / 10))
    noisy = v + scale * torch.randn(v.shape, generator=torch.Generator().manual_seed(3), dtype=v.dtype)
    error = (made.mean_field(noisy) - v).square().sum(1)
    ours = ScoreMatching(made, noise_scale=scale).denoising(v, torch.Generator().manual_seed(3))
    torch.testing.assert_close(ours, error / (2 * scale**4))


def test_the_exact_criterion_is_stationary_at_the_rbm_that_generated_the_rows():
    made, generator = make_rbm("gaussian-learned"), torch.Generator().manual_seed(4)
    h = torch.cat(list(made._hidden_states()))
    p = torch.softmax(-made.hidden_free_energy(h).detach(), 0)
    v = made.sample_visible(h[torch.multinomial(p, 40000, replacement=True, generator=generator)], generator)
    gradients = torch.autograd.grad(ScoreMatching(made).exact(v).mean(), list(made.parameters()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 0.15


def test_the_estimator_is_trained_by_score_matching():
    v = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[2.0, 1, 0, 1], [0, 1, 2, 1]])
    options = {"code_size": 6, "max_epochs": 8, "optimizer": "adamw", "learning_rate": 0.02, "random_state": 0}
    for method in ("score", DenoisingScoreMatching(noise_scale=0.3)):
        model = RestrictedBoltzmannMachine(likelihood="gaussian-per-column", method=method, **options).fit(v.numpy())
        epochs = model.history_["epochs"]
        assert epochs[-1]["terms"]["score"] < epochs[0]["terms"]["score"] - 0.2
        assert model.score_kind_ == "exact"
        assert model.sample(3, 0, n_steps=5).shape == (3, 4)


def test_unsupported_units_and_scales_raise():
    binary = RBMEnergy(likelihood_from({"name": "bernoulli"}, 4), 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="score matching needs a Gaussian likelihood; found likelihood='bernoulli'"):
        ScoreMatching(binary)
    lateral = SemiRestrictedRBMEnergy(
        likelihood_from({"name": "gaussian"}, 4), 2, generator=torch.Generator().manual_seed(0)
    )
    with pytest.raises(InputError, match="no closed form with lateral weights; use lateral=False"):
        ScoreMatching(lateral)
    with pytest.raises(InputError, match="noise_scale=0: it must be a finite number above 0"):
        ScoreMatching(make_rbm(), noise_scale=0)
