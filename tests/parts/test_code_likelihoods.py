"""Output units of the range of the codes that they reconstruct."""

import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.parts.code_likelihoods import SquashedGaussian, code_likelihood
from isthmus.parts.sparse_activations import TopK

SQUASHED = {"tanh": torch.tanh, "softplus": nn.functional.softplus}


@pytest.mark.parametrize("squashing", SQUASHED)
def test_the_nll_is_that_of_a_normal_density_around_the_squashed_parameters(squashing):
    generator = torch.Generator().manual_seed(0)
    a, h = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    units = SquashedGaussian(3, squashing)
    density = torch.distributions.Normal(SQUASHED[squashing](a), 1.0)
    torch.testing.assert_close(units.nll(a, h), -density.log_prob(h).sum(-1))
    torch.testing.assert_close(units.nll_by_column(a, h), -density.log_prob(h))
    weight = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64).expand(4, 3)
    torch.testing.assert_close(units.nll(a, h, weight), -(density.log_prob(h) * weight).sum(-1))


@pytest.mark.parametrize(
    ("squashing", "mean"),
    [("tanh", [1e-6 - 1, -0.9, -1e-6, 0.0, 0.5, 1 - 1e-6]), ("softplus", [1e-6, 1e-3, 0.02, 1.0, 5000.0, 1e5])],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_for_a_mean_have_that_mean(squashing, mean, dtype):
    units, mean = SquashedGaussian(len(mean), squashing), torch.tensor(mean, dtype=dtype)
    torch.testing.assert_close(units.mean(units.parameters_for(mean)), mean, rtol=1e-4, atol=0)


@pytest.mark.parametrize("squashing", SQUASHED)
def test_parameters_for_a_mean_at_the_ends_of_its_range_are_finite(squashing):
    assert SquashedGaussian(3, squashing).parameters_for(torch.tensor([-1.0, 0.0, 1.0])).isfinite().all()


def test_draws_are_the_mean_and_noise_of_the_generator():
    units, parameters = SquashedGaussian(2, "tanh"), torch.zeros(20000, 2)
    drawn = units.sample(parameters, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, units.sample(parameters, torch.Generator().manual_seed(0)))
    assert drawn.std().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (nn.Sigmoid(), "bernoulli"),
        (nn.Identity(), "gaussian"),
        (nn.Tanh(), "gaussian-units"),
        (nn.ReLU(), "gaussian-units"),
        (nn.Softplus(), "gaussian-units"),
        (TopK(1, 3), "gaussian-units"),
    ],
)
def test_units_have_the_range_of_the_codes(activation, name):
    codes = activation(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))
    units = code_likelihood(activation, 3)
    assert units.name == name
    units.check(codes)
    low, high = (units.mean(torch.full((1, 3), end)) for end in (-30.0, 30.0))
    assert (low <= codes.min() + 1e-6).all()
    assert (high >= codes.max() - 1e-6).all()


def test_codes_without_units_of_their_range_are_refused():
    with pytest.raises(InputError, match="codes of SiLU units cannot be reconstructed by a layer above"):
        code_likelihood(nn.SiLU(), 3)
