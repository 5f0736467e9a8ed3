"""Ctrl-C in every phase of every kind that learns in several phases.

The interrupted model has the weights that an uninterrupted fit has at that step; once an epoch of the phase is
complete, the weights at the end of the last complete epoch.
"""

import functools
import re

import numpy as np
import pytest
import torch
from sklearn import clone

import isthmus
from isthmus import (
    PCD,
    Autoencoder,
    CodeClassifier,
    DeepBeliefNetwork,
    DeepBoltzmannMachine,
    DeepRecurrentAutoencoder,
    FineTuning,
    RBMLayer,
    StackedAutoencoder,
)
from isthmus.learning.trainer import Trainer

from .interruptions import kept_parts, press_ctrl_c, record_steps

X = (np.random.default_rng(0).random((20, 5)) < [0.2, 0.4, 0.5, 0.7, 0.8]).astype(float)
Y = np.arange(20) % 2
HOW = {"max_epochs": 2, "batch_size": 7, "validation_fraction": 0.0, "random_state": 0}
TWO = {"hidden_sizes": (4,), "code_size": 3, **HOW}
THREE = {"hidden_sizes": (6, 4), "code_size": 3, **HOW}


def layers(n):
    return [f"layer {k} of {n}" for k in range(1, n + 1)]


KINDS = {
    "stacked, greedy": (StackedAutoencoder(**THREE), [*layers(3), "fine-tuning"]),
    "stacked, together": (StackedAutoencoder(pretraining="together", **TWO), ["together", "fine-tuning"]),
    "stacked, joint": (
        StackedAutoencoder(pretraining="joint", fine_tuning=FineTuning(epochs=2), **TWO),
        ["joint", "fine-tuning"],
    ),
    "stacked, supervised": (
        StackedAutoencoder(pretraining="supervised", fine_tuning=FineTuning(epochs=2), **TWO),
        [*layers(2), "fine-tuning"],
    ),
    "stacked machines": (StackedAutoencoder(layers="rbm", **THREE), [*layers(3), "fine-tuning"]),
    "stacked machines, together": (
        StackedAutoencoder(layers=RBMLayer(method=PCD(n_chains=7)), pretraining="together", **TWO),
        ["together", "fine-tuning"],
    ),
    "recurrent": (DeepRecurrentAutoencoder(**TWO), [*layers(2), "fine-tuning"]),
    "dbn": (
        DeepBeliefNetwork(fine_tuning=FineTuning(epochs=2), method=PCD(n_chains=7), **THREE),
        [*layers(3), "up-down"],
    ),
    "dbm": (DeepBoltzmannMachine(method=PCD(n_chains=7), **THREE), [*layers(3), "all layers"]),
    "classifier": (CodeClassifier(encoder=Autoencoder(**TWO).fit(X), head_epochs=2, **HOW), ["head", "classification"]),
    "classifier on a machine": (
        CodeClassifier(
            encoder=DeepBoltzmannMachine(method=PCD(n_chains=7), **TWO).fit(X),
            head_epochs=2,
            reconstruction_weight=0.1,
            **HOW,
        ),
        ["head", "classification"],
    ),
}


EVERY_PHASE = [(name, phase) for name, (_, phases) in KINDS.items() for phase in phases]


@functools.cache
def uninterrupted(name):
    """The steps of an uninterrupted fit."""
    with pytest.MonkeyPatch.context() as patched:
        return record_steps(clone(KINDS[name][0]), patched, X, Y)


def interrupted(name, step):
    """The model after Ctrl-C in a step, counted from 0 over all phases."""
    with pytest.MonkeyPatch.context() as patched:
        press_ctrl_c(patched, at=step + 1)
        return clone(KINDS[name][0]).fit(X, Y)


