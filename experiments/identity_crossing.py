"""In one dimension a regularised reconstruction crosses the identity at the data, with a small slope there."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, learning_seconds
from isthmus.geometry.scores import GaussianMixture, Map, reconstruction_map
from isthmus.report.figures import GREY, OURS

_BOOK = "Deep Learning, figure 14.7"
_MEAN = "the mean value theorem: between two points with r(x) = x the slope of r reaches 1"

PUBLISHED = {"between": Published(1.0, "at least", _MEAN)}

TARGETS = {
    "crossing": Target(0.02, "at most", f"{_BOOK}: r crosses the identity at the data"),
    "slope": Target(0.1, "at most", f"{_BOOK}: dr/dx is small at the data"),
}
"""The book states no figures: these bounds express its claims in numbers."""

SEED = 0
POINTS = (-2.0, 0.3, 2.1)
"""The data: x_0, x_1 and x_2 of the figure."""

LOW, HIGH = -3.4, 3.5


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    batch_size: int
    learning_rate: float
    epochs: int
    copies: int


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, batch_size=150, learning_rate=5e-3, epochs=300, copies=500,
)  # fmt: skip

QUICK = _Setup(
    published=PUBLISHED, targets={"crossing": Target(0.1, "at most", f"{_BOOK}: r crosses the identity at the data")},
    batch_size=30, learning_rate=1e-2, epochs=40, copies=100,
)  # fmt: skip

NOISE = 0.4
"""Standard deviation of the noise."""


def _cells(setup: _Setup) -> list[Cell]:
    training = {
        "likelihood": "gaussian", "scaling": "none", "precision": "fp32", "network__hidden_sizes": [64],
        "network__activation": "tanh", "code_size": 32, "code_activation": "tanh", "batch_size": setup.batch_size,
        "learning_rate": setup.learning_rate, "max_epochs": setup.epochs,
    }  # fmt: skip
    own: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": ("denoising", {"corruption": None}),
        "denoising": ("denoising", {"corruption": "gaussian", "corruption__scale": NOISE}),
        "contractive": ("contractive", {"contraction__weight": 0.1, "network__tied": True}),
    }
    common = {"seed": SEED, "copies": setup.copies, "points": list(POINTS)}
    return [
        Cell(name, {**common, "kind": kind, "parameters": {**training, **parameters}}, _fit)
        for name, (kind, parameters) in own.items()
    ]


def _fit(settings: Settings, state: Path) -> Result:
    """Fit one map: r and its slope on a grid, at the data, and between them."""
    points = np.array(settings["points"])
    model = fit_model(settings, rows=np.tile(points, settings["copies"])[:, None].astype(np.float32))
    r = reconstruction_map(model.coder_.double().requires_grad_(False))
    x = np.linspace(LOW, HIGH, 1401)
    value, slope = with_slope(r, x)
    at_data = with_slope(r, points)
    between = [float(slope[(x > a) & (x < b)].max()) for a, b in pairwise(points)]
    return {
        "x": x[::4].round(4).tolist(),
        "r": value[::4].round(4).tolist(),
        "slope": slope[::4].round(4).tolist(),
        "at_data": [at_data[0].tolist(), at_data[1].tolist()],
        "attractors": downward_crossings(x, value),
        "between": between,
        "seconds": learning_seconds(model),
    }


def with_slope(r: Map, x: Float[np.ndarray, " n"]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return r(x) and dr/dx at numbers x, by autograd.

    Example:
        >>> [part.tolist() for part in with_slope(lambda x: x**2, np.array([1.0, 3.0]))]
        [[1.0, 9.0], [2.0, 6.0]]
    """
    at = torch.tensor(x, dtype=torch.float64)[:, None].requires_grad_()
    value = r(at)
    (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach()[:, 0].numpy(), slope[:, 0].numpy()


def downward_crossings(x: Float[np.ndarray, " n"], value: Float[np.ndarray, " n"]) -> list[float]:
    """Return the points where r(x) - x changes from positive to negative, interpolated linearly.

    Repeated reconstruction converges to them.

    Example:
        >>> downward_crossings(np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.5, 2.5]))
        [0.5]
    """
    over = value - x
    found = np.flatnonzero((over[:-1] > 0) & (over[1:] <= 0))
    share = over[found] / (over[found] - over[found + 1])
    return [float(at) for at in x[found] + share * (x[found + 1] - x[found])]


def _rows(results: Results, setup: _Setup) -> list[Row]:
    rows = []
    for name in ("denoising", "contractive"):
        cell = results[name]
        rows += [
            setup.row(f"{name}: |r(x) - x| at the data, largest, over the spacing", _gap(cell), "crossing", ".4f"),
            setup.row(f"{name}: |dr/dx| at the data, largest", _slope(cell), "slope", ".4f"),
            setup.row(f"{name}: dr/dx between data, the smaller maximum", min(cell["between"]), "between", ".2f"),
            Row(f"{name}: downward crossings of the identity", len(cell["attractors"]), form=".0f"),
        ]
    plain = results["plain"]
    return [
        *rows,
        Row("denoising: largest distance of r to the optimal map, over the spacing", _distance(results["denoising"]),
            form=".4f"),
        Row("plain: |dr/dx| at the data, largest", _slope(plain), form=".4f"),
        Row("plain: |r(x) - x| at the data, largest, over the spacing", _gap(plain), form=".4f"),
    ]  # fmt: skip


def _gap(cell: Result) -> float:
    return float(np.abs(np.array(cell["at_data"][0]) - POINTS).max() / np.diff(POINTS).min())


def _slope(cell: Result) -> float:
    return float(np.abs(cell["at_data"][1]).max())


def _optimal(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the map of least squared error under the noise: the mean of the points, weighted by their posterior."""
    # The points have no density; a tiny variance gives them one.
    points = GaussianMixture(
        torch.ones(len(POINTS)).double(), torch.tensor(POINTS).double()[:, None],
        torch.full((len(POINTS), 1, 1), 1e-12).double(),
    )  # fmt: skip
    return points.optimal_denoiser(NOISE)(torch.from_numpy(x)[:, None])[:, 0].numpy()


def _distance(cell: Result) -> float:
    """Return the distance of the learned map to the optimal one within two standard deviations of a point."""
    x, value = np.array(cell["x"]), np.array(cell["r"])
    near = np.abs(x[:, None] - POINTS).min(1) <= 2 * NOISE
    return float(np.abs(value - _optimal(x))[near].max() / np.diff(POINTS).min())


def _remarks(results: Results, setup: _Setup) -> list[str]:
    plain = results["plain"]
    return [
        "The book states no figures; the targets express its claims in numbers.",
        "Without noise and penalty the same network has r(x) = x at the data too, but a slope of up to "
        f"{_slope(plain):.2f} there.",
        "The denoising autoencoder makes the slope of r small around the data, the contractive one that of the encoder "
        "at the data. Between the data the slope of both exceeds 1.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    figure = Figure(figsize=(11.4, 4.5), layout="constrained")
    for ax, (name, cell) in zip(figure.subplots(1, 3, sharey=True), results.items(), strict=True):
        _panel(ax, name, cell)
    figure.axes[0].set_ylabel("r(x)")
    return {"reconstruction-over-the-identity": figure}


def _panel(ax: Any, name: str, cell: Result) -> None:
    """Draw r, the identity, the data, and below them the direction in which r moves each x."""
    x, value = np.array(cell["x"]), np.array(cell["r"])
    ax.plot([LOW, HIGH], [LOW, HIGH], color="black", lw=1.0, ls="--", label="identity")
    if name == "denoising":
        ax.plot(x, _optimal(x), color=GREY, lw=3.0, alpha=0.4, label="optimal map under the noise")
    ax.plot(x, value, color=OURS, lw=1.8, label="r(x)")
    ax.plot(POINTS, POINTS, color="#c0392b", ls="", marker="o", ms=7, label="data")
    starts = np.linspace(LOW + 0.2, HIGH - 0.2, 19)
    moves = np.interp(starts, x, value) - starts
    ax.quiver(starts, np.full_like(starts, LOW + 0.25), moves, 0 * moves, angles="xy", scale_units="xy", scale=2.5,
              color=GREY, width=0.007, headwidth=3.6, minlength=0.3)  # fmt: skip
    for point in POINTS:
        ax.plot([point, point], [LOW, point], color="#c0392b", lw=0.8, ls=":")
    ax.set_xlim(LOW, HIGH)
    ax.set_ylim(LOW, HIGH)
    ax.set_aspect("equal")
    ax.set_xticks(POINTS, [f"$x_{i}$" for i in range(len(POINTS))])
    ax.set_yticks([])
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    ax.set_title(name, fontsize=11, loc="left")


EXPERIMENT = Experiment(
    name="identity-crossing",
    claim="In one dimension r(x) crosses the identity at the data, with a slope near 0.",
    source="Deep Learning, section 14.6 and figure 14.7; Alain & Bengio (2013)",
    protocol=(
        "Three numbers, -2, 0.3 and 2.1, 500 copies of each; maps 1-64-32-64-1 with tanh units, linear output, "
        "squared error, Adam in fp32 at 5e-3 with warm-up and a cosine to zero, batches of 150, 300 epochs: plain; "
        "with Gaussian noise of s = 0.4; with tied weights and 0.1 times the squared norm of the encoder's Jacobian. "
        "r and dr/dx in double precision, by autograd."
    ),
    minutes=1,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
