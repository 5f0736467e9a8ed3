"""What one pass over digits costs by each kind as it comes: the column "cost" of docs/which-kind.md."""

from __future__ import annotations

import time

import numpy as np
import torch

import isthmus.data
from isthmus.estimators.registry import KINDS

N_ROWS = 3000

PASSES = (1, 3)
"""Fits of so many passes, whose difference leaves out what is done once: imports, principal components, the doctor."""


def run(x: np.ndarray, repeats: int) -> list[str]:
    """Seconds of one core for one pass through every phase of a kind, and the width of its code."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _fitted("deep", x[:100], 1)  # what a process does once
        lines = [_line(name, x[:N_ROWS], repeats) for name in KINDS]
    finally:
        torch.set_num_threads(threads)
    return [f"one pass over {N_ROWS} digits, fp32, seconds of one core", "kind            seconds  units", *lines]


def _line(name: str, x: np.ndarray, repeats: int) -> str:
    few, many = PASSES
    costs = []
    for _ in range(repeats):
        (before, _), (after, units) = (_fitted(name, x, n) for n in PASSES)
        costs.append((after - before) / (many - few))
    return f"{name:14s} {float(np.median(costs)):8.2f}  {units}"


def _fitted(name: str, x: np.ndarray, n_passes: int) -> tuple[float, str]:
    """Seconds of processor time of a fit, and the units of its layers."""
    model = KINDS[name](max_epochs=n_passes, precision="fp32", random_state=0)
    start = time.process_time()
    model.fit(x)
    spent = time.process_time() - start
    return spent, "-".join(map(str, (*(getattr(model, "hidden_sizes_", None) or ()), model.code_size_)))


if __name__ == "__main__":
    print(*run(isthmus.data.open("mnist-sample").X, 1), sep="\n")
