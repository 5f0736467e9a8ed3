"""Functions that the experiments share: fitting with the settings of a cell, and evaluating a fitted model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

import isthmus.data
from experiments.experiment import Settings
from isthmus.data import Dataset
from isthmus.estimators import checkpoints
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.registry import KINDS


@functools.lru_cache(maxsize=4)
def load_dataset(source: str) -> Dataset:
    """Return a named data set; a process reads it once."""
    return isthmus.data.open(source)


def load_rows(source: str, n_rows: int | None = None) -> np.ndarray:
    """Return the rows of a named data set, or the first `n_rows` of them."""
    return np.asarray(load_dataset(source).X)[:n_rows]


def unit_images(source: str, n_rows: int | None = None) -> Float[np.ndarray, "rows height width"]:
    """Return the images of a named data set, or the first `n_rows` of them, with pixels in [0, 1]."""
    X = load_rows(source, n_rows)
    return (X / np.float32(255)) if X.dtype == np.uint8 else X


def nearest_distances(
    queries: Float[np.ndarray, "queries columns"], rows: Float[np.ndarray, "rows columns"], at_once: int = 256
) -> Float[np.ndarray, " queries"]:
    """Return the Euclidean distance of each query to its nearest row.

    Example:
        >>> nearest_distances(np.array([[0.0, 1.0]]), np.array([[3.0, 5.0], [0.0, 3.0]])).tolist()
        [2.0]
    """
    at = torch.from_numpy(np.ascontiguousarray(rows, np.float32))
    blocks = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).split(at_once)
    return np.concatenate([torch.cdist(block, at).amin(1).numpy() for block in blocks])


def fit_model(
    settings: Settings,
    *,
    rows: np.ndarray | None = None,
    n_rows: int | None = None,
    validation: Any = None,
    state: Path | None = None,
) -> BaseAutoencoder:
    """Fit an autoencoder of settings["kind"] with settings["parameters"] and settings["seed"].

    Parameters are plain data: the fields of a value are named NAME__FIELD, as in `set_params`. No rows are held out for
    validation: the settings are fixed in advance and evaluated on test rows.

    Args:
        settings: of a cell.
        rows: the training rows; None loads settings["train"].
        n_rows: use only the first rows.
        validation: rows that are evaluated during training.
        state: the checkpoint of a long run, from which an interrupted cell resumes.

    Raises:
        KeyboardInterrupt: Ctrl-C interrupted the fit; a partial fit is not a result.
    """
    parameters = {"validation_fraction": 0.0, "patience": None, "verbose": 1, **settings["parameters"]}
    model = KINDS[settings["kind"]](random_state=settings["seed"]).set_params(**parameters)
    rows = load_rows(settings["train"]) if rows is None else rows
    model.fit(rows[:n_rows], validation=validation, checkpoint=state, resume=state is not None)
    raise_if_interrupted(model)
    if state is not None:
        checkpoints.remove(state)
    return model


def raise_if_interrupted(model: Any) -> None:
    """Raise if Ctrl-C interrupted the fit: a partial fit is not a result.

    Raises:
        KeyboardInterrupt: the fit was interrupted.
    """
    if model.history_["stopped"] == "interrupted":
        raise KeyboardInterrupt


def balanced_rows(y: np.ndarray, n: int, *, seed: int) -> np.ndarray:
    """Return the indices of n random rows, balanced between the classes.

    Example:
        >>> rows = balanced_rows(np.repeat([0, 1], 50), 10, seed=0)
        >>> np.bincount(np.repeat([0, 1], 50)[rows]).tolist()
        [5, 5]
    """
    if n >= len(y):
        return np.arange(len(y))
    order = np.random.default_rng(seed).permutation(len(y))
    rank = np.empty(len(y), int)  # the number of earlier rows of the same class
    for label in np.unique(y):
        own = order[y[order] == label]
        rank[own] = np.arange(len(own))
    return np.sort(order[np.argsort(rank[order], kind="stable")][:n])


def squared_errors(model: BaseAutoencoder, X: np.ndarray) -> dict[str, float]:
    """Return the mean of ||x - r||^2 over rows, in model space, of the model and of PCA with the same code size."""
    total = {"error": 0.0, "pca_error": 0.0}
    for reading in model.read(X):
        total["error"] += float((reading.x - reading.reconstruction).double().square().sum())
        total["pca_error"] += float(model.baseline_.squared_error(reading.x.double()).sum())
    return {name: value / len(X) for name, value in total.items()}


def history(model: BaseAutoencoder) -> dict[str, Any]:
    """Return the training history: epochs, the reason of the stop, the doctor's findings."""
    return dict(model.history_)


def learning_seconds(model: BaseAutoencoder) -> float:
    """Return the wall-clock seconds of training."""
    epochs = history(model)["epochs"]
    return float(epochs[-1]["seconds"]) if epochs else 0.0


def n_weights(model: BaseAutoencoder) -> int:
    """Return the number of trained parameters."""
    return sum(weight.numel() for weight in model.coder_.parameters())


def to_bytes(x: Any) -> list[list[int]]:
    """Return images in [0, 1] as integers up to 255, for a small result file."""
    return np.rint(np.clip(np.asarray(x, np.float64), 0, 1) * 255).astype(int).tolist()


def from_bytes(stored: Any) -> np.ndarray:
    """Return images stored by `to_bytes`, in [0, 1]."""
    return np.asarray(stored, np.float64) / 255
