"""Random numbers from an explicit generator, and the enumeration of discrete states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Generator, Tensor

from isthmus.errors import InputError


class RowGenerators(Generator):
    """A generator for each row of a batch, for random numbers of a row that do not depend on the other rows.

    `rand_like` and `randn_like` sample the numbers of row i from generator i. The axis before the last one is that of
    the rows. Torch's own functions take it as one more generator, which is unrelated to the rows.

    Args:
        generators: the generator of each row, on the CPU.

    Example:
        >>> def row(seed):
        ...     return torch.Generator().manual_seed(seed)
        >>> both = randn_like(torch.zeros(5, 2, 3), RowGenerators([row(1), row(2)]))
        >>> torch.equal(both[:, 1], torch.randn(5, 3, generator=row(2)))
        True
    """

    def __new__(cls, generators: Sequence[Generator]) -> Self:
        """Create the generator that torch's own functions use."""
        return super().__new__(cls)

    def __init__(self, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.generators = tuple(generators)

    def sample(self, function: Callable[..., Tensor], like: Tensor, dtype: torch.dtype) -> Tensor:
        """Sample by `torch.rand` or `torch.randn` in the shape of `like`, (..., rows, n), on the CPU.

        Raises:
            InputError: `like` has another number of rows.
        """
        n_rows = like.shape[-2] if like.ndim > 1 else None
        if n_rows != len(self.generators):
            raise InputError(
                f"{len(self.generators)} generators of rows cannot sample numbers of shape {tuple(like.shape)}: the "
                "axis before the last one must be that of the rows"
            )
        shape = (*like.shape[:-2], like.shape[-1])
        return torch.stack([function(shape, generator=row, dtype=dtype) for row in self.generators], -2)


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
    if isinstance(generator, RowGenerators):
        return generator.sample(torch.rand, like, dtype).to(like.device)
    return torch.rand(like.shape, generator=generator, dtype=dtype, device=generator.device).to(like.device)


def randn_like(like: Tensor, generator: Generator) -> Tensor:
    """Sample standard normal numbers in the shape and dtype of `like`, on the generator's device, and move them."""
    if isinstance(generator, RowGenerators):
        return generator.sample(torch.randn, like, like.dtype).to(like.device)
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
