"""Semantic hashing of images: digits and photographs of the same class, found by codes of 16 to 64 bits."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import learning_seconds, load_dataset, unit_images
from experiments.semantic_hashing import hamming
from isthmus import Autoencoder, MinimalLoss, SemanticHashing
from isthmus.estimators.base import BaseAutoencoder
from isthmus.retrieval.itq import ITQ

SEED = 0
QUERIES_AT_ONCE = 500
CODE_SIZE = 64
"""Units of the autoencoder whose codes ITQ rotates."""

NAMES = {"labels": "semantic hashing with classes", "hash": "semantic hashing", "itq": "ITQ of pixels",
         "autoencoder": "ITQ of an autoencoder", "lsh": "LSH"}  # fmt: skip
TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10 10k", "digits": "digits"}

SOURCES = {
    "mnist": ("mnist", "mnist:test"), "cifar10": ("cifar10-10k", "cifar10-10k:test"),
    "digits": ("digits:train", "digits:test"),
}  # fmt: skip
"""Training images, which are the data base, and queries."""

Coder = Callable[[Float[np.ndarray, "n columns"]], np.ndarray]
"""Function of rows that returns their bits."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: tuple[str, ...]
    n_train: int
    n_queries: int
    bits: tuple[int, ...]
    training: dict[str, Any]
    classes: dict[str, dict[str, Any]]
    """By data set: the settings of training with classes that differ."""


_TARGETS = {
    f"{data} {name}": target
    for data in ("mnist", "cifar10")
    for name, target in {
        "labels": Target(1.01, "at least", "classes are more than principal components know"),
        "hash": Target(1.0, "at least", "at least ITQ of pixels, without classes"),
    }.items()
}
"""Set after the trials on validation images and before the run on test images."""

FULL = _Setup(
    targets=_TARGETS, data=("mnist", "cifar10"), n_train=10_000, n_queries=1_000, bits=(16, 32, 64),
    training={"max_epochs": 10, "batch_size": 128, "learning_rate": 2e-3, "hidden_sizes": []},
    classes={"mnist": {"learning_rate": 5e-3, "hidden_sizes": [256], "weight": 1.0},
             "cifar10": {"learning_rate": 5e-3, "hidden_sizes": [256], "weight": 100.0}},
)  # fmt: skip

