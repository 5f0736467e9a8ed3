"""Deep autoencoders that begin at machines learned in turn or at once, at denoising layers, or at random weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import as_bytes, as_units, opened, refuse_half, rows_of, squared_errors
from isthmus import Autoencoder, StackedAutoencoder
from isthmus.estimators.base import BaseAutoencoder
from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.trainer import TrainingConfig

_HINTON = "Hinton & Salakhutdinov (2006)"

PUBLISHED = {
    "pca": Published(13.87, "at most", f"{_HINTON}: principal components"),
    "random": Published(1.0, "at most", f"{_HINTON}: without pretraining a deep autoencoder errs more"),
    "fine-tuned": Published(1.0, "at most", f"{_HINTON}: machines are where fine-tuning begins"),
}
"""Compared with what came out, and used for nothing else."""

QUICK = {"fine-tuned": PUBLISHED["fine-tuned"]}

SEED = 0
MACHINE_RATE = 0.5
"""With the momentum of .5 that machines have: in the long run the steps of the paper, .1 with .9."""

DRAWS = (0, 1, 2)
"""Added to the seed: machines are learned three times in either order."""

ORDERS = {"greedy": "in turn", "together": "at the same time"}
"""When the machines learn, in words."""

STARTS = {
    "random": "random weights, sigmoid",
    "silu": "random weights, SiLU",
    "denoising": "denoising layers",
    "rbm": "machines",
}
"""Where the whole begins, in words; the first three learn for as many passes as the last in all."""


def _cells(quick: bool) -> list[Cell]:
    common: dict[str, Any] = {
        "train": "digits:train" if quick else "mnist", "test": "digits:test" if quick else "mnist:test",
        "rows": 600 if quick else 10_000, "looked_at": 100 if quick else 2_000,
        "hidden_sizes": [32] if quick else [1000, 500, 250], "code_size": 5 if quick else 30,
        "batch_size": 20 if quick else 100, "machine_rate": MACHINE_RATE, "seed": SEED,
    }  # fmt: skip
    epochs = {"pretraining_epochs": 8 if quick else 10}
    machines = {**epochs, "fine_tuning_epochs": 3 if quick else 8, "rate": 3e-3 if quick else 1e-3}
    passes = {**epochs, "fine_tuning_epochs": 4 if quick else 20}
    rates = (3e-3,) if quick else (5e-4, 2e-3)
    return [
        *(
            Cell(f"{order}-{draw}", {**common, **machines, "order": order, "draw": draw}, _order)
            for draw, order in product(DRAWS[:1] if quick else DRAWS, ORDERS)
        ),
        *(
            Cell(f"{start}-{number}", {**common, **passes, "start": start, "rate": rate}, _start)
            for start, (number, rate) in product(STARTS, enumerate(rates))
        ),
    ]


def _parts(settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to learn from, rows to choose by, rows to judge by."""
    X, n = rows_of(settings["train"]), settings["rows"]
    return X[:n], X[n : n + settings["looked_at"]], rows_of(settings["test"])


def _shared(settings: Settings) -> dict[str, Any]:
    """What every network here has."""
    return {
        "hidden_sizes": settings["hidden_sizes"], "code_size": settings["code_size"], "code_activation": "linear",
        "likelihood": "bernoulli", "batch_size": settings["batch_size"], "patience": None, "validation_fraction": 0.0,
        "random_state": settings["seed"] + settings.get("draw", 0), "verbose": 1,
    }  # fmt: skip


def _order(settings: Settings, state: Path) -> Result:
    """Machines learned in turn or at once: the error of the whole as they left it, and after some fine-tuning."""
    train, _, test = _parts(settings)
    model = StackedAutoencoder(
        layers="rbm", training=settings["order"], pretraining_epochs=settings["pretraining_epochs"],
        pretraining_learning_rate=settings["machine_rate"], fine_tuning_epochs=0, **_shared(settings),
    )  # fmt: skip
    refuse_half(model.fit(train))
    before = squared_errors(model, test)
    fine_tune(model, train, epochs=settings["fine_tuning_epochs"], learning_rate=settings["rate"])
    seconds = [record["seconds"] for record in (*model.history_["pretraining"], model.history_)]
    return {"before": before["error"], **squared_errors(model, test), "seconds": sum(seconds)}


def fine_tune(model: BaseAutoencoder, X: np.ndarray, *, epochs: int, learning_rate: float) -> None:
    """Let the whole of a fitted autoencoder learn on, as the last phase of its recipe would have."""
    settings = TrainingConfig(max_epochs=epochs, batch_size=int(model.batch_size or 100), learning_rate=learning_rate)
    generator = torch.Generator().manual_seed(model.seed_)
    phase = Phase("fine-tuning", model.objective_, settings, initialize=False)
    (record,) = run_phases(model.objective_, [phase], model.preprocessing_.rows(X), None, generator)
    if record["stopped"] == "interrupted":
        raise KeyboardInterrupt
    model.objective_.eval()


def _start(settings: Settings, state: Path) -> Result:
    """One network from one start at one rate: its errors, and nats on rows it did not see against seconds."""
    train, looked_at, test = _parts(settings)
    model = _begun(settings)
    refuse_half(model.fit(train, validation=looked_at))
    before = sum(record["seconds"] for record in model.history_["pretraining"])
    labels = np.asarray(opened(settings["test"]).labels)
    shown = test[[int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]]
    (reading,) = model.read(shown)
    return {
        **squared_errors(model, test), "chosen_by": float(model.nll(looked_at).mean(dtype=np.float64)),
        "before": before, "seconds": before + model.history_["seconds"],
        "curve": [[before + line["seconds"], line["held_out"]] for line in model.history_["epochs"]],
        "image_shape": list(model.preprocessing_.image_shape or ()),
        "originals": as_bytes(reading.x), "reconstructions": as_bytes(reading.reconstruction),
    }  # fmt: skip


