"""Quality of the prefixes of a code: error of the first units alone, dead units, splitting and absorption."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.dictionaries import Dictionary, cosines
from isthmus.evaluation.residuals import squared_residuals
from isthmus.parts.prefixes import check_prefixes

SAME_DIRECTION = 0.7
"""Cosine above which two atoms have the same direction."""

ALMOST_ALWAYS = 0.95
"""Fraction of the rows of a later unit in which an earlier one is active, from which it counts as "only with it"; below
1 minus this fraction it counts as "without it"."""

LEAST_ROWS = 10
"""Rows in which a later unit must be active to be counted: a unit of one row is always active with a frequent one."""


@dataclass(frozen=True)
class PrefixQuality:
    r"""Quality of the first p units of a code.

    For a unit i < p and a later unit j >= p, over the rows

        c_ij = P(h_i != 0 | h_j != 0),   s_ij = <d_i, d_j> / (||d_i|| ||d_j||)
        splits_i    = number of j with s_ij > .7 and c_ij >= .95
        absorbers_i = number of j with s_ij > .7 and c_ij <= .05

    A unit that splits is divided among later units of its direction, which are active only with it. A unit is absorbed
    by later units of its direction that are active in its place: it is silent in their rows, although their atoms
    contain its own. Later units that are active in fewer than 10 rows are not counted.

    Attributes:
        n_units: p.
        squared_error_per_row: mean of ||x - r||^2, squared model units, if the later units are 0.
        active_per_row: mean number of active units among the p.
        dead_units: number of the p units that are active in no row.
        splits: mean of splits_i over the p units that are not dead; None without a dictionary, and for the whole code.
        absorbers: mean of absorbers_i, as for splits.
    """

    n_units: int
    squared_error_per_row: float
    active_per_row: float
    dead_units: int
    splits: float | None
    absorbers: float | None

    @property
    def dead_rate(self) -> float:
        """The fraction of the p units that are active in no row."""
        return self.dead_units / self.n_units

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and `dead_rate`."""
        return {**asdict(self), "dead_rate": self.dead_rate}


@dataclass(frozen=True)
class CodedRows:
    """A block of rows in model space.

    Attributes:
        x: the rows.
        code: their codes.
        reconstructions: the mean of p_dec of each prefix of the code, and of the whole code.
        mask: 1 for an observed entry, 0 for a missing one, which takes no part; None if all were observed.
    """

    x: Float[Tensor, "block columns"]
    code: Float[Tensor, "block code_size"]
    reconstructions: Sequence[Float[Tensor, "block columns"]]
    mask: Float[Tensor, "block columns"] | None = None


def prefix_quality(
    blocks: Iterable[CodedRows], prefixes: Sequence[int], dictionary: Dictionary | None = None
) -> list[PrefixQuality]:
    """Compute the quality of each prefix of a code, and of the whole code, in one pass over blocks of rows.

    Args:
        blocks: rows with their codes and the reconstructions from each prefix.
        prefixes: numbers of units, increasing, below the code size.
        dictionary: the atoms of a decoder that is linear in the code, (code_size, columns); None counts no splits.

    Returns:
        One record for each prefix, and one for the whole code, which comes last.

    Raises:
        InputError: there are no rows; prefixes that do not increase or are not below the code size.

    Source: Bussmann et al., Learning multi-level features with Matryoshka sparse autoencoders (2025); Chanin et al.,
    A is for absorption (2024), who find the rows of an absorbed feature by a probe on labels. The count by
    directions and common rows needs no labels.

    Example:
        >>> import torch
        >>> from isthmus.parts.prefixes import prefix
        >>> code = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]]).repeat(10, 1)
        >>> atoms = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
        >>> rows = CodedRows(code @ atoms, code, [prefix(code, 2) @ atoms, code @ atoms])
        >>> first, whole = prefix_quality([rows], [2], atoms)
        >>> first.squared_error_per_row, first.dead_units, first.splits, first.absorbers, whole.squared_error_per_row
        (0.625, 1, 1.0, 0.0, 0.0)
    """
    sums: _Sums | None = None
    for block in blocks:
        if len(block.x):
            sums = sums or _Sums.zeros(check_prefixes(prefixes, block.code.shape[1]), block)
            sums.add(block)
    if sums is None:
        raise InputError("there are no rows to measure prefixes on; pass at least one")
    return sums.qualities(None if dictionary is None else cosines(dictionary, dictionary))


@dataclass
class _Sums:
    """Sums over rows in float64, and counts."""

    sizes: tuple[int, ...]
    errors: Float[np.ndarray, " sizes"]
    together: Int[np.ndarray, "first units"]
    """Rows in which a unit of the longest prefix and a unit of the code are both active."""
    active: Int[np.ndarray, " units"]
    n_rows: int = 0

    @classmethod
    def zeros(cls, prefixes: tuple[int, ...], block: CodedRows) -> _Sums:
        """Return empty sums for blocks of these shapes."""
        n_units = block.code.shape[1]
        return cls(
            sizes=(*prefixes, n_units), errors=np.zeros(len(prefixes) + 1),
            together=np.zeros((prefixes[-1], n_units), np.int64), active=np.zeros(n_units, np.int64),
        )  # fmt: skip

    def add(self, block: CodedRows) -> None:
        """Add a block."""
        on = (block.code != 0).float()
        self.n_rows += len(block.x)
        self.active = self.active + on.sum(0).long().numpy()
        self.together = self.together + (on[:, : len(self.together)].T @ on).long().numpy()
        residuals = [squared_residuals(block.x.double(), r.double(), block.mask) for r in block.reconstructions]
        self.errors = self.errors + [float(squares.sum()) for squares in residuals]

    def qualities(self, similar: Float[np.ndarray, "units units"] | None) -> list[PrefixQuality]:
        """Return the quality of each prefix, given the cosines of the atoms."""
        return [
            PrefixQuality(
                n_units=size,
                squared_error_per_row=float(error) / self.n_rows,
                active_per_row=float(self.active[:size].sum()) / self.n_rows,
                dead_units=int((self.active[:size] == 0).sum()),
                splits=self._related(similar, size, lambda share: share >= ALMOST_ALWAYS),
                absorbers=self._related(similar, size, lambda share: share <= 1.0 - ALMOST_ALWAYS),
            )
            for size, error in zip(self.sizes, self.errors, strict=True)
        ]

    def _related(
        self,
        similar: Float[np.ndarray, "units units"] | None,
        size: int,
        related: Callable[[np.ndarray], np.ndarray],
    ) -> float | None:
        """Return the mean number of later units of the same direction whose shared rows satisfy a condition."""
        if similar is None or size == len(self.active):
            return None
        share = self.together[:size, size:] / np.maximum(self.active[size:], 1)
        counted = (similar[:size, size:] > SAME_DIRECTION) & (self.active[size:] >= LEAST_ROWS) & related(share)
        alive = self.active[:size] > 0
        return float(counted[alive].sum(1).mean()) if alive.any() else 0.0
