"""Log-likelihood of models whose inference is a distribution: importance sampling and the evidence lower bound."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, Inference
from isthmus.parts.layers import check_count, is_count
from isthmus.parts.sampling import RowGenerators

MAX_ENTRIES = 2**18
"""Largest number of entries of a block of decoder outputs, unless the samples of one row are more."""

DRAWS_PER_CALL = 50
"""Number of samples per row that one call of the inference returns. The random numbers of a row depend on it."""

STANDARD_ERRORS = 1.96
"""Half the width of an interval of 95%, in standard errors."""


@dataclass(frozen=True)
class RowEstimates:
    """Estimates of log p(x), or of a bound on it, for the rows of a data set.

    Attributes:
        log_prob: the estimate of each row, (rows,), float64, nats.
        standard_error: the standard error of each estimate that is due to the samples of the code, (rows,), nats;
            infinite for one sample.
        n_draws: the number of samples of the code per row.

    Example:
        >>> estimates = RowEstimates(torch.tensor([-3.0, -5.0]), torch.tensor([0.3, 0.4]), 100)
        >>> estimates.mean, estimates.mean_error, round(estimates.mean_draw_error, 6)
        (-4.0, 1.0, 0.25)
        >>> [round(end, 2) for end in estimates.interval]
        [-5.96, -2.04]
    """

    log_prob: Float[Tensor, " rows"]
    standard_error: Float[Tensor, " rows"]
    n_draws: int

    @property
    def mean(self) -> float:
        """The mean over rows, nats."""
        return float(self.log_prob.double().mean())

    @property
    def mean_error(self) -> float:
        """The standard error of the mean as that of all rows of the population, nats; infinite for one row.

        It is sd / sqrt(rows), and contains the errors of the rows, which are independent.
        """
        n_rows = len(self.log_prob)
        return float(self.log_prob.double().std()) / math.sqrt(n_rows) if n_rows > 1 else math.inf

    @property
    def mean_draw_error(self) -> float:
        """The part of the error of the mean that is due to the samples of the code, nats."""
        return float(self.standard_error.double().square().sum().sqrt()) / len(self.standard_error)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the mean over rows: the mean -+ 1.96 `mean_error`."""
        return self.mean - STANDARD_ERRORS * self.mean_error, self.mean + STANDARD_ERRORS * self.mean_error


@dataclass(frozen=True)
class LikelihoodEstimate(RowEstimates):
    """Estimates of log p(x) from importance weights w; the expectation of each lies below log p(x).

    If the effective sample size of a row is near 1, one weight dominates its sum, larger ones may not have been sampled
    yet, and the standard error and the bias are underestimated: they are at most 1 and 1/2 nat for any weights.

    Attributes:
        effective_sample_size: (sum w)^2 / sum w^2 of each row, (rows,), between 1 and n_draws.
    """

    effective_sample_size: Float[Tensor, " rows"]

    @property
    def bias(self) -> Float[Tensor, " rows"]:
        """The estimate of E[estimate] - log p(x), -var(w) / (2 n mean(w)^2), nats, by the delta method."""
        return -0.5 * self.standard_error.square()

    @property
    def mean_bias(self) -> float:
        """The mean of `bias` over rows, nats."""
        return float(self.bias.double().mean())

    @property
    def mean_effective_sample_size(self) -> float:
        """The mean effective sample size over rows."""
        return float(self.effective_sample_size.double().mean())

    @property
    def smallest_effective_sample_size(self) -> float:
        """The smallest effective sample size of a row."""
        return float(self.effective_sample_size.min())


