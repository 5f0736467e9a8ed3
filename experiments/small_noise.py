"""With little Gaussian noise the denoising criterion is the plain one and a penalty on how the reconstruction moves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import COLOURS
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import fitted, learning_seconds, rows_of
from isthmus.geometry.scores import Map, reconstruction_map
from isthmus.parts.jacobians import standard_basis, vjp

_TAYLOR = "s^2 (||dr/dx||_F^2 + (r - x) . Laplacian r), by Taylor's theorem"
_ALAIN = "Alain & Bengio (2013), proposition 1: the second term vanishes as r goes to x"

PUBLISHED = {
    "slope": Published(1.0, "within", _TAYLOR, 0.05),
    "vanishes": Published(1.0, "at most", _ALAIN),
}
"""What follows from the expansion, compared with what came out and used for nothing else."""

QUICK = {"slope": Published(1.0, "within", _TAYLOR, 0.05)}

SEED = 0
MAPS = {"narrow": "code of 2", "middle": "code of 8", "wide": "code of 64", "denoising": "code of 64, denoising"}
ROWS = {"digits": "test digits", "shuffled": "digits with shuffled pixels"}
"""What each map, and what it is tried on, is in words."""


def _cells(quick: bool) -> list[Cell]:
    learned = {
        "likelihood": "gaussian-unit", "scaling": "none", "precision": "fp32", "activation": "tanh", "batch_size": 50,
        "hidden_sizes": [32] if quick else [128], "learning_rate": 3e-3, "max_epochs": 6 if quick else 150,
    }  # fmt: skip
    noise = {"code_activation": "linear", "corruption": "gaussian", "corruption_scale": 0.1}
    parameters: dict[str, tuple[str, dict[str, Any]]] = {
        "narrow": ("deep", {"code_size": 2}),
        "middle": ("deep", {"code_size": 8}),
        "wide": ("deep", {"code_size": 64}),
        "denoising": ("denoising", {"code_size": 64, **noise}),
    }
    common = {
        "train": "digits:train", "test": "digits:test", "seed": SEED, "rows": 20 if quick else 100,
        "scales": [0.3, 0.1, 0.003] if quick else [0.3, 0.2, 0.1, 0.05, 0.02, 0.003],
        "frames": 4, "more": 2 if quick else 16,
    }  # fmt: skip
    return [
        Cell(name, {**common, "kind": kind, "parameters": {**learned, **own}}, _expand)
        for name, (kind, own) in parameters.items()
    ]


def contraction_and_curvature(
    r: Map, x: Float[Tensor, "batch columns"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """||dr/dx||_F^2 and (r - x) . Laplacian r of each row.

    The second is the trace of the Hessian of v . r(x) for v = r - x held fixed: a pass for each column.

    Example:
        >>> square = contraction_and_curvature(torch.square, torch.tensor([[1.0, 2.0]]))  # (2x)^2, and 2 (x^2 - x)
        >>> [part.item() for part in square]
        [20.0, 4.0]
    """
    contraction = vjp(r, x, standard_basis(x.shape[1], x)).square().sum((1, 2)).detach()
    rows = x.detach().requires_grad_()
    value = r(rows)
    (slope,) = torch.autograd.grad(((value - rows).detach() * value).sum(), rows, create_graph=True)
    curvature = torch.zeros_like(contraction)
    for column in range(x.shape[1]):
        (second,) = torch.autograd.grad(slope[:, column].sum(), rows, retain_graph=True)
        curvature += second[:, column]
    return contraction, curvature


def frames(
    n: int, rows: int, columns: int, generator: torch.Generator
) -> Iterator[Float[Tensor, "columns rows columns"]]:
    """n times, for every row, as many standard normal vectors as there are columns, at right angles to each other.

    Each vector by itself is a draw from N(0, I): a direction of a random frame, times the length of such a draw. That
    they share a frame takes most of the luck out of a mean over them, since a trace is the sum over any frame.
    """
    for _ in range(n):
        normal = torch.randn(2, rows, columns, columns, generator=generator, dtype=torch.float64)
        directions, triangle = torch.linalg.qr(normal[0])
        directions = directions * triangle.diagonal(dim1=1, dim2=2).sign()[:, None]
        yield (directions.mT * normal[1].norm(dim=2, keepdim=True)).transpose(0, 1)


@torch.no_grad()
def excess(
    r: Map, x: Float[Tensor, "batch columns"], scale: float, n_frames: int, generator: torch.Generator
) -> Float[Tensor, " frames"]:
    """E ||r(x + s e) - x||^2 - ||r(x) - x||^2 over the rows, for each frame of draws e.

    Each draw is tried with both signs: what is odd in the noise, and far larger than what is sought, cancels.
    """
    plain = (r(x) - x).square().sum(1).mean()
    means = []
    for noise in frames(n_frames, len(x), x.shape[1], generator):
        both = [
            (r((x + sign * scale * noise).flatten(0, 1)).view_as(noise) - x).square().sum(2).mean() for sign in (1, -1)
        ]
        means.append((both[0] + both[1]) / 2 - plain)
    return torch.stack(means)


def _expand(settings: Settings, state: Path) -> Result:
    """One fitted map, held fixed, on rows that it knows how to bring back and on rows that it does not."""
    model = fitted(settings)
    r = reconstruction_map(model.objective_.double().requires_grad_(False))
    test = rows_of(settings["test"])
    test = test.reshape(len(test), -1).astype(np.float64)
    shuffled = np.random.default_rng(settings["seed"]).permuted(test, axis=0)
    tried = {name: _terms(r, torch.from_numpy(X), settings) for name, X in zip(ROWS, (test, shuffled), strict=True)}
    return {**tried, "seconds": learning_seconds(model)}


def _terms(r: Map, x: Float[Tensor, "rows columns"], settings: Settings) -> dict[str, Any]:
    """Both terms of the expansion, and what noise of each scale adds to the squared error, over s^2."""
    x = x[: settings["rows"]]
    contraction, curvature = contraction_and_curvature(r, x)
    measured = []
    for scale in settings["scales"]:
        n_frames = settings["frames"] * (settings["more"] if scale == min(settings["scales"]) else 1)
        over = excess(r, x, scale, n_frames, torch.Generator().manual_seed(settings["seed"])) / scale**2
        measured.append([scale, float(over.mean()), float(over.std() / len(over) ** 0.5)])
    return {
        "error": float((r(x) - x).square().sum(1).mean()),
        "contraction": float(contraction.mean()),
        "curvature": float(curvature.mean()),
        "measured": measured,
    }


def slope(tried: Result) -> float:
    """What the smallest noise adds, over s^2, as a share of both terms together."""
    return float(tried["measured"][-1][1] / (tried["contraction"] + tried["curvature"]))


def share(tried: Result) -> float:
    """How large the second term is beside the first."""
    return float(abs(tried["curvature"]) / tried["contraction"])


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    rows = []
    for name, cell in results.items():
        for on, tried in ((on, cell[on]) for on in ROWS):
            what = f"{MAPS[name]}, {ROWS[on]}"
            rows += [
                Row(f"{what}: measured slope over both terms", slope(tried), published["slope"], ".4f"),
                Row(f"{what}: ||dr/dx||_F^2", tried["contraction"], form=".3f"),
                Row(f"{what}: (r - x) . Laplacian r", tried["curvature"], form=".3f"),
                Row(f"{what}: squared error", tried["error"], form=".3f"),
            ]
    shares = {name: share(results[name]["digits"]) for name in MAPS}
    steps = [shares[b] / shares[a] for a, b in pairwise(("narrow", "middle", "wide"))]
    return [
        *rows,
        *(Row(f"{MAPS[name]}, test digits: second term over the first", value, form=".4f")
          for name, value in shares.items()),
        Row("test digits: that share over the next smaller code's, largest", max(steps), published.get("vanishes"),
            ".3f"),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    last = results["narrow"]["shuffled"]
    _, measured, error = last["measured"][-1]
    worst = max(
        cell[on]["measured"][-1][2] / abs(cell[on]["measured"][-1][1]) for cell in results.values() for on in ROWS
    )
    return [
        "r is held fixed: this is what the criterion of a given map gains by noise, not what a map learned under noise "
        "becomes.",
        "Digits whose pixels were shuffled are rows that the maps do not bring back: there r - x is large and the "
        f"second term is no trifle. For the code of 2 the terms are {last['contraction']:.1f} and "
        f"{last['curvature']:.1f}, and noise was measured to add {measured:.2f} ± {error:.2f} times s^2.",
        f"The largest standard error of a measured slope is {worst:.1%} of it.",
        "Where r is near x the second term is small beside the first: denoising with little noise is then the "
        "contraction of the reconstruction function.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    return {"excess-by-scale": _by_scale(results), "both-terms": _both_terms(results)}


def _by_scale(results: Results) -> Figure:
    """What noise adds over s^2, by s, beside the limit that both terms give; in units of the first term."""
    figure = Figure(figsize=(10.4, 3.9), layout="constrained")
    for place, (on, title) in zip(figure.subplots(1, 2, sharey=True), ROWS.items(), strict=True):
        place.spines[["top", "right"]].set_visible(False)
        place.axhline(1.0, color="black", lw=0.8, label="the first term alone")
        for colour, (name, cell) in zip(COLOURS, results.items(), strict=False):
            tried = cell[on]
            scales, slopes, errors = np.array(tried["measured"]).T
            first = tried["contraction"]
            place.axhline(1 + tried["curvature"] / first, color=colour, lw=1.0, ls="--")
            place.errorbar(scales, slopes / first, errors / first, color=colour, lw=1.6, marker="o", ms=4,
                           label=MAPS[name])  # fmt: skip
        place.plot([], [], color="black", lw=1.0, ls="--", label="both terms")
        place.set_xscale("log")
        place.set_xlabel("s")
        place.set_title(title, fontsize=10, loc="left")
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[0].set_ylabel("what noise adds, over s² ||dr/dx||²")
    figure.axes[1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _both_terms(results: Results) -> Figure:
    figure = Figure(figsize=(10.4, 3.4), layout="constrained")
    at = np.arange(len(results))
    names = {"contraction": "||dr/dx||²", "curvature": "(r - x) · Laplacian r"}
    for place, (on, title) in zip(figure.subplots(1, 2, sharey=True), ROWS.items(), strict=True):
        place.spines[["top", "right"]].set_visible(False)
        for offset, colour, (name, label) in zip((-0.2, 0.2), COLOURS, names.items(), strict=False):
            bars = place.bar(
                at + offset, [cell[on][name] for cell in results.values()], 0.38, color=colour, label=label
            )
            place.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
        place.axhline(0, color="black", lw=0.8)
        place.set_xticks(at, [MAPS[name].replace(", ", ",\n") for name in results], fontsize=9)
        place.set_title(title, fontsize=10, loc="left")
        place.margins(y=0.12)
    figure.axes[1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


EXPERIMENT = Experiment(
    name="small-noise",
    claim="Denoising with little noise is reconstruction with a penalty on how the reconstruction moves.",
    source="Alain & Bengio (2013), proposition 1; Deep Learning, section 14.5.1",
    protocol=(
        "scikit-learn's digits in [0, 1]; maps 64-128-code-128-64 with codes of 2, 8 and 64, and one of 64 trained "
        "with noise of s = 0.1; tanh units, sigmoid output, squared error, Adam in fp32, 150 epochs; then held fixed, "
        "in double precision. E ||r(x + s e) - x||^2 - ||r(x) - x||^2 over 100 test digits, and over 100 whose pixels "
        "were shuffled between digits, divided by s^2, the mean of 256 standard normal draws of e for each row, 4,096 "
        "at the smallest s, in frames of 64 at right angles, each with both signs; the slope is that at s = 0.003. "
        "||dr/dx||_F^2 and the Laplacian by automatic differentiation, column by column."
    ),
    minutes=2,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
