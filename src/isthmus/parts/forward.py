"""What parts hand each other: a `Batch` enters, a `ForwardPass` is one trip of it through the model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution


@dataclass(frozen=True)
class Batch:
    """Rows in model space, and whatever else is known of them.

    Attributes:
        x: the rows, (batch, columns), float32 after preprocessing.
        rows: their numbers in the data set, so that a part can keep state by row.
        target: what is to be reconstructed where it is not `x` itself.
        condition: what encoder and decoder are told besides.
        mask: 1 where an entry was observed, 0 where it was missing.
        weight: the weight of each row in the criterion.
        label: the class or number that belongs to each row.
    """

    x: Float[Tensor, "batch columns"]
    rows: Int[Tensor, " batch"] | None = None
    target: Float[Tensor, "batch targets"] | None = None
    condition: Float[Tensor, "batch conditions"] | None = None
    mask: Float[Tensor, "batch columns"] | None = None
    weight: Float[Tensor, " batch"] | None = None
    label: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; itself where it is there already."""
        if self.x.device == device:
            return self
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {name: None if part is None else part.to(device) for name, part in parts.items()}
        return Batch(**parts)

    @property
    def desired_output(self) -> Float[Tensor, "batch targets"]:
        """What the decoder is asked for: the target where there is one, else the rows themselves."""
        return self.x if self.target is None else self.target


@dataclass(frozen=True)
class ForwardPass:
    """One trip x -> x~ -> a -> h -> parameters of p_dec(x | h); draws are leading axes.

    Attributes:
        batch: what entered.
        corrupted: x~, the input after the corruption.
        preactivation: a, what the encoder's last affine map gave.
        code: h, (*draws, batch, code_size).
        parameters: the decoder's output, (*draws, batch, n_parameters).
        posterior: p_enc(h | x~) where inference is a distribution.
        prediction: a second opinion on the code (the predictor of predictive sparse decomposition).
        hit: 1 where the corruption changed an entry; None where it changed all, or nothing was corrupted.
        progress: how far learning has come in this phase, in [0, 1].
    """

    batch: Batch
    corrupted: Float[Tensor, "batch columns"]
    preactivation: Float[Tensor, "*draws batch units"]
    code: Float[Tensor, "*draws batch code_size"]
    parameters: Float[Tensor, "*draws batch parameters"]
    posterior: Distribution | None = None
    prediction: Tensor | None = None
    corruption_mask: Float[Tensor, "batch columns"] | None = None
    progress: float = 1.0
