"""Line plots of series in the report: one picture for each channel, as inline SVG in the colours of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from isthmus.report.formatting import number

MAX_CHANNELS = 8
"""Largest number of channels that are plotted."""

MAX_STEPS = 300
"""Largest number of steps of a line; longer series are plotted at evenly spaced steps."""

WIDTH, HEIGHT, MARGIN = 300, 72, 4
"""Size of a plot, in the units of its SVG."""

Lines = Mapping[str, Float[np.ndarray, "rows steps channels"]]


@dataclass(frozen=True)
class ChannelPlot:
    """The plot of one channel of one row.

    Attributes:
        name: of the channel, with the range of the plot.
        svg: the lines.
    """

    name: str
    svg: Markup


def shown_channels(error: Float[np.ndarray, "steps channels"]) -> list[int]:
    """Return the channels that are plotted: at most `MAX_CHANNELS`, those of the largest error.

    Example:
        >>> shown_channels(np.array([[0.0, 2.0], [1.0, 0.5]]))
        [0, 1]
    """
    largest = np.argsort(-np.nan_to_num(error).sum(0), kind="stable")[:MAX_CHANNELS]
    return sorted(int(channel) for channel in largest)


def channel_plots(lines: Lines, channels: Mapping[int, str]) -> list[list[ChannelPlot]]:
    """Return the plots of each row by channel. The scale of a channel is common to all rows and lines.

    Args:
        lines: series by the class of their line in the style sheet, in the units of the user; NaN interrupts a line.
        channels: names of the channels to plot, by number.

    Example:
        >>> [[plot]] = channel_plots({"original": np.array([[[1.0], [3.0]]])}, {0: "load"})
        >>> plot.name
        'load, 1 to 3'
    """
    scales = {channel: _scale(lines, channel) for channel in channels}
    n_rows = len(next(iter(lines.values())))
    return [
        [
            ChannelPlot(
                f"{channels[channel]}, {number(low)} to {number(high)}",
                _svg({name: series[i, :, channel] for name, series in lines.items()}, low, high),
            )
            for channel, (low, high) in scales.items()
        ]
        for i in range(n_rows)
    ]


def _scale(lines: Lines, channel: int) -> tuple[float, float]:
    """Return the smallest and the largest finite value of a channel."""
    values = np.concatenate([series[..., channel].ravel() for series in lines.values()])
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)


def _svg(lines: Mapping[str, Float[np.ndarray, " steps"]], low: float, high: float) -> Markup:
    """Return the lines as one SVG."""
    paths = "".join(
        f'<polyline class="{name}" points="{points}"/>'
        for name, values in lines.items()
        for points in _points(values, low, high)
    )
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img">{paths}</svg>')


def _points(values: Float[np.ndarray, " steps"], low: float, high: float) -> list[str]:
    """Return the points of each part of a line without missing values; a single step becomes a short line."""
    steps = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_STEPS)).round().astype(int))
    x = MARGIN + (WIDTH - 2 * MARGIN) * steps / max(1, len(values) - 1)
    y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (values[steps] - low) / ((high - low) or 1.0)
    found, part = [], []
    for across, down in zip(x, y, strict=True):
        if np.isfinite(down):
            part.append((across, down))
        elif part:
            found.append(part)
            part = []
    parts = [*found, part] if part else found
    return [" ".join(f"{a:.1f},{b:.1f}" for a, b in (each * 2 if len(each) == 1 else each)) for each in parts]
