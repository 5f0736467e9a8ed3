"""Validation and encoding of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from isthmus.data.streams import LabelledRows
from isthmus.errors import InputError
from isthmus.learning.rows import Rows
from isthmus.parts.forward import UNLABELLED


@dataclass(frozen=True)
class ClassLabels:
    """Labels that are encoded already.

    Attributes:
        numbers: the number of the class of each row, `UNLABELLED` for a row without label, (n,).
        classes: the classes, sorted.
    """

    numbers: Int[Tensor, " n"]
    classes: np.ndarray

    @classmethod
    def from_values(cls, y: np.ndarray, classes: np.ndarray | None = None, unlabeled: Any = None) -> ClassLabels:
        """Encode labels.

        Args:
            y: labels as the user has them, (n,).
            classes: the classes that may occur; None takes those of y.
            unlabeled: the label of rows without one; None if there is no such label.

        Raises:
            InputError: labels that are not classes, a missing one, or a class that is not among `classes`.

        Example:
            >>> ClassLabels.from_values(np.array(["b", "?", "a"]), unlabeled="?").numbers
            tensor([ 1, -1,  0])
        """
        classes = classes_of(y, unlabeled) if classes is None else classes
        return cls(torch.from_numpy(encode_classes(y, classes, unlabeled)), classes)


def labelled(rows: Rows, labels: ClassLabels | None) -> Rows:
    """Return the rows with their labels, if there are any."""
    return rows if labels is None else LabelledRows(rows, labels.numbers)


def validate_labels(estimator: Any, y: Any, n_rows: int) -> np.ndarray:
    """Return the labels as an array, one per row.

    Raises:
        InputError: no labels, or another length.

    Example:
        >>> validate_labels(None, ["cat", "dog"], 3)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: X has 3 rows and y has 2 labels; give one label per row
    """
    if y is None:
        name = type(estimator).__name__
        raise InputError(f"{name} requires y to be passed, but the target y is None; give one label per row")
    labels = np.asarray(y)
    if labels.dtype.kind in "US" and not all(isinstance(label, str) for label in y):
        labels = np.asarray(y, dtype=object)  # NumPy turns NaN and numbers among strings into strings
    if labels.ndim == 0 or len(labels) != n_rows:
        found = "one value" if labels.ndim == 0 else f"{len(labels)} labels"
        raise InputError(f"X has {n_rows} rows and y has {found}; give one label per row")
    return labels


def labelled_mask(y: np.ndarray, unlabeled: Any) -> Bool[np.ndarray, " n"]:
    """Return the mask of the rows that have a label, (n,).

    Args:
        y: labels, (n,) or (n, outputs).
        unlabeled: the label of rows without one, possibly NaN; None if there is no such label.

    Raises:
        InputError: a missing or infinite label other than `unlabeled`; no row with a label.

    Example:
        >>> labelled_mask(np.array([3, -1, 4]), -1), labelled_mask(np.array([0.5, np.nan]), float("nan"))
        (array([ True, False,  True]), array([ True, False]))
    """
    missing = _missing(y)
    none = np.zeros(len(y), bool)
    if unlabeled is not None:
        none = _by_row(pd.isna(y) if pd.isna(unlabeled) else y == unlabeled)
    odd = np.flatnonzero(missing & ~none)
    if len(odd):
        advice = "leave the row out, or name the label of rows without one: unlabeled= (--unlabeled)"
        raise _unlearnable(y, odd[0], advice)
    if none.all():
        raise InputError(f"every label is unlabeled={unlabeled!r}; give some rows a label")
    return ~none


def refuse_missing(y: np.ndarray) -> None:
    """Refuse missing labels.

    Raises:
        InputError: a missing or infinite label, with its row.
    """
    missing = np.flatnonzero(_missing(y))
    if len(missing):
        raise _unlearnable(y, missing[0], "leave the row out")


def _missing(y: np.ndarray) -> Bool[np.ndarray, " n"]:
    return _by_row(~np.isfinite(y) if y.dtype.kind == "f" else pd.isna(y))


def _unlearnable(y: np.ndarray, row: int, advice: str) -> InputError:
    return InputError(f"y holds {y[row]} at row {row}; a label must not be NaN, infinite or missing; {advice}")


def _by_row(entries: Any) -> Bool[np.ndarray, " n"]:
    """Return whether any entry of a row is true."""
    return np.asarray(np.asarray(entries, bool).reshape(len(entries), -1).any(1))


def classes_of(y: np.ndarray, unlabeled: Any) -> np.ndarray:
    """Return the classes among the labels, sorted.

    Raises:
        InputError: labels of several columns, continuous ones, or of types that cannot be sorted; one class only.

    Example:
        >>> classes_of(np.array(["dog", "cat", "dog"]), None)
        array(['cat', 'dog'], dtype='<U3')
    """
    rows = labelled_mask(y, unlabeled)
    try:
        y = column_or_1d(y, warn=True)
        check_classification_targets(y[rows])
        classes = np.unique(y[rows])
    except (ValueError, TypeError) as error:
        raise InputError(" ".join(str(error).split())) from None
    if len(classes) < 2:
        raise InputError(f"y holds one class only ({classes[0]}); learning from classes needs at least two")
    return classes


def encode_classes(y: np.ndarray, classes: np.ndarray, unlabeled: Any) -> Int[np.ndarray, " n"]:
    """Return the number of the class of each row, `UNLABELLED` for a row without label.

    Raises:
        InputError: a class that is not among `classes`.

    Example:
        >>> encode_classes(np.array(["b", "?", "a"]), np.array(["a", "b"]), "?")
        array([ 1, -1,  0])
    """
    rows = labelled_mask(y, unlabeled)
    labels = np.ravel(y)
    check_known_classes(labels[rows], classes)
    numbers = np.full(len(labels), UNLABELLED, np.int64)
    numbers[rows] = np.searchsorted(classes, labels[rows])
    return numbers


def check_known_classes(labels: np.ndarray, classes: np.ndarray) -> None:
    """Refuse a label that is not one of the classes.

    Raises:
        InputError: with the label and the classes.
    """
    unseen = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
    if unseen:
        more = f" and {len(classes) - 8} more" if len(classes) > 8 else ""
        listed = ", ".join(map(str, classes[:8].tolist()))
        raise InputError(
            f"y holds the class {unseen[0]!r}, which is not one of the training classes ({listed}{more}); "
            "leave its rows out, or fit with some of them"
        )
