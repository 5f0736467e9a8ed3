"""Inference with random codes: noise before the activation of the code, and Gaussian distributions."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.carried import collected
from isthmus.parts.code_distributions import CodeDistribution, DiagonalNormal, FullNormal
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, Decoder, EncoderMap, Inference
from isthmus.parts.layers import check_count, check_positive
from isthmus.parts.likelihood_base import soft_clip
from isthmus.parts.likelihood_gaussians import LOG_VARIANCE_BOUND
from isthmus.parts.penalties import at_least_fp32
from isthmus.parts.priors import CodePrior, GaussianMoments, StandardNormal
from isthmus.parts.sampling import randn_like


class GrowingNoise(EncoderMap):
    r"""Map with noise before the activation of the code, which grows linearly during training.

        h = s(a + sigma e),   e ~ N(0, I),   sigma = scale * progress,   a = encoder(x)

    The decoder receives a through the noise. If the encoder makes |a| much larger than sigma, the sigmoid is saturated
    and the noise has little effect: as the noise grows, codes become nearly binary. The criterion has no divergence
    term, since the code has no prior; log q and log p are None.

    Shapes: x (batch, columns) -> a and h (batch, code_size); there are no draws. Without a generator h = s(a).

    Args:
        encoder: x -> a.
        code_activation: s, by name or as a module.
        scale: standard deviation of the noise at the end of training, in units of a.
        sees_mask: as for `EncoderMap`.

    Raises:
        InputError: the scale is not a finite number above 0.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.9; Salakhutdinov & Hinton, Semantic hashing
    (2007). The linear schedule is ours.

    Example:
        >>> from isthmus.parts.networks import MLP
        >>> generator, batch = torch.Generator().manual_seed(0), Batch(torch.zeros(10_000, 1))
        >>> inference = GrowingNoise(MLP((1, 1), generator=generator), "linear", scale=4.0)
        >>> codes = [inference(batch, None, generator, progress).code for progress in (0.0, 0.5, 1.0)]
        >>> [round(code.std().item(), 1) for code in codes]
        [0.0, 2.0, 4.0]
    """

    def __init__(
        self,
        encoder: nn.Module,
        code_activation: str | nn.Module = "sigmoid",
        *,
        scale: float = 4.0,
        sees_mask: bool = False,
    ) -> None:
        super().__init__(encoder, code_activation, sees_mask=sees_mask)
        self.scale = check_positive("GrowingNoise: scale", scale)

    def activate(
        self, preactivation: Float[Tensor, "batch units"], generator: Generator | None, progress: float
    ) -> Float[Tensor, "batch code_size"]:
        """Return h = s(a + sigma e); without a generator h = s(a)."""
        if generator is not None:
            preactivation = preactivation + self.scale * progress * randn_like(preactivation, generator)
        return super().activate(preactivation, None, progress)


class DistributionInference(Inference):
    """Base class of inference by a distribution q(h | x) with a prior p(h): samples of the code, log q and log p.

    A subclass states its distribution as a function of the encoder's output (`distribution`) and the prior from which
    the divergence has a closed form (`standard_prior`).

    Shapes: x (batch, columns); h (draws, batch, code_size); log q and log p (draws, batch). Without a generator h is
    the mean of q, (batch, code_size), and log q and log p are None, as for relaxed samples of discrete codes.

    Args:
        encoder: x -> parameters of q.
        n_draws: k, the number of samples per row.
        sees_mask: as for `EncoderMap`.
        prior: p(h); None is the standard prior.
        path_derivative: compute log q with constant parameters, so that its gradient is that along h alone. The omitted
            term has expectation 0 for one draw; for several draws the objective has to weight the gradient
            (`isthmus.learning.variational`).

    Raises:
        InputError: n_draws is not a whole number of at least 1.
    """

    is_distribution: ClassVar[bool] = True
    parts_name: ClassVar[str] = "unit"
    """Name of the parts of the code whose divergences `Code.kl` has."""

    def __init__(
        self,
        encoder: nn.Module,
        *,
        n_draws: int = 1,
        sees_mask: bool = False,
        prior: CodePrior | None = None,
        path_derivative: bool = False,
    ) -> None:
        super().__init__()
        check_count("n_draws", n_draws)
        self.encoder, self.n_draws, self.sees_mask = encoder, int(n_draws), sees_mask
        self.prior, self.path_derivative = prior, path_derivative

    @abstractmethod
    def distribution(self, preactivation: Float[Tensor, "batch parameters"], progress: float = 1.0) -> CodeDistribution:
        """Return q(h | x) of the encoder's output, with parameters in fp32 or better.

        In training mode samples of a discrete code are relaxed as `progress` says.
        """

    @abstractmethod
    def standard_prior(self, code_size: int) -> CodePrior:
        """Return the prior from which the divergence has a closed form."""

    def code_prior(self, code_size: int) -> CodePrior:
        """Return p(h)."""
        return self.standard_prior(code_size) if self.prior is None else self.prior

    def p_enc(self, batch: Batch) -> CodeDistribution:
        """Return q(h | x) of the rows of a batch, without random numbers in the encoder."""
        return self.distribution(self.preactivation(self.visible(batch), batch.mask, None, batch.condition))

    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return n_draws samples of the code of each row; without a generator, its mean."""
        preactivation = self.preactivation(self.visible(batch), batch.mask, generator, batch.condition)
        q = self.distribution(preactivation, progress)
        kl = None if self.prior is not None else q.divergence()
        if generator is None:
            return Code(q.mean, preactivation, kl=kl)
        mean = q.mean
        code = self.draw(preactivation, q.noise(mean.expand(self.n_draws, *mean.shape), generator), progress)
        return replace(code, kl=kl)

    def draw(
        self,
        preactivation: Float[Tensor, "batch parameters"],
        noise: Float[Tensor, "n _ code_size"],
        progress: float = 1.0,
    ) -> Code:
        """Return the codes of given random numbers (`CodeDistribution.draw`), with log q and log p."""
        q = self.distribution(preactivation, progress)
        code = q.draw(noise)
        if q.is_relaxed:
            return Code(code, preactivation)
        log_prior = self.code_prior(code.shape[-1]).log_prob(code)
        return Code(code, preactivation, (q.constant() if self.path_derivative else q).log_prob(code), log_prior)

    def without_annealing(self) -> None:
        """Relax samples as at the end of training from now on; does nothing by default."""


