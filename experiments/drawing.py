"""Pictures of the experiments, drawn from stored results only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from isthmus.report.figures import GREY, OURS, PCA
from isthmus.report.pictures import signed_colours

COLOURS = (PCA, OURS, "#a8438f", "#59a14f", GREY, "#17a2a2", "#e15759")
"""Colours of curves; the first is for the baseline."""

TILE = 0.72
"""Size of an image in a line of images, in inches."""


def signed_lines(
    lines: Mapping[str, Float[np.ndarray, "images pixels"]], image_shape: Sequence[int], *, title: str
) -> Figure:
    """Return lines of signed images, each scaled by its largest magnitude: blue is negative, white zero, red positive.

    Example:
        >>> len(signed_lines({"a": np.eye(4), "b": np.eye(4)}, (1, 2, 2), title="two lines").axes)
        8
    """
    _, height, width = image_shape
    across = max(len(images) for images in lines.values())
    figure = Figure(figsize=(TILE * across + 1.4, TILE * len(lines) * height / width + 0.4), layout="constrained")
    axs = figure.subplots(len(lines), across, squeeze=False)
    for line, (name, images) in zip(axs, lines.items(), strict=True):
        coloured = signed_colours(np.asarray(images, np.float64).reshape(-1, height, width))
        for ax, image in zip(line, coloured, strict=False):
            ax.imshow(image, interpolation="nearest")
        for ax in line:
            _bare(ax)
        _name(line[0], name)
    figure.suptitle(title, fontsize=11)
    return figure


def signed_map(
    atoms: Float[np.ndarray, "units pixels"], map_shape: Sequence[int], image_shape: Sequence[int], *, title: str
) -> Figure:
    """Return a map of signed images, row by row, each scaled by its largest magnitude; colours as in `signed_lines`.

    Args:
        atoms: the images.
        map_shape: rows and columns of the map.
        image_shape: (channels, height, width), of one channel.
        title: of the figure.

    Example:
        >>> signed_map(np.eye(6, 4), (2, 3), (1, 2, 2), title="a map").axes[0].images[0].get_array().shape
        (7, 10, 3)
    """
    (down, across), (_, height, width) = map_shape, image_shape
    tiles = signed_colours(np.asarray(atoms, np.float64).reshape(-1, height, width))
    apart = np.pad(tiles, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=160)
    sheet = apart.reshape(down, across, height + 1, width + 1, 3).swapaxes(1, 2)
    sheet = np.pad(sheet.reshape(down * (height + 1), -1, 3), ((1, 0), (1, 0), (0, 0)), constant_values=160)
    figure = Figure(figsize=(0.5 * across, 0.5 * down * height / width + 0.4), layout="constrained")
    ax = figure.subplots()
    ax.imshow(sheet, interpolation="nearest")
    _bare(ax)
    figure.suptitle(title, fontsize=11)
    return figure


def image_lines(
    lines: Mapping[str, Float[np.ndarray, "images pixels"]],
    image_shape: Sequence[int],
    *,
    title: str,
    heads: Sequence[str] = (),
    tile: float = TILE,
) -> Figure:
    """Return lines of images of pixels in [0, 1] by name, each of equally many.

    Args:
        lines: images by the name of the line.
        image_shape: (height, width) of grey images, (height, width, 3) of colour images.
        title: of the figure.
        heads: names of the columns.
        tile: width of an image, in inches.

    Example:
        >>> len(image_lines({"a": np.eye(4), "b": np.eye(4)}, (2, 2), title="two lines").axes)
        8
    """
    height, width = image_shape[:2]
    across = max(len(images) for images in lines.values())
    beside = 0.4 + 0.08 * max(len(part) for name in lines for part in name.split("\n"))
    size = (tile * across + beside, tile * len(lines) * height / width + 0.4 + 0.2 * bool(heads))
    figure = Figure(figsize=size, layout="constrained")
    axs = figure.subplots(len(lines), across, squeeze=False)
    for line, (name, images) in zip(axs, lines.items(), strict=True):
        for ax, image in zip(line, np.asarray(images).reshape(-1, *image_shape), strict=True):
            ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            _bare(ax)
        _name(line[0], name)
    for ax, head in zip(axs[0], heads, strict=False):
        ax.set_title(head, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _name(ax: Axes, name: str) -> None:
    ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, labelpad=8)


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    across: str,
    up: str,
    title: str,
    levels: Mapping[str, float] | None = None,
    doubling: bool = False,
    from_zero: bool = True,
) -> Figure:
    """Return a figure of curves by name, (x, y) each, and of dashed levels by name.

    Args:
        lines: x and y by the name of the curve.
        across, up: labels of the axes.
        title: of the figure.
        levels: horizontal lines for comparison.
        doubling: use a logarithmic scale of base 2 for x, with a tick at each x.
        from_zero: start the y axis at zero, else at the lowest value.

    Example:
        >>> figure = curves({"ours": ([1, 2], [3.0, 2.0])}, across="epoch", up="error", title="", levels={"PCA": 4.0})
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['PCA', 'ours']
    """
    figure, ax = axes(7.6)
    colours = list(COLOURS)
    for name, level in (levels or {}).items():
        ax.axhline(level, color=colours.pop(0), ls="--", lw=1.4, label=name)
    for name, (x, y) in lines.items():
        ax.plot(x, y, color=colours.pop(0), lw=1.8, marker="o", ms=3.5, label=name)
    ax.set_xlabel(across)
    ax.set_ylabel(up)
    if from_zero:
        ax.set_ylim(bottom=0)
    if doubling:
        ticks = list(next(iter(lines.values()))[0])
        ax.set_xscale("log", base=2)
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title(title, fontsize=11, loc="left")
    return figure


def axes(width: float = 6.4, height: float = 3.8) -> tuple[Figure, Any]:
    """Return a figure with one pair of axes, without the upper and right spine."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax
