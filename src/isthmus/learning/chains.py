"""Markov chains that sample from energy models: `run_chain` and the steps of block Gibbs sampling.

    state <- step(state, generator),   n_steps times

Block Gibbs: v ~ p(v | h), then h ~ p(h | v), all units of a layer at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from isthmus.errors import InputError
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.layers import is_count

State = TypeVar("State")


def run_chain(
    step: Callable[[State, Generator | None], State], state: State, n_steps: int, generator: Generator | None
) -> State:
    """Return the state after `n_steps` steps; no gradient flows through them.

    Args:
        step: (state, generator) -> the next state; without a generator it uses means in place of samples.
        state: the state of all chains.
        n_steps: number of steps; 0 returns the state unchanged.
        generator: the source of the random numbers.

    Example:
        >>> run_chain(lambda state, generator: state + 1, 0, 3, None)
        3
    """
    with torch.no_grad():
        for _ in range(n_steps):
            state = step(state, generator)
    return state


def start_in_block(
    chains: Float[Tensor, "chains ..."], values: Float[Tensor, "block ..."], first: int, n_rows: int
) -> None:
    """Start the chains whose rows are in a block: chain i of n starts at row i * n_rows // n.

    Args:
        chains: the state of each chain, set in place.
        values: the initial states of the rows of the block.
        first: the number of the first row of the block.
        n_rows: the number of rows of all blocks.

    Example:
        >>> chains = torch.zeros(4)
        >>> start_in_block(chains, torch.tensor([10.0, 11.0, 12.0]), first=2, n_rows=8)
        >>> chains
        tensor([ 0., 10., 12.,  0.])
    """
    at = torch.arange(len(chains)) * n_rows // max(len(chains), 1) - first
    here = (at >= 0) & (at < len(values))
    chains[here] = values[at[here]]


@dataclass(frozen=True)
class ChainState:
    """State of the Gibbs chains of an RBM.

    Attributes:
        h: hidden units, (chains, n_hidden).
        v: the visible units that h was sampled from, (chains, columns); None before the first step.
        total: number of words per row, (chains,), where the visible units are word counts.
    """

    h: Float[Tensor, "chains hidden"]
    v: Float[Tensor, "chains columns"] | None = None
    total: Float[Tensor, " chains"] | None = None

    @property
    def visible(self) -> Float[Tensor, "chains columns"]:
        """v, which exists after the first step."""
        assert self.v is not None
        return self.v


class BlockGibbs:
    """Step of block Gibbs sampling: v ~ p(v | h), then h ~ p(h | v).

    Args:
        rbm: the energy.

    Source: DL book, section 20.2.1 and algorithm 18.2.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> gibbs = BlockGibbs(RBMEnergy(Bernoulli(4), 3, generator=generator))
        >>> run_chain(gibbs, ChainState(torch.zeros(2, 3)), 10, generator).visible.shape
        torch.Size([2, 4])
    """

    def __init__(self, rbm: RBMEnergy) -> None:
        self.rbm = rbm

    def down(self, state: ChainState, generator: Generator | None) -> ChainState:
        """Sample v ~ p(v | h); without a generator, use E[v | h]."""
        rbm = self.rbm
        if generator is None:
            return replace(state, v=rbm.visible_mean(state.h, state.total))
        return replace(state, v=rbm.sample_visible(state.h, generator, state.total))

    def up(self, state: ChainState, generator: Generator | None, a: Tensor | None = None) -> ChainState:
        """Sample h ~ p(h | v); without a generator, use E[h | v].

        `a` is the hidden units' input, if it is already computed.
        """
        rbm = self.rbm
        a = rbm(state.visible) if a is None else a
        h = rbm.mean_given(a) if generator is None else rbm.sample_given(a, generator, state.h)
        return replace(state, h=h)

    def start_chains(
        self, v: Float[Tensor, "chains columns"], generator: Generator | None, a: Tensor | None = None
    ) -> ChainState:
        """Start chains at rows: h ~ p(h | v), or E[h | v] without a generator. `a` is as in `up`."""
        rbm = self.rbm
        a = rbm(v) if a is None else a
        h = rbm.mean_given(a) if generator is None else rbm.sample_given(a, generator)
        return ChainState(h, v, rbm.visible.total(v))

    def __call__(self, state: ChainState, generator: Generator | None) -> ChainState:
        """Sample v, then h."""
        return self.up(self.down(state, generator), generator)


def check_chains(n_chains: int) -> int:
    """Return the number of chains as an integer, after checking that it is at least 1.

    Raises:
        InputError: the number is not a whole number of at least 1.

    Example:
        >>> check_chains(0)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: n_chains=0: sampling needs at least one chain; give 1 or more
    """
    if not is_count(n_chains):
        raise InputError(f"n_chains={n_chains!r}: sampling needs at least one chain; give 1 or more")
    return int(n_chains)


def check_gibbs_steps(n_steps: int | Sequence[int]) -> tuple[int, int]:
    """Return the first and the last number of Gibbs steps, after checking that both are at least 1.

    Raises:
        InputError: `n_steps` is not a whole number of at least 1 or a pair of such numbers.
    """
    pair: Sequence[Any] = n_steps if isinstance(n_steps, Sequence) and len(n_steps) == 2 else (n_steps, n_steps)
    for n in pair:
        if not is_count(n):
            raise InputError(f"n_steps={n_steps!r}: it must be a whole number of at least 1, or a pair of such numbers")
    return int(pair[0]), int(pair[1])


def steps_at(n_steps: tuple[int, int], progress: float) -> int:
    """Return the number of Gibbs steps at a training progress in [0, 1], interpolated from the first to the last.

    Example:
        >>> [steps_at((1, 25), progress) for progress in (0.0, 0.5, 1.0)]
        [1, 13, 25]
    """
    first, last = n_steps
    return round(first + (last - first) * progress)
