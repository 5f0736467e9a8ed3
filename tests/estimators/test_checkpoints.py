"""The state of a run beside the model: gone on with by the same call, and by no other."""

from functools import partial

import numpy as np
import pytest

from isthmus import InputError
from isthmus.estimators import checkpoints
from isthmus.estimators.deep import Autoencoder
from isthmus.estimators.stacked import StackedAutoencoder

from .interruptions import kill

X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
HELD, OTHER = X[:20] + 0.1, X[:20] - 0.1
SMALL = {"code_size": 2, "hidden_sizes": (4,), "max_epochs": 3, "random_state": 0, "precision": "fp32"}


def killed(model, path, monkeypatch, *labels, **options):
    """A run that ends when its state was written twice."""
    kill(partial(model.fit, X, *labels, checkpoint=path, **options), monkeypatch, after=2)


@pytest.mark.parametrize(("then", "now"), [(HELD, OTHER), (HELD, HELD[:19]), (HELD, None), (None, HELD)])
def test_resume_refuses_other_validation_rows(then, now, tmp_path, monkeypatch):
    killed(Autoencoder(**SMALL), tmp_path / "m", monkeypatch, validation=then)
    with pytest.raises(InputError, match=r"m.checkpoint is of a run with other arguments: validation \(\d+ rows \w+ "
                       r"then, \d+ rows \w+ now\); repeat them, or remove it to start afresh$"):  # fmt: skip
        Autoencoder(**SMALL).fit(X, validation=now, checkpoint=tmp_path / "m", resume=True)


@pytest.mark.parametrize(("validation", "fraction"), [(HELD, 0.1), (None, 0.1), (None, 0.0)])
def test_resume_accepts_the_same_validation_rows(validation, fraction, tmp_path, monkeypatch):
    options = {**SMALL, "validation_fraction": fraction}
    killed(Autoencoder(**options), tmp_path / "m", monkeypatch, validation=validation)
    again = Autoencoder(**options).fit(X, validation=validation, checkpoint=tmp_path / "m", resume=True)
    uncut = Autoencoder(**options).fit(X, validation=validation)
    np.testing.assert_array_equal(again.transform(X), uncut.transform(X))


def test_resume_refuses_other_validation_classes(tmp_path, monkeypatch):
    stack = StackedAutoencoder(
        code_size=2, hidden_sizes=(4,), training="supervised", max_epochs=2, random_state=0, precision="fp32"
    )
    y = np.arange(60) % 3
    killed(stack, tmp_path / "m", monkeypatch, y, validation=(HELD, y[:20]))
    with pytest.raises(InputError, match=r"with other arguments: validation \(20 rows \w+ then, 20 rows \w+ now\)"):
        stack.fit(X, y, validation=(HELD, y[1:21]), checkpoint=tmp_path / "m", resume=True)


def test_resume_accepts_a_checkpoint_without_validation_digest(tmp_path, monkeypatch):
    killed(Autoencoder(**SMALL), tmp_path / "m", monkeypatch, validation=HELD)
    tensors, header = checkpoints.read_tensors(tmp_path / "m.checkpoint")
    del header["checkpoint"]["validation"]
    checkpoints.write_tensors(tmp_path / "m.checkpoint", tensors, header)
    again = Autoencoder(**SMALL).fit(X, validation=HELD, checkpoint=tmp_path / "m", resume=True)
    np.testing.assert_array_equal(again.transform(X), Autoencoder(**SMALL).fit(X, validation=HELD).transform(X))
