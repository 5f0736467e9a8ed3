"""Files of transformers on the command line: `info` shows them, commands of autoencoders refuse them."""

import json

import numpy as np
import pytest

from isthmus import FilterBank, Whitening

X = np.random.default_rng(0).random((12, 8, 8))


@pytest.mark.parametrize(
    ("estimator", "shown"),
    [
        (FilterBank(np.eye(4)[None], pool_size=2), {"image_shape": [8, 8, 1], "output_shape": [2, 2, 1]}),
        (Whitening(), {"row_shape": [8, 8]}),
    ],
    ids=["filter-bank", "whitening"],
)
def test_the_files_of_transformers_are_shown_and_refused(estimator, shown, tmp_path, succeed, refused):
    estimator.fit(X).save(tmp_path / "saved")
    contents = json.loads(succeed("info", tmp_path / "saved", "--json").stdout)
    assert contents["kind"] == estimator.kind
    assert contents["preprocessing"] == shown
    assert estimator.kind in succeed("info", tmp_path / "saved").stdout
    np.save(tmp_path / "x.npy", X)
    command = ("encode", tmp_path / "saved", tmp_path / "x.npy", "-o", tmp_path / "codes.npy")
    refused(command, f"contains a {estimator.kind}, not an autoencoder; use it in Python")
