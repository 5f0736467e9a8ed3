"""Likelihoods for real columns: Gaussians with a fixed, learned or predicted variance, and a mixture of Gaussians."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.likelihood_base import Likelihood, logit, observed, register, soft_clip, weighted_sum
from isthmus.parts.sampling import rand_like, randn_like

LOG_2_PI = math.log(2 * math.pi)
LOG_VARIANCE_BOUND = 10.0


def _squares(r: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]) -> Tensor:
    # mse_loss stores only its inputs and has a fused backward pass: 2.5 times as fast as (x - r).square().
    return F.mse_loss(r.to(x.dtype), x.expand_as(r), reduction="none")


@register
class Gaussian(Likelihood):
    """Gaussian distribution of unit variance with the mean r from the decoder.

        -log p(x | r) = 1/2 ||x - r||^2 + d/2 log(2 pi)

    Up to a constant, the nll is half the squared error.

    Shapes:
        parameters r (*draws, batch, n_columns); x and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: d, the width of x and of the decoder's output.

    Source:
        Goodfellow, Bengio & Courville, Deep Learning, section 6.2.2.1.

    Example:
        >>> likelihood = Gaussian(n_columns=2)
        >>> likelihood.nll(torch.zeros(1, 2), torch.tensor([[1.0, 1.0]])).item()  # 1 + log(2 pi)
        2.8378...
    """

    name = "gaussian"
    title = "Gaussian"
    has_least_squares = True

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, n_columns)

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """Return 1/2 ||x - r||^2 + d/2 log(2 pi), r the mean."""
        mean = self.mean(parameters.to(x.dtype))
        if weight is None:
            return 0.5 * _squares(mean, x).sum(-1) + 0.5 * LOG_2_PI * self.n_columns
        return weighted_sum(0.5 * (_squares(mean, observed(x, weight)) + LOG_2_PI), weight)

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return 1/2 (x_j - r_j)^2 + 1/2 log(2 pi)."""
        return 0.5 * (_squares(self.mean(parameters.to(x.dtype)), x) + LOG_2_PI)

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return the decoder's output, r."""
        return parameters

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample the mean plus standard normal noise."""
        mean = self.mean(parameters)
        return mean + randn_like(mean, generator)


@register
class GaussianUnit(Gaussian):
    """Gaussian distribution of unit variance with a mean in (0, 1), for grey values.

        -log p(x | l) = 1/2 ||x - sigma(l)||^2 + d/2 log(2 pi)

    The nll is the squared error of a sigmoid output. A saturated sigmoid reconstructs black and white pixels exactly.
    `python -m experiments depth` compares it with `Gaussian` on digits, for linear maps.

    Shapes:
        parameters l (*draws, batch, n_columns); x and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: d, the width of x and of the decoder's output.

    Source:
        Hinton & Salakhutdinov 2006, Reducing the dimensionality of data with neural networks (logistic output units).

    Example:
        >>> GaussianUnit(n_columns=2).mean(torch.zeros(1, 2)).tolist()
        [[0.5, 0.5]]
    """

    name = "gaussian-unit"
    title = "Gaussian (unit interval)"
    bounds = (0.0, 1.0)

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return sigma(l)."""
        return torch.sigmoid(parameters)

    def link(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Return log(m / (1 - m))."""
        return logit(mean)


@register
class GaussianLearned(Likelihood):
    """Gaussian distribution with one variance for all columns, learned with the weights.

        -log p(x | r) = 1/2 sum_j [ (x_j - r_j)^2 exp(-s) + s + log(2 pi) ],   s = 10 tanh(a / 10)

    The soft bound on the log-variance s keeps the standard deviation between 0.0067 and 148 in model units. Without
    it, a column that is reconstructed exactly (a constant pixel) makes the nll decrease to minus infinity. s starts at
    0; at the optimum the variance is the mean squared residual.

    Shapes:
        parameters r (*draws, batch, n_columns); x and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: the width of x and of the decoder's output.

    Source:
        Rybkin, Daniilidis & Levine 2021, Simple and effective VAE training with calibrated decoders;
        Deep Learning, section 6.2.2.4.

    Example:
        >>> GaussianLearned(n_columns=2).variance.item()
        1.0
    """

    name = "gaussian-learned"
    title = "Gaussian"
    has_least_squares = True

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, n_columns)
        self.free_log_variance = nn.Parameter(torch.zeros(()))

    @property
    def log_variance(self) -> Float[Tensor, "*columns"]:
        """The log-variance s = log sigma^2."""
        return soft_clip(self.free_log_variance, LOG_VARIANCE_BOUND)

    @property
    def variance(self) -> Float[Tensor, "*columns"]:
        """The variance sigma^2, in squared model units."""
        return self.log_variance.exp()

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """Return 1/2 sum_j [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ]."""
        if weight is None and self.free_log_variance.ndim == 0:
            s, squares = self.log_variance, _squares(parameters, x).sum(-1)
            return 0.5 * (squares * torch.exp(-s) + (s + LOG_2_PI) * self.n_columns)
        return super().nll(parameters, x, weight)

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return 1/2 [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ]."""
        s = self.log_variance
        return 0.5 * (_squares(parameters, x) * torch.exp(-s) + (s + LOG_2_PI))

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return the decoder's output, r."""
        return parameters

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample r plus sigma times standard normal noise."""
        return parameters + self.variance.sqrt() * randn_like(parameters, generator)


@register
class GaussianPerColumn(GaussianLearned):
    """Gaussian distribution with one variance per column, learned with the weights.

        -log p(x | r) = 1/2 sum_j [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ],   s_j = 10 tanh(a_j / 10)

    Shapes:
        parameters r (*draws, batch, n_columns); x and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: the width of x and of the decoder's output.

    Source:
        Deep Learning, section 6.2.2.4.

    Example:
        >>> GaussianPerColumn(n_columns=2).variance.tolist()
        [1.0, 1.0]
    """

    name = "gaussian-per-column"
    has_least_squares = False

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self.free_log_variance = nn.Parameter(torch.zeros(n_columns))


@register
class GaussianPredicted(Likelihood):
    """Gaussian distribution with the mean and the variance of each entry from the decoder.

        -log p(x | r, a) = 1/2 sum_j [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ],   s_j = 10 tanh(a_j / 10)

    The soft bound on the log-variance s keeps the standard deviation between 0.0067 and 148 in model units.

    Shapes:
        parameters (*draws, batch, 2 n_columns): the means r, then a (for images, two blocks of channels); x and weight
        (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: the width of x; the decoder's output is twice as wide.

    Source:
        Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution;
        Deep Learning, section 6.2.2.4.

    Example:
        >>> likelihood = GaussianPredicted(n_columns=3)
        >>> likelihood.n_parameters, likelihood.mean(torch.arange(6.0)).tolist()
        (6, [0.0, 1.0, 2.0])
    """

    name = "gaussian-predicted"
    title = "Gaussian"

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, 2 * n_columns)

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch parameters"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return 1/2 [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ]."""
        r, a = parameters.to(x.dtype).chunk(2, dim=-1)
        s = soft_clip(a, LOG_VARIANCE_BOUND)
        return 0.5 * (_squares(r, x) * torch.exp(-s) + (s + LOG_2_PI))

    def mean(self, parameters: Float[Tensor, "*draws batch parameters"]) -> Float[Tensor, "*draws batch columns"]:
        """Return the first half of the decoder's output, r."""
        return parameters[..., : self.n_columns]

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch parameters"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample r plus sigma times standard normal noise."""
        r, a = parameters.chunk(2, dim=-1)
        return r + torch.exp(0.5 * soft_clip(a, LOG_VARIANCE_BOUND)) * randn_like(r, generator)


@register
class MixtureDensity(Likelihood):
    """Mixture of k Gaussian distributions over the row, for rows with more than one plausible reconstruction.

        -log p(x | .) = -log sum_c pi_c prod_j N(x_j; m_cj, exp(s_cj))^w_j,   pi = softmax(a),  s = 10 tanh(b / 10)

    A column of weight 0 is marginalised. The soft bound on the log-variances prevents a component from collapsing onto
    one row. The nll is not a sum over columns.

    Shapes:
        parameters (*draws, batch, k + 2 k n_columns), for "isotropic" k + k n_columns + k: the k logits a, then the
        means m of each component, then b of each component; x and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: the width of x.
        n_components: k.
        covariance: "diagonal", or "isotropic" for one variance per component (Bishop's model, half as many parameters).

    Raises:
        InputError: n_components is less than 1, or covariance has another value.

    Source:
        Bishop 1994, Mixture density networks, equations 22 to 27; Deep Learning, section 6.2.2.4.

    Example:
        >>> likelihood = MixtureDensity(n_columns=3, n_components=2)
        >>> likelihood.n_parameters, likelihood.mean(torch.zeros(1, 14)).tolist()
        (14, [[0.0, 0.0, 0.0]])
    """

    name = "mixture-density"
    title = "Mixture density"

    def __init__(self, n_columns: int, n_components: int = 5, covariance: str = "diagonal") -> None:
        if operator.index(n_components) < 1:
            raise InputError(f"a mixture density requires n_components of at least 1; found {n_components}")
        if covariance not in ("diagonal", "isotropic"):
            raise InputError(f"a mixture density requires covariance 'diagonal' or 'isotropic'; found {covariance!r}")
        n_variances = n_columns if covariance == "diagonal" else 1
        sizes = [n_components, n_components * n_columns, n_components * n_variances]
        super().__init__(n_columns, sum(sizes))
        self.n_components = n_components
        self.covariance = covariance
        self.sizes = sizes

    def config(self) -> dict[str, Any]:
        """Return the name, the number of components and the covariance."""
        return {"name": self.name, "n_components": self.n_components, "covariance": self.covariance}

    def _components(self, parameters: Float[Tensor, "*draws batch parameters"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return log pi (..., k), means (..., k, columns) and log-variances (..., k, columns or 1)."""
        a, m, b = parameters.split(self.sizes, dim=-1)
        s = soft_clip(b, LOG_VARIANCE_BOUND)
        by_component = (self.n_components, -1)
        return F.log_softmax(a, dim=-1), m.unflatten(-1, by_component), s.unflatten(-1, by_component)

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch parameters"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """Return -log sum_c pi_c prod_j N(x_j; m_cj, exp(s_cj))^w_j; needs k times the memory of x."""
        log_pi, m, s = self._components(parameters.to(x.dtype))
        x = observed(x, weight).unsqueeze(-2)
        terms = _squares(m, x) * torch.exp(-s) + (s + LOG_2_PI)
        log_density = -0.5 * weighted_sum(terms, None if weight is None else weight.unsqueeze(-2))
        return -torch.logsumexp(log_pi + log_density, dim=-1)

    def parameters_for(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " parameters"]:
        """Return parameters with every component at the mean; the decoder's weights make the components differ."""
        n_logits, _, n_variances = self.sizes
        return torch.cat([mean.new_zeros(n_logits), mean.repeat(self.n_components), mean.new_zeros(n_variances)])

    def mean(self, parameters: Float[Tensor, "*draws batch parameters"]) -> Float[Tensor, "*draws batch columns"]:
        """Return sum_c pi_c m_c."""
        log_pi, m, _ = self._components(parameters)
        return (log_pi.exp().unsqueeze(-1) * m).sum(-2)

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch parameters"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample a component by the inverse distribution function, then sample from its Gaussian."""
        log_pi, m, s = self._components(parameters)
        u = rand_like(log_pi[..., :1], generator)
        # By rounding, the last cumulative probability may be below u.
        component = (u >= log_pi.exp().cumsum(-1)).sum(-1).clamp(max=self.n_components - 1)
        r, log_variance = (values.take_along_dim(component[..., None, None], dim=-2).squeeze(-2) for values in (m, s))
        return r + torch.exp(0.5 * log_variance) * randn_like(r, generator)
