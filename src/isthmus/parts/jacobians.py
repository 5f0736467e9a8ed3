"""How a code moves with its input: the Jacobian of the encoder, its squared norm, and the penalty on it.

A Jacobian is rarely needed as a matrix. For one layer its squared norm is a product of two small things; for a deep
map a few random directions tell the norm, and where code or rows are narrow all directions are few enough.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.func import jvp as forward_mode_jvp
from torch.func import vmap

from isthmus.errors import InputError
from isthmus.parts.forward import ForwardPass
from isthmus.parts.layers import check_choice, check_count, check_positive
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Coder, Penalty, check_weight

Map = Callable[[Tensor], Tensor]
"""Rows to rows, each by itself: (*draws, batch, columns) -> (*draws, batch, outputs)."""

Method = Literal["closed", "exact", "hutchinson"]
METHODS = ("auto", "closed", "exact", "hutchinson")
MAPS = ("encoder", "reconstruction")

EXACT_SIZE = 16
"""The exact norm takes a pass for every unit of the code, or for every column if these are fewer: up to this many it
is what "auto" takes. One probe costs about three forward and backward passes, an exact direction about one."""

ELEMENTWISE_ACTIVATIONS = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.Identity)
"""Activations whose j-th output depends on the j-th input alone. A module of another class says so by `elementwise`."""


def activation_derivative(activation: nn.Module, preactivation: Float[Tensor, "*draws batch units"]) -> Tensor:
    """s'(a_j) of an activation that acts unit by unit; differentiable again, and there where gradients are off.

    Example:
        >>> activation_derivative(nn.Sigmoid(), torch.zeros(1, 2)).detach()
        tensor([[0.2500, 0.2500]])
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        a = preactivation if preactivation.requires_grad else preactivation.detach().requires_grad_()
        (slope,) = torch.autograd.grad(activation(a).sum(), a, create_graph=differentiable)
    return slope


def vjp(f: Map, x: Float[Tensor, "*draws batch columns"], u: Float[Tensor, "n _ outputs"]) -> Tensor:
    """J_f(x)^T u of every row for each of n directions u, by reverse mode: (*draws, batch, columns, n).

    Args:
        f: the map.
        x: rows.
        u: (n, batch, outputs), or (n, 1, outputs) for the same directions at all rows; draws share them.

    Example:
        >>> vjp(torch.square, torch.tensor([[1.0, 2.0]]), torch.ones(1, 1, 2)).squeeze().detach()
        tensor([2., 4.])
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        rows = x.detach().requires_grad_()
        outputs = f(rows)
        # One at a time: vmap would gain a tenth to a third, and fails in torch's second derivative of group_norm.
        products = [
            torch.autograd.grad(outputs, rows, each.expand_as(outputs), retain_graph=True, create_graph=differentiable)
            for each in u
        ]
    return torch.stack([product for (product,) in products], -1)


def jvp(f: Map, x: Float[Tensor, "*draws batch columns"], v: Float[Tensor, "n _ columns"]) -> Tensor:
    """J_f(x) v of every row for each of n directions v, by forward mode: (*draws, batch, outputs, n).

    Args:
        f: the map.
        x: rows.
        v: (n, batch, columns), or (n, 1, columns) for the same directions at all rows; draws share them.

    Example:
        >>> jvp(torch.square, torch.tensor([[1.0, 2.0]]), torch.ones(1, 1, 2)).squeeze()
        tensor([2., 4.])
    """
    _load_forward_mode()

    def product(each: Tensor) -> Tensor:
        return cast(Tensor, forward_mode_jvp(f, (x,), (each.expand_as(x),))[1])

    return product(v[0])[..., None] if len(v) == 1 else vmap(product, out_dims=-1)(v)


@functools.cache
def _load_forward_mode() -> None:
    """Torch compiles its rules of forward mode when they are first used, and then warns of the compiler it takes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_mode_jvp(torch.square, (torch.zeros(1),), (torch.ones(1),))


def use_forward_mode(encoder: nn.Module, n_columns: int, n_outputs: int) -> bool:
    """Whether directions are taken in the space of the rows and pushed, or in that of the outputs and pulled.

    The narrower space needs fewer directions for all of J, and random ones scatter less there: at 784-512-256-30
    half as much. (Torch has no forward mode for the normalisation of maps, so convolutions are always pulled.)
    """
    return n_columns < n_outputs and isinstance(encoder, MLP)


def standard_basis(n: int, like: Tensor) -> Float[Tensor, "n 1 n"]:
    """Every direction once."""
    return torch.eye(n, dtype=like.dtype, device=like.device)[:, None]


