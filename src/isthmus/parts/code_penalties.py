"""Penalties on the distribution of codes of all rows: its distance from the prior, and the dependence of its units.

The distribution is the aggregate posterior q(h) = 1/N sum_n q(h | x_n). The rows of a batch are samples of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.forward import ForwardPass
from isthmus.parts.layers import check_choice, check_count, check_positive
from isthmus.parts.likelihood_gaussians import LOG_2_PI
from isthmus.parts.penalties import Penalty, at_least_fp32
from isthmus.parts.priors import GaussianMoments
from isthmus.parts.sampling import randn_like
from isthmus.parts.stochastic_inference import DiagonalGaussian, DistributionInference

KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "imq": lambda distance: 1.0 / (1.0 + distance),
    "gaussian": lambda distance: torch.exp(-distance),
}
"""Kernels by name, as functions of the squared distance in units of their scale."""

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Scales of a kernel relative to the expected squared distance of two standard normal codes."""

UNITS_AT_ONCE = 8
"""Number of units whose densities at all pairs of rows are in memory together, without a gradient."""

SAMPLE_SEED = 0
"""Seed of the samples of the prior in a pass without a generator."""


class MMD(Penalty):
    r"""Maximum mean discrepancy of the codes of a batch, h_i ~ q(h), from samples of the prior, g_i ~ p(h).

        Omega = sum over i != j of (k(h_i, h_j) + k(g_i, g_j)) / (n (n - 1)) - 2 sum over i, j of k(h_i, g_j) / n^2

        imq        k(h, g) = sum over scales s of  s C / (s C + ||h - g||^2)
        gaussian   k(h, g) = sum over scales s of  exp(-||h - g||^2 / (s C)),       C = 2 code_size

    It is the unbiased estimate of the squared discrepancy: its expectation is 0 if q(h) = p(h), and single values can
    be negative. With weights w_i of the rows, which sum to 1, the mean over pairs of codes is
    sum over i != j of w_i w_j k(h_i, h_j) / (1 - sum_i w_i^2), without pairs of a row with itself.

    The prior is that of the inference; for maps it is N(0, I). A learned prior gets no gradient of
    this penalty. C is the expected squared distance of two samples of N(0, I). Each draw of the code has samples of its
    own, and the value is the mean over draws.

    Shapes: code (*draws, batch, code_size) -> (), a function of the batch.

    Args:
        weight: lambda / 2 for the lambda of Tolstikhin et al., who add it to the mean of ||x - r||^2.
        kernel: a name in `KERNELS`.
        scales: s, the scales whose kernels are summed.

    Raises:
        InputError: an unknown kernel; no scale, or one that is not a number above 0.

    Source: Gretton et al., A kernel two-sample test (2012), eq. 3; Tolstikhin et al., Wasserstein auto-encoders
    (2018), algorithm 2; Zhao, Song & Ermon, InfoVAE (2019), section 3.3.

    Example:
        >>> h, g = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [1.0]])
        >>> MMD(scales=(1.0,)).of(h, g)  # 1/3 + 1 - 2 * 2/3
        tensor(0.)
    """

    def __init__(self, weight: float = 1.0, *, kernel: str = "imq", scales: Sequence[float] = SCALES) -> None:
        super().__init__(weight)
        check_choice("MMD: kernel", kernel, tuple(KERNELS))
        if not isinstance(scales, Sequence) or isinstance(scales, str) or not scales:
            raise InputError(f"MMD: scales={scales!r}: give at least one number above 0, in a list")
        self.kernel, self.scales = kernel, tuple(check_positive("MMD: scale", scale) for scale in scales)

    def of(
        self,
        code: Float[Tensor, "*draws batch code_size"],
        sampled: Float[Tensor, "*draws n code_size"],
        weight: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return Omega of codes and samples of the prior; None gives the rows equal weights."""
        code, sampled = at_least_fp32(code), at_least_fp32(sampled)
        w = code.new_ones(code.shape[-2]) if weight is None else weight.to(code.dtype)
        w, equal = w / w.sum(), code.new_full(sampled.shape[-2:-1], 1.0 / sampled.shape[-2])
        within = self._mean_over_pairs(code, w) + self._mean_over_pairs(sampled, equal)
        between = (self._kernel(code, sampled) * torch.outer(w, equal)).sum((-2, -1))
        return (within - 2.0 * between).mean()

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, ""]:
        """Return Omega of the codes of the batch; without a generator the samples are the same at every call."""
        generator = torch.Generator().manual_seed(SAMPLE_SEED) if generator is None else generator
        code, inference = at_least_fp32(output.code), coder.inference
        if isinstance(inference, DistributionInference):
            n_codes, prior = code.shape[:-1].numel(), inference.code_prior(code.shape[-1])
            sampled = prior.sample(n_codes, generator).to(code).reshape(code.shape)
        else:
            sampled = randn_like(code.detach(), generator)
        return self.of(code, sampled, output.batch.weight)

    def _mean_over_pairs(
        self, code: Float[Tensor, "*draws n code_size"], w: Float[Tensor, " n"]
    ) -> Float[Tensor, "*draws"]:
        """Return the mean of the kernel over pairs of different codes, by the products of their weights; 0 for one."""
        pairs = torch.outer(w, w).fill_diagonal_(0.0)
        total = pairs.sum().clamp_min(torch.finfo(w.dtype).tiny)
        return (self._kernel(code, code) * pairs).sum((-2, -1)) / total

    def _kernel(
        self, a: Float[Tensor, "*draws n code_size"], b: Float[Tensor, "*draws m code_size"]
    ) -> Float[Tensor, "*draws n m"]:
        """Return the kernel of all pairs."""
        # Products of matrices would be rounded to bf16 or tf32.
        distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * a.shape[-1])
        return torch.stack([KERNELS[self.kernel](distance / scale) for scale in self.scales]).sum(0)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"weight={self.weight:g}, kernel={self.kernel}, scales={self.scales}"


class TotalCorrelation(Penalty):
    r"""Total correlation of the code, KL(q(h) || prod_j q(h_j)) of q(h) = 1/N sum_n q(h | x_n), from a batch of M rows.

        Omega = 1/M sum_i ( log q(h_i) - sum_j log q(h_ij) ),   h_i ~ q(h | x_i) = N(mu_i, diag(s_i^2))
        q(h_i) ~= 1/N q(h_i | x_i) + (N - 1) / N  1/(M - 1) sum over m != i of q(h_i | x_m),   and so for each unit

    It is 0 if and only if the units are independent, and invariant to invertible maps of single units. The estimate
    of q(h_i) is unbiased; that of its logarithm is too small, so that Omega has a bias, which falls with M.

    The weights 1/N and (N - 1) / (N (M - 1)) are the mean over orders of the rows of the weights of minibatch
    stratified sampling. Minibatch-weighted sampling has 1/(NM) for all rows: it adds about (code_size - 1) log N to
    Omega, and row i counts as 1/M of the data instead of 1/N. Rows count by their weights, and N is their sum.

    Shapes: code (*draws, batch, code_size) -> (), a function of the batch. Memory of a step grows with
    draws * batch^2 * code_size.

    Args:
        weight: beta - 1 for the beta of Chen et al.; with the divergence at weight 1 this is their criterion.

    Attributes:
        n_rows: N; 0 before `prepare`, and then the batch is all rows.

    Raises:
        InputError: (in `forward`) inference without mean and variance of a Gaussian distribution.

    Source: Chen et al., Isolating sources of disentanglement in variational autoencoders (2018), section 4 and appendix
    C; Watanabe (1960), Information theoretical analysis of multivariate correlation.

    Example:
        >>> penalty, h = TotalCorrelation(), torch.tensor([[-3.0, -3.0], [3.0, 3.0]])
        >>> penalty.of(h, (h, torch.full_like(h, -4.0)))  # two rows far apart: log 2
        tensor(0.6931)
    """

    counts_rows: ClassVar[bool] = True
    n_rows: Float[Tensor, ""]

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.register_buffer("n_rows", torch.zeros(()))

    @torch.no_grad()
    def prepare(self, n_rows: float) -> None:
        """Set N, the number of training rows by their weights."""
        self.n_rows.fill_(n_rows)

    def of(
        self,
        code: Float[Tensor, "*draws batch code_size"],
        moments: GaussianMoments,
        weight: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return Omega of codes of rows with given means and log-variances; None gives the rows equal weights."""
        w = moments[0].new_ones(code.shape[-2]) if weight is None else weight.to(moments[0].dtype)
        log_mixture = self._log_mixture(w)
        joint, marginals = log_mixture, code.new_zeros(())
        for part in zip(*(values.split(UNITS_AT_ONCE, -1) for values in (code, *moments)), strict=True):
            log_q = _log_densities(*part)
            joint = joint + log_q.sum(-1)
            marginals = marginals + torch.logsumexp(log_mixture.unsqueeze(-1) + log_q, -2).sum(-1)
        dependence = torch.logsumexp(joint, -1) - marginals
        return ((dependence * w).sum(-1) / w.sum()).mean()

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, ""]:
        """Return Omega of the codes of the batch."""
        inference = coder.inference
        if not isinstance(inference, DiagonalGaussian):
            raise InputError(
                "TotalCorrelation needs mean and variance of the code of a row, but the inference is "
                f"{type(inference).__name__}; take VariationalAutoencoder (vae)"
            )
        return self.of(at_least_fp32(output.code), inference.moments(output.preactivation), output.batch.weight)

    def _log_mixture(self, w: Float[Tensor, " batch"]) -> Float[Tensor, "batch batch"]:
        """Return the logarithm of the weight of row m in the estimate of q(h_i), of shape (i, m)."""
        total = w.sum()
        own = w / torch.maximum(self.n_rows.to(w), total)
        others = (1.0 - own) / (total - w).clamp_min(torch.finfo(w.dtype).tiny)
        return torch.diagonal_scatter(torch.outer(others, w), own).log()


