"""Likelihood of energy-based models: log Z by annealed importance sampling, pseudo-likelihood, free-energy gap."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from isthmus.errors import InputError
from isthmus.learning.chains import check_chains
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.layers import is_count
from isthmus.parts.visible_units import BinaryUnits

MIN_TEMPERATURES = 2


@dataclass(frozen=True)
class PartitionEstimate:
    """An estimate of log Z from the importance weights w of several chains.

    Attributes:
        log_partition: log Z, nats.
        standard_error: the standard error of log Z, from the variance of the weights.
        effective_sample_size: (sum w)^2 / sum w^2, at most the number of chains.
        log_weights: log w of each chain, (n_chains,).
        betas: inverse temperatures from 0 to 1.
        from_above: True if the expectation of the estimate lies above log Z (chains from the model to the base), False
            if it lies below.
    """

    log_partition: float
    standard_error: float
    effective_sample_size: float
    log_weights: Float[Tensor, " chains"]
    betas: Float[Tensor, " temperatures"]
    from_above: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """The interval log(w -+ 3 s) of three standard errors s of the mean weight w; it is not symmetric."""
        wide = 3 * self.standard_error
        less, more = math.log1p(-wide) if wide < 1 else -math.inf, math.log1p(wide)
        low, high = (-more, -less) if self.from_above else (less, more)
        return self.log_partition + low, self.log_partition + high


class AnnealingPath:
    r"""The sequence of distributions between independent columns and a restricted Boltzmann machine (RBM).

        p_beta(v) ~ exp( -(1 - beta) V(v; b_0) - beta V(v; b) + sum_j A(beta a_j(v)) )

    At beta = 0 the columns are independent with the biases b_0 and do not depend on the hidden units; at beta = 1 the
    distribution is that of the RBM.

    Args:
        rbm: the energy of the RBM.
        base: b_0, (columns,). The parameters of the rows' mean work best; None means the visible biases of the RBM.
        total: the number of words per row, for word counts.

    Raises:
        InputError: the hidden units are sampled approximately (rectified units) or depend on each other.

    Source: Salakhutdinov & Murray, On the quantitative analysis of deep belief networks (2008), section 4.1.1.
    """

    def __init__(
        self, rbm: RBMEnergy, base: Float[Tensor, " columns"] | None = None, total: float | None = None
    ) -> None:
        if not rbm.hidden.exact_sampling:
            raise InputError(
                f"annealed importance sampling needs exact samples of the hidden units, and those of hidden_units="
                f"{rbm.hidden.name!r} are approximate; use hidden_units='bernoulli', or compute log Z exactly "
                "(log_partition) if one layer is small"
            )
        if not rbm.factorial:
            raise InputError(
                "annealed importance sampling needs hidden units that are independent given the visible units, and "
                "lateral weights couple them; use lateral=False, or compute log Z exactly (log_partition) for at most "
                "20 hidden units"
            )
        self.rbm = rbm
        self.base = rbm.visible_bias.detach().clone() if base is None else base.to(rbm.visible_bias)
        self.total = None if total is None else self.base.new_tensor([float(total)])
        hidden = rbm.hidden.log_normalizer(self.base.new_zeros(rbm.n_hidden)).sum()
        visible = rbm.visible.log_normalizer(self.base[None], self.base, self.total)[0]
        self.log_base = float((hidden + visible).double())

    def log_ratio(self, v: Tensor, a: Tensor, before: float, after: float) -> Float[Tensor, " chains"]:
        """Compute log p*_after(v) - log p*_before(v) in float64; a is the input of the hidden units for v."""
        rbm = self.rbm
        hidden = (rbm.hidden.log_normalizer(after * a) - rbm.hidden.log_normalizer(before * a)).sum(-1)
        energy = rbm.visible.energy(v, rbm.visible_bias) - rbm.visible.energy(v, self.base)
        return hidden.double() - (after - before) * energy.double()

    def start(self, n_chains: int, generator: Generator) -> Float[Tensor, "chains columns"]:
        """Sample at beta = 0."""
        return self.rbm.visible.sample(self.base.expand(n_chains, -1), generator, self._totals(n_chains))

    def step(self, v: Tensor, a: Tensor, beta: float, generator: Generator) -> Float[Tensor, "chains columns"]:
        """Take one step of block Gibbs sampling that leaves p_beta invariant."""
        h = self.rbm.hidden.sample(beta * a, generator)
        parameters = torch.lerp(self.base.expand_as(v), self.rbm.down(h), beta)
        return self.rbm.visible.sample(parameters, generator, self._totals(len(v)))

    def _totals(self, n: int) -> Tensor | None:
        return None if self.total is None else self.total.expand(n)


@torch.no_grad()
def annealed_importance_sampling(
    rbm: RBMEnergy,
    generator: Generator,
    *,
    n_chains: int = 100,
    n_temperatures: int = 1000,
    betas: Float[Tensor, " temperatures"] | None = None,
    base: Float[Tensor, " columns"] | None = None,
    total: float | None = None,
) -> PartitionEstimate:
    """Estimate log Z by annealed importance sampling; the expectation of the estimate lies below log Z.

        w = prod_k p*_(k+1)(v_k) / p*_k(v_k),   Z = Z_0 E[w],   v_0 ~ p_0,  v_k from v_(k-1) by a step at beta_k

    Args:
        rbm: the energy of the RBM.
        generator: the generator of all samples.
        n_chains: the number of independent chains.
        n_temperatures: the number of distributions, including the first and the last; a pilot run spaces them so that
            each step contributes about equally to the variance.
        betas: the inverse temperatures, increasing from 0 to 1; replaces n_temperatures.
        base: the biases of the independent columns at beta = 0; `likelihood.parameters_for(mean of the rows)` works
            best.
        total: the number of words per row, for word counts.

    Returns:
        The estimate, with its standard error and effective sample size.

    Raises:
        InputError: there are fewer than one chain or two temperatures, or betas do not increase from 0 to 1.

    Source: Neal, Annealed importance sampling (2001); Salakhutdinov & Murray (2008), section 4.1; DL book, 18.7.1.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> rbm = RBMEnergy(Bernoulli(6), 4, weight_scale=1.0, generator=generator)
        >>> estimate = annealed_importance_sampling(rbm, generator, n_temperatures=100)
        >>> abs(estimate.log_partition - float(rbm.log_partition())) < 0.1
        True
    """
    path = AnnealingPath(rbm, base, total)
    n_chains = check_chains(n_chains)
    betas = adaptive_betas(path, n_temperatures, generator) if betas is None else check_betas(betas)
    v = path.start(n_chains, generator)
    log_weights = _anneal(path, v, betas.tolist(), generator)
    return _estimate(path.log_base, log_weights, betas, from_above=False)


@torch.no_grad()
def reverse_annealed_importance_sampling(
    rbm: RBMEnergy,
    v: Float[Tensor, "chains columns"],
    generator: Generator,
    *,
    n_temperatures: int = 1000,
    betas: Float[Tensor, " temperatures"] | None = None,
    base: Float[Tensor, " columns"] | None = None,
    total: float | None = None,
) -> PartitionEstimate:
    """Estimate log Z by reverse annealing from samples of the model; the expectation of the estimate lies above log Z.

        1 / Z = E[1 / w] / Z_0,   v_K ~ p, annealed step by step to independent columns

    Together with `annealed_importance_sampling` it brackets log Z if `v` are samples of the model: exact samples, or
    the last states of long chains.

    Args:
        rbm: the energy of the RBM.
        v: samples of the model, one per chain.
        generator, n_temperatures, betas, base, total: as in `annealed_importance_sampling`; betas increase here too.

    Raises:
        InputError: as in `annealed_importance_sampling`.

    Source: Burda, Grosse & Salakhutdinov, Accurate and conservative estimates of MRF log-likelihood using reverse
    annealing (2015), section 3; Grosse, Ghahramani & Adams, Sandwiching the marginal likelihood using bidirectional
    Monte Carlo (2015).
    """
    path = AnnealingPath(rbm, base, total)
    check_chains(len(v))
    betas = adaptive_betas(path, n_temperatures, generator) if betas is None else check_betas(betas)
    log_weights = -_anneal(path, v, betas.flip(0).tolist(), generator)
    return _estimate(path.log_base, log_weights, betas, from_above=True)


def _anneal(path: AnnealingPath, v: Tensor, betas: list[float], generator: Generator) -> Float[Tensor, " chains"]:
    """Compute log w of chains that pass through the temperatures in the given order."""
    log_weights = torch.zeros(len(v), dtype=torch.float64, device=v.device)
    a = path.rbm(v)
    for before, after in pairwise(betas):
        log_weights += path.log_ratio(v, a, before, after)
        if after != betas[-1]:
            v = path.step(v, a, after, generator)
            a = path.rbm(v)
    return log_weights


def _estimate(log_base: float, log_weights: Tensor, betas: Tensor, *, from_above: bool) -> PartitionEstimate:
    """Compute log Z from log w: by the mean of w, or by the mean of 1 / w if `from_above`."""
    logs = -log_weights if from_above else log_weights
    n = len(logs)
    log_mean = logs.logsumexp(0) - math.log(n)
    shares = (logs - logs.max()).exp()
    effective = float(shares.sum().square() / shares.square().sum())
    error = float(shares.std(correction=1) / shares.mean()) / math.sqrt(n) if n > 1 else math.inf
    log_ratio = -log_mean if from_above else log_mean
    return PartitionEstimate(log_base + float(log_ratio), error, effective, log_weights, betas, from_above)


def check_betas(betas: Float[Tensor, " temperatures"]) -> Float[Tensor, " temperatures"]:
    """Convert inverse temperatures to float64.

    Raises:
        InputError: they do not increase from 0 to 1.
    """
    betas = torch.as_tensor(betas, dtype=torch.float64)
    if betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or not bool((betas.diff() > 0).all()):
        raise InputError("betas must increase strictly from 0 (independent columns) to 1 (the model)")
    return betas


@torch.no_grad()
def adaptive_betas(path: AnnealingPath, n_temperatures: int, generator: Generator) -> Float[Tensor, " temperatures"]:
    """Choose inverse temperatures by a pilot run: steps are small where d log p*_beta / d beta has a large variance.

    The variance of log w from beta to beta + d is about d^2 times the variance of that derivative. The sum of these is
    smallest if d is inversely proportional to its standard deviation. The pilot run has a tenth of the steps.

    Raises:
        InputError: there are fewer than two temperatures.

    Source: Gelman & Meng, Simulating normalizing constants (1998), section 4.3 (the optimal path); Neal (2001), 4.
    """
    if not is_count(n_temperatures, MIN_TEMPERATURES):
        raise InputError(f"n_temperatures={n_temperatures!r} must be an integer of at least {MIN_TEMPERATURES}")
    pilot = max(10, n_temperatures // 10)
    grid = torch.linspace(0, 1, pilot + 1, dtype=torch.float64)
    v = path.start(20, generator)
    spreads = []
    for beta, after in pairwise(grid.tolist()):
        a = path.rbm(v)
        spreads.append((path.log_ratio(v, a, beta, after) / (after - beta)).std())
        v = path.step(v, a, after, generator)
    spread = torch.stack(spreads).double().cpu()
    # Smoothing and a lower bound: a standard deviation from twenty chains has an error of a sixth, and may be zero.
    width = max(1, pilot // 20)
    spread = F.avg_pool1d(F.pad(spread[None], (width, width), "replicate"), 2 * width + 1, 1)[0]
    spread = spread + 0.1 * spread.mean() + 1e-9
    reached = torch.cat([spread.new_zeros(1), spread.cumsum(0)])
    wanted = torch.linspace(0, 1, n_temperatures, dtype=torch.float64) * reached[-1]
    right = torch.searchsorted(reached, wanted).clamp(1, pilot)
    share = (wanted - reached[right - 1]) / (reached[right] - reached[right - 1])
    betas = torch.lerp(grid[right - 1], grid[right], share)
    betas[0], betas[-1] = 0.0, 1.0
    return betas


@torch.no_grad()
def log_pseudo_likelihood(
    rbm: RBMEnergy, v: Float[Tensor, "batch columns"], block: int = 64
) -> Float[Tensor, " batch"]:
    """Compute sum_j log p(v_j | the other columns) of each row for binary visible units.

    A value between 0 and 1 is treated as the probability of a 1.

    Args:
        rbm: the energy of the RBM.
        v: rows.
        block: the number of rows in a batch.

    Raises:
        InputError: the visible units are not binary.

    Source: DL book, section 18.3, eq. 18.20.
    """
    if not isinstance(rbm.visible, BinaryUnits):
        raise InputError(
            f"the pseudo-likelihood needs binary columns; found likelihood={rbm.likelihood.name!r}; "
            "use the reconstruction (nll) instead"
        )
    found = []
    for part in v.split(block):
        total = part.new_zeros(len(part))
        for j in range(part.shape[1]):
            logits = rbm.conditional_logits(part, torch.full((len(part),), j, device=part.device))
            total -= F.binary_cross_entropy_with_logits(logits, part[:, j], reduction="none")
        found.append(total)
    return torch.cat(found)


@torch.no_grad()
def free_energy_gap(
    free_energy: Callable[[Tensor], Tensor], train: Float[Tensor, "n columns"], held_out: Float[Tensor, "m columns"]
) -> float:
    """Compute the mean free energy of validation rows minus that of training rows, nats.

    The gap does not need log Z. It grows when the model over-fits.

    Args:
        free_energy: F of each row.
        train, held_out: training and validation rows, about as many of each.

    Source: Hinton, A practical guide to training restricted Boltzmann machines (2010), section 6.
    """
    return float(free_energy(held_out).double().mean() - free_energy(train).double().mean())