def rademacher(shape: tuple[int, ...], like: Tensor, generator: Generator) -> Tensor:
    """Plus or minus one with equal odds, drawn where the generator lives."""
    below_half = torch.rand(shape, generator=generator, device=generator.device) < 0.5
    return below_half.to(like.device, like.dtype).mul_(2.0).sub_(1.0)


def code_jacobian(
    encoder: nn.Module, code_activation: nn.Module, x: Float[Tensor, "batch columns"]
) -> Float[Tensor, "batch code_size columns"]:
    """J_f(x), f(x) = s(encoder(x)), of every row: diag(s'(a)) W for one layer, else a pass for each unit or column.

    The encoder is taken as it is read: without dropout, batch normalisation by its running moments.

    Args:
        encoder: x -> a.
        code_activation: a -> h.
        x: rows in model space, (batch, columns); batch * code_size * columns numbers have to fit into memory.

    Source: Rifai et al. (2011a), section 2.

    Example:
        >>> encoder = MLP((3, 2), generator=torch.Generator().manual_seed(0))
        >>> J = code_jacobian(encoder, nn.Identity(), torch.zeros(5, 3))
        >>> bool((J == encoder.affine_maps[0].weight).all())
        True
    """

    def f(rows: Tensor) -> Tensor:
        return cast(Tensor, code_activation(encoder(rows)))

    layer = single_affine_layer(encoder)
    with eval_mode(encoder, code_activation):
        if layer is not None and is_elementwise(code_activation):
            return activation_derivative(code_activation, encoder(x))[..., None] * layer.weight
        with torch.no_grad():
            code_size = f(x[:1]).shape[-1]
        if use_forward_mode(encoder, x.shape[-1], code_size):
            return jvp(f, x, standard_basis(x.shape[-1], x))
        return vjp(f, x, standard_basis(code_size, x)).mT


def singular_values(
    encoder: nn.Module, code_activation: nn.Module, x: Float[Tensor, "batch columns"]
) -> Float[Tensor, "batch smaller"]:
    """The singular values of J_f(x) of every row, largest first: in how many directions a code still moves.

    Their squares sum to the squared norm that a contraction makes small. Few large ones beside many small ones say
    that the code follows the manifold along its tangents and is deaf to all other directions.

    Args and memory: as `code_jacobian`.

    Source: Rifai et al. (2011a), section 5.3; DL book 14.7.

    Example:
        >>> encoder = MLP((3, 2), generator=torch.Generator().manual_seed(0))
        >>> singular_values(encoder, nn.Sigmoid(), torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """
    return torch.linalg.svdvals(code_jacobian(encoder, code_activation, x))


def single_affine_layer(encoder: nn.Module) -> nn.Linear | None:
    """The affine map of an encoder that has one layer and nothing else; None of any other."""
    maps = encoder.affine_maps if isinstance(encoder, MLP) else []
    return maps[0] if len(maps) == 1 else None


def is_elementwise(activation: nn.Module) -> bool:
    """Whether an activation's Jacobian is diagonal."""
    return isinstance(activation, ELEMENTWISE_ACTIVATIONS) or bool(getattr(activation, "elementwise", False))


@contextmanager
def eval_mode(*parts: object) -> Iterator[None]:
    """The modules among the parts as they are when they are read, and as they were before afterwards."""
    modules = [module for part in parts if isinstance(part, nn.Module) for module in part.modules()]
    learning = [module for module in modules if module.training]
    for module in learning:
        module.training = False
    try:
        yield
    finally:
        for module in learning:
            module.training = True


