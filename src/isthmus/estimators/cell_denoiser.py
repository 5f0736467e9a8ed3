"""A denoising autoencoder that is trained on hidden cells of rows in model space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

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

PATTERN_SHARE = 0.5
"""Fraction of the rows of a batch that get the gaps of another row, where training rows have missing entries."""

Cells = Float[Tensor, "rows columns"]
Mask = Bool[Tensor, "rows columns"]


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
    """A denoising autoencoder of rows that are in model space already, whose encoder sees bins of each column.

    Where entries are missing, the gaps of other rows are hidden in half of the rows of a batch, and random cells in the
    others.

    Args:
        n_bins: bins of each column that the encoder sees (`BinnedEncoder`); 0 for none.
    """

    n_bins: int = 0

    kind: ClassVar[str] = "cell-denoiser"

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
