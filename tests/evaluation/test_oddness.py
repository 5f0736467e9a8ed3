"""The parts of the score of odd rows, and planted anomalies."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from isthmus import InputError
from isthmus.evaluation.conditional_gaussian import fit_gaussian
from isthmus.evaluation.oddness import Neighbours, RowDensities, Standardization, TrimmedMixture, squashed, unsquashed
from isthmus.evaluation.planted import SORTS, planted


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


Z = normal(400, 4) @ (torch.eye(4) + 0.5 * torch.ones(4, 4)).double()
MASK = torch.rand(Z.shape, generator=generator(1)) > 0.1


def test_squashing_is_continuous_odd_and_inverted():
    z = torch.linspace(-50, 50, 2001, dtype=torch.float64)
    torch.testing.assert_close(unsquashed(squashed(z)), z)
    torch.testing.assert_close(squashed(-z), -squashed(z))
    torch.testing.assert_close(squashed(z[z.abs() <= 3]), z[z.abs() <= 3])
    assert squashed(z).diff().max() <= 0.051


def test_columns_are_standardized_over_their_observed_entries():
    x = 100 + 7 * Z
    found = Standardization.of(torch.where(MASK, x, float("nan")), MASK)
    for j in range(4):
        values = x[MASK[:, j], j]
        torch.testing.assert_close(found.mean[j], values.mean())
        torch.testing.assert_close(found.scale[j], values.std(correction=0))
    torch.testing.assert_close(found.inverse(found(x)), x)
    assert Standardization.of(torch.full((5, 1), 3.3), None).scale == 1


def test_the_mean_distance_is_that_of_the_nearest_rows():
    reference, rows = Z[:100], Z[100:140]
    nearest = np.sort(cdist(rows, reference), axis=1)[:, :20]
    np.testing.assert_allclose(Neighbours(reference).score(rows), nearest.mean(1))
    np.testing.assert_allclose(Neighbours(reference[:3]).score(rows), cdist(rows, reference[:3]).mean(1))


def test_a_mixture_of_one_gaussian_of_all_columns_has_its_density():
    few = Z[:40]  # enough for one component
    found = TrimmedMixture._fit(few, 0)
    gaussian = fit_gaussian(few, kept=1.0, n_fits=1)
    difference = found.score(Z) + gaussian.log_prob(Z)
    assert difference.std() < 0.1 * gaussian.log_prob(Z).std()


def test_each_part_finds_far_rows_also_if_many_rows_of_the_fit_are_odd():
    x = torch.cat([Z, 8 + 0.1 * normal(20, 4, seed=3)])
    scores = RowDensities.fitted(x, None, generator()).scores(torch.cat([Z[:100], torch.full((1, 4), -9.0)]))
    assert (scores[-1] > scores[:-1].max(0)).all()


def test_missing_cells_do_not_count_and_files_keep_the_scores():
    found = RowDensities.fitted(Z, MASK, generator())
    hidden = found.scores(torch.where(MASK, Z, float("nan")), MASK)
    np.testing.assert_array_equal(hidden, found.scores(torch.where(MASK, Z, 1e6), MASK))
    assert np.isfinite(hidden).all()
    again = RowDensities.from_file(*found.to_file())
    np.testing.assert_allclose(again.scores(Z, MASK), found.scores(Z, MASK), rtol=1e-12)


@pytest.mark.parametrize("sort", SORTS)
def test_planted_anomalies_change_the_stated_cells(sort):
    groups = [[0], [1], [2], [3], [4], [5, 6], [7], [8], [9], [10]]
    x = normal(50, 11)
    changed = planted(x, groups, sort, generator())
    cells = torch.stack([(changed != x)[:, group].any(1) for group in groups], 1)
    assert (cells.sum(1) == (5 if sort == "mixed rows" else 2)).all()
    if sort in ("swapped cells", "mixed rows"):
        assert all(set(changed[:, j].tolist()) <= set(x[:, j].tolist()) for j in range(11))
    if sort == "mixed rows":
        sources = [{int((x[:, j] == value).nonzero()) for j, value in enumerate(row)} for row in changed]
        assert all(len(found) == 2 for found in sources)
    torch.testing.assert_close(planted(x, groups, sort, generator()), changed)


def test_an_unknown_sort_is_refused():
    with pytest.raises(InputError, match=r"^sort='other' is not one of swapped cells"):
        planted(Z, [[0], [1], [2], [3]], "other", generator())
