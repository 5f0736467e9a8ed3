"""`fit(X, sample_weight=)`: a row of weight 2 counts as two rows, and a row of weight 0 is left out."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import clone, config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from isthmus import Autoencoder, CodeClassifier, CodeRegressor, InputError, LinearAutoencoder, StackedAutoencoder
from isthmus.data.streams import WeightedRows
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.regularized import median_row
from isthmus.learning.rows import mean_row
from isthmus.learning.trainer import mean_over_rows

from .fitted import X, criterion, fitted
from .interruptions import kill
from .kinds import KINDS

rng = np.random.default_rng(0)
COUNTS = rng.integers(0, 4, 60)
NORMAL = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)) + 3.0
LINEAR = LinearAutoencoder(code_size=2, validation_fraction=0.0, random_state=0)
SMALL = Autoencoder(code_size=2, hidden_sizes=(4,), max_epochs=2, random_state=0, precision="fp32")

OTHER_STEPS = {
    "deep, codes close to a prior": "the samples of the prior, whose random numbers depend on the number of rows",
    "deep, tied, noisy, normalised": "the moments of batch normalisation",
    "sparse, k on average": "the k largest activations of the batch",
    "sparse, denoising, convolutional": "the k largest activations of the batch",
    "contractive, second order, deep": "the neighbours of rows, whose random numbers depend on the number of rows",
    "contractive, denoising, probed convolutions": "the probes of rows, which are random numbers as well",
    **dict.fromkeys(
        (name for name in KINDS if name.startswith("variational")),
        "the samples of the codes, whose random numbers depend on the number of rows",
    ),
    "dbn": "the samples of the wake phase, whose random numbers depend on the number of rows",
}
"""Kinds whose step depends on more than the means of terms over rows, and why."""


@pytest.mark.parametrize("name", [name for name in KINDS if name not in OTHER_STEPS])
def test_a_step_with_weights_has_the_loss_and_the_gradient_of_repeated_rows(name):
    batch = fitted(name).preprocessing_.rows(X).batch(torch.arange(40))
    counts = torch.arange(40) % 3
    weighted = WeightedRows(fitted(name).preprocessing_.rows(X), counts.float()).batch(torch.arange(40))
    repeated = fitted(name).preprocessing_.rows(X).batch(torch.arange(40).repeat_interleave(counts))
    found, expected, unweighted = (step(name, rows) for rows in (weighted, repeated, batch))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], unweighted[0], rtol=1e-4)


def step(name, batch):
    """The loss of a batch without random numbers, its gradient, and what the step carries."""
    objective = criterion(fitted(name)).train()
    terms, carried = objective.terms(batch, 0.5, None)
    loss = sum(mean_over_rows(term, objective.row_weights(batch)) for term in terms.values())
    if loss.requires_grad:  # else the weights are updated in closed form
        loss.backward()
    objective.update(carried)
    offsets = [value for name, value in objective.named_buffers() if "offset" in name]
    return [loss.detach(), *(p.grad for p in objective.parameters() if p.grad is not None), *offsets]


@pytest.mark.parametrize("name", KINDS)
def test_rows_of_weight_zero_change_nothing(name):
    kept = np.arange(100) % 2 == 0
    rows = np.where(kept[:, None], X[:100], 1e6 - X[:100])
    model = clone(KINDS[name]).set_params(max_epochs=1, scaling="none")
    weights = rng.integers(1, 3, 100) * kept
    with_zeros, without = (
        clone(model).fit(rows, sample_weight=weights),
        model.fit(rows[kept], sample_weight=weights[kept]),
    )
    assert with_zeros.n_rows_ == 45
    np.testing.assert_array_equal(with_zeros.transform(X), without.transform(X))


@pytest.mark.parametrize("missing", ["refuse", "mean", "median", "mask"])
def test_scaling_baseline_and_density_are_those_of_repeated_rows(missing):
    holes = NORMAL.copy()
    if missing != "refuse":
        holes[::4, 1] = np.nan
    model = clone(LINEAR).set_params(missing=missing, max_epochs=1)
    weighted = clone(model).fit(holes, sample_weight=COUNTS)
    repeated = clone(model).fit(np.repeat(holes, COUNTS, axis=0))
    for name in ("offset", "scale", *(["fill"] if missing != "refuse" else [])):
        found, expected = (getattr(m.preprocessing_, name) for m in (weighted, repeated))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(weighted.baseline_.mean, repeated.baseline_.mean, atol=1e-6)
    np.testing.assert_allclose(weighted.baseline_.components, repeated.baseline_.components, atol=1e-5)
    decoder = torch.eye(5)[:, :2]
    rows = SurveyedRows(WeightedRows(weighted.preprocessing_.rows(holes), torch.from_numpy(COUNTS).float()), None, [])
    weighted._density.fit(decoder, rows)
    repeated._density.fit(decoder, repeated.preprocessing_.rows(np.repeat(holes, COUNTS, axis=0)))
    torch.testing.assert_close(weighted._density.variances, repeated._density.variances, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(weighted.score_samples(holes), repeated.score_samples(holes), rtol=1e-3)


def test_the_initial_rows_are_weighted():
    rows, counts = fitted("linear").preprocessing_.rows(X[:40]), torch.arange(40) % 3
    repeated = fitted("linear").preprocessing_.rows(np.repeat(X[:40], counts, axis=0))
    weighted = WeightedRows(rows, counts.float())
    torch.testing.assert_close(mean_row(weighted), mean_row(repeated))
    torch.testing.assert_close(median_row(weighted), median_row(repeated))


def test_a_converged_linear_fit_has_the_error_of_the_weighted_principal_components():
    weights = np.where(np.arange(60) < 10, 20.0, 0.1)
    model = clone(LINEAR).set_params(scaling="none", max_epochs=2000, batch_size=60, learning_rate=0.02, patience=None)
    model.fit(NORMAL, sample_weight=weights)
    x = model.preprocessing_.rows(NORMAL).batch(torch.arange(60)).x
    optimum = np.average(model.baseline_.squared_error(x), weights=weights)
    assert np.average(model.reconstruction_error(NORMAL), weights=weights) == pytest.approx(optimum, rel=0.01)
    assert model.history_["squared_error"]["pca"] == pytest.approx(optimum, rel=1e-4)
    assert model.history_["squared_error"]["model"] == pytest.approx(optimum, rel=0.01)
    unweighted = clone(model).fit(NORMAL)
    assert np.average(unweighted.reconstruction_error(NORMAL), weights=weights) > 1.05 * optimum


def test_equal_weights_of_any_scale_give_nearly_the_unweighted_fit():
    plain = clone(SMALL).fit(NORMAL).transform(NORMAL)
    for scale in (1.0, 1e-30, 1e30):
        codes = clone(SMALL).fit(NORMAL, sample_weight=np.full(60, scale)).transform(NORMAL)
        np.testing.assert_allclose(codes, plain, rtol=1e-3, atol=1e-4)


def test_weights_follow_the_rows_into_training_and_validation_rows():
    weighted = WeightedRows(fitted("linear").preprocessing_.rows(X), torch.arange(300).float())
    parts = LINEAR.set_params(validation_fraction=0.1)._split_validation(
        weighted, None, None, torch.Generator().manual_seed(0)
    )
    for rows, n in zip(parts, (270, 30), strict=True):
        batch = rows.batch(torch.arange(n))
        assert torch.equal(batch.weight, batch.rows.float())


def test_the_weights_reach_every_layer_of_a_supervised_stack():
    y = np.arange(300) % 2
    stack = StackedAutoencoder(
        code_size=3, hidden_sizes=(8,), pretraining="supervised", max_epochs=2, random_state=0, precision="fp32"
    )
    kept = np.arange(300) < 150
    model = clone(stack).set_params(scaling="none").fit(X, y, sample_weight=kept)
    alone = clone(stack).set_params(scaling="none").fit(X[kept], y[kept], sample_weight=np.ones(150))
    np.testing.assert_array_equal(model.transform(X), alone.transform(X))
    unequal = clone(stack).set_params(scaling="none").fit(X, y, sample_weight=1 + 9 * y)
    assert not np.allclose(unequal.transform(X), clone(stack).set_params(scaling="none").fit(X, y).transform(X))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(59), r"X has 60 rows and sample_weight the shape \(59,\); give one weight per row"),
        (np.ones((60, 1)), r"X has 60 rows and sample_weight the shape \(60, 1\); give one weight per row"),
        (["a"] * 60, "sample_weight holds values that are not numbers; give one weight per row"),
        (np.r_[np.ones(7), np.nan, np.ones(52)], "sample_weight is nan at row 7; weights must be finite and 0 or more"),
        (np.r_[-1, np.ones(59)], "sample_weight is -1 at row 0; weights must be finite and 0 or more"),
        (np.zeros(60), "sample_weight is zero for every row; give some rows a weight above 0"),
        (np.eye(60)[0], "sample_weight is above 0 in one row alone: training needs at least two rows"),
    ],
)
def test_invalid_weights_are_refused(weights, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        clone(SMALL).fit(NORMAL, sample_weight=weights)
    if "alone" not in message:
        with pytest.raises(InputError, match=f"^{message}$"):
            CodeClassifier(encoder=SMALL).fit(NORMAL, np.arange(60) % 2, sample_weight=weights)


@pytest.mark.parametrize("now", [None, COUNTS + 1])
def test_resume_refuses_other_weights(now, tmp_path, monkeypatch):
    kill(partial(clone(SMALL).fit, NORMAL, sample_weight=COUNTS, checkpoint=tmp_path / "m"), monkeypatch, after=2)
    with pytest.raises(InputError, match=r"with other arguments: .*sample_weight \(\w+ then, \w+ now\)"):
        clone(SMALL).fit(NORMAL, sample_weight=now, checkpoint=tmp_path / "m", resume=True)


def test_a_resumed_run_with_weights_ends_with_equal_weights(tmp_path, monkeypatch):
    kill(partial(clone(SMALL).fit, NORMAL, sample_weight=COUNTS, checkpoint=tmp_path / "m"), monkeypatch, after=2)
    again = clone(SMALL).fit(NORMAL, sample_weight=COUNTS, checkpoint=tmp_path / "m", resume=True)
    uncut = clone(SMALL).fit(NORMAL, sample_weight=COUNTS)
    np.testing.assert_array_equal(again.transform(NORMAL), uncut.transform(NORMAL))


def test_a_pipeline_passes_requested_weights():
    with config_context(enable_metadata_routing=True):
        coder = clone(SMALL).set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, coder).fit(NORMAL, sample_weight=COUNTS)
    scaled = StandardScaler().fit(NORMAL, sample_weight=COUNTS).transform(NORMAL)
    expected = clone(SMALL).fit(scaled, sample_weight=COUNTS).transform(scaled)
    np.testing.assert_array_equal(pipeline.transform(NORMAL), expected)
    assert not np.allclose(expected, clone(SMALL).fit(scaled).transform(scaled))


@pytest.mark.parametrize("weights", [COUNTS.tolist(), pd.Series(COUNTS), COUNTS.astype(np.float32)])
def test_weights_may_be_a_list_a_series_or_of_another_type(weights):
    expected = clone(SMALL).fit(NORMAL, sample_weight=COUNTS).transform(NORMAL)
    np.testing.assert_array_equal(clone(SMALL).fit(NORMAL, sample_weight=weights).transform(NORMAL), expected)


CODER = LinearAutoencoder(code_size=3, max_epochs=20, random_state=0)


def test_a_classifier_learns_the_classes_of_rows_with_large_weights():
    rows = np.tile(NORMAL, (4, 1))
    y = np.repeat([0, 1, 0, 1], 60)  # each row occurs twice in each class
    for heavy in (0, 1):
        model = CodeClassifier(encoder=CODER, max_epochs=60, learning_rate=0.02, random_state=0)
        model.fit(rows, y, sample_weight=np.where(y == heavy, 4.0, 1.0))
        assert model.predict_proba(NORMAL)[:, heavy].mean() == pytest.approx(0.8, abs=0.05)


def test_a_regressor_ignores_targets_of_weight_zero():
    rows, y = np.tile(NORMAL, (4, 1)), np.repeat([1.0, 3.0, 1.0, 3.0], 60)
    model = CodeRegressor(encoder=CODER, max_epochs=60, learning_rate=0.02, random_state=0)
    model.fit(rows, y, sample_weight=y == 1.0)
    np.testing.assert_allclose(model.predict(NORMAL), 1.0, atol=0.1)


def test_an_unfitted_encoder_gets_the_weights():
    y, weights = np.arange(60) % 2, COUNTS.astype(float)
    model = CodeClassifier(encoder=CODER, frozen=True, max_epochs=1, random_state=0)
    model.fit(NORMAL, y, sample_weight=weights)
    alone = clone(CODER).fit(NORMAL, sample_weight=weights)
    np.testing.assert_array_equal(model.encoder_.transform(NORMAL), alone.transform(NORMAL))


def test_weights_and_rows_without_labels_go_together():
    y = np.where(np.arange(300) % 3 == 0, np.arange(300) % 2, -1)
    weights = 1.0 + (np.arange(300) % 5 > 0)
    model = CodeClassifier(
        encoder=fitted("linear"), unlabeled=-1, reconstruction_weight=0.1, max_epochs=2, random_state=0
    ).fit(X, y, sample_weight=weights)
    assert np.isfinite([line["train"] for line in model.history_["epochs"]]).all()
    with pytest.raises(InputError, match="every row with a label has the sample_weight 0"):
        clone(model).fit(X, y, sample_weight=y == -1)


def test_the_likelihood_is_chosen_from_rows_of_a_weight_above_zero():
    rows = np.vstack([rng.integers(0, 2, (50, 4)), np.full((10, 4), 7)]).astype(float)
    model = clone(SMALL).set_params(scaling="none")
    assert clone(model).fit(rows).likelihood_["name"] != "bernoulli"
    weights = np.repeat([1, 0], [50, 10])
    assert clone(model).fit(rows, sample_weight=weights).likelihood_["name"] == "bernoulli"
