"""Random numbers from an explicit generator, and the enumeration of discrete states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def derived_generator(generator: Generator, device: str | torch.device = "cpu") -> Generator:
    """Return a generator on a device that is seeded by a sample from another one.

    Example:
        >>> first, second = (torch.Generator().manual_seed(0) for _ in range(2))
        >>> bool((torch.rand(3, generator=derived_generator(first)) == torch.rand(3, generator=second)).any())
        False
    """
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def rand_like(like: Tensor, generator: Generator) -> Tensor:
    """Sample uniform numbers from [0, 1) in the shape of `like`, in fp32 or better.

    They are generated on the generator's device and moved to that of `like`. In bf16 there are only 256 different
    numbers, so that an event of probability 1/1000 would occur with probability 1/256.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.rand(like.shape, generator=generator, dtype=dtype, device=generator.device).to(like.device)


def randn_like(like: Tensor, generator: Generator) -> Tensor:
    """Sample standard normal numbers in the shape and dtype of `like`, on the generator's device, and move them."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def bernoulli(rate: Tensor, generator: Generator) -> Tensor:
    """Sample 1 with probability `rate`, else 0; several times faster than `torch.bernoulli`."""
    return rand_like(rate, generator).lt_(rate.detach()).to(rate.dtype)


def enumerate_states(sizes: Sequence[int], start: int, stop: int) -> Tensor:
    """Return the joint states numbered `start` to `stop - 1` of units with `sizes` states each: (n, len(sizes)).

    Example:
        >>> enumerate_states([2, 3], 0, 6).T.tolist()
        [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
    """
    return mixed_radix(sizes, torch.arange(start, stop))


def mixed_radix(sizes: Sequence[int], number: Tensor) -> Tensor:
    """Return the joint states of the given numbers, in the order of `enumerate_states`: (n, len(sizes)).

    Example:
        >>> mixed_radix([2, 3], torch.tensor([5, 1])).tolist()
        [[1, 2], [0, 1]]
    """
    choices = []
    for size in reversed(sizes):
        choices.append(number % size)
        number = number // size
    return torch.stack(choices[::-1], -1)
