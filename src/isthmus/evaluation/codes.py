"""How much a simple classifier can read from a code, and how the units of a code behave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from isthmus.errors import InputError

FOLDS = 5
"""Folds of the cross-validation, and so the fewest rows a class must have to take part in it."""

NEIGHBOURS = 5
"""Rows that vote in `knn_accuracy`."""

MAX_PROBE_ROWS = 10_000
"""More rows are not looked at: the standard error of an accuracy is below 0.5% by then."""

MAX_PROBE_ENTRIES = 2**23
"""Rows times columns that are looked at: photographs in colour would take minutes otherwise."""

LOGIT_VARIANCE = 32.0
"""Prior variance of a logit of the linear probe. Shared out among the columns it makes the ridge penalty equally
strong for a code of 2 and an image of 784 columns; at 32 columns it is scikit-learn's default, C = 1."""

COLLAPSED_STD_RATIO = 1e-3
"""A unit whose spread is below this share of the widest unit's says nothing that the decoder could hear."""

ROUNDING = 1e-6
"""A spread below this share of a unit's mean is float32's rounding, not variation."""

Codes = Float[np.ndarray, "rows units"] | Float[Tensor, "rows units"]
Labels = Sequence[Any] | np.ndarray | Tensor
Classifier = Any
"""What has scikit-learn's `fit(X, y)` and `predict(X)`."""


def linear_probe_accuracy(
    codes: Codes,
    labels: Labels,
    test_codes: Codes | None = None,
    test_labels: Labels | None = None,
    random_state: int = 0,
) -> float:
    r"""Accuracy of multinomial logistic regression on standardised codes: how linearly the classes lie in them.

        p(c | h) = softmax(V h' + b)_c,   h' = (h - mean) / std,
        V, b minimise  - sum_rows log p(label | h) + n_columns / (2 * 32) ||V||^2

    The probe is fitted on `codes` and scored on `test_codes`; without these it is cross-validated in 5 stratified,
    shuffled folds, where classes of fewer than 5 rows are left out. At most 10,000 rows (and 2^23 numbers), drawn
    at random, are looked at on either side.

    Args:
        codes: (rows, units); anything in columns will do, raw pixels too.
        labels: the class of each row, (rows,): whole numbers or strings.
        test_codes: (test rows, units).
        test_labels: (test rows,).
        random_state: seed of the folds and of the rows drawn.

    Returns:
        The share of rows whose class is found, in [0, 1].

    Raises:
        InputError: labels of another length, missing, or that name no classes; values that are not finite; fewer
            than two classes that can be told apart.

    Source: Alain & Bengio, Understanding intermediate layers using linear classifier probes (2016).

    Example:
        >>> generator = np.random.default_rng(0)
        >>> labels = np.repeat(["left", "right"], 20)
        >>> codes = generator.normal(size=(40, 3)) + 10 * (labels == "left")[:, None]
        >>> linear_probe_accuracy(codes, labels)
        1.0
    """

    def probe(n_rows: int, n_columns: int) -> Classifier:
        # The tolerance costs a tenth of a percent of accuracy or two, and saves two thirds of the iterations.
        regression = LogisticRegression(C=LOGIT_VARIANCE / n_columns, tol=1e-3, max_iter=10_000)
        return make_pipeline(StandardScaler(), regression)

    return _accuracy(probe, np.float64, codes, labels, test_codes, test_labels, random_state)


def knn_accuracy(
    codes: Codes,
    labels: Labels,
    test_codes: Codes | None = None,
    test_labels: Labels | None = None,
    random_state: int = 0,
) -> float:
    """Accuracy of the vote of the 5 nearest rows, by Euclidean distance in the codes as they are.

    Not standardised, unlike the linear probe: how far apart rows lie is what a code says. Rows, folds, arguments
    and errors are those of `linear_probe_accuracy`.

    Source: Cover & Hart, Nearest neighbor pattern classification (1967).

    Example:
        >>> labels = np.repeat([0, 1], 10)
        >>> knn_accuracy(labels[:, None] + np.linspace(0, 0.1, 20)[:, None], labels)
        1.0
    """

    def neighbours_classifier(n_rows: int, n_columns: int) -> Classifier:
        return KNeighborsClassifier(min(NEIGHBOURS, n_rows), algorithm="brute")

    return _accuracy(neighbours_classifier, np.float32, codes, labels, test_codes, test_labels, random_state)