def importance_log_prob(
    coder: Coder,
    batch: Batch,
    n_draws: int,
    *,
    seed: int = 0,
    rows: Int[Tensor, " batch"] | None = None,
    draws_at_once: int | None = None,
) -> LikelihoodEstimate:
    r"""Estimate log p(x) of each row by importance sampling, with q(h | x) as the proposal.

        log p(x) ~ log 1/n sum_i w_i,   w_i = p(x | h_i) p(h_i) / q(h_i | x),   h_i ~ q(h | x)
        standard error: sd(w) / (mean(w) sqrt(n));   bias: about -var(w) / (2 n mean(w)^2)

    Both are the delta method for the logarithm of a mean. The estimate is a lower bound in expectation (Jensen), which
    rises to log p(x) with n: the importance-weighted bound of n samples. Missing entries (mask 0) take no part: p(x) is
    that of the observed entries, in the user's columns after scaling (model space).

    The sums run over blocks of samples and rows. A block of decoder outputs has at most `MAX_ENTRIES` entries, or those
    of `draws_at_once` samples of one row, for any n. The random numbers of a row depend on the seed, its number and the
    number of the sample only: neither on the other rows of the batch, nor on n, nor on the blocks.

    Shapes: x (batch, columns); h (n, batch, code_size); results (batch,), float64.

    Args:
        coder: a coder whose inference returns log q and log p of its samples and has the attribute `n_draws`; it is
            used in evaluation mode.
        batch: rows in model space, on the device of the coder.
        n_draws: n, the number of samples per row.
        seed: of the random numbers, a whole number of at least 0.
        rows: the numbers of the rows in their data set; None is `batch.rows`, or 0, 1, ... without these.
        draws_at_once: the number of samples in a block; by default, as many as `MAX_ENTRIES` allows, at most 50.

    Raises:
        InputError: a number is not a whole number in its range; the inference is not a distribution, or samples by
            other functions than those of `isthmus.parts.sampling`.

    Source: Rezende, Mohamed & Wierstra, Stochastic backpropagation (2014), appendix E; Burda, Grosse & Salakhutdinov,
    Importance weighted autoencoders (2016), section 3; Deep Learning, section 20.10.3.

    Example:
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> from isthmus.parts.networks import MLP
        >>> from isthmus.parts.stochastic_inference import DiagonalGaussian
        >>> generator = torch.Generator().manual_seed(0)
        >>> encoder, decoder = MLP((4, 6), generator=generator), MLP((3, 4), generator=generator)
        >>> coder = Coder(DiagonalGaussian(encoder), decoder, Gaussian(4))
        >>> estimate = importance_log_prob(coder, Batch(torch.ones(2, 4)), 500)
        >>> estimate.log_prob.shape, bool((estimate.effective_sample_size > 10).all())
        (torch.Size([2]), True)
        >>> bool((elbo(coder, Batch(torch.ones(2, 4)), 500).log_prob < estimate.log_prob).all())
        True
    """
    return log_weights(coder, batch, n_draws, seed=seed, rows=rows, draws_at_once=draws_at_once).importance()


def elbo(
    coder: Coder,
    batch: Batch,
    n_draws: int,
    *,
    seed: int = 0,
    rows: Int[Tensor, " batch"] | None = None,
    draws_at_once: int | None = None,
) -> RowEstimates:
    """Estimate the evidence lower bound of each row, from the samples that `importance_log_prob` uses.

        L(x) = E_q[ log p(x | h) + log p(h) - log q(h | x) ] = log p(x) - KL( q(h | x) || p(h | x) )
             ~ 1/n sum_i log w_i,   h_i ~ q(h | x)

    The standard error is sd(log w) / sqrt(n); the estimate is unbiased for L(x). Shapes, arguments and errors are those
    of `importance_log_prob`.

    Source: Kingma & Welling, Auto-encoding variational Bayes (2014), section 2.2; Deep Learning, section 19.1.
    """
    return log_weights(coder, batch, n_draws, seed=seed, rows=rows, draws_at_once=draws_at_once).elbo()


def bits_per_dim(nats: float, n_columns: float, *, n_levels: int = 1) -> float:
    """Convert log p(x) of a row to bits per column.

        -log p(x) / (d log 2) + log2(levels)

    A probability needs no levels. A density of values that are whole numbers divided by `n_levels`, with uniform noise
    of that width added, is comparable with the probability of the whole numbers if it is multiplied by the width of a
    level in each column. A density without the noise can be arbitrarily large, and its bits mean nothing.

    Args:
        nats: log p(x), or its mean over rows.
        n_columns: d, the number of columns.
        n_levels: the number of values per unit of the columns: 256 for bytes that were divided by 256.

    Raises:
        InputError: the number of columns or levels is below 1.

    Source: Theis, van den Oord & Bethge, A note on the evaluation of generative models (2016), section 3.1.

    Example:
        >>> round(bits_per_dim(-784 * math.log(2), 784), 6), round(bits_per_dim(0.0, 3072, n_levels=256), 6)
        (1.0, 8.0)
    """
    check_count("n_levels", n_levels)
    if not n_columns >= 1:
        raise InputError(f"n_columns={n_columns!r}: it must be a number of at least 1")
    return -nats / (n_columns * math.log(2)) + math.log2(n_levels)


