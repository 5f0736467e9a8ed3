"""Accuracy of simple classifiers on codes, and statistics of the units of a code."""

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
"""Number of folds of the cross-validation, and therefore the smallest number of rows of a class."""

NEIGHBOURS = 5
"""Number of neighbours in `knn_accuracy`."""

MAX_PROBE_ROWS = 10_000
"""Largest number of rows of a probe: the standard error of an accuracy is then below 0.5%."""

MAX_PROBE_ENTRIES = 2**23
"""Largest number of entries (rows times columns) of a probe: colour photographs would otherwise take minutes."""

LOGIT_VARIANCE = 32.0
"""Prior variance of a logit of the linear probe. It is divided by the number of columns, so that the ridge penalty is
equally strong for 2 and for 784 columns; with 32 columns it equals scikit-learn's default, C = 1."""

COLLAPSED_STD_RATIO = 1e-3
"""A unit has collapsed if its standard deviation is below this fraction of the largest one of the code."""

ROUNDING = 1e-6
"""A standard deviation below this fraction of the unit's mean is a rounding error of float32."""

Codes = Float[np.ndarray, "rows units"] | Float[Tensor, "rows units"]
Labels = Sequence[Any] | np.ndarray | Tensor
Classifier = Any
"""An object with scikit-learn's `fit(X, y)` and `predict(X)`."""


def linear_probe_accuracy(
    codes: Codes,
    labels: Labels,
    test_codes: Codes | None = None,
    test_labels: Labels | None = None,
    random_state: int = 0,
) -> float:
    r"""Compute the accuracy of multinomial logistic regression on standardised codes (linear probe).

        p(c | h) = softmax(V h' + b)_c,   h' = (h - mean) / std,
        V, b minimise  - sum_rows log p(label | h) + n_columns / (2 * 32) ||V||^2

    The probe is fitted to `codes` and scored on `test_codes`. Without test codes it is cross-validated in 5 stratified,
    shuffled folds; classes with fewer than 5 rows are excluded. Larger sets are reduced to a random sample of at most
    10,000 rows and 2^23 entries.

    Args:
        codes: (rows, units); any matrix of features, such as raw pixels.
        labels: the class of each row, (rows,): integers or strings.
        test_codes: (test rows, units).
        test_labels: (test rows,).
        random_state: seed of the folds and of the sample of rows.

    Returns:
        The fraction of rows that are classified correctly, in [0, 1].

    Raises:
        InputError: labels have another length, are missing or are not classes; a value is not finite; fewer than two
            classes have enough rows.

    Source: Alain & Bengio, Understanding intermediate layers using linear classifier probes (2016).

    Example:
        >>> generator = np.random.default_rng(0)
        >>> labels = np.repeat(["left", "right"], 20)
        >>> codes = generator.normal(size=(40, 3)) + 10 * (labels == "left")[:, None]
        >>> linear_probe_accuracy(codes, labels)
        1.0
    """

    def probe(n_rows: int, n_columns: int) -> Classifier:
        # This tolerance saves two thirds of the iterations and changes the accuracy by 0.1% to 0.2%.
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
    """Compute the accuracy of a 5-nearest-neighbour classifier with the Euclidean distance of the codes.

    The codes are not standardised, because the classifier measures the distances of the code itself. Samples, folds,
    arguments and errors are those of `linear_probe_accuracy`.

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
    """Return the indices of the rows that a probe uses, in increasing order: all rows, or a random sample."""
    n_probed = min(n_rows, MAX_PROBE_ROWS, max(1, MAX_PROBE_ENTRIES // max(n_columns, 1)))
    if n_probed == n_rows:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(random_state).choice(n_rows, n_probed, replace=False))


def rare_classes(labels: Labels) -> list[str]:
    """Return the classes with fewer than 5 rows and their sizes, as text: cross-validation excludes them.

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
    """Compute the accuracy on the test rows, or in cross-validation."""
    if (test_codes is None) != (test_labels is None):
        raise InputError("test_codes and test_labels must be given together; leave out both to cross-validate")
    x = _finite(codes, dtype, "codes")
    classes, names = _classes(labels, len(x), "labels")
    probed = probe_rows(len(x), x.shape[1], random_state)
    x, classes = x[probed], classes[probed]
    classifier = classifier_for(*x.shape)
    # One thread for BLAS: the products are small, and on a busy machine several threads take fifteen times as long.
    with threadpool_limits(1, user_api="blas"):
        if test_codes is None or test_labels is None:
            return _cross_validated(classifier, x, classes, names, random_state)
        test = _finite(test_codes, dtype, "test_codes")
        if test.shape[1] != x.shape[1]:
            raise InputError(
                f"codes have {x.shape[1]} columns and test_codes {test.shape[1]}; encode both with the same model"
            )
        known = {name: number for number, name in enumerate(names)}
        test_classes, test_names = _classes(test_labels, len(test), "test_labels", several=False)
        # A class that occurs only in the test rows can never be predicted: its rows count as errors.
        expected = np.array([known.get(name, -1) for name in test_names])[test_classes]
        probed = probe_rows(len(test), test.shape[1], random_state)
        if len(np.unique(classes)) < 2:
            raise InputError(f"all labels are {names[classes[0]]!r}; a probe needs at least two classes")
        found = classifier.fit(x, classes).predict(test[probed])
        return float(np.mean(found == expected[probed]))


