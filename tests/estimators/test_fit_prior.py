"""A distribution of codes that is fitted after training: `fit_prior`, and `sample` of kinds whose encoder is a map."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import isthmus
from isthmus import (
    Autoencoder,
    ContractiveAutoencoder,
    Convolutional,
    ConvolutionalAutoencoder,
    DenoisingAutoencoder,
    GaussianPrior,
    LinearAutoencoder,
    MixturePrior,
    SparseAutoencoder,
    StackedAutoencoder,
    VampPrior,
)
from isthmus.errors import InputError
from isthmus.estimators import code_sampling
from isthmus.learning.rows import evenly_spaced

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 2)) @ RNG.normal(size=(2, 6)) + 0.3 * RNG.normal(size=(400, 6)) + np.arange(6)
SMALL = {"max_epochs": 3, "random_state": 0}
ALL_ROWS = {"validation_fraction": 0.0, "patience": None}

KINDS = {
    "deep": Autoencoder(code_size=2, hidden_sizes=(8,), **SMALL),
    "sparse": SparseAutoencoder(code_size=8, **SMALL),
    "denoising": DenoisingAutoencoder(code_size=4, corruption="gaussian", **SMALL),
    "contractive": ContractiveAutoencoder(code_size=4, **SMALL),
    "conv": ConvolutionalAutoencoder(code_size=3, network=Convolutional((4,), dense_sizes=(8,)), **SMALL),
}
every_kind = pytest.mark.parametrize("name", KINDS)


def rows_of(name: str) -> np.ndarray:
    return load_digits().images[:100] if name == "conv" else X


def fitted(name: str, fit_prior="gaussian", **arguments):
    return clone(KINDS[name]).set_params(fit_prior=fit_prior, **arguments).fit(rows_of(name))


@every_kind
def test_the_distribution_is_the_gaussian_of_the_codes(name):
    model = fitted(name, **ALL_ROWS)
    codes = model.transform(rows_of(name))
    density = model.density_
    np.testing.assert_allclose(density.means[0], codes.mean(0), rtol=1e-3, atol=1e-4)
    covariance = (density.scale_trils[0] @ density.scale_trils[0].T).numpy()
    np.testing.assert_allclose(covariance, np.cov(codes.T, ddof=0), rtol=1e-2, atol=1e-4)


@every_kind
def test_samples_are_rows_of_the_users_shape_in_its_units(name):
    model = fitted(name)
    samples = model.sample(500, random_state=0)
    assert samples.shape == (500, *rows_of(name).shape[1:])
    assert np.isfinite(samples).all()
    assert np.array_equal(model.sample(500, random_state=0), samples)
    assert not np.array_equal(model.sample(500, random_state=1), samples)


def test_codes_of_samples_have_the_mean_and_the_covariance_of_codes():
    model = fitted("deep", max_epochs=20)
    codes = model.transform(model.sample(4000, random_state=0, mean=True))
    expected = model.transform(X)
    np.testing.assert_allclose(codes.mean(0), expected.mean(0), atol=0.15 * expected.std(0).max())
    np.testing.assert_allclose(np.cov(codes.T), np.cov(expected.T), atol=0.25 * expected.var(0).max())


def test_means_of_samples_have_the_mean_and_the_spread_of_reconstructions():
    model = fitted("deep", max_epochs=20)
    means, reconstructions = model.sample(4000, random_state=0, mean=True), model.reconstruct(X)
    np.testing.assert_allclose(means.mean(0), reconstructions.mean(0), atol=0.1)
    np.testing.assert_allclose(means.std(0), reconstructions.std(0), rtol=0.25)


@pytest.mark.parametrize("name", ["deep", "conv"])
def test_samples_have_the_spread_of_the_rows(name):
    """The unit variance of the default likelihood is not that of the noise: it would double the variance of samples."""
    model = fitted(name, max_epochs=20, learning_rate=1e-2)
    rows = rows_of(name)
    samples, reconstructions = model.sample(2000, random_state=0), model.reconstruct(rows)
    assert samples.var(0).sum() < 1.2 * rows.var(0).sum()
    assert 0.5 < samples.var(0).sum() / reconstructions.var(0).sum() < 1.5


def test_a_mixture_is_that_of_sklearn_on_the_codes():
    model = fitted("deep", MixturePrior(k=3), **ALL_ROWS)
    codes = model.transform(X)
    oracle = GaussianMixture(3, random_state=model.seed_).fit(codes.astype(float))
    found = model.density_.log_prob(torch.from_numpy(codes)).numpy()
    np.testing.assert_allclose(found, oracle.score_samples(codes), atol=1e-2)


@pytest.mark.parametrize(
    ("given", "k"), [("gaussian", 1), (GaussianPrior(), 1), ("mixture", 10), (MixturePrior(k=2), 2)]
)
def test_the_argument_sets_the_number_of_components(given, k):
    assert len(fitted("deep", given).density_.means) == k


def test_training_is_that_without_a_prior():
    plain, sampled = clone(KINDS["deep"]).fit(X), fitted("deep")
    assert np.array_equal(plain.transform(X), sampled.transform(X))
    assert not hasattr(plain, "density_")


@every_kind
def test_without_a_prior_there_is_no_sample(name):
    model = clone(KINDS[name])
    assert not hasattr(model, "sample")
    assert not hasattr(model.fit(rows_of(name)), "sample")
    with pytest.raises(InputError, match="fit it with fit_prior=") as caught:
        _ = model.sample
    assert "\n" not in str(caught.value)
    assert hasattr(clone(model).set_params(fit_prior="gaussian"), "sample")


def test_a_prior_that_was_set_after_the_fit_is_not_there_yet():
    model = clone(KINDS["deep"]).fit(X).set_params(fit_prior="gaussian")
    with pytest.raises(InputError, match="fit") as caught:
        model.sample(3)
    assert "\n" not in str(caught.value)


def test_a_prior_is_no_density_of_rows():
    assert not hasattr(fitted("deep"), "score_samples")


def test_a_stacked_autoencoder_and_others_do_not_take_the_argument():
    for kind in (StackedAutoencoder, LinearAutoencoder):
        assert "fit_prior" not in kind().get_params()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("gausian", "fit_prior='gausian' is unknown; did you mean 'gaussian'"),
        ("vamp", "fit_prior='vamp' is unknown"),
        (5, "fit_prior=5: give"),
        (VampPrior(k=3), "fit_prior=VampPrior\\(k=3\\): give"),
        (MixturePrior, "fit_prior=MixturePrior is a class"),
    ],
)
def test_wrong_priors_are_refused_in_one_line(given, message):
    with pytest.raises(InputError, match=message) as caught:
        clone(KINDS["deep"]).set_params(fit_prior=given).fit(X)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n", [0, -1, 2.5, True])
def test_a_number_of_samples_that_is_not_a_count_is_refused(n):
    with pytest.raises(InputError, match="n=.*must be a whole number of at least 1"):
        fitted("deep").sample(n)


@every_kind
@pytest.mark.parametrize("given", ["gaussian", MixturePrior(k=2)])
def test_a_file_holds_the_distribution(name, given, tmp_path):
    model = fitted(name, given)
    model.save(tmp_path / "model.safetensors")
    loaded = isthmus.load(tmp_path / "model.safetensors")
    assert loaded.get_params() == model.get_params()
    assert np.array_equal(loaded.sample(9, random_state=0), model.sample(9, random_state=0))


def test_a_warm_start_fits_the_distribution_again():
    model = fitted("deep", warm_start=True, **ALL_ROWS)
    before = model.density_.means.clone()
    model.set_params(learning_rate=2e-2, max_epochs=10).fit(X)
    assert not torch.allclose(model.density_.means, before)
    np.testing.assert_allclose(model.density_.means[0], model.transform(X).mean(0), rtol=1e-3, atol=1e-4)


def test_partial_fit_fits_the_distribution_to_the_rows_of_the_call():
    model = clone(KINDS["deep"]).set_params(fit_prior="gaussian").partial_fit(X[:200])
    model.partial_fit(X[200:])
    np.testing.assert_allclose(model.density_.means[0], model.transform(X[200:]).mean(0), rtol=1e-3, atol=1e-4)


def test_a_pipeline_samples_by_its_last_step():
    pipeline = make_pipeline(StandardScaler(), clone(KINDS["deep"])).set_params(autoencoder__fit_prior="mixture")
    pipeline.set_params(autoencoder__fit_prior__k=2).fit(X)
    assert pipeline[-1].fit_prior == MixturePrior(k=2)
    samples = pipeline[0].inverse_transform(pipeline[-1].sample(500, random_state=0))
    assert samples.shape == (500, 6)
    np.testing.assert_allclose(samples.mean(0), X.mean(0), atol=0.6)


@pytest.mark.parametrize("given", ["gaussian", MixturePrior(k=2)])
def test_rows_count_by_their_weights(given):
    """A row of weight 2 counts as two rows."""
    widest = X[:, X.var(0).argmax()]
    weight = np.where(widest > widest.mean(), 4.0, 1.0)
    model = clone(KINDS["deep"]).set_params(fit_prior=given, max_epochs=10, **ALL_ROWS).fit(X, sample_weight=weight)
    codes = model.transform(X)
    mean = np.average(codes, 0, weight)
    assert np.abs(mean - codes.mean(0)).max() > 0.1
    found = (model.density_.log_weights.exp() @ model.density_.means).numpy()
    np.testing.assert_allclose(found, mean, atol=0.02)


def test_rows_of_weight_0_take_no_part():
    rows, weight = np.vstack([X, X + 100]), np.repeat([1.0, 0.0], len(X))
    model = clone(KINDS["deep"]).set_params(fit_prior="gaussian", **ALL_ROWS).fit(rows, sample_weight=weight)
    np.testing.assert_allclose(model.density_.means[0], model.transform(X).mean(0), rtol=1e-3, atol=1e-4)


def test_of_many_rows_evenly_spaced_ones_are_used(monkeypatch):
    monkeypatch.setattr(code_sampling, "MAX_PRIOR_ROWS", 50)
    model = fitted("deep", **ALL_ROWS)
    codes = model.transform(X)[evenly_spaced(len(X), 50).numpy()]
    np.testing.assert_allclose(model.density_.means[0], codes.mean(0), rtol=1e-3, atol=1e-4)


def test_rows_with_gaps_are_encoded_as_in_transform():
    gaps = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
    model = clone(KINDS["deep"]).set_params(fit_prior="gaussian", missing="mask", **ALL_ROWS).fit(gaps)
    np.testing.assert_allclose(model.density_.means[0], model.transform(gaps).mean(0), rtol=1e-3, atol=1e-4)
    assert np.isfinite(model.sample(5)).all()


def test_samples_of_a_table_have_its_columns_levels_and_whole_counts():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=200), "b": rng.choice(["x", "y", "z"], 200), "n": rng.poisson(3, 200)})
    samples = clone(KINDS["deep"]).set_params(fit_prior="gaussian").fit(table).sample(100, random_state=0)
    assert list(samples) == ["a", "b", "n"]
    assert set(samples["b"]) <= {"x", "y", "z"}
    assert (samples["n"] == samples["n"].round()).all()


@pytest.mark.parametrize("seed", [2**32, 2**40])
def test_a_large_seed_is_accepted_as_without_a_prior(seed):
    clone(KINDS["deep"]).set_params(random_state=seed).fit(X)
    assert fitted("deep", random_state=seed).sample(3).shape == (3, 6)


def test_few_rows_are_enough():
    model = clone(KINDS["deep"]).set_params(fit_prior="mixture", validation_fraction=0.0).fit(X[:4])
    assert np.isfinite(model.sample(20, random_state=0)).all()


def test_fitting_leaves_the_global_generators_as_they_are():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fitted("deep", "mixture").sample(3)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_a_fit_that_fails_keeps_the_distribution():
    model = fitted("deep")
    samples = model.sample(5, random_state=0)
    with pytest.raises(InputError):
        model.fit(np.full((20, 6), np.nan))
    assert np.array_equal(model.sample(5, random_state=0), samples)
