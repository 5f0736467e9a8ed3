"""Jacobian of the encoder, its squared norm, and the contractive penalty.

The Jacobian is rarely needed as a matrix. For one layer its squared norm has a cheap closed form; for a deep map a
few random directions estimate it, and where the code or the rows are narrow, all directions are few enough.
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
from isthmus.parts.coder import Coder
from isthmus.parts.forward import ForwardPass
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import check_choice, check_count, check_positive
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Penalty, at_least_fp32, check_weight

Map = Callable[[Tensor], Tensor]
"""Function that maps each row separately: (*draws, batch, columns) -> (*draws, batch, outputs)."""

Method = Literal["closed", "exact", "hutchinson"]
METHODS = ("auto", "closed", "exact", "hutchinson")
MAPS = ("encoder", "reconstruction")

EXACT_SIZE = 16
"""Largest number of directions for which "auto" computes the exact norm.

It needs a pass for every unit of the code, or for every column where these are fewer. One probe costs about three
forward and backward passes, an exact direction about one.
"""

ELEMENTWISE_ACTIVATIONS = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.Identity)
"""Activations whose j-th output depends on the j-th input alone; other classes set an attribute `elementwise`."""


def activation_derivative(activation: nn.Module, preactivation: Float[Tensor, "*draws batch units"]) -> Tensor:
    """Return the derivative s'(a_j) of an elementwise activation.

    It is differentiable where gradients are enabled, and is also computed where they are disabled.

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
    """Return J_f(x)^T u of every row for each of n directions u, by reverse mode: (*draws, batch, columns, n).

    Args:
        f: the map.
        x: rows.
        u: (n, batch, outputs), or (n, 1, outputs) for the same directions at all rows; leading axes share them.

    Example:
        >>> vjp(torch.square, torch.tensor([[1.0, 2.0]]), torch.ones(1, 1, 2)).squeeze().detach()
        tensor([2., 4.])
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        rows = x.detach().requires_grad_()
        outputs = f(rows)
        # A loop: vmap would be 10 to 30% faster, but fails in torch's second derivative of group_norm.
        products = [
            torch.autograd.grad(outputs, rows, each.expand_as(outputs), retain_graph=True, create_graph=differentiable)
            for each in u
        ]
    return torch.stack([product for (product,) in products], -1)


def jvp(f: Map, x: Float[Tensor, "*draws batch columns"], v: Float[Tensor, "n _ columns"]) -> Tensor:
    """Return J_f(x) v of every row for each of n directions v, by forward mode: (*draws, batch, outputs, n).

    Args:
        f: the map.
        x: rows.
        v: (n, batch, columns), or (n, 1, columns) for the same directions at all rows; leading axes share them.

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
    """Load torch's forward-mode rules without the deprecation warning of its compiler at their first use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_mode_jvp(torch.square, (torch.zeros(1),), (torch.ones(1),))


def use_forward_mode(encoder: nn.Module, n_columns: int, n_outputs: int) -> bool:
    """Return True if Jacobian products use forward mode (J v), False for reverse mode (J^T u).

    The narrower space needs fewer directions for all of J, and estimates from random directions have less variance
    there: half as much at 784-512-256-30. Torch has no forward mode for the normalisation of maps, so convolutional
    encoders always use reverse mode.
    """
    return n_columns < n_outputs and isinstance(encoder, MLP)


def standard_basis(n: int, like: Tensor) -> Float[Tensor, "n 1 n"]:
    """Return the n directions of the standard basis."""
    return torch.eye(n, dtype=like.dtype, device=like.device)[:, None]


def rademacher(shape: tuple[int, ...], like: Tensor, generator: Generator) -> Tensor:
    """Sample +1 or -1 with equal probability, on the generator's device, and move them to `like`."""
    below_half = torch.rand(shape, generator=generator, device=generator.device) < 0.5
    return below_half.to(like.device, like.dtype).mul_(2.0).sub_(1.0)


