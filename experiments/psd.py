"""Predictive sparse decomposition: how near predicted codes come to optimal ones, and how much faster they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from sklearn.decomposition import sparse_encode
from torch import Tensor, nn

from experiments.drawing import COLOURS, signed_lines
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, unit_images
from experiments.patches import Whitening, contrast_normalised, random_patches
from isthmus import FISTA, L1, SparseCoding
from isthmus.errors import pluralize
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.networks import MLP
from isthmus.parts.predictive_inference import SoftShrinkage
from isthmus.parts.sparse_inference import SparseProblem, fista

Vectors = Float[np.ndarray, "rows columns"]
Encode = Callable[[Tensor], Tensor]
"""Function (rows, columns) -> predicted codes (rows, atoms)."""

SEED = 0
SIDE = 12
"""Side of the patches of photographs."""

ARMS = {
    "shrinkage": "one layer, shrinkage", "tanh": "one layer, gain-tanh", "lista": "LISTA of 3 steps",
    "two-stage": "two stages, shrinkage",
}  # fmt: skip
"""The encoders, in words. The first three are trained together with the dictionary."""

ENCODERS: dict[str, dict[str, Any]] = {
    "shrinkage": {"code_activation": "shrinkage"},
    "tanh": {"code_activation": "gain-tanh"},
    "lista": {"code_activation": "linear", "network": "lista", "network__n_steps": 3},
}
"""Arguments of `PredictiveSparseDecomposition`."""

TWO_STAGE_RATE = 1e-2
"""Peak of the learning rate of the second stage, the same as of a layer of predictive sparse decomposition."""

N_SHOWN = 16
N_TIMES = 7
"""Repetitions of a timing, of which the shortest counts."""

MAX_STEPS = 60
"""Steps of FISTA among which that with the reconstruction error of an encoder is searched."""

_SPEED = "Kavukcuoglu, Ranzato & LeCun (2008): over 100 times as fast as inference by optimisation"
_JOINT = "codes that the third term keeps near the prediction are easier to predict"
_LISTA = "three steps, which include the first layer, predict no worse than one"
_TEN = "ten steps of inference are enough in training"


_DATA = ("mnist", "patches")
_REASONS = {
    "joint": (1.0, _JOINT), "lista": (1.0, _LISTA), "ten": (1.01, _TEN),
    "objective": (1.1, "a tenth is little beside the time that is saved"),
}  # fmt: skip
"""Largest value of each measure that is aimed at, and the reason."""

PUBLISHED = {f"{name} {kind}": Published(100.0, "at least", _SPEED) for name in _DATA for kind in ("equal", "exact")}
TARGETS = {
    f"{name} {measure}": Target(value, "at most", reason)
    for name in _DATA
    for measure, (value, reason) in _REASONS.items()
}


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, dict[str, Any]]
    """Number of rows, held-out rows and atoms, and the weight of the penalty, by data set."""
    epochs: list[int]
    """Epochs of the fits, in increasing order; the last ones are those of the final model."""
    steps: list[int]
    """Steps of inference in training, in increasing order."""
    steps_epochs: int


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    data={
        "mnist": {"n_rows": 10_000, "n_test": 1_000, "code_size": 128, "weight": 0.5, "batch_size": 256},
        "patches": {"n_rows": 10_000, "n_test": 1_000, "code_size": 192, "weight": 1.0, "batch_size": 256},
    },
    epochs=[1, 3, 8], steps=[1, 3, 10, 30, 100], steps_epochs=3,
)  # fmt: skip

QUICK = _Setup(
    targets={"small-digits objective": Target(1.3, "at most", "twelve epochs of a thousand rows")},
    data={"small-digits": {"n_rows": 1_000, "n_test": 100, "code_size": 32, "weight": 0.3, "batch_size": 50}},
    epochs=[2, 12], steps=[1, 10, 30], steps_epochs=2,
)  # fmt: skip


def _photographs(n_rows: int, n_test: int) -> tuple[Vectors, Vectors]:
    """Return whitened grey patches of training and of test photographs."""
    train, test = (
        contrast_normalised(random_patches(unit_images(source).mean(-1), SIDE, n, SEED))
        for source, n in (("cifar10-10k", n_rows), ("cifar10-10k:test", n_test))
    )
    whitened = Whitening.of(train)
    return whitened(train), whitened(test)


def _digits(train: str, test: str, n_rows: int, n_test: int) -> tuple[Vectors, Vectors]:
    """Return digits as rows of pixels in [0, 1]."""
    first, second = (unit_images(source, n) for source, n in ((train, n_rows), (test, n_test)))
    return first.reshape(len(first), -1), second.reshape(len(second), -1)


DATA: dict[str, Callable[[int, int], tuple[Vectors, Vectors]]] = {
    "mnist": partial(_digits, "mnist", "mnist:test"),
    "patches": _photographs,
    "small-digits": partial(_digits, "digits:train", "digits:test"),
}
"""Functions (n_rows, n_test) -> training rows and held-out rows, by data set."""


# -- work -----------------------------------------------------------------------------------------------


def _cells(setup: _Setup) -> list[Cell]:
    cells = []
    for name, data in setup.data.items():
        common = {"data": name, **data, "seed": SEED}
        cells += [
            Cell(f"{name}-{arm}", {**common, "encoder": arguments, "epochs": setup.epochs}, _predictive)
            for arm, arguments in ENCODERS.items()
        ]
        cells.append(Cell(f"{name}-two-stage", {**common, "epochs": setup.epochs}, _two_stage))
        cells += [
            Cell(f"{name}-steps-{n}", {**common, "encoder": {**ENCODERS["shrinkage"], "n_inference_steps": n},
                                       "epochs": [setup.steps_epochs]}, _predictive)
            for n in setup.steps
        ]  # fmt: skip
    return cells


def _rows_of(settings: Settings) -> tuple[Vectors, Vectors]:
    return DATA[settings["data"]](settings["n_rows"], settings["n_test"])


def _predictive(settings: Settings, state: Path) -> Result:
    """Fit a model for each number of epochs, and compare its predictions with the optimum over its dictionary."""
    train, test = _rows_of(settings)
    curve = {}
    own = dict(settings["encoder"])
    if own.get("network") == "lista":
        own["network__threshold"] = settings["weight"]
    for epochs in settings["epochs"]:
        model: Any = fit_model({"kind": "psd", "seed": SEED, "parameters": {**_parameters(settings, epochs), **own}},
                               rows=train)  # fmt: skip
        inference = SparseCoding(
            atoms=model, sparsity=L1(settings["weight"]), inference=FISTA(gap=1e-4), scaling="none", random_state=SEED,
            validation_fraction=0.0, precision="fp32",
        ).fit(train)  # fmt: skip
        coder = model.coder_.to("cpu").eval()
        encode = partial(_encoded, coder)
        curve[str(epochs)] = compared(encode, coder, inference.transform(test), test, settings["weight"])
    return {
        "curve": curve, "speed": speeds(encode, coder, test, settings["weight"]),
        "atoms": _shown(model.components_), "image_shape": _image_shape(train),
    }  # fmt: skip


def _parameters(settings: Settings, epochs: int) -> dict[str, Any]:
    return {
        "code_size": settings["code_size"], "sparsity": "l1", "sparsity__weight": settings["weight"],
        "max_epochs": epochs, "batch_size": settings["batch_size"], "scaling": "none", "precision": "fp32",
    }  # fmt: skip


@torch.no_grad()
def _encoded(coder: Coder, x: Tensor) -> Tensor:
    return coder.encode(Batch(x)).code


def _two_stage(settings: Settings, state: Path) -> Result:
    """Fit sparse coding, then for each number of epochs a layer that predicts the codes of the training rows."""
    train, test = _rows_of(settings)
    parameters = _parameters(settings, settings["epochs"][-1])
    model: Any = fit_model({"kind": "sparse-coding", "seed": SEED, "parameters": parameters}, rows=train)
    x, codes = torch.from_numpy(train), torch.from_numpy(model.transform(train))
    optimal, coder = model.transform(test), model.coder_.to("cpu").eval()
    curve = {}
    for epochs in settings["epochs"]:
        encode = regression(x, codes, epochs=epochs, threshold=settings["weight"],
                            batch_size=settings["batch_size"], seed=SEED)  # fmt: skip
        curve[str(epochs)] = compared(encode, coder, optimal, test, settings["weight"])
    return {
        "curve": curve, "speed": speeds(encode, coder, test, settings["weight"]),
        "atoms": _shown(model.components_), "image_shape": _image_shape(train),
    }  # fmt: skip


def regression(
    x: Float[Tensor, "rows columns"],
    codes: Float[Tensor, "rows units"],
    *,
    epochs: int,
    threshold: float,
    batch_size: int,
    seed: int,
) -> Encode:
    """Fit one layer with shrinkage to given codes by their mean squared error, and return it as a function.

    Adam with a cosine from `TWO_STAGE_RATE` to 0. The layer starts as that of predictive sparse decomposition: at
    random, with its origin at the mean row.
    """
    generator = torch.Generator().manual_seed(seed)
    affine = MLP((x.shape[1], codes.shape[1]), generator=generator)
    affine.centre(x.mean(0))
    layer = nn.Sequential(affine, SoftShrinkage(codes.shape[1], threshold))
    optimizer = torch.optim.Adam(layer.parameters(), lr=TWO_STAGE_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(x) // batch_size))
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=generator).split(batch_size):
            optimizer.zero_grad()
            (layer(x[index]) - codes[index]).square().sum(1).mean().backward()
            optimizer.step()
            schedule.step()
    return torch.no_grad()(layer.eval())


@torch.no_grad()
def compared(encode: Encode, coder: Coder, optimal: Vectors, rows: Vectors, weight: float) -> dict[str, float]:
    """Return the error of predicted codes, and the criterion of predicted and of optimal codes, means over rows.

    error = sum ||h* - f(x)||^2 / sum ||h*||^2,   objective = 1/2 ||x - r||^2 + weight ||h||_1
    """
    x, best = torch.from_numpy(rows), torch.from_numpy(optimal)
    predicted = encode(x)
    found = {"error": float((best - predicted).square().sum() / best.square().sum())}
    for name, code in (("predicted", predicted), ("optimal", best)):
        loss = 0.5 * (x - coder.decode(code)).square().sum(1)
        found |= {
            f"{name}_reconstruction": float(loss.mean()),
            f"{name}_objective": float((loss + weight * code.abs().sum(1)).mean()),
            f"{name}_active": float((code != 0).float().mean()),
        }
    return found


# -- times ----------------------------------------------------------------------------------------------


@torch.no_grad()
def speeds(encode: Encode, coder: Coder, rows: Vectors, weight: float) -> dict[str, float]:
    """Return processor seconds for all rows: of the encoder, and of solvers over the dictionary.

    steps: of FISTA from 0 until its reconstruction error is at most that of the encoder.
    """
    x = torch.from_numpy(rows)
    inference: Any = coder.inference
    atoms: Tensor = inference.atoms.contiguous()
    constant = coder.decode(x.new_zeros(1, len(atoms)))

    def solved(n_steps: int, gap: float | None) -> Tensor:
        return fista(SparseProblem.of(x - constant, atoms, weight), n_steps=n_steps, gap=gap).code

    aim = _reconstruction(coder, encode(x), x)
    steps = next((n for n in range(1, MAX_STEPS + 1) if _reconstruction(coder, solved(n, None), x) <= aim), 0)
    seconds = fastest({
        "encoder": lambda: encode(x),
        "equal": lambda: solved(steps, None) if steps else solved(1000, 1e-4),
        "fista": lambda: solved(1000, 1e-4),
    })  # fmt: skip
    few = (x - constant)[: len(x) // 10].numpy()
    lars = fastest({"lars": lambda: sparse_encode(few, atoms.numpy(), algorithm="lasso_lars", alpha=weight,
                                                  max_iter=1000)}, n_times=2)  # fmt: skip
    return {"steps": steps, **seconds, "lars": lars["lars"] * len(x) / len(few)}


def _reconstruction(coder: Coder, code: Tensor, x: Tensor) -> float:
    return float((x - coder.decode(code)).square().sum())


def fastest(works: Mapping[str, Callable[[], Any]], n_times: int = N_TIMES) -> dict[str, float]:
    """Return the fewest processor seconds of each function, called in turn.

    Example:
        >>> list(fastest({"nothing": lambda: None}))
        ['nothing']
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(n_times):
        for name, work in works.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    return {name: max(seconds, 1e-9) for name, seconds in best.items()}


