"""A denoising autoencoder of rows in model space that predicts hidden cells from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isthmus.data.preprocessing import Preprocessor
from isthmus.data.streams import Subset, blocks
from isthmus.estimators.checkpoints import Run
from isthmus.estimators.data_passes import padded
from isthmus.estimators.denoising import DenoisingAutoencoder
from isthmus.estimators.labels import ClassLabels
from isthmus.estimators.model_files import register
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.precision import resolve_device
from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.parts.binned_encoder import BinnedEncoder
from isthmus.parts.corruptions import CopiedGaps
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.networks import MLP
from isthmus.values import networks
from isthmus.values.corruptions import MissingMask

PATTERN_SHARE = 0.5
"""Fraction of the rows of a batch that get the gaps of another row, where training rows have missing entries."""

Cells = Float[Tensor, "rows columns"]
Mask = Bool[Tensor, "rows columns"]
Groups = Sequence[Sequence[int]]
"""Lists of columns that are hidden together. Together they contain every column once."""


class CellRows:
    """Rows in model space with the mask of their observed cells, in memory.

    Args:
        z: values; those of cells with mask False are placeholders that the likelihood accepts.
        mask: True for observed cells.
    """

    def __init__(self, z: Cells, mask: Mask) -> None:
        self.z, self.mask = z.float(), mask
        self.n_columns = z.shape[1]

    def __len__(self) -> int:
        return len(self.z)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index`."""
        return Batch(self.z[index], rows=index, mask=self.mask[index].float())


@register
@dataclass(kw_only=True, eq=False, repr=False)
class CellDenoiser(DenoisingAutoencoder):
    """A denoising autoencoder of rows that are in model space already, which learns E[x_j | the visible cells].

    Its encoder sees the mask of the visible cells and, with `n_bins`, bins of each column. Where entries are missing,
    the gaps of other rows are hidden in half of the rows of a batch, and random cells in the others.

    Args:
        n_bins: bins of each column that the encoder sees (`BinnedEncoder`); 0 for none.
    """

    n_bins: int = 0

    kind: ClassVar[str] = "cell-denoiser"

    @classmethod
    def of_hidden_cells(
        cls, hidden_sizes: Sequence[int], *, rate: float, groups: Groups = (), **arguments: Any
    ) -> Self:
        """Return an unfitted denoiser whose criterion counts the cells alone that its corruption hides.

        Args:
            hidden_sizes: of the encoder, whose units are SiLU.
            rate: fraction of the cells, or of the groups, that is hidden in training.
            groups: columns that are hidden together; none for those of the rows.
            arguments: of the denoiser.
        """
        corruption = MissingMask(
            rate=rate, groups=[list(group) for group in groups] or None, corrupted_weight=1.0, clean_weight=0.0
        )
        network = networks.MLP(tuple(hidden_sizes), activation="silu")
        given = {"code_activation": "silu", "validation_fraction": 0.0, **arguments}
        return cls(corruption=corruption, network=network, **given)

    def fit_cells(self, preprocessing: Preprocessor, rows: CellRows, gaps: Mask, n_passes: int = 1) -> CellDenoiser:
        """Train on rows.

        Args:
            preprocessing: that gave the rows.
            rows: the training rows.
            gaps: the gaps of rows that have some, True where a cell is missing; they are copied to rows of a batch.
            n_passes: passes over the rows in an epoch; several where an epoch would be shorter than its evaluation.
        """
        self.preprocessing_, self._training = preprocessing, (rows, gaps)
        self.n_features_in_ = preprocessing.n_columns
        all_rows = rows if n_passes == 1 else Subset(rows, torch.arange(len(rows)).repeat(n_passes))
        self._fit(all_rows, None, None, None, Run())
        del self._training
        return self

    def _read_training_rows(
        self, X: Any, y: Any, sample_weight: Any, *, goes_on: bool
    ) -> tuple[Rows, ClassLabels | None, np.ndarray | None]:
        return X, None, None

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        recipe = super()._recipe(shape, generator)
        objective, inference = cast(Reconstruction, recipe.objective), cast(EncoderMap, recipe.coder.inference)
        rows, gaps = getattr(self, "_training", (None, ()))  # none of a file
        if self.n_bins:
            network = cast(MLP, inference.encoder)
            encoder = BinnedEncoder(
                shape.n_columns, self.n_bins, network.sizes[1:], network.activation, generator=generator
            )
            if rows is not None:
                encoder.fit_borders(rows.z, rows.mask)
            inference.encoder = encoder
        if len(gaps):
            rate, groups = self.corruption.rate, self.corruption.groups or shape.groups or None
            objective.corruption = CopiedGaps(gaps[evenly_spaced(len(gaps))], PATTERN_SHARE, rate, groups)
        return recipe


@torch.no_grad()
def expected_cells(models: Sequence[DenoisingAutoencoder], z: Cells, mask: Mask) -> Cells:
    """Return the mean prediction of each cell by some denoisers, given the observed cells, float64.

    Args:
        models: fitted.
        z, mask: rows, as in `CellRows`.
    """
    rows = CellRows(z, mask)
    total = torch.zeros(z.shape, dtype=torch.float64)
    for model in models:
        device = resolve_device(model.device)
        coder = model.coder_.to(device).eval()
        start = 0
        for batch in blocks(rows):
            output = coder(padded(batch).to(device))
            n = len(batch.x)
            total[start : start + n] += coder.likelihood.mean(output.parameters)[:n].cpu().double()
            start += n
    return total / len(models)


def hidden_predictions(denoiser: DenoisingAutoencoder, z: Cells, mask: Mask | None, groups: Groups) -> Cells:
    """Return the prediction of each cell with its group hidden, float64; NaN of columns in no group.

    Args:
        denoiser: fitted.
        z, mask: rows, as in `CellRows`; None for rows without missing cells.
        groups: columns that are hidden together: one pass over the rows for each.
    """
    found = torch.full(z.shape, torch.nan, dtype=torch.float64)
    for group in groups:
        columns = list(group)
        visible = torch.ones_like(z, dtype=torch.bool) if mask is None else mask.clone()
        visible[:, columns] = False
        found[:, columns] = expected_cells([denoiser], z, visible)[:, columns]
    return found


def merged(groups: Groups, n: int) -> list[list[int]]:
    """Return groups merged to at most n, in turn, so that neighbouring groups are hidden in different passes.

    Example:
        >>> merged([[0], [1], [2, 3]], 2)
        [[0, 2, 3], [1]]
    """
    n = min(n, len(groups))
    return [[column for group in groups[start::n] for column in group] for start in range(n)]
