"""Priors p(h) of the code: what codes a generative autoencoder draws, and what its divergence is measured to."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.layers import check_count
from isthmus.parts.likelihood_base import soft_clip
from isthmus.parts.likelihood_gaussians import LOG_2_PI, LOG_VARIANCE_BOUND
from isthmus.parts.sampling import rand_like, randn_like

GaussianMoments = tuple[Float[Tensor, "*batch code_size"], Float[Tensor, "*batch code_size"]]
"""Means and log-variances of diagonal Gaussians."""


def gaussian_log_prob(
    code: Float[Tensor, "*draws batch code_size"],
    mean: Float[Tensor, "*draws batch code_size"] | float = 0.0,
    log_variance: Float[Tensor, "*draws batch code_size"] | float = 0.0,
) -> Float[Tensor, "*draws batch"]:
    """Return log N(h; m, diag(exp v)) = -1/2 sum_j ( (h_j - m_j)^2 exp(-v_j) + v_j + log 2 pi ).

    Example:
        >>> gaussian_log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """
    v = torch.as_tensor(log_variance, dtype=code.dtype, device=code.device)
    return -0.5 * ((code - mean).square() * torch.exp(-v) + v + LOG_2_PI).sum(-1)


class CodePrior(nn.Module, ABC):
    """Base class of priors p(h).

    Args:
        code_size: units of the code.
    """

    starts_at_rows: ClassVar[bool] = False
    """True if `start_at` uses rows."""

    def __init__(self, code_size: int) -> None:
        super().__init__()
        self.code_size = code_size

    @abstractmethod
    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return log p(h) of each code, nats."""

    @abstractmethod
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code_size"]:
        """Return n samples, without gradient; random numbers come from the generator's device."""

    def start_at(self, rows: Float[Tensor, "rows columns"]) -> None:
        """Set initial parameters from some rows; nothing by default."""
        return


class StandardNormal(CodePrior):
    """Standard normal prior: p(h) = N(0, I).

    Source: Kingma & Welling, Auto-encoding variational Bayes (2014).

    Example:
        >>> StandardNormal(2).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return log N(h; 0, I)."""
        return gaussian_log_prob(code)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code_size"]:
        """Return standard normal codes."""
        return randn_like(torch.empty(n, self.code_size), generator)


class MixtureOfGaussians(CodePrior):
    r"""Base class of mixtures of diagonal Gaussians: p(h) = sum_c pi_c N(h; m_c, diag(exp v_c))."""

    @abstractmethod
    def components(self) -> tuple[Float[Tensor, " k"], GaussianMoments]:
        """Return log pi, (k,), and means and log-variances, (k, code_size) each."""

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return the log density of the mixture; needs k times the memory of the codes."""
        log_pi, (mean, log_variance) = self.components()
        return torch.logsumexp(log_pi + gaussian_log_prob(code.unsqueeze(-2), mean, log_variance), -1)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code_size"]:
        """Return samples: a component by its weight, then a code of its Gaussian."""
        log_pi, (mean, log_variance) = self.components()
        chosen = component_samples(log_pi, n, generator)
        scale = torch.exp(0.5 * log_variance[chosen])
        return mean[chosen] + scale * randn_like(scale, generator)


class GaussianMixture(MixtureOfGaussians):
    r"""Mixture of k diagonal Gaussians, whose weights, means and variances are learned with the model.

    Args:
        code_size: units of the code.
        k: number of components.
        generator: of the initial means, which are standard normal.

    Raises:
        InputError: k below 1.

    Source: Dilokthanakul et al., Deep unsupervised clustering with Gaussian mixture variational autoencoders (2016).

    Example:
        >>> prior = GaussianMixture(2, 3, generator=torch.Generator().manual_seed(0))
        >>> prior.sample(4, torch.Generator().manual_seed(0)).shape, prior.log_prob(torch.zeros(5, 1, 2)).shape
        (torch.Size([4, 2]), torch.Size([5, 1]))
    """

    def __init__(self, code_size: int, k: int, *, generator: Generator) -> None:
        super().__init__(code_size)
        check_count("MixturePrior: k", k)
        self.logits = nn.Parameter(torch.zeros(k))
        self.means = nn.Parameter(randn_like(torch.empty(k, code_size), generator))
        self.free_log_variances = nn.Parameter(torch.zeros(k, code_size))

    def components(self) -> tuple[Float[Tensor, " k"], GaussianMoments]:
        """Return log pi, and means and log-variances."""
        return self.logits.log_softmax(-1), (self.means, soft_clip(self.free_log_variances, LOG_VARIANCE_BOUND))


class PosteriorMixture(MixtureOfGaussians):
    r"""Mixture of the posteriors of k learned pseudo-inputs u_c, the VampPrior: p(h) = 1/k sum_c q(h | u_c).

    It is the aggregate posterior of k rows that are learned, so it lies where codes of rows lie.

    Args:
        code_size: units of the code.
        k: number of pseudo-inputs.
        n_columns: the width of model space.
        posterior: function of rows that returns means and log-variances of q(h | x); it is not registered here.

    Raises:
        InputError: k below 1.

    Source: Tomczak & Welling, VAE with a VampPrior (2018).
    """

    starts_at_rows: ClassVar[bool] = True

    def __init__(self, code_size: int, k: int, n_columns: int, posterior: Callable[[Tensor], GaussianMoments]) -> None:
        super().__init__(code_size)
        check_count("VampPrior: k", k)
        self.inputs = nn.Parameter(torch.zeros(k, n_columns))
        self._posterior = (posterior,)

    def components(self) -> tuple[Float[Tensor, " k"], GaussianMoments]:
        """Return -log k, and the posteriors of the pseudo-inputs."""
        k = len(self.inputs)
        return self.inputs.new_full((k,), -math.log(k)), self._posterior[0](self.inputs)

    @torch.no_grad()
    def start_at(self, rows: Float[Tensor, "rows columns"]) -> None:
        """Start the pseudo-inputs at rows, which are repeated if there are fewer."""
        k = len(self.inputs)
        self.inputs.copy_(rows[torch.arange(k, device=rows.device) * len(rows) // k])


class FlowPrior(CodePrior):
    """Neural spline flow: an invertible map of a standard normal, learned with the model.

    Args:
        code_size: units of the code.
        n_transforms: number of transformations.
        hidden_sizes: units of the hidden layers of each transformation.
        seed: of the weights.

    Raises:
        InputError: the package zuko is not installed.

    Source: Durkan et al., Neural spline flows (2019), as in the package zuko.
    """

    def __init__(
        self, code_size: int, *, n_transforms: int = 3, hidden_sizes: tuple[int, ...] = (64, 64), seed: int
    ) -> None:
        super().__init__(code_size)
        zuko = _zuko()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
            self.flow = zuko.flows.NSF(code_size, transforms=n_transforms, hidden_features=hidden_sizes)

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return the log density by the change of variables, in the precision of the code."""
        with torch.autocast(code.device.type, enabled=False):
            base, log_determinant = self.flow.transform().call_and_ladj(code)
            return gaussian_log_prob(base) + log_determinant

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code_size"]:
        """Return standard normal codes, mapped by the flow."""
        base = randn_like(next(self.parameters()).new_empty(n, self.code_size), generator)
        mapped: Tensor = self.flow.transform().inv(base)
        return mapped


