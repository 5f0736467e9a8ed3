"""Binary digits, the log-likelihood and test error of models of them, and pictures of their samples."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import TILE
from experiments.experiment import Result, Settings
from experiments.learning import fit_model, from_bytes, load_dataset, load_rows, to_bytes
from isthmus.evaluation.partition import PartitionEstimate

SEED = 0

BINARIZATION = (
    "Each pixel is sampled once, 1 with its grey value as the probability (seed 0), in training and test digits."
)
"""The binarization of the digits, for protocols."""


@functools.lru_cache(maxsize=4)
def binary(source: str) -> Float[np.ndarray, "rows height width"]:
    """Return the images of a data set as binary images: one seeded Bernoulli sample of each pixel.

    Example:
        >>> digits = binary("digits:test")
        >>> digits.shape, sorted(set(digits.ravel().tolist()))
        ((539, 8, 8), [0.0, 1.0])
    """
    grey = load_rows(source)
    rate = torch.from_numpy(grey.astype(np.float32) / (255 if grey.dtype == np.uint8 else 1))
    generator = torch.Generator().manual_seed(SEED)
    return (torch.rand(rate.shape, generator=generator) < rate).float().numpy()


def probability(model: Any, settings: Settings, train: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    """Return log Z by annealing, and the mean log-likelihood or bound under it, with three standard errors of log Z.

    Args:
        model: of a kind with `estimate_log_partition` and `score_samples`.
        settings: of a cell, with n_chains and n_temperatures of annealing, and the seed.
        train, test: rows.
    """
    estimate: PartitionEstimate = model.estimate_log_partition(
        settings["n_chains"], settings["n_temperatures"], random_state=settings["seed"]
    )
    assumed = model.log_partition_
    means = [float(model.score_samples(part).mean()) + assumed - estimate.log_partition for part in (train, test)]
    low, high = estimate.interval
    return {
        "train": means[0], "test": means[1], "low": means[1] + estimate.log_partition - high,
        "high": means[1] + estimate.log_partition - low, "log_partition": estimate.log_partition, "known": assumed,
        "standard_error": estimate.standard_error, "effective": estimate.effective_sample_size,
    }  # fmt: skip


def core_minutes(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of some work and its minutes of processor time, which other processes do not affect."""
    start = time.process_time()
    return work(), (time.process_time() - start) / 60


def density(settings: Settings) -> Result:
    """Fit a model of binary digits: its log-likelihood, that of independent pixels, and its chains."""
    train, test = binary(settings["train"]), binary(settings["test"])
    model, minutes = core_minutes(lambda: fit_model(settings, rows=train))
    return {
        **probability(model, settings, train[: len(test)], test),
        "independent": independent(train, test),
        "minutes": minutes,
        "chains": sample_chains(model, settings["lengths"]),
        "shape": list(train.shape[1:]),
    }


def independent(train: np.ndarray, test: np.ndarray) -> float:
    """Return the mean log-likelihood of test rows under independent pixels with the rates of the training rows.

    Example:
        >>> bool(independent(np.array([[0.0], [1.0]]), np.array([[1.0]])) == np.log(0.5))
        True
    """
    rate = (train.sum(0) + 1) / (len(train) + 2)
    return float(np.where(test > 0.5, np.log(rate), np.log1p(-rate)).reshape(len(test), -1).sum(1).mean())


def error(settings: Settings) -> Result:
    """Fit the same kind of model to grey digits and fine-tune it with labels: its test error in percent."""
    model, before = core_minutes(lambda: fit_model(settings))
    classifier = model.to_classifier(random_state=settings["seed"], verbose=1).set_params(**settings["tuning"])
    labels = [load_dataset(settings[part]).labels for part in ("train", "test")]
    _, after = core_minutes(lambda: classifier.fit(load_rows(settings["train"]), labels[0]))
    wrong = 100 * (1 - classifier.score(load_rows(settings["test"]), labels[1]))
    return {"error": wrong, "minutes": before + after, "epochs": len(classifier.history_["epochs"])}


def chain_picture(cell: Result, title: str) -> Figure:
    """Return a picture of the chains of a `density`, a line for each length."""
    lines = {f"{n} step{'' if n == '1' else 's'}": from_bytes(images) for n, images in cell["chains"].items()}
    return grey_lines(lines, cell["shape"], title=title)


def sample_chains(model: Any, lengths: Sequence[int], n: int = 12) -> dict[str, list[list[int]]]:
    """Sample chains of the given numbers of Gibbs steps, n images each: the means given the last codes."""
    return {
        f"{length:,}": to_bytes(model.sample(n, random_state=SEED, n_steps=length, mean=True).reshape(n, -1))
        for length in lengths
    }


def grey_lines(lines: Mapping[str, Float[np.ndarray, "images pixels"]], shape: Sequence[int], *, title: str) -> Figure:
    """Return a picture of lines of grey images with their names.

    Example:
        >>> len(grey_lines({"a": np.eye(4), "b": np.eye(4)}, (2, 2), title="two lines").axes)
        8
    """
    height, width = shape
    across = max(len(images) for images in lines.values())
    figure = Figure(figsize=(TILE * across + 1.6, TILE * len(lines) * height / width + 0.4), layout="constrained")
    axs = figure.subplots(len(lines), across, squeeze=False)
    for line, (name, images) in zip(axs, lines.items(), strict=True):
        for ax, image in zip(line, np.asarray(images).reshape(-1, height, width), strict=False):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for ax in line:
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, labelpad=8)
    figure.suptitle(title, fontsize=11)
    return figure
