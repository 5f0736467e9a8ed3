"""Limits of sparse codes: a low error on every kind of row is impossible, and a shallow encoder is suboptimal."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, from_bytes, learning_seconds, load_rows, to_bytes
from isthmus import L1
from isthmus.estimators.base import BaseAutoencoder
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import dictionary_weight
from isthmus.parts.inference import EncoderMap

_RANZATO = "Ranzato, Boureau & LeCun (2007): a sparse code limits the volume of well reconstructed inputs"
_SHALLOW = "Deep Learning, section 14.3: a shallow encoder cannot enforce that the code be sparse"

PUBLISHED = {"two over one": Published(1.0, "at most", _SHALLOW)}

TARGETS = {
    "copied": Target(0.1, "at most", "Deep Learning, section 14.2: an overcomplete code can copy"),
    "noise": Target(2.0, "at least", _RANZATO),
    "foreign": Target(2.0, "at least", _RANZATO),
    "zeros": Target(0.0, "at least", "a larger penalty gives more exact zeros"),
    "optimal over two": Target(1.0, "at most", "the optimal code has the lowest error"),
}
"""The sources state no figures: these bounds express their claims in numbers."""

SEED = 0
SHOWN = 8
KINDS = {"digits": "digits", "noise": "noise of the digits' covariance", "foreign": "patches of photographs"}
CODES = {"one": "one-layer encoder", "two": "two-layer encoder", "optimal": "optimal code"}


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, Any]
    parameters: dict[str, Any]
    weights: tuple[float, ...]


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, data={"train": "mnist", "test": "mnist:test", "n_test": 500},
    parameters={"code_size": 1024, "max_epochs": 15, "batch_size": 128, "learning_rate": 2e-3},
    weights=(0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
)  # fmt: skip

QUICK = _Setup(
    published=PUBLISHED, targets={name: TARGETS[name] for name in ("noise", "zeros", "optimal over two")},
    data={"train": "digits:train", "test": "digits:test", "n_test": 100},
    parameters={"code_size": 96, "max_epochs": 8, "batch_size": 64, "learning_rate": 5e-3},
    weights=(0.0, 0.01, 0.1, 0.4),
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    settings = {**setup.data, "seed": SEED, "kind": "sparse", "n_rows": 20_000, "more_epochs": 10}
    parameters = {**setup.parameters, "sparsity": "l1", "likelihood": "gaussian", "precision": "fp32"}
    return [
        Cell(f"weight-{w:g}", {**settings, "parameters": {**parameters, "sparsity__weight": w}}, _fit)
        for w in setup.weights
    ]


def _fit(settings: Settings, state: Path) -> Result:
    """Fit one weight: the loss of the one-layer model on each kind of row, and two other codes of its dictionary."""
    train, digits = (
        _flat(load_rows(settings[part], settings[n])) for part, n in (("train", "n_rows"), ("test", "n_test"))
    )
    model = fit_model(settings, rows=train, state=state)
    kinds = {
        "digits": digits,
        "noise": gaussian_noise(train, len(digits), settings["seed"]),
        "foreign": photograph_patches(train, settings["n_test"], settings["seed"]),
    }
    lost, zeros, pictures = {}, {}, {}
    for kind, rows in kinds.items():
        reconstruction = np.asarray(model.reconstruct(rows))
        lost[kind] = float(np.square(rows - reconstruction).sum() / np.square(rows - train.mean(0)).sum())
        zeros[kind] = float((model.transform(rows) == 0).mean())
        pictures[kind] = [to_bytes(rows[:SHOWN]), to_bytes(reconstruction[:SHOWN])]
    result = {"lost": lost, "zeros": zeros, "pictures": pictures, "learning_seconds": learning_seconds(model)}
    weight = settings["parameters"]["sparsity__weight"]
    return result if weight == 0 else {**result, "codes": _codes(model, train, torch.from_numpy(digits), settings)}


def _codes(model: BaseAutoencoder, train: np.ndarray, x: Tensor, settings: Settings) -> dict[str, dict[str, float]]:
    """Compare three codes of one dictionary: the one-layer encoder, one with a second layer, and the optimum."""
    coder, weight = model.coder_, settings["parameters"]["sparsity__weight"]
    two = with_second_layer(model, train, settings)
    codes = {"one": encoded(coder, x), "two": encoded(two, x), "optimal": optimal_code(coder, x, weight)}
    return {name: evaluate(coder, x, code, weight) for name, code in codes.items()}


def _flat(images: np.ndarray) -> Float[np.ndarray, "rows pixels"]:
    """Return images as rows of pixels in [0, 1]."""
    largest = 255.0 if images.dtype == np.uint8 else max(float(images.max()), 1.0)
    return (images.reshape(len(images), -1) / largest).astype(np.float32)


def gaussian_noise(train: np.ndarray, n_rows: int, seed: int) -> Float[np.ndarray, "rows pixels"]:
    """Return Gaussian rows with the mean and the covariance of `train`: a linear model cannot distinguish them.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(500, 2)) * [1.0, 3.0]
        >>> gaussian_noise(rows, 5000, 0).std(0).round()
        array([1., 3.], dtype=float32)
    """
    mean, covariance = train.mean(0), np.cov(train.astype(np.float64), rowvar=False)
    values, vectors = np.linalg.eigh(covariance)
    draws = np.random.default_rng(seed).normal(size=(n_rows, len(mean)))
    return (mean + (draws * np.sqrt(values.clip(0))) @ vectors.T).astype(np.float32)


def photograph_patches(train: np.ndarray, n_rows: int, seed: int) -> Float[np.ndarray, "rows pixels"]:
    """Return square grey patches of scikit-learn's two photographs with the mean and the total variance of `train`."""
    from sklearn.datasets import load_sample_images

    side = round(train.shape[1] ** 0.5)
    patches = []
    for picture in load_sample_images().images:
        grey = picture.mean(2)
        height, width = (size // side * side for size in grey.shape)
        tiles = grey[:height, :width].reshape(height // side, side, width // side, side).swapaxes(1, 2)
        patches.append(tiles.reshape(-1, side * side))
    rows = np.concatenate(patches)
    rows = rows[np.random.default_rng(seed).permutation(len(rows))[:n_rows]]
    centred = rows - rows.mean(0)
    scale = np.sqrt(train.var(0).sum() / centred.var(0).sum())
    return (train.mean(0) + scale * centred).astype(np.float32)


class SecondLayer(nn.Module):
    """a = a_1 + S relu(a_1),   a_1 = the first layer of x: one step of learned inference.

    Source: Gregor & LeCun, Learning fast approximations of sparse coding (2010), section 3, with one step.
    """

    def __init__(self, first: nn.Module, code_size: int) -> None:
        super().__init__()
        self.first = first
        self.between = nn.Parameter(torch.zeros(code_size, code_size))

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the preactivation of the code."""
        first = self.first(x, generator)
        return first + first.relu() @ self.between


def with_second_layer(model: BaseAutoencoder, train: np.ndarray, settings: Settings) -> Coder:
    """Train the encoder with a second layer for more epochs; the dictionary is fixed."""
    parameters, coder = settings["parameters"], copy.deepcopy(model.coder_)
    decoder = coder.decoder.requires_grad_(False)
    code_size, bias = parameters["code_size"], decoder.affine_maps[0].bias.clone()
    parts = L1(parameters["sparsity__weight"], unit_columns=False).parts(code_size)
    inference = EncoderMap(SecondLayer(coder.encoder, code_size), parts.code_activation)
    two = Coder(inference, decoder, coder.likelihood)
    objective = Reconstruction(two, penalties=parts.penalties, centre=lambda rows: bias)
    config = TrainingConfig(
        max_epochs=settings["more_epochs"], batch_size=parameters["batch_size"],
        learning_rate=parameters["learning_rate"] / 4, precision=parameters["precision"], device="cpu",
    )  # fmt: skip
    generator = Generator().manual_seed(settings["seed"])
    run_phases(two, [Phase("second layer", objective, config)], model.preprocessing_.rows(train), None, generator)
    return two


@torch.no_grad()
def encoded(coder: Coder, x: Tensor) -> Float[Tensor, "rows code_size"]:
    """Return the code f(x)."""
    return coder.code_activation(coder.encoder(x))


@torch.no_grad()
def optimal_code(coder: Coder, x: Tensor, weight: float, steps: int = 2000) -> Float[Tensor, "rows code_size"]:
    """Return argmin over h >= 0 of 1/2 ||x - c - D h||^2 + weight |h|_1, by FISTA in float64.

    Source: Beck & Teboulle (2009), section 4.
    """
    weights = dictionary_weight(coder.decoder)
    assert weights is not None, "the decoder is linear by the settings"
    dictionary, bias = weights.double(), coder.decoder(torch.zeros(1, weights.shape[1])).double()
    gram, target = dictionary.t() @ dictionary, (x.double() - bias) @ dictionary
    step = 1.0 / float(torch.linalg.eigvalsh(gram)[-1])
    code = ahead = torch.zeros_like(target)
    momentum = 1.0
    for _ in range(steps):
        moved = (ahead - step * (ahead @ gram - target + weight)).clamp_min(0.0)
        faster = (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5) / 2.0
        change = moved - code
        ahead, code, momentum = moved + (momentum - 1.0) / faster * change, moved, faster
        if float(change.abs().max()) < 1e-7:
            break
    return code.float()


@torch.no_grad()
def evaluate(coder: Coder, x: torch.Tensor, code: torch.Tensor, weight: float) -> dict[str, float]:
    """Return squared error, active units and criterion of the codes, means over rows."""
    error = (x - coder.decoder(code)).square().sum(1)
    return {
        "error": float(error.mean()),
        "active": float((code != 0).sum(1).float().mean()),
        "criterion": float((error / 2 + weight * code.abs().sum(1)).mean()),
    }


def curve(results: Results, code: str) -> tuple[list[float], list[float]]:
    """Return active units and squared error of one encoder over the weights, ordered by active units."""
    codes = [cell["codes"][code] for cell in results.values() if "codes" in cell]
    points = sorted((reached["active"], reached["error"]) for reached in codes)
    return [active for active, _ in points], [error for _, error in points]


def equal_active(results: Results) -> float:
    """Return the number of active units in the middle of the common range of all three curves."""
    reached = [curve(results, code)[0] for code in CODES]
    return float(np.sqrt(max(active[0] for active in reached) * min(active[-1] for active in reached)))


def _weight(cell: str) -> str:
    return cell.removeprefix("weight-")


def _rows(results: Results, setup: _Setup) -> list[Row]:
    return [*_limit_rows(results, setup), *_code_rows(results, setup)]


def _limit_rows(results: Results, setup: _Setup) -> list[Row]:
    """Return the rows on the share that is lost of each kind of row, by weight."""
    unpenalised, *_, last = (cell["lost"] for cell in results.values())
    first = list(results.values())[1]["lost"]
    excess = {kind: (last[kind] - last["digits"]) / (first[kind] - first["digits"]) for kind in ("noise", "foreign")}
    penalised = list(results.values())[1:]
    widest = max(cell["lost"]["foreign"] - cell["lost"]["digits"] for cell in penalised)
    shares = [
        Row(f"{name}, weight {_weight(cell)}: share of the variance lost", results[cell]["lost"][kind], form=".3f")
        for kind, name in KINDS.items()
        for cell in results
    ]
    return [
        *shares,
        setup.row("no penalty: share lost, noise minus digits", unpenalised["noise"] - unpenalised["digits"],
                  "copied", ".3f"),
        setup.row("share lost, noise minus digits: largest weight over smallest", excess["noise"], "noise"),
        setup.row("share lost, photographs minus digits: largest weight over smallest", excess["foreign"], "foreign"),
        Row("share lost, photographs minus digits: largest over the weights, over smallest weight",
            widest / (first["foreign"] - first["digits"])),
    ]  # fmt: skip


def _code_rows(results: Results, setup: _Setup) -> list[Row]:
    """Return the rows on the zeros of the code and on three encoders of the same dictionary."""
    zeros = {_weight(name): cell["zeros"]["digits"] for name, cell in results.items()}
    active = equal_active(results)
    error = {code: error_at(active, *curve(results, code)) for code in CODES}
    middle = list(results)[(len(results) + 1) // 2]
    criterion = {code: results[middle]["codes"][code]["criterion"] for code in CODES}
    return [
        *(Row(f"digits, weight {weight}: share of exact zeros", share, form=".3f") for weight, share in zeros.items()),
        setup.row("least increase of the exact zeros from one weight to the next",
                  float(np.diff(list(zeros.values())).min()), "zeros", ".3f"),
        *(Row(f"{name}, {active:.0f} active units: squared error", error[code]) for code, name in CODES.items()),
        setup.row("error at equal active units, two-layer over one-layer", error["two"] / error["one"], "two over one",
                  ".3f"),
        setup.row("error at equal active units, optimal over two-layer", error["optimal"] / error["two"],
                  "optimal over two", ".3f"),
        *(Row(f"{CODES[code]}, weight {_weight(middle)}: criterion over that of the optimal code",
              criterion[code] / criterion["optimal"], form=".3f") for code in ("one", "two")),
    ]  # fmt: skip


def error_at(active: float, reached: Sequence[float], errors: Sequence[float]) -> float:
    """Return the error at a number of active units, interpolated in the logarithm of the units."""
    return float(np.interp(np.log(active), np.log(reached), errors))


def _remarks(results: Results, setup: _Setup) -> list[str]:
    weights = ", ".join(_weight(name) for name in results)
    return [
        "The noise has the mean and covariance of the digits, so that a linear model loses the same share of both. The "
        "photographs have the mean and total variance of the digits, not the covariance: most of their variance is "
        "lost at the smallest weight, and the share is at most 1, while the largest weight also loses digits.",
        f"Weights of the penalty relative to 1/2 ||x - r||^2: {weights}. Errors at equal active units are interpolated "
        "on the curves over these weights.",
        "The three codes use the dictionaries of the one-layer models. The two-layer encoder starts from the one-layer "
        "encoder and is trained with the dictionary fixed; the optimal code is the non-negative lasso.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    penalised = {name: cell for name, cell in results.items() if float(_weight(name)) > 0}
    weights = [float(_weight(name)) for name in penalised]
    lost = {name: (weights, [cell["lost"][kind] for cell in penalised.values()]) for kind, name in KINDS.items()}
    zeros = {name: (weights, [cell["zeros"][kind] for cell in penalised.values()]) for kind, name in KINDS.items()}
    codes = {name: curve(results, code) for code, name in CODES.items()}
    shown = list(results.values())[-1]["pictures"]
    originals = np.concatenate([from_bytes(pair[0]) for pair in shown.values()])
    again = np.concatenate([from_bytes(pair[1]) for pair in shown.values()])
    side = round(originals.shape[1] ** 0.5)
    return {
        "share-lost": _against(lost, "weight of the L1 penalty", "share of the variance lost",
                               "Share lost of each kind of row"),
        "error-by-active-units": _against(codes, "active units per digit", "squared error per digit",
                                          "Three codes of the same dictionary"),
        "exact-zeros": _against(zeros, "weight of the L1 penalty", "share of exact zeros in the code",
                                "Exact zeros by the weight of the penalty"),
        "largest-weight": originals_over_reconstructions(
            originals, again, (1, side, side),
            captions=[word for word in ("digit", "noise", "photo") for _ in range(len(originals) // 3)],
            title=f"Reconstructions with the weight {weights[-1]:g}",
        ),
    }  # fmt: skip


def _against(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], across: str, up: str, title: str) -> Figure:
    """Return a figure of lines over a logarithmic axis, from zero up."""
    figure, ax = axes(7.6)
    for colour, (name, (x, y)) in zip(COLOURS[1:], lines.items(), strict=False):
        ax.plot(x, y, color=colour, lw=1.8, marker="o", ms=3.5, label=name)
    ax.set_xscale("log")
    ax.set_xlabel(across)
    ax.set_ylabel(up)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title(title, fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="sparsity-limits",
    claim="A sparse code cannot reconstruct every kind of row, and a shallow encoder does not find the best code.",
    source="Deep Learning, sections 14.2.1 and 14.3; Ranzato et al. (2007)",
    protocol=(
        "20,000 training digits of MNIST in [0, 1]; 784-1024 ReLU, linear decoder with unit columns, L1 penalty, "
        "squared error, Adam in fp32 at 2e-3 with warm-up and a cosine to zero, batches of 128, 15 epochs, "
        "without a penalty and at six weights. Share of the variance lost on 500 test digits, on Gaussian noise of "
        "the digits' mean and covariance, and on 28 x 28 patches of scikit-learn's two photographs with the digits' "
        "mean and total variance. For each dictionary also: the encoder with a second layer, a + S relu(a), "
        "trained for 10 more epochs with the dictionary fixed, and the optimal non-negative code by FISTA."
    ),
    minutes=20,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
