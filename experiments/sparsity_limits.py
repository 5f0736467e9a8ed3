"""What sparsity forbids: the error cannot be low everywhere; and what a shallow encoder cannot find."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Generator, Tensor, nn

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import as_bytes, as_units, fitted, learning_seconds, rows_of
from isthmus.estimators.base import BaseAutoencoder
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.trainer import TrainingConfig
from isthmus.parts.constraints import dictionary_weight
from isthmus.parts.sparsity import sparse_parts

_RANZATO = "Ranzato, Boureau & LeCun (2007): a sparse code limits the volume of what is reconstructed well"
_SHALLOW = "Deep Learning, section 14.3: a shallow encoder cannot enforce that the code be sparse"

PUBLISHED = {
    "copied": Published(0.1, "at most", "Deep Learning, section 14.2: an overcomplete code can copy"),
    "noise": Published(2.0, "at least", _RANZATO),
    "foreign": Published(2.0, "at least", _RANZATO),
    "zeros": Published(0.0, "at least", "the penalty's purpose"),
    "two over one": Published(1.0, "at most", _SHALLOW),
    "optimal over two": Published(1.0, "at most", _SHALLOW),
}
"""What is claimed, compared with what came out and used for nothing else: the sources give no figures for these."""

QUICK = {name: PUBLISHED[name] for name in ("noise", "zeros", "two over one", "optimal over two")}

SEED = 0
SHOWN = 8
KINDS = {"digits": "digits", "noise": "noise of the digits' covariance", "foreign": "patches of photographs"}
CODES = {"one": "one-layer encoder", "two": "two-layer encoder", "optimal": "optimal code"}


def _cells(quick: bool) -> list[Cell]:
    settings: dict[str, Any] = {
        "seed": SEED, "kind": "sparse", "train": "mnist", "test": "mnist:test", "n_rows": 20_000, "n_test": 500,
        "more_epochs": 10,
    }  # fmt: skip
    parameters: dict[str, Any] = {
        "code_size": 1024, "max_epochs": 15, "batch_size": 128, "learning_rate": 2e-3, "sparsity": "l1",
        "likelihood": "gaussian", "precision": "fp32",
    }  # fmt: skip
    weights: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    if quick:
        settings |= {"train": "digits:train", "test": "digits:test", "n_test": 100}
        parameters |= {"code_size": 96, "max_epochs": 8, "batch_size": 64, "learning_rate": 5e-3}
        weights = (0.0, 0.01, 0.1, 0.4)
    return [
        Cell(f"weight-{w:g}", {**settings, "parameters": {**parameters, "sparsity_weight": w}}, _fit) for w in weights
    ]


def _fit(settings: Settings, state: Path) -> Result:
    """One weight: what the one-layer model loses of each kind of row, and two other codes of its dictionary."""
    train, digits = (
        _flat(rows_of(settings[part], settings[n])) for part, n in (("train", "n_rows"), ("test", "n_test"))
    )
    model = fitted(settings, rows=train, state=state)
    kinds = {
        "digits": digits,
        "noise": like_noise(train, len(digits), settings["seed"]),
        "foreign": foreign(train, settings["n_test"], settings["seed"]),
    }
    lost, zeros, pictures = {}, {}, {}
    for kind, rows in kinds.items():
        reconstruction = np.asarray(model.reconstruct(rows))
        lost[kind] = float(np.square(rows - reconstruction).sum() / np.square(rows - train.mean(0)).sum())
        zeros[kind] = float((model.transform(rows) == 0).mean())
        pictures[kind] = [as_bytes(rows[:SHOWN]), as_bytes(reconstruction[:SHOWN])]
    result = {"lost": lost, "zeros": zeros, "pictures": pictures, "learning_seconds": learning_seconds(model)}
    weight = settings["parameters"]["sparsity_weight"]
    return result if weight == 0 else {**result, "codes": _codes(model, train, torch.from_numpy(digits), settings)}


def _codes(model: BaseAutoencoder, train: np.ndarray, x: Tensor, settings: Settings) -> dict[str, dict[str, float]]:
    """The one-layer encoder, one with a second layer, and the optimum: three codes of one dictionary."""
    coder, weight = model.objective_, settings["parameters"]["sparsity_weight"]
    two = with_second_layer(model, train, settings)
    codes = {"one": encoded(coder, x), "two": encoded(two, x), "optimal": optimal_code(coder, x, weight)}
    return {name: judged(coder, x, code, weight) for name, code in codes.items()}


def _flat(images: np.ndarray) -> Float[np.ndarray, "rows pixels"]:
    """Rows of pixels in [0, 1]."""
    largest = 255.0 if images.dtype == np.uint8 else max(float(images.max()), 1.0)
    return (images.reshape(len(images), -1) / largest).astype(np.float32)


def like_noise(train: np.ndarray, n_rows: int, seed: int) -> Float[np.ndarray, "rows pixels"]:
    """Gaussian rows of the mean and the covariance of others: to anything linear they are the same.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(500, 2)) * [1.0, 3.0]
        >>> like_noise(rows, 5000, 0).std(0).round()
        array([1., 3.], dtype=float32)
    """
    mean, covariance = train.mean(0), np.cov(train.astype(np.float64), rowvar=False)
    values, vectors = np.linalg.eigh(covariance)
    draws = np.random.default_rng(seed).normal(size=(n_rows, len(mean)))
    return (mean + (draws * np.sqrt(values.clip(0))) @ vectors.T).astype(np.float32)


def foreign(train: np.ndarray, n_rows: int, seed: int) -> Float[np.ndarray, "rows pixels"]:
    """Square patches of scikit-learn's two photographs, grey, with the mean and the total variance of `train`."""
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
    """a = a_1 + S relu(a_1),   a_1 = the first layer of x: a step of a learned inference, which begins at the first.

    Source: Gregor & LeCun, Learning fast approximations of sparse coding (2010), section 3, with one step.
    """

    def __init__(self, first: nn.Module, code_size: int) -> None:
        super().__init__()
        self.first = first
        self.between = nn.Parameter(torch.zeros(code_size, code_size))

    def forward(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Map x."""
        first = self.first(x, generator)
        return first + first.relu() @ self.between


def with_second_layer(model: BaseAutoencoder, train: np.ndarray, settings: Settings) -> Reconstruction:
    """The model's encoder and a second layer, learned on with the dictionary held."""
    parameters, coder = settings["parameters"], copy.deepcopy(model.objective_)
    decoder = coder.decoder.requires_grad_(False)
    code_size, bias = parameters["code_size"], decoder.affine_maps[0].bias.clone()
    parts = sparse_parts("l1", code_size=code_size, weight=parameters["sparsity_weight"], unit_columns=False)
    objective = Reconstruction(
        SecondLayer(coder.encoder, code_size), decoder, coder.likelihood, parts.code_activation,
        penalties=parts.penalties, centre=lambda rows: bias,
    )  # fmt: skip
    how = TrainingConfig(
        max_epochs=settings["more_epochs"], batch_size=parameters["batch_size"],
        learning_rate=parameters["learning_rate"] / 4, precision=parameters["precision"], device="cpu",
    )  # fmt: skip
    generator = Generator().manual_seed(settings["seed"])
    run_phases(objective, [Phase("second layer", objective, how)], model.preprocessing_.rows(train), None, generator)
    return objective


@torch.no_grad()
def encoded(coder: Reconstruction, x: Tensor) -> Float[Tensor, "rows code_size"]:
    """f(x)."""
    return coder.code_activation(coder.encoder(x))


@torch.no_grad()
def optimal_code(coder: Reconstruction, x: Tensor, weight: float, steps: int = 2000) -> Float[Tensor, "rows code_size"]:
    """argmin over h >= 0 of 1/2 ||x - c - D h||^2 + weight |h|_1, by FISTA in float64.

    Source: Beck & Teboulle (2009), section 4.
    """
    weights = dictionary_weight(coder.decoder)
    assert weights is not None, "the decoder is linear by the settings"
    dictionary, bias = weights.double(), coder.decoder(torch.zeros(1, weights.shape[1])).double()
    gram, wanted = dictionary.t() @ dictionary, (x.double() - bias) @ dictionary
    step = 1.0 / float(torch.linalg.eigvalsh(gram)[-1])
    code = ahead = torch.zeros_like(wanted)
    momentum = 1.0
    for _ in range(steps):
        moved = (ahead - step * (ahead @ gram - wanted + weight)).clamp_min(0.0)
        faster = (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5) / 2.0
        change = moved - code
        ahead, code, momentum = moved + (momentum - 1.0) / faster * change, moved, faster
        if float(change.abs().max()) < 1e-7:
            break
    return code.float()


@torch.no_grad()
def judged(coder: Reconstruction, x: torch.Tensor, code: torch.Tensor, weight: float) -> dict[str, float]:
    """The squared error, the active units and the criterion of codes of one dictionary, a row."""
    error = (x - coder.decoder(code)).square().sum(1)
    return {
        "error": float(error.mean()),
        "active": float((code != 0).sum(1).float().mean()),
        "criterion": float((error / 2 + weight * code.abs().sum(1)).mean()),
    }


def curve(results: Results, code: str) -> tuple[list[float], list[float]]:
    """Active units and squared error of a way to encode, in the order of the active units."""
    codes = [cell["codes"][code] for cell in results.values() if "codes" in cell]
    points = sorted((reached["active"], reached["error"]) for reached in codes)
    return [active for active, _ in points], [error for _, error in points]


def equal_active(results: Results) -> float:
    """The number of active units in the middle of what all three curves reach."""
    reached = [curve(results, code)[0] for code in CODES]
    return float(np.sqrt(max(active[0] for active in reached) * min(active[-1] for active in reached)))


def _weight(cell: str) -> str:
    return cell.removeprefix("weight-")


def _rows(results: Results, quick: bool) -> list[Row]:
    return [*_limit_rows(results, QUICK if quick else PUBLISHED), *_code_rows(results, QUICK if quick else PUBLISHED)]


def _limit_rows(results: Results, published: dict[str, Published]) -> list[Row]:
    """What is lost of each kind of row, by weight."""
    copied, *_, last = (cell["lost"] for cell in results.values())
    first = list(results.values())[1]["lost"]
    excess = {kind: (last[kind] - last["digits"]) / (first[kind] - first["digits"]) for kind in ("noise", "foreign")}
    steered = list(results.values())[1:]
    widest = max(cell["lost"]["foreign"] - cell["lost"]["digits"] for cell in steered)
    told = [
        Row(f"{name}, weight {_weight(cell)}: share lost", results[cell]["lost"][kind], form=".3f")
        for kind, name in KINDS.items()
        for cell in results
    ]
    return [
        *told,
        Row("no penalty: share of noise lost less that of digits", copied["noise"] - copied["digits"],
            published.get("copied"), ".3f"),
        Row("the same with the largest weight over the smallest", excess["noise"], published["noise"]),
        Row("photographs less digits, largest weight over smallest", excess["foreign"], published.get("foreign")),
        Row("photographs less digits, where it is widest, over smallest weight",
            widest / (first["foreign"] - first["digits"])),
    ]  # fmt: skip


def _code_rows(results: Results, published: dict[str, Published]) -> list[Row]:
    """The zeros of the code, and three ways to find a code of the same dictionary."""
    zeros = {_weight(name): cell["zeros"]["digits"] for name, cell in results.items()}
    active = equal_active(results)
    error = {code: error_at(active, *curve(results, code)) for code in CODES}
    middle = list(results)[(len(results) + 1) // 2]
    reached = {code: results[middle]["codes"][code]["criterion"] for code in CODES}
    return [
        *(Row(f"digits, weight {weight}: share of exact zeros", share, form=".3f") for weight, share in zeros.items()),
        Row("least rise of the exact zeros from one weight to the next", float(np.diff(list(zeros.values())).min()),
            published["zeros"], ".3f"),
        *(Row(f"{name}, {active:.0f} active units: squared error", error[code]) for code, name in CODES.items()),
        Row("two-layer over one-layer, error at equal units", error["two"] / error["one"],
            published["two over one"], ".3f"),
        Row("optimal over two-layer, error at equal units", error["optimal"] / error["two"],
            published["optimal over two"], ".3f"),
        *(Row(f"{CODES[code]}, weight {_weight(middle)}: criterion over the optimum's",
              reached[code] / reached["optimal"], form=".3f") for code in ("one", "two")),
    ]  # fmt: skip


def error_at(active: float, reached: Sequence[float], errors: Sequence[float]) -> float:
    """The error at a number of active units, between the points of a curve; units by their logarithm."""
    return float(np.interp(np.log(active), np.log(reached), errors))


def _remarks(results: Results, quick: bool) -> list[str]:
    weights = ", ".join(_weight(name) for name in results)
    return [
        "Noise has the digits' mean and covariance, so whatever is linear loses the same share of it as of digits. "
        "Photographs have their mean and total variance, not their covariance: most of them is lost with the smallest "
        "weight already, and no more than all can be, while the largest weight loses digits too.",
        f"Weights {weights}, beside 1/2 ||x - r||^2. Errors at equal units are read off the curves over these weights.",
        "The three codes are of the same dictionaries, those of the one-layer models: the two-layer encoder begins at "
        "the one-layer encoder and is learned on with the dictionary held; the optimal code is the lasso's, never "
        "negative.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    from isthmus.report.figures import originals_over_reconstructions

    steered = {name: cell for name, cell in results.items() if float(_weight(name)) > 0}
    weights = [float(_weight(name)) for name in steered]
    lost = {name: (weights, [cell["lost"][kind] for cell in steered.values()]) for kind, name in KINDS.items()}
    zeros = {name: (weights, [cell["zeros"][kind] for cell in steered.values()]) for kind, name in KINDS.items()}
    codes = {name: curve(results, code) for code, name in CODES.items()}
    shown = list(results.values())[-1]["pictures"]
    originals = np.concatenate([as_units(pair[0]) for pair in shown.values()])
    again = np.concatenate([as_units(pair[1]) for pair in shown.values()])
    side = round(originals.shape[1] ** 0.5)
    return {
        "share-lost": _against(lost, "weight of the L1 penalty", "share of the variance lost",
                               "Sparsity keeps the error from being low everywhere"),
        "error-by-active-units": _against(codes, "active units of a digit", "squared error of a digit",
                                          "Three ways to find a code of the same dictionary"),
        "exact-zeros": _against(zeros, "weight of the L1 penalty", "share of exact zeros in the code",
                                "The weight steers the zeros"),
        "largest-weight": originals_over_reconstructions(
            originals, again, (1, side, side),
            captions=[word for word in ("digit", "noise", "photo") for _ in range(len(originals) // 3)],
            title=f"Reconstructions with the weight {weights[-1]:g}",
        ),
    }  # fmt: skip


def _against(lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], across: str, up: str, title: str) -> Figure:
    """Lines over a logarithmic axis, up from zero."""
    figure, place = axes(7.6)
    for colour, (name, (x, y)) in zip(COLOURS[1:], lines.items(), strict=False):
        place.plot(x, y, color=colour, lw=1.8, marker="o", ms=3.5, label=name)
    place.set_xscale("log")
    place.set_xlabel(across)
    place.set_ylabel(up)
    place.set_ylim(bottom=0)
    place.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    place.set_title(title, fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="sparsity-limits",
    claim="A sparse code cannot reconstruct everything, and a shallow encoder does not find the best sparse code.",
    source="Deep Learning, sections 14.2.1 and 14.3; Ranzato et al. (2007)",
    protocol=(
        "20,000 training digits of MNIST in [0, 1]; 784-1024 ReLU, linear decoder with unit columns, L1 penalty, "
        "squared error, Adam in fp32 at 2e-3 with warm-up and a cosine to zero, batches of 128, 15 epochs, "
        "without a penalty and at six weights. Share of the variance lost on 500 test digits, on Gaussian noise of "
        "the digits' mean and covariance, and on 28 x 28 patches of scikit-learn's two photographs with the digits' "
        "mean and total variance. For each dictionary besides: the encoder with a second layer, a + S relu(a), "
        "learned on for 10 epochs with the dictionary held, and the optimal non-negative code by FISTA."
    ),
    minutes=20,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
