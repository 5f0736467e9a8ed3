"""Depth at a fixed number of parameters: no nonlinear layer, one hidden layer, three hidden layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure

from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, history, learning_seconds, load_rows, n_weights, squared_errors
from isthmus.estimators.base import BaseAutoencoder

_HINTON = "Hinton & Salakhutdinov (2006): at equal numbers of parameters a deep autoencoder can have a lower error"
_BALDI = "Baldi & Hornik (1989): linear maps of any depth err at least as much as PCA on the training rows"

PUBLISHED = {
    "linear": Published(1.0, "at least", _BALDI, 1e-6),
    "three over one": Published(1.0, "at most", _HINTON),
    "three over one, few": Published(1.0, "at most", _HINTON),
}

TARGETS = {
    "parameters": Target(0.01, "at most", "the protocol compares equal numbers of parameters"),
    "one over linear": Target(1.0, "at most", "a nonlinear layer lowers the error"),
}

SEED = 0
NAMES = {
    "linear": "linear maps, linear output",
    "linear-sigmoid": "linear maps, sigmoid output",
    "one": "one hidden layer",
    "three": "three hidden layers",
    "few-one": "one hidden layer, few parameters",
    "few-three": "three hidden layers, few parameters",
}
"""Each cell, in words."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, str]
    columns: int
    code_size: int
    deep: list[int]
    few: list[int]
    batch_size: int
    learning_rate: float


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, data={"train": "mnist", "test": "mnist:test"}, columns=784, code_size=30,
    deep=[400, 200, 100], few=[100, 60, 40], batch_size=128, learning_rate=2e-3,
)  # fmt: skip

