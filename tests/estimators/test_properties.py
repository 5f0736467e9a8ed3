"""What every kind promises, asked of every kind."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import PCD, Convolutional, InputError, InputWarning
from isthmus.estimators.registry import KINDS as REGISTERED
from isthmus.estimators.training_config import training_config_for
from isthmus.parts.sparsity import DeadUnits

from .fitted import X, criterion, equal, fitted, kept_state, state
from .kinds import COMPLETE_ROWS, EXPECTED_FAILURES, IMPLIED_SIZE, KINDS, ONE_LIKELIHOOD, WITHOUT_RATE

FEW = X[:100]
IMAGES = load_digits().images[:60]

every_kind = pytest.mark.parametrize("name", KINDS)


def every_kind_but(*others):
    """Parametrize a test by the kinds that are not listed."""
    return pytest.mark.parametrize("name", [name for name in KINDS if name not in others])


def quick(name):
    """The kind for tests that fit it themselves: one epoch."""
    return clone(KINDS[name]).set_params(max_epochs=1)


CHECKED = {
    "linear": {"max_epochs": 3},
    "deep": {"max_epochs": 3, "hidden_sizes": (4,)},
    "conv": {"max_epochs": 3, "network": Convolutional((2,), dense_sizes=(4,))},
    "denoising": {"max_epochs": 3, "code_size": 4},
    "sparse": {"max_epochs": 3, "code_size": 4},
    "sparse-coding": {"max_epochs": 3, "code_size": 4},
    "psd": {"max_epochs": 3, "code_size": 4},
    "contractive": {"max_epochs": 3, "code_size": 4},
    "vae": {"max_epochs": 3, "hidden_sizes": (4,)},
    "stacked": {"max_epochs": 2, "hidden_sizes": (4,)},
    "recirculation": {"max_epochs": 3, "code_size": 4},
    "recurrent": {"max_epochs": 2, "code_size": 3, "hidden_sizes": (4,)},
    "rbm": {"max_epochs": 3, "code_size": 4},
    "dbm": {"max_epochs": 2, "code_size": 3, "hidden_sizes": (4,), "method": PCD(n_chains=10), "n_iterations": 3},
    "dbn": {"max_epochs": 2, "code_size": 3, "hidden_sizes": (4,)},
    "hash": {"max_epochs": 3, "code_size": 4},
}
"""Small settings for scikit-learn's checks, which fit about 75 times."""


