"""Codes of 2 to 32 numbers for MNIST: squared error, reconstructions, and the accuracy of a classifier on them."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import (
    fit_model,
    from_bytes,
    learning_seconds,
    load_dataset,
    load_rows,
    squared_errors,
    to_bytes,
)
from isthmus.estimators.base import BaseAutoencoder

_AIM = "share of PCA's error saved at the same code size, chosen here"

TARGETS = {
    "saved 2": Target(0.30, "at least", _AIM),
    "saved 4": Target(0.45, "at least", _AIM),
    "saved 8": Target(0.60, "at least", _AIM),
    "saved 16": Target(0.65, "at least", _AIM),
    "saved 32": Target(0.75, "at least", _AIM),
    "classifier": Target(0.97, "at least", "the classifier has to be accurate on the originals"),
}
"""The source states no figures."""

SEED = 0


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    train: str
    test: str
    channels: list[int]
    batch_size: int
    learning_rate: float
    epochs: dict[int, int]
    classifier: dict[str, int]


FULL = _Setup(
    targets=TARGETS, train="mnist", test="mnist:test", channels=[16, 32], batch_size=128, learning_rate=2e-3,
    epochs={2: 10, 4: 10, 8: 10, 16: 10, 32: 14}, classifier={"units": 256, "epochs": 10},
)  # fmt: skip

QUICK = _Setup(
    targets={"ratio": Target(0.9, "at most", "a larger code errs less")}, train="digits:train", test="digits:test",
    channels=[8, 16], batch_size=32, learning_rate=5e-3, epochs={2: 5, 4: 5},
    classifier={"units": 64, "epochs": 15},
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {
        "network__channels": setup.channels, "network__activation": "relu", "likelihood": "gaussian-unit",
        "batch_size": setup.batch_size, "learning_rate": setup.learning_rate, "optimizer__clip_norm": 1.0,
        "precision": "fp32",
    }  # fmt: skip
    return [
        Cell(f"code-{size}", {
            "train": setup.train, "test": setup.test, "seed": SEED, "kind": "conv", "classifier": setup.classifier,
            "parameters": {**common, "code_size": size, "max_epochs": n},
        }, _fit)
        for size, n in setup.epochs.items()
    ]  # fmt: skip


def _fit(settings: Settings, state: Path) -> Result:
    """Fit one code size: errors of the model and of PCA, and the classifier's accuracy on the reconstructions."""
    model = fit_model(settings, state=state)
    X, labels = load_rows(settings["test"]), load_dataset(settings["test"]).labels
    assert labels is not None
    classifier = _trained_classifier(settings["train"], **settings["classifier"], seed=settings["seed"])
    parts: dict[str, list[np.ndarray]] = {"originals": [], "reconstructions": [], "components": []}
    for reading in model.read(X):
        parts["originals"].append(reading.x.numpy())
        parts["reconstructions"].append(reading.reconstruction.numpy())
        parts["components"].append(model.baseline_.decode(model.baseline_.encode(reading.x)).numpy())
    pictures = {name: np.concatenate(blocks) for name, blocks in parts.items()}
    one_of_each = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    train = squared_errors(model, load_rows(settings["train"])[: len(X)])
    return {
        **{f"test_{name}": value for name, value in squared_errors(model, X).items()},
        "train_error": train["error"],
        "accuracy": {name: float((classifier.predict(rows) == labels).mean()) for name, rows in pictures.items()},
        "learning_seconds": learning_seconds(model),
        "image_shape": list(model.preprocessing_.image_shape or ()),
        **{name: to_bytes(rows[one_of_each]) for name, rows in pictures.items()},
        **(_map(model, X[:2000], labels[:2000]) if model.code_size_ == 2 else {}),
    }


def _map(model: BaseAutoencoder, X: np.ndarray, labels: np.ndarray) -> Result:
    return {"codes": np.round(model.transform(X), 3).tolist(), "labels": labels.tolist()}


