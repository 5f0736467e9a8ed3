"""Records that parts exchange: a `Batch` of rows and the `ForwardPass` of a batch through the model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

UNLABELLED = -1
"""Class number of a row without a label (`Batch.label`); a missing regression target is NaN."""


@dataclass(frozen=True)
class Batch:
    """Rows in model space, with what is known about them.

    Attributes:
        x: the rows, (batch, columns), float32 after preprocessing.
        rows: row numbers in the data set, for parts that keep a state for each row.
        target: the reconstruction target where it is not `x` itself.
        target_mask: 1 where an entry of the target was observed, 0 where it was missing.
        condition: an additional input of encoder and decoder.
        mask: 1 where an entry was observed, 0 where it was missing.
        weight: the weight of each row in the criterion.
        label: the class or the regression target of each row.
        neighbour: a row near each row, for penalties that compare the two.
    """

    x: Float[Tensor, "batch columns"]
    rows: Int[Tensor, " batch"] | None = None
    target: Float[Tensor, "batch targets"] | None = None
    condition: Float[Tensor, "batch conditions"] | None = None
    mask: Float[Tensor, "batch columns"] | None = None
    weight: Float[Tensor, " batch"] | None = None
    label: Tensor | None = None
    target_mask: Float[Tensor, "batch targets"] | None = None
    neighbour: Batch | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`; the same object if it is there already.

        A copy from the CPU to a GPU goes through pinned memory, so that it does not wait for the steps before it.
        """
        if self.x.device == device:
            return self

        def moved(part: Any) -> Any:
            if isinstance(part, Batch):
                return part.to(device)
            if device.type != "cuda" or part.device.type != "cpu":
                return part.to(device)
            return part.pin_memory().to(device, non_blocking=True)

        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {name: None if part is None else moved(part) for name, part in parts.items()}
        return Batch(**parts)

    @property
    def desired_output(self) -> Float[Tensor, "batch targets"]:
        """The reconstruction target: `target` where it is given, else `x`."""
        return self.x if self.target is None else self.target

    @property
    def observed(self) -> Float[Tensor, "batch targets"] | None:
        """The mask of the reconstruction target; None where all entries were observed."""
        return self.mask if self.target is None else self.target_mask


@dataclass(frozen=True)
class ForwardPass:
    """Values of one forward pass x -> x~ -> a -> h -> parameters of p_dec(x | h); draws are leading axes.

    Attributes:
        batch: the input batch; its mask says which entries were observed, and so count in the criterion.
        seen: the batch that the inference received: x~, and the mask of the entries that it may see.
        preactivation: a, the output of the encoder's last affine map.
        code: h, (*draws, batch, code_size).
        parameters: the decoder's output, (*draws, batch, n_parameters).
        log_q: log p_enc(h | x~) of each draw, where the inference is a distribution.
        log_prior: log p(h) of each draw, where the inference is a distribution.
        kl: KL(p_enc(h | x~) || p(h)) as parts whose sum it is, such as units, where it has a closed form.
        corruption_mask: 1 where the corruption was applied to an entry; None where it was applied to all, or to none.
        progress: training progress of this phase, in [0, 1].
    """

    batch: Batch
    seen: Batch
    preactivation: Float[Tensor, "*draws batch units"]
    code: Float[Tensor, "*draws batch code_size"]
    parameters: Float[Tensor, "*draws batch parameters"]
    log_q: Float[Tensor, "*draws batch"] | None = None
    log_prior: Float[Tensor, "*draws batch"] | None = None
    kl: Float[Tensor, "batch parts"] | None = None
    corruption_mask: Float[Tensor, "batch columns"] | None = None
    progress: float = 1.0
