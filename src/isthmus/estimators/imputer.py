"""The imputer of missing cells."""

from __future__ import annotations

import math
import shlex
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from isthmus.data import tables
from isthmus.data.columns import flat_chunks, moments
from isthmus.data.dtypes import checked_dtypes, of_model_columns
from isthmus.data.preprocessing import Preprocessor, input_type, n_rows_of
from isthmus.data.streams import blocks
from isthmus.errors import InputError, InputWarning, pluralize
from isthmus.estimators import inputs, model_files
from isthmus.estimators.base import seed_of
from isthmus.estimators.cell_denoiser import CellDenoiser, CellRows
from isthmus.estimators.cell_models import CellModel, CellTraining, HiddenCells
from isthmus.estimators.filled_cells import as_given, in_shape, refuse_infinite, with_cells
from isthmus.estimators.identity import with_index
from isthmus.estimators.model_files import Packed, SavedEstimator
from isthmus.estimators.value_arguments import ValueArguments
from isthmus.learning.trainer import strip_prefix
from isthmus.parts.sampling import derived_generator, rand_like

LEVEL_UNITS = ("binary", "categorical")
"""Units of columns whose values are levels."""

MAX_BIN_INPUTS, MAX_BINS, MIN_BINS = 4096, 16, 4
"""Largest number of inputs of the encoder for bins; bins of a column, and their smallest number that is of use."""

MIN_ROWS_OF_DENOISERS = 100
"""Least number of training rows of which denoisers are trained."""

STEPS_OF_AN_EPOCH = 64
"""Steps after which a denoiser is evaluated."""

MAX_STEPS = 6000
"""Largest number of steps of a denoiser where `max_epochs` is None."""

_FITTED = ("seed_", "n_features_in_", "n_rows_", "errors_", "history_")
"""Fitted attributes that are plain data."""


class Interval(NamedTuple):
    """Bounds of the cells of rows, in the shape of the rows.

    Attributes:
        low, high: bounds of each cell; the value itself of an observed cell, NaN in columns of levels. Data frames, if
            the rows were one.
    """

    low: Any
    high: Any


