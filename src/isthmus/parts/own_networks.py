"""Networks of users: any pair of modules as encoder and decoder, and the registry of their names."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.func import functional_call

from isthmus.errors import InputError
from isthmus.parts.carried import carry, latest
from isthmus.parts.registered import Registry

BUILT_IN = ("mlp", "conv", "conv1d", "lista", "feature-maps")
"""Names of the networks of the package."""


@runtime_checkable
class Network(Protocol):
    """A recipe of an encoder and a decoder."""

    def build(
        self,
        n_inputs: int,
        code_size: int,
        n_outputs: int,
        image_shape: tuple[int, int, int] | None,
        generator: Generator,
    ) -> tuple[nn.Module, nn.Module]:
        """Return an encoder (batch, n_inputs) -> (batch, code_size) and a decoder (batch, code_size) ->
        (batch, n_outputs).

        Args:
            n_inputs: columns of model space, twice as many if the mask of visible entries is an input too.
            code_size: units of the code.
            n_outputs: parameters of the likelihood of a row.
            image_shape: (channels, height, width) of images, whose rows are flattened channels first; else None.
            generator: a generator for weights that are initialized explicitly. torch's global generator, which its
                layers use, is seeded for the call.
        """
        ...


_NETWORKS = Registry("network", "isthmus.register_network", built_in=BUILT_IN)

Registered = TypeVar("Registered", bound=Callable[..., Any])


def register_network(name: str) -> Callable[[Registered], Registered]:
    """Register a network class under a name, with which it is stored in model files; usable as a decorator.

    The class has a method `build`, see `Network`. Its arguments are stored if it is a dataclass of plain data; a class
    without attributes is constructed without arguments, and a file holds no other class.

    Args:
        name: the name; it may not be one of the package.

    Raises:
        InputError: the name is not a text; it belongs to another class.

    Example:
        >>> from dataclasses import dataclass
        >>> @register_network("example-pair")
        ... @dataclass(frozen=True)
        ... class Pair:
        ...     n_hidden: int = 16
        ...
        ...     def build(self, n_inputs, code_size, n_outputs, image_shape, generator):
        ...         hidden = nn.Linear(n_inputs, self.n_hidden)
        ...         encoder = nn.Sequential(hidden, nn.Tanh(), nn.Linear(self.n_hidden, code_size))
        ...         return encoder, nn.Linear(code_size, n_outputs)
        >>> network_named("example-pair")
        Pair(n_hidden=16)
    """
    return _NETWORKS.register(name)


def network_named(name: str, arguments: dict[str, Any] | None = None) -> Network:
    """Return the network that is registered under a name.

    Raises:
        InputError: the name is not registered.
    """
    return cast(Network, _NETWORKS.named(name)(**(arguments or {})))


def network_entry(network: Any) -> dict[str, Any] | None:
    """Return the name and the arguments of a registered network, as files hold them; None for any other object."""
    name = _NETWORKS.name_of(type(network))
    if name is None:
        return None
    own = {field.name: getattr(network, field.name) for field in fields(network)} if is_dataclass(network) else {}
    return {"registered": name, "arguments": own}


def check_storable(network: Any) -> None:
    """Refuse a registered network whose attributes no file could hold.

    Raises:
        InputError: the class is not a dataclass and the object has attributes.
    """
    if not is_dataclass(network) and getattr(network, "__dict__", None):
        raise InputError(
            f"network {_NETWORKS.name_of(type(network))!r}: {type(network).__name__} is not a dataclass, so a file "
            f"cannot hold its attributes ({', '.join(vars(network))}); decorate the class with @dataclass"
        )


class OwnModule(nn.Module):
    """A module of a user as a part: leading axes count as rows, and a pass changes no buffer.

    Layers of torch that are random in training, such as `nn.Dropout`, use torch's global generator: seed it for equal
    results, and a resumed run is not bit-equal.

    Shapes: (*draws, batch, inputs) -> (*draws, batch, outputs).

    Args:
        module: a module of rows, (rows, inputs) -> (rows, outputs).

    Example:
        >>> normalised = OwnModule(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
        >>> normalised(torch.zeros(4, 5, 3)).shape
        torch.Size([4, 5, 2])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Float[Tensor, "*draws batch inputs"], generator: Generator | None = None) -> Tensor:
        """Apply the module; new values of its buffers, such as running moments, are carried to the next step."""
        rows = x.reshape(-1, x.shape[-1])
        buffers = dict(self.module.named_buffers()) if self.training else {}
        if not buffers:
            return cast(Tensor, self.module(rows)).view(*x.shape[:-1], -1)
        new = {name: latest(buffer).clone() for name, buffer in buffers.items()}
        outputs = cast(Tensor, functional_call(self.module, new, (rows,)))
        for name, buffer in buffers.items():
            carry(buffer, new[name])
        return outputs.view(*x.shape[:-1], -1)


class OwnDecoder(OwnModule):
    """A module of a user as a decoder: its outputs plus an offset, which sets the initial output.

    Args:
        module: (rows, code_size) -> (rows, n_outputs).
        n_outputs: number of outputs.
    """

    def __init__(self, module: nn.Module, n_outputs: int) -> None:
        super().__init__(module)
        self.offset = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, x: Float[Tensor, "*draws batch code_size"], generator: Generator | None = None) -> Tensor:
        """Return the parameters of p_dec."""
        return super().forward(x, generator) + self.offset

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the offset such that the output is `output`, up to the random weights."""
        self.offset.copy_(output)


def build_pair(
    network: Network,
    n_inputs: int,
    code_size: int,
    n_outputs: int,
    image_shape: tuple[int, int, int] | None,
    generator: Generator,
) -> tuple[OwnModule, OwnDecoder]:
    """Build the encoder and the decoder of a network, with weights that depend on `generator` alone.

    The arguments are those of `Network.build`.

    Raises:
        InputError: the network returns something other than two modules, or modules of other sizes.
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    title = type(network).__name__
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        built = network.build(n_inputs, code_size, n_outputs, image_shape, torch.Generator().manual_seed(seed))
    is_pair = isinstance(built, tuple | list) and len(built) == 2
    if not is_pair or not all(isinstance(part, nn.Module) for part in built):
        raise InputError(f"network {title}: build must return an encoder and a decoder, two torch modules")
    encoder, decoder = copy.deepcopy(tuple(built))  # a network may return the same modules at every call
    for what, module, n_in, n_out in (
        ("encoder", encoder, n_inputs, code_size), ("decoder", decoder, code_size, n_outputs),
    ):  # fmt: skip
        _check_shape(f"network {title}: the {what}", module, n_in, n_out)
    return OwnModule(encoder), OwnDecoder(decoder, n_outputs)


@torch.no_grad()
def _check_shape(what: str, module: nn.Module, n_inputs: int, n_outputs: int) -> None:
    """Check that a module maps (2, n_inputs) to (2, n_outputs), and leave it as it was."""
    was_training = module.training
    try:
        found = module.eval()(torch.zeros(2, n_inputs))
    except Exception as error:
        raise InputError(f"{what} does not take rows of shape (2, {n_inputs}): {error}") from error
    finally:
        module.train(was_training)
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if shape != (2, n_outputs):
        raise InputError(f"{what} returns {shape} for rows of shape (2, {n_inputs}); it must return (2, {n_outputs})")
