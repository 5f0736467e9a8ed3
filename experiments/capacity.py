"""Too much capacity: a decoder memorises rows behind a code of one unit, and a wide linear pair copies its input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, from_bytes, history, load_rows, squared_errors, to_bytes
from isthmus.estimators.base import BaseAutoencoder

_BOOK = "Deep Learning, section 14.1: a code of one unit can learn the index of each training row"
_COPY = "Deep Learning, section 14.2: an overcomplete linear pair copies and learns nothing of the data"
_DOCTOR = "the doctor has to report the finding"

TARGETS = {
    "memorised": Target(0.05, "at most", _BOOK),
    "useless": Target(1.0, "at least", _BOOK),
    "noise": Target(0.01, "at most", _COPY),
    "undercomplete noise": Target(0.5, "at least", _COPY),
    "named memorised-rows": Target(1, "at least", _DOCTOR),
    "named copies-input": Target(1, "at least", _DOCTOR),
}
"""The book states no figures: these bounds express its claims in numbers."""

SEED = 0
TRAIN, TEST = "digits:train", "digits:test"
N_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    rows: int
    memorise: dict[str, Any]
    copy: dict[str, Any]


FULL = _Setup(
    targets=TARGETS, rows=50, memorise={"batch_size": 50, "max_epochs": 5000},
    copy={"learning_rate": 3e-3, "max_epochs": 200},
)  # fmt: skip

QUICK = _Setup(
    targets={
        "memorised": Target(0.5, "at most", _BOOK),
        "noise": Target(0.1, "at most", _COPY),
        "undercomplete noise": Target(0.5, "at least", _COPY),
    },
    rows=20, memorise={"batch_size": 20, "max_epochs": 150}, copy={"learning_rate": 1e-2, "max_epochs": 8},
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    memorise = {
        "code_size": 1, "network__hidden_sizes": [64, 64, 64, 64], "network__activation": "silu",
        "likelihood": "gaussian", "learning_rate": 5e-3, "optimizer__clip_norm": 1.0, "precision": "fp32",
        **setup.memorise,
    }  # fmt: skip
    pair = {"scaling": "standard", "precision": "fp32", "batch_size": 64, **setup.copy}
    common = {"train": TRAIN, "test": TEST, "seed": SEED}
    return [
        Cell("memorise", {**common, "kind": "deep", "rows": setup.rows, "parameters": memorise}, _memorise),
        Cell("copy", {**common, "kind": "linear", "parameters": {**pair, "code_size": 128}}, _copy),
        Cell("undercomplete", {**common, "kind": "linear", "parameters": {**pair, "code_size": 8}}, _copy),
    ]


def _findings(model: BaseAutoencoder) -> list[str]:
    """Return the names of the doctor's findings."""
    return [finding["name"] for finding in history(model)["findings"]]


def _memorise(settings: Settings, state: Path) -> Result:
    """Fit a code of one unit to a few rows: errors on them and on other rows, and those of the mean row."""
    train, test = load_rows(settings["train"], settings["rows"]), load_rows(settings["test"])
    model = fit_model(settings, n_rows=settings["rows"])
    # The same fit again with validation rows: the doctor needs them to detect memorised rows.
    validated = fit_model(settings, n_rows=settings["rows"], validation=test)
    mean = train.mean(0)
    variances = {
        name: float(((X - mean) ** 2).sum(axis=(1, 2)).mean()) for name, X in (("train", train), ("test", test))
    }
    errors = {name: squared_errors(model, X) for name, X in (("train", train), ("test", test))}
    shown = np.concatenate([train[:N_SHOWN], test[:N_SHOWN]])
    return {
        **{f"{name}_error": errors[name]["error"] for name in errors},
        **{f"{name}_pca_error": errors[name]["pca_error"] for name in errors},
        **{f"{name}_variance": value for name, value in variances.items()},
        "findings": _findings(validated),
        "image_shape": [1, *train.shape[1:]],
        "originals": to_bytes(shown.reshape(len(shown), -1)),
        "reconstructions": to_bytes(model.reconstruct(shown).reshape(len(shown), -1)),
    }


def _copy(settings: Settings, state: Path) -> Result:
    """Fit a linear pair to standardised pixels: the share of digits and of noise that is not reconstructed."""
    train, test = varying(load_rows(settings["train"])), varying(load_rows(settings["test"]))
    model = fit_model(settings, rows=train)
    generator = np.random.default_rng(settings["seed"])
    mean, scale = train.mean(0), train.std(0)
    noise = (mean + scale * generator.normal(size=test.shape)).astype(np.float32)
    kinds = {"train": train, "test": test, "shuffled": generator.permuted(test, axis=0), "noise": noise}
    # In model space each training column has mean 0 and variance 1: noise is as large there as digits are.
    lost = {}
    for name, X in kinds.items():
        size = sum(float(reading.x.double().square().sum()) for reading in model.read(X)) / len(X)
        lost[name] = squared_errors(model, X)["error"] / size
    shown = np.concatenate([test[:N_SHOWN], noise[:N_SHOWN]])
    return {
        "lost": lost,
        "findings": _findings(model),
        "columns": train.shape[1],
        "originals": to_bytes(_whole(shown)),
        "reconstructions": to_bytes(_whole(np.asarray(model.reconstruct(shown)))),
    }


