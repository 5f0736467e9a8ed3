"""The command lines of the benchmarks, and the checks of a device."""

import importlib
import sys
import threading

import numpy as np
import pytest
import torch

import isthmus.data
from benchmarks import anomalies, device, retrieval, variational
from isthmus.estimators.registry import KINDS

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "module", ["__main__", "anomalies", "device", "dictionary", "kinds", "quality", "retrieval", "variational"]
)
def test_help_prints_the_usage_and_measures_nothing(module, monkeypatch, capsys):
    def read(*arguments):
        raise AssertionError("the benchmark started")

    command = importlib.import_module(f"benchmarks.{module}")
    monkeypatch.setattr(isthmus.data, "open", read)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m benchmarks")


def test_the_bare_loop_of_the_variational_autoencoder_has_the_mathematics_of_its_fit():
    x = variational.binary(np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8))
    bounds = [loop(x, x[:10])[1] for loop in (variational.bare, variational.ours)]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-5)


def test_the_table_of_odd_rows_has_a_line_for_each_detector():
    lines = anomalies.run(60, 20)
    assert [line.split()[0] for line in lines[2:5]] == ["AnomalyDetector", "IsolationForest", "LocalOutlierFactor"]
    assert lines[2].split()[2::2] == ["1.00", "1.00"]


def test_the_searches_of_an_index_are_compared_and_see_whole_blocks(monkeypatch):
    for name, value in {"BLOCK": 400, "ADDED_ROWS": 20, "ALONE_SECONDS": 0.1}.items():
        monkeypatch.setattr(retrieval, name, value)
    monkeypatch.setattr(retrieval, "get_context", lambda method: InThread)
    lines = retrieval.run(1000, 1, 4)
    assert lines[0].startswith("build of 1000 rows")
    assert {line.split("  ")[0] for line in lines[6:-3]} == {
        "faiss", "index", "with codes", "re-ranked", "multi-index", "where 1%", "where 10%", "where 100%"
    }  # fmt: skip
    assert lines[-2].startswith("each search saw whole blocks")


class InThread:
    """Events and processes that are threads, which see patched sizes."""

    Event = threading.Event

    class Process(threading.Thread):
        exitcode = 0


def test_the_device_check_has_a_case_of_every_kind():
    assert {model.kind for model in device.CASES.values()} == set(KINDS)


def test_a_few_cases_pass_the_device_check_on_the_cpu():
    names = ("linear", device.TABLE, "sparse, topk", "rbm")
    results = list(device.checks({name: device.CASES[name] for name in names}, CPU))
    assert [passed for passed, _ in results] == [True] * 4
    for name, (_, line) in zip(names, results, strict=True):
        assert line.startswith(name)
        assert "n/a" in line


@pytest.mark.parametrize(
    ("name", "n_rows", "passes"), [("sparse, topk", 1, True), ("sparse, topk", 2, False), ("deep", 1, False)]
)
def test_rows_may_differ_because_of_ties_alone(name, n_rows, passes, monkeypatch):
    def differing(model, X):
        reading = device.Reading.of(model, X)
        reading.codes[:n_rows] += 1.0
        return reading

    monkeypatch.setattr(device, "read_on_cpu", differing)
    [(passed, _)] = device.checks({name: device.CASES[name]}, CPU)
    assert passed == passes


def test_every_step_of_a_phase_but_the_first_must_not_wait(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    x = np.random.default_rng(0).random((40, 6))
    with device.waiting_refused():
        device.small("stacked", hidden_sizes=(4,), code_size=3, batch_size=20, validation_fraction=0).fit(x)
    before, after = modes[::2], modes[1::2]
    assert set(after) == {"default"}
    assert before == ["default", "error", "error", "error"] * (len(before) // 4)
    assert len(before) >= 8


def test_a_model_whose_step_waits_fails_the_device_check(monkeypatch, capsys):
    class Gpu:
        type = "cuda"

        def __str__(self):
            return "cpu"

    def waits(mode):
        if mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", waits)
    [(passed, line)] = device.checks({"deep": device.CASES["deep"]}, Gpu())
    assert not passed
    assert line.split()[-2] == "yes"
    assert "synchronizing" in capsys.readouterr().err


def test_a_failed_check_is_the_exit_status_of_the_device_check(monkeypatch, capsys):
    def fails(model, X):
        raise ValueError("no such file")

    monkeypatch.setattr(device, "CASES", {"linear": device.CASES["linear"]})
    monkeypatch.setattr(sys, "argv", ["device", "--device", "cpu", "--rows", "16"])
    for status in (0, 1):
        with pytest.raises(SystemExit) as stopped:
            device.main()
        assert stopped.value.code == status
        out = capsys.readouterr().out
        assert out.count("isthmus  ") == 2
        assert f"{status} of 1 cases failed" in out
        monkeypatch.setattr(device, "read_on_cpu", fails)
    assert "ValueError: no such file" in out


def test_the_device_check_refuses_an_unknown_device(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["device", "--device", "tpu"])
    with pytest.raises(SystemExit):
        device.main()
    assert "device='tpu' is not a device" in capsys.readouterr().err
