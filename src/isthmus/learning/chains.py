"""Chains: how a model is sampled from. One `run_chain` for all of them; what a step is, each machine says.

    state <- step(state, generator),   n_steps times

Block Gibbs: v ~ p(v | h), then h ~ p(h | v), each layer at once, by uniform numbers that are compared with the rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

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
    """The state after so many steps; no gradient flows through them.

    Args:
        step: (state, generator) -> the next state; without a generator it moves to the mean.
        state: where the chains stand, all of them side by side.
        n_steps: how many steps; 0 leaves them where they are.
        generator: of every draw.

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
        chains: one a chain, set in place.
        values: those of the rows of the block.
        first: the number of the first row of the block, of `n_rows`.

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
    """Where chains of a harmonium stand.

    Attributes:
        h: hidden units, (chains, n_hidden).
        v: visible units from which they were drawn, (chains, columns); None before the first step.
        total: words a row, (chains,), where the visible units are word counts.
    """

    h: Float[Tensor, "chains hidden"]
    v: Float[Tensor, "chains columns"] | None = None
    total: Float[Tensor, " chains"] | None = None

    @property
    def visible(self) -> Float[Tensor, "chains columns"]:
        """v, once a step was made."""
        assert self.v is not None
        return self.v


class BlockGibbs:
    """One step of block Gibbs sampling: v ~ p(v | h), then h ~ p(h | v).

    Args:
        rbm: the machine.

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
        """v ~ p(v | h); E[v | h] without a generator."""
        rbm = self.rbm
        if generator is None:
            return replace(state, v=rbm.visible_mean(state.h, state.total))
        return replace(state, v=rbm.sample_visible(state.h, generator, state.total))

    def up(self, state: ChainState, generator: Generator | None, a: Tensor | None = None) -> ChainState:
        """h ~ p(h | v); E[h | v] without a generator. The input a of the hidden units may be there already."""
        rbm = self.rbm
        a = rbm(state.visible) if a is None else a
        h = rbm.mean_given(a) if generator is None else rbm.sample_given(a, generator, state.h)
        return replace(state, h=h)

    def start_chains(
        self, v: Float[Tensor, "chains columns"], generator: Generator | None, a: Tensor | None = None
    ) -> ChainState:
        """Chains at rows: h ~ p(h | v); E[h | v] without a generator. The input a may be there already."""
        rbm = self.rbm
        a = rbm(v) if a is None else a
        h = rbm.mean_given(a) if generator is None else rbm.sample_given(a, generator)
        return ChainState(h, v, rbm.visible.total(v))

    def __call__(self, state: ChainState, generator: Generator | None) -> ChainState:
        """Down and up."""
        return self.up(self.down(state, generator), generator)


def check_chains(n_chains: int) -> int:
    """Refuse fewer than one chain.

    Raises:
        InputError: with what was found.

    Example:
        >>> check_chains(0)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: n_chains=0: a model is sampled by at least one chain; give 1 or more
    """
    if not is_count(n_chains):
        raise InputError(f"n_chains={n_chains!r}: a model is sampled by at least one chain; give 1 or more")
    return int(n_chains)
