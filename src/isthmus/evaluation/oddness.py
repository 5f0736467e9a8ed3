"""Scores of odd rows from trimmed densities and from distances to neighbours. Higher scores are odder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Mixture
from sklearn.neighbors import NearestNeighbors
from torch import Generator, Tensor

from isthmus.evaluation.conditional_gaussian import MAX_COVARIANCE_COLUMNS, ConditionalGaussian, fit_gaussian
from isthmus.geometry.scores import GaussianMixture

SQUASHED_FROM = 3.0
"""Standard deviations from the mean above which values are squashed."""

KEPT = 0.9
"""Fraction of the rows that trimmed fits use."""

N_FITS = 3
"""Number of fits of a trimmed density."""

N_COMPONENTS, MIXTURE_COLUMNS, MAX_MIXTURE_ROWS, ROWS_PER_COMPONENT = 5, 10, 5000, 30
"""Gaussians of the mixture, principal components that they describe, and rows that they are fitted to."""

N_NEIGHBOURS, MAX_REFERENCE_ROWS = 20, 2000
"""Neighbours of the mean distance, and rows among which they are searched."""

WIDE_COLUMNS = 64
"""Number of components in which distances are measured for rows of more than `MAX_COVARIANCE_COLUMNS` columns."""

Rows = Float[Tensor, "rows columns"]
Mask = Bool[Tensor, "rows columns"]


def squashed(z: Tensor) -> Tensor:
    """Return z up to 3, and sign(z) (3 + log(1 + |z| - 3)) beyond, so that no cell decides alone on a row.

    Example:
        >>> squashed(torch.tensor([1.0, -3.0, 1000.0]))
        tensor([ 1.0000, -3.0000,  9.9058])
    """
    excess = (z.abs() - SQUASHED_FROM).clamp(min=0)
    return z.clamp(-SQUASHED_FROM, SQUASHED_FROM) + z.sign() * excess.log1p()


def unsquashed(z: Tensor) -> Tensor:
    """Return the inverse of `squashed`.

    Example:
        >>> unsquashed(squashed(torch.tensor([-40.0, 2.5], dtype=torch.float64)))
        tensor([-40.0000,   2.5000], dtype=torch.float64)
    """
    excess = (z.abs() - SQUASHED_FROM).clamp(0, 700)
    return z.clamp(-SQUASHED_FROM, SQUASHED_FROM) + z.sign() * excess.expm1()


@dataclass(frozen=True)
class Standardization:
    """Columns with mean 0 and variance 1 over the observed entries of some rows, squashed beyond 3.

    Attributes:
        mean: (columns,), float64.
        scale: (columns,), float64; 1 for constant columns.
    """

    mean: Float[Tensor, " columns"]
    scale: Float[Tensor, " columns"]

    @classmethod
    def of(cls, x: Rows, mask: Mask | None) -> Standardization:
        """Return the standardization of these rows."""
        x = x.double()
        seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        count = seen.sum(0).clamp(min=1)
        mean = torch.where(seen, x, 0.0).sum(0) / count
        scale = (torch.where(seen, x - mean, 0.0).square().sum(0) / count).sqrt()
        is_constant = scale <= 1e-9 * (1 + mean.abs())
        return cls(mean, torch.where(is_constant, 1.0, scale))

    def __call__(self, x: Rows) -> Rows:
        """Return the squashed standardized rows, float64."""
        return squashed((x.double() - self.mean) / self.scale)

    def inverse(self, z: Rows) -> Rows:
        """Return rows in the units of x."""
        return unsquashed(z) * self.scale + self.mean


@dataclass(frozen=True)
class TrimmedMixture:
    r"""A mixture of Gaussians of the first principal components, and one variance of the residual.

        -log p(x) = -log sum_c w_c N(h; m_c, S_c) + ||x - mu - V h||^2 / (2 s^2) + (d - q) / 2 log s^2

    h = V' (x - mu) are the first q components of d columns. All fits after the first one use the fraction `KEPT` of the
    rows of the highest density.

    Attributes:
        plane: the Gaussian whose loadings span the components and whose noise variance is s^2.
        mixture: the density of h.
    """

    plane: ConditionalGaussian
    mixture: GaussianMixture

    @classmethod
    def fitted(cls, z: Rows, seed: int) -> TrimmedMixture:
        """Fit the density to standardized rows without missing entries."""
        found = cls._fit(z, seed)
        for _ in range(N_FITS - 1):
            score = found.score(z)
            found = cls._fit(z[score <= score.kthvalue(max(1, round(KEPT * len(z)))).values], seed)
        return found

    @classmethod
    def _fit(cls, z: Rows, seed: int) -> TrimmedMixture:
        plane = fit_gaussian(z, kept=1.0, n_fits=1, max_components=MIXTURE_COLUMNS)
        codes = _components(plane, z).numpy()
        k = max(1, min(N_COMPONENTS, len(codes) // ROWS_PER_COMPONENT))
        mixture = Mixture(k, reg_covar=1e-2, max_iter=50, random_state=seed % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # any iterate of EM is a density of the rows
            mixture.fit(codes)
        parts = (torch.from_numpy(part) for part in (mixture.weights_, mixture.means_, mixture.covariances_))
        return cls(plane, GaussianMixture(*parts))

    def score(self, z: Rows) -> Float[Tensor, " rows"]:
        """Return -log p(x) of each row, up to a constant."""
        codes = _components(self.plane, z)
        residual = ((z - self.plane.mean).square().sum(1) - codes.square().sum(1)).clamp(min=0)
        return 0.5 * residual / self.plane.noise_variance - self.mixture.log_prob(codes)


def _components(plane: ConditionalGaussian, z: Rows) -> Float[Tensor, "rows components"]:
    """Return the coordinates of rows along the loadings; 0 along one of length 0."""
    lengths = plane.loadings.square().sum(0).sqrt()
    return (z.double() - plane.mean) @ (plane.loadings / lengths.clamp(min=1e-150))


class Neighbours:
    """The mean distance to the nearest reference rows.

    Args:
        reference: rows among which neighbours are searched, (reference, columns).
    """

    def __init__(self, reference: Rows) -> None:
        self.reference = reference
        self._search = NearestNeighbors(n_neighbors=min(N_NEIGHBOURS, len(reference))).fit(reference.numpy())

    def score(self, z: Rows) -> Float[Tensor, " rows"]:
        """Return the mean distance of each row."""
        return torch.from_numpy(self._search.kneighbors(z.numpy())[0].mean(1))


class RowDensities:
    """The scores of rows by a trimmed Gaussian, by a trimmed mixture, and by neighbours in whitened coordinates.

    Entries that are missing do not count in the Gaussian. For the other two they are replaced by their expectations
    given the observed ones.

    Args:
        gaussian: fitted to standardized rows.
        mixture: fitted to standardized rows.
        neighbours: whitened rows by the Gaussian.

    Example:
        >>> z = torch.randn(100, 3, generator=Generator().manual_seed(0))
        >>> densities = RowDensities.fitted(z, None, Generator().manual_seed(0))
        >>> scores = densities.scores(torch.tensor([[0.0] * 3, [9.0] * 3]))
        >>> bool((scores[1] > scores[0]).all()), scores.shape
        (True, (2, 3))
    """

    names: ClassVar[tuple[str, ...]] = ("gaussian", "mixture", "neighbours")

    def __init__(self, gaussian: ConditionalGaussian, mixture: TrimmedMixture, neighbours: Neighbours) -> None:
        self.gaussian, self.mixture, self.neighbours = gaussian, mixture, neighbours

    @classmethod
    def fitted(cls, z: Rows, mask: Mask | None, generator: Generator) -> RowDensities:
        """Fit to standardized rows."""
        gaussian = fit_gaussian(z, mask, kept=KEPT, n_fits=N_FITS)
        filled = gaussian.filled(z, mask)
        order = torch.randperm(len(z), generator=generator)
        seed = int(torch.randint(2**31, (), generator=generator))
        mixture = TrimmedMixture.fitted(filled[order[:MAX_MIXTURE_ROWS]], seed)
        reference = _whitened(gaussian, filled[order[:MAX_REFERENCE_ROWS]])
        return cls(gaussian, mixture, Neighbours(reference.float().double()))

    def scores(self, z: Rows, mask: Mask | None = None) -> Float[np.ndarray, "rows 3"]:
        """Return the scores of each row; the first is about standard normal for rows of a Gaussian."""
        filled = self.gaussian.filled(z, mask)
        near = self.neighbours.score(_whitened(self.gaussian, filled))
        return torch.stack([self.gaussian.normal_score(z, mask), self.mixture.score(filled), near], 1).numpy()

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and plain data for `from_file`."""
        mixture = self.mixture.mixture
        tensors = {
            "reference": self.neighbours.reference.float(), "weights": mixture.weights, "means": mixture.means,
            "covariances": mixture.covariances,
        }  # fmt: skip
        config: dict[str, Any] = {}
        for name, model in (("gaussian", self.gaussian), ("plane", self.mixture.plane)):
            tensors |= {f"{name}.mean": model.mean, f"{name}.loadings": model.loadings}
            config[name] = model.noise_variance
        return tensors, config

    @classmethod
    def from_file(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> RowDensities:
        """Build the densities from the result of `to_file`."""
        gaussian, plane = (
            ConditionalGaussian(tensors[f"{name}.mean"], tensors[f"{name}.loadings"], config[name])
            for name in ("gaussian", "plane")
        )
        mixture = GaussianMixture(tensors["weights"], tensors["means"], tensors["covariances"])
        return cls(gaussian, TrimmedMixture(plane, mixture), Neighbours(tensors["reference"].double()))


def _whitened(gaussian: ConditionalGaussian, z: Rows) -> Rows:
    """Return coordinates in which the Gaussian is standard; of wide rows the first ones alone."""
    if len(gaussian.mean) <= MAX_COVARIANCE_COLUMNS:
        return gaussian.whitened(z)
    variances = gaussian.loadings.square().sum(0) + gaussian.noise_variance
    return (_components(gaussian, z) / variances.sqrt())[:, :WIDE_COLUMNS]
