"""What one likelihood alone promises: an optimum, a limit, digits kept, columns in their places."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from torch import Tensor

from isthmus.errors import InputError
from isthmus.parts.likelihoods import LIKELIHOODS, GaussianLearned, GaussianPerColumn, Mixed, Poisson, likelihood_from


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


@pytest.mark.parametrize("kind", [GaussianLearned, GaussianPerColumn])
def test_the_optimal_learned_variance_is_the_mean_squared_residual(kind: type[GaussianLearned]) -> None:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)
    r = torch.zeros(200, 3, dtype=torch.float64)
    x = spread * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    likelihood = kind(3).double()
    optimiser = torch.optim.LBFGS(likelihood.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = likelihood.nll(r, x).mean()
        value.backward()
        return value

    optimiser.step(loss)
    expected = x.square().mean(0) if kind is GaussianPerColumn else x.square().mean()
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


@pytest.mark.parametrize("mean", [0.05, 0.1, 0.3, 0.5, 0.7])
def test_continuous_bernoulli_logit_for_a_mean_agrees_with_scipy(mean: float) -> None:
    likelihood = likelihood_from({"name": "continuous-bernoulli"}, 1)
    found = likelihood.parameters_for(torch.tensor([mean])).item()
    y = min(mean, 1 - mean)
    expected = 0.0
    if y < 0.5:
        expected = optimize.brentq(lambda k: stats.truncexpon.mean(b=k, scale=1 / k) - y, 1e-3, 100)
    assert abs(found) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert (found > 0) == (mean > 0.5) or expected == 0


@pytest.mark.parametrize("logit", [-1e6, -30.0, 30.0, 1e6])
def test_continuous_bernoulli_nll_keeps_its_digits_in_float32_at_large_logits(logit: float) -> None:
    likelihood = likelihood_from({"name": "continuous-bernoulli"}, 1)
    parameters = torch.full((3, 1), logit, requires_grad=True)
    x = torch.tensor([[0.0], [1e-6], [0.25]]) if logit < 0 else torch.tensor([[1.0], [0.5], [0.75]])
    size, y = abs(logit), (x if logit < 0 else 1 - x).double().numpy()
    nll = likelihood.nll(parameters, x)
    expected = -stats.truncexpon.logpdf(y, b=size, scale=1 / size)[:, 0]
    torch.testing.assert_close(nll.double().detach(), torch.tensor(expected), rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(nll.sum(), parameters)
    expected = (1 / size - y) * (1 if logit < 0 else -1)
    torch.testing.assert_close(gradient.double(), torch.tensor(expected), rtol=1e-5, atol=1e-7)


def test_training_starts_a_continuous_bernoulli_no_nearer_than_a_thousandth_to_the_ends() -> None:
    likelihood = likelihood_from({"name": "continuous-bernoulli"}, 4)
    start = likelihood.starting_parameters(torch.tensor([0.0, 0.2, 0.8, 1.0]))
    torch.testing.assert_close(likelihood.mean(start), torch.tensor([0.001, 0.2, 0.8, 0.999]))


def test_poisson_of_5000_counts_has_a_mean_of_5000_and_counts_of_none_or_too_many_a_finite_parameter() -> None:
    likelihood = likelihood_from({"name": "poisson", "scale": [1.0, 1.0, 1.0, 100.0]}, 4)
    mean = torch.tensor([0.0, 5000.0, 1e12, 50.0])
    largest = float(np.exp(19.9))
    expected = torch.tensor([1e-6, 5000.0, largest, 50.0])
    torch.testing.assert_close(likelihood.mean(likelihood.parameters_for(mean)), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["multinomial", "categorical"])
@pytest.mark.parametrize("n_words", [1, 300])
def test_the_nll_of_a_word_at_the_mean_of_a_zipf_vocabulary_is_its_entropy(name: str, n_words: int) -> None:
    rates = 1 / torch.arange(1, 2001, dtype=torch.float64)
    rates /= rates.sum()
    likelihood = likelihood_from({"name": name}, 2000)
    parameters = likelihood.parameters_for((n_words * rates).float())
    nll = likelihood.nll(parameters.expand(2000, -1), torch.eye(2000))
    assert float(rates @ nll.double()) == pytest.approx(float(special.entr(rates.numpy()).sum()), abs=1e-3)


def test_multinomial_parameters_for_no_word_at_all_give_every_word_the_same_rate() -> None:
    likelihood = likelihood_from({"name": "multinomial"}, 4)
    mean = likelihood.mean(likelihood.parameters_for(torch.zeros(4)))
    torch.testing.assert_close(mean, torch.full((4,), 0.25))


@pytest.mark.parametrize("name", sorted(set(LIKELIHOODS) - {"mixed"}))
@pytest.mark.parametrize("seen", [[1.0, 0.0, 0.0], [0.999999, 0.000001, 0.0]])
def test_gradients_are_finite_at_the_start_where_a_column_is_rare_or_never_seen(name: str, seen: list[float]) -> None:
    likelihood = likelihood_from({"name": name}, 3)
    start = likelihood.starting_parameters(torch.tensor(seen)).expand(3, -1).clone().requires_grad_()
    nll = likelihood.nll(start, torch.eye(3))
    (gradient,) = torch.autograd.grad(nll.sum(), start)
    assert bool(nll.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert bool((gradient[1, : likelihood.n_columns] != 0).any())


def test_means_of_counts_stay_below_twice_the_largest_value_and_are_free_below_it():
    free, bounded = Poisson(2, [4.0, 1.0]), Poisson(2, [4.0, 1.0], largest=[2.5, 30.0])
    parameters = torch.linspace(-40, 40, 81)[:, None].expand(81, 2)
    means = bounded.mean(parameters)
    assert (means <= torch.tensor([5.0, 60.0]) * (1 + 1e-6)).all()
    assert (means.diff(dim=0) >= 0).all()
    assert (means <= free.mean(parameters) * (1 + 1e-5)).all()
    low = parameters[parameters[:, 0] < -4]
    torch.testing.assert_close(bounded.mean(low), free.mean(low), rtol=0.01, atol=0)


def test_an_encoder_sees_logarithms_of_counts_where_the_likelihood_says_so():
    x = torch.tensor([[0.0, 3.0], [2.0, 0.5]])
    groups = [{"unit": "real", "columns": [0]}, {"unit": "count", "columns": [1], "scale": [2.0], "log_view": True}]
    expected = torch.stack([x[:, 0], torch.log1p(2 * x[:, 1])], 1)
    torch.testing.assert_close(Mixed(2, groups).encoder_view(x), expected)
    assert Mixed(2, [groups[0], {"unit": "count", "columns": [1]}]).encoder_view(x) is x


def test_numbers_of_largest_values_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="a Poisson likelihood of 2 columns has 1 largest values"):
        Poisson(2, largest=[1.0])
    with pytest.raises(InputError, match="a count group of 2 columns has 1 largest values"):
        Mixed(2, [{"unit": "count", "columns": [0, 1], "largest": [1.0]}])
