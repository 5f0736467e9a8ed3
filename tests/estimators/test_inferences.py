"""An estimator whose inference is a distribution is fitted, read, saved and classified as one with a map."""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn import clone

import isthmus
from isthmus.estimators import model_files
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.records import Recipe
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.stochastic_inference import DiagonalGaussian

X = np.random.default_rng(0).normal(size=(60, 2)) @ np.random.default_rng(1).normal(size=(2, 8))
Y = (X[:, 0] > 0).astype(int)
SMALL = {"max_epochs": 2, "random_state": 0}


@dataclass(kw_only=True, eq=False, repr=False)
class GaussianAutoencoder(BaseAutoencoder):
    """An autoencoder whose code is a Gaussian."""

    reduction: str = "mean"

    kind = "gaussian-code"

    def _recipe(self, shape, generator):
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        encoder = MLP((shape.n_columns, 2 * shape.code_size), generator=generator)
        decoder = MLP((shape.code_size, likelihood.n_parameters), generator=generator)
        coder = Coder(DiagonalGaussian(encoder, n_draws=3), decoder, likelihood)
        return Recipe(coder, Reconstruction(coder, reduction=self.reduction))


@pytest.mark.parametrize(
    ("reduction", "terms"), [("mean", {"reconstruction", "divergence"}), ("logmeanexp", {"bound"})]
)
def test_a_kind_with_a_distribution_is_fitted_and_saved(reduction, terms, monkeypatch, tmp_path):
    monkeypatch.setitem(model_files._REGISTERED, GaussianAutoencoder.kind, GaussianAutoencoder)
    model = GaussianAutoencoder(code_size=2, reduction=reduction, **SMALL).fit(X)
    assert model.history_["epochs"][-1]["terms"].keys() == terms
    codes = model.transform(X)
    assert codes.shape == (60, 2)
    assert model.unit_effects(X).shape == (2, 8)
    model.save(tmp_path / "model")
    assert np.array_equal(isthmus.load(tmp_path / "model").transform(X), codes)


@pytest.mark.parametrize("reconstruction_weight", [0.0, 0.5])
def test_a_distribution_is_fine_tuned_with_noise(reconstruction_weight):
    model = GaussianAutoencoder(code_size=2, **SMALL).fit(X)
    classifier = isthmus.CodeClassifier(
        encoder=model, hidden_noise=0.1, dropout=0.1, reconstruction_weight=reconstruction_weight, **SMALL
    )
    codes = clone(classifier).fit(X, Y).encoder_.transform(X)
    assert not np.array_equal(codes, model.transform(X))
