"""The restricted Boltzmann machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.contrastive import Contrastive
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning import score_matching
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.densities import RBMDensity
from isthmus.learning.energy_objective import EnergyObjective
from isthmus.learning.phases import Phase
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.hidden_units import HIDDEN_UNITS
from isthmus.parts.layers import check_choice
from isthmus.parts.likelihoods import Likelihood, likelihood_from
from isthmus.parts.penalties import Penalty
from isthmus.parts.semi_restricted import SemiRestrictedRBMEnergy
from isthmus.values.energy_methods import ChainMethod, DenoisingScoreMatching, ScoreMatching
from isthmus.values.sparsities import KLRate


@dataclass(kw_only=True, eq=False, repr=False)
class RestrictedBoltzmannMachine(Contrastive, BaseAutoencoder):
    r"""Restricted Boltzmann machine: an energy of rows and codes, trained on the difference of rows and samples.

        E(v, h) = -b' v - c' h - h' W v,   p(v) = sum_h exp(-E(v, h)) / Z,   h = E[h | v] = sigma(c + W v)
        dJ = E_data[ dF(v) ] - E_model[ dF(v) ],   F(v) = -log sum_h exp(-E(v, h))

    Given one layer, the units of the other are independent, so encoder and decoder are one affine map each, with tied
    weights as in an autoencoder. The model is a density. The first term of the gradient lowers the free energy of the
    rows, the second raises it at samples of the model (Gibbs sampling). Persistent chains ("pcd") follow the model's
    distribution and lead to the better density. Chains that start at the rows ("cd") train features fast, but leave
    probability far from the rows.

    `likelihood` chooses the visible units: "bernoulli" (also for grey values, used as probabilities), "gaussian" (unit
    variance; standardise), "gaussian-learned", "gaussian-per-column", "categorical" (softmax), "multinomial"
    (replicated softmax, for word counts), "mixed" (a table); "auto" infers it from the data.

    Args:
        hidden_units: "bernoulli", "gaussian" (a linear code), or "rectified" (noisy rectified linear: their samples,
            and so `sample` and the chains, only approximate the distribution of the energy).
        lateral: connect the hidden units with each other; mean field computes the code (semi-restricted Boltzmann
            machine).
        sparsity: None, or "kl" for KL(rate || mean rate of each hidden unit), as in `KLRate(weight=0.1, rate=0.05)`.
        method: "pcd", "cd", or for Gaussian visible units "score" (score matching) or "denoising-score", which need no
            chains; or a value: `PCD`, `CD`, `ScoreMatching`, `DenoisingScoreMatching(noise_scale=0.3)`.

    The other arguments are those of `Contrastive` (optimizer) and of `BaseAutoencoder`.

    Attributes:
        score_kind_: "exact" if one layer has at most 20 binary units, so that Z is enumerated ("bound" with lateral
            weights); "estimate" after `estimate_log_partition`; else "unnormalised": minus the free energy. With
            `missing="mask"`, `score_samples` returns the log density of the observed entries of a row. If the code or
            the columns are at most 20 binary units, the missing entries are summed out, and the score is "exact".
            Otherwise rows with missing entries get a lower bound, and the score of all rows is called a "bound" in
            place of an "estimate".
        log_partition_: log Z, if it is known.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, sections 14.5.1, 18.2 and 20.2; Hinton, Training products of
    experts by minimizing contrastive divergence (2002); Tieleman (2008); Salakhutdinov & Murray, On the quantitative
    analysis of deep belief networks (2008).

    Example:
        >>> import numpy as np
        >>> from isthmus import RestrictedBoltzmannMachine
        >>> generator = np.random.default_rng(0)
        >>> X = np.repeat(generator.random((200, 2)) < 0.5, 3, axis=1).astype(float)
        >>> model = RestrictedBoltzmannMachine(code_size=4, max_epochs=30, learning_rate=0.3, random_state=0).fit(X)
        >>> model.score_kind_, bool(np.exp(model.score_samples(np.unique(X, axis=0))).sum() > 0.8)
        ('exact', True)
        >>> model.transform(X).shape, model.sample(5, random_state=0).shape
        ((200, 4), (5, 6))
    """

    hidden_units: str = "bernoulli"
    lateral: bool = False
    sparsity: Any = None

    kind: ClassVar[str] = "rbm"
    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {"sparsity": ("kl",)}
    successors: ClassVar[Mapping[str, str]] = {
        "sparsity_weight": "sparsity=KLRate(weight=...)",
        "target_rate": "sparsity=KLRate(rate=...)",
    }
    overcomplete: ClassVar[bool] = True

    # -- construction -------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("hidden_units", self.hidden_units, tuple(HIDDEN_UNITS))

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        objective = self._objective(shape, generator)
        return Recipe(objective.coder, objective, density=objective.density)

    def _objective(self, shape: Shape, generator: torch.Generator) -> EnergyObjective:
        """Build the criterion around a new energy."""
        rbm = self._rbm(likelihood_from(shape.likelihood, shape.n_columns), shape.code_size, generator)
        method, penalties = self.value_of("method"), self._sparsity_penalty()
        if isinstance(method, ScoreMatching | DenoisingScoreMatching):
            if penalties:
                raise InputError(
                    f"sparsity={self.sparsity!r}: method={self.method!r} has no term for it; take 'pcd' or 'cd', or "
                    "leave it out"
                )
            return score_matching.ScoreMatching(rbm, noise_scale=method.noise_scale, weight_decay=self._weight_decay)
        return ContrastiveDivergence(rbm, penalties=penalties, **self._contrast_options())

    def _sparsity_penalty(self) -> dict[str, Penalty]:
        """Return the penalty on the rates of the hidden units, if there is one."""
        sparsity = self.value_of("sparsity")
        if sparsity is None:
            return {}
        if not isinstance(sparsity, KLRate):
            raise InputError(
                f"sparsity={self.sparsity!r}: the hidden units of an RBM are sparse by a target rate; take 'kl', as in "
                "KLRate(weight=0.1, rate=0.05)"
            )
        return {"sparsity": sparsity.penalty()}

    def _rbm(self, likelihood: Likelihood, n_hidden: int, generator: torch.Generator) -> RBMEnergy:
        """Build the energy."""
        if not self.lateral:
            return RBMEnergy(likelihood, n_hidden, hidden=self.hidden_units, generator=generator)
        if self.hidden_units != "bernoulli" or not isinstance(self.value_of("method"), ChainMethod):
            raise InputError(
                f"lateral=True has binary hidden units and learns by chains; found hidden_units={self.hidden_units!r} "
                f"and method={self.method!r}; use 'bernoulli' with 'pcd' or 'cd'"
            )
        return SemiRestrictedRBMEnergy(likelihood, n_hidden, generator=generator)

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        units = self.likelihood_["name"], self._density.rbm.hidden
        return [Phase("learning", recipe.objective, self._optimizer_config(training_config, *units))]

    @property
    def _density(self) -> RBMDensity:
        return cast(RBMDensity, self.density_)

    def _score_kind(self) -> str:
        rbm = self._density.rbm
        bounds_partial_rows = self.preprocessing_.masked and not rbm.can_sum_missing
        if self.lateral or bounds_partial_rows or not self._density.is_normalised:
            return super()._score_kind()
        return "exact" if rbm.is_enumerable else "estimate"

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return log p(v) of each row, nats, in model space; minus the free energy if log Z is not known.

        For a row with missing entries it is the log density of the observed entries, or a lower bound on it; see
        `score_kind_`. Summing the missing entries out takes up to 2^20 states.
        """
        return self._by_row(X, self._density.log_prob)
