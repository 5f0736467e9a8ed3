"""Where a deep classifier had better begin: at random weights, at layers learned one by one, or learned together."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import opened, refuse_half, squared_errors
from isthmus import CodeClassifier, StackedAutoencoder
from isthmus.data.streams import LabelledRows
from isthmus.learning.stacking import Stack
from isthmus.learning.supervision import CrossEntropy, Supervision
from isthmus.parts.networks import MLP

_BENGIO = "Bengio et al. (2007), table 2: 1.4% after layers learned without labels, 2.0% with, 2.4% at random weights"
_ZHOU = "Zhou et al. (2014): joint training with each layer's regularisation wins over layer by layer"

PUBLISHED = {
    "dies": Published(0.1, "at most", "the claim: from small random weights the gradient dies on its way down"),
    "echo": Published(0.1, "at least", "Jaeger (2001); DL book 10.8: a spectral radius that keeps the gradient's size"),
    "supervised against unsupervised": Published(0.0, "at least", _BENGIO),
    "ordinary against supervised": Published(0.0, "at least", _BENGIO),
    "ordinary against unsupervised": Published(0.0, "at least", _BENGIO),
    "joint, error of the whole": Published(1.0, "at most", _ZHOU),
    "joint, frozen": Published(0.0, "at most", _ZHOU),
    "joint, tuned": Published(0.0, "at most", _ZHOU),
}
"""What is claimed, compared with what came out and used for nothing else."""

QUICK = {name: PUBLISHED[name] for name in ("dies", "echo")}

STARTS = {
    "small": "small random weights",
    "echo": "random weights of a set spectral radius",
    "joint": "layers learned jointly",
    "supervised": "layers learned one by one, with labels",
    "greedy": "layers learned one by one, without labels",
}
"""Where the classifier begins, in words."""

DRAWN = ("small", "echo")
"""The starts that nothing was learned for."""

ENDS = {"frozen": "frozen", "tuned": "fine-tuned", "both": "fine-tuned, reconstruction beside"}
"""What is learned from there with labels."""

SEED = 0
SMALL = 0.01
"""Standard deviation of small weights."""
RADIUS = 4.0
"""Spectral radius of the others: the steepest slope of the sigmoid is a quarter."""
MASKED = 0.25
"""Share of the inputs that regularisation masks: of every layer while it learns, of the network with labels."""


def _cells(quick: bool) -> list[Cell]:
    rows = {"data": "digits", "n_rows": 400, "n_looked_at": 100} if quick else {
        "data": "mnist", "n_rows": 5000, "n_looked_at": 1000}  # fmt: skip
    common = {
        **rows, "seed": SEED, "sizes": [24] * 4 if quick else [300] * 4, "batch_size": 50 if quick else 100,
        "pretraining_epochs": 1 if quick else 25, "pretraining_rate": 2e-2 if quick else 2e-3,
        "epochs": 2 if quick else 40, "rate": 2e-2 if quick else 1e-3, "reconstruction_weight": 0.01,
        "ends": list(ENDS),
    }  # fmt: skip
    return [
        Cell(name_of(start, masked), {**common, "start": start, "masked": masked}, _begin)
        for masked, start in product((False, True), STARTS)
    ]


def name_of(start: str, masked: bool) -> str:
    """The cell of a start, regularised or not.

    Example:
        >>> name_of("joint", True)
        'joint-masked'
    """
    return f"{start}-masked" if masked else start


def _begin(settings: Settings, state: Path) -> Result:
    """One start: the gradient of a classifier that begins there, and the errors of those that learn from there."""
    (train, y), looked_at, (test, y_test) = _parts(settings)
    stack = started(settings, train, y)
    result: dict[str, Any] = {
        "gradients": gradient_norms(stack, train[:1000], y[:1000], settings["seed"]),
        **squared_errors(stack, test),
    }
    for end in settings["ends"]:
        classifier = CodeClassifier(
            encoder=stack, frozen=end == "frozen", input_dropout=MASKED if settings["masked"] else 0.0,
            reconstruction_weight=settings["reconstruction_weight"] if end == "both" else 0.0,
            max_epochs=settings["epochs"], batch_size=settings["batch_size"], learning_rate=settings["rate"],
            random_state=settings["seed"], verbose=1,
        ).fit(train, y, validation=looked_at)  # fmt: skip
        refuse_half(classifier)
        result[end] = 100 * (1 - classifier.score(test, y_test))
    return result


def _parts(settings: Settings) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Rows and labels: to learn from, to look at, to judge by."""
    train, test = (opened(f"{settings['data']}:{part}") for part in ("train", "test"))
    assert train.labels is not None
    assert test.labels is not None
    n, m = settings["n_rows"], settings["n_rows"] + settings["n_looked_at"]
    X, y = np.asarray(train.X), np.asarray(train.labels)
    return (X[:n], y[:n]), (X[n:m], y[n:m]), (np.asarray(test.X), np.asarray(test.labels))


