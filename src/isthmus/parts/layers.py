"""Layers of a network: affine maps with scaled initial weights, normalisation, activation and dropout.

Torch's own layers initialize their weights, and `F.dropout` samples its masks, from the global generator. Here both
use an explicit generator: building, deep-copying and running these modules leaves `torch.random.get_rng_state()`
unchanged.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import ChoiceError, InputError
from isthmus.parts.carried import carry, latest

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
class InitScheme:
    """Initialization scheme of the weights before an activation.

    Attributes:
        gain: the standard deviation of a weight is gain / sqrt(fan).
        fan: "in" = n_in (He), "mean" = (n_in + n_out) / 2 (Glorot).
        mean: E[f(z)], which the initial biases of the next layer subtract. It is set for activations that are always
            positive and would saturate the next layer, and zero where the scheme of the literature has no such term.
    """

    gain: float
    fan: Literal["in", "mean"]
    mean: float = 0.0


# He's gain is 1 / sqrt(E[f(z)^2]) with z ~ N(0, 1): sqrt(2) for the ReLU, integrals for its smooth variants (for
# softplus with the variance, since the mean is subtracted). Glorot's gain is 1 / f'(0): 4 for the sigmoid.
INIT_SCHEMES: dict[str, InitScheme] = {
    "sigmoid": InitScheme(4.0, "mean", mean=0.5),
    "tanh": InitScheme(1.0, "mean"),
    "relu": InitScheme(math.sqrt(2.0), "in"),
    "gelu": InitScheme(1.5335304, "in"),
    "silu": InitScheme(1.6765325, "in"),
    "softplus": InitScheme(1.9191260, "in", mean=0.8060592),
    "linear": InitScheme(1.0, "mean"),
}


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """Check that a name is among the choices, and suggest the nearest one if it is not.

    Raises:
        ChoiceError: `value` is not one of `choices`.

    Example:
        >>> check_choice("activation", "rleu", list(ACTIVATIONS))
        Traceback (most recent call last):
        ...
        isthmus.errors.ChoiceError: activation 'rleu' is unknown; did you mean 'relu'? ...
    """
    if isinstance(value, str) and value in choices:
        return
    near = difflib.get_close_matches(str(value).lower(), choices, n=1, cutoff=0.4)
    suggestion = f"did you mean '{near[0]}'? " if near else ""
    known = ", ".join(choices)
    raise ChoiceError(f"{what} {value!r} is unknown; {suggestion}choose one of: {known}", choices)


def check_sizes(what: str, sizes: Sequence[int]) -> None:
    """Check that every size is at least 1: a layer has at least one unit.

    Raises:
        InputError: a size is not a whole number of at least 1.
    """
    if isinstance(sizes, str) or not isinstance(sizes, Iterable):
        raise InputError(f"{what}={sizes!r}: it must be a list of whole numbers of at least 1, such as (512, 256)")
    for position, size in enumerate(sizes):
        if not is_count(size):
            raise InputError(
                f"{what}: size {size!r} at position {position} of {tuple(sizes)} is not a whole number of at "
                "least 1; give every layer one unit or more"
            )


def is_count(value: Any, least: int = 1) -> bool:
    """Return True if the value is a whole number, Python's or NumPy's, of at least `least`."""
    return not isinstance(value, bool) and hasattr(value, "__index__") and int(value) >= least


def check_count(name: str, count: int) -> None:
    """Check that a count is at least 1.

    Raises:
        InputError: the count is not a whole number of at least 1.
    """
    if not is_count(count):
        raise InputError(f"{name}={count!r}: it must be a whole number of at least 1")


def check_positive(name: str, value: float) -> float:
    """Return a value as a float, after checking that it is finite and above zero.

    Raises:
        InputError: the value is not a finite number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 < value < math.inf:
        raise InputError(f"{name}={value!r}: it must be a finite number above 0")
    return float(value)


def check_options(activation: str, normalization: str | None, dropout: float) -> None:
    """Check the names of activation and normalisation, and that the dropout rate lies in [0, 1).

    Raises:
        InputError: an unknown name, or a rate outside [0, 1).
    """
    check_choice("activation", activation, list(ACTIVATIONS))
    if normalization is not None:
        check_choice("normalization", normalization, NORMALIZATIONS)
    if isinstance(dropout, bool) or not isinstance(dropout, Real) or not 0.0 <= dropout < 1.0:
        raise InputError(f"dropout {dropout!r} is outside [0, 1); give a number from 0 (no dropout) to below 1")


