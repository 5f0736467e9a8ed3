"""Classification of MNIST with 100 to 3,000 labels, from a contractive code and from random weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import isthmus
from experiments.drawing import curves, signed_lines
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import balanced_rows, load_dataset, load_rows, raise_if_interrupted
from isthmus.estimators.classifier import CodeClassifier
from isthmus.estimators.stacked import StackedAutoencoder

_RIFAI = "Rifai et al., The manifold tangent classifier (2011), table 1, CAE"

PUBLISHED = {
    "100": Published(13.47, "at most", _RIFAI, 1.03),
    "600": Published(6.30, "at most", _RIFAI, 0.50),
    "1000": Published(4.77, "at most", _RIFAI, 0.43),
    "3000": Published(3.22, "at most", _RIFAI, 0.38),
}
"""Test errors in percent."""

NEURAL_NETWORK = {100: 25.81, 600: 11.44, 1000: 10.70, 3000: 6.04}
"""Published test errors of a network from random weights in the same table, for the remarks: ours is tuned."""

TARGETS = {"gain": Target(1.0, "at most", "the start from the code has no larger error than the random start")}

SEED = 0
N_VALIDATION = 10_000
"""The last training digits are validation digits. No labelled set contains them."""

TRIED_ON = 1
"""Labelled sets on which settings are compared; the chosen settings are then used on all sets."""

PASSES = {100: (150, 60, 20), 600: (50, 30, 20), 1000: (40, 30, 20), 3000: (20, 20, 50)}
"""Epochs of the head alone, epochs of all weights, and batch size, by the number of labels."""

STARTS = {"encoder": "start from the code", "random": "random start"}


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    data: dict[str, Any]
    stack: dict[str, Any]
    counts: tuple[int, ...]
    draws: int
    passes: dict[int, tuple[int, int, int]]
    methods: int
    """How many of the fine-tuning methods are compared."""


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS,
    data={"source": "mnist", "test": "mnist:test", "n_validation": N_VALIDATION, "seed": SEED},
    stack={"hidden_sizes": [1000], "code_size": 1000, "max_epochs": 15, "learning_rate": 5e-3},
    counts=(100, 600, 1000, 3000), draws=5, passes=PASSES, methods=2,
)  # fmt: skip

QUICK = _Setup(
    targets={"100": Target(45.0, "at most", "far better than by chance")},
    data={"source": "mnist-sample", "test": "mnist-sample:test", "n_validation": 1000, "seed": SEED},
    stack={"hidden_sizes": [100], "code_size": 100, "max_epochs": 4, "learning_rate": 2e-3},
    counts=(100,), draws=2, passes={100: (30, 20, 20)}, methods=1,
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    stack = {
        "layers": "contractive", "layers__contraction__weight": 1.0, "likelihood": "bernoulli", "fine_tuning": None,
        "batch_size": 128, **setup.stack,
    }  # fmt: skip
    return [
        Cell("coder", {**setup.data, "stack": stack}, _pretrain),
        *(
            Cell(
                f"{start}-{count}",
                {**setup.data, "stack": stack, "labels": count, "draws": setup.draws, "start": start,
                 "trials": _trials(count, setup)},
                _fine_tune,
            )
            for count in setup.counts
            for start in STARTS
        ),
    ]  # fmt: skip


def _trials(count: int, setup: _Setup) -> list[dict[str, Any]]:
    """Return the fine-tuning methods that are compared on the validation digits: the head first, or all weights."""
    alone, together, batch = setup.passes[count]
    head_first = {"learning_rate": 1e-3, "dropout": 0.2, "head_epochs": alone, "head_learning_rate": 3e-2}
    at_once = {"learning_rate": 3e-3, "dropout": 0.5, "input_dropout": 0.3}
    return [
        {"max_epochs": together, "batch_size": batch, **method} for method in (head_first, at_once)[: setup.methods]
    ]


def _stack_of(settings: Settings, state: Path) -> StackedAutoencoder:
    """Return the stack of a cell's settings, from its file in the folder of the cells or trained and stored now."""
    key = json.dumps([settings["stack"], settings["source"], settings["seed"], isthmus.__version__], sort_keys=True)
    path = state.parent / f"stack-{hashlib.sha256(key.encode()).hexdigest()[:12]}.isthmus"
    if path.is_file():
        return isthmus.load(path)
    stack = StackedAutoencoder(
        validation_fraction=0.0, patience=None, precision="fp32", random_state=settings["seed"], verbose=1
    ).set_params(**settings["stack"])
    stack.fit(load_rows(settings["source"]), checkpoint=path, resume=True)
    raise_if_interrupted(stack)
    stack.save(path)
    return stack


def _pretrain(settings: Settings, state: Path) -> Result:
    """Train the stack once on all images without labels: the cost of each layer, and some filters."""
    stack = _stack_of(settings, state)
    records = [*stack.history_["pretraining"], stack.history_]
    weights = next(value for value in stack.coder_.encoder.parameters() if value.ndim == 2).detach().numpy()
    codes = stack.transform(load_rows(settings["test"], 1000))
    return {
        "seconds": sum(record["seconds"] for record in records),
        "layers": [dict(record["epochs"][-1]["terms"]) for record in records],
        "saturated": float(((codes < 0.05) | (codes > 0.95)).mean()),
        "filters": np.round(weights[:12].astype(np.float64), 3).tolist(),
        "image_shape": list(stack.preprocessing_.image_shape or ()),
    }


