"""The base class of every kind of autoencoder: scikit-learn's interface around a model that is built from parts.

A kind builds its parts in one method, `_recipe`. The fields of each dataclass are its constructor's
signature.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.utils.validation import check_random_state
from torch import nn

from isthmus.data import layouts
from isthmus.data.conditions import learn_preprocessing
from isthmus.data.dataset import Paired
from isthmus.data.dtypes import checked_dtypes, of_model_columns
from isthmus.data.preprocessing import Preprocessor, n_rows_of
from isthmus.data.series import WindowedSeries
from isthmus.data.streams import Subset, WeightedRows, blocks
from isthmus.data.targets import (
    DecodedRows,
    TargetPreprocessor,
    learn_target_preprocessing,
    paired,
    preprocessor_from_file,
)
from isthmus.errors import InputError
from isthmus.estimators import checkpoints, inputs, model_files
from isthmus.estimators.checkpoints import DigestedRows, Run
from isthmus.estimators.continuation import ContinuationMixin, check_same_parts, part_arguments
from isthmus.estimators.data_passes import BLOCK_ROWS, SurveyedRows
from isthmus.estimators.diagnosis import diagnose_fit
from isthmus.estimators.features import FeatureInspectionMixin
from isthmus.estimators.labels import ClassLabels, labelled, refuse_missing, validate_labels
from isthmus.estimators.model_files import Packed, SavedEstimator
from isthmus.estimators.paths import CodePathsMixin
from isthmus.estimators.progress import ProgressBar
from isthmus.estimators.reading import ReadingMixin
from isthmus.estimators.records import Recipe, Shape, kept_parts
from isthmus.estimators.training_config import step_counts, training_config_for, with_max_steps
from isthmus.estimators.value_arguments import ValueArguments
from isthmus.evaluation.baseline import PrincipalComponents
from isthmus.files import content_digest
from isthmus.learning.neighbours import with_neighbours
from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.rows import Rows
from isthmus.learning.trainer import strip_prefix
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.convolutions import has_convolutions
from isthmus.parts.likelihood_tables import with_largest
from isthmus.parts.likelihoods import Likelihood, likelihood_config, likelihood_from

GOES_ON_NOTE = "training went on from the weights of an earlier fit, with its preprocessing (warm_start)"

_FITTED = (
    "code_size_", "hidden_sizes_", "dense_sizes_", "seed_", "n_features_in_", "n_rows_", "likelihood_", "history_",
    "score_kind_", "planned_steps_", "n_steps_",
)  # fmt: skip
"""Fitted attributes that are plain data."""


@dataclass(kw_only=True, eq=False, repr=False)
class BaseAutoencoder(
    ContinuationMixin,
    FeatureInspectionMixin,
    CodePathsMixin,
    ReadingMixin,
    SavedEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ValueArguments,
):
    """Base class of every kind of autoencoder; `docs/design.md`, section 3, states what all kinds guarantee.

    Args:
        code_size: number of units of the code. None takes the number of principal components that explain 90% of
            the variance, at most 32; see `code_size_` and `history_["notes"]`.
        likelihood: distribution of the decoder's output. "auto" infers it from the data (binary columns: Bernoulli;
            tables: one likelihood a column; else Gaussian); or a name of
            `isthmus.parts.likelihoods.LIKELIHOODS`.
        max_epochs: maximum number of passes over the training rows. The learning-rate schedule spans them, unless
            `max_steps` or `time_limit` plans fewer steps. None takes as many as make about 4,000 steps, between 20 and
            250.
        max_steps: maximum number of steps. The schedule ends there, also within an epoch. In a fit of several phases
            the number holds for each of them; a sequence has one number for each. None sets no limit.
        batch_size: rows per step; None takes about a fortieth of the rows, between 16 and 256.
        learning_rate: peak of the learning-rate schedule (linear warm-up, then cosine decay to zero).
        optimizer: "adamw", "sgd", or a value such as `AdamW(weight_decay=1e-4, clip_norm=1.0, averaging=0.999)`.
        validation_fraction: fraction of the rows that is held out as validation set; 0 holds out none.
        patience: epochs without a better validation loss before training stops; None never stops early.
        time_limit: maximum training time in seconds. The speed is measured on a copy of the model before training, and
            the schedule is planned for the steps that 95% of the time is enough for, evaluations included, if they are
            fewer than those of `max_epochs`. The time of several phases is divided in proportion to their costs. If the
            steps are slower than measured, the limit ends a phase before its last step. `max_steps=planned_steps_`
            repeats a fit without the clock and gives the same weights, if no phase ended early (`n_steps_` equals
            `planned_steps_`).
        layout: what the axes of an array stand for: "table" (each value of a row is a column), "nhw", "nhwc", "nchw"
            (images) or "ntc" (series of t steps of c channels). "auto" decides by shape and values (see
            `isthmus.data.layouts.resolved`); a note in `history_["notes"]` says how, where it could be otherwise.
        scaling: "auto" maps bytes to [0, 1], keeps images in [0, 1], rows of zeros and ones, and counts (by the
            likelihood) as they are, and standardises other columns; "none", "standard", "minmax". Images are scaled as
            a whole; series, and images of more than four channels, by channel. For texts "none" means counts, "auto"
            tf-idf.
            "quantile" maps real columns of tables to normal scores by their empirical distribution, and standardises
            these; other columns are as with "standard".
        missing: "refuse"; "mean" or "median" to impute missing values; "mask" to leave them out of the criterion.
        dtypes: declared types of columns of a table, such as {"zip": "category", "day": "date", "note": "ignore"}; the
            values determine those of the others. "real", "count", "binary", "category"; "date" is read as days since
            the first one, month, weekday and, unless all are midnight, hour; "text" is a column of texts, the only one;
            "id" and "ignore" are left out.
        unknown: values of a categorical column that are none of its levels, in rows of later calls: "missing" treats
            them as missing, with a warning, and a model that refuses missing values reads them as the most frequent
            level; "refuse" is an error.
        vocabulary: the terms of texts that become columns: "words", or a value such as `Words(n_grams=2)`.
        random_state: seed of every random number; None draws a seed and stores it in `seed_`.
        device: "auto", "cpu" or "cuda".
        precision: "auto" (bf16 on a GPU of compute capability 8.0 or higher, else fp32), "fp32", "bf16".
        warm_start: True lets `fit` of a fitted estimator go on from its weights. Everything that its first fit took
            from the data stays as it is: scaling, types of the columns, likelihood, code size and other sizes. Only
            arguments of training may change. The optimiser and the schedule start anew. A kind that trains in several
            phases goes on with the whole model.
        verbose: 1 shows a progress bar on a terminal; 0 is silent.

    Attributes:
        planned_steps_: the number of steps that the schedule of each training phase was planned for.
        n_steps_: the number of steps of each training phase.
    """

    code_size: int | None = None
    likelihood: str | dict[str, Any] = "auto"
    max_epochs: int | None = None
    max_steps: int | Sequence[int] | None = None
    batch_size: int | None = None
    learning_rate: float = 2e-3
    optimizer: Any = "adamw"
    validation_fraction: float = 0.1
    patience: int | None = 10
    time_limit: float | None = None
    layout: str = "auto"
    scaling: str = "auto"
    missing: str = "refuse"
    dtypes: dict[str, str] | None = None
    unknown: str = "missing"
    vocabulary: Any = "words"
    random_state: Any = None
    device: str = "auto"
    precision: str = "auto"
    warm_start: bool = False
    verbose: int = 0

    kind: ClassVar[str]
    overcomplete: ClassVar[bool] = False
    """True for kinds that are meant to have more units than columns."""
    takes_target: ClassVar[bool] = False
    """True for kinds that can decode a target in place of their inputs, as those of `NetworkArguments`."""
    takes_y_as_target: ClassVar[bool] = False
    """True for kinds whose `fit(X, y)` takes rows y in the shape of X as the target."""
    unpacked_arguments: ClassVar[tuple[str, ...]] = ()
    """Arguments that are not plain data, which files hold in another form."""
    skips_unlabelled: ClassVar[bool] = False
    """True for kinds that use labels and accept rows without one; others refuse these."""
    samples_by_chain: ClassVar[bool] = False
    """True if `sample` runs Gibbs steps and can return the means of the last one."""

    # -- construction -------------------------------------------------------------------------------

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        """Build the parts of this kind, with weights sampled with `generator`."""
        raise NotImplementedError

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        """Return the training phases in order; by default one phase of the whole model.

        `generator` samples the initial weights of parts that belong to a phase alone.
        """
        return [Phase("learning", recipe.objective, training_config)]

    def _further_phases(
        self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator
    ) -> list[Phase]:
        """Return the phases that train a fitted model further; by default the last one, of the whole model.

        Its hooks would hand over weights of phases that are not run.
        """
        last = self._phases(recipe, training_config, generator)[-1]
        return [replace(last, initialize=False, on_start=None, on_end=None)]

    def _whole_phase(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> Phase:
        """Return the phase in which `partial_fit` trains the whole model; by default the last one."""
        return self._phases(recipe, training_config, generator)[-1]

    @property
    def _epochs_argument(self) -> str:
        """Name of the argument that sets the epochs of the last phase."""
        return "max_epochs"

    def _after_training(self, rows: SurveyedRows) -> None:
        """Fit in closed form what follows training; nothing by default."""

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        """Return the default number of units of the code, and the reason."""
        return rows.suggested_code_size(), "principal components of 90% of the variance"

    def _implied_code_size(self) -> tuple[int, str] | None:
        """Return the units of the code that follow from other arguments, and the reason; None if they are free."""
        return None

    def _notes(self, recipe: Recipe) -> list[str]:
        """Return notes for the user on the fitted model: on its layout, a target, convolutions over a table."""
        return [*self._layout_notes(), *self._notes_on_parts(recipe)]

    def _layout_notes(self) -> list[str]:
        """Return a note on rows that "auto" could have taken for something else."""
        known = self.preprocessing_.inputs
        if self.layout != "auto" or known.source != "array" or known.names is not None:
            return []
        found = layouts.note(known.layout, known.row_shape, known.dtype)
        return [found] if found else []

    def _notes_on_parts(self, recipe: Recipe) -> list[str]:
        """Return notes on a target, and on convolutions over the columns of a table."""
        if isinstance(self.preprocessing_, TargetPreprocessor):
            return ["the model decodes a target; the error of PCA is that of principal components of the target itself"]
        if self.preprocessing_.inputs.source != "table" or not has_convolutions(recipe.coder):
            return []
        return [
            "convolutions read the columns of a table as a signal, in which neighbouring columns are related; use kind "
            "'deep', or network='mlp', if their order has no meaning"
        ]

    # -- training -----------------------------------------------------------------------------------

    @inputs.unchanged_on_failure
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        target: Any = None,
        sample_weight: ArrayLike | None = None,
        validation: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        resume: bool = False,
    ) -> BaseAutoencoder:
        """Train the autoencoder on `X`. A fit that fails leaves the estimator as it was.

        Args:
            X: rows: an array (n, d), images (n, h, w), (n, h, w, c) or (n, c, h, w), series (n, t, c), a data frame,
                scipy sparse rows, `isthmus.data.Documents`, a data set of `isthmus.data.open`, or windows of
                `isthmus.data.windows`, of which those at the ends of the series are the validation rows.
            y: the class of each row, for kinds that use labels (`uses_labels`); ignored by others, and present for
                scikit-learn's pipelines. Rows are refused, except that kind denoising takes rows in the shape of X as
                the target.
            target: rows that the model decodes in place of `X`, of any type: colour images of grey ones, clean rows of
                noisy ones. Kinds with `takes_target`. `reconstruct` and `inverse_transform` then return targets;
                methods that compare with the target take `isthmus.data.Paired(X, target)`.
            sample_weight: weight of each row, (n,): a row of weight 2 counts as two rows, a row of weight 0 is left
                out. None is 1 for every row. Scaling, imputation and the PCA baseline are weighted too; the types and
                categories of a table, the ranges of sparse columns and the vocabulary of texts are those of all rows.
            validation: validation rows in place of a fraction of `X`, or (rows, target), or (rows, classes) for kinds
                that use labels; they count equally.
            checkpoint: path of the model that will be saved; training writes its state to
                `checkpoint` + ".checkpoint", and `save` removes it, except after Ctrl-C and after a run that its time
                limit ended.
            checkpoint_every: seconds between two writes of that state.
            resume: continue from that state if there is one; refused if the arguments or the data differ. A run that
                its time limit ended continues with the first phase that the limit cut, up to the configured epochs or
                to the new `time_limit`, which counts the time of the earlier run.

        Returns:
            The estimator itself.

        Raises:
            InputError: invalid rows or arguments, in one line.
        """
        X, validation = inputs.split_windows(self, X, (y, target, sample_weight), validation)
        X, validation = paired(X, inputs.target_of(self, X, y, target), validation)
        return self._fit(X, y, sample_weight, validation, Run.of(checkpoint, checkpoint_every, resume=resume))

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: Any, run: Run) -> BaseAutoencoder:
        """Train as `fit` does; the state of training is that of `run`."""
        self._check_parameters()
        goes_on = self.warm_start and self._is_fitted
        if goes_on:
            check_same_parts(self)
        all_rows, labels, weights = self._read_training_rows(X, y, sample_weight, goes_on=goes_on)
        if run.is_written:
            all_rows = digested = DigestedRows(all_rows)
        self.seed_ = run.start(self._new_seed())
        generator = torch.Generator().manual_seed(self.seed_)
        train_rows, validation_rows = self._split_validation(all_rows, labels, validation, generator)
        if run.is_written and validation_rows is not None:
            validation_rows = digested_validation = DigestedRows(validation_rows)
        else:
            digested_validation = None
        self.n_rows_ = len(train_rows)
        rows, notes = self._choose_model(train_rows, validation_rows, goes_on=goes_on)
        if run.is_written:
            numbers = None if labels is None else labels.numbers
            run.identify(checkpoints.identity(self, digested, digested_validation, numbers, weights))
            run.identify({"initial weights": content_digest(self._parts.state_dict(), {})[:16] if goes_on else "new"})
            notes += [checkpoints.SAMPLED_DIGEST_NOTE] if digested.is_sampled else []
        recipe = self._parts_to_train(generator, goes_on=goes_on)
        if goes_on:
            self._allow_larger(recipe, rows)
        phases_of = self._further_phases if goes_on else self._phases
        phases = phases_of(recipe, training_config_for(self, len(rows), run.every), generator)
        phases = with_max_steps(phases, self.max_steps)
        read = self._with_neighbours(recipe, rows, validation_rows)
        with ProgressBar(f"{self.kind} ({self.code_size_})", self.verbose) as bar:
            *before, last = run_phases(
                recipe.whole, phases, *read, generator, on_progress=bar.on_progress,
                save_state=run.save_state, save_end=run.save_end, resumed=run.resumed,
            )  # fmt: skip
        self._complete(recipe, rows)
        self.planned_steps_, self.n_steps_ = step_counts([*before, last])
        self.history_: dict[str, Any] = {**last, "notes": [*notes, *self._notes(recipe)], "pretraining": before}
        self.history_["unreached"] = [phase.name for phase in phases[len(before) + 1 :]]
        if run.has_end:
            self.history_["resumable"] = True
        diagnose_fit(self, recipe.objective, rows, validation_rows)
        return self

    @property
    def _is_fitted(self) -> bool:
        """True if there are weights to go on from."""
        return hasattr(self, "coder_")

    def _read_training_rows(
        self, X: Any, y: Any, sample_weight: Any, *, goes_on: bool
    ) -> tuple[Rows, ClassLabels | None, np.ndarray | None]:
        """Return the rows in model space with their labels and weights; training that goes on reads them as before."""
        windows = X if isinstance(X, WindowedSeries) else None
        X = inputs.validate_input(self, X, reset=not goes_on)
        inputs.check_enough_rows(n_rows_of(X))
        weights = inputs.checked_weights(sample_weight, n_rows_of(X))
        if not goes_on:
            self.preprocessing_ = self._learned_preprocessing(X, weights, windows)
        rows: Rows = self.preprocessing_.rows(X, self.unknown)
        labels = self._encoded_labels(y, len(rows))
        if weights is not None:
            rows, labels = _weighted(rows, labels, weights)
        return rows, labels, weights

    def _learned_preprocessing(
        self, X: Any, weights: np.ndarray | None, windows: WindowedSeries | None = None
    ) -> Preprocessor:
        layout = self.layout if windows is None else inputs.layout_of_windows(self.layout)
        options: dict[str, Any] = {
            "scaling": inputs.scaling_for(self.scaling, self.likelihood), "missing": self.missing,
            "scaling_of_texts": self._scaling_of_texts,
            "dtypes": of_model_columns(checked_dtypes(self.dtypes)), "weights": weights,
            "scaling_of_tables": self._scaling_of_tables, "layout": layout, "fractions": self._fractions,
            "vocabulary_options": self.value_of("vocabulary").get_params(),
        }  # fmt: skip
        if windows is not None:
            return replace(learn_preprocessing(X, self._condition_names, **options), names=windows.channels)
        if not isinstance(X, Paired):
            return learn_preprocessing(X, self._condition_names, **options)
        if not self.takes_target:
            raise InputError(
                f"kind {self.kind} decodes its inputs alone; kinds that decode a target are {inputs.TARGET_KINDS}"
            )
        if self._condition_names:
            raise InputError("condition and target exclude each other; give one of them")
        return learn_target_preprocessing(X, **options)

    @property
    def _scaling_of_tables(self) -> str:
        """The scaling of tables that `scaling="auto"` takes."""
        return "standard"

    @property
    def _scaling_of_texts(self) -> str:
        """The rows that `scaling="auto"` makes of texts: "auto" is tf-idf, "none" counts."""
        return "auto"

    @property
    def _fractions(self) -> str:
        """The scaling of arrays of values in [0, 1], the argument `fractions` of `Preprocessor.from_data`."""
        return "keep" if inputs.is_of_fractions(self.likelihood) else "auto"

    @property
    def _condition_names(self) -> tuple[str, ...]:
        """Names of the columns that condition the model; by default none."""
        return ()

    def _choose_model(
        self, train_rows: Rows, validation_rows: Rows | None, *, goes_on: bool
    ) -> tuple[SurveyedRows, list[str]]:
        """Return the rows with their statistics, and notes on what was chosen: code size, likelihood, PCA baseline.

        Training that goes on keeps code size and likelihood, and checks the rows for the likelihood.
        """
        if goes_on:
            rows = self._further_rows(train_rows)
            self.baseline_ = rows.baseline(self.code_size_)
            self._check_rows(validation_rows, rows.likelihood)
            return rows, [GOES_ON_NOTE]
        rows = self._survey(train_rows)
        notes = self._choose_code_size(rows)
        self.baseline_ = rows.baseline(self.code_size_)
        self.likelihood_ = self._choose_likelihood(rows, validation_rows)
        return rows, notes

    def _parts_to_train(self, generator: torch.Generator, *, goes_on: bool) -> Recipe:
        """Keep new parts and return them; training that goes on gets copies of the fitted ones, without log Z."""
        if goes_on:
            recipe = self._with_criterion()
            self._on_weights_changed()
        else:
            recipe = self._recipe(self._shape(), generator)
            self._keep(recipe)
        self._n_features_out = self.code_size_
        self._forget_optimizer()
        return recipe

    def _with_neighbours(
        self, recipe: Recipe, rows: Rows, validation_rows: Rows | None = None
    ) -> tuple[Rows, Rows | None]:
        """Return training and validation rows with the neighbours that penalties of the criterion need."""
        are_counts = recipe.coder.likelihood.is_count
        return with_neighbours(recipe.objective, rows, validation_rows, are_counts=are_counts)

    def _complete(self, recipe: Recipe, rows: SurveyedRows) -> None:
        """Compute what has a closed form after training."""
        recipe.whole.eval()
        self.__dict__.pop("score_kind_", None)  # of an earlier fit with another likelihood
        self._after_training(rows)

    def _check_parameters(self) -> None:
        """Refuse invalid constructor arguments."""
        inputs.check_parameters(self)
        self._check_values()

    @property
    def _labels_setting(self) -> str:
        """The argument by which `fit` uses `y`, as a user writes it; empty if it does not."""
        return ""

    @property
    def uses_labels(self) -> bool:
        """True if `fit` uses `y`."""
        return bool(self._labels_setting)

    def _encoded_labels(self, y: Any, n_rows: int) -> ClassLabels | None:
        """The labels as training uses them; None for a kind that does not use them."""
        if not self.uses_labels:
            return None
        return y if isinstance(y, ClassLabels) else self._class_labels(y, n_rows)

    def _class_labels(self, y: Any, n_rows: int, classes: np.ndarray | None = None) -> ClassLabels:
        """Encode the labels of a user."""
        y = validate_labels(self, y, n_rows)
        if self.skips_unlabelled:
            return ClassLabels.from_values(y, classes, unlabeled=np.nan)
        refuse_missing(y)
        return ClassLabels.from_values(y, classes)

    def _split_validation(
        self, rows: Rows, labels: ClassLabels | None, validation: Any, generator: torch.Generator
    ) -> tuple[Rows, Rows | None]:
        """The training rows and the validation rows, both with their labels."""
        rows = labelled(rows, labels)
        if validation is not None:
            return rows, self._given_validation(validation, labels)
        n_validation = inputs.n_validation_rows(self.validation_fraction, len(rows))
        if n_validation == 0:
            return rows, None
        order = torch.randperm(len(rows), generator=generator)
        return Subset(rows, order[n_validation:].sort().values), Subset(rows, order[:n_validation].sort().values)

    def _given_validation(self, validation: Any, labels: ClassLabels | None) -> Rows:
        """The validation rows that a user gives, with their labels if there are any in training."""
        if labels is None:
            inputs.check_no_labels(validation)
            return inputs.model_rows(self, validation)
        if not (isinstance(validation, tuple) and len(validation) == 2):
            raise InputError(f"{self._labels_setting} validates on labels too; give validation=(rows, classes)")
        X, y = validation
        rows = inputs.model_rows(self, X)
        return labelled(rows, self._class_labels(y, len(rows), labels.classes))

    def _choose_code_size(self, rows: SurveyedRows) -> list[str]:
        if self.code_size is not None:
            self.code_size_ = int(self.code_size)
            wide = self.code_size_ > rows.n_columns and not self.overcomplete
            note = f"the code has more units ({self.code_size_}) than the data has columns ({rows.n_columns})"
            return [note] if wide else []
        self.code_size_, why = self._implied_code_size() or self._suggest_code_size(rows)
        return [f"code_size was not given: {self.code_size_} chosen ({why})"]

    def _survey(self, rows: Rows) -> SurveyedRows:
        """Return the training rows with their statistics, which check the domain of the likelihood in the same pass.

        "auto" chooses a likelihood for columns without units whose domain contains the training rows, if they are
        finite.
        """
        n_columns = self.preprocessing_.n_columns
        empty, groups = torch.empty(0, n_columns), self.preprocessing_.groups
        is_mixed = groups is not None and any(group["unit"] != "real" for group in groups)
        name = "gaussian" if self.likelihood == "auto" and not is_mixed else self.likelihood
        likelihood = likelihood_from(likelihood_config(name, empty, groups), n_columns)
        return SurveyedRows(rows, likelihood, self.preprocessing_.columns, self._decoded_part(rows))

    def _decoded_part(self, rows: Rows) -> Rows:
        """Return the rows, or a view of them with the target as x."""
        has_target = isinstance(self.preprocessing_, TargetPreprocessor)
        return DecodedRows(rows, self.preprocessing_.n_columns) if has_target else rows

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        """Return the configuration of p_dec.

        Raises:
            InputError: a value of the validation rows outside the domain of the likelihood.
        """
        config = likelihood_config(self.likelihood, rows.deciding_row, self.preprocessing_.groups)
        config = with_largest(config, rows.statistics.maximum)
        self._check_rows(validation_rows, likelihood_from(config, rows.n_columns))
        return config

    def _check_rows(self, rows: Rows | None, likelihood: Likelihood) -> None:
        """Refuse rows with a value outside the domain of the likelihood."""
        for batch in blocks(self._decoded_part(rows), BLOCK_ROWS) if rows is not None else ():
            likelihood.check(batch.x, self.preprocessing_.columns, batch.rows)

    def _further_rows(self, rows: Rows) -> SurveyedRows:
        """Return rows with statistics, checked for the fitted likelihood; values of another scale give a warning."""
        likelihood = likelihood_from(self.likelihood_, self.preprocessing_.n_columns)
        surveyed = SurveyedRows(rows, likelihood, self.preprocessing_.columns, self._decoded_part(rows))
        surveyed.warns_far_outside = True
        return surveyed

    def _allow_larger(self, recipe: Recipe, rows: SurveyedRows) -> None:
        """Raise the bounds of the likelihood that depend on the largest values, for further rows with larger ones."""
        likelihood = recipe.coder.likelihood
        likelihood.allow(torch.from_numpy(rows.statistics.maximum))
        self.likelihood_ = likelihood.config()

    def _shape(self) -> Shape:
        return Shape.of(self.preprocessing_, self.code_size_, self.likelihood_)

    def _keep(self, recipe: Recipe) -> None:
        """Keep the parts that are read, the sizes that were resolved, and the arguments that the parts are built by."""
        self.coder_, self._part_arguments = recipe.coder, part_arguments(self)
        kept = {"density_": recipe.density, "hidden_sizes_": recipe.hidden_sizes, "dense_sizes_": recipe.dense_sizes}
        for name, value in kept.items():
            if value is not None:
                setattr(self, name, value)
            elif hasattr(self, name):  # of an earlier fit with other arguments
                delattr(self, name)

    @property
    def _parts(self) -> nn.ModuleDict:
        """The parts that are kept, by name."""
        return kept_parts(self.coder_, getattr(self, "density_", None))

    def _rebuilt(self, generator: torch.Generator) -> Recipe:
        """Build the parts of a fitted model with new weights, in the sizes that `fit` resolved."""
        hidden_sizes, dense_sizes = (getattr(self, name, None) for name in ("hidden_sizes_", "dense_sizes_"))
        shape = replace(self._shape(), hidden_sizes=hidden_sizes, dense_sizes=dense_sizes)
        return self._recipe(shape, generator)

    def _with_new_weights(self, generator: torch.Generator) -> Recipe:
        """Build the parts of a fitted model with new weights, to train them in one phase."""
        return self._rebuilt(generator)

    def _with_criterion(self) -> Recipe:
        """Build the criterion around copies of the fitted parts, to train them further."""
        return self._with_fitted_weights(self._rebuilt(torch.Generator().manual_seed(0)))

    def _with_fitted_weights(self, recipe: Recipe) -> Recipe:
        """Copy the weights of the fitted parts to new ones, and keep these."""
        recipe.parts.load_state_dict(self._parts.state_dict())
        self._keep(recipe)
        return recipe

    def _new_seed(self) -> int:
        """Return the seed that `random_state` gives."""
        return seed_of(self.random_state)

    def _on_weights_changed(self) -> None:
        """Discard fitted quantities that depend on the weights, which changed; nothing by default."""

    # -- files --------------------------------------------------------------------------------------

    def _pack(self) -> Packed:
        check_same_parts(self, "the model was fitted with")
        preprocessing, preprocessing_config = self.preprocessing_.to_file()
        baseline, baseline_config = self.baseline_.to_file()
        tensors = dict(self._parts.state_dict())
        tensors |= {f"preprocessing.{k}": v for k, v in preprocessing.items()}
        tensors |= {f"baseline.{k}": v for k, v in baseline.items()}
        configs = {"preprocessing": preprocessing_config, "baseline": baseline_config}
        return tensors, model_files.header_of(self, _FITTED, without=self.unpacked_arguments) | configs

    @classmethod
    def _unpack(cls, tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> Self:
        model = model_files.constructed(cls, header)
        model_files.set_fitted(model, header)
        of_preprocessing = strip_prefix("preprocessing.", tensors)
        model.preprocessing_ = preprocessor_from_file(of_preprocessing, header["preprocessing"])
        model.baseline_ = PrincipalComponents.from_file(strip_prefix("baseline.", tensors), header["baseline"])
        model._n_features_out = model.code_size_
        recipe = model._rebuilt(torch.Generator().manual_seed(0))
        kept = {name: tensors[name] for name in tensors if name.startswith(("coder.", "density."))}
        recipe.parts.load_state_dict(kept)
        recipe.parts.eval()
        model._keep(recipe)
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self.missing != "refuse"
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _weighted(rows: Rows, labels: ClassLabels | None, weights: np.ndarray) -> tuple[Rows, ClassLabels | None]:
    """Return the rows of a weight above 0 with their weights, and their labels."""
    relative = inputs.relative_weights(weights)
    weighted, kept = WeightedRows(rows, relative), torch.nonzero(relative).flatten()
    if len(kept) == len(rows):
        return weighted, labels
    if len(kept) < 2:
        raise InputError("sample_weight is above 0 in one row alone: training needs at least two rows")
    labels = None if labels is None else ClassLabels(labels.numbers[kept], labels.classes)
    return Subset(weighted, kept), labels


def seed_of(random_state: Any) -> int:
    """Return the seed of a `random_state`: an integer as it is, else a random one."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, int | np.integer):
        if not 0 <= random_state < 2**63:
            raise InputError(
                f"random_state={random_state}: a seed is a whole number of at most 63 bits, 0 or more (--seed)"
            )
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
