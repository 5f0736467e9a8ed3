"""Likelihoods for real columns: Gaussians by what is known of their variance, and a mixture of them."""

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
    # mse_loss keeps its inputs only and has one fused backward pass: 2.5 times as fast as (x - r).square().
    return F.mse_loss(r.to(x.dtype), x.expand_as(r), reduction="none")


@register
class Gaussian(Likelihood):
    """Gaussian of unit variance: the decoder gives the mean r, and the nll is half the squared error.

        -log p(x | r) = 1/2 ||x - r||^2 + d/2 log(2 pi)

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
        """1/2 ||x - r||^2 + d/2 log(2 pi)."""
        if weight is None:
            return 0.5 * _squares(parameters, x).sum(-1) + 0.5 * LOG_2_PI * self.n_columns
        return weighted_sum(0.5 * (_squares(parameters, observed(x, weight)) + LOG_2_PI), weight)

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """1/2 (x_j - r_j)^2 + 1/2 log(2 pi)."""
        return 0.5 * (_squares(parameters, x) + LOG_2_PI)

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """The decoder's output, r."""
        return parameters

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """The mean r plus standard normal noise."""
        return parameters + randn_like(parameters, generator)


@register
class GaussianUnit(Gaussian):
    """Gaussian of unit variance around a mean in (0, 1): the output unit for grey values.

        -log p(x | l) = 1/2 ||x - sigma(l)||^2 + d/2 log(2 pi)

    The squared error of the Gaussian with the sigmoid's range: ink and paper, which most pixels are, cost the
    decoder no precision. `python -m experiments depth` measures the gain on digits (linear maps with either output).

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

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """1/2 ||x - sigma(l)||^2 + d/2 log(2 pi)."""
        return super().nll(torch.sigmoid(parameters.to(x.dtype)), x, weight)

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """1/2 (x_j - sigma(l_j))^2 + 1/2 log(2 pi)."""
        return super().nll_by_column(torch.sigmoid(parameters.to(x.dtype)), x)

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """sigma(l)."""
        return torch.sigmoid(parameters)

    def link(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """log(m / (1 - m))."""
        return logit(mean)

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """The mean sigma(l) plus standard normal noise."""
        return super().sample(torch.sigmoid(parameters), generator)


@register
class GaussianLearned(Likelihood):
    """Gaussian of one variance for all columns, learned with the weights.

        -log p(x | r) = 1/2 sum_j [ (x_j - r_j)^2 exp(-s) + s + log(2 pi) ],   s = 10 tanh(a / 10)

    The log-variance s is softly bounded to (-10, 10), that is, a standard deviation between 0.0067 and 148 in
    model units: a column that is reconstructed exactly (a constant pixel) cannot draw the nll to minus infinity.
    It starts at 0; at the optimum the variance is the mean squared residual.

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
        """s = log sigma^2, within its bounds."""
        return soft_clip(self.free_log_variance, LOG_VARIANCE_BOUND)

    @property
    def variance(self) -> Float[Tensor, "*columns"]:
        """sigma^2, in squared model units."""
        return self.log_variance.exp()

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """1/2 sum_j [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ]."""
        if weight is None and self.free_log_variance.ndim == 0:
            s, squares = self.log_variance, _squares(parameters, x).sum(-1)
            return 0.5 * (squares * torch.exp(-s) + (s + LOG_2_PI) * self.n_columns)
        return super().nll(parameters, x, weight)

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """1/2 [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ]."""
        s = self.log_variance
        return 0.5 * (_squares(parameters, x) * torch.exp(-s) + (s + LOG_2_PI))

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """The decoder's output, r."""
        return parameters

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """The mean r plus sigma times standard normal noise."""
        return parameters + self.variance.sqrt() * randn_like(parameters, generator)


