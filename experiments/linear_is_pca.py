"""A linear autoencoder learns the subspace of the principal components, and not the components."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy.linalg import subspace_angles

from experiments.drawing import curves, signed_lines
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import fitted, rows_of, squared_errors
from isthmus.estimators.base import BaseAutoencoder

_BALDI = "Baldi & Hornik (1989): every minimum spans the principal subspace"
_BOURLARD = "Bourlard & Kamp (1988): no code beats the linear one under a linear decoder"
_LINEAR_TIME = "one pass costs the same for each row"

PUBLISHED = {
    "angle": Published(0.0, "within", _BALDI, 0.1),
    "train ratio": Published(1.0, "within", _BALDI, 0.001),
    "test ratio": Published(1.0, "within", _BALDI, 0.001),
    "sigmoid ratio": Published(1.0, "at least", _BOURLARD),
    "fit": Published(1.0, "within", _LINEAR_TIME, 0.02),
}
"""Theorems, compared with what came out and used for nothing else."""

QUICK = {
    "angle": Published(0.0, "within", _BALDI, 5.0),
    "train ratio": Published(1.0, "within", _BALDI, 0.01),
    "test ratio": Published(1.0, "within", _BALDI, 0.02),
    "sigmoid ratio": Published(1.0, "at least", _BOURLARD),
}
"""What has to hold already on the small digits: 64 columns, a code of 5."""

SEED = 0
N_SHOWN = 10
"""Components, columns and units whose pictures are kept."""


def _cells(quick: bool) -> list[Cell]:
    data = {"train": "digits:train", "test": "digits:test"} if quick else {"train": "mnist", "test": "mnist:test"}
    common = {
        "precision": "fp32", "likelihood": "gaussian", "code_size": 5 if quick else 30,
        "batch_size": 64 if quick else 250, "learning_rate": 1e-2 if quick else 3e-3,
    }  # fmt: skip
    sigmoid: dict[str, Any] = {"hidden_sizes": [], "code_activation": "sigmoid", "max_epochs": 12 if quick else 30}
    sizes = [400, 800, 1200] if quick else [10_000, 20_000, 30_000, 40_000, 50_000, 60_000]
    return [
        Cell("linear", {
            **data, "seed": SEED, "kind": "linear", "parameters": {**common, "max_epochs": 40 if quick else 60},
        }, _linear),
        Cell("sigmoid-code", {**data, "seed": SEED, "kind": "deep", "parameters": {**common, **sigmoid}}, _sigmoid),
        Cell("seconds", {
            **data, "seed": SEED, "kind": "linear", "parameters": {**common, "max_epochs": 2}, "rows": sizes,
            "repeats": 1 if quick else 3,
        }, _seconds),
    ]  # fmt: skip


def _linear(settings: Settings, state: Path) -> Result:
    """The pair against the components: subspaces, errors, and how its units differ from components."""
    model = fitted(settings, state=state)
    train, test = (squared_errors(model, rows_of(settings[part])) for part in ("train", "test"))
    columns = _decoder_columns(model)
    components = model.baseline_.components.numpy().astype(np.float64)
    codes = model.transform(rows_of(settings["train"])).astype(np.float64)
    lengths = np.linalg.norm(columns, axis=1)
    # A unit's code can be scaled if its column is scaled back: what it adds to r has the variance below.
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
    """The decoder's columns as rows; each is what a unit adds to the reconstruction."""
    decoder: Any = model.objective_.decoder
    return decoder.affine_maps[-1].weight.detach().numpy().astype(np.float64).T


def pairwise_angles(rows: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, " pairs"]:
    """The angle of each pair of rows, in degrees, at most 90: a direction and its opposite are the same.

    Example:
        >>> pairwise_angles(np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])).round(3).tolist()
        [90.0, 45.0, 45.0]
    """
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.abs(units @ units.T)[np.triu_indices(len(rows), 1)]
    return np.degrees(np.arccos(np.clip(cosines, 0, 1)))


