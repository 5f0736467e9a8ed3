"""Atoms of models of natural image patches: the fraction of them that are Gabor functions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import COLOURS, axes, signed_lines, signed_map
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, learning_seconds, unit_images
from isthmus.data import patches
from isthmus.estimators.whitening import Whitening
from isthmus.evaluation.features import as_images
from isthmus.evaluation.gabor import gabor_fits

TARGETS = {
    "sparse": Target(0.5, "at least", "sparse codes of natural images are edges (Olshausen & Field 1996)"),
    "over-controls": Target(0.25, "at least", "atoms of models are Gabor functions more often than those of no model"),
    "coding": Target(0.5, "at least", "the same by codes that are found by optimisation (Olshausen & Field 1996)"),
    "psd": Target(0.5, "at least", "the same with an encoder that predicts the codes (Kavukcuoglu et al. 2008)"),
    "neighbours": Target(0.75, "at most", "orientations change smoothly on the map (Kavukcuoglu et al. 2009)"),
}
"""No source states figures for these patches. The first two targets were set after short trials, the others before."""

SEED = 0
N_SHOWN = 20
LEAST = 0.8
"""The bound of R^2."""

_COMMON = {"code_size": 144, "scaling": "none", "likelihood": "gaussian", "batch_size": 64, "max_epochs": 1000}

ARMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sparse": ("sparse autoencoder", "sparse", {"sparsity": "topk", "sparsity__k": 10}),
    "denoising": ("denoising autoencoder", "denoising", {"corruption": "gaussian", "corruption__scale": 1.0,
                                                         "network__tied": True, "code_activation": "relu",
                                                         "learning_rate": 0.01}),
    "rbm": ("Gaussian RBM", "rbm", {"method": "cd", "learning_rate": 0.1, "sparsity": "kl", "sparsity__weight": 3.0,
                                    "sparsity__rate": 0.03}),
    "coding": ("sparse coding", "sparse-coding", {"sparsity": "l1", "sparsity__weight": 1.5, "max_steps": 2000}),
    "psd": ("PSD", "psd", {"sparsity": "l1", "sparsity__weight": 1.5, "max_steps": 2000}),
    "map": ("topographic map", "sparse-coding", {"sparsity": "topographic", "sparsity__weight": 1.5,
                                                 "max_steps": 2000}),
}  # fmt: skip
"""Models: name in tables and pictures, kind, and arguments in addition to `_COMMON`."""

MAP = "map"
"""The arm whose units have places on a map."""

CONTROLS = {"patches": "whitened patches themselves", "pca": "principal components", "noise": "white noise"}
"""Images that no model has learned, or PCA."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    images: str
    size: int
    n_patches: int
    n_control: int
    """Number of images of a control that are fitted."""
    parameters: dict[str, Any]
    arms: tuple[str, ...]
    map_shape: list[int]
    """Rows and columns of the topographic map; their product is the code size."""


FULL = _Setup(
    targets=TARGETS, images="cifar10", size=12, n_patches=50_000, n_control=100, arms=tuple(ARMS),
    parameters={**_COMMON, "max_steps": 6000}, map_shape=[12, 12],
)  # fmt: skip

QUICK = _Setup(
    targets={"over-noise": Target(0.0, "at least", "no fit of noise is better than that of atoms")},
    images="china", size=8, n_patches=2_000, n_control=8, arms=("sparse", "map"),
    parameters={**_COMMON, "code_size": 36, "max_steps": 300}, map_shape=[6, 6],
)  # fmt: skip


def _cifar10() -> Float[np.ndarray, "n h w"]:
    return unit_images("cifar10-10k").mean(-1)


