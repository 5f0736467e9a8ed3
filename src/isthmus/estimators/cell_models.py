"""Expectations of missing cells: a Gaussian and denoisers of folds, weighted by column on known cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from isthmus.estimators.cell_denoiser import CellDenoiser, CellRows, expected_cells
from isthmus.estimators.model_files import Packed, unpack
from isthmus.evaluation.conditional_gaussian import ConditionalGaussian, fit_gaussian
from isthmus.evaluation.hidden_cells import Residuals, weights_of_parts
from isthmus.learning.rows import evenly_spaced
from isthmus.learning.trainer import strip_prefix
from isthmus.parts.corruption_masks import bernoulli_mask

MAX_HIDDEN_ENTRIES = 2**21
"""Largest number of entries of the rows on which cells are hidden to compare predictions."""

N_CANDIDATES = 16
"""Gaps of other rows of which a row gets those that contain most of its own."""

ENOUGH_CELLS = 50
"""Number of known cells under copied gaps from which a column needs no cells under random ones."""

EM_FITS = 6
"""Fits of the Gaussian, in addition to those that missing entries need."""

WIDE, MAX_COMPONENTS_OF_WIDE = 256, 64
"""The number of columns above which the Gaussian has few components, and is fitted without expectations of cells."""

Cells = Float[Tensor, "rows columns"]
Mask = Bool[Tensor, "rows columns"]


@dataclass(frozen=True)
class StandardGaussian:
    """A Gaussian distribution of rows, of standardised columns.

    Attributes:
        centre, spread: mean and standard deviation of the observed cells of each column, (columns,); 1 for a constant.
        gaussian: of (z - centre) / spread.
    """

    centre: Float[Tensor, " columns"]
    spread: Float[Tensor, " columns"]
    gaussian: ConditionalGaussian

    @classmethod
    def fitted(cls, z: Cells, mask: Mask) -> Self:
        """Fit to the observed cells of rows; in wide rows missing cells count as the mean of their column."""
        count = mask.sum(0).clamp(min=1)
        centre = torch.where(mask, z, 0.0).sum(0) / count
        spread = (torch.where(mask, z - centre, 0.0).square().sum(0) / count).sqrt()
        spread = torch.where(spread > 1e-9 * (1 + centre.abs()), spread, 1.0)
        standard = torch.where(mask, (z - centre) / spread, 0.0)
        noise = max(1e-3, 0.1 * z.shape[1] / len(z))  # of few rows the smallest variances are those of chance
        options: dict[str, Any] = {"min_variance": noise, "kept": 1.0}
        if z.shape[1] > WIDE:
            gaussian = fit_gaussian(standard, n_fits=1, max_components=MAX_COMPONENTS_OF_WIDE, **options)
        else:
            gaussian = fit_gaussian(standard, mask, n_fits=EM_FITS, **options)
        return cls(centre, spread, gaussian)

    def expected(self, z: Cells, mask: Mask) -> tuple[Cells, Cells]:
        """Return mean and standard deviation of each missing cell given the observed ones."""
        mean, variance = self.gaussian.given_others((z - self.centre) / self.spread, mask)
        return self.centre + self.spread * mean, self.spread * variance.sqrt()

    def normal_draws(self, z: Cells, mask: Mask, generator: Generator) -> Cells:
        """Return draws of the missing cells given the observed ones, less their mean, in standard deviations."""
        standard = (z - self.centre) / self.spread
        mean, variance = self.gaussian.given_others(standard, mask)
        return (self.gaussian.draw_given(standard, mask, generator) - mean) / variance.sqrt()


@dataclass(frozen=True)
class CellModel:
    """The expectation of each missing cell: a weighted mean of the denoisers and the Gaussian, by column.

        e_j = m_j + w_j1 (g_j - m_j) + w_j2 (d_j - m_j),   w_j >= 0,   w_j1 + w_j2 <= 1

    g is the expectation of the Gaussian, d the mean of the denoisers, m the mean of the column.

    Attributes:
        denoisers: one of each fold, fitted to the other folds; none where rows are few.
        gaussian: fitted to all rows.
        weights: w, (parts, columns).
        ranges: the smallest and the largest observed value of each column, (2, columns), which bound e.
        residuals: distribution of (truth - e) / s of each column of the user, s the Gaussian's standard deviation.
    """

    denoisers: tuple[Any, ...]
    gaussian: StandardGaussian
    weights: Float[Tensor, "parts columns"]
    ranges: Float[Tensor, "ends columns"]
    residuals: tuple[Residuals, ...] = ()

    def expected(self, z: Cells, mask: Mask) -> tuple[Cells, Cells]:
        """Return the expectation of each missing cell, and the scale of its residual."""
        parts, scale = self.parts(z, mask)
        return self.combined(parts, mask), scale

    def parts(self, z: Cells, mask: Mask) -> tuple[Float[Tensor, "parts rows columns"], Cells]:
        """Return the expectations of the Gaussian and of the denoisers, if there are any, and the scale."""
        mean, scale = self.gaussian.expected(z, mask)
        found = [expected_cells(self.denoisers, z, mask)] if self.denoisers else []
        return torch.stack([mean, *found]), scale

    def combined(self, parts: Float[Tensor, "parts rows columns"], mask: Mask) -> Cells:
        """Return the weighted mean; the mean of the column in rows without an observed cell."""
        centre = self.gaussian.centre
        found = centre + (self.weights[:, None] * (parts - centre)).sum(0)
        return self.bounded(torch.where(mask.any(1, keepdim=True), found, centre))

    def bounded(self, z: Cells) -> Cells:
        """Return values within the range of each column."""
        return torch.minimum(torch.maximum(z, self.ranges[0]), self.ranges[1])

    def pack(self) -> Packed:
        """Return tensors and plain data for `unpack`."""
        known = self.gaussian
        tensors = {
            "centre": known.centre, "spread": known.spread, "mean": known.gaussian.mean,
            "loadings": known.gaussian.loadings, "weights": self.weights, "ranges": self.ranges,
            "residuals": torch.from_numpy(np.concatenate([np.empty(0), *(r.values for r in self.residuals)])),
        }  # fmt: skip
        headers = []
        for number, denoiser in enumerate(self.denoisers):
            packed, header = denoiser._pack()
            tensors |= {f"denoiser{number}.{name}": tensor.clone() for name, tensor in packed.items()}
            headers.append(header)
        return tensors, {
            "denoisers": headers, "noise_variance": known.gaussian.noise_variance,
            "residuals": [[len(r.values), r.n] for r in self.residuals],
        }  # fmt: skip

    @classmethod
    def unpacked(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        """Return the model of what `pack` returned."""
        denoisers = [unpack(strip_prefix(f"denoiser{n}.", tensors), h) for n, h in enumerate(header["denoisers"])]
        gaussian = ConditionalGaussian(tensors["mean"], tensors["loadings"], header["noise_variance"])
        residuals, start = [], 0
        for n_kept, n in header["residuals"]:
            residuals.append(Residuals(tensors["residuals"][start : start + n_kept].numpy(), n))
            start += n_kept
        known = StandardGaussian(tensors["centre"], tensors["spread"], gaussian)
        return cls(tuple(denoisers), known, tensors["weights"], tensors["ranges"], tuple(residuals))


@dataclass(frozen=True)
class HiddenCells:
    """Known cells that were hidden, and their predictions by models that were fitted to other rows.

    Attributes:
        truth: the rows, (rows, columns).
        mask: the cells that the models saw.
        hidden: the cells that they did not see, True where the truth is known.
        parts: predictions, (parts, rows, columns).
        scale: of the residuals, (rows, columns).
        copied: True for rows that got the gaps of another row, (rows,).
    """

    truth: Cells
    mask: Mask
    hidden: Mask
    parts: Float[Tensor, "parts rows columns"]
    scale: Cells
    copied: Bool[Tensor, " rows"]

    @classmethod
    def joined(cls, some: Sequence[HiddenCells]) -> HiddenCells:
        """Return the cells of all."""
        found = {name: torch.cat([getattr(part, name) for part in some], 1 if name == "parts" else 0)
                 for name in vars(some[0])}  # fmt: skip
        return cls(**found)

    def rows_of(self, column: int) -> Int[Tensor, " cells"]:
        """Return the rows in which a column is hidden: under copied gaps, if they are enough, else all."""
        copied = torch.nonzero(self.hidden[:, column] & self.copied).flatten()
        return copied if len(copied) >= ENOUGH_CELLS else torch.nonzero(self.hidden[:, column]).flatten()

    def weights(
        self, groups: Sequence[Sequence[int]], centre: Tensor, noise: Float[Tensor, "parts columns"]
    ) -> Float[Tensor, "parts columns"]:
        """Return the weights of the parts in each column; those of a group are equal.

        Args:
            groups: the columns of each group.
            centre: the mean of each column.
            noise: variance of the errors of each part that will be averaged out.
        """
        found = torch.empty(len(self.parts), self.truth.shape[1], dtype=torch.float64)
        for columns in map(list, groups):
            rows = self.rows_of(columns[0])
            parts = self.parts[:, rows][:, :, columns].numpy()
            truth, averaged = self.truth[rows][:, columns].numpy(), noise[:, columns].mean(1).numpy()
            weights = weights_of_parts(truth, parts, centre[columns].numpy(), averaged)
            found[:, columns] = torch.from_numpy(weights)[:, None]
        return found


def hidden_cells(
    model: CellModel,
    z: Cells,
    mask: Mask,
    gaps: Mask,
    groups: Sequence[Sequence[int]],
    rate: float,
    generator: Generator,
) -> HiddenCells:
    """Hide known cells of rows, and predict them.

    Each row gets the gaps of another row, if rows have some, and once random ones.

    Args:
        model: fitted to other rows.
        z, mask: the rows.
        gaps: gaps of rows that have some.
        groups: columns that are hidden together.
        rate: of random gaps.
        generator: of all random numbers.
    """
    found = []
    for copied in (True, False) if len(gaps) else (False,):
        if copied:
            hidden = nearest_gaps(mask, gaps, generator)
        else:
            of_column = torch.empty(z.shape[1], dtype=torch.long)
            for number, columns in enumerate(groups):
                of_column[list(columns)] = number
            hidden = bernoulli_mask((len(z), len(groups)), rate, generator)[:, of_column]
        seen = mask & ~hidden
        known = hidden & mask & seen.any(1, keepdim=True)
        parts, scale = model.parts(z, seen)
        found.append(HiddenCells(z, seen, known, parts, scale, torch.full((len(z),), copied)))
    return HiddenCells.joined(found)


def nearest_gaps(mask: Mask, gaps: Mask, generator: Generator) -> Mask:
    """Return gaps for each row: of some random ones, those outside which the row lacks the smallest number of cells.

    Then the cells that stay visible are about those that are visible in a row with these gaps.
    """
    number = torch.randint(len(gaps), (len(mask), N_CANDIDATES), generator=generator)
    candidates = gaps[number]
    outside = (~mask[:, None] & ~candidates).sum(2)
    none_hidden = (mask[:, None] & candidates).sum(2) == 0
    best = (outside + mask.shape[1] * none_hidden).argmin(1)
    return candidates[torch.arange(len(mask)), best]


@dataclass(frozen=True)
class CellTraining:
    """The training of a `CellModel`.

    Attributes:
        denoiser: function of the rows, their gaps and a seed that returns a fitted denoiser; None for the Gaussian
            alone.
        groups: columns of model space that are missing together.
        n_folds: number of denoisers.
        rate: of random gaps.
    """

    denoiser: Callable[[CellRows, Mask, int], CellDenoiser] | None
    groups: Sequence[Sequence[int]]
    n_folds: int
    rate: float

    def fitted(self, z: Cells, mask: Mask, generator: Generator) -> tuple[CellModel, HiddenCells]:
        """Fit to rows; return the model and the hidden cells that it was weighted by.

        Of each fold the denoiser and a Gaussian are fitted to the other folds, and predict hidden cells of the fold.
        With fewer than four rows there is one fold, which is also fitted to.
        """
        n_folds = min(self.n_folds, len(z) // 2)
        n_folds = n_folds if n_folds > 1 else 1
        fold = torch.randperm(len(z), generator=generator) % n_folds
        incomplete, ranges = ~mask.all(1), _ranges(z, mask)
        denoisers, trials = [], []
        for number in range(n_folds):
            inside, outside = fold == number, (fold != number) | (n_folds == 1)
            gaps = ~mask[outside & incomplete]
            seed = int(torch.randint(2**31, (), generator=generator))
            denoisers += (
                [] if self.denoiser is None else [self.denoiser(CellRows(z[outside], mask[outside]), gaps, seed)]
            )
            gaussian = StandardGaussian.fitted(z[outside], mask[outside])
            part = CellModel(tuple(denoisers[number:]), gaussian, torch.zeros(0), ranges)
            some = torch.nonzero(inside).flatten()
            some = some[evenly_spaced(len(some), max(1, MAX_HIDDEN_ENTRIES // (n_folds * z.shape[1])))]
            some_gaps = gaps[evenly_spaced(len(gaps))]
            trials.append(hidden_cells(part, z[some], mask[some], some_gaps, self.groups, self.rate, generator))
        hidden = HiddenCells.joined(trials)
        gaussian = StandardGaussian.fitted(z, mask)
        weights = hidden.weights(self.groups, gaussian.centre, _averaged_noise(denoisers, z, mask))
        model = CellModel(tuple(denoisers), gaussian, weights, ranges)
        return replace(model, residuals=self._residuals(model, hidden)), hidden

    def _residuals(self, model: CellModel, hidden: HiddenCells) -> tuple[Residuals, ...]:
        """Return the distribution of the scaled residuals of the first column of each group."""
        missed = (hidden.truth - model.combined(hidden.parts, hidden.mask)) / hidden.scale
        return tuple(Residuals.of(missed[hidden.rows_of(columns[0]), columns[0]].numpy()) for columns in self.groups)


def _averaged_noise(denoisers: Sequence[CellDenoiser], z: Cells, mask: Mask) -> Float[Tensor, "parts columns"]:
    """Return the variance in each column that the mean of the denoisers has less than one of them; 0 of the Gaussian.

    It is that of their predictions of missing cells, or of all where no cell of the column is missing.
    """
    if not denoisers:
        return torch.zeros(1, z.shape[1], dtype=torch.float64)
    some = torch.nonzero(~mask.all(1)).flatten()
    some = some if len(some) else torch.arange(len(z))
    some = some[evenly_spaced(len(some), max(1, MAX_HIDDEN_ENTRIES // (2 * z.shape[1])))]
    found = torch.stack([expected_cells([one], z[some], mask[some]) for one in denoisers])
    variance = found.var(0, correction=0)
    counted = ~mask[some] | mask[some].all(0)
    noise = torch.where(counted, variance, 0.0).sum(0) / counted.sum(0).clamp(min=1)
    return torch.stack([torch.zeros_like(noise), noise])


def _ranges(z: Cells, mask: Mask) -> Float[Tensor, "ends columns"]:
    low = torch.where(mask, z, math.inf).amin(0)
    return torch.stack([low, torch.where(mask, z, -math.inf).amax(0)])
