"""Recirculation compared with the gradient: the cosine of both during training, and the error of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import curves
from experiments.experiment import Cell, Experiment, Result, Results, Row, Settings, Setup, Target
from experiments.learning import load_rows, squared_errors
from isthmus import SGD
from isthmus.estimators.recirculation import RecirculationAutoencoder
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.recirculation import Recirculation
from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.networks import MLP

_CODES = "Hinton & McClelland (1988): it usually converges rapidly on a good set of codes"
_DESCENT = "Hinton & McClelland (1988): in restricted cases it is gradient descent in the reconstruction error"

TARGETS = {
    "solved": Target(0.9, "at least", _CODES),
    "restricted": Target(0.99, "at least", _DESCENT),
    "downhill": Target(0.0, "at least", _DESCENT),
    "beside": Target(1.1, "at most", _CODES),
}
"""The source states no figures: these bounds express its claims in numbers."""

SEED = 0
N_COMPARED = 500
"""Number of training rows on which the directions are compared."""

RULES: dict[str, dict[str, Any]] = {
    "back-propagation": {},
    "regression 0": {"regression": 0.0},
    "regression .75": {"regression": 0.75},
    "regression .75, decay": {"regression": 0.75, "optimizer": SGD(weight_decay=1e-3)},
    "regression .99, tied": {"regression": 0.99, "tied": True},
    "back-propagation, tied": {"tied": True},
}
"""The compared rules and their parameters."""

OUTPUTS = {"logistic": "bernoulli", "linear": "gaussian"}
"""Output units, and the likelihood whose gradient by their input is r - x."""


class ComparedRule(Recirculation):
    """A recirculation rule that is compared with the gradient before some of its steps.

    Attributes:
        at: the numbers of the steps.
        looks: the comparisons.
    """

    def __init__(self, coder: Coder, *, at: Sequence[int], regression: float) -> None:
        super().__init__(coder, regression=regression)
        self.at, self.step = tuple(at), 0
        self.looks: list[dict[str, float]] = []

    def prepare(self, rows: Rows) -> None:
        """Prepare, and select the rows of the comparison."""
        super().prepare(rows)
        self.compared_rows = rows.batch(evenly_spaced(len(rows), N_COMPARED))

    def project_gradient(self) -> None:
        """Compare the directions at the steps `at`; the trainer calls this once a step."""
        if self.step in self.at:
            self.looks.append({"step": self.step, **self.compared(self.compared_rows)})
        self.step += 1

    def compared(self, batch: Batch) -> dict[str, float]:
        """Return the cosine of rule and gradient for all weights and for the encoder, and the cosine of W and V'."""
        rule = self._directions(self.criterion(batch, 0.0, None)["reconstruction"])
        true = self._directions(self.nll(self(batch)))
        up, decoder = cast(MLP, self.coder.encoder).affine_maps[0].weight, self.coder.decoder
        down = decoder.affine_maps[0].weight.t() if isinstance(decoder, MLP) else up
        return {
            "whole": _cosine(torch.cat(rule), torch.cat(true)),
            "encoder": _cosine(torch.cat(rule[:2]), torch.cat(true[:2])),
            "alike": _cosine(up.detach().flatten(), down.detach().flatten()),
        }

    def _directions(self, value: Tensor) -> list[Tensor]:
        """Return the gradient of a mean over rows by parameter; weight and bias of the encoder come first."""
        return [part.flatten() for part in torch.autograd.grad(value.mean(), list(self.parameters()))]


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


class _ByRule(RecirculationAutoencoder):
    """A recirculation autoencoder whose rule is compared with the gradient; `looks` are the comparisons."""

    at: Sequence[int] = ()

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        plain = super()._recipe(shape, generator)
        compared = ComparedRule(plain.coder, at=self.at, regression=self.regression)
        self.looks = compared.looks
        return replace(plain, objective=compared)


class _ByGradient(RecirculationAutoencoder):
    """The same network, trained by the same steps along the gradient."""

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        plain = super()._recipe(shape, generator)
        return replace(plain, objective=Reconstruction(plain.coder))


