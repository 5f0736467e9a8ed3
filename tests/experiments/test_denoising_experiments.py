"""What the experiments on denoising measure with, against what is known otherwise."""

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


def test_both_terms_of_little_noise_agree_with_whole_jacobians_and_hessians():
    r, x = curved(), torch.randn(4, 5, generator=seeded(), dtype=torch.float64)
    contraction, curvature = small_noise.contraction_and_curvature(r, x)
    for number, row in enumerate(x):
        J = torch.autograd.functional.jacobian(r, row)
        H = [torch.autograd.functional.hessian(lambda at, i=i: r(at)[i], row) for i in range(5)]
        laplacian = torch.stack([each.trace() for each in H])
        torch.testing.assert_close(contraction[number], J.square().sum())
        torch.testing.assert_close(curvature[number], ((r(row) - row) * laplacian).sum())


def test_what_little_noise_adds_to_a_quadratic_map_is_both_terms_exactly():
    # r = x^2: ||r(x + n) - x||^2 - ||r(x) - x||^2 has the mean s^2 (4 x^2 + 2 (x^2 - x)) + 3 s^4, column by column.
    x = torch.tensor([[0.5, -1.0], [2.0, 0.3]], dtype=torch.float64)
    over = small_noise.excess(torch.square, x, 0.1, 1000, seeded())
    expected = float((0.01 * (4 * x**2 + 2 * (x**2 - x)) + 3e-4).sum(1).mean())
    assert float(over.mean()) == pytest.approx(expected, abs=5 * float(over.std()) / math.sqrt(len(over)))


def test_draws_of_a_frame_are_at_right_angles_and_each_is_standard_normal():
    drawn = torch.stack(list(small_noise.frames(500, 2, 4, seeded())))
    inner = torch.einsum("fkrc,flrc->frkl", drawn, drawn)
    off = inner[:, :, ~torch.eye(4, dtype=torch.bool)]
    assert off.abs().max() < 1e-12
    for column in range(4):
        assert scipy.stats.kstest(drawn[:, 0, 0, column].numpy(), "norm").pvalue > 1e-3


def test_points_of_the_spiral_are_at_equal_distances():
    steps = denoise_score.spiral_density(0.01).means.diff(dim=0).norm(dim=1)
    assert float(steps.max() / steps.min()) < 1.2


def test_the_density_of_the_linear_experiment_has_the_variances_it_tells():
    density = denoise_score.gaussian_density(10, seeded())
    variances = torch.linalg.eigvalsh(density.covariances[0])
    torch.testing.assert_close(variances, torch.logspace(-1.3, 0.7, 10, dtype=torch.float64))


def test_fields_agree_by_direction_alone():
    a = np.random.default_rng(0).normal(size=(50, 2))
    np.testing.assert_allclose(fields.cosines(a, 3 * a), 1)
    np.testing.assert_allclose(fields.cosines(a, a[:, ::-1] * [1, -1]), 0, atol=1e-12)


def test_crossings_are_found_where_a_known_map_has_them():
    x = np.linspace(-2, 2, 4001)
    found = identity_crossing.downward_crossings(x, x + np.sin(np.pi * x))
    np.testing.assert_allclose(found, [-1.0, 1.0], atol=1e-6)


def test_slopes_are_those_of_a_known_map():
    x = np.linspace(-1, 1, 7)
    value, slope = identity_crossing.with_slope(lambda at: at**3, x)
    np.testing.assert_allclose(value, x**3)
    np.testing.assert_allclose(slope, 3 * x**2)


def test_a_stream_never_gives_a_digit_twice_and_the_same_seed_gives_the_same_stream():
    images = np.random.default_rng(0).uniform(size=(3, 8, 8)).astype(np.float32)
    first, again = (Stream(images, np.arange(3), 100, seeded()) for _ in range(2))
    index = torch.tensor([0, 3, 6])
    batch = first.batch(index)
    assert batch.label.tolist() == [0, 0, 0]
    assert len({tuple(row.tolist()) for row in batch.x}) == 3
    assert torch.equal(batch.x, again.batch(index).x)
    assert not torch.equal(batch.x, first.batch(index).x)


def test_deforming_keeps_the_range_and_moves_ink_by_little():
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


def test_errors_are_counted_before_a_row_is_learned_from():
    cell = online.EXPERIMENT.cells(True)[0]
    settings = {**cell.settings, "rows": 200, "unlabelled": 100, "edges": [0, 50, 200]}
    told = online._stream(settings, None)
    assert len(told["errors"]) == 2
    assert 0.7 < told["errors"][0] <= 1.0  # nothing has been learned yet: about nine of ten are wrong
