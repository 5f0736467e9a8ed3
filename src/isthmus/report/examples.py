"""Example rows with their reconstructions, and the content of the tooltips of the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.records import ModelOutput
from isthmus.report.formatting import Labels, number, value_text
from isthmus.report.pictures import (
    MAX_IMAGE_SIDE,
    THUMBNAIL_SIDE,
    BrightnessScale,
    contact_sheet,
    downsample,
    png_uri,
    sheet_uri,
)
from isthmus.report.report_data import Column, best_typical_worst, read_rows, user_columns
from isthmus.report.series import ChannelPlot, channel_plots, shown_channels

TABLE_ROWS = 3
"""Rows per group if rows are not images; they need more space."""

SHOWN_COLUMNS, MORE_CELLS = 12, 60
"""Columns of a row that are shown at first, and the largest number of columns."""

SCREEN_ROWS = 256
"""Number of rows that determine the common brightness scale of thumbnails."""

HOVER_COLUMNS = 6
"""Columns of a row in a tooltip."""

_EXPLAINED = {
    "best": ("Best", "the smallest squared errors"),
    "typical": ("Typical", "squared errors around the median"),
    "worst": ("Worst", "the largest squared errors"),
}


@dataclass(frozen=True)
class Cell:
    """One column of one row: original and reconstruction as text, and their relative difference from 0 to 1."""

    column: str
    original: str
    reconstruction: str
    heat: float


@dataclass(frozen=True)
class Example:
    """One row: as pictures, as plots by channel, or as cells in the order of importance."""

    name: str
    label: str
    error: str
    pictures: dict[str, str] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    more: list[Cell] = field(default_factory=list)
    plots: list[ChannelPlot] = field(default_factory=list)
    excerpt: str = ""


@dataclass(frozen=True)
class Group:
    """A group of rows: best, typical or worst."""

    title: str
    explanation: str
    examples: list[Example]


@dataclass(frozen=True)
class RowInfo:
    """Name, label and squared error of each row."""

    rows: Sequence[str]
    labels: Labels | None
    error: Float[np.ndarray, " rows"]

    def of(self, row: int) -> tuple[str, str, str]:
        """Return name, label and squared error of a row as text."""
        return self.rows[row], self.labels.text[row] if self.labels else "", number(float(self.error[row]))


def example_rows(model: BaseAutoencoder, error: Float[np.ndarray, " rows"]) -> dict[str, Int[np.ndarray, " picked"]]:
    """Return the indices of the rows that are shown as examples: best, typical and worst."""
    return best_typical_worst(error) if model.preprocessing_.image_shape else best_typical_worst(error, TABLE_ROWS)


def example_groups(model: BaseAutoencoder, X: Any, names: RowInfo) -> list[Group]:
    """Return the best, typical and worst rows with their reconstructions."""
    known = model.preprocessing_
    shown = _pictured if known.image_shape is not None else _plotted if known.is_series else _tabled
    picked = example_rows(model, names.error)
    every = np.concatenate(list(picked.values()))
    examples = shown(model, X, every, names)
    groups, start = [], 0
    for name, rows in picked.items():
        groups.append(Group(*_EXPLAINED[name], examples[start : start + len(rows)]))
        start += len(rows)
    return groups


def _pictured(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"], names: RowInfo) -> list[Example]:
    """Return each row as a picture with its reconstructions by the model and by PCA."""
    outputs = [output for _, output in read_rows(model, X, rows)]
    brightness = BrightnessScale.of(model.preprocessing_, np.concatenate([output.x.numpy() for output in outputs]))
    examples: list[Example] = []
    for output in outputs:
        pca = model.baseline_.decode(model.baseline_.encode(output.x, output.mask))
        lines = {"original": output.x, "reconstruction": output.reconstruction, "PCA": pca}
        shown = {name: downsample(brightness.show(x.numpy()), MAX_IMAGE_SIDE) for name, x in lines.items()}
        for i in range(len(output.x)):
            pictures = {name: png_uri(pixels[i]) for name, pixels in shown.items()}
            examples.append(Example(*names.of(int(rows[len(examples)])), pictures=pictures))
    return examples


def _plotted(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"], names: RowInfo) -> list[Example]:
    """Return each row as line plots by channel, with its reconstructions by the model and by PCA."""
    restored, parts = model.preprocessing_.inverse_transform, []
    for raw, output in read_rows(model, X, rows):
        of_pca = model.baseline_.decode(model.baseline_.encode(output.x, output.mask)).numpy()
        parts.append((np.asarray(raw, np.float64), restored(output.reconstruction.numpy()), restored(of_pca)))
    original, reconstruction, pca = (np.concatenate(each) for each in zip(*parts, strict=True))
    known = model.preprocessing_
    shown = shown_channels(np.nanmean((original - reconstruction) ** 2, axis=0) / _variances(model))
    chosen = {channel: known.channels[channel] for channel in shown}
    plots = channel_plots({"original": original, "pca": pca, "model": reconstruction}, chosen)
    return [Example(*names.of(int(row)), plots=plots[i]) for i, row in enumerate(rows)]


def _variances(model: BaseAutoencoder) -> Float[np.ndarray, "steps channels"]:
    """Return the squares of the scales of the entries of series, in the units of the user."""
    return model.preprocessing_.as_rows(np.square(model.preprocessing_.scale)[None])[0]


def _tabled(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"], names: RowInfo) -> list[Example]:
    """Return each row as a table of values; differences are in model units, relative to the largest difference."""
    blocks = list(read_rows(model, X, rows))
    differences = _differences(user_columns(model.preprocessing_), [output for _, output in blocks])
    largest = max((float(np.nanmax(block, initial=0)) for block in differences), default=0.0) or 1.0
    examples: list[Example] = []
    for (raw, output), difference in zip(blocks, differences, strict=True):
        values = _Values(model, raw, output)
        for i in range(len(output.x)):
            order = values.most_informative(i, difference[i], MORE_CELLS)
            cells = [
                Cell(values.columns[j].name, values.original(i, j), values.reconstruction(i, j),
                     0.0 if values.missing(i, j) else float(difference[i, j]) / largest)
                for j in order
            ]  # fmt: skip
            row = names.of(int(rows[len(examples)]))
            examples.append(
                Example(*row, cells=cells[:SHOWN_COLUMNS], more=cells[SHOWN_COLUMNS:], excerpt=values.excerpt(i))
            )
    return examples


def _differences(columns: Sequence[Column], outputs: Sequence[ModelOutput]) -> list[np.ndarray]:
    """Compute the distance of row and reconstruction in each of the user's columns, (rows, columns) per block."""
    starts = [column.members[0] for column in columns]
    squares = (output.squared_residuals.numpy() for output in outputs)
    return [np.sqrt(np.add.reduceat(block, starts, axis=1)) for block in squares]


