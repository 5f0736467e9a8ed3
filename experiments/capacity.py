"""Too much capacity: a decoder that memorises rows behind a code of one unit, and a wide linear pair that copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import as_bytes, as_units, fitted, history, rows_of, squared_errors
from isthmus.estimators.base import BaseAutoencoder

_BOOK = "Deep Learning, section 14.1: a code of one unit can learn the index of each training row"
_COPY = "Deep Learning, section 14.2: an overcomplete linear pair copies and learns nothing of the data"
_DOCTOR = "the doctor has to name it"

PUBLISHED = {
    "memorised": Published(0.05, "at most", _BOOK),
    "useless": Published(1.0, "at least", _BOOK),
    "noise": Published(0.01, "at most", _COPY),
    "undercomplete noise": Published(0.5, "at least", _COPY),
    "named memorised-rows": Published(1, "at least", _DOCTOR),
    "named copies-input": Published(1, "at least", _DOCTOR),
}
"""The book gives no figures; these bounds say its claims in numbers. Compared with, and used for nothing else."""

QUICK = {
    "memorised": Published(0.5, "at most", _BOOK),
    "noise": Published(0.1, "at most", _COPY),
    "undercomplete noise": Published(0.5, "at least", _COPY),
}

SEED = 0
TRAIN, TEST = "digits:train", "digits:test"
N_SHOWN = 6


def _cells(quick: bool) -> list[Cell]:
    memorise = {
        "code_size": 1, "hidden_sizes": [64, 64, 64, 64], "activation": "silu", "likelihood": "gaussian",
        "learning_rate": 5e-3, "clip_norm": 1.0, "precision": "fp32", "batch_size": 20 if quick else 50,
        "max_epochs": 150 if quick else 5000,
    }  # fmt: skip
    pair = {
        "scaling": "standard", "precision": "fp32", "batch_size": 64, "learning_rate": 1e-2 if quick else 3e-3,
        "max_epochs": 8 if quick else 200,
    }  # fmt: skip
    common = {"train": TRAIN, "test": TEST, "seed": SEED}
    return [
        Cell("memorise", {**common, "kind": "deep", "rows": 20 if quick else 50, "parameters": memorise}, _memorise),
        Cell("copy", {**common, "kind": "linear", "parameters": {**pair, "code_size": 128}}, _copy),
        Cell("undercomplete", {**common, "kind": "linear", "parameters": {**pair, "code_size": 8}}, _copy),
    ]


def _findings(model: BaseAutoencoder) -> list[str]:
    """What the doctor named in a fit."""
    return [finding["name"] for finding in history(model)["findings"]]


def _memorise(settings: Settings, state: Path) -> Result:
    """A code of one unit on a few rows: errors there and on other rows, beside the mean's."""
    train, test = rows_of(settings["train"], settings["rows"]), rows_of(settings["test"])
    model = fitted(settings, n_rows=settings["rows"])
    # The same learning again, step by step, with rows to look at: the doctor needs them to tell memory from learning.
    examined = fitted(settings, n_rows=settings["rows"], validation=test)
    mean = train.mean(0)
    around = {name: float(((X - mean) ** 2).sum(axis=(1, 2)).mean()) for name, X in (("train", train), ("test", test))}
    errors = {name: squared_errors(model, X) for name, X in (("train", train), ("test", test))}
    shown = np.concatenate([train[:N_SHOWN], test[:N_SHOWN]])
    return {
        **{f"{name}_error": errors[name]["error"] for name in errors},
        **{f"{name}_pca_error": errors[name]["pca_error"] for name in errors},
        **{f"{name}_variance": value for name, value in around.items()},
        "findings": _findings(examined),
        "image_shape": [1, *train.shape[1:]],
        "originals": as_bytes(shown.reshape(len(shown), -1)),
        "reconstructions": as_bytes(model.reconstruct(shown).reshape(len(shown), -1)),
    }


def _copy(settings: Settings, state: Path) -> Result:
    """A linear pair on standardised pixels: how much of digits, and of noise, does not come back."""
    train, test = live(rows_of(settings["train"])), live(rows_of(settings["test"]))
    model = fitted(settings, rows=train)
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
        "originals": as_bytes(_whole(shown)),
        "reconstructions": as_bytes(_whole(np.asarray(model.reconstruct(shown)))),
    }


