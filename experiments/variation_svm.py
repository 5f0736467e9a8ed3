"""The anchor of the variation sets: scikit-learn's support vector machine with a Gaussian kernel.

It needs nothing of isthmus, so its error says how hard the regenerated sets are beside the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from experiments.experiment import Result
from experiments.variation_sets import Part, VariationSet

BLOCK = 2000
"""Rows whose kernel against the training rows is held at once."""


def svm_error(data: VariationSet, *, costs: Sequence[float], widths: Sequence[float]) -> Result:
    """The test error in percent of the machine that errs least on the validation rows.

        k(x, y) = exp(-gamma ||x - y||^2),   gamma = width / mean ||x - y||^2

    Args:
        data: what is learned from, chosen by and judged on.
        costs: C, tried in turn.
        widths: multiples of one over the mean squared distance of training rows, tried in turn.

    Example:
        >>> from experiments.variation_sets import generate
        >>> data = generate("basic", {"train": 300, "validation": 100, "test": 100}, source="mnist-sample:all")
        >>> result = svm_error(data, costs=[10.0], widths=[2.0])
        >>> result["error"] < 20
        True
    """
    near = _squared_distances(data.train.rows, data.train.rows)
    scale = float(near.mean(dtype=np.float64))
    trials, best = [], None
    for width in widths:
        kernel = _kernel(near, width / scale)
        for cost in costs:
            machine = KernelMachine(_fitted(kernel, data.train.labels, cost), data.train.rows, width / scale)
            trials.append({"C": cost, "width": width, "validation_error": machine.error(data.validation)})
            # Of equals the first: the widest kernel and the softest margin.
            if best is None or trials[-1]["validation_error"] < best[0]["validation_error"]:
                best = trials[-1], machine
    assert best is not None
    chosen, machine = best
    return {
        "error": machine.error(data.test), "validation_error": chosen["validation_error"],
        "chosen": {"C": chosen["C"], "width": chosen["width"], "gamma": machine.gamma},
        "trials": trials, "support_vectors": int(machine.machine.n_support_.sum()),
    }  # fmt: skip


@dataclass(frozen=True)
class KernelMachine:
    """A fitted machine that is given kernels; scikit-learn's own loop over pairs of rows takes a hundred times longer.

    Attributes:
        machine: scikit-learn's SVC of a precomputed kernel.
        rows: what it was fitted on.
        gamma: of the kernel.
    """

    machine: Any
    rows: Float[np.ndarray, "n columns"]
    gamma: float

    def predict(self, rows: Float[np.ndarray, "m columns"]) -> Int64[np.ndarray, " m"]:
        """The class of each row."""
        blocks = (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
        return np.concatenate(
            [self.machine.predict(_kernel(_squared_distances(block, self.rows), self.gamma)) for block in blocks]
        )

    def error(self, part: Part) -> float:
        """The share of rows that are read wrong, in percent."""
        return 100 * float((self.predict(part.rows) != part.labels).mean())


def _fitted(kernel: Float[np.ndarray, "n n"], labels: Int64[np.ndarray, " n"], cost: float) -> Any:
    from sklearn.svm import SVC

    return SVC(C=cost, kernel="precomputed", cache_size=1000).fit(kernel, labels)


def _squared_distances(
    a: Float[np.ndarray, "n columns"], b: Float[np.ndarray, "m columns"]
) -> Float[np.ndarray, "n m"]:
    """||a_i - b_j||^2, float32: by one matrix product."""
    products = a @ b.T
    products *= -2
    products += np.einsum("ij,ij->i", a, a)[:, None]
    products += np.einsum("ij,ij->i", b, b)
    return np.maximum(products, 0, out=products)


def _kernel(distances: Float[np.ndarray, "n m"], gamma: float) -> Float[np.ndarray, "n m"]:
    """In float64, as the machine wants it."""
    return np.exp(distances * np.float32(-gamma)).astype(np.float64)