def matrix(values: Any) -> np.ndarray:
    """Convert a table, a sparse matrix or an array to a dense matrix."""
    if hasattr(values, "tocsr"):
        return np.asarray(values.toarray())
    if hasattr(values, "iloc"):
        return np.asarray(values.to_numpy(dtype=object))
    return np.asarray(values).reshape(len(values), -1)


class _Values:
    """A block of rows and their reconstructions in the user's units."""

    def __init__(self, model: BaseAutoencoder, raw: Any, output: ModelOutput) -> None:
        preprocessing = model.preprocessing_
        self.columns = user_columns(preprocessing)
        self.sparse = preprocessing.source in ("sparse", "text")
        self.texts = preprocessing.source == "text"
        self._raw = raw
        restored = preprocessing.inverse_transform(output.reconstruction.numpy())
        original = preprocessing.inverse_transform(output.x.numpy()) if self.sparse else raw
        if preprocessing.is_series:  # a channel is described by its mean over the steps
            restored, original = np.mean(restored, axis=1), np.mean(original, axis=1)
        self._restored, self._original = matrix(restored), matrix(original)

    def original(self, i: int, j: int) -> str:
        """Return an original value as text."""
        return self._text(self._original[i, j])

    def reconstruction(self, i: int, j: int) -> str:
        """Return a reconstructed value as text."""
        return self._text(self._restored[i, j])

    def _text(self, value: Any) -> str:
        # Weights of terms are compared with each other, so all have the same number of decimals.
        return f"{round(float(value), 3):g}" if self.sparse else value_text(value)

    def missing(self, i: int, j: int) -> bool:
        """Return True if the original value is missing."""
        return bool(pd.isna(self._original[i, j]))

    def most_informative(self, i: int, difference: Float[np.ndarray, " columns"], most: int) -> np.ndarray:
        """Select columns: of sparse rows the largest values, of other rows the largest differences.

        The order of columns is kept if all of them are shown.
        """
        if self.sparse:
            size = np.maximum(np.abs(self._original[i]), np.abs(self._restored[i]))
            order = np.argsort(-size, kind="stable")[: 2 * SHOWN_COLUMNS]
            return order[size[order] > 0]
        if len(difference) <= SHOWN_COLUMNS:
            return np.arange(len(difference))
        return np.argsort(-difference, kind="stable")[:most]

    def excerpt(self, i: int) -> str:
        """Return the beginning of a text."""
        if not self.texts:
            return ""
        text = " ".join(self._raw[i].split()) or "(empty)"
        return text if len(text) <= 220 else f"{text[:219]}…"


