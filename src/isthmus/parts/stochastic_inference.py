"""Inference with random codes: noise before the code's activation, and a diagonal Gaussian."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.carried import collected
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, Decoder, EncoderMap, Inference
from isthmus.parts.layers import check_count, check_positive
from isthmus.parts.likelihood_base import soft_clip
from isthmus.parts.likelihood_gaussians import LOG_VARIANCE_BOUND
from isthmus.parts.penalties import at_least_fp32
from isthmus.parts.priors import CodePrior, GaussianMoments, gaussian_log_prob
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


class DiagonalGaussian(Inference):
    r"""Gaussian q(h | x) with a diagonal covariance, sampled by reparameterisation, and a prior p(h).

        [mu, a] = encoder(x),   v = 10 tanh(a / 10),   s = exp(v / 2)
        h_i = mu + s e_i,   e_i ~ N(0, I),   i = 1..k
        log q(h_i | x) = log N(h_i; mu, diag(s^2)),   log p(h_i) of the prior, N(0, I) by default
        KL_j = 1/2 ( mu_j^2 + s_j^2 - v_j - 1 )   for the prior N(0, I)

    The soft bound on the log-variance v keeps s between 0.0067 and 148. In a `Reconstruction` the mean over samples
    estimates the evidence lower bound, and reduction="logmeanexp" gives the importance-weighted bound.

    Shapes: x (batch, columns); encoder output (batch, 2 * code_size); h (draws, batch, code_size); log q and log p
    (draws, batch). Without a generator h = mu, (batch, code_size), and log q and log p are None.

    Args:
        encoder: x -> [mu, a].
        n_draws: k, the number of samples per row.
        sees_mask: as for `EncoderMap`.
        prior: p(h); None is the standard normal distribution.
        path_derivative: compute log q with constant mu and s, so that its gradient is that along h alone. The omitted
            term has expectation 0 for one draw; for several draws the objective has to weight the gradient
            (`isthmus.learning.variational`).
        n_conditions: width of the condition, the last inputs of encoder and decoder.

    Raises:
        InputError: n_draws is not a whole number of at least 1.

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

    is_distribution: ClassVar[bool] = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        n_draws: int = 1,
        sees_mask: bool = False,
        prior: CodePrior | None = None,
        path_derivative: bool = False,
        n_conditions: int = 0,
    ) -> None:
        super().__init__()
        check_count("n_draws", n_draws)
        self.n_conditions = n_conditions
        self.encoder, self.n_draws, self.sees_mask = encoder, int(n_draws), sees_mask
        self.prior, self.path_derivative = prior, path_derivative

    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return n_draws samples of the code of each row; without a generator, its mean."""
        preactivation = self.preactivation(self.visible(batch), batch.mask, generator, batch.condition)
        mean, log_variance = self.moments(preactivation)
        kl = None if self.prior is not None else standard_normal_kl(mean, log_variance)
        if generator is None:
            return Code(mean, preactivation, kl=kl)
        code = self.draw(preactivation, randn_like(mean.expand(self.n_draws, *mean.shape), generator))
        return replace(code, kl=kl)

    def draw(
        self,
        preactivation: Float[Tensor, "batch parameters"],
        e: Float[Tensor, "n _ code_size"],
    ) -> Code:
        """Return the codes mu + s e of given standard normal numbers; one number for all rows is broadcast."""
        mean, log_variance = moments = self.moments(preactivation)
        code = mean + torch.exp(0.5 * log_variance) * e
        constant = tuple(part.detach() for part in moments) if self.path_derivative else moments
        log_prior = gaussian_log_prob(code) if self.prior is None else self.prior.log_prob(code)
        return Code(code, preactivation, gaussian_log_prob(code, *constant), log_prior)

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


def standard_normal_kl(
    mean: Float[Tensor, "batch code_size"], log_variance: Float[Tensor, "batch code_size"]
) -> Float[Tensor, "batch code_size"]:
    """Return KL(N(m, exp v) || N(0, 1)) = 1/2 ( m^2 + exp v - v - 1 ) of each unit, nats.

    Example:
        >>> standard_normal_kl(torch.tensor([[1.0]]), torch.zeros(1, 1))
        tensor([[0.5000]])
    """
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0)
