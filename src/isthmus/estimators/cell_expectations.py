"""Each cell given the other cells of its row: the expected value, a calibrated interval, and how odd the cell is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.stats import norm
from torch import Tensor

from isthmus.estimators.anomaly_scores import PASSES, ModelRows, TableScores
from isthmus.estimators.cell_denoiser import hidden_predictions, merged
from isthmus.estimators.denoising import DenoisingAutoencoder
from isthmus.evaluation.conditional_gaussian import ConditionalGaussian, fit_gaussian
from isthmus.evaluation.conformal import TailScores
from isthmus.evaluation.oddness import KEPT, N_FITS, Standardization

COVERAGE = 0.9
"""Probability with which an interval contains the value of an ordinary row's cell."""

MAX_ROWS = 1000
"""Largest number of rows that intervals are calibrated on and that the choice of a method is made on."""


MAX_HIDDEN, VERY_ODD = 3, 6.0
"""Largest number of cells of a row that are hidden from the others, and the oddness in nats above which they are."""

Groups = Sequence[Sequence[int]]
Cells = Float[Tensor, "rows columns"]


@dataclass(frozen=True)
class CellExpectations:
    """The distribution of each cell with its group hidden, in standardized and squashed columns.

    The expectation is that of the trimmed Gaussian given the visible cells, or that of the denoiser in the columns in
    which it was better on rows of which neither was fitted.

    Attributes:
        standardization, gaussian, denoiser, groups: as in `TableScores`; no denoiser of a detector with its own
            autoencoder.
        by_denoiser: the columns whose expectation is that of the denoiser, (columns,).
        half_width: half of the interval, in units of the deviation, (columns,).
        unit: of the residual of each group, in deviations: 1, or more where ordinary rows have larger residuals.
        scale: the scale of the residuals of all groups, in their units.
    """

    standardization: Standardization
    gaussian: ConditionalGaussian
    denoiser: DenoisingAutoencoder | None
    groups: Groups
    by_denoiser: Bool[Tensor, " columns"]
    half_width: Float[Tensor, " columns"]
    unit: Float[Tensor, " groups"]
    scale: TailScores

    @classmethod
    def of(cls, rows: ModelRows, groups: Groups) -> CellExpectations:
        """Fit a trimmed Gaussian to rows."""
        standardization = Standardization.of(rows.x, rows.mask)
        gaussian = fit_gaussian(standardization(rows.x), rows.mask, kept=KEPT, n_fits=N_FITS)
        return cls._new(standardization, gaussian, None, groups, torch.zeros(rows.x.shape[1], dtype=torch.bool))

    @classmethod
    def of_scores(cls, scores: TableScores, by_denoiser: Bool[Tensor, " columns"]) -> CellExpectations:
        """Return the expectations by the Gaussian and the denoiser of a score."""
        return cls._new(scores.standardization, scores.gaussian, scores.denoiser, scores.groups, by_denoiser)

    @classmethod
    def _new(cls, standardization: Any, gaussian: Any, denoiser: Any, groups: Groups, by: Tensor) -> CellExpectations:
        width, unit = torch.full(by.shape, math.inf).double(), torch.ones(len(groups)).double()
        return cls(standardization, gaussian, denoiser, groups, by, width, unit, TailScores.of(np.ones(1)))

    def expected(self, z: Cells, mask: Tensor | None) -> tuple[Cells, Cells]:
        """Return expectation and deviation of each cell, given the observed cells outside its group."""
        mean, variance = self.gaussian.given_others(z, mask, self.groups)
        if self.denoiser is None or not bool(self.by_denoiser.any()):
            return mean, variance.sqrt()
        used = [group for group in self.groups if bool(self.by_denoiser[list(group)].any())]
        predicted = hidden_predictions(self.denoiser, z, mask, used)
        return torch.where(self.by_denoiser, predicted, mean), variance.sqrt()

    def calibrated(self, rows: ModelRows) -> CellExpectations:
        """Return the expectations with intervals and scales of residuals from rows that took no part in any fit."""
        rows = rows.take(torch.arange(min(len(rows), MAX_ROWS)))
        z = self.standardization(rows.x)
        mean, deviation = self.expected(z, rows.mask)
        residual = ((z - mean) / deviation).abs()
        if rows.mask is not None:
            residual = torch.where(rows.mask, residual, float("nan"))
        widths = torch.tensor([_conformal_quantile(column) for column in residual.T], dtype=torch.float64)
        by_group = self._by_group(residual)
        unit = (by_group.nanquantile(COVERAGE, 0).nan_to_num(1.0) / norm.ppf((1 + COVERAGE) / 2)).clamp(min=1)
        relative = (by_group / unit).flatten()
        return replace(self, half_width=widths, unit=unit, scale=TailScores.of(relative[~relative.isnan()].numpy()))

    def _by_group(self, residual: Cells) -> Float[Tensor, "rows groups"]:
        """Return the root of the mean square over the columns of each group."""
        if all(len(group) == 1 for group in self.groups):
            return residual[:, [group[0] for group in self.groups]]
        return torch.stack([residual[:, list(group)].square().mean(1).sqrt() for group in self.groups], 1)

    def explained(self, rows: ModelRows) -> tuple[Cells, Cells, Cells, Cells]:
        """Return how odd each cell is, its expected value and its interval, the latter three in model space.

        The first of a group is -log P(a residual at least as large) - 1 over all groups of ordinary rows, among which
        its mean is 0. Of one cell that was changed, the residual in deviations is the largest of its row under the
        Gaussian. The columns of a group have equal parts of it, so that sums over columns are those of groups.
        It is NaN of missing cells. A very odd cell is hidden from the others of its row, whose expectations it would
        change: first the oddest one, then the oddest one given the rest, at most `MAX_HIDDEN` of them.
        """
        z = self.standardization(rows.x)
        mask = torch.ones_like(z, dtype=torch.bool) if rows.mask is None else rows.mask.clone()
        mean, deviation, by_group = self._given_others(z, mask)
        hidden = torch.zeros(by_group.shape, dtype=torch.bool)
        for _ in range(min(MAX_HIDDEN, len(self.groups) // 3)):
            worst = by_group.masked_fill(hidden, -math.inf).nan_to_num(-math.inf).max(1)
            changed = torch.nonzero(worst.values > VERY_ODD).flatten()
            if not len(changed):
                break
            hidden[changed, worst.indices[changed]] = True
            for row in changed.tolist():
                mask[row, list(self.groups[int(worst.indices[row])])] = False
            again = self._given_others(z[changed], mask[changed])
            kept = self._of_columns(hidden[changed])
            for old, new, keep in zip((mean, deviation, by_group), again, (kept, kept, hidden[changed]), strict=True):
                old[changed] = torch.where(keep, old[changed], new)
        share = torch.empty_like(z)
        for number, group in enumerate(self.groups):
            share[:, list(group)] = by_group[:, number, None] / len(group)
        width = self.half_width * deviation
        values = (self.standardization.inverse(part) for part in (mean, mean - width, mean + width))
        return (share, *values)  # type: ignore[return-value]

    def _given_others(self, z: Cells, mask: Tensor) -> tuple[Cells, Cells, Float[Tensor, "rows groups"]]:
        """Return expectation and deviation of each cell, and how odd each group is, given the observed cells."""
        mean, deviation = self.expected(z, mask)
        residual = torch.where(mask, ((z - mean) / deviation).abs(), float("nan"))
        return mean, deviation, torch.from_numpy(self.scale((self._by_group(residual) / self.unit).numpy()) - 1)

    def _of_columns(self, of_groups: Bool[Tensor, "rows groups"]) -> Bool[Tensor, "rows columns"]:
        """Return the value of its group for each column."""
        number = torch.empty(sum(map(len, self.groups)), dtype=torch.long)
        for i, group in enumerate(self.groups):
            number[list(group)] = i
        return of_groups[:, number]

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and plain data for `from_file`, without what the score has already."""
        tensors = {
            "by_denoiser": self.by_denoiser, "half_width": self.half_width, "unit": self.unit,
            "knots": torch.from_numpy(self.scale.knots), "values": torch.from_numpy(self.scale.values),
            "mean": self.standardization.mean, "scale": self.standardization.scale,
            "gaussian.mean": self.gaussian.mean, "gaussian.loadings": self.gaussian.loadings,
        }  # fmt: skip
        config = {
            "tail_scale": self.scale.scale, "noise_variance": self.gaussian.noise_variance,
            "groups": [list(group) for group in self.groups],
        }  # fmt: skip
        return {name: part.contiguous().clone() for name, part in tensors.items()}, config

    @classmethod
    def from_file(
        cls, tensors: dict[str, Tensor], config: dict[str, Any], denoiser: DenoisingAutoencoder | None
    ) -> CellExpectations:
        """Build the expectations from the result of `to_file`."""
        scale = TailScores(tensors["knots"].numpy(), tensors["values"].numpy(), config["tail_scale"])
        return cls(
            Standardization(tensors["mean"], tensors["scale"]),
            ConditionalGaussian(tensors["gaussian.mean"], tensors["gaussian.loadings"], config["noise_variance"]),
            denoiser, config["groups"], tensors["by_denoiser"], tensors["half_width"], tensors["unit"], scale,
        )  # fmt: skip


def better_by_denoiser(scores: TableScores, rows: ModelRows) -> Bool[Tensor, " columns"]:
    """Return the columns in which the denoiser predicts hidden cells better than the Gaussian does.

    Args:
        scores: a fitted score.
        rows: rows that it was not fitted to.
    """
    n_columns = rows.x.shape[1]
    if scores.denoiser is None:
        return torch.zeros(n_columns, dtype=torch.bool)
    rows = rows.take(torch.arange(min(len(rows), MAX_ROWS)))
    z = scores.standardization(rows.x)
    passes = merged(scores.groups, PASSES)
    mean, _ = scores.gaussian.given_others(z, rows.mask, passes)
    squares = (mean - z).square()
    if rows.mask is not None:
        squares = torch.where(rows.mask, squares, float("nan"))
    gain = squares.nanmean(0) - scores.squared_errors(z, rows.mask).nanmean(0)
    better = torch.zeros(n_columns, dtype=torch.bool)
    for group in scores.groups:
        better[list(group)] = bool(gain[list(group)].nansum() > 0)
    return better


def _conformal_quantile(residual: Float[Tensor, " rows"]) -> float:
    """Return the ceil(0.9 (m + 1))-th smallest of m residuals, or infinity: further ones are below it with P >= 0.9."""
    ordered = residual[~residual.isnan()].sort().values
    k = math.ceil(COVERAGE * (len(ordered) + 1) - 1e-9)
    return float(ordered[k - 1]) if k <= len(ordered) else math.inf