def probe_rows(n_rows: int, n_columns: int, random_state: int) -> Int[np.ndarray, " probed"]:
    """The numbers of the rows that a probe of so many columns looks at, in order: all, or as many as the limits let."""
    n_probed = min(n_rows, MAX_PROBE_ROWS, max(1, MAX_PROBE_ENTRIES // max(n_columns, 1)))
    if n_probed == n_rows:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(random_state).choice(n_rows, n_probed, replace=False))


def rare_classes(labels: Labels) -> list[str]:
    """The classes of fewer than 5 rows with their sizes, as text: cross-validation leaves them out.

    Example:
        >>> rare_classes(["a"] * 6 + ["b"] * 5 + ["c"])
        ["'c' (1 row)"]
    """
    classes, names = _classes(labels, len(labels), "labels")
    counts = np.bincount(classes, minlength=len(names))
    return [_sized(name, int(n)) for name, n in zip(names, counts, strict=True) if n < FOLDS]


def _accuracy(
    classifier_for: Callable[[int, int], Classifier],
    dtype: type[np.floating],
    codes: Codes,
    labels: Labels,
    test_codes: Codes | None,
    test_labels: Labels | None,
    random_state: int,
) -> float:
    """The share of right answers, on the test rows or in cross-validation."""
    if (test_codes is None) != (test_labels is None):
        raise InputError("give test_codes and test_labels together, or neither to cross-validate")
    x = _finite(codes, dtype, "codes")
    classes, names = _classes(labels, len(x), "labels")
    probed = probe_rows(len(x), x.shape[1], random_state)
    x, classes = x[probed], classes[probed]
    classifier = classifier_for(*x.shape)
    # One thread for BLAS: the products are small, and threads that wait for a busy core take fifteen times as long.
    with threadpool_limits(1, user_api="blas"):
        if test_codes is None or test_labels is None:
            return _cross_validated(classifier, x, classes, names, random_state)
        test = _finite(test_codes, dtype, "test_codes")
        if test.shape[1] != x.shape[1]:
            raise InputError(f"codes have {x.shape[1]} columns and test_codes {test.shape[1]}; encode both alike")
        known = {name: number for number, name in enumerate(names)}
        test_classes, test_names = _classes(test_labels, len(test), "test_labels", several=False)
        # A class that no training row has is an answer that cannot be found: it counts as missed.
        expected = np.array([known.get(name, -1) for name in test_names])[test_classes]
        probed = probe_rows(len(test), test.shape[1], random_state)
        if len(np.unique(classes)) < 2:
            raise InputError(f"every labelled row has class {names[classes[0]]!r}; a probe needs two classes")
        found = classifier.fit(x, classes).predict(test[probed])
        return float(np.mean(found == expected[probed]))


def _cross_validated(
    classifier: Classifier, x: np.ndarray, classes: np.ndarray, names: Sequence[Any], random_state: int
) -> float:
    """The share of rows whose class is found by the classifier that was fitted on the other folds."""
    counts = np.bincount(classes, minlength=len(names))
    if np.sum(counts >= FOLDS) < 2:
        sizes = ", ".join(_sized(name, int(n)) for name, n in list(zip(names, counts, strict=True))[:5])
        raise InputError(
            f"cross-validation needs two classes of at least {FOLDS} rows; found {sizes}"
            f"{', ...' if len(names) > 5 else ''}; label more rows, or give a test set"
        )
    enough = counts[classes] >= FOLDS
    x, classes = x[enough], classes[enough]
    right = 0
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=random_state).split(x, classes):
        right += int(np.sum(classifier.fit(x[train], classes[train]).predict(x[test]) == classes[test]))
    return right / len(x)


def _finite(codes: Codes, dtype: type[np.floating], what: str) -> np.ndarray:
    """The codes as a finite matrix of one type."""
    values = codes.detach().cpu().numpy() if isinstance(codes, Tensor) else np.asarray(codes)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"{what} must be (rows, units) with at least one of each; found shape {values.shape}")
    values = values.astype(dtype, copy=False)
    if not np.isfinite(values).all():
        row, unit = map(int, np.argwhere(~np.isfinite(values))[0])
        raise InputError(f"{what}: row {row}, unit {unit} is {values[row, unit]}; a probe needs finite numbers")
    return values