def started(settings: Settings, X: np.ndarray, y: np.ndarray) -> StackedAutoencoder:
    """A stack at one of the starts."""
    start = settings["start"]
    drawn = start in DRAWN
    *hidden, code_size = settings["sizes"]
    model = StackedAutoencoder(
        hidden_sizes=hidden, code_size=code_size, likelihood="bernoulli", batch_size=settings["batch_size"],
        layers="denoising" if settings["masked"] else "ordinary", corruption_rate=MASKED,
        training="greedy" if drawn else start, fine_tuning_epochs=0,
        pretraining_epochs=1 if drawn else settings["pretraining_epochs"],
        pretraining_learning_rate=settings["pretraining_rate"], validation_fraction=0.0, patience=None,
        random_state=settings["seed"], verbose=1,
    ).fit(X, y)  # fmt: skip
    refuse_half(model)
    if drawn:
        redraw(model, X, small=start == "small")
    return model


@torch.no_grad()
def redraw(model: StackedAutoencoder, X: np.ndarray, *, small: bool) -> None:
    """Random weights in place of learned ones: small, or square ones of spectral radius `RADIUS`."""
    generator = torch.Generator().manual_seed(model.seed_)
    stack = model._build_objective(model._shape(), generator)
    for weight in weights_of(stack):
        if small:
            weight.normal_(0.0, SMALL, generator=generator)
        elif weight.shape[0] == weight.shape[1]:
            weight.mul_(RADIUS / float(torch.linalg.eigvals(weight).abs().max()))
    stack.prepare(model.preprocessing_.rows(X))
    model.objective_ = stack.eval()


def weights_of(stack: Stack) -> list[Tensor]:
    """The weights of each layer's encoder, lowest first."""
    return [part.weight for part in stack.encoder.modules() if isinstance(part, nn.Linear)]


def gradient_norms(model: StackedAutoencoder, X: np.ndarray, y: np.ndarray, seed: int) -> list[float]:
    """||dJ/dW_k|| of each layer for a classifier whose head is random yet, J the mean cross-entropy of some rows."""
    stack = model.objective_
    assert isinstance(stack, Stack)
    generator = torch.Generator().manual_seed(seed)
    head = MLP((model.code_size_, len(np.unique(y))), generator=generator)
    objective = Supervision(stack, head, CrossEntropy())
    numbers = torch.from_numpy(np.unique(y, return_inverse=True)[1])
    batch = LabelledRows(model.preprocessing_.rows(X), numbers).batch(torch.arange(len(X)))
    weights = weights_of(stack)
    loss = objective.terms(batch, 0.0, None)["classification"].mean()
    return [float(gradient.norm()) for gradient in torch.autograd.grad(loss, weights)]


def _rows(results: Results, quick: bool) -> list[Row]:
    published: Mapping[str, Published] = QUICK if quick else PUBLISHED
    lowest = {name: cell["gradients"][0] / cell["gradients"][-1] for name, cell in results.items()}
    plain, masked = ({start: results[name_of(start, m)] for start in STARTS} for m in (False, True))
    claims = {
        "supervised against unsupervised": plain["supervised"]["tuned"] - plain["greedy"]["tuned"],
        "ordinary against supervised": plain["small"]["tuned"] - plain["supervised"]["tuned"],
        "ordinary against unsupervised": plain["small"]["tuned"] - plain["greedy"]["tuned"],
        "joint, error of the whole": masked["joint"]["error"] / masked["greedy"]["error"],
        "joint, frozen": masked["joint"]["frozen"] - masked["greedy"]["frozen"],
        "joint, tuned": masked["joint"]["tuned"] - masked["greedy"]["tuned"],
    }
    return [
        Row("small random weights: gradient of the lowest layer over the highest's", lowest["small"],
            published["dies"], ".2g"),
        Row("spectral radius 4: gradient of the lowest layer over the highest's", lowest["echo"],
            published["echo"], ".2g"),
        *(Row(what, claims[name], published.get(name)) for name, what in CLAIMS.items()),
        *(
            Row(f"{_words(start, m, end)}: test error, %", results[name_of(start, m)][end])
            for end, m, start in product(ENDS, (False, True), STARTS)
        ),
        *(
            Row(f"{STARTS[start]}, {'masked' if m else 'unregularised'}: squared error per test image before labels",
                results[name_of(start, m)]["error"])
            for m, start in product((False, True), ("joint", "greedy"))
        ),
    ]  # fmt: skip


