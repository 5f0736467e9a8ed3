"""Multilayer perceptrons, with and without tied weights, initialized from an explicit generator.

The layers are in `isthmus.parts.layers` and the convolutional networks in `isthmus.parts.convolutions`; this module
re-exports the names of both that the rest of the package uses.
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
    """Multilayer perceptron: a_l = W_l h_(l-1) + b_l,  h_l = dropout(f(norm(a_l))),  h_0 = x.

    The output is the last a, without activation.

    Shapes: (*draws, batch, sizes[0]) -> (*draws, batch, sizes[-1]).

    Args:
        sizes: units of every layer, input and output included; two sizes give one affine map.
        activation: a name in `ACTIVATIONS`, for the hidden layers.
        normalization: None, "batch" or "layer", before the activation of the hidden layers.
        dropout: the rate at which hidden units are dropped during training.
        output_activation: the activation that follows the output, for which the last map is initialized.
        generator: the generator that initializes the weights.

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
            raise InputError(f"MLP: sizes {tuple(sizes)} are too few; give at least the sizes of input and output")
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
        """Set the last bias to `output`, the initial output up to the random weights."""
        self.affine_maps[-1].bias.copy_(output)

    @torch.no_grad()
    def centre(self, mean: Float[Tensor, " inputs"]) -> None:
        """Subtract W mean from the first bias, so that the first layer computes W (x - mean) + b."""
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
        """Apply the network; dropout applies in training mode and when a generator is given."""
        if self.dropout == 0.0 or generator is None:
            return self.layers(x)
        return apply_layers(self.layers, x, generator)


class TiedMLP(nn.Module):
    """Decoder with the encoder's transposed weights: h_(l-1) = f(norm(W_l^T h_l + c_l)), l = n..1.

    It has biases of its own, and its last layer is linear.

    Shapes: (*draws, batch, encoder.sizes[-1]) -> (*draws, batch, encoder.sizes[0]).

    The weights are the encoder's own tensors. They are not registered here, so that `parameters()` and
    `state_dict()` of a coder that holds both name each once. A deep copy of that coder ties its copies
    to each other. Call `.to(device)` on the coder, not on this module alone.

    Args:
        encoder: the network that shares its weights; activation, normalisation and dropout are the same.

    Source: Vincent et al. (2010), section 2.2; DL book 14.7.

    Example:
        >>> encoder = MLP((8, 4, 2), "relu", generator=torch.Generator().manual_seed(0))
        >>> decoder = TiedMLP(encoder)
        >>> decoder(torch.zeros(5, 2)).shape, sum(p.numel() for p in decoder.parameters())
        (torch.Size([5, 8]), 12)
    """

    def __init__(self, encoder: MLP) -> None:
        super().__init__()
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._encoder = (encoder,)
        normalization, activation = encoder.normalization, encoder.activation
        hidden = reversed(encoder.sizes[1:-1])
        self.finishes = nn.ModuleList(
            nn.Sequential(*post_affine_modules(n_units, activation, normalization, encoder.dropout))
            for n_units in hidden
        )
        # Batch normalisation cancels the bias of a hidden layer: with it only the last layer has a bias.
        self.biases = nn.ParameterList()
        input_activation = "linear"
        for depth, weight in enumerate(self._weights()):
            if normalization != "batch" or depth == len(self.finishes):
                self.biases.append(nn.Parameter(-INIT_SCHEMES[input_activation].mean * weight.detach().sum(1)))
            input_activation = activation

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the last bias to `output`, the initial output up to the random weights."""
        self.biases[-1].copy_(output)

    def _weights(self) -> list[Tensor]:
        return [layer.weight.t() for layer in reversed(self._encoder[0].affine_maps)]

    def forward(
        self, code: Float[Tensor, "*draws batch code_size"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch columns"]:
        """Decode a code; dropout applies in training mode and when a generator is given."""
        weights = self._weights()
        biases = [*[None] * (len(weights) - len(self.biases)), *self.biases]
        h = code
        for weight, bias, finish in zip(weights, biases, [*self.finishes, None], strict=True):
            h = F.linear(h, weight, bias)
            if finish is not None:
                h = apply_layers(finish, h, generator)
        return h


def default_hidden_sizes(n_columns: int, code_size: int) -> tuple[int, int]:
    """Return the default sizes h1, h2 of the encoder's hidden layers.

    h1 is the largest power of two <= n_columns, within [64, 512], and h2 = h1 / 2; neither is smaller than the code.

    Args:
        n_columns: columns of the model space.
        code_size: units of the code.

    Returns:
        The sizes of the encoder's hidden layers; the decoder has them in reverse order.

    Raises:
        InputError: a size is below 1.

    Example:
        >>> default_hidden_sizes(784, 32), default_hidden_sizes(10, 3), default_hidden_sizes(100, 80)
        ((512, 256), (64, 32), (80, 80))
    """
    check_sizes("default_hidden_sizes", (n_columns, code_size))
    first = min(max(1 << (int(n_columns).bit_length() - 1), 64), 512)
    return max(first, code_size), max(first // 2, code_size)
