"""Transform rows to model space and back. The transformation is learned in `fit` and saved with the model.

Model space is a float32 matrix (n, columns). Images are flattened in (channel, height, width) order and series in
(channel, step) order; a categorical column has one column per level; texts become counts or tf-idf.

    x = (raw - offset) / scale      raw = x * scale + offset

With scaling="quantile", the normal scores of real columns of a table take the place of raw.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from isthmus.data import layouts, quantiles, tables
from isthmus.data.columns import are_binary, flat_chunks, medians, moments, refuse_missing, refuse_missing_values
from isthmus.data.dataset import Conditioned, Paired
from isthmus.data.levels import UnseenLevels
from isthmus.data.quantiles import QuantileMap
from isthmus.data.streams import Affine, DenseRows, SparseRows
from isthmus.data.table_columns import EXACT_INTEGERS, TableColumn
from isthmus.data.texts import Vocabulary
from isthmus.errors import InputError, InputWarning
from isthmus.learning.rows import Rows

BYTE_SCALE = 255.0
"""Scale of bytes that are grey values."""

SCALINGS = ("auto", "none", "standard", "minmax", "quantile")
MISSING = ("refuse", "mean", "median", "mask")


@dataclass(frozen=True)
class Preprocessor:
    """Learned preprocessing: `rows` transforms to model space, `inverse_transform` transforms back.

    Attributes:
        source: "array", "table", "sparse" or "text".
        row_shape: shape of one row of the user's data.
        dtype: data type of the user's array.
        offset, scale: (columns,), by model-space column; of a column with a map, of its normal scores.
        fill: (columns,), raw values that replace missing ones; None if missing values are refused.
        masked: whether missing entries are excluded from the loss.
        layout: what the array was taken for, a resolved one of `layouts.LAYOUTS` or "flat"; "table" for other rows.
        names: the user's column names, or the names of the channels of series, if any.
        table: unit and levels of each column of a table.
        vocabulary: vocabulary of texts.
        constant: numbers of the constant columns; those of levels are not, unless all of the column are.
        n_rows: number of rows in `from_data`.
        quantiles: the map to normal scores of each model-space column that has one, by number.
    """

    source: str
    row_shape: tuple[int, ...]
    dtype: str
    offset: np.ndarray
    scale: np.ndarray
    fill: np.ndarray | None = None
    masked: bool = False
    layout: str = "table"
    names: list[str] | None = None
    table: list[TableColumn] = field(default_factory=list)
    vocabulary: Vocabulary | None = None
    constant: list[int] = field(default_factory=list)
    n_rows: int = 0
    quantiles: dict[int, QuantileMap] = field(default_factory=dict)

    @classmethod
    def from_data(
        cls,
        X: Any,
        *,
        scaling: str = "auto",
        missing: str = "refuse",
        dtypes: Mapping[str, str] | None = None,
        weights: np.ndarray | None = None,
        scaling_of_tables: str = "standard",
        scaling_of_texts: str = "auto",
        layout: str = "auto",
        fractions: str = "auto",
        vocabulary_options: dict[str, Any] | None = None,
    ) -> Preprocessor:
        """Learn column types, scaling and fill values from `X`. For a table, "auto" takes `scaling_of_tables`.

        `dtypes` declares types of columns of a table, in `isthmus.data.dtypes.DTYPES`; the values determine the others.
        Rows count by `weights` in the statistics of dense columns and tables. The types and categories of a table, the
        layout of an array, the ranges of sparse columns and the vocabulary of texts are those of all rows.

        Args:
            X: rows.
            scaling, missing, dtypes, layout: arguments of the estimators.
            weights: (n,), the weight of each row.
            scaling_of_tables: the scaling that "auto" stands for in a table.
            scaling_of_texts: the scaling that "auto" stands for in texts: "auto" is tf-idf, "none" counts.
            fractions: what "auto" does with arrays of values in [0, 1]: "auto" keeps those of images, and scales others
                by column; "keep" keeps all; "scale" scales all, and bytes.
            vocabulary_options: options of `Vocabulary.from_data`, which finds the terms of texts.

        Raises:
            InputError: if an option is unknown; if there are no rows; if a value is NaN or infinite and
                `missing` is "refuse" (with row and column); if a column contains dates or free text; if the
                shape of an array does not have the axes of `layout`, or the rows are not an array; if `scaling` is
                "quantile" and the rows are not a table.
        """
        _check_choice("scaling", scaling, SCALINGS)
        _check_choice("missing", missing, MISSING)
        kind = input_type(X)
        if kind in _UNWANTED:
            raise InputError(_UNWANTED[kind])
        if n_rows_of(X) == 0:
            raise InputError("the data contain no rows; at least 1 is required")
        if scaling == "quantile" and kind != "table":
            raise InputError(
                f"scaling='quantile' maps real columns of a table to normal scores; found {_SOURCES[kind]}; use "
                "scaling='auto', or give a data frame"
            )
        if layout not in ("auto", "table") and kind != "array":
            raise InputError(f"layout={layout!r} is for arrays; found {_SOURCES[kind]}; use layout='auto'")
        if kind == "text":
            scaling = scaling_of_texts if scaling == "auto" else scaling
            vocabulary = Vocabulary.from_data(list(X), counts=scaling == "none", **(vocabulary_options or {}))
            width = len(vocabulary.terms)
            return cls("text", (width,), "float32", np.zeros(width), np.ones(width), names=vocabulary.terms,
                       vocabulary=vocabulary, n_rows=len(X))  # fmt: skip
        if kind == "sparse":
            return _learn_sparse(X, scaling)
        if kind == "table":
            columns = tables.learn_columns(X, dtypes)
            array = tables.encode_table(columns, X)
            columns = tables.with_statistics(columns, array if weights is None else array[weights > 0])
            names = [c.name for c in columns]
            scaling = scaling_of_tables if scaling == "auto" else scaling
            start = cls("table", (len(columns),), "float64", _EMPTY, _EMPTY, names=names, table=columns)
        else:
            array = X
            start = _shape_of(array, layout)
        return _learn_dense(replace(start, n_rows=len(array)), array, scaling, missing, weights, fractions)

    @property
    def n_columns(self) -> int:
        """The number of columns of model space."""
        return len(self.offset)

    @property
    def channels_last(self) -> bool:
        """True if the channels are the last axis of a row, and the first one in model space."""
        return self.layout in ("nhwc", "ntc")

    @property
    def map_shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) of images, (channels, 1, steps) of series, None of other rows."""
        return layouts.map_shape(self.layout, self.row_shape)

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(channels, height, width) of images, None of other rows."""
        return None if self.is_series else self.map_shape

    @property
    def is_series(self) -> bool:
        """True if rows are series (steps, channels)."""
        return self.layout == "ntc"

    @property
    def description(self) -> str:
        """The layout in words, such as "series of 20 steps and 3 channels"."""
        return layouts.described(self.layout, self.row_shape)

    @property
    def n_conditions(self) -> int:
        """The number of inputs of encoder and decoder that are no columns of the rows."""
        return 0

    @property
    def columns(self) -> list[str]:
        """The column names of model space."""
        if self.table:
            return [name for column in self.table for name in column.model_names]
        if self.is_series:
            return [f"{channel}, step {step}" for channel in self.channels for step in range(self.row_shape[0])]
        return self.names or [f"x{i}" for i in range(self.n_columns)]

    @property
    def channels(self) -> list[str]:
        """The names of the channels of series."""
        return self.names or [f"channel {i}" for i in range(self.row_shape[-1])]

    @property
    def groups(self) -> list[dict[str, Any]] | None:
        """The model-space columns that have one likelihood, with their unit; None for other data than tables.

        A column of the user is one group, a date several.
        """
        if not self.table:
            return None
        groups = []
        for unit, place in tables.part_slices(self.table):
            group: dict[str, Any] = {"unit": unit, "columns": list(range(place.start, place.stop))}
            if unit == "count":
                group["scale"] = [float(scale) for scale in self.scale[place]]
                group["log_view"] = True
            groups.append(group)
        return groups

    @property
    def members(self) -> list[list[int]] | None:
        """The model-space columns of each column of a table; None for other data."""
        places = [list(range(place.start, place.stop)) for _, place in tables.column_slices(self.table)]
        return places or None

    def rows(self, X: Any, unknown: str = "missing") -> Rows:
        """Return the rows of `X` in model space, converted batch by batch.

        Values of a table that are none of the levels of their column are missing, with a warning; a model that refuses
        missing values reads them as the most frequent level. With `unknown="refuse"` they are an error.

        Raises:
            InputError: if columns or shape differ from the training data, or missing values are refused.
        """
        kind = input_type(X)
        if kind in _UNWANTED:
            raise InputError(_UNWANTED[kind])
        if kind == "table" and self.source != "table":
            X, kind = X.to_numpy(), "array"
        if kind != self.source and not {kind, self.source} <= {"array", "sparse"}:
            raise InputError(f"the model was fitted on {_SOURCES[self.source]}; found {_SOURCES[kind]}")
        affine = Affine(self.offset, self.scale)
        if kind == "text":
            return SparseRows(cast(Vocabulary, self.vocabulary).rows(list(X)), affine)
        if kind == "sparse":
            self._check_shape(tuple(X.shape[1:]))
            refuse_missing_values(X.data, None)
            matrix = X.tocsr()
            return SparseRows(matrix, affine)
        unseen = UnseenLevels(unknown, fills=self.fill is None)
        array = tables.encode_table(self.table, X, unseen) if kind == "table" else X
        if kind == "array":
            self._check_shape(tuple(array.shape[1:]))
            self._refuse_fractions(array)
        if self.fill is None:
            self.refuse_missing(array)
        fill = None if self.fill is None else self._scores(self.fill[None])[0]
        return DenseRows(self._scores(array), affine, channels_last=self.channels_last, fill=fill, masked=self.masked)

    def _scores(self, array: np.ndarray) -> np.ndarray:
        """Return rows of a table with normal scores in the columns that have a map; other rows are returned as is."""
        if not self.quantiles:
            return array
        array = array.copy()
        for column, of_column in self.quantiles.items():
            array[:, column] = of_column.scores(array[:, column])
        return array

    @property
    def inputs(self) -> Preprocessor:
        """The preprocessing of the rows that are encoded: this one, unless the model decodes a target."""
        return self

    @property
    def of_rows(self) -> Preprocessor:
        """The preprocessing of what is decoded, without conditions or inputs."""
        return Preprocessor(**self.arguments)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `Preprocessor`, with which subclasses take over what was learned."""
        return {f.name: getattr(self, f.name) for f in fields(Preprocessor)}

    def conditions(self, X: Any) -> Tensor | None:
        """Return the conditions of rows in model space; None of a model that takes none."""
        return None

    def compared(self, X: Any) -> Any:
        """Return the part of the user's rows that decoded rows are compared with, without columns that are left out."""
        return only_columns(X, [column.name for column in self.table])

    def compared_columns(self, X: Any) -> Any:
        """Return the rows of the user that samples are compared with: with their conditions, or the target."""
        return self.compared(X)

    @property
    def user_table(self) -> list[TableColumn]:
        """The columns of the user's table that samples have."""
        return self.table

    def refuse_missing(self, array: np.ndarray) -> None:
        """Raise an `InputError` for the first missing entry. For a table it names the user's column."""
        if self.table:
            first = [place.start for _, place in tables.column_slices(self.table)]
            refuse_missing(array[:, first], [column.name for column in self.table])
        elif self.is_series:
            refuse_missing(array, [f"{name}, step {i}" for i in range(self.row_shape[0]) for name in self.channels])
        else:
            refuse_missing(array, self.names)

    def _refuse_fractions(self, array: np.ndarray) -> None:
        """Raise for images of fractions or of booleans if the model was fitted on bytes: they are another unit.

        Resized fractions may be a little above 1.

        Raises:
            InputError: a floating-point array whose largest value is above 0 and at most 1.1; booleans.
        """
        if self.dtype != "uint8" or not bool((self.scale == BYTE_SCALE).all()) or array.dtype.kind not in "fb":
            return
        largest = float(np.nanmax(array)) if array.size else 0.0
        if 0 < largest <= 1.1:
            raise InputError(
                f"the model was fitted on bytes, 0 to 255, and the largest value of these rows is {largest:.3g}; give "
                "the bytes, such as 255 * X"
            )

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        if shape != self.row_shape:
            raise InputError(
                f"each row has shape {shape}, but the model was fitted on rows of shape {self.row_shape}; "
                "use the same columns or image size"
            )

    def raw_numbers(self, x: np.ndarray) -> np.ndarray:
        """Transform rows of model space (n, columns) to raw numbers of the same columns, float64."""
        raw = Affine(self.offset, self.scale).inverse(x)
        for column, of_column in self.quantiles.items():
            raw[:, column] = of_column.raw(raw[:, column])
        return raw

    def inverse_transform(self, x: np.ndarray) -> Any:
        """Transform rows of model space (n, columns) to the type and units of the training data."""
        raw = self.raw_numbers(x)
        if self.source == "table":
            return tables.decode_table(self.table, raw)
        raw = self.as_rows(raw)
        if self.dtype == "uint8":
            return np.clip(np.rint(raw), 0, 255).astype(np.uint8)
        return raw.astype(np.float64 if self.dtype == "float64" else np.float32)

    def as_rows(self, values: np.ndarray) -> np.ndarray:
        """Return values of the columns of model space, (n, columns), in the shape of the user's rows."""
        if self.channels_last:
            values = np.moveaxis(values.reshape(-1, *cast(tuple[int, ...], self.map_shape)), 1, -1)
        return values.reshape(-1, *self.row_shape)

    def as_columns(self, rows: np.ndarray) -> np.ndarray:
        """Return values in the shape of the user's rows by column of model space, the inverse of `as_rows`."""
        rows = np.moveaxis(rows, -1, 1) if self.channels_last else rows
        return rows.reshape(len(rows), -1)

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON-serialisable data for `from_file`."""
        arrays = {"offset": self.offset, "scale": self.scale} | ({} if self.fill is None else {"fill": self.fill})
        config = {
            "source": self.source, "row_shape": list(self.row_shape), "dtype": self.dtype, "masked": self.masked,
            "layout": self.layout, "names": self.names if not self.vocabulary else None,
            "table": tables.to_config(self.table),
            "vocabulary": self.vocabulary and self.vocabulary.to_config(),
            "constant": self.constant, "n_rows": self.n_rows,
        }  # fmt: skip
        knots, of_knots = quantiles.to_file(self.quantiles)
        return {name: torch.from_numpy(array) for name, array in arrays.items()} | knots, config | of_knots

    @classmethod
    def from_file(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> Preprocessor:
        """Build a preprocessor from the result of `to_file`."""
        settings, tensors = dict(config), dict(tensors)
        if "knots" in settings:
            settings["quantiles"] = quantiles.from_file(tensors.pop("knots"), settings.pop("knots"))
        if "layout" not in settings:
            settings["layout"] = layouts.layout_of_file(settings)
        settings = {name: value for name, value in settings.items() if name not in ("channels_last", "image_shape")}
        vocabulary = Vocabulary(**settings["vocabulary"]) if settings["vocabulary"] else None
        settings |= {
            "row_shape": tuple(settings["row_shape"]),
            "table": tables.from_config(settings["table"]),
            "vocabulary": vocabulary,
            "names": vocabulary.terms if vocabulary else settings["names"],
        }
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        return cls(**settings, **arrays)


_EMPTY = np.empty(0)
_UNWANTED = {
    "conditioned": "the rows have conditions, and the model takes none; give X.rows, or fit "
    "VariationalAutoencoder(condition=[...])",
    "paired": "the rows have targets, and the model was fitted without; give X.rows, or fit(X, target=...)",
}
_SOURCES = {"array": "an array", "table": "a table", "sparse": "a sparse matrix", "text": "texts"}


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name}={value!r} is not one of {', '.join(allowed)}")


def input_type(X: Any) -> str:
    """Return the type of `X`: "table", "sparse", "text", "array", "conditioned" or "paired"."""
    if isinstance(X, Conditioned | Paired):
        return "paired" if isinstance(X, Paired) else "conditioned"
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        return "table"
    if hasattr(X, "tocsr"):
        return "sparse"
    if hasattr(X, "texts"):
        return "text"
    return "array"


def only_columns(X: Any, names: Sequence[str]) -> Any:
    """Return a data frame without columns of other names; other rows, and all without names, as they are.

    Example:
        >>> import pandas as pd
        >>> list(only_columns(pd.DataFrame({"key": [7], "x": [0.5]}), ["x"]))
        ['x']
    """
    if not names or not hasattr(X, "columns"):
        return X
    known = set(names)
    kept = [name for name in X.columns if str(name) in known]
    return X if len(kept) == len(X.columns) else X[kept]


def n_rows_of(X: Any) -> int:
    """Return the number of rows."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def _shape_of(array: np.ndarray, layout: str) -> Preprocessor:
    """Return a preprocessor with the row shape, the layout and the data type, in the byte order of this machine."""
    shape = tuple(int(n) for n in array.shape[1:])
    dtype = str(array.dtype.newbyteorder("="))
    return Preprocessor("array", shape, dtype, _EMPTY, _EMPTY, layout=layouts.resolved(array, layout))


