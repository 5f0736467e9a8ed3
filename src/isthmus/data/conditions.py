"""Conditions: columns that encoder and decoder get as inputs and that are not reconstructed, such as a class."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from isthmus.data import tables
from isthmus.data.column_units import MAX_LEVELS
from isthmus.data.dataset import Conditioned
from isthmus.data.messages import hint
from isthmus.data.preprocessing import Preprocessor, input_type, only_columns
from isthmus.data.table_columns import TableColumn
from isthmus.errors import InputError, InputWarning
from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.parts.forward import Batch

MAX_EXAMPLES = 1000
"""Largest number of training rows whose conditions a model keeps, evenly spaced, for samples without given ones."""

CONDITION_DTYPES = ("real", "count", "binary", "category")
"""Types that a condition may have, of those of `isthmus.data.dtypes`."""


@dataclass(frozen=True)
class ConditionalPreprocessor(Preprocessor):
    """Preprocessing of rows with conditions: `rows` gives batches with `condition`, (batch, n_conditions).

    Whole numbers with at most `MAX_LEVELS` values are categories, like strings: a condition is more often a
    class than an amount. Categories are one column per level, other numbers are standardised.

    Attributes:
        condition: preprocessing of the table of the conditions.
        order: all columns of the user's table, conditions included, in its order; empty for other rows.
        examples: conditions of training rows, in model space, (examples, n_conditions).
    """

    condition: Preprocessor = field(kw_only=True)
    order: list[str] = field(kw_only=True)
    examples: np.ndarray = field(kw_only=True)

    @property
    def n_conditions(self) -> int:
        """The number of columns of the conditions in model space."""
        return self.condition.n_columns

    @property
    def condition_names(self) -> list[str]:
        """The names of the conditions."""
        return [column.name for column in self.condition.table]

    def rows(self, X: Any, unknown: str = "missing") -> Rows:
        """Return the rows of `X` with their conditions, in model space, converted batch by batch.

        Raises:
            InputError: as `Preprocessor.rows`; a condition is missing, or has a value that it did not have before.
        """
        rows = split_conditions(X, self.condition_names)[0]
        return ConditionedRows(super().rows(rows, unknown), self.conditions(X))

    def conditions(self, X: Any) -> Float[Tensor, "n n_conditions"]:
        """Return the conditions of rows in model space."""
        return torch.from_numpy(self.encode(split_conditions(X, self.condition_names)[1]))

    def compared(self, X: Any) -> Any:
        """Return rows of the user without their conditions; rows that carry none are returned as they are."""
        carries = isinstance(X, Conditioned) or hasattr(X, "columns")
        return super().compared(split_conditions(X, self.condition_names)[0] if carries else X)

    def compared_columns(self, X: Any) -> Any:
        """Return the rows of the user; of `Conditioned` rows those without their conditions."""
        return X.rows if isinstance(X, Conditioned) else only_columns(X, self.order)

    @property
    def user_table(self) -> list[TableColumn]:
        """The columns of the user's table, conditions included, in its order."""
        known = {column.name: column for column in (*self.table, *self.condition.table)}
        return [known[name] for name in self.order]

    def encode(self, conditions: pd.DataFrame) -> Float[np.ndarray, "n n_conditions"]:
        """Return the conditions in model space.

        Raises:
            InputError: other columns, a missing value, a value of another type, or an unseen level.
        """
        _check_names(conditions.columns, self.condition_names)
        _refuse_missing(conditions)
        rows = self.condition.rows(conditions, "refuse")
        return rows.batch(torch.arange(len(rows))).x.numpy()

    def given(self, conditions: Any, n: int) -> Float[np.ndarray, "n n_conditions"]:
        """Return conditions that a user gives for n rows, in model space.

        Args:
            conditions: {name: one value, or n values}, or a data frame with one row or n rows.
            n: number of rows.

        Raises:
            InputError: conditions of another form or number, and as `encode`.
        """
        if not isinstance(conditions, Mapping) and not hasattr(conditions, "iloc"):
            raise InputError(f"condition={conditions!r}: give {{name: value}}, or a data frame, of {self._listed}")
        columns = {str(name): _spread(str(name), conditions[name], n) for name in conditions}
        _check_names(columns, self.condition_names)
        table = pd.DataFrame(columns)
        encoded = self.encode(table)
        self._warn_outside(table)
        return encoded

    def _warn_outside(self, conditions: pd.DataFrame) -> None:
        """Warn of the first number outside the range of the training rows."""
        for column in self.condition.table:
            if column.low is None or column.high is None:
                continue
            values = pd.to_numeric(conditions[column.name]).to_numpy(np.float64)
            outside = values[(values < column.low) | (values > column.high)]
            if len(outside):
                warnings.warn(
                    f"condition {column.name}={outside[0]:g} is outside the range of the training rows, "
                    f"{column.low:g} to {column.high:g}",
                    InputWarning,
                    stacklevel=4,
                )
                return

    def parsed(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Return values that are given as text, such as {"digit": "3"}, in the types of the training data.

        Raises:
            InputError: another name than that of a condition, an unknown level, text that is not a number.
        """
        _check_names(texts, self.condition_names)
        return {column.name: _parsed(column, texts[column.name]) for column in self.condition.table}

    def drawn(self, n: int, generator: torch.Generator) -> Float[np.ndarray, "n n_conditions"]:
        """Return conditions of n training rows, sampled with replacement."""
        chosen = torch.randint(len(self.examples), (n,), generator=generator)
        return np.asarray(self.examples[chosen.numpy()], np.float32)

    def with_columns(self, rows: Any, conditions: Float[np.ndarray, "n n_conditions"]) -> Any:
        """Return the rows of a table with the columns of their conditions, in the order of the training table.

        Other rows are returned as they are.
        """
        if not self.order:
            return rows
        decoded = tables.rounded(self.condition.inverse_transform(conditions), self.condition.table)
        decoded = decoded.set_axis(rows.index)
        return pd.concat([rows, decoded], axis=1)[self.order]

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON-serialisable data for `isthmus.data.targets.preprocessor_from_file`."""
        tensors, config = super().to_file()
        own, own_config = self.condition.to_file()
        tensors |= {f"condition.{name}": tensor for name, tensor in own.items()}
        tensors["condition_examples"] = torch.from_numpy(self.examples)
        return tensors, config | {"condition": {"config": own_config, "order": self.order}}

    @property
    def _listed(self) -> str:
        return ", ".join(self.condition_names)


class ConditionedRows:
    """Rows with conditions.

    Args:
        rows: the rows.
        conditions: (n, n_conditions), in model space.
    """

    def __init__(self, rows: Rows, conditions: Float[Tensor, "n n_conditions"]) -> None:
        self.rows, self.conditions = rows, conditions
        self.n_columns = rows.n_columns

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index` with their conditions."""
        return replace(self.rows.batch(index), condition=self.conditions[index])


def learn_preprocessing(X: Any, condition: Sequence[str] = (), **options: Any) -> Preprocessor:
    """Learn the preprocessing of rows, and of their conditions if there are any.

    Args:
        X: rows; a table with the columns `condition`, or `Conditioned` rows.
        condition: names of the conditions.
        options: of `Preprocessor.from_data`.

    Raises:
        InputError: as `Preprocessor.from_data`; a condition that the rows do not have, or whose value is missing.

    Example:
        >>> X = pd.DataFrame({"height": [1.5, 1.8, 1.7], "group": ["a", "b", "a"]})
        >>> learned = learn_preprocessing(X, ["group"])
        >>> learned.columns, learned.condition.columns, learned.rows(X).batch(torch.tensor([1])).condition
        (['height'], ['group'], tensor([[1.]]))
    """
    if not condition:
        return Preprocessor.from_data(X, **options)
    rows, conditions = split_conditions(X, condition)
    of_rows, of_conditions = _divided(options, conditions)
    learned, own = Preprocessor.from_data(rows, **of_rows), Preprocessor.from_data(conditions, **of_conditions)
    order = [str(name) for name in X.columns] if input_type(X) == "table" else []
    made = ConditionalPreprocessor(
        **learned.arguments,
        condition=own, order=order, examples=np.empty((0, own.n_columns), np.float32),
    )  # fmt: skip
    kept = conditions.iloc[evenly_spaced(len(conditions), MAX_EXAMPLES).numpy()]
    return replace(made, examples=made.encode(kept))


def conditional_from_file(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Preprocessor:
    """Build a preprocessor, with or without conditions, from the result of `to_file`."""
    own = config.get("condition")
    if own is None:
        return Preprocessor.from_file(dict(tensors), dict(config))
    of_rows = {name: tensor for name, tensor in tensors.items() if not name.startswith("condition")}
    start = "condition."
    of_conditions = {name.removeprefix(start): each for name, each in tensors.items() if name.startswith(start)}
    learned = Preprocessor.from_file(of_rows, {name: each for name, each in config.items() if name != "condition"})
    return ConditionalPreprocessor(
        **learned.arguments,
        condition=Preprocessor.from_file(of_conditions, own["config"]), order=own["order"],
        examples=tensors["condition_examples"].numpy(),
    )  # fmt: skip


def split_conditions(X: Any, names: Sequence[str]) -> tuple[Any, pd.DataFrame]:
    """Return the rows without conditions, and the table of the conditions.

    Raises:
        InputError: rows without the conditions; no other column is left.

    Example:
        >>> rows, conditions = split_conditions(Conditioned(np.eye(2), {"digit": [3, 5]}), ["digit"])
        >>> rows.shape, conditions["digit"].tolist()
        ((2, 2), [3, 5])
    """
    if isinstance(X, Conditioned):
        _check_names(X.conditions.columns, names)
        return X.rows, X.conditions[list(names)]
    if input_type(X) != "table":
        raise InputError(
            f"condition={list(names)!r} names columns, and the rows are not a table; give a data frame with these "
            f"columns, or isthmus.data.Conditioned(X, {{{names[0]!r}: values}})"
        )
    X = X.set_axis([str(name) for name in X.columns], axis=1)
    for name in names:
        if name not in X.columns:
            raise InputError(f"condition {name!r}: the table has no such column; {hint(name, list(X.columns))}")
    if len(names) == len(X.columns):
        raise InputError(f"condition={list(names)!r}: no other column is left to be reconstructed")
    return X.drop(columns=list(names)), X[list(names)]


def _divided(options: Mapping[str, Any], conditions: pd.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the preprocessing of the rows, and those of the conditions."""
    dtypes = dict(options.get("dtypes") or {})
    names = [str(name) for name in conditions.columns]
    of_rows = {**options, "dtypes": {name: dtype for name, dtype in dtypes.items() if name not in names} or None}
    _refuse_missing(conditions)
    given = {name: dtype for name, dtype in dtypes.items() if name in names}
    for name, dtype in given.items():
        if dtype not in CONDITION_DTYPES:
            raise InputError(
                f"condition {name!r}: dtype {dtype!r} is not one of a condition; choose {', '.join(CONDITION_DTYPES)}"
            )
    classes = {name: "category" for name in names if _are_classes(conditions[name])}
    return of_rows, {"scaling": "standard", "dtypes": classes | given, "weights": options.get("weights")}


def _are_classes(values: pd.Series) -> bool:
    """Return whether whole numbers have so few values that they stand for classes."""
    return pd.api.types.is_integer_dtype(values) and values.nunique() <= MAX_LEVELS


def _check_names(found: Iterable[Any], expected: Sequence[str]) -> None:
    """Refuse other names than those of the conditions.

    Example:
        >>> _check_names(["digits"], ["digit"])
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: condition: no value for 'digit', and 'digits' is not a condition; give digit
    """
    names = [str(name) for name in found]
    missing = [name for name in expected if name not in names]
    unknown = [name for name in names if name not in expected]
    if missing or unknown:
        parts = [f"no value for {', '.join(map(repr, missing))}"] if missing else []
        parts += [f"{', '.join(map(repr, unknown))} is not a condition"] if unknown else []
        raise InputError(f"condition: {', and '.join(parts)}; give {', '.join(expected)}")


def _refuse_missing(conditions: pd.DataFrame) -> None:
    """Refuse a condition without a value."""
    for name in conditions.columns:
        missing = np.flatnonzero(conditions[name].isna().to_numpy())
        if len(missing):
            raise InputError(
                f"condition {str(name)!r} has no value at row {missing[0]}; give it one, or leave the row out"
            )


def _spread(name: str, values: Any, n: int) -> Any:
    """Return n values; one value is repeated.

    Raises:
        InputError: another number of values.
    """
    if isinstance(values, str) or not hasattr(values, "__len__"):
        return pd.Series([values] * n)
    found = pd.Series(values).reset_index(drop=True)
    if len(found) not in (1, n):
        raise InputError(f"condition {name!r} has {len(found)} values for {n} rows; give one, or one for each row")
    return found if len(found) == n else found.repeat(n).reset_index(drop=True)


def _parsed(column: TableColumn, text: str) -> Any:
    """Return the value of a text: the level of that name, or a number."""
    if column.levels:
        found = [level for level in column.levels if str(level) == text]
        if not found:
            levels = ", ".join(map(str, column.levels[:10])) + (", ..." if len(column.levels) > 10 else "")
            raise InputError(f"condition {column.name}={text}: it was one of {levels} in training")
        return found[0]
    try:
        return float(text)
    except ValueError:
        raise InputError(f"condition {column.name}={text}: it must be a number") from None
