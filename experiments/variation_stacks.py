"""Stacks on the variation sets: pretrained without labels, fine-tuned with them, chosen on the validation rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.experiment import Result
from experiments.learning import raise_if_interrupted
from experiments.variation_sets import Part, VariationSet
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.classifier import CodeClassifier
from isthmus.estimators.dbn import DeepBeliefNetwork
from isthmus.estimators.stacked import StackedAutoencoder

N_FILTERS = 12
"""Units of the first layer that are kept to be looked at, spread evenly over it."""

Arguments = Mapping[str, Any]
"""Of an estimator, as plain data."""


def stack_error(
    data: VariationSet, stacks: Sequence[Arguments], classifiers: Sequence[Arguments], *, seed: int
) -> Result:
    """The test error in percent of what errs least on the validation rows.

    A stack is learned from the training images alone, layer by layer; then a classifier starts from it, and keeps
    the weights of the epoch that errs least on the validation rows. The first classifier is tried on every stack,
    the others on the best of them. The test images are read by the chosen one alone.

    Args:
        data: what is learned from, chosen by and judged on.
        stacks: tried in turn.
        classifiers: tried in turn.
        seed: of all that is drawn.

    Example:
        >>> from experiments.variation_sets import generate
        >>> data = generate("basic", {"train": 200, "validation": 50, "test": 50}, source="mnist-sample:all")
        >>> result = stack_error(data, [{"hidden_sizes": [], "code_size": 20, "max_epochs": 2}],
        ...                      [{"max_epochs": 2}, {"max_epochs": 3, "dropout": 0.1}], seed=0)
        >>> [trial["validation_error"] >= result["validation_error"] for trial in result["trials"]]
        [True, True]
    """
    first, *others = classifiers
    tried = [_Trial.of(data, _pretrained(data.train, stack, seed), stack, first, seed) for stack in stacks]
    stack = min(tried, key=_wrong)
    tried += [_Trial.of(data, stack.coder, stack.stack, classifier, seed) for classifier in others]
    best = min(tried, key=_wrong)
    return {
        "error": error_of(best.predictor, data.test), "validation_error": best.validation_error,
        "train_error": error_of(best.predictor, data.train),
        "chosen": {"stack": dict(best.stack), "classifier": dict(best.classifier)},
        "trials": [trial.told() for trial in tried], "filters": _filters(best.coder),
    }  # fmt: skip


@dataclass(frozen=True)
class _Trial:
    """A stack and the classifier that started from it, with the arguments of both."""

    coder: BaseAutoencoder
    predictor: CodeClassifier
    stack: Arguments
    classifier: Arguments
    validation_error: float

    @classmethod
    def of(
        cls, data: VariationSet, coder: BaseAutoencoder, stack: Arguments, classifier: Arguments, seed: int
    ) -> _Trial:
        """A classifier that starts from a stack."""
        predictor = _fine_tuned_after(data, coder, classifier, seed)
        return cls(coder, predictor, stack, classifier, error_of(predictor, data.validation))

    def told(self) -> dict[str, Any]:
        """What is kept of it: what it was, and what each layer came to."""
        layers = [*self.coder.history_["pretraining"], self.coder.history_]
        return {
            "stack": dict(self.stack), "classifier": dict(self.classifier), "validation_error": self.validation_error,
            "best_epoch": self.predictor.history_["best_epoch"] + 1,
            "layers": [dict(record["epochs"][-1]["terms"]) for record in layers],
            "seconds": [round(record["seconds"], 1) for record in [*layers, self.predictor.history_]],
        }  # fmt: skip


def _wrong(trial: _Trial) -> float:
    return trial.validation_error


def error_of(classifier: CodeClassifier, part: Part) -> float:
    """The share of images that are read wrong, in percent."""
    return 100 * (1 - classifier.score(part.rows, part.labels))


def _pretrained(part: Part, arguments: Arguments, seed: int) -> BaseAutoencoder:
    """Layers learned one after the other; no image is held out, and the whole is not learned: labels follow.

    A belief network ("kind": "dbn") is learned as that, up and down too, and then is its network of rates.
    """
    told = dict(arguments)
    shared: dict[str, Any] = {
        "likelihood": "bernoulli", "validation_fraction": 0.0, "patience": None, "precision": "fp32",
        "random_state": seed, "verbose": 1,
    }  # fmt: skip
    if told.pop("kind", "stacked") == "dbn":
        network = DeepBeliefNetwork(**told, **shared)
        raise_if_interrupted(network.fit(part.rows))
        return network.to_autoencoder()
    stack = StackedAutoencoder(**told, fine_tuning_epochs=0, **shared)
    raise_if_interrupted(stack.fit(part.rows))
    return stack


def _fine_tuned_after(data: VariationSet, stack: BaseAutoencoder, arguments: Arguments, seed: int) -> CodeClassifier:
    classifier = CodeClassifier(encoder=stack, **arguments, precision="fp32", random_state=seed, verbose=1)
    validation = data.validation.rows, data.validation.labels
    raise_if_interrupted(classifier.fit(data.train.rows, data.train.labels, validation=validation))
    return classifier


def _filters(stack: BaseAutoencoder) -> list[list[float]]:
    """Weights of some units of the first layer, before fine-tuning."""
    weights = next(value for value in stack.objective_.encoder.parameters() if value.ndim == 2)
    rows = np.linspace(0, len(weights) - 1, N_FILTERS).astype(int)
    return np.round(weights.detach().numpy()[rows].astype(np.float64), 3).tolist()
