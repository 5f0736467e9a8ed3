"""Interactive charts as plotly data, in which a colour is the name of a CSS variable.

The script of the page replaces the variables by the colours of the light or the dark theme, in colour attributes only.
Plotly interprets some HTML in every text, so all text of the user must pass through `plain`.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from isthmus.report.code_maps import CodeMap
from isthmus.report.formatting import OTHER_LABELS, Labels, number

Chart = dict[str, Any]

OURS, PCA, VALIDATION = "var(--ours)", "var(--pca)", "var(--validation)"
SERIES, ERROR = "var(--muted)", "var(--pca)"
TERMS = ("var(--group-3)", "var(--group-5)", "var(--group-6)", "var(--group-8)")
SEQUENTIAL = [[i / 4, f"var(--scale-{i})"] for i in range(5)]
POINTS = [[i / 2, f"var(--mark-{i})"] for i in range(3)]
DIVERGING = [[0, "var(--minus)"], [0.5, "var(--zero)"], [1, "var(--plus)"]]


def plain(text: Any, most: int = 48) -> str:
    """Escape a text of the user for plotly and truncate it to `most` characters.

    Plotly does not decode the entities of quotes, so quotes are not escaped.

    Example:
        >>> plain('<b>&"')
        '&lt;b&gt;&amp;"'
    """
    text = " ".join(str(text).split())
    return html.escape(text if len(text) <= most else f"{text[: most - 1]}…", quote=False)


SMALLEST_SHARE = 1e-5
"""Fraction of the variance below which a direction of the codes is not drawn."""

DIGITS_OF_LOSS = 9
"""Significant digits of losses, which change little next to constants of densities."""

FEWEST_OF_AXIS = 0.25
"""Smallest fraction of the axis of a chart over which the losses vary when terms are shown with them."""


def numbers(values: Any, digits: int = 5) -> list[float | None]:
    """Round to significant digits, by default five, to keep the page small; NaN and infinity become None."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in np.asarray(values, np.float64).ravel()]


def axis(title: str = "", **options: Any) -> dict[str, Any]:
    """Return an axis of a chart; the options are those of plotly."""
    return {"title": {"text": title}, "zeroline": False, "automargin": True, **options}