QUICK = _Setup(
    targets={"digits labels": Target(1.0, "at least", "classes are more than principal components know")},
    data=("digits",), n_train=600, n_queries=200, bits=(8, 16),
    training={"max_epochs": 20, "batch_size": 64, "learning_rate": 1e-2, "hidden_sizes": []},
    classes={"digits": {"weight": 10.0}},
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    cells = []
    for data in setup.data:
        common = {"data": data, "n_train": setup.n_train, "n_queries": setup.n_queries, "seed": SEED}
        blind, taught = setup.training, {**setup.training, **setup.classes[data]}
        for bits in setup.bits:
            cells.append(Cell(f"{data}-hash-{bits}", {**common, **blind, "bits": bits, "weight": None}, _hashing))
            cells.append(Cell(f"{data}-labels-{bits}", {**common, **taught, "bits": bits}, _hashing))
        epochs = {"max_epochs": blind["max_epochs"], "batch_size": blind["batch_size"]}
        cells.append(Cell(f"{data}-others", {**common, **epochs, "bits": list(setup.bits)}, _others))
    return cells


@dataclass(frozen=True)
class _Task:
    """Images that are retrieved and from which models learn, queries, and the classes of both."""

    images: Float[np.ndarray, "n columns"]
    queries: Float[np.ndarray, "queries columns"]
    classes: np.ndarray
    of_queries: np.ndarray


@functools.lru_cache(maxsize=1)
def _task(data: str, n_train: int, n_queries: int) -> _Task:
    (images, classes), (queries, of_queries) = (
        _images(source, n) for source, n in zip(SOURCES[data], (n_train, n_queries), strict=True)
    )
    return _Task(images, queries, classes, of_queries)


def _images(source: str, n: int) -> tuple[Float[np.ndarray, "n columns"], np.ndarray]:
    """Return the first images of a data set as rows, and their classes."""
    images = unit_images(source, n).astype(np.float32)
    return images.reshape(len(images), -1), np.asarray(load_dataset(source).labels)[:n]


def _task_of(settings: Settings) -> _Task:
    return _task(settings["data"], settings["n_train"], settings["n_queries"])


def expected_average_precision(distances: Int[np.ndarray, " others"], relevant: Bool[np.ndarray, " others"]) -> float:
    """Return the expected average precision of a ranking by distance, where the order within ties is random.

    At place i of a tie of n items with r relevant ones, after N items with R relevant ones, the item is relevant with
    probability r / n; then R + 1 + (i - 1) (r - 1) / (n - 1) of the first N + i are expected to be.

    Source: McSherry & Najork, Computing information retrieval performance measures efficiently in the presence of tied
    scores (2008).

    Example:
        >>> expected_average_precision(np.array([0, 0, 1]), np.array([True, False, False]))  # (1 + 1/2) / 2
        0.75
    """
    n = np.bincount(distances)
    r = np.bincount(distances, weights=relevant)
    tie = np.repeat(np.arange(len(n)), n)
    before, relevant_before = (np.append(0, part.cumsum()[:-1])[tie] for part in (n, r))
    place = np.arange(1, len(distances) + 1)
    others = (place - before - 1) * (r[tie] - 1) / np.maximum(n[tie] - 1, 1)
    precision = (relevant_before + 1 + others) / place
    return float((r[tie] / n[tie] * precision).sum() / max(relevant.sum(), 1))


def _mean_average_precision(coder: Coder, task: _Task) -> float:
    """Return the mean over queries of the expected average precision; images of the same class are relevant."""
    queries, others, found = coder(task.queries), coder(task.images), []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        distances = hamming(queries[start : start + QUERIES_AT_ONCE], others)
        found += [
            expected_average_precision(row, task.classes == its)
            for row, its in zip(distances, task.of_queries[start:], strict=False)
        ]
    return float(np.mean(found))


def _hashing(settings: Settings, state: Path) -> Result:
    """Train a semantic hashing, with classes where the settings have their weight."""
    task, weight = _task_of(settings), settings["weight"]
    model = SemanticHashing(
        code_size=settings["bits"], labels=None if weight is None else MinimalLoss(weight=weight),
        **_training(settings), hidden_sizes=settings["hidden_sizes"], learning_rate=settings["learning_rate"],
    ).fit(task.images, task.classes)  # fmt: skip
    return {"map": _mean_average_precision(model.transform, task), "minutes": _minutes(model)}


def _training(settings: Settings) -> dict[str, Any]:
    return {
        "max_epochs": settings["max_epochs"], "batch_size": settings["batch_size"], "validation_fraction": 0.0,
        "random_state": settings["seed"], "verbose": 1,
    }  # fmt: skip


def _minutes(model: BaseAutoencoder) -> float:
    return learning_seconds(model) / 60


def _others(settings: Settings, state: Path) -> Result:
    """Compute codes by ITQ of pixels, ITQ of the codes of an autoencoder, and random hyperplanes."""
    task, generator = _task_of(settings), np.random.default_rng(settings["seed"])
    deep = Autoencoder(code_size=min(CODE_SIZE, task.images.shape[1]), **_training(settings)).fit(task.images)
    codes = {"itq": task.images, "autoencoder": deep.transform(task.images)}
    found: dict[str, dict[str, float]] = {name: {} for name in ("itq", "autoencoder", "lsh")}
    for bits in settings["bits"]:
        learned = {name: ITQ(bits, random_state=settings["seed"]).fit(rows) for name, rows in codes.items()}
        coders: Mapping[str, Coder] = {
            "itq": learned["itq"].transform,
            "autoencoder": _rotated(deep, learned["autoencoder"]),
            "lsh": _hyperplanes(task.images, bits, generator),
        }
        for name, coder in coders.items():
            found[name][str(bits)] = _mean_average_precision(coder, task)
    return {**found, "minutes": _minutes(deep)}


def _rotated(model: BaseAutoencoder, itq: ITQ) -> Coder:
    return lambda rows: itq.transform(model.transform(rows))


def _hyperplanes(images: Float[np.ndarray, "n columns"], bits: int, generator: np.random.Generator) -> Coder:
    planes, mean = generator.normal(size=(images.shape[1], bits)), images.mean(0)
    return lambda rows: ((rows - mean) @ planes > 0).astype(np.uint8)


def _precisions(results: Results, data: str, setup: _Setup) -> dict[str, list[float]]:
    """Return the mean average precision of each method by the number of bits."""
    ours = {name: [results[f"{data}-{name}-{bits}"]["map"] for bits in setup.bits] for name in ("labels", "hash")}
    others = results[f"{data}-others"]
    return ours | {name: [others[name][str(bits)] for bits in setup.bits] for name in ("itq", "autoencoder", "lsh")}


def _rows(results: Results, setup: _Setup) -> list[Row]:
    rows = []
    for data in setup.data:
        found = _precisions(results, data, setup)
        for name, values in found.items():
            for bits, value in zip(setup.bits, values, strict=True):
                rows.append(Row(f"{TITLES[data]}, {bits} bits, {NAMES[name]}: mAP", value, form=".3f"))
        for name in ("labels", "hash"):
            least = min(np.divide(found[name], found["itq"]))
            measured = f"{TITLES[data]}, {NAMES[name]}: mAP relative to ITQ of pixels, smallest ratio"
            rows.append(setup.row(measured, float(least), f"{data} {name}"))
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    minutes = sum(result["minutes"] for result in results.values())
    return [
        f"All models were trained in {minutes:.1f} minutes.",
        "The mAP is over all images of the data base; where distances are equal it is the expectation over their "
        "orders. Papers measure it on other splits, with other features and often over the first images alone, so no "
        "published figure is shown.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    return {data: _by_bits(results, data, setup) for data in setup.data}


def _by_bits(results: Results, data: str, setup: _Setup) -> Figure:
    """Draw the mean average precision of each method by the number of bits."""
    figure, ax = axes(7.6)
    colours = (COLOURS[1], COLOURS[0], *COLOURS[2:])
    for colour, (name, values) in zip(colours, _precisions(results, data, setup).items(), strict=False):
        ax.plot(setup.bits, values, color=colour, marker="o", ms=3.5, lw=1.8, label=NAMES[name])
    ax.set_xscale("log", base=2)
    ax.set_xticks(setup.bits, [str(bits) for bits in setup.bits])
    ax.set_ylim(0, None)
    ax.set_xlabel("bits")
    ax.set_ylabel("mean average precision")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title(f"{TITLES[data]}: retrieval of images of the same class", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="image-hashing",
    claim="Codes of bits retrieve images of the same class better than rotated principal components, and better still "
    "if they learn from classes.",
    source="Norouzi & Fleet, Minimal loss hashing (2011); Gong et al., Iterative quantization (2013)",
    protocol=(
        "The first 10,000 training images of MNIST, and the 10,000 of a subset of CIFAR-10, are the data base and the"
        " training set; the first 1,000 test images are the queries; images of the same class are relevant. Mean "
        "average precision over the whole data base, its expectation where distances are tied. Semantic hashing reads"
        " pixels by a linear layer and trains for 10 epochs in batches of 128; with classes it has 256 hidden units, "
        "a larger learning rate and the loss of pairs of a batch. These settings, and on CIFAR-10 one of two weights "
        "of that loss, were chosen by trials on 9,000 of the images with the other 1,000 as queries. The others: ITQ "
        "of principal components of pixels; ITQ of the 64 codes of an autoencoder; random hyperplanes (LSH)."
    ),
    minutes=8,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
