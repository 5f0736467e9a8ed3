"""Configuration section of the report: arguments, network, preprocessing, training and versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import torch

from isthmus import __version__
from isthmus.errors import pluralize
from isthmus.estimators.base import BaseAutoencoder
from isthmus.report.formatting import duration, number
from isthmus.report.layers import layer_sizes
from isthmus.report.report_data import count_columns, user_columns

STOPPED = {
    "max_epochs": "all epochs were completed",
    "max_steps": "the maximum number of steps was reached",
    "patience": "the validation loss stopped improving",
    "time_limit": "the time limit was reached",
    "interrupted": "it was interrupted",
    "nan": "the loss became NaN or infinite",
}

_SOURCES = {"array": "an array", "table": "a table", "sparse": "a sparse matrix", "text": "texts"}


@dataclass(frozen=True)
class Entry:
    """A line of the configuration; `chosen` marks an argument that differs from its default."""

    name: str
    value: str
    chosen: bool = False


@dataclass(frozen=True)
class Block:
    """A heading with its lines."""

    title: str
    entries: list[Entry]


def configuration(model: BaseAutoencoder, n_rows: int) -> list[Block]:
    """Return the blocks of the configuration section."""
    return [
        Block("Arguments", arguments(model)),
        Block("Network", _network(model)),
        Block("Data", _data(model, n_rows)),
        Block("Training", _training(model)),
        Block("Versions", [
            Entry("isthmus", __version__), Entry("torch", torch.__version__), Entry("numpy", np.__version__),
            Entry("Python", platform.python_version()),
            Entry("report written", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
        ]),
    ]  # fmt: skip


def arguments(model: BaseAutoencoder) -> list[Entry]:
    """Return every argument of the constructor; those that differ from their defaults come first and are marked."""
    defaults = type(model)().get_params(deep=False)
    entries = [
        Entry(name, _argument(value), chosen=not _same(value, defaults[name]))
        for name, value in model.get_params(deep=False).items()
    ]
    return sorted(entries, key=lambda entry: not entry.chosen)


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and repr(value) == repr(default)


def _argument(value: Any) -> str:
    text = repr(tuple(value)) if isinstance(value, list | np.ndarray) else repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _network(model: BaseAutoencoder) -> list[Entry]:
    likelihood = model.likelihood_
    count = sum(p.numel() for p in model.coder_.parameters())
    return [
        Entry("kind", model.kind),
        Entry("layer sizes", layer_sizes(model)),
        Entry("code size", str(model.code_size_)),
        Entry("likelihood", str(likelihood.get("name", likelihood))),
        Entry("parameters", f"{count:,}"),
    ]


def _data(model: BaseAutoencoder, n_rows: int) -> list[Entry]:
    preprocessing = model.preprocessing_
    entries = [
        Entry("rows in this report", f"{n_rows:,}"),
        Entry("training rows", f"{model.n_rows_:,}"),
        Entry("type of data", _SOURCES.get(preprocessing.source, preprocessing.source)),
        Entry("size of a row", count_columns(preprocessing)),
    ]
    if preprocessing.image_shape is not None:
        entries.append(Entry("images", "{} channels of {} × {}".format(*preprocessing.image_shape)
                             .replace("1 channels", "1 channel")))  # fmt: skip
    if preprocessing.is_series:
        entries.append(Entry("layout", preprocessing.description))
    if preprocessing.table:
        units = [column.unit for column in preprocessing.table]
        kinds = ", ".join(pluralize(units.count(unit), f"{unit} column") for unit in dict.fromkeys(units))
        entries.append(Entry("types of columns", kinds))
    scaling = describe_scaling(preprocessing.offset, preprocessing.scale)
    if preprocessing.quantiles:
        scaling += f"; x is the normal score of {pluralize(len(preprocessing.quantiles), 'real column')}"
    entries.append(Entry("scaling", scaling))
    filled = preprocessing.fill is not None
    entries.append(Entry("missing values", "masked" if preprocessing.masked else "filled in" if filled else "none"))
    if preprocessing.constant:
        name = "constant columns" if preprocessing.n_columns == len(user_columns(preprocessing)) else "constant inputs"
        entries.append(Entry(name, f"{len(preprocessing.constant):,}"))
    return entries


def describe_scaling(offset: np.ndarray, scale: np.ndarray) -> str:
    """Format the scaling x = (raw - offset) / scale.

    Example:
        >>> describe_scaling(np.zeros(3), np.ones(3)), describe_scaling(np.zeros(2), np.full(2, 255.0))
        ('none', 'x / 255')
    """
    one_offset, one_scale = (len(np.unique(values)) == 1 for values in (offset, scale))
    if one_offset and one_scale:
        shift = "" if offset[0] == 0 else f" − {number(float(offset[0]))}"
        if scale[0] == 1:
            return f"x{shift}" if shift else "none"
        return f"(x{shift}) / {number(float(scale[0]))}" if shift else f"x / {number(float(scale[0]))}"
    if one_offset and offset[0] == 0:
        return "by column: x / scale"
    return "by column: (x − offset) / scale"


def phases(history: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return name, epochs, time and end of each training phase in order; an empty list for a single phase.

    Example:
        >>> one = {"epochs": [{}, {}], "stopped": "max_epochs", "seconds": 2.0}
        >>> phases({**one, "name": "fine-tuning", "pretraining": [{**one, "name": "a"}]})
        [('a', '2', '2.0 s', 'all epochs were completed'), ('fine-tuning', '2', '2.0 s', 'all epochs were completed')]
        >>> phases({**one, "name": "whole", "pretraining": []})
        []
    """
    before = history.get("pretraining") or []
    return [
        (one["name"], f"{len(one['epochs']):,}", duration(one["seconds"]), STOPPED.get(one["stopped"], one["stopped"]))
        for one in ((*before, history) if before else ())
    ]


def _training(model: BaseAutoencoder) -> list[Entry]:
    history: dict[str, Any] = model.history_
    before = history.get("pretraining") or []
    entries = [
        Entry("seed", str(model.seed_)),
        Entry("end of training", STOPPED.get(history["stopped"], history["stopped"])),
    ]
    if history["epochs"]:
        last = history["epochs"][-1]
        best = history.get("best_epoch", -1)
        entries += [
            Entry("epochs", f"{last['epoch'] + 1}"),
            Entry("best weights", f"epoch {best + 1}" if best >= 0 else "last epoch"),
            Entry("steps", f"{last['steps']:,}"),
            Entry("time", duration(last["seconds"])),
            *(Entry("time of earlier phases", duration(sum(p["seconds"] for p in before))) for _ in before[:1]),
            Entry("rows per second", number(round(last["rows_per_second"]))),
        ]
    if history.get("precision"):
        entries.append(Entry("precision", str(history["precision"])))
    return entries
