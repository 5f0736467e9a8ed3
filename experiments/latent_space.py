"""Codes of two units: a plain autoencoder, and variational ones with and without the divergence from the prior."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, from_bytes, learning_seconds, load_dataset, to_bytes, unit_images
from isthmus.estimators.base import BaseAutoencoder
from isthmus.geometry.paths import completeness, continuity
from isthmus.parts.stochastic_inference import DiagonalGaussian
from isthmus.report.figures import GROUPS

_LECTURE = "without the divergence the encoder makes the noise small, and the code is that of an autoencoder"
_PRIOR = "with the divergence codes of the prior decode to digits"

TARGETS = {
    "width": Target(0.2, "at most", _LECTURE),
    "complete": Target(1.0, "at least", _PRIOR, 0.01),
    "continuous": Target(1.0, "at most", "the noise makes the decoder change slowly"),
    "error": Target(1.0, "at most", "without the divergence nothing limits what the code holds"),
}
"""The sources state no figures: these bounds express their claims in numbers."""

SEED = 0
N_MEASURED = 2000
"""Number of test digits of which maps and measures are made."""

N_WIDTHS = 20
"""Number of posteriors that a map shows."""

N_GRID = 12
"""Number of decodings along each side of a grid."""

GRID_RANGE = (0.03, 0.97)
"""Quantiles of each unit between which a grid lies."""

NAMES = {"autoencoder": "autoencoder", "beta-0": "variational, beta = 0", "beta-1": "variational, beta = 1"}
"""Models, and their names in pictures."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    train: str
    test: str
    rows: int
    parameters: dict[str, Any]


FULL = _Setup(
    targets=TARGETS, train="mnist", test="mnist:test", rows=10_000,
    parameters={"hidden_sizes": [512, 256], "batch_size": 100, "max_epochs": 40},
)  # fmt: skip

