"""Layouts of arrays in every kind: series by channel, columns in [0, 1], images of many channels, masked arrays."""

import numpy as np
import pytest
import torch
from sklearn import clone
from sklearn.datasets import load_digits

import isthmus
from isthmus import (
    Autoencoder,
    Convolutional,
    Convolutional1d,
    ConvolutionalAutoencoder,
    DenoisingAutoencoder,
    GroupMasking,
    InputError,
    LinearAutoencoder,
    RestrictedBoltzmannMachine,
    VariationalAutoencoder,
)
from isthmus.data import Paired
from isthmus.estimators.registry import KINDS as REGISTERED

from .test_properties import CHECKED

RNG = np.random.default_rng(0)
STEPS, CHANNELS = 20, 3


def sensors(n=300):
    """Three sensors of very different scale, in order of time."""
    t, phase, speed = np.arange(STEPS), RNG.random((n, 1)) * 6, RNG.uniform(0.2, 0.6, (n, 1))
    waves = [np.sin(speed * t + phase), np.cos(speed * t + phase), np.sin(speed * t + phase + 1)]
    return np.stack([20 + 2 * waves[0], 101325 + 300 * waves[1], 0.5 + 0.2 * waves[2]], 2)


X = sensors()
IMAGES = load_digits().images[:200] / 16
SMALL = {"code_size": 4, "max_epochs": 2, "random_state": 0}
GOOD = {
    "linear": (LinearAutoencoder(code_size=4, max_epochs=60, random_state=0), 0.9),
    "deep": (Autoencoder(code_size=4, hidden_sizes=(64,), max_epochs=60, random_state=0), 0.9),
    "conv": (
        ConvolutionalAutoencoder(code_size=4, network=Convolutional((8, 16), dense_sizes=(32,)), max_epochs=60,
                                 random_state=0), 0.9,
    ),
    "conv1d": (
        Autoencoder(code_size=4, network=Convolutional1d((8,), dense_sizes=(32,)), max_epochs=60, random_state=0), 0.9,
    ),
    "vae": (VariationalAutoencoder(code_size=4, hidden_sizes=(64,), max_epochs=60, random_state=0), 0.7),
}  # fmt: skip
_FITTED: dict = {}


def fitted(name):
    """The model, fitted once."""
    if name not in _FITTED:
        _FITTED[name] = clone(GOOD[name][0]).fit(X)
    return _FITTED[name]


def r2_by_channel(model, X):
    return 1 - ((X - model.reconstruct(X)) ** 2).mean((0, 1)) / X.var((0, 1))


@pytest.mark.parametrize("name", GOOD)
def test_every_sensor_is_reconstructed_whatever_its_scale(name):
    assert r2_by_channel(fitted(name), X).min() > GOOD[name][1]
    assert "worse-than-mean" not in [finding["name"] for finding in fitted(name).history_["findings"]]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("channel", range(CHANNELS))
def test_a_wrecked_sensor_raises_the_error_of_its_own_cells(name, channel):
    model, wrecked = fitted(name), X.copy()
    wrecked[:, :, channel] = RNG.uniform(X[..., channel].min(), X[..., channel].max(), (len(X), STEPS))
    before, after = model.reconstruction_error(X), model.reconstruction_error(wrecked)
    assert np.median(after) > 5 * np.median(before)
    own, own_before = (model.reconstruction_error(rows, by="column")[:, channel] for rows in (wrecked, X))
    assert own.mean() > 5 * own_before.mean()


def test_convolutions_run_along_the_steps_and_read_all_channels():
    kernel = next(m for m in fitted("conv").coder_.encoder.modules() if isinstance(m, torch.nn.Conv2d)).weight
    assert kernel.shape == (8, CHANNELS, 1, 5)
    assert fitted("conv").filters().shape == (8, 5, CHANNELS)


