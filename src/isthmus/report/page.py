"""The HTML report: one self-contained file that needs no network, written atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from isthmus.data.dataset import as_pandas
from isthmus.data.series import WindowedSeries
from isthmus.errors import InputError, pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.evaluation.codes import covariance_eigenvalues, unit_statistics
from isthmus.evaluation.reconstruction import evaluate
from isthmus.report import charts
from isthmus.report.code_maps import MAX_MAP_ROWS, map_codes
from isthmus.report.configuration import STOPPED, configuration, phases
from isthmus.report.decoder_section import DecoderSection, decoder_section
from isthmus.report.examples import RowInfo, example_groups, hover_pictures, hover_values
from isthmus.report.features import feature_report
from isthmus.report.formatting import Labels, number, percent, read_labels, read_row_names
from isthmus.report.layers import first_layer
from isthmus.report.model_samples import model_samples
from isthmus.report.report_data import ReportData, collect_report_data, sample, take, user_columns
from isthmus.report.saving import check_overwrite, save_atomically
from isthmus.report.series_section import series_section
from isthmus.report.similar_rows import similar_rows
from isthmus.report.summary import comparison_rows, headline, histograms, summary_cards

MAX_ERROR_COLUMNS = 30
"""Largest number of columns in the chart of errors."""

ENOUGH_ROWS = 30
"""Smallest number of rows for an estimate of the columns' standard deviations."""

MAX_ERROR_MAP_SIDE = 96
"""Pixels of the longer side of the error map; larger maps are averaged."""


