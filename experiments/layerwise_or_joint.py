"""Initialization of a deep classifier: random weights, layers trained one by one, or layers trained jointly."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import load_dataset, load_rows, raise_if_interrupted, squared_errors
from isthmus import CodeClassifier, Layer, Masking, Pretraining, StackedAutoencoder
from isthmus.data.streams import LabelledRows
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.supervision import CrossEntropy, Supervision
from isthmus.parts.coder import Coder
from isthmus.parts.networks import MLP

_BENGIO = (
    "Bengio et al. (2007), table 2: 1.4% after unsupervised layers, 2.0% after supervised ones, 2.4% from random ones"
)
_ZHOU = "Zhou et al. (2014): joint training with each layer's regularisation wins over layer by layer"

PUBLISHED = {
    "supervised against unsupervised": Published(0.0, "at least", _BENGIO),
    "ordinary against supervised": Published(0.0, "at least", _BENGIO),
    "ordinary against unsupervised": Published(0.0, "at least", _BENGIO),
    "joint, error of the whole": Published(1.0, "at most", _ZHOU),
    "joint, frozen": Published(0.0, "at most", _ZHOU),
    "joint, tuned": Published(0.0, "at most", _ZHOU),
}

TARGETS = {
    "vanishes": Target(0.1, "at most", "from small random weights the gradient vanishes towards the lowest layer"),
    "echo": Target(
        0.1, "at least", "a set spectral radius preserves the gradient (Jaeger 2001; DL book, section 10.8)"
    ),
}

STARTS = {
    "small": "small random weights",
    "echo": "random weights of a set spectral radius",
    "joint": "layers trained jointly",
    "supervised": "layers trained one by one, with labels",
    "greedy": "layers trained one by one, without labels",
}
"""The initialization of the classifier, in words."""

RANDOM = ("small", "echo")
"""The starts without training."""

ENDS = {"frozen": "frozen", "tuned": "fine-tuned", "both": "fine-tuned with a reconstruction term"}
"""The weights that are trained with labels, in words."""

SEED = 0
SMALL = 0.01
"""Standard deviation of small weights."""

RADIUS = 4.0
"""Spectral radius of the others: the maximal slope of the sigmoid is a quarter."""

MASKED = 0.25
"""Masking rate of the regularisation: of the input of each layer in pretraining, of the network with labels."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    common: dict[str, Any]


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    common={
        "data": "mnist", "n_rows": 5000, "n_looked_at": 1000, "sizes": [300] * 4, "batch_size": 100,
        "pretraining_epochs": 25, "pretraining_rate": 2e-3, "epochs": 40, "rate": 1e-3,
    },
)  # fmt: skip

QUICK = _Setup(
    targets=TARGETS,
    common={
        "data": "digits", "n_rows": 400, "n_looked_at": 100, "sizes": [24] * 4, "batch_size": 50,
        "pretraining_epochs": 1, "pretraining_rate": 2e-2, "epochs": 2, "rate": 2e-2,
    },
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {**setup.common, "seed": SEED, "reconstruction_weight": 0.01, "ends": list(ENDS)}
    return [
        Cell(name_of(start, masked), {**common, "start": start, "masked": masked}, _fit)
        for masked, start in product((False, True), STARTS)
    ]


def name_of(start: str, masked: bool) -> str:
    """Return the name of the cell of a start, regularised or not.

    Example:
        >>> name_of("joint", True)
        'joint-masked'
    """
    return f"{start}-masked" if masked else start


def _fit(settings: Settings, state: Path) -> Result:
    """Measure one start: the gradient of a classifier before training, and the test errors after training."""
    (train, y), validation, (test, y_test) = _parts(settings)
    stack = initial_stack(settings, train, y)
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
        ).fit(train, y, validation=validation)  # fmt: skip
        raise_if_interrupted(classifier)
        result[end] = 100 * (1 - classifier.score(test, y_test))
    return result


