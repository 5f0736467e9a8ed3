"""Explaining away: features by each model's encoder, and by sparse inference over the same dictionary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.drawing import COLOURS, axes, image_lines
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, load_dataset, unit_images
from experiments.patches import Whitening, contrast_normalised, every_patch, random_patches
from isthmus import FISTA, L1, SparseCoding

Images = Float[np.ndarray, "images height width *channels"]
Vectors = Float[np.ndarray, "rows columns"]
Encode = Callable[[Vectors], Vectors]
"""Function (patches, columns) -> features (patches, units)."""

SEED = 0
N_SHOWN = 16
IMAGES_AT_ONCE = 250
"""Images whose patches are in memory at once."""

RIDGES = (10.0, 100.0, 1e3, 1e4)
"""Weights of the ridge penalty; leave-one-out errors of the training images choose one."""

NAMES = {
    "random": "random patches", "k-means": "k-means", "sparse": "sparse autoencoder", "rbm": "RBM",
    "sparse-coding": "sparse coding",
}  # fmt: skip
"""The dictionaries, in words."""

LEARNED = {
    "sparse": {"kind": "sparse", "parameters": {"sparsity": "l1", "sparsity__weight": 1.0, "max_epochs": 10}},
    "rbm": {"kind": "rbm", "parameters": {"likelihood": "gaussian-learned", "method": "cd", "max_epochs": 10}},
    "sparse-coding": {"kind": "sparse-coding",
                      "parameters": {"sparsity": "l1", "sparsity__weight": 1.0, "max_epochs": 10}},
}  # fmt: skip
"""Kind and arguments of the dictionaries that isthmus learns."""

ENCODINGS = {"own": "own encoder", "soft": "soft threshold", "inference": "inference"}
"""The ways to encode a patch, in words."""

OWN = ("sparse", "rbm")
"""Dictionaries whose model has an encoder of its own."""

_RANDOM = "Coates & Ng (2011): we can just as well use randomly chosen exemplars; 3 points are ours"
_ENCODER = "Coates & Ng (2011): a good encoder is more important than training"
_AWAY = "units that compete do not all respond to the same part of a patch"

PUBLISHED = {
    "random": Published(0.0, "at least", _RANDOM, 0.03),
    "encoder": Published(1.0, "at least", _ENCODER),
}
TARGETS = {
    **{f"away {name}": Target(0.0, "at least", _AWAY) for name in OWN},
    "pixels": Target(0.05, "at least", "features of patches are better than pixels"),
}


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, Any]
    """Sources of the images and their numbers, and the patches and the number of atoms."""
    settings: dict[str, list[float]]
    """Values among which validation images choose: thresholds, and weights of the penalty."""


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    data={
        "train": "cifar10-10k", "test": "cifar10-10k:test", "n_train": 1_500, "n_validation": 500, "n_more": 500,
        "side": 6, "stride": 4, "n_patches": 30_000, "n_atoms": 128,
    },
    settings={"soft": [0.25, 0.5, 1.0], "inference": [0.5, 1.0]},
)  # fmt: skip

QUICK = _Setup(
    targets={"chance": Target(0.5, "at least", "ten classes")},
    data={
        "train": "digits:train", "test": "digits:test", "n_train": 300, "n_validation": 100, "n_more": 0,
        "side": 4, "stride": 2, "n_patches": 1_000, "n_atoms": 16,
    },
    settings={"soft": [0.25], "inference": [0.3]},
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Images and their classes."""

    images: Images
    labels: np.ndarray


def _splits(data: Settings) -> tuple[Split, Split, Split]:
    """Return disjoint images of training and validation, and test images: the test file and some training images."""
    whole, test = (
        Split(unit_images(data[key]), np.asarray(load_dataset(data[key]).labels)) for key in ("train", "test")
    )
    ends = np.cumsum([0, data["n_train"], data["n_validation"], data["n_more"]])
    train, validation, more = (Split(whole.images[a:b], whole.labels[a:b]) for a, b in pairwise(ends))
    return (
        train,
        validation,
        Split(np.concatenate([test.images, more.images]), np.concatenate([test.labels, more.labels])),
    )


