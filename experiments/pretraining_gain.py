"""The gain of unsupervised pretraining by RBMs for a classifier, by the number of labels and by layer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

import isthmus
from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import balanced_rows, load_dataset, raise_if_interrupted
from isthmus import CodeClassifier, FineTuning, StackedAutoencoder
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.stacking import CodeRows, StackedEncoder
from isthmus.parts.coder import Coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.networks import MLP

_RBM = "published accuracy of a network pretrained by RBMs"
_GAIN = "published accuracy after pretraining by RBMs minus accuracy from random weights, which were not tuned"
_FAR = "pretraining matters most for the layers that are far from the output"

PUBLISHED = {
    "machines, 55000": Published(98.73, "at least", _RBM + ", 60,000 labels", 0.25),
    "machines, 10000": Published(97.27, "at least", _RBM, 0.5),
    "machines, 1000": Published(93.65, "at least", _RBM, 1.0),
    "machines, 100": Published(81.70, "at least", _RBM, 2.0),
    "gain, 55000": Published(0.53, "at least", _GAIN),
    "gain, 10000": Published(2.54, "at least", _GAIN),
    "gain, 1000": Published(4.94, "at least", _GAIN),
    "gain, 100": Published(5.68, "at least", _GAIN),
}

TARGETS = {
    "gain, 1000": Target(3.5, "at least", "chosen here, over tuned random weights"),
    "gain, 100": Target(3.5, "at least", "chosen here, over tuned random weights"),
    "lowest alone": Target(0.0, "at least", _FAR),
    "lowest missing": Target(0.0, "at least", _FAR),
}

SEED = 0
MACHINE_RATE = 0.5
"""With the momentum of .5 of RBMs this gives the usual effective rate, .1 with a momentum of .9."""

STARTS = {"machines": "RBMs", "random": "random weights"}

LAYERS = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    common: dict[str, Any]
    rbm: dict[str, int]
    labels: tuple[int, ...]
    """Numbers of labels, largest first. Single layers are tested at the last but one."""
    trials: dict[int, dict[str, Any]]
    """By the number of labels: the compared settings of a classifier, and the number of labelled sets."""


def _full_trials(n_labels: int) -> dict[str, Any]:
    """Return the settings of the full form for a number of labels."""
    batch = {55_000: 200, 10_000: 100, 1_000: 25, 100: 10}[n_labels]
    epochs = {55_000: 12, 10_000: 20, 1_000: 40, 100: 60}[n_labels]
    together = {"max_epochs": epochs, "batch_size": batch}
    rates = (3e-4, 1e-3) if n_labels == 10_000 else (1e-3,)
    tried = [{**together, "learning_rate": rate, "dropout": dropout} for rate, dropout in product(rates, (0.0, 0.3))]
    if n_labels <= 1_000:  # the head is trained first, because its first updates would damage the layers below
        alone = {**together, "dropout": 0.3, "head_epochs": epochs, "head_learning_rate": 3e-2}
        tried += [{**alone, "learning_rate": rate} for rate in (3e-4, 1e-3)]
    return {"draws": {55_000: 1, 10_000: 1, 1_000: 3, 100: 5}[n_labels], "tried": tried}


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    common={"train": "mnist", "test": "mnist:test", "rows": 55_000, "looked_at": 5_000, "sizes": [500, 500, 500]},
    rbm={"batch_size": 100, "pretraining__epochs": 10}, labels=(55_000, 10_000, 1_000, 100),
    trials={n: _full_trials(n) for n in (55_000, 10_000, 1_000, 100)},
)  # fmt: skip

_QUICK_TRIALS = {"draws": 1, "tried": [{"max_epochs": 10, "batch_size": 10, "learning_rate": 3e-3}]}

QUICK = _Setup(
    targets={
        "machines, 200": Target(25.0, "at least", "far better than by chance"),
        "lowest missing": TARGETS["lowest missing"],
    },
    common={
        "train": "digits:train", "test": "digits:test", "rows": 1_000, "looked_at": 100, "sizes": [32, 32, 32],
    },
    rbm={"batch_size": 20, "pretraining__epochs": 15}, labels=(200, 100),
    trials={200: _QUICK_TRIALS, 100: _QUICK_TRIALS},
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    common: dict[str, Any] = {
        **setup.common, "seed": SEED, "machines": {**setup.rbm, "pretraining__learning_rate": MACHINE_RATE},
    }  # fmt: skip
    n_few = setup.labels[-2]
    few = {**common, "labels": n_few, **setup.trials[n_few]}
    return [
        Cell("machines", common, _pretrain),
        *(
            Cell(f"{start}-{n}", {**common, "labels": n, "start": start, **setup.trials[n]}, _classify)
            for n, start in product(setup.labels, STARTS)
        ),
        *(Cell(f"layers-{name}", {**few, **arm}, _classify_by_layer) for name, arm in _arms().items()),
    ]


def _arms() -> dict[str, dict[str, list[int]]]:
    """Return which layers start at their RBMs ("kept"), and which of them are then frozen ("held")."""
    return {
        **{f"only-{k}": {"kept": [k], "held": []} for k in LAYERS},
        **{f"without-{k}": {"kept": [j for j in LAYERS if j != k], "held": []} for k in LAYERS},
        **{f"held-{k}": {"kept": list(LAYERS), "held": [k]} for k in LAYERS},
    }


# -- data and RBMs ----------------------------------------------------------------------------------


def _parts(settings: Settings) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return rows and labels for training, validation and test."""
    train, test = (load_dataset(settings[part]) for part in ("train", "test"))
    X, y, n, m = np.asarray(train.X), np.asarray(train.labels), settings["rows"], settings["looked_at"]
    return (X[:n], y[:n]), (X[n : n + m], y[n : n + m]), (np.asarray(test.X), np.asarray(test.labels))


