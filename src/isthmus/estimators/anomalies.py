"""The detector of odd rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn import clone
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from isthmus.data.dtypes import checked_dtypes, of_model_columns
from isthmus.data.preprocessing import Preprocessor, input_type, n_rows_of
from isthmus.data.series import WindowedSeries
from isthmus.data.streams import blocks
from isthmus.data.tables import in_units_of_columns
from isthmus.errors import InputError, pluralize
from isthmus.estimators import inputs, model_files
from isthmus.estimators.anomaly_scores import CodeScores, ModelRows, TableScores, needs_denoiser
from isthmus.estimators.base import BaseAutoencoder, seed_of
from isthmus.estimators.cell_expectations import CellExpectations, better_by_denoiser
from isthmus.estimators.identity import (
    as_polars,
    by_user_column,
    given_rows,
    is_polars,
    user_columns,
    with_identity,
    with_index,
)
from isthmus.estimators.model_files import Packed, SavedEstimator
from isthmus.estimators.value_arguments import ValueArguments
from isthmus.evaluation import conformal
from isthmus.evaluation.conformal import OddRate, TailScores
from isthmus.learning.trainer import strip_prefix
from isthmus.parts.corruption_masks import patch_groups

MIN_ROWS, MIN_ROWS_OF_A_QUANTILE = 50, 10
"""Least number of rows of a fit; with a number for `contamination`, which states no rate of false alarms."""

_FITTED = ("seed_", "n_features_in_", "n_rows_", "offset_", "history_")
"""Fitted attributes that are plain data."""


@dataclass(frozen=True)
class Explanation:
    """The cells of some rows, each given the other cells of its row.

    Data frames, with the index and the columns of the rows, if the rows were one; else arrays in the shape of the rows.

    Attributes:
        share: how odd the cell is, in nats: -log P(a deviation at least as large) - 1. Its mean over the cells of
            ordinary rows is 0; it is negative for a cell close to its expectation, and NaN for a missing cell. All
            pixels of a patch of an image have equal parts of the value of the patch.
        expected: the expected value in the units of the rows; the most probable level of a category.
        low, high: an interval of 90% for the value; NaN for categories and columns of two values.
    """

    share: Any
    expected: Any
    low: Any
    high: Any

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return the attributes as data frames; rows of several axes are flattened."""
        return {name: _as_frame(part) for name, part in vars(self).items()}

    def top(self, n: int = 3) -> pd.DataFrame:
        """Return the n oddest cells of each row: row, column, share, expected value and interval.

        Images and other rows of several axes have the number of the entry in the flattened row as the column.

        Example:
            >>> share, other = pd.DataFrame({"a": [0.5], "b": [4.0]}), pd.DataFrame({"a": [1.0], "b": [2.0]})
            >>> Explanation(share, other, other - 1, other + 1).top(1).to_dict("records")
            [{'row': 0, 'column': 'b', 'share': 4.0, 'expected': 2.0, 'low': 1.0, 'high': 3.0}]
        """
        frames = self.frames()
        share = frames["share"]
        order = np.argsort(-share.fillna(-np.inf).to_numpy(np.float64), axis=1, kind="stable")[:, :n]
        return pd.DataFrame(
            [
                {"row": row, "column": share.columns[j]} | {name: part.iat[i, j] for name, part in frames.items()}
                for i, row in enumerate(share.index)
                for j in order[i]
            ]
        )


def _as_frame(part: Any) -> pd.DataFrame:
    if isinstance(part, pd.DataFrame):
        return part
    return pd.DataFrame(part.reshape(len(part), -1)) if isinstance(part, np.ndarray) else part.to_pandas()


