"""Samples section of the report: samples of a generative model and rows of the data."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from isthmus.estimators.base import BaseAutoencoder
from isthmus.report.examples import SHOWN_COLUMNS, matrix
from isthmus.report.fidelity_section import FidelitySection, fidelity_section
from isthmus.report.formatting import value_text
from isthmus.report.pictures import MAX_IMAGE_SIDE, BrightnessScale, downsample, png_uri
from isthmus.report.report_data import Column, read_rows, sample, take, user_columns
from isthmus.report.series import MAX_CHANNELS, ChannelPlot, channel_plots

PICTURES, ROWS = 12, 4
"""Number of samples as pictures, and as other rows, which need more space."""


@dataclass(frozen=True)
class ModelSamples:
    """Rows of the data and samples: as pairs of pictures, as values by column, or as lists of terms."""

    explanation: str
    pictures: list[tuple[str, str]] = field(default_factory=list)
    plots: dict[str, list[list[ChannelPlot]]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    values: dict[str, list[list[str]]] = field(default_factory=dict)
    terms: dict[str, list[str]] = field(default_factory=dict)
    fidelity: FidelitySection | None = None


def model_samples(model: BaseAutoencoder, X: Any, n_rows: int, random_state: int) -> ModelSamples | None:
    """Return samples of the model and as many rows of `X`; None if the model cannot be sampled."""
    if not hasattr(model, "sample"):
        return None
    preprocessing = model.preprocessing_
    pictured, sparse = preprocessing.image_shape is not None, preprocessing.source in ("sparse", "text")
    picked = sample(n_rows, PICTURES if pictured else ROWS, random_state)
    means = pictured and "mean" in inspect.signature(model.sample).parameters
    samples = model.sample(len(picked), random_state=random_state, **({"mean": True} if means else {}))
    explanation = _explanation(model.samples_by_chain, means)
    if pictured:
        return ModelSamples(explanation, pictures=_pictured(model, X, picked, samples))
    if preprocessing.is_series:
        return ModelSamples(explanation, plots=_plotted(take(X, picked), samples, preprocessing.channels))
    columns = user_columns(preprocessing)
    names = [str(name) for name in getattr(samples, "columns", [column.name for column in columns])]
    rows = preprocessing.inverse_transform(_read(model, X, picked)) if sparse else take(X, picked)
    both = {"data": matrix(rows), "sample": matrix(samples)}
    if sparse:
        return ModelSamples(
            explanation, terms={name: [_terms(row, columns) for row in rows] for name, rows in both.items()}
        )
    if len(names) > SHOWN_COLUMNS:
        explanation += f" The first {SHOWN_COLUMNS} of {len(names)} columns are shown."
    return ModelSamples(
        explanation, columns=names[:SHOWN_COLUMNS],
        values={
            name: [[value_text(value) for value in row[:SHOWN_COLUMNS]] for row in rows] for name, rows in both.items()
        },
        fidelity=fidelity_section(model, X, n_rows, random_state),
    )  # fmt: skip


def _explanation(chained: bool, means: bool) -> str:
    first = "Random rows of the data and samples of the model"
    means_note = " The pictures of samples show the mean of each pixel given the code." if means else ""
    if not chained:
        return f"{first}, drawn independently of each other.{means_note}"
    return (
        f"{first}. Each sample is the end of a Markov chain of 200 Gibbs steps.{means_note} Samples that are all "
        "alike or look like noise show that the model has not learned the distribution of the data."
    )


def _pictured(model: BaseAutoencoder, X: Any, picked: np.ndarray, samples: Any) -> list[tuple[str, str]]:
    read = _read(model, X, picked)
    own = model.preprocessing_.of_rows
    samples_x = own.rows(samples).batch(torch.arange(len(samples))).x.numpy()
    brightness = BrightnessScale.of(model.preprocessing_, read)
    row_pixels, sample_pixels = (downsample(brightness.show(x), MAX_IMAGE_SIDE) for x in (read, samples_x))
    return [(png_uri(one), png_uri(other)) for one, other in zip(row_pixels, sample_pixels, strict=True)]


def _plotted(rows: Any, samples: Any, names: Sequence[str]) -> dict[str, list[list[ChannelPlot]]]:
    """Return the plots of rows and samples by channel, on common scales."""
    both = np.concatenate([np.asarray(rows, np.float64), samples])
    plots = channel_plots({"model": both}, dict(enumerate(names[:MAX_CHANNELS])))
    return {"Rows of the data": plots[: len(samples)], "Samples": plots[len(samples) :]}


def _read(model: BaseAutoencoder, X: Any, picked: np.ndarray) -> np.ndarray:
    """Return the picked rows in model space."""
    return np.concatenate([output.x.numpy() for _, output in read_rows(model, X, picked)])


def _terms(row: np.ndarray, columns: list[Column]) -> str:
    """List the terms of one row with the largest weights."""
    largest = [j for j in np.argsort(-np.abs(row), kind="stable")[:SHOWN_COLUMNS] if row[j]]
    return ", ".join(f"{columns[j].name} {round(float(row[j]), 3):g}" for j in largest) or "(empty)"