def _learn_sparse(X: Any, scaling: str) -> Preprocessor:
    """Learn from sparse rows. A column is divided by its largest magnitude and not centred, so zeros stay zeros."""
    if scaling == "standard":
        raise InputError("scaling='standard' would make sparse rows dense by centring; use 'auto' or 'none'")
    matrix = X.tocsr()
    refuse_missing_values(matrix.data, None)
    width = int(matrix.shape[1])
    largest = abs(matrix).max(axis=0).toarray().ravel().astype(np.float64)
    inside = matrix.nnz == 0 or (matrix.data.min() >= 0 and matrix.data.max() <= 1)
    scale = np.ones(width) if scaling == "none" or (scaling == "auto" and inside) else np.where(largest > 0, largest, 1)
    constant = np.flatnonzero(largest == 0).tolist()
    return Preprocessor("sparse", (width,), "float32", np.zeros(width), scale, constant=constant,
                        n_rows=int(matrix.shape[0]))  # fmt: skip


def _learn_dense(
    start: Preprocessor,
    array: np.ndarray,
    scaling: str,
    missing: str,
    weights: np.ndarray | None,
    fractions: str,
) -> Preprocessor:
    if start.fill is None and missing == "refuse":
        start.refuse_missing(array)
    if scaling == "quantile":
        scaling, start = "standard", replace(start, quantiles=_learn_maps(start, array, weights))
    read = flat_chunks(start._scores(array), start.channels_last)
    low, high, mean, std, all_finite = moments(read, weights)
    if scaling == "auto":
        scaling = _auto_scaling(start, low, high, fractions, lambda: are_binary(read, weights))
    offset, scale = _scaling(start, scaling, low, high, mean, std)
    constant = np.flatnonzero(_constant(start, low, high)).tolist()
    learned = replace(start, offset=offset, scale=scale, constant=constant)
    _warn_large_integers(learned, array, low, high)
    if missing == "refuse" or (all_finite and array.dtype.kind in "iub"):
        return learned
    fills = {
        "mean": lambda: moments(flat_chunks(array, start.channels_last), weights)[2] if start.quantiles else mean,
        "median": lambda: medians(array, start.channels_last, weights),
        "mask": lambda: _placeholders(learned, mean),
    }
    fill = fills[missing]()
    return replace(learned, fill=_valid_fill_values(start, fill), masked=missing == "mask")


