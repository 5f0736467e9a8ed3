"""Activations with exact zeros against sorting and the papers' derivatives; gathered against dense products."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.parts.networks import MLP
from isthmus.parts.sparse_activations import BatchTopK, Gated, GatheredLinear, JumpReLU, TopK, with_gathered_weights


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wide(module: nn.Module) -> nn.Module:
    return module.double()


ACTIVATIONS = {
    "topk": lambda size: TopK(3, size),
    "batch-topk": lambda size: BatchTopK(3, size),
    "jumprelu": lambda size: JumpReLU(size, threshold=0.3, bandwidth=0.5),
    "gated": lambda size: Gated(size),
}
every_activation = pytest.mark.parametrize("build", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())


# Definitions


@pytest.mark.parametrize("k", [1, 4, 12])
def test_topk_selects_the_k_largest_positive_units_of_a_row(k):
    a = normals(7, 12)
    code = TopK(k, 12)(a).numpy()
    for row, expected_code in zip(a.numpy(), code, strict=True):
        units = np.argsort(row)[-k:]
        expected = np.zeros(12)
        expected[units] = np.maximum(row[units], 0)
        np.testing.assert_array_equal(expected_code, expected)


@pytest.mark.parametrize("k", [1, 4, 12])
def test_batch_topk_selects_the_largest_units_of_the_batch(k):
    a = normals(7, 12)
    code = wide(BatchTopK(k, 12))(a).numpy()
    value = np.maximum(a.numpy(), 0)
    smallest = np.sort(value.ravel())[-7 * k]
    np.testing.assert_array_equal(code, np.where(value >= smallest, value, 0))
    assert (code > 0).sum() == min(7 * k, (value > 0).sum())


def test_the_threshold_of_batch_topk_is_the_running_mean_of_the_smallest_selected():
    activation, threshold = wide(BatchTopK(2, 12)), None
    for seed in range(5):
        a = normals(7, 12, seed=seed)
        smallest = float(a.flatten().sort().values[-14])
        threshold = smallest if threshold is None else 0.99 * threshold + 0.01 * smallest
        activation(a)
    assert float(activation.threshold) == pytest.approx(threshold)
    a = normals(7, 12, seed=9)
    torch.testing.assert_close(activation.eval()(a), torch.where(a >= threshold, a, 0.0))


def test_batch_topk_selects_all_positive_units_if_they_are_too_few():
    activation = BatchTopK(2, 3)
    a = torch.tensor([[-1.0, 2.0, -3.0], [-1.0, -2.0, 0.5]])
    torch.testing.assert_close(activation(a), a.relu())
    assert float(activation.threshold) == 0.5


@every_activation
def test_in_eval_mode_the_code_of_a_row_does_not_depend_on_other_rows(build):
    activation, a = wide(build(12)), normals(9, 12)
    activation(a)
    activation.eval()
    before = copy.deepcopy(activation.state_dict())
    whole = activation(a)
    torch.testing.assert_close(torch.cat([activation(row[None]) for row in a]), whole, rtol=0, atol=0)
    assert all(torch.equal(before[name], value) for name, value in activation.state_dict().items())


@every_activation
def test_leading_axes_are_kept(build):
    activation, a = wide(build(12)), normals(2, 4, 9, 12)
    activation(a)
    activation.eval()
    torch.testing.assert_close(activation(a)[1, 2], activation(a[1, 2]))


@every_activation
def test_the_jacobian_is_diagonal(build):
    activation, a = wide(build(6)).eval(), normals(6)
    full = torch.autograd.functional.jacobian(lambda row: activation(row[None])[0], a)
    torch.testing.assert_close(full, full.diagonal().diag_embed())
    assert activation.elementwise


# Straight-through derivatives


@pytest.mark.parametrize("bandwidth", [0.2, 1.0])
def test_thresholds_have_the_papers_pseudo_derivatives(bandwidth):
    activation = wide(JumpReLU(12, threshold=0.4, bandwidth=bandwidth))
    theta = activation.log_threshold.exp().detach()
    a, upstream = normals(50, 12).requires_grad_(), normals(50, 12, seed=1)
    kernel = (((a.detach() - theta) / bandwidth).abs() < 0.5).double()
    (activation(a) * upstream).sum().backward()
    by_theta = (upstream * -(theta / bandwidth) * kernel).sum(0)
    torch.testing.assert_close(activation.log_threshold.grad, theta * by_theta)  # d theta / d log theta = theta
    torch.testing.assert_close(a.grad, upstream * (a.detach() > theta))
    a.grad = activation.log_threshold.grad = None
    (activation.gate(a) * upstream).sum().backward()
    torch.testing.assert_close(activation.log_threshold.grad, theta * (upstream * -kernel / bandwidth).sum(0))
    assert a.grad is None


def test_the_straight_through_derivative_of_the_expected_count_is_exact():
    # E[H(a - theta)] = 1 - Phi(theta) for a ~ N(0, 1), whose derivative is minus the density.
    activation = wide(JumpReLU(1, threshold=0.7, bandwidth=0.1))
    a = normals(400_000, 1)
    activation.gate(a).mean().backward()
    by_theta = float(activation.log_threshold.grad) / 0.7
    assert by_theta == pytest.approx(-np.exp(-(0.7**2) / 2) / np.sqrt(2 * np.pi), rel=0.02)


def test_gated_multiplies_a_gate_and_a_magnitude_of_shared_weights():
    activation = wide(Gated(5))
    with torch.no_grad():
        activation.log_scale.copy_(normals(5, seed=1))
        activation.bias.copy_(normals(5, seed=2))
    a = normals(30, 5)
    magnitude = np.maximum(
        np.exp(activation.log_scale.detach().numpy()) * a.numpy() + activation.bias.detach().numpy(), 0
    )
    np.testing.assert_allclose(activation(a).detach().numpy(), (a.numpy() > 0) * magnitude)


# The gathered map


def pair(*sizes: int) -> tuple[MLP, MLP]:
    dense = MLP(sizes, generator=torch.Generator().manual_seed(0)).double()
    return dense, with_gathered_weights(copy.deepcopy(dense), 3)


@pytest.mark.parametrize("sizes", [(40, 6), (40, 8, 6)])
@pytest.mark.parametrize("shape", [(9,), (2, 9)])
def test_the_gathered_map_and_its_gradients_equal_the_dense_ones(sizes, shape):
    results = []
    for decoder in pair(*sizes):
        a = normals(*shape, 40).requires_grad_()
        r = decoder(TopK(3, 40)(a))
        (r - 1.0).square().sum().backward()
        results.append([r, a.grad, *(p.grad for p in decoder.parameters())])
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(sparse, dense)


def test_rows_without_an_active_unit_return_the_bias():
    dense, sparse = pair(40, 6)
    code = torch.zeros(5, 40, dtype=torch.float64)
    code[2, 7] = 1.5
    torch.testing.assert_close(sparse(code), dense(code))
    torch.testing.assert_close(sparse(code * 0), dense(code * 0))


def test_the_gathered_decoder_has_the_dense_state_dict_and_contiguous_columns():
    dense, sparse = pair(40, 6)
    assert {k: v.shape for k, v in sparse.state_dict().items()} == {k: v.shape for k, v in dense.state_dict().items()}
    sparse.load_state_dict(dense.state_dict())
    weight = copy.deepcopy(sparse).affine_maps[0].weight
    assert isinstance(sparse.affine_maps[0], GatheredLinear)
    assert weight.t().is_contiguous()
    sparse(TopK(3, 40)(torch.ones(2, 40, dtype=torch.float64))).sum().backward()
    assert sparse.affine_maps[0].weight.grad.t().is_contiguous()


# Invalid arguments


@pytest.mark.parametrize("activation", [TopK, BatchTopK])
@pytest.mark.parametrize("k", [0, 13, 2.5, True])
def test_k_larger_than_the_code_raises(activation, k):
    with pytest.raises(InputError) as refused:
        activation(k, 12)
    assert str(refused.value) == (
        f"k={k!r} active units do not fit a code of 12 units; give k from 1 to 12, or a larger code"
    )


@pytest.mark.parametrize("name", ["threshold", "bandwidth"])
def test_a_threshold_that_is_not_positive_raises(name):
    with pytest.raises(InputError, match=f"JumpReLU: {name} 0.0 is not positive; give a number above 0"):
        JumpReLU(3, **{name: 0.0})
