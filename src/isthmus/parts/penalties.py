"""What is wanted of a code besides the reconstruction: Omega(h, x), and the ones that make codes sparse.

The penalties on the encoder's Jacobian are in `isthmus.parts.jacobians`, those that belong to a sparse activation
(its dead units, its thresholds) in `isthmus.parts.sparsity`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.forward import ForwardPass
from isthmus.parts.likelihoods import Likelihood


class Coder(Protocol):
    """What a penalty may ask of the model: x -> a (encoder), a -> h (code activation), h -> parameters (decoder)."""

    @property
    def encoder(self) -> nn.Module:
        """(x, generator) -> a, the pre-activation of the code."""
        ...

    @property
    def code_activation(self) -> nn.Module:
        """(a) -> h."""
        ...

    @property
    def decoder(self) -> Callable[..., Tensor]:
        """(h, generator) -> the parameters of p_dec."""
        ...

    @property
    def likelihood(self) -> Likelihood:
        """What the decoder's output units mean."""
        ...


class Penalty(nn.Module, ABC):
    """Omega(h, x): an outer term of the criterion. The objective multiplies by `weight` and gives it a name.

    A penalty is over rows, (*draws, batch), or over the batch, (); what it gives is unweighted and in nats, so that
    `weight` refers to 1/2 ||x - r||^2, as the Gaussian nll has it.

    Args:
        weight: what the term is multiplied by; 0 leaves the term in the history and out of the criterion.

    Raises:
        InputError: a weight that is negative or not a finite number.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = check_weight(type(self).__name__, weight)

    @abstractmethod
    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Tensor:
        """The unweighted penalty of a trip, (*draws, batch) where it is over rows or () where it is over the batch."""

    def extra_repr(self) -> str:
        """What `repr` says of it."""
        return f"weight={self.weight:g}"


def check_weight(what: str, weight: float) -> float:
    """Refuse the weight of a term that is negative or no number.

    Raises:
        InputError: with what was found.

    Example:
        >>> check_weight("L1", -1.0)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: L1: weight -1.0 cannot weigh a term; give a finite number of at least 0
    """
    if isinstance(weight, bool) or not isinstance(weight, Real) or not 0.0 <= weight < math.inf:
        raise InputError(f"{what}: weight {weight!r} cannot weigh a term; give a finite number of at least 0")
    return float(weight)


def check_rate(what: str, rate: float) -> float:
    """Refuse a target rate outside the open interval (0, 1).

    Raises:
        InputError: with what was found.

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
    """The same numbers in fp32 at least: under autocast codes are bf16, in which a sum over units keeps two digits.

    Example:
        >>> [at_least_fp32(torch.ones(1, dtype=dtype)).dtype for dtype in (torch.bfloat16, torch.float64)]
        [torch.float32, torch.float64]
    """
    return code.to(torch.promote_types(code.dtype, torch.float32))


class LaplacePrior(Penalty):
    r"""weight * Omega = -log p(h) = sum_j ( lambda |h_j| - log(lambda / 2) ),   lambda = weight.

    The L1 penalty as the log prior it is: weight is the rate lambda of the Laplace density, so that the weighted
    term, its constant included, is in nats and models of different lambda can be compared. For codes that are
    never negative the prior is the exponential one, whose constant is log lambda.

    Shapes: code (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: lambda. A paper's lambda beside the *mean* squared error of d columns is lambda * d / 2 here,
            beside the summed squared error lambda / 2. At 0 there is no prior, and no constant.
        non_negative: the codes are never negative (ReLU, TopK, sigmoid).

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
        """Omega of codes."""
        norm = at_least_fp32(code).abs().sum(-1)
        if self.weight == 0.0:
            return norm
        density_at_zero = self.weight if self.non_negative else self.weight / 2
        return norm - code.shape[-1] * math.log(density_at_zero) / self.weight

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Omega of the trip's code."""
        return self.of(output.code)


class StudentTPrior(Penalty):
    r"""Omega = -log p(h) = sum_j ( (nu + 1) / 2 log(1 + h_j^2 / (nu s^2)) + log(s sqrt(nu) B(1/2, nu/2)) ).

    Heavier tails than Laplace: large entries are left alone, small ones drawn to zero, though not onto it.
    For codes that are never negative the density is twice as high.

    Shapes: code (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: 1 is the log prior itself.
        degrees: nu; 1 is the Cauchy density.
        scale: s, in the units of the code.
        non_negative: the codes are never negative.

    Raises:
        InputError: degrees or scale that are not positive.

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
        """Omega of codes."""
        nu = self.degrees
        log_beta = math.lgamma(0.5) + math.lgamma(nu / 2) - math.lgamma((nu + 1) / 2)
        constant = math.log(self.scale) + math.log(nu) / 2 + log_beta - (math.log(2.0) if self.non_negative else 0.0)
        energy = (nu + 1) / 2 * torch.log1p((at_least_fp32(code) / self.scale).square() / nu).sum(-1)
        return energy + code.shape[-1] * constant

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Omega of the trip's code."""
        return self.of(output.code)


class LogPenalty(Penalty):
    r"""Omega = sum_j log(1 + h_j^2 / s^2), no density's logarithm: nothing is normalised.

    Shapes: code (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: Olshausen & Field's lambda beside the summed squared error is half of it here.
        scale: s, in the units of the code.

    Raises:
        InputError: a scale that is not positive.

    Source: Olshausen & Field (1996), whose S(x) = log(1 + x^2) this is.

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
        """Omega of codes."""
        return torch.log1p((at_least_fp32(code) / self.scale).square()).sum(-1)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Omega of the trip's code."""
        return self.of(output.code)


class TargetRate(Penalty):
    r"""Omega = sum_j KL( rho || r_j ),   r_j = the mean of h_j over the batch.

        KL(rho || r) = rho log(rho / r) + (1 - rho) log((1 - rho) / (1 - r))

    Sigmoid units are asked to be on a share rho of the time, each of them. It is a penalty of the batch: taken by
    row it would ask every row for the rate instead, and differ by half.

    Shapes: code in [0, 1], (*draws, batch, code_size) -> ().

    Args:
        weight: beta of the sparse-autoencoder notes, whose reconstruction term is 1/2 ||x - r||^2 too.
        target_rate: rho.

    Raises:
        InputError: a rate outside (0, 1).

    Source: Ng, CS294A lecture notes, Sparse autoencoder (2011), section 3; DL book 14.2.1.

    Example:
        >>> TargetRate(target_rate=0.5).of(torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
        tensor(0.)
    """

    def __init__(self, weight: float = 1.0, *, target_rate: float = 0.05) -> None:
        super().__init__(weight)
        self.target_rate = check_rate("target_rate", target_rate)

    def of(self, code: Float[Tensor, "*draws batch code_size"]) -> Float[Tensor, ""]:
        """Omega of the codes of a batch."""
        code = at_least_fp32(code)
        rho, tiny = self.target_rate, torch.finfo(code.dtype).eps
        # A unit that is wholly off (or on) is infinitely far; the clamp keeps the loss finite.
        rate = code.flatten(0, -2).mean(0).clamp(tiny, 1.0 - tiny)
        on = rho * (math.log(rho) - rate.log())
        off = (1.0 - rho) * (math.log1p(-rho) - torch.log1p(-rate))
        return (on + off).sum()

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, ""]:
        """Omega of the trip's codes."""
        return self.of(output.code)
