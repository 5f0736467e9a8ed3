"""Colours from grey images: models that encode a grey image and decode a colour image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.drawing import image_lines
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import from_bytes, learning_seconds, load_dataset, raise_if_interrupted, to_bytes, unit_images
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.registry import KINDS

Colour = Float[np.ndarray, "rows height width 3"]
Grey = Float[np.ndarray, "rows height width"]

_TABLE = "a model sees the whole image, the table one pixel"

TARGETS = {name: Target(1.0, "at most", _TABLE) for name in ("conv", "deep", "conv-differences", "deep-differences")}
"""No source states figures. These were set after trials on validation rows and before the run."""

SEED = 0
N_SHOWN = 12
"""Number of test images that a picture shows: the first ones."""

MODELS = {
    "conv": "conv", "deep": "deep", "conv-differences": "conv of differences",
    "deep-differences": "deep of differences",
}  # fmt: skip
"""Models, and their names in tables and pictures."""

BASELINES = {"grey": "grey repeated", "table": "mean colour given the grey value"}


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    images: str
    parameters: dict[str, dict[str, Any]]
    models: tuple[str, ...]


FULL = _Setup(
    targets=TARGETS, images="cifar10", models=tuple(MODELS),
    parameters={
        "conv": {"code_size": 256, "network": "conv", "network__channels": [32, 64], "network__dense_sizes": [512],
                 "batch_size": 64, "max_epochs": 10},
        "deep": {"code_size": 256, "hidden_sizes": [1024], "batch_size": 64, "max_epochs": 10},
    },
)  # fmt: skip

QUICK = _Setup(
    targets={"deep": TARGETS["deep"]}, images="coloured-digits", models=("deep", "deep-differences"),
    parameters={"deep": {"code_size": 16, "hidden_sizes": [64], "batch_size": 32, "max_epochs": 20}},
)  # fmt: skip


def _cifar10() -> tuple[Colour, Colour]:
    return unit_images("cifar10-10k"), unit_images("cifar10-10k:test")


def _coloured_digits() -> tuple[Colour, Colour]:
    """Return digits that have the colour of their class; the colours have one mean over channels."""
    phases = np.arange(10)[:, None] / 10 + np.arange(3) / 3
    colours = (1 + np.cos(2 * np.pi * phases)) / 2
    train, test = (
        unit_images(source)[..., None] * colours[load_dataset(source).labels][:, None, None]
        for source in ("digits:train", "digits:test")
    )
    return train.astype(np.float32), test.astype(np.float32)


IMAGES: dict[str, Callable[[], tuple[Colour, Colour]]] = {"cifar10": _cifar10, "coloured-digits": _coloured_digits}
"""Training and test images by name; the quick form colours digits."""


def grey_of(images: Colour) -> Grey:
    """Return the grey images: the mean of the three channels.

    Example:
        >>> grey_of(np.array([[[[0.0, 0.5, 1.0]]]])).tolist()
        [[[0.5]]]
    """
    return images.mean(-1)


def repeated(grey: Grey) -> Colour:
    """Return grey images with three equal channels."""
    return np.repeat(grey[..., None], 3, axis=-1)


def with_grey(images: Colour, grey: Grey) -> Colour:
    """Return the images with another mean of the channels of each pixel, and their own differences from it.

    Example:
        >>> with_grey(np.array([[[[0.2, 0.4, 0.6]]]]), np.array([[[0.5]]])).round(6).tolist()
        [[[[0.3, 0.5, 0.7]]]]
    """
    return images + (grey - grey_of(images))[..., None]


def errors(images: Colour, truth: Colour) -> dict[str, float]:
    r"""Return the squared error of a pixel, summed over channels, and its parts of grey and of colour differences.

        ||r - t||^2 = 3 (g_r - g_t)^2 + ||(r - g_r) - (t - g_t)||^2,   g the mean of the channels

    Example:
        >>> errors(np.array([[[[0.0, 0.5, 1.0]]]]), np.array([[[[0.5, 0.5, 0.5]]]]))
        {'all': 0.5, 'grey': 0.0, 'colour': 0.5}
    """
    difference = images.astype(np.float64) - truth
    grey = difference.mean(-1)
    return {
        "all": float(np.square(difference).sum(-1).mean()),
        "grey": float(3 * np.square(grey).mean()),
        "colour": float(np.square(difference - grey[..., None]).sum(-1).mean()),
    }


def colour_table(truth: Colour, levels: int = 256) -> Float[np.ndarray, "levels 3"]:
    """Return the mean difference of the colour from the grey value, for each of equally wide ranges of grey values.

    Example:
        >>> colour_table(np.array([[[[0.0, 0.0, 0.3], [0.8, 0.9, 1.0]]]]), levels=2).round(6).tolist()
        [[-0.1, -0.1, 0.2], [-0.1, 0.0, 0.1]]
    """
    grey = grey_of(truth)
    level, differences = _levels(grey, levels).ravel(), (truth - grey[..., None]).reshape(-1, 3)
    n = np.maximum(np.bincount(level, minlength=levels), 1)
    return np.stack([np.bincount(level, channel, minlength=levels) / n for channel in differences.T], 1)


def _levels(grey: Grey, levels: int) -> np.ndarray:
    return np.minimum((grey * levels).astype(int), levels - 1)


def _cells(setup: _Setup) -> list[Cell]:
    common = {"images": setup.images, "seed": SEED}
    fixed = {"scaling": "none", "precision": "fp32", "likelihood": "gaussian"}
    models = []
    for name in setup.models:
        kind, _, differences = name.partition("-")
        parameters = {**fixed, **setup.parameters[kind]}
        settings = {**common, "kind": kind, "differences": bool(differences), "parameters": parameters}
        models.append(Cell(name, settings, _model))
    return [Cell("baselines", common, _baselines), *models]


def _baselines(settings: Settings, state: Path) -> Result:
    """Return the errors of grey images, and of a table of colours by grey value."""
    train, test = IMAGES[settings["images"]]()
    grey, table = grey_of(test), colour_table(train)
    by_table = repeated(grey) + table[_levels(grey, len(table))]
    return {
        "errors": {"grey": errors(repeated(grey), test), "table": errors(by_table, test)},
        "shown": {name: _stored(x) for name, x in (("grey", repeated(grey)), ("table", by_table), ("truth", test))},
        "image_shape": list(test.shape[1:]),
        "n_rows": [len(train), len(test)],
    }


def _model(settings: Settings, state: Path) -> Result:
    """Fit a model of grey images that decodes colours, or their differences from the grey value."""
    train, test = IMAGES[settings["images"]]()
    model = _fit(settings, train)

    def coloured(images: Colour) -> Colour:
        grey = grey_of(images)
        decoded = np.asarray(model.reconstruct(grey))
        return decoded + grey[..., None] if settings["differences"] else decoded

    found = coloured(test)
    return {
        "errors": errors(found, test),
        "training_errors": errors(coloured(train[: len(test)]), train[: len(test)]),
        "shown": _stored(found),
        "shown_with_grey": _stored(with_grey(found, grey_of(test))),
        "seconds": learning_seconds(model),
    }


def _fit(settings: Settings, train: Colour) -> BaseAutoencoder:
    parameters = {"validation_fraction": 0.0, "patience": None, "verbose": 1, **settings["parameters"]}
    model: Any = KINDS[settings["kind"]](random_state=settings["seed"]).set_params(**parameters)
    grey = grey_of(train)
    model.fit(grey, target=train - grey[..., None] if settings["differences"] else train)
    raise_if_interrupted(model)
    return model


def _stored(images: Colour) -> list[list[int]]:
    return to_bytes(images[:N_SHOWN].reshape(min(N_SHOWN, len(images)), -1))


def _rows(results: Results, setup: _Setup) -> list[Row]:
    baselines = results["baselines"]["errors"]
    rows = [Row(f"{BASELINES[name]}: squared error of a pixel", found["all"], form=".5f")
            for name, found in baselines.items()]  # fmt: skip
    for name in setup.models:
        found = results[name]["errors"]
        rows += [
            Row(f"{MODELS[name]}: squared error of a pixel", found["all"], form=".5f"),
            Row(f"{MODELS[name]}: part of the grey value", found["grey"], form=".5f"),
            Row(f"{MODELS[name]}: part of the colour differences", found["colour"], form=".5f"),
            Row(f"{MODELS[name]}: colour differences on training rows", results[name]["training_errors"]["colour"],
                form=".5f"),
        ]  # fmt: skip
    rows += [
        setup.row(f"colour differences, {MODELS[name]} over the table",
                  results[name]["errors"]["colour"] / baselines["table"]["colour"], name, ".3f")
        for name in setup.models
    ]  # fmt: skip
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    baselines = results["baselines"]
    n_train, n_test = baselines["n_rows"]
    grey = baselines["errors"]["grey"]["colour"]
    lower = ", ".join(
        f"{name} {1 - found['colour'] / grey:.0%}"
        for name, found in (
            (BASELINES["table"], baselines["errors"]["table"]),
            *((MODELS[name], results[name]["errors"]) for name in setup.models),
        )
    )
    seconds = sum(results[name]["seconds"] for name in setup.models)
    return [
        f"{n_train:,} training rows, {n_test:,} test rows. Squared errors are summed over the three channels and "
        "averaged over pixels of [0, 1].",
        "The grey value is the mean of the channels, so that the error of a pixel is the sum of two parts: that of the "
        "grey value, and that of the differences of the colours from it. The second is the error of a picture that "
        "takes the colour differences of a decoding and the grey value of the input. Both baselines have no error of "
        "the grey value, which is the input.",
        f"The error of the colour differences is below that of no colour by: {lower}.",
        "A model of differences has the colour differences as its target; its decodings are added to the input.",
        f"Training took {seconds:.0f} seconds in total.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    baselines = results["baselines"]
    lines = {
        "grey": baselines["shown"]["grey"],
        "mean colour\ngiven grey": baselines["shown"]["table"],
        **{MODELS[name] + ",\ndecoded": results[name]["shown"]
           for name in setup.models if not name.endswith("differences")},
        **{MODELS[name] + ",\ngrey of the input": results[name]["shown_with_grey"]
           for name in setup.models},
        "true": baselines["shown"]["truth"],
    }  # fmt: skip
    return {
        "colours": image_lines(
            {name: from_bytes(images) for name, images in lines.items()}, baselines["image_shape"],
            title="Colours of test images, from their grey images", tile=0.9,
        )
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="colorization",
    claim="A model that encodes a grey image and decodes a colour image has nearer colours than a table by grey value.",
    source="the colourization of lectures on autoencoders, which state no figures; the claim is ours",
    protocol=(
        "CIFAR-10 in [0, 1], the 10,000 images of the first training file; 1,000 test images. The input is the mean of "
        "the three channels; the target is the colour image, or its differences from the input. Codes of 256 linear "
        "units. conv: convolutions of 32 and 64 channels and a layer of 512. deep: a layer of 1,024. Unit Gaussian "
        "likelihood, Adam in fp32 at the default rate with warm-up and a cosine to zero, batches of 64, 10 epochs. The "
        "settings were chosen on the last 1,000 training images. Baselines: the grey image, and the mean colour given "
        "the grey value (256 values) over the training images."
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
