"""Pictures of the variation sets: sample images, and test errors with the published ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import COLOURS, TILE
from isthmus.report.figures import GREY


def sheet(lines: Mapping[str, Sequence[Float[np.ndarray, "_ 784"]]], *, heads: Sequence[str], title: str) -> Figure:
    """Return a contact sheet of images in [0, 1], a line for each name and in it a group for each head.

    Example:
        >>> images = np.zeros((2, 784))
        >>> len(sheet({"a": [images, images], "b": [images, images]}, heads=("left", "right"), title="").axes)
        8
    """
    counts = [len(group) for group in next(iter(lines.values()))]
    figure = Figure(figsize=(TILE * sum(counts) + 1.6, TILE * len(lines) + 0.7), layout="constrained")
    axs = figure.subplots(len(lines), sum(counts), squeeze=False)
    for line, (name, groups) in zip(axs, lines.items(), strict=True):
        for ax, image in zip(line, np.concatenate(list(groups)), strict=True):
            ax.imshow(image.reshape(28, 28), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9, labelpad=8)
    for head, first in zip(heads, np.cumsum([0, *counts[:-1]]), strict=True):
        axs[0, first].set_title(head, fontsize=9, color=GREY, loc="left")
    figure.suptitle(title, fontsize=11)
    return figure


def beside_published(
    obtained: Mapping[str, Mapping[str, float]], published: Mapping[str, Mapping[str, float]], *, title: str
) -> Figure:
    """Return a figure of errors in percent by set and method, logarithmic: ours as bars, the published as marks.

    Args:
        obtained: {set: {method: error}}; a missing method has no bar.
        published: the same for the published errors.
        title: of the figure.

    Example:
        >>> figure = beside_published({"basic": {"SVM": 3.1}}, {"basic": {"SVM": 3.03}}, title="")
        >>> [text.get_text() for text in figure.axes[0].get_xticklabels()]
        ['basic']
    """
    methods = list(dict.fromkeys(method for errors in obtained.values() for method in errors))
    figure = Figure(figsize=(1.5 + 1.35 * len(obtained), 4.2), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    width = 0.8 / len(methods)
    for number, method in enumerate(methods):
        at = [x + (number - (len(methods) - 1) / 2) * width for x in range(len(obtained))]
        ours = [errors.get(method, np.nan) for errors in obtained.values()]
        theirs = [published[name].get(method, np.nan) for name in obtained]
        ax.bar(at, ours, 0.9 * width, color=COLOURS[number], label=method)
        if not np.isnan(theirs).all():
            ax.scatter(at, theirs, marker="_", s=90, lw=2, color="black", zorder=3,
                       label="published" if number == len(methods) - 1 else None)  # fmt: skip
    ax.set_yscale("log")
    ticks = [
        tick for tick in (1, 2, 5, 10, 20, 50) if tick < 2 * max(max(errors.values()) for errors in obtained.values())
    ]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xticks(range(len(obtained)), list(obtained))
    ax.set_ylabel("test error, %")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title(title, fontsize=11, loc="left")
    return figure
