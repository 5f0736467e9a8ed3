"""What is learned of rows by passing over them before and after learning, and the block they are read in."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from isthmus.data.streams import BLOCK, blocks
from isthmus.evaluation.baseline import PrincipalComponents, principal_components
from isthmus.learning.rows import Rows
from isthmus.parts.passes import Batch


def blocks_of_x(rows: Rows) -> Iterator[Float[Tensor, "block columns"]]:
    """The rows in model space, a block at a time."""
    return (batch.x for batch in blocks(rows, 1024))


def telling_block(rows: Rows) -> Float[Tensor, "block columns"]:
    """The block that tells "auto" all it asks: the first with a value outside [0, 1], else with one inside it."""
    grey = None
    for x in blocks_of_x(rows):
        if bool(((x < 0) | (x > 1)).any()):
            return x
        if grey is None and not bool(((x == 0) | (x == 1)).all()):
            grey = x
    return next(blocks_of_x(rows)) if grey is None else grey


def fit_baseline(rows: Rows, code_size: int) -> PrincipalComponents:
    """The principal components that the model is compared with: of the same rows and of the same code size."""
    return principal_components(lambda: blocks_of_x(rows), rows.n_columns, code_size)


def padded(batch: Batch) -> Batch:
    """The batch filled up with rows of zeros to `BLOCK` rows."""
    missing = BLOCK - len(batch.x)
    if not missing:
        return batch

    def fill(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.nn.functional.pad(tensor, (0, 0, 0, missing))

    x = fill(batch.x)
    assert x is not None
    return Batch(x, mask=fill(batch.mask))
