"""Conditional models: a class or a number that encoder and decoder get beside the rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline

import isthmus
from isthmus import KL, MLP, Autoencoder, CodeClassifier, Convolutional, InputError, VariationalAutoencoder
from isthmus.data import Conditioned, Documents
from isthmus.data.conditions import learn_preprocessing
from isthmus.errors import InputWarning
from isthmus.evaluation.fidelity import fidelity_of

RNG = np.random.default_rng(0)
N = 300
GROUP = RNG.choice(["a", "b", "c"], N)
AGE = RNG.uniform(20, 60, N)
TABLE = pd.DataFrame(
    {
        "income": 2 * AGE + 50 * (GROUP == "a") + RNG.normal(size=N),
        "group": GROUP,
        "city": np.where(GROUP == "b", "Oslo", RNG.choice(["Lima", "Oslo"], N)),
        "age": AGE,
        "grade": RNG.integers(1, 5, N),
        "size": RNG.normal(size=N),
    }
)
DIGITS = load_digits()
IMAGES = Conditioned((DIGITS.images[:900] / 16).astype(np.float32), {"digit": DIGITS.target[:900]})


def vae(**options):
    options = {"code_size": 2, "max_epochs": 3, "random_state": 0, "network": MLP((16,))} | options
    return VariationalAutoencoder(**options)


@pytest.fixture(scope="module")
def table_model():
    return vae(condition=["group", "age"], max_epochs=60).fit(TABLE)


@pytest.fixture(scope="module")
def image_model():
    model = VariationalAutoencoder(code_size=4, condition="digit", network=MLP((64,)), max_epochs=25, random_state=0)
    return model.fit(IMAGES)


def test_samples_have_the_given_conditions_and_depend_on_them(table_model):
    given = pd.DataFrame({"age": [25.0, 25.0, 55.0, 55.0] * 50, "group": ["a", "b"] * 100})
    samples = table_model.sample(200, random_state=0, condition=given)
    assert list(samples.columns) == list(TABLE.columns)
    assert samples["group"].tolist() == given["group"].tolist()
    np.testing.assert_allclose(samples["age"], given["age"], rtol=1e-6)
    mean = samples.groupby(["group", samples["age"].round()])["income"].mean()
    for (group, age), income in mean.items():
        assert abs(income - (2 * age + 50 * (group == "a"))) < 12
    assert (samples.loc[given["group"] == "b", "city"] == "Oslo").mean() > 0.9


def test_samples_without_conditions_have_those_of_training_rows(table_model):
    samples = table_model.sample(2000, random_state=0)
    for group in "abc":
        assert abs((samples["group"] == group).mean() - (group == GROUP).mean()) < 0.05
    assert abs(samples["age"].mean() - AGE.mean()) < 2


@pytest.mark.parametrize("network", [MLP((64,)), Convolutional((8,), dense_sizes=(32,))], ids=["mlp", "conv"])
def test_images_of_a_class_are_drawn(network):
    model = VariationalAutoencoder(code_size=4, condition="digit", network=network, max_epochs=25, random_state=0)
    model.fit(IMAGES)
    wanted = np.arange(100) % 10
    samples = model.sample(100, random_state=0, mean=True, condition={"digit": wanted})
    assert samples.shape == (100, 8, 8)
    classifier = LogisticRegression(max_iter=2000).fit(np.asarray(IMAGES).reshape(900, -1), DIGITS.target[:900])
    assert (classifier.predict(samples.reshape(100, -1)) == wanted).mean() > 0.9


def test_the_condition_is_no_part_of_the_code(image_model):
    """A code without the class: nearest neighbours find it less often than in a model without condition."""
    plain = VariationalAutoencoder(code_size=4, network=MLP((64,)), max_epochs=25, random_state=0).fit(IMAGES.rows)
    probe, digits = LogisticRegression(max_iter=2000), DIGITS.target[:900]
    found = cross_val_score(probe, image_model.transform(IMAGES), digits, cv=3).mean()
    assert found < cross_val_score(probe, plain.transform(IMAGES.rows), digits, cv=3).mean() - 0.2


def test_reconstructions_and_decodings_agree(table_model):
    rows = table_model.reconstruct(TABLE)
    assert list(rows.columns) == list(TABLE.columns)
    assert (rows["group"] == TABLE["group"]).all()
    decoded = table_model.inverse_transform(table_model.transform(TABLE), condition=TABLE[["group", "age"]])
    pd.testing.assert_frame_equal(rows, decoded)


def test_paths_keep_the_condition_of_the_row_and_end_at_reconstructions(image_model):
    first, second = IMAGES[:3], IMAGES[3:6]
    path = image_model.interpolate(first, second, n=4).reshape(3, 4, 8, 8)
    np.testing.assert_allclose(path[:, 0], image_model.reconstruct(first), atol=1e-5)
    np.testing.assert_allclose(path[:, -1], image_model.reconstruct(second), atol=1e-5)
    codes = np.repeat(image_model.transform(first), 2, 0)
    codes[:, 1] = [-1.0, 1.0] * 3
    expected = image_model.inverse_transform(codes, condition={"digit": np.repeat(DIGITS.target[:3], 2)})
    np.testing.assert_allclose(image_model.traverse(first, 1, 2, low=-1, high=1), expected, atol=1e-5)
    moved = image_model.shift(first, np.zeros(4), [0.0, 0.0])
    np.testing.assert_allclose(moved[::2], image_model.reconstruct(first), atol=1e-5)


def test_the_density_is_that_given_the_condition(table_model):
    """log p(x | c): a wrong group explains a row worse."""
    wrong = TABLE.assign(group=np.where(GROUP == "a", "b", "a"))
    own, other = (table_model.score_samples(rows).mean() for rows in (TABLE, wrong))
    assert own > other + 1
    part = TABLE.iloc[[7, 3]]
    np.testing.assert_allclose(table_model.score_samples(TABLE)[[7, 3]], table_model.score_samples(part), rtol=1e-4)


def test_the_inputs_of_encoder_and_decoder_are_the_columns_and_the_condition(table_model):
    n_columns = table_model.preprocessing_.n_columns
    assert table_model.preprocessing_.n_conditions == 4  # three groups, and the age
    assert table_model.coder_.encoder.sizes[0] == n_columns + 4
    assert table_model.coder_.decoder.sizes[0] == 2 + 4
    assert list(table_model.feature_names_in_) == list(TABLE.columns)


@pytest.mark.parametrize(
    "rows",
    [
        IMAGES[:60],
        Conditioned(sparse.csr_matrix(np.eye(30)), {"digit": np.arange(30) % 2}),
        Conditioned(Documents(["red rose", "blue sky", "red sky", "blue rose"] * 8), {"digit": np.arange(32) % 2}),
        Conditioned(RNG.normal(size=(40, 5)), {"digit": RNG.normal(size=40)}),
    ],
    ids=["images", "sparse", "texts", "array"],
)
def test_rows_of_every_type_carry_conditions(rows, tmp_path):
    model = vae(condition="digit").fit(rows)
    model.save(tmp_path / "model.isthmus")
    loaded = isthmus.load(tmp_path / "model.isthmus")
    np.testing.assert_array_equal(model.transform(rows), loaded.transform(rows))
    np.testing.assert_array_equal(model.sample(5, random_state=1), loaded.sample(5, random_state=1))
    assert loaded.preprocessing_.condition_names == ["digit"]


@pytest.mark.parametrize("options", [{"prior": "vamp"}, {"importance_samples": 3, "kl": KL(warmup=0)}], ids=str)
def test_priors_and_bounds_with_conditions(options):
    model = vae(condition=["group"], **options).fit(TABLE)
    assert np.isfinite(model.score_samples(TABLE[:5], n_draws=5)).all()
    assert len(model.sample(3, random_state=0, condition={"group": "b"})) == 3


def test_missing_entries_beside_conditions():
    table = TABLE.copy()
    table.loc[::7, "income"] = np.nan
    model = vae(condition="group", missing="mask").fit(table)
    assert model.coder_.encoder.sizes[0] == 2 * model.preprocessing_.n_columns + 3
    assert np.isfinite(model.score_samples(table)).all()


def test_further_training_and_tools_of_scikit_learn(tmp_path):
    model = vae(condition="digit", warm_start=True)
    train, test = train_test_split(IMAGES, random_state=0)
    assert isinstance(train, Conditioned)
    assert len(test) == 225
    model.fit(train, validation=test, sample_weight=np.ones(len(train)))
    before = model.transform(test)
    model.partial_fit(train[:100])
    model.fit(train, checkpoint=tmp_path / "model.isthmus")
    assert not np.array_equal(before, model.transform(test))
    assert clone(model).condition == "digit"
    assert np.isfinite(cross_val_score(clone(model), IMAGES, cv=2)).all()
    assert make_pipeline(vae(condition="group")).fit(TABLE).transform(TABLE).shape == (N, 2)
    with pytest.raises(InputError, match="condition='digit'"):
        model.set_params(condition=None).fit(IMAGES.rows)


def test_a_classifier_on_a_conditional_code():
    model = vae(condition="digit").fit(IMAGES)
    classifier = CodeClassifier(encoder=model, max_epochs=2, random_state=0).fit(IMAGES, DIGITS.target[:900])
    assert classifier.predict(IMAGES[:4]).shape == (4,)


def test_whole_numbers_with_few_values_are_classes_unless_declared_otherwise():
    classes = learn_preprocessing(TABLE, ["grade"])
    assert [column.unit for column in classes.condition.table] == ["categorical"]
    real = learn_preprocessing(TABLE, ["grade"], dtypes={"grade": "real", "size": "real"})
    assert [column.unit for column in real.condition.table] == ["real"]
    many = learn_preprocessing(TABLE.assign(grade=np.arange(N)), ["grade"])
    assert many.n_conditions == 1
    encoded = many.encode(pd.DataFrame({"grade": np.arange(N)}))
    assert abs(encoded.mean()) < 1e-5
    assert abs(encoded.std() - 1) < 1e-3


def test_the_digest_of_rows_covers_their_conditions():
    from isthmus.estimators.checkpoints import DigestedRows

    learned = learn_preprocessing(TABLE, ["group"])
    other = TABLE.assign(group=TABLE["group"].replace({"a": "b"}))
    assert DigestedRows(learned.rows(TABLE)).digest != DigestedRows(learned.rows(other)).digest
    assert learned.rows(TABLE).batch(torch.tensor([0, 5])).condition.shape == (2, 3)


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda m: m.transform(TABLE.assign(group="z")), "'group' contains 'z' at row 0"),
        (lambda m: m.transform(TABLE.assign(group=[None, *GROUP[1:]])), "'group' has no value at row 0"),
        (lambda m: m.sample(2, condition={"group": "a"}), "no value for 'age'"),
        (lambda m: m.sample(2, condition={"group": "a", "age": 1, "x": 1}), "'x' is not a condition"),
        (lambda m: m.sample(3, condition={"group": ["a", "b"], "age": 1}), "2 values for 3 rows"),
        (lambda m: m.sample(3, condition={"group": "q", "age": 1}), "'q' at row 0"),
        (lambda m: m.sample(3, condition={"group": "a", "age": "old"}), "'age' was numeric"),
        (lambda m: m.sample(3, condition="a"), "give {name: value}"),
        (lambda m: m.inverse_transform(np.zeros((2, 2))), "given group, age"),
        (lambda m: vae(condition=["town"]).fit(TABLE), "'town': the table has no such column"),
        (lambda m: vae(condition=["group", "group"]).fit(TABLE), "names a column twice"),
        (lambda m: vae(condition=["group"]).fit(TABLE[["group"]]), "no other column is left"),
        (lambda m: vae(condition=["group"]).fit(TABLE.assign(group=[*GROUP[:-1], None])), "no value at row 299"),
        (lambda m: vae(condition="digit").fit(IMAGES.rows), "Conditioned"),
        (lambda m: vae(condition="number").fit(IMAGES), "'digit' is not a condition"),
        (lambda m: Autoencoder(max_epochs=1).fit(IMAGES), "takes none"),
        (lambda m: vae().fit(TABLE).sample(2, condition={"group": "a"}), "takes none"),
        (lambda m: vae().fit(TABLE).inverse_transform(np.zeros((1, 2)), condition={"a": 1}), "takes none"),
        (lambda m: Conditioned(TABLE, {"a": GROUP}), "the rows are a table"),
        (lambda m: Conditioned(np.eye(3), {"a": [1, 2]}), "2 conditions for 3 rows"),
        (lambda m: Conditioned(np.eye(3), {"a": [1, 2, 3], "b": [1]}), "same length"),
    ],
)  # fmt: skip
def test_wrong_conditions_are_refused_in_one_line(attempt, message, table_model):
    with pytest.raises((InputError, ValueError), match=message) as error:
        attempt(table_model)
    assert "\n" not in str(error.value).strip()


def test_the_distributions_of_codes_and_rows_are_given_the_condition(table_model):
    rows, given = TABLE[:7], TABLE[["group", "age"]][:7]
    codes = table_model.p_enc(rows).sample(3, random_state=0)
    of_rows = table_model.p_dec(codes, condition=given)
    assert of_rows.log_prob(rows).shape == (3, 7)
    single = [table_model.p_dec(code, condition=given).log_prob(rows) for code in codes]
    np.testing.assert_allclose(of_rows.log_prob(rows), single, rtol=1e-5)
    assert of_rows.mean["group"].tolist() == given["group"].tolist() * 3
    assert of_rows.sample(random_state=0)["group"].tolist() == given["group"].tolist() * 3
    with pytest.raises(InputError, match="given group, age"):
        table_model.p_dec(codes)


def test_discrete_codes_with_conditions():
    model = vae(code_size=6, condition="group", inference="bernoulli").fit(TABLE)
    assert model.sample(4, random_state=0, condition={"group": "c"})["group"].tolist() == ["c"] * 4
    assert np.isfinite(model.score_samples(TABLE[:5], n_draws=3)).all()


def test_the_fidelity_of_samples_includes_their_conditions(table_model):
    found = fidelity_of(table_model, TABLE)
    assert {column.name for column in found.columns} == set(TABLE.columns)
    assert found.marginal_distance < 0.2
    bare = VariationalAutoencoder(code_size=4, condition="k", network=MLP((8,)), max_epochs=2, random_state=0)
    rows = Conditioned(RNG.normal(size=(100, 3)), {"k": np.arange(100) % 2})
    assert len(fidelity_of(bare.fit(rows), rows).columns) == 3


def test_given_numbers_come_back_as_given_and_far_ones_are_noted(table_model):
    samples = table_model.sample(2, random_state=0, condition={"group": "a", "age": 37.25})
    assert samples["age"].round(4).tolist() == [37.25, 37.25]
    with pytest.warns(InputWarning, match="age=200 is outside the range of the training rows"):
        samples = table_model.sample(1, random_state=0, condition={"group": "a", "age": 200})
    assert samples["age"].round(3).tolist() == [200.0]
    assert any(
        "group, age as inputs, so the code need not hold this information" in note
        for note in table_model.history_["notes"]
    )
