"""Training that goes on from the weights of an earlier fit: what must stay as it was, and `partial_fit`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MethodType
from typing import Any, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from isthmus.data.targets import paired
from isthmus.errors import InputError
from isthmus.estimators import inputs
from isthmus.estimators.checkpoints import argument_text
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.diagnosis import diagnose_fit
from isthmus.estimators.labels import labelled
from isthmus.estimators.progress import ProgressBar
from isthmus.estimators.records import Recipe
from isthmus.estimators.training_config import training_config_for
from isthmus.learning.phases import Phase, record_of, tensors_outside
from isthmus.learning.rows import Rows
from isthmus.learning.trainer import Trainer

TRAINING_ARGUMENTS = (
    "max_epochs", "max_steps", "batch_size", "learning_rate", "optimizer", "validation_fraction", "patience",
    "time_limit", "pretraining", "fine_tuning", "n_draws", "random_state", "device", "precision", "warm_start",
    "verbose", "unknown", "transform_inference",
)  # fmt: skip
"""Arguments that may change when training goes on: they decide how a model is trained or run, not what it is."""

PARTIAL_NOTE = "partial_fit: the model was trained in one pass over the rows of each call, at a constant learning rate"


def part_arguments(estimator: Any) -> dict[str, str]:
    """Return the constructor arguments that define the model, its criterion and its preprocessing, as text by name.

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> part_arguments(LinearAutoencoder(code_size=2, max_epochs=5))["code_size"]
        '2'
    """
    arguments = estimator.get_params(deep=False) | estimator.resolved_values()
    return {name: argument_text(value) for name, value in arguments.items() if name not in TRAINING_ARGUMENTS}


def check_same_parts(estimator: Any, trained: str = "the weights to go on from were trained with") -> None:
    """Refuse arguments that would build other parts than those that were trained.

    Args:
        estimator: a fitted estimator.
        trained: start of the sentence that says how it was fitted.

    Raises:
        InputError: the first argument that was changed since the fit.
    """
    fitted = estimator._part_arguments
    for name, value in part_arguments(estimator).items():
        if value != fitted.get(name):
            raise InputError(
                f"{name}={value}: {trained} {name}={fitted.get(name)}; set it back, "
                "or train new weights by fit with warm_start=False"
            )


class UnavailableMethodError(InputError, AttributeError):
    """The method does not apply to the estimator, for which `hasattr` is False; the message says what to use."""


class _AvailableUnless:
    """A method that is absent where a function of the estimator returns the reason; see `available_unless`."""

    def __init__(self, method: Callable[..., Any], reason: Callable[[Any], str]) -> None:
        self.method, self.reason = method, reason
        functools.update_wrapper(cast(Any, self), method)

    def __get__(self, estimator: Any, owner: Any = None) -> Any:
        if estimator is None:
            return self.method
        text = self.reason(estimator)
        if text:
            raise UnavailableMethodError(text)
        return MethodType(self.method, estimator)


def available_unless(reason: Callable[[Any], str]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a method that some estimators do not have: `reason` returns why, or an empty text if they have it.

    Unlike sklearn's `available_if`, the error of a missing method gives the reason.

    Example:
        >>> class Model:
        ...     @available_unless(lambda model: "this model has no codes; use another one")
        ...     def codes(self):
        ...         return []
        >>> hasattr(Model(), "codes")
        False
        >>> Model().codes
        Traceback (most recent call last):
        ...
        isthmus.estimators.continuation.UnavailableMethodError: this model has no codes; use another one
    """
    return lambda method: _AvailableUnless(method, reason)


@dataclass(frozen=True)
class OptimizerMemory:
    """State that `partial_fit` keeps from call to call besides the parts of the model; it is not in model files.

    Attributes:
        optimizer: the optimiser of the moments.
        moments: the state of the optimiser, as `Trainer.moments` returns it.
        statistics: the state of the criterion that is not a part of the model, such as running rates of units.
        generator: the state of the source of randomness.
    """

    optimizer: Any
    moments: dict[str, Tensor]
    statistics: dict[str, Tensor]
    generator: Tensor

    @classmethod
    def of(cls, trainer: Trainer, recipe: Recipe) -> OptimizerMemory:
        """Return copies of the state after a call."""
        statistics = tensors_outside(recipe.parts, trainer.objective)
        return cls(
            trainer.training_config.optimizer, _copies(trainer.moments()), _copies(statistics),
            trainer.generator.get_state(),
        )  # fmt: skip

    def restore(self, trainer: Trainer) -> None:
        """Restore the state of the criterion, and that of the optimiser if it is the same one."""
        trainer.objective.load_state_dict(self.statistics, strict=False)
        if trainer.training_config.optimizer == self.optimizer:
            trainer.restore_moments(self.moments)


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