def _classes(
    labels: Labels, n_rows: int, what: str, several: bool = True
) -> tuple[Int[np.ndarray, " rows"], list[Any]]:
    """Each row's class by number, and the names of the classes."""
    values = label_array(labels)
    if values.shape != (n_rows,):
        found = f"{len(values)} labels" if values.ndim == 1 else f"labels of shape {values.shape}"
        raise InputError(f"{what}: {found} for {n_rows} rows; give one label a row, in the same order")
    several_of_one = next((i for i, value in enumerate(values) if isinstance(value, list | tuple | set)), None)
    if several_of_one is not None:
        raise InputError(
            f"{what}: the label of row {several_of_one} is {values[several_of_one]!r}; a probe takes one class a row"
        )
    classes, names = pd.factorize(values)
    if (classes < 0).any():
        row = int(np.flatnonzero(classes < 0)[0])
        raise InputError(f"{what}: row {row} has none; leave unlabelled rows out, or give them a class of their own")
    if several and len(names) > max(n_rows // 2, 1):
        raise InputError(
            f"{what}: {len(names)} different values in {n_rows} rows are names or measurements, not classes; "
            "give a column with few values"
        )
    # In an order of their own, so that a tied vote does not turn on which row comes first.
    order = np.array(sorted(range(len(names)), key=lambda i: str(names[i])), dtype=int)
    return np.argsort(order)[classes], [
        names[i].item() if isinstance(names[i], np.generic) else names[i] for i in order
    ]


def label_array(labels: Labels) -> np.ndarray:
    """The labels as an array in which what is missing stays missing."""
    if isinstance(labels, Tensor):
        return labels.detach().cpu().numpy()
    # NumPy would make the string "nan" of a NaN that stands among strings.
    return np.asarray(labels, dtype=object if isinstance(labels, list | tuple) else None)


def _sized(name: Any, n_rows: int) -> str:
    return f"{name!r} ({n_rows} row{'' if n_rows == 1 else 's'})"


@dataclass(frozen=True)
class UnitStatistics:
    """How each unit of a code behaves over some rows.

    Attributes:
        mean: (units,).
        std: (units,), with divisor n.
        activation_rate: the share of rows in which a unit is not exactly zero, (units,).
        dead: whether a unit was zero in every row, (units,).
        collapsed: whether a unit never varies: its std is below a thousandth of the widest unit's, or no more
            than float32's rounding of its mean, (units,). Dead units are collapsed too.
        n_rows: how many rows were looked at; a unit that fires more rarely than once in so many may look dead.
    """

    mean: Float[np.ndarray, " units"]
    std: Float[np.ndarray, " units"]
    activation_rate: Float[np.ndarray, " units"]
    dead: Bool[np.ndarray, " units"]
    collapsed: Bool[np.ndarray, " units"]
    n_rows: int


def unit_statistics(codes: Codes) -> UnitStatistics:
    """Mean, spread and activity of each unit of a code, (rows, units).

    Raises:
        InputError: no matrix, no rows, values that are not finite.

    Example:
        >>> found = unit_statistics(np.array([[0.0, 1.0, 5.0], [0.0, 3.0, 5.0]]))
        >>> found.dead.tolist(), found.collapsed.tolist()
        ([True, False, False], [True, False, True])
    """
    values = _finite(codes, np.float64, "codes")
    mean, std = values.mean(0), values.std(0)
    rate = (values != 0).mean(0)
    quiet = (std < COLLAPSED_STD_RATIO * std.max()) | (std <= ROUNDING * np.abs(mean))
    # One row alone shows no variation, which says nothing.
    collapsed = quiet if len(values) > 1 else np.zeros_like(quiet)
    return UnitStatistics(mean, std, rate, rate == 0, collapsed, len(values))


def covariance_eigenvalues(codes: Float[np.ndarray, "rows code_size"]) -> Float[np.ndarray, " code_size"]:
    """Eigenvalues of the covariance of the codes, the largest first, none below zero; divisor n - 1.

    Example:
        >>> covariance_eigenvalues(np.array([[1.0, 0.0], [-1.0, 0.0]])).tolist()
        [2.0, 0.0]
    """
    codes = np.asarray(codes, np.float64)
    centred = codes - codes.mean(0)
    scatter = centred.T @ centred / max(1, len(codes) - 1)
    return np.clip(np.linalg.eigvalsh(scatter)[::-1], 0, None)
