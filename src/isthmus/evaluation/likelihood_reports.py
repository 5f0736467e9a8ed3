"""Report of the log-likelihood of a fitted model: which quantity it is, how exact, and comparable with what."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.likelihood import (
    STANDARD_ERRORS,
    LogWeights,
    RowEstimates,
    bits_per_dim,
    has_densities,
    log_weights,
)
from isthmus.learning.precision import resolve_device
from isthmus.learning.rows import ROWS_AT_ONCE, Rows
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.layers import check_count
from isthmus.parts.likelihoods import Bernoulli

DEFAULT_DRAWS = 100
"""Number of samples per row for importance sampling."""

Kind = Literal["exact", "estimate", "bound", "unnormalised", "reconstruction"]

IMPORTANCE, ANNEALING = "importance sampling", "annealed importance sampling"
SCORES, RECONSTRUCTION = "the density of the model", "reconstruction"


@runtime_checkable
class Density(Protocol):
    """The interface of a fitted estimator that is a density."""

    score_kind_: str

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Compute log p(x) of each row; `score_kind_` names the kind of the score."""


@runtime_checkable
class PartitionModel(Protocol):
    """The interface of a fitted estimator that can estimate its log Z."""

    def estimate_log_partition(self) -> Any:
        """Estimate log Z by annealed importance sampling, and keep it for `score_samples`."""


@dataclass(frozen=True)
class LikelihoodReport:
    """The log-likelihood of a model on rows, with what it may be compared with.

    Attributes:
        kind: "exact", "estimate" (log Z is estimated), "bound" (a lower bound on log p(x), in expectation),
            "unnormalised" (log p(x) + log Z), or "reconstruction" (log p(x | h) of one code, not a likelihood of x).
        method: "importance sampling", "annealed importance sampling", "the density of the model" or "reconstruction".
        mean: the mean over rows, nats per row, in model space.
        standard_error: of the mean as that of all rows of the population, and of log Z where it was estimated here,
            nats; infinite for one row.
        n_rows: the number of rows.
        n_columns: the mean number of observed columns per row.
        likelihood: the name of p_dec.
        rows_are_binary: True if every observed entry is 0 or 1.
        n_draws: samples of the code per row, or chains for log Z; None without sampling.
        draw_error: the part of `standard_error` that is due to these samples; None without sampling.
        mean_effective_sample_size, smallest_effective_sample_size: over rows; both that of the chains for log Z.
        bias: the estimate of E[mean] - log p(x) for importance sampling, nats, below 0.
        elbo: the mean of the evidence lower bound from the same samples, nats.

    Example:
        >>> report = LikelihoodReport("exact", SCORES, -80.0, 0.5, 1000, 784.0, "bernoulli", True)
        >>> [round(end, 2) for end in report.interval], round(report.bits_per_dim, 3)
        ([-80.98, -79.02], 0.147)
        >>> report.comparable
        'Compare it with log p(x) of other models for the same rows, binarised in the same way.'
    """

    kind: Kind
    method: str
    mean: float
    standard_error: float
    n_rows: int
    n_columns: float
    likelihood: str
    rows_are_binary: bool
    n_draws: int | None = None
    draw_error: float | None = None
    mean_effective_sample_size: float | None = None
    smallest_effective_sample_size: float | None = None
    bias: float | None = None
    elbo: float | None = None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the mean, mean -+ 1.96 `standard_error`; it does not contain the bias."""
        return self.mean - STANDARD_ERRORS * self.standard_error, self.mean + STANDARD_ERRORS * self.standard_error

    @property
    def bits_per_dim(self) -> float | None:
        """-mean / (n_columns log 2); None where the mean is not that of log p(x), or no entry was observed."""
        if self.kind in ("unnormalised", "reconstruction") or self.n_columns < 1:
            return None
        return bits_per_dim(self.mean, self.n_columns)

    @property
    def comparable(self) -> str:
        """Sentences about the figures with which the mean may be compared."""
        if self.kind == "reconstruction":
            return (
                "This is log p(x | h) of the code of each row, not a likelihood of x: compare it with that of models "
                "of the same likelihood and code size for the same rows."
            )
        if self.kind == "unnormalised":
            return "log Z is unknown: compare rows under this model, and not models."
        if self.likelihood == Bernoulli.name and not self.rows_are_binary:
            return (
                "The rows have values between 0 and 1, of which a Bernoulli distribution gives no log-probability: "
                "compare it with figures of the same likelihood for the same rows, or binarise the rows."
            )
        same = "binarised in the same way" if self.likelihood == Bernoulli.name else "scaled in the same way"
        return f"Compare it with log p(x) of other models for the same rows, {same}{self._reservation}."

    @property
    def _reservation(self) -> str:
        """The reservation about a comparison, from the kind of the figure."""
        if self.kind == "estimate":
            return "; log Z is an estimate, which tends to be too low, and then log p(x) is too high"
        if self.kind == "bound" and self.method == IMPORTANCE:
            return (
                "; it is a lower bound, so compare it with bounds by the same number of samples, or with exact values"
            )
        if self.kind == "bound":
            return "; it is a lower bound, up to the error of log Z where this is an estimate"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes, `interval`, `bits_per_dim` and `comparable`; numbers may be infinite."""
        derived = {"interval": list(self.interval), "bits_per_dim": self.bits_per_dim, "comparable": self.comparable}
        return asdict(self) | derived