@functools.lru_cache(maxsize=1)
def _trained_classifier(train: str, units: int, epochs: int, seed: int) -> Any:
    """Return a perceptron trained on original images only; it is trained once in a process."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    X, labels = load_rows(train), load_dataset(train).labels
    x = X.reshape(len(X), -1).astype(np.float32) / (255 if X.dtype == np.uint8 else 1)
    network = MLPClassifier((units,), batch_size=128, max_iter=epochs, random_state=seed)
    with warnings.catch_warnings():
        # The classifier need not converge: its accuracy on the originals is in the table.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(x, labels)


def _sizes(results: Results) -> dict[int, Result]:
    return {int(name.removeprefix("code-")): result for name, result in results.items()}


def _rows(results: Results, setup: _Setup) -> list[Row]:
    sizes = _sizes(results)
    first, last = sizes[min(sizes)], sizes[max(sizes)]
    saved = {size: 1 - cell["test_error"] / cell["test_pca_error"] for size, cell in sizes.items()}
    return [
        *(setup.row(f"{size} units: share of PCA's error saved", saved[size], f"saved {size}", ".3f")
          for size in sizes),
        *(Row(f"{size} units: squared error per test image", cell["test_error"]) for size, cell in sizes.items()),
        *(Row(f"{size} principal components: squared error per test image", cell["test_pca_error"])
          for size, cell in sizes.items()),
        setup.row(f"squared error per test image, {max(sizes)} units over {min(sizes)}",
                  last["test_error"] / first["test_error"], "ratio", ".3f"),
        setup.row("accuracy of the classifier on the originals", first["accuracy"]["originals"], "classifier", ".3f"),
        *(Row(f"{size} units: accuracy of the classifier on the reconstructions", cell["accuracy"]["reconstructions"],
              form=".3f") for size, cell in sizes.items()),
        *(Row(f"{size} principal components: accuracy of the classifier on the reconstructions",
              cell["accuracy"]["components"], form=".3f") for size, cell in sizes.items()),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    sizes = _sizes(results)
    two = sizes[2]["accuracy"]
    times = ", ".join(f"{cell['learning_seconds'] / 60:.1f}" for cell in sizes.values())
    return [
        f"With a code of 2 the classifier recognises {two['reconstructions']:.0%} of the reconstructions; with two "
        f"principal components {two['components']:.0%}.",
        f"Minutes of training by code size: {times}.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    from isthmus.report.figures import code_map, originals_over_reconstructions

    sizes = _sizes(results)
    first = sizes[2]
    lines = {f"{size} units": from_bytes(cell["reconstructions"]) for size, cell in sizes.items()}
    lines["2 components"] = from_bytes(first["components"])
    across = list(sizes)
    accuracy = {
        "convolutional autoencoder": (across, [cell["accuracy"]["reconstructions"] for cell in sizes.values()]),
        "principal components": (across, [cell["accuracy"]["components"] for cell in sizes.values()]),
    }
    return {
        "originals-over-reconstructions": originals_over_reconstructions(
            from_bytes(first["originals"]), lines, first["image_shape"], title="Reconstructions by code size"
        ),
        "accuracy-by-code-size": curves(
            accuracy, across="code size", up="accuracy on the reconstructions",
            title="Accuracy of a classifier on the reconstructions",
            levels={"originals": first["accuracy"]["originals"]}, doubling=True,
        ),
        "codes-of-two-units": code_map(
            np.asarray(first["codes"]), labels=first["labels"], axes=("first unit", "second unit"),
            title="Codes of the test digits",
        ),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="bottleneck-mnist",
    claim="A code of 2 numbers preserves most of the digit class, and every code size errs far less than PCA.",
    source="Deep Learning, section 14.1 (undercomplete autoencoders), which states no figures",
    protocol=(
        "MNIST in [0, 1], 60,000 training and 10,000 test digits. Convolutional autoencoders with codes of 2, 4, 8, "
        "16 and 32 units: two strided 3 x 3 convolutions of 16 and 32 maps, dense layers of 512 and 128 ReLU units, "
        "mirrored; sigmoid output, squared error; Adam in fp32 at 2e-3 with warm-up and a cosine to zero, gradient "
        "norm cut at 1, batches of 128, 10 epochs (14 at 32 units). A perceptron of 256 hidden units, trained on "
        "original digits only, classifies the reconstructions of the test digits."
    ),
    minutes=20,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
