"""Recirculation and the recurrent kind on the command line."""

import json

import numpy as np
import pytest

import isthmus

SMALL = ("--code-size", "3", "--epochs", "2", "--seed", "0")
RECURRENT = ("--kind", "recurrent", "--set", "hidden_sizes=6", "--set", "n_sweeps=2")


@pytest.mark.parametrize(
    ("chosen", "description"),
    [(("--kind", "recirculation", "--set", "regression=0.5"), "recirculation, 5-3"), (RECURRENT, "recurrent, 5-6-3")],
)
def test_the_commands_accept_kinds_with_local_learning_rules(chosen, description, inputs, tmp_path, succeed):
    model, X = tmp_path / "m.isthmus", inputs / "array.npy"
    assert f"model: {description}" in succeed("fit", X, "-o", model, *chosen, *SMALL).stderr
    assert json.loads(succeed("info", model, "--json").stdout)["kind"] == chosen[1]
    succeed("report", model, X, "-o", tmp_path / "m.html")
    assert description.partition(",")[0] in (tmp_path / "m.html").read_text()
    succeed("encode", model, X, "-o", tmp_path / "codes.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), isthmus.load(model).transform(np.load(X)))