def _china() -> Float[np.ndarray, "1 h w"]:
    """Return a photograph that scikit-learn ships."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg").mean(-1, dtype=np.float64)[None] / 255


IMAGES: dict[str, Callable[[], Float[np.ndarray, "n h w"]]] = {"cifar10": _cifar10, "china": _china}
"""Grey images by name."""


def whitened_patches(images: str, size: int, n: int, seed: int) -> Float[np.ndarray, "n pixels"]:
    """Return whitened patches without their mean, as flat rows of standard deviation 1.

    Example:
        >>> rows = whitened_patches("china", 6, 200, seed=0)
        >>> rows.shape, round(float(rows.std()), 3)
        ((200, 36), 1.0)
    """
    found = patches(IMAGES[images](), size, n, random_state=seed).reshape(n, -1)
    found = found - found.mean(1, keepdims=True)
    rows = Whitening(regularization=0.2).fit_transform(found)
    return (rows / rows.std()).astype(np.float32)


def _cells(setup: _Setup) -> list[Cell]:
    data = {"images": setup.images, "size": setup.size, "n_patches": setup.n_patches, "seed": SEED}
    controls = [Cell(name, {**data, "control": name, "n": setup.n_control}, _control) for name in CONTROLS]
    models = []
    for arm in setup.arms:
        _, kind, own = ARMS[arm]
        parameters = {**setup.parameters, **own}
        if arm == MAP:
            parameters["sparsity__shape"] = setup.map_shape
        settings = {**data, "kind": kind, "parameters": parameters}
        models.append(Cell(arm, settings, _model))
    return [*controls, *models]


def _rows_of(settings: Settings) -> Float[np.ndarray, "n pixels"]:
    return whitened_patches(settings["images"], settings["size"], settings["n_patches"], settings["seed"])


def _control(settings: Settings, state: Path) -> Result:
    """Fit images that no model has learned."""
    rows, n = _rows_of(settings), settings["n"]
    if settings["control"] == "noise":
        rows = np.random.default_rng(settings["seed"]).normal(size=(n, rows.shape[1]))
    elif settings["control"] == "pca":
        rows = np.linalg.eigh(rows.T @ rows)[1].T[::-1]
    return _fitted(rows[:n], settings["size"])


def _model(settings: Settings, state: Path) -> Result:
    """Fit a model, and Gabor functions to its atoms."""
    rows = _rows_of(settings)
    model = fit_model(settings, rows=rows)
    active = float(np.mean(np.abs(model.transform(rows[:1000])) > 1e-3))
    found = _fitted(model.dictionary(), settings["size"]) | {"seconds": learning_seconds(model), "active": active}
    is_map = "sparsity__shape" in settings["parameters"]
    return found | ({"atoms": np.round(model.dictionary(), 3).tolist()} if is_map else {})


def _fitted(atoms: Float[np.ndarray, "atoms pixels"], size: int) -> dict[str, Any]:
    """Return the R^2 of each atom, the atoms of largest norm, and properties of those that are Gabor functions."""
    norms = np.linalg.norm(atoms, axis=1)
    fits = gabor_fits(as_images(np.asarray(atoms, np.float64), (1, size, size)))
    good = [fit for fit in fits if fit.r2 > LEAST]
    shown = np.argsort(-norms, kind="stable")[:N_SHOWN]
    scaled = atoms[shown] / np.abs(atoms[shown]).max(1, keepdims=True).clip(1e-12)
    return {
        "r2": [fit.r2 for fit in fits],
        "angles": [fit.angle for fit in fits],
        "points": float(np.mean([fit.r2 > LEAST and max(fit.across, fit.along) < 1 for fit in fits])),
        "frequency": float(np.median([fit.frequency for fit in good])) if good else None,
        "along": float(np.median([fit.along for fit in good])) if good else None,
        "shown": np.round(scaled, 3).tolist(),
    }


def _share(found: Result) -> float:
    return float(np.mean(np.asarray(found["r2"]) > LEAST))


def turns(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the angles between directions without a sign, in [0, pi / 2].

    Example:
        >>> turns(np.array([0.1, 0.0]), np.array([np.pi - 0.1, 1.0])).round(3).tolist()
        [0.2, 1.0]
    """
    apart = np.abs(a - b) % np.pi
    return np.minimum(apart, np.pi - apart)


def neighbour_turns(found: Result, map_shape: list[int]) -> tuple[float, float]:
    """Return the mean angle between Gabor functions that are neighbours on the torus, and between all pairs of them."""
    angles, good = np.asarray(found["angles"]), np.asarray(found["r2"]) > LEAST
    at = np.arange(len(angles)).reshape(map_shape)
    beside = [np.stack([at.ravel(), np.roll(at, -1, axis).ravel()]) for axis in (0, 1)]
    means = []
    for one, other in (np.concatenate(beside, 1), np.triu_indices(len(angles), 1)):
        both = good[one] & good[other]
        means.append(float(turns(angles[one], angles[other])[both].mean()) if both.any() else 0.0)
    return means[0], means[1]


def _name(cell: str) -> str:
    return CONTROLS.get(cell) or ARMS[cell][0]


