"""`isthmus classify fit` as a separate process: a killed run, Ctrl-C, and their continuation."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import isthmus
from isthmus.files import read_tensors

from .commands import run
from .processes import ISTHMUS, TIMEOUT, Terminal, environment, wait_for


@pytest.fixture
def fit(tmp_path: Path) -> tuple[str, ...]:
    """The command of a fit on labelled rows, with the model of the same rows, but for its output and its epochs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 12)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", X=X, y=(X[:, 0] > 0).astype(int))
    made = run("fit", tmp_path / "rows.npz", "-o", tmp_path / "coder", "--epochs", 1, "--seed", 0, "--code-size", 3)
    assert made.exit_code == 0, made.stderr
    return (
        "classify", "fit", str(tmp_path / "rows.npz"), "--encoder", str(tmp_path / "coder"), "--seed", "3",
        "--set", "patience=none", "--set", "hidden_noise=0.1", "--set", "head_epochs=2", "--precision", "fp32",
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("rows.npz", "coder"))


def test_a_killed_and_resumed_run_gives_the_weights_of_an_uninterrupted_run(fit, tmp_path):
    killed, whole, state = tmp_path / "killed", tmp_path / "whole", tmp_path / "killed.checkpoint"
    fit = (*fit, "--epochs", "30")
    command = [*ISTHMUS, *fit, "-o", str(killed), "--checkpoint-every", "0.05s"]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(state.exists, process, "checkpoint")
    time.sleep(0.05)  # the kill may interrupt the writing of a checkpoint
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == -signal.SIGKILL
    assert not killed.exists()
    assert len(read_tensors(state)[1]["state"]["learning"]["epochs"]) < 29

    refused = run(*fit, "-o", killed)
    assert refused.exit_code == 2
    assert "checkpoint of an unfinished run; continue it with --resume" in refused.stderr
    resumed = run(*fit, "-o", killed, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert f"resuming from {state}" in resumed.stderr
    assert run(*fit, "-o", whole).exit_code == 0
    first, second = (isthmus.load(path) for path in (killed, whole))
    weights, others = (model._parts.state_dict() for model in (first, second))
    assert all(torch.equal(weights[name], others[name]) for name in others)
    losses = [[epoch["held_out"] for epoch in model.history_["epochs"]] for model in (first, second)]
    assert losses[0] == losses[1]
    assert names(tmp_path) == ["killed", "whole"]


def test_ctrl_c_keeps_classifier_and_checkpoint_and_says_how_to_continue(fit, tmp_path):
    model, state = tmp_path / "clf", tmp_path / "clf.checkpoint"
    fit = (*fit, "-o", str(model), "--epochs", "2000", "--checkpoint-every", "0.05s")
    terminal = Terminal(*fit, "--json")
    wait_for(lambda: terminal.read() is not None and state.exists(), terminal.process, "checkpoint")
    terminal.process.send_signal(signal.SIGINT)
    facts = json.loads(terminal.end())
    assert terminal.process.returncode == 0, terminal.shown
    assert facts["stopped"] == "interrupted"
    assert f"to continue the interrupted run from {state}, repeat the command with --resume" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert names(tmp_path) == ["clf", "clf.checkpoint"]

    again = run(*fit, "--resume", "--time-limit", "1s")
    assert again.exit_code == 0, again.stderr
    assert "resuming from" in again.stderr
    assert isthmus.load(model).history_["stopped"] == "time_limit"
    assert names(tmp_path) == ["clf", "clf.checkpoint"], "a run that its time limit ended can go on"


def test_ctrl_c_without_a_checkpoint_keeps_the_classifier_alone(fit, tmp_path):
    terminal = Terminal(*fit, "-o", str(tmp_path / "clf"), "--epochs", "100000")
    wait_for(lambda: "rows/s" in terminal.read(), terminal.process, "step on the progress bar")
    terminal.process.send_signal(signal.SIGINT)
    terminal.end()
    assert terminal.process.returncode == 0, terminal.shown
    assert "interrupted; the model trained so far is kept" in terminal.shown
    assert "--resume" not in terminal.shown
    assert names(tmp_path) == ["clf"]
