"""The visible units of an energy: their term of the energy, and their mean and samples given the hidden layer.

p(v | h) is a likelihood with the parameters r = b + W' h, whose mean, nll and starting parameters an energy uses as a
decoder does. This module adds the functions that only an energy needs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from isthmus.errors import InputError
from isthmus.parts.likelihood_base import Likelihood
from isthmus.parts.likelihood_binary import Bernoulli
from isthmus.parts.likelihood_counts import Categorical, Multinomial
from isthmus.parts.likelihood_gaussians import Gaussian, GaussianLearned, GaussianPerColumn
from isthmus.parts.likelihood_tables import Mixed
from isthmus.parts.sampling import mixed_radix, rand_like

LOG_2_PI = math.log(2 * math.pi)


class VisibleUnits(ABC):
    """A layer of visible units: minus the logarithm of its base measure V, its sufficient statistic s, and its sum Z.

        E(v, h) = V(v; b) - s(v)' W' h + (hidden),   Z(r) = sum over v of exp(-V(v; b) + s(v)' (r - b)),   r = b + W' h

    The layer has no parameters: the biases b are those of the energy, a learned variance is that of the likelihood.

    Shapes: v, r, s (*draws, batch, columns); b (columns,); energies and log Z (*draws, batch).

    Args:
        likelihood: p(v | h), the distribution with the parameters r.
    """

    sizes: Sequence[int] | None = None
    """The number of states of each discrete variable; None if the states cannot be enumerated."""

    optimizer: ClassVar[str] = "sgd"
    """The default optimiser of an energy with these units."""

    learning_rate: ClassVar[float] = 5e-3
    """The default learning rate of that optimiser."""

    total_is_given: ClassVar[bool] = False
    """True if p(v | h) is conditional on the number of words of the row; log Z then depends on it."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood

    @abstractmethod
    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """Return V(v; b), (*draws, batch)."""

    @abstractmethod
    def log_normalizer(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        bias: Float[Tensor, " columns"],
        total: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """Return log Z(r), the logarithm of the sum over v; `total` is the number of words if it is not modelled."""

    def sample(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        generator: Generator,
        total: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample v from p(v | h)."""
        return self.likelihood.sample(parameters, generator)

    def mean(
        self, parameters: Float[Tensor, "*draws batch columns"], total: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return E[v | r]."""
        return self.likelihood.mean(parameters)

    def sufficient_statistic(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return s(v), on which the input of the hidden units depends."""
        return v

    def total(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch"] | None:
        """Return the factor of the hidden biases in the energy; None for a factor of 1."""
        return None

    def states(self, start: int, stop: int) -> Float[Tensor, "states columns"]:
        """Return the states with numbers from `start` to `stop`; there are `math.prod(sizes)` states."""
        return self.states_at(torch.arange(start, stop))

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """Return the states with these numbers, without building others."""
        raise InputError(f"likelihood={self.likelihood.name!r} has infinitely many states; they cannot be enumerated")


U = TypeVar("U", bound=type[VisibleUnits])

VISIBLE_UNITS: dict[str, type[VisibleUnits]] = {}
"""The registered visible units, by the name of their likelihood."""


def units_of(*likelihoods: type[Likelihood]) -> Callable[[U], U]:
    """Add visible units to `VISIBLE_UNITS` under the names of their likelihoods; a class decorator."""

    def register(units: U) -> U:
        VISIBLE_UNITS.update((likelihood.name, units) for likelihood in likelihoods)
        return units

    return register


@units_of(Bernoulli)
class BinaryUnits(VisibleUnits):
    """V = -b' v, s = v for v in {0, 1}; values in between are admitted as probabilities.

    Source: DL book, eq. 20.4 and 20.5.
    """

    learning_rate = 0.1

    def __init__(self, likelihood: Bernoulli) -> None:
        super().__init__(likelihood)
        self.sizes = [2] * likelihood.n_columns

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """Return -b' v."""
        return -(v @ bias)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """Return sum_j softplus(r_j)."""
        return F.softplus(parameters).sum(-1)

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """Return rows of zeros and ones."""
        return mixed_radix(self.sizes or (), number).float()


@units_of(Gaussian, GaussianLearned, GaussianPerColumn)
class GaussianUnits(VisibleUnits):
    """V = ||v - b||^2 / (2 sigma^2), s = v / sigma^2, with one sigma for all columns or one per column.

    Source: Cho, Ilin & Raiko, Improved learning of Gaussian-Bernoulli restricted Boltzmann machines (2011), eq. 3
    (with v / sigma^2 where Krizhevsky (2009) has v / sigma); DL book, eq. 20.42.
    """

    def __init__(self, likelihood: Gaussian | GaussianLearned) -> None:
        super().__init__(likelihood)

    @property
    def _variance(self) -> Tensor | None:
        return self.likelihood.variance if isinstance(self.likelihood, GaussianLearned) else None

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """Return ||v - b||^2 / (2 sigma^2)."""
        squares, variance = (v - bias).square(), self._variance
        return 0.5 * (squares if variance is None else squares / variance).sum(-1)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """Return sum_j (r_j^2 - b_j^2) / (2 sigma^2) + 1/2 log(2 pi sigma^2)."""
        squares, variance = (parameters - bias) * (parameters + bias), self._variance
        constant = torch.zeros_like(bias) if variance is None else variance.log()
        if variance is not None:
            squares = squares / variance
        return 0.5 * (squares + constant + LOG_2_PI).sum(-1)

    def sufficient_statistic(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return v / sigma^2."""
        return v if self._variance is None else v / self._variance


@units_of(Categorical)
class SoftmaxUnits(VisibleUnits):
    """V = -b' v, s = v for one-hot groups: softmax units.

    Source: Salakhutdinov, Mnih & Hinton, Restricted Boltzmann machines for collaborative filtering (2007), eq. 1.
    """

    learning_rate = 0.1

    def __init__(self, likelihood: Categorical) -> None:
        super().__init__(likelihood)
        self.groups = likelihood.groups
        self.sizes = [len(group) for group in likelihood.groups]

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """Return -b' v."""
        return -(v @ bias)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the sum over groups of log sum_j exp(r_j)."""
        blocks = cast(Categorical, self.likelihood).grouped(parameters)
        return torch.cat([block.logsumexp(-1) for block in blocks], -1).sum(-1)

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """Return rows of one-hot groups."""
        choices = mixed_radix(self.sizes or (), number)
        v = torch.zeros(len(choices), self.likelihood.n_columns)
        for chosen, group in zip(choices.T, self.groups, strict=True):
            v[torch.arange(len(v)), torch.tensor(group)[chosen]] = 1.0
        return v


@units_of(Multinomial)
class ReplicatedSoftmaxUnits(VisibleUnits):
    """The replicated softmax: V = -b' v, s = v for the counts v of n words, with hidden biases multiplied by n.

    The energy is that of the ordered words. Their number n is given, not modelled.

    Attributes:
        most_words: number of words that `sample` samples at most for a row. It needs a uniform number for every word;
            with None it reads the largest number of words of the batch from the device, and waits for it.

    Source: Hinton & Salakhutdinov, Replicated softmax: an undirected topic model (2009), eq. 1 to 4.
    """

    optimizer = "adamw"  # frequencies of words differ a thousandfold; plain gradient steps do not train the rare ones
    total_is_given = True
    most_words: int | None = None

    def __init__(self, likelihood: Multinomial) -> None:
        super().__init__(likelihood)

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """Return -b' v."""
        return -(v @ bias)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """Return n log sum_j exp(r_j)."""
        return _require_total(total) * parameters.logsumexp(-1)

    @torch.no_grad()
    def sample(self, parameters: Tensor, generator: Generator, total: Tensor | None = None) -> Tensor:
        """Sample the counts of min(n, most_words) words from softmax(r) by the inverse distribution function."""
        n_words = _require_total(total).expand(parameters.shape[:-1])
        longest = int(n_words.max()) if self.most_words is None else self.most_words
        cumulative = torch.softmax(parameters, -1).cumsum(-1)
        u = rand_like(parameters.new_empty(*parameters.shape[:-1], longest), generator)
        words = torch.searchsorted(cumulative, u * cumulative[..., -1:]).clamp(max=parameters.shape[-1] - 1)
        word_mask = (torch.arange(longest, device=u.device) < n_words.unsqueeze(-1)).to(parameters.dtype)
        return torch.zeros_like(parameters).scatter_add_(-1, words, word_mask)

    def mean(self, parameters: Tensor, total: Tensor | None = None) -> Tensor:
        """Return n softmax(r)."""
        return _require_total(total).unsqueeze(-1) * torch.softmax(parameters, -1)

    def total(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch"]:
        """Return n, the number of words."""
        return v.sum(-1)


def _require_total(total: Tensor | None) -> Tensor:
    if total is None:
        raise InputError("a replicated softmax does not model the number of words of a row; give it as total=")
    return total


@units_of(Mixed)
class MixedUnits(VisibleUnits):
    """Columns with different visible units; the energy is the sum of the units' energies.

    Source: Tran, Phung & Venkatesh, Mixed-variate restricted Boltzmann machines (2011).
    """

    def __init__(self, likelihood: Mixed) -> None:
        super().__init__(likelihood)
        self.blocks = likelihood.blocks
        self.units = [visible_units(unit) for unit in likelihood.units]  # type: ignore[arg-type]
        if all(unit.sizes is not None for unit in self.units):
            self.sizes = [size for unit in self.units for size in unit.sizes or ()]

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """Return the sum of the energies of the units."""
        blocks = zip(self.units, self.blocks.split(v), self.blocks.split(bias), strict=True)
        return torch.stack([unit.energy(values, b) for unit, values, b in blocks]).sum(0)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """Return the sum of log Z of the units."""
        blocks = zip(self.units, self.blocks.split(parameters), self.blocks.split(bias), strict=True)
        return torch.stack([unit.log_normalizer(r, b) for unit, r, b in blocks]).sum(0)

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """Return combinations of the states of the units."""
        numbers = mixed_radix([math.prod(unit.sizes or ()) for unit in self.units], number).T
        return self.blocks.join([unit.states_at(its) for unit, its in zip(self.units, numbers, strict=True)])


def visible_units(likelihood: Likelihood) -> VisibleUnits:
    """Return the visible units whose conditional distribution is this likelihood.

    Raises:
        InputError: the likelihood has no visible units.

    Example:
        >>> type(visible_units(Bernoulli(3))).__name__
        'BinaryUnits'
    """
    return units_class(likelihood.name)(likelihood)


def units_class(name: str) -> type[VisibleUnits]:
    """Return the class of the visible units of a likelihood, given its name.

    Raises:
        InputError: the likelihood has no visible units.

    Example:
        >>> units_class("multinomial").optimizer
        'adamw'
    """
    if name not in VISIBLE_UNITS:
        raise InputError(
            f"likelihood={name!r} has no visible unit of an energy; choose one of: {', '.join(VISIBLE_UNITS)}"
        )
    return VISIBLE_UNITS[name]
