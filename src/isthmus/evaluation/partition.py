"""How probable an energy's model finds rows: log Z by annealed importance sampling, from below and from above."""

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
    """An estimate of log Z from the weights w of some chains.

    Attributes:
        log_partition: log Z, nats.
        standard_error: of log Z, by the spread of the weights.
        effective_sample_size: (sum w)^2 / sum w^2, of as many chains as there were.
        log_weights: log w of each chain, (n_chains,).
        betas: inverse temperatures, 0 to 1.
        from_above: whether its expectation lies above log Z (chains from the model down to the base) or below it.
    """

    log_partition: float
    standard_error: float
    effective_sample_size: float
    log_weights: Float[Tensor, " chains"]
    betas: Float[Tensor, " temperatures"]
    from_above: bool = False

    @property
    def interval(self) -> tuple[float, float]:
        """Where log Z is within three standard errors of the mean weight, log(w -+ 3 s): not symmetric."""
        wide = 3 * self.standard_error
        less, more = math.log1p(-wide) if wide < 1 else -math.inf, math.log1p(wide)
        low, high = (-more, -less) if self.from_above else (less, more)
        return self.log_partition + low, self.log_partition + high


class AnnealingPath:
    r"""The distributions between independent columns and a harmonium.

        p_beta(v) ~ exp( -(1 - beta) V(v; b_0) - beta V(v; b) + sum_j A(beta a_j(v)) )

    At beta = 0 the hidden units are idle and the columns independent, with the biases b_0; at beta = 1 it is the
    machine's own distribution.

    Args:
        rbm: the machine.
        base: b_0, (columns,): best the parameters of the rows' mean; None takes the machine's own visible biases.
        total: words a row, for word counts.

    Raises:
        InputError: hidden units whose draws are approximate (rectified ones), or that depend on each other.

    Source: Salakhutdinov & Murray, On the quantitative analysis of deep belief networks (2008), section 4.1.1.
    """

    def __init__(
        self, rbm: RBMEnergy, base: Float[Tensor, " columns"] | None = None, total: float | None = None
    ) -> None:
        if not rbm.hidden.exact_sampling:
            raise InputError(
                f"hidden_units={rbm.hidden.name!r} are drawn by an approximation, which annealing would mistake "
                "for the model; take hidden_units='bernoulli', or sum Z where one side is small (log_partition)"
            )
        if not rbm.factorial:
            raise InputError(
                "annealing sums hidden units out, which lateral weights tie to each other; sum Z over at most 20 of "
                "them (log_partition), or take lateral=False"
            )
        self.rbm = rbm
        self.base = rbm.visible_bias.detach().clone() if base is None else base.to(rbm.visible_bias)
        self.total = None if total is None else self.base.new_tensor([float(total)])
        idle = rbm.hidden.log_normalizer(self.base.new_zeros(rbm.n_hidden)).sum()
        outer = rbm.visible.log_normalizer(self.base[None], self.base, self.total)[0]
        self.log_base = float((idle + outer).double())

    def log_ratio(self, v: Tensor, a: Tensor, before: float, after: float) -> Float[Tensor, " chains"]:
        """log p*_after(v) - log p*_before(v), where the input a of the hidden units is there; float64."""
        machine = self.rbm
        hidden = (machine.hidden.log_normalizer(after * a) - machine.hidden.log_normalizer(before * a)).sum(-1)
        energy = machine.visible.energy(v, machine.visible_bias) - machine.visible.energy(v, self.base)
        return hidden.double() - (after - before) * energy.double()

    def start(self, n_chains: int, generator: Generator) -> Float[Tensor, "chains columns"]:
        """Draws at beta = 0."""
        return self.rbm.visible.sample(self.base.expand(n_chains, -1), generator, self._totals(n_chains))

    def step(self, v: Tensor, a: Tensor, beta: float, generator: Generator) -> Float[Tensor, "chains columns"]:
        """A step of block Gibbs sampling that leaves p_beta as it is."""
        machine = self.rbm
        h = machine.hidden.sample(beta * a, generator)
        parameters = torch.lerp(self.base.expand_as(v), machine.down(h), beta)
        return machine.visible.sample(parameters, generator, self._totals(len(v)))

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
    """log Z by annealed importance sampling, whose expectation lies below it.

        w = prod_k p*_(k+1)(v_k) / p*_k(v_k),   Z = Z_0 E[w],   v_0 ~ p_0,  v_k from v_(k-1) by a step at beta_k

    Args:
        rbm: the machine.
        generator: of every draw.
        n_chains: independent chains.
        n_temperatures: how many distributions, the first and the last included; a pilot run spaces them so that each
            step between neighbours is about equally hard.
        betas: the inverse temperatures themselves, rising from 0 to 1.
        base: the biases of the independent columns at beta = 0; best `likelihood.parameters_for(mean of the rows)`.
        total: words a row, for word counts.

    Returns:
        The estimate, with its standard error and effective sample size.

    Raises:
        InputError: fewer than one chain or two temperatures, or betas that do not rise from 0 to 1.

    Source: Neal, Annealed importance sampling (2001); Salakhutdinov & Murray (2008), section 4.1; DL book, 18.7.1.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> machine = RBMEnergy(Bernoulli(6), 4, weight_scale=1.0, generator=generator)
        >>> estimate = annealed_importance_sampling(machine, generator, n_temperatures=100)
        >>> abs(estimate.log_partition - float(machine.log_partition())) < 0.1
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
    """log Z by the same path walked backwards from draws of the model, whose expectation lies above it.

        1 / Z = E[1 / w] / Z_0,   v_K ~ p, heated step by step to independent columns

    With `annealed_importance_sampling` it brackets log Z, as far as `v` are samples of the model: exact ones, or the
    ends of long chains.

    Args:
        rbm: the machine.
        v: draws of the model, one for each chain.
        generator, n_temperatures, betas, base, total: as in `annealed_importance_sampling`; betas rise here too.

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
    """log w of chains that are taken through the temperatures in the order given."""
    log_weights = torch.zeros(len(v), dtype=torch.float64, device=v.device)
    a = path.rbm(v)
    for before, after in pairwise(betas):
        log_weights += path.log_ratio(v, a, before, after)
        if after != betas[-1]:
            v = path.step(v, a, after, generator)
            a = path.rbm(v)
    return log_weights