def _rows(results: Results, setup: _Setup) -> list[Row]:
    rows = [setup.row(f"{_name(name)}: fraction of Gabor functions (R^2 > {LEAST})", _share(found), name)
            for name, found in results.items()]  # fmt: skip
    rows += [Row(f"{_name(name)}: median R^2", float(np.median(found["r2"]))) for name, found in results.items()]
    best, plain = (max(_share(results[name]) for name in names) for names in (setup.arms, CONTROLS))
    rows.append(setup.row("fraction of the best model minus that of the best control", best - plain, "over-controls"))
    medians = {name: float(np.median(found["r2"])) for name, found in results.items()}
    difference = medians[setup.arms[0]] - medians["noise"]
    rows.append(setup.row(f"median R^2, {_name(setup.arms[0])} minus white noise", difference, "over-noise"))
    near, any_two = neighbour_turns(results[MAP], setup.map_shape)
    measured = "topographic map: mean angle between neighbours that are Gabor functions, over that of any two"
    rows.append(setup.row(measured, near / any_two if any_two else 1.0, "neighbours"))
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    points = ", ".join(f"{_name(arm)} {results[arm]['points']:.0%}" for arm in setup.arms)
    active = ", ".join(f"{_name(arm)} {results[arm]['active']:.0%}" for arm in setup.arms)
    shapes = ", ".join(
        f"{_name(arm)} {found['frequency']:.2f} cycles a pixel, {found['along']:.1f} pixels along the bars"
        for arm in setup.arms
        if (found := results[arm])["frequency"] is not None
    )
    seconds = sum(results[arm]["seconds"] for arm in setup.arms)
    return [
        f"A point of one pixel is fitted, too. Atoms that are points (deviations below 1 pixel): {points}.",
        f"Medians of the Gabor functions: {shapes or 'none'}.",
        f"Units that are active (above .001) in a row: {active}.",
        f"Training took {seconds:.0f} seconds in total.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    shown: Mapping[str, Any] = {_name(name): np.asarray(found["shown"]) for name, found in results.items()}
    return {
        "atoms": signed_lines(shown, (1, setup.size, setup.size), title="Atoms of largest norm"),
        "map": signed_map(
            np.asarray(results[MAP]["atoms"]), setup.map_shape, (1, setup.size, setup.size),
            title="All atoms of the topographic map, each at its place on the torus",
        ),
        "r2": _distributions({_name(name): found["r2"] for name, found in results.items()}),
    }  # fmt: skip


def _distributions(r2: Mapping[str, list[float]]) -> Figure:
    """Return a figure of the fraction of atoms with an R^2 above each bound; lines of controls are dashed."""
    figure, ax = axes(7.6)
    for colour, (name, values) in zip(itertools.cycle(COLOURS), r2.items(), strict=False):
        line = "--" if name in CONTROLS.values() else "-"
        ax.plot(np.sort(values), 1 - np.arange(len(values)) / len(values), line, color=colour, lw=1.8, label=name)
    ax.axvline(LEAST, color="black", lw=0.8, ls=":")
    ax.set_xlim(0, 1)
    ax.set_xlabel("R^2 of the Gabor function")
    ax.set_ylabel("fraction of atoms above")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title("Fits of Gabor functions", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="natural-patches",
    claim="Sparse models of whitened patches of natural images learn Gabor functions.",
    source=(
        "Olshausen & Field, Emergence of simple-cell receptive field properties by learning a sparse code for natural "
        "images, Nature 381 (1996); Kavukcuoglu et al., Fast inference in sparse coding algorithms (2008) and Learning "
        "invariant features through topographic filter maps (2009); Vincent et al., Stacked denoising autoencoders, "
        "JMLR 11 (2010), section 4. They state no fractions; the bound of R^2 is ours"
    ),
    protocol=(
        "50,000 grey patches of 12 x 12 pixels of CIFAR-10 10k, without their mean, whitened (ZCA, a fifth of the mean "
        "eigenvalue added), 144 units. Sparse autoencoder: the 10 largest units of a row. Denoising autoencoder: tied "
        "rectified linear units, Gaussian noise of the standard deviation of the patches. RBM: Gaussian visible units "
        "of unit variance, CD-1, a target rate of 3%. 6,000 steps of 64 patches each. Sparse coding and predictive "
        "sparse decomposition (PSD): L1 of weight 1.5, the dictionary updated online. Topographic map: sparse coding "
        "whose penalty, of weight 1.5, is the norm of neighbourhoods of 3 x 3 units on a torus of 12 x 12. 2,000 steps "
        "of 64 patches each. The settings were found by short trials, those of the last three models on other patches "
        "of these images. A Gabor function is fitted by least squares to each atom of the decoder. Controls: 100 "
        "patches, principal components and images of white noise."
    ),
    minutes=11,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
