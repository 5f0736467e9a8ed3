"""Values of `sparsity`: how the code becomes sparse."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import nn

from isthmus.errors import InputError
from isthmus.parts import penalties, sparse_activations
from isthmus.parts.constraints import UnitColumns
from isthmus.parts.layers import ACTIVATIONS, check_choice, check_count, check_positive
from isthmus.parts.penalties import Penalty, check_rate, check_weight
from isthmus.parts.prefixes import PrefixReconstruction, check_prefixes
from isthmus.parts.sparse_activations import check_k
from isthmus.parts.sparse_norms import GroupNorm, L1Norm, SparseNorm, TopographicNorm
from isthmus.parts.sparsity import ActiveUnits, DeadUnits, GateL1, GateReconstruction, SparseParts
from isthmus.values.value import Value, check_flag, value_argument

NON_NEGATIVE = ("relu", "sigmoid", "softplus")
"""Names of activations whose codes are never negative."""

GATHER_MIN_RATIO = 32
"""Smallest ratio of code size to active units at which `GatheredLinear` is faster; see `benchmarks/sparse.py`."""

EXPECTED_RATE = 0.05
"""Fraction of the rows on which a unit is expected to be active, where no value says it; it decides which are dead."""


class Sparsity(Value):
    """Base class of the values of `sparsity`.

    Attributes:
        unit_columns: keep the decoder's columns, the atoms, at norm 1; otherwise small codes and large columns avoid a
            penalty. None does so for a linear decoder with weights of its own.
    """

    unit_columns: bool | None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("unit_columns", self.unit_columns)

    @abstractmethod
    def unconstrained_parts(self, code_size: int, code_activation: str | None) -> SparseParts:
        """Return the activation of the code and the penalties."""

    def parts(self, code_size: int, code_activation: str | None = None, *, linear: bool = True) -> SparseParts:
        """Return the activation of the code, its penalties and its constraints.

        For codes with exact zeros a term "dead_units" is added; see `isthmus.parts.sparsity.DeadUnits`.

        Args:
            code_size: units of the code.
            code_activation: name of the activation; None takes that of the sparsity.
            linear: True if the decoder is linear in the code, with weights of its own.

        Raises:
            InputError: an activation that the sparsity does not allow; k above the code size.
        """
        parts = self.unconstrained_parts(code_size, code_activation)
        constrained = linear if self.unit_columns is None else self.unit_columns
        return replace(parts, constraints=(UnitColumns(),) if constrained else ())


class Prior(Sparsity):
    """Base class of priors on the code: penalties that keep the activation, ReLU by default.

    Attributes:
        term: name of the penalty among `penalties`.
    """

    weight: float
    term: ClassVar[str]

    @abstractmethod
    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty on a code; `non_negative` if its units are never below 0."""

    def check(self) -> None:
        """Refuse a negative weight."""
        check_weight(type(self).__name__, self.weight)

    def unconstrained_parts(self, code_size: int, code_activation: str | None) -> SparseParts:
        """Return the penalty, and the term of dead units for ReLU."""
        activation = "relu" if code_activation is None else code_activation
        check_choice("code_activation", activation, tuple(ACTIVATIONS))
        revival = dead_units(code_size) if activation == "relu" else {}
        return SparseParts(activation, {"sparsity": self.penalty(activation in NON_NEGATIVE), **revival})


class NormPrior(Prior):
    """Base class of priors -log p(h) = weight Omega(h) + l2/2 ||h||^2 + constant, whose codes can be optimised."""

    l2: float
    any_sign: ClassVar[bool] = False
    """True for a norm of several units, whose codes cannot be constrained to h >= 0."""

    @abstractmethod
    def norm(self, non_negative: bool = False) -> SparseNorm:
        """Return Omega."""

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return penalties.NormPenalty(self.weight, self.norm(non_negative), l2=self.l2)


@dataclass(frozen=True, repr=False)
class L1(NormPrior):
    r"""L1 penalty on the code: a Laplace prior, exponential for codes that are never negative.

        weight * Omega(h) = -log p(h) = sum_j ( weight |h_j| - log(weight / 2) )

    It also shrinks the active units; `TopK`, `BatchTopK`, `JumpReLU` and `Gated` do not.

    Args:
        weight: relative to 1/2 ||x - r||^2, in model space. If a paper adds lambda to the *mean* squared error of d
            columns, the weight is lambda * d / 2; for the summed squared error it is lambda / 2.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: the weight is negative or not finite.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.2.1; Olshausen & Field (1997).

    Example:
        >>> from isthmus import L1
        >>> L1(0.5), L1() == L1(weight=0.1)
        (L1(weight=0.5), True)
    """

    weight: float = 0.1
    unit_columns: bool | None = None

    term: ClassVar[str] = "l1"
    l2: ClassVar[float] = 0.0  # type: ignore[misc]

    def norm(self, non_negative: bool = False) -> SparseNorm:
        """Return the L1 norm."""
        return L1Norm(non_negative)

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return penalties.LaplacePrior(self.weight, non_negative=non_negative)


@dataclass(frozen=True, repr=False)
class ElasticNet(NormPrior):
    r"""L1 and squared penalty on the code: weight * sum_j |h_j| + l2/2 sum_j h_j^2.

    Atoms that are nearly equal get similar codes, where `L1` alone chooses one of them.

    Args:
        weight: of the L1 norm, relative to 1/2 ||x - r||^2, in model space.
        l2: weight of 1/2 ||h||^2.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: a weight is negative or not finite.

    Source: Zou & Hastie, Regularization and variable selection via the elastic net (2005).

    Example:
        >>> from isthmus import ElasticNet
        >>> ElasticNet(weight=0.5, l2=0.1)
        ElasticNet(weight=0.5)
    """

    weight: float = 0.1
    l2: float = 0.1
    unit_columns: bool | None = None

    term: ClassVar[str] = "elastic_net"

    def check(self) -> None:
        """Refuse negative weights."""
        super().check()
        check_weight("ElasticNet: l2", self.l2)

    def norm(self, non_negative: bool = False) -> SparseNorm:
        """Return the L1 norm."""
        return L1Norm(non_negative)


