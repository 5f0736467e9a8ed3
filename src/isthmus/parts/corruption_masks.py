"""Random masks that select the entries to corrupt: independently, or by groups of columns.

Typical groups are the one-hot columns of a category, the channels of a pixel and the pixels of a patch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from isthmus.errors import InputError

Groups = Sequence[Sequence[int]]
"""Lists of column numbers; a column in no list forms a group of its own."""


class CorruptionMaskSampler(nn.Module):
    """Sampler of corruption masks m ~ Bernoulli(rate), independent for each entry or for each group of columns.

    Shapes: (batch, columns) -> boolean (batch, columns).

    Args:
        rate: the expected fraction of entries or groups that are corrupted.
        groups: lists of column numbers; None makes every column independent.
        n_columns: number of columns of x, required with groups.

    Raises:
        InputError: a rate outside [0, 1]; groups that do not fit the columns.

    Example:
        >>> CorruptionMaskSampler(1.0)(torch.zeros(1, 2), torch.Generator()).tolist()
        [[True, True]]
    """

    group: Tensor | None

    def __init__(self, rate: float, groups: Groups | None = None, n_columns: int | None = None) -> None:
        super().__init__()
        self.rate = check_rate(rate)
        listed = group_lists(groups)
        if listed and n_columns is None:
            raise InputError("a corruption with groups needs the number of columns; give n_columns")
        group = group_of_columns(listed, n_columns) if listed and n_columns is not None else None
        self.n_groups = 0 if group is None else int(group.max()) + 1
        # Not in the state_dict: the constructor rebuilds it from the groups.
        self.register_buffer("group", group, persistent=False)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator) -> Bool[Tensor, "batch columns"]:
        """Sample a mask for the rows."""
        if self.group is None:
            return bernoulli_mask(x.shape, self.rate, generator).to(x.device)
        return bernoulli_mask((len(x), self.n_groups), self.rate, generator).to(x.device)[:, self.group]

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"rate={self.rate}" + (f", n_groups={self.n_groups}" if self.n_groups else "")


def group_lists(groups: Groups | None) -> list[list[int]]:
    """Convert groups given as lists, tuples or arrays to lists of whole numbers; None gives no groups.

    Raises:
        InputError: `groups` is not a list of lists of column numbers.

    Example:
        >>> group_lists(((0, 2), [1])), group_lists(None)
        ([[0, 2], [1]], [])
    """
    if groups is None:
        return []
    advice = "give lists of column numbers, such as [[0, 1], [2, 3]]"
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise InputError(f"groups={groups!r}: it is not a list of groups; {advice}")
    listed = []
    for number, group in enumerate(groups):
        if isinstance(group, str) or not isinstance(group, Iterable) or getattr(group, "ndim", 1) == 0:
            raise InputError(f"groups: group {number} is {group!r}, not a list; {advice}")
        listed.append(list(group))
        if not listed[-1]:
            raise InputError(f"groups: group {number} is empty; {advice}")
        for column in listed[-1]:
            if isinstance(column, bool) or not hasattr(column, "__index__"):
                raise InputError(f"groups: group {number} has {column!r}, not a column number; {advice}")
    return listed


def group_of_columns(groups: Groups, n_columns: int) -> Int[Tensor, " columns"]:
    """Return the group number of each column; columns in no list get groups of their own, after the others.

    Raises:
        InputError: a column does not exist, or is in two groups.

    Example:
        >>> group_of_columns([[0, 2]], 4).tolist()
        [0, 1, 0, 2]
    """
    group = [-1] * n_columns
    for number, columns in enumerate(group_lists(groups)):
        for column in columns:
            if not 0 <= column < n_columns:
                raise InputError(
                    f"groups: group {number} contains column {column}, but the rows have {n_columns} "
                    f"columns; give columns from 0 to {n_columns - 1}"
                )
            if group[column] not in (-1, number):
                raise InputError(f"groups: column {column} is in groups {group[column]} and {number}; leave it in one")
            group[column] = number
    singles = iter(range(len(groups), len(groups) + n_columns))
    return torch.tensor([next(singles) if number < 0 else number for number in group])


def pixel_groups(image_shape: tuple[int, int, int]) -> list[list[int]]:
    """Return one group for each pixel, which contains all its channels; images are flattened channels first.

    Args:
        image_shape: (channels, height, width).

    Example:
        >>> pixel_groups((3, 1, 2))
        [[0, 2, 4], [1, 3, 5]]
    """
    return patch_groups(image_shape, 1)


def patch_groups(image_shape: tuple[int, int, int], patch_size: int | None = None) -> list[list[int]]:
    """Return one group for each square patch of an image, or each span of a series, which contains all its channels.

    Patches at the right and lower edge may be smaller. These are the groups of `corruption="groups"` for images:
    neighbours predict a single pixel, but not a patch.

    Args:
        image_shape: (channels, height, width), or (channels, 1, steps); images are flattened channels first.
        patch_size: the side in pixels; None means a seventh of the shorter side of the image, or of the steps, at least
            2 pixels.

    Raises:
        InputError: the patch size is below 1.

    Example:
        >>> patch_groups((1, 2, 4), 2), len(patch_groups((3, 28, 28)))
        ([[0, 1, 4, 5], [2, 3, 6, 7]], 49)
    """
    channels, height, width = image_shape
    shorter = width if height == 1 else min(height, width)
    side = max(2, round(shorter / 7)) if patch_size is None else patch_size
    if side < 1:
        raise InputError(f"patch_size={patch_size!r}: a patch has a side of at least 1 pixel; give 1 or more")
    columns = torch.arange(channels * height * width).view(channels, height, width)
    return [
        columns[:, top : top + side, left : left + side].flatten().tolist()
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def bernoulli_mask(shape: Sequence[int], rate: float, generator: Generator) -> Bool[Tensor, ...]:
    """Sample a boolean mask m ~ Bernoulli(rate) on the generator's device; rates of 0 and 1 are exact.

    Example:
        >>> [bernoulli_mask((2, 3), rate, torch.Generator()).float().mean().item() for rate in (1.0, 0.0)]
        [1.0, 0.0]
    """
    return torch.rand(list(shape), generator=generator, device=generator.device) < rate


def check_rate(rate: float) -> float:
    """Return the corruption rate as a float, after checking that it lies in [0, 1].

    Raises:
        InputError: the rate is outside [0, 1].
    """
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0.0 <= rate <= 1.0:
        raise InputError(f"corruption rate {rate!r} is outside [0, 1]; give a number from 0 (none) to 1 (every entry)")
    return float(rate)