def _shown(atoms: Vectors) -> list[list[float]]:
    """Return some atoms, evenly spaced."""
    chosen = np.linspace(0, len(atoms) - 1, N_SHOWN).round().astype(int)
    return np.round(atoms[chosen].astype(np.float64), 3).tolist()


def _image_shape(rows: Vectors) -> list[int]:
    side = round(rows.shape[1] ** 0.5)
    return [1, side, side]


# -- result ---------------------------------------------------------------------------------------------


def _last(result: Result) -> dict[str, float]:
    """Return the measures of the final model of a cell."""
    return dict(list(result["curve"].values())[-1])


def _rows(results: Results, setup: _Setup) -> list[Row]:
    return [row for name in setup.data for row in _rows_about(name, results, setup)]


def _rows_about(name: str, results: Results, setup: _Setup) -> list[Row]:
    last = {arm: _last(results[f"{name}-{arm}"]) for arm in ARMS}
    errors = {arm: found["error"] for arm, found in last.items()}
    ratios = {arm: found["predicted_objective"] / found["optimal_objective"] for arm, found in last.items()}
    steps = {n: _last(results[f"{name}-steps-{n}"]) for n in setup.steps}
    most = setup.steps[-1]
    speed = {arm: results[f"{name}-{arm}"]["speed"] for arm in ARMS}
    ten = steps[10]["predicted_objective"] / steps[most]["predicted_objective"]
    return [
        *(Row(f"{name}, {text}: ||h* - f(x)||^2 / ||h*||^2", errors[arm], form=".3f") for arm, text in ARMS.items()),
        setup.row(f"{name}: this error, one layer, trained jointly over in two stages",
                  errors["shrinkage"] / errors["two-stage"], f"{name} joint", ".3f"),
        setup.row(f"{name}: this error, LISTA over one layer", errors["lista"] / errors["shrinkage"], f"{name} lista",
                  ".3f"),
        *(Row(f"{name}, {text}: objective of the optimal codes", last[arm]["optimal_objective"])
          for arm, text in ARMS.items()),
        *(setup.row(f"{name}, {text}: objective, predicted over optimal code", ratios[arm],
                    f"{name} objective" if arm == "shrinkage" else "", ".3f") for arm, text in ARMS.items()),
        *(Row(f"{name}, {pluralize(n, 'step')} of inference in training: objective of the predicted codes",
              found["predicted_objective"]) for n, found in steps.items()),
        setup.row(f"{name}: this objective, 10 over {most} steps", ten, f"{name} ten", ".3f"),
        *(setup.row(f"{name}, {text}: time of FISTA to the reconstruction error of the encoder, over the encoder's",
                    speed[arm]["equal"] / speed[arm]["encoder"], f"{name} equal" if arm == "tanh" else "", ".1f")
          for arm, text in ARMS.items()),
        Row(f"{name}, {ARMS['tanh']}: time of FISTA to a gap of 1e-4, over the encoder's",
            speed["tanh"]["fista"] / speed["tanh"]["encoder"], form=".1f"),
        setup.row(f"{name}, {ARMS['tanh']}: time of exact codes by lasso_lars, over the encoder's",
                  speed["tanh"]["lars"] / speed["tanh"]["encoder"], f"{name} exact", ".0f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    remarks = [
        "The second stage is a torch loop: one layer with shrinkage, fitted by Adam to the optimal codes of the "
        "training rows by their mean squared error, with the start, batches and epochs of the other arms.",
        "Times are processor seconds of one thread, the shortest of 7 in turn (lasso_lars: of 2, on a tenth of the "
        "rows). FISTA is batched and starts at 0. The published figure compares with the feature-sign algorithm, which "
        "solves row by row; lasso_lars of scikit-learn is the nearest to it.",
        "Each arm has its own dictionary, and h* is the optimum over it: errors of arms are those of different codes. "
        "The objective of the optimal codes compares the dictionaries.",
    ]
    for name in setup.data:
        parts, active = [], []
        for arm, text in ARMS.items():
            steps = results[f"{name}-{arm}"]["speed"]["steps"]
            parts.append(f"{text} {steps or f'not within {MAX_STEPS}'}")
            found = _last(results[f"{name}-{arm}"])
            active.append(f"{text} {found['predicted_active']:.0%} and {found['optimal_active']:.0%}")
        remarks += [
            f"{name}: steps of FISTA until its reconstruction error is at most the encoder's: {', '.join(parts)}.",
            f"{name}: active units of predicted and of optimal codes: {', '.join(active)}.",
        ]
    return remarks


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    pictures = {"error-over-training": _error_curves(results, setup), "steps": _step_curves(results, setup)}
    for name in setup.data:
        lines = {text: np.array(results[f"{name}-{arm}"]["atoms"]) for arm, text in ARMS.items()}
        shape = results[f"{name}-tanh"]["image_shape"]
        pictures[f"atoms-{name}"] = signed_lines(lines, shape, title=f"Atoms of {name}")
    return pictures


def _panels(setup: _Setup) -> tuple[Figure, Sequence[Any]]:
    """Return a figure with one pair of axes for each data set."""
    figure = Figure(figsize=(3.9 * len(setup.data) + 2.2, 3.6), layout="constrained")
    axs = figure.subplots(1, len(setup.data), squeeze=False)[0]
    for ax, name in zip(axs, setup.data, strict=True):
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title(name, fontsize=11, loc="left")
        ax.set_xscale("log")
    return figure, axs


def _ticks(ax: Any, values: Sequence[int]) -> None:
    ax.set_xticks(values, [str(value) for value in values])
    ax.minorticks_off()


def _error_curves(results: Results, setup: _Setup) -> Figure:
    figure, axs = _panels(setup)
    for ax, name in zip(axs, setup.data, strict=True):
        for colour, (arm, text) in zip(COLOURS, ARMS.items(), strict=False):
            curve = results[f"{name}-{arm}"]["curve"]
            ax.plot([int(epochs) for epochs in curve], [found["error"] for found in curve.values()], color=colour,
                    marker="o", ms=4, label=text)  # fmt: skip
        ax.set_xlabel("epochs of training")
        ax.set_ylim(bottom=0)
        _ticks(ax, setup.epochs)
    axs[0].set_ylabel("||h* - f(x)||² / ||h*||², held-out rows")
    axs[-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _step_curves(results: Results, setup: _Setup) -> Figure:
    figure, axs = _panels(setup)
    for ax, name in zip(axs, setup.data, strict=True):
        for colour, kind in zip(COLOURS, ("predicted", "optimal"), strict=False):
            objective = [_last(results[f"{name}-steps-{n}"])[f"{kind}_objective"] for n in setup.steps]
            ax.plot(setup.steps, objective, color=colour, marker="o", ms=4, label=f"{kind} codes")
        ax.set_xlabel("steps of inference in training")
        ax.set_ylim(bottom=0)
        _ticks(ax, setup.steps)
    axs[0].set_ylabel("objective, held-out rows")
    axs[-1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


EXPERIMENT = Experiment(
    name="psd",
    claim="An encoder that is trained with its dictionary predicts sparse codes well, over 100 times as fast as "
    "optimisation finds them.",
    source="Kavukcuoglu, Ranzato & LeCun (2008); Deep Learning, section 14.8",
    protocol=(
        "mnist: the first 10,000 training digits in [0, 1] and 1,000 test digits; 128 atoms, weight .5. patches: one "
        "grey patch of 12 x 12 from each of 10,000 draws of the CIFAR-10 training images, contrast-normalised and "
        "ZCA-whitened (offset .1), and 1,000 of test images; 192 atoms, weight 1. Predictive sparse decomposition with "
        "gamma = 1 and ten steps of inference, the dictionary updated online, batches of 256, Adam at the default "
        "rate of .01; the thresholds of LISTA start from the weight. h* is found by FISTA to a gap of 1e-4 over the "
        "model's dictionary. A point of the error curve is a fit of that many epochs, with its own schedule. The two "
        "stages: sparse coding for 8 epochs, then the regression of its codes on rows. Steps of inference in "
        "training: 1 to 100, 3 epochs."
    ),
    minutes=10,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
