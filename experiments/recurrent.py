"""A deep recurrent autoencoder compared with a feed-forward one of equal parameters, on corrupted digits."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, from_bytes, learning_seconds, load_rows, n_weights, to_bytes
from isthmus.parts.coder import Coder
from isthmus.parts.corruptions import SaltAndPepper
from isthmus.parts.recurrence import Recurrence
from isthmus.report.figures import originals_over_reconstructions

_SAVARD = "Savard (2011): the influence of the layers above improves reconstruction"

PUBLISHED = {
    "over feed-forward": Published(1.0, "at most", _SAVARD),
    "over the beginning": Published(1.0, "at most", _SAVARD),
}

TARGETS = {"parameters": Target(0.0, "within", "the protocol compares equal numbers of parameters")}

SEED = 0
SWEEPS = {"feed-forward": 0, "feed-forward, longer": 0, "one sweep": 1, "three sweeps": 3, "six sweeps": 6}
"""The number of sweeps of each model in training."""

JUDGED = "three sweeps"
"""The model that is judged: the default of the estimator."""

MORE_EPOCHS = 3
"""Factor of the epochs of fine-tuning of the longer model: about the time that three sweeps take."""

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
"""Shares of replaced pixels in the evaluation."""

EVALUATED_SWEEPS = 10
SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, Any]
    parameters: dict[str, Any]
    models: tuple[str, ...]


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    data={"train": "mnist", "test": "mnist:test", "rows": 10000, "test_rows": 5000},
    parameters={
        "hidden_sizes": [500, 250], "code_size": 100, "pretraining__epochs": 8, "fine_tuning__epochs": 20,
    },
    models=tuple(SWEEPS),
)  # fmt: skip

QUICK = _Setup(
    targets=TARGETS, data={"train": "digits:train", "test": "digits:test", "rows": 500, "test_rows": 200},
    parameters={"hidden_sizes": [32], "code_size": 16, "pretraining__epochs": 1, "fine_tuning__epochs": 2},
    models=("feed-forward", JUDGED),
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    parameters = {
        **setup.parameters, "likelihood": "bernoulli", "scaling": "none", "layers__corruption": "salt-and-pepper",
        "layers__corruption__rate": 0.4, "batch_size": 100, "precision": "fp32", "fine_tuning__learning_rate": 1e-2,
    }  # fmt: skip
    return [
        Cell(_slug(name), {**setup.data, "seed": SEED, "kind": "recurrent", "model": name,
                           "parameters": {**parameters, **_own(name, parameters)}}, _fit)
        for name in setup.models
    ]  # fmt: skip


def _slug(name: str) -> str:
    """Return the name as a file name."""
    return name.replace(", ", "-").replace(" ", "-")


def _own(name: str, shared: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that differ between the models."""
    longer = MORE_EPOCHS if "longer" in name else 1
    return {"n_sweeps": SWEEPS[name], "fine_tuning__epochs": longer * shared["fine_tuning__epochs"]}


def images(source: str, n: int) -> Float[np.ndarray, "n pixels"]:
    """Return the first digits of a data set as rows in [0, 1]."""
    X = np.asarray(load_rows(source, n), np.float32)
    return X.reshape(len(X), -1) / X.max()


def _fit(settings: Settings, state: Path) -> Result:
    """Train one model: its errors by the share of replaced pixels and by the number of sweeps."""
    model = fit_model(settings, rows=images(settings["train"], settings["rows"]), state=state)
    clean = images(settings["test"], settings["test_rows"])
    coder: Any = model.coder_
    trained_at, n_sweeps = settings["parameters"]["layers__corruption__rate"], coder.encoder.n_sweeps
    x, noisy = torch.from_numpy(clean), corrupted(clean, trained_at)
    by_sweep = reconstructions_by_sweep(coder, noisy, EVALUATED_SWEEPS if n_sweeps else 0)
    return {
        "model": settings["model"], "parameters": n_weights(model), "minutes": learning_seconds(model) / 60,
        "by_level": {str(level): _error(reconstructions_by_sweep(coder, corrupted(clean, level), n_sweeps)[-1], x)
                     for level in LEVELS},
        "clean": _error(reconstructions_by_sweep(coder, x, n_sweeps)[-1], x),
        "by_sweep": [_error(r, x) for r in by_sweep],
        "learned_with": n_sweeps,
        "shown": {"clean": to_bytes(clean[:SHOWN]), "corrupted": to_bytes(noisy[:SHOWN]),
                  "sweeps": [to_bytes(r[:SHOWN]) for r in by_sweep[: n_sweeps + 1]]},
    }  # fmt: skip


def corrupted(clean: Float[np.ndarray, "n pixels"], level: float) -> Float[torch.Tensor, "n pixels"]:
    """Return the images with a share of their pixels black or white, the same noise for every model."""
    return SaltAndPepper(level)(torch.from_numpy(clean), torch.Generator().manual_seed(SEED)).x