def interrupted_before(name, phase):
    """The model after Ctrl-C when a phase is prepared and takes no step yet."""
    init, left = Trainer.__init__, [phase]

    def press(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        init(*arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Trainer, "__init__", press)
        return clone(KINDS[name][0]).fit(X, Y)


def phase_names(model):
    return [record["name"] for record in [*model.history_["pretraining"], model.history_]]


def matching(state, pattern):
    """The names in a state that end with a pattern, in order."""
    return [name for name in state if re.search(f"{pattern}$", name)]


def is_last_phase(record):
    return record.phase == len(record.objectives) - 1


def joined(record, parameters, started):
    """The parameters with the biases of a deep Boltzmann machine as the whole machine has them.

    A layer between two machines gets the mean of the biases that both have for it. A layer whose upper machine has not
    started to learn keeps its own.
    """
    if is_last_phase(record):  # all layers learn together
        return parameters
    joined = {}
    for k, name in enumerate(matching(parameters, r"biases\.\d+")[1:-1], 1):
        if k < record.phase or (k == record.phase and started):
            (upper,) = matching(record.objectives[k], "visible_bias")
            joined[name] = (parameters[name] + record.objectives[k][upper]) / 2
    return parameters | joined


def unrolled(record, parameters, started):
    """The parameters with the weights of the decoder copied from the machines, which come first."""
    if is_last_phase(record):
        return parameters
    ups, downs = matching(parameters, r"up\.weight"), matching(parameters, r"decoders\.\d+\.weight")
    return parameters | {down: parameters[up].t() for up, down in zip(ups, reversed(downs), strict=True)}


def unfolded(record, parameters, started):
    """The parameters with the weights of the directed layers copied from the machines."""
    if is_last_phase(record):
        return parameters
    ups, downs = (matching(parameters, rf"{part}\.maps\.\d+\.weight") for part in ("encoder", "decoder"))
    return parameters | {down: parameters[up].t() for up, down in zip(ups, downs, strict=True)}


COMPLETED = {"dbm": joined, "dbn": unfolded, "stacked machines": unrolled, "stacked machines, together": unrolled}
"""What completes the parameters of an interrupted model, where something does."""


def expected_parameters(name, model, step, *, started=True):
    """The parameters of the uninterrupted fit: at the step, or at the end of the last complete epoch of the phase."""
    steps = uninterrupted(name)
    phase, epoch = steps[step].phase, steps[step].epoch
    kept = steps[step] if epoch == 0 else next(s for s in steps if (s.phase, s.epoch) == (phase, epoch))
    parameters = {key: kept.whole[key] for key, _ in kept_parts(model).named_parameters()}
    return COMPLETED[name](kept, parameters, started) if name in COMPLETED else parameters


@pytest.mark.parametrize("where", ["first step", "middle step", "last step"])
@pytest.mark.parametrize(("name", "phase"), EVERY_PHASE)
def test_ctrl_c_keeps_the_weights_of_the_uninterrupted_fit_at_that_step(name, phase, where, tmp_path):
    phases = KINDS[name][1]
    number = phases.index(phase)
    steps = [i for i, record in enumerate(uninterrupted(name)) if record.phase == number]
    step = {"first step": steps[0], "middle step": steps[len(steps) // 2 - 1], "last step": steps[-1]}[where]
    model = interrupted(name, step)
    assert model.history_["stopped"] == "interrupted"
    assert phase_names(model) == phases[: number + 1]
    assert_parameters_are(expected_parameters(name, model, step), model)
    assert_saved_model_is_equal(model, tmp_path)


@pytest.mark.parametrize(("name", "phase"), [(n, p) for n, p in EVERY_PHASE if p != KINDS[n][1][0]])
def test_ctrl_c_before_the_first_step_of_a_phase_keeps_the_phases_before(name, phase, tmp_path):
    phases = KINDS[name][1]
    number = phases.index(phase)
    model = interrupted_before(name, number)
    assert model.history_["stopped"] == "interrupted"
    assert phase_names(model) == phases[:number]
    step = next(i for i, record in enumerate(uninterrupted(name)) if record.phase == number)
    assert_parameters_are(expected_parameters(name, model, step, started=False), model)
    assert_saved_model_is_equal(model, tmp_path)


def test_ctrl_c_while_a_classifier_fits_its_encoder_ends_the_fit(monkeypatch, tmp_path):
    press_ctrl_c(monkeypatch, at=5)
    model = CodeClassifier(encoder=Autoencoder(**TWO), head_epochs=2, **HOW).fit(X, Y)
    assert (model.history_["stopped"], phase_names(model)) == ("interrupted", ["encoder"])
    assert model.history_["notes"] == ["the fit of the encoder was interrupted: the labels were not learned"]
    assert_saved_model_is_equal(model, tmp_path)


def test_a_classifier_learns_from_an_encoder_whose_fit_was_interrupted(monkeypatch):
    with monkeypatch.context() as patched:
        press_ctrl_c(patched, at=5)
        encoder = Autoencoder(**TWO).fit(X)
    model = CodeClassifier(encoder=encoder, **HOW).fit(X, Y)
    assert (model.history_["stopped"], phase_names(model)) == ("max_epochs", ["classification"])


def assert_parameters_are(expected, model):
    for key, value in kept_parts(model).named_parameters():
        torch.testing.assert_close(
            value.detach(), expected[key], rtol=0, atol=1e-7, msg=lambda text, key=key: f"{key}: {text}"
        )


def assert_saved_model_is_equal(model, tmp_path):
    """The outputs are finite, and those of the saved model."""
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    read = (lambda m: m.predict_proba(X)) if isinstance(model, CodeClassifier) else (lambda m: m.transform(X))
    assert np.isfinite(read(model)).all()
    np.testing.assert_array_equal(read(again), read(model))
    if not isinstance(model, CodeClassifier):
        assert np.isfinite(model.reconstruct(X)).all()
        np.testing.assert_array_equal(again.reconstruct(X), model.reconstruct(X))
