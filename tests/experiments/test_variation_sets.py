"""The regenerated variation sets: images, seeds, and disjoint parts."""

import math

import numpy as np
import pytest
from scipy import ndimage
from sklearn.svm import SVC

from experiments import variation_pictures as pictures
from experiments import variation_sets as sets
from experiments import variation_svm as svm
from isthmus.errors import InputError

SIZES = {"train": 40, "validation": 10, "test": 30}
SAMPLE = "mnist-sample:all"


def made(name, seed=0, sizes=SIZES):
    return sets.generate(name, sizes, source=SAMPLE, seed=seed)


def images(data):
    return np.concatenate([getattr(data, part).images for part in sets.PARTS])


@pytest.mark.parametrize("name", sets.SETS)
def test_a_set_has_the_requested_sizes_in_bytes(name):
    data = made(name)
    for part, n in SIZES.items():
        found = getattr(data, part)
        assert found.images.shape == (n, 28, 28)
        assert found.images.dtype == np.uint8
        assert found.labels.shape == (n,)
        assert found.rows.shape == (n, 784)
        assert found.rows.min() >= 0
        assert found.rows.max() <= 1
    assert set(images(made(name)).ravel()) <= set(range(256))
    assert set(data.train.labels) <= (set(range(2)) if name.startswith("rect") else set(range(10)))


@pytest.mark.parametrize("name", sets.SETS)
def test_a_seed_gives_the_same_bytes_and_another_seed_others(name):
    np.testing.assert_array_equal(images(made(name)), images(made(name)))
    assert (images(made(name)) != images(made(name, seed=1))).any()


@pytest.mark.parametrize("name", ["rot", "bg-img", "rect"])
def test_a_part_does_not_depend_on_the_size_of_a_later_one(name):
    larger = made(name, sizes={**SIZES, "test": 50})
    np.testing.assert_array_equal(made(name).train.images, larger.train.images)
    np.testing.assert_array_equal(made(name).validation.images, larger.validation.images)


def test_no_digit_is_in_two_parts_and_every_set_has_the_same_digits():
    digits = images(made("basic")).reshape(80, -1)
    assert len(np.unique(digits, axis=0)) == 80
    for name in ("rot", "bg-rand", "bg-img", "bg-img-rot"):
        np.testing.assert_array_equal(made(name).test.labels, made("basic").test.labels)


@pytest.mark.parametrize("name", ["bg-rand", "bg-img"])
def test_each_pixel_is_the_brighter_of_digit_and_background(name):
    digits, blended = images(made("basic")), images(made(name))
    assert (blended >= digits).all()
    np.testing.assert_array_equal(blended[digits == 255], 255)


def test_random_backgrounds_are_uniform_over_the_grey_levels():
    blended, digits = images(made("bg-rand")), images(made("basic"))
    counts = np.bincount(blended[digits == 0], minlength=256)
    expected = counts.sum() / 256
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 255 + 5 * math.sqrt(2 * 255)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_are_exact(quarters):
    digits = made("basic").train.images
    turned = sets.rotated(digits, np.full(len(digits), quarters * math.pi / 2))
    np.testing.assert_array_equal(turned, np.rot90(digits, quarters, axes=(1, 2)))


def test_a_rotation_agrees_with_scipys_bilinear_one():
    digits = made("basic").train.images[:8]
    angles = np.linspace(0.1, 6.0, 8)
    for digit, angle, turned in zip(digits, angles, sets.rotated(digits, angles), strict=True):
        expected = ndimage.rotate(digit.astype(float), np.degrees(angle), reshape=False, order=1)
        # Only at the frame, which scipy cuts off and torch fades out, may the two differ.
        assert np.abs(expected - turned)[1:-1, 1:-1].max() <= 0.5 + 1e-6


class Constant:
    """A replacement for windows that returns given images in turn."""

    def __init__(self, *given):
        self.given = list(given)

    def draw(self, n, generator):
        return np.tile(self.given.pop(0), (n, 1, 1))


def test_the_digit_is_rotated_and_its_background_is_not(monkeypatch):
    slope = np.tile(np.arange(28, dtype=np.uint8), (28, 1))
    monkeypatch.setattr(pictures, "windows", lambda part: Constant(slope))
    data = made("bg-img-rot").train
    assert (data.images >= slope).all()
    assert (data.images == slope).mean() > 0.6
    upright = made("bg-img").train
    assert (data.images != upright.images).any()