@parametrize_with_checks(
    [kind(**CHECKED[name]) for name, kind in REGISTERED.items()],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_every_kind(estimator, check):
    check(estimator)


def test_every_registered_kind_is_in_the_table():
    assert {model.kind for model in KINDS.values()} == set(REGISTERED)


@every_kind
def test_the_gradient_reaches_every_parameter(name):
    objective = criterion(fitted(name)).train()
    batch = fitted(name).preprocessing_.rows(X).batch(torch.arange(64))
    terms, _ = objective.terms(batch, 0.5, torch.Generator().manual_seed(0))
    loss = sum(term.mean() for term in terms.values())
    if loss.requires_grad:
        loss.backward()
    learned = {n: p for n, p in objective.named_parameters() if p.requires_grad}  # others are updated in closed form
    assert [n for n, p in learned.items() if p.grad is None or not p.grad.abs().sum() > 0] == []


@every_kind
def test_every_term_is_finite_and_not_zero(name):
    rows = fitted(name).preprocessing_.rows(X)
    batch = replace(rows.batch(torch.arange(64)), neighbour=rows.batch(torch.arange(1, 65)))
    objective = criterion(fitted(name)).eval()  # in training mode the rows themselves count as activity
    for part in objective.modules():
        if isinstance(part, DeadUnits):  # where no unit is dead there is nothing to revive
            part.activity.idle.fill_(10**9)
            part.refresh()
    terms, _ = objective.terms(batch, 0.5, torch.Generator().manual_seed(0))
    assert terms
    for term in terms.values():
        assert term.shape in ((64,), ())
        assert torch.isfinite(term).all()
        assert term.abs().sum() > 0
    assert objective.monitor(batch).shape == (64,)


@every_kind
def test_terms_and_monitors_of_every_phase_change_no_state_and_update_stores(name):
    model = copy.deepcopy(fitted(name))
    construction, rows = model._with_criterion(), model.preprocessing_.rows(X)
    config, generator = training_config_for(model, len(rows)), torch.Generator().manual_seed(0)
    for phase in model._phases(construction, config, generator):
        batch = (phase.view(rows) if phase.view else rows).batch(torch.arange(64))
        objective = phase.objective.train()
        before = state(objective)
        _, carried = objective.terms(batch, 0.5, generator)
        objective.monitor(batch)
        assert equal(state(objective), before), phase.name
        objective.update(carried)
        assert equal(state(objective), before) == (len(carried) == 0), phase.name
        before = state(objective.eval())
        objective.monitor(batch)
        assert equal(state(objective), before), phase.name


@every_kind
def test_the_history_names_every_term_of_every_epoch(name):
    epochs = fitted(name).history_["epochs"]
    batch = fitted(name).preprocessing_.rows(X).batch(torch.arange(64))
    terms, _ = criterion(fitted(name)).terms(batch, 0.5, torch.Generator().manual_seed(0))
    assert len(epochs) == 3
    for line in epochs:
        assert line["terms"].keys() == terms.keys()
        assert np.isfinite([line["train"], line["held_out"], line["rows_per_second"]]).all()


@every_kind
def test_a_saved_model_gives_equal_outputs(name, tmp_path):
    model = fitted(name)
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    assert type(again) is type(model)
    assert again.history_ == model.history_
    assert again.get_params() == model.get_params()
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    np.testing.assert_array_equal(again.reconstruct(X), model.reconstruct(X))
    np.testing.assert_array_equal(again.nll(X), model.nll(X))
    if hasattr(model, "score_samples"):
        np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
    again.save(tmp_path / "n")
    assert (tmp_path / "n").read_bytes() == (tmp_path / "m").read_bytes()


@every_kind
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(name):
    first, again, other = (kept_state(quick(name).set_params(random_state=seed).fit(FEW)) for seed in (0, 0, 1))
    assert equal(first, again)
    assert not equal(first, other)


@every_kind
def test_no_seed_draws_one_and_keeps_it(name):
    model = quick(name).set_params(random_state=None).fit(FEW)
    again = quick(name).set_params(random_state=model.seed_).fit(FEW)
    assert equal(kept_state(model), kept_state(again))


@every_kind
def test_the_global_generators_are_not_touched(name):
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    quick(name).set_params(random_state=None).fit(FEW).reconstruct(FEW)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@every_kind
def test_a_code_depends_on_its_row_alone(name):
    model = fitted(name)
    codes = model.transform(X)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(model.transform(X[order]), codes[order])
    np.testing.assert_array_equal(np.vstack([model.transform(part) for part in np.array_split(X, 7)]), codes)
    np.testing.assert_array_equal(model.transform(X[[290]]), codes[[290]])


EVALUATIONS = {
    "transform": lambda model: model.transform(X),
    "score": lambda model: model.score(X),
    "nll": lambda model: model.nll(X),
    "reconstruct": lambda model: model.reconstruct(X),
    "inverse_transform": lambda model: model.inverse_transform(model.transform(X)),
    "sample": lambda model: model.sample(5, random_state=0),
    "score_samples": lambda model: model.score_samples(X),
}


@every_kind
def test_evaluation_changes_no_state_and_gives_equal_values_twice(name):
    model = fitted(name)
    before = kept_state(model)
    for method in (method for method in EVALUATIONS if hasattr(model, method)):
        values = EVALUATIONS[method](model)
        np.testing.assert_array_equal(EVALUATIONS[method](model), values)
        assert equal(kept_state(model), before), method


@every_kind
def test_reconstructions_errors_and_scores_agree_with_each_other(name):
    model = fitted(name)
    decoded = model.inverse_transform(model.transform(X))
    np.testing.assert_allclose(model.reconstruct(X), decoded, rtol=1e-6, atol=1e-6)
    to_model = model.preprocessing_.rows
    x = to_model(X).batch(torch.arange(len(X))).x
    r = to_model(decoded).batch(torch.arange(len(X))).x
    np.testing.assert_allclose(model.reconstruction_error(X), (x - r).square().sum(1), rtol=1e-4)
    assert model.score(X) == pytest.approx(-model.nll(X).mean(), rel=1e-6)


@every_kind
def test_data_frames_come_back_as_data_frames_with_their_names(name):
    frame = pd.DataFrame(FEW[:, :8], columns=[f"col {i}" for i in range(8)])
    model = quick(name).set_output(transform="pandas").fit(frame)
    codes = model.transform(frame)
    assert isinstance(codes, pd.DataFrame)
    assert list(codes.columns) == list(model.get_feature_names_out())
    back = model.inverse_transform(codes)
    assert isinstance(back, pd.DataFrame)
    assert list(back.columns) == list(frame.columns)
    with pytest.raises(InputError, match="missing 'col 3'"):
        model.preprocessing_.rows(frame.drop(columns="col 3"))


@every_kind
def test_what_comes_out_carries_the_index_of_what_came_in(name):
    index = pd.MultiIndex.from_tuples([(f"row {i % 7}", i) for i in np.random.default_rng(0).permutation(len(FEW))])
    frame = pd.DataFrame(FEW[:, :8], columns=[f"col {i}" for i in range(8)], index=index)
    model = quick(name).set_output(transform="pandas").fit(frame)
    codes, back = model.transform(frame), model.reconstruct(frame)
    residuals, cells = frame - back, model.reconstruction_error(frame, by="cell")
    for made in (codes, back, residuals, model.inverse_transform(codes), cells, model.reconstruction_error(frame)):
        assert made.index.equals(index)
    assert residuals.notna().all(axis=None)
    np.testing.assert_array_equal(back, model.reconstruct(frame.reset_index(drop=True)))
    pd.testing.assert_series_equal(cells.sum(axis=1), model.reconstruction_error(frame), check_names=False, rtol=1e-4)
    pd.testing.assert_series_equal(
        cells.mean(), model.reconstruction_error(frame, by="column"), check_names=False, check_dtype=False, rtol=1e-4
    )


@every_kind
def test_rows_as_labels_are_the_target_of_a_denoising_kind_and_refused_by_others(name):
    model = quick(name)
    if "emphasised" in name:
        with pytest.raises(InputError, match="weights corrupted entries, which the target does not have"):
            model.fit(FEW + 1, FEW)
    elif model.takes_y_as_target:
        given, named = quick(name).fit(FEW + 1, FEW), quick(name).fit(FEW + 1, target=FEW)
        assert equal(kept_state(given), kept_state(named))
        with pytest.raises(InputError, match=r"y holds rows, shape \(100, 3\), and X has the shape \(100, 64\)"):
            model.fit(FEW, FEW[:, :3])
    else:
        with pytest.raises(
            InputError, match=rf"y holds rows, shape \(100, 64\), and kind {model.kind} ignores y; .*target="
        ):
            model.fit(FEW, FEW)


@every_kind
def test_sparse_rows_are_read_without_a_dense_whole(name):
    sparse = scipy.sparse.csr_matrix(np.where(FEW > 8, FEW, 0))
    model = quick(name).fit(sparse)
    assert model.transform(sparse).shape == (len(FEW), model.code_size_)
    assert model.reconstruct(sparse).shape == FEW.shape
    model.preprocessing_ = type("Big", (), {"n_columns": 10**9, "source": "sparse"})()
    with pytest.raises(InputError, match=r"would take .* GiB dense; reconstruct fewer rows at a time"):
        model.reconstruct(sparse)


@every_kind
def test_convolutions_over_the_columns_of_a_table_are_noted(name):
    frame = pd.DataFrame(FEW[:, :8], columns=[f"col {i}" for i in range(8)])
    notes = quick(name).fit(frame).history_["notes"]
    has_convolutions = KINDS[name].kind == "conv" or isinstance(getattr(KINDS[name], "network", None), Convolutional)
    assert any("columns of a table as a signal" in note for note in notes) == has_convolutions


@every_kind
@pytest.mark.parametrize("layout", ["grey", "channels last", "channels first"])
def test_images_come_back_in_their_own_shape_and_type(name, layout):
    grey = (IMAGES * 15).astype(np.uint8)
    images = {"grey": grey, "channels last": np.stack([grey] * 3, -1), "channels first": np.stack([grey] * 3, 1)}
    model = quick(name).fit(images[layout])
    back = model.reconstruct(images[layout])
    assert back.shape == images[layout].shape
    assert back.dtype == np.uint8


@every_kind
def test_it_works_in_a_pipeline_and_a_grid_search(name):
    argument = "network__n_maps" if name in IMPLIED_SIZE else "code_size"
    search = GridSearchCV(quick(name), {argument: [3, 9]}, cv=2).fit(X[:60])
    assert search.best_params_[argument] in (3, 9)
    codes = make_pipeline(StandardScaler(), quick(name)).fit_transform(FEW)
    assert codes.shape == (100, fitted(name).code_size_)


@every_kind
def test_codes_of_another_width_are_refused(name):
    with pytest.raises(InputError, match=r"codes of shape \(4, 99\); this model's codes have shape \(n, "):
        fitted(name).inverse_transform(np.zeros((4, 99)))


@every_kind
@pytest.mark.parametrize("missing", ["mean", "median", "mask"])
def test_missing_values_are_handled_where_asked(name, missing):
    holes = FEW.copy()
    holes[::7, 10] = np.nan
    with pytest.raises(InputError, match="NaN .a missing value. at row 0, column 10"):
        clone(KINDS[name]).fit(holes)
    model = quick(name).set_params(missing=missing)
    if missing == "mask" and name in COMPLETE_ROWS:
        with pytest.raises(InputError, match="missing='mask' needs inference='fista' or 'ista'"):
            model.fit(holes)
        return
    model.fit(holes)
    assert np.isfinite(model.reconstruct(holes)).all()
    assert np.isfinite(model.nll(holes)).all()


@every_kind_but(*WITHOUT_RATE)
def test_weights_that_turn_nan_stop_learning_and_the_last_good_ones_stay(name):
    model = clone(KINDS[name]).set_params(learning_rate=1e30, max_epochs=5)
    if model.optimizer is not None:
        model.set_params(optimizer__clip_norm=None)
    with pytest.warns(InputWarning, match="the loss became NaN or infinite in epoch 1"):
        model.fit(FEW)
    assert model.history_["stopped"] == "nan"
    assert np.isfinite(model.transform(X)).all()
    assert "nan" in {finding["name"] for finding in model.history_["findings"]}


@every_kind
def test_the_reported_error_is_that_of_the_validation_rows(name):
    model = quick(name).fit(FEW, validation=X[200:])
    reported = model.history_["squared_error"]
    assert (reported["rows"], reported["n_rows"]) == ("validation", 100)
    assert reported["model"] == pytest.approx(model.reconstruction_error(X[200:]).mean(), rel=1e-4)
    assert reported["training"] == pytest.approx(model.reconstruction_error(FEW).mean(), rel=1e-4)


@every_kind
def test_a_failed_refit_changes_nothing(name):
    model = copy.deepcopy(fitted(name))
    before = model.transform(X), model.reconstruct(X)
    attributes = vars(model).keys()
    with pytest.raises(InputError, match="NaN"):
        model.fit(np.where(X[:, :20] > 8, np.nan, X[:, :20]))
    model.set_params(likelihood="poisson", scaling="none")
    with pytest.raises(InputError):
        model.fit(-X[:, :30])
    assert vars(model).keys() == attributes
    np.testing.assert_array_equal(model.transform(X), before[0])
    np.testing.assert_array_equal(model.reconstruct(X), before[1])


@every_kind
def test_a_validation_fraction_that_leaves_no_training_rows_is_refused(name):
    with pytest.raises(InputError, match="validation_fraction=0.9 of 3 rows leaves 0 for training"):
        clone(KINDS[name]).set_params(validation_fraction=0.9).fit(X[:3])


@every_kind
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"code_size": 0}, "code_size=0: it must be a whole number of at least 1"),
        ({"max_epochs": 1.5}, "max_epochs=1.5: it must be a whole number"),
        ({"learning_rate": -1}, "learning_rate=-1: it must be a number above 0"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0: it must be a fraction, at least 0 and below 1"),
        ({"scaling": "log"}, "scaling='log' is not one of auto, none, standard, minmax"),
        ({"likelihood": "gausian"}, "unknown likelihood 'gausian'; did you mean 'gaussian'"),
        ({"device": "abacus"}, "device='abacus' is not a device"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused_by_name(name, changes, text):
    with pytest.raises(InputError, match=text):
        clone(KINDS[name]).set_params(**changes).fit(X)


@every_kind
def test_labels_beside_the_rows_that_are_looked_at_are_refused(name):
    with pytest.raises(InputError, match="validation is a pair, as of rows and labels, .* give the rows alone"):
        clone(KINDS[name]).fit(X, validation=(X, np.zeros(len(X))))
    with pytest.raises(InputError, match="X holds rows of different lengths, or several arrays; give one array"):
        clone(KINDS[name]).fit(X, validation=[X, np.zeros(len(X))])


@pytest.mark.parametrize("given", ["customers.csv", [["one", "text"], ["a", "b"]]], ids=["a path", "rows of texts"])
def test_text_in_place_of_rows_is_told_what_to_wrap_it_in(given):
    with pytest.raises(InputError, match=r"X holds text .*Documents\(X\), or what isthmus.data.open\(PATH\) reads"):
        clone(KINDS["deep"]).fit(given)


@every_kind_but(*ONE_LIKELIHOOD)
def test_values_outside_the_domain_of_the_likelihood_are_refused(name):
    with pytest.raises(InputError, match="likelihood requires values in .0, 1.; found 5 at row 0, column 'x2'"):
        clone(KINDS[name]).set_params(likelihood="bernoulli", scaling="none").fit(X)


@every_kind
def test_one_row_is_refused_and_a_wide_code_is_noted_where_it_is_not_the_point(name):
    with pytest.raises(InputError, match="n_samples=1: training needs at least two rows"):
        clone(KINDS[name]).fit(X[:1])
    model = clone(KINDS[name]).set_params(code_size=9, max_epochs=1)
    if name in IMPLIED_SIZE:
        with pytest.raises(
            InputError, match="code_size=9: FeatureMaps.* has a code of .* units.*; leave code_size out"
        ):
            model.fit(X[:, :8])
        return
    model.fit(X[:, :8])
    noted = any("more units (9) than the data has columns (8)" in note for note in model.history_["notes"])
    assert noted != model.overcomplete


@every_kind
def test_attributes_can_be_listed_as_by_a_completion(name):
    for model in (clone(KINDS[name]), fitted(name)):
        listed = [attribute for attribute in object.__dir__(model) if hasattr(model, attribute)]
        assert {"fit", "transform"} <= set(listed) & set(dir(model))
