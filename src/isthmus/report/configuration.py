"""What was done, so that it can be done again: arguments, preprocessing, learning, versions."""

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
from isthmus.report.layers import network_in_words

STOPPED = {
    "max_epochs": "all epochs were done",
    "patience": "no better held-out loss for as many epochs as patience allows",
    "time_limit": "the time limit was reached",
    "interrupted": "it was interrupted",
    "nan": "the loss was no longer a number; the last good weights were kept",
}

_SOURCES = {"array": "an array", "table": "a table", "sparse": "sparse rows", "text": "texts"}


@dataclass(frozen=True)
class Entry:
    """A line of the recipe; `chosen` marks an argument that is not the default."""

    name: str
    value: str
    chosen: bool = False


@dataclass(frozen=True)
class Block:
    """Lines under one heading."""

    title: str
    entries: list[Entry]


def configuration(model: BaseAutoencoder, n_rows: int) -> list[Block]:
    """The arguments, the network, what was learned of the data, how learning went, and the versions."""
    return [
        Block("Arguments", arguments(model)),
        Block("Network", _network(model)),
        Block("Data", _data(model, n_rows)),
        Block("Learning", _learning(model)),
        Block("Made with", [
            Entry("isthmus", __version__), Entry("torch", torch.__version__), Entry("numpy", np.__version__),
            Entry("python", platform.python_version()),
            Entry("written", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
        ]),
    ]  # fmt: skip


def arguments(model: BaseAutoencoder) -> list[Entry]:
    """Every argument of the constructor; those that differ from the default are marked and come first."""
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
    count = sum(p.numel() for p in model.objective_.parameters())
    return [
        Entry("kind", model.kind),
        Entry("sizes", network_in_words(model)),
        Entry("code size", str(model.code_size_)),
        Entry("likelihood", str(likelihood.get("name", likelihood))),
        Entry("parameters", f"{count:,}"),
    ]


def _data(model: BaseAutoencoder, n_rows: int) -> list[Entry]:
    preprocessing = model.preprocessing_
    entries = [
        Entry("rows in this report", f"{n_rows:,}"),
        Entry("rows learned from", f"{model.n_rows_:,}"),
        Entry("given as", _SOURCES.get(preprocessing.source, preprocessing.source)),
        Entry("columns in model space", f"{preprocessing.n_columns:,}"),
    ]
    if preprocessing.image_shape is not None:
        entries.append(Entry("images", "{} channels of {} × {}".format(*preprocessing.image_shape)
                             .replace("1 channels", "1 channel")))  # fmt: skip
    if preprocessing.table:
        units = [column.unit for column in preprocessing.table]
        kinds = ", ".join(pluralize(units.count(unit), f"{unit} column") for unit in dict.fromkeys(units))
        entries.append(Entry("kinds of columns", kinds))
    entries.append(Entry("scaling", scaling_in_words(preprocessing.offset, preprocessing.scale)))
    filled = preprocessing.fill is not None
    entries.append(Entry("missing values", "masked" if preprocessing.masked else "filled in" if filled else "none"))
    if preprocessing.constant:
        entries.append(Entry("constant columns", f"{len(preprocessing.constant):,}"))
    return entries


def scaling_in_words(offset: np.ndarray, scale: np.ndarray) -> str:
    """x = (raw - offset) / scale, said shortly.

    Example:
        >>> scaling_in_words(np.zeros(3), np.ones(3)), scaling_in_words(np.zeros(2), np.full(2, 255.0))
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
    """Name, epochs, time and end of each phase of learning, the first first; none where there was one alone.

    Example:
        >>> one = {"epochs": [{}, {}], "stopped": "max_epochs", "seconds": 2.0}
        >>> phases({**one, "name": "fine-tuning", "pretraining": [{**one, "name": "a"}]})
        [('a', '2', '2.0 s', 'all epochs were done'), ('fine-tuning', '2', '2.0 s', 'all epochs were done')]
        >>> phases({**one, "name": "whole", "pretraining": []})
        []
    """
    before = history.get("pretraining") or []
    return [
        (one["name"], f"{len(one['epochs']):,}", duration(one["seconds"]), STOPPED.get(one["stopped"], one["stopped"]))
        for one in ((*before, history) if before else ())
    ]


def _learning(model: BaseAutoencoder) -> list[Entry]:
    history: dict[str, Any] = model.history_
    before = history.get("pretraining") or []
    entries = [Entry("seed", str(model.seed_)), Entry("stopped", STOPPED.get(history["stopped"], history["stopped"]))]
    if history["epochs"]:
        last = history["epochs"][-1]
        kept = history.get("best_epoch", -1)
        entries += [
            Entry("epochs", f"{last['epoch'] + 1}"),
            Entry("weights kept", f"of epoch {kept + 1}" if kept >= 0 else "of the last epoch"),
            Entry("steps", f"{last['steps']:,}"),
            Entry("time", duration(last["seconds"])),
            *(Entry("time of the phases before", duration(sum(p["seconds"] for p in before))) for _ in before[:1]),
            Entry("rows a second", number(round(last["rows_per_second"]))),
        ]
    if history.get("precision"):
        entries.append(Entry("precision", str(history["precision"])))
    return entries