class Contraction(Penalty):
    r"""Omega = ||J_f(x)||_F^2,   J_f = dh/dx: the code shall hardly move when the input does.

        closed      sum_j s'(a_j)^2 ||W_j||^2                       one layer, h = s(W x + b)
        exact       sum_i ||J^T e_i||^2,  or  sum_j ||J e_j||^2     a pass for each unit, or for each column
        hutchinson  mean of  ||J^T u||^2,  or  ||J v||^2            unbiased; a pass for each probe u or v, all +-1
        order=2     + hessian_weight * E_e ||J_f(x) - J_f(x + e)||_F^2,   e ~ N(0, hessian_scale^2 I)

    The reconstruction holds against it, and only the directions in which the data vary are worth its price: the code
    follows these and is deaf to the rest. The second order (CAE+H) keeps it so in the neighbourhood of a row; as
    the scale goes to zero, E_e / scale^2 tends to the squared norm of the Hessian.

    Shapes: x (batch, columns), code (batch, code_size) -> (batch,), in squared units of code over model space.

    Of the two forms the one with the narrower vectors is taken: J^T u by reverse mode where the code is narrower than
    the rows, J v by forward mode where it is wider.

    The derivative is taken at what was encoded: x, or x~ where a corruption is. Deep maps are taken as they are read:
    without dropout (it makes no map of its own), with batch normalisation by its running moments, which are
    constants here. Before such a layer the scale of the weights does nothing, and the penalty only shrinks it; take
    normalization="layer" or none. Where the decoder is not tied, scale cheats alike: small encoder and large decoder
    weights lower the penalty and change no reconstruction (f / c with g(c h)), so tie the weights, or penalise the
    reconstruction. A mask that is given to the encoder beside x is held constant.

    Args:
        weight: lambda. Rifai et al. minimise, row by row, the cross-entropy summed over columns plus
            lambda ||J||_F^2: with likelihood="bernoulli" their lambda is the weight. Beside a summed squared error
            without its 1/2, lambda is half of it here; beside a *mean* over d columns it is lambda * d, or
            lambda * d / 2 with the squared error.
        order: 1, or 2 for the second term.
        hessian_weight: of the second term beside the first: gamma / lambda of the paper.
        hessian_scale: standard deviation of e, in units of model space.
        n_corruptions: draws of e for each row.
        of: "encoder", f as above; or "reconstruction", where f is the whole way to E[x | h].
        method: one of the above, or "auto": closed where there is such a form (one layer, an activation that acts by
            unit, of="encoder"), else exact where code or columns (the fewer) are at most 16, else hutchinson.
        n_probes: u or v for each row.

    Raises:
        InputError: a name, a size or a number that cannot be meant; the closed form asked of a map that has none.

    Source: Rifai et al., Contractive auto-encoders, ICML (2011a), eq. 1 to 7; Rifai et al., Higher order contractive
    auto-encoder, ECML (2011b), eq. 5 and 6; Hutchinson (1990) for the probes; DL book 14.7.

    Example:
        >>> from types import SimpleNamespace
        >>> from isthmus.parts.forward import Batch
        >>> encoder = MLP((3, 2), generator=torch.Generator().manual_seed(0))
        >>> x, a = torch.ones(4, 3), encoder(torch.ones(4, 3))
        >>> coder = SimpleNamespace(encoder=encoder, code_activation=nn.Sigmoid(), decoder=None)
        >>> penalty = Contraction()(ForwardPass(Batch(x), x, a, a.sigmoid(), a), coder, None)
        >>> torch.allclose(penalty, code_jacobian(encoder, nn.Sigmoid(), x).square().sum((1, 2)))
        True
    """

    def __init__(
        self,
        weight: float = 1.0,
        *,
        order: int = 1,
        hessian_weight: float = 1.0,
        hessian_scale: float = 0.1,
        n_corruptions: int = 4,
        of: str = "encoder",
        method: str = "auto",
        n_probes: int = 1,
    ) -> None:
        super().__init__(weight)
        if isinstance(order, bool) or order not in (1, 2):
            raise InputError(f"contraction_order={order!r}: it must be 1, or 2 for the Hessian's term besides")
        check_choice("contraction_of", of, MAPS)
        check_choice("contraction_method", method, METHODS)
        check_count("n_corruptions", n_corruptions)
        check_count("n_probes", n_probes)
        self.order, self.of, self.method = int(order), of, method
        self.hessian_weight = check_weight("hessian_weight", hessian_weight)
        self.hessian_scale = check_positive("hessian_scale", hessian_scale)
        self.n_corruptions, self.n_probes = int(n_corruptions), int(n_probes)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Omega of the trip's rows; where no generator is given, what is drawn is the same every time."""
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        method = self.resolve_method(coder, output.corrupted.shape[-1], output.code.shape[-1])
        closed = method == "closed"
        # The closed form costs nothing in single precision. And a difference of Jacobians is small beside either:
        # half precision would leave nothing of it but rounding.
        whole = (
            torch.autocast(output.corrupted.device.type, enabled=False) if closed or self.order == 2 else nullcontext()
        )
        with whole, eval_mode(coder.encoder, coder.code_activation, coder.decoder):
            if closed:
                return self._closed_form(output, coder, generator)
            first, *others = self._jacobian_entries(method, output, coder, generator)
            penalty = _squared_norm(first)
            if self.order == 2:
                penalty = penalty + self.hessian_weight * _squared_norm(torch.stack(others) - first).mean(0)
            return penalty

    def resolve_method(self, coder: Coder, n_columns: int, code_size: int) -> Method:
        """The method that is used for a model of these sizes: see `method`.

        Raises:
            InputError: the closed form is asked of a map that has none.
        """
        lacks = self._lacks_closed_form(coder)
        if self.method == "closed" and lacks:
            raise InputError(f"contraction_method='closed' has the Jacobian of one layer, and {lacks}; take 'auto'")
        if self.method != "auto":
            return cast(Method, self.method)
        outputs = n_columns if self.of == "reconstruction" else code_size
        return "closed" if not lacks else "exact" if min(n_columns, outputs) <= EXACT_SIZE else "hutchinson"

    def _lacks_closed_form(self, coder: Coder) -> str:
        """Why there is no closed form; nothing where there is."""
        if self.of == "reconstruction":
            return "the reconstruction takes two"
        if single_affine_layer(coder.encoder) is None:
            n_layers = len(coder.encoder.affine_maps) if isinstance(coder.encoder, MLP) else 0
            return f"this encoder has {n_layers}" if n_layers else f"this encoder is a {type(coder.encoder).__name__}"
        if not is_elementwise(coder.code_activation):
            return f"{type(coder.code_activation).__name__} does not act on each unit of the code by itself"
        return ""

    def _evaluation_points(
        self, x: Float[Tensor, "batch columns"], generator: Generator
    ) -> Float[Tensor, "points batch columns"]:
        """The points that are looked at: x, and for the second order its neighbours x + e."""
        n_draws = self.n_corruptions if self.order == 2 else 0
        noise = torch.randn((n_draws, *x.shape), generator=generator, dtype=x.dtype, device=generator.device)
        return torch.cat([x[None], x + self.hessian_scale * noise.to(x.device)])

    def _closed_form(self, output: ForwardPass, coder: Coder, generator: Generator) -> Float[Tensor, "*draws batch"]:
        """The closed form: ||W_j||^2 once for all rows, and s'(a) at each point."""
        x, mask = _encoder_input(coder.encoder, output)
        weight = cast(nn.Linear, single_affine_layer(coder.encoder)).weight
        # The norm and its square read W once each way; W^2 summed writes it three times more.
        norms = torch.linalg.vector_norm(weight if mask is None else weight[:, : x.shape[-1]], dim=1).square()
        if self.order == 1:
            return activation_derivative(coder.code_activation, _at_least_fp32(output.preactivation)).square() @ norms
        first, *others = activation_derivative(
            coder.code_activation, coder.encoder(_append_mask(self._evaluation_points(x, generator), mask))
        )
        change = (torch.stack(others) - first).square().mean(0)
        return (first.square() + self.hessian_weight * change) @ norms

    def _jacobian_entries(
        self, method: Method, output: ForwardPass, coder: Coder, generator: Generator
    ) -> Float[Tensor, "points batch entries"]:
        """J at the points, whole or along the probes: its squares sum to the squared norm."""
        x, mask = _encoder_input(coder.encoder, output)

        def f(rows: Tensor) -> Tensor:
            code = coder.code_activation(coder.encoder(_append_mask(rows, mask)))
            return code if self.of == "encoder" else coder.likelihood.mean(coder.decoder(code))

        n_columns, n_outputs = x.shape[-1], output.code.shape[-1] if self.of == "encoder" else x.shape[-1]
        forward = use_forward_mode(coder.encoder, n_columns, n_outputs)
        n = n_columns if forward else n_outputs
        if method == "exact":
            directions = standard_basis(n, x)
        else:
            directions = rademacher((self.n_probes, len(x), n), x, generator) / math.sqrt(self.n_probes)
        return (jvp if forward else vjp)(f, self._evaluation_points(x, generator), directions).flatten(2)

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return f"weight={self.weight:g}, order={self.order}, of={self.of!r}, method={self.method!r}"


def _squared_norm(view: Float[Tensor, "*draws batch entries"]) -> Float[Tensor, "*draws batch"]:
    """The squares of a view of the Jacobian, summed over its entries."""
    return _at_least_fp32(view).square().sum(-1)


def _at_least_fp32(x: Tensor) -> Tensor:
    """At least single precision, whatever learning computes in."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _encoder_input(encoder: nn.Module, output: ForwardPass) -> tuple[Tensor, Tensor | None]:
    """x~ as the encoder was given it, and the mask beside it where it was given one: 1 where it may look."""
    x = output.corrupted
    if not isinstance(encoder, MLP) or encoder.sizes[0] == x.shape[-1]:
        return x, None
    mask = torch.ones_like(x) if output.corruption_mask is None else 1.0 - output.corruption_mask
    mask = mask if output.batch.mask is None else mask * output.batch.mask
    return x * mask, mask


def _append_mask(x: Float[Tensor, "*draws batch columns"], mask: Tensor | None) -> Tensor:
    """x, and the mask beside it where there is one."""
    return x if mask is None else torch.cat([x, mask.expand_as(x)], -1)
