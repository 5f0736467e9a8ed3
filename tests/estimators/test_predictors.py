"""The classifier and the regressor that start from a code."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import isthmus
from isthmus import (
    Autoencoder,
    CodeClassifier,
    CodeRegressor,
    InputError,
    InputWarning,
    LinearAutoencoder,
    StackedAutoencoder,
)
from isthmus.data import Documents
from isthmus.files import read_tensors

from .kinds import EXPECTED_FAILURES, KINDS, WITHOUT_GRADIENT

DIGITS = load_digits()
X, Y = DIGITS.data[:300], DIGITS.target[:300]
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
QUICK = {"max_epochs": 4, "batch_size": 64, "learning_rate": 2e-2, "random_state": 0}
SMALL_CODER = LinearAutoencoder(code_size=5, max_epochs=1)
FITTED: dict = {}

both = pytest.mark.parametrize(("predictor", "y"), [(CodeClassifier, Y), (CodeRegressor, X[:, 20] + X[:, 30])])


def coder(name="deep"):
    """A kind fitted once on the digits."""
    if name not in FITTED:
        FITTED[name] = clone(KINDS[name]).fit(X)
    return FITTED[name]


def weights(model):
    return {name: value.clone() for name, value in model._parts.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@parametrize_with_checks(
    [
        CodeClassifier(encoder=SMALL_CODER, max_epochs=15, batch_size=32, learning_rate=0.1),
        CodeRegressor(encoder=SMALL_CODER, max_epochs=15, batch_size=32, learning_rate=0.1),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
)
@pytest.mark.filterwarnings("ignore:Skipping check check_array_api_input:sklearn.exceptions.SkipTestWarning")
def test_scikit_learn_accepts_both(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_can_be_started_from_and_stays_as_it_was(name):
    start = coder(name)
    before = weights(start)
    model = CodeClassifier(encoder=start, **QUICK | {"learning_rate": 1e-2}).fit(X, Y)
    assert same(weights(start), before)
    assert same(weights(model.encoder_), before) == (name in WITHOUT_GRADIENT)
    assert model.predict_proba(X).shape == (300, 10)
    assert model.history_["epochs"][-1]["train"] < model.history_["epochs"][0]["train"]


@pytest.mark.parametrize("name", ["deep", "deep, tied, noisy, normalised", "sparse, k on average", "rbm", "dbm", "dbn"])
@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_frozen_encoder_gives_the_same_codes_after_learning(name, weight):
    model = CodeClassifier(encoder=coder(name), frozen=True, reconstruction_weight=weight, **QUICK).fit(X, Y)
    assert same(weights(model.encoder_), weights(coder(name)))
    np.testing.assert_array_equal(model.encoder_.transform(X), coder(name).transform(X))


def test_the_head_may_learn_alone_first_and_the_encoder_joins_it_after():
    training_config = {"encoder": coder(), "head_epochs": 3, "head_learning_rate": 0.1, **QUICK}
    still = CodeClassifier(**{**training_config, "learning_rate": 1e-12}).fit(X, Y)
    assert [record["name"] for record in still.history_["pretraining"]] == ["head"]
    np.testing.assert_allclose(still.encoder_.transform(X), coder().transform(X), rtol=1e-5, atol=1e-6)
    alone = CodeClassifier(encoder=coder(), frozen=True, **{**QUICK, "max_epochs": 3, "learning_rate": 0.1}).fit(X, Y)
    np.testing.assert_allclose(still.predict_proba(X), alone.predict_proba(X), rtol=1e-3, atol=1e-5)
    moved = CodeClassifier(**training_config).fit(X, Y)
    assert not np.allclose(moved.encoder_.transform(X), coder().transform(X))


def test_a_head_on_frozen_codes_is_logistic_regression():
    model = CodeClassifier(
        encoder=coder(), frozen=True, max_epochs=300, batch_size=300, learning_rate=0.3, validation_fraction=0.0,
        random_state=0,
    ).fit(X, Y)  # fmt: skip
    codes = coder().transform(X)
    exact = LogisticRegression(C=1e9, max_iter=10_000, tol=1e-8).fit(codes, Y)
    assert log_loss(Y, model.predict_proba(X)) == pytest.approx(log_loss(Y, exact.predict_proba(codes)), rel=0.02)


def test_a_head_on_frozen_codes_is_least_squares():
    y = np.stack([X[:, 20], X[:, 30] * 100 + 7], axis=1)
    model = CodeRegressor(
        encoder=coder(), frozen=True, max_epochs=200, batch_size=300, learning_rate=0.1, validation_fraction=0.0,
        random_state=0,
    ).fit(X, y)  # fmt: skip
    exact = LinearRegression().fit(coder().transform(X), y).predict(coder().transform(X))
    np.testing.assert_allclose(model.predict(X), exact, atol=0.02 * y.std(0).max())
    assert model.score(X, y) == pytest.approx(LinearRegression().fit(coder().transform(X), y).score(
        coder().transform(X), y), abs=1e-3)  # fmt: skip


def test_few_labels_go_further_with_a_start_than_without():
    rest, labels = DIGITS.data[300:], DIGITS.target[300:]
    start = Autoencoder(code_size=32, hidden_sizes=(64,), max_epochs=15, random_state=0).fit(rest)
    training_config = {"encoder": start, "max_epochs": 15, "random_state": 0, "learning_rate": 2e-3}
    accuracy = {
        how: CodeClassifier(start=how, **training_config).fit(X[:100], Y[:100]).score(rest, labels)
        for how in ("encoder", "random")
    }
    assert accuracy["encoder"] > accuracy["random"] + 0.03


def test_a_random_start_has_the_same_network_and_learns_no_code_first():
    model = CodeClassifier(encoder=coder(), start="random", **QUICK).fit(X, Y)
    drawn, given = weights(model.encoder_), weights(coder())
    assert {name: value.shape for name, value in drawn.items()} == {name: v.shape for name, v in given.items()}
    fresh = CodeClassifier(encoder=clone(KINDS["deep"]), start="random", **QUICK).fit(X, Y)
    assert len(fresh.encoder_.history_["epochs"]) == 1
    assert fresh.encoder_.get_params() == KINDS["deep"].get_params()


def test_an_unfitted_stack_whose_layers_learn_from_labels_is_given_them():
    stack = StackedAutoencoder(hidden_sizes=(12,), code_size=6, pretraining="supervised", max_epochs=2, random_state=0)
    found = CodeClassifier(encoder=stack, **QUICK).fit(X, Y)
    alone = CodeClassifier(encoder=clone(stack).fit(X, Y), **QUICK).fit(X, Y)
    np.testing.assert_array_equal(found.predict(X), alone.predict(X))


def test_an_unfitted_encoder_is_fitted_on_all_rows_and_a_path_is_read(tmp_path):
    y = np.where(np.arange(300) < 250, -1, Y)
    model = CodeClassifier(encoder=clone(KINDS["deep"]), unlabeled=-1, **QUICK).fit(X, y)
    assert same(weights(clone(KINDS["deep"]).fit(X)), weights(CodeClassifier(
        encoder=clone(KINDS["deep"]), frozen=True, unlabeled=-1, **QUICK).fit(X, y).encoder_))  # fmt: skip
    assert model.n_rows_ == 50
    coder().save(tmp_path / "coder.isthmus")
    read = CodeClassifier(encoder=str(tmp_path / "coder.isthmus"), **QUICK).fit(X, Y)
    given = CodeClassifier(encoder=coder(), **QUICK).fit(X, Y)
    np.testing.assert_array_equal(read.predict_proba(X), given.predict_proba(X))


def test_rows_without_label_change_nothing_where_the_reconstruction_counts_nothing():
    marked = np.where(np.arange(300) % 3 == 0, "?", NAMES[Y])
    model = CodeClassifier(encoder=coder(), unlabeled="?", **QUICK).fit(X, marked)
    known = marked != "?"
    alone = CodeClassifier(encoder=coder(), **QUICK).fit(X[known], marked[known])
    assert list(model.classes_) == sorted(NAMES)
    np.testing.assert_array_equal(model.predict_proba(X), alone.predict_proba(X))


def test_rows_without_label_shape_the_code_where_the_reconstruction_counts():
    y = np.where(np.arange(300) < 60, Y, -1)
    training_config = {"encoder": coder("deep"), "unlabeled": -1, **QUICK}
    kept = CodeClassifier(reconstruction_weight=0.1, **training_config).fit(X, y)
    left = CodeClassifier(**training_config).fit(X, y)
    assert (kept.n_rows_, left.n_rows_) == (300, 60)  # in an epoch the labelled ones come four times
    assert kept.history_["epochs"][0]["terms"].keys() == {"classification", "reconstruction"}
    assert -1 not in kept.classes_
    error = [model.reconstruction_error(X[60:]).mean() for model in (kept.encoder_, coder(), left.encoder_)]
    assert error[0] < error[1] < error[2]


def test_a_regressor_takes_nan_for_no_label():
    y = np.where(np.arange(300) % 2 == 0, X[:, 20], np.nan)
    model = CodeRegressor(encoder=coder(), unlabeled=float("nan"), **QUICK).fit(X, y)
    alone = CodeRegressor(encoder=coder(), **QUICK).fit(X[::2], y[::2])
    np.testing.assert_array_equal(model.predict(X), alone.predict(X))


def test_predictions_are_in_the_unit_and_shape_of_the_labels():
    rows, y = load_diabetes(return_X_y=True)
    flat = CodeRegressor(encoder=SMALL_CODER, **QUICK).fit(rows, y)
    scaled = CodeRegressor(encoder=SMALL_CODER, **QUICK).fit(rows, y * 1000 - 5)
    np.testing.assert_allclose(scaled.predict(rows), flat.predict(rows) * 1000 - 5, rtol=1e-6)
    assert CodeRegressor(encoder=SMALL_CODER, **QUICK).fit(rows, y[:, None]).predict(rows).shape == (442, 1)


@both
def test_a_saved_model_predicts_the_same(predictor, y, tmp_path):
    model = predictor(encoder=coder(), hidden_sizes=(12, 7), hidden_noise=0.1, **QUICK).fit(X, y)
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    assert type(again) is predictor
    assert again.history_ == model.history_
    ours, theirs = model.get_params(deep=False), again.get_params(deep=False)
    assert {k: v for k, v in ours.items() if k != "encoder"} == {k: v for k, v in theirs.items() if k != "encoder"}
    assert theirs["encoder"].get_params() == coder().get_params()
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    np.testing.assert_array_equal(again.encoder_.transform(X), model.encoder_.transform(X))
    again.save(tmp_path / "n")
    assert (tmp_path / "n").read_bytes() == (tmp_path / "m").read_bytes()


@pytest.mark.parametrize("y", [NAMES[Y], NAMES[Y].astype(object), Y > 4, Y + 0.0, Y.astype(np.uint8)])
def test_classes_of_any_type_come_back_from_a_file(y, tmp_path):
    model = CodeClassifier(encoder=coder(), **QUICK).fit(X, y)
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    assert again.classes_.dtype == model.classes_.dtype == y.dtype
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    json.dumps(read_tensors(tmp_path / "m")[1], allow_nan=False)


@both
def test_a_prediction_depends_on_its_row_alone_and_the_seed_settles_the_weights(predictor, y):
    model = predictor(encoder=coder(), dropout=0.2, input_dropout=0.1, hidden_noise=0.1, **QUICK).fit(X, y)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(model.predict(X[order]), model.predict(X)[order])
    np.testing.assert_array_equal(model.predict(X[[7]]), model.predict(X)[[7]])
    assert same(weights(clone(model).fit(X, y)), weights(model))
    assert not same(weights(clone(model).set_params(random_state=1).fit(X, y)), weights(model))


def test_the_global_generators_are_not_touched():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    CodeClassifier(encoder=SMALL_CODER, dropout=0.1, max_epochs=2).fit(X, Y).predict(X)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_a_clone_starts_from_the_same_code_and_so_does_every_fold():
    model = CodeClassifier(encoder=coder(), frozen=True, **QUICK)
    copied = clone(model)
    assert not hasattr(copied, "encoder_")
    assert copied.encoder is not coder()
    np.testing.assert_array_equal(copied.encoder.transform(X), coder().transform(X))
    assert not hasattr(clone(CodeClassifier(encoder=clone(coder()))).encoder, "coder_")
    search = GridSearchCV(model, {"learning_rate": [1e-6, 3e-2]}, cv=2).fit(X, Y)
    assert search.best_params_ == {"learning_rate": 3e-2}
    piped = make_pipeline(StandardScaler(), CodeClassifier(encoder=SMALL_CODER, **QUICK))
    assert cross_val_score(piped, X, Y, cv=2).mean() > 0.3


def test_tables_images_texts_and_sparse_rows_are_read_as_the_encoder_reads_them():
    table = pd.DataFrame({"a": X[:, 20], "b": np.where(X[:, 30] > 4, "dark", "light")})
    model = CodeClassifier(encoder=clone(KINDS["deep"]), **QUICK).fit(table, Y > 4)
    assert list(model.feature_names_in_) == ["a", "b"]
    assert model.predict(table[:5]).shape == (5,)
    images = (DIGITS.images[:120] * 15).astype(np.uint8)
    assert CodeClassifier(encoder=clone(KINDS["conv"]), **QUICK).fit(images, Y[:120]).predict(images).shape == (120,)
    texts = Documents(["tin fell", "wheat rose", "cocoa held", "tin rose", "wheat fell"] * 6)
    labels = ["metal" if "tin" in text else "crop" for text in texts]
    model = CodeClassifier(encoder=SMALL_CODER, max_epochs=60, learning_rate=3e-2, random_state=0).fit(texts, labels)
    assert model.score(texts, labels) == 1.0
    assert CodeClassifier(encoder=SMALL_CODER, **QUICK).fit(scipy.sparse.csr_matrix(X), Y).score(X, Y) > 0.3


def test_rows_are_held_out_by_class_and_only_where_they_can_tell_something():
    model = CodeClassifier(encoder=coder(), **QUICK).fit(X, Y)
    assert model.n_rows_ == 270
    assert model.history_["epochs"][0]["held_out"] is not None
    few = CodeClassifier(encoder=coder(), **QUICK).fit(X[:100], Y[:100])
    assert few.n_rows_ == 100
    assert few.history_["epochs"][0]["held_out"] is None
    assert few.history_["notes"] == ["no validation set: 10 labelled rows are too few to choose an epoch by"]
    given = CodeClassifier(encoder=coder(), **QUICK).fit(X[:100], Y[:100], validation=(X[100:], Y[100:]))
    expected = (given.predict(X[100:]) != Y[100:]).mean()
    last = given.history_["epochs"][given.history_["best_epoch"]]["held_out"]
    assert last == pytest.approx(expected + 0.1 * log_loss(Y[100:], given.predict_proba(X[100:])), rel=1e-4)


@pytest.mark.parametrize(
    ("predictor", "y", "fraction", "n_training_rows"),
    [
        (CodeClassifier, np.repeat([0, 1, 2], [298, 1, 1]), 0.9, 30 + 1 + 1),
        (CodeClassifier, np.arange(300) % 2, 0.999, 2),
    ],
)
def test_validation_leaves_a_training_row_of_every_class(predictor, y, fraction, n_training_rows):
    model = predictor(encoder=coder(), validation_fraction=fraction, **QUICK).fit(X, y)
    assert model.n_rows_ == n_training_rows
    assert model.history_["epochs"][0]["held_out"] is not None


BROKEN = np.where(np.arange(300) == 7, np.nan, Y)


@pytest.mark.parametrize(
    ("changes", "y", "text"),
    [
        ({}, None, "CodeClassifier requires y to be passed, but the target y is None; give one label per row"),
        ({}, Y[:299], "X has 300 rows and y has 299 labels; give one label per row"),
        ({}, np.ones(300), "y holds one class only .1.0.; learning from classes needs"),
        ({}, BROKEN, "y holds nan at row 7; a label must not be NaN, infinite or missing; leave the row out"),
        ({}, X[:, 20] / 7, "Unknown label type: continuous"),
        ({}, np.stack([Y, Y], 1), "y should be a 1d array, got an array of shape .300, 2. instead"),
        ({"unlabeled": 3}, np.full(300, 3), "every label is unlabeled=3; give some rows a label"),
        ({"encoder": "no/such.isthmus"}, Y, "no/such.isthmus: no such file"),
        ({"encoder": 3}, Y, "encoder=3 is not an autoencoder"),
        (
            {"encoder": StandardScaler()},
            Y,
            r"encoder=StandardScaler\(...\) is not an autoencoder; give one of isthmus",
        ),
        (
            {"encoder": CodeClassifier(encoder=Autoencoder(hidden_sizes=(512, 256), code_size=8), head_epochs=3)},
            Y,
            r"encoder=CodeClassifier\(...\) is not an autoencoder",
        ),
        ({"start": "encodr"}, Y, "start 'encodr' is unknown; did you mean 'encoder'"),
        ({"start": "random", "frozen": True}, Y, "would keep random weights; choose one of the two"),
        ({"head_epochs": -1}, Y, "head_epochs=-1: it must be a whole number, 0 or more"),
        ({"head_learning_rate": 0}, Y, "head_learning_rate=0: it must be a number above 0"),
        ({"hidden_noise": -1}, Y, "hidden_noise=-1: it must be a number, 0 or more"),
        ({"reconstruction_weight": "a"}, Y, "reconstruction_weight='a': it must be a number, 0 or more"),
        ({"input_dropout": 1.0}, Y, "input_dropout=1.0: it must be a fraction, at least 0 and below 1"),
        ({"hidden_sizes": (0,)}, Y, "hidden_sizes=.0,.: it must be a list of whole numbers"),
        ({"optimizer": 0.1}, Y, "optimizer=0.1: give one of 'adamw', 'sgd', a value such as AdamW"),
        ({"averaging": 0.9}, Y, r"has no argument 'averaging'; give optimizer=AdamW\(averaging=...\)"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(changes, y, text):
    with pytest.raises(InputError, match=text) as caught:
        CodeClassifier(encoder=coder(), **QUICK).set_params(**changes).fit(X, y)
    assert "\n" not in str(caught.value)


@both
@pytest.mark.parametrize("validation", [X, (X,), "X", 3])
def test_supervised_training_requires_labels(predictor, y, validation):
    with pytest.raises(InputError, match=r"validates on labels too; give validation=\(rows, labels\)"):
        predictor(encoder=coder(), **QUICK).fit(X, y, validation=validation)


def test_a_class_that_was_not_learned_is_refused():
    model = CodeClassifier(encoder=coder(), **QUICK).fit(X[Y < 9], Y[Y < 9])
    told = "y holds the class 9, which is not one of the training classes .0, 1, 2, 3, 4, 5, 6, 7 and 1 more.; "
    with pytest.raises(InputError, match=told):
        model.score(X, Y)
    with pytest.raises(InputError, match=told):
        model.fit(X[Y < 9], Y[Y < 9], validation=(X, Y))


def test_a_file_that_holds_a_classifier_is_no_encoder(tmp_path):
    CodeClassifier(encoder=coder(), **QUICK).fit(X, Y).save(tmp_path / "m")
    with pytest.raises(InputError, match="m' holds a CodeClassifier is not an autoencoder; give one of isthmus"):
        CodeClassifier(encoder=str(tmp_path / "m"), **QUICK).fit(X, Y)


def test_labels_that_are_no_numbers_or_of_another_shape_are_refused_by_the_regressor():
    with pytest.raises(InputError, match="y holds labels that are not numbers .*; use CodeClassifier for classes"):
        CodeRegressor(encoder=coder(), **QUICK).fit(X, NAMES[Y])
    with pytest.raises(InputError, match=r"y has the shape \(300, 2\); it was fitted with labels of the shape \(\)"):
        CodeRegressor(encoder=coder(), **QUICK).fit(X, X[:, 20], validation=(X, X[:, :2]))


def test_rows_of_another_width_are_refused():
    model = CodeClassifier(encoder=coder(), **QUICK)
    with pytest.raises(ValueError, match="X has 5 features, but Autoencoder is expecting 64 features"):
        model.fit(X[:, :5], Y)


def test_rows_in_another_unit_than_the_encoders_are_warned_of_once_and_noisy_ones_are_not():
    grey = X / 16
    encoder = Autoencoder(likelihood="bernoulli", max_epochs=1, random_state=0).fit(grey)
    classifier = CodeClassifier(encoder=encoder, max_epochs=1, random_state=0)
    with pytest.warns(InputWarning, match=r"column 'x\d+' is \d+ in model space, far outside") as told:
        classifier.fit(X, Y)
    assert len(told) == 1
    noise = np.random.default_rng(0).normal(scale=0.2, size=grey.shape)
    assert ((grey + noise) < 0).any()
    encoder.transform(grey + noise)


def test_the_marker_of_unlabelled_rows_is_no_class_of_a_supervised_stack():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    y = np.where(np.arange(60) % 3 == 0, -1, X[:, 0] > 0)
    stack = StackedAutoencoder(code_size=3, hidden_sizes=(4,), pretraining="supervised", max_epochs=2)
    classifier = CodeClassifier(encoder=stack, unlabeled=-1, max_epochs=2, random_state=0).fit(X, y)
    assert classifier.classes_.tolist() == [0, 1]
    assert classifier.encoder_._n_classes == 2


def test_a_regressor_refuses_an_encoder_that_learns_classes():
    X = np.random.default_rng(0).normal(size=(40, 5))
    stack = StackedAutoencoder(code_size=3, hidden_sizes=(4,), pretraining="supervised", max_epochs=2)
    with pytest.raises(InputError, match="learns classes, and CodeRegressor has numbers as labels"):
        CodeRegressor(encoder=stack, max_epochs=2, random_state=0).fit(X, X[:, 0])


def test_a_failed_refit_of_a_classifier_changes_nothing():
    X = np.random.default_rng(0).normal(size=(40, 5))
    classifier = CodeClassifier(encoder=LinearAutoencoder(code_size=2, max_epochs=1), max_epochs=2, random_state=0)
    before = classifier.fit(X, X[:, 0] > 0).predict_proba(X)
    with pytest.raises(InputError):
        classifier.fit(X, np.zeros(40))
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


@pytest.mark.parametrize("marker", [np.nan, -1, None])
def test_a_marker_among_strings_in_a_list_is_no_class(marker):
    X = np.random.default_rng(0).normal(size=(60, 5))
    coder = LinearAutoencoder(code_size=2, max_epochs=1)
    y = ["a", "b", marker] * 20
    if marker is not None:
        classifier = CodeClassifier(encoder=coder, unlabeled=marker, max_epochs=1, random_state=0).fit(X, y)
        assert classifier.classes_.tolist() == ["a", "b"]
    if marker != -1:
        with pytest.raises(InputError, match="y holds .* at row 2; a label must not be NaN"):
            CodeClassifier(encoder=coder, max_epochs=1, random_state=0).fit(X, y)


def test_a_validation_fraction_that_leaves_one_labelled_row_is_refused():
    X = np.random.default_rng(0).normal(size=(90, 5))
    with pytest.raises(InputError, match=r"validation_fraction=0.99 of 90 rows leaves 1 for training"):
        CodeRegressor(encoder=LinearAutoencoder(code_size=2, max_epochs=1), validation_fraction=0.99).fit(X, X[:, 0])
