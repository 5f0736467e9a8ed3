"""Runs that their time limit ended, and that a later call continues."""

import numpy as np
import pytest
from sklearn import clone

import isthmus
from isthmus import CodeClassifier, InputError
from isthmus.learning.trainer import Trainer

from .fitted import X, fitted
from .kinds import KINDS

PHASED = ("stacked", "stacked, machines at the same time, a linear code", "recurrent", "dbm", "dbn")


@pytest.fixture(autouse=True)
def one_step_a_second(monkeypatch):
    """Measured speeds of 1 s a step; the steps are faster, so the clock ends no phase."""
    monkeypatch.setattr(Trainer, "measure", lambda trainer, seconds: (1.0, 0.0))


def limited(name, path, **arguments):
    """A model whose time limit is enough for a part of the steps, saved, with its checkpoint."""
    model = clone(KINDS[name]).set_params(time_limit=20, **arguments).fit(X, checkpoint=path)
    model.save(path)
    return model


@pytest.mark.parametrize("name", ["deep, averaged", "sparse, k of a row, gathered", "rbm", *PHASED])
def test_a_longer_limit_continues_to_all_steps_of_every_phase(name, tmp_path):
    path, state = tmp_path / "m", tmp_path / "m.checkpoint"
    short = limited(name, path)
    assert state.exists()
    assert short.history_["resumable"]
    assert sum(short.n_steps_) < sum(fitted(name).n_steps_)
    model = clone(KINDS[name]).set_params(time_limit=1e6).fit(X, checkpoint=path, resume=True)
    assert model.n_steps_ == model.planned_steps_ == fitted(name).n_steps_
    records, before = ([*m.history_["pretraining"], m.history_] for m in (model, short))
    assert records[0]["epochs"][0] == before[0]["epochs"][0], "the first phase went on"
    assert model.history_["stopped"] == "max_epochs"
    model.save(path)
    assert not state.exists()


def test_a_limit_that_is_a_little_longer_ends_the_run_again(tmp_path):
    short = limited("deep", tmp_path / "m")
    longer = clone(KINDS["deep"]).set_params(time_limit=25).fit(X, checkpoint=tmp_path / "m", resume=True)
    assert short.n_steps_ == (18,)
    assert 18 < longer.n_steps_[0] <= 18 + 0.95 * 25
    assert longer.n_steps_ == longer.planned_steps_
    assert longer.history_["stopped"] == "time_limit"
    longer.save(tmp_path / "m")
    last = clone(KINDS["deep"]).fit(X, checkpoint=tmp_path / "m", resume=True)
    assert last.n_steps_ == fitted("deep").n_steps_


def test_the_rate_follows_the_schedule_over_the_new_number_of_steps(tmp_path):
    short = limited("deep", tmp_path / "m")
    model = clone(KINDS["deep"]).fit(X, checkpoint=tmp_path / "m", resume=True)
    n, rates = len(short.history_["epochs"]), [epoch["learning_rate"] for epoch in model.history_["epochs"]]
    assert rates[:n] == [epoch["learning_rate"] for epoch in short.history_["epochs"]]
    assert rates[n] > 10 * rates[n - 1]
    assert rates[-1] == fitted("deep").history_["epochs"][-1]["learning_rate"]


def test_a_limit_that_is_used_up_is_refused_and_keeps_the_checkpoint(tmp_path):
    limited("deep", tmp_path / "m")
    with pytest.raises(
        InputError, match=r"time_limit=1e-09: the earlier run took .* s of it; give a longer limit, or none"
    ):
        clone(KINDS["deep"]).set_params(time_limit=1e-9).fit(X, checkpoint=tmp_path / "m", resume=True)
    assert (tmp_path / "m.checkpoint").exists()


def test_a_loaded_copy_of_a_limited_model_keeps_the_checkpoint_when_it_is_saved(tmp_path):
    limited("deep", tmp_path / "m")
    isthmus.load(tmp_path / "m").save(tmp_path / "m")
    assert (tmp_path / "m.checkpoint").exists()


def test_without_a_checkpoint_nothing_is_kept(tmp_path):
    limited("deep", tmp_path / "m")
    model = clone(KINDS["deep"]).set_params(time_limit=20).fit(X)
    assert "resumable" not in model.history_
    model.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_clock_itself_leaves_a_state_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "measure", lambda trainer, seconds: (0.1, 0.0))
    monkeypatch.setattr(Trainer, "_seconds", lambda trainer: float(trainer.state.step))
    model = clone(KINDS["deep"]).set_params(time_limit=20).fit(X, checkpoint=tmp_path / "m")
    assert model.history_["stopped"] == "time_limit"
    assert model.n_steps_[0] in (20, 21)
    again = clone(KINDS["deep"]).fit(X, checkpoint=tmp_path / "m", resume=True)
    assert again.n_steps_ == fitted("deep").n_steps_


def test_a_classifier_continues_too(tmp_path):
    y, options = np.arange(len(X)) % 3, {"encoder": fitted("deep"), "head_epochs": 3, "max_epochs": 3}
    options |= {"random_state": 0, "patience": None}
    short = CodeClassifier(time_limit=20, **options).fit(X, y, checkpoint=tmp_path / "m")
    short.save(tmp_path / "m")
    model = CodeClassifier(**options).fit(X, y, checkpoint=tmp_path / "m", resume=True)
    assert model.n_steps_ == CodeClassifier(**options).fit(X, y).n_steps_
    assert sum(short.n_steps_) < sum(model.n_steps_)
    model.save(tmp_path / "m")
    assert not (tmp_path / "m.checkpoint").exists()
