"""What every learning of an energy by chains shares: log Z, the steps of the chains, and what one looks at."""

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
from isthmus.learning.objectives import MONITOR_SEED, Decoder, Reconstruction
from isthmus.learning.rows import Rows
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.layers import is_count
from isthmus.parts.likelihoods import Bernoulli, Likelihood
from isthmus.parts.penalties import Penalty, check_weight

MONITORED_COLUMNS = 4
"""Columns of each row whose conditionals stand for all of them when learning is looked at."""


MIN_VALIDATION_ROWS = 20
"""Held-out rows below which the conditionals of some columns say nothing of which epoch was the best."""


class EnergyObjective(Reconstruction):
    """An objective whose model is an energy, learned by chains, read as the coder of the same weights.

    Args:
        encoder: x -> a, the input of the code's units.
        decoder: the way back down.
        code_activation: what makes rates of a.
        likelihood: p(v | h), of the energy.
        n_steps: Gibbs steps between two steps of learning; a pair grows from the first to the second.
        centred: take the centred step.
        weight_decay: w of the term w/2 sum ||W||^2.
        penalties: of the code, by name.

    Raises:
        InputError: fewer than one step, a negative weight.
    """

    min_validation_rows: ClassVar[int] = MIN_VALIDATION_ROWS

    log_partition: Tensor
    """log Z where it is known, else infinite."""

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
        del self.likelihood  # it is the energy's, and named once
        self.n_steps, self.centred = check_gibbs_steps(n_steps), centred
        self.weight_decay = check_weight("weight_decay", weight_decay)
        self.register_buffer("log_partition", torch.full((), torch.inf, dtype=torch.float64))

    @property
    @abstractmethod
    def rbm(self) -> RBMEnergy:
        """The energy as two layers: what log Z is of."""

    @property
    @abstractmethod
    def weights(self) -> list[Tensor]:
        """What weight decay is on."""

    @abstractmethod
    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, "looked batch"]
    ) -> Float[Tensor, "looked batch"]:
        """log p(v_j = 1 | the others) - log p(v_j = 0 | the others), for some columns j of each row of binary units."""

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "batch units"], Float[Tensor, "batch code_size"]]:
        """a, and the rates of the code's units."""
        a = self.encoder(self.impute(batch))
        return a, self.code_activation(a)

    def forward(self, batch: Batch, progress: float = 1.0, generator: torch.Generator | None = None) -> ForwardPass:
        """One trip up and down by rates; nothing is drawn."""
        v = self.impute(batch)
        a = self.encoder(v)
        code = self.code_activation(a)
        return ForwardPass(batch, v, a, code, self.decoder(code), progress=progress)

    def finish(self, rows: Rows) -> None:
        """Sum Z where that is within reach."""
        rbm_energy = self.rbm
        if rbm_energy.is_enumerable:
            self.log_partition.copy_(rbm_energy.log_partition())

    def steps_at(self, progress: float) -> int:
        """Gibbs steps at a progress of learning."""
        first, last = self.n_steps
        return round(first + (last - first) * progress)

    def weight_decay_term(self) -> dict[str, Tensor]:
        """The term of weight decay, where it is asked for."""
        return weight_decay_term(self.weight_decay, self.weights)

    @property
    def monitor_name(self) -> str:
        """What `monitor` is: "pseudo-likelihood" of binary units, "reconstruction" under other ones."""
        return "pseudo-likelihood" if isinstance(self.likelihood, Bernoulli) else "reconstruction"

    @torch.no_grad()
    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """-log pseudo-likelihood by row from `MONITORED_COLUMNS` columns of each, the same every time; where that has
        no closed form, the nll of the mean-field reconstruction."""
        if self.monitor_name == "reconstruction":
            return self.nll(self(batch))
        v = self.impute(batch)
        generator = torch.Generator().manual_seed(MONITOR_SEED)
        columns = torch.randint(v.shape[1], (MONITORED_COLUMNS, len(v)), generator=generator).to(v.device)
        seen = v.gather(1, columns.t()).t()
        logits = self.conditional_logits(v, columns)
        nll = F.binary_cross_entropy_with_logits(logits, seen, reduction="none")
        return v.shape[1] * nll.mean(0)

    @abstractmethod
    def impute(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """The rows, missing entries filled in."""

    @property
    def is_normalised(self) -> bool:
        """Whether log Z is known."""
        return math.isfinite(float(self.log_partition))

    def subtract_log_partition(self, log_p: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """log p up to a constant, less log Z where it is known; in double precision."""
        return log_p.double() - self.log_partition if self.is_normalised else log_p.double()


def weight_decay_term(weight_decay: float, weights: Sequence[Tensor]) -> dict[str, Tensor]:
    """The term w/2 sum ||W||^2 by its name; none where w is 0."""
    if weight_decay == 0.0:
        return {}
    squares = torch.stack([weight.square().sum() for weight in weights])
    return {"weight_decay": 0.5 * weight_decay * squares.sum()}


def check_gibbs_steps(n_steps: int | Sequence[int]) -> tuple[int, int]:
    """The first and the last number of steps."""
    pair: Sequence[Any] = n_steps if isinstance(n_steps, Sequence) and len(n_steps) == 2 else (n_steps, n_steps)
    for n in pair:
        if not is_count(n):
            raise InputError(f"n_steps={n_steps!r}: it must be a whole number of at least 1, or a pair of them")
    return int(pair[0]), int(pair[1])
