"""What one likelihood alone promises: an optimum, a limit, digits kept, columns in their places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from isthmus.parts.likelihoods import LIKELIHOODS, GaussianLearned, likelihood_from


def test_bernoulli_nll_of_reals_is_the_cross_entropy() -> None:
    likelihood = likelihood_from({"name": "bernoulli"}, 3)
    parameters = torch.tensor([[0.3, -2.0, 5.0]], dtype=torch.float64)
    x, p = torch.tensor([[0.2, 0.5, 1.0]], dtype=torch.float64), special.expit(parameters.numpy())
    expected = -(special.xlogy(x.numpy(), p) + special.xlog1py(1 - x.numpy(), -p)).sum(-1)
    torch.testing.assert_close(likelihood.nll(parameters, x), torch.tensor(expected))


def test_bernoulli_of_confident_logits_is_right_to_a_millionth_of_a_nat_in_float32() -> None:
    likelihood = likelihood_from({"name": "bernoulli"}, 2)
    logits = torch.tensor([[15.0, -15.0]], requires_grad=True)
    nll = likelihood.nll(logits, torch.tensor([[1.0, 0.0]]))
    (gradient,) = torch.autograd.grad(nll.sum(), logits)
    assert nll.item() == pytest.approx(2 * np.log1p(np.exp(-15)), abs=1e-6)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, 1.0]]) * special.expit(-15), rtol=0, atol=1e-7)


@pytest.mark.parametrize("logit", [0.0, 1e-6, 0.01, 0.099, 0.101, 5.0, 40.0])
def test_continuous_bernoulli_agrees_with_torch_and_is_smooth_at_one_half(logit: float) -> None:
    likelihood = likelihood_from({"name": "continuous-bernoulli"}, 1)
    for sign in (-1, 1):
        parameters = torch.full((5, 1), sign * logit, dtype=torch.float64)
        x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
        theirs = torch.distributions.ContinuousBernoulli(logits=parameters, lims=(0.4999, 0.5001))
        if logit < 30:  # beyond, theirs clamps its probabilities
            torch.testing.assert_close(likelihood.nll(parameters, x), -theirs.log_prob(x)[:, 0], rtol=0, atol=1e-8)
            torch.testing.assert_close(likelihood.mean(parameters), theirs.mean, rtol=0, atol=1e-8)
        limit = special.expit(sign * logit) if logit == 0 else 1 / -np.expm1(-sign * logit) - 1 / (sign * logit)
        torch.testing.assert_close(likelihood.mean(parameters), torch.full_like(parameters, limit), rtol=0, atol=1e-9)


def test_multinomial_mean_and_draws_follow_the_number_of_words() -> None:
    likelihood = likelihood_from({"name": "multinomial"}, 3)
    parameters = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 3, 4], [9, 0, 1]])
    torch.testing.assert_close(likelihood.mean(parameters).sum(-1), torch.ones(4))
    torch.testing.assert_close(likelihood.mean_given(parameters, x).sum(-1), x.sum(-1))
    draws = likelihood.sample(parameters.expand(2, 4, 3), torch.Generator().manual_seed(0), total=x.sum(-1))
    assert torch.equal(draws.sum(-1), x.sum(-1).expand(2, 4))
    assert torch.equal(likelihood.sample(parameters, torch.Generator().manual_seed(0)).sum(-1), torch.ones(4))
    assert torch.equal(likelihood.sample(parameters, torch.Generator(), total=0), torch.zeros(4, 3))


@pytest.mark.parametrize("per_column", [False, True])
def test_the_optimal_learned_variance_is_the_mean_squared_residual(per_column: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)
    r = torch.zeros(200, 3, dtype=torch.float64)
    x = spread * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    likelihood = GaussianLearned(3, per_column=per_column).double()
    optimiser = torch.optim.LBFGS(likelihood.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = likelihood.nll(r, x).mean()
        value.backward()
        return value

    optimiser.step(loss)
    expected = x.square().mean(0) if per_column else x.square().mean()
    torch.testing.assert_close(likelihood.variance.detach(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["gaussian-learned", "gaussian-per-column", "gaussian-predicted", "mixture-density"])
def test_no_variance_collapses_where_the_reconstruction_is_exact(name: str) -> None:
    likelihood = likelihood_from({"name": name}, 2)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.fill_(-1e6)
    parameters = torch.full((1, likelihood.n_parameters), -1e6)
    x = torch.full((1, 2), -1e6)
    floor = 2 * 0.5 * (np.log(2 * np.pi) - 10)
    assert likelihood.nll(parameters, x).item() == pytest.approx(floor, abs=1e-3)


def test_mixed_units_stand_in_the_columns_that_were_named() -> None:
    units = {"count": [1], "real": [3], "categorical": [4, 0, 2], "binary": [5]}
    groups = [{"unit": unit, "columns": columns} for unit, columns in units.items()]
    likelihood = likelihood_from({"name": "mixed", "groups": groups}, 6)
    mean = likelihood.mean(torch.tensor([[0.0, 0.0, 0.0, 7.0, 0.0, 0.0]]))
    torch.testing.assert_close(mean, torch.tensor([[1 / 3, 1.0, 1 / 3, 7.0, 1 / 3, 0.5]]))


def test_groups_of_one_unit_are_served_together_as_they_would_be_apart() -> None:
    reals = [{"unit": "real", "columns": [column]} for column in range(40)]
    apart = likelihood_from({"name": "mixed", "groups": [*reals, {"unit": "binary", "columns": [40]}]}, 41)
    together = likelihood_from(
        {"name": "mixed", "groups": [{"unit": "real", "columns": range(40)}, {"unit": "binary", "columns": [40]}]}, 41
    )
    parameters = torch.randn(5, 41, generator=torch.Generator().manual_seed(0))
    assert len(apart.units) == 2
    assert torch.equal(apart.nll(parameters, torch.zeros(5, 41)), together.nll(parameters, torch.zeros(5, 41)))


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name not in ("continuous-bernoulli", "mixed")])
def test_the_output_where_learning_starts_has_the_mean_of_the_rows(name):
    mean = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    likelihood = likelihood_from({"name": name}, 3).double()
    torch.testing.assert_close(likelihood.mean(likelihood.parameters_for(mean)), mean, rtol=0.01, atol=0)


def test_a_table_starts_each_column_at_its_own_mean():
    groups = [{"unit": "binary", "columns": [1]}, {"unit": "real", "columns": [0]}]
    groups += [{"unit": "categorical", "columns": [3, 2]}, {"unit": "count", "columns": [4], "scale": [2.0]}]
    mean = torch.tensor([-3.0, 0.1, 0.7, 0.3, 4.0])
    likelihood = likelihood_from({"name": "mixed", "groups": groups}, 5)
    torch.testing.assert_close(likelihood.mean(likelihood.parameters_for(mean)), mean, rtol=0.01, atol=0)
