"""The density of the linear autoencoder where entries are missing, against SciPy's Gaussians."""

import gc

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

import isthmus
from isthmus import LinearAutoencoder
from isthmus.data.streams import Affine, DenseRows
from isthmus.estimators.linear import SubspaceDensity

GENERATOR = np.random.default_rng(0)
FACTORS = GENERATOR.normal(size=(2, 6))
X = 0.7 + 0.1 * (GENERATOR.normal(size=(2000, 2)) @ FACTORS + 0.3 * GENERATOR.normal(size=(2000, 6)))
OBSERVED = GENERATOR.random(X.shape) < 0.5
HOLES = np.where(OBSERVED, X, np.nan)


def linear(rows, **changes):
    options = {"code_size": 2, "missing": "mask", "scaling": "none", "max_epochs": 5, "random_state": 0}
    return LinearAutoencoder(**options | changes).fit(rows)


def moments(density):
    """Mean and covariance of a `SubspaceDensity`."""
    u = density.basis.numpy()
    noise = float(density.noise) * (np.eye(len(u)) - u @ u.T)
    return density.mean.numpy(), (u * density.variances.numpy()) @ u.T + noise


def fitted_on_factors(rows, **options):
    """The density on the subspace of the factors that the rows were made of."""
    density = SubspaceDensity(6, 2)
    density.fit(torch.from_numpy(FACTORS.T), DenseRows(rows, Affine(np.zeros(6), np.ones(6)), **options))
    return density


def test_the_linear_density_has_the_mean_of_the_observed_entries(tmp_path):
    model = linear(HOLES)
    standard_errors = X.std(0) / np.sqrt(OBSERVED.sum(0) * 0.9)
    assert (np.abs(model.density_.mean.numpy() - 0.7) < 4 * standard_errors).all()
    np.testing.assert_allclose(model.sample(20_000, random_state=0).mean(0), 0.7, atol=0.02)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(isthmus.load(tmp_path / "m").score_samples(HOLES), model.score_samples(HOLES))


@pytest.mark.parametrize("code_size", [1, 2, 6])
def test_the_linear_score_is_the_marginal_gaussian_of_the_observed_entries(code_size):
    model = linear(HOLES, code_size=code_size)
    assert model.score_kind_ == "exact"
    scores, (mean, covariance) = model.score_samples(HOLES[:300]), moments(model.density_)
    assert (~OBSERVED[:300]).all(1).sum() > 1
    for score, row, seen in zip(scores, X.astype(np.float32), OBSERVED, strict=False):
        expected = (
            multivariate_normal.logpdf(row[seen], mean[seen], covariance[np.ix_(seen, seen)]) if seen.any() else 0
        )
        assert score == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_em_recovers_the_variances_within_sampling_error():
    masked, complete = fitted_on_factors(HOLES, fill=np.zeros(6), masked=True), fitted_on_factors(X)
    np.testing.assert_allclose(masked.variances, complete.variances, rtol=0.1)
    np.testing.assert_allclose(masked.noise, complete.noise, rtol=0.1)
    np.testing.assert_allclose(np.abs((masked.basis.T @ complete.basis).numpy().diagonal()), 1, atol=0.05)


def test_em_ends_at_a_maximum_of_the_likelihood_of_the_observed_entries():
    density = fitted_on_factors(HOLES, fill=np.zeros(6), masked=True)
    x, mask = torch.from_numpy(np.nan_to_num(HOLES)), torch.from_numpy(OBSERVED).float()
    best = float(density.log_prob(x, mask).mean())
    for name in ("mean", "variances", "noise"):
        for factor in (0.9, 1.1):
            moved = SubspaceDensity(6, 2)
            moved.load_state_dict(density.state_dict())
            getattr(moved, name).mul_(factor)
            assert float(moved.log_prob(x, mask).mean()) < best


def test_em_stays_accurate_where_the_noise_is_next_to_nothing():
    generator = np.random.default_rng(1)
    exact = generator.normal(size=(1000, 2)) @ FACTORS
    density = fitted_on_factors(np.where(OBSERVED[:1000], exact, np.nan), fill=np.zeros(6), masked=True)
    mean, covariance = moments(density)
    np.testing.assert_allclose(covariance, np.cov(exact.T), rtol=0, atol=0.2 * np.abs(np.cov(exact.T)).max())
    seen = np.array([True, False, False, False, False, False])
    score = density.log_prob(torch.from_numpy(exact[:1]), torch.from_numpy(seen[None]).float())
    expected = multivariate_normal.logpdf(exact[0, :1], mean[:1], covariance[:1, :1])
    assert float(score) == pytest.approx(expected, rel=1e-6)


def test_complete_rows_have_the_closed_form_whether_or_not_entries_may_be_missing():
    masked, plain = linear(X), linear(X, missing="refuse")
    assert masked.preprocessing_.masked
    state = plain.density_.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in masked.density_.state_dict().items())
    np.testing.assert_array_equal(masked.score_samples(X), plain.score_samples(X))


class Watched(DenseRows):
    """Rows that count the vectors of their width that are alive when the last block is read, and the largest block."""

    vectors, largest = 0, 0

    def batch(self, index):
        self.largest = max(self.largest, len(index))
        if index[-1] == len(self) - 1:
            alive = [o for o in gc.get_objects() if issubclass(type(o), torch.Tensor) and o.shape == (self.n_columns,)]
            self.vectors = max(self.vectors, len(alive))
        return super().batch(index)


@pytest.mark.parametrize("missing", [False, True])
def test_the_sums_of_the_linear_density_do_not_grow_with_the_rows(missing, monkeypatch):
    monkeypatch.setattr("isthmus.estimators.linear.MAX_EM_ITERATIONS", 2)
    found = []
    for n_blocks in (5, 15):
        x = np.random.default_rng(0).normal(size=(n_blocks * 1024, 7))
        x[::3, 0] = np.nan if missing else 0.0
        rows = Watched(x, Affine(np.zeros(7), np.ones(7)), fill=np.zeros(7) if missing else None, masked=missing)
        SubspaceDensity(7, 2).fit(torch.eye(7)[:, :2], rows)
        assert rows.largest == 1024
        found.append(rows.vectors)
    assert found[0] == found[1] > 0


def test_a_second_fit_keeps_nothing_of_the_density_of_the_first():
    model = LinearAutoencoder(code_size=2, max_epochs=1, random_state=0).fit(X[:60])
    assert model.score_kind_ == "exact"
    model.set_params(likelihood="bernoulli", scaling="minmax").fit(X[:60])
    assert not hasattr(model, "score_kind_")
    assert not hasattr(model, "score_samples")
