"""The visible units of an energy: what they add to it, their mean and their draws given the hidden layer.

They are those of a likelihood: p(v | h) is the likelihood with the parameters r = b + W' h, so its mean, its
nll and its starting point serve an energy as they serve a decoder. Here is what an energy asks besides.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

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
    """One layer of visible units: -log of their base measure, what hidden units see of them, their sum.

        E(v, h) = V(v; b) - s(v)' W' h + (hidden),   Z(r) = sum over v of exp(-V(v; b) + s(v)' (r - b)),   r = b + W' h

    They keep no weights: the biases b belong to the energy, a learned variance to the likelihood.

    Shapes: v, r, s (*draws, batch, columns); b (columns,); energies and log Z (*draws, batch).

    Args:
        likelihood: p(v | h), whose parameters r are.
    """

    sizes: Sequence[int] | None = None
    """How many states each choice has, where the states can be counted."""

    optimizer: ClassVar[str] = "sgd"
    """The default optimiser of an energy with these units, and"""
    learning_rate: ClassVar[float] = 5e-3
    """its default learning rate."""

    total_is_given: ClassVar[bool] = False
    """Whether each row has a number of words that is given, not modelled, and with it a log Z of its own."""

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood

    @abstractmethod
    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """V(v; b), (*draws, batch)."""

    @abstractmethod
    def log_normalizer(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        bias: Float[Tensor, " columns"],
        total: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """log Z(r), what summing v out leaves; `total` words where that is given rather than modelled."""

    def sample(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        generator: Generator,
        total: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "*draws batch columns"]:
        """One draw of v a row."""
        return self.likelihood.sample(parameters, generator)

    def mean(
        self, parameters: Float[Tensor, "*draws batch columns"], total: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """E[v | r]."""
        return self.likelihood.mean(parameters)

    def sufficient_statistic(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """s(v), what hidden units see."""
        return v

    def total(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch"] | None:
        """How many times a hidden unit's bias counts, where that is not once."""
        return None

    def states(self, start: int, stop: int) -> Float[Tensor, "states columns"]:
        """The states numbered from `start` to `stop`, of `math.prod(sizes)`, where there are `sizes`."""
        return self.states_at(torch.arange(start, stop))

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """The states of these numbers; no more than these are ever built."""
        raise InputError(f"likelihood={self.likelihood.name!r} has states without number; they cannot be enumerated")


U = TypeVar("U", bound=type[VisibleUnits])

VISIBLE_UNITS: dict[str, type[VisibleUnits]] = {}
"""The visible units by the names of the likelihoods that have some."""


def units_of(*likelihoods: type[Likelihood]) -> Callable[[U], U]:
    """Class decorator: make visible units those of these likelihoods."""

    def register(units: U) -> U:
        VISIBLE_UNITS.update((likelihood.name, units) for likelihood in likelihoods)
        return units

    return register


@units_of(Bernoulli)
class BinaryUnits(VisibleUnits):
    """V = -b' v, s = v for v in {0, 1}; rates between are admitted as means of such rows.

    Source: DL book, eq. 20.4 and 20.5.
    """

    learning_rate = 0.1

    def __init__(self, likelihood: Bernoulli) -> None:
        super().__init__(likelihood)
        self.sizes = [2] * likelihood.n_columns

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """-b' v."""
        return -(v @ bias)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """sum_j softplus(r_j)."""
        return F.softplus(parameters).sum(-1)

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """Rows of zeros and ones."""
        return mixed_radix(self.sizes or (), number).float()


@units_of(Gaussian, GaussianLearned, GaussianPerColumn)
class GaussianUnits(VisibleUnits):
    """V = ||v - b||^2 / (2 sigma^2), s = v / sigma^2, column by column where the variance is learned so.

    Source: Cho, Ilin & Raiko, Improved learning of Gaussian-Bernoulli restricted Boltzmann machines (2011), eq. 3
    (with v / sigma^2 where Krizhevsky (2009) has v / sigma); DL book, eq. 20.42.
    """

    def __init__(self, likelihood: Gaussian | GaussianLearned) -> None:
        super().__init__(likelihood)

    @property
    def _variance(self) -> Tensor | None:
        return self.likelihood.variance if isinstance(self.likelihood, GaussianLearned) else None

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """||v - b||^2 / (2 sigma^2)."""
        squares, variance = (v - bias).square(), self._variance
        return 0.5 * (squares if variance is None else squares / variance).sum(-1)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """sum_j (r_j^2 - b_j^2) / (2 sigma^2) + 1/2 log(2 pi sigma^2)."""
        squares, variance = (parameters - bias) * (parameters + bias), self._variance
        constant = torch.zeros_like(bias) if variance is None else variance.log()
        if variance is not None:
            squares = squares / variance
        return 0.5 * (squares + constant + LOG_2_PI).sum(-1)

    def sufficient_statistic(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """v / sigma^2."""
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
        """-b' v."""
        return -(v @ bias)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """sum over groups of log sum_j exp(r_j)."""
        return torch.stack([parameters[..., group].logsumexp(-1) for group in self.groups], -1).sum(-1)

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """Combinations of choices."""
        choices = mixed_radix(self.sizes or (), number)
        v = torch.zeros(len(choices), self.likelihood.n_columns)
        for chosen, group in zip(choices.T, self.groups, strict=True):
            v[torch.arange(len(v)), torch.tensor(group)[chosen]] = 1.0
        return v


@units_of(Multinomial)
class ReplicatedSoftmaxUnits(VisibleUnits):
    """The replicated softmax: V = -b' v, s = v for the counts v of n words, and hidden biases count n times.

    The energy is that of the words in their order; how many words there are is given, not modelled.

    Source: Hinton & Salakhutdinov, Replicated softmax: an undirected topic model (2009), eq. 1 to 4.
    """

    optimizer = "adamw"  # some words are a thousand times as rare as others, and plain steps never reach them
    total_is_given = True

    def __init__(self, likelihood: Multinomial) -> None:
        super().__init__(likelihood)

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """-b' v."""
        return -(v @ bias)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """n log sum_j exp(r_j)."""
        return _require_total(total) * parameters.logsumexp(-1)

    @torch.no_grad()
    def sample(self, parameters: Tensor, generator: Generator, total: Tensor | None = None) -> Tensor:
        """The counts of n words, each drawn from softmax(r) by the inverse of its distribution function."""
        n_words = _require_total(total).expand(parameters.shape[:-1])
        cumulative = torch.softmax(parameters, -1).cumsum(-1)
        u = rand_like(parameters.new_empty(*parameters.shape[:-1], int(n_words.max())), generator)
        words = torch.searchsorted(cumulative, u * cumulative[..., -1:]).clamp(max=parameters.shape[-1] - 1)
        word_mask = (torch.arange(u.shape[-1], device=u.device) < n_words.unsqueeze(-1)).to(parameters.dtype)
        return torch.zeros_like(parameters).scatter_add_(-1, words, word_mask)

    def mean(self, parameters: Tensor, total: Tensor | None = None) -> Tensor:
        """n softmax(r)."""
        return _require_total(total).unsqueeze(-1) * torch.softmax(parameters, -1)

    def total(self, v: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch"]:
        """n, the number of words."""
        return v.sum(-1)


def _require_total(total: Tensor | None) -> Tensor:
    if total is None:
        raise InputError("a replicated softmax does not model how many words a row has; say how many with total=")
    return total


@units_of(Mixed)
class MixedUnits(VisibleUnits):
    """Columns of several units side by side: each adds its own energy.

    Source: Tran, Phung & Venkatesh, Mixed-variate restricted Boltzmann machines (2011).
    """

    def __init__(self, likelihood: Mixed) -> None:
        super().__init__(likelihood)
        self.blocks = likelihood.blocks
        self.units = [visible_units(unit) for unit in likelihood.units]  # type: ignore[arg-type]
        if all(unit.sizes is not None for unit in self.units):
            self.sizes = [size for unit in self.units for size in unit.sizes or ()]

    def energy(self, v: Float[Tensor, "*draws batch columns"], bias: Float[Tensor, " columns"]) -> Tensor:
        """The sum of the units' own."""
        blocks = zip(self.units, self.blocks.split(v), self.blocks.split(bias), strict=True)
        return torch.stack([unit.energy(values, b) for unit, values, b in blocks]).sum(0)

    def log_normalizer(self, parameters: Tensor, bias: Tensor, total: Tensor | None = None) -> Tensor:
        """The sum of the units' own."""
        blocks = zip(self.units, self.blocks.split(parameters), self.blocks.split(bias), strict=True)
        return torch.stack([unit.log_normalizer(r, b) for unit, r, b in blocks]).sum(0)

    def states_at(self, number: Int[Tensor, " states"]) -> Float[Tensor, "states columns"]:
        """Combinations of the units' states."""
        numbers = mixed_radix([math.prod(unit.sizes or ()) for unit in self.units], number).T
        return self.blocks.join([unit.states_at(its) for unit, its in zip(self.units, numbers, strict=True)])


def visible_units(likelihood: Likelihood) -> VisibleUnits:
    """The visible units whose conditional distribution is this likelihood.

    Raises:
        InputError: a likelihood that no visible unit has.

    Example:
        >>> type(visible_units(Bernoulli(3))).__name__
        'BinaryUnits'
    """
    return units_class(likelihood.name)(likelihood)


def units_class(name: str) -> type[VisibleUnits]:
    """The class of the visible units of a likelihood, by its name.

    Raises:
        InputError: a likelihood without visible units.

    Example:
        >>> units_class("multinomial").optimizer
        'adamw'
    """
    if name not in VISIBLE_UNITS:
        raise InputError(
            f"likelihood={name!r} has no visible unit of an energy; choose one of: {', '.join(VISIBLE_UNITS)}"
        )
    return VISIBLE_UNITS[name]
