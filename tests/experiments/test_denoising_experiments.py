"""Measurements of the experiments on denoising, compared with known values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from experiments import denoise_score, fields, identity_crossing, online, small_noise
from experiments.deforming import Stream, deformed


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def curved(columns: int = 5) -> nn.Module:
    layers = [nn.Linear(columns, 7), nn.Tanh(), nn.Linear(7, columns), nn.Sigmoid()]
    net = nn.Sequential(*layers).double().requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=seeded(parameter.numel()), dtype=torch.float64))
    return net


def test_both_terms_agree_with_full_jacobians_and_hessians():
    r, x = curved(), torch.randn(4, 5, generator=seeded(), dtype=torch.float64)
    contraction, curvature = small_noise.contraction_and_curvature(r, x)
    for number, row in enumerate(x):
        J = torch.autograd.functional.jacobian(r, row)
        H = [torch.autograd.functional.hessian(lambda at, i=i: r(at)[i], row) for i in range(5)]
        laplacian = torch.stack([each.trace() for each in H])
        torch.testing.assert_close(contraction[number], J.square().sum())
        torch.testing.assert_close(curvature[number], ((r(row) - row) * laplacian).sum())


def test_the_excess_error_of_a_quadratic_map_is_the_sum_of_both_terms():
    # r = x^2: ||r(x + n) - x||^2 - ||r(x) - x||^2 has the mean s^2 (4 x^2 + 2 (x^2 - x)) + 3 s^4, column by column.
    x = torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=torch.float64)
    over = small_noise.excess(torch.square, x, 0.1, 1000, seeded())
    expected = float((0.01 * (4 * x**2 + 2 * (x**2 - x)) + 3e-4).sum(1).mean())
    assert float(over.mean()) == pytest.approx(expected, abs=5 * float(over.std()) / math.sqrt(len(over)))


def test_vectors_of_a_frame_are_orthogonal_and_standard_normal():
    drawn = torch.stack(list(small_noise.frames(500, 2, 4, seeded())))
    inner = torch.einsum("fkrc,flrc->frkl", drawn, drawn)
    off = inner[:, :, ~torch.eye(4, dtype=torch.bool)]
    assert off.abs().max() < 1e-12
    for column in range(4):
        assert scipy.stats.kstest(drawn[:, 0, 0, column].numpy(), "norm").pvalue > 1e-3


def test_points_of_the_spiral_are_at_equal_distances():
    steps = denoise_score.spiral_density(0.01).means.diff(dim=0).norm(dim=1)
    assert float(steps.max() / steps.min()) < 1.2


def test_the_density_of_the_linear_experiment_has_its_variances():
    density = denoise_score.gaussian_density(10, seeded())
    variances = torch.linalg.eigvalsh(density.covariances[0])
    torch.testing.assert_close(variances, torch.logspace(-1.3, 0.7, 10, dtype=torch.float64))


def test_fields_agree_by_direction_alone():
    a = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_allclose(fields.cosines(a, 3 * a), 1)
    np.testing.assert_allclose(fields.cosines(a, a[:, ::-1] * [1, -1]), 0, atol=1e-12)


def test_the_crossings_of_a_known_map_are_found():
    x = np.linspace(-2, 2, 4001)
    found = identity_crossing.downward_crossings(x, x + np.sin(np.pi * x))
    np.testing.assert_allclose(found, [-1.0, 1.0], atol=1e-6)


def test_the_slope_of_a_known_map_is_right():
    x = np.linspace(-1, 1, 7)
    value, slope = identity_crossing.with_slope(lambda at: at**3, x)
    np.testing.assert_allclose(value, x**3)
    np.testing.assert_allclose(slope, 3 * x**2)


def test_a_stream_has_no_row_twice_and_depends_on_its_seed_only():
    images = np.random.default_rng(0).uniform(size=(3, 8, 8)).astype(np.float32)
    first, again = (Stream(images, np.arange(3), 100, seeded()) for _ in range(2))
    index = torch.tensor([0, 3, 6])
    batch = first.batch(index)
    assert batch.label.tolist() == [0, 0, 0]
    assert len({tuple(row.tolist()) for row in batch.x}) == 3
    assert torch.equal(batch.x, again.batch(index).x)
    assert not torch.equal(batch.x, first.batch(index).x)


def test_a_deformation_keeps_the_range_and_moves_the_digit_little():
    images = torch.zeros(200, 28, 28)
    images[:, 12:16, 12:16] = 1.0
    moved = deformed(images, seeded())
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6
    ink = moved.sum((1, 2))
    assert 0.7 < float(ink.mean()) / 16 < 1.3
    rows = torch.arange(28.0)
    height = (moved.sum(2) @ rows) / ink
    assert float((height - 13.5).abs().max()) < 5


def test_errors_are_counted_before_the_update():
    cell = online.EXPERIMENT.cells(online.QUICK)[0]
    settings = {**cell.settings, "rows": 200, "unlabelled": 100, "edges": [0, 50, 200]}
    errors = online._stream(settings, None)["errors"]
    assert len(errors) == 2
    assert 0.7 < errors[0] <= 1.0  # an untrained classifier is wrong on about nine of ten
