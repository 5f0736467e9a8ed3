"""Values of `corruption`: how the rows are corrupted in training, before they are encoded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from isthmus.errors import InputError
from isthmus.learning.objectives import check_entry_weights
from isthmus.parts import corruptions
from isthmus.parts.corruption_masks import check_rate, group_lists, patch_groups
from isthmus.parts.corruptions import Corruption, CustomCorruption, check_scale
from isthmus.values.value import Value, value_argument

Groups = Sequence[Sequence[int]]
"""Lists of columns."""

CorruptionFunction = Callable[[Tensor, Generator], Tensor]
"""A corruption of a user, (x, generator) -> x~ on tensors in model space."""


@dataclass(frozen=True)
class RowShape:
    """The properties of a row that a corruption needs.

    Attributes:
        n_columns: the width of model space.
        groups: columns of model space that stand for one column of a table, such as those of a category.
        image_shape: (channels, height, width) of images, None for other rows.
    """

    n_columns: int
    groups: Groups = ()
    image_shape: tuple[int, int, int] | None = None


class CorruptionValue(Value):
    """Base class of the values of `corruption`.

    Attributes:
        corrupted_weight, clean_weight: weights of the corrupted and of the clean entries in the criterion, alpha and
            beta of the emphasised denoising autoencoder. With 1 and 0 only corrupted entries count.
        mask_aware: True if the encoder gets the mask of the visible entries.
        of_columns: True if the corruption acts on the columns of the data, so that codes have no use for it.
    """

    corrupted_weight: float
    clean_weight: float
    mask_aware: ClassVar[bool] = False
    of_columns: ClassVar[bool] = False

    @abstractmethod
    def build(self, row: RowShape) -> Corruption:
        """Return the corruption of rows of this shape."""


class RandomEntries(CorruptionValue):
    """Base class of corruptions of random entries, or of random groups of entries."""

    rate: float

    def check(self) -> None:
        """Refuse a rate outside [0, 1], and weights that are negative or both 0."""
        check_rate(self.rate)
        check_entry_weights(self.corrupted_weight, self.clean_weight)


class RandomGroups(RandomEntries):
    """Base class of corruptions of random groups of entries."""

    groups: Groups | None

    def check(self) -> None:
        """Refuse what `RandomEntries` refuses, and groups that are not lists of columns."""
        super().check()
        group_lists(self.groups)


@dataclass(frozen=True, repr=False)
class Masking(RandomEntries):
    """Masking noise: entries become 0, which is the mean in standardised columns.

        x~_j = 0 where m_j = 1, else x_j,   m_j ~ Bernoulli(rate)

    Args:
        rate: expected fraction of the entries that are masked.
        corrupted_weight, clean_weight: weights of masked and of other entries in the criterion; with 1 and 0 only
            masked entries count.

    Raises:
        InputError: a rate outside [0, 1]; weights that are negative or both 0.

    Source: Vincent et al., Extracting and composing robust features with denoising autoencoders (2008), section 2.3;
    Stacked denoising autoencoders, JMLR 11 (2010), section 3.4, for the weights.

    Example:
        >>> from isthmus import Masking
        >>> Masking(rate=0.5)
        Masking(rate=0.5)
    """

    rate: float = 0.25
    corrupted_weight: float = 1.0
    clean_weight: float = 1.0

    def build(self, row: RowShape) -> Corruption:
        """Return the corruption."""
        return corruptions.Masking(self.rate)


@dataclass(frozen=True, repr=False)
class GaussianNoise(CorruptionValue):
    """Gaussian noise on every entry: x~ = x + scale e,   e ~ N(0, I).

    Args:
        scale: standard deviation in model space; a column that was standardised has standard deviation 1 there. With
            (low, high) each row has a standard deviation of its own, uniform between them, so that one model removes
            noise of any of these levels.

    Raises:
        InputError: a scale is negative or not finite; low is above high.

    Source: Vincent et al., Stacked denoising autoencoders, JMLR 11 (2010), section 3.3; Alain & Bengio, What
    regularized auto-encoders learn from the data-generating distribution (2013). A range of scales: Zhang et al.,
    Beyond a Gaussian denoiser, IEEE Transactions on Image Processing 26 (2017), section III.D.

    Example:
        >>> from isthmus import GaussianNoise
        >>> GaussianNoise(scale=0.1)
        GaussianNoise(scale=0.1)
    """

    scale: float | tuple[float, float] = 0.3

    corrupted_weight: ClassVar[float] = 1.0  # type: ignore[misc]
    clean_weight: ClassVar[float] = 1.0  # type: ignore[misc]

    def check(self) -> None:
        """Refuse scales that are negative or not finite, and a range that is not two of them in order."""
        check_scale(self.scale)

    def build(self, row: RowShape) -> Corruption:
        """Return the corruption."""
        return corruptions.GaussianNoise(self.scale)


@dataclass(frozen=True, repr=False)
class SaltAndPepper(RandomEntries):
    """Salt-and-pepper noise: entries become the minimum or the maximum of their column, each with probability 1/2.

    The two values are 0 and 1 where all rows lie in [0, 1].

    Args:
        rate: expected fraction of the entries that are replaced.
        corrupted_weight, clean_weight: weights of replaced and of other entries in the criterion.

    Raises:
        InputError: a rate outside [0, 1]; weights that are negative or both 0.

    Source: Vincent et al., Stacked denoising autoencoders, JMLR 11 (2010), section 3.3.

    Example:
        >>> from isthmus import SaltAndPepper
        >>> SaltAndPepper(rate=0.1)
        SaltAndPepper(rate=0.1)
    """

    rate: float = 0.25
    corrupted_weight: float = 1.0
    clean_weight: float = 1.0

    def build(self, row: RowShape) -> Corruption:
        """Return the corruption."""
        return corruptions.SaltAndPepper(self.rate, row.n_columns)


@dataclass(frozen=True, repr=False)
class GroupMasking(RandomGroups):
    """Masking noise on groups of columns, which become 0 together.

    The neighbours of a single entry (other columns of a category, pixels around a pixel) often determine it; where its
    group is masked, the model has to use the rest of the row.

    Args:
        rate: expected fraction of the groups that are masked.
        groups: lists of columns of model space; a column in no list is a group of its own. None takes the columns of
            each category of a table, and the patches of an image.
        corrupted_weight, clean_weight: weights of masked and of other entries in the criterion.

    Raises:
        InputError: a rate outside [0, 1]; weights that are negative or both 0; at `fit`, a column that does not exist
            or is in two groups, or rows without groups.

    Source: He et al., Masked autoencoders are scalable vision learners (2022), section 3, for patches.

    Example:
        >>> from isthmus import GroupMasking
        >>> GroupMasking(rate=0.5, groups=[[0, 1], [2, 3]])
        GroupMasking(rate=0.5, groups=((0, 1), (2, 3)))
    """

    rate: float = 0.25
    groups: Groups | None = None
    corrupted_weight: float = 1.0
    clean_weight: float = 1.0

    of_columns: ClassVar[bool] = True

    def build(self, row: RowShape) -> Corruption:
        """Return the corruption of the given groups, or of those that the rows have."""
        groups = self.groups or row.groups
        if not groups and row.image_shape is not None:
            groups = patch_groups(row.image_shape)
        if not groups:
            raise InputError(
                f"corruption={self!r} has no groups, and the rows have no categories and are no images; give "
                "GroupMasking(groups=...) lists of columns, such as [[0, 1], [2, 3]]"
            )
        return corruptions.Masking(self.rate, groups, row.n_columns)


@dataclass(frozen=True, repr=False)
class MissingMask(RandomGroups):
    """Simulated missing entries: they become 0, and the encoder gets the mask of the others too.

    The encoder distinguishes an observed zero from a missing entry. The model therefore accepts rows with missing
    values (`missing="mask"`), and its reconstruction imputes them.

    Args:
        rate: expected fraction of the entries, or groups, that are declared missing.
        groups: lists of columns of model space that are missing together. None takes the columns of each category of a
            table, and single columns else.
        corrupted_weight, clean_weight: weights of missing and of other entries in the criterion.

    Raises:
        InputError: a rate outside [0, 1]; weights that are negative or both 0; at `fit`, a column that does not exist
            or is in two groups.

    Source: Vincent et al. (2008), section 2.3; Gondara & Wang, MIDA: multiple imputation using denoising autoencoders
    (2018).

    Example:
        >>> from isthmus import MissingMask
        >>> MissingMask(rate=0.3)
        MissingMask(rate=0.3)
    """

    rate: float = 0.25
    groups: Groups | None = None
    corrupted_weight: float = 1.0
    clean_weight: float = 1.0

    mask_aware: ClassVar[bool] = True
    of_columns: ClassVar[bool] = True

    def build(self, row: RowShape) -> Corruption:
        """Return the corruption."""
        return corruptions.MissingEntries(self.rate, self.groups or row.groups or None, row.n_columns)


def build_corruption(given: CorruptionValue | CorruptionFunction | None, row: RowShape) -> Corruption | None:
    """Return the corruption of a value or of a user's function; None without one."""
    if given is None or isinstance(given, CorruptionValue):
        return None if given is None else given.build(row)
    return CustomCorruption(given)


def entry_weights(given: CorruptionValue | CorruptionFunction | None) -> tuple[float, float]:
    """Return the weights of corrupted and clean entries, 1 and 1 where the corruption has none."""
    return getattr(given, "corrupted_weight", 1.0), getattr(given, "clean_weight", 1.0)


CORRUPTION = value_argument(
    "corruption",
    {
        "masking": Masking(), "gaussian": GaussianNoise(), "salt-and-pepper": SaltAndPepper(),
        "groups": GroupMasking(), "missing": MissingMask(),
    },
    accepts=lambda given: callable(given) and not isinstance(given, type),
    others="a function (x, generator) -> corrupted x",
)  # fmt: skip
"""The argument `corruption`."""