def chart(data: list[dict[str, Any]], height: int, **layout: Any) -> Chart:
    """Return a chart of plotly's traces; the options are those of its layout."""
    layout = {"margin": {"l": 56, "r": 16, "t": 16, "b": 48}, "hovermode": "closest", **layout}
    layout.setdefault("legend", {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"})
    return {"data": data, "layout": {"height": height, **layout}}


def loss_chart(history: Mapping[str, Any]) -> Chart | None:
    """Plot the loss by epoch: each term of the objective during training, the training rows and the validation rows."""
    epochs = history["epochs"]
    if not epochs:
        return None
    steps = [epoch["epoch"] + 1 for epoch in epochs]
    mode = "lines+markers" if len(epochs) < 12 else "lines"

    def line(name: str, values: list[Any], colour: str, **style: Any) -> dict[str, Any]:
        values = numbers([np.nan if v is None else v for v in values], DIGITS_OF_LOSS)
        return {
            "type": "scatter", "mode": mode, "name": plain(name), "x": steps, "y": values,
            "line": {"color": colour, "width": 2.2, **style},
            "hovertemplate": "epoch %{x}<br>%{y:,.7g} nats<extra>%{fullData.name}</extra>",
        }  # fmt: skip

    losses = [line("training rows", [e["train"] for e in epochs], OURS)]
    if any(e["held_out"] is not None for e in epochs):
        losses.append(line("validation rows", [e["held_out"] for e in epochs], VALIDATION))
    terms = [
        line(f"{name} (term during training)", [e["terms"].get(name) for e in epochs],
             TERMS[i % len(TERMS)], width=1.3, dash="dot")
        for i, name in enumerate(sorted({name for epoch in epochs for name in epoch["terms"]}))
    ]  # fmt: skip
    data = [*(term if fits_in(term["y"], losses) else term | {"visible": "legendonly"} for term in terms), *losses]
    shapes = []
    best = history.get("best_epoch", -1)
    if 0 <= best < len(epochs) - 1:
        shapes.append({"type": "line", "xref": "x", "yref": "paper", "x0": best + 1, "x1": best + 1, "y0": 0,
                       "y1": 1, "line": {"color": "var(--muted)", "width": 1, "dash": "dash"}})  # fmt: skip
    ticks = {"tickmode": "linear", "dtick": 1} if len(epochs) <= 12 else {}
    return chart(data, 360, shapes=shapes, xaxis=axis("epoch", **ticks), yaxis=axis("nats per row"))


def hides_lines(drawn: Chart | None) -> bool:
    """Return whether some lines of a chart are hidden until their name is clicked."""
    return drawn is not None and any(trace.get("visible") == "legendonly" for trace in drawn["data"])


def fits_in(values: Sequence[float | None], losses: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether losses still vary over a quarter of an axis that shows these values, too.

    Terms have levels of their own, such as constants of densities, next to which a loss seems to be constant.

    Example:
        >>> losses = [{"y": [725.0, 722.0, 721.0]}]
        >>> fits_in([723.0, 720.0, 719.0], losses), fits_in([1.5, 1.2, 1.0], losses), fits_in([None], losses)
        (True, False, True)
    """
    shown = [value for loss in losses for value in loss["y"] if value is not None]
    known = [value for value in values if value is not None]
    if not shown or not known:
        return True
    spread = max(shown) - min(shown)
    return spread == 0 or spread >= FEWEST_OF_AXIS * (max(*shown, *known) - min(*shown, *known))


def map_chart(found: CodeMap, labels: Labels | None, error: Float[np.ndarray, " rows"]) -> Chart:
    """Plot codes in two dimensions: one trace per label, and a hidden trace of all codes coloured by error."""
    x, y = numbers(found.points[:, 0]), numbers(found.points[:, 1])
    data, annotations = [], []
    if labels is not None and labels.values is None:
        for i, name in enumerate(labels.names):
            rows = np.flatnonzero(labels.group == i)
            if len(rows):
                colour = "var(--muted)" if name == OTHER_LABELS else f"var(--group-{i})"
                data.append(_points([x[r] for r in rows], [y[r] for r in rows], rows, plain(name, 24), colour))
        annotations = _group_names(found.points, labels)
    elif labels is not None:
        data.append(_scale(x, y, labels.values, "label"))
    for trace in data:
        trace["meta"] = "label"
    data.append({**_scale(x, y, error, "squared<br>error"), "meta": "error", "visible": labels is None})
    bare = {"showticklabels": False, "ticks": "", "showgrid": False, "showline": False} if not any(found.axes) else {}
    same = {"scaleanchor": "x", "scaleratio": 1} if found.method in ("t-SNE", "PCA") else {}
    return chart(
        data, 620, annotations=annotations, dragmode="pan", showlegend=labels is not None and labels.values is None,
        xaxis=axis(found.axes[0], **bare), yaxis=axis(found.axes[1], **bare, **same),
        legend={"orientation": "v", "x": 1.01, "y": 0.94, "itemsizing": "constant"},
        margin={"l": 40 if bare else 64, "r": 16, "t": 16, "b": 24 if bare else 48},
    )  # fmt: skip


def _points(x: list[Any], y: list[Any], rows: np.ndarray, name: str, colour: Any) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": x, "y": y, "customdata": rows.tolist(),
        "hoverinfo": "none",
        "marker": {"size": 6 if len(x) > 400 else 8, "opacity": 0.85, "color": colour, "line": {"width": 0}},
    }  # fmt: skip


def _scale(x: list[Any], y: list[Any], values: Any, title: str) -> dict[str, Any]:
    """Plot all points coloured by a value; the scale covers the 2nd to the 98th percentile to limit outliers."""
    values = np.asarray(values, np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (2, 98)) if len(finite) else (0.0, 1.0)
    trace = _points(x, y, np.arange(len(values)), title, numbers(values))
    trace["marker"] |= {
        "colorscale": POINTS, "cmin": float(low), "cmax": float(max(high, low + 1e-12)), "showscale": True,
        "colorbar": {"title": {"text": title, "font": {"size": 13}}, "thickness": 12, "outlinewidth": 0, "len": 0.6},
    }  # fmt: skip
    return {**trace, "showlegend": False}


def _group_names(points: Float[np.ndarray, "rows 2"], labels: Labels) -> list[dict[str, Any]]:
    """Place the name of each group at its densest point, unless another name is already there."""
    spread = np.ptp(points, axis=0)
    placed: list[np.ndarray] = []
    annotations = []
    for i, name in enumerate(labels.names):
        members = points[labels.group == i]
        if len(members) < 3 or name == OTHER_LABELS or len(name) > 16:
            continue
        middle = _densest(members)
        share = middle / np.where(spread > 0, spread, 1)
        wide = 0.012 * max(3, len(name))
        if any(abs(share[0] - p[0]) < wide + p[2] and abs(share[1] - p[1]) < 0.05 for p in placed):
            continue
        placed.append(np.array([*share, wide]))
        annotations.append({
            "x": float(middle[0]), "y": float(middle[1]), "text": f"<b>{plain(name)}</b>", "showarrow": False,
            "font": {"size": 14, "color": "var(--ink)"}, "bgcolor": "var(--veil)", "borderpad": 2,
            "captureevents": False,
        })  # fmt: skip
    return annotations


def _densest(points: Float[np.ndarray, "rows 2"]) -> Float[np.ndarray, " 2"]:
    """Return the point with the smallest distance to its (n / 10)-th nearest neighbour."""
    apart = np.square(points[:, None] - points[None]).sum(-1)
    reach = np.partition(apart, max(1, len(points) // 10), axis=1)[:, max(1, len(points) // 10)]
    return points[reach.argmin()]


def spectrum_chart(eigenvalues: Float[np.ndarray, " units"], explained: Float[np.ndarray, " components"]) -> Chart:
    """Plot the fraction of the variance in each principal direction of the codes and of the PCA baseline.

    Directions after the first 20 are left out from where the fraction is below `SMALLEST_SHARE`.
    """
    data = []
    for name, values, colour in (("code", eigenvalues, OURS), ("PCA", explained, PCA)):
        total = float(np.sum(values))
        shares = np.asarray(values, np.float64) / (total if total > 0 else 1)
        shares = shares[: max(20, int(np.searchsorted(-shares, -SMALLEST_SHARE)))]
        few = {"type": "bar", "marker": {"color": colour}}
        many = {"type": "scatter", "mode": "lines+markers", "line": {"color": colour, "width": 2.2}}
        data.append({
            **(few if len(eigenvalues) <= 20 else many), "name": name, "x": list(range(1, len(shares) + 1)),
            "y": numbers(shares), "customdata": numbers(values[: len(shares)]),
            "hovertemplate": "component %{x}<br>%{y:.1%} of the variance (%{customdata:.4g})"
                             "<extra>%{fullData.name}</extra>",
        })  # fmt: skip
    ticks = {"tickmode": "linear", "dtick": 1} if len(eigenvalues) <= 20 else {}
    return chart(
        data, 340, barmode="group", bargap=0.4, xaxis=axis("component", **ticks),
        yaxis=axis("fraction of the variance", tickformat=".0%", rangemode="tozero"),
    )  # fmt: skip


def comparison_chart(ours: Float[np.ndarray, " rows"], pca: Float[np.ndarray, " rows"]) -> Chart:
    """Plot histograms of the squared errors of the rows for the model and for PCA."""
    together = np.concatenate([ours, pca])
    high = float(np.percentile(together, 99.5)) or 1.0
    edges = np.linspace(0, max(high, float(together.min()) + 1e-12), 41)
    data = []
    for name, values, colour in (("autoencoder", ours, "ours"), ("PCA", pca, "pca")):
        counts, _ = np.histogram(np.minimum(values, edges[-1]), edges)
        data.append({
            "type": "scatter", "mode": "lines", "name": name, "x": numbers((edges[:-1] + edges[1:]) / 2),
            "y": counts.tolist(), "line": {"color": f"var(--{colour})", "width": 2, "shape": "hvh"},
            "fill": "tozeroy", "fillcolor": f"var(--{colour}-soft)",
            "hovertemplate": "squared error about %{x:.4g}<br>%{y} rows<extra>%{fullData.name}</extra>",
        })  # fmt: skip
    return chart(data, 320, xaxis=axis("squared error per row"), yaxis=axis("number of rows", rangemode="tozero"))


def column_chart(
    names: Sequence[str],
    ours: Float[np.ndarray, " columns"],
    pca: Float[np.ndarray, " columns"],
    share_left: Float[np.ndarray, " columns"],
) -> Chart:
    """Plot bars of the squared error by column for the model and for PCA, the largest at the top.

    `share_left` is the squared error relative to the variance of the column, NaN for a constant column.
    """
    order = np.argsort(ours, kind="stable")
    ticks = [plain(names[i], 32) for i in order]
    places = list(range(len(order)))
    data = []
    for name, values, colour in (("PCA", pca, PCA), ("autoencoder", ours, OURS)):
        hover_texts = [f"{name}: {number(float(values[i]))}" for i in order]
        if colour == OURS:
            hover_texts = [
                text if np.isnan(share_left[i]) else f"{text}<br>{share_left[i]:.1%} of the variance"
                for text, i in zip(hover_texts, order, strict=True)
            ]
        data.append({
            "type": "bar", "orientation": "h", "name": name, "y": places, "x": numbers(values[order]),
            "marker": {"color": colour}, "text": hover_texts, "textposition": "none", "customdata": ticks,
            "hovertemplate": "<b>%{customdata}</b><br>%{text}<extra></extra>",
        })  # fmt: skip
    return chart(
        data, 110 + 26 * len(places), barmode="group", bargap=0.3,
        xaxis=axis("mean squared error (model units)", rangemode="tozero"),
        yaxis=axis(tickmode="array", tickvals=places, ticktext=ticks, showgrid=False),
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "traceorder": "reversed"},
    )  # fmt: skip


def pixel_chart(maps: Mapping[str, Float[np.ndarray, "height width"]]) -> Chart:
    """Plot heat maps of the root mean squared error by pixel, side by side on one colour scale."""
    high = max(float(values.max()) for values in maps.values()) or 1.0
    data, annotations = [], []
    layout: dict[str, Any] = {}
    width = 1 / len(maps)
    for i, (name, values) in enumerate(maps.items()):
        suffix = "" if i == 0 else str(i + 1)
        data.append({
            "type": "heatmap", "z": [numbers(line) for line in values], "zmin": 0, "zmax": high,
            "colorscale": SEQUENTIAL, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "showscale": i == len(maps) - 1,
            "colorbar": {"thickness": 12, "outlinewidth": 0, "len": 0.8},
            "hovertemplate": f"row %{{y}}, column %{{x}}<br>%{{z:.4g}}<extra>{name}</extra>",
        })  # fmt: skip
        bare: dict[str, Any] = {"showticklabels": False, "ticks": "", "showgrid": False, "constrain": "domain"}
        domain = [i * width + 0.01, (i + 1) * width - 0.01]
        layout[f"xaxis{suffix}"] = axis(**bare, domain=domain)
        layout[f"yaxis{suffix}"] = axis(**bare, autorange="reversed", scaleanchor=f"x{suffix}", anchor=f"x{suffix}")
        annotations.append({"text": name, "x": 0.5, "y": 1.02, "xref": f"x{suffix} domain",
                            "yref": f"y{suffix} domain", "yanchor": "bottom", "showarrow": False})  # fmt: skip
    return chart(data, 400, annotations=annotations, margin={"l": 8, "r": 8, "t": 36, "b": 8}, **layout)


PANEL, BETWEEN, ABOVE, BELOW = 120, 34, 64, 48
"""Heights in pixels: of a panel of a series, of the space between two of them, and of the margins."""


def series_chart(
    times: Sequence[Any],
    channels: Mapping[str, tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]],
    error: Float[np.ndarray, " steps"],
) -> Chart:
    """Plot each channel of a series and its reconstruction over time, and the error in the panel at the bottom.

    NaN interrupts a line. The panels have one axis of time.
    """
    n = len(channels) + 1
    inner = n * PANEL + (n - 1) * BETWEEN
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {}
    titles, last = [], [("squared error", error, ERROR)]
    for i, name in enumerate([*channels, "squared error (model units)"]):
        suffix = "" if i == 0 else str(i + 1)
        top = 1 - i * (PANEL + BETWEEN) / inner
        layout[f"yaxis{suffix}"] = axis(
            domain=[max(0.0, top - PANEL / inner), top], nticks=4, rangemode="normal" if i < len(channels) else "tozero"
        )
        titles.append({"text": plain(name), "x": 0, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left",
                       "yanchor": "bottom", "showarrow": False})  # fmt: skip
        pair = list(channels.values())[i : i + 1]
        lines = [("series", pair[0][0], SERIES), ("reconstruction", pair[0][1], OURS)] if pair else last
        data += [
            {
                "type": "scatter", "mode": "lines", "name": trace, "x": times, "y": numbers(values), "xaxis": "x",
                "yaxis": f"y{suffix}", "line": {"color": colour, "width": 1.8 if colour == OURS else 1.3},
                "showlegend": i == 0, "legendgroup": trace,
                "hovertemplate": f"{trace}<br>%{{x}}<br>%{{y:.5g}}<extra></extra>",
            }
            for trace, values, colour in lines
        ]  # fmt: skip
    return chart(
        data, inner + ABOVE + BELOW, annotations=titles, xaxis=axis(anchor=f"y{n}"),
        margin={"l": 56, "r": 16, "t": ABOVE, "b": BELOW},
        legend={"orientation": "h", "x": 0, "y": 1 + 26 / inner, "yanchor": "bottom"}, **layout,
    )  # fmt: skip


def error_overview(lines: Mapping[str, tuple[Sequence[Any], Float[np.ndarray, " parts"]]]) -> Chart:
    """Plot the largest squared error in each part of time, one line for each series."""
    data = [
        {
            "type": "scatter", "mode": "lines", "name": plain(name, 24), "x": times, "y": numbers(values),
            "line": {"color": f"var(--group-{i})", "width": 1.3}, "showlegend": len(lines) > 1,
            "hovertemplate": "%{x}<br>squared error %{y:.4g}<extra>%{fullData.name}</extra>",
        }
        for i, (name, (times, values)) in enumerate(lines.items())
    ]  # fmt: skip
    return chart(data, 300, xaxis=axis(), yaxis=axis("largest squared error", rangemode="tozero"))


def weight_chart(weight: Float[np.ndarray, "units columns"], units: Sequence[int], columns: Sequence[str]) -> Chart:
    """Plot a heat map of weights with one row per column of the data and one column per unit."""
    high = float(np.abs(weight).max()) or 1.0
    names = [plain(name, 32) for name in columns]
    numbered = [str(unit) for unit in units]
    data = {
        "type": "heatmap", "z": [numbers(line) for line in weight.T], "zmin": -high, "zmax": high,
        "x": list(range(len(numbered))), "y": list(range(len(names))), "xgap": 1, "ygap": 1,
        "colorscale": DIVERGING, "colorbar": {"thickness": 12, "outlinewidth": 0},
        "customdata": [[f"unit {unit}, {name}" for unit in numbered] for name in names],
        "hovertemplate": "%{customdata}<br>%{z:.3g}<extra></extra>",
    }  # fmt: skip
    return chart(
        [data], 110 + 20 * len(names),
        xaxis=axis("unit", tickmode="array", tickvals=data["x"], ticktext=numbered, tickangle=0, showgrid=False),
        yaxis=axis(tickmode="array", tickvals=data["y"], ticktext=names, autorange="reversed", showgrid=False),
    )  # fmt: skip
