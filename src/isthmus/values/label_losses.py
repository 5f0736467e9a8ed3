"""Values of `labels`: how the bits of a semantic hashing learn from the classes of rows."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.parts import label_penalties
from isthmus.values.value import Value, value_argument

NEAR_SHARE = 0.25
"""Default rho relative to the number of bits; codes of independent bits differ in half of them."""


@dataclass(frozen=True, repr=False)
class MinimalLoss(Value):
    r"""Loss of the Hamming distance of pairs of codes: below rho within a class, above it between classes.

        Omega = mean over pairs of one class of max(m - rho + 1, 0)
                + lambda * mean over pairs of two classes of max(rho - m + 1, 0),   m = ||h_i - h_j||_H

    The minimised term is an upper bound of Omega that has a gradient. It takes the pairs inside a batch.

    Args:
        rho: distance in bits between close and far codes; None takes a quarter of the bits.
        lam: lambda, the weight of pairs of two classes relative to those of one.
        weight: relative to 1/2 ||x - r||^2, in model space.
        margin: the output of the encoder at which the flip of a bit costs as much as one bit of distance.
        repair: weight of the cost of the flips that a pair needs for the least loss; 0 is the criterion of the paper,
            which gives wrong bits no gradient.

    Raises:
        InputError: rho or margin is not a number above 0; a negative weight, lam or repair.

    Source: Norouzi & Fleet, Minimal loss hashing for compact binary codes (2011).

    Example:
        >>> from isthmus import MinimalLoss
        >>> MinimalLoss(rho=3)
        MinimalLoss(rho=3)
    """

    rho: float | None = None
    lam: float = 1.0
    weight: float = 1.0
    margin: float = 0.1
    repair: float = 1.0

    def check(self) -> None:
        """Refuse invalid fields, as the penalty does."""
        self.penalty(1)

    def penalty(self, code_size: int) -> label_penalties.MinimalLoss:
        """Return the penalty for codes of this number of bits."""
        rho = NEAR_SHARE * code_size if self.rho is None else self.rho
        return label_penalties.MinimalLoss(self.weight, rho=rho, lam=self.lam, margin=self.margin, repair=self.repair)


LABELS = value_argument("labels", {"minimal-loss": MinimalLoss()})
"""The argument `labels`."""
