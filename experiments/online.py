"""Online training on an unlimited stream of digits: the advantage of a denoising autoencoder as initialization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from experiments.deforming import Stream
from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, from_bytes, load_dataset, to_bytes
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.supervision import CrossEntropy, Supervision
from isthmus.learning.trainer import Trainer
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.forward import Batch
from isthmus.parts.networks import MLP

_ERHAN = "Erhan et al. (2010), the online setting: the advantage of pretraining does not vanish"

PUBLISHED = {"last": Published(0.0, "at least", _ERHAN)}

SEED = 0
N_CLASSES = 10
STARTS = {"denoising": "from a denoising autoencoder", "random": "from random weights"}
N_SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    common: dict[str, Any]
    edges: list[int]
    """Numbers of rows between which the error is averaged."""
    size: int
    precision: str
    pretraining_epochs: int
    rates: tuple[float, ...]


FULL = _Setup(
    published=PUBLISHED,
    common={"train": "mnist", "test": "mnist:test", "rows": 600_000, "unlabelled": 60_000, "batch_size": 100},
    edges=[0, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000], size=500,
    precision="auto", pretraining_epochs=5, rates=(3e-3, 1e-2),
)  # fmt: skip

QUICK = _Setup(
    targets={"random, last": Target(50.0, "at most", "far better than by chance")},
    common={"train": "digits:train", "test": "digits:test", "rows": 6000, "unlabelled": 1000, "batch_size": 50},
    edges=[0, 1000, 3000, 5000, 6000], size=64, precision="fp32", pretraining_epochs=3, rates=(3e-3,),
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {**setup.common, "seed": SEED, "kind": "stacked", "edges": setup.edges}
    stack = {
        "layers": "denoising", "hidden_sizes": [setup.size] * 2, "code_size": setup.size, "likelihood": "bernoulli",
        "fine_tuning": None, "batch_size": setup.common["batch_size"], "precision": setup.precision,
    }  # fmt: skip
    own: dict[str, dict[str, Any]] = {
        # One epoch at a negligible rate leaves the stack at its random weights.
        "random": {"pretraining__epochs": 1, "pretraining__learning_rate": 1e-12},
        "denoising": {"pretraining__epochs": setup.pretraining_epochs, "pretraining__learning_rate": 2e-3},
    }
    return [
        Cell(f"{start}-{rate:g}", {**common, "learning_rate": rate, "parameters": {**stack, **parameters}}, _stream)
        for rate in setup.rates
        for start, parameters in own.items()
    ]


class ErrorCounter(Supervision):
    """A classifier that counts the errors on each training batch before the update."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.wrong: list[int] = []

    def forward(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """Return the outputs of the head."""
        output = super().forward(batch, generator)
        if self.training and batch.label is not None:
            self.wrong.append(int(output.argmax(-1).ne(batch.label).sum()))
        return output


def _stream(settings: Settings, state: Path) -> Result:
    """Train from one start at one rate: the error on the rows of the stream before they are used for an update."""
    data, test = load_dataset(settings["train"]), load_dataset(settings["test"])
    seed, batch_size = settings["seed"], settings["batch_size"]
    digits = lambda n, offset: Stream(
        np.asarray(data.X), np.asarray(data.labels), n, Generator().manual_seed(seed + offset)
    )
    unlabelled = digits(settings["unlabelled"], 1)
    shape = (-1, *unlabelled.images.shape[1:])
    unlabelled_rows = torch.cat([unlabelled.batch(part).x for part in torch.arange(len(unlabelled)).split(1000)])
    stack = fit_model(settings, rows=unlabelled_rows.view(shape).numpy())
    generator = Generator().manual_seed(seed)
    head = MLP((settings["parameters"]["code_size"], N_CLASSES), generator=generator)
    objective = ErrorCounter(Reconstruction(stack.coder_), head, CrossEntropy())
    rows = digits(settings["rows"], 2)
    config = TrainingConfig(
        max_epochs=1, batch_size=batch_size, learning_rate=settings["learning_rate"],
        precision=settings["parameters"]["precision"],
    )  # fmt: skip
    record = Trainer(objective, rows, None, config, generator).run()
    if record.stopped == "interrupted":
        raise KeyboardInterrupt
    return {
        "errors": by_block(objective.wrong, batch_size, settings["edges"]),
        "test_error": _error(objective, np.asarray(test.X), np.asarray(test.labels)),
        "seconds": record.seconds or record.epochs[-1]["seconds"],
        "pretraining_seconds": sum(phase["seconds"] for phase in stack.history_["pretraining"]),
        "originals": to_bytes(rows.originals(torch.arange(N_SHOWN)).flatten(1)),
        "deformed": to_bytes(rows.batch(torch.arange(N_SHOWN).repeat(3)).x),
        "image_shape": [1, *shape[1:]],
    }


def by_block(wrong: list[int], batch_size: int, edges: list[int]) -> list[float]:
    """Return the error rate between each two numbers of rows.

    Example:
        >>> by_block([4, 2, 1, 1], 10, [0, 10, 40])
        [0.4, 0.13333333333333333]
    """
    return [sum(wrong[first // batch_size : last // batch_size]) / (last - first) for first, last in pairwise(edges)]


@torch.no_grad()
def _error(objective: Supervision, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the error rate on undeformed images."""
    x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32))
    output = objective.eval()(Batch(x / 255 if images.dtype == np.uint8 else x))
    return float((output.argmax(-1).numpy() != labels).mean())


def _chosen(results: Results) -> dict[str, Result]:
    """Return each start at the rate with fewer errors in the second half of the blocks, without the last block."""
    chosen = {}
    for start in STARTS:
        cells = [cell for name, cell in results.items() if name.startswith(start)]
        chosen[start] = min(cells, key=lambda cell: sum(cell["errors"][len(cell["errors"]) // 2 : -1]))
    return chosen


def _rows(results: Results, setup: _Setup) -> list[Row]:
    chosen = _chosen(results)
    errors = {start: 100 * np.array(cell["errors"]) for start, cell in chosen.items()}
    gain = errors["random"] - errors["denoising"]
    rows = [
        setup.row(f"rows {first:,} to {last:,}: error in % {STARTS[start]}", float(errors[start][number]),
                  f"{start}, last" if last == setup.edges[-1] else "")
        for number, (first, last) in enumerate(pairwise(setup.edges))
        for start in STARTS
    ]  # fmt: skip
    return [
        *rows,
        Row("advantage of the denoising start, largest, points", float(gain.max())),
        setup.row("advantage of the denoising start, last rows, points", float(gain[-1]), "last"),
        *(Row(f"undeformed test digits: error in % {STARTS[start]}", 100 * cell["test_error"])
          for start, cell in chosen.items()),
    ]  # fmt: skip


def standard_error(results: Results, edges: Sequence[int]) -> float:
    """Return the standard error of the last advantage, in points, from the number of rows alone."""
    shares = [cell["errors"][-1] for cell in _chosen(results).values()]
    return float(100 * np.sqrt(sum(p * (1 - p) for p in shares) / (edges[-1] - edges[-2])))


def _remarks(results: Results, setup: _Setup) -> list[str]:
    last = "; ".join(f"{name} {100 * cell['errors'][-1]:.2f}%" for name, cell in results.items())
    chosen = _chosen(results)
    gain = 100 * (chosen["random"]["errors"][-1] - chosen["denoising"]["errors"][-1])
    spread = standard_error(results, setup.edges)
    verdict = "remains" if gain > 2 * spread else "is reversed" if gain < -2 * spread else "has vanished"
    return [
        "Errors are counted on new rows, before the update that uses them. Both starts get the same rows in the same "
        "order.",
        f"Over the last rows the advantage is {gain:.2f} points: it {verdict}. Its standard error from the number of "
        f"rows is at most {spread:.2f}, without the variance between seeds.",
        f"Errors over the last rows by start and learning rate: {last}. The table shows each start at the rate with "
        "fewer errors in the second half of the blocks, without the last block.",
        "The learning rate reaches zero at the last row for both starts.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    cell = next(iter(results.values()))
    deformed = from_bytes(cell["deformed"]).reshape(-1, N_SHOWN, np.prod(cell["image_shape"]))
    lines = {f"deformed, {number}": images for number, images in enumerate(deformed, 1)}
    return {
        "error-by-rows-seen": _by_rows(results, setup.edges),
        "deformed-digits": originals_over_reconstructions(
            from_bytes(cell["originals"]), lines, cell["image_shape"], title="Digits and their deformations"
        ),
    }


def _by_rows(results: Results, blocks: Sequence[int]) -> Figure:
    """Draw the error of each start against the number of rows, at the middle of each block."""
    edges = np.array(blocks, np.float64)
    middles = np.sqrt(np.maximum(edges[:-1], edges[1] / 4) * edges[1:])
    figure, ax = axes(7.6, 4.2)
    for colour, (start, cell) in zip(COLOURS, reversed(_chosen(results).items()), strict=False):
        ax.plot(middles, 100 * np.array(cell["errors"]), color=colour, lw=1.8, marker="o", ms=4, label=STARTS[start])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = [1, 2, 5, 10, 20, 50, 100]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_ylim(top=100)
    ax.minorticks_off()
    ax.set_xlabel("rows")
    ax.set_ylabel("error before the update, %")
    ax.legend(frameon=False, fontsize=9)
    ax.set_title("Error on a stream of new digits", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="online",
    claim="The advantage of a denoising autoencoder as initialization remains with unlimited data.",
    source="Erhan et al., Why does unsupervised pre-training help deep learning?, JMLR 11 (2010), the online setting",
    protocol=(
        "600,000 digits, each made from one of the 60,000 training digits of MNIST by a random deformation (rotation, "
        "scaling, shear, shift and bending) and used once. 784-500-500-500-10, sigmoid units, cross-entropy, Adam with "
        "warm-up and a cosine to zero, batches of 100, learning rates of 3e-3 and 1e-2: once from three pretrained "
        "denoising layers (a quarter of the entries masked, cross-entropy, tied weights, Adam at 2e-3, 5 epochs a "
        "layer on 60,000 other deformed digits without labels), once from the same layers with random weights. Each "
        "row is classified before the update that uses it. At the end the 10,000 undeformed test digits are classified."
    ),
    minutes=18,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
