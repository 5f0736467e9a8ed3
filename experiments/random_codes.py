"""Codes drawn at random: what a plain autoencoder decodes them to, and what fitted and trained distributions do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import curves, image_lines
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, from_bytes, learning_seconds, nearest_distances, to_bytes, unit_images
from isthmus import GaussianPrior, MixturePrior
from isthmus.estimators.base import BaseAutoencoder
from isthmus.parts.priors import FittedMixture

_BOOK = "Deep Learning, section 20.10.3: a decoder generates from the codes of its prior, for which it was trained"
_BOX = "uniform codes ignore where the codes of rows are"

TARGETS = {
    **{f"gaussian {size}": Target(1.0, "at most", _BOX) for size in (8, 16, 32)},
    **{f"mixture {size}": Target(1.0, "at most", "a mixture contains the Gaussian") for size in (8, 16, 32)},
    **{f"vae {size}": Target(1.0, "at most", _BOOK) for size in (8, 16, 32)},
    "growth": Target(1.0, "at least", "the codes of rows fill less of a box of more units"),
    "held-out": Target(1.0, "at least", "uniform codes decode to images far from digits"),
}
"""The sources state no figures: these bounds express their claims in numbers."""

SEED = 0
N_SHOWN = 10

NAMES = {
    "held-out": "held-out digits",
    "uniform": "autoencoder,\nuniform codes",
    "gaussian": "autoencoder,\nfitted Gaussian",
    "mixture": "autoencoder,\nfitted mixture",
    "vae": "variational,\nits prior",
}
"""Sources of images, and their names in pictures."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    train: str
    test: str
    rows: int
    held_out: int
    sizes: list[int]
    parameters: dict[str, Any]


FULL = _Setup(
    targets=TARGETS, train="mnist", test="mnist:test", rows=20_000, held_out=1000, sizes=[8, 16, 32],
    parameters={"hidden_sizes": [512, 256], "batch_size": 128, "max_epochs": 20},
)  # fmt: skip

