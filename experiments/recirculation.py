"""Recirculation beside the gradient: how nearly the local rule follows it while it learns, and the error it reaches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import rows_of, squared_errors
from isthmus.estimators.recirculation import RecirculationAutoencoder
from isthmus.estimators.records import Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.recirculation import Recirculation
from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.parts.forward import Batch
from isthmus.parts.networks import MLP

_CODES = "Hinton & McClelland (1988): it usually converges rapidly on a good set of codes"
_DESCENT = "Hinton & McClelland (1988): in restricted cases it is gradient descent in the reconstruction error"

PUBLISHED = {
    "solved": Published(0.9, "at least", _CODES),
    "restricted": Published(0.99, "at least", _DESCENT),
    "downhill": Published(0.0, "at least", _DESCENT),
    "beside": Published(1.1, "at most", _CODES),
}
"""What is claimed, in numbers, compared with what came out and used for nothing else."""

QUICK = {name: PUBLISHED[name] for name in ("restricted", "downhill")}

SEED = 0
LOOKED_AT = 500
"""Training rows by which the directions are compared."""

RULES: dict[str, dict[str, Any]] = {
    "back-propagation": {},
    "regression 0": {"regression": 0.0},
    "regression .75": {"regression": 0.75},
    "regression .75, decay": {"regression": 0.75, "weight_decay": 1e-3},
    "regression .99, tied": {"regression": 0.99, "tied": True},
    "back-propagation, tied": {"tied": True},
}
"""The rules that are compared, and what makes them."""

OUTPUTS = {"logistic": "bernoulli", "linear": "gaussian"}
"""Output units, and the likelihood under which their parameters' gradient is r - x."""


class Watched(Recirculation):
    """A rule that is compared with the gradient before some of its steps.

    Attributes:
        at: the numbers of the steps.
        looks: what was seen.
    """

    at: Sequence[int] = ()

    def prepare(self, rows: Rows) -> None:
        """Begin, and keep some rows to compare by."""
        super().prepare(rows)
        self.looks: list[dict[str, float]] = []
        self.seen, self.step = rows.batch(evenly_spaced(len(rows), LOOKED_AT)), 0

    def project_gradient(self) -> None:
        """Compare, now and then; it is called once a step."""
        if self.step in self.at:
            self.looks.append({"step": self.step, **self.compared(self.seen)})
        self.step += 1

    def compared(self, batch: Batch) -> dict[str, float]:
        """Cosines: of the rule and the gradient, of all weights and of the encoder's, and of W and V'."""
        rule = self._directions(self.terms(batch, 0.0, None)["reconstruction"])
        true = self._directions(self.nll(self(batch)))
        up = self.encoder.affine_maps[0].weight  # type: ignore[union-attr, index]
        down = self.decoder.affine_maps[0].weight.t() if isinstance(self.decoder, MLP) else up
        return {
            "whole": _cosine(torch.cat(rule), torch.cat(true)),
            "encoder": _cosine(torch.cat(rule[:2]), torch.cat(true[:2])),
            "alike": _cosine(up.detach().flatten(), down.detach().flatten()),
        }

    def _directions(self, value: Tensor) -> list[Tensor]:
        """The gradient of a mean over rows, by parameter; the encoder's weight and bias come first."""
        return [part.flatten() for part in torch.autograd.grad(value.mean(), list(self.parameters()))]


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


class _ByRule(RecirculationAutoencoder):
    """Learns as it says, and is watched."""

    at: Sequence[int] = ()

    def _build_objective(self, shape: Shape, generator: torch.Generator) -> Watched:
        plain = super()._build_objective(shape, generator)
        watched = Watched(plain.encoder, plain.decoder, plain.likelihood, plain.code_activation,
                          regression=plain.regression)  # fmt: skip
        watched.at = self.at
        return watched


