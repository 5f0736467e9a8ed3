"""The stage of convolutional feature extraction: convolution, rectification, local contrast normalisation, pooling."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_CONTRAST = 1e-5
"""Least divisor of the normalisation, in units of the largest magnitude of an image: about the rounding of fp32."""

DEVIATIONS = 2.0
"""Half the width of the Gaussian window in its standard deviations."""


def gaussian_window(size: int) -> Float[Tensor, " size"]:
    """Return the weights of a Gaussian window along one axis, whose sum is 1.

    Half its width is two standard deviations.

    Example:
        >>> [round(weight, 3) for weight in gaussian_window(3).tolist()]
        [0.226, 0.549, 0.226]
    """
    positions = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weights = torch.exp(-0.5 * (DEVIATIONS * positions / (size / 2)).square())
    return (weights / weights.sum()).float()


def local_mean(x: Float[Tensor, "n 1 h w"], size: int) -> Float[Tensor, "n 1 h w"]:
    """Return the mean over a Gaussian window around each pixel, and over the part of it inside the image at a border.

    Example:
        >>> bool((local_mean(torch.full((1, 1, 5, 4), 3.0), 3) - 3).abs().max() < 1e-6)
        True
    """
    window = gaussian_window(size).to(x)
    inside = torch.ones(1, 1, *x.shape[2:]).to(x)
    return _blurred(x, window) / _blurred(inside, window)


def _blurred(x: Float[Tensor, "n 1 h w"], window: Float[Tensor, " size"]) -> Float[Tensor, "n 1 h w"]:
    half = len(window) // 2
    down = F.conv2d(x, window[None, None, :, None], padding=(half, 0))
    return F.conv2d(down, window[None, None, None, :], padding=(0, half))


def local_contrast_normalized(x: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c h w"]:
    r"""Subtract the local mean of an image, and divide by the local deviation, both over all channels.

        v_i = x_i - mean_w(x),   s = sqrt(mean_w(v^2)),   y_i = v_i / max(s, mean of s over the image)

    mean_w is the mean over the channels and over a Gaussian window around the pixel. An image of one value becomes 0.

    Args:
        x: images or maps.
        size: side of the window, odd.

    Source: Jarrett, Kavukcuoglu, Ranzato & LeCun, What is the best multi-stage architecture for object recognition?
    (2009), section 2.1, layer N.
    """
    v = x - local_mean(x.mean(1, keepdim=True), size)
    deviation = local_mean(v.square().mean(1, keepdim=True), size).clamp(min=0).sqrt()
    least = deviation.mean((1, 2, 3), keepdim=True)
    rounding = SMALLEST_CONTRAST * x.abs().amax((1, 2, 3), keepdim=True)
    return v / torch.maximum(deviation, torch.maximum(least, rounding)).clamp(min=torch.finfo(x.dtype).tiny)


def convolved(
    x: Float[Tensor, "n c h w"], filters: Float[Tensor, "filters c kh kw"], n_tiles: int = 1
) -> Float[Tensor, "n maps positions_down positions_across"]:
    r"""Return the responses of filters at each position where they fit into the image.

        a_m(i, j) = <filter of map m for (i mod k, j mod k), patch of x at (i, j)>,   k = n_tiles

    The filters are `n_tiles` ^ 2 sets of one filter for each map; set s is used at positions with
    (i mod k) k + (j mod k) = s. With one tile this is a convolution.

    Example:
        >>> x = torch.ones(1, 1, 1, 4)
        >>> convolved(x, torch.tensor([1.0, 2, 3, 4]).reshape(4, 1, 1, 1), 2).flatten().tolist()
        [1.0, 2.0, 1.0, 2.0]
    """
    if n_tiles == 1:
        return F.conv2d(x, filters)
    sets = filters.unflatten(0, (n_tiles * n_tiles, -1))
    height, width = x.shape[2] - filters.shape[2] + 1, x.shape[3] - filters.shape[3] + 1
    out = x.new_empty(len(x), sets.shape[1], height, width)
    for number, of_set in enumerate(sets):
        i, j = divmod(number, n_tiles)
        if i < height and j < width:
            out[:, :, i::n_tiles, j::n_tiles] = F.conv2d(x[:, :, i:, j:], of_set, stride=n_tiles)
    return out


class FilterStage(nn.Module):
    r"""Filters, non-linearity, rectification, normalisation and pooling of maps.

        a = x * filters / scale,   y = pool(normalise(|gain tanh(a)|))

    Args:
        filters: (filters, c, kh, kw), the sets of `n_tiles` ^ 2 tiles one after the other.
        scale: what the responses of each filter are divided by, (filters,).
        gain: factor of each map after the non-linearity, (maps,).
        n_tiles: see `convolved`.
        activation: "tanh" or "linear".
        rectification: "abs" or None.
        normalization_size: side of the window of the local contrast normalisation; None leaves it out.
        pooling: "mean", "max" or None.
        pool_size, pool_stride: side of the pooling windows and distance of neighbouring ones.
    """

    filters: Tensor
    gain: Tensor

    def __init__(
        self,
        filters: Float[Tensor, "filters c kh kw"],
        scale: Float[Tensor, " filters"],
        gain: Float[Tensor, " maps"],
        *,
        n_tiles: int,
        activation: str,
        rectification: str | None,
        normalization_size: int | None,
        pooling: str | None,
        pool_size: int,
        pool_stride: int,
    ) -> None:
        super().__init__()
        self.register_buffer("filters", filters / scale[:, None, None, None])
        self.register_buffer("gain", gain[:, None, None])
        self.n_tiles, self.activation, self.rectification = n_tiles, activation, rectification
        self.normalization_size, self.pooling = normalization_size, pooling
        self.pool_size, self.pool_stride = pool_size, pool_stride

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n maps down across"]:
        """Return the maps of images or of other maps."""
        y = convolved(x, self.filters, self.n_tiles)
        if self.activation == "tanh":
            y = y.tanh_()
        y = y * self.gain
        if self.rectification == "abs":
            y = y.abs_()
        if self.normalization_size is not None:
            y = local_contrast_normalized(y, self.normalization_size)
        if self.pooling == "mean":
            return F.avg_pool2d(y, self.pool_size, self.pool_stride)
        return y if self.pooling is None else F.max_pool2d(y, self.pool_size, self.pool_stride)


def squared_responses(
    x: Float[Tensor, "n c h w"], filters: Float[Tensor, "filters c kh kw"], n_tiles: int
) -> Float[Tensor, " filters"]:
    """Return the sum of the squared responses of each filter, and the number of its positions: (2, filters).

    Example:
        >>> squared_responses(torch.full((2, 1, 3, 3), 2.0), torch.ones(1, 1, 1, 1), 1).tolist()
        [[72.0], [18.0]]
    """
    square = convolved(x, filters, n_tiles).double().square()
    parts = []
    for number in range(n_tiles * n_tiles):
        i, j = divmod(number, n_tiles)
        own = square[:, :, i::n_tiles, j::n_tiles]
        n = len(own) * math.prod(own.shape[2:])
        parts.append(torch.stack([own.sum((0, 2, 3)), torch.full((own.shape[1],), float(n), dtype=torch.float64)]))
    return torch.cat(parts, 1)
