"""The linear autoencoder, and the Gaussian density that its subspace defines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.metaestimators import available_if
from torch import Tensor, nn

from isthmus.data.streams import BLOCK_SIZE, blocks
from isthmus.estimators.base import BaseAutoencoder, seed_of
from isthmus.estimators.records import Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.rows import Rows
from isthmus.parts.layers import check_count
from isthmus.parts.likelihoods import Likelihood, likelihood_from
from isthmus.parts.networks import MLP


class SubspaceDensity(nn.Module):
    r"""The Gaussian of probabilistic PCA on a given subspace.

        p(x) = N(x; m, U diag(l) U' + s^2 (I - U U')),

    m the mean of the rows, U (columns, k) an orthonormal basis of the decoder's range turned so that the
    rows' covariance in it is diagonal, l its diagonal, s^2 the mean variance of the other directions. On the
    principal subspace it is the maximum likelihood of probabilistic PCA.

    Source: Tipping & Bishop, Probabilistic principal component analysis (1999), equations 7 and 8.
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
    def fit(self, decoder: Float[Tensor, "columns code_size"], rows: Rows) -> None:
        """Fit to the rows, in two passes over them."""
        n = len(rows)
        mean = torch.stack([batch.x.double().sum(0) for batch in blocks(rows, 1024)]).sum(0) / n
        basis = torch.linalg.svd(decoder.double(), full_matrices=False).U[:, : self.basis.shape[1]]
        inner, total = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64), 0.0
        for batch in blocks(rows, 1024):
            centred = batch.x.double() - mean
            projected = centred @ basis
            inner += projected.T @ projected / n
            total += float(centred.square().sum()) / n
        variances, rotation = torch.linalg.eigh(inner)
        tiny = 1e-9 * max(total, 1e-9)
        others = basis.shape[0] - basis.shape[1]
        self.mean.copy_(mean)
        self.basis.copy_(basis @ rotation)
        self.variances.copy_(variances.clamp(min=tiny))
        self.noise.fill_(max((total - float(variances.sum())) / others, tiny) if others else 1.0)

    def log_prob(self, x: Float[Tensor, "batch columns"]) -> Float[Tensor, " batch"]:
        """log p(x) by row, nats."""
        centred = x.double() - self.mean
        projected = centred @ self.basis
        n_columns, k = self.basis.shape
        outside = (centred.square().sum(1) - projected.square().sum(1)).clamp(min=0) / self.noise
        inside = (projected.square() / self.variances).sum(1)
        log_det = self.variances.log().sum() + (n_columns - k) * self.noise.log()
        return -0.5 * (n_columns * math.log(2 * math.pi) + log_det + inside + outside)

    def sample(self, n: int, generator: torch.Generator) -> Float[Tensor, "n columns"]:
        """n draws of x."""
        n_columns, k = self.basis.shape
        inside = torch.randn(n, k, generator=generator, dtype=torch.float64) * self.variances.sqrt()
        noise = torch.randn(n, n_columns, generator=generator, dtype=torch.float64) * self.noise.sqrt()
        outside = noise - (noise @ self.basis) @ self.basis.T
        return self.mean + inside @ self.basis.T + outside


class LinearReconstruction(Reconstruction):
    """The criterion of a linear pair, with the density that is fitted to its subspace afterwards."""

    decoder: MLP

    def __init__(self, encoder: MLP, decoder: MLP, likelihood: Likelihood) -> None:
        super().__init__(encoder, decoder, likelihood)
        self.density = SubspaceDensity(encoder.sizes[0], encoder.sizes[-1])


def _is_gaussian(estimator: Any) -> bool:
    """Only a Gaussian likelihood makes the linear autoencoder a density of x."""
    return estimator.likelihood in ("auto", "gaussian") and getattr(estimator, "likelihood_", _GAUSSIAN) == _GAUSSIAN


_GAUSSIAN = {"name": "gaussian"}


@dataclass(kw_only=True, eq=False, repr=False)
class LinearAutoencoder(BaseAutoencoder):
    r"""The linear autoencoder: it learns the subspace of the principal components.

        h = W x + b,   r = V h + c,   J = E_x [ 1/2 ||x - r||^2 ]

    With a Gaussian likelihood every minimum is global and V spans the first `code_size` principal
    components, but its columns are neither orthogonal nor ordered. With the subspace comes an exact density,
    that of probabilistic PCA: `score_samples` and `sample` are there for the Gaussian likelihood only.

    The arguments are those of every kind: see `BaseAutoencoder`. Another `likelihood` makes it a generalised
    principal component analysis ("bernoulli": logistic PCA).

    Attributes:
        score_kind_: "exact": `score_samples` is the log density of probabilistic PCA.

    Raises:
        InputError: at `fit`, for arguments or rows that cannot be used, in one line.

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

    def _build_objective(self, shape: Shape, generator: torch.Generator) -> LinearReconstruction:
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        encoder = MLP((shape.n_columns, shape.code_size), "linear", generator=generator)
        decoder = MLP((shape.code_size, likelihood.n_parameters), "linear", generator=generator)
        return LinearReconstruction(encoder, decoder, likelihood)

    @property
    def _pair(self) -> LinearReconstruction:
        return cast(LinearReconstruction, self.objective_)

    @property
    def _density(self) -> SubspaceDensity:
        """Where rows and draws are; reading may have left the whole elsewhere."""
        return self._pair.density.to("cpu")

    def _after_training(self, rows: Rows) -> None:
        if self.likelihood_ == _GAUSSIAN:
            self._pair.density.fit(self._pair.decoder.affine_maps[0].weight, rows)
            self.score_kind_ = "exact"

    @available_if(_is_gaussian)
    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """log p(x) of each row under probabilistic PCA on the learned subspace, nats, in model space."""
        rows = self._rows(X)
        with torch.no_grad():
            return np.concatenate([self._density.log_prob(b.x).numpy() for b in blocks(rows, BLOCK_SIZE)])

    @available_if(_is_gaussian)
    def sample(self, n: int, random_state: Any = None) -> Any:
        """n draws from that density, in the units of X.

        Raises:
            InputError: fewer than one draw.
        """
        check_count("n", n)
        generator = torch.Generator().manual_seed(seed_of(random_state))
        return self.preprocessing_.inverse_transform(self._density.sample(n, generator).numpy())
