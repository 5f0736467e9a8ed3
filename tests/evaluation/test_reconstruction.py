"""Evaluation of a fitted model, with a PCA as the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.baseline import PrincipalComponents, principal_components
from isthmus.evaluation.codes import knn_accuracy, linear_probe_accuracy
from isthmus.evaluation.reconstruction import compare_with_pca, evaluate, squared_error_by_column


@dataclass(frozen=True)
class ModelOutput:
    x: Tensor
    code: Tensor
    reconstruction: Tensor
    nll: Tensor
    mask: Tensor | None = None


class Plane:
    """The interface that `evaluate` needs, for a PCA; `offset` is added to the reconstruction."""

    kind = "linear"
    coder_ = SimpleNamespace(likelihood=SimpleNamespace(name="gaussian"))

    def __init__(self, model: PrincipalComponents, baseline: PrincipalComponents, offset: float = 0.0) -> None:
        self.model, self.baseline_, self.offset = model, baseline, offset
        self.code_size_ = model.code_size
        self.passes = 0

    def read(self, X: np.ndarray) -> Iterator[ModelOutput]:
        self.passes += 1
        for x in torch.from_numpy(X).split(64):
            code = self.model.encode(x)
            r = self.model.decode(code) + self.offset
            yield ModelOutput(x, code, r, 0.5 * (x - r).square().sum(1))


def digits(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    return (pixels[:n] / 16).astype(np.float32), labels[:n]


def plane(x: np.ndarray, code_size: int = 5, *, smaller: int = 0, offset: float = 0.0) -> Plane:
    rows = torch.from_numpy(x)
    baseline = principal_components(lambda: iter([rows]), x.shape[1], code_size)
    return Plane(baseline.truncated(code_size - smaller), baseline, offset)


def test_the_errors_are_those_of_the_reconstructions() -> None:
    x, _ = digits()
    model = plane(x, offset=0.1)
    r = np.concatenate([reading.reconstruction for reading in model.read(x)]).astype(np.float64)
    squared = np.square(x - r)
    found = evaluate(model, x)
    assert found["squared_error_per_row"] == pytest.approx(squared.sum(1).mean(), rel=1e-6)
    assert found["nll_per_row"] == pytest.approx(squared.sum(1).mean() / 2, rel=1e-6)
    about_means = np.square(x - x.mean(0, dtype=np.float64)).sum(1).mean()
    assert found["r2"] == pytest.approx(1 - squared.sum(1).mean() / about_means, rel=1e-6)
    np.testing.assert_allclose(squared_error_by_column(model, x), squared.mean(0), rtol=1e-5)


def test_the_result_is_json_and_names_rows_columns_and_kind() -> None:
    x, labels = digits()
    found = json.loads(json.dumps(evaluate(plane(x), x, labels), allow_nan=False))
    assert (found["rows"], found["columns"], found["code_size"]) == (300, 64, 5)
    assert (found["kind"], found["likelihood"], found["classes"], found["probe_rows"]) == (
        "linear",
        "gaussian",
        10,
        300,
    )
    assert found["notes"] == []
    assert found["seconds"] > 0


def test_a_pca_is_as_good_as_pca() -> None:
    x, _ = digits()
    found = compare_with_pca(plane(x), x)
    assert found["squared_error_per_row"] == pytest.approx(found["pca_squared_error_per_row"], rel=1e-6)
    assert found["below_pca"] == pytest.approx(0, abs=1e-6)


def test_a_smaller_pca_is_worse_by_the_fraction_below_pca() -> None:
    x, _ = digits()
    model = plane(x, smaller=2)
    found = compare_with_pca(model, x)
    own = model.model.squared_error(torch.from_numpy(x)).double().mean()
    linear = model.baseline_.squared_error(torch.from_numpy(x)).double().mean()
    assert found["below_pca"] == pytest.approx(1 - float(own / linear), rel=1e-5)
    assert found["below_pca"] < 0


def test_r2_is_relative_to_the_means_of_the_evaluated_rows_and_exact_far_from_zero() -> None:
    x, _ = digits()
    far = x[:, x[:100].std(0) > 0] + np.float32(1000)
    found = evaluate(plane(far), far[:100])
    r = np.concatenate([reading.reconstruction for reading in plane(far).read(far[:100])])
    expected = r2_score(far[:100].astype(np.float64), r, multioutput="variance_weighted")
    assert found["r2"] == pytest.approx(expected, rel=1e-6)


def test_the_r2_of_constant_rows_is_that_of_scikit_learn() -> None:
    same = np.full((9, 4), 0.5, np.float32)
    assert evaluate(plane(same, 2), same)["r2"] == 1.0
    assert evaluate(plane(same, 2, offset=1.0), same)["r2"] == 0.0


@pytest.mark.parametrize("far", [0, 100])
def test_below_pca_is_none_if_the_pca_error_is_zero(far: int) -> None:
    x, _ = digits()
    x = x[:, x.std(0) > 0] + np.float32(far)
    found = compare_with_pca(plane(x, x.shape[1], offset=1.0), x)
    assert 0 <= found["pca_squared_error_per_row"] < 1e-9
    assert found["below_pca"] is None
    nearly = compare_with_pca(plane(x, x.shape[1] - 1, offset=1.0), x)
    assert nearly["below_pca"] == pytest.approx(1 - x.shape[1] / nearly["pca_squared_error_per_row"], rel=0.05)
    same = np.full((9, 4), 0.5, np.float32)
    assert compare_with_pca(plane(same, 2), same)["below_pca"] is None


def test_zeros_of_the_code_and_dead_units_are_counted() -> None:
    x, _ = digits()
    model = plane(x)
    model.model.components[2] = 0
    found = evaluate(model, x)
    assert (found["dead_units"], found["zero_share"]) == (1, pytest.approx(0.2))


def test_with_labels_codes_and_columns_are_probed_in_one_pass() -> None:
    x, labels = digits()
    model = plane(x)
    found = evaluate(model, x, labels, random_state=4)
    assert model.passes == 1
    codes = torch.cat([reading.code for reading in model.read(x)])
    assert found["linear_probe_accuracy"] == linear_probe_accuracy(codes, labels, random_state=4)
    assert found["linear_probe_accuracy_raw"] == linear_probe_accuracy(x, labels, random_state=4)
    assert found["knn_accuracy"] == knn_accuracy(codes, labels, random_state=4)
    assert found["knn_accuracy_raw"] == knn_accuracy(x, labels, random_state=4)


def test_a_sample_of_rows_for_the_probes_keeps_codes_and_labels_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from isthmus.evaluation import codes

    x, labels = digits()
    model = plane(x)
    every = torch.cat([reading.code for reading in model.read(x)])
    monkeypatch.setattr(codes, "MAX_PROBE_ROWS", 170)
    found = evaluate(model, x, labels)
    assert found["rows"] == 300
    assert found["probe_rows"] == 170
    assert found["knn_accuracy"] == pytest.approx(knn_accuracy(every, labels))


def test_classes_that_the_probes_exclude_are_noted() -> None:
    x, labels = digits()
    found = evaluate(plane(x), x, np.where(np.arange(300) < 2, 77, labels))
    assert found["notes"] == ["excluded from the probes, which need 5 rows per class: 77 (2 rows)"]


@pytest.mark.parametrize("n_labels", [299, 301, 2])
def test_labels_of_another_length_are_refused_with_both_lengths(n_labels: int) -> None:
    x, _ = digits()
    labels: Any = [i % 3 for i in range(n_labels)]
    with pytest.raises(InputError, match=f"labels: {n_labels} labels for 300 rows; pass one label per row"):
        evaluate(plane(x), x, labels)


def test_no_rows_are_refused() -> None:
    x, _ = digits()
    with pytest.raises(InputError, match="there are no rows to evaluate on"):
        evaluate(plane(x), x[:0])
