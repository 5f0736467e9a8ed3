"""Score matching: training an energy with Gaussian visible units without chains and without log Z."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from isthmus.errors import InputError
from isthmus.learning.densities import RBMDensity
from isthmus.learning.energy_objective import EnergyObjective, RBMObjective
from isthmus.learning.rows import Rows
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.sampling import randn_like
from isthmus.parts.visible_units import GaussianUnits


class ScoreMatching(RBMObjective, EnergyObjective):
    r"""Objective that fits the model's score psi = d log p / dv to that of the data, for Gaussian visible units.

        exact:      J = E[ 1/2 ||psi(v)||^2 + tr dpsi(v)/dv ]
        denoising:  J = E[ 1/2 ||psi(v~) - (v - v~) / s^2||^2 ],   v~ = v + s e,  e ~ N(0, I)

        psi = (r(v) - v) / sigma^2,   r(v) = b + W' E[h | v],
        tr dpsi/dv = sum_j ( -1 / sigma_j^2 + sum_i A''(a_i) W_ij^2 / sigma_j^4 )

    The exact criterion is a reconstruction term plus a contractive term: with unit variances and binary hidden units
    1/2 ||r(v) - v||^2 + sum_i h_i (1 - h_i) ||W_i||^2 - columns. For sigma = s, the denoising criterion is that of a
    denoising autoencoder divided by 2 s^4; it needs no second derivative, and fits the density of the noisy rows v~.

    Shapes: v (batch, columns); the terms (batch,).

    Args:
        rbm: the energy, with Gaussian visible units; trained in place.
        noise_scale: s, in model units; None means the exact criterion.
        weight_decay: w of the term w/2 ||W||^2.

    Raises:
        InputError: visible units that are not Gaussian, lateral weights, or a scale that is not above 0.

    Source: Hyvarinen (2005), theorem 1; Swersky et al., On autoencoders and score matching for energy based models
    (2011), section 4; Vincent, A connection between score matching and denoising autoencoders (2011), section 4.

    Example:
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> generator = torch.Generator().manual_seed(0)
        >>> objective = ScoreMatching(RBMEnergy(Gaussian(4), 3, generator=generator))
        >>> terms, _ = objective.terms(Batch(torch.ones(2, 4)), 0.0, generator)
        >>> {name: tuple(term.shape) for name, term in terms.items()}
        {'score': (2,)}
    """

    density: RBMDensity

    def __init__(self, rbm: RBMEnergy, *, noise_scale: float | None = None, weight_decay: float = 0.0) -> None:
        if not isinstance(rbm.visible, GaussianUnits):
            raise InputError(
                f"score matching needs a Gaussian likelihood; found likelihood={rbm.likelihood.name!r}; use "
                "method='pcd' or 'cd', or a Gaussian likelihood"
            )
        if not rbm.factorial:
            raise InputError("score matching has no closed form with lateral weights; use lateral=False")
        if noise_scale is not None and not 0.0 < noise_scale < float("inf"):
            raise InputError(f"noise_scale={noise_scale!r}: it must be a finite number above 0")
        super().__init__(rbm.coder(), RBMDensity(rbm), weight_decay=weight_decay)
        self.noise_scale = noise_scale

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Initialize the visible biases and the running means from the rows."""
        super().prepare(rows)
        self.density.initialize_chains(rows)

    def criterion(self, batch: Batch, progress: float, generator: Generator | None) -> dict[str, Tensor]:
        """Return the score term, (batch,), and the term of weight decay."""
        v = self.impute(batch)
        self.density.carry_offsets(v, weight=batch.weight)
        score = self.exact(v) if self.noise_scale is None else self.denoising(v, generator)
        return {"score": score, **self.weight_decay_term()}

    def score(self, v: Float[Tensor, "batch columns"]) -> tuple[Float[Tensor, "batch columns"], Tensor]:
        """Return psi(v) and the input a of the hidden units."""
        rbm = self.rbm
        a = rbm(v)
        return rbm.visible.sufficient_statistic(rbm.down(rbm.hidden.mean(a)) - v), a

    def exact(self, v: Float[Tensor, "batch columns"]) -> Float[Tensor, " batch"]:
        """Return 1/2 ||psi||^2 + tr dpsi/dv per row."""
        rbm = self.rbm
        psi, a = self.score(v)
        precision = rbm.visible.sufficient_statistic(torch.ones_like(v[:1]))
        norms = (rbm.weight.square() * precision.square()).sum(1)
        return 0.5 * psi.square().sum(1) + rbm.hidden.variance(a) @ norms - precision.sum()

    def denoising(self, v: Float[Tensor, "batch columns"], generator: Generator | None) -> Float[Tensor, " batch"]:
        """Return 1/2 ||psi(v~) - (v - v~) / s^2||^2 per row; without a generator, v~ = v and e = 0."""
        assert self.noise_scale is not None
        noise = torch.zeros_like(v) if generator is None else randn_like(v, generator)
        psi, _ = self.score(v + self.noise_scale * noise)
        return 0.5 * (psi + noise / self.noise_scale).square().sum(1)