@torch.no_grad()
def initialise(weight: Tensor, fan_in: float, fan_out: float, activation: str, generator: Generator) -> None:
    """Fill a weight with w ~ N(0, gain^2 / fan); the activation after it determines gain and fan.

    Source: Glorot & Bengio (2010), eq. 16; He et al. (2015), eq. 10; DL book 8.4.
    """
    scheme = INIT_SCHEMES[activation]
    fan = fan_in if scheme.fan == "in" else (fan_in + fan_out) / 2
    nn.init.normal_(weight, 0.0, scheme.gain / math.sqrt(fan), generator=generator)


def affine(
    n_in: int,
    n_out: int,
    activation: str,
    *,
    input_activation: str = "linear",
    bias: bool = True,
    generator: Generator,
) -> nn.Linear:
    """Return an affine map a = W x + b, initialized for the activation after it.

    W is (n_out, n_in), b is (n_out,). `input_activation` is the activation whose output x is; the initial b subtracts
    the mean of that output.

    Example:
        >>> affine(3, 2, "relu", generator=torch.Generator().manual_seed(0)).weight.shape
        torch.Size([2, 3])
    """
    layer = skip_init(nn.Linear, n_in, n_out, bias=bias)
    initialise(layer.weight, n_in, n_out, activation, generator)
    if bias:
        with torch.no_grad():
            layer.bias.copy_(-INIT_SCHEMES[input_activation].mean * layer.weight.sum(1))
    return layer


class Dropout(nn.Module):
    """Dropout x -> x * m / (1 - rate), m ~ Bernoulli(1 - rate), with the generator passed to `forward`.

    Shapes: any; with `whole_maps`, (batch, channels, height, width) and one random number for each map.
    Dropout applies only in training mode and only when a generator is given.

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
        """Apply dropout, or return x unchanged in evaluation mode or without a generator."""
        if not self.training or generator is None:
            return x
        shape = (*x.shape[:2], 1, 1) if self.whole_maps else x.shape
        # Sampled on the generator's device: a CPU generator gives the same masks for every device.
        keep_mask = torch.rand(shape, generator=generator, device=generator.device) >= self.rate
        return x * keep_mask.to(x.device, x.dtype).div_(1.0 - self.rate)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"rate={self.rate}"


class BatchNormalization(nn.Module):
    """Batch normalisation y = g (x - mean) / sqrt(var + eps) + b, per unit.

    Mean and variance are those of the batch in training mode, else the running ones.

    Shapes: (*draws, batch, units), or (batch, channels, height, width) with `maps`. Leading axes count as rows. A
    batch of one row has no variance and uses the running moments. Torch's own layers treat the leading axes as
    channels and reject a single row.

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
        """Normalise x; in training mode the running moments are updated with momentum 0.1."""
        rows = x if self.maps else x.reshape(-1, x.shape[-1])
        batch = self.training and rows.numel() > len(self.weight)
        mean, variance = latest(self.running_mean), latest(self.running_variance)
        if batch:  # batch_norm changes the moments in place
            mean, variance = mean.clone(), variance.clone()
        y = F.batch_norm(rows, mean, variance, self.weight, self.bias, batch, momentum=0.1)
        if batch:
            carry(self.running_mean, mean)
            carry(self.running_variance, variance)
        return y if self.maps else y.view(x.shape)


def post_affine_modules(
    n_units: int, activation: str, normalization: str | None, dropout: float, *, maps: bool = False
) -> list[nn.Module]:
    """Return the modules after a hidden layer's affine map: normalisation, activation and dropout, where used."""
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


def apply_layers(layers: Iterable[nn.Module], x: Tensor, generator: Generator | None) -> Tensor:
    """Apply the layers in turn, passing the generator to dropout."""
    for layer in layers:
        x = layer(x, generator) if isinstance(layer, Dropout) else layer(x)
    return x


def hidden_layers(
    sizes: Sequence[int],
    activation: str,
    normalization: str | None,
    dropout: float,
    *,
    input_activation: str = "linear",
    generator: Generator,
) -> list[nn.Module]:
    """Return the hidden layers from sizes[0] inputs to sizes[-1] units.

    `input_activation` is the activation whose outputs the inputs are.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        # Batch normalisation cancels the bias, which would be a parameter without a gradient.
        bias = normalization != "batch"
        layers.append(
            affine(n_in, n_out, activation, input_activation=input_activation, bias=bias, generator=generator)
        )
        layers.extend(post_affine_modules(n_out, activation, normalization, dropout))
        input_activation = activation
    return layers
