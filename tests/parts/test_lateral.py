"""Lateral competition: its fixed point is the sparse code, similar atoms compete, and bad input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.parts.constraints import dictionary_weight
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.lateral import LateralCompetition
from isthmus.parts.networks import MLP
from isthmus.parts.optimised_inference import Correlations
from isthmus.parts.sparse_inference import SparseProblem, fista

N_COLUMNS, CODE_SIZE, ALPHA = 6, 8, 0.3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_decoder(*, unit_atoms: bool = True) -> MLP:
    decoder = MLP((CODE_SIZE, N_COLUMNS), generator=seeded()).double()
    weight = dictionary_weight(decoder)
    weight.data /= weight.data.norm(dim=0) if unit_atoms else 1.0
    decoder.start_at(torch.linspace(-1, 1, N_COLUMNS, dtype=torch.float64))
    return decoder


def rows(n: int = 12) -> torch.Tensor:
    return 2.0 * torch.randn(n, N_COLUMNS, generator=seeded(1), dtype=torch.float64)


@pytest.mark.parametrize("unit_atoms", [True, False])
@pytest.mark.parametrize("non_negative", [False, True])
def test_the_fixed_point_of_correlations_and_soft_thresholding_is_the_sparse_code(non_negative, unit_atoms):
    decoder = linear_decoder(unit_atoms=unit_atoms)
    threshold = nn.Softshrink(ALPHA)
    activation = nn.Sequential(threshold, nn.ReLU()) if non_negative else threshold
    encoder = Correlations(decoder)
    inference = LateralCompetition(encoder, activation, n_steps=3000)
    centred = encoder.centred(rows())
    problem = SparseProblem.of(centred, encoder.dictionary, ALPHA, non_negative=non_negative)
    expected = fista(problem, gap=1e-10, n_steps=10_000).code
    found = inference(Batch(rows()), decoder).code
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0.0)
    assert ((found == 0.0) == (expected == 0.0)).all()


def test_with_orthonormal_atoms_there_is_no_competition():
    decoder = MLP((4, 6), generator=seeded()).double()
    weight = dictionary_weight(decoder)
    weight.data = torch.linalg.qr(weight.data).Q
    encoder = MLP((6, 4), generator=seeded(2)).double()
    inference = LateralCompetition(encoder, "relu", n_steps=20)
    expected = EncoderMap(encoder, "relu")(Batch(rows()), decoder)
    torch.testing.assert_close(inference(Batch(rows()), decoder).code, expected.code)


def test_of_two_similar_atoms_the_one_with_more_input_remains():
    decoder = MLP((2, 2), generator=seeded()).double()
    dictionary_weight(decoder).data.copy_(torch.tensor([[1.0, 0.9], [0.0, 0.19**0.5]]))
    inference = LateralCompetition(nn.Identity(), "relu", n_steps=300)
    code = inference(Batch(torch.tensor([[1.0, 0.8], [0.7, 1.0]], dtype=torch.float64)), decoder).code
    assert (code > 0.0).tolist() == [[True, False], [False, True]]


def test_more_steps_change_the_code_less():
    decoder = linear_decoder()
    codes = [
        LateralCompetition(Correlations(decoder), nn.Softshrink(ALPHA), n_steps=n)(Batch(rows()), decoder).code
        for n in (10, 11, 200, 201)
    ]
    assert (codes[3] - codes[2]).norm() < 0.1 * (codes[1] - codes[0]).norm()


def test_codes_have_full_precision_under_autocast():
    decoder = linear_decoder().float()
    inference = LateralCompetition(nn.Identity(), "sigmoid", n_steps=5)
    x = torch.randn(3, CODE_SIZE, generator=seeded(4))
    expected = inference(Batch(x), decoder).code
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(inference(Batch(x), decoder).code, expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LateralCompetition(nn.Identity(), n_steps=0), "n_steps=0: it must be a whole number of at least 1"),
        (lambda: LateralCompetition(nn.Identity(), "rleu"), "did you mean 'relu'"),
        (
            lambda: LateralCompetition(nn.Identity())(Batch(rows()), MLP((6, 3, 6), generator=seeded())),
            "lateral competition needs a linear decoder; found: network of 2 affine maps",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
