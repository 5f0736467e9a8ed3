"""`isthmus fit`: what it makes, says and keeps."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import isthmus

from .commands import SMALL, run


def test_a_fit_writes_a_model_that_loads_and_says_what_it_found(shop, tmp_path, fine):
    result = fine("fit", shop / "table.csv", "-o", tmp_path / "m.isthmus", *SMALL, "--exclude", "species")
    assert result.stdout == ""
    for told in (
        "data: table: 60 rows, a table of 4 columns",
        "model: deep, 6-8-2, likelihood mixed, seed 0",
        "learning: 2 epochs",
        "squared error a row:",
        "principal components of the same size:",
        f"model written to {tmp_path / 'm.isthmus'}",
    ):
        assert told in result.stderr
    model = isthmus.load(tmp_path / "m.isthmus")
    assert (model.kind, model.code_size_, model.hidden_sizes_, model.n_rows_) == ("deep", 2, (8,), 54)
    assert [path.name for path in tmp_path.iterdir()] == ["m.isthmus"]


def test_quiet_says_nothing_and_json_prints_one_object(shop, tmp_path, fine):
    result = fine("fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--quiet", "--json")
    assert result.stderr == ""
    told = json.loads(result.stdout)
    assert told["model"] == str(tmp_path / "m.isthmus")
    assert (told["kind"], told["rows"], told["code_size"], told["hidden_sizes"]) == ("deep", 54, 2, [8])
    assert told["squared_error_per_row"] > told["pca_squared_error_per_row"] > 0


def test_the_options_reach_the_estimator(shop, tmp_path, fine):
    fine(
        "fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", "--kind", "deep", "--code-size", 3, "--epochs", 2,
        "--time-limit", "5m", "--seed", 4, "--scaling", "minmax", "--missing", "median", "--device", "cpu",
        "--precision", "fp32", "--validation", "0.25", "--set", "activation=tanh", "--set", "hidden_sizes=8,6",
    )  # fmt: skip
    model = isthmus.load(tmp_path / "m.isthmus")
    chosen = {
        "code_size": 3, "max_epochs": 2, "time_limit": 300.0, "random_state": 4, "scaling": "minmax",
        "missing": "median", "device": "cpu", "precision": "fp32", "validation_fraction": 0.25, "activation": "tanh",
    }  # fmt: skip
    assert {name: value for name, value in model.get_params().items() if name in chosen} == chosen
    assert (model.n_rows_, model.hidden_sizes_) == (45, (8, 6))


def test_the_same_seed_gives_the_same_weights(shop, tmp_path, fine):
    for name in ("a", "b"):
        fine("fit", shop / "array.npy", "-o", tmp_path / name, *SMALL)
    first, second = (isthmus.load(tmp_path / name).objective_.state_dict() for name in ("a", "b"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_held_out_rows_may_come_from_other_data(shop, tmp_path, fine):
    np.save(tmp_path / "held-out.npy", np.load(shop / "array.npy")[:20])
    result = fine(
        "fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--validation", tmp_path / "held-out.npy"
    )
    assert "validation: held-out: 20 rows, 5 columns of float64" in result.stderr
    assert "(on 20 rows, in model units)" in result.stderr
    assert isthmus.load(tmp_path / "m.isthmus").n_rows_ == 60


def test_every_kind_can_be_fitted(shop, tmp_path, fine):
    for kind in ("linear", "conv"):
        fine("fit", shop / "images", "-o", tmp_path / kind, "--kind", kind, "--epochs", 1, "--code-size", 2)
        assert isthmus.load(tmp_path / kind).kind == kind


def test_an_image_folder_is_resized_and_later_commands_resize_theirs(shop, tmp_path, fine):
    fine("fit", shop / "images", "-o", tmp_path / "m.isthmus", *SMALL, "--resize", "4x3")
    assert isthmus.load(tmp_path / "m.isthmus").preprocessing_.row_shape == (4, 3)
    fine("encode", tmp_path / "m.isthmus", shop / "images", "-o", tmp_path / "codes.npy")
    assert np.load(tmp_path / "codes.npy").shape == (12, 2)


def test_a_constant_column_and_a_code_wider_than_the_data_are_allowed_and_noted(tmp_path, fine):
    rows = np.random.default_rng(0).normal(size=(40, 3)).round(3)
    rows[:, 1] = 7
    pd.DataFrame(rows, columns=["a", "b", "c"]).to_csv(tmp_path / "rows.csv", index=False)
    result = fine("fit", tmp_path / "rows.csv", "-o", tmp_path / "m.isthmus", *SMALL, "--code-size", 5)
    assert "note: the code has more units (5) than the data has columns (3)" in result.stderr
    assert "note: column 'b' never varied" in result.stderr
    fine("encode", tmp_path / "m.isthmus", tmp_path / "rows.csv", "-o", tmp_path / "codes.npy")
    assert np.load(tmp_path / "codes.npy").shape == (40, 5)


@pytest.mark.parametrize("policy", ["mean", "median"])
def test_missing_values_are_filled_only_when_that_was_said(tmp_path, fine, refused, policy):
    (tmp_path / "rows.csv").write_text("a,b\n" + "\n".join(f"{i},{i * i}" for i in range(1, 30)) + "\n3,\n")
    arguments = ("fit", tmp_path / "rows.csv", "-o", tmp_path / "m.isthmus", *SMALL)
    assert "mean|median|mask" in fine("fit", "--help").stdout
    refused(arguments, "NaN (a missing value) at row 29, column 'b'", "--missing")
    fine(*arguments, "--missing", policy)
    assert isthmus.load(tmp_path / "m.isthmus").missing == policy


def test_an_existing_model_is_replaced_only_with_force(shop, tmp_path, fine, refused):
    (tmp_path / "m.isthmus").write_text("precious")
    arguments = ("fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL)
    refused(arguments, "the file exists; choose a new name, or replace it with --force")
    fine(*arguments, "--force")
    assert isthmus.load(tmp_path / "m.isthmus").kind == "deep"


def test_an_unfinished_checkpoint_is_deleted_only_with_force(shop, tmp_path, fine, refused):
    state = tmp_path / "m.isthmus.checkpoint"
    state.write_text("hours of work")
    arguments = ("fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL)
    refused(arguments, "the state of an unfinished run is kept there; go on with it by --resume")
    refused((*arguments, "--resume"), "m.isthmus.checkpoint is not a whole isthmus model file")
    fine(*arguments, "--force")
    assert not state.exists()


def test_resuming_without_a_state_starts_afresh_and_says_so(shop, tmp_path, fine):
    result = fine("fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--resume")
    assert "starting afresh" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["m.isthmus"]


def test_a_loss_that_is_no_number_keeps_the_last_good_weights_and_fails(shop, tmp_path):
    result = run(
        "fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL, "--kind", "deep", "--scaling", "none",
        "--set", "learning_rate=1e30",
    )  # fmt: skip
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("isthmus: error: the loss was no longer a finite number in epoch 1")
    assert "the learning rate is too large" in last
    assert last.endswith(f"the model with the last good weights was written to {tmp_path / 'm.isthmus'}")
    model = isthmus.load(tmp_path / "m.isthmus")
    assert model.history_["stopped"] == "nan"
    assert np.isfinite(model.transform(np.load(shop / "array.npy"))).all()


def test_an_unforeseen_failure_is_one_line_with_a_hint_and_leaves_nothing(shop, tmp_path, monkeypatch, refused):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a wheel\ncame off")

    monkeypatch.setattr("isthmus.Autoencoder.fit", broken)
    arguments = ("fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL)
    refused(arguments, "RuntimeError: a wheel came off", "ISTHMUS_DEBUG=1 shows where", code=1)
    monkeypatch.setenv("ISTHMUS_DEBUG", "1")
    assert isinstance(run(*arguments).exception, RuntimeError)


def test_ctrl_c_before_learning_ends_with_130_and_leaves_nothing(shop, tmp_path, monkeypatch, refused):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("isthmus.data.open", interrupted)
    refused(("fit", shop / "array.npy", "-o", tmp_path / "m.isthmus", *SMALL), "interrupted", code=130)


def test_a_relative_path_is_taken_from_the_current_folder(shop, tmp_path, monkeypatch, fine):
    monkeypatch.chdir(tmp_path)
    fine("fit", os.path.relpath(shop / "array.npy"), "-o", "m.isthmus", *SMALL)
    assert Path("m.isthmus").is_file()