def _fine_tune(settings: Settings, state: Path) -> Result:
    """Choose the method of least validation error on the first labelled sets; evaluate it on every set."""
    stack = _stack_of(settings, state)
    fits = {
        number: [_fitted(settings, stack, trial, seed) for seed in range(TRIED_ON)]
        for number, trial in enumerate(settings["trials"])
    }
    validation = {number: [_error(one, *_validation(settings)) for one in some] for number, some in fits.items()}
    best = min(validation, key=lambda number: float(np.mean(validation[number])))
    chosen = settings["trials"][best]
    more = [_fitted(settings, stack, chosen, seed) for seed in range(TRIED_ON, settings["draws"])]
    test = load_dataset(settings["test"])
    errors = [_error(one, load_rows(settings["test"]), test.labels) for one in [*fits[best], *more]]
    return {
        "errors": errors, "error": float(np.mean(errors)), "spread": float(np.std(errors, ddof=1)), "chosen": chosen,
        "validation": [float(np.mean(validation[number])) for number in fits], "trials": settings["trials"],
    }  # fmt: skip


def _fitted(settings: Settings, stack: StackedAutoencoder, trial: Mapping[str, Any], seed: int) -> CodeClassifier:
    """Fit a classifier to one labelled set. No other label is used."""
    X, y = load_rows(settings["source"]), np.asarray(load_dataset(settings["source"]).labels)
    rows = balanced_rows(y[: -settings["n_validation"]], settings["labels"], seed=seed)
    classifier = CodeClassifier(
        encoder=stack, start=settings["start"], **trial, validation_fraction=0.0, patience=None, precision="fp32",
        random_state=seed, verbose=1,
    )  # fmt: skip
    raise_if_interrupted(classifier.fit(X[rows], y[rows]))
    return classifier


def _validation(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    last = slice(-settings["n_validation"], None)
    return load_rows(settings["source"])[last], np.asarray(load_dataset(settings["source"]).labels)[last]


def _error(classifier: CodeClassifier, X: np.ndarray, y: Any) -> float:
    """Return the classification error in percent."""
    return 100 * (1 - classifier.score(X, y))


def _counts(results: Results) -> list[int]:
    return [int(name.partition("-")[2]) for name in results if name.startswith("encoder-")]


def _rows(results: Results, setup: _Setup) -> list[Row]:
    rows: list[Row] = []
    for count in _counts(results):
        code, random = (results[f"{start}-{count}"] for start in STARTS)
        rows += [
            setup.row(f"{count} labels, start from the code: test error, %", code["error"], str(count)),
            Row(f"{count} labels, random start: test error, %", random["error"]),
            setup.row(f"{count} labels: test error, start from the code over random start",
                      code["error"] / random["error"], "gain", ".3f"),
            Row(f"{count} labels, start from the code: standard deviation over labelled sets", code["spread"]),
        ]  # fmt: skip
    return [*rows, Row("minutes of training without labels", results["coder"]["seconds"] / 60)]


def _remarks(results: Results, setup: _Setup) -> list[str]:
    layers = "; ".join(
        f"layer {number}: reconstruction {terms['reconstruction']:.1f} nats, contraction {terms['contraction']:.1f}"
        for number, terms in enumerate(results["coder"]["layers"], 1)
        if "contraction" in terms
    )
    errors = [
        f"{count} labels: {', '.join(f'{one:.2f}' for one in results[f'encoder-{count}']['errors'])}"
        for count in _counts(results)
    ]
    chosen = [
        f"{name}: {', '.join(f'{key} {value}' for key, value in result['chosen'].items())}"
        for name, result in results.items()
        if name != "coder"
    ]
    remarks = [
        f"Training without labels, per row: {layers}; {results['coder']['saturated']:.0%} of the code is below .05 or "
        "above .95.",
        f"Test errors of the labelled sets, start from the code: {'; '.join(errors)}.",
        f"Chosen on validation digits: {'; '.join(chosen)}.",
    ]
    published = ", ".join(f"{error:.2f} with {count}" for count, error in NEURAL_NETWORK.items())
    return [*remarks, f"Published test error from random weights, %: {published} labels. Ours is tuned."]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    counts = _counts(results)
    lines: dict[str, tuple[Sequence[float], Sequence[float]]] = {
        words: (counts, [results[f"{start}-{count}"]["error"] for count in counts]) for start, words in STARTS.items()
    }
    filters = np.asarray(results["coder"]["filters"])
    return {
        "error-by-labels": curves(
            lines, across="labels", up="test error, %", title="Test error by the number of labels", doubling=True
        ),
        "filters-of-the-first-layer": signed_lines(
            {"first layer": filters}, results["coder"]["image_shape"], title="Weights of units of the first layer"
        ),
    }


EXPERIMENT = Experiment(
    name="few-labels",
    claim="With 100 to 3,000 labels, a network errs far less from a contractive code than from random weights.",
    source="Rifai, Dauphin, Vincent, Bengio & Muller, The manifold tangent classifier, NIPS (2011), table 1",
    protocol=(
        "All 60,000 training digits of MNIST in [0, 1] without labels: two contractive layers of 1,000 tied sigmoid "
        "units under cross-entropy, penalty weight 1, the second trained on the codes of the first, 15 epochs each in "
        "batches of 128, Adam in fp32 at 5e-3. Then a softmax on the code, all weights trained on 100, 600, 1,000 or "
        "3,000 labelled digits, equally many of each class, 5 labelled sets; or the same network from random weights. "
        "Either the head is trained first, then all weights at a small rate with a dropout of .2 on the code, or all "
        "weights at once with a dropout of .5 on the code and .3 on the pixels: chosen on the last 10,000 training "
        "digits, with the first labelled set, for each start and number of labels. Errors on the 10,000 test digits."
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
