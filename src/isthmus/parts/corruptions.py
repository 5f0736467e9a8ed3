"""C(x~ | x): what is done to the rows before they are encoded, with fresh noise at every call."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.corruption_masks import CorruptionMaskSampler, Groups, bernoulli_mask, group_lists
from isthmus.parts.layers import check_choice
from isthmus.parts.sampling import randn_like


@dataclass(frozen=True)
class Corrupted:
    """What came out of a corruption.

    Attributes:
        x: x~, (batch, columns).
        hit: 1 where an entry was given to the corruption, whatever value it got; None where all were. A pixel that
            was 0 and is masked to 0 is hit: an emphasis on entries that *differ* would count the ink alone, and a
            decoder that gives ink everywhere would do well by it.
        mask: 1 where the encoder may look; None where the corruption declares nothing missing.
    """

    x: Float[Tensor, "batch columns"]
    corruption_mask: Float[Tensor, "batch columns"] | None
    mask: Float[Tensor, "batch columns"] | None = None


class Corruption(nn.Module, ABC):
    """x~ ~ C(x~ | x): rows in, corrupted rows out; every draw is from the generator handed to `forward`.

    It works in model space: a zero of a standardised column is the column's mean, and a scale is in its standard
    deviations. The draws are made where the generator lives, so a generator of the CPU gives every device the same.

    Attributes:
        mask_aware: whether the encoder is given [x * mask, mask], 2 * n_columns wide, in place of x.
    """

    mask_aware: ClassVar[bool] = False

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Corrupt.

        Args:
            x: rows in model space; they are not written to.
            generator: what the noise is drawn from.
            progress: how far learning has come, in [0, 1], for corruptions that change with it.
        """

    def prepare(self, blocks: Iterable[Float[Tensor, "block columns"]]) -> None:
        """Look at the rows before learning; most corruptions need not."""
        return


class GaussianNoise(Corruption):
    """x~ = x + s e,   e ~ N(0, I).

    Shapes: (batch, columns) -> (batch, columns); every entry is hit.

    Args:
        scale: s, in units of model space.

    Raises:
        InputError: a scale below 0 or not finite.

    Source: Vincent et al. (2010), section 3.3; Alain & Bengio (2013); DL book 14.5.

    Example:
        >>> noise = GaussianNoise(0.1)(torch.zeros(1000, 4), torch.Generator().manual_seed(0)).x
        >>> round(float(noise.std()), 2)
        0.1
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = check_scale(scale)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Add the noise."""
        return Corrupted(x + randn_like(x, generator).mul_(self.scale), None)

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return f"scale={self.scale}"


