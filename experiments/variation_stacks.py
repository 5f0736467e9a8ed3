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
"""Number of units of the first layer in the picture, evenly spaced."""

Arguments = Mapping[str, Any]
"""The arguments of an estimator, as plain data: the fields of a value are named NAME__FIELD."""


def stack_error(
    data: VariationSet, stacks: Sequence[Arguments], classifiers: Sequence[Arguments], *, seed: int
) -> Result:
    """Return the test error in percent of the trial with the least validation error.

    A stack is trained on the training images without labels, layer by layer. A classifier starts from it; its weights
    are those of the best epoch on the validation images. The first classifier is tried on every stack, the others on
    the best stack. Only the chosen classifier is evaluated on the test images.

    Args:
        data: training, validation and test images.
        stacks: the compared stacks.
        classifiers: the compared classifiers.
        seed: of all random numbers.

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
    stack = min(tried, key=_validation_error)
    tried += [_Trial.of(data, stack.coder, stack.stack, classifier, seed) for classifier in others]
    best = min(tried, key=_validation_error)
    return {
        "error": error_of(best.predictor, data.test), "validation_error": best.validation_error,
        "train_error": error_of(best.predictor, data.train),
        "chosen": {"stack": dict(best.stack), "classifier": dict(best.classifier)},
        "trials": [trial.description() for trial in tried], "filters": _filters(best.coder),
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
        """Fine-tune a classifier from a stack."""
        predictor = _fine_tuned_after(data, coder, classifier, seed)
        return cls(coder, predictor, stack, classifier, error_of(predictor, data.validation))

    def description(self) -> dict[str, Any]:
        """Return the settings, the validation error and the loss of each layer as plain data."""
        layers = [*self.coder.history_["pretraining"], self.coder.history_]
        return {
            "stack": dict(self.stack), "classifier": dict(self.classifier), "validation_error": self.validation_error,
            "best_epoch": self.predictor.history_["best_epoch"] + 1,
            "layers": [dict(record["epochs"][-1]["terms"]) for record in layers],
            "seconds": [round(record["seconds"], 1) for record in [*layers, self.predictor.history_]],
        }  # fmt: skip


def _validation_error(trial: _Trial) -> float:
    return trial.validation_error


def error_of(classifier: CodeClassifier, part: Part) -> float:
    """Return the classification error in percent."""
    return 100 * (1 - classifier.score(part.rows, part.labels))


def _pretrained(part: Part, arguments: Arguments, seed: int) -> BaseAutoencoder:
    """Train a stack layer by layer, without validation images and without fine-tuning.

    A deep belief network ("kind": "dbn") is also trained by the up-down algorithm, then converted to a feed-forward
    network.
    """
    own = dict(arguments)
    shared: dict[str, Any] = {
        "likelihood": "bernoulli", "validation_fraction": 0.0, "patience": None, "precision": "fp32",
        "random_state": seed, "verbose": 1,
    }  # fmt: skip
    if own.pop("kind", "stacked") == "dbn":
        network = DeepBeliefNetwork(**shared).set_params(**own)
        raise_if_interrupted(network.fit(part.rows))
        return network.to_autoencoder()
    stack = StackedAutoencoder(fine_tuning=None, **shared).set_params(**own)
    raise_if_interrupted(stack.fit(part.rows))
    return stack


def _fine_tuned_after(data: VariationSet, stack: BaseAutoencoder, arguments: Arguments, seed: int) -> CodeClassifier:
    classifier = CodeClassifier(encoder=stack, precision="fp32", random_state=seed, verbose=1).set_params(**arguments)
    validation = data.validation.rows, data.validation.labels
    raise_if_interrupted(classifier.fit(data.train.rows, data.train.labels, validation=validation))
    return classifier


def _filters(stack: BaseAutoencoder) -> list[list[float]]:
    """Return the weights of some units of the first layer, before fine-tuning."""
    weights = next(value for value in stack.coder_.encoder.parameters() if value.ndim == 2)
    rows = np.linspace(0, len(weights) - 1, N_FILTERS).astype(int)
    return np.round(weights.detach().numpy()[rows].astype(np.float64), 3).tolist()
