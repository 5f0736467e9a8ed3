"""A training step of no kind waits for the device."""

import numpy as np
import pytest
from sklearn.base import clone

from isthmus import CodeClassifier, CodeRegressor, RestrictedBoltzmannMachine, SemanticHashing, StackedAutoencoder
from isthmus.learning.trainer import Trainer
from tests.no_wait import NoWait

from .fitted import X
from .kinds import KINDS, SMALL

COUNTS = np.random.default_rng(0).poisson(2.0, X.shape).astype(np.float32)
CLASSES = (X[:, 20] > 8).astype(int)
HEAD = {"max_epochs": 2, "random_state": 0, "hidden_noise": 0.1, "dropout": 0.1, "reconstruction_weight": 0.1}

FITS = {
    **{name: (model, X, None) for name, model in KINDS.items()},
    "rbm, word counts": (RestrictedBoltzmannMachine(code_size=4, likelihood="multinomial", **SMALL), COUNTS, None),
    "rbm, word counts, chains from rows": (
        RestrictedBoltzmannMachine(code_size=4, likelihood="multinomial", method="cd", **SMALL), COUNTS, None,
    ),
    "stacked, supervised": (StackedAutoencoder(code_size=3, pretraining="supervised", **SMALL), X, CLASSES),
    "hash, classes": (SemanticHashing(code_size=8, labels="minimal-loss", **SMALL), X, CLASSES),
    "classifier": (CodeClassifier(encoder=KINDS["deep, averaged"], **HEAD), X, CLASSES),
    "regressor": (CodeRegressor(encoder=KINDS["rbm"], **HEAD), X, X[:, 20]),
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_a_step_reads_nothing_from_the_device(name, monkeypatch):
    model, rows, labels = FITS[name]
    descend, steps = Trainer._descend, []

    def watched(trainer, batch):
        with NoWait():
            descend(trainer, batch)
        steps.append(trainer.objective)

    monkeypatch.setattr(Trainer, "_descend", watched)
    clone(model).fit(rows, labels)
    assert len(steps) > 2
