"""What a penalty on the encoder's Jacobian does to a code, beside other ways of keeping it from copying."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.contraction_measures import N_BINS, fine_tuned_error, measured, weight_norms
from experiments.drawing import COLOURS, axes, curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import fitted, opened, rows_of

_RIFAI = "Rifai et al. (2011), section 5"
_BOOK = "Deep Learning, section 14.7: an encoder that shrinks beside a decoder that grows contracts for nothing"

PUBLISHED = {
    "norm ratio": Published(5.0, "at least", f"{_RIFAI}: 17.5 against .73, in a unit of the paper's own"),
    "saturated": Published(86.36, "within", _RIFAI, 6.0),
    "error": Published(1.14, "at most", _RIFAI, 0.21),
    "gain": Published(0.3, "at least", f"{_RIFAI}: 1.78 against 1.14"),
    "local": Published(1.0, "at least", f"{_RIFAI}: the ratio rises with the distance before it falls"),
    "untied": Published(1.0, "at most", _BOOK),
}
"""Compared with what came out, and used for nothing else; tolerances are in the unit of the figure."""

QUICK = {
    "norm ratio": Published(1.5, "at least", _RIFAI),
    "local": PUBLISHED["local"],
    "untied": PUBLISHED["untied"],
}

SEED = 0
ARMS = {
    "ae": "autoencoder",
    "cae": "contractive",
    "wd": "autoencoder, weight decay",
    "dae-mask": "denoising, masking",
    "dae-gauss": "denoising, Gaussian",
}
"""One layer, tied weights: what is wanted besides the reconstruction; pictures give the first two their colours."""

TUNINGS = {"ae": 3, "cae": 3}
"""How often the classifier is learned of those that are judged by it, from other draws; the others have one."""

FREE = {"f-free": "on f", "r-free": "on g(f(x))"}
"""The decoder has weights of its own: what the penalty is on."""

DEEP = {"separate": "two layers, each contractive by itself", "joint": "two layers, the whole way contracted"}

NAMES = ARMS | {name: f"untied, penalty {on}" for name, on in FREE.items()} | DEEP


def _cells(quick: bool) -> list[Cell]:
    data: dict[str, Any] = (
        {"train": "digits:train", "test": "digits:test", "rows": 1000}
        if quick
        else {"train": "mnist", "test": "mnist:test", "rows": 50_000}
    )
    common = {
        "code_size": 64 if quick else 1000, "likelihood": "bernoulli", "batch_size": 50 if quick else 128,
        "max_epochs": 12 if quick else 15, "learning_rate": 2e-2 if quick else 5e-3, "precision": "fp32",
    }  # fmt: skip
    weight = {"contraction_weight": 0.5 if quick else 1.0}
    wanted: dict[str, tuple[str, dict[str, Any]]] = {
        "ae": ("deep", {"hidden_sizes": [], "code_activation": "sigmoid", "tied": True}),
        "cae": ("contractive", weight),
        "wd": ("deep", {"hidden_sizes": [], "code_activation": "sigmoid", "tied": True, "weight_decay": 0.1}),
        "dae-mask": ("denoising", {"tied": True, "corruption": "masking", "corruption_rate": 0.25}),
        "dae-gauss": ("denoising", {"tied": True, "corruption": "gaussian", "corruption_scale": 0.3}),
        "f-free": ("contractive", {**weight, "tied": False}),
        "r-free": ("contractive", {**weight, "tied": False, "contraction_of": "reconstruction"}),
        "separate": ("stacked", {**weight, "layers": "contractive", "fine_tuning_epochs": 0}),
        "joint": ("contractive", {**weight, "activation": "sigmoid"}),
    }  # fmt: skip
    # These cost several times as much, and are compared with each other.
    dear = {} if quick else {"max_epochs": 8}
    more = {name: {"hidden_sizes": [common["code_size"]], **dear} for name in DEEP} | {"r-free": dear}
    looked = {
        "rows_measured": 200 if quick else 1000, "rows_of_matrices": 20 if quick else 50,
        "distances": [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64],
        "tuning": {
            "max_epochs": 8 if quick else 20, "batch_size": 50 if quick else 128, "dropout": 0.0 if quick else 0.4,
            "learning_rate": 5e-3 if quick else 8e-3, "patience": None, "precision": "fp32",
        },
    }  # fmt: skip
    return [
        Cell(name, {**data, **looked, "seed": SEED, "kind": kind, "tunings": 1 if quick else TUNINGS.get(name, 1),
                    "parameters": {**common, **own, **more.get(name, {})}}, _arm)
        for name, (kind, own) in wanted.items()
    ]  # fmt: skip


def _arm(settings: Settings, state: Path) -> Result:
    """One autoencoder, what its code does, and the classifier that starts from it."""
    n, X, y = settings["rows"], rows_of(settings["train"]), np.asarray(opened(settings["train"]).labels)
    test = rows_of(settings["test"]), np.asarray(opened(settings["test"]).labels)
    began = time.process_time()
    model = fitted(settings, n_rows=n, state=state)
    seconds = time.process_time() - began
    return {
        **measured(model, test[0], settings),
        **fine_tuned_error(model, (X[:n], y[:n]), (X[n:], y[n:]), test, settings),
        **weight_norms(model),
        "processor_seconds": seconds,
    }


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    ae, cae = results["ae"], results["cae"]
    return [
        Row("mean norm of the Jacobian: autoencoder over contractive", ae["norm"] / cae["norm"],
            published["norm ratio"], ".1f"),
        Row("contractive: saturated units, %", 100 * cae["saturated"], published.get("saturated"), ".1f"),
        Row("contractive: test error after fine-tuning, %", cae["test_error"], published.get("error")),
        Row("autoencoder's test error less the contractive one's, points", ae["test_error"] - cae["test_error"],
            published.get("gain")),
        Row("contractive: largest contraction ratio over that nearest to the rows", _rise(cae), published["local"]),
        Row("penalty on f: mean norm of an untied encoder over the tied one's", results["f-free"]["norm"] / cae["norm"],
            published["untied"]),
        *(Row(f"{NAMES[name]}: mean norm of the Jacobian", cell["norm"]) for name, cell in results.items()),
        *(Row(f"{NAMES[name]}: saturated units, %", 100 * results[name]["saturated"], form=".1f")
          for name in ARMS if name != "cae"),
        *(Row(f"{NAMES[name]}: test error after fine-tuning, %", cell["test_error"])
          for name, cell in results.items() if name != "cae"),
        *(Row(f"{NAMES[name]}: largest contraction ratio over that nearest to the rows", _rise(results[name]))
          for name in ("ae", "dae-gauss")),
        *(Row(f"{NAMES[name]}: directions with 90% of the squared norm", _directions(results[name]), form=".0f")
          for name in ("ae", "dae-gauss", "cae")),
        *(Row(f"{NAMES[name]}: nats a test digit", results[name]["nll"], form=".1f") for name in ("ae", "cae", *DEEP)),
        *(Row(f"{NAMES[name]}: mean norm of the reconstruction's Jacobian", results[name]["reconstruction_norm"])
          for name in ("ae", "cae", *FREE)),
        *(Row(f"{NAMES[name]}: norm of the decoder's weights over the encoder's", cell["decoder"] / cell["encoder"])
          for name, cell in results.items() if name in FREE),
        *(Row(f"{NAMES[name]}: processor minutes of learning", results[name]["processor_seconds"] / 60, form=".1f")
          for name in ("ae", "cae", *DEEP)),
    ]  # fmt: skip


def _rise(cell: Result) -> float:
    """How much further than at the smallest distance a code moves for a step, where it moves furthest."""
    return float(max(cell["ratios"]) / cell["ratios"][0])


def _directions(cell: Result) -> float:
    """How many of the largest singular values carry 90% of the sum of their squares."""
    squares = np.cumsum(np.square(cell["spectrum"]))
    return float(np.searchsorted(squares, 0.9 * squares[-1]) + 1)


def _remarks(results: Results, quick: bool) -> list[str]:
    squared = results["ae"]["squared_norm"] / results["cae"]["squared_norm"]
    f, r = results["f-free"], results["r-free"]
    separate, joint = results["separate"], results["joint"]
    return [
        f"The mean of the squared norm, which is what is penalised, is {squared:.0f} times as large in the "
        "autoencoder.",
        f"Untied, the penalty on f leaves a decoder {f['decoder'] / f['encoder']:.1f} times as large as the encoder; "
        f"its reconstruction still moves by {f['reconstruction_norm']:.2f} where the penalty on g(f(x)) leaves "
        f"{r['reconstruction_norm']:.2f}.",
        f"Contracted layer by layer, the whole has a mean norm of {separate['norm']:.2f} and errs "
        f"{separate['test_error']:.2f}%; contracted as a whole, {joint['norm']:.2f} and {joint['test_error']:.2f}%, at "
        f"{joint['processor_seconds'] / separate['processor_seconds']:.1f} times the processor time.",
        "Fine-tuned weights are those that did best on validation rows; test rows are looked at once.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    distances = _cells(quick)[0].settings["distances"]
    ratios = {NAMES[name]: np.array(results[name]["ratios"]) for name in ARMS}
    edges = np.linspace(0, 1, N_BINS + 1)
    return {
        "contraction-by-distance": curves(
            {name: (distances, (ratio / ratio[0]).tolist()) for name, ratio in ratios.items()},
            across="distance from a test digit", up="contraction ratio over that at 1/8", doubling=True,
            title="Local, not global: how far a code moves for a step of this size",
        ),
        "spectrum": _lines(
            {NAMES[name]: (np.arange(len(results[name]["spectrum"])) + 1, results[name]["spectrum"]) for name in ARMS},
            across="singular value of the encoder's Jacobian, mean of test digits", up="value",
            title="In how many directions a code still moves",
        ),
        "codes": _lines(
            {NAMES[name]: ((edges[:-1] + edges[1:]) / 2, results[name]["histogram"]) for name in ARMS},
            across="value of a unit", up="share of units and test digits", title="Where sigmoid units stand",
        ),
    }  # fmt: skip


def _lines(lines: dict[str, tuple[Any, Any]], *, across: str, up: str, title: str) -> Figure:
    """Lines by name on a logarithmic scale."""
    figure, place = axes(7.6)
    for colour, (name, (x, y)) in zip(COLOURS, lines.items(), strict=False):
        place.plot(x, np.maximum(y, 1e-6), color=colour, lw=1.8, label=name)
    place.set_yscale("log")
    place.yaxis.set_minor_locator(NullLocator())
    place.set_xlabel(across)
    place.set_ylabel(up)
    place.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    place.set_title(title, fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="contraction",
    claim="A contractive code moves least and near each row alone, its units saturate, and it classifies best.",
    source="Rifai et al., Contractive auto-encoders, ICML (2011); Deep Learning, section 14.7",
    protocol=(
        "MNIST in [0, 1], 784-1000 sigmoid units, tied weights, cross-entropy summed over pixels; 50,000 digits to "
        "learn from, 10,000 to validate on, 10,000 to test; Adam in fp32 at 5e-3 with warm-up and a cosine to zero, "
        "batches of 128, 15 epochs. Weight decay .1 (decoupled), a quarter of the pixels masked, noise of .3, "
        "contraction of weight 1. Then a softmax on the code, all weights tuned for 20 epochs at 8e-3, .4 of the code "
        "dropped (chosen on validation digits from the contractive code, and the same for all); of the plain and the "
        "contractive code three such classifiers, whose mean is told. Norms on 1,000 test digits, spectra on 50; the "
        "ratio ||f(x) - f(x + d u)|| / d for random directions u. Untied pairs; two layers of 1,000 units, contracted "
        "one by one or as a whole (by one random probe a row and step): 8 epochs a layer, as the penalty on g(f(x)) "
        "has."
    ),
    minutes=40,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
