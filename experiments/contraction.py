"""A penalty on the Jacobian of the encoder, compared with weight decay and denoising."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.contraction_measures import N_BINS, fine_tuned_error, measured, weight_norms
from experiments.drawing import COLOURS, axes, curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, load_dataset, load_rows

_RIFAI = "Rifai et al. (2011), section 5"
_BOOK = "Deep Learning, section 14.7: the encoder can shrink and the decoder grow, which lowers the penalty for nothing"

PUBLISHED = {
    "norm ratio": Published(24.0, "at least", f"{_RIFAI}: 17.5 over .73"),
    "saturated": Published(86.36, "within", _RIFAI, 6.0),
    "error": Published(1.14, "at most", _RIFAI, 0.21),
    "gain": Published(0.64, "at least", f"{_RIFAI}: 1.78 minus 1.14"),
    "local": Published(1.0, "at least", f"{_RIFAI}: the ratio rises with the distance before it falls"),
}

TARGETS = {
    "norm ratio": Target(5.0, "at least", "a clear part of the published ratio"),
    "gain": Target(0.3, "at least", "half of the published gain"),
    "untied": Target(1.0, "at most", _BOOK),
}

SEED = 0
ARMS = {
    "ae": "autoencoder",
    "cae": "contractive",
    "wd": "autoencoder, weight decay",
    "dae-mask": "denoising, masking",
    "dae-gauss": "denoising, Gaussian",
}
"""Models of one layer with tied weights. The pictures use the first two colours for the first two."""

TUNINGS = {"ae": 3, "cae": 3}
"""Number of classifiers, of different seeds, for the models that are judged by them; the others have one."""

FREE = {"f-free": "on f", "r-free": "on g(f(x))"}
"""Models with untied weights, by the function that is penalised."""

DEEP = {"separate": "two layers, each contractive by itself", "joint": "two layers, contractive as a whole"}

NAMES = ARMS | {name: f"untied, penalty {on}" for name, on in FREE.items()} | DEEP


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, Any]
    common: dict[str, Any]
    contraction_weight: float
    expensive: dict[str, int]
    """Settings of the models that cost several times as much; they are compared with each other."""
    measured: dict[str, int]
    tuning: dict[str, Any]
    tunings: dict[str, int]
    distances: tuple[float, ...] = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, data={"train": "mnist", "test": "mnist:test", "rows": 50_000},
    common={"code_size": 1000, "batch_size": 128, "max_epochs": 15, "learning_rate": 5e-3}, contraction_weight=1.0,
    expensive={"max_epochs": 8}, measured={"rows_measured": 1000, "rows_of_matrices": 50},
    tuning={"max_epochs": 20, "batch_size": 128, "dropout": 0.4, "learning_rate": 8e-3}, tunings=TUNINGS,
)  # fmt: skip

QUICK = _Setup(
    published={"local": PUBLISHED["local"]},
    targets={"norm ratio": Target(1.5, "at least", _RIFAI), "untied": TARGETS["untied"]},
    data={"train": "digits:train", "test": "digits:test", "rows": 1000},
    common={"code_size": 64, "batch_size": 50, "max_epochs": 12, "learning_rate": 2e-2}, contraction_weight=0.5,
    expensive={}, measured={"rows_measured": 200, "rows_of_matrices": 20},
    tuning={"max_epochs": 8, "batch_size": 50, "dropout": 0.0, "learning_rate": 5e-3}, tunings={},
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {**setup.common, "likelihood": "bernoulli", "precision": "fp32"}
    weight, hidden = setup.contraction_weight, [common["code_size"]]
    plain = {"network__hidden_sizes": [], "network__tied": True, "code_activation": "sigmoid"}
    models: dict[str, tuple[str, dict[str, Any]]] = {
        "ae": ("deep", plain),
        "cae": ("contractive", {"contraction__weight": weight}),
        "wd": ("deep", {**plain, "optimizer__weight_decay": 0.1}),
        "dae-mask": ("denoising", {"network__tied": True, "corruption": "masking", "corruption__rate": 0.25}),
        "dae-gauss": ("denoising", {"network__tied": True, "corruption": "gaussian", "corruption__scale": 0.3}),
        "f-free": ("contractive", {"contraction__weight": weight, "network__tied": False}),
        "r-free": ("contractive", {"contraction": "reconstruction", "contraction__weight": weight,
                                   "network__tied": False, **setup.expensive}),
        "separate": ("stacked", {"layers": "contractive", "layers__contraction__weight": weight, "fine_tuning": None,
                                 "hidden_sizes": hidden, **setup.expensive}),
        "joint": ("contractive", {"contraction__weight": weight, "network__hidden_sizes": hidden,
                                  "network__activation": "sigmoid", **setup.expensive}),
    }  # fmt: skip
    evaluation = {
        **setup.measured, "distances": list(setup.distances),
        "tuning": {**setup.tuning, "patience": None, "precision": "fp32"},
    }  # fmt: skip
    return [
        Cell(name, {**setup.data, **evaluation, "seed": SEED, "kind": kind, "tunings": setup.tunings.get(name, 1),
                    "parameters": {**common, **own}}, _arm)
        for name, (kind, own) in models.items()
    ]  # fmt: skip


def _arm(settings: Settings, state: Path) -> Result:
    """Fit one autoencoder, measure its code, and fine-tune a classifier from it."""
    n, X, y = settings["rows"], load_rows(settings["train"]), np.asarray(load_dataset(settings["train"]).labels)
    test = load_rows(settings["test"]), np.asarray(load_dataset(settings["test"]).labels)
    began = time.process_time()
    model = fit_model(settings, n_rows=n, state=state)
    seconds = time.process_time() - began
    return {
        **measured(model, test[0], settings),
        **fine_tuned_error(model, (X[:n], y[:n]), (X[n:], y[n:]), test, settings),
        **weight_norms(model),
        "processor_seconds": seconds,
    }


def _rows(results: Results, setup: _Setup) -> list[Row]:
    ae, cae = results["ae"], results["cae"]
    return [
        setup.row("mean norm of the Jacobian, autoencoder over contractive", ae["norm"] / cae["norm"], "norm ratio",
                  ".1f"),
        setup.row("contractive: saturated units, %", 100 * cae["saturated"], "saturated", ".1f"),
        setup.row("contractive: test error after fine-tuning, %", cae["test_error"], "error"),
        setup.row("test error after fine-tuning, autoencoder minus contractive, points",
                  ae["test_error"] - cae["test_error"], "gain"),
        setup.row("contractive: largest contraction ratio over that at the smallest distance", _rise(cae), "local"),
        setup.row("penalty on f: mean norm of the Jacobian, untied encoder over tied encoder",
                  results["f-free"]["norm"] / cae["norm"], "untied"),
        *(Row(f"{NAMES[name]}: mean norm of the Jacobian", cell["norm"]) for name, cell in results.items()),
        *(Row(f"{NAMES[name]}: saturated units, %", 100 * results[name]["saturated"], form=".1f")
          for name in ARMS if name != "cae"),
        *(Row(f"{NAMES[name]}: test error after fine-tuning, %", cell["test_error"])
          for name, cell in results.items() if name != "cae"),
        *(Row(f"{NAMES[name]}: largest contraction ratio over that at the smallest distance", _rise(results[name]))
          for name in ("ae", "dae-gauss")),
        *(Row(f"{NAMES[name]}: directions with 90% of the squared norm", _directions(results[name]), form=".0f")
          for name in ("ae", "dae-gauss", "cae")),
        *(Row(f"{NAMES[name]}: nats a test digit", results[name]["nll"], form=".1f") for name in ("ae", "cae", *DEEP)),
        *(Row(f"{NAMES[name]}: mean norm of the reconstruction's Jacobian", results[name]["reconstruction_norm"])
          for name in ("ae", "cae", *FREE)),
        *(Row(f"{NAMES[name]}: norm of the decoder's weights over the encoder's", cell["decoder"] / cell["encoder"])
          for name, cell in results.items() if name in FREE),
        *(Row(f"{NAMES[name]}: processor minutes of training", results[name]["processor_seconds"] / 60, form=".1f")
          for name in ("ae", "cae", *DEEP)),
    ]  # fmt: skip


def _rise(cell: Result) -> float:
    """Return the largest contraction ratio over that at the smallest distance."""
    return float(max(cell["ratios"]) / cell["ratios"][0])


def _directions(cell: Result) -> float:
    """Return the number of leading singular values with 90% of the sum of squares."""
    squares = np.cumsum(np.square(cell["spectrum"]))
    return float(np.searchsorted(squares, 0.9 * squares[-1]) + 1)


def _remarks(results: Results, setup: _Setup) -> list[str]:
    squared = results["ae"]["squared_norm"] / results["cae"]["squared_norm"]
    f, r = results["f-free"], results["r-free"]
    separate, joint = results["separate"], results["joint"]
    return [
        f"The penalty, the mean squared norm, is {squared:.0f} times as large for the autoencoder as for the "
        "contractive one.",
        f"Untied with the penalty on f, the weights of the decoder are {f['decoder'] / f['encoder']:.1f} times as "
        "large as those of the encoder, and the Jacobian of the reconstruction has the norm "
        f"{f['reconstruction_norm']:.2f}; with the penalty on g(f(x)) it has {r['reconstruction_norm']:.2f}.",
        f"Two layers with a penalty each have a mean norm of {separate['norm']:.2f} and a test error of "
        f"{separate['test_error']:.2f}%; with one penalty on both {joint['norm']:.2f} and {joint['test_error']:.2f}%, "
        f"at {joint['processor_seconds'] / separate['processor_seconds']:.1f} times the processor time.",
        "The fine-tuned weights are those of the best epoch on the validation rows; the test rows are used once.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    distances = setup.distances
    ratios = {NAMES[name]: np.array(results[name]["ratios"]) for name in ARMS}
    edges = np.linspace(0, 1, N_BINS + 1)
    return {
        "contraction-by-distance": curves(
            {name: (distances, (ratio / ratio[0]).tolist()) for name, ratio in ratios.items()},
            across="distance from a test digit", up="contraction ratio over that at 1/8", doubling=True,
            title="The code contracts near the rows only",
        ),
        "spectrum": _lines(
            {NAMES[name]: (np.arange(len(results[name]["spectrum"])) + 1, results[name]["spectrum"]) for name in ARMS},
            across="singular value of the encoder's Jacobian, mean of test digits", up="value",
            title="Singular values of the Jacobian",
        ),
        "codes": _lines(
            {NAMES[name]: ((edges[:-1] + edges[1:]) / 2, results[name]["histogram"]) for name in ARMS},
            across="value of a unit", up="share of units and test digits", title="Distribution of the code",
        ),
    }  # fmt: skip


def _lines(lines: dict[str, tuple[Any, Any]], *, across: str, up: str, title: str) -> Figure:
    """Return a figure of lines by name on a logarithmic scale."""
    figure, ax = axes(7.6)
    for colour, (name, (x, y)) in zip(COLOURS, lines.items(), strict=False):
        ax.plot(x, np.maximum(y, 1e-6), color=colour, lw=1.8, label=name)
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(across)
    ax.set_ylabel(up)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title(title, fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="contraction",
    claim="A contractive code varies least, and least near the rows; its units saturate; it gives the best classifier.",
    source="Rifai et al., Contractive auto-encoders, ICML (2011); Deep Learning, section 14.7",
    protocol=(
        "MNIST in [0, 1], 784-1000 sigmoid units, tied weights, cross-entropy summed over pixels; 50,000 training, "
        "10,000 validation and 10,000 test digits; Adam in fp32 at 5e-3 with warm-up and a cosine to zero, batches of "
        "128, 15 epochs. Weight decay .1 (decoupled), a quarter of the pixels masked, noise of .3, contraction of "
        "weight 1. Then a softmax on the code, all weights tuned for 20 epochs at 8e-3, .4 of the code dropped (chosen "
        "on validation digits from the contractive code, and the same for all); three such classifiers for the plain "
        "and the contractive code, of which the mean is given. Norms on 1,000 test digits, spectra on 50; the ratio "
        "||f(x) - f(x + d u)|| / d for random directions u. Untied pairs; two layers of 1,000 units, with a penalty "
        "each or one on both (estimated by one random probe for each row and step), and the penalty on g(f(x)): 8 "
        "epochs for each layer."
    ),
    minutes=40,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