def test_the_convolutional_code_shifts_with_the_series():
    """The first maps of a series that is shifted by two steps are those of the series, shifted by one position."""
    encoder = fitted("conv").coder_.encoder
    x = torch.randn(1, CHANNELS, 1, STEPS, generator=torch.Generator().manual_seed(0))
    maps, shifted = (encoder.convolutions[0](each) for each in (x, x.roll(2, dims=3)))
    torch.testing.assert_close(shifted[..., 3:-2], maps.roll(1, dims=3)[..., 3:-2])


@pytest.mark.parametrize("kind", REGISTERED)
def test_every_kind_takes_series_and_saves_their_layout(kind, tmp_path):
    model = REGISTERED[kind](**{**CHECKED[kind], "max_epochs": 1, "random_state": 0}).fit(X[:60])
    known = model.preprocessing_
    assert (known.layout, known.image_shape, known.map_shape) == ("ntc", None, (CHANNELS, 1, STEPS))
    assert any("layout='nhw' (--layout nhw)" in note for note in model.history_["notes"])
    r = model.reconstruct(X[:60])
    assert r.shape == X[:60].shape
    assert model.inverse_transform(model.transform(X[:5])).shape == X[:5].shape
    cells = model.reconstruction_error(X[:60], by="cell")
    np.testing.assert_allclose(cells.sum((1, 2)), model.reconstruction_error(X[:60]), rtol=1e-4)
    np.testing.assert_allclose(model.reconstruction_error(X[:60], by="column"), cells.mean(0), rtol=1e-4, atol=1e-7)
    if kind not in (
        "vae",
        "recurrent",
    ):  # their error is not that of `reconstruct`, or is that of a mean in other units
        scale = known.as_rows(known.scale[None])[0]
        np.testing.assert_allclose(cells, ((X[:60] - r) / scale) ** 2, atol=1e-3)
    model.save(tmp_path / "m.isthmus")
    again = isthmus.load(tmp_path / "m.isthmus")
    assert again.preprocessing_.description == "series of 20 steps and 3 channels"
    np.testing.assert_array_equal(again.reconstruct(X[:9]), model.reconstruct(X[:9]))


@pytest.mark.parametrize("kind", ["vae", "rbm", "linear"])
def test_samples_of_series_are_series_in_the_units_of_the_sensors(kind):
    model = REGISTERED[kind](**{**CHECKED[kind], "max_epochs": 3, "random_state": 0}).fit(X)
    samples = model.sample(200, random_state=0)
    assert samples.shape == (200, STEPS, CHANNELS)
    assert (np.abs(samples.mean((0, 1)) - X.mean((0, 1))) < 2 * X.std((0, 1))).all()


def test_the_layout_is_an_argument_that_overrules_and_defines_the_parts():
    image = Autoencoder(**SMALL, layout="nhw").fit(X)
    assert image.preprocessing_.image_shape == (1, STEPS, CHANNELS)
    assert not any("layout" in note for note in image.history_["notes"])
    table = Autoencoder(**SMALL, layout="table").fit(X)
    np.testing.assert_allclose(table.preprocessing_.scale, X.std(0).ravel())
    assert table.reconstruct(X).shape == X.shape
    with pytest.raises(InputError, match="layout='ntc': the weights to go on from were trained with layout='nhw'"):
        image.set_params(layout="ntc", warm_start=True).fit(X)
    with pytest.raises(InputError, match="layout='nhwc' is for arrays"):
        Autoencoder(**SMALL, layout="nhwc").fit(X)


def test_convolutions_of_series_are_refused_for_images():
    with pytest.raises(InputError, match="layout='ntc' if they are series"):
        ConvolutionalAutoencoder(**SMALL, network=Convolutional1d()).fit(IMAGES)