@register
class GaussianPerColumn(GaussianLearned):
    """Gaussian of one variance a column, learned with the weights: `GaussianLearned` with s_j for s.

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
    """Gaussian whose mean and variance both come from the decoder, for each entry.

        -log p(x | r, a) = 1/2 sum_j [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ],   s_j = 10 tanh(a_j / 10)

    The log-variance s is softly bounded to (-10, 10), that is, a standard deviation between 0.0067 and 148 in
    model units, so that no entry's variance collapses.

    Shapes:
        parameters (*draws, batch, 2 n_columns): all means r, then all a (for images, two blocks of channels);
        x and weight (batch, n_columns); nll (*draws, batch).

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
        """1/2 [ (x_j - r_j)^2 exp(-s_j) + s_j + log(2 pi) ]."""
        r, a = parameters.to(x.dtype).chunk(2, dim=-1)
        s = soft_clip(a, LOG_VARIANCE_BOUND)
        return 0.5 * (_squares(r, x) * torch.exp(-s) + (s + LOG_2_PI))

    def mean(self, parameters: Float[Tensor, "*draws batch parameters"]) -> Float[Tensor, "*draws batch columns"]:
        """The first half of the decoder's output, r."""
        return parameters[..., : self.n_columns]

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch parameters"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """The mean r plus sigma times standard normal noise."""
        r, a = parameters.chunk(2, dim=-1)
        return r + torch.exp(0.5 * soft_clip(a, LOG_VARIANCE_BOUND)) * randn_like(r, generator)


@register
class MixtureDensity(Likelihood):
    """k Gaussians over the whole row, all from the decoder: for rows with more than one plausible reconstruction.

        -log p(x | .) = -log sum_c pi_c prod_j N(x_j; m_cj, exp(s_cj))^w_j,   pi = softmax(a),  s = 10 tanh(b / 10)

    A column of weight 0 is marginalised. Log-variances are softly bounded to (-10, 10), so that no component
    collapses onto one row. The nll does not separate over columns.

    Shapes:
        parameters (*draws, batch, k + 2 k n_columns), "isotropic" k + k n_columns + k: the k logits a, then the
        means m by component, then b by component; x and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: the width of x.
        n_components: k.
        covariance: "diagonal", or "isotropic" for one variance a component (Bishop's own, half as many parameters).

    Raises:
        InputError: fewer than one component, or another covariance.

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
            raise InputError(f"a mixture density wants n_components of at least 1; found {n_components}")
        if covariance not in ("diagonal", "isotropic"):
            raise InputError(f"a mixture density's covariance is 'diagonal' or 'isotropic'; found {covariance!r}")
        n_variances = n_columns if covariance == "diagonal" else 1
        sizes = [n_components, n_components * n_columns, n_components * n_variances]
        super().__init__(n_columns, sum(sizes))
        self.n_components = n_components
        self.covariance = covariance
        self.sizes = sizes

    def config(self) -> dict[str, Any]:
        """Name, number of components and covariance."""
        return {"name": self.name, "n_components": self.n_components, "covariance": self.covariance}

    def _components(self, parameters: Float[Tensor, "*draws batch parameters"]) -> tuple[Tensor, Tensor, Tensor]:
        """log pi (..., k), means (..., k, columns), log-variances (..., k, columns or 1)."""
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
        """-log sum_c pi_c prod_j N(x_j; m_cj, exp(s_cj))^w_j; k times as large as x on the way."""
        log_pi, m, s = self._components(parameters.to(x.dtype))
        x = observed(x, weight).unsqueeze(-2)
        terms = _squares(m, x) * torch.exp(-s) + (s + LOG_2_PI)
        log_density = -0.5 * weighted_sum(terms, None if weight is None else weight.unsqueeze(-2))
        return -torch.logsumexp(log_pi + log_density, dim=-1)

    def parameters_for(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " parameters"]:
        """Every component at the mean: the code's weights tell them apart."""
        n_logits, _, n_variances = self.sizes
        return torch.cat([mean.new_zeros(n_logits), mean.repeat(self.n_components), mean.new_zeros(n_variances)])

    def mean(self, parameters: Float[Tensor, "*draws batch parameters"]) -> Float[Tensor, "*draws batch columns"]:
        """sum_c pi_c m_c."""
        log_pi, m, _ = self._components(parameters)
        return (log_pi.exp().unsqueeze(-1) * m).sum(-2)

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch parameters"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """A component by the inverse of its distribution function, then a draw from its Gaussian."""
        log_pi, m, s = self._components(parameters)
        u = rand_like(log_pi[..., :1], generator)
        # Rounding may leave the last cumulative share below u.
        component = (u >= log_pi.exp().cumsum(-1)).sum(-1).clamp(max=self.n_components - 1)
        r, log_variance = (values.take_along_dim(component[..., None, None], dim=-2).squeeze(-2) for values in (m, s))
        return r + torch.exp(0.5 * log_variance) * randn_like(r, generator)