def _placeholders(learned: Preprocessor, mean: np.ndarray) -> np.ndarray:
    """Return raw values that stand for missing entries: those of 0 in model space, and means of units without centre.

    0 is the mean of a centred column, but a value like any other of a count, of a binary column and of levels.
    """
    found: np.ndarray = learned.raw_numbers(np.zeros((1, len(learned.offset))))[0]
    for unit, place in tables.part_slices(learned.table):
        if unit != "real":
            found[place] = mean[place]
    return found


def _constant(start: Preprocessor, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return which columns are constant; of a column of a table that has several, all or none are."""
    constant = high <= low
    for _, place in tables.column_slices(start.table):
        constant[place] = constant[place].all()
    return constant


def _learn_maps(start: Preprocessor, array: np.ndarray, weights: np.ndarray | None) -> dict[int, QuantileMap]:
    """Return the map to normal scores of each real column of a table that is not constant."""
    units = [unit for column in start.table for unit in column.output_units]
    found = {i: QuantileMap.learned(array[:, i], weights) for i, unit in enumerate(units) if unit == "real"}
    return {i: of_column for i, of_column in found.items() if of_column is not None}


def _auto_scaling(
    start: Preprocessor, low: np.ndarray, high: np.ndarray, fractions: str, is_binary: Callable[[], bool]
) -> str:
    """Resolve "auto": bytes are divided by 255, and columns and channels are standardised.

    Images, and rows of zeros and ones, are unchanged if their values are in [0, 1]; `fractions` overrules. With "whole"
    all columns of flattened images are standardised together.
    """
    pictured = start.image_shape is not None
    # A matrix of small bytes contains counts or grades, not grey values.
    if start.dtype == "uint8" and not start.is_series and high.max(initial=0) > (1 if pictured else 127):
        return "whole" if fractions == "scale" else "bytes"
    if start.table or low.min(initial=0) < 0 or high.max(initial=0) > 1:
        return "standard"
    if fractions == "scale":
        return "whole" if start.layout == "flat" else "standard"
    kept = fractions == "keep" or pictured or start.layout == "flat"
    return "none" if kept or is_binary() else "standard"


def _scaling(
    start: Preprocessor, scaling: str, low: np.ndarray, high: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return offset and scale by column. Pixels of images share them, so that constant borders stay constant.

    Each channel of series, and of images of more than `layouts.MOST_CHANNELS`, has its own.
    """
    zeros, ones = np.zeros_like(mean), np.ones_like(mean)
    if scaling in ("none", "bytes"):
        return zeros, ones * BYTE_SCALE if scaling == "bytes" else ones
    if start.map_shape is not None:
        channels = start.map_shape[0]
        parts = channels if start.is_series or channels > layouts.MOST_CHANNELS else 1
        low, high, mean, std = _pooled(parts, low, high, mean, std)
    elif scaling == "whole":
        low, high, mean, std = _pooled(1, low, high, mean, std)
    offset, scale = (low, high - low) if scaling == "minmax" else (mean, std)
    offset, scale = offset.copy(), np.where((scale > 0) & np.isfinite(scale), scale, 1.0)
    units = [unit for column in start.table for unit in column.output_units]
    for i, unit in enumerate(units):
        if unit != "real":  # binary and categorical columns are unchanged; counts are divided by their deviation
            offset[i], scale[i] = 0.0, max(std[i], 1.0) if unit == "count" else 1.0
    return offset, scale


def _pooled(
    n_parts: int, low: np.ndarray, high: np.ndarray, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the statistics of columns pooled over each of `n_parts` parts of the same number of columns."""
    lows, highs, means, stds = (np.split(each, n_parts) for each in (low, high, mean, std))
    spreads = [np.sqrt((s**2).mean() + m.var()) for m, s in zip(means, stds, strict=True)]
    pooled = ([p.min() for p in lows], [p.max() for p in highs], [p.mean() for p in means], spreads)
    low, high, mean, std = (np.repeat(np.array(each, np.float64), len(mean) // n_parts) for each in pooled)
    return low, high, mean, std


def _valid_fill_values(start: Preprocessor, fill: np.ndarray) -> np.ndarray:
    """Round fill values to valid ones: the most frequent of two values or levels, or an integer count."""
    fill = fill.astype(np.float64).copy()
    for unit, place in tables.part_slices(start.table):
        if unit == "categorical":
            fill[place] = np.eye(place.stop - place.start)[int(fill[place].argmax())]
        elif unit in ("binary", "count"):
            fill[place] = np.rint(fill[place])
    return fill


def _warn_large_integers(learned: Preprocessor, array: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Warn of the first column of whole numbers that are too large for 64-bit floating point."""
    names = [column.name for column in learned.table if column.has_large_integers]
    if not learned.table and array.dtype.kind in "iu":
        large = np.flatnonzero(np.maximum(-low, high) > EXACT_INTEGERS)
        names = [learned.columns[i] for i in large[:1]]
    if names:
        option = shlex.quote(f"{names[0]}=id")
        warnings.warn(
            f"column {names[0]!r} has whole numbers above 2^53, which lose digits in 64-bit floating point; leave it "
            f"out if it is an identifier (dtypes={{{names[0]!r}: 'id'}}, --dtype {option})",
            InputWarning,
            stacklevel=2,
        )
