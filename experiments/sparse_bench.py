"""All kinds of sparsity, and matching pursuit, on rows whose features are known."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.dictionary_recovery import error_ratio
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.feature_scores import feature_scores
from experiments.learning import fit_model, learning_seconds
from experiments.synthetic_features import Features
from isthmus.parts.sparse_inference import matching_pursuit
from isthmus.report.figures import GREY, GROUPS

_GAO = "Gao et al. (2024): TopK has a lower error than L1 at equal sparsity"
_BATCH = "Bussmann, Leask & Nanda (2024): BatchTopK has a lower error than TopK at equal sparsity"
_MATRYOSHKA = "Bussmann et al. (2025): prefixes reduce the absorption of parents by the units of their children"

PUBLISHED = {
    "topk error": Published(1.0, "at most", _GAO),
    "batch error": Published(1.0, "at most", _BATCH),
    "absorption": Published(0.0, "at most", _MATRYOSHKA),
}
"""The sources state no figures for such rows: the bounds express their claims in numbers."""

TARGETS = {
    "truth": Target(0.8, "at least", "with the true atoms most active features can be named"),
    "named": Target(0.0, "at least", "codes that are not shrunk name the features no worse than L1"),
    "dead": Target(0.1, "at most", "units have features to represent: eight for each unit"),
}

SEED = 0
TEST, VALIDATION, TRAINING = 1, 2, 3
"""Seeds of the rows, apart from that of the features."""

NAMES = {
    "l1": "L1", "student-t": "Student-t", "log": "log", "jumprelu": "JumpReLU", "gated": "Gated", "topk": "TopK",
    "batch-topk": "BatchTopK", "matryoshka": "TopK with prefixes",
}  # fmt: skip
"""The kinds of sparsity, in words."""

TICKS = (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Ticks of the axis of active units."""

PURSUITS = {"pursuit-learned": "pursuit, atoms of TopK", "pursuit-true": "pursuit, true atoms"}
"""Orthogonal matching pursuit, by its dictionary."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The settings of one kind of sparsity: one argument takes several values, the others are fixed."""

    sparsity: str
    argument: str
    values: tuple[float, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, Any]
    n_rows: dict[str, int]
    training: dict[str, Any]
    curves: dict[str, Curve]
    pursuit: tuple[int, ...]
    alive: tuple[str, ...]
    """The kinds of sparsity whose dead units are judged."""


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    data={"n_features": 4096, "n_columns": 256, "n_active": 5.0, "n_roots": 64, "correlation": 0.3},
    n_rows={"training": 100_000, "validation": 4_000, "test": 6_000},
    training={"code_size": 512, "max_epochs": 1, "batch_size": 128, "learning_rate": 5e-3},
    curves={
        "l1": Curve(sparsity="l1", argument="weight", values=(0.2, 0.4)),
        "student-t": Curve(sparsity="student-t", argument="weight", values=(0.03, 0.05, 0.08),
                           fixed={"degrees": 3.0, "scale": 0.1}),
        "log": Curve(sparsity="log", argument="weight", values=(0.04, 0.06), fixed={"scale": 0.1}),
        "jumprelu": Curve(sparsity="jumprelu", argument="weight", values=(0.05, 0.15, 0.5)),
        "gated": Curve(sparsity="gated", argument="weight", values=(0.25, 0.5)),
        "topk": Curve(sparsity="topk", argument="k", values=(5, 8)),
        "batch-topk": Curve(sparsity="batch-topk", argument="k", values=(5, 8)),
        "matryoshka": Curve(sparsity="topk", argument="k", values=(5, 8), fixed={"prefixes": [64, 256]}),
    },
    pursuit=(4, 8, 12), alive=tuple(NAMES),
)  # fmt: skip