@dataclass(frozen=True, repr=False)
class GroupL2(NormPrior):
    r"""Norm of groups of units: weight * sum_k ||h_k||_2, so that a group is active or exactly 0 as a whole.

    Groups are blocks of neighbouring units of the code.

    Args:
        weight: relative to 1/2 ||x - r||^2, in model space.
        size: units of a group; it has to divide the code size.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: the weight is negative or not finite; a size below 1; at `fit`, a size that does not divide the
            code.

    Source: Yuan & Lin, Model selection and estimation in regression with grouped variables (2006).

    Example:
        >>> from isthmus import GroupL2
        >>> GroupL2(weight=0.5, size=8)
        GroupL2(weight=0.5, size=8)
    """

    weight: float = 0.1
    size: int = 4
    unit_columns: bool | None = None

    term: ClassVar[str] = "group_l2"
    l2: ClassVar[float] = 0.0  # type: ignore[misc]
    any_sign: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse a negative weight, and a size below 1."""
        super().check()
        check_count("GroupL2: size", self.size)

    def norm(self, non_negative: bool = False) -> SparseNorm:
        """Return the norm of the groups."""
        return GroupNorm(self.size)


@dataclass(frozen=True, repr=False)
class Topographic(NormPrior):
    r"""Norm of overlapping neighbourhoods on a map of the units: neighbours on the map become similar atoms.

        weight * sum_i sqrt(epsilon^2 + sum_j w_ij h_j^2),   w_ij a Gaussian window around unit i

    Codes have small values in place of zeros.

    Args:
        weight: relative to 1/2 ||x - r||^2, in model space.
        shape: units of a ring, (n,), or rows and columns of a torus; their product is the code size.
        radius: distance on the map, in units, at which a neighbourhood ends.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: the weight is negative or not finite; a map that is smaller than its neighbourhoods; at `fit`, a map
            of another number of units than the code.

    Source: Kavukcuoglu, Ranzato, Fergus & LeCun, Learning invariant features through topographic filter maps (2009).

    Example:
        >>> from isthmus import Topographic
        >>> Topographic(shape=(10, 10), radius=2)
        Topographic(shape=(10, 10), radius=2)
    """

    weight: float = 0.1
    shape: Sequence[int] = (8, 8)
    radius: int = 1
    unit_columns: bool | None = None

    term: ClassVar[str] = "topographic"
    l2: ClassVar[float] = 0.0  # type: ignore[misc]
    any_sign: ClassVar[bool] = True

    def check(self) -> None:
        """Refuse a negative weight, and maps that are smaller than a neighbourhood."""
        super().check()
        self.norm()

    def norm(self, non_negative: bool = False) -> SparseNorm:
        """Return the norm of the map."""
        return TopographicNorm(tuple(self.shape), self.radius)


@dataclass(frozen=True, repr=False)
class StudentT(Prior):
    r"""Student-t prior on the code: tails that are heavier than those of `L1`, so large units are shrunk less.

        Omega(h) = -log p(h) = sum_j (nu + 1) / 2 log(1 + h_j^2 / (nu s^2)) + constant

    Args:
        weight: relative to 1/2 ||x - r||^2, in model space; 1 is the log prior itself.
        degrees: nu; 1 is the Cauchy density.
        scale: s, in the units of the code.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: the weight is negative or not finite; degrees or scale are not above 0.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.2.1; Olshausen & Field (1996).

    Example:
        >>> from isthmus import StudentT
        >>> StudentT(weight=1.0)
        StudentT(weight=1.0)
    """

    weight: float = 0.1
    degrees: float = 1.0
    scale: float = 1.0
    unit_columns: bool | None = None

    term: ClassVar[str] = "student_t"

    def check(self) -> None:
        """Refuse a negative weight, and degrees or a scale that are not above 0."""
        super().check()
        check_positive("degrees", self.degrees)
        check_positive("scale", self.scale)

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return penalties.StudentTPrior(self.weight, degrees=self.degrees, scale=self.scale, non_negative=non_negative)


@dataclass(frozen=True, repr=False)
class LogPenalty(Prior):
    r"""Logarithmic penalty on the code, Omega(h) = sum_j log(1 + h_j^2 / s^2), which is not a log density.

    Up to a constant it is `StudentT` with one degree of freedom.

    Args:
        weight: relative to 1/2 ||x - r||^2, in model space; lambda / 2 for the lambda of the paper, which uses
            ||x - r||^2.
        scale: s, in the units of the code.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: the weight is negative or not finite; the scale is not above 0.

    Source: Olshausen & Field, Emergence of simple-cell receptive field properties (1996), S(x) = log(1 + x^2).

    Example:
        >>> from isthmus import LogPenalty
        >>> LogPenalty()
        LogPenalty()
    """

    weight: float = 0.1
    scale: float = 1.0
    unit_columns: bool | None = None

    term: ClassVar[str] = "log"

    def check(self) -> None:
        """Refuse a negative weight, and a scale that is not above 0."""
        super().check()
        check_positive("scale", self.scale)

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return penalties.LogPenalty(self.weight, scale=self.scale)


@dataclass(frozen=True, repr=False)
class KLRate(Sparsity):
    r"""Sigmoid units with a target rate: weight * sum_j KL(rate || mean of unit j over the batch).

    Args:
        weight: relative to 1/2 ||x - r||^2, in model space.
        rate: target of the mean activation of a unit, in (0, 1).

    Raises:
        InputError: the weight is negative or not finite, or the rate is outside (0, 1).

    Source: Ng, Sparse autoencoder, CS294A lecture notes (2011); Hinton, A practical guide to training RBMs (2010),
    section 11.

    Example:
        >>> from isthmus import KLRate
        >>> KLRate(weight=1.0, rate=0.1)
        KLRate(weight=1.0, rate=0.1)
    """

    weight: float = 0.1
    rate: float = 0.05

    unit_columns: ClassVar[bool] = False  # type: ignore[misc]
    term: ClassVar[str] = "rate"

    def check(self) -> None:
        """Refuse a negative weight, and a rate outside (0, 1)."""
        check_weight("KLRate", self.weight)
        check_rate("KLRate: rate", self.rate)

    def penalty(self, non_negative: bool = True) -> Penalty:
        """Return the penalty on units in (0, 1)."""
        return penalties.TargetRate(self.weight, target_rate=self.rate)

    def unconstrained_parts(self, code_size: int, code_activation: str | None) -> SparseParts:
        """Return sigmoid units and the penalty."""
        if code_activation not in (None, "sigmoid"):
            raise InputError(
                f"sparsity={self!r} needs units in (0, 1), but code_activation is {code_activation!r}; leave "
                "code_activation out, or use sparsity='l1'"
            )
        return SparseParts("sigmoid", {"sparsity": self.penalty()})


class ActivationSparsity(Sparsity):
    """Base class of sparsities that set the activation of the code."""

    @abstractmethod
    def activation_parts(self, code_size: int) -> SparseParts:
        """Return the activation of the code and the penalties."""

    def unconstrained_parts(self, code_size: int, code_activation: str | None) -> SparseParts:
        """Return the parts, after checking that no other activation is given."""
        if code_activation is not None:
            raise InputError(
                f"sparsity={self!r} sets the activation of the code, but code_activation is {code_activation!r}; leave "
                "code_activation out"
            )
        return self.activation_parts(code_size)


@dataclass(frozen=True, repr=False)
class LargestUnits(ActivationSparsity):
    """Base class of codes of the largest units: a number of active units, and no sparsity penalty.

    Attributes:
        activation: class of the activation of the code, constructed with k and the code size.
    """

    k: int | None = None
    rate: float = 0.05
    prefixes: Sequence[int] | None = None
    unit_columns: bool | None = None

    activation: ClassVar[Callable[[int, int], nn.Module]]

    def check(self) -> None:
        """Refuse k below 1, a rate outside (0, 1), and prefixes that do not increase."""
        if self.k is not None:
            check_count("k", self.k)
        check_rate(f"{type(self).__name__}: rate", self.rate)
        if self.prefixes is not None:
            check_prefixes(self.prefixes)

    def activation_parts(self, code_size: int) -> SparseParts:
        """Return the activation and the term of dead units, and a decoder that reads the active units alone."""
        k = check_k(max(1, round(self.rate * code_size)) if self.k is None else self.k, code_size)
        revival = dead_units(code_size, self.rate if self.k is None else k / code_size)
        nested = (
            {"prefixes": PrefixReconstruction(prefixes=self.prefixes, code_size=code_size)} if self.prefixes else {}
        )
        gather = code_size >= GATHER_MIN_RATIO * k
        return SparseParts(type(self).activation(k, code_size), nested | revival, gather=gather)


@dataclass(frozen=True, repr=False)
class TopK(LargestUnits):
    """The k largest units of each row are active if they are above 0, the others are 0; no penalty shrinks them.

    Args:
        k: active units per row; None takes `rate` of the code size.
        rate: fraction of the units that are active, where `k` is None.
        prefixes: numbers of units, such as (64, 256): the first 64 units and the first 256 alone reconstruct the rows
            too (the term "prefixes", a Matryoshka code), so that the first units hold the coarsest features.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: k below 1, a rate outside (0, 1), prefixes that do not increase; at `fit`, k above the code size, or
            a prefix that is not shorter than the code.

    Source: Makhzani & Frey, k-sparse autoencoders (2014); Gao et al., Scaling and evaluating sparse autoencoders
    (2024); Bussmann et al., Learning multi-level features with Matryoshka sparse autoencoders (2025).

    Example:
        >>> from isthmus import TopK
        >>> TopK(k=32)
        TopK(k=32)
    """

    activation: ClassVar[Callable[[int, int], nn.Module]] = sparse_activations.TopK


@dataclass(frozen=True, repr=False)
class BatchTopK(LargestUnits):
    """The k n largest units of n rows are active: k on average, more in some rows; a threshold after training.

    Args:
        k: active units per row on average; None takes `rate` of the code size.
        rate: fraction of the units that are active, where `k` is None.
        prefixes: numbers of units, such as (64, 256): the first 64 units and the first 256 alone reconstruct the rows
            too (the term "prefixes", a Matryoshka code), so that the first units hold the coarsest features.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: k below 1, a rate outside (0, 1), prefixes that do not increase; at `fit`, k above the code size, or
            a prefix that is not shorter than the code.

    Source: Bussmann, Leask & Nanda, BatchTopK sparse autoencoders (2024).

    Example:
        >>> from isthmus import BatchTopK
        >>> BatchTopK(rate=0.01)
        BatchTopK(rate=0.01)
    """

    activation: ClassVar[Callable[[int, int], nn.Module]] = sparse_activations.BatchTopK


@dataclass(frozen=True, repr=False)
class JumpReLU(ActivationSparsity):
    """Units that are active above a learned threshold: h_j = a_j where a_j > theta_j, else 0; active units cost.

        weight * Omega(h) = weight * number of active units

    Args:
        weight: nats per active unit, relative to 1/2 ||x - r||^2; lambda / 2 for the lambda of the paper, which uses
            ||x - r||^2.
        threshold: the initial thresholds.
        bandwidth: width of the kernel that estimates the derivative by the thresholds.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: the weight is negative or not finite; threshold or bandwidth is not above 0.

    Source: Rajamanoharan et al., Jumping ahead (2024).

    Example:
        >>> from isthmus import JumpReLU
        >>> JumpReLU(weight=0.02)
        JumpReLU(weight=0.02)
    """

    weight: float = 0.1
    threshold: float = 0.1
    bandwidth: float = 0.1
    unit_columns: bool | None = None

    def check(self) -> None:
        """Refuse a negative weight, and a threshold or bandwidth that is not above 0."""
        check_weight("JumpReLU", self.weight)
        check_positive("threshold", self.threshold)
        check_positive("bandwidth", self.bandwidth)

    def activation_parts(self, code_size: int) -> SparseParts:
        """Return the activation, the count of active units, and the term of dead units."""
        activation = sparse_activations.JumpReLU(code_size, threshold=self.threshold, bandwidth=self.bandwidth)
        return SparseParts(activation, {"sparsity": ActiveUnits(self.weight), **dead_units(code_size)})


@dataclass(frozen=True, repr=False)
class Gated(ActivationSparsity):
    """Units with a gate, which decides if they are active, and a magnitude; the L1 penalty is on the gate alone.

    Args:
        weight: weight of the penalty on the gate, relative to 1/2 ||x - r||^2; lambda / 2 for the lambda of the paper.
        unit_columns: keep the atoms at norm 1; None does so for a linear decoder with weights of its own.

    Raises:
        InputError: the weight is negative or not finite.

    Source: Rajamanoharan et al., Improving dictionary learning with gated sparse autoencoders (2024).

    Example:
        >>> from isthmus import Gated
        >>> Gated(weight=0.05)
        Gated(weight=0.05)
    """

    weight: float = 0.1
    unit_columns: bool | None = None

    def check(self) -> None:
        """Refuse a negative weight."""
        check_weight("Gated", self.weight)

    def activation_parts(self, code_size: int) -> SparseParts:
        """Return the activation, the penalty and the reconstruction of the gate, and the term of dead units."""
        terms = {"sparsity": GateL1(self.weight), "gate_reconstruction": GateReconstruction(1.0)}
        return SparseParts(sparse_activations.Gated(code_size), terms | dead_units(code_size))


def dead_units(code_size: int, rate: float = EXPECTED_RATE) -> dict[str, Penalty]:
    """Return the term that revives dead units: those that were inactive for 100 times the expected interval.

    Args:
        code_size: units of the code.
        rate: expected fraction of the rows on which a unit is active.

    Example:
        >>> dead_units(64, 0.1)["dead_units"].dead_after
        1000
    """
    n_revived = max(1, round(rate * code_size))
    return {"dead_units": DeadUnits(code_size=code_size, dead_after=math.ceil(100 / rate), n_revived=n_revived)}


SPARSITY = value_argument(
    "sparsity",
    {
        "l1": L1(), "student-t": StudentT(), "log": LogPenalty(), "kl": KLRate(), "topk": TopK(),
        "batch-topk": BatchTopK(), "jumprelu": JumpReLU(), "gated": Gated(), "elastic-net": ElasticNet(),
        "group-l2": GroupL2(), "topographic": Topographic(),
    },
)  # fmt: skip
"""The argument `sparsity`."""