class _ByGradient(RecirculationAutoencoder):
    """The same network and the same plain steps, along the gradient."""

    def _build_objective(self, shape: Shape, generator: torch.Generator) -> Any:
        plain = super()._build_objective(shape, generator)
        return Reconstruction(plain.encoder, plain.decoder, plain.likelihood, plain.code_activation)


def _learner(rule: str, **arguments: Any) -> RecirculationAutoencoder:
    """By the rule of that name; plain steps of the same length in the gradient's measure."""
    kind = _ByGradient if rule.startswith("back-propagation") else _ByRule
    made = {"regression": 0.0, **RULES[rule], **arguments}
    if "learning_rate" in made:
        made["learning_rate"] /= 1.0 - made["regression"]
    return kind(**made, validation_fraction=0.0, patience=None)


def _cells(quick: bool) -> list[Cell]:
    encoder = {"seed": SEED, "columns": 8, "code_size": 3, "seeds": 2 if quick else 20, "learning_rate": 1.0,
               "max_epochs": 40 if quick else 150}  # fmt: skip
    digits = {
        "seed": SEED, "train": "digits:train" if quick else "mnist", "test": "digits:test" if quick else "mnist:test",
        "rows": 500 if quick else 10000, "code_size": 16 if quick else 64, "max_epochs": 3 if quick else 40,
        "looks": [0, 3, 10, 40] if quick else [0, 10, 30, 100, 300, 1000, 3000, 6000],
    }  # fmt: skip
    rules = ["back-propagation", "regression .75", "regression .99, tied"] if quick else list(RULES)
    outputs = ["logistic"] if quick else list(OUTPUTS)
    cells = [Cell(f"encoder-{_slug(rule)}", {**encoder, "rule": rule}, _encoder) for rule in rules[: 2 if quick else 3]]
    return cells + [
        Cell(f"{output}-{_slug(rule)}", {**digits, "output": output, "rule": rule}, _digits)
        for output in outputs for rule in rules
    ]  # fmt: skip


def _slug(rule: str) -> str:
    """The rule in the name of a file."""
    return rule.replace(", ", "-").replace(" ", "-")


def _encoder(settings: Settings, state: Path) -> Result:
    """How many seeds find a code of `code_size` numbers for each of the unit vectors."""
    unit = np.eye(settings["columns"])
    X, solved, errors = np.repeat(unit, 10, axis=0), 0, []
    arguments = {name: settings[name] for name in ("code_size", "learning_rate", "max_epochs")}
    for seed in range(settings["seeds"]):
        model = _learner(settings["rule"], **arguments, random_state=seed, batch_size=8).fit(X)
        errors.append(float(model.reconstruction_error(unit).mean()))
        solved += bool((model.reconstruct(unit).argmax(1) == np.arange(len(unit))).all())
    return {"rule": settings["rule"], "solved": solved / settings["seeds"], "error": float(np.mean(errors))}


def _digits(settings: Settings, state: Path) -> Result:
    """The error that a rule reaches, and how nearly it followed the gradient on the way."""
    rows = [np.asarray(rows_of(settings[name])) for name in ("train", "test")]
    train, test = (X.reshape(len(X), -1) / X.max() for X in rows)
    model = _learner(
        settings["rule"], code_size=settings["code_size"], likelihood=OUTPUTS[settings["output"]],
        max_epochs=settings["max_epochs"], batch_size=64, scaling="none", random_state=settings["seed"],
    )  # fmt: skip
    model.at = tuple(settings["looks"])
    model.fit(train[: settings["rows"]])
    looks, seen = getattr(model.objective_, "looks", []), train[: settings["rows"]]
    told = {"rule": settings["rule"], "looks": looks, "train": squared_errors(model, seen)["error"]}
    return told | squared_errors(model, test)


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    rows = []
    for name, cell in results.items():
        if name.startswith("encoder"):
            rule, size = cell["rule"], "8-3-8 encoder"
            judged = published.get("solved") if rule == "regression .75" else None
            rows += [Row(f"{size}, {rule}: share of seeds that tell all eight apart", cell["solved"], judged),
                     Row(f"{size}, {rule}: squared error", cell["error"], form=".3f")]  # fmt: skip
    for output in OUTPUTS:
        found = {cell["rule"]: cell for name, cell in results.items() if name.startswith(output)}
        rows += _output_rows(output, found, published) if found else []
    return rows


