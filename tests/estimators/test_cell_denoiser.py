"""The denoiser of hidden cells, which the imputer and the detector of odd rows share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus.data.preprocessing import Preprocessor
from isthmus.estimators.cell_denoiser import CellDenoiser, CellRows, expected_cells, hidden_predictions, merged

GROUPS = [[0], [1], [2, 3], [4]]


@pytest.fixture(scope="module")
def rows():
    """Rows in which columns 0 and 1, and 2 and 4, are nearly equal, with gaps."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 5, generator=generator)
    z[:, 1] = z[:, 0] + 0.1 * z[:, 1]
    z[:, 4] = z[:, 2] + 0.1 * z[:, 4]
    return z, torch.rand(400, 5, generator=generator) > 0.1


@pytest.fixture(scope="module")
def denoiser(rows):
    z, mask = rows
    preprocessing = Preprocessor.from_data(z.numpy(), scaling="none", missing="mask", layout="table")
    options = {"code_size": 16, "likelihood": "gaussian", "max_epochs": 40, "learning_rate": 3e-3, "random_state": 0}
    found = CellDenoiser.of_hidden_cells((16,), rate=0.3, groups=GROUPS, **options)
    return found.fit_cells(preprocessing, CellRows(z, mask), mask[:0])


def test_hidden_cells_are_predicted_from_the_others(rows, denoiser):
    z, mask = rows
    predicted = hidden_predictions(denoiser, z, mask, GROUPS)
    errors = torch.where(mask, predicted - z, torch.nan).square().nanmean(0)
    assert (errors[[0, 1, 2, 4]] < 0.5).all()
    assert errors[3] > 0.8


def test_a_prediction_depends_on_visible_cells_alone(rows, denoiser):
    z, mask = rows
    predicted = hidden_predictions(denoiser, z, mask, GROUPS)
    for group in GROUPS:
        changed = z.clone()
        changed[:, group] = 9.0
        other = hidden_predictions(denoiser, changed, mask, [group])
        assert torch.equal(other[:, group], predicted[:, group])
        assert other[:, [column for column in range(5) if column not in group]].isnan().all()
    placeholders = hidden_predictions(denoiser, torch.where(mask, z, 7.0), mask, GROUPS)
    assert torch.equal(placeholders, predicted)


def test_predictions_are_the_reconstructions_of_rows_with_gaps(rows, denoiser):
    z, mask = rows
    array = np.where(mask.numpy(), z.numpy(), np.nan)
    np.testing.assert_array_equal(expected_cells([denoiser], z, mask).float(), denoiser.reconstruct(array))
    array[:, 2:4] = np.nan
    found = hidden_predictions(denoiser, z, mask, GROUPS)[:, 2:4]
    np.testing.assert_array_equal(found.float(), denoiser.reconstruct(array)[:, 2:4])


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_merged_groups_have_each_column_once(n):
    found = merged(GROUPS, n)
    assert len(found) == min(n, len(GROUPS))
    assert sorted(column for group in found for column in group) == [0, 1, 2, 3, 4]
