"""For small Gaussian noise the denoising criterion is the plain one plus a penalty on the Jacobian of r."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import COLOURS
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup
from experiments.learning import fit_model, learning_seconds, load_rows
from isthmus.geometry.scores import Map, reconstruction_map
from isthmus.parts.jacobians import standard_basis, vjp

_TAYLOR = "s^2 (||dr/dx||_F^2 + (r - x) . Laplacian r), by Taylor's theorem"
_ALAIN = "Alain & Bengio (2013), proposition 1: the second term vanishes as r goes to x"

PUBLISHED = {
    "slope": Published(1.0, "within", _TAYLOR, 0.05),
    "vanishes": Published(1.0, "at most", _ALAIN),
}
SEED = 0
MAPS = {"narrow": "code of 2", "middle": "code of 8", "wide": "code of 64", "denoising": "code of 64, denoising"}
ROWS = {"digits": "test digits", "shuffled": "digits with shuffled pixels"}
"""Maps and rows, in words."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    hidden: int
    epochs: int
    rows: int
    scales: list[float]
    more: int
    """Factor of the number of noise samples at the smallest scale."""


FULL = _Setup(published=PUBLISHED, hidden=128, epochs=150, rows=100, scales=[0.3, 0.2, 0.1, 0.05, 0.02, 0.003], more=16)

QUICK = _Setup(published={"slope": PUBLISHED["slope"]}, hidden=32, epochs=6, rows=20, scales=[0.3, 0.1, 0.003], more=2)


def _cells(setup: _Setup) -> list[Cell]:
    training = {
        "likelihood": "gaussian-unit", "scaling": "none", "precision": "fp32", "network__hidden_sizes": [setup.hidden],
        "network__activation": "tanh", "batch_size": 50, "learning_rate": 3e-3, "max_epochs": setup.epochs,
    }  # fmt: skip
    noise = {"code_activation": "linear", "corruption": "gaussian", "corruption__scale": 0.1}
    parameters: dict[str, tuple[str, dict[str, Any]]] = {
        "narrow": ("deep", {"code_size": 2}),
        "middle": ("deep", {"code_size": 8}),
        "wide": ("deep", {"code_size": 64}),
        "denoising": ("denoising", {"code_size": 64, **noise}),
    }
    common = {
        "train": "digits:train", "test": "digits:test", "seed": SEED, "rows": setup.rows, "scales": setup.scales,
        "frames": 4, "more": setup.more,
    }  # fmt: skip
    return [
        Cell(name, {**common, "kind": kind, "parameters": {**training, **own}}, _expand)
        for name, (kind, own) in parameters.items()
    ]


