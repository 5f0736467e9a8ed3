"""Networks of one convolution: filters at every position of a row, whose code is their maps."""

from __future__ import annotations

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.dictionaries import FilterGrid, Filters
from isthmus.parts.sampling import randn_like


class FilterLayer(nn.Module):
    """Base class of networks of one convolution: the filters, and a bias for each map or channel of the output."""

    grid: FilterGrid

    def __init__(self, grid: FilterGrid, filters: Float[Tensor, "maps channels *kernel"], *, n_biases: int) -> None:
        super().__init__()
        self.grid = grid
        self.weight = nn.Parameter(Filters(filters, grid).values.detach().clone())
        self.bias = nn.Parameter(filters.new_zeros(n_biases))

    @property
    def dictionary(self) -> Filters:
        """The filters as a dictionary, without the biases."""
        return Filters(self.weight, self.grid)


class FilterEncoder(FilterLayer):
    r"""Encoder of one convolution: a_m = w_m * x + b_m at every position.

    Shapes: (*draws, batch, columns), each row in the order (channels, *axes) -> (*draws, batch, code_size), in the
    order (maps, *positions).

    Args:
        grid: the sizes.
        filters: initial weights w, (maps, channels, *kernel).

    Raises:
        InputError: weights of other sizes.

    Example:
        >>> encoder = FilterEncoder(FilterGrid((1, 28, 28), n_maps=4, kernel_size=5), torch.zeros(4, 1, 5, 5))
        >>> encoder(torch.zeros(2, 784)).shape
        torch.Size([2, 3136])
    """

    def __init__(self, grid: FilterGrid, filters: Float[Tensor, "maps channels *kernel"]) -> None:
        super().__init__(grid, filters, n_biases=grid.n_maps)

    @torch.no_grad()
    def centre(self, mean: Float[Tensor, " columns"]) -> None:
        """Subtract the response to the mean value of each channel from the biases."""
        level = mean.reshape(self.grid.row_shape[0], -1).mean(1)
        self.bias.sub_(self.weight.flatten(2).sum(2) @ level)

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch code_size"]:
        """Return the maps; no random numbers are used."""
        maps = self.dictionary.correlate(x.reshape(-1, x.shape[-1]))
        maps = maps.unflatten(1, (self.grid.n_maps, -1)) + self.bias[:, None]
        return maps.reshape(*x.shape[:-1], self.grid.code_size)


class FilterDecoder(FilterLayer):
    r"""Decoder of one transposed convolution: r = sum_m w_m * h_m + c, with an offset c for each channel.

    Shapes: (*draws, batch, code_size) -> (*draws, batch, columns), in the orders of `FilterEncoder`.

    Args:
        grid: the sizes.
        filters: initial weights w, (maps, channels, *kernel).

    Raises:
        InputError: weights of other sizes.

    Example:
        >>> decoder = FilterDecoder(FilterGrid((1, 28, 28), n_maps=4, kernel_size=5), torch.zeros(4, 1, 5, 5))
        >>> decoder(torch.zeros(2, 3136)).shape
        torch.Size([2, 784])
    """

    def __init__(self, grid: FilterGrid, filters: Float[Tensor, "maps channels *kernel"]) -> None:
        super().__init__(grid, filters, n_biases=grid.row_shape[0])

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " columns"]) -> None:
        """Set the offset of each channel to the mean of `output` over its positions."""
        self.bias.copy_(output.reshape(len(self.bias), -1).mean(1))

    def forward(
        self, code: Float[Tensor, "*draws batch code_size"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return the rows; no random numbers are used."""
        rows = self.dictionary.decode(code.reshape(-1, code.shape[-1]))
        rows = rows.unflatten(1, (len(self.bias), -1)) + self.bias[:, None]
        return rows.reshape(*code.shape[:-1], self.grid.n_columns)


class ByMap(nn.Module):
    """Activation whose parameters, one for each map, are those of all positions of the map.

    Args:
        activation: activation of a code with one unit for each map.
        n_maps: number of maps.

    Example:
        >>> ByMap(nn.ReLU(), n_maps=2)(torch.tensor([[1.0, -1.0, 2.0, -2.0]]))
        tensor([[1., 0., 2., 0.]])
    """

    def __init__(self, activation: nn.Module, n_maps: int) -> None:
        super().__init__()
        self.activation, self.n_maps = activation, n_maps

    def forward(self, preactivation: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws units"]:
        """Return the activation of each unit."""
        maps = preactivation.unflatten(-1, (self.n_maps, -1)).transpose(-1, -2)
        return cast(Tensor, self.activation(maps)).transpose(-1, -2).flatten(-2)


def unit_filters(grid: FilterGrid, generator: Generator) -> Float[Tensor, "maps channels *kernel"]:
    """Return random filters of norm 1.

    Example:
        >>> unit_filters(FilterGrid((1, 9), 2, 3), torch.Generator().manual_seed(0)).flatten(1).norm(dim=1)
        tensor([1., 1.])
    """
    filters = randn_like(torch.empty(grid.filters_shape), generator)
    return filters / filters.flatten(1).norm(dim=1).reshape(-1, *([1] * (filters.ndim - 1)))


def n_weights(grid: FilterGrid) -> int:
    """Return the number of weights of a filter."""
    return math.prod(grid.filters_shape[1:])