class LogWeights:
    """Running sums of importance weights w of each row, from log w in blocks of samples.

    Args:
        n_rows: the number of rows.
        device: of the sums, which are float64.

    Example:
        >>> sums = LogWeights(1)
        >>> sums.add(torch.tensor([[0.0], [math.log(3)]]))
        >>> sums.importance().log_prob.exp(), sums.importance().effective_sample_size
        (tensor([2.0000], dtype=torch.float64), tensor([1.6000], dtype=torch.float64))
    """

    def __init__(self, n_rows: int, device: torch.device | None = None) -> None:
        zero = torch.zeros(n_rows, dtype=torch.float64, device=device)
        self.n_draws, self.largest = 0, torch.full_like(zero, -torch.inf)
        # Sums of w / exp(largest) and its square, and of log w and its square.
        self.total, self.squares, self.log_total, self.log_squares = (zero.clone() for _ in range(4))

    @property
    def _reference(self) -> Tensor:
        """The largest log w so far; 0 for a row without a weight above 0."""
        return self.largest.masked_fill(self.largest == -torch.inf, 0.0)

    def add(self, log_w: Float[Tensor, "draws rows"]) -> None:
        """Add the weights of a block of samples."""
        log_w = log_w.double()
        before = self.largest
        self.n_draws, self.largest = self.n_draws + len(log_w), torch.maximum(before, log_w.amax(0))
        factor, w = torch.exp(before - self._reference), torch.exp(log_w - self._reference)
        self.total = self.total * factor + w.sum(0)
        self.squares = self.squares * factor.square() + w.square().sum(0)
        self.log_total, self.log_squares = self.log_total + log_w.sum(0), self.log_squares + log_w.square().sum(0)

    def importance(self) -> LikelihoodEstimate:
        """Return the estimate of log p(x)."""
        n = self.n_draws
        effective = torch.where(self.squares > 0, self.total.square() / self.squares, 0.0)
        # n var(w) / mean(w)^2 = n^2 / (n - 1) (n / effective - 1), with n - 1 in the variance.
        error = ((n / effective - 1).clamp(min=0) / (n - 1)).sqrt() if n > 1 else torch.full_like(effective, torch.inf)
        log_mean = self._reference + self.total.log() - math.log(n)
        return LikelihoodEstimate(log_mean.cpu(), error.cpu(), n, effective.cpu())

    def elbo(self) -> RowEstimates:
        """Return the estimate of the evidence lower bound."""
        n, mean = self.n_draws, self.log_total / self.n_draws
        if n == 1:
            return RowEstimates(mean.cpu(), torch.full_like(mean, torch.inf).cpu(), n)
        variance = (self.log_squares / n - mean.square()).clamp(min=0) * n / (n - 1)
        return RowEstimates(mean.cpu(), (variance / n).sqrt().cpu(), n)

    @classmethod
    def joined(cls, parts: list[LogWeights]) -> LogWeights:
        """Join the sums of several groups of rows, which have equally many samples."""
        made = cls(0)
        made.n_draws = parts[0].n_draws
        for name in ("largest", "total", "squares", "log_total", "log_squares"):
            setattr(made, name, torch.cat([getattr(part, name) for part in parts]))
        return made