QUICK = _Setup(
    targets={"width": Target(0.5, "at most", _LECTURE)}, train="digits:train", test="digits:test", rows=1000,
    parameters={"hidden_sizes": [64, 32], "batch_size": 50, "max_epochs": 20},
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {"train": setup.train, "test": setup.test, "rows": setup.rows, "seed": SEED}
    parameters = {
        "scaling": "none", "precision": "fp32", "likelihood": "bernoulli", "code_size": 2, **setup.parameters,
    }  # fmt: skip
    own = {"autoencoder": {}, "beta-0": {"kl__beta": 0.0}, "beta-1": {"kl__beta": 1.0}}
    return [
        Cell(name, {**common, "kind": "vae" if fields else "deep", "parameters": {**parameters, **fields}}, _measure)
        for name, fields in own.items()
    ]


def _measure(settings: Settings, state: Path) -> Result:
    """Fit a model of two units: its errors, measures of its code, a map of codes and a grid of decodings."""
    model = fit_model(settings, rows=unit_images(settings["train"], settings["rows"]))
    X = unit_images(settings["test"], N_MEASURED)
    labels = load_dataset(settings["test"]).labels
    assert labels is not None
    codes, widths = model.transform(X), _widths(model, X)
    generator = np.random.default_rng(settings["seed"])
    fitted = generator.multivariate_normal(codes.mean(0), np.cov(codes.T), len(X))
    normal = generator.standard_normal((len(X), 2))
    reconstructions = np.asarray(model.reconstruct(X))
    return {
        "error": float(np.square(reconstructions - X).sum((1, 2)).mean()),
        "spread": codes.std(0).tolist(),
        "width": None if widths is None else float((widths / codes.std(0)).mean()),
        "continuity": continuity(model, X, n_pairs=500, random_state=settings["seed"]),
        "complete_fitted": completeness(model, fitted, X),
        "complete_normal": completeness(model, normal, X),
        "codes": np.round(codes, 3).tolist(),
        "widths": None if widths is None else np.round(widths[:N_WIDTHS], 5).tolist(),
        "labels": labels[: len(X)].tolist(),
        "image_shape": list(X.shape[1:]),
        **_grid(model, codes),
        "seconds": learning_seconds(model),
    }


def _widths(model: BaseAutoencoder, X: Float[np.ndarray, "rows height width"]) -> np.ndarray | None:
    """Return the standard deviations of q(h | x), (rows, 2); None for a map."""
    inference = model.coder_.inference
    if not isinstance(inference, DiagonalGaussian):
        return None
    with torch.no_grad():
        _, log_variance = inference.posterior(torch.from_numpy(X.reshape(len(X), -1)))
    return np.asarray(torch.exp(log_variance / 2).numpy())


def _grid(model: BaseAutoencoder, codes: Float[np.ndarray, "rows 2"]) -> dict[str, Any]:
    """Return decodings of a lattice of codes between quantiles of the units, top line first."""
    low, high = np.quantile(codes, GRID_RANGE, axis=0)
    first, second = (np.linspace(low[unit], high[unit], N_GRID) for unit in (0, 1))
    at = np.stack([np.tile(first, N_GRID), np.repeat(second[::-1], N_GRID)], 1).astype(np.float32)
    images = np.asarray(model.inverse_transform(at))
    return {
        "grid": to_bytes(images.reshape(len(images), -1)),
        "ranges": [[float(low[unit]), float(high[unit])] for unit in (0, 1)],
    }


def _rows(results: Results, setup: _Setup) -> list[Row]:
    plain, zero, one = (results[name] for name in NAMES)
    width = "width of q(h | x) over the standard deviation of the codes"
    return [
        *(Row(f"{NAMES[name]}: squared error per test digit", cell["error"]) for name, cell in results.items()),
        Row(f"beta = 0: {width}", zero["width"], form=".4f"),
        Row(f"beta = 1: {width}", one["width"], form=".4f"),
        setup.row("the same, beta = 0 over beta = 1", zero["width"] / one["width"], "width", ".3f"),
        setup.row("squared error, beta = 0 over beta = 1", zero["error"] / one["error"], "error", ".3f"),
        *(Row(f"{NAMES[name]}: continuity", cell["continuity"]) for name, cell in results.items()),
        setup.row("continuity, beta = 1 over autoencoder", one["continuity"] / plain["continuity"], "continuous",
                  ".3f"),
        *(Row(f"{NAMES[name]}: completeness, codes of N(0, I)", cell["complete_normal"], form=".3f")
          for name, cell in results.items()),
        *(Row(f"{NAMES[name]}: completeness, codes of a fitted Gaussian", cell["complete_fitted"], form=".3f")
          for name, cell in results.items()),
        setup.row("completeness, codes of N(0, I): beta = 1 over beta = 0",
                  one["complete_normal"] / max(zero["complete_normal"], 1e-3), "complete", ".3f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    spreads = "; ".join(
        f"{NAMES[name]}: {cell['spread'][0]:.2f} and {cell['spread'][1]:.2f}" for name, cell in results.items()
    )
    least = min(min(cell["complete_normal"], cell["complete_fitted"]) for cell in results.values())
    seconds = sum(cell["seconds"] for cell in results.values())
    return [
        f"The completeness of every model is at least {least:.3f}, with both distributions of codes: decodings of two "
        "units are near to digits everywhere, so that the measure does not rank these models.",
        f"Standard deviations of the two units over test digits: {spreads}.",
        "Width: the standard deviation of q(h | x) of a unit over that of its means, averaged over rows and units. At "
        "a small width the noise changes the decoded digit little, so that the code is that of an autoencoder.",
        "Continuity: the speed of the decoder between random pairs of codes over that between neighbours; 1 is even. "
        "Completeness: the fraction of decoded codes that are as near to test digits as these are to each other; 1 is "
        "all. Decodings are smoother than digits, which raises completeness. Both definitions are ours.",
        f"Training took {seconds:.0f} seconds in total.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    return {"maps-of-codes": _maps(results), "grids-of-decodings": _grids(results)}


def _maps(results: Results) -> Figure:
    """Draw the codes of test digits by class, and one standard deviation of some posteriors as ellipses."""
    from matplotlib.patches import Ellipse
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13.6, 4.7), layout="constrained")
    axs = figure.subplots(1, len(results))
    for ax, (name, cell) in zip(axs, results.items(), strict=True):
        codes, labels = np.array(cell["codes"]), np.array(cell["labels"])
        for label in np.unique(labels):
            own = codes[labels == label]
            ax.scatter(own[:, 0], own[:, 1], s=5, color=GROUPS[label], linewidths=0, label=str(label))
        for code, width in zip(codes, cell["widths"] or (), strict=False):
            ax.add_patch(Ellipse(code, 2 * width[0], 2 * width[1], fill=False, ec="black", lw=1.0))
        ax.spines[["top", "right"]].set_visible(False)
        ax.xaxis.set_major_locator(MaxNLocator(6))
        width = "" if cell["width"] is None else f"; width {cell['width']:.3f} of the spread"
        ax.set_title(NAMES[name] + width, fontsize=11, loc="left")
    axs[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3)
    figure.suptitle(f"Codes of test digits; ellipses: one standard deviation of q(h | x) of {N_WIDTHS} digits")
    return figure


def _grids(results: Results) -> Figure:
    """Draw the decodings of a lattice of codes of each model, as one image."""
    figure = Figure(figsize=(13.6, 5.0), layout="constrained")
    for ax, (name, cell) in zip(figure.subplots(1, len(results)), results.items(), strict=True):
        height, width = cell["image_shape"]
        tiles = from_bytes(cell["grid"]).reshape(N_GRID, N_GRID, height, width)
        extent = [end for ends in cell["ranges"] for end in ends]
        ax.imshow(
            tiles.transpose(0, 2, 1, 3).reshape(N_GRID * height, N_GRID * width), cmap="gray", vmin=0, vmax=1,
            extent=extent, aspect="auto", interpolation="nearest",
        )  # fmt: skip
        ax.set_box_aspect(height / width)
        ax.set_title(NAMES[name], fontsize=11, loc="left")
    figure.suptitle("Decoded codes between the 3% and the 97% quantile of each unit")
    return figure


EXPERIMENT = Experiment(
    name="latent-space",
    claim="Without the divergence a variational autoencoder makes its noise narrow, so that its code is that of an "
    "autoencoder.",
    source="Deep Learning, section 20.10.3; Kingma & Welling, Auto-encoding variational Bayes (2014), which state no "
    "figures",
    protocol=(
        "MNIST in [0, 1], the first 10,000 training digits; measures on the first 2,000 test digits. "
        "784-512-256-2-256-512-784 with SiLU units, sigmoid output, cross-entropy; Adam in fp32 at the default rate "
        "with warm-up and a cosine to zero, batches of 100, 40 epochs. An autoencoder with a linear code, and "
        "variational autoencoders whose divergence from N(0, I) has the weight 0 and 1 (after a warm-up of a tenth of "
        "the training). Continuity of 500 random and 500 nearest pairs of 10 steps; completeness of 2,000 codes."
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