def _always_blank() -> np.ndarray:
    """Pixels that no training digit inks; a standardised column needs some variance."""
    X = rows_of(TRAIN)
    return X.reshape(len(X), -1).std(0) == 0


def live(X: np.ndarray) -> Float[np.ndarray, "rows columns"]:
    """The pixels that vary, a flat row an image."""
    return X.reshape(len(X), -1)[:, ~_always_blank()]


def _whole(X: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows pixels"]:
    """Images again, blank where no digit has ink."""
    pixels = np.zeros((len(X), 64))
    pixels[:, ~_always_blank()] = X
    return pixels


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    one, copy, under = (results[name] for name in ("memorise", "copy", "undercomplete"))
    return [
        Row("one unit: training error over the rows' variance", one["train_error"] / one["train_variance"],
            published["memorised"], ".4f"),
        Row("one unit: test error over that of the training mean", one["test_error"] / one["test_variance"],
            published.get("useless"), ".3f"),
        Row("one principal component: training error over the rows' variance",
            one["train_pca_error"] / one["train_variance"], form=".3f"),
        Row("one unit: the doctor names memorised-rows (1 yes, 0 no)", float("memorised-rows" in one["findings"]),
            published.get("named memorised-rows"), ".0f"),
        Row("128 linear units: share of the test digits lost", copy["lost"]["test"], form=".1e"),
        Row("128 linear units: share of digits with shuffled pixels lost", copy["lost"]["shuffled"], form=".1e"),
        Row("128 linear units: share of noise lost", copy["lost"]["noise"], published["noise"], ".1e"),
        Row("8 linear units: share of noise lost", under["lost"]["noise"], published["undercomplete noise"], ".3f"),
        Row("8 linear units: share of the test digits lost", under["lost"]["test"], form=".3f"),
        Row("128 linear units: the doctor names copies-input (1 yes, 0 no)",
            float("copies-input" in copy["findings"]), published.get("named copies-input"), ".0f"),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    one, copy, under = (results[name] for name in ("memorise", "copy", "undercomplete"))
    told = {
        name: ", ".join(cell["findings"]) or "nothing"
        for name, cell in (("one unit", one), ("128 linear units", copy), ("8 linear units", under))
    }
    return [
        "The book gives no figures for these two; the bounds say its claims in numbers.",
        *(f"The doctor on {name}: {findings}." for name, findings in told.items()),
        f"128 units for {copy['columns']} pixels bring back noise as well as digits: the pair has learned nothing of "
        "what digits are.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    one, copy, under = (results[name] for name in ("memorise", "copy", "undercomplete"))
    shape: Any = one["image_shape"]
    return {
        "one-unit-memorises": originals_over_reconstructions(
            as_units(one["originals"]), as_units(one["reconstructions"]), shape,
            captions=["seen"] * N_SHOWN + ["new"] * N_SHOWN, title="A code of one unit on rows seen and rows new",
        ),
        "wide-pair-copies": originals_over_reconstructions(
            as_units(copy["originals"]),
            {"128 units": as_units(copy["reconstructions"]), "8 units": as_units(under["reconstructions"])},
            shape, captions=["digit"] * N_SHOWN + ["noise"] * N_SHOWN,
            title="Linear codes: 128 units copy noise as well as digits, 8 units do not",
        ),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="capacity",
    claim="With too much capacity an autoencoder memorises rows or copies its input, and the doctor says so.",
    source="Deep Learning, sections 14.1 and 14.2",
    protocol=(
        "scikit-learn's digits, 8 x 8. Memorising: the first 50 training rows, a code of one unit between four "
        "hidden layers of 64 SiLU units on each side, linear output, full batches, Adam at 5e-3 with a cosine to "
        "zero, 5,000 steps; learned twice from the same seed, once with test rows to look at, for the doctor. "
        "Copying: the 61 pixels that vary, standardised, 61-128-61 linear, Adam at 3e-3, batches of 64, 200 epochs, "
        "tried on test digits, on pixels shuffled between digits, and on Gaussian noise of each pixel's mean and "
        "variance; beside it a code of 8."
    ),
    minutes=3,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
