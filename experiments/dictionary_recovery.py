"""A known dictionary, hidden in sums of a few of its atoms, and how much of it each way of being sparse finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import fitted, learning_seconds
from isthmus.evaluation.dictionaries import compare_dictionaries
from isthmus.parts.constraints import dictionary_weight
from isthmus.report.figures import GREY

_SHARKEY = "Sharkey et al. (2022): L1, a known dictionary"
_GAO = "Gao et al. (2024): TopK is on the better side of L1's curve"

PUBLISHED = {
    "l1": Published(0.96, "at least", _SHARKEY),
    "topk": Published(0.96, "at least", _SHARKEY),
    "dead": Published(0.01, "at most", "Gao et al. (2024): hardly any unit is dead with the auxiliary loss"),
    "error": Published(1.0, "at most", _GAO),
    "cosine": Published(0.0, "at least", _GAO),
}
"""What is claimed, compared with what came out and used for nothing else."""

QUICK = {
    "dead": Published(0.05, "at most", "two units of forty-eight at most"),
    **{name: PUBLISHED[name] for name in ("error", "cosine")},
}

SEED = 0
NAMES = {"l1": "L1", "topk": "TopK", "batch-topk": "BatchTopK", "jumprelu": "JumpReLU", "gated": "Gated"}
"""The ways of being sparse, in words."""

ROWS_AT_ONCE = 20_000
"""Rows that are drawn at once: the coefficients of all would take gigabytes."""

SHARES = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Of rows, named on the axis of the rare and the common atoms."""

CURVES: dict[str, tuple[str, tuple[float, ...]]] = {
    "l1": ("sparsity_weight", (0.25, 0.4, 0.6)),
    "topk": ("k", (3, 5, 8)),
    "batch-topk": ("k", (3, 5, 8)),
    "jumprelu": ("sparsity_weight", (0.03, 0.08, 0.2)),
    "gated": ("sparsity_weight", (0.2, 0.4, 0.8)),
}
"""What is turned to go along each curve of error against active units."""


def _cells(quick: bool) -> list[Cell]:
    data = {"n_features": 512, "n_columns": 128, "n_active": 5.0, "n_rows": 300_000, "n_test": 10_000}
    learned = {"code_size": 512, "max_epochs": 10, "batch_size": 512, "learning_rate": 6e-3, "precision": "fp32"}
    turned, k = CURVES, 5
    if quick:
        data = {"n_features": 48, "n_columns": 16, "n_active": 2.0, "n_rows": 3_000, "n_test": 1_000}
        learned |= {"code_size": 48, "max_epochs": 12, "batch_size": 128, "learning_rate": 1e-2}
        turned, k = {name: (knob, values[1:2]) for name, (knob, values) in CURVES.items()}, 2
        turned |= {"l1": ("sparsity_weight", (0.2, 0.8)), "topk": ("k", (2, 3)), "batch-topk": ("k", (2,))}
    untrained = {**learned, "sparsity": "topk", "k": k, "max_epochs": 1, "learning_rate": 1e-12}
    return [
        _cell("untrained", data, untrained),
        *(_cell(f"{name}-{value:g}", data, {**learned, "sparsity": name, knob: value})
          for name, (knob, values) in turned.items() for value in values),
    ]  # fmt: skip


def _cell(name: str, data: dict[str, Any], parameters: dict[str, Any]) -> Cell:
    fixed = {"likelihood": "gaussian", "scaling": "none"}
    return Cell(name, {"data": data, "seed": SEED, "kind": "sparse", "parameters": {**parameters, **fixed}}, _fit)


def frequencies(n_features: int, n_active: float) -> Float[np.ndarray, " features"]:
    """How often each feature is in a row: p_i proportional to 1 / i, n_active of them in a row on average.

    Example:
        >>> frequencies(3, 1.1).round(2).tolist()
        [0.6, 0.3, 0.2]
    """
    p = 1.0 / np.arange(1, n_features + 1)
    return p * n_active / p.sum()


