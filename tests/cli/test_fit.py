"""`isthmus fit`: files, log and exit codes."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import isthmus
from isthmus.learning.trainer import Trainer

from .commands import SMALL, run


def test_fit_writes_a_model_that_loads_and_logs_its_results(inputs, tmp_path, succeed):
    result = succeed("fit", inputs / "table.csv", "-o", tmp_path / "m.isthmus", *SMALL, "--exclude", "species")
    assert result.stdout == ""
    for message in (
        "data: table: 60 rows, a table of 4 columns",
        "model: deep, 6-8-2, likelihood mixed, precision ",
        "training: 2 epochs",
        "squared error per validation row (6 rows, scaled units): ",
        "PCA with the same code size:",
        f"model written to {tmp_path / 'm.isthmus'}",
    ):
        assert message in result.stderr
    model = isthmus.load(tmp_path / "m.isthmus")
    assert (model.kind, model.code_size_, model.hidden_sizes_, model.n_rows_) == ("deep", 2, (8,), 54)
    assert [path.name for path in tmp_path.iterdir()] == ["m.isthmus"]


def test_quiet_prints_no_log_and_json_prints_one_object(inputs, tmp_path, succeed):
    result = succeed("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--quiet", "--json")
    assert result.stderr == ""
    facts = json.loads(result.stdout)
    assert facts["model"] == str(tmp_path / "m.isthmus")
    assert (facts["kind"], facts["rows"], facts["code_size"], facts["hidden_sizes"]) == ("deep", 54, 2, [8])
    assert facts["squared_error_per_row"] > facts["pca_squared_error_per_row"] > 0


def test_the_options_reach_the_estimator(inputs, tmp_path, succeed):
    succeed(
        "fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", "--kind", "deep", "--code-size", 3, "--epochs", 2,
        "--time-limit", "5m", "--seed", 4, "--scaling", "minmax", "--missing", "median", "--device", "cpu",
        "--precision", "fp32", "--validation", "0.25", "--set", "network.activation=tanh",
        "--set", "network.hidden_sizes=8,6",
    )  # fmt: skip
    model = isthmus.load(tmp_path / "m.isthmus")
    chosen = {
        "code_size": 3, "max_epochs": 2, "time_limit": 300.0, "random_state": 4, "scaling": "minmax",
        "missing": "median", "precision": "fp32", "validation_fraction": 0.25, "network__activation": "tanh",
    }  # fmt: skip
    assert {name: value for name, value in model.get_params().items() if name in chosen} == chosen
    assert (model.n_rows_, model.hidden_sizes_) == (45, (8, 6))


def test_the_same_seed_gives_the_same_weights(inputs, tmp_path, succeed):
    for name in ("a", "b"):
        succeed("fit", inputs / "array.npy", "-o", tmp_path / name, *SMALL)
    first, second = (isthmus.load(tmp_path / name).coder_.state_dict() for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_validation_rows_may_come_from_another_file(inputs, tmp_path, succeed):
    np.save(tmp_path / "held-out.npy", np.load(inputs / "array.npy")[:20])
    result = succeed(
        "fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--validation", tmp_path / "held-out.npy"
    )
    assert "validation: held-out: 20 rows, 5 columns of float64" in result.stderr
    assert "(20 rows, scaled units)" in result.stderr
    assert isthmus.load(tmp_path / "m.isthmus").n_rows_ == 60


def test_every_kind_can_be_fitted(inputs, tmp_path, succeed):
    for kind in ("linear", "conv"):
        succeed("fit", inputs / "images", "-o", tmp_path / kind, "--kind", kind, "--epochs", 1, "--code-size", 2)
        assert isthmus.load(tmp_path / kind).kind == kind


def test_an_image_folder_is_resized_and_later_commands_resize_theirs(inputs, tmp_path, succeed):
    succeed("fit", inputs / "images", "-o", tmp_path / "m.isthmus", *SMALL, "--resize", "4x3")
    assert isthmus.load(tmp_path / "m.isthmus").preprocessing_.row_shape == (4, 3)
    succeed("encode", tmp_path / "m.isthmus", inputs / "images", "-o", tmp_path / "codes.npy")
    assert np.load(tmp_path / "codes.npy").shape == (12, 2)


def test_a_constant_column_and_an_overcomplete_code_are_noted(tmp_path, succeed):
    rows = np.random.default_rng(0).normal(size=(40, 3)).round(3)
    rows[:, 1] = 7
    pd.DataFrame(rows, columns=["a", "b", "c"]).to_csv(tmp_path / "rows.csv", index=False)
    result = succeed("fit", tmp_path / "rows.csv", "-o", tmp_path / "m.isthmus", *SMALL, "--code-size", 5)
    assert "note: the code has more units (5)" in result.stderr
    assert "note: column 'b' is constant" in result.stderr
    succeed("encode", tmp_path / "m.isthmus", tmp_path / "rows.csv", "-o", tmp_path / "codes.npy")
    assert np.load(tmp_path / "codes.npy").shape == (40, 5)


@pytest.mark.parametrize("policy", ["mean", "median"])
def test_missing_values_are_filled_only_on_request(tmp_path, succeed, refused, policy):
    (tmp_path / "rows.csv").write_text("a,b\n" + "\n".join(f"{i},{i * i}" for i in range(1, 30)) + "\n3,\n")
    arguments = ("fit", tmp_path / "rows.csv", "-o", tmp_path / "m.isthmus", *SMALL)
    assert "mean|median|mask" in succeed("fit", "--help").stdout
    refused(arguments, "NaN (a missing value) at row 29, column 'b'", "--missing")
    succeed(*arguments, "--missing", policy)
    assert isthmus.load(tmp_path / "m.isthmus").missing == policy


def test_an_existing_model_is_overwritten_only_with_force(inputs, tmp_path, succeed, refused):
    (tmp_path / "m.isthmus").write_text("precious")
    arguments = ("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL)
    refused(arguments, "the file exists", "--force")
    succeed(*arguments, "--force")
    assert isthmus.load(tmp_path / "m.isthmus").kind == "deep"


def test_an_unfinished_checkpoint_is_deleted_only_with_force(inputs, tmp_path, succeed, refused):
    state = tmp_path / "m.isthmus.checkpoint"
    state.write_text("hours of work")
    arguments = ("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL)
    refused(arguments, "checkpoint of an unfinished run; continue it with --resume, or discard it with --force")
    refused((*arguments, "--resume"), "m.isthmus.checkpoint is not an isthmus model file")
    succeed(*arguments, "--force")
    assert not state.exists()


def test_resuming_without_a_checkpoint_starts_from_the_beginning_with_a_note(inputs, tmp_path, succeed):
    result = succeed("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--resume")
    assert "training starts from the beginning" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.isthmus"]


def test_a_nan_loss_saves_the_best_weights_and_exits_with_1(inputs, tmp_path):
    result = run(
        "fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--kind", "deep", "--scaling", "none",
        "--set", "learning_rate=1e30",
    )  # fmt: skip
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("isthmus: error: the loss")
    assert "epoch 1" in last
    assert "learning rate" in last
    assert last.endswith(f"was written to {tmp_path / 'm.isthmus'}")
    model = isthmus.load(tmp_path / "m.isthmus")
    assert model.history_["stopped"] == "nan"
    assert np.isfinite(model.transform(np.load(inputs / "array.npy"))).all()


def test_an_internal_error_is_one_line_that_names_the_debug_variable(inputs, tmp_path, monkeypatch, refused):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shape\nmismatch")

    monkeypatch.setattr("isthmus.Autoencoder.fit", broken)
    arguments = ("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL)
    refused(arguments, "internal error: RuntimeError: shape mismatch", "run again with ISTHMUS_DEBUG=1", code=1)
    monkeypatch.setenv("ISTHMUS_DEBUG", "1")
    assert isinstance(run(*arguments).exception, RuntimeError)


def test_ctrl_c_before_training_exits_with_130_and_writes_nothing(inputs, tmp_path, monkeypatch, refused):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.data.readers.open_undeclared", interrupted)
    refused(("fit", inputs / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL), "interrupted", code=130)


def test_a_relative_path_starts_from_the_current_folder(inputs, tmp_path, monkeypatch, succeed):
    monkeypatch.chdir(tmp_path)
    succeed("fit", os.path.relpath(inputs / "array.npy"), "-o", "m.isthmus", *SMALL)
    assert Path("m.isthmus").is_file()


def test_resume_without_a_checkpoint_says_so_before_it_overwrites_a_model(inputs, tmp_path, refused):
    (tmp_path / "m.isthmus").write_text("a model")
    refused(
        ("fit", inputs / "table.csv", "-o", tmp_path / "m.isthmus", "--resume"),
        "the file exists and there is no checkpoint",
    )


def test_the_column_of_weights_is_removed_from_the_rows(inputs, table, tmp_path, succeed, refused):
    weighted = table.assign(importance=np.arange(60) % 3)
    weighted.to_csv(tmp_path / "weighted.csv", index=False)
    weighted[:20].to_csv(tmp_path / "held.csv", index=False)
    command = ("fit", tmp_path / "weighted.csv", *SMALL, "--exclude", "species", "--weights")
    succeed(*command, "importance", "-o", tmp_path / "m", "--validation", tmp_path / "held.csv")
    model, rows = isthmus.load(tmp_path / "m"), table.drop(columns="species")
    expected = model.__class__(**model.get_params(deep=False)).fit(
        rows, sample_weight=np.arange(60) % 3, validation=rows[:20]
    )
    assert model.n_rows_ == 40
    np.testing.assert_allclose(model.preprocessing_.offset, expected.preprocessing_.offset)
    np.testing.assert_allclose(model.transform(rows), expected.transform(rows), rtol=1e-4, atol=1e-5)
    succeed("evaluate", tmp_path / "m", tmp_path / "weighted.csv")
    refused((*command, "price", "-o", tmp_path / "n"), "weighted: no such column: --weights price; name a column")
    array = ("fit", inputs / "array.npy", *SMALL, "-o", tmp_path / "n", "--weights", "price")
    refused(array, "array: the rows have no named columns: --weights price; name a column of a table")
    (tmp_path / "weighted.csv").write_text(weighted.assign(importance=-1).to_csv(index=False))
    refused((*command, "importance", "-o", tmp_path / "n"), "sample_weight is -1 at row 0; weights must be finite")


def test_a_run_that_its_time_limit_ended_continues_with_resume(tmp_path, succeed, refused, monkeypatch):
    monkeypatch.setattr(Trainer, "measure", lambda trainer, seconds: (1.0, 0.0))  # each step takes less
    model, state = tmp_path / "m", tmp_path / "m.checkpoint"
    command = ("fit", "digits", "-o", model, *SMALL, "--epochs", 3)
    result = succeed(*command, "--time-limit", "20s", "--checkpoint-every", "1m")
    assert f"to continue the run from {state}, repeat the command with --resume and a longer" in result.stderr
    (short,) = isthmus.load(model).n_steps_
    refused((*command, "--time-limit", "1h"), "checkpoint of an unfinished run; continue it with --resume")
    assert f"resuming from {state}" in succeed(*command, "--time-limit", "1h", "--resume").stderr
    again = isthmus.load(model)
    assert again.n_steps_ == again.planned_steps_ > (short,)
    assert again.history_["stopped"] == "max_epochs"
    assert not state.exists()
