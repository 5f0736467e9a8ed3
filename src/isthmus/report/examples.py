"""Rows as the page shows them: originals over reconstructions, and what stands beside a point of the map."""

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

TABLE_ROWS = 3
"""Rows of a table in each of the three groups: they take more room than images."""

SHOWN_COLUMNS, MORE_CELLS = 12, 60
"""Columns of a row that are shown at once, and at most."""

SCREEN_ROWS = 256
"""Rows that say how the small pictures are shown, all on one scale."""

HOVER_COLUMNS = 6
"""Columns of a row that are shown on hover."""

_EXPLAINED = {
    "best": ("Best", "the smallest squared errors"),
    "typical": ("Typical", "squared errors around the median"),
    "worst": ("Worst", "the largest squared errors"),
}


@dataclass(frozen=True)
class Cell:
    """One column of one row: its texts, and how far the two values are apart, from 0 to 1."""

    column: str
    original: str
    reconstruction: str
    heat: float


@dataclass(frozen=True)
class Example:
    """One row: as pictures, or as cells of which the first are the most telling."""

    name: str
    label: str
    error: str
    pictures: dict[str, str] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    more: list[Cell] = field(default_factory=list)
    excerpt: str = ""


@dataclass(frozen=True)
class Group:
    """Rows that belong together: the best, the typical, the worst."""

    title: str
    explanation: str
    examples: list[Example]


@dataclass(frozen=True)
class RowInfo:
    """What is known of each row beside its values."""

    rows: Sequence[str]
    labels: Labels | None
    error: Float[np.ndarray, " rows"]

    def of(self, row: int) -> tuple[str, str, str]:
        """Name, label and squared error, as text."""
        return self.rows[row], self.labels.text[row] if self.labels else "", number(float(self.error[row]))


def example_groups(model: BaseAutoencoder, X: Any, names: RowInfo) -> list[Group]:
    """The best, the typical and the worst rows, over their reconstructions."""
    pictured = model.preprocessing_.image_shape is not None
    picked = best_typical_worst(names.error) if pictured else best_typical_worst(names.error, TABLE_ROWS)
    every = np.concatenate(list(picked.values()))
    examples = (_pictured if pictured else _tabled)(model, X, every, names)
    groups, start = [], 0
    for name, rows in picked.items():
        groups.append(Group(*_EXPLAINED[name], examples[start : start + len(rows)]))
        start += len(rows)
    return groups


def _pictured(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"], names: RowInfo) -> list[Example]:
    """Each row as a picture, above what the model and what principal components make of it."""
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


def _tabled(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"], names: RowInfo) -> list[Example]:
    """Each row as a table of values; deviations are measured in model units, against the largest of them all."""
    blocks = list(read_rows(model, X, rows))
    apart = _deviations(user_columns(model.preprocessing_), [output for _, output in blocks])
    largest = max((float(np.nanmax(block, initial=0)) for block in apart), default=0.0) or 1.0
    examples: list[Example] = []
    for (raw, output), distance in zip(blocks, apart, strict=True):
        values = _Values(model, raw, output)
        for i in range(len(output.x)):
            order = values.most_informative(i, distance[i], MORE_CELLS)
            cells = [
                Cell(values.columns[j].name, values.original(i, j), values.reconstruction(i, j),
                     0.0 if values.missing(i, j) else float(distance[i, j]) / largest)
                for j in order
            ]  # fmt: skip
            row = names.of(int(rows[len(examples)]))
            examples.append(
                Example(*row, cells=cells[:SHOWN_COLUMNS], more=cells[SHOWN_COLUMNS:], excerpt=values.excerpt(i))
            )
    return examples


def _deviations(columns: Sequence[Column], outputs: Sequence[ModelOutput]) -> list[np.ndarray]:
    """How far a row and its reconstruction are apart in each of the user's columns, (rows, columns) a block."""
    starts = [column.members[0] for column in columns]
    squares = (output.squared_residuals.numpy() for output in outputs)
    return [np.sqrt(np.add.reduceat(block, starts, axis=1)) for block in squares]


def matrix(values: Any) -> np.ndarray:
    """Rows as a matrix, whatever they were handed in as."""
    if hasattr(values, "tocsr"):
        return np.asarray(values.toarray())
    if hasattr(values, "iloc"):
        return np.asarray(values.to_numpy(dtype=object))
    return np.asarray(values).reshape(len(values), -1)


class _Values:
    """A block of rows in the user's units: what they hold and what the model makes of them."""

    def __init__(self, model: BaseAutoencoder, raw: Any, output: ModelOutput) -> None:
        preprocessing = model.preprocessing_
        self.columns = user_columns(preprocessing)
        self.sparse = preprocessing.source in ("sparse", "text")
        self.texts = preprocessing.source == "text"
        self._raw = raw
        self._restored = matrix(preprocessing.inverse_transform(output.reconstruction.numpy()))
        self._original = matrix(preprocessing.inverse_transform(output.x.numpy()) if self.sparse else raw)

    def original(self, i: int, j: int) -> str:
        """A value that was given."""
        return self._text(self._original[i, j])

    def reconstruction(self, i: int, j: int) -> str:
        """What was made of it."""
        return self._text(self._restored[i, j])

    def _text(self, value: Any) -> str:
        # Weights of terms are compared with one another: as many decimals for all.
        return f"{round(float(value), 3):g}" if self.sparse else value_text(value)

    def missing(self, i: int, j: int) -> bool:
        """Whether nothing was given, so that nothing can deviate."""
        return bool(pd.isna(self._original[i, j]))

    def most_informative(self, i: int, distance: Float[np.ndarray, " columns"], most: int) -> np.ndarray:
        """The columns to show: of sparse rows those that hold the most, of others the farthest apart.

        A row that is shown whole keeps the order of its columns.
        """
        if self.sparse:
            size = np.maximum(np.abs(self._original[i]), np.abs(self._restored[i]))
            order = np.argsort(-size, kind="stable")[: 2 * SHOWN_COLUMNS]
            return order[size[order] > 0]
        if len(distance) <= SHOWN_COLUMNS:
            return np.arange(len(distance))
        return np.argsort(-distance, kind="stable")[:most]

    def excerpt(self, i: int) -> str:
        """The beginning of a text."""
        if not self.texts:
            return ""
        text = " ".join(self._raw[i].split()) or "(empty)"
        return text if len(text) <= 220 else f"{text[:219]}…"


def hover_pictures(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"]) -> dict[str, Any]:
    """Small pictures of rows and of their reconstructions, on two contact sheets."""
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
    """For each row the columns that stand out: the farthest from their mean, or the largest of sparse rows.

    Returns:
        For each row a list of [column, original, reconstruction].
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
