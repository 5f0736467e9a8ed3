"""What the experiments share: fitting with the settings of a cell, and looking at what was fitted."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

import isthmus.data
from experiments.experiment import Settings
from isthmus.data import Dataset
from isthmus.estimators import checkpoints
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.registry import KINDS


@functools.lru_cache(maxsize=4)
def load_dataset(source: str) -> Dataset:
    """A named set of data; read once while the experiments of a process run."""
    return isthmus.data.open(source)


def load_rows(source: str, n_rows: int | None = None) -> np.ndarray:
    """The rows of a named set, or the first `n_rows` of them."""
    return np.asarray(load_dataset(source).X)[:n_rows]


def fit_model(
    settings: Settings,
    *,
    rows: np.ndarray | None = None,
    n_rows: int | None = None,
    validation: Any = None,
    state: Path | None = None,
) -> BaseAutoencoder:
    """An autoencoder of settings["kind"], fitted with settings["parameters"] and ["seed"].

    Nothing is held out: these are recipes that are settled before, judged on test rows.

    Args:
        settings: of a cell.
        rows: what is fitted; None takes settings["train"].
        n_rows: take the first of them alone.
        validation: rows to look at while learning.
        state: where the state of a long run is kept, so that a stopped one goes on within the cell.

    Raises:
        KeyboardInterrupt: somebody pressed Ctrl-C: half a fit is no result.
    """
    parameters = {"validation_fraction": 0.0, "patience": None, "verbose": 1, **settings["parameters"]}
    model = KINDS[settings["kind"]](**parameters, random_state=settings["seed"])
    rows = load_rows(settings["train"]) if rows is None else rows
    model.fit(rows[:n_rows], validation=validation, checkpoint=state, resume=state is not None)
    raise_if_interrupted(model)
    if state is not None:
        checkpoints.remove(state)
    return model


def raise_if_interrupted(fitted: Any) -> None:
    """Stop where Ctrl-C was pressed while something was fitted: half a fit is no result.

    Raises:
        KeyboardInterrupt: it was.
    """
    if fitted.history_["stopped"] == "interrupted":
        raise KeyboardInterrupt


def balanced_rows(y: np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """Numbers of n rows, as many of each class as can be.

    Example:
        >>> rows = balanced_rows(np.repeat([0, 1], 50), 10, seed=0)
        >>> np.bincount(np.repeat([0, 1], 50)[rows]).tolist()
        [5, 5]
    """
    if n >= len(y):
        return np.arange(len(y))
    order = np.random.default_rng(seed).permutation(len(y))
    turn = np.empty(len(y), int)  # how many of its class stand before a row
    for label in np.unique(y):
        own = order[y[order] == label]
        turn[own] = np.arange(len(own))
    return np.sort(order[np.argsort(turn[order], kind="stable")][:n])


def squared_errors(model: BaseAutoencoder, X: np.ndarray) -> dict[str, float]:
    """The mean of ||x - r||^2 over rows, in model space: the model's, and PCA's of the same code size."""
    total = {"error": 0.0, "pca_error": 0.0}
    for reading in model.read(X):
        total["error"] += float((reading.x - reading.reconstruction).double().square().sum())
        total["pca_error"] += float(model.baseline_.squared_error(reading.x.double()).sum())
    return {name: value / len(X) for name, value in total.items()}


def history(model: BaseAutoencoder) -> dict[str, Any]:
    """What happened while the model was learned: epochs, how it stopped, the doctor's findings."""
    return dict(model.history_)


def learning_seconds(model: BaseAutoencoder) -> float:
    """Seconds of learning alone, by the clock."""
    epochs = history(model)["epochs"]
    return float(epochs[-1]["seconds"]) if epochs else 0.0


def n_weights(model: BaseAutoencoder) -> int:
    """How many numbers were learned."""
    return sum(weight.numel() for weight in model.objective_.parameters())


def to_bytes(x: Any) -> list[list[int]]:
    """Images in [0, 1] as whole numbers up to 255: small enough to be kept with a result."""
    return np.rint(np.clip(np.asarray(x, np.float64), 0, 1) * 255).astype(int).tolist()


def from_bytes(kept: Any) -> np.ndarray:
    """What `to_bytes` kept, in [0, 1] again."""
    return np.asarray(kept, np.float64) / 255
