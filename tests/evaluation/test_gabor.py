"""Fits of Gabor functions: known functions with noise, atoms that are none, and other input."""

import math

import numpy as np
import pytest

from isthmus import InputError
from isthmus.evaluation import gabor as fits
from isthmus.evaluation.gabor import fit_gabor, gabor_fits, share_of_gabors


def gabor(shape=(12, 12), row=5.5, column=5.5, angle=0.0, across=1.5, along=2.5, frequency=0.2, phase=0.0):
    """The function of the docstring, written with complex numbers."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    turned = ((x - column) + 1j * (y - row)) * np.exp(-1j * angle)
    envelope = np.exp(-0.5 * ((turned.real / across) ** 2 + (turned.imag / along) ** 2))
    return envelope * np.cos(2 * np.pi * frequency * turned.real + phase)


def drawn(rng):
    """Parameters of a Gabor function inside a patch of 12 x 12 pixels."""
    return {
        "row": rng.uniform(3, 8), "column": rng.uniform(3, 8), "angle": rng.uniform(0, np.pi),
        "across": rng.uniform(1.2, 2.5), "along": rng.uniform(1.5, 3.5), "frequency": rng.uniform(0.1, 0.35),
        "phase": rng.uniform(-np.pi, np.pi),
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_gabor_functions_with_noise_are_found(seed):
    rng = np.random.default_rng(seed)
    atom = gabor(**drawn(rng))
    noisy = atom + rng.normal(0, 0.12 * atom.std(), atom.shape)
    found = fit_gabor(noisy)
    assert found.r2 > 0.95
    assert np.square(found.image - atom).sum() < 0.02 * np.square(atom).sum()


@pytest.mark.parametrize("seed", range(6))
def test_the_parameters_of_an_exact_function_give_the_function_back(seed):
    truth = drawn(np.random.default_rng(seed))
    found = fit_gabor(3 * gabor(**truth))
    assert found.r2 > 0.9999
    names = ("row", "column", "angle", "across", "along", "frequency", "phase")
    again = found.amplitude * gabor(**{name: getattr(found, name) for name in names})
    np.testing.assert_allclose(again, found.image, atol=1e-6)
    assert 0 <= found.angle < math.pi
    assert found.frequency == pytest.approx(truth["frequency"], abs=0.03)


def test_the_derivatives_are_those_of_differences():
    at = np.array([1.3, -0.7, 4.2, 5.1, 0.8, np.log(1.7), np.log(2.4), 0.2])
    found = fits._gabor_gradient(at, (9, 11))
    for number, step in enumerate(1e-5 * np.eye(8)):
        expected = (fits._gabor(at + step, (9, 11)) - fits._gabor(at - step, (9, 11))) / 2e-5
        np.testing.assert_allclose(found[number], expected, atol=1e-8)


def test_functions_with_several_cycles_are_identified():
    truth = {"row": 7.0, "column": 8.5, "angle": 1.0, "across": 3.0, "along": 2.0, "frequency": 0.25, "phase": 0.7}
    found = fit_gabor(gabor((16, 18), **truth))
    for name, value in truth.items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-2), name


def test_white_noise_is_no_gabor_function():
    noise = np.random.default_rng(0).normal(size=(20, 12, 12))
    assert max(fit.r2 for fit in gabor_fits(noise)) < 0.8
    assert share_of_gabors(noise) == 0


def test_chess_boards_of_two_frequencies_are_no_gabor_functions():
    y, x = np.mgrid[:12, :12]
    assert fit_gabor(np.cos(1.5 * x) * np.cos(1.5 * y)).r2 < 0.8


def test_the_fit_does_not_depend_on_sign_and_scale():
    atom = gabor(angle=0.6, phase=1.0) + 0.05 * np.random.default_rng(0).normal(size=(12, 12))
    first, second = fit_gabor(atom), fit_gabor(-1e-6 * atom)
    assert first.r2 == pytest.approx(second.r2, abs=1e-6)
    assert first.frequency == pytest.approx(second.frequency, abs=1e-4)


def test_a_pixel_is_fitted_by_an_envelope_of_less_than_a_pixel():
    point = np.zeros((12, 12))
    point[4, 6] = 1
    found = fit_gabor(point)
    assert found.r2 > 0.8
    assert max(found.across, found.along) < 1


def test_shares_count_atoms_above_the_bound():
    rng = np.random.default_rng(1)
    atoms = np.stack([gabor(**drawn(rng)), rng.normal(size=(12, 12)), gabor(**drawn(rng)), np.ones((12, 12))])
    assert share_of_gabors(atoms) == 0.5
    assert share_of_gabors(atoms.reshape(4, -1)) == 0.5
    assert share_of_gabors(atoms, least=-1) == 1


def test_atoms_of_one_value_have_no_fit():
    found = fit_gabor(np.full((8, 8), 3.0))
    assert found.r2 == found.amplitude == 0
    assert fit_gabor(np.zeros((8, 8))).r2 == 0


@pytest.mark.parametrize(
    ("atoms", "text"),
    [
        (np.ones((2, 8, 8, 3)), r"of one channel, .* found the shape \(2, 8, 8, 3\)"),
        (np.ones((2, 3, 8)), "at least 4 x 4 pixels"),
        (np.ones((2, 50)), r"found the shape \(2, 50\)"),
        (np.full((2, 8, 8), np.nan), "not finite"),
        (np.ones((0, 8, 8)), "found the shape"),
    ],
)
def test_bad_atoms(atoms, text):
    with pytest.raises(InputError, match=text):
        gabor_fits(atoms)


def test_bad_bounds():
    with pytest.raises(InputError, match="least=1: the bound of R"):
        share_of_gabors(np.eye(8)[None], least=1)