# -- dictionaries and encoders --------------------------------------------------------------------------


def _cells(setup: _Setup) -> list[Cell]:
    common = {**setup.data, "settings": setup.settings, "seed": SEED}
    return [
        Cell("pixels", {**setup.data, "seed": SEED}, _pixels),
        *(Cell(name, {**common, "dictionary": name, "model": LEARNED.get(name)}, _dictionary) for name in NAMES),
    ]  # fmt: skip


def _pixels(settings: Settings, state: Path) -> Result:
    """Return the accuracy from raw pixels."""
    train, _, test = _splits(settings)
    features = [split.images.reshape(len(split.images), -1) for split in (train, test)]
    return {"accuracy": accuracy(features[0], train.labels, features[1], test.labels)}


def _dictionary(settings: Settings, state: Path) -> Result:
    """Learn one dictionary, and return the accuracies of the ways to encode patches over it."""
    train, validation, test = _splits(settings)
    patches = contrast_normalised(random_patches(train.images, settings["side"], settings["n_patches"], SEED))
    whitening = Whitening.of(patches)
    patches = whitening(patches)
    model, given = _learned(settings, patches)
    inferences = {
        value: SparseCoding(
            atoms=given, sparsity=L1(value), inference=FISTA(gap=1e-2), scaling="none", random_state=SEED,
            validation_fraction=0.0, precision="fp32",
        ).fit(patches[:2000])
        for value in settings["settings"]["inference"]
    }  # fmt: skip
    atoms = next(iter(inferences.values())).components_
    ways: dict[str, dict[float, Encode]] = {
        "soft": {value: _soft(atoms, value) for value in settings["settings"]["soft"]},
        "inference": {value: _inferred(inference) for value, inference in inferences.items()},
    }
    if settings["dictionary"] in OWN:
        ways["own"] = {0.0: model.transform}
    found: dict[str, Any] = {}
    for way, encoders in ways.items():
        features = {value: pooled(train.images, encode, whitening, settings) for value, encode in encoders.items()}
        scores = {
            value: accuracy(features[value], train.labels, pooled(validation.images, encode, whitening, settings),
                            validation.labels)
            for value, encode in encoders.items()
        } if len(encoders) > 1 else dict.fromkeys(encoders, 0.0)  # fmt: skip
        best = max(scores, key=lambda value: scores[value])
        made = pooled(test.images, encoders[best], whitening, settings)
        found[way] = {
            "chosen": best, "validation": {f"{value:g}": score for value, score in scores.items()},
            "accuracy": accuracy(features[best], train.labels, made, test.labels),
            "active": float((encoders[best](patches[:1000]) != 0).mean()),
        }  # fmt: skip
    return {"ways": found, "n_test": len(test.labels), "atoms": _shown(atoms, train.images, settings["side"])}


def _learned(settings: Settings, patches: Vectors) -> tuple[Any, Any]:
    """Return the model, or None, and the atoms as `SparseCoding(atoms=...)` takes them."""
    name, n = settings["dictionary"], settings["n_atoms"]
    if name == "random":
        chosen = np.random.default_rng(SEED).choice(len(patches), n, replace=False)
        return None, patches[chosen]
    if name == "k-means":
        centres = MiniBatchKMeans(n, n_init=1, batch_size=1024, max_iter=50, random_state=SEED).fit(patches)
        return None, centres.cluster_centers_
    own = settings["model"]
    parameters = {"code_size": n, "scaling": "none", "precision": "fp32", **own["parameters"]}
    model = fit_model({"kind": own["kind"], "seed": SEED, "parameters": parameters}, rows=patches)
    return model, model


def _soft(atoms: Vectors, threshold: float) -> Encode:
    """Return the encoder max(0, +-D x - threshold)."""

    def encode(x: Vectors) -> Vectors:
        inner = x @ atoms.T
        return np.concatenate([np.maximum(inner - threshold, 0), np.maximum(-inner - threshold, 0)], axis=1)

    return encode


def _inferred(model: SparseCoding) -> Encode:
    """Return the encoder by inference, with positive and negative parts as units of their own."""

    def encode(x: Vectors) -> Vectors:
        return split_signs(model.transform(x))

    return encode


