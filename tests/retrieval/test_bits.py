"""ITQ, hyperplanes and packed bits: closed forms, monotone objectives and exhaustive searches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import isthmus
from isthmus.errors import InputError
from isthmus.retrieval.bits import CodeBits, hamming, hash_codes, packed, unpacked
from isthmus.retrieval.itq import ITQ, random_rotation

SEEDS = st.integers(0, 2**20)


def codes_of(seed, n=200, units=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, units)) @ rng.normal(size=(units, units)) + rng.normal(size=units)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, n_bits=st.integers(1, 6))
def test_the_rotation_is_orthogonal_and_no_step_raises_the_objective(seed, n_bits):
    itq = ITQ(n_bits, random_state=seed).fit(codes_of(seed))
    np.testing.assert_allclose(itq.rotation_ @ itq.rotation_.T, np.eye(n_bits), atol=1e-10)
    np.testing.assert_allclose(itq.components_.T @ itq.components_, np.eye(n_bits), atol=1e-10)
    assert (np.diff(itq.objective_) <= 1e-9 * itq.objective_[0]).all()


def test_the_objective_is_the_error_of_quantisation_that_its_definition_gives():
    codes, itq = codes_of(3), ITQ(4).fit(codes_of(3))
    projected = (codes - codes.mean(0)) @ itq.components_
    bits = 2.0 * itq.transform(codes) - 1
    error = np.mean(((bits - projected @ itq.rotation_) ** 2).sum(1))
    assert itq.objective_[-1] == pytest.approx(error)
    # the trace identity of the Procrustes problem: ||B - VR||^2 = n bits + ||V||^2 - 2 tr(B' V R)
    trace = len(codes) * 4 + (projected**2).sum() - 2 * np.trace(bits.T @ projected @ itq.rotation_)
    assert itq.objective_[-1] == pytest.approx(trace / len(codes))


def test_no_small_turn_of_the_rotation_lowers_the_objective():
    codes = codes_of(5, units=2)
    itq = ITQ(2).fit(codes)
    projected = (codes - codes.mean(0)) @ itq.components_ @ itq.rotation_
    for angle in (-0.05, -0.01, 0.01, 0.05):
        turned = projected @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        assert ((np.sign(turned) - turned) ** 2).sum() / len(codes) >= itq.objective_[-1]


def test_codes_that_are_a_turned_cube_get_the_bits_of_its_corners():
    bits = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T.astype(float)
    rotation = random_rotation(3, torch.Generator().manual_seed(1))
    codes = np.tile((2 * bits - 1) @ rotation, (5, 1))
    best = min((ITQ(3, random_state=seed).fit(codes) for seed in range(5)), key=lambda itq: itq.objective_[-1])
    assert best.objective_[-1] < 1e-12
    found = best.transform(codes[:8])
    expected, of_found = (hamming(packed(each)[:, None], packed(each)[None]) for each in (bits, found))
    np.testing.assert_array_equal(of_found, expected)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, n=st.integers(1, 9), n_bits=st.integers(1, 40))
def test_packing_is_inverted_and_hamming_counts_the_bits_that_differ(seed, n, n_bits):
    a, b = np.random.default_rng(seed).integers(0, 2, (2, n, n_bits)).astype(np.uint8)
    np.testing.assert_array_equal(unpacked(packed(a), n_bits), a)
    np.testing.assert_array_equal(hamming(packed(a), packed(b)), (a != b).sum(1))


def test_codes_of_one_unit_are_a_thermometer():
    codes = np.linspace(-1, 1, 101)[:, None]
    bits = CodeBits.learn(codes, 65)
    distances = hamming(bits.packed(codes)[:1], bits.packed(codes))
    assert distances[0] == 0
    assert distances[-1] == 65
    assert (np.diff(distances) >= 0).all()


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_the_bits_of_a_code_do_not_depend_on_other_codes(seed):
    codes = codes_of(seed).astype(np.float32)
    bits = CodeBits.learn(codes, 16)
    alone = np.concatenate([bits.bits(codes[i : i + 1]) for i in range(20)])
    np.testing.assert_array_equal(bits.bits(codes)[:20], alone)


def test_codes_that_are_bits_are_packed_as_they_are():
    codes = np.random.default_rng(0).integers(0, 2, (9, 12)).astype(np.uint8)
    bits = CodeBits.learn(codes)
    assert bits.n_bits == 12
    np.testing.assert_array_equal(bits.packed(codes), np.packbits(codes, axis=1))
    with pytest.raises(InputError, match="codes of this model are 12 bits; omit n_bits"):
        CodeBits.learn(codes, 16)


def test_hash_codes_gives_rows_the_bits_of_one_rotation():
    X = codes_of(0)
    model = isthmus.LinearAutoencoder(code_size=4, max_epochs=1, random_state=0).fit(X)
    everything, some = hash_codes(model, X, 4), hash_codes(model, X[:7], 4, training=X)
    assert everything.dtype == np.uint8
    assert set(np.unique(everything)) == {0, 1}
    np.testing.assert_array_equal(some, everything[:7])
    np.testing.assert_array_equal(everything, ITQ(4).fit(model.transform(X)).transform(model.transform(X)))
    assert hash_codes(model, X).shape == (200, 64)


@pytest.mark.parametrize(
    ("n_bits", "codes", "message"),
    [
        (0, np.ones((5, 2)), "n_bits=0: it must be at least 1"),
        (3, np.ones((5, 2)), "the codes have 2 units"),
        (2, np.ones((1, 2)), "at least two"),
        (2, np.array([[1.0, 2.0], [np.nan, 1.0]]), "nan at row 1, unit 0"),
    ],
)
def test_itq_refuses_what_it_cannot_learn(n_bits, codes, message):
    with pytest.raises(InputError, match=message):
        ITQ(n_bits).fit(codes)
