"""The deep belief network of 2006 on binary MNIST: the bound on its likelihood, its samples, and its test error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.binary_digits import BINARIZATION, SEED, chain_picture, density, error
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target

_MURRAY = "Salakhutdinov & Murray (2008), table 2: two layers, bound on the average test log-probability"

PUBLISHED = {
    "bound": Published(-86.22, "at least", _MURRAY),
    "error": Published(1.34, "at most", "Theano deep learning tutorials: deep belief network, test error"),
}

TARGETS = {"independent": Target(0.0, "at least", "a density of digits beats independent pixels")}

TUNING: dict[str, Any] = {
    "input_dropout": 0.1, "validation_fraction": 0.0, "patience": None, "precision": "fp32",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, str]
    common: dict[str, Any]
    density: dict[str, Any]
    classifier_epochs: int
    n_temperatures: int
    tuning: dict[str, Any]
    exact: bool = False
    """Whether the top RBM is small enough to sum the partition function over every state."""


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, data={"train": "mnist", "test": "mnist:test"},
    common={"hidden_sizes": [500], "code_size": 1000, "batch_size": 100},
    density={"optimizer__weight_decay": 3e-4, "max_epochs": 100}, classifier_epochs=10, n_temperatures=10000,
    tuning={
        "max_epochs": 40, "batch_size": 100, "learning_rate": 3e-3, "dropout": 0.3, "optimizer__averaging": 0.999,
    },
)  # fmt: skip

QUICK = _Setup(
    targets={
        "exact": Target(0.0, "within", "log Z summed over every state", 0.1),
        "independent": TARGETS["independent"],
        "error": Target(40.0, "at most", "far from chance, which is 90"),
    },
    data={"train": "digits:train", "test": "digits:test"},
    common={"hidden_sizes": [20], "code_size": 12, "batch_size": 50},
    density={"optimizer__weight_decay": 2e-5, "max_epochs": 10}, classifier_epochs=3, n_temperatures=300,
    tuning={
        "max_epochs": 10, "batch_size": 50, "learning_rate": 1e-2, "dropout": 0.1, "optimizer__averaging": 0.9,
    },
    exact=True,
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    data = {**setup.data, "seed": SEED, "kind": "dbn"}
    common = {**setup.common, "likelihood": "bernoulli", "optimizer": "sgd", "device": "cpu"}
    discriminative = {**common, "method": "cd", "max_epochs": setup.classifier_epochs}
    annealing = {"n_chains": 100, "n_temperatures": setup.n_temperatures, "lengths": [1, 10, 100, 1000]}
    return [
        Cell("density", {**data, **annealing, "parameters": {**common, **setup.density}}, _density),
        Cell("fine-tuned", {**data, "parameters": discriminative, "tuning": {**setup.tuning, **TUNING}}, _error),
    ]


def _density(settings: Settings, state: Path) -> Result:
    return density(settings)


def _error(settings: Settings, state: Path) -> Result:
    return error(settings)


def _rows(results: Results, setup: _Setup) -> list[Row]:
    cell, tuned = results["density"], results["fine-tuned"]
    rows = [
        setup.row("bound on the log-likelihood of a test digit, nats", cell["test"], "bound"),
        Row("bound, three standard errors of log Z below", cell["low"]),
        Row("bound, three standard errors of log Z above", cell["high"]),
        Row("training digits minus test digits, nats", cell["train"] - cell["test"]),
        setup.row("test digits minus independent pixels, nats", cell["test"] - cell["independent"], "independent"),
        setup.row("fine-tuned with labels: test error, %", tuned["error"], "error"),
        Row("core-minutes of training, density", cell["minutes"]),
        Row("core-minutes of training, fine-tuned", tuned["minutes"]),
    ]
    if setup.exact:
        difference = cell["log_partition"] - cell["known"]
        rows.append(setup.row("log Z of the top RBM by annealing minus the exact sum", difference, "exact"))
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    cell = results["density"]
    chosen = "Of the weight decays 2e-5, 1e-4 and 3e-4 (40 epochs) 3e-4 was best on the last 10,000 training digits."
    return [
        *([] if setup.exact else [chosen]),
        f"Effective sample size of annealing with 100 chains: {cell['effective']:.0f}. The bound uses 20 samples of "
        "the hidden states for each digit.",
        f"The classifier was trained for {results['fine-tuned']['epochs']} epochs. The test digits were used once, at "
        "the end.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    return {"chains": chain_picture(results["density"], "Chains of the top RBM, and one downward pass from them")}


EXPERIMENT = Experiment(
    name="dbn-mnist",
    claim="A second RBM on the codes of the first improves the density, and the stack initializes a good classifier.",
    source="Hinton, Osindero & Teh (2006); Salakhutdinov & Murray (2008)",
    protocol=f"Binary MNIST. {BINARIZATION} Layers of 784, 500 and 1,000 binary units, each trained for 100 epochs "
    "by 100 persistent chains with the centred gradient, learning rate .1 falling to 0, weight decay 3e-4, the upper "
    "one initialized with the transposed weights of the lower; log Z of the top RBM by annealed importance sampling, "
    "100 chains and 10,000 temperatures. For the test error a network of these sizes is pretrained by 10 epochs of "
    "CD-1 a layer on grey digits and fine-tuned with all 60,000 labels for 40 epochs: Adam at 3e-3, dropout of .3 of "
    "hidden units and .1 of pixels, averaged weights.",
    minutes=45,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
