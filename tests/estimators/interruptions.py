"""Runs that end before they have learned: killed while their state is written, or stopped by Ctrl-C in a step."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from isthmus.estimators import base, checkpoints, supervised
from isthmus.learning import phases, trainer


class Killed(Exception):
    """Stands for kill -9: nothing after it runs."""


def kill(fit, monkeypatch, *, after):
    """Call `fit` with the arguments that have its state written at every step, and kill it after so many times."""
    writer, left = checkpoints.writer, [after]

    def cut(*arguments):
        save = writer(*arguments)

        def save_and_die(tensors, data):
            save(tensors, data)
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        return save_and_die

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoints, "writer", cut)
        fit(checkpoint_every=1e-9)


def press_ctrl_c(monkeypatch, *, at):
    """Let somebody press Ctrl-C in a step that is counted over all phases."""
    step, left = trainer.Trainer._step, [at]

    def interrupted(*arguments):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(trainer.Trainer, "_step", interrupted)


@dataclass(frozen=True)
class StepRecord:
    """The state of a model just before a step of an uninterrupted fit.

    Attributes:
        phase: number of the phase, from 0.
        epoch: number of the epoch of the phase, from 0.
        whole: the state of the parts that the model keeps.
        objectives: the state of the objective of each phase.
    """

    phase: int
    epoch: int
    whole: dict[str, torch.Tensor]
    objectives: list[dict[str, torch.Tensor]]


def kept_parts(model):
    """The modules that an autoencoder or a classifier keeps, by name."""
    if not hasattr(model, "head_"):
        return model._parts
    return nn.ModuleDict({"encoder": model.encoder_._parts, "head": model.head_})


def record_steps(model, monkeypatch, *arguments):
    """Fit the model without interruption, and return a `StepRecord` of each step."""
    step, run, trainers, records, objectives = trainer.Trainer._step, phases.run_phases, [], [], []

    def with_phases(whole, planned, *others, **options):
        objectives.extend(phase.objective for phase in planned)
        return run(whole, planned, *others, **options)

    def recorded(learning, *bounds):
        if learning not in trainers:
            trainers.append(learning)
        whole, *parts = (
            {name: value.clone() for name, value in module.state_dict().items()}
            for module in (kept_parts(model), *objectives)
        )
        records.append(StepRecord(len(trainers) - 1, learning.state.epoch, whole, parts))
        return step(learning, *bounds)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.Trainer, "_step", recorded)
        for module in (base, supervised):
            patched.setattr(module, "run_phases", with_phases)
        model.fit(*arguments)
    return records
