"""Corruptions C(x~ | x) of the encoder's input, with fresh noise at every call."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.corruption_masks import CorruptionMaskSampler, Groups, bernoulli_mask, check_rate
from isthmus.parts.sampling import rand_like, randn_like


@dataclass(frozen=True)
class Corrupted:
    """Output of a corruption.

    Attributes:
        x: x~, (batch, columns).
        corruption_mask: 1 where the corruption was applied to an entry, even if it left the value unchanged; None where
            it was applied to all. A pixel that was 0 and is masked to 0 counts as corrupted: an emphasis on entries
            that *differ* would weight the ink alone, and a decoder that outputs ink everywhere would score well.
        mask: 1 where the encoder sees the entry; None where the corruption declares no entry missing.
    """

    x: Float[Tensor, "batch columns"]
    corruption_mask: Float[Tensor, "batch columns"] | None
    mask: Float[Tensor, "batch columns"] | None = None


class Corruption(nn.Module, ABC):
    """Base class of corruptions x~ ~ C(x~ | x); all randomness comes from the generator passed to `forward`.

    A corruption acts in model space: 0 in a standardised column is the column's mean, and a scale is in standard
    deviations of the column. Noise is generated on the generator's device, so a CPU generator gives the same noise for
    every device.

    Attributes:
        mask_aware: True if the corruption returns a mask, which the inference needs (`Inference.sees_mask`).
    """

    mask_aware: ClassVar[bool] = False

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Corrupt a batch.

        Args:
            x: rows in model space; they are not modified.
            generator: the source of the noise.
            progress: training progress in [0, 1], for corruptions that change with it.
        """

    def prepare(self, blocks: Iterable[Float[Tensor, "block columns"]]) -> None:
        """Estimate statistics from the rows before training; most corruptions need none."""
        return


class GaussianNoise(Corruption):
    """Additive Gaussian noise: x~ = x + s e,   e ~ N(0, I).

    Shapes: (batch, columns) -> (batch, columns); every entry is corrupted.

    Args:
        scale: s, in units of model space; or (low, high), and s of each row is uniform between them.

    Raises:
        InputError: a scale is negative or not finite; low is above high.

    Source: Vincent et al. (2010), section 3.3; Alain & Bengio (2013); DL book 14.5. A range: Zhang et al., Beyond a
    Gaussian denoiser, IEEE TIP 26 (2017), section III.D.

    Example:
        >>> noise = GaussianNoise(0.1)(torch.zeros(1000, 4), torch.Generator().manual_seed(0)).x
        >>> round(float(noise.std()), 2)
        0.1
    """

    def __init__(self, scale: float | Sequence[float]) -> None:
        super().__init__()
        self.scale = check_scale(scale)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Add the noise."""
        if isinstance(self.scale, float):
            return Corrupted(x + randn_like(x, generator).mul_(self.scale), None)
        low, high = self.scale
        of_rows = rand_like(x[..., :1], generator).mul_(high - low).add_(low).to(x.dtype)
        return Corrupted(x + randn_like(x, generator).mul_(of_rows), None)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"scale={self.scale}"


class Masking(Corruption):
    """Masking noise: x~_j = 0 where m_j = 1, else x_j,   m ~ Bernoulli(rate).

    Entries are masked independently, or the columns of a group together. The neighbours of a single entry (the other
    columns of a one-hot category, the pixels around a pixel) often determine it; where its group is masked, the model
    has to use the rest of the row. `patch_groups` and `pixel_groups` make groups for images.

    Shapes: (batch, columns) -> (batch, columns).

    Args:
        rate: the expected fraction of entries or groups that are masked.
        groups: lists of column numbers; a column in no list forms a group of its own. None makes every column
            independent.
        n_columns: number of columns of x, required with groups.

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
        """Set the masked entries to 0."""
        corruption_mask = self.corruption_masks(x, generator)
        return Corrupted(x.masked_fill(corruption_mask, 0.0), corruption_mask.to(x.dtype))


class SaltAndPepper(Corruption):
    """Salt-and-pepper noise: x~_j = low_j or high_j, each with probability 1/2, where m_j = 1, else x_j.

        m_j ~ Bernoulli(rate)

    Shapes: (batch, columns) -> (batch, columns).

    Low and high are 0 and 1 where the rows lie in [0, 1] (so that pixels that are 0 in all training rows change too),
    else the minimum and the maximum of each column. `prepare` estimates them; before it they are 0 and 1.

    Args:
        rate: the expected fraction of entries that are replaced; in binary rows about half of the replaced entries
            keep their value.
        n_columns: number of columns of x; without it all columns share one low and one high.

    Raises:
        InputError: the rate is outside [0, 1].

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
        """Estimate low and high from the rows."""
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
        """Replace the selected entries."""
        corruption_mask = self.corruption_masks(x, generator)
        salt = bernoulli_mask(x.shape, 0.5, generator).to(x.device)
        value = torch.where(salt, self.high.to(x.dtype), self.low.to(x.dtype))
        return Corrupted(torch.where(corruption_mask, value, x), corruption_mask.to(x.dtype))


class MissingEntries(Corruption):
    """Simulated missing entries: x~ = x * (1 - m),  mask = 1 - m,   m ~ Bernoulli(rate).

    The encoder's input is [x~, mask]: unlike with `Masking`, it distinguishes an observed zero from a missing entry.
    The model therefore accepts rows with missing entries, and its reconstruction imputes them.

    Shapes: (batch, columns) -> (batch, columns), and the mask of the same shape.

    Args:
        rate: the expected fraction of entries or groups that are declared missing.
        groups: columns that are missing together (the one-hot columns of a category); None makes every column
            independent.
        n_columns: number of columns of x, required with groups.

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
        """Set the missing entries to 0 and return the mask of the others."""
        corruption_mask = self.corruption_masks(x, generator)
        return Corrupted(
            x.masked_fill(corruption_mask, 0.0), corruption_mask.to(x.dtype), (~corruption_mask).to(x.dtype)
        )


