"""Base class of objectives that train an energy: the monitor, weight decay and the start of the visible biases."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.learning.densities import EnergyDensity, RBMDensity
from isthmus.learning.objectives import MONITOR_SEED, Objective
from isthmus.learning.rows import Rows, mean_row
from isthmus.parts.coder import Coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.penalties import check_weight

MONITORED_COLUMNS = 4
"""Columns of each row that the monitor samples for the pseudo-likelihood."""

MIN_VALIDATION_ROWS = 20
"""Validation rows below which the monitor is too noisy to select the best epoch."""

ConditionalLogits = Callable[[Float[Tensor, "batch columns"], Int[Tensor, "n batch"]], Float[Tensor, "n batch"]]
"""Function (v, columns) -> log p(v_j = 1 | the others) - log p(v_j = 0 | the others) for n columns of each row."""


class EnergyObjective(Objective):
    """Base class of objectives that train an energy, which exposes a coder and a density.

    The monitor is the nll of the reconstruction, with means in place of samples.

    Args:
        coder: the encoder and decoder of means, with the weights of the energy.
        density: log Z, the chains, and the means of the rows.
        weight_decay: w of the term w/2 sum ||W||^2.

    Raises:
        InputError: a negative weight.
    """

    min_validation_rows: ClassVar[int] = MIN_VALIDATION_ROWS

    def __init__(self, coder: Coder, density: EnergyDensity, *, weight_decay: float) -> None:
        super().__init__()
        self.coder, self.density = coder, density
        self.weight_decay = check_weight("weight_decay", weight_decay)

    @property
    @abstractmethod
    def weights(self) -> list[Tensor]:
        """The weights that weight decay applies to."""

    def impute(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed."""
        return self.coder.inference.visible(batch)

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Initialize the visible biases from the column means."""
        self.coder.decoder.start_at(self.coder.likelihood.starting_parameters(mean_row(rows)))

    def weight_decay_term(self) -> dict[str, Tensor]:
        """Return the term w/2 sum ||W||^2 by its name; an empty dictionary where w is 0."""
        if self.weight_decay == 0.0:
            return {}
        squares = torch.stack([weight.square().sum() for weight in self.weights])
        return {"weight_decay": 0.5 * self.weight_decay * squares.sum()}

    @torch.no_grad()
    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the nll of the reconstruction, with means in place of samples."""
        return self.coder.nll(self.coder(batch))


class RBMObjective:
    """Mixin of energy objectives with the density of an RBM: its energy and weights."""

    density: RBMDensity

    @property
    def rbm(self) -> RBMEnergy:
        """The energy."""
        return self.density.rbm

    @property
    def weights(self) -> list[Tensor]:
        """The weights W."""
        return [self.rbm.weight]


@torch.no_grad()
def negative_pseudo_likelihood(
    v: Float[Tensor, "batch columns"], conditional_logits: ConditionalLogits
) -> Float[Tensor, " batch"]:
    """Return the negative log pseudo-likelihood per row, estimated from `MONITORED_COLUMNS` columns of each.

    The columns are the same at every call.

    Args:
        v: binary rows.
        conditional_logits: the conditional log-odds of columns.
    """
    generator = torch.Generator().manual_seed(MONITOR_SEED)
    columns = torch.randint(v.shape[1], (MONITORED_COLUMNS, len(v)), generator=generator).to(v.device)
    values = v.gather(1, columns.t()).t()
    nll = F.binary_cross_entropy_with_logits(conditional_logits(v, columns), values, reduction="none")
    return v.shape[1] * nll.mean(0)