QUICK = _Setup(
    published={"topk error": PUBLISHED["topk error"]},
    targets={"dead": TARGETS["dead"]},
    data={"n_features": 48, "n_columns": 16, "n_active": 2.0, "n_roots": 12, "correlation": 0.3},
    n_rows={"training": 3_000, "validation": 500, "test": 1_000},
    training={"code_size": 32, "max_epochs": 12, "batch_size": 128, "learning_rate": 1e-2},
    curves={
        "l1": Curve(sparsity="l1", argument="weight", values=(0.2, 0.8)),
        "student-t": Curve(sparsity="student-t", argument="weight", values=(0.2,),
                           fixed={"degrees": 3.0, "scale": 0.1}),
        "log": Curve(sparsity="log", argument="weight", values=(0.2,), fixed={"scale": 0.1}),
        "jumprelu": Curve(sparsity="jumprelu", argument="weight", values=(0.08,)),
        "gated": Curve(sparsity="gated", argument="weight", values=(0.4,)),
        "topk": Curve(sparsity="topk", argument="k", values=(2, 3)),
        "batch-topk": Curve(sparsity="batch-topk", argument="k", values=(2,)),
        "matryoshka": Curve(sparsity="topk", argument="k", values=(2,), fixed={"prefixes": [8]}),
    },
    pursuit=(2,), alive=("l1", "topk"),
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    shared = {"data": setup.data, "n_rows": setup.n_rows, "n_judged": setup.training["code_size"], "seed": SEED}
    fixed = {**setup.training, "likelihood": "gaussian", "scaling": "none", "precision": "fp32"}
    cells = [Cell(f"pursuit-true-{k}", {**shared, "k": k}, _pursue) for k in setup.pursuit]
    for name, curve in setup.curves.items():
        for value in curve.values:
            arguments = {f"sparsity__{key}": one for key, one in {**curve.fixed, curve.argument: value}.items()}
            parameters = {**fixed, "sparsity": curve.sparsity, **arguments}
            k = value if name == "topk" else None
            settings = {**shared, "kind": "sparse", "parameters": parameters, "pursuit": k}
            cells.append(Cell(f"{name}-{value:g}", settings, _fit))
    return cells


def _features(settings: Settings) -> Features:
    return Features.drawn(**settings["data"], seed=settings["seed"])


@functools.lru_cache(maxsize=1)
def _training_rows(features: str, seed: int, n_rows: int) -> Float[np.ndarray, "rows columns"]:
    """Return the training rows; the cells of a run share them."""
    return Features.drawn(**json.loads(features), seed=seed).many_rows(n_rows, TRAINING)


def _pursue(settings: Settings, state: Path) -> Result:
    """Code the test rows by matching pursuit over the true dictionary."""
    features = _features(settings)
    rows, h = features.rows(settings["n_rows"]["test"], TEST)
    decoder = Decoder(features.directions, np.zeros(rows.shape[1]))
    return pursuit_scores(features, rows, h, decoder, settings["k"], settings["n_judged"])


def _fit(settings: Settings, state: Path) -> Result:
    """Fit one sparse autoencoder: active units on validation rows, and all measures on test rows."""
    features = _features(settings)
    n_rows, n_judged = settings["n_rows"], settings["n_judged"]
    x = _training_rows(json.dumps(settings["data"]), settings["seed"], n_rows["training"])
    model = fit_model(settings, rows=x, state=state)
    rows, h = features.rows(n_rows["test"], TEST)
    codes, dictionary = model.transform(rows), model.dictionary()
    validation = model.transform(features.many_rows(n_rows["validation"], VALIDATION))
    result = {
        "validation_active": float((validation != 0).sum(1).mean()),
        "error": share_lost(rows, model.reconstruct(rows)),
        "active": float((codes != 0).sum(1).mean()),
        **feature_scores(features, h != 0, dictionary, codes != 0, n_judged).to_dict(),
        "learning_seconds": learning_seconds(model),
    }
    if settings["pursuit"] is None:
        return result
    offset = model.inverse_transform(np.zeros((1, codes.shape[1]), np.float32))[0]
    found = pursuit_scores(features, rows, h, Decoder(dictionary, offset), settings["pursuit"], n_judged)
    return {**result, "pursuit": found}


class Decoder(NamedTuple):
    """A decoder x = offset + D'h."""

    dictionary: Float[np.ndarray, "units columns"]
    offset: Float[np.ndarray, " columns"]


def share_lost(rows: Float[np.ndarray, "rows columns"], reconstructed: Float[np.ndarray, "rows columns"]) -> float:
    """Return the squared error as a share of the squared distance of the rows from their mean.

    Example:
        >>> share_lost(np.array([[0.0], [2.0]]), np.array([[1.0], [2.0]]))
        0.5
    """
    error = np.square(np.asarray(rows, np.float64) - reconstructed).sum()
    return float(error / np.square(rows - rows.mean(0, dtype=np.float64)).sum())


def pursuit_scores(
    features: Features,
    rows: Float[np.ndarray, "rows columns"],
    h: Float[np.ndarray, "rows features"],
    decoder: Decoder,
    k: int,
    n_judged: int,
) -> Result:
    """Return error, active units and scores of the codes of orthogonal matching pursuit; they may be negative."""
    dictionary, offset = (torch.from_numpy(np.asarray(part, np.float32)) for part in decoder)
    codes = matching_pursuit(torch.from_numpy(rows) - offset, dictionary, k)
    reconstructed = (codes @ dictionary + offset).numpy()
    on = (codes != 0).numpy()
    return {
        "error": share_lost(rows, reconstructed),
        "active": float(on.sum(1).mean()),
        **feature_scores(features, h != 0, decoder.dictionary, on, n_judged).to_dict(),
    }


def _points(results: Results, name: str) -> list[Result]:
    """Return the results along the curve of a method, by their active units on the judged rows."""
    if name == "pursuit-learned":
        found = [cell["pursuit"] for cell in results.values() if "pursuit" in cell]
    else:
        found = [cell for key, cell in results.items() if key.rpartition("-")[0] == name]
    return sorted(found, key=lambda cell: cell["active"])


def chosen(results: Results, name: str, n_active: float) -> Result:
    """Return the result of the judged setting: that with the number of active units nearest to the true one.

    A fit is chosen by validation rows. Pursuit over the atoms of TopK takes the chosen fit of TopK, and pursuit over
    the true atoms the number of active units on the test rows, which no fit depends on.
    """
    if name == "pursuit-learned":
        return dict(chosen(results, "topk", n_active)["pursuit"])
    return min(_points(results, name), key=lambda cell: abs(cell.get("validation_active", cell["active"]) - n_active))


def _rows(results: Results, setup: _Setup) -> list[Row]:
    methods = {**NAMES, **PURSUITS}
    best = {name: chosen(results, name, setup.data["n_active"]) for name in methods}

    def measured(quantity: str, key: str, judged: str = "", names: Sequence[str] = (), form: str = ".3f") -> list[Row]:
        return [
            setup.row(f"{label}: {quantity}", best[name][key], judged if name in names else "", form)
            for name, label in methods.items()
        ]

    l1, topk, nested = best["l1"], best["topk"], best["matryoshka"]
    return [
        *measured("F1 of all activations", "f1_all", "truth", ["pursuit-true"]),
        *measured("F1, mean of the frequent features", "f1"),
        *measured("mean matched cosine (MCC)", "mcc"),
        *measured("share of the variance lost", "error"),
        *measured("active units a row", "active", form=".2f"),
        *measured("dead units", "dead", "dead", setup.alive),
        setup.row("F1 of all activations, TopK minus L1", topk["f1_all"] - l1["f1_all"], "named", ".3f"),
        setup.row("error at equal active units, TopK over L1, largest",
                  error_ratio(results, "topk", "l1"), "topk error", ".3f"),
        setup.row("error at equal active units, BatchTopK over TopK, largest",
                  error_ratio(results, "batch-topk", "topk"), "batch error", ".3f"),
        setup.row("cosine of a child's atom with the parent, prefixes minus TopK",
                  nested["parent_share"] - topk["parent_share"], "absorption", ".3f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    n_active = setup.data["n_active"]
    reached = {
        label: ", ".join(f"{cell['active']:.1f}" for cell in _points(results, name))
        for name, label in (NAMES | PURSUITS).items()
    }
    recalls = "; ".join(
        f"{label} {cell['recall']:.2f} and {cell['recall_with_child']:.2f}"
        for name, label in (NAMES | PURSUITS).items()
        if (cell := chosen(results, name, n_active))
    )
    return [
        "The judged setting of each kind is the one whose number of active units on validation rows is nearest to the "
        f"true {n_active:g}; the features are not used for this choice.",
        f"F1 of all activations counts every feature, also those without a unit. The frequent features are the "
        f"{setup.training['code_size']:,} most frequent ones that occur in the test rows; a feature without a unit "
        "counts as 0. MCC is over the matched pairs, which are all features for the true atoms.",
        "Student-t and log penalties are flat at zero, so that small activations remain: their units are not exactly "
        "zero, and F1 counts each as active.",
        "Codes of pursuit may be negative. Pursuit over the atoms of TopK has the k of each fit. Chanin et al. (2026) "
        "report of encoders that are trained by pursuit that a lower error does not come with better features.",
        "The fits are short, so that all of them take minutes on one core: no curve has converged.",
        "Dead units are those that are active in no test row. For pursuit over the true atoms they are rare features.",
        f"Active units along the curves: {'; '.join(f'{label} {active}' for label, active in reached.items())}.",
        "Share of the activations of a feature in which its unit is active, without and with an active child: "
        f"{recalls}.",
    ]  # fmt: skip


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    return {"error-and-f1-by-active-units": _curves(results, setup.data["n_active"])}


def _curves(results: Results, n_active: float) -> Figure:
    """Draw error and F1 against active units, a curve for each method."""
    figure = Figure(figsize=(11.5, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    active = [point["active"] for name in NAMES | PURSUITS for point in _points(results, name)]
    smallest, largest = min(active), max(active)
    ticks = [tick for tick in TICKS if 0.8 * smallest <= tick <= 1.25 * largest]
    labels = (("error", "share of the variance lost"), ("f1_all", "F1 of all activations"))
    for ax, (key, label) in zip(panels, labels, strict=True):
        for colour, (name, kind) in zip(GROUPS, (NAMES | PURSUITS).items(), strict=False):
            points, style = _points(results, name), "--" if name in PURSUITS else "-"
            ax.plot([p["active"] for p in points], [p[key] for p in points], style, color=colour, marker="o", ms=4,
                    label=kind)  # fmt: skip
        ax.axvline(n_active, color=GREY, ls=":", lw=1.4, label="true number")
        ax.set_xscale("log")
        ax.set_xlim(0.8 * smallest, 1.25 * largest)
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel("active units a row")
        ax.set_ylabel(label)
        ax.set_ylim(0, 1)
        ax.spines[["top", "right"]].set_visible(False)
    panels[1].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle("Error and F1 against active units, new rows", fontsize=11)
    return figure


EXPERIMENT = Experiment(
    name="sparse-bench",
    claim="Sparse codes name the features that generated the rows; at equal sparsity TopK errs no more than L1.",
    source=(
        "Gao et al. (2024); Bussmann, Leask & Nanda (2024); Bussmann et al. (2025); Chanin et al. (2024); the form of "
        "the rows after Chanin et al., SynthSAEBench (2026)"
    ),
    protocol=(
        "4,096 features uniform on the sphere in 256 dimensions. A feature is active with probability 1 / rank (Zipf), "
        "5 a row on average; its weight is U(1/2, 3/2). The 64 most frequent features are roots; each other feature is "
        "active only with its parent, which is 4 to 16 times as frequent. Features 2k - 1 and 2k have the same parent "
        "and a correlation of .3. 100,000 training, 4,000 validation and 6,000 test rows. 256-512-256, unit columns, "
        "squared error, Adam in fp32 at 5e-3 with warm-up and a cosine to zero, batches of 128, one epoch, for two or "
        "three settings of each kind of sparsity; orthogonal matching pursuit over the true atoms and those of TopK."
    ),
    minutes=10,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
