"""Draws that likelihoods and energies share, from an explicit generator, and the states of which they are draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def derived_generator(generator: Generator) -> Generator:
    """Return a generator that is seeded by a draw from another one.

    Example:
        >>> first, second = (torch.Generator().manual_seed(0) for _ in range(2))
        >>> bool((torch.rand(3, generator=derived_generator(first)) == torch.rand(3, generator=second)).any())
        False
    """
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))


def rand_like(like: Tensor, generator: Generator) -> Tensor:
    """Numbers from [0, 1) in the shape of another tensor, drawn where the generator lives; of fp32 or more.

    In bf16 there are 256 of them, and a rate of one in a thousand would be met by one draw in 256.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.rand(like.shape, generator=generator, dtype=dtype, device=generator.device).to(like.device)


def randn_like(like: Tensor, generator: Generator) -> Tensor:
    """Standard normal numbers in the shape of another tensor, drawn where the generator lives."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def bernoulli(rate: Tensor, generator: Generator) -> Tensor:
    """1 where a uniform number falls below the rate, else 0: several times faster than `torch.bernoulli`."""
    return rand_like(rate, generator).lt_(rate.detach()).to(rate.dtype)


def enumerate_states(sizes: Sequence[int], start: int, stop: int) -> Tensor:
    """The combinations numbered from `start` to `stop` of choices among `sizes[0]`, `sizes[1]`, ...: (n, len(sizes)).

    Example:
        >>> enumerate_states([2, 3], 0, 6).T.tolist()
        [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
    """
    return mixed_radix(sizes, torch.arange(start, stop))


def mixed_radix(sizes: Sequence[int], number: Tensor) -> Tensor:
    """The combinations of these numbers, in the order of `enumerate_states`: (n, len(sizes)).

    Example:
        >>> mixed_radix([2, 3], torch.tensor([5, 1])).tolist()
        [[1, 2], [0, 1]]
    """
    choices = []
    for size in reversed(sizes):
        choices.append(number % size)
        number = number // size
    return torch.stack(choices[::-1], -1)