QUICK = _Setup(
    targets={"gaussian 8": Target(1.0, "at most", _BOX)}, train="digits:train", test="digits:test", rows=1000,
    held_out=200, sizes=[4, 8], parameters={"hidden_sizes": [64, 32], "batch_size": 32, "max_epochs": 12},
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common = {
        "train": setup.train, "test": setup.test, "rows": setup.rows, "held_out": setup.held_out, "seed": SEED,
    }  # fmt: skip
    parameters = {"scaling": "none", "precision": "fp32", "likelihood": "bernoulli", **setup.parameters}
    return [
        Cell(f"{kind}-{size}", {**common, "kind": kind, "parameters": {**parameters, "code_size": size}}, work)
        for size in setup.sizes
        for kind, work in (("deep", _autoencoder), ("vae", _variational))
    ]


def _fit(settings: Settings) -> tuple[BaseAutoencoder, Float[np.ndarray, "rows height width"]]:
    """Fit a model; return it with its training rows."""
    rows = unit_images(settings["train"], settings["rows"])
    return fit_model(settings, rows=rows), rows


def _autoencoder(settings: Settings, state: Path) -> Result:
    """Decode codes of three distributions of a plain autoencoder, and measure where uniform codes lie."""
    model, rows = _fit(settings)
    held_out = unit_images(settings["test"], settings["held_out"])
    codes, seen = model.transform(rows), model.transform(held_out)
    generator = np.random.default_rng(settings["seed"])
    drawn = {
        "uniform": generator.uniform(codes.min(0), codes.max(0), (len(held_out), codes.shape[1])).astype(np.float32),
        **{
            name: _fitted_samples(codes, prior.k, len(held_out), settings["seed"])
            for name, prior in (("gaussian", GaussianPrior()), ("mixture", MixturePrior(10)))
        },
    }
    images = {
        "held-out": held_out,
        "reconstructed": np.asarray(model.reconstruct(held_out)),
        **{name: np.asarray(model.inverse_transform(sample)) for name, sample in drawn.items()},
    }
    return {
        **_measured(images, rows),
        "code_distances": {
            name: float(nearest_distances(sample, codes).mean()) for name, sample in {"held-out": seen, **drawn}.items()
        },
        "image_shape": list(rows.shape[1:]),
        "seconds": learning_seconds(model),
    }


def _fitted_samples(codes: Float[np.ndarray, "rows units"], k: int, n: int, seed: int) -> Float[np.ndarray, "n units"]:
    """Return samples of the mixture that `fit_prior` fits to the codes of rows."""
    import torch

    prior = FittedMixture(codes.shape[1], k)
    prior.fit(torch.from_numpy(codes), seed=seed)
    return prior.sample(n, torch.Generator().manual_seed(seed)).numpy()


def _variational(settings: Settings, state: Path) -> Result:
    """Decode codes of the prior of a variational autoencoder."""
    model, rows = _fit(settings)
    samples: Any = model
    images = np.asarray(samples.sample(settings["held_out"], random_state=settings["seed"], mean=True))
    return {**_measured({"vae": images}, rows), "seconds": learning_seconds(model)}


def _measured(
    images: Mapping[str, Float[np.ndarray, "_ height width"]], rows: Float[np.ndarray, "rows height width"]
) -> dict[str, Any]:
    """Return distances of images to the nearest row, and some of the images, by source."""
    at = rows.reshape(len(rows), -1)
    flat = {name: found.reshape(len(found), -1) for name, found in images.items()}
    distances = {name: nearest_distances(x, at) for name, x in flat.items()}
    return {
        "distances": {name: float(found.mean()) for name, found in distances.items()},
        "by_image": {name: np.round(found, 4).tolist() for name, found in distances.items()},
        "shown": {name: to_bytes(x[:N_SHOWN]) for name, x in flat.items()},
    }


def _by_size(results: Results) -> dict[int, dict[str, Any]]:
    """Return the results of both kinds by code size."""
    sizes = sorted({int(name.rpartition("-")[2]) for name in results})
    both = {size: (results[f"deep-{size}"], results[f"vae-{size}"]) for size in sizes}
    return {
        size: {
            "distances": plain["distances"] | vae["distances"],
            "beyond": {name: _beyond(plain, found) for name, found in (plain["by_image"] | vae["by_image"]).items()},
            "shown": plain["shown"] | vae["shown"],
            "code_distances": plain["code_distances"],
        }
        for size, (plain, vae) in both.items()
    }


def _beyond(plain: Result, distances: list[float]) -> float:
    """Return the fraction of distances above the 95% quantile of those of held-out digits."""
    return float((np.array(distances) > np.quantile(plain["by_image"]["held-out"], 0.95)).mean())


def _rows(results: Results, setup: _Setup) -> list[Row]:
    sizes = _by_size(results)
    found = {size: one["distances"] for size, one in sizes.items()}
    first, last = min(found), max(found)
    rows = [Row("distance of held-out digits to the nearest training digit", found[first]["held-out"])]
    for size, distances in found.items():
        rows += [
            Row(f"{size} units: distance of {name}", distances[key])
            for key, name in (
                ("reconstructed", "reconstructions of held-out digits"), ("uniform", "decoded uniform codes"),
                ("gaussian", "decoded codes of the fitted Gaussian"),
                ("mixture", "decoded codes of the fitted mixture"),
                ("vae", "decoded codes of the prior, variational autoencoder"),
            )
        ]  # fmt: skip
    for size, distances in found.items():
        rows += [
            setup.row(f"{size} units: distance, fitted Gaussian over uniform",
                      distances["gaussian"] / distances["uniform"], f"gaussian {size}", ".3f"),
            setup.row(f"{size} units: distance, fitted mixture over fitted Gaussian",
                      distances["mixture"] / distances["gaussian"], f"mixture {size}", ".3f"),
            setup.row(f"{size} units: distance, variational autoencoder over uniform",
                      distances["vae"] / distances["uniform"], f"vae {size}", ".3f"),
        ]  # fmt: skip
    rows += [
        setup.row(f"{last} units: distance, uniform over held-out digits",
                  found[last]["uniform"] / found[last]["held-out"], "held-out", ".3f"),
        setup.row(f"distance of decoded uniform codes, {last} units over {first}",
                  found[last]["uniform"] / found[first]["uniform"], "growth", ".3f"),
    ]  # fmt: skip
    for size, one in sizes.items():
        codes = one["code_distances"]
        rows.append(
            Row(f"{size} units: distance of uniform codes to the nearest training code, over that of held-out codes",
                codes["uniform"] / codes["held-out"])
        )  # fmt: skip
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    sizes = _by_size(results)
    shares = {
        key: ", ".join(f"{one['beyond'][key]:.0%}" for one in sizes.values())
        for key in ("uniform", "gaussian", "mixture", "vae")
    }
    outside = ", ".join(
        f"{one['code_distances']['uniform'] / one['code_distances']['held-out']:.1f}" for one in sizes.values()
    )
    nearer = [size for size, one in sizes.items() if one["distances"]["mixture"] < one["distances"]["vae"]]
    seconds = sum(cell["seconds"] for cell in results.values())
    return [
        f"Uniform codes are {outside} times as far from the nearest training code as the codes of held-out digits: the "
        "codes of digits fill little of the box, and the decoder was not trained in the rest of it.",
        "The decodings of the fitted mixture are nearer to digits than those of the variational autoencoder at "
        f"{', '.join(map(str, nearer)) or 'no number of'} units: a distribution that is fitted after training need "
        "not be worse than a prior.",
        f"Distances are Euclidean, in pixels of [0, 1], to the nearest of {setup.rows:,} training rows; means over "
        f"{setup.held_out:,} images. Decodings are smoother than digits, and so nearer to training digits than "
        "held-out digits are: a small distance alone does not show that an image is a digit. The reconstructions of "
        "held-out digits are the fair comparison.",
        f"Fraction of images farther from the training rows than 95% of the held-out digits, for codes of "
        f"{', '.join(map(str, sizes))} units: uniform {shares['uniform']}; fitted Gaussian {shares['gaussian']}; "
        f"fitted mixture {shares['mixture']}; variational autoencoder {shares['vae']}.",
        "In each picture the first three lines of decodings are those of one autoencoder: only the codes differ. The "
        "variational autoencoder is another model, of the same network.",
        f"Training took {seconds:.0f} seconds in total.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    sizes = _by_size(results)
    shape = next(result["image_shape"] for result in results.values() if "image_shape" in result)
    pictures = {
        f"decodings-{size}": image_lines(
            {f"{name}\n{one['distances'][key]:.2f}": from_bytes(one["shown"][key]) for key, name in NAMES.items()},
            shape, title=f"Decoded codes of {size} units, and the mean distance to the nearest training digit",
        )
        for size, one in sizes.items()
    }  # fmt: skip
    lines = {
        name.replace("\n", " "): (list(sizes), [one["distances"][key] for one in sizes.values()])
        for key, name in {**NAMES, "reconstructed": "autoencoder,\nreconstructions"}.items()
        if key != "held-out"
    }
    level = next(iter(sizes.values()))["distances"]["held-out"]
    return pictures | {
        "distance-by-code-size": curves(
            lines, across="code size", up="mean distance to the nearest training digit",
            title="Decodings of uniform codes move away from the digits", levels={"held-out digits": level},
            doubling=True,
        )
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="random-codes",
    claim="Uniform codes of an autoencoder decode to images far from digits; codes of a fitted or trained distribution "
    "to nearer ones.",
    source="Deep Learning, sections 14.3 and 20.10.3, which state no figures",
    protocol=(
        "MNIST in [0, 1], the first 20,000 training digits; 1,000 test digits are held out. 784-512-256-d-256-512-784 "
        "with SiLU units, d = 8, 16, 32, linear code, sigmoid output, cross-entropy; Adam in fp32 at the default rate "
        "with warm-up and a cosine to zero, batches of 128, 20 epochs. 1,000 codes each: uniform in the box from the "
        "smallest to the largest value of each unit over the training digits; a Gaussian with a full covariance, and a "
        "mixture of ten, fitted to the codes of the training digits (fit_prior); and the prior N(0, I) of a "
        "variational autoencoder of the same network and output. Codes are decoded to means."
    ),
    minutes=5,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
