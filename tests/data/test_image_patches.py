"""Patches of images and local contrast normalisation."""

import numpy as np
import pytest
from sklearn.feature_extraction.image import extract_patches_2d

import isthmus
from isthmus import InputError
from isthmus.data import local_contrast, patches


@pytest.mark.parametrize("shape", [(5, 8, 7), (5, 8, 7, 3)])
def test_patches_are_among_all_patches_of_scikit_learn(shape):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    every = np.concatenate([extract_patches_2d(image, (3, 4)) for image in images])
    found = patches(images, (3, 4), n=200, random_state=0)
    assert found.shape == (200, 3, 4, *shape[3:])
    assert found.dtype == np.uint8
    known = {patch.tobytes() for patch in every}
    assert all(patch.tobytes() in known for patch in found)


def test_places_and_images_are_equally_frequent():
    images = np.arange(2 * 4 * 4).reshape(2, 4, 4)
    corners = patches(images, 2, n=18_000, random_state=0)[:, 0, 0]
    counts = np.unique(corners, return_counts=True)[1]
    assert len(counts) == 18
    assert (abs(counts - 1000) < 150).all()


def test_equal_seeds_give_equal_patches_in_random_order():
    images = np.random.default_rng(0).random((30, 9, 9))
    first, second = (patches(images, 4, n=50, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (patches(images, 4, n=50, random_state=4) != first).any()
    numbered = np.broadcast_to(np.arange(30)[:, None, None], (30, 9, 9))
    assert (np.diff(patches(numbered, 4, n=50, random_state=0)[:, 0, 0]) < 0).any()


def test_patches_are_read_from_memory_mapped_files(tmp_path):
    images = np.random.default_rng(0).random((6, 9, 9))
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(patches(mapped, 4, 20, random_state=0), patches(images, 4, 20, random_state=0))


def test_data_sets_are_images():
    assert patches(isthmus.data.open("digits"), 3, n=4, random_state=0).shape == (4, 3, 3)


@pytest.mark.parametrize(
    ("images", "options", "text"),
    [
        (np.ones((4, 9)), {"size": 3}, r"\(n, height, width\) or .*; found shape \(4, 9\)"),
        (np.ones((0, 9, 9)), {"size": 3}, r"found shape \(0, 9, 9\)"),
        (np.full((2, 9, 9), "a"), {"size": 3}, "arrays of numbers"),
        (np.ones((2, 9, 5)), {"size": 6}, "6 x 6 pixels do not fit into images of 9 x 5"),
        (np.ones((2, 9, 9)), {"size": 0}, "size=0: give the side"),
        (np.ones((2, 9, 9)), {"size": (3, 3, 3)}, "give the side"),
        (np.ones((2, 9, 9)), {"size": 3, "n": 0}, "n=0: the number of patches"),
    ],
)
def test_bad_input_of_patches(images, options, text):
    with pytest.raises(InputError, match=text):
        patches(images, **options)


def test_local_contrast_has_no_mean_and_a_deviation_of_at_most_about_one():
    images = np.random.default_rng(0).random((4, 32, 32, 3)) * np.array([1, 10, 100, 1000])[:, None, None, None]
    y = local_contrast(images)
    assert y.shape == images.shape
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.mean((1, 2, 3)), 0, atol=0.02)
    assert ((y.std((1, 2, 3)) > 0.8) & (y.std((1, 2, 3)) < 1.1)).all()


def test_local_contrast_of_an_image_does_not_depend_on_the_others():
    images = np.random.default_rng(0).random((5, 20, 20)).astype(np.float32)
    np.testing.assert_allclose(local_contrast(images[2:3])[0], local_contrast(images)[2], atol=1e-6)


def test_local_contrast_refuses_even_windows():
    with pytest.raises(InputError, match="size=4: the window needs an odd number"):
        local_contrast(np.ones((2, 9, 9)), 4)
