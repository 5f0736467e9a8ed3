"""The state of a run beside the model: gone on with by the same call, and by no other."""

import os
from functools import partial

import numpy as np
import pytest

from isthmus import AdamW, Convolutional, InputError
from isthmus.data.streams import DenseRows
from isthmus.estimators import checkpoints
from isthmus.estimators.convolutional import ConvolutionalAutoencoder
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


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (Autoencoder, {"hidden_sizes": (4,)}),
        (ConvolutionalAutoencoder, {"network": Convolutional((4, 6))}),  # weights between two are not contiguous
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_ends_with_equal_weights_in_every_precision(kind, sizes, precision, tmp_path, monkeypatch):
    options = {"code_size": 2, "max_epochs": 3, "random_state": 0, "precision": precision, **sizes}
    killed(kind(**options), tmp_path / "m", monkeypatch)
    again = kind(**options).fit(X, checkpoint=tmp_path / "m", resume=True)
    np.testing.assert_array_equal(again.transform(X), kind(**options).fit(X).transform(X))


def test_resume_refuses_other_validation_classes(tmp_path, monkeypatch):
    stack = StackedAutoencoder(
        code_size=2, hidden_sizes=(4,), pretraining="supervised", max_epochs=2, random_state=0, precision="fp32"
    )
    y = np.arange(60) % 3
    killed(stack, tmp_path / "m", monkeypatch, y, validation=(HELD, y[:20]))
    with pytest.raises(InputError, match=r"with other arguments: validation \(20 rows \w+ then, 20 rows \w+ now\)"):
        stack.fit(X, y, validation=(HELD, y[1:21]), checkpoint=tmp_path / "m", resume=True)


def test_resume_refuses_other_labels(tmp_path, monkeypatch):
    stack = StackedAutoencoder(
        code_size=2, hidden_sizes=(4,), pretraining="supervised", max_epochs=2, random_state=0, precision="fp32"
    )
    y = np.arange(60) % 3
    killed(stack, tmp_path / "m", monkeypatch, y)
    with pytest.raises(InputError, match=r"with other arguments: .*labels \(\w+ then, \w+ now\)"):
        stack.fit(X, (y + 1) % 3, checkpoint=tmp_path / "m", resume=True)


@pytest.mark.parametrize("row", [0, 17, 333, 699])
def test_resume_notices_an_edit_of_any_row(row, tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (700, 6), dtype=np.uint8)
    model = Autoencoder(**SMALL)
    kill(partial(model.fit, images, checkpoint=tmp_path / "m"), monkeypatch, after=2)
    edited = images.copy()
    edited[row, 3] ^= 1
    with pytest.raises(InputError, match=r"with other arguments: .*data \(\w+ then, \w+ now\)"):
        Autoencoder(**SMALL).fit(edited, checkpoint=tmp_path / "m", resume=True)


def test_resume_notices_rows_in_another_order(tmp_path, monkeypatch):
    killed(Autoencoder(**SMALL), tmp_path / "m", monkeypatch)
    with pytest.raises(InputError, match=r"with other arguments: .*data \("):
        Autoencoder(**SMALL).fit(X[::-1].copy(), checkpoint=tmp_path / "m", resume=True)


def test_large_rows_are_identified_by_a_sample_and_the_time_of_their_file(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "MAX_DIGEST_BYTES", 100)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = Autoencoder(**SMALL).fit(mapped, checkpoint=tmp_path / "m")
    assert checkpoints.SAMPLED_DIGEST_NOTE in model.history_["notes"]
    rows = model.preprocessing_.rows(mapped)
    before = checkpoints.DigestedRows(rows).digest
    assert checkpoints.DigestedRows(rows).digest == before
    os.utime(tmp_path / "x.npy", ns=(0, 0))
    assert checkpoints.DigestedRows(rows).digest != before


def test_the_digest_is_taken_in_passes_that_are_made_anyway(tmp_path, monkeypatch):
    reads = []
    batch = DenseRows.batch

    def counted(self, index):
        reads.append(len(index))
        return batch(self, index)

    monkeypatch.setattr(DenseRows, "batch", counted)
    Autoencoder(**SMALL).fit(X)
    without = sum(reads)
    reads.clear()
    Autoencoder(**SMALL).fit(X, checkpoint=tmp_path / "m")
    assert sum(reads) == without


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"random_state": np.random.RandomState(3)}, {"random_state": np.random.RandomState(3)}),
        ({"hidden_sizes": (4,)}, {"hidden_sizes": [4]}),
        ({"optimizer": AdamW(clip_norm=1.0)}, {"optimizer": AdamW(clip_norm=1.0)}),
    ],
    ids=["a generator", "a list of sizes", "a value"],
)
def test_equal_arguments_resume_whatever_their_type(then, now, tmp_path, monkeypatch):
    killed(Autoencoder(**{**SMALL, **then}), tmp_path / "m", monkeypatch)
    Autoencoder(**{**SMALL, **now}).fit(X, checkpoint=tmp_path / "m", resume=True)


def test_resume_refuses_another_field_of_a_value(tmp_path, monkeypatch):
    killed(Autoencoder(optimizer=AdamW(clip_norm=1.0), **SMALL), tmp_path / "m", monkeypatch)
    with pytest.raises(InputError, match=r"with other arguments: optimizer \(AdamW\(.*clip_norm=1.0.* then, AdamW\("):
        Autoencoder(optimizer=AdamW(clip_norm=2.0), **SMALL).fit(X, checkpoint=tmp_path / "m", resume=True)


def test_resume_refuses_another_resolved_precision(tmp_path, monkeypatch):
    killed(Autoencoder(**{**SMALL, "precision": "bf16"}), tmp_path / "m", monkeypatch)
    with pytest.raises(InputError, match=r"precision \(bf16 then, fp32 now\)"):
        Autoencoder(**{**SMALL, "precision": "auto", "device": "cpu"}).fit(X, checkpoint=tmp_path / "m", resume=True)