class DiagonalGaussian(DistributionInference):
    r"""Gaussian q(h | x) with a diagonal covariance, sampled by reparameterisation, and a prior p(h).

        [mu, a] = encoder(x),   v = 10 tanh(a / 10),   s = exp(v / 2)
        h_i = mu + s e_i,   e_i ~ N(0, I),   i = 1..k
        log q(h_i | x) = log N(h_i; mu, diag(s^2)),   log p(h_i) of the prior, N(0, I) by default
        KL_j = 1/2 ( mu_j^2 + s_j^2 - v_j - 1 )   for the prior N(0, I)

    The soft bound on the log-variance v keeps s between 0.0067 and 148. In a `Reconstruction` the mean over samples
    estimates the evidence lower bound, and reduction="logmeanexp" gives the importance-weighted bound.

    Shapes: x (batch, columns); encoder output (batch, 2 * code_size); h (draws, batch, code_size); log q and log p
    (draws, batch). Without a generator h = mu, (batch, code_size), and log q and log p are None. Arguments and errors
    are those of `DistributionInference`.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 20.10.3; Kingma & Welling, Auto-encoding variational
    Bayes (2014), section 2.4 and appendix B; Burda, Grosse & Salakhutdinov, Importance weighted autoencoders (2016);
    Roeder, Wu & Duvenaud, Sticking the landing (2017), for the path derivative.

    Example:
        >>> from isthmus.parts.networks import MLP
        >>> generator, batch = torch.Generator().manual_seed(0), Batch(torch.zeros(2, 4))
        >>> inference = DiagonalGaussian(MLP((4, 6), generator=generator), n_draws=5)
        >>> code = inference(batch, None, generator)
        >>> code.code.shape, code.log_q.shape, code.log_prior.shape, code.kl.shape
        (torch.Size([5, 2, 3]), torch.Size([5, 2]), torch.Size([5, 2]), torch.Size([2, 3]))
        >>> inference(batch, None).code.shape
        torch.Size([2, 3])
    """

    def distribution(self, preactivation: Float[Tensor, "batch parameters"], progress: float = 1.0) -> DiagonalNormal:
        """Return N(mu, diag(exp v))."""
        return DiagonalNormal(*self.moments(preactivation))

    def standard_prior(self, code_size: int) -> CodePrior:
        """Return N(0, I)."""
        return StandardNormal(code_size)

    def moments(self, preactivation: Float[Tensor, "batch parameters"]) -> GaussianMoments:
        """Return mu and v of q(h | x), in fp32 or better."""
        mean, free_log_variance = at_least_fp32(preactivation).chunk(2, -1)
        return mean, soft_clip(free_log_variance, LOG_VARIANCE_BOUND)

    def posterior(self, rows: Float[Tensor, "batch inputs"]) -> GaussianMoments:
        """Return mu and v of q(h | x) of complete rows, each followed by its condition.

        Running moments of normalisation stay as they are.
        """
        n_columns = rows.shape[-1] - self.n_conditions
        x, condition = rows[..., :n_columns], rows[..., n_columns:]
        with collected():
            return self.moments(self.preactivation(x, None, condition=condition))