def _begun(settings: Settings) -> BaseAutoencoder:
    """The unfitted network of a start. What begins at random weights is given the passes of both stages."""
    start, rate, shared = settings["start"], settings["rate"], _shared(settings)
    first, last = settings["pretraining_epochs"], settings["fine_tuning_epochs"]
    if start == "silu":
        return Autoencoder(activation="silu", max_epochs=first + last, learning_rate=rate, **shared)
    drawn = {"layers": "ordinary", "pretraining_epochs": 0, "fine_tuning_epochs": first + last}
    learned = {"layers": start, "pretraining_epochs": first, "fine_tuning_epochs": last}
    learned["pretraining_learning_rate"] = settings["machine_rate"] if start == "rbm" else 3e-3
    own: dict[str, Any] = drawn if start == "random" else learned
    return StackedAutoencoder(tied=False, fine_tuning_learning_rate=rate, **own, **shared)


def chosen(results: Results) -> dict[str, Result]:
    """The run of each start that has the least nats on the rows that are looked at."""
    runs = {start: [cell for name, cell in results.items() if name.startswith(f"{start}-")] for start in STARTS}
    return {start: min(cells, key=lambda cell: cell["chosen_by"]) for start, cells in runs.items()}


def _mean(results: Results, order: str, what: str) -> tuple[float, float]:
    """Over the seeds: mean and standard deviation."""
    values = [cell[what] for name, cell in results.items() if name.startswith(f"{order}-")]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _rows(results: Results, quick: bool) -> list[Row]:
    published: Mapping[str, Published] = QUICK if quick else PUBLISHED
    best = chosen(results)
    machines, pca = best["rbm"]["error"], best["rbm"]["pca_error"]
    return [
        Row("machines: squared error per test image", machines, published.get("pca")),
        Row("the same over that from random weights, sigmoid", machines / best["random"]["error"],
            published.get("random"), ".3f"),
        *(
            Row(f"machines {words}: error after some fine-tuning over that before",
                _mean(results, order, "error")[0] / _mean(results, order, "before")[0], published["fine-tuned"], ".3f")
            for order, words in ORDERS.items()
        ),
        *(
            Row(f"machines {words}: squared error per test image {when}", _mean(results, order, what)[0])
            for what, when in (("before", "before fine-tuning"), ("error", "after a little of it"))
            for order, words in ORDERS.items()
        ),
        Row("at the same time over in turn, after a little fine-tuning",
            _mean(results, "together", "error")[0] / _mean(results, "greedy", "error")[0], form=".3f"),
        *(
            Row(f"{words}: squared error per test image", best[start]["error"])
            for start, words in STARTS.items() if start != "rbm"
        ),
        Row("principal components: squared error per test image", pca),
        *(Row(f"{words}: minutes", best[start]["seconds"] / 60, form=".1f") for start, words in STARTS.items()),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    told = "; ".join(
        f"{words} {_mean(results, order, 'error')[0]:.2f} ({_mean(results, order, 'error')[1]:.2f}) in "
        f"{_mean(results, order, 'seconds')[0] / 60:.1f} minutes"
        for order, words in ORDERS.items()
    )
    said = [f"Machines of {len(DRAWS)} seeds, mean and standard deviation of the error after fine-tuning: {told}."]
    if not quick:
        said.append(
            "Published for 60,000 rows and long fine-tuning by conjugate gradients: 3.00; here there are 10,000 rows "
            "and some minutes, so that is not what the error is compared with."
        )
    return said


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    best = chosen(results)
    lines = {words: as_units(best[start]["reconstructions"]) for start, words in STARTS.items()}
    size = "5" if quick else "30"
    return {
        "error-against-minutes": _against_minutes(best),
        "originals-over-reconstructions": originals_over_reconstructions(
            as_units(best["rbm"]["originals"]), lines, best["rbm"]["image_shape"],
            title=f"Test digits from {size} numbers",
        ),
    }  # fmt: skip


def _against_minutes(best: Mapping[str, Result]) -> Figure:
    figure, place = axes(7.6)
    for colour, (start, words) in zip(COLOURS, STARTS.items(), strict=False):
        minutes, nats = np.asarray(best[start]["curve"]).T
        place.plot(minutes / 60, nats, color=colour, lw=1.8, marker="o", ms=3, label=words)
        if best[start]["before"]:
            place.plot([0, minutes[0] / 60], [nats[0]] * 2, color=colour, lw=1.4, ls=":")
    place.set_xlabel("minutes (dotted: layer by layer)")
    place.set_ylabel("nats per digit that was not learned from")
    place.set_xlim(left=0)
    place.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    place.set_title("The course of learning", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="deep-ae-rbm",
    claim="Machines learned layer by layer are where a deep autoencoder had better begin than at random weights.",
    source="Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313 (2006)",
    protocol=(
        "MNIST in [0, 1], the first 10,000 training digits, the next 2,000 to choose the rate of fine-tuning by (two "
        "are tried), 10,000 test digits. 784-1000-500-250-30, sigmoid units and a linear code, cross-entropy, batches "
        "of 100, weights of both ways apart. Machines learn for 10 epochs each by one step of contrastive divergence, "
        "in turn or all at the same time, three seeds, then 8 epochs of fine-tuning. Then four starts: machines and "
        "denoising layers (a quarter masked; 10 epochs a layer, 20 of fine-tuning), random weights drawn for sigmoids, "
        "and today's SiLU units (30 epochs)."
    ),
    minutes=22,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