def _pretrained(settings: Settings, state: Path) -> StackedAutoencoder:
    """Return the stack of RBMs, trained once without labels and stored beside the folder of the cells."""
    path = state.parent.parent / "machines.isthmus"
    wanted = {"sizes": settings["sizes"], "rows": settings["rows"], "seed": settings["seed"], **settings["machines"]}
    if path.is_file():
        found = isthmus.load(path)
        assert isinstance(found, StackedAutoencoder)
        if _description(found) == wanted:
            return found
    model = _stack(settings, layers="rbm", fine_tuning=None).set_params(**settings["machines"])
    model.fit(_parts(settings)[0][0])
    raise_if_interrupted(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    return model


def _description(model: StackedAutoencoder) -> dict[str, Any]:
    """Return the settings of a stored stack."""
    parameters = model.get_params()
    return {
        "sizes": [*model.hidden_sizes_, model.code_size_], "rows": model.n_rows_, "seed": model.seed_,
        **{name: parameters[name] for name in ("batch_size", "pretraining__epochs", "pretraining__learning_rate")},
    }  # fmt: skip


def _stack(settings: Settings, **arguments: Any) -> StackedAutoencoder:
    *hidden, code_size = settings["sizes"]
    return StackedAutoencoder(
        hidden_sizes=hidden, code_size=code_size, likelihood="bernoulli", validation_fraction=0.0, patience=None,
        precision="fp32", random_state=settings["seed"], verbose=1, **arguments,
    )  # fmt: skip


@torch.no_grad()
def partly_pretrained(
    rbms: StackedAutoencoder, pretrained: Collection[int], frozen: Collection[int], X: np.ndarray, seed: int
) -> PartlyFrozenStack:
    """Return a stack of ordinary layers: those in `pretrained` (1 is the lowest) start at their RBM, others at random.

    The random weights are scaled for sigmoids; the biases of such a layer are initialized at the mean of its input.

    Args:
        rbms: the trained stack; it is not changed.
        pretrained: numbers of these layers.
        frozen: numbers of the layers whose encoders are not trained.
        X: rows for the initialization of biases.
        seed: of the random weights.
    """
    model = PartlyFrozenStack._unpack(*rbms._pack())
    model.set_params(layers="ordinary", pretraining=None, fine_tuning=FineTuning(epochs=1))
    recipe = model._rebuilt(torch.Generator().manual_seed(seed))
    units = CodeRows(model.preprocessing_.rows(X).batch(torch.arange(len(X))).x)
    pairs = zip(recipe.layers, _encoders(rbms.coder_), strict=True)
    for number, (layer, trained) in enumerate(pairs, 1):
        layer.prepare(units)
        if number in pretrained:
            rbm, (affine,) = cast(RBMEnergy, trained), cast(MLP, layer.coder.encoder).affine_maps
            affine.weight.copy_(rbm.weight)
            affine.bias.copy_(rbm.hidden_bias)
        units = CodeRows(layer.coder.encode(Batch(units.codes)).code)
    freeze(recipe.coder, frozen)
    recipe.parts.eval()
    model._keep(recipe)
    model.frozen_layers = tuple(frozen)
    return model


class FrozenAffine(nn.Module):
    """W x + b with buffers W and b, which are not trained.

    Args:
        affine: the layer whose values are copied.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, affine: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", affine.weight.detach().clone())
        self.register_buffer("bias", affine.bias.detach().clone())

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return W x + b."""
        return F.linear(x, self.weight, self.bias)


def freeze(coder: Coder, layers: Collection[int]) -> None:
    """Freeze the encoders of some layers."""
    encoders = _encoders(coder)
    for number in layers:
        (affine,) = cast(MLP, encoders[number - 1]).affine_maps
        encoders[number - 1] = FrozenAffine(affine)


def _encoders(coder: Coder) -> nn.ModuleList:
    """Return the encoder of each layer, lowest first."""
    return cast(StackedEncoder, coder.encoder).encoders


class PartlyFrozenStack(StackedAutoencoder):
    """Stack in which the encoders of some layers are not trained.

    Attributes:
        frozen_layers: the numbers of these layers; 1 is the lowest.
    """

    frozen_layers: tuple[int, ...] = ()

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        recipe = super()._recipe(shape, generator)
        freeze(recipe.coder, self.frozen_layers)
        return recipe


# -- the cells --------------------------------------------------------------------------------------


def _pretrain(settings: Settings, state: Path) -> Result:
    """Train and store the stack: the last training loss of each layer."""
    records = (model := _pretrained(settings, state)).history_["pretraining"]
    losses = [record["epochs"][-1]["train"] for record in (*records, model.history_)]
    return {"looked_at": losses, "seconds": sum(record["seconds"] for record in (*records, model.history_))}


def _classify(settings: Settings, state: Path) -> Result:
    """Measure the accuracy of classifiers that start at the RBMs or at random weights, over labelled sets."""
    pretrained = LAYERS if settings["start"] == "machines" else ()
    return _accuracies(settings, state, pretrained, ())


def _classify_by_layer(settings: Settings, state: Path) -> Result:
    """Measure the accuracy where single layers start at their RBMs or are frozen there."""
    return _accuracies(settings, state, settings["kept"], settings["held"])


def _accuracies(settings: Settings, state: Path, pretrained: Collection[int], frozen: Collection[int]) -> Result:
    rbms, ((X, y), validation, test) = _pretrained(settings, state), _parts(settings)
    found = []
    for draw in range(settings["draws"]):
        rows = balanced_rows(y, settings["labels"], seed=draw)
        coder = partly_pretrained(rbms, pretrained, frozen, X[:2000], seed=draw)
        tried = [_fitted(coder, (X[rows], y[rows]), validation, trial, draw) for trial in settings["tried"]]
        valid = [100 * classifier.score(*validation) for classifier in tried]
        best = int(np.argmax(valid))
        found.append({"accuracy": 100 * tried[best].score(*test), "validation": valid, "chosen": best})
    return {"accuracy": float(np.mean([one["accuracy"] for one in found])), "draws": found}


def _fitted(
    coder: StackedAutoencoder,
    labelled: tuple[np.ndarray, np.ndarray],
    validation: Any,
    trial: Mapping[str, Any],
    seed: int,
) -> CodeClassifier:
    """Fit a classifier that starts from the code; its weights are those of the best epoch on the validation rows."""
    classifier = CodeClassifier(
        encoder=coder, patience=None, precision="fp32", random_state=seed, verbose=1, **trial
    ).fit(*labelled, validation=validation)  # fmt: skip
    raise_if_interrupted(classifier)
    return cast(CodeClassifier, classifier)


# -- results ----------------------------------------------------------------------------------------


def _numbers(results: Results) -> list[int]:
    """Return the numbers of labels, largest first."""
    return sorted({int(name.split("-")[1]) for name in results if name.startswith("random-")}, reverse=True)


def _rows(results: Results, setup: _Setup) -> list[Row]:
    accuracy = {name: cell["accuracy"] for name, cell in results.items() if "accuracy" in cell}
    numbers = _numbers(results)
    few = numbers[-2]
    none, every = accuracy[f"random-{few}"], accuracy[f"machines-{few}"]
    alone = {k: accuracy[f"layers-only-{k}"] - none for k in LAYERS}
    missing = {k: every - accuracy[f"layers-without-{k}"] for k in LAYERS}
    low, high = LAYERS[0], LAYERS[-1]
    return [
        *(setup.row(f"{n:,} labels: pretrained by RBMs, test accuracy, %", accuracy[f"machines-{n}"], f"machines, {n}")
          for n in numbers),
        *(Row(f"{n:,} labels: from random weights, test accuracy, %", accuracy[f"random-{n}"]) for n in numbers),
        # The published random weights were not tuned, ours are.
        *(replace(setup.row(f"{n:,} labels: gain of pretraining, points",
                            accuracy[f"machines-{n}"] - accuracy[f"random-{n}"], f"gain, {n}"), comparable=False)
          for n in numbers),
        setup.row("gain of one pretrained layer, lowest minus highest, points", alone[low] - alone[high],
                  "lowest alone"),
        setup.row("loss without one pretrained layer, lowest minus highest, points", missing[low] - missing[high],
                  "lowest missing"),
        *(Row(f"{few:,} labels, only layer {k} pretrained: gain, points", alone[k]) for k in LAYERS),
        *(Row(f"{few:,} labels, all layers but {k} pretrained: loss, points", missing[k]) for k in LAYERS),
        *(Row(f"{few:,} labels, layer {k} frozen at its RBM: loss, points", every - accuracy[f"layers-held-{k}"])
          for k in LAYERS),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    said = ["Published gains are not comparable (n/c): their random weights were not tuned, ours are."]
    for n in _numbers(results):
        draws = {start: [one["accuracy"] for one in results[f"{start}-{n}"]["draws"]] for start in STARTS}
        if len(draws["random"]) > 1:
            gains = np.subtract(draws["machines"], draws["random"])
            said.append(f"{n:,} labels, gain of each labelled set: {', '.join(f'{g:.1f}' for g in gains)}.")
    seconds = results["machines"]["seconds"]
    return [*said, f"The RBMs were trained once, without labels, in {seconds / 60:.1f} minutes."]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    return {"accuracy-by-labels": _by_labels(results), "layer-by-layer": _by_layer(results)}


def _by_labels(results: Results) -> Figure:
    figure, ax = axes(6.8)
    numbers = _numbers(results)
    for colour, (start, words) in zip(COLOURS, STARTS.items(), strict=False):
        errors = [100 - results[f"{start}-{n}"]["accuracy"] for n in numbers]
        ax.plot(numbers, errors, color=colour, lw=1.8, marker="o", ms=4, label=f"from {words}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 40, 80) if tick < 1.5 * max(errors)]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks(numbers, [f"{n:,}" for n in numbers])
    ax.minorticks_off()
    ax.set_xlabel("labels")
    ax.set_ylabel("test error, %")
    ax.legend(frameon=False, fontsize=9)
    ax.set_title("Test error with and without pretraining", fontsize=11, loc="left")
    return figure


def _by_layer(results: Results) -> Figure:
    figure, ax = axes(6.8)
    few = _numbers(results)[-2]
    none, every = (results[f"{start}-{few}"]["accuracy"] for start in ("random", "machines"))
    arms: Sequence[tuple[str, str]] = (
        ("only", "only this layer pretrained"), ("without", "all other layers pretrained"),
        ("held", "all layers pretrained, this one frozen"),
    )  # fmt: skip
    ax.axhline(none, color=COLOURS[4], ls=":", lw=1.4, label="no layer pretrained")
    ax.axhline(every, color=COLOURS[4], ls="--", lw=1.4, label="all layers pretrained")
    for colour, (name, words) in zip(COLOURS, arms, strict=False):
        values = [results[f"layers-{name}-{k}"]["accuracy"] for k in LAYERS]
        ax.plot(LAYERS, values, color=colour, lw=1.8, marker="o", ms=4, label=words)
    ax.set_xticks(LAYERS, ["1 (lowest)", *map(str, LAYERS[1:])])
    ax.set_xlabel("layer")
    ax.set_ylabel("test accuracy, %")
    ax.set_title(f"Pretraining by layer, {few:,} labels", fontsize=11, loc="left")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


EXPERIMENT = Experiment(
    name="pretraining-gain",
    claim="Pretraining by RBMs helps a classifier more, the fewer labels it has.",
    source="Hinton, Osindero & Teh (2006); Bengio et al. (2007); Deep Learning, section 15.1",
    protocol=(
        "MNIST in [0, 1]: 55,000 training digits, of which all, 10,000, 1,000 or 100 have labels (equally many of each "
        "class; 1, 1, 3 and 5 labelled sets), 5,000 validation and 10,000 test digits. 784-500-500-500-10, sigmoid "
        "units. Three RBMs are trained for 10 epochs each by CD-1 on all 55,000 digits without labels; the other start "
        "is random weights scaled for sigmoids, with biases at the mean of the input. From both a classifier is "
        "trained with and without a dropout of .3, at two rates with 10,000 labels, and with fewer labels also at two "
        "rates after its head was trained alone; epoch and settings have the least validation error. By layer with "
        "1,000 labels: one layer pretrained, all but one, or all with one frozen."
    ),
    minutes=25,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