def _log_densities(
    code: Float[Tensor, "*draws batch units"],
    mean: Float[Tensor, "batch units"],
    log_variance: Float[Tensor, "batch units"],
) -> Float[Tensor, "*draws batch batch units"]:
    """Return log q(h_ij | x_m) of unit j, of shape (*draws, i, m, j)."""
    squares = (code.unsqueeze(-2) - mean).square() * torch.exp(-log_variance)
    return -0.5 * (squares + log_variance + LOG_2_PI)


class BitBalance(Penalty):
    r"""Distance of the rate of each bit from 1/2: a bit that is on for half of the rows holds most information.

        Omega = sum_j (2 r_j - 1)^2,   r_j = the mean of h_j over the batch, by the weights of the rows

    Shapes: code in [0, 1], (*draws, batch, code_size) -> (), a function of the batch.

    Args:
        weight: factor of Omega, which is 1 for a bit that never changes.

    Source: Weiss, Torralba & Fergus, Spectral hashing (2008), section 2; Do, Doan & Cheung, Binary deep neural network
    (2016), for the penalty.

    Example:
        >>> BitBalance().of(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
        tensor(1.)
    """

    def of(
        self, code: Float[Tensor, "*draws batch code_size"], weight: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, ""]:
        """Return Omega of the codes of a batch; None gives the rows equal weights."""
        rate, _ = _weighted_rows(code, weight)
        return (2.0 * rate - 1.0).square().sum()

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, ""]:
        """Return Omega of the codes of the batch."""
        return self.of(output.code, output.batch.weight)


