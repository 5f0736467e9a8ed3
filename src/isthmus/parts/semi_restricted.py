"""Energy of the semi-restricted Boltzmann machine: an RBM with lateral weights among the hidden units."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.layers import check_count
from isthmus.parts.likelihood_base import Likelihood
from isthmus.parts.sampling import bernoulli, rand_like

DAMPING = 0.5
"""Weight of the previous means in a mean-field step: without damping, units that inhibit each other oscillate."""


class SemiRestrictedRBMEnergy(RBMEnergy):
    r"""Energy of an RBM with symmetric lateral weights L among its binary hidden units; the diagonal of L is zero.

        E(v, h) = V(v; b) - s(v)' W' h - c' h - 1/2 h' L h,   p(v | h): as without L
        mean field:   mu = sigma(a + L mu),   a = c + W s(v)
        F(v) <= F_mu(v) = V(v; b) - mu' a - 1/2 mu' L mu - H(mu),   H the entropy of independent units with means mu

    Lateral weights let units with similar features inhibit or support each other. Given v the hidden units are no
    longer independent: their means are found by iteration, and they are sampled one after the other.
    `free_energy` is the variational F_mu, an upper bound of F; its gradient is taken with mu constant, since F_mu is
    stationary in mu.

    Shapes: as for `RBMEnergy`; L (n_hidden, n_hidden).

    Args:
        likelihood, n_hidden, weight_scale, generator: as for `RBMEnergy`.
        n_iterations: number of mean-field iterations.

    Raises:
        InputError: as for `RBMEnergy`; word counts; fewer than one iteration.

    Source: Osindero & Hinton, Modeling image patches with a directed hierarchy of Markov random fields (2007),
    section 2 (there among visible units); Peterson & Anderson (1987) for the mean field.

    Example:
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> rbm = SemiRestrictedRBMEnergy(Bernoulli(4), 3, generator=torch.Generator().manual_seed(0))
        >>> rbm.lateral.shape, rbm.hidden_mean(torch.zeros(2, 4)).shape
        (torch.Size([3, 3]), torch.Size([2, 3]))
    """

    factorial: ClassVar[bool] = False

    def __init__(
        self,
        likelihood: Likelihood,
        n_hidden: int,
        *,
        n_iterations: int = 30,
        weight_scale: float | None = None,
        generator: Generator,
    ) -> None:
        super().__init__(likelihood, n_hidden, weight_scale=weight_scale, generator=generator)
        if self.models_word_counts:
            raise InputError("lateral weights are not available for word counts (multinomial); use lateral=False")
        check_count("n_iterations", n_iterations)
        self.n_iterations = n_iterations
        self.free_lateral = nn.Parameter(torch.zeros(n_hidden, n_hidden))

    @property
    def lateral(self) -> Float[Tensor, "hidden hidden"]:
        """The lateral weights L, built from the parameter's entries above the diagonal."""
        upper = self.free_lateral.triu(1)
        return upper + upper.t()

    def energy(
        self, v: Float[Tensor, "*draws batch columns"], h: Float[Tensor, "*draws batch hidden"]
    ) -> Float[Tensor, "*draws batch"]:
        """Return E(v, h)."""
        return super().energy(v, h) - 0.5 * ((h @ self.lateral) * h).sum(-1)

    def rates(self, a: Float[Tensor, "*draws batch hidden"]) -> Float[Tensor, "*draws batch hidden"]:
        """Return the means mu, by damped iteration from sigma(a)."""
        lateral, mu = self.lateral, torch.sigmoid(a)
        for _ in range(self.n_iterations):
            mu = torch.lerp(torch.sigmoid(a + mu @ lateral), mu, DAMPING)
        return mu

    def free_energy_given(
        self, v: Float[Tensor, "*draws batch columns"], a: Float[Tensor, "*draws batch hidden"]
    ) -> Float[Tensor, "*draws batch"]:
        """Return F_mu(v), with mu constant."""
        with torch.no_grad():
            mu = self.rates(a)
            entropy = (torch.special.entr(mu) + torch.special.entr(1 - mu)).sum(-1)
        inner = (mu * a).sum(-1) + 0.5 * ((mu @ self.lateral) * mu).sum(-1)
        return self.visible.energy(v, self.visible_bias) - inner - entropy

    def hidden_free_energy(
        self, h: Float[Tensor, "*draws batch hidden"], total: Float[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "*draws batch"]:
        """Return -log of the sum over v of exp(-E(v, h))."""
        return super().hidden_free_energy(h, total) - 0.5 * ((h @ self.lateral) * h).sum(-1)

    def chain_energy(self, v: Tensor, a: Tensor, h: Tensor) -> Float[Tensor, "*draws batch"]:
        """Return E(v, h) itself: the energy of a sample is exact, F_mu is a bound."""
        own = self.visible.energy(v, self.visible_bias) - (h * a).sum(-1)
        return own - 0.5 * ((h @ self.lateral) * h).sum(-1)

    def code_activation(self) -> nn.Module:
        """Return the module a -> mu."""
        return LateralRates(self)

    def mean_given(self, a: Float[Tensor, "*draws batch hidden"]) -> Float[Tensor, "*draws batch hidden"]:
        """Return the means mu."""
        return self.rates(a)

    @torch.no_grad()
    def sample_given(
        self, a: Float[Tensor, "*draws batch hidden"], generator: Generator, h: Tensor | None = None
    ) -> Float[Tensor, "*draws batch hidden"]:
        """Sample each hidden unit in turn given the current others: one Gibbs sweep, which leaves p(h | v) invariant.

        Without h, the initial state is sampled from independent units with means mu.
        """
        h = bernoulli(self.rates(a), generator) if h is None else h.clone()
        lateral, thresholds = self.lateral, rand_like(a, generator)
        for j in range(self.n_hidden):
            rate = torch.sigmoid(a[..., j] + h @ lateral[j])
            h[..., j] = (thresholds[..., j] < rate).to(h.dtype)
        return h

    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Raise an error: with lateral weights there is no closed form.

        Raises:
            InputError: always.
        """
        raise InputError("the pseudo-likelihood has no closed form with lateral weights; use the nll")

    def _n_states(self) -> tuple[float, float]:
        """Return the numbers of states; the visible side counts as infinite, since h is not independent given v."""
        hidden, _ = super()._n_states()
        return hidden, math.inf


class LateralRates(nn.Module):
    """Activation a -> mu of a code: the mean field of `SemiRestrictedRBMEnergy`.

    Shapes: (*draws, batch, n_hidden) -> the same.

    Args:
        rbm: the energy whose lateral weights are used; it is not registered here.
    """

    def __init__(self, rbm: SemiRestrictedRBMEnergy) -> None:
        super().__init__()
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._rbm = (rbm,)

    def forward(self, a: Float[Tensor, "*draws batch hidden"]) -> Float[Tensor, "*draws batch hidden"]:
        """Return the means mu."""
        return self._rbm[0].rates(a)