class Masking(Corruption):
    """x~_j = 0 where m_j = 1, else x_j,   m ~ Bernoulli(rate), each entry by itself or the columns of a group together.

    What a single entry's neighbours give away (the other columns of a one-hot category, the pixels around a pixel)
    has to be found elsewhere in the row when the group is masked. `patch_groups` and `pixel_groups` make the groups
    of images.

    Shapes: (batch, columns) -> (batch, columns).

    Args:
        rate: the share of entries or groups that is masked, in expectation.
        groups: lists of column numbers; a column that no list names is a group of its own. None: so is each.
        n_columns: the width of x, needed with groups.

    Raises:
        InputError: a rate outside [0, 1]; a column that does not exist or is in two groups.

    Source: Vincent et al. (2008), section 2.3; (2010), section 3.3. Patches: He et al., Masked autoencoders are
    scalable vision learners (2022), section 3.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> Masking(0.5)(torch.ones(1, 4), generator).x.tolist()
        [[0.0, 1.0, 0.0, 0.0]]
        >>> Masking(0.5, [[0, 1, 2], [3, 4]], 5)(torch.ones(2, 5), generator).x.tolist()
        [[0.0, 0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0, 1.0]]
    """

    def __init__(self, rate: float, groups: Groups | None = None, n_columns: int | None = None) -> None:
        super().__init__()
        self.corruption_masks = CorruptionMaskSampler(rate, groups, n_columns)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Mask."""
        corruption_mask = self.corruption_masks(x, generator)
        return Corrupted(x.masked_fill(corruption_mask, 0.0), corruption_mask.to(x.dtype))


class SaltAndPepper(Corruption):
    """x~_j = low_j or high_j by a fair coin where m_j = 1, else x_j,   m_j ~ Bernoulli(rate).

    Shapes: (batch, columns) -> (batch, columns).

    Low and high are 0 and 1 where the rows lie in [0, 1] (a pixel that no training row inks can be salted too), else
    the least and the largest value of each column. `prepare` learns them; before it they are 0 and 1.

    Args:
        rate: the share of entries that is replaced, in expectation; about half of the entries of binary rows that
            are replaced stay what they were.
        n_columns: the width of x; without it all columns share one low and one high.

    Raises:
        InputError: a rate outside [0, 1].

    Source: Vincent et al. (2010), section 3.3: "set to their minimum or maximum possible value".

    Example:
        >>> corruption = SaltAndPepper(1.0)
        >>> corruption.prepare([torch.tensor([[-3.0, 0.0], [0.0, 5.0]])])
        >>> corruption(torch.zeros(2, 4), torch.Generator().manual_seed(0)).x.unique().tolist()
        [-3.0, 5.0]
    """

    low: Tensor
    high: Tensor

    def __init__(self, rate: float, n_columns: int | None = None) -> None:
        super().__init__()
        self.corruption_masks = CorruptionMaskSampler(rate)
        shape = () if n_columns is None else (n_columns,)
        self.register_buffer("low", torch.zeros(shape))
        self.register_buffer("high", torch.ones(shape))

    @torch.no_grad()
    def prepare(self, blocks: Iterable[Float[Tensor, "block columns"]]) -> None:
        """Learn low and high from the rows."""
        ends = [(x.amin(0), x.amax(0)) for x in blocks]
        low = torch.stack([low for low, _ in ends]).amin(0)
        high = torch.stack([high for _, high in ends]).amax(0)
        if float(low.min()) >= 0.0 and float(high.max()) <= 1.0:
            low, high = torch.zeros_like(low), torch.ones_like(high)
        if self.low.ndim == 0:
            low, high = low.min(), high.max()
        self.low.copy_(low)
        self.high.copy_(high)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Replace."""
        corruption_mask = self.corruption_masks(x, generator)
        salt = bernoulli_mask(x.shape, 0.5, generator).to(x.device)
        value = torch.where(salt, self.high.to(x.dtype), self.low.to(x.dtype))
        return Corrupted(torch.where(corruption_mask, value, x), corruption_mask.to(x.dtype))