def test_training_and_test_windows_share_no_pixel():
    for picture in pictures.photographs().values():
        numbered = np.arange(picture.size).reshape(picture.shape)
        train, test = (set(pictures.region(numbered, part).ravel().tolist()) for part in pictures.REGIONS)
        assert not train & test
        assert train | test == set(range(picture.size))


def test_a_drawn_window_lies_in_its_region_and_varies_enough():
    for part in pictures.REGIONS:
        drawn = pictures.windows(part)
        for window in drawn.draw(20, np.random.default_rng(0)):
            assert window.std() >= pictures.LEAST_DEVIATION
            assert all(any(line.tobytes() in picture.tobytes() for picture in drawn.pictures) for line in window)


def test_deviations_are_those_of_each_window():
    picture = np.random.default_rng(0).integers(0, 256, (33, 40), np.uint8)
    views = np.lib.stride_tricks.sliding_window_view(picture, (28, 28))
    np.testing.assert_allclose(pictures.deviations(picture), views.std(axis=(2, 3)), atol=1e-9)
    assert pictures.deviations(np.full((30, 30), 201, np.uint8)).max() == 0


def outline(image):
    """Top, left, height and width of the white frame in an image."""
    rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
    return rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def test_rectangles_are_hollow_white_and_clearly_tall_or_wide():
    data = made("rect", sizes={"train": 300, "validation": 10, "test": 10}).train
    for image, label in zip(data.images, data.labels, strict=True):
        top, left, height, width = outline(image)
        expected = np.zeros((28, 28), np.uint8)
        expected[top : top + height, left : left + width] = 255
        expected[top + 1 : top + height - 1, left + 1 : left + width - 1] = 0
        np.testing.assert_array_equal(image, expected)
        assert abs(height - width) >= 3
        assert label == (height > width)
    assert 0.4 < data.labels.mean() < 0.6


def test_pasted_rectangles_have_long_sides_that_differ(monkeypatch):
    inside, outside = np.full((28, 28), 255, np.uint8), np.zeros((28, 28), np.uint8)
    monkeypatch.setattr(pictures, "windows", lambda part: Constant(inside, outside))
    data = made("rect-img").train
    for image, label in zip(data.images, data.labels, strict=True):
        _, _, height, width = outline(image)
        assert image.sum() == 255 * height * width
        assert min(height, width) >= 10
        assert abs(height - width) >= 5
        assert label == (height > width)


def test_a_stored_set_is_read_and_a_damaged_one_generated_again(tmp_path, monkeypatch):
    def read():
        return sets.stored("bg-img", SIZES, folder=tmp_path / "sets", source=SAMPLE)

    first = read()
    (path,) = (tmp_path / "sets").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(sets, "generate", None)
        np.testing.assert_array_equal(images(read()), images(first))
        np.testing.assert_array_equal(read().test.labels, first.test.labels)
    path.write_bytes(b"not a file of numpy")
    np.testing.assert_array_equal(images(read()), images(first))


def test_unknown_and_too_large_sets_are_refused():
    with pytest.raises(InputError, match="there is no variation set 'bg'; there are: basic, rot, bg-rand"):
        made("bg")
    with pytest.raises(InputError, match="the set needs 7,000 digits, but mnist-sample:all has 6,000"):
        made("basic", sizes={"train": 6000, "validation": 500, "test": 500})


def test_the_anchor_agrees_with_scikit_learns_own_kernel():
    data = made("basic", sizes={"train": 200, "validation": 50, "test": 100})
    result = svm.svm_error(data, costs=[1.0, 10.0], widths=[1.0, 3.0])
    own = SVC(C=result["chosen"]["C"], gamma=result["chosen"]["gamma"]).fit(data.train.rows, data.train.labels)
    assert result["error"] == pytest.approx(100 * (1 - own.score(data.test.rows, data.test.labels)), abs=1.01)
    assert result["validation_error"] == min(trial["validation_error"] for trial in result["trials"])
    assert len(result["trials"]) == 4
