"""A Gaussian distribution of rows: its density, and each cell given the others, in closed form.

The covariance is that of probabilistic PCA, so that rows with missing entries cost the inverse of a small matrix, and
wide rows need no covariance of all their columns. The fit can be trimmed, so that outliers do not count in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isthmus.evaluation.baseline import principal_components
from isthmus.parts.sampling import randn_like

MAX_COMPONENTS = 256
"""Largest number of principal components with a variance of their own."""

MAX_COVARIANCE_COLUMNS = 1024
"""Largest number of columns for which the covariance is formed."""

BLOCK_ENTRIES = 2**22
"""Largest number of entries of a temporary tensor: 32 MiB in float64."""

EM_STEPS = 4
"""Number of additional fits with missing entries, each given the expectations of the one before."""

Rows = Float[Tensor, "rows columns"]
Mask = Bool[Tensor, "rows columns"]


@dataclass(frozen=True)
class ConditionalGaussian:
    r"""Gaussian distribution with the covariance of probabilistic PCA.

        x = mu + W h + e,   h ~ N(0, I),   e ~ N(0, s^2 I),   so   x ~ N(mu, W W' + s^2 I)

    With as many components as columns, any covariance whose smallest variance is s^2 has this form. The distribution of
    hidden entries given the observed ones, o, follows from that of the code h:

        h | x_o ~ N(S^-1 W_o' (x_o - mu_o) / s^2, S^-1),   S = I + W_o' W_o / s^2

    Rows and masks are tensors of equal shape; entries of mask False are missing, and their values are not read.

    Attributes:
        mean: mu, (columns,), float64.
        loadings: W, (columns, components), float64, with orthogonal columns.
        noise_variance: s^2, above 0.

    Source: Tipping & Bishop, Probabilistic principal component analysis (1999), sections 3.1 and 3.2.

    Example:
        >>> found = ConditionalGaussian(torch.zeros(2).double(), torch.ones(2, 1).double(), 1.0)
        >>> expected, variance = found.given_others(torch.tensor([[3.0, 1.0]]))
        >>> expected.round(decimals=6).tolist(), variance.round(decimals=6).tolist()
        ([[0.5, 1.5]], [[1.5, 1.5]])
    """

    mean: Float[Tensor, " columns"]
    loadings: Float[Tensor, "columns components"]
    noise_variance: float

    @property
    def covariance(self) -> Float[Tensor, "columns columns"]:
        """The covariance W W' + s^2 I."""
        return self.loadings @ self.loadings.T + self.noise_variance * torch.eye(len(self.mean), dtype=torch.float64)

    def log_prob(self, x: Rows, mask: Mask | None = None) -> Float[Tensor, " rows"]:
        """Return the log density of the observed entries of each row, in nats."""
        found = [self._log_prob(*block) for block in self._blocks(x, mask)]
        return torch.cat(found)

    def squared_distance(self, x: Rows, mask: Mask | None = None) -> Float[Tensor, " rows"]:
        """Return the squared Mahalanobis distance of the observed entries from their mean."""
        return torch.cat([self._distance(*block)[0] for block in self._blocks(x, mask)])

    def normal_score(self, x: Rows, mask: Mask | None = None) -> Float[Tensor, " rows"]:
        r"""Return the squared distance d of the k observed entries on the scale of a standard normal variable.

            z = ((d / k)^(1/3) - (1 - 2 / (9 k))) / sqrt(2 / (9 k))

        Under the Gaussian d is chi-square with k degrees of freedom, and z about N(0, 1), so that rows with few
        observed entries compare with complete rows.

        Source: Wilson & Hilferty, The distribution of chi-square (1931).
        """
        k = _n_observed(x, mask).clamp(min=1)
        variance = 2 / (9 * k)
        return ((self.squared_distance(x, mask).clamp(min=0) / k) ** (1 / 3) - (1 - variance)) / variance.sqrt()

    def filled(self, x: Rows, mask: Mask | None = None) -> Rows:
        """Return the rows with missing entries replaced by their expectations given the observed ones, float64."""
        if mask is None or bool(mask.all()):
            return x.double()
        found = [torch.where(m, rows, self._expected(rows, m)[0]) for rows, m in self._blocks(x, mask) if m is not None]
        return torch.cat(found)

    def given_others(
        self, x: Rows, mask: Mask | None = None, groups: Sequence[Sequence[int]] | None = None
    ) -> tuple[Rows, Rows]:
        """Return expectation and variance of each entry given the observed entries outside its group.

        Args:
            x: rows.
            mask: the observed entries; None if all are.
            groups: columns that are hidden together, such as the levels of a category or a patch; None hides one
                column at a time. Together they contain every column once.
        """
        found = [self._given_other_columns(rows, m) for rows, m in self._blocks(x, mask)]
        expected, variance = (torch.cat(parts) for parts in zip(*found, strict=True))
        for group in groups or ():
            if len(group) > 1:
                start = 0
                for rows, m in self._blocks(x, mask):
                    seen = (torch.ones(1, x.shape[1], dtype=torch.bool) if m is None else m).clone()
                    seen[:, group] = False
                    part = slice(start, start + len(rows))
                    expected[part, group], variance[part, group] = self._expected(rows, seen, group)
                    start += len(rows)
        return expected, variance

    def draw_given(self, x: Rows, mask: Mask, generator: torch.Generator) -> Rows:
        """Return rows in which all entries are drawn from their joint distribution given the observed ones, float64.

        A draw of an observed entry is one of its distribution given the others' code, and not its value.
        """
        found = []
        for rows, m in self._blocks(x, mask):
            _, code, root = self._code(rows, m)
            noise = randn_like(code, generator)
            code = code + torch.linalg.solve_triangular(root.mT, noise[..., None], upper=True).squeeze(-1)
            error = math.sqrt(self.noise_variance) * randn_like(rows, generator)
            found.append(self.mean + code @ self.loadings.T + error)
        return torch.cat(found)

    def whitened(self, x: Rows) -> Rows:
        """Return (W W' + s^2 I)^-1/2 (x - mu), in which the squared distance of a row is its squared norm."""
        squares = self.loadings.square().sum(0)
        directions = self.loadings / squares.clamp(min=1e-300).sqrt()
        centred = x.double() - self.mean
        shrink = 1 - (self.noise_variance / (squares + self.noise_variance)).sqrt()
        return (centred - (centred @ directions * shrink) @ directions.T) / math.sqrt(self.noise_variance)

    def _blocks(self, x: Rows, mask: Mask | None) -> list[tuple[Rows, Mask | None]]:
        """Return the rows in blocks, as float64; a mask without a missing entry as None."""
        n_components = self.loadings.shape[1]
        entries = x.shape[1] if mask is None else n_components * max(x.shape[1], n_components)
        size = max(1, BLOCK_ENTRIES // max(1, entries))
        parts = x.split(size)
        masks = [None if m is None or bool(m.all()) else m for m in ([None] * len(parts) if mask is None else
                 mask.split(size))]  # fmt: skip
        return [(part.double(), m) for part, m in zip(parts, masks, strict=True)]

    def _code(self, x: Rows, mask: Mask | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the observed deviations, the mean of the code, and the Cholesky factor of S, (1 or rows, q, q)."""
        seen = torch.ones(1, x.shape[1], dtype=torch.bool) if mask is None else mask
        deviation = torch.where(seen, x - self.mean, 0.0)
        weights, eye = seen.double(), torch.eye(self.loadings.shape[1], dtype=torch.float64)
        products = torch.einsum("bd,dp,dq->bpq", weights, self.loadings, self.loadings)
        root = torch.linalg.cholesky(eye + products / self.noise_variance)
        projected = deviation @ self.loadings / self.noise_variance
        if len(root) == 1:
            code = torch.cholesky_solve(projected.T, root[0]).T
        else:
            code = torch.cholesky_solve(projected[..., None], root).squeeze(-1)
        return deviation, code, root

    def _distance(self, x: Rows, mask: Mask | None) -> tuple[Tensor, Tensor]:
        """Return the squared distance of each row, and the Cholesky factor of S."""
        deviation, code, root = self._code(x, mask)
        explained = (deviation @ self.loadings * code).sum(1)
        return (deviation.square().sum(1) - explained) / self.noise_variance, root

    def _log_prob(self, x: Rows, mask: Mask | None) -> Float[Tensor, " rows"]:
        distance, root = self._distance(x, mask)
        log_determinant = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = math.log(2 * math.pi * self.noise_variance)
        return -0.5 * (distance + log_determinant + _n_observed(x, mask) * constant)

    def _given_other_columns(self, x: Rows, mask: Mask | None) -> tuple[Rows, Rows]:
        """Return mean and variance of each entry given all other observed ones.

        Of an observed entry they follow from the inverse covariance P of the observed entries and the deviation r:
        x_j - (P r)_j / P_jj and 1 / P_jj.
        """
        deviation, code, root = self._code(x, mask)
        explained = code @ self.loadings.T
        whitened = torch.linalg.solve_triangular(root, self.loadings.T.expand(len(root), -1, -1), upper=False)
        squares = whitened.square().sum(1)
        left = (1 - squares / self.noise_variance).clamp(min=1e-12)
        mean, variance = x - (deviation - explained) / left, (self.noise_variance / left).expand(x.shape)
        if mask is None:
            return mean, variance
        hidden = (self.mean + explained, squares + self.noise_variance)
        return torch.where(mask, mean, hidden[0]), torch.where(mask, variance, hidden[1])

    def _expected(self, x: Rows, mask: Mask, columns: Sequence[int] | slice = slice(None)) -> tuple[Rows, Rows]:
        """Return mean and variance of the entries of `columns` if they are hidden, given the observed ones."""
        _, code, root = self._code(x, mask)
        of_columns = self.loadings[columns]
        whitened = torch.linalg.solve_triangular(root, of_columns.T.expand(len(root), -1, -1), upper=False)
        variance = whitened.square().sum(1) + self.noise_variance
        mean = self.mean[columns] + code @ of_columns.T
        return mean, variance.expand_as(mean)


def _n_observed(x: Rows, mask: Mask | None) -> Float[Tensor, " rows"]:
    count = torch.full((len(x),), x.shape[1]) if mask is None else mask.sum(1)
    return count.double()


def fit_gaussian(
    x: Rows,
    mask: Mask | None = None,
    *,
    min_variance: float = 1e-2,
    kept: float = 0.9,
    n_fits: int = 3,
    max_components: int = MAX_COMPONENTS,
) -> ConditionalGaussian:
    """Fit a `ConditionalGaussian`; all fits after the first one use the fraction `kept` of the rows that fit best.

    The covariance has as many components as columns, or `max_components` and one variance of all other directions. With
    missing entries the fit is an EM algorithm: sums are expectations given the observed entries.

    Args:
        x: rows, standardised by column.
        mask: the observed entries; None if all are.
        min_variance: smallest variance of a direction, in units of x squared.
        kept: fraction of the rows that the trimmed fits use; 1 is the maximum likelihood fit.
        n_fits: number of fits.
        max_components: largest number of components.

    Source: Rousseeuw & Van Driessen, A fast algorithm for the minimum covariance determinant estimator (1999), for the
    repeated fit to the rows of the smallest distances.

    Example:
        >>> clean = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
        >>> x = torch.cat([clean, torch.full((10, 2), 50.0)])
        >>> bool(fit_gaussian(x).mean.abs().max() < 0.3), bool(fit_gaussian(x, kept=1.0).mean.min() > 2)
        (True, True)
    """
    if mask is not None and bool(mask.all()):
        mask = None
    found = _fit(x.double(), mask, None, min_variance, max_components)
    n_further = n_fits - 1 + (0 if mask is None else EM_STEPS)
    for _ in range(n_further):
        distance = found.normal_score(x, mask)
        near = distance <= distance.kthvalue(max(1, round(kept * len(x)))).values
        found = _fit(x[near].double(), None if mask is None else mask[near], found, min_variance, max_components)
    return found


def _fit(
    x: Rows, mask: Mask | None, before: ConditionalGaussian | None, min_variance: float, max_components: int
) -> ConditionalGaussian:
    """Fit mean and covariance once, given the fit before for missing entries."""
    filled, added = _expectations(x, mask, before)
    mean, n_columns = filled.mean(0), x.shape[1]
    n_components = min(n_columns, max_components)
    if n_columns > MAX_COVARIANCE_COLUMNS:
        parts = principal_components(lambda: iter(filled.float().split(4096)), n_columns, min(n_components, 64))
        values, vectors = parts.explained_variance.double(), parts.components.double().T
        noise = max(parts.noise_variance, min_variance)
    else:
        centred = filled - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(x) + added)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        left = values[n_components:]
        noise = max(float(left.mean()) if len(left) else 0.0, min_variance)
        values, vectors = values[:n_components], vectors[:, :n_components]
    loadings = (vectors * (values - noise).clamp(min=0).sqrt()).contiguous()
    return ConditionalGaussian(mean, loadings, noise)


def _expectations(x: Rows, mask: Mask | None, before: ConditionalGaussian | None) -> tuple[Rows, Tensor]:
    """Return the rows with expectations of missing entries, and the mean of their conditional covariances."""
    n_columns = x.shape[1]
    if mask is None:
        return x, x.new_zeros(())
    if before is None:
        count = mask.sum(0).clamp(min=1)
        mean = torch.where(mask, x, 0.0).sum(0) / count
        variance = torch.where(mask, (x - mean).square(), 0.0).sum(0) / count
        return torch.where(mask, x, mean), torch.diag(variance * (~mask).double().mean(0))
    filled = before.filled(x, mask)
    if n_columns > MAX_COVARIANCE_COLUMNS:
        return filled, x.new_zeros(())
    total = x.new_zeros(n_columns, n_columns)
    incomplete = ~mask.all(1)
    for part in mask[incomplete].split(max(1, BLOCK_ENTRIES // n_columns**2)):
        hidden = (~part).double()
        _, _, root = before._code(x.new_zeros(part.shape), part)
        loadings = before.loadings.T.expand(len(root), -1, -1)
        whitened = torch.linalg.solve_triangular(root, loadings, upper=False) * hidden[:, None]
        total += torch.einsum("bqc,bqd->cd", whitened, whitened)
        total += torch.diag(hidden.sum(0) * before.noise_variance)
    return filled, total / len(x)
