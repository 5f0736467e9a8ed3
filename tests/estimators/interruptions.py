"""Runs that end before they have learned: killed while their state is written, or stopped by Ctrl-C in a step."""

from dataclasses import dataclass

import pytest
import torch

from isthmus.estimators import checkpoints
from isthmus.learning import trainer


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
        whole: the state of the whole model.
        part: the state of the objective that the phase minimises.
    """

    phase: int
    epoch: int
    whole: dict[str, torch.Tensor]
    part: dict[str, torch.Tensor]


def record_steps(model, monkeypatch, *arguments):
    """Fit the model without interruption, and return a `StepRecord` of each step."""
    step, trainers, records = trainer.Trainer._step, [], []

    def recorded(learning, *bounds):
        if learning not in trainers:
            trainers.append(learning)
        whole, part = (
            {name: value.clone() for name, value in objective.state_dict().items()}
            for objective in (model.coder_, learning.objective)
        )
        records.append(StepRecord(len(trainers) - 1, learning.state.epoch, whole, part))
        return step(learning, *bounds)

    with monkeypatch.context() as patched:
        patched.setattr(trainer.Trainer, "_step", recorded)
        model.fit(*arguments)
    return records