def _sigmoid(settings: Settings, state: Path) -> Result:
    """A sigmoid code under a linear decoder, beside the components."""
    model = fitted(settings, state=state)
    train, test = (squared_errors(model, rows_of(settings[part])) for part in ("train", "test"))
    return {
        "train_ratio": train["error"] / train["pca_error"],
        "test_ratio": test["error"] / test["pca_error"],
        "test_error": test["error"],
    }


def _seconds(settings: Settings, state: Path) -> Result:
    """Processor seconds of learning by number of rows: the least of the repeats, taken in turn."""
    best = {n: float("inf") for n in settings["rows"]}
    fitted(settings, n_rows=settings["rows"][0])
    for _ in range(settings["repeats"]):
        for n in settings["rows"]:
            began = time.process_time()
            fitted(settings, n_rows=n)
            best[n] = min(best[n], time.process_time() - began)
    rows, seconds = np.array(list(best), float), np.array(list(best.values()))
    slope, start = np.polyfit(rows, seconds, 1)
    left = seconds - (start + slope * rows)
    return {
        "rows": rows.astype(int).tolist(), "seconds": seconds.round(4).tolist(),
        "seconds_per_million": float(slope * 1e6), "seconds_at_none": float(start),
        "r2": float(1 - left.var() / seconds.var()),
    }  # fmt: skip


def _rows(results: Results, quick: bool) -> list[Row]:
    published, pair = QUICK if quick else PUBLISHED, results["linear"]
    size = len(pair["unit_variances"])
    sigmoid, seconds = results["sigmoid-code"], results["seconds"]
    units, components = pair["unit_variances"], pair["component_variances"]
    return [
        Row(f"largest angle between decoder and {size} components, degrees", pair["largest_angle"],
            published["angle"], ".3f"),
        Row("training error over PCA's", pair["train_ratio"], published["train ratio"], ".5f"),
        Row("test error over PCA's", pair["test_ratio"], published["test ratio"], ".5f"),
        Row("sigmoid code, linear decoder: training error over PCA's", sigmoid["train_ratio"],
            published["sigmoid ratio"], ".4f"),
        Row("processor seconds against rows: r2 of a straight line", seconds["r2"], published.get("fit"), ".4f"),
        Row("squared error per test image", pair["test_error"]),
        Row("angle between two units, degrees: least", min(pair["unit_angles"]), form=".1f"),
        Row("angle between two units, degrees: mean", float(np.mean(pair["unit_angles"])), form=".1f"),
        Row("largest over least variance: units", units[0] / units[-1], form=".1f"),
        Row("largest over least variance: components", components[0] / components[-1], form=".1f"),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    pair, seconds = results["linear"], results["seconds"]
    return [
        f"The units are skewed where components are orthogonal (least angle {min(pair['unit_angles']):.0f} degrees) "
        "and share the variance nearly evenly, where components are ordered by it.",
        "The decoder's columns are compared: the encoder's rows are free in directions in which the data hardly vary.",
        f"A pass over a million rows takes {seconds['seconds_per_million'] / 2:.0f} processor seconds.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
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
            lines, pair["image_shape"], title="One subspace, other directions"
        ),
        "variances": curves(
            shares, across="component or unit, by falling variance", up="share of the variance",
            title="Components are ordered by variance, units share it",
        ),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="linear-is-pca",
    claim="A linear autoencoder learns the subspace of the principal components, in other coordinates.",
    source="Baldi & Hornik (1989); Bourlard & Kamp (1988); Deep Learning, section 14.1",
    protocol=(
        "784-30-784, linear, untied, with biases, on the 60,000 training digits of MNIST in [0, 1]; Adam in fp32, "
        "batches of 250, 60 epochs, learning rate 3e-3 with 5% warm-up and a cosine to zero, drawn by Glorot's "
        "rule. Principal angles between the decoder's columns and the first 30 principal components; errors on the "
        "training and the 10,000 test digits. Beside it a sigmoid code under a linear decoder, 30 epochs. A unit's "
        "variance is that of what it adds to the reconstruction. Two epochs at 10,000 to 60,000 rows, three times "
        "in turn, the least processor time of each."
    ),
    minutes=5,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
