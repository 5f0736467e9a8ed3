"""The plant test of a detector of odd rows: anomalies planted in calibration rows, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from isthmus.data.dataset import Conditioned, Paired
from isthmus.data.preprocessing import n_rows_of
from isthmus.errors import InputError
from isthmus.evaluation import conformal
from isthmus.parts.sampling import rand_like, randn_like

SORTS = ("swapped cells", "values of another column", "scaled cells", "mixed rows")
"""The sorts of planted anomalies."""

FRACTION = 0.2
"""Fraction of the cells of a row that an anomaly changes, at least one."""

SCALE = 4.0
"""Standard deviations, about, by which scaled cells differ."""

RATES = (0.01, 0.05)

Rows = Float[Tensor, "rows columns"]


def planted(x: Rows, groups: Sequence[Sequence[int]], sort: str, generator: Generator) -> Rows:
    """Return rows with an anomaly in each.

        swapped cells            some cells have the values of the same columns in another row
        values of another column some cells have the value of another column of the row, in standard deviations
        scaled cells             some cells differ by about 4 standard deviations
        mixed rows               half of the cells are those of another row

    Cells are groups of columns. In a group of several columns, the levels of a category, the second and third sort take
    the values of another row too, as the first one does.

    Args:
        x: rows without missing entries, float64.
        groups: the columns of each cell.
        sort: one of `SORTS`.
        generator: of all random numbers.

    Raises:
        InputError: an unknown sort.

    Example:
        >>> x = torch.arange(12, dtype=torch.float64).view(4, 3)
        >>> found = planted(x, [[0], [1], [2]], "swapped cells", Generator().manual_seed(0))
        >>> (found != x).sum(1)
        tensor([1, 1, 1, 1])
    """
    if sort not in SORTS:
        raise InputError(f"sort={sort!r} is not one of {', '.join(SORTS)}")
    n, found = len(x), x.clone()
    shift = 1 + int(torch.randint(n - 1, (), generator=generator))
    others = x.roll(shift, 0)
    fraction = 0.5 if sort == "mixed rows" else FRACTION
    chosen = _chosen(n, len(groups), fraction, generator)
    mean, scale = x.mean(0), x.std(0).clamp(min=1e-9)
    for number, group in enumerate(groups):
        columns, rows = list(group), chosen[:, number]
        if sort in ("swapped cells", "mixed rows") or len(columns) > 1 or len(groups) < 2:
            values = others[:, columns]
        elif sort == "scaled cells":
            sign = torch.where(rand_like(mean.new_empty(n, 1), generator) < 0.5, -1.0, 1.0)
            noise = 1 + 0.25 * randn_like(sign, generator)
            values = x[:, columns] + SCALE * scale[columns] * sign * noise
        else:
            step = 1 + int(torch.randint(len(groups) - 1, (), generator=generator))
            source = list(groups[(number + step) % len(groups)])[:1]
            values = (x[:, source] - mean[source]) / scale[source] * scale[columns] + mean[columns]
        found[:, columns] = torch.where(rows[:, None], values, x[:, columns])
    return found


def _chosen(n: int, n_groups: int, fraction: float, generator: Generator) -> Bool[Tensor, "rows groups"]:
    """Return which cells of each row are changed: the same number in all rows."""
    n_changed = min(n_groups, max(1, round(fraction * n_groups)))
    order = rand_like(torch.empty(n, n_groups, dtype=torch.float64), generator).argsort(1)
    return order < n_changed


def plant_test(detector: Any, X: Any, *, rates: Sequence[float] = RATES, random_state: int = 0) -> pd.DataFrame:
    """Return the fraction of planted anomalies that a detector finds, by their sort, for its score and for its parts.

    Anomalies are planted in the calibration rows of the detector, in model space, and are given to the detector in the
    units of the rows. A row is found if its conformal p-value, given the calibration rows, is at most the rate of false
    alarms. Planted anomalies favour the parts of their sort: a test without labels compares detectors on these sorts
    alone.

    Args:
        detector: a fitted `AnomalyDetector`.
        X: the rows of its fit.
        rates: rates of false alarms.
        random_state: seed.

    Returns:
        One line for each sort and rate; the columns are "score" and the parts. NaN where the calibration rows are too
        few for the rate.

    Raises:
        InputError: rows that are not those of the fit, or texts, which cannot be decoded.

    Example:
        >>> from isthmus import AnomalyDetector
        >>> t = np.random.default_rng(0).normal(size=(200, 1))
        >>> X = np.hstack([t, 2 * t, t**2]) + np.random.default_rng(1).normal(0, 0.1, (200, 3))
        >>> found = plant_test(AnomalyDetector(random_state=0).fit(X), X)
        >>> bool(found.loc[("scaled cells", 0.05), "score"] > 0.5)
        True
    """
    check_is_fitted(detector)
    preprocessing, index = detector.preprocessing_, detector.calibration_rows_
    rows = X.X if hasattr(X, "X") and hasattr(X, "row_names") else X
    rows = rows.to_pandas() if hasattr(rows, "to_pandas") else rows
    if preprocessing.source == "text" or isinstance(rows, Conditioned | Paired):
        raise InputError("anomalies are planted in arrays and tables; texts cannot be decoded from counts")
    if n_rows_of(rows) != detector.n_rows_:
        raise InputError(
            f"the detector was fitted to {detector.n_rows_} rows; give the rows of the fit, in their order"
        )
    own = rows.iloc[index] if hasattr(rows, "iloc") else rows[index]
    x = detector.model_rows(own).x.double()
    clean, generator = _scores(detector, x), Generator().manual_seed(random_state)
    found = {}
    for sort in SORTS:
        scores = _scores(detector, planted(x, detector.cells_.groups, sort, generator))
        for rate in rates:
            found[sort, rate] = {name: _found(clean[name], scores[name], rate) for name in scores}
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["anomaly", "false alarms"])


def _scores(detector: Any, x: Rows) -> dict[str, Float[np.ndarray, " rows"]]:
    """Return the oddness of rows of model space by the score, the mean of its parts, and by each part."""
    parts = detector.part_scores(detector.preprocessing_.inverse_transform(x.numpy()))
    return {"score": parts.mean(axis=1).to_numpy()} | {str(name): parts[name].to_numpy() for name in parts}


def _found(clean: Float[np.ndarray, " m"], scores: Float[np.ndarray, " n"], rate: float) -> float:
    """Return the fraction of scores whose p-value is at most the rate; NaN if no p-value can be."""
    if len(clean) < conformal.n_needed(rate):
        return float("nan")
    return float((conformal.p_values(clean, scores) <= rate).mean())
