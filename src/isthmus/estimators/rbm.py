"""The restricted Boltzmann machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder, seed_of
from isthmus.estimators.records import Shape
from isthmus.evaluation.partition import PartitionEstimate, annealed
from isthmus.learning.contrast import Contrast
from isthmus.learning.phases import Phase
from isthmus.learning.rows import Rows
from isthmus.learning.training import OPTIMIZERS, Settings
from isthmus.parts.energies import Harmonium
from isthmus.parts.layers import check_choice
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.penalties import Penalty, TargetRate


@dataclass(kw_only=True, eq=False, repr=False)
class RestrictedBoltzmannMachine(BaseAutoencoder):
    r"""The restricted Boltzmann machine: an energy over rows and codes, learned by comparing rows with its own dreams.

        E(v, h) = -b' v - c' h - h' W v,   p(v) = sum_h exp(-E(v, h)) / Z,   h = E[h | v] = sigma(c + W v)
        dJ = E_data[ dF(v) ] - E_model[ dF(v) ],   F(v) = -log sum_h exp(-E(v, h))

    Given one layer, the units of the other are independent: the code of a row is one product away, and so is a row
    from a code, which makes it the ancestor of the tied autoencoder. What it learns is a density, though: the first
    term lowers the energy of the rows, the second raises it wherever chains of the machine itself (Gibbs sampling)
    like to be. Chains that persist ("pcd") follow the model and learn the better density; chains that start at the rows
    ("cd") are taken back to them each step, learn features fast and leave probability where no row ever was.

    `likelihood` chooses the visible units: "bernoulli" (also for grey values, taken as rates), "gaussian" (unit
    variance; standardise), "gaussian-learned", "gaussian-per-column", "categorical" (softmax), "multinomial"
    (replicated softmax, for word counts), "mixed" (a table); "auto" looks at the data.

    Args:
        hidden_units: "bernoulli", or "rectified" (noisy rectified linear).
        method: "pcd" (persistent chains) or "cd" (contrastive divergence).
        n_steps: Gibbs steps between two steps of learning; a pair such as (1, 25) grows over learning.
        n_chains: persistent chains.
        centred: take the centred step, which does not depend on what is called 0 and what 1.
        sparsity_weight: of KL(target_rate || mean rate of each hidden unit); 0 asks for nothing.
        target_rate: how often a unit shall be on.
        optimizer: "sgd" (plain steps, as the method is stated) or "adamw".
        momentum: of "sgd".
        learning_rate: the largest of the schedule; None takes .05 for "sgd" on binary units and choices, .005 on other
            units, and .002 for "adamw".
        weight_decay: w of w/2 ||W||^2, on the weights alone.
        precision: "fp32" by default: a contrast is the small difference of two large sums.
        patience: None by default: what is looked at is not the likelihood, and may rise while that still grows.

    The other arguments are those of every kind: see `BaseAutoencoder`.

    Attributes:
        score_kind_: "exact" where one side has at most 20 binary units and Z was summed; "estimate" after
            `estimate_log_partition`; else "unnormalised": `score_samples` is then minus the free energy.
        log_partition_: log Z, where it is known.

    Raises:
        InputError: at `fit`, for arguments or rows that cannot be used, in one line.

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
    method: str = "pcd"
    n_steps: int | Sequence[int] = 1
    n_chains: int = 100
    centred: bool = True
    sparsity_weight: float = 0.0
    target_rate: float = 0.05
    optimizer: str = "sgd"
    momentum: float = 0.5
    learning_rate: float | None = None  # type: ignore[assignment]
    weight_decay: float = 2e-4
    precision: str = "fp32"
    patience: int | None = None

    kind: ClassVar[str] = "rbm"
    overcomplete: ClassVar[bool] = True

    # -- the recipe ---------------------------------------------------------------------------------

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Contrast:
        check_choice("optimizer", self.optimizer, OPTIMIZERS)
        harmonium = Harmonium(
            likelihood_from(shape.likelihood, shape.n_columns), shape.code_size, hidden=self.hidden_units,
            generator=generator,
        )  # fmt: skip
        penalties: dict[str, Penalty] = {}
        if self.sparsity_weight:
            penalties["sparsity"] = TargetRate(self.sparsity_weight, target_rate=self.target_rate)
        return Contrast(
            harmonium, method=self.method, n_steps=self.n_steps, n_chains=self.n_chains, centred=self.centred,
            weight_decay=self.weight_decay, penalties=penalties,
        )  # fmt: skip

    def _suggest_code_size(self, rows: Rows) -> tuple[int, str]:
        return min(max(rows.n_columns, 16), 256), "as many as columns, at least 16 and at most 256"

    def _choose_likelihood(self, rows: Rows, held_out: Rows | None) -> dict[str, Any]:
        """As of every kind; what "auto" chose is brought to the nearest visible unit that there is."""
        config = super()._choose_likelihood(rows, held_out)
        if self.likelihood != "auto":
            return config
        if config["name"] == "gaussian-unit":
            return {"name": "bernoulli"}
        if config["name"] == "mixed":
            units = [(group, "real" if group["unit"] == "count" else group["unit"]) for group in config["groups"]]
            config["groups"] = [{"unit": unit, "columns": group["columns"]} for group, unit in units]
        return config

    def _phases(self, settings: Settings) -> list[Phase]:
        return [Phase("learning", self.objective_, self._plain_steps(settings))]

    def _plain_steps(self, settings: Settings) -> Settings:
        """The settings with the optimiser of this kind; the decay of the weights is a term of the criterion."""
        default = 2e-3 if self.optimizer == "adamw" else LEARNING_RATES.get(self.likelihood_["name"], 5e-3)
        return replace(
            settings, optimizer=self.optimizer, momentum=self.momentum, weight_decay=0.0,
            learning_rate=self.learning_rate or default,
        )  # fmt: skip

    def _finish(self, rows: Rows) -> None:
        self.score_kind_ = "exact" if self._contrast.is_normalised else "unnormalised"

    # -- the density --------------------------------------------------------------------------------

    @property
    def _contrast(self) -> Contrast:
        return cast(Contrast, self.objective_)

    @property
    def log_partition_(self) -> float:
        """log Z, nats."""
        if not (hasattr(self, "objective_") and self._contrast.is_normalised):
            raise AttributeError("log Z is not known; see estimate_log_partition")
        return float(self._contrast.log_partition)

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """log p(v) by row, nats, in model space; minus the free energy where log Z is not known (`score_kind_`)."""
        rows = self._rows(X)
        return np.concatenate([self._contrast.log_prob(batch)[:n].cpu().numpy() for batch, n in self._padded(rows)])

    def estimate_log_partition(
        self, n_chains: int = 100, n_temperatures: int = 1000, random_state: Any = 0
    ) -> PartitionEstimate:
        """log Z by annealed importance sampling, kept for `score_samples` where Z could not be summed.

        Args:
            n_chains: independent chains.
            n_temperatures: distributions between independent columns and the model.
            random_state: seed of the draws.

        Returns:
            The estimate, with its standard error, interval and effective sample size.

        Raises:
            InputError: fewer than one chain or two temperatures; word counts, each number of which has a Z of its own
                (`isthmus.evaluation.partition.annealed` takes it); rectified units.
        """
        self._check_sampling()
        contrast, generator = self._contrast.to("cpu").eval(), torch.Generator().manual_seed(seed_of(random_state))
        mean = torch.as_tensor(self.baseline_.mean, dtype=torch.float32)
        estimate = annealed(
            contrast.harmonium, generator, n_chains=n_chains, n_temperatures=n_temperatures,
            base=contrast.likelihood.parameters_for(mean),
        )  # fmt: skip
        if self.score_kind_ != "exact":
            contrast.log_partition.fill_(estimate.log_partition)
            self.score_kind_ = "estimate"
        return estimate

    def sample(self, n: int, random_state: Any = None, *, n_steps: int = 200, mean: bool = False) -> Any:
        """n draws, in the units of X, from chains that go on for `n_steps` Gibbs steps from where learning left them.

        Args:
            n: how many.
            random_state: seed of the draws.
            n_steps: more make draws from one chain forget each other, and the rows that "cd" started at.
            mean: give the mean of the visible units given the last codes: grey values in place of black and white.
        """
        self._check_sampling(n=n, n_steps=n_steps)
        generator = torch.Generator().manual_seed(seed_of(random_state))
        objective = self._contrast.to("cpu").eval()
        return self.preprocessing_.restore(objective.sample(n, n_steps, generator, mean=mean).numpy())

    def _check_sampling(self, **numbers: Any) -> None:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name}={value!r}: it must be a whole number of at least 1")


LEARNING_RATES = {"bernoulli": 0.05, "categorical": 0.05}
"""Of plain steps by visible unit, where it is not .005."""
