"""Penalties on codes of bits that learn from the classes of rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from isthmus.parts.coder import Coder
from isthmus.parts.forward import UNLABELLED, ForwardPass
from isthmus.parts.layers import check_positive
from isthmus.parts.penalties import Penalty, at_least_fp32, check_weight

MAX_PAIRS = 2**12
"""Largest number of pairs of a batch; of a larger batch each row takes part in fewer of them."""


class MinimalLoss(Penalty):
    r"""Loss of the Hamming distance of pairs of codes: small within a class and large between classes.

        Omega = mean over pairs of one class of (L + repair R)  +  mean over pairs of two classes of (L + repair R)

        l(m) = max(m - rho + 1, 0)  for one class,   lambda max(rho - m + 1, 0)  for two classes
        L = max over bits g, h of  [ l(||g - h||_H) + s(g, h) ]  -  s*,   s(g, h) = (g'a_i + h'a_j) / margin
        R = s*  -  max over bits g, h of least loss l  of  s(g, h),       s* = max over bits g, h of  s(g, h)

    L is an upper bound of l at the distance of the codes 1[a > 0], and continuous in a, the output of the encoder: the
    bound of the paper. Its gradient makes bits certain that reduce the loss, and none of those that are wrong. R is the
    cost of the flips that a pair needs for the least loss, with a gradient for the wrong bits; L + R is the bound of
    structured support vector machines. All maxima are exact: see `loss_augmented` and `repair_cost`.

    The pairs are those of the labelled rows of a batch, at most `MAX_PAIRS` of them. In the paper all pairs have one
    mean; with two, the number of classes has no effect on the balance of the two parts. Pairs count by the product of
    the weights of their rows.

    Shapes: a (batch, code_size), label (batch,) -> (), a function of the batch.

    Args:
        weight: factor of Omega.
        rho: the distance in bits between close and far codes: those of one class should be closer, those of two
            classes farther.
        lam: lambda, the weight of pairs of two classes.
        margin: the |a| at which the flip of a bit costs as much as one bit of distance. L has no gradient for bits
            with a larger one.
        repair: the weight of R; 0 is the criterion of the paper.

    Raises:
        InputError: rho or margin is not a number above 0; a negative weight, lam or repair.

    Source: Norouzi & Fleet, Minimal loss hashing for compact binary codes (2011), sections 3 and 4; Tsochantaridis et
    al., Large margin methods for structured and interdependent output variables (2005), for L + R.

    Example:
        >>> penalty = MinimalLoss(rho=1.0, repair=0.0)
        >>> penalty.of(torch.tensor([[3.0, 3.0], [3.0, -3.0]]), torch.tensor([0, 0]))  # l(1) = 1, and no flip pays
        tensor(1.)
    """

    def __init__(
        self, weight: float = 1.0, *, rho: float, lam: float = 1.0, margin: float = 1.0, repair: float = 1.0
    ) -> None:
        super().__init__(weight)
        self.rho = check_positive("MinimalLoss: rho", rho)
        self.lam = check_weight("MinimalLoss: lam", lam)
        self.margin = check_positive("MinimalLoss: margin", margin)
        self.repair = check_weight("MinimalLoss: repair", repair)

    def of(
        self,
        preactivation: Float[Tensor, "batch code_size"],
        label: Int[Tensor, " batch"],
        weight: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return Omega of a batch; None gives the rows equal weights."""
        a = at_least_fp32(preactivation) / self.margin
        w = torch.ones_like(a[:, 0]) if weight is None else weight.to(a.dtype)
        w = torch.where(label == UNLABELLED, 0.0, w)
        first, second, counted = pairs_of_rows(len(a), a.device)
        same, w = label[first] == label[second], w[first] * w[second] * counted
        pairs = a[first], a[second], same, self.loss_at(a.shape[1], same)
        bound = loss_augmented(*pairs).bound
        if self.repair > 0.0:
            bound = bound + self.repair * repair_cost(*pairs)
        return _mean(bound, w * same) + _mean(bound, w * ~same)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, ""]:
        """Return Omega of the batch; 0 without labels."""
        label = output.batch.label
        if label is None:
            return output.preactivation.new_zeros(())
        return self.of(output.preactivation, label, output.batch.weight)

    def loss_at(self, code_size: int, same: Bool[Tensor, " pairs"]) -> Float[Tensor, "pairs distances"]:
        """Return l of each pair at the distances 0 to code_size."""
        distance = torch.arange(code_size + 1, device=same.device)
        near, far = ((distance - self.rho + 1).clamp_min(0), self.lam * (self.rho - distance + 1).clamp_min(0))
        return torch.where(same[:, None], near, far)

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        shown = f"weight={self.weight:g}, rho={self.rho:g}, lam={self.lam:g}"
        return f"{shown}, margin={self.margin:g}, repair={self.repair:g}"


class Augmented(NamedTuple):
    """Result of the loss-augmented inference.

    Attributes:
        bound: L, (pairs,).
        flips: the number of bits in which the distance of the loss-augmented codes differs from that of the codes.
    """

    bound: Float[Tensor, " pairs"]
    flips: Int[Tensor, " pairs"]


def loss_augmented(
    a: Float[Tensor, "pairs bits"],
    b: Float[Tensor, "pairs bits"],
    same: Bool[Tensor, " pairs"],
    loss: Float[Tensor, "pairs distances"],
) -> Augmented:
    r"""Return the upper bound of a loss of the Hamming distance, by exact inference of the loss-augmented codes.

        L = max over g, h of  [ l(||g - h||_H) + g'a + h'b ]  -  max_g g'a  -  max_h h'b
          = max over t of  [ l(m +- t) - (sum of the t smallest margins) ]

    m is the distance of the codes 1[a > 0] and 1[b > 0]. A flip of one of the two bits k costs its margin,
    min(|a_k|, |b_k|). l rises with the distance in pairs of one class, so that only flips of equal bits can pay (+);
    it falls in pairs of two classes, and only flips of different bits can pay (-). Sorted by their margins, the flips
    leave one candidate for each distance.

    Args:
        a, b: the outputs of the encoder for the two rows of each pair.
        same: True for pairs of one class.
        loss: l at the distances 0 to bits; it never falls with the distance where `same`, and never rises elsewhere.

    Source: Norouzi & Fleet (2011), section 4.1.

    Example:
        >>> a, b = torch.tensor([[3.0, -0.2]]), torch.tensor([[1.0, -2.0]])
        >>> loss_augmented(a, b, torch.tensor([True]), torch.tensor([[0.0, 1.0, 2.0]]))  # 1 - .2, or 2 - .2 - 1
        Augmented(bound=tensor([0.8000]), flips=tensor([1]))
    """
    margin, loss = _flips(a, b, loss, same)
    # Distances that do not exist have an infinite cost.
    cost = torch.cat([torch.zeros_like(margin[:, :1]), margin.cumsum(1)], dim=1)
    return Augmented(*(loss - cost).max(1))


def repair_cost(
    a: Float[Tensor, "pairs bits"],
    b: Float[Tensor, "pairs bits"],
    same: Bool[Tensor, " pairs"],
    loss: Float[Tensor, "pairs distances"],
) -> Float[Tensor, " pairs"]:
    r"""Return the cost of the flips that give the codes of each pair the least loss.

        R = max over g, h of  [ g'a + h'b ]  -  max over g, h of least l(||g - h||_H)  of  [ g'a + h'b ]

    They are the flips of the smallest margins, as many as the loss falls with: of different bits in pairs of one class,
    and of equal bits in pairs of two.

    Args:
        a, b, same, loss: as for `loss_augmented`.

    Example:
        >>> a, b = torch.tensor([[3.0, -0.2]]), torch.tensor([[-1.0, 2.0]])
        >>> repair_cost(a, b, torch.tensor([True]), torch.tensor([[0.0, 0.0, 1.0]]))
        tensor([0.2000])
    """
    least = loss.amin(1, keepdim=True)
    margin, loss = _flips(a, b, loss, ~same)
    needed = (loss[:, :-1] > least) & margin.isfinite()
    return torch.where(needed, margin, 0.0).sum(1)


def _flips(
    a: Float[Tensor, "pairs bits"],
    b: Float[Tensor, "pairs bits"],
    loss: Float[Tensor, "pairs distances"],
    apart: Bool[Tensor, " pairs"],
) -> tuple[Float[Tensor, "pairs bits"], Float[Tensor, "pairs distances"]]:
    """Return the margins of the bits whose flips move the codes of a pair, sorted, and the loss after 0, 1, ... flips.

    Flips move codes apart where `apart`, and else together. Other bits have an infinite margin.
    """
    differs = (a > 0) != (b > 0)
    margin = torch.minimum(a.abs(), b.abs()).masked_fill(differs == apart[:, None], torch.inf)
    n_flips = torch.arange(loss.shape[1], device=a.device)
    distance = differs.sum(1, keepdim=True) + torch.where(apart[:, None], n_flips, -n_flips)
    return margin.sort(dim=1).values, loss.gather(1, distance.clamp(0, len(n_flips) - 1))


def pairs_of_rows(
    n: int, device: torch.device | None = None
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Bool[Tensor, " pairs"]]:
    """Return pairs of n rows as the numbers of both rows, and False for pairs that are listed a second time.

    They are all pairs if these are few, else pairs at evenly spaced distances in the batch, in which each row occurs
    equally often.

    Example:
        >>> first, second, counted = pairs_of_rows(4)
        >>> sorted(zip(first[counted].tolist(), second[counted].tolist()))
        [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 0)]
    """
    n_shifts = min(n // 2, max(MAX_PAIRS // n, 1))
    row = torch.arange(n, device=device)
    shift = 1 + torch.arange(n_shifts, device=device) * (n // 2) // max(n_shifts, 1)
    first, shift = row.repeat(n_shifts), shift.repeat_interleave(n, output_size=n * n_shifts)
    return first, (first + shift) % n, (2 * shift != n) | (first < shift)


def _mean(values: Float[Tensor, " pairs"], weight: Float[Tensor, " pairs"]) -> Float[Tensor, ""]:
    """Return the weighted mean; 0 without weight."""
    total = weight.sum()
    return (values * weight).sum() / torch.where(total > 0, total, 1.0)
