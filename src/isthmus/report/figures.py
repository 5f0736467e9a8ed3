"""Matplotlib figures: each function returns a `Figure`, and `save` writes it atomically.

The module needs the extra `figures`: `pip install 'isthmus[figures]'`. No function changes the global state of
matplotlib or opens a window.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from isthmus.errors import InputError
from isthmus.evaluation.codes import covariance_eigenvalues
from isthmus.report.formatting import read_labels
from isthmus.report.pictures import filter_pictures, visible_channels
from isthmus.report.saving import check_overwrite, save_atomically

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("isthmus.report.figures needs matplotlib: pip install 'isthmus[figures]'") from error

OURS, PCA, VALIDATION, GREY = "#2a6fbb", "#d9822b", "#a8438f", "#6b7280"
GROUPS = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#17a2a2",
    "#edb92e", "#9c755f", "#ff7fa8", "#7f8fa6", "#2f4b9c", "#8a8a8a",
)  # fmt: skip
"""Colours of groups on a white background."""


def originals_over_reconstructions(
    x: Float[np.ndarray, "rows columns"],
    r: Float[np.ndarray, "rows columns"] | Mapping[str, Float[np.ndarray, "rows columns"]],
    image_shape: Sequence[int],
    *,
    captions: Sequence[str] | None = None,
    title: str | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Figure:
    """Plot images in the first row of a figure and each set of reconstructions in a row below.

    Args:
        x: originals, (rows, columns), each flattened in (channel, height, width) order; one column of the figure each.
        r: reconstructions (rows, columns), or several by name, such as {"code size 2": ...}.
        image_shape: (channels, height, width).
        captions: a text above each image.
        title: the title of the figure.
        low, high: the values shown as black and white, in the units of x.

    Raises:
        InputError: the number of reconstructions or captions differs from the number of rows, or the shapes differ.

    Source: Deep Learning, section 14.1; Hinton & Salakhutdinov (2006), figure 2.

    Example:
        >>> x = np.random.default_rng(0).uniform(size=(4, 64))
        >>> figure = originals_over_reconstructions(x, {"mean": x * 0 + x.mean(0)}, (1, 8, 8))
        >>> len(figure.axes)
        8
    """
    lines = {"original": x, **(r if isinstance(r, Mapping) else {"reconstruction": r})}
    channels, height, width = (int(size) for size in image_shape)
    for name, rows in lines.items():
        if np.shape(rows) != (len(x), channels * height * width):
            raise InputError(
                f"{name}: shape {np.shape(rows)}, expected {(len(x), channels * height * width)} for {len(x)} images "
                f"of shape {(channels, height, width)}; pass one flattened row per image"
            )
    if captions is not None and len(captions) != len(x):
        raise InputError(f"{len(captions)} captions for {len(x)} images; pass one caption per image")
    tile = 0.75
    figure = Figure(
        figsize=(tile * len(x) + 1.3, tile * height / width * len(lines) + 0.35 * bool(captions) + 0.4 * bool(title)),
        layout="constrained",
    )
    axes = figure.subplots(len(lines), len(x), squeeze=False)
    for line, (name, rows) in zip(axes, lines.items(), strict=True):
        images = np.moveaxis(np.asarray(rows, np.float64).reshape(-1, channels, height, width), 1, -1)
        bright = np.clip((visible_channels(images) - low) / (high - low), 0, 1)
        for ax, image in zip(line, bright, strict=True):
            _draw_image(ax, image.repeat(3, -1) if image.shape[-1] == 1 else image)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, labelpad=8)
    for ax, caption in zip(axes[0], captions or (), strict=False):
        ax.set_title(caption, fontsize=8, color=GREY, pad=3)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _draw_image(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def loss_curves(history: Mapping[str, Any], *, title: str | None = None) -> Figure:
    """Plot the loss in nats per row after each epoch: training rows, validation rows and each term of the objective.

    Args:
        history: `history_` of a fitted model.
        title: the title of the figure.

    Raises:
        InputError: no epoch was completed.

    Example:
        >>> epoch = {"epoch": 0, "terms": {"reconstruction": 3.0}, "train": 2.5, "held_out": None}
        >>> figure = loss_curves({"epochs": [epoch, {**epoch, "epoch": 1, "train": 2.0}], "best_epoch": 1})
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['training rows']
    """
    epochs = history["epochs"]
    if not epochs:
        raise InputError("no epoch was completed, so there is no loss to plot; increase max_epochs or time_limit")
    figure, ax = _figure()
    steps = [epoch["epoch"] + 1 for epoch in epochs]
    marker = "o" if len(epochs) < 10 else None
    terms = list(epochs[-1]["terms"])
    for name in terms if len(terms) > 1 else ():
        values = [epoch["terms"].get(name, math.nan) for epoch in epochs]
        ax.plot(steps, values, lw=1, ls=":", marker=marker, ms=3, label=name)
    ax.plot(steps, _values(epochs, "train"), color=OURS, lw=1.8, marker=marker, ms=4, label="training rows")
    if any(epoch["held_out"] is not None for epoch in epochs):
        held_out = _values(epochs, "held_out")
        ax.plot(steps, held_out, color=VALIDATION, lw=1.8, marker=marker, ms=4, label="validation rows")
    ax.set_xlabel("epoch")
    ax.set_ylabel("nats per row")
    ax.legend(frameon=False)
    _set_title(ax, title)
    return figure


def _values(epochs: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [math.nan if epoch[name] is None else epoch[name] for epoch in epochs]


def _figure(width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def _set_title(ax: Axes, title: str | None) -> None:
    if title:
        ax.set_title(title, fontsize=11, loc="left")


def code_map(
    points: Float[np.ndarray, "rows 2"],
    *,
    labels: Any = None,
    error: Float[np.ndarray, " rows"] | None = None,
    axes: tuple[str, str] = ("", ""),
    title: str | None = None,
) -> Figure:
    """Plot codes in two dimensions, coloured by label or else by error.

    Args:
        points: (rows, 2), such as two-unit codes or `isthmus.report.code_maps.map_codes(...).points`.
        labels: one per row; groups have one colour each, measurements a colour scale.
        error: squared error of each row, used as colour if there are no labels.
        axes: names of the axes.
        title: the title of the figure.

    Raises:
        InputError: the number of labels differs from the number of points.

    Example:
        >>> points = np.random.default_rng(0).normal(size=(30, 2))
        >>> figure = code_map(points, labels=["odd", "even"] * 15)
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['even', 'odd']
    """
    points = np.asarray(points, np.float64)
    seen = read_labels(labels, len(points))
    figure, ax = _figure(6.4, 5.2)
    values = error if seen is None else seen.values
    if seen is not None and values is None:
        for i, name in enumerate(seen.names):
            members = points[seen.group == i]
            ax.scatter(members[:, 0], members[:, 1], s=9, color=GROUPS[i % len(GROUPS)], label=name, linewidths=0)
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    else:
        drawn = ax.scatter(points[:, 0], points[:, 1], s=9, c=OURS if values is None else values, linewidths=0)
        if values is not None:
            bar = figure.colorbar(drawn, ax=ax)
            bar.set_label("squared error" if seen is None else "label")
    ax.set_xlabel(axes[0])
    ax.set_ylabel(axes[1])
    if not any(axes):
        ax.set_xticks([])
        ax.set_yticks([])
    _set_title(ax, title)
    return figure


def filters(
    weight: Float[np.ndarray, "units columns"],
    image_shape: Sequence[int],
    *,
    n: int = 64,
    spread: Float[np.ndarray, " columns"] | None = None,
    title: str | None = None,
) -> Figure:
    """Plot the incoming weights of each unit as an image, in order of decreasing norm.

    Blue is negative, white is zero and red is positive; each unit has its own scale. Units with three input channels
    are shown in colour, and grey is zero.

    Args:
        weight: (units, columns), each row flattened in (channel, height, width) order.
        image_shape: (channels, height, width) of the image or of the kernel.
        n: the largest number of units.
        spread: the standard deviation of each column, by which weights are multiplied: weights of constant pixels keep
            their random initial values and would hide the others.
        title: the title of the figure.

    Raises:
        InputError: the weights do not fit the shape of the image.

    Example:
        >>> len(filters(np.random.default_rng(0).normal(size=(10, 9)), (1, 3, 3)).axes)
        10
    """
    channels, height, width = (int(size) for size in image_shape)
    weight = np.asarray(weight, np.float64)
    if weight.ndim != 2 or weight.shape[1] != channels * height * width:
        raise InputError(
            f"weights of shape {weight.shape} do not fit images of shape {(channels, height, width)}; "
            f"pass shape (units, {channels * height * width})"
        )
    if spread is not None:
        weight = weight * np.asarray(spread, np.float64)
    strongest = np.argsort(-np.linalg.norm(weight, axis=1), kind="stable")[:n]
    pictures = filter_pictures(weight[strongest].reshape(-1, channels, height, width))
    across = min(len(pictures), max(1, math.ceil(math.sqrt(2 * len(pictures)))))
    down = math.ceil(len(pictures) / across)
    figure = Figure(figsize=(0.7 * across, 0.7 * down * height / width + 0.4 * bool(title)), layout="constrained")
    axes_grid = figure.subplots(down, across, squeeze=False).ravel()
    for ax, picture in zip(axes_grid, pictures, strict=False):
        _draw_image(ax, picture)
    for ax in axes_grid[len(pictures) :]:
        ax.remove()
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def spectrum(
    codes: Float[np.ndarray, "rows code_size"],
    explained_variance: Float[np.ndarray, " code_size"] | None = None,
    *,
    title: str | None = None,
) -> Figure:
    """Plot the eigenvalues of the covariance of the codes and of a PCA, each relative to its sum.

    Args:
        codes: (rows, code_size).
        explained_variance: the variances of a PCA of the same size in decreasing order.
        title: the title of the figure.

    Example:
        >>> figure = spectrum(np.random.default_rng(0).normal(size=(50, 4)), np.array([4.0, 2.0, 1.0, 1.0]))
        >>> [round(float(y), 3) for y in figure.axes[0].lines[1].get_ydata()]
        [0.5, 0.25, 0.125, 0.125]
    """
    figure, ax = _figure()
    for name, values, colour in (
        ("code", covariance_eigenvalues(codes), OURS),
        ("PCA", explained_variance, PCA),
    ):
        if values is not None:
            total = float(np.sum(values))
            shares = np.asarray(values, np.float64) / (total if total > 0 else 1)
            ax.plot(np.arange(1, len(shares) + 1), shares, "o-", ms=4, color=colour, label=name)
    ax.set_xlabel("component")
    ax.set_ylabel("fraction of the variance")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    _set_title(ax, title)
    return figure


def save(figure: Figure, path: str | os.PathLike[str], *, force: bool = False, dpi: int = 160) -> Path:
    """Write a figure to a PNG file atomically.

    Args:
        figure: the figure.
        path: the file.
        force: replace an existing file.
        dpi: pixels per inch.

    Raises:
        InputError: the file exists and `force` is False; the folder does not exist or cannot be written to.

    Example:
        >>> import tempfile
        >>> path = save(spectrum(np.eye(3)), Path(tempfile.mkdtemp()) / "spectrum.png")
        >>> path.read_bytes()[1:4]
        b'PNG'
    """
    path = Path(path)
    check_overwrite(path, force)
    options: dict[str, Any] = {"facecolor": "white", "metadata": {"Software": None}}
    save_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=dpi, **options))
    return path
