"""The tables of the experiment on synthetic tables, and two baselines that need no model: a copula and noisy copies."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm, rankdata
from sklearn.datasets import load_breast_cancer, load_diabetes

import isthmus.data
from isthmus.data.tables import TableColumn, learn_columns
from isthmus.evaluation.encoded_tables import LEVEL_UNITS

TARGET = "target"
"""The column that is predicted, with two levels."""


def load_table(source: str) -> pd.DataFrame:
    """Return a table with a column `target`: "diabetes", "breast-cancer", or "adbench/NAME" with its anomalies.

    The two tables of scikit-learn become mixed: diabetes has the sex and the class of the body-mass index in place of
    the index (below 25, 30, 35 or above), and the target is a progression above the median. Breast cancer has its mean
    columns, of which area is replaced by its quarter and concavity by whether it is above zero, and the diagnosis.
    """
    if source == "diabetes":
        table = load_diabetes(as_frame=True, scaled=False).frame
        weight = pd.cut(table["bmi"], [0, 25, 30, 35, np.inf], labels=["normal", "over", "obese", "very obese"])
        progressed = np.where(table["target"] > table["target"].median(), "yes", "no")
        sex = np.where(table["sex"] > 1, "b", "a")
        return table.assign(sex=sex, bmi=weight.astype(str), target=progressed)
    if source == "breast-cancer":
        loaded = load_breast_cancer(as_frame=True)
        table = loaded.data[[name for name in loaded.data if name.startswith("mean ")]]
        quarter = pd.qcut(table["mean area"], 4, labels=["smallest", "small", "large", "largest"]).astype(str)
        compact = np.where(table["mean concavity"] > table["mean concavity"].median(), "yes", "no")
        target = np.where(loaded.target == 0, "malignant", "benign")
        return table.assign(**{"mean area": quarter, "mean concavity": compact, TARGET: target})
    data = isthmus.data.open(f"{source}:all")
    rows = pd.DataFrame(np.asarray(data.X, np.float64)).add_prefix("x")
    return rows.assign(**{TARGET: np.where(np.asarray(data.labels).astype(int) == 1, "anomaly", "normal")})


class GaussianCopula:
    """Normal scores of each column, with their correlations; samples have the marginals of the rows.

        z_j = Phi^-1((rank(x_j) - 1/2) / n),   z ~ N(0, R),   x_j = F_j^-1(Phi(z_j))

    A level has an interval of ranks by its frequency; a row gets a random rank in the interval of its level.

    Source: Patki, Wedge & Veeramachaneni, The synthetic data vault (2016), section III.
    """

    def __init__(self, rows: pd.DataFrame, seed: int) -> None:
        self.columns = learn_columns(rows)
        rng = np.random.default_rng(seed)
        self.values = np.column_stack([_ordered(column, rows) for column in self.columns])
        jitter = rng.random(self.values.shape)
        ranks = [np.lexsort((tie, value)).argsort() + 1.0 if column.unit in LEVEL_UNITS else rankdata(value)
                 for column, value, tie in zip(self.columns, self.values.T, jitter.T, strict=True)]  # fmt: skip
        scores = norm.ppf((np.column_stack(ranks) - 0.5) / len(rows))
        self.correlation = np.corrcoef(scores, rowvar=False)

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """Return n rows."""
        rng = np.random.default_rng(seed)
        z = rng.multivariate_normal(np.zeros(len(self.columns)), self.correlation, size=n, method="eigh")
        levels = norm.cdf(z)
        return pd.DataFrame({
            column.name: _decoded(column, np.quantile(self.values[:, j], levels[:, j], method="inverted_cdf"))
            for j, column in enumerate(self.columns)
        })  # fmt: skip


class NormalScores:
    """Normal scores of the numeric columns of a table; the inverse returns values of the rows.

        z = Phi^-1(F(x)),   F(x) = (number of values below x + half of those equal to x) / n

    Source: Conover, Practical nonparametric statistics (1999), section 5.10.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        columns = learn_columns(rows)
        self.sorted = {c.name: np.sort(rows[c.name].to_numpy(np.float64)) for c in columns if c.unit not in LEVEL_UNITS}

    def transform(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows with normal scores in place of numbers."""
        scores = {}
        for name, values in self.sorted.items():
            n, x = len(values), rows[name].to_numpy(np.float64)
            rank = (np.searchsorted(values, x, "left") + np.searchsorted(values, x, "right")) / 2
            scores[name] = norm.ppf(np.clip(rank / n, 0.5 / n, 1 - 0.5 / n))
        return rows.assign(**scores)

    def inverse_transform(self, scores: pd.DataFrame) -> pd.DataFrame:
        """Return scores as values of the rows that the scores were computed of."""
        return scores.assign(**{
            name: np.quantile(values, norm.cdf(scores[name].to_numpy(np.float64)), method="inverted_cdf")
            for name, values in self.sorted.items()
        })  # fmt: skip


def noisy_copies(rows: pd.DataFrame, n: int, noise: float, seed: int) -> pd.DataFrame:
    """Return rows drawn with replacement: numbers with noise of `noise` deviations, levels replaced at that rate."""
    rng = np.random.default_rng(seed)
    copies = rows.iloc[rng.integers(0, len(rows), n)].reset_index(drop=True)
    for column in learn_columns(rows):
        values = copies[column.name]
        if column.unit in LEVEL_UNITS:
            others = rows[column.name].to_numpy()[rng.integers(0, len(rows), n)]
            copies[column.name] = values.where(rng.random(n) >= noise, others)
        else:
            copies[column.name] = values + noise * rows[column.name].std() * rng.normal(size=n)
    return copies


def _ordered(column: TableColumn, rows: pd.DataFrame) -> Float[np.ndarray, " rows"]:
    """Return the values of a numeric column, or the number of each level."""
    if column.unit not in LEVEL_UNITS:
        return rows[column.name].to_numpy(np.float64)
    return pd.Index(column.levels or [0, 1]).get_indexer_for(rows[column.name]).astype(np.float64)


def _decoded(column: TableColumn, values: Float[np.ndarray, " n"]) -> np.ndarray | list[object]:
    if column.unit not in LEVEL_UNITS:
        return values
    levels = column.levels or [0, 1]
    return [levels[int(value)] for value in values]
