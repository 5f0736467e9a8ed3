"""Scores d log p / dx: as a denoising autoencoder estimates them, and exact ones of known densities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch

Map = Callable[[Float[Tensor, "batch columns"]], Float[Tensor, "batch columns"]]
"""Function r from rows in model space to their reconstructions."""


def reconstruction_map(coder: Coder) -> Map:
    """Return the reconstruction r(x) = E[x | g(f(x))] of a fitted model as a differentiable function.

    Shapes: (batch, columns) -> (batch, columns), in model space.

    Args:
        coder: the parts of a fitted estimator, `model.coder_`.

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> X = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).numpy()
        >>> model = LinearAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X)
        >>> reconstruction_map(model.coder_)(torch.zeros(4, 3)).shape
        torch.Size([4, 3])
    """

    def reconstruct(x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        return coder.likelihood.mean(coder(Batch(x)).parameters)

    return reconstruct


def denoising_score(
    reconstruct: Map, x: Float[Tensor, "batch columns"], scale: float
) -> Float[Tensor, "batch columns"]:
    """Estimate the score d log p_s(x) / dx of the noisy rows by (r(x) - x) / s^2.

    It is exact for the r of least squared error under Gaussian noise of scale s: r(x) = E[x_0 | x_0 + s e = x] =
    x + s^2 d log p_s(x) / dx, p_s = p * N(0, s^2 I). As s goes to 0, p_s goes to p.

    Shapes: (batch, columns) -> (batch, columns), in the inverse units of x.

    Args:
        reconstruct: r, of a denoising autoencoder trained with Gaussian noise; see `reconstruction_map`.
        x: the rows at which the score is estimated.
        scale: s, the standard deviation of the noise that r was trained with.

    Raises:
        InputError: the scale is not above 0.

    Source: Alain & Bengio (2013), theorem 1 and equation 9; Miyasawa (1961) for the exact form; DL book, 14.5.1.

    Example:
        >>> denoising_score(lambda x: x / 2, torch.ones(1, 2), scale=1.0)  # the best r for N(0, I): p_s = N(0, 2 I)
        tensor([[-0.5000, -0.5000]])
    """
    return (reconstruct(x) - x) / _check_scale(scale) ** 2


def optimal_linear_denoiser(
    mean: Float[Tensor, " columns"], covariance: Float[Tensor, "columns columns"], scale: float
) -> Map:
    """Return the optimal linear denoiser r(x) = mu + S (S + s^2 I)^-1 (x - mu) for rows of mean mu and covariance S.

    For Gaussian rows it is optimal among all functions.

    Shapes: (batch, columns) -> (batch, columns).

    Args:
        mean: mu of the clean rows.
        covariance: S of the clean rows.
        scale: s, the standard deviation of the added noise.

    Raises:
        InputError: the scale is not above 0.

    Source: the normal equations of E ||r(x + s e) - x||^2; the Wiener filter.

    Example:
        >>> optimal_linear_denoiser(torch.zeros(2), torch.diag(torch.tensor([3.0, 0.0])), 1.0)(torch.ones(1, 2))
        tensor([[0.7500, 0.0000]])
    """
    noisy = covariance + _check_scale(scale) ** 2 * torch.eye(len(mean), dtype=mean.dtype, device=mean.device)
    weight = torch.linalg.solve(noisy, covariance)  # (S + s^2 I)^-1 S, the transpose of S (S + s^2 I)^-1

    def reconstruct(x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        return mean + (x - mean) @ weight

    return reconstruct


@dataclass(frozen=True)
class GaussianMixture:
    """Gaussian mixture p(x) = sum_k w_k N(x; mu_k, S_k), whose score is known, with and without noise.

    Attributes:
        weights: w, (components,), positive; they are normalised to sum 1.
        means: mu, (components, columns).
        covariances: S, (components, columns, columns), positive definite.

    Raises:
        InputError: the shapes do not match, or a weight is not positive.

    Source: Bishop, Pattern Recognition and Machine Learning (2006), section 9.2.

    Example:
        >>> one = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])
        >>> one.score(torch.tensor([[1.0, -2.0]]))
        tensor([[-1.,  2.]])
    """

    weights: Float[Tensor, " components"]
    means: Float[Tensor, "components columns"]
    covariances: Float[Tensor, "components columns columns"]

    def __post_init__(self) -> None:
        n_components, n_columns = self.means.shape
        if self.weights.shape != (n_components,) or self.covariances.shape != (n_components, n_columns, n_columns):
            raise InputError(
                f"mixture: shapes of weights {tuple(self.weights.shape)}, means {tuple(self.means.shape)} and "
                f"covariances {tuple(self.covariances.shape)} do not match; give (k,), (k, d) and (k, d, d)"
            )
        if not bool((self.weights > 0).all()):
            raise InputError(f"mixture: weight {float(self.weights.min())} is not positive; remove that component")

    def with_noise(self, scale: float) -> GaussianMixture:
        """Return p_s = p * N(0, s^2 I), the density of x + s e: a mixture with covariances S_k + s^2 I."""
        eye = torch.eye(self.means.shape[1], dtype=self.means.dtype, device=self.means.device)
        return replace(self, covariances=self.covariances + _check_scale(scale) ** 2 * eye)

    def log_prob(self, x: Float[Tensor, "batch columns"]) -> Float[Tensor, " batch"]:
        """Return log p(x), in nats."""
        return self._joint(x)[0].logsumexp(-1)

    def score(self, x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        """Return d log p(x) / dx = sum_k p(k | x) S_k^-1 (mu_k - x)."""
        joint, whitened = self._joint(x)
        return (joint.softmax(-1)[..., None] * whitened).sum(-2)

    def optimal_denoiser(self, scale: float) -> Map:
        """Return the optimal denoiser r(x) = x + s^2 d log p_s(x) / dx of rows of this density."""
        noisy = self.with_noise(scale)

        def reconstruct(x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
            return x + scale**2 * noisy.score(x)

        return reconstruct

    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n columns"]:
        """Sample n rows; the generator must be on the device of the means."""
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        normal = torch.randn(
            n, self.means.shape[1], generator=generator, dtype=self.means.dtype, device=self.means.device
        )
        roots = torch.linalg.cholesky(self.covariances)
        return self.means[component] + (roots[component] @ normal[..., None]).squeeze(-1)

    def _joint(self, x: Tensor) -> tuple[Float[Tensor, "batch components"], Float[Tensor, "batch components columns"]]:
        """Return log w_k N(x; mu_k, S_k) and S_k^-1 (mu_k - x)."""
        roots = torch.linalg.cholesky(self.covariances)
        difference = self.means - x[:, None]
        whitened = torch.cholesky_solve(difference[..., None], roots).squeeze(-1)
        log_root = roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        log_weight = (self.weights / self.weights.sum()).log()
        return log_weight - constant - log_root - 0.5 * (difference * whitened).sum(-1), whitened


def _check_scale(scale: float) -> float:
    """Return the noise scale as a float, after checking that it is finite and above 0."""
    if not 0.0 < scale < math.inf:
        raise InputError(f"noise scale {scale!r} is not a positive number; give a standard deviation above 0")
    return float(scale)
