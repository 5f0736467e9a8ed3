"""Encoder of rows whose condition shifts the code."""

from __future__ import annotations

from typing import cast

from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.layers import affine


class ShiftedEncoder(nn.Module):
    """Encoder whose output the condition shifts: a = encoder(x) + W c.

    It conditions a network that reads rows alone, such as convolutions of an image.

    Shapes: [x, c] (*draws, batch, columns + n_conditions) -> (*draws, batch, units).

    Args:
        encoder: x -> encoder(x).
        n_conditions: width of c.
        n_units: width of the output.
        generator: of the weights W.

    Example:
        >>> import torch
        >>> encoder = ShiftedEncoder(nn.Identity(), 2, 3, generator=torch.Generator().manual_seed(0))
        >>> encoder(torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0]]))
        tensor([[1., 2., 3.]], grad_fn=<AddBackward0>)
    """

    def __init__(self, encoder: nn.Module, n_conditions: int, n_units: int, *, generator: Generator) -> None:
        super().__init__()
        self.encoder, self.n_conditions = encoder, n_conditions
        self.shift = affine(n_conditions, n_units, "linear", bias=False, generator=generator)

    def forward(
        self, inputs: Float[Tensor, "*draws batch inputs"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """Return the shifted output of the encoder."""
        n_columns = inputs.shape[-1] - self.n_conditions
        x, condition = inputs[..., :n_columns], inputs[..., n_columns:]
        output = self.encoder(x) if generator is None else self.encoder(x, generator)
        return cast(Tensor, output + self.shift(condition))