def contraction_and_curvature(
    r: Map, x: Float[Tensor, "batch columns"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Return ||dr/dx||_F^2 and (r - x) . Laplacian r of each row.

    The second is the trace of the Hessian of v . r(x) for fixed v = r - x: one pass for each column.

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
    """Yield n times, for every row, as many orthogonal standard normal vectors as there are columns.

    Each vector alone is a sample of N(0, I): a direction of a random frame times the length of such a sample. The
    common frame removes most of the variance of a mean over the vectors, since a trace is the sum over any frame.
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
    """Return E ||r(x + s e) - x||^2 - ||r(x) - x||^2 over the rows, for each frame of samples e.

    Each sample is used with both signs: terms of odd order in the noise, which are far larger, cancel.
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
    """Fit one map and evaluate the expansion on rows that it reconstructs well and on rows that it does not."""
    model = fit_model(settings)
    r = reconstruction_map(model.coder_.double().requires_grad_(False))
    test = load_rows(settings["test"])
    test = test.reshape(len(test), -1).astype(np.float64)
    shuffled = np.random.default_rng(settings["seed"]).permuted(test, axis=0)
    terms = {name: _terms(r, torch.from_numpy(X), settings) for name, X in zip(ROWS, (test, shuffled), strict=True)}
    return {**terms, "seconds": learning_seconds(model)}


def _terms(r: Map, x: Float[Tensor, "rows columns"], settings: Settings) -> dict[str, Any]:
    """Return both terms of the expansion, and the excess squared error under noise of each scale, over s^2."""
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


def slope(terms: Result) -> float:
    """Return the excess error of the smallest noise over s^2, divided by the sum of both terms."""
    return float(terms["measured"][-1][1] / (terms["contraction"] + terms["curvature"]))


def share(terms: Result) -> float:
    """Return the absolute second term over the first."""
    return float(abs(terms["curvature"]) / terms["contraction"])


def _rows(results: Results, setup: _Setup) -> list[Row]:
    rows = []
    for name, cell in results.items():
        for on, terms in ((on, cell[on]) for on in ROWS):
            case = f"{MAPS[name]}, {ROWS[on]}"
            rows += [
                setup.row(f"{case}: measured slope over both terms", slope(terms), "slope", ".4f"),
                Row(f"{case}: ||dr/dx||_F^2", terms["contraction"], form=".3f"),
                Row(f"{case}: (r - x) . Laplacian r", terms["curvature"], form=".3f"),
                Row(f"{case}: squared error", terms["error"], form=".3f"),
            ]
    shares = {name: share(results[name]["digits"]) for name in MAPS}
    steps = [shares[b] / shares[a] for a, b in pairwise(("narrow", "middle", "wide"))]
    return [
        *rows,
        *(Row(f"{MAPS[name]}, test digits: second term over the first", value, form=".4f")
          for name, value in shares.items()),
        setup.row("test digits: that share over the share of the next smaller code, largest", max(steps), "vanishes",
                  ".3f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    last = results["narrow"]["shuffled"]
    _, measured, error = last["measured"][-1]
    worst = max(
        cell[on]["measured"][-1][2] / abs(cell[on]["measured"][-1][1]) for cell in results.values() for on in ROWS
    )
    return [
        "r is fixed: the table shows how noise changes the criterion of a given map, not how training under noise "
        "changes the map.",
        "The maps do not reconstruct digits with shuffled pixels: r - x is large and so is the second term. For the "
        f"code of 2 the terms are {last['contraction']:.1f} and {last['curvature']:.1f}, and the measured excess error "
        f"is {measured:.2f} ± {error:.2f} times s^2.",
        f"The largest standard error of a measured slope is {worst:.1%} of it.",
        "Where r is near x the second term is small: denoising with small noise is then a contraction penalty on the "
        "reconstruction function.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    return {"excess-by-scale": _by_scale(results), "both-terms": _both_terms(results)}


def _by_scale(results: Results) -> Figure:
    """Draw the excess error over s^2 by s with the limit of both terms, in units of the first term."""
    figure = Figure(figsize=(10.4, 3.9), layout="constrained")
    for ax, (on, title) in zip(figure.subplots(1, 2, sharey=True), ROWS.items(), strict=True):
        ax.spines[["top", "right"]].set_visible(False)
        ax.axhline(1.0, color="black", lw=0.8, label="first term alone")
        for colour, (name, cell) in zip(COLOURS, results.items(), strict=False):
            terms = cell[on]
            scales, slopes, errors = np.array(terms["measured"]).T
            first = terms["contraction"]
            ax.axhline(1 + terms["curvature"] / first, color=colour, lw=1.0, ls="--")
            ax.errorbar(scales, slopes / first, errors / first, color=colour, lw=1.6, marker="o", ms=4,
                        label=MAPS[name])  # fmt: skip
        ax.plot([], [], color="black", lw=1.0, ls="--", label="both terms")
        ax.set_xscale("log")
        ax.set_xlabel("s")
        ax.set_title(title, fontsize=10, loc="left")
    figure.axes[0].set_ylim(bottom=0)
    figure.axes[0].set_ylabel("excess error over s² ||dr/dx||²")
    figure.axes[1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _both_terms(results: Results) -> Figure:
    figure = Figure(figsize=(10.4, 3.4), layout="constrained")
    at = np.arange(len(results))
    names = {"contraction": "||dr/dx||²", "curvature": "(r - x) · Laplacian r"}
    for ax, (on, title) in zip(figure.subplots(1, 2, sharey=True), ROWS.items(), strict=True):
        ax.spines[["top", "right"]].set_visible(False)
        for offset, colour, (name, label) in zip((-0.2, 0.2), COLOURS, names.items(), strict=False):
            bars = ax.bar(at + offset, [cell[on][name] for cell in results.values()], 0.38, color=colour, label=label)
            ax.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
        ax.axhline(0, color="black", lw=0.8)
        ax.set_xticks(at, [MAPS[name].replace(", ", ",\n") for name in results], fontsize=9)
        ax.set_title(title, fontsize=10, loc="left")
        ax.margins(y=0.12)
    figure.axes[1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


EXPERIMENT = Experiment(
    name="small-noise",
    claim="Denoising with small noise is reconstruction with a penalty on the Jacobian of the reconstruction.",
    source="Alain & Bengio (2013), proposition 1; Deep Learning, section 14.5.1",
    protocol=(
        "scikit-learn's digits in [0, 1]; maps 64-128-code-128-64 with codes of 2, 8 and 64, and one of 64 trained "
        "with noise of s = 0.1; tanh units, sigmoid output, squared error, Adam in fp32, 150 epochs; then fixed, in "
        "double precision. E ||r(x + s e) - x||^2 - ||r(x) - x||^2 over 100 test digits, and over 100 with pixels "
        "shuffled between digits, divided by s^2, the mean of 256 standard normal samples of e for each row, 4,096 "
        "at the smallest s, in orthogonal frames of 64, each with both signs; the slope is that at s = 0.003. "
        "||dr/dx||_F^2 and the Laplacian by automatic differentiation, column by column."
    ),
    minutes=2,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
