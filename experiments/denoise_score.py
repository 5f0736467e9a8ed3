"""A denoising autoencoder learns the score of the noisy density: r(x) - x points to higher density."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import axes
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.fields import cosines, draw_field, lattice
from experiments.learning import fit_model, learning_seconds
from isthmus.geometry.scores import GaussianMixture, Map, denoising_score, optimal_linear_denoiser, reconstruction_map
from isthmus.report.figures import OURS, PCA

_EXACT = "the closed form mu + S (S + s^2 I)^-1 (x - mu)"
_ALAIN = "Alain & Bengio (2013), theorem 1: (r(x) - x) / s^2 estimates the score"
_BOOK = "Deep Learning, figure 14.5: arrows point towards higher probability"

TARGETS = {
    "linear map": Target(0.02, "at most", _EXACT),
    "linear score": Target(0.02, "at most", _EXACT),
    "mixture": Target(0.95, "at least", _ALAIN),
    "spiral": Target(0.95, "at least", _BOOK),
}
"""The sources state no figures: these bounds express their claims in numbers."""

SEED = 0
AWAY = 0.1
"""The field has no direction at saddles, maxima and minima: moves shorter than this share of s are excluded."""

N_ARROWS = 25
N_SHOWN = 800


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    batch_size: int
    linear_rows: int
    linear_epochs: int
    rows: int
    units: int
    learning_rate: float
    epochs: int


FULL = _Setup(
    targets=TARGETS, batch_size=250, linear_rows=50000, linear_epochs=60, rows=20000, units=128, learning_rate=3e-3,
    epochs=100,
)  # fmt: skip

QUICK = _Setup(
    targets={"linear map": Target(0.1, "at most", _EXACT), "mixture": Target(0.8, "at least", _ALAIN)},
    batch_size=100, linear_rows=8000, linear_epochs=8, rows=4000, units=64, learning_rate=5e-3, epochs=12,
)  # fmt: skip

LINEAR_SCALE, MIXTURE_SCALE, SPIRAL_SCALE = 0.7, 0.4, 0.08
"""Standard deviations of the noise."""


def _cells(setup: _Setup) -> list[Cell]:
    common = {"seed": SEED, "kind": "denoising"}
    training = {
        "corruption": "gaussian", "scaling": "none", "likelihood": "gaussian", "precision": "fp32",
        "batch_size": setup.batch_size,
    }  # fmt: skip
    linear: dict[str, Any] = {
        **training, "code_activation": "linear", "hidden_sizes": [], "learning_rate": 1e-2,
        "max_epochs": setup.linear_epochs,
    }  # fmt: skip
    nonlinear = {
        **training, "network__hidden_sizes": [setup.units, setup.units], "network__activation": "silu",
        "code_size": setup.units, "code_activation": "silu", "learning_rate": setup.learning_rate,
        "max_epochs": setup.epochs,
    }  # fmt: skip
    return [
        Cell("gaussian", {**common, "rows": setup.linear_rows, "columns": 10, "scale": LINEAR_SCALE,
                          "parameters": {**linear, "code_size": 10, "corruption__scale": LINEAR_SCALE}}, _gaussian),
        Cell("mixture", {**common, "rows": setup.rows, "scale": MIXTURE_SCALE,
                         "parameters": {**nonlinear, "corruption__scale": MIXTURE_SCALE}}, _mixture),
        Cell("spiral", {**common, "rows": setup.rows, "scale": SPIRAL_SCALE, "scatter": 0.01,
                        "parameters": {**nonlinear, "corruption__scale": SPIRAL_SCALE}}, _spiral),
    ]  # fmt: skip


def gaussian_density(columns: int, generator: torch.Generator) -> GaussianMixture:
    """Return a Gaussian with variances from 0.05 to 5 along random directions and a random mean."""
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(draw(columns, columns))[0]
    variances = torch.logspace(-1.3, 0.7, columns, dtype=torch.float64)
    return GaussianMixture(torch.ones(1).double(), draw(1, columns), (directions * variances @ directions.T)[None])


def mixture_density() -> GaussianMixture:
    """Return a mixture of three Gaussians in the plane, two of them long and narrow."""
    turned = [(0.9, 0.12, 0.6), (0.25, 0.25, 0.0), (0.7, 0.1, -0.9)]
    covariances = []
    for along, across, angle in turned:
        c, s = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        covariances.append(turn @ torch.diag(torch.tensor([along, across], dtype=torch.float64)) @ turn.T)
    means = torch.tensor([[-1.8, 0.6], [1.6, 1.5], [0.9, -1.5]], dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.4, 0.25, 0.35]).double(), means, torch.stack(covariances))


def spiral_density(scatter: float, n: int = 600) -> GaussianMixture:
    """Return a mixture of small Gaussians along a spiral of two turns, radius 0.2 to 1."""
    # Equal steps of arc length, so that the density along the curve is the same everywhere.
    turn = torch.linspace(0, 1, 20 * n, dtype=torch.float64)
    angle, radius = 4 * math.pi * turn, 0.2 + 0.8 * turn
    curve = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    length = torch.cat([torch.zeros(1).double(), curve.diff(dim=0).norm(dim=1).cumsum(0)])
    means = curve[torch.searchsorted(length, torch.linspace(0, float(length[-1]), n, dtype=torch.float64))]
    return GaussianMixture(torch.ones(n).double(), means, scatter**2 * torch.eye(2).double().expand(n, 2, 2))


def _fit(density: GaussianMixture, settings: Settings) -> tuple[Map, Float[np.ndarray, "n columns"], float]:
    """Fit an autoencoder to samples of a density: its map in double precision, the samples, and seconds."""
    rows = density.sample(settings["rows"], torch.Generator().manual_seed(settings["seed"])).float().numpy()
    model = fit_model(settings, rows=rows)
    reconstruct = reconstruction_map(model.coder_.double())

    def plain(x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        with torch.no_grad():
            return reconstruct(x)

    return plain, rows, learning_seconds(model)


def _gaussian(settings: Settings, state: Path) -> Result:
    """Compare a linear autoencoder with the closed form."""
    generator = torch.Generator().manual_seed(settings["seed"] + 1)
    density, scale = gaussian_density(settings["columns"], generator), settings["scale"]
    reconstruct, _, seconds = _fit(density, settings)
    mean, covariance = density.means[0], density.covariances[0]
    best = optimal_linear_denoiser(mean, covariance, scale)
    eye = torch.eye(len(mean), dtype=torch.float64)
    slope, best_slope = (r(mean + eye) - r(mean + 0 * eye) for r in (reconstruct, best))
    x = density.with_noise(scale).sample(20000, generator)
    score, exact = denoising_score(reconstruct, x, scale), density.with_noise(scale).score(x)
    variances, directions = torch.linalg.eigh(covariance)
    return {
        "map_error": float((slope - best_slope).norm() / best_slope.norm()),
        "score_error": float((score - exact).norm() / exact.norm()),
        "variances": variances.tolist(),
        # Row j of `slope` is the image of a unit step along column j.
        "gains": (directions * (slope.T @ directions)).sum(0).tolist(),
        "seconds": seconds,
    }


def _mixture(settings: Settings, state: Path) -> Result:
    """Compare the learned score of a mixture with the exact score of the noisy density."""
    density, scale = mixture_density(), settings["scale"]
    reconstruct, rows, seconds = _fit(density, settings)
    noisy = density.with_noise(scale)
    x = noisy.sample(5000, torch.Generator().manual_seed(settings["seed"] + 1))
    at = lattice([-3.6, -3.2], [3.4, 3.2], N_ARROWS)
    return {
        **_agreement(denoising_score(reconstruct, x, scale).numpy(), noisy.score(x).numpy(), scale),
        "seconds": seconds,
        "shown": rows[:N_SHOWN].round(3).tolist(),
        "at": at.round(4).tolist(),
        "learned": (reconstruct(torch.from_numpy(at)).numpy() - at).round(4).tolist(),
        "exact": (density.optimal_denoiser(scale)(torch.from_numpy(at)).numpy() - at).round(4).tolist(),
    }


def _agreement(score: np.ndarray, exact: np.ndarray, scale: float) -> dict[str, float]:
    """Return the agreement of two scores, over all points and over those where the exact one has a direction."""
    cosine = cosines(score, exact)
    away = np.linalg.norm(exact, axis=1) * scale >= AWAY
    return {
        "cosine": float(cosine.mean()),
        "cosine_away": float(cosine[away].mean()),
        "cosine_fifth": float(np.quantile(cosine[away], 0.05)),
        "away": float(away.mean()),
        "error": float(np.linalg.norm(score - exact) / np.linalg.norm(exact)),
    }


def _spiral(settings: Settings, state: Path) -> Result:
    """Compute the field around a spiral, and the share of arrows that end nearer to the spiral than they start."""
    density, scale = spiral_density(settings["scatter"]), settings["scale"]
    reconstruct, rows, seconds = _fit(density, settings)
    noisy = density.with_noise(scale)
    x = noisy.sample(5000, torch.Generator().manual_seed(settings["seed"] + 1))
    at = lattice([-1.1, -1.1], [1.1, 1.1], N_ARROWS + 6)
    points = torch.from_numpy(at)
    moved = reconstruct(points)
    before, after = distances(points, density.means), distances(moved, density.means)
    far = before > scale / 2
    return {
        **_agreement(denoising_score(reconstruct, x, scale).numpy(), noisy.score(x).numpy(), scale),
        "nearer": float((after < before)[far].double().mean()),
        "distance_before": float(distances(x, density.means).mean()),
        "distance_after": float(distances(reconstruct(x), density.means).mean()),
        "seconds": seconds,
        "shown": rows[:N_SHOWN].round(4).tolist(),
        "at": at.round(4).tolist(),
        "learned": (moved.numpy() - at).round(4).tolist(),
    }


def distances(x: Float[Tensor, "n 2"], curve: Float[Tensor, "m 2"]) -> Float[Tensor, " n"]:
    """Return the distance from each point to the nearest point of the curve."""
    return torch.cdist(x, curve).amin(1)


def _rows(results: Results, setup: _Setup) -> list[Row]:
    gaussian, mixture, spiral = (results[name] for name in ("gaussian", "mixture", "spiral"))
    return [
        setup.row("Gaussian rows, linear maps: relative error of the map", gaussian["map_error"], "linear map", ".4f"),
        setup.row("Gaussian rows, linear maps: relative error of the score", gaussian["score_error"], "linear score",
                  ".4f"),
        setup.row("mixture: mean cosine with the exact score, away from its zeros", mixture["cosine_away"], "mixture",
                  ".4f"),
        Row("mixture: mean cosine with the exact score, all samples", mixture["cosine"], form=".4f"),
        Row("mixture: 5% quantile of the cosine, away from its zeros", mixture["cosine_fifth"], form=".4f"),
        Row("mixture: relative error of the score", mixture["error"], form=".3f"),
        setup.row("spiral: share of arrows that end nearer to it", spiral["nearer"], "spiral", ".4f"),
        Row("spiral: mean cosine with the exact score, away from its zeros", spiral["cosine_away"], form=".4f"),
        Row("spiral: distance of noisy points to it", spiral["distance_before"], form=".4f"),
        Row("spiral: distance of their reconstructions to it", spiral["distance_after"], form=".4f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    away = results["mixture"]["away"]
    seconds = sum(cell["seconds"] for cell in results.values())
    return [
        f'"Away from its zeros": the exact field moves the point by at least {AWAY:g} s, which holds for {away:.0%} of '
        "the samples of the noisy density. A field has no direction at saddles, maxima and minima.",
        "The exact score is that of the noisy density p * N(0, s^2 I). The reconstruction of least squared error gives "
        "this score at any s, and the score of p only in the limit of small s.",
        f"Training took {seconds:.0f} seconds in total.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    return {
        "vector-field-of-a-spiral": _spiral_picture(results["spiral"]),
        "score-of-a-mixture": _mixture_picture(results["mixture"]),
        "gain-by-variance": _gain_picture(results["gaussian"], LINEAR_SCALE),
    }


def _spiral_picture(spiral: Result) -> Figure:
    at, arrows, rows = (np.array(spiral[name]) for name in ("at", "learned", "shown"))
    figure = Figure(figsize=(6.6, 6.8), layout="constrained")
    title = "r(x) - x around rows on a spiral (arrows at half length)"
    draw_field(figure.subplots(), at, arrows, rows=rows, title=title, share=0.5)
    return figure


def _mixture_picture(mixture: Result) -> Figure:
    at, rows = np.array(mixture["at"]), np.array(mixture["shown"])
    figure = Figure(figsize=(10.4, 4.7), layout="constrained")
    names = {"learned": "learned: r(x) - x", "exact": "exact: s² times the score of the noisy density"}
    for ax, (name, title) in zip(figure.subplots(1, 2), names.items(), strict=True):
        draw_field(ax, at, np.array(mixture[name]), rows=rows, title=f"{title} (half length)", share=0.5)
    return figure


def _gain_picture(gaussian: Result, scale: float) -> Figure:
    figure, ax = axes(5.4, 3.6)
    variances = np.array(gaussian["variances"])
    fine = np.geomspace(variances.min() / 1.5, variances.max() * 1.5, 200)
    ax.plot(fine, fine / (fine + scale**2), color=PCA, lw=1.8, label="closed form: variance / (variance + s²)")
    ax.plot(variances, gaussian["gains"], color=OURS, ls="", marker="o", ms=6, label="learned")
    ax.set_xscale("log")
    ax.set_ylim(0, 1)
    ax.set_xlabel("variance of the rows along a principal direction")
    ax.set_ylabel("gain of r along it")
    ax.legend(frameon=False, fontsize=9)
    ax.set_title("A linear denoiser shrinks directions of small variance", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="denoise-score",
    claim="A denoising autoencoder learns the score of the noisy density: it is (r(x) - x) / s^2.",
    source="Alain & Bengio (2013); Vincent (2011); Deep Learning, section 14.5.1 and figure 14.5",
    protocol=(
        "Gaussian noise, squared error, Adam in fp32 with warm-up and a cosine to zero, fresh noise at every step. "
        "Gaussian: 50,000 samples in 10 dimensions, variances 0.05 to 5, s = 0.7, linear maps with a code of 10, 60 "
        "epochs; the map and (r(x) - x) / s^2 compared with the closed form for the true mean and covariance. Mixture: "
        "20,000 samples of three Gaussians in the plane, s = 0.4, 2-128-128-128-128-128-2 with SiLU units, 100 epochs; "
        "cosine with the exact score of the noisy density at 5,000 new samples of it. Spiral: 20,000 points on two "
        "turns between radius 0.2 and 1, s = 0.08, the same network; arrows on a lattice, and among those that start "
        "farther than s / 2 from the spiral the share that ends nearer to it."
    ),
    minutes=3,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