def atoms(data: Settings, seed: int) -> Float[np.ndarray, "features columns"]:
    """The true dictionary: directions drawn evenly from the sphere."""
    drawn = np.random.default_rng(seed).normal(size=(data["n_features"], data["n_columns"]))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def sums(data: Settings, n_rows: int, seed: int) -> Float[np.ndarray, "rows columns"]:
    """Rows x = sum over features that are on of h_i d_i, h_i ~ U(1/2, 3/2)."""
    generator, true = np.random.default_rng([seed, n_rows]), atoms(data, seed)
    often = frequencies(data["n_features"], data["n_active"])
    rows = np.empty((n_rows, data["n_columns"]), np.float32)
    for block in np.array_split(rows, -(-n_rows // ROWS_AT_ONCE)):
        shape = len(block), data["n_features"]
        block[:] = ((generator.random(shape) < often) * generator.uniform(0.5, 1.5, shape)) @ true
    return rows


def _fit(settings: Settings, state: Path) -> Result:
    """One way to be sparse: the error and the active units of new rows, and what it found of the dictionary."""
    data, seed = settings["data"], settings["seed"]
    model = fitted(settings, rows=sums(data, data["n_rows"], seed), state=state)
    test = sums(data, data["n_test"], seed)
    codes = model.transform(test)
    weight = dictionary_weight(model.objective_.decoder)
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
    """The cells of one way to be sparse, by their active units."""
    cells = [cell for key, cell in results.items() if key.rpartition("-")[0] == name]
    return sorted(cells, key=lambda cell: cell["active"])


def at_the_truth(results: Results, name: str, n_active: float) -> Result:
    """The cell whose active units are nearest to those of the truth: how a setting is chosen, for every way alike."""
    return min(_points(results, name), key=lambda cell: abs(cell["active"] - n_active))


def over_l1(results: Results, name: str) -> float:
    """The largest ratio of a way's error to L1's at the same active units, read off its curve (both in logarithms).

    NaN where no point of the way is within L1's curve.
    """
    l1 = _points(results, "l1")
    active, errors = (np.log([cell[what] for cell in l1]) for what in ("active", "error"))
    ratios = [
        cell["error"] / float(np.exp(np.interp(np.log(cell["active"]), active, errors)))
        for cell in _points(results, name)
        if l1[0]["active"] <= cell["active"] <= l1[-1]["active"]
    ]
    return max(ratios, default=float("nan"))


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    n_active = 2.0 if quick else 5.0
    chosen = {name: at_the_truth(results, name, n_active) for name in NAMES}
    l1, topk = chosen["l1"], chosen["topk"]
    alive = ("l1", "topk") if quick else tuple(NAMES)
    return [
        Row("untrained: mean max cosine", results["untrained"]["mmcs"], form=".3f"),
        *(Row(f"{way}: mean max cosine", chosen[name]["mmcs"], published.get(name), ".3f")
          for name, way in NAMES.items()),
        *(Row(f"{way}: mean matched cosine (Hungarian)", chosen[name]["mcc"], form=".3f")
          for name, way in NAMES.items()),
        *(Row(f"{way}: share of the true atoms found (cosine over .9)", chosen[name]["recovered"], form=".3f")
          for name, way in NAMES.items()),
        *(Row(f"{way}: dead units", chosen[name]["dead"], published["dead"] if name in alive else None, ".4f")
          for name, way in NAMES.items()),
        *(Row(f"{way}: active units a row", chosen[name]["active"]) for name, way in NAMES.items()),
        *(Row(f"{way}: share of the variance lost", chosen[name]["error"], form=".3f") for name, way in NAMES.items()),
        Row("TopK less L1: mean max cosine", topk["mmcs"] - l1["mmcs"], published["cosine"], ".3f"),
        Row("TopK over L1, error at equal active units, the worst point", over_l1(results, "topk"),
            published["error"], ".3f"),
        *(Row(f"{way} over L1, error at equal active units, the worst point", ratio, form=".3f")
          for name, way in NAMES.items() if name not in ("l1", "topk") and (ratio := over_l1(results, name)) > 0),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    n_active = 2 if quick else 5
    reached = {way: [f"{cell['active']:.1f}" for cell in _points(results, name)] for name, way in NAMES.items()}
    settings = "; ".join(f"{way} {', '.join(active)}" for way, active in reached.items())
    return [
        f"Of each curve the setting is judged whose active units are nearest to the {n_active} of the truth, on new "
        "rows: the dictionary itself chooses nothing.",
        f"Active units along the curves: {settings}.",
        "Cosines are signed; one learned atom may be the nearest of several true ones in the mean max cosine, and of "
        "one alone in the matched.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    n_active = 2.0 if quick else 5.0
    return {
        "error-by-active-units": _error_curves(results, n_active),
        "cosine-by-frequency": _cosines(results, n_active),
    }


def _error_curves(results: Results, n_active: float) -> Figure:
    figure, place = axes(7.6)
    for colour, (name, way) in zip(COLOURS, NAMES.items(), strict=False):
        points = _points(results, name)
        place.plot(
            [c["active"] for c in points], [c["error"] for c in points], color=colour, marker="o", ms=4, label=way
        )
    place.axvline(n_active, color=GREY, ls=":", lw=1.4, label="the truth")
    place.set_xlabel("active units of a row")
    place.set_ylabel("share of the variance lost")
    place.set_ylim(bottom=0)
    place.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    place.set_title("Error against active units, new rows", fontsize=11, loc="left")
    return figure


def _cosines(results: Results, n_active: float) -> Figure:
    """How near each true atom's nearest learned one is, by how often the atom is in a row: running medians."""
    figure, place = axes(7.6)
    for colour, (name, way) in zip(COLOURS, NAMES.items(), strict=False):
        cosines = np.asarray(at_the_truth(results, name, n_active)["cosines"])
        groups = np.array_split(cosines, 16)
        often = [float(np.exp(np.log(p).mean())) for p in np.array_split(frequencies(len(cosines), n_active), 16)]
        place.plot(often, [np.median(group) for group in groups], color=colour, marker="o", ms=4, label=way)
    untrained = float(np.median(results["untrained"]["cosines"]))
    place.axhline(untrained, color=GREY, ls="--", lw=1.4, label="untrained")
    place.set_xscale("log")
    place.set_xticks(SHARES, [f"{share:.1%}" for share in SHARES])
    place.minorticks_off()
    place.set_xlabel("share of the rows that an atom is in")
    place.set_ylabel("cosine of the nearest learned atom")
    place.set_ylim(0, 1.02)
    place.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    place.set_title("What was found, by how rare it is (medians)", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="dictionary-recovery",
    claim="Sparse autoencoders find the atoms that rows are sums of; TopK errs no more than L1 at equal sparsity.",
    source="Sharkey, Braun & Millidge (2022); Gao et al. (2024); Rajamanoharan et al. (2024); Bussmann et al. (2024)",
    protocol=(
        "512 atoms drawn evenly from the sphere in 128 dimensions; an atom is in a row with probability 1 / rank, "
        "scaled to 5 atoms a row on average (the rarest in .14% of the rows), weighed by U(1/2, 3/2); 300,000 rows to "
        "learn from, 10,000 new ones to judge by. 128-512-128, unit columns, squared error, Adam in fp32 at 6e-3 with "
        "warm-up and a cosine to zero, batches of 512, 10 epochs, for three settings of each way to be sparse; "
        "beside them the dictionary as it begins."
    ),
    minutes=20,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
