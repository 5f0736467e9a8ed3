"""What a code of 2 to 32 numbers keeps of a digit: the picture, the error, and what a classifier still reads."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import (
    as_bytes,
    as_units,
    fitted,
    learning_seconds,
    opened,
    rows_of,
    squared_errors,
)
from isthmus.estimators.base import BaseAutoencoder

_AIM = "the aim set here: this share below PCA's error at the same code size"

PUBLISHED: dict[int | str, Published] = {
    2: Published(0.30, "at least", _AIM),
    4: Published(0.45, "at least", _AIM),
    8: Published(0.60, "at least", _AIM),
    16: Published(0.65, "at least", _AIM),
    32: Published(0.75, "at least", _AIM),
    "classifier": Published(0.97, "at least", "a judge that reads the originals"),
}
"""Share of PCA's squared error that is saved, by code size. Compared with, and used for nothing else."""

QUICK: dict[int | str, Published] = {"more": Published(0.9, "at most", "more numbers keep more")}
"""What has to hold already on the small digits."""

SEED = 0


def _cells(quick: bool) -> list[Cell]:
    data = {"train": "digits:train", "test": "digits:test"} if quick else {"train": "mnist", "test": "mnist:test"}
    common = {
        "hidden_sizes": [8, 16] if quick else [16, 32], "activation": "relu", "likelihood": "gaussian-unit",
        "batch_size": 32 if quick else 128, "learning_rate": 5e-3 if quick else 2e-3, "clip_norm": 1.0,
        "precision": "fp32",
    }  # fmt: skip
    judge = {"units": 64 if quick else 256, "epochs": 15 if quick else 10}
    epochs = {2: 5, 4: 5} if quick else {2: 10, 4: 10, 8: 10, 16: 10, 32: 14}
    return [
        Cell(f"code-{size}", {
            **data, "seed": SEED, "kind": "conv", "classifier": judge,
            "parameters": {**common, "code_size": size, "max_epochs": n},
        }, _fit)
        for size, n in epochs.items()
    ]  # fmt: skip


def _fit(settings: Settings, state: Path) -> Result:
    """One code size: errors beside PCA's, and what the judge reads in originals and reconstructions."""
    model = fitted(settings, state=state)
    X, labels = rows_of(settings["test"]), opened(settings["test"]).labels
    assert labels is not None
    read = _Judge(settings["train"], **settings["classifier"], seed=settings["seed"])
    seen = {"originals": [], "reconstructions": [], "components": []}  # type: dict[str, list[np.ndarray]]
    for reading in model.read(X):
        seen["originals"].append(reading.x.numpy())
        seen["reconstructions"].append(reading.reconstruction.numpy())
        seen["components"].append(model.baseline_.decode(model.baseline_.encode(reading.x)).numpy())
    pictures = {name: np.concatenate(parts) for name, parts in seen.items()}
    one_of_each = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    train = squared_errors(model, rows_of(settings["train"])[: len(X)])
    return {
        **{f"test_{name}": value for name, value in squared_errors(model, X).items()},
        "train_error": train["error"],
        "accuracy": {name: read.accuracy(rows, labels) for name, rows in pictures.items()},
        "learning_seconds": learning_seconds(model),
        "image_shape": list(model.preprocessing_.image_shape or ()),
        **{name: as_bytes(rows[one_of_each]) for name, rows in pictures.items()},
        **(_map(model, X[:2000], labels[:2000]) if model.code_size_ == 2 else {}),
    }


def _map(model: BaseAutoencoder, X: np.ndarray, labels: np.ndarray) -> Result:
    return {"codes": np.round(model.transform(X), 3).tolist(), "labels": labels.tolist()}


class _Judge:
    """A classifier that has seen original digits alone; it is trained once in a process."""

    def __init__(self, train: str, *, units: int, epochs: int, seed: int) -> None:
        self._network = _trained_judge(train, units, epochs, seed)

    def accuracy(self, x: np.ndarray, labels: np.ndarray) -> float:
        """The share of rows in [0, 1], (n, columns), whose digit is read right."""
        return float((self._network.predict(x) == labels).mean())


