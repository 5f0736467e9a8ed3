"""Runs of classifiers and regressors that are killed at a step and resumed."""

from functools import partial

import numpy as np
import pytest
from sklearn import clone

import isthmus
from isthmus import (
    MLP,
    PCD,
    AdamW,
    Autoencoder,
    CodeClassifier,
    CodeRegressor,
    DeepBoltzmannMachine,
    DenoisingAutoencoder,
    FineTuning,
    InputError,
    StackedAutoencoder,
)
from isthmus.data.streams import LabelledRows
from isthmus.estimators import checkpoints
from isthmus.files import read_tensors

from .interruptions import kill, press_ctrl_c

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
FEW = np.where(np.arange(40) < 15, Y, -1)
NUMBERS = np.where(np.arange(40) < 30, X[:, 0] + X[:, 1], np.nan)
HELD, OTHER = (X[:20] + 0.1, Y[:20]), (X[:20] - 0.1, Y[:20])

SMALL = {"max_epochs": 2, "batch_size": 20, "precision": "fp32"}
CODER = {"code_size": 2, "hidden_sizes": (4,), "validation_fraction": 0.0, **SMALL}
HOW = {"random_state": 0, **SMALL}
FITTED = Autoencoder(**CODER, random_state=1).fit(X)
NOISY = DenoisingAutoencoder(
    **CODER | {"hidden_sizes": None}, corruption="salt-and-pepper", network=MLP((4,), tied=True), random_state=1
).fit(X)
MACHINE = DeepBoltzmannMachine(**CODER, method=PCD(n_chains=7), random_state=1).fit(X > 0)
STACK = StackedAutoencoder(**CODER, pretraining="supervised", fine_tuning=FineTuning(epochs=1))

RUNS = {
    "frozen": (CodeClassifier(encoder=FITTED, frozen=True, **HOW), Y),
    "head, then fine-tuning": (CodeClassifier(encoder=FITTED, head_epochs=2, hidden_noise=0.1, dropout=0.1, **HOW), Y),
    "averaged weights": (
        CodeClassifier(encoder=FITTED, head_epochs=1, optimizer=AdamW(averaging=0.9, clip_norm=1.0), **HOW),
        Y,
    ),
    "semi-supervised": (
        CodeClassifier(encoder=NOISY, unlabeled=-1, reconstruction_weight=0.1, head_epochs=1, **HOW),
        FEW,
    ),
    "machine": (CodeClassifier(encoder=MACHINE, head_epochs=1, reconstruction_weight=0.1, **HOW), Y),
    "random start": (CodeClassifier(encoder=FITTED, start="random", **HOW), Y),
    "unfitted encoder": (CodeClassifier(encoder=Autoencoder(**CODER), unlabeled=-1, **HOW), FEW),
    "unfitted encoder, semi-supervised": (
        CodeClassifier(encoder=clone(NOISY), unlabeled=-1, reconstruction_weight=0.1, head_epochs=1, **HOW),
        FEW,
    ),
    "unfitted encoder, random start": (CodeClassifier(encoder=Autoencoder(**CODER), start="random", **HOW), Y),
    "unfitted machine": (CodeClassifier(encoder=clone(MACHINE), **HOW), Y),
    "unfitted supervised stack": (CodeClassifier(encoder=STACK, unlabeled=-1, head_epochs=1, **HOW), FEW),
    "fitted supervised stack": (CodeClassifier(encoder=clone(STACK).fit(X, Y), **HOW), Y),
    "regressor": (CodeRegressor(encoder=Autoencoder(**CODER), unlabeled=np.nan, head_epochs=1, **HOW), NUMBERS),
}


def rows_of(name):
    return (X > 0).astype(float) if "machine" in name else X


def unlike_times(record):
    """The history without times."""
    if isinstance(record, dict):
        return {k: unlike_times(v) for k, v in record.items() if k not in ("seconds", "rows_per_second")}
    return [unlike_times(entry) for entry in record] if isinstance(record, list) else record


