"""The maps of an autoencoder: multilayer perceptrons, plain and tied, drawn from an explicit generator.

Torch's own layers draw their weights and `F.dropout` its masks from the global generator, so both are drawn
here: building, deep-copying and running these modules leaves `torch.random.get_rng_state()` as it was.
The convolutional pair, made of the same pieces, is in `isthmus.parts.convolutions`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError

Normalization = Literal["batch", "layer"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "linear": nn.Identity,
}

NORMALIZATIONS = ("batch", "layer")


@dataclass(frozen=True)
class Scheme:
    """How the weights before an activation are drawn, and what the next layer has to expect of it.

    Attributes:
        gain: the standard deviation of a weight is gain / sqrt(fan).
        fan: "in" = n_in (He), "mean" = (n_in + n_out) / 2 (Glorot).
        mean: E[f(z)] that the biases of the next layer take away, where a unit that is always positive would
            saturate the layer above it; zero where the literature's scheme leaves the mean alone.
    """

    gain: float
    fan: Literal["in", "mean"]
    mean: float = 0.0


# He's argument asks for 1 / sqrt(E[f(z)^2]) with z ~ N(0, 1): sqrt(2) for the ReLU, integrals for its smooth
# relatives (softplus by its variance, since its mean is taken away). Glorot's asks for 1 / f'(0): 4 for the
# sigmoid.
SCHEMES: dict[str, Scheme] = {
    "sigmoid": Scheme(4.0, "mean", mean=0.5),
    "tanh": Scheme(1.0, "mean"),
    "relu": Scheme(math.sqrt(2.0), "in"),
    "gelu": Scheme(1.5335304, "in"),
    "silu": Scheme(1.6765325, "in"),
    "softplus": Scheme(1.9191260, "in", mean=0.8060592),
    "linear": Scheme(1.0, "mean"),
}


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a name that is not among the choices, and suggest the nearest one.

    Raises:
        InputError: `value` is not one of `choices`.

    Example:
        >>> check_choice("activation", "rleu", list(ACTIVATIONS))
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: activation 'rleu' is unknown; did you mean 'relu'? ...
    """
    if isinstance(value, str) and value in choices:
        return
    near = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.4)
    suggestion = f"did you mean '{near[0]}'? " if near else ""
    known = ", ".join(choices)
    raise InputError(f"{what} {value!r} is unknown; {suggestion}choose one of: {known}")


def check_sizes(what: str, sizes: Sequence[int]) -> None:
    """Refuse sizes below one: a layer needs at least one unit.

    Raises:
        InputError: a size is not a whole number of at least 1.
    """
    for position, size in enumerate(sizes):
        if isinstance(size, bool) or not hasattr(size, "__index__") or int(size) < 1:
            raise InputError(
                f"{what}: size {size!r} at position {position} of {tuple(sizes)} is not a whole number of at "
                "least 1; give every layer one unit or more"
            )


def check_options(activation: str, normalization: str | None, dropout: float) -> None:
    """Refuse an unknown activation or normalisation, and a dropout rate outside [0, 1).

    Raises:
        InputError: with what was found and what may be chosen.
    """
    check_choice("activation", activation, list(ACTIVATIONS))
    if normalization is not None:
        check_choice("normalization", normalization, NORMALIZATIONS)
    if not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout {dropout!r} is not a rate; give a number from 0 (none) to just below 1")


@torch.no_grad()
def initialise(weight: Tensor, fan_in: float, fan_out: float, activation: str, generator: Generator) -> None:
    """Fill a weight with w ~ N(0, gain^2 / fan), gain and fan by the activation that follows it.

    Source: Glorot & Bengio (2010), eq. 16; He et al. (2015), eq. 10; DL book 8.4.
    """
    scheme = SCHEMES[activation]
    fan = fan_in if scheme.fan == "in" else (fan_in + fan_out) / 2
    nn.init.normal_(weight, 0.0, scheme.gain / math.sqrt(fan), generator=generator)


def affine(
    n_in: int,
    n_out: int,
    activation: str,
    *,
    fed_by: str = "linear",
    bias: bool = True,
    generator: Generator,
) -> nn.Linear:
    """a = W x + b with W drawn for the activation that follows, and b taking away the mean of what feeds it.

    W is (n_out, n_in), b is (n_out,); `fed_by` is the activation whose output x is.

    Example:
        >>> affine(3, 2, "relu", generator=torch.Generator().manual_seed(0)).weight.shape
        torch.Size([2, 3])
    """
    layer = skip_init(nn.Linear, n_in, n_out, bias=bias)
    initialise(layer.weight, n_in, n_out, activation, generator)
    if bias:
        with torch.no_grad():
            layer.bias.copy_(-SCHEMES[fed_by].mean * layer.weight.sum(1))
    return layer