def test_series_are_targets_of_series_in_the_layout_of_the_inputs():
    noisy = X + RNG.normal(0, 0.1, X.shape) * X.std((0, 1))
    model = DenoisingAutoencoder(**SMALL, network=Convolutional((4,), dense_sizes=(8,)), corruption=None)
    model = model.set_params(layout="ntc").fit(noisy, X)
    assert (model.preprocessing_.layout, model.preprocessing_.inputs.layout) == ("ntc", "ntc")
    assert model.reconstruct(noisy).shape == X.shape
    assert model.reconstruction_error(Paired(noisy, X), by="column").shape == X.shape[1:]


def test_groups_of_a_series_are_spans_of_all_channels():
    model = DenoisingAutoencoder(**SMALL, corruption=GroupMasking(rate=0.5)).fit(X)
    corruption = model._with_criterion().objective.corruption
    x = torch.ones(50, CHANNELS * STEPS)
    hidden = (corruption(x, torch.Generator().manual_seed(0)).x == 0).reshape(50, CHANNELS, STEPS)
    assert (hidden == hidden[:, :1]).all()
    spans = hidden[:, 0, :18].reshape(50, 6, 3)  # spans of 3 of 20 steps
    assert (spans == spans[..., :1]).all()
    assert 0.3 < spans.float().mean() < 0.7


@pytest.mark.parametrize("shape", [(60, 13, 9, 9), (60, 3, 4, 4), (60, 5, 2, 2)])
def test_images_with_channels_first_work_in_every_size(shape):
    X = RNG.normal(size=shape) * (1 + np.arange(shape[1]))[:, None, None]
    model = ConvolutionalAutoencoder(**SMALL).fit(X)
    assert model.preprocessing_.image_shape == shape[1:]
    assert model.reconstruct(X).shape == shape
    assert "layout='nhwc' (--layout nhwc)" in model.history_["notes"][-1]
    last = ConvolutionalAutoencoder(**SMALL, layout="nhwc").fit(np.moveaxis(X, 1, -1))
    np.testing.assert_allclose(last.reconstruct(np.moveaxis(X, 1, -1)), np.moveaxis(model.reconstruct(X), 1, -1))


def small_columns(n=600):
    z = RNG.normal(size=n)
    return np.column_stack([RNG.random(n)] + [1e-3 * (1 + np.sin(3 * z)) * (1 + 0.2 * i) for i in range(5)])


@pytest.mark.parametrize("kind", ["linear", "deep", "vae"])
def test_small_columns_in_the_unit_interval_are_reconstructed(kind):
    Z = small_columns()
    model = REGISTERED[kind](code_size=2, max_epochs=40, random_state=0).fit(Z)
    assert (1 - ((Z - model.reconstruct(Z)) ** 2).mean(0) / Z.var(0))[1:].min() > 0.5


@pytest.mark.parametrize("as_table", [False, True])
def test_columns_worse_than_their_mean_are_named_with_their_r2(as_table):
    import pandas as pd

    Z = small_columns()
    Z[:, 1:] *= np.array([1, -1, 1, -1, 1])
    rows = pd.DataFrame(Z, columns=list("abcdef")) if as_table else Z
    model = Autoencoder(code_size=1, scaling="none", max_epochs=5, random_state=0).fit(rows)
    held_out = Z[np.sort(torch.randperm(600, generator=torch.Generator().manual_seed(0))[:60].numpy())]
    r2 = 1 - ((held_out - np.asarray(model.reconstruct(held_out if not as_table else
              pd.DataFrame(held_out, columns=list("abcdef"))))) ** 2).mean(0) / held_out.var(0)  # fmt: skip
    found = next(each for each in model.history_["findings"] if each["name"] == "worse-than-mean")
    assert found["severity"] == ("warning" if r2.min() < -0.1 else "note")
    names = list("abcdef") if as_table else model.preprocessing_.columns
    worst = int(r2.argmin())
    assert f"R2: {names[worst]} ({r2[worst]:.2g})" in found["message"]
    assert f"{(r2 <= -0.01).sum()} of 6 columns" in found["message"]
    assert "scaling='standard'" in found["advice"]


