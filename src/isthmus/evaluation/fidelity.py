"""Fidelity of sampled tables: marginals, associations, copies of rows, and a classifier of samples and rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import ks_2samp
from sklearn.neighbors import NearestNeighbors

from isthmus.data.table_columns import TableColumn
from isthmus.errors import InputError
from isthmus.evaluation.associations import MEASURES, associations
from isthmus.evaluation.detection import detection_auc
from isthmus.evaluation.encoded_tables import TableEncoder, as_frame, row_keys, standardised
from isthmus.evaluation.likelihood import STANDARD_ERRORS

MAX_ROWS = 5_000
"""Number of rows and of samples that are compared at most, so that time and memory have a limit."""

MIN_ROWS = 20
"""Smallest number of rows and of samples that can be compared."""

MAX_COLUMNS = 100
"""Largest number of columns of a model whose samples are compared."""

CLOSE_RATE = 0.05
"""Fraction of held-out rows that are called close to a row."""

SHOWN_PAIRS = 10
"""Number of pairs in the record, those that differ the most."""

KEYS_AT_ONCE = 20_000
"""Rows that are compared with the samples at once in the search for exact copies."""

ROUNDING = 1e-5
"""Distances, in deviations, that are 0 up to rounding."""


@dataclass(frozen=True)
class ColumnFidelity:
    """The marginal distribution of one column.

    Attributes:
        name: of the column.
        unit: "real", "count", "binary" or "categorical".
        distance: Kolmogorov-Smirnov distance of a numeric column, total variation distance of another one; in [0, 1].
        missing_in_rows, missing_in_samples: the fraction of missing entries.
    """

    name: str
    unit: str
    distance: float
    missing_in_rows: float
    missing_in_samples: float


@dataclass(frozen=True)
class PairFidelity:
    """The association of one pair of columns; `measure` names it."""

    columns: tuple[str, str]
    measure: str
    in_rows: float
    in_samples: float

    @property
    def difference(self) -> float:
        """The absolute difference."""
        return abs(self.in_rows - self.in_samples)


@dataclass(frozen=True)
class Fidelity:
    """The comparison of a sampled table with rows.

    Attributes:
        n_rows, n_samples: numbers of rows and samples that were passed.
        n_compared: the number of rows, and of samples, that were compared.
        n_reference: the number of rows among which nearest rows are searched.
        has_holdout: True if other rows were passed as `holdout`.
        masked: True if samples got the missing entries of rows, since they have none of their own.
        columns: the marginal of each column.
        marginal_distance: the mean of their distances.
        expected_marginal_distance: that of another sample of the rows' distribution, estimated from halves of the rows.
        pairs: the pairs of columns whose associations differ the most, at most ten, the largest difference first.
        association_difference: the mean absolute difference over all pairs; 0 for one column.
        expected_association_difference: that of another sample of the rows' distribution, estimated from halves.
        close_rate: fraction of samples nearer to a row than the nearest 5% of held-out rows; 0.05 without copying.
        n_copies: number of compared samples that equal one of all rows.
        expected_copies: the number of exact copies among as many held-out rows.
        auc: area under the ROC curve of a classifier that separates samples from rows; 0.5 if it cannot, 1 if always.
        auc_standard_error: of `auc`, over the compared rows and samples.
    """

    n_rows: int
    n_samples: int
    n_compared: int
    n_reference: int
    has_holdout: bool
    masked: bool
    columns: tuple[ColumnFidelity, ...]
    marginal_distance: float
    expected_marginal_distance: float
    pairs: tuple[PairFidelity, ...]
    association_difference: float
    expected_association_difference: float
    close_rate: float
    n_copies: int
    expected_copies: float
    auc: float
    auc_standard_error: float

    @property
    def auc_interval(self) -> tuple[float, float]:
        """The 95% interval of `auc` over rows and samples, within [0, 1]."""
        reach = STANDARD_ERRORS * self.auc_standard_error
        return max(0.0, self.auc - reach), min(1.0, self.auc + reach)

    @property
    def worst_columns(self) -> list[ColumnFidelity]:
        """The columns, the largest distance first."""
        return sorted(self.columns, key=lambda column: -column.distance)

    @property
    def sentences(self) -> dict[str, str]:
        """One sentence on each part: marginals, associations, copying and detection."""
        low, high = self.auc_interval
        worst = self.worst_columns[0]
        others = "held-out rows are to a row" if self.has_holdout else "rows are to another one"
        return {
            "marginals": (
                f"The mean distance of a column is {self.marginal_distance:.3f}; as many new rows would have about "
                f"{self.expected_marginal_distance:.3f}. The column {worst.name} has the largest, {worst.distance:.3f}."
            ),
            "associations": (
                f"The mean difference of a pair is {self.association_difference:.3f}; as many new rows would have "
                f"about {self.expected_association_difference:.3f}.{self._worst_pair}"
            ),
            "copying": (
                f"{self.close_rate:.1%} of the samples are nearer to a row than the nearest 5% of {others}: many more "
                f"than 5% are a sign of copying. {self.n_copies:,} of {self.n_compared:,} samples equal a row; of as "
                f"many new rows, about {self.expected_copies:,.0f} would."
            ),
            "detection": (
                f"A gradient-boosted classifier separates samples from rows with an AUC of {self.auc:.3f} "
                f"({low:.3f} to {high:.3f}): 0.5 means that it cannot, 1 that it always can."
            ),
        }

    @property
    def _worst_pair(self) -> str:
        """A sentence about the pair that differs the most; empty without pairs."""
        if not self.pairs:
            return ""
        pair = self.pairs[0]
        return (
            f" The {pair.measure} of {pair.columns[0]} and {pair.columns[1]} differs the most: {pair.in_rows:.2f} in "
            f"rows, {pair.in_samples:.2f} in samples."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes, the interval and the sentences as JSON-serialisable data."""
        return asdict(self) | {"auc_interval": list(self.auc_interval), "sentences": self.sentences}

    def __repr__(self) -> str:
        low, high = self.auc_interval
        return (
            f"Fidelity({self.n_compared:,} samples: marginals {self.marginal_distance:.3f} "
            f"(new rows {self.expected_marginal_distance:.3f}), associations {self.association_difference:.3f} "
            f"(new rows {self.expected_association_difference:.3f}), close {self.close_rate:.1%} (new rows 5%), "
            f"AUC {self.auc:.3f} ({low:.3f} to {high:.3f}))"
        )


