"""A deep recurrent autoencoder beside the feed-forward one of the same parameters, on corrupted digits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import as_bytes, as_units, fitted, learning_seconds, n_weights, rows_of
from isthmus.learning.recurrence import RecurrentStack
from isthmus.parts.corruptions import SaltAndPepper
from isthmus.report.figures import originals_over_reconstructions

_SAVARD = "Savard (2011): reconstruction gains from the influence of the layers above"

PUBLISHED = {
    "parameters": Published(0.0, "within", "the protocol"),
    "over feed-forward": Published(1.0, "at most", _SAVARD),
    "over the beginning": Published(1.0, "at most", _SAVARD),
}
"""What is claimed, compared with what came out and used for nothing else."""

QUICK = {name: PUBLISHED[name] for name in ("parameters",)}

SEED = 0
SWEEPS = {"feed-forward": 0, "feed-forward, longer": 0, "one sweep": 1, "three sweeps": 3, "six sweeps": 6}
"""How often each settles while it learns."""

JUDGED = "three sweeps"
"""The default of the estimator, which the claim is held against."""

MORE_EPOCHS = 3
"""How many times as long the longer one is fine-tuned: about as long as three sweeps take."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Shares of the pixels that are replaced when the models are judged."""

LOOKED_AT_SWEEPS = 10
SHOWN = 10


def _cells(quick: bool) -> list[Cell]:
    data = {"train": "digits:train", "test": "digits:test"} if quick else {"train": "mnist", "test": "mnist:test"}
    parameters = {
        "hidden_sizes": [32] if quick else [500, 250], "code_size": 16 if quick else 100, "likelihood": "bernoulli",
        "scaling": "none", "corruption": "salt-and-pepper", "corruption_rate": 0.4, "batch_size": 100,
        "pretraining_epochs": 1 if quick else 8, "fine_tuning_epochs": 2 if quick else 20, "precision": "fp32",
        "fine_tuning_learning_rate": 1e-2,
    }  # fmt: skip
    rows = {"rows": 500 if quick else 10000, "test_rows": 200 if quick else 5000}
    names = ["feed-forward", JUDGED] if quick else list(SWEEPS)
    return [
        Cell(_slug(name), {**data, **rows, "seed": SEED, "kind": "recurrent", "model": name,
                           "parameters": {**parameters, **_own(name, parameters)}}, _fit)
        for name in names
    ]  # fmt: skip


def _slug(name: str) -> str:
    """A name in the name of a file."""
    return name.replace(", ", "-").replace(" ", "-")


def _own(name: str, shared: dict[str, Any]) -> dict[str, Any]:
    """What makes a model of this name."""
    longer = MORE_EPOCHS if "longer" in name else 1
    return {"n_sweeps": SWEEPS[name], "fine_tuning_epochs": longer * shared["fine_tuning_epochs"]}


def images(source: str, n: int) -> Float[np.ndarray, "n pixels"]:
    """The first digits of a set, flat, in [0, 1]."""
    X = np.asarray(rows_of(source, n), np.float32)
    return X.reshape(len(X), -1) / X.max()


def _fit(settings: Settings, state: Path) -> Result:
    """Learn, and look at the errors by how much is corrupted, and by how many sweeps are made."""
    model = fitted(settings, rows=images(settings["train"], settings["rows"]), state=state)
    clean = images(settings["test"], settings["test_rows"])
    stack: Any = model.objective_
    trained_at, n_sweeps = settings["parameters"]["corruption_rate"], stack.encoder.n_sweeps
    x, noisy = torch.from_numpy(clean), corrupted(clean, trained_at)
    by_sweep = codes_by_sweep(stack, noisy, LOOKED_AT_SWEEPS if n_sweeps else 0)
    return {
        "model": settings["model"], "parameters": n_weights(model), "minutes": learning_seconds(model) / 60,
        "by_level": {str(level): _error(codes_by_sweep(stack, corrupted(clean, level), n_sweeps)[-1], x)
                     for level in LEVELS},
        "clean": _error(codes_by_sweep(stack, x, n_sweeps)[-1], x),
        "by_sweep": [_error(r, x) for r in by_sweep],
        "learned_with": n_sweeps,
        "shown": {"clean": as_bytes(clean[:SHOWN]), "corrupted": as_bytes(noisy[:SHOWN]),
                  "sweeps": [as_bytes(r[:SHOWN]) for r in by_sweep[: n_sweeps + 1]]},
    }  # fmt: skip


def corrupted(clean: Float[np.ndarray, "n pixels"], level: float) -> Float[torch.Tensor, "n pixels"]:
    """The images with a share of their pixels black or white, the same draw for every model."""
    return SaltAndPepper(level)(torch.from_numpy(clean), torch.Generator().manual_seed(SEED)).x


