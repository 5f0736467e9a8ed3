"""The Gaussian of rows and of each cell given the others, compared with torch and with matrices of all columns."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from isthmus.evaluation.conditional_gaussian import ConditionalGaussian, fit_gaussian


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


MIX = normal(5, 5, seed=1)
COVARIANCE = MIX @ MIX.T + 0.1 * torch.eye(5, dtype=torch.float64)
X = normal(2000, 5) @ torch.linalg.cholesky(COVARIANCE).T + torch.arange(5)
OBSERVED = torch.rand(X.shape, generator=generator(2)) > 0.3
OBSERVED[0] = torch.tensor([True, False, True, True, False])
FITTED = fit_gaussian(X, kept=1.0, n_fits=1, min_variance=1e-6)


def given(seen, row, hidden):
    """Mean and covariance of the entries `hidden` given those of `seen`, by the formula for all columns."""
    s = FITTED.covariance
    factor = torch.linalg.solve(s[seen][:, seen], s[seen][:, hidden]).T
    mean = FITTED.mean[hidden] + factor @ (row[seen] - FITTED.mean[seen])
    return mean, s[hidden][:, hidden] - factor @ s[seen][:, hidden]


def test_as_many_components_as_columns_give_the_maximum_likelihood_gaussian():
    torch.testing.assert_close(FITTED.mean, X.mean(0))
    torch.testing.assert_close(FITTED.covariance, torch.cov(X.T, correction=0))


def test_the_density_of_observed_entries_is_that_of_torch():
    whole = MultivariateNormal(FITTED.mean, FITTED.covariance)
    torch.testing.assert_close(FITTED.log_prob(X), whole.log_prob(X))
    for row, seen in zip(X[:20], OBSERVED[:20], strict=True):
        part = MultivariateNormal(FITTED.mean[seen], FITTED.covariance[seen][:, seen])
        found = FITTED.log_prob(row[None], seen[None])
        torch.testing.assert_close(found, part.log_prob(row[seen])[None])


def test_missing_entries_are_filled_by_their_conditional_mean_and_not_read():
    rows = torch.where(OBSERVED, X, float("nan"))[:50]
    filled = FITTED.filled(rows, OBSERVED[:50])
    for row, seen, found in zip(X, OBSERVED, filled, strict=False):
        torch.testing.assert_close(found[seen], row[seen])
        torch.testing.assert_close(found[~seen], given(seen, row, ~seen)[0])
    assert FITTED.filled(X) is not None
    torch.testing.assert_close(FITTED.filled(X), X)


@pytest.mark.parametrize("groups", [None, [[0, 3], [1], [4, 2]]])
@pytest.mark.parametrize("masked", [False, True])
def test_a_hidden_group_has_the_conditional_mean_and_variance(groups, masked):
    mask = OBSERVED[:10] if masked else None
    expected, variance = FITTED.given_others(X[:10], mask, groups)
    for number, row in enumerate(X[:10]):
        for group in groups or [[j] for j in range(5)]:
            seen = OBSERVED[number].clone() if masked else torch.ones(5, dtype=torch.bool)
            seen[group] = False
            mean, covariance = given(seen, row, torch.tensor(group))
            torch.testing.assert_close(expected[number, group], mean)
            torch.testing.assert_close(variance[number, group], covariance.diagonal())


def test_the_whitened_norm_is_the_mahalanobis_distance():
    for model in (FITTED, fit_gaussian(X, max_components=2)):
        difference = X - model.mean
        expected = (difference @ torch.linalg.inv(model.covariance) * difference).sum(1)
        torch.testing.assert_close(model.squared_distance(X), expected)
        torch.testing.assert_close(model.whitened(X).square().sum(1), expected)


def test_the_em_algorithm_finds_the_covariance_behind_missing_entries():
    rows = torch.where(OBSERVED, X, float("nan"))
    found = fit_gaussian(rows, OBSERVED, kept=1.0, n_fits=20)
    relative = (found.covariance - COVARIANCE).norm() / COVARIANCE.norm()
    assert relative < 0.1
    assert (found.mean - torch.arange(5)).abs().max() < 0.3


def test_trimmed_fits_leave_outliers_out():
    outliers = torch.cat([X, 40 + normal(100, 5, seed=3)])
    trimmed, whole = fit_gaussian(outliers), fit_gaussian(outliers, kept=1.0)
    assert (trimmed.mean - torch.arange(5)).abs().max() < 0.3
    assert (whole.mean - torch.arange(5)).abs().min() > 1


def test_the_normal_score_of_clean_rows_has_mean_0_and_variance_1_for_any_mask():
    known = ConditionalGaussian(FITTED.mean, FITTED.loadings, FITTED.noise_variance)
    rows = MultivariateNormal(known.mean, known.covariance)
    torch.manual_seed(0)
    x = rows.sample((4000,))
    for mask in (None, torch.rand(x.shape, generator=generator(4)) > 0.5):
        found = known.normal_score(x, mask)
        assert abs(float(found.mean())) < 0.06
        assert float(found.var()) == pytest.approx(1, abs=0.15)


def test_constant_columns_and_wide_rows_have_a_fit():
    constant = torch.cat([X, torch.zeros(len(X), 2)], 1)
    assert torch.isfinite(fit_gaussian(constant).log_prob(constant)).all()
    wide = normal(40, 1100)
    found = fit_gaussian(wide)
    assert found.loadings.shape[0] == 1100
    assert torch.isfinite(found.squared_distance(wide)).all()
    mask = torch.rand(wide.shape, generator=generator(5)) > 0.2
    assert torch.isfinite(fit_gaussian(wide, mask).filled(wide, mask)).all()


def test_draws_have_the_conditional_mean_and_covariance():
    row, mask = X[:1].expand(40_000, -1), OBSERVED[:1].expand(40_000, -1)
    seen, hidden = (torch.nonzero(part).flatten() for part in (OBSERVED[0], ~OBSERVED[0]))
    drawn = FITTED.draw_given(row, mask, generator(3))[:, hidden]
    mean, covariance = given(seen, X[0], hidden)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.02 * float(COVARIANCE.diagonal().max().sqrt()), rtol=0)
    torch.testing.assert_close(drawn.T.cov(), covariance, atol=0.03 * float(covariance.diagonal().max()), rtol=0)
