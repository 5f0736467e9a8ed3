"""Commands as processes of their own: Ctrl-C, a kill at any moment, a terminal and a pipe."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import isthmus
import isthmus.files

from .commands import run

ISTHMUS = (sys.executable, "-c", "from isthmus.cli import main; main()")
PATIENCE = 120
"""Seconds after which a process is given up: no measure of speed, only an end to a hang."""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, np.random.default_rng(0).normal(size=(2000, 12)).astype(np.float32))
    return path


def environment() -> dict[str, str]:
    """The same number of threads as this process: other sums would be added in another order."""
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "TERM": "xterm", "COLUMNS": "100"}


def wait_for(happened, process: subprocess.Popen, what: str) -> None:
    """Until something has happened, in a process that is still running."""
    began = time.monotonic()
    while not happened():
        assert process.poll() is None, f"ended with {process.returncode} before {what}"
        assert time.monotonic() - began < PATIENCE, f"no {what}"
        time.sleep(0.01)


def test_a_killed_run_that_is_resumed_ends_with_the_weights_of_one_that_was_not(rows, tmp_path):
    fit = ("fit", str(rows), "--epochs", "30", "--seed", "3", "--code-size", "3", "--set", "hidden_sizes=64,32",
           "--set", "dropout=0.1", "--precision", "fp32", "--set", "patience=none")  # fmt: skip
    killed, whole, state = tmp_path / "killed", tmp_path / "whole", tmp_path / "killed.checkpoint"
    command = [*ISTHMUS, *fit, "-o", str(killed), "--checkpoint-every", "0.05s"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(state.exists, process, "state of the run")
    time.sleep(0.05)  # so that the kill may fall into a writing of the state
    process.send_signal(signal.SIGKILL)
    out, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert not killed.exists()
    assert len(isthmus.files.read_tensors(state)[1]["state"]["learning"]["epochs"]) < 29
    assert out == b""
    assert not re.search(rb"[\x1b\r]", log)  # a pipe gets no progress bar and no colours

    resumed = run(*fit, "-o", killed, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert "going on from" in resumed.stderr
    assert run(*fit, "-o", whole).exit_code == 0
    first, second = (isthmus.load(path) for path in (killed, whole))
    weights, others = first.objective_.state_dict(), second.objective_.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in others)
    losses = [[epoch["held_out"] for epoch in model.history_["epochs"]] for model in (first, second)]
    assert losses[0] == losses[1]
    assert not state.exists()


class Terminal:
    """A process on a terminal of its own, and all that it shows there."""

    def __init__(self, *args: str) -> None:
        self.master, slave = pty.openpty()
        # A shell that runs the tests in the background has them ignore Ctrl-C, which a process hands to its children.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [*ISTHMUS, *args], env=environment(), stdin=slave, stdout=subprocess.PIPE, stderr=slave
        )
        signal.signal(signal.SIGINT, before)
        os.close(slave)
        os.set_blocking(self.master, False)
        self.shown = ""

    def read(self) -> str:
        """What has been shown until now."""
        try:
            while part := os.read(self.master, 65536):
                self.shown += part.decode(errors="replace")
        except OSError:  # nothing more at the moment, or the process has gone
            pass
        return self.shown

    def end(self) -> bytes:
        """Wait for the process; what it wrote to stdout."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
            time.sleep(0.01)
        self.read()
        os.close(self.master)
        with self.process:
            return self.process.stdout.read()


def test_ctrl_c_ends_learning_keeps_the_model_and_says_so(rows, tmp_path):
    model = tmp_path / "m.isthmus"
    terminal = Terminal("fit", str(rows), "-o", str(model), "--epochs", "100000", "--set", "patience=none", "--json")
    wait_for(lambda: re.search(r"loss \d.*rows/s", terminal.read()), terminal.process, "step on the progress bar")
    terminal.process.send_signal(signal.SIGINT)
    told = json.loads(terminal.end())
    assert terminal.process.returncode == 0, terminal.shown
    assert told["stopped"] == "interrupted"
    assert "interrupted: the model as it stood then is kept" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert isthmus.load(model).history_["stopped"] == "interrupted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.isthmus", "rows.npy"]


def test_a_run_that_ctrl_c_ended_goes_on_from_its_checkpoint_and_replaces_what_it_left(rows, tmp_path):
    model, state = tmp_path / "m.isthmus", tmp_path / "m.isthmus.checkpoint"
    fit = (
        "fit",
        str(rows),
        "-o",
        str(model),
        "--epochs",
        "2000",
        "--set",
        "patience=none",
        "--checkpoint-every",
        "0.05s",
    )
    terminal = Terminal(*fit)
    wait_for(lambda: terminal.read() is not None and state.exists(), terminal.process, "state of the run")
    terminal.process.send_signal(signal.SIGINT)
    terminal.end()
    assert model.exists()
    assert state.exists()
    again = run(*fit, "--resume", "--time-limit", "1s")
    assert again.exit_code == 0, again.stderr
    assert "going on from" in again.stderr
    assert isthmus.load(model).history_["stopped"] != "interrupted"


HEAVY = ("torch", "sklearn", "pandas", "numpy", "scipy", "lightning_fabric", "matplotlib", "pyarrow")


@pytest.mark.parametrize("arguments", [("--help",), ("fit", "--help"), ("--version",), ()])
def test_help_waits_for_nothing_heavy(arguments):
    script = (
        "import sys\nfrom isthmus.cli import main\n"
        f"try:\n    main()\nfinally:\n    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "isthmus" in done.stdout


def test_a_closed_pipe_gives_no_traceback():
    command = [*ISTHMUS, "--help"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