def split_signs(codes: Vectors) -> Vectors:
    """Return the positive parts, followed by the negative ones.

    Example:
        >>> split_signs(np.array([[2.0, -3.0]])).tolist()
        [[2.0, 0.0, 0.0, 3.0]]
    """
    return np.concatenate([np.maximum(codes, 0), np.maximum(-codes, 0)], axis=1)


# -- features and accuracy ------------------------------------------------------------------------------


def pooled(images: Images, encode: Encode, whitening: Whitening, data: Settings) -> Vectors:
    """Return the mean features of the patches in each quadrant of each image."""
    return np.concatenate(list(_pooled_blocks(images, encode, whitening, data)))


def _pooled_blocks(images: Images, encode: Encode, whitening: Whitening, data: Settings) -> Iterator[Vectors]:
    for start in range(0, len(images), IMAGES_AT_ONCE):
        patches = every_patch(images[start : start + IMAGES_AT_ONCE], data["side"], data["stride"])
        n, down, across, columns = patches.shape
        rows = whitening(contrast_normalised(patches)).reshape(-1, columns)
        yield quadrants(encode(rows).reshape(n, down, across, -1)).astype(np.float32)


def quadrants(maps: Float[np.ndarray, "images down across units"]) -> Float[np.ndarray, "images features"]:
    """Return the means over the four quadrants, side by side.

    Example:
        >>> quadrants(np.arange(4.0).reshape(1, 2, 2, 1)).tolist()
        [[0.0, 1.0, 2.0, 3.0]]
    """
    parts = [part for half in np.array_split(maps, 2, axis=1) for part in np.array_split(half, 2, axis=2)]
    return np.concatenate([part.mean((1, 2)) for part in parts], axis=1)


def accuracy(features: Vectors, labels: np.ndarray, test: Vectors, test_labels: np.ndarray) -> float:
    """Return the accuracy of a linear least-squares classifier of standardised features."""
    classifier = make_pipeline(StandardScaler(), RidgeClassifierCV(RIDGES))
    return float((classifier.fit(features, labels).predict(test) == test_labels).mean())


def _shown(atoms: Vectors, images: Images, side: int) -> dict[str, Any]:
    """Return some atoms as images of bytes, grey 128 for 0."""
    channels = images.shape[3] if images.ndim == 4 else 1
    chosen = atoms[np.linspace(0, len(atoms) - 1, N_SHOWN).round().astype(int)]
    pictures = chosen.reshape(-1, channels, side, side).transpose(0, 2, 3, 1)
    scaled = 0.5 + 0.5 * pictures / np.abs(pictures).max((1, 2, 3), keepdims=True)
    shape = [side, side, channels] if channels > 1 else [side, side]
    return {"shape": shape, "pixels": np.rint(scaled * 255).astype(int).reshape(N_SHOWN, -1).tolist()}


# -- result ---------------------------------------------------------------------------------------------


def _accuracies(results: Results, way: str) -> dict[str, float]:
    """Return the accuracy of each dictionary that has a way to encode."""
    return {name: results[name]["ways"][way]["accuracy"] for name in NAMES if way in results[name]["ways"]}


