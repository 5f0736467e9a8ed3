"""The smile vector: the direction of smiling in the code of faces, applied to faces of other persons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from experiments.drawing import COLOURS, axes, image_lines
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import fit_model, from_bytes, learning_seconds, load_dataset, to_bytes, unit_images
from experiments.smile_labels import NOT_SMILING, SMILING
from isthmus.estimators.base import BaseAutoencoder

_WHITE = "the smile vector makes a face smile; another direction of its length does not"

TARGETS = {
    "held-in at 1": Target(0.2, "at least", _WHITE),
    "held-in at 1.5": Target(0.4, "at least", _WHITE),
    "all at 1": Target(0.2, "at least", _WHITE),
    "all at 1.5": Target(0.4, "at least", _WHITE),
}
"""The source states no figures. These were set after trials on validation persons and before the run."""

SEED = 0
AMOUNTS = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
N_RANDOM = 20
"""Number of random directions."""

N_SHOWN = 6

NAMES = {
    "smile": "smile vector, balanced", "unbalanced": "unbalanced, same length", "random": "random, same length",
}  # fmt: skip
"""Directions, and their names in tables and pictures."""

FITTED = {"held-in": "model of held-in persons", "all": "model of all persons"}
"""Rows on which a model is fitted, without labels."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    faces: str
    held_out: int
    mirrored: bool
    parameters: dict[str, Any]


FULL = _Setup(targets=TARGETS, faces="olivetti", held_out=10, mirrored=True, parameters={"code_size": 32})

QUICK = _Setup(
    targets={"held-in at 1": TARGETS["held-in at 1"]}, faces="digits", held_out=6, mirrored=False,
    parameters={
        "code_size": 8, "hidden_sizes": [64, 32], "likelihood": "bernoulli", "batch_size": 32, "max_epochs": 8,
    },
)  # fmt: skip


@dataclass(frozen=True)
class Faces:
    """Images with the persons that they show, and an attribute.

    Attributes:
        X: pixels in [0, 1].
        persons: number of the person of each image.
        smiles: 1 if the image has the attribute, 0 if not, -1 without a label.
    """

    X: Float[np.ndarray, "rows height width"]
    persons: Int[np.ndarray, " rows"]
    smiles: Int[np.ndarray, " rows"]

    def of(self, rows: Bool[np.ndarray, " rows"] | Int[np.ndarray, " some"]) -> Faces:
        """Return some of the images."""
        return Faces(self.X[rows], self.persons[rows], self.smiles[rows])

    def with_mirror_images(self) -> Faces:
        """Return the images and their mirror images."""
        both = np.concatenate([self.X, self.X[:, :, ::-1]])
        return Faces(both, np.tile(self.persons, 2), np.tile(self.smiles, 2))


def _olivetti() -> Faces:
    X, persons = unit_images("olivetti"), load_dataset("olivetti").labels
    assert persons is not None
    smiles = np.full(len(X), -1)
    smiles[list(SMILING)], smiles[list(NOT_SMILING)] = 1, 0
    return Faces(X, persons, smiles)


