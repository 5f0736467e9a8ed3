"""Activations a -> h whose codes have exact zeros, and a linear map that skips the zeros of its input."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError
from isthmus.parts.carried import carry, latest
from isthmus.parts.networks import MLP


class SparseActivation(nn.Module, ABC):
    """Base class of activations h = s(a) with exact zeros.

    In evaluation mode the code of a row depends on that row alone.

    Shapes: (*draws, batch, code_size) -> the same.
    """

    elementwise = True
    """The Jacobian is diagonal where it exists: the other units only switch a unit on and off."""

    @abstractmethod
    def forward(self, preactivation: Float[Tensor, "*draws batch units"]) -> Float[Tensor, "*draws batch units"]:
        """Return the code."""

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return ", ".join(f"{name}={getattr(self, name):g}" for name in ("k", "bandwidth") if hasattr(self, name))


def check_k(k: int, code_size: int) -> int:
    """Return k as an integer, after checking that it lies between 1 and the code size.

    Raises:
        InputError: k is not a whole number from 1 to the code size.

    Example:
        >>> check_k(64, 32)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: k=64 active units do not fit a code of 32 units; give k from 1 to 32, ...
    """
    if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k <= code_size:
        raise InputError(
            f"k={k!r} active units do not fit a code of {code_size} units; give k from 1 to {code_size}, "
            "or a larger code"
        )
    return int(k)


class TopK(SparseActivation):
    """TopK activation: h_j = max(a_j, 0) for the k largest a_j of the row, else 0.

    Args:
        k: largest number of active units of a row.
        code_size: units of the code.

    Raises:
        InputError: k is below 1 or above the code size.

    Source: Makhzani & Frey (2013), algorithm 1; Gao et al. (2024), eq. 2.

    Example:
        >>> TopK(1, 3)(torch.tensor([[1.0, 3.0, 2.0]]))
        tensor([[0., 3., 0.]])
    """

    def __init__(self, k: int, code_size: int) -> None:
        super().__init__()
        self.k = check_k(k, code_size)

    def forward(self, preactivation: Float[Tensor, "*draws batch units"]) -> Float[Tensor, "*draws batch units"]:
        """Return the code."""
        values, units = preactivation.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(preactivation).scatter(-1, units, values.relu())


class BatchTopK(SparseActivation):
    """BatchTopK activation: k active units per row on average.

        training:    the k n largest a_j > 0 of the n rows of a batch together
        evaluation:  h_j = max(a_j, 0) 1[a_j >= t],   t <- .99 t + .01 (smallest selected a_j of a batch)

    A complex row may use more units than a simple one. Of equal a_j, as many are selected as fit k n, as in `TopK`. In
    evaluation mode the threshold t makes the code of a row independent of the other rows; it is a buffer and part of
    the saved model.

    Args:
        k: average number of active units per row.
        code_size: units of the code.

    Raises:
        InputError: k is below 1 or above the code size.

    Source: Bussmann, Leask & Nanda, BatchTopK sparse autoencoders (2024), section 3.

    Example:
        >>> activation = BatchTopK(1, 2)
        >>> activation(torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
        tensor([[0., 3.],
                [0., 2.]])
        >>> activation.eval()(torch.tensor([[2.5, 1.5]]))
        tensor([[2.5000, 0.0000]])
    """

    threshold: Tensor

    def __init__(self, k: int, code_size: int) -> None:
        super().__init__()
        self.k = check_k(k, code_size)
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, preactivation: Float[Tensor, "*draws batch units"]) -> Float[Tensor, "*draws batch units"]:
        """Return the code; in training mode the threshold is updated with momentum 0.01."""
        if not self.training:
            value = preactivation.relu()
            return value * (value >= self.threshold)
        n_active = self.k * math.prod(preactivation.shape[:-1])
        selected, units = preactivation.flatten().topk(n_active, sorted=False)
        selected = selected.relu()
        self._update_threshold(selected)
        return preactivation.new_zeros(preactivation.numel()).scatter(0, units, selected).view_as(preactivation)

    @torch.no_grad()
    def _update_threshold(self, selected: Float[Tensor, " selected"]) -> None:
        """Update the threshold with the smallest selected value above 0, or with 0 if there is none."""
        smallest = torch.where(selected > 0, selected, math.inf).min()
        reached = torch.where((selected > 0).any(), smallest, selected.min()).to(self.threshold.dtype)
        threshold = latest(self.threshold)
        carry(self.threshold, torch.where(threshold > 0, threshold.lerp(reached, 0.01), reached))


class JumpReLU(SparseActivation):
    r"""JumpReLU activation h_j = a_j H(a_j - theta_j), with a learned threshold theta_j = exp(log_threshold_j) > 0.

        dh / d theta      := -(theta / w) K((a - theta) / w),   K(u) = 1[ |u| < 1/2 ]
        dH(a - theta) / d theta := -(1 / w) K((a - theta) / w)

    The derivative of the step function is zero almost everywhere. These straight-through derivatives are those of the
    *expected* loss, with the density of a near the threshold estimated by a kernel K of bandwidth w.

    Args:
        code_size: units of the code.
        threshold: the initial value of every theta, in the units of a.
        bandwidth: w, in the units of a; a smaller w has less bias and more variance.

    Raises:
        InputError: the threshold or the bandwidth is not positive.

    Source: Rajamanoharan et al., Jumping ahead (2024), eq. 3, 10 and 11; there w = .001 for rows scaled to unit mean
    square and batches of 4,096.

    Example:
        >>> JumpReLU(3, threshold=0.5)(torch.tensor([[-1.0, 0.4, 0.6]])).detach()
        tensor([[0.0000, 0.0000, 0.6000]])
    """

    def __init__(self, code_size: int, *, threshold: float = 0.1, bandwidth: float = 0.1) -> None:
        super().__init__()
        for name, value in (("threshold", threshold), ("bandwidth", bandwidth)):
            if not 0.0 < value < math.inf:
                raise InputError(f"JumpReLU: {name} {value!r} is not positive; give a number above 0")
        self.log_threshold = nn.Parameter(torch.full((code_size,), math.log(threshold)))
        self.bandwidth = float(bandwidth)

    def gate(self, preactivation: Float[Tensor, "*draws batch units"]) -> Float[Tensor, "*draws batch units"]:
        """Return H(a - theta), with its straight-through derivative by theta."""
        return (preactivation > self.log_threshold.exp()).to(preactivation.dtype) + self._straight_through(
            preactivation
        )

    def forward(self, preactivation: Float[Tensor, "*draws batch units"]) -> Float[Tensor, "*draws batch units"]:
        """Return the code."""
        threshold = self.log_threshold.exp()
        return preactivation * (preactivation > threshold) + threshold.detach() * self._straight_through(preactivation)

    def _straight_through(self, preactivation: Tensor) -> Tensor:
        """Return zeros whose derivative by theta is -K((a - theta) / w) / w: a ramp of width w minus its own value."""
        ramp = ((preactivation.detach() - self.log_threshold.exp()) / self.bandwidth + 0.5).clamp(0.0, 1.0)
        return ramp - ramp.detach()


class Gated(SparseActivation):
    r"""Gated activation h_j = 1[a_j > 0] max(exp(r_j) a_j + b_j, 0): gate and magnitude share the encoder's weights.

    The L1 penalty acts on the gate, relu(a), and does not shrink the magnitude. In the paper's notation
    W_mag = exp(r) W_gate, the encoder's bias is b_gate, and b = b_mag - exp(r) b_gate.

    Args:
        code_size: units of the code.

    Source: Rajamanoharan et al., Improving dictionary learning with gated sparse autoencoders (2024), eq. 6 and 7.

    Example:
        >>> Gated(3)(torch.tensor([[-1.0, 0.5, 2.0]])).detach()
        tensor([[0.0000, 0.5000, 2.0000]])
    """

    def __init__(self, code_size: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(code_size))
        self.bias = nn.Parameter(torch.zeros(code_size))

    def forward(self, preactivation: Float[Tensor, "*draws batch units"]) -> Float[Tensor, "*draws batch units"]:
        """Return the code."""
        return (self.log_scale.exp() * preactivation + self.bias).relu() * (preactivation > 0)


STATIC_DEVICES = ("cpu", "cuda")
"""Types of device on which `torch.nonzero_static` does not wait (CUDA: from torch 2.7)."""


class GatheredLinear(nn.Linear):
    """Linear map r = W h + b that reads only the columns of W at which h is not zero.

        r_i = b + sum over j with h_ij != 0 of h_ij W_:j

    Shapes: (*draws, batch, code_size) -> (*draws, batch, columns). The output and the gradients of W and b equal those
    of the dense product. In training mode, the gradient of h is computed where h is not zero and is 0 elsewhere, which
    suffices for `TopK`, `BatchTopK` and ReLU. A `JumpReLU` needs the dense product: its thresholds use the gradient of
    inactive units.

    The weight has the usual shape (columns, code_size), but is stored column by column, so that a column is contiguous
    in memory.

    In training mode the n rows have at most n_active * n non-zero entries together. The positions of the non-zero
    entries are then a tensor of fixed size, and a step does not wait for a GPU to count them. If there are more, the
    output of rows with such entries is NaN. In evaluation mode any number is admitted: with gradients the product is
    dense, without them it reads the columns at all non-zero entries.

    Args:
        in_features: units of the code.
        out_features: columns.
        bias: whether there is a bias b.
        device, dtype: those of the weight, as in `nn.Linear`.
        n_active: largest number of non-zero entries per row of a batch, on average over the rows, in training mode.

    Source: Gao et al. (2024), section 4.2 and appendix D.

    Example:
        >>> decoder = with_gathered_weights(MLP((64, 3), generator=torch.Generator().manual_seed(0)), n_active=2)
        >>> decoder(torch.zeros(5, 64)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        n_active: int,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.n_active = n_active

    def forward(self, code: Float[Tensor, "*draws batch units"]) -> Float[Tensor, "*draws batch columns"]:
        """Return W h + b."""
        if not self.training and torch.is_grad_enabled():
            return super().forward(code)
        # In the dtype of the weight: a sum of a few columns gains nothing from the lower precision of autocast.
        rows = code.reshape(-1, code.shape[-1]).to(self.weight.dtype)
        is_static = self.training and rows.device.type in STATIC_DEVICES
        row, unit, values = self._entries(rows) if is_static else _all_entries(rows)
        starts = torch.searchsorted(row, torch.arange(len(rows), device=row.device))
        total = F.embedding_bag(unit, self.weight.t(), starts, mode="sum", per_sample_weights=values)
        total = total if self.bias is None else total + self.bias
        return total.view(*code.shape[:-1], self.out_features)

    def _entries(self, rows: Float[Tensor, "rows units"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return row, unit and value of n_active * n entries: the non-zero ones, then zeros after the last row.

        If there are more non-zero entries, the values are NaN.
        """
        n = len(rows)
        size = min(self.n_active * n, rows.numel())
        # One position more than needed: it is taken if there are too many entries. The row of a free position is n.
        row, unit = torch.nonzero_static(rows, size=size + 1, fill_value=n).t().contiguous()
        is_free, too_many = row[:-1] == n, row[-1] < n
        unit = unit[:-1].masked_fill(is_free, 0)
        values = rows[row[:-1].clamp(max=n - 1), unit].masked_fill(is_free, 0.0)
        return row[:-1], unit, values.masked_fill(too_many, math.nan)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"{super().extra_repr()}, n_active={self.n_active}"


def _all_entries(rows: Float[Tensor, "rows units"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return row, unit and value of all non-zero entries."""
    row, unit = rows.nonzero(as_tuple=True)
    return row, unit, rows[row, unit]


def with_gathered_weights(decoder: MLP, n_active: int) -> MLP:
    """Replace the first affine map of a decoder, in place, by a `GatheredLinear` with the same weights.

    Args:
        decoder: the decoder.
        n_active: largest number of non-zero entries per row of a batch of codes in training, on average over the rows.
    """
    first = decoder.affine_maps[0]
    sparse = skip_init(
        GatheredLinear, first.in_features, first.out_features, bias=first.bias is not None, n_active=n_active
    )
    sparse.weight = nn.Parameter(first.weight.detach().t().contiguous().t())
    if first.bias is not None:
        sparse.bias = first.bias
    decoder.layers[next(i for i, layer in enumerate(decoder.layers) if layer is first)] = sparse
    return decoder


@contextmanager
def with_training_codes(decoder: object) -> Iterator[None]:
    """Context manager for a decoder in evaluation mode whose codes have at most `n_active` units per row.

    Its `GatheredLinear` maps are put into training mode, and back into evaluation mode afterwards.
    """
    modules = decoder.modules() if isinstance(decoder, nn.Module) else ()
    gathered = [module for module in modules if isinstance(module, GatheredLinear) and not module.training]
    for module in gathered:
        module.training = True
    try:
        yield
    finally:
        for module in gathered:
            module.training = False