def _zuko() -> Any:
    """Return the package zuko.

    Raises:
        InputError: it is not installed.
    """
    distribution = torch.distributions.Distribution
    validated = distribution._validate_args
    try:
        import zuko
    except ImportError:
        raise InputError("FlowPrior needs the package zuko; install it with pip install 'isthmus[flows]'") from None
    distribution.set_default_validate_args(validated)  # zuko turns the validation of all distributions off
    return zuko


class FittedMixture(CodePrior):
    r"""Mixture of Gaussians with full covariances, fitted to codes after training.

        p(h) = sum_c pi_c N(h; m_c, L_c L_c')

    Args:
        code_size: units of the code.
        k: number of components; 1 is a Gaussian distribution.

    Raises:
        InputError: k below 1.

    Source: Bishop, Pattern recognition and machine learning (2006), section 9.2.2, for the EM algorithm.

    Example:
        >>> prior = FittedMixture(2, 1)
        >>> prior.fit(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]), seed=0)
        >>> prior.means, prior.log_prob(torch.ones(1, 2)).shape
        (tensor([[1., 1.]]), torch.Size([1]))
    """

    log_weights: Tensor
    means: Tensor
    scale_trils: Tensor

    def __init__(self, code_size: int, k: int) -> None:
        super().__init__(code_size)
        check_count("k", k)
        self.register_buffer("log_weights", torch.full((k,), -math.log(k)))
        self.register_buffer("means", torch.zeros(k, code_size))
        self.register_buffer("scale_trils", torch.eye(code_size).repeat(k, 1, 1))

    def fit(self, codes: Float[Tensor, "rows code_size"], *, seed: int) -> None:
        """Fit the mixture to codes by the EM algorithm; fewer codes than components repeat the first components."""
        from sklearn.mixture import GaussianMixture as Mixture

        k = min(len(self.means), len(codes))
        mixture = Mixture(k, covariance_type="full", random_state=seed % 2**32).fit(codes.double().numpy())
        chosen = torch.arange(len(self.means)) % k
        self.log_weights.copy_((torch.from_numpy(mixture.weights_) / chosen.bincount())[chosen].log())
        self.means.copy_(torch.from_numpy(mixture.means_)[chosen])
        self.scale_trils.copy_(torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))[chosen])

    def log_prob(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return the log density of the mixture."""
        components = torch.distributions.MultivariateNormal(self.means, scale_tril=self.scale_trils)
        found: Tensor = components.log_prob(code.unsqueeze(-2))
        return torch.logsumexp(self.log_weights + found, -1)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n code_size"]:
        """Return samples: a component by its weight, then a code of its Gaussian."""
        chosen = component_samples(self.log_weights, n, generator)
        e = randn_like(self.means[chosen], generator)
        return self.means[chosen] + (self.scale_trils[chosen] @ e.unsqueeze(-1)).squeeze(-1)


def component_samples(log_weights: Float[Tensor, " k"], n: int, generator: Generator) -> Int[Tensor, " n"]:
    """Return n numbers of components, sampled by their weights with the inverse distribution function."""
    u = rand_like(log_weights.new_empty(n, 1), generator)
    return (u >= log_weights.exp().cumsum(-1)).sum(-1).clamp(max=len(log_weights) - 1)
