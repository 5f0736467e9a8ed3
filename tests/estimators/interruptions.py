"""Runs that end before they have learned: killed while their state is written, or stopped by Ctrl-C in a step."""

import pytest

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
