"""Measurements of the experiment on filter banks, compared with known values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments import conv_psd
from isthmus import Whitening

BANK = {"n_filters": 4, "filter_size": 3, "pool_size": 2, "windows": [20, 5]}


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return {part: generator.normal(size=(n, 10, 10)).astype(np.float32) for part, n in (("train", 30), ("test", 5))}


@pytest.fixture
def settings():
    return {"filters": "k-means", "n_patches": 50, "max_epochs": 1, "seed": 0, "alphas": [1.0, 1e4]}


@pytest.mark.parametrize("channels", [1, 3])
def test_kernels_respond_to_windows_as_given_ones_do_to_whitened_windows(channels):
    generator = np.random.default_rng(0)
    windows = generator.normal(size=(60, 3, 3, channels)).cumsum(1)
    whitening = Whitening(0.1).fit(windows)
    kernels = generator.normal(size=(2, 3, 3, channels))
    found = conv_psd.whitened_kernels(kernels, whitening.matrix_, 3)
    differences = np.diff(windows, axis=0)
    expected = np.einsum("nhwc,fhwc->nf", np.diff(whitening.transform(windows), axis=0), kernels)
    np.testing.assert_allclose(np.einsum("nhwc,fhwc->nf", differences, found), expected, rtol=1e-6, atol=1e-9)


def test_kernels_of_wider_windows_are_the_middle_of_the_product():
    generator = np.random.default_rng(0)
    kernels, matrix = generator.normal(size=(2, 3, 3, 1)), generator.normal(size=(25, 25))
    middle = np.arange(25).reshape(5, 5)[1:4, 1:4].ravel()
    found = conv_psd.whitened_kernels(kernels, matrix, 5)
    np.testing.assert_allclose(found.reshape(2, -1), kernels.reshape(2, -1) @ matrix[np.ix_(middle, middle)])


@pytest.mark.parametrize("source", conv_psd.FILTERS)
def test_arms_that_read_the_same_maps_have_the_same_filters(source, images, settings):
    stages = conv_psd._Stages({**settings, "filters": source}, images)
    second = {**BANK, "pool_size": 1, "windows": [20, 3]}
    found = stages.maps([BANK, second])
    signed = stages.maps([BANK, {**second, "rectification": None, "normalization": None}])
    absolute = stages.maps([BANK, {**second, "normalization": None}])
    assert len(stages.learned) == 2
    assert found["test"].shape == signed["test"].shape
    np.testing.assert_allclose(absolute["test"], np.abs(signed["test"]), rtol=1e-5, atol=1e-6)


def test_test_images_do_not_choose_the_penalty(images, settings):
    labels = {part: np.arange(len(rows)) % 2 for part, rows in images.items()}
    rows = {**images, "validation": images["train"][:20] + 1}
    data = conv_psd._Data(rows, {**labels, "validation": labels["train"][:20]})
    other = replace(data, labels={**data.labels, "test": 1 - data.labels["test"]})
    found, turned = (conv_psd._errors(rows, one, settings) for one in (data, other))
    assert found["error"] == pytest.approx(100 - turned["error"])
    assert {**found, "error": 0} == {**turned, "error": 0}