def _output_rows(output: str, found: Results, published: Any) -> list[Row]:
    """The lines of one kind of output units."""
    named = f"{output} outputs"
    rows = [Row(f"{named}, {rule}: squared error per test digit", cell["error"]) for rule, cell in found.items()]
    for rule, cell in found.items():
        if not cell["looks"]:
            continue
        least = {what: min(look[what] for look in cell["looks"]) for what in ("whole", "encoder")}
        last = cell["looks"][-1]
        judged = published.get("restricted") if "tied" in rule else published.get("downhill")
        rows += [
            Row(f"{named}, {rule}: least cosine to the gradient while learning", least["whole"], judged, ".3f"),
            Row(f"{named}, {rule}: of the encoder's weights, least", least["encoder"], form=".3f"),
            Row(f"{named}, {rule}: of the encoder's weights, at the last look", last["encoder"], form=".3f"),
            Row(f"{named}, {rule}: cosine of W and V', at the last look", last["alike"], form=".3f"),
        ]
    if "regression .75" in found:
        ratio = found["regression .75"]["error"] / found["back-propagation"]["error"]
        rows.append(Row(f"{named}, regression .75: error over back-propagation's", ratio,
                        published.get("beside"), ".3f"))  # fmt: skip
    return rows


def _remarks(results: Results, quick: bool) -> list[str]:
    digits = {name: cell for name, cell in results.items() if not name.startswith("encoder")}
    told = "; ".join(f"{name} {cell['train']:.2f}" for name, cell in digits.items())
    return [
        f"Squared error per training digit: {told}. Principal components of the same size err "
        f"{next(iter(digits.values()))['pca_error']:.2f} per test digit.",
        "The decoder's rule is its gradient at any regression, so the cosine of all weights is the larger one.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    drawn = {}
    for output in OUTPUTS:
        found = {cell["rule"]: cell for name, cell in results.items() if name.startswith(output) and cell["looks"]}
        if found:
            title = f"Cosine of the encoder's rule to its gradient, {output} outputs"
            drawn[f"cosine-{output}"] = _by_step(found, "encoder", title)
    return drawn


def _by_step(found: Results, what: str, title: str) -> Figure:
    """A cosine over the steps at which it was looked at, a line a rule."""
    steps = [int(look["step"]) for look in next(iter(found.values()))["looks"]]
    lines = {rule: (list(range(len(cell["looks"]))), [look[what] for look in cell["looks"]])
             for rule, cell in found.items()}  # fmt: skip
    figure = curves(lines, across="steps of learning", up="cosine", title=title)
    figure.axes[0].set_xticks(range(len(steps)), [f"{step:,}" for step in steps])
    figure.axes[0].set_ylim(min(0.0, *(min(y) for _, y in lines.values())), 1.05)
    return figure


EXPERIMENT = Experiment(
    name="recirculation",
    claim="A local rule without back-propagation goes down the reconstruction error, and nearly along its gradient.",
    source="Hinton & McClelland, Learning representations by recirculation (1988)",
    protocol="Plain steps with momentum .9 along the rule over (1 - regression), or along the gradient, of one length: "
    "(a) the encoder problem 8-3-8, 20 seeds, 150 epochs of 10 steps on the eight unit vectors; (b) 784-64-784, "
    "sigmoid code, on the first 10,000 training digits of MNIST in [0, 1], 40 epochs in batches of 64, with logistic "
    "outputs under the cross-entropy and linear ones under the squared error. At some steps the rule and the gradient "
    "of the criterion are both taken on 500 rows. Weights begin without symmetry, but where they are tied. Errors on "
    "the 10,000 test digits.",
    minutes=6,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
