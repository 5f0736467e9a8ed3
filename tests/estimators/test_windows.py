"""Autoencoders of windows: the split of `fit`, names of channels, and windows as rows of every method."""

import numpy as np
import pandas as pd
import pytest

import isthmus
from isthmus.data import windows
from isthmus.errors import InputError


@pytest.fixture(scope="module")
def found():
    t = np.arange(200)
    table = pd.DataFrame({"temp": 20 + 2 * np.sin(t / 3), "pressure": 1e5 + 300 * np.cos(t / 3)})
    return windows(table, 8, 2)


def fitted(found, kind=isthmus.Autoencoder, **options):
    return kind(**{"code_size": 2, "max_epochs": 2, "random_state": 0, **options}).fit(found)


def test_fit_holds_out_the_last_windows(found):
    training, validation = found.split(0.1)
    model = fitted(found)
    assert model.n_rows_ == len(training)
    assert model.history_["squared_error"]["rows"] == "validation"
    explicit = isthmus.Autoencoder(code_size=2, max_epochs=2, random_state=0).fit(training, validation=validation)
    np.testing.assert_array_equal(model.transform(found), explicit.transform(found.X))
    assert fitted(found, validation_fraction=0).n_rows_ == len(found)


@pytest.mark.parametrize("kind", [isthmus.Autoencoder, isthmus.ConvolutionalAutoencoder, isthmus.LinearAutoencoder])
def test_windows_are_rows_of_every_method(kind, found, tmp_path):
    model = fitted(found, kind)
    assert model.preprocessing_.layout == "ntc"
    assert not any("layout" in note for note in model.history_["notes"])
    np.testing.assert_array_equal(model.reconstruct(found), model.reconstruct(found.X))
    assert model.reconstruction_error(found, by="cell").shape == found.X.shape
    assert model.score(found) == model.score(found.X)
    model.save(tmp_path / "m")
    loaded = isthmus.load(tmp_path / "m")
    assert loaded.preprocessing_.channels == ["temp", "pressure"]
    np.testing.assert_array_equal(loaded.transform(found), model.transform(found))


def test_channels_have_the_names_of_the_columns(found):
    model = fitted(found)
    assert model.preprocessing_.columns[7:9] == ["temp, step 7", "pressure, step 0"]
    X = np.array(found.X)
    X[3, 5, 1] = np.nan
    with pytest.raises(InputError, match="row 3, column 'pressure, step 5'"):
        model.transform(X)
    assert fitted(found.X, layout="ntc").preprocessing_.channels == ["channel 0", "channel 1"]


def test_windows_that_cannot_be_split_or_read_are_refused(found):
    with pytest.raises(InputError, match="with labels, a target or weights are not split"):
        isthmus.Autoencoder().fit(found, sample_weight=np.ones(len(found)))
    with pytest.raises(InputError, match="layout='table': windows are series"):
        fitted(found, layout="table")
    weighted = isthmus.Autoencoder(code_size=2, max_epochs=1, validation_fraction=0)
    assert weighted.fit(found, sample_weight=np.ones(len(found))).n_rows_ == len(found)
