"""Deep autoencoders that start from RBMs trained in turn or jointly, from denoising layers, or from random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import from_bytes, load_dataset, load_rows, raise_if_interrupted, squared_errors, to_bytes
from isthmus import MLP, Autoencoder, FineTuning, Layer, Pretraining, RBMLayer, StackedAutoencoder
from isthmus.estimators.base import BaseAutoencoder
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.training_config import TrainingConfig

_HINTON = "Hinton & Salakhutdinov (2006)"

PUBLISHED = {
    "pca": Published(13.87, "at most", f"{_HINTON}: principal components"),
    "random": Published(1.0, "at most", f"{_HINTON}: without pretraining a deep autoencoder has a larger error"),
}

TARGETS = {"fine-tuned": Target(1.0, "at most", "fine-tuning lowers the error of the pretrained network")}

SEED = 0
MACHINE_RATE = 0.5
"""With the momentum of .5 of RBMs this gives the effective rate of the paper, .1 with a momentum of .9."""

DRAWS = (0, 1, 2)
"""Offsets of the seed: the RBMs are trained three times in either order."""

ORDERS = {"greedy": "in turn", "together": "jointly"}
"""The order in which the RBMs are trained, in words."""

STARTS = {
    "random": "random weights, sigmoid",
    "silu": "random weights, SiLU",
    "denoising": "denoising layers",
    "rbm": "RBMs",
}
"""The start of the network, in words. All are trained for the same number of passes in total."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    common: dict[str, Any]
    pretraining_epochs: int
    order_epochs: int
    """Epochs of fine-tuning after RBMs of either order."""
    order_rate: float
    draws: tuple[int, ...]
    start_epochs: int
    """Epochs of fine-tuning of the starts."""
    start_rates: tuple[float, ...]


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    common={
        "train": "mnist", "test": "mnist:test", "rows": 10_000, "looked_at": 2_000,
        "hidden_sizes": [1000, 500, 250], "code_size": 30, "batch_size": 100,
    },
    pretraining_epochs=10, order_epochs=8, order_rate=1e-3, draws=DRAWS, start_epochs=20, start_rates=(5e-4, 2e-3),
)  # fmt: skip

