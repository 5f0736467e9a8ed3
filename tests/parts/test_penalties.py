"""Priors on the code against scipy's densities, the rate penalty against its definition, and invalid arguments."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from isthmus.errors import InputError
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.penalties import LaplacePrior, LogPenalty, StudentTPrior, TargetRate, check_rate, check_weight

RATES = [0.1, 1.0, 7.5]


def codes(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("rate", RATES)
def test_the_weighted_l1_penalty_is_minus_the_log_density_of_laplace(rate):
    h = codes(5, 3)
    penalty = LaplacePrior(rate)
    expected = -scipy.stats.laplace(scale=1 / rate).logpdf(h.numpy()).sum(1)
    np.testing.assert_allclose((penalty.weight * penalty.of(h)).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("rate", RATES)
def test_for_non_negative_codes_the_l1_penalty_is_the_exponential_density(rate):
    h = codes(5, 3).abs()
    penalty = LaplacePrior(rate, non_negative=True)
    expected = -scipy.stats.expon(scale=1 / rate).logpdf(h.numpy()).sum(1)
    np.testing.assert_allclose((penalty.weight * penalty.of(h)).numpy(), expected, rtol=1e-12)


def test_weight_zero_has_no_prior_and_no_constant():
    h = codes(5, 3)
    torch.testing.assert_close(LaplacePrior(0.0).of(h), h.abs().sum(1))


@pytest.mark.parametrize("degrees", [0.5, 1.0, 30.0])
@pytest.mark.parametrize("scale", [0.2, 3.0])
def test_student_t_is_minus_its_log_density(degrees, scale):
    h = codes(5, 3)
    expected = -scipy.stats.t(degrees, scale=scale).logpdf(h.numpy()).sum(1)
    np.testing.assert_allclose(StudentTPrior(degrees=degrees, scale=scale).of(h).numpy(), expected, rtol=1e-12)


def test_student_t_of_non_negative_codes_is_the_half_density():
    h = codes(5, 3).abs()
    expected = -(scipy.stats.t(2.0).logpdf(h.numpy()) + np.log(2)).sum(1)
    np.testing.assert_allclose(StudentTPrior(degrees=2.0, non_negative=True).of(h).numpy(), expected, rtol=1e-12)


def test_the_log_penalty_is_student_t_without_its_constant_and_with_twice_the_slope_of_cauchy():
    h = codes(5, 3)
    cauchy = StudentTPrior(degrees=1.0).of(h) - 3 * np.log(np.pi)
    torch.testing.assert_close(LogPenalty().of(h), cauchy)
    torch.testing.assert_close(LogPenalty(scale=2.0).of(2 * h), cauchy)


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9])
def test_the_rate_penalty_is_the_kl_divergence_of_bernoulli_distributions(rho):
    h = codes(40, 6).sigmoid()
    mean = h.mean(0).numpy()
    expected = sum(scipy.stats.entropy([rho, 1 - rho], [r, 1 - r]) for r in mean)
    penalty = TargetRate(target_rate=rho).of(h)
    assert penalty.shape == ()
    np.testing.assert_allclose(penalty.item(), expected, rtol=1e-12)


def test_the_rate_penalty_of_units_that_are_always_off_or_on_is_finite():
    h = torch.tensor([[0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    penalty = TargetRate().of(h)
    penalty.backward()
    assert torch.isfinite(penalty)
    assert torch.isfinite(h.grad).all()


@pytest.mark.parametrize("penalty", [LaplacePrior(), StudentTPrior(), LogPenalty()])
def test_leading_axes_are_kept(penalty):
    h = codes(4, 5, 3)
    output = ForwardPass(Batch(torch.zeros(5, 2)), torch.zeros(5, 2), h, h, h)
    assert penalty(output, None, None).shape == (4, 5)
    torch.testing.assert_close(penalty(output, None, None)[2], penalty.of(h[2]))


@pytest.mark.parametrize("penalty", [LaplacePrior(0.1), StudentTPrior(), LogPenalty(), TargetRate()])
def test_codes_in_half_precision_are_summed_in_full(penalty):
    h = codes(20, 500).sigmoid().bfloat16()
    torch.testing.assert_close(penalty.of(h), penalty.of(h.float()))
    assert penalty.of(h).dtype == torch.float32


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: LaplacePrior(-1.0),
            "LaplacePrior: weight -1.0 is invalid; give a finite number",
        ),
        (lambda: LogPenalty(float("nan")), "LogPenalty: weight nan is invalid"),
        (lambda: LogPenalty(scale=0.0), "LogPenalty: scale 0.0 is not positive; give a number above 0"),
        (lambda: StudentTPrior(degrees=-1.0), "StudentTPrior: degrees -1.0 is not positive; give a number above 0"),
        (lambda: TargetRate(target_rate=0.0), "target_rate 0.0 is not a rate between 0 and 1; give e.g. 0.05"),
        (lambda: TargetRate(target_rate=1), "target_rate 1 is not a rate between 0 and 1; give e.g. 0.05"),
    ],
)
def test_invalid_numbers_raise(build, text):
    with pytest.raises(InputError) as refused:
        build()
    assert text in str(refused.value)


def test_numpy_numbers_are_accepted_as_weights():
    assert (check_weight("L1", np.float32(0.5)), check_weight("L1", np.int64(2))) == (0.5, 2.0)
    assert check_rate("target_rate", np.float32(0.25)) == 0.25
