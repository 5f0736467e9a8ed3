"""The variational autoencoder: its density on data of a known one, its samples, missing entries, and its errors."""

from __future__ import annotations

import functools
import math
import sys
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import isthmus
from isthmus import (
    KL,
    L1,
    MLP,
    Convolutional,
    FlowPrior,
    GaussianPrior,
    MixturePrior,
    NormalPrior,
    VampPrior,
    VariationalAutoencoder,
)
from isthmus.errors import InputError
from isthmus.evaluation.likelihood import importance_log_prob
from isthmus.learning.trainer import Trainer

SMALL = {"code_size": 2, "hidden_sizes": (8,), "max_epochs": 2, "random_state": 0}
PRIORS = {
    "normal": "normal",
    "mixture": MixturePrior(k=3),
    "vamp": VampPrior(k=4),
    "flow": FlowPrior(n_transforms=1, hidden_sizes=(8,)),
}
every_prior = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS.keys())

# -- data of a known density --------------------------------------------------------------------------

N_COLUMNS = 8
LOADINGS = 0.8 * np.random.default_rng(3).normal(size=(N_COLUMNS, 2))
NOISE = np.random.default_rng(4).uniform(0.8, 1.2, N_COLUMNS)


def linear_rows(n: int, seed: int) -> np.ndarray:
    """Rows x = W h + noise + mean, of two factors."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ LOADINGS.T + NOISE * rng.normal(size=(n, N_COLUMNS)) + np.arange(N_COLUMNS)


X, OTHERS = linear_rows(1500, 1), linear_rows(300, 2)


def exact_log_density(model: VariationalAutoencoder, rows: np.ndarray) -> np.ndarray:
    """log p(x) in model space."""
    offset, scale = (np.ravel(part) for part in (model.preprocessing_.offset, model.preprocessing_.scale))
    covariance = (LOADINGS @ LOADINGS.T + np.diag(NOISE**2)) / np.outer(scale, scale)
    return multivariate_normal((np.arange(N_COLUMNS) - offset) / scale, covariance).logpdf((rows - offset) / scale)


@functools.cache
def linear_model(importance_samples: int = 1, prior: str = "normal") -> VariationalAutoencoder:
    return VariationalAutoencoder(
        code_size=2, hidden_sizes=(), max_epochs=40, batch_size=64, learning_rate=0.02, random_state=0,
        importance_samples=importance_samples, prior=prior,
    ).fit(X)  # fmt: skip


@pytest.mark.parametrize(("k", "prior"), [(1, "normal"), (5, "normal"), (1, "mixture")])
def test_scores_approach_the_exact_log_density(k, prior):
    model = linear_model(k, prior)
    gap = exact_log_density(model, OTHERS) - model.score_samples(OTHERS)
    assert model.score_kind_ == "bound"
    assert abs(gap.mean()) < 0.2
    assert np.abs(gap).mean() < 0.3


def test_learned_variances_are_those_of_the_noise():
    model = linear_model()
    assert model.likelihood_ == {"name": "gaussian-per-column"}
    expected = np.square(NOISE / np.ravel(model.preprocessing_.scale))
    found = model.coder_.likelihood.variance.detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0.3)


def test_samples_have_the_mean_and_the_covariance_of_the_data():
    samples = linear_model().sample(4000, random_state=0)
    covariance = LOADINGS @ LOADINGS.T + np.diag(NOISE**2)
    np.testing.assert_allclose(samples.mean(0), np.arange(N_COLUMNS), atol=0.25)
    assert np.abs(np.cov(samples.T) - covariance).max() < 0.2 * np.diag(covariance).max()


def test_means_of_samples_have_no_noise_of_the_likelihood():
    model = linear_model()
    means = model.sample(500, random_state=0, mean=True)
    values = np.linalg.svd(means - means.mean(0), compute_uv=False)
    assert values[2] < 1e-4 * values[0], "means of a linear decoder lie in the plane of the factors"


def test_scores_are_the_estimates_of_importance_sampling():
    model = linear_model()
    batch = model.preprocessing_.rows(OTHERS.astype(np.float32)).batch(torch.arange(100))
    found = importance_log_prob(model.coder_, batch, 500).log_prob.numpy()
    np.testing.assert_allclose(model.score_samples(OTHERS[:100], n_draws=500), found, atol=0.1)


def test_scores_rise_with_the_number_of_draws():
    model = VariationalAutoencoder(**SMALL | {"max_epochs": 6, "learning_rate": 1e-2}).fit(X)
    means = [np.mean([model.score_samples(OTHERS[:100], n_draws=n, random_state=seed) for seed in range(30)])
             for n in (1, 5, 50)]  # fmt: skip
    assert means == sorted(means)
    assert means[1] > means[0] + 0.01


@pytest.mark.parametrize("n_draws", [3, 10, 25])
def test_scores_are_those_of_the_formula(n_draws):
    model = linear_model()
    batch = model.preprocessing_.rows(OTHERS[:5].astype(np.float32)).batch(torch.arange(5))
    e = torch.randn(n_draws, 1, 2, generator=torch.Generator().manual_seed(3))
    coder = model.coder_
    with torch.no_grad():
        mean, log_variance = coder.inference.posterior(batch.x)
        q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
        h = q.mean + q.stddev * e
        log_p = -coder.likelihood.nll(coder.decoder(h), batch.x)
        log_w = log_p + torch.distributions.Normal(0, 1).log_prob(h).sum(-1) - q.log_prob(h).sum(-1)
    expected = log_w.logsumexp(0) - math.log(n_draws)
    np.testing.assert_allclose(model.score_samples(OTHERS[:5], n_draws=n_draws, random_state=3), expected, rtol=1e-4)


def test_the_score_of_a_row_does_not_depend_on_other_rows_and_their_order():
    model, order = linear_model(), np.random.default_rng(0).permutation(len(OTHERS))
    whole = model.score_samples(OTHERS)
    assert whole.shape == (len(OTHERS),)
    assert np.array_equal(model.score_samples(OTHERS[order]), whole[order])
    assert np.array_equal(model.score_samples(OTHERS[7:8]), whole[7:8])
    assert np.array_equal(model.score_samples(OTHERS), whole)


def test_the_seed_changes_scores_little():
    model = linear_model()
    first, second = (model.score_samples(OTHERS, random_state=seed) for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert np.abs(first - second).mean() < 0.3


def test_codes_are_the_means_of_the_posterior():
    model = linear_model()
    batch = model.preprocessing_.rows(OTHERS.astype(np.float32)).batch(torch.arange(10))
    with torch.no_grad():
        expected = model.coder_.inference.posterior(batch.x)[0]
    np.testing.assert_allclose(model.transform(OTHERS[:10]), expected, rtol=1e-4, atol=1e-5)


# -- samples ----------------------------------------------------------------------------------------------


def clusters(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.array([[-3.0, 0.0, 3.0], [3.0, 2.0, -3.0]])
    return centres[rng.integers(0, 2, n)] + rng.normal(size=(n, 3))


@pytest.mark.parametrize(("prior", "largest_accuracy"), [("normal", 0.68), ("vamp", 0.62)])
def test_samples_of_two_clusters_are_in_both_and_hard_to_tell_from_rows(prior, largest_accuracy):
    model = VariationalAutoencoder(
        code_size=2, hidden_sizes=(32,), prior=prior, max_epochs=70, batch_size=64, learning_rate=1e-2, random_state=0
    ).fit(clusters(1000, 0))
    n, others = 400, clusters(400, 1)
    samples = model.sample(n, random_state=0)
    assert 0.3 < (samples[:, 0] > 0).mean() < 0.7
    rows, labels = np.vstack([samples, others]), np.repeat([0, 1], n)
    accuracy = cross_val_score(KNeighborsClassifier(15), rows, labels, cv=5).mean()
    assert accuracy < largest_accuracy


@every_prior
def test_samples_depend_on_the_seed_and_on_no_global_generator(prior):
    model = VariationalAutoencoder(prior=prior, **SMALL).fit(X[:100])
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = model.sample(600, random_state=4)
    assert first.shape == (600, N_COLUMNS)
    assert np.isfinite(first).all()
    assert np.array_equal(first, model.sample(600, random_state=4))
    assert not np.array_equal(first, model.sample(600, random_state=5))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_the_order_of_sampling_and_scoring_has_no_effect():
    model = VariationalAutoencoder(prior="vamp", **SMALL).fit(X[:100])
    scores, codes = model.score_samples(X[:5]), model.transform(X[:5])
    model.sample(3)
    assert np.array_equal(model.score_samples(X[:5]), scores)
    assert np.array_equal(model.transform(X[:5]), codes)


# -- every prior: files, going on, failures ---------------------------------------------------------------


@every_prior
@pytest.mark.parametrize("k", [1, 3])
def test_a_file_holds_the_prior(prior, k, tmp_path):
    model = VariationalAutoencoder(prior=prior, importance_samples=k, **SMALL).fit(X[:100])
    model.save(tmp_path / "model.safetensors")
    loaded = isthmus.load(tmp_path / "model.safetensors")
    assert loaded.get_params() == model.get_params()
    assert loaded.score_kind_ == "bound"
    assert np.array_equal(loaded.score_samples(X[:9]), model.score_samples(X[:9]))
    assert np.array_equal(loaded.sample(9, random_state=0), model.sample(9, random_state=0))
    assert np.array_equal(loaded.transform(X[:9]), model.transform(X[:9]))


@every_prior
def test_the_same_seed_gives_the_same_model(prior):
    first, second = (VariationalAutoencoder(prior=prior, **SMALL).fit(X[:100]) for _ in range(2))
    assert np.array_equal(first.score_samples(X[:9]), second.score_samples(X[:9]))


@every_prior
def test_a_warm_start_goes_on_from_the_prior(prior):
    model = VariationalAutoencoder(prior=prior, warm_start=True, **SMALL).fit(X[:200])
    before = {name: tensor.clone() for name, tensor in model.coder_.state_dict().items()}
    model.set_params(learning_rate=1e-12, optimizer="sgd").fit(X[:200])
    for name, tensor in model.coder_.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-4, atol=1e-5)


def weights_of_the_divergence(model: VariationalAutoencoder, call: str, rows: np.ndarray, monkeypatch) -> list[float]:
    """The weights of the divergence in the steps of a call."""
    weights, descend = [], Trainer._descend

    def watched(trainer, batch):
        weights.append(trainer.objective.weight_at(trainer._progress))
        descend(trainer, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_descend", watched)
        getattr(model, call)(rows)
    return weights


def test_the_weight_of_a_fit_rises_in_the_first_tenth_of_the_steps(monkeypatch):
    model = VariationalAutoencoder(**SMALL | {"max_epochs": 10, "kl": KL(beta=2.0)})
    weights = weights_of_the_divergence(model, "fit", X[:200], monkeypatch)
    n = len(weights)
    np.testing.assert_allclose(weights, [min(2.0, 20.0 * i / n) for i in range(n)])


def test_partial_fit_trains_the_divergence(monkeypatch):
    """Its progress stays 0, at which a warm-up has the weight 0."""
    model = VariationalAutoencoder(**SMALL)
    for _ in range(2):
        assert set(weights_of_the_divergence(model, "partial_fit", X[:200], monkeypatch)) == {1.0}


def test_a_warm_start_keeps_the_weight_of_the_divergence(monkeypatch):
    """The codes of a fitted model need no second warm-up, in which their distribution would shrink to points."""
    model = VariationalAutoencoder(warm_start=True, **SMALL).fit(X[:200])
    assert set(weights_of_the_divergence(model, "fit", X[:200], monkeypatch)) == {1.0}


@every_prior
def test_partial_fit_trains_every_prior(prior):
    model = VariationalAutoencoder(prior=prior, **SMALL)
    for part in np.split(X[:300], 3):
        model.partial_fit(part)
    assert np.isfinite(model.score_samples(X[:20])).all()
    assert np.isfinite(model.sample(5, random_state=0)).all()


def test_a_fit_that_fails_for_want_of_zuko_leaves_the_model(monkeypatch):
    model = VariationalAutoencoder(**SMALL).fit(X[:100])
    scores = model.score_samples(X[:5])
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(InputError, match="zuko"):
        model.set_params(prior="flow").fit(X[:100])
    model.set_params(prior="normal")
    assert np.array_equal(model.score_samples(X[:5]), scores)


def test_rows_of_weight_0_are_left_out_and_weights_are_used():
    weight = np.r_[np.ones(100), np.zeros(100)]
    rows = np.vstack([X[:100], X[:100] + 50])
    weighted = VariationalAutoencoder(**SMALL).fit(rows, sample_weight=weight)
    plain = VariationalAutoencoder(**SMALL).fit(rows)
    assert weighted.score_samples(X[:50]).mean() != plain.score_samples(X[:50]).mean()
    np.testing.assert_allclose(np.ravel(weighted.preprocessing_.offset), X[:100].mean(0), rtol=1e-4)


def test_a_pipeline_and_a_clone_keep_the_values():
    model = VariationalAutoencoder(prior=VampPrior(k=3), kl=KL(beta=2.0), **SMALL)
    pipeline = clone(make_pipeline(StandardScaler(), model)).set_params(variationalautoencoder__kl__beta=0.5)
    pipeline.fit(X[:100])
    assert pipeline[-1].kl == KL(beta=0.5)
    assert pipeline.transform(X[:9]).shape == (9, 2)
    assert pipeline.score_samples(X[:9]).shape == (9,)


# -- importance samples ---------------------------------------------------------------------------------


def test_importance_samples_reach_a_higher_bound_in_the_same_steps():
    """On binary digits; the average of three seeds."""
    digits = (load_digits().data[:900] > 7).astype(np.float32)
    means = []
    for k in (1, 5):
        scores = [
            VariationalAutoencoder(
                code_size=8, hidden_sizes=(32,), importance_samples=k, max_epochs=25, batch_size=64,
                learning_rate=1e-2, random_state=seed, patience=None,
            ).fit(digits[:600]).score_samples(digits[600:]).mean()
            for seed in range(3)
        ]  # fmt: skip
        means.append(np.mean(scores))
    assert means[1] > means[0]


# -- likelihoods ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "likelihood"),
    [
        (X[:60], "gaussian-per-column"),
        (np.random.default_rng(0).random((60, 4)), "gaussian-per-column"),
        (np.random.default_rng(0).random((60, 4, 4)), "gaussian-learned"),
        ((X[:60] > 2).astype(float), "bernoulli"),
    ],
)
def test_auto_learns_the_variances_of_real_columns(rows, likelihood):
    assert VariationalAutoencoder(**SMALL).fit(rows).likelihood_["name"] == likelihood


@pytest.mark.parametrize("name", ["gaussian", "gaussian-unit", "gaussian-predicted", "continuous-bernoulli", "poisson"])
def test_an_explicit_likelihood_is_kept(name):
    rows = np.random.default_rng(0).random((60, 4)).round(3)
    rows = (9 * rows).round() if name == "poisson" else rows
    model = VariationalAutoencoder(likelihood=name, **SMALL).fit(rows)
    assert model.likelihood_["name"] == name
    assert np.isfinite(model.score_samples(rows)).all()
    assert model.sample(3, random_state=0).shape == (3, 4)


# -- tables -----------------------------------------------------------------------------------------------


def table(n: int = 300, gaps: bool = True) -> pd.DataFrame:
    """Two kinds of rows, with columns of every unit."""
    rng = np.random.default_rng(0)
    c = rng.integers(0, 2, n)
    made = pd.DataFrame({
        "real": 4 * c + rng.normal(size=n),
        "binary": np.where(rng.random(n) < 0.2 + 0.6 * c, "yes", "no"),
        "level": np.array(["a", "b", "c"])[np.minimum(c + rng.integers(0, 2, n), 2)],
        "count": rng.poisson(2 + 5 * c),
        "other": rng.normal(size=n),
    })  # fmt: skip
    return made.astype({"count": "Int64"}).mask(rng.random(made.shape) < 0.15) if gaps else made


@functools.cache
def table_model(gaps: bool = True) -> VariationalAutoencoder:
    model = VariationalAutoencoder(
        code_size=2, hidden_sizes=(16,), max_epochs=30, learning_rate=1e-2, missing="mask", random_state=0
    )
    return model.fit(table(gaps=gaps))


@pytest.mark.parametrize("gaps", [False, True])
def test_samples_of_a_table_have_its_columns_levels_and_whole_counts(gaps):
    model, rows = table_model(gaps), table(gaps=gaps)
    assert model.likelihood_["name"] == "mixed"
    assert model.likelihood_["learned_variance"]
    samples = model.sample(400, random_state=0)
    assert list(samples) == list(rows)
    assert len(samples) == 400
    assert not samples.isna().to_numpy().any()
    assert set(samples["binary"]) == {"yes", "no"}
    assert set(samples["level"]) == {"a", "b", "c"}
    counts = samples["count"].to_numpy(float)
    assert (counts == counts.round()).all()
    assert (counts >= 0).all()
    assert counts.mean() == pytest.approx(rows["count"].mean(), rel=0.3)
    assert 0.2 < (samples["real"] > 2).mean() < 0.8


def test_counts_of_samples_are_integers_as_in_the_table():
    assert pd.api.types.is_integer_dtype(table_model(False).sample(5, random_state=0)["count"])


def skewed(n: int = 300) -> pd.DataFrame:
    """Measurements with one and two decimals, zeros, tails, and years."""
    rng = np.random.default_rng(0)
    size = rng.lognormal(3, 1, n).round(1)
    return pd.DataFrame({
        "size": size,
        "rain": np.where(rng.random(n) < 0.5, 0, (size / 10 + rng.gamma(2, 1, n)).round(2)),
        "ratio": size / (1 + rng.random(n)),
        "year": rng.integers(1900, 2000, n),
    })  # fmt: skip


@functools.cache
def skewed_model(scaling: str = "auto") -> VariationalAutoencoder:
    return VariationalAutoencoder(code_size=2, max_epochs=40, scaling=scaling, random_state=0).fit(skewed())


@pytest.mark.parametrize("scaling", ["auto", "standard"])
def test_samples_have_the_decimals_and_the_range_of_real_columns(scaling):
    rows, model = skewed(), skewed_model(scaling)
    samples = model.sample(500, random_state=0)
    for name, decimals in {"size": 1, "rain": 2, "ratio": None, "year": 0}.items():
        assert samples[name].between(rows[name].min(), rows[name].max()).all()
        if decimals is not None:
            assert (samples[name].round(decimals) == samples[name]).all()
    means = model.sample(500, random_state=0, mean=True)
    assert (means.round(2) != means).any().all(), "means are not rounded"
    decoded = model.inverse_transform(100 * np.eye(2))
    assert (decoded.max() > rows.max()).any() or (decoded.min() < rows.min()).any(), "decodings are not clipped"


def test_samples_of_a_table_have_the_distributions_of_its_columns_by_default():
    rows, model = skewed(), skewed_model()
    assert list(model.preprocessing_.quantiles) == [0, 1, 2, 3]
    assert not skewed_model("standard").preprocessing_.quantiles
    samples = model.sample(2000, random_state=0)
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    np.testing.assert_allclose(samples["size"].quantile(levels), rows["size"].quantile(levels), rtol=0.25)
    assert (samples["rain"] == 0).mean() == pytest.approx((rows["rain"] == 0).mean(), abs=0.1)


def test_a_model_with_normal_scores_is_saved_with_its_maps(tmp_path):
    model = skewed_model()
    model.save(tmp_path / "m.isthmus")
    loaded = isthmus.load(tmp_path / "m.isthmus")
    pd.testing.assert_frame_equal(loaded.sample(9, random_state=0), model.sample(9, random_state=0))
    assert np.array_equal(loaded.score_samples(skewed()), model.score_samples(skewed()))
    assert loaded.preprocessing_.table == model.preprocessing_.table


def test_reconstructions_beyond_the_range_keep_the_order():
    model, rows = skewed_model(), skewed().iloc[:1]
    far = pd.concat([rows.assign(size=size) for size in (1e3, 1e4, 1e5)], ignore_index=True)
    assert (np.diff(model.score_samples(far)) < 0).all()


def test_the_default_learning_rate_is_that_of_the_data():
    few = {"code_size": 2, "max_epochs": 3, "random_state": 0}

    def largest(X, **options):
        fitted = VariationalAutoencoder(**few, **options).fit(X)
        return max(epoch["learning_rate"] for epoch in fitted.history_["epochs"])

    table_rate, array_rate = largest(skewed()), largest(skewed().to_numpy(float))
    assert 5e-3 < table_rate <= 1e-2
    assert 1e-3 < array_rate <= 2e-3
    assert largest(skewed(), learning_rate=1e-3) <= 1e-3


def test_conditions_of_a_model_with_normal_scores_are_standardised():
    rows = skewed()
    model = VariationalAutoencoder(code_size=1, condition="ratio", max_epochs=2, random_state=0).fit(rows)
    assert list(model.preprocessing_.quantiles) == [0, 1, 2]
    assert not model.preprocessing_.condition.quantiles
    samples = model.sample(20, random_state=0, condition={"ratio": 7.5})
    assert list(samples) == list(rows)
    np.testing.assert_allclose(samples["ratio"], 7.5, rtol=1e-5)


def test_means_of_samples_of_a_table_are_means():
    means = table_model().sample(50, random_state=0, mean=True)
    assert set(means["level"]) <= {"a", "b", "c"}
    assert (means["count"] != means["count"].round()).any()


def test_rows_with_gaps_have_codes_and_scores():
    model, rows = table_model(), table()
    assert model.transform(rows).shape == (300, 2)
    assert np.isfinite(model.transform(rows)).all()
    assert np.isfinite(model.score_samples(rows)).all()
    nothing = rows.iloc[:3].mask(np.ones((3, rows.shape[1]), bool))
    np.testing.assert_allclose(model.score_samples(nothing, n_draws=2000), 0, atol=0.2)


@pytest.mark.parametrize("network", ["mlp", MLP((8,), normalization="batch")])
@every_prior
def test_the_score_is_that_of_the_observed_entries(network, prior):
    model = VariationalAutoencoder(
        code_size=2, network=network, prior=prior, missing="mask", max_epochs=2, random_state=0
    ).fit(table())
    batch = model._rows(table()).batch(torch.arange(40))
    assert (batch.mask == 0).any()
    model.coder_.eval()
    with torch.no_grad():
        found = model._importance_bound(batch, 15, 0)
        for placeholder in (0.0, 1.0, 77.0):
            other = replace(batch, x=torch.where(batch.mask > 0, batch.x, placeholder))
            torch.testing.assert_close(model._importance_bound(other, 15, 0), found)


def test_a_missing_entry_is_another_row_than_any_value():
    model, rows = table_model(), table(gaps=False).iloc[:5]
    assert not np.array_equal(model.score_samples(rows), model.score_samples(rows.assign(real=np.nan)))


def test_the_density_of_observed_entries_is_the_marginal_density():
    """Of the linear model: the score of a row with gaps against the Gaussian of its observed columns."""
    rng = np.random.default_rng(0)
    rows = X.copy()
    rows[rng.random(rows.shape) < 0.2] = np.nan
    model = VariationalAutoencoder(
        code_size=2, hidden_sizes=(32,), max_epochs=40, batch_size=64, learning_rate=0.01, missing="mask",
        random_state=0,
    ).fit(rows)  # fmt: skip
    offset, scale = (np.ravel(part) for part in (model.preprocessing_.offset, model.preprocessing_.scale))
    covariance = (LOADINGS @ LOADINGS.T + np.diag(NOISE**2)) / np.outer(scale, scale)
    seen = [0, 2, 3, 6]
    some = np.full_like(OTHERS, np.nan)
    some[:, seen] = OTHERS[:, seen]
    centre = (np.arange(N_COLUMNS) - offset) / scale
    exact = multivariate_normal(centre[seen], covariance[np.ix_(seen, seen)]).logpdf(((some - offset) / scale)[:, seen])
    assert abs((exact - model.score_samples(some)).mean()) < 0.25


# -- images -----------------------------------------------------------------------------------------------

BYTES = (load_digits().images[:150] * 15).astype(np.uint8)


@pytest.mark.parametrize("network", ["mlp", Convolutional((4,), dense_sizes=(8,))])
@pytest.mark.parametrize("images", [BYTES, BYTES / 255.0], ids=["bytes", "unit interval"])
def test_images_are_sampled_in_their_own_type(images, network):
    model = VariationalAutoencoder(code_size=2, network=network, max_epochs=3, random_state=0).fit(images)
    assert model.likelihood_ == {"name": "gaussian-learned"}
    samples = model.sample(5, random_state=0)
    assert samples.shape == (5, 8, 8)
    assert samples.dtype == images.dtype
    assert model.reconstruct(images[:3]).shape == (3, 8, 8)
    assert np.isfinite(model.score_samples(images)).all()


def test_bytes_and_their_fractions_have_the_same_scores():
    first, second = (
        VariationalAutoencoder(code_size=2, hidden_sizes=(8,), max_epochs=3, random_state=0).fit(images)
        for images in (BYTES, BYTES / 255.0)
    )
    np.testing.assert_allclose(first.score_samples(BYTES), second.score_samples(BYTES / 255.0), rtol=1e-3)


@pytest.mark.parametrize("prior", ["normal", VampPrior(k=3)])
def test_convolutions_with_gaps(prior):
    images = np.where(np.random.default_rng(0).random(BYTES.shape) < 0.2, np.nan, BYTES / 255.0)
    model = VariationalAutoencoder(
        code_size=2, network=Convolutional((4,), dense_sizes=(8,)), prior=prior, missing="mask", max_epochs=2,
        random_state=0,
    ).fit(images)  # fmt: skip
    assert np.isfinite(model.score_samples(images)).all()
    assert np.isfinite(model.transform(images)).all()
    assert model.sample(2, random_state=0).shape == (2, 8, 8)
    filled, whole = (model._rows(rows).batch(torch.arange(5)) for rows in (images, np.nan_to_num(images)))
    model.coder_.eval()
    with torch.no_grad():
        assert not torch.allclose(model._importance_bound(filled, 1, 0), model._importance_bound(whole, 1, 0))


# -- errors -----------------------------------------------------------------------------------------------

WRONG = {
    "no samples": ({"importance_samples": 0}, "importance_samples=0: it must be a whole number of at least 1"),
    "text": ({"importance_samples": "abc"}, "importance_samples='abc'"),
    "a fraction": ({"importance_samples": 2.5}, "importance_samples=2.5"),
    "a flag": ({"importance_samples": True}, "importance_samples=True"),
    "a number as kl": ({"kl": 5}, "kl=5: give"),
    "no kl": ({"kl": None}, "kl=None: give"),
    "unknown kl": ({"kl": "elb"}, "kl='elb' is unknown; did you mean 'elbo'"),
    "the class": ({"kl": KL}, "kl=KL is a class"),
    "unknown prior": ({"prior": "gaus"}, "prior='gaus' is unknown"),
    "no prior": ({"prior": None}, "prior=None: give"),
    "another prior": ({"prior": GaussianPrior()}, "prior=GaussianPrior\\(\\): give"),
    "free bits, mixture": ({"kl": KL(free_bits=0.1), "prior": "mixture"}, "free bits need .*prior='normal'"),
    "free bits, vamp": ({"kl": KL(free_bits=0.1), "prior": "vamp"}, "free bits need .*prior='normal'"),
    "free bits, samples": ({"kl": KL(free_bits=0.1), "importance_samples": 2}, "free bits need"),
    "weight, samples": ({"kl": KL(beta=2.0), "importance_samples": 2}, "give beta=1"),
    "no weight, samples": ({"kl": KL(beta=0.0), "importance_samples": 2}, "give beta=1"),
    "penalties, samples": ({"penalties": [L1()], "importance_samples": 2}, "penalties need importance_samples=1"),
    "no penalties": ({"penalties": None, "importance_samples": 2}, "penalties=None"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_arguments_are_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        VariationalAutoencoder(**SMALL | arguments).fit(X[:50])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: VampPrior(k=0), lambda: MixturePrior(k=0), lambda: FlowPrior(n_transforms=0),
        lambda: FlowPrior(hidden_sizes=(0,)), lambda: KL(beta=-1), lambda: KL(warmup=1.5), lambda: KL(free_bits=-0.1),
        lambda: KL(beta=math.nan), lambda: KL(warmup=math.nan), lambda: KL(warmup=True), lambda: KL(beta="4"),
    ],
)  # fmt: skip
def test_wrong_fields_of_values_are_refused_in_one_line(build):
    with pytest.raises(InputError) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_values_that_are_allowed_together_are_accepted():
    for arguments in (
        {"kl": KL(free_bits=0.1), "prior": NormalPrior()},
        {"kl": KL(beta=4.0, warmup=0)},
        {"kl": KL(beta=0.0), "prior": "mixture"},
        {"penalties": [L1(weight=0.1)]},
        {"importance_samples": np.int64(2), "kl": KL(warmup=0.5)},
    ):
        VariationalAutoencoder(**SMALL | {"max_epochs": 1} | arguments).fit(X[:50])


@pytest.mark.parametrize("call", [lambda m: m.sample(0), lambda m: m.score_samples(X[:3], n_draws=0)])
def test_numbers_of_samples_below_1_are_refused(call):
    with pytest.raises(InputError, match="must be a whole number of at least 1"):
        call(linear_model())


def test_a_fit_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = VariationalAutoencoder(prior="mixture", **SMALL).fit(X[:60])
        model.score_samples(X[:5])
        model.sample(5)


def test_batch_normalisation_with_pseudo_inputs_reconstructs_in_evaluation_as_in_training():
    network = MLP((16,), normalization="batch")
    errors = [
        VariationalAutoencoder(
            code_size=2, network=network, prior=prior, max_epochs=20, learning_rate=1e-2, random_state=0
        ).fit(X[:400]).reconstruction_error(X[:400]).mean()
        for prior in ("normal", VampPrior(k=2))
    ]  # fmt: skip
    assert errors[1] < 1.5 * errors[0]


def test_tied_weights_are_refused():
    with pytest.raises(InputError, match="leave tied out"):
        VariationalAutoencoder(network=MLP(tied=True), code_size=2).fit(np.zeros((30, 3)))
