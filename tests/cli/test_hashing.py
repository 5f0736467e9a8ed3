"""Semantic hashing from classes on the command line."""

import json

import numpy as np
import pytest

import isthmus
from isthmus import MinimalLoss

SMALL = ("--kind", "hash", "--code-size", "8", "--epochs", "2", "--seed", "0")


def terms(model):
    return isthmus.load(model).history_["epochs"][-1]["terms"]


def test_bits_learn_from_a_column_of_classes_which_is_no_part_of_the_rows(inputs, tmp_path, succeed):
    model, rows = tmp_path / "m.isthmus", inputs / "table.csv"
    succeed("fit", rows, "-o", model, *SMALL, "--labels", "species", "--validation", rows)
    assert "labels" in terms(model)
    assert "species" not in isthmus.load(model).feature_names_in_
    assert json.loads(succeed("evaluate", model, rows, "--json").stdout)["rows"] == 60


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        (("--set", "labels=none"), None),
        (("--set", "labels=minimal-loss", "--set", "labels.rho=2"), MinimalLoss(rho=2)),
    ],
)
def test_a_setting_decides_how_classes_are_used(settings, labels, inputs, tmp_path, succeed):
    model = tmp_path / "m.isthmus"
    succeed("fit", inputs / "table.csv", "-o", model, *SMALL, "--labels", "species", *settings)
    assert isthmus.load(model).labels == labels
    assert ("labels" in terms(model)) == (labels is not None)


def test_classes_of_a_data_set_are_used_on_request_alone(tmp_path, succeed):
    model = tmp_path / "m.isthmus"
    succeed("fit", "digits", "-o", model, *SMALL)
    assert "labels" not in terms(model)
    succeed("fit", "digits", "-o", model, *SMALL, "--set", "labels=minimal-loss", "--force")
    assert "labels" in terms(model)


def test_classes_are_read_from_a_file_and_missing_ones_are_refused(inputs, tmp_path, succeed, refused):
    model, X = tmp_path / "m.isthmus", inputs / "array.npy"
    np.save(tmp_path / "labels.npy", np.arange(60) % 2)
    succeed("fit", X, "-o", model, *SMALL, "--labels", tmp_path / "labels.npy")
    assert "labels" in terms(model)
    command = ("fit", X, "-o", tmp_path / "n.isthmus", *SMALL, "--set", "labels=minimal-loss")
    refused(command, "has no labels; name a column or a .npy file with --labels")