def _learner(rule: str, **arguments: Any) -> RecirculationAutoencoder:
    """Return an estimator that trains by the named rule, at an equal effective learning rate."""
    kind = _ByGradient if rule.startswith("back-propagation") else _ByRule
    made = {"regression": 0.0, **RULES[rule], **arguments}
    if "learning_rate" in made:
        made["learning_rate"] /= 1.0 - made["regression"]
    return kind(**made, validation_fraction=0.0, patience=None)


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    seeds: int
    encoder_epochs: int
    digits: dict[str, Any]
    rules: tuple[str, ...]
    encoder_rules: tuple[str, ...]
    outputs: tuple[str, ...]


FULL = _Setup(
    targets=TARGETS, seeds=20, encoder_epochs=150,
    digits={
        "train": "mnist", "test": "mnist:test", "rows": 10000, "code_size": 64, "max_epochs": 40,
        "looks": [0, 10, 30, 100, 300, 1000, 3000, 6000],
    },
    rules=tuple(RULES), encoder_rules=tuple(RULES)[:3], outputs=tuple(OUTPUTS),
)  # fmt: skip

_QUICK_RULES = ("back-propagation", "regression .75", "regression .99, tied")

QUICK = _Setup(
    targets={name: TARGETS[name] for name in ("restricted", "downhill")}, seeds=2, encoder_epochs=40,
    digits={
        "train": "digits:train", "test": "digits:test", "rows": 500, "code_size": 16, "max_epochs": 3,
        "looks": [0, 3, 10, 40],
    },
    rules=_QUICK_RULES, encoder_rules=_QUICK_RULES[:2], outputs=("logistic",),
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    encoder = {"seed": SEED, "columns": 8, "code_size": 3, "seeds": setup.seeds, "learning_rate": 1.0,
               "max_epochs": setup.encoder_epochs}  # fmt: skip
    digits = {**setup.digits, "seed": SEED}
    return [
        *(Cell(f"encoder-{_slug(rule)}", {**encoder, "rule": rule}, _encoder) for rule in setup.encoder_rules),
        *(Cell(f"{output}-{_slug(rule)}", {**digits, "output": output, "rule": rule}, _digits)
          for output in setup.outputs for rule in setup.rules),
    ]  # fmt: skip


def _slug(rule: str) -> str:
    """Return the name of the rule as a part of a file name."""
    return rule.replace(", ", "-").replace(" ", "-")


def _encoder(settings: Settings, state: Path) -> Result:
    """Solve the encoder problem: the share of seeds whose reconstructions distinguish all unit vectors."""
    unit = np.eye(settings["columns"])
    X, solved, errors = np.repeat(unit, 10, axis=0), 0, []
    arguments = {name: settings[name] for name in ("code_size", "learning_rate", "max_epochs")}
    for seed in range(settings["seeds"]):
        model = _learner(settings["rule"], **arguments, random_state=seed, batch_size=8).fit(X)
        errors.append(float(model.reconstruction_error(unit).mean()))
        solved += bool((model.reconstruct(unit).argmax(1) == np.arange(len(unit))).all())
    return {"rule": settings["rule"], "solved": solved / settings["seeds"], "error": float(np.mean(errors))}


def _digits(settings: Settings, state: Path) -> Result:
    """Train by one rule on digits: its error, and the cosines of rule and gradient during training."""
    rows = [np.asarray(load_rows(settings[name])) for name in ("train", "test")]
    train, test = (X.reshape(len(X), -1) / X.max() for X in rows)
    model = _learner(
        settings["rule"], code_size=settings["code_size"], likelihood=OUTPUTS[settings["output"]],
        max_epochs=settings["max_epochs"], batch_size=64, scaling="none", random_state=settings["seed"],
    )  # fmt: skip
    model.at = tuple(settings["looks"])
    model.fit(train[: settings["rows"]])
    train_error = squared_errors(model, train[: settings["rows"]])["error"]
    looks = getattr(model, "looks", [])
    return {"rule": settings["rule"], "looks": looks, "train": train_error, **squared_errors(model, test)}


def _rows(results: Results, setup: _Setup) -> list[Row]:
    rows = []
    for name, cell in results.items():
        if name.startswith("encoder"):
            rule, problem = cell["rule"], "8-3-8 encoder"
            rows += [
                setup.row(f"{problem}, {rule}: share of seeds that solve it", cell["solved"],
                          "solved" if rule == "regression .75" else ""),
                Row(f"{problem}, {rule}: squared error", cell["error"], form=".3f"),
            ]  # fmt: skip
    for output in OUTPUTS:
        found = {cell["rule"]: cell for name, cell in results.items() if name.startswith(output)}
        rows += _output_rows(output, found, setup) if found else []
    return rows


def _output_rows(output: str, found: Results, setup: _Setup) -> list[Row]:
    """Return the rows of one kind of output units."""
    named = f"{output} outputs"
    rows = [Row(f"{named}, {rule}: squared error per test digit", cell["error"]) for rule, cell in found.items()]
    for rule, cell in found.items():
        if not cell["looks"]:
            continue
        least = {weights: min(look[weights] for look in cell["looks"]) for weights in ("whole", "encoder")}
        last = cell["looks"][-1]
        rows += [
            setup.row(f"{named}, {rule}: cosine of rule and gradient, least over training", least["whole"],
                      "restricted" if "tied" in rule else "downhill", ".3f"),
            Row(f"{named}, {rule}: the same for the encoder", least["encoder"], form=".3f"),
            Row(f"{named}, {rule}: the same for the encoder, last comparison", last["encoder"], form=".3f"),
            Row(f"{named}, {rule}: cosine of W and V', last comparison", last["alike"], form=".3f"),
        ]  # fmt: skip
    if "regression .75" in found:
        ratio = found["regression .75"]["error"] / found["back-propagation"]["error"]
        rows.append(setup.row(f"{named}: error, regression .75 over back-propagation", ratio, "beside", ".3f"))
    return rows


def _remarks(results: Results, setup: _Setup) -> list[str]:
    digits = {name: cell for name, cell in results.items() if not name.startswith("encoder")}
    errors = "; ".join(f"{name} {cell['train']:.2f}" for name, cell in digits.items())
    return [
        f"Squared error per training digit: {errors}. PCA of the same code size: "
        f"{next(iter(digits.values()))['pca_error']:.2f} per test digit.",
        "The rule of the decoder is its gradient at any regression; therefore the cosine of all weights is larger.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    figures = {}
    for output in OUTPUTS:
        found = {cell["rule"]: cell for name, cell in results.items() if name.startswith(output) and cell["looks"]}
        if found:
            title = f"Cosine of rule and gradient of the encoder, {output} outputs"
            figures[f"cosine-{output}"] = _by_step(found, "encoder", title)
    return figures


def _by_step(found: Results, weights: str, title: str) -> Figure:
    """Draw a cosine over the training steps, one line for each rule."""
    steps = [int(look["step"]) for look in next(iter(found.values()))["looks"]]
    lines = {rule: (list(range(len(cell["looks"]))), [look[weights] for look in cell["looks"]])
             for rule, cell in found.items()}  # fmt: skip
    figure = curves(lines, across="training steps", up="cosine", title=title)
    figure.axes[0].set_xticks(range(len(steps)), [f"{step:,}" for step in steps])
    figure.axes[0].set_ylim(min(0.0, *(min(y) for _, y in lines.values())), 1.05)
    return figure


EXPERIMENT = Experiment(
    name="recirculation",
    claim="A local rule without back-propagation descends the reconstruction error, nearly along its gradient.",
    source="Hinton & McClelland, Learning representations by recirculation (1988)",
    protocol="Gradient descent with momentum .9 along the rule divided by (1 - regression), or along the gradient, at "
    "one learning rate: (a) the encoder problem 8-3-8, 20 seeds, 150 epochs of 10 steps on the eight unit vectors; (b) "
    "784-64-784, sigmoid code, on the first 10,000 training digits of MNIST in [0, 1], 40 epochs in batches of 64, "
    "with logistic outputs under the cross-entropy and linear ones under the squared error. At some steps the rule and "
    "the gradient of the criterion are both computed on 500 rows. Encoder and decoder start from independent weights "
    "unless they are tied. Errors on the 10,000 test digits.",
    minutes=6,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
