"""Values of `contraction`: penalties on the derivative of the code or of the reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isthmus.parts import jacobians
from isthmus.parts.penalties import Penalty
from isthmus.values.value import Value, value_argument


@dataclass(frozen=True, repr=False)
class Contraction(Value):
    r"""Penalty on the Jacobian of the encoder or of the reconstruction, at every row.

        order 1:   Omega = ||J(x)||_F^2
        order 2:   Omega = ||J(x)||_F^2 + hessian_weight E_e ||J(x + e) - J(x)||_F^2,   e ~ N(0, hessian_scale^2 I)

    Args:
        weight: lambda. Rifai et al. add lambda ||J||_F^2 to the cross-entropy summed over columns: with
            `likelihood="bernoulli"` both are equal. With a summed squared error without 1/2 it is half of theirs here.
        order: 1, or 2 to penalise the Hessian too, by the change of the Jacobian near the rows (CAE+H).
        of: "encoder", or "reconstruction" for the Jacobian of r(x).
        method: "closed" (one layer), "exact", "hutchinson" (random probes), or "auto"; see
            `isthmus.parts.jacobians.Contraction`.
        hessian_weight, hessian_scale: weight of the second-order term relative to the first, and standard deviation of
            the neighbours.
        n_probes: probes per row of "hutchinson".

    Raises:
        InputError: a negative weight; another order, map or method; fewer than one probe.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.7; Rifai et al., Contractive auto-encoders, ICML
    (2011); Higher order contractive auto-encoder, ECML (2011).

    Example:
        >>> from isthmus import Contraction
        >>> Contraction(weight=0.2, order=2)
        Contraction(weight=0.2, order=2)
    """

    weight: float = 0.1
    order: int = 1
    of: str = "encoder"
    method: str = "auto"
    hessian_weight: float = 1.0
    hessian_scale: float = 0.1
    n_probes: int = 1

    term: ClassVar[str] = "contraction"

    def check(self) -> None:
        """Refuse invalid fields, as the penalty does."""
        self.penalty()

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return jacobians.Contraction(
            self.weight, order=self.order, hessian_weight=self.hessian_weight, hessian_scale=self.hessian_scale,
            of=self.of, method=self.method, n_probes=self.n_probes,
        )  # fmt: skip


CONTRACTION = value_argument(
    "contraction", {"encoder": Contraction(), "reconstruction": Contraction(of="reconstruction")}
)
"""The argument `contraction`."""
