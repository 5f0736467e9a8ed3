"""Base class of objectives that train an energy by chains: log Z, the number of Gibbs steps and the monitor."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.learning.legacy import LegacyReconstruction
from isthmus.learning.objectives import MONITOR_SEED
from isthmus.learning.rows import Rows
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import Code, Decoder
from isthmus.parts.layers import is_count
from isthmus.parts.likelihoods import Bernoulli, Likelihood
from isthmus.parts.penalties import Penalty, check_weight

MONITORED_COLUMNS = 4
"""Columns of each row that the monitor samples for the pseudo-likelihood."""

MIN_VALIDATION_ROWS = 20
"""Validation rows below which the monitor is too noisy to select the best epoch."""


class EnergyObjective(LegacyReconstruction):
    """Base class of objectives that train an energy by chains; encoder and decoder share the energy's weights.

    Args:
        encoder: x -> a, the input of the code's units.
        decoder: h -> parameters of p(v | h).
        code_activation: a -> means of the code's units.
        likelihood: p(v | h), the likelihood of the energy.
        n_steps: Gibbs steps per training step; a pair (first, last) interpolates over training.
        centred: use the centred gradient.
        weight_decay: w of the term w/2 sum ||W||^2.
        penalties: penalties on the code by name.

    Raises:
        InputError: fewer than one step, or a negative weight.
    """

    min_validation_rows: ClassVar[int] = MIN_VALIDATION_ROWS

    log_partition: Tensor
    """log Z where it is known, else infinity."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: Decoder,
        code_activation: str | nn.Module,
        likelihood: Likelihood,
        *,
        n_steps: int | Sequence[int],
        centred: bool,
        weight_decay: float,
        penalties: Mapping[str, Penalty] | None = None,
    ) -> None:
        super().__init__(encoder, decoder, likelihood, code_activation, penalties=penalties)
        del self.likelihood  # the energy registers it
        self.n_steps, self.centred = check_gibbs_steps(n_steps), centred
        self.weight_decay = check_weight("weight_decay", weight_decay)
        self.register_buffer("log_partition", torch.full((), torch.inf, dtype=torch.float64))

    @property
    @abstractmethod
    def rbm(self) -> RBMEnergy:
        """The energy as two layers, whose log Z is computed."""

    @property
    @abstractmethod
    def weights(self) -> list[Tensor]:
        """The weights that weight decay applies to."""

    @abstractmethod
    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, "n batch"]
    ) -> Float[Tensor, "n batch"]:
        """Return log p(v_j = 1 | the others) - log p(v_j = 0 | the others) for n binary columns j of each row."""

    def encode(self, batch: Batch) -> Code:
        """Return a and the means of the code's units."""
        a = self.encoder(self.impute(batch))
        return Code(self.code_activation(a), a)

    def forward(self, batch: Batch, generator: torch.Generator | None = None, progress: float = 1.0) -> ForwardPass:
        """Return the forward pass with means in place of samples."""
        v = self.impute(batch)
        a = self.encoder(v)
        code = self.code_activation(a)
        return ForwardPass(batch, Batch(v), a, code, self.decoder(code), progress=progress)

    def finish(self, rows: Rows) -> None:
        """Compute log Z where it is enumerable."""
        rbm_energy = self.rbm
        if rbm_energy.is_enumerable:
            self.log_partition.copy_(rbm_energy.log_partition())

    def steps_at(self, progress: float) -> int:
        """Return the number of Gibbs steps at a training progress in [0, 1]."""
        first, last = self.n_steps
        return round(first + (last - first) * progress)

    def weight_decay_term(self) -> dict[str, Tensor]:
        """Return the term of weight decay by name; an empty dictionary where the weight is 0."""
        return weight_decay_term(self.weight_decay, self.weights)

    @property
    def monitor_name(self) -> str:
        """Name of the monitor: "pseudo-likelihood" for binary units, "reconstruction" for others."""
        return "pseudo-likelihood" if isinstance(self.likelihood, Bernoulli) else "reconstruction"

    @torch.no_grad()
    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the negative log pseudo-likelihood per row, estimated from `MONITORED_COLUMNS` columns of each.

        The columns are the same at every call. Where the pseudo-likelihood has no closed form, the monitor is the nll
        of the mean-field reconstruction.
        """
        if self.monitor_name == "reconstruction":
            return self.nll(self(batch))
        v = self.impute(batch)
        generator = torch.Generator().manual_seed(MONITOR_SEED)
        columns = torch.randint(v.shape[1], (MONITORED_COLUMNS, len(v)), generator=generator).to(v.device)
        values = v.gather(1, columns.t()).t()
        logits = self.conditional_logits(v, columns)
        nll = F.binary_cross_entropy_with_logits(logits, values, reduction="none")
        return v.shape[1] * nll.mean(0)

    @abstractmethod
    def impute(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed."""

    def visible(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed."""
        return self.impute(batch)

    @property
    def is_normalised(self) -> bool:
        """True if log Z is known."""
        return math.isfinite(float(self.log_partition))

    def subtract_log_partition(self, log_p: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Subtract log Z from unnormalised log probabilities where it is known, in float64."""
        return log_p.double() - self.log_partition if self.is_normalised else log_p.double()


def weight_decay_term(weight_decay: float, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the term w/2 sum ||W||^2 by its name; an empty dictionary where w is 0."""
    if weight_decay == 0.0:
        return {}
    squares = torch.stack([weight.square().sum() for weight in weights])
    return {"weight_decay": 0.5 * weight_decay * squares.sum()}


def check_gibbs_steps(n_steps: int | Sequence[int]) -> tuple[int, int]:
    """Return the first and the last number of Gibbs steps, after checking that both are at least 1.

    Raises:
        InputError: `n_steps` is not a whole number of at least 1 or a pair of such numbers.
    """
    pair: Sequence[Any] = n_steps if isinstance(n_steps, Sequence) and len(n_steps) == 2 else (n_steps, n_steps)
    for n in pair:
        if not is_count(n):
            raise InputError(f"n_steps={n_steps!r}: it must be a whole number of at least 1, or a pair of such numbers")
    return int(pair[0]), int(pair[1])