def likelihood_of(
    model: Any, X: Any, n_draws: int = DEFAULT_DRAWS, *, seed: int = 0, ais: bool = False
) -> LikelihoodReport:
    """Report the log-likelihood of the rows `X` under a fitted model: the best quantity that the model supports.

    - A model whose inference gives log q and log p of its samples: a lower bound by importance sampling.
    - Another density: the mean of `score_samples`, with its kind. With `ais=True` an unknown log Z is estimated first,
      if the model can; the model keeps this estimate.
    - Other models: log p(x | h) of the code of each row, which is not a likelihood of x.

    All values are in model space, over the observed entries.

    Args:
        model: a fitted estimator.
        X: rows in any form that the model accepts.
        n_draws: number of samples of the code per row, for importance sampling.
        seed: of the samples, and of the chains for log Z.
        ais: estimate log Z where it is unknown.

    Raises:
        InputError: there are no rows; n_draws is not a whole number of at least 1; log Z cannot be estimated.

    Source: Wu, Burda, Salakhutdinov & Grosse, On the quantitative analysis of decoder-based generative models (2017);
    Theis, van den Oord & Bethge, A note on the evaluation of generative models (2016).

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(100, 4))
        >>> report = likelihood_of(LinearAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X), X)
        >>> report.kind, report.n_rows
        ('exact', 100)
    """
    check_count("n_draws", n_draws)
    survey, rows = _Survey(), model._rows(X)
    if len(rows) == 0:
        raise InputError("there are no rows to compute a likelihood of; pass at least one")
    if has_densities(model.coder_):
        return _by_importance(model, rows, survey, n_draws, seed)
    for _ in _surveyed(rows, survey):
        pass
    if isinstance(model, Density):
        return _by_score(model, X, survey, seed, ais)
    log_prob = -np.concatenate([output.nll.double().cpu().numpy() for output in model.read(X)])
    return _report("reconstruction", RECONSTRUCTION, log_prob, survey, model)


def supports_likelihood(model: Any) -> bool:
    """Return True if `likelihood_of` reports a likelihood of x for the model, and not the reconstruction alone."""
    return isinstance(model, Density) or has_densities(getattr(model, "coder_", None))


@dataclass
class _Survey:
    """Facts about the rows that were read."""

    n_rows: int = 0
    n_observed: int = 0
    is_binary: bool = True

    def add(self, batch: Batch) -> None:
        """Add the rows of a batch."""
        x = batch.desired_output
        mask = batch.observed
        observed = torch.ones_like(x, dtype=torch.bool) if mask is None else mask != 0
        self.n_rows, self.n_observed = self.n_rows + len(x), self.n_observed + int(observed.sum())
        self.is_binary = self.is_binary and bool(((x == 0) | (x == 1) | ~observed).all())


def _surveyed(rows: Rows, survey: _Survey) -> Iterator[Batch]:
    """Yield all rows in order, in blocks, and add each block to the survey."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        batch = rows.batch(torch.arange(start, min(start + ROWS_AT_ONCE, len(rows))))
        survey.add(batch)
        yield batch


def _by_importance(model: Any, rows: Rows, survey: _Survey, n_draws: int, seed: int) -> LikelihoodReport:
    """Report the bound by importance sampling."""
    coder: Coder = model.coder_
    device = resolve_device(getattr(model, "device", "auto"))
    coder.to(device)
    sums, start = [], 0
    for batch in _surveyed(rows, survey):
        numbers = torch.arange(start, start + len(batch.x))
        sums.append(log_weights(coder, batch.to(device), n_draws, seed=seed, rows=numbers))
        start += len(numbers)
    joined = LogWeights.joined(sums)
    estimate = joined.importance()
    return _report(
        "bound", IMPORTANCE, estimate.log_prob.numpy(), survey, model,
        n_draws=int(n_draws), draw_error=estimate.mean_draw_error, bias=estimate.mean_bias, elbo=joined.elbo().mean,
        mean_effective_sample_size=estimate.mean_effective_sample_size,
        smallest_effective_sample_size=estimate.smallest_effective_sample_size,
    )  # fmt: skip


def _by_score(model: Any, X: Any, survey: _Survey, seed: int, ais: bool) -> LikelihoodReport:
    """Report the mean of `score_samples`."""
    sampled: dict[str, Any] = {}
    if ais and model.score_kind_ == "unnormalised":
        if not isinstance(model, PartitionModel):
            raise InputError(f"{type(model).__name__} cannot estimate log Z; use ais=False")
        found: Any = model.estimate_log_partition(random_state=seed)  # type: ignore[call-arg]
        size = found.effective_sample_size
        sampled = {
            "n_draws": len(found.log_weights), "draw_error": found.standard_error,
            "mean_effective_sample_size": size, "smallest_effective_sample_size": size,
        }  # fmt: skip
    log_prob = np.asarray(model.score_samples(X), dtype=np.float64)
    return _report(model.score_kind_, ANNEALING if sampled else SCORES, log_prob, survey, model, **sampled)


def _report(
    kind: Kind, method: str, log_prob: np.ndarray, survey: _Survey, model: Any, **sampled: Any
) -> LikelihoodReport:
    """Return the report of the values of the rows; an error of log Z is common to all rows."""
    values: Tensor = torch.from_numpy(log_prob)
    estimates = RowEstimates(values, torch.zeros_like(values), 1)
    common = sampled["draw_error"] if method == ANNEALING else 0.0
    return LikelihoodReport(
        kind, method, estimates.mean, math.hypot(estimates.mean_error, common), survey.n_rows,
        survey.n_observed / survey.n_rows, str(model.coder_.likelihood.name), survey.is_binary, **sampled,
    )  # fmt: skip
