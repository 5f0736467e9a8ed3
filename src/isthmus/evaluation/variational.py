"""Facts of a variational autoencoder, and the doctor's rules on them: collapse, an ignored code, variances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Int
from torch import Generator, Tensor

from isthmus.errors import pluralize
from isthmus.evaluation.facts import Finding, FitFacts, VariationalFacts
from isthmus.parts.code_distributions import CodeDistribution
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.likelihood_gaussians import LOG_VARIANCE_BOUND, GaussianLearned
from isthmus.parts.stochastic_inference import DistributionInference

COLLAPSED_NATS = 0.01
"""Divergence of a unit, nats averaged over rows, below which its posterior is the prior."""

IGNORED_NATS = 0.1
"""Nats a row by which the codes of other rows explain a row worse, below which the decoder ignores the code."""

FLOOR_MARGIN = 0.5
"""Distance of a learned log-variance from its lower bound, nats, within which it is at the bound."""

MAX_UNCOVERED_SIZE = 3
"""Largest code, in units, for which the prior is compared with the regions of posteriors: they cover no larger one."""

N_PRIOR_SAMPLES = 1000

UNCOVERED_FRACTION = 0.2
"""Fraction of the samples of the prior in no posterior's region above which a finding says so."""

REGION_99 = (6.635, 9.210, 11.345)
"""99% quantiles of the chi-squared distribution with 1, 2 and 3 degrees of freedom."""


@torch.no_grad()
def variational_facts(coder: Coder, batch: Batch) -> VariationalFacts | None:
    """Return the facts of a coder in evaluation mode on some rows; None if its inference is not a distribution."""
    inference = coder.inference
    if not isinstance(inference, DistributionInference) or len(batch.x) < 2:
        return None
    generator = Generator().manual_seed(0)
    q = inference.p_enc(batch)
    codes = q.sample(1, generator)[0]
    order = torch.randperm(len(codes), generator=generator).to(codes.device)
    own, other = (_mean_nll(coder, part, batch) for part in (codes, codes[order]))
    kl = q.divergence().mean(0).cpu().numpy() if inference.prior is None else None
    uncovered = _uncovered(inference, q, codes.shape[-1], generator)
    return VariationalFacts(kl, other - own, _at_floor(coder), uncovered, inference.parts_name)


def _mean_nll(coder: Coder, codes: Tensor, batch: Batch) -> float:
    parameters = coder.decode(codes, condition=batch.condition)
    return float(coder.likelihood.nll(parameters, batch.desired_output, batch.observed).mean())


def _at_floor(coder: Coder) -> Int[np.ndarray, " columns"]:
    """Return the numbers of the columns whose learned variance is at its bound, among the real columns of a table."""
    found = [
        np.flatnonzero(np.atleast_1d(part.log_variance.cpu().numpy()) < FLOOR_MARGIN - LOG_VARIANCE_BOUND)
        for part in coder.likelihood.modules()
        if isinstance(part, GaussianLearned)
    ]
    return np.concatenate(found) if found else np.empty(0, int)


def _uncovered(inference: DistributionInference, q: CodeDistribution, size: int, generator: Generator) -> float | None:
    """Return the fraction of the samples of the prior outside the 99% regions of all posteriors, if these have them."""
    if size > MAX_UNCOVERED_SIZE:
        return None
    samples = inference.code_prior(size).sample(N_PRIOR_SAMPLES, generator).to(q.mean)
    squares = q.squared_distance(samples[:, None])
    return None if squares is None else float((squares.amin(1) > REGION_99[size - 1]).float().mean())


def posterior_collapse(facts: FitFacts) -> Finding | None:
    """Detect units whose posterior is the prior, so that they hold nothing of the row."""
    found = facts.variational
    if found is None or found.kl is None:
        return None
    collapsed = np.flatnonzero(found.kl < COLLAPSED_NATS)
    if not len(collapsed):
        return None
    left = len(found.kl) - len(collapsed)
    others = pluralize(left, found.part)
    many = f"{len(collapsed)} of {pluralize(len(found.kl), found.part)} of the code"
    hold, are = ("holds" if len(collapsed) == 1 else "hold"), ("is" if left == 1 else "are")
    return Finding(
        "posterior-collapse",
        f"{many} {hold} nothing of the rows: the divergence from the prior is below {COLLAPSED_NATS} nats",
        "give free bits or a longer warm-up (kl=KL(free_bits=0.1, warmup=0.3), --set kl.free_bits=0.1 --set "
        "kl.warmup=0.3), a likelihood with learned variances, or less weight (kl=KL(beta=0.5), --set kl.beta=0.5)"
        if left == 0
        else f"nothing is wrong if {others} {are} enough; else give kl=KL(free_bits=0.1, warmup=0.3) "
        "(--set kl.free_bits=0.1 --set kl.warmup=0.3)",
        "warning" if left == 0 else "note",
    )


def ignored_code(facts: FitFacts) -> Finding | None:
    """Detect a decoder that gives the same rows for every code."""
    found = facts.variational
    if found is None or not found.gain < IGNORED_NATS or (found.kl is not None and (found.kl < COLLAPSED_NATS).all()):
        return None
    return Finding(
        "ignored-code",
        f"the decoder ignores the code: the code of another row explains a row only {found.gain:.2g} nats worse",
        "train longer, or give the divergence less weight (kl=KL(beta=0.5), --set kl.beta=0.5) or a longer warm-up",
    )


def variance_floor(facts: FitFacts) -> Finding | None:
    """Detect learned variances at their lower bound: columns that are reconstructed exactly dominate the bound."""
    found = facts.variational
    if found is None or not len(found.at_floor):
        return None
    return Finding(
        "variance-floor",
        f"the learned variance of {pluralize(len(found.at_floor), 'real column')} is at its lower bound: they are "
        "reconstructed almost exactly and dominate the bound, whose nats then say little",
        "leave out columns that are constant or copies of others, or declare whole numbers as counts or categories",
        "note",
    )


def uncovered_prior(facts: FitFacts) -> Finding | None:
    """Detect a prior much of which lies where no row is encoded: samples from there are decoded without guidance."""
    found = facts.variational
    if found is None or found.uncovered is None or found.uncovered < UNCOVERED_FRACTION:
        return None
    return Finding(
        "uncovered-prior",
        f"{found.uncovered:.0%} of the samples of the prior lie in no row's 99% region of codes",
        "give the divergence more weight (kl=KL(beta=2), --set kl.beta=2), train on more rows, or learn the prior "
        "(prior='vamp')",
        "note",
    )


RULES: dict[str, Callable[[FitFacts], Finding | None]] = {
    "posterior-collapse": posterior_collapse,
    "ignored-code": ignored_code,
    "variance-floor": variance_floor,
    "uncovered-prior": uncovered_prior,
}
"""The rules by the names of their findings."""