def assert_equal(ours, theirs, rows):
    np.testing.assert_array_equal(ours._outputs(rows), theirs._outputs(rows))
    np.testing.assert_array_equal(ours.encoder_.transform(rows), theirs.encoder_.transform(rows))
    np.testing.assert_array_equal(ours.encoder_.reconstruct(rows), theirs.encoder_.reconstruct(rows))
    assert unlike_times(ours.history_) == unlike_times(theirs.history_)
    assert unlike_times(ours.encoder_.history_) == unlike_times(theirs.encoder_.history_)
    assert ours.encoder_.get_params() == theirs.encoder_.get_params()


def n_states(model, *arguments, path):
    """The number of states that a fit writes if it writes one at every step."""
    written = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(checkpoints, "write_tensors", lambda *arguments: written.append(arguments))
        model.fit(*arguments, checkpoint=path, checkpoint_every=1e-9)
    return len(written)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_killed_at_any_step_and_resumed_ends_with_equal_weights(name, tmp_path, monkeypatch):
    model, y = RUNS[name]
    rows = rows_of(name)
    uncut = clone(model).fit(rows, y)
    for after in range(1, 1 + n_states(clone(model), rows, y, path=tmp_path / "m")):
        kill(partial(clone(model).fit, rows, y, checkpoint=tmp_path / "m"), monkeypatch, after=after)
        again = clone(model).fit(rows, y, checkpoint=tmp_path / "m", resume=True)
        assert_equal(again, uncut, rows)
    assert [path.name for path in tmp_path.iterdir()] == ["m.checkpoint"]
    again.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    np.testing.assert_array_equal(isthmus.load(tmp_path / "m")._outputs(rows), uncut._outputs(rows))


@pytest.mark.parametrize("name", ["unfitted encoder", "unfitted supervised stack"])
def test_a_run_that_is_killed_several_times_continues_each_time(name, tmp_path, monkeypatch):
    model, y = RUNS[name]
    uncut = clone(model).fit(X, y)
    fit = partial(clone(model).fit, X, y, checkpoint=tmp_path / "m")
    kill(fit, monkeypatch, after=2)
    kill(partial(fit, resume=True), monkeypatch, after=1)
    kill(partial(fit, resume=True), monkeypatch, after=2)
    assert_equal(fit(resume=True), uncut, X)


def test_the_phase_of_a_state_is_that_in_which_the_run_was_killed(tmp_path, monkeypatch):
    model, y = RUNS["unfitted supervised stack"]
    found = []
    for after in range(1, 1 + n_states(clone(model), X, y, path=tmp_path / "m")):
        kill(partial(clone(model).fit, X, y, checkpoint=tmp_path / "m"), monkeypatch, after=after)
        state = read_tensors(tmp_path / "m.checkpoint")[1]["state"]
        found.append(("encoder", state["encoder"]["state"]["phase"]) if "phase" not in state else state["phase"])
    assert sorted(set(found), key=found.index) == [("encoder", 0), ("encoder", 1), ("encoder", 2), 0, 1]


@pytest.mark.parametrize("encoder", [FITTED, Autoencoder(**CODER)], ids=["fitted", "unfitted"])
def test_a_run_with_a_random_seed_continues_with_its_seed(encoder, tmp_path, monkeypatch):
    model = CodeClassifier(encoder=encoder, **SMALL)
    kill(partial(model.fit, X, Y, checkpoint=tmp_path / "m"), monkeypatch, after=2)
    again = clone(model).fit(X, Y, checkpoint=tmp_path / "m", resume=True)
    assert_equal(again, clone(model).set_params(random_state=again.seed_).fit(X, Y), X)