def hover_pictures(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"]) -> dict[str, Any]:
    """Return two contact sheets with thumbnails of rows and of their reconstructions."""
    originals, reconstructions = [], []
    brightness = None
    for _, output in read_rows(model, X, rows):
        brightness = brightness or BrightnessScale.of(model.preprocessing_, output.x[:SCREEN_ROWS].numpy())
        originals.append(downsample(brightness.show(output.x.numpy()), THUMBNAIL_SIDE))
        reconstructions.append(downsample(brightness.show(output.reconstruction.numpy()), THUMBNAIL_SIDE))
    pictures = np.concatenate(originals)
    height, width = pictures.shape[1:3]
    sheet = contact_sheet(pictures)
    return {
        "width": width, "height": height, "across": sheet.shape[1] // width, "down": sheet.shape[0] // height,
        "original": sheet_uri(sheet), "reconstruction": sheet_uri(contact_sheet(np.concatenate(reconstructions))),
    }  # fmt: skip


def hover_values(
    model: BaseAutoencoder,
    X: Any,
    rows: Int[np.ndarray, " picked"],
    mean: Float[np.ndarray, " columns"],
    variance: Float[np.ndarray, " columns"],
) -> list[list[list[str]]]:
    """Select for each row the columns with the largest standardised deviations, or values if it is sparse.

    Returns:
        For each row, a list of [column, original, reconstruction].
    """
    columns = user_columns(model.preprocessing_)
    starts = [column.members[0] for column in columns]
    scale = np.sqrt(np.where(variance > 0, variance, 1))
    hover_rows = []
    for raw, output in read_rows(model, X, rows):
        values = _Values(model, raw, output)
        x = output.x.numpy()
        seen = np.ones_like(x) if output.mask is None else output.mask.numpy()
        size = np.abs(x) if values.sparse else np.add.reduceat(np.abs((x - mean) / scale) * seen, starts, axis=1)
        for i in range(len(x)):
            order = np.argsort(-size[i], kind="stable")[:HOVER_COLUMNS]
            order = order[size[i, order] > 0] if values.sparse else order
            hover_rows.append([[columns[j].name, values.original(i, j), values.reconstruction(i, j)] for j in order])
    return hover_rows
