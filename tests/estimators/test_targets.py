"""`fit(X, target=T)`: models that decode rows of another kind than those that they encode."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score

import isthmus
from isthmus import (
    MLP,
    Autoencoder,
    ContractiveAutoencoder,
    Convolutional,
    ConvolutionalAutoencoder,
    DenoisingAutoencoder,
    InputError,
    LinearAutoencoder,
    Masking,
    RestrictedBoltzmannMachine,
    SparseAutoencoder,
    VariationalAutoencoder,
)
from isthmus.data import Paired
from isthmus.estimators.checkpoints import DigestedRows
from isthmus.evaluation.reconstruction import evaluate

RNG = np.random.default_rng(0)
GREY = (load_digits().images[:300] / 16).astype(np.float32)
COLOUR = np.stack([GREY, GREY[:, ::-1], 1 - GREY], -1)
SMALL = {"code_size": 6, "max_epochs": 3, "random_state": 0}
KINDS = {
    "deep": lambda: Autoencoder(**SMALL),
    "conv": lambda: ConvolutionalAutoencoder(**SMALL, network=Convolutional((4,), dense_sizes=())),
    "denoising": lambda: DenoisingAutoencoder(**SMALL),
    "contractive": lambda: ContractiveAutoencoder(**SMALL, network=MLP((), tied=False)),
    "vae": lambda: VariationalAutoencoder(**SMALL),
}
TABLE = pd.DataFrame({"a": RNG.normal(size=200), "group": RNG.choice(["u", "v", "w"], 200)})
ANSWER = pd.DataFrame(
    {"b": 2 * TABLE["a"] + (TABLE["group"] == "u"), "is_v": np.where(TABLE["group"] == "v", "yes", "no")}
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_is_decoded(kind, tmp_path):
    model = KINDS[kind]().fit(GREY, target=COLOUR)
    decoded = model.reconstruct(GREY)
    assert decoded.shape == COLOUR.shape
    assert ((decoded - COLOUR) ** 2).mean() < COLOUR.var()
    model.save(tmp_path / "model.isthmus")
    loaded = isthmus.load(tmp_path / "model.isthmus")
    np.testing.assert_array_equal(loaded.reconstruct(GREY[:5]), model.reconstruct(GREY[:5]))
    np.testing.assert_array_equal(loaded.transform(GREY), loaded.transform(Paired(GREY, COLOUR)))
    np.testing.assert_allclose(loaded.inverse_transform(loaded.transform(GREY)), decoded, atol=1e-6)
    assert loaded.score(Paired(GREY, COLOUR)) == pytest.approx(-loaded.nll(Paired(GREY, COLOUR)).mean(), rel=1e-5)


def test_the_error_is_that_of_the_target_and_the_baseline_its_principal_components():
    model = KINDS["deep"]().fit(GREY, target=COLOUR)
    found = evaluate(model, Paired(GREY, COLOUR))
    expected = ((model.reconstruct(GREY) - COLOUR) ** 2).reshape(len(GREY), -1).sum(1).mean()
    assert found["squared_error_per_row"] == pytest.approx(expected, rel=1e-4)
    flat = COLOUR.reshape(len(COLOUR), -1)
    assert model.baseline_.components.shape[1] == flat.shape[1]
    assert any("decodes a target" in note for note in model.history_["notes"])


def test_a_table_is_decoded_from_another_table():
    model = Autoencoder(code_size=3, hidden_sizes=(32,), max_epochs=150, random_state=0).fit(TABLE, target=ANSWER)
    decoded = model.reconstruct(TABLE)
    assert list(decoded.columns) == ["b", "is_v"]
    assert (decoded["is_v"] == ANSWER["is_v"]).mean() > 0.95
    assert np.corrcoef(decoded["b"], ANSWER["b"])[0, 1] > 0.95


def test_the_target_as_the_rows_themselves_is_the_plain_model():
    """Equal arithmetic: fit(X, target=X) gives the weights of fit(X)."""
    plain, own = KINDS["deep"]().fit(GREY), KINDS["deep"]().fit(GREY, target=GREY)
    np.testing.assert_allclose(plain.transform(GREY), own.transform(GREY), atol=1e-6)


def test_missing_entries_of_the_target_take_no_part():
    target = ANSWER.copy()
    target.loc[::3, "b"] = np.nan
    model = Autoencoder(**SMALL, missing="mask").fit(TABLE, target=target)
    nll = model.nll(Paired(TABLE, target))
    filled = model.nll(Paired(TABLE, target.fillna(1e3)))
    np.testing.assert_allclose(np.delete(nll, np.s_[::3]), np.delete(filled, np.s_[::3]), rtol=1e-5)
    assert (filled[::3] > nll[::3] + 1).all()


def test_validation_weights_checkpoints_and_further_training(tmp_path):
    model = KINDS["deep"]().set_params(warm_start=True)
    weights = np.ones(len(GREY))
    path = tmp_path / "model.isthmus"
    model.fit(GREY, target=COLOUR, validation=(GREY[:50], COLOUR[:50]), sample_weight=weights, checkpoint=path)
    before = model.reconstruct(GREY[:3])
    model.partial_fit(Paired(GREY, COLOUR))
    model.fit(GREY, target=COLOUR)
    assert not np.array_equal(before, model.reconstruct(GREY[:3]))
    assert np.isfinite(cross_val_score(KINDS["deep"](), Paired(GREY, COLOUR), cv=2)).all()
    rows = [model.preprocessing_.rows(Paired(GREY, target)) for target in (COLOUR, 1 - COLOUR)]
    assert DigestedRows(rows[0]).digest != DigestedRows(rows[1]).digest


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: Autoencoder().fit(GREY, target=COLOUR[:3]), "3 rows for 300 rows of X"),
        (lambda: Autoencoder().fit(GREY, target=COLOUR, validation=GREY), "give \\(rows, target\\)"),
        (lambda: LinearAutoencoder().fit(GREY, target=COLOUR), "linear decodes its inputs alone"),
        (lambda: RestrictedBoltzmannMachine().fit(GREY, target=COLOUR), "rbm decodes its inputs alone"),
        (lambda: SparseAutoencoder(max_epochs=1).fit(GREY, target=COLOUR), "leave sparsity out"),
        (lambda: ContractiveAutoencoder(max_epochs=1).fit(GREY, target=COLOUR), "give network=MLP\\(tied=False\\)"),
        (
            lambda: DenoisingAutoencoder(corruption=Masking(clean_weight=0.5)).fit(GREY, target=COLOUR),
            "weights corrupted entries",
        ),
        (lambda: VariationalAutoencoder(condition="a").fit(GREY, target=COLOUR), "exclude each other"),
        (lambda: KINDS["deep"]().fit(GREY).transform(Paired(GREY, COLOUR)), "was fitted without"),
        (lambda: KINDS["deep"]().fit(GREY, target=COLOUR).score(GREY), "give isthmus.data.Paired"),
        (lambda: KINDS["deep"]().fit(GREY, target=np.full((300, 2), np.nan)), "NaN"),
    ],
)
def test_wrong_targets_are_refused_in_one_line(attempt, message):
    with pytest.raises(InputError, match=message) as error:
        attempt()
    assert "\n" not in str(error.value)
