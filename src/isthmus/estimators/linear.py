"""The linear autoencoder, and the Gaussian density that its subspace defines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.metaestimators import available_if
from torch import Tensor, nn

from isthmus.data.streams import BLOCK_SIZE, blocks
from isthmus.estimators.base import BaseAutoencoder, seed_of
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.rows import ROWS_AT_ONCE, Rows, evenly_spaced, mean_row
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import check_count
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP

MAX_EM_ROWS, MIN_EM_ROWS = 20_000, 1_000
"""Rows of the EM algorithm, evenly spaced."""

MAX_EM_PRODUCTS = 2_000_000_000
"""Rows * columns * code_size^2 of one pass."""

MAX_EM_ITERATIONS = 100

EM_TOLERANCE = 1e-4
"""Change of the mean log-likelihood, nats a row, below which the EM algorithm has converged."""

MAX_ENTRIES = 2**22
"""Entries of the largest array that conditioning on the observed entries builds: 32 MiB in float64."""


class SubspaceDensity(nn.Module):
    r"""The Gaussian of probabilistic PCA on a given subspace.

        p(x) = N(x; m, C),   C = U diag(l) U' + s^2 (I - U U')

    m is the mean of the rows, U (columns, k) an orthonormal basis of the decoder's range in which the rows'
    covariance is diagonal, l that diagonal, s^2 the mean variance of the other directions. On the principal
    subspace this is the maximum likelihood of probabilistic PCA.

    The density of the observed entries o of a row is the marginal N(x_o; m_o, C_oo). With M = diag(l) - s^2 I,
    G = U_o' U_o, A = s^2 I + G M, c = x_o - m_o and t = A^-1 U_o' c

        c' C_oo^-1 c = ||c - U_o M t||^2 / s^2 + t' M t,   log det C_oo = (|o| - k) log s^2 + log |det A|,
        E[x | x_o] = m + U M t at the missing entries,   Cov[U' x | x_o] = diag(l) - diag(l) A^-1 G diag(l)

    Source: Tipping & Bishop, Probabilistic principal component analysis (1999), equations 7 and 8, and section 3.3
    and appendix B for EM; Woodbury's identity for C_oo.
    """

    mean: Tensor
    basis: Tensor
    variances: Tensor
    noise: Tensor

    def __init__(self, n_columns: int, code_size: int) -> None:
        super().__init__()
        k = min(n_columns, code_size)
        for name, shape in (("mean", (n_columns,)), ("basis", (n_columns, k)), ("variances", (k,)), ("noise", ())):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    @torch.no_grad()
    def fit(
        self, decoder: Float[Tensor, "columns code_size"], rows: Rows, mean: Float[Tensor, " columns"] | None = None
    ) -> None:
        """Fit mean and variances on the subspace that the decoder spans.

        Args:
            decoder: the decoder's matrix.
            rows: in model space.
            mean: the mean of the rows, if it is known and no entry is missing; it saves a pass.

        Rows without missing entries are fitted in closed form, in two passes. Rows with missing entries are fitted by
        the EM algorithm: it maximises the likelihood of the observed entries of at most `MAX_EM_ROWS` evenly spaced
        rows, in at most `MAX_EM_ITERATIONS` passes. Wide data and codes take fewer rows, at least `MIN_EM_ROWS`, so
        that a pass has at most about `MAX_EM_PRODUCTS` products.

        In memory are the buffers, a few (k, k) sums and one block: of `ROWS_AT_ONCE` rows in closed form, of at most
        `ROWS_AT_ONCE` rows and `MAX_ENTRIES` entries an array by EM. None of it grows with the number of rows.
        """
        basis = torch.linalg.svd(decoder.double(), full_matrices=False).U[:, : self.basis.shape[1]]
        if mean is None and _has_missing_entries(rows):
            self._fit_by_em(basis, rows)
        else:
            self._fit_in_closed_form(basis, rows, _mean(rows) if mean is None else mean)

    def _fit_in_closed_form(
        self, basis: Float[Tensor, "columns k"], rows: Rows, mean: Float[Tensor, " columns"]
    ) -> None:
        n = _total_weight(rows)
        inner, total = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64), 0.0
        for batch in blocks(rows, ROWS_AT_ONCE):
            centred = batch.x.double() - mean
            projected = centred @ basis
            weight = _weight(batch)[:, None]
            inner += projected.T @ (weight * projected) / n
            total += float((weight * centred.square()).sum()) / n
        self._set(mean, basis, inner, total)

    def _set(self, mean: Tensor, basis: Tensor, inner: Float[Tensor, "k k"], total: float) -> None:
        """Take mean, basis and variances from the covariance in the subspace and the total variance."""
        variances, rotation = torch.linalg.eigh(inner)
        tiny = 1e-9 * max(total, 1e-9)
        others = basis.shape[0] - basis.shape[1]
        self.mean.copy_(mean)
        self.basis.copy_(basis @ rotation)
        self.variances.copy_(variances.clamp(min=tiny))
        self.noise.fill_(max((total - float(variances.sum())) / others, tiny) if others else 1.0)

    def _fit_by_em(self, basis: Float[Tensor, "columns k"], rows: Rows) -> None:
        n_columns, k = basis.shape
        within_products = MAX_EM_PRODUCTS // (n_columns * k * k)
        n_rows = max(MIN_EM_ROWS, min(MAX_EM_ROWS, within_products))
        parts = evenly_spaced(len(rows), n_rows).split(min(ROWS_AT_ONCE, self._rows_at_once))
        log_p = -math.inf
        self._start_em(basis, rows, parts)
        for _ in range(MAX_EM_ITERATIONS):
            moments = (self._expected_moments(*_with_mask(batch), _weight(batch)) for batch in map(rows.batch, parts))
            *sums, n = reduce(_added, moments)
            step, inner, outside, mean_log_p = (total / n for total in sums)
            projected, previous, log_p = step @ self.basis, log_p, float(mean_log_p)
            inner -= torch.outer(projected, projected)
            outside -= step.square().sum() - projected.square().sum()
            self._set(self.mean + step, self.basis, inner, float(inner.trace() + outside))
            if abs(log_p - previous) < EM_TOLERANCE:
                break

    def _start_em(self, basis: Float[Tensor, "columns k"], rows: Rows, parts: Sequence[Tensor]) -> None:
        """Start at the means of the observed entries, with their mean variance in every direction."""
        mean = mean_row(rows).double()
        squares, n_observed = 0.0, 0.0
        for batch in map(rows.batch, parts):
            (x, mask), weight = _with_mask(batch), _weight(batch)[:, None]
            squares += float((weight * ((x - mean) * mask).square()).sum())
            n_observed += float((weight * mask).sum())
        (n_columns, k), variance = basis.shape, squares / (n_observed or 1.0)
        self._set(mean, basis, variance * torch.eye(k, dtype=torch.float64), variance * n_columns)

    def _expected_moments(
        self, x: Float[Tensor, "block columns"], mask: Float[Tensor, "block columns"], weight: Float[Tensor, " block"]
    ) -> tuple[Tensor, ...]:
        """Compute the expectation step: weighted sums over rows, given their observed entries, about the current mean.

        Returns:
            The sums of E[x - m], of E[U'(x - m)(x - m)'U], of E||(I - UU')(x - m)||^2, of log p(x_o), and of
            the weights.
        """
        given = self._condition(x, mask)
        filled = given.centred + (1 - mask) * (given.within @ self.basis.T)
        projected, n = filled @ self.basis, weight.sum()
        precision = torch.linalg.lu_solve(given.lu, given.pivots, given.gram)
        precision = (torch.bincount(given.pattern, weight)[:, None, None] * precision).sum(0)
        inner = n * torch.diag(self.variances) - self.variances[:, None] * precision * self.variances
        by_row = weight[:, None]
        n_missing = (by_row * (1 - mask)).sum()
        n_freedom = n_missing - n * len(self.variances) + (self.variances * precision.diagonal()).sum()
        outside = (by_row * filled.square()).sum() - (by_row * projected.square()).sum() + self.noise * n_freedom
        inner = projected.T @ (by_row * projected) + inner
        return (by_row * filled).sum(0), inner, outside, (weight * given.log_p).sum(), n

    def _condition(self, x: Float[Tensor, "block columns"], mask: Float[Tensor, "block columns"]) -> _Conditional:
        """Condition on the observed entries of each row; rows of one pattern of missing entries share A."""
        patterns, pattern = (mask != 0).unique(dim=0, return_inverse=True)
        gram = torch.stack([patterns.double() @ (u.unsqueeze(1) * self.basis) for u in self.basis.T], 1)
        excess, k = self.variances - self.noise, len(self.variances)
        lu, pivots = torch.linalg.lu_factor(self.noise * torch.eye(k, dtype=torch.float64) + gram * excess)
        log_det = lu.diagonal(dim1=1, dim2=2).abs().log().sum(1)[pattern]
        centred, n_observed = (x - self.mean) * mask, mask.sum(1)
        t = torch.linalg.lu_solve(lu[pattern], pivots[pattern], (centred @ self.basis).unsqueeze(2)).squeeze(2)
        within = excess * t
        residual = (centred - within @ self.basis.T) * mask
        distance = residual.square().sum(1) / self.noise + (within * t).sum(1)
        log_det = log_det + (n_observed - k) * self.noise.log()
        log_p = -0.5 * (n_observed * math.log(2 * math.pi) + log_det + distance)
        return _Conditional(centred, within, log_p, pattern, gram, lu, pivots)

    @property
    def _rows_at_once(self) -> int:
        n_columns, k = self.basis.shape
        return max(1, MAX_ENTRIES // max(n_columns, k * k))

    @torch.no_grad()
    def log_prob(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None = None
    ) -> Float[Tensor, " batch"]:
        """Return log p(x_o) of each row, nats, for the entries o with a non-zero mask; 0 for a row without any."""
        if mask is None:
            return self._log_prob_of_complete(x)
        log_p = torch.zeros(len(x), dtype=torch.float64)
        complete = (mask != 0).all(1)
        log_p[complete] = self._log_prob_of_complete(x[complete])
        partial = ((mask != 0).any(1) & ~complete).nonzero()[:, 0]
        for index in partial.split(self._rows_at_once):
            log_p[index] = self._condition(x[index].double(), (mask[index] != 0).double()).log_p
        return log_p

    def _log_prob_of_complete(self, x: Float[Tensor, "batch columns"]) -> Float[Tensor, " batch"]:
        centred = x.double() - self.mean
        projected = centred @ self.basis
        n_columns, k = self.basis.shape
        outside = (centred.square().sum(1) - projected.square().sum(1)).clamp(min=0) / self.noise
        inside = (projected.square() / self.variances).sum(1)
        log_det = self.variances.log().sum() + (n_columns - k) * self.noise.log()
        return -0.5 * (n_columns * math.log(2 * math.pi) + log_det + inside + outside)

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n columns"]:
        """Return n samples of x."""
        n_columns, k = self.basis.shape
        inside = torch.randn(n, k, generator=generator, dtype=torch.float64) * self.variances.sqrt()
        noise = torch.randn(n, n_columns, generator=generator, dtype=torch.float64) * self.noise.sqrt()
        outside = noise - (noise @ self.basis) @ self.basis.T
        return self.mean + inside @ self.basis.T + outside


class _Conditional(NamedTuple):
    """The terms of the density of the observed entries: see `SubspaceDensity`."""

    centred: Tensor
    """x - m, 0 at the missing entries, (rows, columns)."""
    within: Tensor
    """M t, (rows, k)."""
    log_p: Tensor
    """log N(x_o; m_o, C_oo), (rows,)."""
    pattern: Tensor
    """The number of each row's pattern of missing entries, (rows,)."""
    gram: Tensor
    """G, (patterns, k, k)."""
    lu: Tensor
    """The LU decomposition of A, (patterns, k, k)."""
    pivots: Tensor
    """Its row exchanges, (patterns, k)."""


def _added(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _mean(rows: Rows) -> Float[Tensor, " columns"]:
    """Compute the mean of each column of rows without missing entries by their weights, in float64."""
    sums = ((_weight(batch)[:, None] * batch.x.double()).sum(0) for batch in blocks(rows, ROWS_AT_ONCE))
    return reduce(torch.add, sums) / _total_weight(rows)


def _weight(batch: Batch) -> Float[Tensor, " batch"]:
    """Return the weights of the rows, in float64; 1 for rows without weights."""
    return torch.ones(len(batch.x), dtype=torch.float64) if batch.weight is None else batch.weight.double()


def _total_weight(rows: Rows) -> float:
    """Return the sum of the weights of the rows; rows without weights are not read."""
    if rows.batch(torch.arange(1)).weight is None:
        return len(rows)
    return sum(float(_weight(batch).sum()) for batch in blocks(rows, ROWS_AT_ONCE))


def _has_missing_entries(rows: Rows) -> bool:
    """Return whether any entry of any row is missing; rows without a mask are not read."""
    if rows.batch(torch.arange(1)).mask is None:
        return False
    return any(batch.mask is not None and bool((batch.mask == 0).any()) for batch in blocks(rows, ROWS_AT_ONCE))


def _with_mask(batch: Batch) -> tuple[Float[Tensor, "batch columns"], Float[Tensor, "batch columns"]]:
    """Return the rows and the mask of observed entries (1 or 0), in float64."""
    x = batch.x.double()
    return x, torch.ones_like(x) if batch.mask is None else (batch.mask != 0).double()


def _is_gaussian(estimator: Any) -> bool:
    """Return whether the likelihood is Gaussian, so that the linear autoencoder defines a density of x."""
    return estimator.likelihood in ("auto", "gaussian") and getattr(estimator, "likelihood_", _GAUSSIAN) == _GAUSSIAN


_GAUSSIAN = {"name": "gaussian"}


@dataclass(kw_only=True, eq=False, repr=False)
class LinearAutoencoder(BaseAutoencoder):
    r"""Linear autoencoder: trained to span the subspace of the principal components.

        h = W x + b,   r = V h + c,   J = E_x [ 1/2 ||x - r||^2 ]

    With a Gaussian likelihood every minimum is global and V spans the first `code_size` principal
    components, but its columns are neither orthogonal nor ordered. The subspace defines an exact density,
    that of probabilistic PCA: `score_samples` and `sample` exist for the Gaussian likelihood only.
    With `missing="mask"` the density is fitted to the observed entries by the EM algorithm.

    The arguments are those of `BaseAutoencoder`. Another `likelihood` makes it a generalised principal component
    analysis ("bernoulli": logistic PCA).

    Attributes:
        score_kind_: "exact": `score_samples` returns the log density of probabilistic PCA; for a row with missing
            entries, the log density of its observed entries.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.1; Baldi & Hornik, Neural networks and
    principal component analysis (1989); Tipping & Bishop, Probabilistic principal component analysis (1999).

    Example:
        >>> import numpy as np
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(300, 2)) @ np.array([[3.0, 1, 0, 1], [0, 1, 2, 1]])
        >>> model = LinearAutoencoder(code_size=2, random_state=0).fit(X)
        >>> model.score_samples(X).shape, model.score_kind_
        ((300,), 'exact')
    """

    likelihood: str | dict[str, str] = "gaussian"

    kind: ClassVar[str] = "linear"

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        encoder = MLP((shape.n_columns, shape.code_size), "linear", generator=generator)
        decoder = MLP((shape.code_size, likelihood.n_parameters), "linear", generator=generator)
        coder = Coder(EncoderMap(encoder), decoder, likelihood)
        return Recipe(coder, Reconstruction(coder), density=SubspaceDensity(shape.n_columns, shape.code_size))

    @property
    def _density(self) -> SubspaceDensity:
        """The density on the CPU, where the rows and samples are; inference may have moved it to another device."""
        return cast(SubspaceDensity, self.density_).to("cpu")

    def _after_training(self, rows: SurveyedRows) -> None:
        if self.likelihood_ == _GAUSSIAN:
            mean = None if rows.has_missing_entries else rows.mean
            self._density.fit(cast(MLP, self.coder_.decoder).affine_maps[0].weight, rows, mean)
            self.score_kind_ = "exact"

    @available_if(_is_gaussian)
    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return log p(x) of each row under probabilistic PCA on the trained subspace, nats, in model space.

        For a row with missing entries it is the marginal log density of its observed entries: 0 without any.
        """
        rows = self._rows(X)
        return np.concatenate([self._density.log_prob(b.x, b.mask).numpy() for b in blocks(rows, BLOCK_SIZE)])

    @available_if(_is_gaussian)
    def sample(self, n: int, random_state: Any = None) -> Any:
        """Return n samples of that density, in the units of X.

        Raises:
            InputError: fewer than one sample.
        """
        check_count("n", n)
        generator = torch.Generator().manual_seed(seed_of(random_state))
        return self.preprocessing_.inverse_transform(self._density.sample(n, generator).numpy())
