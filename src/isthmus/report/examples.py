"""Rows as the page shows them: originals over reconstructions, and what stands beside a point of the map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.records import Reading
from isthmus.report.gathering import Column, best_typical_worst, read_rows, user_columns
from isthmus.report.pictures import (
    LARGEST_SIDE,
    THUMBNAIL_SIDE,
    Screen,
    contact_sheet,
    png_uri,
    sheet_uri,
    shrunk,
)
from isthmus.report.words import Labels, number, value_text

TABLE_ROWS = 3
"""Rows of a table in each of the three groups: they take more room than images."""

CELLS, MORE_CELLS = 12, 60
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
class Names:
    """What is known of each row beside its values."""

    rows: Sequence[str]
    labels: Labels | None
    error: Float[np.ndarray, " rows"]

    def of(self, row: int) -> tuple[str, str, str]:
        """Name, label and squared error, as text."""
        return self.rows[row], self.labels.text[row] if self.labels else "", number(float(self.error[row]))


def example_groups(model: BaseAutoencoder, X: Any, names: Names) -> list[Group]:
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


def _pictured(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"], names: Names) -> list[Example]:
    """Each row as a picture, above what the model and what principal components make of it."""
    readings = [reading for _, reading in read_rows(model, X, rows)]
    screen = Screen.of(model.preprocessing_, np.concatenate([reading.x.numpy() for reading in readings]))
    examples: list[Example] = []
    for reading in readings:
        pca = model.baseline_.decode(model.baseline_.encode(reading.x, reading.mask))
        lines = {"original": reading.x, "reconstruction": reading.reconstruction, "PCA": pca}
        shown = {name: shrunk(screen.show(x.numpy()), LARGEST_SIDE) for name, x in lines.items()}
        for i in range(len(reading.x)):
            pictures = {name: png_uri(pixels[i]) for name, pixels in shown.items()}
            examples.append(Example(*names.of(int(rows[len(examples)])), pictures=pictures))
    return examples


def _tabled(model: BaseAutoencoder, X: Any, rows: Int[np.ndarray, " picked"], names: Names) -> list[Example]:
    """Each row as a table of values; deviations are measured in model units, against the largest of them all."""
    blocks = list(read_rows(model, X, rows))
    apart = _deviations(user_columns(model.preprocessing_), [reading for _, reading in blocks])
    largest = max((float(np.nanmax(block, initial=0)) for block in apart), default=0.0) or 1.0
    examples: list[Example] = []
    for (raw, reading), distance in zip(blocks, apart, strict=True):
        values = _Values(model, raw, reading)
        for i in range(len(reading.x)):
            order = values.telling(i, distance[i], MORE_CELLS)
            cells = [
                Cell(values.columns[j].name, values.original(i, j), values.reconstruction(i, j),
                     0.0 if values.missing(i, j) else float(distance[i, j]) / largest)
                for j in order
            ]  # fmt: skip
            row = names.of(int(rows[len(examples)]))
            examples.append(Example(*row, cells=cells[:CELLS], more=cells[CELLS:], excerpt=values.excerpt(i)))
    return examples


def _deviations(columns: Sequence[Column], readings: Sequence[Reading]) -> list[np.ndarray]:
    """How far a row and its reconstruction are apart in each of the user's columns, (rows, columns) a block."""
    starts = [column.members[0] for column in columns]
    squares = (reading.squared_residuals.numpy() for reading in readings)
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

    def __init__(self, model: BaseAutoencoder, raw: Any, reading: Reading) -> None:
        preprocessing = model.preprocessing_
        self.columns = user_columns(preprocessing)
        self.sparse = preprocessing.source in ("sparse", "text")
        self.texts = preprocessing.source == "text"
        self._raw = raw
        self._restored = matrix(preprocessing.restore(reading.reconstruction.numpy()))
        self._original = matrix(preprocessing.restore(reading.x.numpy()) if self.sparse else raw)

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

    def telling(self, i: int, distance: Float[np.ndarray, " columns"], most: int) -> np.ndarray:
        """The columns to show: of sparse rows those that hold the most, of others the farthest apart.

        A row that is shown whole keeps the order of its columns.
        """
        if self.sparse:
            size = np.maximum(np.abs(self._original[i]), np.abs(self._restored[i]))
            order = np.argsort(-size, kind="stable")[: 2 * CELLS]
            return order[size[order] > 0]
        if len(distance) <= CELLS:
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
    screen = None
    for _, reading in read_rows(model, X, rows):
        screen = screen or Screen.of(model.preprocessing_, reading.x[:SCREEN_ROWS].numpy())
        originals.append(shrunk(screen.show(reading.x.numpy()), THUMBNAIL_SIDE))
        reconstructions.append(shrunk(screen.show(reading.reconstruction.numpy()), THUMBNAIL_SIDE))
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
    told = []
    for raw, reading in read_rows(model, X, rows):
        values = _Values(model, raw, reading)
        x = reading.x.numpy()
        seen = np.ones_like(x) if reading.mask is None else reading.mask.numpy()
        size = np.abs(x) if values.sparse else np.add.reduceat(np.abs((x - mean) / scale) * seen, starts, axis=1)
        for i in range(len(x)):
            order = np.argsort(-size[i], kind="stable")[:HOVER_COLUMNS]
            order = order[size[i, order] > 0] if values.sparse else order
            told.append([[columns[j].name, values.original(i, j), values.reconstruction(i, j)] for j in order])
    return told