@dataclass(kw_only=True, eq=False, repr=False)
class Imputer(OneToOneFeatureMixin, TransformerMixin, SavedEstimator, ValueArguments):
    r"""Imputer of missing cells: by denoising autoencoders and a Gaussian, weighted by column; with intervals.

        e_j = m_j + w_j1 (g_j - m_j) + w_j2 (d_j - m_j),   w_j >= 0,   w_j1 + w_j2 <= 1

    g is the expectation given the observed cells under a Gaussian. d is the mean of `n_folds` denoising autoencoders,
    each fitted to the other folds; in training they hide the gaps of other rows and random cells, and see which cells
    are hidden. They need 100 rows. m is the mean of the column. The weights w are those of the least squared error on
    known cells of the fold that a denoiser was not fitted to, which are hidden for this. Their residuals give the
    intervals and the samples.

    Observed cells are returned bit for bit, in their type. Of a table, levels are filled with levels, whole numbers
    with whole numbers, and real numbers are rounded to the decimals of the column. Filled values lie in the range of
    the column. A row without any observed cell gets the means and the most frequent levels, with an `InputWarning`.

    Args:
        hidden_sizes: units of the hidden layers of the encoders, outermost first.
        code_size: units of the code.
        hidden_rate: fraction of the cells that are hidden at random.
        n_folds: number of folds, and of denoisers.
        max_epochs: passes over the rows; None takes 200, and at most 6,000 steps.
        batch_size: rows per step; None takes about a sixth of the rows, between 64 and 256.
        learning_rate: peak of the learning-rate schedule.
        dtypes, unknown, layout: declared types of columns, unseen levels, and what the axes of an array stand for, as
            in `Autoencoder`. Identifiers and columns to ignore are not returned. Dates are refused. A cell with an
            unseen level is kept as it is.
        random_state: seed of every random number; None draws a seed and stores it in `seed_`.
        device: "auto", "cpu" or "cuda".
        verbose: 1 shows progress bars on a terminal; 0 is silent.

    Attributes:
        errors_: for each column, the error on hidden cells and that of the mean (`{"column": ..., "cells": ...,
            "measure": "RMSE" or "wrong", "error": ..., "baseline": ...}`): the root of the mean squared error in the
            units of the column, or the fraction of wrong levels, and that of the most frequent level.
        preprocessing_: units and scaling of the columns.
        model_: the fitted parts.

    Raises:
        InputError: at `fit`, a column without any value, by name; fewer than two rows; infinite values; columns of
            dates or free text.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.5; Gondara & Wang, MIDA: multiple imputation using
    denoising autoencoders (2018); Vovk, Cross-conformal predictors (2015), for the intervals.

    Example:
        >>> import numpy as np
        >>> from isthmus import Imputer
        >>> t = np.random.default_rng(0).uniform(0, 3, 200)
        >>> X = np.column_stack([t, 2 * t, np.sin(t)])
        >>> X[:5, 1] = np.nan
        >>> imputer = Imputer(max_epochs=30, random_state=0).fit(X)
        >>> filled = imputer.transform(X)
        >>> bool(abs(filled[:5, 1] - 2 * t[:5]).max() < 0.5), bool((filled[5:] == X[5:]).all())
        (True, True)
    """

    hidden_sizes: Sequence[int] = (256, 256)
    code_size: int = 256
    hidden_rate: float = 0.3
    n_folds: int = 4
    max_epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 5e-3
    dtypes: dict[str, str] | None = None
    unknown: str = "missing"
    layout: str = "auto"
    random_state: Any = None
    device: str = "auto"
    verbose: int = 0

    kind: ClassVar[str] = "imputer"

    # -- training -----------------------------------------------------------------------------------

    @inputs.unchanged_on_failure
    def fit(self, X: Any, y: Any = None) -> Imputer:
        """Fit to rows with or without missing cells. A fit that fails leaves the imputer as it was.

        Args:
            X: an array (n, d), images or windows as an array, or a data frame; NaN, None and NA are missing.
            y: ignored; present for scikit-learn's pipelines.

        Raises:
            InputError: see the class.
        """
        self._check_parameters()
        X = self._validated(X, reset=True)
        inputs.check_enough_rows(n_rows_of(X))
        self.seed_, notes = seed_of(self.random_state), []
        self.preprocessing_ = self._learned_preprocessing(X)
        z, mask = self._read(X)
        self._refuse_empty_columns(mask)
        known = mask.any(1)
        if not bool(known.all()):
            notes.append(f"{pluralize(int((~known).sum()), 'row')} without any observed cell took no part in the fit")
            z, mask = z[known], mask[known]
        inputs.check_enough_rows(len(z))
        self.n_rows_, self.ranges_ = len(z), self._ranges(X)
        if bool(mask.all()):
            notes.append("no cell is missing in the training rows; random cells were hidden in training")
        has_denoisers = len(z) >= MIN_ROWS_OF_DENOISERS
        if not has_denoisers:
            notes.append(
                f"{pluralize(len(z), 'row')}: a Gaussian fills the cells; denoisers need {MIN_ROWS_OF_DENOISERS}"
            )
        denoiser = self._fitted_denoiser if has_denoisers else None
        training = CellTraining(denoiser, self._groups, self.n_folds, self.hidden_rate)
        self.model_, hidden = training.fitted(z, mask, Generator().manual_seed(self.seed_))
        self.errors_ = self._errors(hidden)
        notes += self._constant_notes()
        self.history_ = {"stopped": "completed", "notes": notes}
        return self

    def _check_parameters(self) -> None:
        """Refuse invalid constructor arguments."""
        inputs.check_parameters(self)
        if not isinstance(self.hidden_rate, int | float) or not 0 < self.hidden_rate < 1:
            raise InputError(f"hidden_rate={self.hidden_rate!r}: it must be a number between 0 and 1")
        if not isinstance(self.n_folds, int | np.integer) or isinstance(self.n_folds, bool) or self.n_folds < 2:
            raise InputError(f"n_folds={self.n_folds!r}: it must be a whole number of at least 2")

    def _validated(self, X: Any, *, reset: bool) -> Any:
        """Return rows as an array or a data frame.

        Raises:
            InputError: other rows; infinite values, which are neither missing nor values.
        """
        X = inputs.validate_input(self, X, reset=reset)
        source = input_type(X)
        if source not in ("array", "table"):
            raise InputError(f"the imputer takes arrays and tables; found {source} rows")
        refuse_infinite(X)
        return X

    def _learned_preprocessing(self, X: Any) -> Preprocessor:
        """Return units and scaling of the columns, which accept missing cells."""
        scaling = "auto" if input_type(X) == "array" and X.ndim > 2 else "standard"
        dtypes = of_model_columns(checked_dtypes(self.dtypes))
        learned = Preprocessor.from_data(X, scaling=scaling, missing="mask", dtypes=dtypes, layout=self.layout)
        dates = [column.name for column in learned.table if column.dates is not None]
        if dates:
            raise InputError(
                f"column {dates[0]!r} has dates, which are not filled; leave it out "
                f"(dtypes={{{dates[0]!r}: 'ignore'}}, "
                f"--dtype {shlex.quote(f'{dates[0]}=ignore')})"
            )
        if learned.fill is None:  # integers, which cannot be missing there
            learned = replace(learned, fill=learned.raw_numbers(np.zeros((1, learned.n_columns)))[0], masked=True)
        return learned

    def _read(self, X: Any) -> tuple[Tensor, Tensor]:
        """Return rows in model space, (n, columns), float64, and the mask of the observed cells."""
        rows = self.preprocessing_.rows(X, self.unknown)
        batches = list(blocks(rows, 4096))
        z = torch.cat([torch.empty(0, rows.n_columns), *(batch.x for batch in batches)]).double()
        masks = [torch.ones_like(batch.x) if batch.mask is None else batch.mask for batch in batches]
        return z, torch.cat([torch.empty(0, rows.n_columns), *masks]) > 0

    def _ranges(self, X: Any) -> np.ndarray:
        """Return the smallest and the largest value of each column of model space, (2, columns), in raw numbers."""
        known = self.preprocessing_
        array = tables.encode_table(known.table, X) if known.table else X
        low, high, *_ = moments(flat_chunks(array, known.channels_last))
        return np.stack([low, high])

    def _raw_numbers(self, z: Tensor) -> np.ndarray:
        """Return raw numbers of values of model space, float64; the ends of the ranges are exact."""
        raw, ends = self.preprocessing_.raw_numbers(z.numpy()), self.model_.ranges.numpy()
        raw = np.where(z.numpy() <= ends[0], self.ranges_[0], np.where(z.numpy() >= ends[1], self.ranges_[1], raw))
        return np.clip(raw, *self.ranges_)

    @property
    def _groups(self) -> list[list[int]]:
        """The columns of model space of each column of the user, which are missing together."""
        if self.preprocessing_.table:
            return [list(columns) for columns in self.preprocessing_.members or ()]
        return [[column] for column in range(self.preprocessing_.n_columns)]

    @property
    def _names(self) -> list[Any]:
        """The name of each column of the user; the number of a column without one."""
        return self.preprocessing_.names or list(range(len(self._groups)))

    def _unit(self, number: int) -> str:
        """Return the unit of a column of the user."""
        return self.preprocessing_.table[number].unit if self.preprocessing_.table else "real"

    def _constant_notes(self) -> list[str]:
        """Return a note on columns of one value, if there are some."""
        low, high = self.model_.ranges
        names = [self._names[n] for n, group in enumerate(self._groups) if bool((low[group] == high[group]).all())]
        if not names:
            return []
        one = len(names) == 1
        return [
            f"column{'' if one else 's'} {_listed(names)} {'has' if one else 'have'} one value, which fills the gaps"
        ]

    def _refuse_empty_columns(self, mask: Tensor) -> None:
        """Refuse columns without any value, by name."""
        empty = [self._names[n] for n, group in enumerate(self._groups) if not bool(mask[:, group[0]].any())]
        if empty:
            one = len(empty) == 1
            raise InputError(
                f"column{'' if one else 's'} {_listed(empty)} {'has' if one else 'have'} no value in the training "
                f"rows; leave {'it' if one else 'them'} out"
            )

    def _fitted_denoiser(self, rows: CellRows, gaps: Tensor, seed: int) -> CellDenoiser:
        """Return the denoiser of a fold."""
        n_columns = self.preprocessing_.n_columns
        n_bins = min(MAX_BINS, MAX_BIN_INPUTS // n_columns)
        batch_size = self.batch_size or min(256, max(64, len(rows) // 6))
        n_passes = max(1, round(STEPS_OF_AN_EPOCH * batch_size / len(rows)))
        n_epochs = self.max_epochs or 200
        n_steps = n_epochs * math.ceil(len(rows) / batch_size)
        has_units = self.preprocessing_.table or self.preprocessing_.image_shape is not None
        denoiser = CellDenoiser.of_hidden_cells(
            self.hidden_sizes, rate=self.hidden_rate, n_bins=n_bins if n_bins >= MIN_BINS else 0,
            code_size=self.code_size,
            likelihood="auto" if has_units else "gaussian", max_epochs=math.ceil(n_epochs / n_passes),
            max_steps=n_steps if self.max_epochs else min(n_steps, MAX_STEPS),
            batch_size=batch_size, learning_rate=self.learning_rate, random_state=seed, device=self.device,
            verbose=self.verbose,
        )  # fmt: skip
        denoiser.fit_cells(self.preprocessing_, rows, gaps, n_passes)
        if denoiser.history_["stopped"] == "interrupted":
            raise KeyboardInterrupt
        return denoiser

    def _errors(self, hidden: HiddenCells) -> list[dict[str, Any]]:
        """Return the error of each column on hidden cells, and that of its mean or most frequent level."""
        found = self.model_.combined(hidden.parts, hidden.mask)
        errors = []
        for number, (name, group) in enumerate(zip(self._names, self._groups, strict=True)):
            rows = hidden.rows_of(group[0])
            truth, predicted = hidden.truth[rows][:, group], found[rows][:, group]
            centre = self.model_.gaussian.centre[group]
            if self._unit(number) in LEVEL_UNITS:
                levels = [_levels(values) for values in (truth, predicted, centre[None])]
                measure = "wrong"
                error, baseline = ((levels[0] != other).double().mean() for other in levels[1:])
            else:
                measure, scale = "RMSE", float(self.preprocessing_.scale[group[0]])
                error, baseline = (scale * (truth - other).square().mean().sqrt() for other in (predicted, centre))
            errors.append({
                "column": name, "cells": len(rows), "measure": measure,
                "error": float(error) if len(rows) else None, "baseline": float(baseline) if len(rows) else None,
            })  # fmt: skip
        return errors

    # -- filling ------------------------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """Return the rows with missing cells filled, in the type, the index and the order of X.

        Args:
            X: rows with the columns of `fit`, whose gaps may lie elsewhere.

        Raises:
            InputError: other columns, an unknown level, infinite values.
        """
        check_is_fitted(self)
        rows = self._validated(X, reset=False)
        z, mask = self._read(rows)
        expected, _ = self._expected(z, mask)
        return self._filled(rows, X, expected, mask)

    def sample(self, X: Any, n: int = 5, random_state: Any = None) -> list[Any]:
        """Return n copies of the rows in which missing cells are drawn, for multiple imputation.

        The samples of a column follow the residuals of hidden cells, or the probabilities of the levels; those of
        several cells of a row are correlated as under the Gaussian.

        Args:
            X: rows.
            n: number of copies.
            random_state: seed of the samples; None draws one.

        Source: Rubin, Multiple imputation for nonresponse in surveys (1987), section 1.5.

        Example:
            >>> import numpy as np
            >>> from isthmus import Imputer
            >>> X = np.random.default_rng(0).normal(size=(60, 2))
            >>> X[0, 0] = np.nan
            >>> draws = Imputer(max_epochs=1, random_state=0).fit(X).sample(X, 3, random_state=0)
            >>> len({float(draw[0, 0]) for draw in draws})
            3
        """
        check_is_fitted(self)
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise InputError(f"n={n!r}: the number of samples must be a whole number of at least 1")
        rows = self._validated(X, reset=False)
        z, mask = self._read(rows)
        expected, scale = self._expected(z, mask)
        generator = Generator().manual_seed(seed_of(random_state))
        return [self._filled(rows, X, self._drawn(z, mask, expected, scale, generator), mask) for _ in range(n)]

    def interval(self, X: Any, coverage: float = 0.9) -> Interval:
        """Return an interval for each missing cell, which contains the value with about this probability.

        The intervals are conformal: the residuals of hidden cells of the training rows, in units of the standard
        deviation under the Gaussian, which depends on the cells that are observed. They lie in the range of the column.

        Args:
            X: rows.
            coverage: the probability, between 0 and 1.

        Source: Vovk, Cross-conformal predictors (2015); Lei, G'Sell, Rinaldo, Tibshirani & Wasserman,
        Distribution-free predictive inference for regression (2018), section 5.2, for the scale.

        Example:
            >>> import numpy as np
            >>> from isthmus import Imputer
            >>> X = np.random.default_rng(0).normal(size=(60, 2))
            >>> X[0, 0] = np.nan
            >>> low, high = Imputer(max_epochs=1, random_state=0).fit(X).interval(X)
            >>> bool(low[0, 0] < high[0, 0]), bool(low[1, 0] == high[1, 0] == X[1, 0])
            (True, True)
        """
        check_is_fitted(self)
        if not isinstance(coverage, int | float) or not 0 < coverage < 1:
            raise InputError(f"coverage={coverage!r}: it must be a number between 0 and 1")
        rows = self._validated(X, reset=False)
        z, mask = self._read(rows)
        expected, scale = self._expected(z, mask)
        bounds = [residuals.interval(coverage) for residuals in self.model_.residuals]
        found = []
        for side in (0, 1):
            limit = torch.tensor([[bound[side] for bound in bounds]], dtype=torch.float64)
            bound = expected.clone()
            for number, group in enumerate(self._groups):
                bound[:, group] = expected[:, group] + scale[:, group] * limit[0, number]
            found.append(self._bound(rows, X, self.model_.bounded(bound), mask))
        return Interval(*found)

    def probabilities(self, X: Any) -> dict[Any, pd.DataFrame]:
        """Return the probabilities of the levels of each column of levels, by name: one row for each row of X.

        The level of an observed cell has the probability 1. Arrays have no columns of levels.
        """
        check_is_fitted(self)
        rows = self._validated(X, reset=False)
        z, mask = self._read(rows)
        expected, _ = self._expected(z, mask)
        values = torch.where(mask, z, expected).numpy()
        found = {}
        for number, (name, group) in enumerate(zip(self._names, self._groups, strict=True)):
            if self._unit(number) in LEVEL_UNITS:
                p = values[:, group]
                p = np.hstack([1 - p, p]) if len(group) == 1 else p
                levels = self.preprocessing_.table[number].levels or [0, 1]
                found[name] = with_index(pd.DataFrame(p, columns=levels), X)
        return found

    def _expected(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expectation of each missing cell and the scale of its residual; others are not computed."""
        expected, scale = z.clone(), torch.zeros_like(z)
        rows = torch.nonzero(~mask.all(1)).flatten()
        if len(rows):
            n_empty = int((~mask[rows].any(1)).sum())
            if n_empty:
                text = (
                    f"{pluralize(n_empty, 'row')} without any observed cell: filled with means and most frequent levels"
                )
                warnings.warn(text, InputWarning, stacklevel=3)
            found, of_rows = self.model_.expected(z[rows], mask[rows])
            for number, group in enumerate(self._groups):
                if self._unit(number) == "categorical":
                    p = found[:, group].clamp(min=1e-6)
                    found[:, group] = p / p.sum(1, keepdim=True)
            expected[rows], scale[rows] = found, of_rows
        return expected, scale

    def _drawn(self, z: Tensor, mask: Tensor, expected: Tensor, scale: Tensor, generator: Generator) -> Tensor:
        """Return rows in model space whose missing cells are drawn."""
        drawn = expected.clone()
        rows = torch.nonzero(~mask.all(1)).flatten()
        if not len(rows):
            return drawn
        normal = self.model_.gaussian.normal_draws(z[rows], mask[rows], derived_generator(generator))
        uniform = torch.special.ndtr(normal)
        other = rand_like(uniform, generator)
        for number, (group, residuals) in enumerate(zip(self._groups, self.model_.residuals, strict=True)):
            columns, first = expected[rows][:, group], group[0]
            if self._unit(number) == "categorical":
                at = (columns.cumsum(1) < other[:, [first]]).sum(1).clamp(max=len(group) - 1)
                drawn[rows[:, None], torch.tensor(group)] = torch.eye(len(group)).double()[at]
            elif self._unit(number) == "binary":
                drawn[rows, first] = (uniform[:, first] > 1 - columns[:, 0]).double()
            else:
                missed = torch.from_numpy(residuals.quantile(uniform[:, first].numpy()))
                drawn[rows, first] = columns[:, 0] + scale[rows, first] * missed
        return self.model_.bounded(drawn)

    # -- units of the user --------------------------------------------------------------------------

    def _filled(self, rows: Any, X: Any, z: Tensor, mask: Tensor) -> Any:
        """Return rows of the user with missing cells filled by values of model space."""
        if not self.preprocessing_.table:
            return self._filled_array(rows, X, z, mask)
        gaps = self._gaps_by_column(rows, mask)
        decoded = tables.decode_table(self.preprocessing_.table, self._raw_numbers(z))
        decoded = tables.rounded(decoded, self.preprocessing_.table)
        return as_given(with_cells(rows, decoded, gaps), X)

    def _filled_array(self, rows: Any, X: Any, z: Tensor, mask: Tensor) -> Any:
        """Return an array, or a data frame for a model of arrays, with missing cells filled."""
        raw, gaps = (in_shape(self.preprocessing_, part) for part in (self._raw_numbers(z), ~mask.numpy()))
        if hasattr(rows, "columns"):
            names = [str(name) for name in rows.columns]
            return as_given(
                with_cells(rows, pd.DataFrame(raw, columns=names), dict(zip(names, gaps.T, strict=True))), X
            )
        filled = np.array(rows)
        filled[gaps] = raw[gaps]
        return filled

    def _gaps_by_column(self, rows: pd.DataFrame, mask: Tensor) -> dict[str, np.ndarray]:
        """Return the gaps of each column of a table, by name; a cell with an unseen level is not one."""
        missing = {str(name): rows.iloc[:, at].isna().to_numpy() for at, name in enumerate(rows.columns)}
        hidden = {str(n): ~mask[:, g[0]].numpy() for n, g in zip(self._names, self._groups, strict=True)}
        return {name: gaps & missing[name] for name, gaps in hidden.items()}

    def _bound(self, rows: Any, X: Any, bound: Tensor, mask: Tensor) -> Any:
        """Return bounds in the units of the user: floating-point numbers, NaN for levels."""
        raw = self._raw_numbers(torch.where(mask, 0.0, bound))
        if not self.preprocessing_.table:
            raw, gaps = in_shape(self.preprocessing_, raw), in_shape(self.preprocessing_, ~mask.numpy())
            values = rows.to_numpy(np.float64) if hasattr(rows, "columns") else np.asarray(rows, np.float64)
            found = np.where(gaps, raw, values)
            return as_given(pd.DataFrame(found, rows.index, rows.columns), X) if hasattr(rows, "columns") else found
        known, columns = self.preprocessing_.table, {}
        given = {str(name): rows.iloc[:, at] for at, name in enumerate(rows.columns)}
        for number, (column, group) in enumerate(zip(known, self._groups, strict=True)):
            if self._unit(number) in LEVEL_UNITS:
                columns[column.name] = np.full(len(rows), np.nan)
            else:
                values = pd.to_numeric(given[column.name]).to_numpy(np.float64, na_value=np.nan)
                columns[column.name] = np.where(mask[:, group[0]].numpy(), values, raw[:, group[0]])
        frame = pd.DataFrame({name: columns[str(name)] for name in given}, index=rows.index)
        return as_given(frame.set_axis(rows.columns, axis=1), X)

    # -- files --------------------------------------------------------------------------------------

    def _pack(self) -> Packed:
        preprocessing, preprocessing_config = self.preprocessing_.to_file()
        model, model_config = self.model_.pack()
        tensors = {f"preprocessing.{name}": tensor for name, tensor in preprocessing.items()}
        tensors |= {f"model.{name}": tensor for name, tensor in model.items()}
        tensors["ranges"] = torch.from_numpy(self.ranges_)
        configs = {"preprocessing": preprocessing_config, "model": model_config}
        return tensors, model_files.header_of(self, _FITTED) | configs

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        model = model_files.constructed(cls, header)
        model_files.set_fitted(model, header)
        model.errors_ = list(model.errors_)
        model.preprocessing_ = Preprocessor.from_file(strip_prefix("preprocessing.", tensors), header["preprocessing"])
        model.ranges_ = tensors["ranges"].numpy()
        model.model_ = CellModel.unpacked(strip_prefix("model.", tensors), header["model"])
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _listed(names: Sequence[Any]) -> str:
    """Return the first names, and how many more there are."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _levels(values: Tensor) -> Tensor:
    """Return the number of the level of each row: the largest probability, or whether it is above 1/2."""
    return values.argmax(1) if values.shape[1] > 1 else (values[:, 0] > 0.5).long()
