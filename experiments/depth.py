"""What depth buys at a fixed number of parameters: no nonlinear layer, one hidden layer, three."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure

from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import fitted, history, learning_seconds, n_weights, rows_of, squared_errors
from isthmus.estimators.base import BaseAutoencoder

_HINTON = "Hinton & Salakhutdinov (2006): with equal numbers of parameters a deep autoencoder can err less"
_BALDI = "Baldi & Hornik (1989): linear maps of any depth err at least as much as PCA on the training rows"

PUBLISHED = {
    "parameters": Published(0.01, "at most", "the protocol"),
    "linear": Published(1.0, "at least", _BALDI, 1e-6),
    "one over linear": Published(1.0, "at most", _HINTON),
    "three over one": Published(1.0, "at most", _HINTON),
    "three over one, few": Published(1.0, "at most", _HINTON),
}
"""What is claimed, compared with what came out and used for nothing else."""

QUICK = {name: PUBLISHED[name] for name in ("parameters", "linear", "one over linear")}

SEED = 0
NAMES = {
    "linear": "linear maps, linear output",
    "linear-sigmoid": "linear maps, sigmoid output",
    "one": "one hidden layer",
    "three": "three hidden layers",
    "few-one": "one hidden layer, few parameters",
    "few-three": "three hidden layers, few parameters",
}
"""What each cell is, in words."""


def _cells(quick: bool) -> list[Cell]:
    data = {"train": "digits:train", "test": "digits:test"} if quick else {"train": "mnist", "test": "mnist:test"}
    deep, few = ([50, 35, 20], [20, 12, 8]) if quick else ([400, 200, 100], [100, 60, 40])
    code_size, columns = (5, 64) if quick else (30, 784)
    wide, few_wide = ([equal_width([columns, *sizes, code_size])] for sizes in (deep, few))
    common = {
        "code_size": code_size, "batch_size": 64 if quick else 128, "learning_rate": 3e-3 if quick else 2e-3,
        "max_epochs": 12, "precision": "fp32",
    }  # fmt: skip
    shapes = {
        "linear": {"hidden_sizes": wide, "activation": "linear", "likelihood": "gaussian"},
        "linear-sigmoid": {"hidden_sizes": wide, "activation": "linear", "likelihood": "gaussian-unit"},
        "one": {"hidden_sizes": wide, "activation": "silu", "likelihood": "gaussian-unit"},
        "three": {"hidden_sizes": deep, "activation": "silu", "likelihood": "gaussian-unit"},
        "few-one": {"hidden_sizes": few_wide, "activation": "silu", "likelihood": "gaussian-unit"},
        "few-three": {"hidden_sizes": few, "activation": "silu", "likelihood": "gaussian-unit"},
    }
    return [
        Cell(name, {**data, "seed": SEED, "kind": "deep", "parameters": {**common, **shape}}, _fit)
        for name, shape in shapes.items()
    ]


def n_parameters(sizes: list[int]) -> int:
    """Weights and biases of an encoder of these sizes and its mirrored decoder.

    Example:
        >>> n_parameters([3, 2])
        17
    """
    return sum(2 * a * b + a + b for a, b in pairwise(sizes))


def equal_width(sizes: list[int]) -> int:
    """The width of one hidden layer that takes about as many parameters as the hidden layers of `sizes` do.

    Example:
        >>> equal_width([784, 400, 200, 100, 30])
        512
    """
    columns, code_size = sizes[0], sizes[-1]
    ends = columns + code_size
    return round((n_parameters(sizes) - ends) / (2 * ends + 2))


def _fit(settings: Settings, state: Path) -> Result:
    """One network: its errors, and its error on training rows by second."""
    model = fitted(settings, state=state)
    train, test = (squared_errors(model, rows_of(settings[part])) for part in ("train", "test"))
    return {
        **{f"train_{name}": value for name, value in train.items()},
        **{f"test_{name}": value for name, value in test.items()},
        "parameters": n_weights(model),
        "hidden_sizes": list(model.get_params()["hidden_sizes"]),
        "learning_seconds": learning_seconds(model),
        "curve": training_curve(model),
    }


def training_curve(model: BaseAutoencoder) -> list[list[float]]:
    """Epochs done, and the squared error of the training rows that the loop looks at after each.

    Both Gaussian likelihoods of unit variance are 1/2 ||x - r||^2 + columns / 2 log(2 pi).
    """
    constant = model.preprocessing_.n_columns / 2 * math.log(2 * math.pi)
    return [[epoch["epoch"] + 1, 2 * (epoch["train"] - constant)] for epoch in history(model)["epochs"]]


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    error = {name: cell["test_error"] for name, cell in results.items()}
    linear = results["linear"]
    return [
        Row("largest difference in the number of parameters", _unequal(results), published["parameters"], ".4f"),
        Row("PCA of the same code size: squared error per test image", linear["test_pca_error"]),
        *(Row(f"{NAMES[name]}: squared error per test image", value) for name, value in error.items()),
        Row("linear maps: training error over PCA's", linear["train_error"] / linear["train_pca_error"],
            published["linear"], ".4f"),
        Row("one hidden layer over linear maps, test error", error["one"] / error["linear"],
            published["one over linear"], ".3f"),
        Row("three hidden layers over one, few parameters, test error", error["few-three"] / error["few-one"],
            published.get("three over one, few"), ".3f"),
        Row("three hidden layers over one, test error", error["three"] / error["one"],
            published.get("three over one"), ".3f"),
        *(Row(f"{NAMES[name]}: minutes", cell["learning_seconds"] / 60) for name, cell in results.items()),
    ]  # fmt: skip


def _unequal(results: Results) -> float:
    """The largest relative difference in the number of parameters between networks that are compared."""
    few = [cell["parameters"] for name, cell in results.items() if name.startswith("few")]
    many = [cell["parameters"] for name, cell in results.items() if not name.startswith("few")]
    return max(max(sizes) / min(sizes) - 1 for sizes in (few, many))


def _remarks(results: Results, quick: bool) -> list[str]:
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
        "The linear pairs have the hidden layer of the one, without its nonlinearity: they have the parameters and "
        "cannot use them. What the sigmoid output alone brings, without a hidden nonlinearity, is told apart.",
        f"Three hidden layers err {_more(few)} than one with few parameters, and {_more(many)} with many, after equal "
        "epochs. The published comparison had hundreds of epochs; by epoch the deeper network is the slower one.",
    ]


def _more(excess: float) -> str:
    return f"{abs(excess):.1%} {'more' if excess > 0 else 'less'}"


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    lines = {
        NAMES[name]: ([e for e, _ in cell["curve"]], [error for _, error in cell["curve"]])
        for name, cell in results.items()
    }
    return {
        "error-by-epoch": curves(
            lines, across="epoch", up="squared error per training image", title="What depth buys, parameters equal",
            levels={"principal components": results["linear"]["train_pca_error"]},
        )
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="depth",
    claim="With equal numbers of parameters, hidden layers lower the error, and three lower it more than one.",
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
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
