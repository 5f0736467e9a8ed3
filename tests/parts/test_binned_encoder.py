"""The encoder that sees bins of each column."""

import numpy as np
import torch

from isthmus.parts.binned_encoder import BinnedEncoder


def encoder(n_columns=3, n_bins=4):
    return BinnedEncoder(n_columns, n_bins, (8, 2), "silu", generator=torch.Generator().manual_seed(0))


def test_borders_are_quantiles_of_the_observed_entries():
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(1000, 3, generator=torch.Generator().manual_seed(1)) < 0.7
    made = encoder()
    made.fit_borders(x, mask)
    for j in range(3):
        expected = np.quantile(x[mask[:, j], j].double().numpy(), [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(made.borders[j], expected, rtol=1e-5)


def test_equal_quantiles_leave_finite_bins():
    made = encoder(2)
    made.fit_borders(torch.tensor([[0.0, 5.0], [0.0, 5.0], [1.0, 5.0]]), torch.ones(3, 2, dtype=torch.bool))
    assert (made.borders.diff(dim=1) > 0).all()
    assert made(torch.tensor([[0.0, 5.0, 1.0, 1.0]])).isfinite().all()


def test_hidden_entries_have_no_effect():
    made = encoder()
    made.fit_borders(torch.randn(50, 3), torch.ones(50, 3, dtype=torch.bool))
    mask = torch.tensor([[1.0, 0.0, 1.0]])
    one, other = torch.tensor([[0.3, 9.0, -1.0]]), torch.tensor([[0.3, -9.0, -1.0]])
    assert torch.equal(made(torch.cat([one * mask, mask], 1)), made(torch.cat([other * mask, mask], 1)))


def test_borders_are_part_of_the_state():
    first, second = encoder(), encoder()
    first.fit_borders(torch.randn(50, 3), torch.ones(50, 3, dtype=torch.bool))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.borders, second.borders)
