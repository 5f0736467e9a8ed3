"""What a model that is a density draws, beside rows of the user's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from isthmus.estimators.base import BaseAutoencoder
from isthmus.report.examples import SHOWN_COLUMNS, matrix
from isthmus.report.formatting import value_text
from isthmus.report.pictures import MAX_IMAGE_SIDE, BrightnessScale, downsample, png_uri
from isthmus.report.report_data import Column, read_rows, sample, take, user_columns

PICTURES, ROWS = 12, 4
"""Draws that are shown: of images, and of other rows, which take more room."""


@dataclass(frozen=True)
class ModelSamples:
    """Rows by what they are: as pictures (one of the user's, one drawn), as values below the names of columns, or as
    the terms that weigh most."""

    explanation: str
    pictures: list[tuple[str, str]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    values: dict[str, list[list[str]]] = field(default_factory=dict)
    terms: dict[str, list[str]] = field(default_factory=dict)


def model_samples(model: BaseAutoencoder, X: Any, n_rows: int, random_state: int) -> ModelSamples | None:
    """Rows drawn from the model and as many of `X`; None where the model draws none."""
    if not hasattr(model, "sample"):
        return None
    preprocessing = model.preprocessing_
    pictured, sparse = preprocessing.image_shape is not None, preprocessing.source in ("sparse", "text")
    picked = sample(n_rows, PICTURES if pictured else ROWS, random_state)
    how = {"mean": True} if model.samples_by_chain and pictured else {}
    drawn = model.sample(len(picked), random_state=random_state, **how)
    explanation = _explained(model.samples_by_chain, pictured)
    if pictured:
        return ModelSamples(explanation, pictures=_pictured(model, X, picked, drawn))
    columns = user_columns(preprocessing)
    yours = preprocessing.inverse_transform(_read(model, X, picked)) if sparse else take(X, picked)
    both = {"yours": matrix(yours), "drawn": matrix(drawn)}
    if sparse:
        return ModelSamples(
            explanation, terms={name: [_terms(row, columns) for row in rows] for name, rows in both.items()}
        )
    if len(columns) > SHOWN_COLUMNS:
        explanation += f" Here are the first {SHOWN_COLUMNS} of {len(columns)} columns."
    return ModelSamples(
        explanation, columns=[column.name for column in columns[:SHOWN_COLUMNS]],
        values={
            name: [[value_text(value) for value in row[:SHOWN_COLUMNS]] for row in rows] for name, rows in both.items()
        },
    )  # fmt: skip


def _explained(chained: bool, pictured: bool) -> str:
    first = "Rows of yours, picked at random, beside as many that the model draws"
    if not chained:
        return f"{first} from its density."
    means = ", shown as means given the last codes" if pictured else ""
    return (
        f"{first}: the ends of chains of 200 Gibbs steps, from where learning left its own or, where it had none, "
        f"from columns drawn one by one{means}. "
        "Draws that are all alike, or noise, are of a model that is no density of these rows yet."
    )


def _pictured(model: BaseAutoencoder, X: Any, picked: np.ndarray, drawn: Any) -> list[tuple[str, str]]:
    read = _read(model, X, picked)
    samples_x = model.preprocessing_.rows(drawn).batch(torch.arange(len(drawn))).x.numpy()
    brightness = BrightnessScale.of(model.preprocessing_, read)
    yours, sample_pixels = (downsample(brightness.show(x), MAX_IMAGE_SIDE) for x in (read, samples_x))
    return [(png_uri(one), png_uri(other)) for one, other in zip(yours, sample_pixels, strict=True)]


def _read(model: BaseAutoencoder, X: Any, picked: np.ndarray) -> np.ndarray:
    """Picked rows in model space."""
    return np.concatenate([output.x.numpy() for _, output in read_rows(model, X, picked)])


def _terms(row: np.ndarray, columns: list[Column]) -> str:
    """The terms of one row that weigh most, with their weights."""
    largest = [j for j in np.argsort(-np.abs(row), kind="stable")[:SHOWN_COLUMNS] if row[j]]
    return ", ".join(f"{columns[j].name} {round(float(row[j]), 3):g}" for j in largest) or "(nothing)"
