"""The doctor's rules on codes of bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from isthmus.evaluation.bits import RULES, colliding_share, copies
from isthmus.evaluation.facts import ColumnStatistics, FitFacts

COLUMNS = ColumnStatistics(*(np.array(v) for v in ([0.0, 0.0], [1.0, 1.0], [-3.0, -3.0], [3.0, 3.0])))


def facts(bits, *, has_bits=True):
    return FitFacts(
        epochs=[], stopped="max_epochs", columns=COLUMNS, n_rows=len(bits), n_columns=2, code_size=bits.shape[1],
        n_parameters=9, codes=torch.from_numpy(bits.astype(np.float32)), has_bits=has_bits,
    )  # fmt: skip


def random_bits(n=200, size=12):
    return np.random.default_rng(0).integers(2, size=(n, size))


def findings(bits, **options):
    found = facts(bits, **options)
    return {name: finding for name, rule in RULES.items() if (finding := rule(found)) is not None}


def test_good_codes_have_no_finding():
    assert findings(random_bits()) == {}


def test_bits_that_never_flip_are_named():
    bits = random_bits()
    bits[:, 3], bits[:, 7] = 1, 0
    assert "2 of 12 bits never flip over 200 rows: 3, 7" in findings(bits)["constant-bits"].message


def test_bits_that_copy_or_negate_others_are_named():
    bits = random_bits()
    bits[:, 5], bits[:, 9] = bits[:, 2], 1 - bits[:, 2]
    assert findings(bits)["copied-bits"].message.endswith("5 of 2, 9 of 2")
    assert "2 of 12 bits copy another one" in findings(bits)["copied-bits"].message
    bits[0, 9] = bits[0, 2]
    assert copies(bits).tolist() == [[2, 5], [2, 9]]
    bits[:30, 9] = bits[:30, 2]
    assert copies(bits).tolist() == [[2, 5]]


def test_rows_that_share_their_code_are_counted():
    bits = np.repeat(random_bits(4), 50, axis=0)
    found = findings(bits)["colliding-codes"]
    assert "100% of 200 rows have the code of another row; there are 4 codes" in found.message
    assert found.severity == "warning"
    assert colliding_share(random_bits(2)) == 0


@pytest.mark.parametrize("change", [{"has_bits": False}, {"codes": None}, {"codes": torch.zeros(3, 4)}])
def test_other_codes_and_few_rows_have_no_finding(change):
    found = replace(facts(np.zeros((50, 4))), **change)
    assert all(rule(found) is None for rule in RULES.values())