@torch.no_grad()
def log_weights(
    coder: Coder,
    batch: Batch,
    n_draws: int,
    *,
    seed: int = 0,
    rows: Int[Tensor, " batch"] | None = None,
    draws_at_once: int | None = None,
) -> LogWeights:
    """Return the sums of importance weights from which `importance_log_prob` and `elbo` follow, in one pass.

    Arguments and errors are those of `importance_log_prob`.
    """
    check_count("n_draws", n_draws)
    if not is_count(seed, 0):
        raise InputError(f"seed={seed!r}: it must be a whole number of at least 0")
    numbers = _row_numbers(batch, rows)
    with _evaluation_mode(coder):
        width = max(coder.likelihood.n_parameters, coder.encode(_part(batch, 0, 1)).code.shape[-1])
        if draws_at_once is None:
            draws_at_once = min(DRAWS_PER_CALL, max(1, MAX_ENTRIES // width))
        check_count("draws_at_once", draws_at_once)
        n_rows = max(1, MAX_ENTRIES // (max(draws_at_once, DRAWS_PER_CALL) * width))
        found = []
        for start in range(0, len(numbers), n_rows):
            group, end = LogWeights(len(numbers[start : start + n_rows]), batch.x.device), start + n_rows
            part = _part(batch, start, end)
            for code, log_ratio in _blocks(_calls(coder, part, seed, numbers[start:end]), n_draws, draws_at_once):
                parameters = coder.decode(code, condition=part.condition)
                nll = coder.likelihood.nll(parameters, part.desired_output, part.observed)
                group.add(log_ratio - nll.double())
            found.append(group)
    return LogWeights.joined(found)


def has_densities(coder: Any) -> bool:
    """Return True if the inference of a coder gives log q and log p of samples of the code.

    Example:
        >>> from isthmus.parts.inference import EncoderMap
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> from isthmus.parts.networks import MLP
        >>> network = MLP((2, 2), generator=Generator().manual_seed(0))
        >>> has_densities(Coder(EncoderMap(network), network, Gaussian(2)))
        False
    """
    return isinstance(coder, Coder) and coder.inference.is_distribution


def _row_numbers(batch: Batch, rows: Int[Tensor, " batch"] | None) -> list[int]:
    """Return the number of each row.

    Raises:
        InputError: there are no rows, another number of them, or a number below 0.
    """
    n = len(batch.x)
    if n == 0:
        raise InputError("there are no rows to compute a likelihood of; pass at least one")
    given = batch.rows if rows is None else rows
    numbers = [int(number) for number in (range(n) if given is None else given)]
    if len(numbers) != n or min(numbers) < 0:
        raise InputError(f"rows: {len(numbers)} numbers for {n} rows; pass one number of at least 0 for each row")
    return numbers


def _part(batch: Batch, start: int, end: int) -> Batch:
    """Return the rows from `start` to `end - 1`."""
    parts: dict[str, Any] = {f.name: getattr(batch, f.name) for f in fields(batch)}
    parts = {name: None if part is None else part[start:end] for name, part in parts.items()}
    return Batch(**parts)


def _calls(coder: Coder, batch: Batch, seed: int, numbers: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield codes, (DRAWS_PER_CALL, rows, code_size), and log p(h) - log q(h | x) of them, without end."""
    inference = copy.copy(coder.inference)
    if not hasattr(inference, "n_draws"):
        raise InputError(_not_a_distribution(inference))
    cast(Any, inference).n_draws = DRAWS_PER_CALL
    seeds = [np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] for number in numbers]
    generators = RowGenerators([Generator().manual_seed(int(s)) for s in seeds])
    unused = generators.get_state()
    while True:
        found: Code = inference(batch, coder.decoder, generators)
        if found.log_q is None or found.log_prior is None:
            raise InputError(_not_a_distribution(inference))
        if not torch.equal(generators.get_state(), unused):
            raise InputError(
                f"{type(inference).__name__} samples by functions of torch; use randn_like or rand_like of "
                "isthmus.parts.sampling, which have random numbers for each row"
            )
        yield found.code, found.log_prior.double() - found.log_q.double()


def _blocks(calls: Iterator[tuple[Tensor, Tensor]], n_draws: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the first `n_draws` samples of the calls in blocks of `size`."""
    code, log_ratio = next(calls)
    for start in range(0, n_draws, size):
        n = min(size, n_draws - start)
        while len(code) < n:
            code, log_ratio = (torch.cat(pair) for pair in zip((code, log_ratio), next(calls), strict=True))
        yield code[:n], log_ratio[:n]
        code, log_ratio = code[n:], log_ratio[n:]


def _not_a_distribution(inference: Inference) -> str:
    return (
        f"{type(inference).__name__} is not a distribution with a prior: importance sampling needs log q and log p of "
        "n_draws samples of the code, as subclasses of DistributionInference give them"
    )


@contextmanager
def _evaluation_mode(coder: Coder) -> Iterator[None]:
    """Use the modules of a coder in evaluation mode, and restore the mode of each afterwards."""
    training = [module for module in coder.modules() if module.training]
    coder.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