QUICK = _Setup(
    published={"linear": PUBLISHED["linear"]}, targets=TARGETS, data={"train": "digits:train", "test": "digits:test"},
    columns=64, code_size=5, deep=[50, 35, 20], few=[20, 12, 8], batch_size=64, learning_rate=3e-3,
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    wide, few_wide = (
        [equal_width([setup.columns, *sizes, setup.code_size])] for sizes in (setup.deep, setup.few)
    )  # fmt: skip
    common = {
        "code_size": setup.code_size, "batch_size": setup.batch_size, "learning_rate": setup.learning_rate,
        "max_epochs": 12, "precision": "fp32",
    }  # fmt: skip
    shapes = {
        "linear": (wide, "linear", "gaussian"),
        "linear-sigmoid": (wide, "linear", "gaussian-unit"),
        "one": (wide, "silu", "gaussian-unit"),
        "three": (setup.deep, "silu", "gaussian-unit"),
        "few-one": (few_wide, "silu", "gaussian-unit"),
        "few-three": (setup.few, "silu", "gaussian-unit"),
    }
    return [
        Cell(name, {**setup.data, "seed": SEED, "kind": "deep", "parameters": {
            **common, "network__hidden_sizes": sizes, "network__activation": activation, "likelihood": likelihood,
        }}, _fit)
        for name, (sizes, activation, likelihood) in shapes.items()
    ]  # fmt: skip


def n_parameters(sizes: list[int]) -> int:
    """Return the number of weights and biases of an encoder of these sizes and its mirrored decoder.

    Example:
        >>> n_parameters([3, 2])
        17
    """
    return sum(2 * a * b + a + b for a, b in pairwise(sizes))


def equal_width(sizes: list[int]) -> int:
    """Return the width of one hidden layer with about as many parameters as the hidden layers of `sizes`.

    Example:
        >>> equal_width([784, 400, 200, 100, 30])
        512
    """
    columns, code_size = sizes[0], sizes[-1]
    ends = columns + code_size
    return round((n_parameters(sizes) - ends) / (2 * ends + 2))


def _fit(settings: Settings, state: Path) -> Result:
    """Fit one network: its errors and its training curve."""
    model = fit_model(settings, state=state)
    train, test = (squared_errors(model, load_rows(settings[part])) for part in ("train", "test"))
    return {
        **{f"train_{name}": value for name, value in train.items()},
        **{f"test_{name}": value for name, value in test.items()},
        "parameters": n_weights(model),
        "hidden_sizes": settings["parameters"]["network__hidden_sizes"],
        "learning_seconds": learning_seconds(model),
        "curve": training_curve(model),
    }


def training_curve(model: BaseAutoencoder) -> list[list[float]]:
    """Return pairs of completed epochs and squared error of the training rows.

    Both Gaussian likelihoods of unit variance are 1/2 ||x - r||^2 + columns / 2 log(2 pi).
    """
    constant = model.preprocessing_.n_columns / 2 * math.log(2 * math.pi)
    return [[epoch["epoch"] + 1, 2 * (epoch["train"] - constant)] for epoch in history(model)["epochs"]]


def _rows(results: Results, setup: _Setup) -> list[Row]:
    error = {name: cell["test_error"] for name, cell in results.items()}
    linear = results["linear"]
    return [
        setup.row("largest relative difference in the number of parameters", _unequal(results), "parameters", ".4f"),
        Row("PCA of the same code size: squared error per test image", linear["test_pca_error"]),
        *(Row(f"{NAMES[name]}: squared error per test image", value) for name, value in error.items()),
        setup.row("linear maps: training error over that of PCA", linear["train_error"] / linear["train_pca_error"],
                  "linear", ".4f"),
        setup.row("test error, one hidden layer over linear maps", error["one"] / error["linear"], "one over linear",
                  ".3f"),
        setup.row("test error, three hidden layers over one, few parameters", error["few-three"] / error["few-one"],
                  "three over one, few", ".3f"),
        setup.row("test error, three hidden layers over one", error["three"] / error["one"], "three over one", ".3f"),
        *(Row(f"{NAMES[name]}: minutes", cell["learning_seconds"] / 60) for name, cell in results.items()),
    ]  # fmt: skip


def _unequal(results: Results) -> float:
    """Return the largest relative difference in the number of parameters between compared networks."""
    few = [cell["parameters"] for name, cell in results.items() if name.startswith("few")]
    many = [cell["parameters"] for name, cell in results.items() if not name.startswith("few")]
    return max(max(sizes) / min(sizes) - 1 for sizes in (few, many))


def _remarks(results: Results, setup: _Setup) -> list[str]:
    widths = "; ".join(
        f"{NAMES[name]}: {'-'.join(map(str, cell['hidden_sizes']))} units a side, {cell['parameters']:,} parameters"
        for name, cell in results.items()
    )
    many, few = (
        results[three]["test_error"] / results[one]["test_error"] - 1
        for three, one in (("three", "one"), ("few-three", "few-one"))
    )
    return [
        f"{widths[0].upper()}{widths[1:]}.",
        "The linear networks have the layers of the network with one hidden layer, without its nonlinearity. One of "
        "them has a sigmoid output, which separates the effect of the output from that of the hidden nonlinearity.",
        f"After equal epochs, three hidden layers have an error {_more(few)} than one hidden layer with few "
        f"parameters, and {_more(many)} with many. The published networks were trained for hundreds of epochs; the "
        "deeper network needs more of them.",
    ]


def _more(excess: float) -> str:
    return f"{abs(excess):.1%} {'larger' if excess > 0 else 'smaller'}"


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    lines = {
        NAMES[name]: ([e for e, _ in cell["curve"]], [error for _, error in cell["curve"]])
        for name, cell in results.items()
    }
    return {
        "error-by-epoch": curves(
            lines, across="epoch", up="squared error per training image", title="Depth at equal numbers of parameters",
            levels={"principal components": results["linear"]["train_pca_error"]},
        )
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="depth",
    claim="At equal numbers of parameters, hidden layers lower the error, and three lower it more than one.",
    source="Deep Learning, section 14.3; Hinton & Salakhutdinov (2006)",
    protocol=(
        "MNIST in [0, 1], 60,000 training and 10,000 test digits, code size 30. Three hidden layers of 400, 200 and "
        "100 units on each side, one hidden layer as wide as gives the same number of parameters, and the same with "
        "linear activations; then three of 100, 60 and 40, and one of the same number of "
        "parameters; SiLU, sigmoid output, squared error; Adam in fp32 at 2e-3 with warm-up and a cosine to "
        "zero, batches of 128, 12 epochs each."
    ),
    minutes=6,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
