"""A linear autoencoder learns the subspace of the principal components, but not the components themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.linalg import subspace_angles

from experiments.drawing import curves, signed_lines
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, load_rows, squared_errors
from isthmus.estimators.base import BaseAutoencoder

_BALDI = "Baldi & Hornik (1989): every minimum spans the principal subspace"
_BOURLARD = "Bourlard & Kamp (1988): under a linear decoder no code has a lower error than the linear one"

PUBLISHED = {
    "angle": Published(0.0, "within", _BALDI, 0.1),
    "train ratio": Published(1.0, "within", _BALDI, 0.001),
    "test ratio": Published(1.0, "within", _BALDI, 0.001),
    "sigmoid ratio": Published(1.0, "at least", _BOURLARD),
}
"""Values of theorems; the tolerances are ours."""

TARGETS = {"fit": Target(1.0, "within", "the cost of a pass is linear in the number of rows", 0.02)}

SEED = 0
N_SHOWN = 10
"""Number of components and units in the picture."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, str]
    common: dict[str, Any]
    linear_epochs: int
    sigmoid_epochs: int
    timed_rows: list[int]
    repeats: int


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, data={"train": "mnist", "test": "mnist:test"},
    common={"code_size": 30, "batch_size": 250, "learning_rate": 3e-3}, linear_epochs=60, sigmoid_epochs=30,
    timed_rows=[10_000, 20_000, 30_000, 40_000, 50_000, 60_000], repeats=3,
)  # fmt: skip