def _constant_pixels() -> np.ndarray:
    """Return the mask of pixels that are constant on the training digits and cannot be standardised."""
    X = load_rows(TRAIN)
    return X.reshape(len(X), -1).std(0) == 0


def varying(X: np.ndarray) -> Float[np.ndarray, "rows columns"]:
    """Return the varying pixels of each image as a row."""
    return X.reshape(len(X), -1)[:, ~_constant_pixels()]


def _whole(X: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows pixels"]:
    """Return whole images from their varying pixels."""
    pixels = np.zeros((len(X), 64))
    pixels[:, ~_constant_pixels()] = X
    return pixels


def _rows(results: Results, setup: _Setup) -> list[Row]:
    one, copy, under = (results[name] for name in ("memorise", "copy", "undercomplete"))
    return [
        setup.row("one unit: training error over the variance of the rows", one["train_error"] / one["train_variance"],
                  "memorised", ".4f"),
        setup.row("one unit: test error over that of the training mean", one["test_error"] / one["test_variance"],
                  "useless", ".3f"),
        Row("one principal component: training error over the variance of the rows",
            one["train_pca_error"] / one["train_variance"], form=".3f"),
        setup.row("one unit: the doctor reports memorised-rows (1 yes, 0 no)",
                  float("memorised-rows" in one["findings"]), "named memorised-rows", ".0f"),
        Row("128 linear units: share of the test digits lost", copy["lost"]["test"], form=".1e"),
        Row("128 linear units: share of digits with shuffled pixels lost", copy["lost"]["shuffled"], form=".1e"),
        setup.row("128 linear units: share of noise lost", copy["lost"]["noise"], "noise", ".1e"),
        setup.row("8 linear units: share of noise lost", under["lost"]["noise"], "undercomplete noise", ".3f"),
        Row("8 linear units: share of the test digits lost", under["lost"]["test"], form=".3f"),
        setup.row("128 linear units: the doctor reports copies-input (1 yes, 0 no)",
                  float("copies-input" in copy["findings"]), "named copies-input", ".0f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    one, copy, under = (results[name] for name in ("memorise", "copy", "undercomplete"))
    findings = {
        name: ", ".join(cell["findings"]) or "none"
        for name, cell in (("one unit", one), ("128 linear units", copy), ("8 linear units", under))
    }
    return [
        "The book states no figures; the targets express its claims in numbers.",
        *(f"The doctor's findings, {name}: {names}." for name, names in findings.items()),
        f"128 units for {copy['columns']} pixels reconstruct noise as well as digits: the pair has learned nothing "
        "about the distribution of digits.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    one, copy, under = (results[name] for name in ("memorise", "copy", "undercomplete"))
    shape: Any = one["image_shape"]
    return {
        "one-unit-memorises": originals_over_reconstructions(
            from_bytes(one["originals"]), from_bytes(one["reconstructions"]), shape,
            captions=["training"] * N_SHOWN + ["test"] * N_SHOWN,
            title="A code of one unit on training rows and test rows",
        ),
        "wide-pair-copies": originals_over_reconstructions(
            from_bytes(copy["originals"]),
            {"128 units": from_bytes(copy["reconstructions"]), "8 units": from_bytes(under["reconstructions"])},
            shape, captions=["digit"] * N_SHOWN + ["noise"] * N_SHOWN,
            title="Linear codes: 128 units reconstruct noise as well as digits, 8 units do not",
        ),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="capacity",
    claim="With too much capacity an autoencoder memorises rows or copies its input, and the doctor reports it.",
    source="Deep Learning, sections 14.1 and 14.2",
    protocol=(
        "scikit-learn's digits, 8 x 8. Memorising: the first 50 training rows, a code of one unit between four "
        "hidden layers of 64 SiLU units on each side, linear output, full batches, Adam at 5e-3 with a cosine to "
        "zero, 5,000 steps; fitted twice with the same seed, the second time with test rows for the doctor. "
        "Copying: the 61 pixels that vary, standardised, 61-128-61 linear, Adam at 3e-3, batches of 64, 200 epochs, "
        "evaluated on test digits, on pixels shuffled between digits, and on Gaussian noise of each pixel's mean and "
        "variance; the same with a code of 8."
    ),
    minutes=3,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
