"""Penalties Omega(h, x) on the code that are added to the reconstruction term, and those that make codes sparse.

The penalties on the encoder's Jacobian are in `isthmus.parts.jacobians`, those on the distribution of the codes of
all rows in `isthmus.parts.code_penalties`; those that belong to a sparse activation (for dead units and for
thresholds) are in `isthmus.parts.sparsity`. The names of functions of users are in `isthmus.parts.own_penalties`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.forward import ForwardPass
from isthmus.parts.sparse_norms import SparseNorm

PenaltyFunction = Callable[[ForwardPass, Coder], Tensor]
"""Function of a user that `CustomPenalty` wraps."""


class Penalty(nn.Module, ABC):
    """Base class of the terms Omega(h, x) of the criterion; the objective multiplies them by `weight` and names them.

    A penalty is one number per row, (*draws, batch), or one for the batch, (). It is unweighted and in nats, so that
    `weight` is relative to 1/2 ||x - r||^2, as in the Gaussian nll.

    Args:
        weight: factor of the term; with 0 the term is recorded in the history and does not affect training.

    Attributes:
        inner: True if the term stands inside the bound, so that it is reduced over draws together with the likelihood.
            The mean over draws of other terms is added to the bound.
        counts_rows: True if `prepare` needs the number of training rows.
        n_neighbours: number of nearest rows, of which each row carries one (`Batch.neighbour`); 0 needs none.

    Raises:
        InputError: the weight is negative or not a finite number.
    """

    inner: ClassVar[bool] = False
    counts_rows: ClassVar[bool] = False
    n_neighbours: int = 0

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = check_weight(type(self).__name__, weight)

    def prepare(self, n_rows: float) -> None:
        """Take the number of training rows, by their weights, before training; does nothing by default."""
        return

    @abstractmethod
    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Tensor:
        """Return the unweighted penalty of a forward pass: (*draws, batch) per row, or () for the batch."""

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"weight={self.weight:g}"


def check_weight(what: str, weight: float) -> float:
    """Return the weight of a term as a float, after checking that it is finite and not negative.

    Raises:
        InputError: the weight is negative or not a finite number.

    Example:
        >>> check_weight("L1", -1.0)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: L1: weight -1.0 is invalid; give a finite number of at least 0
    """
    if isinstance(weight, bool) or not isinstance(weight, Real) or not 0.0 <= weight < math.inf:
        raise InputError(f"{what}: weight {weight!r} is invalid; give a finite number of at least 0")
    return float(weight)


def check_rate(what: str, rate: float) -> float:
    """Return a target rate as a float, after checking that it lies in the open interval (0, 1).

    Raises:
        InputError: the rate is outside (0, 1).

    Example:
        >>> check_rate("target_rate", 1.5)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: target_rate 1.5 is not a rate between 0 and 1; give e.g. 0.05
    """
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0.0 < rate < 1.0:
        raise InputError(f"{what} {rate!r} is not a rate between 0 and 1; give e.g. 0.05")
    return float(rate)


def at_least_fp32(code: Tensor) -> Tensor:
    """Convert to fp32 or better: under autocast codes are bf16, and a sum over units would keep two digits.

    Example:
        >>> [at_least_fp32(torch.ones(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float64)]
        [torch.float32, torch.float64]
    """
    return code.to(torch.promote_types(code.dtype, torch.float32))


class LaplacePrior(Penalty):
    r"""L1 penalty as a negative log Laplace prior on the code.

        weight * Omega = -log p(h) = sum_j ( lambda |h_j| - log(lambda / 2) ),   lambda = weight

    The weight is the rate lambda of the Laplace density. The weighted term includes the constant and is in nats, so
    that models with different lambda can be compared. For non-negative codes the prior is the exponential density,
    whose constant is log lambda.

    Shapes: code (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: lambda. If a paper adds lambda to the *mean* squared error of d columns, the weight is lambda * d / 2;
            for the summed squared error it is lambda / 2. With 0 there is no prior and no constant.
        non_negative: True if the codes are never negative (ReLU, TopK, sigmoid).

    Source: DL book 14.2.1, eq. 14.9 to 14.11; Olshausen & Field (1997).

    Example:
        >>> penalty = LaplacePrior(2.0, non_negative=True)
        >>> code = torch.tensor([[0.0, 3.0]])
        >>> penalty.weight * penalty.of(code) + 2 * math.log(2.0)
        tensor([6.])
    """

    def __init__(self, weight: float = 1.0, *, non_negative: bool = False) -> None:
        super().__init__(weight)
        self.non_negative = non_negative

    def of(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each code."""
        norm = at_least_fp32(code).abs().sum(-1)
        if self.weight == 0.0:
            return norm
        density_at_zero = self.weight if self.non_negative else self.weight / 2
        return norm - code.shape[-1] * math.log(density_at_zero) / self.weight

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of the code of each row."""
        return self.of(output.code)


class NormPenalty(Penalty):
    r"""Norm of the code and its squared norm: weight * Omega = weight * norm(h) + l2/2 ||h||^2.

    Shapes: code (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: of the norm.
        norm: the norm.
        l2: weight of 1/2 ||h||^2.

    Example:
        >>> from isthmus.parts.sparse_norms import GroupNorm
        >>> NormPenalty(1.0, GroupNorm(2)).of(torch.tensor([[3.0, 4.0, 0.0, 0.0]]))
        tensor([5.])
    """

    def __init__(self, weight: float, norm: SparseNorm, *, l2: float = 0.0) -> None:
        super().__init__(weight)
        self.norm, self.l2 = norm, l2

    def of(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each code."""
        code = at_least_fp32(code)
        norm = self.norm.value(code)
        return norm if self.weight == 0.0 else norm + 0.5 * self.l2 / self.weight * code.square().sum(-1)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of the code of each row."""
        self.norm.check(output.code.shape[-1])
        return self.of(output.code)


class StudentTPrior(Penalty):
    r"""Negative log Student-t prior on the code.

        Omega = -log p(h) = sum_j ( (nu + 1) / 2 log(1 + h_j^2 / (nu s^2)) + log(s sqrt(nu) B(1/2, nu/2)) )

    Its tails are heavier than those of the Laplace prior: large entries are hardly changed, and small ones are shrunk
    towards zero but not set to zero. For non-negative codes the density is twice as high.

    Shapes: code (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: 1 gives the log prior itself.
        degrees: nu; 1 gives the Cauchy density.
        scale: s, in the units of the code.
        non_negative: True if the codes are never negative.

    Raises:
        InputError: degrees or scale are not positive.

    Source: DL book 13.4 (the prior) and 14.2.1.

    Example:
        >>> StudentTPrior().of(torch.zeros(1, 1)).exp()  # pi, for the Cauchy density at 0 is 1 / pi
        tensor([3.1416])
    """

    def __init__(
        self, weight: float = 1.0, *, degrees: float = 1.0, scale: float = 1.0, non_negative: bool = False
    ) -> None:
        super().__init__(weight)
        for name, value in (("degrees", degrees), ("scale", scale)):
            if not 0.0 < value < math.inf:
                raise InputError(f"StudentTPrior: {name} {value!r} is not positive; give a number above 0")
        self.degrees, self.scale, self.non_negative = float(degrees), float(scale), non_negative

    def of(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each code."""
        nu = self.degrees
        log_beta = math.lgamma(0.5) + math.lgamma(nu / 2) - math.lgamma((nu + 1) / 2)
        constant = math.log(self.scale) + math.log(nu) / 2 + log_beta - (math.log(2.0) if self.non_negative else 0.0)
        energy = (nu + 1) / 2 * torch.log1p((at_least_fp32(code) / self.scale).square() / nu).sum(-1)
        return energy + code.shape[-1] * constant

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of the code of each row."""
        return self.of(output.code)


class LogPenalty(Penalty):
    r"""Logarithmic penalty Omega = sum_j log(1 + h_j^2 / s^2); it is not a normalised log density.

    Shapes: code (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: lambda / 2 for the lambda of Olshausen & Field, who use the summed squared error.
        scale: s, in the units of the code.

    Raises:
        InputError: the scale is not positive.

    Source: Olshausen & Field (1996), S(x) = log(1 + x^2).

    Example:
        >>> LogPenalty().of(torch.tensor([[0.0, 1.0]]))
        tensor([0.6931])
    """

    def __init__(self, weight: float = 1.0, *, scale: float = 1.0) -> None:
        super().__init__(weight)
        if not 0.0 < scale < math.inf:
            raise InputError(f"LogPenalty: scale {scale!r} is not positive; give a number above 0")
        self.scale = float(scale)

    def of(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each code."""
        return torch.log1p((at_least_fp32(code) / self.scale).square()).sum(-1)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of the code of each row."""
        return self.of(output.code)


class TargetRate(Penalty):
    r"""KL penalty on the mean activation of each sigmoid unit, for a target rate rho.

        Omega = sum_j KL( rho || r_j ),   r_j = the mean of h_j over the batch, by the weights of the rows
        KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))

    Each unit is to be active on a fraction rho of the rows. The penalty is a function of the batch: computed per row,
    it would ask for the same mean activation in every row, and its value would be half off.

    Shapes: code in [0, 1], (*draws, batch, code_size) -> ().

    Args:
        weight: beta of Ng's notes, whose reconstruction term is 1/2 ||x - r||^2 as well.
        target_rate: rho.

    Raises:
        InputError: the rate is outside (0, 1).

    Source: Ng, CS294A lecture notes, Sparse autoencoder (2011), section 3; DL book 14.2.1.

    Example:
        >>> TargetRate(target_rate=0.5).of(torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
        tensor(0.)
    """

    def __init__(self, weight: float = 1.0, *, target_rate: float = 0.05) -> None:
        super().__init__(weight)
        self.target_rate = check_rate("target_rate", target_rate)

    def of(
        self, code: Float[Tensor, "*draws batch code_size"], weight: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, ""]:
        """Return Omega of the codes of a batch; None gives the rows equal weights."""
        code = at_least_fp32(code)
        rho, tiny = self.target_rate, torch.finfo(code.dtype).eps
        # The divergence is infinite for a unit that is always off (or on); the clamp keeps the loss finite.
        if weight is not None:
            code = code * (weight / weight.mean()).unsqueeze(-1)
        rate = code.flatten(0, -2).mean(0).clamp(tiny, 1.0 - tiny)
        on = rho * (math.log(rho) - rate.log())
        off = (1.0 - rho) * (math.log1p(-rho) - torch.log1p(-rate))
        return (on + off).sum()

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, ""]:
        """Return Omega of the codes of the batch."""
        return self.of(output.code, output.batch.weight)


class CustomPenalty(Penalty):
    """User-defined penalty Omega = c(output, coder), of weight 1.

    Shapes: forward pass of (*draws, batch) rows -> (*draws, batch) or (batch,), one number per row, or () for the
    batch.

    Args:
        function: c. It receives the `ForwardPass` of a batch and the `Coder`, and returns nats that include their
            weight. A sum over rows is one number per row, so that rows count by their weights; a function of the whole
            batch is () and counts them by `output.batch.weight`. It must change nothing, and must not read a value
            from a tensor, since a step would wait for the device.

    Attributes:
        title: the name of the function, for errors and `repr`.

    Raises:
        InputError: (in `forward`) c returns something other than a tensor or another shape.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> def energy(output, coder):
        ...     return 0.1 * output.code.square().sum(-1)
        >>> penalty, h = CustomPenalty(energy), torch.tensor([[1.0, 2.0]])
        >>> penalty(ForwardPass(Batch(h), Batch(h), h, h, h), None, None)
        tensor([0.5000])
        >>> penalty
        CustomPenalty(energy)
    """

    def __init__(self, function: PenaltyFunction) -> None:
        super().__init__()
        self.function = function
        self.title = str(getattr(function, "__name__", type(function).__name__))

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Tensor:
        """Call the function and check type and shape of its output."""
        return self._check_output(self.function(output, coder), output)

    def _check_output(self, penalty: Any, output: ForwardPass) -> Tensor:
        """Return the output of the function, after checking that it is one number per row or one for the batch."""
        rows = tuple(output.code.shape[:-1])
        shapes = list(dict.fromkeys((rows, rows[-1:], ())))
        expected = ", ".join(map(str, shapes[:-1])) + " (one number per row) or () (one for the batch)"
        if not isinstance(penalty, Tensor):
            raise InputError(
                f"penalty {self.title} returned {type(penalty).__name__}; return a torch tensor of shape {expected}"
            )
        if tuple(penalty.shape) not in shapes:
            raise InputError(
                f"penalty {self.title} returned shape {tuple(penalty.shape)} for codes of shape "
                f"{tuple(output.code.shape)}; return shape {expected}"
            )
        return penalty

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return self.title