def test_a_completed_run_without_a_written_state_leaves_no_file(tmp_path):
    model = CodeClassifier(encoder=Autoencoder(**CODER), **HOW).fit(X, Y, checkpoint=tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
    assert_equal(model, CodeClassifier(encoder=Autoencoder(**CODER), **HOW).fit(X, Y), X)


@pytest.mark.parametrize("at", [3, 6], ids=["encoder", "labels"])
def test_a_run_stopped_by_ctrl_c_keeps_its_state_and_continues(at, tmp_path):
    model = CodeClassifier(encoder=Autoencoder(**CODER), **HOW)
    with pytest.MonkeyPatch.context() as patched:
        press_ctrl_c(patched, at=at)
        stopped = clone(model).fit(X, Y, checkpoint=tmp_path / "m", checkpoint_every=1e-9)
    assert stopped.history_["stopped"] == "interrupted"
    stopped.save(tmp_path / "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "m.checkpoint"]
    again = clone(model).fit(X, Y, checkpoint=tmp_path / "m", resume=True)
    assert_equal(again, clone(model).fit(X, Y), X)
    again.save(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_path_and_the_model_of_the_file_are_the_same_encoder(tmp_path, monkeypatch):
    FITTED.save(tmp_path / "coder")
    model = CodeClassifier(encoder=str(tmp_path / "coder"), **HOW)
    kill(partial(model.fit, X, Y, checkpoint=tmp_path / "m"), monkeypatch, after=2)
    again = CodeClassifier(encoder=FITTED, **HOW).fit(X, Y, checkpoint=tmp_path / "m", resume=True)
    assert_equal(again, CodeClassifier(encoder=FITTED, **HOW).fit(X, Y), X)


RESEEDED = Autoencoder(**CODER, random_state=1, learning_rate=3e-3).fit(X).set_params(learning_rate=2e-3)
REFUSED = {
    "argument": (FITTED, {"learning_rate": 1e-3}, {}, r"learning_rate \(0.002 then, 0.001 now\)"),
    "labels": (FITTED, {}, {"y": 1 - Y}, r"labels \(\w+ then, \w+ now\)"),
    "names of classes": (FITTED, {}, {"y": Y + 1}, r"labels \(\w+ then, \w+ now\)"),
    "rows": (FITTED, {}, {"X": X + 1e-3}, r"data \(\w+ then, \w+ now\)"),
    "validation": (FITTED, {}, {"validation": OTHER}, r"validation \(20 rows \w+ then, 20 rows \w+ now\)"),
    "validation labels": (
        FITTED, {}, {"validation": (HELD[0], 1 - HELD[1])}, r"validation \(20 rows \w+ then, 20 rows \w+ now\)",
    ),
    "weights": (FITTED, {"encoder": RESEEDED}, {}, r"encoder.weights \(\w+ then, \w+ now\)"),
    "fitted": (FITTED, {"encoder": clone(FITTED)}, {}, r"encoder.weights \(\w+ then, none now\)"),
    "kind of encoder": (FITTED, {"encoder": NOISY}, {}, r"encoder \(deep then, denoising now\)"),
    "argument of the encoder": (
        Autoencoder(**CODER), {"encoder": Autoencoder(**CODER | {"code_size": 3})}, {},
        r"encoder.code_size \(2 then, 3 now\)",
    ),
    "rows of an unfitted encoder": (Autoencoder(**CODER), {}, {"X": X[::-1].copy()}, r"data \(\w+ then, \w+ now\)"),
    "labels of an unfitted encoder": (Autoencoder(**CODER), {}, {"y": 1 - Y}, r"labels \(\w+ then, \w+ now\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_with_other_arguments_or_data_is_refused(name, tmp_path, monkeypatch):
    encoder, changes, data, text = REFUSED[name]
    given = {"X": X, "y": Y, "validation": HELD}
    model = CodeClassifier(encoder=encoder, **HOW)
    kill(partial(clone(model).fit, **given, checkpoint=tmp_path / "m"), monkeypatch, after=2)
    with pytest.raises(InputError, match=rf"m.checkpoint is of a run with other arguments: {text}; repeat them, or "
                       r"remove it to start afresh$"):  # fmt: skip
        model.set_params(**changes).fit(**given | data, checkpoint=tmp_path / "m", resume=True)


@pytest.mark.parametrize("data", [{"X": X + 1e-3}, {"validation": OTHER}], ids=["rows", "validation"])
def test_other_rows_are_refused_after_the_fit_of_the_encoder(data, tmp_path, monkeypatch):
    given = {"X": X, "y": Y, "validation": HELD}
    model = CodeClassifier(encoder=Autoencoder(**CODER), **HOW)
    kill(partial(clone(model).fit, **given, checkpoint=tmp_path / "m"), monkeypatch, after=6)
    assert "phase" in read_tensors(tmp_path / "m.checkpoint")[1]["state"]
    with pytest.raises(InputError, match=r"with other arguments: (data|validation) \([\w ]+ then, [\w ]+ now\); "):
        model.fit(**given | data, checkpoint=tmp_path / "m", resume=True)


def test_the_checkpoint_of_another_kind_is_refused_by_its_name(tmp_path, monkeypatch):
    autoencoder, classifier = Autoencoder(**CODER), CodeClassifier(encoder=Autoencoder(**CODER), **HOW)
    regressor = CodeRegressor(encoder=Autoencoder(**CODER), **HOW)
    for first, others in (
        (autoencoder, (classifier, regressor)),
        (classifier, (autoencoder, regressor)),
    ):
        kill(partial(clone(first).fit, X, Y, checkpoint=tmp_path / "m"), monkeypatch, after=2)
        for other in others:
            text = rf"with other arguments: kind \({first.kind} then, {other.kind} now\); repeat them"
            with pytest.raises(InputError, match=text):
                clone(other).fit(X, Y, checkpoint=tmp_path / "m", resume=True)


def test_an_encoder_that_no_file_can_hold_is_refused_before_training(tmp_path):
    encoder = DenoisingAutoencoder(code_size=2, corruption=lambda x, generator: x / 2)
    with pytest.raises(InputError, match="corruption=.* cannot be saved in a file"):
        CodeClassifier(encoder=encoder, **HOW).fit(X, Y, checkpoint=tmp_path / "m")


def test_large_rows_are_identified_by_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_DIGEST_BYTES", 100)
    model = CodeClassifier(encoder=FITTED, **HOW).fit(X, Y, checkpoint=tmp_path / "m")
    assert checkpoints.SAMPLED_DIGEST_NOTE in model.history_["notes"]
    read = []
    batch = LabelledRows.batch
    monkeypatch.setattr(LabelledRows, "batch", lambda rows, index: read.append(len(index)) or batch(rows, index))
    checkpoints.DigestedRows(LabelledRows(FITTED._rows(X), model._labels(Y))).digest  # noqa: B018
    assert sum(read) == 40


@pytest.mark.parametrize("pretraining", ["greedy", "supervised", "together", "joint"])
def test_a_stack_killed_at_any_step_and_resumed_ends_with_equal_weights(pretraining, tmp_path, monkeypatch):
    stack = StackedAutoencoder(**CODER, pretraining=pretraining, fine_tuning=FineTuning(epochs=2), random_state=0)
    uncut = clone(stack).fit(X, Y)
    n = n_states(clone(stack), X, Y, path=tmp_path / "m")
    assert n == 2 * 2 * (3 if pretraining in ("greedy", "supervised") else 2)
    for after in range(1, 1 + n):
        kill(partial(clone(stack).fit, X, Y, checkpoint=tmp_path / "m"), monkeypatch, after=after)
        again = clone(stack).fit(X, Y, checkpoint=tmp_path / "m", resume=True)
        np.testing.assert_array_equal(again.transform(X), uncut.transform(X))
        np.testing.assert_array_equal(again.reconstruct(X), uncut.reconstruct(X))
        assert unlike_times(again.history_) == unlike_times(uncut.history_)


def test_a_completed_run_removes_what_a_killed_one_left_of_its_checkpoint(tmp_path):
    for name in (".m.checkpoint.x1y2z3.part", ".other.checkpoint.x1y2z3.part"):
        (tmp_path / name).touch()
    CodeClassifier(encoder=FITTED, **HOW).fit(X, Y).save(tmp_path / "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.checkpoint.x1y2z3.part", "m"]