@torch.no_grad()
def reconstructions_by_sweep(
    coder: Coder, x: Float[torch.Tensor, "n pixels"], n_sweeps: int
) -> list[Float[torch.Tensor, "n pixels"]]:
    """Return the reconstructions before the first sweep and after each of `n_sweeps` sweeps."""
    coder = copy.deepcopy(coder)
    recurrence = cast(Recurrence, coder.inference)
    recurrence.encoder.n_sweeps = n_sweeps
    return [coder.likelihood.mean(coder.decode(code)) for code in recurrence.codes_by_sweep(x)]


def _error(r: Float[torch.Tensor, "n pixels"], x: Float[torch.Tensor, "n pixels"]) -> float:
    """Return the squared error, summed over pixels, mean over images."""
    return float((r - x).double().square().sum(1).mean())


def _by_model(results: Results) -> dict[str, Result]:
    return {cell["model"]: cell for cell in results.values()}


def _rows(results: Results, setup: _Setup) -> list[Row]:
    found = _by_model(results)
    plain, ours = found["feed-forward"], found[JUDGED]
    rows = [
        setup.row("difference in the number of parameters to the feed-forward network",
                  ours["parameters"] - plain["parameters"], "parameters", ".0f"),
        *(Row(f"{name}: squared error per test digit, 40% of the pixels replaced", cell["by_level"]["0.4"])
          for name, cell in found.items()),
        *(setup.row(f"error, {JUDGED} over feed-forward, {float(level):.0%} replaced",
                    ours["by_level"][level] / plain["by_level"][level],
                    "over feed-forward" if level == "0.4" else "", ".3f") for level in ours["by_level"]),
    ]  # fmt: skip
    if "feed-forward, longer" in found:
        longer = found["feed-forward, longer"]
        rows.append(Row(f"error, {JUDGED} over feed-forward with longer training, 40% replaced",
                        ours["by_level"]["0.4"] / longer["by_level"]["0.4"], form=".3f"))  # fmt: skip
    for name, cell in found.items():
        if cell["learned_with"]:
            gain = cell["by_sweep"][cell["learned_with"]] / cell["by_sweep"][0]
            key = "over the beginning" if name == JUDGED else ""
            rows.append(setup.row(f"{name}: error after the sweeps over that before", gain, key, ".3f"))
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    found = _by_model(results)
    minutes = "; ".join(f"{name} {cell['minutes']:.1f}" for name, cell in found.items())
    clean = "; ".join(f"{name} {cell['clean']:.2f}" for name, cell in found.items())
    return [
        f"Minutes of fine-tuning: {minutes}.",
        f"Squared error on uncorrupted digits, which no model was trained on: {clean}.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    found = _by_model(results)
    ours, plain = found[JUDGED]["shown"], found["feed-forward"]["shown"]
    lines = {"40% replaced": ours["corrupted"], "feed-forward": plain["sweeps"][-1]}
    names = ["before the first sweep", "after one", *(f"after {n}" for n in ("two", "three"))]
    lines |= dict(zip(names, ours["sweeps"], strict=False))
    side = round(len(ours["clean"][0]) ** 0.5)
    levels = {name: ([100 * float(level) for level in cell["by_level"]], list(cell["by_level"].values()))
              for name, cell in found.items()}  # fmt: skip
    sweeps = {name: (list(range(len(cell["by_sweep"]))), cell["by_sweep"])
              for name, cell in found.items() if cell["learned_with"]}  # fmt: skip
    return {
        "digits": originals_over_reconstructions(
            from_bytes(ours["clean"]), {name: from_bytes(shown) for name, shown in lines.items()}, (1, side, side),
            title="Corrupted test digits and their reconstructions by sweep"),
        "error-by-corruption": curves(levels, across="% of the pixels replaced", up="squared error per test digit",
                                      title="Models trained with 40% replaced"),
        "error-by-sweep": curves(
            sweeps, across="sweeps in the evaluation", up="squared error per test digit, 40% replaced",
            title="Error by the number of sweeps",
            levels={"feed-forward": found["feed-forward"]["by_sweep"][0]}, from_zero=False),
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="recurrent",
    claim="Sweeps up and down a stack denoise digits better than one upward pass, with the same parameters.",
    source="Savard, Reseaux de neurones a relaxation entraines par critere d'autoencodeur debruitant (2011)",
    protocol="784-500-250-100, sigmoid units, tied weights, on the first 10,000 training digits of MNIST in [0, 1]; "
    "each layer pretrained as a denoising autoencoder for 8 epochs, then all fine-tuned for 20 under the "
    "cross-entropy through 0, 1, 3 or 6 sweeps (AdamW at 1e-2), 40% of the pixels replaced by black or white; the "
    "feed-forward network once more for 60 epochs. One seed, the same noise. Squared errors against the clean digits "
    "on the first 5,000 test digits, at six shares of replaced pixels, and by the number of sweeps.",
    minutes=8,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