class CopiedGaps(MissingEntries):
    """Simulated missing entries: those of other rows for some rows, and those of `MissingEntries` for the others.

        m = patterns[i], i uniform, with probability `share`;  m_j ~ Bernoulli(rate) otherwise

    Shapes: (batch, columns) -> (batch, columns), and the mask of the same shape.

    Args:
        patterns: the gaps of rows, True where an entry is missing, (patterns, columns).
        share: the probability that a row gets a pattern.
        rate, groups: of the other rows, as in `MissingEntries`.

    Source: van Buuren, Flexible imputation of missing data (2018), section 2.2.3, for missingness that depends on
    other columns.

    Example:
        >>> out = CopiedGaps(torch.tensor([[False, True]]), 1.0, 0.5)(torch.ones(2, 2), torch.Generator())
        >>> out.x.tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """

    patterns: Tensor

    def __init__(
        self, patterns: Bool[Tensor, "patterns columns"], share: float, rate: float, groups: Groups | None = None
    ) -> None:
        super().__init__(rate, groups, patterns.shape[1])
        self.share = check_rate(share)
        self.register_buffer("patterns", patterns, persistent=False)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Set the missing entries to 0 and return the mask of the others."""
        hidden = self.corruption_masks(x, generator)
        number = torch.randint(len(self.patterns), (len(x),), generator=generator, device=generator.device)
        copied = bernoulli_mask((len(x), 1), self.share, generator).to(x.device)
        hidden = torch.where(copied, self.patterns[number.to(x.device)], hidden)
        return Corrupted(x.masked_fill(hidden, 0.0), hidden.to(x.dtype), (~hidden).to(x.dtype))


class CustomCorruption(Corruption):
    """User-defined corruption: x~ = c(x, generator).

    Shapes: (batch, columns) -> (batch, columns). An entry counts as corrupted where x~ differs from x.

    Args:
        function: c; it receives a copy of the rows and the generator. Its random numbers are generated on the
            generator's device, `generator.device`: the rows' device in training, the CPU in evaluation.

    Raises:
        InputError: c returns something other than a tensor or another shape; (in `prepare`) c returns non-finite values
            for finite ones.

    Example:
        >>> halve = CustomCorruption(lambda x, generator: x / 2)
        >>> halve(torch.tensor([[4.0, 0.0]]), torch.Generator())
        Corrupted(x=tensor([[2., 0.]]), corruption_mask=tensor([[1., 0.]]), mask=None)
    """

    def __init__(self, function: Callable[[Tensor, Generator], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.title = getattr(function, "__name__", type(function).__name__)

    def prepare(self, blocks: Iterable[Float[Tensor, "block columns"]]) -> None:
        """Check that the function returns finite values; `forward` does not, since it would wait for the device."""
        generator = Generator().manual_seed(0)
        for x in blocks:
            self._check_values(self._check_output(self.function(x.clone(), generator), x), x)

    def forward(self, x: Float[Tensor, "batch columns"], generator: Generator, progress: float = 0.0) -> Corrupted:
        """Call the function and check type and shape of its output."""
        corrupted = self._check_output(self.function(x.clone(), generator), x)
        return Corrupted(corrupted, (corrupted != x).to(x.dtype))

    def _check_output(self, corrupted: Any, x: Tensor) -> Tensor:
        """Return the output of the callable in the dtype of x, after checking type and shape."""
        if not isinstance(corrupted, Tensor):
            raise InputError(
                f"corruption {self.title} returned {type(corrupted).__name__}; return a torch tensor of the rows' shape"
            )
        if corrupted.shape != x.shape:
            raise InputError(
                f"corruption {self.title} returned shape {tuple(corrupted.shape)} for rows of shape {tuple(x.shape)}; "
                "return the same shape"
            )
        return corrupted.to(x)

    def _check_values(self, corrupted: Tensor, x: Tensor) -> None:
        wrong = ~corrupted.isfinite() & x.isfinite()
        if bool(wrong.any()):
            row, column = torch.nonzero(wrong)[0].tolist()
            raise InputError(
                f"corruption {self.title} returned {float(corrupted[row, column])} at row {row} of the batch, column "
                f"{column}; return finite numbers"
            )

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return self.title


def check_scale(scale: float | Sequence[float]) -> float | tuple[float, float]:
    """Return the noise scale as a float, or a range as two, after checking that they are finite and not negative.

    Raises:
        InputError: a scale is negative or not finite; a range is not two scales in order.

    Example:
        >>> check_scale(1), check_scale([0, 0.5])
        (1.0, (0.0, 0.5))
    """
    if isinstance(scale, list | tuple):
        if len(scale) != 2 or not all(map(_is_scale, scale)) or scale[0] > scale[1]:
            raise InputError(f"corruption scale {scale!r} is not a range; give two standard deviations (low, high)")
        return float(scale[0]), float(scale[1])
    if not _is_scale(scale):
        raise InputError(f"corruption scale {scale!r} is not a standard deviation; give a finite number of at least 0")
    return float(cast(float, scale))


def _is_scale(scale: Any) -> bool:
    return not isinstance(scale, bool) and isinstance(scale, Real) and 0.0 <= float(scale) < math.inf