@dataclass(kw_only=True, eq=False, repr=False)
class AnomalyDetector(OutlierMixin, SavedEstimator, ValueArguments):
    r"""Detector of odd rows whose rate of false alarms is the stated one, and of the cells that make a row odd.

        score(x) = -1/k sum_i t_i(s_i(x)),   t_i(s) = -log P(S_i >= s)
        p(x) = (1 + #{calibration rows with a score at most score(x)}) / (m + 1)

    The parts s_i of the score are, on columns that are standardized and squashed beyond three standard deviations: the
    distance of a trimmed Gaussian; the density of a trimmed mixture of five Gaussians of ten principal components with
    the likelihood of the residual; the mean distance to twenty neighbours in the coordinates in which the Gaussian is
    standard; and, if each fit has 300 rows, the errors of a denoising autoencoder in cells that it does not see. With
    `autoencoder` they are the density of its codes and the likelihood of the rows given the codes. Trimmed fits use
    the 90% of the rows that fit best, so that odd rows among the training rows do not count. The scales t_i are those
    of training rows, each scored by a fit to other rows (cross-fitting).

    The m calibration rows take no part in any fit. `predict` flags the rows of p(x) <= `false_alarm_rate`: if a row is
    exchangeable with them, it is flagged with at most this probability, for any data. Odd rows among the calibration
    rows make p-values larger, so that fewer rows are flagged than stated.

    Args:
        autoencoder: an unfitted autoencoder, of which fitted clones give the score; it takes the rows as its kind does.
            None is the default score. It is trained `n_folds` + 1 times.
        false_alarm_rate: fraction of ordinary rows that `predict` flags.
        contamination: None flags by `false_alarm_rate`. A number is the fraction of the training rows that are flagged,
            as in scikit-learn; it states no rate of false alarms. "auto" estimates this fraction, see `odd_rate_`.
        calibration_fraction: fraction of the rows that is held out for p-values; more if `false_alarm_rate` needs them.
        n_folds: number of fits to parts of the training rows.
        dtypes, unknown, layout: declared types of columns, unseen levels, and what the axes of an array stand for, as
            in `Autoencoder`.
        random_state: seed of every random number; None draws a seed and stores it in `seed_`.
        device: "auto", "cpu" or "cuda", of the denoiser; an `autoencoder` has its own.

    Attributes:
        offset_: the score below which rows are flagged.
        p_values_: p-value of each row of `fit`, (n,): of a training row by the scores of the training rows, each scored
            by a fit to other rows; of a calibration row by the other calibration rows.
        row_scores_: score of each row of `fit`, (n,), on the scale of `score_samples`: of a training row by a fit to
            other rows; of a calibration row, which is in no fit, its `score_samples`.
        calibration_rows_: the numbers of the calibration rows.
        calibration_scores_: their scores, in increasing order.
        odd_rate_: with `contamination="auto"`, the estimated fraction of odd rows and its 90% interval
            (`isthmus.evaluation.conformal.odd_rate`).

    Raises:
        InputError: at `fit`, fewer than 50 rows (10 with a number for `contamination`), rows that are all equal, a row
            without an observed cell, or too few rows for the rate of false alarms.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.6, for the codes; Rousseeuw & Van Driessen (1999)
    for trimming; Bates, Candes, Lei, Romano & Sesia, Testing for outliers with conformal p-values (2023); Vovk,
    Cross-conformal predictors (2015).

    Example:
        >>> import numpy as np
        >>> from isthmus import AnomalyDetector
        >>> t = np.random.default_rng(0).normal(size=(200, 1))
        >>> X = np.hstack([t, 2 * t, t**2]) + np.random.default_rng(1).normal(0, 0.1, (200, 3))
        >>> detector = AnomalyDetector(random_state=0).fit(X)
        >>> rows = np.array([[1.0, 2.0, 1.0], [1.0, -2.0, 1.0]])
        >>> detector.predict(rows), bool(detector.p_value(rows)[1] < 0.05)
        (array([ 1, -1]), True)
        >>> detector.explain(rows[1:]).expected.shape
        (1, 3)
    """

    autoencoder: Any = None
    false_alarm_rate: float = 0.05
    contamination: float | str | None = None
    calibration_fraction: float = 0.25
    n_folds: int = 5
    dtypes: dict[str, str] | None = None
    unknown: str = "missing"
    layout: str = "auto"
    random_state: Any = None
    device: str = "auto"

    kind: ClassVar[str] = "anomalies"

    # -- training -----------------------------------------------------------------------------------

    @inputs.unchanged_on_failure
    def fit(self, X: Any, y: Any = None) -> AnomalyDetector:
        """Fit the score and the p-values. A fit that fails leaves the detector as it was.

        Args:
            X: rows as `BaseAutoencoder.fit` takes them; missing cells are left out of the score. Of windows of series
                the last ones of each group are the calibration rows, and the parts of the training rows are blocks of
                successive windows.
            y: ignored; present for scikit-learn's pipelines.

        Raises:
            InputError: see the class.
        """
        self._check_parameters()
        windows = X if isinstance(X, WindowedSeries) else None
        X = inputs.validate_input(self, X, reset=True)
        n_calibration = self._n_calibration(n_rows_of(X))
        self.seed_ = seed_of(self.random_state)
        self.n_rows_ = n_rows_of(X)
        generator = Generator().manual_seed(self.seed_)
        self.preprocessing_ = self._learned_preprocessing(X, windows)
        rows = self._read(X)
        if not bool((rows.x != rows.x[:1]).any()):
            raise InputError(f"all {self.n_rows_} rows are equal, so that no row is odd; give rows that differ")
        if windows is None:
            order = torch.randperm(self.n_rows_, generator=generator)
            training, self.calibration_rows_ = order[n_calibration:], order[:n_calibration].sort().values.numpy()
        else:
            kept, held_out = windows.split_masks(n_calibration / len(windows))
            training, self.calibration_rows_ = torch.from_numpy(np.flatnonzero(kept)), np.flatnonzero(held_out)
        crossed, by_denoiser = self._crossed(rows.take(training), generator, in_order=windows is not None)
        self.tails_ = [TailScores.of(part) for part in crossed.T]
        self.scores_ = self._fitted_scores(rows.take(training), generator)
        of_calibration = rows.take(torch.from_numpy(self.calibration_rows_))
        raw = self.scores_.raw(of_calibration)
        self._keep_p_values(training, crossed, raw)
        self._keep_p_values_of_others(rows)
        self.cells_ = self._fitted_cells(rows.take(training), by_denoiser).calibrated(of_calibration)
        self.history_ = {"stopped": "completed", "notes": self._notes(), "digest": rows.digest}
        self._set_offset(rows, np.concatenate([crossed[:, 0], raw[:, 0]]))
        return self

    def _check_parameters(self) -> None:
        """Refuse invalid constructor arguments."""
        conformal.check_rate("false_alarm_rate", self.false_alarm_rate)
        conformal.check_rate("calibration_fraction", self.calibration_fraction)
        if not isinstance(self.n_folds, int | np.integer) or isinstance(self.n_folds, bool) or self.n_folds < 2:
            raise InputError(f"n_folds={self.n_folds!r}: it must be a whole number of at least 2")
        given = self.contamination
        is_rate = isinstance(given, int | float | np.number) and not isinstance(given, bool) and 0 < given <= 0.5
        if not (given is None or is_rate or (isinstance(given, str) and given == "auto")):
            raise InputError(f"contamination={given!r}: it must be None, 'auto', or a number above 0 and at most 0.5")
        if self.autoencoder is not None and not isinstance(self.autoencoder, BaseAutoencoder):
            raise InputError(
                f"autoencoder={' '.join(repr(self.autoencoder).split())[:60]} is not an autoencoder; give an unfitted "
                "one of isthmus, such as isthmus.Autoencoder()"
            )

    @property
    def _states_rate(self) -> bool:
        """True if `predict` flags by p-values."""
        return self.contamination is None

    def _n_calibration(self, n_rows: int) -> int:
        """Return the number of calibration rows.

        Raises:
            InputError: too few rows.
        """
        least = MIN_ROWS_OF_A_QUANTILE if isinstance(self.contamination, int | float | np.number) else MIN_ROWS
        if n_rows < least:
            advice = "" if least < MIN_ROWS else f", or {MIN_ROWS_OF_A_QUANTILE} with a number for contamination="
            raise InputError(f"n_samples={n_rows}: a detector needs at least {pluralize(least, 'row')}{advice}")
        wanted = max(1, round(self.calibration_fraction * n_rows))
        if not self._states_rate:
            return min(wanted, n_rows - 8)
        needed = conformal.n_needed(self.false_alarm_rate)
        if 2 * needed > n_rows and needed > wanted:
            raise InputError(
                f"false_alarm_rate={self.false_alarm_rate:g} needs {needed} calibration rows, at most half of the "
                f"{n_rows} rows; give {2 * needed} rows or more, or a rate of at least {1 / (n_rows // 2 + 1):.2g}"
            )
        return min(max(wanted, needed), n_rows - 8)

    def _learned_preprocessing(self, X: Any, windows: WindowedSeries | None) -> Preprocessor:
        """Return units, levels and scaling of the columns."""
        scaling = "auto" if input_type(X) in ("sparse", "text") else "standard"
        dtypes = of_model_columns(checked_dtypes(self.dtypes))
        layout = self.layout if windows is None else inputs.layout_of_windows(self.layout)
        learned = Preprocessor.from_data(_as_real(X), scaling=scaling, missing="mask", dtypes=dtypes, layout=layout)
        return learned if windows is None else replace(learned, names=windows.channels)

    def _read(self, X: Any) -> ModelRows:
        """Return rows with what they are in model space.

        Raises:
            InputError: a row without an observed cell; sparse rows that would be larger than 1 GiB.
        """
        rows = self.preprocessing_.rows(_as_real(X), self.unknown)
        inputs.check_dense_size(self.preprocessing_, len(rows), "give fewer rows at a time, or fewer terms")
        batches = list(blocks(rows, 4096))
        x = torch.cat([batch.x for batch in batches]) if batches else torch.empty(0, rows.n_columns)
        if not any(batch.mask is not None for batch in batches):
            return ModelRows(X, x, None)
        mask = torch.cat([torch.ones_like(b.x) if b.mask is None else b.mask for b in batches]) > 0
        empty = torch.nonzero(~mask.any(1)).flatten()
        if len(empty):
            raise InputError(
                f"row {int(empty[0])} has no observed cell ({pluralize(len(empty), 'such row')} in all); remove it"
            )
        return ModelRows(X, x, None if bool(mask.all()) else mask)

    @property
    def _groups(self) -> list[list[int]]:
        """The columns of model space that are hidden together: levels of a category, patches of an image."""
        if self.preprocessing_.image_shape is not None:
            return patch_groups(self.preprocessing_.image_shape)
        if self.preprocessing_.table:
            return [list(columns) for columns in self.preprocessing_.members or ()]
        return [[column] for column in range(self.preprocessing_.n_columns)]

    def _fitted_scores(self, rows: ModelRows, generator: Generator) -> TableScores | CodeScores:
        """Fit the parts of the score to rows."""
        if self.autoencoder is None:
            least = (self.n_rows_ - len(self.calibration_rows_)) * (self.n_folds - 1) // self.n_folds
            groups = self._groups
            denoises = needs_denoiser(least, groups)
            return TableScores.fitted(rows, groups, generator, with_denoiser=denoises, device=self.device)
        model = clone(self.autoencoder)
        if model.random_state is None:
            model.set_params(random_state=int(torch.randint(2**31, (), generator=generator)))
        return CodeScores.fitted(model, rows)

    def _crossed(
        self, rows: ModelRows, generator: Generator, *, in_order: bool
    ) -> tuple[Float[np.ndarray, "rows parts"], Tensor]:
        """Return the scores of training rows by fits to the other folds, and the columns of the denoiser.

        The rows are in random order. Windows are in the order of time, and a fold is a block of successive ones.
        """
        n_folds = min(self.n_folds, len(rows) // 2)
        fold = torch.arange(len(rows)) * n_folds // len(rows) if in_order else torch.arange(len(rows)) % n_folds
        found: list[tuple[Int[Tensor, " fold"], np.ndarray]] = []
        better = torch.zeros(self.preprocessing_.n_columns, dtype=torch.bool)
        for number in range(int(fold.max()) + 1):
            inside = torch.nonzero(fold == number).flatten()
            scores = self._fitted_scores(rows.take(torch.nonzero(fold != number).flatten()), generator)
            found.append((inside, scores.raw(rows.take(inside))))
            if number == 0 and isinstance(scores, TableScores):
                better = better_by_denoiser(scores, rows.take(inside))
        crossed = np.empty((len(rows), found[0][1].shape[1]))
        for inside, raw in found:
            crossed[inside.numpy()] = raw
        return crossed, better

    def _keep_p_values(self, training: Int[Tensor, " n"], crossed: np.ndarray, raw: np.ndarray) -> None:
        """Set the calibration scores, and the scores and the p-values of all rows."""
        crossed_odd, odd = self._combined(crossed), self._combined(raw)
        self.calibration_scores_ = np.sort(-odd)
        self.row_scores_, self.p_values_ = np.full(self.n_rows_, np.nan), np.full(self.n_rows_, np.nan)
        for rows, found in ((training.numpy(), crossed_odd), (self.calibration_rows_, odd)):
            self.row_scores_[rows] = -found
            self.p_values_[rows] = conformal.p_values_among(found)

    def _keep_p_values_of_others(self, rows: ModelRows) -> None:
        """Set scores and p-values of windows that share rows with calibration windows, and so are in no part."""
        others = np.flatnonzero(np.isnan(self.p_values_))
        if len(others):
            scores = self._combined(self.scores_.raw(rows.take(torch.from_numpy(others))))
            self.row_scores_[others] = -scores
            self.p_values_[others] = conformal.p_values(-self.calibration_scores_, scores)

    def _fitted_cells(self, rows: ModelRows, by_denoiser: Tensor) -> CellExpectations:
        """Return the expectations of cells by the parts of the score, or by a Gaussian of its own."""
        if isinstance(self.scores_, TableScores):
            return CellExpectations.of_scores(self.scores_, by_denoiser)
        return CellExpectations.of(rows, self._groups)

    def _set_offset(self, rows: ModelRows, null_scores: Float[np.ndarray, " n"]) -> None:
        """Set the score below which rows are flagged."""
        self.__dict__.pop("odd_rate_", None)
        if self._states_rate:
            self.offset_ = -conformal.threshold(-self.calibration_scores_, self.false_alarm_rate)
            return
        rate = self.contamination
        if isinstance(rate, str):
            self.odd_rate_ = conformal.odd_rate(null_scores, self.seed_)
            rate = self.odd_rate_.rate
        self.offset_ = float(np.percentile(-self._combined(self.scores_.raw(rows)), 100 * float(rate or 0.0)))

    def _notes(self) -> list[str]:
        """Return notes for the user."""
        m = len(self.calibration_scores_)
        return [f"p-values come from {pluralize(m, 'calibration row')}: the smallest is {1 / (m + 1):.2g}"]

    # -- scores -------------------------------------------------------------------------------------

    def _combined(self, raw: Float[np.ndarray, "rows parts"]) -> Float[np.ndarray, " rows"]:
        """Return the oddness of rows: the mean of t over the parts."""
        return np.mean([tail(raw[:, number]) for number, tail in enumerate(self.tails_)], axis=0)

    def model_rows(self, X: Any) -> ModelRows:
        """Return further rows in model space, without the columns that are left out.

        Raises:
            InputError: other rows than those of the fit; a row without an observed cell.
        """
        check_is_fitted(self)
        return self._read(inputs.validate_input(self, X, reset=False))

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return the score of each row, (n,), in nats, at most 0: the lower, the odder."""
        return self.scores_of(self.model_rows(X))

    def scores_of(self, rows: ModelRows) -> Float[np.ndarray, " n"]:
        """Return the score of each row of `model_rows`, (n,)."""
        return -self._combined(self.scores_.raw(rows))

    def decision_function(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return `score_samples(X) - offset_`, (n,): negative for the rows that `predict` flags."""
        scores = self.score_samples(X)
        return scores - self.offset_

    def predict(self, X: Any) -> Int[np.ndarray, " n"]:
        """Return -1 for odd rows and 1 for others, (n,). Rows of the fit are less odd to it than new ones."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_value(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return the conformal p-value of each new row, (n,). Those of the rows of `fit` are in `p_values_`."""
        scores = self.score_samples(X)
        return conformal.p_values(-self.calibration_scores_, -scores)

    def is_of_fit(self, rows: ModelRows) -> bool:
        """Return whether these are the rows of `fit`, all of them in their order, whose p-values are `p_values_`."""
        return bool(rows.digest == self.history_["digest"])

    def part_scores(self, X: Any) -> pd.DataFrame:
        """Return the parts t of the oddness of each row, in nats, one column each: their mean is -`score_samples`."""
        raw = self.scores_.raw(self.model_rows(X))
        parts = {
            name: tail(raw[:, n]) for n, (name, tail) in enumerate(zip(self.scores_.names, self.tails_, strict=True))
        }
        return with_index(pd.DataFrame(parts), X)

    def explain(self, X: Any) -> Explanation:
        """Return for each cell how odd it is given the other cells of its row, and the values that were expected.

        Each cell is hidden in turn, the levels of a category and the patches of an image together. The expectation is
        that of the trimmed Gaussian, or of the denoiser in columns in which that is better on rows of which neither was
        fitted. The intervals are conformal: they contain 90% of the cells of ordinary rows.

        Args:
            X: rows; usually the odd ones alone.

        Raises:
            InputError: invalid rows; sparse rows or texts whose cells would be larger than 1 GiB.
        """
        rows = self.model_rows(X)
        share, *values = self.cells_.explained(rows)
        shares: Any = by_user_column(self.preprocessing_, share.numpy())
        columns = user_columns(self.preprocessing_, X)
        if columns is not None:
            shares = with_index(pd.DataFrame(shares, columns=columns), X)
        expected, low, high = (self._in_units(value, X) for value in values)
        return Explanation(shares, expected, *(self._without_levels(part, X) for part in (low, high)))

    def _in_units(self, x: Tensor, X: Any) -> Any:
        """Return values of model space in the units of the rows."""
        decoded = in_units_of_columns(self.preprocessing_.inverse_transform(x.numpy()), self.preprocessing_.table)
        columns = user_columns(self.preprocessing_, X)
        if columns is not None and not isinstance(decoded, pd.DataFrame):
            return with_index(pd.DataFrame(decoded, columns=columns), X)
        return with_identity(decoded, X)

    def _without_levels(self, bounds: Any, X: Any) -> Any:
        """Return bounds of intervals, NaN in columns of levels."""
        names = [column.name for column in self.preprocessing_.table if column.unit in ("binary", "categorical")]
        if not names:
            return bounds
        given = {str(label): label for label in getattr(given_rows(X), "columns", ())}
        frame = bounds.copy() if isinstance(bounds, pd.DataFrame) else bounds.to_pandas()
        for name in names:
            frame[given.get(name, name)] = np.nan
        return as_polars(frame) if is_polars(given_rows(X)) else frame

    # -- files --------------------------------------------------------------------------------------

    @property
    def nested_models(self) -> list[Any]:
        """The denoiser or the autoencoder of the score, if there is one."""
        nested = self.scores_.denoiser if isinstance(self.scores_, TableScores) else self.scores_.model
        return [] if nested is None else [nested]

    def _pack(self) -> Packed:
        parts = {"preprocessing": self.preprocessing_.to_file(), "scores": self.scores_.pack(),
                 "cells": self.cells_.to_file()}  # fmt: skip
        tensors = {f"{name}.{k}": v for name, (found, _) in parts.items() for k, v in found.items()}
        arrays = {
            "p_values": self.p_values_, "row_scores": self.row_scores_, "calibration_rows": self.calibration_rows_,
            "calibration_scores": self.calibration_scores_, "tail_scales": np.array([t.scale for t in self.tails_]),
        }  # fmt: skip
        for number, tail in enumerate(self.tails_):
            arrays |= {f"tail{number}.knots": tail.knots, f"tail{number}.values": tail.values}
        tensors |= {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        header = model_files.header_of(self, _FITTED, without=("autoencoder",))
        given = None if self.autoencoder is None else self.autoencoder.random_state
        header["autoencoder_random_state"] = model_files.plain("random_state", given)
        header |= {name: config for name, (_, config) in parts.items()}
        rate = getattr(self, "odd_rate_", None)
        return tensors, header | {"score_kind": self.scores_.kind, "odd_rate": None if rate is None else vars(rate)}

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        scores: TableScores | CodeScores
        if header["score_kind"] == TableScores.kind:
            scores = TableScores.unpack(strip_prefix("scores.", tensors), header["scores"])
        else:
            scores = CodeScores.unpack(strip_prefix("scores.", tensors), header["scores"])
        given = None
        if isinstance(scores, CodeScores):
            given = clone(scores.model).set_params(random_state=header["autoencoder_random_state"])
        model = model_files.constructed(cls, header, autoencoder=given)
        model_files.set_fitted(model, header)
        model.preprocessing_ = Preprocessor.from_file(strip_prefix("preprocessing.", tensors), header["preprocessing"])
        model.scores_ = scores
        denoiser = scores.denoiser if isinstance(scores, TableScores) else None
        model.cells_ = CellExpectations.from_file(strip_prefix("cells.", tensors), header["cells"], denoiser)
        scales = tensors["tail_scales"].tolist()
        model.tails_ = [
            TailScores(tensors[f"tail{n}.knots"].numpy(), tensors[f"tail{n}.values"].numpy(), scale)
            for n, scale in enumerate(scales)
        ]
        for name in ("p_values", "row_scores", "calibration_rows", "calibration_scores"):
            setattr(model, f"{name}_", tensors[name].numpy())
        if header["odd_rate"] is not None:
            model.odd_rate_ = OddRate(**header["odd_rate"])
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self.autoencoder is None or self.autoencoder.missing != "refuse"
        return tags


def _as_real(X: Any) -> Any:
    """Return a matrix of integers as real numbers, so that later rows may have missing cells; other rows as is."""
    is_matrix = isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "iub"
    return X.astype(np.float64) if is_matrix else X