def write(
    model: BaseAutoencoder,
    X: Any,
    path: str | os.PathLike[str],
    *,
    labels: Any = None,
    row_names: Iterable[Any] | None = None,
    title: str | None = None,
    force: bool = False,
    random_state: int = 0,
) -> Path:
    """Write a report on a model and the rows `X` to one self-contained HTML file, which needs no network.

    Sections: findings of the doctor, loss by epoch, reconstructions, the series of windows over time, samples of a
    generative model (those of a table compared with the rows), a map of the codes, rows with similar codes, the decoder
    with a slider for each unit of the code, spectrum and histograms of the codes, units with their top-activating rows,
    weights of the first layer, error by column or pixel, comparison with PCA, and configuration.

    Args:
        model: a fitted estimator.
        X: rows in any form that the model accepts, preferably test rows. A data set of `isthmus.data.open` provides
            labels, row names and title as well; windows of `isthmus.data.windows` add the section on the series.
        path: the file.
        labels: one per row: classes, measurements, or lists of topics; they colour the map.
        row_names: one per row; the default is the index of a table, or the number of the row.
        title: the title of the report.
        force: replace an existing file.
        random_state: seed of the sample of rows on the map (at most 2,000), of t-SNE and of samples.

    Returns:
        The path.

    Raises:
        InputError: the file exists and `force` is False; its folder does not exist or cannot be written to; there are
            no rows, or the model cannot read them; the number of labels or names differs from the number of rows.

    Example:
        >>> import tempfile
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(30, 4))
        >>> model = LinearAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X)
        >>> write(model, X, Path(tempfile.mkdtemp()) / "report.html").name
        'report.html'
    """
    path = Path(path)
    check_overwrite(path, force)
    series: WindowedSeries | None = None
    if isinstance(X, WindowedSeries):
        series, row_names, X = X, X.row_names if row_names is None else row_names, X.X
    elif hasattr(X, "X") and hasattr(X, "row_names"):
        labels = X.labels if labels is None else labels
        row_names = X.row_names if row_names is None else row_names
        title, series, X = title or str(X.name), getattr(X, "windows", None), X.X
    page = render(model, _as_rows(X), labels, row_names, title, random_state, series)
    save_atomically(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return path


def _as_rows(X: Any) -> Any:
    """Convert other tables to pandas and lists to arrays, so that rows can be selected."""
    X = as_pandas(X)
    if hasattr(X, "tocsr"):
        return X.tocsr()
    return np.asarray(X) if isinstance(X, list | tuple) else X


def render(
    model: BaseAutoencoder,
    X: Any,
    labels: Any,
    row_names: Iterable[Any] | None,
    title: str | None,
    random_state: int,
    series: WindowedSeries | None = None,
) -> str:
    """Render the page to one string."""
    report_data = collect_report_data(model, X)
    n = report_data.n_rows
    names = RowInfo(read_row_names(row_names, X, n), read_labels(labels, n), report_data.squared_error)
    history: dict[str, Any] = model.history_
    scores, notes = evaluate_model(model, X, names.labels, random_state)
    spread = np.sqrt(report_data.column_variance) if n >= ENOUGH_ROWS else None
    filters = first_layer(model, spread)
    code_map, map_chart, points = map_of_codes(model, X, report_data, names, random_state)
    groups = example_groups(model, X, names)
    section = decoder_section(model, X, report_data, names, code_map, np.asarray(points["row"]))
    all_charts = {**measured_charts(model, report_data), "map": map_chart}
    if filters is not None and filters.chart is not None:
        all_charts["filters"] = filters.chart
    similar = similar_rows(model, X, report_data.codes, np.asarray(points["row"]), names)
    if similar is not None:
        all_charts["distances"] = similar.chart
    over_time = None if series is None else series_section(model, series)
    if over_time is not None:
        all_charts |= over_time.charts
    template = _environment().get_template("report.html")
    return template.render(
        **template_values(model, report_data, scores),
        title=title or f"{model.kind} autoencoder",
        scores=scores,
        notes=[*history.get("notes", []), *scores["notes"], *notes],
        groups=groups,
        few=all(len(group.examples) == 1 for group in groups),
        code_map=code_map,
        n_points=len(points["row"]),
        labelled=names.labels is not None,
        model_samples=model_samples(model, X, report_data.n_rows, random_state),
        features=feature_report(model, X, report_data, names, spread),
        filters=filters,
        similar=similar,
        over_time=over_time,
        **decoder_values(section),
        drawn=set(all_charts),
        hides_terms=charts.hides_lines(all_charts.get("loss")),
        charts=json_for_script(all_charts),
        points=json_for_script(points),
        style=_file("report.css"),
        script=_file("report.js"),
        plotly=_plotly(),
    )


def template_values(model: BaseAutoencoder, report_data: ReportData, scores: dict[str, Any]) -> dict[str, Any]:
    """Return the texts, numbers and tables of the page by their names in the template."""
    history: dict[str, Any] = model.history_
    return {
        "headline": headline(model, scores),
        "cards": summary_cards(model, scores),
        "history": history,
        "stopped": STOPPED.get(history["stopped"], history["stopped"]),
        "phases": phases(history),
        "has_validation": any(epoch["held_out"] is not None for epoch in history["epochs"]),
        "pictured": model.preprocessing_.image_shape is not None,
        "series": model.preprocessing_.is_series,
        "sparse": model.preprocessing_.source in ("sparse", "text"),
        "histograms": histograms(report_data.codes, unit_statistics(report_data.codes)),
        "code_size": model.code_size_,
        "effective_units": number(effective_units(covariance_eigenvalues(report_data.codes))),
        "n_columns": len(user_columns(model.preprocessing_)),
        "most_columns": MAX_ERROR_COLUMNS,
        "comparison": comparison_rows(report_data, scores["below_pca"] is None),
        "better_share": percent(float(np.mean(report_data.squared_error < report_data.pca_squared_error))),
        "configuration": configuration(model, report_data.n_rows),
    }


def decoder_values(section: DecoderSection | str) -> dict[str, Any]:
    """Return the values of the decoder section by their names in the template."""
    if isinstance(section, str):
        return {"decoder": None, "no_decoder": section}
    return {
        "decoder": section,
        "no_decoder": "",
        "decoder_data": json_for_script(section.data),
        "decoder_script": _file("decoder.js"),
    }


def measured_charts(model: BaseAutoencoder, report_data: ReportData) -> dict[str, charts.Chart]:
    """Return the charts that need only the report data; empty charts are omitted."""
    explained = model.baseline_.explained_variance.numpy()
    drawn = {
        "loss": charts.loss_chart(model.history_),
        "spectrum": charts.spectrum_chart(covariance_eigenvalues(report_data.codes), explained),
        "comparison": charts.comparison_chart(report_data.squared_error, report_data.pca_squared_error),
        "error": error_chart(model, report_data),
    }
    return {name: chart for name, chart in drawn.items() if chart is not None}


def evaluate_model(
    model: BaseAutoencoder, X: Any, labels: Labels | None, random_state: int
) -> tuple[dict[str, Any], list[str]]:
    """Evaluate the model; if the labels are not classes, omit the classifiers and return a note with the reason."""
    if labels is None:
        return evaluate(model, X, random_state=random_state), []
    if labels.values is not None:
        reason = "the labels are measurements, so no classifiers were fitted"
        return evaluate(model, X, random_state=random_state), [reason]
    try:
        return evaluate(model, X, np.asarray(labels.keys), random_state), []
    except InputError as error:
        reason = f"no classifiers were fitted: {error}"
        return evaluate(model, X, random_state=random_state), [reason]


def map_of_codes(
    model: BaseAutoencoder, X: Any, report_data: ReportData, names: RowInfo, random_state: int
) -> tuple[Any, charts.Chart, dict[str, Any]]:
    """Return the map of the codes, its chart, and the tooltip contents of its points."""
    rows = sample(report_data.n_rows, MAX_MAP_ROWS, random_state)
    error = report_data.squared_error[rows]
    found = map_codes(report_data.codes[rows], error, random_state=random_state)
    labels = names.labels.take(rows) if names.labels else None
    points: dict[str, Any] = {
        "row": rows.tolist(),
        "name": [names.rows[row] for row in rows],
        "label": labels.text if labels else None,
        "error": [number(float(e)) for e in error],
    }
    if model.preprocessing_.image_shape is not None:
        points["pictures"] = hover_pictures(model, X, rows)
    else:
        points["values"] = hover_values(model, X, rows, report_data.column_mean, report_data.column_variance)
    if model.preprocessing_.source == "text":
        texts = model.preprocessing_.compared(take(X, rows))
        points["text"] = [" ".join(text.split())[:160] for text in texts]
    return found, charts.map_chart(found, labels, error), points


def error_chart(model: BaseAutoencoder, report_data: ReportData) -> charts.Chart:
    """Return heat maps of the error by pixel, or bars by column."""
    shape = model.preprocessing_.image_shape
    ours, pca = report_data.column_error, report_data.pca_column_error
    if shape is not None and min(shape[1:]) > 1:
        by_pixel = {"autoencoder": ours, "PCA": pca}
        return charts.pixel_chart({name: _pixel_map(e, shape) for name, e in by_pixel.items()})
    columns = user_columns(model.preprocessing_)
    starts = [column.members[0] for column in columns]
    ours, pca, variance = (np.add.reduceat(values, starts) for values in (ours, pca, report_data.column_variance))
    largest = np.argsort(-ours, kind="stable")[:MAX_ERROR_COLUMNS]
    left = np.divide(ours, variance, out=np.full_like(ours, np.nan), where=variance > 0)
    names = [columns[i].name for i in largest]
    return charts.column_chart(names, ours[largest], pca[largest], left[largest])


def _pixel_map(error: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Compute the root mean squared error over channels by pixel, or by block of pixels."""
    mean = error.reshape(shape).mean(0)
    step = -(-max(shape[1:]) // MAX_ERROR_MAP_SIDE)
    if step > 1:
        across, down = np.arange(0, shape[2], step), np.arange(0, shape[1], step)
        sums = np.add.reduceat(np.add.reduceat(mean, down, axis=0), across, axis=1)
        counts = np.outer(np.diff([*down, shape[1]]), np.diff([*across, shape[2]]))
        mean = sums / counts
    return np.sqrt(mean)


def effective_units(eigenvalues: np.ndarray) -> float:
    """Compute the participation ratio (sum l)^2 / sum l^2, the effective number of dimensions.

    Example:
        >>> effective_units(np.array([1.0, 1.0, 0.0])), effective_units(np.zeros(2))
        (2.0, 0.0)
    """
    total = float((eigenvalues**2).sum())
    return float(eigenvalues.sum() ** 2 / total) if total > 0 else 0.0


def json_for_script(data: Any) -> Markup:
    """Serialise to JSON that cannot end the script element that contains it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _environment() -> Environment:
    """Return the template environment; every text is escaped unless it is of type Markup."""
    environment = Environment(
        loader=PackageLoader("isthmus.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "percent": percent}
    environment.globals["counted"] = pluralize
    return environment


def _file(name: str) -> Markup:
    """Return a file of this package, which needs no escaping."""
    return Markup(resources.files("isthmus.report").joinpath("templates", name).read_text("utf-8"))


def _plotly() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())
