"""Noise removed from digits, faces and series, compared with median, non-local means and wavelets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import image_lines
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, from_bytes, learning_seconds, load_dataset, to_bytes, unit_images
from experiments.noise_baselines import METHODS
from isthmus.data import windows

Signals = Float[np.ndarray, "n *positions"]
"""Images (n, height, width) or series (n, steps)."""

SEED = 0
N_SHOWN = 8
"""Number of test images that a picture shows: the first ones."""

OURS = "denoise"
ESTIMATED = "denoise, level estimated"
_OTHERS = "a trained model has seen clean signals of the kind, the others have not"


@dataclass(frozen=True)
class Data:
    """Clean signals, split.

    Attributes:
        train, validation, test: signals.
        peak: the range of the values, for both measures.
    """

    train: Signals
    validation: Signals
    test: Signals
    peak: float = 1.0


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    levels: dict[str, list[float]]
    parameters: dict[str, dict[str, Any]]
    sizes: dict[str, int]
    """Side of the patches, or steps of the windows, that a model reads; 0 is a whole image."""
    n_train: int
    shown: dict[str, int]
    """Number of the level whose images a picture shows."""


_COMMON = {
    "scaling": "standard", "likelihood": "gaussian", "precision": "fp32", "corruption": "gaussian",
    "code_activation": "silu", "max_epochs": 1000,
}  # fmt: skip


def _parameters(highest: float, width: int, **others: Any) -> dict[str, Any]:
    """Return the arguments of a model of one hidden layer, trained with noise up to a level in model space."""
    own = {"corruption__scale": [0.0, highest], "hidden_sizes": [width], "code_size": width}
    return {**_COMMON, **own, **others}


LEVELS = {"digits": [0.1, 0.25, 0.5], "faces": [0.05, 0.1, 0.2], "series": [0.1, 0.3, 0.6]}

FULL = _Setup(
    levels=LEVELS,
    targets={f"{data}, {level:g}": Target(0.0, "at least", _OTHERS)
             for data, levels in LEVELS.items() for level in levels},
    parameters={
        "digits": _parameters(2.0, 512, learning_rate=2e-3, batch_size=256, max_steps=8000),
        "faces": _parameters(1.7, 512, learning_rate=2e-3, batch_size=256, max_steps=5000),
        "series": _parameters(1.0, 256, learning_rate=2e-3, batch_size=256, max_steps=4000),
    },
    sizes={"digits": 12, "faces": 8, "series": 64}, n_train=200_000, shown={"digits": 1, "faces": 1},
)  # fmt: skip

QUICK = _Setup(
    levels={"small-digits": [0.5]}, targets={"small-digits, 0.5": Target(0.0, "at least", _OTHERS)},
    parameters={"small-digits": _parameters(1.5, 64, batch_size=64, max_steps=500)}, sizes={"small-digits": 0},
    n_train=2000, shown={"small-digits": 0},
)  # fmt: skip


def _digits() -> Data:
    images = unit_images("mnist", 10_000)
    return Data(images[:-100], images[-50:], unit_images("mnist:test", 200))


def _faces() -> Data:
    """Return faces of disjoint persons: 28, 4 and 8; of the last two groups a quarter and a half of the images."""
    source = load_dataset("olivetti")
    images, person = unit_images("olivetti"), np.asarray(source.labels).astype(int)
    number = person - person.min()
    train, validation, test = (images[(number >= a) & (number < b)] for a, b in ((0, 28), (28, 32), (32, 40)))
    return Data(train, validation[::4], test[::2])


def _small_digits() -> Data:
    train = unit_images("digits:train")
    return Data(train[:-50], train[-50:], unit_images("digits:test")[:50])


def sines_with_breaks(n: int, steps: int, generator: np.random.Generator) -> Float[np.ndarray, "n steps"]:
    """Return sums of three sines, which change phase and level at two random steps.

    Example:
        >>> sines_with_breaks(5, 256, np.random.default_rng(0)).shape
        (5, 256)
    """
    time = np.arange(steps)
    breaks = np.sort(generator.integers(1, steps, (n, 2)), axis=1)
    part = (time >= breaks[:, :1]).astype(int) + (time >= breaks[:, 1:])
    total = np.take_along_axis(generator.normal(0, 0.7, (n, 3)), part, 1)
    for _ in range(3):
        period, size = np.exp(generator.uniform(np.log(12), np.log(120), (n, 1))), generator.uniform(0.2, 0.8, (n, 1))
        phase = np.take_along_axis(generator.uniform(0, 2 * np.pi, (n, 3)), part, 1)
        total += size * np.sin(2 * np.pi * time / period + phase)
    return total


def _series() -> Data:
    generator = np.random.default_rng(SEED)
    train, validation, test = (sines_with_breaks(n, 256, generator) for n in (4000, 40, 100))
    return Data(train, validation, test, peak=4.0)


DATA: dict[str, Callable[[], Data]] = {
    "digits": _digits, "faces": _faces, "series": _series, "small-digits": _small_digits,
}  # fmt: skip
"""Signals by name; the quick form uses small digits."""


def with_noise(clean: Signals, level: float, seed: int) -> Signals:
    """Return the signals with Gaussian noise."""
    return clean + level * np.random.default_rng(seed).normal(size=clean.shape)


def measures(made: Signals, clean: Signals, peak: float) -> dict[str, float]:
    """Return means over signals of the peak signal-to-noise ratio in decibels and of the structural similarity.

        PSNR = 10 log10(peak^2 / mean squared error)

    Example:
        >>> clean = np.linspace(0, 1, 64).reshape(1, 8, 8)
        >>> {name: round(value, 2) for name, value in measures(clean + 0.1, clean, 1.0).items()}
        {'psnr': 20.0, 'ssim': 0.98}
    """
    from skimage.metrics import structural_similarity

    error = np.square(made - clean).reshape(len(clean), -1).mean(1)
    similar = [
        structural_similarity(ours, truth, data_range=peak)
        for ours, truth in zip(np.asarray(made, np.float64), np.asarray(clean, np.float64), strict=True)
    ]
    return {"psnr": float((10 * np.log10(peak**2 / error)).mean()), "ssim": float(np.mean(similar))}


def _cells(setup: _Setup) -> list[Cell]:
    cells = []
    for name, levels in setup.levels.items():
        common = {"data": name, "levels": levels, "seed": SEED, "shown": setup.shown.get(name)}
        own = {"kind": "denoising", "parameters": setup.parameters[name], "size": setup.sizes[name],
               "n_train": setup.n_train}  # fmt: skip
        cells += [Cell(f"{name}-others", common, _others), Cell(name, {**common, **own}, _model)]
    return cells


def _others(settings: Settings, state: Path) -> Result:
    """Return the measures of the noisy signals and of the methods without training, each with its best setting."""
    data, found = DATA[settings["data"]](), {}
    for number, level in enumerate(settings["levels"]):
        noisy = with_noise(data.test, level, settings["seed"])
        trial = with_noise(data.validation, level, settings["seed"] + 1)
        made: dict[str, Signals] = {"noisy": noisy}
        chosen: dict[str, Any] = {}
        for name, (method, options) in METHODS.items():
            scores = [
                measures(_each(method, trial, level, given), data.validation, data.peak)["psnr"] for given in options
            ]
            chosen[name] = dict(options[int(np.argmax(scores))])
            made[name] = _each(method, noisy, level, chosen[name])
        found[f"{level:g}"] = {
            "measures": {name: measures(values, data.test, data.peak) for name, values in made.items()},
            "chosen": chosen,
            "shown": {name: to_bytes(_flat(values)) for name, values in {**made, "true": data.test}.items()}
            if number == settings["shown"] else {},
        }  # fmt: skip
    return {"levels": found, "n_test": len(data.test), "shape": list(data.test.shape[1:])}


def _each(method: Callable[..., Any], signals: Signals, level: float, options: Any) -> Signals:
    return np.stack([method(signal, level, **options) for signal in signals])


def _flat(signals: Signals) -> Signals:
    return signals[:N_SHOWN].reshape(min(N_SHOWN, len(signals)), -1)


def _model(settings: Settings, state: Path) -> Result:
    """Fit a model on clean signals, and return its measures with the level given and estimated."""
    data, size = DATA[settings["data"]](), settings["size"]
    rows = parts_of(data.train, size, settings["n_train"], settings["seed"])
    model: Any = fit_model(settings, rows=rows)
    found = {}
    for number, level in enumerate(settings["levels"]):
        noisy = with_noise(data.test, level, settings["seed"])
        made = {OURS: _denoised(model, noisy, size, level), ESTIMATED: _denoised(model, noisy, size, None)}
        found[f"{level:g}"] = {
            "measures": {name: measures(values, data.test, data.peak) for name, values in made.items()},
            "estimated": float(model.noise_level(noisy if noisy.ndim > 2 else noisy[..., None])[0]),
            "shown": to_bytes(_flat(made[OURS])) if number == settings["shown"] else [],
        }
    return {"levels": found, "seconds": learning_seconds(model)}


def parts_of(signals: Signals, size: int, n: int, seed: int) -> Signals:
    """Return random patches of images, or windows of series (n, size, 1); the signals themselves for a size of 0.

    Example:
        >>> parts_of(np.zeros((3, 28, 28)), 8, 10, 0).shape, parts_of(np.zeros((3, 256)), 64, 10, 0).shape
        ((10, 8, 8), (10, 64, 1))
    """
    if size == 0:
        return signals
    generator = np.random.default_rng(seed)
    every = np.lib.stride_tricks.sliding_window_view(
        signals, (size,) * (signals.ndim - 1), axis=tuple(range(1, signals.ndim))
    )
    places = tuple(generator.integers(0, length, n) for length in every.shape[: signals.ndim])
    found = every[places].astype(np.float32)
    return found if signals.ndim > 2 else found[..., None]


def _denoised(model: Any, noisy: Signals, size: int, level: float | None) -> Signals:
    """Return denoised images, or series by the mean of their windows."""
    if noisy.ndim > 2:
        return np.asarray(model.denoise(noisy, level))
    n, steps = noisy.shape
    table = pd.DataFrame({"series": np.repeat(np.arange(n), steps), "x": noisy.ravel()})
    cut = windows(table, size, size // 8, group="series")
    return cut.by_time(model.denoise(cut, level)).reshape(n, steps)


def _best(results: Results, data: str, level: str, measure: str) -> float:
    found = results[f"{data}-others"]["levels"][level]["measures"]
    return float(max(found[name][measure] for name in METHODS))


def _rows(results: Results, setup: _Setup) -> list[Row]:
    rows = []
    for data, levels in setup.levels.items():
        for level in (f"{each:g}" for each in levels):
            others = results[f"{data}-others"]["levels"][level]["measures"]
            ours = results[data]["levels"][level]["measures"]
            case = f"{data}, noise of {level}"
            rows += [Row(f"{case}: PSNR of {name}, dB", found["psnr"]) for name, found in {**others, **ours}.items()]
            above = ours[OURS]["psnr"] - _best(results, data, level, "psnr")
            rows += [
                setup.row(f"{case}: PSNR above the best of the others, dB", above, f"{data}, {level}"),
                Row(f"{case}: SSIM", ours[OURS]["ssim"], form=".3f"),
                Row(f"{case}: SSIM above the best of the others",
                    ours[OURS]["ssim"] - _best(results, data, level, "ssim"), form=".3f"),
            ]  # fmt: skip
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    seconds = sum(results[data]["seconds"] for data in setup.levels)
    remarks = [
        f"{OURS} and the other methods get the true level; {ESTIMATED} estimates it from all test signals. "
        f"Training took {seconds:.0f} seconds in total.",
    ]
    for data, levels in setup.levels.items():
        found = results[f"{data}-others"]["levels"]
        estimated = ", ".join(f"{results[data]['levels'][f'{each:g}']['estimated']:.3f}" for each in levels)
        similar = "; ".join(
            f"{level:g}: " + ", ".join(
                f"{name} {values['ssim']:.3f}" for name, values in found[f"{level:g}"]["measures"].items()
            )
            for level in levels
        )  # fmt: skip
        chosen = "; ".join(f"{level:g}: {_settings(found[f'{level:g}']['chosen'])}" for level in levels)
        remarks.append(
            f"{data}, {results[f'{data}-others']['n_test']} test signals: estimated levels {estimated}; SSIM of the "
            f"others at {similar}. Settings by PSNR on validation signals at {chosen}."
        )
    return remarks


def _settings(chosen: Any) -> str:
    parts: Sequence[str] = [
        f"{name} ({', '.join(f'{key} {value}' for key, value in options.items())})" for name, options in chosen.items()
    ]
    return ", ".join(parts)


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    pictures = {}
    for data, number in setup.shown.items():
        level = f"{setup.levels[data][number]:g}"
        others = dict(results[f"{data}-others"]["levels"][level]["shown"])
        truth = others.pop("true")
        lines = {**others, OURS: results[data]["levels"][level]["shown"], "true": truth}
        pictures[data] = image_lines(
            {name: from_bytes(images) for name, images in lines.items()}, results[f"{data}-others"]["shape"],
            title=f"Test images of {data} with noise of {level}", tile=0.9,
        )  # fmt: skip
    return pictures


EXPERIMENT = Experiment(
    name="noise-removal",
    claim="A denoising autoencoder of clean signals removes noise better than median, non-local means and wavelets.",
    source="Vincent et al. (2010) and Burger, Schuler & Harmeling (2012); the comparison is ours",
    protocol=(
        "Gaussian noise at three levels. digits: MNIST, models of the first 9,900 training images, 200 test images. "
        "faces: Olivetti, 28 persons for training, 10 images of 4 others for validation, 40 images of 8 others for the "
        "test. series: sums "
        "of three sines of 256 steps that change phase and level at two random steps, 100 test series. The models read "
        "patches of 12 x 12 pixels (digits) and 8 x 8 (faces), and windows of 64 steps; one hidden layer and a code of "
        "512 units (series 256), standardised values, Gaussian noise uniform up to 2 (digits), 1.7 (faces) and 1 "
        "(series) standard deviations, batches of 256, 8,000, 5,000 and 4,000 steps. `denoise` takes the mean of "
        "overlapping patches or windows. Others: median of 3, 5 or 7; non-local means of scikit-image with h of .6, .8 "
        "or 1 times the level, with and without fast mode, for series our own by the same formula; wavelets: our own "
        "BayesShrink, the rule of scikit-image, Haar, db2 or db4, averaged over shifts. Their settings are chosen for "
        "each level on validation signals, like those of the models. PSNR and SSIM (scikit-image) for a range of 1, "
        "series 4."
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
"""The experiment."""
