"""Pictures of the experiments, each made of kept results alone."""

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
"""Of curves: the first for what others are compared with."""

TILE = 0.72
"""Inches of an image in a line of images."""


def signed_lines(
    lines: Mapping[str, Float[np.ndarray, "images pixels"]], image_shape: Sequence[int], *, title: str
) -> Figure:
    """Lines of signed images, each by its own largest magnitude: blue is negative, white zero, red positive.

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
    """Lines by name, (x, y) each, and levels by name, dashed.

    Args:
        lines: x and y by the name of the line.
        across, up: names of the axes.
        title: a text over the figure.
        levels: horizontal lines to compare with.
        doubling: x is drawn on a scale on which doubling is a step, with a tick at each x.
        from_zero: y is drawn from zero on, else from the lowest value.

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
    """A figure with one open frame."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax
