"""Values of `penalties` on the distribution of the codes of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from isthmus.parts import code_penalties
from isthmus.parts.penalties import Penalty
from isthmus.values.value import Value


@dataclass(frozen=True, repr=False)
class MMD(Value):
    r"""Distance of the codes of a batch from samples of the prior: the maximum mean discrepancy.

        Omega = E k(h, h') + E k(g, g') - 2 E k(h, g),   h, h' ~ q(h),   g, g' ~ p(h)

    With an autoencoder whose encoder is a map (`Autoencoder`) it is the Wasserstein autoencoder; p(h) is N(0, I). With
    a variational autoencoder, whose prior it takes, it is InfoVAE.

    Args:
        weight: lambda / 2 for the lambda of Tolstikhin et al.; 10 there for MNIST.
        kernel: "imq", the inverse multiquadratic kernel, or "gaussian".
        scales: of the kernels that are summed, relative to 2 code_size.

    Raises:
        InputError: a negative weight, another kernel, no scale or one that is not above 0.

    Source: Tolstikhin et al., Wasserstein auto-encoders (2018); Zhao, Song & Ermon, InfoVAE (2019).

    Example:
        >>> from isthmus import MMD
        >>> MMD(weight=5.0)
        MMD(weight=5.0)
    """

    weight: float = 10.0
    kernel: str = "imq"
    scales: Sequence[float] = code_penalties.SCALES

    term: ClassVar[str] = "mmd"

    def check(self) -> None:
        """Refuse invalid fields, as the penalty does."""
        self.penalty()

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return code_penalties.MMD(self.weight, kernel=self.kernel, scales=self.scales)


@dataclass(frozen=True, repr=False)
class TotalCorrelation(Value):
    r"""Dependence of the units of the code of a variational autoencoder, KL(q(h) || prod_j q(h_j)).

    Added to the bound it is the criterion of beta-TCVAE, with beta = 1 + weight.

    Args:
        weight: beta - 1 of Chen et al.

    Raises:
        InputError: a negative weight; at `fit`, a kind whose encoder returns no Gaussian distribution.

    Source: Chen et al., Isolating sources of disentanglement in variational autoencoders (2018).

    Example:
        >>> from isthmus import TotalCorrelation
        >>> TotalCorrelation(weight=3.0)
        TotalCorrelation(weight=3.0)
    """

    weight: float = 5.0

    term: ClassVar[str] = "total_correlation"

    def check(self) -> None:
        """Refuse a negative weight."""
        self.penalty()

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return code_penalties.TotalCorrelation(self.weight)


@dataclass(frozen=True, repr=False)
class BitBalance(Value):
    r"""Distance of the rate of each bit from 1/2, so that bits are on for half of the rows.

        Omega = sum_j (2 r_j - 1)^2,   r_j the mean of h_j over the batch

    Args:
        weight: relative to 1/2 ||x - r||^2, in model space.

    Raises:
        InputError: a negative weight; at `fit`, units that are not in (0, 1).

    Source: Weiss, Torralba & Fergus, Spectral hashing (2008); Do, Doan & Cheung (2016).

    Example:
        >>> from isthmus import BitBalance
        >>> BitBalance(weight=5.0)
        BitBalance(weight=5.0)
    """

    weight: float = 0.1

    term: ClassVar[str] = "bit_balance"

    def check(self) -> None:
        """Refuse a negative weight."""
        self.penalty()

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return code_penalties.BitBalance(self.weight)


@dataclass(frozen=True, repr=False)
class Decorrelation(Value):
    r"""Squared covariances of different bits, so that no bit repeats another one.

        Omega = sum over i < j of (4 C_ij)^2,   C the covariance of the code in the batch

    Args:
        weight: relative to 1/2 ||x - r||^2, in model space.

    Raises:
        InputError: a negative weight; at `fit`, units that are not in (0, 1).

    Source: Weiss, Torralba & Fergus, Spectral hashing (2008); Cogswell et al. (2016).

    Example:
        >>> from isthmus import Decorrelation
        >>> Decorrelation(weight=0.5)
        Decorrelation(weight=0.5)
    """

    weight: float = 0.01

    term: ClassVar[str] = "decorrelation"

    def check(self) -> None:
        """Refuse a negative weight."""
        self.penalty()

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return code_penalties.Decorrelation(self.weight)


@dataclass(frozen=True, repr=False)
class Neighbours(Value):
    r"""Reconstruction of one of the k nearest rows from the code of a row, so that similar rows have similar codes.

        Omega = -log p_dec(x' | h),   x' one of the k nearest rows of x

    Neighbours are found before training, by cosine in model space; of counts, by cosine of their term weights. They are
    among at most 20,000 training rows, evenly spaced.

    Args:
        k: number of neighbours of a row, at most a fiftieth of the rows among which they are searched.
        weight: relative to the reconstruction of the row itself.

    Raises:
        InputError: k below 1, a negative weight.

    Source: Hansen et al., Unsupervised semantic hashing with pairwise reconstruction (2020).

    Example:
        >>> from isthmus import Neighbours
        >>> Neighbours(k=20)
        Neighbours(k=20)
    """

    k: int = 50
    weight: float = 3.0

    term: ClassVar[str] = "neighbours"

    def check(self) -> None:
        """Refuse k below 1, and a negative weight."""
        self.penalty()

    def penalty(self, non_negative: bool = False) -> Penalty:
        """Return the penalty."""
        return code_penalties.NeighbourReconstruction(self.weight, n_neighbours=self.k)
