"""Measurements of the experiments on predicted codes and on explaining away, compared with known values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import softshrink

from experiments import explaining_away, patches, psd
from isthmus import L1, SparseCoding

WEIGHT = 0.3


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def model(rows):
    return SparseCoding(
        code_size=9, sparsity=L1(WEIGHT), max_epochs=3, scaling="none", validation_fraction=0.0, random_state=0
    ).fit(rows)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_patches_are_parts_of_the_images(channels):
    images = np.random.default_rng(0).normal(size=(2, 9, 8, *channels))
    every = patches.every_patch(images, 4, 2)
    for down, across in np.ndindex(every.shape[1:3]):
        part = images[:, 2 * down : 2 * down + 4, 2 * across : 2 * across + 4]
        channels_first = np.moveaxis(part, -1, 1) if channels else part
        np.testing.assert_allclose(every[:, down, across], channels_first.reshape(2, -1), rtol=1e-6)
    dense = patches.every_patch(images, 4, 1).reshape(-1, every.shape[-1])
    for patch in patches.random_patches(images, 4, 5, 0):
        assert (dense == patch).all(1).any()


def test_contrast_is_normalised_and_flat_patches_stay_small():
    rows = np.stack([np.linspace(0, 1, 16), np.full(16, 0.4), 0.4 + 1e-4 * np.linspace(-1, 1, 16)])
    normalised = patches.contrast_normalised(rows)
    np.testing.assert_allclose(normalised.mean(1), 0, atol=1e-12)
    assert normalised[0].std() == pytest.approx(1, abs=1e-2)
    assert np.abs(normalised[1:]).max() < 0.01


def test_whitening_is_symmetric_and_damps_small_components():
    rows = np.random.default_rng(0).normal(size=(20_000, 2)) * [2.0, 0.1]
    whitening = patches.Whitening.of(rows, offset=0.5)
    np.testing.assert_allclose(whitening.matrix, whitening.matrix.T, atol=1e-6)
    np.testing.assert_allclose(whitening(rows).var(0), [4 / 4.5, 0.01 / 0.51], rtol=0.05)


def test_predicted_codes_are_compared_with_the_optimum(model, rows):
    optimal = model.transform(rows)
    best = psd.compared(lambda x: torch.from_numpy(optimal), model.coder_, optimal, rows, WEIGHT)
    assert best["error"] == 0
    assert best["predicted_objective"] == best["optimal_objective"]
    nothing = psd.compared(lambda x: torch.zeros(optimal.shape), model.coder_, optimal, rows, WEIGHT)
    assert nothing["error"] == pytest.approx(1)
    assert nothing["predicted_objective"] == pytest.approx(
        np.square(rows - rows.mean(0)).sum() / 2 / len(rows), rel=1e-4
    )
    assert nothing["optimal_objective"] < nothing["predicted_objective"]
    residual = rows - model.inverse_transform(optimal)
    expected = np.square(residual).sum(1) / 2 + WEIGHT * np.abs(optimal).sum(1)
    assert best["optimal_objective"] == pytest.approx(expected.mean(), rel=1e-4)


def test_the_steps_of_fista_are_the_first_with_the_error_of_the_encoder(model, rows):
    def encode(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * torch.from_numpy(model.transform(x.numpy()))

    found = psd.speeds(encode, model.coder_, rows, WEIGHT)
    coder, x, steps = model.coder_, torch.from_numpy(rows), int(found["steps"])
    centred, atoms = x - coder.decode(torch.zeros(1, 9)), coder.inference.atoms.contiguous()
    problem = psd.SparseProblem.of(centred.detach(), atoms.detach(), WEIGHT)
    aim = float((x - coder.decode(encode(x))).square().sum())
    errors = [
        float((x - coder.decode(psd.fista(problem, n_steps=n, gap=None).code)).square().sum())
        for n in range(1, steps + 1)
    ]
    assert steps >= 1
    assert errors[-1] <= aim * (1 + 1e-6)
    assert all(error > aim for error in errors[:-1])


def test_the_second_stage_learns_codes_of_its_own_form():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(800, 5, generator=generator), torch.randn(7, 5, generator=generator)
    codes = softshrink(x @ weight.T, 0.5)
    encode = psd.regression(x, codes, epochs=40, threshold=0.5, batch_size=50, seed=0)
    assert float((encode(x) - codes).square().sum() / codes.square().sum()) < 0.01


def test_features_are_means_over_quadrants():
    maps = np.random.default_rng(0).normal(size=(3, 7, 7, 2))
    found = explaining_away.quadrants(maps)
    corners = [maps[:, :4, :4], maps[:, :4, 4:], maps[:, 4:, :4], maps[:, 4:, 4:]]
    np.testing.assert_allclose(found, np.concatenate([corner.mean((1, 2)) for corner in corners], 1))


def test_the_splits_of_the_images_are_disjoint():
    data = {**explaining_away.QUICK.data, "n_more": 50}
    train, validation, test = explaining_away._splits(data)
    images = [image.tobytes() for split in (train, validation, test) for image in split.images]
    assert len(train.images) == len(train.labels) == 300
    assert len(set(images)) == len(images)


def test_the_classifier_separates_classes_of_other_means():
    generator = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 40)
    features = generator.normal(size=(80, 3)) + 9 * (labels == "a")[:, None]
    assert explaining_away.accuracy(features[::2], labels[::2], features[1::2], labels[1::2]) == 1.0
