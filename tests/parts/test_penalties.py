"""Priors on the code against scipy's densities, the rate penalty against its definition, and invalid arguments."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import Gaussian
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import (
    CustomPenalty,
    LaplacePrior,
    LogPenalty,
    StudentTPrior,
    TargetRate,
    check_rate,
    check_weight,
)

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


# Functions of users


def linear_coder() -> Coder:
    encoder, decoder = (MLP(sizes, generator=torch.Generator().manual_seed(2)) for sizes in ((4, 3), (3, 4)))
    return Coder(EncoderMap(encoder), decoder, Gaussian(4)).double()


def energy(output: ForwardPass, coder: Coder) -> torch.Tensor:
    return 0.1 * output.code.square().sum(-1)


def decay(output: ForwardPass, coder: Coder) -> torch.Tensor:
    return 0.1 * coder.decoder.affine_maps[0].weight.square().sum()


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 3), (4, 2, 5, 3)])
def test_a_function_returns_one_number_per_row_or_draw_or_one_for_the_batch(shape):
    model, h, x = linear_coder(), codes(*shape), codes(5, 4)
    output = ForwardPass(Batch(x), Batch(x), h, h, model.decoder(h))
    for reduced in (energy, decay, lambda output, coder: output.batch.x.sum(-1)):
        assert torch.equal(CustomPenalty(reduced)(output, model, None), reduced(output, model))


@pytest.mark.parametrize(
    ("shape", "result", "text"),
    [
        (
            (5, 3),
            lambda h: h,
            "returned shape (5, 3) for codes of shape (5, 3); return shape (5,) (one number per row) or",
        ),
        ((5, 3), lambda h: h.sum(-1, keepdim=True), "returned shape (5, 1) for codes of shape (5, 3)"),
        ((5, 3), lambda h: h.sum().view(1), "returned shape (1,) for codes of shape (5, 3)"),
        ((5, 3), lambda h: h[1:].sum(-1), "returned shape (4,) for codes of shape (5, 3)"),
        (
            (2, 5, 3),
            lambda h: h.sum((1, 2)),
            "returned shape (2,) for codes of shape (2, 5, 3); "
            "return shape (2, 5), (5,) (one number per row) or () (one for the batch)",
        ),
        ((5, 3), lambda h: 1.0, "returned float; return a torch tensor of shape (5,) (one number per row) or ()"),
        ((5, 3), lambda h: None, "returned NoneType; return a torch tensor"),
    ],
)
def test_another_result_of_a_function_raises(shape, result, text):
    def mine(output, coder):
        return result(output.code)

    h = codes(*shape)
    with pytest.raises(InputError) as refused:
        CustomPenalty(mine)(ForwardPass(Batch(h), Batch(h), h, h, h), None, None)
    assert str(refused.value).startswith(f"penalty mine {text}")
    assert "\n" not in str(refused.value)


def test_the_title_of_a_function_is_its_name():
    class Callable:
        def __call__(self, output, coder):
            return output.code.sum()

    assert [CustomPenalty(f).title for f in (energy, lambda output, coder: 0, Callable())] == [
        "energy", "<lambda>", "Callable"
    ]  # fmt: skip
    assert (repr(CustomPenalty(energy)), CustomPenalty(energy).weight) == ("CustomPenalty(energy)", 1.0)


@pytest.mark.parametrize("function", [energy, decay])
def test_a_training_step_minimises_the_reconstruction_and_the_function(function):
    model, batch = linear_coder(), Batch(codes(5, 4), weight=torch.tensor([1.0, 2.0, 1.0, 0.5, 0.5]).double())
    objective = Reconstruction(model, penalties={"mine": CustomPenalty(function)})
    terms, _ = objective.terms(batch, 0.0, None)
    assert list(terms) == ["reconstruction", "mine"]
    assert torch.equal(terms["mine"], function(model(batch), model))
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01)
    sum(term.mean() for term in terms.values()).backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    output = model(batch)
    expected = torch.autograd.grad(model.nll(output).mean() + function(output, model).mean(), list(model.parameters()))
    for found, by_hand in zip(gradients, expected, strict=True):
        torch.testing.assert_close(found, by_hand)
    before = sum(term.mean().item() for term in terms.values())
    optimizer.step()
    assert sum(term.mean().item() for term in objective.terms(batch, 0.0, None)[0].values()) < before


def test_the_weights_of_a_module_that_is_a_function_are_trained():
    class Learned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3).double())

        def forward(self, output, coder):
            return (output.code * self.scale).square().sum(-1)

    learned = Learned()
    objective = Reconstruction(linear_coder(), penalties={"mine": CustomPenalty(learned)})
    objective.terms(Batch(codes(5, 4)), 0.0, None)[0]["mine"].mean().backward()
    assert learned.scale.grad.abs().sum() > 0
    assert any(parameter is learned.scale for parameter in objective.parameters())
