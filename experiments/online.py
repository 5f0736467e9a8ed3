"""Digits without end: does starting from a denoising autoencoder still pay when no row is ever seen twice?"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Generator, Tensor

from experiments.deforming import Stream
from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import as_bytes, as_units, fitted, opened
from isthmus.learning.supervision import CrossEntropy, Supervision
from isthmus.learning.trainer import Trainer, TrainingConfig
from isthmus.parts.forward import Batch
from isthmus.parts.networks import MLP

_ERHAN = "Erhan et al. (2010), the online setting: the advantage of pretraining does not vanish"

PUBLISHED = {"last": Published(0.0, "at least", _ERHAN)}
"""What is claimed, compared with what came out and used for nothing else."""

QUICK: dict[str, Published] = {"learned": Published(0.5, "at most", "far better than by chance")}

SEED = 0
N_CLASSES = 10
STARTS = {"denoising": "from a denoising autoencoder", "random": "from random weights"}
N_SHOWN = 12


def _cells(quick: bool) -> list[Cell]:
    size = 64 if quick else 500
    common = {
        "seed": SEED, "kind": "stacked", "train": "digits:train" if quick else "mnist",
        "test": "digits:test" if quick else "mnist:test", "rows": 6000 if quick else 600_000,
        "unlabelled": 1000 if quick else 60_000, "batch_size": 50 if quick else 100,
        "edges": [0, 1000, 3000, 5000, 6000] if quick else
        [0, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000],
    }  # fmt: skip
    stack = {
        "layers": "denoising", "hidden_sizes": [size, size], "code_size": size, "likelihood": "bernoulli",
        "fine_tuning_epochs": 0, "batch_size": 50 if quick else 100, "precision": "fp32" if quick else "auto",
    }  # fmt: skip
    own: dict[str, dict[str, Any]] = {
        # A rate of next to nothing for one pass: the same stack as it was drawn.
        "random": {"pretraining_epochs": 1, "pretraining_learning_rate": 1e-12},
        "denoising": {"pretraining_epochs": 3 if quick else 5, "pretraining_learning_rate": 2e-3},
    }
    rates = [3e-3] if quick else [3e-3, 1e-2]
    return [
        Cell(f"{start}-{rate:g}", {**common, "learning_rate": rate, "parameters": {**stack, **parameters}}, _stream)
        for rate in rates
        for start, parameters in own.items()
    ]


class Watched(Supervision):
    """A classifier that counts, batch by batch, the rows that it got wrong before it learned from them."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.wrong: list[int] = []

    def forward(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """The outputs of the head."""
        output = super().forward(batch, generator)
        if self.training and batch.label is not None:
            self.wrong.append(int(output.argmax(-1).ne(batch.label).sum()))
        return output


def _stream(settings: Settings, state: Path) -> Result:
    """One start, one rate: the error on each row of the stream before it was learned from."""
    data, test = opened(settings["train"]), opened(settings["test"])
    seed, batch_size = settings["seed"], settings["batch_size"]
    digits = lambda n, offset: Stream(
        np.asarray(data.X), np.asarray(data.labels), n, Generator().manual_seed(seed + offset)
    )
    unlabelled = digits(settings["unlabelled"], 1)
    shape = (-1, *unlabelled.images.shape[1:])
    drawn = torch.cat([unlabelled.batch(part).x for part in torch.arange(len(unlabelled)).split(1000)])
    stack = fitted(settings, rows=drawn.view(shape).numpy())
    generator = Generator().manual_seed(seed)
    head = MLP((settings["parameters"]["code_size"], N_CLASSES), generator=generator)
    objective = Watched(stack.objective_, head, CrossEntropy())
    rows = digits(settings["rows"], 2)
    learning = TrainingConfig(
        max_epochs=1, batch_size=batch_size, learning_rate=settings["learning_rate"],
        precision=settings["parameters"]["precision"],
    )  # fmt: skip
    record = Trainer(objective, rows, None, learning, generator).run()
    if record.stopped == "interrupted":
        raise KeyboardInterrupt
    return {
        "errors": by_block(objective.wrong, batch_size, settings["edges"]),
        "test_error": _error(objective, np.asarray(test.X), np.asarray(test.labels)),
        "seconds": record.seconds or record.epochs[-1]["seconds"],
        "pretraining_seconds": sum(phase["seconds"] for phase in stack.history_["pretraining"]),
        "originals": as_bytes(rows.originals(torch.arange(N_SHOWN)).flatten(1)),
        "deformed": as_bytes(rows.batch(torch.arange(N_SHOWN).repeat(3)).x),
        "image_shape": [1, *shape[1:]],
    }


def by_block(wrong: list[int], batch_size: int, edges: list[int]) -> list[float]:
    """The share of rows that were wrong, between each two numbers of rows seen.

    Example:
        >>> by_block([4, 2, 1, 1], 10, [0, 10, 40])
        [0.4, 0.13333333333333333]
    """
    return [sum(wrong[first // batch_size : last // batch_size]) / (last - first) for first, last in pairwise(edges)]


@torch.no_grad()
def _error(objective: Supervision, images: np.ndarray, labels: np.ndarray) -> float:
    """The share of images, as they are, whose likeliest class is another."""
    x = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32))
    output = objective.eval()(Batch(x / 255 if images.dtype == np.uint8 else x))
    return float((output.argmax(-1).numpy() != labels).mean())


def _contrast_options(results: Results) -> dict[str, Result]:
    """Each start at the rate at which it erred less, over all rows before the last block."""
    chosen = {}
    for start in STARTS:
        cells = [cell for name, cell in results.items() if name.startswith(start)]
        chosen[start] = min(cells, key=lambda cell: sum(cell["errors"][len(cell["errors"]) // 2 : -1]))
    return chosen


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    edges, chosen = dict(_cells(quick)[0].settings)["edges"], _contrast_options(results)
    errors = {start: 100 * np.array(cell["errors"]) for start, cell in chosen.items()}
    gain = errors["random"] - errors["denoising"]
    rows = []
    for number, (first, last) in enumerate(pairwise(edges)):
        told = f"rows {first:,} to {last:,}"
        rows += [Row(f"{told}: error in % {STARTS[start]}", float(errors[start][number])) for start in STARTS]
    return [
        *rows,
        Row("advantage of the denoising start, largest, points", float(gain.max())),
        Row("advantage of the denoising start, last rows, points", float(gain[-1]), published.get("last")),
        *(Row(f"test digits as they are: error in % {STARTS[start]}", 100 * cell["test_error"])
          for start, cell in chosen.items()),
        *([Row("random start, last rows: share wrong", float(errors["random"][-1]) / 100, published["learned"])]
          if quick else []),
    ]  # fmt: skip


def standard_error(results: Results, quick: bool) -> float:
    """Of the last advantage, in points, from the number of rows alone."""
    edges = dict(_cells(quick)[0].settings)["edges"]
    shares = [cell["errors"][-1] for cell in _contrast_options(results).values()]
    return float(100 * np.sqrt(sum(p * (1 - p) for p in shares) / (edges[-1] - edges[-2])))


def _remarks(results: Results, quick: bool) -> list[str]:
    last = "; ".join(f"{name} {100 * cell['errors'][-1]:.2f}%" for name, cell in results.items())
    chosen = _contrast_options(results)
    gain = 100 * (chosen["random"]["errors"][-1] - chosen["denoising"]["errors"][-1])
    spread = standard_error(results, quick)
    verdict = "has not vanished" if gain > 2 * spread else "has turned" if gain < -2 * spread else "has vanished"
    return [
        "An error here is that of rows that were never seen before: each is counted before it is learned from. Both "
        "starts are given the same rows in the same order.",
        f"Over the last rows the advantage is {gain:.2f} points: it {verdict}. Its standard error from the number of "
        f"rows is at most {spread:.2f}; the luck of the one seed is not in that.",
        f"Errors over the last rows by start and learning rate: {last}. The table has each start at the rate at which "
        "it erred less over the second half of the blocks, but for the last; the rate also decides the first blocks.",
        "The schedule goes to zero with the last row for both starts.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    cell = next(iter(results.values()))
    deformed = as_units(cell["deformed"]).reshape(-1, N_SHOWN, np.prod(cell["image_shape"]))
    lines = {f"deformed, {number}": images for number, images in enumerate(deformed, 1)}
    return {
        "error-by-rows-seen": _by_rows(results, quick),
        "deformed-digits": originals_over_reconstructions(
            as_units(cell["originals"]), lines, cell["image_shape"], title="Digits, and what the stream makes of them"
        ),
    }


def _by_rows(results: Results, quick: bool) -> Figure:
    """The error of each start against the rows seen, at the middle of each block."""
    edges = np.array(dict(_cells(quick)[0].settings)["edges"], np.float64)
    middles = np.sqrt(np.maximum(edges[:-1], edges[1] / 4) * edges[1:])
    figure, place = axes(7.6, 4.2)
    for colour, (start, cell) in zip(COLOURS, reversed(_contrast_options(results).items()), strict=False):
        place.plot(middles, 100 * np.array(cell["errors"]), color=colour, lw=1.8, marker="o", ms=4, label=STARTS[start])
    place.set_xscale("log")
    place.set_yscale("log")
    ticks = [1, 2, 5, 10, 20, 50, 100]
    place.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    place.set_ylim(top=100)
    place.minorticks_off()
    place.set_xlabel("rows seen")
    place.set_ylabel("error before learning from them, %")
    place.legend(frameon=False, fontsize=9)
    place.set_title("A stream of digits, none of them twice", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="online",
    claim="A start from a denoising autoencoder still pays when rows never come to an end.",
    source="Erhan et al., Why does unsupervised pre-training help deep learning?, JMLR 11 (2010), the online setting",
    protocol=(
        "600,000 digits, each made from one of the 60,000 training digits of MNIST by a map of its own (turned, "
        "scaled, sheared, shifted and bent a little) and seen once. 784-500-500-500-10, sigmoid units, cross-entropy, "
        "Adam with warm-up and a cosine to zero, batches of 100, learning rates of 3e-3 and 1e-2: once from three "
        "denoising layers (a quarter of the entries masked, cross-entropy, tied weights, Adam at 2e-3, 5 passes a "
        "layer over 60,000 other such digits without labels), once from the same layers as they were drawn. Each row "
        "is classified before it is learned from; beside it the 10,000 test digits as they are, at the end."
    ),
    minutes=18,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
