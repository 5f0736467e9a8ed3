"""Passes over rows that are on the CPU while the model may be on another device."""

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus import Autoencoder, InputWarning
from isthmus.data.streams import Affine, DenseRows
from isthmus.estimators.data_passes import RangeCheckedRows
from isthmus.parts.likelihoods import likelihood_from

REORDERED = {
    "name": "mixed",
    "groups": [{"unit": "count", "columns": [0, 2], "scale": [2.0, 5.0]}, {"unit": "binary", "columns": [1]}],
}
CONFIGS = {
    "poisson": {"name": "poisson", "scale": [2.0, 1.0, 5.0]},
    "multinomial": {"name": "multinomial"},
    "reordered columns": REORDERED,
}


def rows_of(x):
    return DenseRows(x.numpy(), Affine(np.zeros(3), np.ones(3)))


@pytest.mark.parametrize("moved", ["before", "after"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_ranges_are_checked_on_the_cpu_wherever_the_likelihood_is(config, moved):
    likelihood = likelihood_from(config, 3)
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    if moved == "before":
        likelihood.to("meta")
    rows = RangeCheckedRows(rows_of(x), likelihood, ["a", "b", "c"])
    likelihood.to("meta")
    assert torch.equal(rows.batch(torch.arange(2)).x, x)
    rows = RangeCheckedRows(rows_of(x - 7.3), likelihood, ["a", "b", "c"])
    with pytest.warns(InputWarning, match="column 'a' is -6.3 in model space, far outside the domain"):
        rows.batch(torch.arange(2))


def test_rows_of_a_table_are_read_while_its_model_is_on_another_device():
    table = pd.DataFrame({"count": [3, 0, 7, 2] * 5, "kind": list("abca") * 5, "size": [0.5, 1.5, -0.25, 3.0] * 5})
    model = Autoencoder(code_size=1, hidden_sizes=(4,), max_epochs=1, random_state=0).fit(table)
    assert model.likelihood_["name"] == "mixed"
    model.coder_.to("meta")
    batch = model._rows(table).batch(torch.arange(4))
    assert (batch.x.device.type, len(batch.x)) == ("cpu", 4)