CLAIMS = {
    "supervised against unsupervised": "one by one with labels minus without, fine-tuned: points of test error",
    "ordinary against supervised": "small random weights minus one by one with labels, fine-tuned: points",
    "ordinary against unsupervised": "small random weights minus one by one without labels, fine-tuned: points",
    "joint, error of the whole": "jointly over one by one, both masked: squared error per test image before labels",
    "joint, frozen": "jointly minus one by one, both masked, frozen: points of test error",
    "joint, tuned": "jointly minus one by one, both masked, fine-tuned: points of test error",
}
"""What is compared, in words."""


def _remarks(results: Results, quick: bool) -> list[str]:
    told = "; ".join(
        f"{STARTS[start]} {', '.join(f'{norm:.2g}' for norm in results[start]['gradients'])}" for start in STARTS
    )
    arms = [(results[name_of(s, m)][e], _words(s, m, e)) for s, m, e in product(STARTS, (False, True), ENDS)]
    error, best = min(arms)
    return [
        f"Norm of the gradient by the weights of each layer, lowest first, before a label was learned from: {told}.",
        f"The least error of all is {error:.2f}%: {best}.",
        *([] if quick else [_chance(results)]),
        "Adam divides a gradient by its own size, so that small weights are left sooner here than by the plain "
        "gradient steps of the papers.",
    ]


def _chance(results: Results) -> str:
    """How far apart two errors have to be on 10,000 digits."""
    error = results["greedy"]["tuned"]
    return (
        f"Two errors of {error:.0f}% on 10,000 digits differ by chance with a standard error of "
        f"{np.sqrt(2 * error * (100 - error) / 1e4):.2f} points, and all is of one seed: differences below twice that "
        "agree with the claim without deciding it."
    )


def _words(start: str, masked: bool, end: str) -> str:
    return f"{STARTS[start]}, {'masked' if masked else 'unregularised'}, {ENDS[end]}"


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    return {"gradient-by-layer": _gradients(results), "test-errors": _errors(results)}


def _gradients(results: Results) -> Figure:
    figure, place = axes(7.6)
    for colour, (start, words) in zip(COLOURS, STARTS.items(), strict=False):
        for masked, style in ((False, "-"), (True, ":"))[: 1 if start in DRAWN else 2]:
            norms = results[name_of(start, masked)]["gradients"]
            place.plot(range(1, len(norms) + 1), norms, style, color=colour, marker="o", ms=3.5,
                       label=None if masked else words)  # fmt: skip
    place.set_yscale("log")
    place.set_xticks(range(1, len(norms) + 1))
    place.set_xlabel("layer")
    place.set_ylabel("norm of the gradient by its weights")
    place.set_title("Before any label was learned from (dotted: masked)", fontsize=11, loc="left")
    place.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _errors(results: Results) -> Figure:
    figure, place = axes(7.6, 4.4)
    marks = {"frozen": "s", "tuned": "o", "both": "D"}
    places = {name_of(s, m): 2.4 * i + m for i, s in enumerate(STARTS) for m in (False, True)}
    for (end, words), colour in zip(ENDS.items(), COLOURS, strict=False):
        values = [results[name][end] for name in places]
        place.scatter(values, list(places.values()), marker=marks[end], color=colour, s=26, label=words, zorder=3)
    place.set_yticks(
        list(places.values()),
        [f"{STARTS[s]}{', masked' if m else ''}" for s in STARTS for m in (False, True)], fontsize=8,
    )  # fmt: skip
    place.invert_yaxis()
    place.set_xscale("log")
    place.set_xticks([4, 5, 6, 8, 10, 15, 20, 40, 90], ["4", "5", "6", "8", "10", "15", "20", "40", "90"])
    place.minorticks_off()
    place.grid(axis="x", lw=0.4, color="#dddddd")
    place.set_xlabel("test error, %")
    place.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
    return figure


EXPERIMENT = Experiment(
    name="layerwise-or-joint",
    claim="Layers learned without labels are the better start than with, and jointly with regularisation better still.",
    source="Bengio et al. (2007); Zhou et al. (2014); Deep Learning, sections 8.7.4, 10.8 and 15.1",
    protocol=(
        "MNIST in [0, 1], the first 5,000 training digits with their labels, the next 1,000 to stop early by, 10,000 "
        "test digits. Four layers of 300 sigmoid units, tied, under the cross-entropy. Five starts: weights of "
        "standard deviation .01; square weights of spectral radius 4 (the sigmoid's steepest slope is a quarter); 25 "
        "epochs of joint training; 25 for each layer, with labels, and without. From each a classifier learns for up "
        "to 40 epochs: its head alone, or all of it, or all of it beside .01 of the reconstruction's nats. Everything "
        "once as it is and once with a quarter of the inputs masked: of each layer while it learns, and of the "
        "network with labels. The gradient is that of the classifier's cross-entropy before it learns, its head "
        "random."
    ),
    minutes=25,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