class MissingEntries(Corruption):
    """x~ = x * (1 - m),  mask = 1 - m,   m ~ Bernoulli(rate): entries are declared missing, and the encoder is told.

    The encoder is given [x~, mask]: unlike in `Masking`, a zero that was measured is told from a zero that stands
    for nothing. So the model reads rows with missing entries, and its reconstruction fills them in.

    Shapes: (batch, columns) -> (batch, columns), and the mask beside it.

    Args:
        rate: the share of entries or groups that is declared missing, in expectation.
        groups: columns that go missing together (the one-hot columns of a category); None is each by itself.
        n_columns: the width of x, needed with groups.

    Raises:
        InputError: a rate outside [0, 1]; a column that does not exist or is in two groups.

    Source: Vincent et al. (2008), section 2.3, "filling in"; Gondara & Wang, MIDA: multiple imputation using
    denoising autoencoders (2018).

    Example:
        >>> out = MissingEntries(0.5)(torch.ones(1, 3), torch.Generator().manual_seed(0))
        >>> out.x.tolist(), out.mask.tolist(), out.corruption_mask.tolist()
        ([[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]], [[1.0, 0.0, 1.0]])
    """

    mask_aware = True

    def __init__(self, rate: float, groups: Groups | None = None, n_columns: int | None = None) -> None:
        super().__init__()
        self.corruption_masks = CorruptionMaskSampler(rate, groups, n_columns)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Take entries away."""
        corruption_mask = self.corruption_masks(x, generator)
        return Corrupted(
            x.masked_fill(corruption_mask, 0.0), corruption_mask.to(x.dtype), (~corruption_mask).to(x.dtype)
        )


class CustomCorruption(Corruption):
    """x~ = c(x, generator), for any callable c of your own.

    Shapes: (batch, columns) -> (batch, columns). An entry is hit where x~ differs from x: nothing else is known.

    Args:
        function: c, given a copy of the rows and the generator.

    Raises:
        InputError: at the first batch, where c returns no tensor, another shape, or what is not finite.

    Example:
        >>> halve = CustomCorruption(lambda x, generator: x / 2)
        >>> halve(torch.tensor([[4.0, 0.0]]), torch.Generator())
        Corrupted(x=tensor([[2., 0.]]), corruption_mask=tensor([[1., 0.]]), mask=None)
    """

    def __init__(self, function: Callable[[Tensor, Generator], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.title = getattr(function, "__name__", type(function).__name__)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Call it, and look at what it returned."""
        corrupted = self._check_output(self.function(x.clone(), generator), x)
        return Corrupted(corrupted, (corrupted != x).to(x.dtype))

    def _check_output(self, corrupted: Any, x: Tensor) -> Tensor:
        """What the callable returned, if it can stand for the rows."""
        if not isinstance(corrupted, Tensor):
            raise InputError(
                f"corruption {self.title} returned {type(corrupted).__name__}; return a torch tensor of the rows' shape"
            )
        if corrupted.shape != x.shape:
            raise InputError(
                f"corruption {self.title} returned shape {tuple(corrupted.shape)} for rows of shape {tuple(x.shape)}; "
                "return the same shape"
            )
        wrong = ~corrupted.isfinite() & x.isfinite()
        if bool(wrong.any()):
            row, column = torch.nonzero(wrong)[0].tolist()
            raise InputError(
                f"corruption {self.title} returned {float(corrupted[row, column])} at row {row} of the batch, column "
                f"{column}; return finite numbers"
            )
        return corrupted.to(x)

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return self.title


CORRUPTIONS = ("gaussian", "masking", "salt-and-pepper", "groups", "missing")
"""What users type."""


def build_corruption(
    name: str | Callable[[Tensor, Generator], Tensor],
    *,
    rate: float,
    scale: float,
    groups: Groups | None = None,
    n_columns: int | None = None,
) -> Corruption:
    """The corruption that a user asked for.

    Args:
        name: one of `CORRUPTIONS`, or a callable (x, generator) -> x~.
        rate: the share of entries or groups; "gaussian" and a callable do not read it.
        scale: the standard deviation of "gaussian", in model space.
        groups: for "groups", and for "missing" where columns go missing together.
        n_columns: the width of x, needed with groups; where it is known, "salt-and-pepper" keeps a low and a high
            for each column.

    Raises:
        InputError: an unknown name; a rate, a scale or groups that cannot be meant.

    Example:
        >>> build_corruption("masking", rate=0.25, scale=0.1)
        Masking(
          (corruption_masks): CorruptionMaskSampler(rate=0.25)
        )
    """
    if callable(name):
        return CustomCorruption(name)
    check_choice("corruption", name, CORRUPTIONS)
    if name == "gaussian":
        return GaussianNoise(scale)
    if name == "salt-and-pepper":
        return SaltAndPepper(rate, n_columns)
    if name == "missing":
        return MissingEntries(rate, groups, n_columns)
    if name == "groups" and not group_lists(groups):
        raise InputError(
            "corruption 'groups' was given no groups; give lists of columns that go together, such as [[0, 1], [2, 3]]"
        )
    return Masking(rate, groups if name == "groups" else None, n_columns)


def check_scale(scale: float) -> float:
    """Refuse what is no standard deviation.

    Raises:
        InputError: a scale below 0 or not finite.
    """
    if isinstance(scale, bool) or not isinstance(scale, Real) or not 0.0 <= scale < math.inf:
        raise InputError(f"corruption scale {scale!r} is not a standard deviation; give a number of at least 0")
    return float(scale)
