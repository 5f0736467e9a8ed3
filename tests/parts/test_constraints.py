"""Unit columns: projection, projected gradient, and decoders without columns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from isthmus.errors import InputError
from isthmus.parts.constraints import UnitColumns, dictionary_weight
from isthmus.parts.networks import MLP, TiedMLP
from isthmus.parts.sparse_activations import TopK, with_gathered_weights


def coder(*sizes: int, gather: bool = False) -> SimpleNamespace:
    decoder = MLP(sizes, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(decoder=with_gathered_weights(decoder, sizes[0]) if gather else decoder)


@pytest.mark.parametrize("gather", [False, True])
def test_columns_are_projected_onto_the_sphere_in_their_own_direction(gather):
    model = coder(6, 4, gather=gather)
    weight = dictionary_weight(model.decoder)
    before = weight.detach().clone()
    UnitColumns().project(model)
    torch.testing.assert_close(weight.norm(dim=0), torch.ones(6))
    torch.testing.assert_close(torch.cosine_similarity(weight, before, dim=0), torch.ones(6))


def test_projection_is_idempotent_and_keeps_a_column_of_zeros():
    model = coder(6, 4)
    weight = dictionary_weight(model.decoder)
    with torch.no_grad():
        weight[:, 2] = 0.0
    UnitColumns().project(model)
    once = weight.detach().clone()
    UnitColumns().project(model)
    torch.testing.assert_close(weight.detach(), once)
    assert weight[:, 2].abs().sum() == 0


@pytest.mark.parametrize("gather", [False, True])
def test_the_projected_gradient_is_that_of_the_loss_by_the_column_directions(gather):
    model = coder(6, 4, gather=gather)
    weight = dictionary_weight(model.decoder)
    UnitColumns().project(model)
    h, x = TopK(3, 6)(torch.rand(5, 6, generator=torch.Generator().manual_seed(1))), torch.ones(5, 4)
    (model.decoder(h) - x).square().sum().backward()
    UnitColumns().project_gradient(model)
    free = weight.detach().clone().requires_grad_()
    r = h @ (free / free.norm(dim=0)).t() + model.decoder.affine_maps[0].bias.detach()
    (r - x).square().sum().backward()
    torch.testing.assert_close(weight.grad, free.grad)
    UnitColumns().project_gradient(model)
    torch.testing.assert_close(weight.grad, free.grad)


@pytest.mark.parametrize(
    ("decoder", "found"),
    [
        (coder(6, 5, 4).decoder, "network of 2 affine maps"),
        (TiedMLP(MLP((4, 6), generator=torch.Generator().manual_seed(0))), "TiedMLP"),
    ],
)
def test_a_decoder_without_a_dictionary_raises(decoder, found):
    with pytest.raises(InputError, match=f"unit columns need a linear decoder; found: {found}; take one layer"):
        UnitColumns().check(SimpleNamespace(decoder=decoder))