class FullGaussian(DistributionInference):
    r"""Gaussian q(h | x) with a full covariance, for small codes.

        [mu, a, b] = encoder(x),   v = 10 tanh(a / 10),   L_jj = exp(v_j / 2),   L_jk = b_jk for k < j
        h_i = mu + L e_i,   e_i ~ N(0, I),   i = 1..k
        KL_j = 1/2 ( mu_j^2 + sum_{k <= j} L_jk^2 - v_j - 1 )   of unit j given the units before it

    Units of a code that explain the same columns depend on each other given the row; a diagonal covariance cannot
    express this. The divergence is that of the code as a sum over units, by the chain rule.

    Shapes: x (batch, columns); encoder output (batch, 2 d + d (d - 1) / 2) for a code of d units, mu, then a, then the
    rows of b; h (draws, batch, d). Arguments and errors are those of `DistributionInference`.

    Source: Kingma & Welling, An introduction to variational autoencoders (2019), section 2.5.1.

    Example:
        >>> from isthmus.parts.networks import MLP
        >>> generator, batch = torch.Generator().manual_seed(0), Batch(torch.zeros(2, 4))
        >>> inference = FullGaussian(MLP((4, FullGaussian.n_outputs(3)), generator=generator))
        >>> code = inference(batch, None, generator)
        >>> code.code.shape, code.log_q.shape, code.kl.shape
        (torch.Size([1, 2, 3]), torch.Size([1, 2]), torch.Size([2, 3]))
    """

    @staticmethod
    def n_outputs(code_size: int) -> int:
        """Return the number of the encoder's outputs for a code of d units, d + d (d + 1) / 2.

        Example:
            >>> FullGaussian.n_outputs(3)
            9
        """
        return code_size + code_size * (code_size + 1) // 2

    def distribution(self, preactivation: Float[Tensor, "batch parameters"], progress: float = 1.0) -> FullNormal:
        """Return N(mu, L L')."""
        parameters = at_least_fp32(preactivation)
        n = parameters.shape[-1]
        d = (math.isqrt(9 + 8 * n) - 3) // 2  # n = d (d + 3) / 2
        mean, free_log_variance, b = parameters.split((d, d, n - 2 * d), -1)
        row, column = torch.tril_indices(d, d, -1, device=b.device)
        below = b.new_zeros(*b.shape[:-1], d * d).index_copy(-1, d * row + column, b).unflatten(-1, (d, d))
        return FullNormal(mean, soft_clip(free_log_variance, LOG_VARIANCE_BOUND), below)

    def standard_prior(self, code_size: int) -> CodePrior:
        """Return N(0, I)."""
        return StandardNormal(code_size)
