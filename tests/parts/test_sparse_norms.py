"""Norms of sparse codes: proximal operators, dual norms, derivatives, neighbourhoods, bad input."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from isthmus.errors import InputError
from isthmus.parts.sparse_norms import GroupNorm, L1Norm, TopographicNorm

N_UNITS = 12
PROXIMAL = pytest.mark.parametrize("norm", [L1Norm(), L1Norm(non_negative=True), GroupNorm(3), GroupNorm(12)])
NORMS = pytest.mark.parametrize("norm", [L1Norm(), GroupNorm(4), TopographicNorm((12,)), TopographicNorm((3, 4))])
MAPS = pytest.mark.parametrize("shape", [(12,), (3, 4), (4, 3)])


def codes(n: int = 50, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, N_UNITS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def feasible(norm, h: torch.Tensor) -> torch.Tensor:
    return h.clamp_min(0.0) if norm.non_negative else h


@PROXIMAL
def test_no_other_code_has_a_lower_proximal_objective(norm):
    v, by = codes() * torch.linspace(0.01, 1.0, 50, dtype=torch.float64)[:, None], 0.7
    best = norm.prox(v, by)

    def objective(h):
        return 0.5 * (h - v).square().sum(1) + by * norm.value(h)

    assert (feasible(norm, best) == best).all()
    assert (best == 0.0).any()
    for seed, scale in itertools.product(range(5), (1e-4, 1e-2, 1.0)):
        other = feasible(norm, best + scale * codes(seed=seed + 1))
        assert (objective(other) >= objective(best) - 1e-12).all()
    assert (objective(torch.zeros_like(v)) >= objective(best)).all()


@PROXIMAL
def test_by_the_decomposition_of_moreau_the_rest_is_a_projection_on_the_dual_ball(norm):
    v = codes()
    rest = v - norm.prox(v, 0.7)
    assert (norm.dual(rest) <= 0.7 * (1 + 1e-12)).all()
    torch.testing.assert_close((rest * norm.prox(v, 0.7)).sum(1), 0.7 * norm.value(norm.prox(v, 0.7)))


@PROXIMAL
def test_the_dual_norm_is_the_largest_product_with_a_code_of_norm_1(norm):
    g = codes()
    products = []
    for seed in range(20):
        h = feasible(norm, codes(seed=seed + 1))
        products.append((g * h).sum(1) / norm.value(h))
    assert (torch.stack(products).amax(0) <= norm.dual(g) * (1 + 1e-12)).all()
    largest = feasible(norm, g)
    if isinstance(norm, GroupNorm):
        groups = largest.unflatten(1, (-1, norm.size))
        groups = groups * (groups.norm(dim=2, keepdim=True) == groups.norm(dim=2, keepdim=True).amax(1, keepdim=True))
        largest = groups.flatten(1)
    else:
        largest = largest * (largest.abs() == largest.abs().amax(1, keepdim=True))
    torch.testing.assert_close((g * largest).sum(1) / norm.value(largest), norm.dual(g))


@PROXIMAL
def test_zero_codes_stay_zero(norm):
    zero = torch.zeros(2, N_UNITS)
    for by in (0.0, 1.0):
        assert torch.equal(norm.prox(zero, by), zero)
    assert norm.value(zero).tolist() == [0.0, 0.0]


@NORMS
def test_norms_take_draws_as_leading_axes(norm):
    h = codes(6)
    norm.check(N_UNITS)
    torch.testing.assert_close(norm.value(h.view(2, 3, -1)), norm.value(h).view(2, 3))


def neighbourhoods(shape: tuple[int, ...], radius: int) -> torch.Tensor:
    """Return the weights w_ij by loops over all pairs of units."""
    units = list(itertools.product(*map(range, shape)))
    weights = torch.zeros(len(units), len(units), dtype=torch.float64)
    for i, j in itertools.product(range(len(units)), repeat=2):
        steps = [min((a - b) % n, (b - a) % n) for a, b, n in zip(units[i], units[j], shape, strict=True)]
        if max(steps) <= radius:
            weights[i, j] = math.exp(-0.5 * sum(step**2 for step in steps) / ((radius + 1) / 2) ** 2)
    return weights / weights.sum(1, keepdim=True)


@MAPS
def test_the_topographic_norm_is_that_of_circular_gaussian_neighbourhoods(shape):
    h = codes()
    for epsilon in (1e-3, 0.5):
        norm = TopographicNorm(shape, 1, epsilon)
        squares = h.square() @ neighbourhoods(shape, 1).T
        torch.testing.assert_close(norm.value(h), (epsilon**2 + squares).sqrt().sum(1))
    wide, weights = TopographicNorm((12,), 3), neighbourhoods((12,), 3)
    torch.testing.assert_close(wide.energies(h).square() - wide.epsilon**2, h.square() @ weights.T)


@MAPS
def test_the_topographic_gradient_is_that_of_autograd(shape):
    norm, h = TopographicNorm(shape, 1, 0.1), codes().requires_grad_()
    norm.value(h).sum().backward()
    torch.testing.assert_close(norm.gradient(h.detach()), h.grad)
    assert torch.autograd.gradcheck(norm.value, codes(2).requires_grad_())


def test_the_topographic_norm_does_not_depend_on_the_position_on_the_torus():
    norm, h = TopographicNorm((3, 4), 1, 0.1), codes()
    moved = h.view(-1, 3, 4).roll((1, 2), (1, 2)).flatten(1)
    torch.testing.assert_close(norm.value(moved), norm.value(h))


def test_a_topographic_step_does_not_increase_its_objective_and_ends_at_the_minimum():
    norm, v, by = TopographicNorm((3, 4), 1, 1e-2), codes(), torch.tensor(0.7, dtype=torch.float64)

    def objective(h):
        return 0.5 * (h - v).square().sum(1) + by * norm.value(h)

    h = codes(seed=1)
    for _ in range(500):
        new = norm.shrink(v, by, h)
        assert (objective(new) <= objective(h) + 1e-12).all()
        h = new
    torch.testing.assert_close(h - v + by * norm.gradient(h), torch.zeros_like(h), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GroupNorm(0), "size=0: it must be a whole number of at least 1"),
        (lambda: GroupNorm(5).check(12), "groups of 5 units do not divide a code of 12 units"),
        (lambda: TopographicNorm((3, 3)).check(12), r"a map of shape \(3, 3\) has 9 units, and the code has 12"),
        (lambda: TopographicNorm((3, 3, 3)), r"shape=\(3, 3, 3\): give the units of a ring"),
        (lambda: TopographicNorm(()), r"shape=\(\): give the units of a ring"),
        (lambda: TopographicNorm((3, 0)), "size 0 at position 1"),
        (lambda: TopographicNorm((5, 4), 2), r"its window of 5 units is larger than the map \(5, 4\)"),
        (lambda: TopographicNorm((5, 4), 0), "radius=0: it must be a whole number of at least 1"),
        (lambda: TopographicNorm((5, 4), 1, 0.0), "epsilon=0.0: it must be a finite number above 0"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