def test_a_channel_of_series_without_reconstruction_is_named():
    noisy = X.copy()
    noisy[..., 2] = RNG.normal(size=X.shape[:2])
    model = Autoencoder(code_size=2, scaling="none", layout="ntc", max_epochs=2, random_state=0).fit(noisy / 1e5)
    found = [each for each in model.history_["findings"] if each["name"] == "worse-than-mean"]
    assert found
    assert "channel 2" in found[0]["message"]


@pytest.mark.parametrize("rows", [IMAGES, IMAGES * 255, (IMAGES * 255).astype(np.uint8), IMAGES.reshape(200, 64)])
def test_visible_units_of_unit_variance_get_standardised_images(rows):
    model = RestrictedBoltzmannMachine(code_size=16, likelihood="gaussian", max_epochs=5, random_state=0).fit(rows)
    x = model.preprocessing_.rows(rows).batch(torch.arange(200)).x.numpy()
    assert x.std() == pytest.approx(1, abs=0.1)
    samples = np.asarray(model.sample(100, random_state=0), float)
    assert np.abs(samples - rows.mean()).max() < 7 * rows.std()
    binary = RestrictedBoltzmannMachine(code_size=16, max_epochs=1, random_state=0).fit(IMAGES)
    assert (binary.preprocessing_.scale == 1).all()


def test_a_likelihood_of_fractions_keeps_columns_in_the_unit_interval():
    Z = small_columns()
    for likelihood in ("bernoulli", "continuous-bernoulli", "gaussian-unit"):
        model = Autoencoder(**SMALL, likelihood=likelihood).fit(Z)
        assert (model.preprocessing_.scale == 1).all()


def test_masked_entries_are_missing_values():
    Z = RNG.normal([5, -3, 100], [2, 0.1, 30], (90, 3))
    mask = RNG.random(Z.shape) < 0.2
    masked, missing = np.ma.array(Z, mask=mask), np.where(mask, np.nan, Z)
    with pytest.raises(InputError, match=f"{mask.sum()} such values in all"):
        Autoencoder(**SMALL).fit(masked)
    for option in ("mean", "mask"):
        one, other = (Autoencoder(**SMALL, missing=option).fit(each) for each in (masked, missing))
        np.testing.assert_array_equal(one.reconstruct(masked), other.reconstruct(missing))
        np.testing.assert_array_equal(one.reconstruction_error(masked), other.reconstruction_error(missing))
    counts = np.ma.array(RNG.integers(0, 9, (40, 3)), mask=RNG.random((40, 3)) < 0.2)
    model = Autoencoder(**SMALL, missing="mean").fit(counts)
    assert np.isfinite(model.reconstruct(counts)).all()
    whole = np.ma.array(Z)
    np.testing.assert_array_equal(
        Autoencoder(**SMALL).fit(whole).transform(whole), Autoencoder(**SMALL).fit(Z).transform(Z)
    )


FORMS = {
    "big-endian": lambda rows: rows.astype(rows.dtype.newbyteorder(">")),
    "Fortran order": np.asfortranarray,
    "negative strides": lambda rows: np.ascontiguousarray(rows[::-1, ..., ::-1])[::-1, ..., ::-1],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [X[:60], RNG.normal(3, 2, (60, 4)), IMAGES[:60]])
def test_a_fit_does_not_depend_on_byte_order_and_memory_layout(rows, form):
    same = FORMS[form](rows)
    plain, other = Autoencoder(**SMALL).fit(rows), Autoencoder(**SMALL).fit(same)
    np.testing.assert_array_equal(other.transform(same), plain.transform(rows))
    np.testing.assert_array_equal(other.reconstruct(same), plain.reconstruct(rows))
    np.testing.assert_array_equal(plain.inverse_transform(FORMS[form](plain.transform(rows))), plain.reconstruct(rows))