@functools.lru_cache(maxsize=1)
def _trained_judge(train: str, units: int, epochs: int, seed: int):  # type: ignore[no-untyped-def]  # scikit-learn's
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    X, labels = rows_of(train), opened(train).labels
    x = X.reshape(len(X), -1).astype(np.float32) / (255 if X.dtype == np.uint8 else 1)
    network = MLPClassifier((units,), batch_size=128, max_iter=epochs, random_state=seed)
    with warnings.catch_warnings():
        # So many epochs are enough for a judge, converged or not; its accuracy on originals is in the table.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return network.fit(x, labels)


def _sizes(results: Results) -> dict[int, Result]:
    return {int(name.removeprefix("code-")): result for name, result in results.items()}


def _rows(results: Results, quick: bool) -> list[Row]:
    published, sizes = QUICK if quick else PUBLISHED, _sizes(results)
    first, last = sizes[min(sizes)], sizes[max(sizes)]
    saved = {size: 1 - cell["test_error"] / cell["test_pca_error"] for size, cell in sizes.items()}
    return [
        *(Row(f"{size} units: share of PCA's error saved", saved[size], published.get(size), ".3f") for size in sizes),
        *(Row(f"{size} units: squared error per test image", cell["test_error"]) for size, cell in sizes.items()),
        *(Row(f"{size} principal components: squared error per test image", cell["test_pca_error"])
          for size, cell in sizes.items()),
        Row(f"{max(sizes)} units over {min(sizes)}: squared error per test image",
            last["test_error"] / first["test_error"], published.get("more"), ".3f"),
        Row("classifier on the originals", first["accuracy"]["originals"], published.get("classifier"), ".3f"),
        *(Row(f"{size} units: classifier on the reconstructions", cell["accuracy"]["reconstructions"], form=".3f")
          for size, cell in sizes.items()),
        *(Row(f"{size} principal components: classifier on the reconstructions", cell["accuracy"]["components"],
              form=".3f") for size, cell in sizes.items()),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    sizes = _sizes(results)
    two = sizes[2]["accuracy"]
    times = ", ".join(f"{cell['learning_seconds'] / 60:.1f}" for cell in sizes.values())
    return [
        f"From two numbers the decoder draws digits that a classifier of originals reads right in "
        f"{two['reconstructions']:.0%} of the cases; from two principal components in {two['components']:.0%}.",
        f"Minutes of learning, by code size: {times}.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    from isthmus.report.figures import code_map, originals_over_reconstructions

    sizes = _sizes(results)
    first = sizes[2]
    lines = {f"{size} units": as_units(cell["reconstructions"]) for size, cell in sizes.items()}
    lines["2 components"] = as_units(first["components"])
    across = list(sizes)
    read = {
        "convolutional autoencoder": (across, [cell["accuracy"]["reconstructions"] for cell in sizes.values()]),
        "principal components": (across, [cell["accuracy"]["components"] for cell in sizes.values()]),
    }
    return {
        "originals-over-reconstructions": originals_over_reconstructions(
            as_units(first["originals"]), lines, first["image_shape"], title="What a code of so many numbers keeps"
        ),
        "accuracy-by-code-size": curves(
            read, across="code size", up="share of reconstructions read right", title="What a classifier still reads",
            levels={"originals": first["accuracy"]["originals"]}, doubling=True,
        ),
        "codes-of-two-units": code_map(
            np.asarray(first["codes"]), labels=first["labels"], axes=("first unit", "second unit"),
            title="Test digits by their two numbers",
        ),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="bottleneck-mnist",
    claim="A few numbers carry a digit: at two it can mostly be read, and every size beats PCA by far.",
    source="the usual lecture on bottlenecks; Deep Learning, section 14.1",
    protocol=(
        "MNIST in [0, 1], 60,000 training and 10,000 test digits. Convolutional autoencoders with codes of 2, 4, 8, "
        "16 and 32 units: two strided 3 x 3 convolutions of 16 and 32 maps, dense layers of 512 and 128 ReLU units, "
        "mirrored; sigmoid output, squared error; Adam in fp32 at 2e-3 with warm-up and a cosine to zero, gradient "
        "norm cut at 1, batches of 128, 10 epochs (14 at 32 units). A perceptron of 256 hidden units, trained on "
        "original digits alone, reads the reconstructions of the test digits."
    ),
    minutes=20,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