@torch.no_grad()
def codes_by_sweep(
    stack: RecurrentStack, x: Float[torch.Tensor, "n pixels"], n_sweeps: int
) -> list[Float[torch.Tensor, "n pixels"]]:
    """The reconstructions at the beginning and after each of so many sweeps."""
    stack = copy.deepcopy(stack)
    stack.encoder.n_sweeps = n_sweeps
    return [stack.likelihood.mean(stack.decoder(code)) for code in stack.codes_by_sweep(x)]


def _error(r: Float[torch.Tensor, "n pixels"], x: Float[torch.Tensor, "n pixels"]) -> float:
    """The squared error summed over pixels, the mean over images."""
    return float((r - x).double().square().sum(1).mean())


def _by_model(results: Results) -> dict[str, Result]:
    return {cell["model"]: cell for cell in results.values()}


def _rows(results: Results, quick: bool) -> list[Row]:
    published, found = QUICK if quick else PUBLISHED, _by_model(results)
    plain, ours = found["feed-forward"], found[JUDGED]
    rows = [
        Row("parameters more than the feed-forward network has", ours["parameters"] - plain["parameters"],
            published["parameters"], ".0f"),
    ]  # fmt: skip
    for name, cell in found.items():
        rows.append(Row(f"{name}: squared error per test digit, 40% of the pixels replaced", cell["by_level"]["0.4"]))
    rows += [
        Row(f"{JUDGED}: error over the feed-forward network's, {float(level):.0%} replaced",
            ours["by_level"][level] / plain["by_level"][level],
            published.get("over feed-forward") if level == "0.4" else None, ".3f")
        for level in ours["by_level"]
    ]  # fmt: skip
    if "feed-forward, longer" in found:
        longer = found["feed-forward, longer"]
        rows.append(Row(f"{JUDGED}: error over that of the feed-forward network that learns longer, 40% replaced",
                        ours["by_level"]["0.4"] / longer["by_level"]["0.4"], form=".3f"))  # fmt: skip
    for name, cell in found.items():
        if cell["learned_with"]:
            gain = cell["by_sweep"][cell["learned_with"]] / cell["by_sweep"][0]
            judged = published.get("over the beginning") if name == JUDGED else None
            rows.append(Row(f"{name}: error after them over that before the first", gain, judged, ".3f"))
    return rows


def _remarks(results: Results, quick: bool) -> list[str]:
    found = _by_model(results)
    minutes = "; ".join(f"{name} {cell['minutes']:.1f}" for name, cell in found.items())
    clean = "; ".join(f"{name} {cell['clean']:.2f}" for name, cell in found.items())
    return [
        f"Minutes of fine-tuning: {minutes}.",
        f"Squared error of digits that nothing was done to, which none of them was shown: {clean}.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    found = _by_model(results)
    ours, plain = found[JUDGED]["shown"], found["feed-forward"]["shown"]
    lines = {"40% replaced": ours["corrupted"], "feed-forward": plain["sweeps"][-1]}
    names = ["before a sweep", "after one", *(f"after {n}" for n in ("two", "three"))]
    lines |= dict(zip(names, ours["sweeps"], strict=False))
    side = round(len(ours["clean"][0]) ** 0.5)
    levels = {name: ([100 * float(level) for level in cell["by_level"]], list(cell["by_level"].values()))
              for name, cell in found.items()}  # fmt: skip
    sweeps = {name: (list(range(len(cell["by_sweep"]))), cell["by_sweep"])
              for name, cell in found.items() if cell["learned_with"]}  # fmt: skip
    return {
        "digits": originals_over_reconstructions(
            as_units(ours["clean"]), {name: as_units(shown) for name, shown in lines.items()}, (1, side, side),
            title="Corrupted test digits, and what is made of them with each sweep"),
        "error-by-corruption": curves(levels, across="% of the pixels replaced", up="squared error per test digit",
                                      title="Each learned with 40% replaced"),
        "error-by-sweep": curves(
            sweeps, across="sweeps when read", up="squared error per test digit, 40% replaced",
            title="They stay where they have settled, or drift off",
            levels={"feed-forward": found["feed-forward"]["by_sweep"][0]}, from_zero=False),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="recurrent",
    claim="Sweeps up and down a stack clean corrupted digits better than one way up, with the same parameters.",
    source="Savard, Reseaux de neurones a relaxation entraines par critere d'autoencodeur debruitant (2011)",
    protocol="784-500-250-100, sigmoid units, tied weights, on the first 10,000 training digits of MNIST in [0, 1]; "
    "each layer pretrained as a denoising autoencoder for 8 epochs, then all fine-tuned for 20 under the "
    "cross-entropy through 0, 1, 3 or 6 sweeps (AdamW at 1e-2), 40% of the pixels replaced by black or white; the "
    "feed-forward network once more for 60 epochs. One seed, the same draws. Squared errors against the clean digits "
    "on the first 5,000 test digits, at six shares of replaced pixels, and by the number of sweeps when read.",
    minutes=8,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