QUICK = _Setup(
    targets=TARGETS,
    common={
        "train": "digits:train", "test": "digits:test", "rows": 600, "looked_at": 100, "hidden_sizes": [32],
        "code_size": 5, "batch_size": 20,
    },
    pretraining_epochs=8, order_epochs=3, order_rate=3e-3, draws=DRAWS[:1], start_epochs=4, start_rates=(3e-3,),
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {
        **setup.common, "machine_rate": MACHINE_RATE, "seed": SEED, "pretraining_epochs": setup.pretraining_epochs,
    }  # fmt: skip
    order = {**common, "fine_tuning_epochs": setup.order_epochs, "rate": setup.order_rate}
    start = {**common, "fine_tuning_epochs": setup.start_epochs}
    return [
        *(
            Cell(f"{name}-{draw}", {**order, "order": name, "draw": draw}, _order)
            for draw, name in product(setup.draws, ORDERS)
        ),
        *(
            Cell(f"{name}-{number}", {**start, "start": name, "rate": rate}, _start)
            for name, (number, rate) in product(STARTS, enumerate(setup.start_rates))
        ),
    ]


def _parts(settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return training, validation and test rows."""
    X, n = load_rows(settings["train"]), settings["rows"]
    return X[:n], X[n : n + settings["looked_at"]], load_rows(settings["test"])


def _shared(settings: Settings) -> dict[str, Any]:
    """Return the parameters of every network."""
    return {
        "code_size": settings["code_size"], "code_activation": "linear", "likelihood": "bernoulli",
        "batch_size": settings["batch_size"], "patience": None, "validation_fraction": 0.0,
        "random_state": settings["seed"] + settings.get("draw", 0), "verbose": 1,
    }  # fmt: skip


def _order(settings: Settings, state: Path) -> Result:
    """Train RBMs in turn or jointly: the error of the network before and after fine-tuning."""
    train, _, test = _parts(settings)
    pretraining = Pretraining(
        settings["order"], epochs=settings["pretraining_epochs"], learning_rate=settings["machine_rate"]
    )
    model = StackedAutoencoder(
        hidden_sizes=settings["hidden_sizes"], layers="rbm", pretraining=pretraining, fine_tuning=None,
        **_shared(settings),
    )  # fmt: skip
    raise_if_interrupted(model.fit(train))
    before = squared_errors(model, test)
    fine_tune(model, train, epochs=settings["fine_tuning_epochs"], learning_rate=settings["rate"])
    seconds = [record["seconds"] for record in (*model.history_["pretraining"], model.history_)]
    return {"before": before["error"], **squared_errors(model, test), "seconds": sum(seconds)}


def fine_tune(model: BaseAutoencoder, X: np.ndarray, *, epochs: int, learning_rate: float) -> None:
    """Fine-tune a fitted autoencoder by its reconstruction, as the last phase of a stack of RBMs does."""
    settings = TrainingConfig(max_epochs=epochs, batch_size=int(model.batch_size or 100), learning_rate=learning_rate)
    generator = torch.Generator().manual_seed(model.seed_)
    phase = Phase("fine-tuning", Reconstruction(model.coder_), settings, initialize=False)
    (record,) = run_phases(model.coder_, [phase], model.preprocessing_.rows(X), None, generator)
    if record["stopped"] == "interrupted":
        raise KeyboardInterrupt
    model.coder_.eval()


def _start(settings: Settings, state: Path) -> Result:
    """Train one network from one start at one rate: its errors, and validation nats against seconds."""
    train, validation, test = _parts(settings)
    model = _unfitted(settings)
    raise_if_interrupted(model.fit(train, validation=validation))
    before = sum(record["seconds"] for record in model.history_["pretraining"])
    labels = np.asarray(load_dataset(settings["test"]).labels)
    shown = test[[int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]]
    (reading,) = model.read(shown)
    return {
        **squared_errors(model, test), "chosen_by": float(model.nll(validation).mean(dtype=np.float64)),
        "before": before, "seconds": before + model.history_["seconds"],
        "curve": [[before + line["seconds"], line["held_out"]] for line in model.history_["epochs"]],
        "image_shape": list(model.preprocessing_.image_shape or ()),
        "originals": to_bytes(reading.x), "reconstructions": to_bytes(reading.reconstruction),
    }  # fmt: skip


def _unfitted(settings: Settings) -> BaseAutoencoder:
    """Return the unfitted network of a start. Random starts get the epochs of both stages."""
    start, rate, shared = settings["start"], settings["rate"], _shared(settings)
    first, last = settings["pretraining_epochs"], settings["fine_tuning_epochs"]
    if start == "silu":
        network = MLP(settings["hidden_sizes"], activation="silu")
        return Autoencoder(network=network, max_epochs=first + last, learning_rate=rate, **shared)
    layers, pretraining, fine_tuning = {
        "random": (Layer(tied=False), None, FineTuning(epochs=first + last, learning_rate=rate)),
        "denoising": (
            Layer(corruption="masking", tied=False), Pretraining(epochs=first, learning_rate=3e-3),
            FineTuning(epochs=last, learning_rate=rate),
        ),
        "rbm": (
            RBMLayer(), Pretraining(epochs=first, learning_rate=settings["machine_rate"]),
            FineTuning(epochs=last, learning_rate=rate),
        ),
    }[start]  # fmt: skip
    return StackedAutoencoder(
        hidden_sizes=settings["hidden_sizes"], layers=layers, pretraining=pretraining, fine_tuning=fine_tuning,
        **shared,
    )  # fmt: skip


def chosen(results: Results) -> dict[str, Result]:
    """Return the run of each start that has the fewest nats on the validation rows."""
    runs = {start: [cell for name, cell in results.items() if name.startswith(f"{start}-")] for start in STARTS}
    return {start: min(cells, key=lambda cell: cell["chosen_by"]) for start, cells in runs.items()}


def _mean(results: Results, order: str, quantity: str) -> tuple[float, float]:
    """Return mean and standard deviation over the seeds."""
    values = [cell[quantity] for name, cell in results.items() if name.startswith(f"{order}-")]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _rows(results: Results, setup: _Setup) -> list[Row]:
    best = chosen(results)
    rbm, pca = best["rbm"]["error"], best["rbm"]["pca_error"]
    return [
        setup.row("RBMs: squared error per test image", rbm, "pca"),
        setup.row("squared error, RBMs over random weights, sigmoid", rbm / best["random"]["error"], "random", ".3f"),
        *(
            setup.row(f"RBMs {words}: error after fine-tuning over that before",
                      _mean(results, order, "error")[0] / _mean(results, order, "before")[0], "fine-tuned", ".3f")
            for order, words in ORDERS.items()
        ),
        *(
            Row(f"RBMs {words}: squared error per test image {when} fine-tuning", _mean(results, order, quantity)[0])
            for quantity, when in (("before", "before"), ("error", "after"))
            for order, words in ORDERS.items()
        ),
        Row("RBMs jointly over RBMs in turn: error after fine-tuning",
            _mean(results, "together", "error")[0] / _mean(results, "greedy", "error")[0], form=".3f"),
        *(
            Row(f"{words}: squared error per test image", best[start]["error"])
            for start, words in STARTS.items() if start != "rbm"
        ),
        Row("principal components: squared error per test image", pca),
        *(Row(f"{words}: minutes", best[start]["seconds"] / 60, form=".1f") for start, words in STARTS.items()),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    orders = "; ".join(
        f"{words} {_mean(results, order, 'error')[0]:.2f} ({_mean(results, order, 'error')[1]:.2f}) in "
        f"{_mean(results, order, 'seconds')[0] / 60:.1f} minutes"
        for order, words in ORDERS.items()
    )
    return [
        f"Error after fine-tuning over {len(setup.draws)} seeds, mean and standard deviation: {orders}.",
        "The published error of 3.00 is for 60,000 rows and long fine-tuning by conjugate gradients; this run uses "
        f"{setup.common['rows']:,} rows and some minutes, and is not compared with it.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    best = chosen(results)
    lines = {words: from_bytes(best[start]["reconstructions"]) for start, words in STARTS.items()}
    size = setup.common["code_size"]
    return {
        "error-against-minutes": _against_minutes(best),
        "originals-over-reconstructions": originals_over_reconstructions(
            from_bytes(best["rbm"]["originals"]), lines, best["rbm"]["image_shape"],
            title=f"Test digits from codes of {size} numbers",
        ),
    }  # fmt: skip


def _against_minutes(best: Mapping[str, Result]) -> Figure:
    figure, ax = axes(7.6)
    for colour, (start, words) in zip(COLOURS, STARTS.items(), strict=False):
        minutes, nats = np.asarray(best[start]["curve"]).T
        ax.plot(minutes / 60, nats, color=colour, lw=1.8, marker="o", ms=3, label=words)
        if best[start]["before"]:
            ax.plot([0, minutes[0] / 60], [nats[0]] * 2, color=colour, lw=1.4, ls=":")
    ax.set_xlabel("minutes (dotted: pretraining)")
    ax.set_ylabel("nats per validation digit")
    ax.set_xlim(left=0)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title("Validation curve", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="deep-ae-rbm",
    claim="Pretraining by RBMs gives a deep autoencoder a lower error than random initialization.",
    source="Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313 (2006)",
    protocol=(
        "MNIST in [0, 1], the first 10,000 training digits, the next 2,000 to choose the rate of fine-tuning (of two), "
        "10,000 test digits. 784-1000-500-250-30, sigmoid units and a linear code, cross-entropy, batches of 100, "
        "untied weights. The RBMs are trained for 10 epochs each by CD-1, in turn or jointly, with three seeds, then "
        "the network is fine-tuned for 8 epochs. Then four starts: RBMs and denoising layers (a quarter masked; 10 "
        "epochs a layer, 20 of fine-tuning), random weights scaled for sigmoids, and SiLU units (30 epochs)."
    ),
    minutes=22,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