class ContinuationMixin:
    """Mixin of `BaseAutoencoder` with `partial_fit`, for rows that come one part after the other."""

    _optimizer_memory: OptimizerMemory | None = None
    """The state of the last call of `partial_fit`; None after `fit` and for a loaded model."""

    @property
    def _no_partial_fit(self) -> str:
        """The reason why this estimator has no `partial_fit`, and what to use; empty if it has."""
        return ""

    @available_unless(lambda estimator: estimator._no_partial_fit)
    @inputs.unchanged_on_failure
    def partial_fit(self: Any, X: Any, y: Any = None, *, sample_weight: ArrayLike | None = None) -> Any:
        """Train the whole model in one pass over the rows `X`, in batches at the constant rate `learning_rate`.

        The first call on an unfitted estimator learns scaling, types of the columns, likelihood and code size from its
        rows, so give it enough of them; later calls, and calls after `fit`, keep all of these and go on from the
        weights. The optimiser's moments stay in memory from call to call; a model file does not hold them.

        No row is held out, no epoch is chosen, and nothing stops early: `max_epochs`, `max_steps`,
        `validation_fraction`, `patience`, `time_limit` and the averaging of the optimiser are not used. `n_steps_`,
        `planned_steps_` and `n_rows_` add up over the calls; `history_`, and what is computed after training, such as
        the density of the linear kind, are of the last call. The PCA baseline is that of the first one. A kind whose
        layers are pretrained trains all of them together by the criterion of the whole.

        A constant rate leaves more noise in the weights than the decay of `fit`, so a smaller `learning_rate` than in
        `fit` is often better, above all with "sgd" and for a model that was fitted before. `progress` stays 0: a pair
        `n_steps=(1, 25)` of an energy stays at its first number.

        Args:
            X: at least two rows, as in `fit`.
            y: as in `fit`: the class of each row where the kind uses labels, rows in the shape of X as the target for
                kind denoising; else ignored.
            sample_weight: weight of each row, (n,), relative to the other rows of this call.

        Returns:
            The estimator itself.

        Raises:
            InputError: invalid rows, or rows that do not fit the model; an argument of the model that was changed
                since the first call.

        Example:
            >>> import numpy as np
            >>> from isthmus import Autoencoder
            >>> X = np.random.default_rng(0).normal(size=(600, 5))
            >>> model = Autoencoder(code_size=2, random_state=0)
            >>> for part in np.array_split(X, 3):
            ...     model = model.partial_fit(part)
            >>> model.n_rows_, model.transform(X).shape
            (600, (600, 2))
        """
        X, _ = paired(X, inputs.target_of(self, X, y, None), None)
        self._check_parameters()
        goes_on = self._is_fitted
        if goes_on:
            check_same_parts(self)
        train_rows, labels, _ = self._read_training_rows(X, y, sample_weight, goes_on=goes_on)
        train_rows = labelled(train_rows, labels)
        if not goes_on:
            self.seed_ = self._new_seed()
        memory, generator = self._optimizer_memory, torch.Generator().manual_seed(self.seed_)
        if memory is not None:
            generator.set_state(memory.generator)
        rows, notes = self._choose_whole(train_rows, goes_on=goes_on)
        recipe = self._whole_to_train(generator, goes_on=goes_on)
        if goes_on:
            self._allow_larger(recipe, rows)
        phase = self._constant_phase(recipe, len(rows), generator, initialize=not goes_on)
        record = self._train_once(recipe, phase, rows, generator)
        self._complete(recipe, rows)
        self._add_counts(record, len(rows), goes_on=goes_on)
        notes = [*notes, PARTIAL_NOTE, *self._notes(recipe)]
        self.history_ = {**record, "notes": notes, "pretraining": [], "unreached": []}
        diagnose_fit(self, recipe.objective, rows, None)
        return self

    def _choose_whole(self: Any, train_rows: Rows, *, goes_on: bool) -> tuple[SurveyedRows, list[str]]:
        """Choose code size, likelihood and baseline at the first call; later ones only check the rows."""
        if not goes_on:
            return self._choose_model(train_rows, None, goes_on=False)
        rows = self._further_rows(train_rows)
        rows.check()
        return rows, []

    def _whole_to_train(self: Any, generator: torch.Generator, *, goes_on: bool) -> Recipe:
        """Keep new parts of the whole model, trained in one phase, and return them; copies if training goes on."""
        if goes_on:
            recipe = self._with_fitted_weights(self._with_new_weights(torch.Generator().manual_seed(0)))
            self._on_weights_changed()
            return recipe
        recipe = self._with_new_weights(generator)
        self._keep(recipe)
        self._n_features_out = self.code_size_
        return recipe

    def _constant_phase(
        self: Any, recipe: Recipe, n_rows: int, generator: torch.Generator, *, initialize: bool
    ) -> Phase:
        """Return one pass of the whole model at a constant learning rate; the last weights are kept."""
        phase = self._whole_phase(recipe, training_config_for(self, n_rows), generator)
        config = replace(
            phase.training_config, schedule="constant", max_epochs=1, max_steps=None, patience=None, time_limit=None,
            averaging=None,
        )  # fmt: skip
        return replace(phase, training_config=config, initialize=initialize, view=None, on_start=None, on_end=None)

    def _train_once(
        self: Any, recipe: Recipe, phase: Phase, rows: SurveyedRows, generator: torch.Generator
    ) -> dict[str, Any]:
        """Run the phase, with the optimiser of the last call, and return its record."""
        prepare = phase.objective.prepare if phase.initialize else phase.objective.prepare_statistics
        prepare(rows)
        read, _ = self._with_neighbours(recipe, rows)
        with ProgressBar(f"{self.kind} ({self.code_size_})", self.verbose) as bar:
            trainer = Trainer(
                phase.objective, read, None, phase.training_config, generator, on_progress=bar.on_progress
            )
            if self._optimizer_memory is not None:
                self._optimizer_memory.restore(trainer)
            state = trainer.run()
        self._optimizer_memory = OptimizerMemory.of(trainer, recipe)
        return record_of(phase, state, trainer.precision)

    def _add_counts(self: Any, record: dict[str, Any], n_rows: int, *, goes_on: bool) -> None:
        """Add the steps and the rows of a call to those of the whole model."""
        self.n_rows_ = n_rows + (self.n_rows_ if goes_on else 0)
        for name in ("n_steps", "planned_steps"):
            *before, last = getattr(self, f"{name}_") if goes_on else (0,)
            setattr(self, f"{name}_", (*before, last + record[name]))

    def _forget_optimizer(self) -> None:
        """Forget the state of earlier calls of `partial_fit`."""
        self.__dict__.pop("_optimizer_memory", None)
