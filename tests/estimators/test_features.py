"""Filters, dictionaries and the rows that drive a unit, asked of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import clone
from sklearn.datasets import load_digits

from isthmus import Autoencoder, Convolutional, ConvolutionalAutoencoder, InputError, LinearAutoencoder
from isthmus.evaluation.dictionaries import mean_max_cosine

from .kinds import KINDS, OPTIMISED

X = load_digits().data[:200]
IMAGES = load_digits().images[:120]

every_kind = pytest.mark.parametrize("name", KINDS)
FITTED: dict = {}


def fitted(name):
    if name not in FITTED:
        FITTED[name] = clone(KINDS[name]).set_params(max_epochs=1).fit(X)
    return FITTED[name]


@every_kind
def test_no_row_activates_a_unit_more_than_the_rows_that_are_named(name):
    model = fitted(name)
    codes = model.transform(X)
    for unit in range(model.code_size_):
        rows, values = model.max_activating(X, unit, n=7)
        np.testing.assert_array_equal(values, np.sort(codes[:, unit])[::-1][:7])
        np.testing.assert_array_equal(codes[rows, unit], values)
    assert len(model.max_activating(X, 0, n=999)[0]) == len(X)


@every_kind
def test_rates_and_dead_units_are_those_of_the_codes(name):
    model = fitted(name)
    codes = model.transform(X)
    np.testing.assert_allclose(model.activation_rates(X), (codes != 0).mean(0))
    found = model.activity(X)
    np.testing.assert_array_equal(found.dead, ~codes.any(0))
    assert found.zero_share == pytest.approx((codes == 0).mean(dtype=np.float64))


@every_kind
def test_a_dictionary_is_there_only_where_it_rebuilds_what_the_decoder_gives(name):
    model = fitted(name)
    h = torch.randn(30, model.code_size_, generator=torch.Generator().manual_seed(0))
    decoder = model.coder_.eval().decoder
    with torch.no_grad():
        expected = (decoder(h) - decoder(torch.zeros_like(h)))[:, : X.shape[1]]
    if hasattr(model, "dictionary"):
        atoms = model.dictionary()
        assert atoms.shape == (model.code_size_, X.shape[1])
        np.testing.assert_allclose(h.numpy() @ atoms, expected, rtol=1e-3, atol=1e-3)
        assert mean_max_cosine(atoms, atoms[::-1]) == pytest.approx(1, abs=1e-6)
    else:
        with pytest.raises(AttributeError, match="dictionary"):
            model.dictionary()
        ones = torch.eye(model.code_size_)
        with torch.no_grad():
            atoms = (decoder(ones) - decoder(torch.zeros_like(ones)))[:, : X.shape[1]]
        assert float((h @ atoms - expected).abs().max()) > 1e-3 * float(expected.abs().max())


@every_kind
def test_effects_are_what_the_decoder_gives_for_the_two_ends_of_a_unit(name):
    model = fitted(name)
    codes = model.transform(X)
    found = model.unit_effects(X, units=[1, 0])
    assert found.shape == (2, X.shape[1])
    high, low = codes.mean(0), codes.mean(0)
    high[1], low[1] = codes[:, 1].max(), codes[:, 1].min()
    scale = model.preprocessing_.scale
    expected = (model.inverse_transform(high[None]) - model.inverse_transform(low[None]))[0] / scale
    np.testing.assert_allclose(found[0], expected, rtol=1e-3, atol=1e-4)
    assert model.unit_effects(X).shape == (model.code_size_, X.shape[1])


def test_filters_of_a_one_layer_encoder_are_those_of_the_codes_units():
    model = fitted("linear")
    seen = next(iter(model.read(X)))
    x, a = seen.x.double().numpy(), seen.preactivation
    np.testing.assert_allclose(a - a[:1], (x - x[:1]) @ model.filters().T, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in (*OPTIMISED, "sparse, unrolled steps")])
def test_filters_have_the_columns_of_the_rows_also_where_the_encoder_is_told_what_is_missing(name):
    model = fitted(name)
    filters = model.filters()
    maps = (p for p in model.coder_.encoder.parameters() if p.ndim > 2 or (p.ndim == 2 and p.shape[1] >= X.shape[1]))
    weight = next(maps).detach()
    if weight.ndim == 2:
        np.testing.assert_array_equal(filters, weight[:, : X.shape[1]])
    else:
        assert filters.shape == (len(weight), weight.shape[-1])
        np.testing.assert_array_equal(filters, weight.flatten(1))


def test_filters_of_a_deep_encoder_are_those_of_its_first_layer():
    weight = fitted("deep").coder_.encoder.affine_maps[0].weight.detach()
    np.testing.assert_array_equal(fitted("deep").filters(), weight)


@pytest.mark.parametrize("layout", ["grey", "channels last", "channels first"])
def test_filters_of_images_are_images_and_those_of_convolutions_kernels(layout):
    grey = (IMAGES * 15).astype(np.uint8)
    layouts = {"grey": grey, "channels last": np.stack([grey] * 3, -1), "channels first": np.stack([grey] * 3, 1)}
    images = layouts[layout]
    colours = () if layout == "grey" else (3,)
    model = LinearAutoencoder(code_size=4, max_epochs=1, random_state=0).fit(images)
    assert model.filters().shape == (4, 8, 8, *colours)
    assert model.unit_effects(images).shape == (4, 8, 8, *colours)
    x = model.preprocessing_.rows(images).batch(torch.arange(len(images))).x
    as_seen = np.moveaxis(x.reshape(len(x), -1, 8, 8).numpy(), 1, -1).reshape(len(x), -1)
    expected = as_seen @ model.filters().reshape(4, -1).T
    np.testing.assert_allclose(model.coder_.encoder(x).detach() - model.coder_.encoder(x[:1]).detach(),
                               expected - expected[:1], atol=1e-3)  # fmt: skip
    network = Convolutional((3,), dense_sizes=())
    conv = ConvolutionalAutoencoder(code_size=2, network=network, max_epochs=1).fit(images)
    assert conv.filters().shape == (3, 3, 3, *colours)


def test_nothing_is_read_of_what_was_not_fitted():
    model = Autoencoder()
    assert not hasattr(model, "filters")
    assert not hasattr(model, "dictionary")


def test_a_unit_that_is_not_there_is_refused_with_those_that_are():
    for unit in (3, -1, 1.0, True, "a"):
        with pytest.raises(InputError, match=r"unit=.*: the code has 3 units; give a whole number from 0 to 2"):
            fitted("linear").max_activating(X, unit)
        with pytest.raises(InputError, match=r"unit=.*: the code has 3 units; give a whole number from 0 to 2"):
            fitted("linear").unit_effects(X, [unit])
    for n in (0, 2.5, True, "a"):
        with pytest.raises(InputError, match="n=.*: it must be a whole number of at least 1"):
            fitted("linear").max_activating(X, 0, n=n)
