"""The maps of an autoencoder: multilayer perceptrons, plain and tied, drawn from an explicit generator.

Their layers are in `isthmus.parts.layers`, the convolutional pair in `isthmus.parts.convolutions`; what other rooms
need of both is here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.convolutions import ConvolutionalDecoder, ConvolutionalEncoder
from isthmus.parts.layers import (
    ACTIVATIONS,
    INIT_SCHEMES,
    Normalization,
    affine,
    apply_layers,
    check_choice,
    check_options,
    check_sizes,
    hidden_layers,
    post_affine_modules,
)

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "Normalization",
    "TiedMLP",
    "check_choice",
    "check_sizes",
    "default_hidden_sizes",
]


class MLP(nn.Module):
    """a_l = W_l h_(l-1) + b_l,  h_l = dropout(f(norm(a_l))),  h_0 = x; the output is the last a.

    Shapes: (*draws, batch, sizes[0]) -> (*draws, batch, sizes[-1]).

    Args:
        sizes: units of every layer, input and output included; two sizes make one affine map.
        activation: a name in `ACTIVATIONS`, for the hidden layers.
        normalization: None, "batch" or "layer", before the activation of the hidden layers.
        dropout: the rate at which hidden units are dropped while training.
        output_activation: the activation that follows the output, for which the last map is initialised.
        generator: what the weights are drawn from.

    Raises:
        InputError: fewer than two sizes, a size below 1, an unknown name, a rate outside [0, 1).

    Source: DL book, chapter 6.

    Example:
        >>> encoder = MLP((8, 4, 2), "relu", generator=torch.Generator().manual_seed(0))
        >>> encoder(torch.zeros(5, 8)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        *,
        normalization: Normalization | None = None,
        dropout: float = 0.0,
        output_activation: str = "linear",
        generator: Generator,
    ) -> None:
        super().__init__()
        check_options(activation, normalization, dropout)
        check_sizes("MLP", sizes)
        if len(sizes) < 2:
            raise InputError(f"MLP: {tuple(sizes)} is not a map; give at least the size of input and output")
        self.sizes = tuple(int(size) for size in sizes)
        self.activation = activation
        self.normalization = normalization
        self.dropout = float(dropout)
        *inner, n_out = self.sizes
        input_activation = activation if len(inner) > 1 else "linear"
        self.layers = nn.Sequential(
            *hidden_layers(inner, activation, normalization, self.dropout, generator=generator),
            affine(inner[-1], n_out, output_activation, input_activation=input_activation, generator=generator),
        )

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the last bias: what the network gives before it has learned, up to the scatter of its weights."""
        self.affine_maps[-1].bias.copy_(output)

    @torch.no_grad()
    def centre(self, mean: Float[Tensor, " inputs"]) -> None:
        """Take W mean away from the first bias, so that the first units see centred rows: W (x - mean) + b."""
        first = self.affine_maps[0]
        if first.bias is not None:
            first.bias.sub_(first.weight @ mean)

    @property
    def affine_maps(self) -> list[nn.Linear]:
        """The affine maps, first to last."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """Map x; dropout applies while training and when a generator is given."""
        if self.dropout == 0.0 or generator is None:
            return self.layers(x)
        return apply_layers(self.layers, x, generator)


class TiedMLP(nn.Module):
    """h_(l-1) = f(norm(W_l^T h_l + c_l)), l = n..1: the encoder's weights transposed, own biases, linear output.

    Shapes: (*draws, batch, encoder.sizes[-1]) -> (*draws, batch, encoder.sizes[0]).

    The weights are the encoder's own tensors. They are not registered here, so that `parameters()` and
    `state_dict()` of an objective that holds both name each once; a deep copy of that objective ties its copies
    to each other, and `.to(device)` is called on the objective, not on this module alone.

    Args:
        encoder: whose weights are shared, and whose activation, normalisation and dropout are taken over.

    Source: Vincent et al. (2010), section 2.2; DL book 14.7.

    Example:
        >>> encoder = MLP((8, 4, 2), "relu", generator=torch.Generator().manual_seed(0))
        >>> decoder = TiedMLP(encoder)
        >>> decoder(torch.zeros(5, 2)).shape, sum(p.numel() for p in decoder.parameters())
        (torch.Size([5, 8]), 12)
    """

    def __init__(self, encoder: MLP) -> None:
        super().__init__()
        # In a tuple, nn.Module does not register it; deepcopy still follows it with the copies already made.
        self._encoder = (encoder,)
        normalization, activation = encoder.normalization, encoder.activation
        hidden = reversed(encoder.sizes[1:-1])
        self.finishes = nn.ModuleList(
            nn.Sequential(*post_affine_modules(n_units, activation, normalization, encoder.dropout))
            for n_units in hidden
        )
        # Batch normalisation would take a hidden layer's bias away again: then only the last layer has one.
        self.biases = nn.ParameterList()
        input_activation = "linear"
        for depth, weight in enumerate(self._weights()):
            if normalization != "batch" or depth == len(self.finishes):
                self.biases.append(nn.Parameter(-INIT_SCHEMES[input_activation].mean * weight.detach().sum(1)))
            input_activation = activation

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the last bias: what the decoder gives before it has learned, up to the scatter of its weights."""
        self.biases[-1].copy_(output)

    def _weights(self) -> list[Tensor]:
        return [layer.weight.t() for layer in reversed(self._encoder[0].affine_maps)]

    def forward(
        self, code: Float[Tensor, "*draws batch code_size"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """Map a code back; dropout applies while training and when a generator is given."""
        weights = self._weights()
        biases = [*[None] * (len(weights) - len(self.biases)), *self.biases]
        h = code
        for weight, bias, finish in zip(weights, biases, [*self.finishes, None], strict=True):
            h = F.linear(h, weight, bias)
            if finish is not None:
                h = apply_layers(finish, h, generator)
        return h


def default_hidden_sizes(n_columns: int, code_size: int) -> tuple[int, int]:
    """h1 = the largest power of two <= n_columns, within [64, 512]; h2 = h1 / 2; none narrower than the code.

    Args:
        n_columns: columns of the model space.
        code_size: units of the code.

    Returns:
        The sizes of the encoder's hidden layers; the decoder has them in reverse.

    Raises:
        InputError: a size is below 1.

    Example:
        >>> default_hidden_sizes(784, 32), default_hidden_sizes(10, 3), default_hidden_sizes(100, 80)
        ((512, 256), (64, 32), (80, 80))
    """
    check_sizes("default_hidden_sizes", (n_columns, code_size))
    first = min(max(1 << (int(n_columns).bit_length() - 1), 64), 512)
    return max(first, code_size), max(first // 2, code_size)
