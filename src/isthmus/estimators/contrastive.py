"""What the kinds share that learn a density by chains: their arguments, draws, and log Z by annealing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils.validation import check_is_fitted

from isthmus.errors import InputError
from isthmus.estimators.base import seed_of
from isthmus.evaluation.partition import PartitionEstimate, annealed_importance_sampling
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.rows import Rows
from isthmus.learning.trainer import OPTIMIZERS, TrainingConfig
from isthmus.parts.hidden_units import BinaryHidden, HiddenUnits
from isthmus.parts.layers import check_choice, check_count
from isthmus.parts.visible_units import units_class


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
    """A likelihood that was chosen by looking at the data, brought to the nearest visible unit that there is.

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
    """The arguments of learning by contrast, and what a density can do besides coding: a mixin for a `BaseAutoencoder`.

    Args:
        method: "pcd" (persistent chains) or "cd" (contrastive divergence).
        n_steps: Gibbs steps between two steps of learning; a pair such as (1, 25) grows over learning.
        n_chains: persistent chains.
        centred: take the centred step, which does not depend on what is called 0 and what 1.
        optimizer: "sgd" (plain steps, as the method is stated) or "adamw"; None takes "adamw" for word counts, since
            some words are a thousand times as rare as others and plain steps never come to them, else "sgd".
        momentum: of "sgd".
        learning_rate: the largest of the schedule; None takes .1 for "sgd" where units are binary or choices, .005
            where they are others and for "adamw" on word counts, and .002 for "adamw" elsewhere.
        weight_decay: w of w/2 ||W||^2, on the weights alone.
        precision: "fp32" by default: a contrast is the small difference of two large sums.
        patience: None by default: what is looked at is not the likelihood, and may rise while that still grows.
    """

    samples_by_chain: ClassVar[bool] = True

    method: str = "pcd"
    n_steps: int | Sequence[int] = 1
    n_chains: int = 100
    centred: bool = True
    optimizer: str | None = None
    momentum: float = 0.5
    learning_rate: float | None = None  # type: ignore[assignment]
    weight_decay: float = 2e-4
    precision: str = "fp32"
    patience: int | None = None

    @property
    def _energy_model(self) -> ContrastiveDivergence:
        """What has a log Z."""
        raise NotImplementedError

    # -- the recipe ---------------------------------------------------------------------------------

    def _contrast_options(self) -> dict[str, Any]:
        """What a `ContrastiveDivergence` is told of how to learn."""
        if self.optimizer is not None:
            check_choice("optimizer", self.optimizer, OPTIMIZERS)
        return {
            "method": self.method, "n_steps": self.n_steps, "n_chains": self.n_chains, "centred": self.centred,
            "weight_decay": self.weight_decay,
        }  # fmt: skip

    def _suggest_code_size(self, rows: Rows) -> tuple[int, str]:
        return min(max(rows.n_columns, 16), 256), "as many as columns, at least 16 and at most 256"

    def _choose_likelihood(self, rows: Rows, validation_rows: Rows | None) -> dict[str, Any]:
        """As of every kind; what "auto" chose is brought to the nearest visible unit that there is."""
        config: dict[str, Any] = super()._choose_likelihood(rows, validation_rows)
        return nearest_visible_units(config) if self.likelihood == "auto" else config

    def _optimizer_config(
        self, training_config: TrainingConfig, visible: str, hidden: HiddenUnits | None = None
    ) -> TrainingConfig:
        """The settings with the optimiser of this kind; the decay of the weights is a term of the criterion."""
        optimizer = self.optimizer or default_optimizer(visible)
        is_default = optimizer != "adamw" or optimizer == default_optimizer(visible)
        default = default_learning_rate(visible, hidden) if is_default else 2e-3
        return replace(
            training_config, optimizer=optimizer, momentum=self.momentum, weight_decay=0.0,
            learning_rate=self.learning_rate or default,
        )  # fmt: skip

    def _on_weights_changed(self) -> None:
        """Its weights were changed from outside: log Z, where it is known, is of the machine that it was."""
        self._energy_model.log_partition.fill_(torch.inf)
        self.score_kind_ = self._score_kind()

    # -- the density --------------------------------------------------------------------------------

    @property
    def log_partition_(self) -> float:
        """log Z, nats, where it is known."""
        if not (hasattr(self, "objective_") and self._energy_model.is_normalised):
            raise AttributeError("log Z is not known; see estimate_log_partition")
        return float(self._energy_model.log_partition)

    def estimate_log_partition(
        self, n_chains: int = 100, n_temperatures: int = 1000, random_state: Any = 0
    ) -> PartitionEstimate:
        """log Z by annealed importance sampling, kept for `score_samples` where Z was not summed.

        Args:
            n_chains: independent chains.
            n_temperatures: distributions between independent columns and the model.
            random_state: seed of the draws.

        Returns:
            The estimate, with its standard error, interval and effective sample size.

        Raises:
            InputError: fewer than one chain or two temperatures; word counts, each number of which has a Z of its own
                (`isthmus.evaluation.partition.annealed_importance_sampling` takes it); rectified units, lateral
                weights.
        """
        check_is_fitted(self)
        if units_class(self.likelihood_["name"]).total_is_given:
            raise InputError(
                "each number of words a row has a log Z of its own, so word counts have no single one; estimate it for "
                "a number of words by isthmus.evaluation.partition.annealed(model.objective_.harmonium, generator, "
                "total=...)"
            )
        machine, generator = self._energy_model.to("cpu").eval(), torch.Generator().manual_seed(seed_of(random_state))
        estimate = annealed_importance_sampling(
            machine.rbm, generator, n_chains=n_chains, n_temperatures=n_temperatures,
            base=machine.independent_columns,
        )  # fmt: skip
        if not machine.rbm.is_enumerable:
            machine.log_partition.fill_(estimate.log_partition)
            self.score_kind_ = self._score_kind()
        return estimate

    def _score_kind(self) -> str:
        """What `score_samples` is."""
        return "bound" if self._energy_model.is_normalised else "unnormalised"

    def _notes(self) -> list[str]:
        notes: list[str] = super()._notes()
        if self.likelihood != "auto":
            return notes
        if self.preprocessing_.source == "text":
            notes.append(
                "weights of words were read as rates of bits; kind rbm with likelihood='multinomial' reads counts"
            )
        counts = [column.name for column in self.preprocessing_.table if column.unit == "count"]
        if counts:
            notes.append(f"no unit of an energy is of counts: {', '.join(counts)} read, and drawn, as real numbers")
        return notes

    def _after_training(self, rows: Rows) -> None:
        self.score_kind_ = self._score_kind()

    def sample(self, n: int, random_state: Any = None, *, n_steps: int = 200, mean: bool = False) -> Any:
        """n draws, in the units of X, from chains of `n_steps` Gibbs steps.

        They go on from where learning left its persistent chains; after "cd", which has none, and score matching they
        begin at columns drawn independently.

        Args:
            n: how many.
            random_state: seed of the draws.
            n_steps: more make draws from one chain forget each other, and where it began.
            mean: give the mean of the visible units given the last codes: grey values in place of black and white.

        Raises:
            InputError: fewer than one draw or step.
        """
        check_is_fitted(self)
        for name, value in (("n", n), ("n_steps", n_steps)):
            check_count(name, value)
        generator = torch.Generator().manual_seed(seed_of(random_state))
        objective: Any = self.objective_.to("cpu").eval()
        return self.preprocessing_.inverse_transform(objective.sample(n, n_steps, generator, mean=mean).numpy())