def _cross_validated(
    classifier: Classifier, x: np.ndarray, classes: np.ndarray, names: Sequence[Any], random_state: int
) -> float:
    """Compute the accuracy on each fold of the classifier fitted to the other folds."""
    counts = np.bincount(classes, minlength=len(names))
    if np.sum(counts >= FOLDS) < 2:
        sizes = ", ".join(_sized(name, int(n)) for name, n in list(zip(names, counts, strict=True))[:5])
        raise InputError(
            f"cross-validation needs two classes with at least {FOLDS} rows each; found {sizes}"
            f"{', ...' if len(names) > 5 else ''}; label more rows or pass a test set"
        )
    enough = counts[classes] >= FOLDS
    x, classes = x[enough], classes[enough]
    right = 0
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=random_state).split(x, classes):
        right += int(np.sum(classifier.fit(x[train], classes[train]).predict(x[test]) == classes[test]))
    return right / len(x)


def _finite(codes: Codes, dtype: type[np.floating], what: str) -> np.ndarray:
    """Convert the codes to a matrix of type `dtype`; raise InputError if a value is not finite."""
    values = codes.detach().cpu().numpy() if isinstance(codes, Tensor) else np.asarray(codes)
    if values.ndim != 2 or 0 in values.shape:
        raise InputError(f"{what} must have shape (rows, units), both at least 1; found {values.shape}")
    values = values.astype(dtype, copy=False)
    if not np.isfinite(values).all():
        row, unit = map(int, np.argwhere(~np.isfinite(values))[0])
        raise InputError(f"{what}: row {row}, unit {unit} is {values[row, unit]}; pass finite values only")
    return values


