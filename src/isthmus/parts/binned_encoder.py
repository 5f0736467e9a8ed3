"""An encoder that sees each column as bins of its distribution too, so that it learns steps and thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from isthmus.parts.networks import MLP


class BinnedEncoder(nn.Module):
    r"""Multilayer perceptron on [x * m, m, e]: the visible entries, their mask, and the part of each bin below them.

        e_jb = m_j clip((x_j - t_jb) / (t_j(b+1) - t_jb), 0, 1)

    A perceptron on x alone needs large weights for a step within a narrow range; e_j is linear within each bin, whose
    borders are quantiles of the column.

    Shapes: (*draws, batch, 2 * columns) -> (*draws, batch, sizes[-1]).

    Args:
        n_columns: columns of x.
        n_bins: bins of each column.
        sizes: units of the hidden layers and of the output.
        activation: activation of the hidden layers, and of the output, which follows.
        generator: the generator that initializes the weights.

    Source: Gorishniy, Rubachev & Babenko, On embeddings for numerical features in tabular deep learning (2022),
    section 3.2.

    Example:
        >>> encoder = BinnedEncoder(2, 4, (8, 3), "silu", generator=torch.Generator().manual_seed(0))
        >>> encoder(torch.zeros(5, 4)).shape
        torch.Size([5, 3])
    """

    borders: Tensor

    def __init__(
        self, n_columns: int, n_bins: int, sizes: Sequence[int], activation: str, *, generator: Generator
    ) -> None:
        super().__init__()
        self.network = MLP(
            ((2 + n_bins) * n_columns, *sizes), activation, output_activation=activation, generator=generator
        )
        self.register_buffer("borders", torch.arange(n_bins + 1.0).expand(n_columns, -1).clone())

    @torch.no_grad()
    def fit_borders(self, x: Float[Tensor, "rows columns"], mask: Bool[Tensor, "rows columns"]) -> None:
        """Set the borders to quantiles of the observed entries; equal quantiles are one border, further bins are empty.

        Args:
            x: rows.
            mask: the observed entries.
        """
        n_borders = self.borders.shape[1]
        at = torch.linspace(0, 1, n_borders, dtype=torch.float64)
        for column, (values, seen) in enumerate(zip(x.T, mask.T, strict=True)):
            found = torch.quantile(_some(values[seen]).double(), at).unique() if bool(seen.any()) else torch.zeros(1)
            last = float(found[-1])
            beyond = last + (abs(last) + 1.0) * torch.arange(1, n_borders - len(found) + 1)
            self.borders[column] = torch.cat([found.double(), beyond.double()])

    def forward(
        self, x: Float[Tensor, "*draws batch inputs"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """Apply the network to [x * m, m]."""
        value, mask = x.chunk(2, -1)
        low, high = self.borders[:, :-1], self.borders[:, 1:]
        bins = ((value[..., None] - low) / (high - low)).clamp(0, 1) * mask[..., None]
        return self.network(torch.cat([x, bins.flatten(-2)], -1), generator)


def _some(values: Float[Tensor, " values"]) -> Float[Tensor, " some"]:
    """Return at most about 10,000 values, evenly spaced."""
    return values[:: max(1, len(values) // 10_000)]