class Dropout(nn.Module):
    """x -> x * m / (1 - rate), m ~ Bernoulli(1 - rate), drawn from the generator handed to `forward`.

    Shapes: any; with `whole_maps`, (batch, channels, height, width) and one draw for each map.
    It applies only while training and only when a generator is given.

    Source: Srivastava et al. (2014); whole maps: Tompson et al. (2015), section 3.2.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> Dropout(0.5)(torch.ones(1, 4), generator).unique().tolist()
        [0.0, 2.0]
    """

    def __init__(self, rate: float, *, whole_maps: bool = False) -> None:
        super().__init__()
        self.rate = rate
        self.whole_maps = whole_maps

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Drop, or hand x through unchanged."""
        if not self.training or generator is None:
            return x
        shape = (*x.shape[:2], 1, 1) if self.whole_maps else x.shape
        # Drawn where the generator lives: a generator of the CPU gives every device the same masks.
        kept = torch.rand(shape, generator=generator, device=generator.device) >= self.rate
        return x * kept.to(x.device, x.dtype).div_(1.0 - self.rate)

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return f"rate={self.rate}"


class BatchNormalization(nn.Module):
    """y = g (x - mean) / sqrt(var + eps) + b, by the batch's moments of each unit; when reading, the running ones.

    Shapes: (*draws, batch, units), or (batch, channels, height, width) with `maps`. Leading draws count as
    rows, and a batch of one row, which has no variance, is normalised by the running moments; torch's own
    layers take draws for channels and refuse the one row.

    Source: Ioffe & Szegedy (2015), algorithm 1; DL book 8.7.1.

    Example:
        >>> BatchNormalization(2)(torch.tensor([[0.0, 1.0], [2.0, 5.0]])).detach().round()
        tensor([[-1., -1.], [ 1.,  1.]])
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, n_units: int, *, maps: bool = False) -> None:
        super().__init__()
        self.maps = maps
        self.weight = nn.Parameter(torch.ones(n_units))
        self.bias = nn.Parameter(torch.zeros(n_units))
        self.register_buffer("running_mean", torch.zeros(n_units))
        self.register_buffer("running_variance", torch.ones(n_units))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; while training the running moments move a tenth of the way to the batch's."""
        rows = x if self.maps else x.reshape(-1, x.shape[-1])
        learn = self.training and rows.numel() > len(self.weight)
        y = F.batch_norm(rows, self.running_mean, self.running_variance, self.weight, self.bias, learn, momentum=0.1)
        return y if self.maps else y.view(x.shape)


def finish_layer(
    n_units: int, activation: str, normalization: str | None, dropout: float, *, maps: bool = False
) -> list[nn.Module]:
    """What follows a hidden layer's affine map: normalisation, activation, dropout, each only where it acts."""
    layers: list[nn.Module] = []
    if normalization == "batch":
        layers.append(BatchNormalization(n_units, maps=maps))
    elif normalization == "layer":
        layers.append(nn.GroupNorm(1, n_units) if maps else nn.LayerNorm(n_units))
    if activation != "linear":
        layers.append(ACTIVATIONS[activation]())
    if dropout > 0.0:
        layers.append(Dropout(dropout, whole_maps=maps))
    return layers


def run(layers: Iterable[nn.Module], x: Tensor, generator: Generator | None) -> Tensor:
    """Pass x through the layers, handing the generator to those that draw."""
    for layer in layers:
        x = layer(x, generator) if isinstance(layer, Dropout) else layer(x)
    return x


class MLP(nn.Module):
    """a_l = W_l h_(l-1) + b_l,  h_l = dropout(f(norm(a_l))),  h_0 = x; the output is the last a.

    Shapes: (*draws, batch, sizes[0]) -> (*draws, batch, sizes[-1]).

    Args:
        sizes: units of every layer, input and output included; two sizes make one affine map.
        activation: a name in `ACTIVATIONS`, for the hidden layers.
        normalization: None, "batch" or "layer", before the activation of the hidden layers.
        dropout: the rate at which hidden units are dropped while training.
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
        *hidden, n_out = self.sizes[1:]
        layers: list[nn.Module] = []
        n_in, fed_by = self.sizes[0], "linear"
        for n_units in hidden:
            # Batch normalisation takes the bias away again: it would be a parameter without a gradient.
            bias = normalization != "batch"
            layers.append(affine(n_in, n_units, activation, fed_by=fed_by, bias=bias, generator=generator))
            layers.extend(finish_layer(n_units, activation, normalization, self.dropout))
            n_in, fed_by = n_units, activation
        layers.append(affine(n_in, n_out, "linear", fed_by=fed_by, generator=generator))
        self.layers = nn.Sequential(*layers)

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
        return run(self.layers, x, generator)


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
            nn.Sequential(*finish_layer(n_units, activation, normalization, encoder.dropout)) for n_units in hidden
        )
        # Batch normalisation would take a hidden layer's bias away again: then only the last layer has one.
        self.biases = nn.ParameterList()
        fed_by = "linear"
        for depth, weight in enumerate(self._weights()):
            if normalization != "batch" or depth == len(self.finishes):
                self.biases.append(nn.Parameter(-SCHEMES[fed_by].mean * weight.detach().sum(1)))
            fed_by = activation

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
                h = run(finish, h, generator)
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
