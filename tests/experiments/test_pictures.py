"""The parts of the experiments on faces and on colours, apart from their fits."""

import numpy as np
import pytest

from experiments import colorization
from experiments.drawing import image_lines
from experiments.smile import Faces, balanced_within
from experiments.smile_labels import NOT_SMILING, SMILING

N_FACES = 400


def test_no_face_has_both_labels_and_each_is_a_face_of_the_set():
    assert len(set(SMILING)) == len(SMILING) >= 60
    assert len(set(NOT_SMILING)) == len(NOT_SMILING) >= 60
    assert not set(SMILING) & set(NOT_SMILING)
    assert set(SMILING) | set(NOT_SMILING) <= set(range(N_FACES))


@pytest.mark.parametrize("seed", range(5))
def test_balanced_rows_hold_each_person_equally_often_with_and_without(seed):
    generator = np.random.default_rng(seed)
    persons, smiles = generator.integers(0, 6, 60), generator.integers(-1, 2, 60)
    rows = balanced_within(persons, smiles)
    assert len(set(rows.tolist())) == len(rows)
    counts = np.array([[np.sum((persons == one) & (smiles == state)) for state in (0, 1)] for one in range(6)])
    chosen = np.array(
        [[np.sum((persons[rows] == one) & (smiles[rows] == state)) for state in (0, 1)] for one in range(6)]
    )
    np.testing.assert_array_equal(chosen, np.repeat(counts.min(1)[:, None], 2, 1))
    assert chosen.sum() == len(rows)


def test_a_shift_of_persons_does_not_change_a_balanced_mean_difference():
    generator = np.random.default_rng(0)
    persons, smiles = generator.integers(0, 6, 80), generator.integers(0, 2, 80)
    codes, looks = generator.normal(size=(80, 3)), 10 * generator.normal(size=(6, 3))
    rows = balanced_within(persons, smiles)

    def difference(h):
        return h[rows][smiles[rows] == 1].mean(0) - h[rows][smiles[rows] == 0].mean(0)

    np.testing.assert_allclose(difference(codes + looks[persons]), difference(codes), atol=1e-12)


def test_mirror_images_keep_persons_and_labels():
    X = np.arange(12.0).reshape(2, 2, 3)
    both = Faces(X, np.array([3, 4]), np.array([1, -1])).with_mirror_images()
    np.testing.assert_array_equal(both.X[2:, :, ::-1], X)
    assert both.persons.tolist() == [3, 4, 3, 4]
    assert both.smiles.tolist() == [1, -1, 1, -1]


@pytest.fixture
def pictures():
    return np.random.default_rng(0).uniform(size=(2, 7, 4, 5, 3))


def test_the_error_of_a_pixel_is_the_sum_of_its_parts(pictures):
    found = colorization.errors(*pictures)
    assert found["all"] == pytest.approx(np.square(pictures[0] - pictures[1]).sum(-1).mean())
    assert found["all"] == pytest.approx(found["grey"] + found["colour"])


def test_the_grey_of_the_input_removes_the_error_of_the_grey_value_alone(pictures):
    decoded, truth = pictures
    mended = colorization.errors(colorization.with_grey(decoded, colorization.grey_of(truth)), truth)
    assert mended["grey"] == pytest.approx(0, abs=1e-20)
    assert mended["all"] == pytest.approx(colorization.errors(decoded, truth)["colour"])


def test_the_table_has_the_smallest_error_of_all_functions_of_the_grey_level():
    generator = np.random.default_rng(0)
    truth = generator.uniform(size=(3, 8, 8, 3))
    grey, table = colorization.grey_of(truth), colorization.colour_table(truth, levels=4)
    level = np.minimum((grey * 4).astype(int), 3)

    def error(colours):
        return colorization.errors(colorization.repeated(grey) + colours[level], truth)["all"]

    for _ in range(10):
        other = table + 0.1 * generator.normal(size=table.shape)
        assert error(table) < error(other)
    np.testing.assert_allclose(table.sum(1), 0, atol=1e-12)


def test_coloured_digits_have_one_grey_for_each_class_of_colours():
    train, test = colorization.IMAGES["coloured-digits"]()
    assert train.shape[1:] == test.shape[1:] == (8, 8, 3)
    assert train.min() >= 0
    assert train.max() <= 1
    inked = train.max((1, 2))
    np.testing.assert_allclose(inked.mean(-1), inked.mean(-1).round(5), atol=1e-5)


def test_lines_of_colour_images_have_heads():
    figure = image_lines({"a": np.zeros((2, 12))}, (2, 2, 3), title="colours", heads=["first", "second"])
    assert [ax.get_title() for ax in figure.axes] == ["first", "second"]
    assert figure.axes[0].images[0].get_array().shape == (2, 2, 3)
