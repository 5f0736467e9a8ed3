"""Mixin of the kinds that train an energy with Markov chains: arguments, samples, and log Z by annealing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.errors import InputError
from isthmus.estimators.base import seed_of
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.records import Recipe
from isthmus.evaluation.partition import PartitionEstimate, annealed_importance_sampling
from isthmus.learning.densities import EnergyDensity
from isthmus.learning.rows import Rows
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.forward import Batch
from isthmus.parts.hidden_units import BinaryHidden, HiddenUnits
from isthmus.parts.layers import check_count
from isthmus.parts.visible_units import units_class
from isthmus.values.energy_methods import ChainMethod
from isthmus.values.optimizers import OPTIMIZER

MOMENTUM = 0.5
"""Default momentum of SGD for an energy."""

WEIGHT_DECAY = 2e-4
"""Default w of w/2 ||W||^2, as in Hinton, A practical guide to training RBMs (2010), section 10."""


def default_learning_rate(visible: str, hidden: HiddenUnits | None = None) -> float:
    """Return the default learning rate of an energy, given its units; other than binary hidden units have at most .005.

    Args:
        visible: the name of the likelihood.
        hidden: None is binary units.

    Example:
        >>> default_learning_rate("bernoulli"), default_learning_rate("gaussian")
        (0.1, 0.005)
    """
    rate = units_class(visible).learning_rate
    return rate if hidden is None or isinstance(hidden, BinaryHidden) else min(rate, 5e-3)


def default_optimizer(visible: str) -> str:
    """Return the default optimiser of an energy, given the likelihood of its visible units."""
    return units_class(visible).optimizer


def nearest_visible_units(config: dict[str, Any]) -> dict[str, Any]:
    """Return the visible units that are nearest to a likelihood inferred from the data.

    Example:
        >>> nearest_visible_units({"name": "gaussian-unit"})
        {'name': 'bernoulli'}
    """
    if config["name"] == "gaussian-unit":
        return {"name": "bernoulli"}
    if config["name"] == "mixed":
        units = [(group, "real" if group["unit"] == "count" else group["unit"]) for group in config["groups"]]
        return {**config, "groups": [{"unit": unit, "columns": group["columns"]} for group, unit in units]}
    return config


if TYPE_CHECKING:
    from isthmus.estimators.base import BaseAutoencoder as _MixinBase
else:
    _MixinBase = object


@dataclass(kw_only=True, eq=False, repr=False)
class Contrastive(_MixinBase):
    """Mixin for a `BaseAutoencoder` that is trained as an energy: arguments, samples and the partition function.

    Args:
        method: "pcd" (persistent chains) or "cd" (contrastive divergence); or a value such as
            `PCD(n_steps=5, n_chains=100)` or `CD(n_steps=(1, 25), centred=False)`.
        optimizer: "sgd", as in the papers, "adamw", or a value such as `SGD(momentum=0.9, weight_decay=1e-3)`. None
            takes "adamw" for word counts, since some words are a thousand times as rare as others and SGD hardly
            changes their weights, else "sgd". The default momentum is .5, and the default weight decay 2e-4: w of the
            term w/2 ||W||^2; biases do not decay.
        learning_rate: peak of the schedule; None takes .1 for "sgd" with binary or categorical units, .005 for "sgd"
            with other units and for "adamw" on word counts, and .002 for "adamw" on others.
        precision: "fp32" by default, since the gradient is a small difference of two large sums.
        patience: None by default, since the monitored quantity is not the likelihood and may rise while the likelihood
            still improves.
    """

    samples_by_chain: ClassVar[bool] = True

    method: Any = "pcd"
    optimizer: Any = None
    learning_rate: float | None = None  # type: ignore[assignment]
    precision: str = "fp32"
    patience: int | None = None

    @property
    def _density(self) -> EnergyDensity:
        """The density, whose log Z is known or not."""
        return cast(EnergyDensity, self.density_)

    # -- construction -------------------------------------------------------------------------------

    def _contrast_options(self) -> dict[str, Any]:
        """Return the training arguments of a `ContrastiveDivergence`."""
        method = self.value_of("method")
        if not isinstance(method, ChainMethod):
            raise InputError(f"method={self.method!r}: this kind is trained with Markov chains; take 'pcd' or 'cd'")
        return {**method.options, "weight_decay": self._weight_decay}

    @property
    def _weight_decay(self) -> float:
        """w of the term w/2 ||W||^2."""
        given = self.value_of("optimizer")
        return WEIGHT_DECAY if given is None or given.weight_decay is None else float(given.weight_decay)

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        return min(max(rows.n_columns, 16), 256), "as many as columns, at least 16 and at most 256"

    @property
    def _fractions(self) -> str:
        """Binary visible units take values in [0, 1] for probabilities; real ones of unit variance need scaled ones."""
        return "scale" if self.likelihood == "gaussian" else "keep"

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        """Return the likelihood; that of "auto" is replaced by the nearest visible units."""
        config: dict[str, Any] = super()._choose_likelihood(rows, validation_rows)
        return nearest_visible_units(config) if self.likelihood == "auto" else config

    def _optimizer_config(
        self, training_config: TrainingConfig, visible: str, hidden: HiddenUnits | None = None
    ) -> TrainingConfig:
        """Return the configuration with the optimiser of this kind; weight decay is a term of the criterion."""
        optimizer = self.value_of("optimizer") or OPTIMIZER.expanded(default_optimizer(visible))
        is_default = optimizer.name != "adamw" or optimizer.name == default_optimizer(visible)
        default = default_learning_rate(visible, hidden) if is_default else 2e-3
        config = optimizer.configured(training_config, momentum=MOMENTUM, weight_decay=0.0)
        return replace(config, weight_decay=0.0, learning_rate=self.learning_rate or default)

    def _on_weights_changed(self) -> None:
        """Discard log Z, which belongs to the previous weights."""
        self._density.log_partition.fill_(torch.inf)
        self.score_kind_ = self._score_kind()

    # -- the density --------------------------------------------------------------------------------

    @property
    def log_partition_(self) -> float:
        """log Z in nats, if it is known."""
        if not (hasattr(self, "density_") and self._density.is_normalised):
            raise AttributeError("log Z is not known; see estimate_log_partition")
        return float(self._density.log_partition)

    def estimate_log_partition(
        self, n_chains: int = 100, n_temperatures: int = 1000, random_state: Any = 0
    ) -> PartitionEstimate:
        """Estimate log Z by annealed importance sampling; `score_samples` uses it unless Z is known exactly.

        Args:
            n_chains: number of independent chains.
            n_temperatures: number of distributions between independent columns and the model.
            random_state: seed of the samples.

        Returns:
            The estimate, with its standard error, interval and effective sample size.

        Raises:
            InputError: fewer than one chain or two temperatures; word counts, whose Z depends on the number of words
                (`isthmus.evaluation.partition.annealed_importance_sampling` takes that number); rectified units;
                lateral weights.
        """
        check_is_fitted(self)
        if units_class(self.likelihood_["name"]).total_is_given:
            raise InputError(
                "log Z depends on the number of words of a row, so word counts have no single one; estimate it for a "
                "number of words by isthmus.evaluation.partition.annealed_importance_sampling(model.density_.rbm, "
                "generator, total=...)"
            )
        self._parts.to("cpu").eval()
        density, generator = self._density, torch.Generator().manual_seed(seed_of(random_state))
        rbm = density.bipartite_rbm()
        estimate = annealed_importance_sampling(
            rbm, generator, n_chains=n_chains, n_temperatures=n_temperatures, base=density.independent_columns
        )
        if not rbm.is_enumerable:
            density.log_partition.fill_(estimate.log_partition)
            self.score_kind_ = self._score_kind()
        return estimate

    def _score_kind(self) -> str:
        """Return the kind of score that `score_samples` returns."""
        return "bound" if self._density.is_normalised else "unnormalised"

    def _by_row(self, X: Any, score: Callable[[Batch], Tensor]) -> Float[np.ndarray, " n"]:
        """Return the score of each row, which is computed block by block."""
        rows = self._rows(X)
        return np.concatenate([score(batch)[:n].cpu().numpy() for batch, n in self._padded(rows)])

    def _notes(self, recipe: Recipe) -> list[str]:
        notes: list[str] = super()._notes(recipe)
        if self.likelihood != "auto":
            return notes
        if self.preprocessing_.source == "text":
            notes.append(
                "the weights of words are used as probabilities; kind rbm with likelihood='multinomial' uses counts"
            )
        counts = [column.name for column in self.preprocessing_.table if column.unit == "count"]
        if counts:
            notes.append(f"columns of counts are modelled and sampled as real numbers: {', '.join(counts)}")
        return notes

    def _after_training(self, rows: SurveyedRows) -> None:
        self._density.compute_log_partition()
        self.score_kind_ = self._score_kind()

    def sample(self, n: int, random_state: Any = None, *, n_steps: int = 200, mean: bool = False) -> Any:
        """Return n samples of the model, in the units of X, from chains of `n_steps` Gibbs steps.

        The chains continue the persistent chains of training. After "cd" and score matching, which have none, they
        start at rows of independently sampled columns.

        Args:
            n: number of samples.
            random_state: seed of the samples.
            n_steps: Gibbs steps; with more, samples of one chain depend less on each other and on its start.
            mean: return the mean of the visible units given the last codes: grey values in place of black and white.

        Raises:
            InputError: fewer than one sample or step.
        """
        check_is_fitted(self)
        for name, value in (("n", n), ("n_steps", n_steps)):
            check_count(name, value)
        generator = torch.Generator().manual_seed(seed_of(random_state))
        self._parts.to("cpu").eval()
        samples = self._density.sample(n, n_steps, generator, mean=mean)
        return self.preprocessing_.inverse_transform(samples.numpy())
