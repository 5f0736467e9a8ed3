"""In one dimension a regularised reconstruction crosses the identity where the data are, and is flat there."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import fitted, learning_seconds
from isthmus.geometry.scores import GaussianMixture, Map, reconstruction_map
from isthmus.report.figures import GREY, OURS

_BOOK = "Deep Learning, figure 14.7"
_MEAN = "the mean value theorem: flat at two points, r climbs faster than the identity somewhere between"

PUBLISHED = {
    "crossing": Published(0.02, "at most", f"{_BOOK}: r crosses the identity at the data"),
    "slope": Published(0.1, "at most", f"{_BOOK}: dr/dx is small at the data"),
    "between": Published(1.0, "at least", _MEAN),
}
"""The book gives no figures; these bounds say its claims in numbers. Compared with, and used for nothing else."""

QUICK = {
    "crossing": Published(0.1, "at most", f"{_BOOK}: r crosses the identity at the data"),
    "between": Published(1.0, "at least", _MEAN),
}

SEED = 0
POINTS = (-2.0, 0.3, 2.1)
"""The data: x_0, x_1 and x_2 of the figure."""

NAMES = {"plain": "plain", "denoising": "denoising", "contractive": "contractive"}
LOW, HIGH = -3.4, 3.5


def _cells(quick: bool) -> list[Cell]:
    learned = {
        "likelihood": "gaussian", "scaling": "none", "precision": "fp32", "activation": "tanh", "code_size": 32,
        "hidden_sizes": [64], "code_activation": "tanh", "batch_size": 30 if quick else 150,
        "learning_rate": 1e-2 if quick else 5e-3, "max_epochs": 40 if quick else 300,
    }  # fmt: skip
    own: dict[str, tuple[str, dict[str, Any]]] = {
        "plain": ("denoising", {"corruption": None}),
        "denoising": ("denoising", {"corruption": "gaussian", "corruption_scale": 0.4}),
        "contractive": ("contractive", {"contraction_weight": 0.1, "tied": True}),
    }
    common = {"seed": SEED, "copies": 100 if quick else 500, "points": list(POINTS)}
    return [
        Cell(name, {**common, "kind": kind, "parameters": {**learned, **parameters}}, _learn)
        for name, (kind, parameters) in own.items()
    ]


def _learn(settings: Settings, state: Path) -> Result:
    """r and its slope along the line, at the data, and between them."""
    points = np.array(settings["points"])
    model = fitted(settings, rows=np.tile(points, settings["copies"])[:, None].astype(np.float32))
    r = reconstruction_map(model.objective_.double().requires_grad_(False))
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
    """r(x) and dr/dx at numbers x, by autograd.

    Example:
        >>> [part.tolist() for part in with_slope(lambda x: x**2, np.array([1.0, 3.0]))]
        [[1.0, 9.0], [2.0, 6.0]]
    """
    at = torch.tensor(x, dtype=torch.float64)[:, None].requires_grad_()
    value = r(at)
    (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach()[:, 0].numpy(), slope[:, 0].numpy()


def downward_crossings(x: Float[np.ndarray, " n"], value: Float[np.ndarray, " n"]) -> list[float]:
    """Where r(x) - x goes from above zero to below it: what repeated reconstruction ends at. Linear between points.

    Example:
        >>> downward_crossings(np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.5, 2.5]))
        [0.5]
    """
    over = value - x
    found = np.flatnonzero((over[:-1] > 0) & (over[1:] <= 0))
    share = over[found] / (over[found] - over[found + 1])
    return [float(place) for place in x[found] + share * (x[found + 1] - x[found])]


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    rows = []
    for name in ("denoising", "contractive"):
        cell = results[name]
        rows += [
            Row(f"{name}: |r(x) - x| at the data, largest, over the spacing", _gap(cell), published["crossing"], ".4f"),
            Row(f"{name}: |dr/dx| at the data, largest", _slope(cell), published.get("slope"), ".4f"),
            Row(f"{name}: dr/dx between data, the smaller maximum", min(cell["between"]), published["between"], ".2f"),
            Row(f"{name}: downward crossings of the identity", len(cell["attractors"]), form=".0f"),
        ]
    plain = results["plain"]
    return [
        *rows,
        Row("denoising: largest distance of r to the best map, over the spacing", _off(results["denoising"], quick),
            form=".4f"),
        Row("plain: |dr/dx| at the data, largest", _slope(plain), form=".4f"),
        Row("plain: |r(x) - x| at the data, largest, over the spacing", _gap(plain), form=".4f"),
    ]  # fmt: skip


def _gap(cell: Result) -> float:
    return float(np.abs(np.array(cell["at_data"][0]) - POINTS).max() / np.diff(POINTS).min())


def _slope(cell: Result) -> float:
    return float(np.abs(cell["at_data"][1]).max())


def _best(x: Float[np.ndarray, " n"], quick: bool) -> Float[np.ndarray, " n"]:
    """The map of least squared error under the noise: each point weighed by how likely x came from it."""
    settings = dict(_cells(quick)[1].settings)
    scale = settings["parameters"]["corruption_scale"]
    # The points themselves have no density; a hair's breadth of scatter gives them one.
    points = GaussianMixture(
        torch.ones(len(POINTS)).double(), torch.tensor(POINTS).double()[:, None],
        torch.full((len(POINTS), 1, 1), 1e-12).double(),
    )  # fmt: skip
    return points.optimal_denoiser(scale)(torch.from_numpy(x)[:, None])[:, 0].numpy()


def _off(cell: Result, quick: bool) -> float:
    """How far the learned map is from the best one where noisy points are likely: up to two s from a point."""
    x, value = np.array(cell["x"]), np.array(cell["r"])
    near = np.abs(x[:, None] - POINTS).min(1) <= 0.8
    return float(np.abs(value - _best(x, quick))[near].max() / np.diff(POINTS).min())


def _remarks(results: Results, quick: bool) -> list[str]:
    plain = results["plain"]
    return [
        "The book gives no figures; the bounds say its claims in numbers.",
        "Without noise and penalty the same network has r(x) = x at the data too, but a slope of up to "
        f"{_slope(plain):.2f} there.",
        "The denoising autoencoder asks the slope of r to be small around the data, the contractive one that of the "
        "encoder at the data; between them both have to climb faster than the identity.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    figure = Figure(figsize=(11.4, 4.5), layout="constrained")
    for place, (name, cell) in zip(figure.subplots(1, 3, sharey=True), results.items(), strict=True):
        _panel(place, name, cell, quick)
    figure.axes[0].set_ylabel("r(x)")
    return {"reconstruction-over-the-identity": figure}


def _panel(place: Any, name: str, cell: Result, quick: bool) -> None:
    """r over the identity, the data, and beneath them the direction in which r moves each x."""
    x, value = np.array(cell["x"]), np.array(cell["r"])
    place.plot([LOW, HIGH], [LOW, HIGH], color="black", lw=1.0, ls="--", label="identity")
    if name == "denoising":
        place.plot(x, _best(x, quick), color=GREY, lw=3.0, alpha=0.4, label="best map under the noise")
    place.plot(x, value, color=OURS, lw=1.8, label="r(x)")
    place.plot(POINTS, POINTS, color="#c0392b", ls="", marker="o", ms=7, label="data")
    starts = np.linspace(LOW + 0.2, HIGH - 0.2, 19)
    moves = np.interp(starts, x, value) - starts
    place.quiver(starts, np.full_like(starts, LOW + 0.25), moves, 0 * moves, angles="xy", scale_units="xy", scale=2.5,
                 color=GREY, width=0.007, headwidth=3.6, minlength=0.3)  # fmt: skip
    for point in POINTS:
        place.plot([point, point], [LOW, point], color="#c0392b", lw=0.8, ls=":")
    place.set_xlim(LOW, HIGH)
    place.set_ylim(LOW, HIGH)
    place.set_aspect("equal")
    place.set_xticks(POINTS, [f"$x_{i}$" for i in range(len(POINTS))])
    place.set_yticks([])
    place.spines[["top", "right"]].set_visible(False)
    place.legend(frameon=False, fontsize=8, loc="upper left")
    place.set_title(NAMES[name], fontsize=11, loc="left")


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
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
