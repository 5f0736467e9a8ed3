"""Codes of bits: their stand-ins in training, and the gradients that pass through them."""

import math

import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.parts.binary_inference import BinaryMap, NoisyBits, RelaxedBits, StraightThroughBits
from isthmus.parts.discrete_inference import Annealing
from isthmus.parts.forward import Batch


class Same(nn.Module):
    """An encoder that returns its input."""

    def forward(self, x, generator=None):
        return x


A = torch.linspace(-3, 3, 7).repeat(20_000, 1)
EVERY = pytest.mark.parametrize("stand_in", [NoisyBits(), StraightThroughBits(), RelaxedBits()])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@EVERY
def test_codes_in_evaluation_mode_are_bits_whatever_the_generator(stand_in):
    inference = BinaryMap(Same(), stand_in).eval()
    for generator in (None, seeded()):
        code = inference(Batch(A[:1]), None, generator).code
        assert code.tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_the_noise_grows_linearly_and_stays_at_its_end_after_annealing():
    inference = BinaryMap(Same(), NoisyBits(2.0))
    for progress in (0.0, 0.5, 1.0):
        logits = torch.logit(inference(Batch(A), None, seeded(), progress).code.double()) - A
        assert logits[:, 3].std().item() == pytest.approx(2.0 * progress, abs=0.03)
    inference.without_annealing()
    assert torch.logit(inference(Batch(A), None, seeded(), 0.0).code.double())[:, 3].std().item() > 1.9


def test_straight_through_bits_are_bits_with_the_gradient_of_the_sigmoid():
    a = A[:1].clone().requires_grad_()
    for stochastic in (False, True):
        a.grad = None
        code = BinaryMap(Same(), StraightThroughBits(stochastic))(Batch(a), None, seeded()).code
        assert set(code.detach().unique().tolist()) <= {0.0, 1.0}
        code.sum().backward()
        rate = torch.sigmoid(a.detach())
        assert torch.allclose(a.grad, rate * (1 - rate))


@pytest.mark.parametrize(
    "stand_in",
    [
        StraightThroughBits(stochastic=True),
        RelaxedBits(annealing=Annealing(0.01, 0.01)),
        RelaxedBits(annealing=Annealing(straight_through=True)),
    ],
)
def test_sampled_bits_have_the_rates_of_the_sigmoid(stand_in):
    rate = BinaryMap(Same(), stand_in)(Batch(A), None, seeded()).code.round().mean(0)
    expected = torch.sigmoid(A[0])
    assert torch.allclose(rate, expected, atol=4 * 0.5 / math.sqrt(len(A)))


def test_a_scale_of_zero_is_refused():
    with pytest.raises(InputError, match="NoisyBits: scale"):
        NoisyBits(scale=0.0)