def _classes(
    labels: Labels, n_rows: int, what: str, several: bool = True
) -> tuple[Int[np.ndarray, " rows"], list[Any]]:
    """Return the class index of each row, and the names of the classes."""
    values = label_array(labels)
    if values.shape != (n_rows,):
        found = f"{len(values)} labels" if values.ndim == 1 else f"labels of shape {values.shape}"
        raise InputError(f"{what}: {found} for {n_rows} rows; pass one label per row, in the same order")
    several_of_one = next((i for i, value in enumerate(values) if isinstance(value, list | tuple | set)), None)
    if several_of_one is not None:
        raise InputError(
            f"{what}: the label of row {several_of_one} is {values[several_of_one]!r}; pass one class per row"
        )
    classes, names = pd.factorize(values)
    if (classes < 0).any():
        row = int(np.flatnonzero(classes < 0)[0])
        raise InputError(f"{what}: row {row} has no label; remove unlabelled rows or give them a class of their own")
    if several and len(names) > max(n_rows // 2, 1):
        raise InputError(
            f"{what}: {len(names)} different values in {n_rows} rows look like names or measurements, not classes; "
            "pass labels with few distinct values"
        )
    # Classes are sorted by name, so that the order of the rows does not decide a tied vote.
    order = np.array(sorted(range(len(names)), key=lambda i: str(names[i])), dtype=int)
    return np.argsort(order)[classes], [
        names[i].item() if isinstance(names[i], np.generic) else names[i] for i in order
    ]


def label_array(labels: Labels) -> np.ndarray:
    """Convert labels to an array; missing labels stay missing."""
    if isinstance(labels, Tensor):
        return labels.detach().cpu().numpy()
    # NumPy would convert a NaN among strings to the string "nan".
    return np.asarray(labels, dtype=object if isinstance(labels, list | tuple) else None)


def _sized(name: Any, n_rows: int) -> str:
    return f"{name!r} ({n_rows} row{'' if n_rows == 1 else 's'})"


@dataclass(frozen=True)
class UnitStatistics:
    """Statistics of each unit of a code over some rows.

    Attributes:
        mean: (units,).
        std: (units,), with divisor n.
        activation_rate: the fraction of rows in which the unit is not exactly zero, (units,).
        dead: True if the unit is zero in every row, (units,).
        collapsed: True if the unit does not vary: its std is below a thousandth of the largest std of the code, or not
            above the rounding error of its mean in float32, (units,). Dead units are collapsed as well.
        n_rows: the number of rows; a unit that is active less often than once in n_rows may appear dead.
    """

    mean: Float[np.ndarray, " units"]
    std: Float[np.ndarray, " units"]
    activation_rate: Float[np.ndarray, " units"]
    dead: Bool[np.ndarray, " units"]
    collapsed: Bool[np.ndarray, " units"]
    n_rows: int


def unit_statistics(codes: Codes) -> UnitStatistics:
    """Compute mean, standard deviation and activation rate of each unit of a code, (rows, units).

    Raises:
        InputError: the codes are not a matrix, there are no rows, or a value is not finite.

    Example:
        >>> found = unit_statistics(np.array([[0.0, 1.0, 5.0], [0.0, 3.0, 5.0]]))
        >>> found.dead.tolist(), found.collapsed.tolist()
        ([True, False, False], [True, False, True])
    """
    values = _finite(codes, np.float64, "codes")
    mean, std = values.mean(0), values.std(0)
    rate = (values != 0).mean(0)
    constant = (std < COLLAPSED_STD_RATIO * std.max()) | (std <= ROUNDING * np.abs(mean))
    # With a single row the standard deviation is zero by definition.
    collapsed = constant if len(values) > 1 else np.zeros_like(constant)
    return UnitStatistics(mean, std, rate, rate == 0, collapsed, len(values))


def covariance_eigenvalues(codes: Float[np.ndarray, "rows code_size"]) -> Float[np.ndarray, " code_size"]:
    """Compute the eigenvalues of the covariance of the codes (divisor n - 1) in decreasing order, clipped at zero.

    Of fewer rows than units, they are those of the products of rows, which are fewer numbers, and zeros.

    Example:
        >>> covariance_eigenvalues(np.array([[1.0, 0.0], [-1.0, 0.0]])).tolist()
        [2.0, 0.0]
    """
    codes = np.asarray(codes, np.float64)
    centred = codes - codes.mean(0)
    n_rows, code_size = codes.shape
    products = centred.T @ centred if n_rows >= code_size else centred @ centred.T
    eigenvalues = np.zeros(code_size)
    eigenvalues[: len(products)] = np.linalg.eigvalsh(products / max(1, n_rows - 1))[::-1]
    return np.clip(eigenvalues, 0, None)
