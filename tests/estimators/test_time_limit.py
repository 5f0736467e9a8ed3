"""Fits under a time limit: a limit that does not bind, planned steps, and the same steps without a clock."""

import numpy as np
import pytest
from sklearn import clone

import isthmus
from isthmus import Autoencoder, CodeClassifier, InputError
from isthmus.learning import phases
from isthmus.learning.trainer import Trainer

from .fitted import X, equal, fitted, kept_state
from .kinds import KINDS

LONG = 1e6
MANY_EPOCHS = {"max_epochs": 1000, "patience": None}


@pytest.mark.parametrize("name", KINDS)
def test_a_limit_that_does_not_bind_changes_no_number(name, monkeypatch):
    monkeypatch.setattr(phases, "MEASURED_FRACTION", 0.0)  # few steps are measured
    model = clone(KINDS[name]).set_params(time_limit=LONG).fit(X)
    assert equal(kept_state(model), kept_state(fitted(name)))
    assert model.planned_steps_ == fitted(name).planned_steps_
    assert model.n_steps_ == fitted(name).n_steps_


@pytest.fixture
def one_step_a_second(monkeypatch):
    """Measured speeds of 1 s a step; the steps are faster, so the clock ends no phase."""
    monkeypatch.setattr(Trainer, "measure", lambda trainer, seconds: (1.0, 0.0))


@pytest.mark.parametrize(
    ("name", "n_phases"), [("deep", 1), ("stacked, jointly sparse and contractive", 2), ("dbn", 4)]
)
def test_planned_steps_are_kept_and_repeat_a_limited_fit(name, n_phases, one_step_a_second, tmp_path):
    options = {**MANY_EPOCHS, **({"fine_tuning__epochs": 1000} if n_phases > 1 else {})}
    limited = clone(KINDS[name]).set_params(time_limit=40, **options).fit(X)
    assert limited.n_steps_ == limited.planned_steps_
    assert limited.history_["stopped"] == "time_limit"
    assert len(limited.planned_steps_) == n_phases
    assert limited.planned_steps_[-1] == 37, "95% of 40 s, less the short time of the other phases"
    assert "time-limit" in [finding["name"] for finding in limited.history_["findings"]]
    repeated = clone(KINDS[name]).set_params(max_steps=limited.planned_steps_, **options).fit(X)
    assert equal(kept_state(repeated), kept_state(limited))
    assert repeated.history_["stopped"] == "max_steps"
    limited.save(tmp_path / "model")
    loaded = isthmus.load(tmp_path / "model")
    assert (loaded.planned_steps_, loaded.n_steps_) == (limited.planned_steps_, limited.n_steps_)


def test_a_classifier_plans_its_two_phases(one_step_a_second, tmp_path):
    y = np.arange(len(X)) % 3
    options = {"encoder": fitted("deep"), "head_epochs": 1000, "random_state": 0, **MANY_EPOCHS}
    limited = CodeClassifier(time_limit=40, **options).fit(X, y)
    assert limited.planned_steps_ == limited.n_steps_
    assert len(limited.planned_steps_) == 2
    repeated = CodeClassifier(max_steps=limited.planned_steps_, **options).fit(X, y)
    np.testing.assert_array_equal(repeated.predict_proba(X), limited.predict_proba(X))
    limited.save(tmp_path / "model")
    assert isthmus.load(tmp_path / "model").planned_steps_ == limited.planned_steps_


def test_one_number_of_steps_is_for_every_phase_and_another_length_is_refused():
    model = clone(KINDS["stacked"]).set_params(max_steps=5).fit(X)
    assert model.n_steps_ == (5, 5, 5, 5)[: len(model.n_steps_)]
    with pytest.raises(
        InputError, match=r"max_steps=\(5, 6\): 2 numbers for 1 training phases \('learning'\); give one"
    ):
        Autoencoder(code_size=2, max_steps=(5, 6)).fit(X)
    with pytest.raises(InputError, match="max_steps=0: it must be a whole number of at least 1, or one for each"):
        Autoencoder(code_size=2, max_steps=0).fit(X)
