"""Recovery of a known dictionary from sums of a few of its atoms, by five kinds of sparsity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, learning_seconds
from isthmus.evaluation.dictionaries import compare_dictionaries
from isthmus.parts.constraints import dictionary_weight
from isthmus.report.figures import GREY

_SHARKEY = "Sharkey et al. (2022): mean max cosine of L1 on a known dictionary"
_GAO = "Gao et al. (2024): TopK has a lower error than L1 at equal sparsity"

PUBLISHED = {"l1": Published(0.96, "at least", _SHARKEY), "error": Published(1.0, "at most", _GAO)}

TARGETS = {
    "topk": Target(0.96, "at least", "the published figure of L1"),
    "dead": Target(0.01, "at most", "the auxiliary loss leaves hardly any dead unit"),
    "cosine": Target(0.0, "at least", "TopK recovers no less of the dictionary than L1"),
}

SEED = 0
NAMES = {"l1": "L1", "topk": "TopK", "batch-topk": "BatchTopK", "jumprelu": "JumpReLU", "gated": "Gated"}
"""The kinds of sparsity, in words."""

ROWS_AT_ONCE = 20_000
"""Rows that are generated at once: the coefficients of all rows would take gigabytes."""

SHARES = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Ticks of the frequency axis."""

CURVES: dict[str, tuple[str, tuple[float, ...]]] = {
    "l1": ("weight", (0.25, 0.4, 0.6)),
    "topk": ("k", (3, 5, 8)),
    "batch-topk": ("k", (3, 5, 8)),
    "jumprelu": ("weight", (0.03, 0.08, 0.2)),
    "gated": ("weight", (0.2, 0.4, 0.8)),
}
"""The argument of the sparsity and its values along each curve of error against active units."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, Any]
    training: dict[str, Any]
    curves: dict[str, tuple[str, tuple[float, ...]]]
    k: int
    alive: tuple[str, ...]
    """The kinds of sparsity whose dead units are judged."""


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    data={"n_features": 512, "n_columns": 128, "n_active": 5.0, "n_rows": 300_000, "n_test": 10_000},
    training={"code_size": 512, "max_epochs": 10, "batch_size": 512, "learning_rate": 6e-3}, curves=CURVES, k=5,
    alive=tuple(NAMES),
)  # fmt: skip

QUICK = _Setup(
    published={"error": PUBLISHED["error"]},
    targets={
        "dead": Target(0.05, "at most", "at most two units of forty-eight"),
        "cosine": TARGETS["cosine"],
    },
    data={"n_features": 48, "n_columns": 16, "n_active": 2.0, "n_rows": 3_000, "n_test": 1_000},
    training={"code_size": 48, "max_epochs": 12, "batch_size": 128, "learning_rate": 1e-2},
    curves={
        "l1": ("weight", (0.2, 0.8)), "topk": ("k", (2, 3)), "batch-topk": ("k", (2,)),
        "jumprelu": ("weight", (0.08,)), "gated": ("weight", (0.4,)),
    },
    k=2, alive=("l1", "topk"),
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    training = {**setup.training, "precision": "fp32"}
    untrained = {**training, "sparsity": "topk", "sparsity__k": setup.k, "max_epochs": 1, "learning_rate": 1e-12}
    return [
        _cell("untrained", setup.data, untrained),
        *(_cell(f"{name}-{value:g}", setup.data, {**training, "sparsity": name, f"sparsity__{argument}": value})
          for name, (argument, values) in setup.curves.items() for value in values),
    ]  # fmt: skip


def _cell(name: str, data: dict[str, Any], parameters: dict[str, Any]) -> Cell:
    fixed = {"likelihood": "gaussian", "scaling": "none"}
    return Cell(name, {"data": data, "seed": SEED, "kind": "sparse", "parameters": {**parameters, **fixed}}, _fit)


def frequencies(n_features: int, n_active: float) -> Float[np.ndarray, " features"]:
    """Return the probability of each feature: p_i proportional to 1 / i, n_active features in a row on average.

    Example:
        >>> frequencies(3, 1.1).round(2).tolist()
        [0.6, 0.3, 0.2]
    """
    p = 1.0 / np.arange(1, n_features + 1)
    return p * n_active / p.sum()


def atoms(data: Settings, seed: int) -> Float[np.ndarray, "features columns"]:
    """Return the true dictionary: directions uniform on the sphere."""
    vectors = np.random.default_rng(seed).normal(size=(data["n_features"], data["n_columns"]))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sums(data: Settings, n_rows: int, seed: int) -> Float[np.ndarray, "rows columns"]:
    """Return rows x = sum over active features of h_i d_i, h_i ~ U(1/2, 3/2)."""
    generator, true = np.random.default_rng([seed, n_rows]), atoms(data, seed)
    rates = frequencies(data["n_features"], data["n_active"])
    rows = np.empty((n_rows, data["n_columns"]), np.float32)
    for block in np.array_split(rows, -(-n_rows // ROWS_AT_ONCE)):
        shape = len(block), data["n_features"]
        block[:] = ((generator.random(shape) < rates) * generator.uniform(0.5, 1.5, shape)) @ true
    return rows


def _fit(settings: Settings, state: Path) -> Result:
    """Fit one sparse autoencoder: error and active units on new rows, and the recovered part of the dictionary."""
    data, seed = settings["data"], settings["seed"]
    model = fit_model(settings, rows=sums(data, data["n_rows"], seed), state=state)
    test = sums(data, data["n_test"], seed)
    codes = model.transform(test)
    weight = dictionary_weight(model.coder_.decoder)
    assert weight is not None, "the decoder is linear by the settings"
    learned = weight.detach().t().numpy()
    found = compare_dictionaries(atoms(data, seed), learned)
    return {
        "error": float(model.reconstruction_error(test).sum() / np.square(test - test.mean(0)).sum()),
        "active": float((codes != 0).sum(1).mean()),
        "dead": float((codes == 0).all(0).mean()),
        "mmcs": found.mean_max_cosine,
        "mcc": found.mean_matched_cosine,
        "recovered": found.recovered,
        "cosines": (atoms(data, seed) @ learned.T).max(1).round(4).tolist(),
        "learning_seconds": learning_seconds(model),
    }


def _points(results: Results, name: str) -> list[Result]:
    """Return the cells of one kind of sparsity, by their active units."""
    cells = [cell for key, cell in results.items() if key.rpartition("-")[0] == name]
    return sorted(cells, key=lambda cell: cell["active"])


def at_the_truth(results: Results, name: str, n_active: float) -> Result:
    """Return the cell whose number of active units is nearest to the true one: the rule that chooses a setting."""
    return min(_points(results, name), key=lambda cell: abs(cell["active"] - n_active))


def error_ratio(results: Results, name: str, base: str = "l1") -> float:
    """Return the largest ratio of the error of a kind of sparsity to that of another one at equal active units.

    The error of the other one is interpolated on its curve, in logarithms. NaN if no point is within its curve.
    """
    others = _points(results, base)
    active, errors = (np.log([cell[quantity] for cell in others]) for quantity in ("active", "error"))
    ratios = [
        cell["error"] / float(np.exp(np.interp(np.log(cell["active"]), active, errors)))
        for cell in _points(results, name)
        if others[0]["active"] <= cell["active"] <= others[-1]["active"]
    ]
    return max(ratios, default=float("nan"))


def _rows(results: Results, setup: _Setup) -> list[Row]:
    chosen = {name: at_the_truth(results, name, setup.data["n_active"]) for name in NAMES}
    l1, topk = chosen["l1"], chosen["topk"]
    return [
        Row("untrained: mean max cosine", results["untrained"]["mmcs"], form=".3f"),
        *(setup.row(f"{kind}: mean max cosine", chosen[name]["mmcs"], name, ".3f") for name, kind in NAMES.items()),
        *(Row(f"{kind}: mean matched cosine (Hungarian)", chosen[name]["mcc"], form=".3f")
          for name, kind in NAMES.items()),
        *(Row(f"{kind}: share of the true atoms recovered (cosine over .9)", chosen[name]["recovered"], form=".3f")
          for name, kind in NAMES.items()),
        *(setup.row(f"{kind}: dead units", chosen[name]["dead"], "dead" if name in setup.alive else "", ".4f")
          for name, kind in NAMES.items()),
        *(Row(f"{kind}: active units a row", chosen[name]["active"]) for name, kind in NAMES.items()),
        *(Row(f"{kind}: share of the variance lost", chosen[name]["error"], form=".3f")
          for name, kind in NAMES.items()),
        setup.row("mean max cosine, TopK minus L1", topk["mmcs"] - l1["mmcs"], "cosine", ".3f"),
        setup.row("error at equal active units, TopK over L1, largest", error_ratio(results, "topk"), "error", ".3f"),
        *(Row(f"error at equal active units, {kind} over L1, largest", ratio, form=".3f")
          for name, kind in NAMES.items() if name not in ("l1", "topk") and (ratio := error_ratio(results, name)) > 0),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    reached = {kind: [f"{cell['active']:.1f}" for cell in _points(results, name)] for name, kind in NAMES.items()}
    settings = "; ".join(f"{kind} {', '.join(active)}" for kind, active in reached.items())
    return [
        "The judged setting of each curve is the one whose number of active units on new rows is nearest to the true "
        f"{setup.data['n_active']:g}. The true dictionary is not used for this choice.",
        f"Active units along the curves: {settings}.",
        "Cosines are signed. In the mean max cosine one learned atom may match several true atoms; in the matched "
        "cosine it matches one.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    n_active = setup.data["n_active"]
    return {
        "error-by-active-units": _error_curves(results, n_active),
        "cosine-by-frequency": _cosines(results, n_active),
    }


def _error_curves(results: Results, n_active: float) -> Figure:
    figure, ax = axes(7.6)
    for colour, (name, kind) in zip(COLOURS, NAMES.items(), strict=False):
        points = _points(results, name)
        ax.plot([c["active"] for c in points], [c["error"] for c in points], color=colour, marker="o", ms=4, label=kind)
    ax.axvline(n_active, color=GREY, ls=":", lw=1.4, label="true number")
    ax.set_xlabel("active units per row")
    ax.set_ylabel("share of the variance lost")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title("Error against active units, new rows", fontsize=11, loc="left")
    return figure


def _cosines(results: Results, n_active: float) -> Figure:
    """Draw the cosine of each true atom with its nearest learned atom by the frequency of the atom, as medians."""
    figure, ax = axes(7.6)
    for colour, (name, kind) in zip(COLOURS, NAMES.items(), strict=False):
        cosines = np.asarray(at_the_truth(results, name, n_active)["cosines"])
        groups = np.array_split(cosines, 16)
        rates = [float(np.exp(np.log(p).mean())) for p in np.array_split(frequencies(len(cosines), n_active), 16)]
        ax.plot(rates, [np.median(group) for group in groups], color=colour, marker="o", ms=4, label=kind)
    untrained = float(np.median(results["untrained"]["cosines"]))
    ax.axhline(untrained, color=GREY, ls="--", lw=1.4, label="untrained")
    ax.set_xscale("log")
    ax.set_xticks(SHARES, [f"{share:.1%}" for share in SHARES])
    ax.minorticks_off()
    ax.set_xlabel("share of the rows that contain the atom")
    ax.set_ylabel("cosine of the nearest learned atom")
    ax.set_ylim(0, 1.02)
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title("Recovery by frequency of the atom (medians)", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="dictionary-recovery",
    claim="Sparse autoencoders recover the atoms of the rows; at equal sparsity TopK has no larger error than L1.",
    source="Sharkey, Braun & Millidge (2022); Gao et al. (2024); Rajamanoharan et al. (2024); Bussmann et al. (2024)",
    protocol=(
        "512 atoms uniform on the sphere in 128 dimensions; an atom is in a row with probability 1 / rank, "
        "scaled to 5 atoms a row on average (the rarest in .14% of the rows), with a weight from U(1/2, 3/2); 300,000 "
        "training rows, 10,000 test rows. 128-512-128, unit columns, squared error, Adam in fp32 at 6e-3 with "
        "warm-up and a cosine to zero, batches of 512, 10 epochs, for three settings of each kind of "
        "sparsity; for comparison the untrained dictionary."
    ),
    minutes=20,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
