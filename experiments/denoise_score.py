"""A denoising autoencoder learns the score: where the density of the noisy rows rises, and how steeply."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.fields import cosines, draw_field, lattice
from experiments.learning import fitted, learning_seconds
from isthmus.geometry.scores import GaussianMixture, Map, denoising_score, optimal_linear_denoiser, reconstruction_map
from isthmus.report.figures import OURS, PCA

_EXACT = "the closed form mu + S (S + s^2 I)^-1 (x - mu)"
_ALAIN = "Alain & Bengio (2013), theorem 1: (r(x) - x) / s^2 estimates the score"
_BOOK = "Deep Learning, figure 14.5: arrows point towards higher probability"

PUBLISHED = {
    "linear map": Published(0.02, "at most", _EXACT),
    "linear score": Published(0.02, "at most", _EXACT),
    "mixture": Published(0.95, "at least", _ALAIN),
    "spiral": Published(0.95, "at least", _BOOK),
}
"""What is claimed, in numbers, compared with what came out and used for nothing else."""

QUICK = {
    "linear map": Published(0.1, "at most", _EXACT),
    "mixture": Published(0.8, "at least", _ALAIN),
}

SEED = 0
AWAY = 0.1
"""Saddles, maxima and minima are where the field has no direction: shorter moves than this share of s are left out."""

N_ARROWS = 25
N_SHOWN = 800


def _cells(quick: bool) -> list[Cell]:
    common = {"seed": SEED, "kind": "denoising"}
    learned = {
        "corruption": "gaussian", "scaling": "none", "likelihood": "gaussian", "precision": "fp32",
        "batch_size": 100 if quick else 250,
    }  # fmt: skip
    linear: dict[str, Any] = {
        **learned, "code_activation": "linear", "hidden_sizes": [], "learning_rate": 1e-2,
        "max_epochs": 8 if quick else 60,
    }  # fmt: skip
    units = 64 if quick else 128
    curved = {
        **learned, "hidden_sizes": [units, units], "code_size": units, "activation": "silu", "code_activation": "silu",
        "learning_rate": 5e-3 if quick else 3e-3, "max_epochs": 12 if quick else 100,
    }  # fmt: skip
    n_rows = 4000 if quick else 20000
    return [
        Cell("gaussian", {**common, "rows": 50000 if not quick else 8000, "columns": 10, "scale": 0.7,
                          "parameters": {**linear, "code_size": 10, "corruption_scale": 0.7}}, _gaussian),
        Cell("mixture", {**common, "rows": n_rows, "scale": 0.4,
                         "parameters": {**curved, "corruption_scale": 0.4}}, _mixture),
        Cell("spiral", {**common, "rows": n_rows, "scale": 0.08, "scatter": 0.01,
                        "parameters": {**curved, "corruption_scale": 0.08}}, _spiral),
    ]  # fmt: skip


def gaussian_density(columns: int, generator: torch.Generator) -> GaussianMixture:
    """One Gaussian whose variances span a hundredfold, in directions drawn at random, away from the origin."""
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(draw(columns, columns))[0]
    variances = torch.logspace(-1.3, 0.7, columns, dtype=torch.float64)
    return GaussianMixture(torch.ones(1).double(), draw(1, columns), (directions * variances @ directions.T)[None])


def mixture_density() -> GaussianMixture:
    """Three Gaussians in the plane, two of them long and narrow."""
    turned = [(0.9, 0.12, 0.6), (0.25, 0.25, 0.0), (0.7, 0.1, -0.9)]
    covariances = []
    for along, across, angle in turned:
        c, s = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        covariances.append(turn @ torch.diag(torch.tensor([along, across], dtype=torch.float64)) @ turn.T)
    means = torch.tensor([[-1.8, 0.6], [1.6, 1.5], [0.9, -1.5]], dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.4, 0.25, 0.35]).double(), means, torch.stack(covariances))


def spiral_density(scatter: float, n: int = 600) -> GaussianMixture:
    """Points all along a spiral of two turns, radius 0.2 to 1, each with a little scatter about it."""
    # Equal steps of arc length, so that the density along the curve is the same everywhere.
    turn = torch.linspace(0, 1, 20 * n, dtype=torch.float64)
    angle, radius = 4 * math.pi * turn, 0.2 + 0.8 * turn
    curve = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    length = torch.cat([torch.zeros(1).double(), curve.diff(dim=0).norm(dim=1).cumsum(0)])
    means = curve[torch.searchsorted(length, torch.linspace(0, float(length[-1]), n, dtype=torch.float64))]
    return GaussianMixture(torch.ones(n).double(), means, scatter**2 * torch.eye(2).double().expand(n, 2, 2))


def _learned(density: GaussianMixture, settings: Settings) -> tuple[Map, Float[np.ndarray, "n columns"], float]:
    """The map of an autoencoder that was fitted to draws from a density, in double precision; the draws; seconds."""
    rows = density.sample(settings["rows"], torch.Generator().manual_seed(settings["seed"])).float().numpy()
    model = fitted(settings, rows=rows)
    reconstruct = reconstruction_map(model.objective_.double())

    def plain(x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        with torch.no_grad():
            return reconstruct(x)

    return plain, rows, learning_seconds(model)


def _gaussian(settings: Settings, state: Path) -> Result:
    """A linear autoencoder beside the closed form."""
    generator = torch.Generator().manual_seed(settings["seed"] + 1)
    density, scale = gaussian_density(settings["columns"], generator), settings["scale"]
    reconstruct, _, seconds = _learned(density, settings)
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
        # Row j of `slope` is what a unit step along column j becomes.
        "gains": (directions * (slope.T @ directions)).sum(0).tolist(),
        "seconds": seconds,
    }


def _mixture(settings: Settings, state: Path) -> Result:
    """The learned score of a mixture beside the exact one of the noisy density."""
    density, scale = mixture_density(), settings["scale"]
    reconstruct, rows, seconds = _learned(density, settings)
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
    """How well two scores agree, over all points and over those where the exact one has a direction."""
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
    """The field around a spiral, and whether its arrows end nearer to it than they begin."""
    density, scale = spiral_density(settings["scatter"]), settings["scale"]
    reconstruct, rows, seconds = _learned(density, settings)
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
    """From each point to the nearest of those of the curve."""
    return torch.cdist(x, curve).amin(1)


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    gaussian, mixture, spiral = (results[name] for name in ("gaussian", "mixture", "spiral"))
    return [
        Row("Gaussian rows, linear maps: relative error of the map", gaussian["map_error"], published["linear map"],
            ".4f"),
        Row("Gaussian rows, linear maps: relative error of the score", gaussian["score_error"],
            published.get("linear score"), ".4f"),
        Row("mixture: mean cosine with the exact score, away from its zeros", mixture["cosine_away"],
            published["mixture"], ".4f"),
        Row("mixture: mean cosine with the exact score, all draws", mixture["cosine"], form=".4f"),
        Row("mixture: cosine that 95% of the draws exceed, away from its zeros", mixture["cosine_fifth"], form=".4f"),
        Row("mixture: relative error of the score", mixture["error"], form=".3f"),
        Row("spiral: share of arrows that end nearer to it", spiral["nearer"], published.get("spiral"), ".4f"),
        Row("spiral: mean cosine with the exact score, away from its zeros", spiral["cosine_away"], form=".4f"),
        Row("spiral: distance of noisy points to it", spiral["distance_before"], form=".4f"),
        Row("spiral: distance of their reconstructions to it", spiral["distance_after"], form=".4f"),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    away = results["mixture"]["away"]
    seconds = sum(cell["seconds"] for cell in results.values())
    return [
        f"Away from its zeros means that the exact field moves a point by at least {AWAY:g} s: {away:.0%} of the draws "
        "of the noisy density. At saddles, maxima and minima a field has no direction.",
        "The exact score is that of the density with the noise in it, p * N(0, s^2 I): that is what the reconstruction "
        "of least squared error tells at any s, and p's own only as s goes to 0.",
        f"Learning took {seconds:.0f} seconds in all.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    return {
        "vector-field-of-a-spiral": _spiral_picture(results["spiral"]),
        "score-of-a-mixture": _mixture_picture(results["mixture"]),
        "gain-by-variance": _gain_picture(results["gaussian"], dict(_cells(quick)[0].settings)["scale"]),
    }


def _spiral_picture(spiral: Result) -> Figure:
    at, arrows, rows = (np.array(spiral[name]) for name in ("at", "learned", "shown"))
    figure = Figure(figsize=(6.6, 6.8), layout="constrained")
    title = "r(x) - x around rows that lie on a spiral (arrows at half length)"
    draw_field(figure.subplots(), at, arrows, rows=rows, title=title, share=0.5)
    return figure


def _mixture_picture(mixture: Result) -> Figure:
    at, rows = np.array(mixture["at"]), np.array(mixture["shown"])
    figure = Figure(figsize=(10.4, 4.7), layout="constrained")
    names = {"learned": "learned: r(x) - x", "exact": "exact: s² times the score of the noisy density"}
    for place, (name, title) in zip(figure.subplots(1, 2), names.items(), strict=True):
        draw_field(place, at, np.array(mixture[name]), rows=rows, title=f"{title} (half length)", share=0.5)
    return figure


def _gain_picture(gaussian: Result, scale: float) -> Figure:
    figure, place = axes(5.4, 3.6)
    variances = np.array(gaussian["variances"])
    fine = np.geomspace(variances.min() / 1.5, variances.max() * 1.5, 200)
    place.plot(fine, fine / (fine + scale**2), color=PCA, lw=1.8, label="closed form: variance / (variance + s²)")
    place.plot(variances, gaussian["gains"], color=OURS, ls="", marker="o", ms=6, label="learned")
    place.set_xscale("log")
    place.set_ylim(0, 1)
    place.set_xlabel("variance of the rows along a principal direction")
    place.set_ylabel("gain of r along it")
    place.legend(frameon=False, fontsize=9)
    place.set_title("A linear denoiser shrinks what the noise drowns", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="denoise-score",
    claim="A denoising autoencoder learns the score of the noisy density: it is (r(x) - x) / s^2.",
    source="Alain & Bengio (2013); Vincent (2011); Deep Learning, section 14.5.1 and figure 14.5",
    protocol=(
        "Gaussian noise, squared error, Adam in fp32 with warm-up and a cosine to zero, fresh noise at every step. "
        "Gaussian: 50,000 draws in 10 dimensions, variances 0.05 to 5, s = 0.7, linear maps with a code of 10, 60 "
        "epochs; the map and (r(x) - x) / s^2 beside the closed form for the true mean and covariance. Mixture: "
        "20,000 draws from three Gaussians in the plane, s = 0.4, 2-128-128-128-128-128-2 with SiLU units, 100 epochs; "
        "cosine with the exact score of the noisy density at 5,000 fresh draws of it. Spiral: 20,000 points on two "
        "turns between radius 0.2 and 1, s = 0.08, the same network; arrows on a lattice, and the share of those that "
        "begin farther than s / 2 from the spiral and end nearer to it."
    ),
    minutes=3,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