QUICK = _Setup(
    published={
        "angle": Published(0.0, "within", _BALDI, 5.0),
        "train ratio": Published(1.0, "within", _BALDI, 0.01),
        "test ratio": Published(1.0, "within", _BALDI, 0.02),
        "sigmoid ratio": PUBLISHED["sigmoid ratio"],
    },
    data={"train": "digits:train", "test": "digits:test"},
    common={"code_size": 5, "batch_size": 64, "learning_rate": 1e-2}, linear_epochs=40, sigmoid_epochs=12,
    timed_rows=[400, 800, 1200], repeats=1,
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {**setup.common, "precision": "fp32", "likelihood": "gaussian"}
    sigmoid: dict[str, Any] = {
        "hidden_sizes": [], "code_activation": "sigmoid", "max_epochs": setup.sigmoid_epochs,
    }  # fmt: skip
    return [
        Cell("linear", {
            **setup.data, "seed": SEED, "kind": "linear", "parameters": {**common, "max_epochs": setup.linear_epochs},
        }, _linear),
        Cell("sigmoid-code", {
            **setup.data, "seed": SEED, "kind": "deep", "parameters": {**common, **sigmoid},
        }, _sigmoid),
        Cell("seconds", {
            **setup.data, "seed": SEED, "kind": "linear", "parameters": {**common, "max_epochs": 2},
            "rows": setup.timed_rows, "repeats": setup.repeats,
        }, _seconds),
    ]  # fmt: skip


def _linear(settings: Settings, state: Path) -> Result:
    """Compare a linear autoencoder with PCA: subspaces, errors, and its units with the components."""
    model = fit_model(settings, state=state)
    train, test = (squared_errors(model, load_rows(settings[part])) for part in ("train", "test"))
    columns = _decoder_columns(model)
    components = model.baseline_.components.numpy().astype(np.float64)
    codes = model.transform(load_rows(settings["train"])).astype(np.float64)
    lengths = np.linalg.norm(columns, axis=1)
    # The scale of a unit's code is arbitrary if its column has the inverse scale: its term of r has the variance below.
    variances = codes.var(0) * lengths**2
    return {
        "largest_angle": float(np.degrees(subspace_angles(columns.T, components.T).max())),
        "train_ratio": train["error"] / train["pca_error"],
        "test_ratio": test["error"] / test["pca_error"],
        **{f"train_{name}": value for name, value in train.items()},
        **{f"test_{name}": value for name, value in test.items()},
        "unit_angles": pairwise_angles(columns).tolist(),
        "unit_variances": np.sort(variances)[::-1].tolist(),
        "component_variances": model.baseline_.explained_variance.tolist(),
        "image_shape": list(model.preprocessing_.image_shape or (1, 1, columns.shape[1])),
        "columns": np.round(columns[np.argsort(-variances)[:N_SHOWN]], 5).tolist(),
        "components": np.round(components[:N_SHOWN], 5).tolist(),
    }


def _decoder_columns(model: BaseAutoencoder) -> Float[np.ndarray, "code_size columns"]:
    """Return the columns of the decoder as rows: the direction that each unit adds to the reconstruction."""
    decoder: Any = model.coder_.decoder
    return decoder.affine_maps[-1].weight.detach().numpy().astype(np.float64).T


def pairwise_angles(rows: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, " pairs"]:
    """Return the angle of each pair of rows in degrees, at most 90: the sign of a direction is ignored.

    Example:
        >>> pairwise_angles(np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])).round(3).tolist()
        [90.0, 45.0, 45.0]
    """
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.abs(units @ units.T)[np.triu_indices(len(rows), 1)]
    return np.degrees(np.arccos(np.clip(cosines, 0, 1)))


def _sigmoid(settings: Settings, state: Path) -> Result:
    """Compare a sigmoid code under a linear decoder with PCA."""
    model = fit_model(settings, state=state)
    train, test = (squared_errors(model, load_rows(settings[part])) for part in ("train", "test"))
    return {
        "train_ratio": train["error"] / train["pca_error"],
        "test_ratio": test["error"] / test["pca_error"],
        "test_error": test["error"],
    }


def _seconds(settings: Settings, state: Path) -> Result:
    """Measure processor seconds of training by number of rows: the minimum of the repeats, run in turn."""
    best = {n: float("inf") for n in settings["rows"]}
    fit_model(settings, n_rows=settings["rows"][0])
    for _ in range(settings["repeats"]):
        for n in settings["rows"]:
            began = time.process_time()
            fit_model(settings, n_rows=n)
            best[n] = min(best[n], time.process_time() - began)
    rows, seconds = np.array(list(best), float), np.array(list(best.values()))
    slope, start = np.polyfit(rows, seconds, 1)
    left = seconds - (start + slope * rows)
    return {
        "rows": rows.astype(int).tolist(), "seconds": seconds.round(4).tolist(),
        "seconds_per_million": float(slope * 1e6), "seconds_at_none": float(start),
        "r2": float(1 - left.var() / seconds.var()),
    }  # fmt: skip


def _rows(results: Results, setup: _Setup) -> list[Row]:
    pair = results["linear"]
    size = len(pair["unit_variances"])
    sigmoid, seconds = results["sigmoid-code"], results["seconds"]
    units, components = pair["unit_variances"], pair["component_variances"]
    return [
        setup.row(f"largest angle between decoder and {size} components, degrees", pair["largest_angle"], "angle",
                  ".3f"),
        setup.row("training error over that of PCA", pair["train_ratio"], "train ratio", ".5f"),
        setup.row("test error over that of PCA", pair["test_ratio"], "test ratio", ".5f"),
        setup.row("sigmoid code, linear decoder: training error over that of PCA", sigmoid["train_ratio"],
                  "sigmoid ratio", ".4f"),
        setup.row("processor seconds against rows: r2 of a straight line", seconds["r2"], "fit", ".4f"),
        Row("squared error per test image", pair["test_error"]),
        Row("angle between two units, degrees: least", min(pair["unit_angles"]), form=".1f"),
        Row("angle between two units, degrees: mean", float(np.mean(pair["unit_angles"])), form=".1f"),
        Row("largest over least variance: units", units[0] / units[-1], form=".1f"),
        Row("largest over least variance: components", components[0] / components[-1], form=".1f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    pair, seconds = results["linear"], results["seconds"]
    return [
        f"The units are not orthogonal (least angle {min(pair['unit_angles']):.0f} degrees) and have nearly equal "
        "variances; components are orthogonal and ordered by variance.",
        "The columns of the decoder are compared, because the rows of the encoder are undetermined in directions of "
        "small variance.",
        f"A pass over a million rows takes {seconds['seconds_per_million'] / 2:.0f} processor seconds.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    pair = results["linear"]
    lines = {"components": pair["components"], "units": pair["columns"]}
    units, components = pair["unit_variances"], pair["component_variances"]
    total = sum(components)
    shares = {
        "principal components": (range(1, len(components) + 1), [value / total for value in components]),
        "units of the linear autoencoder": (range(1, len(units) + 1), [value / sum(units) for value in units]),
    }
    return {
        "components-over-units": signed_lines(
            lines, pair["image_shape"], title="The same subspace, other directions"
        ),
        "variances": curves(
            shares, across="component or unit, by falling variance", up="share of the variance",
            title="Variances of components and units",
        ),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="linear-is-pca",
    claim="A linear autoencoder learns the subspace of the principal components, in other coordinates.",
    source="Baldi & Hornik (1989); Bourlard & Kamp (1988); Deep Learning, section 14.1",
    protocol=(
        "784-30-784, linear, untied, with biases, on the 60,000 training digits of MNIST in [0, 1]; Adam in fp32, "
        "batches of 250, 60 epochs, learning rate 3e-3 with 5% warm-up and a cosine to zero, Glorot initialisation. "
        "Principal angles between the decoder's columns and the first 30 principal components; errors on the training "
        "and the 10,000 test digits. For comparison a sigmoid code under a linear decoder, 30 epochs. The variance of "
        "a unit is that of its term of the reconstruction. Processor time: two epochs at 10,000 to 60,000 rows, the "
        "minimum of three runs."
    ),
    minutes=5,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