def fidelity(
    rows: Any,
    samples: Any,
    *,
    holdout: Any = None,
    columns: Sequence[TableColumn] | None = None,
    random_state: int = 0,
) -> Fidelity:
    r"""Compare samples of a table with rows, in the units of the user.

    - Marginals: the Kolmogorov-Smirnov distance sup_t |F(t) - G(t)| of numeric columns, and the total variation
      distance 1/2 sum_l |p_l - q_l| of others. Both are in [0, 1] and do not depend on the scale of a column or its
      outliers, so that columns can be compared and averaged; a Wasserstein distance in deviations does.
    - Associations: differences of the measures of `isthmus.evaluation.associations`.
    - Copying: the distance of each sample to its nearest row, in standardised columns and indicators of levels, against
      the same distance of held-out rows: `holdout`, or else each row to the others. Of ties with the quantile a
      fraction counts, such that 5% of the held-out rows are close.
    - Detection: the mean AUC of a gradient-boosted classifier over the test parts of five folds, with equal numbers of
      rows and samples. An AUC well below 0.5 occurs if samples copy rows: a copy in the test part has the class of its
      original in the training part.

    Of each table at most 5,000 random rows are compared (`n_compared`, `n_reference`); only exact copies are searched
    in all rows. If rows have missing entries and samples have none, as those of a model that imputes, the entries of
    samples are hidden by the masks of random rows in all parts except the marginals and the exact copies: otherwise
    the classifier would detect the missing entries alone.

    Args:
        rows: real rows: a table or an array (n, columns). To find copies, pass the training rows of the model.
        samples: a table or an array with the same columns.
        holdout: further real rows, which the model has not seen.
        columns: the columns of a table as a model knows them, `preprocessing_.table`; None infers them from `rows`.
        random_state: seed of the choice of rows, the masks and the folds.

    Raises:
        InputError: fewer than 20 rows, samples or held-out rows; different columns; images, sparse rows or texts; a
            column of dates or free text; a numeric column with text or infinity.

    Source: Xu, Skoularidou, Cuesta-Infante & Veeramachaneni, Modeling tabular data using conditional GAN (2019);
    Lopez-Paz & Oquab, Revisiting classifier two-sample tests (2017); DeLong, DeLong & Clarke-Pearson (1988) for the
    standard error of the AUC.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> def draw(n):
        ...     size = rng.normal(size=n)
        ...     return pd.DataFrame({"size": size, "grade": np.where(size + rng.normal(size=n) > 0, "A", "B")})
        >>> found = fidelity(draw(300), draw(300))
        >>> found.auc_interval[0] < 0.5 < found.auc_interval[1], found.n_copies
        (True, 0)
    """
    rng = np.random.default_rng(random_state)
    frames = {"the rows": as_frame("the rows", rows), "the samples": as_frame("the samples", samples)}
    frames |= {} if holdout is None else {"the held-out rows": as_frame("the held-out rows", holdout)}
    for name, frame in frames.items():
        if len(frame) < MIN_ROWS:
            raise InputError(f"{name} are {len(frame)}; a comparison needs at least {MIN_ROWS}")
    encoder = TableEncoder.of(frames["the rows"], columns)
    reference, drawn, *held_out = (
        encoder.values(name, frame.iloc[rng.permutation(len(frame))[:MAX_ROWS]]) for name, frame in frames.items()
    )
    n = min(len(reference), len(drawn))
    real, drawn = reference[:n], drawn[:n]
    masked = bool(np.isnan(reference).any() and not np.isnan(drawn).any())
    complete = drawn
    if masked:
        drawn = np.where(np.isnan(reference[rng.permutation(len(reference))[:n]]), np.nan, drawn)
    differences, expected_difference = _association_differences(real, drawn, encoder)
    n_copies, expected_copies = _copies(frames["the rows"], complete, reference, held_out, encoder)
    auc, error = detection_auc(real, drawn, encoder, random_state)
    marginals = tuple(_marginals(real, complete, encoder))
    halves = _marginals(real[: n // 2], real[n // 2 :], encoder)
    return Fidelity(
        n_rows=len(frames["the rows"]), n_samples=len(frames["the samples"]), n_compared=n,
        n_reference=len(reference), has_holdout=holdout is not None, masked=masked,
        columns=marginals, marginal_distance=float(np.mean([one.distance for one in marginals])),
        expected_marginal_distance=float(np.mean([one.distance for one in halves])) * math.sqrt(0.5),
        pairs=tuple(differences[1]), association_difference=differences[0],
        expected_association_difference=expected_difference,
        close_rate=_close_rate(reference, drawn, held_out, encoder),
        n_copies=n_copies, expected_copies=expected_copies, auc=auc, auc_standard_error=error,
    )  # fmt: skip


def no_fidelity(model: Any) -> str:
    """Return the reason why samples of a model cannot be compared with rows, and what to do; empty if they can."""
    preprocessing, name = model.preprocessing_, type(model).__name__
    if not hasattr(model, "sample"):
        return f"{name} has no samples to compare with rows; use a kind with `sample`, such as VariationalAutoencoder"
    if preprocessing.source not in ("table", "array") or len(preprocessing.row_shape) != 1:
        return f"the model of kind {model.kind} was fitted on images, series, sparse rows or texts; take tables"
    if preprocessing.row_shape[0] > MAX_COLUMNS:
        return f"the rows have {preprocessing.row_shape[0]:,} columns; compare samples of at most {MAX_COLUMNS}"
    return ""


def fidelity_of(model: Any, X: Any, *, random_state: int = 0) -> Fidelity:
    """Compare samples of a fitted model with the rows `X`, as many as there are rows and at most 5,000.

    Args:
        model: a fitted estimator with `sample`.
        X: a table or an array (n, columns), as the model was fitted on.
        random_state: seed of the samples and of the comparison.

    Raises:
        InputError: the model has no samples, or its rows are no table of at most 100 columns; see also `fidelity`.

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(60, 4))
        >>> model = LinearAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X)
        >>> fidelity_of(model, X).n_compared
        60
    """
    rows, samples, columns = rows_and_samples(model, X, random_state=random_state)
    return fidelity(rows, samples, columns=columns, random_state=random_state)


def rows_and_samples(model: Any, X: Any, *, random_state: int) -> tuple[Any, Any, list[TableColumn] | None]:
    """Return the rows `X` and samples of the model in one form, and the columns if the model knows them.

    Raises:
        InputError: the samples of the model cannot be compared with rows; see `no_fidelity`.
    """
    reason = no_fidelity(model)
    if reason:
        raise InputError(reason)
    preprocessing = model.preprocessing_
    is_table = preprocessing.source == "table"
    X = preprocessing.compared_columns(X)
    rows = as_frame("the rows", X) if is_table else np.asarray(X)
    samples = model.sample(min(max(len(rows), 1), MAX_ROWS), random_state=random_state)
    return rows, samples, preprocessing.user_table if is_table else None


def _marginals(
    real: Float[np.ndarray, "rows columns"], drawn: Float[np.ndarray, "samples columns"], encoder: TableEncoder
) -> list[ColumnFidelity]:
    """Return the distance of each marginal over the observed entries; 1 if only one side has some."""
    found = []
    for j, column in enumerate(encoder.columns):
        sides = real[:, j], drawn[:, j]
        a, b = (side[~np.isnan(side)] for side in sides)
        if not (len(a) and len(b)):
            distance = float(len(a) != len(b))
        elif encoder.has_levels[j]:
            n = len(column.levels) + 1
            p, q = (np.bincount(one.astype(int), minlength=n) / len(one) for one in (a, b))
            distance = float(np.abs(p - q).sum() / 2)
        else:
            distance = float(ks_2samp(a, b, method="asymp").statistic)
        missing = (float(np.isnan(side).mean()) for side in sides)
        found.append(ColumnFidelity(column.name, column.unit, distance, *missing))
    return found


def _association_differences(
    real: Float[np.ndarray, "rows columns"], drawn: Float[np.ndarray, "samples columns"], encoder: TableEncoder
) -> tuple[tuple[float, list[PairFidelity]], float]:
    """Return the mean difference over pairs and the pairs that differ the most, and the mean of new rows."""
    if len(encoder.columns) < 2:
        return (0.0, []), 0.0
    n = len(real)
    parts = real, drawn, real[: n // 2], real[n // 2 :]
    in_rows, in_samples, first, second = (associations(part, encoder) for part in parts)
    left, right = np.triu_indices(len(encoder.columns), 1)
    difference = np.abs(in_rows - in_samples)[left, right]
    names, with_levels = encoder.names, encoder.has_levels.astype(int)
    largest = np.argsort(-difference, kind="stable")[:SHOWN_PAIRS]
    pairs = [
        PairFidelity((names[i], names[j]), MEASURES[with_levels[i] + with_levels[j]],
                     float(in_rows[i, j]), float(in_samples[i, j]))
        for i, j in zip(left[largest], right[largest], strict=True)
    ]  # fmt: skip
    # the standard error of a measure of n / 2 rows is that of n rows times the root of 2
    expected = float(np.abs(first - second)[left, right].mean()) * math.sqrt(0.5)
    return (float(difference.mean()), pairs), expected


def _close_rate(
    reference: Float[np.ndarray, "rows columns"],
    drawn: Float[np.ndarray, "samples columns"],
    held_out: Sequence[Float[np.ndarray, "held_out columns"]],
    encoder: TableEncoder,
) -> float:
    """Return the fraction of samples that are close to a row, as 5% of the held-out rows are."""
    neighbours = NearestNeighbors(n_neighbors=1).fit(standardised(reference, reference, encoder))
    of_rows = neighbours.kneighbors(standardised(held_out[0], reference, encoder) if held_out else None)[0][:, 0]
    of_samples = neighbours.kneighbors(standardised(drawn, reference, encoder))[0][:, 0]
    return close_rate(*(np.where(one < ROUNDING, 0.0, one) for one in (of_rows, of_samples)))


def close_rate(of_rows: Float[np.ndarray, " rows"], of_samples: Float[np.ndarray, " samples"]) -> float:
    """Return the fraction of samples with a distance below the 5% quantile of that of rows.

    Of the samples at the quantile a fraction counts, so that the result for the rows themselves is 5%.

    Example:
        >>> rows = np.array([0.0] * 10 + [1.0] * 90)
        >>> close_rate(rows, rows), close_rate(rows, np.ones(8)), close_rate(np.arange(100.0), np.zeros(8))
        (0.05, 0.0, 1.0)
    """
    limit = np.quantile(of_rows, CLOSE_RATE, method="inverted_cdf")
    below, at = float(np.mean(of_rows < limit)), float(np.mean(of_rows == limit))
    counted = (CLOSE_RATE - below) / at
    return float(np.mean(of_samples < limit) + counted * np.mean(of_samples == limit))


def _copies(
    rows: pd.DataFrame,
    drawn: Float[np.ndarray, "samples columns"],
    reference: Float[np.ndarray, "rows columns"],
    held_out: Sequence[Float[np.ndarray, "held_out columns"]],
    encoder: TableEncoder,
) -> tuple[int, float]:
    """Return how many samples equal one of all rows, and how many of as many held-out rows do."""
    of_samples, of_rows = row_keys(drawn), row_keys(held_out[0] if held_out else reference)
    searched, counts = {*of_samples, *of_rows}, Counter[bytes]()
    for start in range(0, len(rows), KEYS_AT_ONCE):
        keys = row_keys(encoder.values("the rows", rows.iloc[start : start + KEYS_AT_ONCE]))
        counts.update(key for key in keys if key in searched)
    itself = 0 if held_out else 1  # without held-out rows, each row is compared with the others
    expected = len(of_samples) * float(np.mean([counts[key] > itself for key in of_rows]))
    return sum(counts[key] > 0 for key in of_samples), expected
