"""Weights, codes and scores of every kind are those of the fixture: bit-equal where it was written, close elsewhere."""

import json

import pytest

from .digests import PATH, machine, measured
from .kinds import KINDS

KEPT = json.loads(PATH.read_text())


def test_the_fixture_has_every_row_of_the_table():
    assert KEPT["kinds"].keys() == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_weights_codes_and_scores_are_those_of_the_fixture(name):
    found, kept = measured(name), KEPT["kinds"][name]
    if machine() == KEPT["machine"]:
        assert found == kept, "the numbers changed; if that is meant, run python -m tests.estimators.digests"
    for part in kept:
        assert found[part]["rms"] == pytest.approx(kept[part]["rms"], rel=0.05)
