"""Movement through the code: interpolation, traversal of a unit, and shifts along a direction, decoded to rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted, column_or_1d

from isthmus.data.preprocessing import n_rows_of
from isthmus.errors import InputError
from isthmus.estimators.conditions import Conditions, conditions_between
from isthmus.estimators.inputs import check_dense_size
from isthmus.estimators.labels import refuse_missing, validate_labels
from isthmus.geometry.paths import check_steps, mean_difference, path_between, shifted, unit_path, unit_range

FEWER_ROWS = "take fewer rows or steps at a time"
"""Advice if decoded rows are too large."""


class CodePathsMixin:
    """Mixin of the methods that change codes and decode them; units are numbered as the columns of `transform(X)`.

    Of a conditional model, each row keeps its condition, and that of an interpolation changes linearly from row to row.
    Decoded rows are those of `inverse_transform`: means of p_dec(x | h) in the units and the shape of X; word counts
    (likelihood multinomial) decode to probabilities, because the number of words is not a part of the code. Rows on a
    path are ordered row by row (or pair by pair), and within a row by step; a data frame of them counts its rows from
    0. A path between codes need not stay among the codes of rows, so not every decoding resembles a row:
    `isthmus.geometry.paths` measures this.
    """

    code_size_: int
    preprocessing_: Any
    _conditions: Callable[[Any], Conditions]

    def interpolate(
        self, A: Any, B: Any, n: int = 10, *, method: str = "linear", return_codes: bool = False
    ) -> Any | tuple[Any, Float[np.ndarray, "decoded code_size"]]:
        r"""Return decodings of n codes from the code of each row of A to the code of the same row of B, ends included.

            linear     h_t = (1 - t) f(a) + t f(b),   t = 0, 1/(n-1), ..., 1
            spherical  the direction of h_t moves on the great circle, its length linearly

        Spherical interpolation keeps the lengths of codes that have about equal lengths, as of a Gaussian in many
        units. Parallel codes and zero codes are interpolated linearly.

        Args:
            A, B: rows, one each or equally many; a single row has the shape of X[:1].
            n: number of steps.
            method: "linear" or "spherical".
            return_codes: return the codes too.

        Returns:
            Decoded rows, (pairs * n, ...), pair by pair; with `return_codes` also their codes,
            (pairs * n, code_size), float32.

        Raises:
            InputError: A and B have different numbers of rows; n below 2; an unknown method; codes of opposite
                directions with "spherical".

        Source: Shoemake, Animating rotation with quaternion curves (1985); White, Sampling generative networks (2016).

        Example:
            >>> from isthmus import LinearAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(40, 6))
            >>> model = LinearAutoencoder(code_size=3, max_epochs=1, random_state=0).fit(X)
            >>> path = model.interpolate(X[:2], X[2:4], n=5)
            >>> path.shape, bool(np.allclose(path[[0, 5]], model.reconstruct(X[:2])))
            ((10, 6), True)
        """
        check_is_fitted(self)
        check_steps(n)
        codes = path_between(self._all_codes(A), self._all_codes(B), n, method).reshape(-1, self.code_size_)
        decoded = self._rows_of_codes(codes, conditions_between(self._conditions(A), self._conditions(B), n))
        return (decoded, codes) if return_codes else decoded

    def traverse(self, X: Any, unit: int, n: int = 10, *, low: float | None = None, high: float | None = None) -> Any:
        """Return decodings of the code of each row with one unit set to n values, and the other units unchanged.

        The values are equally spaced from `low` to `high`: by default from the 1% to the 99% quantile of the unit over
        the rows of X, or from its smallest to its largest value if these quantiles are equal. For one row give both.

        Args:
            X: rows.
            unit: number of the unit, from 0: the column of `transform(X)`.
            n: number of steps.
            low, high: ends of the range, in units of the code.

        Returns:
            Decoded rows, (rows * n, ...), row by row.

        Raises:
            InputError: a unit that the code does not have; n below 2; one row without `low` and `high`; a unit that has
                the same value in all rows; low not below high.

        Example:
            >>> from isthmus import LinearAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(40, 6))
            >>> model = LinearAutoencoder(code_size=3, max_epochs=1, random_state=0).fit(X)
            >>> model.traverse(X, unit=1, n=5).shape, model.traverse(X[:1], unit=1, low=-2, high=2).shape
            ((200, 6), (10, 6))
        """
        check_is_fitted(self)
        self._check_unit(unit)  # type: ignore[attr-defined]
        check_steps(n)
        codes = self._all_codes(X)
        values = np.linspace(*unit_range(codes[:, unit], int(unit), low, high), int(n))
        return self._rows_of_codes(unit_path(codes, int(unit), values), self._conditions(X))

    def attribute_direction(self, X: Any, y: ArrayLike) -> Float[np.ndarray, " code_size"]:
        """Return the direction of an attribute: the mean code of rows that have it minus that of the others.

            d = mean of f(x) where y is true - mean of f(x) where y is false

        Attributes that occur together, as smiling and being a woman in a set of faces, have similar directions; balance
        the rows to separate them.

        Args:
            X: rows.
            y: True or False for each row, or one of two classes, of which the larger in sorted order counts as true.

        Returns:
            (code_size,), float32; for `shift`.

        Raises:
            InputError: labels of another length, missing ones, or not exactly two classes.

        Source: White, Sampling generative networks (2016), section 3.

        Example:
            >>> from isthmus import LinearAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(40, 6))
            >>> model = LinearAutoencoder(code_size=3, max_epochs=1, random_state=0).fit(X)
            >>> model.attribute_direction(X, X[:, 0] > 0).shape
            (3,)
        """
        check_is_fitted(self)
        is_true = _is_true(validate_labels(self, y, n_rows_of(_rows_of(X))))
        return mean_difference(self._all_codes(X), is_true).astype(np.float32)

    def shift(self, X: Any, direction: ArrayLike, amount: float | ArrayLike = 1.0) -> Any:
        """Return decodings of the codes of X, shifted by a multiple of a direction.

            decoding of f(x) + amount * direction

        With the direction of an attribute, amount 1 adds it and -1 removes it (White's smile vector).

        Args:
            X: rows.
            direction: (code_size,), as of `attribute_direction`.
            amount: a number, or several, (amounts,).

        Returns:
            Decoded rows, (rows, ...); with several amounts (rows * amounts, ...), row by row.

        Raises:
            InputError: a direction of another size; a direction or an amount that is not finite.

        Source: White, Sampling generative networks (2016), section 3.

        Example:
            >>> from isthmus import LinearAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(40, 6))
            >>> model = LinearAutoencoder(code_size=3, max_epochs=1, random_state=0).fit(X)
            >>> direction = model.attribute_direction(X, X[:, 0] > 0)
            >>> model.shift(X, direction).shape, model.shift(X, direction, [-1, 0, 1]).shape
            ((40, 6), (120, 6))
        """
        check_is_fitted(self)
        vector = _finite_vector("direction", direction)
        if len(vector) != self.code_size_:
            raise InputError(
                f"direction has {len(vector)} entries; the code has {self.code_size_} units; give one for each"
            )
        amounts = _finite_vector("amount", np.atleast_1d(np.asarray(amount)))
        return self._rows_of_codes(shifted(self._all_codes(X), vector, amounts), self._conditions(X))

    def _all_codes(self, X: Any) -> Float[np.ndarray, "rows code_size"]:
        """Return the codes of all rows; `transform` may return a data frame instead."""
        blocks = [block.numpy() for block in self._codes(X)]  # type: ignore[attr-defined]
        if not blocks:
            raise InputError("there are no rows; give at least one")
        return np.concatenate(blocks)

    def _rows_of_codes(self, codes: Float[np.ndarray, "*shape code_size"], conditions: Conditions) -> Any:
        """Decode codes to rows in the units of X; sparse rows and texts only up to the size of `reconstruct`.

        Several codes in a row share a condition if there are fewer conditions than codes.
        """
        flat = np.ascontiguousarray(codes.reshape(-1, self.code_size_), np.float32)
        check_dense_size(self.preprocessing_, len(flat), FEWER_ROWS)
        if conditions is not None:
            conditions = conditions.repeat_interleave(len(flat) // len(conditions), 0)
        return self._decoded(flat, conditions)  # type: ignore[attr-defined]


def _rows_of(X: Any) -> Any:
    """Return the rows of a data set of `isthmus.data.open`, else X."""
    return X.X if hasattr(X, "X") and hasattr(X, "row_names") else X


def _is_true(y: np.ndarray) -> Bool[np.ndarray, " rows"]:
    """Return whether each label is the larger of the two classes.

    Raises:
        InputError: missing labels, several columns, or not exactly two classes.

    Example:
        >>> _is_true(np.array(["no", "yes", "no"])).tolist()
        [False, True, False]
    """
    refuse_missing(y)
    try:
        labels = column_or_1d(y)
        classes = np.unique(labels)
    except (ValueError, TypeError) as error:
        raise InputError(f"y: {' '.join(str(error).split())}; give True or False for each row") from None
    if len(classes) != 2:
        found = f"one class only ({classes[0]})" if len(classes) == 1 else f"{len(classes)} classes"
        raise InputError(f"y holds {found}; a direction needs two; give y as True and False, such as y == VALUE")
    return np.asarray(labels == classes[1], bool)


def _finite_vector(name: str, values: ArrayLike) -> Float[np.ndarray, " entries"]:
    """Return finite numbers as a vector, float64.

    Raises:
        InputError: values that are not numbers or not finite, none, or several dimensions.
    """
    try:
        vector = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} holds values that are not numbers") from None
    if vector.ndim != 1 or not len(vector):
        raise InputError(f"{name} has the shape {vector.shape}; give a list of numbers")
    if not np.isfinite(vector).all():
        at = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise InputError(f"{name} is {vector[at]} at entry {at}; it must be finite")
    return vector