def code_jacobian(
    encoder: nn.Module, code_activation: nn.Module, x: Float[Tensor, "batch columns"]
) -> Float[Tensor, "batch code_size columns"]:
    """Return the Jacobian J_f(x) of f(x) = s(encoder(x)) at every row.

    It is diag(s'(a)) W for one layer; otherwise it takes a pass for each unit or column. The encoder runs in
    evaluation mode: without dropout, with the running moments of batch normalisation.

    Args:
        encoder: x -> a.
        code_activation: a -> h.
        x: rows in model space, (batch, columns); the result has batch * code_size * columns entries.

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
    """Return the singular values of J_f(x) at every row, largest first.

    Their squares sum to the squared norm that `Contraction` penalises. A few large values and many small ones mean
    that the code varies along the tangents of the manifold and is invariant in all other directions.

    Arguments and memory: as for `code_jacobian`.

    Source: Rifai et al. (2011a), section 5.3; DL book 14.7.

    Example:
        >>> encoder = MLP((3, 2), generator=torch.Generator().manual_seed(0))
        >>> singular_values(encoder, nn.Sigmoid(), torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """
    return torch.linalg.svdvals(code_jacobian(encoder, code_activation, x))


def single_affine_layer(encoder: nn.Module) -> nn.Linear | None:
    """Return the affine map of an encoder that consists of one; None for any other encoder."""
    maps = encoder.affine_maps if isinstance(encoder, MLP) else []
    return maps[0] if len(maps) == 1 else None


def is_elementwise(activation: nn.Module) -> bool:
    """Return True if the Jacobian of the activation is diagonal."""
    return isinstance(activation, ELEMENTWISE_ACTIVATIONS) or bool(getattr(activation, "elementwise", False))


@contextmanager
def eval_mode(*parts: object) -> Iterator[None]:
    """Context manager that puts the modules among `parts` into evaluation mode and restores their modes afterwards."""
    modules = [module for part in parts if isinstance(part, nn.Module) for module in part.modules()]
    in_training = [module for module in modules if module.training]
    for module in in_training:
        module.training = False
    try:
        yield
    finally:
        for module in in_training:
            module.training = True


class Contraction(Penalty):
    r"""Contractive penalty Omega = ||J_f(x)||_F^2,   J_f = dh/dx.

        closed      sum_j s'(a_j)^2 ||W_j||^2                       one layer, h = s(W x + b)
        exact       sum_i ||J^T e_i||^2,  or  sum_j ||J e_j||^2     a pass for each unit, or for each column
        hutchinson  mean of  ||J^T u||^2,  or  ||J v||^2            unbiased; a pass for each probe u or v, all +-1
        order=2     + hessian_weight * E_e ||J_f(x) - J_f(x + e)||_F^2,   e ~ N(0, hessian_scale^2 I)

    The reconstruction term balances the penalty: only the directions in which the data vary reduce the reconstruction
    error, so the code varies along them and is insensitive to the others. The second-order term (CAE+H) extends this
    to a neighbourhood of each row; as the scale goes to zero, E_e / scale^2 tends to the squared norm of the Hessian.

    Shapes: x (batch, columns), code (batch, code_size) -> (batch,), in squared units of code over model space.

    Of the two forms, the one with the narrower vectors is used: J^T u by reverse mode where the code is narrower than
    the rows, J v by forward mode where it is wider.

    The derivative is taken at the encoder's input: x, or x~ with a corruption. Deep maps run in evaluation mode:
    without dropout, and with the running moments of batch normalisation as constants. Before a batch normalisation the
    scale of the weights has no effect on the code, and the penalty only shrinks the weights; use normalization="layer"
    or none. Without tied weights, small encoder and large decoder weights lower the penalty likewise and change no
    reconstruction (f / c with g(c h)); so tie the weights, or penalise the reconstruction. A mask in the encoder's
    input is held constant.

    Args:
        weight: lambda. Rifai et al. minimise, per row, the cross-entropy summed over columns plus
            lambda ||J||_F^2: with likelihood="bernoulli" their lambda is the weight. For a summed squared error
            without its 1/2 the weight is lambda / 2; for a *mean* over d columns it is lambda * d, or
            lambda * d / 2 with the squared error.
        order: 1, or 2 to add the second term.
        hessian_weight: weight of the second term relative to the first: gamma / lambda of the paper.
        hessian_scale: standard deviation of e, in units of model space.
        n_corruptions: number of samples e per row.
        of: "encoder", f as above; or "reconstruction", where f maps x to E[x | h].
        method: one of the above, or "auto": closed where that form exists (one layer, an elementwise activation,
            of="encoder"), else exact where the code size or the number of columns is at most 16, else hutchinson.
        n_probes: number of probes u or v per row.

    Raises:
        InputError: an unknown name or an invalid number; method="closed" for a map without a closed form; in
            `forward`, inference that is not a map.

    Source: Rifai et al., Contractive auto-encoders, ICML (2011a), eq. 1 to 7; Rifai et al., Higher order contractive
    auto-encoder, ECML (2011b), eq. 5 and 6; Hutchinson (1990) for the probes; DL book 14.7.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> generator, x = torch.Generator().manual_seed(0), torch.ones(4, 3)
        >>> encoder, decoder = (MLP(sizes, generator=generator) for sizes in ((3, 2), (2, 3)))
        >>> coder = Coder(EncoderMap(encoder, "sigmoid"), decoder, Gaussian(3))
        >>> penalty = Contraction()(coder(Batch(x)), coder, None)
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
            raise InputError(f"Contraction: order={order!r}: it must be 1, or 2 to add the term of the Hessian")
        check_choice("Contraction: of", of, MAPS)
        check_choice("Contraction: method", method, METHODS)
        check_count("n_corruptions", n_corruptions)
        check_count("n_probes", n_probes)
        self.order, self.of, self.method = int(order), of, method
        self.hessian_weight = check_weight("hessian_weight", hessian_weight)
        self.hessian_scale = check_positive("hessian_scale", hessian_scale)
        self.n_corruptions, self.n_probes = int(n_corruptions), int(n_probes)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each row; without a generator, the random probes are the same at every call."""
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        inference = _as_map(coder)
        x = output.seen.x
        method = self.resolve_method(coder, x.shape[-1], output.code.shape[-1])
        closed = method == "closed"
        # The closed form is cheap in single precision. A difference of Jacobians is small compared with either, and
        # half precision would leave rounding errors alone.
        single_precision = torch.autocast(x.device.type, enabled=False) if closed or self.order == 2 else nullcontext()
        with single_precision, eval_mode(inference, coder.decoder):
            if closed:
                return self._closed_form(output, inference, generator)
            first, *others = self._jacobian_entries(method, output, coder, generator)
            penalty = _squared_norm(first)
            if self.order == 2:
                penalty = penalty + self.hessian_weight * _squared_norm(torch.stack(others) - first).mean(0)
            return penalty

    def resolve_method(self, coder: Coder, n_columns: int, code_size: int) -> Method:
        """Return the method that is used for a model of these sizes; see `method`.

        Raises:
            InputError: method="closed" for a map without a closed form.
        """
        obstacle = self._lacks_closed_form(coder)
        if self.method == "closed" and obstacle:
            raise InputError(f"contraction method 'closed' needs an encoder of one layer, but {obstacle}; use 'auto'")
        if self.method != "auto":
            return cast(Method, self.method)
        outputs = n_columns if self.of == "reconstruction" else code_size
        return "closed" if not obstacle else "exact" if min(n_columns, outputs) <= EXACT_SIZE else "hutchinson"

    def _lacks_closed_form(self, coder: Coder) -> str:
        """Return the reason why there is no closed form; an empty string where there is one."""
        if self.of == "reconstruction":
            return "of='reconstruction' includes the decoder"
        if single_affine_layer(coder.encoder) is None:
            n_layers = len(coder.encoder.affine_maps) if isinstance(coder.encoder, MLP) else 0
            return f"this encoder has {n_layers}" if n_layers else f"this encoder is a {type(coder.encoder).__name__}"
        if not is_elementwise(coder.code_activation):
            return f"the code activation {type(coder.code_activation).__name__} is not elementwise"
        return ""

    def _evaluation_points(
        self, x: Float[Tensor, "batch columns"], generator: Generator
    ) -> Float[Tensor, "points batch columns"]:
        """Return the points at which J is evaluated: x, and for the second order its neighbours x + e."""
        n_draws = self.n_corruptions if self.order == 2 else 0
        noise = torch.randn((n_draws, *x.shape), generator=generator, dtype=x.dtype, device=generator.device)
        return torch.cat([x[None], x + self.hessian_scale * noise.to(x.device)])

    def _closed_form(
        self, output: ForwardPass, inference: EncoderMap, generator: Generator
    ) -> Float[Tensor, "*draws batch"]:
        """Compute the closed form: ||W_j||^2 once for all rows, and s'(a) at each point."""
        x, mask = inference.visible(output.seen), output.seen.mask
        weight = cast(nn.Linear, single_affine_layer(inference.encoder)).weight
        # vector_norm reads W once forward and once backward; W.square().sum() accesses memory three times more.
        weight = weight[:, : x.shape[-1]] if inference.sees_mask else weight
        norms = torch.linalg.vector_norm(weight, dim=1).square()
        if self.order == 1:
            return (
                activation_derivative(inference.code_activation, at_least_fp32(output.preactivation)).square() @ norms
            )
        first, *others = activation_derivative(
            inference.code_activation, inference.preactivation(self._evaluation_points(x, generator), mask)
        )
        change = (torch.stack(others) - first).square().mean(0)
        return (first.square() + self.hessian_weight * change) @ norms

    def _jacobian_entries(
        self, method: Method, output: ForwardPass, coder: Coder, generator: Generator
    ) -> Float[Tensor, "points batch entries"]:
        """Return entries whose squares sum to ||J||^2 at each point: all of J, or J along the probes."""
        inference = _as_map(coder)
        x, mask = inference.visible(output.seen), output.seen.mask

        def f(rows: Tensor) -> Tensor:
            code = inference.code_activation(inference.preactivation(rows, mask))
            return code if self.of == "encoder" else coder.likelihood.mean(coder.decode(code))

        n_columns, n_outputs = x.shape[-1], output.code.shape[-1] if self.of == "encoder" else x.shape[-1]
        forward = use_forward_mode(coder.encoder, n_columns, n_outputs)
        n = n_columns if forward else n_outputs
        if method == "exact":
            directions = standard_basis(n, x)
        else:
            directions = rademacher((self.n_probes, len(x), n), x, generator) / math.sqrt(self.n_probes)
        return (jvp if forward else vjp)(f, self._evaluation_points(x, generator), directions).flatten(2)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"weight={self.weight:g}, order={self.order}, of={self.of!r}, method={self.method!r}"


def _squared_norm(view: Float[Tensor, "*draws batch entries"]) -> Float[Tensor, "*draws batch"]:
    """Return the sum of squares over the entries."""
    return at_least_fp32(view).square().sum(-1)


def _as_map(coder: Coder) -> EncoderMap:
    """Return the inference of a coder as a map.

    Raises:
        InputError: it is not a map, and so has no Jacobian.
    """
    if not isinstance(coder.inference, EncoderMap):
        raise InputError(
            f"the contraction penalises the Jacobian of a map, and {type(coder.inference).__name__} is not one; leave "
            "the contraction out"
        )
    return coder.inference
