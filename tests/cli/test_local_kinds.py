"""The kinds that recirculate and settle, on the command line: fitted, told of, reported, read."""

import json

import numpy as np
import pytest

import isthmus

SMALL = ("--code-size", "3", "--epochs", "2", "--seed", "0")
RECURRENT = ("--kind", "recurrent", "--set", "hidden_sizes=6", "--set", "n_sweeps=2")


@pytest.mark.parametrize(
    ("chosen", "told_as"),
    [(("--kind", "recirculation", "--set", "regression=0.5"), "recirculation, 5-3"), (RECURRENT, "recurrent, 5-6-3")],
)
def test_it_is_fitted_told_of_and_reported_like_any_kind(chosen, told_as, shop, tmp_path, fine):
    model, X = tmp_path / "m.isthmus", shop / "array.npy"
    assert f"model: {told_as}" in fine("fit", X, "-o", model, *chosen, *SMALL).stderr
    assert json.loads(fine("info", model, "--json").stdout)["kind"] == chosen[1]
    fine("report", model, X, "-o", tmp_path / "m.html")
    assert told_as.partition(",")[0] in (tmp_path / "m.html").read_text()
    fine("encode", model, X, "-o", tmp_path / "codes.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), isthmus.load(model).transform(np.load(X)))