def _estimate(log_base: float, log_weights: Tensor, betas: Tensor, *, from_above: bool) -> PartitionEstimate:
    """log Z from log w: the mean of w from below, of 1 / w from above."""
    logs = -log_weights if from_above else log_weights
    n = len(logs)
    log_mean = logs.logsumexp(0) - math.log(n)
    shares = (logs - logs.max()).exp()
    effective = float(shares.sum().square() / shares.square().sum())
    error = float(shares.std(correction=1) / shares.mean()) / math.sqrt(n) if n > 1 else math.inf
    log_ratio = -log_mean if from_above else log_mean
    return PartitionEstimate(log_base + float(log_ratio), error, effective, log_weights, betas, from_above)


def check_betas(betas: Float[Tensor, " temperatures"]) -> Float[Tensor, " temperatures"]:
    """Inverse temperatures that rise from 0 to 1, in float64.

    Raises:
        InputError: others.
    """
    betas = torch.as_tensor(betas, dtype=torch.float64)
    if betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or not bool((betas.diff() > 0).all()):
        raise InputError("betas must rise from 0, where columns are independent, to 1, where the model is itself")
    return betas


@torch.no_grad()
def adaptive_betas(path: AnnealingPath, n_temperatures: int, generator: Generator) -> Float[Tensor, " temperatures"]:
    """Inverse temperatures with as much between each two of them: the spread of d log p*_beta / d beta, by a pilot run.

    The variance of log w from beta to beta + d is about d^2 times the variance of that derivative, and the sum of
    these is least where d is inversely proportional to its standard deviation. The pilot has a tenth of the steps.

    Raises:
        InputError: fewer than two temperatures.

    Source: Gelman & Meng, Simulating normalizing constants (1998), section 4.3 (the optimal path); Neal (2001), 4.
    """
    if not is_count(n_temperatures, MIN_TEMPERATURES):
        raise InputError(f"n_temperatures={n_temperatures!r}: a path has two ends; give 2 or more")
    pilot = max(10, n_temperatures // 10)
    grid = torch.linspace(0, 1, pilot + 1, dtype=torch.float64)
    v = path.start(20, generator)
    spreads = []
    for beta, after in pairwise(grid.tolist()):
        a = path.rbm(v)
        spreads.append((path.log_ratio(v, a, beta, after) / (after - beta)).std())
        v = path.step(v, a, after, generator)
    spread = torch.stack(spreads).double().cpu()
    # Smoothed, and with a floor: twenty chains tell a standard deviation to a sixth, and may all agree by chance.
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
    """sum_j log p(v_j | the other columns) by row, every column of binary units; rates between count as mixtures.

    Args:
        rbm: the machine.
        v: rows.
        block: rows at once.

    Raises:
        InputError: visible units that are not binary.

    Source: DL book, section 18.3, eq. 18.20.
    """
    if not isinstance(rbm.visible, BinaryUnits):
        raise InputError(
            f"the pseudo-likelihood is of binary columns; these are of likelihood={rbm.likelihood.name!r}; use "
            "the reconstruction (nll)"
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
    """Mean F of held-out rows minus that of training rows, nats: it needs no Z, and grows as rows are learned by heart.

    Args:
        free_energy: F, by row.
        train, held_out: about as many rows of each.

    Source: Hinton, A practical guide to training restricted Boltzmann machines (2010), section 6.
    """
    return float(free_energy(held_out).double().mean() - free_energy(train).double().mean())
