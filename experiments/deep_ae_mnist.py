"""The deep autoencoder of 2006 on MNIST: squared error per test image, compared with PCA."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.depth import training_curve
from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import (
    fit_model,
    from_bytes,
    history,
    learning_seconds,
    load_dataset,
    load_rows,
    squared_errors,
    to_bytes,
)

_HINTON = "Hinton & Salakhutdinov (2006): 784-1000-500-250-30 and PCA, squared error per test image"

PUBLISHED = {
    "error": Published(3.00, "at most", _HINTON),
    "pca": Published(13.87, "within", _HINTON, 0.05),
}

QUICK_TARGETS = {"error over pca": Target(1.0, "at most", "a deep code errs less than a linear one")}

SEED = 0


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    cell: str
    data: dict[str, str]
    parameters: dict[str, Any]


_SMALL = {
    "network__hidden_sizes": [64, 32, 16], "code_size": 5, "batch_size": 64, "learning_rate": 3e-3, "max_epochs": 10,
}  # fmt: skip
_LARGE = {"network__hidden_sizes": [1000, 500, 250], "code_size": 30, "batch_size": 128, "learning_rate": 2e-3}
_DIGITS, _MNIST = {"train": "digits:train", "test": "digits:test"}, {"train": "mnist", "test": "mnist:test"}

FULL = _Setup(
    published=PUBLISHED, targets={"minutes": Target(10.0, "at most", "chosen here, on two cores", 0.2)},
    cell="ten-minutes", data=_MNIST,
    parameters={**_LARGE, "max_epochs": 40, "time_limit": 600, "optimizer__weight_decay": 0.1},
)  # fmt: skip

QUICK = _Setup(
    targets=QUICK_TARGETS,
    cell="ten-minutes",
    data=_DIGITS,
    parameters={**_SMALL, "time_limit": 600, "optimizer__weight_decay": 0.1},
)

FULL_HOUR = _Setup(
    published=PUBLISHED,
    targets={
        "error": Target(2.5, "at most", "chosen here for one hour"),
        "minutes": Target(60.0, "at most", "an hour", 1.0),
    },
    cell="hour", data=_MNIST,
    parameters={**_LARGE, "max_epochs": 130, "time_limit": 3600, "optimizer__weight_decay": 0.3},
)  # fmt: skip

QUICK_HOUR = _Setup(
    targets=QUICK_TARGETS,
    cell="hour",
    data=_DIGITS,
    parameters={**_SMALL, "time_limit": 3600, "optimizer__weight_decay": 0.3},
)


def _cells(setup: _Setup) -> list[Cell]:
    common = {"network__activation": "silu", "likelihood": "gaussian-unit", "optimizer__clip_norm": 1.0}
    settings = {**setup.data, "seed": SEED, "kind": "deep", "parameters": {**common, **setup.parameters}}
    return [Cell(setup.cell, settings, _fit)]


def _fit(settings: Settings, state: Path) -> Result:
    """Fit the autoencoder: errors, seconds, the training curve, and the reconstruction of a digit of each class."""
    model = fit_model(settings, state=state)
    X, labels = load_rows(settings["test"]), load_dataset(settings["test"]).labels
    assert labels is not None
    test, train = squared_errors(model, X), squared_errors(model, load_rows(settings["train"])[: len(X)])
    shown = X[[int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]]
    (reading,) = model.read(shown)
    return {
        **{f"test_{name}": value for name, value in test.items()},
        "train_error": train["error"],
        "learning_seconds": learning_seconds(model),
        "epochs": len(history(model)["epochs"]),
        "stopped": history(model)["stopped"],
        "precision": history(model)["precision"],
        "curve": training_curve(model),
        "image_shape": list(model.preprocessing_.image_shape or ()),
        "originals": to_bytes(reading.x),
        "reconstructions": to_bytes(reading.reconstruction),
        "components": to_bytes(model.baseline_.decode(model.baseline_.encode(reading.x))),
    }


def _only(results: Results) -> Result:
    (run,) = results.values()
    return run


def _rows(results: Results, setup: _Setup) -> list[Row]:
    run = _only(results)
    return [
        setup.row("squared error per test image", run["test_error"], "error"),
        setup.row("PCA of the same code size: squared error per test image", run["test_pca_error"], "pca"),
        setup.row("squared error over that of PCA", run["test_error"] / run["test_pca_error"], "error over pca", ".3f"),
        setup.row("minutes of training", run["learning_seconds"] / 60, "minutes"),
        Row("squared error per training image", run["train_error"]),
    ]


def _remarks(results: Results, setup: _Setup) -> list[str]:
    run = _only(results)
    return [
        f"{run['epochs']} epochs in {run['precision']}, stopped by {run['stopped']}. The squared error per training "
        f"image is {run['train_error']:.2f}: the difference is overfitting.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    run, size = _only(results), setup.parameters["code_size"]
    lines = {
        f"deep, {size} units": from_bytes(run["reconstructions"]),
        f"{size} components": from_bytes(run["components"]),
    }
    training = {"deep": ([epoch for epoch, _ in run["curve"]], [error for _, error in run["curve"]])}
    return {
        "originals-over-reconstructions": originals_over_reconstructions(
            from_bytes(run["originals"]), lines, run["image_shape"], title=f"Test digits from codes of {size} numbers"
        ),
        "error-by-epoch": curves(
            training, across="epoch", up="squared error per training image", title="Training curve",
            levels={"principal components": run["test_pca_error"]},
        ),
    }  # fmt: skip


_PROTOCOL = (
    "784-1000-500-250-30 and its mirror on the 60,000 training digits of MNIST in [0, 1]; squared error summed "
    "over pixels, mean over the 10,000 test digits. No pretraining: He's initialisation, SiLU units, linear code, "
    "sigmoid output under squared error, the output is initialized at the mean digit; Adam at 2e-3 with warm-up and a "
    "cosine to zero, gradient norm clipped at 1, batches of 128. "
)

EXPERIMENT = Experiment(
    name="deep-ae-mnist",
    claim="A deep autoencoder with a code of 30 has a squared error of 3.00 per test digit; PCA has 13.87.",
    source="Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313 (2006)",
    protocol=_PROTOCOL + "40 epochs, at most 10 minutes, decoupled weight decay of 0.1.",
    minutes=10,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)

LONG_EXPERIMENT = replace(
    EXPERIMENT,
    name="deep-ae-mnist-hour",
    claim="The same network has a lower error after an hour of training.",
    protocol=_PROTOCOL + "130 epochs, at most an hour, with decoupled weight decay of 0.3.",
    minutes=60,
    full=FULL_HOUR,
    quick=QUICK_HOUR,
)