class Decorrelation(Penalty):
    r"""Squared covariances of different bits, relative to the variance 1/4 of a balanced bit.

        Omega = sum over i < j of (4 C_ij)^2,   C = the covariance of the code in the batch, by the weights of the rows

    For balanced bits 4 C_ij is their correlation. Covariances of a batch of M rows differ from 0 by chance, so that
    independent bits have an Omega of about the number of pairs / M.

    Shapes: code in [0, 1], (*draws, batch, code_size) -> (), a function of the batch.

    Args:
        weight: factor of Omega, which is 1 for a bit that copies another one.

    Source: Weiss, Torralba & Fergus, Spectral hashing (2008), section 2; Cogswell et al., Reducing overfitting by
    decorrelating representations (2016), for the penalty.

    Example:
        >>> round(Decorrelation().of(torch.tensor([[0.0, 1.0], [1.0, 0.0]])).item(), 3)
        1.0
    """

    def of(
        self, code: Float[Tensor, "*draws batch code_size"], weight: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, ""]:
        """Return Omega of the codes of a batch; None gives the rows equal weights."""
        _, centred = _weighted_rows(code, weight)
        covariance = 4.0 * centred.mT @ centred
        return (covariance.square().sum() - covariance.diagonal().square().sum()) / 2.0

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, ""]:
        """Return Omega of the codes of the batch."""
        return self.of(output.code, output.batch.weight)


def _weighted_rows(
    code: Float[Tensor, "*draws batch code_size"], weight: Float[Tensor, " batch"] | None
) -> tuple[Float[Tensor, " code_size"], Float[Tensor, "rows code_size"]]:
    """Return the mean of the codes over draws and rows, and sqrt(w_i) (h_i - mean), whose products are covariances."""
    n_draws, flat = code.shape[:-2].numel(), at_least_fp32(code).flatten(0, -2)
    w = flat.new_ones(code.shape[-2]) if weight is None else weight.to(flat.dtype)
    w = (w / (w.sum() * n_draws)).repeat(n_draws).unsqueeze(-1)
    mean = (w * flat).sum(0)
    return mean, w.sqrt() * (flat - mean)


class NeighbourReconstruction(Penalty):
    r"""Reconstruction of a neighbour from the code of a row: rows that are near each other get similar codes.

        Omega = -log p_dec(x' | h),   x' = one of the k nearest rows of x

    The rows carry their neighbours (`Batch.neighbour`); `isthmus.learning.neighbours` finds them before training.
    Rows without neighbours have Omega = 0.

    Shapes: forward pass of (*draws, batch) rows -> (*draws, batch), a sum over rows.

    Args:
        weight: of the neighbour relative to the row itself.
        n_neighbours: k.

    Raises:
        InputError: k is not a whole number of at least 1.

    Source: Hansen et al., Unsupervised semantic hashing with pairwise reconstruction (2020), section 3; Chaidaroon,
    Ebesu & Fang, Deep semantic text hashing with weak supervision (2018).

    Example:
        >>> NeighbourReconstruction(n_neighbours=5)
        NeighbourReconstruction(weight=1, k=5)
    """

    def __init__(self, weight: float = 1.0, *, n_neighbours: int = 50) -> None:
        super().__init__(weight)
        check_count("Neighbours: k", n_neighbours)
        self.n_neighbours = int(n_neighbours)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each row."""
        neighbour = output.batch.neighbour
        if neighbour is None:
            return output.code.new_zeros(output.code.shape[:-1])
        return coder.likelihood.nll(output.parameters, neighbour.desired_output, neighbour.observed)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"weight={self.weight:g}, k={self.n_neighbours}"