def _rows(results: Results, setup: _Setup) -> list[Row]:
    found = {way: _accuracies(results, way) for way in ENCODINGS}
    pixels = results["pixels"]["accuracy"]
    inference, soft = found["inference"], found["soft"]
    by_dictionary = float(np.mean([np.ptp(list(found[way].values())) for way in ("soft", "inference")]))
    by_encoder = float(np.mean([np.ptp([found[way][name] for way in ENCODINGS if name in found[way]])
                                for name in OWN]))  # fmt: skip
    return [
        setup.row("raw pixels: accuracy", pixels, form=".3f"),
        *(Row(f"{text}, {ENCODINGS[way]}: accuracy", found[way][name], form=".3f")
          for name, text in NAMES.items() for way in ENCODINGS if name in found[way]),
        *(setup.row(f"{NAMES[name]}: accuracy, inference minus own encoder", inference[name] - found["own"][name],
                    f"away {name}", ".3f") for name in OWN),
        *(Row(f"{text}: accuracy, inference minus soft threshold", inference[name] - soft[name], form=".3f")
          for name, text in NAMES.items()),
        setup.row("inference: accuracy, random patches minus sparse coding",
                  inference["random"] - inference["sparse-coding"], "random", ".3f"),
        Row("range of the accuracy over dictionaries, mean of soft threshold and inference", by_dictionary,
            form=".3f"),
        Row("range of the accuracy over encoders, mean of sparse autoencoder and RBM", by_encoder, form=".3f"),
        setup.row("range over encoders, over the range over dictionaries", by_encoder / max(by_dictionary, 1e-9),
                  "encoder"),
        setup.row("best accuracy", max(inference.values()), "chance", ".3f"),
        setup.row("best accuracy minus that of raw pixels", max(inference.values()) - pixels, "pixels", ".3f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    n = results["random"]["n_test"]
    rate = results["random"]["ways"]["inference"]["accuracy"]
    remarks = [
        f"{n:,} test images: the standard error of an accuracy is about {np.sqrt(rate * (1 - rate) / n):.3f}. "
        "Differences of two points may be chance.",
        "The own encoder of the sparse autoencoder is its ReLU layer and that of the RBM its sigmoid layer; both have "
        "one feature for each atom, the other ways two. Sparse coding has no encoder but inference.",
    ]
    for way, text in (("soft", "thresholds"), ("inference", "weights of the penalty")):
        parts = [
            f"{NAMES[name]} {results[name]['ways'][way]['chosen']:g} "
            f"({results[name]['ways'][way]['active']:.0%} active)"
            for name in NAMES
        ]
        remarks.append(f"Chosen {text}, of {', '.join(map(str, setup.settings[way]))}: {', '.join(parts)}.")
    return remarks


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    shape = results["random"]["atoms"]["shape"]
    lines = {text: np.array(results[name]["atoms"]["pixels"]) / 255 for name, text in NAMES.items()}
    return {
        "accuracy": _bars(results),
        "atoms": image_lines(lines, shape, title="Atoms, whitened; grey is zero", tile=0.6),
    }


def _bars(results: Results) -> Figure:
    figure, ax = axes(7.6)
    width = 0.26
    for shift, (colour, (way, text)) in enumerate(zip(COLOURS, ENCODINGS.items(), strict=False)):
        found = _accuracies(results, way)
        at = [list(NAMES).index(name) + (shift - 1) * width for name in found]
        ax.bar(at, list(found.values()), width=0.92 * width, color=colour, label=text)
    ax.axhline(results["pixels"]["accuracy"], color="black", ls=":", lw=1.2, label="raw pixels")
    ax.set_xticks(range(len(NAMES)), list(NAMES.values()), fontsize=9)
    ax.set_ylabel("accuracy of a linear classifier, test images")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


EXPERIMENT = Experiment(
    name="explaining-away",
    claim="Features by sparse inference over a dictionary are better than those of its encoder, and random patches are "
    "nearly as good a dictionary as a learned one.",
    source="Coates & Ng (2011), The importance of encoding versus training; the dictionaries of an RBM and of a sparse "
    "autoencoder as in Coates, Lee & Ng (2011)",
    protocol=(
        "CIFAR-10: the first 1,500 of the 10,000 images for training, the next 500 for validation, the next 500 "
        "and the 1,000 images of the test file for the test. Colour patches of 6 x 6, contrast-normalised and "
        "ZCA-whitened (offset .1); dictionaries of 128 atoms from 30,000 random patches: random patches; "
        "MiniBatchKMeans of scikit-learn; a sparse autoencoder (L1 1, ReLU) and an RBM (Gaussian visible units, CD), "
        "10 epochs; sparse coding (weight 1), 10 epochs. Features: the model's own encoder; max(0, +-d'x - t); "
        "inference by FISTA (gap 1e-2) with the signs split. Means of the features over the quadrants of 7 x 7 patches "
        "at stride 4; a linear least-squares classifier of standardised features, its ridge chosen by leave-one-out "
        "errors. t and the weight are chosen on the validation images; the test images are used once. The paper has "
        "up to 6,000 atoms, stride 1 and 50,000 images."
    ),
    minutes=8,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
