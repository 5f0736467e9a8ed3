"""Values of `prior` and `kl`: the prior of the code of a variational autoencoder, and the weight of its divergence."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Generator

from isthmus.errors import InputError
from isthmus.parts import priors
from isthmus.parts.layers import check_count, check_sizes
from isthmus.parts.penalties import check_weight
from isthmus.parts.priors import CodePrior
from isthmus.parts.stochastic_inference import DiagonalGaussian, DistributionInference
from isthmus.values.value import Value, value_argument


class PriorValue(Value):
    """Base class of the values of `prior`."""

    @abstractmethod
    def build(
        self, inference: DistributionInference, code_size: int, n_columns: int, generator: Generator
    ) -> CodePrior | None:
        """Return the prior of codes of an inference; None is its standard prior."""


@dataclass(frozen=True, repr=False)
class NormalPrior(PriorValue):
    """Standard normal prior, p(h) = N(0, I): its divergence has a closed form. Discrete codes have the uniform prior.

    Source: Kingma & Welling, Auto-encoding variational Bayes (2014).

    Example:
        >>> from isthmus import NormalPrior
        >>> NormalPrior()
        NormalPrior()
    """

    def build(self, inference: DistributionInference, code_size: int, n_columns: int, generator: Generator) -> None:
        """Return None: the inference computes the closed form."""


@dataclass(frozen=True, repr=False)
class GaussianPrior(Value):
    """Gaussian distribution with a full covariance, fitted to the codes after training (`fit_prior`).

    Example:
        >>> from isthmus import GaussianPrior
        >>> GaussianPrior()
        GaussianPrior()
    """

    k: ClassVar[int] = 1


@dataclass(frozen=True, repr=False)
class MixturePrior(PriorValue):
    """Mixture of Gaussians.

    As `prior` of a variational autoencoder the components have diagonal covariances and are learned with the model; as
    `fit_prior` of other kinds they have full covariances and are fitted to the codes after training.

    Args:
        k: number of components.

    Raises:
        InputError: k below 1.

    Source: Dilokthanakul et al., Deep unsupervised clustering with Gaussian mixture variational autoencoders (2016).

    Example:
        >>> from isthmus import MixturePrior
        >>> MixturePrior(k=20)
        MixturePrior(k=20)
    """

    k: int = 10

    def check(self) -> None:
        """Refuse k below 1."""
        check_count("MixturePrior: k", self.k)

    def build(
        self, inference: DistributionInference, code_size: int, n_columns: int, generator: Generator
    ) -> CodePrior:
        """Return the prior."""
        return priors.GaussianMixture(code_size, self.k, generator=generator)


@dataclass(frozen=True, repr=False)
class VampPrior(PriorValue):
    """Mixture of the posteriors of learned rows (pseudo-inputs): the prior lies where codes of rows lie.

    Args:
        k: number of pseudo-inputs; each step encodes all of them.

    Raises:
        InputError: k below 1.

    Source: Tomczak & Welling, VAE with a VampPrior (2018).

    Example:
        >>> from isthmus import VampPrior
        >>> VampPrior(k=500)
        VampPrior(k=500)
    """

    k: int = 100

    def check(self) -> None:
        """Refuse k below 1."""
        check_count("VampPrior: k", self.k)

    def build(
        self, inference: DistributionInference, code_size: int, n_columns: int, generator: Generator
    ) -> CodePrior:
        """Return the prior."""
        return priors.PosteriorMixture(code_size, self.k, n_columns, cast(DiagonalGaussian, inference).posterior)


@dataclass(frozen=True, repr=False)
class FlowPrior(PriorValue):
    """Neural spline flow, an invertible map of a standard normal distribution, learned with the model.

    It needs the package zuko: `pip install 'isthmus[flows]'`.

    Args:
        n_transforms: number of transformations.
        hidden_sizes: units of the hidden layers of each transformation.

    Raises:
        InputError: fewer than one transformation, a size below 1; at `fit`, zuko is not installed.

    Source: Durkan et al., Neural spline flows (2019).

    Example:
        >>> from isthmus import FlowPrior
        >>> FlowPrior(n_transforms=2)
        FlowPrior(n_transforms=2)
    """

    n_transforms: int = 3
    hidden_sizes: Sequence[int] = (64, 64)

    def check(self) -> None:
        """Refuse fewer than one transformation, and a size below 1."""
        check_count("FlowPrior: n_transforms", self.n_transforms)
        check_sizes("FlowPrior: hidden_sizes", self.hidden_sizes)

    def build(
        self, inference: DistributionInference, code_size: int, n_columns: int, generator: Generator
    ) -> CodePrior:
        """Return the prior."""
        seed = int(torch.randint(2**31, (), generator=generator))
        return priors.FlowPrior(
            code_size, n_transforms=self.n_transforms, hidden_sizes=tuple(self.hidden_sizes), seed=seed
        )


@dataclass(frozen=True, repr=False)
class KL(Value):
    r"""Weight of the divergence of the code from its prior.

        J = E[ -log p(x | h) ] + beta min(1, progress / warmup) KL(q(h | x) || p(h))

    Args:
        beta: weight at the end of the warm-up; 1 is the bound on -log p(x). A larger one gives codes of more
            independent units and blurred reconstructions; 0 is a noisy autoencoder without a density.
        warmup: fraction of the training in which the weight rises from 0, in [0, 1].
        free_bits: nats of each unit that cost nothing, so that units do not collapse; it needs `prior="normal"`.

    Raises:
        InputError: a negative beta or free_bits, a warm-up outside [0, 1].

    Source: Higgins et al., beta-VAE (2017); Sonderby et al., Ladder variational autoencoders (2016); Kingma et al.,
    Improved variational inference with inverse autoregressive flow (2016).

    Example:
        >>> from isthmus import KL
        >>> KL(beta=4.0)
        KL(beta=4.0)
    """

    beta: float = 1.0
    warmup: float = 0.1
    free_bits: float = 0.0

    def check(self) -> None:
        """Refuse a negative weight, and a warm-up outside [0, 1]."""
        check_weight("KL: beta", self.beta)
        check_weight("KL: free_bits", self.free_bits)
        if isinstance(self.warmup, bool) or not isinstance(self.warmup, int | float) or not 0 <= self.warmup <= 1:
            raise InputError(f"KL: warmup={self.warmup!r}: it must be a fraction of the training, from 0 to 1")


PRIOR = value_argument(
    "prior",
    {"normal": NormalPrior(), "mixture": MixturePrior(), "vamp": VampPrior(), "flow": FlowPrior()},
    required=True,
)
"""The argument `prior`."""
FIT_PRIOR = value_argument("fit_prior", {"gaussian": GaussianPrior(), "mixture": MixturePrior()})
"""The argument `fit_prior`."""
KL_WEIGHT = value_argument("kl", {"elbo": KL()}, required=True)
"""The argument `kl`."""
