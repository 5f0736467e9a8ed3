"""Commands as separate processes: Ctrl-C, a killed run, a terminal and a pipe."""

import json
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
from .processes import ISTHMUS, TIMEOUT, Terminal, environment, wait_for


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, np.random.default_rng(0).normal(size=(2000, 12)).astype(np.float32))
    return path


def test_a_killed_and_resumed_run_gives_the_weights_of_an_uninterrupted_run(rows, tmp_path):
    fit = ("fit", str(rows), "--epochs", "30", "--seed", "3", "--code-size", "3", "--set", "network.hidden_sizes=64,32",
           "--set", "network.dropout=0.1", "--precision", "fp32", "--set", "patience=none")  # fmt: skip
    killed, whole, state = tmp_path / "killed", tmp_path / "whole", tmp_path / "killed.checkpoint"
    command = [*ISTHMUS, *fit, "-o", str(killed), "--checkpoint-every", "0.05s"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(state.exists, process, "checkpoint")
    time.sleep(0.05)  # the kill may interrupt the writing of a checkpoint
    process.send_signal(signal.SIGKILL)
    out, log = process.communicate(timeout=TIMEOUT)
    assert process.returncode == -signal.SIGKILL
    assert not killed.exists()
    assert len(isthmus.files.read_tensors(state)[1]["state"]["learning"]["epochs"]) < 29
    assert out == b""
    assert not re.search(rb"[\x1b\r]", log)  # a pipe gets no progress bar and no colours

    resumed = run(*fit, "-o", killed, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert "resuming from" in resumed.stderr
    assert run(*fit, "-o", whole).exit_code == 0
    first, second = (isthmus.load(path) for path in (killed, whole))
    weights, others = first.coder_.state_dict(), second.coder_.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in others)
    losses = [[epoch["held_out"] for epoch in model.history_["epochs"]] for model in (first, second)]
    assert losses[0] == losses[1]
    assert not state.exists()


def test_ctrl_c_stops_training_and_saves_the_model(rows, tmp_path):
    model = tmp_path / "m.isthmus"
    terminal = Terminal("fit", str(rows), "-o", str(model), "--epochs", "100000", "--set", "patience=none", "--json")
    wait_for(lambda: re.search(r"loss \d.*rows/s", terminal.read()), terminal.process, "step on the progress bar")
    terminal.process.send_signal(signal.SIGINT)
    facts = json.loads(terminal.end())
    assert terminal.process.returncode == 0, terminal.shown
    assert facts["stopped"] == "interrupted"
    assert "interrupted; the model trained so far is kept" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert isthmus.load(model).history_["stopped"] == "interrupted"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.isthmus", "rows.npy"]


def test_an_interrupted_run_resumes_from_its_checkpoint_and_overwrites_its_model(rows, tmp_path):
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
    wait_for(lambda: terminal.read() is not None and state.exists(), terminal.process, "checkpoint")
    terminal.process.send_signal(signal.SIGINT)
    terminal.end()
    assert model.exists()
    assert state.exists()
    again = run(*fit, "--resume", "--time-limit", "1s")
    assert again.exit_code == 0, again.stderr
    assert "resuming from" in again.stderr
    assert isthmus.load(model).history_["stopped"] != "interrupted"


HEAVY = ("torch", "sklearn", "pandas", "numpy", "scipy", "lightning_fabric", "matplotlib", "pyarrow")


@pytest.mark.parametrize("arguments", [("--help",), ("fit", "--help"), ("--version",), ()])
def test_help_imports_no_slow_package(arguments):
    script = (
        "import sys\nfrom isthmus.cli import main\n"
        f"try:\n    main()\nfinally:\n    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert "isthmus" in done.stdout


@pytest.mark.parametrize("debug", [True, False])
def test_isthmus_debug_prints_the_traceback_of_an_internal_error(debug):
    script = (
        "import isthmus.estimators.registry as registry\nfrom isthmus.cli import main\nregistry.KINDS = None\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "kinds"],
        env=environment() | {"ISTHMUS_DEBUG": "1" if debug else ""},
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    if debug:
        assert done.stderr.startswith("Traceback (most recent call last)")
        assert "inspection.py" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("AttributeError: ")
    else:
        assert done.stderr.startswith("isthmus: error: internal error: AttributeError: ")
        assert done.stderr.count("\n") == 1


def test_a_closed_pipe_gives_no_traceback():
    command = [*ISTHMUS, "--help"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