def _digits() -> Faces:
    """Return digits in blocks of 40 rows as persons: an eight has the attribute, a three does not have it."""
    X, labels = unit_images("digits:all"), load_dataset("digits:all").labels
    assert labels is not None
    smiles = np.select([labels == 8, labels == 3], [1, 0], -1)
    return Faces(X, np.arange(len(X)) // 40, smiles)


FACES: dict[str, Callable[[], Faces]] = {"olivetti": _olivetti, "digits": _digits}
"""Sources of faces; that of the quick form has digits in their place."""


def balanced_within(persons: Int[np.ndarray, " rows"], smiles: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " some"]:
    """Return rows that hold each person equally often with and without the attribute, as often as possible.

    Example:
        >>> balanced_within(np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 0, 0, -1, 1])).tolist()
        [0, 2]
    """
    chosen = []
    for person in np.unique(persons):
        with_it, without = (np.flatnonzero((persons == person) & (smiles == state)) for state in (1, 0))
        n = min(len(with_it), len(without))
        chosen += [*with_it[:n], *without[:n]]
    return np.sort(np.array(chosen, int))


def _cells(setup: _Setup) -> list[Cell]:
    common = {
        "faces": setup.faces, "held_out": setup.held_out, "mirrored": setup.mirrored, "amounts": list(AMOUNTS),
        "n_random": N_RANDOM, "kind": "vae", "parameters": setup.parameters, "seed": SEED,
    }  # fmt: skip
    return [Cell(fitted, {**common, "fitted": fitted}, _measure) for fitted in FITTED]


def _measure(settings: Settings, state: Path) -> Result:
    """Fit a model without labels; find directions on held-in persons and shift held-out faces along them."""
    faces = FACES[settings["faces"]]()
    order = np.random.default_rng(settings["seed"]).permutation(np.unique(faces.persons))
    is_out = np.isin(faces.persons, order[-settings["held_out"] :])
    held_in, held_out = faces.of(~is_out), faces.of(is_out)
    known, both = held_in.of(held_in.smiles >= 0), held_in.of(balanced_within(held_in.persons, held_in.smiles))
    fitted = {"held-in": held_in, "all": faces}[settings["fitted"]]
    if settings["mirrored"]:
        fitted, known, both = (part.with_mirror_images() for part in (fitted, known, both))
    model = fit_model(settings, rows=fitted.X)
    classifier = _classifier(known)
    directions = _directions(model, known, both, settings)
    neutral, smiling = held_out.of(held_out.smiles == 0), held_out.of(held_out.smiles == 1)
    shares = {
        name: [_share(classifier, _shifted(model, neutral, one, settings)) for one in found]
        for name, found in directions.items()
    }
    smile = directions["smile"][0]
    return {
        "shares": {name: np.mean(found, 0).tolist() for name, found in shares.items()},
        "largest_random": np.max(shares["random"], 0).tolist(),
        "shares_of_smiling": _share(classifier, _shifted(model, smiling, smile, settings)),
        "called_smiling": [float(classifier.predict(_flat(part.X)).mean()) for part in (neutral, smiling)],
        "numbers": [len(neutral.X), len(smiling.X), len(np.unique(neutral.persons)), len(known.X), len(both.X)],
        "paired_persons": len(np.unique(both.persons)),
        "lower_half": {
            name: float(np.mean([_lower_half(_shifted(model, neutral, one, settings)) for one in found]))
            for name, found in directions.items()
        },
        "cosine": float(_cosine(smile, directions["unbalanced"][0])),
        "error": float(np.sqrt(np.square(np.asarray(model.reconstruct(held_out.X)) - held_out.X).mean())),
        "image_shape": list(faces.X.shape[1:]),
        **_shown(model, neutral, directions, settings),
        "seconds": learning_seconds(model),
    }


def _flat(X: Float[np.ndarray, "*rows height width"]) -> Float[np.ndarray, "all pixels"]:
    return X.reshape(-1, X.shape[-2] * X.shape[-1])


def _classifier(known: Faces) -> LogisticRegression:
    """Return the logistic regression of the attribute on the pixels of labelled images."""
    return LogisticRegression(C=1.0, class_weight="balanced", max_iter=5000).fit(_flat(known.X), known.smiles)


def _directions(model: BaseAutoencoder, known: Faces, both: Faces, settings: Settings) -> dict[str, list[np.ndarray]]:
    """Return the smile vector, and other directions of its length: of all labelled faces, and random ones."""
    smile = model.attribute_direction(both.X, both.smiles == 1)
    length = np.linalg.norm(smile)
    generator = np.random.default_rng(settings["seed"])
    others = {
        "unbalanced": [model.attribute_direction(known.X, known.smiles == 1)],
        "random": list(generator.standard_normal((settings["n_random"], len(smile)))),
    }
    return {"smile": [smile]} | {
        name: [one * length / np.linalg.norm(one) for one in found] for name, found in others.items()
    }


def _shifted(
    model: BaseAutoencoder, faces: Faces, direction: Float[np.ndarray, " units"], settings: Settings
) -> Float[np.ndarray, "faces amounts height width"]:
    amounts = settings["amounts"]
    decoded = np.asarray(model.shift(faces.X, direction, amounts))
    return decoded.reshape(len(faces.X), len(amounts), *faces.X.shape[1:])


def _share(classifier: LogisticRegression, images: Float[np.ndarray, "faces amounts height width"]) -> list[float]:
    """Return the fraction of the images of each amount that the classifier calls smiling."""
    called = classifier.predict(_flat(images)).reshape(images.shape[:2])
    return [float(share) for share in called.mean(0)]


def _lower_half(images: Float[np.ndarray, "faces amounts height width"]) -> float:
    """Return the fraction of the squared change, from the first to the last amount, in the lower half of the image."""
    change = np.square(images[:, -1] - images[:, 0]).sum((0, 2))
    return float(change[len(change) // 2 :].sum() / change.sum())


def _cosine(a: Float[np.ndarray, " units"], b: Float[np.ndarray, " units"]) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def _shown(
    model: BaseAutoencoder, neutral: Faces, directions: dict[str, list[np.ndarray]], settings: Settings
) -> dict[str, Any]:
    """Return the first image of some persons, and its shifts along each direction."""
    _, first = np.unique(neutral.persons, return_index=True)
    shown = neutral.of(first[:N_SHOWN])
    return {
        "inputs": to_bytes(_flat(shown.X)),
        "shifts": {
            name: [to_bytes(_flat(line)) for line in _shifted(model, shown, found[0], settings)]
            for name, found in directions.items()
        },
    }


def _at(shares: list[float], amount: float) -> float:
    return shares[AMOUNTS.index(amount)]


def _rows(results: Results, setup: _Setup) -> list[Row]:
    first = results["held-in"]
    rows = [
        Row(f"held-out {name} faces, unchanged: share called smiling", share)
        for name, share in zip(("non-smiling", "smiling"), first["called_smiling"], strict=True)
    ]
    for fitted, cell in results.items():
        rows += [
            Row(f"{FITTED[fitted]}, {NAMES[name]}: share called smiling at {amount:g}", _at(shares, amount))
            for name, shares in cell["shares"].items()
            for amount in (0.0, 1.0, 1.5)
            if name == "smile" or amount
        ]
        rows += [
            setup.row(
                f"{FITTED[fitted]}: smile vector minus random at {amount:g}",
                _at(cell["shares"]["smile"], amount) - _at(cell["shares"]["random"], amount), f"{fitted} at {amount:g}",
            )
            for amount in (1.0, 1.5)
        ]  # fmt: skip
        rows += [
            Row(f"{FITTED[fitted]}: share of smiling faces called smiling at {amount:g}",
                _at(cell["shares_of_smiling"], amount))
            for amount in (-1.5, 0.0)
        ]  # fmt: skip
        rows.append(Row(f"{FITTED[fitted]}: root mean squared error of held-out faces", cell["error"], form=".3f"))
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    first = results["held-in"]
    neutral, smiling, persons, known, both = first["numbers"]
    halves = "; ".join(
        f"{FITTED[fitted]}: " + ", ".join(f"{NAMES[name]} {share:.0%}" for name, share in cell["lower_half"].items())
        for fitted, cell in results.items()
    )
    largest = ", ".join(f"{_at(cell['largest_random'], 1.5):.2f}" for cell in results.values())
    cosines = " and ".join(f"{cell['cosine']:.2f}" for cell in results.values())
    seconds = sum(cell["seconds"] for cell in results.values())
    return [
        f"Held out: {neutral} non-smiling faces of {persons} persons, and {smiling} smiling ones. Held in, with mirror "
        f"images where these are used: {known} labelled faces for the classifier and the unbalanced direction; {both} "
        f"of {first['paired_persons']} persons for the smile vector. Faces of a person are alike, so that the shares "
        "are uncertain by more than their number suggests.",
        "The smile vector takes each person equally often smiling and not smiling. Of most persons all labelled faces "
        "are of one class, so that the mean difference of all labelled faces is also one between persons; the cosines "
        f"between both directions are {cosines}.",
        f"The largest share at 1.5 of {N_RANDOM} random directions: {largest}.",
        f"Share of the squared change, from -1.5 to 1.5, in the lower half of the image, where the mouth is: {halves}.",
        "Amount 0 is the reconstruction. The classifier sees decodings, which are smoother than the faces on which it "
        "was trained.",
        f"Training took {seconds:.0f} seconds in total.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    pictures = {
        f"shifts-{fitted}": _lines_of_shifts(cell, "smile", f"Held-out faces along the smile vector, {FITTED[fitted]}")
        for fitted, cell in results.items()
    }
    return pictures | {
        "random": _lines_of_shifts(results["all"], "random", f"Along a random direction, {FITTED['all']}"),
        "shares": _shares(results),
    }


def _lines_of_shifts(cell: Result, name: str, title: str) -> Figure:
    """Draw faces in lines: the face, then its decodings by amount."""
    inputs = from_bytes(cell["inputs"])
    lines = {
        f"person {number}": np.concatenate([face[None], from_bytes(shifts)])
        for number, (face, shifts) in enumerate(zip(inputs, cell["shifts"][name], strict=True), 1)
    }
    heads = ["face", *(f"{amount:g}" for amount in AMOUNTS)]
    return image_lines(lines, cell["image_shape"], title=title, heads=heads, tile=1.1)


def _shares(results: Results) -> Figure:
    """Draw the share called smiling against the amount, for each direction; a line style for each model."""
    figure, ax = axes(7.6)
    for (fitted, cell), style in zip(results.items(), ("-", "--"), strict=True):
        for (name, shares), colour in zip(cell["shares"].items(), COLOURS[1:], strict=False):
            ax.plot(AMOUNTS, shares, style, color=colour, lw=1.8, marker="o", ms=3.5,
                    label=f"{NAMES[name]},\n{FITTED[fitted]}")  # fmt: skip
    ax.set_xlabel("amount")
    ax.set_ylabel("share called smiling")
    ax.set_ylim(-0.03, 1.03)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set_title("Non-smiling faces of held-out persons", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="smile",
    claim="The mean code of smiling faces minus that of others is a direction that makes faces of other persons smile.",
    source="White, Sampling generative networks (2016), section 3, which states no figures",
    protocol=(
        "Olivetti faces, 400 of 40 persons, 64 x 64 pixels in [0, 1]; 90 are labelled as smiling and 141 as not "
        "smiling by hand (experiments/smile_labels.py). Ten random persons are held out from the direction and from "
        "the classifier. VariationalAutoencoder(code_size=32) with defaults, fitted without labels to the faces and "
        "their mirror images: to those of the 30 held-in persons, and to those of all persons. Smile vector: "
        "attribute_direction of held-in faces, of each person equally many that smile and that do not; then "
        "shift(X, direction, amount) of the non-smiling held-out faces. Other directions of the same length: that of "
        "all labelled held-in faces, and 20 random ones. Smiling is judged by a logistic regression (C = 1, balanced "
        "classes) on the pixels of the labelled held-in faces and their mirror images. Code size, network and "
        "classifier were chosen on held-in persons."
    ),
    minutes=4,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