def _parts(settings: Settings) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return rows and labels for training, validation and test."""
    train, test = (load_dataset(f"{settings['data']}:{part}") for part in ("train", "test"))
    assert train.labels is not None
    assert test.labels is not None
    n, m = settings["n_rows"], settings["n_rows"] + settings["n_looked_at"]
    X, y = np.asarray(train.X), np.asarray(train.labels)
    return (X[:n], y[:n]), (X[n:m], y[n:m]), (np.asarray(test.X), np.asarray(test.labels))


def initial_stack(settings: Settings, X: np.ndarray, y: np.ndarray) -> StackedAutoencoder:
    """Return a stack at one of the starts."""
    start = settings["start"]
    random = start in RANDOM
    *hidden, code_size = settings["sizes"]
    pretraining = Pretraining(
        "greedy" if random else start, epochs=1 if random else settings["pretraining_epochs"],
        learning_rate=settings["pretraining_rate"],
    )  # fmt: skip
    model = StackedAutoencoder(
        hidden_sizes=hidden, code_size=code_size, likelihood="bernoulli", batch_size=settings["batch_size"],
        layers=Layer(corruption=Masking(MASKED)) if settings["masked"] else "ordinary", pretraining=pretraining,
        fine_tuning=None, validation_fraction=0.0, patience=None, random_state=settings["seed"], verbose=1,
    ).fit(X, y)  # fmt: skip
    raise_if_interrupted(model)
    if random:
        redraw(model, X, small=start == "small")
    return model


@torch.no_grad()
def redraw(model: StackedAutoencoder, X: np.ndarray, *, small: bool) -> None:
    """Replace the weights by random ones: small, or with the spectral radius `RADIUS` for square weights."""
    generator = torch.Generator().manual_seed(model.seed_)
    recipe = model._rebuilt(generator)
    for weight in weights_of(recipe.coder):
        if small:
            weight.normal_(0.0, SMALL, generator=generator)
        elif weight.shape[0] == weight.shape[1]:
            weight.mul_(RADIUS / float(torch.linalg.eigvals(weight).abs().max()))
    recipe.objective.prepare(model.preprocessing_.rows(X))
    recipe.parts.eval()
    model._keep(recipe)


def weights_of(coder: Coder) -> list[Tensor]:
    """Return the weights of the encoder of each layer, lowest first."""
    return [part.weight for part in coder.encoder.modules() if isinstance(part, nn.Linear)]


def gradient_norms(model: StackedAutoencoder, X: np.ndarray, y: np.ndarray, seed: int) -> list[float]:
    """Return ||dJ/dW_k|| of each layer for a classifier with a random head, J the mean cross-entropy of some rows."""
    generator = torch.Generator().manual_seed(seed)
    head = MLP((model.code_size_, len(np.unique(y))), generator=generator)
    objective = Supervision(Reconstruction(model.coder_), head, CrossEntropy())
    numbers = torch.from_numpy(np.unique(y, return_inverse=True)[1])
    batch = LabelledRows(model.preprocessing_.rows(X), numbers).batch(torch.arange(len(X)))
    weights = weights_of(model.coder_)
    loss = objective.criterion(batch, 0.0, None)["classification"].mean()
    return [float(gradient.norm()) for gradient in torch.autograd.grad(loss, weights)]


def _rows(results: Results, setup: _Setup) -> list[Row]:
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
        setup.row("small random weights: gradient norm, lowest layer over highest", lowest["small"], "vanishes", ".2g"),
        setup.row("spectral radius 4: gradient norm, lowest layer over highest", lowest["echo"], "echo", ".2g"),
        *(setup.row(comparison, claims[name], name) for name, comparison in CLAIMS.items()),
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
    "supervised against unsupervised": "test error, one by one with labels minus without, fine-tuned, points",
    "ordinary against supervised": "test error, small random weights minus one by one with labels, fine-tuned, points",
    "ordinary against unsupervised":
        "test error, small random weights minus one by one without labels, fine-tuned, points",
    "joint, error of the whole": "squared error per test image before labels, jointly over one by one, both masked",
    "joint, frozen": "test error, jointly minus one by one, both masked, frozen, points",
    "joint, tuned": "test error, jointly minus one by one, both masked, fine-tuned, points",
}  # fmt: skip
"""The comparisons, in words."""


def _remarks(results: Results, setup: _Setup) -> list[str]:
    gradients = "; ".join(
        f"{STARTS[start]} {', '.join(f'{norm:.2g}' for norm in results[start]['gradients'])}" for start in STARTS
    )
    arms = [(results[name_of(s, m)][e], _words(s, m, e)) for s, m, e in product(STARTS, (False, True), ENDS)]
    error, best = min(arms)
    return [
        f"Norm of the gradient of each layer's weights before training with labels, lowest layer first: {gradients}.",
        f"The least test error is {error:.2f}%: {best}.",
        _chance(results, setup),
        "Adam normalizes the gradient, so that training leaves small weights sooner than by the plain gradient descent "
        "of the papers.",
    ]


def _chance(results: Results, setup: _Setup) -> str:
    """Return the standard error of a difference of two test errors, in words."""
    n = len(load_rows(f"{setup.common['data']}:test"))
    error = results["greedy"]["tuned"]
    return (
        f"The difference of two test errors of {error:.0f}% on {n:,} digits has a standard error of "
        f"{np.sqrt(2 * error * (100 - error) / n):.2f} points, and all runs have one seed: a difference below twice "
        "that agrees with the claim and does not decide it."
    )


def _words(start: str, masked: bool, end: str) -> str:
    return f"{STARTS[start]}, {'masked' if masked else 'unregularised'}, {ENDS[end]}"


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    return {"gradient-by-layer": _gradients(results), "test-errors": _errors(results)}


def _gradients(results: Results) -> Figure:
    figure, ax = axes(7.6)
    for colour, (start, words) in zip(COLOURS, STARTS.items(), strict=False):
        for masked, style in ((False, "-"), (True, ":"))[: 1 if start in RANDOM else 2]:
            norms = results[name_of(start, masked)]["gradients"]
            ax.plot(range(1, len(norms) + 1), norms, style, color=colour, marker="o", ms=3.5,
                    label=None if masked else words)  # fmt: skip
    ax.set_yscale("log")
    ax.set_xticks(range(1, len(norms) + 1))
    ax.set_xlabel("layer")
    ax.set_ylabel("norm of the gradient of its weights")
    ax.set_title("Gradient before training with labels (dotted: masked)", fontsize=11, loc="left")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _errors(results: Results) -> Figure:
    figure, ax = axes(7.6, 4.4)
    marks = {"frozen": "s", "tuned": "o", "both": "D"}
    heights = {name_of(s, m): 2.4 * i + m for i, s in enumerate(STARTS) for m in (False, True)}
    for (end, words), colour in zip(ENDS.items(), COLOURS, strict=False):
        values = [results[name][end] for name in heights]
        ax.scatter(values, list(heights.values()), marker=marks[end], color=colour, s=26, label=words, zorder=3)
    ax.set_yticks(
        list(heights.values()),
        [f"{STARTS[s]}{', masked' if m else ''}" for s in STARTS for m in (False, True)], fontsize=8,
    )  # fmt: skip
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.set_xticks([4, 5, 6, 8, 10, 15, 20, 40, 90], ["4", "5", "6", "8", "10", "15", "20", "40", "90"])
    ax.minorticks_off()
    ax.grid(axis="x", lw=0.4, color="#dddddd")
    ax.set_xlabel("test error, %")
    ax.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=3)
    return figure


EXPERIMENT = Experiment(
    name="layerwise-or-joint",
    claim="Unsupervised layers are a better start than supervised ones; joint regularised training is better still.",
    source="Bengio et al. (2007); Zhou et al. (2014); Deep Learning, sections 8.7.4, 10.8 and 15.1",
    protocol=(
        "MNIST in [0, 1], the first 5,000 training digits with their labels, the next 1,000 for early stopping, 10,000 "
        "test digits. Four layers of 300 sigmoid units, tied, under the cross-entropy. Five starts: weights of "
        "standard deviation .01; square weights of spectral radius 4 (the maximal slope of the sigmoid is a quarter); "
        "25 epochs of joint training; 25 for each layer, with labels, and without. From each a classifier is trained "
        "for up to 40 epochs: the head alone, all weights, or all weights with .01 times the reconstruction loss "
        "added. Everything is run without regularisation and with a quarter of the inputs masked: of each layer in "
        "pretraining, and of the network with labels. The gradient is that of the classifier's cross-entropy before "
        "training, with a random head."
    ),
    minutes=25,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
