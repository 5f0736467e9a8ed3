"""The origin that encoder and decoder share, and the geometric median against scipy's optimiser."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import scipy.optimize
import torch

from isthmus.parts.centred_encoder import CentredMLP, geometric_median, initialize_dictionary
from isthmus.parts.constraints import dictionary_weight
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pair(likelihood: str = "gaussian", *hidden: int):
    decoder = MLP((7, *hidden, 4), generator=seeded())
    inner = MLP((4, *reversed(hidden), 7), generator=seeded())
    return inner, CentredMLP(inner, decoder, likelihood_from({"name": likelihood}, 4)), decoder


def test_the_geometric_median_minimises_the_sum_of_distances():
    x = torch.randn(60, 3, generator=seeded(), dtype=torch.float64)
    x[:10] += 50.0
    found = scipy.optimize.minimize(
        lambda m: np.linalg.norm(x.numpy() - m, axis=1).sum(), np.zeros(3), method="Nelder-Mead", tol=1e-10
    )
    np.testing.assert_allclose(geometric_median(x).numpy(), found.x, atol=1e-4)


@pytest.mark.parametrize("x", [torch.ones(5, 3), torch.eye(3)[:1], torch.tensor([[0.0], [0.0], [9.0]])])
def test_the_median_of_coinciding_rows_is_finite(x):
    torch.testing.assert_close(geometric_median(x), x[0])


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_a_row_at_the_origin_is_encoded_as_zeros_for_any_bias(hidden):
    inner, encoder, decoder = pair("gaussian", *hidden)
    x = torch.rand(6, 4, generator=seeded())
    decoder.start_at(torch.tensor([3.0, -2.0, 0.5, 9.0]))
    torch.testing.assert_close(encoder(x + encoder.origin), inner(x))


def test_the_origin_is_in_data_units_for_a_decoder_of_logits():
    likelihood = likelihood_from({"name": "bernoulli"}, 4)
    _, encoder, decoder = pair("bernoulli")
    rate = torch.tensor([0.1, 0.5, 0.9, 0.3])
    decoder.start_at(likelihood.parameters_for(rate))
    torch.testing.assert_close(encoder.origin, rate)


def test_the_bias_gets_gradients_through_the_encoder_and_has_one_name():
    _, encoder, decoder = pair()
    encoder(torch.ones(3, 4)).sum().backward()
    assert decoder.affine_maps[0].bias.grad.abs().sum() > 0
    assert {name for name, _ in encoder.named_parameters()} == {"layers.0.weight", "layers.0.bias"}
    both = copy.deepcopy(torch.nn.ModuleList([encoder, decoder]))
    both[1].start_at(torch.full((4,), 5.0))
    torch.testing.assert_close(both[0].origin, torch.full((4,), 5.0))
    assert not torch.equal(encoder.origin, both[0].origin)


def test_the_encoder_starts_as_the_transposed_dictionary():
    encoder, _, decoder = pair()
    initialize_dictionary(encoder, decoder)
    columns = decoder.affine_maps[0].weight
    torch.testing.assert_close(columns.norm(dim=0), torch.ones(7))
    torch.testing.assert_close(encoder.affine_maps[0].weight, columns.t())


def test_a_decoder_of_two_layers_is_not_changed():
    encoder, _, decoder = pair("gaussian", 5)
    before = copy.deepcopy(decoder.state_dict())
    initialize_dictionary(encoder, decoder)
    assert all(torch.equal(before[name], value) for name, value in decoder.state_dict().items())


@pytest.mark.parametrize(
    ("n_columns", "code_size", "n_active"), [(2, 64, None), (3, 200, 8), (2, 64, 8), (64, 80, None)]
)
def test_first_reconstructions_are_not_much_larger_than_the_rows(n_columns, code_size, n_active):
    generator = torch.Generator().manual_seed(1)
    encoder, decoder = (
        MLP((n_columns, code_size), generator=generator), MLP((code_size, n_columns), generator=generator)
    )  # fmt: skip
    initialize_dictionary(encoder, decoder, n_active)
    atoms = dictionary_weight(decoder).detach()
    weight = encoder.affine_maps[0].weight.detach()
    x = torch.randn(500, n_columns, generator=generator)
    code = (x @ weight.T).relu()
    if n_active is not None:
        code = code * (code >= code.topk(n_active, dim=1).values[:, -1:])
    gain = float((x * (code @ atoms.T)).sum() / x.square().sum())
    assert 0.4 < gain < 2.1
    if code_size > 10 * n_columns:
        assert gain == pytest.approx(1, abs=0.15)
    else:
        torch.testing.assert_close(weight, atoms.T)
