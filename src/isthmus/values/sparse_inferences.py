"""Values of `inference` for kinds with a linear decoder: the solver that finds the code of a row."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from isthmus.errors import InputError
from isthmus.parts.lateral import LateralCompetition
from isthmus.parts.layers import check_count, check_positive
from isthmus.parts.networks import MLP
from isthmus.parts.optimised_inference import LinearDecoderInference, OptimisedInference, PursuitInference, Solver
from isthmus.parts.sparse_inference import coordinate_descent, fista, ista
from isthmus.values.sparsities import NormPrior
from isthmus.values.value import Value

SMALLEST_GAP = 1e-6
"""Smallest relative duality gap that float32 can reach."""


class SparseInferenceValue(Value):
    """Base class of solvers.

    Attributes:
        has_prior: True if the solver minimises the criterion of a `sparsity`.
    """

    has_prior: ClassVar[bool] = True

    @abstractmethod
    def build(self, decoder: MLP, prior: NormPrior | None, *, non_negative: bool) -> LinearDecoderInference:
        """Return the inference of a linear decoder."""


@dataclass(frozen=True, repr=False)
class IterativeSolver(SparseInferenceValue):
    """Base class of solvers that minimise 1/2 ||x - r||^2 plus the penalty of the sparsity by steps.

    Attributes:
        solver: the function that solves.
    """

    n_steps: int = 20
    gap: float = 1e-4
    max_steps: int = 1000

    solver: ClassVar[Solver]

    def check(self) -> None:
        """Refuse counts below 1, and a gap outside (0, 1)."""
        name = type(self).__name__
        check_count(f"{name}: n_steps", self.n_steps)
        if not check_positive(f"{name}: gap", self.gap) >= SMALLEST_GAP:
            raise InputError(
                f"{name}: gap={self.gap!r}: codes are computed in float32, whose rounding leaves a gap of about "
                f"{SMALLEST_GAP:g}; give at least this"
            )
        if self.gap >= 1:
            raise InputError(
                f"{name}: gap={self.gap!r}: it is relative, and the gap of the code of zeros is at most 1; give a "
                "number below 1, such as 1e-4"
            )
        check_count(f"{name}: max_steps", self.max_steps)

    def build(self, decoder: MLP, prior: NormPrior | None, *, non_negative: bool) -> LinearDecoderInference:
        """Return the inference."""
        assert prior is not None
        return OptimisedInference(
            decoder, prior.weight, norm=prior.norm(non_negative), l2=prior.l2, solver=type(self).solver,
            n_steps=self.n_steps, gap=self.gap, max_steps=self.max_steps,
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class FISTA(IterativeSolver):
    """Accelerated proximal gradient descent with restarts; the fastest solver for batches of rows.

    Args:
        n_steps: steps of a row in training, from the code of zeros.
        gap: outside of training, a row stops when its duality gap, an upper bound of the difference from the minimum,
            is at most this fraction of 1/2 ||x - c||^2.
        max_steps: largest number of steps of a row outside of training.

    Raises:
        InputError: a count below 1, or a gap outside (0, 1).

    Source: Beck & Teboulle, A fast iterative shrinkage-thresholding algorithm (2009).

    Example:
        >>> from isthmus import FISTA
        >>> FISTA(gap=1e-6)
        FISTA(gap=1e-06)
    """

    solver: ClassVar[Solver] = staticmethod(fista)


@dataclass(frozen=True, repr=False)
class ISTA(IterativeSolver):
    """Proximal gradient descent: the step of `FISTA` without momentum, which needs more steps.

    Args:
        n_steps: steps of a row in training, from the code of zeros.
        gap: duality gap at which a row stops outside of training, as in `FISTA`.
        max_steps: largest number of steps of a row outside of training.

    Raises:
        InputError: a count below 1, or a gap outside (0, 1).

    Source: Daubechies, Defrise & De Mol, An iterative thresholding algorithm for linear inverse problems (2004).

    Example:
        >>> from isthmus import ISTA
        >>> ISTA(n_steps=50)
        ISTA(n_steps=50)
    """

    solver: ClassVar[Solver] = staticmethod(ista)


@dataclass(frozen=True, repr=False)
class CoordinateDescent(IterativeSolver):
    """Cyclic coordinate descent; a step is one pass over all units.

    Args:
        n_steps: passes over the units of a row in training, from the code of zeros.
        gap: duality gap at which a row stops outside of training, as in `FISTA`.
        max_steps: largest number of passes of a row outside of training.

    Raises:
        InputError: a count below 1, or a gap outside (0, 1).

    Source: Friedman et al., Pathwise coordinate optimization (2007).

    Example:
        >>> from isthmus import CoordinateDescent
        >>> CoordinateDescent()
        CoordinateDescent()
    """

    n_steps: int = 5

    solver: ClassVar[Solver] = staticmethod(coordinate_descent)


@dataclass(frozen=True, repr=False)
class Recurrent(Value):
    """Lateral competition after an encoder: units inhibit units of similar atoms, for some steps.

    The gradient flows through all steps.

    Args:
        n_steps: number of steps.

    Raises:
        InputError: a count below 1; at `fit`, a decoder that is not linear.

    Source: Rozell, Johnson, Baraniuk & Olshausen, Sparse coding via thresholding and local competition in neural
    circuits (2008).

    Example:
        >>> from isthmus import Recurrent
        >>> Recurrent(n_steps=5)
        Recurrent(n_steps=5)
    """

    n_steps: int = 10

    def check(self) -> None:
        """Refuse a count below 1."""
        check_count("Recurrent: n_steps", self.n_steps)

    def after(self, encoder: nn.Module, activation: str | nn.Module, *, sees_mask: bool) -> LateralCompetition:
        """Return the inference after an encoder."""
        return LateralCompetition(encoder, activation, n_steps=self.n_steps, sees_mask=sees_mask)


@dataclass(frozen=True, repr=False)
class MatchingPursuit(SparseInferenceValue):
    """Orthogonal matching pursuit: at most k units of each row are not zero; it needs no `sparsity`.

    Args:
        k: largest number of non-zero units of a row.

    Raises:
        InputError: k below 1; at `fit`, k above the code size.

    Source: Pati, Rezaiifar & Krishnaprasad, Orthogonal matching pursuit (1993).

    Example:
        >>> from isthmus import MatchingPursuit
        >>> MatchingPursuit(k=10)
        MatchingPursuit(k=10)
    """

    k: int = 5

    has_prior: ClassVar[bool] = False

    def check(self) -> None:
        """Refuse k below 1."""
        check_count("MatchingPursuit: k", self.k)

    def build(self, decoder: MLP, prior: NormPrior | None, *, non_negative: bool) -> LinearDecoderInference:
        """Return the inference."""
        return PursuitInference(decoder, self.k)
